"""Where the scores of a pool that is kept in memory come from: embeddings, or BM25."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.data.collection import Collection, Passages, take
from hybrid_bench.engine.debias import Changes, Debias, fit
from hybrid_bench.engine.encode import (
    DenseScores,
    Embeddings,
    Matrix,
    PreparedPassages,
    Role,
    Similarity,
    Text,
    distinct,
    read_as,
    similarity_of,
)
from hybrid_bench.engine.lexical import BM25, BM25Scorer
from hybrid_bench.engine.ranks import ScoreBlocks
from hybrid_bench.errors import ModelError
from hybrid_bench.progress import Progress

__all__ = ["DenseScorer", "LexicalScorer", "Scorer", "first_places", "n_rows", "passage_texts"]


class Scorer(Protocol):
    """What scores queries against passages: a dense encoder, or BM25."""

    #: Whether it can score a pool in pieces.
    streams: bool

    def load(self, query_sets: Sequence[str], parts: Sequence[str]) -> None:
        """Get ready to score these query sets against these parts."""

    def forget(self) -> None:
        """Free the memory that the passages take."""

    def scores(self, query_set: str, parts: Sequence[str]) -> tuple[ScoreBlocks, NDArray[np.int64]]:
        """Scores of the distinct queries against the passages of these parts side by side; the row of each query."""


@dataclass
class DenseScorer:
    """Scores from embeddings. The passages of the last set of parts, and the last query set, are kept ready.

    Attributes:
        collection: The collection.
        embeddings: Its embeddings, as the model makes them.
        debias: What is done to them against language bias; None for nothing.
        similarity: How the model makes scores, once it is known.
        streams: It can score a pool in pieces.
    """

    collection: Collection
    embeddings: Embeddings
    debias: Debias | None = None
    similarity: Similarity | None = None
    streams: bool = True
    _prepared: tuple[tuple[str, ...], PreparedPassages] | None = None
    _queries: tuple[str, Matrix, NDArray[np.int64]] | None = None
    _changes: Changes | None = None

    def load(self, query_sets: Sequence[str], parts: Sequence[str]) -> None:
        """Encode what these need that is not encoded yet."""
        self.encode_queries(query_sets)
        self.embeddings.encode(Role.PASSAGE, {part: passage_texts(self.collection.passages[part]) for part in parts})

    def encode_queries(self, query_sets: Sequence[str]) -> None:
        """Encode the queries alone, for a pool that is streamed."""
        self.embeddings.encode(Role.QUERY, {name: self.collection.queries[name].texts for name in query_sets})

    def forget(self) -> None:
        """Drop the passages' embeddings; those of the queries stay."""
        self._prepared = None
        self.embeddings.forget(Role.PASSAGE)

    def queries(self, query_set: str) -> tuple[Matrix, NDArray[np.int64]]:
        """Embeddings of the distinct queries, float32 (distinct, dimension); the row of each query, int64."""
        if self._queries is None or self._queries[0] != query_set:
            queries = self.collection.queries[query_set]
            matrix, row = self.embeddings.rows(Role.QUERY, query_set, queries.texts)
            self._queries = query_set, self.changed(Role.QUERY, matrix, queries.language), row
        return self._queries[1:]

    def scores(self, query_set: str, parts: Sequence[str]) -> tuple[ScoreBlocks, NDArray[np.int64]]:
        """Scores of the distinct queries against these parts, and the row of each query."""
        queries, row = self.queries(query_set)
        if self._prepared is None or self._prepared[0] != tuple(parts):
            self._prepared = (tuple(parts), self._prepare(queries, parts))
        return DenseScores(queries, self._prepared[1], self.embeddings.model), row

    def _prepare(self, queries: Matrix, parts: Sequence[str]) -> PreparedPassages:
        vectors = []
        shared: list[tuple[str, Text]] = []
        for part in parts:
            texts = passage_texts(self.collection.passages[part])
            matrix, row = self.embeddings.rows(Role.PASSAGE, part, texts)
            vectors.append(self.changed(Role.PASSAGE, matrix, self.collection.passages[part].language)[row])
            shared += [(self.within(part), text) for text in read_as(Role.PASSAGE, texts)]
        return self.prepared(queries, np.concatenate(vectors), first_places(shared))

    def prepared(self, queries: Matrix, passages: Matrix, original: NDArray[np.int64]) -> PreparedPassages:
        """Passages ready for products, by the model's similarity, which is found out with the first of them."""
        if self.similarity is None:
            self.similarity = similarity_of(self.embeddings.model, queries[:8], passages[:64])
        similarity = self.similarity if self.debias is None else Similarity.DOT
        return PreparedPassages(passages, original, similarity, self.embeddings.device)

    def within(self, part: str) -> str:
        """What the passages of a part share with those of others that read the same, if they share their embeddings."""
        return part if self.embeddings.by_subset or self.debias is not None else ""

    def changed(self, role: Role, vectors: Matrix, language: str) -> Matrix:
        """Embeddings of texts in a language as they are multiplied: debiased, if that was asked for."""
        if self.debias is None:
            return vectors
        if self._changes is None:
            self._changes = self._fitted(self.debias)
        change = self._changes.queries if role is Role.QUERY else self._changes.passages
        return change(vectors, language)

    def _fitted(self, debias: Debias) -> Changes:
        """The method, fitted on what its texts are to this model; finds out the model's similarity by them."""
        roles = {Role.QUERY: debias.queries, Role.PASSAGE: debias.passages}
        once = {(role, code): distinct(role, texts) for role, each in roles.items() for code, texts in each.items()}
        found: dict[Role, dict[str, Matrix]] = {role: {} for role in roles}
        with Progress(sum(map(len, once.values())), f"Encoding {debias.source} to fit {debias.method}", "texts") as bar:
            for (role, code), texts in once.items():
                named = self.collection.queries if role is Role.QUERY else self.collection.passages
                about = next((name for name, each in named.items() if each.language == code), next(iter(named)))
                vectors = self.embeddings.once(role, about, list(texts.values()), bar.update)
                place = {text: row for row, text in enumerate(texts)}
                found[role][code] = vectors[[place[text] for text in read_as(role, roles[role][code])]]
        queries, passages = found[Role.QUERY], found[Role.PASSAGE]
        some_queries, some_passages = next(iter(queries.values())), next(iter(passages.values()))
        self.similarity = similarity_of(self.embeddings.model, some_queries[:8], some_passages[:64])
        if self.similarity is Similarity.MODEL:
            raise ModelError(
                f"{self.embeddings.model.mteb_model_meta.name} makes scores neither by cosine nor by dot product: "
                f"--debias {debias.method} is for these alone"
            )
        return fit(debias.method, queries, passages, cosine=self.similarity is Similarity.COSINE)


@dataclass
class LexicalScorer:
    """Full BM25 scores; each part is indexed on its own."""

    collection: Collection
    model: BM25
    streams: bool = False
    _scorers: dict[str, BM25Scorer] = field(default_factory=dict)

    def load(self, query_sets: Sequence[str], parts: Sequence[str]) -> None:
        """Index the parts that are not indexed yet."""
        for part in parts:
            if part not in self._scorers:
                passages = self.collection.passages[part]
                texts = [text if isinstance(text, str) else " ".join(text).strip() for text in passage_texts(passages)]
                self._scorers[part] = self.model.scorer({passages.language: texts})

    def forget(self) -> None:
        """Drop the indexes."""
        self._scorers.clear()

    def scores(self, query_set: str, parts: Sequence[str]) -> tuple[ScoreBlocks, NDArray[np.int64]]:
        """The same by BM25, whose parts are indexed when they are first asked for."""
        self.load([query_set], parts)
        queries = self.collection.queries[query_set]
        distinct = list(dict.fromkeys(queries.texts))
        places = {text: row for row, text in enumerate(distinct)}

        def blocks(rows: slice, columns: slice) -> Matrix:
            found = [
                self._scorers[part].scores(distinct[rows], queries.language, self.collection.passages[part].language)
                for part in parts
            ]
            return np.ascontiguousarray(np.concatenate(found, axis=1)[:, columns])

        return blocks, np.array([places[text] for text in queries.texts], dtype=np.int64)


def passage_texts(passages: Passages, rows: NDArray[np.int64] | None = None) -> list[Text]:
    """Texts of these passages, with their titles if they have any (all, if no rows are given)."""
    texts = list(passages.texts) if rows is None else take(passages.texts, rows)
    if passages.titles is None:
        return list(texts)
    titles = list(passages.titles) if rows is None else take(passages.titles, rows)
    return list(zip(titles, texts, strict=True))


def n_rows(row: NDArray[np.int64]) -> int:
    """Number of distinct queries, from the row of each query in the scores."""
    return int(row.max(initial=-1)) + 1


def first_places(texts: Sequence[Any]) -> NDArray[np.int64]:
    """For each text, the first place where the same text stands."""
    first: dict[Any, int] = {}
    return np.array([first.setdefault(text, place) for place, text in enumerate(texts)], dtype=np.int64)
