/* SPDX-License-Identifier: Apache-2.0 */
#include "arena.h"

#include <algorithm>
#include <iterator>
#include <new>

namespace sentinel
{

void Arena::open(size_t size)
{
	if (size <= extent_)
		return;
	if (size > mapping_.size() || !mapping_.open(size))
		throw std::bad_alloc();
	extent_ = size;
}

char *Arena::claim(size_t offset, size_t size)
{
	size_t end = offset + size;

	if (end < offset || end > extent_)
		return nullptr;
	auto next = live_.lower_bound(offset);
	if (next != live_.end() && next->first < end)
		return nullptr;
	if (next != live_.begin() && std::prev(next)->second > offset)
		return nullptr;
	live_.emplace_hint(next, offset, end);
	used_ += size;
	return mapping_.base() + offset;
}

void Arena::release(char *p)
{
	auto self = live_.find(p - mapping_.base());
	size_t first = round_down(self->first), last = round_up(self->second);

	used_ -= self->second - self->first;
	auto next = live_.erase(self);
	if (!discard_)
		return;
	/* A page that a live neighbour shares stays. */
	if (next != live_.begin())
		first = std::max(first, round_up(std::prev(next)->second));
	if (next != live_.end())
		last = std::min(last, round_down(next->first));
	auto kept = kept_.upper_bound(first);
	if (kept != kept_.begin())
		kept--;
	for (; first < last && kept != kept_.end(); kept++) {
		if (kept->second <= first)
			continue;
		if (kept->first > first)
			mapping_.discard(first, std::min(last, kept->first) - first);
		first = kept->second;
	}
	if (first < last)
		mapping_.discard(first, last - first);
}

void Arena::discard_unused(size_t offset, size_t end)
{
	size_t first = round_up(offset);

	end = round_up(std::min(end, extent_));
	for (const auto &block : live_) {
		if (block.second <= first)
			continue;
		size_t last = std::min(end, round_down(block.first));
		if (first < last)
			mapping_.discard(first, last - first);
		first = std::max(first, round_up(block.second));
	}
	if (first < end)
		mapping_.discard(first, end - first);
}

} // namespace sentinel
