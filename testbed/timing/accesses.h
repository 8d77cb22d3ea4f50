/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory accesses of the guest: to the model, and to the oracle if it observes the process. */
#ifndef SENTINEL_TIMING_ACCESSES_H
#define SENTINEL_TIMING_ACCESSES_H

#include "vcpu.h"

struct oracle;

extern unsigned int line_bits; /* log2 of the cache line size */
extern struct oracle *oracle;
extern atomic_int observed; /* the process that the oracle observes */

/* Called for each access. `kernel` is not NULL in kernel mode. */
void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *kernel);

/* Drop all shortcuts: mappings of virtual addresses may have changed. */
void forget(unsigned int cpu);

#endif
