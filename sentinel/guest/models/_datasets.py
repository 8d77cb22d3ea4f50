# SPDX-License-Identifier: Apache-2.0
"""Readers for data sets in their published formats. python2.7 and python3, numpy.

    CIFAR-10        data_batch_1.bin to data_batch_5.bin (binary version)
    MNIST           train-images-idx3-ubyte, train-labels-idx1-ubyte
    Penn Treebank   ptb.train.txt
    CoLA            train.tsv, and vocab.txt of a BERT model

Files may be compressed by gzip. Each function takes the folder, and raises ValueError for a file that is not
in the format.
"""

from __future__ import absolute_import, division, print_function

import collections
import gzip
import io
import os
import struct

import numpy as np
from guest.models import _word_pieces

_CIFAR_IMAGE = 32 * 32 * 3
_END = "<eos>"


def _read(folder, name):
    path = os.path.join(folder, name)
    if os.path.exists(path):
        with io.open(path, "rb") as f:
            return f.read()
    with gzip.open(path + ".gz", "rb") as f:
        return f.read()


def cifar10(folder):
    """Return images of zero mean and unit variance (NHWC, float32) and labels."""
    parts = []
    for i in range(1, 6):
        name = "data_batch_%d.bin" % i
        data = np.frombuffer(_read(folder, name), np.uint8)
        if not len(data) or len(data) % (1 + _CIFAR_IMAGE):
            raise ValueError("%s: must consist of records of %d bytes" % (name, 1 + _CIFAR_IMAGE))
        parts.append(data.reshape(-1, 1 + _CIFAR_IMAGE))
    records = np.concatenate(parts)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _labelled("data_batch_*.bin", _normalised(images), records[:, 0])


def mnist(folder):
    """Return images with values from -1 to 1 (NHWC, float32) and labels."""
    images, labels = _idx(folder, "train-images-idx3-ubyte"), _idx(folder, "train-labels-idx1-ubyte")
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError("train-images-idx3-ubyte: must have an image of 28x28 pixels for each label")
    images = (images[..., np.newaxis] / 127.5 - 1).astype("float32")
    return _labelled("train-labels-idx1-ubyte", images, labels)


def _normalised(images):
    mean, deviation = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    return ((images - mean) / np.maximum(deviation, 1e-6)).astype("float32")


def _labelled(name, images, labels):
    if labels.max() > 9:
        raise ValueError("%s: has the label %d; must be 0 to 9" % (name, labels.max()))
    return {"images": images, "labels": labels.astype("int64")}


def _idx(folder, name):
    """Return the array of bytes in an idx file."""
    data = _read(folder, name)
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError("%s: must be an idx file of bytes" % name)
    dimensions = struct.unpack_from("B", data, 3)[0]
    start = 4 + 4 * dimensions
    shape = struct.unpack_from(">%dI" % dimensions, data, 4) if len(data) >= start else ()
    if not shape or len(data) - start != np.prod(shape, dtype=np.int64):
        raise ValueError("%s: its size does not agree with its header" % name)
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def ptb(folder, vocabulary):
    """Return the words of the text by number, most frequent first.

    Sentences end with `<eos>`. With more words than `vocabulary`, the rarest become `<unk>`.
    """
    text = _read(folder, "ptb.train.txt").decode("utf-8").replace("\n", " %s " % _END).split()
    counts = collections.Counter(text)
    order = sorted(counts, key=lambda word: (-counts[word], word))
    numbers = {word: i for i, word in enumerate(order[:vocabulary])}
    unknown = numbers.get("<unk>", vocabulary - 1)
    return np.array([numbers.get(word, unknown) for word in text], "int32")


def cola(folder, sequence, vocabulary):
    """Return all sentences of CoLA as one batch for BERT: tokens, mask, segments and label.

    Word pieces from number `vocabulary` on become [UNK].
    """
    tokenizer = _word_pieces.Tokenizer(_read(folder, "vocab.txt").decode("utf-8"))
    labels, rows, lengths = [], [], []
    lines = _read(folder, "train.tsv").decode("utf-8").rstrip("\n").split("\n")
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        if len(fields) != 4 or fields[1] not in ("0", "1"):
            raise ValueError("train.tsv:%d: must be source, label (0 or 1), mark and sentence" % number)
        pieces = tokenizer.encode(fields[3], sequence)
        labels.append(int(fields[1]))
        lengths.append(len(pieces))
        rows.append(pieces + [tokenizer.pad] * (sequence - len(pieces)))
    tokens = np.array(rows, "int32")
    mask = np.arange(sequence) < np.array(lengths)[:, np.newaxis]
    return {
        "tokens": np.where(tokens < vocabulary, tokens, tokenizer.unknown).astype("int32"),
        "mask": mask.astype("int32"),
        "segments": np.zeros([len(rows), sequence], "int32"),
        "label": np.array(labels, "int32"),
    }


def draws(data, batch, change=None):
    """Return a function of a numpy RandomState that draws a batch of `data`, arrays by name.

    `change(r, drawn)` changes a batch that was drawn.
    """
    count = len(next(iter(data.values())))
    if batch > count:
        raise ValueError("the data has %d examples, fewer than a batch of %d" % (count, batch))

    def draw(r):
        rows = r.permutation(count)[:batch]
        drawn = {name: values[rows] for name, values in data.items()}
        return drawn if change is None else change(r, drawn)

    return draw


def shifted_and_flipped(r, drawn):
    """Move each image by up to 4 pixels and mirror half of them (He et al. 2015, section 4.2)."""
    images = drawn["images"]
    side = images.shape[1]
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)], "constant")
    places = r.randint(0, 9, [len(images), 2])
    images = np.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(padded, places)])
    mirrored = r.random_sample(len(images)) < 0.5
    images[mirrored] = images[mirrored, :, ::-1]
    return dict(drawn, images=images)


def texts(words, batch, time_steps):
    """Return a function that goes through a text: `batch` places at once, `time_steps` words a call.

    It returns one more word for each place: the next. It takes a numpy RandomState, of which it makes no use
    but that a new one starts from the beginning.
    """
    streams = words[: len(words) // batch * batch].reshape(batch, -1)
    calls = (streams.shape[1] - 1) // time_steps
    if calls < 1:
        raise ValueError("the text has %d words; a batch takes %d" % (len(words), batch * (time_steps + 1)))
    state = {"random": None, "call": 0}

    def draw(r):
        if state["random"] is not r:
            state.update(random=r, call=0)
        start = state["call"] % calls * time_steps
        state["call"] += 1
        return streams[:, start : start + time_steps + 1]

    return draw
