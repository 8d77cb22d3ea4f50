# SPDX-License-Identifier: Apache-2.0
"""Runs a training script under the Sentinel runtime, untouched. python2.7, TensorFlow 1.13.1.

    python2.7 -m guest.wrap [--profile FILE] [--plan FILE] [--skip N] [--stats FILE] SCRIPT [ARGUMENT...]

Every session.run() that updates variables as an optimiser does is a step. Without --profile and --plan the
runtime is only loaded. --stats writes what it has counted when the script ends.

On a machine with a timing model the script runs on the vCPU that computes, and the region of interest is from
its first step to its end.
"""

from __future__ import absolute_import, division, print_function

import argparse
import json
import os
import runpy
import sys
import weakref

from guest import model, runtime


def watch(session_class, trainer, prepare=lambda: None):
    """Tell `trainer` of every run of the class's sessions that trains; `prepare` is called before each."""
    plain_run = session_class.run
    known = weakref.WeakKeyDictionary()  # graph -> what is fetched -> whether it trains

    def operations(session, fetches):
        import tensorflow as tf

        if isinstance(fetches, dict):
            fetches = list(fetches.values())
        if isinstance(fetches, (list, tuple)):
            return [op for each in fetches for op in operations(session, each)]
        found = session.graph.as_graph_element(getattr(fetches, "name", fetches))
        return [found.op if isinstance(found, tf.Tensor) else found]

    def trains(session, fetches):
        try:
            ops = operations(session, fetches)
        except (TypeError, ValueError, KeyError):
            return False  # something rare, or wrong: session.run() will say
        names = tuple(op.name for op in ops)
        of_graph = known.setdefault(session.graph, {})
        if names not in of_graph:
            of_graph[names] = runtime.trains(ops)
        return of_graph[names]

    def run(self, fetches, *arguments, **named):
        if not trains(self, fetches):
            return plain_run(self, fetches, *arguments, **named)
        prepare()
        with trainer.step():
            return plain_run(self, fetches, *arguments, **named)

    session_class.run = run


def main(arguments):
    parser = argparse.ArgumentParser(prog="python2.7 -m guest.wrap", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", help="where to write the profile of a step")
    parser.add_argument("--plan", help="the plan to carry out")
    parser.add_argument("--skip", type=int, default=runtime.SKIPPED, help="steps before the profile")
    parser.add_argument("--stats", help="where to write the runtime's statistics")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not os.path.exists(options.script):
        parser.error("there is no script %s" % options.script)

    model.compute()
    import tensorflow as tf

    trainer, region = runtime.Trainer(options.profile, options.plan, options.skip), model.Region()
    watch(tf.Session, trainer, region.begin)
    watch(tf.InteractiveSession, trainer, region.begin)
    sys.argv = [options.script] + options.arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(options.script)))
    try:
        runpy.run_path(options.script, run_name="__main__")
    finally:
        region.end()
        trainer.end()
        if options.stats and runtime.loaded() and trainer.at_home():
            with open(options.stats, "w") as f:
                json.dump(runtime.stats(), f, indent=1, sort_keys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
