/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <algorithm>
#include <functional>

#include "json.h"
#include "memory.h"
#include "sha256.h"

namespace sentinel
{
namespace
{

std::string number(uint64_t n)
{
	return std::to_string(n);
}

/* [f(0), f(1), ...] */
std::string list(size_t count, const std::function<std::string(size_t)> &f,
		 const char *between = ", ")
{
	std::string s = "[";

	for (size_t i = 0; i < count; i++) {
		if (i)
			s += between;
		s += f(i);
	}
	return s + "]";
}

std::string to_json(const ProfiledTensor &t)
{
	std::string s = "{\"op\": " + std::to_string(t.op) + ", \"k\": " + std::to_string(t.k) +
			", \"size\": " + number(t.size) +
			", \"birth\": " + std::to_string(t.birth) +
			", \"death\": " + std::to_string(t.death) +
			", \"thread\": " + std::to_string(t.thread);

	if (t.op < 0)
		s += ", \"name\": " + json::quoted(t.name);
	s += std::string(", \"kind\": \"") +
	     (t.variable  ? "variable"
	      : t.scratch ? "scratch"
			  : "tensor") +
	     "\"";
	s += ", \"reads\": " + number(t.reads) + ", \"writes\": " + number(t.writes);
	s += ", \"touched\": " + number(t.touched);
	s += ", \"address\": " + number(uintptr_t(t.address));
	s += ", \"uses\": " + list(t.uses.size(), [&](size_t i) {
		     const Use &use = t.uses[i];
		     return "[" + std::to_string(use.position) + ", " + number(use.reads) + ", " +
			    number(use.writes) + "]";
	     });
	return s + "}";
}

} // namespace

std::string graph_of(std::vector<std::string> names)
{
	Sha256 sum;

	std::sort(names.begin(), names.end());
	for (const std::string &name : names)
		sum.add(name + "\n");
	return sum.hex();
}

std::string to_json(const Profile &p)
{
	auto column = [&](const char *name,
			  const std::function<std::string(const ProfiledOp &)> &f) {
		return std::string("\"") + name +
		       "\": " + list(p.ops.size(), [&](size_t i) { return f(p.ops[i]); });
	};
	std::string s = "{\"format\": \"sentinel-profile\", \"version\": 1,\n \"graph\": ";

	s += json::quoted(p.graph) + ",\n \"page\": " + number(kPage);
	s += std::string(",\n \"counts\": \"") + (p.kernel_counts ? "kernel" : "ops") + "\"";
	s += std::string(",\n \"clock\": \"") + (p.model_clock ? "model" : "guest") + "\"";
	s += ",\n \"threads\": {\"inter_op\": " + std::to_string(p.inter_op) +
	     ", \"intra_op\": " + std::to_string(p.intra_op) + "}";
	s += ",\n \"step_ns\": " + number(p.step_ns);
	s += ",\n \"profiled_step_ns\": " + number(p.profiled_step_ns);
	s += ",\n \"ops\": {";
	s += column("name", [](const ProfiledOp &op) { return json::quoted(op.name); }) + ",\n  ";
	s += column("type", [](const ProfiledOp &op) { return json::quoted(op.type); }) + ",\n  ";
	s += column("layer", [](const ProfiledOp &op) { return std::to_string(op.layer); }) +
	     ",\n  ";
	s += column("occurrence",
		    [](const ProfiledOp &op) { return std::to_string(op.occurrence); });
	s += ",\n  " + column("begin_ns", [](const ProfiledOp &op) { return number(op.begin_ns); });
	s += ",\n  " + column("end_ns", [](const ProfiledOp &op) { return number(op.end_ns); });
	s += "},\n \"tensors\": " +
	     list(p.tensors.size(), [&](size_t i) { return to_json(p.tensors[i]); }, ",\n  ");
	s += ",\n \"warnings\": " +
	     list(p.warnings.size(), [&](size_t i) { return json::quoted(p.warnings[i]); });
	return s + "}\n";
}

} // namespace sentinel
