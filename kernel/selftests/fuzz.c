// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random system calls on profile descriptors, by racing threads, while other threads access the
 * memory:
 *
 *   fuzz SECONDS [SEED]
 *
 * Passes if the process survives with correct data. The caller checks the kernel log.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "guest.h"

#define N	256UL
#define THREADS 3
#define FDS	4

static byte *memory;
static int descriptors[FDS];
static double until;
static atomic_ulong calls, successes, wrong;

struct random {
	uint64_t state;
};

/* xorshift64* (Vigna, 2016) */
static uint64_t next(struct random *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(struct random *r, uint64_t limit)
{
	return (next(r) >> 32) % limit;
}

/* Returns an address: usually in `memory`, sometimes a special or random one. */
static uint64_t address(struct random *r)
{
	static const uint64_t special[] = {0,	  1,	      PAGE,	      -PAGE,
					   ~0ULL, 1ULL << 47, 0x7fffffffe000, 0xffffffff81000000};

	if (below(r, 8) == 0)
		return special[below(r, sizeof(special) / sizeof(*special))];
	if (below(r, 16) == 0)
		return next(r);
	return (uintptr_t)memory + below(r, N) * PAGE + (below(r, 16) ? 0 : below(r, PAGE));
}

static uint64_t length(struct random *r)
{
	if (below(r, 16) == 0)
		return next(r);
	return below(r, below(r, 4) ? 16 : N) * PAGE;
}

static long call(struct random *r, int fd)
{
	static const unsigned long commands[] = {
		PAGE_PROFILE_TARGET, PAGE_PROFILE_CONFIGURE, PAGE_PROFILE_ADD,
		PAGE_PROFILE_REMOVE, PAGE_PROFILE_START,     PAGE_PROFILE_STOP,
		PAGE_PROFILE_REARM,  PAGE_PROFILE_RESET,     PAGE_PROFILE_STATS,
		PAGE_PROFILE_CLEAR,
	};
	unsigned long command = commands[below(r, sizeof(commands) / sizeof(*commands))];
	struct page_profile_range range = {.start = address(r), .length = length(r)};
	uint64_t argument[16];
	void *map;

	switch (below(r, 12)) {
	case 0: /* random command and argument */
		for (size_t i = 0; i < 16; i++)
			argument[i] = next(r);
		return ioctl(fd, below(r, 2) ? command : (PAGE_PROFILE_IOC << 8 | next(r)),
			     argument);
	case 1:
		return ioctl(fd, command, address(r) < (1ULL << 47) ? NULL : (void *)-1UL);
	case 2:
		map = mmap(NULL, 1 + length(r) % (64 * PAGE),
			   below(r, 4) ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   (off_t)(below(r, 64) * PAGE));
		if (map == MAP_FAILED)
			return -1;
		(void)*(volatile char *)map;
		return munmap(map, PAGE);
	case 3:
		return ioctl(fd, PAGE_PROFILE_CONFIGURE,
			     &(struct page_profile_config){(uint32_t)below(r, 2),
							   (uint32_t)below(r, 70)});
	case 4:
		return ioctl(fd, PAGE_PROFILE_CONFIGURE,
			     &(struct page_profile_config){PAGE_PROFILE_EPOCH, 0});
	case 5:
		return ioctl(fd, PAGE_PROFILE_START);
	case 6:
		return ioctl(fd, PAGE_PROFILE_REARM);
	case 7:
	case 8:
		return ioctl(fd, PAGE_PROFILE_ADD, &range);
	case 9:
		return ioctl(fd, PAGE_PROFILE_REMOVE, &range);
	default:
		return ioctl(fd, command, &range);
	}
}

static void *caller(void *argument)
{
	struct random r = {(uintptr_t)argument};

	while (seconds() < until) {
		int slot = (int)below(&r, FDS);

		calls++;
		if (below(&r, 50) == 0) { /* replace a descriptor that other threads use */
			int new = page_profile_open(O_CLOEXEC);

			if (new >= 0 && dup3(new, descriptors[slot], O_CLOEXEC) >= 0)
				successes++;
			close(new);
		} else if (call(&r, descriptors[slot]) >= 0) {
			successes++;
		}
	}
	return NULL;
}

/* Write and check one byte of each page, while mappings are split and merged. */
static void *user(void *argument)
{
	size_t at = (uintptr_t)argument;
	unsigned char round = 0;

	while (seconds() < until) {
		for (size_t i = 0; i < N; i++)
			memory[i * PAGE + at] = (unsigned char)(i + round);
		for (size_t i = 0; i < N; i++)
			wrong += memory[i * PAGE + at] != (unsigned char)(i + round);
		round++;
		mprotect((void *)(memory + (round % N) * PAGE), PAGE, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	pthread_t callers[THREADS], users[2];

	setvbuf(stdout, NULL, _IOLBF, 0);
	until = seconds() + (argc > 1 ? atof(argv[1]) : 10);
	memory = pages(N);
	for (int i = 0; i < FDS; i++)
		descriptors[i] = page_profile_open(O_CLOEXEC);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&users[i], NULL, user, (void *)(i * 100 + 17));
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&callers[i], NULL, caller, (void *)(seed * 1000 + i + 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(callers[i], NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(users[i], NULL);
	for (int i = 0; i < FDS; i++)
		close(descriptors[i]);
	ok(calls > 100 && successes > calls / 50, "fuzz: %lu calls, %lu successful (seed %lu)",
	   calls, successes, seed);
	is((long long)wrong, 0, "fuzz: no byte is wrong");
	return done();
}
