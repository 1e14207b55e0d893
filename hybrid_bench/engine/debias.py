"""What is done to embeddings, scores or ranks, so that a language is not favoured: each method by its source.

Every method but one is fitted on parallel texts of another collection, by language: row n of each is the same text.
Queries and passages are fitted apart, each as the model reads them: with prompts they lie in different places, which
one mean would not meet. For a model without prompts, on sentences that are both, the two are one, as in the sources.

A method is two changes, of query and of passage embeddings, after which a score is a dot product. So are the methods
that normalise scores (`csls`, `z_score`): what they do to the score of a query and a passage is a dot product of longer
vectors. The engine's ranks stay exact, and know nothing of it. `interleaved`, the baseline, is fitted on nothing: it
takes the ranks that passages have in their own languages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.data.hashing import sha256_of_json, sha256_of_text
from hybrid_bench.errors import ModelError

__all__ = [
    "OPTIONS",
    "PIVOT",
    "Changes",
    "Debias",
    "Method",
    "centred",
    "csls",
    "first_parts",
    "fit",
    "interleaved",
    "language_subspace",
    "lsar",
    "shift",
    "turns",
    "z_score",
]

Matrix = NDArray[np.float32]
#: Embeddings by language, each float32 (texts, dimension).
Vectors = Mapping[str, Matrix]
#: Embeddings of texts in a language -> what is multiplied in their place.
Change = Callable[[Matrix, str], Matrix]

#: The options by which results are saved. They say what is done with embeddings, which are the same with and without.
OPTIONS = ("debias", "debias_on")
#: The language that `shift` brings the others to.
PIVOT = "en"
#: How many nearest neighbours `csls` looks at, as in Conneau et al. (2018).
_NEIGHBOURS = 10
#: Rows whose products with all fitted texts are in memory at once.
_AT_ONCE = 1024
#: Longest vector that `z_score` may make of an embedding: 128 KiB of each passage.
_LONGEST = 2**15


class Method(StrEnum):
    """What is done against language bias."""

    CENTRED = "centred"
    LSAR = "lsar"
    SHIFT = "shift"
    CSLS = "csls"
    Z_SCORE = "z-score"
    ROUND_ROBIN = "round-robin"

    @property
    def fits(self) -> bool:
        """Whether it is fitted, and changes embeddings."""
        return self is not Method.ROUND_ROBIN


@dataclass(frozen=True)
class Debias:
    """A method, and the texts that it is fitted on.

    Attributes:
        method: The method.
        source: What the texts are called; empty for a method that is not fitted.
        queries: By language, what is encoded as queries; row n is the same in every language.
        passages: By language, what is encoded as passages, likewise.
    """

    method: Method
    source: str = ""
    queries: Mapping[str, Sequence[str]] = field(default_factory=dict)
    passages: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, str]:
        """The options by which results are saved."""
        values = (self.method.value, self.source) if self.method.fits else (self.method.value,)
        return dict(zip(OPTIONS, values, strict=False))

    @cached_property
    def sha256(self) -> str:
        """Hash over the texts."""
        roles = (self.queries, self.passages)
        return sha256_of_json([{code: list(texts) for code, texts in role.items()} for role in roles])


class Changes(NamedTuple):
    """What a fitted method does to embeddings, by role."""

    queries: Change
    passages: Change


def fit(method: Method, queries: Vectors, passages: Vectors, *, cosine: bool) -> Changes:
    """Fit a method.

    Args:
        method: The method, one that is fitted.
        queries: Embeddings of the texts to fit on, as queries; row n is the same text in every language.
        passages: Their embeddings as passages.
        cosine: Whether the model's score is the cosine, not the dot product. Then all embeddings are given the length 1
            before they are changed, and again after it by methods that change directions.

    Returns:
        The changes. The dot product of a changed query and a changed passage is the score by the method.

    Raises:
        ModelError: If the method does not suit the dimension of the embeddings.
    """
    make, moves = _METHODS[method]
    if not cosine:
        return make(queries, passages)
    queries, passages = ({code: _unit(each) for code, each in role.items()} for role in (queries, passages))

    def with_lengths(change: Change) -> Change:
        def changed(vectors: Matrix, language: str) -> Matrix:
            made = change(_unit(vectors), language)
            return _unit(made) if moves else made

        return changed

    return Changes(*map(with_lengths, make(queries, passages)))


def centred(queries: Vectors, passages: Vectors) -> Changes:
    """Subtract the mean of its language from every embedding.

    Libovický, Rosa and Fraser (2020), "On the Language Neutrality of Pre-trained Multilingual Representations", arXiv
    2004.05160.
    """
    return Changes(*(_minus({code: _mean(each) for code, each in role.items()}) for role in (queries, passages)))


def lsar(queries: Vectors, passages: Vectors) -> Changes:
    """Project embeddings on what is orthogonal to the subspace in which the means of languages differ.

    Xie, Zhao, Yu and Li (2022), "Discovering Low-rank Subspaces for Language-agnostic Multilingual Representations",
    arXiv 2401.05792.

    Raises:
        ModelError: If the subspace is everything.
    """

    def without_subspace(role: Vectors) -> Change:
        means = np.stack([_mean(each) for each in role.values()])
        basis: Matrix = language_subspace(means).astype(np.float32)
        if basis.shape[0] == basis.shape[1]:
            raise ModelError(
                f"lsar leaves nothing of embeddings of {len(basis)} dimensions, in all of which the {len(role)} "
                "languages differ: choose another --debias"
            )

        def change(vectors: Matrix, language: str) -> Matrix:
            along: Matrix = vectors @ basis
            return vectors - along @ basis.T

        return change

    return Changes(without_subspace(queries), without_subspace(passages))


def language_subspace(means: NDArray[np.float64], rank: int | None = None) -> NDArray[np.float64]:
    """LSAR's algorithm: an orthonormal basis of the subspace that is specific to languages.

    The matrix of means is split into a vector that is common to all languages and a matrix of low rank that is
    orthogonal to it: by an SVD about the mean of means, and a second one, of what the first approximates, about the
    common vector, which is orthogonal to all differences.

    Args:
        means: Mean embedding of each language, float64 (languages, dimension).
        rank: Dimensions of the subspace. By default as many as there can be, one less than there are languages. On
            LAReQA the authors take the number of languages; the last direction has then the singular value 0, so that
            it is an arbitrary one, and is left out here, as are all such.

    Returns:
        float64 (dimension, rank), fewer columns where the means differ in fewer directions.
    """
    matrix = means.T
    most = matrix.shape[1] - 1 if rank is None else rank
    middle = matrix.mean(axis=1, keepdims=True)
    left, values, right = np.linalg.svd(matrix - middle, full_matrices=False)
    fitted = middle + (left[:, :most] * values[:most]) @ right[:most]
    common = np.linalg.pinv(fitted).sum(axis=0)
    squared = common @ common
    specific = fitted - (common[:, None] / squared if squared > 0 else 0.0)
    left, values, _ = np.linalg.svd(specific, full_matrices=False)
    # Means are of float32 embeddings: what is smaller is noise.
    real = values > 1e-6 * np.abs(matrix).max(initial=0.0)
    return left[:, real][:, :most]


def shift(queries: Vectors, passages: Vectors) -> Changes:
    """Subtract from every passage the mean difference between its language and the pivot's, over parallel texts.

    By the abstract of Jang, Hong, Moon and Lim (2026), "SHIFT: Semantic Harmonization via Index-side Feature
    Transformation for Multilingual Information Retrieval", arXiv 2606.18801: a "relative language vector" for each
    language with respect to a source language, estimated from translation pairs, is subtracted from the documents, and
    queries stay as they are. More than the abstract could not be read: that the vector is the mean difference, and the
    source language English, is our reading.
    """
    pivot = passages[PIVOT]
    return Changes(
        lambda vectors, language: vectors,
        _minus({code: _mean(each) - _mean(pivot) for code, each in passages.items()}),
    )


def csls(queries: Vectors, passages: Vectors) -> Changes:
    """Cross-domain similarity local scaling: 2 s(q, p) - r(q) - r(p), with the means r over nearest neighbours.

    Conneau, Lample, Ranzato, Denoyer and Jégou (2018), "Word Translation Without Parallel Data", arXiv 1710.04087,
    define it for two languages: r(q) is the mean score of the query with its 10 nearest passages in the language of p,
    r(p) that of the passage with its 10 nearest queries in the language of q; here both among the texts that it is
    fitted on. In a pool of several languages r(q) is not the same for all passages.
    """
    asked, answered = list(queries), list(passages)

    def of_queries(vectors: Matrix, language: str) -> Matrix:
        hubness = _nearest(vectors, [passages[code] for code in answered])
        return np.hstack([2 * vectors, -hubness, _marked(len(vectors), asked, language)])

    def of_passages(vectors: Matrix, language: str) -> Matrix:
        hubness = _nearest(vectors, [queries[code] for code in asked])
        return np.hstack([vectors, _marked(len(vectors), answered, language), -hubness])

    return Changes(of_queries, of_passages)


def z_score(queries: Vectors, passages: Vectors) -> Changes:
    """Standardise the scores of a query by passage language: (s(q, p) - m) / d.

    Mean m and standard deviation d are those of the query's scores with the fitted passages in the language of p, which
    are known from the mean embedding and the covariance matrix of these. Where all scores are equal, d is taken as 1.

    Raises:
        ModelError: If there are too many languages: a vector has a block of its own for each.
    """
    codes = list(passages)
    length = next(iter(passages.values())).shape[1] + 1
    if length * len(codes) > _LONGEST:
        raise ModelError(
            f"z-score over {len(codes)} languages makes vectors of length {length * len(codes):,} from embeddings of "
            f"{length - 1:,}, more than {_LONGEST:,}: choose another --debias, such as csls"
        )
    means = {code: _mean(each) for code, each in passages.items()}
    spreads = {code: np.cov(each.astype(np.float64), rowvar=False, ddof=0) for code, each in passages.items()}

    def of_queries(vectors: Matrix, language: str) -> Matrix:
        blocks = []
        for code in codes:
            mean = (vectors @ means[code])[:, None]
            variance = ((vectors @ spreads[code]) * vectors).sum(axis=1, keepdims=True)
            # What is smaller is left by rounding.
            deviation = np.sqrt(np.where(variance > 1e-12 * mean**2, variance, 1.0))
            blocks += [vectors / deviation, -mean / deviation]
        return np.hstack(blocks).astype(np.float32)

    def of_passages(vectors: Matrix, language: str) -> Matrix:
        made = np.zeros((len(vectors), length * len(codes)), dtype=np.float32)
        start = length * codes.index(language)
        made[:, start : start + length - 1] = vectors
        made[:, start + length - 1] = 1
        return made

    return Changes(of_queries, of_passages)


def turns(questions: Sequence[str], parts: Sequence[str]) -> NDArray[np.int64]:
    """When each part has its turn, by question: an order that is arbitrary but fixed, so that none is favoured.

    Args:
        questions: Ids of the questions.
        parts: Names of the parts.

    Returns:
        int64 (questions, parts), each row a permutation of 0, 1, ...
    """
    hashes = [[sha256_of_text(f"{question}\t{part}") for part in parts] for question in questions]
    return np.argsort(np.argsort(np.array(hashes).reshape(len(questions), len(parts)), axis=1), axis=1)


def interleaved(
    place: NDArray[np.integer], own: NDArray[np.integer], turn: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Rank of passages where parts take turns: round by round the next best of each, of those that have one left.

    Round-robin merging, the baseline of collection fusion: Voorhees, Gupta and Johnson-Laird (1995), "The Collection
    Fusion Problem".

    Args:
        place: How many passages of its own part come before each passage, (passages,).
        own: Its part, as a position in `sizes`, (passages,).
        turn: When the parts have their turns, for the question of each passage, (passages, parts).
        sizes: Number of passages of each part, (parts,).

    Returns:
        int32 (passages,), ranks from 1.
    """
    earlier = turn < np.take_along_axis(turn, own[:, None].astype(np.int64), axis=1)
    before: NDArray[np.int64] = np.minimum(sizes, place[:, None] + earlier).sum(axis=1)
    return (1 + before).astype(np.int32)


def first_parts(turn: NDArray[np.int64], sizes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Part of the first k passages where parts take turns.

    Args:
        turn: When the parts have their turns, by question, (questions, parts).
        sizes: Number of passages of each part, (parts,).
        k: How many; no more than there are.

    Returns:
        int64 (questions, k), positions in `sizes`.
    """
    order = np.argsort(turn, axis=1)
    rounds, width = [order[:, :0]], 0
    while width < k:
        left = sizes > len(rounds) - 1
        rounds.append(order[left[order]].reshape(len(order), -1))
        width += int(left.sum())
    return np.concatenate(rounds, axis=1)[:, :k]


#: How each method is fitted, and whether it changes directions, so that lengths have to be made 1 again.
_METHODS: dict[Method, tuple[Callable[[Vectors, Vectors], Changes], bool]] = {
    Method.CENTRED: (centred, True),
    Method.LSAR: (lsar, True),
    Method.SHIFT: (shift, True),
    Method.CSLS: (csls, False),
    Method.Z_SCORE: (z_score, False),
}


def _mean(vectors: Matrix) -> NDArray[np.float64]:
    return np.asarray(vectors.mean(axis=0, dtype=np.float64))


def _minus(offsets: Mapping[str, NDArray[np.float64]]) -> Change:
    return lambda vectors, language: (vectors - offsets[language]).astype(np.float32)


def _unit(vectors: Matrix) -> Matrix:
    """Vectors of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _nearest(vectors: Matrix, others: Sequence[Matrix]) -> Matrix:
    """Mean of each vector's largest products with each of the other sets, float32 (vectors, sets)."""
    found = np.empty((len(vectors), len(others)), dtype=np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        for column, other in enumerate(others):
            k = min(_NEIGHBOURS, len(other))
            found[rows, column] = np.partition(vectors[rows] @ other.T, -k, axis=1)[:, -k:].mean(axis=1)
    return found


def _marked(n: int, codes: Sequence[str], language: str) -> Matrix:
    """For each of n texts a 1 in the column of their language, float32 (n, codes)."""
    made = np.zeros((n, len(codes)), dtype=np.float32)
    made[:, codes.index(language)] = 1
    return made
