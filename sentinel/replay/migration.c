// SPDX-License-Identifier: GPL-2.0-or-later
/* The migrations of a plan: Executor and MigrationThreads in the runtime. */
#include <string.h>

#include "state.h"

#define PIECE 64 /* pages */
#define LINE  (MODEL_PAGE / REPLAY_LINES)

static bool is_late(const struct request *q, int64_t position)
{
	return q->pages && q->to == FAST && q->before <= position && !q->cancelled;
}

/* Note when a move of this step has ended, and how. */
static void note_end(struct replay *r, const struct request *q, double ns,
		     enum replay_outcome outcome)
{
	if (q->move < 0)
		return;
	r->result->moved[q->move].ended = ns - r->step_begin;
	r->result->moved[q->move].outcome = outcome;
}

/* An ended request has no pages. */
static void end_request(struct replay *r, struct request *q)
{
	q->pages = 0;
	while (r->oldest < r->newest && !r->queue[r->oldest].pages)
		r->oldest++;
}

/* A running request ends after its current piece. */
static void cancel(struct replay *r, struct request *q)
{
	if (q->running) {
		q->cancelled = true;
		return;
	}
	r->result->cancelled += q->pages - q->done;
	note_end(r, q, model_clock(r->model, 0), REPLAY_CANCELLED);
	end_request(r, q);
}

void wake_helpers(struct replay *r)
{
	for (unsigned int cpu = 1; cpu <= r->s->helpers; cpu++)
		model_wake(r->model, cpu, model_clock(r->model, 0));
}

static void submit(struct replay *r, uint64_t move)
{
	const struct replay_move *m = &r->s->move[move];
	const struct replay_group *g = &r->s->group[m->group];

	for (uint64_t i = r->oldest; i < r->newest; i++) {
		struct request *q = &r->queue[i];

		if (q->pages && q->group == m->group && q->to != m->to && !q->running)
			cancel(r, q);
	}
	if (r->has_windows)
		change(r, model_clock(r->model, 0));
	else if (!is_migrating(r))
		wake_helpers(r);
	r->queue[r->newest++] = (struct request){.page = g->page,
						 .pages = g->pages,
						 .group = m->group,
						 .before = m->before,
						 .move = (int64_t)move,
						 .to = (unsigned int)m->to};
}

/* The oldest request of a thread that may run now, or NULL. */
static struct request *next_request(struct replay *r, unsigned int to)
{
	bool older_demotions = false;

	for (uint64_t i = r->oldest; i < r->newest; i++) {
		struct request *q = &r->queue[i];
		bool blocked = false;

		if (!q->pages)
			continue;
		if (q->to == to && !q->running) {
			if (q->waits_for_space && older_demotions)
				return NULL;
			for (uint64_t j = r->oldest; j < i; j++)
				blocked |= r->queue[j].pages && r->queue[j].group == q->group;
			if (!blocked)
				return q;
		}
		older_demotions |= q->to == SLOW;
	}
	return NULL;
}

static bool begin_piece(struct replay *r, struct thread *t)
{
	struct request *q = t->request;
	uint64_t pages = q->pages - q->done;

	if (pages > PIECE)
		pages = PIECE;
	if (q->to == FAST && !reserve(r, q, pages)) {
		q->running = false;
		t->request = NULL;
		if (!q->waits_for_space) {
			q->waits_for_space = true;
		} else { /* the second attempt */
			r->result->failed += pages;
			q->waits_for_space = false;
			q->done += pages;
			if (q->done == q->pages)
				end_request(r, q);
		}
		return false;
	}
	q->waits_for_space = false;
	t->at = q->done;
	t->end = q->done + pages;
	t->moved = 0;
	return true;
}

static void end_piece(struct replay *r, struct thread *t)
{
	struct request *q = t->request;

	settle(r, q, t->end - q->done, t->moved);
	q->done = t->end;
	if (!q->cancelled && q->done < q->pages) {
		begin_piece(r, t);
		return;
	}
	q->running = false;
	t->request = NULL;
	if (q->cancelled)
		r->result->cancelled += q->pages - q->done;
	end_request(r, q);
}

void migrate_page(struct replay *r, uint64_t page, unsigned int to, unsigned int cpu)
{
	model_charge(r->model, cpu, r->s->page_ns);
	for (int i = 0; i < REPLAY_LINES; i++) {
		model_access(r->model, cpu, frame_of(r, page, !to) + i * LINE, 1, false);
		model_access(r->model, cpu, frame_of(r, page, to) + i * LINE, 1, true);
	}
	r->page[page] = (uint8_t)to;
}

/* Move the next page of a piece, if it is not there yet. */
static void move_page(struct replay *r, struct thread *t, unsigned int cpu)
{
	uint64_t page = t->request->page + t->at++;
	unsigned int to = t->request->to;

	if (r->page[page] & REPLAY_ABSENT)
		return;
	t->moved++;
	if (r->page[page] != to)
		migrate_page(r, page, to, cpu);
}

/* Let a thread do a page's work on its vCPU. False if it has nothing to do. */
static bool run_thread(struct replay *r, unsigned int to, unsigned int cpu)
{
	struct thread *t = &r->thread[to];
	struct request *q;

	if (r->s->paging)
		return page_next(r, to, cpu);
	while (!t->request) {
		t->request = next_request(r, to);
		if (!t->request)
			return false;
		t->request->running = true;
		begin_piece(r, t);
	}
	q = t->request;
	if (q->move >= 0 && r->result->moved[q->move].begin < 0)
		r->result->moved[q->move].begin = model_clock(r->model, cpu) - r->step_begin;
	move_page(r, t, cpu);
	if (t->at == t->end)
		end_piece(r, t);
	if (!q->pages)
		note_end(r, q, model_clock(r->model, cpu),
			 q->cancelled ? REPLAY_CANCELLED : REPLAY_MOVED);
	return true;
}

/* Two threads on one vCPU take turns. */
bool run_helper(struct replay *r, unsigned int cpu)
{
	if (r->s->helpers > 1)
		return run_thread(r, cpu - 1, cpu);
	r->turn = !r->turn;
	return run_thread(r, r->turn, cpu) || run_thread(r, !r->turn, cpu);
}

void run_migrations(struct replay *r)
{
	for (unsigned int cpu = 1; cpu <= r->s->helpers; cpu++) {
		while (is_migrating(r) && model_clock(r->model, cpu) < model_clock(r->model, 0))
			if (!run_helper(r, cpu))
				model_wake(r->model, cpu, model_clock(r->model, 0));
	}
}

/* Pages of promotions that are late at a wait. */
static uint64_t late_pages(const struct replay *r, int64_t position)
{
	uint64_t pages = 0;

	for (uint64_t i = r->oldest; i < r->newest; i++)
		if (is_late(&r->queue[i], position))
			pages += r->queue[i].pages;
	return pages;
}

/* Let the helper that is furthest behind work. False if no helper has anything to do. */
static bool run_slowest_helper(struct replay *r)
{
	unsigned int first = 1, second = (unsigned int)r->s->helpers;

	if (r->has_windows)
		return run_slowest_core(r);
	if (model_clock(r->model, second) < model_clock(r->model, first)) {
		first = second;
		second = 1;
	}
	if (run_helper(r, first))
		return true;
	if (!run_helper(r, second))
		return false;
	model_wake(r->model, first, model_clock(r->model, second));
	return true;
}

static void wait_for_promotions(struct replay *r, int64_t position)
{
	uint64_t late = late_pages(r, position);
	double begin = model_clock(r->model, 0);

	if (!late)
		return;
	r->result->late += late;
	if (!r->s->waiting) {
		for (uint64_t i = r->oldest; i < r->newest; i++)
			if (is_late(&r->queue[i], position))
				cancel(r, &r->queue[i]);
		return;
	}
	while (late_pages(r, position) && run_slowest_helper(r))
		;
	model_wake(r->model, 0, model_clock(r->model, 1));
	r->result->exposed_ns += model_clock(r->model, 0) - begin;
}

void reach(struct replay *r, int64_t position)
{
	const struct replay_scenario *s = r->s;

	if (r->has_windows && position < INT64_MAX)
		resolve_moves(r, position);
	for (; r->next_wait < s->waits && s->wait[r->next_wait] <= position; r->next_wait++)
		wait_for_promotions(r, s->wait[r->next_wait]);
	for (; r->next_move < s->moves && s->move[r->next_move].at <= position; r->next_move++)
		if (!s->group[s->move[r->next_move].group].window)
			submit(r, r->next_move);
}
