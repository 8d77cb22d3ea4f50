/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Budget of fast memory for migratable groups and variables. The budget is never exceeded, however
 * late a migration runs: a group that does not fit at its birth is allocated in slow memory, and a
 * promotion waits until demotions have freed its pages. Thread-safe.
 */
#ifndef SENTINEL_RUNTIME_FAST_BUDGET_H
#define SENTINEL_RUNTIME_FAST_BUDGET_H

#include <cstddef>
#include <functional>
#include <map>

#include "memory.h"
#include "mutex.h"

namespace sentinel
{

/* Makes new pages of [start, start + size) come from a node. */
using PreferFunction = std::function<void(char *start, size_t size, int node)>;

class FastBudget
{
public:
	/* `limit` in bytes. */
	FastBudget(size_t limit, PreferFunction prefer) : limit_(limit), prefer_(std::move(prefer))
	{
	}

	/* Account for the group [start, start + size), whose pages are born on `node`. */
	void add_group(char *start, size_t size, int node);
	/* Account for the pages of a variable that lives already, on `node`, perhaps again. */
	void add_variable(char *start, size_t size, int node);

	/* A tensor is born. Returns bytes of its groups that did not fit into fast memory. */
	size_t tensor_born(const char *start, size_t size);
	void tensor_died(const char *start, size_t size);

	/* Reserve space for the promotion of these pages. False if they do not fit. */
	bool reserve(const char *start, size_t size);
	/* Account for the result of a promotion or demotion. */
	void moved(const char *start, size_t size, int node, const MoveResult &result);

	/* Bytes: the most ever in use, and the limit. */
	size_t peak() const;
	size_t limit() const
	{
		return limit_;
	}

private:
	struct Group {
		size_t size = 0;
		int node = kSlow;
		int live_tensors = 0;
		size_t fast_bytes = 0;	/* counted against the budget */
		bool displaced = false; /* did not fit: its new pages come from slow memory */
	};
	using Groups = std::map<const char *, Group>;

	Groups::iterator find(const char *p) SENTINEL_REQUIRES(mutex_);
	void set_fast_bytes(Group &group, size_t bytes) SENTINEL_REQUIRES(mutex_);

	const size_t limit_;
	const PreferFunction prefer_;
	mutable Mutex mutex_;
	Groups groups_ SENTINEL_GUARDED_BY(mutex_); /* by start */
	size_t used_ SENTINEL_GUARDED_BY(mutex_) = 0;
	size_t peak_ SENTINEL_GUARDED_BY(mutex_) = 0;
};

} // namespace sentinel

#endif
