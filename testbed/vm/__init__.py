# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: start, find, control, end. Each has a supervisor process (`testbed.vm.supervisor`).

<state>/vms/<name>/        one folder a machine; what is in it outlives the machine, for whoever asks why
    order.json             what the keeper was told       domain.xml   the libvirt domain
    lock                   held by the living keeper      console.log  from the first byte
    owner.json             the process it ends with; not there once the machine stands alone
    guest.json             how to reach the guest         keeper.log   libvirt's and the keeper's own words
    disk.qcow2             the overlay                    ended.json   why it is gone (see `ending`)
    qemu.log               QEMU's own words, and its plugin's
    timing.conf, clock, counters.jsonl: what the timing model is told, shows the guest, and counts
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import uuid as uuids
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from testbed.common import files, processes, settings
from testbed.common.cache import Cache, Damaged, Entry, disk_full, explained_disk_errors
from testbed.common.errors import (
    BootError,
    GuestHangError,
    InfrastructureError,
    SentinelError,
    UsageError,
)
from testbed.common.run import run, which
from testbed.guestlink import keys, ssh
from testbed.guestlink.console import Console
from testbed.guestlink.watchdog import Watchdog
from testbed.host import accel, remote_memory
from testbed.host.remote_memory import Remote
from testbed.limits import Limits, scaled
from testbed.machine import Machine, check_host_memory
from testbed.timing import plugin
from testbed.timing.preset import Preset
from testbed.vm import domain, ending

# Seconds for libvirt to start or restore a domain: five with a cold capability probe, many times as long on a
# busy host. A supervisor that ends is noticed at once.
_START_WITHIN = 600.0
_KEEPER_KILLED = "its keeper was killed"
_SOCKET_PATH = 107  # bytes of the path of a socket on Linux
_SOCKET = len(
    "/lib/qemu/domain-99-12345678901234567890/monitor.sock"
)  # libvirt's, in a machine's runtime folder
_CHEAP = 16 << 20  # bytes that are read in no time: a kernel
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")  # of machines and snapshots
NAME_HINT = "lower-case letters, digits and dashes, up to 40"


@dataclass(frozen=True)
class Boot:
    """What a machine is made of."""

    machine: Machine
    kernel: Path
    image: Path
    accelerator: Literal["kvm", "tcg"]
    uses: tuple[Entry, ...] = ()  # cache entries that must stay while it runs
    preset: Preset | None = None  # what its memory costs; None: the host's, whatever node
    remote: Remote | None = None  # under KVM: where on the host, so that node 1 is far

    def described(self) -> dict[str, Any]:
        """As JSON; `load_boot` reads it."""
        return {
            "machine": self.machine.model_dump(mode="json"),
            "kernel": str(self.kernel),
            "image": str(self.image),
            "accelerator": self.accelerator,
            "uses": [[e.kind, e.key] for e in self.uses],
            **({"preset": self.preset.model_dump(mode="json")} if self.preset else {}),
            **({"remote": self.remote.described()} if self.remote else {}),
        }


@dataclass(frozen=True)
class Saved:
    """A saved machine: its memory, its disk, its console so far, and who it was."""

    boot: Boot
    memory: Path
    disk: Path
    console: Path
    name: str  # libvirt's; a restored domain keeps it, and its UUID
    uuid: str

    def costing(self, preset: Preset | None) -> Saved:
        """The same machine with other memory: what it costs is decided when it is restored."""
        return replace(self, boot=replace(self.boot, preset=preset))


@dataclass
class Vm:
    """A handle on a machine, running or gone."""

    name: str
    folder: Path
    _keeper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def order(self) -> dict[str, Any]:
        return dict(files.read_json(self.folder / "order.json"))

    @property
    def port(self) -> int:
        """The loopback port that leads to the guest's SSH server."""
        return int(files.read_json(self.folder / "guest.json")["port"])

    @property
    def accelerator(self) -> str:
        return str(self.order["accelerator"])

    @property
    def limits(self) -> Limits:
        return scaled(self.accelerator)

    @property
    def console_path(self) -> Path:
        return self.folder / "console.log"

    @property
    def counters_path(self) -> Path:
        """What the timing model counts, if the machine has one."""
        return self.folder / "counters.jsonl"

    def alive(self) -> bool:
        """Whether its keeper lives (and so the machine, or it is being ended this moment)."""
        return files.is_locked(self.folder / "lock")

    def ended(self) -> str | None:
        """Why the machine is gone; None while it runs."""
        if self.alive():
            return None
        return ending.read(self.folder) or _KEEPER_KILLED

    def owner(self) -> str | None:
        """The process that the running machine belongs to, and ends with; None if it stands alone."""
        if not self.alive():
            return None
        try:
            pid = int(files.read_json(self.folder / "owner.json")["pid"])
        except FileNotFoundError:
            return None
        return f"process {pid} ({processes.command_of(pid)})"

    def watchdog(self) -> Watchdog:
        """A judge of this machine, reading its console from the start."""
        return Watchdog(
            Console(self.console_path),
            self.limits,
            ended=self.ended,
            reachable=lambda: ssh.answers(self.port, within=self.limits.command),
        )

    def wait_ready(self) -> None:
        """Wait for a booting guest to say that it is ready. Raises the watchdog's verdict, or an
        `InfrastructureError` if what was booted is damaged.
        """
        watchdog = self.watchdog()
        deadline = time.monotonic() + self.limits.boot
        with _damage_explained(self.order):
            while not watchdog.console.ready:
                watchdog.check(silence=self.limits.silence)
                if time.monotonic() >= deadline:
                    raise BootError(
                        f"the guest was not ready within {self.limits.boot:.0f} s", log=self.console_path
                    )
                time.sleep(0.02)

    @contextlib.contextmanager
    def shell(self) -> Iterator[ssh.Shell]:
        """A connection to the guest's root account. Raises the watchdog's verdict if there is none, or an
        `InfrastructureError` if what was booted or restored is damaged.
        """
        watchdog = self.watchdog()
        with contextlib.ExitStack() as stack:
            with _damage_explained(self.order):
                try:
                    connecting = ssh.shell(self.port, within=self.limits.connect, alive=watchdog.check)
                    shell = stack.enter_context(connecting)
                except GuestHangError as e:
                    e.log = self.console_path
                    raise
            yield shell

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """One request to the keeper. Raises `InfrastructureError` if it refuses or is gone."""
        path = Path(self.order["runtime"]) / "control"
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                peer.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
                answer: dict[str, Any] = json.loads(peer.makefile("rb").readline() or b"{}")
        except (OSError, ValueError) as e:
            raise InfrastructureError(f"the machine {self.name} does not answer: {e}") from None
        if not answer.get("ok"):
            raise InfrastructureError(
                f"{op} of the machine {self.name} failed: {answer.get('error', 'no answer')}",
                log=self.folder / "keeper.log",
            )
        return answer

    def detach(self) -> None:
        """Let the machine outlive this process."""
        (self.folder / "owner.json").unlink(missing_ok=True)
        if self._keeper is not None and self._keeper.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.write(b"d")
                self._keeper.stdin.close()
            self._keeper = None

    def down(self, *, why: str = "destroyed") -> None:
        """End the machine now; its overlay goes, its logs stay. Fine if it is gone already.

        Whoever still needs it is told `why`.
        """
        with contextlib.suppress(InfrastructureError):
            self.ask("destroy", why=why)
        self.wait_gone()
        (self.folder / "disk.qcow2").unlink(missing_ok=True)

    def save(self, to: Path) -> Saved:
        """Save memory and disk into the folder `to`; the machine is gone afterwards.

        Raises `InfrastructureError`, with the machine still running, if it cannot be saved.
        """
        order = self.order
        memory, disk, console = to / "memory", to / "disk.qcow2", to / "console.log"
        with explained_disk_errors(to):
            try:
                self.ask("save", to=str(memory))
            except InfrastructureError as e:
                memory.unlink(missing_ok=True)
                if os.strerror(errno.ENOSPC) in e.message:
                    raise disk_full(to) from None
                raise
            self.wait_gone()
            shutil.move(self.folder / "disk.qcow2", disk)
            shutil.copy(self.console_path, console)
        return Saved(load_boot(order), memory, disk, console, order["name"], order["uuid"])

    def wait_gone(self) -> None:
        """Wait until the keeper has cleaned up, and make sure of it."""
        deadline = time.monotonic() + 15
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._keeper is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(timeout=5)
        if self.alive() and (pid := _keeper_pid(self.folder)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        _bury(self)


def vms_root() -> Path:
    return settings.state_root() / "vms"


def find(name: str) -> Vm:
    """The machine of that name, running or gone. Raises `UsageError` naming those there are."""
    folder = vms_root() / name
    if not NAME.fullmatch(name) or not (folder / "order.json").exists():
        there = ", ".join(vm.name for vm in all_vms()) or "none"
        raise UsageError(f"there is no machine {name!r}; there are: {there}", hint="sentinel vm up")
    return Vm(name, folder)


def find_running(name: str) -> Vm:
    """The running machine of that name."""
    vm = find(name)
    why = vm.ended()
    if why is not None:
        raise UsageError(
            f"the machine {name!r} is not running: {why}", hint="sentinel vm up", log=vm.console_path
        )
    return vm


def all_vms() -> list[Vm]:
    """Every machine whose folder is there."""
    return [Vm(p.parent.name, p.parent) for p in sorted(vms_root().glob("*/order.json"))]


def reap() -> list[str]:
    """End what killed keepers left behind; returns the names of the machines."""
    reaped = []
    with files.locked(vms_root() / ".lock"):
        for vm in all_vms():
            if not vm.alive() and _bury(vm):
                reaped.append(vm.name)
    return reaped


def start(name: str, what: Boot | Saved, *, uri: str | None = None, ssh_port: int | None = None) -> Vm:
    """Start (or restore) a machine under a keeper that ends it when this process dies.

    Returns as soon as libvirt runs it; use `wait_ready`, then `shell`. Raises `UsageError` for a name that is
    taken or impossible, `InfrastructureError` for anything the host refuses.
    """
    _check_name(name)
    boot = what.boot if isinstance(what, Saved) else what
    check_host_memory(boot.machine)
    folder = vms_root() / name
    reap()
    with files.locked(vms_root() / ".lock"), contextlib.ExitStack() as undo:
        if files.is_locked(folder / "lock"):
            raise UsageError(
                f"the machine {name!r} is running already",
                hint=f"sentinel vm down --vm {name}, or another --vm",
            )
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        runtime = _runtime_folder()
        undo.callback(shutil.rmtree, runtime, ignore_errors=True)
        placed = _placed(name, what, folder)
        with explained_disk_errors(folder):
            if boot.preset is not None and placed.timing is not None:
                _configure_timing(boot.preset, boot.machine, placed.timing)
            _overlay(placed.disk, what.disk if isinstance(what, Saved) else boot.image)
            if isinstance(what, Saved):
                shutil.copy(what.console, placed.console)  # QEMU appends: the console stays whole
            (folder / "domain.xml").write_text(domain.xml(boot.machine, placed))
            files.write_json(folder / "owner.json", {"pid": os.getpid()})
            files.write_json(
                folder / "order.json",
                {
                    **boot.described(),
                    "name": placed.name,
                    "uuid": placed.uuid,
                    "cache": str(settings.cache_root()),
                    "disk": str(placed.disk),
                    "uri": uri or settings.LIBVIRT_URI.get(),
                    "runtime": str(runtime),
                    "restore": str(what.memory) if isinstance(what, Saved) else None,
                    "ssh_port": ssh_port,
                    "plugin": placed.timing.library.parent.name if placed.timing else None,
                },
            )
        vm = Vm(name, folder)
        _refuse_damage(_damaged(vm.order, largest=_CHEAP))
        vm = replace(vm, _keeper=_launch_keeper(folder))
        undo.callback(_give_up, vm)
        with _damage_explained(vm.order):
            report = _report(vm)
        files.write_json(folder / "guest.json", {"port": report["port"], "keeper": report["pid"]})
        undo.pop_all()
    return vm


@contextlib.contextmanager
def _damage_explained(order: dict[str, Any]) -> Iterator[None]:
    """If the block fails and an artefact of the machine is not what was built, that is the reason."""
    try:
        yield
    except SentinelError as failure:
        _refuse_damage(_damaged(order), failure)
        raise


def _refuse_damage(damaged: list[Damaged], failure: SentinelError | None = None) -> None:
    """Raise `InfrastructureError` if an artefact of a machine is damaged; `failure` is what came of it."""
    if damaged:
        result = f"; with it {failure.message}" if failure else ""
        raise InfrastructureError(
            f"the cache entry {damaged[0].name} is damaged: {damaged[0].why}{result}",
            hint="try again: it is built anew",
            log=failure.log if failure else None,
        ) from failure


def _damaged(order: dict[str, Any], *, largest: int | None = None) -> list[Damaged]:
    """The artefacts of a machine that are not what was built; files up to `largest` bytes are read."""
    uses = {(kind, key) for kind, key in order["uses"]}
    if not uses:
        return []
    cache = Cache(Path(order["cache"]))
    whole = [entry for entry in cache.entries() if (entry.kind, entry.key) in uses]
    damaged = [entry for entry in cache.damaged() if (entry.kind, entry.key) in uses]
    return [*damaged, *cache.condemn(*whole, largest=largest)]


def preview(name: str, what: Boot | Saved) -> str:
    """The domain XML that `start` would use; nothing is started or made."""
    _check_name(name)
    boot = what.boot if isinstance(what, Saved) else what
    return domain.xml(boot.machine, _placed(name, what, vms_root() / name))


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a machine", hint=NAME_HINT)


@contextlib.contextmanager
def running(
    name: str, what: Boot | Saved, *, uri: str | None = None, ssh_port: int | None = None
) -> Iterator[Vm]:
    """A machine for the block: ended however the block ends. It is booted, but not waited for."""
    vm = start(name, what, uri=uri, ssh_port=ssh_port)
    try:
        yield vm
    finally:
        vm.down()


def load_boot(order: dict[str, Any]) -> Boot:
    """The `Boot` that was described, its cache entries looked up in the cache at `order["cache"]`."""
    cache = Cache(Path(order["cache"]))
    entries = (cache.get(kind, key) for kind, key in order["uses"])
    return Boot(
        machine=Machine.model_validate(order["machine"]),
        kernel=Path(order["kernel"]),
        image=Path(order["image"]),
        accelerator=order["accelerator"],
        uses=tuple(e for e in entries if e is not None),
        preset=Preset.model_validate(order["preset"]) if "preset" in order else None,
        remote=remote_memory.load(order["remote"]) if "remote" in order else None,
    )


def _timing(boot: Boot, folder: Path) -> domain.Timing:
    """Where the timing model's files are; its plugin is built if it is not there."""
    if boot.accelerator != "tcg":
        raise UsageError(
            "the timing model works under TCG only",
            hint="say accelerator: tcg in the machine's file, or no preset: KVM takes a far node of the host",
        )
    library = plugin.build(which(settings.QEMU.get(), package="qemu-system-x86"))
    return domain.Timing(library, folder / "timing.conf", folder / "clock")


def _configure_timing(preset: Preset, machine: Machine, timing: domain.Timing) -> None:
    """Write what the timing model reads."""
    log = timing.config.with_name("counters.jsonl")
    release = accel.parse_version(accel.qemu_version(which(settings.QEMU.get(), package="qemu-system-x86")))
    text = plugin.configuration(preset, machine, qemu=release, log=log, clock=timing.clock)
    timing.config.write_text(text)
    with timing.clock.open("wb") as f:
        f.truncate(plugin.CLOCK_SIZE)


def _placed(name: str, what: Boot | Saved, folder: Path) -> domain.Placed:
    boot = what.boot if isinstance(what, Saved) else what
    return domain.Placed(
        name=what.name if isinstance(what, Saved) else f"sentinel-{name}",
        uuid=what.uuid if isinstance(what, Saved) else str(uuids.uuid4()),
        accelerator=boot.accelerator,
        emulator=Path(which(settings.QEMU.get(), package="qemu-system-x86")),
        kernel=boot.kernel,
        disk=folder / "disk.qcow2",
        console=folder / "console.log",
        public_key=keys.public_key(),
        timing=_timing(boot, folder) if boot.preset is not None else None,
        remote=boot.remote,
    )


def _overlay(path: Path, base: Path) -> None:
    which("qemu-img", package="qemu-utils")
    kind = "qcow2" if base.suffix == ".qcow2" else "raw"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", kind, str(path)])


def _runtime_folder() -> Path:
    """A new folder for sockets, private to this user. Raises `UsageError` if there can be none."""
    if os.geteuid() == 0:
        parent, variable = Path("/run/sentinel"), None
    else:
        variable = "XDG_RUNTIME_DIR" if os.environ.get("XDG_RUNTIME_DIR") else "TMPDIR"
        root = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()).absolute()
        parent = root / f"sentinel-{getpass.getuser()}"
    folder = parent / secrets.token_hex(4)
    hint = f"{variable}=/another/folder" if variable else None
    excess = len(os.fsencode(folder)) + _SOCKET - _SOCKET_PATH
    if excess > 0:
        raise UsageError(
            f"{parent}: is {excess} bytes too long for the sockets of a machine",
            hint=f"set {variable} to a shorter path" if variable else None,
        )
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = parent.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise UsageError(f"{parent}: is not a folder of this user's", hint=hint)
        if status.st_mode & 0o022:
            raise UsageError(f"{parent}: others can write there", hint=f"chmod 700 {parent}")
        folder.mkdir(mode=0o700)
    except OSError as e:
        raise UsageError(f"{parent}: no folder can be made there: {e.strerror}", hint=hint) from None
    return folder


def _launch_keeper(folder: Path) -> subprocess.Popen[bytes]:
    log: IO[bytes]
    with (folder / "keeper.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "testbed.vm.supervisor", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a terminal's Ctrl-C is ours to handle; it learns of it from the pipe
            env={**os.environ, "LIBVIRT_LOG_OUTPUTS": "3:stderr"},
        )


def _report(vm: Vm) -> dict[str, Any]:
    """The keeper's first line."""
    keeper = vm._keeper
    assert keeper is not None and keeper.stdout is not None  # noqa: S101 -- _launch_keeper made both
    log = vm.folder / "keeper.log"
    limit = _START_WITHIN * settings.TIMEOUT_SCALE.get_float()
    ready, _, _ = select.select([keeper.stdout], [], [], limit)
    line = keeper.stdout.readline() if ready else b""
    if not line:
        what = "stopped without a word" if ready else f"said nothing for {limit:.0f} s"
        raise InfrastructureError(f"the keeper of the machine {vm.name} {what}", log=log)
    report: dict[str, Any] = json.loads(line)
    if "error" in report:
        raise InfrastructureError(report["error"], hint=report.get("hint"), log=log)
    return report


def _give_up(vm: Vm) -> None:
    """Undo a start that failed or was interrupted."""
    keeper = vm._keeper
    if keeper is not None:
        with contextlib.suppress(OSError):
            if keeper.stdin is not None:
                keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(timeout=10)
        keeper.kill()
        keeper.wait()
    _bury(vm)


def _bury(vm: Vm) -> bool:
    """Remove what a machine without keeper still has on the host; true if a killed keeper left it."""
    try:
        order = vm.order
    except (FileNotFoundError, ValueError):
        return False
    left_behind = ending.read(vm.folder) is None
    processes.kill_of_disk(order["disk"])
    if left_behind:
        shutil.rmtree(order["runtime"], ignore_errors=True)
        ending.write(vm.folder, _KEEPER_KILLED)
    return left_behind


def _keeper_pid(folder: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        return int(files.read_json(folder / "guest.json")["keeper"])
    return None
