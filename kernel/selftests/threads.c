// SPDX-License-Identifier: GPL-2.0-only
/* Counts and windows of many threads */
#define _GNU_SOURCE
#include <pthread.h>

#include "guest.h"

#define N 64UL

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
	threads();
	stale();
	sleeping();
	runnable();
	return done();
}
