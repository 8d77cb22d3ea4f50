# SPDX-License-Identifier: Apache-2.0
"""The values in suite files: models and scripts, policies, budgets, names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

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


def suite_name(text: str) -> str:
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


def _known_parameters(values: dict[str, Any]) -> dict[str, Any]:
    known = {key for model in models.registry().values() for key in model.parameters}
    for key in values:
        if key not in known:
            raise ValueError(f"no model has the parameter {key}; there are: {', '.join(sorted(known))}")
    return values


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
            {"name": core_schema.typed_dict_field(handler.generate_schema(ModelName))},
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


ModelName = Annotated[str, OneOf(models.names)]
ModelEntry = Annotated[dict[str, Any], _ModelSchema()]
Placement = Annotated[str, OneOf(policies.names), BeforeValidator(_not_former)]
Budget = Annotated[str, Field(pattern=f"^({_SHARE}|{_SIZE})$"), BeforeValidator(_budget)]
ModelDefaults = Annotated[dict[str, Any], AfterValidator(_known_parameters)]
Steps = Annotated[int, Field(ge=1, le=100_000)] | None
Warmup = Annotated[int, Field(ge=0, le=1000)]
Threads = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Repeats = Annotated[int, Field(ge=1, le=999)]
