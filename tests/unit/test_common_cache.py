# SPDX-License-Identifier: Apache-2.0
"""The cache: entries are complete or absent, built once, and never pruned while in use."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed.common import files
from testbed.common.cache import Cache, work_lock
from testbed.common.cache_entry import MARKER, Damaged, Entry
from testbed.common.disk import explained_disk_errors
from testbed.common.errors import BuildError, InfrastructureError

fork = multiprocessing.get_context("fork")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, kind: str, key: str, *, needs: tuple[str, ...] = (), size: int = 0) -> Entry:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "data").write_bytes(b"x" * size)
        return {"needs": list(needs)} if needs else {}

    return cache.build(kind, key, make)


def age(entry: Entry, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(entry.path / MARKER, (then, then))


def names(entries: Sequence[Entry | Damaged]) -> list[str]:
    return [f"{entry.kind}/{entry.key}" for entry in entries]


def leftovers(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.root.glob("*/.*") if ".tmp-" in path.name)


def test_entry_is_built_once_and_reused(cache: Cache) -> None:
    calls = []

    def make(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        assert list(folder.iterdir()) == []
        (folder / "bzImage").write_text("kernel")
        return {"release": "4.9.0"}

    entry = cache.build("kernel", "abc", make)
    assert entry.path == cache.path("kernel", "abc") == cache.root / "kernel" / "abc"
    assert (entry.path / "bzImage").read_text() == "kernel"
    assert entry.path.stat().st_mode & 0o777 == 0o755
    manifest = json.loads((entry.path / MARKER).read_text())
    assert manifest.pop("created").endswith("+00:00")
    digest = hashlib.sha256(b"kernel").hexdigest()
    assert manifest.pop("content") == {"bzImage": {"size": 6, "sha256": digest}}
    assert manifest == {"format": 1, "kind": "kernel", "key": "abc", "release": "4.9.0"}
    assert cache.build("kernel", "abc", make) == entry
    assert cache.get("kernel", "abc") == entry
    assert len(calls) == 1
    assert leftovers(cache) == []


def test_folder_without_marker_is_replaced(cache: Cache) -> None:
    half = cache.path("kernel", "abc")
    half.mkdir(parents=True)
    (half / "bzImage").write_text("half")
    assert cache.get("kernel", "abc") is None
    assert cache.entries() == []
    entry = put(cache, "kernel", "abc")
    assert not (entry.path / "bzImage").exists()


@pytest.mark.parametrize("reason", [BuildError("no compiler"), KeyboardInterrupt(), ValueError("a defect")])
def test_failed_build_leaves_nothing(cache: Cache, reason: BaseException) -> None:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise reason

    with pytest.raises(type(reason)) as caught:
        cache.build("kernel", "abc", make)
    assert caught.value is reason
    assert cache.get("kernel", "abc") is None
    assert [p.name for p in (cache.root / "kernel").iterdir()] == [".abc.lock"]
    put(cache, "kernel", "abc")


def test_unwritable_manifest_leaves_nothing(cache: Cache) -> None:
    with pytest.raises(TypeError):
        cache.build("kernel", "abc", lambda folder: {"bad": folder})
    assert leftovers(cache) == []
    assert cache.get("kernel", "abc") is None


def _build_slowly(root: Path, begun: Path) -> None:
    def make(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        begun.touch()
        time.sleep(60)
        return {}

    Cache(root).build("kernel", "abc", make)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.005)


def test_next_build_cleans_up_after_a_killed_builder(cache: Cache, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    builder = fork.Process(target=_build_slowly, args=(cache.root, begun))
    builder.start()
    _wait_for(begun)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert builder.exitcode == -signal.SIGKILL
    assert len(leftovers(cache)) == 1
    assert cache.get("kernel", "abc") is None
    assert cache.entries() == []
    entry = put(cache, "kernel", "abc")
    assert not (entry.path / "half").exists()
    assert leftovers(cache) == []


def test_prune_cleans_up_after_killed_builders_only(cache: Cache, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    builder = fork.Process(target=_build_slowly, args=(cache.root, begun))
    builder.start()
    try:
        _wait_for(begun)
        cache.prune()
        assert len(leftovers(cache)) == 1
    finally:
        builder.kill()
        builder.join()
    assert cache.prune().freed > 0
    assert leftovers(cache) == []


def _build_and_count(root: Path, log: Path, delay: float) -> None:
    def make(folder: Path) -> dict[str, Any]:
        with log.open("a") as f:
            f.write(f"{os.getpid()}\n")
        time.sleep(delay)
        (folder / "data").write_text("whole")
        return {}

    entry = Cache(root).build("kernel", "abc", make)
    assert (entry.path / "data").read_text() == "whole"


def test_concurrent_builders_build_once(cache: Cache, tmp_path: Path) -> None:
    log = tmp_path / "log"
    builders = [fork.Process(target=_build_and_count, args=(cache.root, log, 0.3)) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(20)
    assert [builder.exitcode for builder in builders] == [0, 0, 0]
    assert len(log.read_text().splitlines()) == 1


def test_waiting_for_another_builder_is_reported(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    builder = fork.Process(target=_build_and_count, args=(cache.root, log, 0.4))
    builder.start()
    _wait_for(log)
    cache.build("kernel", "abc", lambda _: pytest.fail("it was made twice"))
    builder.join()
    assert "waiting for another process to finish kernel abc" in capsys.readouterr().err


def test_entry_in_use_is_not_pruned(cache: Cache) -> None:
    used, idle = put(cache, "kernel", "used"), put(cache, "kernel", "idle")
    with cache.using(used):
        done = cache.prune()
        assert names(done.removed) == ["kernel/idle"]
        assert names(done.busy) == ["kernel/used"]
        assert cache.get("kernel", "used") == used
    assert not idle.path.exists()
    assert names(cache.prune().removed) == ["kernel/used"]
    assert not used.path.exists()


def test_entry_may_have_several_users(cache: Cache) -> None:
    entry = put(cache, "kernel", "abc")
    with cache.using(entry):
        with cache.using(entry):
            pass
        assert not cache.remove(entry)
    assert cache.remove(entry)


def test_using_a_pruned_entry_is_an_error(cache: Cache) -> None:
    entry = put(cache, "kernel", "abc")
    assert cache.remove(entry)
    with pytest.raises(InfrastructureError, match="kernel/abc"), cache.using(entry):
        pytest.fail("the entry is gone")


def test_entry_with_a_missing_dependency_counts_as_missing(cache: Cache) -> None:
    put(cache, "kernel", "k")
    put(cache, "snapshot", "s", needs=("kernel/k",))
    assert cache.get("snapshot", "s") is not None
    (cache.path("kernel", "k") / MARKER).unlink()
    assert cache.get("snapshot", "s") is None
    assert names(cache.entries()) == ["snapshot/s"], "what cannot be used must still be seen and pruned"
    assert names(cache.prune().removed) == ["snapshot/s"]


def test_dependents_are_pruned_with_their_entry(cache: Cache) -> None:
    put(cache, "image", "i", size=100_000)
    put(cache, "kernel", "k", size=100_000)
    put(cache, "snapshot", "s", needs=("kernel/k", "image/i"), size=100_000)
    put(cache, "snapshot", "of-s", needs=("snapshot/s",), size=100_000)
    planned = cache.prune(kinds=("kernel",), dry_run=True)
    done = cache.prune(kinds=("kernel",))
    assert sorted(names(done.removed)) == ["kernel/k", "snapshot/of-s", "snapshot/s"]
    assert planned.removed == done.removed
    assert planned.freed == done.freed >= 300_000
    assert names(cache.entries()) == ["image/i"]


def test_entry_with_a_dependent_in_use_is_not_pruned(cache: Cache) -> None:
    kernel = put(cache, "kernel", "k")
    snapshot = put(cache, "snapshot", "s", needs=("kernel/k",))
    with cache.using(snapshot):
        done = cache.prune()
    assert done.removed == []
    assert names(done.busy) == ["kernel/k", "snapshot/s"]
    assert kernel.path.exists()


def test_prune_removes_entries_and_dependents_together(cache: Cache) -> None:
    age(put(cache, "kernel", "k", size=100_000), 100)  # the oldest: considered before the snapshot
    put(cache, "snapshot", "s", needs=("kernel/k",), size=100_000)
    done = cache.prune(work=True)
    assert names(done.removed) == ["kernel/k", "snapshot/s"]
    assert done.freed >= 200_000
    assert cache.entries() == []


def test_entries_are_ordered_by_last_use(cache: Cache) -> None:
    for i, key in enumerate(("a", "b", "c")):
        age(put(cache, "kernel", key), 1000 - i)
    assert names(cache.entries()) == ["kernel/a", "kernel/b", "kernel/c"]
    cache.get("kernel", "a")
    assert names(cache.entries()) == ["kernel/b", "kernel/c", "kernel/a"]


@pytest.mark.parametrize(
    ("which", "gone"),
    [
        ({}, ["image/aa", "kernel/ab", "kernel/ba"]),
        ({"older_than_s": 500.0}, ["image/aa", "kernel/ab"]),
        ({"kinds": ("kernel",)}, ["kernel/ab", "kernel/ba"]),
        ({"keys": ("a",)}, ["image/aa", "kernel/ab"]),
        ({"keys": ("aa", "b")}, ["image/aa", "kernel/ba"]),
        ({"kinds": ("kernel",), "keys": ("a",), "older_than_s": 500.0}, ["kernel/ab"]),
        ({"kinds": ("snapshot",)}, []),
    ],
)
def test_prune_applies_all_filters(cache: Cache, which: dict[str, Any], gone: list[str]) -> None:
    for kind, key, seconds in (("image", "aa", 1000), ("kernel", "ab", 600), ("kernel", "ba", 10)):
        age(put(cache, kind, key, size=8192), seconds)
    there = names(cache.entries())
    dry = cache.prune(**which, dry_run=True)
    assert sorted(names(dry.removed)) == gone
    assert names(cache.entries()) == there
    done = cache.prune(**which)
    assert sorted(names(done.removed)) == gone
    assert sorted(names(cache.entries())) == sorted(set(there) - set(gone))
    assert dry.freed == done.freed >= 8192 * len(gone)


def test_scratch_is_pruned_on_request_if_idle(cache: Cache) -> None:
    idle, busy = cache.work("linux-4.9"), cache.work("linux-6.1")
    for folder in (idle, busy):
        (folder / "mm.o").write_bytes(b"x" * 10_000)
    cache.prune()
    assert idle.exists()
    cache.prune(work=True, dry_run=True)
    assert idle.exists()
    with files.locked(work_lock(busy)):
        assert cache.prune(work=True).freed >= 10_000
        assert (busy / "mm.o").exists()
    assert not idle.exists()
    assert (cache.work("linux-4.9")).is_dir()


BAD_MANIFESTS = [
    "{",
    "",
    "\udcff",
    "[]",
    "null",
    "[" * 100_000,
    '{"format": 1, "needs": 5}',
    '{"format": 1, "needs": ["x"]}',
]


@pytest.mark.parametrize("content", BAD_MANIFESTS, ids=range(len(BAD_MANIFESTS)))
def test_damaged_manifest_blocks_neither_lists_nor_builds(
    cache: Cache, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(cache, "kernel", "good")
    broken = put(cache, "kernel", "abc").path
    (broken / MARKER).write_bytes(content.encode(errors="surrogateescape"))
    assert names(cache.entries()) == ["kernel/good"]
    (damaged,) = cache.damaged()
    assert (damaged.name, damaged.path) == ("kernel/abc", broken)
    assert damaged.why.startswith("manifest.json: ")
    for _ in range(3):
        assert cache.get("kernel", "abc") is None
    output = " ".join(capsys.readouterr().err.split())
    assert output.count("the cache entry kernel/abc is damaged and not used: manifest.json: ") == 1
    assert names([put(cache, "kernel", "abc"), *cache.entries()]) == [
        "kernel/abc", "kernel/good", "kernel/abc",
    ]  # fmt: skip
    assert cache.damaged() == []


def test_entry_with_a_file_of_another_size_is_rebuilt(cache: Cache) -> None:
    entry = put(cache, "image", "abc", size=5000)
    with (entry.path / "data").open("r+b") as f:
        f.truncate(4999)
    assert cache.entries() == []
    assert [d.why for d in cache.damaged()] == ["data: it has 4999 bytes, and was built with 5000"]
    assert cache.get("image", "abc") is None
    with pytest.raises(InfrastructureError, match="was removed meanwhile"), cache.using(entry):
        pass
    assert (put(cache, "image", "abc", size=5000).path / "data").stat().st_size == 5000
    (entry.path / "data").unlink()
    assert [d.why for d in cache.damaged()] == ["data: No such file or directory"]


def test_condemn_detects_changed_content(cache: Cache) -> None:
    entry, good = put(cache, "image", "abc", size=5000), put(cache, "kernel", "good", size=10)
    (entry.path / "data").write_bytes(b"y" * 5000)
    assert cache.get("image", "abc") is not None  # contents are not read
    with cache.using(entry):  # in use by a machine that did not boot
        (damaged,) = cache.condemn(entry, good)
    assert (damaged.name, damaged.why) == ("image/abc", "data: its content is not what was built")
    assert cache.get("image", "abc") is None
    assert cache.get("kernel", "good") is not None
    assert put(cache, "image", "abc", size=5000).manifest["content"] == entry.manifest["content"]


def test_dependent_of_a_damaged_entry_is_not_used(cache: Cache) -> None:
    need = put(cache, "image", "base")
    put(cache, "snapshot", "s", needs=("image/base",))
    (need.path / MARKER).write_text("{")
    assert cache.get("snapshot", "s") is None


def test_damaged_entries_are_pruned_at_any_age_unless_in_use(cache: Cache) -> None:
    entry = put(cache, "kernel", "abc", size=5000)
    (entry.path / MARKER).write_text("{")
    assert cache.prune(kinds=("image",)).removed == []
    with files.locked(cache._lock("kernel", "abc"), shared=True):
        assert [e.name for e in cache.prune(older_than_s=1e6).busy] == ["kernel/abc"]
    done = cache.prune(older_than_s=1e6, dry_run=True)
    assert ([e.name for e in done.removed], done.freed >= 5000) == (["kernel/abc"], True)
    assert [e.name for e in cache.prune(older_than_s=1e6).removed] == ["kernel/abc"]
    assert not entry.path.exists()


def test_entries_without_recorded_content_are_valid(cache: Cache) -> None:
    entry = put(cache, "kernel", "old", size=10)
    manifest = {name: value for name, value in entry.manifest.items() if name != "content"}
    files.write_json(entry.path / MARKER, manifest)
    assert cache.get("kernel", "old") is not None
    assert cache.condemn(entry) == []


def test_cache_is_in_the_configured_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTINEL_CACHE", str(tmp_path / "elsewhere"))
    assert Cache().root == tmp_path / "elsewhere"


def test_full_disk_is_reported_in_one_line(cache: Cache) -> None:
    def make(_: Path) -> dict[str, Any]:
        with Path("/dev/full").open("w") as f:
            f.write("x")
        return {}

    with pytest.raises(InfrastructureError, match=r"^the disk is full at .*/kernel$") as caught:
        cache.build("kernel", "abc", make)
    assert caught.value.hint is not None
    assert "sentinel cache prune" in caught.value.hint
    assert leftovers(cache) == []


def test_other_disk_errors_are_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="I/O"), explained_disk_errors(tmp_path):
        raise OSError(errno.EIO, "I/O error")
    with pytest.raises(InfrastructureError, match="full"), explained_disk_errors(tmp_path):
        raise OSError(errno.EDQUOT, "quota")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB and 16 files."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=16", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_keeps_complete_files(small_disk: Path) -> None:
    cache = Cache(small_disk)
    first = put(cache, "kernel", "first", size=300_000)
    with pytest.raises(InfrastructureError, match="the disk is full"):
        put(cache, "kernel", "second", size=2_000_000)
    assert cache.entries() == [first]
    assert leftovers(cache) == []
    put(cache, "kernel", "third", size=300_000)


def test_disk_without_free_inodes_is_reported(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        for i in range(16):
            (small_disk / str(i)).touch()
    with pytest.raises(InfrastructureError, match="the disk is full"):
        put(Cache(small_disk), "kernel", "abc")
