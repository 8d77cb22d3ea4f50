/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime: told of allocations, operations and steps, it records a step or carries out a plan.
 * Knows nothing of TensorFlow. Thread-safe. One for the process, and never destroyed: threads of
 * TensorFlow go on after main() has returned.
 *
 * A *step* is what runs between step_begin() and step_end(), which the script's side calls; the
 * first execution in it that is no side job of TensorFlow's (those have negative ids) is the
 * step's.
 */
#ifndef SENTINEL_RUNTIME_RUNTIME_H
#define SENTINEL_RUNTIME_RUNTIME_H

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor.h"
#include "op_effects.h"
#include "page_counts.h"
#include "plan.h"
#include "profile.h"
#include "recorder.h"
#include "room.h"
#include "tensor_memory.h"

namespace sentinel
{

/* An operation of the graph, as long as its kernel is the same. */
struct Op {
	std::string name, type;
	Effect effect;
	uint64_t step = 0; /* that it ran in last */
	int runs = 0;	   /* in that step */
	const std::vector<int> *planned = nullptr;
};

/* The operation that a thread is in. */
struct OpContext {
	Op *op = nullptr;
	int position = -1, occurrence = 0, allocations = 0;
};

class Runtime
{
      public:
	static Runtime &instance();

	/* Allocation. nullptr if there is no room. */
	void *allocate(size_t alignment, size_t size);
	void release(void *p);
	size_t size_of(const void *p);
	size_t live();
	size_t peak();
	uint64_t allocations();

	/* See TensorMemory::limit(). */
	bool limit(bool interleave, size_t budget);

	/* Operations. Ask watching() first: if it is false nothing else is needed. */
	bool watching() const
	{
		return watching_.load(std::memory_order_relaxed);
	}
	bool recording() const
	{
		return recording_.load(std::memory_order_relaxed);
	}
	/*
	 * The thread begins an operation of the execution `id`; `before` is for op_leave(). nullptr
	 * if it is none of the step's.
	 */
	Op *op_begin(const void *kernel, const std::string &name, const std::string &type,
		     int64_t id, OpContext &before);
	/* The thread goes back to what it did before. */
	void op_leave(const OpContext &before);
	/* The operation is done; it may have left its thread long before. */
	void op_end(int position);
	static int position();

	/* The operation at `position` uses memory at `p`; only while recording. */
	void used(const void *p, size_t size, int position, bool reads, bool writes);
	/* The memory at `p`, if older than this step, is called `name`. */
	void named(const void *p, const std::string &name);

	/* A session is made, with so many threads. */
	void threads(int inter_op, int intra_op);

	/* Steps. */
	void step_begin();
	void step_end();

	/*
	 * Profile the next two steps: one for its times, undisturbed, and one for all the rest.
	 * Tensors are on node 1 meanwhile. Ends a plan.
	 */
	void profile_begin();
	/* The profile, or nullptr if no step was recorded since. */
	std::unique_ptr<Profile> profile_end();

	/* Carry out this plan from the next step on; throws json::Error, and nothing has changed.
	 */
	void plan_begin(const std::string &text);
	void plan_end();

	/* Whether the plan no longer fits what is trained. */
	bool reprofile() const
	{
		return reprofile_.load(std::memory_order_relaxed);
	}

	/* All there is to tell, as JSON. */
	std::string statistics();

      private:
	Runtime();

	struct Misses {
		uint64_t unknown = 0, busy = 0, bytes = 0; /* tensors not in the plan, or whose
							      place is taken; bytes of both */
		uint64_t keyless = 0; /* allocations of threads that run no operation */
		uint64_t crowded = 0; /* bytes that had no room in fast memory when born */
	};

	void lend();
	void take_back();
	void begin_recording();
	void finish_recording();
	void install();
	void check_step(const StepStatistics &step);
	void place_named();
	Moved moved(char *start, size_t size, int node);
	TensorMemory::Found claim_planned(size_t size);
	int advance_to(const Op &op);
	Pages resolve(const Move &move);
	Pages pages_of(const std::string &name);
	void say(const std::string &line);

	std::mutex mutex_; /* of all below */
	TensorMemory memory_;
	std::unordered_map<const void *, Op> ops_; /* by kernel */
	std::map<std::string, const char *> named_;
	std::atomic<bool> watching_{false}, recording_{false}, reprofile_{false};
	bool in_step_ = false;
	uint64_t step_ = 0; /* number of this step, from 1 */
	int64_t id_ = -1;   /* of the step's execution */
	int progress_ = -1; /* by the plan */
	int position_ = -1;

	enum class Stage { idle, times, counts };
	Stage stage_ = Stage::idle; /* of the profile: what the next step is for */
	std::unique_ptr<PageCounts> counts_;
	std::unique_ptr<Recorder> recorder_;
	std::unique_ptr<Profile> times_, profile_;
	bool profile_full_ = false;
	std::vector<Pages> lent_; /* to node 1, for the profile */
	int inter_op_ = 1, intra_op_ = 1;

	std::shared_ptr<Plan> plan_, next_plan_;
	std::mutex advance_; /* one operation at a time drives the executor */
	std::unique_ptr<Executor> executor_;
	std::vector<std::string> names_;     /* of the operations of the plan's first step */
	std::unique_ptr<Room> room_;	     /* of the plan */
	std::atomic<bool> unmovable_{false}; /* pages cannot be moved, and that was said */
	uint64_t planned_steps_ = 0, misfits_ = 0, no_such_node_ = 0;
	Misses misses_, all_misses_;
	StepStatistics last_;
	MoveStatistics all_moves_;
	uint64_t all_exposed_ns_ = 0, all_late_ = 0;
};

} // namespace sentinel

#endif
