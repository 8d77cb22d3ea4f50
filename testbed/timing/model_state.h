/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State of the model that its parts share. */
#ifndef SENTINEL_TIMING_MODEL_STATE_H
#define SENTINEL_TIMING_MODEL_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bandwidth.h"
#include "llc.h"
#include "model.h"

#define RECENT	  1024 /* lines that are found without a search */
#define SHORTCUTS 256  /* lines that are found by key, without a physical address */

struct cpu {
	struct cache *cache;
	double clock;	      /* when the next instruction executes */
	double awaited;	      /* when the last miss that waited for another one is complete */
	double issue_after;   /* when the address of the following accesses is known */
	double arrival;	      /* when the data of the last access are there */
	double waited;	      /* ns of the clock that are due to dependences */
	_Atomic double shown; /* the later of `clock` and `awaited`, for other threads */
	bool serial;
	uint64_t remaps;	     /* that the cache has seen */
	struct line *recent[RECENT]; /* by line number % RECENT */
	struct {
		uint64_t tag; /* line number + 1; 0: empty */
		double arrival;
	} fetched[RECENT]; /* by line number % RECENT */
	struct {
		uint64_t key, tag;
		struct line *line;
	} shortcuts[SHORTCUTS]; /* by key % SHORTCUTS */
	struct model_counters counters;
} __attribute__((aligned(128)));

struct model {
	struct model_config config;
	unsigned int line_bits;
	double service[MODEL_NODES][2]; /* ns to read and to write a line at full bandwidth */
	struct cache *caches;
	_Atomic uint64_t *near; /* memory mode, by line of the cache: (line + 1) << 1 | dirty */
	uint64_t near_lines;
	void (*evicted)(void *data, uint64_t line); /* may be NULL */
	void *evicted_data;
	struct queue queues[MODEL_NODES];
	atomic_int migrating;	     /* cores that do not compute for vCPU 0 */
	_Atomic uint64_t remaps;     /* all so far */
	_Atomic uint64_t shootdowns; /* that vCPU 0 has not lost time for yet */
	struct cpu cpus[MODEL_CPUS];
};

/* Counters have a single writer and concurrent readers. */
static inline void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void spend(double *counter, double ns)
{
	double sum = *counter + ns;

	__atomic_store(counter, &sum, __ATOMIC_RELAXED);
}

/* Show the vCPU's clock to other threads. */
static inline void show(struct cpu *c)
{
	atomic_store_explicit(&c->shown, c->clock > c->awaited ? c->clock : c->awaited,
			      memory_order_relaxed);
}

/*
 * Account for the time of a miss: read the line, or nothing for most stores. Returns when the line
 * arrives; 0: it was not read.
 */
double memory_miss(struct model *m, unsigned int cpu, uint64_t line, bool store);

/* Write a dirty line that the cache evicts to its node. */
void memory_evict(struct model *m, unsigned int cpu, uint64_t line);

#endif
