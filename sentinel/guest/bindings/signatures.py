# SPDX-License-Identifier: Apache-2.0
"""What a session run computes: its closure, whether it trains, and its kind. python2.7 and 3.

The closure of a run is all operations that its fetches need, up to fed tensors. It identifies the run across
processes, since it consists of names. A run trains if its closure updates trainable variables from their own
values, as optimisers do, or adds gradients to any variable (to accumulate them, or as plain descent). Moving
averages, metrics, initialisers and restored checkpoints are not training.
"""

from __future__ import absolute_import, division, print_function

import hashlib
import threading
import weakref

# Types of the operations with which optimisers update variables
_OPTIMISERS = (
    "Apply",
    "SparseApply",
    "ResourceApply",
    "ResourceSparseApply",
    "AccumulatorApplyGradient",
    "SparseAccumulatorApplyGradient",
)
_SETS = ("Assign", "AssignVariableOp", "ScatterUpdate", "ScatterNdUpdate", "ResourceScatterUpdate")
_ADDS = (
    "AssignAdd",
    "AssignSub",
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "ScatterAdd",
    "ScatterSub",
    "ScatterNdAdd",
    "ScatterNdSub",
    "ScatterMul",
    "ScatterDiv",
    "ResourceScatterAdd",
    "ResourceScatterSub",
)
_GRADIENT = "_grad/"  # in the names of all operations that tf.gradients() makes
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable")
# Operations that hand on a reference to a variable
_FORWARDS = ("Identity", "RefIdentity", "Enter", "RefEnter", "Switch", "RefSwitch", "Merge", "RefMerge")


class Signature(object):
    """A kind of run: `name` (12 hexadecimal digits), and the names of the closure's operations."""

    def __init__(self, names):
        self.operations = frozenset(names)
        text = "".join("%s\n" % name for name in sorted(self.operations))
        self.name = hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]
        self._overlaps = {}  # by name: asked for in every step without a plan

    def overlap(self, other):
        """Return the share of this signature's operations that are in the other one, too."""
        if other.name not in self._overlaps:
            common = len(self.operations & other.operations)
            self._overlaps[other.name] = common / float(len(self.operations))
        return self._overlaps[other.name]


def closure(fetched, fed=()):
    """Return the set of operations that a run of the operations `fetched` needs, if tensors `fed` are fed."""
    visited, pending = set(), list(fetched)
    fed = frozenset(tensor.name for tensor in fed)
    while pending:
        op = pending.pop()
        if op in visited:
            continue
        visited.add(op)
        pending.extend(op.control_inputs)
        pending.extend(tensor.op for tensor in op.inputs if tensor.name not in fed)
    return visited


def _variable(op):
    """Return the variable that the assignment `op` writes, as an operation; None if it cannot be told."""
    target = op.inputs[0].op if len(op.inputs) else None
    while target is not None and target.type in _FORWARDS and len(target.inputs):
        target = target.inputs[0].op
    return target if target is not None and target.type in _VARIABLES else None


def trains(operations, trainable=(), local=()):
    """Return whether a run of these operations, a closure, updates variables as training does.

    `trainable` and `local` are the names of the graph's trainable variables, and of those that belong to
    metrics and input, which never count.
    """
    for op in operations:
        if op.type.startswith(_OPTIMISERS):
            return True
    for op in operations:
        if op.type not in _SETS and op.type not in _ADDS:
            continue
        variable = _variable(op)
        if variable is None or variable.name in local:
            continue
        values = closure([tensor.op for tensor in list(op.inputs)[1:]] + list(op.control_inputs))
        if op.type in _SETS:
            if variable.name in trainable and variable in values:
                return True
        elif any(_GRADIENT in value.name for value in values):
            return True
    return False


class Signatures(object):
    """The signatures of training runs, by graph and fetches.

    `step_ops`: names of operations; if there are any, the runs that need one of them are the training runs.
    """

    def __init__(self, step_ops=()):
        self._step_ops = frozenset(name.split(":")[0] for name in step_ops)
        self._lock = threading.Lock()
        self._of_graph = weakref.WeakKeyDictionary()  # graph -> names of fetches and feeds -> signature
        self._by_name = {}

    def of(self, graph, fetched, fed=()):
        """Return the signature of a run that fetches these operations and feeds these tensors.

        None if the run does not train.
        """
        key = (frozenset(op.name for op in fetched), frozenset(tensor.name for tensor in fed))
        with self._lock:
            known = self._of_graph.setdefault(graph, {})
            if key in known:
                return known[key]
        operations = closure(fetched, fed)
        signature = None
        if self._is_step(graph, operations):
            signature = Signature(op.name for op in operations)
        with self._lock:
            if signature is not None:
                signature = self._by_name.setdefault(signature.name, signature)
            known[key] = signature
        return signature

    def _is_step(self, graph, operations):
        if self._step_ops:
            return any(op.name in self._step_ops for op in operations)
        names = {
            collection: frozenset(
                variable.op.name for variable in graph.get_collection(collection) if hasattr(variable, "op")
            )
            for collection in ("trainable_variables", "local_variables", "metric_variables")
        }
        return trains(
            operations,
            names["trainable_variables"],
            names["local_variables"] | names["metric_variables"],
        )


def varying(tensors, shapes):
    """Return the pairs of a fed tensor and its value's shape in which the shape is not fixed."""
    return [(t, shape) for t, shape in zip(tensors, shapes) if not t.shape.is_fully_defined()]


def shape_bucket(tensors, shapes):
    """Return the bucket of a run's input sizes: dimensions that vary, rounded up to a power of two.

    `tensors` are the fed ones and `shapes` the shapes of their values. The bucket is a tuple that can be a
    key; it is empty if all shapes are fixed.
    """
    bucket = []
    for tensor, shape in varying(tensors, shapes):
        static = tensor.shape
        dims = [d.value for d in static.dims] if static.dims is not None else [None] * len(shape)
        bucket.append(
            (tensor.name, tuple(n if d is not None else _power_of_two(n) for n, d in zip(shape, dims)))
        )
    return tuple(sorted(bucket))


def _power_of_two(n):
    power = 1
    while power < n:
        power *= 2
    return power
