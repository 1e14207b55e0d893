"""Exact ranks of relevant passages, by counting, without a top-k cut.

For a query, a pool and a relevant passage d with score s(d):

    rank(d) = 1 + #{x in pool, x != d : s(x) > s(d)} + #{x in pool, x != d : s(x) = s(d) and id(x) > id(d)}

with ids compared as UTF-8 bytes. This is trec_eval's order (score descending, then document id descending), so it
gives the same numbers as pytrec_eval. Counts add up over disjoint sets of passages: the counts per language give the
ranks in the pool of one language, of several, and of all, from one product.

How it is done: scores come in blocks of one fixed shape, whatever the number of queries or passages, because the last
bits of a floating-point product depend on the shape. The passage under consideration is left out by its place, and its
score is read from the very block that is counted. Within a block the scores of each language are sorted, which lets
one binary search count all passages above a score; on CPUs where numpy sorts with vector instructions this is several
times faster than comparing each relevant score with the whole row. Rows in which scores tie are counted again on
64-bit keys that carry the id behind the score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.errors import ModelError

__all__ = [
    "BLOCK_COLUMNS",
    "BLOCK_ROWS",
    "PIECE_COLUMNS",
    "PieceCounter",
    "RankCounts",
    "ScoreBlocks",
    "Targets",
    "count_above",
    "top_columns",
]

#: Shape of a block of scores. 256 x 4,096 float32 are 4 MB: large enough for a fast product, and it fits the cache.
BLOCK_ROWS = 256
BLOCK_COLUMNS = 4096
#: So many columns are kept at once; a larger pool is streamed in pieces of this size.
PIECE_COLUMNS = 16 * BLOCK_COLUMNS
#: Scores that one task of the thread pool handles: few enough to stay in the cache, enough to be worth a task.
_TILE_SCORES = 32 * 13_000

ScoreMatrix = NDArray[np.float32]
Keys = NDArray[np.int64]


class ScoreBlocks(Protocol):
    """Scores of every passage for every query, computed block by block on demand, from several threads."""

    def __call__(self, rows: slice, columns: slice) -> ScoreMatrix:
        """Scores, float32, of the queries `rows` (at most `BLOCK_ROWS`) for the passages `columns`.

        `columns` starts at a multiple of the block width and spans at most `PIECE_COLUMNS`.
        """


@dataclass(frozen=True)
class Targets:
    """The passages whose ranks are wanted, as parallel columns sorted by row.

    Attributes:
        row: int32, position of the query.
        column: int64, position of the relevant passage in the pool.
    """

    row: NDArray[np.int32]
    column: NDArray[np.int64]

    @classmethod
    def sort(cls, row: NDArray[np.int64], column: NDArray[np.int64]) -> tuple[Targets, NDArray[np.int64]]:
        """Targets in any order, sorted by row; with them, int64, the order that sorts them."""
        order = np.argsort(row, kind="stable")
        return cls(row[order].astype(np.int32), column[order]), order

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class RankCounts:
    """What `count_above` returns.

    Attributes:
        above: int32 (targets, segments): passages of each segment that come before the target. The target's rank in a
            pool made of some segments is 1 plus the sum over these segments, provided the target is in one of them.
        top: int8 (queries, k): segment of the first k passages of the pool of `top_of`, best first.
    """

    above: NDArray[np.int32]
    top: NDArray[np.int8]

    def unsorted(self, order: NDArray[np.int64]) -> RankCounts:
        """The same for the targets as they stood before `Targets.sort`, which gave this order."""
        above = np.empty_like(self.above)
        above[order] = self.above
        return RankCounts(above, self.top)


def count_above(
    scores: ScoreBlocks,
    n_queries: int,
    targets: Targets,
    segments: Sequence[int],
    id_ranks: NDArray[np.int32],
    *,
    top_of: Sequence[int] | None = None,
    top_k: int = 100,
    block_rows: int = BLOCK_ROWS,
    piece_columns: int = PIECE_COLUMNS,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> RankCounts:
    """Count, for every target and segment, the passages that rank before the target.

    Args:
        scores: Gives any block of the (queries x passages) score matrix.
        n_queries: Number of rows of the matrix.
        targets: The relevant passages, sorted by row.
        segments: Ends of the segments: segment i holds columns ``[segments[i - 1], segments[i])``. One segment is one
            language of the pool.
        id_ranks: int32 (passages,), distinct numbers that order the passages as their ids do; at equal score the
            higher comes first.
        top_of: The segments whose best passages are listed in `RankCounts.top`; None for all.
        top_k: Length of that list; shorter if these segments hold fewer passages.
        block_rows: Queries scored at once.
        piece_columns: Passages scored at once; a multiple of the width of the score blocks.
        threads: Threads for counting; None for all that the process may use. Does not change the result.
        progress: Called with the number of queries done after each block.

    Returns:
        The counts, and the languages at the top.

    Raises:
        ModelError: If a score is NaN or infinite.
    """
    size = segments[-1]
    if size > piece_columns:
        counter = PieceCounter(
            n_queries, targets, segments, id_ranks, top_of=top_of, top_k=top_k, block_rows=block_rows, threads=threads
        )
        pieces = [slice(start, min(start + piece_columns, size)) for start in range(0, size, piece_columns)]
        for piece in pieces:
            counter.read_targets(_part_of(scores, piece), np.arange(piece.start, piece.stop))
        done = 0
        for piece in pieces:
            counter.add(_part_of(scores, piece), np.arange(piece.start, piece.stop))
            if progress:
                progress(n_queries * piece.stop // size - done)
                done = n_queries * piece.stop // size
        return counter.counts()
    pool = _Pool.of(segments, id_ranks, range(len(segments)) if top_of is None else top_of, top_k)
    above = np.zeros((len(targets), len(segments)), dtype=np.int32)
    top = np.empty((n_queries, pool.k), dtype=np.int8)

    def count(rows: slice, cut: slice) -> None:
        wanted = Targets(targets.row[cut] - np.int32(rows.start), targets.column[cut])
        above[cut], top[rows] = _count_block(scores, rows, wanted, pool)

    _in_blocks(count, n_queries, targets, block_rows=block_rows, threads=threads, progress=progress)
    return RankCounts(above, top)


def top_columns(
    scores: ScoreBlocks, n_queries: int, id_ranks: NDArray[np.int32], k: int
) -> tuple[NDArray[np.int64], ScoreMatrix]:
    """The k best passages of every query, best first, in the same order as `count_above` counts.

    Args:
        scores: Gives any block of the (queries x passages) score matrix.
        n_queries: Number of rows of the matrix.
        id_ranks: As for `count_above`.
        k: How many; all passages if there are fewer.

    Returns:
        int64 (queries, k), positions of the passages in the pool, and float32 (queries, k), their scores.

    Raises:
        ModelError: If a score is NaN or infinite.
    """
    size = len(id_ranks)
    nothing = Targets(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
    counter = PieceCounter(n_queries, nothing, [size], id_ranks, top_k=k, block_rows=BLOCK_ROWS)
    for start in range(0, size, PIECE_COLUMNS):
        piece = slice(start, min(start + PIECE_COLUMNS, size))
        counter.add(_part_of(scores, piece), np.arange(piece.start, piece.stop))
    return counter.best()


class PieceCounter:
    """Counts as `count_above` does, over a pool that is given piece by piece, each piece once, in any order.

    First the scores of the targets are read, from the pieces that hold them (`read_targets`); then every piece of the
    pool is counted (`add`). What is kept grows with the queries, not with the pool, but for 5 bytes a passage.

    Args:
        n_queries: Number of queries.
        targets: The relevant passages, sorted by row; columns are positions in the pool.
        segments: Ends of the segments, as for `count_above`.
        id_ranks: As for `count_above`.
        top_of: As for `count_above`.
        top_k: As for `count_above`.
        block_rows: Queries scored at once.
        threads: Threads for counting; None for all that the process may use. Does not change the result.
    """

    def __init__(
        self,
        n_queries: int,
        targets: Targets,
        segments: Sequence[int],
        id_ranks: NDArray[np.int32],
        *,
        top_of: Sequence[int] | None = None,
        top_k: int = 100,
        block_rows: int = BLOCK_ROWS,
        threads: int | None = None,
    ) -> None:
        self._n_queries, self._targets, self._block_rows, self._threads = n_queries, targets, block_rows, threads
        self._pool = _Pool.of(segments, id_ranks, range(len(segments)) if top_of is None else top_of, top_k)
        self._target_keys = np.empty(len(targets), dtype=np.int64)
        self._read = np.zeros(len(targets), dtype=bool)
        self._above = np.zeros((len(targets), len(segments)), dtype=np.int32)
        self._best = np.empty((n_queries, 0), dtype=np.int64)

    def read_targets(self, scores: ScoreBlocks, columns: NDArray[np.int64]) -> None:
        """Read the scores of the targets that are in this piece.

        Args:
            scores: Scores of the piece's passages.
            columns: int64, position in the pool of each passage of the piece.
        """
        order = np.argsort(columns)
        place = np.searchsorted(columns, self._targets.column, sorter=order)
        place = order[np.minimum(place, len(columns) - 1)]
        inside = columns[place] == self._targets.column

        def read(rows: slice, cut: slice) -> None:
            here = np.flatnonzero(inside[cut]) + cut.start
            if len(here):
                values = scores(rows, slice(0, len(columns)))
                value = values[self._targets.row[here] - rows.start, place[here]]
                self._target_keys[here] = _keys(value, self._pool.id_rank[self._targets.column[here]])

        self._in_blocks(read)
        self._read |= inside

    def add(self, scores: ScoreBlocks, columns: NDArray[np.int64]) -> None:
        """Count the passages of a piece.

        Args:
            scores: Scores of the piece's passages.
            columns: int64, position in the pool of each passage of the piece; those of one segment side by side.

        Raises:
            ModelError: If a score is NaN or infinite.
        """
        assert self._read.all(), "all targets are read before anything is counted"
        id_rank = self._pool.id_rank[columns]
        parts = _parts_of(np.searchsorted(self._pool.bounds, columns, side="right") - 1)
        assert len({part.segment for part in parts}) == len(parts), "a segment's passages stand side by side in a piece"
        listed = sum(part.columns.stop - part.columns.start for part in parts if self._pool.in_top[part.segment])
        best = np.empty((self._n_queries, min(self._pool.k, self._best.shape[1] + listed)), dtype=np.int64)

        def count(rows: slice, cut: slice) -> None:
            values = scores(rows, slice(0, len(columns)))
            wanted = Targets(self._targets.row[cut] - np.int32(rows.start), self._targets.column[cut])
            tops = []
            for tile, targets in _tiles(len(values), len(columns), wanted):
                keys = _keys(values[tile], id_rank)
                row = wanted.row[targets] - np.int32(tile.start)
                counts, top = _count_keys(keys, row, self._target_keys[cut][targets], parts, self._pool)
                self._above[cut][targets] += counts
                tops.append(top)
            best[rows] = _largest(np.concatenate([self._best[rows], np.concatenate(tops)], axis=1), self._pool.k)

        self._in_blocks(count)
        self._best = best

    def counts(self) -> RankCounts:
        """What `count_above` returns, once all pieces were added."""
        return RankCounts(self._above, self._pool.segment_of_rank[_id_rank(self._best[:, ::-1])])

    def best(self) -> tuple[NDArray[np.int64], ScoreMatrix]:
        """The best passages of each query: int64 (queries, k), positions in the pool, and float32, their scores."""
        keys = self._best[:, ::-1]
        return np.argsort(self._pool.id_rank)[_id_rank(keys)], _scores(keys)

    def _in_blocks(self, work: Callable[[slice, slice], None]) -> None:
        _in_blocks(work, self._n_queries, self._targets, block_rows=self._block_rows, threads=self._threads)


def _in_blocks(
    work: Callable[[slice, slice], None],
    n_queries: int,
    targets: Targets,
    *,
    block_rows: int,
    threads: int | None,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Do the work of every block of rows, in several threads: it is given the rows, and which targets are theirs."""
    starts = range(0, n_queries, block_rows)
    cuts = np.searchsorted(targets.row, [*starts, n_queries]).tolist()
    with _one_torch_thread(), ThreadPoolExecutor(threads or _usable_cpus()) as executor:
        jobs = {}
        for start, low, high in zip(starts, cuts, cuts[1:], strict=False):
            rows = slice(start, min(start + block_rows, n_queries))
            jobs[executor.submit(work, rows, slice(low, high))] = rows.stop - rows.start
        try:
            for job, n_rows in jobs.items():
                job.result()
                if progress:
                    progress(n_rows)
        finally:
            for job in jobs:  # after an error, or an interrupt, the rest need not be done
                job.cancel()


def _part_of(scores: ScoreBlocks, piece: slice) -> ScoreBlocks:
    """The scores of a piece, its columns counted from its start."""

    def part(rows: slice, columns: slice) -> ScoreMatrix:
        return scores(rows, slice(columns.start + piece.start, columns.stop + piece.start))

    return part


@dataclass(frozen=True)
class _Pool:
    """The columns: their segments, the order of their ids, and what the top lists.

    `id_rank` is dense (0 to size - 1), so that it indexes `segment_of_rank`.
    """

    bounds: tuple[int, ...]
    id_rank: NDArray[np.int32]
    segment_of_rank: NDArray[np.int8]
    in_top: NDArray[np.bool_]
    k: int

    @classmethod
    def of(cls, segments: Sequence[int], id_ranks: NDArray[np.int32], top_of: Sequence[int], top_k: int) -> _Pool:
        bounds = (0, *segments)
        sizes = np.diff(bounds)
        order = np.argsort(id_ranks, kind="stable")
        dense = np.empty(len(order), dtype=np.int32)
        dense[order] = np.arange(len(order), dtype=np.int32)
        in_top = np.zeros(len(segments), dtype=bool)
        in_top[list(top_of)] = True
        return cls(
            bounds=bounds,
            id_rank=dense,
            segment_of_rank=np.repeat(np.arange(len(segments), dtype=np.int8), sizes)[order],
            in_top=in_top,
            k=min(top_k, int(sizes[in_top].sum())),
        )

    @property
    def size(self) -> int:
        return self.bounds[-1]


class _Part(NamedTuple):
    segment: int
    columns: slice


def _parts_of(segment: NDArray[np.integer]) -> list[_Part]:
    """The runs of equal numbers: each segment with its columns."""
    edges = [0, *(np.flatnonzero(np.diff(segment)) + 1).tolist(), len(segment)]
    return [_Part(int(segment[start]), slice(start, stop)) for start, stop in pairwise(edges)]


def _count_block(
    scores: ScoreBlocks, rows: slice, wanted: Targets, pool: _Pool
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Count in a pool that fits into memory: every score is computed once."""
    values = scores(rows, slice(0, pool.size))
    parts = [
        _Part(segment, slice(low, high))
        for segment, (low, high) in enumerate(zip(pool.bounds, pool.bounds[1:], strict=False))
        if low < high
    ]
    above = np.empty((len(wanted), len(pool.bounds) - 1), dtype=np.int32)
    top = np.empty((len(values), pool.k), dtype=np.int8)
    for tile, targets in _tiles(len(values), pool.size, wanted):
        row = wanted.row[targets] - np.int32(tile.start)
        column = wanted.column[targets]
        above[targets], top[tile], tied = _count_scores(values[tile], row, column, parts, pool)
        if tied.any():
            # The rows with ties again, on keys.
            keys = _keys(values[tile][tied], pool.id_rank)
            again = tied[row]
            key_row = (np.cumsum(tied) - 1)[row[again]]
            above[targets][again], best = _count_keys(keys, key_row, keys[key_row, column[again]], parts, pool)
            top[tile][tied] = pool.segment_of_rank[_id_rank(best[:, ::-1])]
    return above, top


def _tiles(n_rows: int, n_columns: int, wanted: Targets) -> list[tuple[slice, slice]]:
    """Cut the rows of a block into tiles that fit the cache, each with its targets."""
    height = max(8, _TILE_SCORES // n_columns)
    starts = range(0, n_rows, height)
    edges = np.searchsorted(wanted.row, [*starts, n_rows])
    return [
        (slice(start, min(start + height, n_rows)), slice(int(a), int(b)))
        for start, a, b in zip(starts, edges, edges[1:], strict=False)
    ]


def _count_scores(
    values: ScoreMatrix, row: NDArray[np.int32], column: NDArray[np.int64], parts: Sequence[_Part], pool: _Pool
) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.bool_]]:
    """Count on the scores alone.

    Returns:
        Counts (targets, segments), top segments (rows, k), and the rows where a tie makes either of them doubtful.
    """
    value = values[row, column]
    padded, slot = _pad(row, value, len(values))
    above = np.zeros((len(row), len(pool.bounds) - 1), dtype=np.int32)
    tied = np.zeros(len(values), dtype=bool)
    tails = [np.empty((len(values), 0), dtype=np.float32)]
    labels = [np.empty(0, dtype=np.int32)]
    for (segment, columns), ascending in zip(parts, _sorted_parts(values, parts), strict=True):
        _check_finite(ascending)
        width = ascending.shape[1]
        not_above = _search(ascending, padded)[row, slot]
        above[:, segment] = width - not_above
        # Where the target itself stands, one other of the same score is a tie; elsewhere, one at all.
        equal = not_above - 1 - (column >= columns.start) * (column < columns.stop)
        tied[row[(equal >= 0) & (ascending[row, np.maximum(equal, 0)] == value)]] = True
        if pool.in_top[segment] and pool.in_top.sum() > 1:
            # One more than k, to see whether the last place is tied.
            tails.append(ascending[:, -(pool.k + 1) :].copy())
            labels.append(np.full(tails[-1].shape[1], segment, dtype=np.int32))
    if pool.in_top.sum() == 1:  # nothing to find out about the top
        return above, np.full((len(values), pool.k), np.argmax(pool.in_top), dtype=np.int8), tied
    best = _largest(_keys(np.concatenate(tails, axis=1), np.concatenate(labels)), pool.k + 1)
    same_score = (best[:, 1:] >> 32) == (best[:, :-1] >> 32)
    tied |= (same_score & (best[:, 1:] != best[:, :-1])).any(axis=1)
    # A tie across the end of the list may reach further down than the one passage that is seen here.
    if best.shape[1] > pool.k > 0:
        tied |= same_score[:, 0]
    return above, _id_rank(best[:, ::-1][:, : pool.k]).astype(np.int8), tied


def _count_keys(
    keys: Keys, row: NDArray[np.int32], target_keys: Keys, parts: Sequence[_Part], pool: _Pool
) -> tuple[NDArray[np.int32], Keys]:
    """Count on keys, in which nothing ties.

    Returns:
        Counts (targets, segments), and the largest keys of each row, ascending.
    """
    padded, slot = _pad(row, target_keys, len(keys))
    above = np.zeros((len(row), len(pool.bounds) - 1), dtype=np.int32)
    tails = [np.empty((len(keys), 0), dtype=np.int64)]
    for (segment, _), ascending in zip(parts, _sorted_parts(keys, parts), strict=True):
        _check_finite(_scores(ascending[:, [0, -1]]))
        above[:, segment] = ascending.shape[1] - _search(ascending, padded)[row, slot]
        if pool.in_top[segment] and pool.k:
            tails.append(ascending[:, -pool.k :].copy())
    return above, _largest(np.concatenate(tails, axis=1), pool.k)


def _sorted_parts(values: ScoreMatrix | Keys, parts: Sequence[_Part]) -> Iterator[Any]:
    """The columns of `values` that belong to each part, sorted in every row; valid until the next is asked for.

    All of them are sorted in one piece of memory: fresh memory for each would cost as much as the sorting.
    """
    widest = max(columns.stop - columns.start for _, columns in parts)
    scratch = np.empty(len(values) * widest, dtype=values.dtype)
    for _, columns in parts:
        chosen = values[:, columns]
        ascending = scratch[: chosen.size].reshape(chosen.shape)
        ascending[...] = chosen
        ascending.sort(axis=1)
        yield ascending


def _search(ascending: ScoreMatrix | Keys, wanted: ScoreMatrix | Keys) -> NDArray[np.int32]:
    """In every row, how many entries are not above each value (`numpy.searchsorted` takes only one row).

    Args:
        ascending: (rows, columns), each row sorted.
        wanted: (rows, n), the values to look for in each row.

    Returns:
        Array (rows, n).
    """
    import torch  # here, since torch takes a second to import and little else in this file needs it

    found = torch.searchsorted(torch.from_numpy(ascending), torch.from_numpy(wanted), right=True, out_int32=True)
    return found.numpy()


def _pad(
    row: NDArray[np.int32], value: ScoreMatrix | Keys, n_rows: int
) -> tuple[ScoreMatrix | Keys, NDArray[np.int64]]:
    """Lay ragged values out as one line per row, for a search in all rows at once.

    Returns:
        Array (rows, most values in a row), and the slot of each value in its line.
    """
    first = np.searchsorted(row, np.arange(n_rows))
    slot = np.arange(len(row)) - first[row]
    padded = np.zeros((n_rows, int(slot.max(initial=0)) + 1), dtype=value.dtype)
    padded[row, slot] = value
    return padded, slot


def _keys(scores: ScoreMatrix, low: NDArray[np.int32]) -> Keys:
    """64-bit keys that order as (score, low): the score's bits in the upper half, `low` (not negative) in the lower."""
    # Adding zero turns -0.0, which equals 0.0 but has other bits, into 0.0.
    bits = (scores + np.float32(0)).view(np.int32)
    # Flip the magnitude of negative numbers, so that the bits order as the numbers do.
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= low
    return keys


def _scores(keys: Keys) -> ScoreMatrix:
    """The scores that `_keys` put into keys."""
    bits = (keys >> 32).astype(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    return bits.view(np.float32)


def _id_rank(keys: Keys) -> NDArray[np.int64]:
    """What `_keys` was given as `low`."""
    return keys & 0xFFFFFFFF


def _largest(keys: Keys, k: int) -> Keys:
    """The k largest keys of each row (all, if there are fewer), ascending."""
    if k == 0:
        return keys[:, :0]
    extra = keys.shape[1] - k
    if extra > 0:
        keys = np.partition(keys, extra, axis=1)[:, extra:]
    return np.sort(keys, axis=1)


def _check_finite(ascending: ScoreMatrix) -> None:
    """In sorted scores, NaN and infinities stand at the ends."""
    ends = ascending[:, [0, -1]]
    if not np.isfinite(ends).all():
        bad = ends[~np.isfinite(ends)][0]
        raise ModelError(f"a score is {bad}: the model's embeddings or its similarity are not finite numbers")


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Let torch use one thread in each of our threads.

    Each thread computes and counts blocks of its own, which keeps all processors busy without waiting for each other.
    And a product that one thread computes has the same bits whatever the number of threads.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
