"""Measures from ranks, by their definitions written out query by query; other programs are asked in tests/parity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from hybrid_bench.measures.metrics import K_VALUES, NOT_RETRIEVED, RelevantRanks, measures, per_query

Query = Sequence[tuple[int, int]]
"""The ranks of a query's relevant passages with their grades."""


def relevant_ranks(queries: Sequence[Query]) -> RelevantRanks:
    rows = [(number, rank, gain) for number, query in enumerate(queries) for rank, gain in query]
    query, rank, gain = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    return RelevantRanks.sort(len(queries), query, rank, gain, np.zeros(len(rows), dtype=np.int16))


def random_queries(seed: int, *, grades: int = 1, lost: float = 0.0, n: int = 1500) -> list[Query]:
    """50 queries with 1 to 50 relevant of n passages, some right at the top; a share is not retrieved."""
    rng = np.random.default_rng(seed)
    queries: list[Query] = []
    for number in range(1, 51):
        depth = n if number % 2 else max(number, 60)
        ranks = rng.choice(np.arange(1, depth + 1), size=number, replace=False)
        ranks[rng.random(number) < lost] = NOT_RETRIEVED
        queries.append(list(zip(ranks.tolist(), rng.integers(1, grades + 1, number).tolist(), strict=True)))
    return queries


def by_definition(query: Query, k: int) -> dict[str, float]:
    """All measures of one query that take a cut-off."""
    grade = {rank: gain for rank, gain in query if rank != NOT_RETRIEVED}
    n_relevant = len(query)
    found = [place for place in range(1, k + 1) if place in grade]
    ideal = sorted((gain for _, gain in query), reverse=True)[:k]
    gained = sum(grade[place] / math.log2(place + 1) for place in found)
    precisions = [sum(other <= place for other in found) / place for place in found]
    return {
        f"ndcg_at_{k}": gained / sum(gain / math.log2(place + 2) for place, gain in enumerate(ideal)),
        f"map_at_{k}": sum(precisions) / n_relevant,
        f"recall_at_{k}": len(found) / n_relevant,
        f"precision_at_{k}": len(found) / k,
        f"mrr_at_{k}": 1 / min(found) if found else 0.0,
        f"hit_rate_at_{k}": 1.0 if found else 0.0,
    }


def everything_by_definition(query: Query, n: int = 1500) -> dict[str, float]:
    full = by_definition(query, n)
    return {
        "map": full[f"map_at_{n}"],
        "mrr": full[f"mrr_at_{n}"],
        "lareqa_map_at_20": by_definition(query, 20)["map_at_20"] * len(query) / min(len(query), 20),
        **{name: score for k in K_VALUES for name, score in by_definition(query, k).items()},
    }


CASES: Mapping[str, Sequence[Query]] = {
    "binary": random_queries(1),
    "graded": random_queries(2, grades=4),
    "partly not retrieved": random_queries(3, lost=0.5),
    "graded, partly not retrieved": random_queries(4, grades=3, lost=0.5),
    "nothing retrieved": random_queries(5, lost=1.1),
    "one query": [[(3, 1)]],
}


class TestPerQuery:
    @pytest.mark.parametrize("case", CASES)
    def test_equals_the_definitions(self, case: str) -> None:
        queries = CASES[case]
        scores = per_query(relevant_ranks(queries))
        expected = [everything_by_definition(query) for query in queries]
        assert set(scores) == set(expected[0])
        for name, values in scores.items():
            assert values.shape == (len(queries),)
            # float64 in another order of summation
            np.testing.assert_allclose(values, [score[name] for score in expected], rtol=1e-12, atol=0, err_msg=name)

    def test_by_hand(self) -> None:
        """Three relevant passages at ranks 2, 3 and 30, the best of them at 3; k = 20."""
        ranks = relevant_ranks([[(30, 1), (2, 1), (3, 2)]])
        scores = {name: values.item() for name, values in per_query(ranks, [20]).items()}
        gained, ideal = 1 / math.log2(3) + 2 / 2, 2 / 1 + 1 / math.log2(3) + 1 / 2
        assert scores == pytest.approx(
            {
                "map": (1 / 2 + 2 / 3 + 3 / 30) / 3,
                "ndcg_at_20": gained / ideal,
                "map_at_20": (1 / 2 + 2 / 3) / 3,
                "recall_at_20": 2 / 3,
                "precision_at_20": 2 / 20,
                "mrr_at_20": 1 / 2,
                "hit_rate_at_20": 1,
                "mrr": 1 / 2,
                "lareqa_map_at_20": (1 / 2 + 2 / 3) / 3,
            },
            rel=1e-15,
        )

    @pytest.mark.parametrize("n_relevant", [1, 2, 19, 20, 21, 40])
    def test_lareqas_figure_is_1_when_the_first_20_are_all_they_can_be(self, n_relevant: int) -> None:
        """Where more than 20 are relevant, AP@20 with their number as divisor never reaches 1."""
        scores = per_query(relevant_ranks([[(rank, 1) for rank in range(1, n_relevant + 1)]]))
        assert scores["lareqa_map_at_20"] == pytest.approx(1, rel=1e-15)
        assert scores["map_at_20"] == pytest.approx(min(1, 20 / n_relevant), rel=1e-15)

    def test_lareqas_figure_ends_at_rank_20(self) -> None:
        scores = per_query(relevant_ranks([[(20, 1)], [(21, 1)]]))
        np.testing.assert_array_equal(scores["lareqa_map_at_20"], [1 / 20, 0])

    def test_a_perfect_ranking_scores_1(self) -> None:
        ranks = relevant_ranks([[(rank, 4 - rank) for rank in (1, 2, 3)], [(1, 2), (2, 2)]])
        scores = per_query(ranks)
        complete = {f"{name}_at_{k}" for name in ("map", "recall") for k in K_VALUES if k >= 3}
        first = {f"{name}_at_{k}" for name in ("ndcg", "mrr", "hit_rate") for k in K_VALUES}
        for name in {"map", "mrr", "lareqa_map_at_20"} | complete | first:
            np.testing.assert_allclose(scores[name], 1, rtol=1e-15, err_msg=name)

    def test_what_was_not_retrieved_counts_nothing_however_deep_the_cut(self) -> None:
        ranks = relevant_ranks([[(NOT_RETRIEVED, 3)], [(1, 1), (NOT_RETRIEVED, 1)]])
        scores = per_query(ranks, [1, int(NOT_RETRIEVED) - 1])
        assert {name: values[0] for name, values in scores.items()} == dict.fromkeys(scores, 0.0)
        assert scores["map"][1] == 0.5
        assert scores[f"recall_at_{int(NOT_RETRIEVED) - 1}"][1] == 0.5

    def test_names_and_order_do_not_depend_on_the_queries(self) -> None:
        names = [list(per_query(relevant_ranks(queries))) for queries in CASES.values()]
        assert names[0][0] == "map"
        assert all(other == names[0] for other in names)


class TestRelevantRanks:
    def test_sort_brings_columns_of_any_order_together(self) -> None:
        rng = np.random.default_rng(0)
        queries = random_queries(6, grades=3)
        expected = relevant_ranks(queries)
        shuffled = rng.permutation(len(expected.query))
        ranks = RelevantRanks.sort(
            50,
            expected.query[shuffled],
            expected.rank[shuffled],
            expected.gain[shuffled],
            np.arange(len(shuffled), dtype=np.int16)[shuffled],
        )
        np.testing.assert_array_equal(ranks.query, expected.query)
        np.testing.assert_array_equal(ranks.rank, expected.rank)
        np.testing.assert_array_equal(ranks.gain, expected.gain)
        np.testing.assert_array_equal(ranks.language, np.arange(len(shuffled)))

    def test_number_and_place_of_the_relevant_passages(self) -> None:
        ranks = relevant_ranks([[(9, 1), (4, 1)], [(7, 1)], [(1, 1), (NOT_RETRIEVED, 1), (3, 1)]])
        assert ranks.n_relevant.tolist() == [2, 1, 3]
        assert ranks.place.tolist() == [1, 2, 1, 1, 2, 3]


class TestMeasures:
    @pytest.mark.parametrize("case", CASES)
    def test_are_means_over_queries(self, case: str) -> None:
        queries = CASES[case]
        expected = [everything_by_definition(query) for query in queries]
        means = {name: math.fsum(score[name] for score in expected) / len(expected) for name in expected[0]}
        found = measures(relevant_ranks(queries))
        assert found == pytest.approx(means | {"accuracy": means["recall_at_1"]}, rel=1e-12)
        assert all(type(value) is float for value in found.values())

    def test_cut_offs_can_be_chosen(self) -> None:
        names = measures(relevant_ranks(CASES["binary"]), [7])
        assert {name for name in names if "_at_" in name} == {
            *(f"{name}_at_7" for name in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate")),
            "lareqa_map_at_20",
        }
        assert "accuracy" not in names
