/* SPDX-License-Identifier: Apache-2.0 */
/* A first-fit heap of whole pages in one mapping. Not thread-safe. */
#ifndef SENTINEL_RUNTIME_PAGE_HEAP_H
#define SENTINEL_RUNTIME_PAGE_HEAP_H

#include <cstddef>
#include <map>

#include "memory.h"

namespace sentinel
{

class PageHeap
{
public:
	/*
	 * `keep`: bytes of free pages that may stay resident; more are returned to the system.
	 * `rotate`: next fit instead of first fit, so that addresses are reused as late as
	 * possible, as a profile needs. First fit keeps memory compact.
	 */
	PageHeap(size_t capacity, size_t keep, bool rotate = false);

	/* Allocate `size` bytes, rounded up to pages; nullptr if the heap or memory is full. */
	char *allocate(size_t size);

	/* Free a block of `size` bytes that allocate() returned. */
	void release(char *p, size_t size);

	/* Return all free pages to the system. */
	void trim();

	Mapping &mapping()
	{
		return mapping_;
	}
	const Mapping &mapping() const
	{
		return mapping_;
	}
	/* Bytes of live blocks. */
	size_t used() const
	{
		return used_;
	}
	/* Bytes from the base to the end of the highest page ever in use. */
	size_t top() const
	{
		return top_;
	}

private:
	using Free = std::map<size_t, size_t>; /* offset to size; adjacent ranges are merged */

	char *take(Free::iterator range, size_t offset, size_t size);

	Mapping mapping_;
	Free free_;
	size_t keep_;
	bool rotate_;
	size_t next_ = 0; /* start of the search with rotate_ */
	size_t kept_ = 0; /* upper bound of the resident bytes in free_ */
	size_t used_ = 0;
	size_t top_ = 0;
};

} // namespace sentinel

#endif
