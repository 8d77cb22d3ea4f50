# SPDX-License-Identifier: Apache-2.0
"""Runs an unmodified training script under the Sentinel runtime. python2.7 with TensorFlow 1.13.1.

    python2.7 -m guest.wrap [--profile FILE] [--plan FILE] [--skip N] [--stats FILE] SCRIPT [ARGUMENT...]

Every session.run() that updates variables as an optimiser does is a step. Without --profile and --plan the
runtime is only loaded. --stats writes the runtime's counters when the script ends.

With a timing model the script runs on the compute vCPU, and the region of interest lasts from its first step
to its end.
"""

from __future__ import absolute_import, division, print_function

import argparse
import json
import os
import runpy
import sys
import weakref

import timing_client
from guest.bindings import runtime
from guest.bindings.trainer import SKIPPED_STEPS, Trainer, trains


def _operations(session, fetches):
    """Return the operations that `fetches` stands for. Raises what session.run() would raise."""
    import tensorflow as tf

    if isinstance(fetches, dict):
        fetches = list(fetches.values())
    if isinstance(fetches, (list, tuple)):
        return [op for fetch in fetches for op in _operations(session, fetch)]
    element = session.graph.as_graph_element(getattr(fetches, "name", fetches))
    return [element.op if isinstance(element, tf.Tensor) else element]


def watch(session_class, trainer, prepare=lambda: None):
    """Make every training run of the class's sessions a step of `trainer`, after calling `prepare`."""
    plain_run = session_class.run
    verdicts = weakref.WeakKeyDictionary()  # graph -> names of the fetched operations -> whether they train

    def is_training(session, fetches):
        try:
            ops = _operations(session, fetches)
        except (TypeError, ValueError, KeyError):
            return False  # not an ordinary fetch; session.run() reports it if it is wrong
        names = tuple(op.name for op in ops)
        of_graph = verdicts.setdefault(session.graph, {})
        if names not in of_graph:
            of_graph[names] = trains(ops)
        return of_graph[names]

    def run(self, fetches, *arguments, **options):
        if not is_training(self, fetches):
            return plain_run(self, fetches, *arguments, **options)
        prepare()
        with trainer.step():
            return plain_run(self, fetches, *arguments, **options)

    session_class.run = run


def main(arguments):
    parser = argparse.ArgumentParser(prog="python2.7 -m guest.wrap", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", help="write the profile of a step to this file")
    parser.add_argument("--plan", help="execute this plan")
    parser.add_argument("--skip", type=int, default=SKIPPED_STEPS, help="steps before the profile")
    parser.add_argument("--stats", help="write the runtime's counters to this file")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not os.path.exists(options.script):
        parser.error("no such script: %s" % options.script)

    timing_client.compute()
    import tensorflow as tf

    trainer, region = Trainer(options.profile, options.plan, options.skip), timing_client.Region()
    watch(tf.Session, trainer, region.begin)
    watch(tf.InteractiveSession, trainer, region.begin)
    sys.argv = [options.script] + options.arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(options.script)))
    try:
        runpy.run_path(options.script, run_name="__main__")
    finally:
        region.end()
        trainer.end()
        if options.stats and runtime.loaded() and trainer.in_own_process():
            with open(options.stats, "w") as f:
                json.dump(runtime.stats(), f, indent=1, sort_keys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
