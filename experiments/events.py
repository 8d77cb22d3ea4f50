# SPDX-License-Identifier: Apache-2.0
"""The events of a run as lines of JSON, for programs that follow it: docs/suites.md lists them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from testbed.common.disk import explained_disk_errors

FILE = "events.jsonl"


class Events:
    """Appends to the events of the run in the folder `out`, which this process owns."""

    def __init__(self, out: Path) -> None:
        self._path = out / FILE

    def add(self, event: str, **values: Any) -> None:
        """Write one event with the current time. Raises `InfrastructureError` if the disk is full."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **values})
        with explained_disk_errors(self._path), self._path.open("a") as f:
            f.write(line + "\n")  # one write, so that a reader sees whole lines
