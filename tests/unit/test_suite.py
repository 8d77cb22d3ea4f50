# SPDX-License-Identifier: Apache-2.0
"""Suites: what is wrong with one and where, and the cells a right one expands to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import provenance, suite
from experiments.suite import MODELS, Plan, Suite
from testbed.common.errors import UsageError
from testbed.timing import preset

SUITES = Path(suite.__file__).parent / "suites"
MACHINE = "vcpus: 2\nnodes:\n  - {memory: 1 GiB, cpus: [0, 1]}\n  - {memory: 1 GiB}\n"
GOOD = """\
name: smoke
machine: ./m.yaml
models:
  - { name: cnn }
  - { name: lstm, batch: 4, hidden: 64 }
placements: [slow-only, fast-only]
steps: 2
repeats: 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(MACHINE)
    (tmp_path / "one.yaml").write_text("vcpus: 1\nnodes: [{memory: 1 GiB, cpus: [0]}]\n")
    return tmp_path


def load(folder: Path, text: str) -> Plan:
    (folder / "s.yaml").write_text(text)
    return suite.load(folder / "s.yaml")


def test_cells_come_model_by_model_in_the_order_of_the_file(folder: Path) -> None:
    plan = load(folder, GOOD)
    assert [plan.axes.label(cell.resolved) for cell in plan.cells] == [
        "cnn b8, slow-only",
        "cnn b8, fast-only",
        "lstm b4, slow-only",
        "lstm b4, fast-only",
    ]
    assert plan.machine.vcpus == 2
    assert plan.cells[2].model == {"name": "lstm", "batch": 4, "time_steps": 20, "hidden": 64}
    assert plan.cells[2].placement == "slow-only"
    assert plan.cells[0].resolved == {
        "model": {"name": "cnn", "batch": 8},
        "placement": "slow-only",
        "machine": plan.machine.model_dump(mode="json", exclude={"description"}),
        "kernel": "auto",
        "steps": 2,
        "warmup": 1,
        "threads": 1,
        "seed": 7,
    }


def test_the_id_of_a_cell_is_stable(folder: Path) -> None:
    """Records are found again by these: if they change, every stored run is of other cells."""
    assert [cell.id for cell in load(folder, GOOD).cells] == IDS


IDS = ["667257d735254f64", "74aa9adc0b3895f2", "0ed309ba1a545fe9", "25256f661f0e774f"]


def test_a_preset_is_part_of_a_cell(folder: Path) -> None:
    plan = load(folder, GOOD + "preset: optane-6dimm\n")
    assert plan.preset == preset.load("optane-6dimm")
    assert {cell.id for cell in plan.cells}.isdisjoint(IDS)
    assert plan.cells[0].resolved["preset"]["nodes"][1]["read_latency"] == "305 ns"
    assert "source" not in plan.cells[0].resolved["preset"]
    told = provenance.throttle(plan.preset)
    assert told.is_slow
    assert told.model_dump()["calibrated"] is False
    assert not provenance.throttle(None).is_slow


def test_a_budget_of_fast_memory_is_for_those_it_makes_a_difference_to(folder: Path) -> None:
    text = GOOD.replace("[slow-only, fast-only]", "[fast-only, first-touch, sentinel]")
    plan = load(folder, text + "preset: optane-6dimm\nfast_memory: [20%, 40%]\n")
    labels = [plan.axes.label(cell.resolved) for cell in plan.cells if cell.model["name"] == "cnn"]
    assert labels == [
        "cnn b8, fast-only",
        *(f"cnn b8, first-touch, {share}" for share in ("20%", "40%")),
        *(f"cnn b8, sentinel, {share}" for share in ("20%", "40%")),
    ]
    assert [cell.fast_memory for cell in plan.cells[:3]] == [None, 0.2, 0.4]
    assert all(cell.resolved["runtime"] for cell in plan.cells)  # one allocator for all of them
    assert "runtime" not in load(folder, GOOD).cells[0].resolved


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("preset: optane-6dimm\n", "placements[1]: sentinel needs `fast_memory`"),
        ("fast_memory: [20%]\n", "placements[1]: sentinel needs a `preset`"),
        ("preset: optane-6dimm\nfast_memory: [20%, 20%]\n", "fast_memory[1]: stands here twice"),
        ("preset: optane-6dimm\nfast_memory: [half]\n", "fast_memory[0]: "),
        (
            "preset: optane-6dimm\nfast_memory: [20%]\nwarmup: 0\n",
            "warmup: a budget of fast memory holds from",
        ),
    ],
)
def test_what_sentinel_needs(folder: Path, more: str, message: str) -> None:
    text = GOOD.replace("[slow-only, fast-only]", "[fast-only, sentinel]")
    with pytest.raises(UsageError) as caught:
        load(folder, text + more)
    assert message in caught.value.message


def test_what_does_not_decide_a_result_does_not_change_the_id(folder: Path) -> None:
    ids = [cell.id for cell in load(folder, GOOD).cells]
    assert [c.id for c in load(folder, GOOD.replace("smoke", "other") + "description: x\n").cells] == ids
    assert [c.id for c in load(folder, GOOD.replace("repeats: 3", "repeats: 9")).cells] == ids
    assert [c.id for c in load(folder, GOOD.replace("{ name: cnn }", "{ name: cnn, batch: 8 }")).cells] == ids
    (folder / "m.yaml").write_text("description: another name\n" + MACHINE)
    assert [c.id for c in load(folder, GOOD).cells] == ids


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{ name: cnn }", "{ name: cnn, batch: 16 }"),
        ("steps: 2", "steps: 3"),
        ("steps: 2", "steps: 2\nwarmup: 2"),
        ("steps: 2", "steps: 2\nseed: 8"),
        ("steps: 2", "steps: 2\nthreads: 2"),
        ("steps: 2", "steps: 2\nkernel: '4.9'"),
    ],
)
def test_what_decides_a_result_changes_the_id(folder: Path, old: str, new: str) -> None:
    before = load(folder, GOOD).cells[0].id
    assert load(folder, GOOD.replace(old, new)).cells[0].id != before


def test_another_machine_makes_other_cells(folder: Path) -> None:
    before = load(folder, GOOD).cells[0].id
    (folder / "m.yaml").write_text(MACHINE.replace("- {memory: 1 GiB}", "- {memory: 2 GiB}"))
    assert load(folder, GOOD).cells[0].id != before


def test_the_cells_of_a_run_say_which_kernel_they_ran_on(folder: Path) -> None:
    plan = load(folder, GOOD)
    on = suite.on_kernel(plan, "4.9")
    assert {cell.resolved["kernel"] for cell in on.cells} == {"4.9"}
    assert on.suite.kernel == "4.9"
    assert [c.id for c in on.cells] == [c.id for c in load(folder, GOOD + "kernel: '4.9'\n").cells]
    assert {c.id for c in on.cells}.isdisjoint(c.id for c in plan.cells)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_that_ships_is_valid_and_named_after_its_file(path: Path) -> None:
    plan = suite.load(path)
    assert plan.suite.name == path.stem
    assert plan.suite.description
    assert len({cell.id for cell in plan.cells}) == len(plan.cells) > 0


def test_the_suites_that_the_help_names_are_there() -> None:
    assert {path.stem for path in SUITES.glob("*.yaml")} >= {"first", "placements"}


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            changed("cnn", "vgg"),
            "4:13: models[0].name: must be one of cnn, lstm, resnet20, resnet56 (got vgg)",
            id="unknown model",
        ),
        pytest.param(
            changed("fast-only", "fastest"),
            "6:25: placements[1]: must be one of fast-only, slow-only, first-touch, interleave, "
            "sentinel, published (got fastest)",
            id="unknown placement",
        ),
        pytest.param(
            changed("{ name: cnn }", "{ name: cnn, depth: 3 }"),
            "4:18: models[0].depth: unknown key; allowed: name, batch, time_steps, hidden",
            id="unknown parameter",
        ),
        pytest.param(
            changed("{ name: cnn }", "{ name: cnn, hidden: 3 }"),
            "4:18: models[0].hidden: cnn has no such parameter; allowed: batch",
            id="a parameter of another model",
        ),
        pytest.param(
            changed("{ name: cnn }", "{ name: cnn, batch: 0 }"),
            "4:25: models[0].batch: must be at least 1 (got 0)",
            id="a parameter out of bounds",
        ),
        pytest.param(
            changed("[slow-only, fast-only]", "[slow-only, slow-only]"),
            "6:25: placements[1]: stands here twice",
            id="a placement twice",
        ),
        pytest.param(
            changed("{ name: cnn }", "{ name: cnn }\n  - { name: cnn }"),
            "5:5: models[1]: stands here twice",
            id="a model twice",
        ),
        pytest.param(
            changed("{ name: cnn }", "{ name: cnn }\n  - { name: cnn, batch: 8 }"),
            "5:5: models[1]: stands here twice",
            id="a model twice, once with its default said",
        ),
        pytest.param(
            changed("m.yaml", "one.yaml"),
            "2:10: machine: placements need a fast and a slow node: at least two nodes",
            id="a machine with one node",
        ),
        pytest.param(
            changed("steps: 2", "threads: 3"),
            "7:10: threads: the machine has 2 CPUs",
            id="more threads than CPUs",
        ),
        pytest.param(
            changed("steps", "step"),
            "7:1: step: unknown key; allowed: " + ", ".join(Suite.model_fields),
            id="unknown key",
        ),
        pytest.param(
            changed("name: smoke", "name: Smoke Test"),
            "1:7: name: must be lower-case letters, digits and dashes, 40 at most, with no dash first "
            "(got Smoke Test)",
            id="a name that is no folder",
        ),
        pytest.param(
            changed("placements: [slow-only, fast-only]\n", ""),
            "1:1: placements: missing, and must be given",
            id="no placements",
        ),
        pytest.param(
            changed("[slow-only, fast-only]", "[]"),
            "6:13: placements: must not be empty",
            id="empty placements",
        ),
        *(
            pytest.param(
                GOOD + f"fast_memory: [{share}]\n",
                "9:15: fast_memory[0]: must be a share of the model's peak from 1% to 100%, such as 40% "
                f"(got {share})",
                id=f"a budget of {share}",
            )
            for share in ("200%", "101%", "0%", "040%", "40", "0.4", "40 %", "-5%")
        ),
        pytest.param(
            GOOD + "fast_memory: 40%\n",
            "9:14: fast_memory: must be a list, such as [40%] (got 40%)",
            id="a budget that is no list",
        ),
        pytest.param(
            changed("[slow-only, fast-only]", "slow-only"),
            "6:13: placements: must be a list, such as [fast-only, slow-only] (got slow-only)",
            id="placements that are no list",
        ),
        *(
            pytest.param(
                changed("steps: 2", f"steps: {text}"),
                f"7:8: steps: must be a whole number (got {text})",
                id=f"steps: {text}",
            )
            for text in ("yes", "1:30", "1_0", "2.0", "true", '"2"', "1e1")
        ),
        pytest.param(
            GOOD + "kernel: 6.1\n",
            '9:9: kernel: must be in quotes: write "6.1", for YAML reads 6.1 as a number',
            id="another kernel without quotes",
        ),
        pytest.param(
            GOOD + "kernel: 4.4\n",
            '9:9: kernel: must be one of auto, "4.9", "6.1" (got 4.4)',
            id="an unknown kernel without quotes",
        ),
        pytest.param(
            changed("name: smoke", "name: ~"),
            '1:7: name: must be in quotes: write "~", for YAML reads ~ as nothing',
            id="a name that YAML reads as nothing",
        ),
        pytest.param(
            GOOD + "kernel: 4.9\n",
            '9:9: kernel: must be in quotes: write "4.9", for YAML reads 4.9 as a number',
            id="a kernel without quotes",
        ),
    ],
)
def test_a_wrong_suite_is_told_where_what_and_what_is_allowed(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(folder, text)
    assert caught.value.message.splitlines() == [f"{folder}/s.yaml:{message}"]


def test_an_unknown_machine_is_told_with_its_place(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"s\.yaml:2:10: machine: unknown machine 'tow-node'; there are: two"
    ):
        load(folder, changed("./m.yaml", "tow-node"))
    with pytest.raises(UsageError, match=r"s\.yaml:2:10: machine: .*n\.yaml: cannot be read: No such file"):
        load(folder, changed("./m.yaml", "./n.yaml"))
    with pytest.raises(UsageError, match=r"s\.yaml:9:9: preset: unknown preset 'dram'; there are: cxl-asic"):
        load(folder, GOOD + "preset: dram\n")


def test_the_parameters_of_every_model_have_defaults_within_their_bounds() -> None:
    for name, defaults in MODELS.items():
        full: dict[str, Any] = {"name": name, **defaults}
        assert suite.Model.model_validate(full).resolved() == full
        assert suite.Model.model_validate({"name": name}).resolved() == full


@pytest.mark.parametrize("name", ["no", "on", "2026-01-02", "1e-x"])
def test_a_name_that_is_text_in_yaml_1_2_is_that_text(folder: Path, name: str) -> None:
    assert load(folder, changed("smoke", name)).suite.name == name


@pytest.mark.parametrize(("text", "steps"), [("010", 10), ("0o10", 8), ("0x10", 16), ("+3", 3)])
def test_whole_numbers_are_read_by_the_core_schema(folder: Path, text: str, steps: int) -> None:
    assert load(folder, changed("steps: 2", f"steps: {text}")).suite.steps == steps
