// SPDX-License-Identifier: GPL-2.0-or-later
/* Traffic by tensor and operation. */
#include <stdlib.h>

#include "state.h"

/* The entry of a tensor for the current operation; 0 if there is none. */
static uint32_t entry_of(struct counts *c, uint32_t tensor)
{
	struct replay_counting *to = c->to;

	if (c->op < 0)
		return 0;
	if (!c->entry[tensor] || c->entry_op[tensor] != c->op) {
		if (to->used < to->size)
			to->traffic[to->used] =
				(struct replay_traffic){tensor, (uint64_t)c->op, 0, 0};
		c->entry[tensor] = (uint32_t)++to->used;
		c->entry_op[tensor] = c->op;
	}
	return to->used <= to->size ? c->entry[tensor] : 0;
}

void count_access(struct replay *r, uint64_t dense, bool missed, bool store)
{
	struct counts *c = &r->counts;
	uint32_t entry;

	if (!c->owner[dense])
		return;
	entry = entry_of(c, c->owner[dense] - 1);
	if (!entry)
		return;
	if (store)
		c->writer[dense] = entry;
	else
		c->to->traffic[entry - 1].read += missed;
}

static void count_eviction(void *data, uint64_t line)
{
	struct replay *r = data;
	uint64_t dense = line % (r->s->pages * REPLAY_LINES);

	if (r->counts.writer[dense])
		r->counts.to->traffic[r->counts.writer[dense] - 1].written++;
}

bool begin_counting(struct replay *r, struct replay_counting *to)
{
	struct counts *c = &r->counts;
	uint64_t lines = r->s->dense * REPLAY_LINES;

	c->owner = calloc(lines + 1, sizeof(*c->owner));
	c->writer = calloc(lines + 1, sizeof(*c->writer));
	c->entry = calloc(to->tensors + 1, sizeof(*c->entry));
	c->entry_op = calloc(to->tensors + 1, sizeof(*c->entry_op));
	if (!c->owner || !c->writer || !c->entry || !c->entry_op)
		return false;
	c->to = to;
	c->op = -1;
	to->used = 0;
	model_watch(r->model, count_eviction, r);
	return true;
}

void end_counting(struct replay *r)
{
	free(r->counts.owner);
	free(r->counts.writer);
	free(r->counts.entry);
	free(r->counts.entry_op);
}
