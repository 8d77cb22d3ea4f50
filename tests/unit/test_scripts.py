# SPDX-License-Identifier: Apache-2.0
"""Scripts of users: what is copied, what identifies them, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import host_files, scripts
from experiments.scripts import Script, ScriptError
from testbed.common.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script with a module, a folder of data, and files that it does not need."""
    folder = tmp_path / "mine"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "__pycache__").mkdir()
    (folder / "train.py").write_text("import util\n")
    (folder / "util.py").write_text("x = 1\n")
    (folder / "data" / "a.csv").write_text("1,2\n")
    (folder / "data" / "deep" / "b.bin").write_bytes(bytes(range(256)))
    (folder / "data" / "__pycache__" / "c.pyc").write_bytes(b"compiled")
    (folder / "notes.txt").write_text("not copied\n")
    return folder


def load(folder: Path, *files: str) -> Script:
    return scripts.load(folder / "train.py", ["--lr", "0.1"], [folder / name for name in files])


def staged(script: Script, target: Path) -> list[str]:
    target.mkdir()
    script.files.stage(target)
    return sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())


def test_files_keep_their_path_beside_the_script(folder: Path, tmp_path: Path) -> None:
    script = load(folder, "data", "util.py")
    assert staged(script, tmp_path / "guest") == ["data/a.csv", "data/deep/b.bin", "train.py", "util.py"]
    assert (tmp_path / "guest" / "data" / "deep" / "b.bin").read_bytes() == bytes(range(256))
    content = script.resolve()["content"]
    assert script.resolve() == {"name": "train.py", "args": ["--lr", "0.1"], "content": content}
    assert scripts.load(folder / "train.py", step_ops=["a/b"]).resolve()["step_ops"] == ["a/b"]


def test_the_folder_of_the_script_can_be_copied(folder: Path, tmp_path: Path) -> None:
    names = ["data/a.csv", "data/deep/b.bin", "notes.txt", "train.py", "util.py"]
    assert staged(load(folder, "."), tmp_path / "guest") == names


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("data")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "data" / "link").symlink_to(folder / "util.py")
    names = staged(load(folder, "link", "data"), tmp_path / "guest")
    assert names == ["data/a.csv", "data/deep/b.bin", "data/link", "link/x", "train.py"]
    assert not (tmp_path / "guest" / "data" / "link").is_symlink()


def test_the_place_on_the_host_does_not_matter(folder: Path, tmp_path: Path) -> None:
    script = load(folder, "data")
    folder.rename(tmp_path / "other")
    moved = load(tmp_path / "other", "data")
    assert moved == script
    assert moved.resolve() == script.resolve()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "train.py").write_text("import util, os\n"),
        lambda folder: (folder / "data" / "a.csv").write_text("1,3\n"),
        lambda folder: (folder / "data" / "a.csv").rename(folder / "data" / "b.csv"),
        lambda folder: (folder / "data" / "new").write_text(""),
        lambda folder: (folder / "data" / "a.csv").chmod(0o755),
    ],
    ids=["script", "data", "name", "new file", "executable"],
)
def test_every_change_changes_the_digest(folder: Path, change: Callable[[Path], object]) -> None:
    script = load(folder, "data")
    change(folder)
    changed = load(folder, "data")
    assert changed != script
    assert changed.resolve()["content"] != script.resolve()["content"]
    assert {**changed.resolve(), "content": ""} == {**script.resolve(), "content": ""}


def test_a_file_that_changes_before_it_is_copied_is_reported(folder: Path, tmp_path: Path) -> None:
    script = load(folder)
    (folder / "train.py").write_text("print('new')\n")
    with pytest.raises(UsageError, match=r"train\.py: has changed since the start"):
        staged(script, tmp_path / "guest")
    (folder / "train.py").unlink()
    with pytest.raises(UsageError, match=r"train\.py: cannot be read: No such file"):
        staged(script, tmp_path / "again")


LOOP = "Too many levels of symbolic links"


def nothing(_: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "files", "message"),
    [
        (nothing, ["missing"], "{}/missing: no such file"),
        (nothing, ["../other.py"], "{}/../other.py: must be in the script's folder"),
        (nothing, ["data", "data/a.csv"], "{}/data/a.csv: data/a.csv is copied already"),
        (nothing, ["train.py"], "{}/train.py: train.py is copied already"),
        (
            lambda folder: (folder / "timing_client.py").write_text(""),
            ["timing_client.py"],
            "{}/timing_client.py: the name timing_client is taken by a module in the guest",
        ),
        (
            lambda folder: ((folder / "guest").mkdir(), (folder / "guest" / "__init__.py").write_text("")),
            ["guest"],
            "{}/guest/__init__.py: the name guest is taken by a module in the guest",
        ),
        (
            lambda folder: os.mkfifo(folder / "data" / "pipe"),
            ["data"],
            "{}/data/pipe: cannot be read: it is a FIFO, not a file",
        ),
        (
            lambda folder: (folder / "data" / "gone").symlink_to("nowhere"),
            ["data"],
            "{}/data/gone: no such file",
        ),
        (lambda folder: (folder / "data" / "loop").symlink_to("loop"), ["data"], LOOP),
        (lambda folder: (folder / "data" / "loop").symlink_to("."), ["data"], LOOP),
    ],
    ids=[
        "missing", "outside", "twice", "script", "module", "package", "FIFO", "dangling link", "loop",
        "loop of folders",
    ],
)  # fmt: skip
def test_an_unusable_file_is_reported(
    folder: Path, prepare: Callable[[Path], object], files: list[str], message: str
) -> None:
    prepare(folder)
    with pytest.raises(ScriptError) as caught:
        load(folder, *files)
    assert message.format(folder) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.field == ("files", len(files) - 1)


def test_an_unusable_script_is_reported(folder: Path) -> None:
    with pytest.raises(ScriptError, match=r"nothing\.py: no such file") as caught:
        scripts.load(folder / "nothing.py")
    assert caught.value.field == ("script",)
    with pytest.raises(ScriptError, match="data: cannot be read: it is a folder, not a file"):
        scripts.load(folder / "data")


def test_too_much_is_refused_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "data" / "large").open("wb") as f:
        f.truncate(host_files.MAX_BYTES)
    limits = r"at most 10,000 files, 256 MiB in all"
    monkeypatch.setattr(host_files, "_digest", lambda _: pytest.fail("a file was read"))
    with pytest.raises(ScriptError, match=limits):
        load(folder, "data")
    (folder / "data" / "large").unlink()
    monkeypatch.setattr(host_files, "MAX_FILES", 2)
    with pytest.raises(ScriptError, match="at most 2 files"):
        load(folder, "data")
