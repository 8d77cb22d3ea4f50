# SPDX-License-Identifier: Apache-2.0
"""Synthetic data with the statistics of the published data sets. python2.7 and python3, numpy.

Each function takes a numpy RandomState.
"""

from __future__ import absolute_import, division, print_function

import numpy as np

PAD, CLS, SEP, MASK, FIRST_WORD = range(5)  # word pieces of synthetic sentences
_MEAN_TOKENS, _DEVIATION = 11, 4  # of a sentence of CoLA, about


def images(r, batch, side, channels):
    """Return images of zero mean and unit variance."""
    return r.randn(batch, side, side, channels).astype("float32")


def labels(r, batch, classes):
    """Return labels in which every class is equally frequent, in random order."""
    return r.permutation(np.arange(batch) % classes)


def words(r, shape, vocabulary, first=0):
    """Return words by number, from `first` on. Their frequencies follow the Zipf-Mandelbrot law."""
    frequencies = 1.0 / (np.arange(vocabulary - first) + 2.7)
    cumulated = np.cumsum(frequencies) / frequencies.sum()
    ranks = np.searchsorted(cumulated, r.random_sample(shape), side="right")
    return (first + np.minimum(ranks, len(frequencies) - 1)).astype("int32")


def sentences(r, batch, sequence, vocabulary):
    """Return a batch for classification: short sentences, padded to `sequence` tokens."""
    lengths = np.clip(np.rint(r.normal(_MEAN_TOKENS, _DEVIATION, batch)), 3, sequence)[:, np.newaxis]
    position = np.arange(sequence)
    tokens = words(r, [batch, sequence], vocabulary, FIRST_WORD)
    tokens[:, 0] = CLS
    tokens[position == lengths - 1] = SEP
    tokens[position >= lengths] = PAD
    return {
        "tokens": tokens,
        "mask": (position < lengths).astype("int32"),
        "segments": np.zeros([batch, sequence], "int32"),
        "label": labels(r, batch, 2),
    }


def masked_sentences(r, batch, sequence, vocabulary, masked):
    """Return a batch for pre-training: two segments, with `masked` words to predict."""
    tokens = words(r, [batch, sequence], vocabulary, FIRST_WORD)
    middle = sequence // 2
    tokens[:, 0] = CLS
    tokens[:, [middle, -1]] = SEP
    candidates = np.delete(np.arange(1, sequence - 1), middle - 1)
    positions = np.sort([r.permutation(candidates)[:masked] for _ in range(batch)])
    rows = np.arange(batch)[:, np.newaxis]
    targets = tokens[rows, positions]
    # Of the words to predict, 80 % are masked, 10 % replaced and 10 % kept (Devlin et al., section 3.1).
    lot = r.random_sample([batch, masked])
    replaced = np.where(lot < 0.9, words(r, [batch, masked], vocabulary, FIRST_WORD), targets)
    tokens[rows, positions] = np.where(lot < 0.8, MASK, replaced)
    return {
        "tokens": tokens,
        "mask": np.ones([batch, sequence], "int32"),
        "segments": np.tile((np.arange(sequence) > middle).astype("int32"), [batch, 1]),
        "positions": positions.astype("int32"),
        "targets": targets,
        "weights": np.ones([batch, masked], "float32"),
        "label": labels(r, batch, 2),
    }
