/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <atomic>

#include "core/clock.h"
#include "core/framework.h"
#include "core/runtime.h"
#include "tensorflow/core/common_runtime/dma_helper.h"
#include "tensorflow/core/common_runtime/process_state.h"
#include "tensorflow/core/common_runtime/threadpool_device.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/graph/graph.h"
#include "tensorflow/core/platform/cpu_info.h"
#include "tensorflow/core/public/session_options.h"

namespace tf = tensorflow;

namespace sentinel
{
namespace
{

std::atomic<int> device_count{0};

/* Reports the inputs and outputs of an operation to the runtime. */
class TensorReporter
{
public:
	TensorReporter(Runtime &runtime, const OpRun &run)
	    : runtime_(runtime), run_(run), recording_(runtime.recording())
	{
	}

	void report_inputs(tf::OpKernelContext *c) const
	{
		for (int i = 0; i < c->num_inputs(); i++) {
			if (!c->has_input(i))
				continue;
			if (c->input_is_ref(i))
				report_variable(c->mutable_input(i, false));
			else if (c->input_dtype(i) == tf::DT_RESOURCE)
				report_resource(c, i);
			else if (recording_)
				report(c->input(i), true, false);
		}
	}

	void report_outputs(tf::OpKernelContext *c) const
	{
		if (!c->status().ok())
			return;
		for (int i = 0; i < c->num_outputs(); i++) {
			tf::Tensor *t = c->mutable_output(i);
			/* A resource handle is a tensor, but not the variable's. */
			if (!t || t->dtype() == tf::DT_RESOURCE)
				continue;
			/* Handing out a reference does not write the variable. */
			bool reference = tf::IsRefType(c->expected_output_dtype(i));
			if (recording_)
				report(*t, false, !reference);
			if (run_.op->effect.source && t->IsInitialized())
				runtime_.set_name(run_, tf::DMAHelper::base(t), run_.op->name);
		}
	}

	/* Its inputs that are in windows, and that it may read or write. */
	std::vector<TensorRange> window_inputs(tf::OpKernelContext *c) const
	{
		std::vector<TensorRange> tensors;

		if (!run_.holds || !run_.op->effect.computes)
			return tensors;
		for (int i = 0; i < c->num_inputs(); i++) {
			if (!c->has_input(i) || c->input_dtype(i) == tf::DT_RESOURCE)
				continue;
			if (c->input_is_ref(i))
				add_window(c->mutable_input(i, false), &tensors);
			else
				add_window(c->input(i), &tensors);
		}
		return tensors;
	}

	/* Its outputs that are in windows: it may have written to its inputs, and forwarded them.
	 */
	std::vector<TensorRange> window_outputs(tf::OpKernelContext *c) const
	{
		std::vector<TensorRange> tensors;

		if (!run_.holds || !run_.op->effect.computes || !c->status().ok())
			return tensors;
		for (int i = 0; i < c->num_outputs(); i++)
			if (const tf::Tensor *t = c->mutable_output(i))
				add_window(*t, &tensors);
		return tensors;
	}

private:
	void add_window(const tf::Tensor &t, std::vector<TensorRange> *tensors) const
	{
		if (!t.IsInitialized() || !t.NumElements())
			return;
		auto p = static_cast<const char *>(tf::DMAHelper::base(&t));
		if (runtime_.in_windows(p))
			tensors->push_back({p, t.TotalBytes()});
	}

	void report(const tf::Tensor &t, bool reads, bool writes) const
	{
		if (!t.IsInitialized() || !t.NumElements())
			return;
		bool computes = run_.op->effect.computes;
		runtime_.record_use(run_, tf::DMAHelper::base(&t), t.TotalBytes(),
				    reads && computes, writes && computes);
	}

	void report_variable(const tf::Tensor &t) const
	{
		if (recording_)
			report(t, run_.op->effect.reads_variables,
			       run_.op->effect.writes_variables);
	}

	void report_resource(tf::OpKernelContext *c, int i) const
	{
		const tf::ResourceHandle &handle = tf::HandleFromInput(c, i);
		tf::Var *v = nullptr;

		if (handle.hash_code() != tf::MakeTypeIndex<tf::Var>().hash_code() ||
		    !tf::LookupResource(c, handle, &v).ok())
			return;
		{
			tf::mutex_lock lock(*v->mu());
			tf::Tensor *t = v->tensor();
			if (t->IsInitialized() && t->NumElements()) {
				report_variable(*t);
				runtime_.set_name(run_, tf::DMAHelper::base(t), handle.name());
			}
		}
		v->Unref();
	}

	Runtime &runtime_;
	OpRun run_;
	bool recording_;
};

/*
 * Identifies the operations of an execution that a thread with an open step starts. TensorFlow asks
 * the device for the contexts in that thread, before the first operation begins. A server starts
 * executions in threads of its own; the step then knows one of the operations.
 */
class StepContext : public tf::DeviceContext
{
public:
	explicit StepContext(uint64_t step) : step_(step)
	{
	}
	uint64_t step() const
	{
		return step_;
	}

private:
	const uint64_t step_;
};

class Device : public tf::ThreadPoolDevice
{
public:
	using tf::ThreadPoolDevice::ThreadPoolDevice;

	tf::Status FillContextMap(const tf::Graph *graph, tf::DeviceContextMap *map) override
	{
		Runtime &runtime = Runtime::instance();
		if (!runtime.tracking())
			return tf::Status::OK();
		uint64_t step = Runtime::opened_step();
		if (!step)
			step = runtime.awaited_step([graph](const std::string &name) {
				for (const tf::Node *node : graph->op_nodes())
					if (node->name() == name)
						return true;
				return false;
			});
		if (!step)
			return tf::Status::OK();
		StepContext *context = new StepContext(step);
		map->assign(size_t(graph->num_node_ids()), context);
		/* The execution releases each reference. */
		for (size_t i = 0; i < map->size(); i++)
			context->Ref();
		context->Unref();
		return tf::Status::OK();
	}

	void Compute(tf::OpKernel *kernel, tf::OpKernelContext *c) override
	{
		Runtime &runtime = Runtime::instance();

		if (!runtime.tracking()) {
			kernel->Compute(c);
			return;
		}
		OpRun run;
		std::vector<TensorRange> written;
		Untraced untraced(runtime.recording());
		{
			OpScope scope(runtime, kernel, kernel->name(), kernel->type_string(),
				      execution(c));
			run = scope.run();
			if (!run.step) {
				untraced.end();
				kernel->Compute(c);
				return;
			}
			TensorReporter tensors(runtime, run);
			tensors.report_inputs(c);
			runtime.hold(run, tensors.window_inputs(c));
			untraced.end();
			kernel->Compute(c);
			untraced.begin();
			if (runtime.recording() || run.op->effect.source)
				tensors.report_outputs(c);
			written = tensors.window_outputs(c);
		}
		runtime.op_end(run, written);
	}

	void ComputeAsync(tf::AsyncOpKernel *kernel, tf::OpKernelContext *c,
			  tf::AsyncOpKernel::DoneCallback done) override
	{
		Runtime &runtime = Runtime::instance();

		if (!runtime.tracking()) {
			kernel->ComputeAsync(c, std::move(done));
			return;
		}
		Untraced untraced(runtime.recording());
		OpScope scope(runtime, kernel, kernel->name(), kernel->type_string(), execution(c));
		OpRun run = scope.run();
		if (!run.step) {
			untraced.end();
			kernel->ComputeAsync(c, std::move(done));
			return;
		}
		TensorReporter tensors(runtime, run);
		tensors.report_inputs(c);
		runtime.hold(run, tensors.window_inputs(c));
		untraced.end();
		/* `c` may be freed when this returns. */
		kernel->ComputeAsync(c, [&runtime, tensors, run, c, done] {
			tensors.report_outputs(c);
			runtime.op_end(run, tensors.window_outputs(c));
			done();
		});
	}

private:
	static Execution execution(tf::OpKernelContext *c)
	{
		/* This device receives no contexts but its own. */
		auto *context = static_cast<StepContext *>(c->op_device_context());

		return {context ? context->step() : 0, c->step_id()};
	}
};

} // namespace

tf::Status TfDeviceFactory::CreateDevices(const tf::SessionOptions &options,
					  const tf::string &prefix,
					  std::vector<std::unique_ptr<tf::Device>> *devices)
{
	const auto &counts = options.config.device_count();
	auto cpus = counts.find("CPU");
	int count = cpus == counts.end() ? 1 : cpus->second;
	tf::SessionOptions device_options = options;
	tf::DeviceLocality locality;

	/* Makes ThreadPoolDevice's constructor use the allocator for Eigen's temporaries too. */
	device_options.config.mutable_experimental()->set_use_numa_affinity(true);
	locality.set_numa_node(0);
	/* To TensorFlow, 0 means one thread for each CPU. */
	auto threads = [](int n) { return n > 0 ? n : tf::port::NumSchedulableCPUs(); };
	Runtime::instance().set_session_threads(
		threads(options.config.inter_op_parallelism_threads()),
		threads(options.config.intra_op_parallelism_threads()));
	for (int i = 0; i < count; i++) {
		tf::string name = tf::strings::StrCat(prefix, "/device:CPU:", i);
		tf::Allocator *allocator = tf::ProcessState::singleton()->GetCPUAllocator(0);
		devices->emplace_back(new Device(device_options, name, tf::Bytes(256 << 20),
						 locality, allocator));
		device_count++;
	}
	return tf::Status::OK();
}

int devices()
{
	return device_count;
}

} // namespace sentinel
