/* SPDX-License-Identifier: Apache-2.0 */
/* A small synthetic network that reports to the runtime as TensorFlow would. */
#ifndef SENTINEL_TESTS_NETWORK_H
#define SENTINEL_TESTS_NETWORK_H

#include <cstdint>

#include "core/operation.h"

struct Network {
	int loops = 2;	    /* runs of two/Mul in a step */
	bool extra = false; /* run another operation, more/Mul */

	Network();
	~Network();
	Network(const Network &) = delete;
	Network &operator=(const Network &) = delete;

	void step();

private:
	void run(const sentinel::Execution &execution, char *fed);

	char *weights_;
	int64_t id_ = 1;
};

#endif
