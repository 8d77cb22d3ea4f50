/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the probe share. */
#ifndef SENTINEL_PROBE_H
#define SENTINEL_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE   64
#define PAGE   4096
#define NODES  2
#define CHASES 20000 /* dependent accesses per measurement */

struct times {
	uint64_t model, guest;
	/*
	 * Paced: real ns by which the host was late, just before and after. In a difference: upper
	 * bound of the time for which it was late.
	 */
	double late, late_after;
};

extern char *memory[NODES], *more[NODES]; /* two areas of `stream` bytes on each node */
extern size_t cache, stream;		  /* bytes */

extern double dilation; /* of the next region; 0: synchronised */
extern double needed;	/* dilation that the host sustains, as of the last region */
extern double behind;	/* share of time behind in the last measurement */
extern bool silent;	/* print nothing */

/* Print errno and exit. */
void fail(const char *operation);

/* Run the calling thread on one vCPU. */
void run_on(int cpu);

/* accesses.c: memory, and accesses with known patterns */

char *allocate(int node, size_t size);

/* Link all lines of `p` into a random cycle (Sattolo): each starts with the address of the next. */
void link_lines(char *p, size_t size);

/* Follow `steps` links. Returns the last line. */
void *chase(void *at, size_t steps);

/* Store to `steps` distinct lines of `p` in pseudo-random order; `lines` is a power of 2. */
void scatter(char *p, size_t lines, size_t first, size_t steps);

void read_lines(const char *p, size_t size);
void write_lines(char *p, size_t size);
void copy_lines(char *to, const char *from, size_t size);

/* Evict all lines from the cache, with write-back of dirty ones. */
void clear_cache(int node);

/* region.c: regions of interest and their times */

struct times now(void);
struct times since(struct times start);

/* Begin a region with the current dilation. */
void begin(void);

/*
 * End the region, and print its measurement: the times divided by `per`, and `fields`, further JSON
 * members.
 */
void end(const char *what, int node, size_t size, struct times elapsed, double per,
	 const char *fields);

/* one_vcpu.c */

void measure_read_latency(int node, size_t size, size_t steps);
void measure_write_latency(int node, size_t steps);

/*
 * Measure dependent reads like measure_read_latency(), which must have linked the stream, but
 * without a marker: the model has to find the dependences.
 */
void measure_chase(int node, size_t steps);

void measure_read(int node);
void measure_write(int node);
void measure_copy(int from, int to);

/* two_vcpus.c: vCPU 0 measures while vCPU 1 works, or the other way round */

void measure_shared(int node);

/*
 * Measure dependent reads by vCPU 1 while vCPU 0 streams `pause` lines at a time, each followed by
 * a dependent read on the other node.
 */
void measure_loaded(int node, size_t pause);

void measure_migrate(int from, int to);

/* Measure reads of node `from` by vCPU 0 while vCPU 1 migrates pages away from it. */
void measure_migrating(int from, int to);

#endif
