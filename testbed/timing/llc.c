// SPDX-License-Identifier: GPL-2.0-or-later
#include "llc.h"

#include <stdlib.h>

bool cache_allocate(struct cache *cache)
{
	cache->lines = calloc(cache->sets * cache->ways, sizeof(*cache->lines));
	return cache->lines;
}

/*
 * Returns the first way of a line's set. Sets are selected by a hash, as in processors with a
 * sliced last-level cache, so results hardly depend on physical addresses.
 */
static struct line *set_of(const struct cache *cache, uint64_t line)
{
	uint64_t hash = line * 0x9e3779b97f4a7c15ULL;
	uint64_t set = (uint64_t)((unsigned __int128)hash * cache->sets >> 64);

	return &cache->lines[set * cache->ways];
}

/* Returns the way that holds a line, or NULL. */
static struct line *find_line(struct line *set, uint32_t ways, uint64_t line)
{
	for (struct line *l = set; l < set + ways; l++)
		if (l->tag == line + 1)
			return l;
	return NULL;
}

/* Returns an empty or invalid way, or else the least recently used one. */
static struct line *choose_victim(const struct cache *cache, struct line *set)
{
	struct line *oldest = set;
	uint32_t tick = cache->tick;

	for (struct line *l = set; l < set + cache->ways; l++) {
		if (!l->tag || l->epoch != cache->epoch)
			return l;
		if (tick - l->used > tick - oldest->used)
			oldest = l;
	}
	return oldest;
}

struct line *cache_look_up(struct cache *cache, uint64_t line, bool *missing, uint64_t *victim)
{
	uint32_t ways = cache->ways;
	struct line *set = set_of(cache, line), *l = find_line(set, ways, line);

	*missing = !l || l->epoch != cache->epoch;
	if (!*missing)
		return l;
	if (!l)
		l = choose_victim(cache, set);
	*victim = l->dirty ? l->tag : 0;
	l->tag = line + 1;
	l->dirty = false;
	return l;
}

void cache_invalidate(struct cache *cache)
{
	if (++cache->epoch || !cache->lines)
		return;
	for (uint64_t i = 0; i < cache->sets * cache->ways; i++)
		cache->lines[i].epoch = 0;
	cache->epoch = 1;
}
