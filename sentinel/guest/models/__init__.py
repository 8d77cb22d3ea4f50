# SPDX-License-Identifier: Apache-2.0
"""The models, one file each. python2.7 with TensorFlow 1.13.1; importable on python3 without it.

A model's file has

    DESCRIPTION     one line
    PARAMETERS      name -> {"default": n, "minimum": n, "maximum": n, "description": one line} for a whole
                    number, or {"default": value, "choices": [value, ...], "description": one line}
    build(...)      takes the parameters by name, adds the model to TensorFlow's default graph and returns
                    (inputs, train_ops, loss)

and may have

    SOURCE          the publication
    CONFIGURATIONS  name -> values of some parameters. "paper" is the published size and "emulated", the
                    defaults, one whose step takes at most 20 s under emulation
    PUBLISHED       published numbers of trainable parameters: [{"configuration": name, "trainable": text}]
                    and, as needed, "parameters", "without" (variable scopes to leave out), "source"
    DATA            the data set that build(..., data=FOLDER) reads. Without `data` it is synthetic

`inputs` is a list of pairs: a placeholder, and a function of a numpy RandomState that makes a batch. The
functions are called in this order, after the memory policy is set. `train_ops` is a list. Its operations
run one after another, each in a session run of its own, and `loss` is fetched with the last.

The host reads everything but `build`, so the file imports TensorFlow within functions only. A model named
`a-b` is in `a_b.py`. Bounds come from the guest's memory and the time of an emulated step.
"""

from __future__ import absolute_import, division, print_function

import importlib


def build(name, parameters):
    """Build the model `name` in TensorFlow's default graph and return (inputs, train_ops, loss)."""
    module = importlib.import_module("guest.models." + name.replace("-", "_"))
    inputs, train_ops, loss = module.build(**parameters)
    return inputs, [getattr(op, "op", op) for op in train_ops], loss  # a tensor's operation
