/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-access profiles of a process: thin wrappers of the ioctls that docs/page_profile.md
 * describes.
 *
 * On failure all functions return -1 or NULL and set errno. They are stateless and thread-safe.
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
 * Open a profile of the calling process and return its descriptor; `flags` is 0 or O_CLOEXEC. errno
 * is ENOENT if the kernel has no profiler (or /dev is not devtmpfs), ENODEV if the processor does
 * not support it, EPERM if only root may use it.
 */
int page_profile_open(int flags);

/* Profile process `pid` instead. Call it before adding ranges. Needs permission to ptrace it. */
int page_profile_target(int fd, pid_t pid);

/*
 * Choose the mode while the profile is stopped. `window` is a number of pages for
 * PAGE_PROFILE_WINDOW, else 0.
 */
int page_profile_configure(int fd, enum page_profile_mode mode, unsigned int window);

/*
 * Profile [start, start + length): whole pages of private anonymous memory. `offset` (may be NULL)
 * receives the argument for page_profile_map().
 */
int page_profile_add(int fd, const void *start, size_t length, uint64_t *offset);
int page_profile_remove(int fd, const void *start, size_t length);

int page_profile_start(int fd);
int page_profile_stop(int fd);

/* Begin an epoch. */
int page_profile_rearm(int fd);

/* Reset counters and statistics to zero. */
int page_profile_reset(int fd);

/*
 * Stop, and remove all ranges. close() does so too, but only when no forked child holds a copy of
 * the descriptor.
 */
int page_profile_clear(int fd);

int page_profile_stats(int fd, struct page_profile_stats *stats);

/*
 * Map the counters of a range of `length` bytes, one for each page, live and read-only. They stay
 * readable after the range is removed and the descriptor closed. Free with page_profile_unmap().
 */
const volatile struct page_profile_count *page_profile_map(int fd, uint64_t offset, size_t length);
int page_profile_unmap(const volatile struct page_profile_count *counts, size_t length);

#ifdef __cplusplus
}
#endif

#endif
