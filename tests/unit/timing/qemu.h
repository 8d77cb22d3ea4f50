/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stand-in for QEMU: its vCPUs execute what they are told. A function with `cpu` is called by the
 * thread of that vCPU, and everything else by one thread while no vCPU executes.
 */
#ifndef SENTINEL_TESTS_TIMING_QEMU_H
#define SENTINEL_TESTS_TIMING_QEMU_H

#include <stdint.h>

/* Load the plugin into a machine with this many vCPUs. Returns what the plugin returns. */
int qemu_start(const char *config, unsigned int cpus);

/* The virtual page at `address` is the physical one at `physical`; else they are the same. */
void qemu_map(uint64_t address, uint64_t physical);

/* The machine's own clock: this, in ns; negative: CLOCK_MONOTONIC. */
void qemu_set_clock(int64_t ns);

/* Execute `n` instructions without a memory access. */
void qemu_execute(unsigned int cpu, unsigned int n);

/* Execute an instruction of a user program with one access; `rw` as in qemu_plugin_mem_rw. */
void qemu_access(unsigned int cpu, uint64_t address, unsigned int size_shift, unsigned int rw);

void qemu_marker(unsigned int cpu, unsigned int number);
void qemu_kernel_marker(unsigned int cpu, unsigned int number, uint32_t argument);

void qemu_halt(unsigned int cpu);   /* execute HLT, and be idle */
void qemu_pause(unsigned int cpu);  /* be idle without it */
void qemu_resume(unsigned int cpu); /* be idle no more */
void qemu_reset(unsigned int cpu);  /* execute the first instruction after a reset */

#endif
