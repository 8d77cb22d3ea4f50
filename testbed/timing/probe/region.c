// SPDX-License-Identifier: Apache-2.0
#include "sentinel_markers.h"

#include <math.h>

#include "probe.h"

static double lateness(void)
{
	const volatile struct sentinel_clock_page *page = sentinel_clock_page();

	return page ? page->late[sched_getcpu() % SENTINEL_CLOCK_CPUS] : 0;
}

struct times now(void)
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

struct times since(struct times start)
{
	struct times end = now();
	double outer = fabs(end.late_after - start.late), inner = fabs(end.late - start.late_after);

	return (struct times){end.model - start.model, end.guest - start.guest,
			      outer > inner ? outer : inner, 0};
}

void begin(void)
{
	volatile struct sentinel_clock_page *page = sentinel_clock_page();

	if (page)
		page->dilation = dilation;
	sentinel_mark(SENTINEL_REGION_BEGIN);
}

void end(const char *what, int node, size_t size, struct times elapsed, double per,
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
