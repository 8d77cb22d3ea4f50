/* SPDX-License-Identifier: Apache-2.0 */
/* Steps, and the steps that are profiled. */
#include "runtime.h"

namespace sentinel
{

bool Runtime::is_open(uint64_t step) const
{
	return step && step_state_ == StepState::open && step == step_;
}

uint64_t Runtime::opened_step()
{
	return this_thread().opened_step;
}

void Runtime::step_awaits(uint64_t step, const std::string &operation)
{
	MutexLock lock(mutex_);

	if (!is_open(step))
		return;
	awaited_operation_ = operation;
	awaiting_ = true;
}

uint64_t Runtime::awaited_step(const std::function<bool(const std::string &)> &has_operation)
{
	if (!awaiting_)
		return 0;
	MutexLock lock(mutex_);
	bool awaited = step_state_ == StepState::open && execution_ < 0 && awaiting_;

	return awaited && has_operation(awaited_operation_) ? step_ : 0;
}

void Runtime::set_session_threads(int inter_op, int intra_op)
{
	MutexLock lock(mutex_);

	inter_op_ = inter_op;
	intra_op_ = intra_op;
}

StepKind &Runtime::kind(int number)
{
	return kinds_.emplace(number, memory_).first->second;
}

/* The recorder of the open step; nullptr if the step is not being recorded. */
Recorder *Runtime::recorder()
{
	return step_kind_ ? step_kind_->profiling.recorder() : nullptr;
}

void Runtime::open_step(int number, int plan_kind)
{
	step_kind_ = &kind(number);
	StepKind &planned = kind(plan_kind);
	if (step_kind_->profiling.steps_left()) {
		plan_.reset();
		install(nullptr);
	} else {
		if (planned.next_plan)
			start_plan(planned);
		plan_ = planned.plan;
		if (plan_)
			install(plan_);
	}
	uint64_t id = plan_ ? plan_->id : 0;
	if (step_kind_->ops_plan != id) {
		step_kind_->ops.clear();
		step_kind_->ops_plan = id;
	}
	step_state_ = StepState::open;
	step_++;
	execution_ = -1;
	awaiting_ = false;
	last_position_ = plan_position_ = -1;
	graph_hash_ = 0;
	op_names_.clear();
	plan_statistics_.placement = PlacementStatistics();
	incomplete_ = false;
	step_kind_->profiling.step_begin();
	recording_ = recorder() != nullptr;
	tracking_ = recording_ || plan_;
}

uint64_t Runtime::step_begin(int kind, int plan_kind)
{
	ThreadState &thread = this_thread();
	std::shared_ptr<ActivePlan> plan;
	uint64_t step;
	bool left_open;
	{
		MutexLock lock(mutex_);
		bool own_step_open = is_open(thread.opened_step);
		/* A step within an operation of the open step, such as a py_func's. */
		bool nested = own_step_open && thread.op.run.step == step_;
		left_open = own_step_open && !nested && execution_ >= 0;
		if (own_step_open && !nested && !left_open)
			return step_;
		step = step_;
		if (forked_child_ || (step_state_ != StepState::closed && !left_open)) {
			served_steps_++;
			return 0;
		}
	}
	if (left_open)
		step_end(step, false);
	{
		MutexLock lock(mutex_);
		if (step_state_ != StepState::closed) {
			served_steps_++;
			return 0;
		}
		open_step(kind, plan_kind);
		step = step_;
		plan = plan_;
	}
	thread.opened_step = step;
	if (plan)
		plan->step_begin(step);
	return step;
}

void Runtime::step_end(uint64_t step, bool completed)
{
	ThreadState &thread = this_thread();
	std::shared_ptr<ActivePlan> plan;
	StepStatistics statistics;
	bool matches = false;
	{
		MutexLock lock(mutex_);
		if (!is_open(step))
			return;
		step_state_ = StepState::closing;
		tracking_ = recording_ = false;
		completed &= !incomplete_;
		plan = plan_;
		matches = plan_ && completed && matches_plan();
	}
	if (thread.opened_step == step)
		thread.opened_step = 0;
	if (plan)
		statistics = plan->step_end(matches); /* may wait for migrations */
	MutexLock lock(mutex_);
	if (completed)
		step_kind_->profiling.step_end(inter_op_, intra_op_);
	else
		step_kind_->profiling.step_abandon();
	if (plan_) {
		plan_statistics_.add_step(statistics);
		check_planned_step(completed, matches);
	}
	for (auto &kind : kinds_)
		if (kind.second.plan_ends)
			retire_plan(kind.second);
	step_state_ = StepState::closed;
}

bool Runtime::profile_begin(int number, bool traced)
{
	plan_end(number);
	MutexLock lock(mutex_);

	if (forked_child_ || !memory_.complete()) {
		log(forked_child_ ? "cannot profile a forked child: profile the parent process"
				  : "no address space for profiled tensors (check ulimit -v)");
		return false;
	}
	StepKind &profiled = kind(number);
	if (step_kind_ == &profiled)
		recording_ = false;
	profiled.profiling.begin(traced);
	profiled.needs_profile = false;
	return true;
}

int Runtime::profile_steps_left(int number)
{
	MutexLock lock(mutex_);

	return kind(number).profiling.steps_left();
}

std::unique_ptr<Profile> Runtime::profile_end(int number)
{
	MutexLock lock(mutex_);
	StepKind &profiled = kind(number);

	if (step_kind_ == &profiled)
		recording_ = false;
	return profiled.profiling.end();
}

} // namespace sentinel
