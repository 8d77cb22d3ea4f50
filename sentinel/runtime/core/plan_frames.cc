/* SPDX-License-Identifier: Apache-2.0 */
#include "plan_frames.h"

#include <algorithm>
#include <set>
#include <utility>

#include "memory.h"

namespace sentinel
{
namespace
{

using json::Value;

/* The range of `size` bytes in the fast frame pool that begins at `v`. */
size_t parse_range(const Value &v, size_t size, const Plan &plan)
{
	size_t frame = size_t(v.integer(0, INT64_MAX));

	if (frame % kPage)
		v.fail("must be a multiple of the page size, " + std::to_string(kPage));
	if (size > plan.frames || frame > plan.frames - size)
		v.fail("extends beyond the fast frame pool");
	return frame;
}

GroupUse parse_use(const Value &v, const Plan &plan)
{
	std::vector<Value> fields = v.items();

	if (fields.size() != 3)
		v.fail("must be [operation, occurrence, position or null]");
	GroupUse use{fields[0].string(), int(fields[1].integer(0, INT32_MAX)), -1};
	if (!fields[2].is_null())
		use.position = int(fields[2].integer(0, plan.ops - 1));
	return use;
}

/* The use by an operation's run, or nullptr. */
const GroupUse *find_use(const Plan &plan, const std::string &op, int occurrence)
{
	auto uses = plan.uses_by_op.find(op);

	if (uses != plan.uses_by_op.end())
		for (int use : uses->second)
			if (plan.uses[use].occurrence == occurrence)
				return &plan.uses[use];
	return nullptr;
}

/* Indices of the groups without `keep` that a tensor of the arena lies in. */
std::vector<int> groups_of(const Plan &plan, const PlannedTensor &t)
{
	std::vector<int> found;
	auto g = plan.group_at.upper_bound(t.offset);

	if (g != plan.group_at.begin())
		--g;
	for (; g != plan.group_at.end() && g->first < t.offset + t.size; ++g)
		if (!plan.groups[g->second].keep)
			found.push_back(g->second);
	return found;
}

/* Tensors of migratable groups are allocated by uses. Returns the last birth in every group. */
std::vector<int> check_births(const Value &document, const Plan &plan)
{
	std::vector<Value> values = document["tensors"].items();
	std::vector<int> last(plan.groups.size(), -1);

	for (size_t i = 0; i < values.size(); i++) {
		const PlannedTensor &t = plan.tensors[i];
		if (t.variable || t.short_lived)
			continue;
		for (int g : groups_of(plan, t)) {
			const GroupUse *use = find_use(plan, t.op, t.occurrence);
			if (!use)
				values[i].fail("is in a migratable group, but 'uses' lacks its "
					       "operation");
			if (use->position != t.position)
				values[i]["position"].fail("differs from that of 'uses'");
			last[g] = std::max(last[g], t.position);
		}
	}
	return last;
}

} // namespace

int group_of(const Plan &plan, size_t offset, size_t size)
{
	auto g = plan.group_at.find(offset);

	if (g == plan.group_at.end())
		return -1;
	const Group &group = plan.groups[g->second];
	return group.size == size && !group.keep ? g->second : -1;
}

void parse_frame(const Value &v, const Plan &plan, Group &group)
{
	bool has_frame = v.has("frame") && !v["frame"].is_null();

	if (group.keep || group.node != kFast) {
		if (has_frame)
			v["frame"].fail("must be null for a group with 'keep' or on node 1");
		return;
	}
	group.frame = parse_range(v["frame"], group.size, plan);
}

void parse_frame(const Value &v, const Plan &plan, Move &move)
{
	if (group_of(plan, move.offset, move.size) < 0)
		v.fail("must move exactly one group");
	if (move.before < move.at)
		v["before"].fail("is before 'at'");
	move.map = int(v["map"].integer(move.at, move.before));
	move.copy = v["copy"].boolean();
	if (move.to == kFast) {
		move.frame = parse_range(v["frame"], move.size, plan);
		if (!move.copy)
			v["copy"].fail("must be true for a promotion");
	} else if (v.has("frame") && !v["frame"].is_null()) {
		v["frame"].fail("must be null for a demotion");
	}
}

void parse_uses(const Value &document, Plan &plan)
{
	std::set<std::pair<std::string, int>> runs;
	int last = -1;

	for (const Value &v : document["uses"].items()) {
		GroupUse use = parse_use(v, plan);
		if (!runs.emplace(use.op, use.occurrence).second)
			v.fail("repeats a run of '" + use.op + "'");
		if (use.position >= 0 && use.position < last)
			v.fail("has a position before that of an earlier use");
		last = std::max(last, use.position);
		plan.uses_by_op[use.op].push_back(int(plan.uses.size()));
		plan.uses.push_back(std::move(use));
	}
	std::vector<int> births = check_births(document, plan);
	std::vector<Value> moves = document["moves"].items();
	for (size_t i = 0; i < moves.size(); i++) {
		const Move &move = plan.moves[i];
		if (move.tensor < 0 && move.at <= births[group_of(plan, move.offset, move.size)])
			moves[i]["at"].fail("is not after the last birth in its group");
	}
}

size_t frame_mappings(const Plan &plan)
{
	std::set<std::pair<size_t, size_t>> ranges; /* group and frame range */
	size_t homes = 0;

	if (!plan.has_frames)
		return 0;
	for (const Group &g : plan.groups) {
		homes += !g.keep;
		if (g.frame != kNoFrame)
			ranges.emplace(g.offset, g.frame);
	}
	for (const Move &m : plan.moves)
		if (m.frame != kNoFrame)
			ranges.emplace(m.offset, m.frame);
	return homes + ranges.size();
}

} // namespace sentinel
