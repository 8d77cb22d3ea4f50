# SPDX-License-Identifier: Apache-2.0
"""The Python code that the guest needs, and its deployment to /opt/sentinel."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import sentinel.planner
from experiments import frameworks, models
from testbed.common import files
from testbed.guestlink.shell import Shell

FOLDER = "/opt/sentinel"
# Their names in FOLDER
PLANNER = "sentinel/planner"
FIGURES = "figures.json"
PLANNER_SOURCE = Path(sentinel.planner.__file__).parent
TIMING_CLIENT = Path(__file__).parent.parent / "testbed" / "timing" / "client"


def sources() -> dict[str, Path]:
    """The files and folders to copy, by their name in `FOLDER`; a folder precedes the files added to it."""
    return {
        **frameworks.DEFAULT.guest_code(),
        **{path.name: path for path in sorted(TIMING_CLIENT.glob("*.*"))},
        **{model.guest_file: model.path for model in models.registry().values() if model.external},
    }


def modules() -> set[str]:
    """The names of the top-level Python modules in `FOLDER`."""
    paths = {Path(name) for name in sources()}
    return {path.stem for path in paths if path.parent == Path() and path.suffix in ("", ".py")}


def digest() -> str:
    """Digest of all files that `sources` names."""
    content: dict[str, str] = {}
    for name, source in sources().items():
        paths = sorted(source.rglob("*.py")) if source.is_dir() else [source]
        content |= {f"{name}/{path.relative_to(source)}": path.read_text() for path in paths}
    return files.sha256_json(content)


def deploy(shell: Shell) -> None:
    """Copy the code into the guest."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / Path(FOLDER).name
        folder.mkdir(mode=0o755)
        stage(folder, sources())
        shell.put(folder, FOLDER)


def stage(folder: Path, items: Mapping[str, Path]) -> None:
    """Copy files and folders into `folder` under their names, without compiled Python."""
    for name, source in items.items():
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
