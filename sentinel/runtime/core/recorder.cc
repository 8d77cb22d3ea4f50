/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder.h"

#include <algorithm>

#include "clock.h"
#include "framework.h"
#include "memory.h"

namespace sentinel
{
namespace
{

constexpr int kAlive = -2; /* `death` of a tensor that has not died */
/*
 * Allocations of threads that run no operation have no key that recurs in the next step. They are
 * numbered from here, so that they never share a key with an operation's allocation.
 */
constexpr int kFirstKeyless = 1000000;

} // namespace

/* The position of the newest operation of any thread, or -1. */
int Recorder::last_position() const
{
	return int(profile_.ops.size()) - 1;
}

uint64_t Recorder::event() const
{
	return traced_ ? mark_event() : 0;
}

bool Recorder::valid(int tensor, int position) const
{
	return tensor >= 0 && tensor < int(tracked_.size()) && position >= -1 &&
	       position <= last_position();
}

int Recorder::op_begin(const std::string &name, const std::string &type, int occurrence,
		       uint64_t now)
{
	if (profile_.ops.empty())
		begin_ns_ = now;
	profile_.ops.push_back(
		{name, type, 0, occurrence, now - begin_ns_, now - begin_ns_, event()});
	return last_position();
}

void Recorder::op_end(int position, uint64_t now)
{
	if (position < 0 || position > last_position())
		return;
	profile_.ops[position].end_ns = now - begin_ns_;
	profile_.profiled_step_ns = now - begin_ns_;
	auto used = in_use_.find(position);
	if (used == in_use_.end())
		return;
	for (int tensor : used->second)
		count_use(tensor, position);
	in_use_.erase(used);
}

/*
 * Attribute the accesses since the last operation that used the tensor to this one. With several
 * operations at once they may be another one's.
 */
void Recorder::count_use(int tensor, int position)
{
	ProfiledTensor &t = profile_.tensors[tensor];
	Tracked &tracked = tracked_[tensor];

	if (t.death != kAlive)
		return;
	Accesses now = counts_.sum(tracked.start, t.size);
	for (Use &use : t.uses) {
		if (use.position != position)
			continue;
		use.reads = std::max<uint64_t>(use.reads, uint32_t(now.reads - tracked.last.reads));
		use.writes =
			std::max<uint64_t>(use.writes, uint32_t(now.writes - tracked.last.writes));
	}
	tracked.last = now;
}

int Recorder::add(const char *start, size_t size, bool own_pages)
{
	ProfiledTensor t{};

	t.op = t.birth = -1;
	t.death = kAlive;
	t.size = size;
	t.address = start;
	t.touched = round_up(size);
	t.counted = counts_.running() && own_pages;
	profile_.tensors.push_back(t);
	tracked_.push_back({start, own_pages, {}, {}});
	return int(tracked_.size()) - 1;
}

int Recorder::add_birth(const char *start, size_t size, int op, int k, bool own_pages)
{
	int tensor = add(start, size, own_pages);
	ProfiledTensor &t = profile_.tensors[tensor];

	/* With several threads another operation may be the newest. */
	t.op = t.birth = op >= 0 && op <= last_position() ? op : last_position();
	t.k = op >= 0 ? k : 0;
	t.born = event();
	if (op < 0 && last_position() >= 0)
		t.thread = threads_.emplace(std::this_thread::get_id(), int(threads_.size()) + 1)
				   .first->second;
	if (t.counted)
		tracked_[tensor].at_birth = tracked_[tensor].last = counts_.sum(start, size);
	return tensor;
}

/* The counters started with the step, so they hold the step's accesses from its begin. */
int Recorder::add_existing(const char *start, size_t size, bool own_pages)
{
	int tensor = add(start, size, own_pages);

	profile_.tensors[tensor].variable = true;
	return tensor;
}

/* Read the tensor's counts at its death, before its pages are reused. */
void Recorder::read_counts(int tensor)
{
	ProfiledTensor &t = profile_.tensors[tensor];
	const Tracked &tracked = tracked_[tensor];

	if (!t.counted) {
		/* Tensors of the step have new pages: those present were touched. */
		if (tracked.own_pages && t.birth >= 0)
			t.touched = resident_bytes(tracked.start, round_up(t.size));
		return;
	}
	Accesses now = counts_.sum(tracked.start, t.size);
	t.reads = uint32_t(now.reads - tracked.at_birth.reads);
	t.writes = uint32_t(now.writes - tracked.at_birth.writes);
	/* In a reused range, earlier counts hide which pages this tensor touched. */
	if (tracked.at_birth.pages == 0)
		t.touched = now.pages * kPage;
}

void Recorder::add_death(int tensor, int op)
{
	if (!valid(tensor, op))
		return;
	ProfiledTensor &t = profile_.tensors[tensor];

	read_counts(tensor);
	t.died = event();
	t.variable = false;
	/* An operation's other threads do not know which operation they serve. */
	t.scratch =
		t.op >= 0 && (op == t.op || (op < 0 && t.thread > 0 && t.op == last_position()));
	for (const Use &use : t.uses)
		t.scratch &= use.position <= t.op;
	/* Operations that began meanwhile cannot have used scratch. */
	t.death = (t.scratch ? t.op : last_position()) + 1;
}

void Recorder::add_use(int tensor, int position, uint64_t reads, uint64_t writes)
{
	if (!valid(tensor, position) || position < 0)
		return;
	std::vector<Use> &uses = profile_.tensors[tensor].uses;

	if (profile_.tensors[tensor].counted)
		in_use_[position].push_back(tensor);
	/* An operation that uses a tensor several times usually accesses it once. */
	auto use = std::find_if(uses.rbegin(), uses.rend(),
				[position](const Use &u) { return u.position <= position; });
	if (use != uses.rend() && use->position == position) {
		use->reads = std::max(use->reads, reads);
		use->writes = std::max(use->writes, writes);
	} else {
		uses.insert(use.base(), {position, reads, writes});
	}
}

void Recorder::set_name(int tensor, const std::string &name)
{
	if (!valid(tensor, -1))
		return;
	ProfiledTensor &t = profile_.tensors[tensor];

	if (t.birth < 0 && t.name.empty())
		t.name = name;
}

void Recorder::add_foreign_use(size_t size)
{
	foreign_uses_++;
	foreign_bytes_ += size;
}

/* Names are the keys of tensors from before the step, so each has one, and all differ. */
void Recorder::assign_names()
{
	std::map<std::string, int> count;

	for (ProfiledTensor &t : profile_.tensors) {
		if (t.op >= 0)
			continue;
		if (t.name.empty())
			t.name = t.uses.empty() ? "unused" : profile_.ops[t.uses[0].position].name;
		int earlier = count[t.name]++;
		if (earlier)
			t.name += "#" + std::to_string(earlier);
	}
}

/*
 * No use precedes the birth. A tensor that another thread allocated for an operation was born with
 * that operation, whichever had begun meanwhile. An operation that takes a tensor which a later
 * one makes while both run (as one that waits for a queue does) uses it from its birth on.
 */
void Recorder::fit_uses_to_life(ProfiledTensor &t)
{
	if (t.birth < 0 || t.uses.empty() || t.uses[0].position >= t.birth)
		return;
	if (t.thread > 0) {
		t.op = t.birth = t.uses[0].position;
		t.scratch &= t.uses.back().position == t.op;
		if (t.scratch)
			t.death = t.op + 1;
		return;
	}
	auto later = std::find_if(t.uses.begin(), t.uses.end(),
				  [&t](const Use &use) { return use.position > t.birth; });
	Use at_birth{t.birth, 0, 0};
	for (auto use = t.uses.begin(); use != later; ++use) {
		at_birth.reads = std::max(at_birth.reads, use->reads);
		at_birth.writes = std::max(at_birth.writes, use->writes);
	}
	t.uses.erase(t.uses.begin(), later);
	t.uses.insert(t.uses.begin(), at_birth);
}

void Recorder::number_keyless_tensors()
{
	std::map<int, int> count;

	for (ProfiledTensor &t : profile_.tensors)
		if (t.thread > 0)
			t.k = kFirstKeyless + count[t.op]++;
}

Profile Recorder::finish(const std::string &clock)
{
	Profile &p = profile_;

	for (size_t i = 0; i < p.tensors.size(); i++) {
		ProfiledTensor &t = p.tensors[i];
		if (t.death == kAlive) {
			read_counts(int(i));
			t.death = int(p.ops.size());
		}
		uint64_t pages = t.touched / kPage;
		if (!t.counted) {
			for (const Use &use : t.uses) {
				t.reads += use.reads * pages;
				t.writes += use.writes * pages;
			}
			/* Its operation alone uses it: at least, it is written and read. */
			if (t.scratch && t.uses.empty())
				t.reads = t.writes = pages;
		}
		fit_uses_to_life(t);
	}
	number_keyless_tensors();
	assign_names();
	p.kernel_counts = counts_.running();
	p.clock = clock;
	p.step_ns = p.profiled_step_ns;
	std::vector<std::string> names;
	names.reserve(p.ops.size());
	for (const ProfiledOp &op : p.ops)
		names.push_back(op.name);
	p.graph = graph_digest(std::move(names));
	assign_layers(p.ops);
	if (foreign_uses_)
		warn(std::to_string(foreign_uses_) + " uses of " + std::to_string(foreign_bytes_) +
		     " bytes outside the runtime's memory (fed numpy arrays)");
	return std::move(profile_);
}

} // namespace sentinel
