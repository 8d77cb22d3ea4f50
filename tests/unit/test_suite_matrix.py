# SPDX-License-Identifier: Apache-2.0
"""Suites that select, add, pair and change cells, and that extend others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from experiments import matrix
from experiments.matrix import Matrix
from experiments.suite import Suite
from results import labels
from testbed.common.errors import UsageError
from testbed.common.schema import json_schema

BASE = """\
name: base
preset: optane-6dimm
models:
  - { name: cnn }
  - { name: lstm }
placements: [fast-only, first-touch]
fast_memory: [20%, 40%]
repeats: 3
"""
LABELS = [
    f"{model}, {variant}"
    for model in ("cnn b8", "lstm b8")
    for variant in ("fast-only", "first-touch, 20%", "first-touch, 40%")
]


def load(folder: Path, text: str, name: str = "s.yaml") -> Matrix:
    (folder / name).write_text(text)
    return matrix.load(folder / name)


def labels_of(suite: Matrix) -> list[str]:
    return [suite.axes.label(cell.resolved) for cell in suite.cells]


def problem(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(folder, text)
    return caught.value.message.removeprefix(f"{folder}/s.yaml:")


def test_new_keys_without_effect_keep_the_cells(tmp_path: Path) -> None:
    plain = load(tmp_path, BASE)
    assert labels_of(plain) == LABELS
    same = load(
        tmp_path, BASE + "vary: {seed: [7]}\nzip: []\nexclude: []\noverrides: []\ndefaults: {batch: 8}\n"
    )
    assert [cell.id for cell in same.cells] == [cell.id for cell in plain.cells]
    assert labels_of(same) == LABELS


def test_exclude_leaves_out_cells_with_all_its_settings(tmp_path: Path) -> None:
    text = (
        BASE
        + "exclude:\n  - { models: [{name: cnn}], fast_memory: [20%] }\n  - { placements: [fast-only] }\n"
    )
    suite = load(tmp_path, text)
    assert labels_of(suite) == [LABELS[2], *LABELS[4:]]
    assert {cell.id for cell in suite.cells} < {cell.id for cell in load(tmp_path, BASE).cells}


def test_a_model_is_selected_by_its_parameters(tmp_path: Path) -> None:
    text = BASE.replace("{ name: cnn }", "{ name: cnn }\n  - { name: cnn, batch: 4 }")
    suite = load(tmp_path, text + "exclude: [{models: [{name: cnn, batch: 8}, {name: lstm}]}]\n")
    assert {cell.model["batch"] for cell in suite.cells} == {4}


def test_include_adds_a_matrix_with_the_settings_of_the_suite(tmp_path: Path) -> None:
    text = BASE + "include:\n  - { models: [{name: cnn, batch: 4}], placements: [slow-only, first-touch] }\n"
    assert labels_of(load(tmp_path, text)) == [
        *LABELS,
        "cnn b4, slow-only",
        "cnn b4, first-touch, 20%",
        "cnn b4, first-touch, 40%",
    ]


def test_included_cells_that_are_there_already_are_not_repeated(tmp_path: Path) -> None:
    suite = load(tmp_path, BASE + "include: [{fast_memory: [40%, 60%]}]\n")
    assert labels_of(suite) == [*LABELS, "cnn b8, first-touch, 60%", "lstm b8, first-touch, 60%"]
    assert len({cell.id for cell in suite.cells}) == len(suite.cells)


def test_varied_settings_have_cells_for_each_value(tmp_path: Path) -> None:
    text = BASE.replace("fast_memory: [20%, 40%]\n", "") + "vary: {seed: [1, 2], warmup: [1, 3]}\n"
    suite = load(tmp_path, text.replace("  - { name: lstm }\n", "").replace(", first-touch", ""))
    settings = [(cell.resolved["seed"], cell.resolved["warmup"]) for cell in suite.cells]
    assert settings == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert labels_of(suite)[1] == "cnn b8, fast-only, seed 1, warmup 3"


def test_zipped_lists_are_paired(tmp_path: Path) -> None:
    suite = load(tmp_path, BASE + "zip: [[models, fast_memory]]\n")
    assert labels_of(suite) == [
        "cnn b8, fast-only",
        "cnn b8, first-touch, 20%",
        "lstm b8, fast-only",
        "lstm b8, first-touch, 40%",
    ]


def test_a_zipped_list_may_repeat_a_value(tmp_path: Path) -> None:
    text = BASE.replace("{ name: lstm }", "{ name: cnn }") + "zip: [[models, fast_memory]]\n"
    assert labels_of(load(tmp_path, text)) == LABELS[:3]


def test_overrides_change_settings_of_some_cells(tmp_path: Path) -> None:
    text = BASE + (
        "overrides:\n"
        "  - { where: {models: [{name: cnn}]}, steps: 9, repeats: 1 }\n"
        "  - { where: {models: [{name: cnn}], placements: [fast-only]}, repeats: 2 }\n"
    )
    suite = load(tmp_path, text)
    assert [cell.repeats for cell in suite.cells] == [2, 1, 1, 3, 3, 3]
    assert [cell.resolved["steps"] for cell in suite.cells] == [9, 9, 9, 5, 5, 5]
    plain = load(tmp_path, BASE)
    assert [cell.id for cell in suite.cells[3:]] == [cell.id for cell in plain.cells[3:]]
    assert {cell.repeats for cell in plain.cells} == {3}


def test_defaults_are_parameters_of_the_models_that_have_them(tmp_path: Path) -> None:
    text = BASE.replace("{ name: cnn }", "{ name: cnn, batch: 2 }") + "defaults: { batch: 4, hidden: 64 }\n"
    suite = load(tmp_path, text + "include: [{models: [{name: resnet20}]}]\n")
    by_name = {cell.model["name"]: cell.model for cell in suite.cells}
    assert by_name["cnn"] == {"name": "cnn", "batch": 2}
    assert (by_name["lstm"]["batch"], by_name["lstm"]["hidden"]) == (4, 64)
    assert by_name["resnet20"]["batch"] == 4


def test_a_suite_extends_another_with_its_paths(tmp_path: Path) -> None:
    (tmp_path / "shared" / "my").mkdir(parents=True)
    (tmp_path / "shared" / "my" / "train.py").touch()
    base = BASE.replace("{ name: lstm }", "{ script: my/train.py }") + "description: the base\n"
    (tmp_path / "shared" / "base.yaml").write_text(base)
    (tmp_path / "middle.yaml").write_text("name: middle\nextends: shared/base.yaml\nfast_memory: [60%]\n")
    suite = load(tmp_path, "name: top\nextends: middle.yaml\nplacements: [first-touch]\n")
    assert labels_of(suite) == ["cnn b8, first-touch, 60%", "train.py, first-touch, 60%"]
    assert (suite.suite.name, suite.suite.description, suite.suite.repeats) == ("top", "", 3)


def test_a_mistake_in_an_extended_file_is_reported_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("repeats: 3", "repeats: 0"))
    with pytest.raises(UsageError) as caught:
        load(tmp_path, "name: top\nextends: base.yaml\nsteps: none\n")
    assert caught.value.message.splitlines() == [
        f"{tmp_path}/s.yaml:3:8: steps: must be a whole number (got none)",
        f"{tmp_path}/base.yaml:8:10: repeats: must be at least 1 (got 0)",
    ]


def test_a_cycle_of_extended_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\nextends: s.yaml\n")
    with pytest.raises(UsageError, match=r"base\.yaml:2:10: extends: a cycle: .*s\.yaml extends this file"):
        load(tmp_path, "name: top\nextends: base.yaml\n")
    with pytest.raises(UsageError, match=r"s\.yaml:2:10: extends: a cycle: "):
        load(tmp_path, "name: top\nextends: ./s.yaml\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("exclude: [{seed: [8]}]\n", "9:11: exclude[0]: no cell has these settings"),
        ("exclude: [{}]\n", "9:10: exclude: no cell is left"),
        (
            "exclude: [{policy: [x]}]\n",
            "9:12: exclude[0].policy: unknown key; allowed: seed, threads, steps, warmup, mechanism, "
            "models, placements, fast_memory",
        ),
        (
            "exclude: [{placements: fast-only}]\n",
            "9:24: exclude[0].placements: must be a list, such as [slow-only] (got fast-only)",
        ),
        (
            "include: [{models: [{name: cnn}]}]\n",
            "9:11: include[0]: adds no cell: all of them are there already",
        ),
        (
            "include: [{models: [{name: cnn, batch: 0}]}]\n",
            "9:40: include[0].models[0].batch: must be at least 1 (got 0)",
        ),
        ("include: [{threads: [1, 8]}]\n", "9:25: include[0].threads[1]: the machine has 2 CPUs"),
        ("vary: {seed: [1, 1]}\n", "9:18: vary.seed[1]: duplicate value"),
        ("vary: {warmup: [1, 0]}\n", "9:20: vary.warmup[1]: must be at least 1 with a budget, which"),
        (
            "vary: {steps: [1, null]}\n",
            "9:19: vary.steps[1]: cnn needs a number: only scripts end by themselves",
        ),
        ("vary: {preset: [a]}\n", "9:8: vary.preset: unknown key; allowed: seed, threads, steps, warmup"),
        ("zip: [[models, seed]]\n", "9:7: zip[0]: the lists must have equally many values: models 2, seed 1"),
        ("zip: [[models, models]]\n", "9:16: zip[0][1]: models is in a group already"),
        ("zip: [[models]]\n", "9:7: zip[0]: must have at least 2 items"),
        (
            "zip: [[models, mode]]\n",
            "9:16: zip[0][1]: must be one of models, placements, fast_memory, seed, threads, "
            "steps, warmup, mechanism (got mode)",
        ),
        (
            "overrides: [{where: {}}]\n",
            "9:13: overrides[0]: changes nothing: give one of steps, warmup, threads, seed, mechanism, "
            "repeats",
        ),
        ("overrides: [{steps: 3}]\n", "9:13: overrides[0].where: missing, and must be given"),
        (
            "overrides: [{where: {seed: [1]}, steps: 3}]\n",
            "9:21: overrides[0].where: no cell has these settings",
        ),
        (
            "vary: {seed: [1, 2]}\noverrides: [{where: {seed: [2]}, seed: 1}]\n",
            "10:13: overrides[0]: makes cells equal that differ in nothing else",
        ),
        ("defaults: {hiddens: 3}\n", "9:11: defaults: no model has the parameter hiddens; there are: "),
        ("defaults: {hidden: 0}\n", "9:20: models[1].hidden: must be at least 1 (got 0)"),
        ("extends: no.yaml\n", "9:10: extends: {}/no.yaml: cannot be read: No such file or directory"),
        ("extends: 3\n", '9:10: extends: must be in quotes: write "3", because YAML reads 3 as a number'),
    ],
)
def test_a_mistake_is_reported_with_its_position(tmp_path: Path, more: str, message: str) -> None:
    assert problem(tmp_path, BASE + more).startswith(message.format(tmp_path))


def test_too_many_combinations_are_refused(tmp_path: Path) -> None:
    seeds = list(range(2000))
    text = BASE + f"vary: {{seed: {seeds}, steps: {list(range(1, 40))}}}\n"
    assert "624,000 combinations, and at most 100,000 are allowed" in problem(tmp_path, text)


def test_the_json_schema_covers_selected_and_added_cells() -> None:
    schema = json.loads(json.dumps(json_schema(Suite)))
    suite: dict[str, Any] = {"name": "x", "models": [{"name": "cnn"}], "placements": ["fast-only"]}
    where = {"models": [{"name": "cnn"}], "placements": ["slow-only"], "seed": [7]}
    valid = {
        **suite,
        "extends": "base.yaml",
        "defaults": {"batch": 4},
        "vary": {"threads": [1, 2]},
        "zip": [["models", "seed"]],
        "exclude": [where],
        "include": [{**where, "fast_memory": ["20%"]}],
        "overrides": [{"where": where, "repeats": 2}],
    }
    jsonschema.validate(valid, schema)
    for key, value in (
        ("vary", {"mode": ["replay"]}),
        ("zip", [["models"]]),
        ("exclude", [{"placements": ["fastest"]}]),
        ("include", [{"models": [{"name": "cnn", "hidden": 3}]}]),
        ("overrides", [{"where": where, "repeats": 0}]),
        ("overrides", [{"repeats": 2}]),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**valid, key: value}, schema)


def test_the_work_of_listing_cells_grows_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label must not look at all other cells again."""
    counts: list[int] = []
    flatten = labels.flatten

    def counted(value: Any, prefix: str = "") -> dict[str, Any]:
        counts[-1] += 1
        return flatten(value, prefix)

    monkeypatch.setattr(labels, "flatten", counted)
    for seeds in (25, 50, 100):
        counts.append(0)
        suite = load(tmp_path, BASE + f"vary: {{seed: {list(range(seeds))}}}\n")
        assert len(set(labels_of(suite))) == 6 * seeds
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


MECHANISMS = BASE.replace("first-touch]", "sentinel, sentinel-opt]").replace(", 40%", "")


def test_mechanism_makes_cells_of_policies_that_have_the_choice(tmp_path: Path) -> None:
    suite = load(tmp_path, MECHANISMS + "vary: { mechanism: [move_pages, frames] }\n")
    assert labels_of(suite)[:4] == [
        "cnn b8, fast-only",
        "cnn b8, sentinel, 20%",
        "cnn b8, sentinel-opt, 20%",
        "cnn b8, sentinel-opt, mechanism frames, 20%",
    ]
    assert [cell.mechanism for cell in suite.cells[:4]] == [*3 * ["move_pages"], "frames"]
    assert suite.cells[3].policy.name == "sentinel-opt"
    assert len({cell.id for cell in suite.cells}) == len(suite.cells) == 8


def test_cells_that_migrate_by_move_pages_keep_their_ids(tmp_path: Path) -> None:
    plain, frames = (load(tmp_path, MECHANISMS + text) for text in ("", "mechanism: frames\n"))
    same = [a.id == b.id for a, b in zip(plain.cells, frames.cells, strict=True)]
    assert same == 2 * [True, True, False]


def test_override_changes_the_mechanism(tmp_path: Path) -> None:
    where = "overrides:\n  - { where: { models: [{name: lstm}], placements: [%s] }, mechanism: frames }\n"
    suite = load(tmp_path, MECHANISMS + where % "sentinel-opt")
    assert [cell.mechanism for cell in suite.cells] == [*5 * ["move_pages"], "frames"]
    unchanged = load(tmp_path, MECHANISMS + where % "sentinel")
    assert {cell.mechanism for cell in unchanged.cells} == {"move_pages"}


def test_unknown_mechanism_is_refused(tmp_path: Path) -> None:
    assert "mechanism" in problem(tmp_path, MECHANISMS + "mechanism: mremap\n")
