/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kind of step: the steps of one fetch signature and one range of input sizes. Each kind has its
 * own profile and plan. Kinds are numbers that the caller chooses.
 */
#ifndef SENTINEL_RUNTIME_STEP_KIND_H
#define SENTINEL_RUNTIME_STEP_KIND_H

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "active_plan.h"
#include "operation.h"
#include "profile_session.h"

namespace sentinel
{

struct StepKind {
	explicit StepKind(TensorMemory &memory) : profiling(memory)
	{
	}

	ProfileSession profiling;
	std::shared_ptr<ActivePlan> plan, next_plan;
	bool plan_ends = false; /* with the open step */

	/* By kernel. They refer to the plan with this id, of this kind or another one. */
	std::unordered_map<const void *, std::shared_ptr<Op>> ops;
	uint64_t ops_plan = 0;

	/* Steps since the plan began: that matched its graph, and that did not. */
	uint64_t planned_steps = 0, other_steps = 0;
	uint64_t mismatches_in_a_row = 0;
	bool needs_profile = false;
};

} // namespace sentinel

#endif
