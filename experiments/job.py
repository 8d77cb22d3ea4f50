# SPDX-License-Identifier: Apache-2.0
"""A training process in a guest: started, waited for at its barrier, released, and listened to.

The other side is sentinel/guest/train.py, which describes the folder they meet in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from testbed.common import files
from testbed.common.errors import LostConnectionError, SentinelError, WorkloadError
from testbed.guestlink.ssh import Shell
from testbed.guestlink.watchdog import Watchdog

GUEST_CODE = Path(__file__).parent.parent / "sentinel" / "guest"
_FOLDER = "/run/sentinel/job"
_POLL = 0.25  # seconds between two looks at the watchdog

# The launcher's last line tells how the process ended, whatever ended it, even in the middle of a line.
_LAUNCH = f"""
set -e
mkdir -p {_FOLDER}
cd {_FOLDER}
cat >job.json
PYTHONPATH=/opt/sentinel setsid sh -c '
  python2.7 -B -m guest.train {_FOLDER} >log 2>&1
  printf "\\n{{\\"exit\\": %d}}\\n" $? >>steps.jsonl
' >/dev/null 2>&1 </dev/null &
"""
_WAIT = f"cd {_FOLDER}; until [ -e waiting ] || grep -qs exit steps.jsonl; do sleep 0.3; done; cat waiting"


def code_digest() -> str:
    """Digest of the code that is copied into the guest."""
    return files.sha256_json({p.name: p.read_text() for p in sorted(GUEST_CODE.glob("*.py"))})


def prepare(
    shell: Shell, watchdog: Watchdog, job: dict[str, Any], *, within: float, runtime: Path | None = None
) -> float:
    """Start the process and wait until it stands at its barrier.

    `job` is {"model": ..., "seed": ..., "threads": ...}, and {"runtime": true} if the Sentinel runtime, whose
    library is `runtime`, is to manage its tensors. Returns the guest's seconds from start to barrier.
    """
    shell.put(GUEST_CODE, "/opt/sentinel/guest")
    if runtime is not None:
        shell.put(runtime, "/opt/sentinel/libsentinel.so")
    shell.run(_LAUNCH, stdin=json.dumps(job))
    watchdog.progress()
    for line in _listen(shell, watchdog, _WAIT, progress=within):
        if line.startswith("{"):
            return float(json.loads(line)["prepare_ns"]) / 1e9
    raise _explained(shell, WorkloadError("the training process ended before its barrier"))


def release(
    shell: Shell,
    watchdog: Watchdog,
    order: dict[str, Any],
    on_step: Callable[[dict[str, Any]], None],
    *,
    per_step: float,
) -> None:
    """Let the process at the barrier go, and hand each step's record to `on_step` as it ends.

    `order` is {"placement": ..., "steps": n, "warmup": n} and what else sentinel/guest/train.py knows;
    `per_step` bounds the seconds without a record.
    Raises the watchdog's verdict, or `WorkloadError` if the process fails.
    """
    shell.run(f"cat >{_FOLDER}/barrier", stdin=json.dumps(order), timeout=per_step)
    watchdog.progress()
    ended = False
    torn: str | None = None  # a line that is no record: the process may have been killed while it wrote
    records = f"tail -n +1 -F {_FOLDER}/steps.jsonl 2>/dev/null"
    for line in _listen(shell, watchdog, records, progress=per_step):
        record = _record(line)
        if record is None:
            torn = torn or line
            continue
        watchdog.progress()
        if "exit" in record:
            if record["exit"] != 0 or not (ended or torn):
                raise _explained(shell, WorkloadError(_how_it_ended(record["exit"])), watchdog)
            if not torn:
                return
            break
        if "end" in record:
            ended = True
        else:
            on_step(record)
    if torn:
        raise WorkloadError(f"the training process wrote what is no record: {torn[:200]!r}")
    raise _explained(shell, WorkloadError("the training process's records broke off"), watchdog)


def _record(line: str) -> dict[str, Any] | None:
    """A line of steps.jsonl, or None if it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _listen(shell: Shell, watchdog: Watchdog, command: str, *, progress: float) -> Iterator[str]:
    """Lines of a command in the guest, under the watchdog's eyes, until it ends."""
    try:
        with shell.follow(command) as output:
            while True:
                yield from output.lines(wait=_POLL)
                watchdog.check(progress=progress)
                if output.over:
                    if not shell.connected:
                        raise LostConnectionError("the connection to the guest broke")
                    return
    except LostConnectionError:
        # Whoever broke it decides what it means: wait for the console, then for the watchdog's patience.
        watchdog.connection_lost()
        while True:
            watchdog.check()
            time.sleep(_POLL)


def _how_it_ended(code: int) -> str:
    if code > 128:
        return f"the training process was killed by signal {code - 128}"
    return f"the training process failed (exit {code})"


def _explained(shell: Shell, error: SentinelError, watchdog: Watchdog | None = None) -> SentinelError:
    """Add what the process said last, or what the kernel's console says of it."""
    if watchdog is not None:
        watchdog.console.poll()
        finding = watchdog.console.first("workload")
        if finding is not None:
            error.message += f"; the console: {finding.what}"
            error.log = watchdog.log
            return error
    said = shell.run(f"tail -n 3 {_FOLDER}/log", check=False, timeout=60).out.strip().splitlines()
    if said:
        error.message += f": {said[-1]}"
    return error
