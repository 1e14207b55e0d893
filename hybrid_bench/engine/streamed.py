"""Counts over pools that are too large for the memory: each passage is read, encoded, scored and counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.engine.encode import DenseScores, PreparedPassages, Role, Text, distinct, read_as
from hybrid_bench.engine.ranks import PIECE_COLUMNS, PieceCounter, RankCounts, Targets
from hybrid_bench.engine.resident import DenseScorer, first_places, n_rows, passage_texts
from hybrid_bench.progress import Progress

__all__ = ["Stream", "Streamed"]

#: Passages encoded and scored at once: of 4,096 dimensions, 256 MB.
_PIECE = PIECE_COLUMNS // 4


class Streamed(NamedTuple):
    """What was counted of one query set; `by_row` is the order of its targets, `row` that of its queries."""

    counter: PieceCounter
    row: NDArray[np.int64]
    by_row: NDArray[np.int64]

    def counts(self) -> RankCounts:
        """The counts, targets in the order in which they were asked for."""
        return self.counter.counts().unsorted(self.by_row)


class Stream:
    """Counts of some query sets over parts that are too large to be kept: each passage is encoded and scored once.

    The passages that are tracked come first, so that their scores are known before anything is counted, from the very
    products that count them. Copies of a text stand in one piece, where they share a score.

    Args:
        scorer: Encodes.
        parts: The pool.
        tracked: By query set: query and column of each passage whose place is wanted.
        top_k: How many of the best passages are kept.
    """

    def __init__(
        self,
        scorer: DenseScorer,
        parts: Sequence[str],
        tracked: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]],
        top_k: int,
    ) -> None:
        self._scorer, self._parts, self._tracked, self._top_k = scorer, parts, tracked, top_k
        self._passages = [scorer.collection.passages[part] for part in parts]
        self._ends = np.cumsum([len(passages) for passages in self._passages])

    def items(self) -> list[tuple[str, Streamed]]:
        """Encode and count everything; the result by query set."""
        scorer = self._scorer
        scorer.encode_queries(list(self._tracked))
        id_ranks = scorer.collection.id_ranks(self._parts)
        first = self._first_copies()
        results: dict[str, Streamed] = {}
        for name, (query, column) in self._tracked.items():
            _, row = scorer.queries(name)
            targets, by_row = Targets.sort(row[query], column)
            counter = PieceCounter(n_rows(row), targets, self._ends.tolist(), id_ranks, top_k=self._top_k)
            results[name] = Streamed(counter, row, by_row)
        tracked = np.unique(first[np.concatenate([column for _, column in self._tracked.values()])])
        known = np.isin(first, tracked)
        scores: dict[str, DenseScores] = {}

        def scored(passages: PreparedPassages) -> Iterator[tuple[PieceCounter, DenseScores]]:
            for name, result in results.items():
                scores[name] = (
                    scores[name].over(passages)
                    if name in scores
                    else DenseScores(scorer.queries(name)[0], passages, scorer.embeddings.model)
                )
                yield result.counter, scores[name]

        with Progress(len(first), "Encoding passages", "texts") as bar:
            head = [(columns, self._prepared(columns, bar.update)) for columns in self._pieces(first, known)]
            for columns, passages in head:
                for counter, of_piece in scored(passages):
                    counter.read_targets(of_piece, columns)
            tail = ((columns, self._prepared(columns, bar.update)) for columns in self._pieces(first, ~known))
            for columns, passages in chain(head, tail):
                for counter, of_piece in scored(passages):
                    counter.add(of_piece, columns)
        return list(results.items())

    def _first_copies(self) -> NDArray[np.int64]:
        """For each passage the first that reads the same, found by hashes: a collision only makes neighbours of two."""
        hashes = np.empty(self._ends[-1], dtype=np.int64)
        for columns in np.split(np.arange(len(hashes)), range(_PIECE, len(hashes), _PIECE)):
            hashes[columns] = [hash(text) for text in read_as(Role.PASSAGE, self._texts(columns))]
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        return np.asarray(first[inverse], dtype=np.int64)

    def _pieces(self, first: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
        """The chosen passages in pieces, each within its parts in turn, copies together as far as they fit."""
        columns = np.flatnonzero(chosen)
        columns = columns[np.argsort(first[columns], kind="stable")]
        start = 0
        while start < len(columns):
            stop = min(start + _PIECE, len(columns))
            while start < stop < len(columns) and first[columns[stop]] == first[columns[stop - 1]]:
                stop -= 1
            stop = stop if stop > start else min(start + _PIECE, len(columns))
            piece = columns[start:stop]
            # Side by side within a part, as the counter wants them.
            yield piece[np.argsort(np.searchsorted(self._ends, piece, side="right"), kind="stable")]
            start = stop

    def _texts(self, columns: NDArray[np.int64]) -> list[Text]:
        return [text for _, texts in self._by_part(columns) for text in texts]

    def _by_part(self, columns: NDArray[np.int64]) -> Iterator[tuple[str, list[Text]]]:
        for part, passages, end in zip(self._parts, self._passages, self._ends, strict=True):
            start = end - len(passages)
            inside = columns[(columns >= start) & (columns < end)]
            if len(inside):
                yield part, passage_texts(passages, inside - start)

    def _prepared(self, columns: NDArray[np.int64], progress: Callable[[int], object]) -> PreparedPassages:
        scorer = self._scorer
        vectors, shared = [], []
        for part, texts in self._by_part(columns):
            read = read_as(Role.PASSAGE, texts)
            once = distinct(Role.PASSAGE, texts)
            place = {text: row for row, text in enumerate(once)}
            matrix = scorer.embeddings.once(Role.PASSAGE, part, list(once.values()), progress)
            changed = scorer.changed(Role.PASSAGE, matrix, scorer.collection.passages[part].language)
            vectors.append(changed[[place[text] for text in read]])
            shared += [(scorer.within(part), text) for text in read]
        queries = scorer.queries(next(iter(self._tracked)))[0]
        return scorer.prepared(queries, np.concatenate(vectors), first_places(shared))
