/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's life in the process, and allocation. */
#include "runtime.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "clock.h"

namespace sentinel
{
namespace
{

/* Steps after a fork within which both processes have written nearly all shared pages. */
constexpr int kChecksAfterFork = 2;

/*
 * Half the machine's memory for each pool: the kernel's page-access counters accept as many pages
 * as the machine has, and two pools are profiled. Take little of a limited address space.
 */
size_t pool_capacity()
{
	size_t capacity = physical_memory() / 2;
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		capacity = std::min<size_t>(capacity, limit.rlim_cur / 16);
	return round_down(capacity);
}

} // namespace

Runtime &Runtime::instance()
{
	static Runtime *runtime = new Runtime; /* never destroyed, see the header */
	return *runtime;
}

Runtime::Runtime() : memory_(pool_capacity())
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

Runtime::ThreadState &Runtime::this_thread()
{
	thread_local ThreadState state;
	return state;
}

void Runtime::log(const std::string &line)
{
	fprintf(stderr, "sentinel: %s\n", line.c_str());
}

/* Hold the mutex, so that the child gets a consistent copy. */
void Runtime::before_fork()
{
	Runtime &runtime = instance();

	runtime.mutex_.lock();
	for (auto &kind : runtime.kinds_)
		if (kind.second.plan && kind.second.plan->frames())
			kind.second.plan->frames()->before_fork();
}

/*
 * Until the child exits or calls exec, a write to a shared page allocates a new page on the node of
 * the range's policy, and shared pages do not migrate. So check the budget.
 */
void Runtime::after_fork_in_parent()
{
	Runtime &runtime = instance();

	for (auto &kind : runtime.kinds_)
		if (kind.second.plan && kind.second.plan->frames())
			kind.second.plan->frames()->after_fork_in_parent();
	runtime.forks_++;
	runtime.budget_checks_ = kChecksAfterFork;
	runtime.mutex_.unlock();
}

/*
 * The child continues without steps and plans. The plan's threads do not exist in it, and the
 * counters are the parent's: leak those objects.
 */
void Runtime::after_fork_in_child()
{
	Runtime &runtime = instance();

	for (auto &kind : runtime.kinds_)
		if (kind.second.plan && kind.second.plan->frames())
			kind.second.plan->frames()->after_fork_in_child();
	runtime.windows_size_ = 0;
	new std::shared_ptr<MemoryFile>(std::move(runtime.frame_pool_));
	runtime.forked_child_ = true;
	runtime.step_state_ = StepState::closed;
	runtime.tracking_ = runtime.recording_ = runtime.leaves_fast_memory_ = false;
	new std::shared_ptr<ActivePlan>(std::move(runtime.plan_));
	new std::shared_ptr<ActivePlan>(std::move(runtime.installed_));
	for (auto &kind : runtime.kinds_)
		kind.second.profiling.abandon_in_child();
	new std::map<int, StepKind>(std::move(runtime.kinds_));
	runtime.kinds_.clear();
	runtime.step_kind_ = nullptr;
	this_thread().opened_step = 0;
	runtime.mutex_.unlock();
}

/*
 * A place that the plan has for a result of the running operation: its own, else that of another
 * run of the operation, which is as large and lives about as long. A loop may run more often than
 * in the profile, and threads may change the order of its runs. end() if there is none.
 */
TensorMemory::BlockIterator Runtime::claim_planned(size_t alignment, size_t size)
{
	const OpContext &context = this_thread().op;
	PlacementStatistics &placement = plan_statistics_.placement;
	bool taken = false;

	for (bool own : {true, false}) {
		if (!context.run.op->planned)
			break;
		for (int index : *context.run.op->planned) {
			const PlannedTensor &t = plan_->plan.tensors[index];
			/* A smaller tensor is of a smaller input, such as a short last batch. */
			if (t.k != context.allocations || size > t.size ||
			    (t.occurrence == context.occurrence) != own || t.offset % alignment)
				continue;
			auto block = memory_.claim(t.short_lived ? Pool::reserved : Pool::arena,
						   t.offset, size);
			if (block == memory_.end()) {
				taken = true;
				continue;
			}
			placement.substituted += !own;
			if (!t.short_lived)
				placement.crowded += plan_->tensor_born(block->first, size,
									context.run.position);
			return block;
		}
	}
	(taken ? placement.busy : placement.unplanned)++;
	placement.fallback_bytes += size;
	return memory_.end();
}

void *Runtime::allocate_locked(size_t alignment, size_t size)
{
	OpContext &context = this_thread().op;
	Recorder *recorder = this->recorder();
	auto block = memory_.end();
	Pool pool = leaves_fast_memory_ ? Pool::unplanned : Pool::ordinary;
	bool in_step = is_open(context.run.step);

	if (plan_ && in_step)
		block = claim_planned(alignment, size);
	else if (plan_ && step_state_ == StepState::open && !context.outside_step)
		plan_statistics_.placement.keyless += last_position_ >= 0;
	else if (recorder)
		pool = context.outside_step ? Pool::unplanned : step_kind_->profiling.pool();
	for (Pool fallback : {pool, Pool::ordinary, Pool::system}) {
		if (block != memory_.end())
			break;
		block = memory_.allocate(fallback, alignment, size);
		if (block == memory_.end() && fallback == Pool::profile)
			step_kind_->profiling.set_pool_full();
	}
	if (block == memory_.end())
		return nullptr;
	if (recorder && !context.outside_step) {
		Untraced untraced;
		block->second.record = recorder->add_birth(
			block->first, block->second.size, in_step ? context.run.position : -1,
			context.allocations, block->second.capacity != 0);
	}
	if (in_step) {
		block->second.step = step_;
		context.allocations++;
	}
	return const_cast<char *>(block->first);
}

void *Runtime::allocate(size_t alignment, size_t size)
{
	MutexLock lock(mutex_);

	try {
		return allocate_locked(alignment, size);
	} catch (const std::bad_alloc &) {
		return nullptr;
	}
}

void Runtime::release(void *p)
{
	MutexLock lock(mutex_);
	auto block = memory_.find(p);

	if (block == memory_.end() || block->first != p) {
		char line[64];
		snprintf(line, sizeof(line), "free of unknown pointer %p", p);
		log(line);
		return;
	}
	if (recorder() && block->second.record >= 0) {
		const OpRun &run = this_thread().op.run;
		Untraced untraced;
		recorder()->add_death(block->second.record, is_open(run.step) ? run.position : -1);
	}
	if (!block->second.name.empty()) {
		auto variable = variables_.find(block->second.name);
		if (variable != variables_.end() && variable->second == p)
			variables_.erase(variable);
	}
	if (block->second.pool == Pool::arena)
		if (ActivePlan *plan = plan_of(block->first))
			plan->tensor_died(block->first, block->second.size);
	memory_.release(block);
}

PoolStatistics Runtime::memory_usage()
{
	MutexLock lock(mutex_);

	return memory_.total();
}

bool Runtime::limit_fast(bool interleave, size_t budget)
{
	MutexLock lock(mutex_);

	return memory_.limit_fast(interleave, budget);
}
} // namespace sentinel
