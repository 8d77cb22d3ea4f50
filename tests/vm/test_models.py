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
}
VARIANTS: dict[str, dict[str, Any]] = {
    "bert": {"task": "pretraining"},
    "dcgan": {"side": 32},
    "mobilenet": {"optimizer": "momentum"},
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> GuestPython:
    return GuestPython(tmp_path_factory.mktemp("python"))


def parameters(model: models.Model, values: dict[str, Any]) -> dict[str, Any]:
    resolved = model.resolve(values)
    del resolved["name"]
    return resolved


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
    counts = python.run(SCRIPTS / "models" / "count.py", json.dumps(jobs), timeout=3600).split()
    wrong = {
        (model.name, published.configuration, count): published.trainable
        for (model, published), count in zip(cases, counts, strict=True)
        if not published.agrees(int(count))
    }
    assert wrong == {}


def test_models_train_with_finite_and_repeatable_losses(python: GuestPython, tmp_path: Path) -> None:
    """Every model on synthetic data, and on files in the published format if it reads them."""
    model_data.write(tmp_path)
    registry = models.registry()
    synthetic = {name: parameters(registry[name], values) for name, values in SMALL.items()}
    cases = list(synthetic.items())
    cases += [(name, {**synthetic[name], **values}) for name, values in VARIANTS.items()]
    cases += [
        (name, {**values, "data": str(tmp_path)}) for name, values in synthetic.items() if registry[name].data
    ]
    jobs = [{"name": name, "parameters": values} for name, values in cases]
    lines = python.run(SCRIPTS / "models" / "train.py", json.dumps(jobs), timeout=3600).splitlines()
    losses = [json.loads(line) for line in lines]
    assert len(losses) == len(cases)
    for (name, _), (first, second) in zip(cases, losses, strict=True):
        assert first == second, name
        assert all(math.isfinite(float.fromhex(loss)) for loss in first), name
        assert first[0] != first[1], name
    assert len({tuple(first) for first, _ in losses}) == len(cases), "equal losses of different cases"
