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

constexpr size_t kNoFrame = SIZE_MAX; /* at home, not in the fast frame pool */

struct Group {
	size_t offset, size;
	int node;
	bool keep;		 /* its pages never migrate and stay after its tensors die */
	size_t frame = kNoFrame; /* offset of its range in the fast frame pool at birth */
};

struct Move {
	int at; /* position at which it is submitted */
	int to; /* node */
	size_t offset, size;
	int tensor; /* index of the variable to move, or -1 */
	int before; /* position at which it is due */

	/* With frames, of a group */
	int map = 0;		 /* position from which the window may be remapped */
	size_t frame = kNoFrame; /* of a promotion: its range in the fast frame pool */
	bool copy = true;	 /* false if the group's home has its content */

	size_t number = 0; /* in the plan */
};

/* An operation that allocates or uses a migratable group. */
struct GroupUse {
	std::string op;
	int occurrence;
	int position; /* -1 if it does not wait for another operation */
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

	/* Version 2: groups migrate by frames. */
	bool has_frames = false;
	size_t frames = 0;	    /* bytes of the fast frame pool; not in migratable_budget */
	int cores = INT32_MAX;	    /* at most so many migration threads */
	std::vector<GroupUse> uses; /* in order of their positions, where they have one */

	/* Indices into `tensors`: by operation, and of variables by name. */
	std::map<std::string, std::vector<int>> by_op;
	std::map<std::string, int> by_name;
	/* Indices: of groups by offset, of uses by operation */
	std::map<size_t, int> group_at;
	std::map<std::string, std::vector<int>> uses_by_op;
};

/* Parse and check a plan. Throws json::Error, in one line, at the first violation. */
Plan parse_plan(const std::string &text);

} // namespace sentinel

#endif
