/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State of a replay that its parts share. */
#ifndef SENTINEL_REPLAY_STATE_H
#define SENTINEL_REPLAY_STATE_H

#include "replay.h"

#define FAST 0
#define SLOW 1

#define SOURCES 1024 /* a power of two, more than a word can go back */

struct group {
	uint64_t live, fast; /* tensors; pages that count against the room */
	bool displaced;	     /* did not fit: new pages come from slow memory */
};

struct request {
	uint64_t page, pages, done, group;
	int64_t before;
	unsigned int to;
	bool running, cancelled, waits_for_space;
};

/* A migration thread of the runtime. It moves pieces of at most 64 pages. */
struct thread {
	struct request *request; /* NULL: idle */
	uint64_t at, end, moved; /* of the piece, in pages of the request; pages on the node */
};

/* State of the counting of traffic; entries of `traffic` are numbered from 1. */
struct counts {
	struct replay_counting *to; /* NULL: none */
	int64_t op;
	uint32_t *owner;   /* by dense line: tensor + 1; 0: none */
	uint32_t *writer;  /* by dense line: entry of the last write; 0: none */
	uint32_t *entry;   /* by tensor: its newest entry */
	int64_t *entry_op; /* by tensor: the operation of that */
};

struct replay {
	const struct replay_scenario *s;
	struct replay_result *result;
	struct model *model;
	uint32_t *line;
	uint8_t *page; /* as in the scenario */
	struct group *group;
	uint64_t used; /* pages of the room */
	/* Requests in order of submission: [oldest, newest) are those that may be unfinished */
	struct request *queue;
	uint64_t oldest, newest;
	struct thread thread[2]; /* by node: promotes, demotes */
	unsigned int turn;	 /* the thread that runs next on a shared vCPU */
	uint64_t next_move, next_wait;
	struct counts counts;
	double arrival[SOURCES]; /* of the data of the last words */
};

/* The first address of a target page on a node. */
uint64_t frame_of(const struct replay *r, uint64_t page, unsigned int node);

/* Count an access to a dense line, and whether it missed. */
void count_access(struct replay *r, uint64_t dense, bool missed, bool store);

/* Start to count. False if there is no memory. */
bool begin_counting(struct replay *r, struct replay_counting *to);
void end_counting(struct replay *r);

/* Account for tensors of groups [first, first + count). */
void tensor_born(struct replay *r, uint64_t first, uint64_t count);
void tensor_died(struct replay *r, uint64_t first, uint64_t count);

/* Reserve room to promote a piece. False if it does not fit. */
bool reserve(struct replay *r, const struct request *q, uint64_t pages);

/* A piece has been migrated: `moved` of its pages are on the node, the others have no memory. */
void settle(struct replay *r, const struct request *q, uint64_t pages, uint64_t moved);

/* The step has reached `position`: wait, and submit moves. */
void reach(struct replay *r, int64_t position);

/* Let the migration threads run until the time of the compute vCPU, or until they are idle. */
void run_migrations(struct replay *r);

/* Whether a migration thread has work. */
static inline bool is_migrating(const struct replay *r)
{
	return r->oldest < r->newest;
}

#endif
