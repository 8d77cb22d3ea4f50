# SPDX-License-Identifier: Apache-2.0
"""Train in a guest with the runtime installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments import guest_code, profiles
from sentinel.runtime import build
from testbed.guestlink.shell import Shell
from testbed.timing import preset

Json = dict[str, Any]
STEPS = 8
SCRIPTS = Path(__file__).parent.parent / "scripts"


class Trainer:
    """Trains in a guest with the runtime installed."""

    def __init__(self, shell: Shell, scratch: Path) -> None:
        self._shell, self._scratch = shell, scratch
        guest_code.deploy(shell)
        shell.put(build.build(), f"/opt/sentinel/{build.NAME}")
        shell.run(f"mkdir -p {guest_code.FOLDER}/{guest_code.PLANNER}")
        shell.put(guest_code.PLANNER_SOURCE, f"{guest_code.FOLDER}/{guest_code.PLANNER}")
        figures = scratch / guest_code.FIGURES
        profiles.write_figures(figures, profiles.figures_of(preset.load("optane-6dimm")))
        shell.put(figures, f"{guest_code.FOLDER}/{guest_code.FIGURES}")
        shell.put(SCRIPTS, "/root/scripts")
        self.stock = self(runtime=False)["losses"]

    def __call__(self, steps: int = STEPS, **options: object) -> Json:
        """Run the training script; return its results, and the runtime's messages in `messages`."""
        arguments = json.dumps({"steps": steps, **options})
        # A step takes half a second on a quiet host; the limit only catches hangs.
        output = self.run(f"python2.7 scripts/runtime/train.py '{arguments}'", timeout=600 + 60 * steps)
        lines = output.strip().splitlines()
        result: Json = json.loads(lines[-1])
        return {**result, "messages": [line for line in lines if line.startswith("sentinel: ")]}

    def run(self, command: str, *, check: bool = True, timeout: float = 1800) -> str:
        """Run a command in the guest and return its output."""
        completed = self._shell.run(
            f"cd /root && PYTHONPATH=/opt/sentinel {command} 2>&1", check=check, timeout=timeout
        )
        return completed.out

    def plan(self, profile: str, budget: str) -> Json:
        """Plan a profile of the guest, and put the plan beside it."""
        local = self._scratch / "script.json"
        self._shell.get(profile, local)
        target = local.with_suffix(".plan.json")
        options = ["--budget", budget, "--preset", "optane-6dimm", "-o", str(target)]
        command = [sys.executable, "-m", "sentinel.cli.main", "plan", str(local), *options]
        subprocess.run(command, check=True, capture_output=True)
        self._shell.put(target, profile.replace(".json", ".plan.json"))
        plan: Json = json.loads(target.read_text())
        return plan

    def put(self, path: str, text: str) -> str:
        local = self._scratch / Path(path).name
        local.write_text(text)
        self._shell.put(local, path)
        return path

    def get(self, path: str) -> Json:
        result: Json = json.loads(self.run(f"{'zcat' if path.endswith('.gz') else 'cat'} {path}"))
        return result
