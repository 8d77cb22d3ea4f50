/* SPDX-License-Identifier: Apache-2.0 */
#include "statistics.h"

#include <nlohmann/json.hpp>

#include "runtime.h"

namespace sentinel
{
namespace
{

using Json = nlohmann::ordered_json;

void append(Json &json, const MigrationStatistics &s)
{
	json["promoted"] = s.promoted;
	json["demoted"] = s.demoted;
	json["failed"] = s.failed;
	json["absent"] = s.absent;
	json["retried"] = s.retried;
	json["cancelled"] = s.cancelled;
	json["remaps"] = s.remaps;
	json["copied"] = s.copied;
}

void append(Json &json, const PlacementStatistics &s)
{
	json["unplanned"] = s.unplanned;
	json["busy"] = s.busy;
	json["substituted"] = s.substituted;
	json["fallback_bytes"] = s.fallback_bytes;
	json["keyless"] = s.keyless;
	json["crowded"] = s.crowded;
}

Json json_of(const MoveRecord &move)
{
	auto time = [](uint64_t ns) { return ns ? Json(ns) : Json(nullptr); };
	const char *reason = name_of(move.reason);

	return {{"move", move.move},
		{"outcome", name_of(move.outcome)},
		{"reason", reason ? Json(reason) : Json(nullptr)},
		{"ready_ns", time(move.ready_ns)},
		{"due_ns", time(move.due_ns)},
		{"begin_ns", time(move.begin_ns)},
		{"end_ns", time(move.end_ns)},
		{"remap_ns", time(move.remap_ns)}};
}

} // namespace

PlacementStatistics &PlacementStatistics::operator+=(const PlacementStatistics &other)
{
	unplanned += other.unplanned;
	busy += other.busy;
	substituted += other.substituted;
	fallback_bytes += other.fallback_bytes;
	keyless += other.keyless;
	crowded += other.crowded;
	return *this;
}

void PlanStatistics::add_step(const StepStatistics &finished)
{
	step = finished;
	total_moves += finished.moves;
	total_placement += placement;
	total_exposed_ns += finished.exposed_ns;
	total_late += finished.late;
}

std::string Runtime::statistics()
{
	MutexLock lock(mutex_);
	const PoolStatistics &memory = memory_.total();
	const PlanStatistics &s = plan_statistics_;
	Json step = {{"begin_ns", s.step.begin_ns},	{"step_ns", s.step.step_ns},
		     {"exposed_ns", s.step.exposed_ns}, {"late", s.step.late},
		     {"unresolved", s.step.unresolved}, {"trial", s.step.trial}};
	Json total = {{"exposed_ns", s.total_exposed_ns}, {"late", s.total_late}};

	append(step, s.step.moves);
	append(step, s.placement);
	append(total, s.total_moves);
	append(total, s.total_placement);
	Json pools, moves = Json::array(), kinds = Json::object();
	for (int i = 0; i < kPools; i++) {
		const PoolStatistics &pool = memory_.statistics(Pool(i));
		pools[name_of(Pool(i))] = {{"allocations", pool.allocations},
					   {"live", pool.live},
					   {"peak", pool.peak},
					   {"resident", resident(Pool(i))}};
	}
	for (const MoveRecord &move : s.step.records)
		moves.push_back(json_of(move));
	bool needs_profile = false;
	for (const auto &kind : kinds_) {
		const StepKind &k = kind.second;
		kinds[std::to_string(kind.first)] = {{"planned", k.plan || k.next_plan},
						     {"planned_steps", k.planned_steps},
						     {"other_steps", k.other_steps},
						     {"reprofile", k.needs_profile}};
		needs_profile |= k.needs_profile;
	}
	const ActivePlan *installed = installed_.get();
	Json json = {{"allocations", memory.allocations},
		     {"releases", memory.releases},
		     {"live", memory.live},
		     {"peak", memory.peak},
		     {"pools", std::move(pools)},
		     {"steps", step_},
		     {"served_steps", served_steps_},
		     {"planned_steps", s.planned_steps},
		     {"other_steps", s.other_steps},
		     {"forks", forks_},
		     {"over_budget", over_budget_},
		     {"planned", plan_ != nullptr},
		     {"reprofile", needs_profile},
		     {"kinds", std::move(kinds)},
		     {"unbound", s.unbound},
		     {"room",
		      {{"peak", installed ? installed->fast_budget().peak() : 0},
		       {"limit", installed ? installed->fast_budget().limit() : 0}}},
		     {"frames", installed ? installed->frame_bytes() : 0},
		     {"moves", std::move(moves)},
		     {"step", std::move(step)},
		     {"total", std::move(total)}};
	return json.dump();
}

} // namespace sentinel
