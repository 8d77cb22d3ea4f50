# SPDX-License-Identifier: Apache-2.0
"""References in docstrings and comments are valid: files, modules, and values of records."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from experiments import provenance
from results.records import Throttle
from testbed.timing import preset

ROOT = Path(__file__).parent.parent.parent
PACKAGES = "docs|benchmarks|experiments|images|kernel|results|sentinel|testbed|tests"
ENDINGS = "md|py|yaml|cc|c|h|css|j2|xml|sh|png|toml"
FILE = re.compile(rf"(?<![\w/.<-])((?:{PACKAGES})/[\w./-]*\w\.(?:{ENDINGS}))\b")
MODULE = re.compile(r"`((?:experiments|images|kernel|results|sentinel|testbed)(?:\.\w+)+)`")
WORD = re.compile(r'"([a-z]+(?:-[a-z]+)*)"')  # a single quoted word: a value, not a phrase


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=False, capture_output=True, text=True)
    return listed.stdout.split() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py")]


SOURCES = [name for name in tracked() if name.endswith(".py") and not name.startswith("tests/")]


def strings(name: str) -> Iterator[tuple[str, bool]]:
    """Yield every string of a module, and whether it is a docstring."""
    tree = ast.parse((ROOT / name).read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(cast(ast.Expr, node.body[0]).value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, id(node) in docstrings


def test_cited_files_exist() -> None:
    texts = [
        name for name in tracked() if not name.endswith((".patch", ".png", "extending.md"))
    ]  # it describes files to create
    cited = {
        (name, file) for name in texts for file in FILE.findall((ROOT / name).read_text(errors="replace"))
    }
    assert cited
    assert {(name, file) for name, file in cited if not (ROOT / file).exists()} == set()


def test_cited_modules_exist() -> None:
    cited = {(name, module) for name in SOURCES for module in quoted(name, MODULE)}
    assert cited
    assert {(name, module) for name, module in cited if not exists(module)} == set()


def quoted(name: str, pattern: re.Pattern[str]) -> set[str]:
    """Return the matches of `pattern` in the docstrings of a module."""
    return {word for text, is_docstring in strings(name) if is_docstring for word in pattern.findall(text)}


def exists(cited: str) -> bool:
    """Return whether a module, or a name in one, exists."""
    try:
        importlib.import_module(cited)
    except ModuleNotFoundError:
        module, _, attribute = cited.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_quoted_words_occur_in_the_code() -> None:
    written = {text for name in SOURCES for text, is_docstring in strings(name) if not is_docstring}
    cited = {(name, word) for name in SOURCES for word in quoted(name, WORD)}
    assert cited
    assert {(name, word) for name, word in cited if word not in written} == set()


def test_throttling_methods_are_documented() -> None:
    calibration: Any = SimpleNamespace(nodes_alike=False, to_record=dict)
    far: Any = SimpleNamespace(to_json=dict)
    throttles = (
        provenance.throttle(None),
        provenance.throttle(preset.load("optane-6dimm")),
        provenance.throttle(None, calibration, far),
        provenance.throttle(None, calibration),
    )
    assert {throttle.method for throttle in throttles} == set(WORD.findall(Throttle.__doc__ or ""))
