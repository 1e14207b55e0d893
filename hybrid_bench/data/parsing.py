"""JSON, TOML and YAML from anyone's hand: a value that is safe to use, or a `ValueError` that says what is wrong.

The parsers that Python comes with take the last of two equal keys without a word, read NaN and 1e999 as numbers, and
let some input out as another error (deep nesting, numbers of thousands of digits) or not at all (half a surrogate pair,
which fails when it is written somewhere else). All files that this package did not just write itself are read here.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hybrid_bench.errors import shown

__all__ = ["parse_json", "parse_toml", "parse_yaml", "read_json", "read_text"]

Value = TypeVar("Value")

#: How JSON may write a character of the range from which only pairs are Unicode.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path) -> str:
    """A text file in UTF-8, with a byte order mark or without.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error


def read_json(path: Path, *, nan: bool = False) -> Any:
    """The value in a JSON file; see `parse_json`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8, or as for `parse_json`.
    """
    return parse_json(read_text(path), nan=nan)


def parse_json(text: str, *, nan: bool = False) -> Any:
    """The value that a text is in JSON, as RFC 8259 has it and with every key once in its object.

    Args:
        text: The text.
        nan: Whether NaN and infinities are taken, as Python writes measured values.

    Raises:
        ValueError: If it is no JSON, is nested too deeply, or has a key twice, a number that is none (NaN), is beyond
            the range of doubles or has thousands of digits, or half a surrogate pair.
    """
    value = _guarded((_WITH_NAN if nan else _DECODER).decode, text)
    if _HALF.search(text):
        _check_unicode(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """The table that a text is in TOML, which itself refuses repeated keys.

    Raises:
        ValueError: If it is no TOML, is nested too deeply, or has a number of thousands of digits.
    """
    return _guarded(tomllib.loads, text)


def parse_yaml(text: str) -> Any:
    """The value that a text is in YAML: plain values only, no keys twice, and 3e-5 a number as in YAML 1.2.

    Raises:
        ValueError: If it is no YAML, is nested too deeply, or has a key twice or a number of thousands of digits.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader with these two differences."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            if len({*keys}) < len(keys):
                _refuse_twice(keys)
            return super().construct_mapping(node, deep)

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return _guarded(lambda given: yaml.load(given, Loader), text)  # it is a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _guarded(parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError("a number has thousands of digits") from error
        raise


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        _refuse_twice([key for key, _ in pairs])
    return value


def _refuse_twice(keys: list[str]) -> NoReturn:
    twice = next(key for place, key in enumerate(keys) if key in keys[:place])
    raise ValueError(f"the key {shown(twice)} stands twice in one object")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {shown(text)} is beyond the range of doubles")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
_WITH_NAN = json.JSONDecoder(object_pairs_hook=_object)


def _check_unicode(value: Any, name: str = "") -> None:
    """Refuse half a surrogate pair anywhere in a value; `name` is that of the member it is in."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{name or 'a string'} has half a surrogate pair, {value[error.start]!a}") from error
        case dict():
            for key, each in value.items():
                _check_unicode(key, "a key")
                _check_unicode(each, f"'{key}'")
        case list():
            for each in value:
                _check_unicode(each, name)
