// SPDX-License-Identifier: Apache-2.0
/*
 * Measures both nodes' memory in the guest, by the model's clock and by the ordinary one. Static.
 *
 *   probe full CACHE STREAM     latency by size, streams, copies, two vCPUs, load, migration
 *   probe paced CACHE STREAM    only each node's latencies and bandwidths, paced
 *
 * CACHE is the size of the last-level cache in bytes, STREAM that of a stream, at least 8 times as
 * much. Four streams' worth of memory is used, half of it on each node. vCPU 0 computes, vCPU 1 (if
 * there is one) helps. Prints a JSON object for each measurement:
 *
 *   what       read_latency, write_latency, read, write, copy, shared, loaded, migrate, migrating
 *   node       that is measured; `to` is the other end of a copy or a migration
 *   size       bytes that are gone through
 *   model_ns, guest_ns   for each access (latencies), page (migrate), or `size` bytes (all others)
 *   cpu        which vCPU was measured, if it was not 0
 *   helper     bytes per model ns that the other vCPU moved meanwhile
 *   pause      lines streamed between two pauses (loaded); 0: the other vCPU is idle
 *   dilation, needed   of the region, as the plugin says
 *   behind     paced: for which share of what was measured the host was late, at most
 */
#include "sentinel_markers.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define LINE	     64
#define PAGE	     4096
#define MIB	     (1UL << 20)
#define CHASES	     20000 /* dependent accesses of one measurement */
#define PACED_CHASES 4000
#define PAGES	     2048  /* of one migration */
#define RELIABLE     0.005 /* share of the time for which the host may be behind, paced */
#define MOST_TRIES   4	   /* each with twice the dilation */
#define MARGIN	     1.5   /* over the dilation that was sustained: room to catch up */
#define LARGEST	     5000  /* dilation; beyond it the guest's timer interrupts add more than 1 % */
#define NODES	     2
#define MPOL_BIND    2
#define MPOL_MF_MOVE 2

struct times {
	uint64_t model, guest;
	/* Paced: real ns for which the host was late, shortly before and after. Of a difference:
	 * the most that it may have been late meanwhile. */
	double late, late_after;
};

static char *memory[NODES], *more[NODES]; /* two areas on each node, stream bytes each */
static size_t cache, stream;		  /* bytes */
static bool helped;			  /* there is a vCPU 1 */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double lateness(void)
{
	const volatile struct sentinel_clock_page *page = sentinel_clock_page();

	return page ? page->late[sched_getcpu() % SENTINEL_CLOCK_CPUS] : 0;
}

static struct times now(void)
{
	struct timespec t;
	struct times times = {.model = sentinel_now_ns()};

	times.late = lateness();
	clock_gettime(CLOCK_MONOTONIC, &t);
	times.guest = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	(void)sentinel_now_ns(); /* the host may have looked away since */
	times.late_after = lateness();
	return times;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static struct times since(struct times start)
{
	struct times end = now();
	double most = fabs(end.late_after - start.late), other = fabs(end.late - start.late_after);

	return (struct times){end.model - start.model, end.guest - start.guest,
			      most > other ? most : other, 0};
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static char *area(int node, size_t size)
{
	unsigned long mask = 1UL << node;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	if (syscall(SYS_mbind, p, size, MPOL_BIND, &mask, 8 * sizeof(mask), 0))
		fail("mbind");
	memset(p, 1, size);
	return p;
}

static uint64_t random_below(uint64_t n)
{
	static uint64_t x = 88172645463325252ULL; /* xorshift64, always the same */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % n;
}

/* Make one random cycle of all lines of `p` (Sattolo): each begins with the address of the next. */
static void link_lines(char *p, size_t size)
{
	size_t n = size / LINE;
	uint32_t *order = malloc(n * sizeof(*order));

	if (!order)
		fail("malloc");
	for (size_t i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	for (size_t i = n - 1; i > 0; i--) {
		size_t j = random_below(i);
		uint32_t other = order[j];

		order[j] = order[i];
		order[i] = other;
	}
	for (size_t i = 0; i < n; i++)
		*(void **)(p + (size_t)order[i] * LINE) = p + (size_t)order[(i + 1) % n] * LINE;
	free(order);
}

static void *chase(void *at, size_t steps)
{
	while (steps--)
		at = *(void *volatile *)at;
	return at;
}

/* `steps` stores to lines of `p` in an order without a pattern, none of them twice; `lines` is a
 * power of 2 */
static void scatter(char *p, size_t lines, size_t first, size_t steps)
{
	for (size_t i = first; i < first + steps; i++)
		*(volatile uint64_t *)(p + ((i * 0x9e3779b1u + 12345) & (lines - 1)) * LINE) = i;
}

static void read_lines(const char *p, size_t size)
{
	/* Unrolled: what the loop itself costs is not what is measured */
	for (const char *end = p + size; p < end; p += 8 * LINE) {
		(void)*(const volatile uint64_t *)p;
		(void)*(const volatile uint64_t *)(p + LINE);
		(void)*(const volatile uint64_t *)(p + 2 * LINE);
		(void)*(const volatile uint64_t *)(p + 3 * LINE);
		(void)*(const volatile uint64_t *)(p + 4 * LINE);
		(void)*(const volatile uint64_t *)(p + 5 * LINE);
		(void)*(const volatile uint64_t *)(p + 6 * LINE);
		(void)*(const volatile uint64_t *)(p + 7 * LINE);
	}
}

static void write_lines(char *p, size_t size)
{
	for (char *end = p + size; p < end; p += LINE)
		*(volatile uint64_t *)p = 1;
}

static void copy_lines(char *to, const char *from, size_t size)
{
	for (size_t i = 0; i < size; i += LINE)
		*(volatile uint64_t *)(to + i) = *(const volatile uint64_t *)(from + i);
}

static double dilation; /* of all regions; 0: synchronised */
static double needed;	/* found in the regions so far */
static double behind;	/* in the last measurement */
static bool silent;

static void begin(void)
{
	volatile struct sentinel_clock_page *page = sentinel_clock_page();

	if (page)
		page->dilation = dilation;
	sentinel_mark(SENTINEL_REGION_BEGIN);
}

/* End the region, and print a measurement in it: `per` is what the times are divided by. */
static void end(const char *what, int node, size_t size, struct times took, double per,
		const char *further)
{
	const volatile struct sentinel_clock_page *page = sentinel_clock_page();

	sentinel_mark(SENTINEL_REGION_END);
	if (page)
		needed = page->needed;
	behind = took.guest ? took.late / (double)took.guest : 0;
	if (silent)
		return;
	printf("{\"what\": \"%s\", \"node\": %d, \"size\": %zu, \"model_ns\": %.6g, \"guest_ns\": "
	       "%.6g%s, "
	       "\"dilation\": %.6g, \"needed\": %.6g, \"behind\": %.6g}\n",
	       what, node, size, (double)took.model / per, (double)took.guest / per, further,
	       page ? dilation : 0, page ? page->needed : 0, behind);
	fflush(stdout);
}

/* ---------------------------------------------------------------- one vCPU */

/* What was there before is gone, and what of it was to be written back is. */
static void clear_cache(int node)
{
	read_lines(more[node] + stream - 4 * cache, 4 * cache);
}

static void measure_read_latency(int node, size_t size, size_t steps)
{
	struct times start, took;
	void *at = memory[node];

	link_lines(memory[node], size);
	begin();
	clear_cache(node);
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	if (size <= 4 * cache) /* what fits the cache shall be there */
		at = chase(at, size / LINE);
	start = now();
	at = chase(at, steps);
	took = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	end("read_latency", node, size, took, (double)steps, at ? "" : "?");
}

static void measure_write_latency(int node, size_t steps)
{
	size_t lines = stream / LINE, power = 1;
	struct times start, took;

	while (2 * power <= lines)
		power *= 2;
	begin();
	clear_cache(node);
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	scatter(memory[node], power, 0, 100);
	start = now();
	scatter(memory[node], power, 100, steps);
	took = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	end("write_latency", node, power * LINE, took, (double)steps, "");
}

static void measure_read(int node)
{
	struct times start, took;

	begin();
	clear_cache(node);
	start = now();
	read_lines(memory[node], stream);
	took = since(start);
	end("read", node, stream, took, 1, "");
}

static void measure_write(int node)
{
	struct times start, took;

	begin();
	write_lines(more[node], 2 * cache); /* from here on each store writes an older line back */
	start = now();
	write_lines(memory[node], stream);
	took = since(start);
	end("write", node, stream, took, 1, "");
}

static void measure_copy(int from, int to)
{
	struct times start, took;
	char further[32];

	snprintf(further, sizeof(further), ", \"to\": %d", to);
	begin();
	copy_lines(more[to] + stream - 4 * cache, memory[from] + stream - 4 * cache, 4 * cache);
	start = now();
	copy_lines(more[to], memory[from], stream - 4 * cache);
	took = since(start);
	end("copy", from, stream - 4 * cache, took, 1, further);
}

/* ---------------------------------------------------------------- two vCPUs */

struct helper {
	void (*work)(struct helper *h);
	int node, to;
	size_t pause;
	atomic_bool started, stop;
	size_t bytes; /* that it moved, */
	double model; /* in this time, */
	double guest; /* which is this by the ordinary clock */
};

static void *helper_main(void *data)
{
	struct helper *h = data;
	struct times start, took;

	run_on(1);
	start = now();
	h->started = true;
	h->work(h);
	took = since(start);
	h->guest = (double)took.guest;
	h->model = (double)took.model;
	return NULL;
}

static pthread_t start_helper(struct helper *h)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, helper_main, h);
	if (errno)
		fail("pthread_create");
	while (!h->started)
		;
	return thread;
}

static void stop_helper(struct helper *h, pthread_t thread)
{
	h->stop = true;
	pthread_join(thread, NULL);
}

static void help_reading(struct helper *h)
{
	size_t at = 0;

	while (!h->stop) {
		read_lines(more[h->node] + at, 64 * LINE);
		at = (at + 64 * LINE) % stream;
		h->bytes += 64 * LINE;
	}
}

/* vCPU 0 reads lines of the helper's node beside it; how fast each was is what is measured. */
static void read_beside(const char *what, struct helper *h, const char *lines)
{
	struct times start, took;
	pthread_t thread;
	char further[64];

	begin();
	clear_cache(h->node);
	thread = start_helper(h);
	start = now();
	read_lines(lines, stream);
	took = since(start);
	stop_helper(h, thread);
	snprintf(further, sizeof(further), ", \"to\": %d, \"helper\": %.6g", h->to,
		 (double)h->bytes / h->model);
	end(what, h->node, stream, took, 1, further);
}

static void measure_shared(int node)
{
	struct helper h = {.work = help_reading, .node = node, .to = node};

	read_beside("shared", &h, memory[node]);
}

static void help_chasing(struct helper *h)
{
	struct times start, took;
	static void *at[NODES]; /* goes on where it stopped: what was read before may be cached */

	if (!at[h->node])
		at[h->node] = more[h->node];
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	start = now();
	at[h->node] = chase(at[h->node], CHASES);
	took = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	h->bytes = took.model;
	h->to = (int)(took.guest / CHASES);
}

/* vCPU 1 chases while vCPU 0 streams `pause` lines at a time, and waits for the other node in
 * between. */
static void measure_loaded(int node, size_t pause)
{
	struct helper h = {.work = help_chasing, .node = node};
	size_t at = 0, bytes = 0, other = 0;
	struct times start, took;
	pthread_t thread;
	char further[96];
	void *waiting = more[!node];

	begin();
	errno = pthread_create(&thread, NULL, helper_main, &h);
	if (errno)
		fail("pthread_create");
	start = now();
	while (pause && !h.model) {
		read_lines(memory[node] + at, pause * LINE);
		bytes += pause * LINE;
		at = (at + pause * LINE) % (stream - pause * LINE);
		sentinel_mark(SENTINEL_SERIAL_BEGIN);
		waiting = chase(waiting, 1);
		sentinel_mark(SENTINEL_SERIAL_END);
		other++;
	}
	took = since(start);
	pthread_join(thread, NULL);
	snprintf(further, sizeof(further), ", \"cpu\": 1, \"pause\": %zu, \"helper\": %.6g", pause,
		 took.model && waiting ? (double)bytes / (double)took.model : 0);
	end("loaded", node, CHASES * LINE,
	    (struct times){.model = h.bytes, .guest = (uint64_t)h.to * CHASES}, CHASES, further);
}

/* ---------------------------------------------------------------- migration */

static size_t move(char *p, size_t pages, int to)
{
	static void *addresses[PAGES];
	static int nodes[PAGES], status[PAGES];
	size_t moved = 0;

	for (size_t i = 0; i < pages; i++) {
		addresses[i] = p + i * PAGE;
		nodes[i] = to;
	}
	if (syscall(SYS_move_pages, 0, pages, addresses, nodes, status, MPOL_MF_MOVE))
		fail("move_pages");
	for (size_t i = 0; i < pages; i++)
		moved += status[i] == to;
	return moved;
}

/* vCPU 1 migrates pages that it has not in its cache. */
static void help_migrating(struct helper *h)
{
	char *p = memory[h->node];

	do {
		h->bytes += move(p, PAGES, h->to) * PAGE;
		p += PAGES * PAGE;
	} while (!h->stop && p + PAGES * PAGE <= memory[h->node] + stream);
}

static void measure_migrate(int from, int to)
{
	struct helper h = {.work = help_migrating, .node = from, .to = to, .stop = true};
	struct times took;
	pthread_t thread;
	char further[64];

	begin();
	thread = start_helper(&h);
	stop_helper(&h, thread);
	took = (struct times){.model = (uint64_t)h.model, .guest = (uint64_t)h.guest};
	snprintf(further, sizeof(further), ", \"to\": %d, \"cpu\": 1, \"moved\": %zu", to,
		 h.bytes / PAGE);
	end("migrate", from, h.bytes, took, (double)h.bytes / PAGE, further);
	move(memory[from], PAGES, from); /* as it was */
}

/* vCPU 0 reads node `from` while vCPU 1 migrates pages from there. */
static void measure_migrating(int from, int to)
{
	struct helper h = {.work = help_migrating, .node = from, .to = to};

	read_beside("migrating", &h, more[from]);
	for (size_t at = 0; at + PAGES * PAGE <= stream; at += PAGES * PAGE)
		move(memory[from] + at, PAGES, from);
}

/* ---------------------------------------------------------------- all of it */

static void measure_figures(size_t chases)
{
	for (int node = 0; node < NODES; node++) {
		measure_read_latency(node, stream, chases);
		measure_write_latency(node, chases);
		measure_read(node);
		measure_write(node);
	}
}

static void measure_latency_paced(int node)
{
	measure_read_latency(node, stream, PACED_CHASES);
}

static void measure_write_latency_paced(int node)
{
	measure_write_latency(node, PACED_CHASES);
}

/* Each figure again, slower, as long as the host was behind; but not for ever. */
static void measure_paced(void)
{
	static void (*const measurements[])(int node) = {
		measure_latency_paced, measure_write_latency_paced, measure_read, measure_write};

	for (int node = 0; node < NODES; node++)
		for (size_t i = 0; i < sizeof(measurements) / sizeof(*measurements); i++) {
			double first = dilation;

			measurements[i](node);
			for (int tries = 1;
			     behind > RELIABLE && dilation < LARGEST && tries < MOST_TRIES;
			     tries++) {
				dilation = smaller(2 * dilation, LARGEST);
				measurements[i](node);
			}
			dilation = first;
		}
}

static void measure_all(void)
{
	static const size_t pauses[] = {0, 24, 96, 248, 496, 1000, 2496, 10000};

	for (int node = 0; node < NODES; node++)
		for (size_t size = cache / 16; size <= 16 * cache && size < stream; size *= 2)
			measure_read_latency(node, size, CHASES);
	measure_figures(CHASES);
	for (int from = 0; from < NODES; from++)
		for (int to = 0; to < NODES; to++)
			measure_copy(from, to);
	if (!helped)
		return;
	for (int node = 0; node < NODES; node++) {
		measure_shared(node);
		link_lines(more[0], stream);
		link_lines(more[1], stream);
		for (size_t i = 0; i < sizeof(pauses) / sizeof(*pauses); i++)
			measure_loaded(node, pauses[i]);
		measure_migrate(node, !node);
		measure_migrating(node, !node);
	}
}

int main(int argc, char **argv)
{
	cache = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	stream = argc == 4 ? strtoul(argv[3], NULL, 10) / LINE * LINE : 0;
	if (!cache || stream < 8 * cache || (strcmp(argv[1], "full") && strcmp(argv[1], "paced"))) {
		fprintf(stderr, "usage: probe full|paced CACHE STREAM\n");
		return 2;
	}
	helped = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	run_on(0);
	for (int node = 0; node < NODES; node++) {
		memory[node] = area(node, stream);
		more[node] = area(node, stream);
	}
	if (!strcmp(argv[1], "full")) {
		measure_all();
		return 0;
	}
	silent = true; /* what this host sustains */
	measure_figures(PACED_CHASES);
	silent = false;
	dilation = smaller(MARGIN * needed, LARGEST);
	measure_paced();
	return 0;
}
