/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUs for migration threads: all but CPU 0, which computes. */
#ifndef SENTINEL_RUNTIME_MIGRATION_CORES_H
#define SENTINEL_RUNTIME_MIGRATION_CORES_H

namespace sentinel
{

/* Online CPUs but CPU 0; at least 1. */
int migration_cores();

/* Bind this thread to the `number`-th of them, from 0, if CPU 0 is not the only one. */
void run_on_migration_core(int number);

/* Let this thread run on all of them. */
void leave_cpu_0();

} // namespace sentinel

#endif
