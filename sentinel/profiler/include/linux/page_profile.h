/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Page-access profiler: how often a process accesses each page of its memory.
 * See page_profile(4).
 */
#ifndef _UAPI_LINUX_PAGE_PROFILE_H
#define _UAPI_LINUX_PAGE_PROFILE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Each open() of it makes a profile of the calling process. */
#define PAGE_PROFILE_DEVICE "/dev/page_profile"

/* What one count is. */
enum page_profile_mode {
	/* A page was accessed since the last re-arming. */
	PAGE_PROFILE_EPOCH = 0,
	/* A page was accessed that was not among the thread's last `window` pages. */
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
	__u64 offset; /* out: where mmap() of the descriptor finds the counters */
};

/* One page's counters. They wrap at 2^32. */
struct page_profile_count {
	__u32 reads;
	__u32 writes;
};

/* Events since the descriptor was opened, or since PAGE_PROFILE_RESET. */
struct page_profile_stats {
	__u64 user_faults;   /* accesses caught in user mode */
	__u64 kernel_faults; /* accesses caught in the kernel (copy_to_user() and the like) */
	__u64 uncounted;     /* caught again within one epoch or window: not counted again */
	__u64 passed;	 /* accesses that the entry does not permit: left to the memory manager */
	__u64 armed;	 /* entries marked by a start or by adding a range */
	__u64 epochs;	 /* re-armings */
	__u64 rearmed;	 /* entries marked by them */
	__u64 evictions; /* pages that left a window, to be marked again */
	__u64 lost;	 /* caught outside the ranges, or for want of room in a window */
};

#define PAGE_PROFILE_IOC 0xBC

/* Profile the process with this ID instead of the caller; before the first range is added. */
#define PAGE_PROFILE_TARGET _IOW(PAGE_PROFILE_IOC, 0x00, __s32)
/* Choose the mode, while stopped. */
#define PAGE_PROFILE_CONFIGURE _IOW(PAGE_PROFILE_IOC, 0x01, struct page_profile_config)
#define PAGE_PROFILE_ADD       _IOWR(PAGE_PROFILE_IOC, 0x02, struct page_profile_range)
/* Remove a range; start and length as they were added. */
#define PAGE_PROFILE_REMOVE _IOW(PAGE_PROFILE_IOC, 0x03, struct page_profile_range)
#define PAGE_PROFILE_START  _IO(PAGE_PROFILE_IOC, 0x04)
#define PAGE_PROFILE_STOP   _IO(PAGE_PROFILE_IOC, 0x05)
/* Begin an epoch: the next access to any page counts. */
#define PAGE_PROFILE_REARM _IO(PAGE_PROFILE_IOC, 0x06)
/* Set all counters and statistics to zero. */
#define PAGE_PROFILE_RESET _IO(PAGE_PROFILE_IOC, 0x07)
#define PAGE_PROFILE_STATS _IOR(PAGE_PROFILE_IOC, 0x08, struct page_profile_stats)
/* Stop, and remove all ranges: what the last close() does, while a child still has the descriptor.
 */
#define PAGE_PROFILE_CLEAR _IO(PAGE_PROFILE_IOC, 0x09)

#endif /* _UAPI_LINUX_PAGE_PROFILE_H */
