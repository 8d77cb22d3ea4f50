# SPDX-License-Identifier: Apache-2.0
"""The profile: the record of one training step (paper, III-A).

Every tensor was on its own pages in slow memory.
Tables are arrays, one per field. The uses of all tensors form one table, sorted by tensor and position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .fields import Floats, Ints

KINDS = ("tensor", "variable", "scratch")
TENSOR, VARIABLE, SCRATCH = range(3)


@dataclass(frozen=True)
class Ops:
    """The operations by position. The clock may have any origin.

    `fast_ns` is the time from the operation's begin to the next one's with all tensors in fast memory, -1 if
    it is not known; None if no such step was recorded.
    """

    name: list[str]
    type: list[str]
    layer: Ints
    occurrence: Ints
    begin_ns: Ints
    end_ns: Ints
    fast_ns: Ints | None = None

    def __len__(self) -> int:
        return len(self.name)

    @property
    def slot_ns(self) -> Ints:
        """The time from each operation's begin to the next one's; the last one's to the end of the step."""
        return np.diff(self.begin_ns, append=max(int(self.end_ns.max()), int(self.begin_ns[-1])))


@dataclass(frozen=True)
class Tensors:
    """The tensors. `kind` indexes `KINDS`; `name` is None except for tensors from before the step.

    `touched` is the size of the pages that were accessed, in bytes.
    """

    op: Ints
    k: Ints
    size: Ints
    birth: Ints
    death: Ints
    thread: Ints
    reads: Ints
    writes: Ints
    touched: Ints
    kind: Ints
    name: list[str | None]

    def __len__(self) -> int:
        return len(self.size)

    @property
    def resident_bytes(self) -> Ints:
        """Bytes that occupy memory: a page that is never accessed is never allocated."""
        return np.minimum(self.size, self.touched)

    @property
    def accesses(self) -> Ints:
        return self.reads + self.writes


@dataclass(frozen=True)
class Uses:
    """Uses of tensors. `tensor` is an index; `reads` and `writes` count how often the op took or made it.

    `saved_ns` is what the use saves in fast memory, where that is known from a trace.
    """

    tensor: Ints
    position: Ints
    reads: Ints
    writes: Ints
    saved_ns: Floats | None = None


@dataclass(frozen=True)
class Native:
    """Where a step was recorded that ran on a host's processor, outside the modelled machine.

    Speeds are float32 operations per ns: of one core of the `processor` in a matrix product, and of the
    modelled `socket`.
    """

    processor: str
    core_speed: float
    socket_speed: float

    @property
    def scale(self) -> float:
        """The computing time of the socket by that of the core."""
        return self.core_speed / self.socket_speed


@dataclass(frozen=True)
class Profile:
    """A profile that is valid by the rules of the format.

    With `native` the times are computing times of a host, to be scaled; without it, those of a step in slow
    memory.
    """

    graph: str
    page_bytes: int
    counts: str
    clock: str
    threads: dict[str, int]
    step_ns: int
    ops: Ops
    tensors: Tensors
    uses: Uses
    warnings: tuple[str, ...] = field(default=())
    native: Native | None = None

    @property
    def pages(self) -> Ints:
        """The number of pages of each tensor if it has its own pages."""
        return -(-self.tensors.size // self.page_bytes)

    def key(self, i: int) -> tuple[Any, ...]:
        """Return the key that identifies tensor `i` in every step."""
        t = self.tensors
        if t.op[i] < 0:
            return ("", t.name[i], 0, int(t.size[i]))
        op = int(t.op[i])
        return (self.ops.name[op], int(self.ops.occurrence[op]), int(t.k[i]), int(t.size[i]))
