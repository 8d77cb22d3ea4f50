// SPDX-License-Identifier: Apache-2.0
/*
 * LD_PRELOAD library that places TensorFlow's tensors, and nothing else, in one profilable arena.
 *
 * TensorFlow 1.13 allocates tensors with posix_memalign(). Blocks smaller than a page stay with the
 * C library. Freed blocks are reused by size.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE	 4096UL
#define CAPACITY (1UL << 30)
#define PAGES	 (CAPACITY / PAGE)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *arena;
static size_t used;		  /* pages */
static uint32_t pages_of[PAGES];  /* of the block that begins at this page */
static uint32_t next_free[PAGES]; /* page + 1 of the next free block of the same size */
static uint32_t free_list[PAGES]; /* by number of pages: page + 1 of the first free block */

/* The C library's functions, by names common to old and new versions. */
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *pointer);

/* Returns the address of the arena and its highest use so far in bytes. */
void *tensor_arena(size_t *bytes)
{
	*bytes = used * PAGE;
	return arena;
}

__attribute__((constructor)) static void begin(void)
{
	arena = mmap(NULL, CAPACITY, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (arena == MAP_FAILED)
		abort();
	madvise(arena, CAPACITY, MADV_NOHUGEPAGE);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
	size_t pages = (size + PAGE - 1) / PAGE, at;

	if (size < PAGE || alignment > PAGE || pages >= PAGES) {
		*result = __libc_memalign(alignment, size);
		return *result ? 0 : ENOMEM;
	}
	pthread_mutex_lock(&lock);
	if (free_list[pages]) {
		at = free_list[pages] - 1;
		free_list[pages] = next_free[at];
	} else {
		at = used;
		used += pages;
		if (used > PAGES)
			abort();
	}
	pages_of[at] = (uint32_t)pages;
	pthread_mutex_unlock(&lock);
	*result = arena + at * PAGE;
	return 0;
}

void free(void *pointer)
{
	size_t at = (size_t)((char *)pointer - arena) / PAGE;

	if (!arena || (char *)pointer < arena || (char *)pointer >= arena + CAPACITY) {
		__libc_free(pointer);
		return;
	}
	pthread_mutex_lock(&lock);
	next_free[at] = free_list[pages_of[at]];
	free_list[pages_of[at]] = (uint32_t)at + 1;
	pthread_mutex_unlock(&lock);
}
