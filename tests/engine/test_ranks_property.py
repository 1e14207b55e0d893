"""What holds for the ranks of any scores: the definition, and that neither order nor layout of a pool matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_bench.engine.ranks import PieceCounter, RankCounts, Targets, count_above, top_columns
from reference import above_by_definition, order_by_definition

# Threads and the first import of torch take what time they take.
RANKS = settings(deadline=None, max_examples=75, derandomize=True)

#: Few values, so that many tie: both zeros, neighbours, the smallest and the largest there are.
_TIED = st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-23, -1.0, 2.0**-149, -(2.0**-149), 3.4028234663852886e38])
_ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)
_IDS = st.text(st.characters(codec="utf-8"), max_size=4)


@dataclass(frozen=True)
class Problem:
    """Scores, ids of the columns, ends of the segments, and targets as (row, column), sorted by row."""

    scores: NDArray[np.float32]
    ids: list[str]
    segments: list[int]
    targets: list[tuple[int, int]]
    block_rows: int
    piece_columns: int
    top_k: int

    def count(self, columns: NDArray[np.int64] | None = None, segments: list[int] | None = None) -> RankCounts:
        """Count with the columns in another order; the targets stay the same passages."""
        order = np.arange(len(self.ids)) if columns is None else columns
        scores, ids = self.scores[:, order], [self.ids[column] for column in order]
        place = np.argsort(order)
        return count_above(
            lambda rows, chosen: scores[rows, chosen],
            len(scores),
            Targets(
                np.array([row for row, _ in self.targets], dtype=np.int32),
                np.array([place[column] for _, column in self.targets], dtype=np.int64),
            ),
            self.segments if segments is None else segments,
            id_ranks_of(ids),
            top_k=self.top_k,
            block_rows=self.block_rows,
            piece_columns=self.piece_columns,
            threads=2,
        )


def id_ranks_of(ids: list[str]) -> NDArray[np.int32]:
    place = {passage: number for number, passage in enumerate(sorted(ids, key=str.encode))}
    return np.array([place[passage] for passage in ids], dtype=np.int32)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    ids = draw(st.lists(_IDS, min_size=1, max_size=16, unique=True))
    n_rows = draw(st.integers(1, 5))
    value = draw(st.sampled_from([_TIED, _ANY]))
    line = st.lists(value, min_size=len(ids), max_size=len(ids))
    cuts = draw(st.lists(st.integers(0, len(ids)), max_size=4))
    pairs = st.tuples(st.integers(0, n_rows - 1), st.integers(0, len(ids) - 1))
    return Problem(
        scores=np.array(draw(st.lists(line, min_size=n_rows, max_size=n_rows)), dtype=np.float32),
        ids=ids,
        segments=[*sorted(cuts), len(ids)],
        targets=sorted(draw(st.lists(pairs, max_size=12))),
        block_rows=draw(st.integers(1, 6)),
        piece_columns=draw(st.integers(1, 20)),
        top_k=draw(st.integers(0, 20)),
    )


@RANKS
@given(problems())
def test_counts_and_top_are_those_of_the_definition(problem: Problem) -> None:
    counts = problem.count()
    lines = problem.scores.tolist()
    assert counts.above.tolist() == [
        above_by_definition(lines[row], problem.ids, column, problem.segments) for row, column in problem.targets
    ]
    segment = np.repeat(np.arange(len(problem.segments)), np.diff([0, *problem.segments]))
    assert counts.top.tolist() == [
        segment[order_by_definition(line, problem.ids)[: problem.top_k]].tolist() for line in lines
    ]


@RANKS
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_passages_does_not_matter(problem: Problem, random: Random) -> None:
    """Passages may be shuffled with their ids within each language, or in the whole pool where it is one language."""
    shuffled = [list(range(a, b)) for a, b in zip([0, *problem.segments], problem.segments, strict=False)]
    for columns in shuffled:
        random.shuffle(columns)
    before, after = problem.count(), problem.count(np.array(list(chain(*shuffled)), dtype=np.int64))
    np.testing.assert_array_equal(after.above, before.above)
    np.testing.assert_array_equal(after.top, before.top)
    everything = list(range(len(problem.ids)))
    random.shuffle(everything)
    whole = problem.count(np.array(everything, dtype=np.int64), [len(problem.ids)]).above
    np.testing.assert_array_equal(whole[:, 0], before.above.sum(axis=1))


@RANKS
@given(problems(), st.randoms(use_true_random=False), st.integers(1, 8))
def test_it_does_not_matter_in_which_pieces_a_pool_comes(problem: Problem, random: Random, n_pieces: int) -> None:
    """Any passages may make up a piece, in any order within their segments."""
    n_rows, n = problem.scores.shape
    segment = np.searchsorted(problem.segments, np.arange(n), side="right")
    pieces: list[list[int]] = [[] for _ in range(n_pieces)]
    for column in random.sample(range(n), n):
        random.choice(pieces).append(column)
    given_pieces = [np.array(sorted(piece, key=segment.__getitem__), dtype=np.int64) for piece in pieces if piece]
    targets = Targets(
        np.array([row for row, _ in problem.targets], dtype=np.int32),
        np.array([column for _, column in problem.targets], dtype=np.int64),
    )
    counter = PieceCounter(
        n_rows,
        targets,
        problem.segments,
        id_ranks_of(problem.ids),
        top_k=problem.top_k,
        block_rows=problem.block_rows,
        threads=2,
    )
    for take in (counter.read_targets, counter.add):
        for columns in random.sample(given_pieces, len(given_pieces)):
            scores = problem.scores[:, columns]
            take(lambda rows, chosen, scores=scores: scores[rows, chosen], columns)
    expected = problem.count()
    np.testing.assert_array_equal(counter.counts().above, expected.above)
    np.testing.assert_array_equal(counter.counts().top, expected.top)
    columns, values = counter.best()
    lines = problem.scores.tolist()
    assert columns.tolist() == [order_by_definition(line, problem.ids)[: problem.top_k] for line in lines]
    np.testing.assert_array_equal(values, np.take_along_axis(problem.scores, columns, axis=1))


@RANKS
@given(problems())
def test_all_passages_together_have_the_ranks_from_1_to_n(problem: Problem) -> None:
    """And they stand in this order in `top_columns`."""
    n_rows, n = problem.scores.shape
    targets = Targets(np.repeat(np.arange(n_rows, dtype=np.int32), n), np.tile(np.arange(n, dtype=np.int64), n_rows))
    id_ranks = id_ranks_of(problem.ids)

    def blocks(rows: slice, columns: slice) -> NDArray[np.float32]:
        return problem.scores[rows, columns]

    counts = count_above(blocks, n_rows, targets, problem.segments, id_ranks, piece_columns=problem.piece_columns)
    place = counts.above.sum(axis=1).reshape(n_rows, n)
    np.testing.assert_array_equal(np.sort(place, axis=1), np.tile(np.arange(n), (n_rows, 1)))
    np.testing.assert_array_equal(np.argsort(place, axis=1), top_columns(blocks, n_rows, id_ranks, n)[0])


@RANKS
@given(problems())
def test_only_the_order_of_the_scores_matters(problem: Problem) -> None:
    _, place = np.unique(problem.scores, return_inverse=True)
    by_place = replace(problem, scores=place.reshape(problem.scores.shape).astype(np.float32) - 5)
    np.testing.assert_array_equal(by_place.count().above, problem.count().above)
    np.testing.assert_array_equal(by_place.count().top, problem.count().top)
