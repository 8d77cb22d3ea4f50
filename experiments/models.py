# SPDX-License-Identifier: Apache-2.0
"""The models that suites can name, with their parameters. Reading them does not import the framework.

sentinel/guest/models/ holds the models and describes their files. Packages from outside add models through
the entry point group GROUP: each entry point names a module of the same form.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from experiments import frameworks, plugins
from testbed.common.names import is_valid
from testbed.common.schema import Strict

GROUP = "sentinel.models"


class Parameter(Strict):
    """A whole-number parameter of a model."""

    default: int
    minimum: int
    maximum: int
    description: str

    @model_validator(mode="after")
    def _default_within_bounds(self) -> Self:
        if not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"the default {self.default} is not within {self.minimum} to {self.maximum}")
        return self

    def problem(self, value: object) -> tuple[str, dict[str, int]] | None:
        """The type and the context of pydantic's error for a wrong value, or None."""
        if type(value) is not int:
            return "int_type", {}
        if value < self.minimum:
            return "greater_than_equal", {"ge": self.minimum}
        if value > self.maximum:
            return "less_than_equal", {"le": self.maximum}
        return None


@dataclass(frozen=True)
class Model:
    """A model: its parameters, and the file that builds it in the guest."""

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    path: Path
    external: bool = False  # from a plug-in

    @property
    def guest_file(self) -> str:
        """The name of the model's file in the guest's package."""
        return f"guest/models/{self.name.replace('-', '_')}.py"

    def resolve(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The model as a cell records it, with every parameter. Raises pydantic's `ValidationError`."""
        problems: list[InitErrorDetails] = []
        for key, value in values.items():
            if key not in self.parameters:
                text = f"{self.name} has no such parameter; allowed: {', '.join(self.parameters)}"
                unknown = PydanticCustomError("unknown_parameter", "{text}", {"text": text})
                problems.append(InitErrorDetails(type=unknown, loc=(key,), input=value))
            elif problem := self.parameters[key].problem(value):
                kind, context = problem
                problems.append(InitErrorDetails(type=kind, loc=(key,), input=value, ctx=context))
        if problems:
            raise ValidationError.from_exception_data(self.name, problems)
        defaults = {key: parameter.default for key, parameter in self.parameters.items()}
        return {"name": self.name, **{key: values.get(key, default) for key, default in defaults.items()}}

    def parameter_list(self) -> str:
        """The parameters in words, with their defaults and bounds."""
        return ", ".join(f"{k}: {p.default} ({p.minimum}-{p.maximum})" for k, p in self.parameters.items())

    def to_dict(self) -> dict[str, Any]:
        """The model for `--json`."""
        parameters = {name: value.model_dump(mode="json") for name, value in self.parameters.items()}
        return {"description": self.description, "parameters": parameters}


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
    parameters = {key: Parameter.model_validate(value) for key, value in module.PARAMETERS.items()}
    return Model(name, str(module.DESCRIPTION), parameters, Path(module.__file__), external)


def names() -> tuple[str, ...]:
    """The names of all models."""
    return tuple(registry())


def resolve(name: str, **values: int) -> dict[str, Any]:
    """The model `name` with these parameters, and defaults for the others."""
    return registry()[name].resolve(values)
