"""Methods against language bias, against their definitions: whole matrices of scores, and ranks."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from debiased import DEFINITIONS, Pair, by_definition, range_of_ranks
from helpers import static_model, task_of, texts_of
from hybrid_bench.data.collection import Collection
from hybrid_bench.engine import ranking, streamed
from hybrid_bench.engine.debias import Debias, Method, first_parts, fit, interleaved, language_subspace, turns
from hybrid_bench.engine.encode import Embeddings
from hybrid_bench.engine.lexical import BM25
from hybrid_bench.engine.models import given, load, model_meta
from hybrid_bench.engine.ranking import Ranker
from hybrid_bench.errors import ModelError


def embeddings_of(model: Any) -> Embeddings:
    return Embeddings(
        model=model,
        metadata=task_of("HybridDemo-Pairs").metadata,
        encode_kwargs={"batch_size": 256},
        subset=lambda code: f"{code}-{code}",
        by_subset=False,
    )


@pytest.fixture(scope="module")
def demo() -> Collection:
    """Three languages of the demo, with some passages that stand in all of them."""
    whole = task_of("HybridDemo-Pairs").read_collection()
    shared = whole.passages["en"].texts[:6]
    codes = ("de", "en", "th")
    passages = {}
    for code in whole.parts:
        given_ = whole.passages[code]
        passages[code] = replace(given_, texts=(*shared, *given_.texts[6:])) if code in codes else given_
    return replace(whole, passages=passages)


# -- arrays -----------------------------------------------------------------------------------------------------------


def embeddings(seed: int, n: int, dimension: int = 12, strength: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """Texts with a meaning each, which their language moves."""
    rng = np.random.default_rng(seed)
    meaning = rng.standard_normal((n, dimension))
    return {
        code: (meaning + 0.3 * rng.standard_normal((n, dimension)) + strength * rng.standard_normal(dimension)).astype(
            np.float32
        )
        for code in ("de", "en", "th")
    }


@pytest.mark.parametrize("method", DEFINITIONS)
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("n", [7, 40])  # fewer than the nearest neighbours, and more
def test_scores_are_those_of_the_definition(method: Method, cosine: bool, n: int) -> None:
    queries, passages = embeddings(1, n), embeddings(2, n)
    new_queries, new_passages = embeddings(3, 5), embeddings(4, 9)
    changes = fit(method, queries, passages, cosine=cosine)
    for a in queries:
        for b in passages:
            expected = by_definition(method, Pair(new_queries[a], a, new_passages[b], b, queries, passages), cosine)
            found = changes.queries(new_queries[a], a) @ changes.passages(new_passages[b], b).T
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("method", [Method.CENTRED, Method.LSAR, Method.SHIFT])
def test_what_a_language_adds_to_all_its_passages_is_taken_away(method: Method) -> None:
    """Embeddings that are a meaning and an offset by language: afterwards translations are one, up to rounding."""
    rng = np.random.default_rng(5)
    meaning = rng.standard_normal((30, 16))
    passages = {code: (meaning + rng.standard_normal(16)).astype(np.float32) for code in ("de", "en", "th")}
    changes = fit(method, passages, passages, cosine=False)
    changed = [changes.passages(each, code) for code, each in passages.items()]
    for other in changed[1:]:
        np.testing.assert_allclose(other, changed[0], atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_the_subspace_solves_what_lsar_asks(rank: int) -> None:
    """Means are a common vector, what is in the subspace orthogonal to it, and as little else as can be."""
    means = np.random.default_rng(6).standard_normal((5, 20)) + 2
    basis = language_subspace(means, rank)
    assert basis.shape == (20, rank)
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-12)
    # Eckart and Young: no matrix of rank r about a common vector is nearer than this.
    left_over = np.linalg.svd(means - means.mean(axis=0), compute_uv=False)[rank:]
    centre = means.mean(axis=0)
    fitted = centre + (means - centre) @ basis @ basis.T
    assert np.square(means - fitted).sum() == pytest.approx(np.square(left_over).sum())
    common = fitted - fitted @ basis @ basis.T
    np.testing.assert_allclose(common, np.broadcast_to(common[0], common.shape), atol=1e-12)
    np.testing.assert_allclose(common @ basis, 0, atol=1e-12)


def test_a_direction_in_which_no_languages_differ_is_kept() -> None:
    means = np.zeros((4, 6))
    means[:, 0] = 1
    means[1, 2], means[2, 3] = 0.5, 0.25  # the fourth is as the first
    basis = language_subspace(means)
    assert basis.shape == (6, 2)
    np.testing.assert_allclose(np.linalg.norm(basis[[2, 3]], axis=0), 1)
    assert language_subspace(means[:1]).shape == (6, 0)


def test_vectors_of_zeros_stay_finite() -> None:
    queries = passages = embeddings(7, 12)
    zeros = np.zeros((3, 12), dtype=np.float32)
    for method in DEFINITIONS:
        for cosine in (True, False):
            changes = fit(method, queries, passages, cosine=cosine)
            assert np.isfinite(changes.queries(zeros, "de") @ changes.passages(zeros, "th").T).all(), method


def test_methods_that_do_not_suit_the_dimension_are_refused() -> None:
    narrow = embeddings(8, 10, dimension=2)
    with pytest.raises(ModelError, match=r"^lsar leaves nothing of embeddings of 2 dimensions, in all of which the 3 "):
        fit(Method.LSAR, narrow, narrow, cosine=True)
    wide = embeddings(9, 2, dimension=11_000)
    with pytest.raises(
        ModelError, match=r"^z-score over 3 languages makes vectors of length 33,003 from embeddings of"
    ):
        fit(Method.Z_SCORE, wide, wide, cosine=True)


# -- parts in turn ----------------------------------------------------------------------------------------------------


def in_turn(lists: list[list[Any]], turn: list[int]) -> list[tuple[int, Any]]:
    """Part and passage in the order of a round robin, passage by passage."""
    left, merged = [list(each) for each in lists], list[tuple[int, Any]]()
    while any(left):
        there = [part for part in np.argsort(turn).tolist() if left[part]]
        merged += [(part, left[part].pop(0)) for part in there]
    return merged


def test_parts_take_turns() -> None:
    rng = np.random.default_rng(10)
    for sizes in ([4, 4, 4], [1, 7, 3], [5], [2, 40, 9, 2]):
        questions = [f"q{n}" for n in range(20)]
        turn = turns(questions, [f"part {n}" for n in range(len(sizes))])
        found = first_parts(turn, np.array(sizes), min(30, sum(sizes)))
        for number in range(len(questions)):
            lists = [rng.permutation(size).tolist() for size in sizes]
            merged = in_turn(lists, turn[number].tolist())
            assert found[number].tolist() == [part for part, _ in merged][:30]
            own = np.array([part for part, _ in merged])
            place = np.array([lists[part].index(passage) for part, passage in merged])
            all_turns = np.tile(turn[number], (len(merged), 1))
            ranks = interleaved(place, own, all_turns, np.array(sizes))
            assert ranks.tolist() == list(range(1, len(merged) + 1))


def test_no_part_has_the_first_turn_more_than_others() -> None:
    turn = turns([f"question {n}" for n in range(3000)], ["de", "en", "th"])
    assert sorted(set(map(tuple, turn.tolist()))) == sorted(permutations(range(3)))
    assert np.bincount(np.argmin(turn, axis=1)) == pytest.approx([1000] * 3, abs=100)


@pytest.mark.parametrize("lexical", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_pool_in_turn_is_merged_of_the_monolingual_rankings(demo: Collection, lexical: bool) -> None:
    codes = ("de", "en", "th")
    debias = Debias(Method.ROUND_ROBIN)
    if lexical:
        model = load(model_meta("hybrid_bench/bm25"))
        assert isinstance(model, BM25)
        ranker = Ranker.bm25(demo, model, debias)
    else:
        wrapped = given(static_model(texts_of(demo, codes), dimension=24), "tests/static").model
        ranker = Ranker.dense(demo, embeddings_of(wrapped), debias)
    queries = demo.queries["de"]
    turn = turns(queries.question_ids, codes)
    # Whole rankings of each language alone, which no merging touches.
    ranked = [ranker.top_passages("de", [code], 1000) for code in codes]
    pool = ranker.rank("de", codes)
    assert pool.top_languages is not None
    for query in range(len(queries)):
        lists = [list(found[query]) for found in ranked]
        merged = in_turn(lists, turn[query].tolist())
        parts = [demo.part_index(codes[part]) for part, _ in merged]
        assert pool.top_languages[query].tolist() == parts[:100]
        place = {passage: rank for rank, (_, passage) in enumerate(merged, start=1)}
        judged = queries.judgments
        rows = np.flatnonzero((judged.query == query) & np.isin(judged.part, [demo.part_index(code) for code in codes]))
        expected = [place[demo.passages[demo.parts[judged.part[row]]].ids[judged.passage[row]]] for row in rows]
        assert sorted(pool.ranks.rank[pool.ranks.query == query].tolist()) == sorted(expected)
    alone = ranker.rank("de", ["en"])
    assert alone.ranks.rank.tolist() == Ranker.rank(type(ranker)(demo, ranker.scorer), "de", ["en"]).ranks.rank.tolist()


# -- a collection -----------------------------------------------------------------------------------------------------


def texts_to_fit(collection: Collection) -> dict[str, list[str]]:
    """Texts that are not the collection's, row by row of one meaning: its words in another order."""
    return {
        code: [" ".join(reversed(text.split())) + "." for text in collection.queries[code].texts[:20]]
        for code in ("de", "en", "th")
    }


@pytest.mark.parametrize("method", DEFINITIONS)
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ranks_are_those_of_the_definition(
    demo: Collection, method: Method, cosine: bool, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not resident:
        monkeypatch.setattr(ranking, "RESIDENT_PASSAGES", 0)
        monkeypatch.setattr(streamed, "_PIECE", 100)
    codes = ("de", "en", "th")
    model = static_model(texts_of(demo, codes), dimension=24, similarity_fn_name="cosine" if cosine else "dot")
    wrapped = given(model, "tests/static").model
    fitted = texts_to_fit(demo)
    debias = Debias(method, "tests", fitted, {code: list(reversed(texts)) for code, texts in fitted.items()})
    pool = Ranker.dense(demo, embeddings_of(wrapped), debias).rank("de", codes)

    def encoded(texts: Any) -> NDArray[np.float32]:
        return np.asarray(model.encode(list(texts)), dtype=np.float32)

    queries, passages = ({code: encoded(each) for code, each in r.items()} for r in (debias.queries, debias.passages))
    asked = encoded(demo.queries["de"].texts)
    few = 4  # what loops do in time
    scores = np.hstack(
        [
            by_definition(
                method,
                Pair(asked[:few], "de", encoded(demo.passages[code].texts), code, queries, passages),
                cosine,
            )
            for code in codes
        ]
    )
    ids = [i for code in codes for i in demo.passages[code].ids]
    judged = demo.queries["de"].judgments
    exact = []
    for query in range(few):
        found = pool.ranks.language[pool.ranks.query == query], pool.ranks.rank[pool.ranks.query == query]
        ranks = dict(zip((demo.parts[part] for part in found[0].tolist()), found[1].tolist(), strict=True))
        for row in np.flatnonzero(judged.query == query):
            part = demo.parts[judged.part[row]]
            if part not in codes:
                continue
            column = ids.index(demo.passages[part].ids[judged.passage[row]])
            first, last = range_of_ranks(scores[query], column)
            assert first <= ranks.pop(part) <= last
            exact.append(first == last)
        assert not ranks
    assert np.mean(exact) > 0.5
