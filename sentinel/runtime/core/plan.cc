/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <algorithm>
#include <iterator>

#include <nlohmann/json.hpp>

#include "memory.h"
#include "plan_frames.h"

namespace sentinel
{
namespace
{

using json::Value;

constexpr int64_t kMaxBytes = int64_t(1) << 46; /* about the size of the address space */
constexpr int64_t kMaxOps = 1 << 30;
constexpr size_t kMaxPoolToMemory = 4; /* a pool may exceed memory: not all of it lives at once */
constexpr size_t kAlignment = 64;      /* of TensorFlow's tensors */
/* The kernel allows a process 65,530 mappings (vm.max_map_count). */
constexpr size_t kMaxMappings = 60000;

/* Fail unless [offset, offset + size) ends within `end`. */
void check_within(const Value &v, size_t offset, size_t size, size_t end, const char *pool)
{
	if (size > end || offset > end - size)
		v.fail(std::string("extends beyond the ") + pool);
}

void check_whole_pages(const Value &v, size_t offset, size_t size)
{
	if (offset % kPage || size % kPage)
		v.fail("offset and size must be multiples of the page size, " +
		       std::to_string(kPage));
}

PlannedTensor parse_variable(const Value &v, PlannedTensor t)
{
	if (t.short_lived)
		v["pool"].fail("must be \"long\" for a variable");
	if (v.has("offset") && !v["offset"].is_null())
		v["offset"].fail("must be null for a variable");
	return t;
}

PlannedTensor parse_tensor(const Value &v, const Plan &plan)
{
	PlannedTensor t;

	v.allow_only(
		{"op", "name", "occurrence", "k", "size", "position", "pool", "offset", "node"});
	t.variable = v.has("name");
	if (t.variable && v.has("op") && !v["op"].is_null())
		v.fail("has both 'op' and 'name'");
	t.op = t.variable ? v["name"].string() : v["op"].string();
	t.occurrence = t.variable ? 0 : int(v["occurrence"].integer(0, kMaxOps));
	t.k = t.variable ? 0 : int(v["k"].integer(0, kMaxOps));
	t.size = size_t(v["size"].integer(1, kMaxBytes));
	std::string pool = v["pool"].string();
	if (pool != "short" && pool != "long")
		v["pool"].fail("must be \"short\" or \"long\"");
	t.short_lived = pool == "short";
	t.node = t.short_lived && !v.has("node") ? kFast : int(v["node"].integer(0, 1));
	t.offset = 0;
	if (t.variable)
		return parse_variable(v, t);
	if (!v["position"].is_null())
		t.position = int(v["position"].integer(0, plan.ops - 1));
	t.offset = size_t(v["offset"].integer(0, kMaxBytes));
	if (t.offset % kAlignment)
		v["offset"].fail("must be a multiple of " + std::to_string(kAlignment));
	if (t.short_lived && t.node != kFast)
		v["node"].fail("must be 0 for a short-lived tensor");
	check_within(v, t.offset, t.size, t.short_lived ? plan.reserved : plan.arena,
		     t.short_lived ? "reserved pool" : "arena");
	return t;
}

size_t parse_pool_size(const Value &v)
{
	size_t size = size_t(v.integer(0, kMaxBytes));

	if (size % kPage)
		v.fail("must be a multiple of the page size, " + std::to_string(kPage));
	if (size > round_down(kMaxPoolToMemory * physical_memory()))
		v.fail("exceeds " + std::to_string(kMaxPoolToMemory) +
		       " times this machine's memory");
	return size;
}

Group parse_group(const Value &v, const Plan &plan)
{
	Group g;

	std::vector<std::string> keys = {"offset", "size", "node", "keep"};
	if (plan.has_frames)
		keys.push_back("frame");
	v.allow_only(keys);
	g.offset = size_t(v["offset"].integer(0, kMaxBytes));
	g.size = size_t(v["size"].integer(1, kMaxBytes));
	g.node = int(v["node"].integer(0, 1));
	g.keep = v["keep"].boolean();
	check_whole_pages(v, g.offset, g.size);
	check_within(v, g.offset, g.size, plan.arena, "arena");
	if (plan.has_frames)
		parse_frame(v, plan, g);
	return g;
}

Move parse_move(const Value &v, const Plan &plan)
{
	Move m;

	bool of_variable = v.has("tensor") && !v["tensor"].is_null();
	std::vector<std::string> keys = {"at", "to", "offset", "size", "tensor", "before"};
	if (plan.has_frames && !of_variable)
		keys.insert(keys.end(), {"map", "frame", "copy"});
	v.allow_only(keys);
	m.at = int(v["at"].integer(-1, plan.ops));
	m.to = int(v["to"].integer(0, 1));
	m.before = int(v["before"].integer(-1, plan.ops));
	m.offset = m.size = 0;
	m.tensor = -1;
	if (of_variable) {
		m.tensor = int(v["tensor"].integer(0, int64_t(plan.tensors.size()) - 1));
		if (!plan.tensors[m.tensor].variable)
			v["tensor"].fail(
				"must be a variable; other tensors move by offset and size");
		return m;
	}
	m.offset = size_t(v["offset"].integer(0, kMaxBytes));
	m.size = size_t(v["size"].integer(1, kMaxBytes));
	check_whole_pages(v, m.offset, m.size);
	check_within(v, m.offset, m.size, plan.arena, "arena");
	for (const Group &g : plan.groups)
		if (g.keep && m.offset < g.offset + g.size && g.offset < m.offset + m.size)
			v["offset"].fail("is in a group with 'keep', which must not move");
	if (plan.has_frames)
		parse_frame(v, plan, m);
	return m;
}

using GroupsByStart = std::map<size_t, const Group *>;

/* Index the groups by offset; fail if two overlap. */
GroupsByStart index_groups(const std::vector<Value> &values, const std::vector<Group> &groups)
{
	GroupsByStart starts;

	for (size_t i = 0; i < groups.size(); i++) {
		const Group &g = groups[i];
		auto next = starts.lower_bound(g.offset);
		if ((next != starts.end() && next->first < g.offset + g.size) ||
		    (next != starts.begin() &&
		     std::prev(next)->first + std::prev(next)->second->size > g.offset))
			values[i].fail("overlaps another group");
		starts[g.offset] = &g;
	}
	return starts;
}

/* A tensor of the arena must lie in one group, or in several without a gap. */
void check_group_of(const Value &v, const PlannedTensor &t, const GroupsByStart &starts)
{
	auto next = starts.upper_bound(t.offset);
	const Group *g = next == starts.begin() ? nullptr : std::prev(next)->second;

	if (!g || t.offset >= g->offset + g->size)
		v.fail("is in no group");
	if (t.node != g->node)
		v["node"].fail("differs from its group's node");
	size_t end = g->offset + g->size;
	for (; end < t.offset + t.size && next != starts.end() && next->first == end; next++)
		end += next->second->size;
	if (end < t.offset + t.size)
		v.fail("extends beyond its groups");
}

void index_tensor(const Value &v, int index, Plan &plan)
{
	const PlannedTensor &t = plan.tensors[index];

	if (t.variable) {
		if (!plan.by_name.emplace(t.op, index).second)
			v.fail("duplicate variable '" + t.op + "'");
		return;
	}
	for (int other : plan.by_op[t.op]) {
		const PlannedTensor &o = plan.tensors[other];
		if (o.occurrence == t.occurrence && o.k == t.k && o.size == t.size)
			v.fail("duplicate key: '" + t.op + "', allocation " + std::to_string(t.k));
	}
	plan.by_op[t.op].push_back(index);
}

void parse_placement(const Value &document, Plan &plan)
{
	std::vector<Value> tensors = document["tensors"].items();
	std::vector<Value> groups = document["groups"].items();

	for (const Value &v : tensors)
		plan.tensors.push_back(parse_tensor(v, plan));
	for (const Value &v : groups)
		plan.groups.push_back(parse_group(v, plan));
	GroupsByStart starts = index_groups(groups, plan.groups);
	for (size_t i = 0; i < plan.groups.size(); i++)
		plan.group_at[plan.groups[i].offset] = int(i);
	for (size_t i = 0; i < tensors.size(); i++) {
		const PlannedTensor &t = plan.tensors[i];
		if (!t.variable && !t.short_lived)
			check_group_of(tensors[i], t, starts);
	}
	for (size_t i = 0; i < tensors.size(); i++)
		index_tensor(tensors[i], int(i), plan);
}

/*
 * Each group with `keep`, or without frames, and each variable may need a mapping of its own, and
 * separates two others.
 */
void check_mappings(const Value &document, const Plan &plan)
{
	size_t mappings = 2 * plan.by_name.size() + frame_mappings(plan);

	for (const Group &g : plan.groups)
		if (g.keep || !plan.has_frames)
			mappings += 2;
	if (mappings > kMaxMappings)
		document.fail("may need " + std::to_string(mappings) +
			      " mappings for its groups and variables; the system allows " +
			      std::to_string(kMaxMappings) + " for them");
}

void parse_migrations(const Value &document, Plan &plan)
{
	for (const Value &v : document["moves"].items()) {
		Move move = parse_move(v, plan);
		if (move.tensor >= 0)
			plan.tensors[move.tensor].moves = true;
		if (!plan.moves.empty() && plan.moves.back().at > move.at)
			v["at"].fail("is before that of the previous move");
		move.number = plan.moves.size();
		plan.moves.push_back(move);
	}
	for (const Value &v : document["waits"].items()) {
		int wait = int(v.integer(0, plan.ops));
		if (!plan.waits.empty() && plan.waits.back() >= wait)
			v.fail("is not after the previous wait");
		plan.waits.push_back(wait);
	}
}

} // namespace

Plan parse_plan(const std::string &text)
{
	nlohmann::json root = json::parse(text);
	Value document(root, "");
	Plan plan;

	if (!document.has("format") || document["format"].string() != "sentinel-plan")
		document.fail("not a plan: 'format' must be \"sentinel-plan\"");
	int64_t version = document["version"].integer(1, INT32_MAX);
	if (version > 2)
		document["version"].fail("unsupported; this runtime supports versions 1 and 2");
	plan.has_frames = version == 2;
	std::vector<std::string> keys = {"format",	    "version",	 "graph",     "ops",
					 "budget",	    "room",	 "reserved",  "arena",
					 "interval_layers", "intervals", "tensors",   "groups",
					 "moves",	    "waits",	 "predicted", "made"};
	if (plan.has_frames)
		keys.insert(keys.end(), {"frames", "uses", "cores"});
	document.allow_only(keys);
	plan.graph = document["graph"].string();
	plan.ops = int(document["ops"].integer(1, kMaxOps));
	plan.budget = size_t(document["budget"].integer(0, kMaxBytes));
	plan.migratable_budget = size_t(document["room"].integer(0, kMaxBytes));
	plan.reserved = parse_pool_size(document["reserved"]);
	plan.arena = parse_pool_size(document["arena"]);
	if (plan.has_frames) {
		plan.frames = parse_pool_size(document["frames"]);
		if (plan.frames > plan.budget)
			document["frames"].fail("exceeds the budget");
		if (document.has("cores"))
			plan.cores = int(document["cores"].integer(1, INT32_MAX));
	}
	parse_placement(document, plan);
	parse_migrations(document, plan);
	if (plan.has_frames)
		parse_uses(document, plan);
	check_mappings(document, plan);
	return plan;
}

} // namespace sentinel
