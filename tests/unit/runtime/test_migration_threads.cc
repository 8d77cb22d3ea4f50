/* SPDX-License-Identifier: Apache-2.0 */
#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>

#include "simulated_memory.h"

using namespace sentinel;

namespace
{

TEST_CASE("migration threads promote and demote")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	threads.submit(page_address(0), 3 * kPiece, kFast, 5);
	threads.submit(page_address(1000), kPage, kSlow, 5);
	threads.wait(5);
	CHECK(threads.late_bytes(5) == 0);
	threads.drain();
	CHECK(memory.node[0] == kFast);
	CHECK(memory.node[3 * 64 - 1] == kFast);
	CHECK(memory.node[1000] == kSlow);
	CHECK_FALSE(memory.bad_size);
	MigrationStatistics s = threads.take_statistics();
	CHECK(s.promoted == 3 * kPiece);
	CHECK(s.demoted == kPage);
	CHECK(s.failed == 0);
	CHECK(s.retried == 0);
	CHECK(threads.take_statistics().promoted == 0);
}

TEST_CASE("a failed migration is retried once")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	memory.refusals[1] = 1;
	memory.refusals[2] = 2;
	threads.submit(page_address(0), 4 * kPage, kFast, 0);
	threads.drain();
	MigrationStatistics s = threads.take_statistics();
	CHECK(s.retried == 1);
	CHECK(s.failed == kPage);
	CHECK(s.promoted == 3 * kPage);
}

TEST_CASE("each request has a record")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	memory.refusals[1] = 9;
	memory.set_gate(false);
	threads.submit(page_address(200), 2 * kPiece, kFast, 1, 5);
	memory.wait_running(1);
	threads.submit(page_address(0), kPage, kFast, 1, 6);
	threads.submit(page_address(1), kPage, kFast, 9, 7);
	threads.submit(page_address(2), kPage, kFast, 9, 8);
	threads.submit(page_address(2), kPage, kSlow, 9, 9); /* instead of the one before */
	threads.cancel_late(1);
	std::vector<MoveRecord> records = threads.take_records();
	REQUIRE(records.size() == 5);
	std::map<size_t, MoveRecord> first;
	for (const MoveRecord &record : records)
		first[record.move] = record;
	CHECK(first[5].outcome == Outcome::none); /* it is in its first piece */
	CHECK(first[5].begin_ns > first[5].ready_ns);
	CHECK(first[6].outcome == Outcome::cancelled);
	CHECK(first[6].reason == Reason::given_up);
	CHECK(first[6].begin_ns == 0);
	CHECK(first[8].reason == Reason::superseded);
	CHECK(first[9].outcome == Outcome::none);
	memory.set_gate(true);
	threads.drain();
	CHECK(threads.take_records().empty());
	threads.submit(page_address(1), kPage, kFast, 9, 10);
	threads.submit(page_address(3), kPage, kFast, 9, 11);
	threads.drain();
	records = threads.take_records();
	REQUIRE(records.size() == 2);
	CHECK(records[0].move == 10);
	CHECK(records[0].outcome == Outcome::failed);
	CHECK(records[1].outcome == Outcome::moved);
	CHECK(records[1].begin_ns > records[1].ready_ns);
	CHECK(records[1].end_ns > records[1].begin_ns);
}

TEST_CASE("overlapping migrations run in order of submission")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	memory.set_gate(false);
	threads.submit(page_address(0), 2 * kPiece, kSlow, 9); /* blocks in its first piece */
	memory.wait_running(1);
	threads.submit(page_address(64), kPage, kFast, 9); /* overlaps its second piece */
	threads.submit(page_address(500), kPage, kFast, 9);
	memory.wait_running(2); /* the last one does not overlap */
	CHECK(threads.late_bytes(9) == 2 * kPage);
	CHECK(threads.late_bytes(8) == 0);
	memory.set_gate(true);
	threads.wait(9);
	CHECK(memory.node[64] == kFast);
	CHECK(memory.node[65] == kSlow);
}

TEST_CASE("late promotions and opposite requests are cancelled")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	memory.set_gate(false);
	threads.submit(page_address(100), kPage, kSlow, 1);
	threads.submit(page_address(200), 3 * kPiece, kFast, 1);
	memory.wait_running(2);
	threads.submit(page_address(0), kPage, kSlow, 1);
	threads.submit(page_address(0), kPage, kFast, 1); /* cancels the demotion */
	threads.cancel_late(1);
	CHECK(threads.late_bytes(1) == 0);
	threads.wait(1); /* returns at once */
	memory.set_gate(true);
	threads.drain();
	MigrationStatistics s = threads.take_statistics();
	CHECK(s.cancelled == 2 * kPage + 2 * kPiece);
	CHECK(s.promoted == kPiece);
	CHECK(s.demoted == kPage);
	CHECK(memory.node.count(0) == 0);
}

TEST_CASE("a refused promotion waits for older demotions")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	memory.set_gate(false);
	memory.refusals[0] = 1;
	threads.submit(page_address(900), kPage, kSlow, 1);
	memory.wait_running(1);
	threads.submit(page_address(0), kPage, kFast, 1);
	memory.wait_running(2);
	memory.set_gate(true);
	threads.drain();
	REQUIRE(memory.log.size() == 3);
	CHECK(memory.log[2].first == 0);
	CHECK(memory.node[0] == kFast);
}

TEST_CASE("the destructor stops running migrations")
{
	SimulatedMemory memory;
	{
		MigrationThreads threads(memory.function(), tick);
		for (int i = 0; i < 1000; i++)
			threads.submit(page_address(64 * i), kPiece, i % 2, i);
	}
	CHECK(memory.running == 0);
}

TEST_CASE("thousands of migrations all succeed")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);
	std::mt19937 random(3);

	for (int i = 0; i < 5000; i++) {
		size_t page = random() % 50 * 10;
		int node = int(random() % 2);
		threads.submit(page_address(page), kPage * (1 + random() % 3), node, i);
		if (i % 100 == 0)
			threads.wait(i);
	}
	threads.drain();
	MigrationStatistics s = threads.take_statistics();
	CHECK(s.failed == 0);
	CHECK(s.promoted > 0);
	CHECK(s.demoted > 0);
	CHECK_FALSE(memory.bad_size);
}

/*
 * A promotion that waits for space waits for a demotion, which waits for an older promotion that
 * overlaps it, which waits for an older demotion.
 */
TEST_CASE("a chain of waiting migrations does not deadlock")
{
	SimulatedMemory memory;
	MigrationThreads threads(memory.function(), tick);

	memory.set_gate(false);
	memory.refusals[100] = 1;
	threads.submit(page_address(0), 4 * kPage, kSlow, 1);
	memory.wait_running(1);
	threads.submit(page_address(0), 2 * kPage, kFast, 1);
	threads.submit(page_address(1), 3 * kPage, kSlow, 1);
	threads.submit(page_address(100), kPage, kFast, 1);
	memory.wait_running(2);
	memory.set_gate(true);
	threads.drain();
	MigrationStatistics s = threads.take_statistics();
	CHECK(s.failed == 0);
	CHECK(s.retried == 1);
	CHECK(s.cancelled == 0);
	CHECK(memory.node[0] == kFast);
	CHECK(memory.node[1] == kSlow);
	CHECK(memory.node[100] == kFast);
	/* The refused promotion was retried last, after all older demotions. */
	CHECK(memory.log.back().first == 100);
	CHECK(memory.log.back().second == kFast);
}

TEST_CASE("random overlapping migrations leave each page on its last node")
{
	for (unsigned seed = 0; seed < 20; seed++) {
		SimulatedMemory memory;
		MigrationThreads threads(memory.function(), tick);
		std::mt19937 random(seed);
		std::map<size_t, int> last_node;
		std::set<std::pair<size_t, size_t>> ranges;

		for (size_t page = 0; page < 52; page++)
			memory.refusals[page] = random() % 4 == 0;
		for (int i = 0; i < 300; i++) {
			size_t start = random() % 40, pages = 1 + random() % 12;
			int node = int(random() % 2);
			/* The same range again could cancel the earlier request. */
			if (!ranges.insert({start, pages}).second)
				continue;
			threads.submit(page_address(start), pages * kPage, node, i);
			for (size_t page = start; page < start + pages; page++)
				last_node[page] = node;
		}
		threads.drain();
		for (auto &page : last_node)
			CHECK(memory.node[page.first] == page.second);
		CHECK(threads.take_statistics().failed == 0);
	}
}

} // namespace
