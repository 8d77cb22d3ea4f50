// SPDX-License-Identifier: GPL-2.0-or-later
#include "oracle.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define INITIAL_SIZE 1024 /* entries, a power of two */

struct page {
	uint64_t number; /* page number + 1; 0: empty */
	uint64_t reads, writes, misses[2];
};

struct oracle {
	struct page *pages; /* hash table with open addressing */
	size_t size, used;
	bool full; /* out of memory: counts are incomplete */
	pthread_mutex_t lock;
};

struct oracle *oracle_new(void)
{
	struct oracle *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->pages = calloc(INITIAL_SIZE, sizeof(*o->pages));
	if (!o->pages) {
		free(o);
		return NULL;
	}
	o->size = INITIAL_SIZE;
	pthread_mutex_init(&o->lock, NULL);
	return o;
}

void oracle_free(struct oracle *o)
{
	pthread_mutex_destroy(&o->lock);
	free(o->pages);
	free(o);
}

/* Returns the entry of a page, or the empty entry to use for it. */
static struct page *find(struct page *pages, size_t size, uint64_t number)
{
	size_t i = (number * 0x9e3779b97f4a7c15ULL) >> 20;

	while (pages[i & (size - 1)].number && pages[i & (size - 1)].number != number + 1)
		i++;
	return &pages[i & (size - 1)];
}

static bool grow(struct oracle *o)
{
	struct page *larger = calloc(2 * o->size, sizeof(*larger));

	if (!larger)
		return false;
	for (struct page *p = o->pages; p < o->pages + o->size; p++)
		if (p->number)
			*find(larger, 2 * o->size, p->number - 1) = *p;
	free(o->pages);
	o->pages = larger;
	o->size *= 2;
	return true;
}

void oracle_count(struct oracle *o, uint64_t address, bool store, unsigned int misses, int node)
{
	uint64_t number = address / ORACLE_PAGE;
	struct page *page;

	pthread_mutex_lock(&o->lock);
	page = find(o->pages, o->size, number);
	if (!page->number && o->used >= o->size / 2) {
		o->full = o->full || !grow(o);
		page = find(o->pages, o->size, number);
	}
	if (page->number || !o->full) {
		o->used += !page->number;
		page->number = number + 1;
		if (store)
			page->writes++;
		else
			page->reads++;
		page->misses[node] += misses;
	}
	pthread_mutex_unlock(&o->lock);
}

void oracle_clear(struct oracle *o)
{
	pthread_mutex_lock(&o->lock);
	memset(o->pages, 0, o->size * sizeof(*o->pages));
	o->used = 0;
	o->full = false;
	pthread_mutex_unlock(&o->lock);
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = ((const struct page *)a)->number, y = ((const struct page *)b)->number;

	return x < y ? -1 : x > y;
}

static bool write_pages(const struct oracle *o, struct page *sorted, FILE *to)
{
	size_t n = 0;

	for (const struct page *p = o->pages; p < o->pages + o->size; p++)
		if (p->number)
			sorted[n++] = *p;
	qsort(sorted, n, sizeof(*sorted), by_address);
	if (fputs("page,reads,writes,misses0,misses1\n", to) < 0)
		return false;
	for (const struct page *p = sorted; p < sorted + n; p++)
		if (fprintf(to, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n",
			    (p->number - 1) * ORACLE_PAGE, p->reads, p->writes, p->misses[0],
			    p->misses[1]) < 0)
			return false;
	return fflush(to) == 0;
}

bool oracle_write(struct oracle *o, FILE *to)
{
	struct page *sorted;
	bool written = false;

	pthread_mutex_lock(&o->lock);
	sorted = malloc((o->used + 1) * sizeof(*sorted));
	if (sorted && o->full)
		errno = ENOMEM;
	else if (sorted)
		written = write_pages(o, sorted, to);
	free(sorted);
	pthread_mutex_unlock(&o->lock);
	return written;
}
