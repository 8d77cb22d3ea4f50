/* SPDX-License-Identifier: GPL-2.0-only */
/* TAP output and helpers for profiles. Each program is a single file, so everything is static. */
#ifndef TEST_H
#define TEST_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "page_profile.h"

#define PAGE   4096UL
#define UNUSED __attribute__((unused))

typedef volatile unsigned char byte;

/* Shared with child processes, which report test points too */
static struct {
	unsigned int tests, failures;
} *tap;

__attribute__((constructor)) static void tap_start(void)
{
	tap = mmap(NULL, sizeof(*tap), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Report a test point. Returns `passed`. */
UNUSED __attribute__((format(printf, 2, 3))) static bool ok(bool passed, const char *name, ...)
{
	va_list arguments;

	tap->failures += !passed;
	printf("%sok %u - ", passed ? "" : "not ", ++tap->tests);
	va_start(arguments, name);
	vprintf(name, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
	return passed;
}

/* Report a test point that compares two numbers. */
UNUSED static bool is(long long actual, long long expected, const char *name)
{
	return actual == expected
		       ? ok(true, "%s", name)
		       : ok(false, "%s: got %lld, expected %lld", name, actual, expected);
}

/* Report a test point: the call that returned `result` failed with errno `expected`. */
UNUSED static bool fails(long result, int expected, const char *name)
{
	int error = errno;

	if (result != -1)
		return ok(false, "%s: succeeded with %ld", name, result);
	return error == expected ? ok(true, "%s", name)
				 : ok(false, "%s: %s, expected %s", name, strerror(error),
				      strerror(expected));
}

UNUSED static void skip(const char *name, const char *reason)
{
	printf("ok %u - %s # SKIP %s\n", ++tap->tests, name, reason);
	fflush(stdout);
}

/* Print the plan. Returns the program's exit status. */
UNUSED static int done(void)
{
	printf("1..%u\n", tap->tests);
	return tap->failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

UNUSED __attribute__((noreturn)) static void die(const char *operation)
{
	printf("Bail out! %s: %s\n", operation, strerror(errno));
	exit(EXIT_FAILURE);
}

UNUSED static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Allocate `n` small pages of private anonymous memory; page i is filled with i + 1. */
UNUSED static byte *pages(size_t n)
{
	byte *memory =
		mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	madvise((void *)memory, n * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < n; i++)
		memset((void *)(memory + i * PAGE), (int)(i + 1), PAGE);
	return memory;
}

/* Returns true if the content of `memory` is unchanged since pages(). */
UNUSED static bool intact(byte *memory, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t at = 0; at < PAGE; at++)
			if (memory[i * PAGE + at] != (unsigned char)(i + 1))
				return false;
	return true;
}

/* A profile with one range of this process */
struct profile {
	int fd;
	byte *memory;
	size_t pages;
	const volatile struct page_profile_count *counts;
};

/* Create and start a profile of `n` pages at `memory`. */
UNUSED static struct profile profile(enum page_profile_mode mode, unsigned int window, byte *memory,
				     size_t n)
{
	struct profile p = {page_profile_open(O_CLOEXEC), memory, n, NULL};
	uint64_t offset;

	if (p.fd < 0)
		die("page_profile_open");
	if (page_profile_configure(p.fd, mode, window))
		die("page_profile_configure");
	if (page_profile_add(p.fd, (void *)memory, n * PAGE, &offset))
		die("page_profile_add");
	p.counts = page_profile_map(p.fd, offset, n * PAGE);
	if (!p.counts)
		die("page_profile_map");
	if (page_profile_start(p.fd))
		die("page_profile_start");
	return p;
}

UNUSED static void finish(struct profile *p)
{
	close(p->fd);
	page_profile_unmap(p->counts, p->pages * PAGE);
}

/* Total counts of a range */
struct sum {
	unsigned long reads, writes;
};

UNUSED static struct sum sum(const struct profile *p)
{
	struct sum total = {0, 0};

	for (size_t i = 0; i < p->pages; i++) {
		total.reads += p->counts[i].reads;
		total.writes += p->counts[i].writes;
	}
	return total;
}

/* Returns the number of pages with exactly these counts. */
UNUSED static size_t having(const struct profile *p, uint32_t reads, uint32_t writes)
{
	size_t n = 0;

	for (size_t i = 0; i < p->pages; i++)
		n += p->counts[i].reads == reads && p->counts[i].writes == writes;
	return n;
}

/* Report a test point: every page has exactly these counts. */
UNUSED static bool all_have(const struct profile *p, uint32_t reads, uint32_t writes,
			    const char *name)
{
	struct sum s = sum(p);

	if (having(p, reads, writes) == p->pages)
		return ok(true, "%s", name);
	return ok(
		false,
		"%s: %zu of %zu pages have %u reads and %u writes (total %lu, %lu; page 0 %u, %u)",
		name, having(p, reads, writes), p->pages, reads, writes, s.reads, s.writes,
		p->counts[0].reads, p->counts[0].writes);
}

UNUSED static struct page_profile_stats stats(const struct profile *p)
{
	struct page_profile_stats s;

	if (page_profile_stats(p->fd, &s))
		die("page_profile_stats");
	return s;
}

/* Report a test point: the counters add up to the caught accesses, and no access was lost. */
UNUSED static bool adds_up(const struct profile *p, const char *name)
{
	struct page_profile_stats s = stats(p);
	struct sum total = sum(p);
	unsigned long counted = s.user_faults + s.kernel_faults - s.uncounted - s.lost;

	return ok(s.lost == 0 && total.reads + total.writes == counted,
		  "%s: counters add up to the faults (%lu + %lu of %lu; uncounted %lu, lost %lu)",
		  name, total.reads, total.writes, (unsigned long)(s.user_faults + s.kernel_faults),
		  (unsigned long)s.uncounted, (unsigned long)s.lost);
}

/* Access each page once. */
UNUSED static void read_each(byte *memory, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)memory[i * PAGE + 64];
}

UNUSED static void write_each(byte *memory, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memory[i * PAGE + 64] = (unsigned char)(i + 1);
}

#endif
