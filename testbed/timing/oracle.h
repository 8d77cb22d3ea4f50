/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exact counts: how often each page of a process was read, written, and missed the cache.
 * It knows nothing of QEMU.
 */
#ifndef SENTINEL_TIMING_ORACLE_H
#define SENTINEL_TIMING_ORACLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define ORACLE_PAGE 4096

struct oracle;

/* Returns NULL with errno set if there is no memory. */
struct oracle *oracle_new(void);
void oracle_free(struct oracle *o);

/* One access to virtual `address`, of which `misses` lines came from `node`. Thread-safe. */
void oracle_count(struct oracle *o, uint64_t address, bool store, unsigned int misses, int node);

/* Forget all counts. Thread-safe. */
void oracle_clear(struct oracle *o);

/*
 * Write CSV: a header, then a line for each page that was accessed, by address: the page's address
 * in bytes, reads, writes, lines missed on node 0 and on node 1. Returns false with errno set if it
 * could not be written. Thread-safe.
 */
bool oracle_write(struct oracle *o, FILE *to);

#endif
