/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory as the kernel sees it: reserved address ranges, and the NUMA node of their pages.
 *
 * Node 0 is the fast tier and node 1 the slow tier. Sizes and offsets are bytes. Only Mapping's
 * constructor and renew() throw (std::bad_alloc).
 */
#ifndef SENTINEL_RUNTIME_MEMORY_H
#define SENTINEL_RUNTIME_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sentinel
{

constexpr size_t kPage = 4096;
constexpr int kFast = 0;
constexpr int kSlow = 1;

constexpr size_t round_down(size_t n)
{
	return n & ~(kPage - 1);
}

constexpr size_t round_up(size_t n)
{
	return round_down(n + kPage - 1);
}

/* A range of whole pages. */
struct PageRange {
	char *start = nullptr;
	size_t size = 0;
};

/* The whole pages that [start, start + size) touches. */
inline PageRange pages_of(const char *start, size_t size)
{
	uintptr_t begin = reinterpret_cast<uintptr_t>(start);
	size_t first = round_down(begin), last = round_up(begin + size);

	return {reinterpret_cast<char *>(first), last - first};
}

/* Whether the machine has memory node `node`. */
bool node_exists(int node);

/* Bytes of physical memory. */
size_t physical_memory();

/* Result of a migration, in bytes. Absent pages were never touched, or have been discarded. */
struct MoveResult {
	size_t moved = 0, failed = 0, absent = 0;
	int error = 0; /* errno of a system call that failed as a whole */
};

/*
 * Move the pages of [start, start + size) to `node`, and check the status of every page. Pages
 * that are on the node already count as moved. One system call moves `batch` pages.
 */
MoveResult move_pages(char *start, size_t size, int node, size_t batch = 64);

/* Resident bytes of [start, start + size) on each of the first `nodes` nodes. */
std::vector<size_t> residency(const char *start, size_t size, int nodes = 2);

/* The runs of resident pages in [start, start + size), by address. */
std::vector<PageRange> resident_runs(char *start, size_t size);

/* Resident bytes of whole pages [start, start + size); `size` if the system does not tell. */
size_t resident_bytes(const char *start, size_t size);

/*
 * Length of the shortest prefix of [start, start + size) with `resident` bytes of resident pages;
 * `size` if there are fewer.
 */
size_t resident_prefix(const char *start, size_t size, size_t resident);

/*
 * New pages in [start, start + size), whole pages, come from `node` while it has free memory.
 * False, with errno, if the system refuses.
 */
bool prefer_node(char *start, size_t size, int node);

/* Give all pages of [start, start + size) memory; their content stays. */
void touch_pages(char *start, size_t size);

/* A reserved range of private anonymous memory in small pages. Touching it takes memory. */
class Mapping
{
public:
	/*
	 * With `closed` the range is only addresses until open() makes it accessible: on a system
	 * that does not overcommit, accessible memory counts against the limit and addresses do
	 * not. With `apart` it is where the system places no mapping by itself, if there is space:
	 * a part that is unmapped for a moment stays free.
	 */
	explicit Mapping(size_t size, bool closed = false, bool apart = false);
	~Mapping();
	Mapping(const Mapping &) = delete;
	Mapping &operator=(const Mapping &) = delete;

	char *base() const
	{
		return base_;
	}
	size_t size() const
	{
		return size_;
	}
	bool contains(const void *p) const
	{
		return p >= base_ && p < base_ + size_;
	}

	bool apart() const
	{
		return apart_;
	}

	/* Make [0, end) accessible. False if the system has no memory for it. */
	bool open(size_t end);

	/* New pages in this part come from `node` while it has free memory. False on failure. */
	bool prefer(size_t offset, size_t size, int node)
	{
		return prefer_node(base_ + offset, size, node);
	}

	/* New pages in this part alternate between both nodes. False if there is no node 1. */
	bool interleave(size_t offset, size_t size);

	/* Replace what is mapped at this part by new pages. Throws std::bad_alloc. */
	void renew(size_t offset, size_t size);

	/* Return the part's pages to the system; it reads as zeros afterwards. */
	void discard(size_t offset, size_t size);

private:
	char *base_;
	size_t size_;
	size_t open_; /* accessible bytes from the base */
	bool apart_ = false;
};

} // namespace sentinel

#endif
