/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor_memory.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <new>

namespace sentinel
{

const char *name_of(Pool pool)
{
	static const char *const names[kPools] = {"ordinary", "profile",   "reserved",
						  "arena",    "unplanned", "system"};
	return names[int(pool)];
}

/*
 * A quarter of the capacity may stay resident while free, so that steps do not pay for new pages
 * again and again. The profile pool returns all free pages: a tensor's counts begin on new ones.
 */
TensorMemory::TensorMemory(size_t capacity)
    : ordinary_(make_heap(capacity, capacity / 4, false)), profile_(make_heap(capacity, 0, true)),
      unplanned_(make_heap(capacity, capacity / 4, false))
{
	for (Heap *heap : {profile_.get(), unplanned_.get()})
		if (heap)
			heap->pages.mapping().prefer(0, heap->pages.mapping().size(), kSlow);
}

/* A heap as large as the limit on address space allows; nullptr if that is too little. */
std::unique_ptr<TensorMemory::Heap> TensorMemory::make_heap(size_t capacity, size_t keep,
							    bool rotate)
{
	constexpr size_t kMinimum = size_t(16) << 20;

	for (;; capacity /= 4) {
		try {
			return std::unique_ptr<Heap>(new Heap(capacity, keep, rotate));
		} catch (const std::bad_alloc &) {
			if (capacity / 4 < kMinimum)
				return nullptr;
		}
	}
}

TensorMemory::Heap *TensorMemory::heap(Pool pool) const
{
	switch (pool) {
	case Pool::ordinary:
		return ordinary_.get();
	case Pool::profile:
		return profile_.get();
	case Pool::unplanned:
		return unplanned_.get();
	default:
		return nullptr;
	}
}

TensorMemory::BlockIterator TensorMemory::insert(char *p, size_t size, size_t capacity, Pool pool)
{
	auto block = blocks_.emplace(p, Block{size, capacity, pool, -1, 0, {}, -1}).first;

	for (PoolStatistics *s : {&statistics_[int(pool)], &total_}) {
		s->allocations++;
		s->live += size;
		s->peak = std::max(s->peak, s->live);
	}
	return block;
}

TensorMemory::BlockIterator TensorMemory::allocate(Pool pool, size_t alignment, size_t size)
{
	size = std::max<size_t>(size, 1);
	if (pool == Pool::system) {
		void *p;
		if (posix_memalign(&p, std::max(alignment, size_t(Slabs::kAlignment)), size))
			return end();
		try {
			return insert(static_cast<char *>(p), size, size, pool);
		} catch (...) {
			free(p);
			throw;
		}
	}
	Heap *source = heap(pool);
	if (!source || alignment > kPage || size > source->pages.mapping().size())
		return end();
	bool small =
		pool != Pool::profile && size <= Slabs::kMaxSize && alignment <= Slabs::kAlignment;
	char *p = small ? source->slabs.allocate(size) : source->pages.allocate(size);
	if (!p)
		return end();
	try {
		return insert(p, size, small ? 0 : round_up(size), pool);
	} catch (...) {
		if (small)
			source->slabs.release(p);
		else
			source->pages.release(p, size);
		throw;
	}
}

TensorMemory::BlockIterator TensorMemory::claim(Pool pool, size_t offset, size_t size)
{
	Arena *arena = pool == Pool::reserved ? reserved_.get() : arena_.get();
	char *p = arena ? arena->claim(offset, size) : nullptr;

	if (!p)
		return end();
	try {
		return insert(p, size, size, pool);
	} catch (...) {
		arena->release(p);
		throw;
	}
}

void TensorMemory::free_block(char *p, const Block &block)
{
	if (Heap *source = heap(block.pool)) {
		if (block.capacity)
			source->pages.release(p, block.capacity);
		else
			source->slabs.release(p);
		return;
	}
	if (block.pool == Pool::system) {
		free(p);
		return;
	}
	auto former = former_.find(p);
	if (former != former_.end()) {
		former->second->release(p);
		former_.erase(former);
	} else {
		(block.pool == Pool::reserved ? reserved_ : arena_)->release(p);
	}
}

void TensorMemory::release(BlockIterator released)
{
	char *p = const_cast<char *>(released->first);
	const Block &block = released->second;

	if (block.node >= 0 && heap(block.pool) && block.capacity)
		prefer_node(p, block.capacity, kSlow);
	for (PoolStatistics *s : {&statistics_[int(block.pool)], &total_}) {
		s->releases++;
		s->live -= block.size;
	}
	try {
		free_block(p, block);
	} catch (const std::bad_alloc &) {
		/* No memory to record that the block is free: it is leaked. */
	}
	blocks_.erase(released);
}

TensorMemory::BlockIterator TensorMemory::find(const void *p)
{
	auto after = blocks_.upper_bound(static_cast<const char *>(p));

	if (after == blocks_.begin())
		return end();
	auto block = std::prev(after);
	return p < block->first + block->second.size ? block : end();
}

void TensorMemory::clear_records()
{
	for (auto &block : blocks_)
		block.second.record = -1;
}

void TensorMemory::set_plan_pools(std::shared_ptr<Arena> reserved, std::shared_ptr<Arena> arena)
{
	for (auto &block : blocks_) {
		Pool pool = block.second.pool;
		if ((pool != Pool::reserved && pool != Pool::arena) || former_.count(block.first))
			continue;
		former_[block.first] = pool == Pool::reserved ? reserved_ : arena_;
	}
	reserved_ = std::move(reserved);
	arena_ = std::move(arena);
}

bool TensorMemory::move_to_slow()
{
	if (!node_exists(kSlow))
		return true;
	bool success = true;
	for (auto &block : blocks_) {
		block.second.node = -1;
		PageRange pages = pages_of(block.first, block.second.size);
		if (block.second.pool == Pool::system && block.second.size >= kPage)
			move_pages(pages.start, pages.size, kSlow);
	}
	for (Heap *heap : {ordinary_.get(), profile_.get(), unplanned_.get()}) {
		if (!heap)
			continue;
		Mapping &mapping = heap->pages.mapping();
		success &= mapping.prefer(0, mapping.size(), kSlow);
		move_pages(mapping.base(), heap->pages.top(), kSlow);
	}
	return success;
}

void TensorMemory::set_node(BlockIterator block, int node)
{
	PageRange pages = pages_of(block->first, block->second.size);

	prefer_node(pages.start, pages.size, node);
	block->second.node = int8_t(node);
	move_pages(pages.start, pages.size, node);
}

Mapping *TensorMemory::mapping(Pool pool)
{
	if (Heap *owner = heap(pool))
		return &owner->pages.mapping();
	Arena *arena = pool == Pool::reserved ? reserved_.get()
		       : pool == Pool::arena  ? arena_.get()
					      : nullptr;
	return arena ? &arena->mapping() : nullptr;
}

size_t TensorMemory::extent(Pool pool) const
{
	switch (pool) {
	case Pool::reserved:
		return reserved_ ? reserved_->extent() : 0;
	case Pool::arena:
		return arena_ ? arena_->extent() : 0;
	default:
		Heap *owner = heap(pool);
		return owner ? owner->pages.top() : 0;
	}
}

bool TensorMemory::limit_fast(bool interleave, size_t budget)
{
	if (!ordinary_)
		return false;
	PageHeap &heap = ordinary_->pages;
	Mapping &mapping = heap.mapping();
	size_t top = heap.top();
	size_t fast = resident_prefix(mapping.base(), top, budget * (interleave ? 2 : 1));

	if (!mapping.prefer(0, mapping.size(), kSlow) ||
	    (fast && !(interleave ? mapping.interleave(0, fast) : mapping.prefer(0, fast, kFast))))
		return false;
	move_pages(mapping.base() + fast, top - fast, kSlow);
	if (!interleave) {
		move_pages(mapping.base(), fast, kFast);
		return true;
	}
	/* As the kernel interleaves: by page number */
	for (char *page = mapping.base(); page < mapping.base() + fast; page += kPage)
		move_pages(page, kPage, uintptr_t(page) / kPage % 2 ? kSlow : kFast);
	return true;
}

void TensorMemory::trim()
{
	for (Heap *heap : {ordinary_.get(), profile_.get(), unplanned_.get()})
		if (heap)
			heap->pages.trim();
}

} // namespace sentinel
