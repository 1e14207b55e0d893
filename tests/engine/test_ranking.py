"""Ranks of one model on one collection, against their definition, and whether the way of computing changes any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from helpers import WordCounts, static_model, task_of, texts_of
from hybrid_bench.data.collection import Collection, Column, Judgments, Passages
from hybrid_bench.engine import ranking, streamed
from hybrid_bench.engine.cache import EmbeddingCache
from hybrid_bench.engine.encode import DenseScores, Embeddings, PreparedPassages, Role, Similarity
from hybrid_bench.engine.lexical import BM25
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.engine.ranking import PoolRanks, Ranker, ranks_in_results
from hybrid_bench.engine.ranks import BLOCK_ROWS, Targets, count_above
from hybrid_bench.errors import ModelError
from hybrid_bench.measures.metrics import NOT_RETRIEVED
from reference import order_by_definition


def embeddings_of(model: Any, **options: Any) -> Embeddings:
    metadata = task_of("HybridDemo-Pairs").metadata
    arguments: dict[str, Any] = {"encode_kwargs": {"batch_size": 256}, "by_subset": False, **options}
    return Embeddings(model=model, metadata=metadata, subset=lambda code: f"{code}-{code}", **arguments)


@pytest.fixture(scope="module")
def demo() -> Collection:
    return task_of("HybridDemo-Pairs").read_collection()


def with_titles(collection: Collection) -> Collection:
    """Two of three passages have a title, one of five; so some that differ only by it, or by not having one."""
    passages = {
        part: replace(
            given, titles=tuple("" if n % 3 == 0 else given.texts[n % 5].split()[0] for n in range(len(given)))
        )
        for part, given in collection.passages.items()
    }
    return replace(collection, passages=passages)


def with_copies(collection: Collection, distinct: int = 12) -> Collection:
    """Two of three passages read as one of a few texts, which stand in every part, some with space around them."""
    rng = np.random.default_rng(8)
    pool = texts_of(collection, ["de", "en"])
    common = [pool[place] for place in rng.choice(len(pool), size=distinct, replace=False)]
    spaces = ("", "", " ")
    passages = {
        part: replace(
            given,
            texts=tuple(
                text if n % 3 == 0 else f"{common[rng.integers(distinct)]}{spaces[rng.integers(3)]}"
                for n, text in enumerate(given.texts)
            ),
        )
        for part, given in collection.passages.items()
    }
    return replace(collection, passages=passages)


def with_repeated_questions(collection: Collection) -> Collection:
    """Every third question reads as another one further up, so that their scores do not stand in their order."""
    queries = {
        name: replace(given, texts=tuple(given.texts[n // 2 if n % 3 == 2 else n] for n in range(len(given))))
        for name, given in collection.queries.items()
    }
    return replace(collection, queries=queries)


def with_absent(collection: Collection) -> Collection:
    """Every fourth judgment is of a passage that is not there, and every one of each tenth query's in three parts."""
    queries = {}
    for name, given in collection.queries.items():
        rows = rows_of(given.judgments)
        lacking = [
            n % 4 == 3 or (row[0] % 10 == 0 and collection.parts[row[1]] in ("de", "en", "th"))
            for n, row in enumerate(rows)
        ]
        changed = [
            (query, part, -1 if absent else passage, 1 + (query + part) % 3)
            for (query, part, passage, _), absent in zip(rows, lacking, strict=True)
        ]
        queries[name] = replace(given, judgments=Judgments.of(changed))
    return replace(collection, queries=queries)


def with_excluded(collection: Collection) -> Collection:
    """English queries against English passages, some of which do not count: none to four of a query's, relevant ones
    among them, and more passages that are relevant.
    """
    rng = np.random.default_rng(9)
    given = collection.queries["en"]
    index, size = collection.part_index("en"), len(collection.passages["en"])
    judged, excluded = [], []
    for query, part, passage, gain in rows_of(given.judgments):
        if part == index:
            others = np.setdiff1d(rng.choice(size, size=3, replace=False), [passage]).tolist()
            relevant = [passage, *others]
            judged += [(query, part, place, gain) for place in relevant]
            left_out = {
                *rng.choice(size, size=query % 4, replace=False).tolist(),
                *(relevant[:2] if query % 5 == 0 else []),
            }
            excluded += [(query, part, place, 1) for place in rng.permutation(sorted(left_out)).tolist()]
    queries = replace(given, judgments=Judgments.of(judged), excluded=Judgments.of(excluded))
    return replace(collection, queries={"en": queries})


def expected_ranks(
    collection: Collection, scores: NDArray[Any], query_set: str, pool: Sequence[str]
) -> list[list[tuple[int, str, int]]]:
    """Rank, part and gain of the relevant passages of every query that has one, from all scores, by the definition."""
    ids = [passage for part in pool for passage in collection.passages[part].ids]
    queries = collection.queries[query_set]
    relevant: list[dict[str, tuple[str, int]]] = [{} for _ in scores]
    for number, (query, part, passage, gain) in enumerate(rows_of(queries.judgments)):
        name = collection.parts[part]
        if name in pool:
            of_part = collection.passages[name].ids
            relevant[query][of_part[passage] if passage >= 0 else f"absent {number}"] = (name, gain)
    left_out: list[set[str]] = [set() for _ in scores]
    for query, part, passage, _ in [] if queries.excluded is None else rows_of(queries.excluded):
        left_out[query].add(collection.passages[collection.parts[part]].ids[passage])
    expected = []
    for row, wanted, without in zip(scores.tolist(), relevant, left_out, strict=True):
        order = [ids[column] for column in order_by_definition(row, ids) if ids[column] not in without]
        rank = {passage: place for place, passage in enumerate(order, 1)}
        if wanted:
            places = [(rank.get(passage, NOT_RETRIEVED), *judged) for passage, judged in wanted.items()]
            expected.append(sorted(places))
    return expected


def rows_of(judgments: Judgments) -> list[tuple[int, int, int, int]]:
    columns = (judgments.query, judgments.part, judgments.passage, judgments.gain)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def found_ranks(collection: Collection, pool: PoolRanks) -> list[list[tuple[int, str, int]]]:
    found: list[list[tuple[int, str, int]]] = [[] for _ in range(pool.ranks.n_queries)]
    ranks = pool.ranks
    for query, rank, part, gain in zip(ranks.query, ranks.rank, ranks.language, ranks.gain, strict=True):
        found[query].append((int(rank), collection.parts[part], int(gain)))
    return [sorted(places) for places in found]


def as_read(passages: Passages) -> list[str]:
    """The passages as mteb gives them to a model."""
    titles = passages.titles if passages.titles is not None else [""] * len(passages)
    return [f"{title} {text}".strip() for title, text in zip(titles, passages.texts, strict=True)]


def word_count_scores(collection: Collection, query_set: str, pool: Sequence[str]) -> NDArray[Any]:
    model = WordCounts()
    passages = [text for part in pool for text in as_read(collection.passages[part])]
    return model.vectors(collection.queries[query_set].texts) @ model.vectors(passages).T


def bm25_scores(collection: Collection, query_set: str, pool: Sequence[str]) -> NDArray[Any]:
    scorer = BM25().scorer({part: as_read(collection.passages[part]) for part in pool})
    queries = collection.queries[query_set]
    return np.concatenate([scorer.scores(queries.texts, queries.language, part) for part in pool], axis=1)


class TestRanker:
    """Whole numbers as scores: many ties, and no rounding to excuse a difference."""

    @pytest.fixture(params=["dense", "bm25"])
    def make(self, request: pytest.FixtureRequest) -> Callable[[Collection], Ranker]:
        if request.param == "bm25":
            return lambda collection: Ranker.bm25(collection, BM25())
        return lambda collection: Ranker.dense(collection, embeddings_of(WordCounts()))

    @pytest.fixture
    def ranker(self, make: Callable[[Collection], Ranker], demo: Collection) -> Ranker:
        return make(demo)

    def scores(self, ranker: Ranker, query_set: str, pool: Sequence[str]) -> NDArray[Any]:
        of = bm25_scores if ranker.similarity == "bm25" else word_count_scores
        return of(ranker.collection, query_set, pool)

    @pytest.mark.parametrize("pool", [("de",), ("th",), ("de", "th"), None], ids=str)
    def test_ranks_are_those_of_the_definition(self, ranker: Ranker, pool: tuple[str, ...] | None) -> None:
        collection = ranker.collection
        pool = pool or collection.parts
        found = ranker.rank("de", pool)
        expected = expected_ranks(collection, self.scores(ranker, "de", pool), "de", pool)
        assert found_ranks(collection, found) == expected
        assert (found.query_set, found.parts) == ("de", pool)
        assert found.pool_size == found.depth == sum(len(collection.passages[part]) for part in pool)
        assert found.queries.tolist() == list(range(len(collection.queries["de"])))

    def test_one_count_serves_every_pool(self, ranker: Ranker) -> None:
        """Pools asked for after a wide count are sums over it, and equal what they are when asked for alone."""
        collection = ranker.collection
        ranker.prepare({"es": collection.parts})
        for pool in (("es",), ("zh",), collection.parts):
            expected = expected_ranks(collection, self.scores(ranker, "es", pool), "es", pool)
            assert found_ranks(collection, ranker.rank("es", pool)) == expected

    def test_top_languages(self, ranker: Ranker) -> None:
        collection = ranker.collection
        pool = ("ar", "en", "vi")
        ids = [passage for part in pool for passage in collection.passages[part].ids]
        parts = [part for part in pool for _ in collection.passages[part].ids]
        top = ranker.rank("en", pool).top_languages
        assert top is not None
        for row, scores in zip(top, self.scores(ranker, "en", pool).tolist(), strict=True):
            order = order_by_definition(scores, ids)[:100]
            assert [collection.parts[part] for part in row] == [parts[column] for column in order]
        assert ranker.rank("en", ("vi",)).top_languages is None

    def test_top_passages(self, ranker: Ranker) -> None:
        pool = ("de", "ru")
        ids = [passage for part in pool for passage in ranker.collection.passages[part].ids]
        best = ranker.top_passages("de", pool, 7)
        for found, scores in zip(best, self.scores(ranker, "de", pool).tolist(), strict=True):
            # in this order, with these scores
            assert list(found.items()) == [(ids[c], scores[c]) for c in order_by_definition(scores, ids)[:7]]

    def test_top_passages_of_a_pool_with_fewer(self, ranker: Ranker) -> None:
        found = ranker.top_passages("de", ("th",), 1000)
        assert {len(row) for row in found} == {len(ranker.collection.passages["th"])}

    def test_titles_are_read(self, make: Callable[[Collection], Ranker], demo: Collection) -> None:
        pool = ("de", "th")
        expected = []
        for collection in (demo, with_titles(demo)):
            ranker = make(collection)
            expected.append(expected_ranks(collection, self.scores(ranker, "de", pool), "de", pool))
            assert found_ranks(collection, ranker.rank("de", pool)) == expected[-1]
        assert expected[0] != expected[1]

    def test_what_the_corpus_lacks_is_not_retrieved(
        self, make: Callable[[Collection], Ranker], demo: Collection
    ) -> None:
        collection = with_absent(demo)
        ranker = make(collection)
        for pool in (("de",), ("en",), ("de", "en"), collection.parts):
            expected = expected_ranks(collection, self.scores(ranker, "de", pool), "de", pool)
            found = ranker.rank("de", pool)
            assert found_ranks(collection, found) == expected
            assert (found.ranks.rank == NOT_RETRIEVED).any()
            # A query without any relevant passage that is there is still a query of the pool.
            lost = [all(place == NOT_RETRIEVED for place, _, _ in places) for places in expected]
            assert any(lost) == (pool != collection.parts)

    def test_what_does_not_count_is_not_in_the_pool(
        self, make: Callable[[Collection], Ranker], demo: Collection
    ) -> None:
        collection = with_excluded(demo)
        ranker = make(collection)
        scores = self.scores(ranker, "en", ("en",))
        found = ranker.rank("en", ("en",))
        expected = expected_ranks(collection, scores, "en", ("en",))
        assert found_ranks(collection, found) == expected
        everything = replace(collection, queries={"en": replace(collection.queries["en"], excluded=None)})
        assert expected != expected_ranks(everything, scores, "en", ("en",))
        # relevant, but left out: it counts as not retrieved
        assert 0 < (found.ranks.rank == NOT_RETRIEVED).sum() < len(found.ranks.rank)

    def test_each_text_is_encoded_once(self, demo: Collection) -> None:
        WordCounts.asked.clear()
        ranker = Ranker.dense(demo, embeddings_of(WordCounts()))
        for pool in (("de",), ("en",), demo.parts, ("de", "en")):
            ranker.rank("de", pool)
        passages = {text.strip() for part in demo.parts for text in demo.passages[part].texts}
        encoded = {role: sum(n for asked, _, n in WordCounts.asked if asked == role) for role in ("query", "document")}
        assert encoded == {"query": len(set(demo.queries["de"].texts)), "document": len(passages)}


class Searched:
    """What a search of limited depth returns, over the German queries and the passages of two languages."""

    POOL = ("de", "en")

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.ids = [passage for part in self.POOL for passage in collection.passages[part].ids]
        self.scores = word_count_scores(collection, "de", self.POOL)

    def results(self, depth: int) -> dict[str, dict[str, float]]:
        """The first `depth` passages of every query, in no particular order."""
        found = {}
        for query, row in zip(self.collection.queries["de"].ids, self.scores.tolist(), strict=True):
            best = sorted(order_by_definition(row, self.ids)[:depth])
            found[query] = {self.ids[column]: row[column] for column in best}
        return found

    def ranks(self, depth: int) -> PoolRanks:
        return ranks_in_results(self.collection, "de", self.POOL, self.results(depth), depth)


class TestRanksInResults:
    def test_a_search_of_full_depth_gives_the_same_as_the_engine(self, demo: Collection) -> None:
        searched = Searched(demo)
        ours = Ranker.dense(demo, embeddings_of(WordCounts())).rank("de", searched.POOL)
        theirs = searched.ranks(len(searched.ids))
        assert found_ranks(demo, theirs) == found_ranks(demo, ours)
        assert ours.top_languages is not None
        assert theirs.top_languages is not None
        assert (theirs.top_languages == ours.top_languages).all()
        assert theirs.depth == theirs.pool_size == len(searched.ids)

    def test_what_was_not_returned_has_no_rank(self, demo: Collection) -> None:
        searched = Searched(demo)
        full, shallow = searched.ranks(len(searched.ids)), searched.ranks(20)
        within = full.ranks.rank <= 20
        assert 0 < within.sum() < len(within)
        assert (shallow.ranks.rank == np.where(within, full.ranks.rank, NOT_RETRIEVED)).all()
        assert (shallow.depth, shallow.pool_size) == (20, len(searched.ids))

    def test_a_query_without_any_result(self, demo: Collection) -> None:
        searched = Searched(demo)
        results = searched.results(20)
        empty = demo.queries["de"].ids[3]
        results[empty] = {}
        ranks = ranks_in_results(demo, "de", searched.POOL, results, 20).ranks
        assert (ranks.rank[ranks.query == 3] == NOT_RETRIEVED).all()

    def test_what_the_corpus_lacks_is_not_retrieved(self, demo: Collection) -> None:
        searched = Searched(with_absent(demo))
        depth = len(searched.ids)
        found = searched.ranks(depth)
        assert found_ranks(searched.collection, found) == expected_ranks(
            searched.collection, searched.scores, "de", searched.POOL
        )
        assert (found.ranks.rank == NOT_RETRIEVED).any()

    def test_what_does_not_count_is_not_in_the_pool(self, demo: Collection) -> None:
        collection = with_excluded(demo)
        scores = word_count_scores(collection, "en", ("en",))
        ids = collection.passages["en"].ids
        results = {
            query: dict(zip(ids, row, strict=True))
            for query, row in zip(collection.queries["en"].ids, scores.tolist(), strict=True)
        }
        found = ranks_in_results(collection, "en", ("en",), results, len(ids))
        assert found_ranks(collection, found) == expected_ranks(collection, scores, "en", ("en",))
        assert (found.ranks.rank == NOT_RETRIEVED).any()

    def test_a_passage_that_is_not_in_the_pool(self, demo: Collection) -> None:
        searched = Searched(demo)
        results = searched.results(20)
        results[demo.queries["de"].ids[0]]["somewhere else"] = 0.0
        with pytest.raises(ModelError, match="the model's search returned 'somewhere else', which is not in the pool"):
            ranks_in_results(demo, "de", searched.POOL, results, 20)

    @pytest.mark.parametrize("score", [float("nan"), float("inf")])
    def test_a_score_that_is_no_number(self, demo: Collection, score: float) -> None:
        searched = Searched(demo)
        results = searched.results(20)
        results[demo.queries["de"].ids[5]][searched.ids[0]] = score
        with pytest.raises(ModelError, match=str(score)):
            ranks_in_results(demo, "de", searched.POOL, results, 20)


# -- pools that are too large to be kept ------------------------------------------------------------------------------


Stream = Callable[..., None]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """From the call on, pools of more than `resident` passages are streamed, in pieces of `piece`."""

    def start(piece: int, resident: int = 0) -> None:
        monkeypatch.setattr(ranking, "RESIDENT_PASSAGES", resident)
        monkeypatch.setattr(streamed, "_PIECE", piece)

    return start


def documents_asked() -> Counter[str]:
    """How many passages `WordCounts` was asked to encode, by the subset that it was told."""
    asked: Counter[str] = Counter()
    for role, subset, number in WordCounts.asked:
        if role == "document":
            asked[subset] += number
    return asked


def distinct_passages(collection: Collection, parts: Sequence[str]) -> Counter[str]:
    """How many distinct passages there are in each part, by the subset that a model is told of it."""
    distinct: Counter[str] = Counter()
    for part in parts:
        passages = collection.passages[part]
        titles = [""] * len(passages) if passages.titles is None else passages.titles
        # A title keeps a text as it is, for a model may read it apart.
        read = {(title, text if title else text.strip()) for title, text in zip(titles, passages.texts, strict=True)}
        distinct[f"{part}-{part}"] = len(read)
    return distinct


def assert_equal_ranks(found: PoolRanks, expected: PoolRanks) -> None:
    """To the last field."""
    assert (found.query_set, found.parts, found.pool_size, found.depth) == (
        expected.query_set,
        expected.parts,
        expected.pool_size,
        expected.depth,
    )
    np.testing.assert_array_equal(found.queries, expected.queries, strict=True)
    assert found.ranks.n_queries == expected.ranks.n_queries
    for column in ("query", "rank", "gain", "language"):
        np.testing.assert_array_equal(getattr(found.ranks, column), getattr(expected.ranks, column), strict=True)
    if expected.top_languages is None:
        assert found.top_languages is None
    else:
        assert found.top_languages is not None
        np.testing.assert_array_equal(found.top_languages, expected.top_languages, strict=True)


#: By name: the demo, made harder.
CHANGED: dict[str, Callable[[Collection], Collection]] = {
    "as it is": lambda collection: collection,
    "many copies": with_copies,
    "copies of one text": lambda collection: with_copies(collection, 1),
    "titles": with_titles,
    "titles and copies": lambda collection: with_titles(with_copies(collection)),
    "repeated questions": lambda collection: with_repeated_questions(with_absent(collection)),
    "absent": with_absent,
    "excluded": with_excluded,
    "excluded copies": lambda collection: with_excluded(with_copies(collection)),
}
THREE = ("de", "en", "th")


@cache
def what_is_kept(change: str, by_subset: bool) -> tuple[Collection, dict[tuple[str, tuple[str, ...]], tuple[Any, ...]]]:
    """A changed demo, and by query set and pool: ranks of a pool in memory, those of the definition, best passages."""
    collection = CHANGED[change](task_of("HybridDemo-Pairs").read_collection())
    asked: list[tuple[str, tuple[str, ...]]] = [("en", ("en",))]
    if not collection.queries["en"].excluded:
        asked += [("en", THREE), ("zh", ("de",)), ("zh", THREE)]
    ranker = Ranker.dense(collection, embeddings_of(WordCounts(), by_subset=by_subset))
    kept = {}
    for name, pool in asked:
        by_definition = expected_ranks(collection, word_count_scores(collection, name, pool), name, pool)
        best = [list(row.items()) for row in ranker.top_passages(name, pool, 30)]
        kept[name, pool] = (ranker.rank(name, pool), by_definition, best)
    assert ranker.similarity == "dot"
    return collection, kept


class TestStreaming:
    """A pool in pieces, against the same pool kept in memory: scores are whole numbers, so that nothing may differ."""

    # Of 128 passages in each language: pieces of part of one, across languages, and larger than any pool.
    @pytest.mark.parametrize(("piece", "by_subset"), [(53, False), (150, False), (150, True), (2000, False)])
    @pytest.mark.parametrize("change", CHANGED)
    def test_equals_what_is_kept(self, change: str, piece: int, by_subset: bool, stream: Stream) -> None:
        collection, kept = what_is_kept(change, by_subset)
        stream(piece)
        streamed = Ranker.dense(collection, embeddings_of(WordCounts(), by_subset=by_subset))
        for case, (ranks, by_definition, best) in kept.items():
            found = streamed.rank(*case)
            assert_equal_ranks(found, ranks)
            assert found_ranks(collection, found) == by_definition
            assert_equal_ranks(streamed.rank(*case), ranks)  # asked again
            assert [list(row.items()) for row in streamed.top_passages(*case, 30)] == best
        assert streamed.similarity == "dot"

    def test_all_languages(self, demo: Collection, stream: Stream) -> None:
        """And every pool within, which is a sum over the counts that are there by then."""
        collection = with_copies(demo)
        kept = Ranker.dense(collection, embeddings_of(WordCounts()))
        kept.prepare({"de": collection.parts, "th": collection.parts})
        stream(300)
        streamed = Ranker.dense(collection, embeddings_of(WordCounts()))
        streamed.prepare({"de": collection.parts, "th": collection.parts})
        WordCounts.asked.clear()
        for name in ("de", "th"):
            for pool in (collection.parts, *((part,) for part in collection.parts)):
                assert_equal_ranks(streamed.rank(name, pool), kept.rank(name, pool))
        assert WordCounts.asked == []

    def test_more_best_passages_than_there_are(self, demo: Collection, stream: Stream) -> None:
        stream(50)
        found = Ranker.dense(demo, embeddings_of(WordCounts())).top_passages("de", THREE, 10_000)
        scores = word_count_scores(demo, "de", THREE)
        ids = [passage for part in THREE for passage in demo.passages[part].ids]
        for row, values in zip(found, scores.tolist(), strict=True):
            assert list(row.items()) == [(ids[c], values[c]) for c in order_by_definition(values, ids)]

    def test_best_passages_score_by_score(self, demo: Collection, stream: Stream) -> None:
        """Also where the ranks are known already."""
        stream(50)
        ranker = Ranker.dense(demo, embeddings_of(WordCounts()))
        ranker.rank("de", ("en",))
        found = ranker.top_passages("de", ("en",), 1)
        scores = word_count_scores(demo, "de", ("en",))
        assert [list(row.values()) for row in found] == [[value] for value in scores.max(axis=1).tolist()]

    def test_query_sets_without_anything_relevant(self, demo: Collection, stream: Stream) -> None:
        nothing = replace(demo.queries["de"], judgments=Judgments.of([]))
        collection = replace(demo, queries={"de": nothing, "en": demo.queries["en"]})
        kept = Ranker.dense(collection, embeddings_of(WordCounts()))
        expected = {name: kept.rank(name, THREE) for name in ("de", "en")}
        assert expected["de"].ranks.n_queries == 0
        stream(50)
        for wanted in ({"de": THREE}, {"de": THREE, "en": THREE}, {"en": THREE, "de": THREE}):
            streamed = Ranker.dense(collection, embeddings_of(WordCounts()))
            streamed.prepare(wanted)
            for name in wanted:
                assert_equal_ranks(streamed.rank(name, THREE), expected[name])

    def test_columns_that_are_read_when_asked(self, demo: Collection, stream: Stream) -> None:
        """As a large corpus is: ids, texts and titles in chunks of a file."""
        titled = with_titles(with_copies(demo))

        def column(strings: Sequence[str] | None) -> Column:
            assert strings is not None
            chunks = [list(strings[:40]), [], [text or None for text in strings[40:]]]
            return Column(pa.chunked_array([pa.array(chunk, pa.large_string()) for chunk in chunks]))

        passages = {
            part: replace(given, ids=column(given.ids), texts=column(given.texts), titles=column(given.titles))
            for part, given in titled.passages.items()
        }
        collection = replace(titled, passages=passages)
        kept = Ranker.dense(titled, embeddings_of(WordCounts()))
        expected, best = kept.rank("de", THREE), kept.top_passages("de", THREE, 9)
        for piece in (None, 50):
            if piece is not None:
                stream(piece)
            ranker = Ranker.dense(collection, embeddings_of(WordCounts()))
            assert_equal_ranks(ranker.rank("de", THREE), expected)
            assert ranker.top_passages("de", THREE, 9) == best

    def test_bm25_keeps_its_index(self, demo: Collection, stream: Stream) -> None:
        kept = Ranker.bm25(demo, BM25())
        expected, best = kept.rank("de", THREE), kept.top_passages("de", THREE, 9)
        stream(50)
        other = Ranker.bm25(demo, BM25())
        assert_equal_ranks(other.rank("de", THREE), expected)
        assert other.top_passages("de", THREE, 9) == best


class TestStreamingEncodesOnce:
    @pytest.fixture(autouse=True)
    def _nothing_asked(self) -> Iterator[None]:
        WordCounts.asked.clear()
        yield
        WordCounts.asked.clear()

    @pytest.mark.parametrize("change", ["as it is", "many copies", "titles and copies"])
    def test_in_each_part(self, change: str, demo: Collection, stream: Stream) -> None:
        """Copies are together in a piece, as far as they fit; here they do."""
        collection = CHANGED[change](demo)
        stream(128)
        ranker = Ranker.dense(collection, embeddings_of(WordCounts()))
        ranker.prepare({"en": THREE})
        assert documents_asked() == distinct_passages(collection, THREE)

    def test_for_several_query_sets_over_one_part(self, demo: Collection, stream: Stream) -> None:
        """As in MIRACL, where the questions of one language are asked in others."""
        collection = with_copies(demo)
        names = ("ar", "de", "zh")
        kept = Ranker.dense(collection, embeddings_of(WordCounts()))
        expected = {
            (name, part): kept.rank(name, (part,)) for name, part in zip(names * 2, ("en", "th") * 3, strict=True)
        }
        WordCounts.asked.clear()
        stream(100)
        streamed = Ranker.dense(collection, embeddings_of(WordCounts()))
        streamed.prepare({name: ["th"] for name in names})
        assert documents_asked() == distinct_passages(collection, ["th"])
        queries = sum(number for role, _, number in WordCounts.asked if role == "query")
        assert queries == len({text for name in names for text in collection.queries[name].texts})
        for name in names:
            assert_equal_ranks(streamed.rank(name, ("th",)), expected[name, "th"])
        assert documents_asked() == distinct_passages(collection, ["th"])

    def test_for_query_sets_with_pools_of_their_own(self, demo: Collection, stream: Stream) -> None:
        """The passages of all pools together are too many; those of one need not be."""
        wanted = {"ar": ("en",), "de": ("en",), "zh": ("th",), "en": ("de", "en")}
        kept = Ranker.dense(demo, embeddings_of(WordCounts()))
        expected = {name: kept.rank(name, pool) for name, pool in wanted.items()}
        for resident in (0, 128, 200):
            WordCounts.asked.clear()
            stream(100, resident)
            ranker = Ranker.dense(demo, embeddings_of(WordCounts()))
            ranker.prepare(wanted)
            # Both query sets of the English pool at one time; for the pool of two it is read again.
            assert documents_asked() == sum(
                (distinct_passages(demo, pool) for pool in (("en",), ("th",), ("de", "en"))), Counter()
            )
            for name, pool in wanted.items():
                assert_equal_ranks(ranker.rank(name, pool), expected[name])
            # What was not asked for before comes after, kept or not.
            assert_equal_ranks(ranker.rank("th", ("ar",)), kept.rank("th", ("ar",)))
            assert ranker.top_passages("th", ("ar",), 5) == kept.top_passages("th", ("ar",), 5)

    def test_what_was_encoded_lies_in_the_cache(self, demo: Collection, stream: Stream, tmp_path: Path) -> None:
        stream(100)
        results = []
        for _ in range(2):
            ranker = Ranker.dense(demo, embeddings_of(WordCounts(), cache=EmbeddingCache(tmp_path)))
            results.append(ranker.rank("de", THREE))
            # All by the first: the second asks for nothing.
            assert documents_asked() == distinct_passages(demo, THREE)
            assert len([role for role, _, _ in WordCounts.asked if role == "query"]) == 1
        assert_equal_ranks(*results)

    def test_a_piece_that_was_encoded_is_not_encoded_again_after_a_stop(
        self, demo: Collection, stream: Stream, tmp_path: Path
    ) -> None:
        class Stops(WordCounts):
            calls = 0

            def encode(self, inputs: Any, **arguments: Any) -> Any:
                self.calls += 1
                if self.calls == 4:
                    raise KeyboardInterrupt
                return super().encode(inputs, **arguments)

        stream(100)
        with pytest.raises(KeyboardInterrupt):
            Ranker.dense(demo, embeddings_of(Stops(), cache=EmbeddingCache(tmp_path))).rank("de", THREE)
        before = documents_asked()
        assert 0 < before.total() < distinct_passages(demo, THREE).total()
        Ranker.dense(demo, embeddings_of(WordCounts(), cache=EmbeddingCache(tmp_path))).rank("de", THREE)
        assert documents_asked() == distinct_passages(demo, THREE)


@pytest.fixture(scope="module")
def model(demo: Collection, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model")
    static_model(texts_of(demo), dimension=48).save_pretrained(str(folder))
    return load(model_meta(str(folder)))


class TestStreamingRoundedScores:
    """The cosine of a static model, whose last bits depend on where in a block a passage stands."""

    @pytest.mark.parametrize("piece", [20, 150, 400])
    def test_only_near_ties_may_differ(
        self, piece: int, demo: Collection, model: Any, stream: Stream, capsys: pytest.CaptureFixture[str]
    ) -> None:
        collection = with_copies(demo, 40)
        names = ("ar", "de", "en", "th")
        kept = Ranker.dense(collection, embeddings_of(model))
        kept.prepare(dict.fromkeys(names, names))
        stream(piece)
        streamed = Ranker.dense(collection, embeddings_of(model))
        streamed.prepare(dict.fromkeys(names, names))
        different = compared = 0
        for name in names:
            close = near_ties(collection, model, name, names)
            pools = [kept.rank(name, names), streamed.rank(name, names)]
            expected, found = (found_ranks(collection, pool) for pool in pools)
            differs = np.array([a != b for a, b in zip(expected, found, strict=True)])
            assert not (differs & ~close).any()
            assert not close.all()
            different, compared = different + int(differs.sum()), compared + len(differs)
        with capsys.disabled():
            print(f" of {compared} queries, {different} have other ranks in pieces of {piece}", end=" ")
        assert different <= 0.01 * compared


class Wavering(WordCounts):
    """Word counts that are a little different whenever it is asked, as those of some models are."""

    def encode(self, inputs: Any, **arguments: Any) -> Any:
        vectors = super().encode(inputs, **arguments)
        return vectors + np.float32(len(self.asked) % 16 / 64)


def test_copies_in_different_parts_share_a_score_to_the_bit(demo: Collection, stream: Stream) -> None:
    """Though each part is encoded by itself: they would be ordered by chance."""
    collection = with_copies(demo)
    stream(160)
    found = Ranker.dense(collection, embeddings_of(Wavering())).top_passages("de", THREE, 10_000)
    text_of = {
        passage: text
        for part in THREE
        for passage, text in zip(collection.passages[part].ids, as_read(collection.passages[part]), strict=True)
    }
    assert 2 < max(Counter(text_of.values()).values()) < 160
    for row in found:
        scores: dict[str, set[float]] = {}
        for passage, score in row.items():
            scores.setdefault(text_of[passage], set()).add(score)
        assert {len(values) for values in scores.values()} == {1}


def near_ties(collection: Collection, model: Any, query_set: str, pool: Sequence[str]) -> NDArray[np.bool_]:
    """Which queries have a relevant passage whose score is within 1e-6 of that of another text: in float64."""
    passages = [text for part in pool for text in as_read(collection.passages[part])]
    texts = {text: number for number, text in enumerate(dict.fromkeys(passages))}
    queries = collection.queries[query_set]
    q, p = (np.asarray(model.model.encode(list(each)), dtype=np.float64) for each in (queries.texts, texts))
    unit = [vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) for vectors in (q, p)]
    scores = unit[0] @ unit[1].T
    start = dict(zip(pool, np.cumsum([0, *(len(collection.passages[part]) for part in pool)]), strict=False))
    close = np.zeros(len(queries), dtype=bool)
    for query, part, passage, _ in rows_of(queries.judgments):
        if collection.parts[part] not in pool:
            continue
        own = texts[passages[start[collection.parts[part]] + passage]]
        close[query] |= np.count_nonzero(np.abs(scores[query] - scores[query, own]) < 1e-6) > 1
    return close


# -- floating point: does the way of computing change a rank? --------------------------------------------------------


@pytest.fixture
def torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_threads")
def test_block_sizes_and_threads_change_no_rank(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Questions in three languages against the sentences of five, with the cosine of a static model."""
    collection = task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection()
    pool = ("ar", "de", "en", "th", "zh")
    place = np.array([pool.index(code) if code in pool else -1 for code in collection.parts])
    static_model(texts_of(collection, pool), dimension=256).save_pretrained(str(tmp_path))
    model: Any = load(model_meta(str(tmp_path)))
    embeddings = embeddings_of(model)
    embeddings.encode(Role.PASSAGE, {code: collection.passages[code].texts for code in pool})
    sizes = [len(collection.passages[code]) for code in pool]
    start = np.cumsum([0, *sizes])
    texts = [text.strip() for code in pool for text in collection.passages[code].texts]
    first: dict[str, int] = {}
    original = np.array([first.setdefault(text, place) for place, text in enumerate(texts)])
    vectors = [
        matrix[row]
        for code in pool
        for matrix, row in [embeddings.rows(Role.PASSAGE, code, collection.passages[code].texts)]
    ]
    passages = PreparedPassages(np.concatenate(vectors), original, Similarity.COSINE)
    id_ranks = collection.id_ranks(pool)

    def above(code: str, block_rows: int, threads: int, torch_threads: int) -> NDArray[np.int32]:
        torch.set_num_threads(torch_threads)
        matrix, row = embeddings.rows(Role.QUERY, code, collection.queries[code].texts)
        judgments = collection.queries[code].judgments
        inside = np.flatnonzero(place[judgments.part] >= 0)
        order = inside[np.argsort(row[judgments.query[inside]], kind="stable")]
        target_row = row[judgments.query[order]].astype(np.int32)
        column = start[place[judgments.part[order]]] + judgments.passage[order]
        scores = DenseScores(matrix, passages, model, block_rows=block_rows)
        targets = Targets(target_row, column.astype(np.int64))
        ends = start[1:].tolist()
        counts = count_above(
            scores, len(matrix), targets, ends, id_ranks, block_rows=block_rows, threads=threads, top_k=1
        )
        return counts.above

    compared, different = 0, {"block size": 0, "counting threads": 0, "torch's threads": 0}
    for code in ("ar", "de", "th"):
        embeddings.encode(Role.QUERY, {code: collection.queries[code].texts})
        usual = above(code, BLOCK_ROWS, 2, 2)
        compared += len(usual)
        # A rank is 1 + the sum over a pool's languages; where one count differs, a rank does.
        different["block size"] += int((above(code, 96, 2, 2) != usual).any(axis=1).sum())
        different["counting threads"] += int((above(code, BLOCK_ROWS, 1, 2) != usual).any(axis=1).sum())
        different["torch's threads"] += int((above(code, BLOCK_ROWS, 2, 1) != usual).any(axis=1).sum())
    with capsys.disabled():
        print(f"\nof {compared:,} relevant passages, counts that differ by", end=" ")
        print(", ".join(f"{what}: {n}" for what, n in different.items()), end=" ")
    assert compared == 3 * 1190 * 5
    assert set(different.values()) == {0}
