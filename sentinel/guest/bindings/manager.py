# SPDX-License-Identifier: Apache-2.0
"""The schedule of a managed training: each kind of step is skipped, profiled, planned, executed.

python2.7 with TensorFlow 1.13.1; importable on python3.
"""

from __future__ import absolute_import, division, print_function

import contextlib
import os
import sys
import threading

import timing_client
from guest.bindings import kinds, runtime
from guest.bindings.signatures import Signature

SKIPPED_STEPS = 10  # before a profile, as in the paper (section 5)
MAX_PROFILES = 10  # of one kind; steps between them double each time
_PATIENCE = 4  # runs of a kind that is being profiled, for which the plans of others wait
_LARGE = 0.9  # a profile is for inputs of at least this share of the largest seen


def say(line):
    """Print one line for the user to standard error."""
    sys.stderr.write("sentinel: %s\n" % line)


class Manager(object):
    """Profiles and plans each kind of step. SentinelHook, guest.wrap and guest.train share it.

    `skip` steps of a kind come before its profile. One of these says what happens:

    - `profile`: a file for the profile of the first kind that gets that far, or a folder for those of all
      kinds;
    - `plan`: the path of a plan for all steps, or a folder with a plan for each kind;
    - both: `planner(profile, plan)` is called in between to make the plan; without a `planner`, the plan is
      loaded if the file exists by then;
    - `planning`: makes plans while the training goes on (see guest.bindings.planning.Planning). Tensors are
      in slow memory until then.

    Profiles and plans in folders are `<kind>.json.gz`. On any failure it prints one line and training
    continues unmanaged. Several threads may have steps at once.
    """

    def __init__(self, profile=None, plan=None, skip=SKIPPED_STEPS, planner=None, planning=None):
        self.profile, self.plan, self.skip = profile, plan, skip
        self.kinds = kinds.Kinds()
        self.steps = 0  # completed
        self.on_step = None  # is called with a dictionary after each completed step
        self._planner, self._planning = planner, planning
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._trace = False
        self._common = None  # the kind whose plan serves all steps
        self._attempt(runtime.load)
        if not runtime.loaded():
            return
        if planning is not None:
            self._attempt(runtime.leave_fast_memory)
        if plan and not profile and not os.path.isdir(plan):
            self._common = self.kinds.get(Signature(()), ())
            self._load_plan(self._common, plan)

    def _attempt(self, function, *arguments):
        """Call the function; return None, or its error, which is printed."""
        try:
            function(*arguments)
        except Exception as e:
            say("%s; training continues unmanaged" % e)
            return e

    def in_own_process(self):
        """Return whether this is the process that created the manager, and not a fork of it."""
        return os.getpid() == self._pid

    @property
    def active(self):
        """Whether steps are managed."""
        return runtime.loaded() and self.in_own_process()

    @contextlib.contextmanager
    def step(self, signature, bucket=(), elements=0, remote=None):
        """Surround one training run of this signature, with inputs of this bucket and size.

        `remote` is an operation of the run, if it goes to a server.
        """
        if not self.active:
            yield
            return
        kind, plan = self._before(signature, bucket, elements)
        start = timing_client.now_ns()
        with runtime.step(kind.number, plan.number, remote) as number:
            yield
        # Not after a failed run, which is not a step, nor after one that was only served.
        if number:
            self._after(kind, plan, elements, timing_client.now_ns() - start)

    def begin_partial_step(self, signature):
        """Begin a step of several calls. Returns the function that ends it, given whether it succeeded."""
        if not self.active:
            return lambda completed: None
        kind, plan = self._before(signature, (), 0)
        start = timing_client.now_ns()
        number = runtime.begin_step(kind.number, plan.number)

        def end(completed):
            runtime.end_step(number, completed)
            if completed and number:
                self._after(kind, plan, 0, timing_client.now_ns() - start)

        return end

    def use_plans(self, folder):
        """Execute the plans in this folder from the next step on."""
        with self._lock:
            self.plan, self.profile = folder, None
            for kind in self.kinds.all:
                self._find_plan(kind)

    def start_profiles(self, folder, trace=False):
        """Profile the next two steps of each kind into this folder, after one to `trace`."""
        with self._lock:
            self.profile, self.plan, self.skip, self._trace = folder, None, 0, trace
            for kind in self.kinds.all:
                self._start_profile(kind, kind.most_elements)

    def _before(self, signature, bucket, elements):
        """Return the step's kind, and the kind whose plan it uses."""
        with self._lock:
            count = len(self.kinds.all)
            kind = self.kinds.get(signature, bucket)
            if len(self.kinds.all) > count and self.plan and not self.profile and self._common is None:
                self._find_plan(kind)
            self._take_plans()
            if self._profile_is_due(kind, elements):
                self._start_profile(kind, elements)
            kind.profiling_runs += kind.state == kinds.PROFILING
            return kind, self._common or self.kinds.plan_for(kind, elements)

    def _profile_is_due(self, kind, elements):
        if not self.profile and self._planning is None:
            return False
        if kind.state == kinds.WAITING:
            due = kind.runs >= self.skip
        elif kind.state == kinds.PLANNED and self._planning is not None:
            wait = max(1, self.skip) << kind.profiles
            due = kind.runs >= kind.last_profile + wait and runtime.wants_profile(kind.number)
        else:
            return False
        if not due or kind.profiles >= MAX_PROFILES:
            return False
        # Wait for a large input, but not for ever.
        overdue = kind.runs >= kind.last_profile + 4 * max(1, self.skip)
        return elements >= _LARGE * kind.most_elements or overdue

    def _start_profile(self, kind, elements):
        if self._planning is not None:
            path = self._planning.profile_path(kind)
        elif os.path.isdir(self.profile):
            path = os.path.join(self.profile, kind.file_name)
        elif any(k.profiles or k.state == kinds.PROFILING for k in self.kinds.all):
            return  # one file is for one kind
        else:
            path = self.profile
        if self._attempt(runtime.start_profile, path, kind.number, self._trace) is None:
            kind.state, kind.profiled_elements, kind.last_profile = kinds.PROFILING, elements, kind.runs
            kind.profiling_runs = 0
        else:
            kind.state, kind.reason = kinds.UNPLANNED, "it could not be profiled"

    def _after(self, kind, plan, elements, ns):
        with self._lock:
            profiling = kind.state == kinds.PROFILING
            phase = "before" if plan.state != kinds.PLANNED else "planned" if plan is kind else "other"
            kind.completed(elements, "profiling" if profiling else phase, ns)
            self.steps += 1
            if profiling:
                kind.profiled_elements = max(kind.profiled_elements, elements)
                if runtime.profile_steps_left(kind.number) == 0:
                    self._end_profile(kind)
        if self.on_step is not None:
            self.on_step({"kind": kind.name, "plan": plan.name if phase != "before" else None, "ns": ns})

    def _end_profile(self, kind):
        error = self._attempt(runtime.end_profile, kind.number)
        if error is not None:
            kind.state, kind.reason = kinds.UNPLANNED, str(error)
            return
        kind.profiles += 1
        if self._planning is not None:
            kind.state = kinds.PLANNING
            self._planning.add(kind)
            return
        kind.state = kinds.UNPLANNED
        if self.plan:
            path = self.profile
            if self._planner is not None:
                self._attempt(self._planner, path, self.plan)
            if os.path.exists(self.plan):
                self._load_plan(kind, self.plan)

    def _take_plans(self):
        """Load the plans that are ready. They begin between steps: the caller is about to open one."""
        if self._planning is None:
            return
        # Kinds that are profiled at the same time are planned together. Some never finish: their runs are
        # within other steps.
        waits = any(k.state == kinds.PROFILING and k.profiling_runs <= _PATIENCE for k in self.kinds.all)
        for kind, path, error in self._planning.take(start=not waits):
            if path is not None:
                self._load_plan(kind, path)
            else:
                kind.state, kind.reason = kinds.UNPLANNED, error
                say("no plan for steps %s: %s; they stay in slow memory" % (kind.name, error))

    def _load_plan(self, kind, path):
        if self._attempt(runtime.load_plan, path, kind.number) is None:
            kind.state = kinds.PLANNED
        else:
            kind.state, kind.reason = kinds.UNPLANNED, "its plan could not be loaded"

    def _find_plan(self, kind):
        path = os.path.join(self.plan, kind.file_name)
        if os.path.exists(path):
            self._load_plan(kind, path)

    def end(self):
        """Finish: no step follows."""
        if not self.active:
            return
        with self._lock:
            for kind in self.kinds.all:
                if kind.state == kinds.PROFILING:
                    self._end_profile(kind)
        if self._planning is not None:
            self._planning.end()
        if self.profile and not any(kind.profiles for kind in self.kinds.all):
            say(
                "no profile: it starts after %d steps, and the training had %d" % (self.skip, self.steps)
                if self.steps
                else "no profile: no run updated variables; name the training operation with --step-op"
            )
