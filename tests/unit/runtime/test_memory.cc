/* SPDX-License-Identifier: Apache-2.0 */
/* Page heap, slabs, arena, fast budget, and tensor memory over all pools. */
#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "core/fast_budget.h"
#include "core/tensor_memory.h"

using namespace sentinel;

namespace
{

constexpr size_t kMiB = 1 << 20;

size_t resident(const Mapping &mapping)
{
	std::vector<size_t> on = residency(mapping.base(), mapping.size(), 8);
	size_t sum = 0;

	for (size_t bytes : on)
		sum += bytes;
	return sum;
}

TEST_CASE("page heap allocates first fit and merges free ranges")
{
	PageHeap heap(16 * kPage, 4 * kPage);
	char *base = heap.mapping().base();
	char *a = heap.allocate(1), *b = heap.allocate(2 * kPage), *c = heap.allocate(kPage);

	CHECK(a == base);
	CHECK(b == base + kPage);
	CHECK(c == base + 3 * kPage);
	CHECK(heap.used() == 4 * kPage);
	CHECK(heap.top() == 4 * kPage);
	heap.release(a, 1);
	heap.release(c, kPage);
	heap.release(b, 2 * kPage);
	CHECK(heap.used() == 0);
	CHECK(heap.allocate(17 * kPage) == nullptr);
	CHECK(heap.allocate(16 * kPage) == base); /* merged into one range */
	CHECK(heap.allocate(1) == nullptr);
	memset(base, 1, 16 * kPage);
	heap.release(base, 16 * kPage);
	CHECK(resident(heap.mapping()) == 0); /* more than `keep` */
	char *d = heap.allocate(2 * kPage);
	memset(d, 1, 2 * kPage);
	heap.release(d, 2 * kPage);
	CHECK(resident(heap.mapping()) == 2 * kPage);
	heap.trim();
	CHECK(resident(heap.mapping()) == 0);
}

TEST_CASE("resident bytes are those of pages that were touched")
{
	PageHeap heap(16 * kPage, 0, true);
	char *block = heap.allocate(8 * kPage);

	CHECK(resident_bytes(block, 8 * kPage) == 0);
	block[0] = block[3 * kPage] = 1;
	volatile char read = block[5 * kPage];
	(void)read;
	CHECK(resident_bytes(block, 8 * kPage) == 3 * kPage);
	heap.release(block, 8 * kPage); /* its pages go back to the system */
	CHECK(resident_bytes(block, 8 * kPage) == 0);
	CHECK(resident_bytes(block + 1, kPage) == kPage); /* not whole pages: the system refuses */
}

TEST_CASE("rotating page heap reuses addresses last")
{
	PageHeap heap(8 * kPage, 0, true);
	char *base = heap.mapping().base();

	for (int round = 0; round < 3; round++)
		for (int page = 0; page < 8; page++) {
			char *p = heap.allocate(kPage);
			CHECK(p == base + page * kPage); /* next fit */
			heap.release(p, kPage);
		}
	/* The search wraps around. */
	char *a = heap.allocate(5 * kPage), *b = heap.allocate(2 * kPage);
	heap.release(a, 5 * kPage);
	CHECK(heap.allocate(4 * kPage) == base);
	heap.release(b, 2 * kPage);
}

TEST_CASE("slab blocks do not overlap")
{
	PageHeap heap(64 * kMiB, 0);
	Slabs slabs(heap);
	std::mt19937 random(1);
	std::map<char *, size_t> live;

	for (int i = 0; i < 20000; i++) {
		if (live.empty() || random() % 5 < 3) {
			size_t size = 1 + random() % Slabs::kMaxSize;
			char *p = slabs.allocate(size);
			CHECK(p);
			CHECK(reinterpret_cast<uintptr_t>(p) % Slabs::kAlignment == 0);
			auto next = live.lower_bound(p);
			CHECK((next == live.end() || p + size <= next->first));
			CHECK((next == live.begin() ||
			       std::prev(next)->first + std::prev(next)->second <= p));
			live[p] = size;
			memset(p, int(size), size);
		} else {
			auto some = std::next(live.begin(), random() % live.size());
			for (size_t j = 0; j < some->second; j++)
				CHECK(some->first[j] == char(some->second));
			slabs.release(some->first);
			live.erase(some);
		}
	}
	for (auto &block : live)
		slabs.release(block.first);
	CHECK(heap.used() <= 24 * 16 * kPage); /* about one chunk for each size class */
}

TEST_CASE("arena claims addresses and discards dead pages")
{
	Arena arena(8 * kPage, true);
	char *base = arena.mapping().base();

	CHECK(arena.claim(0, 8 * kPage + 1) == nullptr);
	CHECK(arena.claim(SIZE_MAX, 2) == nullptr);
	char *a = arena.claim(0, kPage + 100), *b = arena.claim(kPage + 128, 2 * kPage);
	CHECK(a == base);
	CHECK(b == base + kPage + 128);
	CHECK(arena.claim(kPage + 99, 1) == nullptr);
	CHECK(arena.claim(0, 1) == nullptr);
	CHECK(arena.claim(4, 8 * kPage - 4) == nullptr);
	char *between = arena.claim(kPage + 100, 28);
	CHECK(between);
	arena.release(between);
	memset(a, 'a', kPage + 100);
	memset(b, 'b', 2 * kPage);
	arena.release(a);
	CHECK(a[0] == 0);
	CHECK(a[kPage - 1] == 0); /* discarded */
	CHECK(a[kPage] == 'a');
	CHECK(b[0] == 'b'); /* shared with b */
	CHECK(arena.claim(0, 4 * kPage) == nullptr);
	arena.release(b);
	CHECK(a[kPage] == 0);
	CHECK(b[0] == 0);
	CHECK(arena.used() == 0);
	CHECK(arena.claim(0, 8 * kPage) == base);

	arena.release(base);
	arena.keep(2 * kPage, 2 * kPage);
	char *kept = arena.claim(3 * kPage, kPage), *other = arena.claim(4 * kPage, kPage);
	kept[0] = other[0] = 'k';
	arena.release(kept);
	arena.release(other);
	CHECK(kept[0] == 'k');
	CHECK(other[0] == 0);

	Arena keeping(kPage, false);
	char *c = keeping.claim(0, 10);
	memset(c, 'c', 10);
	keeping.release(c);
	CHECK(c[9] == 'c');
}

/* Three groups in fast memory, of which two fit. */
TEST_CASE("fast budget is never exceeded")
{
	static char memory[8 * kPage];
	std::vector<std::pair<long, int>> placed;
	FastBudget budget(4 * kPage, [&](char *start, size_t, int node) {
		placed.push_back({(start - memory) / long(kPage), node});
	});
	auto at = [](int page) { return memory + page * kPage; };
	auto result = [](size_t moved, size_t absent) {
		MoveResult result;
		result.moved = moved;
		result.absent = absent;
		return result;
	};

	for (int page : {0, 2, 4})
		budget.add_group(at(page), 2 * kPage, kFast);
	budget.add_group(at(6), 2 * kPage, kSlow);
	CHECK(budget.tensor_born(at(0), 100) == 0);
	CHECK(budget.tensor_born(at(0) + 128, 100) == 0);
	CHECK(budget.tensor_born(at(2), 2 * kPage) == 0);
	CHECK(budget.peak() == 4 * kPage);
	CHECK(budget.tensor_born(at(4), 100) == 2 * kPage); /* does not fit */
	CHECK(placed == decltype(placed)({{4, kSlow}}));
	CHECK(budget.tensor_born(at(6), 100) == 0);
	CHECK(!budget.reserve(at(6), kPage)); /* nothing was demoted */
	budget.moved(at(2), kPage, kSlow, result(kPage, 0));
	CHECK(budget.reserve(at(6), kPage));
	CHECK(!budget.reserve(at(7), kPage));
	budget.moved(at(6), kPage, kFast, result(0, kPage)); /* absent */
	CHECK(budget.reserve(at(7), kPage));
	CHECK(budget.reserve(memory + sizeof(memory), kPage)); /* in no group */
	budget.tensor_died(at(4), 100);
	budget.tensor_died(at(0), 100);
	CHECK(budget.tensor_born(at(4), 100) == 2 * kPage); /* one of its two tensors lives */
	budget.tensor_died(at(4), 100);
	budget.tensor_died(at(0) + 128, 100);
	CHECK(budget.tensor_born(at(4), 100) == 0);
	CHECK(placed == decltype(placed)({{4, kSlow}, {4, kFast}}));
	/* A tensor in several groups; a demotion after its death */
	budget.tensor_died(at(2), 2 * kPage);
	budget.tensor_died(at(6), 100);
	budget.tensor_died(at(4), 100);
	budget.moved(at(4), 2 * kPage, kSlow, result(0, 2 * kPage));
	CHECK(budget.tensor_born(at(0), 4 * kPage) == 0);
	budget.tensor_died(at(0), 4 * kPage);
	budget.add_variable(at(0), 2 * kPage, kFast);
	CHECK(budget.tensor_born(at(4), 100) == 0); /* accounted for already */
	CHECK(budget.peak() == budget.limit());
}

TEST_CASE("blocks of all pools keep their contents")
{
	TensorMemory memory(256 * kMiB);
	std::mt19937 random(2);
	std::vector<TensorMemory::BlockIterator> live;
	const Pool pools[] = {Pool::ordinary, Pool::profile, Pool::unplanned};
	auto plan = [&memory] {
		memory.set_plan_pools(std::make_shared<Arena>(kMiB, false),
				      std::make_shared<Arena>(4 * kMiB, true));
	};

	plan();
	for (int i = 0; i < 20000; i++) {
		if (live.empty() || random() % 9 < 5) {
			size_t size = random() % (random() % 4 ? 3000 : 300000);
			auto block = random() % 3 ? memory.allocate(pools[random() % 3], 64, size)
						  : memory.claim(random() % 2 ? Pool::reserved
									      : Pool::arena,
								 random() % kMiB, size + 1);
			if (block == memory.end())
				continue;
			char *p = const_cast<char *>(block->first);
			p[0] = p[block->second.size - 1] = char(block->second.size);
			CHECK(memory.find(p) == block);
			CHECK(memory.find(p + block->second.size - 1) == block);
			if (block->second.pool == Pool::profile)
				CHECK(reinterpret_cast<uintptr_t>(p) % kPage == 0);
			live.push_back(block);
		} else {
			std::swap(live[random() % live.size()], live.back());
			auto block = live.back();
			live.pop_back();
			CHECK(block->first[0] == char(block->second.size));
			CHECK(block->first[block->second.size - 1] == char(block->second.size));
			memory.release(block);
		}
		if (i % 5000 == 0)
			plan(); /* while blocks live in the former pools */
	}
	const PoolStatistics &total = memory.total();
	CHECK(total.allocations - total.releases == live.size());
	for (auto block : live)
		memory.release(block);
	CHECK(total.live == 0);
	CHECK(total.peak > kMiB);
	CHECK(memory.blocks().empty());
	CHECK(memory.find(&memory) == memory.end());
	CHECK(memory.allocate(Pool::ordinary, 64, 257 * kMiB) == memory.end());
	CHECK(memory.allocate(Pool::ordinary, 2 * kPage, 1) == memory.end());
	memory.trim();
	for (Pool pool : pools)
		CHECK(resident(*memory.mapping(pool)) <=
		      2 * kMiB); /* slabs keep a chunk of each class */
}

} // namespace
