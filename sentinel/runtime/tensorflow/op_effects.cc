/* SPDX-License-Identifier: Apache-2.0 */
#include "core/framework.h"

#include <algorithm>
#include <cstring>

namespace sentinel
{
namespace
{

/* All of these share their input's buffer, or hand out one that they keep (TensorFlow 1.13). */
const char *const kSources[] = {"Const",	  "HostConst", "Placeholder",	   "Variable",
				"VariableV2",	  "_Arg",      "_HostSend",	   "VarHandleOp",
				"ReadVariableOp", "_Recv",     "TemporaryVariable"};
const char *const kPassing[] = {"Identity",
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

bool begins(const std::string &type, const char *with)
{
	return type.compare(0, strlen(with), with) == 0;
}

template <size_t N> bool among(const char *const (&types)[N], const std::string &type)
{
	return std::any_of(types, types + N, [&](const char *each) { return type == each; });
}

} // namespace

Effect effect_of(const std::string &type)
{
	Effect effect;

	effect.source = among(kSources, type);
	effect.computes = !effect.source && !among(kPassing, type);
	for (const char *writer : {"Assign", "Apply", "SparseApply", "Scatter", "ResourceApply",
				   "ResourceSparseApply", "ResourceScatter", "CountUpTo"})
		effect.writes_variables |= begins(type, writer);
	effect.reads_variables = type != "Assign" && type != "AssignVariableOp";
	return effect;
}

} // namespace sentinel
