# SPDX-License-Identifier: Apache-2.0
"""Trains one model in the guest: `python2.7 -m guest.train FOLDER`. python2.7, TensorFlow 1.13.1.

    FOLDER/job.json     read at the start: {"model": {"name": ..., parameters}, "seed": n, "threads": n}
    FOLDER/barrier      a FIFO. Once the graph is built the process waits here, without a TensorFlow session
                        and so without a thread or a tensor; a machine may be saved now. What comes through is
                        {"placement": ..., "steps": n, "warmup": n} and, for a job with {"runtime": true}, maybe
                        {"fast_memory": bytes, "plan": path} or {"profile": path, "observe": true}
    FOLDER/waiting      there from when the process waits (it also tells how long the way there was)
    FOLDER/steps.jsonl  one record a step, as it ends; the last line is {"end": true}

A budget of fast memory holds from the end of the warm-up on, which therefore has at least one step. Then one
more step goes unmeasured, with a plan TRIAL of them, in which the runtime tries how to carry it out. With a
profile the steps after the warm-up are those that are profiled; to observe is to have the timing model count
accesses to pages exactly in the second of them, in which the kernel counts them too.

Times are in nanoseconds: `guest_ns` by CLOCK_MONOTONIC of the guest, `model_ns` by the timing model's clock,
which is null on machines without one.
"""

from __future__ import absolute_import, division, print_function

import contextlib
import gc
import json
import os
import sys

from guest import memory, model, runtime
from guest.model import monotonic_ns


TRIAL = 4  # steps: one to settle, one that waits, one that does not, and one to settle again


def build(job):
    """Import TensorFlow and build the graph; returns (module, inputs, train_op, loss)."""
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
    inputs, train_op, loss = models.BUILDERS[name](**parameters)
    return tf, inputs, train_op, loss


def wait_for_order(folder, started):
    """Say that we wait, and block until somebody writes an order into the barrier."""
    barrier = os.path.join(folder, "barrier")
    os.mkfifo(barrier)
    waiting = os.path.join(folder, "waiting")
    with open(waiting + ".tmp", "w") as f:
        json.dump({"prepare_ns": monotonic_ns() - started}, f)
    os.rename(waiting + ".tmp", waiting)
    with open(barrier) as f:
        return json.load(f)


def train(folder, job, order, graph):
    """Run the ordered steps and write a record for each."""
    import numpy as np

    tf, inputs, train_op, loss = graph
    if "fast_memory" not in order:
        memory.place(order["placement"])
    warmup = order["warmup"] + (TRIAL if "plan" in order else 1 if "fast_memory" in order else 0)
    model.compute()
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
        gc.disable()  # a step would be a few percent longer whenever it happens to be collected in it
        model.region_begin()
        for step in range(warmup + order["steps"]):
            gc.collect(1)
            if step == order["warmup"] and "plan" in order:
                runtime.load_plan(order["plan"])
            elif step == order["warmup"] and "fast_memory" in order:
                runtime.limit(order["placement"], order["fast_memory"])
            if step == warmup and "profile" in order:
                runtime.start_profile(order["profile"])
            observed = order.get("observe") and step == warmup + 1
            if observed:
                model.observe()
            before = memory.vmstat()
            model.step_begin()
            start, model_start = monotonic_ns(), model.now_ns()
            with runtime.step() if job.get("runtime") else unmanaged():
                value = session.run([train_op, loss], feed)[1]
            end, model_end = monotonic_ns(), model.now_ns()
            model.step_end()
            if observed:
                model.pages()
            after = memory.vmstat()
            record = {
                "step": step,
                "warmup": step < warmup,
                "guest_ns": end - start,
                "model_ns": model_end - model_start if model.modelled() else None,
                "loss": float(value).hex(),
                "residency": memory.residency(),
                "vmstat": {k: after[k] - before[k] for k in after if after[k] != before[k]},
            }
            if job.get("runtime"):
                record["runtime"] = runtime.stats()
            write(record)
            if "plan" in order and step >= warmup and not record["runtime"]["planned"]:
                raise RuntimeError("the plan was given up: it does not fit what was trained")
        model.region_end()
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
