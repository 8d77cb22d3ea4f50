# SPDX-License-Identifier: Apache-2.0
"""Build the guest disk, an ext4 image, as root or as an ordinary user and without loop mounts.

mmdebstrap writes the tree into a tar, so that an unprivileged build leaves no files of other owners behind.
mke2fs writes the tree into an image; without root, fakeroot keeps the owners.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import definition, wheels
from images.definition import Definition
from testbed.common import files, settings
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import BuildError
from testbed.common.progress import note, step
from testbed.common.run import stream, which

KIND = "image"
DISK = "rootfs.ext4"  # in its cache entry
_MAX_INSTALLED = 600 << 20  # bytes; the documented limit
_SITE = "/usr/local/lib/python2.7/dist-packages"
_STAGES = {  # mmdebstrap's progress messages -> share of the work done
    "running apt-get update": 0.02,
    "downloading packages": 0.1,
    "extracting archives": 0.25,
    "installing essential": 0.3,
    "installing remaining": 0.4,
    "running --customize-hook": 0.6,
    "cleaning package lists": 0.95,
}


@dataclass(frozen=True)
class Image:
    """A guest disk: a raw ext4 image. It is never written; machines use overlays of it."""

    disk: Path
    entry: Entry


def build(*, cache: Cache | None = None, guest: Definition | None = None, dry_run: bool = False) -> Image:
    """Return the guest image, and build it if it is not cached.

    `dry_run` builds nothing: it prints the contents, and returns the image with its future path.
    Raises BuildError with the path of the log.
    """
    cache = cache or Cache()
    guest = guest or definition.default()
    with step("Guest image") as s:
        entry = cache.get(KIND, guest.key)
        if entry is not None:
            s.done("cached")
        elif dry_run:
            names = ", ".join(guest.packages)
            note(f"would install Debian {guest.suite} with {names}, and TensorFlow 1.13.1")
            s.done("not built")
            entry = Entry(KIND, guest.key, cache.path(KIND, guest.key), {})
        else:
            entry = _build(guest, cache)
    return Image(entry.path / DISK, entry)


def _build(guest: Definition, cache: Cache) -> Entry:
    for program in (
        "mmdebstrap",
        "mke2fs",
        "strip",
        *(() if os.geteuid() == 0 else ("fakeroot", "newuidmap")),
    ):
        which(
            program, package={"mke2fs": "e2fsprogs", "strip": "binutils", "newuidmap": "uidmap"}.get(program)
        )
    log = cache.root / "logs" / f"image-{guest.key[:12]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    packages = wheels.fetch(guest, cache=cache, log=log)

    def fill(folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        with cache.using(packages), _shared_scratch() as scratch:
            shutil.copytree(packages.path, scratch / "wheels")
            shutil.copytree(guest.files, scratch / "guest")
            tar = folder / "rootfs.tar"
            with step("Debian packages and TensorFlow") as s:
                _bootstrap(guest, scratch, tar, log, s.update)
            with step("File system image"):
                installed = _pack(tar, folder / DISK, guest.free_mib, log)
            tar.unlink()
        if installed > _MAX_INSTALLED:
            raise BuildError(
                f"the guest has {installed >> 20} MiB; the limit is {_MAX_INSTALLED >> 20} MiB",
                hint="remove packages from images/guest/packages.txt or add files to exclude.txt",
                log=log,
            )
        shutil.copy(log, folder / "build.log")
        return {
            "suite": guest.suite,
            "packages": _versions(log),
            "python": packages.manifest["files"],
            "installed_bytes": installed,
            "sha256": files.sha256_file(folder / DISK),
            "seconds": round(time.monotonic() - started, 1),
        }

    return cache.build(KIND, guest.key, fill)


def _bootstrap(
    guest: Definition, scratch: Path, tar: Path, log: Path, update: Callable[[float, str], None]
) -> None:
    """Write the guest's tree into `tar`. `scratch` contains wheels/ and guest/."""
    pip = "/wheels/" + next((scratch / "wheels").glob("pip-*.whl")).name + "/pip"
    install = [
        f"cd /wheels && python2.7 {pip} install --quiet --no-index --find-links /wheels --no-deps",
        "--no-cache-dir --disable-pip-version-check --no-build-isolation --require-hashes",
    ]
    hooks = [
        'mkdir "$1/wheels" "$1/guest"',
        f'sync-in "{scratch}/wheels" /wheels',
        f'sync-in "{scratch}/guest" /guest',
        # Build tools first, then the packages that need them.
        _chrooted(" ".join([*install, "-r /guest/requirements-wheels.txt"])),
        _chrooted(" ".join([*install, "-r /guest/requirements-sdists.txt"])),
        _chrooted("install -D -m 755 /guest/boot /usr/lib/sentinel/boot"),
        _chrooted("install -m 644 /guest/inittab /etc/inittab"),
        _chrooted("install -m 644 /guest/sshd_config /etc/ssh/sshd_config"),
        _chrooted("rm -f /etc/ssh/ssh_host_*; usermod -p '*' root; mkdir -p /opt/sentinel; : >/etc/fstab"),
        _chrooted("echo 127.0.0.1 localhost sentinel >/etc/hosts; echo sentinel >/etc/hostname"),
        _chrooted("dpkg-query -W -f 'installed: ${Package} ${Version}\\n'"),
        _chrooted("rm -rf /wheels /guest " + " ".join(f"/{pattern}" for pattern in guest.excluded)),
        # Symbol tables are a fifth of TensorFlow. Other wheels went through patchelf; strip breaks them.
        f'find "$1{_SITE}/tensorflow" -name "*.so*" -exec strip --strip-unneeded {{}} +',
        # Import TensorFlow once, so that a broken guest fails to build.
        _chrooted("python2.7 -B -W ignore -c 'import tensorflow; tensorflow.constant(1)'"),
        'du -xm "$1" | sort -n | tail -n 60',  # the largest folders, for the log
    ]
    # As root mmdebstrap mounts /proc and more in the tree. In separate namespaces these mounts end with it,
    # even if it is killed; as a user it creates such namespaces itself.
    isolated = ["setpriv", "--pdeathsig", "KILL"]  # unshare ignores SIGTERM
    isolated += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [
        *(isolated if os.geteuid() == 0 else []),
        "mmdebstrap",
        *["--variant", "minbase"],
        *["--include", ",".join(guest.packages)],
        *["--format", "tar"],
        *["--aptopt", 'Acquire::Retries "3"'],
        *["--aptopt", 'APT::Install-Recommends "false"'],
        *[f"--customize-hook={hook}" for hook in hooks],
        guest.suite,
        str(tar),
        *([settings.MIRROR.get()] if settings.MIRROR.get() else []),
    ]

    def on_line(line: str) -> None:
        for message, share in _STAGES.items():
            if message in line:
                update(share, line.removeprefix("I: "))

    stream(
        command,
        log=log,
        on_line=on_line,
        explain=_first_error,
        error=BuildError,
        what="building the guest's tree",
        env={"TMPDIR": str(scratch)},
    )


def _chrooted(command: str) -> str:
    quoted = command.replace("'", "'\\''")
    return f"chroot \"$1\" sh -euc '{quoted}'"


def _pack(tar: Path, disk: Path, free_mib: int, log: Path) -> int:
    """Write `tar` into an ext4 image with `free_mib` of free space. Returns the installed size in bytes."""
    tree = tar.with_name("tree")
    as_root = [] if os.geteuid() == 0 else ["fakeroot"]
    # One shell, because fakeroot forgets owners at the end of its session.
    script = """
        mkdir "$1"
        tar --numeric-owner --exclude='./dev/*' -xf "$0" -C "$1"
        size=$(du -sm "$1" | cut -f1)
        inodes=$(($(find "$1" | wc -l) + 100000))
        mke2fs -q -t ext4 -m 0 -O ^metadata_csum_seed,^orphan_file -E root_owner=0:0 -L sentinel \\
            -N $inodes -d "$1" "$2" "$((size * 11 / 10 + $3))M"
        echo "installed-mib $size"
    """
    sizes: list[int] = []

    def on_line(line: str) -> None:
        if line.startswith("installed-mib "):
            sizes.append(int(line.split()[1]))

    stream(
        [*as_root, "sh", "-euc", script, str(tar), str(tree), str(disk), str(free_mib)],
        log=log,
        on_line=on_line,
        error=BuildError,
        what="writing the image",
    )
    shutil.rmtree(tree)
    return sizes[0] << 20


@contextlib.contextmanager
def _shared_scratch() -> Iterator[Path]:
    """Create a scratch folder that mmdebstrap's mapped users can access, wherever the cache is."""
    prefix = "sentinel-image-"
    for stale in Path(tempfile.gettempdir()).glob(f"{prefix}[0-9]*-*"):  # left by a killed build
        if not Path("/proc", stale.name.removeprefix(prefix).split("-")[0]).exists():
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


def _versions(log: Path) -> dict[str, str]:
    lines = (line.split() for line in log.read_text(errors="replace").splitlines())
    return {words[1]: words[2] for words in lines if len(words) == 3 and words[0] == "installed:"}


def _first_error(lines: Sequence[str]) -> str | None:
    return next((line for line in lines if line.startswith(("E: ", "Err:", "ERROR", "ImportError"))), None)
