# SPDX-License-Identifier: Apache-2.0
"""Frameworks, one file each: everything about a deep-learning framework that an experiment depends on."""

from __future__ import annotations

from experiments.frameworks.interface import Framework
from experiments.frameworks.tensorflow import TensorFlow

__all__ = ["DEFAULT", "Framework"]

DEFAULT: Framework = TensorFlow()
