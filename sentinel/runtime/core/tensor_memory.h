/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All memory of tensors: which pool a block is in, and what is known of it. Not thread-safe.
 */
#ifndef SENTINEL_RUNTIME_TENSOR_MEMORY_H
#define SENTINEL_RUNTIME_TENSOR_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "arena.h"
#include "page_heap.h"
#include "slabs.h"

namespace sentinel
{

enum class Pool : uint8_t {
	ordinary,  /* unmanaged: size classes and whole pages, wherever the system puts them */
	profile,   /* each block on pages of its own, on node 1 */
	reserved,  /* the plan's short-lived tensors, on node 0 */
	arena,	   /* the plan's long-lived tensors */
	unplanned, /* like ordinary, on node 1 */
	system	   /* the C library's, for what the others have no room for */
};
constexpr int kPools = 6;
const char *name_of(Pool pool);

struct Block {
	size_t size;	 /* as asked for */
	size_t capacity; /* as taken from the pool */
	Pool pool;
	int record = -1;     /* the recorder's number */
	uint64_t step = 0;   /* in which an operation allocated it; 0: in none */
	std::string name;    /* of what lives from before the step; else empty */
	bool placed = false; /* its pages have a node that is not their pool's */
};

struct PoolStatistics {
	uint64_t allocations = 0, releases = 0;
	size_t live = 0, peak = 0; /* bytes asked for */
};

class TensorMemory
{
      public:
	using Blocks = std::map<const char *, Block>;
	using Found = Blocks::iterator;

	/*
	 * `capacity`: bytes of addresses that each pool without a plan may use at most. Where the
	 * system gives less it is less, or nothing: then there is no pool but the system's.
	 */
	explicit TensorMemory(size_t capacity);

	/* Whether all pools are there. */
	bool complete() const
	{
		return ordinary_ && profile_ && unplanned_;
	}

	/*
	 * A block in `pool` (ordinary, profile, unplanned or system), aligned to `alignment` (a
	 * power of two; up to a page, but for the system's). At least a byte; of a page or more, on
	 * pages of its own. end() if there is no room. Throws std::bad_alloc, and nothing has
	 * changed.
	 */
	Found allocate(Pool pool, size_t alignment, size_t size);

	/* The block at `offset` of the plan's pool; end() if part of that is in use. */
	Found claim(Pool pool, size_t offset, size_t size);

	void release(Found block);

	/* The block that `p` points into, or end(). */
	Found find(const void *p);
	Found end()
	{
		return blocks_.end();
	}
	const Blocks &blocks() const
	{
		return blocks_;
	}

	/* Set the plan's pools, or none; whoever lives in the old ones keeps them. */
	void plan(std::shared_ptr<Arena> reserved, std::shared_ptr<Arena> arena);

	/*
	 * Without the plan's pools everything goes to node 1, now and when it is born. False
	 * (errno) if the system refuses.
	 */
	bool move_to_slow();

	/*
	 * The pages that the block touches go to `node`, now and when they are born again (as all
	 * are that are written while a forked child has them too), until it is released.
	 */
	void place(Found block, int node);

	/* The pool's addresses; nullptr if it has none: without a plan, or the system's. */
	Mapping *mapping(Pool pool);
	/* Bytes of addresses in use from the start of the pool. */
	size_t extent(Pool pool) const;

	/*
	 * Let what the ordinary pool has used so far, whether it is free now or not, be on at most
	 * `budget` bytes of fast memory: its lowest pages, which were used first, or every other
	 * one until they are used up. What is used later is on node 1. False if there is no node 1.
	 */
	bool limit(bool interleave, size_t budget);

	/* Give back all free pages of the pools without a plan. */
	void trim();

	const PoolStatistics &statistics(Pool pool) const
	{
		return statistics_[int(pool)];
	}
	const PoolStatistics &total() const
	{
		return total_;
	}

      private:
	struct Heap {
		PageHeap pages;
		Slabs small;
		Heap(size_t capacity, size_t keep, bool rotate)
		    : pages(capacity, keep, rotate), small(pages)
		{
		}
	};
	static std::unique_ptr<Heap> make_heap(size_t capacity, size_t keep, bool rotate);
	Heap *heap(Pool pool) const;
	void give_back(char *p, const Block &block);
	Found insert(char *p, size_t size, size_t capacity, Pool pool);

	std::unique_ptr<Heap> ordinary_, profile_, unplanned_;
	std::shared_ptr<Arena> reserved_, arena_;
	std::map<const char *, std::shared_ptr<Arena>>
		former_; /* blocks of pools of earlier plans */
	Blocks blocks_;
	PoolStatistics statistics_[kPools], total_;
};

} // namespace sentinel

#endif
