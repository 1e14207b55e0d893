"""Language bias from ranks, by its definition; what is expected at random, by going through all rankings."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, friedmanchisquare

from bias_cases import Asked, Case, arranged, by_definition, expected_over_sets, js, random_case, table_of
from hybrid_bench.languages import Setting
from hybrid_bench.measures import bias
from hybrid_bench.measures.bias import (
    MEASURES,
    absent,
    bias_measures,
    diagonal_gap,
    higher_is_better,
    inputs_of,
    kendall_w,
    language_matrix,
    language_places,
    per_query_bias,
    random_ranking,
    rank_distance,
)
from hybrid_bench.measures.metrics import NOT_RETRIEVED, RelevantRanks

if TYPE_CHECKING:
    import pyarrow as pa

KEYS = [measure.key for measure in MEASURES]
RANKS = KEYS[:6]
"""Those that need the rank of every relevant passage, of a query or two."""
PARALLEL = KEYS[:10]
"""Those that need parallel judgments."""
TOP = KEYS[10:]
"""Those that need the languages at the top."""
DERIVED = [f"bias_js_at_10_{kind}_{what}" for kind in ("uniform", "prior") for what in ("expected", "excess")]

#: Eleven languages with nearly as many passages each, as in XQuAD-R.
ELEVEN = [118, 120, 117, 119, 118, 121, 118, 117, 119, 118, 115]
#: Seven languages, one of which has far more, as in MLQA-R.
SEVEN = [255, 236, 626, 179, 243, 283, 232]
CASES = {
    "eleven languages": random_case(1, ELEVEN, 40),
    "own language first": random_case(2, ELEVEN, 40, query_language=4, favour=0.7),
    "own language alone first": random_case(3, ELEVEN, 41, query_language=10, favour=2),
    "two to four of seven": random_case(4, SEVEN, 60, lambda number: 2 + number % 3, query_language=5, favour=0.3),
    "two of two": random_case(5, [40, 11], 30, query_language=1),
    "a language is not in the pool": random_case(6, [50, 0, 60, 70], 30, query_language=2),
    "two queries": random_case(7, ELEVEN, 2),
    "a small pool": random_case(8, [4, 4, 5], 30),
}


def ranks_of(queries: Sequence[Sequence[int]]) -> RelevantRanks:
    """Passages of as many languages as there are ranks."""
    asked = [Asked([(rank, language) for language, rank in enumerate(ranks)], []) for ranks in queries]
    return Case(asked, [NOT_RETRIEVED], known=False).inputs()[0]


class TestDefinition:
    @pytest.mark.parametrize("name", CASES)
    def test_every_measure(self, name: str) -> None:
        case = CASES[name]
        expected = by_definition(case)
        found = bias_measures(*case.inputs())
        assert set(found) == set(expected) | set(DERIVED)
        assert ("bias_kendall_w" in found) == (name != "two to four of seven")
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-12, abs=1e-12), key

    @pytest.mark.parametrize("name", CASES)
    def test_every_query(self, name: str) -> None:
        """The values of a query are the measures of that query alone."""
        case = CASES[name]
        found = per_query_bias(*case.inputs())
        assert set(found) == set(KEYS) - {"bias_rank_distance_median", "bias_kendall_w"}
        for number, query in enumerate(case.queries):
            expected = by_definition(replace(case, queries=[query]))
            for key, scores in found.items():
                value = scores.value[scores.query == number]
                assert value.tolist() == pytest.approx([expected[key]], rel=1e-12, abs=1e-12), key

    def test_by_hand(self) -> None:
        """Two German queries in a pool of 16 passages: 8 German, 4 English, 4 Thai."""
        de, en, th = range(3)
        case = Case(
            [
                arranged([de, de, de, de, en, th, de, de, de, de, en, en, en, th, th, th], (2, 5, 14)),
                arranged([en, th, de, en, th, de, en, th, de, en, de, de, de, de, de, th], (1, 2, 3)),
            ],
            [8, 4, 4],
            query_language=de,
        )
        found = bias_measures(*case.inputs())
        assert {key: found[key] for key in PARALLEL if key != "bias_log_rank_std"} == pytest.approx(
            {
                "bias_rank_distance": (12 + 2) / 2,
                "bias_rank_distance_median": 7,
                "bias_rank_distance_norm": (12 + 2) / 2 / 8.5,
                "bias_rank_variance": ((25 + 4 + 49) / 3 + 2 / 3) / 2,
                "bias_max_rank_norm": 50 * (math.log2(16 / 14) / math.log2(16 / 3) + 1),
                "bias_complete_at_20": 1,
                "bias_complete_at_100": 1,
                "bias_language_preference": 0.5,
                # places: de 1, en 2, th 3, then en 1, th 2, de 3: sums 4, 3, 5
                "bias_kendall_w": 12 * 2 / (4 * 24),
            },
            abs=1e-12,
        )
        uniform = (js([0.8, 0.1, 0.1], [1 / 3] * 3) + js([0.3, 0.4, 0.3], [1 / 3] * 3)) / 2
        assert found["bias_js_at_10_uniform"] == pytest.approx(uniform, abs=1e-12)
        assert [found[key] for key in TOP[-4:]] == [0, 0.5, 0.5, 0]

    def test_log_ranks_that_lie_close(self) -> None:
        """Side by side far down, where the difference of squares would lose all digits."""
        ranks = [10_000_001, 10_000_000, 10_000_002]
        case = Case([Asked(list(zip(ranks, range(3), strict=True)), [0])], [20_000_000] * 3, known=False)
        found = bias_measures(*case.inputs())
        assert found["bias_log_rank_std"] == pytest.approx(math.sqrt(2 / 3) / 10_000_001, rel=1e-6)
        assert found["bias_rank_variance"] == pytest.approx(2 / 3, rel=1e-12)

    def test_only_queries_with_a_passage_in_their_language_have_a_preference(self) -> None:
        relevant = [[(1, 1), (2, 2)], [(3, 0), (9, 2), (4, 1)], [(3, 1), (9, 0)]]
        inputs = Case([Asked(of_query, []) for of_query in relevant], [9, 9, 9], known=False).inputs()
        scores = per_query_bias(*inputs)
        assert scores["bias_language_preference"].query.tolist() == [1, 2]
        assert scores["bias_language_preference"].value.tolist() == [1, 0]
        assert scores["bias_rank_distance"].query.tolist() == [0, 1, 2]
        assert bias_measures(*inputs)["bias_language_preference"] == 1 / 2
        assert random_ranking(*inputs)["bias_language_preference"] == (1 / 3 + 1 / 2) / 2

    def test_divergence_is_that_of_scipy(self) -> None:
        case = CASES["two to four of seven"]
        scores = per_query_bias(*case.inputs())["bias_js_at_10_prior"].value
        target = np.array(SEVEN) / sum(SEVEN)
        for query, score in zip(case.queries, scores, strict=True):
            assert score == pytest.approx(jensenshannon(np.bincount(query.top[:10], minlength=7), target, 2) ** 2)


class TestRankDistance:
    def test_is_least_where_the_passages_stand_side_by_side(self) -> None:
        distance = rank_distance(ranks_of([[5, 4, 6], [1, 2]]))
        assert distance is not None
        assert distance.tolist() == [2, 1]

    def test_does_not_overflow(self) -> None:
        distance = rank_distance(ranks_of([[1, NOT_RETRIEVED - 1]]))
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
        assert rank_distance(ranks_of(queries)) is None


class TestKendallW:
    def test_is_that_of_scipy(self) -> None:
        """Friedman's statistic is m (n - 1) W."""
        places = language_places(CASES["own language first"].inputs()[0])
        m, n = places.shape
        assert kendall_w(places) == pytest.approx(friedmanchisquare(*places.T).statistic / (m * (n - 1)))

    def test_is_1_where_all_agree_and_0_where_none_is_ahead(self) -> None:
        assert kendall_w(np.array([[1, 2, 3]] * 4)) == 1
        assert kendall_w(np.array([[1, 2, 3], [2, 3, 1], [3, 1, 2]])) == 0

    def test_pooled_query_languages_hide_it(self) -> None:
        """Own language first, then the others in a circle: full agreement within a query language, none over all."""
        of_language = [np.roll([1, 2, 3], shift)[None].repeat(5, axis=0) for shift in range(3)]
        assert [kendall_w(places) for places in of_language] == [1, 1, 1]
        assert kendall_w(np.concatenate(of_language)) == 0

    def test_places_are_by_language(self) -> None:
        ranks = Case([Asked([(9, 2), (4, 0), (7, 5)], []), Asked([(1, 5), (2, 2), (3, 0)], [])], [9] * 6, known=False)
        assert language_places(ranks.inputs()[0]).tolist() == [[1, 3, 2], [3, 2, 1]]

    @pytest.mark.parametrize(
        "languages", [[[0, 1], [0]], [[0, 1], [0, 2]], [[0, 0], [0, 0]], [[0, 1, 2], [0]]], ids=str
    )
    def test_needs_the_same_languages(self, languages: list[list[int]]) -> None:
        queries = [Asked(list(enumerate(of_query, 1)), []) for of_query in languages]
        ranks, _ = Case(queries, [9] * 3, known=False).inputs()
        with pytest.raises(ValueError, match="the same languages"):
            language_places(ranks)


def side_by_side(passages: Sequence[int], n_queries: int) -> Case:
    """Languages in turn, beginning with another one for each query; the first passage of each is relevant."""
    n = len(passages)
    queries = []
    for number in range(n_queries):
        turn = sorted(
            (place, (language - number) % n, language) for language in range(n) for place in range(passages[language])
        )
        queries.append(arranged([language for *_, language in turn], range(1, n + 1)))
    return Case(queries, passages)


def one_by_one(passages: Sequence[int], n_queries: int, *, last: bool) -> Case:
    """All passages of the first language, then all of the second; the last, or the first, of each is relevant."""
    order = [language for language, count in enumerate(passages) for _ in range(count)]
    ends = np.cumsum(passages)
    relevant = ends if last else ends - passages + 1
    return Case([arranged(order, relevant.tolist())] * n_queries, passages)


class TestDirection:
    def test_no_bias_is_better(self) -> None:
        passages = [30] * 11
        best = bias_measures(*side_by_side(passages, 22).inputs())
        worst = bias_measures(*one_by_one(passages, 22, last=False).inputs())
        for measure in MEASURES:
            if measure.higher_is_better is not None:
                better = best[measure.key] > worst[measure.key]
                assert better == measure.higher_is_better, measure.key
                assert best[measure.key] != worst[measure.key], measure.key

    def test_best_and_worst_values(self) -> None:
        best = bias_measures(*side_by_side([30] * 10, 20).inputs())
        worst = bias_measures(*one_by_one([30] * 10, 20, last=True).inputs())
        ends = {
            "bias_rank_distance": (9, 270),
            "bias_max_rank_norm": (100, 0),
            "bias_complete_at_20": (1, 0),
            "bias_complete_at_100": (1, 0),
            "bias_language_preference": (0.1, 1),
            "bias_kendall_w": (0, 1),
            "bias_js_at_10_uniform": (0, js([1] + [0] * 9, [0.1] * 10)),
            "bias_js_at_10_uniform_excess": (
                -best["bias_js_at_10_uniform_expected"],
                js([1] + [0] * 9, [0.1] * 10) - best["bias_js_at_10_uniform_expected"],
            ),
            "bias_top1_relevant_own": (0.1, 0),
            "bias_top1_relevant_other": (0.9, 0),
            "bias_top1_irrelevant_own": (0, 1),
        }
        for key, values in ends.items():
            assert (best[key], worst[key]) == pytest.approx(values, abs=1e-12), key

    def test_uniform_and_prior_differ(self) -> None:
        """The same shares as in the pool are no deviation from the prior, but are one from uniform."""
        order = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
        found = bias_measures(*Case([arranged(order * 4, (1, 9))], [32, 8]).inputs())
        assert found["bias_js_at_10_prior"] == pytest.approx(0, abs=1e-15)
        assert found["bias_js_at_10_uniform"] == pytest.approx(js([0.8, 0.2], [0.5, 0.5]))
        assert found["bias_awrf_prior"] > found["bias_awrf_uniform"]

    def test_the_four_ways_sum_to_1(self) -> None:
        for case in CASES.values():
            for values in (bias_measures(*case.inputs()), random_ranking(*case.inputs())):
                assert sum(values[key] for key in TOP[-4:]) == pytest.approx(1, abs=1e-12)


class TestRandomRanking:
    """Against all rankings of a small pool, and against many of a large one."""

    @pytest.mark.parametrize(("n", "size"), [(2, 7), (3, 12), (5, 11), (4, 5)])
    def test_ranks(self, n: int, size: int) -> None:
        """Four queries with n relevant passages, in all sets of n ranks."""
        case = random_case(0, [1] * (n - 1) + [size - n + 1], 4)
        found = random_ranking(*case.inputs())
        everything: dict[str, Callable[[tuple[int, ...]], float]] = {
            "bias_rank_distance": lambda ranks: ranks[-1] - ranks[0],
            "bias_rank_distance_norm": lambda ranks: (ranks[-1] - ranks[0]) / ((size + 1) * (n - 1) / (n + 1)),
            "bias_rank_variance": statistics.pvariance,
            "bias_max_rank_norm": lambda ranks: 100 * math.log2(size / ranks[-1]) / math.log2(size / n),
            "bias_complete_at_20": lambda ranks: float(ranks[-1] <= 20),
        }
        for key, value in everything.items():
            assert found[key] == pytest.approx(expected_over_sets(n, size, value), rel=1e-12), key
        assert found["bias_language_preference"] == 1 / n
        assert found["bias_kendall_w"] == 1 / 4
        distances = [ranks[-1] - ranks[0] for ranks in combinations(range(1, size + 1), n)]
        assert found["bias_rank_distance_median"] == statistics.median(distances)
        log_rank_std = expected_over_sets(n, size, lambda ranks: statistics.pstdev(map(math.log, ranks)))
        assert found["bias_log_rank_std"] == pytest.approx(log_rank_std, abs=0.006)  # 3 standard errors

    @pytest.mark.parametrize("n", [2, 3, 19, 20])
    def test_complete_at_20(self, n: int) -> None:
        found = random_ranking(*random_case(0, [2] * n, 3).inputs())
        expected = math.prod((20 - i) / (2 * n - i) for i in range(n)) if n > 10 else 1
        assert found["bias_complete_at_20"] == pytest.approx(expected, rel=1e-12)

    def test_mixed_numbers_of_relevant_passages(self) -> None:
        """Each query counts once, whatever its n; the median is that of the mixture."""
        case = random_case(0, [3, 4, 2, 4], 7, lambda number: 2 + number % 3)
        found = random_ranking(*case.inputs())
        sets = {n: list(combinations(range(1, 14), n)) for n in (2, 3, 4)}
        counts = {2: 3, 3: 2, 4: 2}
        expected = sum(count * statistics.mean(r[-1] - r[0] for r in sets[n]) for n, count in counts.items()) / 7
        assert found["bias_rank_distance"] == pytest.approx(expected, rel=1e-12)
        assert found["bias_rank_distance_norm"] == 1
        assert found["bias_language_preference"] == pytest.approx((3 / 2 + 2 / 3 + 2 / 4) / 7)
        every = math.lcm(*map(len, sets.values()))
        weighted = [r[-1] - r[0] for n, count in counts.items() for r in sets[n] * (count * every // len(sets[n]))]
        assert found["bias_rank_distance_median"] == statistics.median(weighted)

    @pytest.mark.parametrize("passages", [[7, 3, 2], [1, 10], [4, 4, 4], [0, 6, 6, 1]], ids=str)
    def test_first_10(self, passages: list[int]) -> None:
        case = random_case(0, passages, 3, lambda number: 2, query_language=1)
        found = random_ranking(*case.inputs())
        within = [count for count in passages if count]
        pool = [language for language, count in enumerate(within) for _ in range(count)]
        shares = [[first.count(x) / 10 for x in range(len(within))] for first in combinations(pool, 10)]
        for kind, target in (("uniform", [1 / len(within)] * len(within)), ("prior", [x / len(pool) for x in within])):
            expected = math.fsum(js(p, target) for p in shares) / len(shares)
            assert found[f"bias_js_at_10_{kind}"] == pytest.approx(expected, rel=1e-12)
            assert found[f"bias_js_at_10_{kind}_expected"] == found[f"bias_js_at_10_{kind}"]
            assert found[f"bias_js_at_10_{kind}_excess"] == 0

    @pytest.mark.parametrize(("languages", "expected"), [(11, 0.25), (18, 0.38)])
    def test_first_10_of_many_languages(self, languages: int, expected: float) -> None:
        found = random_ranking(*random_case(0, [1000] * languages, 1, lambda number: 2).inputs())
        assert found["bias_js_at_10_uniform_expected"] == pytest.approx(expected, abs=0.005)
        assert found["bias_js_at_10_prior_expected"] == found["bias_js_at_10_uniform_expected"]

    @pytest.mark.parametrize("passages", [[4, 2, 2], [1, 1, 5], [3, 3]], ids=str)
    def test_attention(self, passages: list[int]) -> None:
        found = random_ranking(*random_case(0, passages, 2).inputs())
        pool = [language for language, count in enumerate(passages) for _ in range(count)]
        orders = sorted(set(permutations(pool)))
        for kind in ("uniform", "prior"):
            values = [by_definition(Case([arranged(o, (1, 2))], passages))[f"bias_awrf_{kind}"] for o in orders]
            assert found[f"bias_awrf_{kind}"] == pytest.approx(statistics.mean(values), abs=0.0015)

    def test_top_passage(self) -> None:
        """Of 12 passages, 5 are in the query's language; one query has a relevant one among them, the other has not."""
        case = Case([Asked([(1, 0), (5, 1)], [0] * 12), Asked([(2, 1), (5, 2)], [0] * 12)], [5, 4, 3])
        found = random_ranking(*case.inputs())
        expected = [1 / 24, (1 + 2) / 24, 9 / 24, (6 + 5) / 24]
        assert [found[key] for key in TOP[-4:]] == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("passages", "n_relevant"),
        [([30, 50, 20, 40, 60], None), (SEVEN, lambda number: 2 + number % 3)],
        ids=["five languages", "two to four of seven"],
    )
    def test_is_what_random_rankings_give(self, passages: list[int], n_relevant: Callable[[int], int] | None) -> None:
        inputs = random_case(11, passages, 3000, n_relevant, query_language=3).inputs()
        found, expected, scores = bias_measures(*inputs), random_ranking(*inputs), per_query_bias(*inputs)
        assert list(found) == list(expected)
        for key, values in scores.items():
            error = max(float(values.value.std()) / math.sqrt(len(values.value)), 1e-3 / math.sqrt(3000))
            assert found[key] == pytest.approx(expected[key], abs=4 * error), key
            if key.startswith("bias_js_"):
                assert found[f"{key}_excess"] == pytest.approx(0, abs=4 * error)
        # the median's standard error, were the distances normal, and twice that
        error = 2 * 1.25 * float(scores["bias_rank_distance"].value.std()) / math.sqrt(3000)
        assert found["bias_rank_distance_median"] == pytest.approx(expected["bias_rank_distance_median"], abs=2 * error)
        if n_relevant is None:
            assert found["bias_kendall_w"] < chi2.ppf(0.9999, 4) / (3000 * 4)

    def test_few_queries_agree_by_chance(self) -> None:
        inputs = [random_case(seed, [9, 9, 9], 5).inputs() for seed in range(400)]
        values = [bias_measures(*case)["bias_kendall_w"] for case in inputs]
        assert random_ranking(*inputs[0])["bias_kendall_w"] == 0.2
        assert statistics.mean(values) == pytest.approx(0.2, abs=4 * statistics.stdev(values) / 20)

    def test_repeats(self) -> None:
        inputs = CASES["two to four of seven"].inputs()
        first = random_ranking(*inputs)
        for function in (bias._expected_awrf, bias._expected_log_rank_std):
            function.cache_clear()
        assert random_ranking(*inputs) == first


def with_ranks(case: Case, change: Callable[[int, int, int], int]) -> Case:
    """The case with other ranks: a function of the query's number, the rank and the language."""
    return replace(
        case,
        queries=[
            replace(query, relevant=[(change(number, rank, code), code) for rank, code in query.relevant])
            for number, query in enumerate(case.queries)
        ],
    )


def cut(case: Case, depth: int) -> Case:
    """The case as a search gives it that goes no deeper."""
    shallow = with_ranks(case, lambda number, rank, language: rank if rank <= depth else NOT_RETRIEVED)
    return replace(shallow, depth=depth, queries=[replace(query, top=query.top[:depth]) for query in shallow.queries])


FIVE = random_case(20, [30, 30, 30, 30, 30], 30)
FIRST, *REST = FIVE.queries
ONE_RELEVANT = replace(FIVE, queries=[replace(FIRST, relevant=FIRST.relevant[:1]), *REST])
TWICE = replace(FIVE, queries=[replace(FIRST, relevant=[*FIRST.relevant, (NOT_RETRIEVED - 1, 0)]), *REST])

#: What does not apply, with a part of the reason.
ABSENT: dict[str, tuple[Case, dict[str, Sequence[str]]]] = {
    "everything applies": (FIVE, {}),
    "one relevant passage": (ONE_RELEVANT, {"only one relevant": PARALLEL}),
    "not parallel": (TWICE, {"not parallel": PARALLEL}),
    "a language is missing": (
        replace(FIVE, queries=[replace(FIRST, relevant=FIRST.relevant[1:]), *REST]),
        {"lacks a relevant passage": ["bias_kendall_w"]},
    ),
    "truncated at 120": (cut(FIVE, 120), {"not retrieved among the first 120": [*RANKS, "bias_kendall_w"]}),
    "truncated at 70": (
        cut(FIVE, 70),
        {
            "not retrieved among the first 70": [*RANKS, "bias_kendall_w"],
            "only the first 70": ["bias_complete_at_100"],
            "the first 70 passages only": ["bias_awrf_uniform", "bias_awrf_prior"],
        },
    ),
    "truncated at 1": (
        cut(FIVE, 1),
        {
            "not retrieved among the first 1": [*RANKS, "bias_kendall_w"],
            "only the first 1 ": ["bias_complete_at_20", "bias_complete_at_100"],
            "no relevant passage of a query": ["bias_language_preference"],
            "the first 1 passages only": TOP[:4],
        },
    ),
    "truncated, but all were found": (replace(FIVE, depth=149), {}),
    "a search that gave less than it was asked for": (
        with_ranks(FIVE, lambda number, rank, code: NOT_RETRIEVED if number == 3 and code == 4 else rank),
        {"not retrieved, so": [*RANKS, "bias_kendall_w"]},
    ),
    "one query": (replace(FIVE, queries=[FIRST]), {"only one query": ["bias_kendall_w"]}),
    "no query": (replace(FIVE, queries=[], known=False), {"no query": KEYS}),
    "top not known": (replace(FIVE, known=False), {"are not known": TOP}),
    "pool of one language": (
        Case([arranged([0] * 20, [3])] * 2, [20], known=False),
        {"only one relevant": PARALLEL, "only one language": TOP},
    ),
    "query language not in the pool": (
        replace(random_case(21, [0, 30, 40], 9, query_language=1), query_language=0),
        {"in its own language": ["bias_language_preference"]},
    ),
    "more languages than 20": (
        random_case(22, [10] * 21, 5),
        {"more than 20 relevant": ["bias_complete_at_20"]},
    ),
    "nothing but relevant passages": (
        random_case(23, [1, 1, 1], 5),
        {"every passage": ["bias_max_rank_norm"], "the first 3 passages only": TOP[:2]},
    ),
}


class TestAbsent:
    @pytest.mark.parametrize("name", ABSENT)
    def test_is_not_there_and_has_a_reason(self, name: str) -> None:
        case, expected = ABSENT[name]
        inputs = case.inputs()
        reasons = absent(*inputs)
        assert {key: [text for text in expected if text in reason] for key, reason in reasons.items()} == {
            key: [text] for text, keys in expected.items() for key in keys
        }
        assert all(reason == reason.strip(".") and len(reason) < 90 for reason in reasons.values())
        found = bias_measures(*inputs)
        assert [key for key in found if key not in DERIVED] == [key for key in KEYS if key not in reasons]
        assert set(found) & set(DERIVED) == {key for key in DERIVED if key.rpartition("_")[0] in found}
        assert random_ranking(*inputs).keys() == found.keys()
        assert all(math.isfinite(value) for value in (found | random_ranking(*inputs)).values())
        assert per_query_bias(*inputs).keys() == found.keys() - set(DERIVED) - {
            "bias_rank_distance_median",
            "bias_kendall_w",
        }

    @pytest.mark.parametrize("depth", [120, 70, 30])
    def test_what_is_left_of_a_truncated_ranking_is_exact(self, depth: int) -> None:
        full, found = bias_measures(*FIVE.inputs()), bias_measures(*cut(FIVE, depth).inputs())
        assert len(found) >= 11
        assert found == pytest.approx({key: full[key] for key in found}, abs=1e-12)


class TestMeasures:
    def test_are_declared_whole(self) -> None:
        assert len(KEYS) == len(set(KEYS))
        for measure in MEASURES:
            assert measure.key.startswith("bias_")
            assert measure.formula
            assert measure.source
            assert measure.lowest < measure.highest
            assert (measure.per_query is None) != (measure.of_subset is None)

    @pytest.mark.parametrize("name", CASES)
    def test_lie_in_their_range(self, name: str) -> None:
        inputs = CASES[name].inputs()
        values = [bias_measures(*inputs), random_ranking(*inputs)]
        for measure in MEASURES:
            for found in values:
                if measure.key in found:
                    assert measure.lowest <= found[measure.key] <= measure.highest, measure.key


class TestLanguageMatrix:
    CODES = ("ar", "de", "en", "th")

    def cases(self, favour: float, n_relevant: Callable[[int], int] | None = None) -> list[Case]:
        return [
            random_case(30 + language, [40, 50, 60, 20], 80, n_relevant, query_language=language, favour=favour)
            for language in (0, 1, 3)
        ]

    @pytest.mark.parametrize("n_relevant", [None, lambda number: 2 + number % 3], ids=["complete", "two to four"])
    def test_by_definition(self, n_relevant: Callable[[int], int] | None) -> None:
        cases = self.cases(0.3, n_relevant)
        subsets = [case.inputs() for case in cases]
        expected: dict[str, dict[tuple[str, str], float]] = {"preference": {}, "reciprocal_rank": {}, "top_10": {}}
        for case in cases:
            for answer, code in enumerate(self.CODES):
                having = [query for query in case.queries if answer in [language for _, language in query.relevant]]
                cell = self.CODES[case.query_language], code
                expected["preference"][cell] = statistics.mean(min(query.relevant)[1] == answer for query in having)
                expected["reciprocal_rank"][cell] = statistics.mean(
                    1 / rank for query in having for rank, language in query.relevant if language == answer
                )
                expected["top_10"][cell] = statistics.mean(query.top[:10].count(answer) / 10 for query in case.queries)
        assert language_matrix(subsets, self.CODES) == pytest.approx(expected["preference"], abs=1e-12)
        for cell_kind in ("preference", "reciprocal_rank", "top_10"):
            found = language_matrix(subsets, self.CODES, cell_kind)
            assert found == pytest.approx(expected[cell_kind], abs=1e-12)
            if n_relevant is None and cell_kind != "reciprocal_rank":  # each row is a distribution
                for query in ("ar", "de", "th"):
                    assert sum(found[query, answer] for answer in self.CODES) == pytest.approx(1)

    def test_at_random_is_the_mean_over_all_orders(self) -> None:
        cases = self.cases(0.3, lambda number: 2 + number % 3)
        found = language_matrix([case.inputs() for case in cases], self.CODES, "preference_at_random")
        for case in cases:
            for answer, code in enumerate(self.CODES):
                first = []
                for query in case.queries:
                    languages = [language for _, language in query.relevant]
                    if answer in languages:
                        orders = list(permutations(languages))
                        first.append(sum(order[0] == answer for order in orders) / len(orders))
                cell = self.CODES[case.query_language], code
                assert found[cell] == pytest.approx(statistics.mean(first), abs=1e-12)
        complete = [case.inputs() for case in self.cases(0.3)]
        assert diagonal_gap(language_matrix(complete, self.CODES, "preference_at_random")) == pytest.approx(0)
        assert language_matrix([TWICE.inputs()], (*self.CODES, "xx"), "preference_at_random") == {}

    def test_diagonal_is_the_preference(self) -> None:
        subsets = [case.inputs() for case in self.cases(0.2)]
        matrix = language_matrix(subsets, self.CODES)
        for ranks, pool in subsets:
            code = self.CODES[pool.query_language]
            assert matrix[code, code] == bias_measures(ranks, pool)["bias_language_preference"]

    def test_gap_grows_with_the_favour(self) -> None:
        for kind in ("preference", "reciprocal_rank", "top_10"):
            matrices = [
                language_matrix([case.inputs() for case in self.cases(favour)], self.CODES, kind)
                for favour in (0, 0.3, 2)
            ]
            gaps = [diagonal_gap(matrix) for matrix in matrices]
            assert all(gap is not None for gap in gaps)
            assert sorted(gaps) == gaps, kind  # type: ignore[type-var]
            assert abs(gaps[0] or 0) < 0.1
        assert diagonal_gap(language_matrix([case.inputs() for case in self.cases(2)], self.CODES)) == 1

    def test_gap_by_hand(self) -> None:
        matrix = {("a", "a"): 0.9, ("a", "b"): 0.2, ("a", "c"): 0.4, ("b", "b"): 0.5, ("b", "a"): 0.5, ("c", "a"): 0.1}
        assert diagonal_gap(matrix) == pytest.approx((0.6 + 0.0) / 2)
        assert diagonal_gap({("a", "b"): 0.5}) is None
        assert diagonal_gap({("a", "a"): 0.5}) is None
        assert diagonal_gap({}) is None

    def test_what_does_not_apply_is_not_there(self) -> None:
        ranks, pool = replace(cut(FIVE, 3), known=False).inputs()
        codes = ("ar", "de", "en", "es", "th")
        subsets = [(ranks, pool), replace(FIVE, queries=[], known=False).inputs()]
        assert language_matrix(subsets, codes, "preference") == {}
        assert language_matrix(subsets, codes, "top_10") == {}
        assert language_matrix([TWICE.inputs()], codes, "preference") == {}
        # of several in a language, the best counts
        of_best, of_one = (language_matrix([case.inputs()], codes, "reciprocal_rank") for case in (TWICE, FIVE))
        assert of_best == of_one
        lost = language_matrix(subsets, codes, "reciprocal_rank")
        expected = [
            statistics.mean(
                1 / rank if rank <= 3 else 0 for query in FIVE.queries for rank, x in query.relevant if x == y
            )
            for y in range(5)
        ]
        assert lost == pytest.approx({("ar", code): value for code, value in zip(codes, expected, strict=True)})


class TestInputs:
    CODES = ("ar", "de", "en", "es", "hi", "vi", "zh")

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("form", ["lists", "frame", "table"])
    def test_are_those_that_the_table_was_made_from(self, form: str, known: bool) -> None:
        pd: Any = pytest.importorskip("pandas")
        pa: Any = pytest.importorskip("pyarrow")
        case = replace(CASES["two to four of seven"], known=known)
        columns = table_of(case, self.CODES)
        rows: dict[str, Any] = {"lists": columns, "frame": pd.DataFrame(columns), "table": pa.table(columns)}
        passages = dict(zip(self.CODES, SEVEN, strict=True))
        ranks, pool = inputs_of(rows[form], {"languages": self.CODES, "passages": passages, "depth": "full"})
        expected_ranks, expected_pool = case.inputs()
        for name in ("n_queries", "query", "rank", "gain", "language"):
            found, expected = getattr(ranks, name), getattr(expected_ranks, name)
            np.testing.assert_array_equal(found, expected)
            assert np.asarray(found).dtype == np.asarray(expected).dtype
        assert pool.query_language == expected_pool.query_language
        np.testing.assert_array_equal(pool.passages, expected_pool.passages)
        assert pool.depth == sum(SEVEN)
        if known:
            np.testing.assert_array_equal(pool.top_languages, expected_pool.top_languages)
        else:
            assert pool.top_languages is None

    def test_depth(self) -> None:
        columns = table_of(cut(FIVE, 70), "abcde")
        for depth, expected in ((70, 70), (1000, 150), ("full", 150)):
            _, pool = inputs_of(columns, {"languages": "abcde", "passages": dict.fromkeys("abcde", 30), "depth": depth})
            assert pool.depth == expected

    def test_languages_outside_of_the_pool_do_not_count(self) -> None:
        case = CASES["a language is not in the pool"]
        metadata = {"languages": "abcd", "passages": {"a": 50, "b": 99, "c": 60, "d": 70}}
        assert bias_measures(*inputs_of(table_of(case, "abcd"), metadata)) == bias_measures(*case.inputs())

    def test_rows_of_another_subset_or_pool_are_refused(self) -> None:
        metadata = {"languages": "abcde", "passages": dict.fromkeys("abcde", 30)}
        one, other = table_of(FIVE, "abcde", "a"), table_of(FIVE, "abcde", "b")
        with pytest.raises(ValueError, match=r"not of 2 \(a, b\)"):
            inputs_of({name: one[name] + other[name] for name in one}, metadata)
        with pytest.raises(ValueError, match="not of 0"):
            inputs_of({name: [] for name in one}, metadata)
        with pytest.raises(ValueError, match=r"subset a: .* pool of 150 passages, .* have 155"):
            inputs_of(one, {"languages": "abcde", "passages": dict.fromkeys("abcde", 31)})


class TestRuns:
    """Real runs; not where the package is tried without mteb."""

    @pytest.fixture(autouse=True)
    def _mteb(self) -> None:
        pytest.importorskip("mteb")

    @staticmethod
    def subset_of(table: pa.Table, subset: str) -> pa.Table:
        import pyarrow.compute as pc

        return table.filter(pc.equal(table["subset"].cast("string"), subset))

    def test_the_table_alone_gives_what_the_result_says(self, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        from hybrid_bench.evaluation.runner import RunRequest, run
        from hybrid_bench.runs.result_files import metadata_of

        request = RunRequest(
            ["hybrid_bench/char-ngram"], ["HybridDemo-Multilingual"], languages=["de", "th"], output=tmp_path
        )
        result = run(request)
        assert result.failures == []
        (folder,) = result.folders
        table = pq.read_table(folder / "HybridDemo-Multilingual.queries.parquet")
        entries = json.loads((folder / "HybridDemo-Multilingual.json").read_text())["scores"]["test"]
        assert [entry["hf_subset"] for entry in entries] == ["de", "th"]
        for entry in entries:
            rows = self.subset_of(table, entry["hf_subset"])
            expected = {key: value for key, value in entry.items() if key.startswith("bias_")}
            for form in (rows, rows.to_pandas()):
                inputs = inputs_of(form, metadata_of(table))
                assert absent(*inputs) == {}
                assert bias_measures(*inputs) == pytest.approx(expected, abs=5.1e-7)  # mteb writes six decimals

    def test_xquad_r(self, data_dir: Path) -> None:
        """English questions against Arabic, German, English and Thai sentences, by a model that only knows letters."""
        from hybrid_bench.runs.tables import query_table
        from pools import xquad_r

        real = xquad_r(data_dir)
        collection = real.collection
        ranked = real.rank(real.LANGUAGES)
        counts = {code: len(collection.passages[code]) for code in collection.languages}
        metadata = {"languages": list(collection.languages), "passages": counts, "depth": "full"}
        rows = query_table(
            collection, ranked, split="test", subset="en", setting=Setting.MULTILINGUAL, metadata=metadata
        )
        inputs = inputs_of(rows, metadata)
        found = bias_measures(*inputs)
        assert absent(*inputs) == {}

        position = {code: place for place, code in enumerate(collection.languages)}
        plain = [
            Asked(
                [(rank, position[code]) for rank, code in zip(row["ranks"], row["rank_languages"], strict=True)],
                row["top_languages"],
            )
            for row in rows.to_pylist()
        ]
        passages = [counts[code] if code in real.LANGUAGES else 0 for code in collection.languages]
        expected = by_definition(replace(Case(plain[:60], passages), query_language=position["en"]))
        few = bias_measures(*inputs_of(rows[:60], metadata))
        assert few == pytest.approx(expected | {key: few[key] for key in DERIVED}, rel=1e-12, abs=1e-12)

        at_random = random_ranking(*inputs)
        assert at_random["bias_language_preference"] == 1 / 4
        assert found["bias_language_preference"] > 0.9
        assert found["bias_js_at_10_prior_excess"] > 0.3
        assert found["bias_awrf_prior"] < at_random["bias_awrf_prior"] - 0.3
        assert found["bias_top1_relevant_own"] > 0.5
        assert found["bias_top1_relevant_other"] + found["bias_top1_irrelevant_other"] < 0.1
        assert found["bias_complete_at_20"] <= found["bias_complete_at_100"] < 0.1
        assert found["bias_kendall_w"] > 0.5
        matrix = language_matrix([inputs], collection.languages)
        assert set(matrix) == {("en", code) for code in real.LANGUAGES}
        # German shares an alphabet and names with English; the others share digits
        assert matrix["en", "de"] > matrix["en", "ar"]
        gap = diagonal_gap(matrix)
        assert gap is not None
        assert gap > 0.8


def test_the_direction_of_a_metric_in_training() -> None:
    for measure in MEASURES:
        for before in ("", "eval_", "eval_XQuAD-R_", "eval_bias_", "multilingual_"):
            assert higher_is_better(before + measure.key) is measure.higher_is_better
    assert [higher_is_better(metric) for metric in ("eval_loss", "eval_demo_loss", "loss")] == [False] * 3
    assert [higher_is_better(metric) for metric in ("eval_x_map", "x_multilingual_ndcg_at_10")] == [True] * 2
