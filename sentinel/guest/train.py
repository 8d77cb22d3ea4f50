# SPDX-License-Identifier: Apache-2.0
"""Trains one model in the guest: `python2.7 -m guest.train FOLDER`. python2.7 with TensorFlow 1.13.1.

    FOLDER/job.json     read at the start: {"model": {"name": ..., parameters}, "seed": n, "threads": n}, and
                        {"runtime": true} if the Sentinel runtime manages the tensors
    FOLDER/barrier      a FIFO. With its graph built, the process waits here for its order. It has no
                        TensorFlow session yet, hence no thread and no tensor: the machine can be saved
    FOLDER/waiting      appears when the process waits; holds the time until then
    FOLDER/steps.jsonl  one record per step, written as the step ends; the last line is {"end": true}

The order is {"steps": n, "warmup": n} and any of

    memory        {"policy": ..., "nodes": [...]}: the memory policy of the process
    sysctls       kernel settings and their values
    fast_memory   the budget in bytes, in effect from the end of the warm-up, with
      plan        the path of a plan, or
      limit       how the runtime keeps to the budget without a plan
    profile       the path for a profile of the steps after the warm-up
    observe       with a profile: the timing model counts accesses by page in the second of these steps, in
                  which the kernel's profiler counts them too

A budget needs at least one warm-up step. One more unmeasured step follows, or TRIAL_STEPS with a plan, in
which the runtime tries how to execute it.

Times are in nanoseconds: `guest_ns` by CLOCK_MONOTONIC, `model_ns` by the model clock (null without one).
"""

from __future__ import absolute_import, division, print_function

import contextlib
import gc
import json
import os
import sys

import timing_client
from guest.bindings import memory, runtime
from timing_client import monotonic_ns

TRIAL_STEPS = 4  # one settles, one waits for migrations, one does not, one settles again


def build(job):
    """Import TensorFlow and build the graph. Returns (module, inputs, train_op, loss)."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import warnings

    warnings.filterwarnings("ignore")
    import tensorflow as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    from guest import models

    parameters = dict(job["model"])
    name = parameters.pop("name")
    if job.get("runtime"):
        runtime.load()
    tf.set_random_seed(job["seed"])
    inputs, train_op, loss = models.build(name, parameters)
    return tf, inputs, train_op, loss


def wait_for_order(folder, started):
    """Announce that the process waits, and block until an order is written to the barrier."""
    barrier = os.path.join(folder, "barrier")
    os.mkfifo(barrier)
    waiting = os.path.join(folder, "waiting")
    with open(waiting + ".tmp", "w") as f:
        json.dump({"prepare_ns": monotonic_ns() - started}, f)
    os.rename(waiting + ".tmp", waiting)
    with open(barrier) as f:
        return json.load(f)


def unmeasured_steps(order):
    """Return the number of steps before the measured ones."""
    return order["warmup"] + (TRIAL_STEPS if "plan" in order else 1 if "fast_memory" in order else 0)


def train(folder, job, order, graph):
    """Run the ordered steps and write a record of each."""
    import numpy as np

    tf, inputs, train_op, loss = graph
    memory.set_sysctls(order.get("sysctls", {}))
    if "memory" in order:
        memory.place(order["memory"]["policy"], order["memory"]["nodes"])
    unmeasured = unmeasured_steps(order)
    timing_client.compute()
    data = np.random.RandomState(job["seed"])
    feed = {placeholder: make(data) for placeholder, make in inputs}
    config = tf.ConfigProto(
        inter_op_parallelism_threads=job["threads"], intra_op_parallelism_threads=job["threads"]
    )
    with open(os.path.join(folder, "steps.jsonl"), "w") as out, tf.Session(config=config) as session:

        def write(record):
            out.write(json.dumps(record, sort_keys=True) + "\n")
            out.flush()

        session.run(tf.global_variables_initializer())
        gc.disable()  # a collection within a step would make it a few percent longer
        timing_client.region_begin()
        for step in range(unmeasured + order["steps"]):
            gc.collect(1)
            if step == order["warmup"] and "plan" in order:
                runtime.load_plan(order["plan"])
            elif step == order["warmup"] and "limit" in order:
                runtime.limit(order["limit"], order["fast_memory"])
            if step == unmeasured and "profile" in order:
                runtime.start_profile(order["profile"])
            observed = order.get("observe") and step == unmeasured + 1
            if observed:
                timing_client.observe()
            before = memory.vmstat()
            timing_client.step_begin()
            start, model_start = monotonic_ns(), timing_client.now_ns()
            with runtime.step() if job.get("runtime") else unmanaged():
                value = session.run([train_op, loss], feed)[1]
            end, model_end = monotonic_ns(), timing_client.now_ns()
            timing_client.step_end()
            if observed:
                timing_client.pages()
            after = memory.vmstat()
            record = {
                "step": step,
                "warmup": step < unmeasured,
                "guest_ns": end - start,
                "model_ns": model_end - model_start if timing_client.modelled() else None,
                "loss": float(value).hex(),
                "residency": memory.residency(),
                "vmstat": {k: after[k] - before[k] for k in after if after[k] != before[k]},
            }
            if job.get("runtime"):
                record["runtime"] = runtime.stats()
            write(record)
            if "plan" in order and step >= unmeasured and not record["runtime"]["planned"]:
                raise RuntimeError("the runtime dropped the plan: it does not fit the training")
        timing_client.region_end()
        if "profile" in order:
            runtime.end_profile()
        write({"end": True})


@contextlib.contextmanager
def unmanaged():
    """A step without the runtime."""
    yield


def main():
    folder = sys.argv[1]
    started = monotonic_ns()
    with open(os.path.join(folder, "job.json")) as f:
        job = json.load(f)
    graph = build(job)
    order = wait_for_order(folder, started)
    train(folder, job, order, graph)


if __name__ == "__main__":
    main()
