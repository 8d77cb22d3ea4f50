/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the test program, whose output test_runtime_library.py checks. */
#ifndef SENTINEL_TESTS_COMMANDS_H
#define SENTINEL_TESTS_COMMANDS_H

#include <string>
#include <vector>

/* Parse the plan on standard input: print what it holds, or the error. */
void check_plan();

/*
 * Execute each line of standard input, a plan, for three steps; or print its error. Frames behave
 * as if there were two nodes.
 */
void execute_plans();

/* Print the layers of the operations NAME=TYPE. */
void print_layers(const std::vector<std::string> &arguments);

/*
 * Without arguments print a profile. With PLAN STEPS execute the plan and print the statistics. A
 * third argument changes the graph: steps after the first one have more loops ("loops") or another
 * operation ("extra"), or only the first one has ("first"). With "frames" these behave as if there
 * were two nodes, and with "refused" as if the system had no files of memory.
 */
void run_steps(const std::vector<std::string> &arguments);

#endif
