/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Markers, and the page of model clocks: what the guest and the plugin share.
 *
 * A marker is an 8-byte NOP, nopl 0x534e0000+number(%rax,%rax,1): hardware does nothing for it.
 */
#ifndef SENTINEL_TIMING_MARKERS_H
#define SENTINEL_TIMING_MARKERS_H

#include <stdint.h>

#define MARKER_OPCODE {0x0f, 0x1f, 0x84, 0x00}
#define MARKER_TAG    {0x4e, 0x53}

enum {
	MARKER_REGION_BEGIN = 1,
	MARKER_REGION_END = 2,
	MARKER_STEP_BEGIN = 3,
	MARKER_STEP_END = 4,
	MARKER_SERIAL_BEGIN = 5,  /* misses depend on each other from here on, */
	MARKER_SERIAL_END = 6,	  /* and overlap again from here */
	MARKER_PAGE_MIGRATED = 7, /* by the kernel */
	MARKER_CLOCK = 8,	  /* the clock page is brought up to date */
	MARKER_LAYER = 0x1000,	  /* + layer, up to 0x1fff */
	MARKER_USER = 0x8000,	  /* + anything, up to 0xffff */
};

#define CLOCK_MAGIC 0x5344524b434f4c43ULL
#define CLOCK_CPUS  64

/* Each vCPU's model clock in ns, as of its last look at the others (a few model us ago at most). */
struct clock_page {
	uint64_t magic;
	uint64_t ns[CLOCK_CPUS];
};

#endif
