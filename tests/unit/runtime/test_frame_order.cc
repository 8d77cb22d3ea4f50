/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random graphs, random plans, and operations in any order that the graph allows, on several
 * threads: every operation finds the bytes that the last writer left.
 */
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "frame_fixtures.h"

using namespace sentinel;

namespace
{

constexpr int kGraphOps = 60;

struct Tensor {
	size_t group, offset, size; /* offset in the arena */
	int birth, last_use;
};

struct GraphOp {
	std::vector<std::pair<size_t, int>> reads; /* tensor, version */
	int allocates = -1, overwrites = -1;	   /* tensor */
	int version = 0;			   /* that it writes */
	std::set<int> needs;			   /* earlier operations */
	int use = -1;
};

struct Graph {
	std::vector<GraphOp> ops;
	std::vector<Tensor> tensors;
	Plan plan{};
};

class GraphMaker
{
public:
	/* `unknown`: the plan does not know some operations, and what they write. */
	GraphMaker(unsigned seed, bool unknown) : random_(seed), unknown_(unknown)
	{
		for (int i = 0; i < kGraphOps; i++)
			add_op(i);
		make_plan();
	}

	Graph graph;

private:
	bool chance(int percent)
	{
		return pick(0, 99) < percent;
	}
	int pick(int low, int high)
	{
		return low + int(random_() % unsigned(high - low + 1));
	}

	void use(int i, size_t tensor)
	{
		graph.tensors[tensor].last_use = i;
		graph.ops[size_t(i)].needs.insert(graph.tensors[tensor].birth);
		if (last_writer_[tensor] != i)
			graph.ops[size_t(i)].needs.insert(last_writer_[tensor]);
	}

	void add_op(int i)
	{
		graph.ops.emplace_back();
		GraphOp &op = graph.ops.back();
		int count = int(graph.tensors.size());
		for (int n = count ? pick(0, 3) : 0; n > 0; n--) {
			size_t t = size_t(pick(std::max(0, count - 15), count - 1));
			op.reads.emplace_back(t, versions_[t]);
			use(i, t);
			readers_[t].push_back(i);
		}
		if (count && chance(20)) {
			size_t t = size_t(pick(std::max(0, count - 15), count - 1));
			use(i, t);
			for (int reader : readers_[t])
				if (reader != i)
					op.needs.insert(reader);
			readers_[t].clear();
			op.overwrites = int(t);
			op.version = ++versions_[t];
			last_writer_[t] = i;
		}
		if (op.overwrites < 0 && (!count || chance(70)))
			allocate(i, op);
	}

	void allocate(int i, GraphOp &op)
	{
		std::vector<Group> &groups = graph.plan.groups;
		size_t pages = chance(30) ? size_t(pick(17, 40)) : size_t(pick(1, 4));
		bool shares = !groups.empty() && chance(30);
		if (!shares) {
			Group g{};
			g.offset = graph.plan.arena;
			groups.push_back(g);
		}
		op.allocates = int(graph.tensors.size());
		graph.tensors.push_back(
			{groups.size() - 1, graph.plan.arena, pages * kPage - 64, i, i});
		groups.back().size += pages * kPage;
		graph.plan.arena += pages * kPage;
		versions_.push_back(0);
		last_writer_.push_back(i);
		readers_.emplace_back();
	}

	void make_plan()
	{
		Plan &plan = graph.plan;
		plan.ops = kGraphOps;
		plan.has_frames = true;
		plan.frames = round_up(plan.arena / 3 + 40 * kPage * 20);
		for (int i = 0; i < kGraphOps; i++) {
			GraphOp &op = graph.ops[size_t(i)];
			if (unknown_ && op.allocates < 0 && chance(30))
				continue;
			op.use = int(plan.uses.size());
			bool waits_for_none = op.needs.empty() && chance(50);
			plan.uses.push_back({"op", i, waits_for_none ? -1 : i});
		}
		for (size_t g = 0; g < plan.groups.size(); g++)
			add_moves(g);
		std::stable_sort(plan.moves.begin(), plan.moves.end(),
				 [](const Move &a, const Move &b) { return a.at < b.at; });
	}

	size_t range(size_t size)
	{
		return size_t(pick(0, int((graph.plan.frames - size) / kPage))) * kPage;
	}

	/* Positions at which operations that the plan knows use, or write, the group. */
	void find_uses(size_t group, std::vector<int> &uses, std::set<int> &writes, int &last_birth)
	{
		std::set<int> all;
		for (int i = 0; i < kGraphOps; i++) {
			const GraphOp &op = graph.ops[size_t(i)];
			auto touches = [&](int t) {
				return t >= 0 && graph.tensors[size_t(t)].group == group;
			};
			if (touches(op.allocates))
				last_birth = i;
			if (op.use < 0)
				continue;
			if (touches(op.allocates) || touches(op.overwrites)) {
				all.insert(i);
				writes.insert(i);
			}
			for (const auto &read : op.reads)
				if (touches(int(read.first)))
					all.insert(i);
		}
		uses.assign(all.begin(), all.end());
	}

	void add_moves(size_t index)
	{
		Group &g = graph.plan.groups[index];
		std::vector<int> uses;
		std::set<int> writes;
		int last_birth = 0, earliest = 0;
		find_uses(index, uses, writes, last_birth);
		bool fast = chance(60), clean = false;
		g.node = fast ? kFast : kSlow;
		g.frame = fast ? range(g.size) : kNoFrame;
		for (size_t i = 0; i + 1 < uses.size(); i++) {
			int from = uses[i], to = uses[i + 1];
			int written = *std::prev(writes.upper_bound(from));
			if (written == from)
				clean = false;
			if (from < last_birth)
				continue;
			int at = std::max({written + 1, earliest, last_birth + 1});
			earliest = from + 1;
			if (fast && chance(70)) {
				int before = pick(from + 1, to);
				bool copy = !clean || chance(50);
				add_move(g, at, kSlow, from + 1, before, copy);
				fast = false;
				earliest = before;
			}
			if (!fast && chance(70)) {
				int begin = pick(earliest, to);
				add_move(g, begin, kFast, pick(begin, to), to, true);
				fast = clean = true;
				earliest = to;
			}
		}
	}

	void add_move(const Group &g, int at, int to, int map, int before, bool copy)
	{
		Move m{at, to, g.offset, g.size, -1, before};
		m.map = map;
		m.copy = copy;
		m.frame = to == kFast ? range(g.size) : kNoFrame;
		graph.plan.moves.push_back(m);
	}

	std::mt19937 random_;
	const bool unknown_;
	std::vector<int> versions_, last_writer_;
	std::vector<std::vector<int>> readers_;
};

uint64_t word(size_t tensor, int version, size_t index)
{
	return (tensor * 1000 + size_t(version)) * 0x9e3779b97f4a7c15 + index;
}

/* Executes steps of a graph, each operation when those that it needs have ended. */
class Execution
{
public:
	Execution(Graph &graph, Frames &frames, unsigned seed)
	    : graph_(graph), frames_(frames), random_(seed)
	{
	}

	StepStatistics step(uint64_t number, bool waits)
	{
		step_ = number;
		done_.assign(graph_.ops.size(), false);
		taken_ = done_;
		ended_ = 0;
		position_ = -1;
		uses_left_.clear();
		for (const Tensor &t : graph_.tensors)
			uses_left_.push_back(count_users(size_t(&t - graph_.tensors.data())));
		frames_.executor->step_begin(number, waits);
		std::vector<std::thread> threads;
		for (int i = 0; i < 1 + int(number % 3); i++)
			threads.emplace_back([this] { run(); });
		for (std::thread &thread : threads)
			thread.join();
		StepStatistics statistics;
		frames_.executor->step_end(statistics);
		return statistics;
	}

	std::atomic<int> wrong{0};

private:
	int count_users(size_t tensor)
	{
		int users = 0;
		for (const GraphOp &op : graph_.ops)
			users += uses(op).count(tensor) > 0;
		return users;
	}

	static std::set<size_t> uses(const GraphOp &op)
	{
		std::set<size_t> all;
		for (const auto &read : op.reads)
			all.insert(read.first);
		for (int t : {op.allocates, op.overwrites})
			if (t >= 0)
				all.insert(size_t(t));
		return all;
	}

	/* An operation that can begin; -1 if there is none now. */
	int take()
	{
		std::vector<int> ready;
		for (size_t i = 0; i < graph_.ops.size(); i++) {
			const std::set<int> &needs = graph_.ops[i].needs;
			if (!taken_[i] && std::all_of(needs.begin(), needs.end(),
						      [this](int n) { return done_[size_t(n)]; }))
				ready.push_back(int(i));
		}
		if (ready.empty())
			return -1;
		/* Mostly in the plan's order */
		int chosen = ready[random_() % 8 ? 0 : random_() % ready.size()];
		taken_[size_t(chosen)] = true;
		return chosen;
	}

	void run()
	{
		std::unique_lock<std::mutex> lock(mutex_);
		while (ended_ < graph_.ops.size()) {
			int i = take();
			if (i < 0) {
				lock.unlock();
				std::this_thread::yield();
				lock.lock();
				continue;
			}
			lock.unlock();
			run_op(i);
			lock.lock();
			done_[size_t(i)] = true;
			ended_++;
		}
	}

	char *address(size_t tensor)
	{
		return frames_.at(graph_.tensors[tensor].offset);
	}

	void run_op(int i)
	{
		const GraphOp &op = graph_.ops[size_t(i)];
		FrameExecutor &executor = *frames_.executor;
		{
			std::lock_guard<std::mutex> lock(advance_);
			if (op.use >= 0)
				position_ = std::max(position_,
						     graph_.plan.uses[size_t(op.use)].position);
			executor.advance(position_);
		}
		std::vector<const char *> inputs, written;
		for (size_t t : uses(op))
			if (int(t) != op.allocates)
				inputs.push_back(address(t));
		executor.hold(step_, i, inputs);
		if (op.allocates >= 0)
			executor.tensor_born(address(size_t(op.allocates)),
					     graph_.tensors[size_t(op.allocates)].size, i);
		for (const auto &read : op.reads)
			check(read.first, read.second);
		for (int t : {op.allocates, op.overwrites})
			if (t >= 0) {
				fill(size_t(t), op.version);
				written.push_back(address(size_t(t)));
			}
		/* Else it would end before anything migrates */
		std::this_thread::sleep_for(std::chrono::microseconds(i % 3 * 300));
		for (const auto &read : op.reads)
			if (int(read.first) != op.overwrites)
				check(read.first, read.second);
		executor.op_ended(step_, i, op.use, written);
		for (size_t t : uses(op))
			if (--uses_left_[t] == 0)
				executor.tensor_died(address(t), graph_.tensors[t].size);
	}

	void fill(size_t tensor, int version)
	{
		auto words = reinterpret_cast<uint64_t *>(address(tensor));
		for (size_t i = 0; i < graph_.tensors[tensor].size / 8; i++)
			words[i] = word(tensor, version, i);
	}

	void check(size_t tensor, int version)
	{
		auto words = reinterpret_cast<const uint64_t *>(address(tensor));
		for (size_t i = 0; i < graph_.tensors[tensor].size / 8; i++)
			if (words[i] != word(tensor, version, i)) {
				wrong++;
				return;
			}
	}

	Graph &graph_;
	Frames &frames_;
	std::mt19937 random_;
	std::mutex mutex_, advance_;
	std::vector<bool> done_, taken_;
	struct Count {
		std::atomic<int> n;
		Count(int value) : n(value)
		{
		}
		Count(const Count &other) : n(other.n.load())
		{
		}
		int operator--()
		{
			return --n;
		}
	};
	std::vector<Count> uses_left_;
	size_t ended_ = 0;
	uint64_t step_ = 0;
	int position_ = -1;
};

void run_graphs(bool unknown)
{
	MigrationStatistics total;
	uint64_t late = 0;

	for (unsigned seed = 0; seed < 12; seed++) {
		GraphMaker maker(seed, unknown);
		Frames frames(maker.graph.plan, 1 + int(seed % 3));
		Execution execution(maker.graph, frames, seed);
		for (uint64_t step = 1; step <= 6; step++) {
			StepStatistics s = execution.step(step, step % 2);
			total += s.moves;
			late += s.late;
			for (const MoveRecord &record : s.records)
				CHECK(record.outcome != Outcome::none);
		}
		CHECK_MESSAGE(execution.wrong == 0, "seed " << seed);
		frames.executor->retire();
	}
	CHECK(total.promoted > 0);
	CHECK(total.demoted > 0);
	CHECK(total.cancelled > 0);
	CHECK(total.remaps > 0);
	CHECK(total.failed == 0);
	CHECK(total.copied > 0);
	MESSAGE("promoted " << total.promoted << ", demoted " << total.demoted << ", cancelled "
			    << total.cancelled << ", copied " << total.copied << ", late " << late);
}

TEST_CASE("operations in any order find their tensors' content")
{
	run_graphs(false);
}

TEST_CASE("operations that the plan does not know find their tensors' content")
{
	run_graphs(true);
}

} // namespace
