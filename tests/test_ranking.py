"""Ranks of one model on one collection, against their definition, and whether the way of computing changes any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers import WordCounts, static_model, task_of, texts_of
from hybrid_bench.corpora import Collection
from hybrid_bench.encode import DenseScores, Embeddings, PreparedPassages, Role, Similarity
from hybrid_bench.errors import ModelError
from hybrid_bench.lexical import BM25
from hybrid_bench.metrics import NOT_RETRIEVED
from hybrid_bench.models import load, model_meta
from hybrid_bench.ranking import PoolRanks, Ranker, ranks_in_results
from hybrid_bench.ranks import BLOCK_ROWS, Targets, count_above
from reference import order_by_definition


def embeddings_of(model: Any, **options: Any) -> Embeddings:
    metadata = task_of("HybridDemo-Pairs").metadata
    arguments: dict[str, Any] = {"encode_kwargs": {"batch_size": 256}, "by_language": False, **options}
    return Embeddings(model=model, metadata=metadata, subset=lambda code: f"{code}-{code}", **arguments)


@pytest.fixture(scope="module")
def demo() -> Collection:
    return task_of("HybridDemo-Pairs").read_collection()


def expected_ranks(
    collection: Collection, scores: NDArray[Any], query_language: str, pool: Sequence[str]
) -> list[list[tuple[int, str]]]:
    """Rank and language of the relevant passages of every query, from all scores, by the definition."""
    ids = [passage for code in pool for passage in collection.passages[code].ids]
    judgments = collection.queries[query_language].judgments
    relevant: list[dict[str, str]] = [{} for _ in scores]
    for query, language, passage in zip(judgments.query, judgments.language, judgments.passage, strict=True):
        code = collection.languages[language]
        if code in pool:
            relevant[query][collection.passages[code].ids[passage]] = code
    expected = []
    for row, wanted in zip(scores.tolist(), relevant, strict=True):
        order = order_by_definition(row, ids)
        expected.append([(n, wanted[ids[column]]) for n, column in enumerate(order, 1) if ids[column] in wanted])
    return expected


def found_ranks(collection: Collection, pool: PoolRanks) -> list[list[tuple[int, str]]]:
    found: list[list[tuple[int, str]]] = [[] for _ in range(pool.ranks.n_queries)]
    for query, rank, language in zip(pool.ranks.query, pool.ranks.rank, pool.ranks.language, strict=True):
        found[query].append((int(rank), collection.languages[language]))
    return found


def word_count_scores(collection: Collection, query_language: str, pool: Sequence[str]) -> NDArray[Any]:
    model = WordCounts()
    passages = [text.strip() for code in pool for text in collection.passages[code].texts]
    return model.vectors(collection.queries[query_language].texts) @ model.vectors(passages).T


def bm25_scores(collection: Collection, query_language: str, pool: Sequence[str]) -> NDArray[Any]:
    scorer = BM25().scorer({code: collection.passages[code].texts for code in pool})
    queries = collection.queries[query_language].texts
    return np.concatenate([scorer.scores(queries, query_language, code) for code in pool], axis=1)


class TestRanker:
    """Whole numbers as scores: many ties, and no rounding to excuse a difference."""

    @pytest.fixture(params=["dense", "bm25"])
    def ranker(self, request: pytest.FixtureRequest, demo: Collection) -> Ranker:
        return Ranker.bm25(demo, BM25()) if request.param == "bm25" else Ranker.dense(demo, embeddings_of(WordCounts()))

    def scores(self, ranker: Ranker, query_language: str, pool: Sequence[str]) -> NDArray[Any]:
        of = bm25_scores if ranker.similarity == "bm25" else word_count_scores
        return of(ranker.collection, query_language, pool)

    @pytest.mark.parametrize("pool", [("de",), ("th",), ("de", "th"), None], ids=str)
    def test_ranks_are_those_of_the_definition(self, ranker: Ranker, pool: tuple[str, ...] | None) -> None:
        collection = ranker.collection
        pool = pool or collection.languages
        found = ranker.rank("de", pool)
        expected = expected_ranks(collection, self.scores(ranker, "de", pool), "de", pool)
        assert found_ranks(collection, found) == expected
        assert (found.query_language, found.pool_languages) == ("de", pool)
        assert found.pool_size == found.depth == sum(len(collection.passages[code]) for code in pool)
        assert found.queries.tolist() == list(range(len(collection.queries["de"])))

    def test_one_count_serves_every_pool(self, ranker: Ranker) -> None:
        """Pools asked for after a wide count are sums over it, and equal what they are when asked for alone."""
        collection = ranker.collection
        ranker.prepare({"es": collection.languages})
        for pool in (("es",), ("zh",), collection.languages):
            expected = expected_ranks(collection, self.scores(ranker, "es", pool), "es", pool)
            assert found_ranks(collection, ranker.rank("es", pool)) == expected

    def test_top_languages(self, ranker: Ranker) -> None:
        collection = ranker.collection
        pool = ("ar", "en", "vi")
        ids = [passage for code in pool for passage in collection.passages[code].ids]
        languages = [code for code in pool for _ in collection.passages[code].ids]
        top = ranker.rank("en", pool).top_languages
        assert top is not None
        for row, scores in zip(top, self.scores(ranker, "en", pool).tolist(), strict=True):
            order = order_by_definition(scores, ids)[:100]
            assert [collection.languages[language] for language in row] == [languages[column] for column in order]
        assert ranker.rank("en", ("vi",)).top_languages is None

    def test_top_passages(self, ranker: Ranker) -> None:
        pool = ("de", "ru")
        ids = [passage for code in pool for passage in ranker.collection.passages[code].ids]
        best = ranker.top_passages("de", pool, 7)
        for row, scores in zip(best, self.scores(ranker, "de", pool).tolist(), strict=True):
            assert row == [ids[column] for column in order_by_definition(scores, ids)[:7]]

    def test_each_text_is_encoded_once(self, demo: Collection) -> None:
        WordCounts.asked.clear()
        ranker = Ranker.dense(demo, embeddings_of(WordCounts()))
        for pool in (("de",), ("en",), demo.languages, ("de", "en")):
            ranker.rank("de", pool)
        passages = {text.strip() for code in demo.languages for text in demo.passages[code].texts}
        encoded = {role: sum(n for asked, _, n in WordCounts.asked if asked == role) for role in ("query", "document")}
        assert encoded == {"query": len(set(demo.queries["de"].texts)), "document": len(passages)}


class Searched:
    """What a search of limited depth returns, over the German queries and the passages of two languages."""

    POOL = ("de", "en")

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.ids = [passage for code in self.POOL for passage in collection.passages[code].ids]
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

    @pytest.mark.parametrize("score", [float("nan"), float("inf")])
    def test_a_score_that_is_no_number(self, demo: Collection, score: float) -> None:
        searched = Searched(demo)
        results = searched.results(20)
        results[demo.queries["de"].ids[5]][searched.ids[0]] = score
        with pytest.raises(ModelError, match=str(score)):
            ranks_in_results(demo, "de", searched.POOL, results, 20)


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
    """Questions in three languages against all 13,014 sentences, with the cosine of a static model."""
    collection = task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection()
    static_model(texts_of(collection), dimension=256).save_pretrained(str(tmp_path))
    model: Any = load(model_meta(str(tmp_path)))
    embeddings = embeddings_of(model)
    embeddings.encode(Role.PASSAGE, {code: collection.passages[code].texts for code in collection.languages})
    sizes = [len(collection.passages[code]) for code in collection.languages]
    start = np.cumsum([0, *sizes])
    texts = [text.strip() for code in collection.languages for text in collection.passages[code].texts]
    first: dict[str, int] = {}
    original = np.array([first.setdefault(text, place) for place, text in enumerate(texts)])
    vectors = [
        matrix[row]
        for code in collection.languages
        for matrix, row in [embeddings.rows(Role.PASSAGE, code, collection.passages[code].texts)]
    ]
    passages = PreparedPassages(np.concatenate(vectors), original, Similarity.COSINE)
    id_ranks = np.concatenate([collection.id_ranks[code] for code in collection.languages])

    def above(code: str, block_rows: int, threads: int, torch_threads: int) -> NDArray[np.int32]:
        torch.set_num_threads(torch_threads)
        matrix, row = embeddings.rows(Role.QUERY, code, collection.queries[code].texts)
        judgments = collection.queries[code].judgments
        target_row = row[judgments.query].astype(np.int32)
        order = np.argsort(target_row, kind="stable")
        column = start[judgments.language[order]] + judgments.passage[order]
        scores = DenseScores(matrix, passages, model, block_rows=block_rows)
        targets = Targets(target_row[order], column.astype(np.int64))
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
    assert compared == 3 * 1190 * 11
    assert set(different.values()) == {0}
