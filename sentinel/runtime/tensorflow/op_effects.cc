/* SPDX-License-Identifier: Apache-2.0 */
#include "core/framework.h"

#include <algorithm>
#include <cstring>

namespace sentinel
{
namespace
{

/* TensorFlow 1.13's operations that hand out a buffer they keep, or forward their input's. */
const char *const kSources[] = {"Const",	  "HostConst", "Placeholder",	   "Variable",
				"VariableV2",	  "_Arg",      "_HostSend",	   "VarHandleOp",
				"ReadVariableOp", "_Recv",     "TemporaryVariable"};
const char *const kForwarding[] = {"Identity",
				   "IdentityN",
				   "Reshape",
				   "Squeeze",
				   "ExpandDims",
				   "StopGradient",
				   "Switch",
				   "RefSwitch",
				   "Merge",
				   "RefMerge",
				   "Enter",
				   "RefEnter",
				   "Exit",
				   "RefExit",
				   "NextIteration",
				   "RefNextIteration",
				   "LoopCond",
				   "PreventGradient",
				   "_Retval",
				   "_Send",
				   "Shape",
				   "ShapeN",
				   "Size",
				   "Rank",
				   "NoOp",
				   "ControlTrigger",
				   "SentinelLayer",
				   "RefIdentity",
				   "PlaceholderWithDefault",
				   "BroadcastGradientArgs"};

bool starts_with(const std::string &type, const char *prefix)
{
	return type.compare(0, strlen(prefix), prefix) == 0;
}

template <size_t N> bool one_of(const char *const (&types)[N], const std::string &type)
{
	return std::any_of(types, types + N, [&](const char *t) { return type == t; });
}

} // namespace

Effect effect_of(const std::string &type)
{
	Effect effect;

	effect.source = one_of(kSources, type);
	effect.computes = !effect.source && !one_of(kForwarding, type);
	for (const char *writer : {"Assign", "Apply", "SparseApply", "Scatter", "ResourceApply",
				   "ResourceSparseApply", "ResourceScatter", "CountUpTo"})
		effect.writes_variables |= starts_with(type, writer);
	effect.reads_variables = type != "Assign" && type != "AssignVariableOp";
	return effect;
}

} // namespace sentinel
