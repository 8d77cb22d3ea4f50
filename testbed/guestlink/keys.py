# SPDX-License-Identifier: Apache-2.0
"""The testbed's SSH key, in the state folder."""

from __future__ import annotations

from pathlib import Path

from testbed.common import files, settings
from testbed.common.run import run, which


def private_key() -> Path:
    """Return the path of the testbed's ed25519 private key; the first call creates it."""
    path = settings.state_root() / "keys" / "id_ed25519"
    with files.locked(path.with_name(".lock")):
        if not path.with_suffix(".pub").exists():
            which("ssh-keygen", package="openssh-client")
            path.parent.chmod(0o700)
            path.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sentinel testbed", "-f", str(path)])
    return path


def public_key() -> str:
    """Return the base64 part of the public key."""
    return private_key().with_suffix(".pub").read_text().split()[1]
