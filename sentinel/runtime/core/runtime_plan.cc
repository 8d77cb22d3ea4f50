/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: when one begins and ends, where its variables are, and whether steps match it. */
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "runtime.h"

namespace sentinel
{
namespace
{

/* A plan that misses more than one in kMissesAllowed tensors, in kMismatchesAllowed steps in a
 * row, no longer fits. */
constexpr size_t kMissesAllowed = 20;
constexpr uint64_t kMismatchesAllowed = 2;

void log_unbound(int error)
{
	Runtime::log("cannot set the memory policy (mbind: " + std::string(strerror(error)) +
		     "): pages are wherever the system allocates them");
}

} // namespace

/* Between steps: keep tensors outside plans off node 0 from now on. False (errno) on failure. */
bool Runtime::evict_unplanned()
{
	leaves_fast_memory_ = true;
	memory_.trim();
	return memory_.move_to_slow();
}

void Runtime::leave_fast_memory()
{
	MutexLock lock(mutex_);

	if (!evict_unplanned())
		log_unbound(errno);
}

void Runtime::plan_begin(const std::string &text, int number)
{
	Plan plan = parse_plan(text);
	std::shared_ptr<ActivePlan> next;
	size_t pool_bytes = plan.reserved + plan.arena;
	auto pages = [this](const std::string &variable) {
		MutexLock lock(mutex_);
		return variable_pages(variable);
	};
	try {
		std::shared_ptr<Arena> reserved;
		{
			MutexLock lock(mutex_);
			if (forked_child_)
				throw std::runtime_error("a forked child cannot execute a plan");
			if (!memory_.complete())
				throw std::runtime_error("no address space for tensors outside the "
							 "plan (check ulimit -v)");
			reserved = reserved_pool(plan.reserved);
		}
		next = std::make_shared<ActivePlan>(
			std::move(plan), std::move(reserved), [this] { return frame_pool(); },
			pages, log);
	} catch (const std::bad_alloc &) {
		throw std::runtime_error("cannot reserve " + std::to_string(pool_bytes) +
					 " bytes of addresses for the plan's pools");
	} catch (const std::system_error &e) {
		throw std::runtime_error(std::string("cannot create migration threads: ") +
					 e.what());
	}
	MutexLock lock(mutex_);
	StepKind &planned = kind(number);
	planned.next_plan = std::move(next);
	planned.plan_ends = false;
	planned.needs_profile = false;
}

void Runtime::plan_end(int number)
{
	MutexLock lock(mutex_);
	StepKind &planned = kind(number);

	planned.next_plan.reset();
	if (!planned.plan)
		return;
	if (step_state_ == StepState::closed) {
		retire_plan(planned);
	} else if (!planned.plan_ends) {
		planned.plan_ends = true;
		log("the plan ends at the end of the open step");
	}
}

/* Between steps: replace the kind's plan, if any, by the next one. */
void Runtime::start_plan(StepKind &planned)
{
	retire_plan(planned);
	install(nullptr);
	ActivePlan &plan = *(planned.plan = std::move(planned.next_plan));
	planned.planned_steps = planned.other_steps = planned.mismatches_in_a_row = 0;
	/* Tensors outside the plan must not take its fast memory. */
	bool success = evict_unplanned();
	int error = errno;
	if (!plan.set_nodes()) {
		error = errno;
		success = false;
		plan_statistics_.unbound++;
	}
	if (!node_exists(kSlow)) {
		log("no memory node 1: all pages stay on node 0");
		plan.set_immovable();
	} else if (!success) {
		log_unbound(error);
		plan.set_immovable();
	}
}

/* Between steps: let this plan use fast memory, and no other; nullptr: none. */
void Runtime::install(const std::shared_ptr<ActivePlan> &plan)
{
	if (installed_ == plan)
		return;
	if (installed_)
		installed_->suspend();
	installed_ = plan;
	memory_.set_plan_pools(plan ? plan->reserved : nullptr, plan ? plan->arena : nullptr);
	shrink_reserved_pool(plan ? plan->plan.reserved : 0);
	resize_frame_pool(plan ? plan->frame_bytes() : 0);
	bool has_frames = plan && plan->frames();
	windows_size_ = 0;
	windows_begin_ = has_frames ? uintptr_t(plan->arena->mapping().base()) : 0;
	windows_size_ = has_frames ? plan->plan.arena : 0;
	if (plan)
		plan->resume();
	set_variable_nodes();
}

/* Between steps: end the plan. Live tensors of its pools, and new ones, are on node 1. */
void Runtime::retire_plan(StepKind &planned)
{
	planned.plan_ends = false;
	if (!planned.plan)
		return;
	planned.plan->retire();
	if (installed_ == planned.plan) {
		installed_.reset();
		memory_.set_plan_pools(nullptr, nullptr);
		shrink_reserved_pool(0);
		resize_frame_pool(0);
		windows_size_ = 0;
		set_variable_nodes();
	}
	if (plan_ == planned.plan)
		plan_.reset();
	planned.plan.reset();
	planned.ops.clear();
}

/* The plan whose arena contains `p`; nullptr if it has ended. */
ActivePlan *Runtime::plan_of(const char *p)
{
	if (installed_ && installed_->arena->mapping().contains(p))
		return installed_.get();
	for (auto &kind : kinds_)
		if (kind.second.plan && kind.second.plan->arena->mapping().contains(p))
			return kind.second.plan.get();
	return nullptr;
}

PageRange Runtime::variable_pages(const std::string &name)
{
	auto variable = variables_.find(name);

	if (variable == variables_.end())
		return PageRange();
	return pages_of(variable->second, memory_.find(variable->second)->second.size);
}

/*
 * Between steps: move all variables to the nodes that the installed plan has for them when a step
 * begins, and all others to node 1. Demotions come first, so that the budget holds.
 */
void Runtime::set_variable_nodes()
{
	for (int node : {kSlow, kFast})
		for (const auto &variable : variables_) {
			const PlannedTensor *planned = nullptr;
			if (installed_) {
				auto it = installed_->plan.by_name.find(variable.first);
				if (it != installed_->plan.by_name.end())
					planned = &installed_->plan.tensors[it->second];
			}
			if ((planned ? planned->node : kSlow) != node)
				continue;
			auto block = memory_.find(variable.second);
			bool fast = block->second.node == kFast;
			/* One that migrates in steps may be on either node now. */
			if (fast != (node == kFast) || (planned && planned->moves))
				memory_.set_node(block, node);
			if (planned && planned->moves)
				installed_->add_variable(variable_pages(variable.first), node);
		}
}

/* Whether the step's operations are those of the plan's graph. */
bool Runtime::matches_plan()
{
	ActivePlan &plan = *plan_;

	if (last_position_ + 1 != plan.plan.ops)
		return false;
	if (!plan.graph_hash && graph_digest(std::move(op_names_)) == plan.plan.graph)
		plan.graph_hash = graph_hash_;
	return plan.graph_hash && plan.graph_hash == graph_hash_;
}

/* After a step with a plan: count it, and decide whether the plan still fits. */
void Runtime::check_planned_step(bool completed, bool matches)
{
	StepKind &k = *step_kind_;

	if (budget_checks_ > 0) {
		budget_checks_--;
		enforce_budget();
	}
	if (last_position_ < 0 || !completed)
		return;
	(matches ? k.planned_steps : k.other_steps)++;
	(matches ? plan_statistics_.planned_steps : plan_statistics_.other_steps)++;
	if (k.plan != plan_)
		return; /* another kind's plan serves this one meanwhile */
	/* The first step, and the first that matches, have named all of their variables. */
	if (k.planned_steps + k.other_steps == 1 || (matches && k.planned_steps == 1))
		set_variable_nodes();
	if (!matches && k.other_steps == 1)
		log("a step does not match the plan's graph (" + std::to_string(plan_->plan.ops) +
		    " operations in the plan, " + std::to_string(last_position_ + 1) +
		    " in the step): it stays within the budget, and the plan stays in force");
	const PlacementStatistics &placement = plan_statistics_.placement;
	uint64_t misses = placement.unplanned + placement.busy;
	bool fits = matches && misses * kMissesAllowed <= plan_->plan.tensors.size();
	k.mismatches_in_a_row = fits ? 0 : k.mismatches_in_a_row + 1;
	k.needs_profile = k.mismatches_in_a_row >= kMismatchesAllowed;
}

bool Runtime::needs_profile(int number)
{
	MutexLock lock(mutex_);

	return kind(number).needs_profile;
}

} // namespace sentinel
