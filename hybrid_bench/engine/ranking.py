"""One model on one collection: relevant ranks in any pool, from one encoding and one scoring of each text.

`Ranker` answers "where do the relevant passages of the German queries stand in the English pool, in the pool of all
languages?". The first question about a query set scores it against all passages at hand; every other pool of that set
is then a sum over counts that are already there.

A collection of up to `RESIDENT_PASSAGES` is kept in memory, embeddings and all (`resident`). A larger one is read,
encoded, scored and counted in pieces, and nothing but the counts is kept of it (`streamed`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.data.collection import Collection, Judgments, take
from hybrid_bench.engine.debias import Debias, first_parts, interleaved, turns
from hybrid_bench.engine.encode import Embeddings
from hybrid_bench.engine.lexical import BM25
from hybrid_bench.engine.ranks import BLOCK_ROWS, PIECE_COLUMNS, RankCounts, Targets, count_above, top_columns
from hybrid_bench.engine.resident import DenseScorer, LexicalScorer, Scorer, n_rows
from hybrid_bench.engine.streamed import Stream
from hybrid_bench.errors import ModelError
from hybrid_bench.measures.metrics import NOT_RETRIEVED, RelevantRanks
from hybrid_bench.progress import Progress

__all__ = ["PoolRanks", "Ranker", "ranks_in_results"]

#: Pools of more passages than this are streamed.
RESIDENT_PASSAGES = 2 * PIECE_COLUMNS
#: Length of the list of languages at the top of a pool.
_TOP = 100


@dataclass(frozen=True)
class PoolRanks:
    """The queries of one query set in one pool.

    Attributes:
        query_set: Name of the query set.
        parts: Names of the parts that make up the pool.
        pool_size: Number of passages in the pool.
        queries: int64 (n,), positions in the collection's `Queries` of those that have a relevant passage in the pool.
        ranks: Their relevant ranks, with queries counted as in `queries`; ``language`` is the position of the
            passage's part in the collection.
        top_languages: int8 (n, k), part of the first k passages as a position in the collection, best first; None for
            a pool of one part, where it says nothing, and where it is not known.
        depth: How many passages of each query were ranked; `pool_size` unless a model searched less deep.
    """

    query_set: str
    parts: tuple[str, ...]
    pool_size: int
    queries: NDArray[np.int64]
    ranks: RelevantRanks
    top_languages: NDArray[np.int8] | None
    depth: int


@dataclass
class Ranker:
    """Relevant ranks of one model on one collection.

    Attributes:
        collection: The collection.
        scorer: Where the scores come from.
        in_turn: Whether the parts of a pool take turns, each in the order of its scores.
        served: What was evaluated with it, for whoever shares it.
    """

    collection: Collection
    scorer: Scorer
    in_turn: bool = False
    served: set[tuple[str, ...]] = field(default_factory=set)
    _counts: dict[str, _Counts] = field(default_factory=dict)

    @classmethod
    def dense(cls, collection: Collection, embeddings: Embeddings, debias: Debias | None = None) -> Ranker:
        """For an encoder of single vectors, debiased if that is asked for."""
        fitted = debias is not None and debias.method.fits
        return cls(collection, DenseScorer(collection, embeddings, debias if fitted else None), _in_turn(debias))

    @classmethod
    def bm25(cls, collection: Collection, model: BM25, debias: Debias | None = None) -> Ranker:
        """For the embedded BM25, whose ranks may be interleaved."""
        return cls(collection, LexicalScorer(collection, model), _in_turn(debias))

    @property
    def similarity(self) -> str:
        """How scores are made; known once something was ranked."""
        return str(getattr(self.scorer, "similarity", "bm25"))

    @property
    def remarks(self) -> list[str]:
        """What has to be said of the embeddings, so far."""
        return self.scorer.embeddings.remarks if isinstance(self.scorer, DenseScorer) else []

    @property
    def kept_embeddings(self) -> int:
        """How many embeddings were encoded and saved on disk, so far."""
        cache = self.scorer.embeddings.cache if isinstance(self.scorer, DenseScorer) else None
        return 0 if cache is None else cache.kept

    def prepare(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Encode and rank all this now, in as few and as large steps as can be.

        Args:
            wanted: For each query set, all the parts that any of its pools will need.
        """
        ordered = {name: tuple(part for part in self.collection.parts if part in wanted[name]) for name in wanted}
        todo = {name: parts for name, parts in ordered.items() if not self._covers(name, parts)}
        if self._resident(set(chain(*todo.values()))):
            self.scorer.load(list(todo), [part for part in self.collection.parts if part in chain(*todo.values())])
            self._count_all(todo)
            return
        # Too much for the memory at once: what has a pool of its own comes by itself.
        grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, parts in todo.items():
            grouped[parts].append(name)
        for parts, names in grouped.items():
            if self._resident(parts):
                self.scorer.load(names, parts)
                self._count_all(dict.fromkeys(names, parts))
            else:
                assert isinstance(self.scorer, DenseScorer)
                tracked = {name: self._tracked(name, parts) for name in names}
                places = {name: (each.query, each.column) for name, each in tracked.items()}
                for name, streamed in Stream(self.scorer, parts, places, _TOP if len(parts) > 1 else 0).items():
                    self._counts[name] = tracked[name].counted(streamed.counts(), streamed.row)
            self.scorer.forget()

    def rank(self, query_set: str, parts: Sequence[str]) -> PoolRanks:
        """Relevant ranks of the queries of one query set in the pool of these parts.

        Args:
            query_set: Name of the query set.
            parts: The pool, in the order of the collection.

        Raises:
            ModelError: If the model returns something that cannot be ranked.
        """
        if not self._covers(query_set, parts):
            self.prepare({query_set: parts})
        return self._counts[query_set].in_pool(tuple(parts), in_turn=self.in_turn)

    def top_passages(self, query_set: str, parts: Sequence[str], k: int) -> list[dict[str, float]]:
        """The first k passages of every query that count for it: score by id, best first, ties as in `rank`."""
        queries = self.collection.queries[query_set]
        id_ranks = self.collection.id_ranks(parts)
        excluded = {} if queries.excluded is None else _ids(self.collection, queries.excluded)
        wanted, k = k, k + max(map(len, excluded.values()), default=0)
        if self._resident(parts):
            self.scorer.load([query_set], parts)
            scores, row = self.scorer.scores(query_set, parts)
            columns, values = top_columns(scores, n_rows(row), id_ranks, k)
        else:
            assert isinstance(self.scorer, DenseScorer)
            nothing = np.empty(0, dtype=np.int64)
            ((_, streamed),) = Stream(self.scorer, parts, {query_set: (nothing, nothing)}, k).items()
            (columns, values), row = streamed.counter.best(), streamed.row
        ends = np.cumsum([len(self.collection.passages[part]) for part in parts])
        ids: dict[int, str] = {}
        for part, end in zip(parts, ends, strict=True):
            passages = self.collection.passages[part]
            inside = np.unique(columns[(columns < end) & (columns >= end - len(passages))])
            ids |= dict(zip(inside.tolist(), take(passages.ids, inside - (end - len(passages))), strict=True))
        found = []
        for query, r in enumerate(row.tolist()):
            best = {ids[column]: value for column, value in zip(columns[r].tolist(), values[r].tolist(), strict=True)}
            for passage in excluded.get(query, {}).values():
                best.pop(passage, None)
            found.append(dict(islice(best.items(), wanted)))
        return found

    def _covers(self, query_set: str, parts: Sequence[str]) -> bool:
        """Whether this has been counted: over more parts is as good, but then not their top."""
        counts = self._counts.get(query_set)
        if counts is None or not set(parts) <= set(counts.parts):
            return False
        return len(parts) == 1 or tuple(parts) == counts.parts

    def fits(self, wanted: Mapping[str, Sequence[str]]) -> bool:
        """Whether all this is kept in memory at once, and ranked together (see `prepare`)."""
        return self._resident(set(chain(*wanted.values())))

    def _resident(self, parts: Sequence[str] | set[str]) -> bool:
        size = sum(len(self.collection.passages[part]) for part in parts)
        return size <= RESIDENT_PASSAGES or not self.scorer.streams

    def _count_all(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Rank these query sets in all their parts, which are loaded; the work is told by pairs that are scored."""
        sizes = {name: sum(len(self.collection.passages[part]) for part in wanted[name]) for name in wanted}
        work = sum(len(self.collection.queries[name]) * size for name, size in sizes.items())
        with Progress(work, "Ranking", "pairs of query and passage") as bar:
            for name, parts in wanted.items():
                self._counts[name] = self._count(name, parts, partial(bar.update, each=sizes[name]))

    def _count(self, query_set: str, parts: Sequence[str], progress: Callable[[int], object]) -> _Counts:
        tracked = self._tracked(query_set, parts)
        scores, row = self.scorer.scores(query_set, parts)
        targets, by_row = Targets.sort(row[tracked.query], tracked.column)
        size = sum(len(self.collection.passages[part]) for part in parts)
        # What cannot be scored in pieces is scored whole, for fewer queries at once.
        whole = not self.scorer.streams and size > PIECE_COLUMNS
        counts = count_above(
            scores,
            n_rows(row),
            targets,
            np.cumsum([len(self.collection.passages[part]) for part in parts]).tolist(),
            self.collection.id_ranks(parts),
            top_k=_TOP,
            progress=progress,
            block_rows=max(8, BLOCK_ROWS * PIECE_COLUMNS // size) if whole else BLOCK_ROWS,
            piece_columns=size if whole else PIECE_COLUMNS,
        )
        return tracked.counted(counts.unsorted(by_row), row)

    def _tracked(self, query_set: str, parts: Sequence[str]) -> _Tracked:
        """The passages of these parts whose ranks have to be known: the relevant ones, and those that do not count."""
        collection = self.collection
        queries = collection.queries[query_set]
        sizes = [len(collection.passages[part]) for part in parts]
        offset = np.full(len(collection.parts), -1, dtype=np.int64)
        for part, start in zip(parts, np.cumsum([0, *sizes[:-1]]), strict=True):
            offset[collection.part_index(part)] = start
        kept, absent = (
            np.flatnonzero((offset[queries.judgments.part] >= 0) & present)
            for present in (queries.judgments.passage >= 0, queries.judgments.passage < 0)
        )
        query, columns = [queries.judgments.query[kept]], [_columns(queries.judgments, kept, offset)]
        if queries.excluded is not None:
            excluded = np.flatnonzero(offset[queries.excluded.part] >= 0)
            query.append(queries.excluded.query[excluded])
            columns.append(_columns(queries.excluded, excluded, offset))
        return _Tracked(
            collection,
            query_set,
            tuple(parts),
            kept,
            absent,
            np.concatenate(query).astype(np.int64),
            np.concatenate(columns),
        )


def _in_turn(debias: Debias | None) -> bool:
    return debias is not None and not debias.method.fits


def _columns(judgments: Judgments, chosen: NDArray[np.int64], offset: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(offset[judgments.part[chosen]] + judgments.passage[chosen], dtype=np.int64)


@dataclass(frozen=True)
class _Tracked:
    """What is counted for one query set.

    Attributes:
        collection: The collection.
        query_set: Name of the query set.
        parts: The parts that are counted in.
        kept: The judgments whose passages stand in these parts.
        absent: The judgments whose passages should, but do not.
        query: Query of each tracked passage: first those of `kept`, then those that do not count.
        column: Place of each of them in the parts, side by side.
    """

    collection: Collection
    query_set: str
    parts: tuple[str, ...]
    kept: NDArray[np.int64]
    absent: NDArray[np.int64]
    query: NDArray[np.int64]
    column: NDArray[np.int64]

    def counted(self, counts: RankCounts, row: NDArray[np.int64]) -> _Counts:
        """With what was counted, in the order of `query`; `row` is the row of each query in the scores."""
        return _Counts(self, counts.above, counts.top[row])


@dataclass(frozen=True)
class _Counts:
    """The counts of one query set: for each tracked passage, the passages of each part that come before it."""

    tracked: _Tracked
    above: NDArray[np.int32]
    top: NDArray[np.int8]

    @property
    def parts(self) -> tuple[str, ...]:
        return self.tracked.parts

    def in_pool(self, pool: tuple[str, ...], *, in_turn: bool) -> PoolRanks:
        tracked, collection = self.tracked, self.tracked.collection
        queries = collection.queries[tracked.query_set]
        judgments = queries.judgments
        wanted = [collection.part_index(part) for part in pool]
        segments = [self.parts.index(part) for part in pool]
        rank = 1 + self.above[:, segments].sum(axis=1, dtype=np.int32)
        n_kept = len(tracked.kept)
        inside = np.isin(judgments.part[tracked.kept], wanted)
        kept, relevant_rank = tracked.kept[inside], rank[:n_kept][inside]
        if queries.excluded is not None:
            relevant_rank = _without_excluded(
                relevant_rank,
                judgments.query[kept],
                tracked.column[:n_kept][inside],
                excluded_rank=rank[n_kept:],
                excluded_query=tracked.query[n_kept:],
                excluded_column=tracked.column[n_kept:],
            )
        absent = tracked.absent[np.isin(judgments.part[tracked.absent], wanted)]
        judged = np.concatenate([kept, absent])
        ranks = np.concatenate([relevant_rank, np.full(len(absent), NOT_RETRIEVED, dtype=np.int32)])
        present, query = np.unique(judgments.query[judged], return_inverse=True)
        top = None
        if len(pool) > 1:
            position = np.array([collection.part_index(part) for part in self.parts], dtype=np.int8)
            top = position[self.top[present]]
        sizes = np.array([len(collection.passages[part]) for part in pool])
        if in_turn and top is not None:
            turn = turns([queries.question_ids[row] for row in present.tolist()], pool)
            own = np.array([wanted.index(part) for part in judgments.part[kept].tolist()], dtype=np.int64)
            place = self.above[:n_kept][inside][np.arange(len(kept)), np.array(segments)[own]]
            ranks[: len(kept)] = interleaved(place, own, turn[query[: len(kept)]], sizes)
            top = np.array(wanted, dtype=np.int8)[first_parts(turn, sizes, top.shape[1])]
        size = int(sizes.sum())
        return PoolRanks(
            query_set=tracked.query_set,
            parts=pool,
            pool_size=size,
            queries=present.astype(np.int64),
            ranks=RelevantRanks.sort(
                len(present), query.astype(np.int32), ranks, judgments.gain[judged], judgments.part[judged]
            ),
            top_languages=top,
            depth=size,
        )


def _without_excluded(
    rank: NDArray[np.int32],
    query: NDArray[np.int32],
    column: NDArray[np.int64],
    *,
    excluded_rank: NDArray[np.int32],
    excluded_query: NDArray[np.int64],
    excluded_column: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Ranks in the pool without the passages that do not count; one that is relevant itself is not retrieved.

    Excluded passages of other parts than the pool's do no harm: there are none, a pool with any is of one part.
    """
    lowered = rank.copy()
    left_out = np.zeros(len(rank), dtype=bool)
    first = np.searchsorted(query, np.arange(int(query.max(initial=-1)) + 2))
    for place, of, passage in zip(excluded_rank, excluded_query, excluded_column, strict=True):
        if of + 1 >= len(first):
            continue
        mine = slice(first[of], first[of + 1])
        lowered[mine] -= (rank[mine] > place).astype(np.int32)
        left_out[mine] |= column[mine] == passage
    lowered[left_out] = NOT_RETRIEVED
    return lowered


def ranks_in_results(
    collection: Collection,
    query_set: str,
    parts: Sequence[str],
    results: Mapping[str, Mapping[str, float]],
    depth: int,
) -> PoolRanks:
    """Relevant ranks in what a search returned: passage id -> score, by query id.

    Scores are compared as float32, ties by id. A relevant passage that was not returned has rank `NOT_RETRIEVED`.

    Args:
        collection: The collection.
        query_set: Name of the query set.
        parts: The pool.
        results: What the search returned.
        depth: How many passages it was asked for.

    Raises:
        ModelError: If a score is NaN or infinite.
    """
    queries = collection.queries[query_set]
    judgments = queries.judgments
    kept = np.flatnonzero(np.isin(judgments.part, [collection.part_index(part) for part in parts]))
    part_of: dict[str, int] = {}
    wanted = {passage for found in results.values() for passage in found}
    for part in parts:
        part_of |= dict.fromkeys(wanted.intersection(collection.passages[part].ids), collection.part_index(part))
    if stray := wanted - part_of.keys():
        raise ModelError(f"the model's search returned '{min(stray)}', which is not in the pool")
    present, query = np.unique(judgments.query[kept], return_inverse=True)
    rank = np.full(len(kept), NOT_RETRIEVED, dtype=np.int32)
    size = sum(len(collection.passages[part]) for part in parts)
    excluded = _ids(collection, queries.excluded) if queries.excluded is not None else {}
    relevant = _ids(collection, judgments)
    tops = []
    first = np.searchsorted(query, np.arange(len(present) + 1))
    for number, position in enumerate(present.tolist()):
        found = results.get(queries.ids[position], {})
        scores = np.array(list(found.values()), dtype=np.float32)
        if not np.isfinite(scores).all():
            raise ModelError(
                f"a score is {scores[~np.isfinite(scores)][0]}: the model's search must return finite numbers"
            )
        counted = dict(zip(found, scores.tolist(), strict=True))
        for passage in excluded.get(position, {}).values():
            counted.pop(passage, None)
        # From the greatest id to the smallest; sorting by score keeps that order among equals.
        order = sorted(sorted(counted, key=str.encode, reverse=True), key=lambda passage: -counted[passage])
        rank_of = {passage: place for place, passage in enumerate(order, start=1)}
        for row in range(first[number], first[number + 1]):
            passage_id = relevant.get(position, {}).get(int(kept[row]))
            rank[row] = NOT_RETRIEVED if passage_id is None else rank_of.get(passage_id, NOT_RETRIEVED)
        tops.append([part_of[passage] for passage in order[: min(_TOP, size)]])
    complete = len(parts) > 1 and len({len(top) for top in tops}) == 1
    return PoolRanks(
        query_set=query_set,
        parts=tuple(parts),
        pool_size=size,
        queries=present.astype(np.int64),
        ranks=RelevantRanks.sort(
            len(present), query.astype(np.int32), rank, judgments.gain[kept], judgments.part[kept]
        ),
        top_languages=np.array(tops, dtype=np.int8) if complete else None,
        depth=depth,
    )


def _ids(collection: Collection, judgments: Judgments) -> dict[int, dict[int, str]]:
    """By query: id of the passage of each judgment, by the judgment's place; without those that the corpus lacks."""
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for number, part in enumerate(collection.parts):
        of_part = np.flatnonzero((judgments.part == number) & (judgments.passage >= 0))
        ids = take(collection.passages[part].ids, judgments.passage[of_part].astype(np.int64))
        for place, query, passage in zip(of_part.tolist(), judgments.query[of_part].tolist(), ids, strict=True):
            found[query][place] = passage
    return found
