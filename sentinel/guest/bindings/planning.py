# SPDX-License-Identifier: Apache-2.0
"""Plans made beside the training, in a process of their own. python2.7 and 3."""

from __future__ import absolute_import, division, print_function

import json
import os
import select
import signal
import subprocess

import timing_client

try:
    from shlex import quote
except ImportError:  # python2.7
    from pipes import quote

PLANNER = "python3 -m sentinel.planner"


def _lead_a_group():
    """In the shell, before it starts: make it and its planners one process group, off the compute vCPU."""
    os.setsid()
    timing_client.assist()


class Planning(object):
    """Makes the plans of a training.

    Create it before TensorFlow is imported: it starts a shell that in turn starts the planner, so that the
    training process, large by then, need not fork. `folder` is for profiles, plans and the planner's log;
    `fast_memory` is a size, or a share of the largest peak of the kinds that are planned first. With `wait`
    the training waits for its plans.
    """

    def __init__(self, folder, fast_memory, figures, policy, wait=False):
        self.folder, self.policy, self.figures, self._wait = folder, policy, figures, wait
        self.fast_memory = fast_memory
        self.budget = None  # bytes, from the first plans on
        self.peak = None
        self.planner_ns = 0
        self._waiting, self._running, self._started = [], [], 0
        self._shell = subprocess.Popen(
            ["/bin/sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=True,
            preexec_fn=_lead_a_group,
        )

    def profile_path(self, kind):
        """Return the path for the profile of a kind."""
        return os.path.join(self.folder, kind.file_name)

    def plan_path(self, kind):
        """Return the path for the plan of a kind."""
        return os.path.join(self.folder, "plans", kind.file_name)

    def add(self, kind):
        """Plan the kind, whose profile has been written."""
        self._waiting.append(kind)

    def take(self, start=True):
        """Return the finished plans as (kind, path, error); a plan that cannot be made has path None.

        Starts to plan the kinds that wait, unless `start` is false.
        """
        finished = self._finish() if self._running else []
        if start and self._waiting and not self._running:
            self._start()
            if self._wait:
                finished += self._finish()
        return finished

    def _start(self):
        self._running, self._waiting = self._waiting, []
        plans = os.path.join(self.folder, "plans")
        if not os.path.isdir(plans):
            os.mkdir(plans)
        words = PLANNER.split() + [self.profile_path(kind) for kind in self._running]
        words += ["--budget", str(self.budget or self.fast_memory), "--figures", self.figures]
        words += ["--policy", self.policy, "--spill", "-o", plans]
        command = " ".join(quote(word) for word in words)
        outputs = [quote(os.path.join(self.folder, name)) for name in ("planner.json", "planner.log")]
        self._started = timing_client.monotonic_ns()
        try:
            # The shell's own output is one line, when the planner has ended.
            line = "%s >%s 2>%s; echo $?\n" % (command, outputs[0], outputs[1])
            self._shell.stdin.write(line.encode("utf-8"))
            self._shell.stdin.flush()
        except EnvironmentError:
            pass  # it has died: _finish() says so

    def _finish(self):
        if not select.select([self._shell.stdout], [], [], None if self._wait else 0)[0]:
            return []
        status = self._shell.stdout.readline().strip()
        self.planner_ns += timing_client.monotonic_ns() - self._started
        kinds, self._running = self._running, []
        try:
            with open(os.path.join(self.folder, "planner.json")) as f:
                result = json.load(f)
        except (EnvironmentError, ValueError):
            return [(kind, None, self._failure(status)) for kind in kinds]
        if self.budget is None:
            self.budget, self.peak = result["budget"], result["peak"]
        finished = []
        for kind in kinds:
            error = result["errors"].get(kind.name)
            finished.append((kind, None if error else self.plan_path(kind), error))
        return finished

    def _failure(self, status):
        log = os.path.join(self.folder, "planner.log")
        try:
            with open(log) as f:
                lines = f.read().strip().splitlines()
        except EnvironmentError:
            lines = []
        reason = lines[-1] if lines else "it left no message"
        return "the planner failed (exit status %s): %s (log: %s)" % (
            status.decode("ascii") or "unknown",
            reason,
            log,
        )

    def unfinished(self):
        """Return the kinds whose plans have not been made."""
        return self._running + self._waiting

    def end(self):
        """Stop, and end a running planner."""
        try:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.stdin.close()
        except EnvironmentError:
            pass  # the shell has died
        self._shell.stdout.close()
        self._shell.wait()
