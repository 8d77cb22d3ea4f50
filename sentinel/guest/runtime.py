# SPDX-License-Identifier: Apache-2.0
"""The Sentinel runtime from Python. python2.7 (TensorFlow 1.13.1); importable on python3.

In a training script, before the first session:

    from guest import runtime

    hook = runtime.SentinelHook(profile="step.json")            # or plan="plan.json", or both by a command
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        ...

or by hand:

    runtime.load()
    h = runtime.add_layer(h)                     # where a layer ends
    runtime.start_profile("step.json.gz")
    for _ in range(2):
        with runtime.step():
            session.run(train_op, feed)
    runtime.end_profile()
    runtime.load_plan("plan.json")

docs/sentinel.md describes profile and plan. What goes wrong is a RuntimeUnavailable or a BadPlan, in a line.
"""

from __future__ import absolute_import, division, print_function

import contextlib
import ctypes
import gzip
import io
import json
import os
import sys
import threading
import weakref
import zlib

from guest import profiles

LIBRARY = "/opt/sentinel/libsentinel.so"  # or what SENTINEL_RUNTIME names
SKIPPED = 10  # steps before the profile: the paper's (section 5)
TENSORFLOW = "1.13.1"
# Operations that only training has; a run that has one of them is a step
_UPDATES = ("Apply", "SparseApply", "ResourceApply", "ResourceSparseApply")


class RuntimeUnavailable(Exception):
    """The runtime cannot be used in this process; says why, and what would help."""


class BadPlan(ValueError):
    """A plan that cannot be carried out; training goes on without."""


class _Loaded(object):
    """The library once it is in this process."""

    def __init__(self, library, ops):
        self.library = library
        self.ops = ops
        self.profile = None


_loaded = None


def _open(path):
    """ctypes' view of the library."""
    library = ctypes.CDLL(path)
    library.sentinel_step_begin.restype = ctypes.c_uint64
    library.sentinel_step_end.argtypes = [ctypes.c_uint64, ctypes.c_int]
    library.sentinel_profile_end.restype = ctypes.c_void_p
    library.sentinel_statistics.restype = ctypes.c_void_p
    library.sentinel_limit.argtypes = [ctypes.c_int, ctypes.c_size_t]
    library.sentinel_free.argtypes = [ctypes.c_void_p]
    library.sentinel_plan_begin.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library


def _text(library, pointer):
    """A string of the library's, which is freed; None for NULL."""
    if not pointer:
        return None
    try:
        return ctypes.string_at(pointer).decode("utf-8")
    finally:
        library.sentinel_free(pointer)


def load(path=None):
    """Bring the runtime into this process: after TensorFlow is imported, before the first session.

    Does nothing if it is there already. Raises RuntimeUnavailable.
    """
    global _loaded
    if _loaded is not None:
        return
    path = path or os.environ.get("SENTINEL_RUNTIME", LIBRARY)
    if os.path.basename(path) in os.environ.get("LD_PRELOAD", ""):
        raise RuntimeUnavailable(
            "%s is in LD_PRELOAD, which is too early: TensorFlow has to be loaded first" % path
        )
    if not os.path.exists(path):
        raise RuntimeUnavailable("there is no runtime library at %s (SENTINEL_RUNTIME names another)" % path)
    import tensorflow as tf

    if tf.__version__ != TENSORFLOW:
        raise RuntimeUnavailable(
            "the runtime is built for TensorFlow %s, this is %s" % (TENSORFLOW, tf.__version__)
        )
    try:
        ops = tf.load_op_library(path)
        library = _open(path)
    except (tf.errors.NotFoundError, OSError) as e:
        raise RuntimeUnavailable("the runtime library does not load: %s" % e)
    if not library.sentinel_registered():
        raise RuntimeUnavailable(
            "too late: TensorFlow has allocated memory already. Call load() after `import tensorflow`"
            " and before the first session (or eager operation)"
        )
    tf.RegisterGradient("SentinelLayer")(lambda op, gradient: ops.sentinel_layer(gradient))
    _loaded = _Loaded(library, ops)


def loaded():
    """Whether load() has succeeded."""
    return _loaded is not None


def _need():
    if _loaded is None:
        raise RuntimeUnavailable("the runtime is not loaded: call load() before the first session")
    return _loaded


def add_layer(tensor):
    """Ends a layer with `tensor` (and one of the backward pass with its gradient); returns it, marked."""
    return _need().ops.sentinel_layer(tensor)


@contextlib.contextmanager
def step():
    """Around what is one step of training: one session.run(), in this thread.

    Steps of other threads that are open meanwhile are served, but neither profiled nor planned.
    """
    library = _need().library
    number = library.sentinel_step_begin()
    completed = False
    try:
        yield
        completed = True
    finally:
        library.sentinel_step_end(number, completed)


def _check_writable(path):
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK):
        raise IOError("cannot write a profile to %s: no such folder, or no right to" % path)


def start_profile(path):
    """Record the next two steps. `path` is where end_profile() writes to; gzipped if it ends in .gz."""
    _check_writable(path)
    state = _need()
    if state.library.sentinel_profile_begin():
        raise RuntimeUnavailable("no profile can be made in this process (see above)")
    state.profile = path


def end_profile():
    """Write the profile, whole or not at all; returns it as it is in the file, parsed."""
    state = _need()
    if state.profile is None:
        raise ValueError("end_profile() without start_profile()")
    path, state.profile = state.profile, None
    text = _text(state.library, state.library.sentinel_profile_end())
    if text is None:
        raise ValueError("no step has run since start_profile(): is session.run() within step()?")
    profile = json.loads(text)
    reason = profiles.unplannable(profile)
    if reason is not None:
        raise ValueError("no profile is written to %s: %s" % (path, reason))
    temporary = "%s.tmp.%d" % (path, os.getpid())
    try:
        with open(temporary, "wb") as f:
            data = text.encode("utf-8")
            if path.endswith(".gz"):
                buffer = io.BytesIO()  # no name and no time in it: equal profiles are equal files
                with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as z:
                    z.write(data)
                data = buffer.getvalue()
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.rename(temporary, path)
    except Exception:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    return profile


def _read(path):
    """The bytes of a plan, gunzipped if they are gzipped."""
    try:
        with open(path, "rb") as f:
            data = f.read()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as z:
                data = z.read()
    except (EnvironmentError, EOFError, zlib.error) as e:
        raise BadPlan("%s: %s" % (path, getattr(e, "strerror", None) or e))
    return data


def load_plan(path):
    """Carry out this plan from the next step on. Raises BadPlan, and then nothing has changed."""
    state = _need()
    data = _read(path)
    error = ctypes.create_string_buffer(1024)
    if state.library.sentinel_plan_begin(data, len(data), error, len(error)):
        raise BadPlan("%s: %s" % (path, error.value.decode("utf-8", "replace")))


def limit(placement, budget):
    """Without a plan, let the memory that tensors have used so far take `budget` bytes of fast memory at most.

    "first-touch" gives it to what was used first, "interleave" to every other page until it is used up; all
    else is on node 1. Between steps, after one that has used all that a step uses.
    """
    if placement not in ("first-touch", "interleave"):
        raise ValueError("within a budget there is first-touch and interleave, not %r" % (placement,))
    if _need().library.sentinel_limit(placement == "interleave", budget):
        raise RuntimeUnavailable("this machine has no node 1: there is nothing to limit")


def end_plan():
    """Go on without a plan."""
    _need().library.sentinel_plan_end()


def wants_profile():
    """Whether the plan no longer fits what is trained, so that it should be profiled again."""
    return bool(_need().library.sentinel_reprofile())


def stats():
    """What the runtime has counted: a dictionary. Looks up where every page is, so not for each step."""
    library = _need().library
    return json.loads(_text(library, library.sentinel_statistics()))


def say(line):
    """One line to whoever watches the training."""
    sys.stderr.write("sentinel: %s\n" % line)


class Trainer(object):
    """Profiles at the right step, then loads the plan: what SentinelHook and guest.wrap have in common.

    `skip` steps go by before the profile. With `plan` and no `profile`, the plan is carried out from the
    first step on. With both, `planner` is called with the two paths in between, to make one from the other
    (without it, `plan` is loaded if it is there by then). Whatever fails is said in one line, and training
    goes on unmanaged. Several threads may have steps at once.
    """

    def __init__(self, profile=None, plan=None, skip=SKIPPED, planner=None):
        self.profile, self.plan, self.skip, self.planner = profile, plan, skip, planner
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._steps = 0  # that were completed
        self._profiling = False
        self._safely(load)
        if loaded() and plan and not profile:
            self._safely(load_plan, plan)

    def _safely(self, function, *arguments):
        try:
            return function(*arguments)
        except Exception as e:
            say("%s; training goes on unmanaged" % e)
            return None

    def at_home(self):
        """Whether this is the process that the trainer was made in, and no fork of it."""
        return os.getpid() == self._pid

    @contextlib.contextmanager
    def step(self):
        """Around one run that trains."""
        if not loaded() or not self.at_home():
            yield
            return
        self._before()
        with step():
            yield
        self._after()  # not if the run has failed: it is no step then

    def _before(self):
        with self._lock:
            if not self.profile or self._profiling or self._steps < self.skip:
                return
            self._safely(start_profile, self.profile)
            self._profiling = _loaded.profile is not None
            if not self._profiling:
                self.profile = None

    def _after(self):
        with self._lock:
            self._steps += 1
            if not self._profiling or _loaded.library.sentinel_profile_left():
                return
            path = self._end_profiling()
        self._finish(path)

    def _end_profiling(self):
        """With the lock held."""
        path, self.profile, self._profiling = self.profile, None, False
        return path

    def end(self):
        """There will be no more steps."""
        if not loaded() or not self.at_home():
            return
        with self._lock:
            if not self._profiling:
                if self.profile:
                    say("no profile: it begins after %d steps, and %d were seen" % (self.skip, self._steps))
                return
            path = self._end_profiling()
        self._finish(path)

    def _finish(self, path):
        if self._safely(end_profile) is None or not self.plan:
            return
        if self.planner is not None:
            self._safely(self.planner, path, self.plan)
        if os.path.exists(self.plan):
            self._safely(load_plan, self.plan)


def SentinelHook(profile=None, plan=None, skip=SKIPPED, planner=None):  # noqa: N802 (a class, made late)
    """A SessionRunHook for MonitoredSession and estimators: see Trainer for the arguments.

    Every run of the monitored session is a step; what other hooks run by themselves is none. Make it after
    the graph, or before, but before the session, and before tf.data, which allocates at once.
    """
    import tensorflow as tf

    class Hook(tf.train.SessionRunHook):
        def __init__(self):
            self._trainer = Trainer(profile, plan, skip, planner)
            self._asked = threading.local()  # what this thread's run of the monitored session fetches

        def after_create_session(self, session, coord):
            # No hook is told of a run that fails, so the step is around the run itself. By a weak reference,
            # for python2.7 never frees a session that is part of a cycle.
            plain_run, this = type(session).run, weakref.ref(session)

            def run(fetches, *arguments, **named):
                # What the monitored session's caller fetches comes together with what its hooks want.
                asked = getattr(self._asked, "fetches", None)
                if not isinstance(fetches, dict) or asked is None or fetches.get("caller") is not asked:
                    return plain_run(this(), fetches, *arguments, **named)
                with self._trainer.step():
                    return plain_run(this(), fetches, *arguments, **named)

            session.run = run

        def before_run(self, context):
            self._asked.fetches = context.original_args.fetches

        def end(self, _):
            self._trainer.end()

    return Hook()


def trains(fetches):
    """Whether a run of these operations updates variables as an optimiser does."""
    seen, todo = set(), list(fetches)
    while todo:
        op = todo.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type.startswith(_UPDATES):
            return True
        todo.extend(op.control_inputs)
        todo.extend(tensor.op for tensor in op.inputs)
    return False
