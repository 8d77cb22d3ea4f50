/* SPDX-License-Identifier: Apache-2.0 */
/* Whole pages out of one mapping, first fit. Not thread-safe. */
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
	 * `keep`: bytes of free pages that may stay resident; beyond that they are given back to
	 * the system. `rotate`: take what was free longest first, so that an address comes back as
	 * late as possible (a profile wants that), instead of the lowest, which keeps memory
	 * compact.
	 */
	PageHeap(size_t capacity, size_t keep, bool rotate = false);

	/* `size` bytes, rounded up to pages; nullptr if there is no such room, or no memory. */
	char *allocate(size_t size);

	/* What `allocate` gave, with its size. */
	void release(char *p, size_t size);

	/* Give back all free pages. */
	void trim();

	Mapping &mapping()
	{
		return mapping_;
	}
	const Mapping &mapping() const
	{
		return mapping_;
	}
	/* Bytes in use. */
	size_t used() const
	{
		return used_;
	}
	/* Bytes from the base to the highest page that was ever in use. */
	size_t top() const
	{
		return top_;
	}

      private:
	using Free = std::map<size_t, size_t>; /* offset -> size; neighbours are one */

	char *take(Free::iterator range, size_t offset, size_t size);

	Mapping mapping_;
	Free free_;
	size_t keep_;
	bool rotate_;
	size_t next_ = 0; /* where to look first, when rotating */
	size_t kept_ = 0; /* an upper bound of the resident bytes in free_ */
	size_t used_ = 0;
	size_t top_ = 0;
};

} // namespace sentinel

#endif
