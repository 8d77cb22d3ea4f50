# SPDX-License-Identifier: Apache-2.0
"""What a machine starts from: a kernel and an image (`Boot`), or a saved machine (`SavedVm`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.host.remote_memory import RemoteMemory
from testbed.machine import Machine
from testbed.timing.preset import Preset


@dataclass(frozen=True)
class Boot:
    """A machine spec with its artefacts.

    `uses` are cache entries that must not be pruned while the machine runs. `preset` selects the timing
    model; without one, memory has the host's speed. `remote` places the guest's memory on host nodes, under
    KVM. The accelerator is `hardware` for a real machine, which is not booted.
    """

    machine: Machine
    kernel: Path
    image: Path
    accelerator: Literal["kvm", "tcg", "hardware"]
    uses: tuple[Entry, ...] = ()
    preset: Preset | None = None
    remote: RemoteMemory | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads."""
        return {
            "machine": self.machine.model_dump(mode="json"),
            "kernel": str(self.kernel),
            "image": str(self.image),
            "accelerator": self.accelerator,
            "uses": [[e.kind, e.key] for e in self.uses],
            **({"preset": self.preset.model_dump(mode="json")} if self.preset else {}),
            **({"remote": self.remote.to_json()} if self.remote else {}),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], *, cache: Cache) -> Boot:
        """Read what `to_json` returned; entries that `cache` no longer has are left out of `uses`."""
        entries = (cache.get(kind, key) for kind, key in value["uses"])
        return cls(
            machine=Machine.model_validate(value["machine"]),
            kernel=Path(value["kernel"]),
            image=Path(value["image"]),
            accelerator=value["accelerator"],
            uses=tuple(e for e in entries if e is not None),
            preset=Preset.model_validate(value["preset"]) if "preset" in value else None,
            remote=RemoteMemory.from_json(value["remote"]) if "remote" in value else None,
        )


@dataclass(frozen=True)
class SavedVm:
    """A saved machine: memory, disk, and the console up to then.

    `name` and `uuid` are libvirt's; a restored domain keeps both.
    """

    boot: Boot
    memory: Path
    disk: Path
    console: Path
    name: str
    uuid: str

    def with_preset(self, preset: Preset | None) -> SavedVm:
        """Return the same machine with another preset, which applies from its restore on."""
        return replace(self, boot=replace(self.boot, preset=preset))
