/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The words of a trace, as tracer.c writes them: 64 bits, little-endian. From the lowest bit on:
 *
 *	42 bits	the number of a 64-byte line of virtual memory, without the sign bits; TRACE_TIME:
 *		instructions since the word before
 *	 1 bit	the node of its page
 *	 9 bits	instructions since the word before
 *	10 bits	which earlier word's data the address depends on: n words before this one; 0: none;
 *		TRACE_FENCE: all data in flight arrive first
 *	 2 bits	the kind; an event has no line
 */
#ifndef SENTINEL_TIMING_TRACE_WORDS_H
#define SENTINEL_TIMING_TRACE_WORDS_H

#define TRACE_LINE_BITS	  42
#define TRACE_COUNT_BITS  9
#define TRACE_SOURCE_BITS 10

#define TRACE_NODE_SHIFT   TRACE_LINE_BITS
#define TRACE_COUNT_SHIFT  (TRACE_NODE_SHIFT + 1)
#define TRACE_SOURCE_SHIFT (TRACE_COUNT_SHIFT + TRACE_COUNT_BITS)
#define TRACE_KIND_SHIFT   (TRACE_SOURCE_SHIFT + TRACE_SOURCE_BITS)

#define TRACE_FENCE ((1U << TRACE_SOURCE_BITS) - 1)

#define TRACE_LINE_OF(word)   ((word) & ((1ULL << TRACE_LINE_BITS) - 1))
#define TRACE_COUNT_OF(word)  ((word) >> TRACE_COUNT_SHIFT & ((1ULL << TRACE_COUNT_BITS) - 1))
#define TRACE_SOURCE_OF(word) ((word) >> TRACE_SOURCE_SHIFT & TRACE_FENCE)
#define TRACE_KIND_OF(word)   ((word) >> TRACE_KIND_SHIFT)

enum trace_kind { TRACE_READ, TRACE_WRITE, TRACE_EVENT, TRACE_TIME };

#endif
