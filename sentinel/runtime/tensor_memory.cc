/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor_memory.h"

#include <algorithm>
#include <iterator>

namespace sentinel
{

const char *name_of(Pool pool)
{
	static const char *const names[kPools] = {"ordinary", "profile", "reserved", "arena",
						  "unplanned"};
	return names[int(pool)];
}

/*
 * A quarter of the addresses may stay resident without being in use, so that steps do not pay for
 * pages again and again. The profile's pages always go back: the next tensor there starts afresh.
 */
TensorMemory::TensorMemory(size_t capacity)
    : ordinary_(new Heap(capacity, capacity / 4, false)), profile_(new Heap(capacity, 0, true)),
      unplanned_(new Heap(capacity, capacity / 4, false))
{
	/* Without node 1 there is nothing to prefer, and all is on node 0. */
	for (Heap *heap : {profile_.get(), unplanned_.get()})
		heap->pages.mapping().prefer(0, heap->pages.mapping().size(), kSlow);
}

TensorMemory::Heap *TensorMemory::heap(Pool pool)
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

TensorMemory::Found TensorMemory::insert(char *p, size_t size, size_t capacity, Pool pool)
{
	for (PoolStatistics *s : {&statistics_[int(pool)], &total_}) {
		s->allocations++;
		s->live += size;
		s->peak = std::max(s->peak, s->live);
	}
	return blocks_.emplace(p, Block{size, capacity, pool, -1, 0, {}}).first;
}

TensorMemory::Found TensorMemory::allocate(Pool pool, size_t alignment, size_t size)
{
	Heap &from = *heap(pool);
	bool small =
		pool != Pool::profile && size <= Slabs::kLargest && alignment <= Slabs::kAlignment;

	if (alignment > kPage || size > from.pages.mapping().size())
		return end();
	size = std::max<size_t>(size, 1);
	char *p = small ? from.small.allocate(size) : from.pages.allocate(size);
	/* `capacity` tells the two apart when the block is released. */
	return p ? insert(p, size, small ? 0 : round_up(size), pool) : end();
}

TensorMemory::Found TensorMemory::claim(Pool pool, size_t offset, size_t size)
{
	Arena *arena = pool == Pool::reserved ? reserved_.get() : arena_.get();
	char *p = arena ? arena->claim(offset, size) : nullptr;

	return p ? insert(p, size, size, pool) : end();
}

void TensorMemory::release(Found found)
{
	char *p = const_cast<char *>(found->first);
	const Block &block = found->second;

	for (PoolStatistics *s : {&statistics_[int(block.pool)], &total_}) {
		s->releases++;
		s->live -= block.size;
	}
	if (Heap *from = heap(block.pool)) {
		if (block.capacity)
			from->pages.release(p, block.capacity);
		else
			from->small.release(p);
	} else {
		auto former = former_.find(p);
		if (former != former_.end()) {
			former->second->release(p);
			former_.erase(former);
		} else {
			(block.pool == Pool::reserved ? reserved_ : arena_)->release(p);
		}
	}
	blocks_.erase(found);
}

TensorMemory::Found TensorMemory::find(const void *p)
{
	auto after = blocks_.upper_bound(static_cast<const char *>(p));

	if (after == blocks_.begin())
		return end();
	auto block = std::prev(after);
	return p < block->first + block->second.size ? block : end();
}

void TensorMemory::plan(size_t reserved, size_t arena)
{
	for (auto &block : blocks_) {
		if (heap(block.second.pool) || former_.count(block.first))
			continue;
		former_[block.first] = block.second.pool == Pool::reserved ? reserved_ : arena_;
	}
	reserved_ = std::make_shared<Arena>(reserved, false);
	arena_ = std::make_shared<Arena>(arena, true);
}

Mapping *TensorMemory::mapping(Pool pool)
{
	if (Heap *of = heap(pool))
		return &of->pages.mapping();
	Arena *arena = pool == Pool::reserved ? reserved_.get() : arena_.get();
	return arena ? &arena->mapping() : nullptr;
}

size_t TensorMemory::extent(Pool pool) const
{
	switch (pool) {
	case Pool::ordinary:
		return ordinary_->pages.top();
	case Pool::profile:
		return profile_->pages.top();
	case Pool::unplanned:
		return unplanned_->pages.top();
	case Pool::reserved:
		return reserved_ ? reserved_->mapping().size() : 0;
	default:
		return arena_ ? arena_->mapping().size() : 0;
	}
}

bool TensorMemory::limit(bool interleave, size_t budget)
{
	PageHeap &heap = ordinary_->pages;
	Mapping &mapping = heap.mapping();
	size_t top = heap.top();
	size_t fast = beginning_with(mapping.base(), top, budget * (interleave ? 2 : 1));

	if (!mapping.prefer(0, mapping.size(), kSlow) ||
	    (fast && !(interleave ? mapping.interleave(0, fast) : mapping.prefer(0, fast, kFast))))
		return false;
	move_pages(mapping.base() + fast, top - fast, kSlow);
	if (!interleave) {
		move_pages(mapping.base(), fast, kFast);
		return true;
	}
	/* As the kernel would have, by the number of the page */
	for (char *page = mapping.base(); page < mapping.base() + fast; page += kPage)
		move_pages(page, kPage, uintptr_t(page) / kPage % 2 ? kSlow : kFast);
	return true;
}

void TensorMemory::trim()
{
	for (Heap *each : {ordinary_.get(), profile_.get(), unplanned_.get()})
		each->pages.trim();
}

} // namespace sentinel
