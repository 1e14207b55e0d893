"""The mteb task: how often it encodes, what it asks of each kind of model, and what it leaves behind."""

from __future__ import annotations

import gc
import json
import re
import warnings
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import mteb
import numpy as np
import pyarrow as pa
import pytest
import torch
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from helpers import (
    WordCounts,
    asking,
    meta_of,
    relevant_ranks,
    save_tiny,
    static_model,
    task_of,
    tell_options,
    texts_of,
)
from hybrid_bench.data.collection import Collection, PassageText
from hybrid_bench.engine.lexical import EMBEDDED
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.errors import ModelError, RequestError
from hybrid_bench.evaluation import tasks as retrieval
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.measures.bias import rank_distance
from hybrid_bench.measures.metrics import K_VALUES, NOT_RETRIEVED, RelevantRanks, per_query
from hybrid_bench.runs.result_files import metadata_of

PAIRS, MULTI = "HybridDemo-Pairs", "HybridDemo-Multilingual"
#: Measures that cannot be had where the rank of a relevant passage is not known.
RANK_BIAS = {
    f"bias_{name}" for name in ("rank_distance", "rank_variance", "log_rank_std", "max_rank_norm", "kendall_w")
}


def evaluate(model: Any, task: ParallelRetrieval, **arguments: Any) -> dict[str, dict[str, Any]]:
    """Scores by subset, from plain `mteb.evaluate`."""
    arguments = {"cache": None, "co2_tracker": False, "show_progress_bar": False, **arguments}
    arguments.setdefault("encode_kwargs", {"batch_size": 256, "show_progress_bar": False})
    tell_options(model, task)
    result = mteb.evaluate(model, task, **arguments)
    return {scores["hf_subset"]: dict(scores) for scores in result.task_results[0].scores["test"]}


@pytest.fixture(autouse=True)
def nothing_asked() -> Iterator[None]:
    WordCounts.asked.clear()
    yield
    WordCounts.asked.clear()


@pytest.fixture(scope="module")
def demo() -> Collection:
    return task_of(PAIRS).read_collection()


# -- each text is encoded once ---------------------------------------------------------------------------------------


class CountingModel(SentenceTransformer):
    """A sentence-transformers model that counts the texts it is given, inside of mteb's ordinary wrapper."""

    encoded = 0

    def encode_query(self, inputs: Any, *arguments: Any, **more: Any) -> Any:
        self.encoded += len(inputs)
        return super().encode_query(inputs, *arguments, **more)

    def encode_document(self, inputs: Any, *arguments: Any, **more: Any) -> Any:
        self.encoded += len(inputs)
        return super().encode_document(inputs, *arguments, **more)


def distinct_texts(collection: Collection) -> tuple[int, int]:
    """Distinct texts in each role as a model reads them: within each language, and over all."""
    queries = [set(collection.queries[code].texts) for code in collection.parts]
    passages = [{text.strip() for text in collection.passages[code].texts} for code in collection.parts]
    within = sum(len(texts) for texts in (*queries, *passages))
    return within, len(set().union(*queries)) + len(set().union(*passages))


class TestXQuADRIn132Settings:
    """The bounds are those of the issue: 26,104 = 11 x 1,190 queries and 13,014 passages; 443,388 without sharing.

    With each tenth question they are 14,323 = 11 x 119 queries and the passages.
    """

    NAMES = ("XQuAD-R-Pairs", "XQuAD-R-Multilingual")

    @pytest.mark.parametrize(
        ("every", "at_most", "at_most_within"),
        [(10, 14_323, 14_323), pytest.param(1, 26_021, 26_104, marks=pytest.mark.slow)],
        ids=["a tenth of the questions", "all questions"],
    )
    def test_texts_encoded(
        self, every: int, at_most: int, at_most_within: int, data_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run(model: Any) -> int:
            return sum(len(evaluate(model, asking(task_of(name, data_dir=data_dir), every))) for name in self.NAMES)

        collection = asking(task_of(self.NAMES[0], data_dir=data_dir), every).read_collection()
        within, over_all = distinct_texts(collection)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of mteb's wrapper, see hybrid_bench.engine.models
            counting = CountingModel(modules=list(static_model(texts_of(collection), dimension=16)), device="cpu")
            shared = SentenceTransformerEncoderWrapper(counting)
        shared.mteb_model_meta = meta_of("tests/static")
        assert run(shared) == 132
        # A model of a class that we do not know could put the language into its prompt.
        assert run(WordCounts(dimension=16)) == 132
        by_language = sum(n for _, _, n in WordCounts.asked)
        with capsys.disabled():
            print(
                f"\ntexts encoded for 132 settings: {counting.encoded:,}, or {by_language:,} within languages", end=" "
            )
        assert counting.encoded == over_all <= at_most
        assert by_language == within <= at_most_within


class TestSharing:
    def test_the_tasks_of_a_collection_share_one_encoding(self) -> None:
        model = WordCounts()
        evaluate(model, task_of(PAIRS))
        encoded = len(WordCounts.asked)
        assert encoded > 0
        evaluate(model, task_of(MULTI))
        assert len(WordCounts.asked) == encoded

    def test_a_subset_that_is_evaluated_again_is_encoded_again(self) -> None:
        """The model may have been trained in between."""
        model = WordCounts()
        evaluate(model, task_of(PAIRS, ["de-en"]))
        encoded = len(WordCounts.asked)
        evaluate(model, task_of(PAIRS, ["de-en"]))
        assert len(WordCounts.asked) == 2 * encoded

    def test_a_model_that_was_trained_in_between_is_encoded_again(self, demo: Collection) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of mteb's wrapper, see hybrid_bench.engine.models
            model = SentenceTransformerEncoderWrapper(static_model(texts_of(demo, ["de", "en"]), dimension=16))
        model.mteb_model_meta = meta_of("tests/static")
        evaluate(model, task_of(PAIRS, ["de-en"]))
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        after = evaluate(model, task_of(MULTI, ["de"], pool_languages=("de", "en")))["de"]
        fresh = SentenceTransformerEncoderWrapper.__new__(SentenceTransformerEncoderWrapper)
        fresh.__dict__.update(model.__dict__)  # the same weights in an object that has not been seen
        assert after == evaluate(fresh, task_of(MULTI, ["de"], pool_languages=("de", "en")))["de"]

    @pytest.mark.parametrize(
        "change",
        [
            {"passage": PassageText.SENTENCE_CONTEXT},
            {"encode_kwargs": {"batch_size": 256, "truncate": 3}},
            {"model": 2},
        ],
        ids=str,
    )
    def test_but_not_with_what_is_encoded_otherwise(self, change: dict[str, Any]) -> None:
        model = WordCounts()
        evaluate(model, task_of(PAIRS, ["de-en"]))
        encoded = len(WordCounts.asked)
        options = {"passage": change["passage"]} if "passage" in change else {}
        arguments = {"encode_kwargs": change["encode_kwargs"]} if "encode_kwargs" in change else {}
        evaluate(WordCounts() if "model" in change else model, task_of(PAIRS, ["de-en"], **options), **arguments)
        assert len(WordCounts.asked) == 2 * encoded

    def test_the_order_of_the_tasks_does_not_matter(self) -> None:
        names = {PAIRS: ["de-en", "de-de"], MULTI: ["de", "en"]}
        one, other = WordCounts(), WordCounts()
        first = [evaluate(one, task_of(name, subsets)) for name, subsets in names.items()]
        second = [evaluate(other, task_of(name, names[name])) for name in reversed(names)]
        assert first == second[::-1]

    def test_what_mteb_would_read_is_not_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Corpora of millions would take their time and space; our engine needs none."""
        task = task_of(MULTI, ["de"])
        made: dict[str, list[str]] = {}
        unload = task.unload_data

        def look_and_unload() -> None:
            made.update({subset: list(splits["test"]) for subset, splits in task.dataset.items()})
            unload()

        monkeypatch.setattr(task, "unload_data", look_and_unload)
        evaluate(WordCounts(), task)
        assert made == {"de": ["top_ranked"]}

    def test_only_what_the_subsets_need_is_encoded(self, demo: Collection) -> None:
        evaluate(WordCounts(), task_of(PAIRS, ["de-en", "de-th"]))
        assert sorted((role, subset) for role, subset, _ in WordCounts.asked) == [
            ("document", "en-en"),
            ("document", "th-th"),
            ("query", "de-de"),
        ]

    def test_a_model_is_told_the_language_of_the_texts(self) -> None:
        """By a subset in that language alone, from which a model of mteb's knows which prompt to take."""
        evaluate(WordCounts(), task_of(MULTI, ["de"]))
        asked = {
            role: [subset for asked, subset, _ in WordCounts.asked if asked == role] for role in ("query", "document")
        }
        assert asked["query"] == ["de"]
        assert sorted(asked["document"]) == sorted(task_of(MULTI).reader.languages)

    def test_embeddings_on_disk_serve_another_model_object(self, tmp_path: Path) -> None:
        first = evaluate(WordCounts(), task_of(PAIRS, ["de-en"], embedding_cache=tmp_path))
        WordCounts.asked.clear()
        assert evaluate(WordCounts(), task_of(PAIRS, ["de-en"], embedding_cache=tmp_path)) == first
        assert WordCounts.asked == []

    def test_what_was_computed_goes_with_the_model(self) -> None:
        for make in (WordCounts, EMBEDDED["hybrid_bench/bm25"]().load_model):
            model = make()
            reference = weakref.ref(model)
            evaluate(model, task_of(PAIRS, ["de-en"]))
            assert len(retrieval._rankers) > 0
            del model
            gc.collect()
            assert reference() is None


# -- what is in a result ---------------------------------------------------------------------------------------------


class TestScores:
    MEASURES = ("ndcg", "map", "recall", "precision", "mrr", "hit_rate")

    def test_keys(self) -> None:
        scores = evaluate(WordCounts(), task_of(PAIRS, ["de-en"]))["de-en"]
        expected = {f"{measure}_at_{k}" for measure in self.MEASURES for k in K_VALUES} | {"accuracy"}
        ours = {"map", "mrr", "lareqa_map_at_20"}
        mtebs = {"main_score", "hf_subset", "languages", "mteb_version"}
        assert set(scores) == expected | ours | mtebs
        assert scores["main_score"] == scores["map"]

    def test_bias_is_measured_in_multilingual_pools_only(self) -> None:
        scores = evaluate(WordCounts(), task_of(MULTI, ["de"]))["de"]
        assert {"bias_rank_distance", "bias_rank_distance_median"} <= set(scores)
        pairs = evaluate(WordCounts(), task_of(PAIRS, ["de-de", "de-en"]))
        assert not [key for subset in pairs.values() for key in subset if key.startswith("bias_")]

    def test_scores_are_the_means_of_the_table(self, demo: Collection) -> None:
        task = task_of(MULTI, ["de", "zh"])
        for subset, scores in evaluate(WordCounts(), task).items():
            ranks = relevant_ranks(task.tables["test", subset])
            for name, values in per_query(ranks).items():
                assert scores[name] == pytest.approx(values.mean(), abs=1e-12)
            distance = rank_distance(ranks)
            assert distance is not None
            assert scores["bias_rank_distance"] == pytest.approx(distance.mean(), abs=1e-9)
            assert scores["bias_rank_distance_median"] == np.median(distance)

    def test_narrowed_pool(self, demo: Collection) -> None:
        task = task_of(MULTI, ["de"], pool_languages=("th", "de"))
        evaluate(WordCounts(), task)
        table = task.tables["test", "de"]
        assert set(map(tuple, table["pool_languages"].to_pylist())) == {("de", "th")}
        assert set(table["n_relevant"].to_pylist()) == {2}
        assert set(table["setting"].cast(pa.string()).to_pylist()) == {"multilingual"}
        whole = task_of(MULTI, ["de"])
        assert whole.data_sha256() == task_of(PAIRS).data_sha256() == demo.sha256
        assert task.data_sha256() == {code: demo.sha256[code] for code in ("de", "th")}
        assert task.saved_options() == {"pool_languages": "de-th"}

    def test_signature(self, demo: Collection) -> None:
        task = task_of(PAIRS, ["de-en"])
        evaluate(WordCounts(), task)
        assert task.signature == {
            "model": "tests/word-counts",
            "model_source": "tests/word-counts",
            "revision": "1",
            "options": {},
            "collection": "HybridDemo",
            "data_revision": demo.revision,
            "passage": "sentence",
            "prompts": {"query": None, "document": None},
            "similarity": "dot",
            "dtype": "float32",
            "depth": "full",
            "caveat": "",
            "notes": [],
            "main_score": "map",
            "instruction": {"type": "Retrieval", "prompt": task.metadata.prompt},
            "outer_white_space": {"queries": 0, "passages": 0},
        }
        assert json.loads(json.dumps(task.signature)) == task.signature
        assert task.signature.items() <= metadata_of(task.tables["test", "de-en"]).items()

    def test_tables_of_another_model_are_not_kept(self) -> None:
        task = task_of(PAIRS, ["de-en", "en-de"])
        evaluate(WordCounts(), task)
        assert set(task.tables) == {("test", "de-en"), ("test", "en-de")}
        task.hf_subsets = ["de-en"]
        evaluate(WordCounts(revision="2"), task)
        assert set(task.tables) == {("test", "de-en")}


# -- which passages are first ----------------------------------------------------------------------------------------


class TestTopPassages:
    @pytest.mark.parametrize("name", ["tests/word-counts", "hybrid_bench/bm25", "hybrid_bench/char-ngram"])
    def test_are_in_the_order_of_the_ranks(self, name: str, demo: Collection) -> None:
        model: Any = WordCounts() if name == "tests/word-counts" else load(model_meta(name))
        for task_name, subset, pool in ((PAIRS, "de-en", ("en",)), (MULTI, "de", demo.parts)):
            task = task_of(task_name, [subset])
            evaluate(model, task)
            task.load_data()
            top = task.top_passages(model, "test", subset, 25, {"batch_size": 256})
            queries = demo.queries["de"]
            assert list(top) == list(queries.ids)
            language_of = {passage: part for part in pool for passage in demo.passages[part].ids}
            found: dict[str, list[tuple[int, str]]] = {query: [] for query in top}
            judged = zip(queries.judgments.query, queries.judgments.part, queries.judgments.passage, strict=True)
            for query, part, passage in judged:
                order = list(top[queries.ids[query]])
                wanted = demo.passages[demo.parts[part]].ids[passage]
                if wanted in order:
                    found[queries.ids[query]].append((order.index(wanted) + 1, demo.parts[part]))
            rows = {row["question_id"]: row for row in task.tables["test", subset].to_pylist()}
            for query, question in zip(queries.ids, queries.question_ids, strict=True):
                ranked = zip(rows[question]["ranks"], rows[question]["rank_languages"], strict=True)
                assert sorted(found[query]) == [(rank, language) for rank, language in ranked if rank <= 25]
                assert len(top[query]) == 25
                assert set(top[query]) <= set(language_of)
                scores = list(top[query].values())
                assert scores == sorted(scores, reverse=True)
                if task_name == MULTI:
                    first = [demo.parts[place] for place in rows[question]["top_languages"][:25]]
                    assert [language_of[passage] for passage in top[query]] == first

    def test_of_a_model_that_searches_are_not_known(self) -> None:
        task = task_of(PAIRS, ["de-en"])
        task.load_data()
        with pytest.raises(RequestError, match="mteb/baseline-random-colbert is neither a dense encoder nor"):
            task.top_passages(load(model_meta("mteb/baseline-random-colbert")), "test", "de-en", 5, {})


# -- every other kind of model ---------------------------------------------------------------------------------------


def ranks_of(task: ParallelRetrieval, subset: str) -> RelevantRanks:
    return relevant_ranks(task.tables["test", subset])


class TestModelsThatSearch:
    """mteb's own baselines, which load without network."""

    NAMES: ClassVar[Mapping[str, str]] = {
        "mteb/baseline-bm25s": "model's own search",
        "mteb/baseline-random-sparse-encoder": "model's own search",
        "mteb/baseline-random-colbert": "model's own search",
        "mteb/baseline-random-encoder": "cosine",
    }

    @pytest.mark.parametrize("name", NAMES)
    def test_full_depth(self, name: str) -> None:
        model = load(model_meta(name))
        for task_name, subsets in ((PAIRS, ["de-en", "th-th"]), (MULTI, ["de"])):
            task = task_of(task_name, subsets)
            for subset, scores in evaluate(model, task).items():
                ranks = ranks_of(task, subset)
                assert scores["map"] == pytest.approx(per_query(ranks)["map"].mean(), abs=1e-12)
                assert ranks.rank.max() <= task.tables["test", subset]["pool_size"][0].as_py()  # all were retrieved
                assert ("bias_rank_distance" in scores) == (task_name == MULTI)
            assert task.signature["similarity"] == self.NAMES[name]
            assert task.signature["depth"] == "full"

    @pytest.mark.parametrize("name", NAMES)
    def test_equal_to_mtebs_own_evaluation(self, name: str) -> None:
        """Random scores tie nowhere, and bm25s where they do ties as trec_eval: the same ranks as far as mteb looks."""
        ours, theirs = task_of(PAIRS, ["de-en"]), task_of(PAIRS, ["de-en"])
        scores = evaluate(load(model_meta(name)), ours)["de-en"]
        # mteb's own evaluation takes the first 1,000 of 128 passages.
        theirs.__class__ = type("Naive", (type(theirs),), {"_evaluate_subset": AbsTaskRetrieval._evaluate_subset})
        reference = evaluate(load(model_meta(name)), theirs)["de-en"]
        compared = [key for key in reference if key in scores and re.search(r"_at_\d+$", key)]
        assert len(compared) == 6 * len(K_VALUES)
        # mteb's reciprocal rank goes by the order of the search where scores tie.
        tied = {key for key in compared if key.startswith("mrr") and name == "mteb/baseline-bm25s"}
        for key in set(compared) - tied:
            assert scores[key] == pytest.approx(reference[key], abs=1e-5)

    @pytest.mark.parametrize("name", ["mteb/baseline-bm25s", "mteb/baseline-random-colbert"])
    def test_what_a_capped_search_does_not_return_is_not_retrieved(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = task_of(MULTI, ["de"])
        evaluate(load(model_meta(name)), full)
        monkeypatch.setattr(retrieval, "SEARCH_DEPTH", 50)
        capped = task_of(MULTI, ["de"])
        scores = evaluate(load(model_meta(name)), capped)["de"]
        before, after = ranks_of(full, "de").rank, ranks_of(capped, "de").rank
        assert (after[after != NOT_RETRIEVED] <= 50).all()
        if name == "mteb/baseline-random-colbert":  # no ties, so that the first 50 are the first 50
            assert (after == np.where(before <= 50, before, NOT_RETRIEVED)).all()
        assert (after == NOT_RETRIEVED).any()
        assert capped.signature["depth"] == 50
        assert not RANK_BIAS & set(scores)
        assert scores["map"] == scores["main_score"] == pytest.approx(scores["map_at_100"])

    def test_a_pool_below_the_cap_does_not_hide_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retrieval, "SEARCH_DEPTH", 200)
        task = task_of(MULTI, ["de", "en"])
        evaluate(load(model_meta("mteb/baseline-random-sparse-encoder")), task)
        assert task.signature["depth"] == 200
        pairs = task_of(PAIRS, ["de-en"])
        evaluate(load(model_meta("mteb/baseline-random-sparse-encoder")), pairs)
        assert pairs.signature["depth"] == "full"


class TestHarderData:
    """Collections that ours are not, but others are; in mteb's layout they give mteb's own evaluation the same."""

    def test_titles_and_documents_that_are_not_there(self, demo: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
        passages = {
            part: replace(given, titles=tuple("" if n % 3 else given.texts[n // 2] for n in range(len(given))))
            for part, given in demo.passages.items()
        }
        queries = {}
        for name, given in demo.queries.items():
            judged = given.judgments
            lacking = (judged.query + judged.part) % 5 == 0
            passage = np.where(lacking, np.int32(-1), judged.passage)
            queries[name] = replace(given, judgments=replace(judged, passage=passage, gain=1 + judged.query % 3))
        changed = replace(demo, passages=passages, queries=queries)
        monkeypatch.setattr(ParallelRetrieval, "read_collection", lambda task: changed)
        for name, subset in ((PAIRS, "de-en"), (MULTI, "de")):
            ours, theirs = task_of(name, [subset]), task_of(name, [subset])
            scores = evaluate(load(model_meta("hybrid_bench/char-ngram")), ours)[subset]
            theirs.__class__ = type("Naive", (type(theirs),), {"_evaluate_subset": AbsTaskRetrieval._evaluate_subset})
            reference = evaluate(load(model_meta("hybrid_bench/char-ngram")), theirs)[subset]
            compared = [key for key in reference if key in scores and re.search(r"_at_\d+$", key)]
            assert len(compared) == 6 * len(K_VALUES)
            for key in compared:
                assert scores[key] == pytest.approx(reference[key], abs=1e-5), key
            ranks = ranks_of(ours, subset).rank
            assert 0 < (ranks == NOT_RETRIEVED).sum() < len(ranks)
            assert scores["recall_at_1000"] < 0.9


class TestCrossEncoders:
    NAME = "mteb/baseline-random-cross-encoder"

    def test_without_candidates(self) -> None:
        with pytest.raises(RequestError) as error:
            evaluate(load(model_meta(self.NAME)), task_of(PAIRS, ["de-en"]))
        assert str(error.value) == (
            f"{self.NAME} is a cross-encoder: it scores pairs and cannot search a pool of 128 passages; "
            "give it candidates with --rerank RUN --top-k K"
        )

    @pytest.mark.parametrize("first", ["hybrid_bench/bm25", "hybrid_bench/char-ngram"])
    def test_outside_the_candidates_is_not_retrieved(self, first: str) -> None:
        candidates = task_of(MULTI, ["de"])
        evaluate(load(model_meta(first)), candidates)
        task = task_of(MULTI, ["de"], first_stage=load(model_meta(first)), top_k=30)
        scores = evaluate(load(model_meta(self.NAME)), task)["de"]
        before, after = ranks_of(candidates, "de"), ranks_of(task, "de")
        retrieved = {
            (query, language)
            for query, rank, language in zip(before.query, before.rank, before.language, strict=True)
            if rank <= 30
        }
        reranked = {
            (query, language)
            for query, rank, language in zip(after.query, after.rank, after.language, strict=True)
            if rank != NOT_RETRIEVED
        }
        assert 0 < len(reranked) < len(after.query)
        assert reranked == retrieved
        assert after.rank[after.rank != NOT_RETRIEVED].max() <= 30
        assert (task.signature["depth"], task.signature["similarity"]) == (30, "model's own search")
        assert not RANK_BIAS & set(scores)

    def test_an_order_that_is_kept(self) -> None:
        """mteb's baseline that leaves the candidates as they come: the first stage's ranks, as far as they go."""
        model = WordCounts()
        candidates = task_of(PAIRS, ["de-en"])
        evaluate(model, candidates)
        task = task_of(PAIRS, ["de-en"], first_stage=model, top_k=40)
        evaluate(load(model_meta("mteb/baseline-no-reranking")), task)
        before, after = ranks_of(candidates, "de-en").rank, ranks_of(task, "de-en").rank
        assert (after == np.where(before <= 40, before, NOT_RETRIEVED)).all()

    def test_more_candidates_than_passages(self) -> None:
        task = task_of(PAIRS, ["de-en"], first_stage=load(model_meta("hybrid_bench/char-ngram")), top_k=5000)
        evaluate(load(model_meta(self.NAME)), task)
        assert ranks_of(task, "de-en").rank.max() <= 128
        assert task.signature["depth"] == "full"

    def test_a_saved_one(self, tmp_path: Path, demo: Collection) -> None:
        folder = save_tiny("CrossEncoder", tmp_path / "reranker", texts_of(demo, ["de", "en"]))
        task = task_of(PAIRS, ["de-en"], first_stage=load(model_meta("hybrid_bench/bm25")), top_k=10)
        scores = evaluate(load(model_meta(str(folder))), task)["de-en"]
        assert 0 < scores["map"] < 1
        assert task.signature["depth"] == 10

    def test_a_first_stage_that_cannot_be_one(self) -> None:
        task = task_of(PAIRS, ["de-en"], first_stage=load(model_meta("mteb/baseline-random-colbert")), top_k=10)
        with pytest.raises(RequestError, match="mteb/baseline-random-colbert cannot be a first stage"):
            evaluate(load(model_meta(self.NAME)), task)


class TestWhereMtebEvaluates:
    def test_predictions(self, tmp_path: Path) -> None:
        task = task_of(PAIRS, ["de-en"])
        scores = evaluate(WordCounts(), task, prediction_folder=tmp_path)["de-en"]
        saved = json.loads((tmp_path / f"{PAIRS}_predictions.json").read_text(encoding="utf-8"))
        assert len(saved["de-en"]["test"]) == 84
        ours = evaluate(WordCounts(), task_of(PAIRS, ["de-en"]))["de-en"]
        assert scores == ours  # written besides, they do not change what is measured
        assert set(task.tables) == {("test", "de-en")}
        assert task.signature["depth"] == "full"

    def test_options_that_mteb_is_not_told_of(self) -> None:
        model = load(model_meta("hybrid_bench/char-ngram"))
        task = task_of(PAIRS, ["de-en"], passage=PassageText.SENTENCE_CONTEXT)
        with pytest.raises(RequestError, match=r"has options \(passage\) that the model's metadata does not tell"):
            mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)

    def test_reranking_as_mteb_does_it(self, tmp_path: Path) -> None:
        """mteb's way to evaluate a cross-encoder: predictions of a first model make a reranking task."""
        model = load(model_meta("mteb/baseline-random-encoder"))  # no ties, so that the first 40 are the first 40
        evaluate(model, task_of(PAIRS, ["de-en"]), prediction_folder=tmp_path)
        task = task_of(PAIRS, ["de-en"]).convert_to_reranking(tmp_path / f"{PAIRS}_predictions.json", top_k=40)
        assert isinstance(task, ParallelRetrieval)
        evaluate(load(model_meta("mteb/baseline-no-reranking")), task)
        first = task_of(PAIRS, ["de-en"])
        evaluate(model, first)
        before, after = ranks_of(first, "de-en").rank, ranks_of(task, "de-en").rank
        assert ((after == NOT_RETRIEVED) == (before > 40)).all()
        assert task.signature["depth"] == 40


# -- models that misbehave -------------------------------------------------------------------------------------------


class Misbehaving(WordCounts):
    """Word counts, spoilt."""

    def __init__(self, how: str) -> None:
        super().__init__("tests/misbehaving")
        self.how = how

    def encode(self, inputs: Any, **arguments: Any) -> Any:
        vectors = super().encode(inputs, **arguments)
        match self.how:
            case "nan":
                vectors[len(vectors) // 2, 3] = np.nan
            case "infinite":
                vectors[0, 0] = np.inf
            case "a row less":
                vectors = vectors[1:]
            case "one vector":
                vectors = vectors[0]
            case "vectors of tokens":
                vectors = np.stack([vectors, vectors], axis=1)
            case "queries of another size" if arguments["prompt_type"].value == "query":
                vectors = vectors[:, :-1]
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        scores = super().similarity(embeddings1, embeddings2)
        match self.how:
            case "similarity of pairs":
                return scores[:, 0]
            case "similarity is nan":
                return scores * np.nan
        return scores


class TestBadModels:
    @pytest.mark.parametrize(
        ("how", "clause"),
        [
            ("nan", "NaN or infinite embeddings for 1 of "),
            ("infinite", "NaN or infinite embeddings for 1 of "),
            ("a row less", r"shape \(\d+, 32\) for \d+ texts, not \(\d+, dimension\)"),
            ("one vector", r"shape \(32,\) for \d+ texts, not \(\d+, dimension\)"),
            ("vectors of tokens", r"shape \(\d+, 2, 32\) for \d+ texts, not \(\d+, dimension\)"),
            ("queries of another size", r"shape \(\d+, 3[12]\) for \d+ texts, not \(\d+, 3[12]\)"),
            ("similarity of pairs", r"similarity returned shape \(8,\), not \(8, 64\)"),
        ],
    )
    def test_what_it_returns_is_checked(self, how: str, clause: str) -> None:
        with pytest.raises(ModelError, match=clause) as error:
            evaluate(Misbehaving(how), task_of(PAIRS, ["de-en"]))
        assert re.match(r"tests/misbehaving\b", str(error.value))
        assert "\n" not in str(error.value)

    def test_scores_are_checked(self) -> None:
        with pytest.raises(ModelError, match="a score is nan:"):
            evaluate(Misbehaving("similarity is nan"), task_of(PAIRS, ["de-en"]))

    def test_no_metadata(self) -> None:
        model = WordCounts()
        model.mteb_model_meta = None
        with pytest.raises(ModelError, match=r"^WordCounts has no name") as error:
            evaluate(model, task_of(PAIRS, ["de-en"]))
        assert "\n" not in str(error.value)

    def test_something_else(self) -> None:
        model = type("Thing", (), {"mteb_model_meta": meta_of("tests/thing")})()
        with pytest.raises(ModelError, match="Thing is not a model"):
            evaluate(model, task_of(PAIRS, ["de-en"]))


def test_an_option_told_with_another_value_is_refused() -> None:
    """Else the results of one pool would be saved, and found again, as those of another."""
    model: Any = WordCounts()
    tell_options(model, task_of(MULTI, ["de"], pool_languages=("de", "en")))
    task = task_of(MULTI, ["de"], pool_languages=("de", "en", "th"))
    with pytest.raises(RequestError, match="pool_languages"):
        mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)


def test_the_signature_counts_the_texts_that_are_stripped_or_not(data_dir: Path) -> None:
    """XQuAD-R has 421 such texts: mteb strips the 33 passages, and gives models the 388 queries as they are."""
    task = task_of("XQuAD-R-Multilingual", data_dir=data_dir)
    task.load_data()
    collection = task.collection
    assert collection is not None
    assert collection.padded(collection.queries, collection.parts) == {"queries": 388, "passages": 33}
