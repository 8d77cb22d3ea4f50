/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeping vCPUs together (synchronised), or to a fixed rate of real time (paced). Functions with
 * `cpu` or a vCPU are called by its thread.
 */
#ifndef SENTINEL_TIMING_PACING_H
#define SENTINEL_TIMING_PACING_H

#include "vcpu.h"

struct pacing_summary {
	double dilation; /* 0: synchronised */
	double needed;	 /* dilation that the host sustains */
	double behind;	 /* share of time */
};

/* Start the model with the requested dilation, or synchronised if that is less than 1. */
void start_pacing(double requested);

/* Summarise the time since the last start. */
struct pacing_summary summarise_pacing(void);

/* Called for each block; `data` is its struct block. */
void on_block(unsigned int cpu, void *data);

/* Report pending instructions to the model. */
void flush_pending(unsigned int cpu);

/* Adopt the clock and pace of the last start of the model, if the vCPU has not done so yet. */
void check_start(unsigned int cpu);

/* Account for idle time if the vCPU was halted, and begin a sample of the host's speed. */
void end_idle(unsigned int cpu);

/* Returns the lag of the vCPU, in real ns (see pace_late()). */
double ns_late(unsigned int cpu);

#endif
