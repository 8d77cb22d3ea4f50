# SPDX-License-Identifier: Apache-2.0
"""A hook for MonitoredSession and estimators. python2.7 with TensorFlow 1.13.1.

    from guest.bindings.hook import SentinelHook

    hook = SentinelHook(profile="step.json.gz")            # or plan="plan.json", or both with a planner
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        ...
"""

from __future__ import absolute_import, division, print_function

import threading
import weakref

from guest.bindings.trainer import SKIPPED_STEPS, Trainer


def SentinelHook(profile=None, plan=None, skip=SKIPPED_STEPS, planner=None):  # noqa: N802 (creates a class)
    """Return a SessionRunHook that manages the session's training. See Trainer for the arguments.

    Every run of the monitored session is a step; runs that other hooks start are not. Create the hook before
    the session, and before tf.data, which allocates at once.
    """
    import tensorflow as tf

    class Hook(tf.train.SessionRunHook):
        def __init__(self):
            self._trainer = Trainer(profile, plan, skip, planner)
            self._caller = threading.local()  # the fetches of this thread's run of the monitored session

        def after_create_session(self, session, coord):
            # Hooks are not told of a run that fails, so the step surrounds the run itself. The reference is
            # weak because python2.7 never frees a session that is part of a cycle.
            plain_run, this = type(session).run, weakref.ref(session)

            def run(fetches, *arguments, **options):
                # The fetches of the monitored session's caller come merged with those of its hooks.
                caller = getattr(self._caller, "fetches", None)
                if not isinstance(fetches, dict) or caller is None or fetches.get("caller") is not caller:
                    return plain_run(this(), fetches, *arguments, **options)
                with self._trainer.step():
                    return plain_run(this(), fetches, *arguments, **options)

            session.run = run

        def before_run(self, context):
            self._caller.fetches = context.original_args.fetches

        def end(self, _):
            self._trainer.end()

    return Hook()
