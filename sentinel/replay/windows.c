// SPDX-License-Identifier: GPL-2.0-or-later
/* Windows of groups, their homes, and the fast frame pool. */
#include <stdlib.h>

#include "state.h"

static uint32_t birth_frame(const struct replay *r, uint64_t group)
{
	return (uint32_t)r->s->group[group].frame;
}

void show(struct replay *r, uint64_t group, uint32_t frame)
{
	const struct replay_group *g = &r->s->group[group];
	uint64_t first = frame == REPLAY_HOME ? r->s->pages + g->page : frame;

	r->window[group].frame = frame;
	for (uint64_t i = 0; i < g->pages; i++)
		r->shown[g->page + i] = (uint32_t)(first + i);
}

bool occupy(struct replay *r, uint64_t group, uint32_t frame)
{
	uint32_t *owner = &r->owner[frame - r->s->frames];

	for (uint64_t i = 0; i < r->s->group[group].pages; i++)
		if (owner[i] && owner[i] != group + 1)
			return false;
	for (uint64_t i = 0; i < r->s->group[group].pages; i++)
		owner[i] = (uint32_t)group + 1;
	return true;
}

void release(struct replay *r, uint64_t group, uint32_t frame)
{
	uint32_t *owner = &r->owner[frame - r->s->frames];

	for (uint64_t i = 0; i < r->s->group[group].pages; i++)
		if (owner[i] == group + 1)
			owner[i] = 0;
}

/* The compute vCPU remaps a window itself. */
static void remap_here(struct replay *r, uint64_t group, uint32_t frame)
{
	model_remap(r->model, 0, r->s->group[group].pages);
	r->result->remaps++;
	show(r, group, frame);
}

void window_born(struct replay *r, uint64_t group)
{
	const struct replay_group *g = &r->s->group[group];
	struct window *w = &r->window[group];
	uint32_t frame = birth_frame(r, group);

	if (w->returning) {
		while (w->returning)
			run_slowest_core(r);
		wait_until(r, w->returned_at);
	}
	if (frame != REPLAY_HOME && !occupy(r, group, frame)) {
		r->result->crowded += g->pages;
		frame = REPLAY_HOME;
	}
	if (w->frame != frame)
		remap_here(r, group, frame);
	change(r, model_clock(r->model, 0));
}

void window_died(struct replay *r, uint64_t group)
{
	struct window *w = &r->window[group];

	cancel_moves_of(r, group);
	if (w->frame != REPLAY_HOME)
		release(r, group, w->frame);
	if (w->frame != birth_frame(r, group) && !w->queued) {
		w->queued = true;
		r->returns[r->last_return++ % r->s->groups] = group;
	}
	change(r, model_clock(r->model, 0));
}

uint64_t next_return(struct replay *r)
{
	while (r->first_return < r->last_return) {
		uint64_t group = r->returns[r->first_return++ % r->s->groups];

		r->window[group].queued = false;
		if (!r->group[group].live && r->window[group].frame != birth_frame(r, group))
			return group;
	}
	return UINT64_MAX;
}

bool begin_windows(struct replay *r)
{
	const struct replay_scenario *s = r->s;

	r->window = calloc(s->groups + 1, sizeof(*r->window));
	r->shown = calloc(s->pages + 1, sizeof(*r->shown));
	r->owner = calloc(s->pages - s->frames + 1, sizeof(*r->owner));
	r->returns = calloc(s->groups + 1, sizeof(*r->returns));
	r->move = calloc(s->moves + 1, sizeof(*r->move));
	if (!r->window || !r->shown || !r->owner || !r->returns || !r->move)
		return false;
	for (uint64_t i = 0; i < s->groups; i++) {
		if (!s->group[i].window)
			continue;
		r->has_windows = true;
		show(r, i, birth_frame(r, i));
	}
	return true;
}

void end_windows(struct replay *r)
{
	free(r->window);
	free(r->shown);
	free(r->owner);
	free(r->returns);
	free(r->move);
}
