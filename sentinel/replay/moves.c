// SPDX-License-Identifier: GPL-2.0-or-later
/* The moves of windows within a step: when they may begin, and how they end. */
#include "state.h"

void resolve(struct replay *r, uint64_t move, enum replay_outcome outcome, double ns)
{
	struct replay_moved *moved = &r->result->moved[move];

	r->move[move].state = RESOLVED;
	r->move[move].ended_at = ns;
	moved->outcome = outcome;
	moved->ended = ns - r->step_begin;
	while (r->oldest_move < r->s->moves && r->move[r->oldest_move].state == RESOLVED)
		r->oldest_move++;
	change(r, ns);
}

static bool is_there(const struct replay *r, uint64_t move)
{
	const struct replay_move *planned = &r->s->move[move];

	return (planned->to == FAST) == (r->window[planned->group].frame != REPLAY_HOME);
}

bool can_begin(struct replay *r, uint64_t move)
{
	const struct replay_move *planned = &r->s->move[move];

	if (r->stopped || !r->group[planned->group].live || !is_resolved(r, r->move[move].previous))
		return false;
	if (is_there(r, move)) {
		resolve(r, move, REPLAY_THERE, model_clock(r->model, 0));
		return false;
	}
	return planned->to == SLOW || occupy(r, planned->group, (uint32_t)planned->frame);
}

void drop_copy(struct replay *r, uint64_t move)
{
	const struct replay_move *planned = &r->s->move[move];

	if (planned->to != FAST || r->window[planned->group].frame == planned->frame)
		return; /* the group was born again in the same place */
	release(r, planned->group, (uint32_t)planned->frame);
	change(r, model_clock(r->model, 0));
}

void cancel_move(struct replay *r, uint64_t move)
{
	bool begun = r->move[move].state != WAITING;

	r->result->cancelled += r->s->group[r->s->move[move].group].pages;
	resolve(r, move, REPLAY_CANCELLED, model_clock(r->model, 0));
	if (begun && !r->move[move].copying)
		drop_copy(r, move);
}

void end_remap(struct replay *r, uint64_t move, double ns)
{
	const struct replay_move *planned = &r->s->move[move];
	uint64_t pages = r->s->group[planned->group].pages;
	uint32_t left = r->window[planned->group].frame;

	show(r, planned->group, (uint32_t)planned->frame);
	if (planned->to == SLOW)
		release(r, planned->group, left);
	*(planned->to == FAST ? &r->result->promoted : &r->result->demoted) += pages;
	r->result->remaps++;
	resolve(r, move, REPLAY_MOVED, ns);
	if (!r->group[planned->group].live)
		window_died(r, planned->group);
}

/* End a move at once: remap it if it is copied, let a core end its remap, or cancel it. */
static void end_move(struct replay *r, uint64_t move)
{
	struct move *m = &r->move[move];

	while (m->state == REMAPPING)
		run_slowest_core(r);
	if (m->state == COPIED && r->watermark >= r->s->move[move].map) {
		wait_until(r, m->copied_at);
		model_remap(r->model, 0, r->s->group[r->s->move[move].group].pages);
		end_remap(r, move, model_clock(r->model, 0));
	} else if (m->state != RESOLVED) {
		cancel_move(r, move);
	}
	if (r->result->moved[move].outcome == REPLAY_MOVED)
		wait_until(r, m->ended_at);
}

/* Wait until a move has ended, or until no core has anything to do. */
static void wait_for_move(struct replay *r, uint64_t move)
{
	double idle = 0;

	while (!is_resolved(r, (int64_t)move) && run_slowest_core(r))
		;
	if (is_resolved(r, (int64_t)move))
		return;
	for (unsigned int cpu = 1; cpu <= r->s->helpers; cpu++)
		if (model_clock(r->model, cpu) > idle)
			idle = model_clock(r->model, cpu);
	wait_until(r, idle);
}

void cancel_moves_of(struct replay *r, uint64_t group)
{
	for (uint64_t i = r->oldest_move; i < r->s->moves; i++)
		if (r->s->move[i].group == group && r->move[i].state != REMAPPING &&
		    r->move[i].state != RESOLVED && r->move[i].state != WAITING)
			cancel_move(r, i);
}

void resolve_moves(struct replay *r, int64_t position)
{
	const struct replay_scenario *s = r->s;

	/* Promotions first: they may need the frames of demotions that are late, too */
	for (uint64_t i = r->oldest_move; i < s->moves && s->move[i].at < position; i++) {
		if (s->move[i].to != FAST || s->move[i].before > position ||
		    is_resolved(r, (int64_t)i))
			continue;
		if (is_resolved(r, r->move[i].previous) && is_there(r, i))
			continue;
		r->result->late += s->group[s->move[i].group].pages;
		if (s->waiting)
			wait_for_move(r, i);
		end_move(r, i);
	}
	for (uint64_t i = r->oldest_move; i < s->moves && s->move[i].at < position; i++)
		if (s->move[i].before <= position && !is_resolved(r, (int64_t)i)) {
			if (r->move[i].state == WAITING && is_resolved(r, r->move[i].previous) &&
			    is_there(r, i)) {
				resolve(r, i, REPLAY_THERE, model_clock(r->model, 0));
				continue;
			}
			if (s->move[i].to == SLOW) /* what follows needs its frames */
				wait_for_move(r, i);
			end_move(r, i);
		}
}

void unknown_user(struct replay *r)
{
	if (r->stopped || r->in_uses)
		return;
	r->result->unknown++;
	r->stopped = true;
	for (uint64_t i = r->oldest_move; i < r->s->moves; i++)
		if (!is_resolved(r, (int64_t)i) && r->move[i].state != WAITING)
			end_move(r, i);
	run_cores(r);
}

void begin_moves(struct replay *r)
{
	const struct replay_scenario *s = r->s;

	r->oldest_move = 0;
	r->stopped = false;
	r->in_uses = true;
	r->watermark = INT64_MIN;
	for (uint64_t i = 0; i < s->moves; i++) {
		int64_t previous = (int64_t)i - 1;

		while (previous >= 0 && s->move[previous].group != s->move[i].group)
			previous--;
		r->move[i] = (struct move){.previous = previous};
		if (!s->group[s->move[i].group].window)
			r->move[i].state = RESOLVED; /* executed by requests */
	}
}

void end_moves(struct replay *r)
{
	for (uint64_t i = 0; i < r->s->groups; i++)
		if (r->s->group[i].window && r->group[i].live) {
			r->group[i].live = 0;
			window_died(r, i);
		}
	for (unsigned int cpu = 1; cpu <= r->s->helpers; cpu++) {
		struct core *c = &r->core[cpu];

		if (c->task == REMAP)
			end_remap(r, c->index, model_clock(r->model, cpu));
		else if (c->task == COPY && !--r->move[c->index].copying)
			drop_copy(r, c->index);
		if (c->task == REMAP || c->task == COPY)
			c->task = NO_TASK;
	}
	for (uint64_t i = r->oldest_move; i < r->s->moves; i++)
		if (!is_resolved(r, (int64_t)i))
			cancel_move(r, i);
	for (uint64_t i = r->oldest; i < r->newest; i++)
		r->queue[i].move = -1; /* of an earlier step from now on */
}
