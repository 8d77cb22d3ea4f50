/* SPDX-License-Identifier: Apache-2.0 */
/* A plan, as docs/sentinel.md describes it. Positions count operations; sizes are bytes. */
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
	std::string op; /* the operation that allocates it, or the name of a variable */
	bool variable;	/* `op` is a name; it has no offset */
	int occurrence; /* of the operation in the step */
	int k;		/* number of the operation's allocation */
	size_t size;
	bool short_lived; /* in the reserved pool, else in the arena */
	size_t offset;
	int node;
	int position = -1;  /* of the operation; -1 if it does not wait for another one */
	bool moves = false; /* a variable that the plan moves */
};

struct Group {
	size_t offset, size;
	int node;
	bool keep; /* its pages never migrate and stay after its tensors die */
};

struct Move {
	int at; /* position at which it is submitted */
	int to; /* node */
	size_t offset, size;
	int tensor; /* index of the variable to move, or -1 */
	int before; /* position at which it is due */
};

struct Plan {
	std::string graph; /* SHA-256, see graph_digest() */
	int ops;
	size_t budget, reserved, arena;
	size_t migratable_budget; /* part of the budget for migratable groups and variables */
	std::vector<PlannedTensor> tensors;
	std::vector<Group> groups;
	std::vector<Move> moves; /* in order of `at` */
	std::vector<int> waits;	 /* positions, in order */

	/* Indices into `tensors`: by operation, and of variables by name. */
	std::map<std::string, std::vector<int>> by_op;
	std::map<std::string, int> by_name;
};

/* Parse and check a plan. Throws json::Error, in one line, at the first violation. */
Plan parse_plan(const std::string &text);

} // namespace sentinel

#endif
