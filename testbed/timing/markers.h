/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interface between guest and plugin: markers, and the page of model clocks.
 *
 * A marker is an 8-byte NOP, nopl 0x534e0000+number(%rax,%rax,1). Some markers have an argument of
 * 30 bits: the next two instructions are loads, and the lower 15 bits of their addresses are the
 * lower and the upper half.
 */
#ifndef SENTINEL_TIMING_MARKERS_H
#define SENTINEL_TIMING_MARKERS_H

#include <stdint.h>

#define MARKER_OPCODE	 {0x0f, 0x1f, 0x84, 0x00}
#define MARKER_TAG	 {0x4e, 0x53}
#define MARKER_ARGUMENTS 32768 /* values of half an argument */
#define MARKER_LAYERS	 0x1000

enum {
	MARKER_REGION_BEGIN = 1,
	MARKER_REGION_END = 2,
	MARKER_STEP_BEGIN = 3,
	MARKER_STEP_END = 4,
	MARKER_SERIAL_BEGIN = 5,  /* the following misses are dependent */
	MARKER_SERIAL_END = 6,	  /* the following misses overlap */
	MARKER_PAGE_MIGRATED = 7, /* by the kernel; argument: the page's new node */
	MARKER_CLOCK = 8,	  /* update the clock page */
	MARKER_OBSERVE = 9,	  /* start counting the process's accesses by page */
	MARKER_PAGES = 10,	  /* write these counts to a file */
	MARKER_PROCESS = 11,	 /* by the kernel; argument: the process that the CPU switches to */
	MARKER_PROCESS_END = 12, /* by the kernel; argument: the process that exits or execs */
	MARKER_TRACE_BEGIN = 13, /* start a trace of vCPU 0 */
	MARKER_TRACE_END = 14,	 /* end it */
	MARKER_TRACE_EVENT = 15, /* add an event to it */
	MARKER_TRACE_PAUSE = 16, /* leave out what follows, except for events */
	MARKER_TRACE_RESUME = 17,
	MARKER_REMAPPED = 18,  /* a window was remapped; argument: its pages */
	MARKER_LAYER = 0x1000, /* + layer, less than MARKER_LAYERS */
	MARKER_USER = 0x8000,  /* + any number, up to 0xffff */
};

#define CLOCK_MAGIC 0x5344524b434f4c43ULL
#define CLOCK_CPUS  64

struct clock_page {
	uint64_t magic;
	/* Model clock by vCPU; at most a few model us old while the vCPU runs */
	uint64_t ns[CLOCK_CPUS];
	double dilation; /* requested for the next region, real ns per model ns; 0: synchronised */
	double needed; /* dilation that the host sustains, from regions since the last paced one */
	double behind; /* share of time for which the last region was behind */
	uint64_t generation;	 /* changed by the plugin; older in a restored machine */
	double late[CLOCK_CPUS]; /* paced: real ns by which each vCPU lags, as of MARKER_CLOCK */
};

#endif
