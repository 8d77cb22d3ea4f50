/* SPDX-License-Identifier: Apache-2.0 */
/* The profile of one step, as docs/sentinel.md describes it. Positions count operations. */
#ifndef SENTINEL_RUNTIME_PROFILE_H
#define SENTINEL_RUNTIME_PROFILE_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sentinel
{

struct ProfiledOp {
	std::string name, type;
	int layer, occurrence;
	uint64_t begin_ns, end_ns; /* since the step began */
};

struct Use {
	int position;
	uint64_t reads, writes;
};

struct ProfiledTensor {
	int op, k; /* position of the operation that allocated it, or -1; which of its allocations
		    */
	size_t size;
	int birth, death, thread;
	bool scratch, variable;
	std::string name; /* if op is -1 */
	bool counted;	  /* reads and writes are the kernel's */
	uint64_t reads, writes;
	size_t touched;	       /* bytes of its pages that were accessed; all, if nobody knows */
	std::vector<Use> uses; /* in order of position */
	const void *address;   /* in the step that was counted in; for people and other tools */
};

struct Profile {
	std::string graph;
	bool kernel_counts, model_clock;
	int inter_op, intra_op; /* threads of the session */
	uint64_t step_ns, profiled_step_ns;
	std::vector<ProfiledOp> ops;
	std::vector<ProfiledTensor> tensors;
	std::vector<std::string> warnings;
};

/*
 * sha256 of the names of all operations that ran, sorted, each followed by a newline: the order is
 * not always the same, for a step's first operations are handed over while others run already.
 */
std::string graph_of(std::vector<std::string> names);

std::string to_json(const Profile &profile);

} // namespace sentinel

#endif
