# SPDX-License-Identifier: Apache-2.0
"""Profiles, plans and figures as JSON files, gzipped if the name ends in `.gz`.

All failures are FormatErrors with a message of one line that begins with the file's name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import secrets
import zlib
from pathlib import Path
from typing import Any, Callable, TypeVar

from ..errors import FormatError
from . import figures as figures_format
from . import plan as plan_format
from . import profile_json as profile_format
from .figures import Figures
from .plan import Plan
from .profile import Profile

_T = TypeVar("_T")
_GZIP_MAGIC = b"\x1f\x8b"


def read_profile(path: Path) -> Profile:
    return _read(path, profile_format.parse)


def read_plan(path: Path) -> Plan:
    return _read(path, plan_format.parse)


def read_figures(path: Path) -> Figures:
    return _read(path, figures_format.parse)


def read_profile_or_plan(path: Path) -> Profile | Plan:
    """Read a profile or a plan, according to the file's `format`."""

    def parse(value: Any) -> Profile | Plan:
        kind = value.get("format") if isinstance(value, dict) else None
        if kind not in (profile_format.FORMAT, plan_format.FORMAT):
            raise FormatError(
                f"format: must be {profile_format.FORMAT} or {plan_format.FORMAT}, not {kind!r}"
            )
        return plan_format.parse(value) if kind == plan_format.FORMAT else profile_format.parse(value)

    return _read(path, parse)


def write_profile(path: Path, profile: Profile) -> None:
    _write(path, profile_format.encode(profile))


def write_plan(path: Path, plan: Plan) -> None:
    _write(path, plan_format.encode(plan))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    return hashlib.sha256(_read_bytes(path)).hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise FormatError(f"{path}: cannot be read: {e.strerror}") from None


def _read(path: Path, parse: Callable[[Any], _T]) -> _T:
    data = _read_bytes(path)
    if data[:2] == _GZIP_MAGIC:  # by content: the file may have been renamed when it left the guest
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as e:
            raise FormatError(f"{path}: is damaged or incomplete: {e}") from None
    try:
        value = json.loads(data)
    except UnicodeDecodeError:
        raise FormatError(f"{path}: is not JSON") from None
    except (ValueError, RecursionError) as e:
        raise FormatError(f"{path}: is not JSON, or is incomplete: {e}") from None
    try:
        return parse(value)
    except FormatError as e:
        raise FormatError(f"{path}: {e}") from None


def _write(path: Path, value: dict[str, Any]) -> None:
    """Replace a file atomically. Equal values give equal files."""
    data = (json.dumps(value, separators=(",", ":")) + "\n").encode()
    if path.name.endswith(".gz"):
        data = gzip.compress(data, compresslevel=6, mtime=0)
    try:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as f:  # not `tempfile`, which ignores the umask
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            temporary.replace(path)
        except BaseException:
            if temporary.exists():
                temporary.unlink()
            raise
    except OSError as e:
        raise FormatError(f"{path}: cannot be written: {e.strerror}") from None
