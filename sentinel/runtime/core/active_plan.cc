/* SPDX-License-Identifier: Apache-2.0 */
#include "active_plan.h"

#include <cerrno>
#include <cstring>

#include "clock.h"

namespace sentinel
{
namespace
{

uint64_t next_id()
{
	static std::atomic<uint64_t> last{0};

	return ++last;
}

} // namespace

ActivePlan::ActivePlan(Plan parsed, std::shared_ptr<Arena> reserved_pool,
		       std::function<PageRange(const std::string &)> variable_pages, Log log)
    : plan(std::move(parsed)), id(next_id()), reserved(std::move(reserved_pool)),
      arena(std::make_shared<Arena>(plan.arena, true)), variable_pages_(std::move(variable_pages)),
      log_(std::move(log)),
      fast_budget_(plan.migratable_budget,
		   [](char *start, size_t size, int node) { prefer_node(start, size, node); }),
      executor_(
	      plan, [this](const Move &move) { return resolve(move); },
	      [this](char *start, size_t size, int node) { return migrate(start, size, node); },
	      now_ns)
{
	for (const Group &group : plan.groups) {
		if (group.keep)
			arena->keep(group.offset, group.size);
		else
			fast_budget_.add_group(arena->mapping().base() + group.offset, group.size,
					       group.node);
	}
}

PageRange ActivePlan::resolve(const Move &move)
{
	if (move.tensor < 0)
		return {arena->mapping().base() + move.offset, move.size};
	return variable_pages_(plan.tensors[move.tensor].op);
}

bool ActivePlan::set_nodes()
{
	bool success = true;
	int error = 0;
	auto prefer = [&](Mapping &mapping, size_t offset, size_t size, int node) {
		if (size && !mapping.prefer(offset, size, node)) {
			success = false;
			error = errno;
		}
	};

	prefer(reserved->mapping(), 0, round_up(reserved->extent()), kFast);
	for (const Group &group : plan.groups)
		prefer(arena->mapping(), group.offset, group.size, group.node);
	errno = error;
	return success;
}

/* Promotions need space in the budget. The first refusal of the system is logged. */
MoveResult ActivePlan::migrate(char *start, size_t size, int node)
{
	MoveResult result;

	if (node == kFast && !fast_budget_.reserve(start, size)) {
		result.failed = size;
		return result;
	}
	result = move_pages(start, size, node);
	fast_budget_.moved(start, size, node, result);
	if (result.error && !immovable_.exchange(true))
		log_("cannot migrate pages (move_pages: " + std::string(strerror(result.error)) +
		     "): they stay where they are");
	return result;
}

void ActivePlan::step_begin(uint64_t step)
{
	MutexLock lock(mutex_);

	current_step_ = step;
	executor_.step_begin();
}

void ActivePlan::advance_to(uint64_t step, int position)
{
	MutexLock lock(mutex_);

	if (step == current_step_)
		executor_.advance(position);
}

StepStatistics ActivePlan::step_end(bool typical)
{
	MutexLock lock(mutex_);

	current_step_ = 0;
	return executor_.step_end(typical);
}

/*
 * Between steps, the arena's fast pages are those that its groups keep, and those of tensors that
 * outlive their step. The reserved pool and the variables belong to the runtime.
 */
void ActivePlan::leave_fast_memory()
{
	for (const Group &group : plan.groups)
		if (group.keep && group.node == kFast)
			arena->discard_unused(group.offset, group.offset + group.size);
	if (!node_exists(kSlow) || !arena->used())
		return;
	char *base = arena->mapping().base();
	for (const Group &group : plan.groups)
		fast_budget_.moved(base + group.offset, group.size, kSlow,
				   move_pages(base + group.offset, group.size, kSlow));
}

void ActivePlan::suspend()
{
	executor_.drain();
	leave_fast_memory();
}

void ActivePlan::retire()
{
	executor_.stop();
	if (node_exists(kSlow) && arena->mapping().size())
		arena->mapping().prefer(0, arena->mapping().size(), kSlow);
	leave_fast_memory();
}

} // namespace sentinel
