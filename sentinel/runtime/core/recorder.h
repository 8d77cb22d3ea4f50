/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens in one step: operations, and the births, uses and deaths of tensors. Not
 * thread-safe.
 */
#ifndef SENTINEL_RUNTIME_RECORDER_H
#define SENTINEL_RUNTIME_RECORDER_H

#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "page_counts.h"
#include "profile.h"

namespace sentinel
{

class Recorder
{
      public:
	/* Counts come from `counts` if that runs, else from the uses. */
	explicit Recorder(const PageCounts &counts) : counts_(counts)
	{
	}

	/* An operation begins; returns its position. Times are of any clock. */
	int op_begin(const std::string &name, const std::string &type, int occurrence,
		     uint64_t now);
	/* Here and below, a position or number that this recorder did not give is ignored. */
	void op_end(int position, uint64_t now);

	/*
	 * A block is allocated, by operation `op` (-1: by a thread that runs none, whose
	 * allocations are counted apart), as its allocation number `k`, and has pages of its own if
	 * `own_pages`. Returns its number.
	 */
	int born(const char *start, size_t size, int op, int k, bool own_pages);

	/* A block that was there already, seen for the first time. */
	int found(const char *start, size_t size, bool own_pages);

	/* It is given back, by operation `op` (-1: by none, or between operations). */
	void dead(int number, int op);

	/* The operation at `position` takes or makes it. */
	void used(int number, int position, uint64_t reads, uint64_t writes);

	/* Names what is from before the step; the first name stays. */
	void named(int number, const std::string &name);

	/* An operation has taken `size` bytes that no block of ours holds. */
	void foreign(size_t size);

	void warn(const std::string &what)
	{
		profile_.warnings.push_back(what);
	}

	/* The step is over. */
	Profile finish(bool model_clock);

      private:
	int add(const char *start, size_t size, bool own_pages);
	void close(int number);
	void count_use(int number, int position);
	int here() const;
	bool known(int number, int position) const;
	void settle(ProfiledTensor &t);
	void number_keyless();
	void name_all();

	struct Tracked {
		const char *start;
		bool own_pages;
		Accesses before; /* of its pages, when it was born */
		Accesses seen;	 /* and when the last operation that used it had ended */
	};
	const PageCounts &counts_;
	Profile profile_{};
	std::vector<Tracked> tracked_;		 /* beside profile_.tensors */
	std::map<int, std::vector<int>> using_;	 /* position of what runs -> tensors it uses */
	std::map<std::thread::id, int> threads_; /* those that ran no operation, from 1 */
	uint64_t begun_ = 0;
	uint64_t foreign_ = 0, foreign_bytes_ = 0;
};

} // namespace sentinel

#endif
