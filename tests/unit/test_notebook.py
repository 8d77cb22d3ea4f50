# SPDX-License-Identifier: Apache-2.0
"""The example notebook, executed on a synthetic run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.fakes.run_records import make_run

NOTEBOOK = Path(__file__).parent.parent.parent / "docs" / "results.ipynb"


def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code cells share a namespace, as in a kernel."""
    matplotlib.use("Agg")
    monkeypatch.setenv("RUN", str(make_run(tmp_path / "run").path))
    notebook = json.loads(NOTEBOOK.read_text())
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]
    namespace: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)  # noqa: S102
    assert 0 < namespace["speed"].min() < namespace["speed"].max() < 1  # the reference has no ratio
    assert (namespace["losses"].nunique(axis=1) == 1).all()
