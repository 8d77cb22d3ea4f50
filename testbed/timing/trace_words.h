/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The words of a trace, as tracer.c writes them: 64 bits, little-endian. From the lowest bit on:
 *
 *	42 bits	the number of a 64-byte line of virtual memory, without the sign bits
 *	 1 bit	the node of its page
 *	19 bits	instructions since the word before
 *	 2 bits	the kind; an event has no line
 */
#ifndef SENTINEL_TIMING_TRACE_WORDS_H
#define SENTINEL_TIMING_TRACE_WORDS_H

#define TRACE_LINE_BITS	 42
#define TRACE_NODE_BITS	 1
#define TRACE_COUNT_BITS 19

#define TRACE_LINE_OF(word)  ((word) & ((1ULL << TRACE_LINE_BITS) - 1))
#define TRACE_COUNT_OF(word) ((word) >> 43 & ((1ULL << TRACE_COUNT_BITS) - 1))
#define TRACE_KIND_OF(word)  ((word) >> 62)

enum trace_kind { TRACE_READ, TRACE_WRITE, TRACE_EVENT };

#endif
