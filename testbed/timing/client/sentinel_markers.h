/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Markers for the timing model, and its clock; C and C++, x86-64 Linux, header only.
 *
 *	sentinel_mark(SENTINEL_REGION_BEGIN);
 *	uint64_t start = sentinel_now_ns();
 *	work();
 *	printf("%lu ns\n", sentinel_now_ns() - start);
 *	sentinel_mark(SENTINEL_REGION_END);
 *
 * A marker is a NOP with a number in it, which the model sees go by. Elsewhere nothing happens, and
 * the clock is CLOCK_MONOTONIC. docs/timing.md says more.
 */
#ifndef SENTINEL_MARKERS_H
#define SENTINEL_MARKERS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for sched_getcpu() */
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SENTINEL_REGION_BEGIN  1
#define SENTINEL_REGION_END    2
#define SENTINEL_STEP_BEGIN    3
#define SENTINEL_STEP_END      4
#define SENTINEL_SERIAL_BEGIN  5
#define SENTINEL_SERIAL_END    6
#define SENTINEL_PAGE_MIGRATED 7
#define SENTINEL_CLOCK	       8
#define SENTINEL_OBSERVE       9
#define SENTINEL_PAGES	       10
#define SENTINEL_PROCESS       11
#define SENTINEL_PROCESS_END   12
#define SENTINEL_TRACE_BEGIN   13
#define SENTINEL_TRACE_END     14
#define SENTINEL_TRACE_EVENT   15
#define SENTINEL_TRACE_PAUSE   16
#define SENTINEL_TRACE_RESUME  17
#define SENTINEL_REMAPPED      18
#define SENTINEL_LAYER(n)      (0x1000 + (n)) /* 0 to 0xfff */
#define SENTINEL_USER(n)       (0x8000 + (n)) /* 0 to 0x7fff */

/* `number` is a constant. */
#define sentinel_mark(number)                                                                      \
	__asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00\n\t"                                        \
			 ".word %c0\n\t"                                                           \
			 ".byte 0x4e, 0x53"                                                        \
			 :                                                                         \
			 : "i"(number)                                                             \
			 : "memory")

#define SENTINEL_ARGUMENTS_ 32768 /* values of half an argument */

/*
 * Tell the model that this CPU has remapped a window of `pages` pages, for any purpose: it charges
 * the system calls here, and the interrupt that invalidates addresses to the compute vCPU.
 */
static inline void sentinel_remapped(unsigned long pages)
{
	/* The lower bits of addresses in it are the argument */
	static const volatile unsigned char buffer[2 * SENTINEL_ARGUMENTS_] = {0};
	uintptr_t start = ((uintptr_t)buffer + SENTINEL_ARGUMENTS_ - 1) / SENTINEL_ARGUMENTS_ *
			  SENTINEL_ARGUMENTS_;
	const volatile unsigned char *low =
		(const volatile unsigned char *)(start + pages % SENTINEL_ARGUMENTS_);
	const volatile unsigned char *high =
		(const volatile unsigned char *)(start +
						 pages / SENTINEL_ARGUMENTS_ % SENTINEL_ARGUMENTS_);
	unsigned long value;

	(void)*low; /* a page fault would separate the loads from the marker */
	(void)*high;
	/* Aligned, so that the emulator translates the instructions together: they share a page */
	__asm__ volatile(".p2align 5\n\t"
			 ".byte 0x0f, 0x1f, 0x84, 0x00\n\t"
			 ".word %c1\n\t"
			 ".byte 0x4e, 0x53\n\t"
			 "movzbl (%2), %k0\n\t"
			 "movzbl (%3), %k0"
			 : "=&r"(value)
			 : "i"(SENTINEL_REMAPPED), "r"(low), "r"(high)
			 : "memory");
}

#define SENTINEL_CLOCK_MAGIC 0x5344524b434f4c43ULL
#define SENTINEL_CLOCK_CPUS  64

struct sentinel_clock_page {
	uint64_t magic;
	uint64_t ns[SENTINEL_CLOCK_CPUS];
	double dilation; /* asked for: real ns for a model ns in the next region; 0: not paced */
	double needed;	 /* found in all regions since the last paced one: what the host sustains */
	double behind;	 /* found in the last region: for which share of its time it was behind */
	uint64_t generation;		  /* the model's own */
	double late[SENTINEL_CLOCK_CPUS]; /* paced: real ns by which each clock lags */
};

static inline int sentinel_pci_id_(const char *device, const char *file, unsigned int *id)
{
	char path[512];
	FILE *f;
	int ok;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", device, file);
	f = fopen(path, "r");
	ok = f && fscanf(f, "%x", id) == 1;
	if (f)
		fclose(f);
	return ok;
}

static inline volatile struct sentinel_clock_page *sentinel_map_clock_(const char *device)
{
	void *page = MAP_FAILED;
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/enable", device);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			errno = 0; /* it may be on already; what is mapped decides */
		close(fd);
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource2", device);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (page == MAP_FAILED)
		return NULL;
	if (((struct sentinel_clock_page *)page)->magic == SENTINEL_CLOCK_MAGIC)
		return (volatile struct sentinel_clock_page *)page;
	munmap(page, 4096);
	return NULL;
}

/* The page of model clocks (an ivshmem device's memory; root may map it), or NULL. */
static inline volatile struct sentinel_clock_page *sentinel_clock_page(void)
{
	static volatile struct sentinel_clock_page *page;
	static int looked;
	unsigned int vendor, kind;
	struct dirent *entry;
	DIR *folder;

	if (looked)
		return page;
	folder = opendir("/sys/bus/pci/devices");
	while (folder && !page && (entry = readdir(folder)))
		if (sentinel_pci_id_(entry->d_name, "vendor", &vendor) && vendor == 0x1af4 &&
		    sentinel_pci_id_(entry->d_name, "device", &kind) && kind == 0x1110)
			page = sentinel_map_clock_(entry->d_name);
	if (folder)
		closedir(folder);
	looked = 1;
	return page;
}

/* The model clock of this vCPU in ns, or CLOCK_MONOTONIC where there is no model. */
static inline uint64_t sentinel_now_ns(void)
{
	const volatile struct sentinel_clock_page *page = sentinel_clock_page();
	struct timespec t;

	if (page) {
		sentinel_mark(SENTINEL_CLOCK);
		return page->ns[sched_getcpu() % SENTINEL_CLOCK_CPUS];
	}
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
