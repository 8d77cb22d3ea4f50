/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of planned steps, as docs/sentinel.md describes them. */
#ifndef SENTINEL_RUNTIME_STATISTICS_H
#define SENTINEL_RUNTIME_STATISTICS_H

#include <cstdint>

#include "executor.h"

namespace sentinel
{

/* Tensors of a planned step that did not get their planned place. */
struct PlacementStatistics {
	uint64_t unplanned = 0;	     /* tensors that are not in the plan */
	uint64_t busy = 0;	     /* tensors whose place was taken */
	uint64_t substituted = 0;    /* tensors in the place of another run of their operation */
	uint64_t fallback_bytes = 0; /* of both */
	uint64_t keyless = 0;	     /* allocations of threads that run no operation */
	uint64_t crowded = 0;	     /* bytes of groups that did not fit into fast memory */

	PlacementStatistics &operator+=(const PlacementStatistics &other);
};

/* Of the last step and the sum of all steps. */
struct PlanStatistics {
	StepStatistics step;
	PlacementStatistics placement;
	MigrationStatistics total_moves;
	PlacementStatistics total_placement;
	uint64_t total_exposed_ns = 0, total_late = 0;
	uint64_t planned_steps = 0; /* that matched their plan's graph */
	uint64_t other_steps = 0;   /* that did not */
	uint64_t unbound = 0;	    /* plans whose nodes could not be set */

	/* Take over a finished step, and add it and its placement to the totals. */
	void add_step(const StepStatistics &finished);
};

} // namespace sentinel

#endif
