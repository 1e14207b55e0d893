"""What was parsed from files, in the cache: Arrow files, memory-mapped, one for each state of the files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybrid_bench.data.files import atomic, cache_dir, json_objects
from hybrid_bench.data.hashing import sha256_of_lines, sha256_once
from hybrid_bench.errors import DataError, first_line

__all__ = ["BATCH", "arrow_strings", "arrow_table", "batched", "building", "cache_path", "file_identity", "of_rows"]

#: Changes when the same files give other Arrow files.
_FORMAT = "1"
BATCH = 10_000  # rows that are turned into Arrow at once
_WHOLE_BYTES = 1 << 28  # up to this size a file is known by its content, not by its size, time and ends


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Items in lists of this many; the last may have fewer."""
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


def arrow_strings(column: Sequence[str | None], where: str) -> pa.Array:
    """Strings as Arrow, which takes no lone surrogate, as JSON may have one."""
    try:
        return pa.array(column, pa.string())
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise DataError(f"at or after {where}: a text that is not Unicode ({first_line(error)})") from error


def of_rows(
    schema: pa.Schema, path: Path, row: Callable[[int, Mapping[str, Any]], Sequence[Any]]
) -> Iterator[pa.RecordBatch]:
    """The rows that are made of each line of a JSON lines file, given its number and object."""
    for piece in batched((row(number, value) for number, value in json_objects(path)), BATCH):
        columns = zip(*piece, strict=True)
        yield pa.record_batch(
            [pa.array(list(column), kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema
        )


def file_identity(path: Path) -> str:
    """What stands for a file: its content where that is quickly read, else its place, size, time and two ends."""
    status = path.stat()
    if status.st_size <= _WHOLE_BYTES:
        return sha256_once(path)
    with path.open("rb") as file:
        ends = file.read(1 << 20)
        file.seek(-(1 << 20), 2)
        ends += file.read()
    about = [str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), hashlib.sha256(ends).hexdigest()]
    return sha256_of_lines(about)


def cache_path(key: Sequence[str], ending: str) -> Path:
    """Where something lies in the cache whose content `key` stands for."""
    return cache_dir() / "training" / f"{sha256_of_lines([_FORMAT, *key])[:32]}{ending}"


@contextmanager
def building(path: Path) -> Iterator[None]:
    """Write something in the cache, one process at a time: those of a training all come here at once."""
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f"{path.name}.lock")):
            yield
    except OSError as error:
        raise DataError(
            f"cannot write in the cache folder {path.parent}: {first_line(error)}; set HYBRID_BENCH_CACHE to a folder"
            " that can be written"
        ) from error


def arrow_table(key: Sequence[str], parsed: Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]]) -> pa.Table:
    """A table in the cache, memory-mapped; written if it is not there.

    Args:
        key: What stands for its content.
        parsed: Gives its schema and its rows, if they are needed.
    """
    path = cache_path(key, ".arrow")
    if not path.is_file():
        with building(path):
            if not path.is_file():
                schema, batches = parsed()
                with (
                    atomic(path) as beside,
                    pa.OSFile(str(beside), "wb") as sink,
                    pa.ipc.new_file(sink, schema) as writer,
                ):
                    for batch in batches:
                        writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
