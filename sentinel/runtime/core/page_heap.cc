/* SPDX-License-Identifier: Apache-2.0 */
#include "page_heap.h"

#include <algorithm>
#include <iterator>

namespace sentinel
{

PageHeap::PageHeap(size_t capacity, size_t keep, bool rotate)
    : mapping_(capacity, true), keep_(keep), rotate_(rotate)
{
	if (mapping_.size())
		free_[0] = mapping_.size();
}

/* Allocate [offset, offset + size) within a free `range`; nullptr if the system has no memory. */
char *PageHeap::take(Free::iterator range, size_t offset, size_t size)
{
	size_t start = range->first, end = start + range->second;

	if (!mapping_.open(offset + size))
		return nullptr;
	free_.erase(range);
	if (start < offset)
		free_[start] = offset - start;
	if (offset + size < end)
		free_[offset + size] = end - offset - size;
	used_ += size;
	top_ = std::max(top_, offset + size);
	next_ = offset + size;
	kept_ -= std::min(kept_, size);
	return mapping_.base() + offset;
}

char *PageHeap::allocate(size_t size)
{
	size = std::max(round_up(size), kPage);
	auto fits = [size](const Free::value_type &range) { return range.second >= size; };
	auto start = rotate_ ? free_.lower_bound(next_) : free_.begin();

	if (rotate_ && start != free_.begin()) {
		auto around = std::prev(start);
		if (around->first + around->second >= next_ + size)
			return take(around, next_, size);
	}
	auto range = std::find_if(start, free_.end(), fits);
	if (range == free_.end()) {
		range = std::find_if(free_.begin(), start, fits);
		if (range == start)
			return nullptr;
	}
	return take(range, range->first, size);
}

void PageHeap::release(char *p, size_t size)
{
	size = std::max(round_up(size), kPage);
	size_t offset = p - mapping_.base(), end = offset + size;

	used_ -= size;
	if (kept_ + size > keep_)
		mapping_.discard(offset, size);
	else
		kept_ += size;
	auto after = free_.lower_bound(offset);
	if (after != free_.end() && after->first == end) {
		end += after->second;
		after = free_.erase(after);
	}
	if (after != free_.begin()) {
		auto before = std::prev(after);
		if (before->first + before->second == offset) {
			before->second = end - before->first;
			return;
		}
	}
	free_[offset] = end - offset;
}

void PageHeap::trim()
{
	for (auto &range : free_)
		if (range.first < top_)
			mapping_.discard(range.first, std::min(range.second, top_ - range.first));
	kept_ = 0;
}

} // namespace sentinel
