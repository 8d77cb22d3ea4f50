/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's page-access counts during this object's lifetime: docs/page_profile.md. */
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
	uint64_t pages = 0; /* accessed pages */
};

class PageCounts
{
public:
	PageCounts() = default;
	~PageCounts();
	PageCounts(const PageCounts &) = delete;
	PageCounts &operator=(const PageCounts &) = delete;

	/* Add the pages of [start, start + size) to the profile, before start(). */
	void add(const char *start, size_t size);

	/*
	 * Start to count. False if the kernel or processor cannot, a permission is missing or the
	 * ranges are too large; error() says which.
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
	 * Counts so far of the pages that [start, start + size) touches. Each counter wraps at
	 * 2^32.
	 */
	Accesses sum(const char *start, size_t size) const;

private:
	/*
	 * The largest window is the cheapest, and closest to the misses of a large LLC, which are
	 * what migration can save. Smaller ones count more accesses without saying more
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
