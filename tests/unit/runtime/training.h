/* SPDX-License-Identifier: Apache-2.0 */
/* Executions of a chain of operations, for tests of steps and plans. */
#ifndef SENTINEL_TESTS_TRAINING_H
#define SENTINEL_TESTS_TRAINING_H

#include <string>

#include "core/operation.h"
#include "core/runtime.h"

constexpr int kOps = 40; /* of an execution */

sentinel::Runtime &runtime();

/* An execution that the calling thread starts now. */
sentinel::Execution start_execution();

/* Run one operation. Returns whether it belonged to the step. */
bool run_op(const sentinel::Execution &execution, const std::string &name,
	    const char *type = "MatMul");

/* Run the operations op0, op1, ... Returns how many belonged to the step. */
int run_ops(const sentinel::Execution &execution, int first = 0);

/* Run a whole step. Returns how many operations belonged to it. */
int run_step();

/* A plan for run_step(), with a graph that matches no step. */
extern const char *const kPlan;

bool planned();

#endif
