# SPDX-License-Identifier: Apache-2.0
"""The guest's python2.7 with TensorFlow, on the host: without a machine, root or mounts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from experiments import guest_code
from images import build as images

_FOLDERS = (
    "/usr/lib/python2.7",
    "/usr/local/lib/python2.7",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
)
_PYTHON = "/usr/bin/python2.7"


class GuestPython:
    """Runs scripts with the interpreter and the libraries of the guest's image, copied into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        disk = images.build().disk
        for source in _FOLDERS:
            target = self._path(source).parent
            target.mkdir(parents=True, exist_ok=True)
            _debugfs(disk, f"rdump {source} {target}")
        self._path(_PYTHON).parent.mkdir()
        _debugfs(disk, f"dump -p {_PYTHON} {self._path(_PYTHON)}")
        self._code = folder / "code"
        self._code.mkdir()
        guest_code.stage(self._code, guest_code.sources())

    def _path(self, path: str) -> Path:
        """The copy of a file of the guest."""
        return self._folder / path.removeprefix("/")

    def run(self, script: Path, *arguments: str, timeout: float) -> str:
        """Run a script. Returns its output."""
        libraries = [str(self._path(path)) for path in _FOLDERS if path.endswith("linux-gnu")]
        loader = self._path("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
        completed = subprocess.run(
            [loader, "--library-path", ":".join(libraries), self._path(_PYTHON), "-B", script, *arguments],
            env={"HOME": "/", "PYTHONHOME": str(self._path("/usr")), "PYTHONPATH": str(self._code)},
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout


def _debugfs(disk: Path, request: str) -> None:
    subprocess.run(["debugfs", "-R", request, disk], check=True, capture_output=True)
