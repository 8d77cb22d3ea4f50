/* SPDX-License-Identifier: Apache-2.0 */
/* The profile of one step, as docs/sentinel.md describes it. Positions count operations. */
#ifndef SENTINEL_RUNTIME_PROFILE_H
#define SENTINEL_RUNTIME_PROFILE_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory.h"

namespace sentinel
{

struct ProfiledOp {
	std::string name, type;
	int layer, occurrence;
	uint64_t begin_ns, end_ns; /* since the step began */
	uint64_t event;		   /* of its begin, in a traced step */
};

struct Use {
	int position;
	uint64_t reads, writes;
};

struct ProfiledTensor {
	int op; /* position of the operation that allocated it, or -1 */
	int k;	/* number of the operation's allocation */
	size_t size;
	int birth, death, thread;
	bool scratch, variable;
	std::string name; /* if op is -1 */
	bool counted;	  /* the kernel counted reads and writes */
	uint64_t reads, writes;
	size_t touched;	       /* bytes of accessed pages; all of them if the kernel did not count
				*/
	std::vector<Use> uses; /* in order of position */
	const void *address;   /* in the counted step; for other tools */
	uint64_t born, died;   /* events of a traced step; 0: before or after it */
};

struct Profile {
	std::string graph;
	bool kernel_counts;
	std::string clock;	/* see clock_name() */
	int inter_op, intra_op; /* threads of the session */
	uint64_t step_ns, profiled_step_ns;
	std::vector<ProfiledOp> ops;
	std::vector<ProfiledTensor> tensors;
	std::vector<std::string> warnings;
	std::vector<PageRange> resident; /* of the ordinary pool, after a traced step */
	std::shared_ptr<Profile> trace;	 /* of the traced step, if there was one */
};

/*
 * SHA-256 of the sorted operation names, each followed by a newline. Sorted, because operations
 * that wait for nothing begin in a different order in each step.
 */
std::string graph_digest(std::vector<std::string> names);

/*
 * The profile to publish: tensors and counts of `counted`, times of `timed`, the step before,
 * which no page faults of the counters disturbed. Adds warnings where the two steps differ.
 */
Profile merge_profiles(const Profile &timed, Profile counted);

std::string to_json(const Profile &profile);

} // namespace sentinel

#endif
