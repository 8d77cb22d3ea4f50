# SPDX-License-Identifier: Apache-2.0
"""The combinations of settings that a suite asks for, before anything that it names is read.

The lists `models`, `placements` and `fast_memory`, and those of `vary`, are combined; lists in a group of
`zip` are paired value by value. `exclude` removes combinations, `include` adds further matrices, and
`overrides` change settings of what is left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from experiments import policies
from experiments.suite import AXES, VARIED, Included, Override, Selector, Suite
from testbed.common import schema
from testbed.common.core_yaml import KeyPath
from testbed.common.errors import UsageError

Error = Callable[[KeyPath, str], UsageError]
MAX_CELLS = 100_000


@dataclass(frozen=True)
class Setting:
    """A value and its place in the suite."""

    value: Any
    place: KeyPath


Axes = dict[str, list[Setting]]


@dataclass(frozen=True)
class Combination:
    """One cell to be: `repeats`, and a setting for each name in `AXES` and `VARIED`.

    The value of `models` is an index into `Suite.all_models`. Those of `fast_memory` and `mechanism` are None
    for policies that they do not affect.
    """

    settings: Mapping[str, Setting]
    repeats: int

    def __getitem__(self, name: str) -> Any:
        """The value of a setting."""
        return self.settings[name].value

    def place(self, name: str) -> KeyPath:
        """Where the suite gives a setting."""
        return self.settings[name].place

    @property
    def values(self) -> tuple[Any, ...]:
        """The values of all settings: equal for equal cells."""
        return tuple(self[name] for name in (*AXES, *VARIED))


def _error(where: KeyPath, problem: str) -> UsageError:
    return UsageError(f"{schema.shown(where)}: {problem}")


def expand(suite: Suite, error: Error = _error) -> list[Combination]:
    """Return the combinations in the order of the suite. Raises what `error` makes of a mistake."""
    axes = {name: _values(suite, name) for name in (*AXES, *VARIED)}
    _check_zip(suite, axes, error)
    chosen = _product(suite, axes, suite.zip, error)
    models = [model for _, model in suite.all_models()]
    for n, selector in enumerate(suite.exclude):
        kept = [one for one in chosen if not _matches(selector, one, models)]
        if len(kept) == len(chosen):
            raise error(("exclude", n), "no cell has these settings")
        chosen = kept
    for n, entry in enumerate(suite.include):
        more = _product(suite, {**axes, **_included(suite, entry, n)}, (), error)
        extended = _unique([*chosen, *more])
        if len(extended) == len(chosen):
            raise error(("include", n), "adds no cell: all of them are there already")
        chosen = extended
    if not chosen:
        raise error(("exclude",), "no cell is left")
    for n, override in enumerate(suite.overrides):
        chosen = _overridden(suite, override, n, chosen, models, error)
    return chosen


def _values(suite: Suite, name: str) -> list[Setting]:
    """The values of an axis in the suite's own matrix."""
    if name == "models":
        return [Setting(_first(suite, model), ("models", i)) for i, model in enumerate(suite.models)]
    listed = getattr(suite.vary if name in VARIED else suite, name)
    place: KeyPath = ("vary", name) if name in VARIED else (name,)
    single = getattr(suite, name) if name in VARIED else None
    return [Setting(value, (*place, i)) for i, value in enumerate(listed)] or [Setting(single, (name,))]


def _included(suite: Suite, entry: Included, n: int) -> Axes:
    """The axes that an entry of `include` gives."""
    given: Axes = {}
    for name in (*AXES, *VARIED):
        values = getattr(entry, name)
        if name == "models":
            values = [_first(suite, model) for model in values]
        if values:
            given[name] = [Setting(value, ("include", n, name, i)) for i, value in enumerate(values)]
    return given


def _first(suite: Suite, model: dict[str, Any]) -> int:
    """The index of the first model that is equal."""
    return next(i for i, (_, other) in enumerate(suite.all_models()) if other == model)


def _product(suite: Suite, axes: Axes, groups: Iterable[tuple[str, ...]], error: Error) -> list[Combination]:
    """Combine the values of all axes; those of a group are paired. Budgets go with policies they affect."""
    group_of = {name: group for group in groups for name in group}
    ordered = dict.fromkeys(group_of.get(name, (name,)) for name in axes)
    columns = [
        [dict(zip(names, row, strict=True)) for row in zip(*(axes[name] for name in names), strict=True)]
        for names in ordered
    ]
    count = math.prod(map(len, columns))
    if count > MAX_CELLS:
        raise error((), f"{count:,} combinations, and at most {MAX_CELLS:,} are allowed")
    found = []
    for parts in itertools.product(*columns):
        settings = {name: setting for part in parts for name, setting in part.items()}
        found.append(Combination(_of_policy(suite, settings), suite.repeats))
    return _unique(found)


def _of_policy(suite: Suite, settings: dict[str, Setting]) -> dict[str, Setting]:
    """The settings without those that do not affect the policy. Online plans use `move_pages`."""
    policy = policies.get(settings["placements"].value)
    unaffected = ["fast_memory"] if policy.needs.budget == "none" else []
    if not policy.mechanisms or suite.online:
        unaffected.append("mechanism")
    return settings | {name: replace(settings[name], value=None) for name in unaffected}


def _unique(combinations: Iterable[Combination]) -> list[Combination]:
    """The first of each group of equal combinations."""
    chosen: dict[tuple[Any, ...], Combination] = {}
    for one in combinations:
        chosen.setdefault(one.values, one)
    return list(chosen.values())


def _matches(selector: Selector, one: Combination, models: list[dict[str, Any]]) -> bool:
    for name in (*AXES, *VARIED):
        wanted = getattr(selector, name)
        if name == "models":
            model = models[one["models"]]
            has = any(
                all(key in model and model[key] == part[key] for key in part) for part in selector.models
            )
        else:
            has = one[name] in wanted
        if wanted and not has:
            return False
    return True


def _overridden(
    suite: Suite,
    override: Override,
    n: int,
    chosen: list[Combination],
    models: list[dict[str, Any]],
    error: Error,
) -> list[Combination]:
    names = override.model_fields_set - {"where"}
    if not names:
        changes = ", ".join(name for name in Override.model_fields if name != "where")
        raise error(("overrides", n), f"changes nothing: give one of {changes}")
    other = {
        name: Setting(getattr(override, name), ("overrides", n, name)) for name in names if name in VARIED
    }
    repeats = override.repeats if "repeats" in names else None
    changed = [
        Combination(_of_policy(suite, {**one.settings, **other}), repeats or one.repeats)
        if _matches(override.where, one, models)
        else one
        for one in chosen
    ]
    if all(one is before for one, before in zip(changed, chosen, strict=True)):
        raise error(("overrides", n, "where"), "no cell has these settings")
    if len(_unique(changed)) < len(changed):
        raise error(("overrides", n), "makes cells equal that differ in nothing else")
    return changed


def _check_zip(suite: Suite, axes: Axes, error: Error) -> None:
    """Check the groups of paired lists, and that no list has a value twice."""
    zipped: set[str] = set()
    for n, names in enumerate(suite.zip):
        for i, name in enumerate(names):
            if name in zipped:
                raise error(("zip", n, i), f"{name} is in a group already")
            zipped.add(name)
        lengths = [len(axes[name]) for name in names]
        if len(set(lengths)) > 1:
            sizes = ", ".join(f"{name} {size}" for name, size in zip(names, lengths, strict=True))
            raise error(("zip", n), f"the lists must have equally many values: {sizes}")
        rows = list(zip(*([one.value for one in axes[name]] for name in names), strict=True))
        if len(set(rows)) < len(rows):
            raise error(("zip", n), "two rows are equal")
    for name, values in axes.items():
        seen: set[Any] = set()
        for setting in values if name not in zipped else ():
            if setting.value in seen:
                raise error(setting.place, "duplicate value")
            seen.add(setting.value)
