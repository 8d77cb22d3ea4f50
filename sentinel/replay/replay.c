// SPDX-License-Identifier: GPL-2.0-or-later
#include "replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../testbed/timing/trace_words.h"
#include "state.h"

uint64_t frame_of(const struct replay *r, uint64_t page, unsigned int node)
{
	return (node * r->s->pages + page) * MODEL_PAGE;
}

/* The address of a line whose page has memory, or will have it. */
static uint64_t address_of(const struct replay *r, uint64_t line)
{
	uint64_t page = line / REPLAY_LINES, offset = line % REPLAY_LINES;
	uint64_t frame = r->page[page] & REPLAY_WINDOW
				 ? (uint64_t)r->shown[page] * MODEL_PAGE
				 : frame_of(r, page, r->page[page] & ~REPLAY_ABSENT);

	return frame + offset * (MODEL_PAGE / REPLAY_LINES);
}

/* A page without memory is touched: the kernel zeroes a new one. */
static void add_page(struct replay *r, uint64_t page)
{
	uint64_t address;

	r->page[page] &= ~REPLAY_ABSENT;
	r->result->new_pages++;
	address = frame_of(r, page, r->page[page]);
	for (int i = 0; i < REPLAY_LINES; i++)
		model_access(r->model, 0, address + i * (MODEL_PAGE / REPLAY_LINES), 1, true);
}

static void access_line(struct replay *r, uint64_t dense, bool store)
{
	uint64_t line = r->line[dense], page = line / REPLAY_LINES;
	bool missed;

	if (r->page[page] & REPLAY_ABSENT)
		add_page(r, page);
	if (r->page[page] & REPLAY_WINDOW)
		unknown_user(r);
	missed = model_access(r->model, 0, address_of(r, line), 1, store);
	if (r->counts.to)
		count_access(r, dense, missed, store);
	if (r->s->paging)
		observe_access(r, page, missed, store);
}

static void act(struct replay *r, const struct replay_action *a)
{
	switch (a->kind) {
	case REPLAY_MAP:
		for (uint64_t i = 0; i < a->count; i++)
			r->line[a->first + i] = (uint32_t)(a->to + i);
		break;
	case REPLAY_BORN:
		tensor_born(r, a->first, a->count);
		break;
	case REPLAY_DIED:
		tensor_died(r, a->first, a->count);
		break;
	case REPLAY_DISCARD:
		for (uint64_t i = 0; i < a->count; i++)
			r->page[a->first + i] |= REPLAY_ABSENT;
		break;
	case REPLAY_REACH:
		reach(r, (int64_t)a->first);
		break;
	case REPLAY_OWN:
		if (r->counts.to)
			for (uint64_t i = a->first; i < a->first + a->count; i++)
				r->counts.owner[i] = (uint32_t)a->to + 1;
		break;
	case REPLAY_OP:
		r->counts.op = (int64_t)a->first;
		break;
	case REPLAY_BEGIN:
		r->watermark = (int64_t)a->first;
		r->in_uses = a->count;
		change(r, model_clock(r->model, 0));
		break;
	}
}

/* The next access waits for the data of an earlier word, or all data in flight arrive now. */
static void follow(struct replay *r, uint64_t word, uint64_t i)
{
	uint64_t source = TRACE_SOURCE_OF(word);

	if (source == TRACE_FENCE)
		model_drain(r->model, 0);
	model_issue_after(r->model, 0,
			  source && source < TRACE_FENCE ? r->arrival[(i - source) % SOURCES] : 0);
}

/* Let migrations go on until now. */
static void migrate(struct replay *r)
{
	if (!r->has_windows) {
		if (is_migrating(r))
			run_migrations(r);
	} else if (model_clock(r->model, 0) > r->due) {
		run_cores(r);
	}
	if (r->s->paging && model_clock(r->model, 0) >= r->pager.due && !is_paging(r))
		decide_paging(r);
}

static double replay_step(struct replay *r, double *event_ns)
{
	const struct replay_scenario *s = r->s;
	double begin = model_clock(r->model, 0);
	uint64_t event = 0;

	r->next_move = r->next_wait = 0;
	r->step_begin = begin;
	begin_moves(r);
	reach(r, -1);
	for (uint64_t i = 0; i < s->words && !r->pager.failed; i++) {
		uint64_t word = s->word[i], kind = TRACE_KIND_OF(word);
		uint64_t count = kind == TRACE_TIME ? TRACE_LINE_OF(word) : TRACE_COUNT_OF(word);

		if (count)
			model_execute(r->model, 0, count);
		migrate(r);
		if (kind == TRACE_TIME)
			continue;
		if (kind != TRACE_EVENT) {
			follow(r, word, i);
			access_line(r, TRACE_LINE_OF(word), kind == TRACE_WRITE);
			r->arrival[i % SOURCES] = model_arrival(r->model, 0);
			continue;
		}
		if (event_ns)
			event_ns[event] = model_clock(r->model, 0) - begin;
		for (uint64_t a = s->first_action[event]; a < s->first_action[event + 1]; a++)
			act(r, &s->action[a]);
		event++;
	}
	r->result->computed_ns = model_clock(r->model, 0) - begin;
	reach(r, INT64_MAX);
	end_moves(r);
	model_drain(r->model, 0);
	return model_clock(r->model, 0) - begin;
}

static void subtract(struct model_counters *a, const struct model_counters *b)
{
	a->instructions -= b->instructions;
	a->accesses -= b->accesses;
	for (int n = 0; n < MODEL_NODES; n++) {
		a->misses[n] -= b->misses[n];
		a->bytes_read[n] -= b->bytes_read[n];
		a->bytes_written[n] -= b->bytes_written[n];
	}
	a->hits_near -= b->hits_near;
	a->compute -= b->compute;
	a->memory -= b->memory;
	a->queue -= b->queue;
	a->charged -= b->charged;
	a->idle -= b->idle;
}

/* The caches as the end of a step leaves them: its last accesses, with tensors where they were. */
static void warm_caches(struct replay *r)
{
	const struct replay_scenario *s = r->s;
	uint64_t actions = s->first_action[s->events];

	for (uint64_t i = 0; i < actions; i++)
		if (s->action[i].kind == REPLAY_MAP)
			act(r, &s->action[i]);
	for (uint64_t i = s->words - s->warm; i < s->words; i++) {
		uint64_t kind = TRACE_KIND_OF(s->word[i]), line;

		if (kind == TRACE_EVENT || kind == TRACE_TIME)
			continue;
		line = r->line[TRACE_LINE_OF(s->word[i])];
		model_access(r->model, 0, address_of(r, line), 1, kind == TRACE_WRITE);
	}
	memcpy(r->line, s->line, s->dense * REPLAY_LINES * sizeof(*r->line));
}

static void clear_result(struct replay *r)
{
	struct replay_result *result = r->result;

	*result = (struct replay_result){.vcpu = result->vcpu, .moved = result->moved};
	for (uint64_t i = 0; i < r->s->moves; i++)
		result->moved[i] = (struct replay_moved){.begin = -1, .copied = -1, .ended = -1};
}

static void replay_steps(struct replay *r, double *event_ns)
{
	unsigned int vcpus = 1 + (unsigned int)r->s->helpers;
	struct model_counters before[MODEL_CPUS];

	begin_paging(r);
	for (uint64_t i = 0; i < r->s->steps && !r->pager.failed; i++) {
		clear_result(r);
		for (unsigned int cpu = 0; cpu < vcpus; cpu++)
			before[cpu] = model_counters(r->model, cpu);
		r->result->step_ns = replay_step(r, event_ns);
	}
	for (unsigned int cpu = 0; cpu < vcpus; cpu++) {
		r->result->vcpu[cpu] = model_counters(r->model, cpu);
		subtract(&r->result->vcpu[cpu], &before[cpu]);
	}
}

static void *copy(const void *from, size_t size)
{
	void *to = malloc(size ? size : 1);

	if (to && size)
		memcpy(to, from, size);
	return to;
}

int replay_run(const struct replay_scenario *s, double *event_ns, struct replay_result *result,
	       struct replay_counting *counting)
{
	struct replay r = {.s = s, .result = result};
	struct model_config config = *s->config;
	int error = 0;

	config.split = s->pages * MODEL_PAGE;
	config.end = 2 * config.split;
	config.hole[0] = config.hole[1] = 0;
	r.line = copy(s->line, s->dense * REPLAY_LINES * sizeof(*r.line));
	r.page = copy(s->page, s->pages);
	r.group = calloc(s->groups + 1, sizeof(*r.group));
	r.queue = calloc(s->moves * s->steps + 1, sizeof(*r.queue));
	errno = ENOMEM;
	if (r.line && r.page && r.group && r.queue && begin_windows(&r))
		r.model = model_new(&config);
	if (r.model && (!counting || begin_counting(&r, counting))) {
		for (uint64_t i = 0; i < s->groups; i++)
			if (s->group[i].live)
				tensor_born(&r, i, 1);
		warm_caches(&r);
		replay_steps(&r, event_ns);
		error = r.pager.failed ? ECANCELED : 0;
	} else {
		error = errno;
	}
	if (r.model)
		model_free(r.model);
	end_counting(&r);
	end_windows(&r);
	free(r.line);
	free(r.page);
	free(r.group);
	free(r.queue);
	return error;
}
