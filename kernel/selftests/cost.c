// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cost of profiling, as times and as ratios within one run:
 *
 *   cost [MIB]    size of the profiled memory (default 400)
 *
 * Prints one JSON line for each figure. Uses the guest clock: under emulation, only ratios are
 * meaningful.
 */
#define _GNU_SOURCE
#include "guest.h"

#define REPEATS 5

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *times)
{
	qsort(times, REPEATS, sizeof(*times), ascending);
	return times[REPEATS / 2];
}

static void show(const char *what, double value, const char *unit)
{
	printf("{\"what\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"}\n", what, value, unit);
	fflush(stdout);
}

/* Returns the median time to access `n` pages once each. */
static double sweep(byte *memory, size_t n)
{
	double times[REPEATS];

	for (int i = 0; i < REPEATS; i++) {
		double start = seconds();

		read_each(memory, n);
		times[i] = seconds() - start;
	}
	return median(times);
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 0) : 400, n = mib * 256, few = 4096;
	byte *memory = pages(n);
	struct profile p;
	double t[REPEATS], fresh[REPEATS], call[REPEATS], start;
	double idle, epoch, window;

	pin(0);
	for (int i = 0; i < REPEATS; i++) {
		byte *new = mmap(NULL, few * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		madvise((void *)new, few * PAGE, MADV_NOHUGEPAGE);
		start = seconds();
		write_each(new, few);
		fresh[i] = (seconds() - start) / (double)few;
		munmap((void *)new, few * PAGE);
		start = seconds();
		for (size_t j = 0; j < few; j++)
			syscall(SYS_getppid);
		call[i] = (seconds() - start) / (double)few;
	}
	idle = sweep(memory, few) / (double)few;
	show("access, not profiled", idle * 1e9, "ns");
	show("system call (getppid)", median(call) * 1e9, "ns");
	show("first touch (ordinary page fault)", median(fresh) * 1e9, "ns");

	p = profile(PAGE_PROFILE_EPOCH, 0, memory, n);
	for (int i = 0; i < REPEATS; i++) {
		page_profile_rearm(p.fd);
		start = seconds();
		read_each(memory, few);
		t[i] = seconds() - start;
	}
	epoch = median(t) / (double)few;
	show("caught access, epoch mode", epoch * 1e9, "ns");
	show("caught access, epoch mode : ordinary page fault", epoch / median(fresh), "ratio");
	idle = sweep(memory, few) / (double)few;
	show("access to an open page : not profiled", idle / (sweep(memory, few) / (double)few),
	     "ratio");

	for (int i = 0; i < REPEATS; i++) {
		read_each(memory, n);
		start = seconds();
		page_profile_rearm(p.fd);
		t[i] = seconds() - start;
	}
	show("re-arming, all pages touched", median(t) * 1e3, "ms");
	show("re-arming, all pages touched, per page", median(t) / (double)n * 1e9, "ns");
	for (int i = 0; i < REPEATS; i++) {
		read_each(memory, n / 10);
		start = seconds();
		page_profile_rearm(p.fd);
		t[i] = seconds() - start;
	}
	show("re-arming, a tenth of the pages touched", median(t) * 1e3, "ms");
	for (int i = 0; i < REPEATS; i++) {
		start = seconds();
		page_profile_rearm(p.fd);
		t[i] = seconds() - start;
	}
	show("re-arming, no page touched", median(t) * 1e3, "ms");
	for (int i = 0; i < REPEATS; i++) {
		page_profile_stop(p.fd);
		start = seconds();
		page_profile_start(p.fd);
		t[i] = seconds() - start;
	}
	show("start", median(t) * 1e3, "ms");
	for (int i = 0; i < REPEATS; i++) {
		start = seconds();
		page_profile_stop(p.fd);
		t[i] = seconds() - start;
		page_profile_start(p.fd);
	}
	show("stop", median(t) * 1e3, "ms");
	start = seconds();
	finish(&p);
	show("close", (seconds() - start) * 1e3, "ms");

	for (unsigned int k = 1; k <= 64; k *= 8) {
		p = profile(PAGE_PROFILE_WINDOW, k, memory, few);
		window = sweep(memory, few) / (double)few;
		printf("{\"what\": \"caught access, window of %u : epoch mode\", \"value\": %.4g, "
		       "\"unit\": \"ratio\"}\n",
		       k, window / epoch);
		finish(&p);
	}
	show("profiled memory", (double)mib, "MiB");
	return intact(memory, 1) ? 0 : 1;
}
