/* SPDX-License-Identifier: Apache-2.0 */
/* A pool in which somebody else decides where everything is: the plan. Not thread-safe. */
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
	/* `give_back`: pages on which nothing lives go back to the system. */
	Arena(size_t size, bool give_back) : mapping_(size), give_back_(give_back)
	{
	}

	/* [offset, offset + size) of the pool, or nullptr if part of it is in use or outside. */
	char *claim(size_t offset, size_t size);

	/* What `claim` gave. */
	void release(char *p);

	/* Pages of [offset, offset + size), of whole pages, are not given back after all. */
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
	/* Bytes in use. */
	size_t used() const
	{
		return used_;
	}

      private:
	Mapping mapping_;
	bool give_back_;
	std::map<size_t, size_t> live_, kept_; /* offset -> end */
	size_t used_ = 0;
};

} // namespace sentinel

#endif
