"""The errors that are meant for a person: one clear line each, without a traceback on the command line.

`shown`, `listed`, `first_line`, `reason` and `causes` bring values, names and the errors of other libraries into such a
line, `of_system` and `how_to_install` what is not there; `one_line` is what every text passes on its way out, to a
terminal or into a table.
"""

from __future__ import annotations

import errno
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from importlib.metadata import requires
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = [
    "DataError",
    "HybridBenchError",
    "ModelError",
    "RequestError",
    "causes",
    "first_line",
    "how_to_install",
    "listed",
    "of_system",
    "one_line",
    "reason",
    "shown",
]

#: What stands beside the package in a checkout.
_PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_LONGEST_VALUE = 60
_LONGEST_LINE = 300
#: Unicode's Bidi_Control: what turns the order of the text around it, so that it reads as something else.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


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


def listed(names: Iterable[Any], most: int = 3, between: str = ", ", form: Callable[[Any], str] = str) -> str:
    """The first few names, and how many more there are: ``a, b, c and 1,204 more``.

    Args:
        names: What is named, in this order.
        most: So many are named, the rest is counted.
        between: What stands between two names.
        form: How a name is written.
    """
    rest = iter(names)
    named = between.join(map(form, islice(rest, most)))
    more = sum(1 for _ in rest)
    return f"{named} and {more:,} more" if more else named


def first_line(error: BaseException) -> str:
    """The first line of what an error says, as a clause and cut where it is very long; its class if it says nothing."""
    line = next(iter(str(error).strip().splitlines()), "").rstrip(".: ") or type(error).__name__
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."


def reason(error: BaseException) -> str:
    """Why something failed: what the system calls it, without number and path; else what the error says first."""
    if not isinstance(error, OSError):
        return first_line(error)
    # Libraries put sentences with the path into `strerror`; what looks up names has numbers of its own.
    number = error.errno or 0
    return os.strerror(number) if number in errno.errorcode else error.strerror or first_line(error)


def how_to_install(extra: str) -> str:
    """The command that installs what an extra of this package adds, however the package itself came here.

    It names the packages: by the extra's name, pip would look for this package on an index, where a checkout or a wheel
    did not come from.
    """
    import shlex
    import tomllib

    if _PROJECT.is_file():  # a checkout: what its installation knows may be older
        wanted = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"][extra]
    else:
        named = [each.partition(";") for each in requires("hybrid-bench") or ()]
        wanted = [what.strip() for what, _, when in named if re.search(rf"extra == ['\"]{extra}['\"]", when)]
    return f"pip install {shlex.join(sorted(wanted))}"


def of_system(error: OSError) -> str:
    """What the system says that it cannot do, and with what: ``cannot use /data: Permission denied``."""
    what = "the output" if error.filename is None else str(error.filename)
    return f"cannot use {what}: {reason(error)}"


def causes(error: BaseException) -> list[BaseException]:
    """The error and what caused it, innermost last.

    Some libraries, `requests` among them, hand on other errors as arguments of theirs; `__context__` would lead to
    errors of our caller too.
    """
    found = [error]
    while inner := found[-1].__cause__ or next((arg for arg in found[-1].args if isinstance(arg, BaseException)), None):
        if any(inner is each for each in found):  # a chain may lead back into itself
            break
        found.append(inner)
    return found


def one_line(text: str) -> str:
    """Text on one line, without what a terminal, an editor or a reader of files would obey instead of showing it.

    White space becomes a space. Control characters, halves of surrogate pairs, which no encoding takes, and the marks
    that turn the direction of writing become U+FFFD; words that run from right to left by themselves stay as they are.
    """
    text = " ".join(text.split())
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        "\ufffd" if character in _BIDI or unicodedata.category(character) in {"Cc", "Cs"} else character
        for character in text
    )
