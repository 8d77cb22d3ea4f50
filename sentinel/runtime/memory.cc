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

Moved move_pages(char *start, size_t size, int node, size_t batch)
{
	std::vector<void *> pages;
	std::vector<int> nodes(batch, node), status(batch);
	Moved sum;

	for (size_t done = 0; done < size; done += pages.size() * kPage) {
		size_t count = std::min(batch, (size - done) / kPage);
		pages.resize(count);
		for (size_t i = 0; i < count; i++)
			pages[i] = start + done + i * kPage;
		std::fill(status.begin(), status.end(), -EAGAIN);
		long rc = syscall(SYS_move_pages, 0, count, pages.data(), nodes.data(),
				  status.data(), MPOL_MF_MOVE);
		if (rc < 0)
			sum.error = errno;
		for (size_t i = 0; i < count; i++) {
			/* A call that fails as a whole says nothing of single pages. */
			if (rc < 0)
				sum.failed += kPage;
			else if (status[i] == node)
				sum.moved += kPage;
			else if (status[i] == -ENOENT || status[i] == -EFAULT)
				sum.absent +=
					kPage; /* EFAULT is the zero page, which was read only */
			else
				sum.failed += kPage;
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

Mapping::Mapping(size_t size) : size_(round_up(size))
{
	/* Not of size 0, which mmap refuses: an empty pool is one that nothing fits into. */
	void *p = mmap(nullptr, std::max(size_, kPage), PROT_READ | PROT_WRITE,
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

static bool bind(char *start, size_t size, int policy, unsigned long mask)
{
	/* The kernel takes one off the number of bits. */
	return syscall(SYS_mbind, start, size, policy, &mask, 8 * sizeof(mask) + 1, 0) == 0;
}

bool Mapping::prefer(size_t offset, size_t size, int node)
{
	return bind(base_ + offset, size, MPOL_PREFERRED, 1ul << node);
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
