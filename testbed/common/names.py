# SPDX-License-Identifier: Apache-2.0
"""Names of machines, suites, policies and models."""

from __future__ import annotations

import re

_NAME = re.compile("[a-z0-9][a-z0-9-]{0,39}")


def is_valid(name: str) -> bool:
    """Return whether `name` is up to 40 lower-case letters, digits and dashes, without a leading dash.

    >>> is_valid('resnet20-6dimm'), is_valid('ResNet')
    (True, False)
    """
    return _NAME.fullmatch(name) is not None
