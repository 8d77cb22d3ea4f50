# SPDX-License-Identifier: Apache-2.0
"""A training process in a guest: start it, wait for its barrier, release it, and follow its steps.

sentinel/guest/train.py is the other side and describes the folder that both use.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments import frameworks, guest_code
from testbed.common.errors import LostConnectionError, SentinelError, WorkloadError
from testbed.guestlink.ssh import Shell
from testbed.guestlink.watchdog import Watchdog

_FOLDER = "/run/sentinel/job"
_POLL_SECONDS = 0.25  # between two checks of the watchdog

# The launcher appends the exit status, however the process ends, even in the middle of a line.
_LAUNCH = f"""
set -e
mkdir -p {_FOLDER}
cd {_FOLDER}
cat >job.json
PYTHONPATH={guest_code.FOLDER} setsid sh -c '
  {frameworks.DEFAULT.train_command(_FOLDER)} >log 2>&1
  printf "\\n{{\\"exit\\": %d}}\\n" $? >>steps.jsonl
' >/dev/null 2>&1 </dev/null &
"""
_WAIT = f"cd {_FOLDER}; until [ -e waiting ] || grep -qs exit steps.jsonl; do sleep 0.3; done; cat waiting"


def prepare(
    shell: Shell, watchdog: Watchdog, work: dict[str, Any], *, within: float, runtime: Path | None = None
) -> float:
    """Start the process and wait until it reaches its barrier. Returns the guest's seconds until then.

    `work` is {"model": ..., "seed": ..., "threads": ...}, and {"runtime": true} if the Sentinel runtime
    manages the tensors; `runtime` is its library. `within` limits the host's seconds without progress.
    """
    guest_code.deploy(shell)
    if runtime is not None:
        shell.put(runtime, f"{guest_code.FOLDER}/{frameworks.DEFAULT.runtime_name}")
    shell.run(_LAUNCH, stdin=json.dumps(work))
    watchdog.progress()
    for line in _follow(shell, watchdog, _WAIT, progress=within):
        if line.startswith("{"):
            return float(json.loads(line)["prepare_ns"]) / 1e9
    raise _explain(shell, WorkloadError("the training process ended before its barrier"))


def release(
    shell: Shell,
    watchdog: Watchdog,
    order: dict[str, Any],
    on_step: Callable[[dict[str, Any]], None],
    *,
    per_step: float,
) -> None:
    """Release the process from its barrier, and pass the record of each step to `on_step` as the step ends.

    `order` is {"steps": n, "warmup": n} and a policy's part (`Policy.order`); `per_step` limits the seconds
    without a record. Raises the watchdog's verdict, or `WorkloadError` if the process fails.
    """
    shell.run(f"cat >{_FOLDER}/barrier", stdin=json.dumps(order), timeout=per_step)
    watchdog.progress()
    ended = False
    broken: str | None = None  # a line that is not a record; the process may have been killed in the middle
    records = f"tail -n +1 -F {_FOLDER}/steps.jsonl 2>/dev/null"
    for line in _follow(shell, watchdog, records, progress=per_step):
        record = _record(line)
        if record is None:
            broken = broken or line
            continue
        watchdog.progress()
        if "exit" in record:
            if record["exit"] != 0 or not (ended or broken):
                raise _explain(shell, WorkloadError(_describe_exit(record["exit"])), watchdog)
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


def _record(line: str) -> dict[str, Any] | None:
    """Parse a line of steps.jsonl; None if it is not a record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _follow(shell: Shell, watchdog: Watchdog, command: str, *, progress: float) -> Iterator[str]:
    """Yield the lines that a command in the guest prints, and check the watchdog meanwhile."""
    try:
        with shell.follow(command) as output:
            while True:
                yield from output.lines(wait=_POLL_SECONDS)
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


def _describe_exit(status: int) -> str:
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
    last_lines = shell.run(f"tail -n 3 {_FOLDER}/log", check=False, timeout=60).out.strip().splitlines()
    if last_lines:
        error.message += f": {last_lines[-1]}"
    return error
