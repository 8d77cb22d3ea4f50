# SPDX-License-Identifier: Apache-2.0
"""Run programs in the guest's root file system on this host, without a machine.

The program runs in mount and process namespaces of its own: the image is mounted read-only through a loop
device, below an overlay whose upper layer is in memory, and is the program's root. It sees the folders of the
host that it is given, the harmless devices, and no other process. All of that ends with the program, however
that ends: nothing is mounted outside of the namespace, and the loop device detaches itself.

That needs root: the kernel mounts no ext4 image for others.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.common.errors import InfrastructureError
from testbed.common.run import spawn, which

_UPPER_SIZE = "1g"  # of what the program may write outside of the host's folders
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROFILER = "page_profile"  # the device of the page-access profiler, in kernels that have it
_BASICS = "HOME=/root LC_ALL=C.UTF-8"
OUTER = "SENTINEL_OUTER_PID"  # in the program's environment: its process id outside of the namespace
_REFUSED = 97  # exit status of the set-up; the last line of its output is _MARK and the step
_MARK = "cannot mount "
# $1: a folder of the host to mount on; $2: the image; $3: the working folder; then pairs of a folder of the
# host and its place, up to `--`; then the command.
_SETUP = f"""
refuse() {{ echo "{_MARK}$*"; exit {_REFUSED}; }}
read -r outer _ </proc/self/stat  # this process outside of its namespace
top=$1 image=$2 folder=$3 path={_PATH}
shift 3
mount -t tmpfs -o size={_UPPER_SIZE},mode=755 tmpfs "$top" || refuse "a file system in memory (tmpfs)"
mkdir "$top/image" "$top/upper" "$top/work" "$top/root"
mount -o loop,ro "$image" "$top/image" || refuse "the image through a loop device"
layers="lowerdir=$top/image,upperdir=$top/upper,workdir=$top/work"
mount -t overlay -o "$layers" overlay "$top/root" || refuse "an overlay file system"
cd "$top/root"
mount -t proc proc proc && mount -t sysfs -o ro sysfs sys || refuse "proc and sysfs"
mount -t tmpfs -o size={_UPPER_SIZE} tmpfs tmp && mount -t tmpfs -o mode=755 tmpfs dev || refuse "tmpfs"
for device in null zero full random urandom tty; do
  : >dev/$device
  mount --bind /dev/$device dev/$device || refuse "the device /dev/$device"
done
if [ -e /dev/{_PROFILER} ]; then : >dev/{_PROFILER} && mount --bind /dev/{_PROFILER} dev/{_PROFILER}; fi
mkdir -m 1777 dev/shm
while [ "$1" != -- ]; do
  mkdir -p ".$2"
  mount --bind "$1" ".$2" || refuse "the folder $1"
  shift 2
done
shift
exec chroot . env -i "PATH=$path" {_BASICS} "{OUTER}=$outer" sh -c 'cd "$0" && exec env "$@"' "$folder" "$@"
"""


@dataclass(frozen=True)
class Root:
    """The root file system in the image `disk`, with `folders` of the host by their place in it.

    `top` is an empty folder of the host, on which nothing is mounted outside of the namespace.
    """

    disk: Path
    top: Path
    folders: Mapping[str, Path] = field(default_factory=dict)

    def command(
        self, program: Sequence[str], *, folder: str = "/", env: Mapping[str, str] | None = None
    ) -> list[str]:
        """Return the command line that runs `program` in `folder` of this root.

        It inherits none of this process's environment.
        """
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        places = [word for place, source in self.folders.items() for word in (str(source), place)]
        return [
            *["setpriv", "--pdeathsig", "KILL"],  # unshare ignores SIGTERM
            *["unshare", "--mount", "--pid", "--fork", "--kill-child"],
            *["sh", "-uc", _SETUP, "sh", str(self.top), str(self.disk), folder, *places, "--"],
            *[*variables, *program],
        ]

    @contextlib.contextmanager
    def running(
        self, program: Sequence[str], *, folder: str = "/", env: Mapping[str, str], log: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run `program` during the block, with its output in `log`, and end it with the block."""
        check_host()
        command = self.command(program, folder=folder, env=env)
        with log.open("ab") as out, spawn(command, stdout=out.fileno()) as process:
            yield process


def check_host() -> None:
    """Raise `InfrastructureError` if this process may not mount the image."""
    if os.geteuid() != 0:
        raise InfrastructureError(
            "only root can run programs in the guest image's root file system: it is mounted",
            hint='sudo -E env PATH="$PATH" sentinel ...',
        )
    for program, package in (("unshare", "util-linux"), ("setpriv", "util-linux"), ("mount", "mount")):
        which(program, package=package)


def entrance(pid: int, *, cpus: str = "") -> list[str]:
    """Return the words before a program that run it beside process `pid`, in its root file system.

    `pid` is outside of the namespaces, as `OUTER` names it. `cpus`, such as 0-3,8, are those that it may use.
    If memory runs out, the kernel ends the program before all others.
    """
    return [
        *["choom", "-n", "1000", "--"],
        *(["taskset", "--cpu-list", cpus] if cpus else []),
        *["nsenter", f"--target={pid}", "--mount", "--pid", "--root", "--wd"],
        *["env", "-i", f"PATH={_PATH}", *_BASICS.split()],
    ]


def explain(status: int, log: Path) -> InfrastructureError | None:
    """Return why the set-up failed, if a program with this exit status and log never started."""
    text = log.read_text(errors="replace")
    last = (text.splitlines() or [""])[-1]
    return None if last.startswith(_MARK) and status != _REFUSED else refusal(text)


def refusal(text: str, place: str = "this host") -> InfrastructureError | None:
    """Return why the set-up failed, if the output `text` says so. `place` is the machine where it ran."""
    lines = ["", *text.splitlines()]
    details = next((line for line in lines if line.startswith("mount: ")), "mount gave no reason")
    if lines[-1].startswith(_MARK):
        problem = f"{lines[-1]}: {details}"
    elif lines[-1].startswith("unshare: "):
        problem = f"cannot create namespaces: {lines[-1]}"
    else:
        return None
    return InfrastructureError(
        f"{place} {problem}",
        hint="needs CAP_SYS_ADMIN, a free loop device (losetup -f), and overlay in /proc/filesystems",
    )
