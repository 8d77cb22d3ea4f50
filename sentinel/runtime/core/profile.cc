/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "memory.h"
#include "sha256.h"

namespace sentinel
{
namespace
{

using Json = nlohmann::ordered_json;

Json tensor_json(const ProfiledTensor &t)
{
	Json tensor = {{"op", t.op},	   {"k", t.k},	       {"size", t.size},
		       {"birth", t.birth}, {"death", t.death}, {"thread", t.thread}};

	if (t.op < 0)
		tensor["name"] = t.name;
	tensor["kind"] = t.variable ? "variable" : t.scratch ? "scratch" : "tensor";
	tensor["reads"] = t.reads;
	tensor["writes"] = t.writes;
	tensor["touched"] = t.touched;
	tensor["address"] = uintptr_t(t.address);
	Json &uses = tensor["uses"] = Json::array();
	for (const Use &use : t.uses)
		uses.push_back(Json::array({use.position, use.reads, use.writes}));
	return tensor;
}

/* The traced step: what its events are. */
Json trace_json(const Profile &p)
{
	Json ops = {{"name", Json::array()},
		    {"occurrence", Json::array()},
		    {"event", Json::array()}},
	     tensors = Json::array();

	for (const ProfiledOp &op : p.ops) {
		ops["name"].push_back(op.name);
		ops["occurrence"].push_back(op.occurrence);
		ops["event"].push_back(op.event);
	}
	for (const ProfiledTensor &t : p.tensors) {
		Json tensor = {{"op", t.op},	 {"k", t.k},
			       {"size", t.size}, {"born", t.born},
			       {"died", t.died}, {"address", uintptr_t(t.address)}};
		if (t.op < 0)
			tensor["name"] = t.name;
		tensors.push_back(std::move(tensor));
	}
	Json resident = Json::array();
	for (const PageRange &run : p.resident)
		resident.push_back(Json::array({uintptr_t(run.start), run.size}));
	return {{"ops", std::move(ops)},
		{"tensors", std::move(tensors)},
		{"resident", std::move(resident)}};
}

/* One list for each field of the operations. */
Json ops_json(const std::vector<ProfiledOp> &ops)
{
	Json columns;

	for (const char *name : {"name", "type", "layer", "occurrence", "begin_ns", "end_ns"})
		columns[name] = Json::array();
	for (const ProfiledOp &op : ops) {
		columns["name"].push_back(op.name);
		columns["type"].push_back(op.type);
		columns["layer"].push_back(op.layer);
		columns["occurrence"].push_back(op.occurrence);
		columns["begin_ns"].push_back(op.begin_ns);
		columns["end_ns"].push_back(op.end_ns);
	}
	return columns;
}

} // namespace

std::string graph_digest(std::vector<std::string> names)
{
	Sha256 sum;

	std::sort(names.begin(), names.end());
	for (const std::string &name : names)
		sum.add(name + "\n");
	return sum.hex();
}

std::string to_json(const Profile &p)
{
	Json tensors = Json::array();

	for (const ProfiledTensor &t : p.tensors)
		tensors.push_back(tensor_json(t));
	Json profile = {{"format", "sentinel-profile"},
			{"version", 1},
			{"graph", p.graph},
			{"page", kPage},
			{"counts", p.kernel_counts ? "kernel" : "ops"},
			{"clock", p.clock},
			{"threads", {{"inter_op", p.inter_op}, {"intra_op", p.intra_op}}},
			{"step_ns", p.step_ns},
			{"profiled_step_ns", p.profiled_step_ns},
			{"ops", ops_json(p.ops)},
			{"tensors", std::move(tensors)},
			{"warnings", p.warnings}};

	if (p.trace)
		profile["trace"] = trace_json(*p.trace);
	return profile.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace sentinel
