// SPDX-License-Identifier: Apache-2.0
/*
 * Measure the memory of both nodes in the guest, by the model clock and the guest clock. Linked
 * statically.
 *
 *   probe full CACHE STREAM     latency by size, streams, copies, two vCPUs, load, migration
 *   probe paced CACHE STREAM    latencies and bandwidths only, paced
 *
 * CACHE is the size of the last-level cache in bytes, STREAM the size of a stream, at least 8 times
 * CACHE. Uses memory for four streams, two on each node. vCPU 0 is the compute vCPU, vCPU 1 (if
 * present) the helper. Prints a JSON object for each measurement:
 *
 *   what       read_latency, write_latency, read, write, copy, shared, loaded, migrate, migrating
 *   node       the measured node; `to` is the target of a copy or a migration
 *   size       working set in bytes
 *   model_ns, guest_ns   per access (latencies), page (migrate), or `size` bytes (all others)
 *   cpu        the measured vCPU; default 0
 *   helper     concurrent transfers of the other vCPU, bytes per model ns
 *   pause      lines streamed between two pauses (loaded); 0: the other vCPU is idle
 *   dilation, needed   of the region, as reported by the plugin
 *   behind     paced: upper bound of the share of time for which the host was late
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
#define CHASES	     20000 /* dependent accesses per measurement */
#define PACED_CHASES 4000
#define PAGES	     2048  /* per migration */
#define MAX_BEHIND   0.005 /* accepted share of time behind, paced */
#define MAX_TRIES    4	   /* each with twice the dilation */
#define MARGIN	     1.5   /* of the dilation over the needed one, to catch up */
#define MAX_DILATION 5000  /* beyond it, the guest's timer interrupts add more than 1 % */
#define NODES	     2
#define MPOL_BIND    2
#define MPOL_MF_MOVE 2

struct times {
	uint64_t model, guest;
	/*
	 * Paced: real ns by which the host was late, just before and after. In a difference: upper
	 * bound of the time for which it was late.
	 */
	double late, late_after;
};

static char *memory[NODES], *more[NODES]; /* two areas of `stream` bytes on each node */
static size_t cache, stream;		  /* bytes */
static bool has_helper;			  /* vCPU 1 exists */

static void fail(const char *operation)
{
	perror(operation);
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
	(void)sentinel_now_ns(); /* updates `late` */
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
	double outer = fabs(end.late_after - start.late), inner = fabs(end.late - start.late_after);

	return (struct times){end.model - start.model, end.guest - start.guest,
			      outer > inner ? outer : inner, 0};
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static char *allocate(int node, size_t size)
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
	static uint64_t x = 88172645463325252ULL; /* xorshift64 with a fixed seed */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % n;
}

/* Link all lines of `p` into a random cycle (Sattolo): each starts with the address of the next. */
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
		uint32_t swap = order[j];

		order[j] = order[i];
		order[i] = swap;
	}
	for (size_t i = 0; i < n; i++)
		*(void **)(p + (size_t)order[i] * LINE) = p + (size_t)order[(i + 1) % n] * LINE;
	free(order);
}

/* Follow `steps` links. Returns the last line. */
static void *chase(void *at, size_t steps)
{
	while (steps--)
		at = *(void *volatile *)at;
	return at;
}

/* Store to `steps` distinct lines of `p` in pseudo-random order; `lines` is a power of 2. */
static void scatter(char *p, size_t lines, size_t first, size_t steps)
{
	for (size_t i = first; i < first + steps; i++)
		*(volatile uint64_t *)(p + ((i * 0x9e3779b1u + 12345) & (lines - 1)) * LINE) = i;
}

static void read_lines(const char *p, size_t size)
{
	/* Unrolled, so that the loop itself costs little */
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

static double dilation; /* of the next region; 0: synchronised */
static double needed;	/* dilation that the host sustains, as of the last region */
static double behind;	/* share of time behind in the last measurement */
static bool silent;

static void begin(void)
{
	volatile struct sentinel_clock_page *page = sentinel_clock_page();

	if (page)
		page->dilation = dilation;
	sentinel_mark(SENTINEL_REGION_BEGIN);
}

/*
 * End the region, and print its measurement: the times divided by `per`, and `fields`, further JSON
 * members.
 */
static void end(const char *what, int node, size_t size, struct times elapsed, double per,
		const char *fields)
{
	const volatile struct sentinel_clock_page *page = sentinel_clock_page();

	sentinel_mark(SENTINEL_REGION_END);
	if (page)
		needed = page->needed;
	behind = elapsed.guest ? elapsed.late / (double)elapsed.guest : 0;
	if (silent)
		return;
	printf("{\"what\": \"%s\", \"node\": %d, \"size\": %zu, \"model_ns\": %.6g, \"guest_ns\": "
	       "%.6g%s, "
	       "\"dilation\": %.6g, \"needed\": %.6g, \"behind\": %.6g}\n",
	       what, node, size, (double)elapsed.model / per, (double)elapsed.guest / per, fields,
	       page ? dilation : 0, page ? page->needed : 0, behind);
	fflush(stdout);
}

/* ---------------------------------------------------------------- one vCPU */

/* Evict all lines from the cache, with write-back of dirty ones. */
static void clear_cache(int node)
{
	read_lines(more[node] + stream - 4 * cache, 4 * cache);
}

static void measure_read_latency(int node, size_t size, size_t steps)
{
	struct times start, elapsed;
	void *at = memory[node];

	link_lines(memory[node], size);
	begin();
	clear_cache(node);
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	if (size <= 4 * cache) /* warm up the cache */
		at = chase(at, size / LINE);
	start = now();
	at = chase(at, steps);
	elapsed = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	end("read_latency", node, size, elapsed, (double)steps, at ? "" : "?");
}

static void measure_write_latency(int node, size_t steps)
{
	size_t lines = stream / LINE, power = 1;
	struct times start, elapsed;

	while (2 * power <= lines)
		power *= 2;
	begin();
	clear_cache(node);
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	scatter(memory[node], power, 0, 100);
	start = now();
	scatter(memory[node], power, 100, steps);
	elapsed = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	end("write_latency", node, power * LINE, elapsed, (double)steps, "");
}

static void measure_read(int node)
{
	struct times start, elapsed;

	begin();
	clear_cache(node);
	start = now();
	read_lines(memory[node], stream);
	elapsed = since(start);
	end("read", node, stream, elapsed, 1, "");
}

static void measure_write(int node)
{
	struct times start, elapsed;

	begin();
	write_lines(more[node], 2 * cache); /* then each store evicts a dirty line */
	start = now();
	write_lines(memory[node], stream);
	elapsed = since(start);
	end("write", node, stream, elapsed, 1, "");
}

static void measure_copy(int from, int to)
{
	struct times start, elapsed;
	char fields[32];

	snprintf(fields, sizeof(fields), ", \"to\": %d", to);
	begin();
	copy_lines(more[to] + stream - 4 * cache, memory[from] + stream - 4 * cache, 4 * cache);
	start = now();
	copy_lines(more[to], memory[from], stream - 4 * cache);
	elapsed = since(start);
	end("copy", from, stream - 4 * cache, elapsed, 1, fields);
}

/* ---------------------------------------------------------------- two vCPUs */

struct helper {
	void (*work)(struct helper *h);
	int node, to;
	size_t pause;
	atomic_bool started, stop;
	size_t bytes; /* transferred */
	double model; /* duration, model ns */
	double guest; /* duration, guest ns */
};

static void *helper_main(void *data)
{
	struct helper *h = data;
	struct times start, elapsed;

	run_on(1);
	start = now();
	h->started = true;
	h->work(h);
	elapsed = since(start);
	h->guest = (double)elapsed.guest;
	h->model = (double)elapsed.model;
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

static void read_stream(struct helper *h)
{
	size_t at = 0;

	while (!h->stop) {
		read_lines(more[h->node] + at, 64 * LINE);
		at = (at + 64 * LINE) % stream;
		h->bytes += 64 * LINE;
	}
}

/* Measure vCPU 0 and the helper while vCPU 0 reads `lines` on the helper's node. */
static void read_with_helper(const char *what, struct helper *h, const char *lines)
{
	struct times start, elapsed;
	pthread_t thread;
	char fields[64];

	begin();
	clear_cache(h->node);
	thread = start_helper(h);
	start = now();
	read_lines(lines, stream);
	elapsed = since(start);
	stop_helper(h, thread);
	snprintf(fields, sizeof(fields), ", \"to\": %d, \"helper\": %.6g", h->to,
		 (double)h->bytes / h->model);
	end(what, h->node, stream, elapsed, 1, fields);
}

static void measure_shared(int node)
{
	struct helper h = {.work = read_stream, .node = node, .to = node};

	read_with_helper("shared", &h, memory[node]);
}

/* Measure dependent reads: `bytes` is the model ns, `to` the guest ns per access. */
static void chase_lines(struct helper *h)
{
	struct times start, elapsed;
	static void *at[NODES]; /* continues the cycle, since lines read before may be cached */

	if (!at[h->node])
		at[h->node] = more[h->node];
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	start = now();
	at[h->node] = chase(at[h->node], CHASES);
	elapsed = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	h->bytes = elapsed.model;
	h->to = (int)(elapsed.guest / CHASES);
}

/*
 * Measure dependent reads by vCPU 1 while vCPU 0 streams `pause` lines at a time, each followed by
 * a dependent read on the other node.
 */
static void measure_loaded(int node, size_t pause)
{
	struct helper h = {.work = chase_lines, .node = node};
	size_t at = 0, bytes = 0;
	struct times start, elapsed;
	pthread_t thread;
	char fields[96];
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
	}
	elapsed = since(start);
	pthread_join(thread, NULL);
	snprintf(fields, sizeof(fields), ", \"cpu\": 1, \"pause\": %zu, \"helper\": %.6g", pause,
		 elapsed.model && waiting ? (double)bytes / (double)elapsed.model : 0);
	end("loaded", node, CHASES * LINE,
	    (struct times){.model = h.bytes, .guest = (uint64_t)h.to * CHASES}, CHASES, fields);
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

/* Migrate pages that are not in the vCPU's cache. */
static void migrate_pages(struct helper *h)
{
	char *p = memory[h->node];

	do {
		h->bytes += move(p, PAGES, h->to) * PAGE;
		p += PAGES * PAGE;
	} while (!h->stop && p + PAGES * PAGE <= memory[h->node] + stream);
}

static void measure_migrate(int from, int to)
{
	struct helper h = {.work = migrate_pages, .node = from, .to = to, .stop = true};
	struct times elapsed;
	pthread_t thread;
	char fields[64];

	begin();
	thread = start_helper(&h);
	stop_helper(&h, thread);
	elapsed = (struct times){.model = (uint64_t)h.model, .guest = (uint64_t)h.guest};
	snprintf(fields, sizeof(fields), ", \"to\": %d, \"cpu\": 1, \"moved\": %zu", to,
		 h.bytes / PAGE);
	end("migrate", from, h.bytes, elapsed, (double)h.bytes / PAGE, fields);
	move(memory[from], PAGES, from); /* back */
}

/* Measure reads of node `from` by vCPU 0 while vCPU 1 migrates pages away from it. */
static void measure_migrating(int from, int to)
{
	struct helper h = {.work = migrate_pages, .node = from, .to = to};

	read_with_helper("migrating", &h, more[from]);
	for (size_t at = 0; at + PAGES * PAGE <= stream; at += PAGES * PAGE)
		move(memory[from] + at, PAGES, from);
}

/* ---------------------------------------------------------------- measurements */

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

/* Repeat each measurement with twice the dilation while the host is behind. */
static void measure_paced(void)
{
	static void (*const measurements[])(int node) = {
		measure_latency_paced, measure_write_latency_paced, measure_read, measure_write};

	for (int node = 0; node < NODES; node++)
		for (size_t i = 0; i < sizeof(measurements) / sizeof(*measurements); i++) {
			double initial = dilation;

			measurements[i](node);
			for (int tries = 1;
			     behind > MAX_BEHIND && dilation < MAX_DILATION && tries < MAX_TRIES;
			     tries++) {
				dilation = smaller(2 * dilation, MAX_DILATION);
				measurements[i](node);
			}
			dilation = initial;
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
	if (!has_helper)
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
	has_helper = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	run_on(0);
	for (int node = 0; node < NODES; node++) {
		memory[node] = allocate(node, stream);
		more[node] = allocate(node, stream);
	}
	if (!strcmp(argv[1], "full")) {
		measure_all();
		return 0;
	}
	silent = true; /* determine the needed dilation */
	measure_figures(PACED_CHASES);
	silent = false;
	dilation = smaller(MARGIN * needed, MAX_DILATION);
	measure_paced();
	return 0;
}
