/* SPDX-License-Identifier: Apache-2.0 */
#include "commands.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "core/plan.h"
#include "core/profile.h"
#include "core/runtime.h"
#include "frame_fixtures.h"
#include "network.h"

using namespace sentinel;

namespace
{

Runtime &runtime()
{
	return Runtime::instance();
}

std::string profile_steps(Network &network, int count)
{
	runtime().profile_begin();
	for (int i = 0; i < count; i++)
		network.step();
	auto profile = runtime().profile_end();
	return profile ? to_json(*profile) : "none";
}

} // namespace

void run_steps(const std::vector<std::string> &arguments)
{
	Network network;

	network.step(); /* neither profiled nor planned */
	if (arguments.empty()) {
		if (profile_steps(network, 0) != "none")
			abort();
		std::cout << profile_steps(network, 2);
		if (runtime().recording() || runtime().tracking())
			abort();
		return;
	}
	std::string change = arguments.size() > 2 ? arguments[2] : "";
	if (change == "frames" || change == "refused")
		pretend_two_nodes();
	if (change == "refused")
		frame_system().create_file = [](const char *) {
			errno = ENOSYS;
			return -1;
		};
	std::ifstream file(arguments[0]);
	std::string text{std::istreambuf_iterator<char>(file), {}};
	runtime().plan_begin(text);
	network.extra = change == "first";
	for (int i = 0; i < std::stoi(arguments[1]); i++) {
		network.step();
		if (change == "loops")
			network.loops = 9;
		network.extra = change == "extra";
	}
	std::cout << runtime().statistics();
	runtime().plan_end();
	network.step();
}

void execute_plans()
{
	Network network;
	std::string line;

	pretend_two_nodes();
	while (std::getline(std::cin, line)) {
		try {
			runtime().plan_begin(line);
			for (int i = 0; i < 3; i++)
				network.step();
			std::cout << "steps\n";
		} catch (const std::exception &error) {
			std::cout << "error: " << error.what() << "\n";
		}
	}
}

void check_plan()
{
	std::string text{std::istreambuf_iterator<char>(std::cin), {}};

	try {
		Plan plan = parse_plan(text);
		std::cout << "tensors " << plan.tensors.size() << ", moves " << plan.moves.size()
			  << ", waits " << plan.waits.size() << "\n";
	} catch (const json::Error &error) {
		std::cout << "error: " << error.what() << "\n";
	}
}

void print_layers(const std::vector<std::string> &arguments)
{
	std::vector<ProfiledOp> ops;

	for (const std::string &argument : arguments) {
		size_t equals = argument.find('=');
		ops.push_back(
			{argument.substr(0, equals), argument.substr(equals + 1), 0, 0, 0, 0, 0});
	}
	assign_layers(ops);
	for (const ProfiledOp &op : ops)
		std::cout << op.layer << " ";
}
