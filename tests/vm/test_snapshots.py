# SPDX-License-Identifier: Apache-2.0
"""A saved machine goes on exactly where it was, as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.common.cache import Cache
from testbed.common.errors import UsageError
from testbed.vm import snapshot
from tests.vm.conftest import Up


@pytest.fixture
def cache() -> Iterator[Cache]:
    """The ordinary cache (a snapshot stands beside the kernel and image it needs), cleaned up afterwards."""
    ordinary = Cache()
    names = tuple(snapshot.cache_key(name) for name in ("test-mark", "test-held"))
    ordinary.prune(kinds=("snapshot",), keys=names)
    yield ordinary
    ordinary.prune(kinds=("snapshot",), keys=names)


def test_restored_guest_continues(up: Up, cache: Cache) -> None:
    machine = up()
    with machine.shell() as shell:
        shell.run("echo on disk >/root/mark; echo in memory >/run/mark")
        shell.run(
            "setsid sh -c 'while :; do i=$((i+1)); echo $i >/run/count; sleep 0.1; done' >/dev/null 2>&1 &"
        )
        shell.run("sleep 1")
    entry = snapshot.take(machine, "test-mark", cache=cache)
    assert machine.end_reason() == "saved"
    with pytest.raises(UsageError, match=r"no snapshot 'other'; existing snapshots: .*test-mark"):
        snapshot.find("other", cache=cache)

    twins = [up(name, what=snapshot.load(entry, cache=cache)) for name in ("one", "two")]
    for twin in twins:
        with twin.shell() as shell:
            assert shell.run("cat /root/mark /run/mark").out == "on disk\nin memory\n"
            before = int(shell.run("cat /run/count").out)
            shell.run("sleep 1")
            assert int(shell.run("cat /run/count").out) > before > 0
            shell.run(f"echo {twin.name} >/root/mark")
        assert "Linux version" in twin.console_path.read_text(), "the console before the save is missing"
    for twin in twins:
        with twin.shell() as shell:
            assert shell.run("cat /root/mark").out.strip() == twin.name, "twins share a disk"


def test_snapshot_in_use_is_not_pruned(up: Up, cache: Cache) -> None:
    entry = snapshot.take(up(), "test-held", cache=cache)
    twin = up("holder", what=snapshot.load(entry, cache=cache))
    assert [e.key for e in cache.prune(keys=(entry.key,)).busy] == [entry.key]
    twin.down()
    assert [e.key for e in cache.prune(keys=(entry.key,)).removed] == [entry.key]
