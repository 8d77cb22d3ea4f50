# SPDX-License-Identifier: Apache-2.0
"""Labels and keys are unique within a run, whatever a suite varies."""

from __future__ import annotations

from typing import Any

import pytest

from results import labels
from results.labels import Axes
from tests.fakes.run_records import cells_of

BUDGETS = ("20%", "40%")
LSTMS = tuple({"name": "lstm", "hidden": hidden} for hidden in (64, 128))
SUITES: dict[str, list[dict[str, Any]]] = {
    "budgets": cells_of(placements=("fast-only", "sentinel"), fast_memory=BUDGETS),
    "a parameter of one of two models": cells_of(models=(*LSTMS, {"name": "cnn"})),
    "batch sizes": cells_of(models=tuple({"name": "cnn", "batch": n} for n in (4, 8, 16))),
    "everything": cells_of(
        models=(*LSTMS, {"name": "cnn"}, {"name": "cnn", "batch": 4}),
        placements=("fast-only", "slow-only", "first-touch", "interleave", "sentinel", "sentinel-opt"),
        fast_memory=("5%", *BUDGETS),
    ),
    "kernels": [*cells_of(kernel="4.9"), *cells_of(kernel="6.1")],
    "presets": [*cells_of(), *cells_of(preset="cxl-asic"), *cells_of(preset=None)],
    "seeds and threads": [*cells_of(), *cells_of(seed=8), *cells_of(threads=2), *cells_of(seed=8, threads=2)],
    "steps": [*cells_of(steps=2), *cells_of(steps=3), *cells_of(warmup=2)],
}


@pytest.mark.parametrize("suite", SUITES)
def test_labels_and_keys_are_unique_within_a_run(suite: str) -> None:
    run = SUITES[suite]
    axes = Axes.of(run)
    assert len({axes.label(cell) for cell in run}) == len(run)
    assert len({axes.key(cell) for cell in run}) == len(run)
    assert len({(axes.model(cell), axes.variant(cell)) for cell in run}) == len(run)


@pytest.mark.parametrize("suite", SUITES)
def test_labels_and_keys_are_equal_between_runs_of_the_same_cells(suite: str) -> None:
    run = SUITES[suite]
    other = [{**cell, "id": f"x{n}", "code": "newer"} for n, cell in enumerate(run)]
    axes = Axes.of(run, other)
    assert [axes.key(cell) for cell in other] == [axes.key(cell) for cell in run]
    assert [axes.label(cell) for cell in other] == [axes.label(cell) for cell in run]


def test_labels_name_only_settings_that_vary() -> None:
    def labels_of(run: list[dict[str, Any]]) -> list[str]:
        return [Axes.of(run).label(cell) for cell in run]

    assert labels_of(SUITES["budgets"]) == [
        "resnet20 b8, fast-only",
        "resnet20 b8, sentinel, 20%",
        "resnet20 b8, sentinel, 40%",
    ]
    assert labels_of(SUITES["a parameter of one of two models"])[::2] == [
        "lstm b8 hidden 64, fast-only",
        "lstm b8 hidden 128, fast-only",
        "cnn b8, fast-only",
    ]
    assert labels_of(SUITES["kernels"])[::2] == [
        "resnet20 b8, fast-only, kernel 4.9",
        "resnet20 b8, fast-only, kernel 6.1",
    ]
    assert labels_of(SUITES["seeds and threads"])[-1] == "resnet20 b8, slow-only, seed 8, threads 2"


def test_settings_that_vary_only_between_runs_are_not_axes() -> None:
    old, new = cells_of(kernel="4.9"), cells_of(kernel="6.1")
    axes = Axes.of(old, new)
    assert axes.names == ["model", "policy", "budget"]
    assert [axes.key(cell) for cell in old] == [axes.key(cell) for cell in new]
    both = Axes.of([*old, *new], new)
    assert both.names == ["model", "policy", "budget", "kernel"]
    assert {both.key(cell) for cell in old}.isdisjoint(both.key(cell) for cell in new)


def test_label_of_an_unresolved_cell_is_its_id() -> None:
    axes = Axes.of([{"id": "7"}, *SUITES["budgets"]])
    assert (axes.label({"id": "7"}), axes.key({"id": "7"})) == ("7", None)
    assert axes == Axes.of(SUITES["budgets"])


def test_key_includes_the_budget_even_if_it_does_not_vary() -> None:
    few, many = cells_of(fast_memory=("20%",), placements=("sentinel",)), SUITES["budgets"]
    axes = Axes.of(few, many[2:])
    assert axes.key(few[0]) != axes.key(many[2])
    assert axes.key(few[0]) == axes.key(many[1])


def test_labels_of_cells_with_nested_settings() -> None:
    a = {"id": "1", "model": {"name": "dcgan"}, "batch": 4, "placement": {"policy": "nimble", "fast": "20%"}}
    b = {**a, "id": "2", "machine": {"name": "kvm", "nodes": 2}, "seed": 3}
    c = {**b, "machine": {"name": "tcg", "nodes": 4}}
    d = {**c, "machine": {"name": "tcg", "nodes": 5}}
    assert Axes().label(a) == "dcgan b4, nimble, fast 20%"
    assert labels.policy_name(a) == "nimble"
    assert labels.differing_keys([b, c]) == ["machine.name"]  # the name determines the rest
    assert labels.differing_keys([b, c, d]) == ["machine.name", "machine.nodes"]  # it does not here
    assert labels.differing_keys([a, b]) == ["machine.name", "seed"]
    assert Axes.of([b, c, d]).label(d) == "dcgan b4, nimble, fast 20%, machine tcg, machine.nodes 5"


def test_long_names_are_cut_but_stay_unique() -> None:
    twins = [{"id": str(n), "model": "x" * 200 + str(n), "placement": "fast-only"} for n in range(2)]
    labels = [Axes.of(twins).label(cell) for cell in twins]
    assert labels[0] != labels[1]
    assert all(len(label) < 70 for label in labels)


def test_labels_have_no_control_characters() -> None:
    assert Axes().label({"model": "a\x1b[31m\n b", "placement": "\x07fast"}) == "a[31m b, fast"
