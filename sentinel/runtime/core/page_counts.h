/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's counts of accesses to pages, while this object lives: docs/page_profile.md. */
#ifndef SENTINEL_RUNTIME_PAGE_COUNTS_H
#define SENTINEL_RUNTIME_PAGE_COUNTS_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../../profiler/page_profile.h"

namespace sentinel
{

struct Accesses {
	uint64_t reads = 0, writes = 0;
	uint64_t pages = 0; /* with any */
};

class PageCounts
{
      public:
	PageCounts() = default;
	~PageCounts();
	PageCounts(const PageCounts &) = delete;
	PageCounts &operator=(const PageCounts &) = delete;

	/* Profile [start, start + size) too, in whole pages; before start(). */
	void add(const char *start, size_t size);

	/*
	 * Count from now on. False if that is not possible: no such kernel or processor, no right,
	 * or too much memory; error() says which.
	 */
	bool start();
	void stop();

	bool running() const
	{
		return running_;
	}
	const std::string &error() const
	{
		return error_;
	}

	/*
	 * What was counted so far in the pages that [start, start + size) touches. Counters wrap at
	 * 2^32, so take differences page by page if there may be so many.
	 */
	Accesses sum(const char *start, size_t size) const;

      private:
	/*
	 * The largest window: the cheapest, and nearest to what a cache of many pages would miss,
	 * which is what migration can save. Smaller ones count more and tell no more
	 * (docs/measurements.md).
	 */
	static constexpr unsigned int kWindow = PAGE_PROFILE_MAX_WINDOW;

	struct Range {
		const char *start;
		size_t size;
		const volatile struct page_profile_count *counts;
	};
	bool failed(const char *call);

	int fd_ = -1;
	bool running_ = false;
	std::vector<Range> ranges_;
	std::string error_;
};

} // namespace sentinel

#endif
