/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The timing model: what memory accesses and instructions cost on the machine that a preset
 * describes. It knows nothing of QEMU. Times are model nanoseconds, sizes bytes.
 */
#ifndef SENTINEL_TIMING_MODEL_H
#define SENTINEL_TIMING_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_NODES 2
#define MODEL_CPUS  64
#define MODEL_PAGE  4096 /* bytes */

struct model_node {
	double read_latency, write_latency;	/* ns, of accesses that wait for each other */
	double read_bandwidth, write_bandwidth; /* bytes per ns, which is GB/s */
};

struct model_config {
	struct model_node node[MODEL_NODES];
	/* Physical addresses, all of them multiples of a page */
	uint64_t split;	     /* first one of node 1 */
	uint64_t end;	     /* and the first one beyond it */
	uint64_t hole[2];    /* [hole[0], hole[1]) are no memory */
	uint64_t cache_size; /* bytes; of each vCPU, or of all together */
	uint32_t cache_ways;
	uint32_t cache_line; /* bytes, a power of two */
	uint32_t cache_shared;
	uint32_t memory_mode;		/* node 0 is a direct-mapped cache of node 1 */
	double write_buffer;		/* ns that written-back lines may lag behind */
	double instruction[MODEL_CPUS]; /* ns, by vCPU */
	double parallelism[MODEL_CPUS]; /* misses in flight at once, by vCPU */
};

/* What happened so far, of one vCPU. */
struct model_counters {
	uint64_t instructions;
	uint64_t accesses;	      /* loads and stores to memory */
	uint64_t misses[MODEL_NODES]; /* lines fetched */
	uint64_t bytes_read[MODEL_NODES];
	uint64_t bytes_written[MODEL_NODES];
	uint64_t hits_near;			      /* memory mode: misses that node 0 had */
	double compute, memory, queue, charged, idle; /* ns */
};

struct model;

/* Returns NULL with errno set: EINVAL if the configuration makes no sense, ENOMEM. */
struct model *model_new(const struct model_config *config);
void model_free(struct model *m);

/* vCPU `cpu` executed `n` instructions. Every function of one vCPU is called by one thread. */
void model_execute(struct model *m, unsigned int cpu, uint64_t n);

/*
 * It accesses `size` bytes at physical address `address`. Returns how many lines it missed. An
 * access ends with its page: bytes beyond it are elsewhere in memory, and another access.
 */
unsigned int model_access(struct model *m, unsigned int cpu, uint64_t address, unsigned int size,
			  bool store);

/*
 * A shortcut for accesses that follow each other in one line. Remember that the line at physical
 * `address`, which was accessed just now, goes by `key`, any number but the largest; later
 * model_again() is that access if it returns true: the line is still in the cache. Forget the keys
 * when they may mean other lines.
 */
void model_remember(struct model *m, unsigned int cpu, uint64_t address, uint64_t key);
bool model_again(struct model *m, unsigned int cpu, uint64_t key, bool store);
void model_forget(struct model *m, unsigned int cpu);

/* Its next misses depend on each other (true), or overlap as the preset says (false). */
void model_serial(struct model *m, unsigned int cpu, bool serial);

/* It spends `ns` on something the model does not see, like the fixed cost of migrating a page. */
void model_charge(struct model *m, unsigned int cpu, double ns);

/* It was idle until `clock`, if that is later than its own. */
void model_wake(struct model *m, unsigned int cpu, double clock);

/* ns since the beginning. May be read by any thread. */
double model_clock(const struct model *m, unsigned int cpu);

/* May be called by any thread. */
struct model_counters model_counters(const struct model *m, unsigned int cpu);

#endif
