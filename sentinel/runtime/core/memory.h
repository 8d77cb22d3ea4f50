/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory as the kernel sees it: reserved address ranges, and the node their pages are on.
 *
 * Node 0 is the fast tier and node 1 the slow one. Sizes and offsets are bytes. Nothing here throws
 * but Mapping's constructor (std::bad_alloc).
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

struct Pages {
	char *start = nullptr;
	size_t size = 0;
};

/* The whole pages that [start, start + size) touches. */
inline Pages pages_of(const char *start, size_t size)
{
	uintptr_t begin = reinterpret_cast<uintptr_t>(start);
	size_t first = round_down(begin), last = round_up(begin + size);

	return {reinterpret_cast<char *>(first), last - first};
}

/* Whether the machine has memory node `node`. */
bool node_exists(int node);

/* Bytes of memory that the machine has. */
size_t machine_memory();

/* What became of the pages of one move; bytes. Absent ones were never touched, or given back. */
struct Moved {
	size_t moved = 0, failed = 0, absent = 0;
	int error = 0; /* of a call that failed as a whole: errno */
};

/*
 * Move the pages of [start, start + size) (of whole pages) to `node`, and look at every page's
 * status. Pages that are there already count as moved. `batch` pages go in one system call.
 */
Moved move_pages(char *start, size_t size, int node, size_t batch = 64);

/* Bytes of [start, start + size) on each node, `nodes` of them; what is not there is on none. */
std::vector<size_t> residency(const char *start, size_t size, int nodes = 2);

/* The shortest beginning of [start, start + size) with so many bytes of pages that are there; or
 * `size`. */
size_t beginning_with(const char *start, size_t size, size_t resident);

/* Pages born in [start, start + size), whole pages, go to `node` while it has room. False (errno)
 * if the system refuses. */
bool prefer_node(char *start, size_t size, int node);

/* A reserved range of private anonymous memory, in small pages: takes memory once it is touched. */
class Mapping
{
      public:
	/*
	 * With `closed` it is addresses only, until open(): where the system does not overcommit
	 * memory, addresses cost nothing but memory does.
	 */
	explicit Mapping(size_t size, bool closed = false);
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

	/* Let [0, end) be used. False if the system has no memory for it. */
	bool open(size_t end);

	/* Pages born in this part go to `node` while it has room. False if there is no such node.
	 */
	bool prefer(size_t offset, size_t size, int node)
	{
		return prefer_node(base_ + offset, size, node);
	}

	/* Pages born in this part go to either node in turn. False if there is no node 1. */
	bool interleave(size_t offset, size_t size);

	/* Give the part's pages back to the system; what is read there afterwards is zero. */
	void give_back(size_t offset, size_t size);

      private:
	char *base_;
	size_t size_;
	size_t open_; /* bytes from the base that may be used */
};

} // namespace sentinel

#endif
