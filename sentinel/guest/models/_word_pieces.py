# SPDX-License-Identifier: Apache-2.0
"""BERT's tokenizer for uncased models: words, then word pieces. python2.7 and python3.

After google-research/bert, tokenization.py: control characters are removed, text is in lower case without
accents, punctuation and Chinese characters are words, and the longest piece of the vocabulary comes first.
"""

from __future__ import absolute_import, division, print_function

import unicodedata

_LONGEST_WORD = 100  # characters; longer ones are unknown
_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class Tokenizer(object):
    """Turns text into word pieces. `vocabulary` is the text of vocab.txt: a piece per line."""

    def __init__(self, vocabulary):
        self._numbers = {piece.strip(): i for i, piece in enumerate(vocabulary.rstrip("\n").split("\n"))}
        missing = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if name not in self._numbers]
        if missing:
            raise ValueError("vocab.txt: has no %s" % ", ".join(missing))
        self.pad, self.unknown = self._numbers["[PAD]"], self._numbers["[UNK]"]

    def encode(self, text, longest):
        """Return the numbers of the pieces between [CLS] and [SEP], at most `longest` with these."""
        pieces = [piece for word in words(text) for piece in self.pieces(word)]
        pieces = ["[CLS]"] + pieces[: longest - 2] + ["[SEP]"]
        return [self._numbers[piece] for piece in pieces]

    def pieces(self, word):
        """Return the pieces of a word: each the longest in the vocabulary, `##` before all but the first."""
        if len(word) > _LONGEST_WORD:
            return ["[UNK]"]
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._numbers), None)
            if end is None:
                return ["[UNK]"]
            pieces.append(prefix + word[start:end])
            start = end
        return pieces


def words(text):
    """Return the words and punctuation of a text, in lower case and without accents."""
    spaced = "".join(_clean(character) for character in text)
    result = []
    for word in spaced.split():
        word = unicodedata.normalize("NFD", word.lower())
        word = "".join(c for c in word if unicodedata.category(c) != "Mn")
        result.extend("".join(" %s " % c if _is_punctuation(c) else c for c in word).split())
    return result


def _clean(character):
    """Return a character as the text has it: nothing, a space, itself, or itself between spaces."""
    code, category = ord(character), unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if code in (0, 0xFFFD) or category in ("Cc", "Cf"):
        return ""
    return " %s " % character if any(a <= code <= b for a, b in _CHINESE) else character


def _is_punctuation(character):
    """Return whether BERT takes a character for punctuation: more ASCII characters than Unicode does."""
    code = ord(character)
    ascii_punctuation = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_punctuation or unicodedata.category(character).startswith("P")
