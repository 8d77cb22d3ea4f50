// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MPOL_BIND 2

char *allocate(int node, size_t size)
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

void link_lines(char *p, size_t size)
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

void *chase(void *at, size_t steps)
{
	while (steps--)
		at = *(void *volatile *)at;
	return at;
}

void scatter(char *p, size_t lines, size_t first, size_t steps)
{
	for (size_t i = first; i < first + steps; i++)
		*(volatile uint64_t *)(p + ((i * 0x9e3779b1u + 12345) & (lines - 1)) * LINE) = i;
}

void read_lines(const char *p, size_t size)
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

void write_lines(char *p, size_t size)
{
	for (char *end = p + size; p < end; p += LINE)
		*(volatile uint64_t *)p = 1;
}

void copy_lines(char *to, const char *from, size_t size)
{
	for (size_t i = 0; i < size; i += LINE)
		*(volatile uint64_t *)(to + i) = *(const volatile uint64_t *)(from + i);
}

void clear_cache(int node)
{
	read_lines(more[node] + stream - 4 * cache, 4 * cache);
}
