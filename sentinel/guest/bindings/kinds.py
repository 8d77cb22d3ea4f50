# SPDX-License-Identifier: Apache-2.0
"""Kinds of steps: one for each signature and bucket of input sizes. python2.7 and 3."""

from __future__ import absolute_import, division, print_function

import collections
import hashlib

MAX_BUCKETS = 10  # of one signature (section 4.5 of the paper)
_KEPT_TIMES = 1000
_SIMILAR = 0.9  # share of operations from which a plan of another signature serves a kind without a plan

WAITING, PROFILING, PLANNING, PLANNED, UNPLANNED = "waiting", "profiling", "planning", "planned", "unplanned"


class Kind(object):
    """The steps of one signature with inputs of one bucket, and how far their plan has come.

    `name` is the same in every process that trains the same graph. `elements`: elements of fed tensors whose
    shape varies.
    """

    def __init__(self, number, name, signature):
        self.number, self.name, self.signature = number, name, signature
        self.state = WAITING
        self.reason = ""  # for which there is no plan
        self.runs = 0  # completed
        self.last_profile = 0  # runs before it
        self.profiling_runs = 0  # begun since the profile started
        self.profiles = 0
        self.most_elements = 0  # of all runs
        self.profiled_elements = 0
        # By phase ("before", "profiling", "planned", "other"), without the first run: ns of the last runs,
        # and (number, ns) of all
        self.times, self.totals = {}, {}

    @property
    def file_name(self):
        """The name of its profile or plan in a folder."""
        return self.name + ".json.gz"

    def completed(self, elements, phase, ns):
        """Count a run that took `ns`."""
        self.runs += 1
        self.most_elements = max(self.most_elements, elements)
        if self.runs == 1:
            return  # TensorFlow sets the run up, which takes long
        self.times.setdefault(phase, collections.deque(maxlen=_KEPT_TIMES)).append(ns)
        number, total = self.totals.get(phase, (0, 0))
        self.totals[phase] = (number + 1, total + ns)


class Kinds(object):
    """All kinds of a training. Not thread-safe."""

    def __init__(self):
        self.all = []
        self._by_key = {}

    def get(self, signature, bucket):
        """Return the kind of a run. Beyond MAX_BUCKETS, runs of a signature share its last kind."""
        key = (signature.name, bucket)
        if key in self._by_key:
            return self._by_key[key]
        siblings = [kind for kind in self.all if kind.signature is signature]
        if len(siblings) >= MAX_BUCKETS:
            kind = siblings[-1]
        else:
            name = signature.name
            if bucket:
                name = hashlib.sha256(repr((name, bucket)).encode("utf-8")).hexdigest()[:12]
            kind = Kind(len(self.all), name, signature)
            self.all.append(kind)
        self._by_key[key] = kind
        return kind

    def plan_for(self, kind, elements):
        """Return the kind whose plan serves a run of `kind`: its own, else the most similar one.

        Of one signature, the plan of the smallest inputs that are large enough: smaller tensors fit into the
        places of larger ones. Of another one, it must have most of the operations.
        """
        if kind.state == PLANNED:
            return kind
        planned = [other for other in self.all if other.state == PLANNED]
        siblings = [k for k in planned if k.signature is kind.signature]
        if siblings:
            enough = [k for k in siblings if k.profiled_elements >= elements]
            if enough:
                return min(enough, key=lambda k: k.profiled_elements)
            return max(siblings, key=lambda k: k.profiled_elements)
        similar = [(kind.signature.overlap(k.signature), k.number, k) for k in planned]
        similar = [entry for entry in similar if entry[0] >= _SIMILAR]
        return max(similar)[2] if similar else kind
