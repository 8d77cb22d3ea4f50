# SPDX-License-Identifier: Apache-2.0
"""Alternate training steps with and without a profile of the tensors (python2.7, TensorFlow 1.13.1).

    LD_PRELOAD=arena.so python2.7 profiled_training.py MODEL ROUNDS

Prints one JSON record for each step: {"mode": ..., "ns": ..., "caught": accesses, "pages": touched}.
"""

from __future__ import absolute_import, division, print_function

import ctypes
import json
import sys

import timing_client

from guest import train
from guest.bindings import page_profile

# Each mode runs once in a round; the first is the reference
MODES = [
    ("none", None),
    ("armed once", ("epoch", 0)),
    ("epoch", ("epoch", 0)),
    ("window 64", ("window", 64)),
    ("window 8", ("window", 8)),
]


def arena():
    """Return address and size of the memory used by tensors so far."""
    library = ctypes.CDLL(None)
    size = ctypes.c_size_t()
    library.tensor_arena.restype = ctypes.c_void_p
    return library.tensor_arena(ctypes.byref(size)), size.value


def main():
    model, rounds = json.loads(sys.argv[1]), int(sys.argv[2])
    tf, inputs, train_ops, loss = train.build({"model": model, "seed": 7})
    import numpy as np

    data = np.random.RandomState(7)
    feed = {placeholder: make(data) for placeholder, make in inputs}
    config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())
        losses = []

        def step():
            start = timing_client.monotonic_ns()
            losses.append(float(session.run(train_ops + [loss], feed)[1]))
            return timing_client.monotonic_ns() - start

        for _ in range(3):
            step()
        address, length = arena()
        for _ in range(rounds):
            for mode, profiled in MODES:
                record = {"mode": mode, "arena": length, "caught": 0, "pages": 0, "lost": 0}
                if profiled is None:
                    record["ns"] = step()
                else:
                    with page_profile.Profile(*profiled) as profile:
                        counters = profile.add(address, length)
                        profile.start()
                        if mode == "armed once":
                            step()
                        before = profile.stats()
                        record["ns"] = step()
                        after = profile.stats()
                        record["caught"] = after.user_faults - before.user_faults + after.kernel_faults
                        record["lost"] = after.lost
                        record["pages"] = sum(1 for r, w in counters.counts() if r or w)
                        counters.close()
                print(json.dumps(record, sort_keys=True))
                sys.stdout.flush()
        grown = arena()[1] - length
    print(json.dumps({"losses": [value.hex() for value in losses], "grown": grown}))


if __name__ == "__main__":
    main()
