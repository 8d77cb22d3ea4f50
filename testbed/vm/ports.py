# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator


def candidates(count: int = 20) -> Iterator[int]:
    """Yield free ports. Another process may take one meanwhile; then try the next."""
    for _ in range(count):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port: int = s.getsockname()[1]
        yield port
