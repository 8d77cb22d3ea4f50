/* SPDX-License-Identifier: Apache-2.0 */
#include "page_counts.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "memory.h"

namespace sentinel
{

PageCounts::~PageCounts()
{
	if (fd_ >= 0) {
		page_profile_clear(fd_); /* a forked child may hold the descriptor too */
		close(fd_);
	}
	for (Range &range : ranges_)
		if (range.counts)
			page_profile_unmap(range.counts, range.size);
}

void PageCounts::add(const char *start, size_t size)
{
	if (size)
		ranges_.push_back({start, round_up(size), nullptr});
}

bool PageCounts::failed(const char *call)
{
	error_ = std::string(call) + ": " + strerror(errno);
	if (errno == ENOENT)
		error_ += " (this kernel has no page-access profiler)";
	if (fd_ >= 0) {
		page_profile_clear(fd_);
		close(fd_);
		fd_ = -1;
	}
	return false;
}

bool PageCounts::start()
{
	fd_ = page_profile_open(O_CLOEXEC);
	if (fd_ < 0)
		return failed(PAGE_PROFILE_DEVICE);
	if (page_profile_configure(fd_, PAGE_PROFILE_WINDOW, kWindow))
		return failed("PAGE_PROFILE_CONFIGURE");
	for (Range &range : ranges_) {
		uint64_t offset;
		if (page_profile_add(fd_, range.start, range.size, &offset))
			return failed("PAGE_PROFILE_ADD");
		range.counts = page_profile_map(fd_, offset, range.size);
		if (!range.counts)
			return failed("mmap of counters");
	}
	if (page_profile_start(fd_))
		return failed("PAGE_PROFILE_START");
	return running_ = true;
}

void PageCounts::stop()
{
	if (running_)
		page_profile_stop(fd_);
	running_ = false;
}

Accesses PageCounts::sum(const char *start, size_t size) const
{
	Accesses sum;

	for (const Range &range : ranges_) {
		if (start < range.start || start >= range.start + range.size || !range.counts)
			continue;
		size_t offset = start - range.start;
		size_t first = offset / kPage;
		size_t last = std::min(round_up(offset + size), range.size) / kPage;
		for (size_t i = first; i < last; i++) {
			uint32_t reads = range.counts[i].reads, writes = range.counts[i].writes;
			sum.reads += reads;
			sum.writes += writes;
			sum.pages += reads || writes;
		}
	}
	return sum;
}

} // namespace sentinel
