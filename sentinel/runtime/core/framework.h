/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the core asks of the deep-learning framework. One folder beside core/ implements it for one
 * framework; the core includes nothing of it.
 */
#ifndef SENTINEL_RUNTIME_FRAMEWORK_H
#define SENTINEL_RUNTIME_FRAMEWORK_H

#include <string>
#include <vector>

namespace sentinel
{

struct ProfiledOp;

/* How an operation uses the memory of its inputs and outputs. */
struct Effect {
	/* Reads its inputs and writes its outputs. False: forwards a buffer, or reads only shapes.
	 */
	bool computes = true;
	/* Its outputs may be older than the step: variables, constants, fed values. */
	bool source = false;
	/* Writes, and reads, the variables among its inputs. */
	bool writes_variables = false, reads_variables = true;
};

/* The effect of an operation of this type. */
Effect effect_of(const std::string &type);

/* Set `layer` of operations in execution order: from 0, never decreasing. */
void assign_layers(std::vector<ProfiledOp> &ops);

/* Whether the allocator and the device are registered with the framework. */
bool registered();

/* Devices that the framework has created. */
int devices();

} // namespace sentinel

#endif
