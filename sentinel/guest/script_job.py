# SPDX-License-Identifier: Apache-2.0
"""Runs a training script as a job of the host. python2.7 with TensorFlow 1.13.1.

The script runs unchanged up to its first session. There it waits for the order that guest/job.py describes;
from then on each of its training runs is a step with a record. With a number of steps in the order, the
process ends after them.
"""

from __future__ import absolute_import, division, print_function

import collections
import contextlib
import os
import random
import sys
import threading

import timing_client
from guest import session_config, summary
from guest.bindings import kinds, runtime
from guest.bindings.manager import SKIPPED_STEPS, Manager, say
from guest.bindings.planning import Planning
from guest.bindings.sessions import Watch, watch_all
from guest.job import TRIAL_STEPS


class ScriptJob(object):
    """The steps of a script. It takes the place of a manager, and has the one that the order asks for."""

    def __init__(self, job, step_ops):
        self._job = job
        self._pid = os.getpid()
        self._first_session = threading.Lock()
        self._waited = False
        self._manager = Manager(skip=0) if job.work.get("runtime") else None
        self._observer = None  # of an online training
        self._last_step, self._planned_steps = None, collections.Counter()  # of its manager; by kind
        self._region = timing_client.Region()
        self._watch = Watch(self, self._region.begin, step_ops)
        self._recorded = threading.Lock()  # held during a step with a record
        session_config.complete_all(self._job.work.get("threads"), before=self._wait_at_first_session)
        watch_all(self._watch)

    def _wait_at_first_session(self):
        with self._first_session:
            if not self._waited and os.getpid() == self._pid:
                self._waited = True
                self._job.wait_for_order()
                self._begin_online()

    def _begin_online(self):
        online = self._job.order.get("online")
        if online is None:
            return
        folder = os.path.join(self._job.folder, "online")
        os.mkdir(folder)
        wait = online.get("wait", False)
        planning = Planning(folder, online["fast_memory"], online["figures"], online["policy"], wait)
        self._manager = Manager(skip=online.get("skip", SKIPPED_STEPS), planning=planning)
        self._manager.on_step = self._note
        self._observer = summary.Observer(self._manager, planning, self._watch)

    def _note(self, step):
        self._last_step = step
        if step["plan"] == step["kind"]:
            self._planned_steps[step["kind"]] += 1

    def _settled(self):
        """Return whether the last step ran as those after it will: its plan has been tried, or none comes."""
        step, self._last_step = self._last_step, None
        if step is None:
            return True
        if step["plan"] is not None:
            return step["plan"] != step["kind"] or self._planned_steps[step["kind"]] > TRIAL_STEPS
        states = {kind.name: kind.state for kind in self._manager.kinds.all}
        return states[step["kind"]] == kinds.UNPLANNED

    @contextlib.contextmanager
    def step(self, signature, bucket=(), elements=0, remote=None):
        """Surround one training run, and record it."""
        if os.getpid() != self._pid or not self._recorded.acquire(False):
            yield  # a child's run, or one within or beside a step: it is only served
            return
        try:
            self._job.before_step(self._manager)
            if self._manager is None:
                yield
            else:
                with self._manager.step(signature, bucket, elements, remote):
                    yield
            record = self._job.after_step(signature.name, None, self._manager is not None, self._settled())
            if self._observer is not None:
                self._observer.add(record["runtime"])
            if self._job.over:
                self._finish()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        finally:
            self._recorded.release()

    def begin_partial_step(self, signature):
        """Begin a step of several calls. It has no record."""
        return self._manager.begin_partial_step(signature) if self._manager else lambda completed: None

    def end(self):
        """Finish when the script has ended by itself."""
        if os.getpid() != self._pid or not self._waited:
            return
        steps = self._job.order["steps"]
        if steps is not None and self._observer is None:
            # Without an end of the records the job counts as failed, whatever the script's exit status.
            say("the script ended after %d of %d measured steps" % (self._job.measured, steps))
            return
        self._finish()

    def _finish(self):
        self._region.end()
        if self._manager is not None:
            self._manager.end()
        if self._observer is not None:
            values = self._observer.summary(runtime.stats())
            self._job.write_summary(dict(values, text=summary.text(values)))
        self._job.end()


def seed(number):
    """Seed what a script usually draws from."""
    import numpy as np
    import tensorflow as tf

    random.seed(number)
    np.random.seed(number)
    tf.set_random_seed(number)
