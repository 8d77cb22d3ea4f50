# SPDX-License-Identifier: Apache-2.0
"""The configuration of a machine's own kernel, reduced to the modules that the machine uses.

A distribution's configuration builds thousands of modules. `make localmodconfig` keeps those that are loaded,
and what they depend on; what is built in stays.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from kernel import config
from kernel.kbuild import Kbuild
from testbed.common import files
from testbed.common.progress import warn

# Messages of scripts/kconfig/streamline_config.pl: no object of this name, or its symbol was not set
_UNKNOWN = re.compile(r"(?:module )?(\S+) (?:config not found!!|did not have configs .*)")


@dataclass(frozen=True)
class MachineConfig:
    """A machine's .config, and the names of the modules that are loaded there."""

    text: str
    modules: frozenset[str]

    @property
    def digest(self) -> str:
        """Hex SHA-256; comments and the order of lines do not matter."""
        return files.sha256_json([config.parse(self.text), sorted(self.modules)])


@dataclass(frozen=True)
class Variant:
    """What makes a kernel another one than that of the same source and fragments.

    The fragments are merged onto the configuration of `machine` instead of one in which everything is off. A
    kernel with a `name` has a release that no other kernel has.
    """

    name: str = ""
    machine: MachineConfig | None = None

    def inputs(self) -> dict[str, str]:
        """Return what distinguishes it in the cache key; nothing for the usual kernels."""
        machine = {} if self.machine is None else {"machine": self.machine.digest}
        return machine | ({"name": self.name} if self.name else {})


USUAL = Variant()


def reduced(machine: MachineConfig, make: Kbuild) -> str:
    """Return the text of the reduced .config for the source of `make`, whose output folder is emptied.

    Warns about loaded modules that the source does not have. Raises `BuildError` if make fails.
    """
    folder = make.output
    shutil.rmtree(folder)  # an interrupted make may have left truncated files
    folder.mkdir()
    log, lsmod = folder / "config.log", folder / "lsmod"
    lsmod.write_text("Module Size Used by\n" + "".join(f"{name}\n" for name in sorted(machine.modules)))
    (folder / ".config").write_text(machine.text)
    unknown: set[str] = set()

    def see(line: str) -> None:
        if match := _UNKNOWN.fullmatch(line):
            unknown.add(match[1])

    make.stream(make.argv("olddefconfig"), log=log)  # localmodconfig would ask for new symbols
    make.stream(make.argv("localmodconfig"), log=log, on_line=see, variables={"LSMOD": str(lsmod)})
    if unknown:
        warn(f"modules of the machine that this kernel will not have: {', '.join(sorted(unknown))}")
    return (folder / ".config").read_text()
