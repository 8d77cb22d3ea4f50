# SPDX-License-Identifier: Apache-2.0
"""The schedule of a managed training: skip some steps, record a profile, execute a plan.

python2.7 with TensorFlow 1.13.1; importable on python3.
"""

from __future__ import absolute_import, division, print_function

import contextlib
import os
import sys
import threading

from guest.bindings import runtime

SKIPPED_STEPS = 10  # before the profile, as in the paper (section 5)
# Types of the operations with which optimisers update variables
_UPDATES = ("Apply", "SparseApply", "ResourceApply", "ResourceSparseApply")


def say(line):
    """Print one line for the user to standard error."""
    sys.stderr.write("sentinel: %s\n" % line)


class Trainer(object):
    """Profiles a step, then loads a plan. SentinelHook and guest.wrap share it.

    It skips `skip` steps before the profile. With `plan` alone, the plan is in effect from the first step.
    With both, `planner(profile, plan)` is called in between to make the plan (without a `planner`, `plan` is
    loaded if the file exists by then). On any failure it prints one line and training continues unmanaged.
    Several threads may have steps at once.
    """

    def __init__(self, profile=None, plan=None, skip=SKIPPED_STEPS, planner=None):
        self.profile, self.plan, self.skip, self.planner = profile, plan, skip, planner
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._completed_steps = 0
        self._profiling = False
        self._attempt(runtime.load)
        if runtime.loaded() and plan and not profile:
            self._attempt(runtime.load_plan, plan)

    def _attempt(self, function, *arguments):
        """Call the function; on failure say so and return None."""
        try:
            return function(*arguments)
        except Exception as e:
            say("%s; training continues unmanaged" % e)
            return None

    def in_own_process(self):
        """Return whether this is the process that created the trainer, and not a fork of it."""
        return os.getpid() == self._pid

    @contextlib.contextmanager
    def step(self):
        """Surround one training run."""
        if not runtime.loaded() or not self.in_own_process():
            yield
            return
        self._before()
        with runtime.step():
            yield
        self._after()  # skipped if the run has failed: then it is not a step

    def _before(self):
        with self._lock:
            if not self.profile or self._profiling or self._completed_steps < self.skip:
                return
            self._attempt(runtime.start_profile, self.profile)
            self._profiling = runtime.profiling()
            if not self._profiling:
                self.profile = None

    def _after(self):
        with self._lock:
            self._completed_steps += 1
            if not self._profiling or runtime.profile_steps_left():
                return
            path = self._end_profiling()
        self._finish(path)

    def _end_profiling(self):
        """Return the profile's path and reset the state. The caller holds the lock."""
        path, self.profile, self._profiling = self.profile, None, False
        return path

    def end(self):
        """Finish: no step follows."""
        if not runtime.loaded() or not self.in_own_process():
            return
        with self._lock:
            if not self._profiling:
                if self.profile:
                    say(
                        "no profile: it starts after %d steps, and the training had %d"
                        % (self.skip, self._completed_steps)
                    )
                return
            path = self._end_profiling()
        self._finish(path)

    def _finish(self, path):
        if self._attempt(runtime.end_profile) is None or not self.plan:
            return
        if self.planner is not None:
            self._attempt(self.planner, path, self.plan)
        if os.path.exists(self.plan):
            self._attempt(runtime.load_plan, self.plan)


def trains(fetches):
    """Return whether a run of these operations updates variables as an optimiser does."""
    visited, pending = set(), list(fetches)
    while pending:
        op = pending.pop()
        if op in visited:
            continue
        visited.add(op)
        if op.type.startswith(_UPDATES):
            return True
        pending.extend(op.control_inputs)
        pending.extend(tensor.op for tensor in op.inputs)
    return False
