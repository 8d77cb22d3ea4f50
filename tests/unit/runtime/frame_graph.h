/* SPDX-License-Identifier: Apache-2.0 */
/* Random graphs of operations on tensors, each with a random plan that is valid for it. */
#ifndef SENTINEL_TESTS_FRAME_GRAPH_H
#define SENTINEL_TESTS_FRAME_GRAPH_H

#include <algorithm>
#include <iterator>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "core/plan.h"

namespace frame_graph
{

using namespace sentinel;

constexpr int kGraphOps = 60;

struct Tensor {
	size_t group, last_group; /* it has parts of these and of those between */
	size_t offset, size;	  /* in the arena */
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
		size_t offset = graph.plan.arena, split = chance(30) ? size_t(pick(1, 4)) : pages;
		bool shares = !groups.empty() && chance(30);
		if (!shares)
			add_group();
		size_t group = groups.size() - 1;
		for (size_t page = 0; page < pages; page++) {
			if (page == split)
				add_group();
			groups.back().size += kPage;
			graph.plan.arena += kPage;
		}
		op.allocates = int(graph.tensors.size());
		graph.tensors.push_back(
			{group, groups.size() - 1, offset, pages * kPage - 64, i, i});
		versions_.push_back(0);
		last_writer_.push_back(i);
		readers_.emplace_back();
	}

	void add_group()
	{
		Group g{};
		g.offset = graph.plan.arena;
		graph.plan.groups.push_back(g);
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
				return t >= 0 && graph.tensors[size_t(t)].group <= group &&
				       group <= graph.tensors[size_t(t)].last_group;
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

} // namespace frame_graph

#endif
