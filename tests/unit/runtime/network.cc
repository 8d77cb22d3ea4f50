/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "core/runtime.h"

using namespace sentinel;

namespace
{

Runtime &runtime()
{
	return Runtime::instance();
}

constexpr size_t kSmall = 400, kLarge = 5 * kPage + 12;

/* A running operation. */
class Running
{
public:
	Running(const char *name, const char *type, const Execution &execution)
	{
		if (runtime().tracking())
			scope_.reset(new OpScope(runtime(), name, name, type, execution));
		if (scope_)
			run_ = scope_->run();
	}
	~Running()
	{
		scope_.reset();
		runtime().op_end(run_, written_);
	}
	char *allocate(size_t size)
	{
		char *p = static_cast<char *>(runtime().allocate(64, size));
		if (!p || reinterpret_cast<uintptr_t>(p) % 64)
			abort();
		memset(p, 1, size);
		runtime().record_use(run_, p, size, false, true);
		if (run_.holds && runtime().in_windows(p))
			written_.push_back({p, size});
		return p;
	}
	void read(char *p, size_t size)
	{
		if (run_.holds && runtime().in_windows(p)) {
			runtime().hold(run_, {{p, size}});
			if (std::count(p, p + size, 1) != long(size))
				abort(); /* what allocate() wrote */
		}
		runtime().record_use(run_, p, size, true, false);
	}
	void hand_out(char *p, size_t size)
	{
		if (!run_.step)
			return;
		runtime().record_use(run_, p, size, false, false);
		runtime().set_name(run_, p, run_.op->name);
	}

private:
	std::unique_ptr<OpScope> scope_;
	OpRun run_;
	std::vector<TensorRange> written_;
};

} // namespace

Network::Network() : weights_(static_cast<char *>(runtime().allocate(64, kLarge)))
{
}

Network::~Network()
{
	runtime().release(weights_);
}

void Network::step()
{
	uint64_t number = runtime().step_begin();
	char *fed = static_cast<char *>(runtime().allocate(64, kSmall));

	run(Execution{Runtime::opened_step(), ++id_}, fed);
	runtime().release(fed);
	runtime().step_end(number);
}

void Network::run(const Execution &execution, char *fed)
{
	char foreign[8], *a, *b = nullptr, *c;
	{
		Running op("w", "VariableV2", execution);
		op.hand_out(weights_, kLarge);
	}
	{
		Running op("_arg_x", "_Arg", execution);
		op.hand_out(fed, kSmall);
	}
	{
		/* A side job of TensorFlow's own */
		Running side("fold", "Add", Execution{execution.step, -7});
		runtime().release(side.allocate(kSmall));
	}
	{
		Running op("one/MatMul", "MatMul", execution);
		op.read(weights_, kLarge);
		op.read(fed, kSmall);
		op.read(foreign, sizeof(foreign));
		runtime().release(op.allocate(kLarge)); /* scratch */
		std::thread([&op] { runtime().release(op.allocate(kSmall)); }).join();
		a = op.allocate(kLarge);
	}
	for (int i = 0; i < loops; i++) {
		Running op("two/Mul", "Mul", execution);
		op.read(a, kLarge);
		b = op.allocate(kSmall);
		op.read(b + 8, kSmall - 8); /* part of a buffer */
		if (i + 1 < loops)
			runtime().release(b);
	}
	if (extra) {
		Running op("more/Mul", "Mul", execution);
		runtime().release(op.allocate(kLarge));
	}
	{
		Running op("gradients/two/Mul_grad/Mul", "Mul", execution);
		op.read(b, kSmall);
		c = op.allocate(kSmall);
	}
	runtime().release(b); /* between operations, as TensorFlow's executor does */
	{
		Running op("gradients/one/MatMul_grad/MatMul", "MatMul", execution);
		op.read(a, kLarge);
		op.read(c, kSmall);
		op.read(weights_, kLarge);
	}
	runtime().release(a);
	runtime().release(c);
}
