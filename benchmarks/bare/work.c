// SPDX-License-Identifier: Apache-2.0
/*
 * Work for benchmarks/plugin.py that runs without an operating system: ROUNDS rounds of WORK inside
 * a region, then the machine ends.
 */
#include "../../tests/vm/freestanding.h"

#define LINES 16384

struct line {
	struct line *next;
	uint32_t values[15];
};

/* In no page with code: QEMU would translate that again after each store */
#define NUMBERS ((volatile uint32_t *)(24 * MIB))
#define FROM	((struct line *)(32 * MIB))
#define TO	((struct line *)(40 * MIB))

static volatile uint32_t sink;

/* Bubble sort of 256 numbers: loads, stores and branches in the cache. */
static void sort(void)
{
	volatile uint32_t *numbers = NUMBERS;

	for (uint32_t i = 0; i < 256; i++)
		numbers[i] = i * 2654435761U;
	for (uint32_t n = 255; n; n--)
		for (uint32_t i = 0; i < n; i++) {
			uint32_t a = numbers[i], b = numbers[i + 1];

			numbers[i] = a < b ? a : b;
			numbers[i + 1] = a < b ? b : a;
		}
}

/* Sum of 1 MiB by integer instructions. */
static void sum(void)
{
	const volatile uint32_t *p = (uint32_t *)FROM;
	uint32_t total = 0;

	for (uint32_t i = 0; i < LINES * LINE / 4; i++)
		total += p[i];
	sink = total;
}

static void copy(void)
{
	for (char *from = (char *)FROM, *to = (char *)TO; from < (char *)(FROM + LINES);
	     from += 16, to += 16)
		__asm__ volatile("movaps (%0), %%xmm0; movaps %%xmm0, (%1)" ::"r"(from), "r"(to)
				 : "memory");
}

static void chase(void)
{
	const struct line *line = FROM;

	for (uint32_t i = 0; i < LINES; i++)
		line = line->next;
	sink = (uint32_t)line;
}

void start(void)
{
	for (uint32_t i = 0; i < LINES; i++)
		FROM[i].next = &FROM[(i * 5 + 1) % LINES];
	MARK(1);
	for (uint32_t i = 0; i < ROUNDS; i++)
		WORK();
	MARK(2);
	__asm__ volatile("outb %%al, $0xf4" ::"a"(0)); /* isa-debug-exit */
	for (;;)
		;
}
