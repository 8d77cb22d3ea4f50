// SPDX-License-Identifier: GPL-2.0-only
/* Counts in each mode: accesses by one thread and by the kernel, and forbidden ones */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <setjmp.h>

#include "guest.h"

#define N      64UL
#define ROUNDS 20

static void epochs(void)
{
	byte *memory = pages(N);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, N);

	for (int i = 0; i < ROUNDS; i++)
		read_each(memory, N);
	all_have(&p, 1, 0, "epoch: repeated reads count once");
	write_each(memory, N);
	all_have(&p, 1, 0, "epoch: a write after a read does not count");
	page_profile_rearm(p.fd);
	write_each(memory, N);
	read_each(memory, N);
	all_have(&p, 1, 1, "epoch: after re-arming, a write counts, and a read after it does not");
	page_profile_rearm(p.fd);
	read_each(memory, N / 2);
	page_profile_rearm(p.fd);
	is((long long)stats(&p).epochs, 3, "epoch: re-armings are counted");
	is((long long)stats(&p).rearmed, 2 * N + N / 2, "epoch: only open entries are re-armed");
	is((long long)sum(&p).reads, N + N / 2,
	   "epoch: half the pages were read in the last epoch");
	adds_up(&p, "epoch");

	page_profile_stop(p.fd);
	read_each(memory, N);
	is((long long)sum(&p).reads, N + N / 2, "stop: no access counts");
	page_profile_start(p.fd);
	read_each(memory, N);
	is((long long)sum(&p).reads, 2 * N + N / 2, "start: counters keep their values");
	page_profile_reset(p.fd);
	all_have(&p, 0, 0, "reset: counters are zero");
	is((long long)stats(&p).user_faults, 0, "reset: statistics are zero");
	ok(intact(memory, N), "epoch: data are intact");
	finish(&p);
}

static void windows(void)
{
	static const unsigned int sizes[] = {1, 4, 8, 16, 63, 64};
	byte *memory = pages(2 * 256), *source = memory, *target = memory + 256 * PAGE;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		unsigned int k = sizes[s];
		struct profile p = profile(PAGE_PROFILE_WINDOW, k, memory, k + 1);
		char point[80];

		for (int i = 0; i < ROUNDS; i++)
			read_each(memory, k);
		snprintf(point, sizeof(point), "window %u: pages that fit count once", k);
		ok(having(&p, 1, 0) == k && having(&p, 0, 0) == 1, "%s", point);
		for (int i = 0; i < ROUNDS; i++)
			read_each(memory, k + 1);
		/* The first k accesses hit the window. */
		snprintf(point, sizeof(point), "window %u: with one page more, each access counts",
			 k);
		is((long long)sum(&p).reads, (long long)(k + ROUNDS * (k + 1) - k), point);
		adds_up(&p, "window");
		finish(&p);
	}
	for (unsigned int k = 2; k <= 64; k *= 2) {
		struct profile p = profile(PAGE_PROFILE_WINDOW, k, memory, 2 * 256);
		char point[80];

		for (int i = 0; i < 4; i++)
			for (size_t at = 0; at < 256 * PAGE; at += 64)
				target[at] = source[at];
		snprintf(point, sizeof(point),
			 "window %u: copying 256 pages four times reads and writes each four times",
			 k);
		ok(having(&p, 4, 0) == 256 && having(&p, 0, 4) == 256, "%s", point);
		adds_up(&p, "window");
		finish(&p);
	}
}

/* The same access with equal registers in the next epoch counts again. */
static void repeated_access(void)
{
	byte *memory = pages(1);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 4, memory, 1);
	static volatile int i;

	for (i = 0; i < 10; i++) {
		touch(memory);
		page_profile_rearm(p.fd);
	}
	is(p.counts[0].reads, 10, "window: after re-arming the same access counts again");
	finish(&p);
	munmap((void *)memory, PAGE);
}

/* Accesses by the kernel to the process's addresses */
static void kernel_mode(enum page_profile_mode mode, unsigned int window, const char *name)
{
	byte *memory = pages(16);
	struct profile p = profile(mode, window, memory, 16);
	struct timespec soon = {0, 1000000};
	unsigned char expected[2 * PAGE];
	long result;
	bool counted;
	int ends[2];

	memset(expected, 1, PAGE);
	memset(expected + PAGE, 2, PAGE);
	if (pipe(ends))
		die("pipe");
	result = write(ends[1], (void *)memory, 2 * PAGE);
	is(result, 2 * PAGE, "kernel: write() from profiled pages");
	result = read(ends[0], (void *)(memory + 4 * PAGE), 2 * PAGE);
	is(result, 2 * PAGE, "kernel: read() into profiled pages");
	counted = p.counts[0].reads > 0 && p.counts[1].reads > 0 && p.counts[4].writes > 0 &&
		  p.counts[5].writes > 0;
	ok(counted, "kernel: %s counts them as reads and writes", name);
	ok(stats(&p).kernel_faults >= 4, "kernel: kernel-mode faults have their own statistic");
	ok(!memcmp((void *)(memory + 4 * PAGE), expected, 2 * PAGE), "kernel: the data arrived");

	*(volatile int *)(memory + 15 * PAGE) = 5;
	page_profile_rearm(p.fd);
	result = syscall(SYS_futex, memory + 15 * PAGE, FUTEX_WAIT, 5, &soon, NULL, 0);
	fails(result, ETIMEDOUT,
	      "kernel: a futex in a profiled page (accessed with page faults disabled)");
	page_profile_rearm(p.fd);
	result = syscall(SYS_futex, memory + 15 * PAGE, FUTEX_WAKE_OP, 1, 1, memory + 14 * PAGE,
			 FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
	is(result, 0, "kernel: FUTEX_WAKE_OP");
	page_profile_rearm(p.fd);
	*(volatile int *)(memory + 13 * PAGE) = 0;
	result = syscall(SYS_futex, memory + 13 * PAGE, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	is(result, 0, "kernel: FUTEX_LOCK_PI");
	result = syscall(SYS_futex, memory + 13 * PAGE, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
	is(result, 0, "kernel: FUTEX_UNLOCK_PI");
	adds_up(&p, "kernel");
	finish(&p);
	close(ends[0]);
	close(ends[1]);
}

static sigjmp_buf after_fault;

static void on_fault(int number)
{
	siglongjmp(after_fault, number);
}

/* Forbidden accesses fail as usual and are not counted. */
static void forbidden(void)
{
	byte *memory = pages(4);
	struct profile p;
	int caught;

	mprotect((void *)memory, 2 * PAGE, PROT_READ);
	mprotect((void *)(memory + 2 * PAGE), PAGE, PROT_NONE);
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 4);
	signal(SIGSEGV, on_fault);
	caught = sigsetjmp(after_fault, 1);
	if (!caught)
		memory[0] = 9;
	is(caught, SIGSEGV, "forbidden: a write to a read-only page");
	caught = sigsetjmp(after_fault, 1);
	if (!caught)
		(void)memory[2 * PAGE];
	is(caught, SIGSEGV, "forbidden: a read of a PROT_NONE page");
	caught = sigsetjmp(after_fault, 1);
	if (!caught)
		((void (*)(void))(uintptr_t)(memory + 3 * PAGE))();
	is(caught, SIGSEGV, "forbidden: execution of a non-executable page");
	signal(SIGSEGV, SIG_DFL);
	all_have(&p, 0, 0, "forbidden: no access counts");
	ok(stats(&p).passed >= 2, "forbidden: accesses are passed to the memory manager");
	(void)memory[0];
	is(p.counts[0].reads, 1, "forbidden: a read of the read-only page counts");
	is(read(-1, (void *)memory, 1), -1, "forbidden: the process continues");
	finish(&p);
}

/* Accesses that a protection key forbids */
static void forbidden_by_key(void)
{
	byte *memory = pages(2);
	int key = pkey_alloc(0, 0), null = open("/dev/zero", O_RDONLY | O_CLOEXEC), caught;
	struct profile p;

	if (key < 0) {
		skip("protection key", "not supported by this processor");
		return;
	}
	pkey_mprotect((void *)memory, 2 * PAGE, PROT_READ | PROT_WRITE, key);
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2);
	signal(SIGSEGV, on_fault);
	pkey_set(key, PKEY_DISABLE_ACCESS);
	caught = sigsetjmp(after_fault, 1);
	if (!caught)
		(void)memory[0];
	is(caught, SIGSEGV, "protection key: a forbidden read");
	pkey_set(key, PKEY_DISABLE_ACCESS); /* the signal handler reset it */
	fails(read(null, (void *)memory, 1), EFAULT, "protection key: the kernel's access fails");
	pkey_set(key, PKEY_DISABLE_WRITE);
	caught = sigsetjmp(after_fault, 1);
	if (!caught)
		memory[0] = 9;
	is(caught, SIGSEGV, "protection key: a forbidden write");
	signal(SIGSEGV, SIG_DFL);
	all_have(&p, 0, 0, "protection key: no access counts");
	pkey_set(key, PKEY_DISABLE_WRITE);
	(void)memory[0];
	is(p.counts[0].reads, 1, "protection key: a permitted read counts");
	pkey_set(key, 0);
	memory[PAGE] = 9;
	is(p.counts[1].writes, 1, "protection key: a permitted write counts");
	ok(memory[0] == 1, "protection key: the page is unchanged");
	finish(&p);
	pkey_free(key);
	close(null);
	munmap((void *)memory, 2 * PAGE);
}

/* Pages that are not populated yet */
static void unpopulated(void)
{
	byte *memory =
		mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, 8);
	bool zero = true;

	for (size_t i = 0; i < 8; i++)
		zero &= memory[i * PAGE] == 0;
	ok(zero, "unpopulated: pages read as zero");
	all_have(&p, 1, 0, "unpopulated: the first read counts (zero page)");
	write_each(memory, 8);
	all_have(&p, 1, 1,
		 "unpopulated: the first write counts (copy on write from the zero page)");
	madvise((void *)memory, 8 * PAGE, MADV_DONTNEED);
	page_profile_rearm(p.fd);
	write_each(memory, 8);
	all_have(&p, 1, 2, "unpopulated: a write after MADV_DONTNEED counts");
	adds_up(&p, "unpopulated");
	finish(&p);
}

int main(void)
{
	epochs();
	windows();
	repeated_access();
	kernel_mode(PAGE_PROFILE_EPOCH, 0, "epoch");
	kernel_mode(PAGE_PROFILE_WINDOW, 1, "window of one");
	kernel_mode(PAGE_PROFILE_WINDOW, 8, "window of eight");
	forbidden();
	forbidden_by_key();
	unpopulated();
	return done();
}
