# SPDX-License-Identifier: Apache-2.0
"""What a target says about itself: system, processors, memory nodes, programs. One command, no Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from testbed.common.errors import InfrastructureError
from testbed.guestlink.shell import Shell

PROGRAMS = {  # program -> Debian package
    "choom": "util-linux",
    "chroot": "coreutils",
    "flock": "util-linux",
    "gzip": "gzip",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "sha256sum": "coreutils",
    "tar": "tar",
    "taskset": "util-linux",
    "timeout": "coreutils",
    "unshare": "util-linux",
}
# $1: the target's folder, which may not exist; the rest: programs
_SCRIPT = r"""
PATH=$PATH:/usr/sbin:/sbin
echo "system $(uname -s)"; echo "processor $(uname -m)"
echo "release $(uname -r)"; echo "version $(uname -v)"
echo "os $(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
echo "cpu $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
echo "cpus $(getconf _NPROCESSORS_ONLN)"
echo "user $(id -u)"
[ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null && echo "sudo yes"
echo "id $(cat /etc/machine-id 2>/dev/null)"
echo "available $(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)"
for folder in /sys/devices/system/node/node[0-9]*; do
  [ -d "$folder" ] || continue
  sizes=$(sed -n 's/.*\(MemTotal\|MemFree\): *\([0-9]*\).*/\2/p' "$folder/meminfo" | tr '\n' ' ')
  echo "node ${folder##*/node} $sizes $(cat "$folder/cpulist")"
done
for cache in /sys/devices/system/cpu/cpu0/cache/index[0-9]*; do
  [ -e "$cache/size" ] && echo "cache $(cat "$cache/size")"
done
grep -qw overlay /proc/filesystems || modprobe -q -n overlay 2>/dev/null && echo "overlay yes"
[ -e /dev/loop-control ] || modprobe -q -n loop 2>/dev/null && echo "loop yes"
[ -e /dev/page_profile ] && echo "page_profile yes"
folder=$1; shift
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
echo "disk $(df -Pk "$folder" | awk 'NR == 2 { print $4 }')"
for program; do command -v "$program" >/dev/null || echo "missing $program"; done
true
"""


@dataclass(frozen=True)
class Node:
    """A memory node. Sizes in bytes."""

    number: int
    total: int
    free: int
    cpus: str = ""  # such as 0-3,8


@dataclass(frozen=True)
class Facts:
    """What a target says about itself. Sizes in bytes; `disk` is free where its folder is."""

    system: str = ""
    processor: str = ""
    release: str = ""
    version: str = ""
    os: str = ""
    cpu: str = ""
    cpus: int = 0
    user: int = -1
    sudo: bool = False
    id: str = ""
    available: int = 0
    cache: int = 0
    disk: int = 0
    overlay: bool = False
    loop: bool = False
    page_profile: bool = False
    nodes: Sequence[Node] = ()
    missing: Sequence[str] = field(default_factory=tuple)

    def node(self, number: int) -> Node | None:
        """The node with this number; None if there is none with memory."""
        return next((node for node in self.nodes if node.number == number and node.total), None)


def read(shell: Shell, folder: PurePosixPath) -> Facts:
    """Ask the target. Raises `InfrastructureError` if it does not answer as Linux does."""
    words = ["sh", "-c", _SCRIPT, "sh", str(folder), *PROGRAMS]
    result = shell.run(shlex.join(words), check=False, timeout=60)
    if "system " not in result.out:
        problem = (result.err.strip() or result.out.strip() or "no answer").splitlines()[-1]
        raise InfrastructureError(f"{shell.place} is not a Linux machine with a shell: {problem}")
    return parse(result.out)


def answers(text: str) -> dict[str, list[str]]:
    """Return the values of an answer, which has a line for each: its name, a space, and the value."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key, []).append(value.strip())
    return values


def parse(text: str) -> Facts:
    r"""Read the answer of a target.

    >>> parse('system Linux\nnode 0 1024 512 0-1\ncache 32K\ncache 2M').cache
    2097152
    """
    values = answers(text)

    def one(key: str) -> str:
        return values.get(key, [""])[0]

    def number(key: str) -> int:
        return int(one(key)) if one(key).isdecimal() else 0

    nodes = []
    for line in values.get("node", ()):
        words = [*line.split(), ""]
        if len(words) >= 4 and all(word.isdecimal() for word in words[:3]):
            nodes.append(Node(int(words[0]), int(words[1]) << 10, int(words[2]) << 10, words[3]))
    return Facts(
        **{key: one(key) for key in ("system", "processor", "release", "version", "os", "cpu", "id")},
        cpus=number("cpus"),
        user=number("user") if one("user") else -1,
        sudo=one("sudo") == "yes",
        available=number("available") << 10,
        cache=max(map(_size, values.get("cache", ())), default=0),
        disk=number("disk") << 10,
        overlay=one("overlay") == "yes",
        loop=one("loop") == "yes",
        page_profile=one("page_profile") == "yes",
        nodes=tuple(sorted(nodes, key=lambda node: node.number)),
        missing=tuple(values.get("missing", ())),
    )


def _size(text: str) -> int:
    """Bytes of a size as sysfs writes it: 512K, 36M."""
    units = {"K": 10, "M": 20, "G": 30}
    digits, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "")
    return int(digits) << units.get(unit, 0) if digits.isdecimal() else 0
