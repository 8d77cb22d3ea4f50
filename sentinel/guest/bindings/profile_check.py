# SPDX-License-Identifier: Apache-2.0
"""The planner's rules for profiles, applied where profiles are recorded. python2.7 and 3.

The planner (`planner/formats/profile.py`) refuses the same profiles; here the reason is known before the
training ends.
"""

from __future__ import absolute_import, division, print_function


def unplannable(profile):
    """Return the reason for which the planner would refuse this profile, or None."""
    if profile["step_ns"] < 1:
        if profile["clock"] == "model":
            return (
                "the step took 0 ns by the model clock, which runs within a region of interest only:"
                " call timing_client.region_begin() before the first step"
            )
        return "the step took 0 ns"
    ops = profile["ops"]
    if not ops["name"]:
        return "it has no operations"
    clocks = ""
    if profile["clock"] == "model":
        clocks = ", as the clocks of vCPUs differ: call timing_client.compute() before the first session"
    for p in range(len(ops["name"])):
        if p and ops["begin_ns"][p] < ops["begin_ns"][p - 1]:
            return "operation %d (%s) begins before the one before it%s" % (p, ops["name"][p], clocks)
        if ops["end_ns"][p] < ops["begin_ns"][p]:
            return "operation %d (%s) ends before it begins%s" % (p, ops["name"][p], clocks)
    keys = set()
    for number, tensor in enumerate(profile["tensors"]):
        reason = _wrong_lifetime(tensor, len(ops["name"]))
        if reason is not None:
            return "tensor %d %s" % (number, reason)
        key = _key(tensor, ops)
        if key in keys:
            return "tensor %d has the key of another tensor: %s" % (number, key)
        keys.add(key)
    return None


def _wrong_lifetime(tensor, end):
    op, birth, death = tensor["op"], tensor["birth"], tensor["death"]
    if (op < 0) != (birth < 0) or not op <= birth < death <= end:
        return "is allocated by operation %d, born at %d and dead at %d" % (op, birth, death)
    if op < 0 and not tensor.get("name"):
        return "is from before the step and has no name"
    if tensor["kind"] == "variable" and (op, death) != (-1, end):
        return "is a variable, and lives from %d to %d only" % (op, death)
    if tensor["kind"] == "scratch" and (op < 0 or death != op + 1):
        return "is scratch of operation %d, and dead at %d" % (op, death)
    last = op - 1
    for position, _, _ in tensor["uses"]:
        if not max(last + 1, op) <= position < death:
            return "is used at %d, and lives from %d to %d; its last use was at %d" % (
                (position, op, death, last)
            )
        last = position
    return None


def _key(tensor, ops):
    op = tensor["op"]
    if op < 0:
        return ("", tensor["name"], 0, tensor["size"])
    return (ops["name"][op], ops["occurrence"][op], tensor["k"], tensor["size"])
