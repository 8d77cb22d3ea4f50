# SPDX-License-Identifier: Apache-2.0
"""Suites: messages for mistakes, and the cells of a valid suite."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from experiments import matrix, models, policies, provenance
from experiments.job import Work
from experiments.matrix import Matrix
from experiments.suite import Suite
from kernel import source as kernels
from testbed.common.errors import UsageError
from testbed.common.schema import Document, Strict, json_schema
from testbed.machine import Machine
from testbed.timing import preset
from testbed.timing.preset import Preset

SUITES = Path(matrix.__file__).parent / "suites"
TESTBED = Path(matrix.__file__).parent.parent / "testbed"
MACHINE = "vcpus: 2\nnodes:\n  - {memory: 1 GiB, cpus: [0, 1]}\n  - {memory: 1 GiB}\n"
VALID = """\
name: smoke
machine: ./m.yaml
models:
  - { name: cnn }
  - { name: lstm, batch: 4, hidden: 64 }
placements: [slow-only, fast-only]
steps: 2
repeats: 3
"""
POLICIES = ", ".join(policies.names())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(MACHINE)
    (tmp_path / "one.yaml").write_text("vcpus: 1\nnodes: [{memory: 1 GiB, cpus: [0]}]\n")
    return tmp_path


def load(folder: Path, text: str) -> Matrix:
    (folder / "s.yaml").write_text(text)
    return matrix.load(folder / "s.yaml")


def replaced(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new, 1)


def test_cells_come_model_by_model_in_the_order_of_the_file(folder: Path) -> None:
    suite = load(folder, VALID)
    assert [suite.axes.label(cell.resolved) for cell in suite.cells] == [
        "cnn b8, slow-only",
        "cnn b8, fast-only",
        "lstm b4, slow-only",
        "lstm b4, fast-only",
    ]
    assert suite.machine.vcpus == 2
    assert suite.cells[2].model == {"name": "lstm", "batch": 4, "time_steps": 20, "hidden": 64}
    assert suite.cells[2].policy == policies.get("slow-only")
    assert suite.cells[0].resolved == {
        "model": {"name": "cnn", "batch": 8},
        "placement": "slow-only",
        "machine": suite.machine.model_dump(mode="json", exclude={"description"}),
        "kernel": "auto",
        "steps": 2,
        "warmup": 1,
        "threads": 1,
        "seed": 7,
    }


IDS = ["d6aedd99898da1c9", "0a29859e74f2d01c", "0576b3bdf2550bb3", "8f8a6bf1b304dc1a"]


def test_cell_ids_are_stable(folder: Path) -> None:
    """Stored runs are resumed by these ids."""
    assert [cell.id for cell in load(folder, VALID).cells] == IDS


def test_a_preset_is_part_of_a_cell(folder: Path) -> None:
    suite = load(folder, VALID + "preset: optane-6dimm\n")
    assert suite.preset == preset.load("optane-6dimm")
    assert {cell.id for cell in suite.cells}.isdisjoint(IDS)
    assert suite.cells[0].resolved["preset"]["nodes"][1]["read_latency"] == "305 ns"
    assert "source" not in suite.cells[0].resolved["preset"]
    throttle = provenance.throttle(suite.preset)
    assert throttle.is_slow
    assert throttle.model_dump()["calibrated"] is False
    assert not provenance.throttle(None).is_slow


def test_budgets_apply_to_the_policies_that_they_affect(folder: Path) -> None:
    text = replaced("[slow-only, fast-only]", "[fast-only, first-touch, sentinel-opt]")
    suite = load(folder, text + "preset: optane-6dimm\nfast_memory: [20%, 40%]\n")
    labels = [suite.axes.label(cell.resolved) for cell in suite.cells if cell.model["name"] == "cnn"]
    assert labels == [
        "cnn b8, fast-only",
        *(f"cnn b8, first-touch, {share}" for share in ("20%", "40%")),
        *(f"cnn b8, sentinel-opt, {share}" for share in ("20%", "40%")),
    ]
    assert [cell.budget_share for cell in suite.cells[:3]] == [None, 0.2, 0.4]
    assert all(cell.resolved["runtime"] for cell in suite.cells)  # the same allocator for all
    assert "runtime" not in load(folder, VALID).cells[0].resolved


def test_a_budget_may_be_a_size(folder: Path) -> None:
    text = replaced("[slow-only, fast-only]", "[first-touch]") + "preset: optane-6dimm\n"
    cells = load(folder, text + "fast_memory: [40%, 1.5 MiB]\n").cells[:2]
    assert [(cell.budget_share, cell.budget_bytes) for cell in cells] == [(0.4, None), (None, 3 << 19)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("preset: optane-6dimm\n", "placements[1]: sentinel-opt needs `fast_memory`, such as [20%, 40%]"),
        ("fast_memory: [20%]\n", "placements[1]: sentinel-opt needs a `preset`, such as optane-6dimm"),
        ("preset: optane-6dimm\nfast_memory: [20%, 20%]\n", "fast_memory[1]: duplicate value"),
        ("preset: optane-6dimm\nfast_memory: [half]\n", "fast_memory[0]: must be a share"),
        ("preset: optane-6dimm\nfast_memory: [20%]\nwarmup: 0\n", "warmup: must be at least 1 with a budget"),
    ],
)
def test_a_missing_need_of_a_policy_is_reported(folder: Path, more: str, message: str) -> None:
    text = replaced("[slow-only, fast-only]", "[fast-only, sentinel-opt]")
    with pytest.raises(UsageError) as caught:
        load(folder, text + more)
    assert message in caught.value.message


def test_a_policy_of_replays_is_refused_in_a_suite_that_emulates(folder: Path) -> None:
    text = replaced("[slow-only, fast-only]", "[ial]") + "preset: optane-6dimm\nfast_memory: [20%]\n"
    with pytest.raises(UsageError) as caught:
        load(folder, text)
    assert caught.value.message.endswith(
        "placements[0]: ial exists in replays only: set `mode: replay`, or use `sentinel replay`"
    )
    suite = load(folder, text + "mode: replay\n")
    assert [cell.policy.name for cell in suite.cells] == ["ial", "ial"]


def test_a_budget_needs_a_preset(folder: Path) -> None:
    text = replaced("[slow-only, fast-only]", "[fast-only, first-touch]")
    with pytest.raises(UsageError, match=r"fast_memory: needs a `preset`, such as optane-6dimm$"):
        load(folder, text + "fast_memory: [20%]\n")


def test_the_former_name_of_a_policy_is_explained(folder: Path) -> None:
    message = (
        r"'published' is now called 'sentinel'; the former 'sentinel' is 'sentinel-opt' \(got published\)$"
    )
    with pytest.raises(UsageError, match=message):
        load(folder, replaced("fast-only", "published"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: smoke", "name: other\ndescription: text"),
        ("repeats: 3", "repeats: 9"),
        ("{ name: cnn }", "{ name: cnn, batch: 8 }"),
    ],
)
def test_settings_without_effect_on_results_keep_the_ids(folder: Path, old: str, new: str) -> None:
    assert [cell.id for cell in load(folder, replaced(old, new)).cells] == IDS


def test_the_description_of_a_machine_keeps_the_ids(folder: Path) -> None:
    (folder / "m.yaml").write_text("description: another text\n" + MACHINE)
    assert [cell.id for cell in load(folder, VALID).cells] == IDS


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
def test_settings_with_effect_on_results_change_the_ids(folder: Path, old: str, new: str) -> None:
    assert load(folder, replaced(old, new)).cells[0].id != IDS[0]


def test_a_different_machine_changes_the_ids(folder: Path) -> None:
    (folder / "m.yaml").write_text(MACHINE.replace("- {memory: 1 GiB}", "- {memory: 2 GiB}"))
    assert load(folder, VALID).cells[0].id != IDS[0]


def test_with_kernel_records_the_resolved_kernel(folder: Path) -> None:
    auto = load(folder, VALID)
    resolved = auto.with_kernel("4.9")
    assert {cell.resolved["kernel"] for cell in resolved.cells} == {"4.9"}
    assert resolved.suite.kernel == "4.9"
    assert [c.id for c in resolved.cells] == [c.id for c in load(folder, VALID + "kernel: '4.9'\n").cells]
    assert {c.id for c in resolved.cells}.isdisjoint(c.id for c in auto.cells)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_suites_are_valid_and_named_after_their_files(path: Path) -> None:
    shipped = matrix.load(path)
    assert shipped.suite.name == path.stem
    assert shipped.suite.description
    assert len({cell.id for cell in shipped.cells}) == len(shipped.cells) > 0


def test_the_suites_in_the_help_exist() -> None:
    assert {path.stem for path in SUITES.glob("*.yaml")} >= {"first", "placements"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            replaced("cnn", "vgg"),
            f"4:13: models[0].name: must be one of {', '.join(models.names())} (got vgg)",
            id="unknown model",
        ),
        pytest.param(
            replaced("{ name: cnn }", "{ batch: 8 }"),
            "4:5: models[0].name: missing, and must be given",
            id="model without a name",
        ),
        pytest.param(
            replaced("fast-only", "fastest"),
            f"6:25: placements[1]: must be one of {POLICIES} (got fastest)",
            id="unknown policy",
        ),
        pytest.param(
            replaced("{ name: cnn }", "{ name: cnn, hidden: 3 }"),
            "4:26: models[0].hidden: cnn has no such parameter; allowed: batch (got 3)",
            id="parameter of another model",
        ),
        pytest.param(
            replaced("{ name: cnn }", "{ name: cnn, batch: 0 }"),
            "4:25: models[0].batch: must be at least 1 (got 0)",
            id="parameter out of bounds",
        ),
        pytest.param(
            replaced("{ name: cnn }", "{ name: cnn, batch: 8.0 }"),
            "4:25: models[0].batch: must be a whole number (got 8.0)",
            id="parameter that is not a whole number",
        ),
        pytest.param(
            replaced("[slow-only, fast-only]", "[slow-only, slow-only]"),
            "6:25: placements[1]: duplicate value",
            id="duplicate policy",
        ),
        pytest.param(
            replaced("{ name: cnn }", "{ name: cnn }\n  - { name: cnn }"),
            "5:5: models[1]: duplicate value",
            id="duplicate model",
        ),
        pytest.param(
            replaced("{ name: cnn }", "{ name: cnn }\n  - { name: cnn, batch: 8 }"),
            "5:5: models[1]: duplicate value",
            id="duplicate model with an explicit default",
        ),
        pytest.param(
            replaced("m.yaml", "one.yaml"),
            "2:10: machine: a suite needs a machine with at least two nodes",
            id="machine with one node",
        ),
        pytest.param(
            replaced("steps: 2", "threads: 3"),
            "7:10: threads: the machine has 2 CPUs",
            id="more threads than CPUs",
        ),
        pytest.param(
            replaced("steps", "step"),
            "7:1: step: unknown key; allowed: " + ", ".join(Suite.model_fields),
            id="unknown key",
        ),
        pytest.param(
            replaced("name: smoke", "name: Smoke Test"),
            "1:7: name: must be lower-case letters, digits and dashes, at most 40, not starting with a dash "
            "(got Smoke Test)",
            id="invalid name",
        ),
        pytest.param(
            replaced("placements: [slow-only, fast-only]\n", ""),
            "1:1: placements: missing, and must be given",
            id="no placements",
        ),
        pytest.param(
            replaced("[slow-only, fast-only]", "[]"),
            "6:13: placements: must be a list, such as [fast-only, slow-only] (got an empty list)",
            id="empty placements",
        ),
        *(
            pytest.param(
                VALID + f"fast_memory: [{share}]\n",
                "9:15: fast_memory[0]: must be a share of the model's peak from 1% to 100%, such as 40%, or "
                f"a size, such as 14 MiB (got {share})",
                id=f"budget of {share}",
            )
            for share in ("200%", "101%", "0%", "040%", "40", "0.4", "40 %", "-5%", "14 MB")
        ),
        pytest.param(
            VALID + "fast_memory: 40%\n",
            "9:14: fast_memory: must be a list, such as [40%] (got 40%)",
            id="budget that is not a list",
        ),
        pytest.param(
            replaced("[slow-only, fast-only]", "slow-only"),
            "6:13: placements: must be a list, such as [fast-only, slow-only] (got slow-only)",
            id="placements that are not a list",
        ),
        *(
            pytest.param(
                replaced("steps: 2", f"steps: {text}"),
                f"7:8: steps: must be a whole number (got {text})",
                id=f"steps: {text}",
            )
            for text in ("yes", "1:30", "1_0", "2.0", "true", '"2"', "1e1")
        ),
        pytest.param(
            VALID + "kernel: 6.1\n",
            '9:9: kernel: must be in quotes: write "6.1", because YAML reads 6.1 as a number',
            id="kernel without quotes",
        ),
        pytest.param(
            VALID + "kernel: 4.4\n",
            '9:9: kernel: must be one of auto, "4.9", "6.1" (got 4.4)',
            id="unknown kernel without quotes",
        ),
        pytest.param(
            replaced("name: smoke", "name: ~"),
            '1:7: name: must be in quotes: write "~", because YAML reads ~ as nothing',
            id="name that YAML reads as null",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_position(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(folder, text)
    assert caught.value.message.splitlines() == [f"{folder}/s.yaml:{message}"]


SCRIPTS = VALID.replace("{ name: lstm, batch: 4, hidden: 64 }", "{ script: my/train.py, files: [my/data] }")


@pytest.fixture
def script(folder: Path) -> Path:
    """A script with data, in the folder of the suite."""
    (folder / "my" / "data").mkdir(parents=True)
    (folder / "my" / "train.py").write_text("print('hello')\n")
    (folder / "my" / "data" / "a.csv").write_text("1,2\n")
    return folder / "my" / "train.py"


def test_a_script_is_a_model(folder: Path, script: Path) -> None:
    suite = load(folder, SCRIPTS)
    assert [suite.axes.label(cell.resolved) for cell in suite.cells][1:3] == [
        "cnn b8, fast-only",
        "train.py, slow-only",
    ]
    assert [cell.script is None for cell in suite.cells] == [True, True, False, False]
    cell = suite.cells[2]
    assert cell.script == suite.cells[3].script
    assert cell.script is not None
    assert cell.resolved["model"] == cell.model == cell.script.resolve()
    assert sorted(cell.script.files.paths) == ["data/a.csv", "train.py"]
    assert str(folder) not in json.dumps(cell.resolved)


def test_a_model_may_have_a_data_set(folder: Path) -> None:
    """The folder is on the host: the cell knows its content, the process its place in the guest."""
    (folder / "ptb").mkdir()
    (folder / "ptb" / "ptb.train.txt").write_text("a b c\n")
    text = VALID.replace("{ name: lstm, batch: 4, hidden: 64 }", "{ name: lstm-ptb, data: ptb }")
    cell = load(folder, text).cells[2]
    assert cell.data is not None
    assert list(cell.data.paths) == ["ptb.train.txt"]
    assert cell.model["data"] == cell.data.content
    assert str(folder) not in json.dumps(cell.resolved)
    work = Work(seed=7, threads=1, model=cell.model, data=cell.data)
    assert work.job()["model"] == {**cell.model, "data": "/root/data"}
    assert work.files == (cell.data, "/root/data")
    (folder / "ptb" / "ptb.train.txt").write_text("a b d\n")
    changed = load(folder, text).cells[2]
    assert changed.id != cell.id
    assert Work(seed=7, threads=1, model=changed.model, data=changed.data).key() != work.key()
    jsonschema.validate(Document(folder / "s.yaml").data, json_schema(Suite))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{ name: lstm-ptb, data: ptb }", "data: {}/ptb: no such folder"),
        ("{ name: lstm-ptb, data: m.yaml }", "data: {}/m.yaml: not a folder"),
        ("{ name: lstm-ptb, data: 3 }", "data: must be a folder with Penn Treebank"),
        ("{ name: mobilenet, data: ptb }", "data: mobilenet has no such parameter; allowed: "),
    ],
)
def test_wrong_data_set_is_refused(folder: Path, model: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(folder, VALID.replace("{ name: lstm, batch: 4, hidden: 64 }", model))
    assert f"models[1].{message.format(folder)}" in caught.value.message


def test_the_id_of_a_script_depends_on_content_and_arguments_only(folder: Path, script: Path) -> None:
    ids = [cell.id for cell in load(folder, SCRIPTS).cells]
    other = folder / "other"
    other.mkdir()
    (other / "m.yaml").write_text(MACHINE)
    (folder / "my").rename(other / "yours")
    moved = SCRIPTS.replace("my/", "yours/")
    assert [cell.id for cell in load(other, moved).cells] == ids
    changed = moved.replace("files:", "args: [x], files:")
    assert load(other, changed).cells[2].id != ids[2]
    (other / "yours" / "data" / "a.csv").write_text("1,3\n")
    edited = [cell.id for cell in load(other, moved).cells]
    assert edited[:2] == ids[:2]
    assert set(edited[2:]).isdisjoint(ids)


def test_labels_have_the_arguments_if_several_cells_share_a_script(folder: Path, script: Path) -> None:
    text = SCRIPTS.replace("files: [my/data] }", "args: [--name, a b] }\n  - { script: ./my/train.py }")
    suite = load(folder, text.replace("[slow-only, fast-only]", "[fast-only]"))
    labels = [suite.axes.label(cell.resolved) for cell in suite.cells]
    assert labels == [
        "cnn b8, fast-only",
        "train.py --name 'a b', fast-only",
        "train.py without arguments, fast-only",
    ]
    duplicate = text.replace("{ script: ./my/train.py }", "{ script: ./my/train.py, args: [--name, a b] }")
    with pytest.raises(UsageError, match=r"6:5: models\[2\]: duplicate value"):
        load(folder, duplicate)


def test_scripts_may_be_planned_within_the_training(folder: Path, script: Path) -> None:
    text = SCRIPTS.replace("[slow-only, fast-only]", "[fast-only, sentinel-opt, sentinel]")
    text = text.replace("  - { name: cnn }\n", "") + "preset: optane-6dimm\nfast_memory: [20%]\n"
    online, offline = load(folder, text + "online: true\n"), load(folder, text)
    assert [cell.online for cell in online.cells] == [False, True, True]
    assert [cell.policy.name for cell in online.cells] == ["fast-only", "sentinel-opt", "sentinel"]
    assert online.axes.label(online.cells[1].resolved) == "train.py, sentinel-opt, online, 20%"
    assert online.cells[0].id == offline.cells[0].id
    assert {cell.id for cell in online.cells[1:]}.isdisjoint(cell.id for cell in offline.cells)
    with pytest.raises(UsageError, match=r"online: none of the `placements` can .*: sentinel, sentinel-opt$"):
        load(folder, text.replace(", sentinel-opt, sentinel]", "]") + "online: true\n")
    with pytest.raises(
        UsageError, match=r"online: only scripts plan within the training, and cnn is a model"
    ):
        load(folder, SCRIPTS + "online: true\n")


def test_scripts_may_run_until_they_end(folder: Path, script: Path) -> None:
    until_end = SCRIPTS.replace("steps: 2", "steps: null")
    with pytest.raises(UsageError, match=r"7:8: steps: cnn needs a number: only scripts end by themselves"):
        load(folder, until_end)
    suite = load(folder, until_end.replace("  - { name: cnn }\n", ""))
    assert suite.cells[0].resolved["steps"] is None
    jsonschema.validate(Document(folder / "s.yaml").data, json_schema(Suite))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{ script: my/no.py }", "models[1].script: {}/my/no.py: no such file"),
        (
            "{ script: my }",
            "models[1].script: {}/my: cannot be read: it is a folder, not a file",
        ),
        ("{ script: 3 }", 'models[1].script: must be in quotes: write "3", because YAML reads 3 as a number'),
        (
            "{ name: cnn, script: my/train.py }",
            "models[1].name: a model has a `name` or a `script`, not both",
        ),
        (
            "{ script: my/train.py, arg: [] }",
            "models[1].arg: a script has no such key; allowed: script, args, files, step_ops (got a list)",
        ),
        ("{ script: my/train.py, args: -v }", "models[1].args: must be a list, such as [-v] (got -v)"),
        (
            "{ script: my/train.py, args: [--lr, 0.1] }",
            'models[1].args[1]: must be in quotes: write "0.1", because YAML reads 0.1 as a number',
        ),
        ("{ script: my/train.py, files: [my/data, my/x] }", "models[1].files[1]: {}/my/x: no such file"),
        (
            "{ script: my/train.py, files: [m.yaml] }",
            "models[1].files[0]: {}/m.yaml: must be in the script's folder",
        ),
        (
            "{ script: my/train.py, files: [my/data, my/data/a.csv] }",
            "models[1].files[1]: {}/my/data/a.csv: data/a.csv is copied already",
        ),
    ],
)
def test_a_mistake_in_a_script_is_reported_with_its_position(
    folder: Path, script: Path, entry: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(folder, SCRIPTS.replace("{ script: my/train.py, files: [my/data] }", entry))
    (line,) = caught.value.message.splitlines()
    place, _, text = line.partition(": ")
    assert text.startswith(message.format(folder))
    assert place.startswith(f"{folder}/s.yaml:5:")
    assert int(place.rpartition(":")[2]) > 5


def test_an_unknown_machine_or_preset_is_reported_with_its_position(folder: Path) -> None:
    with pytest.raises(
        UsageError, match=r"s\.yaml:2:10: machine: unknown machine 'tow-node'; there are: two"
    ):
        load(folder, replaced("./m.yaml", "tow-node"))
    with pytest.raises(UsageError, match=r"s\.yaml:2:10: machine: .*n\.yaml: cannot be read: No such file"):
        load(folder, replaced("./m.yaml", "./n.yaml"))
    with pytest.raises(UsageError, match=r"s\.yaml:9:9: preset: unknown preset 'dram'; there are: cxl-asic"):
        load(folder, VALID + "preset: dram\n")


@pytest.mark.parametrize("name", ["no", "on", "2026-01-02", "1e-x"])
def test_text_of_yaml_1_2_is_a_valid_name(folder: Path, name: str) -> None:
    assert load(folder, replaced("smoke", name)).suite.name == name


@pytest.mark.parametrize(("text", "steps"), [("010", 10), ("0o10", 8), ("0x10", 16), ("+3", 3)])
def test_whole_numbers_follow_the_core_schema(folder: Path, text: str, steps: int) -> None:
    assert load(folder, replaced("steps: 2", f"steps: {text}")).suite.steps == steps


def test_a_new_kernel_version_needs_data_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "catalogue", lambda: kernels.Catalogue(auto=("6.6",), sources={"6.6": SPEC}))
    assert load(folder, VALID + 'kernel: "6.6"\n').suite.kernel == "6.6"
    with pytest.raises(UsageError, match=r'must be one of auto, "6\.6"'):
        load(folder, VALID + 'kernel: "4.9"\n')


SPEC = kernels.Spec(objects=1)


def test_the_json_schema_names_policies_models_and_kernels() -> None:
    schema = json.loads(json.dumps(json_schema(Suite)))["properties"]
    assert schema["placements"]["items"]["enum"] == list(policies.names())
    assert schema["kernel"]["enum"] == list(kernels.names())
    *of_models, script = schema["models"]["items"]["oneOf"]
    assert list(script["properties"]) == ["script", "args", "files", "step_ops"]
    assert script["required"] == ["script"]
    assert [model["properties"]["name"]["const"] for model in of_models] == list(models.names())
    lstm = next(model for model in of_models if model["properties"]["name"]["const"] == "lstm")
    assert lstm["properties"]["hidden"] == {
        "type": "integer", "minimum": 1, "maximum": 4096, "default": 128, "description": "hidden units",
    }  # fmt: skip
    pattern = schema["fast_memory"]["items"]["pattern"]
    assert [bool(re.search(pattern, text)) for text in ("7%", "14 MiB", "1.5GiB", "0%", "14")] == [
        *(True, True, True, False, False)
    ]


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_suites_match_the_json_schema(path: Path) -> None:
    jsonschema.validate(Document(path).data, json_schema(Suite))


@pytest.mark.parametrize(
    ("folder", "model"), [("machines", Machine), ("presets", Preset)], ids=["machines", "presets"]
)
def test_shipped_machines_and_presets_match_their_json_schema(folder: str, model: type[Strict]) -> None:
    paths = list((TESTBED / folder).glob("*.yaml"))
    assert paths
    for path in paths:
        data = Document(path).data
        jsonschema.validate(data, json_schema(model))
        nodes = [{**data["nodes"][0], "read_bandwidth": "39 MB", "memory": "39 MB"}, *data["nodes"][1:]]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, "nodes": nodes}, json_schema(model))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", [{"name": "vgg"}]),
        ("models", [{"name": "cnn", "hidden": 3}]),
        ("models", [{"name": "cnn", "batch": 0}]),
        ("placements", ["fastest"]),
        ("fast_memory", ["40"]),
        ("kernel", "4.4"),
        ("step", 1),
    ],
)
def test_the_json_schema_refuses_mistakes(field: str, value: object) -> None:
    suite = {"name": "x", "models": [{"name": "cnn"}], "placements": ["fast-only"]}
    jsonschema.validate(suite, json_schema(Suite))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**suite, field: value}, json_schema(Suite))
