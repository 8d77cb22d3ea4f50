# SPDX-License-Identifier: Apache-2.0
"""Training on a real machine, with the training process replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from experiments import frameworks, job, profiles, target_memory, target_origin, target_root
from experiments.backend import Callbacks
from experiments.backends import backend_of
from experiments.job import Work
from experiments.suite import Suite
from experiments.target_backend import RealMachine
from images import build as images
from images.root import OUTER
from testbed import machine as machines
from testbed.common.cache import Cache
from testbed.common.cache_entry import Entry
from testbed.common.errors import InfrastructureError, LostConnectionError, SentinelError, WorkloadError
from testbed.common.progress import Step
from testbed.guestlink.local import LocalShell
from testbed.targets.machine import TargetMachine
from testbed.targets.spec import Target
from testbed.timing import calibration, measurement, preset
from tests.fakes.programs import Programs
from tests.fakes.ssh_server import SshServer
from tests.fakes.targets import OPTANE, behind_ssh

WORK = Work(seed=7, threads=1, model={"name": "cnn", "batch": 8})
TWO_STEPS = {"steps": 2, "warmup": 1}
# In the place of the namespaces: the words behind `--`, in the environment that they begin with
ROOT = f"""
while [ "$1" != -- ]; do shift; done
shift
exec env {OUTER}=$$ "$@"
"""
# In the place of nsenter: the words behind `env -i PATH HOME LC_ALL`
ENTER = """
while [ "$1" != -i ]; do shift; done
shift 4
exec "$@"
"""


def image_in(folder: Path, content: bytes = b"\0disk" * 100_000, digest: str | None = None) -> Entry:
    folder.mkdir()
    (folder / images.DISK).write_bytes(content)
    return Entry(images.KIND, "abc", folder, {"sha256": digest or hashlib.sha256(content).hexdigest()})


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SshServer, TargetMachine]]:
    server, target = behind_ssh(tmp_path, monkeypatch)
    with contextlib.closing(server), TargetMachine.open(target) as machine:
        yield server, machine


def test_image_is_sent_once(remote: tuple[SshServer, TargetMachine], tmp_path: Path) -> None:
    server, machine = remote
    image = image_in(tmp_path / "image")
    missing = target_root.disk_needed(machine, image)
    target_root.send_image(machine, image)
    assert missing - target_root.disk_needed(machine, image) >= 500_000
    there = tmp_path / "target" / "image-abc"
    assert [path.name for path in there.iterdir()] == [images.DISK]
    assert (there / images.DISK).read_bytes() == (tmp_path / "image" / images.DISK).read_bytes()
    count = len(server.commands)
    target_root.send_image(machine, image)
    assert len(server.commands) == count + 1  # whether it is there
    assert str(target_root.disk_on(machine, image)) == str(there / images.DISK)


def test_image_that_arrives_damaged_is_not_kept(
    remote: tuple[SshServer, TargetMachine], tmp_path: Path
) -> None:
    with pytest.raises(InfrastructureError, match=r"on root@127\.0\.0\.1: it arrived damaged"):
        target_root.send_image(remote[1], image_in(tmp_path / "image", digest="0" * 64))
    assert list((tmp_path / "target").iterdir()) == []


def test_image_without_space_for_it_is_not_kept(
    remote: tuple[SshServer, TargetMachine], tmp_path: Path, programs: Programs
) -> None:
    programs.shell(
        "tar",
        'case $1 in -x*) echo "tar: x: No space left on device" >&2; exit 2; esac; exec /usr/bin/tar "$@"',
    )
    with pytest.raises(InfrastructureError, match=r"cannot store .*No space left on device") as caught:
        target_root.send_image(remote[1], image_in(tmp_path / "image", b"x" * 20_000_000))
    assert caught.value.hint is not None
    assert list((tmp_path / "target").iterdir()) == []


def test_connection_that_breaks_while_the_image_is_sent_is_lost(
    remote: tuple[SshServer, TargetMachine], tmp_path: Path, programs: Programs
) -> None:
    server, machine = remote
    programs.shell("tar", "case $1 in -x*) exec cat >/dev/null; esac; cat /dev/zero")
    with pytest.raises(LostConnectionError, match=r"root@127\.0\.0\.1 broke"):
        target_root._send(machine.shell, tmp_path, "cat >/dev/null", HangingUp("", 0, server=server))


@dataclasses.dataclass
class HangingUp(Step):
    """A step that hangs up after a few updates."""

    server: SshServer | None = None
    count: int = 0

    def update(self, fraction: float | None = None, text: str = "") -> None:
        self.count += 1
        if self.count == 8 and self.server is not None:
            self.server.hang_up()


@pytest.fixture
def real(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealMachine]:
    """This host as a target, without namespaces and without an image."""
    programs.shell("setpriv", ROOT)
    programs.shell("choom", 'shift 3; exec "$@"')
    programs.shell("taskset", 'shift 2; exec "$@"')
    programs.shell("nsenter", ENTER)
    image = image_in(tmp_path / "image")
    monkeypatch.setattr(images, "build", lambda **_: images.Image(image.path / images.DISK, image))
    monkeypatch.setattr(target_memory, "check_permissions", lambda shell, two_nodes: None)
    monkeypatch.setattr(frameworks.DEFAULT.__class__, "build_runtime", lambda *_, **__: Path("library"))
    backend = RealMachine(Target(), cache=Cache(tmp_path / "cache"))
    with contextlib.closing(backend):
        yield backend


def prepared(real: RealMachine, monkeypatch: pytest.MonkeyPatch, folder: Path, **facts: Any) -> Entry:
    """Prepare the backend on a machine with these facts; return what stands for the process of WORK."""
    from experiments import matrix

    suite = folder / "suite.yaml"
    suite.write_text("name: s\nmodels: [{ name: cnn }]\nplacements: [fast-only]\ntarget: host\n")
    plain = TargetMachine.open

    def opened(target: Target) -> TargetMachine:
        machine = plain(target)
        return dataclasses.replace(machine, facts=dataclasses.replace(machine.facts, **facts))

    monkeypatch.setattr(TargetMachine, "open", opened)
    artifacts = real.prepare(matrix.load(suite))
    return real.barrier_snapshot(artifacts.boot, WORK)


def callbacks(steps: list[dict[str, Any]]) -> Callbacks:
    return Callbacks(on_start=lambda _: None, on_step=steps.append)


class FakeJob:
    """In the place of a training process; it can fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.orders: list[Mapping[str, Any]] = []
        self.failure: SentinelError | None = None
        monkeypatch.setattr(job, "prepare", self.prepare)
        monkeypatch.setattr(job, "release", self.release)

    def prepare(self, shell: Any, watchdog: Any, work: Work, *, within: float, library: Any) -> float:
        assert shell.run("echo here").out == "here\n"
        watchdog.check()
        return 1.0

    def release(self, shell: Any, watchdog: Any, order: Mapping[str, Any], on_step: Any, **_: Any) -> None:
        self.orders.append(order)
        if self.failure is not None:
            raise self.failure
        on_step({"step": 0})


def test_policy_is_applied_on_two_nodes(
    real: RealMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake, steps = FakeJob(monkeypatch), list[dict[str, Any]]()
    waiting = prepared(real, monkeypatch, tmp_path, nodes=OPTANE.nodes)
    order = {**TWO_STEPS, "memory": {"policy": "bind", "nodes": [1]}, "limit": "first-touch"}
    real.train(waiting, None, order, inputs={}, callbacks=callbacks(steps))
    assert fake.orders == [order]
    assert steps == [{"step": 0}]
    assert not (Path(str(real._ready().folder)) / "run").exists()


def test_one_node_has_all_memory_and_no_budget(
    real: RealMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeJob(monkeypatch)
    waiting = prepared(real, monkeypatch, tmp_path, nodes=OPTANE.nodes[:1])
    assert "functional only, without slow memory" in capsys.readouterr().err
    order = {**TWO_STEPS, "memory": {"policy": "interleave", "nodes": [0, 1]}}
    real.train(waiting, None, order, inputs={}, callbacks=callbacks([]))
    order = {**TWO_STEPS, "limit": "first-touch", "fast_memory": 4096}
    real.train(waiting, None, order, inputs={}, callbacks=callbacks([]))
    assert fake.orders == [
        {**TWO_STEPS, "memory": {"policy": "interleave", "nodes": [0]}},
        {**TWO_STEPS, "fast_memory": 4096},
    ]


def test_failure_quotes_the_kernel_of_the_target(
    real: RealMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: Programs
) -> None:
    fake = FakeJob(monkeypatch)
    waiting = prepared(real, monkeypatch, tmp_path)
    early = "[    0.5] Out of memory: Killed process 1 (early)"
    late = "[99999999999.5] Out of memory: Killed process 42 (python2.7) total-vm:1kB"
    programs.shell("dmesg", f"echo '{early}'; echo '{late}'")
    fake.failure = WorkloadError("the training process was killed by signal 9")
    logs: list[Path] = []
    with pytest.raises(WorkloadError, match=r"signal 9; the kernel: .*Killed process 42 \(python2\.7\)"):
        real.train(waiting, None, TWO_STEPS, inputs={}, callbacks=Callbacks(logs.append, lambda _: None))
    assert logs[0].read_text() == late + "\n"


def test_killed_root_of_a_training_is_an_infrastructure_error(
    real: RealMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waiting = prepared(real, monkeypatch, tmp_path)
    with (
        pytest.raises(InfrastructureError, match="the processes on this host were killed"),
        target_root.entered(real._ready(), real._image_entry) as (_, held),
    ):
        watchdog = real._watchdog(real._ready(), held)
        watchdog.check()
        held._channel.close()
        watchdog.check()
    assert waiting.manifest["runtime"]


def test_image_that_cannot_be_mounted_is_explained(
    real: RealMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: Programs
) -> None:
    waiting = prepared(real, monkeypatch, tmp_path)
    programs.shell("setpriv", "echo 'mount: /x: no loop device'; echo 'cannot mount the image'; exit 97")
    with pytest.raises(InfrastructureError, match="cannot mount the image: mount: /x: no loop device"):
        real.train(waiting, None, TWO_STEPS, inputs={}, callbacks=callbacks([]))
    programs.shell("setpriv", "echo 'something new'; exit 1")
    with pytest.raises(InfrastructureError, match="cannot be used: something new"):
        real.train(waiting, None, TWO_STEPS, inputs={}, callbacks=callbacks([]))


def rows(slow_ns: float) -> list[dict[str, Any]]:
    """What the probe prints, with a read latency of node 1."""
    return [
        {"what": what, "node": node, "size": 1_000_000, "model_ns": ns, "guest_ns": ns}
        | {"dilation": 0, "needed": 0, "behind": 0}
        for node, latency, time in ((0, 80.0, 10_000.0), (1, slow_ns, 10_000.0 * slow_ns / 80))
        for what, ns in (("read_latency", latency), ("read", time), ("write", 2 * time))
    ]


@pytest.mark.parametrize(("slow_ns", "slower"), [(300.0, True), (80.5, False)])
def test_probe_tells_whether_node_1_is_slower(
    real: RealMachine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    slow_ns: float,
    slower: bool,
) -> None:
    probe = tmp_path / "probe"
    lines = "\n".join(map(json.dumps, rows(slow_ns)))
    probe.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/arguments\ncat <<'E'\n{lines}\nE\n")
    probe.chmod(0o755)
    monkeypatch.setattr(measurement, "build_probe", lambda **_: probe)
    monkeypatch.setattr(target_memory, "_PROBE", str(tmp_path / "sent" / "probe"))
    prepared(real, monkeypatch, tmp_path, nodes=OPTANE.nodes, cache=36 << 20)
    measured = real.calibrate(None)  # type: ignore[arg-type]
    assert measured is not None
    assert target_memory.is_slower(measured) == slower
    assert ("node 1 is not slower" in capsys.readouterr().err) == (not slower)
    assert (tmp_path / "arguments").read_text() == f"full {36 << 20} {8 * 36 << 20}\n"
    figures = real.figures(preset.load("optane-6dimm"), machines.load("two-node"))
    assert [node.read_latency for node in figures.nodes] == [80.0, slow_ns]
    assert figures.nodes[0].read_bandwidth == 100.0
    assert figures.nodes[0].write_bandwidth == 50.0
    assert figures.cache_bytes == 36 << 20
    assert figures.compute_mlp == profiles.figures_of(preset.load("optane-6dimm")).compute_mlp


def test_probe_that_fails_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = tmp_path / "probe"
    probe.write_text("#!/bin/sh\necho 'mbind: Operation not permitted' >&2; exit 1\n")
    probe.chmod(0o755)
    monkeypatch.setattr(measurement, "build_probe", lambda **_: probe)
    monkeypatch.setattr(target_memory, "_PROBE", str(tmp_path / "sent" / "probe"))
    with pytest.raises(InfrastructureError, match=r"probe failed: .*mbind: Operation not permitted"):
        target_memory.calibrate(OPTANE, LocalShell(), cache=Cache(tmp_path / "cache"))


def test_refused_placement_of_pages_is_explained(tmp_path: Path, programs: Programs) -> None:
    class Shell(LocalShell):
        def put(self, source: Path, target: str) -> None:
            """Copy nothing: the target is this host."""

    programs.shell("python2.7", "echo 'OSError: [Errno 1] Operation not permitted' >&2; exit 1")
    with pytest.raises(InfrastructureError, match=r"^this host does not let pages be placed: .*Errno 1"):
        target_memory.check_permissions(Shell(), two_nodes=True)
    assert programs.calls[-1] == "python2.7 - /opt/sentinel 0 1"


def test_records_name_the_target_and_not_its_machine_id(tmp_path: Path) -> None:
    machine = TargetMachine(Target(ssh="root@optane1"), LocalShell(), PurePosixPath("/x"), OPTANE)
    record = target_origin.target(machine)
    assert record["name"] == "root@optane1"
    assert [node["number"] for node in record["nodes"]] == [0, 1]
    assert OPTANE.id not in json.dumps(record)
    assert target_origin.host(machine) == {
        "cpu": "Intel(R) Xeon(R) Platinum 8260",
        "cpus": 24,
        "memory_bytes": 960 << 30,
        "numa_nodes": 2,
        "kernel": "6.1.0-18-amd64",
        "system": "Debian GNU/Linux 12 (bookworm)",
    }


def test_backend_follows_the_target_of_the_suite() -> None:
    fields = {"name": "s", "models": [{"name": "cnn"}], "placements": ["fast-only"]}
    assert isinstance(backend_of(Suite.model_validate({**fields, "target": "host"})), RealMachine)
    assert not isinstance(backend_of(Suite.model_validate(fields)), RealMachine)


def test_throttle_of_a_real_machine_is_what_was_measured() -> None:
    from experiments import provenance

    measured = calibration.evaluate(None, rows(300.0), key="k", created="now")
    throttle = provenance.throttle(None, measured)
    assert (throttle.method, throttle.is_slow) == ("hardware", True)
    assert not provenance.throttle(
        None, calibration.evaluate(None, rows(80.0), key="k", created="now")
    ).is_slow


def test_image_that_cannot_be_read_is_not_kept(
    remote: tuple[SshServer, TargetMachine], tmp_path: Path
) -> None:
    image = image_in(tmp_path / "image")
    (tmp_path / "image" / images.DISK).unlink()
    with pytest.raises(InfrastructureError, match="cannot store the image"):
        target_root.send_image(remote[1], image)
    assert list((tmp_path / "target").iterdir()) == []
