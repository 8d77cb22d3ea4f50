/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime: told of allocations, operations and steps, it records a step or carries out a plan.
 * Knows nothing of TensorFlow. Thread-safe. One for the process, and never destroyed: threads of
 * TensorFlow go on after main() has returned. A forked child has it too, but unmanaged.
 *
 * A *step* has a number. Its operations are those of one execution: the first one that the thread
 * which opened the step starts while it is open, and that is no side job of TensorFlow's (those
 * have negative ids). Whatever else runs meanwhile (queue runners, evaluation, other sessions,
 * steps of other threads) is served, but it is neither recorded nor planned.
 */
#ifndef SENTINEL_RUNTIME_RUNTIME_H
#define SENTINEL_RUNTIME_RUNTIME_H

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor.h"
#include "mutex.h"
#include "framework.h"
#include "page_counts.h"
#include "plan.h"
#include "profile.h"
#include "recorder.h"
#include "fast_budget.h"
#include "tensor_memory.h"

namespace sentinel
{

/* An operation of the graph, as long as its kernel is the same. */
struct Op {
	std::string name, type;
	Effect effect;
	uint64_t fingerprint; /* of the name */
	const std::vector<int> *planned = nullptr;
	uint64_t step = 0; /* that it ran in last */
	int runs = 0;	   /* in that step */
};

/* One run of an operation in a step; step 0 if it is none of the step's. */
struct OpRun {
	uint64_t step = 0;
	std::shared_ptr<const Op> op;
	int position = -1;
};

/* What a thread is doing. */
struct OpContext {
	OpRun run;
	bool elsewhere = false; /* an operation of another execution than the step's */
	int occurrence = 0, allocations = 0;
};

/* Of TensorFlow: its id, and the step that was open on the thread that started it (0: none). */
struct Execution {
	uint64_t step;
	int64_t id;
};

/* A plan that is carried out: its pools, its room in fast memory, and the threads that move. */
struct ActivePlan {
	/* Throws std::exception if the system does not give what it takes. */
	ActivePlan(Plan plan, const std::function<Pages(const ActivePlan &, const Move &)> &resolve,
		   const std::function<void(const std::string &)> &say);

	void step_begin(uint64_t step) SENTINEL_EXCLUDES(advance);
	/* The step has come to `position`. */
	void advance_to(uint64_t step, int position) SENTINEL_EXCLUDES(advance);
	StepStatistics step_end(bool typical) SENTINEL_EXCLUDES(advance);

	/* Sets the nodes of both pools. False (errno) if the system refuses. */
	bool place();
	Moved move(char *start, size_t size, int node);

	const Plan plan;
	const std::shared_ptr<Arena> reserved, arena;
	Room room;
	const std::function<void(const std::string &)> say;
	std::atomic<bool> unmovable{false}; /* pages cannot be moved, and that was said */
	uint64_t fingerprint = 0;	    /* of a step of the plan's graph; 0 before the first */

	Mutex advance; /* one operation at a time drives the executor */
	Executor executor;
	uint64_t current_step SENTINEL_GUARDED_BY(advance) = 0;
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
	/* The step that this thread has opened, or 0: what it starts now may be its execution. */
	static uint64_t step_here();
	/* The operation is done; it may have left its thread long before. */
	void op_end(const OpRun &run);

	/* The operation uses memory at `p`; only while recording. */
	void used(const OpRun &run, const void *p, size_t size, bool reads, bool writes);
	/* The memory at `p`, if older than this step, is called `name`. */
	void named(const OpRun &run, const void *p, const std::string &name);

	/* A session is made, with so many threads. */
	void threads(int inter_op, int intra_op);

	/*
	 * Opens a step on this thread; its number. 0 if it is only served: another one is open. A
	 * step that this thread has left open is closed first if it ran anything, else goes on.
	 */
	uint64_t step_begin();
	/* Closes it, from any thread. `completed`: its run has not failed. Nothing if it is closed.
	 */
	void step_end(uint64_t step, bool completed = true);

	/*
	 * Profile the next two steps: one for its times, undisturbed, and one for all the rest.
	 * Tensors are on node 1 meanwhile. Ends a plan. False, and says why, if that cannot be.
	 */
	bool profile_begin();
	/* How many steps are still to be recorded. */
	int profile_left();
	/* The profile, or nullptr if no step was recorded since. A step that is open is not. */
	std::unique_ptr<Profile> profile_end();

	/*
	 * Carry out this plan from the next step on. Throws std::exception, in a line, and nothing
	 * has changed.
	 */
	void plan_begin(const std::string &text);
	/* Go on without, once the step is closed; on node 1, so that the plan's budget is kept. */
	void plan_end();

	/* Whether the plan no longer fits what is trained. */
	bool reprofile() const
	{
		return reprofile_.load(std::memory_order_relaxed);
	}

	/* All there is to tell, as JSON. */
	std::string statistics();

	static void say(const std::string &line);

      private:
	friend class OpScope;
	Runtime();

	struct Misses {
		uint64_t unknown = 0, busy = 0, bytes = 0; /* tensors not in the plan, or whose
							      place is taken; bytes of both */
		uint64_t keyless = 0; /* allocations of threads that run no operation */
		uint64_t crowded = 0; /* bytes that had no room in fast memory when born */
	};

	OpRun op_begin(const void *kernel, const std::string &name, const std::string &type,
		       const Execution &execution);
	std::shared_ptr<Op> op_of(const void *kernel, const std::string &name,
				  const std::string &type) SENTINEL_REQUIRES(mutex_);
	bool is_step(uint64_t step) const SENTINEL_REQUIRES(mutex_);
	bool matches_plan() SENTINEL_REQUIRES(mutex_);
	int progress_at(const Op &op, int occurrence) SENTINEL_REQUIRES(mutex_);
	void *allocate_locked(size_t alignment, size_t size) SENTINEL_REQUIRES(mutex_);
	TensorMemory::Found claim_planned(size_t alignment, size_t size) SENTINEL_REQUIRES(mutex_);
	void lend() SENTINEL_REQUIRES(mutex_);
	void take_back() SENTINEL_REQUIRES(mutex_);
	void begin_recording() SENTINEL_REQUIRES(mutex_);
	void finish_recording() SENTINEL_REQUIRES(mutex_);
	void abandon_recording() SENTINEL_REQUIRES(mutex_);
	void install() SENTINEL_REQUIRES(mutex_);
	void retire() SENTINEL_REQUIRES(mutex_);
	void check_step(const StepStatistics &step, bool completed, bool matches)
		SENTINEL_REQUIRES(mutex_);
	void place_named() SENTINEL_REQUIRES(mutex_);
	size_t fast_bytes() SENTINEL_REQUIRES(mutex_);
	void check_after_fork() SENTINEL_REQUIRES(mutex_);
	void lose_step();
	Pages resolve(const ActivePlan &plan, const Move &move) SENTINEL_EXCLUDES(mutex_);
	Pages pages_of_named(const std::string &name) SENTINEL_REQUIRES(mutex_);
	static void before_fork() SENTINEL_UNCHECKED;
	static void after_fork_in_parent() SENTINEL_UNCHECKED;
	static void after_fork_in_child() SENTINEL_UNCHECKED;

	Mutex mutex_;
	TensorMemory memory_ SENTINEL_GUARDED_BY(mutex_);
	std::unordered_map<const void *, std::shared_ptr<Op>>
		ops_ SENTINEL_GUARDED_BY(mutex_); /* by kernel */
	std::map<std::string, const char *> named_ SENTINEL_GUARDED_BY(mutex_);
	std::atomic<bool> watching_{false}, recording_{false}, reprofile_{false};
	std::atomic<bool> lost_{false}; /* not all of the step was seen, for want of memory */

	enum class State { closed, open, closing };
	State state_ SENTINEL_GUARDED_BY(mutex_) = State::closed; /* of the step */
	uint64_t step_ SENTINEL_GUARDED_BY(mutex_) = 0;		  /* its number, from 1 */
	uint64_t served_ SENTINEL_GUARDED_BY(mutex_) = 0;	  /* steps that were not managed */
	int64_t execution_ SENTINEL_GUARDED_BY(mutex_) = -1;	  /* the step's */
	int progress_ SENTINEL_GUARDED_BY(mutex_) = -1;		  /* by the plan */
	int position_ SENTINEL_GUARDED_BY(mutex_) = -1;
	uint64_t fingerprint_ SENTINEL_GUARDED_BY(mutex_) = 0;	     /* of its operations so far */
	std::vector<std::string> names_ SENTINEL_GUARDED_BY(mutex_); /* theirs, if needed */

	enum class Stage { idle, times, counts };
	/* Of the profile: what the next step is for */
	Stage stage_ SENTINEL_GUARDED_BY(mutex_) = Stage::idle;
	std::unique_ptr<PageCounts> counts_ SENTINEL_GUARDED_BY(mutex_);
	std::unique_ptr<Recorder> recorder_ SENTINEL_GUARDED_BY(mutex_);
	std::unique_ptr<Profile> times_ SENTINEL_GUARDED_BY(mutex_);
	std::unique_ptr<Profile> profile_ SENTINEL_GUARDED_BY(mutex_);
	bool profile_full_ SENTINEL_GUARDED_BY(mutex_) = false;
	std::vector<Pages> lent_ SENTINEL_GUARDED_BY(mutex_); /* to node 1, for the profile */
	int inter_op_ SENTINEL_GUARDED_BY(mutex_) = 1;
	int intra_op_ SENTINEL_GUARDED_BY(mutex_) = 1;

	std::shared_ptr<ActivePlan> plan_ SENTINEL_GUARDED_BY(mutex_);
	std::shared_ptr<ActivePlan> next_plan_ SENTINEL_GUARDED_BY(mutex_);
	bool ends_ SENTINEL_GUARDED_BY(mutex_) = false;	   /* the plan, with the step */
	bool limited_ SENTINEL_GUARDED_BY(mutex_) = false; /* there is, or was, a plan */
	uint64_t planned_steps_ SENTINEL_GUARDED_BY(mutex_) = 0;
	uint64_t other_steps_ SENTINEL_GUARDED_BY(mutex_) = 0; /* that are not the plan's */
	uint64_t misfits_ SENTINEL_GUARDED_BY(mutex_) = 0;     /* on end */
	uint64_t no_such_node_ SENTINEL_GUARDED_BY(mutex_) = 0;
	Misses misses_ SENTINEL_GUARDED_BY(mutex_), all_misses_ SENTINEL_GUARDED_BY(mutex_);
	StepStatistics last_ SENTINEL_GUARDED_BY(mutex_);
	MoveStatistics all_moves_ SENTINEL_GUARDED_BY(mutex_);
	uint64_t all_exposed_ns_ SENTINEL_GUARDED_BY(mutex_) = 0;
	uint64_t all_late_ SENTINEL_GUARDED_BY(mutex_) = 0;

	bool child_ SENTINEL_GUARDED_BY(mutex_) = false; /* this process is a fork's child */
	uint64_t forks_ SENTINEL_GUARDED_BY(mutex_) = 0;
	int checks_ SENTINEL_GUARDED_BY(mutex_) = 0;	       /* of fast memory that are to come */
	uint64_t over_budget_ SENTINEL_GUARDED_BY(mutex_) = 0; /* bytes, the most that was found */
};

/* The thread is in an operation while this lives. Only while the runtime is watching. */
class OpScope
{
      public:
	OpScope(Runtime &runtime, const void *kernel, const std::string &name,
		const std::string &type, const Execution &execution);
	~OpScope();
	OpScope(const OpScope &) = delete;
	OpScope &operator=(const OpScope &) = delete;

	/* Of step 0 if the operation is none of the step's. */
	const OpRun &run() const
	{
		return run_;
	}

      private:
	OpContext before_;
	OpRun run_;
};

} // namespace sentinel

#endif
