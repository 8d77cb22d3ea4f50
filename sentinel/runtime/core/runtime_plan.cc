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

} // namespace

void Runtime::plan_begin(const std::string &text)
{
	Plan plan = parse_plan(text);
	{
		MutexLock lock(mutex_);
		if (forked_child_)
			throw std::runtime_error("a forked child cannot execute a plan");
		if (!memory_.complete())
			throw std::runtime_error(
				"no address space for tensors outside the plan (check ulimit -v)");
	}
	std::shared_ptr<ActivePlan> next;
	size_t pool_bytes = plan.reserved + plan.arena;
	auto pages = [this](const std::string &variable) {
		MutexLock lock(mutex_);
		return variable_pages(variable);
	};
	try {
		next = std::make_shared<ActivePlan>(std::move(plan), pages, log);
	} catch (const std::bad_alloc &) {
		throw std::runtime_error("cannot reserve " + std::to_string(pool_bytes) +
					 " bytes of addresses for the plan's pools");
	} catch (const std::system_error &e) {
		throw std::runtime_error(std::string("cannot create migration threads: ") +
					 e.what());
	}
	MutexLock lock(mutex_);
	next_plan_ = std::move(next);
	plan_ends_ = false;
	needs_profile_ = false;
}

void Runtime::plan_end()
{
	MutexLock lock(mutex_);

	next_plan_.reset();
	if (!plan_)
		return;
	if (step_state_ == StepState::closed) {
		retire_plan();
	} else if (!plan_ends_) {
		plan_ends_ = true;
		log("the plan ends at the end of the open step");
	}
}

/* Between steps: replace the plan, if any, by the next one. */
void Runtime::install_plan()
{
	retire_plan();
	ops_.clear();
	plan_ = std::move(next_plan_);
	had_plan_ = true;
	plan_statistics_.begin_plan();
	mismatches_in_a_row_ = 0;
	memory_.set_plan_pools(plan_->reserved, plan_->arena);
	/* Tensors outside the plan must not take its fast memory. */
	memory_.trim();
	bool success = memory_.move_to_slow();
	int error = errno;
	if (!plan_->set_nodes()) {
		error = errno;
		success = false;
		plan_statistics_.unbound++;
	}
	if (!node_exists(kSlow)) {
		log("no memory node 1: all pages stay on node 0");
		plan_->set_immovable();
	} else if (!success) {
		log("cannot set the memory policy (mbind: " + std::string(strerror(error)) +
		    "): pages are wherever the system allocates them");
		plan_->set_immovable();
	}
	set_variable_nodes();
}

/* Between steps: end the plan. Live tensors of its pools, and new ones, are on node 1. */
void Runtime::retire_plan()
{
	plan_ends_ = false;
	if (!plan_)
		return;
	plan_->retire();
	memory_.set_plan_pools(nullptr, nullptr);
	plan_.reset();
	ops_.clear();
}

PageRange Runtime::variable_pages(const std::string &name)
{
	auto variable = variables_.find(name);

	if (variable == variables_.end())
		return PageRange();
	return pages_of(variable->second, memory_.find(variable->second)->second.size);
}

/* Move the plan's variables to their nodes. They were allocated before the plan. */
void Runtime::set_variable_nodes()
{
	for (const auto &planned : plan_->plan.by_name) {
		auto variable = variables_.find(planned.first);
		if (variable == variables_.end())
			continue;
		const PlannedTensor &tensor = plan_->plan.tensors[planned.second];
		memory_.set_node(memory_.find(variable->second), tensor.node);
		if (tensor.moves)
			plan_->add_variable(variable_pages(planned.first), tensor.node);
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

/* After a step with the plan: count it, and decide whether the plan still fits. */
void Runtime::check_planned_step(bool completed, bool matches)
{
	PlanStatistics &s = plan_statistics_;

	if (budget_checks_ > 0) {
		budget_checks_--;
		enforce_budget();
	}
	if (last_position_ < 0 || !completed)
		return;
	(matches ? s.planned_steps : s.other_steps)++;
	/* The first step, and the first that matches, have named all of their variables. */
	if (s.planned_steps + s.other_steps == 1 || (matches && s.planned_steps == 1))
		set_variable_nodes();
	if (!matches && s.other_steps == 1)
		log("a step does not match the plan's graph (" + std::to_string(plan_->plan.ops) +
		    " operations in the plan, " + std::to_string(last_position_ + 1) +
		    " in the step): it stays within the budget, and the plan stays in force");
	uint64_t misses = s.placement.unplanned + s.placement.busy;
	bool fits = matches && misses * kMissesAllowed <= plan_->plan.tensors.size();
	mismatches_in_a_row_ = fits ? 0 : mismatches_in_a_row_ + 1;
	needs_profile_ = mismatches_in_a_row_ >= kMismatchesAllowed;
}

/* Bytes of fast memory in all pools. */
size_t Runtime::fast_bytes()
{
	size_t bytes = 0;

	for (int i = 0; i < kPools; i++)
		if (Mapping *mapping = memory_.mapping(Pool(i)))
			bytes += residency(mapping->base(), memory_.extent(Pool(i)))[kFast];
	return bytes;
}

/* After a fork: move pages that copy-on-write placed on node 0 beyond the budget. */
void Runtime::enforce_budget()
{
	size_t budget = plan_->plan.budget, fast = fast_bytes();

	if (fast <= budget || !node_exists(kSlow))
		return;
	if (!over_budget_)
		log("a fork made tensors exceed the plan's budget: moving them to node 1");
	over_budget_ = std::max<uint64_t>(over_budget_, fast - budget);
	memory_.move_to_slow();
	set_variable_nodes();
}

} // namespace sentinel
