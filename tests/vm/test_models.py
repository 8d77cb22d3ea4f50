# SPDX-License-Identifier: Apache-2.0
"""The models in the guest's python2.7 with TensorFlow. Emulation would only make it slower."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from experiments import models
from tests import model_data
from tests.guest_python import GuestPython
from tests.vm.training import SCRIPTS

# Small enough to train at once; the layers are those of the published sizes
SMALL: dict[str, dict[str, Any]] = {
    "bert": {"layers": 1, "batch": 4, "sequence": 16, "vocabulary": 100},
    "cnn": {},
    "dcgan": {"batch": 4, "filters": 4},
    "lstm": {"time_steps": 3},
    "lstm-ptb": {"time_steps": 3, "hidden": 20, "vocabulary": 100},
    "mobilenet": {"batch": 4, "resolution": 32, "classes": 10},
    "resnet": {"batch": 4, "depth": 20},
    "resnet20": {"batch": 2},
    "resnet56": {"batch": 2},
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> GuestPython:
    return GuestPython(tmp_path_factory.mktemp("python"))


def parameters(model: models.Model, values: dict[str, Any]) -> dict[str, Any]:
    resolved = model.resolve(values)
    del resolved["name"]
    return resolved


def trained(python: GuestPython, cases: list[tuple[str, dict[str, Any]]]) -> list[list[list[float]]]:
    """Train each model for two steps, twice; return the losses."""
    jobs = [{"name": name, "parameters": values} for name, values in cases]
    output = python.run(SCRIPTS / "models" / "train.py", json.dumps(jobs), timeout=1200)
    return [
        [[float.fromhex(loss) for loss in training] for training in json.loads(line)]
        for line in output.splitlines()
    ]


def test_trainable_parameters_agree_with_the_published_numbers(python: GuestPython) -> None:
    cases = [(model, published) for model in models.registry().values() for published in model.published]
    jobs = [
        {
            "name": model.name,
            "parameters": parameters(
                model, {"configuration": published.configuration, **published.parameters}
            ),
            "without": published.without,
        }
        for model, published in cases
    ]
    counts = python.run(SCRIPTS / "models" / "count.py", json.dumps(jobs), timeout=1200).split()
    wrong = {
        (model.name, published.configuration, count): published.trainable
        for (model, published), count in zip(cases, counts, strict=True)
        if not published.agrees(int(count))
    }
    assert wrong == {}


def test_every_model_trains_with_finite_and_repeatable_losses(python: GuestPython) -> None:
    registry = models.registry()
    assert registry.keys() == SMALL.keys()
    cases = [(name, parameters(registry[name], values)) for name, values in SMALL.items()]
    cases += [
        ("bert", {**cases[0][1], "task": "pretraining"}),
        ("dcgan", parameters(registry["dcgan"], {**SMALL["dcgan"], "side": 32})),
        ("mobilenet", parameters(registry["mobilenet"], {**SMALL["mobilenet"], "optimizer": "momentum"})),
    ]
    for (name, _), (first, second) in zip(cases, trained(python, cases), strict=True):
        assert first == second, name
        assert all(map(math.isfinite, first)), name
        assert first[0] != first[1], name


def test_models_train_on_data_in_the_published_formats(python: GuestPython, tmp_path: Path) -> None:
    model_data.write(tmp_path)
    names = [name for name, model in models.registry().items() if model.data]
    cases = [
        (name, {**parameters(models.registry()[name], SMALL[name]), "data": str(tmp_path)}) for name in names
    ]
    synthetic = [(name, parameters(models.registry()[name], SMALL[name])) for name in names]
    assert names == ["bert", "dcgan", "lstm-ptb", "resnet"]
    for (name, _), losses, others in zip(
        cases, trained(python, cases), trained(python, synthetic), strict=True
    ):
        assert all(map(math.isfinite, losses[0])), name
        assert losses[0] == losses[1] != others[0], name
