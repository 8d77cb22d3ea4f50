# SPDX-License-Identifier: Apache-2.0
"""The registries of policies and models, and plug-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import models, policies
from experiments.policies import GuestSetup, Needs, Policy


def test_the_policies_are_these() -> None:
    assert policies.names() == (
        *("autotm", "capuchin", "fast-only", "first-touch", "hemem", "ial", "interleave", "memory-mode"),
        *("memtis", "numa-balancing", "sentinel", "sentinel-opt", "slow-only", "tpp", "weighted-interleave"),
    )
    assert [name for name, policy in policies.registry().items() if policy.plan] == [
        "autotm",
        "capuchin",
        "sentinel",
        "sentinel-opt",
    ]


@pytest.mark.parametrize("policy", policies.registry().values(), ids=lambda policy: policy.name)
def test_every_policy_describes_itself_in_one_line(policy: Policy) -> None:
    for text in (policy.description, policy.source):
        assert text
        assert "\n" not in text
    assert json.loads(json.dumps(policy.to_dict()))["plans"] == (policy.plan is not None)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("fast-only", {"memory": {"policy": "bind", "nodes": [0]}}),
        ("slow-only", {"memory": {"policy": "bind", "nodes": [1]}}),
        ("first-touch", {"memory": {"policy": "default", "nodes": []}}),
        ("interleave", {"memory": {"policy": "interleave", "nodes": [0, 1]}}),
    ],
)
def test_without_a_budget_the_order_names_the_memory_policy(name: str, order: object) -> None:
    assert policies.get(name).order() == order


def test_with_a_budget_the_order_names_the_limit_or_the_plan() -> None:
    assert policies.get("interleave").order(budget=4) == {"fast_memory": 4, "limit": "interleave"}
    assert policies.get("ial").order(budget=4) == {"fast_memory": 4, "replay": "ial"}
    assert policies.get("sentinel").order(budget=4, plan="/p") == {"fast_memory": 4, "plan": "/p"}


def test_the_order_has_the_sysctls() -> None:
    sysctls = {"kernel.numa_balancing": "1"}
    policy = Policy("balancing", "-", "-", Needs(budget="none"), GuestSetup(sysctls=sysctls))
    assert policy.order()["sysctls"] == sysctls


def test_a_policy_that_cannot_keep_to_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="a policy with a budget needs a plan or a limit"):
        Policy("unlimited", "-", "-")
    with pytest.raises(ValueError, match="a policy with a plan needs a preset, a profile and the runtime"):
        Policy("planned", "-", "-", plan=lambda _: None)
    with pytest.raises(ValueError, match="a policy with replays needs a budget, and no plan or limit"):
        Policy("replayed", "-", "-", Needs(budget="none"), replay=policies.get("ial").replay)
    with pytest.raises(ValueError, match="not a valid policy name: 'Big'"):
        Policy("Big", "-", "-")


@pytest.mark.parametrize("model", models.registry().values(), ids=lambda model: model.name)
def test_every_model_has_defaults_within_its_bounds(model: models.Model) -> None:
    defaults = {name: parameter.default for name, parameter in model.parameters.items()}
    assert model.resolve({}) == model.resolve(defaults) == {"name": model.name, **defaults}
    assert model.description
    assert not model.external


MODEL = """\
from __future__ import absolute_import, division, print_function
DESCRIPTION = "does nothing"
PARAMETERS = {"batch": {"default": 1, "minimum": 1, "maximum": 2, "description": "-"}}
def build(batch): pass
"""
POLICY = """\
from experiments.policies import GuestSetup, Needs, Policy
POLICY = Policy("external", "from outside", "-", Needs(budget="none"), GuestSetup("bind", (0,)))
"""


def install(folder: Path, entry_points: str, **modules: str) -> None:
    """Put a package into a folder of the path, as pip installs it."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    metadata = folder / "plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
        cwd=Path(policies.__file__).parent.parent.parent,
    )


DEPLOYED = """
from experiments import guest_code, models, policies
assert policies.get("external").description == "from outside"
assert models.resolve("external") == {"name": "external", "batch": 1}
print(guest_code.sources()["guest/models/external.py"])
"""


def test_plug_ins_are_found_and_their_models_are_deployed(tmp_path: Path) -> None:
    groups = "[sentinel.policies]\nexternal = my_policy:POLICY\n[sentinel.models]\nexternal = my_model\n"
    install(tmp_path, groups, my_policy=POLICY, my_model=MODEL)
    done = run(tmp_path, "-c", DEPLOYED)
    assert done.stdout == f"{tmp_path / 'my_model.py'}\n", done.stderr


@pytest.mark.parametrize(
    ("entry_points", "module", "message"),
    [
        (
            "[sentinel.policies]\nx = gone:POLICY\n",
            "",
            "plug-in 'x' (sentinel.policies): cannot be imported from gone:POLICY: No module named 'gone'",
        ),
        (
            "[sentinel.policies]\nx = plugin:POLICY\n",
            POLICY,
            "plug-in 'x' (sentinel.policies): must be a Policy with the name 'x'",
        ),
        (
            "[sentinel.policies]\nsentinel = plugin:POLICY\n",
            POLICY.replace('"external"', '"sentinel"'),
            "plug-in 'sentinel' (sentinel.policies): the name is taken",
        ),
        (
            "[sentinel.models]\nx = plugin\n",
            "DESCRIPTION = '-'\nPARAMETERS = {}\n",
            "plug-in 'x' (sentinel.models): not a model: module 'plugin' has no attribute 'build'",
        ),
    ],
)
def test_an_unusable_plug_in_is_reported_in_one_line(
    tmp_path: Path, entry_points: str, module: str, message: str
) -> None:
    install(tmp_path, entry_points, plugin=module)
    verb = "policy" if "policies" in entry_points else "model"
    done = run(tmp_path, "-m", "sentinel.cli.main", verb, "list")
    assert done.returncode == 2
    assert " ".join(done.stderr.split()) == f"error: {message} hint: fix or uninstall the package"
