// SPDX-License-Identifier: GPL-2.0-or-later
#include "dependence.h"

#include <pthread.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static size_t size_of(const struct block *block)
{
	return sizeof(*block) + block->n_changes * sizeof(*block->changes);
}

static int compare(const void *left, const void *right)
{
	size_t size = size_of(left), other = size_of(right);

	if (size != other)
		return size < other ? -1 : 1;
	return memcmp(left, right, size);
}

/*
 * QEMU gives no notice when it drops a translation (7.2 even uses its data later), so blocks are
 * never freed. There are as many as the guest has different code.
 */
const struct block *dependence_block(uint32_t instructions, bool kernel, const struct flow *flow)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static void *blocks;
	uint16_t n = kernel ? 0 : (uint16_t)flow->n_changes;
	struct block *block = malloc(sizeof(*block) + n * sizeof(*block->changes));
	void *found;

	if (!block)
		return NULL;
	*block = (struct block){.instructions = instructions, .kernel = kernel, .n_changes = n};
	memcpy(block->changes, flow->changes, n * sizeof(*block->changes));
	pthread_mutex_lock(&lock);
	found = tsearch(block, &blocks, compare);
	pthread_mutex_unlock(&lock);
	if (!found || *(struct block **)found != block)
		free(block);
	return found ? *(struct block **)found : NULL;
}

void dependence_change(struct dependence *d)
{
	const struct block *block = d->block;
	double ready[DECODER_GENERAL];

	if (!block)
		return;
	for (unsigned int i = 0; i < block->n_changes; i++) /* all at once */
		ready[i] = dependence_ready(d, block->changes[i]);
	for (unsigned int i = 0; i < block->n_changes; i++)
		d->ready[flow_target(block->changes[i])] = ready[i];
}

void dependence_clear(struct dependence *d)
{
	d->waiting = false;
	d->latest = 0;
	d->block = NULL;
	memset(d->ready, 0, sizeof(d->ready));
}

void dependence_read(struct dependence *d, uint64_t word, uint64_t address, double arrival)
{
	unsigned int target = flow_target(word), i = address / 8 % DEPENDENCE_STORED;
	double ready;

	if (!target)
		return;
	ready = dependence_ready(d, word);
	if (arrival > ready)
		ready = arrival;
	if (d->stored[i].address == address && d->stored[i].ready > ready)
		ready = d->stored[i].ready;
	d->ready[target] = ready;
}

void dependence_write(struct dependence *d, uint64_t word, uint64_t address)
{
	unsigned int i = address / 8 % DEPENDENCE_STORED;
	double ready = word & FLOW_STORE ? dependence_ready(d, word) : 0;

	/* Rather remember values that are there later */
	if (ready > d->stored[i].ready || d->stored[i].address == address) {
		d->stored[i].address = address;
		d->stored[i].ready = ready;
	}
}
