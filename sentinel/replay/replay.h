/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replays a traced step through the timing model, under any placement of its pages and with the
 * migrations of a plan. Lines have 64 bytes, pages 4096. The caller numbers the pages of the trace
 * ("dense" pages) and the pages that they are placed on ("target" pages); a target page has a frame
 * on each node. Times are model ns. Python calls it: engine.py has the same structures.
 */
#ifndef SENTINEL_REPLAY_H
#define SENTINEL_REPLAY_H

#include "../../testbed/timing/model.h"

#define REPLAY_LINES  64	 /* in a page */
#define REPLAY_ABSENT 2		 /* bit of a page's state: it has no memory yet */
#define REPLAY_WINDOW 4		 /* bit of a page's state: it is in a window */
#define REPLAY_HOME   UINT32_MAX /* in place of a frame: the group is at home */

enum replay_kind {
	REPLAY_MAP,	/* dense lines [first, first + count) are at target lines from `to` on */
	REPLAY_BORN,	/* a tensor of groups [first, first + count) is born */
	REPLAY_DIED,	/* it dies */
	REPLAY_DISCARD, /* target pages [first, first + count) lose their memory */
	REPLAY_REACH,	/* the step has reached position `first` of the plan */
	REPLAY_OWN,	/* dense lines [first, first + count) belong to tensor `to` */
	REPLAY_OP,	/* operation `first` begins */
	REPLAY_BEGIN, /* an operation begins: the watermark is `first`; `count`: it is in `uses` */
};

struct replay_action {
	uint64_t kind, first, count, to;
};

/* Pages that are placed and migrated as one; `node`: where they are born. */
struct replay_group {
	uint64_t page, pages, node;
	uint64_t live;	 /* tensors that live before the step: of a variable 1, else 0 */
	uint64_t window; /* whether its pages are a window; else they migrate by move_pages */
	uint64_t frame;	 /* target page of its frames at birth, or REPLAY_HOME */
};

struct replay_move {
	int64_t at, before; /* positions */
	uint64_t to;	    /* node */
	uint64_t group;
	int64_t map;	/* of a window: position from which on it may be remapped */
	uint64_t frame; /* of a window: target page of its new frames, or REPLAY_HOME */
	uint64_t copy;	/* of a window: whether its content must be copied */
};

enum replay_outcome {
	REPLAY_PENDING, /* it goes on in the next step */
	REPLAY_MOVED,
	REPLAY_THERE, /* the group was where it goes already */
	REPLAY_CANCELLED,
};

/* What happened to a move. Times in ns since the step's begin; negative: never. */
struct replay_moved {
	double begin, copied, ended; /* the copy's begin and end, and the remap's */
	uint64_t outcome;
};

/* The traffic of a tensor that an operation uses, in lines. */
struct replay_traffic {
	uint64_t tensor, op;
	uint64_t read, written; /* written: by it, whenever the cache evicts the lines */
};

/*
 * Counts traffic by tensor and operation, for scenarios that place every line on itself. Lines of
 * no tensor, and accesses before the first operation, are not counted.
 */
struct replay_counting {
	uint64_t tensors, size; /* size: of `traffic` */
	uint64_t used;		/* entries of `traffic`; the rest is lost if it exceeds the size */
	struct replay_traffic *traffic;
};

/* Bits of `touched` */
#define REPLAY_READ    1
#define REPLAY_WRITTEN 2

/*
 * A page-based policy. It decides every `period` ns, but not before the moves of its last decision
 * have ended. Pages are numbered from `first` on. The arrays are shared: the policy clears what it
 * has seen. A page that is hidden is seen at its next access, as by a hint fault.
 */
struct replay_paging {
	uint64_t first, count; /* target pages that it manages */
	uint64_t budget;       /* of them on node 0, at most */
	double period;
	uint64_t sample; /* misses for one sample, on average; 0: no samples */
	uint64_t seed;	 /* of the samples */
	uint8_t *node;	 /* by page: where it is; as in the scenario before the first step */
	uint8_t *touched;
	uint32_t *reads, *writes; /* sampled misses */
	double *hidden;		  /* when the page was hidden; negative: it is not */
	double *latency; /* ns from then to its next access; set by that, which shows the page */
	uint64_t *move[MODEL_NODES]; /* by node: pages to move to it, in order */
	uint64_t moves[MODEL_NODES];
	int (*decide)(double ns); /* sets `moves`. Other than 0: end the replay */
};

struct replay_scenario {
	const struct model_config *config; /* without `split`, `end` and `hole` */
	double page_ns;			   /* fixed time to migrate a page */
	uint64_t words, events, dense, pages, groups, moves, waits;
	const uint64_t *word;		    /* the line's field is a dense line */
	const uint64_t *first_action;	    /* by event, and the end of the last one's */
	const struct replay_action *action; /* of all events, in order */
	const uint32_t *line;		    /* target lines by dense line before the first event */
	const uint8_t *page; /* by target page: the node, or REPLAY_ABSENT + the node */
	const struct replay_group *group; /* by page */
	const struct replay_move *move;	  /* by `at` */
	const int64_t *wait;		  /* positions, in order */
	uint64_t room;			  /* pages of fast memory for groups */
	uint64_t frames;		  /* first target page of the fast frame pool; the rest */
	uint64_t helpers; /* vCPUs for migrations; without windows 1 for both directions, or 2 */
	uint64_t waiting; /* at a wait: wait for late promotions, or cancel them */
	uint64_t steps;	  /* the result is of the last one */
	uint64_t warm;	  /* words at the step's end that warm the caches before the first step */
	const struct replay_paging *paging; /* NULL: no page-based policy */
};

/* The results of the last step. The caller has the arrays. */
struct replay_result {
	double step_ns, exposed_ns;
	double computed_ns; /* when the last access had been made, before what the end waits for */
	/* Pages; `copied` by the migration cores */
	uint64_t promoted, demoted, cancelled, failed, late, crowded, new_pages, absent, copied;
	uint64_t remaps;
	uint64_t unknown;	     /* operations outside of `uses` that used a window */
	struct model_counters *vcpu; /* of the compute vCPU and the helpers */
	struct replay_moved *moved;  /* by move */
};

/*
 * Replay. `counting` may be NULL. `event_ns` gets the time of each event since the step's begin,
 * and may be NULL. Returns 0, or an errno.
 */
__attribute__((visibility("default"))) int replay_run(const struct replay_scenario *s,
						      double *event_ns,
						      struct replay_result *result,
						      struct replay_counting *counting);

#endif
