/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the address of each memory access in a block of instructions comes from: which earlier
 * loads of the block, and which registers at its begin. Computed once per translation, so that only
 * accesses need work while the block executes. Independent of QEMU.
 *
 * The result is a word for each instruction, and for each register that the block changes. A word
 * has up to FLOW_SOURCES sources and a target, which are numbers of values: 1 to 16 are the general
 * registers at the begin of the block, the others what loads of the block returned. The flags and
 * the vector registers carry values within a block only.
 */
#ifndef SENTINEL_TIMING_DATAFLOW_H
#define SENTINEL_TIMING_DATAFLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decoder.h"

#define FLOW_VALUES  64 /* 0 is no value */
#define FLOW_BITS    6	/* of the number of a value */
#define FLOW_SOURCES 9
#define FLOW_BLOCK   512 /* most instructions in a block */

#define FLOW_SOURCE_BITS (FLOW_BITS * FLOW_SOURCES)
#define FLOW_SOURCE_MASK ((1ULL << FLOW_SOURCE_BITS) - 1)
#define FLOW_STORE	 (1ULL << 60) /* the sources are the stored data, not an address */
#define FLOW_KERNEL	 (1ULL << 61) /* set by the user of this file */

struct flow {
	uint64_t words[FLOW_BLOCK];	   /* by instruction */
	uint64_t changes[DECODER_GENERAL]; /* registers after the block: target and sources */
	unsigned int n_changes;
};

static inline unsigned int flow_target(uint64_t word)
{
	return word >> FLOW_SOURCE_BITS & (FLOW_VALUES - 1);
}

/* Analyse a block of `n` instructions. */
void flow_analyse(struct flow *flow, const struct instruction *instructions, size_t n);

#endif
