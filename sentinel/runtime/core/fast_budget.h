/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast memory that is for what comes and goes: groups that give their pages back, and what
 * moves. However late a move is, there is never more in it than it holds: what is born then is born
 * in slow memory, and promotions wait for what is to leave. Thread-safe.
 */
#ifndef SENTINEL_RUNTIME_FAST_BUDGET_H
#define SENTINEL_RUNTIME_FAST_BUDGET_H

#include <cstddef>
#include <functional>
#include <map>

#include "memory.h"
#include "mutex.h"

namespace sentinel
{

/* Has the pages that will be born in [start, start + size) on a node. */
using PlaceFunction = std::function<void(char *start, size_t size, int node)>;

class Room
{
      public:
	/* `limit` in bytes. */
	Room(size_t limit, PlaceFunction place) : limit_(limit), place_(std::move(place))
	{
	}

	/* [start, start + size) comes and goes; its pages are to be born on `node`. */
	void add(char *start, size_t size, int node);
	/* The same of what lives already, on `node`. */
	void add_living(char *start, size_t size, int node);

	/* A tensor is born, or dead. Bytes of groups that had no room in fast memory. */
	size_t born(const char *start, size_t size);
	void dead(const char *start, size_t size);

	/* Pages are about to be promoted: false if there is no room for them. */
	bool take(const char *start, size_t size);
	/* They were, or were demoted; so much of what `what` says. */
	void moved(const char *start, size_t size, int node, const Moved &what);

	/* Bytes: the most that was ever taken, and the limit. */
	size_t peak() const;
	size_t limit() const
	{
		return limit_;
	}

      private:
	struct Held {
		size_t size;
		int node;
		int living = 0;		/* tensors in it */
		size_t fast = 0;	/* bytes that count as being in fast memory */
		bool elsewhere = false; /* its pages are born in slow memory for want of room */
	};
	using Ranges = std::map<const char *, Held>;

	Ranges::iterator find(const char *p) SENTINEL_REQUIRES(mutex_);
	void set(Held &held, size_t fast) SENTINEL_REQUIRES(mutex_);

	const size_t limit_;
	const PlaceFunction place_;
	mutable Mutex mutex_;
	Ranges ranges_ SENTINEL_GUARDED_BY(mutex_); /* by start */
	size_t used_ SENTINEL_GUARDED_BY(mutex_) = 0;
	size_t peak_ SENTINEL_GUARDED_BY(mutex_) = 0;
};

} // namespace sentinel

#endif
