"""Methods against language bias by their definitions, score by score in float64, written out in loops.

Knows of the package the names of the methods alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.engine.debias import Method

__all__ = ["DEFINITIONS", "Pair", "by_definition", "range_of_ranks"]

Vectors = Mapping[str, NDArray[Any]]


class Pair(NamedTuple):
    """Queries and passages in one language each, their languages, and what a method is fitted on."""

    q: NDArray[Any]
    a: str
    p: NDArray[Any]
    b: str
    queries: Vectors
    passages: Vectors


def score(q: NDArray[Any], p: NDArray[Any], cosine: bool) -> float:
    scale = np.linalg.norm(q) * np.linalg.norm(p) if cosine else 1.0
    return float(q @ p / (scale or 1.0))


def unit(vectors: NDArray[Any], cosine: bool) -> NDArray[Any]:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if cosine else vectors


def centred_score(pair: Pair, cosine: bool) -> float:
    query_mean, passage_mean = (sum(each) / len(each) for each in (pair.queries[pair.a], pair.passages[pair.b]))
    return score(pair.q - query_mean, pair.p - passage_mean, cosine)


def lsar_score(pair: Pair, cosine: bool) -> float:
    def projected(vector: Any, role: Vectors) -> Any:
        """What least squares on the differences of means leave of a vector."""
        first, *others = (each.mean(axis=0) for each in role.values())
        differences = np.stack([other - first for other in others], axis=1)
        return vector - differences @ np.linalg.lstsq(differences, vector, rcond=None)[0]

    return score(projected(pair.q, pair.queries), projected(pair.p, pair.passages), cosine)


def shift_score(pair: Pair, cosine: bool) -> float:
    pairs = zip(pair.passages[pair.b], pair.passages["en"], strict=True)
    differences = [theirs - english for theirs, english in pairs]
    return score(pair.q, pair.p - sum(differences) / len(differences), cosine)


def csls_score(pair: Pair, cosine: bool) -> float:
    of_query = sorted(score(pair.q, other, cosine) for other in pair.passages[pair.b])[-10:]
    of_passage = sorted(score(other, pair.p, cosine) for other in pair.queries[pair.a])[-10:]
    return 2 * score(pair.q, pair.p, cosine) - sum(of_query) / len(of_query) - sum(of_passage) / len(of_passage)


def z_score_of(pair: Pair, cosine: bool) -> float:
    scores = [score(pair.q, other, cosine) for other in pair.passages[pair.b]]
    return (score(pair.q, pair.p, cosine) - float(np.mean(scores))) / float(np.std(scores))


DEFINITIONS: dict[Method, Callable[..., float]] = {
    Method.CENTRED: centred_score,
    Method.LSAR: lsar_score,
    Method.SHIFT: shift_score,
    Method.CSLS: csls_score,
    Method.Z_SCORE: z_score_of,
}


def by_definition(method: Method, pair: Pair, cosine: bool) -> NDArray[Any]:
    """The scores of all queries with all passages, float64."""
    queries, passages = ({code: unit(each, cosine) for code, each in role.items()} for role in pair[4:])
    pair = pair._replace(queries=queries, passages=passages)
    define = DEFINITIONS[method]
    return np.array(
        [[define(pair._replace(q=q, p=p), cosine) for p in unit(pair.p, cosine)] for q in unit(pair.q, cosine)]
    )


def range_of_ranks(scores: NDArray[Any], column: int) -> tuple[int, int]:
    """First and last place that a passage may have among the scores of a query, by float32 and whatever tie rule."""
    near = 2e-6 * max(1.0, float(np.abs(scores).max()))
    return 1 + int((scores > scores[column] + near).sum()), int((scores > scores[column] - near).sum())
