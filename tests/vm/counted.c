// SPDX-License-Identifier: Apache-2.0
/*
 * Access pages at a fixed address a known number of times while they are counted: page i is read
 * i % 7 + 1 times and written i % 3 times. With an argument, do the same forever, uncounted.
 */
#include "sentinel_markers.h"

#include <stdlib.h>

#define PAGES	256
#define PAGE	4096
#define ADDRESS ((char *)0x100000000000)

static void access_pages(volatile char *p)
{
	for (size_t i = 0; i < PAGES; i++) {
		for (size_t n = 0; n <= i % 7; n++)
			(void)p[i * PAGE + 64 * n];
		for (size_t n = 0; n < i % 3; n++)
			p[i * PAGE + 64 * n] = 1;
	}
}

int main(int argc, char **argv)
{
	char *p = mmap(ADDRESS, PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);

	(void)argv;
	if (p == MAP_FAILED)
		return 1;
	while (argc > 1)
		access_pages(p);
	sentinel_mark(SENTINEL_REGION_BEGIN);
	sentinel_mark(SENTINEL_OBSERVE);
	for (int i = 0; i < 100; i++)
		access_pages(p);
	sentinel_mark(SENTINEL_PAGES);
	sentinel_mark(SENTINEL_REGION_END);
	return 0;
}
