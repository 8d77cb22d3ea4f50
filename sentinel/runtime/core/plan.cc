/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <algorithm>
#include <iterator>

#include "memory.h"

namespace sentinel
{
namespace
{

using json::Value;

constexpr int64_t kMost = int64_t(1) << 46; /* bytes: what addresses there are, about */
constexpr int64_t kMostOps = 1 << 30;
constexpr size_t kMostTimesMemory = 4; /* in a pool: not everything in it lives at once */
constexpr size_t kAlignment = 64;      /* that TensorFlow asks for */
/*
 * Each may need a mapping of its own in the kernel, which allows a process 65,530
 * (vm.max_map_count): beyond that nothing can be mapped at all any more.
 */
constexpr size_t kMostPlaces = 30000;

/* Whether [offset, offset + size) ends within `end`, without wrapping around. */
void within(const Value &v, size_t offset, size_t size, size_t end, const char *what)
{
	if (size > end || offset > end - size)
		v.fail(std::string("goes beyond the end of the ") + what);
}

PlannedTensor tensor(const Value &v, const Plan &plan)
{
	PlannedTensor t;

	v.only({"op", "name", "occurrence", "k", "size", "position", "pool", "offset", "node"});
	t.named = v.has("name");
	if (t.named && v.has("op") && !v["op"].null())
		v.fail("has both an 'op' and a 'name'");
	t.op = t.named ? v["name"].text() : v["op"].text();
	t.occurrence = t.named ? 0 : int(v["occurrence"].integer(0, kMostOps));
	t.k = t.named ? 0 : int(v["k"].integer(0, kMostOps));
	t.size = size_t(v["size"].integer(1, kMost));
	const std::string &pool = v["pool"].text();
	if (pool != "short" && pool != "long")
		v["pool"].fail("must be \"short\" or \"long\"");
	t.short_lived = pool == "short";
	t.node = t.short_lived && !v.has("node") ? kFast : int(v["node"].integer(0, 1));
	t.offset = 0;
	if (t.named) {
		if (t.short_lived)
			v["pool"].fail("must be \"long\" for what lives from before the step");
		if (v.has("offset") && !v["offset"].null())
			v["offset"].fail("must be null for what lives from before the step");
		return t;
	}
	if (!v["position"].null())
		t.position = int(v["position"].integer(0, plan.ops - 1));
	t.offset = size_t(v["offset"].integer(0, kMost));
	if (t.offset % kAlignment)
		v["offset"].fail("must be a multiple of " + std::to_string(kAlignment));
	if (t.short_lived && t.node != kFast)
		v["node"].fail("must be 0 for what is short-lived");
	within(v, t.offset, t.size, t.short_lived ? plan.reserved : plan.arena,
	       t.short_lived ? "reserved pool" : "arena");
	return t;
}

void pages(const Value &v, size_t offset, size_t size)
{
	if (offset % kPage || size % kPage)
		v.fail("must be whole pages: offset and size are to be multiples of " +
		       std::to_string(kPage));
}

/* The size of a pool: whole pages, and no more than could ever be used. */
size_t pool(const Value &v)
{
	size_t size = size_t(v.integer(0, kMost));
	size_t most = round_down(kMostTimesMemory * machine_memory());

	if (size % kPage)
		v.fail("must be whole pages: a multiple of " + std::to_string(kPage));
	if (size > most)
		v.fail("is more than " + std::to_string(kMostTimesMemory) +
		       " times this machine's memory");
	return size;
}

Group group(const Value &v, const Plan &plan)
{
	Group g;

	v.only({"offset", "size", "node", "keep"});
	g.offset = size_t(v["offset"].integer(0, kMost));
	g.size = size_t(v["size"].integer(1, kMost));
	g.node = int(v["node"].integer(0, 1));
	g.keep = v["keep"].boolean();
	pages(v, g.offset, g.size);
	within(v, g.offset, g.size, plan.arena, "arena");
	return g;
}

Move move(const Value &v, const Plan &plan)
{
	Move m;

	v.only({"at", "to", "offset", "size", "tensor", "before"});
	m.at = int(v["at"].integer(-1, plan.ops));
	m.to = int(v["to"].integer(0, 1));
	m.before = int(v["before"].integer(-1, plan.ops));
	m.offset = m.size = 0;
	m.tensor = -1;
	if (v.has("tensor") && !v["tensor"].null()) {
		m.tensor = int(v["tensor"].integer(0, int64_t(plan.tensors.size()) - 1));
		if (!plan.tensors[m.tensor].named)
			v["tensor"].fail(
				"must be one that has a name; others move by offset and size");
		return m;
	}
	m.offset = size_t(v["offset"].integer(0, kMost));
	m.size = size_t(v["size"].integer(1, kMost));
	pages(v, m.offset, m.size);
	within(v, m.offset, m.size, plan.arena, "arena");
	for (const Group &g : plan.groups)
		if (g.keep && m.offset < g.offset + g.size && g.offset < m.offset + m.size)
			v["offset"].fail("is in a group that is to keep its pages");
	return m;
}

/* Groups do not overlap, and every long tensor with an offset is in one, or in several without a
 * gap.
 */
void check_groups(const Value &document, const Plan &plan)
{
	std::map<size_t, const Group *> starts;

	for (size_t i = 0; i < plan.groups.size(); i++) {
		const Group &g = plan.groups[i];
		auto next = starts.lower_bound(g.offset);
		if ((next != starts.end() && next->first < g.offset + g.size) ||
		    (next != starts.begin() &&
		     std::prev(next)->first + std::prev(next)->second->size > g.offset))
			document["groups"].items()[i].fail("overlaps another group");
		starts[g.offset] = &g;
	}
	for (size_t i = 0; i < plan.tensors.size(); i++) {
		const PlannedTensor &t = plan.tensors[i];
		if (t.named || t.short_lived)
			continue;
		auto next = starts.upper_bound(t.offset);
		const Group *g = next == starts.begin() ? nullptr : std::prev(next)->second;
		const Value &v = document["tensors"].items()[i];
		if (!g || t.offset >= g->offset + g->size)
			v.fail("is in no group");
		if (t.node != g->node)
			v["node"].fail("is not that of its group");
		size_t end = g->offset + g->size;
		for (; end < t.offset + t.size && next != starts.end() && next->first == end;
		     next++)
			end += next->second->size;
		if (end < t.offset + t.size)
			v.fail("goes beyond its groups");
	}
}

void index(const Value &document, Plan &plan)
{
	for (size_t i = 0; i < plan.tensors.size(); i++) {
		const PlannedTensor &t = plan.tensors[i];
		const Value &v = document["tensors"].items()[i];
		if (t.named) {
			if (!plan.by_name.emplace(t.op, int(i)).second)
				v.fail("is there twice: '" + t.op + "'");
			continue;
		}
		for (int other : plan.by_op[t.op]) {
			const PlannedTensor &o = plan.tensors[other];
			if (o.occurrence == t.occurrence && o.k == t.k && o.size == t.size)
				v.fail("is there twice: '" + t.op + "', allocation " +
				       std::to_string(t.k));
		}
		plan.by_op[t.op].push_back(int(i));
	}
}

} // namespace

Plan parse_plan(const std::string &text)
{
	Value document = json::parse(text);
	Plan plan;

	if (!document.has("format") || document["format"].text() != "sentinel-plan")
		document.fail("is no plan: its 'format' is not \"sentinel-plan\"");
	if (document["version"].integer(1, INT32_MAX) != 1)
		document["version"].fail("is one that this runtime does not know (it knows 1)");
	document.only({"format", "version", "graph", "ops", "budget", "room", "reserved", "arena",
		       "interval_layers", "intervals", "tensors", "groups", "moves", "waits",
		       "predicted", "made"});
	plan.graph = document["graph"].text();
	plan.ops = int(document["ops"].integer(1, kMostOps));
	plan.budget = size_t(document["budget"].integer(0, kMost));
	plan.room = size_t(document["room"].integer(0, kMost));
	plan.reserved = pool(document["reserved"]);
	plan.arena = pool(document["arena"]);
	for (const Value &v : document["tensors"].items())
		plan.tensors.push_back(tensor(v, plan));
	for (const Value &v : document["groups"].items())
		plan.groups.push_back(group(v, plan));
	check_groups(document, plan);
	index(document, plan);
	if (plan.groups.size() + plan.by_name.size() > kMostPlaces)
		document.fail("has more than " + std::to_string(kMostPlaces) +
			      " groups and named tensors, each of which may be a mapping");
	for (const Value &v : document["moves"].items()) {
		plan.moves.push_back(move(v, plan));
		if (plan.moves.back().tensor >= 0)
			plan.tensors[plan.moves.back().tensor].moves = true;
		if (plan.moves.size() > 1 && plan.moves.rbegin()[1].at > plan.moves.back().at)
			v["at"].fail("is before that of the move above");
	}
	for (const Value &v : document["waits"].items()) {
		plan.waits.push_back(int(v.integer(0, plan.ops)));
		if (plan.waits.size() > 1 && plan.waits.rbegin()[1] >= plan.waits.back())
			v.fail("is not after the one above");
	}
	return plan;
}

} // namespace sentinel
