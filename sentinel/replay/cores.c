// SPDX-License-Identifier: GPL-2.0-or-later
/* The migration cores: who copies which chunk, and who remaps. */
#include <math.h>

#include "state.h"

#define CHUNK 16 /* pages */
#define LINE  (MODEL_PAGE / REPLAY_LINES)

void change(struct replay *r, double ns)
{
	if (!r->changed || ns < r->changed_at)
		r->changed_at = ns;
	r->changed = true;
	r->due = -INFINITY;
}

void wait_until(struct replay *r, double ns)
{
	double begin = model_clock(r->model, 0);

	model_wake(r->model, 0, ns);
	r->result->exposed_ns += model_clock(r->model, 0) - begin;
}

/* Copy one page between the group's home and its frames. */
static void copy_page(struct replay *r, unsigned int cpu, uint64_t move, uint64_t page)
{
	const struct replay_move *planned = &r->s->move[move];
	bool promotes = planned->to == FAST;
	uint64_t home = frame_of(r, r->s->group[planned->group].page + page, SLOW);
	uint64_t first = promotes ? planned->frame : r->window[planned->group].frame;
	uint64_t fast = frame_of(r, first + page, FAST);

	for (int i = 0; i < REPLAY_LINES; i++) {
		model_access(r->model, cpu, (promotes ? home : fast) + i * LINE, 1, false);
		model_access(r->model, cpu, (promotes ? fast : home) + i * LINE, 1, true);
	}
	r->result->copied++;
}

static void begin_remap(struct replay *r, unsigned int cpu, uint64_t move)
{
	struct move *m = &r->move[move];

	model_wake(r->model, cpu, m->copied_at);
	model_remap(r->model, cpu, r->s->group[r->s->move[move].group].pages);
	m->state = REMAPPING;
	r->core[cpu] = (struct core){.task = REMAP, .index = move};
}

/* Begin a move: nothing has to be copied of a clean one. */
static void begin_move(struct replay *r, unsigned int cpu, uint64_t move)
{
	double now = model_clock(r->model, cpu);

	r->move[move].state = r->s->move[move].copy ? COPYING : COPIED;
	r->move[move].copied_at = now;
	r->result->moved[move].begin = now - r->step_begin;
}

static void take_chunk(struct replay *r, unsigned int cpu, uint64_t move)
{
	struct move *m = &r->move[move];
	uint64_t pages = r->s->group[r->s->move[move].group].pages, begin = m->next;

	m->next = begin + CHUNK < pages ? begin + CHUNK : pages;
	m->copying++;
	r->core[cpu] = (struct core){.task = COPY, .index = move, .at = begin, .end = m->next};
}

/* Take the first work, in plan order, of a move before `end`. */
static bool take_work(struct replay *r, unsigned int cpu, uint64_t end)
{
	for (uint64_t i = r->oldest_move; i < end && r->s->move[i].at <= r->watermark; i++) {
		struct move *m = &r->move[i];

		if (m->state == WAITING && can_begin(r, i))
			begin_move(r, cpu, i);
		if (m->state == COPYING && m->next < r->s->group[r->s->move[i].group].pages) {
			take_chunk(r, cpu, i);
			return true;
		}
		if (m->state == COPIED && r->watermark >= r->s->move[i].map) {
			begin_remap(r, cpu, i);
			return true;
		}
	}
	return false;
}

static bool take_return(struct replay *r, unsigned int cpu)
{
	uint64_t group = next_return(r);

	if (group == UINT64_MAX)
		return false;
	r->window[group].returning = true;
	model_remap(r->model, cpu, r->s->group[group].pages);
	r->core[cpu] = (struct core){.task = RETURN, .index = group};
	return true;
}

/*
 * Variables move by pages, as without windows: the first two cores have a thread for each
 * direction. Moves that come first in the plan go first.
 */
static bool take_task(struct replay *r, unsigned int cpu)
{
	bool variables = cpu <= 2 && is_migrating(r);
	int64_t move = variables ? r->queue[r->oldest].move : (int64_t)r->s->moves;

	r->core[cpu].task = NO_TASK;
	if (take_work(r, cpu, move < 0 ? 0 : (uint64_t)move))
		return true;
	if (variables && run_helper(r, cpu)) {
		r->core[cpu].task = PAGES;
		change(r, model_clock(r->model, cpu));
		return true;
	}
	return take_work(r, cpu, r->s->moves) || take_return(r, cpu);
}

/* A chunk has been copied. The core that copies the last one remaps. */
static void end_chunk(struct replay *r, unsigned int cpu, uint64_t move)
{
	struct move *m = &r->move[move];
	double now = model_clock(r->model, cpu);

	m->copying--;
	if (m->state == RESOLVED) { /* cancelled */
		if (!m->copying)
			drop_copy(r, move);
		return;
	}
	if (now > m->copied_at)
		m->copied_at = now;
	if (m->copying || m->next < r->s->group[r->s->move[move].group].pages)
		return;
	m->state = COPIED;
	r->result->moved[move].copied = m->copied_at - r->step_begin;
	if (r->watermark >= r->s->move[move].map)
		begin_remap(r, cpu, move);
}

static void end_return(struct replay *r, uint64_t group, double now)
{
	r->window[group].returning = false;
	r->window[group].returned_at = now;
	r->result->remaps++;
	show(r, group, (uint32_t)r->s->group[group].frame);
}

/* Let a busy core copy a page, or end its task and take the next one. */
static void run_core(struct replay *r, unsigned int cpu)
{
	struct core *c = &r->core[cpu];

	switch (c->task) {
	case COPY:
		if (c->at < c->end) {
			copy_page(r, cpu, c->index, c->at++);
			return;
		}
		end_chunk(r, cpu, c->index);
		if (c->task == REMAP)
			return;
		break;
	case REMAP:
		end_remap(r, c->index, model_clock(r->model, cpu));
		break;
	case RETURN:
		end_return(r, c->index, model_clock(r->model, cpu));
		break;
	case PAGES:
	case NO_TASK:
		break;
	}
	take_task(r, cpu);
}

/* Give idle cores work. If one finds none, others do not either, except for moves of variables. */
static void wake_cores(struct replay *r)
{
	bool found = true;

	if (!r->changed)
		return;
	for (unsigned int cpu = 1; cpu <= r->s->helpers && (found || cpu <= 2); cpu++) {
		if (r->core[cpu].task != NO_TASK)
			continue;
		model_wake(r->model, cpu, r->changed_at);
		found = take_task(r, cpu);
	}
	r->changed = false;
}

/* The busy core that is furthest behind, or 0. */
static unsigned int slowest_core(const struct replay *r)
{
	unsigned int slowest = 0;

	for (unsigned int cpu = 1; cpu <= r->s->helpers; cpu++)
		if (r->core[cpu].task != NO_TASK &&
		    (!slowest || model_clock(r->model, cpu) < model_clock(r->model, slowest)))
			slowest = cpu;
	return slowest;
}

bool run_slowest_core(struct replay *r)
{
	unsigned int cpu;

	wake_cores(r);
	cpu = slowest_core(r);
	if (cpu)
		run_core(r, cpu);
	return cpu;
}

static int busy_cores(const struct replay *r)
{
	int busy = 0;

	for (unsigned int cpu = 1; cpu <= r->s->helpers; cpu++)
		busy += r->core[cpu].task != NO_TASK;
	return busy;
}

void run_cores(struct replay *r)
{
	double now = model_clock(r->model, 0);
	unsigned int cpu;
	int busy;

	for (;;) {
		wake_cores(r);
		cpu = slowest_core(r);
		if (!cpu || model_clock(r->model, cpu) >= now)
			break;
		run_core(r, cpu);
	}
	r->due = cpu ? model_clock(r->model, cpu) : INFINITY;
	busy = busy_cores(r);
	model_migrating(r->model, busy - r->busy);
	r->busy = busy;
}
