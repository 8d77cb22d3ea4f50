# SPDX-License-Identifier: Apache-2.0
"""The program: help, exit codes, errors, JSON and completion of every verb."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from experiments import durations, guest_code, runner
from experiments import matrix as matrices
from sentinel.cli import main, streams
from testbed import vm
from testbed.common import errors, files
from testbed.common.cache import Cache
from testbed.common.errors import ExitCode, SentinelError
from testbed.common.revision import revision
from testbed.guestlink import ssh
from testbed.guestlink.shell import Result
from testbed.host import doctor
from testbed.host.doctor import Check
from tests.fakes.hypervisor import Hypervisor
from tests.fakes.run_records import make_run

SUITES = Path(runner.__file__).parent / "suites"


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


Run = Callable[..., Outcome]


@pytest.fixture
def sentinel(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program in this process."""

    def run(*words: str) -> Outcome:
        code = main._run(list(words), debug="--debug" in words)
        return Outcome(code, *capsys.readouterr())

    return run


def verbs(command: click.Command = main.cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from verbs(child, (*path, name))


def is_group(path: tuple[str, ...]) -> bool:
    command: click.Command = main.cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return isinstance(command, click.Group)


ALL = list(verbs())
LEAVES = [path for path in ALL if not is_group(path)]


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_every_verb_exists() -> None:
    assert {" ".join(path) for path in LEAVES} == {
        "aa",
        "baseline list",
        "baseline save",
        "baseline use",
        "bound",
        "cache list",
        "cache prune",
        "calibrate",
        "compare",
        "completion",
        "doctor",
        "explain",
        "gate",
        "history",
        "image build",
        "kernel build",
        "kernel config",
        "kernel list",
        "model list",
        "model show",
        "plan",
        "policy list",
        "preset list",
        "preset show",
        "profile",
        "record",
        "replay",
        "report",
        "results export",
        "run",
        "simulate",
        "suite schema",
        "target check",
        "target clean",
        "target install-kernel",
        "target remove-kernel",
        "trace",
        "train",
        "vm console",
        "vm down",
        "vm exec",
        "vm get",
        "vm put",
        "vm snapshot",
        "vm ssh",
        "vm status",
        "vm up",
    }


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_verb_has_help(sentinel: Run, path: tuple[str, ...]) -> None:
    said = sentinel(*path, "--help")
    assert said.code == ExitCode.OK
    assert said.out.startswith(" ".join(("Usage: sentinel", *path)))
    assert said.err == ""
    if path in LEAVES:
        examples = said.out.partition("Examples:")[2]
        assert f"sentinel {' '.join(path)}" in examples
        own = "\n".join(line for line in examples.splitlines() if f"sentinel {' '.join(path)}" in line)
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", own)
        assert set(options) <= set(re.findall(r"--[a-z][a-z-]+", said.out.partition("Examples:")[0]))


def test_summary_of_each_command_begins_its_help(sentinel: Run) -> None:
    for name, (_, _, line) in main._COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line[:30])}", sentinel("--help").out, re.M), name


def test_help_lists_every_exit_code(sentinel: Run) -> None:
    text = sentinel("--help").out
    for code in ExitCode:
        assert re.search(rf"^ +{code.value}  {re.escape(code.doc)}$", text, re.M), code


def test_help_imports_no_library_code() -> None:
    check = (
        "import sys; from sentinel.cli import main\n"
        "try: main.main(['--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'pydantic', 'pandas', 'libvirt', 'fabric', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, timeout=60)


def test_version_is_the_packages_and_the_commit(sentinel: Run) -> None:
    from importlib.metadata import version

    number = re.escape(version("sentinel-testbed"))
    assert re.fullmatch(rf"sentinel {number} \([0-9a-f]{{12}}(-dirty)?\)\n", sentinel("--version").out)


def test_revision_is_dirty_after_an_edit_and_none_without_git(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    (tmp_path / "file").touch()
    assert revision(tmp_path) is None
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    assert re.fullmatch("[0-9a-f]{12}", str(revision(tmp_path)))
    (tmp_path / "file").write_text("edit")
    assert str(revision(tmp_path)).endswith("-dirty")


def test_unknown_verb_option_or_argument_is_a_usage_error(sentinel: Run) -> None:
    for words in (
        ("dance",),
        ("vm", "dance"),
        ("vm", "up", "--nonsense"),
        ("vm", "up", "--ssh-port", "70000"),
        ("completion", "tcsh"),
        ("run",),
        ("cache", "prune"),
        ("cache", "prune", "--older-than", "-1"),
    ):
        said = sentinel(*words)
        assert said.code == ExitCode.USAGE, words
        assert "Error: " in said.err, words
        assert "Traceback" not in said.err


@pytest.mark.parametrize("words", [(), ("vm",), ("cache",), ("kernel",), ("image",)], ids=" ".join)
def test_group_without_a_verb_shows_its_help(sentinel: Run, words: tuple[str, ...]) -> None:
    said = sentinel(*words)
    assert said.code == ExitCode.USAGE
    assert "Usage: sentinel" in said.err
    assert "Commands:" in said.err


KINDS = [
    errors.UsageError,
    errors.BuildError,
    errors.BootError,
    errors.GuestPanicError,
    errors.GuestHangError,
    errors.WorkloadError,
    errors.LostConnectionError,
    errors.InfrastructureError,
]


@pytest.mark.parametrize("kind", KINDS)
def test_expected_failure_prints_message_hint_and_log(
    sentinel: Run, monkeypatch: pytest.MonkeyPatch, kind: type[SentinelError]
) -> None:
    error = kind("it [bold]failed[/bold]\nin two ways", hint="do [this]", log=Path("/a/log"))
    monkeypatch.setattr(vm, "reap", fail_with(error))
    said = sentinel("vm", "status")
    assert said.code == kind.code
    assert said.out == ""
    assert said.err.splitlines() == [
        "error: it [bold]failed[/bold]",
        "error: in two ways",
        " hint: do [this]",
        "  log: /a/log",
    ]


def test_debug_shows_the_traceback(sentinel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "reap", fail_with(errors.BootError("no boot")))
    said = sentinel("--debug", "vm", "status")
    assert said.code == ExitCode.BOOT
    assert "Traceback (most recent call last)" in said.err
    assert said.err.endswith("error: no boot\n")


def test_unexpected_exception_is_reported_as_a_bug(sentinel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "reap", fail_with(ZeroDivisionError("oh")))
    said = sentinel("vm", "status")
    assert said.code == ExitCode.BUG
    assert "ZeroDivisionError: oh" in said.err
    assert "this is a bug in sentinel" in said.err


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), click.Abort()])
def test_interrupt_has_its_exit_code(
    sentinel: Run, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    monkeypatch.setattr(vm, "reap", fail_with(stop))
    said = sentinel("vm", "status")
    assert (said.code, said.err.strip()) == (ExitCode.INTERRUPTED, "interrupted")


def test_sigterm_interrupts(tmp_path: Path) -> None:
    """SIGTERM must end machines as Ctrl-C does."""
    check = (
        "import os, signal\nfrom sentinel.cli import main\nfrom testbed import vm\n"
        "vm.reap = lambda: os.kill(os.getpid(), signal.SIGTERM)\nmain.main(['vm', 'status'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr.strip()) == (ExitCode.INTERRUPTED, "interrupted")


@pytest.mark.parametrize("words", [("completion", "bash"), ("cache", "list")], ids=" ".join)
def test_early_exit_of_the_reader_is_no_failure(words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sentinel.cli.main", *words]
    with os.fdopen(write, "wb") as out:
        done = subprocess.run(command, check=False, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(sentinel: Run, shell: str) -> None:
    said = sentinel("completion", shell)
    assert said.code == ExitCode.OK
    assert "_SENTINEL_COMPLETE" in said.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=said.out, text=True, check=True, capture_output=True)


def test_completion_knows_the_verbs() -> None:
    environment = {
        **os.environ,
        "_SENTINEL_COMPLETE": "bash_complete",
        "COMP_WORDS": "sentinel vm s",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from sentinel.cli.main import cli; cli(prog_name='sentinel')"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["plain,snapshot", "plain,ssh", "plain,status"]


def parsed(said: Outcome) -> Any:
    assert said.code == ExitCode.OK, said.err
    return json.loads(said.out)


def test_cache_list_and_prune(sentinel: Run) -> None:
    assert parsed(sentinel("cache", "list", "--json")) == []
    Cache().build("kernel", "abc123", lambda _: {"release": "4.9.0"})
    (entry,) = parsed(sentinel("cache", "list", "--json"))
    assert (entry["kind"], entry["key"], entry["release"]) == ("kernel", "abc123", "4.9.0")
    assert entry["bytes"] > 0
    assert re.search(r"kernel +abc123 +.* ago +4\.9\.0", sentinel("cache", "list").out)
    said = sentinel("cache", "prune", "--older-than", "30")
    assert said.out == "0 B freed\n"
    said = sentinel("cache", "prune", "--all", "--dry-run")
    assert "would remove kernel abc123" in said.out
    assert Cache().get("kernel", "abc123") is not None
    entry_there = Cache().get("kernel", "abc123")
    assert entry_there is not None
    with Cache().using(entry_there):
        assert "in use, kept: kernel abc123" in sentinel("cache", "prune", "--kind", "kernel").out
    said = sentinel("cache", "prune", "--key", "abc")
    assert re.fullmatch(r"removed kernel abc123\n.* freed\n", said.out)
    assert Cache().entries() == []


def test_doctor_probes_kvm_with_the_most_recent_kernel(
    sentinel: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    kernels = [SimpleNamespace(bzimage=Path(name)) for name in ("used-first", "used-last")]
    monkeypatch.setattr("kernel.build.installed", lambda _: kernels)
    asked: list[Path] = []

    def examine(*, kernel: Path, uri: None) -> list[Check]:
        asked.append(kernel)
        return []

    monkeypatch.setattr(doctor, "examine", examine)
    assert sentinel("doctor").code == ExitCode.OK
    assert asked == [Path("used-last")]


def test_kernel_list_without_kernels_is_empty(sentinel: Run) -> None:
    assert parsed(sentinel("kernel", "list", "--json")) == []


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("fail", 9)])
def test_doctor_exit_code_reports_failures(
    sentinel: Run, monkeypatch: pytest.MonkeyPatch, state: Any, code: int
) -> None:
    found = [Check("QEMU", "ok", "10.0"), Check("KVM", state, "[none]", "buy one")]
    monkeypatch.setattr(doctor, "examine", lambda **_: found)
    said = sentinel("doctor", "--json")
    assert said.code == code
    assert json.loads(said.out)[1] == {"name": "KVM", "state": state, "detail": "[none]", "fix": "buy one"}
    said = sentinel("doctor")
    assert said.code == code
    assert re.search(rf"{state} +KVM +\[none\] +buy one", said.out)


def test_dry_run_lists_the_cells(sentinel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = str(SUITES / "first.yaml")
    asked: list[str] = []

    def source_of(name: str, **_: Any) -> str:
        asked.append(name)
        return "6.1"

    monkeypatch.setattr("kernel.build.source_of", source_of)
    cells = parsed(sentinel("run", suite, "--dry-run", "--json"))
    assert [cell["placement"] for cell in cells] == ["fast-only", "slow-only"]
    matrix = matrices.load(SUITES / "first.yaml")
    assert [cell["id"] for cell in cells] == [cell.id for cell in matrix.with_kernel("6.1").cells]
    assert [cell["id"] for cell in cells] != [cell.id for cell in matrix.cells]
    assert asked[0] == matrix.suite.kernel == "auto"
    table = sentinel("run", suite, "--dry-run").out
    assert all(cell["id"] in table for cell in cells)


def test_a_dry_run_shows_what_is_done_and_how_long_the_rest_takes(
    sentinel: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel.build.source_of", lambda *_, **__: "6.1")
    suite, out = str(SUITES / "first.yaml"), tmp_path / "run"
    first, second = matrices.load(SUITES / "first.yaml").with_kernel("6.1").cells
    (out / "cells" / first.id / "000").mkdir(parents=True)
    (out / "cells" / first.id / "000" / "result.json").touch()
    statuses = [cell["status"] for cell in parsed(sentinel("run", suite, "--dry-run", "--json"))]
    empty = {"repeats": first.repeats, "done": 0, "todo": first.repeats, "estimated_seconds": None}
    assert statuses == [empty, empty]
    durations.keep({first.id: 40.0})
    listed = parsed(sentinel("run", suite, "--dry-run", "--json", "--out", str(out)))
    left = first.repeats - 1
    assert listed[0]["status"] == {**empty, "done": 1, "todo": left, "estimated_seconds": 40.0 * left}
    assert listed[1]["status"] == empty
    table = sentinel("run", suite, "--dry-run", "--out", str(out)).out
    assert (
        f"about {40 * left} s to go on one worker and {second.repeats} repeats of unknown duration" in table
    )
    again = parsed(sentinel("run", suite, "--dry-run", "--json", "--out", str(out), "--force"))
    assert again[0]["status"]["todo"] == first.repeats


def test_chosen_cells_are_listed_and_run(
    sentinel: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel.build.source_of", lambda *_, **__: "6.1")
    given: dict[str, Any] = {}

    def run(_: Any, out: Path, **more: Any) -> runner.Outcome:
        given.update(more)
        make_run(out)
        return runner.Outcome()

    monkeypatch.setattr(runner, "run", run)
    suite = str(SUITES / "first.yaml")
    fast, slow = parsed(sentinel("run", suite, "--dry-run", "--json"))
    label = matrices.load(SUITES / "first.yaml").axes.label(slow)
    for name in (label, slow["id"], slow["id"][:6]):
        assert parsed(sentinel("run", suite, "--dry-run", "--json", "--only", name)) == [slow]
    both = ("--only", slow["id"], "--only", fast["id"])
    assert parsed(sentinel("run", suite, "--dry-run", "--json", *both)) == [fast, slow]
    assert sentinel("run", suite, "--only", label, "--out", str(tmp_path / "run")).code == 0
    assert given["only"] == [label]
    cell = next(
        cell for cell in matrices.load(SUITES / "first.yaml").cells if cell.policy.name == "slow-only"
    )
    assert given["command_of"](cell) == f"sentinel run {suite} --only '{label}'"
    assert sentinel("run", suite, "--out", str(tmp_path / "all")).code == 0
    assert given["only"] == []
    said = sentinel("run", suite, "--only", "slow")
    assert said.code == ExitCode.USAGE
    assert said.err.startswith("error: slow: no such cell\n hint: cells: ")
    assert label in said.err


def test_completion_knows_the_cells_of_a_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.build.source_of", lambda *_, **__: "6.1")
    from sentinel.cli import runs

    def complete(suite: Path, beginning: str) -> list[str]:
        completion = ShellComplete(runs.run, {}, "run", "_RUN_COMPLETE")
        return [item.value for item in completion.get_completions([str(suite), "--only"], beginning)]

    cells = [cell.id for cell in matrices.load(SUITES / "first.yaml").with_kernel("6.1").cells]
    assert complete(SUITES / "first.yaml", "") == cells
    assert complete(SUITES / "first.yaml", cells[1][:8]) == cells[1:]
    assert complete(SUITES / "nothing.yaml", "") == []


def test_invalid_suite_error_has_place(sentinel: Run, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: x\n")
    said = sentinel("run", str(tmp_path / "s.yaml"), "--dry-run")
    assert said.code == ExitCode.USAGE
    assert said.err.splitlines() == [
        f"error: {tmp_path}/s.yaml:1:1: models: missing, and must be given",
        f"error: {tmp_path}/s.yaml:1:1: placements: missing, and must be given",
    ]


def test_run_exits_with_the_code_of_its_first_failure(
    sentinel: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[SentinelError] = []
    given: dict[str, Any] = {}

    def run(plan: Any, out: Path, **more: Any) -> runner.Outcome:
        given.update(more, name=plan.suite.name)
        if not out.exists():
            make_run(out)
        return runner.Outcome(1, 0, failures)

    monkeypatch.setattr(runner, "run", run)
    out = tmp_path / "run"
    words = ("run", str(SUITES / "first.yaml"), "--out", str(out), "--source-location", "a b")
    assert isinstance(parsed(sentinel(*words, "--json")), dict)
    assert given["command"] == f"sentinel run {SUITES}/first.yaml --source-location 'a b'"
    assert given["backend"]._location == "a b"
    assert (out / "report.html").exists()
    failures += [errors.GuestHangError("a"), errors.WorkloadError("b")]
    said = sentinel(*words)
    assert said.code == ExitCode.HANG
    assert f"records in {out}" in said.err


@pytest.mark.parametrize(
    ("option", "verb"),
    [
        ("--out", ("run", str(SUITES / "first.yaml"))),
        ("--plots", ("calibrate", "--preset", "cxl-asic")),
        ("SENTINEL_CACHE", ("run", str(SUITES / "first.yaml"))),
        ("SENTINEL_STATE", ("run", str(SUITES / "first.yaml"))),
        ("SENTINEL_CACHE", ("vm", "up")),
        ("SENTINEL_STATE", ("vm", "up")),
        ("SENTINEL_STATE", ("vm", "status")),
        ("SENTINEL_STATE", ("vm", "down")),
        ("SENTINEL_CACHE", ("kernel", "build")),
        ("SENTINEL_CACHE", ("kernel", "config")),
        ("SENTINEL_CACHE", ("kernel", "list")),
        ("SENTINEL_CACHE", ("image", "build")),
        ("SENTINEL_CACHE", ("cache", "list")),
        ("SENTINEL_CACHE", ("doctor",)),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_unwritable_place_is_reported_first(
    sentinel: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, verb: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.touch()
    for module in ("experiments.boot.build_kernel", "experiments.boot.build_image"):
        monkeypatch.setattr(module, fail_with(AssertionError("nothing may be made")))
    monkeypatch.setattr("kernel.build.resolve", fail_with(AssertionError("nothing may be resolved")))
    monkeypatch.setattr("images.build.build", fail_with(AssertionError("nothing may be built")))
    for place in (file, file / "below", tmp_path / ("x" * 300)):
        words = verb
        if option.startswith("-"):
            words = (*verb, option, str(place))
        else:
            monkeypatch.setenv(option, str(place))
        said = sentinel(*words)
        assert said.code == ExitCode.USAGE, said.err
        first, *rest = said.err.splitlines()
        assert re.match(rf"error: {re.escape(option)}[ =]{re.escape(str(place))}: ", first)
        assert len(rest) == (0 if option.startswith("-") else 1)


def test_special_files_are_refused_at_once(sentinel: Run, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, reason in (
        (fifo, "cannot be read: it is a FIFO, not a file"),
        (tmp_path, "cannot be read: it is a folder, not a file"),
        (tmp_path / "none", "cannot be read: No such file or directory"),
        (fifo / "below", "cannot be read: Not a directory"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        for words in (
            ("run", str(path)),
            ("plan", str(path), "--budget", "20%", "--preset", "cxl-asic"),
            *([] if path == tmp_path else [("explain", str(path))]),  # a folder may be a run
            ("preset", "show", f"{path}/../{path.name}" if path == tmp_path else str(path)),
            ("vm", "up", "--dry-run", "--machine", str(path)),
        ):
            said = sentinel(*words)
            assert (said.code, len(said.err.splitlines())) == (ExitCode.USAGE, 1), (words, said.err)
            assert said.err.endswith(f": {reason}\n")


def test_invalid_record_is_an_error(sentinel: Run, tmp_path: Path) -> None:
    for name in ("fifo", "folder", "deep"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "fifo" / "run.json")
    (tmp_path / "folder" / "run.json").mkdir()
    (tmp_path / "deep" / "run.json").write_text("[" * 100_000)
    for name, reason in (
        ("fifo", "cannot be read: it is a FIFO, not a file"),
        ("folder", "cannot be read: it is a folder, not a file"),
        ("deep", "damaged: not JSON: "),
    ):
        for words in (("report", str(tmp_path / name)), ("compare", *[str(tmp_path / name)] * 2)):
            said = sentinel(*words)
            assert (said.code, len(said.err.splitlines())) == (ExitCode.USAGE, 2), said.err
            assert said.err.startswith(f"error: {tmp_path}/{name}/run.json: {reason}")


def test_file_error_is_one_line(sentinel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, code in (
        (errno.ENOSPC, ExitCode.INFRASTRUCTURE),
        (errno.EROFS, ExitCode.INFRASTRUCTURE),
        (errno.ENAMETOOLONG, ExitCode.USAGE),
    ):
        monkeypatch.setattr(vm, "reap", fail_with(OSError(number, os.strerror(number), "/a/file")))
        said = sentinel("vm", "status")
        assert said.code == code
        assert said.err.splitlines()[0] == f"error: /a/file: {os.strerror(number)}"
        assert "Traceback" not in said.err
        assert "Traceback" in sentinel("--debug", "vm", "status").err
    monkeypatch.setattr(vm, "reap", fail_with(FileNotFoundError(errno.ENOENT, "no", "x")))
    assert sentinel("vm", "status").code == ExitCode.BUG


def test_report_and_compare(sentinel: Run, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    make_run(a, models=("lstm",))
    make_run(b, models=("lstm",), factor=1.5)
    assert isinstance(parsed(sentinel("report", str(a), "--json")), dict)
    assert (a / "report.html").exists()
    assert sentinel("report", str(a), "--html", str(tmp_path / "p.html")).code == ExitCode.OK
    assert (tmp_path / "p.html").exists()
    assert isinstance(parsed(sentinel("compare", str(a), str(b), "--json")), dict)
    assert "lstm" in sentinel("compare", str(a), str(b)).out
    assert (
        sentinel("baseline", "save", "main", str(a), "--store", str(tmp_path / "store")).code == ExitCode.OK
    )
    compared = sentinel("compare", "main", str(b), "--store", str(tmp_path / "store"), "--format", "markdown")
    assert compared.out.startswith("**B is slower than A in all 3 cells")
    assert "in use" in sentinel("baseline", "list", "--store", str(tmp_path / "store")).out
    said = sentinel("report", str(tmp_path / "none"))
    assert said.code == ExitCode.USAGE
    assert "no such folder" in said.err


def test_results_export_writes_files_into_the_run_or_out(sentinel: Run, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    make_run(a, models=("lstm",), repeats=1)
    make_run(b, models=("lstm",), repeats=1)
    exported = sentinel("results", "export", str(a))
    assert exported.out.splitlines() == [str(a / "repeats.csv"), str(a / "steps.csv")]
    several = sentinel("results", "export", str(a), str(b))
    assert (several.code, several.err.splitlines()[0]) == (ExitCode.USAGE, "error: several runs need --out")
    out = tmp_path / "out"
    written = parsed(sentinel("results", "export", str(a), str(b), "--parquet", "--out", str(out), "--json"))
    assert written == {"files": [str(out / "repeats.parquet"), str(out / "steps.parquet")]}
    assert sentinel("results", "export", str(tmp_path / "none")).code == ExitCode.USAGE


def test_vm_status_and_unknown_machines(sentinel: Run) -> None:
    assert parsed(sentinel("vm", "status", "--json")) == []
    for words in (("down",), ("ssh",), ("exec", "true"), ("console",), ("get", "/x", "."), ("snapshot", "s")):
        said = sentinel("vm", *words)
        assert said.code == ExitCode.USAGE, words
        assert said.err.splitlines() == [
            "error: no machine 'default'; existing machines: none",
            " hint: sentinel vm up",
        ]
    assert sentinel("vm", "down", "--all").code == ExitCode.OK


class FakeShell:
    def __init__(self, code: int) -> None:
        self.code = code
        self.commands: list[str] = []
        self.puts: list[str] = []

    def __enter__(self) -> FakeShell:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def put(self, source: Path, target: str) -> None:
        assert source.exists()
        self.puts.append(target)

    def run(self, command: str, *, on_line: Any = None, on_error: Any = None, **_: Any) -> Result:
        self.commands.append(command)
        if on_line:
            on_line("out")
            on_error("err")
        return Result(self.code, "4.9.0\n", "")


def test_vm_commands_on_a_running_machine(
    sentinel: Run, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = vm.start("b", hypervisor.boot)
    machine.detach()
    machine.console_path.write_text("one\nsentinel: guest ready\n")
    (row,) = parsed(sentinel("vm", "status", "--json"))
    assert (row["name"], row["state"], row["port"]) == ("b", "running", machine.port)
    assert row["memory"] == "64 MiB"
    assert re.search(rf"b +running +{machine.port} +tcg +64 MiB", sentinel("vm", "status").out)
    assert sentinel("vm", "console", "--vm", "b").out == "one\nsentinel: guest ready\n"

    shell = FakeShell(0)
    monkeypatch.setattr(vm.Vm, "shell", lambda _: shell)
    said = sentinel("vm", "exec", "--vm", "b", "ls", "-l", "/")
    assert (said.code, said.out, said.err) == (ExitCode.OK, "out\n", "err\n")
    assert shell.commands == ["ls -l /"]
    shell.code = 3
    said = sentinel("vm", "exec", "--vm", "b", "false")
    assert said.code == ExitCode.WORKLOAD
    assert said.err.endswith("error: command exited with status 3\n")

    with monkeypatch.context() as nobody_reads:
        nobody_reads.setattr(click, "echo", fail_with(streams.UnreadError()))
        nobody_reads.setattr(streams, "discard_output", lambda: None)
        assert sentinel("vm", "exec", "--vm", "b", "yes").code == ExitCode.UNREAD

    executed: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, words: executed.append(words))
    sentinel("vm", "ssh", "--vm", "b", "uname", "-r")
    assert executed == [ssh.command_line(machine.port, ("uname", "-r"))]

    assert sentinel("vm", "down", "--vm", "b").code == ExitCode.OK
    (row,) = parsed(sentinel("vm", "status", "--json"))
    assert (row["state"], row["port"]) == ("ended by `sentinel vm down`", "")
    assert sentinel("vm", "exec", "--vm", "b", "true").code == ExitCode.USAGE
    assert sentinel("vm", "console", "--vm", "b").out.startswith("one\n")


def test_down_all_spares_machines_of_running_commands(sentinel: Run, hypervisor: Hypervisor) -> None:
    alone = vm.start("alone", hypervisor.boot)
    alone.detach()
    with vm.running("run-7", hypervisor.boot) as owned:
        said = sentinel("vm", "down", "--all")
        assert said.code == ExitCode.OK
        assert not alone.alive() and owned.alive()
        line = " ".join(said.err.split())
        assert f"warning: run-7 keeps running: it belongs to process {os.getpid()} (" in line
        assert "python" in line and line.endswith("); --force ends it too")
        assert sentinel("vm", "down", "--force").code == ExitCode.USAGE
        assert sentinel("vm", "down", "--all", "--force").code == ExitCode.OK
        assert not owned.alive()
        assert owned.end_reason() == "ended by `sentinel vm down`"
    with vm.running("run-8", hypervisor.boot) as owned:
        assert sentinel("vm", "down", "--vm", "run-8").code == ExitCode.OK
        assert not owned.alive()


def test_detached_machine_has_no_owner(sentinel: Run, hypervisor: Hypervisor) -> None:
    machine = vm.start("a", hypervisor.boot)
    owner = machine.owner()
    assert owner is not None and owner.startswith(f"process {os.getpid()} (")
    machine.detach()
    assert vm.find("a").owner() is None
    assert sentinel("vm", "down", "--all").err == ""
    assert not machine.alive()
    assert machine.owner() is None


@pytest.fixture
def boots(hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> Hypervisor:
    from types import SimpleNamespace

    from experiments import boot, tools

    monkeypatch.setattr(boot, "prepare", lambda *_, **__: SimpleNamespace(boot=hypervisor.boot))
    monkeypatch.setattr(tools, "collect", lambda **_: guest_code.sources())
    monkeypatch.setattr("testbed.host.memory.available", lambda: 64 << 30)
    return hypervisor


def test_vm_up_leaves_the_machine_running(
    sentinel: Run, boots: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm.Vm, "wait_ready", lambda _: None)
    shell = FakeShell(0)
    monkeypatch.setattr(vm.Vm, "shell", lambda _: shell)
    said = sentinel("vm", "up", "--vm", "b")
    assert said.code == ExitCode.OK, said.err
    assert shell.puts == ["/opt/sentinel"]
    assert "Linux 4.9.0, tcg, port" in said.err
    assert vm.find_running("b").request("ping") == {"ok": True}
    said = sentinel("vm", "up", "--vm", "b")
    assert said.code == ExitCode.USAGE
    assert "already running" in said.err
    vm.find("b").down()


@pytest.mark.parametrize("stop", [errors.BootError("not ready"), KeyboardInterrupt()])
def test_vm_up_ends_a_machine_that_does_not_boot(
    sentinel: Run, boots: Hypervisor, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    monkeypatch.setattr(vm.Vm, "wait_ready", fail_with(stop))
    said = sentinel("vm", "up", "--vm", "b")
    assert said.code == (ExitCode.BOOT if isinstance(stop, SentinelError) else ExitCode.INTERRUPTED)
    assert not boots.qemu_runs()
    assert vm.find("b").end_reason() == "destroyed"


def test_vm_up_dry_run_prints_the_domain(sentinel: Run, boots: Hypervisor) -> None:
    said = sentinel("vm", "up", "--vm", "b", "--dry-run")
    assert said.code == ExitCode.OK
    assert "<name>sentinel-b</name>" in said.out
    assert boots.calls == []


def test_machine_larger_than_the_host_is_refused_before_the_build(
    sentinel: Run, boots: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments import boot

    monkeypatch.setattr("testbed.host.memory.available", lambda: 1 << 30)
    monkeypatch.setattr(boot, "prepare", fail_with(AssertionError("it must not be built")))
    said = sentinel("vm", "up")
    assert said.code == ExitCode.INFRASTRUCTURE
    assert "the machine needs 4 GiB of memory; this host has 1.0 GiB available" in said.err


def test_dry_run_reports_the_errors_of_a_run(sentinel: Run, boots: Hypervisor) -> None:
    assert sentinel("vm", "up", "--vm", "A B", "--dry-run").code == ExitCode.USAGE
    assert sentinel("vm", "up", "--from", "../x", "--dry-run").code == ExitCode.USAGE


def test_unknown_snapshot_lists_the_existing_ones(sentinel: Run) -> None:
    said = sentinel("vm", "up", "--from", "warm")
    assert said.code == ExitCode.USAGE
    assert "no snapshot 'warm'; existing snapshots: none" in said.err


def test_vm_snapshot_saves_and_restores(
    sentinel: Run, boots: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm.Vm, "shell", lambda _: FakeShell(0))
    machine = vm.start("b", boots.boot)
    machine.detach()
    machine.console_path.write_text("")
    port = machine.port
    assert sentinel("vm", "snapshot", "--vm", "b", "warm").code == ExitCode.OK
    assert vm.find_running("b").port == port  # it goes on where it was
    said = sentinel("vm", "snapshot", "--vm", "b", "warm")
    assert said.code == ExitCode.USAGE
    assert "the snapshot 'warm' exists already" in said.err
    shell = FakeShell(0)
    monkeypatch.setattr(vm.Vm, "shell", lambda _: shell)
    assert sentinel("vm", "up", "--vm", "c", "--from", "warm").code == ExitCode.OK
    assert shell.puts == []  # it has what was saved
    assert files.read_json(vm.find_running("c").folder / "config.json")["name"] == "sentinel-b"
    assert "warm" in sentinel("cache", "list").out
    assert sentinel("vm", "down", "--all").code == ExitCode.OK
    states = [row["state"] for row in parsed(sentinel("vm", "status", "--json"))]
    assert states == ["ended by `sentinel vm down`"] * 2


def test_sizes_and_ages_are_readable() -> None:
    from sentinel.cli import caches, output

    assert [output.size(n) for n in (0, 1023, 1024, 5 << 20, 3 << 29)] == [
        "0 B", "1023 B", "1 KiB", "5 MiB", "1.5 GiB"
    ]  # fmt: skip
    import time

    assert caches._ago(time.time() - 7200) == "2 h"
    assert caches._ago(time.time() - 3 * 86400) == "3 d"
    assert caches._ago(time.time() + 5) == "0 s"
