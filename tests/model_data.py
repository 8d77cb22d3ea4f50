# SPDX-License-Identifier: Apache-2.0
"""Small files in the formats of the models' data sets."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "un", "##aff", "##able", "!", "a", "eat"]
VOCABULARY = "\n".join(PIECES) + "\n"


def write(folder: Path) -> None:
    """Write a file of every kind."""
    random = np.random.RandomState(7)
    write_cifar10(folder, random.randint(0, 256, [20, 32, 32, 3]), np.arange(20) % 10)
    write_idx(folder / "train-images-idx3-ubyte.gz", random.randint(0, 256, [20, 28, 28]))
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.arange(20) % 10)
    (folder / "ptb.train.txt").write_text(" the cats eat a cat \n a <unk> cat eats \n" * 20)
    (folder / "vocab.txt").write_text(VOCABULARY)
    (folder / "train.tsv").write_text("gj04\t1\t\tThe cats eat!\nks08\t0\t*\tA unaffable the.\n" * 10)


def write_cifar10(folder: Path, images: Any, labels: Any) -> None:
    """Write images (NHWC) in five files."""
    planes = np.asarray(images, np.uint8).transpose(0, 3, 1, 2).reshape(len(images), -1)
    records = np.column_stack([np.asarray(labels, np.uint8), planes])
    for i, part in enumerate(np.array_split(records, 5), 1):
        (folder / f"data_batch_{i}.bin").write_bytes(part.tobytes())


def write_idx(path: Path, values: Any) -> None:
    """Write an array of bytes in MNIST's format; with the suffix `.gz` compressed."""
    values = np.asarray(values, np.uint8)
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as f:
        f.write(header + values.tobytes())
