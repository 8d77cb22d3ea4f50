/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory accesses of the guest: to the model, and to the oracle if it observes the process. */
#ifndef SENTINEL_TIMING_ACCESSES_H
#define SENTINEL_TIMING_ACCESSES_H

#include "vcpu.h"

struct oracle;

extern unsigned int line_bits; /* log2 of the cache line size */
extern struct oracle *oracle;
extern atomic_int observed; /* the process that the oracle observes */

/* Called for each access by an instruction with the word `data` (dataflow.h). */
void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data);

/* Called for an instruction that waits for all earlier loads. */
void on_fence(unsigned int cpu, void *data);

/* The vCPU begins a block while values are awaited, or after a switch between processes. */
void follow_block(unsigned int cpu, const struct block *block);

/* Drop all shortcuts: mappings of virtual addresses may have changed. */
void forget(unsigned int cpu);

#endif
