# SPDX-License-Identifier: Apache-2.0
"""Download pinned files, with progress, time limits and one-line errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pooch
import requests

from testbed.common.errors import InfrastructureError
from testbed.common.progress import Step, step

TIMEOUT_S = (5.0, 10.0)
"""Limits for one connection attempt, and for the silence between two packets, in seconds."""
_CHUNK = 1 << 20  # bytes


def fetch(url: str, target: Path, *, sha256: str, hint: str) -> None:
    """Download `url` to `target`. Raises InfrastructureError on network errors and on a wrong hash."""
    with step(f"Downloading {target.name}") as s, _network_errors(url, hint):
        downloader = pooch.HTTPDownloader(progressbar=_Progress(s, url), timeout=TIMEOUT_S, chunk_size=_CHUNK)
        downloader(url, str(target), None)
    actual = pooch.file_hash(str(target), alg="sha256")
    if actual != sha256:
        raise InfrastructureError(
            f"{url}: wrong content: sha256 is {actual}, expected {sha256}",
            hint="a proxy may have answered instead of the server",
        )


def check_reachable(url: str, *, hint: str) -> None:
    """Raise InfrastructureError if the server does not offer `url`."""
    with _network_errors(url, hint), requests.get(url, stream=True, timeout=TIMEOUT_S) as response:
        response.raise_for_status()


class _Progress:
    """pooch's progress bar interface on top of a step."""

    def __init__(self, shown: Step, url: str) -> None:
        self.total = 0
        self._received = 0
        self._shown = shown
        self._url = url

    def update(self, count: int) -> None:
        self._received += count
        self._shown.update(self._received / self.total if self.total else None, self._url)

    def reset(self) -> None:
        """Pooch rewinds the bar at the end and adds the total once more."""
        self._received = 0

    def close(self) -> None:
        pass


@contextlib.contextmanager
def _network_errors(url: str, hint: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as e:
        raise InfrastructureError(f"{url} cannot be downloaded: {_reason(e)}", hint=hint) from None


def _reason(error: requests.RequestException) -> str:
    """Return the message of the wrapped urllib3 error without the connection it begins with."""
    wrapped = error.args[0] if error.args else error
    text = str(getattr(wrapped, "reason", wrapped))
    return text.partition("): ")[2] or text
