/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The timing model: the cost of memory accesses and instructions on the machine described by a
 * preset. Independent of QEMU. Times are model nanoseconds, sizes bytes.
 */
#ifndef SENTINEL_TIMING_MODEL_H
#define SENTINEL_TIMING_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_NODES 2
#define MODEL_CPUS  64
#define MODEL_PAGE  4096 /* bytes */

struct model_node {
	double read_latency, write_latency;	/* ns, of dependent accesses */
	double read_bandwidth, write_bandwidth; /* bytes per ns (GB/s) */
};

struct model_config {
	struct model_node node[MODEL_NODES];
	/* Physical addresses, page-aligned */
	uint64_t split;	     /* start of node 1 */
	uint64_t end;	     /* end of node 1 */
	uint64_t hole[2];    /* [hole[0], hole[1]) is not memory */
	uint64_t cache_size; /* bytes, per vCPU or shared */
	uint32_t cache_ways;
	uint32_t cache_line; /* bytes, a power of two */
	uint32_t cache_shared;
	uint32_t memory_mode; /* node 0 is a direct-mapped cache of node 1 */
	uint64_t near_size;   /* memory mode: bytes of that cache, apart from node 0; 0: node 0 */
	double write_buffer;  /* ns by which write-backs may lag behind */
	double instruction[MODEL_CPUS]; /* ns, by vCPU */
	double parallelism[MODEL_CPUS]; /* misses in flight at once, by vCPU */
	double remap, remap_page;	/* ns to remap a window, and for each of its pages */
	double shootdown; /* ns that vCPU 0 loses when another vCPU has remapped a window */
	double cores;	  /* that vCPU 0 stands for */
};

/* Counters of one vCPU */
struct model_counters {
	uint64_t instructions;
	uint64_t accesses;	      /* loads and stores to memory */
	uint64_t misses[MODEL_NODES]; /* lines fetched */
	uint64_t bytes_read[MODEL_NODES];
	uint64_t bytes_written[MODEL_NODES];
	uint64_t hits_near;			      /* memory mode: misses that hit node 0 */
	double compute, memory, queue, charged, idle; /* ns */
};

struct model;

/* Returns NULL with errno set: EINVAL if the configuration is invalid, or ENOMEM. */
struct model *model_new(const struct model_config *config);
void model_free(struct model *m);

/*
 * Account for `n` instructions of vCPU `cpu`. Functions with `cpu` must be called by the thread of
 * that vCPU, unless stated otherwise.
 */
void model_execute(struct model *m, unsigned int cpu, uint64_t n);

/*
 * Access `size` bytes at physical address `address`. Returns the number of lines that missed. Bytes
 * beyond the page are ignored: the next virtual page is elsewhere in physical memory.
 */
unsigned int model_access(struct model *m, unsigned int cpu, uint64_t address, unsigned int size,
			  bool store);

/*
 * Dependences. The following accesses wait for a value that is there at time `ns` (0: they do not
 * wait). Fetching a line then begins at `ns`; the vCPU goes on meanwhile, as far as its misses in
 * flight permit.
 */
void model_issue_after(struct model *m, unsigned int cpu, double ns);

/*
 * Returns when the data of the last model_access(), or of the line with a key (see below), are
 * there: the latest of its lines.
 */
double model_arrival(const struct model *m, unsigned int cpu);
double model_arrival_of(const struct model *m, unsigned int cpu, uint64_t key);

/* Returns whether something that arrives at `ns` is still awaited. */
bool model_awaits(const struct model *m, unsigned int cpu, double ns);

/* Wait for all misses that waited for others. */
void model_drain(struct model *m, unsigned int cpu);

/* Returns the ns that waiting for other misses has added to the clock. Any thread. */
double model_waited(const struct model *m, unsigned int cpu);

/*
 * A shortcut for consecutive accesses to one line. model_remember() assigns `key`, any number but
 * the largest, to the line at physical `address`, which was just accessed. model_again() accesses
 * the line by its key if it is still in the cache; otherwise it returns false and does nothing.
 * model_forget() drops all keys; call it when they may refer to other lines.
 */
void model_remember(struct model *m, unsigned int cpu, uint64_t address, uint64_t key);
bool model_again(struct model *m, unsigned int cpu, uint64_t key, bool store);
void model_forget(struct model *m, unsigned int cpu);

/* Call `evicted` with the number of each dirty line that a private cache evicts. */
void model_watch(struct model *m, void (*evicted)(void *data, uint64_t line), void *data);

/* Set whether the following misses are dependent, or overlap as configured. */
void model_serial(struct model *m, unsigned int cpu, bool serial);

/* Add `ns` for work that is not modelled, such as the fixed time to migrate a page. */
void model_charge(struct model *m, unsigned int cpu, double ns);

/*
 * Charge a vCPU for the remapping of a window, and interrupt vCPU 0 for it. Other processors will
 * use what was copied: helpers lose the lines in their own caches, which the model does not keep
 * coherent otherwise.
 */
void model_remap(struct model *m, unsigned int cpu, uint64_t pages);

/*
 * Change the number of cores that migrate instead of computing for vCPU 0, whose instructions take
 * longer accordingly. Any thread.
 */
void model_migrating(struct model *m, int change);

/* Advance the vCPU's clock to `clock`, as idle time. No effect if it is ahead. */
void model_wake(struct model *m, unsigned int cpu, double clock);

/* Returns the vCPU's clock, with the misses that it would have to wait for now. Any thread. */
double model_clock(const struct model *m, unsigned int cpu);

/* Returns a copy of the vCPU's counters. Any thread. */
struct model_counters model_counters(const struct model *m, unsigned int cpu);

#endif
