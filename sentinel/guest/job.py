# SPDX-License-Identifier: Apache-2.0
"""The guest's side of a job: its folder, its barrier, its order, and the records of its steps.

python2.7; importable on python3.

    FOLDER/job.json      read at the start: {"seed": n, "threads": n}, for guest.train {"model": {"name": ...,
                         parameters}}, and {"runtime": true} if the Sentinel runtime manages the tensors
    FOLDER/barrier       a FIFO. The process waits here for its order, before it has a TensorFlow session,
                         hence without threads and tensors: the machine can be saved
    FOLDER/waiting       appears when the process waits; holds the time until then
    FOLDER/steps.jsonl   one record per step, written as the step ends; the last line is {"end": true}
    FOLDER/summary.json  of an online training: its summary; "text" holds the lines for people

The order is {"steps": n, "warmup": n} and any of

    memory        {"policy": ..., "nodes": [...]}: the memory policy of the process
    sysctls       kernel settings and their values
    fast_memory   the budget in bytes, in effect from the end of the warm-up, with
      plan        a folder of plans, `<kind>.json.gz`, or
      limit       how the runtime keeps to the budget without a plan
    profile       a folder for the profiles of the steps after the warm-up, `<kind>.json.gz`
    trace         with a profile: trace a step before the profiled ones; its events are in the profiles
    observe       with a profile: the timing model counts accesses by page in the second of these steps, in
                  which the kernel's profiler counts them too
    online        {"policy": ..., "fast_memory": text, "figures": path, "skip": n, "wait": bool}: profile,
                  plan and execute the plans in this process, and perhaps wait for the planner

`steps` counts measured steps; null means until the script ends. A budget needs at least one warm-up step. One
more unmeasured step follows, or TRIAL_STEPS with a plan, in which the runtime tries how to execute it. Steps
of an online training are unmeasured until their plan has been tried, or cannot be made.

Times are in nanoseconds: `guest_ns` by CLOCK_MONOTONIC, `model_ns` by the model clock (null without one).
"""

from __future__ import absolute_import, division, print_function

import json
import os

import timing_client
from guest.bindings import memory, runtime
from timing_client import monotonic_ns

TRIAL_STEPS = 4  # one settles, one waits for migrations, one does not, one settles again


def write_json(path, value):
    """Write a value to a file, for people too."""
    with open(path, "w") as f:
        json.dump(value, f, indent=1, sort_keys=True)


class Job(object):
    """A job. `steps` counts the steps that have ended, `measured` the measured ones among them."""

    def __init__(self, folder):
        self.folder = folder
        self._started = monotonic_ns()
        with open(os.path.join(folder, "job.json")) as f:
            self.work = json.load(f)
        self.order = None
        self.steps = self.measured = 0
        self._out = None

    def wait_for_order(self):
        """Announce that the process waits, and block until an order is written to the barrier."""
        barrier = os.path.join(self.folder, "barrier")
        os.mkfifo(barrier)
        waiting = os.path.join(self.folder, "waiting")
        with open(waiting + ".tmp", "w") as f:
            json.dump({"prepare_ns": monotonic_ns() - self._started}, f)
        os.rename(waiting + ".tmp", waiting)
        with open(barrier) as f:
            self.order = json.load(f)
        self._out = open(os.path.join(self.folder, "steps.jsonl"), "w")
        memory.set_sysctls(self.order.get("sysctls", {}))
        if "memory" in self.order:
            memory.place(self.order["memory"]["policy"], self.order["memory"]["nodes"])
        timing_client.compute()

    @property
    def unmeasured(self):
        """The least number of steps before the measured ones."""
        order = self.order
        return order["warmup"] + (TRIAL_STEPS if "plan" in order else 1 if "fast_memory" in order else 0)

    @property
    def over(self):
        """Whether all ordered steps have run."""
        return self.order["steps"] is not None and self.measured >= self.order["steps"]

    def before_step(self, manager):
        """Apply what the order has for the step that follows, and begin to measure it."""
        order, step = self.order, self.steps
        if step == order["warmup"] and "plan" in order:
            manager.use_plans(order["plan"])
        elif step == order["warmup"] and "limit" in order:
            runtime.limit(order["limit"], order["fast_memory"])
        if step == self.unmeasured and "profile" in order:
            if not os.path.isdir(order["profile"]):
                os.mkdir(order["profile"])
            manager.start_profiles(order["profile"], trace=bool(order.get("trace")))
        self._observed = order.get("observe") and step == self.unmeasured + 1 + bool(order.get("trace"))
        if self._observed:
            timing_client.observe()
        self._traced = order.get("trace") and step == self.unmeasured
        self._vmstat = memory.vmstat()
        timing_client.step_begin()
        if self._traced:
            timing_client.trace_begin()
        self._start, self._model_start = monotonic_ns(), timing_client.now_ns()

    def after_step(self, kind, loss, managed, settled=True):
        """Write the record of the step, measured if `settled`. `loss` is a float or None."""
        end, model_end = monotonic_ns(), timing_client.now_ns()
        if self._traced:
            timing_client.trace_end()
        timing_client.step_end()
        if self._observed:
            timing_client.pages()
        after, before = memory.vmstat(), self._vmstat
        record = {
            "step": self.steps,
            "kind": kind,
            "warmup": self.steps < self.unmeasured or not settled,
            "guest_ns": end - self._start,
            "model_ns": model_end - self._model_start if timing_client.modelled() else None,
            "loss": None if loss is None else float(loss).hex(),
            "residency": memory.residency(),
            "vmstat": {k: after[k] - before[k] for k in after if after[k] != before[k]},
        }
        if managed:
            record["runtime"] = runtime.stats()
        self.steps += 1
        self.measured += not record["warmup"]
        self._write(record)
        return record

    def write_summary(self, summary):
        """Write the summary of an online training."""
        write_json(os.path.join(self.folder, "summary.json"), summary)

    def end(self):
        """Write the end of the records."""
        self._write({"end": True})

    def _write(self, record):
        self._out.write(json.dumps(record, sort_keys=True) + "\n")
        self._out.flush()
