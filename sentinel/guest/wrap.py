# SPDX-License-Identifier: Apache-2.0
"""Runs an unmodified training script under the Sentinel runtime. python2.7 with TensorFlow 1.13.1.

    python2.7 -m guest.wrap --fast-memory 20% [--policy P] SCRIPT [ARGUMENT...]

profiles each kind of training step, makes its plan beside the training, and executes it. By hand:

    python2.7 -m guest.wrap --profile FILE [--skip N] SCRIPT [ARGUMENT...]
    python2.7 -m guest.wrap --plan FILE [--stats FILE] SCRIPT [ARGUMENT...]

Every session run that updates variables as training does is a step; --step-op names an operation that makes
a run one instead. Without options the runtime is only loaded. --stats writes the runtime's counters when the
script ends.

With a timing model the script runs on the compute vCPU, and the region of interest lasts from its first step
to its end.

--job is for the host: guest/job.py describes the folder. The process waits for its order when the script
creates its first session.
"""

from __future__ import absolute_import, division, print_function

import argparse
import contextlib
import os
import runpy
import shutil
import sys
import tempfile

import timing_client
from guest import script_job, session_config, summary
from guest.bindings import runtime
from guest.bindings.manager import SKIPPED_STEPS, Manager, say
from guest.bindings.planning import Planning
from guest.bindings.sessions import Watch, watch_all
from guest.job import Job, write_json
from guest.summary import Observer

FIGURES = "/opt/sentinel/figures.json"
POLICIES = ("sentinel", "sentinel-opt")
_LOOKED_UP = 20  # steps after each of which residency is looked up, and the distance of later ones


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="python2.7 -m guest.wrap", description=__doc__.split("\n")[0])
    parser.add_argument("--fast-memory", metavar="SIZE", help="budget: a size, or a share of the peak (20%%)")
    parser.add_argument("--policy", choices=POLICIES, default="sentinel-opt", help="default: %(default)s")
    parser.add_argument("--figures", default=FIGURES, help="figures of the machine (default: %(default)s)")
    parser.add_argument("--step-op", action="append", default=[], metavar="NAME", help="operation of a step")
    parser.add_argument("--skip", type=int, default=SKIPPED_STEPS, help="steps before the profile")
    parser.add_argument("--wait", action="store_true", help="wait for plans instead of training on meanwhile")
    parser.add_argument("--folder", help="keep profiles, plans and the summary in this folder")
    parser.add_argument("--profile", help="write the profile of a step to this file")
    parser.add_argument("--plan", help="execute this plan")
    parser.add_argument("--stats", help="write the runtime's counters to this file")
    parser.add_argument("--job", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not os.path.exists(options.script):
        parser.error("no such script: %s" % options.script)
    if options.fast_memory and (options.profile or options.plan):
        parser.error("--fast-memory makes profiles and plans itself: omit --profile and --plan")
    if options.fast_memory and not os.path.exists(options.figures):
        parser.error("no figures of this machine at %s: name them with --figures" % options.figures)
    return options


class Training(object):
    """The managed training of a script that the user started."""

    def __init__(self, options, planning):
        self._planning, self._stats_path = planning, options.stats
        self._manager = Manager(options.profile, options.plan, options.skip, planning=planning)
        self._region = timing_client.Region()
        watch = Watch(self._manager, self._region.begin, options.step_op)
        self._observer = None if planning is None else Observer(self._manager, planning, watch)
        if planning is not None:
            self._manager.on_step = self._look_up
        session_config.complete_all()
        watch_all(watch)

    def _look_up(self, _):
        """Look up where tensors are, after some of the steps only: it takes long."""
        steps = self._manager.steps
        if steps <= _LOOKED_UP or steps % _LOOKED_UP == 0:
            self._observer.add(runtime.stats())

    def end(self):
        """Finish, and print the summary."""
        self._region.end()
        self._manager.end()
        if not self._manager.in_own_process():
            return
        stats = runtime.stats() if runtime.loaded() else None
        if self._stats_path and stats:
            write_json(self._stats_path, stats)
        if self._observer is not None:
            result = self._observer.summary(stats)
            for line in summary.text(result):
                say(line)
            write_json(os.path.join(self._planning.folder, "summary.json"), result)


def _refuse_eager_execution():
    """Say why a script with eager execution is not managed."""
    import tensorflow as tf

    plain = tf.enable_eager_execution

    def enable_eager_execution(*arguments, **options):
        say("eager execution has no session runs, hence no steps: training continues unmanaged")
        return plain(*arguments, **options)

    tf.enable_eager_execution = enable_eager_execution


def _run(options, training):
    """Run the script as the main program."""
    sys.argv = [options.script] + options.arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(options.script)))
    try:
        runpy.run_path(options.script, run_name="__main__")
    finally:
        training.end()


def _run_job(options):
    job = Job(options.job)
    script_job.seed(job.work["seed"])
    _refuse_eager_execution()
    _run(options, script_job.ScriptJob(job, options.step_op))


@contextlib.contextmanager
def _planning(options):
    """The planning that the options ask for, or None. Its folder is removed unless the user named it."""
    if not options.fast_memory:
        yield None
        return
    folder = options.folder or tempfile.mkdtemp(prefix="sentinel-")
    if not os.path.isdir(folder):
        os.makedirs(folder)
    try:
        yield Planning(folder, options.fast_memory, options.figures, options.policy, options.wait)
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)


def main(arguments):
    options = _parse(arguments)
    if options.job:
        _run_job(options)
        return
    with _planning(options) as planning:
        timing_client.compute()
        _refuse_eager_execution()
        _run(options, Training(options, planning))


if __name__ == "__main__":
    main(sys.argv[1:])
