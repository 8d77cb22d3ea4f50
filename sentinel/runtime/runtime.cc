/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "clock.h"

namespace sentinel
{
namespace
{

thread_local OpContext context;

/* A plan that misses more than one tensor in so many, in so many steps on end, fits no longer. */
constexpr size_t kMissesAllowed = 20;
constexpr uint64_t kMisfitsAllowed = 2;

/* The whole pages that [start, start + size) touches. */
Pages pages_around(const char *start, size_t size)
{
	uintptr_t begin = reinterpret_cast<uintptr_t>(start);
	size_t first = round_down(begin), last = round_up(begin + size);

	return {reinterpret_cast<char *>(first), last - first};
}

} // namespace

Runtime &Runtime::instance()
{
	static Runtime *runtime = new Runtime; /* leaked on purpose: see above */
	return *runtime;
}

/*
 * Half the machine's memory for each pool: the kernel's page-access counters take no more pages
 * than the machine has, and two pools are profiled.
 */
Runtime::Runtime() : memory_(round_down(machine_memory() / 2))
{
}

void Runtime::say(const std::string &line)
{
	fprintf(stderr, "sentinel: %s\n", line.c_str());
}

/* ---- allocation ---- */

TensorMemory::Found Runtime::claim_planned(size_t size)
{
	if (!context.op) {
		misses_.keyless += position_ >= 0;
		return memory_.end();
	}
	int k = context.allocations;
	if (context.op->planned) {
		for (int index : *context.op->planned) {
			const PlannedTensor &t = plan_->tensors[index];
			if (t.k != k || t.occurrence != context.occurrence || t.size != size)
				continue;
			auto block = memory_.claim(t.short_lived ? Pool::reserved : Pool::arena,
						   t.offset, size);
			if (block == memory_.end()) {
				misses_.busy++;
				misses_.bytes += size;
			} else if (!t.short_lived) {
				misses_.crowded += room_->born(block->first, size);
			}
			return block;
		}
	}
	misses_.unknown++;
	misses_.bytes += size;
	return memory_.end();
}

void *Runtime::allocate(size_t alignment, size_t size)
{
	std::lock_guard<std::mutex> lock(mutex_);
	auto block = memory_.end();
	Pool pool = plan_ ? Pool::unplanned : Pool::ordinary;

	if (in_step_ && plan_)
		block = claim_planned(size);
	else if (recorder_)
		pool = counts_ ? Pool::profile : Pool::unplanned; /* both on node 1 */
	if (block == memory_.end())
		block = memory_.allocate(pool, alignment, size);
	if (block == memory_.end() && pool != Pool::ordinary) {
		profile_full_ |= pool == Pool::profile;
		block = memory_.allocate(Pool::ordinary, alignment, size);
	}
	if (block == memory_.end())
		return nullptr;
	if (recorder_)
		block->second.record = recorder_->born(
			block->first, block->second.size, context.op ? context.position : -1,
			context.allocations, block->second.capacity != 0);
	if (context.op) {
		block->second.step = step_;
		context.allocations++;
	}
	return const_cast<char *>(block->first);
}

void Runtime::release(void *p)
{
	std::lock_guard<std::mutex> lock(mutex_);
	auto block = memory_.find(p);

	if (block == memory_.end() || block->first != p) {
		say("something was given back that was never allocated");
		return;
	}
	if (recorder_ && block->second.record >= 0)
		recorder_->dead(block->second.record, context.op ? context.position : -1);
	if (!block->second.name.empty()) {
		auto named = named_.find(block->second.name);
		if (named != named_.end() && named->second == p)
			named_.erase(named);
	}
	if (room_ && block->second.pool == Pool::arena)
		room_->dead(block->first, block->second.size);
	memory_.release(block);
}

size_t Runtime::size_of(const void *p)
{
	std::lock_guard<std::mutex> lock(mutex_);
	auto block = memory_.find(p);

	return block == memory_.end() ? 0 : block->second.size;
}

size_t Runtime::live()
{
	std::lock_guard<std::mutex> lock(mutex_);

	return memory_.total().live;
}

bool Runtime::limit(bool interleave, size_t budget)
{
	std::lock_guard<std::mutex> lock(mutex_);

	return memory_.limit(interleave, budget);
}

size_t Runtime::peak()
{
	std::lock_guard<std::mutex> lock(mutex_);

	return memory_.total().peak;
}

uint64_t Runtime::allocations()
{
	std::lock_guard<std::mutex> lock(mutex_);

	return memory_.total().allocations;
}

/* ---- operations ---- */

Op *Runtime::op_begin(const void *kernel, const std::string &name, const std::string &type,
		      int64_t id, OpContext &before)
{
	if (id < 0)
		return nullptr;
	Op *op;
	int progress;
	{
		std::lock_guard<std::mutex> lock(mutex_);
		if (id_ < 0)
			id_ = id;
		if (id_ != id || !in_step_)
			return nullptr;
		op = &ops_[kernel];
		if (op->name != name || op->type != type) {
			/* New, or another session's at an address that was used before. */
			*op = Op();
			op->name = name;
			op->type = type;
			op->effect = effect_of(type);
			if (plan_) {
				auto planned = plan_->by_op.find(name);
				if (planned != plan_->by_op.end())
					op->planned = &planned->second;
			}
		}
		if (op->step != step_) {
			op->step = step_;
			op->runs = 0;
		}
		before = context;
		context = OpContext();
		context.op = op;
		context.occurrence = op->runs++;
		context.position = ++position_;
		progress = advance_to(*op);
		if (recorder_)
			recorder_->op_begin(name, type, context.occurrence, now_ns());
		else if (planned_steps_ == 0)
			names_.push_back(name);
	}
	if (executor_) {
		std::lock_guard<std::mutex> lock(advance_);
		executor_->advance(progress);
	}
	return op;
}

/*
 * How far the step has come, when this operation begins. Not by counting: what waits for nothing,
 * like variables and constants, begins early or late, as TensorFlow's threads happen to run.
 */
int Runtime::advance_to(const Op &op)
{
	if (op.planned)
		for (int index : *op.planned) {
			const PlannedTensor &t = plan_->tensors[index];
			if (t.occurrence == context.occurrence)
				progress_ = std::max(progress_, t.position);
		}
	return progress_;
}

void Runtime::op_leave(const OpContext &before)
{
	context = before;
}

void Runtime::op_end(int position)
{
	if (!recording())
		return;
	std::lock_guard<std::mutex> lock(mutex_);
	if (recorder_)
		recorder_->op_end(position, now_ns());
}

int Runtime::position()
{
	return context.position;
}

void Runtime::used(const void *p, size_t size, int position, bool reads, bool writes)
{
	std::lock_guard<std::mutex> lock(mutex_);

	if (!recorder_)
		return;
	auto found = memory_.find(p);
	if (found == memory_.end()) {
		recorder_->foreign(size);
		return;
	}
	Block &block = found->second;
	if (block.record < 0) {
		block.record = recorder_->found(found->first, block.size, block.capacity != 0);
		recorder_->named(block.record, block.name);
	}
	if (reads || writes)
		recorder_->used(block.record, position, reads, writes);
}

void Runtime::named(const void *p, const std::string &name)
{
	std::lock_guard<std::mutex> lock(mutex_);
	auto found = memory_.find(p);

	if (found == memory_.end() || found->second.step == step_)
		return;
	if (found->second.name.empty()) {
		found->second.name = name;
		named_[name] = found->first;
	}
	if (recorder_ && found->second.record >= 0)
		recorder_->named(found->second.record, found->second.name);
}

/* ---- steps ---- */

void Runtime::threads(int inter_op, int intra_op)
{
	std::lock_guard<std::mutex> lock(mutex_);

	inter_op_ = inter_op;
	intra_op_ = intra_op;
}

void Runtime::step_begin()
{
	{
		std::lock_guard<std::mutex> lock(mutex_);
		if (in_step_)
			return; /* one step within another is that one */
		if (next_plan_)
			install();
		in_step_ = true;
		step_++;
		id_ = -1;
		position_ = progress_ = -1;
		misses_ = Misses();
		names_.clear();
		if (stage_ != Stage::idle)
			begin_recording();
		recording_ = recorder_ != nullptr;
		watching_ = recorder_ || plan_;
	}
	if (executor_)
		executor_->step_begin();
}

void Runtime::step_end()
{
	StepStatistics step;

	if (executor_) {
		std::lock_guard<std::mutex> lock(advance_);
		step = executor_->step_end();
	}
	std::unique_lock<std::mutex> lock(mutex_);
	if (!in_step_)
		return;
	in_step_ = false;
	watching_ = recording_ = false;
	if (recorder_)
		finish_recording();
	if (executor_)
		check_step(step);
	if (!plan_ && executor_) {
		std::unique_ptr<Executor> over = std::move(executor_);
		lock.unlock(); /* its threads may be resolving nothing, but they are to be joined */
	}
}

/* ---- profile ---- */

void Runtime::profile_begin()
{
	plan_end();
	std::lock_guard<std::mutex> lock(mutex_);
	stage_ = Stage::times;
	times_.reset();
	profile_.reset();
	reprofile_ = false;
}

/* Profiles are of slow memory (section III of the paper): what is there already goes there too. */
void Runtime::lend()
{
	if (!node_exists(kSlow))
		return;
	for (auto &block : memory_.blocks()) {
		Pages pages = pages_around(block.first, block.second.size);
		if (residency(pages.start, pages.size)[kFast] == 0)
			continue;
		move_pages(pages.start, pages.size, kSlow);
		lent_.push_back(pages);
	}
}

/* And back. */
void Runtime::take_back()
{
	for (const Pages &pages : lent_)
		move_pages(pages.start, pages.size, kFast);
	lent_.clear();
}

void Runtime::begin_recording()
{
	if (stage_ == Stage::times)
		lend();
	for (auto &block : memory_.blocks())
		const_cast<Block &>(block.second).record = -1;
	profile_full_ = false;
	counts_.reset(stage_ == Stage::counts ? new PageCounts : nullptr);
	static const PageCounts none;
	recorder_.reset(new Recorder(counts_ ? *counts_ : none));
	if (!counts_)
		return;
	Mapping *profile = memory_.mapping(Pool::profile);
	counts_->add(profile->base(), profile->size());
	counts_->add(memory_.mapping(Pool::ordinary)->base(), memory_.extent(Pool::ordinary));
	if (!counts_->start())
		recorder_->warn("no counts by the kernel: " + counts_->error());
}

void Runtime::finish_recording()
{
	if (profile_full_)
		recorder_->warn("not all tensors had pages of their own: there was no room");
	std::unique_ptr<Profile> made(new Profile(recorder_->finish(modelled())));
	made->inter_op = inter_op_;
	made->intra_op = intra_op_;
	recorder_.reset();
	if (made->ops.empty())
		return; /* nothing ran: wait for a step in which something does */
	if (stage_ == Stage::times) {
		times_ = std::move(made);
		stage_ = Stage::counts;
		return;
	}
	counts_.reset();
	take_back();
	memory_.trim();
	stage_ = Stage::idle;
	profile_ = std::move(made);
	if (times_->graph != profile_->graph) {
		profile_->warnings.push_back("the two profiled steps differ: times are of the step "
					     "that was counted in, and too long");
		return;
	}
	std::map<std::pair<std::string, int>, const ProfiledOp *> times;
	for (const ProfiledOp &op : times_->ops)
		times[{op.name, op.occurrence}] = &op;
	bool same = std::equal(times_->ops.begin(), times_->ops.end(), profile_->ops.begin(),
			       [](const ProfiledOp &a, const ProfiledOp &b) {
				       return a.name == b.name && a.occurrence == b.occurrence;
			       });
	profile_->step_ns = times_->step_ns;
	uint64_t begin = 0;
	for (ProfiledOp &op : profile_->ops) {
		const ProfiledOp &timed = *times.at({op.name, op.occurrence});
		uint64_t took = timed.end_ns - timed.begin_ns;
		/* In another order each is as long as it was, one after the other. */
		op.begin_ns = same ? timed.begin_ns : begin;
		op.end_ns = op.begin_ns + took;
		begin = op.end_ns;
	}
}

std::unique_ptr<Profile> Runtime::profile_end()
{
	std::lock_guard<std::mutex> lock(mutex_);

	take_back();
	stage_ = Stage::idle;
	if (!profile_ && times_) {
		profile_ = std::move(times_);
		profile_->warnings.push_back("one step only: no counts by the kernel");
	}
	return std::move(profile_);
}

/* ---- plan ---- */

void Runtime::plan_begin(const std::string &text)
{
	std::shared_ptr<Plan> plan(new Plan(parse_plan(text)));
	std::lock_guard<std::mutex> lock(mutex_);

	next_plan_ = plan;
	reprofile_ = false;
}

void Runtime::plan_end()
{
	std::unique_ptr<Executor> over;
	{
		std::lock_guard<std::mutex> lock(mutex_);
		next_plan_.reset();
		if (in_step_ || !plan_)
			return;
		over = std::move(executor_);
		plan_.reset();
		ops_.clear();
	}
}

/* With the lock held, between steps. */
void Runtime::install()
{
	executor_.reset();
	ops_.clear();
	plan_ = std::move(next_plan_);
	planned_steps_ = misfits_ = no_such_node_ = 0;
	memory_.plan(plan_->reserved, plan_->arena);
	/* What the plan does not place would sit in fast memory that it counts on. */
	memory_.trim();
	if (node_exists(kSlow))
		move_pages(memory_.mapping(Pool::ordinary)->base(), memory_.extent(Pool::ordinary),
			   kSlow);
	int refused = 0;
	auto prefer = [&](Pool pool, size_t offset, size_t size, int node) {
		if (memory_.mapping(pool)->prefer(offset, size, node))
			return;
		refused = errno;
		no_such_node_++;
	};
	if (plan_->reserved)
		prefer(Pool::reserved, 0, round_up(plan_->reserved), kFast);
	Mapping *arena = memory_.mapping(Pool::arena);
	room_.reset(new Room(plan_->room, [arena](char *start, size_t size, int node) {
		arena->prefer(start - arena->base(), size, node);
	}));
	for (const Group &group : plan_->groups) {
		prefer(Pool::arena, group.offset, group.size, group.node);
		if (group.keep)
			memory_.keep(group.offset, group.size);
		else
			room_->add(arena->base() + group.offset, group.size, group.node);
	}
	unmovable_ = false;
	if (!node_exists(kSlow)) {
		say("there is no memory node 1: everything stays on node 0");
		unmovable_ = true;
	} else if (refused) {
		say("memory cannot be placed (mbind: " + std::string(strerror(refused)) +
		    "): it is where the system puts it");
		unmovable_ = true;
	}
	place_named();
	executor_.reset(new Executor(
		*plan_, [this](const Move &move) { return resolve(move); },
		[this](char *start, size_t size, int node) { return moved(start, size, node); },
		now_ns));
}

/* A helper moves pages, if there is room. The first time that the system refuses to is told. */
Moved Runtime::moved(char *start, size_t size, int node)
{
	Moved moved;

	if (node == kFast && !room_->take(start, size)) {
		moved.failed = size;
		return moved;
	}
	moved = move_pages(start, size, node);
	room_->moved(start, size, node, moved);
	if (moved.error && !unmovable_.exchange(true))
		say("no page could be moved (move_pages: " + std::string(strerror(moved.error)) +
		    "): they stay where they are");
	return moved;
}

Pages Runtime::pages_of(const std::string &name)
{
	auto named = named_.find(name);

	if (named == named_.end())
		return Pages();
	return pages_around(named->second, memory_.find(named->second)->second.size);
}

Pages Runtime::resolve(const Move &move)
{
	std::lock_guard<std::mutex> lock(mutex_);

	if (!plan_)
		return Pages();
	if (move.tensor >= 0)
		return pages_of(plan_->tensors[move.tensor].op);
	return {memory_.mapping(Pool::arena)->base() + move.offset, move.size};
}

/* What was there before the plan is wherever it was born. */
void Runtime::place_named()
{
	for (const auto &named : plan_->by_name) {
		Pages pages = pages_of(named.first);
		const PlannedTensor &tensor = plan_->tensors[named.second];
		if (!pages.size)
			continue;
		move_pages(pages.start, pages.size, tensor.node);
		if (tensor.moves)
			room_->add_living(pages.start, pages.size, tensor.node);
	}
}

/* With the lock held, after a step. */
void Runtime::check_step(const StepStatistics &step)
{
	last_ = step;
	all_moves_.promoted += step.moves.promoted;
	all_moves_.demoted += step.moves.demoted;
	all_moves_.failed += step.moves.failed;
	all_moves_.absent += step.moves.absent;
	all_moves_.retried += step.moves.retried;
	all_moves_.cancelled += step.moves.cancelled;
	all_exposed_ns_ += step.exposed_ns;
	all_late_ += step.late;
	all_misses_.unknown += misses_.unknown;
	all_misses_.busy += misses_.busy;
	all_misses_.bytes += misses_.bytes;
	all_misses_.keyless += misses_.keyless;
	all_misses_.crowded += misses_.crowded;
	if (position_ < 0)
		return; /* nothing ran */
	bool first = planned_steps_++ == 0;
	if (first && graph_of(std::move(names_)) != plan_->graph) {
		say("the plan is of another graph (" + std::to_string(plan_->ops) +
		    " operations, this step ran " + std::to_string(position_ + 1) +
		    "): going on without it");
		plan_.reset();
		ops_.clear();
		reprofile_ = true;
		return;
	}
	if (first)
		place_named(); /* by now all names were seen */
	bool misfit = position_ + 1 != plan_->ops ||
		      (misses_.unknown + misses_.busy) * kMissesAllowed > plan_->tensors.size();
	misfits_ = misfit ? misfits_ + 1 : 0;
	if (misfits_ >= kMisfitsAllowed)
		reprofile_ = true;
}

/* ---- statistics ---- */

std::string Runtime::statistics()
{
	std::lock_guard<std::mutex> lock(mutex_);
	std::string pools;
	auto member = [](const char *name, uint64_t value) {
		return std::string("\"") + name + "\": " + std::to_string(value);
	};
	auto moves = [&](const MoveStatistics &m) {
		return member("promoted", m.promoted) + ", " + member("demoted", m.demoted) + ", " +
		       member("failed", m.failed) + ", " + member("absent", m.absent) + ", " +
		       member("retried", m.retried) + ", " + member("cancelled", m.cancelled);
	};
	auto misses = [&](const Misses &m) {
		return member("unplanned", m.unknown) + ", " + member("busy", m.busy) + ", " +
		       member("fallback_bytes", m.bytes) + ", " + member("keyless", m.keyless) +
		       ", " + member("crowded", m.crowded);
	};

	for (int i = 0; i < kPools; i++) {
		Pool pool = Pool(i);
		const PoolStatistics &s = memory_.statistics(pool);
		Mapping *mapping = memory_.mapping(pool);
		std::vector<size_t> on(2);
		if (mapping)
			on = residency(mapping->base(), memory_.extent(pool));
		pools += std::string(i ? ", " : "") + "\"" + name_of(pool) + "\": {" +
			 member("allocations", s.allocations) + ", " + member("live", s.live) +
			 ", " + member("peak", s.peak) + ", \"resident\": [" +
			 std::to_string(on[0]) + ", " + std::to_string(on[1]) + "]}";
	}
	const PoolStatistics &total = memory_.total();
	return "{" + member("allocations", total.allocations) + ", " +
	       member("releases", total.releases) + ", " + member("live", total.live) + ", " +
	       member("peak", total.peak) + ", \"pools\": {" + pools + "}, " +
	       member("steps", step_) + ", " + member("planned_steps", planned_steps_) +
	       ", \"planned\": " + (plan_ ? "true" : "false") +
	       ", \"reprofile\": " + (reprofile_ ? "true" : "false") + ", " +
	       member("unbound", no_such_node_) + ", \"room\": {" +
	       member("peak", room_ ? room_->peak() : 0) + ", " +
	       member("limit", room_ ? room_->limit() : 0) + "}, \"step\": {" +
	       member("step_ns", last_.step_ns) + ", " + member("exposed_ns", last_.exposed_ns) +
	       ", " + member("late", last_.late) + ", " + member("unresolved", last_.unresolved) +
	       ", \"trial\": \"" + last_.trial + "\", " + moves(last_.moves) + ", " +
	       misses(misses_) + "}, \"total\": {" + member("exposed_ns", all_exposed_ns_) + ", " +
	       member("late", all_late_) + ", " + moves(all_moves_) + ", " + misses(all_misses_) +
	       "}}";
}

} // namespace sentinel
