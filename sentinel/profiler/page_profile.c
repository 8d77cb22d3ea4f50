// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "page_profile.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int page_profile_open(int flags)
{
	return open(PAGE_PROFILE_DEVICE, O_RDWR | flags);
}

int page_profile_target(int fd, pid_t pid)
{
	__s32 target = pid;

	return ioctl(fd, PAGE_PROFILE_TARGET, &target);
}

int page_profile_configure(int fd, enum page_profile_mode mode, unsigned int window)
{
	struct page_profile_config config = {.mode = mode, .window = window};

	return ioctl(fd, PAGE_PROFILE_CONFIGURE, &config);
}

int page_profile_add(int fd, const void *start, size_t length, uint64_t *offset)
{
	struct page_profile_range range = {.start = (uintptr_t)start, .length = length};
	int ret = ioctl(fd, PAGE_PROFILE_ADD, &range);

	if (ret == 0 && offset)
		*offset = range.offset;
	return ret;
}

int page_profile_remove(int fd, const void *start, size_t length)
{
	struct page_profile_range range = {.start = (uintptr_t)start, .length = length};

	return ioctl(fd, PAGE_PROFILE_REMOVE, &range);
}

int page_profile_start(int fd)
{
	return ioctl(fd, PAGE_PROFILE_START);
}

int page_profile_stop(int fd)
{
	return ioctl(fd, PAGE_PROFILE_STOP);
}

int page_profile_rearm(int fd)
{
	return ioctl(fd, PAGE_PROFILE_REARM);
}

int page_profile_reset(int fd)
{
	return ioctl(fd, PAGE_PROFILE_RESET);
}

int page_profile_clear(int fd)
{
	return ioctl(fd, PAGE_PROFILE_CLEAR);
}

int page_profile_stats(int fd, struct page_profile_stats *stats)
{
	return ioctl(fd, PAGE_PROFILE_STATS, stats);
}

/* Size of the counters of `length` bytes of memory, in whole pages */
static size_t counters_size(size_t length)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = length / page * sizeof(struct page_profile_count);

	return (size + page - 1) / page * page;
}

const volatile struct page_profile_count *page_profile_map(int fd, uint64_t offset, size_t length)
{
	void *counts = mmap(NULL, counters_size(length), PROT_READ, MAP_SHARED, fd, (off_t)offset);

	return counts == MAP_FAILED ? NULL : (const volatile struct page_profile_count *)counts;
}

int page_profile_unmap(const volatile struct page_profile_count *counts, size_t length)
{
	return munmap((void *)counts, counters_size(length));
}
