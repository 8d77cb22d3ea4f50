// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accuracy of counts in window mode, on known patterns of accesses:
 *
 *   accuracy [SEED]
 *
 * Prints one JSON line for each pattern and window. The expected counts of a window of K pages come
 * from a simulation: accesses to pages that are not among the last K pages opened (FIFO). The
 * ranking of pages by the window's counts is compared with that by true accesses: Spearman's rank
 * correlation (ties averaged), and the overlap of the hottest fifths of the accessed pages.
 */
#define _GNU_SOURCE
#include <math.h>

#include "guest.h"

#define N	 64UL  /* pages */
#define ACCESSES 20000 /* per pattern */
#define HOT	 5     /* compare the hottest 1/5 */

struct trace {
	uint16_t page[ACCESSES];
	bool write[ACCESSES];
};

static uint64_t seed = 1;

static uint64_t next(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dULL) >> 32;
}

/* Repeated passes over all pages, 16 accesses per page */
static void streaming(struct trace *t)
{
	for (int i = 0; i < ACCESSES; i++)
		t->page[i] = (uint16_t)(i / 16 % N);
}

/* Three concurrent streams, as in c[i] = a[i] + b[i], over arrays of different lengths */
static void triad(struct trace *t)
{
	static const unsigned int base[] = {0, 12, 36}, length[] = {12, 24, 28};

	for (int i = 0; i < ACCESSES; i++) {
		unsigned int stream = (unsigned int)i % 3;

		t->page[i] = (uint16_t)(base[stream] + (unsigned int)i / 48 % length[stream]);
		t->write[i] = stream == 2;
	}
}

/* Every fifth page */
static void strided(struct trace *t)
{
	for (int i = 0; i < ACCESSES; i++)
		t->page[i] = (uint16_t)((unsigned int)i * 5 % (N - 4));
}

static void uniform(struct trace *t)
{
	for (int i = 0; i < ACCESSES; i++) {
		t->page[i] = (uint16_t)(next() % N);
		t->write[i] = next() % 4 == 0;
	}
}

/* 90 % of the accesses to 10 % of the pages */
static void hot_cold(struct trace *t)
{
	for (int i = 0; i < ACCESSES; i++)
		t->page[i] = (uint16_t)(next() % 10 ? next() % (N / 10) : next() % N);
}

/* Zipf's law with exponent 1, over pages in shuffled order */
static void zipf(struct trace *t)
{
	double weight[N], total = 0;

	for (size_t i = 0; i < N; i++)
		total += weight[i] = 1.0 / (double)(i + 1);
	for (int i = 0; i < ACCESSES; i++) {
		double at = (double)next() / 4294967296.0 * total;
		size_t rank = 0;

		while (rank + 1 < N && at >= weight[rank])
			at -= weight[rank++];
		t->page[i] = (uint16_t)(rank * 37 % N);
	}
}

/* Layers with eight pages each: 30 accesses to weights for each access to an input */
static void layers(struct trace *t)
{
	for (int i = 0; i < ACCESSES; i++) {
		unsigned int layer = (unsigned int)i / 500 % 8;

		t->page[i] = (uint16_t)(layer * 8 + (i % 31 ? (unsigned int)i % 3
							    : 3 + (unsigned int)i / 31 % 5));
		t->write[i] = i % 7 == 0;
	}
}

static void run(const struct trace *t, byte *memory)
{
	for (int i = 0; i < ACCESSES; i++) {
		byte *at = memory + t->page[i] * PAGE + (size_t)i % 61 * 64;

		if (t->write[i])
			*at = 1;
		else
			(void)*at;
	}
}

/* Simulate a window of `k` pages. Sets `counts` by page. */
static void simulate(const struct trace *t, unsigned int k, double *counts)
{
	uint16_t window[PAGE_PROFILE_MAX_WINDOW];
	unsigned int n = 0, first = 0;

	memset(counts, 0, N * sizeof(*counts));
	for (int i = 0; i < ACCESSES; i++) {
		bool inside = false;

		for (unsigned int j = 0; j < n; j++)
			inside |= window[(first + j) % k] == t->page[i];
		if (inside)
			continue;
		counts[t->page[i]]++;
		if (n == k)
			first = (first + 1) % k;
		else
			n++;
		window[(first + n - 1) % k] = t->page[i];
	}
}

/* Measure the counts of a window of `k` pages. Sets `counts` by page. */
static void measure(const struct trace *t, byte *memory, unsigned int k, double *counts)
{
	struct profile p = profile(PAGE_PROFILE_WINDOW, k, memory, N);

	run(t, memory);
	page_profile_stop(p.fd);
	for (size_t i = 0; i < N; i++)
		counts[i] = (double)p.counts[i].reads + p.counts[i].writes;
	finish(&p);
}

static void ranks(const double *counts, double *rank)
{
	for (size_t i = 0; i < N; i++) {
		size_t below = 0, same = 0;

		for (size_t j = 0; j < N; j++) {
			below += counts[j] < counts[i];
			same += counts[j] == counts[i];
		}
		rank[i] = (double)below + ((double)same + 1) / 2;
	}
}

/* Returns the rank correlation, or NAN if all counts of one side are equal. */
static double spearman(const double *a, const double *b)
{
	double x[N], y[N], mean = ((double)N + 1) / 2, xy = 0, xx = 0, yy = 0;

	ranks(a, x);
	ranks(b, y);
	for (size_t i = 0; i < N; i++) {
		xy += (x[i] - mean) * (y[i] - mean);
		xx += (x[i] - mean) * (x[i] - mean);
		yy += (y[i] - mean) * (y[i] - mean);
	}
	return xx && yy ? xy / sqrt(xx * yy) : NAN;
}

/* Returns the lowest count of the hottest fifth of the accessed pages. */
static double threshold(const double *counts)
{
	double sorted[N];
	size_t accessed = 0;

	memcpy(sorted, counts, sizeof(sorted));
	for (size_t i = 0; i < N; i++)
		for (size_t j = i + 1; j < N; j++)
			if (sorted[j] > sorted[i]) {
				double swap = sorted[i];

				sorted[i] = sorted[j];
				sorted[j] = swap;
			}
	while (accessed < N && sorted[accessed] > 0)
		accessed++;
	return sorted[accessed / HOT - 1];
}

/* Returns the share of the truly hottest pages that are also hottest by `counts`, with ties. */
static double overlap(const double *truth, const double *counts)
{
	double true_limit = threshold(truth), limit = threshold(counts);
	size_t both = 0, hottest = 0;

	for (size_t i = 0; i < N; i++) {
		hottest += truth[i] >= true_limit;
		both += truth[i] >= true_limit && counts[i] >= limit;
	}
	return (double)both / (double)hottest;
}

static void number(const char *name, double value)
{
	if (isnan(value))
		printf(", \"%s\": null", name);
	else
		printf(", \"%s\": %.4f", name, value);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*make)(struct trace *);
	} patterns[] = {{"streaming", streaming}, {"triad", triad},	  {"strided", strided},
			{"uniform", uniform},	  {"hot-cold", hot_cold}, {"zipf", zipf},
			{"layers", layers}};
	static const unsigned int windows[] = {1, 2, 4, 8, 16, 32, 64};
	static struct trace trace;
	byte *memory = pages(N);
	double truth[N], counts[N], expected[N];

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++) {
		double total, wrong;

		memset(&trace, 0, sizeof(trace));
		patterns[i].make(&trace);
		memset(truth, 0, sizeof(truth));
		for (int j = 0; j < ACCESSES; j++)
			truth[trace.page[j]]++;
		for (size_t k = 0; k < sizeof(windows) / sizeof(*windows); k++) {
			measure(&trace, memory, windows[k], counts);
			simulate(&trace, windows[k], expected);
			total = wrong = 0;
			for (size_t j = 0; j < N; j++) {
				total += expected[j];
				wrong += fabs(counts[j] - expected[j]);
			}
			printf("{\"pattern\": \"%s\", \"window\": %u, \"faults\": %.0f",
			       patterns[i].name, windows[k], total);
			number("error", wrong / total); /* relative to the simulation */
			number("rank_correlation", spearman(truth, counts));
			number("hottest_overlap",
			       isnan(spearman(truth, counts)) ? NAN : overlap(truth, counts));
			printf("}\n");
		}
	}
	return 0;
}
