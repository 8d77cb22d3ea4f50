/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of the managed step, and their use of tensors. */
#include <algorithm>
#include <new>

#include "clock.h"
#include "runtime.h"

namespace sentinel
{
namespace
{

/* FNV-1a, then mixed as in splitmix64, because hashes of names are summed. */
uint64_t hash_of(const std::string &name)
{
	uint64_t x = 0xcbf29ce484222325;

	for (char c : name)
		x = (x ^ uint8_t(c)) * 0x100000001b3;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

} // namespace

std::shared_ptr<Op> Runtime::lookup_op(const void *kernel, const std::string &name,
				       const std::string &type)
{
	std::shared_ptr<Op> &op = step_kind_->ops[kernel];

	/* A new kernel, possibly of another session at an address that was used before. */
	if (!op || op->name != name || op->type != type) {
		op = std::make_shared<Op>();
		op->name = name;
		op->type = type;
		op->effect = effect_of(type);
		op->name_hash = hash_of(name);
		if (plan_) {
			auto planned = plan_->plan.by_op.find(name);
			if (planned != plan_->plan.by_op.end())
				op->planned = &planned->second;
			auto uses = plan_->plan.uses_by_op.find(name);
			if (uses != plan_->plan.uses_by_op.end())
				op->uses = &uses->second;
		}
	}
	if (op->last_step != step_) {
		op->last_step = step_;
		op->runs = 0;
	}
	return op;
}

OpRun Runtime::op_begin(const void *kernel, const std::string &name, const std::string &type,
			const Execution &execution)
{
	OpContext context;
	std::shared_ptr<ActivePlan> plan;
	int plan_position = -1;
	{
		MutexLock lock(mutex_);
		if (execution_ < 0 && is_open(execution.step))
			execution_ = execution.id;
		bool in_step = step_state_ == StepState::open && execution.id >= 0 &&
			       execution.id == execution_;
		context.outside_step = !in_step;
		if (in_step) {
			std::shared_ptr<Op> op = lookup_op(kernel, name, type);
			context.occurrence = op->runs++;
			context.run = OpRun{step_, op, ++last_position_};
			graph_hash_ += op->name_hash;
			if (plan_) {
				context.run.use = find_use(*op, context.occurrence);
				context.run.holds = plan_->frames() != nullptr;
				plan_position = reach_plan_position(*op, context.occurrence);
			}
			plan = plan_;
			if (Recorder *recorder = this->recorder())
				recorder->op_begin(name, type, context.occurrence, now_ns());
			else if (plan_ && !plan_->graph_hash)
				op_names_.push_back(name);
		}
	}
	this_thread().op = context;
	if (plan)
		plan->advance_to(context.run.step, plan_position);
	return context.run;
}

/*
 * The plan's position that the step has reached when this operation begins. Counting operations
 * would not do: those that wait for nothing, such as variables and constants, begin earlier or
 * later from step to step.
 */
int Runtime::reach_plan_position(const Op &op, int occurrence)
{
	if (op.planned)
		for (int index : *op.planned) {
			const PlannedTensor &t = plan_->plan.tensors[index];
			if (t.occurrence == occurrence)
				plan_position_ = std::max(plan_position_, t.position);
		}
	int use = find_use(op, occurrence);
	if (use >= 0)
		plan_position_ = std::max(plan_position_, plan_->plan.uses[use].position);
	return plan_position_;
}

/* The index of the operation's run in the plan's uses, or -1. */
int Runtime::find_use(const Op &op, int occurrence)
{
	if (op.uses)
		for (int use : *op.uses)
			if (plan_->plan.uses[use].occurrence == occurrence)
				return use;
	return -1;
}

/* The plan of the step if that is open; else nullptr. */
std::shared_ptr<ActivePlan> Runtime::plan_of_step(uint64_t step)
{
	MutexLock lock(mutex_);

	return is_open(step) ? plan_ : nullptr;
}

void Runtime::hold(const OpRun &run, const std::vector<TensorRange> &tensors)
{
	if (tensors.empty())
		return;
	if (auto plan = plan_of_step(run.step))
		if (plan->frames())
			plan->frames()->hold(run.step, run.position, tensors);
}

void Runtime::op_end(const OpRun &run, const std::vector<TensorRange> &written)
{
	if (run.holds)
		if (auto plan = plan_of_step(run.step))
			if (plan->frames())
				plan->frames()->op_ended(run.step, run.position, run.use, written);
	if (!recording())
		return;
	MutexLock lock(mutex_);
	if (is_open(run.step) && recorder())
		recorder()->op_end(run.position, now_ns());
}

void Runtime::record_use(const OpRun &run, const void *p, size_t size, bool reads, bool writes)
{
	MutexLock lock(mutex_);
	Recorder *recorder = this->recorder();

	if (!is_open(run.step) || !recorder)
		return;
	try {
		auto it = memory_.find(p);
		if (it == memory_.end()) {
			recorder->add_foreign_use(size);
			return;
		}
		Block &block = it->second;
		if (block.record < 0) {
			block.record =
				recorder->add_existing(it->first, block.size, block.capacity != 0);
			recorder->set_name(block.record, block.name);
		}
		if (reads || writes)
			recorder->add_use(block.record, run.position, reads, writes);
	} catch (const std::bad_alloc &) {
		stop_tracking();
	}
}

void Runtime::set_name(const OpRun &run, const void *p, const std::string &name)
{
	MutexLock lock(mutex_);

	if (!is_open(run.step))
		return;
	try {
		auto it = memory_.find(p);
		if (it == memory_.end() || it->second.step == step_)
			return;
		Block &block = it->second;
		if (block.name.empty()) {
			block.name = name;
			variables_[name] = it->first;
		}
		if (recorder() && block.record >= 0)
			recorder()->set_name(block.record, block.name);
	} catch (const std::bad_alloc &) {
		stop_tracking();
	}
}

/* Leave the rest of the step unmanaged. */
void Runtime::stop_tracking()
{
	tracking_ = recording_ = false;
	if (!incomplete_.exchange(true))
		log("out of memory while tracking a step: the step continues unmanaged");
}

OpScope::OpScope(Runtime &runtime, const void *kernel, const std::string &name,
		 const std::string &type, const Execution &execution)
    : outer_(Runtime::this_thread().op)
{
	try {
		run_ = runtime.op_begin(kernel, name, type, execution);
		WriteGuard::set_operation(run_.holds ? run_.op->name.c_str() : nullptr);
	} catch (const std::bad_alloc &) {
		runtime.stop_tracking();
	}
}

/* The thread returns to the operation around this one. */
OpScope::~OpScope()
{
	const OpRun &outer = outer_.run;

	WriteGuard::set_operation(outer.holds ? outer.op->name.c_str() : nullptr);
	Runtime::this_thread().op = std::move(outer_);
}

} // namespace sentinel
