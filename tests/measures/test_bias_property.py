"""What holds for the language bias of any ranking: the definition, the range, and what does not matter."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bias_cases import Asked, Case, by_definition, table_of
from hybrid_bench.measures.bias import (
    MEASURES,
    absent,
    bias_measures,
    diagonal_gap,
    inputs_of,
    language_matrix,
    per_query_bias,
    random_ranking,
)
from hybrid_bench.measures.metrics import NOT_RETRIEVED

BIAS = settings(deadline=None, max_examples=100, derandomize=True)
#: Two of the expectations are Monte Carlo, which takes its time for every new pool.
RANDOM = settings(deadline=None, max_examples=25, derandomize=True)
CODES = ("ar", "de", "en", "es", "th")


@st.composite
def cases(draw: st.DrawFn, *, parallel: bool = False) -> Case:
    """Whole rankings of a pool, or their first part; judgments of any kind, or one in each of some languages."""
    passages = draw(st.lists(st.integers(0, 9), min_size=2, max_size=5).filter(lambda counts: sum(counts) > 1))
    languages = [language for language, count in enumerate(passages) for _ in range(count)]
    if parallel:
        assume(len(set(languages)) > 1)
    size = len(languages)
    depth = draw(st.one_of(st.just(size), st.integers(1, size)))
    queries = []
    for _ in range(draw(st.integers(1, 5))):
        order = draw(st.permutations(languages))
        chosen = list(draw(st.sets(st.integers(1, size), min_size=2 if parallel else 1, max_size=6)))
        if parallel:
            chosen = list({order[rank - 1]: rank for rank in chosen}.values())
            assume(len(chosen) > 1)
        relevant = [(rank if rank <= depth else NOT_RETRIEVED, order[rank - 1]) for rank in chosen]
        queries.append(Asked(relevant, order[:depth]))
    language = draw(st.integers(0, len(passages) - 1))
    return Case(queries, passages, language, depth, known=len(set(languages)) > 1)


@BIAS
@given(st.one_of(cases(), cases(parallel=True)))
def test_what_applies_is_as_defined_and_the_rest_has_a_reason(case: Case) -> None:
    inputs = case.inputs()
    found, reasons, expected = bias_measures(*inputs), absent(*inputs), by_definition(case)
    for measure in MEASURES:
        assert (measure.key in found) != (measure.key in reasons)
        if measure.key in found:
            assert found[measure.key] == pytest.approx(expected[measure.key], rel=1e-12, abs=1e-12), measure.key
            assert measure.lowest - 1e-12 <= found[measure.key] <= measure.highest + 1e-12, measure.key


@BIAS
@given(st.one_of(cases(), cases(parallel=True)), st.randoms(use_true_random=False))
def test_order_of_queries_and_names_of_languages_do_not_matter(case: Case, random: Random) -> None:
    before = bias_measures(*case.inputs())
    shuffled = random.sample(list(case.queries), len(case.queries))
    assert bias_measures(*replace(case, queries=shuffled).inputs()) == pytest.approx(before, rel=1e-12, abs=1e-12)
    name = random.sample(range(len(case.passages)), len(case.passages))
    renamed = Case(
        [
            Asked([(rank, name[code]) for rank, code in query.relevant], [name[code] for code in query.top])
            for query in case.queries
        ],
        [case.passages[name.index(code)] for code in range(len(name))],
        name[case.query_language],
        case.depth,
        case.known,
    )
    assert bias_measures(*renamed.inputs()) == pytest.approx(before, rel=1e-12, abs=1e-12)


@BIAS
@given(cases(parallel=True))
def test_means_over_queries_are_the_measures(case: Case) -> None:
    inputs = case.inputs()
    found = bias_measures(*inputs)
    for key, scores in per_query_bias(*inputs).items():
        assert scores.value.mean() == pytest.approx(found[key], rel=1e-12, abs=1e-12)
        assert len(scores.query) == len(case.queries) or key == "bias_language_preference"


@BIAS
@given(st.one_of(cases(), cases(parallel=True)))
def test_the_table_gives_the_same(case: Case) -> None:
    """To the last bit."""
    codes = CODES[: len(case.passages)]
    metadata = {
        "languages": codes,
        "passages": dict(zip(codes, case.passages, strict=True)),
        "depth": case.depth if case.depth is not None and case.depth < sum(case.passages) else "full",
    }
    inputs = inputs_of(table_of(case, codes), metadata)
    assert bias_measures(*inputs) == bias_measures(*case.inputs())
    assert absent(*inputs) == absent(*case.inputs())


@RANDOM
@given(cases(parallel=True))
def test_a_random_ranking_has_the_same_keys_and_lies_in_the_range(case: Case) -> None:
    inputs = case.inputs()
    expected = random_ranking(*inputs)
    assert list(expected) == list(bias_measures(*inputs))
    assert expected.get("bias_rank_distance_norm", 1) == 1
    for measure in MEASURES:
        if measure.key in expected:
            assert measure.lowest - 1e-12 <= expected[measure.key] <= measure.highest + 1e-12, measure.key
    four = [value for key, value in expected.items() if key.startswith("bias_top1_")]
    assert not four or sum(four) == pytest.approx(1)


@BIAS
@given(st.one_of(cases(), cases(parallel=True)))
def test_cells_of_the_heat_map_are_shares(case: Case) -> None:
    for kind in ("preference", "reciprocal_rank", "top_10"):
        matrix = language_matrix([case.inputs()], CODES, kind)
        assert all(0 <= value <= 1 for value in matrix.values())
        assert {query for query, _ in matrix} <= {CODES[case.query_language]}
        gap = diagonal_gap(matrix)
        assert gap is None or -1 <= gap <= 1
    if matrix:
        assert sum(matrix.values()) == pytest.approx(1)
