# SPDX-License-Identifier: Apache-2.0
"""The guest image: its key, its pinned packages, and building it with tools that only pretend."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from images import build as builder
from images import definition
from images.definition import GUEST, Definition
from testbed.common.cache import Cache
from testbed.common.cache_entry import MARKER
from testbed.common.errors import BuildError, InfrastructureError
from tests.fakes.programs import Programs

fork = multiprocessing.get_context("fork")

# mmdebstrap's last but one argument or so is the tar it shall write; what it says is what the real one says.
MMDEBSTRAP = """
import os, tarfile, tempfile, time
tar = next(a for a in sys.argv if a.endswith('rootfs.tar'))
hooks = [a for a in sys.argv if a.startswith('--customize-hook=sync-in')]
scratch = next(a for a in hooks if a.endswith('/wheels')).split('"')[1]
mode = Path(scratch).parent.stat().st_mode & 0o7777
print('I: running apt-get update...')
print(f'scratch {oct(mode)} {sorted(os.listdir(scratch))}', flush=True)
trouble = Path(TROUBLE)
while trouble.exists() and trouble.read_text() == 'linger':
    (trouble.parent / 'begun').touch()
    time.sleep(0.01)
if trouble.exists() and trouble.read_text() == 'fail':
    print('Err:1 http://mirror.example bullseye/main', flush=True)
    print('E: Unable to locate package nonsense')
    print('I: removing tempdir')
    sys.exit(25)
print('installed: bash 5.1-2')
print('installed: sysvinit-core 2.96-7')
with tempfile.TemporaryDirectory() as d:
    Path(d, 'etc').mkdir()
    Path(d, 'etc/hostname').write_text('sentinel')
    with tarfile.open(tar, 'w') as t:
        t.add(d, arcname='.')
"""
PIP = """
if sys.argv[1:4] != ['-m', 'pip', 'download']:
    import os
    os.execv(REAL, [REAL, *sys.argv[1:]])
dest = Path(sys.argv[sys.argv.index('--dest') + 1])
trouble = Path(TROUBLE)
if trouble.exists() and trouble.read_text() == 'hash':
    print('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.')
    print('noise')
    sys.exit(1)
binary = '--only-binary=:all:' in sys.argv
(dest / ('pip-20.3.4-py2.py3-none-any.whl' if binary else 'gast-0.2.2.tar.gz')).write_text(' '.join(sys.argv))
"""


class Lab:
    def __init__(self, folder: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = programs
        self.cache = Cache()
        self._trouble = folder / "trouble"
        self.begun = folder / "begun"
        head = f"TROUBLE = {str(self._trouble)!r}\nREAL = {sys.executable!r}\n"
        programs.python("mmdebstrap", head + MMDEBSTRAP)
        pip = programs.python("pip-python", head + PIP)
        programs.shell("fakeroot", 'exec "$@"')
        programs.shell("newuidmap", "exit 0")
        programs.shell("unshare", 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"')
        monkeypatch.setattr(sys, "executable", str(pip))
        guest = folder / "guest"
        shutil.copytree(GUEST, guest)
        self.definition = Definition(
            suite="bullseye",
            packages=("bash", "openssh-server"),
            excluded=("boot/*",),
            wheels=guest / "requirements-wheels.txt",
            sdists=guest / "requirements-sdists.txt",
            files=guest,
            free_mib=64,  # room for the inodes
        )

    def trouble(self, what: str) -> None:
        self._trouble.write_text(what)

    def well_again(self) -> None:
        self._trouble.unlink()

    def build(self) -> builder.Image:
        return builder.build(cache=self.cache, guest=self.definition)

    def calls(self, program: str) -> list[str]:
        return [call for call in self.programs.calls if call.startswith(f"{program} ")]


@pytest.fixture
def lab(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Lab:
    if not shutil.which("mke2fs"):
        pytest.skip("mke2fs is not installed: apt-get install e2fsprogs")
    return Lab(tmp_path, programs, monkeypatch)


def test_an_image_is_built_once_with_its_manifest(lab: Lab) -> None:
    image = lab.build()
    assert image.disk == image.entry.path / "rootfs.ext4"
    assert image.disk.read_bytes()[1080:1082] == b"\x53\xef"  # ext4's magic number
    manifest = image.entry.manifest
    assert manifest["suite"] == "bullseye"
    assert manifest["packages"] == {"bash": "5.1-2", "sysvinit-core": "2.96-7"}
    assert set(manifest["python"]) == {"pip-20.3.4-py2.py3-none-any.whl", "gast-0.2.2.tar.gz"}
    assert re.fullmatch("[0-9a-f]{64}", manifest["sha256"])
    assert manifest["installed_bytes"] >= 1 << 20
    assert sorted(p.name for p in image.entry.path.iterdir()) == ["build.log", MARKER, "rootfs.ext4"]
    log = (image.entry.path / "build.log").read_text()
    assert "mmdebstrap --variant minbase" in log
    assert "scratch 0o1777 ['gast-0.2.2.tar.gz', 'manifest.json', 'pip-20.3.4-py2.py3-none-any.whl']" in log
    before = len(lab.programs.calls)
    assert lab.build() == image
    assert len(lab.programs.calls) == before


def test_the_image_contains_the_tree(lab: Lab, tmp_path: Path) -> None:
    if not shutil.which("debugfs"):
        pytest.skip("debugfs is not installed: apt-get install e2fsprogs")
    disk = lab.build().disk
    command = ["debugfs", "-R", "cat /etc/hostname", str(disk)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "sentinel"


def test_the_tools_get_the_definitions_values(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR", "http://mirror.example/debian")
    lab.build()
    (call,) = lab.calls("mmdebstrap")
    assert "--include bash,openssh-server" in call
    assert re.search(r" bullseye \S+/rootfs\.tar http://mirror\.example/debian$", call)
    assert "/boot/*" in call
    wheels, sdists = lab.calls("pip-python")
    for words in (
        "--python-version 27",
        "--abi cp27mu",
        "--only-binary=:all:",
        "--require-hashes",
        "--no-deps",
    ):
        assert words in wheels
    for words in ("--no-binary=:all:", "--require-hashes", "--no-deps"):
        assert words in sdists
    assert "--abi" not in sdists


def test_without_a_mirror_mmdebstrap_uses_its_default(lab: Lab) -> None:
    lab.build()
    assert lab.calls("mmdebstrap")[0].endswith("/rootfs.tar")


def test_a_failed_build_shows_the_error_and_leaves_nothing(lab: Lab) -> None:
    lab.trouble("fail")
    with pytest.raises(BuildError) as caught:
        lab.build()
    assert caught.value.message == (
        "building the guest's tree failed (exit 25): Err:1 http://mirror.example bullseye/main"
    )
    assert caught.value.log == lab.cache.root / "logs" / f"image-{lab.definition.key[:12]}.log"
    assert caught.value.log.exists()
    assert [entry.kind for entry in lab.cache.entries()] == ["wheels"]
    assert list((lab.cache.root / "image").glob(".*.tmp-*")) == []
    lab.well_again()
    assert lab.build().disk.exists()
    assert len(lab.calls("pip-python")) == 2  # the packages were kept


def test_a_download_with_a_wrong_hash_is_refused(lab: Lab) -> None:
    lab.trouble("hash")
    with pytest.raises(BuildError, match=r"Python packages failed .* DO NOT MATCH THE HASHES"):
        lab.build()
    assert lab.cache.entries() == []
    assert lab.calls("mmdebstrap") == []


def test_an_oversized_image_is_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "_MAX_INSTALLED", 1000)
    with pytest.raises(BuildError, match="the limit is 0 MiB") as caught:
        lab.build()
    assert caught.value.hint is not None
    assert "packages.txt" in caught.value.hint
    assert caught.value.log is not None
    assert lab.cache.get("image", lab.definition.key) is None


def test_a_build_after_a_killed_build_succeeds(lab: Lab) -> None:
    lab.trouble("linger")
    process = fork.Process(target=lab.build)
    process.start()
    deadline = time.monotonic() + 20
    while not lab.begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert lab.cache.get("image", lab.definition.key) is None
    scratch = list(Path(tempfile.gettempdir()).glob(f"sentinel-image-{process.pid}-*"))
    assert len(scratch) == 1
    lab.well_again()
    assert lab.build().disk.exists()
    assert not scratch[0].exists()
    assert list((lab.cache.root / "image").glob(".*.tmp-*")) == []


def test_a_dry_run_builds_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    image = builder.build(cache=lab.cache, guest=lab.definition, dry_run=True)
    assert not image.disk.exists()
    assert image.disk == lab.cache.path("image", lab.definition.key) / "rootfs.ext4"
    assert "would install Debian bullseye with bash, openssh-server" in capsys.readouterr().err
    assert lab.programs.calls == []


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("mmdebstrap", "mmdebstrap"),
        ("mke2fs", "e2fsprogs"),
        ("strip", "binutils"),
        ("fakeroot", "fakeroot"),
        ("newuidmap", "uidmap"),
    ],
)
def test_a_missing_tool_names_its_package(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, program: str, package: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("mke2fs", "strip"):
        lab.programs.shell(name, "exit 0")
    lab.programs.alone("sh")
    (lab.programs.folder / program).unlink()
    with pytest.raises(InfrastructureError, match=f"^{program} is not installed$") as caught:
        lab.build()
    assert caught.value.hint == f"apt-get install {package}"


@pytest.mark.parametrize("uid", [0, 1000])
def test_builds_keep_owners_and_end_mounts(lab: Lab, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    lab.build()
    assert len(lab.calls("fakeroot")) == (uid != 0)
    assert len(lab.calls("unshare")) == (uid == 0)  # what root mounts must end with the build


def test_every_guest_file_changes_the_key(tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    shutil.copytree(GUEST, guest)
    of = replace(
        definition.default(),
        files=guest,
        wheels=guest / "requirements-wheels.txt",
        sdists=guest / "requirements-sdists.txt",
    )
    assert of.key == definition.default().key  # where it lies does not matter
    keys, wheels = {of.key}, {of.wheels_key}
    for path in sorted(guest.iterdir()):
        before = path.read_bytes()
        path.write_bytes(before + b"# changed\n")
        keys.add(of.key)
        wheels.add(of.wheels_key)
        path.write_bytes(before)
    assert len(keys) == 1 + len(list(guest.iterdir()))
    assert len(wheels) == 3
    (guest / "new").touch()
    keys.add(of.key)
    (guest / "new").rename(guest / "newer")
    keys.add(of.key)
    (guest / "newer").unlink()
    keys.update((replace(of, suite="bookworm").key, replace(of, free_mib=2).key))
    assert len(keys) == 5 + len(list(guest.iterdir()))
    assert of.key in keys


def test_another_builder_format_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = definition.default().key
    monkeypatch.setattr(definition, "FORMAT", definition.FORMAT + 1)
    assert definition.default().key != before


def test_the_default_guest_contains_the_testbeds_needs() -> None:
    default = definition.default()
    assert {"openssh-server", "numactl", "python3-numpy"} <= set(default.packages)
    assert any(package.startswith("libpython2.7") or package == "python2.7" for package in default.packages)
    assert not any(line.startswith("#") for line in (*default.packages, *default.excluded))


@pytest.mark.parametrize("name", ["requirements-wheels.txt", "requirements-sdists.txt"])
def test_every_pinned_package_has_a_version_and_a_hash(name: str) -> None:
    text = re.sub(r"^#.*\n", "", (GUEST / name).read_text(), flags=re.M).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*( +--hash=sha256:[0-9a-f]{64})+ *", line), (
            line
        )
    names = [line.partition("==")[0].lower() for line in lines]
    assert len(set(names)) == len(names)


def test_a_hook_is_quoted_for_the_shell_in_the_tree(programs: Programs) -> None:
    programs.shell("chroot", 'shift; exec "$@"')
    hook = builder._chrooted("""printf '%s|' "it's" 'a b' $HOME""")
    said = subprocess.run(
        ["sh", "-c", hook, "sh", "/tree"], check=True, capture_output=True, text=True
    ).stdout
    assert said == f"it's|a b|{os.environ['HOME']}|"
    assert programs.calls[0].startswith("chroot /tree sh -euc ")
