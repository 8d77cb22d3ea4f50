# SPDX-License-Identifier: Apache-2.0
"""Trains one model in the guest: `python2.7 -m guest.train FOLDER`. python2.7 with TensorFlow 1.13.1.

guest/job.py describes the folder.
"""

from __future__ import absolute_import, division, print_function

import contextlib
import gc
import os
import sys

import timing_client
from guest import session_config
from guest.bindings import runtime
from guest.bindings.manager import Manager
from guest.bindings.signatures import Signatures
from guest.job import Job


def build(work):
    """Import TensorFlow and build the graph. Returns (module, inputs, train_ops, loss)."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import warnings

    warnings.filterwarnings("ignore")
    import tensorflow as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    from guest import models

    parameters = dict(work["model"])
    name = parameters.pop("name")
    if work.get("runtime"):
        runtime.load()
    tf.set_random_seed(work["seed"])
    inputs, train_ops, loss = models.build(name, parameters)
    return tf, inputs, train_ops, loss


def train(job, graph):
    """Run the ordered steps and write a record of each. A step runs all train_ops, one after another."""
    import numpy as np

    tf, inputs, train_ops, loss = graph
    managed, threads = job.work.get("runtime"), job.work["threads"]
    manager = Manager(skip=0) if managed else None
    signatures = Signatures([op.name for op in train_ops])
    data = np.random.RandomState(job.work["seed"])
    feed = draw(inputs, data)
    runs = [([op], signatures.of(op.graph, [op], feed)) for op in train_ops[:-1]]
    runs.append(([train_ops[-1], loss], signatures.of(loss.graph, [train_ops[-1], loss.op], feed)))
    with tf.Session(config=session_config.complete(None, threads)) as session:
        session.run(tf.global_variables_initializer())
        gc.disable()  # a collection within a step would make it a few percent longer
        timing_client.region_begin()
        while not job.over:
            feed = draw(inputs, data) if job.steps else feed
            gc.collect(1)
            job.before_step(manager)
            for fetches, signature in runs:
                with manager.step(signature) if managed else unmanaged():
                    values = session.run(fetches, feed)
            record = job.after_step(runs[0][1].name, values[-1], managed)
            planned = "plan" in job.order and not record["warmup"]
            if planned and not record["runtime"]["planned"]:
                raise RuntimeError("the runtime dropped the plan: it does not fit the training")
        timing_client.region_end()
        if managed:
            manager.end()
    job.end()


def draw(inputs, random):
    """Draw a batch: a feed of all placeholders."""
    return {placeholder: make(random) for placeholder, make in inputs}


@contextlib.contextmanager
def unmanaged():
    """A step without the runtime."""
    yield


def main():
    job = Job(sys.argv[1])
    graph = build(job.work)
    job.wait_for_order()
    train(job, graph)


if __name__ == "__main__":
    main()
