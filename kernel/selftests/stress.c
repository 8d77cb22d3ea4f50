// SPDX-License-Identifier: GPL-2.0-only
/*
 * All operations at once on profiled memory, with every byte checked:
 *
 *   stress SECONDS [SEED]
 *
 * Two writers own alternate pages and check what they wrote. Meanwhile other threads migrate the
 * memory, change its protection, fork, swap, discard, remap, collapse and re-arm it, and start and
 * end profiles of both modes, interrupted by signals.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/time.h>

#include "guest.h"

#define HUGE	(2UL << 20)
#define N	(2 * HUGE / PAGE)
#define WRITERS 2
#define SCRATCH 512UL
#define GRACE	300 /* seconds */
#define LIMIT	"/tmp/cgroup/stress/memory.limit_in_bytes"

static byte *memory, *scratch;
static double until;
static atomic_ulong wrong, failed, rounds, moves, children, profiles, protections, discards,
	squeezes, signals, remaps;
static atomic_ulong caught, uncounted;

static void failure(const char *what)
{
	printf("# %s: %s\n", what, strerror(errno));
	failed++;
}

static bool progressed(void)
{
	return rounds && moves && children && profiles && protections && discards && squeezes &&
	       remaps && signals && caught;
}

/* A slow machine gets more time, until every thread has made progress. */
static bool running(void)
{
	double now = seconds();

	return now < until || (now < until + GRACE && !progressed());
}

/* Write and check the pages i with i % WRITERS == mine. */
static void *writer(void *argument)
{
	size_t mine = (uintptr_t)argument;
	unsigned int round = 0;

	for (; running(); round++) {
		for (size_t i = mine; i < N; i += WRITERS)
			*(volatile uint64_t *)(memory + i * PAGE + (round % 500) * 8) =
				i * 0x9e3779b97f4a7c15 + round;
		for (size_t i = mine; i < N; i += WRITERS)
			wrong += *(volatile uint64_t *)(memory + i * PAGE + (round % 500) * 8) !=
				 i * 0x9e3779b97f4a7c15 + round;
		rounds++;
	}
	return NULL;
}

static void *mover(void *unused)
{
	for (int node = 1; running(); node = !node) {
		if (move_to(memory, N, node) < 0)
			failure("move_pages");
		move_to(scratch, SCRATCH, !node);
		moves++;
	}
	return NULL;
}

static void *protector(void *unused)
{
	byte *own = scratch + SCRATCH * PAGE;

	for (unsigned int i = 0; running(); i++) {
		size_t at = i * 37 % (N - 16);

		/* The writers must not get SIGSEGV, so memory stays writable. */
		if (mprotect((void *)(memory + at * PAGE), 16 * PAGE,
			     PROT_READ | PROT_WRITE | PROT_EXEC) ||
		    mprotect((void *)(memory + at * PAGE), 16 * PAGE, PROT_READ | PROT_WRITE))
			failure("mprotect");
		mprotect((void *)own, 64 * PAGE, PROT_NONE);
		mprotect((void *)own, 64 * PAGE, PROT_READ);
		if (own[i % 64 * PAGE] != (unsigned char)(i % 64 + 1))
			wrong++;
		madvise((void *)memory, N * PAGE, i % 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		if (i % 8 == 0)
			madvise((void *)memory, N * PAGE,
				i % 16 ? MADV_MERGEABLE : MADV_UNMERGEABLE);
		protections++;
		usleep(2000);
	}
	return NULL;
}

/* In a child: check that each word is one that its writer wrote, then write every page. Exits. */
static void check_copy(void)
{
	for (size_t i = 0; i < N; i++) {
		uint64_t word = *(volatile uint64_t *)(memory + i * PAGE);

		if (word && (word - i * 0x9e3779b97f4a7c15) > 0xffffffff)
			_exit(1);
		memory[i * PAGE] = 1;
	}
	_exit(0);
}

static void *forker(void *unused)
{
	while (running()) {
		pid_t child = fork();
		int status = 0;

		if (child == 0)
			check_copy();
		if (child < 0 || waitpid(child, &status, 0) != child || status) {
			printf("# child %d: status %x\n", child, status);
			failure("fork");
		}
		children++;
		usleep(20000);
	}
	return NULL;
}

static void *discarder(void *unused)
{
	for (unsigned int i = 0; running(); i++) {
		for (size_t j = 0; j < SCRATCH; j++)
			scratch[j * PAGE + i % PAGE] = 1;
		madvise((void *)scratch, SCRATCH * PAGE, i % 2 ? MADV_DONTNEED : 8 /* MADV_FREE */);
		discards++;
		usleep(1000);
	}
	return NULL;
}

/*
 * Move a mapping, each time to a newly reserved address. It never returns to an old address, which
 * may have become another thread's stack.
 */
static void *remapper(void *unused)
{
	byte *here = pages(32);

	while (running()) {
		byte *place = mmap(NULL, 32 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (place == MAP_FAILED || mremap((void *)here, 32 * PAGE, 32 * PAGE,
						  MREMAP_MAYMOVE | MREMAP_FIXED, place) != place) {
			failure("mremap");
			break;
		}
		here = place;
		wrong += !intact(here, 32);
		remaps++;
		usleep(500);
	}
	return NULL;
}

static void *squeezer(void *unused)
{
	bool limited = false;

	for (; running(); limited = !limited, squeezes++) {
		put(LIMIT, limited ? "-1" : "3145728");
		usleep(300000);
	}
	put(LIMIT, "-1");
	return NULL;
}

static void *profiler(void *argument)
{
	unsigned int turn = (unsigned int)(uintptr_t)argument;

	for (; running(); turn++) {
		enum page_profile_mode mode = (enum page_profile_mode)(turn % 2);
		double stop = seconds() + 0.5;
		struct page_profile_stats s;
		int fd = page_profile_open(O_CLOEXEC);

		if (fd < 0 ||
		    page_profile_configure(fd, mode,
					   mode == PAGE_PROFILE_WINDOW ? 1U << turn % 7 : 0) ||
		    page_profile_add(fd, (void *)memory, N * PAGE, NULL) ||
		    page_profile_add(fd, (void *)scratch, (SCRATCH + 64) * PAGE, NULL) ||
		    page_profile_start(fd))
			failure("page_profile");
		for (unsigned int i = 0; seconds() < stop; i++) {
			page_profile_rearm(fd);
			usleep(1000 * (i % 30));
		}
		if (page_profile_stats(fd, &s))
			failure("page_profile_stats");
		caught += s.user_faults + s.kernel_faults;
		uncounted += s.uncounted;
		if (turn % 3 == 0)
			page_profile_stop(fd);
		if (page_profile_clear(fd)) /* a child may hold the descriptor */
			failure("page_profile_clear");
		close(fd);
		profiles++;
	}
	return NULL;
}

static void on_signal(int number)
{
	signals++;
}

static void prepare(void)
{
	put("/proc/sys/kernel/numa_balancing", "1");
	put("/proc/sys/kernel/numa_balancing_scan_delay_ms", "10");
	put("/proc/sys/kernel/numa_balancing_scan_period_min_ms", "50");
	put("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "10");
	put("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "50");
	put("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "50");
	put("/sys/kernel/mm/transparent_hugepage/khugepaged/alloc_sleep_millisecs", "50");
	put("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan", "10000");
	put("/sys/kernel/mm/ksm/sleep_millisecs", "50");
	put("/sys/kernel/mm/ksm/run", "1");
	if (!system("dd if=/dev/zero of=/var/tmp/swap bs=1M count=128 2>/dev/null && chmod 600 "
		    "/var/tmp/swap && "
		    "mkswap /var/tmp/swap >/dev/null") &&
	    swapon("/var/tmp/swap", 0))
		die("swapon");
	mkdir("/tmp/cgroup", 0700);
	mount("none", "/tmp/cgroup", "cgroup", 0, "memory");
	mkdir("/tmp/cgroup/stress", 0700);
	if (!put("/tmp/cgroup/stress/cgroup.procs", "0"))
		die("cgroup");
}

int main(int argc, char **argv)
{
	static void *(*const work[])(void *) = {writer,	   writer,   mover,    protector, forker,
						discarder, remapper, squeezer, profiler};
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	enum { WORKERS = sizeof(work) / sizeof(*work) };
	struct itimerval often = {{0, 5000}, {0, 5000}};
	pthread_t threads[WORKERS];
	byte *area;

	setvbuf(stdout, NULL, _IOLBF, 0);
	prepare();
	area = mmap(NULL, N * PAGE + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	memory = (byte *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
	scratch = pages(SCRATCH + 64); /* the last 64 for protector() */
	until = seconds() + (argc > 1 ? atof(argv[1]) : 10);
	signal(SIGALRM, on_signal);
	setitimer(ITIMER_REAL, &often, NULL);
	for (uintptr_t i = 0; i < WORKERS; i++)
		if (pthread_create(&threads[i], NULL, work[i], (void *)(i < WRITERS ? i : seed)))
			die("pthread_create");
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	swapoff("/var/tmp/swap");
	put("/proc/sys/kernel/numa_balancing", "0");
	put("/sys/kernel/mm/ksm/run", "0");
	printf("# %lu rounds of writing, %lu migrations, %lu children, %lu profiles, %lu "
	       "protections, "
	       "%lu discards, %lu "
	       "squeezes, %lu remaps, %lu signals\n",
	       rounds, moves, children, profiles, protections, discards, squeezes, remaps, signals);
	printf("# %lu caught accesses, %lu uncounted; pswpin %ld, hinting faults %ld, huge "
	       "pages split %ld\n",
	       caught, uncounted, number_in("/proc/vmstat", "pswpin"),
	       number_in("/proc/vmstat", "numa_hint_faults"),
	       number_in("/proc/vmstat", "thp_split_pmd"));
	ok(progressed(), "stress: every thread made progress (seed %lu)", seed);
	ok(caught > 0, "stress: accesses are caught");
	is((long long)wrong, 0, "stress: no byte is wrong");
	is((long long)failed, 0, "stress: no call failed");
	return done();
}
