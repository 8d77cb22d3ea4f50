# SPDX-License-Identifier: Apache-2.0
"""The Sentinel runtime from Python: load it, mark steps and layers, record a profile, execute a plan.

    from guest.bindings import runtime

    runtime.load()                               # after `import tensorflow`, before the first session
    h = runtime.add_layer(h)                     # optional: ends a layer
    runtime.start_profile("step.json.gz")
    for _ in range(2):
        with runtime.step():
            session.run(train_op, feed)
    runtime.end_profile()
    runtime.load_plan("plan.json")

Steps of different kinds, such as those of a discriminator and a generator, have a profile and a plan each;
the functions take the kind as a number. `guest.bindings.hook.SentinelHook` does all of this for a
MonitoredSession. docs/sentinel.md describes profiles
and plans. Errors are `RuntimeUnavailable` or `BadPlan`, each with a message of one line.

python2.7 with TensorFlow 1.13.1; importable on python3.
"""

from __future__ import absolute_import, division, print_function

import contextlib
import ctypes
import gzip
import io
import json
import os
import zlib

from guest.bindings.profile_check import unplannable

LIBRARY = "/opt/sentinel/libsentinel.so"  # default; SENTINEL_RUNTIME overrides it
TENSORFLOW = "1.13.1"


class RuntimeUnavailable(Exception):
    """The runtime cannot be used in this process. The message gives the reason and a remedy."""


class BadPlan(ValueError):
    """The plan cannot be executed. Training continues without it."""


class _State(object):
    """The loaded library, its TensorFlow operations, and the paths of profiles being recorded, by kind."""

    def __init__(self, library, ops):
        self.library = library
        self.ops = ops
        self.profiles = {}


_state = None


def _open(path):
    """Load the library with the argument types of its C interface."""
    library = ctypes.CDLL(path)
    library.sentinel_step_begin.restype = ctypes.c_uint64
    library.sentinel_step_begin.argtypes = [ctypes.c_int, ctypes.c_int]
    library.sentinel_step_awaits.argtypes = [ctypes.c_uint64, ctypes.c_char_p]
    library.sentinel_step_end.argtypes = [ctypes.c_uint64, ctypes.c_int]
    library.sentinel_profile_end.restype = ctypes.c_void_p
    library.sentinel_statistics.restype = ctypes.c_void_p
    library.sentinel_limit.argtypes = [ctypes.c_int, ctypes.c_size_t]
    library.sentinel_free.argtypes = [ctypes.c_void_p]
    library.sentinel_plan_begin.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library


def _take_text(library, pointer):
    """Copy a string of the library and free it. NULL gives None."""
    if not pointer:
        return None
    try:
        return ctypes.string_at(pointer).decode("utf-8")
    finally:
        library.sentinel_free(pointer)


def load(path=None):
    """Load the runtime into this process, after TensorFlow is imported and before the first session.

    A second call does nothing. Raises RuntimeUnavailable.
    """
    global _state
    if _state is not None:
        return
    path = path or os.environ.get("SENTINEL_RUNTIME", LIBRARY)
    if os.path.basename(path) in os.environ.get("LD_PRELOAD", ""):
        raise RuntimeUnavailable(
            "%s is in LD_PRELOAD, which is too early: TensorFlow has to be loaded first" % path
        )
    if not os.path.exists(path):
        raise RuntimeUnavailable("no runtime library at %s (set SENTINEL_RUNTIME to its path)" % path)
    import tensorflow as tf

    if tf.__version__ != TENSORFLOW:
        raise RuntimeUnavailable(
            "the runtime is built for TensorFlow %s, this is %s" % (TENSORFLOW, tf.__version__)
        )
    try:
        ops = tf.load_op_library(path)
        library = _open(path)
    except (tf.errors.NotFoundError, OSError) as e:
        raise RuntimeUnavailable("cannot load the runtime library: %s" % e)
    if not library.sentinel_registered():
        raise RuntimeUnavailable(
            "too late: TensorFlow has already allocated memory. Call load() after `import tensorflow`"
            " and before the first session (or eager operation)"
        )
    tf.RegisterGradient("SentinelLayer")(lambda op, gradient: ops.sentinel_layer(gradient))
    _state = _State(library, ops)


def loaded():
    """Return whether load() has succeeded."""
    return _state is not None


def _require():
    if _state is None:
        raise RuntimeUnavailable("the runtime is not loaded: call load() before the first session")
    return _state


def add_layer(tensor):
    """End a layer with `tensor`, and one of the backward pass with its gradient. Returns the tensor."""
    return _require().ops.sentinel_layer(tensor)


@contextlib.contextmanager
def step(kind=0, plan_kind=None, remote=None):
    """Mark one training step: one session.run() in this thread.

    It runs with the plan of its kind, or of `plan_kind`. If another thread's step is open, this step is
    served but neither profiled nor planned. `remote`: an operation of the run, if it goes to a server in this
    process, which runs it in other threads. Yields the step's number, or 0 if it is only served.
    """
    number = begin_step(kind, plan_kind)
    if remote is not None:
        _require().library.sentinel_step_awaits(number, remote.encode("utf-8"))
    completed = False
    try:
        yield number
        completed = True
    finally:
        end_step(number, completed)


def begin_step(kind=0, plan_kind=None):
    """Begin a step, as step() does, that end_step() ends, perhaps in another thread. Returns its number."""
    return _require().library.sentinel_step_begin(kind, kind if plan_kind is None else plan_kind)


def end_step(number, completed=True):
    """End the step. A step that was not `completed`, since its run failed, counts for nothing."""
    _require().library.sentinel_step_end(number, completed)


def _check_writable(path):
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK):
        raise IOError("cannot write a profile to %s: the folder is missing or not writable" % path)


def start_profile(path, kind=0, trace=False):
    """Record the kind's next two steps. end_profile() writes to `path`, compressed if it ends in .gz.

    With `trace` the step before them marks its events in the timing model's trace.
    """
    _check_writable(path)
    state = _require()
    if state.library.sentinel_profile_begin(kind, trace):
        raise RuntimeUnavailable("this process cannot record a profile (see above)")
    state.profiles[kind] = path


def profiling(kind=0):
    """Return whether a profile of the kind is being recorded."""
    return _state is not None and kind in _state.profiles


def profile_steps_left(kind=0):
    """Return the number of steps still to record."""
    return _require().library.sentinel_profile_left(kind)


def end_profile(kind=0):
    """Write the kind's profile atomically and return its parsed content."""
    state = _require()
    if kind not in state.profiles:
        raise ValueError("end_profile() without start_profile()")
    path = state.profiles.pop(kind)
    text = _take_text(state.library, state.library.sentinel_profile_end(kind))
    if text is None:
        raise ValueError("no step has run since start_profile(): is session.run() within step()?")
    profile = json.loads(text)
    reason = unplannable(profile)
    if reason is not None:
        raise ValueError("no profile is written to %s: %s" % (path, reason))
    _write_atomic(path, _compress(text.encode("utf-8")) if path.endswith(".gz") else text.encode("utf-8"))
    return profile


def _compress(data):
    """Return `data` gzipped without a name or a time, so that equal profiles are equal files."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as z:
        z.write(data)
    return buffer.getvalue()


def _write_atomic(path, data):
    temporary = "%s.tmp.%d" % (path, os.getpid())
    try:
        with open(temporary, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.rename(temporary, path)
    except Exception:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _read_plan(path):
    """Return the bytes of a plan, decompressed if needed."""
    try:
        with open(path, "rb") as f:
            data = f.read()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as z:
                data = z.read()
    except (EnvironmentError, EOFError, zlib.error) as e:
        raise BadPlan("%s: %s" % (path, getattr(e, "strerror", None) or e))
    return data


def load_plan(path, kind=0):
    """Execute this plan in the kind's steps, from the next one on.

    If it raises BadPlan, nothing has changed.
    """
    state = _require()
    data = _read_plan(path)
    error = ctypes.create_string_buffer(1024)
    if state.library.sentinel_plan_begin(kind, data, len(data), error, len(error)):
        raise BadPlan("%s: %s" % (path, error.value.decode("utf-8", "replace")))


LIMITS = ("first-touch", "interleave")


def limit(mode, budget):
    """Without a plan: give the tensors' memory at most `budget` bytes of fast memory.

    Mode "first-touch" gives it to the memory that was used first, "interleave" to every other page; the rest
    goes to node 1. Call it between steps, after a step that has touched all the memory a step uses.
    """
    if mode not in LIMITS:
        raise ValueError("the mode of a limit must be first-touch or interleave, not %r" % (mode,))
    if _require().library.sentinel_limit(mode == "interleave", budget):
        raise RuntimeUnavailable("this machine has no node 1: there is nothing to limit")


def leave_fast_memory():
    """From now on, keep all tensors outside plans on node 1. Call it between steps."""
    _require().library.sentinel_leave_fast_memory()


def end_plan(kind=0):
    """Continue without a plan for the kind."""
    _require().library.sentinel_plan_end(kind)


def wants_profile(kind=0):
    """Return whether the plan no longer fits the kind's steps and a new profile is needed."""
    return bool(_require().library.sentinel_reprofile(kind))


def stats():
    """Return the runtime's counters. Looks up every page, so do not call it within a timed step."""
    library = _require().library
    return json.loads(_take_text(library, library.sentinel_statistics()))
