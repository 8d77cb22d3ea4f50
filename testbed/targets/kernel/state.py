# SPDX-License-Identifier: Apache-2.0
"""What a target says about how it boots, and about our kernels on it. One command, which changes nothing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.common.errors import InfrastructureError
from testbed.guestlink.shell import Shell
from testbed.targets import facts
from testbed.targets.kernel.places import Places, is_ours

PROGRAMS = {  # program -> Debian package
    "depmod": "kmod",
    "grub-editenv": "grub-common",
    "grub-probe": "grub-common",
    "grub-reboot": "grub2-common",
    "mkinitramfs": "initramfs-tools",
    "update-grub": "grub2-common",
}
# $1: the root of everything; the rest: programs
_SCRIPT = r"""
PATH=$PATH:/usr/sbin:/sbin
root=$1; shift
free() { while [ ! -d "$1" ]; do set -- "$(dirname "$1")"; done; df -Pk "$1" | awk 'NR == 2 { print $4 }'; }
release=$(uname -r)
echo "release $release"
echo "boot_id $(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null)"
echo "cmdline $(cat "$root/proc/cmdline" 2>/dev/null)"
sizes=$(grep -m 1 '^address sizes' "$root/proc/cpuinfo" 2>/dev/null)
echo "address_bits $(echo "$sizes" | sed -n 's/^[^:]*: *\([0-9]*\) bits physical.*/\1/p')"
variable=$root/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
echo "secure_boot $(od -An -t u1 -j 4 -N 1 "$variable" 2>/dev/null | tr -d ' ')"
for program; do command -v "$program" >/dev/null || echo "missing $program"; done
menu=$root/boot/grub/grub.cfg
if [ -e "$menu" ]; then
  echo "menu yes"
  grep -q next_entry "$menu" && echo "once yes"
  grep -q '^[[:space:]]*set superusers' "$menu" && echo "password yes"
  grep -q "'sentinel-" "$menu" && echo "listed yes"
  grep -m 1 -E '^[[:space:]]*(menuentry|submenu) ' "$menu" | grep -q "'sentinel-" && echo "first yes"
  grep -o 'set default="sentinel-[^"]*"' "$menu" | sed -n 's/.*"sentinel-\(.*\)"/default \1/p' | head -n 1
  grep -o "'sentinel-[^']*' {" "$menu" | sed "s/'sentinel-\(.*\)' {/entry \1/"
fi
for target in abstraction fs; do
  grub-probe --target=$target "$root/boot/grub" 2>/dev/null | sed 's/^/environment /'
done
echo "boot_free $(free "$root/boot")"
echo "modules_free $(free "$root/lib/modules")"
echo "initramfs $(stat -L -c %s "$root/boot/initrd.img-$release" 2>/dev/null)"
[ -w "$root/boot" ] && echo "writable yes"
for folder in "$root"/boot/sentinel/*/; do
  [ -d "$folder" ] || continue
  name=$(basename "$folder")
  if [ -e "$folder/cmdline" ]; then echo "installed $name"; else echo "partial $name"; fi
done
for file in boot/sentinel etc/grub.d/99_sentinel etc/default/grub.d/99-sentinel.cfg; do
  [ -e "$root/$file" ] && echo "file $file"
done
echo "end"
"""
_WITHIN = 60.0


@dataclass(frozen=True)
class BootState:
    """How a target boots. Sizes in bytes."""

    release: str
    boot_id: str = ""
    cmdline: str = ""
    address_bits: int = 0  # 0: unknown
    secure_boot: bool = False
    missing: Sequence[str] = ()
    menu: bool = False  # there is a grub.cfg ...
    once: bool = False  # ... that obeys grub-reboot
    password: bool = False  # ... whose entries ask for a password
    environment: Sequence[str] = ()  # abstractions and file system of GRUB's folder
    boot_free: int = 0
    modules_free: int = 0
    initramfs: int = 0  # size of that of the running kernel; 0: unknown
    writable: bool = False
    installed: Sequence[str] = ()  # releases of complete kernels of ours
    partial: Sequence[str] = ()  # releases of which something is there
    entries: Sequence[str] = ()  # releases that have a menu entry
    first: bool = False  # whether the first entry is one of them
    default: str = ""  # the release that GRUB's settings make the default, if it is one of ours
    traces: bool = False  # whether anything of ours is there

    @property
    def running(self) -> bool:
        """Whether a kernel of ours runs."""
        return self.release in (*self.installed, *self.partial)


def read(shell: Shell, places: Places) -> BootState:
    """Ask the target. Raises `InfrastructureError` if it does not answer."""
    words = ["sh", "-c", _SCRIPT, "sh", places.root, *PROGRAMS]
    result = shell.run(shlex.join(words), check=False, timeout=_WITHIN)
    if "end" not in result.out.split("\n"):
        problem = (result.err.strip() or "no answer").splitlines()[-1]
        raise InfrastructureError(f"{shell.place} does not say how it boots: {problem}")
    return parse(result.out)


def parse(text: str) -> BootState:
    r"""Read the answer of a target.

    >>> parse('release 6.1.0-18-amd64\nsecure_boot 1\nboot_free 1024').boot_free
    1048576
    """
    answers = facts.answers(text)

    def one(key: str) -> str:
        return answers.get(key, [""])[0]

    def number(key: str) -> int:
        return int(one(key)) if one(key).isdecimal() else 0

    def yes(key: str) -> bool:
        return one(key) == "yes"

    def several(key: str) -> tuple[str, ...]:
        return tuple(answers.get(key, ()))

    return BootState(
        release=one("release"),
        boot_id=one("boot_id"),
        cmdline=one("cmdline"),
        address_bits=number("address_bits"),
        secure_boot=one("secure_boot") == "1",
        missing=several("missing"),
        menu=yes("menu"),
        once=yes("once"),
        password=yes("password"),
        environment=several("environment"),
        boot_free=number("boot_free") << 10,
        modules_free=number("modules_free") << 10,
        initramfs=number("initramfs"),
        writable=yes("writable"),
        installed=tuple(filter(is_ours, several("installed"))),
        partial=tuple(filter(is_ours, several("partial"))),
        entries=several("entry"),
        first=yes("first"),
        default=one("default"),
        traces=yes("listed") or bool(several("file")),
    )
