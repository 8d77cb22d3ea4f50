/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fake QEMU whose vCPUs execute instructions on request. Functions with `cpu` must be called by
 * the thread of that vCPU, all others by a single thread while no vCPU executes.
 */
#ifndef SENTINEL_TESTS_TIMING_QEMU_H
#define SENTINEL_TESTS_TIMING_QEMU_H

#include <stdbool.h>
#include <stdint.h>

/* Load the plugin into a machine with `cpus` vCPUs. Returns the result of qemu_plugin_install(). */
int qemu_start(const char *config, unsigned int cpus);

/* Map the virtual page at `address` to `physical`. Unmapped addresses are physical ones. */
void qemu_map(uint64_t address, uint64_t physical);

/* Set the machine's clock in ns; if negative, it is CLOCK_MONOTONIC (the default). */
void qemu_set_clock(int64_t ns);

/* Execute `n` instructions without a memory access. */
void qemu_execute(unsigned int cpu, unsigned int n);

/* Execute an instruction in user mode with one access; `rw` is a qemu_plugin_mem_rw. */
void qemu_access(unsigned int cpu, uint64_t address, unsigned int size_shift, unsigned int rw);

/*
 * Execute a block of instructions given by their bytes. qemu_add() adds an instruction to the
 * calling thread's block, with an access if `rw` is not 0; qemu_run() executes the block.
 */
void qemu_add(const uint8_t *bytes, unsigned int size, uint64_t address, unsigned int size_shift,
	      unsigned int rw);
void qemu_run(unsigned int cpu, bool kernel);

void qemu_marker(unsigned int cpu, unsigned int number);
void qemu_kernel_marker(unsigned int cpu, unsigned int number, uint32_t argument);

void qemu_halt(unsigned int cpu);   /* execute HLT and become idle */
void qemu_pause(unsigned int cpu);  /* become idle without HLT */
void qemu_resume(unsigned int cpu); /* end idle time */
void qemu_reset(unsigned int cpu);  /* execute the first instruction after a reset */

#endif
