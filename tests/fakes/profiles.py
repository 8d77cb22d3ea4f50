# SPDX-License-Identifier: Apache-2.0
"""Small and random profiles of training steps, and figures of simple machines."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from sentinel.planner.formats import profile_json as profile_format
from sentinel.planner.formats.figures import Figures, Memory
from sentinel.planner.formats.profile import Profile

PAGE = 4096
BIG = 16 * PAGE  # a tensor of this size is a unit of its own
OPTANE = Figures(nodes=(Memory(100, 105, 85), Memory(305, 39.4, 13.9)))
# 1 and 4 ns to read a byte, 2 and 10 to write one, and the same to copy it
SIMPLE = Figures(nodes=(Memory(1, 1, 0.5), Memory(1, 0.25, 0.1)), cache_bytes=0, page_move_ns=1000)
CHEAP = dataclasses.replace(OPTANE, page_move_ns=10, migration_mlp=240, migration_cores=2)
LAYERS = [0, 0, 1, 2, 2, 3, 3]  # of a step of seven operations
MEGA = [10**6] * 7  # ns of its operations


def written_then_read(birth: int, *reads: int, size: int = BIG) -> dict[str, Any]:
    """A tensor written by the operation at its birth, and dead after its last read."""
    uses = [[birth, 0, 1], *([p, 1, 0] for p in reads)]
    return {"size": size, "birth": birth, "death": max((birth, *reads)) + 1, "uses": uses}


def variable(*reads: int, n: int, size: int = BIG) -> dict[str, Any]:
    """A variable in a step of `n` operations."""
    return {"size": size, "birth": -1, "death": n, "uses": [[p, 1, 0] for p in reads]}


def value(layers: list[int], ns: list[int], tensors: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return the JSON value of a profile whose operation p is in layer `layers[p]` and takes `ns[p]` ns.

    A tensor needs `size`, `birth`, `death` and `uses`. Each use accesses every page once.
    """
    n, names = len(layers), [f"op{p}" for p in range(len(layers))]
    begin = [sum(ns[:p]) for p in range(n)]
    rows = []
    for k, tensor in enumerate(tensors):
        pages = -(-tensor["size"] // PAGE)
        row = {
            "op": tensor["birth"],
            "k": k,
            "thread": 0,
            "kind": "variable" if tensor["birth"] < 0 else "tensor",
            "reads": pages * sum(use[1] for use in tensor["uses"]),
            "writes": pages * sum(use[2] for use in tensor["uses"]),
            **({"name": f"v{k}"} if tensor["birth"] < 0 else {}),
        }
        rows.append({**row, **tensor})
    return {
        "format": profile_format.FORMAT,
        "version": profile_format.VERSION,
        "graph": profile_format.digest(names),
        "page": PAGE,
        "counts": "kernel",
        "clock": "model",
        "threads": {"inter_op": 1, "intra_op": 1},
        "step_ns": max(1, sum(ns)),
        "ops": {
            "name": names,
            "type": ["Op"] * n,
            "layer": layers,
            "occurrence": [0] * n,
            "begin_ns": begin,
            "end_ns": [b + t for b, t in zip(begin, ns, strict=True)],
        },
        "tensors": rows,
        "warnings": [],
        **more,
    }


def small(layers: list[int], ns: list[int], tensors: list[dict[str, Any]], **more: Any) -> Profile:
    """Return the profile with the JSON value of `value`."""
    return profile_format.parse(value(layers, ns, tensors, **more))


def random_value(seed: int) -> dict[str, Any]:
    """Return the JSON value of a random valid profile."""
    r = random.Random(seed)  # noqa: S311
    n = r.choice((1, 2, 5, 12, 40))
    layers = [0]
    for _ in range(n - 1):
        layers.append(layers[-1] + (r.random() < r.choice((0.1, 0.5))) * r.choice((1, 1, 2)))
    ns = [r.choice((0, 10, 1000, 20_000, 400_000)) for _ in range(n)]
    tensors = []
    for _ in range(r.choice((0, 1, 4, 25, 60))):
        if r.random() < 0.2:
            birth, death = -1, n
        else:
            birth = r.randrange(n)
            death = min(n, birth + r.choice((1, 1, 2, 3, 10, 40)))
        size = r.choice((0, 1, 63, 100, 4095, 4096, 4097, 30_000, 66_000, 300_000))
        life = range(max(birth, 0), death)
        positions = sorted(r.sample(life, min(len(life), r.choice((0, 1, 2, 3, 6)))))
        uses = [[p, r.choice((0, 1, 2)), r.choice((0, 1))] for p in positions]
        tensor: dict[str, Any] = {"size": size, "birth": birth, "death": death, "uses": uses}
        if r.random() < 0.3:
            tensor["reads"] = r.randrange(500)
        tensors.append(tensor)
    return value(layers, ns, tensors)


def wild_value(seed: int) -> dict[str, Any]:
    """Return the JSON value of a random valid profile with several threads, odd clocks and extreme sizes."""
    r = random.Random(seed)  # noqa: S311
    profile = random_value(seed)
    ops, n = profile["ops"], len(profile["ops"]["name"])
    ops["layer"] = [layer * r.choice((1, 1, 1 << 50)) for layer in ops["layer"]]
    ops["layer"].sort()
    profile["page"] = r.choice((PAGE, PAGE, 64, 1 << 21))
    profile["step_ns"] = r.choice((profile["step_ns"], 1, 10**18))
    clock = r.choice(("normal", "stopped", "far from zero", "jumps"))
    if clock == "stopped":
        ops["begin_ns"] = ops["end_ns"] = [0] * n
    elif clock == "far from zero":
        ops["begin_ns"], ops["end_ns"] = (
            [ns + (1 << 61) for ns in ops[each]] for each in ("begin_ns", "end_ns")
        )
    elif clock == "jumps":
        ops["begin_ns"] = sorted(r.choice((0, 1, 10**6, 10**15)) for _ in range(n))
        ops["end_ns"] = [ns + r.choice((0, 1, 10**15)) for ns in ops["begin_ns"]]
    huge_sizes, huge_counts = r.random() < 0.2, r.random() < 0.2
    for tensor in profile["tensors"]:
        if tensor["birth"] >= 0:
            if r.random() < 0.3:
                tensor["op"] = r.randint(max(0, tensor["birth"] - 3), tensor["birth"])
            if r.random() < 0.1:
                tensor.update(thread=r.randint(1, 2), k=tensor["k"] + 1_000_000)
            if r.random() < 0.1:
                tensor["death"] = n
            if r.random() < 0.1:
                tensor.update(kind="scratch", op=tensor["birth"], death=tensor["birth"] + 1, uses=[])
        if huge_sizes and r.random() < 0.3:
            tensor["size"] = r.choice((1 << 33, (1 << 40) + 1, 1 << 46))
        if huge_counts and r.random() < 0.3:
            tensor.update(reads=r.choice((0, 1 << 54)), writes=r.choice((0, 1 << 40)))
        if r.random() < 0.2:
            tensor.update(touched=r.choice((0, 1, PAGE)), reads=0)
    return profile
