// SPDX-License-Identifier: GPL-2.0-or-later
#include "bandwidth.h"

#include "spinlock.h"

#define SLOT 256.0 /* ns */
#define UNIT 256.0 /* units of service time per ns */
#define FULL ((uint32_t)(SLOT * UNIT))

/* Recent use of a node by other vCPUs delays single requests. */
#define USE_NS	  1000.0   /* period over which use is averaged */
#define RECENT_NS 100000.0 /* ignore vCPUs whose last use is further away */
#define MAX_USE	  0.999

/* Take `more` units of a slot from the vCPU with the largest share, other than `cpu`. */
static void take_from_largest(struct queue *q, struct slot *slot, unsigned int cpu, uint32_t more)
{
	unsigned int largest = cpu;

	for (uint64_t users = slot->users & ~(1ULL << cpu); users; users &= users - 1) {
		unsigned int other = (unsigned int)__builtin_ctzll(users);

		if (largest == cpu || slot->taken[other] > slot->taken[largest])
			largest = other;
	}
	if (more > slot->taken[largest])
		more = slot->taken[largest];
	slot->taken[largest] -= more;
	q->debt[largest] += more;
}

/* Update the average use of a node: `cpu` uses it for `service` ns at time `t`. */
static void record_use(struct queue *q, unsigned int cpu, double t, double service)
{
	double elapsed = t - q->last[cpu];

	if (elapsed < 0)
		elapsed = 0;
	q->use[cpu] *= elapsed < USE_NS ? 1 - elapsed / USE_NS : 0;
	q->use[cpu] += service / USE_NS;
	q->last[cpu] = t;
	if (q->cpus <= cpu)
		q->cpus = cpu + 1;
}

double bandwidth_serve(struct queue *q, unsigned int cpu, double t, double service)
{
	uint64_t need = (uint64_t)(service * UNIT + 0.5), number = (uint64_t)(t / SLOT);
	uint32_t offset = (uint32_t)((t - (double)number * SLOT) * UNIT), turn, at;
	double end = t + service;

	lock(&q->lock);
	record_use(q, cpu, t, service);
	need += q->debt[cpu];
	q->debt[cpu] = 0;
	for (;; number++, offset = 0) {
		struct slot *slot = &q->slots[number % SLOTS];
		uint32_t left, fair, take, users;

		if (slot->number > number) /* too old: no longer in the ring */
			break;
		if (slot->number < number)
			*slot = (struct slot){.number = number};
		slot->users |= 1ULL << cpu;
		users = (uint32_t)__builtin_popcountll(slot->users);
		left = FULL - slot->used;
		fair = FULL / users;
		fair = fair > slot->taken[cpu] ? fair - slot->taken[cpu] : 0;
		take = left > fair ? left : fair;
		if (take > need)
			take = (uint32_t)need;
		if (take > left)
			take_from_largest(q, slot, cpu, take - left);
		slot->used = take > left ? FULL : slot->used + take;
		slot->taken[cpu] += take;
		need -= take;
		if (need)
			continue;
		/* Complete in order of all requests, or at the rate of the fair share if that is
		 * sooner. */
		turn = slot->used < (uint64_t)slot->taken[cpu] * users ? slot->used
								       : slot->taken[cpu] * users;
		at = offset + take < FULL ? offset + take : FULL;
		if (turn > at)
			at = turn;
		if ((double)number * SLOT + at / UNIT > end)
			end = (double)number * SLOT + at / UNIT;
		break;
	}
	unlock(&q->lock);
	return end;
}

double bandwidth_wait(struct queue *q, unsigned int cpu, double t, const double *parallelism)
{
	double busy = 0, in_flight = 0, own, wait;

	lock(&q->lock);
	own = q->use[cpu];
	for (unsigned int i = 0; i < q->cpus; i++) {
		double age = t - q->last[i];

		if (i == cpu || !(q->use[i] > 0) || age > RECENT_NS || age < -RECENT_NS)
			continue;
		busy += q->use[i];
		in_flight += parallelism[i];
	}
	unlock(&q->lock);
	if (!in_flight)
		return 0;
	if (busy > 1 - own) /* the others get at most what this vCPU leaves */
		busy = 1 - own;
	if (busy < 0)
		busy = 0;
	if (busy > MAX_USE)
		busy = MAX_USE;
	wait = busy / (2 * (1 - busy));
	return wait < in_flight ? wait : in_flight;
}
