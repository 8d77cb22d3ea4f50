/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-access profiles of a process: a thin layer over page_profile(4), which docs/page_profile.md
 * describes.
 *
 * All functions return -1 (or NULL) with errno set on failure. None keeps state; all are
 * thread-safe.
 */
#ifndef SENTINEL_PAGE_PROFILE_H
#define SENTINEL_PAGE_PROFILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "linux/page_profile.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A descriptor of a profile of the calling process; `flags` is 0 or O_CLOEXEC. errno is ENOENT if
 * the kernel has no profiler (or /dev is not the kernel's), ENODEV if it has one and the processor
 * cannot do it, EPERM if only root may.
 */
int page_profile_open(int flags);

/* Profile process `pid` instead; before the first range is added. Needs the right to trace it. */
int page_profile_target(int fd, pid_t pid);

/* Choose the mode, while stopped; `window` is a number of pages for PAGE_PROFILE_WINDOW, and 0
 * otherwise. */
int page_profile_configure(int fd, enum page_profile_mode mode, unsigned int window);

/*
 * Profile [start, start + length): whole pages of private anonymous memory. `offset` (may be NULL)
 * is what page_profile_map() needs.
 */
int page_profile_add(int fd, const void *start, size_t length, uint64_t *offset);
int page_profile_remove(int fd, const void *start, size_t length);

int page_profile_start(int fd);
int page_profile_stop(int fd);

/* Begin an epoch. */
int page_profile_rearm(int fd);

/* Set counters and statistics to zero. */
int page_profile_reset(int fd);

/*
 * Stop, and remove all ranges. The process is as if it had never been profiled, even while a child
 * that it forked still has a copy of the descriptor, which keeps close() from doing that.
 */
int page_profile_clear(int fd);

int page_profile_stats(int fd, struct page_profile_stats *stats);

/*
 * The counters of a range of `length` bytes, one for each page, as the kernel writes them: live,
 * read-only. They stay readable after the range is removed and the descriptor closed. Free with
 * page_profile_unmap().
 */
const volatile struct page_profile_count *page_profile_map(int fd, uint64_t offset, size_t length);
int page_profile_unmap(const volatile struct page_profile_count *counts, size_t length);

#ifdef __cplusplus
}
#endif

#endif
