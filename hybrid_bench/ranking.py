"""One model on one collection: relevant ranks in any pool, from one encoding and one scoring of each text.

`Ranker` answers "where do the relevant passages of the German queries stand in the English pool, in the pool of all
languages?". The first question about a query language scores it against all passages at hand; every other pool of that
language is then a sum over counts that are already there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.corpora import Collection, Queries
from hybrid_bench.encode import (
    DenseScores,
    Embeddings,
    PreparedPassages,
    Role,
    Similarity,
    progress_bar,
    similarity_of,
)
from hybrid_bench.errors import ModelError
from hybrid_bench.lexical import BM25, BM25Scorer
from hybrid_bench.metrics import NOT_RETRIEVED, RelevantRanks
from hybrid_bench.ranks import ScoreBlocks, Targets, count_above, top_columns

__all__ = ["PoolRanks", "Ranker", "ranks_in_results"]

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class PoolRanks:
    """The queries of one language in one pool.

    Attributes:
        query_language: Language of the queries.
        pool_languages: Languages of the passages in the pool.
        pool_size: Number of passages in the pool.
        queries: int64 (n,), positions in the collection's `Queries` of those that have a relevant passage in the pool.
        ranks: Their relevant ranks, with queries counted as in `queries`.
        top_languages: int8 (n, k), language of the first k passages as a position in the collection's languages, best
            first; None for a pool of one language, where it says nothing, and where it is not known.
        depth: How many passages of each query were ranked; `pool_size` unless a model searched less deep.
    """

    query_language: str
    pool_languages: tuple[str, ...]
    pool_size: int
    queries: NDArray[np.int64]
    ranks: RelevantRanks
    top_languages: NDArray[np.int8] | None
    depth: int


class _Source(Protocol):
    """Where scores come from: a dense encoder, or BM25."""

    def scores(self, query_language: str, languages: Sequence[str]) -> tuple[ScoreBlocks, NDArray[np.int64]]:
        """Scores of the distinct queries against these languages' passages side by side; the row of each query."""


@dataclass
class Ranker:
    """Relevant ranks of one model on one collection.

    Attributes:
        collection: The collection.
        source: Where the scores come from.
        served: The tasks' subsets that were evaluated with it, for whoever shares it.
    """

    collection: Collection
    source: _Source
    served: set[tuple[str, str]] = field(default_factory=set)
    _counts: dict[str, _Counts] = field(default_factory=dict)

    @classmethod
    def dense(cls, collection: Collection, embeddings: Embeddings) -> Ranker:
        """For an encoder of single vectors."""
        return cls(collection, _DenseSource(collection, embeddings))

    @classmethod
    def bm25(cls, collection: Collection, model: BM25) -> Ranker:
        """For the embedded BM25."""
        return cls(collection, _BM25Source(collection, model))

    @property
    def similarity(self) -> str:
        """How scores are made; known once something was ranked."""
        return str(getattr(self.source, "similarity", "bm25"))

    def prepare(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Encode and rank all this now, in as few and as large steps as can be.

        Args:
            wanted: For each query language, the languages of all the passages that any of its pools will need.
        """
        todo = {code: languages for code, languages in wanted.items() if not self._covers(code, languages)}
        if not todo:
            return
        if isinstance(self.source, _DenseSource):
            self.source.encode(list(todo), sorted({code for languages in todo.values() for code in languages}))
        with progress_bar(sum(len(self.collection.queries[code]) for code in todo), "Ranking", "queries") as bar:
            for code, languages in todo.items():
                self._counts[code] = self._count(code, languages, bar.update)

    def rank(self, query_language: str, pool_languages: Sequence[str]) -> PoolRanks:
        """Relevant ranks of the queries of one language in the pool of these languages.

        Args:
            query_language: Code of the queries' language.
            pool_languages: Codes of the pool's languages, in the order of the collection.

        Raises:
            ModelError: If the model returns something that cannot be ranked.
        """
        if not self._covers(query_language, pool_languages):
            self.prepare({query_language: pool_languages})
        return self._counts[query_language].in_pool(tuple(pool_languages))

    def top_passages(self, query_language: str, pool_languages: Sequence[str], k: int) -> list[list[str]]:
        """Ids of the first k passages of every query of a language, best first."""
        if isinstance(self.source, _DenseSource):
            self.source.encode([query_language], pool_languages)
        scores, row = self.source.scores(query_language, pool_languages)
        ids = [passage for code in pool_languages for passage in self.collection.passages[code].ids]
        columns = top_columns(scores, int(row.max(initial=-1)) + 1, self._id_ranks(pool_languages), k)
        return [[ids[column] for column in columns[r]] for r in row]

    def _covers(self, query_language: str, pool_languages: Sequence[str]) -> bool:
        """Whether this has been counted: over more languages is as good, but then not their top."""
        counts = self._counts.get(query_language)
        if counts is None or not set(pool_languages) <= set(counts.languages):
            return False
        return len(pool_languages) == 1 or tuple(pool_languages) == counts.languages

    def _count(self, query_language: str, languages: Sequence[str], progress: Callable[[int], object]) -> _Counts:
        collection = self.collection
        languages = tuple(code for code in collection.languages if code in languages)
        queries = collection.queries[query_language]
        scores, row = self.source.scores(query_language, languages)
        sizes = [len(collection.passages[code]) for code in languages]
        offset = np.full(len(collection.languages), -1, dtype=np.int64)
        for code, start in zip(languages, np.cumsum([0, *sizes[:-1]]), strict=True):
            offset[collection.language_index(code)] = start
        judgments = queries.judgments
        kept = np.flatnonzero(offset[judgments.language] >= 0)
        column = offset[judgments.language[kept]] + judgments.passage[kept]
        target_row = row[judgments.query[kept]].astype(np.int32)
        by_row = np.argsort(target_row, kind="stable")
        counts = count_above(
            scores,
            int(row.max(initial=-1)) + 1,
            Targets(target_row[by_row], column[by_row]),
            np.cumsum(sizes).tolist(),
            self._id_ranks(languages),
            progress=progress,
        )
        above = np.empty_like(counts.above)
        above[by_row] = counts.above
        return _Counts(collection, queries, languages, kept, above, counts.top[row])

    def _id_ranks(self, languages: Sequence[str]) -> NDArray[np.int32]:
        return np.concatenate([self.collection.id_ranks[code] for code in languages])


@dataclass(frozen=True)
class _Counts:
    """The counts of one query language: for each kept judgment, the passages of each language that come before it."""

    collection: Collection
    queries: Queries
    languages: tuple[str, ...]
    kept: NDArray[np.int64]
    above: NDArray[np.int32]
    top: NDArray[np.int8]

    def in_pool(self, pool: tuple[str, ...]) -> PoolRanks:
        judgments = self.queries.judgments
        wanted = [self.collection.language_index(code) for code in pool]
        inside = np.isin(judgments.language[self.kept], wanted)
        kept = self.kept[inside]
        segments = [self.languages.index(code) for code in pool]
        rank = 1 + self.above[inside][:, segments].sum(axis=1, dtype=np.int32)
        present, query = np.unique(judgments.query[kept], return_inverse=True)
        top = None
        if len(pool) > 1:
            position = np.array([self.collection.language_index(code) for code in self.languages], dtype=np.int8)
            top = position[self.top[present]]
        size = sum(len(self.collection.passages[code]) for code in pool)
        return PoolRanks(
            query_language=self.queries.language,
            pool_languages=pool,
            pool_size=size,
            queries=present.astype(np.int64),
            ranks=RelevantRanks.sort(
                len(present), query.astype(np.int32), rank, judgments.gain[kept], judgments.language[kept]
            ),
            top_languages=top,
            depth=size,
        )


@dataclass
class _DenseSource:
    """Scores from embeddings. The passages of the last set of languages are kept ready."""

    collection: Collection
    embeddings: Embeddings
    similarity: Similarity | None = None
    _prepared: tuple[tuple[str, ...], PreparedPassages] | None = None

    def encode(self, query_languages: Sequence[str], pool_languages: Sequence[str]) -> None:
        collection = self.collection
        self.embeddings.encode(Role.QUERY, {code: collection.queries[code].texts for code in query_languages})
        self.embeddings.encode(Role.PASSAGE, {code: collection.passages[code].texts for code in pool_languages})

    def scores(self, query_language: str, languages: Sequence[str]) -> tuple[ScoreBlocks, NDArray[np.int64]]:
        queries, row = self.embeddings.rows(Role.QUERY, query_language, self.collection.queries[query_language].texts)
        if self._prepared is None or self._prepared[0] != tuple(languages):
            self._prepared = (tuple(languages), self._prepare(queries, languages))
        return DenseScores(queries, self._prepared[1], self.embeddings.model), row

    def _prepare(self, queries: Matrix, languages: Sequence[str]) -> PreparedPassages:
        vectors = []
        first: dict[tuple[str, str], int] = {}
        original: list[int] = []
        for code in languages:
            texts = self.collection.passages[code].texts
            matrix, row = self.embeddings.rows(Role.PASSAGE, code, texts)
            vectors.append(matrix[row])
            shared = code if self.embeddings.by_language else ""
            for text in texts:
                original.append(first.setdefault((shared, text.strip()), len(original)))
        passages = np.concatenate(vectors)
        if self.similarity is None:
            self.similarity = similarity_of(self.embeddings.model, queries[:8], passages[:64])
        return PreparedPassages(passages, np.array(original, dtype=np.int64), self.similarity, self.embeddings.device)


@dataclass
class _BM25Source:
    """Full BM25 scores; each language is indexed on its own."""

    collection: Collection
    model: BM25
    _scorer: BM25Scorer | None = None
    _indexed: frozenset[str] = frozenset()

    def scores(self, query_language: str, languages: Sequence[str]) -> tuple[ScoreBlocks, NDArray[np.int64]]:
        if self._scorer is None or not self._indexed >= set(languages):
            self._indexed = self._indexed | set(languages)
            self._scorer = self.model.scorer({code: self.collection.passages[code].texts for code in self._indexed})
        scorer = self._scorer
        texts = self.collection.queries[query_language].texts
        distinct = list(dict.fromkeys(texts))
        places = {text: row for row, text in enumerate(distinct)}

        def blocks(rows: slice, columns: slice) -> Matrix:
            parts = [scorer.scores(distinct[rows], query_language, code) for code in languages]
            return np.ascontiguousarray(np.concatenate(parts, axis=1)[:, columns])

        return blocks, np.array([places[text] for text in texts], dtype=np.int64)


def ranks_in_results(
    collection: Collection,
    query_language: str,
    pool_languages: Sequence[str],
    results: Mapping[str, Mapping[str, float]],
    depth: int,
) -> PoolRanks:
    """Relevant ranks in what a search returned: passage id -> score, by query id.

    Scores are compared as float32, ties by id. A relevant passage that was not returned has rank `NOT_RETRIEVED`.

    Args:
        collection: The collection.
        query_language: Language of the queries.
        pool_languages: Languages of the pool.
        results: What the search returned.
        depth: How many passages it was asked for.

    Raises:
        ModelError: If a score is NaN or infinite.
    """
    queries = collection.queries[query_language]
    judgments = queries.judgments
    wanted = [collection.language_index(code) for code in pool_languages]
    kept = np.flatnonzero(np.isin(judgments.language, wanted))
    place = {
        passage: int(rank)
        for code in pool_languages
        for passage, rank in zip(collection.passages[code].ids, collection.id_ranks[code], strict=True)
    }
    language_of_place = {
        int(rank): collection.language_index(code) for code in pool_languages for rank in collection.id_ranks[code]
    }
    present, query = np.unique(judgments.query[kept], return_inverse=True)
    rank = np.full(len(kept), NOT_RETRIEVED, dtype=np.int32)
    size = sum(len(collection.passages[code]) for code in pool_languages)
    tops = []
    first = np.searchsorted(query, np.arange(len(present) + 1))
    for number, position in enumerate(present):
        found = results.get(queries.ids[position], {})
        ids = np.array([place[passage] for passage in found], dtype=np.int64)
        scores = np.array(list(found.values()), dtype=np.float32)
        if not np.isfinite(scores).all():
            raise ModelError(
                f"a score is {scores[~np.isfinite(scores)][0]}: the model's search must return finite numbers"
            )
        order = np.lexsort((-ids, -scores))
        rank_of = {int(ids[column]): number_ + 1 for number_, column in enumerate(order)}
        for judgment in range(first[number], first[number + 1]):
            code = collection.languages[judgments.language[kept[judgment]]]
            passage = int(collection.id_ranks[code][judgments.passage[kept[judgment]]])
            rank[judgment] = rank_of.get(passage, NOT_RETRIEVED)
        tops.append([language_of_place[int(ids[column])] for column in order[: min(100, size)]])
    complete = len(pool_languages) > 1 and len({len(top) for top in tops}) == 1
    return PoolRanks(
        query_language=query_language,
        pool_languages=tuple(pool_languages),
        pool_size=size,
        queries=present.astype(np.int64),
        ranks=RelevantRanks.sort(
            len(present), query.astype(np.int32), rank, judgments.gain[kept], judgments.language[kept]
        ),
        top_languages=np.array(tops, dtype=np.int8) if complete else None,
        depth=depth,
    )
