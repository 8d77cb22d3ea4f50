# SPDX-License-Identifier: Apache-2.0
"""Readers of the models' data sets, on small files in the published formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes import guest
from tests.model_data import PIECES, VOCABULARY, write_cifar10, write_idx

_datasets = guest.load("guest.models._datasets")
_word_pieces = guest.also("guest.models._word_pieces")


@pytest.fixture
def random() -> np.random.RandomState:
    return np.random.RandomState(7)


def test_cifar10_is_read_by_channel_and_normalised(tmp_path: Path, random: np.random.RandomState) -> None:
    images = random.randint(0, 256, [10, 32, 32, 3])
    write_cifar10(tmp_path, images, range(10))
    data = _datasets.cifar10(str(tmp_path))
    assert data["labels"].tolist() == list(range(10))
    assert data["images"].dtype == np.float32
    assert data["images"].mean(axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert data["images"].std(axis=(0, 1, 2)) == pytest.approx([1, 1, 1], abs=1e-5)
    for channel in range(3):
        correlation = np.corrcoef(data["images"][..., channel].ravel(), images[..., channel].ravel())[0, 1]
        assert correlation == pytest.approx(1)


def test_cifar10_with_a_wrong_size_or_label_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, np.zeros([5, 32, 32, 3]), [0, 1, 2, 3, 10])
    with pytest.raises(ValueError, match="has the label 10; must be 0 to 9"):
        _datasets.cifar10(str(tmp_path))
    with (tmp_path / "data_batch_3.bin").open("ab") as f:
        f.write(b"x")
    with pytest.raises(ValueError, match=r"data_batch_3\.bin: must consist of records of 3073 bytes"):
        _datasets.cifar10(str(tmp_path))
    (tmp_path / "data_batch_1.bin").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_1"):
        _datasets.cifar10(str(tmp_path))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_read_from_idx_files(tmp_path: Path, random: np.random.RandomState, suffix: str) -> None:
    images = random.randint(0, 256, [4, 28, 28])
    images[0, :2, 0] = (0, 255)
    write_idx(tmp_path / f"train-images-idx3-ubyte{suffix}", images)
    write_idx(tmp_path / f"train-labels-idx1-ubyte{suffix}", [3, 1, 4, 1])
    data = _datasets.mnist(str(tmp_path))
    assert data["labels"].tolist() == [3, 1, 4, 1]
    assert data["images"].shape == (4, 28, 28, 1)
    assert data["images"][0, :2, 0, 0].tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an idx file of bytes"),
        (b"\0\0\x0d\x01\0\0\0\0", "must be an idx file of bytes"),
        (b"\0\0\x08\x03\0\0", "its size does not agree with its header"),
        (b"\0\0\x08\x01\0\0\0\x02x", "its size does not agree with its header"),
        (b"\0\0\x08\x01\0\0\0\x02xx", "must have an image of 28x28 pixels for each label"),
    ],
)
def test_mnist_in_another_format_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    write_idx(tmp_path / "train-labels-idx1-ubyte", [1, 2])
    with pytest.raises(ValueError, match=message):
        _datasets.mnist(str(tmp_path))


def test_ptb_numbers_words_by_frequency(tmp_path: Path) -> None:
    (tmp_path / "ptb.train.txt").write_text(" a b a <unk> a\n c b <unk> d <unk> a \n")
    # a: 4, <unk>: 3, <eos>: 2, b: 2, c: 1, d: 1
    assert _datasets.ptb(str(tmp_path), 10).tolist() == [0, 3, 0, 1, 0, 2, 4, 3, 1, 5, 1, 0, 2]
    assert _datasets.ptb(str(tmp_path), 4).tolist() == [0, 3, 0, 1, 0, 2, 1, 3, 1, 1, 1, 0, 2]


def test_a_text_continues_from_call_to_call(random: np.random.RandomState) -> None:
    draw = _datasets.texts(np.arange(21), 2, 3)
    calls = [draw(random).tolist() for _ in range(4)]
    assert calls[0] == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert calls[1] == [[3, 4, 5, 6], [13, 14, 15, 16]]
    assert calls[2] == [[6, 7, 8, 9], [16, 17, 18, 19]]
    assert calls[3] == calls[0]
    assert draw(random).tolist() == calls[1]
    assert draw(np.random.RandomState(7)).tolist() == calls[0]
    with pytest.raises(ValueError, match="the text has 21 words; a batch takes 22"):
        _datasets.texts(np.arange(21), 2, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cats", ["the", "cats"]),
        ("Se\u00f1or!", ["senor", "!"]),
        ("don't  $5\t\n", ["don", "'", "t", "$", "5"]),
        ("a\u200bb\u0000c\ufffd", ["abc"]),
        ("\u4e2d\u6587x", ["\u4e2d", "\u6587", "x"]),
        ("\u2014", ["\u2014"]),
        ("", []),
    ],
)
def test_text_is_split_into_words_as_bert_does(text: str, words: list[str]) -> None:
    assert _word_pieces.words(text) == words


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("cats", ["cat", "##s"]),
        ("unaffable", ["un", "##aff", "##able"]),
        ("unaffabley", ["[UNK]"]),
        ("dog", ["[UNK]"]),
        ("cat" + "s" * 98, ["[UNK]"]),
    ],
)
def test_words_consist_of_the_longest_pieces(word: str, pieces: list[str]) -> None:
    assert _word_pieces.Tokenizer(VOCABULARY).pieces(word) == pieces


def test_a_vocabulary_without_special_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocab\.txt: has no \[PAD\], \[SEP\]"):
        _word_pieces.Tokenizer("[UNK]\n[CLS]\n")


def test_cola_is_padded_and_cut(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(VOCABULARY)
    (tmp_path / "train.tsv").write_text("gj04\t1\t\tThe cats eat!\nks08\t0\t*\tthe the the the the the\n")
    batch = _datasets.cola(str(tmp_path), 7, len(PIECES))
    assert batch["tokens"].tolist() == [[2, 4, 5, 6, 12, 10, 3], [2, 4, 4, 4, 4, 4, 3]]
    assert batch["label"].tolist() == [1, 0]
    assert batch["mask"].sum(axis=1).tolist() == [7, 7]
    longer = _datasets.cola(str(tmp_path), 9, 11)
    assert longer["tokens"].tolist() == [[2, 4, 5, 6, 1, 10, 3, 0, 0], [2, 4, 4, 4, 4, 4, 4, 3, 0]]
    assert longer["mask"].sum(axis=1).tolist() == [7, 8]
    assert {str(value.dtype) for value in longer.values()} == {"int32"}


@pytest.mark.parametrize("line", ["gj04\t1\tThe cats eat.", "gj04\tyes\t\tThe cats eat.", ""])
def test_cola_in_another_format_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "vocab.txt").write_text(VOCABULARY)
    (tmp_path / "train.tsv").write_text(f"gj04\t1\t\tThe cats eat.\n{line}\ngj04\t1\t\tYes.\n")
    with pytest.raises(
        ValueError, match=r"train\.tsv:2: must be source, label \(0 or 1\), mark and sentence"
    ):
        _datasets.cola(str(tmp_path), 7, 100)


def test_a_batch_is_drawn_without_repetition(random: np.random.RandomState) -> None:
    data = {"a": np.arange(8), "b": np.arange(8) * 10}
    drawn = _datasets.draws(data, 5)(random)
    assert len(set(drawn["a"].tolist())) == 5
    assert (drawn["b"] == drawn["a"] * 10).all()
    with pytest.raises(ValueError, match="the data has 8 examples, fewer than a batch of 9"):
        _datasets.draws(data, 9)


def test_images_are_shifted_and_mirrored(random: np.random.RandomState) -> None:
    images = np.zeros([200, 32, 32, 3], np.float32)
    images[:, 16, 16] = 1
    changed = _datasets.shifted_and_flipped(random, {"images": images, "labels": 3})
    assert changed["labels"] == 3
    assert changed["images"].shape == images.shape
    row, column = np.nonzero(changed["images"][..., 0])[1:]
    assert len(row) == 200
    assert (row.min(), row.max()) == (12, 20)
    assert (column.min(), column.max()) == (11, 20)  # 31 - 20 if mirrored
    assert images[:, 16, 16].all()
