/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime: the framework reports allocations, operations and steps to it; it profiles a step or
 * executes a plan. Thread-safe. There is one for the process, and it is never destroyed, since
 * threads of the framework outlive main(). A forked child inherits it, but is not managed.
 *
 * Every step has a number. Its operations are those of one execution: the first that the thread
 * which opened the step starts while it is open. Executions with negative ids are side jobs of the
 * framework and never a step's. Everything that runs beside the step (queue runners, evaluation,
 * other sessions, steps of other threads) is served with memory, but neither profiled nor planned.
 *
 * Steps are of kinds, each with a profile and a plan of its own. One plan at a time is installed:
 * its tensors may be in fast memory. A step with another plan installs that one first.
 */
#ifndef SENTINEL_RUNTIME_RUNTIME_H
#define SENTINEL_RUNTIME_RUNTIME_H

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "active_plan.h"
#include "mutex.h"
#include "operation.h"
#include "profile_session.h"
#include "statistics.h"
#include "step_kind.h"
#include "tensor_memory.h"

namespace sentinel
{

class Runtime
{
public:
	static Runtime &instance();

	/* Allocate; nullptr if there is no memory. */
	void *allocate(size_t alignment, size_t size);
	void release(void *p);
	PoolStatistics memory_usage();

	/* See TensorMemory::limit_fast(). */
	bool limit_fast(bool interleave, size_t budget);
	/* From now on, tensors outside a plan are on node 1, live ones too. Call it between steps.
	 */
	void leave_fast_memory();

	/* Whether operations have to be reported: a step is being recorded or planned. */
	bool tracking() const
	{
		return tracking_.load(std::memory_order_relaxed);
	}
	bool recording() const
	{
		return recording_.load(std::memory_order_relaxed);
	}
	/* The step that this thread has opened, or 0. */
	static uint64_t opened_step();
	/*
	 * The open step if it waits for an execution that another thread starts, on behalf of a
	 * server, and this is the one: `has_operation` says whether its graph has an operation of
	 * this name. Else 0.
	 */
	uint64_t awaited_step(const std::function<bool(const std::string &)> &has_operation);
	/* Whether `p` may be in a window. */
	bool in_windows(const void *p) const
	{
		return uintptr_t(p) - windows_begin_.load(std::memory_order_relaxed) <
		       windows_size_.load(std::memory_order_relaxed);
	}
	/*
	 * If the run `holds`: it is about to use these tensors, which may be in windows. They stay
	 * where they are until it ends.
	 */
	void hold(const OpRun &run, const std::vector<TensorRange> &tensors);
	/*
	 * The operation has ended, possibly long after its OpScope. It may have written to these
	 * tensors, which may be in windows, besides those that it allocated.
	 */
	void op_end(const OpRun &run, const std::vector<TensorRange> &written = {});

	/* While recording: the operation reads or writes the memory at `p`. */
	void record_use(const OpRun &run, const void *p, size_t size, bool reads, bool writes);
	/* The operation hands out the memory at `p` as `name`. Ignored if born in this step. */
	void set_name(const OpRun &run, const void *p, const std::string &name);

	/* A session was created, with so many threads. */
	void set_session_threads(int inter_op, int intra_op);

	/*
	 * Open a step of this kind on this thread, and return its number; 0 if another step is
	 * open, so that this one is only served. It runs with the plan of kind `plan_kind`, which
	 * is usually its own. If this thread left a step open, that step continues if it ran no
	 * operation, else it is closed first.
	 */
	uint64_t step_begin(int kind, int plan_kind);
	uint64_t step_begin(int kind = 0)
	{
		return step_begin(kind, kind);
	}
	/* The open step is an execution that another thread starts; its graph has `operation`. */
	void step_awaits(uint64_t step, const std::string &operation);
	/* Close the step, from any thread. `completed`: its run did not fail. */
	void step_end(uint64_t step, bool completed = true);

	/* Profile the kind's next two steps. Ends its plan. False, with a log line, if it cannot.
	 */
	bool profile_begin(int kind = 0, bool traced = false);
	/* Steps that are still to be profiled. */
	int profile_steps_left(int kind = 0);
	/* The profile, or nullptr if no step was recorded. An open step is dropped. */
	std::unique_ptr<Profile> profile_end(int kind = 0);

	/*
	 * Execute this plan in the kind's steps, from the next one on. Throws std::exception; then
	 * nothing changed.
	 */
	void plan_begin(const std::string &text, int kind = 0);
	/* End the kind's plan, at the end of an open step. Its tensors move to node 1. */
	void plan_end(int kind = 0);

	/* Whether the plan no longer fits the kind's steps: they should be profiled again. */
	bool needs_profile(int kind = 0);

	/* All statistics as JSON. Queries the node of every page. */
	std::string statistics();

	/* Write one line to standard error. */
	static void log(const std::string &line);

private:
	friend class OpScope;
	Runtime();

	enum class StepState { closed, open, closing };

	/* What this thread is running, and the step that it has opened. */
	struct ThreadState {
		OpContext op;
		uint64_t opened_step = 0;
	};
	static ThreadState &this_thread();

	static void before_fork() SENTINEL_UNCHECKED;
	static void after_fork_in_parent() SENTINEL_UNCHECKED;
	static void after_fork_in_child() SENTINEL_UNCHECKED;

	/* runtime.cc: allocation */
	void *allocate_locked(size_t alignment, size_t size) SENTINEL_REQUIRES(mutex_);
	TensorMemory::BlockIterator claim_planned(size_t alignment, size_t size)
		SENTINEL_REQUIRES(mutex_);

	/* runtime_operations.cc */
	OpRun op_begin(const void *kernel, const std::string &name, const std::string &type,
		       const Execution &execution);
	std::shared_ptr<Op> lookup_op(const void *kernel, const std::string &name,
				      const std::string &type) SENTINEL_REQUIRES(mutex_);
	int reach_plan_position(const Op &op, int occurrence) SENTINEL_REQUIRES(mutex_);
	int find_use(const Op &op, int occurrence) SENTINEL_REQUIRES(mutex_);
	std::shared_ptr<ActivePlan> plan_of_step(uint64_t step) SENTINEL_EXCLUDES(mutex_);
	void stop_tracking();

	/* runtime_steps.cc */
	bool is_open(uint64_t step) const SENTINEL_REQUIRES(mutex_);
	void open_step(int kind, int plan_kind) SENTINEL_REQUIRES(mutex_);
	StepKind &kind(int number) SENTINEL_REQUIRES(mutex_);
	Recorder *recorder() SENTINEL_REQUIRES(mutex_);

	/* runtime_plan.cc */
	bool evict_unplanned() SENTINEL_REQUIRES(mutex_);
	void start_plan(StepKind &kind) SENTINEL_REQUIRES(mutex_);
	void install(const std::shared_ptr<ActivePlan> &plan) SENTINEL_REQUIRES(mutex_);
	void retire_plan(StepKind &kind) SENTINEL_REQUIRES(mutex_);
	void set_variable_nodes() SENTINEL_REQUIRES(mutex_);
	ActivePlan *plan_of(const char *p) SENTINEL_REQUIRES(mutex_);
	PageRange variable_pages(const std::string &name) SENTINEL_REQUIRES(mutex_);
	bool matches_plan() SENTINEL_REQUIRES(mutex_);
	void check_planned_step(bool completed, bool matches) SENTINEL_REQUIRES(mutex_);

	/* runtime_pools.cc */
	std::shared_ptr<Arena> reserved_pool(size_t size) SENTINEL_REQUIRES(mutex_);
	std::shared_ptr<MemoryFile> frame_pool() SENTINEL_EXCLUDES(mutex_);
	void resize_frame_pool(size_t size) SENTINEL_REQUIRES(mutex_);
	void shrink_reserved_pool(size_t size) SENTINEL_REQUIRES(mutex_);
	void enforce_budget() SENTINEL_REQUIRES(mutex_);
	std::vector<size_t> resident(Pool pool) SENTINEL_REQUIRES(mutex_);
	size_t fast_bytes() SENTINEL_REQUIRES(mutex_);

	Mutex mutex_;
	TensorMemory memory_ SENTINEL_GUARDED_BY(mutex_);
	std::map<std::string, const char *> variables_ SENTINEL_GUARDED_BY(mutex_);
	std::atomic<bool> tracking_{false}, recording_{false};
	std::atomic<bool> incomplete_{false}; /* memory ran out: the step was not tracked fully */

	StepState step_state_ SENTINEL_GUARDED_BY(mutex_) = StepState::closed;
	uint64_t step_ SENTINEL_GUARDED_BY(mutex_) = 0;	     /* number of the last step */
	int64_t execution_ SENTINEL_GUARDED_BY(mutex_) = -1; /* the step's; -1 if none began */
	std::string awaited_operation_ SENTINEL_GUARDED_BY(mutex_);
	std::atomic<bool> awaiting_{false};		      /* awaited_operation_ is set */
	int last_position_ SENTINEL_GUARDED_BY(mutex_) = -1;  /* operations begun, minus one */
	int plan_position_ SENTINEL_GUARDED_BY(mutex_) = -1;  /* reached in the plan */
	uint64_t graph_hash_ SENTINEL_GUARDED_BY(mutex_) = 0; /* of the operations begun */
	/* Of the operations begun, until a step has matched the plan's graph */
	std::vector<std::string> op_names_ SENTINEL_GUARDED_BY(mutex_);

	std::map<int, StepKind> kinds_ SENTINEL_GUARDED_BY(mutex_);
	StepKind *step_kind_ SENTINEL_GUARDED_BY(mutex_) = nullptr; /* of the last step */
	/* The last step's plan, and the plan that may use fast memory. */
	std::shared_ptr<ActivePlan> plan_ SENTINEL_GUARDED_BY(mutex_);
	std::shared_ptr<ActivePlan> installed_ SENTINEL_GUARDED_BY(mutex_);
	std::shared_ptr<Arena> reserved_ SENTINEL_GUARDED_BY(mutex_);	     /* of all plans */
	std::shared_ptr<MemoryFile> frame_pool_ SENTINEL_GUARDED_BY(mutex_); /* of all plans */
	std::atomic<uintptr_t> windows_begin_{0};
	std::atomic<size_t> windows_size_{0}; /* 0 unless the installed plan has frames */
	/* Tensors outside a plan are on node 1. */
	bool leaves_fast_memory_ SENTINEL_GUARDED_BY(mutex_) = false;
	int inter_op_ SENTINEL_GUARDED_BY(mutex_) = 1;
	int intra_op_ SENTINEL_GUARDED_BY(mutex_) = 1;

	int budget_checks_ SENTINEL_GUARDED_BY(mutex_) = 0; /* left after a fork */
	bool forked_child_ SENTINEL_GUARDED_BY(mutex_) = false;

	PlanStatistics plan_statistics_ SENTINEL_GUARDED_BY(mutex_);
	uint64_t served_steps_ SENTINEL_GUARDED_BY(mutex_) = 0;
	uint64_t forks_ SENTINEL_GUARDED_BY(mutex_) = 0;
	uint64_t over_budget_ SENTINEL_GUARDED_BY(mutex_) = 0; /* bytes, maximum */
};

/* Marks that this thread runs an operation. Use it only while the runtime is tracking. */
class OpScope
{
public:
	OpScope(Runtime &runtime, const void *kernel, const std::string &name,
		const std::string &type, const Execution &execution);
	~OpScope();
	OpScope(const OpScope &) = delete;
	OpScope &operator=(const OpScope &) = delete;

	/* Its step is 0 if the operation does not belong to the managed step. */
	const OpRun &run() const
	{
		return run_;
	}

private:
	OpContext outer_;
	OpRun run_;
};

} // namespace sentinel

#endif
