// SPDX-License-Identifier: GPL-2.0-or-later
/* The room for groups in fast memory: FastBudget in the runtime. */
#include "state.h"

static void set_fast(struct replay *r, struct group *g, uint64_t pages)
{
	r->used += pages - g->fast;
	g->fast = pages;
}

static void set_birth_node(struct replay *r, uint64_t index, uint8_t node)
{
	const struct replay_group *g = &r->s->group[index];

	for (uint64_t page = g->page; page < g->page + g->pages; page++)
		if (r->page[page] & REPLAY_ABSENT)
			r->page[page] = REPLAY_ABSENT | node;
}

void tensor_born(struct replay *r, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++) {
		const struct replay_group *planned = &r->s->group[i];
		struct group *g = &r->group[i];

		if (g->live++)
			continue;
		if (planned->window)
			window_born(r, i);
		if (planned->window || planned->node != FAST)
			continue;
		g->displaced = r->used + planned->pages > r->s->room;
		if (g->displaced)
			r->result->crowded += planned->pages;
		else
			set_fast(r, g, planned->pages);
		set_birth_node(r, i, g->displaced ? SLOW : FAST);
	}
}

void tensor_died(struct replay *r, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++) {
		if (--r->group[i].live)
			continue;
		if (r->s->group[i].window)
			window_died(r, i);
		else
			set_fast(r, &r->group[i], 0);
	}
}

bool reserve(struct replay *r, const struct request *q, uint64_t pages)
{
	struct group *g = &r->group[q->group];
	uint64_t growth = r->s->group[q->group].pages - g->fast;

	if (growth > pages)
		growth = pages;
	if (r->used + growth > r->s->room)
		return false;
	set_fast(r, g, g->fast + growth);
	return true;
}

void settle(struct replay *r, const struct request *q, uint64_t pages, uint64_t moved)
{
	struct group *g = &r->group[q->group];
	uint64_t freed = q->to == FAST ? pages - moved : pages;

	set_fast(r, g, g->fast - (freed < g->fast ? freed : g->fast));
	*(q->to == FAST ? &r->result->promoted : &r->result->demoted) += moved;
	r->result->absent += pages - moved;
}
