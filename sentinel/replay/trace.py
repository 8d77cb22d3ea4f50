# SPDX-License-Identifier: Apache-2.0
"""Traces: all memory accesses of one training step by page, and the events of its tensors.

A trace is a numpy archive (`.npz`) with

- `words`, uint64: the accesses and events in order, as testbed/timing/trace_words.h describes; the line is 64
  times the number of the page in `pages`, plus the line within the page;
- `pages`, uint64: virtual page numbers, ascending;
- `nodes`, uint8: the node of each page in the traced step, which ran with tensors and new memory on node 1;
- `profiles`: the profiles of the step's kinds, as JSON;
- `header`: format, version, the model and how the trace was made, as JSON.

The events are those of the `trace` section of the profiles (docs/sentinel.md).
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sentinel.planner.errors import FormatError
from sentinel.planner.formats import profile_json
from testbed.common import files
from testbed.common.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.planner.formats.profile import Profile

    Words = NDArray[np.uint64]

FORMAT, VERSION = "sentinel-trace", 3
PAGE, LINE = 4096, 64  # bytes
LINES = PAGE // LINE
EVENT = 2  # a kind of word; from it on, words are no accesses
_LINE_MASK = np.uint64((1 << 42) - 1)
_LINE_SHIFT, _NODE_SHIFT, _KIND_SHIFT = np.uint64(6), np.uint64(42), np.uint64(62)


class TracedOp(NamedTuple):
    """The begin of an operation. `event` counts from 0."""

    name: str
    occurrence: int
    event: int


class TracedTensor(NamedTuple):
    """A tensor of the traced step: `address` and `size` in bytes.

    `op` indexes the kind's operations, -1 for a tensor from before the step, which has a `name`. `born` and
    `died` are events, None before and after the step.
    """

    op: int
    k: int
    size: int
    address: int
    born: int | None
    died: int | None
    name: str | None


@dataclass(frozen=True)
class Kind:
    """A kind of step within the trace: its profile, and its operations and tensors in the traced step."""

    profile: Profile
    ops: list[TracedOp]
    tensors: list[TracedTensor]


@dataclass(frozen=True)
class Trace:
    """A trace that has been checked. See the module for `words`, `pages` and `nodes`.

    `resident` are the pages of the runtime's pool that had memory, as (address, bytes), ascending.
    """

    words: Words
    pages: Words
    nodes: NDArray[np.uint8]
    kinds: Mapping[str, Kind]
    resident: list[tuple[int, int]]
    events: int
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the model or script."""
        return str(self.header.get("name", "?"))


def from_recording(
    raw: Path, profiles: Mapping[str, Mapping[str, Any]], header: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arrays of an archive, of a plugin's trace file and the profiles of its kinds, as JSON.

    Raises `UsageError` if they do not belong together.
    """
    try:
        with gzip.open(raw) as f:
            words: Words = np.frombuffer(f.read(), dtype="<u8").copy()
    except (OSError, EOFError, zlib.error, ValueError) as e:
        raise UsageError(f"{raw}: not a trace of the timing model, or truncated: {e}") from None
    kinds = words >> _KIND_SHIFT
    is_event, is_access = kinds == EVENT, kinds < EVENT
    events = sum(len(_event_numbers(profile)) for profile in profiles.values())
    if int(is_event.sum()) != events:
        raise UsageError(
            f"the trace has {int(is_event.sum())} events, and its profiles have {events}",
            hint="a step in which kinds alternate, or that failed, cannot be traced",
        )
    lines = words[is_access] & _LINE_MASK
    accessed = lines >> _LINE_SHIFT
    pages = np.unique(np.concatenate([np.unique(accessed), _tensor_pages(profiles)]))
    dense = np.searchsorted(pages, accessed).astype(np.uint64)
    nodes = np.zeros(len(pages), dtype=np.uint8)
    nodes[dense] = words[is_access] >> _NODE_SHIFT & np.uint64(1)
    words[is_access] += (dense << _LINE_SHIFT) + (lines & np.uint64(LINES - 1)) - lines
    return {
        "words": words,
        "pages": pages,
        "nodes": nodes,
        "profiles": _text(dict(profiles)),
        "header": _text({"format": FORMAT, "version": VERSION, **header}),
    }


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write the arrays of a trace, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.write_atomic(path, buffer.getvalue())


def read(path: Path) -> Trace:
    """Read a trace. Raises `UsageError` in one line for a file that is none, or of another version."""
    files.check_input(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = _json(archive["header"])
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise UsageError(f"{path}: not a trace")
            if header.get("version") != VERSION:
                raise UsageError(
                    f"{path}: a trace of version {header.get('version')}, not {VERSION}",
                    hint="record it again with `sentinel record`",
                )
            profiles = _json(archive["profiles"])
            words, pages, nodes = (archive[name] for name in ("words", "pages", "nodes"))
        return _parse(words, pages, nodes, profiles, header)
    except FormatError as e:
        raise UsageError(f"{path}: damaged: {e}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError) as e:
        reason = f": {e}" if path.suffix == ".npz" else ""
        raise UsageError(f"{path}: not a trace, or damaged{reason}") from None
    except (zipfile.BadZipFile, zlib.error) as e:
        raise UsageError(f"{path}: damaged: {e}") from None


def _parse(
    words: Words, pages: Words, nodes: NDArray[np.uint8], profiles: dict[str, Any], header: dict[str, Any]
) -> Trace:
    numbers = sorted(number for profile in profiles.values() for number in _event_numbers(profile))
    rank = {number: i for i, number in enumerate(numbers)}
    kinds_of_words = words >> _KIND_SHIFT
    is_event = kinds_of_words == EVENT
    lines = words[kinds_of_words < EVENT] & _LINE_MASK
    if words.dtype != np.uint64 or len(nodes) != len(pages) or int(is_event.sum()) != len(numbers):
        raise ValueError("its parts do not fit together")
    if len(lines) and int(lines.max()) >= len(pages) * LINES:
        raise ValueError("an access is outside its pages")
    resident = {tuple(map(int, run)) for p in profiles.values() for run in p["trace"]["resident"]}
    kinds = {name: _kind(profile, rank) for name, profile in profiles.items()}
    return Trace(
        words=words,
        pages=pages,
        nodes=nodes,
        kinds=kinds,
        resident=sorted((start, size) for start, size in resident),
        events=len(numbers),
        header=header,
    )


def _kind(profile: dict[str, Any], rank: Mapping[int, int]) -> Kind:
    traced = profile["trace"]
    ops, tensors = traced["ops"], traced["tensors"]
    return Kind(
        profile=profile_json.parse({key: value for key, value in profile.items() if key != "trace"}),
        ops=[
            TracedOp(str(name), int(occurrence), rank[event])
            for name, occurrence, event in zip(ops["name"], ops["occurrence"], ops["event"], strict=True)
        ],
        tensors=[
            TracedTensor(
                op=int(t["op"]),
                k=int(t["k"]),
                size=int(t["size"]),
                address=int(t["address"]),
                born=rank[t["born"]] if t["born"] else None,
                died=rank[t["died"]] if t["died"] else None,
                name=t.get("name"),
            )
            for t in tensors
        ],
    )


def _event_numbers(profile: Mapping[str, Any]) -> list[int]:
    """The numbers of a kind's events, in the process that was traced."""
    traced = profile["trace"]
    numbers = [*traced["ops"]["event"]]
    numbers += [t[name] for t in traced["tensors"] for name in ("born", "died") if t[name]]
    return numbers


def _tensor_pages(profiles: Mapping[str, Mapping[str, Any]]) -> Words:
    """The pages of all tensors, accessed or not."""
    ranges = [
        np.arange(t["address"] // PAGE, (t["address"] + t["size"] + PAGE - 1) // PAGE, dtype=np.uint64)
        for profile in profiles.values()
        for t in profile["trace"]["tensors"]
    ]
    return np.unique(np.concatenate(ranges)) if ranges else np.empty(0, dtype=np.uint64)


def _text(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, sort_keys=True).encode(), dtype=np.uint8)


def _json(array: NDArray[np.uint8]) -> Any:
    return json.loads(array.tobytes())
