/* SPDX-License-Identifier: Apache-2.0 */
/* Small blocks: chunks of pages out of a PageHeap, each cut into blocks of one size. Not
 * thread-safe. */
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
	static constexpr size_t kLargest =
		2048; /* bytes; beyond that a page of its own is as good */
	static constexpr size_t kAlignment = 64;

	explicit Slabs(PageHeap &heap) : heap_(heap)
	{
	}

	/* A block of at least `size` (1 to kLargest) bytes, aligned to kAlignment, or nullptr. */
	char *allocate(size_t size);

	/* What `allocate` gave. A chunk without blocks goes back to the heap. */
	void release(char *p);

      private:
	static constexpr size_t kChunk = 16 * kPage;

	struct Chunk {
		size_t size; /* of a block */
		size_t used = 0;
		std::vector<uint16_t> free; /* indices of blocks */
	};

	static size_t class_of(size_t size);

	PageHeap &heap_;
	std::unordered_map<char *, Chunk> chunks_;	       /* by address */
	std::unordered_map<size_t, std::set<char *>> partial_; /* size -> chunks with room */
	std::set<char *> starts_; /* of all chunks, to find a block's */
};

} // namespace sentinel

#endif
