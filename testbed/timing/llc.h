/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A last-level cache: sets of ways, replaced in LRU order. Independent of QEMU. */
#ifndef SENTINEL_TIMING_LLC_H
#define SENTINEL_TIMING_LLC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct line {
	uint64_t tag; /* line number + 1; 0: empty */
	uint32_t used;
	bool dirty;
	uint16_t epoch; /* that it was used in */
};

struct cache {
	struct line *lines; /* sets of ways; NULL until allocated */
	uint64_t sets;
	uint32_t ways;
	uint32_t tick;
	uint16_t epoch;	  /* lines of earlier ones are invalid, but may have to be written back */
	atomic_flag lock; /* if shared */
};

/* Allocate the lines, all empty. Returns false if out of memory. */
bool cache_allocate(struct cache *cache);

/*
 * Look up a line by its number. If it is `missing`, insert it, and set `victim` to the evicted line
 * + 1 if that was dirty, else to 0.
 */
struct line *cache_look_up(struct cache *cache, uint64_t line, bool *missing, uint64_t *victim);

/* Invalidate all lines. Dirty ones are evicted when their place is needed. */
void cache_invalidate(struct cache *cache);

static inline void use_line(struct cache *cache, struct line *l, bool store)
{
	l->used = ++cache->tick;
	l->dirty |= store;
	l->epoch = cache->epoch;
}

#endif
