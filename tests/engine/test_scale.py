"""Embeddings of any scale give the same cosines; those that say nothing of their texts are remarked on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mteb.models.model_meta import ScoringFunction

from helpers import WordCounts, task_of
from hybrid_bench.engine.encode import (
    DenseScores,
    Embeddings,
    PreparedPassages,
    Role,
    Similarity,
    similarity_of,
)
from hybrid_bench.errors import ModelError

RNG = np.random.default_rng(0)
QUERIES = RNG.standard_normal((7, 16)).astype(np.float32)
PASSAGES = RNG.standard_normal((40, 16)).astype(np.float32)
SCALES = [1e-38, 1e-30, 1e-19, 1e-13, 1e-6, 1.0, 1e6, 1e13, 1e19, 1e30, 1e37]


class Model(WordCounts):
    """For its similarity alone, which is mteb's."""

    def __init__(self, function: ScoringFunction) -> None:
        super().__init__()
        assert self.mteb_model_meta is not None
        self.mteb_model_meta = self.mteb_model_meta.model_copy(update={"similarity_fn_name": function})


def scores(queries: Any, passages: Any, similarity: Similarity) -> Any:
    model: Any = Model(ScoringFunction.COSINE)
    prepared = PreparedPassages(passages.astype(np.float32), np.arange(len(passages)), similarity)
    return DenseScores(queries.astype(np.float32), prepared, model)(
        slice(0, len(queries)), slice(0, len(passages))
    ).copy()


def cosines(queries: Any, passages: Any) -> Any:
    """By their definition, in float64."""
    q, p = queries.astype(np.float64), passages.astype(np.float64)
    return (q @ p.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(p, axis=1)


@pytest.mark.parametrize("scale", SCALES)
def test_cosines_do_not_depend_on_the_scale(scale: float) -> None:
    """1e-38 is where float32 begins to lose digits."""
    passages = (PASSAGES.astype(np.float64) * scale).astype(np.float32)
    found = scores(QUERIES, passages, Similarity.COSINE)
    np.testing.assert_allclose(found, cosines(QUERIES, passages), rtol=0, atol=2e-6)


def test_each_row_has_a_scale_of_its_own() -> None:
    factors = np.resize(np.array(SCALES[1:-1], dtype=np.float64), len(PASSAGES))[:, None]
    passages = (PASSAGES * factors).astype(np.float32)
    np.testing.assert_allclose(
        scores(QUERIES, passages, Similarity.COSINE), cosines(QUERIES, PASSAGES), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**-45, 2.0**45, 2.0**100])
def test_scaling_rounds_nothing(scale: float) -> None:
    np.testing.assert_array_equal(
        scores(QUERIES * np.float32(scale), PASSAGES, Similarity.COSINE), scores(QUERIES, PASSAGES, Similarity.COSINE)
    )


def test_ordinary_vectors_get_the_bits_that_torch_gives() -> None:
    """So that no number that was right has changed."""
    vectors = torch.from_numpy(PASSAGES)
    expected = torch.nn.functional.normalize(vectors, p=2, dim=1)
    prepared = PreparedPassages(PASSAGES, np.arange(40), Similarity.COSINE)
    assert torch.equal(prepared.vectors[:40], expected)


def test_zeros_stay_zeros() -> None:
    passages = PASSAGES.copy()
    passages[3] = 0
    found = scores(QUERIES, passages, Similarity.COSINE)
    assert (found[:, 3] == 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("scale", SCALES[1:])
@pytest.mark.parametrize(
    ("function", "expected"),
    [(ScoringFunction.COSINE, Similarity.COSINE), (ScoringFunction.DOT_PRODUCT, Similarity.DOT)],
)
def test_the_similarity_is_recognised_at_any_scale(
    function: ScoringFunction, expected: Similarity, scale: float
) -> None:
    factor = np.float32(scale)
    model: Any = Model(function)
    assert similarity_of(model, QUERIES * factor, PASSAGES * factor) is expected


def test_dot_products_that_vanish_are_refused() -> None:
    tiny = np.float32(1e-20)
    with pytest.raises(ModelError, match=r"^tests/word-counts returned embeddings so small that .*: scale them$"):
        scores(QUERIES * tiny, PASSAGES * tiny, Similarity.DOT)
    assert scores(QUERIES * np.float32(1e-10), PASSAGES, Similarity.DOT).any()


class Fixed(WordCounts):
    """Gives the same vectors whatever the texts."""

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self.rows = np.asarray(rows, dtype=np.float32)

    def vectors(self, texts: Any) -> Any:
        return np.resize(self.rows, (len(texts), self.rows.shape[1]))


@pytest.mark.parametrize(
    ("rows", "remark"),
    [
        ([[1, 2], [2, 1]], None),
        ([[1, 2]], "the embeddings of all 4 distinct passages are the same: every score ties, and ids decide"),
        ([[0, 0]], "the embeddings of all 4 distinct passages are the same: every score ties, and ids decide"),
        ([[1, 2], [0, 0]], "the embeddings of 2 of 4 distinct passages are all zeros: their scores tie"),
    ],
)
def test_what_says_nothing_of_its_text_is_remarked_on(rows: Any, remark: str | None) -> None:
    model: Any = Fixed(rows)
    embeddings = Embeddings(model, task_of("HybridDemo-Pairs").metadata, {}, lambda code: f"{code}-{code}", False)
    embeddings.encode(Role.PASSAGE, {"en": ["a", "b", "c", "d", "a"]})
    assert embeddings.remarks == ([] if remark is None else [remark])
