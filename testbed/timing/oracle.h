/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exact counts of reads, writes and cache misses for each page of a process. Independent of QEMU.
 */
#ifndef SENTINEL_TIMING_ORACLE_H
#define SENTINEL_TIMING_ORACLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define ORACLE_PAGE 4096

struct oracle;

/* Returns NULL with errno set if out of memory. */
struct oracle *oracle_new(void);
void oracle_free(struct oracle *o);

/* Count an access to virtual `address` that missed `misses` lines on `node`. Thread-safe. */
void oracle_count(struct oracle *o, uint64_t address, bool store, unsigned int misses, int node);

/* Reset all counts. Thread-safe. */
void oracle_clear(struct oracle *o);

/*
 * Write CSV: a header, and a line for each accessed page, sorted by address: address in bytes,
 * reads, writes, lines missed on node 0 and on node 1. Returns false with errno set on failure.
 * Thread-safe.
 */
bool oracle_write(struct oracle *o, FILE *to);

#endif
