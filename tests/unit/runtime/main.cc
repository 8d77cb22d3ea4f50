/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: runtime-tests [DOCTEST OPTIONS]
 *        runtime-tests plan <PLAN | plans <PLANS | layers NAME=TYPE... |
 *                      steps [PLAN STEPS [loops | extra | first | frames | refused]]
 *
 * Without a command it runs doctest's test cases. Cases share the process's runtime, so
 * test_runtime_library.py runs each in a process of its own.
 */
#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS /* the sanitizers handle them */
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "commands.h"
#include "core/framework.h"

namespace sentinel
{

/* These tests are the framework. */
bool registered()
{
	return true;
}

int devices()
{
	return 0;
}

} // namespace sentinel

int main(int argc, char **argv)
{
	std::string command = argc > 1 ? argv[1] : "";
	std::vector<std::string> arguments(argv + (argc > 1 ? 2 : 1), argv + argc);

	if (command == "plan")
		check_plan();
	else if (command == "plans")
		execute_plans();
	else if (command == "layers")
		print_layers(arguments);
	else if (command == "steps")
		run_steps(arguments);
	else
		return doctest::Context(argc, argv).run();
	return 0;
}
