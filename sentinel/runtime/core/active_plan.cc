/* SPDX-License-Identifier: Apache-2.0 */
#include "active_plan.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

#include "clock.h"
#include "frame_system.h"

namespace sentinel
{
namespace
{

uint64_t next_id()
{
	static std::atomic<uint64_t> last{0};

	return ++last;
}

/* The moves that are not by frames. Without `waits` for groups, each is due by its own position. */
Plan moves_by_pages(const Plan &plan, bool by_frames)
{
	Plan pages;

	pages.ops = plan.ops;
	pages.waits = plan.waits;
	for (const Move &move : plan.moves) {
		bool of_group = move.tensor < 0;
		if (of_group && by_frames)
			continue;
		pages.moves.push_back(move);
		if (of_group && plan.has_frames && move.to == kFast)
			pages.waits.push_back(move.before);
	}
	std::sort(pages.waits.begin(), pages.waits.end());
	pages.waits.erase(std::unique(pages.waits.begin(), pages.waits.end()), pages.waits.end());
	return pages;
}

} // namespace

ActivePlan::ActivePlan(Plan parsed, std::shared_ptr<Arena> reserved_pool,
		       const std::function<FramePool()> &frame_pool,
		       std::function<PageRange(const std::string &)> variable_pages, Log log)
    : plan(std::move(parsed)), id(next_id()), reserved(std::move(reserved_pool)),
      arena(std::make_shared<Arena>(plan.arena, true, false, plan.has_frames)),
      variable_pages_(std::move(variable_pages)), log_(std::move(log))
{
	/* Without a second node nothing migrates, as start_plan() reports. */
	if (plan.has_frames && frame_system().two_nodes())
		make_frames(frame_pool);
	fast_budget_.reset(new FastBudget(
		plan.migratable_budget + (frames_ ? 0 : plan.frames),
		[](char *start, size_t size, int node) { prefer_node(start, size, node); }));
	for (const Group &group : plan.groups) {
		if (group.keep || frames_)
			arena->keep(group.offset, group.size);
		else
			fast_budget_->add_group(arena->mapping().base() + group.offset, group.size,
						group.node);
	}
	page_moves_ = moves_by_pages(plan, frames_ != nullptr);
	executor_.reset(new Executor(
		page_moves_, [this](const Move &move) { return resolve(move); },
		[this](char *start, size_t size, int node) { return migrate(start, size, node); },
		now_ns));
}

/* Nothing has changed if the system refuses. */
void ActivePlan::make_frames(const std::function<FramePool()> &frame_pool)
{
	std::string reason;

	try {
		frames_.reset(new FrameExecutor(plan, arena->mapping(), frame_pool(), now_ns,
						std::min(plan.cores, migration_cores())));
		return;
	} catch (const std::system_error &e) {
		reason = e.what();
	} catch (const std::bad_alloc &) {
		reason = "no addresses for windows";
	}
	log_("cannot migrate by frames (" + reason + "): the plan's groups use move_pages");
	/* Without windows that were mapped already */
	for (const Group &group : plan.groups)
		if (!group.keep)
			arena->mapping().renew(group.offset, group.size);
}

size_t ActivePlan::tensor_born(const char *start, size_t size, int run)
{
	return frames_ ? frames_->tensor_born(start, size, run)
		       : fast_budget_->tensor_born(start, size);
}

void ActivePlan::tensor_died(const char *start, size_t size)
{
	if (frames_)
		frames_->tensor_died(start, size);
	else
		fast_budget_->tensor_died(start, size);
}

/* Several windows may show the same range of the pool, so count their files. */
std::vector<size_t> ActivePlan::residency() const
{
	const Mapping &mapping = arena->mapping();

	if (!frames_)
		return sentinel::residency(mapping.base(), mapping.size());
	std::vector<size_t> bytes = frames_->residency();
	for (const Group &group : plan.groups)
		if (group.keep) {
			auto kept = sentinel::residency(mapping.base() + group.offset, group.size);
			bytes[kFast] += kept[kFast];
			bytes[kSlow] += kept[kSlow];
		}
	return bytes;
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
		if (group.keep || !frames_)
			prefer(arena->mapping(), group.offset, group.size, group.node);
	errno = error;
	return success;
}

/* Promotions need space in the budget. The first refusal of the system is logged. */
MoveResult ActivePlan::migrate(char *start, size_t size, int node)
{
	MoveResult result;

	if (node == kFast && !fast_budget_->reserve(start, size)) {
		result.failed = size;
		return result;
	}
	result = move_pages(start, size, node);
	fast_budget_->moved(start, size, node, result);
	if (result.error && !immovable_.exchange(true))
		log_("cannot migrate pages (move_pages: " + std::string(strerror(result.error)) +
		     "): they stay where they are");
	return result;
}

void ActivePlan::step_begin(uint64_t step)
{
	MutexLock lock(mutex_);

	current_step_ = step;
	executor_->step_begin();
	if (frames_)
		frames_->step_begin(step, executor_->waits());
}

void ActivePlan::advance_to(uint64_t step, int position)
{
	MutexLock lock(mutex_);

	if (step != current_step_)
		return;
	executor_->advance(position);
	if (frames_)
		frames_->advance(position);
}

StepStatistics ActivePlan::step_end(bool typical)
{
	MutexLock lock(mutex_);

	StepStatistics by_frames;

	current_step_ = 0;
	if (frames_)
		frames_->step_end(by_frames);
	return executor_->step_end(typical, by_frames);
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
		if (group.keep || !frames_)
			fast_budget_->moved(base + group.offset, group.size, kSlow,
					    move_pages(base + group.offset, group.size, kSlow));
}

void ActivePlan::suspend()
{
	executor_->drain();
	if (frames_)
		frames_->suspend();
	leave_fast_memory();
}

void ActivePlan::resume()
{
	try {
		if (frames_)
			frames_->resume();
	} catch (const std::system_error &e) {
		log_("no fast memory for the plan's groups (" + std::string(e.what()) +
		     "): they are born on node 1");
	}
}

void ActivePlan::retire()
{
	executor_->stop();
	if (frames_)
		frames_->retire();
	if (node_exists(kSlow) && arena->mapping().size())
		arena->mapping().prefer(0, arena->mapping().size(), kSlow);
	leave_fast_memory();
}

} // namespace sentinel
