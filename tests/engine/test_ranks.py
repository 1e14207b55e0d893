"""Counting against the definition of a rank, on scores that are hard to rank, and that nothing else changes a rank."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_bench.data.collection import Collection, Passages
from hybrid_bench.engine import ranks
from hybrid_bench.engine.ranks import BLOCK_ROWS, PieceCounter, RankCounts, Targets, count_above, top_columns
from hybrid_bench.errors import ModelError
from reference import IDS_BY_BYTES, SCORES, above_by_definition, order_by_definition, random_ids

Scores = NDArray[np.float32]

#: Ends of the segments of 130 passages.
LAYOUTS: dict[str, Sequence[int]] = {
    "one": [130],
    "one passage, then the rest": [1, 130],
    "uneven": [7, 40, 41, 130],
    "with an empty one": [0, 50, 50, 130],
    "many": list(range(5, 131, 5)),
}


#: Scores that are no numbers.
BAD = [pytest.param(float(bad), id=bad) for bad in ("nan", "-nan", "inf", "-inf")]


class Blocks:
    """A score matrix as `ScoreBlocks`: a thread's next call overwrites what it was given, as with `DenseScores`."""

    def __init__(self, matrix: Scores, piece_columns: int | None = None) -> None:
        self.matrix = matrix
        self.piece_columns = piece_columns or max(1, matrix.shape[1])
        self.local = threading.local()

    def __call__(self, rows: slice, columns: slice) -> Scores:
        assert columns.start % self.piece_columns == 0
        assert columns.stop - columns.start <= self.piece_columns
        given = self.local.__dict__.get("given")
        if given is not None:
            given.fill(12345)
        self.local.given = self.matrix[rows, columns].copy()
        return cast("Scores", self.local.given)


def id_ranks_of(ids: Sequence[str]) -> NDArray[np.int32]:
    """Numbers that order passages as their ids do, with gaps, for nothing says that they follow each other."""
    place = {passage: 3 * number + 5 for number, passage in enumerate(sorted(ids, key=str.encode))}
    return np.array([place[passage] for passage in ids], dtype=np.int32)


def random_targets(rng: np.random.Generator, n_queries: int, n_columns: int) -> Targets:
    """Up to nine targets of each query, in any order of columns; every third query has none."""
    rows, columns = [], []
    for row in range(n_queries):
        n = 0 if row % 3 == 1 else int(rng.integers(1, 10))
        rows += [row] * n
        columns += rng.choice(n_columns, size=n, replace=False).tolist()
    return Targets(np.array(rows, dtype=np.int32), np.array(columns, dtype=np.int64))


@cache
def _expected_above(scores: str, layout: str) -> list[list[int]]:
    case = Case(scores)
    return expected_above(case.matrix, case.ids, case.targets, LAYOUTS[layout])


def expected_above(matrix: Scores, ids: Sequence[str], targets: Targets, segments: Sequence[int]) -> list[list[int]]:
    lines = matrix.tolist()
    return [
        above_by_definition(lines[row], ids, column, segments)
        for row, column in zip(targets.row.tolist(), targets.column.tolist(), strict=True)
    ]


def orders_of(matrix: Scores, ids: Sequence[str]) -> list[list[int]]:
    return [order_by_definition(line, ids) for line in matrix.tolist()]


@cache
def _orders(scores: str) -> list[list[int]]:
    case = Case(scores)
    return orders_of(case.matrix, case.ids)


def expected_top(orders: list[list[int]], segments: Sequence[int], top_of: Sequence[int], k: int) -> NDArray[np.intp]:
    segment = np.repeat(np.arange(len(segments)), np.diff([0, *segments]))
    wanted = np.isin(segment, top_of)
    return np.array([segment[order][wanted[order]][:k] for order in orders])


class Case:
    """90 queries, three tiles of a block, and 130 passages with random ids and targets."""

    def __init__(self, scores: str, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, *scores.encode()])
        self.matrix = SCORES[scores](rng, (90, 130))
        self.ids = random_ids(rng, 130)
        self.targets = random_targets(rng, 90, 130)

    def count(
        self,
        segments: Sequence[int],
        *,
        top_of: Sequence[int] | None = None,
        top_k: int = 20,
        block_rows: int = BLOCK_ROWS,
        piece_columns: int = 130,
        threads: int | None = None,
    ) -> RankCounts:
        return count_above(
            Blocks(self.matrix, piece_columns),
            len(self.matrix),
            self.targets,
            segments,
            id_ranks_of(self.ids),
            top_of=top_of,
            top_k=top_k,
            block_rows=block_rows,
            piece_columns=piece_columns,
            threads=threads,
        )


class TestCountAbove:
    @pytest.mark.parametrize("piece_columns", [130, 64, 13], ids=lambda width: f"pieces of {width}")
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("scores", SCORES)
    def test_equals_the_definition(self, scores: str, layout: str, piece_columns: int) -> None:
        case, segments = Case(scores), LAYOUTS[layout]
        counts = case.count(segments, piece_columns=piece_columns)
        assert counts.above.dtype == np.int32
        assert counts.top.dtype == np.int8
        assert counts.above.tolist() == _expected_above(scores, layout)
        everything = range(len(segments))
        np.testing.assert_array_equal(counts.top, expected_top(_orders(scores), segments, everything, 20))

    @pytest.mark.parametrize("scores", ["continuous", "four values", "two decimals", "zeros of both signs"])
    @pytest.mark.parametrize(("block_rows", "threads"), [(1, 1), (7, 3), (32, 2), (33, 8), (90, 1), (1000, 2)])
    def test_block_rows_and_threads_change_nothing(self, scores: str, block_rows: int, threads: int) -> None:
        case, segments = Case(scores), LAYOUTS["uneven"]
        expected = case.count(segments)
        for piece_columns in (130, 26):
            counts = case.count(segments, block_rows=block_rows, threads=threads, piece_columns=piece_columns)
            np.testing.assert_array_equal(counts.above, expected.above, strict=True)
            np.testing.assert_array_equal(counts.top, expected.top, strict=True)

    @pytest.mark.parametrize("piece_columns", [130, 26])
    @pytest.mark.parametrize("scores", ["continuous", "four values", "all equal"])
    @pytest.mark.parametrize("top_of", [[0], [1, 3], [2], [3, 0], [0, 1, 2, 3]])
    def test_top_of_some_segments(self, scores: str, top_of: Sequence[int], piece_columns: int) -> None:
        case, segments = Case(scores), LAYOUTS["uneven"]
        counts = case.count(segments, top_of=top_of, piece_columns=piece_columns)
        np.testing.assert_array_equal(counts.top, expected_top(_orders(scores), segments, top_of, 20))
        np.testing.assert_array_equal(counts.above, case.count(segments).above)

    @pytest.mark.parametrize("piece_columns", [130, 26])
    @pytest.mark.parametrize("top_k", [0, 1, 2, 129, 130, 131, 1000])
    def test_the_top_is_as_long_as_asked_or_as_the_pool(self, top_k: int, piece_columns: int) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        counts = case.count(segments, top_k=top_k, piece_columns=piece_columns)
        assert counts.top.shape == (90, min(top_k, 130))
        expected = expected_top(_orders("two decimals"), segments, range(4), top_k)
        np.testing.assert_array_equal(counts.top, expected)

    @pytest.mark.parametrize("piece_columns", [130, 26])
    def test_no_top_of_an_empty_segment(self, piece_columns: int) -> None:
        case, segments = Case("two decimals"), LAYOUTS["with an empty one"]
        counts = case.count(segments, top_of=[0, 2], piece_columns=piece_columns)
        assert counts.top.shape == (90, 0)
        assert counts.above.tolist() == expected_above(case.matrix, case.ids, case.targets, segments)

    def test_a_tie_at_the_end_of_the_top_is_broken_by_id(self) -> None:
        """The last place is tied with passages further down than the one that is looked at beyond the end."""
        matrix = np.zeros((1, 60), dtype=np.float32)
        matrix[0, :3] = [3, 2, 1]
        segments = [30, 60]
        for seed in range(20):
            ids = random_ids(np.random.default_rng(seed), 60)
            nothing = Targets(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
            counts = count_above(Blocks(matrix), 1, nothing, segments, id_ranks_of(ids), top_k=5)
            np.testing.assert_array_equal(counts.top, expected_top(orders_of(matrix, ids), segments, range(2), 5))

    @pytest.mark.parametrize("piece_columns", [130, 26])
    def test_without_targets_there_is_still_a_top(self, piece_columns: int) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        expected = case.count(segments).top
        case.targets = Targets(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        counts = case.count(segments, piece_columns=piece_columns)
        assert counts.above.shape == (0, 4)
        np.testing.assert_array_equal(counts.top, expected)

    def test_without_queries(self) -> None:
        nothing = Targets(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        matrix = np.empty((0, 10), dtype=np.float32)
        counts = count_above(Blocks(matrix), 0, nothing, [4, 10], np.arange(10, dtype=np.int32), top_k=3)
        assert counts.above.shape == (0, 2)
        assert counts.top.shape == (0, 3)

    def test_a_passage_can_be_a_target_twice(self) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        once = case.count(segments).above
        case.targets = Targets(np.repeat(case.targets.row, 2), np.repeat(case.targets.column, 2))
        np.testing.assert_array_equal(case.count(segments).above, np.repeat(once, 2, axis=0))

    def test_progress_adds_up_to_the_queries(self) -> None:
        case = Case("continuous")
        done: list[int] = []
        count_above(
            Blocks(case.matrix),
            90,
            case.targets,
            [130],
            id_ranks_of(case.ids),
            block_rows=32,
            progress=done.append,
        )
        assert done == [32, 32, 26]

    def test_progress_in_pieces_adds_up_to_the_queries(self) -> None:
        case = Case("continuous")
        done: list[int] = []
        blocks = Blocks(case.matrix, 26)
        id_ranks = id_ranks_of(case.ids)
        count_above(blocks, 90, case.targets, [130], id_ranks, piece_columns=26, progress=done.append)
        assert done == [18] * 5

    # A machine makes NaN of both signs: inf - inf has the sign bit set on x86.
    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("piece_columns", [130, 26])
    @pytest.mark.parametrize("scores", ["continuous", "four values"])
    @pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 70), (89, 129)])
    def test_a_score_that_is_not_a_number_is_refused(
        self, scores: str, row: int, column: int, piece_columns: int, bad: float
    ) -> None:
        case = Case(scores)
        case.matrix[row, column] = bad
        with pytest.raises(ModelError, match=f"a score is {abs(bad) if bad != -np.inf else bad}: the model's"):
            case.count(LAYOUTS["uneven"], piece_columns=piece_columns)

    def test_sums_over_segments_are_the_counts_of_a_larger_pool(self) -> None:
        case = Case("two decimals")
        apart = case.count([7, 40, 41, 130]).above
        np.testing.assert_array_equal(case.count([40, 130]).above, np.add.reduceat(apart, [0, 2], axis=1))
        np.testing.assert_array_equal(case.count([130]).above[:, 0], apart.sum(axis=1))

    @pytest.mark.parametrize("scores", ["continuous", "two decimals"])
    @pytest.mark.parametrize("n", [20_000, ranks.PIECE_COLUMNS + 5000], ids=["in one piece", "in two"])
    def test_large_pools_at_the_default_sizes(self, n: int, scores: str) -> None:
        """So large that a block is cut into several tiles."""
        rng = np.random.default_rng(1)
        matrix = SCORES[scores](rng, (40, n))
        targets = random_targets(rng, 40, n)
        order = rng.permutation(n).astype(np.int32)
        counts = count_above(Blocks(matrix, ranks.PIECE_COLUMNS), 40, targets, [100, n], order, top_k=10)
        for number, (row, column) in enumerate(zip(targets.row, targets.column, strict=True)):
            tied = matrix[row] == matrix[row, column]
            before = (matrix[row] > matrix[row, column]) | (tied & (order > order[column]))
            assert counts.above[number].tolist() == [before[:100].sum(), before[100:].sum()]
        top = np.lexsort((-np.broadcast_to(order, matrix.shape), -matrix), axis=1)[:, :10]
        np.testing.assert_array_equal(counts.top, top >= 100)
        np.testing.assert_array_equal(top_columns(Blocks(matrix, ranks.PIECE_COLUMNS), 40, order, 10)[0], top)


class TestTopColumns:
    @pytest.mark.parametrize("k", [1, 5, 130, 500])
    @pytest.mark.parametrize("scores", SCORES)
    def test_equals_the_definition(self, scores: str, k: int) -> None:
        case = Case(scores)
        top, scores_of_top = top_columns(Blocks(case.matrix), 90, id_ranks_of(case.ids), k)
        np.testing.assert_array_equal(scores_of_top, np.take_along_axis(case.matrix, top, axis=1))
        assert top.tolist() == [order[:k] for order in _orders(scores)]

    def test_in_several_blocks_and_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ranks, "BLOCK_ROWS", 32)
        monkeypatch.setattr(ranks, "PIECE_COLUMNS", 26)
        case = Case("two decimals")
        top, _ = top_columns(Blocks(case.matrix, 26), 90, id_ranks_of(case.ids), 40)
        assert top.tolist() == [order[:40] for order in _orders("two decimals")]

    @pytest.mark.parametrize("bad", BAD)
    def test_a_score_that_is_not_a_number_is_refused(self, bad: float) -> None:
        case = Case("continuous")
        case.matrix[40, 70] = bad
        with pytest.raises(ModelError, match=r"a score is -?(nan|inf): the model's"):
            top_columns(Blocks(case.matrix), 90, id_ranks_of(case.ids), 3)


@cache
def _count_of_the_whole(scores: str, layout: str) -> RankCounts:
    return Case(scores).count(LAYOUTS[layout])


def random_pieces(rng: np.random.Generator, segments: Sequence[int], sizes: Sequence[int]) -> list[NDArray[np.int64]]:
    """All columns in pieces of these sizes, which take from anywhere: those of a segment side by side, in any order."""
    order = rng.permutation(segments[-1])
    segment = np.searchsorted(segments, order, side="right")
    pieces = []
    for chosen in np.split(np.arange(len(order)), np.cumsum(sizes)[:-1]):
        place = rng.permutation(len(segments))[segment[chosen]]
        pieces.append(order[chosen][np.argsort(place, kind="stable")])
    return pieces


class TestPieceCounter:
    """130 passages in pieces, against the counts of the pool as a whole."""

    def counter(self, case: Case, segments: Sequence[int], **options: Any) -> PieceCounter:
        options = {"top_k": 20, "block_rows": 32, **options}
        return PieceCounter(len(case.matrix), case.targets, segments, id_ranks_of(case.ids), **options)

    def fill(self, counter: PieceCounter, case: Case, pieces: Sequence[NDArray[np.int64]]) -> None:
        """Read all pieces, then add them in the opposite order."""
        for columns in pieces:
            counter.read_targets(Blocks(case.matrix[:, columns]), columns)
        for columns in pieces[::-1]:
            counter.add(Blocks(case.matrix[:, columns]), columns)

    @pytest.mark.parametrize(
        "sizes",
        [[130], [65, 65], [1, 128, 1], [13] * 10],
        ids=lambda sizes: f"{len(sizes)} pieces",
    )
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("scores", SCORES)
    def test_equals_the_count_of_the_whole(self, scores: str, layout: str, sizes: Sequence[int]) -> None:
        self.check(scores, layout, sizes)

    # Each piece is a round of threads: every kind of score, and every layout, but not each with each.
    @pytest.mark.parametrize("sizes", [[2] * 65, [1] * 130], ids=lambda sizes: f"{len(sizes)} pieces")
    @pytest.mark.parametrize(("scores", "layout"), list(zip(SCORES, cycle(LAYOUTS), strict=False)))
    def test_tiny_pieces(self, scores: str, layout: str, sizes: Sequence[int]) -> None:
        self.check(scores, layout, sizes)

    def check(self, scores: str, layout: str, sizes: Sequence[int]) -> None:
        case, segments = Case(scores), LAYOUTS[layout]
        counter = self.counter(case, segments)
        self.fill(counter, case, random_pieces(np.random.default_rng(len(sizes)), segments, sizes))
        counts, expected = counter.counts(), _count_of_the_whole(scores, layout)
        np.testing.assert_array_equal(counts.above, expected.above, strict=True)
        np.testing.assert_array_equal(counts.top, expected.top, strict=True)

    @pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]], ids=str)
    def test_pieces_come_in_any_order(self, order: Sequence[int]) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        pieces = np.split(np.arange(130), 5)
        counter = self.counter(case, segments)
        self.fill(counter, case, [pieces[number] for number in order])
        np.testing.assert_array_equal(counter.counts().above, case.count(segments).above)
        np.testing.assert_array_equal(counter.counts().top, case.count(segments).top)

    @pytest.mark.parametrize(("block_rows", "threads"), [(1, 1), (7, 3), (90, 1), (1000, 2)])
    @pytest.mark.parametrize("scores", ["continuous", "four values"])
    def test_block_rows_and_threads_change_nothing(self, scores: str, block_rows: int, threads: int) -> None:
        case, segments = Case(scores), LAYOUTS["uneven"]
        counter = self.counter(case, segments, block_rows=block_rows, threads=threads)
        self.fill(counter, case, random_pieces(np.random.default_rng(5), segments, [40, 50, 40]))
        np.testing.assert_array_equal(counter.counts().above, case.count(segments).above)
        np.testing.assert_array_equal(counter.counts().top, case.count(segments).top)
        columns, values = self.counter(case, segments).best()
        assert columns.shape == values.shape == (90, 0)  # nothing was added yet

    @pytest.mark.parametrize("k", [0, 1, 20, 130, 500])
    @pytest.mark.parametrize("scores", SCORES)
    def test_best(self, scores: str, k: int) -> None:
        """Their places in the pool, not in the piece, with the scores that they were given."""
        case, segments = Case(scores), LAYOUTS["uneven"]
        counter = self.counter(case, segments, top_k=k)
        self.fill(counter, case, random_pieces(np.random.default_rng(2), segments, [50, 30, 50]))
        columns, values = counter.best()
        assert columns.tolist() == [order[:k] for order in _orders(scores)]
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, np.take_along_axis(case.matrix, columns, axis=1))

    @pytest.mark.parametrize("top_of", [[0], [1, 3], [2]])
    def test_best_of_some_segments(self, top_of: Sequence[int]) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        counter = self.counter(case, segments, top_of=top_of, top_k=10)
        self.fill(counter, case, random_pieces(np.random.default_rng(3), segments, [50, 30, 50]))
        columns, _ = counter.best()
        listed = np.isin(np.searchsorted(segments, np.arange(130), side="right"), top_of)
        assert columns.tolist() == [
            [column for column in order if listed[column]][:10] for order in _orders("two decimals")
        ]
        np.testing.assert_array_equal(counter.counts().above, case.count(segments).above)

    def test_without_targets_there_is_still_a_best(self) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        case.targets = Targets(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        counter = self.counter(case, segments)
        for columns in np.split(np.arange(130), 5):  # and nothing has to be read
            counter.add(Blocks(case.matrix[:, columns]), columns)
        assert counter.counts().above.shape == (0, 4)
        expected = [order[:20] for order in _orders("two decimals")]
        assert counter.best()[0].tolist() == expected

    def test_without_queries(self) -> None:
        case = Case("continuous")
        case.matrix = case.matrix[:0]
        case.targets = Targets(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        counter = self.counter(case, [130])
        self.fill(counter, case, np.split(np.arange(130), 5))
        assert counter.counts().above.shape == (0, 1)
        assert counter.counts().top.shape == counter.best()[0].shape == (0, 20)

    def test_only_pieces_with_targets_have_to_be_read(self) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        pieces = np.split(np.arange(130), 13)
        kept = np.isin(case.targets.column, np.concatenate(pieces[::2]))
        assert 0 < kept.sum() < len(kept)
        case.targets = Targets(case.targets.row[kept], case.targets.column[kept])
        counter = self.counter(case, segments)
        for columns in pieces[::2]:
            counter.read_targets(Blocks(case.matrix[:, columns]), columns)
        for columns in pieces:
            counter.add(Blocks(case.matrix[:, columns]), columns)
        np.testing.assert_array_equal(counter.counts().above, case.count(segments).above)

    def test_nothing_is_counted_before_every_target_was_read(self) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        counter = self.counter(case, segments)
        first, second = np.split(np.arange(130), 2)
        counter.read_targets(Blocks(case.matrix[:, first]), first)
        with pytest.raises(AssertionError, match="all targets are read before anything is counted"):
            counter.add(Blocks(case.matrix[:, first]), first)
        counter.read_targets(Blocks(case.matrix[:, second]), second)
        for columns in (first, second):
            counter.add(Blocks(case.matrix[:, columns]), columns)
        np.testing.assert_array_equal(counter.counts().above, case.count(segments).above)

    def test_what_was_read_but_not_added_is_not_counted(self) -> None:
        """Counts are sums over the pieces: of a pool without this one, in which its passages still have a place."""
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        counter = self.counter(case, segments)
        pieces = random_pieces(np.random.default_rng(4), segments, [50, 30, 50])
        for columns in pieces:
            counter.read_targets(Blocks(case.matrix[:, columns]), columns)
        sums = np.zeros_like(counter.counts().above)
        lines = case.matrix.tolist()
        for number, columns in enumerate(pieces, start=1):
            counter.add(Blocks(case.matrix[:, columns]), columns)
            added = np.sort(np.concatenate(pieces[:number]))
            for target, (row, column) in enumerate(zip(case.targets.row, case.targets.column, strict=True)):
                pool = sorted({*added.tolist(), int(column)})
                ends = np.searchsorted(pool, segments).tolist()
                sums[target] = above_by_definition(
                    [lines[row][x] for x in pool], [case.ids[x] for x in pool], pool.index(column), ends
                )
            np.testing.assert_array_equal(counter.counts().above, sums)
            best, _ = counter.best()
            there = set(added.tolist())
            for found, order in zip(best.tolist(), _orders("two decimals"), strict=True):
                assert found == [x for x in order if x in there][:20]

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("at", ["a target", "another passage"])
    def test_a_score_that_is_not_a_number_is_refused(self, at: str, bad: float) -> None:
        case, segments = Case("two decimals"), LAYOUTS["uneven"]
        row, column = case.targets.row[0], case.targets.column[0]
        if at == "another passage":
            column = next(x for x in range(130) if x not in case.targets.column[case.targets.row == row])
        case.matrix[row, column] = bad
        counter = self.counter(case, segments)
        with pytest.raises(ModelError, match=r"a score is -?(nan|inf): the model's"):
            self.fill(counter, case, random_pieces(np.random.default_rng(6), segments, [50, 30, 50]))


class TestTieRule:
    def test_at_equal_score_the_greater_id_in_utf8_comes_first(self) -> None:
        rng = np.random.default_rng(0)
        columns = rng.permutation(len(IDS_BY_BYTES))
        # one passage of each language in turn, so that ids have to be compared across languages
        by_language = {code: sorted(columns[start::2]) for start, code in enumerate(("ar", "de"))}
        collection = Collection(
            name="ids",
            passages={
                code: Passages(code, tuple(IDS_BY_BYTES[c] for c in chosen), ("same text",) * len(chosen))
                for code, chosen in by_language.items()
            },
            queries={},
            paragraph_cluster={},
            article_cluster={},
            revision="1",
            sha256={},
        )
        id_ranks = collection.id_ranks(collection.parts)
        ids = [passage for code in collection.parts for passage in collection.passages[code].ids]
        matrix = np.zeros((1, len(ids)), dtype=np.float32)
        targets = Targets(np.zeros(len(ids), dtype=np.int32), np.arange(len(ids), dtype=np.int64))
        counts = count_above(Blocks(matrix), 1, targets, [len(ids)], id_ranks)
        place = dict(zip(ids, counts.above[:, 0].tolist(), strict=True))
        assert sorted(ids, key=place.__getitem__, reverse=True) == list(IDS_BY_BYTES)
        assert [ids[column] for column in top_columns(Blocks(matrix), 1, id_ranks, 100)[0][0]] == list(
            IDS_BY_BYTES[::-1]
        )

    def test_a_passage_never_stands_before_itself(self) -> None:
        matrix = np.full((1, 1), 0.5, dtype=np.float32)
        targets = Targets(np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int64))
        for segments in ([1], [0, 1], [1, 1]):
            assert count_above(Blocks(matrix), 1, targets, segments, np.zeros(1, dtype=np.int32)).above.sum() == 0

    def test_relabelling_changes_only_ties(self) -> None:
        tied, free = Case("four values"), Case("continuous")
        for case, changes in ((tied, True), (free, False)):
            before = case.count([130]).above
            case.ids = [passage[::-1] for passage in case.ids]
            assert (case.count([130]).above != before).any() == changes
