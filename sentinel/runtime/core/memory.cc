/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
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

size_t machine_memory()
{
	return size_t(sysconf(_SC_PHYS_PAGES)) * kPage;
}

/* One system call for these pages: 0, or errno. A `node` below 0: only say where they are. */
static int ask(std::vector<void *> &pages, int node, std::vector<int> &status)
{
	std::vector<int> nodes(pages.size(), node);

	status.assign(pages.size(), -EAGAIN);
	long rc = syscall(SYS_move_pages, 0, pages.size(), pages.data(),
			  node < 0 ? nullptr : nodes.data(), status.data(), MPOL_MF_MOVE);
	return rc < 0 ? errno : 0;
}

/* EFAULT is the zero page, which was read only. */
static bool is_absent(int status)
{
	return status == -ENOENT || status == -EFAULT;
}

/*
 * Pages that a forked child has too are not moved. A write that changes nothing, whoever else
 * writes there, gives this process pages of its own. False if there are none.
 */
static bool unshare(const std::vector<void *> &pages, const std::vector<int> &status)
{
	bool any = false;

	for (size_t i = 0; i < pages.size(); i++) {
		if (status[i] != -EACCES)
			continue;
		asm volatile("lock orb $0, %0" : "+m"(*static_cast<char *>(pages[i])));
		any = true;
	}
	return any;
}

Moved move_pages(char *start, size_t size, int node, size_t batch)
{
	std::vector<void *> pages;
	std::vector<int> status;
	Moved sum;

	for (size_t done = 0; done < size; done += pages.size() * kPage) {
		pages.resize(std::min(batch, (size - done) / kPage));
		for (size_t i = 0; i < pages.size(); i++)
			pages[i] = start + done + i * kPage;
		int error = ask(pages, node, status);
		if (!error && unshare(pages, status))
			error = ask(pages, node, status);
		auto settled = [node](int s) { return s == node || is_absent(s); };
		/*
		 * The kernel stops at the first page that cannot be moved, such as one that another
		 * thread is giving back, and says nothing of its neighbours that it has moved.
		 */
		if (!error && !std::all_of(status.begin(), status.end(), settled))
			error = ask(pages, -1, status);
		if (error)
			sum.error = error;
		for (int s : status) {
			/* A call that fails as a whole says nothing of single pages. */
			size_t &kind = error	      ? sum.failed
				       : s == node    ? sum.moved
				       : is_absent(s) ? sum.absent
						      : sum.failed;
			kind += kPage;
		}
	}
	return sum;
}

/* Calls `each` with every page's offset and node, negative if it is not there, until it says false.
 */
template <typename F> static void for_each_page(const char *start, size_t size, F each)
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
			if (!each(done + i * kPage, status[i]))
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

size_t beginning_with(const char *start, size_t size, size_t resident)
{
	size_t found = 0, end = size;

	for_each_page(start, size, [&](size_t offset, int node) {
		if (node >= 0 && found + kPage > resident) {
			end = offset;
			return false;
		}
		found += node >= 0 ? kPage : 0;
		return true;
	});
	return end;
}

/* At least so much is opened at once. */
constexpr size_t kOpenAtOnce = size_t(16) << 20;

Mapping::Mapping(size_t size, bool closed) : size_(round_up(size)), open_(closed ? 0 : size_)
{
	/* Not of size 0, which mmap refuses: an empty pool is one that nothing fits into. */
	void *p = mmap(nullptr, std::max(size_, kPage), closed ? PROT_NONE : PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		throw std::bad_alloc();
	base_ = static_cast<char *>(p);
	madvise(base_, std::max(size_, kPage), MADV_NOHUGEPAGE);
}

Mapping::~Mapping()
{
	munmap(base_, std::max(size_, kPage));
}

bool Mapping::open(size_t end)
{
	if (end <= open_)
		return true;
	/* A little at a time where that is all there is. */
	for (size_t to :
	     {std::min(size_, std::max(round_up(end), open_ + kOpenAtOnce)), round_up(end)})
		if (mprotect(base_, to, PROT_READ | PROT_WRITE) == 0) {
			open_ = to;
			return true;
		}
	return false;
}

static bool bind(char *start, size_t size, int policy, unsigned long mask)
{
	/* The kernel takes one off the number of bits. */
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

void Mapping::give_back(size_t offset, size_t size)
{
	if (size)
		madvise(base_ + offset, size, MADV_DONTNEED);
}

} // namespace sentinel
