"""Values and other libraries' errors as parts of a message of one line."""

from __future__ import annotations

import json
import shlex
import tomllib
import unicodedata
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from socket import gaierror
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from hybrid_bench.errors import causes, first_line, how_to_install, listed, one_line, reason, shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ({"a": ["b", 1]}, '{"a": ["b", 1]}'),
        ("Türkiye 中文 हिन्दी", '"Türkiye 中文 हिन्दी"'),
        ("a\tb\nc", r'"a\tb\nc"'),
        ("a\u2028b\u202ec\x85", r'"a\u2028b\u202ec\x85"'),
        ("half \ud83d", r'"half \ud83d"'),
        ("x" * 58, f'"{"x" * 58}"'),
        ("x" * 59, f'"{"x" * 59}...'),
        (date(2024, 2, 29), '"2024-02-29"'),
        ({date(2024, 2, 29): 1, "b": 2}, '{"b": 2}'),
    ],
)
def test_a_value_is_shown_as_json_has_it_and_cut(value: Any, expected: str) -> None:
    assert shown(value) == expected


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_is_shown_is_one_line_that_can_be_printed(value: Any) -> None:
    text = shown(value)
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    text.encode()
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) <= 60 and whole.isprintable():
        assert text == whole


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        ([], {}, ""),
        (["a", "b", "c"], {}, "a, b, c"),
        (["a", "b", "c", "d"], {}, "a, b, c and 1 more"),
        (range(1, 1204 + 3), {"most": 2}, "1, 2 and 1,204 more"),
        ((str(number) for number in range(5)), {"between": "; ", "form": repr}, "'0'; '1'; '2' and 2 more"),
        ([("test", "de"), ("test", "en")], {"most": 1, "form": " ".join}, "test de and 1 more"),
    ],
)
def test_the_first_names_are_listed_and_the_rest_is_counted(
    names: Iterable[Any], options: dict[str, Any], expected: str
) -> None:
    assert listed(names, **options) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("first.\nsecond"), "first"),
        (ValueError("\n  first: \r\nsecond"), "first"),
        (ValueError(), "ValueError"),
        (KeyError(), "KeyError"),
        (ValueError(" . "), "ValueError"),
        (FileNotFoundError(2, "No such file", "a.json"), "[Errno 2] No such file: 'a.json'"),
        (ValueError("x" * 300), "x" * 300),
        (ValueError("x" * 301), "x" * 300 + "..."),
    ],
)
def test_the_first_line_of_an_error(error: Exception, expected: str) -> None:
    assert first_line(error) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied", "/data"), "Permission denied"),
        (OSError(13, "Failed to open local file '/data'. Detail: [errno 13] Permission denied"), "Permission denied"),
        (gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("a sentence\nand more"), "a sentence"),
        (requests.ConnectionError("no way"), "no way"),
        (ValueError("first\nsecond"), "first"),
    ],
)
def test_the_reason_is_what_the_system_calls_it(error: Exception, expected: str) -> None:
    assert reason(error) == expected


def test_causes_are_those_that_an_error_names_as_such() -> None:
    inner = OSError("inner")
    middle = requests.ConnectionError(inner)  # which hands on what it wraps as an argument
    outer = RuntimeError("outer")
    outer.__cause__ = middle
    inner.__context__ = ValueError("what was handled meanwhile")
    assert causes(outer) == [outer, middle, inner]
    assert causes(inner) == [inner]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\x00b\ud800c\n d\te", "a\ufffdb\ufffdc d e"),
        ("\x1b[2J\x9b1m\x7f", "\ufffd[2J\ufffd1m\ufffd"),
        ("a\u2028b\r\nc\x85d", "a b c d"),
        ("file\u202egpj.exe \u2066x\u2069 \u200f\u061c", "file\ufffdgpj.exe \ufffdx\ufffd \ufffd\ufffd"),
        ("\u05e9\u05dc\u05d5\u05dd, \u4f60\u597d \u0928\u200d", "\u05e9\u05dc\u05d5\u05dd, \u4f60\u597d \u0928\u200d"),
        ("  plain   text ", "plain text"),
    ],
)
def test_a_line_holds_nothing_that_is_obeyed(text: str, line: str) -> None:
    assert one_line(text) == line
    assert one_line(line) == line


def test_every_character_that_turns_the_direction_is_known() -> None:
    """Unicode's table of characters knows those that embed, override and isolate; its marks have a direction alone."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    found = {chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in turning}
    assert all(one_line(character) == "\ufffd" for character in found | set("\u061c\u200e\u200f"))


def test_causes_of_a_chain_that_leads_back_into_itself() -> None:
    inner, outer = OSError("inner"), RuntimeError("outer")
    outer.__cause__, inner.__cause__ = inner, outer
    assert causes(outer) == [outer, inner]
    alone = ValueError("alone")
    alone.args = (alone,)
    assert causes(alone) == [alone]


ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_what_an_extra_adds_is_named_by_its_packages(extra: str) -> None:
    """pip finds these wherever this package came from; its own name is on no index that is sure to be there."""
    words = shlex.split(how_to_install(extra))
    assert words[:2] == ["pip", "install"]
    assert words[2:] == sorted(EXTRAS[extra])
    assert "hybrid-bench" not in how_to_install(extra)


def test_what_is_installed_from_a_wheel_names_them_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hybrid_bench.errors._PROJECT", tmp_path / "pyproject.toml")
    assert how_to_install("figures") == f"pip install {shlex.join(EXTRAS['figures'])}"
