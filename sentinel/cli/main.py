# SPDX-License-Identifier: Apache-2.0
"""`sentinel`: commands, options, errors and exit codes. Commands call library functions."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from sentinel.cli import streams
from testbed.common.errors import ExitCode, InfrastructureError, SentinelError, UsageError
from testbed.common.progress import console

# command -> module, attribute, help; imported on use, so that `sentinel --help` is fast
_COMMANDS = {
    "aa": ("sentinel.cli.truth", "aa", "Compare equal sides, and count false alarms."),
    "baseline": ("sentinel.cli.baselines", "baseline", "Keep results to compare with."),
    "record": ("sentinel.cli.replays", "record", "Record the memory accesses of a step of each model."),
    "replay": ("sentinel.cli.replays", "replay", "Replay a recorded step under policies and budgets."),
    "bound": ("sentinel.cli.bounds", "bound", "Prove how short the step of a profile can be at best."),
    "cache": ("sentinel.cli.caches", "cache", "List or prune cached kernels, images and snapshots."),
    "calibrate": (
        "sentinel.cli.calibration",
        "calibrate",
        "Measure a machine's memory and compare it with its preset.",
    ),
    "compare": ("sentinel.cli.comparisons", "compare", "Compare runs or baselines, cell by cell."),
    "completion": ("sentinel.cli.host", "completion", "Print the shell completion script."),
    "doctor": ("sentinel.cli.host", "doctor", "Check this host, with a command that fixes each problem."),
    "explain": ("sentinel.cli.explanations", "explain", "Explain a profile, a plan, or a run of plans."),
    "gate": ("sentinel.cli.comparisons", "gate", "Compare a suite with a baseline, for CI."),
    "history": ("sentinel.cli.histories", "history", "Show a cell over the results of a baseline."),
    "image": ("sentinel.cli.builds", "image", "Build the guest's disk image."),
    "kernel": ("sentinel.cli.builds", "kernel", "Build patched kernels."),
    "model": ("sentinel.cli.models", "model", "List the models that can be trained."),
    "plan": ("sentinel.cli.plans", "plan", "Plan a profile: placement of tensors, and migrations."),
    "policy": ("sentinel.cli.policies", "policy", "List the policies for the use of fast memory."),
    "preset": ("sentinel.cli.presets", "preset", "Show the memory systems of the timing model."),
    "profile": ("sentinel.cli.host_profiles", "profile", "Profile a training step on this host."),
    "report": ("sentinel.cli.results", "report", "Show a run as a table and write its HTML page."),
    "results": ("sentinel.cli.results", "results", "Export the records of runs."),
    "run": ("sentinel.cli.runs", "run", "Run a suite of experiments."),
    "simulate": ("sentinel.cli.simulations", "simulate", "Predict every policy on profiled steps."),
    "suite": ("sentinel.cli.runs", "suite", "Describe the format of suites."),
    "target": ("sentinel.cli.targets", "target", "Prepare real machines that suites run on."),
    "trace": ("sentinel.cli.results", "trace", "Write a step of a run as a trace for Perfetto."),
    "train": ("sentinel.cli.training", "train", "Train a script of your own with little fast memory."),
    "vm": ("sentinel.cli.machines", "vm", "Start, use and end virtual machines."),
}

# Errors of files that the host or the user causes. A missing file is more likely a defect of this program.
_HOST_ERRORS = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
        errno.EBADF,  # a standard stream that was closed
    }
)

_USER_ERRORS = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR})

_EXIT_CODES = "\n".join(f"  {code.value:>3}  {code.doc}" for code in ExitCode)


class _Verbs(click.Group):
    """A group that imports its commands on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][2]) for name in sorted(_COMMANDS)])


def _print_version(context: click.Context, _option: click.Parameter, requested: bool) -> None:
    """Print version and git commit, and exit."""
    if not requested or context.resilient_parsing:
        return
    from importlib import metadata

    from testbed.common.revision import revision

    commit = revision()
    click.echo(f"sentinel {metadata.version('sentinel-testbed')}" + (f" ({commit})" if commit else ""))
    context.exit()


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""\b
Examples:
  sentinel doctor                                   check this host
  sentinel vm up && sentinel vm exec numactl -H     a two-node machine
  sentinel train train.py --fast-memory 20%         train a script of your own
  sentinel run experiments/suites/first.yaml        run a suite
  sentinel report runs/first-20260102-030405        show its results

\b
Exit codes:
{_EXIT_CODES}
""",
)
@click.option("--debug", is_flag=True, help="Show tracebacks of expected failures too.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show version and commit.",
)
def cli(debug: bool) -> None:
    """A tiered-memory laboratory for deep-learning training."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit with a documented exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    streams.prepare()
    signal.signal(signal.SIGTERM, _on_sigterm)
    code = _run(words, debug="--debug" in words)
    streams.settle()
    sys.exit(code)


def _run(words: list[str], *, debug: bool) -> int:
    try:
        _check_text(words)
        result: Any = cli.main(words, prog_name="sentinel", standalone_mode=False)
        sys.stdout.flush()
    except streams.UnreadError:
        streams.discard_output()
        return ExitCode.OK
    except SentinelError as e:
        return _fail(e, debug=debug)
    except click.exceptions.NoArgsIsHelpError as e:
        console.print(_plain(e.format_message()), soft_wrap=True)
        return ExitCode.USAGE
    except click.ClickException as e:
        with contextlib.suppress(OSError):
            e.show()
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        console.print("interrupted", style="yellow")
        return ExitCode.INTERRUPTED
    except Exception as e:
        failure = _file_failure(e) if isinstance(e, OSError) else None
        if failure is not None:
            return _fail(failure, debug=debug)
        with contextlib.suppress(OSError):
            traceback.print_exc()
        console.print("this is a bug in sentinel; please report the lines above", style="red")
        return ExitCode.BUG
    return int(result) if isinstance(result, int) else ExitCode.OK


def _check_text(words: Sequence[str]) -> None:
    """Check that all arguments are text: they go into messages, records and the guest's shell."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {os.fsencode(word)!r} is not valid UTF-8") from None


def _file_failure(e: OSError) -> SentinelError | None:
    """Return a file's error as an expected failure; None if it is more likely a defect of this program."""
    line = f"{e.filename}: {e.strerror}" if e.filename else str(e.strerror)
    if e.errno in _USER_ERRORS:
        return UsageError(line)
    if e.errno not in _HOST_ERRORS:
        return None
    return InfrastructureError(line, hint="sentinel --debug shows the traceback")


def _fail(e: SentinelError, *, debug: bool) -> int:
    if debug:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    _print_error(e)
    return e.code


def _print_error(e: SentinelError) -> None:
    """Print the message (a line for each error of a YAML file), the hint, and the path of the log."""
    for line in e.message.splitlines():
        console.print("[red]error:[/red]", _plain(line), soft_wrap=True)
    if e.hint:
        console.print("[bold] hint:[/bold]", _plain(e.hint), soft_wrap=True)
    if e.log:
        console.print("[bold]  log:[/bold]", _plain(str(e.log)), soft_wrap=True)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _on_sigterm(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
