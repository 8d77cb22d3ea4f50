/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>

namespace sentinel
{

bool node_exists(int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	return access(path, F_OK) == 0;
}

size_t physical_memory()
{
	return size_t(sysconf(_SC_PHYS_PAGES)) * kPage;
}

/* One move_pages() call: 0 or errno. With a negative `node` it only queries where pages are. */
static int call_move_pages(std::vector<void *> &pages, int node, std::vector<int> &status)
{
	std::vector<int> nodes(pages.size(), node);

	status.assign(pages.size(), -EAGAIN);
	long rc = syscall(SYS_move_pages, 0, pages.size(), pages.data(),
			  node < 0 ? nullptr : nodes.data(), status.data(), MPOL_MF_MOVE);
	return rc < 0 ? errno : 0;
}

/* EFAULT stands for the zero page: the page was only read. */
static bool is_absent(int status)
{
	return status == -ENOENT || status == -EFAULT;
}

/* An atomic write that changes nothing, since other threads may write too. */
static void touch(void *page)
{
	asm volatile("lock orb $0, %0" : "+m"(*static_cast<char *>(page)));
}

/*
 * The kernel does not move pages that are shared with a forked child. An atomic write that changes
 * nothing gives this process a private copy. False if no page is shared.
 */
static bool unshare(const std::vector<void *> &pages, const std::vector<int> &status)
{
	bool any_shared = false;

	for (size_t i = 0; i < pages.size(); i++) {
		if (status[i] != -EACCES)
			continue;
		touch(pages[i]);
		any_shared = true;
	}
	return any_shared;
}

MoveResult move_pages(char *start, size_t size, int node, size_t batch)
{
	std::vector<void *> pages;
	std::vector<int> status;
	MoveResult sum;

	for (size_t done = 0; done < size; done += pages.size() * kPage) {
		pages.resize(std::min(batch, (size - done) / kPage));
		for (size_t i = 0; i < pages.size(); i++)
			pages[i] = start + done + i * kPage;
		int error = call_move_pages(pages, node, status);
		if (!error && unshare(pages, status))
			error = call_move_pages(pages, node, status);
		auto settled = [node](int s) { return s == node || is_absent(s); };
		/*
		 * The kernel stops at the first page that it cannot move, such as one that another
		 * thread is discarding, and leaves the status of later pages unset. Query them.
		 */
		if (!error && !std::all_of(status.begin(), status.end(), settled))
			error = call_move_pages(pages, -1, status);
		if (error)
			sum.error = error;
		for (int s : status) {
			/* After a failed call the status of single pages is undefined. */
			size_t &sum_of_kind = error	     ? sum.failed
					      : s == node    ? sum.moved
					      : is_absent(s) ? sum.absent
							     : sum.failed;
			sum_of_kind += kPage;
		}
	}
	return sum;
}

/* Call `visit` with every page's offset and node (negative if absent) until it returns false. */
template <typename F> static void for_each_page(const char *start, size_t size, F visit)
{
	constexpr size_t kBatch = 4096;
	std::vector<const void *> pages(kBatch);
	std::vector<int> status(kBatch);

	for (size_t done = 0; done < size; done += kBatch * kPage) {
		size_t count = std::min(kBatch, (size - done) / kPage);
		for (size_t i = 0; i < count; i++)
			pages[i] = start + done + i * kPage;
		if (syscall(SYS_move_pages, 0, count, pages.data(), nullptr, status.data(), 0) < 0)
			continue;
		for (size_t i = 0; i < count; i++)
			if (!visit(done + i * kPage, status[i]))
				return;
	}
}

std::vector<size_t> residency(const char *start, size_t size, int nodes)
{
	std::vector<size_t> bytes(nodes);

	for_each_page(start, size, [&](size_t, int node) {
		if (node >= 0 && node < nodes)
			bytes[node] += kPage;
		return true;
	});
	return bytes;
}

std::vector<PageRange> resident_runs(char *start, size_t size)
{
	std::vector<PageRange> runs;

	for_each_page(start, size, [&](size_t offset, int node) {
		char *page = start + offset;
		if (node < 0)
			return true;
		if (runs.empty() || runs.back().start + runs.back().size != page)
			runs.push_back({page, 0});
		runs.back().size += kPage;
		return true;
	});
	return runs;
}

size_t resident_bytes(const char *start, size_t size)
{
	std::vector<unsigned char> present(size / kPage);

	if (mincore(const_cast<char *>(start), size, present.data()) < 0)
		return size;
	auto is_present = [](unsigned char page) { return page & 1; };
	return std::count_if(present.begin(), present.end(), is_present) * kPage;
}

size_t resident_prefix(const char *start, size_t size, size_t resident)
{
	size_t sum = 0, end = size;

	for_each_page(start, size, [&](size_t offset, int node) {
		if (node >= 0 && sum + kPage > resident) {
			end = offset;
			return false;
		}
		sum += node >= 0 ? kPage : 0;
		return true;
	});
	return end;
}

void touch_pages(char *start, size_t size)
{
	for (char *page = start; page < start + size; page += kPage)
		touch(page);
}

/* Mapping::open() makes at least this much accessible at once. */
constexpr size_t kOpenStep = size_t(16) << 20;

/*
 * The kernel places mappings from the top of the address space down, or upwards from a third of it,
 * and takes the first gap that fits. So gaps below both are never taken.
 */
#ifdef __SANITIZE_THREAD__
constexpr uintptr_t kApart = 0x7e9000000000; /* the sanitizer allows few addresses */
#else
constexpr uintptr_t kApart = 0x200000000000;
#endif

/* Reserve `size` bytes of addresses, apart from others. nullptr if they are taken. */
static char *reserve_apart(size_t size, int protection, int flags)
{
	/* Addresses are not used twice, since a gap may be part of another mapping. */
	static std::atomic<uintptr_t> next{kApart};
	constexpr int kAttempts = 16;

	for (int i = 0; i < kAttempts; i++) {
		void *wanted = reinterpret_cast<void *>(next.fetch_add(size));
		void *p = mmap(wanted, size, protection, flags, -1, 0);
		if (p == wanted)
			return static_cast<char *>(p);
		if (p == MAP_FAILED)
			break;
		munmap(p, size);
	}
	return nullptr;
}

Mapping::Mapping(size_t size, bool closed, bool apart)
    : base_(nullptr), size_(round_up(size)), open_(closed ? 0 : size_)
{
	int protection = closed ? PROT_NONE : PROT_READ | PROT_WRITE;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	/* mmap() refuses size 0; an empty pool still has one page of addresses. */
	size_t bytes = std::max(size_, kPage);

	if (apart)
		base_ = reserve_apart(bytes, protection, flags);
	apart_ = base_ != nullptr;
	if (!base_) {
		void *p = mmap(nullptr, bytes, protection, flags, -1, 0);
		if (p == MAP_FAILED)
			throw std::bad_alloc();
		base_ = static_cast<char *>(p);
	}
	madvise(base_, bytes, MADV_NOHUGEPAGE);
}

Mapping::~Mapping()
{
	munmap(base_, std::max(size_, kPage));
}

bool Mapping::open(size_t end)
{
	if (end <= open_)
		return true;
	/* Fall back to the minimum where memory is short. */
	for (size_t to :
	     {std::min(size_, std::max(round_up(end), open_ + kOpenStep)), round_up(end)})
		if (mprotect(base_, to, PROT_READ | PROT_WRITE) == 0) {
			open_ = to;
			return true;
		}
	return false;
}

static bool bind(char *start, size_t size, int policy, unsigned long mask)
{
	/* The kernel subtracts one from the number of bits. */
	return syscall(SYS_mbind, start, size, policy, &mask, 8 * sizeof(mask) + 1, 0) == 0;
}

bool prefer_node(char *start, size_t size, int node)
{
	return bind(start, size, MPOL_PREFERRED, 1ul << node);
}

bool Mapping::interleave(size_t offset, size_t size)
{
	return bind(base_ + offset, size, MPOL_INTERLEAVE, 1ul << kFast | 1ul << kSlow);
}

void Mapping::renew(size_t offset, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

	if (mmap(base_ + offset, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
		throw std::bad_alloc();
	madvise(base_ + offset, size, MADV_NOHUGEPAGE);
}

void Mapping::discard(size_t offset, size_t size)
{
	if (size)
		madvise(base_ + offset, size, MADV_DONTNEED);
}

} // namespace sentinel
