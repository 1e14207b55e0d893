"""Hashes: sha256 of files, texts and values, by which data are known again, and splitmix64, which mixes numbers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.errors import DataError, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# numpy is imported by the one function that needs it: the command line answers `--help` without.

__all__ = [
    "remember",
    "sha256_of",
    "sha256_of_json",
    "sha256_of_lines",
    "sha256_of_state",
    "sha256_of_text",
    "sha256_once",
    "splitmix64",
]

# path, size and mtime_ns of files that this process has read -> sha256
_hashes: dict[tuple[Path, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, 64 lower-case hex digits; read in blocks, so of any size.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """`sha256_of`, read again only when the file's size or time has changed; for large files that are not ours.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return sha256_of_state(path, path.stat())
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error


def sha256_of_state(path: Path, status: os.stat_result) -> str:
    """The file's sha256, from memory where this process has read it in this very state.

    Args:
        path: The file.
        status: Its status, taken before: a change after that has another one.

    Raises:
        OSError: If the file cannot be read.
    """
    key = (path.absolute(), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256_of(path)
    return _hashes[key]


def remember(path: Path, sha256: str) -> None:
    """Keep the sha256 of a file that was hashed while it was written, so that nobody reads it again for that."""
    status = path.stat()
    _hashes[path.absolute(), status.st_size, status.st_mtime_ns] = sha256


def sha256_of_text(text: str) -> str:
    """The sha256 of a string's UTF-8 bytes, 64 lower-case hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_lines(parts: Iterable[str]) -> str:
    """The sha256 of several strings, each on a line of its own."""
    return sha256_of_text("\n".join(parts))


def sha256_of_json(value: Any) -> str:
    """The sha256 of a value as JSON; equal values give equal hashes, whatever the order of an object's keys."""
    return sha256_of_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


def splitmix64(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each number, plus the golden gamma, mixed: one step of splitmix64 from that state.

    Source: Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195, with the constants of Vigna's splitmix64.c.

    Args:
        numbers: Of any shape.

    Returns:
        The same shape; different numbers give different ones, whose bits look random.
    """
    import numpy as np

    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
