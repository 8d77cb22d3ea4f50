# SPDX-License-Identifier: Apache-2.0
"""The models that suites can name, with their parameters. Reading them does not import the framework.

sentinel/guest/models/ holds the models and describes their files. Packages from outside add models through
the entry point group GROUP: each entry point names a module of the same form.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from experiments import frameworks, parameters, plugins
from experiments.parameters import Parameter
from testbed.common.names import is_valid
from testbed.common.schema import Strict

GROUP = "sentinel.models"
CONFIGURATION, DATA = "configuration", "data"  # keys in suites beside the parameters


class Published(Strict):
    """A published number of trainable parameters.

    `trainable` has the published precision, such as `0.27 M`. It leaves out the variable scopes `without`.
    """

    configuration: str
    parameters: Mapping[str, int | str] = {}
    trainable: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?( M)?$")]
    without: tuple[str, ...] = ()
    source: str = ""

    def agrees(self, count: int) -> bool:
        """Return whether `count`, rounded to the published precision, is the published number."""
        number, _, millions = self.trainable.partition(" ")
        decimals = len(number.partition(".")[2])
        return f"{count / (1e6 if millions else 1):.{decimals}f}" == number


@dataclass(frozen=True)
class Model:
    """A model: its parameters, and the file that builds it in the guest.

    A configuration has a name and gives some parameters other values than their defaults.
    """

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    path: Path
    source: str = ""  # publication
    configurations: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    data: str = ""  # the data set that `build` can read; it is synthetic otherwise
    external: bool = False  # from a plug-in

    @property
    def guest_file(self) -> str:
        """The name of the model's file in the guest's package."""
        return f"guest/models/{self.name.replace('-', '_')}.py"

    def resolve(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The model with every parameter.

        `values` has parameters and may name a `configuration`, which gives the others, and a folder of
        `data`, which is passed on. Raises pydantic's `ValidationError`.
        """
        problems = [problem for key in values if (problem := self._problem(key, values[key]))]
        if problems:
            raise ValidationError.from_exception_data(self.name, problems)
        defaults = {key: parameter.default for key, parameter in self.parameters.items()}
        defaults.update(self.configurations.get(values.get(CONFIGURATION, ""), {}))
        data = {DATA: values[DATA]} if DATA in values else {}
        return {"name": self.name, **{key: values.get(key, value) for key, value in defaults.items()}, **data}

    def _problem(self, key: str, value: object) -> InitErrorDetails | None:
        if key in self.parameters:
            return self.parameters[key].problem(key, value)
        if key == CONFIGURATION and self.configurations:
            if isinstance(value, str) and value in self.configurations:
                return None
            text = f"must be one of {', '.join(self.configurations)}"
        elif key == DATA and self.data:
            if isinstance(value, str) and value:
                return None
            text = f"must be a folder with {self.data}"
        else:
            text = f"{self.name} has no such parameter; allowed: {', '.join(self._keys())}"
        error = PydanticCustomError("model", "{text}", {"text": text})
        return InitErrorDetails(type=error, loc=(key,), input=value)

    def _keys(self) -> Iterator[str]:
        if self.configurations:
            yield CONFIGURATION
        if self.data:
            yield DATA
        yield from self.parameters

    def parameter_list(self) -> str:
        """The parameters in words, with their defaults and allowed values."""
        return ", ".join(f"{k}: {p.default} ({p.allowed})" for k, p in self.parameters.items())

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the model in a suite."""
        properties = {name: parameter.json_schema() for name, parameter in self.parameters.items()}
        if self.configurations:
            description = "values of the parameters that are not given"
            properties[CONFIGURATION] = {"enum": list(self.configurations), "description": description}
        if self.data:
            description = f"folder with {self.data}, relative to the suite's file; synthetic without it"
            properties[DATA] = {"type": "string", "minLength": 1, "description": description}
        return {
            "type": "object",
            "description": self.description,
            "properties": {"name": {"const": self.name}, **properties},
            "required": ["name"],
            "additionalProperties": False,
        }

    def to_dict(self) -> dict[str, Any]:
        """The model for `--json`."""
        return {
            "description": self.description,
            "source": self.source,
            "data": self.data,
            "parameters": {name: value.model_dump(mode="json") for name, value in self.parameters.items()},
            "configurations": {name: self.configuration(name) for name in self.configurations},
            "published": [published.model_dump(mode="json") for published in self.published],
        }

    def configuration(self, name: str) -> dict[str, Any]:
        """All parameters of a configuration."""
        values = self.resolve({CONFIGURATION: name})
        del values["name"]
        return values


@functools.cache
def registry() -> Mapping[str, Model]:
    """All models by name, in alphabetical order. Raises `UsageError` for a plug-in that cannot be used."""
    package = importlib.import_module(frameworks.DEFAULT.models_package)
    models: dict[str, Model] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            name = info.name.replace("_", "-")
            models[name] = _read(name, importlib.import_module(f"{package.__name__}.{info.name}"))
    for name, module in plugins.load(GROUP).items():
        if name in models:
            raise plugins.error(GROUP, name, "the name is taken")
        try:
            models[name] = _read(name, module, external=True)
        except (AttributeError, TypeError, ValueError) as e:
            raise plugins.error(GROUP, name, f"not a model: {e}") from e
    return dict(sorted(models.items()))


def _read(name: str, module: ModuleType, *, external: bool = False) -> Model:
    if not is_valid(name):
        raise ValueError(f"not a valid model name: {name!r}")
    if not callable(module.build) or module.__file__ is None:
        raise TypeError("there is no function `build`")
    model = Model(
        name=name,
        description=str(module.DESCRIPTION),
        parameters={key: parameters.parse(value) for key, value in module.PARAMETERS.items()},
        path=Path(module.__file__),
        source=str(getattr(module, "SOURCE", "")),
        configurations=dict(getattr(module, "CONFIGURATIONS", {})),
        published=tuple(Published.model_validate(value) for value in getattr(module, "PUBLISHED", ())),
        data=str(getattr(module, "DATA", "")),
        external=external,
    )
    for key in (CONFIGURATION, DATA):
        if key in model.parameters:
            raise ValueError(f"a parameter must not be named {key!r}")
    for values in model.configurations.values():
        model.resolve(values)
    for published in model.published:
        model.resolve({CONFIGURATION: published.configuration, **published.parameters})
    return model


def names() -> tuple[str, ...]:
    """The names of all models."""
    return tuple(registry())


def resolve(name: str, **values: int | str) -> dict[str, Any]:
    """The model `name` with these parameters, and defaults for the others."""
    return registry()[name].resolve(values)
