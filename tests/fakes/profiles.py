# SPDX-License-Identifier: Apache-2.0
"""Synthetic profiles of training steps: shapes and data flow of real networks, times that a seed decides.

Buffers are counted as TensorFlow's CPU kernels take them: what a backward operation needs lives until then,
ReLU and residual additions work in place, convolutions have scratch. Sizes are those of float32.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from sentinel.planner.formats import profile as profile_format
from sentinel.planner.formats.profile import Profile

SLOW_READ, SLOW_WRITE = 1 / 39.4, 1 / 13.9  # ns a byte, as of optane-6dimm
PAGE = 4096
PACKED = (65536,) * 6 + (4096, 1024, 512)  # blocks of a matrix product


def value(layers: list[int], ns: list[int], tensors: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The JSON value of a profile whose operation p is in layer `layers[p]` and takes `ns[p]` ns.

    A tensor has `size`, `birth`, `death`, `uses`, and may have whatever else; every use accessed each of its
    pages once.
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
    """As `value`, as a profile."""
    return profile_format.parse(value(layers, ns, tensors, **more))


def random_value(seed: int) -> dict[str, Any]:
    """The JSON value of a profile without rhyme or reason, but by the rules."""
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
    """As `random_value`, with what several threads, odd clocks and odd programs leave in a profile."""
    r = random.Random(seed)  # noqa: S311
    made = random_value(seed)
    ops, n = made["ops"], len(made["ops"]["name"])
    ops["layer"] = [layer * r.choice((1, 1, 1 << 50)) for layer in ops["layer"]]
    ops["layer"].sort()
    made["page"] = r.choice((PAGE, PAGE, 64, 1 << 21))
    made["step_ns"] = r.choice((made["step_ns"], 1, 10**18))
    clock = r.choice(("as it is", "stands still", "far from zero", "jumps"))
    if clock == "stands still":
        ops["begin_ns"] = ops["end_ns"] = [0] * n
    elif clock == "far from zero":
        ops["begin_ns"], ops["end_ns"] = (
            [ns + (1 << 61) for ns in ops[each]] for each in ("begin_ns", "end_ns")
        )
    elif clock == "jumps":
        ops["begin_ns"] = sorted(r.choice((0, 1, 10**6, 10**15)) for _ in range(n))
        ops["end_ns"] = [ns + r.choice((0, 1, 10**15)) for ns in ops["begin_ns"]]
    huge, many = r.random() < 0.2, r.random() < 0.2
    for tensor in made["tensors"]:
        if tensor["birth"] >= 0:
            if r.random() < 0.3:
                tensor["op"] = r.randint(max(0, tensor["birth"] - 3), tensor["birth"])
            if r.random() < 0.1:
                tensor.update(thread=r.randint(1, 2), k=tensor["k"] + 1_000_000)
            if r.random() < 0.1:
                tensor["death"] = n
            if r.random() < 0.1:
                tensor.update(kind="scratch", op=tensor["birth"], death=tensor["birth"] + 1, uses=[])
        if huge and r.random() < 0.3:
            tensor["size"] = r.choice((1 << 33, (1 << 40) + 1, 1 << 46))
        if many and r.random() < 0.3:
            tensor.update(reads=r.choice((0, 1 << 54)), writes=r.choice((0, 1 << 40)))
        if r.random() < 0.2:
            tensor.update(touched=r.choice((0, 1, PAGE)), reads=0)
    return made


@dataclass
class Tensor:
    size: int
    op: int
    k: int
    kind: str = "tensor"
    name: str | None = None
    uses: dict[int, list[int]] = field(default_factory=dict)
    runs: list[int] = field(default_factory=lambda: [0, 0])  # accesses of each page, read and written


class Step:
    """A step in the making: operations in order, each with what it takes and makes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 (weights are not secrets)
        self.names: list[str] = []
        self.types: list[str] = []
        self.layers: list[int] = []
        self.compute: list[float] = []
        self.tensors: list[Tensor] = []
        self.layer = 0
        self.touched: list[float] = []  # ns in slow memory

    def variable(self, name: str, size: int) -> Tensor:
        self.tensors.append(Tensor(size, -1, 0, "variable", name))
        return self.tensors[-1]

    def op(
        self,
        kind: str,
        *takes: Tensor,
        makes: tuple[int, ...] = (),
        into: tuple[Tensor, ...] = (),
        scratch: tuple[int, ...] = (),
        compute: float = 1.0,
        passes: int = 1,
    ) -> list[Tensor]:
        """Run an operation: new tensors of the sizes `makes`, also writes `into`; compute in shares of the
        step's.

        It reads everything `passes` times.
        """
        p = len(self.names)
        self.names.append(f"layer{self.layer}/{kind}_{p}")
        self.types.append(kind)
        self.layers.append(self.layer)
        self.touched.append(0.0)
        self.compute.append(compute * self.random.uniform(0.8, 1.2))
        made = [Tensor(size, p, k) for k, size in enumerate(makes)]
        made += [Tensor(size, p, len(makes) + k, "scratch") for k, size in enumerate(scratch)]
        self.tensors += made
        for tensor, read, write in (
            *((t, 1, 0) for t in takes),
            *((t, 0, 1) for t in into),
            *((t, int(t.kind == "scratch"), 1) for t in made),
        ):
            use = tensor.uses.setdefault(p, [0, 0])
            use[0] += read
            use[1] += write
            tensor.runs[0] += read * passes
            tensor.runs[1] += write
            self.touched[p] += tensor.size * (read * passes * SLOW_READ + write * SLOW_WRITE)
        return made[: len(makes)]

    def finish(self, *, step_ns: float, memory: float = 0.9) -> Profile:
        """The profile, in which slow memory is about the share `memory` of the step's `step_ns`."""
        n = len(self.names)
        touched = [ns * self.random.uniform(0.7, 1.1) for ns in self.touched]
        scale = memory * step_ns / sum(touched)
        rest = (1 - memory) * step_ns / sum(self.compute)
        begin, end, now = [], [], 0.0
        for ns, share in zip(touched, self.compute, strict=True):
            begin.append(round(now))
            now += max(1.0, ns * scale + share * rest)
            end.append(round(now))
        value = {
            "format": profile_format.FORMAT,
            "version": profile_format.VERSION,
            "graph": profile_format.digest(self.names),
            "page": PAGE,
            "counts": "kernel",
            "clock": "model",
            "threads": {"inter_op": 1, "intra_op": 1},
            "step_ns": round(now),
            "ops": {
                "name": self.names,
                "type": self.types,
                "layer": self.layers,
                "occurrence": [0] * n,
                "begin_ns": begin,
                "end_ns": end,
            },
            "tensors": [self._row(tensor) for tensor in self.tensors],
            "warnings": [],
        }
        return profile_format.parse(value)

    def _row(self, tensor: Tensor) -> dict[str, Any]:
        n, before = len(self.names), tensor.op < 0
        last = max(tensor.uses, default=tensor.op)
        pages = -(-tensor.size // PAGE)
        row: dict[str, Any] = {
            "op": tensor.op,
            "k": tensor.k,
            "size": tensor.size,
            "birth": tensor.op,
            "death": n if before else last + 1,
            "thread": 0,
            "uses": [[p, *tensor.uses[p]] for p in sorted(tensor.uses)],
            "reads": pages * tensor.runs[0],
            "writes": pages * tensor.runs[1],
            "kind": tensor.kind,
        }
        if tensor.name is not None:
            row["name"] = tensor.name
        return row


@dataclass
class _Convolution:
    x: Tensor
    y: Tensor
    out: Tensor
    stats: list[Tensor]
    variables: dict[str, Tensor]
    filters: int


def resnet(
    *, seed: int = 1, batch: int = 8, blocks: int = 3, side: int = 32, step_ns: float = 23.5e6
) -> Profile:
    """ResNet for CIFAR (He et al. 2016, section 4.2), three stages of `blocks` blocks: 3 is ResNet-20."""
    s = Step(seed)
    shapes: list[tuple[int, int]] = [(16, side)]
    for stage, filters in enumerate((16, 32, 64)):
        shapes += [(filters, side >> stage)] * (2 * blocks)
    variables = []
    before = 3
    for i, (filters, _) in enumerate(shapes):
        own = {}
        for name, size in (
            ("kernel", 9 * before * filters * 4),
            ("gamma", filters * 4),
            ("beta", filters * 4),
        ):
            own[name] = s.variable(f"conv{i}/{name}", size)
            own[name + "/Momentum"] = s.variable(f"conv{i}/{name}/Momentum", size)
        variables.append(own)
        before = filters
    dense, dense_momentum = s.variable("dense/kernel", 64 * 40), s.variable("dense/kernel/Momentum", 64 * 40)

    (x,) = s.op("Images", makes=(batch * 3 * side * side * 4,), compute=0.2)
    done: list[_Convolution] = []
    for (filters, width), own in zip(shapes, variables, strict=True):
        size = batch * filters * width * width * 4
        small = filters * 4
        s.op("Identity", own["kernel"], makes=(64,), compute=0.1)
        (y,) = s.op("Conv2D", x, own["kernel"], makes=(size,), scratch=PACKED, compute=8, passes=9)
        out, *stats = s.op(
            "FusedBatchNorm",
            y,
            own["gamma"],
            own["beta"],
            makes=(size, small, small, small, small),
            compute=1,
        )
        s.op("Relu", out, into=(out,), compute=0.4)
        if len(done) % 2 and done[-1].out.size == size:
            s.op("Add", out, done[-1].x, into=(out,), compute=0.4)
        done.append(_Convolution(x, y, out, stats, own, filters))
        x = out
        s.layer += 1
    (pooled,) = s.op("Mean", x, makes=(batch * 64 * 4,), compute=0.3)
    (logits,) = s.op("MatMul", pooled, dense, makes=(batch * 40,), compute=0.3)
    loss, gradient = s.op("SoftmaxCrossEntropy", logits, makes=(batch * 4, batch * 40), compute=0.3)
    s.op("MeanLoss", loss, makes=(4,), compute=0.1)
    s.layer += 1
    (dense_gradient,) = s.op("MatMulGrad", pooled, gradient, makes=(64 * 40,), compute=0.3)
    s.op("ApplyMomentum", dense_gradient, into=(dense, dense_momentum), compute=0.2)
    (dy,) = s.op("MeanGrad", gradient, dense, makes=(x.size,), compute=0.3)
    for layer in reversed(done):
        s.layer += 1
        own, size = layer.variables, layer.out.size
        s.op("ReluGrad", dy, layer.out, into=(dy,), compute=0.4)
        db, *small_gradients = s.op(
            "FusedBatchNormGrad", dy, layer.y, *layer.stats, own["gamma"],
            makes=(size, layer.filters * 4, layer.filters * 4), scratch=(layer.filters * 4,) * 4, compute=2,
        )  # fmt: skip
        (dk,) = s.op(
            "Conv2DBackpropFilter",
            db,
            layer.x,
            makes=(own["kernel"].size,),
            scratch=PACKED,
            compute=8,
            passes=9,
        )
        if layer is not done[0]:
            (dy,) = s.op(
                "Conv2DBackpropInput",
                db,
                own["kernel"],
                makes=(layer.x.size,),
                scratch=PACKED,
                compute=8,
                passes=9,
            )
        for name, g in zip(("kernel", "gamma", "beta"), (dk, *small_gradients), strict=True):
            s.op("ApplyMomentum", g, into=(own[name], own[name + "/Momentum"]), compute=0.2)
        for _ in range(7):
            s.op("Shape", makes=(16, 8, 4), scratch=(64,), compute=0.1)
    s.op("NoOp", compute=0.1)
    return s.finish(step_ns=step_ns)


def lstm(
    *, seed: int = 1, batch: int = 32, steps: int = 20, hidden: int = 128, step_ns: float = 4.0e6
) -> Profile:
    """One unrolled LSTM layer: many tensors, all small, and one kernel that every step uses."""
    s = Step(seed)
    features = 64
    wide = batch * 4 * hidden * 4
    one = batch * hidden * 4
    kernel = s.variable("lstm/kernel", (features + hidden) * 4 * hidden * 4)
    bias = s.variable("lstm/bias", 4 * hidden * 4)
    (h,) = s.op("ZerosH", makes=(one,), compute=0.1)
    (c,) = s.op("ZerosC", makes=(one,), compute=0.1)
    saved = []
    for _ in range(steps):
        (x,) = s.op("Unstack", makes=(batch * features * 4,), compute=0.2)
        (both,) = s.op("ConcatV2", x, h, makes=(batch * (features + hidden) * 4,), compute=0.3)
        (gates,) = s.op("MatMul", both, kernel, makes=(wide,), scratch=(kernel.size // 2,), compute=6)
        s.op("BiasAdd", gates, bias, into=(gates,), compute=0.3)
        i, j, f, o = s.op("Split", gates, makes=(one,) * 4, compute=0.3)
        for gate, kind in ((i, "Sigmoid"), (j, "Tanh"), (f, "Sigmoid"), (o, "Sigmoid")):
            s.op(kind, gate, into=(gate,), compute=0.5)
        (keep,) = s.op("Mul", c, f, makes=(one,), compute=0.3)
        (new,) = s.op("Mul", i, j, makes=(one,), compute=0.3)
        (state,) = s.op("Add", keep, new, makes=(one,), compute=0.3)
        (squashed,) = s.op("Tanh", state, makes=(one,), compute=0.5)
        (out,) = s.op("Mul", squashed, o, makes=(one,), compute=0.3)
        saved.append((both, i, j, f, o, c, squashed))
        h, c = out, state
        s.layer += 1
    (dh,) = s.op("Loss", h, makes=(one,), compute=1)
    (dc,) = s.op("ZerosLike", dh, makes=(one,), compute=0.1)
    (total,) = s.op("ZerosKernel", makes=(kernel.size,), compute=0.1)
    for both, i, j, f, o, c, squashed in reversed(saved):
        s.layer += 1
        parts = [
            s.op("MulGrad", dh, t, squashed if t is o else c, makes=(one,), compute=0.5)[0]
            for t in (i, j, f, o)
        ]
        (dgates,) = s.op("ConcatV2", *parts, makes=(wide,), compute=0.3)
        (dk,) = s.op("MatMulKernel", both, dgates, makes=(kernel.size,), compute=6)
        s.op("AddN", dk, total, into=(total,), compute=1)
        (dboth,) = s.op("MatMulInput", dgates, kernel, makes=(both.size,), compute=6)
        (dh,) = s.op("SliceH", dboth, makes=(one,), compute=0.2)
        (dc,) = s.op("MulC", dc, f, makes=(one,), compute=0.3)
    s.op("ApplyGradientDescent", total, into=(kernel,), compute=0.5)
    s.op("NoOp", compute=0.1)
    return s.finish(step_ns=step_ns)
