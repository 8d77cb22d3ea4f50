# SPDX-License-Identifier: Apache-2.0
"""The models' parameters, configurations and synthetic data. tests/vm/test_models.py builds them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from experiments import matrix, models, parameters
from experiments.models import Model, Published
from experiments.suite import Suite
from sentinel.cli import models as cli
from testbed.common.errors import UsageError
from testbed.common.schema import json_schema
from tests.fakes import guest

PAPER = ("bert", "dcgan", "lstm-ptb", "mobilenet", "resnet")
_synthetic = guest.load("guest.models._synthetic")
SUITE = "name: s\nmodels:\n  - {}\nplacements: [fast-only]\n"


def suite_with(folder: Path, model: str) -> dict[str, Any]:
    """The first cell's model of a suite with this model."""
    path = folder / "s.yaml"
    path.write_text(SUITE.format(model))
    return matrix.load(path).cells[0].model


@pytest.mark.parametrize("name", PAPER)
def test_paper_and_emulated_configurations_exist(name: str) -> None:
    model = models.registry()[name]
    assert {"paper", "emulated"} <= model.configurations.keys()
    assert model.resolve({"configuration": "emulated"}) == model.resolve({})
    assert model.resolve({"configuration": "paper"}) != model.resolve({})
    assert model.source
    assert model.published


def test_a_configuration_gives_the_parameters_that_a_suite_does_not(tmp_path: Path) -> None:
    small = suite_with(tmp_path, "{ name: lstm-ptb, configuration: small, batch: 4 }")
    assert small == {
        "name": "lstm-ptb", "batch": 4, "time_steps": 20, "layers": 2, "hidden": 200, "vocabulary": 10000,
        "keep": 100,
    }  # fmt: skip


def test_equal_models_are_duplicates_whether_or_not_they_name_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"4:5: models\[1\]: duplicate value"):
        suite_with(tmp_path, "{ name: resnet }\n  - { name: resnet, configuration: emulated }")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "{ name: bert, configuration: huge }",
            "3:34: models[0].configuration: must be one of base, large, paper, emulated (got huge)",
        ),
        (
            "{ name: cnn, configuration: paper }",
            "3:33: models[0].configuration: cnn has no such parameter; allowed: batch (got paper)",
        ),
        (
            "{ name: resnet, depth: 21 }",
            "3:28: models[0].depth: must be one of 20, 32, 44, 56, 110 (got 21)",
        ),
        (
            "{ name: resnet, depth: '20' }",
            '3:28: models[0].depth: must be one of 20, 32, 44, 56, 110 (got "20")',
        ),
        (
            "{ name: bert, task: translation }",
            "3:25: models[0].task: must be one of classification, pretraining (got translation)",
        ),
        (
            "{ name: resnet, size: 3 }",
            "3:27: models[0].size: resnet has no such parameter; allowed: configuration, data, batch, depth,"
            " width (got 3)",
        ),
    ],
)
def test_wrong_values_are_reported_with_the_allowed_ones(tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        suite_with(tmp_path, model)
    assert caught.value.message.splitlines()[0] == f"{tmp_path / 's.yaml'}:{message}"


@pytest.mark.parametrize(
    ("model", "valid"),
    [
        ({"name": "bert", "configuration": "base", "task": "pretraining"}, True),
        ({"name": "resnet", "depth": 110}, True),
        ({"name": "resnet", "depth": 21}, False),
        ({"name": "resnet", "configuration": "huge"}, False),
        ({"name": "cnn", "configuration": "paper"}, False),
    ],
)
def test_the_json_schema_has_choices_and_configurations(model: dict[str, Any], valid: bool) -> None:
    suite = {"name": "s", "models": [model], "placements": ["fast-only"]}
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(json_schema(Suite))))
    assert validator.is_valid(suite) == valid


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"default": 3, "minimum": 4, "maximum": 5, "description": ""}, "the default 3 is not within 4 to 5"),
        ({"default": 3, "choices": [4, 5], "description": ""}, "the default 3 is not one of 4, 5"),
        ({"default": "4", "choices": [4, 5], "description": ""}, "the default 4 is not one of 4, 5"),
        ({"default": 4, "choices": [], "description": ""}, "at least 1 item"),
        ({"default": 4, "choices": [4], "minimum": 1, "description": ""}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrongly_declared_parameter_is_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parameters.parse(declared)


@pytest.mark.parametrize(
    ("published", "count", "agrees"),
    [
        ("0.27 M", 269_722, True),
        ("0.27 M", 275_001, False),
        ("1.7 M", 1_727_962, True),
        ("4231976", 4_231_976, True),
        ("4231976", 4_231_977, False),
    ],
)
def test_a_count_agrees_with_a_published_one_to_its_precision(
    published: str, count: int, agrees: bool
) -> None:
    assert Published(configuration="paper", trainable=published).agrees(count) == agrees


def test_the_size_of_dcgan_is_the_sum_of_its_layers() -> None:
    grey, colour = models.registry()["dcgan"].published
    generator = [110 * 1024, 1034 * 6272, 25 * 138 * 64, 25 * 74]
    discriminator = [25 * 11 * 64, 25 * 74 * 128, 6282 * 1024, 1034]
    normalised = [1024, 6272, 64, 128, 1024]
    assert grey.agrees(sum(generator) + sum(discriminator) + 2 * sum(normalised))
    channels = [1024, 512, 256, 128, 3]
    convolutions = sum(25 * a * b for a, b in itertools.pairwise(channels))
    generator = [100 * 16 * 1024, convolutions]
    discriminator = [convolutions, 16 * 1024]
    normalised = [16 * 1024, 512, 256, 128, 256, 512, 1024]
    assert colour.agrees(sum(generator) + sum(discriminator) + 2 * sum(normalised))


@pytest.fixture
def random() -> np.random.RandomState:
    return np.random.RandomState(7)


def test_classes_are_equally_frequent(random: np.random.RandomState) -> None:
    labels = _synthetic.labels(random, 40, 10)
    assert np.bincount(labels).tolist() == [4] * 10
    assert labels.tolist() != sorted(labels.tolist())


def test_frequencies_of_words_follow_zipf(random: np.random.RandomState) -> None:
    text = _synthetic.words(random, [1000, 100], 1000)
    counts = np.bincount(text.ravel(), minlength=1000)
    assert text.dtype == np.int32
    assert len(counts) == 1000
    assert counts[0] / counts[9] == pytest.approx(12.7 / 2.7, rel=0.1)


def test_sentences_are_padded(random: np.random.RandomState) -> None:
    batch = _synthetic.sentences(random, 64, 32, 100)
    for tokens, mask in zip(batch["tokens"], batch["mask"], strict=True):
        length = int(mask.sum())
        assert 3 <= length <= 32
        assert tokens[0] == _synthetic.CLS
        assert tokens[length - 1] == _synthetic.SEP
        assert (tokens[1 : length - 1] >= _synthetic.FIRST_WORD).all()
        assert (tokens[length:] == _synthetic.PAD).all()
    assert len(set(batch["mask"].sum(axis=1).tolist())) > 5


def test_masked_words_are_distinct_and_keep_their_targets(random: np.random.RandomState) -> None:
    batch = _synthetic.masked_sentences(random, 64, 40, 1000, 6)
    hidden = np.take_along_axis(batch["tokens"], batch["positions"], axis=1)
    assert all(len(set(row)) == 6 for row in batch["positions"].tolist())
    assert (batch["targets"] >= _synthetic.FIRST_WORD).all()
    assert (hidden == _synthetic.MASK).mean() == pytest.approx(0.8, abs=0.06)
    assert (hidden == batch["targets"]).mean() == pytest.approx(0.1, abs=0.04)
    assert (batch["tokens"][:, [0, 20, 39]] == [_synthetic.CLS, _synthetic.SEP, _synthetic.SEP]).all()


def test_inputs_that_belong_together_come_from_one_batch() -> None:
    layers = guest.load("guest.models._layers")
    drawn: list[int] = []

    def draw(number: int) -> dict[str, int]:
        drawn.append(number)
        return {"a": number, "b": -number}

    inputs = layers.inputs({"b": "B", "a": "A"}, draw)
    assert [(placeholder, make(3)) for placeholder, make in inputs] == [("A", 3), ("B", -3)]
    assert [make(4) for _, make in inputs] == [4, -4]
    assert drawn == [3, 4]


def shown(*words: str) -> str:
    result = CliRunner().invoke(cli.model, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_model_show_prints_source_data_sizes_and_configurations() -> None:
    output = " ".join(shown("show", "resnet").split())
    for text in (
        "source He et al. 2015, arXiv 1512.03385, section 4.2",
        "data synthetic, or CIFAR-10, binary version",
        "trainable parameters paper depth 20: 0.27 M",
        "parameter default allowed paper emulated description",
        "depth 32 20, 32, 44, 56, 110 32 32 layers with weights",
    ):
        assert text in output
    bert = json.loads(shown("show", "bert", "--json"))
    assert bert == json.loads(shown("list", "--json"))["bert"]
    assert bert["configurations"]["large"]["hidden"] == 1024
    with pytest.raises(UsageError, match="unknown model 'vgg'; there are: bert, cnn"):
        shown("show", "vgg")


def test_every_model_documents_itself() -> None:
    for model in models.registry().values():
        assert isinstance(model, Model)
        assert json.loads(json.dumps(model.to_dict()))["description"] == model.description
