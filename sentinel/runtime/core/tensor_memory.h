/* SPDX-License-Identifier: Apache-2.0 */
/* All memory of tensors: the pool and the properties of every block. Not thread-safe. */
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
	ordinary,  /* unmanaged: size classes and whole pages, on any node */
	profile,   /* every block on its own pages, on node 1 */
	reserved,  /* the plan's short-lived tensors, on node 0 */
	arena,	   /* the plan's long-lived tensors */
	unplanned, /* like ordinary, on node 1 */
	system	   /* malloc, when the other pools are full */
};
constexpr int kPools = 6;
const char *name_of(Pool pool);

struct Block {
	size_t size;	 /* as requested */
	size_t capacity; /* as taken from the pool; 0 for a slab's block */
	Pool pool;
	int record = -1;   /* the recorder's index */
	uint64_t step = 0; /* step in which an operation allocated it; 0 if none did */
	std::string name;  /* of a variable, else empty */
	int8_t node = -1;  /* of its pages, if it differs from its pool's */
};

struct PoolStatistics {
	uint64_t allocations = 0, releases = 0;
	size_t live = 0, peak = 0; /* requested bytes */
};

class TensorMemory
{
public:
	using Blocks = std::map<const char *, Block>;
	using BlockIterator = Blocks::iterator;

	/*
	 * `capacity`: bytes of addresses for each pool outside a plan. Where the system grants
	 * less, pools are smaller, or only the system pool is left.
	 */
	explicit TensorMemory(size_t capacity);

	/* Whether the system granted addresses for all pools. */
	bool complete() const
	{
		return ordinary_ && profile_ && unplanned_;
	}

	/*
	 * Allocate from a pool outside a plan. `alignment` is a power of two, up to a page except
	 * for the system pool. A block of a page or more has pages of its own. end() if the pool is
	 * full. Throws std::bad_alloc, and then nothing has changed.
	 */
	BlockIterator allocate(Pool pool, size_t alignment, size_t size);

	/* Allocate at `offset` of the plan's pool; end() if part of that is in use. */
	BlockIterator claim(Pool pool, size_t offset, size_t size);

	void release(BlockIterator block);

	/* The block that contains `p`, or end(). */
	BlockIterator find(const void *p);
	BlockIterator end()
	{
		return blocks_.end();
	}
	const Blocks &blocks() const
	{
		return blocks_;
	}
	/* Forget the indices of an earlier recorder. */
	void clear_records();

	/* Set the plan's pools, or none. Blocks in the old pools keep them alive. */
	void set_plan_pools(std::shared_ptr<Arena> reserved, std::shared_ptr<Arena> arena);

	/*
	 * Move everything outside the plan's pools to node 1, and allocate new pages there. False,
	 * with errno, if the system refuses.
	 */
	bool move_to_slow();

	/*
	 * Move the block's pages to `node`. Until the block is released, new pages come from there
	 * too, such as those that copy-on-write allocates after a fork.
	 */
	void set_node(BlockIterator block, int node);

	/* The pool's addresses; nullptr for the system pool and for missing pools. */
	Mapping *mapping(Pool pool);
	/* Bytes from the start of the pool to the end of its highest page ever in use. */
	size_t extent(Pool pool) const;

	/*
	 * Limit the ordinary pool to `budget` bytes of fast memory: its lowest pages, which were
	 * touched first, or with `interleave` every other page until the budget is used up. All
	 * other pages, and new ones, are on node 1. False if there is no node 1.
	 */
	bool limit_fast(bool interleave, size_t budget);

	/* Return all free pages of the pools outside a plan to the system. */
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
		Slabs slabs;
		Heap(size_t capacity, size_t keep, bool rotate)
		    : pages(capacity, keep, rotate), slabs(pages)
		{
		}
	};
	static std::unique_ptr<Heap> make_heap(size_t capacity, size_t keep, bool rotate);
	Heap *heap(Pool pool) const;
	void free_block(char *p, const Block &block);
	BlockIterator insert(char *p, size_t size, size_t capacity, Pool pool);

	std::unique_ptr<Heap> ordinary_, profile_, unplanned_;
	std::shared_ptr<Arena> reserved_, arena_;
	/* Blocks in pools of earlier plans */
	std::map<const char *, std::shared_ptr<Arena>> former_;
	Blocks blocks_;
	PoolStatistics statistics_[kPools], total_;
};

} // namespace sentinel

#endif
