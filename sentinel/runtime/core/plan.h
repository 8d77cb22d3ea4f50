/* SPDX-License-Identifier: Apache-2.0 */
/* A plan, as docs/sentinel.md describes it. Positions count operations, the rest is in bytes. */
#ifndef SENTINEL_RUNTIME_PLAN_H
#define SENTINEL_RUNTIME_PLAN_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "json.h"

namespace sentinel
{

struct PlannedTensor {
	std::string op; /* that allocates it; or the name of what lives from before the step */
	bool named;	/* it does: `op` is a name, and it has no offset */
	int occurrence; /* of the operation in this step */
	int k;		/* of the operation's allocations */
	size_t size;
	bool short_lived; /* in the reserved pool, else in the arena */
	size_t offset;
	int node;
	int position = -1;  /* of the operation; -1 if it waits for nothing made in the step */
	bool moves = false; /* it is named, and there are moves of it */
};

struct Group {
	size_t offset, size;
	int node;
	bool keep; /* its pages never move, and stay when nothing lives on them */
};

struct Move {
	int at; /* from this position on */
	int to; /* node */
	size_t offset, size;
	int tensor; /* to move a named tensor, its index; else -1 */
	int before; /* it is to be there before this position */
};

struct Plan {
	std::string graph; /* sha256 */
	int ops;
	size_t budget, room, reserved, arena; /* room: for what does not keep its pages */
	std::vector<PlannedTensor> tensors;
	std::vector<Group> groups;
	std::vector<Move> moves; /* in order of `at` */
	std::vector<int> waits;	 /* in order */

	/* Indices of an operation's tensors, by its name; and of named tensors, by theirs. */
	std::map<std::string, std::vector<int>> by_op;
	std::map<std::string, int> by_name;
};

/* Reads and checks a plan; throws json::Error, in one line, at the first thing that is wrong. */
Plan parse_plan(const std::string &text);

} // namespace sentinel

#endif
