/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Page-access profiler: counts how often a process accesses each page of its memory.
 * See page_profile(4).
 */
#ifndef _UAPI_LINUX_PAGE_PROFILE_H
#define _UAPI_LINUX_PAGE_PROFILE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Each open() creates a profile of the calling process. */
#define PAGE_PROFILE_DEVICE "/dev/page_profile"

/* The meaning of one count */
enum page_profile_mode {
	/* The first access to the page in an epoch */
	PAGE_PROFILE_EPOCH = 0,
	/* An access to the page while it is in no thread's window */
	PAGE_PROFILE_WINDOW = 1,
};

#define PAGE_PROFILE_MAX_WINDOW 64

struct page_profile_config {
	__u32 mode;   /* enum page_profile_mode */
	__u32 window; /* pages, 1 to PAGE_PROFILE_MAX_WINDOW; window mode only, else 0 */
};

struct page_profile_range {
	__u64 start;  /* address, a multiple of the page size */
	__u64 length; /* bytes, a multiple of the page size */
	__u64 offset; /* out: mmap() offset of the counters */
};

/* One page's counters. They wrap at 2^32. */
struct page_profile_count {
	__u32 reads;
	__u32 writes;
};

/* Events since the descriptor was opened, or since PAGE_PROFILE_RESET. */
struct page_profile_stats {
	__u64 user_faults;   /* caught accesses in user mode */
	__u64 kernel_faults; /* caught accesses in the kernel (copy_to_user() and similar) */
	__u64 uncounted;     /* caught accesses not counted: repetitions in an epoch or window */
	__u64 passed;	     /* forbidden accesses, passed to the memory manager */
	__u64 armed;	     /* entries marked by PAGE_PROFILE_START and PAGE_PROFILE_ADD */
	__u64 epochs;	     /* calls of PAGE_PROFILE_REARM */
	__u64 rearmed;	     /* entries marked by PAGE_PROFILE_REARM */
	__u64 evictions;     /* pages that left a window */
	__u64 lost;	     /* accesses caught outside the ranges or with a full window */
};

#define PAGE_PROFILE_IOC 0xBC

/* Profile the process with this ID instead of the caller. Only before the first range. */
#define PAGE_PROFILE_TARGET _IOW(PAGE_PROFILE_IOC, 0x00, __s32)
/* Set the mode. Only while stopped. */
#define PAGE_PROFILE_CONFIGURE _IOW(PAGE_PROFILE_IOC, 0x01, struct page_profile_config)
#define PAGE_PROFILE_ADD       _IOWR(PAGE_PROFILE_IOC, 0x02, struct page_profile_range)
/* Remove a range; start and length as passed to PAGE_PROFILE_ADD. */
#define PAGE_PROFILE_REMOVE _IOW(PAGE_PROFILE_IOC, 0x03, struct page_profile_range)
#define PAGE_PROFILE_START  _IO(PAGE_PROFILE_IOC, 0x04)
#define PAGE_PROFILE_STOP   _IO(PAGE_PROFILE_IOC, 0x05)
/* Begin an epoch: mark all open pages and empty the windows. */
#define PAGE_PROFILE_REARM _IO(PAGE_PROFILE_IOC, 0x06)
/* Reset all counters and statistics to zero. */
#define PAGE_PROFILE_RESET _IO(PAGE_PROFILE_IOC, 0x07)
#define PAGE_PROFILE_STATS _IOR(PAGE_PROFILE_IOC, 0x08, struct page_profile_stats)
/* Stop, remove all ranges and release the process, like the last close(). */
#define PAGE_PROFILE_CLEAR _IO(PAGE_PROFILE_IOC, 0x09)

#endif /* _UAPI_LINUX_PAGE_PROFILE_H */
