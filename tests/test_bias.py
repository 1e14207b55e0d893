"""Language bias from ranks, by its definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hybrid_bench.bias import bias_measures, rank_distance
from hybrid_bench.metrics import NOT_RETRIEVED, RelevantRanks


def relevant_ranks(queries: Sequence[Sequence[int]]) -> RelevantRanks:
    rows = [(number, rank) for number, ranks in enumerate(queries) for rank in ranks]
    query, rank = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    gain = np.ones(len(rows), dtype=np.int32)
    return RelevantRanks.sort(len(queries), query, rank, gain, np.zeros(len(rows), dtype=np.int16))


def random_queries(seed: int) -> list[list[int]]:
    """60 queries with 2 to 11 relevant of 13,014 passages."""
    rng = np.random.default_rng(seed)
    return [(1 + rng.choice(13_014, size=2 + number % 10, replace=False)).tolist() for number in range(60)]


class TestRankDistance:
    @pytest.mark.parametrize("seed", range(5))
    def test_is_the_worst_rank_less_the_best(self, seed: int) -> None:
        queries = random_queries(seed)
        distance = rank_distance(relevant_ranks(queries))
        assert distance is not None
        assert distance.tolist() == [max(ranks) - min(ranks) for ranks in queries]

    def test_is_least_where_the_passages_stand_side_by_side(self) -> None:
        distance = rank_distance(relevant_ranks([[5, 4, 6], [1, 2]]))
        assert distance is not None
        assert distance.tolist() == [2, 1]

    def test_does_not_overflow(self) -> None:
        distance = rank_distance(relevant_ranks([[1, NOT_RETRIEVED - 1]]))
        assert distance is not None
        assert distance.tolist() == [2.0**31 - 3]

    @pytest.mark.parametrize(
        "queries",
        [
            [[1], [1, 2]],
            [[1, 2], [1]],
            [[3]],
            [[1, 2], [4, NOT_RETRIEVED]],
            [[NOT_RETRIEVED, NOT_RETRIEVED], [1, 2]],
        ],
        ids=["first alone", "last alone", "only one", "one not retrieved", "none retrieved"],
    )
    def test_does_not_apply(self, queries: list[list[int]]) -> None:
        assert rank_distance(relevant_ranks(queries)) is None
        assert bias_measures(relevant_ranks(queries)) == {}


class TestBiasMeasures:
    @pytest.mark.parametrize("seed", range(5))
    def test_are_mean_and_median(self, seed: int) -> None:
        queries = random_queries(seed)[: 59 + seed % 2]
        distances = sorted(max(ranks) - min(ranks) for ranks in queries)
        middle = distances[(len(distances) - 1) // 2 : len(distances) // 2 + 1]
        assert bias_measures(relevant_ranks(queries)) == pytest.approx(
            {
                "bias_rank_distance": sum(distances) / len(distances),
                "bias_rank_distance_median": sum(middle) / len(middle),
            },
            rel=1e-12,
        )
