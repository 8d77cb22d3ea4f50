# SPDX-License-Identifier: Apache-2.0
"""Measures this processor: float32 operations per ns of one core in a matrix product. Prints a number.

python2.7 with TensorFlow 1.13.1. With SENTINEL_CLOCK=cpu times are the processor time of this process, so
that other load on the host hardly matters.
"""

from __future__ import absolute_import, division, print_function

import os

from timing_client import monotonic_ns

_SIZE = 1024  # rows and columns: three matrices of 4 MiB
_ROUNDS = 15


def measure():
    """Return the median speed of several rounds: other load slows a training as much."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    import warnings

    warnings.filterwarnings("ignore")
    import tensorflow as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
    with tf.Session(config=config) as session:
        a, b = (tf.Variable(tf.random_normal([_SIZE, _SIZE], seed=n)) for n in (1, 2))
        product = tf.matmul(a, b).op
        session.run(tf.global_variables_initializer())
        session.run(product)
        durations = []
        for _ in range(_ROUNDS):
            begin = monotonic_ns()
            session.run(product)
            durations.append(monotonic_ns() - begin)
    return 2 * _SIZE**3 / float(sorted(durations)[_ROUNDS // 2])


if __name__ == "__main__":
    print(repr(measure()))
