/* SPDX-License-Identifier: Apache-2.0 */
#include <algorithm>
#include <set>
#include <string>

#include "core/framework.h"
#include "core/profile.h"

namespace sentinel
{
namespace
{

constexpr int kEnough = 6; /* scopes: two of a forward pass, their gradients, loss and update */
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

/* The name without the number of the forward operation in it: "rnn/MatMul_3",
 * "rnn/MatMul_3_grad/x". */
std::string unnumbered(const std::string &name)
{
	size_t grad = name.find("_grad/");
	size_t end = grad == std::string::npos ? name.size() : grad;
	size_t start = name.find_last_not_of("0123456789", end - 1);

	if (start == std::string::npos || start + 1 == end || name[start] != '_')
		return name;
	return name.substr(0, start) + name.substr(end);
}

/* What a layer has one of, as a rule. */
bool multiplies(const std::string &type)
{
	return type.find("MatMul") != std::string::npos || type.find("Conv") != std::string::npos;
}

/* Layers by scopes of this depth; how many scopes there are. */
int by_scope(std::vector<ProfiledOp> &ops, int depth)
{
	std::set<std::string> scopes, multiplied; /* the latter in this layer */
	int layers = 0;

	for (ProfiledOp &op : ops) {
		if (effect_of(op.type).computes) {
			bool begins = scopes.insert(scope(op.name, depth)).second;
			if (multiplies(op.type))
				begins |= multiplied.count(unnumbered(op.name)) != 0;
			if (begins) {
				layers++;
				multiplied.clear();
			}
			if (multiplies(op.type))
				multiplied.insert(unnumbered(op.name));
		}
		op.layer = std::max(layers - 1, 0);
	}
	return int(scopes.size());
}

} // namespace

void assign_layers(std::vector<ProfiledOp> &ops)
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
