# SPDX-License-Identifier: Apache-2.0
"""Kernel versions and half-open ranges of them: `[since, until)`."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from testbed.common.schema import Strict


class Version(NamedTuple):
    """VERSION, PATCHLEVEL and SUBLEVEL of a kernel's top Makefile; 4.9 is 4.9.0."""

    version: int
    patchlevel: int
    sublevel: int = 0

    @property
    def series(self) -> str:
        """`4.9` of 4.9.337."""
        return f"{self.version}.{self.patchlevel}"

    def __str__(self) -> str:
        return f"{self.series}.{self.sublevel}"


def parse(text: str) -> Version:
    """Parse `4.9` or `4.9.337`. Raises ValueError for anything else.

    >>> parse('4.9') < parse('4.9.337') < parse('4.10')
    True
    """
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}", text):
        raise ValueError(f"must be a kernel version such as 4.9 or 4.9.337, not {text!r}")
    return Version(*(int(part) for part in text.split(".")))


def of_makefile(text: str) -> Version | None:
    """Return the version declared in a kernel's top Makefile, None if it declares none."""
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL)\s*=\s*(\d+)\s*$", text, re.MULTILINE))
    if not {"VERSION", "PATCHLEVEL"} <= fields.keys():
        return None
    return Version(int(fields["VERSION"]), int(fields["PATCHLEVEL"]), int(fields.get("SUBLEVEL", 0)))


def _checked(text: str) -> str:
    parse(text)
    return text


Text = Annotated[str, AfterValidator(_checked)]
"""A version in a YAML file."""


class Ranged(Strict):
    """An entry for the versions in `[since, until)`. A missing end is open."""

    since: Text | None = None
    until: Text | None = None

    def concerns(self, version: Version) -> bool:
        return (self.since is None or parse(self.since) <= version) and (
            self.until is None or version < parse(self.until)
        )
