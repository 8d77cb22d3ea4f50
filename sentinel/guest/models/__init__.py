# SPDX-License-Identifier: Apache-2.0
"""The models, one file each. python2.7 with TensorFlow 1.13.1; importable on python3 without it.

A model's file has

    DESCRIPTION     one line
    PARAMETERS      name -> {"default": n, "minimum": n, "maximum": n, "description": one line}; whole numbers
    build(...)      takes the parameters by name, adds the model to TensorFlow's default graph and returns
                    (inputs, train_op, loss)

`inputs` is a list of pairs: a placeholder, and a function of a numpy RandomState that makes a batch. Data is
created after the memory policy is set.

The host reads DESCRIPTION and PARAMETERS, so the file imports TensorFlow within `build` only. A model named
`a-b` is in `a_b.py`. Bounds come from the guest's memory and the time of an emulated step.
"""

from __future__ import absolute_import, division, print_function

import importlib


def build(name, parameters):
    """Build the model `name` in TensorFlow's default graph and return (inputs, train_op, loss)."""
    return importlib.import_module("guest.models." + name.replace("-", "_")).build(**parameters)
