/* SPDX-License-Identifier: Apache-2.0 */
/* Records one step: its operations, and the birth, uses and death of tensors. Not thread-safe. */
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
	/*
	 * Access counts come from `counts` if it is running, else from the recorded uses. In a
	 * `traced` step, begins of operations, births and deaths are events of the trace.
	 */
	explicit Recorder(const PageCounts &counts, bool traced = false)
	    : counts_(counts), traced_(traced)
	{
	}

	/* Record the begin of an operation, at `now` ns of any clock. Returns its position. */
	int op_begin(const std::string &name, const std::string &type, int occurrence,
		     uint64_t now);
	/* Here and below, positions and tensor indices of another recorder are ignored. */
	void op_end(int position, uint64_t now);

	/*
	 * Record an allocation: the `k`-th of the operation at position `op`, or by a thread that
	 * runs no operation (-1). `own_pages`: it shares its pages with no other block. Returns the
	 * tensor's index.
	 */
	int add_birth(const char *start, size_t size, int op, int k, bool own_pages);

	/* Record a block from before the step, at its first use. Returns the tensor's index. */
	int add_existing(const char *start, size_t size, bool own_pages);

	/* Record a release by the operation at position `op`, or between operations (-1). */
	void add_death(int tensor, int op);

	/* Record that the operation at `position` reads or writes the tensor. */
	void add_use(int tensor, int position, uint64_t reads, uint64_t writes);

	/* Name a tensor from before the step. The first name stays. */
	void set_name(int tensor, const std::string &name);

	/* Record the use of `size` bytes outside the runtime's memory. */
	void add_foreign_use(size_t size);

	void warn(const std::string &warning)
	{
		profile_.warnings.push_back(warning);
	}

	/* The profile of the finished step, with times by `clock`. */
	Profile finish(const std::string &clock);

private:
	uint64_t event() const;
	int add(const char *start, size_t size, bool own_pages);
	void read_counts(int tensor);
	void count_use(int tensor, int position);
	int last_position() const;
	bool valid(int tensor, int position) const;
	void fit_uses_to_life(ProfiledTensor &t);
	void number_keyless_tensors();
	void assign_names();

	struct Tracked {
		const char *start;
		bool own_pages;
		Accesses at_birth; /* counts of its pages */
		Accesses last;	   /* counts at the end of the last operation that used it */
	};
	const PageCounts &counts_;
	const bool traced_;
	Profile profile_{};
	std::vector<Tracked> tracked_;		 /* parallel to profile_.tensors */
	std::map<int, std::vector<int>> in_use_; /* running operation to tensors that it uses */
	std::map<std::thread::id, int> threads_; /* that run no operation, numbered from 1 */
	uint64_t begin_ns_ = 0;
	uint64_t foreign_uses_ = 0, foreign_bytes_ = 0;
};

} // namespace sentinel

#endif
