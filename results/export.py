# SPDX-License-Identifier: Apache-2.0
"""Write the repeats and steps of runs as CSV or Parquet files."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from results import frames
from results.runs import Run
from testbed.common import files
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import UsageError

FileFormat = Literal["csv", "parquet"]


def write(runs: Sequence[Run], folder: Path, file_format: FileFormat) -> list[Path]:
    """Write repeats and steps into a folder, creating it if needed, and return the paths.

    Raises `UsageError` if Parquet is requested without pyarrow.
    """
    if file_format == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "Parquet files need the Python package pyarrow",
            hint="pip install 'sentinel-testbed[parquet]', or use --csv",
        )
    tables = frames.of_runs(runs)
    paths = []
    for name, frame in (("repeats", tables.repeats), ("steps", tables.steps)):
        path = folder / f"{name}.{file_format}"
        with explained_disk_errors(path):
            files.write_atomic(path, _encode(frame, file_format))
        paths.append(path)
    return paths


def _encode(frame: pd.DataFrame, file_format: FileFormat) -> bytes:
    if file_format == "csv":
        return frame.to_csv(index=False).encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()
