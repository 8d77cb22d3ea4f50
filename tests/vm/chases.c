// SPDX-License-Identifier: Apache-2.0
/*
 * Pointer chases and streams as programs have them, without an operating system (see bare.c) and
 * without markers of dependent misses. For each node, and for each kind of access in its turn, it
 * accesses LINES lines between the markers USER(2 k) and USER(2 k + 1).
 * The cache is far smaller than LINES lines.
 */
#include "freestanding.h"

#define LINES 8192
#define MOST  4 /* parallel chases */

struct line {
	uint32_t value;
	struct line *next;
	struct line *also; /* equal to next */
	char rest[LINE - 12];
};

struct memory {
	struct line *strided;	     /* a cycle of all lines, each 2 lines behind the last */
	struct line *shuffled[MOST]; /* equally spaced in a random cycle */
	struct line **pointers;	     /* to all lines, in random order */
	struct line *array, *other;
};

static struct memory memories[2];
static volatile uint32_t sink;

static uint32_t random_below(uint32_t n)
{
	static uint64_t state = 7;

	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((state >> 32) * n >> 32);
}

/* Fill 5 MiB at `at` with the data of a node. */
static void prepare(struct memory *m, char *at)
{
	struct line *strided = (struct line *)at, *shuffled = (struct line *)(at + MIB), *line;

	m->array = (struct line *)(at + 2 * MIB);
	m->pointers = (struct line **)(at + 3 * MIB);
	m->other = (struct line *)(at + 4 * MIB);
	for (uint32_t i = 0; i < LINES; i++) {
		uint32_t next = i + 2 < LINES ? i + 2 : !(i % 2);

		strided[i].next = strided[i].also = &strided[next];
		shuffled[i].next = &shuffled[i];
		m->pointers[i] = &m->array[i];
	}
	m->strided = strided;
	for (uint32_t i = LINES - 1; i; i--) { /* Sattolo's algorithm makes a single cycle */
		uint32_t other = random_below(i);
		struct line *next = shuffled[i].next, *pointer = m->pointers[i];

		shuffled[i].next = shuffled[other].next;
		shuffled[other].next = next;
		m->pointers[i] = m->pointers[other];
		m->pointers[other] = pointer;
	}
	line = shuffled;
	for (uint32_t i = 0; i < LINES; i++, line = line->next) {
		line->also = line->next;
		if (i % (LINES / MOST) == 0)
			m->shuffled[i / (LINES / MOST)] = line;
	}
}

/* Like lat_mem_rd: unrolled loads, each of the address of the next. */
#define FOUR(x)	 x x x x
#define CHASE	 "movl 4(%0), %0;"
#define UNROLLED 64

static void follow(struct line *line)
{
	for (uint32_t i = 0; i < LINES; i += UNROLLED)
		__asm__ volatile(FOUR(FOUR(FOUR(CHASE))) : "+r"(line)::"memory");
	sink = (uint32_t)line;
}

static void chase(const struct line *line)
{
	for (uint32_t i = 0; i < LINES; i++)
		line = line->next;
	sink = (uint32_t)line;
}

static void chase_two(struct line *const *starts)
{
	const struct line *a = starts[0], *b = starts[2];

	for (uint32_t i = 0; i < LINES / 2; i++) {
		a = a->next;
		b = b->next;
	}
	sink = (uint32_t)a + (uint32_t)b;
}

static void chase_four(struct line *const *starts)
{
	const struct line *a = starts[0], *b = starts[1], *c = starts[2], *d = starts[3];

	for (uint32_t i = 0; i < LINES / 4; i++) {
		a = a->next;
		b = b->next;
		c = c->next;
		d = d->next;
	}
	sink = (uint32_t)a + (uint32_t)b + (uint32_t)c + (uint32_t)d;
}

/* The next line's address is read from a line that is being fetched. */
static void sum_list(const struct line *line)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < LINES; i++) {
		sum += *(const volatile uint32_t *)&line->value;
		line = line->next;
	}
	sink = sum;
}

/* As compiled without optimisation: the pointer is a variable in memory. */
static void chase_spilled(struct line *start)
{
	struct line *volatile line = start;

	for (uint32_t i = 0; i < LINES; i++)
		line = line->next;
}

/* Without a branch: which pointer is followed depends on the data. */
static void chase_selected(struct line *line)
{
	for (uint32_t i = 0; i < LINES; i++)
		__asm__ volatile(
			"movl 4(%0), %%eax; cmpl $7, (%0); movl 8(%0), %0; cmovel %%eax, %0"
			: "+r"(line)::"eax", "memory");
	sink = (uint32_t)line;
}

static void read_stream(const struct line *array)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < LINES; i++)
		sum += *(const volatile uint32_t *)&array[i].value;
	sink = sum;
}

static void write_stream(struct line *array)
{
	for (uint32_t i = 0; i < LINES; i++)
		*(volatile uint32_t *)&array[i].value = i;
}

static void copy_stream(const struct line *from, struct line *to)
{
	for (uint32_t i = 0; i < LINES; i++)
		*(volatile uint32_t *)&to[i].value = *(const volatile uint32_t *)&from[i].value;
}

/* The addresses are loaded, but from a stream: most of these misses overlap. */
static void gather(struct line *const *pointers)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < LINES; i++)
		sum += *(const volatile uint32_t *)&pointers[i]->value;
	sink = sum;
}

/* Measure `call` with clean lines of the other node in the cache. */
#define KIND(number, call)                                                                         \
	do {                                                                                       \
		read_stream(memories[!node].strided);                                              \
		MEASURE(number, call);                                                             \
	} while (0)

#define MEASURE(number, call)                                                                      \
	do {                                                                                       \
		if (node) {                                                                        \
			MARK(0x8100 + 2 * (number));                                               \
			call;                                                                      \
			MARK(0x8101 + 2 * (number));                                               \
		} else {                                                                           \
			MARK(0x8000 + 2 * (number));                                               \
			call;                                                                      \
			MARK(0x8001 + 2 * (number));                                               \
		}                                                                                  \
	} while (0)

static void access_node(int node)
{
	const struct memory *m = &memories[node];

	KIND(0, follow(m->shuffled[0]));
	KIND(1, follow(m->strided));
	KIND(2, chase(m->shuffled[0]));
	KIND(3, chase_two(m->shuffled));
	KIND(4, chase_four(m->shuffled));
	KIND(5, sum_list(m->shuffled[0]));
	KIND(6, chase_spilled(m->shuffled[0]));
	KIND(7, chase_selected(m->shuffled[0]));
	KIND(8, read_stream(m->array));
	KIND(9, gather(m->pointers));
	write_stream(m->other); /* then each store evicts a dirty line */
	MEASURE(10, write_stream(m->array));
	copy_stream(m->other, m->strided);
	MEASURE(11, copy_stream(m->array, m->strided));
}

void start(void)
{
	prepare(&memories[0], (char *)(32 * MIB));
	prepare(&memories[1], (char *)(96 * MIB));
	MARK(1);
	access_node(0);
	access_node(1);
	MARK(2);
	for (;;)
		;
}
