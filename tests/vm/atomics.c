// SPDX-License-Identifier: Apache-2.0
/*
 * Execute each kind of atomic instruction on LINES lines of node 1 that are not in the cache,
 * between the markers of a step. Prints the number of lines, and the name of each kind.
 */
#include "sentinel_markers.h"

#include <stdlib.h>
#include <sys/syscall.h>

#define LINES 4096UL
#define LINE  64
#define OTHER (8UL << 20) /* bytes, several times the cache */

static char *lines, *other;

static char *area(size_t size)
{
	unsigned long node_1 = 2;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || syscall(SYS_mbind, p, size, 2, &node_1, 64, 0))
		exit(1);
	memset(p, 1, size);
	return p;
}

#define KIND(name, ...)                                                                            \
	do {                                                                                       \
		puts(name);                                                                        \
		for (char *p = other; p < other + OTHER; p += LINE)                                \
			(void)*(volatile char *)p;                                                 \
		sentinel_mark(SENTINEL_STEP_BEGIN);                                                \
		for (char *p = lines; p < lines + LINES * LINE; p += LINE)                         \
			__asm__ volatile(__VA_ARGS__ ::"r"(p)                                      \
					 : "rax", "rbx", "rcx", "rdx", "memory", "cc");            \
		sentinel_mark(SENTINEL_STEP_END);                                                  \
	} while (0)

int main(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return 1;
	lines = area(LINES * LINE);
	other = area(OTHER);
	printf("%lu\n", LINES);
	sentinel_mark(SENTINEL_REGION_BEGIN);
	KIND("add", "addq $1, (%0)");
	KIND("lock add", "lock addq $1, (%0)");
	KIND("lock xadd", "lock xaddq %%rax, (%0)");
	KIND("xchg", "xchgq %%rax, (%0)");
	KIND("lock cmpxchg", "lock cmpxchgq %%rcx, (%0)");
	KIND("lock bts", "lock btsq $3, (%0)");
	KIND("cmpxchg16b", "cmpxchg16b (%0)");
	KIND("lock cmpxchg16b", "lock cmpxchg16b (%0)");
	sentinel_mark(SENTINEL_REGION_END);
	return 0;
}
