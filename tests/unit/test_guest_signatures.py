# SPDX-License-Identifier: Apache-2.0
"""Which session runs are training steps, and of which kind, on fake graphs."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import guest


class Op:
    """A fake operation of a graph."""

    def __init__(self, kind: str, *inputs: Op, name: str = "", control: tuple[Op, ...] = ()) -> None:
        self.type, self.name = kind, name or kind.lower()
        self.inputs = [SimpleNamespace(op=op, name=f"{op.name}:0") for op in inputs]
        self.control_inputs = list(control)


class Graph:
    """A graph with trainable, and with local variables."""

    def __init__(self, trainable: tuple[Op, ...] = (), local: tuple[Op, ...] = ()) -> None:
        self._collections = {"trainable_variables": trainable, "local_variables": local}

    def get_collection(self, name: str) -> list[Any]:
        return [SimpleNamespace(op=op) for op in self._collections.get(name, ())]


@pytest.fixture
def signatures() -> Any:
    return guest.load("guest.bindings.signatures")


WEIGHT, MEAN, COUNT = (Op("VariableV2", name=name) for name in ("w", "moving_mean", "count"))
READ = Op("Identity", WEIGHT, name="w/read")
LOSS = Op("Mean", Op("MatMul", Op("Placeholder", name="x"), READ))
GRADIENT = Op("MatMul", LOSS, name="gradients/MatMul_grad/MatMul")
GRAPH = Graph((WEIGHT,), (COUNT,))

TRAINING = {
    "optimiser": Op("ApplyMomentum", WEIGHT, GRADIENT),
    "resource": Op("ResourceApplyAdam", GRADIENT),
    "group": Op("NoOp", control=(Op("NoOp", control=(Op("ApplyAdam", WEIGHT, GRADIENT),)),)),
    "assigned": Op("Assign", WEIGHT, Op("Sub", READ, GRADIENT)),
    "assigned resource": Op("AssignVariableOp", WEIGHT, Op("Sub", Op("ReadVariableOp", WEIGHT), GRADIENT)),
    "subtracted": Op("AssignSub", WEIGHT, GRADIENT),
    "sparse": Op("ScatterSub", WEIGHT, Op("Const"), GRADIENT),
    "accumulated": Op("AssignAdd", Op("VariableV2", name="sum"), GRADIENT),
    "accumulator": Op("AccumulatorApplyGradient", GRADIENT),
}
OTHER = {
    "loss": LOSS,
    "initialiser": Op("Assign", WEIGHT, Op("RandomUniform")),
    "restored": Op("Assign", WEIGHT, Op("RestoreV2")),
    "copied": Op("Assign", WEIGHT, Op("Identity", Op("VariableV2", name="online"))),
    "moving average": Op("AssignSub", MEAN, Op("Mul", LOSS)),
    "metric": Op("AssignAdd", COUNT, Op("Cast", LOSS)),
    "state": Op("Assign", Op("VariableV2", name="state"), Op("LSTM", READ)),
    "counter": Op("AssignAdd", Op("VariableV2", name="global_step"), Op("Const")),
    "table": Op("Assign", Op("HashTable"), Op("Const")),
    "assignment without inputs": Op("AssignAdd"),
}


@pytest.mark.parametrize("name", TRAINING)
def test_runs_that_update_trainable_variables_are_steps(signatures: Any, name: str) -> None:
    assert signatures.Signatures().of(GRAPH, [TRAINING[name]]) is not None


@pytest.mark.parametrize("name", OTHER)
def test_other_runs_are_not(signatures: Any, name: str) -> None:
    assert signatures.Signatures().of(GRAPH, [OTHER[name]]) is None


def test_loops_in_graphs_end(signatures: Any) -> None:
    loop = Op("Merge")
    loop.inputs.append(SimpleNamespace(op=Op("NextIteration", loop), name="n:0"))
    assert {op.type for op in signatures.closure([loop])} == {"Merge", "NextIteration"}
    assert signatures.Signatures().of(GRAPH, [loop]) is None


def test_a_named_operation_decides(signatures: Any) -> None:
    of = signatures.Signatures(["mean:0"]).of
    assert of(GRAPH, [TRAINING["optimiser"]]) is not None  # needs the loss
    assert of(GRAPH, [LOSS]) is not None
    assert of(GRAPH, [TRAINING["resource"]]) is not None
    assert of(GRAPH, [Op("ApplyAdam", WEIGHT, name="other")]) is None


def test_the_kind_depends_on_operations_not_on_objects(signatures: Any) -> None:
    of = signatures.Signatures().of
    first = of(GRAPH, [TRAINING["optimiser"]])
    again = of(Graph((WEIGHT,)), [Op("ApplyMomentum", WEIGHT, GRADIENT)])
    assert first is again
    assert len(first.name) == 12
    summary = of(GRAPH, [TRAINING["optimiser"], Op("MergeSummary", LOSS)])
    assert summary.name != first.name
    assert first.overlap(summary) == 1
    assert summary.overlap(first) == pytest.approx(7 / 8)


def test_fed_tensors_end_the_closure(signatures: Any) -> None:
    fed = SimpleNamespace(name="mean:0")
    whole = signatures.closure([GRADIENT])
    assert {op.name for op in signatures.closure([GRADIENT], [fed])} == {GRADIENT.name}
    assert len(whole) > 1


def test_signatures_do_not_keep_graphs_alive(signatures: Any) -> None:
    known, graph = signatures.Signatures(), Graph((WEIGHT,))
    alive = weakref.ref(graph)
    known.of(graph, [TRAINING["optimiser"]])
    del graph
    gc.collect()
    assert alive() is None


def tensor(name: str, *dims: int | None, rank_known: bool = True) -> Any:
    shape = SimpleNamespace(
        is_fully_defined=lambda: rank_known and None not in dims,
        dims=[SimpleNamespace(value=d) for d in dims] if rank_known else None,
    )
    return SimpleNamespace(name=name, shape=shape)


def test_only_varying_dimensions_make_buckets(signatures: Any) -> None:
    fixed, varying, unknown = tensor("a", 4, 8), tensor("b", None, 3), tensor("c", rank_known=False)
    assert signatures.shape_bucket([fixed], [(4, 8)]) == ()
    buckets = {n: signatures.shape_bucket([fixed, varying], [(4, 8), (n, 3)]) for n in (1, 3, 4, 5, 8)}
    assert buckets[3] == buckets[4] == (("b", (4, 3)),)
    assert buckets[5] == buckets[8]
    assert len(set(buckets.values())) == 3
    assert signatures.shape_bucket([unknown], [(5, 6)]) == (("c", (8, 8)),)
    assert signatures.shape_bucket([varying], [()]) == (("b", ()),)  # a handle of a tensor
