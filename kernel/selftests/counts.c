// SPDX-License-Identifier: GPL-2.0-only
/* Counts in each mode: accesses by one thread, by the kernel, and by many threads */
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

__attribute__((noinline)) static void touch(byte *at)
{
	(void)*at;
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

/* Instructions that need more pages than the window holds complete. */
static void instructions(void)
{
	byte *memory = pages(8);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 1, memory, 8);
	void *source = (void *)(memory + 2 * PAGE - 4), *target = (void *)(memory + 6 * PAGE - 4);
	unsigned long count = 1;

	asm volatile("rep movsq" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
	ok(memory[6 * PAGE - 4] == 2 && memory[6 * PAGE] == 3,
	   "instruction: a copy between four pages, window of one");
	ok(p.counts[1].reads == 1 && p.counts[2].reads == 1 && p.counts[5].writes == 1 &&
		   p.counts[6].writes == 1,
	   "instruction: each of the four pages counts once");
	source = (void *)(memory + PAGE - 2000);
	target = (void *)(memory + 4 * PAGE - 3000);
	count = 4000;
	asm volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
	ok(memory[4 * PAGE - 3000] == 1 && memory[4 * PAGE - 3000 + 3999] == 2,
	   "instruction: a long rep movsb completes");
	adds_up(&p, "instruction");
	finish(&p);
}

/* An instruction that needs four pages of data and two of code */
static void instructions_in_profiled_code(void)
{
	byte *memory = pages(8), *code = memory + 2 * PAGE - 1;
	byte *source = memory + 4 * PAGE - 4, *target = memory + 6 * PAGE - 4;
	struct profile p;

	memcpy((void *)code, "\x48\xa5\xc3", 3); /* movsq; ret */
	mprotect((void *)memory, 8 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	p = profile(PAGE_PROFILE_WINDOW, 1, memory, 8);
	((void (*)(byte *, byte *))(uintptr_t)code)(target, source);
	ok(target[3] == 4 && target[4] == 5, "instruction: movsq across a page boundary copies");
	ok(p.counts[3].reads == 1 && p.counts[4].reads == 1 && p.counts[5].writes == 1 &&
		   p.counts[6].writes == 1,
	   "instruction: each of its four pages of data counts once");
	/* The ret is in the second page of code. */
	ok(p.counts[1].reads == 1 && p.counts[2].reads == 1,
	   "instruction: each of its two pages of code counts once (got %u, %u)", p.counts[1].reads,
	   p.counts[2].reads);
	adds_up(&p, "instruction in profiled code");
	finish(&p);
	munmap((void *)memory, 8 * PAGE);
}

/* Returns the number of pages with exactly `times` caught accesses. */
static size_t pages_caught(const struct profile *p, uint32_t times)
{
	size_t n = 0;

	for (size_t i = 0; i < p->pages; i++)
		n += p->counts[i].reads + p->counts[i].writes == times;
	return n;
}

/* A loop in which only the stack pointer changes, as generated by -fstack-clash-protection */
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

/* A loop with its addresses in vector registers: no general register changes. */
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

/* A loop in which only memory and one general register change */
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

/* Windows evict correctly, regardless of which registers differ between accesses. */
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
			char point[100];

			snprintf(point, sizeof(point),
				 "progress: only %s changes, window %u, %zu pages, five times",
				 loops[i].name, k, n);
			if (loops[i].vector && !__builtin_cpu_supports("avx2")) {
				skip(point, "no AVX2");
				continue;
			}
			p = profile(PAGE_PROFILE_WINDOW, k, memory, n);
			for (int pass = 0; pass < 5; pass++)
				loops[i].run(memory, n);
			is((long long)pages_caught(&p, 5), (long long)n, point);
			adds_up(&p, point);
			finish(&p);
		}
	munmap((void *)memory, 200 * PAGE);
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
	all_have(&p, 50, 0, "threads: two on two CPUs are counted independently");
	adds_up(&p, "threads");
	finish(&p);

	/* Not pinned: threads, with their windows, move between CPUs. */
	p = profile(PAGE_PROFILE_WINDOW, 8, memory, 3 * N);
	for (int i = 0; i < 3; i++)
		workers[i] = (struct worker){0, memory + (size_t)i * N * PAGE, N, -1, 50};
	run_workers(workers, 3);
	all_have(&p, 50, 0, "threads: three on two CPUs are counted independently");
	adds_up(&p, "threads");
	finish(&p);

	p = profile(PAGE_PROFILE_WINDOW, 8, memory, 16 * N);
	for (int i = 0; i < 16; i++)
		workers[i] = (struct worker){0, memory + (size_t)i * N * PAGE, N, -1, 20};
	run_workers(workers, 16);
	ok(sum(&p).reads >= 16 * N * 20 * 95 / 100 && sum(&p).reads <= 16 * N * 20,
	   "threads: sixteen on two CPUs lose at most 5 %% (%lu of %lu)", sum(&p).reads,
	   16 * N * 20);
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
	all_have(&p, 1, 0, "threads: in an epoch, each page counts once");
	adds_up(&p, "threads");
	finish(&p);
	ok(intact(memory, 16 * N), "threads: data are intact");
}

/* The window of a thread that has exited does not keep its pages open. */
static void stale(void)
{
	byte *memory = pages(2 * N);
	struct worker worker = {0, memory, 4, -1, 1};
	struct profile p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2 * N);

	run_workers(&worker, 1);
	for (int i = 0; i < 100; i++)
		read_each(memory + N * PAGE, N);
	read_each(memory, 4);
	ok(p.counts[0].reads == 2 && p.counts[3].reads == 2,
	   "stale: the window of an exited thread is emptied");
	finish(&p);
}

struct sleeper {
	pthread_t thread;
	byte *memory;
	int go[2], done[2];
};

/* Repeat the same access, with equal registers, once for each byte received. */
static void *touch_on_request(void *argument)
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

/* A thread that sleeps between accesses has made progress, although its registers are equal. */
static void sleeping(void)
{
	byte *memory = pages(2 * N);
	struct sleeper s = {.memory = memory};
	struct profile p;
	char word = 0;

	if (pipe(s.go) || pipe(s.done) || pthread_create(&s.thread, NULL, touch_on_request, &s))
		die("pthread_create");
	p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2 * N);
	for (int i = 0; i < 5; i++) {
		if (write(s.go[1], &word, 1) != 1 || read(s.done[0], &word, 1) != 1)
			die("pipe");
		for (int j = 0; j < 50; j++)
			read_each(memory + N * PAGE, N);
	}
	is(p.counts[0].reads, 5, "stale: an access of a thread that slept counts again");
	close(s.go[1]);
	pthread_join(s.thread, NULL);
	close(s.go[0]);
	close(s.done[0]);
	close(s.done[1]);
	adds_up(&p, "stale");
	finish(&p);
	munmap((void *)memory, 2 * N * PAGE);
}

static volatile bool stop;

static void *busy(void *argument)
{
	byte *memory = argument;

	while (!stop)
		read_each(memory, 4);
	return NULL;
}

/* A runnable thread keeps its window, regardless of the accesses of other threads. */
static void runnable(void)
{
	byte *memory = pages(2 * N);
	struct profile p = profile(PAGE_PROFILE_WINDOW, 4, memory, 2 * N);
	pthread_t thread;

	stop = false;
	if (pthread_create(&thread, NULL, busy, (void *)memory))
		die("pthread_create");
	while (!p.counts[3].reads)
		usleep(1000);
	for (int i = 0; i < 100; i++)
		read_each(memory + N * PAGE, N);
	stop = true;
	pthread_join(thread, NULL);
	ok(p.counts[0].reads == 1 && p.counts[3].reads == 1,
	   "stale: a runnable thread keeps its window (got %u, %u)", p.counts[0].reads,
	   p.counts[3].reads);
	adds_up(&p, "runnable");
	finish(&p);
	munmap((void *)memory, 2 * N * PAGE);
}

int main(void)
{
	epochs();
	windows();
	repeated_access();
	instructions();
	instructions_in_profiled_code();
	progress();
	kernel_mode(PAGE_PROFILE_EPOCH, 0, "epoch");
	kernel_mode(PAGE_PROFILE_WINDOW, 1, "window of one");
	kernel_mode(PAGE_PROFILE_WINDOW, 8, "window of eight");
	forbidden();
	forbidden_by_key();
	unpopulated();
	threads();
	stale();
	sleeping();
	runnable();
	return done();
}
