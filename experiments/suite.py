# SPDX-License-Identifier: Apache-2.0
"""The format of suite files.

name: first
machine: two-node
preset: optane-6dimm
kernel: auto
models:
  - { name: cnn, batch: 8 }
  - { script: my/train.py, args: [--epochs, "2"], files: [my/data] }
placements: [fast-only, slow-only, first-touch, sentinel-opt]
fast_memory: [20%, 40%]
steps: 5
warmup: 1
repeats: 3
seed: 7
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from experiments import models, policies
from kernel import source as kernels
from testbed.common import yaml_scalars
from testbed.common.names import is_valid
from testbed.common.schema import Strict

_SHARE = "([1-9][0-9]?|100)%"
_SIZE = r"[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB)"
_FORMER_POLICIES = {
    "published": "'published' is now called 'sentinel'; the former 'sentinel' is 'sentinel-opt'",
}


@dataclass(frozen=True)
class OneOf:
    """Restricts text to the names of a registry, and lists them in messages and in the JSON Schema."""

    names: Callable[[], Sequence[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the name before its type, so that a message can list the allowed ones."""
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the names as an enumeration."""
        return {**handler(schema), "enum": list(self.names())}

    def _check(self, value: object) -> object:
        if str(value) not in self.names():
            raise ValueError(f"must be one of {', '.join(map(yaml_scalars.plain, self.names()))}")
        return value


def _suite_name(text: str) -> str:
    if not is_valid(text):
        raise ValueError(
            "must be lower-case letters, digits and dashes, at most 40, not starting with a dash"
        )
    return text


def _budget(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(f"{_SHARE}|{_SIZE}", value):
        raise ValueError(
            "must be a share of the model's peak from 1% to 100%, such as 40%, or a size, such as 14 MiB"
        )
    return value


def _not_former(value: object) -> object:
    if isinstance(value, str) and value in _FORMER_POLICIES:
        raise ValueError(_FORMER_POLICIES[value])
    return value


class _ScriptEntry(Strict):
    """A user's script among the models. Paths are relative to the suite's file."""

    script: Annotated[str, Field(description="a training script; path relative to the suite's file")]
    args: Annotated[list[str], Field(default_factory=list, description="its command-line arguments")]
    files: Annotated[
        list[str],
        Field(default_factory=list, description="files and folders that it needs, in its own folder"),
    ]
    step_ops: Annotated[
        list[str],
        Field(default_factory=list, description="operations whose runs are steps, if not recognised"),
    ]


class _ModelSchema:
    """Validates a model by its own parameters, or a script; the result has all of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Resolve the mapping after its `name` is known."""
        named = core_schema.typed_dict_schema(
            {"name": core_schema.typed_dict_field(handler.generate_schema(_ModelName))},
            extra_behavior="allow",
        )
        return core_schema.no_info_wrap_validator_function(self._validate, named)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe each model with its parameters, and scripts."""
        script = _ScriptEntry.model_json_schema()
        for field in (script, *script["properties"].values()):
            field.pop("title", None)
        return {"oneOf": [*(model.json_schema() for model in models.registry().values()), script]}

    @staticmethod
    def _validate(value: Any, named: core_schema.ValidatorFunctionWrapHandler) -> dict[str, Any]:
        if not isinstance(value, dict) or "script" not in value:
            model = named(value)
            return models.registry()[model["name"]].resolve({k: v for k, v in model.items() if k != "name"})
        allowed = _ScriptEntry.model_fields
        problems = [_script_problem(key, value[key]) for key in value if key not in allowed]
        if problems:
            raise ValidationError.from_exception_data("script", problems)
        return _ScriptEntry.model_validate(value, strict=True).model_dump()


def _script_problem(key: str, value: Any) -> InitErrorDetails:
    """The error for a key that a script cannot have."""
    text = f"a script has no such key; allowed: {', '.join(_ScriptEntry.model_fields)}"
    if key == "name":
        text = "a model has a `name` or a `script`, not both"
    problem = PydanticCustomError("script_key", "{text}", {"text": text})
    return InitErrorDetails(type=problem, loc=(key,), input=value)


_ModelName = Annotated[str, OneOf(models.names)]
_Model = Annotated[dict[str, Any], _ModelSchema()]
_Placement = Annotated[str, OneOf(policies.names), BeforeValidator(_not_former)]
_Budget = Annotated[str, Field(pattern=f"^({_SHARE}|{_SIZE})$"), BeforeValidator(_budget)]


class Suite(Strict):
    """A suite. `steps` counts the measured steps, which follow `warmup` unmeasured ones."""

    name: Annotated[str, AfterValidator(_suite_name), Field(description="name of the suite")]
    description: str = ""
    machine: Annotated[str, Field(description="a machine by name, or a path to its YAML file")] = "two-node"
    preset: Annotated[
        str | None,
        Field(
            description="a preset by name, or a path to its YAML file; without one, nodes are equally fast"
        ),
    ] = None
    kernel: Annotated[str, OneOf(kernels.names)] = kernels.AUTO
    models: Annotated[
        tuple[_Model, ...],
        Field(min_length=1, examples=["[{name: cnn}]"], description="models, and scripts of users"),
    ]
    placements: Annotated[
        tuple[_Placement, ...],
        Field(min_length=1, examples=["[fast-only, slow-only]"], description="policies to compare"),
    ]
    fast_memory: Annotated[
        tuple[_Budget, ...],
        Field(
            examples=["[40%]"],
            description="budgets: shares of the model's peak, or sizes; without them all of node 0 is used",
        ),
    ] = ()
    steps: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        Field(description="measured steps of a repeat; null: until the script ends"),
    ] = 5
    warmup: Annotated[int, Field(ge=0, le=1000, description="unmeasured steps before them")] = 1
    repeats: Annotated[int, Field(ge=1, le=999, description="repeats of each cell")] = 5
    threads: Annotated[int, Field(ge=1, le=64, description="compute threads of the framework")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31, description="seed of weights and data")] = 7

    online: Annotated[
        bool, Field(description="profile and plan within the training, for policies that can")
    ] = False

    mode: Annotated[
        Literal["emulate", "replay"],
        Field(description="replay: record a step of each model once, and replay it for each cell"),
    ] = "emulate"

    @property
    def runtime(self) -> bool:
        """Whether the Sentinel runtime manages the tensors: in all cells or none, for equal allocators."""
        return bool(self.fast_memory) or any(policies.get(name).needs.runtime for name in self.placements)
