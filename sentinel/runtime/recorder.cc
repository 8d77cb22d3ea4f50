/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder.h"

#include <algorithm>

#include "layers.h"
#include "memory.h"

namespace sentinel
{
namespace
{

constexpr int kAlive = -2; /* a death that has not happened */

}

int Recorder::here()
{
	return int(profile_.ops.size()) - 1;
}

int Recorder::op_begin(const std::string &name, const std::string &type, int occurrence,
		       uint64_t now)
{
	if (profile_.ops.empty())
		begun_ = now;
	profile_.ops.push_back({name, type, 0, occurrence, now - begun_, now - begun_});
	keyless_ = kKeyless;
	return here();
}

void Recorder::op_end(int position, uint64_t now)
{
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

	t.op = op >= 0 ? op : here();
	t.k = op >= 0 ? k : here() >= 0 ? keyless_++ : 0;
	t.birth = here();
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
	ProfiledTensor &t = profile_.tensors[number];

	close(number);
	t.death = here() + 1;
	t.variable = false;
	/* Threads of an operation do not know which it is. */
	t.scratch = t.op >= 0 && t.op == here() && (op == t.op || t.thread > 0);
}

void Recorder::used(int number, int position, uint64_t reads, uint64_t writes)
{
	std::vector<Use> &uses = profile_.tensors[number].uses;

	if (profile_.tensors[number].counted)
		using_[position].push_back(number);
	/* Of several uses by one operation, the most of each: it reads a buffer once, mostly. */
	if (!uses.empty() && uses.back().position == position) {
		uses.back().reads = std::max(uses.back().reads, reads);
		uses.back().writes = std::max(uses.back().writes, writes);
	} else {
		uses.push_back({position, reads, writes});
	}
}

void Recorder::named(int number, const std::string &name)
{
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
		std::stable_sort(t.uses.begin(), t.uses.end(), [](const Use &a, const Use &b) {
			return a.position < b.position;
		});
	}
	name_all();
	p.kernel_counts = counts_.running();
	p.model_clock = model_clock;
	p.step_ns = p.profiled_step_ns;
	std::vector<std::string> names;
	for (const ProfiledOp &op : p.ops)
		names.push_back(op.name);
	p.graph = graph_of(std::move(names));
	set_layers(p.ops);
	if (foreign_)
		warn(std::to_string(foreign_) + " uses of " + std::to_string(foreign_bytes_) +
		     " bytes that TensorFlow did not allocate here (numpy arrays that are fed)");
	return std::move(profile_);
}

} // namespace sentinel
