"""Embeddings on disk: found by what they depend on, kept while they are made, checked whenever they are read.

For each list of texts as one model reads them there are three files, called by one hash::

    <hash>.npy      the embeddings, float32 (texts, dimension), as numpy saves them
    <hash>.json     the checksums of the blocks of rows that are whole: a block that has none was never finished
    <hash>.partial  while a block is filled, what there is of it

A file's space is taken before the first row is written, so that a full disk is met at once and by an error of the
operating system, and rows are written as files are, not through a memory map, where a full disk is a signal that kills.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from hybrid_bench.data.files import atomic
from hybrid_bench.data.hashing import sha256_of_json
from hybrid_bench.errors import DataError, reason

__all__ = ["EmbeddingCache"]

Matrix = NDArray[np.float32]
#: Encodes texts; yields batches, each as the places of its texts among those given, and their embeddings.
Encode = Callable[[Sequence[Any]], Iterator[tuple[NDArray[np.int64], Matrix]]]

logger = logging.getLogger(__name__)

#: Of a block that is not whole, what there is of it is saved this often. A batch that takes longer is saved after it.
_SECONDS_BETWEEN_SAVES = 5.0


@dataclass
class EmbeddingCache:
    """Embeddings on disk, memory-mapped, one file for each list of texts as one model reads them.

    A file is found by a hash over the model's name, revision and options, the role and all that decides the prompt, the
    dtype, and every text; nothing is ever looked up by position or file date. Blocks of rows have checksums, which are
    compared whenever a file is opened; a block that is not what it was is encoded again.

    Attributes:
        folder: Where the files are.
        kept: How many embeddings were encoded and saved by this object.
    """

    folder: Path
    kept: int = field(default=0, compare=False)

    def get(self, identity: Mapping[str, Any], texts: Sequence[Any], encode: Encode, block_rows: int = 2048) -> Matrix:
        """The embeddings of `texts`, from the file as far as it has them.

        Args:
            identity: What the embeddings depend on besides the texts; must be JSON.
            texts: The texts, in order.
            encode: Yields the embeddings of the texts it is given, batch by batch, in an order that depends on the
                texts alone: then an interrupted encoding is continued with the very batches it would have had.
            block_rows: Rows that have a checksum together, and that are given to `encode` at once.

        Returns:
            Read-only memory map, float32 (texts, dimension).

        Raises:
            DataError: If the folder cannot be read or written, or the disk is full.
        """
        digest = sha256_of_json([identity, texts])
        path = self.folder / digest[:2] / f"{digest}.npy"
        lock = FileLock(f"{path}.lock")
        with self._files():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            file = _File(path, len(texts), block_rows)
            with self._files():
                file.open()
            for block in file.missing():
                self._fill(file, block, texts, encode)
            with self._files():
                return file.rows()
        finally:
            lock.release()

    def _fill(self, file: _File, block: int, texts: Sequence[Any], encode: Encode) -> None:
        """Encode one block, or what is missing of it."""
        start, stop = file.span(block)
        with self._files():
            vectors, done = file.read_partial(block)
        saved, unsaved = time.monotonic(), 0
        missing = np.flatnonzero(~done)
        batches = encode([texts[row] for row in (start + missing).tolist()]) if len(missing) else iter(())
        try:
            for places, batch in batches:
                if vectors is None:
                    vectors = np.zeros((stop - start, batch.shape[1]), dtype=np.float32)
                    with self._files():
                        file.allocate(batch.shape[1])
                vectors[missing[places]] = batch
                done[missing[places]] = True
                unsaved += len(places)
                if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES and not done.all():
                    with self._files():
                        file.write_partial(block, vectors, done)
                    self.kept += unsaved
                    saved, unsaved = time.monotonic(), 0
        except BaseException as error:
            # Whatever stopped it, an interrupt or the model: what is there was paid for. A full disk keeps what it has.
            if vectors is not None and unsaved and not isinstance(error, DataError):
                with suppress(OSError):
                    file.write_partial(block, vectors, done)
                    self.kept += unsaved
            raise
        assert vectors is not None
        with self._files():
            file.write_block(block, vectors)
        self.kept += unsaved

    @contextmanager
    def _files(self) -> Iterator[None]:
        """Errors of the cache's own files, told as such; what the model raises is not among them."""
        try:
            yield
        except OSError as error:
            raise DataError(
                f"cannot use the embedding cache {self.folder} ({reason(error)}); choose another folder with "
                "--embedding-cache, or leave it out"
            ) from error


class _File:
    """One file of the cache, with its checksums and what there is of a block that is not whole."""

    def __init__(self, path: Path, n_rows: int, block_rows: int) -> None:
        self.path, self.index, self.partial = path, path.with_suffix(".json"), path.with_suffix(".partial")
        self.n_rows, self.block_rows = n_rows, block_rows
        self.dimension: int | None = None
        self.sums: dict[int, str] = {}

    def open(self) -> None:
        """Read the checksums, and drop those of blocks that are not what they were."""
        try:
            index = json.loads(self.index.read_bytes())
            block_rows, dimension = int(index["block_rows"]), int(index["dimension"])
            sums = {int(block): str(digest) for block, digest in index["sums"].items()}
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            logger.warning("%s is damaged: its embeddings are encoded again", self.index)
            return
        if block_rows < 1 or dimension < 1 or not self.path.is_file():
            return
        self.block_rows, self.dimension = block_rows, dimension
        whole = self.path.stat().st_size == len(self._header()) + 4 * self.n_rows * dimension
        with self.path.open("rb") as file:
            if not whole or file.read(len(self._header())) != self._header():
                logger.warning("%s is damaged: its embeddings are encoded again", self.path)
                self.dimension = None
                return
            for block in range(self._n_blocks):
                start, stop = self.span(block)
                data = file.read(4 * dimension * (stop - start))
                if block in sums and hashlib.sha256(data).hexdigest() == sums[block]:
                    self.sums[block] = sums[block]
        if damaged := len(sums) - len(self.sums):
            logger.warning("%s is damaged in %d of %d places: these are encoded again", self.path, damaged, len(sums))

    def missing(self) -> list[int]:
        """The blocks that are not there."""
        return [block for block in range(self._n_blocks) if block not in self.sums]

    def span(self, block: int) -> tuple[int, int]:
        """First row of a block, and the row after its last."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.n_rows)

    def allocate(self, dimension: int) -> None:
        """Make the file in its full size, unless it is there; a disk that has no room for it is met here."""
        if self.dimension == dimension:
            return
        self.dimension = dimension
        self.sums.clear()
        self.index.unlink(missing_ok=True)
        size = len(self._header()) + 4 * self.n_rows * dimension
        with self.path.open("wb") as file:
            try:
                file.write(self._header())
                file.flush()
                _take_space(file.fileno(), len(self._header()), size)
            except OSError:
                file.truncate(0)  # or the room that was taken in vain would be missing elsewhere
                raise

    def read_partial(self, block: int) -> tuple[Matrix | None, NDArray[np.bool_]]:
        """What there is of a block, and which of its rows; numpy's archives have checksums of their own."""
        start, stop = self.span(block)
        nothing = None, np.zeros(stop - start, dtype=bool)
        try:
            with self.partial.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                shape = [int(number) for number in saved["of"]]
                vectors, done = saved["vectors"], saved["done"]
        except FileNotFoundError:
            return nothing
        except OSError:
            raise
        except Exception:  # a damaged archive raises what it likes; what cannot be read is encoded again
            return nothing
        dimension = vectors.shape[1] if vectors.ndim == 2 else 0
        if shape != [block, self.block_rows, self.n_rows] or self.dimension not in (None, dimension):
            return nothing
        if vectors.shape[0] != done.sum() or done.shape != (stop - start,) or vectors.dtype != np.float32:
            return nothing
        self.allocate(dimension)
        filled = np.zeros((stop - start, dimension), dtype=np.float32)
        filled[done] = vectors
        return filled, done

    def write_partial(self, block: int, vectors: Matrix, done: NDArray[np.bool_]) -> None:
        """Save what there is of a block."""
        of = np.array([block, self.block_rows, self.n_rows])
        with atomic(self.partial) as beside, beside.open("wb") as file:
            np.savez(file, of=of, vectors=vectors[done], done=done)

    def write_block(self, block: int, vectors: Matrix) -> None:
        """Write a whole block, then vouch for it by its checksum."""
        data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        start, _ = self.span(block)
        assert self.dimension is not None
        with self.path.open("r+b") as file:
            file.seek(len(self._header()) + 4 * self.dimension * start)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.sums[block] = hashlib.sha256(data).hexdigest()
        index = {"block_rows": self.block_rows, "dimension": self.dimension, "sums": self.sums}
        with atomic(self.index) as beside:
            beside.write_text(json.dumps(index), encoding="utf-8")
        self.partial.unlink(missing_ok=True)

    def rows(self) -> Matrix:
        """The whole file."""
        rows: Matrix = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return rows

    @property
    def _n_blocks(self) -> int:
        return -(-self.n_rows // self.block_rows)

    def _header(self) -> bytes:
        """What numpy writes before the numbers."""
        from io import BytesIO

        out = BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (self.n_rows, self.dimension)}
        np.lib.format.write_array_header_1_0(out, shape)
        return out.getvalue()


def _take_space(descriptor: int, start: int, stop: int) -> None:
    """Reserve a range of a file; where the system cannot, write zeros."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, max(1, stop - start))
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    zeros = bytes(1 << 20)
    os.lseek(descriptor, start, os.SEEK_SET)
    while start < stop:
        start += os.write(descriptor, zeros[: min(len(zeros), stop - start)])
