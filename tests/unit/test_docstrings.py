# SPDX-License-Identifier: Apache-2.0
"""What docstrings and comments cite is there: files, modules, and the words that records hold."""

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
ROOMS = "docs|benchmarks|experiments|images|kernel|results|sentinel|testbed|tests"
ENDINGS = "md|py|yaml|cc|c|h|css|j2|xml|sh|png|toml"
A_FILE = re.compile(rf"(?<![\w/.<-])((?:{ROOMS})/[\w./-]*\w\.(?:{ENDINGS}))\b")
A_MODULE = re.compile(r"`((?:experiments|images|kernel|results|sentinel|testbed)(?:\.\w+)+)`")
A_WORD = re.compile(r'"([a-z]+(?:-[a-z]+)*)"')  # a quoted word; quoted phrases are speech


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=False, capture_output=True, text=True)
    return listed.stdout.split() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py")]


SOURCES = [name for name in tracked() if name.endswith(".py") and not name.startswith("tests/")]


def strings(name: str) -> Iterator[tuple[str, bool]]:
    """Every string of a module, and whether it is a docstring."""
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


def test_every_file_that_is_cited_is_there() -> None:
    texts = [
        name for name in tracked() if not name.endswith((".patch", ".png", "extending.md"))
    ]  # it creates files
    cited = {
        (name, file) for name in texts for file in A_FILE.findall((ROOT / name).read_text(errors="replace"))
    }
    assert cited
    assert {(name, file) for name, file in cited if not (ROOT / file).exists()} == set()


def test_every_module_that_a_docstring_cites_is_there() -> None:
    cited = {(name, module) for name in SOURCES for module in quoted(name, A_MODULE)}
    assert cited
    assert {(name, module) for name, module in cited if not found(module)} == set()


def quoted(name: str, what: re.Pattern[str]) -> set[str]:
    """What the docstrings of a module quote."""
    return {word for text, is_docstring in strings(name) if is_docstring for word in what.findall(text)}


def found(cited: str) -> bool:
    """Whether there is such a module, or such a name in one."""
    try:
        importlib.import_module(cited)
    except ModuleNotFoundError:
        module, _, attribute = cited.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_every_word_that_a_docstring_quotes_is_one_that_the_code_knows() -> None:
    written = {text for name in SOURCES for text, is_docstring in strings(name) if not is_docstring}
    cited = {(name, word) for name in SOURCES for word in quoted(name, A_WORD)}
    assert cited
    assert {(name, word) for name, word in cited if word not in written} == set()


def test_the_methods_of_throttling_are_those_that_are_documented() -> None:
    calibration: Any = SimpleNamespace(nodes_alike=False, to_record=dict)
    far: Any = SimpleNamespace(to_json=dict)
    told = (
        provenance.throttle(None),
        provenance.throttle(preset.load("optane-6dimm")),
        provenance.throttle(None, calibration, far),
    )
    assert {throttle.method for throttle in told} == set(A_WORD.findall(Throttle.__doc__ or ""))
