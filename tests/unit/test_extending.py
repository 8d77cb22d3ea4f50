# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/extending.md, executed in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PACKAGES = ("experiments", "images", "kernel", "results", "sentinel", "testbed")
MAKEFILE = "VERSION = 6\nPATCHLEVEL = {minor}\nSUBLEVEL = 0\nEXTRAVERSION =\n"


class Workspace:
    """A copy of the project, with the programs that the page's commands call."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.site = folder / "site"
        self._home = folder / "home"
        self._bin = folder / "bin"
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, self.project / package, ignore=ignored)
        for minor in (1, 6):
            self._write(self._home / f"linux-6.{minor}" / "Makefile", MAKEFILE.format(minor=minor))
        target = f"--quiet --no-index --no-deps --no-build-isolation --target {self.site}"
        self._program("sentinel", 'exec "$PYTHON" -m sentinel.cli.main "$@"')
        self._program("pip", f'"$PYTHON" -m pip "$@" {target}')

    def walk(self, section: str) -> str:
        """Create the files of a section and run its commands, in order. Returns the commands' output."""
        blocks = re.findall(
            r"(?:^`([^`\n]+)`( \(append\))?:\n\n)?```(\w+)\n(.*?)```", section, re.MULTILINE | re.DOTALL
        )
        output = ""
        for name, append, language, text in blocks:
            if language == "sh":
                output += self._run(text)
            else:
                path = self.project / name
                self._write(path, (path.read_text() if append else "") + text)
        return output

    def _run(self, script: str) -> str:
        environment = {
            **os.environ,
            "HOME": str(self._home),
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{self.project}:{self.site}",
            "SENTINEL_CACHE": str(self._home / "cache"),
            "SENTINEL_LINUX_6_1": str(self._home / "linux-6.1"),
        }
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=self.project,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def _program(self, name: str, script: str) -> None:
        self._write(self._bin / name, f"#!/bin/sh\n{script}\n")
        (self._bin / name).chmod(0o755)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_policy_is_one_file(workspace: Workspace) -> None:
    output = workspace.walk(SECTIONS["A policy"].replace("--dry-run", "--dry-run --json"))
    assert '"placement": "slow-first"' in output


def test_a_package_adds_a_policy(workspace: Workspace) -> None:
    output = workspace.walk(SECTIONS["A policy with a plan, in a package of its own"])
    assert "the paper's algorithm with half of the budget" in output
    assert "budget, preset, profile, runtime" in output


def test_a_model_is_one_file(workspace: Workspace) -> None:
    output = workspace.walk(SECTIONS["A model"].replace("--dry-run", "--dry-run --json"))
    assert '"layers": 4' in output


def test_a_preset_is_one_file(workspace: Workspace) -> None:
    assert "600 ns" in workspace.walk(SECTIONS["A preset"])


def test_a_kernel_version_is_one_entry(workspace: Workspace) -> None:
    output = workspace.walk(SECTIONS["A kernel version"])
    assert "Linux 6.6" in output
    assert '"6.6"' in output
