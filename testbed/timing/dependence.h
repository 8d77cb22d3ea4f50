/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the values are there that a vCPU computes addresses from: a scoreboard. Independent of QEMU
 * and of the model; all times are those of the model.
 *
 * A value that a load returned is there when its line arrives, one that is computed from others
 * when the last of them is there. dataflow.h says which these are. A value that is stored and
 * loaded again keeps its time.
 */
#ifndef SENTINEL_TIMING_DEPENDENCE_H
#define SENTINEL_TIMING_DEPENDENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "dataflow.h"

#define DEPENDENCE_STORED 256 /* stored values that are remembered */

/* What the execution of a block changes. Equal blocks are one object, which exists for ever. */
struct block {
	uint32_t instructions;
	uint16_t kernel;    /* it is the kernel's */
	uint16_t n_changes; /* registers that it changes */
	uint64_t changes[]; /* words of dataflow.h */
};

struct dependence {
	bool waiting;  /* a value may not be there yet; if false, nothing needs to be followed */
	double latest; /* when the last value is there */
	double ready[FLOW_VALUES]; /* when each value of the block is there */
	const struct block *block; /* that executes, or NULL */
	struct {
		uint64_t address;
		double ready;
	} stored[DEPENDENCE_STORED]; /* by address */
};

/* Returns the block with these properties. NULL if out of memory. Thread-safe. */
const struct block *dependence_block(uint32_t instructions, bool kernel, const struct flow *flow);

/* Begin a block: apply what the last one changed. `waiting` may become false by the caller. */
void dependence_change(struct dependence *d);

/* All values are there. */
void dependence_clear(struct dependence *d);

/* Returns when all sources of `word` are there. */
static inline double dependence_ready(const struct dependence *d, uint64_t word)
{
	double last = 0;

	for (word &= FLOW_SOURCE_MASK; word; word >>= FLOW_BITS) {
		double ready = d->ready[word & (FLOW_VALUES - 1)];

		last = ready > last ? ready : last;
	}
	return last;
}

/*
 * Follow an access by an instruction with `word`, when values are awaited: a read (and perhaps a
 * write) of a line that arrives at `arrival`, or a write alone.
 */
void dependence_read(struct dependence *d, uint64_t word, uint64_t address, double arrival);
void dependence_write(struct dependence *d, uint64_t word, uint64_t address);

/* Something arrives at `arrival`, later than now. */
static inline void dependence_await(struct dependence *d, double arrival)
{
	d->waiting = true;
	if (arrival > d->latest)
		d->latest = arrival;
}

#endif
