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
#include "frame_graph.h"

using namespace frame_graph;

namespace
{

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

	TensorRange range(size_t tensor)
	{
		return {address(tensor), graph_.tensors[tensor].size};
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
		std::vector<TensorRange> inputs, written;
		for (size_t t : uses(op))
			if (int(t) != op.allocates)
				inputs.push_back(range(t));
		executor.hold(step_, i, inputs);
		if (op.allocates >= 0)
			executor.tensor_born(address(size_t(op.allocates)),
					     graph_.tensors[size_t(op.allocates)].size, i);
		for (const auto &read : op.reads)
			check(read.first, read.second);
		for (int t : {op.allocates, op.overwrites})
			if (t >= 0) {
				fill(size_t(t), op.version);
				written.push_back(range(size_t(t)));
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
