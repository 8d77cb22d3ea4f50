// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vCPUs, each in its own thread, concurrently execute random actions of all kinds. Built with a
 * sanitizer, which aborts the program on errors.
 *
 *   races CONFIG SEED
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "markers.h"
#include "qemu.h"

#define CPUS   3
#define ROUNDS 3000
#define SHARED 64 /* pages accessed by all vCPUs */

static unsigned int seed;

static void act(unsigned int cpu, unsigned int choice, unsigned int x)
{
	static const unsigned int markers[] = {
		MARKER_REGION_BEGIN, MARKER_REGION_END, MARKER_STEP_BEGIN,
		MARKER_SERIAL_BEGIN, MARKER_SERIAL_END, MARKER_CLOCK,
		MARKER_OBSERVE,	     MARKER_PAGES,	MARKER_USER,
	};

	if (choice < 60)
		qemu_access(cpu, x % (SHARED * 4096), x >> 20 & 3, 1 + x % 3);
	else if (choice < 80)
		qemu_execute(cpu, x % 400 + 1);
	else if (choice < 83)
		qemu_kernel_marker(cpu, MARKER_PAGE_MIGRATED, x % 2);
	else if (choice < 84)
		qemu_kernel_marker(cpu, MARKER_REMAPPED, x % 300);
	else if (choice < 88)
		qemu_kernel_marker(cpu, MARKER_PROCESS, x % 5);
	else if (choice < 90)
		qemu_kernel_marker(cpu, MARKER_PROCESS_END, x % 5);
	else if (choice < 94)
		qemu_marker(cpu, markers[x % (sizeof(markers) / sizeof(*markers))]);
	else if (choice < 96)
		qemu_pause(cpu), qemu_resume(cpu);
	else if (choice < 98)
		qemu_halt(cpu), qemu_resume(cpu);
	else
		qemu_marker(cpu, MARKER_REGION_BEGIN);
}

static void *vcpu(void *number)
{
	unsigned int cpu = (unsigned int)(uintptr_t)number, state = seed + cpu;

	qemu_kernel_marker(cpu, MARKER_PROCESS, cpu);
	qemu_marker(cpu, MARKER_REGION_BEGIN);
	for (int i = 0; i < ROUNDS; i++) {
		unsigned int choice = (unsigned int)rand_r(&state) % 100;

		act(cpu, choice, (unsigned int)rand_r(&state));
	}
	if (cpu == 0)
		qemu_reset(cpu);
	qemu_halt(cpu);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[CPUS];

	if (argc != 3 || qemu_start(argv[1], CPUS))
		return 2;
	seed = (unsigned int)strtoul(argv[2], NULL, 10);
	for (uintptr_t cpu = 0; cpu < CPUS; cpu++)
		if (pthread_create(&threads[cpu], NULL, vcpu, (void *)cpu))
			return 2;
	for (int cpu = 0; cpu < CPUS; cpu++)
		pthread_join(threads[cpu], NULL);
	return 0;
}
