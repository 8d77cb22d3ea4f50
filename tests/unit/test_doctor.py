# SPDX-License-Identifier: Apache-2.0
"""The doctor: one line for each check, a command for each failure, and no exception."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.common import settings
from testbed.common.errors import InfrastructureError
from testbed.host import accel, doctor
from testbed.host.accel import Verdict
from testbed.host.doctor import Check, Host
from tests.fakes.programs import Programs

QEMU = """
case "$*" in
--version) echo "QEMU emulator version {version}" ;;
*-plugin*) echo "{refusal}" >&2; exit 1 ;;
esac
"""
NO_SUCH_PLUGIN = "Could not load plugin /nonexistent.so"
TOOLS = {
    **doctor.BUILD_TOOLS,
    **doctor.IMAGE_TOOLS,
    **doctor.OVERLAY_TOOLS,
    **doctor.SSH_TOOLS,
}


@pytest.fixture
def healthy(programs: Programs, tmp_path: Path) -> Host:
    """A host that passes every check."""
    programs.alone("sh", "env", "cat")
    for name in (*TOOLS, *doctor.USER_IMAGE_TOOLS, "ccache"):
        programs.shell(name, "exit 0")
    install_qemu(programs)
    return Host(
        kvm=lambda kernel: Verdict(True, "linux", "ran", 1.5),
        libvirt_version=lambda uri: 9_000_004,
        available_memory=lambda: 16 << 30,
        free_disk=lambda path: 100 << 30,
        node_numbers=lambda: [0],
        include=headers(tmp_path / "usr", "libelf.h", "openssl/ssl.h", "Zydis/Zydis.h"),
    )


def headers(folder: Path, *names: str) -> Path:
    """Create a folder of header files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def install_qemu(programs: Programs, version: str = "10.0.2", refusal: str = NO_SUCH_PLUGIN) -> None:
    programs.shell("qemu-system-x86_64", QEMU.format(version=version, refusal=refusal))


def examine(host: Host) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(host=host)}


def failure(host: Host) -> Check:
    """The only check that fails."""
    (failed,) = [check for check in doctor.examine(host=host) if check.state == "fail"]
    return failed


def test_healthy_host_passes_every_check(healthy: Host) -> None:
    checks = examine(healthy)
    assert {name: check.state for name, check in checks.items()} == dict.fromkeys(
        [
            "QEMU",
            "QEMU plugins",
            "KVM",
            "libvirt",
            "build tools",
            "build headers",
            "image tools",
            "disk overlays",
            "ssh client",
            "ccache",
            "memory",
            "disk",
            "host NUMA",
        ],
        "ok",
    )
    assert all(check.detail for check in checks.values())


@pytest.mark.parametrize("name", TOOLS)
def test_missing_tool_names_its_package(healthy: Host, programs: Programs, name: str) -> None:
    (programs.folder / name).unlink()
    failed = failure(healthy)
    assert failed.detail == f"missing: {name}"
    assert failed.fix == f"apt-get install {TOOLS[name]}"


@pytest.mark.parametrize("uid", [0, 1000])
def test_image_tools_of_ordinary_users(
    healthy: Host, programs: Programs, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    for name in ("fakeroot", "newuidmap"):
        (programs.folder / name).unlink()
    check = examine(healthy)["image tools"]
    if uid == 0:
        assert check.state == "ok"
    else:
        assert check == Check(
            "image tools", "fail", "missing: fakeroot, newuidmap", "apt-get install fakeroot uidmap"
        )


def test_several_missing_tools_share_a_line(healthy: Host, programs: Programs) -> None:
    for name in ("strip", "bc", "make"):
        (programs.folder / name).unlink()
    check = examine(healthy)["build tools"]
    assert check.detail == "missing: bc, make, strip"
    assert check.fix == "apt-get install bc binutils make"


def test_missing_headers_name_their_packages(healthy: Host, tmp_path: Path) -> None:
    without = replace(healthy, include=tmp_path / "empty")
    assert examine(without)["build headers"].fix == "apt-get install libelf-dev libssl-dev libzydis-dev"
    half = replace(healthy, include=headers(tmp_path / "half", "libelf.h"))
    assert examine(half)["build headers"].fix == "apt-get install libssl-dev libzydis-dev"


def test_missing_qemu_names_its_package(healthy: Host, programs: Programs) -> None:
    (programs.folder / "qemu-system-x86_64").unlink()
    checks = examine(healthy)
    for name in ("QEMU", "QEMU plugins"):
        assert checks[name].state == "fail"
        assert checks[name].fix == "apt-get install qemu-system-x86"


@pytest.mark.parametrize(
    ("version", "state", "api"),
    [("6.2.0", "fail", 1), ("7.2.11", "ok", 1), ("9.0.0", "ok", 2), ("9.1.2", "ok", 3), ("10.0.2", "ok", 4)],
)
def test_qemu_version_selects_the_plugin_interface(
    healthy: Host, programs: Programs, version: str, state: str, api: int
) -> None:
    install_qemu(programs, version)
    checks = examine(healthy)
    assert checks["QEMU"].state == state
    assert checks["QEMU plugins"].detail.startswith(f"interface {api}")
    assert ("backports" in checks["QEMU plugins"].fix) == (api < 4)


@pytest.mark.parametrize("version", ["3.1.0", "unknown"])
def test_qemu_older_than_plugins_fails(healthy: Host, programs: Programs, version: str) -> None:
    install_qemu(programs, version)
    checks = examine(healthy)
    assert checks["QEMU"].state == "fail"
    assert checks["QEMU plugins"].state != "ok"


def test_qemu_without_plugins_is_a_warning(healthy: Host, programs: Programs) -> None:
    install_qemu(programs, refusal="qemu-system-x86_64: -plugin: invalid option")
    assert examine(healthy)["QEMU plugins"].state == "warn"


def test_silent_qemu_fails(healthy: Host, programs: Programs) -> None:
    programs.shell("qemu-system-x86_64", "exit 0")
    assert examine(healthy)["QEMU"].state == "fail"


def test_broken_qemu_fails_with_its_message(healthy: Host, programs: Programs) -> None:
    programs.shell("qemu-system-x86_64", "echo 'cannot open shared object file' >&2; exit 127")
    failed = [check for check in doctor.examine(host=healthy) if check.state == "fail"]
    assert failed
    assert "cannot open shared object file" in failed[0].detail


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (Verdict(True, "linux", "a Linux kernel booted", 1.2), "ok"),
        (Verdict(True, "firmware", "firmware ran; no Linux kernel was probed yet", 0.2), "warn"),
        (Verdict(False, "none", "no /dev/kvm"), "warn"),
    ],
)
def test_kvm_needs_proof(healthy: Host, verdict: Verdict, state: str) -> None:
    check = examine(replace(healthy, kvm=lambda kernel: verdict))["KVM"]
    assert check.state == state
    assert (check.fix == "") == (state == "ok")


def test_kvm_is_probed_with_the_given_kernel(healthy: Host, tmp_path: Path) -> None:
    kernels: list[Path | None] = []

    def probe(kernel: Path | None) -> Verdict:
        kernels.append(kernel)
        return Verdict(True, "linux", "ran")

    doctor.examine(kernel=tmp_path, host=replace(healthy, kvm=probe))
    assert kernels == [tmp_path]


def test_libvirt_shows_version_and_connection(healthy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine(healthy)["libvirt"].detail == "9.0.4, embedded driver (qemu:///embed)"
    monkeypatch.setenv("SENTINEL_LIBVIRT_URI", "qemu:///system")
    assert examine(healthy)["libvirt"].detail == "9.0.4, qemu:///system"


def test_libvirt_that_refuses_fails_with_its_hint(healthy: Host) -> None:
    def refuse(uri: str) -> int:
        raise InfrastructureError("cannot open libvirt", hint="apt-get install libvirt-daemon-system")

    failed = failure(replace(healthy, libvirt_version=refuse))
    assert failed == Check("libvirt", "fail", "cannot open libvirt", "apt-get install libvirt-daemon-system")


def test_missing_libvirt_module_fails(healthy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "testbed.vm.libvirt_connection", None)  # importing it raises ImportError
    monkeypatch.delattr("testbed.vm.libvirt_connection", raising=False)  # another test may have imported it
    failed = failure(replace(healthy, libvirt_version=doctor.libvirt_version))
    assert failed.name == "libvirt"
    assert failed.fix


def test_little_memory_and_disk_are_warnings(healthy: Host) -> None:
    checks = examine(replace(healthy, available_memory=lambda: 3 << 30, free_disk=lambda path: 5 << 30))
    assert checks["memory"].state == "warn"
    assert checks["memory"].detail == "3.0 GiB available; the default machine needs 6"
    assert checks["disk"].state == "warn"
    assert checks["disk"].detail == f"5 GiB free at {settings.cache_root()}; needs 12"


def test_cache_folder_that_cannot_be_created_fails(
    healthy: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SENTINEL_CACHE", str(tmp_path / "file" / "cache"))
    check = examine(replace(healthy, free_disk=doctor.free_disk))["disk"]
    assert check.state == "fail"
    assert str(tmp_path / "file" / "cache") in check.detail


def test_missing_ccache_is_a_warning(healthy: Host, programs: Programs) -> None:
    (programs.folder / "ccache").unlink()
    assert examine(healthy)["ccache"].state == "warn"
    assert examine(healthy)["ccache"].fix == "apt-get install ccache"


def test_host_nodes_are_listed(healthy: Host) -> None:
    assert examine(replace(healthy, node_numbers=lambda: [0, 2]))["host NUMA"].detail == "nodes 0, 2"


def test_bare_host_still_reports_every_check(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.alone()
    monkeypatch.setattr(accel, "KVM", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "testbed.vm.libvirt_connection", None)
    checks = doctor.examine(host=Host(include=tmp_path / "empty"))
    assert len({check.name for check in checks}) == len(checks) == 13
    assert all(check.fix for check in checks if check.state == "fail")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.11 (Debian 1:7.2+dfsg-7)", (7, 2)),
        ("10.0", (10, 0)),
        ("no version", (0, 0)),
    ],
)
def test_version_is_parsed_from_program_output(text: str, version: tuple[int, int]) -> None:
    assert accel.parse_version(text) == version
