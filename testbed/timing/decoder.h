/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which registers an instruction reads and writes. Independent of QEMU; Zydis decodes.
 *
 * Sets of registers are masks: bits 0 to 15 are the general registers, in the order of their
 * encoding (rax, rcx, rdx, rbx, rsp, ...), then the flags, then the 32 vector registers. The stack
 * pointer is in no set: compilers compute it from constants. Segment, mask and x87 registers are
 * not tracked either.
 */
#ifndef SENTINEL_TIMING_DECODER_H
#define SENTINEL_TIMING_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DECODER_GENERAL	  16			/* general registers, from bit 0 */
#define DECODER_FLAGS	  16			/* bit of the flags */
#define DECODER_VECTOR	  17			/* bit of the first vector register */
#define DECODER_REGISTERS (DECODER_VECTOR + 32) /* number of bits */

struct instruction {
	uint64_t address;   /* registers that the addresses of memory accesses are computed from */
	uint64_t reads;	    /* registers that the results are computed from, without `address` */
	uint64_t writes;    /* registers that receive results */
	uint64_t keeps;	    /* those of `writes` that also keep a part of their value, or may */
	bool loads, stores; /* memory; the results are computed from what it loads, too */
	bool fence;	    /* waits for all earlier loads */
};

/* Decode an instruction of `size` bytes. Returns false, with everything empty, if it is unknown. */
bool decode(const uint8_t *bytes, size_t size, struct instruction *to);

#endif
