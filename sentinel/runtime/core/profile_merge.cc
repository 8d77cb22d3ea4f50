/* SPDX-License-Identifier: Apache-2.0 */
#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

#include "profile.h"

namespace sentinel
{
namespace
{

/* Sorted keys of the tensors that a plan can place: operation, occurrence, allocation, size. */
using Keys = std::vector<std::tuple<std::string, int, int, size_t>>;

Keys keys_of(const Profile &profile)
{
	Keys keys;

	for (const ProfiledTensor &t : profile.tensors)
		if (t.op >= 0 && t.thread == 0)
			keys.emplace_back(profile.ops[t.op].name, profile.ops[t.op].occurrence, t.k,
					  t.size);
	std::sort(keys.begin(), keys.end());
	return keys;
}

/* Warn of tensors that the next step may not allocate under the same keys. */
void warn_of_unstable_keys(Profile &profile, const Profile &before)
{
	Keys keys = keys_of(profile), keys_before = keys_of(before), changed;
	std::set<std::string> repeated;

	std::set_difference(keys.begin(), keys.end(), keys_before.begin(), keys_before.end(),
			    std::back_inserter(changed));
	if (!changed.empty())
		profile.warnings.push_back(std::to_string(changed.size()) + " of " +
					   std::to_string(keys.size()) +
					   " tensors have other keys than in the step before: a "
					   "plan will miss some of them");
	if (profile.inter_op == 1)
		return;
	for (const ProfiledOp &op : profile.ops)
		if (op.occurrence)
			repeated.insert(op.name);
	size_t unordered =
		std::count_if(keys.begin(), keys.end(), [&repeated](const Keys::value_type &key) {
			return repeated.count(std::get<0>(key)) != 0;
		});
	if (unordered)
		profile.warnings.push_back(std::to_string(unordered) +
					   " tensors belong to operations that run several times "
					   "in a step; " +
					   std::to_string(profile.inter_op) +
					   " threads may begin these in a different order each "
					   "step");
}

bool same_order(const Profile &a, const Profile &b)
{
	return std::equal(a.ops.begin(), a.ops.end(), b.ops.begin(),
			  [](const ProfiledOp &x, const ProfiledOp &y) {
				  return x.name == y.name && x.occurrence == y.occurrence;
			  });
}

/* Operations of several threads overlap: an operation's share lasts until the next one begins. */
std::map<std::pair<std::string, int>, uint64_t> durations(const Profile &profile)
{
	std::map<std::pair<std::string, int>, uint64_t> duration_ns;

	for (size_t i = 0; i < profile.ops.size(); i++) {
		const ProfiledOp &op = profile.ops[i];
		uint64_t end =
			i + 1 < profile.ops.size() ? profile.ops[i + 1].begin_ns : profile.step_ns;
		duration_ns[{op.name, op.occurrence}] = end - op.begin_ns;
	}
	return duration_ns;
}

} // namespace

Profile merge_profiles(const Profile &timed, Profile counted)
{
	if (timed.graph != counted.graph) {
		counted.warnings.push_back("the two profiled steps differ: times come from the "
					   "counted step, and are too long");
		return counted;
	}
	warn_of_unstable_keys(counted, timed);
	counted.step_ns = timed.step_ns;
	if (same_order(timed, counted)) {
		for (size_t i = 0; i < counted.ops.size(); i++) {
			counted.ops[i].begin_ns = timed.ops[i].begin_ns;
			counted.ops[i].end_ns = timed.ops[i].end_ns;
		}
		return counted;
	}
	/* In another order the operations keep their durations, one after the other. */
	auto duration_ns = durations(timed);
	uint64_t now = 0;
	for (ProfiledOp &op : counted.ops) {
		op.begin_ns = now;
		op.end_ns = now += duration_ns.at({op.name, op.occurrence});
	}
	return counted;
}

} // namespace sentinel
