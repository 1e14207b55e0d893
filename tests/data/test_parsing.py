from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hybrid_bench.data.parsing import parse_json, parse_toml, parse_yaml, read_json

DIGITS = "1" * 5_000
DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', 'the key "a" stands twice in one object'),
        ('[{"a": {"b": 1, "b": 2}}]', 'the key "b" stands twice'),
        (DIGITS, "a number has thousands of digits"),
        (f'{{"a": -{DIGITS}}}', "a number has thousands of digits"),
        (DEEP, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("NaN", "NaN is no number in JSON"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "beyond the range of doubles"),
        ('{"text": "a\\ud83d"}', "'text' has half a surrogate pair, '\\ud83d'"),
        ('{"a": [{"b": "\\uDC00"}]}', "'b' has half"),
        ('["\\ud83d"]', "a string has half"),
        ('{"\\ud83d": 1}', "a key has half"),
        ("\ufeff{}", "Expecting value"),
        ("\0", "Expecting value"),
        ('{"a": "\0"}', "Invalid control character"),
        ('{"a": 1', "Expecting"),
        ("{} {}", "Extra data"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ['{"a": {"a": [1, 2.5, null, true, "\\ud83d\\ude00 \\u0000"]}, "b": {"a": -1e300}}', "7", '"x"', "[]"]
)
def test_json_that_is_right_reads_as_python_reads_it(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_measured_values_may_be_nan() -> None:
    assert parse_json(json.dumps([float("inf"), -0.5]), nan=True) == [float("inf"), -0.5]
    with pytest.raises(ValueError, match="twice"):
        parse_json('{"a": NaN, "a": NaN}', nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\na = 2\n", "Cannot overwrite a value"),
        (f"a = {DIGITS}", "a number has thousands of digits"),
        (f"a = {DEEP}", "nested too deeply"),
        ("a = '\0'", "character"),
    ],
)
def test_toml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_toml(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 1\n", 'the key "a" stands twice in one object'),
        ("a:\n- b: {c: 1, c: 2}\n", 'the key "c" stands twice'),
        (f"a: {DIGITS}", "a number has thousands of digits"),
        ("[" * 5_000, "nested too deeply"),
        ("a: '\0'", "special characters are not allowed"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: [", "while parsing"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_yaml_has_the_numbers_of_toml_and_merged_keys() -> None:
    expected: dict[str, Any] = {"a": {"x": 3e-5, "y": 1}, "b": {"x": 3e-5, "y": 2}}
    assert parse_yaml("a: &a {x: 3e-5, y: 1}\nb:\n  <<: *a\n  y: 2\n") == expected


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(path) == {}
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="not UTF-8"):
        read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")
