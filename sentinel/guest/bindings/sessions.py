# SPDX-License-Identifier: Apache-2.0
"""Makes the training runs of TensorFlow's sessions steps. python2.7 with TensorFlow 1.13.1.

All ways to run a graph meet in four methods of BaseSession, below run(), monitored sessions, estimators,
Keras and slim:

    _do_run                       run(), and each call of a partial run
    make_callable                 without a list of feeds; with one, it calls run()
    _make_callable_from_options   Keras
    partial_run_setup             starts the execution of a partial run
"""

from __future__ import absolute_import, division, print_function

import threading
import weakref

from guest.bindings.signatures import Signatures, shape_bucket, varying


class Watch(object):
    """Makes the training runs of sessions steps of a manager.

    `prepare` is called before the first of them. `step_ops` are names of operations: if there are any, the
    runs that need one of them are the training runs. `seen` counts the runs of all kinds.
    """

    def __init__(self, manager, prepare=lambda: None, step_ops=()):
        self._manager, self._prepare = manager, prepare
        self._signatures = Signatures(step_ops)
        self.seen = 0

    def signature(self, session, operations, fed):
        """Return the signature of a run, or None if it is not a step."""
        self.seen += 1
        signature = self._signatures.of(session.graph, operations, fed)
        if signature is not None:
            self._prepare()
        return signature

    def step(self, session, signature, operations, tensors=(), shapes=()):
        """Return the context of a run with these fetched operations and these feeds."""
        bucket = shape_bucket(tensors, shapes)
        elements = sum(_product(shape) for _, shape in varying(tensors, shapes))
        remote = operations[0].name if session._target else None
        return self._manager.step(signature, bucket, elements, remote)

    def begin_partial_step(self, signature):
        """Begin a step of several calls; returns the function that ends it."""
        return self._manager.begin_partial_step(signature)


def _product(dims):
    product = 1
    for n in dims:
        product *= n
    return product


_lock = threading.Lock()
_installed = False
_everywhere = None  # the watch of all sessions
_of_session = weakref.WeakKeyDictionary()


def watch_all(watch):
    """Watch every session of this process."""
    global _everywhere
    _install()
    _everywhere = watch


def watch_session(session, watch):
    """Watch one session."""
    _install()
    _of_session[session] = watch


def _watch_of(session):
    return _of_session.get(session) or _everywhere


def _install():
    global _installed
    with _lock:
        if _installed:
            return
        _installed = True
    from tensorflow.python.client import session as module

    base = module.BaseSession
    plain_do_run, plain_make_callable = base._do_run, base.make_callable
    plain_from_options, plain_setup = base._make_callable_from_options, base.partial_run_setup

    def fetches_of(session, fetches):
        handler = module._FetchHandler(session.graph, fetches, {})
        return handler.targets() + [tensor.op for tensor in handler.fetches()], handler.fetches()

    def _do_run(self, handle, target_list, fetch_list, feed_dict, options, run_metadata):
        arguments = (self, handle, target_list, fetch_list, feed_dict, options, run_metadata)
        watch = _watch_of(self)
        if watch is None:
            return plain_do_run(*arguments)
        if handle is not None:
            return _partial(self, handle, fetch_list, plain_do_run, arguments)
        operations = list(target_list) + [tensor.op for tensor in fetch_list]
        signature = watch.signature(self, operations, feed_dict)
        if signature is None:
            return plain_do_run(*arguments)
        tensors = list(feed_dict)
        shapes = [_shape(feed_dict[t]) for t in tensors]
        with watch.step(self, signature, operations, tensors, shapes):
            return plain_do_run(*arguments)

    def _partial(self, handle, fetch_list, plain, arguments):
        partial = self.__dict__.get("_sentinel_partial", {}).get(handle)
        if partial is None:
            return plain(*arguments)
        missing, end = partial
        try:
            result = plain(*arguments)
        except Exception:
            del self._sentinel_partial[handle]
            end(False)
            raise
        missing.difference_update(tensor.name for tensor in fetch_list)
        if not missing:
            del self._sentinel_partial[handle]
            end(True)
        return result

    def partial_run_setup(self, fetches, feeds=None):
        watch = _watch_of(self)
        if watch is None:
            return plain_setup(self, fetches, feeds)
        operations, tensors = fetches_of(self, fetches)
        fed = feeds if isinstance(feeds, (list, tuple)) else [] if feeds is None else [feeds]
        fed = [tensor for tensor in fed if hasattr(tensor, "name") and hasattr(tensor, "op")]
        signature = watch.signature(self, operations, fed)
        if signature is None:
            return plain_setup(self, fetches, feeds)
        end = watch.begin_partial_step(signature)
        try:
            handle = plain_setup(self, fetches, feeds)
        except Exception:
            end(False)
            raise
        self.__dict__.setdefault("_sentinel_partial", {})[handle] = ({t.name for t in tensors}, end)
        return handle

    def make_callable(self, fetches, feed_list=None, accept_options=False):
        plain = plain_make_callable(self, fetches, feed_list, accept_options)
        watch = _watch_of(self)
        if watch is None or feed_list is not None:
            return plain
        return _managed(plain, watch, self, fetches_of(self, fetches)[0], ())

    def _make_callable_from_options(self, callable_options):
        plain = plain_from_options(self, callable_options)
        watch = _watch_of(self)
        if watch is None:
            return plain
        graph = self.graph
        operations = [graph.as_graph_element(name) for name in callable_options.target]
        operations += [graph.as_graph_element(name).op for name in callable_options.fetch]
        fed = [graph.as_graph_element(name) for name in callable_options.feed]
        return _managed(plain, watch, self, operations, fed)

    base._do_run, base.make_callable = _do_run, make_callable
    base._make_callable_from_options, base.partial_run_setup = _make_callable_from_options, partial_run_setup


def _shape(value):
    """Return the shape of a fed value; a handle of a tensor in the session has none."""
    return getattr(value, "shape", ())


def _managed(plain, watch, session, operations, fed):
    """Return a callable that makes each call of `plain`, with values of the tensors `fed`, a step.

    `plain` itself if a run of these operations does not train.
    """
    signature = watch.signature(session, operations, fed)
    if signature is None:
        return plain

    def run(*arguments, **options):
        shapes = [_shape(argument) for argument in arguments[: len(fed)]]
        with watch.step(session, signature, operations, fed, shapes):
            return plain(*arguments, **options)

    return run
