// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel changes the frames of profiled pages: migration, swap, huge pages, KSM. Pages are
 * counted as before, entries stay marked, and data are intact.
 */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>

#include "guest.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define N    32UL
#define HUGE (2UL << 20)
#define THP  "/sys/kernel/mm/transparent_hugepage/"
#define KSM  "/sys/kernel/mm/ksm/"

static void migration(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	unsigned long here = 1UL << 0, there = 1UL << 1;

	still_counts(&p, 1, 0, "before migration");
	is(move_to(memory, N, 1), N, "move_pages: all pages are on node 1");
	still_counts(&p, 2, 0, "move_pages");
	read_each(memory, N);
	is(move_to(memory, N, 0), N, "move_pages: all pages are back on node 0");
	read_each(memory, N);
	all_have(&p, 3, 0, "move_pages: a page that migrates within an epoch counts once");
	ok(stats(&p).uncounted >= N, "move_pages: repeated accesses are uncounted");
	page_profile_rearm(p.fd);
	is(syscall(SYS_migrate_pages, 0, 65, &here, &there), 0, "migrate_pages: to node 1");
	still_counts(&p, 4, 0, "migrate_pages");
	is(syscall(SYS_migrate_pages, 0, 65, &there, &here), 0, "migrate_pages: back to node 0");
	is(syscall(SYS_mbind, memory, N * PAGE, 2, &there, 65, 3 /* MOVE | STRICT */), 0,
	   "mbind: migrates pages");
	still_counts(&p, 5, 0, "mbind");
	adds_up(&p, "migration");
	finish(&p);

	p = profile(PAGE_PROFILE_WINDOW, 4, memory, N);
	for (int i = 0; i < 10; i++) {
		read_each(memory, N);
		if (move_to(memory, N, i % 2) != (long)N)
			die("move_pages");
	}
	all_have(&p, 10, 0, "move_pages: migration does not change window counts");
	adds_up(&p, "migration, window");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

/* Enter a new memory control group. Lowering its limit swaps the process out. */
static bool enter_group(void)
{
	mkdir("/tmp/cgroup", 0700);
	if (mount("none", "/tmp/cgroup", "cgroup", 0, "memory") && errno != EBUSY)
		return false;
	mkdir("/tmp/cgroup/squeezed", 0700);
	return put("/tmp/cgroup/squeezed/cgroup.procs", "0");
}

static void swapping_in_group(void *argument)
{
	size_t n = 1024;
	byte *memory;
	struct profile p;
	size_t out;

	if (!enter_group()) {
		skip("swap", "no memory control group");
		return;
	}
	memory = pages(n);
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, n);
	for (int tries = 0; tries < 20 && swapped(memory, n) < n / 2; tries++)
		put("/tmp/cgroup/squeezed/memory.limit_in_bytes", "2097152");
	out = swapped(memory, n);
	ok(out >= n / 2, "swap: %zu of %zu pages are swapped out", out, n);
	put("/tmp/cgroup/squeezed/memory.limit_in_bytes", "-1");
	still_counts(&p, 1, 0, "swap in");
	for (int tries = 0; tries < 20 && swapped(memory, n) < n / 2; tries++)
		put("/tmp/cgroup/squeezed/memory.limit_in_bytes", "2097152");
	put("/tmp/cgroup/squeezed/memory.limit_in_bytes", "-1");
	out = swapped(memory, n);
	is(swapoff("/var/tmp/swap"), 0, "swap: swapoff succeeds");
	ok(out >= n / 2 && swapped(memory, n) == 0, "swap: swapoff swaps in all %zu pages", out);
	still_counts(&p, 2, 0, "swapoff");
	adds_up(&p, "swap");
	finish(&p);
}

static void swapping(void)
{
	if (system("dd if=/dev/zero of=/var/tmp/swap bs=1M count=64 2>/dev/null && chmod 600 "
		   "/var/tmp/swap && "
		   "mkswap /var/tmp/swap >/dev/null") ||
	    swapon("/var/tmp/swap", 0)) {
		skip("swap", "no swap file");
		return;
	}
	is(in_child(swapping_in_group, NULL), 0, "swap: the child succeeded");
	swapoff("/var/tmp/swap");
	unlink("/var/tmp/swap");
}

/* Wait until `memory` has `expected` kB of huge pages. Returns the last value. */
static long wait_for_huge_pages(byte *memory, long expected, int tries)
{
	long huge = -1;

	while (tries-- && (huge = smaps(memory, "AnonHugePages", NULL)) != expected)
		usleep(100000);
	return huge;
}

static void huge_pages(void)
{
	byte *area =
		mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	byte *memory = (byte *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
	size_t n = HUGE / PAGE;
	struct profile p;

	put(THP "khugepaged/scan_sleep_millisecs", "10");
	put(THP "khugepaged/alloc_sleep_millisecs", "10");
	put(THP "khugepaged/pages_to_scan", "100000");
	madvise((void *)memory, HUGE, MADV_HUGEPAGE);
	for (size_t i = 0; i < n; i++)
		memset((void *)(memory + i * PAGE), (int)(i + 1), PAGE);
	if (smaps(memory, "AnonHugePages", NULL) != (long)(HUGE >> 10)) {
		skip("huge pages", "none available");
		return;
	}
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, n);
	is(smaps(memory, "AnonHugePages", NULL), 0, "huge pages: adding a range splits them");
	ok(smaps(memory, "VmFlags", " pp") == 1, "huge pages: smaps shows the flag pp");
	still_counts(&p, 1, 0, "huge page split");
	usleep(1500000);
	is(smaps(memory, "AnonHugePages", NULL), 0,
	   "huge pages: khugepaged ignores profiled mappings");
	is(madvise((void *)memory, HUGE, MADV_COLLAPSE), -1, "huge pages: MADV_COLLAPSE fails");
	madvise((void *)memory, HUGE, MADV_DONTNEED);
	for (size_t i = 0; i < n; i++)
		memset((void *)(memory + i * PAGE), (int)(i + 1), PAGE);
	is(smaps(memory, "AnonHugePages", NULL), 0,
	   "huge pages: faults in profiled mappings use small pages");
	page_profile_rearm(p.fd);
	read_each(memory, n);
	ok(having(&p, 2, 1) == n, "huge pages: each small page counts");
	adds_up(&p, "huge pages");
	finish(&p);
	is(wait_for_huge_pages(memory, HUGE >> 10, 100), HUGE >> 10,
	   "huge pages: khugepaged collapses the range after the profile ends");
	ok(intact(memory, n), "huge pages: data are intact");
	munmap((void *)area, 3 * HUGE);
}

static void merging(void)
{
	byte *memory = pages(N);
	struct profile p;

	for (size_t i = 0; i < N; i++)
		memset((void *)(memory + i * PAGE), 7, PAGE);
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	madvise((void *)memory, N * PAGE, MADV_MERGEABLE);
	if (!put(KSM "sleep_millisecs", "10") || !put(KSM "run", "1")) {
		skip("KSM", "not in this kernel");
		finish(&p);
		return;
	}
	for (int tries = 0; tries < 100; tries++) {
		if ((pagemap(memory) & PM_FRAME) == (pagemap(memory + (N - 1) * PAGE) & PM_FRAME))
			break;
		usleep(100000);
	}
	is((long long)(pagemap(memory) & PM_FRAME),
	   (long long)(pagemap(memory + (N - 1) * PAGE) & PM_FRAME), "KSM: pages are merged");
	put(KSM "run", "0");
	page_profile_rearm(p.fd);
	page_profile_reset(p.fd);
	read_each(memory, N);
	all_have(&p, 1, 0, "KSM: merged pages are counted separately");
	page_profile_rearm(p.fd);
	write_each(memory, N);
	all_have(&p, 1, 1, "KSM: writes that unmerge pages count");
	ok(memory[0] == 7 && memory[64] == 1 && memory[PAGE + 64] == 2, "KSM: data are correct");
	adds_up(&p, "KSM");
	put(KSM "run", "2");
	put(KSM "run", "0");
	madvise((void *)memory, N * PAGE, MADV_UNMERGEABLE);
	is(smaps(memory, "VmFlags", " pp"), 1, "KSM: MADV_UNMERGEABLE leaves the mapping profiled");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

static void balancing(void)
{
	byte *memory = pages(4096);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, 4096);
	long before = number_in("/proc/vmstat", "numa_hint_faults"), after = before;
	double until = seconds() + 20;
	unsigned int rounds = 0;

	if (before < 0 || !put("/proc/sys/kernel/numa_balancing", "1")) {
		skip("NUMA balancing", "not in this kernel");
		finish(&p);
		return;
	}
	put("/proc/sys/kernel/numa_balancing_scan_delay_ms", "10");
	put("/proc/sys/kernel/numa_balancing_scan_period_min_ms", "10");
	put("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "10");
	put("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "10");
	move_to(memory, 4096, 1);
	page_profile_reset(p.fd);
	for (; seconds() < until && after < before + 4096;
	     after = number_in("/proc/vmstat", "numa_hint_faults")) {
		page_profile_rearm(p.fd);
		read_each(memory, 4096);
		rounds++;
	}
	put("/proc/sys/kernel/numa_balancing", "0");
	ok(after > before, "NUMA balancing: %ld hinting faults", after - before);
	all_have(&p, rounds, 0, "NUMA balancing: each page counts once an epoch");
	ok(intact(memory, 4096), "NUMA balancing: data are intact");
	adds_up(&p, "NUMA balancing");
	finish(&p);
	munmap((void *)memory, 4096 * PAGE);
}

int main(void)
{
	migration();
	swapping();
	huge_pages();
	merging();
	balancing();
	return done();
}
