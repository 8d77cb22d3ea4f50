/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of the graph, and their runs in a step. */
#ifndef SENTINEL_RUNTIME_OPERATION_H
#define SENTINEL_RUNTIME_OPERATION_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "framework.h"

namespace sentinel
{

/* The memory of a tensor, or of a part of one. */
struct TensorRange {
	const char *start;
	size_t size;
};

/* An operation, identified by its kernel. */
struct Op {
	std::string name, type;
	Effect effect;
	uint64_t name_hash;
	const std::vector<int> *planned = nullptr; /* indices of its tensors in the plan */
	const std::vector<int> *uses = nullptr;	   /* indices of its runs in the plan's uses */
	uint64_t last_step = 0;
	int runs = 0; /* in `last_step` */
};

/* A run of an operation in the managed step; `step` is 0 for operations outside it. */
struct OpRun {
	uint64_t step = 0;
	std::shared_ptr<const Op> op;
	int position = -1;
	int use = -1;	    /* the plan's */
	bool holds = false; /* the plan has frames: report what it uses, and its end */
};

/* What a thread is running. */
struct OpContext {
	OpRun run;
	bool outside_step = false; /* an operation of another execution than the step's */
	int occurrence = 0, allocations = 0;
};

/* A session run: the framework's id, and the step that its thread had opened (0: none). */
struct Execution {
	uint64_t step;
	int64_t id;
};

} // namespace sentinel

#endif
