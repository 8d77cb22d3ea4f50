# SPDX-License-Identifier: Apache-2.0
"""A training process in a guest: start it, wait for its barrier, release it, and follow its steps.

sentinel/guest/job.py is the other side and describes the folder that both use.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import frameworks, guest_code
from experiments.host_files import HostFiles
from experiments.scripts import Script
from testbed.common.errors import LostConnectionError, SentinelError, WorkloadError
from testbed.guestlink.shell import Follower, Shell
from testbed.guestlink.watchdog import Watchdog

FOLDER = "/run/sentinel/job"
_LOG = f"{FOLDER}/log"
_SCRIPTS, _DATA = "/root/script", "/root/data"  # on the disk: /run would take the guest's memory
_POLL_SECONDS = 0.25  # between two checks of the watchdog
_READ_SECONDS = 60.0  # for a small file of the guest
_SHOWN_BYTES = 1 << 20  # of the output of a process that ended before its barrier

# "$1" is the working folder, the rest is the command. The exit status is appended however the process ends,
# even in the middle of a line.
_LAUNCHER = f"""
cd "$1" && shift && "$@" >{_LOG} 2>&1
printf "\\n{{\\"exit\\": %d}}\\n" $? >>{FOLDER}/steps.jsonl
"""
# An empty line for each growth of the log, which is progress
_WAIT = f"""
cd {FOLDER}
until [ -e waiting ] || grep -qs exit steps.jsonl; do
  size=$(stat -c %s log 2>/dev/null)
  [ "$size" = "$known" ] || echo
  known=$size
  sleep 0.3
done
cat waiting 2>/dev/null || cat steps.jsonl
"""


class ProcessError(WorkloadError):
    """The training process failed, or ended too early. `status` is its exit status as a shell gives it.

    `output` is the output of a process that ended before its barrier.
    """

    def __init__(self, message: str, *, status: int, output: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.output = output


@dataclass(frozen=True)
class Work:
    """What a training process does: train a model, perhaps on the files of a data set, or run a script.

    With `runtime` the Sentinel runtime manages the tensors.
    """

    seed: int
    threads: int
    runtime: bool = False
    model: Mapping[str, Any] | None = None
    data: HostFiles | None = None
    script: Script | None = None

    @property
    def name(self) -> str:
        """The name of the model or script."""
        return self.script.name if self.script is not None else str((self.model or {})["name"])

    @property
    def command(self) -> tuple[str, list[str]]:
        """The working folder of the process, and its command."""
        if self.script is None:
            return FOLDER, frameworks.DEFAULT.train_command(FOLDER)
        script = self.script
        return _SCRIPTS, frameworks.DEFAULT.script_command(FOLDER, script.name, script.args, script.step_ops)

    def job(self) -> dict[str, Any]:
        """The content of job.json."""
        work: dict[str, Any] = {"seed": self.seed, "threads": self.threads, "runtime": self.runtime}
        if self.model is not None:
            data = {} if self.data is None else {"data": _DATA}
            work["model"] = {**self.model, **data}
        return work

    def key(self) -> dict[str, Any]:
        """Everything that determines the process up to its barrier."""
        if self.script is None:
            data = {} if self.data is None else {"data": dict(self.data.digests)}
            return {**self.job(), **data}
        script = {"command": self.command[1], "digests": dict(self.script.files.digests)}
        return {**self.job(), "script": script}

    @property
    def files(self) -> tuple[HostFiles, str] | None:
        """The host's files that the process needs, and their folder in the guest."""
        if self.script is not None:
            return self.script.files, _SCRIPTS
        return None if self.data is None else (self.data, _DATA)


def prepare(
    shell: Shell, watchdog: Watchdog, work: Work, *, within: float, library: Path | None = None
) -> float:
    """Start the process and wait until it reaches its barrier. Returns the guest's seconds until then.

    `library` is the Sentinel runtime, if `work` needs it. `within` limits the host's seconds without
    progress. Raises `ProcessError` if the process ends first.
    """
    guest_code.deploy(shell)
    if library is not None:
        shell.put(library, f"{guest_code.FOLDER}/{frameworks.DEFAULT.runtime_name}")
    if work.files is not None:
        files, folder = work.files
        with tempfile.TemporaryDirectory() as scratch:
            files.stage(Path(scratch))
            shell.put(Path(scratch), folder)
    shell.run(_launch(*work.command), stdin=json.dumps(work.job()))
    watchdog.progress()
    status = 0
    for line in _follow(shell, watchdog, _WAIT, progress=within):
        watchdog.progress()
        record = _record(line) or {}
        if "prepare_ns" in record:
            return float(record["prepare_ns"]) / 1e9
        status = record.get("exit", status)
    output = shell.run(f"tail -c {_SHOWN_BYTES} {_LOG}", check=False, timeout=_READ_SECONDS).out
    message = "the training process ended before its barrier"
    if work.script is not None:
        message = f"{work.name} exited with status {status} before it created a session"
    raise _explain(shell, ProcessError(message, status=status, output=output))


def _launch(folder: str, command: list[str]) -> str:
    """The shell command that starts a process in the background, with its job on standard input."""
    launcher = shlex.join(["setsid", "sh", "-c", _LAUNCHER, "sh", folder, *command])
    return (
        f"set -e; mkdir -p {FOLDER}; cat >{FOLDER}/job.json; "
        f"PYTHONPATH={guest_code.FOLDER} {launcher} >/dev/null 2>&1 </dev/null &"
    )


def release(
    shell: Shell,
    watchdog: Watchdog,
    order: dict[str, Any],
    on_step: Callable[[dict[str, Any]], None],
    *,
    per_step: float,
    on_output: Callable[[bytes], None] | None = None,
) -> None:
    """Release the process from its barrier, and pass the record of each step to `on_step` as the step ends.

    `order` is {"steps": n, "warmup": n} and a policy's part (`Policy.order`). `on_output` gets the output of
    the process from its start, as it comes; then output is progress, too. `per_step` limits the seconds
    without progress. Raises the watchdog's verdict, or `ProcessError` if the process fails.
    """
    shell.run(f"cat >{FOLDER}/barrier", stdin=json.dumps(order), timeout=per_step)
    watchdog.progress()
    with contextlib.ExitStack() as stack:
        output: _Output | None = None
        if on_output is not None:
            output = _Output(shell, stack.enter_context(shell.follow(f"tail -c +1 -f {_LOG}")), on_output)
        try:
            _follow_steps(shell, watchdog, on_step, output, per_step=per_step)
        except WorkloadError:
            if output is not None:
                output.finish()
            raise
        if output is not None:
            output.finish()


def read_summary(shell: Shell) -> dict[str, Any]:
    """The summary that a process wrote which planned by itself; empty if there is none."""
    text = shell.run(f"cat {FOLDER}/summary.json 2>/dev/null", check=False, timeout=_READ_SECONDS).out
    return _record(text) or {}


def _follow_steps(
    shell: Shell,
    watchdog: Watchdog,
    on_step: Callable[[dict[str, Any]], None],
    output: _Output | None,
    *,
    per_step: float,
) -> None:
    def poll() -> None:
        if output is not None and output.pass_on():
            watchdog.progress()

    ended = False
    broken: str | None = None  # a line that is not a record; the process may have been killed in the middle
    records = f"tail -n +1 -F {FOLDER}/steps.jsonl 2>/dev/null"
    for line in _follow(shell, watchdog, records, progress=per_step, poll=poll):
        record = _record(line)
        if record is None:
            broken = broken or line
            continue
        watchdog.progress()
        if "exit" in record:
            if record["exit"] != 0 or not (ended or broken):
                error = ProcessError(describe_exit(record["exit"]), status=record["exit"])
                raise _explain(shell, error, watchdog)
            if not broken:
                return
            break
        if "end" in record:
            ended = True
        else:
            on_step(record)
    if broken:
        raise WorkloadError(f"the training process wrote an invalid record: {broken[:200]!r}")
    raise _explain(shell, WorkloadError("the training process stopped writing records"), watchdog)


class _Output:
    """The output of the process, passed on as it comes."""

    def __init__(self, shell: Shell, log: Follower, on_output: Callable[[bytes], None]) -> None:
        self._shell, self._log, self._on_output = shell, log, on_output
        self._passed = 0

    def pass_on(self, *, wait: float = 0.0) -> bool:
        """Pass on new output; return whether there was any."""
        data = self._log.read(wait=wait)
        if not data:
            return False
        self._passed += len(data)
        self._on_output(data)
        return True

    def finish(self) -> None:
        """Pass on the rest, if the guest still answers."""
        with contextlib.suppress(SentinelError):
            size = self._shell.run(f"stat -c %s {_LOG}", check=False, timeout=_READ_SECONDS).out
            deadline = time.monotonic() + _READ_SECONDS
            while self._passed < int(size or 0) and time.monotonic() < deadline and not self._log.over:
                self.pass_on(wait=_POLL_SECONDS)


def _record(line: str) -> dict[str, Any] | None:
    """Parse a line of steps.jsonl; None if it is not a record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _follow(
    shell: Shell,
    watchdog: Watchdog,
    command: str,
    *,
    progress: float,
    poll: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Yield the lines that a command in the guest prints. Meanwhile check the watchdog, and call `poll`."""
    try:
        with shell.follow(command) as output:
            while True:
                yield from output.lines(wait=_POLL_SECONDS)
                poll()
                watchdog.check(progress=progress)
                if output.over:
                    if not shell.connected:
                        raise LostConnectionError("the connection to the guest broke")
                    return
    except LostConnectionError:
        # The console may tell why. If it does not, the watchdog gives its verdict after a while.
        watchdog.connection_lost()
        while True:
            watchdog.check()
            time.sleep(_POLL_SECONDS)


def describe_exit(status: int) -> str:
    """Return what an exit status of the process, as a shell gives it, means."""
    if status == 0:
        return "the training process ended too early"
    if status > 128:
        return f"the training process was killed by signal {status - 128}"
    return f"the training process failed with exit status {status}"


def _explain(shell: Shell, error: SentinelError, watchdog: Watchdog | None = None) -> SentinelError:
    """Add the console's finding about the process, or else the last line of its log."""
    if watchdog is not None:
        watchdog.console.poll()
        finding = watchdog.console.first("workload")
        if finding is not None:
            error.message += f"; the console: {finding.quote}"
            error.log = watchdog.log
            return error
    last_lines = shell.run(f"tail -n 3 {_LOG}", check=False, timeout=_READ_SECONDS).out.strip().splitlines()
    if last_lines:
        error.message += f": {last_lines[-1]}"
    return error
