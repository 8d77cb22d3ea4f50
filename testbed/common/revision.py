# SPDX-License-Identifier: Apache-2.0
"""The git revision of this code."""

from __future__ import annotations

from pathlib import Path

from testbed.common.run import find, run

_ROOT = Path(__file__).parent.parent.parent


def revision(root: Path = _ROOT, *, digits: int = 12) -> str | None:
    """Return the commit of the repository at `root`, with `-dirty` if files differ from it.

    Returns None for an installed package, or without git.
    """
    if find("git") is None or not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    described = run([*git, "describe", "--always", f"--abbrev={digits}", "--match=", "--dirty"], check=False)
    return described.stdout.strip() or None
