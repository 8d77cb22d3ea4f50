// SPDX-License-Identifier: GPL-2.0-or-later
/* Page-based policies: what they see, when they decide, and the moves that they ask for. */
#include "state.h"

/* A pseudo-random number: xorshift64*, Vigna 2016 */
static uint64_t next_random(struct pager *p)
{
	p->random ^= p->random >> 12;
	p->random ^= p->random << 25;
	p->random ^= p->random >> 27;
	return p->random * 0x2545f4914f6cdd1d;
}

/* The misses until the next sample: random, so that no pattern of accesses is favoured. */
static uint64_t next_distance(struct pager *p, uint64_t mean)
{
	return 1 + (next_random(p) >> 32) % (2 * mean - 1);
}

void begin_paging(struct replay *r)
{
	const struct replay_paging *to = r->s->paging;
	struct pager *p = &r->pager;

	if (!to)
		return;
	p->random = 2 * to->seed + 1; /* not 0 */
	if (to->sample)
		p->countdown = next_distance(p, to->sample);
	p->due = model_clock(r->model, 0) + to->period;
	for (uint64_t i = 0; i < to->count; i++)
		p->fast += to->node[i] == FAST;
}

void observe_access(struct replay *r, uint64_t target, bool missed, bool store)
{
	const struct replay_paging *to = r->s->paging;
	uint64_t page = target - to->first;

	if (page >= to->count)
		return;
	to->touched[page] |= store ? REPLAY_WRITTEN : REPLAY_READ;
	if (to->hidden[page] >= 0) {
		to->latency[page] = model_clock(r->model, 0) - to->hidden[page];
		to->hidden[page] = -1;
	}
	if (missed && to->sample && !--r->pager.countdown) {
		(store ? to->writes : to->reads)[page]++;
		r->pager.countdown = next_distance(&r->pager, to->sample);
	}
}

void decide_paging(struct replay *r)
{
	const struct replay_paging *to = r->s->paging;
	double now = model_clock(r->model, 0);
	struct pager *p = &r->pager;

	p->done[FAST] = p->done[SLOW] = 0;
	p->failed = to->decide(now) != 0;
	if (p->failed)
		return;
	p->due = now + to->period;
	wake_helpers(r);
}

bool page_next(struct replay *r, unsigned int to, unsigned int cpu)
{
	const struct replay_paging *paging = r->s->paging;
	struct pager *p = &r->pager;
	uint64_t page;

	if (p->done[to] == paging->moves[to])
		return false;
	if (to == FAST && p->fast >= paging->budget) {
		if (p->done[SLOW] < paging->moves[SLOW])
			return false; /* a demotion will make room */
		r->result->failed += paging->moves[FAST] - p->done[FAST];
		p->done[FAST] = paging->moves[FAST];
		return false;
	}
	page = paging->move[to][p->done[to]++];
	if (paging->node[page] == to) /* it was named twice */
		return true;
	migrate_page(r, paging->first + page, to, cpu);
	paging->node[page] = (uint8_t)to;
	p->fast += to == FAST ? 1 : -1;
	*(to == FAST ? &r->result->promoted : &r->result->demoted) += 1;
	return true;
}
