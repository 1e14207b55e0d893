"""Per-query measures against pytrec_eval-terrier, which is trec_eval: real scores, ties, grades, and shallow searches.

trec_eval keeps scores in float32, as we do, and breaks ties by descending id. See `pools.TOLERANCE` for the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from numpy.typing import NDArray

from hybrid_bench.measures.metrics import K_VALUES, NOT_RETRIEVED, RelevantRanks, per_query
from pools import SYNTHETIC, TOLERANCE, XQUAD_R, ScoredPool, synthetic_pool, xquad_r

#: Our names and those of pytrec_eval.
NAMES = {
    "map": "map",
    "mrr": "recip_rank",
    **{
        f"{ours}_at_{k}": f"{theirs}_{k}"
        for ours, theirs in {
            "ndcg": "ndcg_cut",
            "map": "map_cut",
            "recall": "recall",
            "precision": "P",
            "hit_rate": "success",
        }.items()
        for k in K_VALUES
    },
}
#: What pytrec_eval is asked for, e.g. `recall.1,3,5`.
_CUT = ",".join(map(str, K_VALUES))
MEASURES = {"map", "recip_rank", *(f"{name}.{_CUT}" for name in ("ndcg_cut", "map_cut", "recall", "P", "success"))}


def by_pytrec_eval(
    run: Mapping[str, Mapping[str, float]], judgments: Mapping[str, Mapping[str, int]]
) -> dict[str, NDArray[np.float64]]:
    """Their figures under our names, queries in the order of the run."""
    scores = pytrec_eval.RelevanceEvaluator(judgments, MEASURES).evaluate(run)
    assert set(scores) == set(run)
    return {ours: np.array([scores[query][theirs] for query in run]) for ours, theirs in NAMES.items()}


def assert_equal(pool: ScoredPool) -> dict[str, NDArray[np.float64]]:
    """Every measure of every query is theirs; returns ours."""
    ours, theirs = per_query(pool.ranks), by_pytrec_eval(pool.run, pool.judgments)
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=TOLERANCE, err_msg=name)
    return ours


@pytest.mark.parametrize("subset", XQUAD_R)
def test_real_scores(data_dir: Path, subset: str) -> None:
    languages, n_queries = XQUAD_R[subset]
    pool = xquad_r(data_dir).pool(languages, n_queries)
    assert pool.smallest_error > TOLERANCE
    assert len(pool.run) == (n_queries or 1190)
    ours = assert_equal(pool)
    # neither a perfect ranking nor none: there is something to get wrong
    assert 0 < ours["map"].mean() < 0.9
    assert len(np.unique(ours["map"])) > 20


@pytest.mark.parametrize("name", SYNTHETIC)
def test_ties_and_grades(name: str) -> None:
    pool = synthetic_pool(name)
    assert pool.smallest_error > TOLERANCE
    assert_equal(pool)


@pytest.mark.parametrize("depth", [1, 5, 15])
@pytest.mark.parametrize("name", ["continuous", "two decimals", "four values, graded"])
def test_a_search_of_limited_depth(name: str, depth: int) -> None:
    """What was not returned counts as not retrieved, at every cut-off."""
    pool = synthetic_pool(name)
    run = {
        query: dict(sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth])
        for query, scores in pool.run.items()
    }
    rank = np.where(pool.ranks.rank > depth, np.int32(NOT_RETRIEVED), pool.ranks.rank)
    ranks = RelevantRanks(pool.ranks.n_queries, pool.ranks.query, rank, pool.ranks.gain, pool.ranks.language)
    ours = assert_equal(ScoredPool(ranks, run, pool.judgments))
    assert 0 < (rank == NOT_RETRIEVED).sum() < len(rank)
    assert ours["recall_at_1000"].min() == 0  # a query of which nothing was found


def test_ties_between_ids_beyond_ascii() -> None:
    """trec_eval compares bytes: here neither UTF-16, nor a locale, nor numbers would give its order."""
    ids = ["", "1", "10", "9", "B", "a", "z", "ß中", "é", "中", "\uffee", "\U00010348"]
    ids = [f"x{passage}" for passage in ids]  # trec_eval takes no empty id
    assert ids == sorted(ids, key=str.encode)
    for place, passage in enumerate(ids):
        (theirs,) = by_pytrec_eval({"q": dict.fromkeys(ids, 0.5)}, {"q": {passage: 1}})["mrr"]
        assert 1 / theirs == pytest.approx(len(ids) - place)
