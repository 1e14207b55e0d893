"""Every key that mteb also writes, against mteb's own functions, before they round to five decimals.

mteb's `all_scores` are the figures of every query; their means are taken here as mteb takes them, without the rounding.
Its reciprocal ranks are never rounded. mteb gives its functions the first 1,000 passages; here they get all.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores, make_score_dict

from hybrid_bench.measures.metrics import K_VALUES, measures
from pools import SYNTHETIC, TOLERANCE, XQUAD_R, ScoredPool, synthetic_pool, xquad_r

#: Our prefix and the one in mteb's `all_scores`.
PREFIXES = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


def unrounded(pool: ScoredPool) -> tuple[dict[str, float], dict[str, float]]:
    """mteb's keys without the rounding, and as mteb writes them, with it; ``nauc_*`` left out, as we do."""
    found = calculate_retrieval_scores(pool.run, pool.judgments, K_VALUES)
    queries = list(found.all_scores.values())
    assert len(queries) == len(pool.run)
    exact = {
        f"{ours}_at_{k}": math.fsum(scores[f"{theirs}_{k}"] for scores in queries) / len(queries)
        for ours, theirs in PREFIXES.items()
        for k in K_VALUES
    }
    exact |= {f"mrr_at_{k}": found.mrr[f"MRR@{k}"] for k in K_VALUES}
    exact["accuracy"] = exact["recall_at_1"]
    written = make_score_dict(
        ndcg=found.ndcg,
        _map=found.map,
        recall=found.recall,
        precision=found.precision,
        mrr=found.mrr,
        naucs={},
        naucs_mrr={},
        hit_rate=found.hit_rate,
        task_scores={},
    )
    return exact, written


def assert_equal(pool: ScoredPool) -> None:
    ours = measures(pool.ranks)
    exact, written = unrounded(pool)
    assert set(written) == set(exact) <= set(ours)
    for name, value in exact.items():
        assert ours[name] == pytest.approx(value, rel=0, abs=TOLERANCE), name
        # what was taken from `all_scores` is what mteb writes
        assert value == pytest.approx(written[name], rel=0, abs=0.5e-5 + 1e-12), name


@pytest.mark.parametrize("subset", ["en-en", "en-ar", "en"])
def test_real_scores(data_dir: Path, subset: str) -> None:
    languages, n_queries = XQUAD_R[subset]
    assert_equal(xquad_r(data_dir).pool(languages, n_queries and n_queries // 2))


@pytest.mark.parametrize("name", SYNTHETIC)
def test_ties_and_grades(name: str) -> None:
    assert_equal(synthetic_pool(name))
