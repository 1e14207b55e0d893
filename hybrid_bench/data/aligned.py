"""Text files in which line n is the same sentence in every language, such as NTREX-128's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hybrid_bench.data.files import lines
from hybrid_bench.errors import DataError, first_line
from hybrid_bench.languages import LANGUAGES

__all__ = ["aligned_lines", "ntrex_files"]


def ntrex_files(folder: Path) -> dict[str, Path]:
    """NTREX-128's file of each language that a folder has, by our code; empty if it has none."""
    found: dict[str, Path] = {}
    for code, language in LANGUAGES.items():
        three = language.tag.partition("-")[0]
        names = [f"newstest2019-src.{three}.txt", f"newstest2019-ref.{three}.txt"]
        # Where the code of a language has none, that of a variety: zho-CN before zho-TW.
        names += sorted(path.name for path in folder.glob(f"newstest2019-ref.{three}-*.txt"))
        if there := [folder / name for name in names if (folder / name).is_file()]:
            found[code] = there[0]
    return found


def aligned_lines(name: str, paths: Iterable[Path]) -> Iterator[tuple[Path, list[str | None]]]:
    """Each file and its lines, None for a blank one, file by file.

    Args:
        name: What the files are called in an error.
        paths: The files; at least one.

    Raises:
        DataError: If one cannot be read, or they have unequal numbers of lines.
    """
    counts = {path: _count_lines(path) for path in paths}
    (first, count), *others = counts.items()
    for path, other in others:
        if other != count:
            raise DataError(f"{name}: {first} has {count:,} lines but {path} {other:,}: they are not aligned")
    for path in counts:
        yield path, _by_line(path, count)


def _count_lines(path: Path) -> int:
    """Lines of a file, blank ones among them, but none behind the last line feed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error
    return content.count(b"\n") + bool(content and not content.endswith(b"\n"))


def _by_line(path: Path, count: int) -> list[str | None]:
    """The lines of a file; None for a blank one."""
    found: list[str | None] = [None] * count
    for number, line in lines(path):
        found[number - 1] = line.rstrip("\r\n")
    return found
