# SPDX-License-Identifier: Apache-2.0
"""Every verb with plain but wrong input: a documented exit code, a few lines, never a traceback."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path
from typing import Any

import click
import pytest

from sentinel.cli import main
from testbed.common.errors import BuildError, ExitCode, InfrastructureError

MOST_LINES = 12  # click shows the usage too, and a wrong file may have several mistakes
SUITE = "name: s\nmodels: [{name: cnn}]\nplacements: [fast-only, slow-only]\n"
NUMBERS = ["", "0", "-1", "1e999", "nan", "-inf", "9" * 30, "0x10", "1_0", "٣", "1e-400", "40%", "14 MiB"]
TEXTS = [
    " ",
    "-",
    "--",
    "-x",
    "--nonsense",
    "a b",
    "a\nb",
    "é\u2028",
    "\udcff",
    "[red]",
    "$(id)",
    "'",
    "no",
    "~",
]
NAMES = ["auto", "4.9", "6.1", "5.10", "base", "two-node", "cxl-asic", "default", "embed", "bash", "x" * 300]
PATHS = ["/", ".", "..", "/dev/null", "/dev/zero", "/proc/none", "/proc/self/mem", "none/below", "n@HEAD"]
FILES: dict[str, bytes] = {
    "s.yaml": SUITE.encode(),
    "cut.yaml": SUITE[:40].encode(),
    "none.yaml": b"",
    "binary.yaml": b"name: \xff\x00",
    "deep.yaml": b"[" * 3000,
    "twice.yaml": SUITE.encode() * 2,
    "types.yaml": b"name: [1]\nmodels: 3\nplacements: {a: b}\nsteps: yes\nkernel: 6.1\nseed: 0xffffffff\n",
    "machine.yaml": b"vcpus: 1e3\nnodes: [{memory: 9999999999999999 GiB}, 3]\n",
    "preset.yaml": b"nodes: [{read_latency: 1e999 ns}]\ncache: &c {size: *c}\n",
    "list.json": b"[1, {}]",
    "number.json": b"1e999",
    "profile.json": b'{"format": "sentinel-profile", "tensors": null}',
    "deep.json": b"[" * 100_000,
    "cut.json.gz": gzip.compress(b"{}" * 1000)[:30],
    "Makefile": b"VERSION = x\n",
    "Linux.tar.xz": b"\xfd7zXZ\x00\x00",
}


def leaves(command: click.Command = main.cli, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    children = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return [leaf for name, child in children.items() if child for leaf in leaves(child, (*path, name))]


def command_of(path: tuple[str, ...]) -> click.Command:
    command: click.Command = main.cli
    for name in path:
        assert isinstance(command, click.Group)
        child = command.get_command(click.Context(command), name)
        assert child is not None
        command = child
    return command


@pytest.fixture
def nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A host on which nothing can be built or started; the paths there are to try."""

    def refuse(*_: Any, **__: Any) -> None:
        raise BuildError("nothing is built here")

    def nowhere(*_: Any, **__: Any) -> None:
        raise InfrastructureError("there is no network here")

    for built in ("experiments.boot.build_kernel", "experiments.boot.build_image", "images.build.build"):
        monkeypatch.setattr(built, refuse)
    monkeypatch.setattr("kernel.build.tree.opened", refuse)
    monkeypatch.setattr("kernel.download.requests.get", nowhere)
    monkeypatch.setattr("kernel.source._tarball", nowhere)  # of the package, which takes seconds to read
    monkeypatch.setattr("testbed.host.doctor.examine", lambda **_: [])
    monkeypatch.setattr("os.execvp", nowhere)
    monkeypatch.setattr("testbed.host.memory.available", lambda: 64 << 30)
    folder = tmp_path / "here"
    (folder / "folder").mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    monkeypatch.chdir(folder)
    return [*FILES, "fifo", "link", "loop", "folder", "s.yaml/below"]


def words_for(choose: random.Random, path: tuple[str, ...], values: list[str]) -> list[str]:
    words = list(path)
    for parameter in command_of(path).params:
        if isinstance(parameter, click.Option):
            if choose.random() < (0.9 if parameter.required else 0.25):
                words.append(choose.choice(parameter.opts))
                words += [] if parameter.is_flag else [choose.choice(values)]
        elif choose.random() < 0.95:
            words += choose.choices(values, k=choose.randrange(1, 4) if parameter.nargs == -1 else 1)
    return words + choose.choices(values, k=choose.random() < 0.05)


@pytest.mark.parametrize("seed", range(8))
def test_random_input_never_gives_a_traceback(
    nothing_works: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seed: int,
) -> None:
    choose = random.Random(seed)  # noqa: S311 -- the same words for a seed
    values = [*NUMBERS, *TEXTS, *NAMES, *PATHS, *nothing_works * 2]
    roots = [
        "cache",
        "a relative one",
        f"{tmp_path}/here/s.yaml",
        "s.yaml/below",
        "/proc/none",
        "x" * 300,
        "link",
    ]
    for _ in range(60):
        for setting in ("SENTINEL_CACHE", "SENTINEL_STATE"):
            monkeypatch.setenv(
                setting, choose.choice(roots) if choose.random() < 0.2 else f"{tmp_path}/{setting}"
            )
        words = words_for(choose, choose.choice(leaves()), values)
        code = main._run(words, debug=False)
        said = capsys.readouterr()
        told = f"seed {seed}: sentinel {words}\nexit {code}\n{said.err}"
        assert code in set(ExitCode) - {ExitCode.BUG}, told
        assert "Traceback" not in said.err + said.out, told
        assert len(said.err.splitlines()) <= MOST_LINES, told
        assert code in (ExitCode.OK, ExitCode.INTERRUPTED) or said.err.strip(), told
