/* SPDX-License-Identifier: Apache-2.0 */
#include "layers.h"

#include <algorithm>
#include <set>
#include <string>

#include "op_effects.h"

namespace sentinel
{
namespace
{

constexpr int kEnough = 6; /* layers: two of a forward pass, their gradients, loss and update */
constexpr int kDeepest = 3;

/* The first `depth` names of the scope, after those that all gradients have in common. */
std::string scope(const std::string &name, int depth)
{
	size_t end = name.compare(0, 9, "gradients") == 0 ? name.find('/') : std::string::npos;
	size_t last = name.rfind('/');

	end = end == std::string::npos ? 0 : end + 1;
	if (last == std::string::npos || last < end)
		return name.substr(0, end);
	for (int i = 0; i < depth && end < last; i++)
		end = std::min(name.find('/', end) + (i + 1 < depth), last);
	return name.substr(0, end);
}

/* Layers by scopes of this depth; how many there are. */
int by_scope(std::vector<ProfiledOp> &ops, int depth)
{
	std::set<std::string> seen;

	for (ProfiledOp &op : ops) {
		if (effect_of(op.type).computes)
			seen.insert(scope(op.name, depth));
		op.layer = std::max(int(seen.size()) - 1, 0);
	}
	return int(seen.size());
}

} // namespace

void set_layers(std::vector<ProfiledOp> &ops)
{
	int layer = 0;

	for (ProfiledOp &op : ops) {
		op.layer = layer;
		layer += op.type == "SentinelLayer";
	}
	for (int depth = 1; layer == 0 && depth <= kDeepest; depth++)
		if (by_scope(ops, depth) >= kEnough)
			break;
}

} // namespace sentinel
