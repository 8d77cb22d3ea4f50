# SPDX-License-Identifier: Apache-2.0
"""YAML by the core schema of YAML 1.2: values of scalars, limits, and errors with their place."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml

from testbed.common import core_yaml
from testbed.common.core_yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, YamlError


def data(text: str | bytes) -> Any:
    return core_yaml.parse(text if isinstance(text, bytes) else text.encode()).data


def refusal(text: str | bytes) -> str:
    with pytest.raises(YamlError) as caught:
        data(text)
    place = caught.value.place
    assert "\n" not in caught.value.problem
    return f"{place.line}:{place.column}: {caught.value.problem}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *((text, text) for text in ("yes", "no", "on", "off", "y", "N", "tRUE", "nULL", "None")),
        *((text, text) for text in ("2026-01-02", "2026-01-02 10:00:00", "1:30", "1:30:00", "1_0", "1_0.5")),
        *((text, text) for text in ("0b11", "0o8", "0xg", "+0x1", "0O10", "1e", ".e1", ".", "+", "1.2.3")),
        *((text, text) for text in ("=", "<", "inf", "nan", "+.nan", ".iNF")),
        ("0", 0), ("-0", 0), ("7", 7), ("+7", 7), ("-7", -7), ("010", 10), ("0010", 10), ("09", 9),
        ("0o10", 8), ("0x1F", 31), ("0xff", 255),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)), ("0" * 500 + "1", 1),
        ("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("-1e3", -1000.0), ("1E-2", 0.01), ("+.5e+1", 5.0),
        ('"5"', "5"), ("'true'", "true"), ('""', ""), ("!!str 5", "5"), ('!!int "5"', 5), ("!!float 5", 5.0),
        ("! 5", "5"), ("!!null ''", None), ("|\n  5\n", "5\n"), (">\n  no\n", "no\n"),
    ],
)  # fmt: skip
def test_scalars_resolve_by_the_core_schema(text: str, value: Any) -> None:
    found = data(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((f"a: {x}", f"1:4: a number must be finite (got {x})") for x in (".nan", ".INF", "-1e999")),
        ("a: " + "9" * 5000, f"1:4: a whole number must fit into 64 bits (got {'9' * 60}...)"),
        ("a: 0x8000000000000000", "1:4: a whole number must fit into 64 bits (got 0x8000000000000000)"),
        ("5: a", '1:1: a key must be text: write "5"'),
        ("? ~\n: a", '1:3: a key must be text: write "~"'),
        ("? {a: 1}\n: a", "1:3: a key must be text, not a list or mapping"),
        ("a: 1\n'a': 2", "2:1: duplicate key; first at line 1"),
        ("a: &x 1\nb: &x 2", "2:4: duplicate anchor &x"),
        ("a: *x", "1:4: there is no anchor &x before this alias"),
        ("a: &x [*x]", "1:8: the alias *x is inside its own anchor"),
        ("&x a: *x\nb: &y {c: *y}", "2:11: the alias *y is inside its own anchor"),
        ("b: &b {x: 1}\na:\n  <<: *b", "3:3: merge keys (<<) are not part of YAML 1.2: write the keys out"),
        ("a: !!python/name:os.system x", "1:4: unknown tag !!python/name:os.system; allowed: !!str, !!int, "
         "!!float, !!bool, !!null, !!seq, !!map"),
        ("a: !!int x", "1:4: the tag !!int does not fit this value"),
        ("a: !!set {b}", "1:4: unknown tag !!set; allowed: !!str, !!int, !!float, !!bool, !!null, !!seq, "
         "!!map"),
        ("a: !!seq {b: c}", "1:4: the tag !!seq does not fit this value"),
        ("%YAML 1.1\n---\na: 1", "1:1: %YAML: must be 1.2"),
        ("a: 1\n---\nb: 2", "2:1: a second document; a file must hold one"),
        ("--- a\n...\nb", "3:1: not YAML: text after the document's end"),
        ("\ta: 1", "1:1: not YAML: a tab: YAML indents and separates with spaces"),
        ("a:\n\t- 1", "2:1: not YAML: a tab: YAML indents and separates with spaces"),
        ("a: b: c", "1:5: not YAML: a `:` is not allowed here: text that holds one must be in quotes"),
        ("a: [b", "1:6: not YAML: a `,` or the closing `]` is missing"),
        ("a: {b: c", "1:9: not YAML: a `,` or the closing `}` is missing"),
        ("a: 'b", "1:6: not YAML: the closing quote is missing"),
        ("a: @b", "1:4: not YAML: text that begins with '@' must be in quotes"),
        ("a: 1\n b: 2", "2:3: not YAML: a `:` is not allowed here: text that holds one must be in quotes"),
        ("a: 1\nb", "2:2: not YAML: a `:` after the key is missing"),
        ("a: b\0", "1:5: the character U+0000 is not allowed"),
        ("a: b\r\nc: \x1b[0m", "2:4: the character U+001B is not allowed"),
        ("a: b\u2028c", "1:5: the character U+2028 is not allowed"),
        ('a: "\\0"', "1:4: the character U+0000 is not allowed"),
        ('a: "\\ud800"', "1:4: the character U+D800 is not allowed"),
        (b"a: b\nc: \xc3\xa4\xff", "2:5: byte 0xff: must be text in UTF-8"),
        ("a: b".encode("utf-16"), "1:1: byte 0xff: must be text in UTF-8"),
    ],
)  # fmt: skip
def test_invalid_yaml_is_reported_with_its_place(text: str | bytes, message: str) -> None:
    assert refusal(text) == message


def test_byte_order_mark_line_endings_and_empty_documents_are_valid() -> None:
    assert data(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}
    assert data("%YAML 1.2\n---\na: 1\n...\n") == {"a": 1}
    assert data("") is data("\n# nothing\n") is data("---\n") is None


def test_alias_equals_its_anchor() -> None:
    tree = core_yaml.parse(b"a: &x {b: [1, 2]}\nc: *x\n&k d: 3\ne: {*k : 4}\n")
    assert tree.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": 3, "e": {"d": 4}}
    assert tree.values[("c", "b", 1)] == tree.values[("a", "b", 1)] == (1, 15)


NESTED = f"nested deeper than the {MAX_DEPTH} levels allowed"


def test_size_depth_and_values_are_limited() -> None:
    assert refusal("#" * (MAX_BYTES + 1)) == "1:1: larger than the 64 KiB allowed"
    assert data("#" * MAX_BYTES) is None
    for opening in ("[", "{a: ", "- ", "? ", '{"a":'):
        assert refusal(opening * 3000).endswith(NESTED)
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert data(deep) is not None
    assert refusal(f"[{deep}]") == f"1:{MAX_DEPTH + 1}: {NESTED}"
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH + 1))
    assert refusal(chain) == f"1:5: {NESTED}, aliases expanded"
    too_many = f"more than the {MAX_VALUES} values allowed, aliases expanded"
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    assert refusal(bomb).endswith(too_many)
    assert refusal("[" + "x," * MAX_VALUES + "]").endswith(too_many)
    assert len(data("[" + "x," * (MAX_VALUES - 1) + "]")) == MAX_VALUES - 1


@pytest.mark.parametrize("seed", range(40))
def test_json_is_valid_yaml(seed: int) -> None:
    """JSON is YAML: any nested value is read back, and PyYAML agrees where both versions agree."""
    random_ = random.Random(seed)  # noqa: S311 -- a test

    def value(depth: int) -> Any:
        kind = random_.randrange(7 if depth < 5 else 5)
        if kind == 5:
            return [value(depth + 1) for _ in range(random_.randrange(4))]
        if kind == 6:
            return {f"k{random_.randrange(99)} é": value(depth + 1) for _ in range(random_.randrange(4))}
        scalars = (
            None,
            True,
            random_.randrange(-(2**63), 2**63),
            random_.random(),
            "a: [no] 'x' \"y\" #\n é",
        )
        return scalars[kind]

    wanted = value(0)
    assert data(json.dumps(wanted)) == wanted
    assert data(yaml.safe_dump(wanted, allow_unicode=True)) == wanted


@pytest.mark.parametrize("seed", range(60))
def test_any_text_is_data_or_one_error(seed: int) -> None:
    random_ = random.Random(seed)  # noqa: S311 -- a test
    pieces = [
        "a",
        "b: ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        "\n  ",
        "&x ",
        "*x",
        "!!int ",
        "!y ",
        "<<: ",
        "|",
        ">",
    ]
    pieces += [
        "'",
        '"',
        "#",
        "\t",
        "? ",
        ": ",
        "%",
        "---\n",
        "...\n",
        "\\",
        "0x",
        "1e9",
        "~",
        "\ufeff",
        "\x00",
        "é",
    ]
    for _ in range(40):
        text = "".join(random_.choices(pieces, k=random_.randrange(1, 30))).encode()
        if random_.random() < 0.1:
            text += bytes(random_.randrange(256) for _ in range(5))
        try:
            tree = core_yaml.parse(text)
        except YamlError as e:
            assert e.problem.isprintable(), (text, e.problem)
            assert min(e.place) >= 1
        else:
            json.dumps(tree.data, allow_nan=False)
