# SPDX-License-Identifier: Apache-2.0
"""Every colour has one meaning, the same in every plot."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import results
import sentinel.cli
from experiments import policies
from results import page as pages
from results import summary
from results.plots import bars, colours
from results.plots.colours import Colour
from sentinel.cli import plan_plots
from tests.fakes.run_records import make_run

MODULES = sorted(
    path for package in (results, sentinel.cli) for path in Path(package.__file__ or "").parent.rglob("*.py")
)
TEMPLATES = Path(results.__file__ or "").parent / "templates"
MEANINGS: dict[str, Colour] = {
    **colours.css_policies(),
    **{f"lifetime {name}": colour for name, colour in colours.LIFETIMES.items()},
    "reserved": colours.RESERVED,
    "alert": colours.ALERT,
    "neutral": colours.NEUTRAL,
    "pale": colours.PALE,
}


def test_every_policy_has_a_colour() -> None:
    assert set(colours.POLICIES) == set(policies.names())
    assert colours.css_name("unknown") == "other"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_unique(theme: str) -> None:
    assert len({getattr(colour, theme) for colour in MEANINGS.values()}) == len(MEANINGS)


def test_nodes_have_the_colours_of_fast_only_and_slow_only() -> None:
    assert (colours.POLICIES["fast-only"], colours.POLICIES["slow-only"]) == colours.NODES
    assert tuple(colour.light for colour in colours.NODES) == (plan_plots._FAST, plan_plots._SLOW)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_modules_define_no_colours_of_their_own(path: Path) -> None:
    if path.name == "colours.py":
        return
    constants = [
        node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
    ]
    texts = [value for value in constants if isinstance(value, str)]
    literals = [text for text in texts if re.fullmatch("#[0-9a-fA-F]{3,8}|C[0-9]|tab:.*", text)]
    assert [text for text in literals if not text.startswith("#0a0")] == []  # placeholders of CSS variables


@pytest.mark.parametrize("path", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_templates_define_no_colours_of_their_own(path: Path) -> None:
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", path.read_text()) == []
    used = set(re.findall(r"var\(--([a-z-]+)\)", path.read_text())) - {"colour"}
    assert used <= set(colours.css_colours())


@pytest.mark.parametrize(
    "policies", [("slow-only", "sentinel"), ("sentinel", "fast-only"), ("sentinel-opt", "interleave")]
)
def test_plots_use_only_the_colours_of_their_policies(tmp_path: Path, policies: tuple[str, ...]) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=policies)
    data = summary.build(run)
    for panels in (bars.step_times(data.rows), bars.tensors(data.rows), bars.residency(data.rows)):
        (panel,) = panels
        used = set(re.findall(r"var\(--([a-z-]+)\)", panel.svg)) - {"ink", "faint", "paper", "soft"}
        assert used == set(policies)
    page = pages.write(run, tmp_path / "page.html").read_text()
    for name, colour in colours.css_colours().items():
        assert f"--{name}: light-dark({colour.light}, {colour.dark});" in page
