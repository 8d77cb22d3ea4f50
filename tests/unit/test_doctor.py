# SPDX-License-Identifier: Apache-2.0
"""The doctor: a line for everything, a command for what is missing, and never an exception."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from testbed.common import settings
from testbed.common.errors import InfrastructureError
from testbed.host import accel, doctor
from testbed.host.accel import Verdict
from testbed.host.doctor import Check
from tests.fakes.programs import Programs

QEMU = """
case "$*" in
--version) echo "QEMU emulator version {version}" ;;
*-plugin*) echo "{refusal}" >&2; exit 1 ;;
esac
"""
NO_SUCH_PLUGIN = "Could not load plugin /nonexistent.so"


class Connection:
    def getLibVersion(self) -> int:  # noqa: N802 -- libvirt's name
        return 9_000_004

    def close(self) -> None:
        return


@pytest.fixture(autouse=True)
def fake_libvirt(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """`testbed.vm.libvirt_connection` without a libvirt behind it."""
    module = types.SimpleNamespace(EMBED="embed", connect=lambda uri, *, root: Connection())
    monkeypatch.setitem(sys.modules, "testbed.vm.libvirt_connection", module)
    monkeypatch.setattr("testbed.vm.libvirt_connection", module, raising=False)
    return module


@pytest.fixture
def well(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A host on which all is well."""
    names = {
        *doctor._BUILD_TOOLS,
        *doctor._IMAGE_TOOLS,
        *doctor._USER_IMAGE_TOOLS,
        "qemu-img",
        "ssh",
        "ssh-keygen",
        "ccache",
    }
    programs.alone("sh", "env", "cat")
    for name in names:
        programs.shell(name, "exit 0")
    qemu(programs)
    monkeypatch.setattr(accel, "probe", lambda kernel: Verdict(True, "linux", "ran", 1.5))
    monkeypatch.setattr(doctor, "host_available", lambda: 16 << 30)
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=100 << 30))
    monkeypatch.setattr(doctor, "Path", headers_in(tmp_path / "usr", "libelf.h", "openssl/ssl.h"))
    return programs


def headers_in(folder: Path, *names: str) -> type[Path]:
    """`Path` for a host whose /usr/include holds these."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return lambda *parts: folder.joinpath(*parts[1:]) if parts[0] == "/usr/include" else Path(*parts)  # type: ignore[return-value]


def qemu(programs: Programs, version: str = "10.0.2", refusal: str = NO_SUCH_PLUGIN) -> None:
    programs.shell("qemu-system-x86_64", QEMU.format(version=version, refusal=refusal))


def checks() -> dict[str, Check]:
    return {check.name: check for check in doctor.examine()}


def test_on_a_host_where_all_is_well_every_line_is_ok(well: Programs) -> None:
    found = doctor.examine()
    assert {check.name: check.state for check in found} == dict.fromkeys(
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
    assert all(check.found for check in found)


@pytest.mark.parametrize(
    "name", [*doctor._BUILD_TOOLS, *doctor._IMAGE_TOOLS, "qemu-img", "ssh", "ssh-keygen"]
)
def test_each_missing_tool_names_the_line_that_installs_it(well: Programs, name: str) -> None:
    (well.folder / name).unlink()
    package = {
        **doctor._BUILD_TOOLS,
        **doctor._IMAGE_TOOLS,
        "qemu-img": "qemu-utils",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
    }[name]
    (failed,) = [check for check in doctor.examine() if check.state == "fail"]
    assert failed.found == f"missing: {name}"
    assert failed.mend == f"apt-get install {package}"


@pytest.mark.parametrize("uid", [0, 1000])
def test_who_is_not_root_needs_more_to_build_images(
    well: Programs, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    for name in ("fakeroot", "newuidmap"):
        (well.folder / name).unlink()
    check = checks()["image tools"]
    if uid == 0:
        assert check.state == "ok"
    else:
        assert check == Check(
            "image tools", "fail", "missing: fakeroot, newuidmap", "apt-get install fakeroot uidmap"
        )


def test_several_missing_tools_are_one_line(well: Programs) -> None:
    for name in ("strip", "bc", "make"):
        (well.folder / name).unlink()
    check = checks()["build tools"]
    assert check.found == "missing: bc, make, strip"
    assert check.mend == "apt-get install bc binutils make"


def test_missing_headers_name_their_packages(
    well: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "Path", headers_in(tmp_path / "empty"))
    assert checks()["build headers"].mend == "apt-get install libelf-dev libssl-dev"
    monkeypatch.setattr(doctor, "Path", headers_in(tmp_path / "half", "libelf.h"))
    assert checks()["build headers"].mend == "apt-get install libssl-dev"


def test_without_qemu_its_lines_fail_with_the_package(well: Programs) -> None:
    (well.folder / "qemu-system-x86_64").unlink()
    found = checks()
    for name in ("QEMU", "QEMU plugins"):
        assert found[name].state == "fail"
        assert found[name].mend == "apt-get install qemu-system-x86"


@pytest.mark.parametrize(
    ("version", "state", "api"),
    [("6.2.0", "fail", 1), ("7.2.11", "ok", 1), ("9.0.0", "ok", 2), ("9.1.2", "ok", 3), ("10.0.2", "ok", 4)],
)
def test_qemus_version_decides_what_can_be_had(well: Programs, version: str, state: str, api: int) -> None:
    qemu(well, version)
    found = checks()
    assert found["QEMU"].state == state
    assert found["QEMU plugins"].found.startswith(f"interface {api}")
    assert ("backports" in found["QEMU plugins"].mend) == (api < 4)


@pytest.mark.parametrize("version", ["3.1.0", "unknown"])
def test_a_qemu_older_than_plugins_does_no_harm(well: Programs, version: str) -> None:
    qemu(well, version)
    found = checks()
    assert found["QEMU"].state == "fail"
    assert found["QEMU plugins"].state != "ok"


def test_a_qemu_without_plugins_is_told(well: Programs) -> None:
    qemu(well, refusal="qemu-system-x86_64: -plugin: invalid option")
    assert checks()["QEMU plugins"].state == "warn"


def test_a_qemu_that_says_nothing_does_no_harm(well: Programs) -> None:
    well.shell("qemu-system-x86_64", "exit 0")
    assert checks()["QEMU"].state == "fail"


def test_a_qemu_that_fails_does_no_harm(well: Programs) -> None:
    well.shell("qemu-system-x86_64", "echo 'cannot open shared object file' >&2; exit 127")
    failed = [check for check in doctor.examine() if check.state == "fail"]
    assert failed
    assert "cannot open shared object file" in failed[0].found


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (Verdict(True, "linux", "a Linux kernel ran to its end", 1.2), "ok"),
        (Verdict(True, "firmware", "firmware ran; no Linux kernel was tried yet", 0.2), "warn"),
        (Verdict(False, "none", "there is no /dev/kvm"), "warn"),
    ],
)
def test_kvm_is_ok_only_with_proof(
    well: Programs, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, state: str
) -> None:
    monkeypatch.setattr(accel, "probe", lambda kernel: verdict)
    check = checks()["KVM"]
    assert check.state == state
    assert (check.mend == "") == (state == "ok")


def test_libvirt_says_its_version_and_how_it_is_reached(
    well: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks()["libvirt"].found == "9.0.4, driver inside the process, no daemon (qemu:///embed)"
    monkeypatch.setenv("SENTINEL_LIBVIRT_URI", "qemu:///system")
    assert checks()["libvirt"].found == "9.0.4, qemu:///system"


def test_a_libvirt_that_does_not_open_is_a_line_with_its_hint(
    well: Programs, fake_libvirt: types.SimpleNamespace
) -> None:
    def refuse(uri: str, *, root: Path) -> Connection:
        raise InfrastructureError("libvirt does not open", hint="apt-get install libvirt-daemon-system")

    fake_libvirt.connect = refuse
    (failed,) = [check for check in doctor.examine() if check.state == "fail"]
    assert failed.found == "libvirt does not open"
    assert failed.mend == "apt-get install libvirt-daemon-system"
    assert failed.name == "libvirt"


def test_a_python_without_libvirts_module_is_a_line_too(
    well: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("testbed.vm.libvirt_connection")
    monkeypatch.setitem(
        sys.modules, "testbed.vm.libvirt_connection", None
    )  # what importing it would raise: ImportError
    (failed,) = [check for check in doctor.examine() if check.state == "fail"]
    assert failed.name == "libvirt"
    assert failed.mend


def test_little_memory_and_a_full_disk_are_warnings(well: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "host_available", lambda: 3 << 30)
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=5 << 30))
    found = checks()
    assert found["memory"].state == "warn"
    assert found["memory"].found == "3.0 GiB available; the default machine wants 6"
    assert found["disk"].state == "warn"
    assert found["disk"].found == f"5 GiB free at {settings.cache_root()}; 12 are wanted"


def test_a_cache_folder_that_cannot_be_made_is_a_line_too(
    well: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SENTINEL_CACHE", str(tmp_path / "file" / "cache"))
    check = checks()["disk"]
    assert check.state == "fail"
    assert str(tmp_path / "file" / "cache") in check.found


def test_a_missing_ccache_is_only_a_warning(well: Programs) -> None:
    (well.folder / "ccache").unlink()
    assert checks()["ccache"].state == "warn"
    assert checks()["ccache"].mend == "apt-get install ccache"


def test_a_host_with_several_nodes_names_them(well: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "host_nodes", lambda: [0, 2])
    assert checks()["host NUMA"].found == "nodes 0, 2"


def test_on_a_host_with_nothing_every_line_still_comes(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.alone()
    monkeypatch.setattr(accel, "KVM", tmp_path / "none")
    monkeypatch.setattr(doctor, "Path", headers_in(tmp_path / "empty"))
    found = doctor.examine()
    assert len(found) == 13
    assert len({check.name for check in found}) == 13
    assert all(check.mend for check in found if check.state == "fail")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.11 (Debian 1:7.2+dfsg-7)", (7, 2)),
        ("10.0", (10, 0)),
        ("no version", (0, 0)),
    ],
)
def test_versions_are_found_in_what_programs_say(text: str, version: tuple[int, int]) -> None:
    assert accel.parse_version(text) == version
