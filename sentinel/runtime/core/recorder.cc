/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder.h"

#include <algorithm>

#include "framework.h"
#include "memory.h"

namespace sentinel
{
namespace
{

constexpr int kAlive = -2; /* a death that has not happened */
/*
 * Threads that run no operation have no key that comes again; their allocations are numbered where
 * no operation's are, so that profiles have no key twice.
 */
constexpr int kKeyless = 1000000;

} // namespace

/* The newest operation of any thread. */
int Recorder::here() const
{
	return int(profile_.ops.size()) - 1;
}

bool Recorder::known(int number, int position) const
{
	return number >= 0 && number < int(tracked_.size()) && position >= -1 && position <= here();
}

int Recorder::op_begin(const std::string &name, const std::string &type, int occurrence,
		       uint64_t now)
{
	if (profile_.ops.empty())
		begun_ = now;
	profile_.ops.push_back({name, type, 0, occurrence, now - begun_, now - begun_});
	return here();
}

void Recorder::op_end(int position, uint64_t now)
{
	if (position < 0 || position > here())
		return;
	profile_.ops[position].end_ns = now - begun_;
	profile_.profiled_step_ns = now - begun_;
	auto mine = using_.find(position);
	if (mine == using_.end())
		return;
	for (int number : mine->second)
		count_use(number, position);
	using_.erase(mine);
}

/* How often the pages were accessed since the operation before: by this one, if it was alone. */
void Recorder::count_use(int number, int position)
{
	ProfiledTensor &t = profile_.tensors[number];
	Tracked &tracked = tracked_[number];

	if (t.death != kAlive)
		return;
	Accesses now = counts_.sum(tracked.start, t.size);
	for (Use &use : t.uses) {
		if (use.position != position)
			continue;
		use.reads = std::max<uint64_t>(use.reads, uint32_t(now.reads - tracked.seen.reads));
		use.writes =
			std::max<uint64_t>(use.writes, uint32_t(now.writes - tracked.seen.writes));
	}
	tracked.seen = now;
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

int Recorder::born(const char *start, size_t size, int op, int k, bool own_pages)
{
	int number = add(start, size, own_pages);
	ProfiledTensor &t = profile_.tensors[number];

	/* With several threads another operation may be the newest one. */
	t.op = t.birth = op >= 0 && op <= here() ? op : here();
	t.k = op >= 0 ? k : 0;
	if (op < 0 && here() >= 0)
		t.thread = threads_.emplace(std::this_thread::get_id(), int(threads_.size()) + 1)
				   .first->second;
	if (t.counted)
		tracked_[number].before = tracked_[number].seen = counts_.sum(start, size);
	return number;
}

/* The counters began with the step, so what they say is of this step from the start. */
int Recorder::found(const char *start, size_t size, bool own_pages)
{
	int number = add(start, size, own_pages);

	profile_.tensors[number].variable = true;
	return number;
}

/* The pages may be somebody else's afterwards. */
void Recorder::close(int number)
{
	ProfiledTensor &t = profile_.tensors[number];
	const Tracked &tracked = tracked_[number];

	if (!t.counted)
		return;
	Accesses now = counts_.sum(tracked.start, t.size);
	t.reads = uint32_t(now.reads - tracked.before.reads);
	t.writes = uint32_t(now.writes - tracked.before.writes);
	/* Counters that did not begin at zero do not tell which pages of a reused range were
	 * touched. */
	if (tracked.before.pages == 0)
		t.touched = now.pages * kPage;
}

void Recorder::dead(int number, int op)
{
	if (!known(number, op))
		return;
	ProfiledTensor &t = profile_.tensors[number];

	close(number);
	t.variable = false;
	/* Threads of an operation do not know which it is. */
	t.scratch = t.op >= 0 && (op == t.op || (op < 0 && t.thread > 0 && t.op == here()));
	for (const Use &use : t.uses)
		t.scratch &= use.position <= t.op;
	/* Others that began meanwhile had nothing to do with scratch; what else it was for, who
	 * knows. */
	t.death = (t.scratch ? t.op : here()) + 1;
}

void Recorder::used(int number, int position, uint64_t reads, uint64_t writes)
{
	if (!known(number, position) || position < 0)
		return;
	std::vector<Use> &uses = profile_.tensors[number].uses;

	if (profile_.tensors[number].counted)
		using_[position].push_back(number);
	/* Of several uses by one operation, the most of each: it reads a buffer once, mostly. */
	auto use = std::find_if(uses.rbegin(), uses.rend(),
				[position](const Use &each) { return each.position <= position; });
	if (use != uses.rend() && use->position == position) {
		use->reads = std::max(use->reads, reads);
		use->writes = std::max(use->writes, writes);
	} else {
		uses.insert(use.base(), {position, reads, writes});
	}
}

void Recorder::named(int number, const std::string &name)
{
	if (!known(number, -1))
		return;
	ProfiledTensor &t = profile_.tensors[number];

	if (t.birth < 0 && t.name.empty())
		t.name = name;
}

void Recorder::foreign(size_t size)
{
	foreign_++;
	foreign_bytes_ += size;
}

/* Names are keys: there is one for whatever is from before the step, and none is there twice. */
void Recorder::name_all()
{
	std::map<std::string, int> seen;

	for (ProfiledTensor &t : profile_.tensors) {
		if (t.op >= 0)
			continue;
		if (t.name.empty())
			t.name = t.uses.empty() ? "unused" : profile_.ops[t.uses[0].position].name;
		int count = seen[t.name]++;
		if (count)
			t.name += "#" + std::to_string(count);
	}
}

/*
 * A tensor is not used before its birth. One that another thread made for an operation was born
 * with that operation, whatever began meanwhile; an operation that takes over, while it runs, what
 * a later one makes (as one that waits for a queue does) uses it from its birth on.
 */
void Recorder::settle(ProfiledTensor &t)
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

void Recorder::number_keyless()
{
	std::map<int, int> count;

	for (ProfiledTensor &t : profile_.tensors)
		if (t.thread > 0)
			t.k = kKeyless + count[t.op]++;
}

Profile Recorder::finish(bool model_clock)
{
	Profile &p = profile_;

	for (size_t i = 0; i < p.tensors.size(); i++) {
		ProfiledTensor &t = p.tensors[i];
		if (t.death == kAlive) {
			close(int(i));
			t.death = int(p.ops.size());
		}
		uint64_t pages = (t.size + kPage - 1) / kPage;
		for (const Use &use : t.uses) {
			if (t.counted)
				break;
			t.reads += use.reads * pages;
			t.writes += use.writes * pages;
		}
		settle(t);
	}
	number_keyless();
	name_all();
	p.kernel_counts = counts_.running();
	p.model_clock = model_clock;
	p.step_ns = p.profiled_step_ns;
	std::vector<std::string> names;
	for (const ProfiledOp &op : p.ops)
		names.push_back(op.name);
	p.graph = graph_of(std::move(names));
	assign_layers(p.ops);
	if (foreign_)
		warn(std::to_string(foreign_) + " uses of " + std::to_string(foreign_bytes_) +
		     " bytes that TensorFlow did not allocate here (numpy arrays that are fed)");
	return std::move(profile_);
}

} // namespace sentinel
