/* SPDX-License-Identifier: Apache-2.0 */
/* CHECK(condition): says where and exits with 1 if it does not hold. */
#ifndef SENTINEL_TESTS_CHECK_H
#define SENTINEL_TESTS_CHECK_H

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#endif
