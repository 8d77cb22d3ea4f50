# SPDX-License-Identifier: Apache-2.0
"""Whole kernel builds, of a source that builds in milliseconds."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kernel import compilation, config, kbuild, source
from kernel.build import Kernel, build, installed, requested_config, resulting_config, source_of
from kernel.build_spec import resolve
from kernel.machine_config import USUAL, MachineConfig, Variant
from testbed.common import progress, settings
from testbed.common.cache import Cache
from testbed.common.errors import BuildError, InfrastructureError, UsageError
from tests.fakes import kernel_tree

TOOLCHAIN = {"gcc": "gcc 12.2.0", "ld": "ld 2.40"}
REAL_TREE = settings.LINUX_4_9.get() or settings.LINUX_6_1.get() or None  # read before a fixture hides it
fork = multiprocessing.get_context("fork")


@dataclass
class Lab:
    data: kernel_tree.Data
    tree: Path
    cache: Cache

    def build(
        self, *flavour: str, location: str | None = None, variant: Variant = USUAL, dry_run: bool = False
    ) -> Kernel:
        return build(
            "4.9",
            location=location or str(self.tree),
            flavour=flavour or ("base",),
            variant=variant,
            cache=self.cache,
            dry_run=dry_run,
        )

    def edit(self, path: str, text: str) -> None:
        (self.tree / path).write_text(text)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    data = kernel_tree.Data(tmp_path / "data", monkeypatch)
    monkeypatch.setattr(kbuild, "toolchain", lambda: TOOLCHAIN)
    for name in ("4_9", "6_1"):
        monkeypatch.delenv(f"SENTINEL_LINUX_{name}", raising=False)
    yield Lab(data, kernel_tree.make_tree(tmp_path / "linux"), Cache(tmp_path / "cache"))
    source.catalogue.cache_clear()


def compiled(kernel: Kernel) -> set[str]:
    """Return the objects compiled by the build of `kernel`."""
    log = gzip.decompress((kernel.entry.path / "build.log.gz").read_bytes()).decode()
    return {line.split()[1] for line in log.splitlines() if line.startswith("  CC")}


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return all files below `folder` with content and modification time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


ALL = {"init/main.o", "mm/migrate.o", "mm/memory.o", "fs/ext4.o"}
PATCH = kernel_tree.patch("mm/migrate.c", "int migrate;", "int armed;", at=4)


def test_a_kernel_is_built_once_and_then_cached(lab: Lab) -> None:
    first = lab.build()
    assert first.release == "4.9.0"
    assert first.source == "4.9"
    assert compiled(first) == ALL
    assert b"int migrate;" in first.bzimage.read_bytes()
    assert "CONFIG_SMP=y" in first.config.read_text()
    stamp = first.bzimage.stat().st_mtime_ns
    second = lab.build()
    assert second.bzimage == first.bzimage
    assert second.bzimage.stat().st_mtime_ns == stamp
    assert [k.bzimage for k in installed(lab.cache)] == [first.bzimage]


def test_the_manifest_lists_the_inputs(lab: Lab) -> None:
    lab.data.series({"0001-arm.patch": PATCH})
    kernel = lab.build()
    manifest = kernel.entry.manifest
    assert manifest["source"]["origin"] == str(lab.tree)
    assert manifest["source"]["digest"].startswith("tree:")
    assert manifest["patches"] == [
        {"name": "0001-arm.patch", "sha256": hashlib.sha256(PATCH.encode()).hexdigest()}
    ]
    assert set(manifest["fragments"]) == {"base"}
    assert manifest["toolchain"] == TOOLCHAIN
    assert manifest["bzimage_sha256"] == hashlib.sha256(kernel.bzimage.read_bytes()).hexdigest()
    assert not any(str(lab.cache.root) in word for word in manifest["flags"])
    assert (kernel.entry.path / manifest["log"]).exists()
    assert (kernel.entry.path / "System.map").exists()


def test_every_input_changes_the_key(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [lab.build(dry_run=True).entry.key]

    def changed() -> bool:
        keys.append(lab.build(dry_run=True).entry.key)
        return len(set(keys)) == len(keys)

    lab.edit("mm/memory.c", "int other;\n")
    assert changed()
    lab.data.series({"0001-arm.patch": PATCH})
    assert changed()
    lab.data.fragment("base", "CONFIG_SMP=y\n")
    assert changed()
    monkeypatch.setattr(kbuild, "toolchain", lambda: {**TOOLCHAIN, "ld": "ld 2.41"})
    assert changed()
    lab.data.sources('auto: ["4.9"]\nsources:\n  "4.9": {objects: 5, cflags: [-w]}\n')
    assert changed()


def test_comments_do_not_change_the_key(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lab.build(dry_run=True).entry.key
    lab.data.fragment("base", '# why\nCONFIG_LOCALVERSION=""\n\nCONFIG_MODULES=n\nCONFIG_SMP=y\n')
    (lab.tree / ".git").mkdir()
    (lab.tree / ".git" / "index").write_text("changes with every git status")
    os.utime(lab.tree / "mm/memory.c", (1, 1))
    monkeypatch.setenv("KCFLAGS", "-O3")
    assert lab.build(dry_run=True).entry.key == before


def test_the_users_tree_is_not_written(lab: Lab) -> None:
    lab.data.series({"0001-arm.patch": PATCH})
    before = state(lab.tree)
    assert b"int armed;" in lab.build().bzimage.read_bytes()
    assert state(lab.tree) == before


def test_an_edited_patch_rebuilds_only_affected_objects(lab: Lab) -> None:
    lab.data.series({"0001-arm.patch": PATCH})
    assert compiled(lab.build()) == ALL
    lab.data.series({"0001-arm.patch": PATCH.replace("armed", "disarmed")})
    edited = lab.build()
    assert compiled(edited) == {"mm/migrate.o"}
    assert b"int disarmed;" in edited.bzimage.read_bytes()
    lab.data.series({})
    plain = lab.build()
    assert compiled(plain) == {"mm/migrate.o"}
    assert b"int migrate;" in plain.bzimage.read_bytes()


def test_a_message_edit_rebuilds_nothing(lab: Lab) -> None:
    lab.data.series({"0001-arm.patch": PATCH})
    first = lab.build()
    lab.data.series({"0001-arm.patch": PATCH.replace("a change", "a good change")})
    second = lab.build()
    assert second.entry.key != first.entry.key
    assert compiled(second) == set()
    assert second.bzimage.read_bytes() == first.bzimage.read_bytes()


def test_an_edited_local_tree_rebuilds_only_affected_objects(lab: Lab) -> None:
    lab.data.series({"0001-arm.patch": PATCH})
    lab.build()
    lab.edit("fs/ext4.c", "int ext4plus;\n")
    assert compiled(lab.build()) == {"fs/ext4.o"}
    text = (lab.tree / "mm/migrate.c").read_text()
    lab.edit("mm/migrate.c", text.replace("int f;", "int g;"))  # the series patches this file too
    both = lab.build()
    assert compiled(both) == {"mm/migrate.o"}
    assert b"int armed;" in both.bzimage.read_bytes()
    assert b"int g;" in both.bzimage.read_bytes()
    (lab.tree / "fs/ext4.c").unlink()
    lab.edit("fs/xfs.c", "int xfs;\n")
    moved = lab.build()
    assert compiled(moved) == {"fs/xfs.o"}
    assert b"ext4" not in moved.bzimage.read_bytes()


def test_patches_may_create_and_delete_files(lab: Lab) -> None:
    new = "--- /dev/null\n+++ b/mm/arm.c\n@@ -0,0 +1 @@\n+int arm;\n"
    gone = "--- a/fs/ext4.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-int ext4;\n"
    plain = lab.build().bzimage.read_bytes()
    lab.data.series({"0001-new.patch": new, "0002-gone.patch": gone})
    image = lab.build().bzimage.read_bytes()
    assert b"int arm;" in image
    assert b"ext4" not in image
    lab.data.series({})
    shutil.rmtree(lab.cache.root / "kernel")
    assert lab.build().bzimage.read_bytes() == plain


def test_a_failing_patch_is_reported_with_file_and_hunk(lab: Lab) -> None:
    lab.build()
    work = next(lab.cache.root.glob("scratch/kernel-4.9-*/tree"))
    before = state(work)
    lab.data.series(
        {"0001-arm.patch": PATCH, "0002-bad.patch": kernel_tree.patch("mm/memory.c", "int no;", "int x;")}
    )
    with pytest.raises(
        BuildError,
        match=r"0002-bad.patch does not apply to Linux 4.9.0: mm/memory.c: hunk #1 \(@@ -1 \+1 @@\)",
    ):
        lab.build()
    assert state(work) == before
    lab.data.series({"0001-bad.patch": kernel_tree.patch("mm/none.c", "a", "b")})
    with pytest.raises(BuildError, match=r"0001-bad.patch does not apply .*: mm/none.c does not exist"):
        lab.build()
    lab.data.series({})
    lab.edit("fs/ext4.c", "int again;\n")
    assert compiled(lab.build()) == {"fs/ext4.o"}


def test_patches_apply_only_to_their_versions(lab: Lab) -> None:
    lab.data.series({"0001-arm.patch": PATCH}, bounds=', since: "4.10"')
    assert lab.build().entry.manifest["patches"] == []


def test_a_refused_symbol_fails_the_build(lab: Lab) -> None:
    lab.edit("dropped", "CONFIG_SMP\n")
    with pytest.raises(
        BuildError, match=r"did not grant 1 of 3 .*\n  CONFIG_SMP=y \(requested at .*:1, got nothing"
    ):
        lab.build()
    assert installed(lab.cache) == []
    lab.data.expected('expected:\n  - {symbol: CONFIG_SMP, since: "4.9", until: "4.10", reason: a fake}\n')
    assert "CONFIG_SMP" not in lab.build().config.read_text()


def test_a_compiler_error_is_reported_with_its_place(lab: Lab) -> None:
    lab.edit("mm/memory.c", "int fault;\nerror\n")
    with pytest.raises(BuildError) as caught:
        lab.build()
    assert caught.value.message == "make bzImage failed (exit 2): mm/memory.c:2:1: error: expected ';'"
    assert caught.value.log is not None
    assert "second" in caught.value.log.read_text()
    assert installed(lab.cache) == []
    lab.edit("mm/memory.c", "int fault;\n")
    assert "mm/memory.o" in compiled(lab.build())


def test_a_linker_error_is_reported(lab: Lab) -> None:
    lab.edit("mm/memory.c", "undeclared\n")
    with pytest.raises(BuildError, match="undefined reference to `gone'"):
        lab.build()


def test_flavours_do_not_disturb_each_other(lab: Lab) -> None:
    lab.data.fragment("debug", "CONFIG_KASAN=y\nCONFIG_SMP=n\n")
    lab.build()
    debug = lab.build("base", "debug")
    assert compiled(debug) == ALL
    assert "CONFIG_KASAN=y" in debug.config.read_text()
    assert "# CONFIG_SMP is not set" in debug.config.read_text()
    lab.edit("fs/ext4.c", "int again;\n")
    assert compiled(lab.build()) == {"fs/ext4.o"}
    with pytest.raises(UsageError, match="unknown config fragment 'fast'") as caught:
        lab.build("base", "fast")
    assert "base, debug" in (caught.value.hint or "")


def test_same_bytes_from_any_cache_and_environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.build()
    for name in ("KBUILD_BUILD_USER", "KBUILD_BUILD_TIMESTAMP", "LOCALVERSION", "KCFLAGS", "ARCH", "O"):
        monkeypatch.setenv(name, "surprise")
    monkeypatch.setenv("MAKEFLAGS", "n")  # like an outer `make -n`
    lab.cache = Cache(lab.cache.root.with_name("elsewhere"))
    second = lab.build()
    assert second.release == "4.9.0"
    assert second.entry.key == first.entry.key
    assert second.bzimage.read_bytes() == first.bzimage.read_bytes()
    assert b"sentinel@testbed #1 Thu Jan  1 00:00:00 UTC 1970" in first.bzimage.read_bytes()


def test_all_kinds_of_source_give_the_same_kernel(lab: Lab, tmp_path: Path) -> None:
    lab.data.series({"0001-arm.patch": PATCH})
    tarball = kernel_tree.make_tarball(lab.tree, tmp_path / "linux.tar.xz")
    image = lab.build().bzimage.read_bytes()
    assert lab.build(location=str(tarball)).bzimage.read_bytes() == image
    commit = kernel_tree.make_repository(lab.tree)
    kernel = lab.build(location=f"{lab.tree}@{commit[:10]}")
    assert kernel.bzimage.read_bytes() == image
    assert kernel.entry.manifest["source"]["digest"] == f"git:{commit}"


def test_a_tree_that_was_built_in_place_is_cleaned_in_the_copy(lab: Lab) -> None:
    lab.edit(".config", "CONFIG_SMP=n\n")
    lab.edit("mm/memory.o", "stale")
    lab.build()
    work = next(lab.cache.root.glob("scratch/kernel-4.9-*/tree"))
    assert not (work / ".config").exists()
    assert not (work / "mm/memory.o").exists()
    assert (lab.tree / ".config").exists()
    lab.edit("fs/ext4.c", "int again;\n")
    assert compiled(lab.build()) == {"fs/ext4.o"}


def test_an_interrupted_copy_is_not_used(lab: Lab, tmp_path: Path) -> None:
    tarball = str(kernel_tree.make_tarball(lab.tree, tmp_path / "linux.tar.xz"))
    for location in (str(lab.tree), tarball):
        image = lab.build(location=location).bzimage.read_bytes()
        work = max(lab.cache.root.glob("scratch/kernel-4.9-*/"), key=lambda path: path.stat().st_mtime_ns)
        (work / "tree.json").unlink()  # as after an interruption
        (work / "tree/mm/memory.c").write_text("int ha")
        (work / "tree/mm/left.c").write_text("int left;\n")
        shutil.rmtree(lab.cache.root / "kernel")
        assert lab.build(location=location).bzimage.read_bytes() == image


def test_a_dry_run_builds_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    predicted = lab.build(dry_run=True)
    said = capsys.readouterr().err
    assert "would be built" in said
    assert str(lab.tree) in said
    assert not predicted.bzimage.exists()
    assert not (lab.cache.root / "kernel").exists()
    built = lab.build()
    assert built.bzimage == predicted.bzimage
    assert lab.build(dry_run=True).release == "4.9.0"
    assert "cached: " in capsys.readouterr().err


def test_resulting_config_needs_no_build(lab: Lab) -> None:
    requests = requested_config("4.9", location=str(lab.tree), flavour=("base",), cache=lab.cache)
    assert {s: r.value for s, r in requests.items()} == {
        "CONFIG_SMP": "y",
        "CONFIG_MODULES": "n",
        "CONFIG_LOCALVERSION": '""',
    }
    text = resulting_config("4.9", location=str(lab.tree), flavour=("base",), cache=lab.cache)
    assert "CONFIG_SMP=y" in text
    assert installed(lab.cache) == []
    assert lab.build().config.read_text() == text


def test_a_cache_folder_with_unsupported_characters_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.cache = Cache(tmp_path / "my cache")
    with pytest.raises(UsageError, match=r"cannot build in the cache folder .* its name contains ' '"):
        lab.build()


def _in_process(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    process = fork.Process(target=work)
    process.start()
    return process


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "nothing happened within 20 s"
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_resumes(lab: Lab, how: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_SUSPECT_S", 0.5)
    monkeypatch.setattr(settings, "jobs", lambda: 1)
    go = lab.tree.with_name("go")
    # make compiles fs/ext4.c, init/main.c and mm/memory.c before it
    lab.edit("mm/migrate.c", f"linger {go}\n")
    process = _in_process(lab.build)
    output = lab.cache.root / "scratch"
    _wait_for(lambda: any(output.glob("kernel-*/build/base/mm/migrate.o")))
    half = next(output.glob("kernel-*/build/base/mm/migrate.o"))
    time.sleep(0.6)  # until the finished objects are no suspects
    for path in (half, half.with_name("another.o")):
        path.write_text("half")  # a truncated object
    assert process.pid is not None
    os.kill(process.pid, how)
    process.join(60)
    assert process.exitcode not in (0, None)
    assert installed(lab.cache) == []
    go.write_text("")
    again = lab.build()
    assert b"half" not in again.bzimage.read_bytes()
    log = gzip.decompress((again.entry.path / "build.log.gz").read_bytes()).decode()
    assert log.count("  CC      mm/migrate.o") == 2
    assert log.count("  CC      fs/ext4.o") == 1


def test_concurrent_builds_wait_for_each_other(lab: Lab) -> None:
    lab.data.fragment("debug", "CONFIG_KASAN=y\n")
    go = lab.tree.with_name("go")
    lab.edit("mm/migrate.c", f"linger {go}\n")
    processes = [_in_process(lab.build), _in_process(lab.build)]
    processes.append(_in_process(lambda: lab.build("base", "debug")))

    _wait_for(lambda: any(lab.cache.root.glob("scratch/kernel-*/build/*/mm/migrate.o")))
    go.write_text("")
    _wait_for(lambda: not any(p.is_alive() for p in processes))
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert len(installed(lab.cache)) == 2
    for kernel in installed(lab.cache):
        assert compiled(kernel) == ALL
        assert b"half" not in kernel.bzimage.read_bytes()


def test_progress_counts_against_the_last_build(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float | None] = []
    monkeypatch.setattr(progress.Step, "update", lambda self, share=None, text="": shares.append(share))
    lab.data.sources('auto: ["4.9"]\nsources:\n  "4.9": {objects: 50}\n')
    lab.build()
    assert [s for s in shares if s][-1] == pytest.approx(5 / 50)
    shares.clear()
    for path in kernel_tree.SOURCES:
        lab.edit(path, "int new;\n")
    lab.build()
    assert [s for s in shares if s][-1] == pytest.approx(0.99)


def test_a_full_disk_is_one_line(lab: Lab, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        lab.cache = Cache(mount / "cache")
        lab.edit("mm/memory.c", "x" * 200_000)
        with pytest.raises(InfrastructureError, match="disk is full"):
            lab.build()
        assert installed(lab.cache) == []
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)


def test_auto_warns_about_unavailable_sources(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = kernel_tree.make_tree(tmp_path / "other", version="6.1.7")
    package = kernel_tree.make_tarball(tree, tmp_path / "linux-source-6.1.tar.xz", top="linux-source-6.1")
    lab.data.sources(
        f"""\
auto: ["4.9", "6.1"]
sources:
  "4.9":
    tarball: {{url: "http://127.0.0.1:9/linux-4.9.tar.xz", sha256: "{"0" * 64}", version: "4.9.0"}}
    objects: 5
  "6.1":
    package: {{name: linux-source-6.1, file: {package}}}
    objects: 5
"""
    )
    kernel = build(flavour=("base",), cache=lab.cache)
    assert kernel.source == "6.1"
    assert kernel.release == "6.1.7"
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: http://127.0.0.1:9/linux-4.9.tar.xz cannot be downloaded" in said
    assert "using Linux 6.1.7 instead" in said
    with pytest.raises(InfrastructureError, match="cannot be downloaded"):
        build("4.9", flavour=("base",), cache=lab.cache)
    capsys.readouterr()
    assert build(flavour=("base",), cache=lab.cache, dry_run=True).source == "6.1"
    said = " ".join(capsys.readouterr().err.split())
    assert "linux-4.9.tar.xz cannot be downloaded" in said
    assert "would be downloaded" not in said
    assert source_of("auto", location=None, flavour=("base",), cache=lab.cache) == "6.1"
    with pytest.raises(InfrastructureError, match="cannot be downloaded"):
        build("4.9", flavour=("base",), cache=lab.cache, dry_run=True)
    package.unlink()
    with pytest.raises(
        InfrastructureError, match=r"no kernel source is available: .*; the package .* not installed"
    ):
        build(flavour=("base",), cache=lab.cache)


def test_an_unknown_source_lists_the_known_ones(lab: Lab) -> None:
    for location in (None, str(lab.tree)):
        with pytest.raises(UsageError, match=r"unknown kernel source '5.10'") as caught:
            build("5.10", location=location, flavour=("base",), cache=lab.cache)
        assert caught.value.hint == "one of: auto, 4.9, 6.1"


def test_auto_takes_the_series_of_a_location(lab: Lab, tmp_path: Path) -> None:
    tree = kernel_tree.make_tree(tmp_path / "other", version="6.1.7")
    assert build(location=str(tree), flavour=("base",), cache=lab.cache).source == "6.1"
    assert build(location=str(lab.tree), flavour=("base",), cache=lab.cache).source == "4.9"


OWN = """\
# of a distribution
CONFIG_MODULES=y
CONFIG_SMP=y
CONFIG_NVME=m
CONFIG_XFS=m
CONFIG_KERNEL_XZ=y
"""


def machine(*modules: str, text: str = OWN) -> Variant:
    return Variant("sentinel", MachineConfig(text, frozenset(modules)))


def test_a_machines_configuration_keeps_its_own_symbols_and_loaded_modules(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.data.fragment("target", "CONFIG_OVERLAY_FS=y\nCONFIG_KERNEL_XZ=n\n")
    kernel = lab.build("target", variant=machine("nvme", "nvidia"))
    assert config.parse(kernel.config.read_text()) == {
        "CONFIG_MODULES": "y",
        "CONFIG_SMP": "y",
        "CONFIG_NVME": "m",
        "CONFIG_XFS": "n",
        "CONFIG_KERNEL_XZ": "n",
        "CONFIG_OVERLAY_FS": "y",
    }
    assert kernel.release == f"4.9.0-sentinel-{kernel.entry.key[:12]}"
    assert kernel.modules is not None
    assert {path.name: path.read_text() for path in kernel.modules.iterdir()} == {"NVME.ko": "NVME\n"}
    assert "modules of the machine that this kernel will not have: nvidia" in " ".join(
        capsys.readouterr().err.split()
    )
    assert lab.build("target", variant=machine("nvidia", "nvme")).entry.key == kernel.entry.key
    assert "Building" not in capsys.readouterr().err


def test_a_machine_is_part_of_the_key(lab: Lab) -> None:
    lab.data.fragment("target", "CONFIG_OVERLAY_FS=y\n")
    keys = {
        lab.build("target", variant=variant, dry_run=True).entry.key
        for variant in (
            USUAL,
            Variant("sentinel"),
            machine("nvme"),
            machine("nvme", "xfs"),
            machine("nvme", text=OWN + "CONFIG_NUMA=y\n"),
        )
    }
    assert len(keys) == 5
    comments = machine("nvme", text="# other words\n" + OWN)
    assert lab.build("target", variant=comments, dry_run=True).entry.key in keys


def test_a_name_gives_a_release_of_its_own(lab: Lab) -> None:
    usual = lab.build()
    named = lab.build(variant=Variant("sentinel"))
    assert (usual.release, usual.modules) == ("4.9.0", None)
    assert (named.release, named.modules) == (f"4.9.0-sentinel-{named.entry.key[:12]}", None)
    assert lab.build(variant=Variant("sentinel"), dry_run=True).release == named.release
    assert compiled(named) == set()
    assert lab.build().bzimage == usual.bzimage
    assert USUAL.inputs() == {}  # keys of usual kernels are what they were


def test_a_source_without_modules_has_no_machines_configuration(lab: Lab, tmp_path: Path) -> None:
    package = kernel_tree.make_tarball(
        kernel_tree.make_tree(tmp_path / "other", version="6.1.7"), tmp_path / "linux-source-6.1.tar.xz"
    )
    lab.data.sources(
        'auto: ["4.9", "6.1"]\nsources:\n  "4.9": {objects: 5, modules: false}\n'
        f'  "6.1": {{objects: 5, package: {{name: linux-source-6.1, file: {package}}}}}\n'
    )
    with pytest.raises(UsageError, match=r"Linux 4\.9 cannot load modules"):
        lab.build(variant=machine("nvme"))
    assert (
        build("auto", flavour=("base",), variant=machine(text="CONFIG_A=y"), cache=lab.cache).source == "6.1"
    )


@pytest.mark.slow
def test_a_real_kernel_has_the_same_bytes_in_another_cache(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not request.config.getoption("--slow", default=False):
        pytest.skip("builds a kernel twice; run with --slow")
    cache = Cache(tmp_path / "a")
    try:
        resolve(source.AUTO, location=REAL_TREE, flavour=config.DEFAULT, cache=cache)
    except InfrastructureError as e:
        pytest.skip(f"no kernel source: {e.message}")
    first = build(location=REAL_TREE, cache=cache)
    second = build(first.source, location=REAL_TREE, cache=Cache(tmp_path / "another-folder"))
    assert first.bzimage != second.bzimage
    assert files_equal(first.bzimage, second.bzimage)


def files_equal(a: Path, b: Path) -> bool:
    return hashlib.sha256(a.read_bytes()).digest() == hashlib.sha256(b.read_bytes()).digest()
