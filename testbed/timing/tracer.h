/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A trace of vCPU 0's memory accesses, from which sentinel/replay can compute the time of the same
 * accesses under another placement. Functions are called by the thread of vCPU 0.
 *
 * A trace is a gzip file of words (trace_words.h).
 *
 * A line that was traced less than FILTER_AGE words ago, and that no other line of the same filter
 * entry has followed, is left out: any cache much larger than the filter still has it.
 */
#ifndef SENTINEL_TIMING_TRACER_H
#define SENTINEL_TIMING_TRACER_H

#include "trace_words.h"
#include "vcpu.h"

extern bool tracing; /* between trace_begin() and trace_end() */

/* Start a trace in the folder of the log. A trace that is open is dropped. */
void trace_begin(void);

/* End the trace. Returns the name of its file, which is complete, or NULL. */
const char *trace_end(void);

/* Leave accesses and instructions out of the trace, or no longer. */
void trace_pause(bool pause);

/* An event of the traced program: the nth that it marks is the nth of the trace. */
void trace_event(void);

/* An access to `address`, which is known at `ready` on the model clock; 0: long since. */
void trace_access(qemu_plugin_meminfo_t info, uint64_t address, struct kind kind, double ready);

/* The data of the last access arrive at `arrival`. */
void trace_arrival(double arrival);

/* All data in flight arrive before the next access. */
void trace_fence(void);

#endif
