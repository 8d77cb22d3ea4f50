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

/* Two scopes of the forward pass, their gradients, loss and update */
constexpr int kEnoughScopes = 6;
constexpr int kMaxDepth = 3;

/* The first `depth` names of the scope, after the prefix that all gradients share. */
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

/* The name without the forward operation's number, as in "rnn/MatMul_3", "rnn/MatMul_3_grad/x". */
std::string unnumbered(const std::string &name)
{
	size_t grad = name.find("_grad/");
	size_t end = grad == std::string::npos ? name.size() : grad;
	size_t start = name.find_last_not_of("0123456789", end - 1);

	if (start == std::string::npos || start + 1 == end || name[start] != '_')
		return name;
	return name.substr(0, start) + name.substr(end);
}

/* Most layers have one of these. */
bool is_product(const std::string &type)
{
	return type.find("MatMul") != std::string::npos || type.find("Conv") != std::string::npos;
}

/* Assign layers by scopes of this depth. Returns the number of scopes. */
int assign_by_scope(std::vector<ProfiledOp> &ops, int depth)
{
	std::set<std::string> scopes, products; /* products: of the current layer */
	int layers = 0;

	for (ProfiledOp &op : ops) {
		if (effect_of(op.type).computes) {
			bool begins_layer = scopes.insert(scope(op.name, depth)).second;
			if (is_product(op.type))
				begins_layer |= products.count(unnumbered(op.name)) != 0;
			if (begins_layer) {
				layers++;
				products.clear();
			}
			if (is_product(op.type))
				products.insert(unnumbered(op.name));
		}
		op.layer = std::max(layers - 1, 0);
	}
	return int(scopes.size());
}

} // namespace

/*
 * A SentinelLayer operation ends a layer, in the backward pass too, where it is its own gradient.
 *
 * Without any, name scopes separate layers: "conv2d/Conv2D" is in scope "conv2d", and
 * "gradients/conv2d/Conv2D_grad/..." in "gradients/conv2d", a layer of its own. The first operation
 * that computes in a new scope begins a layer. Where there are few scopes, two or three names
 * separate layers. Within a scope, a layer begins when a matrix product or convolution of this
 * layer repeats, under the same name (loops) or with another number (unrolled recurrent networks).
 */
void assign_layers(std::vector<ProfiledOp> &ops)
{
	int layer = 0;

	for (ProfiledOp &op : ops) {
		op.layer = layer;
		layer += op.type == "SentinelLayer";
	}
	for (int depth = 1; layer == 0 && depth <= kMaxDepth; depth++)
		if (assign_by_scope(ops, depth) >= kEnoughScopes)
			break;
}

} // namespace sentinel
