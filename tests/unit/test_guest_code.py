# SPDX-License-Identifier: Apache-2.0
"""The guest's Python: its deployment, its language, and the training process's barrier."""

from __future__ import annotations

import ast
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from experiments import guest_code, models
from tests.fakes import guest

PATHS = sorted([*guest.GUEST.rglob("*.py"), *guest_code.TIMING_CLIENT.glob("*.py")])
NEW_SYNTAX = (ast.JoinedStr, ast.NamedExpr, ast.AsyncFunctionDef, ast.AnnAssign, ast.Nonlocal)


class Shell:
    """A shell that keeps what is put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, source: Path, target: str) -> None:
        assert target == "/opt/sentinel"
        shutil.copytree(source, self.folder)


def test_deployed_code_is_complete_and_has_no_compiled_files(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "opt")
    guest_code.deploy(shell)  # type: ignore[arg-type]
    names = {str(path.relative_to(shell.folder)) for path in shell.folder.rglob("*") if path.is_file()}
    expected = {f"guest/{path.relative_to(guest.GUEST)}" for path in guest.GUEST.rglob("*.py")}
    assert names == expected | {"timing_client.py", "paced.py", "sentinel_markers.h"}


def test_the_digest_changes_with_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = guest_code.sources()
    guest_code.stage(tmp_path, sources)
    original = guest_code.digest()
    monkeypatch.setattr(guest_code, "sources", lambda: {name: tmp_path / name for name in sources})
    assert guest_code.digest() == original
    digests = {original}
    for path in sorted(path for path in tmp_path.rglob("*.*") if path.is_file()):
        path.write_text(path.read_text() + "# changed\n")
        digests.add(guest_code.digest())
    assert len(digests) == 1 + len([path for path in tmp_path.rglob("*.*") if path.is_file()])


@pytest.fixture(scope="module")
def python2() -> str:
    """A python2.7 that works; a version manager's stub may not."""
    program = shutil.which("python2.7")
    if program and subprocess.run([program, "-c", ""], check=False, capture_output=True).returncode == 0:
        return program
    pytest.skip("no python2.7 here: apt-get install python2.7 (Debian 11)")


def compile_with(python: str, path: Path) -> None:
    check = "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')"
    subprocess.run([python, "-B", "-c", check, path], check=True, timeout=20)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_python2_can_compile_it(python2: str, path: Path) -> None:
    compile_with(python2, path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_it_uses_no_syntax_newer_than_python2(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert [type(node).__name__ for node in ast.walk(tree) if isinstance(node, NEW_SYNTAX)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [f.name for f in functions if f.args.kwonlyargs or f.returns or f.args.posonlyargs]
    assert text.isascii() or "coding" in text.splitlines()[0]
    assert [line for line in text.splitlines() if len(line) > 110 or line != line.rstrip()] == []
    if functions:
        assert "from __future__ import absolute_import, division, print_function" in text


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_it_imports_only_what_the_guest_has(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    standard = {
        *("__future__", "argparse", "array", "collections", "contextlib", "ctypes", "errno", "functools"),
        *(
            "gc",
            "glob",
            "gzip",
            "hashlib",
            "importlib",
            "io",
            "json",
            "math",
            "mmap",
            "os",
            "pipes",
            "random",
            "runpy",
        ),
        *(
            "select",
            "shlex",
            "shutil",
            "signal",
            "struct",
            "subprocess",
            "sys",
            "tempfile",
            "threading",
            "warnings",
            "weakref",
        ),
        *("unicodedata", "zlib"),
    }
    assert imported <= standard | {"guest", "timing_client", "tensorflow", "numpy"}


def test_models_build_with_the_parameters_that_they_declare() -> None:
    for model in models.registry().values():
        tree = ast.parse(model.path.read_text())
        (build,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build")
        data = ["data"] if model.data else []
        assert [argument.arg for argument in build.args.args] == [*model.parameters, *data]


def test_the_guest_clock_is_the_monotonic_one() -> None:
    client = guest.load("timing_client")
    before = time.monotonic_ns()
    now = client.monotonic_ns()
    assert before <= now <= time.monotonic_ns()
