# SPDX-License-Identifier: Apache-2.0
"""Colours: one meaning each, the same in every chart."""

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
from results.plots import charts, colours
from results.plots.colours import Colour
from sentinel.cli import plan_plots
from tests.fakes.run_records import make_run

MODULES = sorted(
    path for package in (results, sentinel.cli) for path in Path(package.__file__ or "").parent.rglob("*.py")
)
MEANINGS: dict[str, Colour] = {
    **colours.slots(),
    **{f"lifetime {name}": colour for name, colour in colours.LIFETIMES.items()},
    "reserved": colours.RESERVED,
    "alert": colours.ALERT,
    "neutral": colours.NEUTRAL,
    "pale": colours.PALE,
}


def test_every_placement_has_a_colour() -> None:
    assert set(colours.PLACEMENTS) == set(policies.names())
    assert colours.slot("a placement of another program") == "other"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_colour_has_two_meanings(theme: str) -> None:
    assert len({getattr(colour, theme) for colour in MEANINGS.values()}) == len(MEANINGS)


def test_a_node_has_the_colour_of_the_placement_that_uses_it_alone() -> None:
    assert (colours.PLACEMENTS["fast-only"], colours.PLACEMENTS["slow-only"]) == colours.NODES
    assert tuple(colour.light for colour in colours.NODES) == (plan_plots._FAST, plan_plots._SLOW)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_charts_take_their_colours_from_one_place(path: Path) -> None:
    if path.name == "colours.py":
        return
    constants = [
        node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
    ]
    words = [value for value in constants if isinstance(value, str)]
    own = [word for word in words if re.fullmatch("#[0-9a-fA-F]{3,8}|C[0-9]|tab:.*", word)]
    assert [word for word in own if not word.startswith("#0a0")] == []  # stand-ins for the page's variables


@pytest.mark.parametrize(
    "placements", [("slow-only", "sentinel"), ("sentinel", "fast-only"), ("sentinel-opt", "interleave")]
)
def test_a_placement_has_its_colour_in_every_chart_of_every_page(
    tmp_path: Path, placements: tuple[str, ...]
) -> None:
    run = make_run(tmp_path / "run", models=("lstm",), placements=placements)
    data = summary.build(run)
    for chart in (charts.step_times(data.rows), charts.tensors(data.rows), charts.residency(data.rows)):
        used = set(re.findall(r"var\(--([a-z-]+)\)", chart or "")) - {"ink", "faint", "paper"}
        assert used == set(placements)
    page = pages.write(run, tmp_path / "page.html").read_text()
    for name, colour in colours.slots().items():
        assert re.findall(rf"--{name}: (#[0-9a-f]{{6}});", page) == [colour.light, colour.dark]
