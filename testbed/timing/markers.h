/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Markers, and the page of model clocks: what the guest and the plugin share.
 *
 * A marker is an 8-byte NOP, nopl 0x534e0000+number(%rax,%rax,1): hardware does nothing for it.
 * Those of the kernel have an argument of 30 bits: the lower 15 bits of the address that the next
 * instruction loads from, and above them those of the one after.
 */
#ifndef SENTINEL_TIMING_MARKERS_H
#define SENTINEL_TIMING_MARKERS_H

#include <stdint.h>

#define MARKER_OPCODE	 {0x0f, 0x1f, 0x84, 0x00}
#define MARKER_TAG	 {0x4e, 0x53}
#define MARKER_ARGUMENTS 32768 /* of one load */
#define MARKER_LAYERS	 0x1000

enum {
	MARKER_REGION_BEGIN = 1,
	MARKER_REGION_END = 2,
	MARKER_STEP_BEGIN = 3,
	MARKER_STEP_END = 4,
	MARKER_SERIAL_BEGIN = 5,  /* misses depend on each other from here on, */
	MARKER_SERIAL_END = 6,	  /* and overlap again from here */
	MARKER_PAGE_MIGRATED = 7, /* by the kernel; argument: the node it is on now */
	MARKER_CLOCK = 8,	  /* the clock page is brought up to date */
	MARKER_OBSERVE = 9,	  /* the process's accesses are counted by page from here on, */
	MARKER_PAGES = 10,	  /* and these counts written to a file */
	MARKER_PROCESS = 11,	  /* by the kernel; argument: the process that the CPU turns to */
	MARKER_PROCESS_END = 12,  /* by the kernel; argument: the process that exits or execs */
	MARKER_LAYER = 0x1000,	  /* + layer, of MARKER_LAYERS */
	MARKER_USER = 0x8000,	  /* + anything, up to 0xffff */
};

#define CLOCK_MAGIC 0x5344524b434f4c43ULL
#define CLOCK_CPUS  64

struct clock_page {
	uint64_t magic;
	/* Each vCPU's model clock, as of its last look at the others (a few model us ago at most)
	 */
	uint64_t ns[CLOCK_CPUS];
	double dilation; /* asked for: real ns for a model ns in the next region; 0: not paced */
	double needed; /* found in all regions since the last paced one: what this host sustains */
	double behind; /* found in the last region: for which share of its time it was behind */
	uint64_t generation;	 /* the plugin's: a restored machine brings an older one */
	double late[CLOCK_CPUS]; /* paced: real ns by which each vCPU's clock lags, at MARKER_CLOCK
				  */
};

#endif
