/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bandwidth of a node, shared by vCPUs. Independent of QEMU. The node's time is divided into
 * slots. A request is served from the first slots, at or after its own time, that have time left.
 * The clocks of vCPUs differ by up to the window, so requests do not arrive in the order of their
 * times. A request that finds a slot used up is still entitled to its fair share, which it takes
 * from the vCPU with the largest share. That vCPU's next request is prolonged by the same time (its
 * debt). So bandwidth is shared max-min fairly, regardless of the order in which the host runs
 * vCPUs, and is never allocated twice.
 */
#ifndef SENTINEL_TIMING_BANDWIDTH_H
#define SENTINEL_TIMING_BANDWIDTH_H

#include <stdatomic.h>
#include <stdint.h>

#include "model.h"

#define SLOTS 4096 /* in a ring: 1 ms, far more than any window */

struct slot {
	uint64_t number; /* time / SLOT */
	uint64_t users;	 /* one bit per vCPU */
	uint32_t used;	 /* units */
	uint32_t taken[MODEL_CPUS];
};

struct queue {
	struct slot slots[SLOTS];
	atomic_flag lock;
	uint64_t debt[MODEL_CPUS]; /* units */
	double use[MODEL_CPUS];	   /* share of the node's time, at `last` */
	double last[MODEL_CPUS];   /* time of the last request */
	unsigned int cpus;	   /* highest vCPU with a request, plus 1 */
};

/* Allocate `service` ns of the node's time from time `t` on. Returns when the request completes. */
double bandwidth_serve(struct queue *q, unsigned int cpu, double t, double service);

/*
 * Returns the wait of a single request due to other vCPUs' use of the node, in services: that of a
 * queue with random arrivals and fixed service times (M/D/1), but at most all requests that the
 * others can have in flight. `parallelism` is the number of these by vCPU.
 */
double bandwidth_wait(struct queue *q, unsigned int cpu, double t, const double *parallelism);

#endif
