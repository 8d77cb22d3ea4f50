# SPDX-License-Identifier: Apache-2.0
"""The choice of the accelerator, with a script as QEMU and a file as /dev/kvm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from testbed.common import settings
from testbed.common.errors import InfrastructureError
from testbed.host import accel
from testbed.host.accel import Verdict
from tests.fakes.programs import Programs

VERSION = 'if [ "$1" = --version ]; then echo "QEMU emulator version 7.2.11"; exit; fi\n'
PANICS = (
    VERSION + 'echo "[ 0.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"'
)
FIRMWARE = VERSION + "exit 85"


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accel, "KVM", device)
    return device


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(b"kernel")
    return path


def qemu(programs: Programs, body: str) -> None:
    programs.shell("qemu-system-x86_64", body)


def boots(programs: Programs) -> list[str]:
    return [call for call in programs.calls if "--version" not in call]


def test_booting_linux_is_proof(programs: Programs, kvm: Path, kernel: Path) -> None:
    qemu(programs, PANICS)
    verdict = accel.probe(kernel)
    assert (verdict.works, verdict.proof) == (True, "linux")
    (boot,) = boots(programs)
    assert "-accel kvm -cpu host" in boot
    assert f"-kernel {kernel}" in boot
    assert accel.choose("auto", kernel) == "kvm"
    assert accel.choose("kvm", kernel) == "kvm"


def test_boot_sector_is_tried_without_a_kernel(programs: Programs, kvm: Path) -> None:
    qemu(programs, FIRMWARE)
    verdict = accel.probe(None)
    assert (verdict.works, verdict.proof) == (True, "firmware")
    assert "isa-debug-exit" in boots(programs)[0]


@pytest.mark.parametrize("code", [0, 42, 84, 1])
def test_wrong_boot_sector_exit_means_broken_kvm(programs: Programs, kvm: Path, code: int) -> None:
    qemu(programs, VERSION + f"exit {code}")
    verdict = accel.probe(None)
    assert (verdict.works, verdict.why) == (False, f"QEMU failed with KVM: exit {code}")


def test_boot_sector_writes_the_expected_exit_code() -> None:
    assert len(accel._BOOT_SECTOR) == 512
    assert accel._BOOT_SECTOR.endswith(b"\x55\xaa")
    assert accel._BOOT_SECTOR[4] << 1 | 1 == accel._BOOT_SECTOR_EXIT


def test_hanging_kernel_is_killed(
    programs: Programs, kvm: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "WITHIN", 0.3)
    qemu(programs, VERSION + "exec sleep 60")
    started = time.monotonic()
    verdict = accel.probe(kernel)
    assert time.monotonic() - started < 5
    assert verdict == Verdict(False, "none", "/dev/kvm opens, but a Linux kernel hangs under it", 0.3)
    assert accel.probe(None).why == "/dev/kvm opens, but a boot sector hangs under it"


def test_failing_qemu_makes_auto_fall_back_with_a_warning(
    programs: Programs, kvm: Path, kernel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qemu(programs, VERSION + 'echo "qemu-system-x86_64: failed to initialize kvm: Denied" >&2; exit 1')
    assert accel.choose("auto", kernel) == "tcg"
    output = capsys.readouterr().err
    assert "warning: KVM is not usable (QEMU failed with KVM: failed to initialize kvm: Denied)" in output
    with pytest.raises(
        InfrastructureError, match=r"^KVM does not work on this host: QEMU failed with KVM"
    ) as caught:
        accel.choose("kvm", kernel)
    assert caught.value.hint == "accelerator: tcg"


def test_kernel_that_stops_early_is_no_proof(programs: Programs, kvm: Path, kernel: Path) -> None:
    qemu(programs, VERSION + 'echo "[ 0.1] early console"; exit 0')
    assert not accel.probe(kernel).works


def test_verdict_is_cached_by_host_qemu_and_kernel(
    programs: Programs, kvm: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu(programs, PANICS)
    first = accel.probe(kernel)
    assert accel.probe(kernel) == first
    assert len(boots(programs)) == 1
    kernel.write_bytes(b"another kernel")
    accel.probe(kernel)
    assert len(boots(programs)) == 2
    monkeypatch.setattr("platform.release", lambda: "another host kernel")
    accel.probe(kernel)
    assert len(boots(programs)) == 3
    qemu(programs, PANICS.replace("7.2.11", "10.0"))
    accel.probe(kernel)
    assert len(boots(programs)) == 4
    assert len(list((settings.cache_root() / "kvm").glob("*.json"))) == 4


@pytest.mark.parametrize("text", ["", "[]", '{"works": true}', '{"other": 1}'])
def test_unreadable_cached_verdict_is_replaced(
    programs: Programs, kvm: Path, kernel: Path, text: str
) -> None:
    programs.shell("qemu-system-x86_64", 'echo "QEMU 7.2: Unable to mount root fs"')
    assert accel.probe(kernel).works
    (memo,) = (settings.cache_root() / "kvm").glob("*.json")
    memo.write_text(text)
    assert accel.probe(kernel).works
    assert '"proof": "linux"' in memo.read_text()


def test_interrupted_probe_caches_nothing(
    programs: Programs, kvm: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Verdict:
        raise KeyboardInterrupt

    qemu(programs, PANICS)
    with monkeypatch.context() as patched:
        patched.setattr(accel, "_boot", interrupted)
        with pytest.raises(KeyboardInterrupt):
            accel.probe(kernel)
    assert accel.probe(kernel).works


def test_missing_device_is_not_probed(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Path
) -> None:
    monkeypatch.setattr(accel, "KVM", tmp_path / "none")
    qemu(programs, PANICS)
    assert accel.probe(kernel) == Verdict(False, "none", "no /dev/kvm")
    assert programs.calls == []


def test_inaccessible_device_is_not_probed(
    programs: Programs, kvm: Path, monkeypatch: pytest.MonkeyPatch, kernel: Path
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "group kvm" in accel.probe(kernel).why
    assert programs.calls == []


def test_tcg_is_not_probed(programs: Programs, kvm: Path, kernel: Path) -> None:
    qemu(programs, PANICS)
    assert accel.choose("tcg", kernel) == "tcg"
    assert programs.calls == []


def test_missing_qemu_names_its_package(programs: Programs, kvm: Path, kernel: Path) -> None:
    programs.alone()
    with pytest.raises(InfrastructureError) as caught:
        accel.probe(kernel)
    assert caught.value.hint == "apt-get install qemu-system-x86"


def test_qemu_setting_is_used(
    programs: Programs, kvm: Path, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.shell("my-qemu", PANICS)
    monkeypatch.setenv("SENTINEL_QEMU", "my-qemu")
    assert accel.probe(kernel).works
    assert {call.split()[0] for call in programs.calls} == {"my-qemu"}
