// SPDX-License-Identifier: Apache-2.0
/*
 * A program that runs without an operating system, so that no other accesses are counted.
 * For each kind k of access, it accesses LINES lines that are not in the cache, between the markers
 * USER(2 k) and USER(2 k + 1); then it accesses memory across a page boundary, between USER(0x100)
 * and USER(0x101). Finally it begins and ends regions forever, with USER(0x200) in each.
 * The cache is a quarter of FLUSH.
 */
#include "freestanding.h"

#define LINES 256
#define FLUSH (256 << 10)

#define LINES_AT ((char *)(32 * MIB))	 /* the accessed lines */
#define OTHER	 ((char *)(40 * MIB))	 /* fills the cache */
#define TABLES	 ((uint32_t *)(8 * MIB)) /* pages of page tables */
#define WINDOW	 0xc0000000		 /* virtual address of two pages */
#define LAST	 (64 * MIB - 4096)	 /* physical address: last page of node 0 */
#define ANOTHER	 (16 * MIB)		 /* physical address: another page of node 0 */

static void fill_cache(void)
{
	for (char *p = OTHER; p < OTHER + FLUSH; p += LINE)
		(void)*(volatile char *)p;
}

/* Execute instructions for every `step` bytes of the lines, with the address in %0. */
#define KIND(number, step, ...)                                                                    \
	do {                                                                                       \
		fill_cache();                                                                      \
		MARK(0x8000 + 2 * (number));                                                       \
		for (char *p = LINES_AT; p < LINES_AT + LINES * LINE; p += (step))                 \
			__asm__ volatile(__VA_ARGS__ ::"r"(p) : "eax", "ecx", "edx", "memory");    \
		MARK(0x8000 + 2 * (number) + 1);                                                   \
	} while (0)

static void access_lines(void)
{
	KIND(0, LINE, "addl $1, (%0)");
	KIND(1, LINE, "lock addl $1, (%0)");
	KIND(2, LINE, "xaddl %%eax, (%0)");
	KIND(3, LINE, "lock xaddl %%eax, (%0)");
	KIND(4, LINE, "xchgl %%eax, (%0)");
	KIND(5, LINE, "xchgb %%al, (%0)");
	KIND(6, LINE, "movl $12345, %%eax; cmpxchgl %%ecx, (%0)"); /* comparison fails */
	KIND(7, LINE, "movl $12345, %%eax; lock cmpxchgl %%ecx, (%0)");
	KIND(8, LINE, "xchgl %%eax, (%0); lock cmpxchgl %%ecx, (%0); lock incl (%0)");
	KIND(9, LINE, "btsl $3, (%0)");
	KIND(10, LINE, "lock btsl $3, (%0)");
	KIND(11, LINE, "lock btrl $3, (%0)");
	KIND(12, LINE, "lock incl (%0)");
	KIND(13, LINE, "lock negl (%0)");
	KIND(14, LINE, "lock notl (%0)");
	KIND(15, LINE, "lock orw $3, (%0)");
	KIND(16, LINE, "pushl %%ebx; cmpxchg8b (%0); popl %%ebx");
	KIND(17, LINE, "pushl %%ebx; lock cmpxchg8b (%0); popl %%ebx");
	KIND(18, 2 * LINE, "lock addl $1, 62(%0)"); /* across two lines */
	KIND(19, LINE, "movl (%0), %%eax");
	KIND(20, LINE, "movl $1, (%0)"); /* write only */
}

/* Identity mapping, plus two pages at WINDOW: LAST and ANOTHER. */
static void enable_paging(void)
{
	uint32_t *directory = TABLES;

	for (unsigned int i = 0; i < 32; i++) { /* 128 MiB */
		uint32_t *table = TABLES + 1024 * (i + 1);

		for (unsigned int page = 0; page < 1024; page++)
			table[page] = (i << 22) + (page << 12) + 3;
		directory[i] = (uint32_t)(uintptr_t)table + 3;
	}
	directory[WINDOW >> 22] = (uint32_t)(uintptr_t)(TABLES + 1024 * 33) + 3;
	TABLES[1024 * 33] = LAST + 3;
	TABLES[1024 * 33 + 1] = ANOTHER + 3;
	__asm__ volatile("movl %0, %%cr3; movl %%cr0, %%eax; orl $0x80000000, %%eax;"
			 "movl %%eax, %%cr0" ::"r"(directory)
			 : "eax", "memory");
}

static void cross_pages(void)
{
	enable_paging();
	fill_cache();
	MARK(0x8100);
	(void)*(volatile uint32_t *)(WINDOW + 4096 - 2);
	MARK(0x8101);
}

void start(void)
{
	MARK(1);
	access_lines();
	cross_pages();
	MARK(2);
	for (;;) {
		MARK(1);
		for (volatile unsigned int i = 0; i < 200000; i++)
			;
		MARK(0x8200);
		MARK(2);
	}
}
