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
	int64_t move; /* in this step, else -1 */
	unsigned int to;
	bool running, cancelled, waits_for_space;
};

/* A migration thread of the runtime. It moves pieces of at most 64 pages. */
struct thread {
	struct request *request; /* NULL: idle */
	uint64_t at, end, moved; /* of the piece, in pages of the request; pages on the node */
};

/* The window of a group. It shows the group's home or a range of the fast frame pool. */
struct window {
	uint32_t frame; /* first target page of the range, or REPLAY_HOME */
	bool queued;	/* in `returns`: the group has died elsewhere than at its birth place */
	bool returning; /* a core remaps it for that */
	double returned_at;
};

enum task { NO_TASK, COPY, REMAP, RETURN, PAGES };

/* A migration core: a helper's vCPU with a migration thread that serves windows. */
struct core {
	enum task task;
	uint64_t index;	  /* of the move; of the group for RETURN */
	uint64_t at, end; /* of a chunk, in pages of the group */
};

enum move_state { WAITING, COPYING, COPIED, REMAPPING, RESOLVED };

/* A move of a window in this step. */
struct move {
	enum move_state state;
	int64_t previous; /* the group's move before, or -1 */
	uint64_t next;	  /* first page that no core copies yet */
	uint64_t copying; /* cores that copy a chunk */
	double copied_at; /* when the last chunk so far was complete */
	double ended_at;
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

/* State of a page-based policy. */
struct pager {
	uint64_t random, countdown; /* misses until the next sample */
	uint64_t fast;		    /* pages on node 0 */
	double due;		    /* when the policy decides next */
	uint64_t done[2];	    /* by node: moves that have ended */
	bool failed;		    /* the policy ends the replay */
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
	double step_begin;
	struct counts counts;
	struct pager pager;
	/* Windows */
	bool has_windows;
	struct window *window; /* by group */
	uint32_t *shown;       /* by page of a window: its physical page */
	uint32_t *owner;       /* by page of the fast frame pool: its group + 1; 0: free */
	uint64_t *returns;     /* ring of groups whose windows are to return */
	uint64_t first_return, last_return;
	struct move *move;
	uint64_t oldest_move; /* all before are resolved */
	struct core core[MODEL_CPUS];
	int64_t watermark;
	bool stopped;		 /* no more moves of windows in this step */
	bool in_uses;		 /* the current operation is */
	bool changed;		 /* idle cores may have work, from `changed_at` on */
	double changed_at;	 /* ns */
	double due;		 /* when the next core has to be run */
	int busy;		 /* cores, as the model knows */
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

/* The step has reached `position`: resolve moves of windows, wait, and submit moves of variables.
 */
void reach(struct replay *r, int64_t position);

/* Let the migration threads run until the time of the compute vCPU, or until they are idle. */
void run_migrations(struct replay *r);

/* Let a helper's vCPU do a page's work of move_pages. False if it has nothing to do. */
bool run_helper(struct replay *r, unsigned int cpu);

/* Migrate a page by move_pages, on a helper's vCPU. */
void migrate_page(struct replay *r, uint64_t page, unsigned int to, unsigned int cpu);

/* The helpers were idle until now. */
void wake_helpers(struct replay *r);

/* Page-based policies (paging.c) */

void begin_paging(struct replay *r);
void observe_access(struct replay *r, uint64_t target, bool missed, bool store);

/* Let the policy decide. */
void decide_paging(struct replay *r);

/* Move the next page of its decision to a node. False if there is none, or no room for it now. */
bool page_next(struct replay *r, unsigned int to, unsigned int cpu);

static inline bool is_paging(const struct replay *r)
{
	const struct replay_paging *p = r->s->paging;

	return p && (r->pager.done[FAST] < p->moves[FAST] || r->pager.done[SLOW] < p->moves[SLOW]);
}

/* Whether a migration thread has work by move_pages. */
static inline bool is_migrating(const struct replay *r)
{
	return r->oldest < r->newest || is_paging(r);
}

/* Windows (windows.c): what they show, and who has the frames. */

bool begin_windows(struct replay *r); /* false: no memory */
void end_windows(struct replay *r);

/* Have a window show a range of frames, or its home. */
void show(struct replay *r, uint64_t group, uint32_t frame);

/* Take a range of frames for a group. False if another one has a part of it. */
bool occupy(struct replay *r, uint64_t group, uint32_t frame);
void release(struct replay *r, uint64_t group, uint32_t frame);

/* A group is born, or dead. */
void window_born(struct replay *r, uint64_t group);
void window_died(struct replay *r, uint64_t group);

/* The group of the next window that is to return to its birth place, or UINT64_MAX. */
uint64_t next_return(struct replay *r);

/* The moves of windows (cores.c, moves.c). Cores copy and remap. */

static inline bool is_resolved(const struct replay *r, int64_t move)
{
	return move < 0 || r->move[move].state == RESOLVED;
}

void begin_moves(struct replay *r); /* of a step */
void end_moves(struct replay *r);

/* Let the cores run until the time of the compute vCPU. */
void run_cores(struct replay *r);

/* Let the core that is furthest behind work. False if no core has anything to do. */
bool run_slowest_core(struct replay *r);

/* Idle cores may have work from now on. */
void change(struct replay *r, double ns);

/* The compute vCPU waits until `ns`. */
void wait_until(struct replay *r, double ns);

/* A move that has not begun can: it takes its frames, or is done at once. */
bool can_begin(struct replay *r, uint64_t move);

/* The remap of a move ends at `ns`. */
void end_remap(struct replay *r, uint64_t move, double ns);

/* A move is over. */
void resolve(struct replay *r, uint64_t move, enum replay_outcome outcome, double ns);
void cancel_move(struct replay *r, uint64_t move);

/* The last core has dropped its chunk of a cancelled move. */
void drop_copy(struct replay *r, uint64_t move);

/* Wait for moves that are due at `position`, or cancel them. */
void resolve_moves(struct replay *r, int64_t position);

/* Cancel the moves of a group. */
void cancel_moves_of(struct replay *r, uint64_t group);

/* An operation that is not in `uses` uses a window. */
void unknown_user(struct replay *r);

#endif
