/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers, trial and executor, with a move function that only pretends. */
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <vector>

#include "core/executor.h"
#include "check.h"

using namespace sentinel;

namespace
{

constexpr size_t kPiece = 64 * kPage;

char *at(size_t page)
{
	return reinterpret_cast<char *>(uintptr_t(1) << 40) + page * kPage;
}

/* Pages and the node that they are on; a gate that holds moves back; pages that will not go. */
struct World {
	std::mutex mutex;
	std::condition_variable changed;
	std::map<size_t, int> node;	/* page -> node */
	std::map<size_t, int> refusals; /* page -> how often it refuses still */
	std::vector<std::pair<size_t, int>> log;
	bool open = true;
	int running = 0;

	Moved move(char *start, size_t size, int to)
	{
		std::unique_lock<std::mutex> lock(mutex);
		Moved moved;

		CHECK(size && size % kPage == 0 && size <= kPiece);
		log.emplace_back((start - at(0)) / kPage, to);
		running++;
		changed.notify_all();
		changed.wait(lock, [this] { return open; });
		running--;
		for (size_t page = (start - at(0)) / kPage; size; page++, size -= kPage) {
			if (refusals[page] > 0) {
				refusals[page]--;
				moved.failed += kPage;
			} else {
				node[page] = to;
				moved.moved += kPage;
			}
		}
		return moved;
	}

	void gate(bool now_open)
	{
		std::lock_guard<std::mutex> lock(mutex);
		open = now_open;
		changed.notify_all();
	}

	void wait_running(int n)
	{
		std::unique_lock<std::mutex> lock(mutex);
		changed.wait(lock, [&] { return running == n; });
	}

	MoveFunction function()
	{
		return [this](char *start, size_t size, int to) { return move(start, size, to); };
	}
};

void helpers_move()
{
	World world;
	Helpers helpers(world.function());

	helpers.order(at(0), 3 * kPiece, kFast, 5);
	helpers.order(at(1000), kPage, kSlow, 5);
	helpers.wait(5);
	CHECK(helpers.late(5) == 0);
	helpers.drain();
	CHECK(world.node[0] == kFast && world.node[3 * 64 - 1] == kFast &&
	      world.node[1000] == kSlow);
	MoveStatistics s = helpers.take_statistics();
	CHECK(s.promoted == 3 * kPiece && s.demoted == kPage && s.failed == 0 && s.retried == 0);
	CHECK(helpers.take_statistics().promoted == 0);
}

void helpers_retry_once()
{
	World world;
	Helpers helpers(world.function());

	world.refusals[1] = 1;
	world.refusals[2] = 2;
	helpers.order(at(0), 4 * kPage, kFast, 0);
	helpers.drain();
	MoveStatistics s = helpers.take_statistics();
	CHECK(s.retried == 1 && s.failed == kPage && s.promoted == 3 * kPage);
}

void helpers_keep_the_order_of_a_range()
{
	World world;
	Helpers helpers(world.function());

	world.gate(false);
	helpers.order(at(0), 2 * kPiece, kSlow, 9); /* begins, and is held in its first piece */
	world.wait_running(1);
	helpers.order(at(64), kPage, kFast, 9); /* of its second piece */
	helpers.order(at(500), kPage, kFast, 9);
	world.wait_running(2); /* that one need not wait */
	CHECK(helpers.late(9) == 2 * kPage && helpers.late(8) == 0);
	world.gate(true);
	helpers.wait(9);
	CHECK(world.node[64] == kFast && world.node[65] == kSlow);
}

void helpers_call_off()
{
	World world;
	Helpers helpers(world.function());

	world.gate(false);
	helpers.order(at(100), kPage, kSlow, 1);
	helpers.order(at(200), 3 * kPiece, kFast, 1);
	world.wait_running(2);
	helpers.order(at(0), kPage, kSlow, 1);
	helpers.order(at(0), kPage, kFast, 1); /* calls the demotion off */
	helpers.leave(1);
	CHECK(helpers.late(1) == 0);
	helpers.wait(1); /* for nothing */
	world.gate(true);
	helpers.drain();
	MoveStatistics s = helpers.take_statistics();
	CHECK(s.cancelled == 2 * kPage + 2 * kPiece && s.promoted == kPiece && s.demoted == kPage);
	CHECK(world.node.count(0) == 0);
}

void helpers_make_room_first()
{
	World world;
	Helpers helpers(world.function());

	world.gate(false);
	world.refusals[0] = 1;
	helpers.order(at(900), kPage, kSlow, 1);
	world.wait_running(1);
	helpers.order(at(0), kPage, kFast, 1);
	world.wait_running(2);
	world.gate(true);
	helpers.drain();
	/* Page 0 was refused, and tried again when page 900 had gone. */
	CHECK(world.log.size() == 3 && world.log[2].first == 0 && world.node[0] == kFast);
}

void helpers_stop_in_the_middle()
{
	World world;
	{
		Helpers helpers(world.function());
		for (int i = 0; i < 1000; i++)
			helpers.order(at(64 * i), kPiece, i % 2, i);
	}
	CHECK(world.running == 0);
}

void helpers_under_load()
{
	World world;
	Helpers helpers(world.function());
	std::map<size_t, int> last;
	std::mt19937 random(3);

	for (int i = 0; i < 5000; i++) {
		size_t page = random() % 50 * 10;
		int node = int(random() % 2);
		helpers.order(at(page), kPage * (1 + random() % 3), node, i);
		last[page] = node;
		if (i % 100 == 0)
			helpers.wait(i);
	}
	helpers.drain();
	MoveStatistics s = helpers.take_statistics();
	CHECK(s.failed == 0 && s.promoted && s.demoted);
}

/*
 * A promotion that waits for room waits for a demotion, which waits for an older promotion of some
 * of its pages, which began to wait before.
 */
void helpers_wait_in_a_chain()
{
	World world;
	Helpers helpers(world.function());

	world.gate(false);
	world.refusals[100] = 1;
	helpers.order(at(0), 4 * kPage, kSlow, 1);
	world.wait_running(1);
	helpers.order(at(0), 2 * kPage, kFast, 1);
	helpers.order(at(1), 3 * kPage, kSlow, 1);
	helpers.order(at(100), kPage, kFast, 1);
	world.wait_running(2);
	world.gate(true);
	helpers.drain();
	MoveStatistics s = helpers.take_statistics();
	CHECK(s.failed == 0 && s.retried == 1 && s.cancelled == 0);
	CHECK(world.node[0] == kFast && world.node[1] == kSlow && world.node[100] == kFast);
	/* The refused one came again last, when all demotions before it were done. */
	CHECK(world.log.back() == std::make_pair(size_t(100), kFast));
}

/* Whatever overlaps, and whatever is refused once, ends, and each page is where it went last. */
void helpers_overlap_at_random()
{
	for (unsigned seed = 0; seed < 20; seed++) {
		World world;
		Helpers helpers(world.function());
		std::mt19937 random(seed);
		std::map<size_t, int> last;
		std::set<std::pair<size_t, size_t>> ranges;

		for (size_t page = 0; page < 52; page++)
			world.refusals[page] = random() % 4 == 0;
		for (int i = 0; i < 300; i++) {
			size_t start = random() % 40, pages = 1 + random() % 12;
			int node = int(random() % 2);
			/* Of the same pages again, it might call off the one before. */
			if (!ranges.insert({start, pages}).second)
				continue;
			helpers.order(at(start), pages * kPage, node, i);
			for (size_t page = start; page < start + pages; page++)
				last[page] = node;
		}
		helpers.drain();
		for (auto &page : last)
			CHECK(world.node[page.first] == page.second);
		CHECK(helpers.take_statistics().failed == 0);
	}
}

void trial()
{
	Trial better, worse, idle;

	CHECK(better.wait());
	better.step(100, 10); /* settles */
	CHECK(better.wait());
	better.step(100, 10);
	CHECK(!better.wait());
	better.step(90, 0);
	CHECK(!better.wait() && std::string(better.name()) == "leave");
	worse.step(100, 10);
	worse.step(100, 10);
	worse.step(110, 0);
	CHECK(worse.wait() && std::string(worse.name()) == "wait");
	idle.step(100, 10);
	idle.step(100, 0);
	CHECK(idle.wait() && std::string(idle.name()) == "wait");
}

Plan three_moves()
{
	Plan plan{};

	plan.ops = 10;
	plan.moves = {{-1, kFast, 0, kPage, -1, 2},
		      {3, kSlow, 0, kPage, -1, 8},
		      {5, kFast, 8 * kPage, kPage, -1, 8},
		      {5, kFast, 0, 0, 7, 8},
		      {10, kSlow, 8 * kPage, kPage, -1, 10}};
	plan.waits = {2, 8};
	return plan;
}

Pages resolve(const Move &move)
{
	return move.tensor >= 0 ? Pages() : Pages{at(move.offset / kPage), move.size};
}

void executor_orders_when_due()
{
	World world;
	Plan plan = three_moves();
	std::atomic<uint64_t> now{0};
	Executor executor(plan, resolve, world.function(), [&] { return now += 10; });

	for (int step = 0; step < 3; step++) {
		world.log.clear();
		executor.step_begin();
		for (int position = 0; position < 10; position++) {
			executor.advance(position);
			executor.drain();
			CHECK(world.log.size() == size_t(1 + (position >= 3) + (position >= 5)));
		}
		StepStatistics s = executor.step_end();
		executor.drain();
		CHECK(world.log.size() == 4 && world.log[3] == std::make_pair(size_t(8), kSlow));
		CHECK(s.unresolved == 1 && s.late == 0 && s.exposed_ns == 0 && s.step_ns == 10);
		CHECK(s.moves.promoted == 2 * kPage);
	}
}

/* Steps in which promotions are never in time: how long they wait decides what is kept. */
const char *kept(uint64_t waiting_costs, uint64_t leaving_costs)
{
	World world;
	Plan plan = three_moves();
	std::atomic<uint64_t> now{0};
	Executor executor(plan, resolve, world.function(), [&] { return now.load(); });
	StepStatistics s;

	for (int step = 0; step < 4; step++) {
		world.gate(false);
		executor.step_begin();
		executor.advance(0);
		world.wait_running(1);
		bool waits = step != 2 && !(step == 3 && leaving_costs < waiting_costs);
		std::thread opens([&] {
			/* After the executor has begun to wait, as a rule; before is right too. */
			std::this_thread::sleep_for(std::chrono::milliseconds(20));
			if (waits)
				now += waiting_costs;
			world.gate(true);
		});
		if (!waits)
			now += leaving_costs;
		executor.advance(2);
		CHECK(world.node.count(0) == (step > 0 || waits) || !waits);
		opens.join();
		s = executor.step_end();
		executor.drain();
		CHECK(s.late >= kPage);
		CHECK(waits ? s.exposed_ns == waiting_costs : s.exposed_ns == 0);
	}
	return s.trial;
}

void executor_tries_both()
{
	CHECK(std::string(kept(1000, 10)) == "leave");
	CHECK(std::string(kept(10, 1000)) == "wait");
}

} // namespace

void moves()
{
	helpers_move();
	helpers_retry_once();
	helpers_keep_the_order_of_a_range();
	helpers_call_off();
	helpers_make_room_first();
	helpers_stop_in_the_middle();
	helpers_under_load();
	helpers_wait_in_a_chain();
	helpers_overlap_at_random();
	trial();
	executor_orders_when_due();
	executor_tries_both();
}
