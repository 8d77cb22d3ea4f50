/* SPDX-License-Identifier: Apache-2.0 */
/* A made-up network, run through the runtime as TensorFlow would run it. */
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <thread>
#include <vector>

#include "core/framework.h"
#include "core/runtime.h"
#include "check.h"

using namespace sentinel;

namespace
{

Runtime &runtime()
{
	return Runtime::instance();
}

constexpr size_t kSmall = 400, kLarge = 5 * kPage + 12;

/* What an operation does between its begin and its end. */
class Running
{
      public:
	Running(const char *name, const char *type, const Execution &execution)
	{
		if (runtime().watching())
			scope_.reset(new OpScope(runtime(), name, name, type, execution));
		if (scope_)
			run_ = scope_->run();
	}
	~Running()
	{
		scope_.reset();
		runtime().op_end(run_);
	}
	char *make(size_t size)
	{
		char *p = static_cast<char *>(runtime().allocate(64, size));
		CHECK(p && reinterpret_cast<uintptr_t>(p) % 64 == 0);
		memset(p, 1, size);
		runtime().used(run_, p, size, false, true);
		return p;
	}
	void take(char *p, size_t size)
	{
		runtime().used(run_, p, size, true, false);
	}
	void hand_out(char *p, size_t size)
	{
		if (!run_.step)
			return;
		runtime().used(run_, p, size, false, false);
		runtime().named(run_, p, run_.op->name);
	}

      private:
	std::unique_ptr<OpScope> scope_;
	OpRun run_;
};

struct Network {
	char *weights;
	int loops = 2;
	bool extra = false;
	int64_t id = 1;

	Network() : weights(static_cast<char *>(runtime().allocate(64, kLarge)))
	{
	}
	~Network()
	{
		runtime().release(weights);
	}

	void step()
	{
		uint64_t number = runtime().step_begin();
		char *fed = static_cast<char *>(runtime().allocate(64, kSmall));
		run(Execution{Runtime::step_here(), ++id}, fed);
		runtime().release(fed);
		runtime().step_end(number);
	}

	void run(const Execution &step, char *fed)
	{
		char foreign[8], *a, *b = nullptr, *c;
		{
			Running op("w", "VariableV2", step);
			op.hand_out(weights, kLarge);
		}
		{
			Running op("_arg_x", "_Arg", step);
			op.hand_out(fed, kSmall);
		}
		{
			Running side(
				"fold", "Add",
				Execution{step.step, -7}); /* an execution of TensorFlow's own */
			runtime().release(side.make(kSmall));
		}
		{
			Running op("one/MatMul", "MatMul", step);
			op.take(weights, kLarge);
			op.take(fed, kSmall);
			op.take(foreign, sizeof(foreign));
			runtime().release(op.make(kLarge)); /* scratch */
			std::thread([&op] { runtime().release(op.make(kSmall)); }).join();
			a = op.make(kLarge);
		}
		for (int i = 0; i < loops; i++) {
			Running op("two/Mul", "Mul", step);
			op.take(a, kLarge);
			b = op.make(kSmall);
			op.take(b + 8, kSmall - 8); /* part of a buffer */
			if (i + 1 < loops)
				runtime().release(b);
		}
		if (extra) {
			Running op("more/Mul", "Mul", step);
			runtime().release(op.make(kLarge));
		}
		{
			Running op("gradients/two/Mul_grad/Mul", "Mul", step);
			op.take(b, kSmall);
			c = op.make(kSmall);
		}
		runtime().release(b); /* between operations, as the executor does */
		{
			Running op("gradients/one/MatMul_grad/MatMul", "MatMul", step);
			op.take(a, kLarge);
			op.take(c, kSmall);
			op.take(weights, kLarge);
		}
		runtime().release(a);
		runtime().release(c);
	}
};

std::string profile(Network &network, int count)
{
	runtime().profile_begin();
	for (int i = 0; i < count; i++)
		network.step();
	auto profile = runtime().profile_end();
	return profile ? to_json(*profile) : "none";
}

} // namespace

/*
 * steps [PLAN STEPS [loops | extra | first]]: print a profile; or carry the plan out, and print
 * statistics. Steps after the first one have more loops, or another operation; or only the first
 * has.
 */
void steps(const std::vector<std::string> &arguments)
{
	Network network;

	network.step(); /* idle: nothing is watched */
	if (arguments.empty()) {
		CHECK(profile(network, 0) == "none");
		std::cout << profile(network, 2);
		CHECK(!runtime().recording() && !runtime().watching());
		return;
	}
	std::ifstream file(arguments[0]);
	std::string text{std::istreambuf_iterator<char>(file), {}};
	runtime().plan_begin(text);
	std::string change = arguments.size() > 2 ? arguments[2] : "";
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

/* Each line is a plan: carries it out for three steps, or says what is wrong with it. */
void plans()
{
	Network network;
	std::string line;

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

/* Reads a plan, and says what is wrong with it. */
void plan()
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

/* Layers of the operations given as NAME=TYPE. */
void layers(const std::vector<std::string> &arguments)
{
	std::vector<ProfiledOp> ops;

	for (const std::string &argument : arguments) {
		size_t equals = argument.find('=');
		ops.push_back(
			{argument.substr(0, equals), argument.substr(equals + 1), 0, 0, 0, 0});
	}
	assign_layers(ops);
	for (const ProfiledOp &op : ops)
		std::cout << op.layer << " ";
}
