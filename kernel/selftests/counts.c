// SPDX-License-Identifier: GPL-2.0-only
/* What is counted in each mode: by one thread, by the kernel on its behalf, and by many threads. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
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
	all_have(&p, 1, 0, "epoch: many reads count once");
	write_each(memory, N);
	all_have(&p, 1, 0, "epoch: a write after a read does not count");
	page_profile_rearm(p.fd);
	write_each(memory, N);
	read_each(memory, N);
	all_have(&p, 1, 1, "epoch: after re-arming a write counts, the read after it does not");
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
	is((long long)sum(&p).reads, N + N / 2, "stopped: nothing counts");
	page_profile_start(p.fd);
	read_each(memory, N);
	is((long long)sum(&p).reads, 2 * N + N / 2, "started again: counters go on");
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
		char what[80];

		for (int i = 0; i < ROUNDS; i++)
			read_each(memory, k);
		snprintf(what, sizeof(what), "window %u: as many pages as it holds count once", k);
		ok(having(&p, 1, 0) == k && having(&p, 0, 0) == 1, "%s", what);
		for (int i = 0; i < ROUNDS; i++)
			read_each(memory, k + 1);
		/* The first k of the first round are in the window still. */
		snprintf(what, sizeof(what), "window %u: one page more, and each access counts", k);
		is((long long)sum(&p).reads, (long long)(k + ROUNDS * (k + 1) - k), what);
		adds_up(&p, "window");
		finish(&p);
	}
	for (unsigned int k = 2; k <= 64; k *= 2) {
		struct profile p = profile(PAGE_PROFILE_WINDOW, k, memory, 2 * 256);
		char what[80];

		for (int i = 0; i < 4; i++)
			for (size_t at = 0; at < 256 * PAGE; at += 64)
				target[at] = source[at];
		snprintf(what, sizeof(what),
			 "window %u: copying 256 pages four times reads and writes each four times",
			 k);
		ok(having(&p, 4, 0) == 256 && having(&p, 0, 4) == 256, "%s", what);
		adds_up(&p, "window");
		finish(&p);
	}
}

__attribute__((noinline)) static void touch(byte *at)
{
	(void)*at;
}

/* The very same access, down to the registers, in the next epoch. */
static void same_again(void)
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

/* Instructions that need more pages at once than the window holds must end. */
static void crowded(void)
{
	byte *memory = pages(8);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, 8);
	void *source = (void *)(memory + 2 * PAGE - 4), *target = (void *)(memory + 6 * PAGE - 4);
	unsigned long count = 1;

	asm volatile("rep movsq" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
	ok(memory[6 * PAGE - 4] == 2 && memory[6 * PAGE] == 3,
	   "crowded: a copy between four pages, window of one");
	ok(p.counts[1].reads == 1 && p.counts[2].reads == 1 && p.counts[5].writes == 1 &&
		   p.counts[6].writes == 1,
	   "crowded: each of the four counts once");
	source = (void *)(memory + PAGE - 2000);
	target = (void *)(memory + 4 * PAGE - 3000);
	count = 4000;
	asm volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
	ok(memory[4 * PAGE - 3000] == 1 && memory[4 * PAGE - 3000 + 3999] == 2,
	   "crowded: a long rep movsb ends");
	adds_up(&p, "crowded");
	finish(&p);
}

/* The most pages that an instruction can need of data and of itself: all stay open until it ends.
 */
static void crowded_code(void)
{
	byte *memory = pages(8), *code = memory + 2 * PAGE - 1;
	byte *source = memory + 4 * PAGE - 4, *target = memory + 6 * PAGE - 4;
	struct profile p;

	memcpy((void *)code, "\x48\xa5\xc3", 3); /* movsq; ret */
	mprotect((void *)memory, 8 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	p = profile(PAGE_PROFILE_WINDOW, 1, memory, 8);
	((void (*)(byte *, byte *))(uintptr_t)code)(target, source);
	ok(target[3] == 4 && target[4] == 5, "crowded: an instruction across a border copies");
	ok(p.counts[3].reads == 1 && p.counts[4].reads == 1 && p.counts[5].writes == 1 &&
		   p.counts[6].writes == 1,
	   "crowded: each of its four pages of data counts once");
	/* The ret is another instruction, in the second page of code. */
	ok(p.counts[1].reads == 1 && p.counts[2].reads == 1,
	   "crowded: each of its two pages of code counts once (got %u, %u)", p.counts[1].reads,
	   p.counts[2].reads);
	adds_up(&p, "crowded code");
	finish(&p);
	munmap((void *)memory, 8 * PAGE);
}

/* How many pages were caught exactly `times` times, whether reading or writing. */
static size_t caught(const struct profile *p, uint32_t times)
{
	size_t n = 0;

	for (size_t i = 0; i < p->pages; i++)
		n += p->counts[i].reads + p->counts[i].writes == times;
	return n;
}

/* A loop in which only the stack pointer changes, as -fstack-clash-protection makes them. */
static void probe_stack(byte *memory, size_t n)
{
	asm volatile("mov %%rsp, %%r12\n\t"
		     "mov %[top], %%rsp\n"
		     "1:\n\t"
		     "sub $4096, %%rsp\n\t"
		     "orq $0, (%%rsp)\n\t"
		     "cmp %[bottom], %%rsp\n\t"
		     "jne 1b\n\t"
		     "mov %%r12, %%rsp"
		     :
		     : [top] "r"(memory + n * PAGE), [bottom] "r"(memory)
		     : "r12", "memory", "cc");
}

/* A loop in which no general register changes: addresses are in vector registers. */
static void gather(byte *memory, size_t n)
{
	static const uint64_t first[4] = {0, 8, 16, 24}, step[4] = {PAGE, PAGE, PAGE, PAGE};
	static volatile uint64_t left;

	left = n;
	asm volatile("vmovdqu %[first], %%ymm0\n\t"
		     "vmovdqu %[step], %%ymm1\n"
		     "1:\n\t"
		     "vpcmpeqd %%ymm2, %%ymm2, %%ymm2\n\t"
		     "vpgatherqq %%ymm2, (%[memory], %%ymm0), %%ymm3\n\t"
		     "vpaddq %%ymm1, %%ymm0, %%ymm0\n\t"
		     "decq %[left]\n\t"
		     "jnz 1b\n\t"
		     "vzeroupper"
		     : [left] "+m"(left)
		     : [memory] "r"(memory), [first] "m"(first), [step] "m"(step)
		     : "xmm0", "xmm1", "xmm2", "xmm3", "memory", "cc");
}

/* A loop in which nothing but memory and one general register changes. */
static void read_by_memory(byte *memory, size_t n)
{
	static byte *volatile at;

	at = memory;
	asm volatile("1:\n\t"
		     "mov %[at], %%rax\n\t"
		     "mov (%%rax), %%al\n\t"
		     "addq $4096, %[at]\n\t"
		     "cmp %[end], %[at]\n\t"
		     "jne 1b"
		     : [at] "+m"(at)
		     : [end] "r"(memory + n * PAGE)
		     : "rax", "memory", "cc");
}

/* A window keeps what it should, whatever else changes from access to access, or does not. */
static void progress(void)
{
	static const struct {
		const char *name;
		void (*run)(byte *memory, size_t n);
		bool vector;
	} loops[] = {{"the stack pointer", probe_stack, false},
		     {"a vector register", gather, true},
		     {"memory", read_by_memory, false}};
	static const struct {
		unsigned int window;
		size_t n;
	} sizes[] = {{1, 9}, {4, 9}, {4, 200}, {8, 9}, {64, 65}};
	byte *memory = pages(200);

	for (size_t i = 0; i < sizeof(loops) / sizeof(*loops); i++)
		for (size_t j = 0; j < sizeof(sizes) / sizeof(*sizes); j++) {
			unsigned int k = sizes[j].window;
			size_t n = sizes[j].n;
			struct profile p;
			char what[100];

			snprintf(what, sizeof(what),
				 "progress: by %s alone, window %u, %zu pages, five times",
				 loops[i].name, k, n);
			if (loops[i].vector && !__builtin_cpu_supports("avx2")) {
				skip(what, "this processor has no gathers");
				continue;
			}
			p = profile(PAGE_PROFILE_WINDOW, k, memory, n);
			for (int pass = 0; pass < 5; pass++)
				loops[i].run(memory, n);
			is((long long)caught(&p, 5), (long long)n, what);
			adds_up(&p, what);
			finish(&p);
		}
	munmap((void *)memory, 200 * PAGE);
}

/* The kernel's accesses on behalf of the process. */
static void kernel_mode(enum page_profile_mode mode, unsigned int window, const char *name)
{
	byte *memory = pages(16);
	struct profile p = profile(mode, window, memory, 16);
	struct timespec soon = {0, 1000000};
	unsigned char expected[2 * PAGE];
	long got, there;
	int ends[2];

	memset(expected, 1, PAGE);
	memset(expected + PAGE, 2, PAGE);
	if (pipe(ends))
		die("pipe");
	got = write(ends[1], (void *)memory, 2 * PAGE);
	is(got, 2 * PAGE, "kernel: write() from profiled pages");
	got = read(ends[0], (void *)(memory + 4 * PAGE), 2 * PAGE);
	is(got, 2 * PAGE, "kernel: read() into profiled pages");
	there = p.counts[0].reads > 0 && p.counts[1].reads > 0 && p.counts[4].writes > 0 &&
		p.counts[5].writes > 0;
	ok(there, "kernel: %s counts them as reads and writes", name);
	ok(stats(&p).kernel_faults >= 4, "kernel: kernel-mode faults are counted apart");
	ok(!memcmp((void *)(memory + 4 * PAGE), expected, 2 * PAGE), "kernel: the data arrived");

	*(volatile int *)(memory + 15 * PAGE) = 5;
	page_profile_rearm(p.fd);
	got = syscall(SYS_futex, memory + 15 * PAGE, FUTEX_WAIT, 5, &soon, NULL, 0);
	fails(got, ETIMEDOUT,
	      "kernel: a futex in a profiled page (accessed with page faults disabled)");
	page_profile_rearm(p.fd);
	got = syscall(SYS_futex, memory + 15 * PAGE, FUTEX_WAKE_OP, 1, 1, memory + 14 * PAGE,
		      FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
	is(got, 0, "kernel: FUTEX_WAKE_OP");
	page_profile_rearm(p.fd);
	*(volatile int *)(memory + 13 * PAGE) = 0;
	got = syscall(SYS_futex, memory + 13 * PAGE, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	is(got, 0, "kernel: FUTEX_LOCK_PI");
	got = syscall(SYS_futex, memory + 13 * PAGE, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
	is(got, 0, "kernel: FUTEX_UNLOCK_PI");
	adds_up(&p, "kernel");
	finish(&p);
	close(ends[0]);
	close(ends[1]);
}

static sigjmp_buf escape;

static void on_fault(int number)
{
	siglongjmp(escape, number);
}

/* Accesses that are not allowed stay so, and do not count. */
static void forbidden(void)
{
	byte *memory = pages(4);
	struct profile p;
	int caught;

	mprotect((void *)memory, 2 * PAGE, PROT_READ);
	mprotect((void *)(memory + 2 * PAGE), PAGE, PROT_NONE);
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 4);
	signal(SIGSEGV, on_fault);
	caught = sigsetjmp(escape, 1);
	if (!caught)
		memory[0] = 9;
	is(caught, SIGSEGV, "forbidden: a write to a read-only page");
	caught = sigsetjmp(escape, 1);
	if (!caught)
		(void)memory[2 * PAGE];
	is(caught, SIGSEGV, "forbidden: a read of a PROT_NONE page");
	caught = sigsetjmp(escape, 1);
	if (!caught)
		((void (*)(void))(uintptr_t)(memory + 3 * PAGE))();
	is(caught, SIGSEGV, "forbidden: execution of a page that is not executable");
	signal(SIGSEGV, SIG_DFL);
	all_have(&p, 0, 0, "forbidden: none of them counts");
	ok(stats(&p).passed >= 2, "forbidden: they were passed on");
	(void)memory[0];
	is(p.counts[0].reads, 1, "forbidden: a read of the read-only page counts");
	is(read(-1, (void *)memory, 1), -1, "forbidden: the process goes on");
	finish(&p);
}

/* The same for what a protection key forbids. */
static void forbidden_by_key(void)
{
	byte *memory = pages(2);
	int key = pkey_alloc(0, 0), null = open("/dev/zero", O_RDONLY | O_CLOEXEC), caught;
	struct profile p;

	if (key < 0) {
		skip("forbidden: by a protection key", "this processor has none");
		return;
	}
	pkey_mprotect((void *)memory, 2 * PAGE, PROT_READ | PROT_WRITE, key);
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2);
	signal(SIGSEGV, on_fault);
	pkey_set(key, PKEY_DISABLE_ACCESS);
	caught = sigsetjmp(escape, 1);
	if (!caught)
		(void)memory[0];
	is(caught, SIGSEGV, "forbidden: a read that the page's key does not allow");
	pkey_set(key, PKEY_DISABLE_ACCESS); /* a signal handler has its own */
	fails(read(null, (void *)memory, 1), EFAULT, "forbidden: nor is the kernel allowed");
	pkey_set(key, PKEY_DISABLE_WRITE);
	caught = sigsetjmp(escape, 1);
	if (!caught)
		memory[0] = 9;
	is(caught, SIGSEGV, "forbidden: a write that the page's key does not allow");
	signal(SIGSEGV, SIG_DFL);
	all_have(&p, 0, 0, "forbidden: none of these counts");
	pkey_set(key, PKEY_DISABLE_WRITE);
	(void)memory[0];
	is(p.counts[0].reads, 1, "forbidden: a read that the key allows counts");
	pkey_set(key, 0);
	memory[PAGE] = 9;
	is(p.counts[1].writes, 1, "forbidden: and a write");
	ok(memory[0] == 1, "forbidden: the page is what it was");
	finish(&p);
	pkey_free(key);
	close(null);
	munmap((void *)memory, 2 * PAGE);
}

/* Pages that are not there yet. */
static void fresh(void)
{
	byte *memory =
		mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, 8);
	bool zero = true;

	for (size_t i = 0; i < 8; i++)
		zero &= memory[i * PAGE] == 0;
	ok(zero, "fresh: they read as zero");
	all_have(&p, 1, 0, "fresh: the first read counts (zero page)");
	write_each(memory, 8);
	all_have(&p, 1, 1, "fresh: so does the first write (copy on write from the zero page)");
	madvise((void *)memory, 8 * PAGE, MADV_DONTNEED);
	page_profile_rearm(p.fd);
	write_each(memory, 8);
	all_have(&p, 1, 2, "fresh: and a write after MADV_DONTNEED");
	adds_up(&p, "fresh");
	finish(&p);
}

struct worker {
	pthread_t thread;
	byte *memory;
	size_t pages;
	int cpu, rounds;
};

static void *reader(void *argument)
{
	struct worker *w = argument;

	if (w->cpu >= 0)
		pin(w->cpu);
	for (int i = 0; i < w->rounds; i++)
		read_each(w->memory, w->pages);
	return NULL;
}

static void run_workers(struct worker *workers, int n)
{
	for (int i = 0; i < n; i++)
		if (pthread_create(&workers[i].thread, NULL, reader, &workers[i]))
			die("pthread_create");
	for (int i = 0; i < n; i++)
		pthread_join(workers[i].thread, NULL);
}

static void threads(void)
{
	byte *memory = pages(16 * N);
	struct worker workers[16];
	struct profile p = profile(PAGE_PROFILE_WINDOW, 8, memory, 2 * N);

	for (int i = 0; i < 2; i++)
		workers[i] = (struct worker){0, memory + (size_t)i * N * PAGE, N, i, 50};
	run_workers(workers, 2);
	all_have(&p, 50, 0, "threads: two on two CPUs count as each would alone");
	adds_up(&p, "threads");
	finish(&p);

	/* Not pinned: they move between CPUs, and their windows with them. */
	p = profile(PAGE_PROFILE_WINDOW, 8, memory, 3 * N);
	for (int i = 0; i < 3; i++)
		workers[i] = (struct worker){0, memory + (size_t)i * N * PAGE, N, -1, 50};
	run_workers(workers, 3);
	all_have(&p, 50, 0, "threads: three on two CPUs count as each would alone");
	adds_up(&p, "threads");
	finish(&p);

	p = profile(PAGE_PROFILE_WINDOW, 8, memory, 16 * N);
	for (int i = 0; i < 16; i++)
		workers[i] = (struct worker){0, memory + (size_t)i * N * PAGE, N, -1, 20};
	run_workers(workers, 16);
	ok(sum(&p).reads >= 16 * N * 20 * 95 / 100 && sum(&p).reads <= 16 * N * 20,
	   "threads: sixteen on two CPUs lose little (%lu of %lu)", sum(&p).reads, 16 * N * 20);
	adds_up(&p, "threads");
	finish(&p);

	p = profile(PAGE_PROFILE_WINDOW, 1, memory, 2);
	for (int i = 0; i < 2; i++)
		workers[i] = (struct worker){0, memory, 2, i, 5000};
	run_workers(workers, 2);
	ok(sum(&p).reads > 0 && sum(&p).reads <= 20000,
	   "threads: two on the same pages (%lu of 20000)", sum(&p).reads);
	adds_up(&p, "threads");
	finish(&p);

	p = profile(PAGE_PROFILE_EPOCH, 0, memory, 16 * N);
	for (int i = 0; i < 16; i++)
		workers[i] = (struct worker){0, memory, 16 * N, -1, 2};
	run_workers(workers, 16);
	all_have(&p, 1, 0, "threads: in an epoch each page counts once, whoever comes first");
	adds_up(&p, "threads");
	finish(&p);
	ok(intact(memory, 16 * N), "threads: data are intact");
}

/* The window of a thread that is gone does not keep its pages from being counted. */
static void stale(void)
{
	byte *memory = pages(2 * N);
	struct worker gone = {0, memory, 4, -1, 1};
	struct profile p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2 * N);

	run_workers(&gone, 1);
	for (int i = 0; i < 100; i++)
		read_each(memory + N * PAGE, N);
	read_each(memory, 4);
	ok(p.counts[0].reads == 2 && p.counts[3].reads == 2,
	   "stale: a window is emptied some time after its thread ended");
	finish(&p);
}

struct sleeper {
	pthread_t thread;
	byte *memory;
	int go[2], done[2];
};

/* The same access again and again, down to the registers, each when told. */
static void *touch_when_told(void *argument)
{
	struct sleeper *s = argument;
	char word;

	while (read(s->go[0], &word, 1) == 1) {
		touch(s->memory);
		if (write(s->done[1], &word, 1) != 1)
			die("write");
	}
	return NULL;
}

/* A thread that sleeps between its accesses got on, though its registers are always the same. */
static void sleeping(void)
{
	byte *memory = pages(2 * N);
	struct sleeper s = {.memory = memory};
	struct profile p;
	char word = 0;

	if (pipe(s.go) || pipe(s.done) || pthread_create(&s.thread, NULL, touch_when_told, &s))
		die("pthread_create");
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2 * N);
	for (int i = 0; i < 5; i++) {
		if (write(s.go[1], &word, 1) != 1 || read(s.done[0], &word, 1) != 1)
			die("pipe");
		for (int j = 0; j < 50; j++)
			read_each(memory + N * PAGE, N);
	}
	is(p.counts[0].reads, 5, "stale: a thread's next access, much later, counts again");
	close(s.go[1]);
	pthread_join(s.thread, NULL);
	close(s.go[0]);
	close(s.done[0]);
	close(s.done[1]);
	adds_up(&p, "stale");
	finish(&p);
	munmap((void *)memory, 2 * N * PAGE);
}

static volatile bool enough;

static void *busy(void *argument)
{
	byte *memory = argument;

	while (!enough)
		read_each(memory, 4);
	return NULL;
}

/* The window of a thread at work is its own, however many accesses others make. */
static void working(void)
{
	byte *memory = pages(2 * N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2 * N);
	pthread_t thread;

	enough = false;
	if (pthread_create(&thread, NULL, busy, (void *)memory))
		die("pthread_create");
	while (!p.counts[3].reads)
		usleep(1000);
	for (int i = 0; i < 100; i++)
		read_each(memory + N * PAGE, N);
	enough = true;
	pthread_join(thread, NULL);
	ok(p.counts[0].reads == 1 && p.counts[3].reads == 1,
	   "stale: not the window of a thread at work (got %u, %u)", p.counts[0].reads,
	   p.counts[3].reads);
	adds_up(&p, "working");
	finish(&p);
	munmap((void *)memory, 2 * N * PAGE);
}

int main(void)
{
	epochs();
	windows();
	same_again();
	crowded();
	crowded_code();
	progress();
	kernel_mode(PAGE_PROFILE_EPOCH, 0, "epoch");
	kernel_mode(PAGE_PROFILE_WINDOW, 1, "window of one");
	kernel_mode(PAGE_PROFILE_WINDOW, 8, "window of eight");
	forbidden();
	forbidden_by_key();
	fresh();
	threads();
	stale();
	sleeping();
	working();
	return done();
}
