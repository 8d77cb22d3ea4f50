/* SPDX-License-Identifier: Apache-2.0 */
#include "slabs.h"

#include <iterator>

namespace sentinel
{

/* Four size classes for each power of two, so that at most a quarter is wasted. */
size_t Slabs::class_of(size_t size)
{
	size_t step = kAlignment;

	while (step * 8 < size)
		step *= 2;
	return (size + step - 1) / step * step;
}

char *Slabs::allocate(size_t size)
{
	size = class_of(size);
	std::set<char *> &partial = partial_[size];
	if (partial.empty()) {
		char *start = heap_.allocate(kChunk);
		if (!start)
			return nullptr;
		Chunk chunk{size, 0, {}};
		for (size_t i = kChunk / size; i > 0; i--)
			chunk.free.push_back(uint16_t(i - 1));
		chunks_.emplace(start, std::move(chunk));
		starts_.insert(start);
		partial.insert(start);
	}
	char *start = *partial.begin(); /* the lowest, so that higher ones can drain */
	Chunk &chunk = chunks_.at(start);
	char *block = start + chunk.free.back() * size;

	chunk.free.pop_back();
	chunk.used++;
	if (chunk.free.empty())
		partial.erase(start);
	return block;
}

void Slabs::release(char *p)
{
	auto start = std::prev(starts_.upper_bound(p));
	Chunk &chunk = chunks_.at(*start);
	std::set<char *> &partial = partial_[chunk.block_size];

	chunk.free.push_back(uint16_t((p - *start) / chunk.block_size));
	partial.insert(*start);
	/* Keep one empty chunk for the next block of this class. */
	if (--chunk.used == 0 && partial.size() > 1) {
		partial.erase(*start);
		heap_.release(*start, kChunk);
		chunks_.erase(*start);
		starts_.erase(start);
	}
}

} // namespace sentinel
