# SPDX-License-Identifier: Apache-2.0
"""Parameters of models: whole numbers within bounds, or one of several choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from testbed.common.schema import Strict


class Range(Strict):
    """A whole number from `minimum` to `maximum`."""

    default: int
    minimum: int
    maximum: int
    description: str

    @model_validator(mode="after")
    def _default_within_bounds(self) -> Self:
        if not self.minimum <= self.default <= self.maximum:
            raise ValueError(f"the default {self.default} is not within {self.minimum} to {self.maximum}")
        return self

    @property
    def allowed(self) -> str:
        """The bounds in words."""
        return f"{self.minimum}-{self.maximum}"

    def problem(self, key: str, value: object) -> InitErrorDetails | None:
        """Return pydantic's error for a wrong value."""
        if type(value) is not int:
            return InitErrorDetails(type="int_type", loc=(key,), input=value)
        if value < self.minimum:
            return InitErrorDetails(
                type="greater_than_equal", loc=(key,), input=value, ctx={"ge": self.minimum}
            )
        if value > self.maximum:
            return InitErrorDetails(type="less_than_equal", loc=(key,), input=value, ctx={"le": self.maximum})
        return None

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the parameter's values."""
        return {"type": "integer", **self.model_dump()}


class Choice(Strict):
    """One of several words or whole numbers."""

    default: str | int
    choices: Annotated[tuple[str | int, ...], Field(min_length=1)]
    description: str

    @model_validator(mode="after")
    def _default_is_a_choice(self) -> Self:
        if not self._has(self.default):
            raise ValueError(f"the default {self.default} is not one of {self.allowed}")
        return self

    def _has(self, value: object) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    @property
    def allowed(self) -> str:
        """The choices in words."""
        return ", ".join(map(str, self.choices))

    def problem(self, key: str, value: object) -> InitErrorDetails | None:
        """Return pydantic's error for a wrong value."""
        if self._has(value):
            return None
        error = PydanticCustomError("choice", "must be one of {allowed}", {"allowed": self.allowed})
        return InitErrorDetails(type=error, loc=(key,), input=value)

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the parameter's values."""
        return {"enum": list(self.choices), "default": self.default, "description": self.description}


Parameter = Range | Choice


def parse(value: Mapping[str, Any]) -> Parameter:
    """Return the parameter that a model's file declares. Raises pydantic's `ValidationError`."""
    return (Choice if "choices" in value else Range).model_validate(value)
