/* SPDX-License-Identifier: Apache-2.0 */
/* What an operation does with the memory of its inputs and outputs, by its type. */
#ifndef SENTINEL_RUNTIME_OP_EFFECTS_H
#define SENTINEL_RUNTIME_OP_EFFECTS_H

#include <string>

namespace sentinel
{

struct Effect {
	/* It reads its inputs and writes its outputs. Others hand a buffer on, or look at shapes
	 * only. */
	bool computes = true;
	/* Its outputs may be older than the step: variables, constants, what is fed. */
	bool source = false;
	/* It writes, and it reads, the variables that it is given. */
	bool writes_variables = false, reads_variables = true;
};

Effect effect_of(const std::string &type);

} // namespace sentinel

#endif
