/* SPDX-License-Identifier: Apache-2.0 */
/* A pool in which the plan decides every block's place. Not thread-safe. */
#ifndef SENTINEL_RUNTIME_ARENA_H
#define SENTINEL_RUNTIME_ARENA_H

#include <cstddef>
#include <map>

#include "memory.h"

namespace sentinel
{

class Arena
{
public:
	/*
	 * With `discard`, pages without a live block are returned to the system. With `closed`, the
	 * pool is only addresses until open(). `apart`: see Mapping.
	 */
	Arena(size_t size, bool discard, bool closed = false, bool apart = false)
	    : mapping_(size, closed, apart), extent_(closed ? 0 : size), discard_(discard)
	{
	}

	/* Make at least [0, size) usable. Throws std::bad_alloc. */
	void open(size_t size);
	/* Usable bytes. */
	size_t extent() const
	{
		return extent_;
	}

	/* Allocate [offset, offset + size); nullptr if part of it is in use or out of range. */
	char *claim(size_t offset, size_t size);

	/* Free a block that claim() returned. */
	void release(char *p);

	/* Return the pages of [offset, end) without a live block to the system, kept ones too. */
	void discard_unused(size_t offset, size_t end);

	/* Exempt the whole pages of [offset, offset + size) from being discarded. */
	void keep(size_t offset, size_t size)
	{
		kept_[offset] = offset + size;
	}

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

private:
	Mapping mapping_;
	size_t extent_;
	bool discard_;
	std::map<size_t, size_t> live_, kept_; /* offset to end */
	size_t used_ = 0;
};

} // namespace sentinel

#endif
