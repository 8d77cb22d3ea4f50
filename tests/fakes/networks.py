# SPDX-License-Identifier: Apache-2.0
"""Synthetic profiles of training steps: shapes and data flow of real networks, with random times.

Buffers follow TensorFlow's CPU kernels: tensors live until the backward operation that needs them, ReLU and
residual additions work in place, convolutions have scratch. Sizes are those of float32.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from sentinel.planner.formats import profile_json as profile_format
from sentinel.planner.formats.profile import Profile
from tests.fakes.profiles import PAGE

SLOW_READ, SLOW_WRITE = 1 / 39.4, 1 / 13.9  # ns per byte, as in optane-6dimm
PACKED = (65536,) * 6 + (4096, 1024, 512)  # blocks of a matrix product


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
    """Builds the profile of a step from its operations in order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 (weights are not secrets)
        self.names: list[str] = []
        self.types: list[str] = []
        self.layers: list[int] = []
        self.compute: list[float] = []
        self.tensors: list[Tensor] = []
        self.layer = 0
        self.slow_ns: list[float] = []  # time of each operation in slow memory

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
        """Add an operation in the current layer. Returns its results.

        It reads the tensors `takes`, `passes` times, and writes `into`, results of the sizes `makes` and its
        `scratch`. `compute` is its compute time relative to the other operations'.
        """
        p = len(self.names)
        self.names.append(f"layer{self.layer}/{kind}_{p}")
        self.types.append(kind)
        self.layers.append(self.layer)
        self.slow_ns.append(0.0)
        self.compute.append(compute * self.random.uniform(0.8, 1.2))
        results = [Tensor(size, p, k) for k, size in enumerate(makes)]
        allocated = results + [Tensor(size, p, len(makes) + k, "scratch") for k, size in enumerate(scratch)]
        self.tensors += allocated
        for tensor, read, write in (
            *((t, 1, 0) for t in takes),
            *((t, 0, 1) for t in into),
            *((t, int(t.kind == "scratch"), 1) for t in allocated),
        ):
            use = tensor.uses.setdefault(p, [0, 0])
            use[0] += read
            use[1] += write
            tensor.runs[0] += read * passes
            tensor.runs[1] += write
            self.slow_ns[p] += tensor.size * (read * passes * SLOW_READ + write * SLOW_WRITE)
        return results

    def finish(self, *, step_ns: float, memory: float = 0.9) -> Profile:
        """Return the profile of a step of `step_ns`, about the share `memory` of it in slow memory."""
        n = len(self.names)
        slow_ns = [ns * self.random.uniform(0.7, 1.1) for ns in self.slow_ns]
        memory_scale = memory * step_ns / sum(slow_ns)
        compute_scale = (1 - memory) * step_ns / sum(self.compute)
        begin, end, now = [], [], 0.0
        for ns, compute in zip(slow_ns, self.compute, strict=True):
            begin.append(round(now))
            now += max(1.0, ns * memory_scale + compute * compute_scale)
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
        n, before_step = len(self.names), tensor.op < 0
        last = max(tensor.uses, default=tensor.op)
        pages = -(-tensor.size // PAGE)
        row: dict[str, Any] = {
            "op": tensor.op,
            "k": tensor.k,
            "size": tensor.size,
            "birth": tensor.op,
            "death": n if before_step else last + 1,
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
    """Return ResNet for CIFAR (He et al. 2016, section 4.2), 3 stages of `blocks` blocks: 3 is ResNet-20."""
    s = Step(seed)
    shapes: list[tuple[int, int]] = [(16, side)]
    for stage, filters in enumerate((16, 32, 64)):
        shapes += [(filters, side >> stage)] * (2 * blocks)
    variables = []
    channels = 3
    for i, (filters, _) in enumerate(shapes):
        weights = {}
        for name, size in (
            ("kernel", 9 * channels * filters * 4),
            ("gamma", filters * 4),
            ("beta", filters * 4),
        ):
            weights[name] = s.variable(f"conv{i}/{name}", size)
            weights[name + "/Momentum"] = s.variable(f"conv{i}/{name}/Momentum", size)
        variables.append(weights)
        channels = filters
    dense, dense_momentum = s.variable("dense/kernel", 64 * 40), s.variable("dense/kernel/Momentum", 64 * 40)

    (x,) = s.op("Images", makes=(batch * 3 * side * side * 4,), compute=0.2)
    layers: list[_Convolution] = []
    for (filters, width), weights in zip(shapes, variables, strict=True):
        size = batch * filters * width * width * 4
        small = filters * 4
        s.op("Identity", weights["kernel"], makes=(64,), compute=0.1)
        (y,) = s.op("Conv2D", x, weights["kernel"], makes=(size,), scratch=PACKED, compute=8, passes=9)
        out, *stats = s.op(
            "FusedBatchNorm",
            y,
            weights["gamma"],
            weights["beta"],
            makes=(size, small, small, small, small),
            compute=1,
        )
        s.op("Relu", out, into=(out,), compute=0.4)
        if len(layers) % 2 and layers[-1].out.size == size:
            s.op("Add", out, layers[-1].x, into=(out,), compute=0.4)
        layers.append(_Convolution(x, y, out, stats, weights, filters))
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
    for layer in reversed(layers):
        s.layer += 1
        weights, size = layer.variables, layer.out.size
        s.op("ReluGrad", dy, layer.out, into=(dy,), compute=0.4)
        db, *small_gradients = s.op(
            "FusedBatchNormGrad", dy, layer.y, *layer.stats, weights["gamma"],
            makes=(size, layer.filters * 4, layer.filters * 4), scratch=(layer.filters * 4,) * 4, compute=2,
        )  # fmt: skip
        (dk,) = s.op(
            "Conv2DBackpropFilter",
            db,
            layer.x,
            makes=(weights["kernel"].size,),
            scratch=PACKED,
            compute=8,
            passes=9,
        )
        if layer is not layers[0]:
            (dy,) = s.op(
                "Conv2DBackpropInput",
                db,
                weights["kernel"],
                makes=(layer.x.size,),
                scratch=PACKED,
                compute=8,
                passes=9,
            )
        for name, g in zip(("kernel", "gamma", "beta"), (dk, *small_gradients), strict=True):
            s.op("ApplyMomentum", g, into=(weights[name], weights[name + "/Momentum"]), compute=0.2)
        for _ in range(7):
            s.op("Shape", makes=(16, 8, 4), scratch=(64,), compute=0.1)
    s.op("NoOp", compute=0.1)
    return s.finish(step_ns=step_ns)


def lstm(
    *, seed: int = 1, batch: int = 32, steps: int = 20, hidden: int = 128, step_ns: float = 4.0e6
) -> Profile:
    """Return one unrolled LSTM layer: many small tensors, and one kernel that all time steps use."""
    s = Step(seed)
    features = 64
    gates_size = batch * 4 * hidden * 4
    state_size = batch * hidden * 4
    kernel = s.variable("lstm/kernel", (features + hidden) * 4 * hidden * 4)
    bias = s.variable("lstm/bias", 4 * hidden * 4)
    (h,) = s.op("ZerosH", makes=(state_size,), compute=0.1)
    (c,) = s.op("ZerosC", makes=(state_size,), compute=0.1)
    saved = []
    for _ in range(steps):
        (x,) = s.op("Unstack", makes=(batch * features * 4,), compute=0.2)
        (both,) = s.op("ConcatV2", x, h, makes=(batch * (features + hidden) * 4,), compute=0.3)
        (gates,) = s.op("MatMul", both, kernel, makes=(gates_size,), scratch=(kernel.size // 2,), compute=6)
        s.op("BiasAdd", gates, bias, into=(gates,), compute=0.3)
        i, j, f, o = s.op("Split", gates, makes=(state_size,) * 4, compute=0.3)
        for gate, kind in ((i, "Sigmoid"), (j, "Tanh"), (f, "Sigmoid"), (o, "Sigmoid")):
            s.op(kind, gate, into=(gate,), compute=0.5)
        (keep,) = s.op("Mul", c, f, makes=(state_size,), compute=0.3)
        (new,) = s.op("Mul", i, j, makes=(state_size,), compute=0.3)
        (state,) = s.op("Add", keep, new, makes=(state_size,), compute=0.3)
        (squashed,) = s.op("Tanh", state, makes=(state_size,), compute=0.5)
        (out,) = s.op("Mul", squashed, o, makes=(state_size,), compute=0.3)
        saved.append((both, i, j, f, o, c, squashed))
        h, c = out, state
        s.layer += 1
    (dh,) = s.op("Loss", h, makes=(state_size,), compute=1)
    (dc,) = s.op("ZerosLike", dh, makes=(state_size,), compute=0.1)
    (total,) = s.op("ZerosKernel", makes=(kernel.size,), compute=0.1)
    for both, i, j, f, o, c, squashed in reversed(saved):
        s.layer += 1
        parts = [
            s.op("MulGrad", dh, t, squashed if t is o else c, makes=(state_size,), compute=0.5)[0]
            for t in (i, j, f, o)
        ]
        (dgates,) = s.op("ConcatV2", *parts, makes=(gates_size,), compute=0.3)
        (dk,) = s.op("MatMulKernel", both, dgates, makes=(kernel.size,), compute=6)
        s.op("AddN", dk, total, into=(total,), compute=1)
        (dboth,) = s.op("MatMulInput", dgates, kernel, makes=(both.size,), compute=6)
        (dh,) = s.op("SliceH", dboth, makes=(state_size,), compute=0.2)
        (dc,) = s.op("MulC", dc, f, makes=(state_size,), compute=0.3)
    s.op("ApplyGradientDescent", total, into=(kernel,), compute=0.5)
    s.op("NoOp", compute=0.1)
    return s.finish(step_ns=step_ns)
