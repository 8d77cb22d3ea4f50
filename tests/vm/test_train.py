# SPDX-License-Identifier: Apache-2.0
"""`sentinel train` on a script of a user, in a real machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from results.runs import Run
from testbed import vm

SCRIPT = '''\
"""Trains a small network on synthetic images until its steps are over."""

from __future__ import print_function

import argparse

import numpy as np
import tensorflow as tf

import layers

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
parser.add_argument("--message")
options = parser.parse_args()
size = int(open("data/size.txt").read())

images = tf.placeholder(tf.float32, [16, size, size, 1])
labels = tf.placeholder(tf.int64, [16])
hidden = layers.convolution(images, 8)
hidden = layers.convolution(hidden, 16)
logits = tf.layers.dense(tf.layers.flatten(hidden), 10)
loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
train = tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)
accuracy = tf.reduce_mean(tf.cast(tf.equal(labels, tf.argmax(logits, 1)), tf.float32))

data = np.random.RandomState(1)
print(options.message)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for step in range(options.steps):
        feed = {images: data.randn(16, size, size, 1), labels: data.randint(0, 10, 16)}
        _, value = session.run([train, loss], feed)
        print("step %d: loss %.4f" % (step, value))
        if step % 50 == 0:
            print("accuracy %.2f" % session.run(accuracy, feed))
print("not reached: the host ends the training first")
'''
LAYERS = """\
import tensorflow as tf


def convolution(x, filters):
    return tf.layers.max_pooling2d(tf.layers.conv2d(x, filters, 3, activation=tf.nn.relu), 2, 2)
"""


MESSAGE = 'it\'s "ready" for $1'


def test_a_script_is_profiled_planned_and_trained_with_one_command(tmp_path: Path, any_kernel: str) -> None:
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "size.txt").write_text("24\n")
    (folder / "layers.py").write_text(LAYERS)
    (folder / "train.py").write_text(SCRIPT)
    own = ["--fast-memory", "60%", "--file", "data", "--file", "layers.py", "--steps", "3", "--warmup", "1"]
    own += ["--kernel", any_kernel, "--out", str(tmp_path / "run")]
    words = [*own, "train.py", "--steps", "5000", "--message", MESSAGE]
    done = subprocess.run(
        [sys.executable, "-m", "sentinel.cli.main", "train", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    assert f"{MESSAGE}\n" in done.stdout
    assert "step 5: loss" in done.stdout
    assert "not reached" not in done.stdout
    assert " planned" in done.stderr

    run = Run.load(tmp_path / "run")
    assert run.warnings == []
    (cell,) = run.cells
    (repeat,) = cell.repeats
    measured = [step for step in repeat.steps if not step.warmup]
    assert len(measured) == 3
    budget = repeat.provenance.fast_memory
    assert budget is not None
    assert budget.peak_bytes is not None
    assert budget.budget_bytes == int(budget.peak_bytes * 0.6)
    for step in repeat.steps:
        on_node_0 = sum(pool["resident"][0] for pool in step.runtime["pools"].values())
        assert on_node_0 <= budget.budget_bytes
    assert all(step.runtime["planned"] for step in measured)
    assert len({step.kind for step in repeat.steps}) == 1
    summary = json.loads((repeat.path / "summary.json").read_text())
    assert [kind["state"] for kind in summary["kinds"]] == ["planned"]
    assert (repeat.path / "output.log").read_text() == done.stdout
    assert not any(machine.alive() for machine in vm.all_vms())
