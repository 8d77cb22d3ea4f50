# SPDX-License-Identifier: Apache-2.0
"""Programs that answer as a test wants: small scripts in a folder that stands first, or alone, on PATH."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from pytest import MonkeyPatch


class Programs:
    """A folder of fake programs on PATH. Every call of one adds a line with its arguments to `calls`."""

    def __init__(self, folder: Path, monkeypatch: MonkeyPatch) -> None:
        self.folder = folder
        self._log = folder / ".calls"
        self._monkeypatch = monkeypatch
        folder.mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def alone(self, *real: str) -> None:
        """Hide every other program of the host, but for the `real` ones."""
        for name in real:
            found = shutil.which(name)
            assert found is not None, name
            (self.folder / name).symlink_to(found)
        self._monkeypatch.setenv("PATH", str(self.folder))
        self._monkeypatch.setattr("testbed.common.run.search_path", lambda: str(self.folder))

    def shell(self, name: str, body: str) -> Path:
        """A fake that is a shell script."""
        return self._write(name, f"#!/bin/sh\necho {name} \"$@\" >>'{self._log}'\n{body}\n")

    def python(self, name: str, body: str) -> Path:
        """A fake that is a Python script."""
        head = (
            f"#!{sys.executable} -S\nimport sys\nfrom pathlib import Path\n"
            f"with open({str(self._log)!r}, 'a') as f:\n"
            f"    f.write(' '.join([{name!r}, *sys.argv[1:]]) + '\\n')\n"
        )
        return self._write(name, head + body + "\n")

    @property
    def calls(self) -> list[str]:
        """The command lines of all calls so far."""
        return self._log.read_text().splitlines() if self._log.exists() else []

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path
