# SPDX-License-Identifier: Apache-2.0
"""A hook for MonitoredSession and estimators. python2.7 with TensorFlow 1.13.1.

    from guest.bindings.hook import SentinelHook

    hook = SentinelHook(profile="step.json.gz")            # or plan="plan.json", or both with a planner
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        ...
"""

from __future__ import absolute_import, division, print_function

from guest.bindings.manager import SKIPPED_STEPS, Manager
from guest.bindings.sessions import Watch, watch_session


def SentinelHook(profile=None, plan=None, skip=SKIPPED_STEPS, planner=None, step_op=None):  # noqa: N802
    """Return a SessionRunHook that manages the session's training. See Manager for the arguments.

    Every run of the session that updates variables as training does is a step, or, with `step_op`, every run
    that needs the operation of this name. Create the hook before the session, and before tf.data, which
    allocates at once.
    """
    import tensorflow as tf

    class Hook(tf.train.SessionRunHook):
        def __init__(self):
            self._manager = Manager(profile, plan, skip, planner)
            self._watch = Watch(self._manager, step_ops=[step_op] if step_op else [])

        def after_create_session(self, session, coord):
            watch_session(session, self._watch)

        def end(self, _):
            self._manager.end()

    return Hook()
