# SPDX-License-Identifier: Apache-2.0
"""Where the files of an installed kernel are on a target."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Places:
    """Paths on a target, all below `root`: empty for the machine's own."""

    root: str = ""

    @property
    def boot(self) -> str:
        return f"{self.root}/boot"

    @property
    def kernels(self) -> str:
        """The folder with one folder for each kernel."""
        return f"{self.boot}/sentinel"

    @property
    def made(self) -> str:
        """The list of what was created outside of the folders that are only ours."""
        return f"{self.kernels}/made"

    @property
    def environment(self) -> str:
        """GRUB's variables that survive a reboot."""
        return f"{self.boot}/grub/grubenv"

    @property
    def menu(self) -> str:
        """What GRUB boots, as update-grub writes it."""
        return f"{self.boot}/grub/grub.cfg"

    @property
    def entries(self) -> str:
        """The script that prints our menu entries."""
        return f"{self.root}/etc/grub.d/99_sentinel"

    @property
    def default(self) -> str:
        """The setting that makes one of our kernels the default."""
        return f"{self.root}/etc/default/grub.d/99-sentinel.cfg"

    def kernel(self, release: str) -> str:
        """The folder of a kernel."""
        return f"{self.kernels}/{release}"

    def config(self, release: str) -> str:
        """The configuration of a kernel, which mkinitramfs reads."""
        return f"{self.boot}/config-{release}"

    def modules(self, release: str) -> str:
        """The modules of a kernel."""
        return f"{self.root}/lib/modules/{release}"


def is_ours(release: str) -> bool:
    """Return whether this is the release of a kernel of ours. Nothing of others may be removed.

    >>> is_ours('6.1.192-sentinel-0123456789ab'), is_ours('6.1.0-18-amd64')
    (True, False)
    """
    return re.fullmatch(r"\d[\w.+-]*-sentinel-[0-9a-f]{12}", release) is not None


def entry_id(release: str) -> str:
    """The name of a kernel's menu entry."""
    return f"sentinel-{release}"
