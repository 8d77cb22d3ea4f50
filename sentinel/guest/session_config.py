# SPDX-License-Identifier: Apache-2.0
"""Configurations with which sessions optimize graphs completely. python2.7 with TensorFlow 1.13.1.

TensorFlow stops optimizing a graph after five minutes and takes it as it is. In an emulated guest a large
graph needs as long, so the load of the host would decide which operations run, on the last bits of the
losses, and whether a plan fits.
"""

from __future__ import absolute_import, division, print_function

_NO_LIMIT = -1


def complete(config, threads=None):
    """Return a session's configuration without that limit, and with `threads` where it leaves them open.

    What is no configuration is returned as it is.
    """
    import tensorflow as tf

    if not isinstance(config, (tf.ConfigProto, type(None))):
        return config
    changed = tf.ConfigProto()
    if config is not None:
        changed.CopyFrom(config)
    for field in ("inter_op_parallelism_threads", "intra_op_parallelism_threads"):
        if threads and not getattr(changed, field):
            setattr(changed, field, threads)
    rewriting = changed.graph_options.rewrite_options
    if not rewriting.meta_optimizer_timeout_ms:
        rewriting.meta_optimizer_timeout_ms = _NO_LIMIT
    return changed


def complete_all(threads=None, before=lambda: None):
    """Complete the configuration of every session of this process; call `before` when one is created."""
    from tensorflow.python.client import session as module

    base, plain = module.BaseSession, module.BaseSession.__init__

    def __init__(session, target="", graph=None, config=None):  # noqa: N807 (replaces BaseSession's)
        before()
        plain(session, target, graph, complete(config, threads))

    base.__init__ = __init__
