// SPDX-License-Identifier: Apache-2.0
#include "sentinel_markers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "probe.h"

#define PAGES	     2048 /* per migration */
#define MPOL_MF_MOVE 2

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

void measure_shared(int node)
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

void measure_loaded(int node, size_t pause)
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

void measure_migrate(int from, int to)
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

void measure_migrating(int from, int to)
{
	struct helper h = {.work = migrate_pages, .node = from, .to = to};

	read_with_helper("migrating", &h, more[from]);
	for (size_t at = 0; at + PAGES * PAGE <= stream; at += PAGES * PAGE)
		move(memory[from] + at, PAGES, from);
}
