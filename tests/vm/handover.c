// SPDX-License-Identifier: Apache-2.0
/*
 * Two vCPUs take turns: one sleeps while the other makes dependent reads of node 1. Prints the
 * elapsed model ns of the first one, and the total number of dependent reads.
 */
#include "sentinel_markers.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define LINES  (1UL << 19)
#define TURNS  50
#define CHASES 200

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;
static void **at;

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		exit(1);
}

static void take_turns(int self)
{
	for (int i = 0; i < TURNS; i++) {
		pthread_mutex_lock(&lock);
		while (turn != self)
			pthread_cond_wait(&changed, &lock);
		sentinel_mark(SENTINEL_SERIAL_BEGIN);
		for (int n = 0; n < CHASES; n++)
			at = *(void **volatile *)at;
		sentinel_mark(SENTINEL_SERIAL_END);
		turn = !self;
		pthread_cond_signal(&changed);
		pthread_mutex_unlock(&lock);
	}
}

static void *second_thread(void *unused)
{
	run_on(1);
	take_turns(1);
	return unused;
}

int main(void)
{
	unsigned long node_1 = 2, order = 12345;
	pthread_t thread;
	uint64_t start;
	char *p =
		mmap(NULL, LINES * 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || syscall(SYS_mbind, p, LINES * 64, 2, &node_1, 64, 0))
		return 1;
	for (size_t i = 0; i < LINES; i++) { /* full period: 5 = 1 modulo 4, odd increment */
		size_t next = (5 * order + 1) % LINES;

		*(void **)(p + order % LINES * 64) = p + next * 64;
		order = next;
	}
	at = (void **)(p + order * 64);
	run_on(0);
	sentinel_mark(SENTINEL_REGION_BEGIN);
	start = sentinel_now_ns();
	if (pthread_create(&thread, NULL, second_thread, NULL))
		return 1;
	take_turns(0);
	pthread_join(thread, NULL);
	printf("{\"ns\": %lu, \"reads\": %d}\n", sentinel_now_ns() - start, 2 * TURNS * CHASES);
	sentinel_mark(SENTINEL_REGION_END);
	return 0;
}
