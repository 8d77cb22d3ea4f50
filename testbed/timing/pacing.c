// SPDX-License-Identifier: GPL-2.0-or-later
#include "pacing.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "accesses.h"
#include "pace.h"

#define SYNC_INSTRUCTIONS 2000 /* maximum number of instructions between synchronisations */
#define SYNCS_PER_WINDOW  4
#define BATCH		  256	/* instructions that are accounted for together */
#define HOLD_NS		  50000 /* duration of one sleep */
#define MAX_HOLDS	  20	/* consecutive sleeps before the guest continues */
#define PACE_CHECK_NS	  20e3	/* paced: real ns between checks of the time */
#define SLEEP_OVERRUN_NS  150e3 /* a sleep may take this much longer than requested */
#define SAMPLE_NS	  1e6	/* real ns of one sample of the host's speed */
#define BEHIND_LIMIT	  0.004 /* accepted share of time behind, for the needed dilation */

/* Protects the pace, and the start of the model */
static pthread_mutex_t pace_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pace pace; /* of the last start; dilation is 0 in synchronised mode */
static struct pace_demand demand;
static atomic_uint starts;	   /* number of starts of the model */
static _Atomic double start_clock; /* model clock at the last start */

/* Returns the lowest clock of all busy vCPUs except `cpu`, or -1 if there are none. */
static double slowest_other_clock(unsigned int cpu)
{
	double slowest = -1, start = start_clock;

	for (unsigned int i = 0; i < n_vcpus; i++) {
		double clock;

		if (i == cpu || !vcpus[i].present || !vcpus[i].busy)
			continue;
		clock = model_clock(model, i);
		if (clock < start) /* it has not seen the start of the model yet */
			clock = start;
		if (slowest < 0 || clock < slowest)
			slowest = clock;
	}
	return slowest;
}

/* Returns the highest clock of all vCPUs, idle or busy. */
static double latest_clock(void)
{
	double latest = 0;

	for (unsigned int i = 0; i < n_vcpus; i++)
		if (model_clock(model, i) > latest)
			latest = model_clock(model, i);
	return latest;
}

static double host_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Returns real time in ns, excluding pauses of the machine. */
static double real_now(void)
{
	return cpu_get_clock ? (double)cpu_get_clock() : host_now();
}

static void begin_sample(struct vcpu *v, double now, double clock)
{
	v->sample_real = now;
	v->sample_model = clock;
	v->sample_held = 0;
}

/* End the current sample if it is long enough: record real and model time. */
static void end_sample(struct vcpu *v, double clock)
{
	double now = real_now(), elapsed = now - v->sample_real - v->sample_held;

	if (elapsed < SAMPLE_NS)
		return;
	pthread_mutex_lock(&pace_lock);
	pace_observe(&demand, elapsed, clock - v->sample_model);
	pthread_mutex_unlock(&pace_lock);
	begin_sample(v, now, clock);
}

/* Synchronised: wait while the vCPU is ahead of the slowest by more than the window. */
static void synchronise(unsigned int cpu)
{
	static const struct timespec hold = {0, HOLD_NS};
	struct vcpu *v = &vcpus[cpu];
	double since = 0;

	publish(cpu);
	end_sample(v, model_clock(model, cpu));
	for (int i = 0; i < MAX_HOLDS && active; i++) {
		double slowest = slowest_other_clock(cpu);

		if (slowest < 0 || model_clock(model, cpu) <= slowest + options.window)
			break;
		if (!since)
			since = real_now();
		increment(&v->held);
		nanosleep(&hold, NULL);
	}
	if (since)
		v->sample_held += real_now() - since;
}

/* Returns how far the model clock is ahead of real time, in real ns. */
static double ns_ahead(double clock)
{
	double ahead;

	pthread_mutex_lock(&pace_lock);
	ahead = pace_ahead(&pace, real_now(), clock);
	pthread_mutex_unlock(&pace_lock);
	return ahead;
}

/* Returns the lag of the vCPU, in real ns (see pace_late()). */
double ns_late(unsigned int cpu)
{
	double late;

	pthread_mutex_lock(&pace_lock);
	late = pace_late(&pace, real_now(), model_clock(model, cpu));
	pthread_mutex_unlock(&pace_lock);
	return late;
}

/*
 * Paced: wait until real time catches up with the model clock. Gives up after MAX_HOLDS, because
 * the machine's time stops before its vCPUs do when it is paused.
 */
static void keep_pace(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double clock = model_clock(model, cpu), began = host_now(), ahead;

	publish(cpu);
	while ((ahead = ns_ahead(clock)) > 0 && active) {
		if (host_now() - began > (double)MAX_HOLDS * HOLD_NS) {
			v->since_batch = BATCH; /* check again at the next block */
			return;
		}
		if (ahead > 2 * SLEEP_OVERRUN_NS) {
			increment(&v->held);
			nanosleep(&(struct timespec){0, HOLD_NS}, NULL);
		}
	}
	v->checked_at = clock;
	if (ahead < -PACE_TOLERANCE) {
		pthread_mutex_lock(&pace_lock);
		pace_behind(&pace, real_now(), clock);
		pthread_mutex_unlock(&pace_lock);
	}
}

/* Set the vCPU's clock and pace to those of the last start of the model. */
static COLD void adopt_start(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	struct pace p;

	pthread_mutex_lock(&pace_lock);
	p = pace;
	v->start = starts;
	pthread_mutex_unlock(&pace_lock);
	model_wake(model, cpu, p.model);
	v->checked_at = p.model;
	v->dilation = p.dilation;
	begin_sample(v, p.real, p.model);
}

/* Check whether the model was started since the last check. */
void check_start(unsigned int cpu)
{
	if (vcpus[cpu].start != atomic_load_explicit(&starts, memory_order_relaxed))
		adopt_start(cpu);
}

/* Report pending instructions to the model. */
void flush_pending(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];

	if (v->pending) {
		model_execute(model, cpu, v->pending);
		v->since_sync += v->pending;
		v->pending = 0;
	}
}

void on_block(unsigned int cpu, void *data)
{
	struct vcpu *v = &vcpus[cpu];
	const struct block *block = data;
	double elapsed;

	if (!active)
		return;
	check_start(cpu);
	v->halted = false;
	if (v->dependence.waiting || v->process != v->followed)
		follow_block(cpu, block);
	else if (!block->kernel)
		v->dependence.block = block;
	v->pending += block->instructions;
	v->executed += block->instructions;
	v->since_batch += block->instructions;
	if (v->since_batch < BATCH)
		return;
	v->since_batch = 0;
	flush_pending(cpu);
	elapsed = model_clock(model, cpu) - v->checked_at;
	if (v->dilation > 0) {
		if (elapsed * v->dilation >= PACE_CHECK_NS)
			keep_pace(cpu);
		return;
	}
	if (v->since_sync >= SYNC_INSTRUCTIONS || elapsed >= options.window / SYNCS_PER_WINDOW) {
		v->since_sync = 0;
		v->checked_at += elapsed;
		synchronise(cpu);
	}
}

void start_pacing(double requested)
{
	double latest = latest_clock();

	pthread_mutex_lock(&pace_lock);
	if (requested >= 1) /* earlier samples served to choose this dilation */
		memset(&demand, 0, sizeof(demand));
	pace_begin(&pace, requested >= 1 ? requested : 0, real_now(), latest);
	start_clock = latest;
	starts++;
	pthread_mutex_unlock(&pace_lock);
}

struct pacing_summary summarise_pacing(void)
{
	struct pacing_summary summary;
	double real;

	pthread_mutex_lock(&pace_lock);
	real = real_now() - pace.real;
	summary.dilation = pace.dilation;
	summary.needed = pace_needed(&demand, BEHIND_LIMIT);
	summary.behind = pace.dilation > 0 && real > 0 ? pace.slipped / real : 0;
	pthread_mutex_unlock(&pace_lock);
	return summary;
}

void end_idle(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double now = real_now(), clock;

	if (v->halted) { /* idle until now; otherwise the machine was paused */
		/* Assume that the vCPU with the latest clock woke this one */
		clock = latest_clock();
		if (active && v->dilation > 0) {
			pthread_mutex_lock(&pace_lock);
			clock = pace_model(&pace, now);
			pthread_mutex_unlock(&pace_lock);
		}
		model_wake(model, cpu, clock);
	}
	v->halted = false;
	begin_sample(v, now, model_clock(model, cpu));
}
