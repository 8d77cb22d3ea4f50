/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <set>
#include <stdexcept>
#include <system_error>
#include <tuple>

#include "clock.h"

namespace sentinel
{
namespace
{

thread_local OpContext context;
thread_local uint64_t opened = 0; /* the step that this thread has opened */

/* A plan that misses more than one tensor in so many, in so many steps on end, fits no longer. */
constexpr size_t kMissesAllowed = 20;
constexpr uint64_t kMisfitsAllowed = 2;
/* In so many steps after a fork nearly all is written that both processes have. */
constexpr int kChecksAfterFork = 2;

/*
 * Half the machine's memory for each pool: the kernel's page-access counters take no more pages
 * than the machine has, and two pools are profiled. Addresses may be limited too, and others need
 * some.
 */
size_t pool_capacity()
{
	size_t capacity = machine_memory() / 2;
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		capacity = std::min<size_t>(capacity, limit.rlim_cur / 16);
	return round_down(capacity);
}

/* FNV-1a, then mixed (as splitmix64 does), for sums are taken of these. */
uint64_t fingerprint_of(const std::string &name)
{
	uint64_t x = 0xcbf29ce484222325;

	for (char c : name)
		x = (x ^ uint8_t(c)) * 0x100000001b3;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

} // namespace

/* ---- a plan that is carried out ---- */

ActivePlan::ActivePlan(Plan what,
		       const std::function<Pages(const ActivePlan &, const Move &)> &resolve,
		       const std::function<void(const std::string &)> &tell)
    : plan(std::move(what)), reserved(std::make_shared<Arena>(plan.reserved, false)),
      arena(std::make_shared<Arena>(plan.arena, true)),
      room(plan.room,
	   [this](char *start, size_t size, int node) { prefer_node(start, size, node); }),
      say(tell),
      executor(
	      plan, [this, resolve](const Move &move) { return resolve(*this, move); },
	      [this](char *start, size_t size, int node) { return this->move(start, size, node); },
	      now_ns)
{
	for (const Group &group : plan.groups) {
		if (group.keep)
			arena->keep(group.offset, group.size);
		else
			room.add(arena->mapping().base() + group.offset, group.size, group.node);
	}
}

bool ActivePlan::place()
{
	bool possible = true;
	int error = 0;
	auto prefer = [&](Mapping &mapping, size_t offset, size_t size, int node) {
		if (size && !mapping.prefer(offset, size, node)) {
			possible = false;
			error = errno;
		}
	};

	prefer(reserved->mapping(), 0, round_up(plan.reserved), kFast);
	for (const Group &group : plan.groups)
		prefer(arena->mapping(), group.offset, group.size, group.node);
	errno = error;
	return possible;
}

/* Pages are moved, if there is room. The first time that the system refuses to is told. */
Moved ActivePlan::move(char *start, size_t size, int node)
{
	Moved moved;

	if (node == kFast && !room.take(start, size)) {
		moved.failed = size;
		return moved;
	}
	moved = move_pages(start, size, node);
	room.moved(start, size, node, moved);
	if (moved.error && !unmovable.exchange(true))
		say("no page could be moved (move_pages: " + std::string(strerror(moved.error)) +
		    "): they stay where they are");
	return moved;
}

void ActivePlan::step_begin(uint64_t step)
{
	MutexLock lock(advance);

	current_step = step;
	executor.step_begin();
}

void ActivePlan::advance_to(uint64_t step, int position)
{
	MutexLock lock(advance);

	if (step == current_step)
		executor.advance(position);
}

StepStatistics ActivePlan::step_end(bool typical)
{
	MutexLock lock(advance);

	current_step = 0;
	return executor.step_end(typical);
}

/* ---- the process ---- */

Runtime &Runtime::instance()
{
	static Runtime *runtime = new Runtime; /* leaked on purpose: see above */
	return *runtime;
}

Runtime::Runtime() : memory_(pool_capacity())
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void Runtime::say(const std::string &line)
{
	fprintf(stderr, "sentinel: %s\n", line.c_str());
}

/* No thread is in the midst of anything when the process is copied. */
void Runtime::before_fork()
{
	instance().mutex_.lock();
}

/*
 * Until the child ends, or runs another program, what either writes first is a new page, on the
 * node that the policy of its place says, and shared pages do not move.
 */
void Runtime::after_fork_in_parent()
{
	Runtime &runtime = instance();

	runtime.forks_++;
	runtime.checks_ = kChecksAfterFork;
	runtime.mutex_.unlock();
}

/*
 * The child goes on without steps and plans. Their threads are not there to be joined, and the
 * kernel's counts are the parent's: those objects are left as they are.
 */
void Runtime::after_fork_in_child()
{
	Runtime &runtime = instance();

	runtime.child_ = true;
	runtime.state_ = State::closed;
	runtime.stage_ = Stage::idle;
	runtime.watching_ = runtime.recording_ = runtime.limited_ = false;
	new std::shared_ptr<ActivePlan>(std::move(runtime.plan_));
	new std::shared_ptr<ActivePlan>(std::move(runtime.next_plan_));
	(void)runtime.recorder_.release();
	(void)runtime.counts_.release();
	opened = 0;
	runtime.mutex_.unlock();
}

/* ---- allocation ---- */

TensorMemory::Found Runtime::claim_planned(size_t alignment, size_t size)
{
	int k = context.allocations;

	if (const std::vector<int> *planned = context.run.op->planned) {
		for (int index : *planned) {
			const PlannedTensor &t = plan_->plan.tensors[index];
			if (t.k != k || t.occurrence != context.occurrence || t.size != size)
				continue;
			auto block = memory_.end();
			if (t.offset % alignment == 0)
				block = memory_.claim(t.short_lived ? Pool::reserved : Pool::arena,
						      t.offset, size);
			if (block == memory_.end()) {
				misses_.busy++;
				misses_.bytes += size;
			} else if (!t.short_lived) {
				misses_.crowded += plan_->room.born(block->first, size);
			}
			return block;
		}
	}
	misses_.unknown++;
	misses_.bytes += size;
	return memory_.end();
}

void *Runtime::allocate_locked(size_t alignment, size_t size)
{
	auto block = memory_.end();
	Pool pool = limited_ ? Pool::unplanned : Pool::ordinary;
	bool own = is_step(context.run.step);

	if (plan_ && own)
		block = claim_planned(alignment, size);
	else if (plan_ && state_ == State::open && !context.elsewhere)
		misses_.keyless += position_ >= 0;
	else if (recorder_) /* both on node 1 */
		pool = counts_ && !context.elsewhere ? Pool::profile : Pool::unplanned;
	for (Pool each : {pool, Pool::ordinary, Pool::system}) {
		if (block != memory_.end())
			break;
		block = memory_.allocate(each, alignment, size);
		profile_full_ |= block == memory_.end() && each == Pool::profile;
	}
	if (block == memory_.end())
		return nullptr;
	if (recorder_ && !context.elsewhere)
		block->second.record = recorder_->born(
			block->first, block->second.size, own ? context.run.position : -1,
			context.allocations, block->second.capacity != 0);
	if (own) {
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
		say("something was given back that was never allocated");
		return;
	}
	if (recorder_ && block->second.record >= 0)
		recorder_->dead(block->second.record,
				is_step(context.run.step) ? context.run.position : -1);
	if (!block->second.name.empty()) {
		auto named = named_.find(block->second.name);
		if (named != named_.end() && named->second == p)
			named_.erase(named);
	}
	if (plan_ && block->second.pool == Pool::arena)
		plan_->room.dead(block->first, block->second.size);
	memory_.release(block);
}

size_t Runtime::size_of(const void *p)
{
	MutexLock lock(mutex_);
	auto block = memory_.find(p);

	return block == memory_.end() ? 0 : block->second.size;
}

size_t Runtime::live()
{
	MutexLock lock(mutex_);

	return memory_.total().live;
}

bool Runtime::limit(bool interleave, size_t budget)
{
	MutexLock lock(mutex_);

	return memory_.limit(interleave, budget);
}

size_t Runtime::peak()
{
	MutexLock lock(mutex_);

	return memory_.total().peak;
}

uint64_t Runtime::allocations()
{
	MutexLock lock(mutex_);

	return memory_.total().allocations;
}

/* ---- operations ---- */

bool Runtime::is_step(uint64_t step) const
{
	return step && state_ == State::open && step == step_;
}

uint64_t Runtime::step_here()
{
	return opened;
}

std::shared_ptr<Op> Runtime::op_of(const void *kernel, const std::string &name,
				   const std::string &type)
{
	std::shared_ptr<Op> &op = ops_[kernel];

	/* New, or another session's at an address that was used before. */
	if (!op || op->name != name || op->type != type) {
		op = std::make_shared<Op>();
		op->name = name;
		op->type = type;
		op->effect = effect_of(type);
		op->fingerprint = fingerprint_of(name);
		if (plan_) {
			auto planned = plan_->plan.by_op.find(name);
			if (planned != plan_->plan.by_op.end())
				op->planned = &planned->second;
		}
	}
	if (op->step != step_) {
		op->step = step_;
		op->runs = 0;
	}
	return op;
}

OpRun Runtime::op_begin(const void *kernel, const std::string &name, const std::string &type,
			const Execution &execution)
{
	OpContext begun;
	std::shared_ptr<ActivePlan> plan;
	int progress = -1;
	{
		MutexLock lock(mutex_);
		if (execution_ < 0 && is_step(execution.step))
			execution_ = execution.id;
		bool own = state_ == State::open && execution.id >= 0 && execution.id == execution_;
		begun.elsewhere = !own;
		if (own) {
			std::shared_ptr<Op> op = op_of(kernel, name, type);
			begun.occurrence = op->runs++;
			begun.run = OpRun{step_, op, ++position_};
			fingerprint_ += op->fingerprint;
			if (plan_)
				progress = progress_at(*op, begun.occurrence);
			plan = plan_;
			if (recorder_)
				recorder_->op_begin(name, type, begun.occurrence, now_ns());
			else if (plan_ && !plan_->fingerprint)
				names_.push_back(name);
		}
	}
	context = begun;
	if (plan)
		plan->advance_to(begun.run.step, progress);
	return begun.run;
}

/*
 * How far the step has come, when this operation begins. Not by counting: what waits for nothing,
 * like variables and constants, begins early or late, as TensorFlow's threads happen to run.
 */
int Runtime::progress_at(const Op &op, int occurrence)
{
	if (op.planned)
		for (int index : *op.planned) {
			const PlannedTensor &t = plan_->plan.tensors[index];
			if (t.occurrence == occurrence)
				progress_ = std::max(progress_, t.position);
		}
	return progress_;
}

void Runtime::op_end(const OpRun &run)
{
	if (!recording())
		return;
	MutexLock lock(mutex_);
	if (is_step(run.step) && recorder_)
		recorder_->op_end(run.position, now_ns());
}

void Runtime::used(const OpRun &run, const void *p, size_t size, bool reads, bool writes)
{
	MutexLock lock(mutex_);

	if (!is_step(run.step) || !recorder_)
		return;
	try {
		auto found = memory_.find(p);
		if (found == memory_.end()) {
			recorder_->foreign(size);
			return;
		}
		Block &block = found->second;
		if (block.record < 0) {
			block.record =
				recorder_->found(found->first, block.size, block.capacity != 0);
			recorder_->named(block.record, block.name);
		}
		if (reads || writes)
			recorder_->used(block.record, run.position, reads, writes);
	} catch (const std::bad_alloc &) {
		lose_step();
	}
}

void Runtime::named(const OpRun &run, const void *p, const std::string &name)
{
	MutexLock lock(mutex_);

	if (!is_step(run.step))
		return;
	try {
		auto found = memory_.find(p);
		if (found == memory_.end() || found->second.step == step_)
			return;
		if (found->second.name.empty()) {
			found->second.name = name;
			named_[name] = found->first;
		}
		if (recorder_ && found->second.record >= 0)
			recorder_->named(found->second.record, found->second.name);
	} catch (const std::bad_alloc &) {
		lose_step();
	}
}

/* What is not noted down is not managed; the step itself goes on. */
void Runtime::lose_step()
{
	watching_ = recording_ = false;
	if (!lost_.exchange(true))
		say("there is no memory to note down what this step does: it goes on unmanaged");
}

OpScope::OpScope(Runtime &runtime, const void *kernel, const std::string &name,
		 const std::string &type, const Execution &execution)
    : before_(context)
{
	try {
		run_ = runtime.op_begin(kernel, name, type, execution);
	} catch (const std::bad_alloc &) {
		runtime.lose_step();
	}
}

/* The thread goes back to what it did before. */
OpScope::~OpScope()
{
	context = std::move(before_);
}

/* ---- steps ---- */

void Runtime::threads(int inter_op, int intra_op)
{
	MutexLock lock(mutex_);

	inter_op_ = inter_op;
	intra_op_ = intra_op;
}

uint64_t Runtime::step_begin()
{
	std::shared_ptr<ActivePlan> plan;
	uint64_t step;
	bool abandoned;
	{
		MutexLock lock(mutex_);
		bool here = opened && is_step(opened);
		/* One step around another is that one; one within its operations is none. */
		bool within = here && context.run.step == step_;
		abandoned = here && !within && execution_ >= 0;
		if (here && !within && !abandoned)
			return step_;
		step = step_;
		if (child_ || (state_ != State::closed && !abandoned)) {
			served_++;
			return 0;
		}
	}
	if (abandoned)
		step_end(step, false);
	{
		MutexLock lock(mutex_);
		if (state_ != State::closed) {
			served_++;
			return 0;
		}
		if (next_plan_ && stage_ == Stage::idle)
			install();
		state_ = State::open;
		step = ++step_;
		execution_ = -1;
		position_ = progress_ = -1;
		fingerprint_ = 0;
		misses_ = Misses();
		names_.clear();
		lost_ = false;
		if (stage_ != Stage::idle)
			begin_recording();
		recording_ = recorder_ != nullptr;
		watching_ = recorder_ || plan_;
		plan = plan_;
	}
	opened = step;
	if (plan)
		plan->step_begin(step);
	return step;
}

void Runtime::step_end(uint64_t step, bool completed)
{
	std::shared_ptr<ActivePlan> plan;
	bool matches = false;
	{
		MutexLock lock(mutex_);
		if (!is_step(step))
			return;
		state_ = State::closing;
		watching_ = recording_ = false;
		completed &= !lost_;
		plan = plan_;
		matches = plan_ && completed && matches_plan();
	}
	if (opened == step)
		opened = 0;
	StepStatistics statistics;
	if (plan)
		statistics = plan->step_end(matches); /* may wait for what moves */
	MutexLock lock(mutex_);
	if (recorder_ && completed)
		finish_recording();
	else
		abandon_recording();
	if (plan_)
		check_step(statistics, completed, matches);
	if (ends_)
		retire();
	state_ = State::closed;
}

/* ---- profile ---- */

bool Runtime::profile_begin()
{
	plan_end();
	MutexLock lock(mutex_);

	if (child_ || !memory_.complete()) {
		say(child_ ? "a forked child is not profiled: only the process that it comes from"
			   : "there are no addresses for a profile's tensors (ulimit -v?)");
		return false;
	}
	abandon_recording();
	take_back();
	stage_ = Stage::times;
	times_.reset();
	profile_.reset();
	reprofile_ = false;
	return true;
}

int Runtime::profile_left()
{
	MutexLock lock(mutex_);

	return stage_ == Stage::times ? 2 : stage_ == Stage::counts ? 1 : 0;
}

/* Profiles are of slow memory (section III of the paper): what is there already goes there too. */
void Runtime::lend()
{
	if (!node_exists(kSlow))
		return;
	for (auto &block : memory_.blocks()) {
		Pages pages = pages_of(block.first, block.second.size);
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
	if (!profile->open(profile->size()))
		profile_full_ = true; /* soon enough */
	counts_->add(profile->base(), profile->size());
	counts_->add(memory_.mapping(Pool::ordinary)->base(), memory_.extent(Pool::ordinary));
	if (!counts_->start())
		recorder_->warn("no counts by the kernel: " + counts_->error());
}

/* The step that is recorded is not one to go by: the next one is recorded in its place. */
void Runtime::abandon_recording()
{
	recorder_.reset();
	counts_.reset();
	recording_ = false;
}

namespace
{

/* What a planned tensor is known by, of all that can be planned; sorted. */
using Keys = std::vector<std::tuple<std::string, int, int, size_t>>;
Keys keys_of(const Profile &profile)
{
	Keys keys;

	for (const ProfiledTensor &t : profile.tensors)
		if (t.op >= 0 && t.thread == 0)
			keys.emplace_back(profile.ops[t.op].name, profile.ops[t.op].occurrence, t.k,
					  t.size);
	std::sort(keys.begin(), keys.end());
	return keys;
}

/* Says which tensors the next step may not have again under the same keys. */
void warn_of_keys(Profile &profile, const Profile &before)
{
	Keys keys = keys_of(profile), others = keys_of(before), lost;
	std::set<std::string> loops;

	std::set_difference(keys.begin(), keys.end(), others.begin(), others.end(),
			    std::back_inserter(lost));
	if (!lost.empty())
		profile.warnings.push_back(std::to_string(lost.size()) + " of " +
					   std::to_string(keys.size()) +
					   " tensors have keys that the step before did not have: "
					   "a plan will not find all of them again");
	if (profile.inter_op == 1)
		return;
	for (const ProfiledOp &op : profile.ops)
		if (op.occurrence)
			loops.insert(op.name);
	size_t in_loops =
		std::count_if(keys.begin(), keys.end(), [&loops](const Keys::value_type &key) {
			return loops.count(std::get<0>(key)) != 0;
		});
	if (in_loops)
		profile.warnings.push_back(std::to_string(in_loops) +
					   " tensors are of operations that run several times, "
					   "which " +
					   std::to_string(profile.inter_op) +
					   " threads may begin in another order in each step");
}

} // namespace

void Runtime::finish_recording()
{
	if (profile_full_)
		recorder_->warn("not all tensors had pages of their own: there was no room");
	std::unique_ptr<Profile> recorded(new Profile(recorder_->finish(modelled())));
	recorded->inter_op = inter_op_;
	recorded->intra_op = intra_op_;
	recorder_.reset();
	if (recorded->ops.empty())
		return; /* nothing ran: wait for a step in which something does */
	if (stage_ == Stage::times) {
		times_ = std::move(recorded);
		stage_ = Stage::counts;
		return;
	}
	counts_.reset();
	take_back();
	memory_.trim();
	stage_ = Stage::idle;
	profile_ = std::move(recorded);
	if (times_->graph != profile_->graph) {
		profile_->warnings.push_back("the two profiled steps differ: times are of the step "
					     "that was counted in, and too long");
		return;
	}
	warn_of_keys(*profile_, *times_);
	bool same = std::equal(times_->ops.begin(), times_->ops.end(), profile_->ops.begin(),
			       [](const ProfiledOp &a, const ProfiledOp &b) {
				       return a.name == b.name && a.occurrence == b.occurrence;
			       });
	/* Threads run operations at once: what each takes of the step is until the next begins. */
	std::map<std::pair<std::string, int>, uint64_t> took;
	for (size_t i = 0; i < times_->ops.size(); i++) {
		const ProfiledOp &op = times_->ops[i];
		uint64_t end =
			i + 1 < times_->ops.size() ? times_->ops[i + 1].begin_ns : times_->step_ns;
		took[{op.name, op.occurrence}] = end - op.begin_ns;
	}
	profile_->step_ns = times_->step_ns;
	uint64_t begin = 0;
	for (size_t i = 0; i < profile_->ops.size(); i++) {
		ProfiledOp &op = profile_->ops[i];
		/* In another order each is as long as it was, one after the other. */
		op.begin_ns = same ? times_->ops[i].begin_ns : begin;
		op.end_ns =
			same ? times_->ops[i].end_ns : begin + took.at({op.name, op.occurrence});
		begin = op.end_ns;
	}
}

std::unique_ptr<Profile> Runtime::profile_end()
{
	MutexLock lock(mutex_);

	abandon_recording();
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
	Plan plan = parse_plan(text);
	{
		MutexLock lock(mutex_);
		if (child_)
			throw std::runtime_error("a forked child is not managed: only the process "
						 "that it comes from");
		if (!memory_.complete())
			throw std::runtime_error("there are no addresses for what is not in the "
						 "plan (ulimit -v?)");
	}
	std::shared_ptr<ActivePlan> next;
	size_t size = plan.reserved + plan.arena;
	try {
		next = std::make_shared<ActivePlan>(
			std::move(plan),
			[this](const ActivePlan &of, const Move &move) {
				return resolve(of, move);
			},
			say);
	} catch (const std::bad_alloc &) {
		throw std::runtime_error("the system does not give the plan's pools their " +
					 std::to_string(size) + " bytes of addresses");
	} catch (const std::system_error &e) {
		throw std::runtime_error(
			std::string("the system gives no threads to move pages: ") + e.what());
	}
	MutexLock lock(mutex_);
	next_plan_ = std::move(next);
	ends_ = false;
	reprofile_ = false;
}

void Runtime::plan_end()
{
	MutexLock lock(mutex_);

	next_plan_.reset();
	if (!plan_)
		return;
	if (state_ == State::closed) {
		retire();
	} else if (!ends_) {
		ends_ = true;
		say("the plan ends with the step that is open");
	}
}

/* Between steps. What still lives in the plan's pools, and what comes, is on node 1. */
void Runtime::retire()
{
	ends_ = false;
	if (!plan_)
		return;
	plan_->executor.stop();
	for (const auto &pool : {plan_->reserved, plan_->arena}) {
		Mapping &mapping = pool->mapping();
		if (!node_exists(kSlow) || !mapping.size())
			continue;
		mapping.prefer(0, mapping.size(), kSlow);
		move_pages(mapping.base(), mapping.size(), kSlow);
	}
	memory_.plan(nullptr, nullptr);
	plan_.reset();
	ops_.clear();
}

/* Between steps. */
void Runtime::install()
{
	retire();
	ops_.clear();
	plan_ = std::move(next_plan_);
	limited_ = true;
	planned_steps_ = other_steps_ = misfits_ = no_such_node_ = 0;
	memory_.plan(plan_->reserved, plan_->arena);
	/* What the plan does not place would sit in fast memory that it counts on. */
	memory_.trim();
	bool possible = memory_.move_to_slow();
	int error = errno;
	if (!plan_->place()) {
		error = errno;
		possible = false;
		no_such_node_++;
	}
	if (!node_exists(kSlow)) {
		say("there is no memory node 1: everything stays on node 0");
		plan_->unmovable = true;
	} else if (!possible) {
		say("memory cannot be placed (mbind: " + std::string(strerror(error)) +
		    "): it is where the system puts it");
		plan_->unmovable = true;
	}
	place_named();
}

Pages Runtime::pages_of_named(const std::string &name)
{
	auto named = named_.find(name);

	if (named == named_.end())
		return Pages();
	return pages_of(named->second, memory_.find(named->second)->second.size);
}

Pages Runtime::resolve(const ActivePlan &plan, const Move &move)
{
	if (move.tensor < 0)
		return {plan.arena->mapping().base() + move.offset, move.size};
	MutexLock lock(mutex_);
	return pages_of_named(plan.plan.tensors[move.tensor].op);
}

/* What was there before the plan is wherever it was born. */
void Runtime::place_named()
{
	for (const auto &named : plan_->plan.by_name) {
		auto living = named_.find(named.first);
		if (living == named_.end())
			continue;
		const PlannedTensor &tensor = plan_->plan.tensors[named.second];
		memory_.place(memory_.find(living->second), tensor.node);
		if (tensor.moves) {
			Pages pages = pages_of_named(named.first);
			plan_->room.add_living(pages.start, pages.size, tensor.node);
		}
	}
}

bool Runtime::matches_plan()
{
	ActivePlan &plan = *plan_;

	if (position_ + 1 != plan.plan.ops)
		return false;
	if (!plan.fingerprint && graph_of(std::move(names_)) == plan.plan.graph)
		plan.fingerprint = fingerprint_;
	return plan.fingerprint && plan.fingerprint == fingerprint_;
}

/* After a step under the plan. */
void Runtime::check_step(const StepStatistics &step, bool completed, bool matches)
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
	if (checks_ > 0) {
		checks_--;
		check_after_fork();
	}
	if (position_ < 0 || !completed)
		return; /* nothing ran, or not to its end */
	(matches ? planned_steps_ : other_steps_)++;
	if (planned_steps_ + other_steps_ == 1 || (matches && planned_steps_ == 1))
		place_named(); /* by now all names of such a step were seen */
	if (!matches && other_steps_ == 1)
		say("a step is not of the plan's graph (" + std::to_string(plan_->plan.ops) +
		    " operations, this step ran " + std::to_string(position_ + 1) +
		    "): it kept to the plan's budget, and the plan goes on for others");
	bool fits = matches &&
		    (misses_.unknown + misses_.busy) * kMissesAllowed <= plan_->plan.tensors.size();
	misfits_ = fits ? 0 : misfits_ + 1;
	reprofile_ = misfits_ >= kMisfitsAllowed;
}

/* Bytes of fast memory that all pools take. */
size_t Runtime::fast_bytes()
{
	size_t bytes = 0;

	for (int i = 0; i < kPools; i++)
		if (Mapping *mapping = memory_.mapping(Pool(i)))
			bytes += residency(mapping->base(), memory_.extent(Pool(i)))[kFast];
	return bytes;
}

/* What was written while a child had it too is where the policies say; make sure of it. */
void Runtime::check_after_fork()
{
	size_t budget = plan_->plan.budget, fast = fast_bytes();

	if (fast <= budget || !node_exists(kSlow))
		return;
	if (!over_budget_)
		say("a fork has taken fast memory beyond the plan's budget: moving it back");
	over_budget_ = std::max<uint64_t>(over_budget_, fast - budget);
	memory_.move_to_slow();
	place_named();
}

/* ---- statistics ---- */

std::string Runtime::statistics()
{
	MutexLock lock(mutex_);
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
	       member("steps", step_) + ", " + member("served_steps", served_) + ", " +
	       member("planned_steps", planned_steps_) + ", " +
	       member("other_steps", other_steps_) + ", " + member("forks", forks_) + ", " +
	       member("over_budget", over_budget_) +
	       ", \"planned\": " + (plan_ ? "true" : "false") +
	       ", \"reprofile\": " + (reprofile_ ? "true" : "false") + ", " +
	       member("unbound", no_such_node_) + ", \"room\": {" +
	       member("peak", plan_ ? plan_->room.peak() : 0) + ", " +
	       member("limit", plan_ ? plan_->room.limit() : 0) + "}, \"step\": {" +
	       member("step_ns", last_.step_ns) + ", " + member("exposed_ns", last_.exposed_ns) +
	       ", " + member("late", last_.late) + ", " + member("unresolved", last_.unresolved) +
	       ", \"trial\": \"" + last_.trial + "\", " + moves(last_.moves) + ", " +
	       misses(misses_) + "}, \"total\": {" + member("exposed_ns", all_exposed_ns_) + ", " +
	       member("late", all_late_) + ", " + moves(all_moves_) + ", " + misses(all_misses_) +
	       "}}";
}

} // namespace sentinel
