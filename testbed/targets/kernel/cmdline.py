# SPDX-License-Identifier: Apache-2.0
"""The kernel command line of a menu entry, made of that of the running kernel. Pure functions."""

from __future__ import annotations

import re
import shlex

# A kernel that panics, or that finds no root file system, gives way to the default one after so many seconds.
_PANIC = "panic=30"
_OF_THE_LOADER = ("BOOT_IMAGE=", "initrd=")


def root_of(running: str) -> str | None:
    """Return the value of `root=`; None without one."""
    values = [word.removeprefix("root=") for word in _words(running) if word.startswith("root=")]
    return values[-1] if values else None


def for_entry(running: str) -> str:
    """Return the words for GRUB's `linux` command that give a kernel the options of the running one.

    >>> for_entry('BOOT_IMAGE=/vmlinuz root=UUID=1-2 ro "dyndbg=file a.c +p"')
    "root=UUID=1-2 ro 'dyndbg=file a.c +p' panic=30"
    """
    words = [word for word in _words(running) if not word.startswith(_OF_THE_LOADER)]
    options = words[: words.index("--")] if "--" in words else words  # the rest is for init
    if not any(word.startswith("panic=") for word in options):
        words.insert(len(options), _PANIC)
    return " ".join(shlex.quote(word) for word in words)  # GRUB's quotes are those of a shell


def _words(line: str) -> list[str]:
    """Split as the kernel does: at white space outside of double quotes, which are dropped."""
    return [word.replace('"', "") for word in re.findall(r'(?:"[^"]*"?|[^\s"])+', line)]
