# SPDX-License-Identifier: Apache-2.0
"""How suites and commands name a target, a real machine: `host`, or `{ssh: user@host}`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from testbed.common.errors import UsageError
from testbed.common.schema import Strict

VM, HOST = "vm", "host"
_SSH = "ssh:"
_ALLOWED = f"must be {VM}, {HOST}, or {{ssh: user@host}}"
_ADDRESS = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9\[][A-Za-z0-9_.:%\]-]*$"


class Target(Strict):
    """A real machine. Without `ssh` it is this host."""

    ssh: Annotated[str | None, Field(pattern=_ADDRESS, description="user and host, such as root@optane1")] = (
        None
    )
    port: Annotated[int, Field(ge=1, le=65535, description="of its SSH server")] = 22
    key: Annotated[Path | None, Field(description="a private key; else the SSH agent and ~/.ssh")] = None
    folder: Annotated[
        Path | None, Field(description="a folder of the target for image and work; /var/tmp/sentinel")
    ] = None

    @property
    def name(self) -> str:
        """The name in messages and records: `host`, or user and host."""
        return self.ssh or HOST

    def identity(self) -> dict[str, Any]:
        """What cells record: the machine, without how it is reached."""
        return {"name": self.name}


def _read(value: Any) -> Any:
    if isinstance(value, Target | dict) or value is None:
        if isinstance(value, dict) and "ssh" not in value:
            raise ValueError(f"{_ALLOWED}: `ssh` is missing")
        return value
    if value == VM:
        return None
    if value == HOST:
        return Target()
    raise ValueError(_ALLOWED)


TargetField = Annotated[
    Target | None,
    BeforeValidator(_read),
    WithJsonSchema({"anyOf": [{"enum": [VM, HOST]}, {**Target.model_json_schema(), "required": ["ssh"]}]}),
]


def parse(text: str) -> Target | None:
    """Return the target that a command names, `host` or `ssh:user@host[:port]`; None for `vm`.

    Raises `UsageError`.
    """
    if text in (VM, HOST):
        return Target() if text == HOST else None
    address, colon, port = text.removeprefix(_SSH).partition(":")
    if not text.startswith(_SSH) or (colon and not port.isdecimal()):
        raise UsageError(f"target {text!r}: must be {VM}, {HOST}, or {_SSH}user@host or {_SSH}user@host:port")
    try:
        return Target.model_validate({"ssh": address, **({"port": int(port)} if colon else {})})
    except ValidationError:
        raise UsageError(f"target {text!r}: must be {_SSH}user@host or {_SSH}user@host:port") from None
