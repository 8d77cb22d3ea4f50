// SPDX-License-Identifier: GPL-2.0-only
/*
 * Operations of the memory manager on profiled pages: pages are counted as before, entries stay
 * marked, and data are intact.
 */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/uio.h>

#include "guest.h"

#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define N    32UL
#define HUGE (2UL << 20)

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define KSM "/sys/kernel/mm/ksm/"

/* Read each page, then report whether each read was counted and the data are intact. */
static void still_counts(struct profile *p, unsigned int reads, unsigned int writes,
			 const char *after)
{
	char point[100];

	read_each(p->memory, p->pages);
	snprintf(point, sizeof(point), "%s: reads are counted", after);
	all_have(p, reads, writes, point);
	snprintf(point, sizeof(point), "%s: data are intact", after);
	ok(intact(p->memory, p->pages), "%s", point);
	page_profile_rearm(p->fd);
}

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

static void touch_all(void *argument)
{
	struct profile *p = argument;

	if (!intact(p->memory, p->pages))
		_exit(1);
	write_each(p->memory, p->pages);
	for (size_t i = 0; i < p->pages; i++)
		memset((void *)(p->memory + i * PAGE), 0xee, PAGE);
}

static void copy_on_write(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, N);

	is(in_child(touch_all, &p), 0, "fork: a child reads and writes its copy");
	all_have(&p, 0, 0, "fork: the child's accesses do not count");
	still_counts(&p, 1, 0, "fork");
	for (size_t i = 0; i < N; i++)
		memory[i * PAGE + 64] = (unsigned char)(i + 1);
	ok(having(&p, 2, 1) == N, "copy on write: a write counts once (%u, %u)", p.counts[0].reads,
	   p.counts[0].writes);
	adds_up(&p, "copy on write");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

static void protection(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);

	mprotect((void *)memory, N * PAGE, PROT_READ);
	still_counts(&p, 1, 0, "mprotect read-only");
	mprotect((void *)memory, N * PAGE, PROT_NONE);
	mprotect((void *)memory, N * PAGE, PROT_READ | PROT_WRITE);
	still_counts(&p, 2, 0, "mprotect none and back");
	read_each(memory, N);
	mprotect((void *)memory, N * PAGE, PROT_READ);
	mprotect((void *)memory, N * PAGE, PROT_READ | PROT_WRITE);
	read_each(memory, N);
	all_have(&p, 3, 0, "mprotect: open pages stay open");
	is((long long)stats(&p).uncounted, 0, "mprotect: open pages do not fault again");
	mprotect((void *)(memory + 8 * PAGE), 8 * PAGE, PROT_READ);
	page_profile_rearm(p.fd);
	still_counts(&p, 4, 0, "mprotect in the middle");
	adds_up(&p, "mprotect");
	finish(&p);
	munmap((void *)memory, N * PAGE);
}

static void remapping(void)
{
	byte *memory = pages(N), *place = pages(2 * N), *moved;
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	uint64_t offset;

	read_each(memory, N);
	moved = mremap((void *)memory, N * PAGE, N * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	ok(moved == place, "mremap: moves a profiled mapping");
	page_profile_rearm(p.fd);
	ok(intact(moved, N), "mremap: data are intact");
	all_have(&p, 1, 0, "mremap: accesses outside the range do not count");
	is(page_profile_remove(p.fd, (void *)memory, N * PAGE), 0,
	   "mremap: the old range can be removed");
	is(page_profile_add(p.fd, (void *)moved, N * PAGE, &offset), 0,
	   "mremap: the new place can be added");
	page_profile_unmap(p.counts, N * PAGE);
	p.memory = moved;
	p.counts = page_profile_map(p.fd, offset, N * PAGE);
	still_counts(&p, 1, 0, "mremap");
	moved = mremap((void *)moved, N * PAGE, 2 * N * PAGE, MREMAP_MAYMOVE);
	ok(moved != MAP_FAILED, "mremap: grows a profiled mapping");
	memset((void *)(moved + N * PAGE), 1, N * PAGE);
	ok(intact(moved, N), "mremap: data are intact after growing");
	finish(&p);
	munmap((void *)moved, 2 * N * PAGE);
	munmap((void *)(place + N * PAGE), N * PAGE);
}

static void unmapping(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);
	void *again;

	read_each(memory, N);
	munmap((void *)(memory + 8 * PAGE), 8 * PAGE);
	page_profile_rearm(p.fd);
	read_each(memory, 8);
	ok(p.counts[0].reads == 2 && p.counts[8].reads == 1,
	   "munmap: the rest is counted, unmapped pages keep their counters");
	again = mmap((void *)(memory + 8 * PAGE), 8 * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* at the hint if it is free */
	ok(again == memory + 8 * PAGE, "munmap: a new mapping in the hole");
	write_each(memory + 8 * PAGE, 8);
	ok(p.counts[8].reads == 1 && p.counts[8].writes == 0,
	   "munmap: the new mapping is not profiled");
	is(page_profile_stop(p.fd), 0, "munmap: stop with a hole");
	is(page_profile_start(p.fd), 0, "munmap: start with a hole");
	munmap((void *)memory, N * PAGE);
	is(page_profile_rearm(p.fd), 0, "munmap: re-arm without mappings");
	is(page_profile_remove(p.fd, (void *)memory, N * PAGE), 0,
	   "munmap: remove without mappings");
	finish(&p);
}

static void discarding(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);

	read_each(memory, N);
	page_profile_rearm(p.fd);
	madvise((void *)memory, N * PAGE, MADV_DONTNEED);
	write_each(memory, N);
	all_have(&p, 1, 1, "MADV_DONTNEED: writes to new pages count");
	ok(memory[PAGE] == 0 && memory[PAGE + 64] == 2, "MADV_DONTNEED: pages are new");
	page_profile_rearm(p.fd);
	madvise((void *)memory, N * PAGE, MADV_FREE);
	write_each(memory, N);
	all_have(&p, 1, 2, "MADV_FREE: writes count");
	ok(memory[PAGE + 64] == 2, "MADV_FREE: later writes persist");
	adds_up(&p, "discarding");
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

static void refused(void)
{
	int fd = page_profile_open(0), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	byte *memory;

	put("/proc/sys/vm/nr_hugepages", "4");
	memory = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		      -1, 0);
	if (memory == MAP_FAILED) {
		skip("refused: hugetlb", "no huge page");
	} else {
		memory[0] = 1;
		fails(page_profile_add(fd, (void *)memory, HUGE, NULL), EINVAL, "refused: hugetlb");
		munmap((void *)memory, HUGE);
	}
	put("/proc/sys/vm/nr_hugepages", "0");
	memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EINVAL,
	      "refused: a private file mapping");
	munmap((void *)memory, PAGE);
	memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EINVAL,
	      "refused: a shared file mapping");
	munmap((void *)memory, PAGE);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fails(page_profile_add(fd, (void *)memory, PAGE, NULL), EINVAL, "refused: shared memory");
	munmap((void *)memory, PAGE);
	memory = pages(3);
	munmap((void *)(memory + PAGE), PAGE);
	fails(page_profile_add(fd, (void *)memory, 3 * PAGE, NULL), ENOMEM,
	      "refused: a range with a hole");
	is(smaps(memory, "VmFlags", " pp"), 0, "refused: no mapping is flagged after a failure");
	close(file);
	close(fd);
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

/* Kernel accesses that bypass the page table are not counted. */
static void page_references(void)
{
	byte *memory = pages(4), *other = pages(4);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, 4);
	struct iovec local = {(void *)other, 4 * PAGE}, remote = {(void *)memory, 4 * PAGE};
	int fd, ends[2];

	is(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 4 * PAGE,
	   "GUP: process_vm_readv() of profiled pages");
	ok(intact(other, 4), "GUP: process_vm_readv() reads the data");
	memset((void *)other, 0x55, 4 * PAGE);
	is(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), 4 * PAGE,
	   "GUP: process_vm_writev() to profiled pages");
	all_have(&p, 0, 0, "GUP: accesses do not count");
	ok(memory[0] == 0x55 && memory[4 * PAGE - 1] == 0x55,
	   "GUP: process_vm_writev() writes the data");
	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ok(pwrite(fd, "\x66", 1, (off_t)(uintptr_t)(memory + PAGE)) == 1 && memory[PAGE] == 0x66,
	   "/proc/self/mem: write");
	memset((void *)other, 0, PAGE);
	ok(pread(fd, (void *)other, PAGE, (off_t)(uintptr_t)(memory + PAGE)) == (ssize_t)PAGE &&
		   other[0] == 0x66 && other[1] == 0x55,
	   "/proc/self/mem: read");
	close(fd);
	if (pipe(ends))
		die("pipe");
	is(vmsplice(ends[1], &(struct iovec){(void *)memory, PAGE}, 1, 0), PAGE,
	   "GUP: vmsplice() of a profiled page");
	ok(read(ends[0], (void *)other, PAGE) == (ssize_t)PAGE && other[1] == 0x55,
	   "GUP: the pipe has the data");
	close(ends[0]);
	close(ends[1]);
	fd = open("/var/tmp/direct", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		skip("O_DIRECT", strerror(errno));
	} else {
		memset((void *)memory, 0x77, 4 * PAGE);
		page_profile_rearm(p.fd);
		is(pwrite(fd, (void *)memory, 4 * PAGE, 0), 4 * PAGE,
		   "O_DIRECT: write from profiled pages");
		memset((void *)memory, 0, 4 * PAGE);
		is(pread(fd, (void *)memory, 4 * PAGE, 0), 4 * PAGE,
		   "O_DIRECT: read into profiled pages");
		ok(memory[0] == 0x77 && memory[4 * PAGE - 1] == 0x77, "O_DIRECT: the data arrived");
		close(fd);
		unlink("/var/tmp/direct");
	}
	is(mlock((void *)memory, 4 * PAGE), 0, "mlock: of profiled pages");
	page_profile_rearm(p.fd);
	page_profile_reset(p.fd);
	read_each(memory, 4);
	all_have(&p, 1, 0, "mlock: reads of locked pages count");
	munlock((void *)memory, 4 * PAGE);
	finish(&p);
}

static void *feed(void *argument)
{
	int fd = *(int *)argument;
	static unsigned char content[PAGE] __attribute__((aligned(4096)));
	struct uffd_msg message;

	memset(content, 0x42, PAGE);
	for (int i = 0; i < 4 && read(fd, &message, sizeof(message)) == sizeof(message); i++) {
		struct uffdio_copy copy = {.dst = message.arg.pagefault.address & ~(PAGE - 1),
					   .len = PAGE};

		copy.src = (uintptr_t)content;
		ioctl(fd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

static void user_faults(void)
{
	byte *memory =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range = {(uintptr_t)memory, 4 * PAGE},
					.mode = UFFDIO_REGISTER_MODE_MISSING};
	pthread_t thread;
	struct profile p;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) {
		skip("userfaultfd", strerror(errno));
		return;
	}
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, 4);
	pthread_create(&thread, NULL, feed, &fd);
	read_each(memory, 4);
	pthread_join(thread, NULL);
	all_have(&p, 1, 0, "userfaultfd: accesses to installed pages count");
	ok(memory[0] == 0x42 && memory[3 * PAGE] == 0x42, "userfaultfd: data are correct");
	finish(&p);
	close(fd);
	munmap((void *)memory, 4 * PAGE);
}

/* Mappings are split at the boundaries of a range, and merged afterwards. */
static void boundaries(void)
{
	byte *memory = pages(N);
	int before = mappings();
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory + 8 * PAGE, 8);
	uint64_t offset;

	is(mappings(), before + 3,
	   "boundaries: a range splits its mapping (plus one mapping of counters)");
	is(page_profile_add(p.fd, (void *)(memory + 16 * PAGE), 8 * PAGE, &offset), 0,
	   "boundaries: add an adjacent range");
	read_each(memory, N);
	all_have(&p, 1, 0, "boundaries: accesses inside count");
	is((long long)stats(&p).user_faults, 16, "boundaries: accesses outside do not fault");
	is(page_profile_remove(p.fd, (void *)(memory + 8 * PAGE), 8 * PAGE), 0,
	   "boundaries: remove one range");
	page_profile_rearm(p.fd);
	read_each(memory, N);
	is((long long)stats(&p).user_faults, 24, "boundaries: only the other range is counted");
	finish(&p);
	is(mappings(), before, "boundaries: the mapping is merged again");
	ok(intact(memory, N), "boundaries: data are intact");
	munmap((void *)memory, N * PAGE);
}

static void dump(void *argument)
{
	byte *memory = pages(16);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, 16);

	memset((void *)(memory + 3 * PAGE), 0, PAGE);
	strcpy((char *)(memory + 3 * PAGE), "the dumped words");
	page_profile_rearm(p.fd);
	abort();
}

static void core_dump(void)
{
	char pattern[200] = "";
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "re");
	int status;

	if (!f || !fgets(pattern, sizeof(pattern), f))
		die("core_pattern");
	fclose(f);
	put("/proc/sys/kernel/core_pattern", "/var/tmp/core");
	setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
	status = in_child(dump, NULL);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "core dump: of a profiled process");
	ok(WCOREDUMP(status) && system("grep -q 'the dumped words' /var/tmp/core*") == 0,
	   "core dump: it contains the data of marked pages");
	put("/proc/sys/kernel/core_pattern", pattern);
	system("rm -f /var/tmp/core*");
}

int main(void)
{
	migration();
	copy_on_write();
	protection();
	remapping();
	unmapping();
	discarding();
	swapping();
	huge_pages();
	refused();
	merging();
	balancing();
	page_references();
	user_faults();
	boundaries();
	core_dump();
	return done();
}
