# SPDX-License-Identifier: Apache-2.0
"""A fake of the runtime's C library."""

from __future__ import annotations

import ctypes
import json
from typing import Any

PROFILE = {
    "format": "sentinel-profile",
    "clock": "model",
    "step_ns": 5,
    "ops": {"name": ["ä"], "begin_ns": [0], "end_ns": [5]},
    "tensors": [],
}


class Library:
    """A fake of the C library that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.profile: str | None = json.dumps(PROFILE, ensure_ascii=False)
        self.refusal = b""
        self.plan = b""
        self.left = 0  # steps still to record
        self.step = 0
        self.plan_kinds: list[tuple[int, int]] = []  # of each step: its kind, and its plan's
        self.reprofile = False
        self._texts: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name.removeprefix("sentinel_"))

    def sentinel_step_begin(self, kind: int, plan_kind: int) -> int:
        self.plan_kinds.append((kind, plan_kind))
        self.calls.append("step_begin")
        self.step += 1
        return self.step

    def sentinel_step_end(self, step: int, completed: bool) -> None:
        assert step == self.step
        self.calls.append("step_end" if completed else "step_failed")
        self.left -= bool(self.left and completed)

    def sentinel_profile_begin(self, kind: int, traced: int) -> int:
        self.calls.append("profile_begin")
        self.left = 2
        return 0

    def sentinel_profile_left(self, kind: int) -> int:
        return self.left

    def _lent(self, text: str | None) -> int | None:
        if text is None:
            return None
        buffer = ctypes.create_string_buffer(text.encode())
        self._texts[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    def sentinel_profile_end(self, kind: int) -> int | None:
        self.calls.append("profile_end")
        return self._lent(self.profile)

    def sentinel_statistics(self) -> int | None:
        return self._lent('{"steps": 3}')

    def sentinel_reprofile(self, kind: int) -> bool:
        return self.reprofile

    def sentinel_free(self, pointer: int) -> None:
        del self._texts[pointer]

    def sentinel_plan_begin(self, kind: int, text: bytes, length: int, error: Any, size: int) -> int:
        assert length == len(text)
        assert size == len(error)
        self.plan = text
        error.value = self.refusal
        self.calls.append("plan_begin")
        return -1 if self.refusal else 0

    @property
    def lent(self) -> int:
        return len(self._texts)
