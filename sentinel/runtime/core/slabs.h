/* SPDX-License-Identifier: Apache-2.0 */
/* Small blocks by size class, in chunks of pages from a PageHeap. Not thread-safe. */
#ifndef SENTINEL_RUNTIME_SLABS_H
#define SENTINEL_RUNTIME_SLABS_H

#include <cstddef>
#include <cstdint>
#include <set>
#include <unordered_map>
#include <vector>

#include "page_heap.h"

namespace sentinel
{

class Slabs
{
public:
	static constexpr size_t kMaxSize = 2048; /* larger blocks have pages of their own */
	static constexpr size_t kAlignment = 64;

	explicit Slabs(PageHeap &heap) : heap_(heap)
	{
	}

	/* A block of at least `size` bytes (1 to kMaxSize), aligned to kAlignment; or nullptr. */
	char *allocate(size_t size);

	/* Free a block that allocate() returned. Empty chunks go back to the heap. */
	void release(char *p);

private:
	static constexpr size_t kChunk = 16 * kPage;

	struct Chunk {
		size_t block_size;
		size_t used = 0;
		std::vector<uint16_t> free; /* block indices */
	};

	static size_t class_of(size_t size);

	PageHeap &heap_;
	std::unordered_map<char *, Chunk> chunks_; /* by start */
	std::unordered_map<size_t, std::set<char *>>
		partial_;	  /* size class to chunks with a free block */
	std::set<char *> starts_; /* of all chunks, to find the one of a block */
};

} // namespace sentinel

#endif
