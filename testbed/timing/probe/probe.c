// SPDX-License-Identifier: Apache-2.0
/*
 * Measure the memory of both nodes in the guest, by the model clock and the guest clock. Linked
 * statically.
 *
 *   probe full CACHE STREAM     latency by size, streams, copies, two vCPUs, load, migration
 *   probe paced CACHE STREAM    latencies and bandwidths only, paced
 *
 * CACHE is the size of the last-level cache in bytes, STREAM the size of a stream, at least 8 times
 * CACHE. Uses memory for four streams, two on each node. vCPU 0 is the compute vCPU, vCPU 1 (if
 * present) the helper. Prints a JSON object for each measurement:
 *
 *   what       read_latency, chase, write_latency, read, write, copy, shared, loaded, migrate,
 *              migrating
 *   node       the measured node; `to` is the target of a copy or a migration
 *   size       working set in bytes
 *   model_ns, guest_ns   per access (latencies), page (migrate), or `size` bytes (all others)
 *   cpu        the measured vCPU; default 0
 *   helper     concurrent transfers of the other vCPU, bytes per model ns
 *   pause      lines streamed between two pauses (loaded); 0: the other vCPU is idle
 *   dilation, needed   of the region, as reported by the plugin
 *   behind     paced: upper bound of the share of time for which the host was late
 */
#define _GNU_SOURCE
#include "probe.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PACED_CHASES 4000
#define MAX_BEHIND   0.005 /* accepted share of time behind, paced */
#define MAX_TRIES    4	   /* each with twice the dilation */
#define MARGIN	     1.5   /* of the dilation over the needed one, to catch up */
#define MAX_DILATION 5000  /* beyond it, the guest's timer interrupts add more than 1 % */

char *memory[NODES], *more[NODES];
size_t cache, stream;
double dilation, needed, behind;
bool silent;

static bool has_helper; /* vCPU 1 exists */

void fail(const char *operation)
{
	perror(operation);
	exit(1);
}

void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static void measure_figures(size_t chases)
{
	for (int node = 0; node < NODES; node++) {
		measure_read_latency(node, stream, chases);
		measure_chase(node, chases);
		measure_write_latency(node, chases);
		measure_read(node);
		measure_write(node);
	}
}

static void measure_latency_paced(int node)
{
	measure_read_latency(node, stream, PACED_CHASES);
}

static void measure_chase_paced(int node)
{
	measure_chase(node, PACED_CHASES);
}

static void measure_write_latency_paced(int node)
{
	measure_write_latency(node, PACED_CHASES);
}

/* Repeat each measurement with twice the dilation while the host is behind. */
static void measure_paced(void)
{
	static void (*const measurements[])(int node) = {measure_latency_paced, measure_chase_paced,
							 measure_write_latency_paced, measure_read,
							 measure_write};

	for (int node = 0; node < NODES; node++)
		for (size_t i = 0; i < sizeof(measurements) / sizeof(*measurements); i++) {
			double initial = dilation;

			measurements[i](node);
			for (int tries = 1;
			     behind > MAX_BEHIND && dilation < MAX_DILATION && tries < MAX_TRIES;
			     tries++) {
				dilation = smaller(2 * dilation, MAX_DILATION);
				measurements[i](node);
			}
			dilation = initial;
		}
}

static void measure_all(void)
{
	static const size_t pauses[] = {0, 24, 96, 248, 496, 1000, 2496, 10000};

	for (int node = 0; node < NODES; node++)
		for (size_t size = cache / 16; size <= 16 * cache && size < stream; size *= 2)
			measure_read_latency(node, size, CHASES);
	measure_figures(CHASES);
	for (int from = 0; from < NODES; from++)
		for (int to = 0; to < NODES; to++)
			measure_copy(from, to);
	if (!has_helper)
		return;
	for (int node = 0; node < NODES; node++) {
		measure_shared(node);
		link_lines(more[0], stream);
		link_lines(more[1], stream);
		for (size_t i = 0; i < sizeof(pauses) / sizeof(*pauses); i++)
			measure_loaded(node, pauses[i]);
		measure_migrate(node, !node);
		measure_migrating(node, !node);
	}
}

int main(int argc, char **argv)
{
	cache = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	stream = argc == 4 ? strtoul(argv[3], NULL, 10) / LINE * LINE : 0;
	if (!cache || stream < 8 * cache || (strcmp(argv[1], "full") && strcmp(argv[1], "paced"))) {
		fprintf(stderr, "usage: probe full|paced CACHE STREAM\n");
		return 2;
	}
	has_helper = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	run_on(0);
	for (int node = 0; node < NODES; node++) {
		memory[node] = allocate(node, stream);
		more[node] = allocate(node, stream);
	}
	if (!strcmp(argv[1], "full")) {
		measure_all();
		return 0;
	}
	silent = true; /* determine the needed dilation */
	measure_figures(PACED_CHASES);
	silent = false;
	dilation = smaller(MARGIN * needed, MAX_DILATION);
	measure_paced();
	return 0;
}
