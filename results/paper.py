# SPDX-License-Identifier: Apache-2.0
"""Published results, to show beside those of the same model.

Source: Ren et al., "Sentinel: Efficient Tensor Migration and Allocation on Heterogeneous Memory Systems for
Deep Learning", HPCA 2021: measured on a server with Optane memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """The speed of a model relative to fast-only, 0 to 1.

    `sentinel` is by budget as a share of the peak. `others` are the systems that the paper compares with, at
    a budget of 20 %.
    """

    workload: str
    slow_only: float
    sentinel: Mapping[float, float]
    others: Mapping[str, float]


def _published(
    workload: str, fast_by_slow: float, sentinel: tuple[float, ...], ial: float, autotm: float
) -> Published:
    """`ial` and `autotm` are relative to slow-only, as published."""
    return Published(
        workload,
        1 / fast_by_slow,
        dict(zip((0.1, 0.2, 0.4, 0.6), sentinel, strict=True)),
        {"IAL": ial / fast_by_slow, "AutoTM": autotm / fast_by_slow},
    )


_PUBLISHED = {
    "resnet": _published("ResNet-32, batch 128", 3.60, (0.69, 0.89, 0.97, 1), 1.2, 3.1),
    "bert": _published("BERT-large, batch 32", 7.65, (0.65, 0.81, 0.98, 1), 2.8, 4.7),
    "lstm": _published("LSTM on PTB, batch 20", 2.75, (0.88, 0.91, 1, 1), 2, 2.1),
    "dcgan": _published("DCGAN, batch 128", 3.54, (0.88, 0.99, 1, 1), 2, 3.3),
    "mobilenet": _published("MobileNet, batch 128", 1.96, (0.77, 0.92, 1, 1), 1.3, 1.7),
}


def published(model: str) -> Published | None:
    """Return the published results for a model's family, or None.

    >>> published("resnet20 b8").workload, published("dcgan.py")
    ('ResNet-32, batch 128', None)
    """
    name = re.match(r"[a-z]+(?=[-0-9a-z]*( |$))", model)
    return next((p for family, p in _PUBLISHED.items() if name and name[0].startswith(family)), None)
