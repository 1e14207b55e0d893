"""The errors that are meant for a person: one clear line each, without a traceback on the command line.

`shown`, `first_line` and `causes` bring values and the errors of other libraries into such a line.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["DataError", "HybridBenchError", "ModelError", "RequestError", "causes", "first_line", "shown"]

_LONGEST_VALUE = 60
_LONGEST_LINE = 300


class HybridBenchError(Exception):
    """Base of all errors that this package raises on purpose. The message names the value and the fix."""


class RequestError(HybridBenchError, ValueError):
    """What was asked for cannot be done: an unknown name, or options that exclude each other. Exit code 2."""


class DataError(HybridBenchError):
    """A data file is missing, changed, or does not hold what its format promises. Exit code 1."""


class ModelError(HybridBenchError):
    """A model could not be loaded, or returned something that cannot be ranked. Exit code 1."""


def shown(value: Any) -> str:
    """A wrong value as JSON has it, cut and without line breaks, so that the message stays one line."""
    text = json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    text = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, as a clause and cut where it is very long; its class if it says nothing."""
    line = next(iter(str(error).strip().splitlines()), "").rstrip(".: ") or type(error).__name__
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."


def causes(error: BaseException) -> list[BaseException]:
    """The error and what caused it, innermost last.

    Some libraries, `requests` among them, hand on other errors as arguments of theirs; `__context__` would lead to
    errors of our caller too.
    """
    found = [error]
    while inner := found[-1].__cause__ or next((arg for arg in found[-1].args if isinstance(arg, BaseException)), None):
        found.append(inner)
    return found
