/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Profiling over two steps: the first records times without counters, the second counts accesses.
 * A step before them may be traced: it is as any other, but the timing model learns of its events.
 * All tensors are on node 1 meanwhile (section 3 of the paper profiles slow memory). Not
 * thread-safe: the runtime's mutex guards it, and the memory that it moves.
 */
#ifndef SENTINEL_RUNTIME_PROFILE_SESSION_H
#define SENTINEL_RUNTIME_PROFILE_SESSION_H

#include <memory>
#include <vector>

#include "page_counts.h"
#include "profile.h"
#include "recorder.h"
#include "tensor_memory.h"

namespace sentinel
{

class ProfileSession
{
public:
	explicit ProfileSession(TensorMemory &memory) : memory_(memory)
	{
	}

	/* Profile the next two steps, after one that is `traced`. Drops an earlier profile. */
	void begin(bool traced = false);
	/* Steps left to record. */
	int steps_left() const;
	/* The profile, or nullptr if no step was recorded. Drops the step that is open. */
	std::unique_ptr<Profile> end();

	void step_begin();
	/* The step completed, in a session with so many threads. */
	void step_end(int inter_op, int intra_op);
	/* Drop the step; the next one is recorded instead. */
	void step_abandon();

	/* Of the step that is being recorded, else nullptr. */
	Recorder *recorder() const
	{
		return recorder_.get();
	}
	/* The pool for the recorded step's tensors. */
	Pool pool() const
	{
		return counts_			 ? Pool::profile
		       : stage_ == Stage::traces ? Pool::ordinary
						 : Pool::unplanned;
	}
	/* A tensor did not fit into the profile pool. */
	void set_pool_full()
	{
		pool_full_ = true;
	}

	/* Leave counters and recorder, which belong to the parent process, as they are. */
	void abandon_in_child();

private:
	enum class Stage { idle, traces, times, counts };

	void move_to_slow();
	void move_back();

	TensorMemory &memory_;
	Stage stage_ = Stage::idle; /* purpose of the next step */
	std::unique_ptr<PageCounts> counts_;
	std::unique_ptr<Recorder> recorder_;
	std::unique_ptr<Profile> traced_, timed_, profile_;
	bool pool_full_ = false;
	std::vector<PageRange> moved_; /* to node 1 */
};

} // namespace sentinel

#endif
