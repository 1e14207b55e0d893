"""What is measured during training is what `run` measures of the saved model, and the model is left as it was.

This file is also the script that torchrun starts; see `main`.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.evaluation import BaseEvaluator, SequentialEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from helpers import save_tiny, static_model, texts_of
from hybrid_bench.data.collection import Collection, DataOptions, Judgments
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.errors import DataError, ModelError, RequestError
from hybrid_bench.evaluation.registry import collections
from hybrid_bench.evaluation.runner import RunRequest, run
from hybrid_bench.runs.result_files import table_path
from hybrid_bench.training.evaluator import HybridRetrievalEvaluator
from hybrid_bench.training.loss import HybridBatchLoss, LossByKind

LANGUAGES = ("de", "en", "tr")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads would only wait for each other over models as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


DEMO = collections()["HybridDemo"][0].reader
#: Scores by measure, by subset, by task.
Subsets = dict[str, dict[str, dict[str, Any]]]


def demo() -> Collection:
    return DEMO.load(DataOptions())


def demo_model(**arguments: Any) -> SentenceTransformer:
    return static_model(texts_of(demo(), LANGUAGES), **arguments)


class Run:
    """A run of a saved model: the scores of each subset, and the rows of its per-query tables."""

    def __init__(self, model: SentenceTransformer, folder: Path, tasks: str = "HybridDemo", **options: Any) -> None:
        saved = folder / "saved"
        model.save_pretrained(str(saved))
        outcome = run(RunRequest(models=[str(saved)], tasks=[tasks], output=folder / "runs", **options))
        assert not outcome.failures
        files = {task: [where / f"{task}.json" for where in outcome.folders] for task in outcome.subsets}
        self.folders = {task: next(file.parent for file in each if file.is_file()) for task, each in files.items()}
        self.subsets: Subsets = {}
        for task, where in self.folders.items():
            scores = json.loads((where / f"{task}.json").read_text(encoding="utf-8"))["scores"]
            self.subsets[task] = {entry["hf_subset"]: entry for entry in scores["test"]}

    def rows(self, task: str) -> Any:
        return pq.read_table(table_path(self.folders[task], task)).to_pandas()

    def assert_same(self, evaluator: HybridRetrievalEvaluator) -> None:
        """Every measure of every subset, as far as mteb's file has digits, and to the last one where our table has."""
        by_mteb = {"hf_subset", "languages", "main_score", "mteb_version"}
        found = evaluator.subsets
        assert {task: set(each) for task, each in found.items()} == {t: set(each) for t, each in self.subsets.items()}
        for task, each in self.subsets.items():
            for subset, scores in each.items():
                measured = {key: value for key, value in found[task][subset].items() if key not in by_mteb}
                assert {key: round(value, 6) for key, value in measured.items()} == {
                    key: value for key, value in scores.items() if key not in by_mteb
                }
            rows = self.rows(task)
            for column, key in (("ap", "map"), ("ndcg_at_10", "ndcg_at_10"), ("rr", "mrr")):
                exact = {subset: float(rows.loc[rows["subset"] == subset, column].to_numpy().mean()) for subset in each}
                assert {subset: found[task][subset][key] for subset in each} == exact


def means(subsets: Subsets, task: str, key: str, chosen: Callable[[str], bool]) -> float:
    return float(np.mean([scores[key] for subset, scores in subsets[task].items() if chosen(subset)]))


def mono(subset: str) -> bool:
    return len(set(subset.split("-"))) == 1


def cross(subset: str) -> bool:
    return not mono(subset)


def every(subset: str) -> bool:
    return True


# -- the same numbers -------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_run(tmp_path: Path) -> None:
    model = demo_model(prompts={"query": "frage", "document": "satz"})
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=LANGUAGES)
    metrics = evaluator(model)
    saved = Run(model, tmp_path, languages=LANGUAGES)
    saved.assert_same(evaluator)
    pairs, pooled = "HybridDemo-Pairs", "HybridDemo-Multilingual"
    expected = {
        f"HybridDemo_{setting}_{key}": means(evaluator.subsets, task, key, chosen)
        for key in ("map", "ndcg_at_10", "recall_at_10")
        for setting, task, chosen in (
            ("monolingual", pairs, mono),
            ("cross_lingual", pairs, cross),
            ("multilingual", pooled, every),
        )
    }
    of_bias = [key for key in saved.subsets[pooled]["de"] if key.startswith("bias_")]
    assert {"bias_rank_distance", "bias_rank_distance_norm", "bias_kendall_w"} <= set(of_bias)
    expected |= {f"HybridDemo_{key}": means(evaluator.subsets, pooled, key, every) for key in of_bias}
    settings = ("monolingual", "cross_lingual", "multilingual")
    expected["HybridDemo_map"] = float(np.mean([expected[f"HybridDemo_{setting}_map"] for setting in settings]))
    assert metrics == expected
    assert evaluator.primary_metric == "HybridDemo_map"
    assert 0.03 < metrics["HybridDemo_map"] < 0.9  # better than chance, and not without a fault
    assert all(type(value) is float for value in metrics.values())


def test_prompts_may_be_given(tmp_path: Path) -> None:
    """As they are in training, where the trainer's arguments have them."""
    bare = demo_model()
    evaluator = HybridRetrievalEvaluator(
        "HybridDemo", languages=LANGUAGES, settings=["multi"], query_prompt="was ", passage_prompt="der "
    )
    evaluator(bare)
    assert bare.prompts == demo_model().prompts
    prompted = demo_model(prompts={"query": "was ", "document": "der "})
    saved = Run(prompted, tmp_path, languages=LANGUAGES, settings=["multi"])
    saved.assert_same(evaluator)
    plain = HybridRetrievalEvaluator("HybridDemo", languages=LANGUAGES, settings=["multi"])
    assert plain(bare) != evaluator(bare)


def test_a_narrower_pool(tmp_path: Path) -> None:
    model = demo_model()
    chosen: dict[str, Any] = {"languages": ["de", "en"], "pool_languages": ["en", "tr"]}
    evaluator = HybridRetrievalEvaluator("HybridDemo", **chosen)
    evaluator(model)
    Run(model, tmp_path, **chosen).assert_same(evaluator)


@pytest.mark.slow
def test_numbers_are_those_of_run_on_real_data(data_dir: Path, tmp_path: Path) -> None:
    source = collections()["XQuAD-R"][0].reader
    collection = source.load(DataOptions(data_dir=data_dir))
    model = static_model(texts_of(collection, ["en"])[::4], dimension=32)
    chosen: dict[str, Any] = {"languages": ["en", "es"], "pool_languages": ["en", "es", "de"]}
    evaluator = HybridRetrievalEvaluator("XQuAD-R", data=DataOptions(data_dir=data_dir), **chosen)
    evaluator(model)
    Run(model, tmp_path, "XQuAD-R", data_dir=data_dir, **chosen).assert_same(evaluator)


def test_a_source_and_a_collection_at_hand_give_the_same() -> None:
    model = demo_model()
    expected = HybridRetrievalEvaluator("HybridDemo", languages=LANGUAGES)(model)
    for given in (DEMO, replace(demo(), name="Held")):
        evaluator = HybridRetrievalEvaluator(given, languages=LANGUAGES, name="HybridDemo")
        assert evaluator(model) == expected


def test_a_users_own_source(tmp_path: Path) -> None:
    """By hand: the second question's German passage is second to the one that is not relevant."""
    rows: dict[str, list[dict[str, Any]]] = {
        "passages": [
            {"id": "p1", "language": "en", "text": "alpha beta gamma delta"},
            {"id": "p1", "language": "de", "text": "alpha beta sierra romeo"},
            {"id": "p2", "language": "en", "text": "kilo lima mike nova"},
            {"id": "p2", "language": "de", "text": "kilo papa oscar tango"},
            {"id": "p3", "language": "de", "text": "kilo lima mike quebec"},
        ],
        "questions": [
            {"id": "q1", "language": "en", "text": "alpha beta gamma delta", "relevant": ["p1"]},
            {"id": "q2", "language": "en", "text": "kilo lima mike nova", "relevant": ["p2"]},
        ],
    }
    for table, lines in rows.items():
        (tmp_path / f"{table}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    words = [line["text"] for lines in rows.values() for line in lines]
    model = static_model(words, dimension=256)
    spec = f"jsonl:{tmp_path}"
    for given in (spec, JsonlReader.parse(spec)):
        metrics = HybridRetrievalEvaluator(given, name="")(model)
        assert metrics["monolingual_map"] == 1.0
        assert metrics["cross_lingual_map"] == (1 + 1 / 2) / 2
        assert metrics["multilingual_map"] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
        assert metrics["map"] == pytest.approx((1 + 0.75 + 11 / 12) / 3)


def test_languages_with_questions_only() -> None:
    whole = demo()
    english = whole.part_index("en")
    in_english = {
        code: replace(
            whole.queries[code],
            judgments=Judgments.of(
                (query, 0, passage, 1)
                for query, part, passage in zip(
                    whole.queries[code].judgments.query.tolist(),
                    whole.queries[code].judgments.part.tolist(),
                    whole.queries[code].judgments.passage.tolist(),
                    strict=True,
                )
                if part == english
            ),
        )
        for code in LANGUAGES
    }
    held = replace(whole, name="Held", passages={"en": whole.passages["en"]}, queries=in_english, sha256={"en": "0"})
    model = demo_model()
    found = HybridRetrievalEvaluator(held, settings=["mono", "cross"], name="")(model)
    expected = HybridRetrievalEvaluator("HybridDemo", languages=LANGUAGES, settings=["mono", "cross"])
    expected(model)
    of = expected.subsets["HybridDemo-Pairs"]
    assert found["monolingual_map"] == of["en-en"]["map"]
    assert found["cross_lingual_map"] == (of["de-en"]["map"] + of["tr-en"]["map"]) / 2


# -- some questions ---------------------------------------------------------------------------------------------------


def held_out(collection: Collection) -> set[str]:
    """A third of the paragraphs, as the questions about them."""
    return {question for question, cluster in collection.paragraph_cluster.items() if cluster % 3 == 0}


def test_some_questions_against_the_whole_pool(tmp_path: Path) -> None:
    model, chosen = demo_model(), held_out(demo())
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=LANGUAGES, questions=chosen)
    metrics = evaluator(model)
    assert evaluator.n_questions == len(chosen) < 84
    saved = Run(model, tmp_path, languages=LANGUAGES)
    for task, setting in (("HybridDemo-Pairs", "monolingual"), ("HybridDemo-Multilingual", "multilingual")):
        rows = saved.rows(task)
        rows = rows[rows["question_id"].isin(chosen) & (rows["setting"] == setting)]
        assert metrics[f"HybridDemo_{setting}_map"] == pytest.approx(
            rows.groupby("subset", observed=True)["ap"].mean().mean(), rel=1e-12
        )
    distance = rows["ranks"].map(max) - rows["ranks"].map(min)
    by_subset = distance.groupby(rows["subset"].astype(str))
    assert metrics["HybridDemo_bias_rank_distance"] == pytest.approx(by_subset.mean().mean(), rel=1e-12)
    assert metrics["HybridDemo_bias_rank_distance_median"] == pytest.approx(by_subset.median().mean(), rel=1e-12)


def test_all_questions_are_the_whole_collection() -> None:
    model = demo_model()
    every_one = demo().queries["de"].question_ids
    chosen: dict[str, Any] = {"languages": ["de", "en"], "settings": ["multi"]}
    assert HybridRetrievalEvaluator("HybridDemo", questions=every_one, **chosen)(model) == HybridRetrievalEvaluator(
        "HybridDemo", **chosen
    )(model)


def test_a_language_in_which_none_is_asked_is_left_out() -> None:
    whole = demo()
    first, second = whole.queries["de"].question_ids[:2]
    german = whole.queries["de"]
    without = replace(german, question_ids=tuple("other" if i == second else i for i in german.question_ids))
    clusters = {**whole.paragraph_cluster, "other": 0}
    held = replace(
        whole,
        queries={"de": without, "en": whole.queries["en"]},
        paragraph_cluster=clusters,
        article_cluster=clusters,
    )
    evaluator = HybridRetrievalEvaluator(held, questions=[second], settings=["multi"])
    evaluator(demo_model())
    assert list(evaluator.subsets["HybridDemo-Multilingual"]) == ["en"]
    assert evaluator.n_questions == 1
    assert HybridRetrievalEvaluator(held, questions=[first, second]).n_questions == 2


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": ["bilingual"]}, "unknown setting 'bilingual': did you mean"),
        ({"languages": ["ja"]}, "HybridDemo has no language 'ja': it has ar, de"),
        ({"pool_languages": ["ja"]}, "HybridDemo has no language 'ja'"),
        ({"languages": ["de"], "settings": ["cross"]}, "nothing to (run|measure): no subset of HybridDemo"),
        ({"questions": ["nobody asked"]}, "HybridDemo has no question 'nobody asked'"),
        ({"questions": []}, "none of the 0 questions"),
        ({"primary_metric": "monolingual_mpa"}, "no metric 'monolingual_mpa': did you mean 'monolingual_map'?"),
        ({"primary_metric": "bias_rank_distance", "settings": ["mono"]}, "no metric 'bias_rank_distance'"),
        ({"passage_prompt": "a", "corpus_prompt": "b"}, "two names of one thing: give one"),
        ({"truncate_dim": 0}, "0 is no number of dimensions"),
        ({"matryoshka_dims": [64, 1.5]}, "1.5 is no number of dimensions"),
    ],
)
def test_what_cannot_be_measured(by_name: bool, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        HybridRetrievalEvaluator("HybridDemo" if by_name else DEMO, **options)


def test_an_unknown_collection() -> None:
    with pytest.raises(RequestError, match="unknown task 'HybridDemos': did you mean 'HybridDemo'"):
        HybridRetrievalEvaluator("HybridDemos")
    with pytest.raises(RequestError, match="no-such-folder"):
        HybridRetrievalEvaluator("jsonl:no-such-folder")


def test_several_collections() -> None:
    with pytest.raises(RequestError, match=r"HybridBench is about several collections \(XQuAD-R, MLQA-R\)"):
        HybridRetrievalEvaluator("HybridBench")


def test_a_task_that_only_mteb_evaluates() -> None:
    with pytest.raises(RequestError, match="evaluated by mteb only"):
        HybridRetrievalEvaluator("LMEBMLDR")


def test_a_collection_that_is_not_named_by_language() -> None:
    held = demo()
    odd = replace(held, queries={"questions": held.queries["de"]})
    with pytest.raises(DataError, match="'questions' should be named by the code of its language, 'de'"):
        HybridRetrievalEvaluator(odd)


def test_a_model_that_gives_nan() -> None:
    model = demo_model()
    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"])
    with pytest.raises(ModelError, match="returned NaN or infinite embeddings"):
        evaluator(model)


# -- the model is left as it was --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_is_left_as_it_was(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = save_tiny("SentenceTransformer", tmp_path / "model", texts_of(demo(), ["en"]))
    model = SentenceTransformer(str(folder), device="cpu").to(dtype)
    model.train()
    frozen: Any = model[0]
    frozen.model.embeddings.eval()  # as one trains without dropout in the embeddings
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prompts = dict(model.prompts)

    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"], query_prompt="ask ")
    metrics = evaluator(model)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected

    assert [module.training for module in model.modules()] == modes
    assert model.prompts == prompts
    assert model.device == torch.device("cpu")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    # Dropout plays no part in what was measured.
    model.eval()
    assert evaluator(model) == metrics


def test_it_is_left_as_it_was_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = demo_model()
    model.train()
    monkeypatch.setattr(model[0], "forward", lambda *_, **__: 1 / 0)
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"], query_prompt="ask ")
    with pytest.raises(ZeroDivisionError):
        evaluator(model)
    assert model.training
    assert "ask " not in model.prompts.values()


def test_a_model_that_is_trained_on_is_measured_anew() -> None:
    model = demo_model()
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"], name="")
    before = evaluator(model, epoch=1, steps=1)
    with torch.no_grad():
        weights = next(model.parameters())
        weights.copy_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(5)))
    again = evaluator(model, epoch=1, steps=1)
    assert again != before
    assert again == HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"], name="")(model)


# -- what is written --------------------------------------------------------------------------------------------------


def test_table(tmp_path: Path) -> None:
    model = demo_model()
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"])
    metrics = evaluator(model, str(tmp_path / "eval"), epoch=1, steps=10)
    evaluator(model, str(tmp_path / "eval"), epoch=2, steps=20)
    path = tmp_path / "eval" / "HybridRetrieval_evaluation_HybridDemo_results.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["steps"]) for row in rows] == [("1", "10"), ("2", "20")]
    for row in rows:
        assert {f"HybridDemo_{key}": float(row[key]) for key in row if key not in ("epoch", "steps")} == metrics
    # Another evaluator's columns do not get under these headings.
    other = HybridRetrievalEvaluator("HybridDemo", languages=["en", "de"], settings=["multi"])
    other(model, str(tmp_path / "eval"))
    other(model, str(tmp_path / "eval"))
    second = path.with_name("HybridRetrieval_evaluation_HybridDemo_results-2.csv")
    assert len(second.read_text(encoding="utf-8").splitlines()) == 3
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    quiet = HybridRetrievalEvaluator("HybridDemo", languages=["en"], settings=["mono"], write_csv=False)
    quiet(model, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("metric", "greater"),
    [(None, True), ("multilingual_map", True), ("bias_rank_distance", False), ("bias_max_rank_norm", True)],
)
def test_primary_metric(metric: str | None, greater: bool) -> None:
    evaluator = HybridRetrievalEvaluator(
        "HybridDemo", languages=["de", "en"], settings=["multi"], primary_metric=metric, name="x"
    )
    assert evaluator.greater_is_better is greater
    metrics = evaluator(demo_model())
    assert evaluator.primary_metric == f"x_{metric or 'map'}"
    assert evaluator.primary_metric in metrics


def test_fewer_dimensions(tmp_path: Path) -> None:
    """As of the model that was cut, and at several widths in one evaluation."""
    chosen: dict[str, Any] = {"languages": ["de", "en"], "settings": ["mono", "multi"], "name": ""}
    model = demo_model()
    whole = HybridRetrievalEvaluator("HybridDemo", **chosen)(model)
    narrow = {}
    for width in (8, 24):
        model.truncate_dim = width
        narrow[width] = HybridRetrievalEvaluator("HybridDemo", **chosen)(model)
        model.truncate_dim = None
        assert HybridRetrievalEvaluator("HybridDemo", truncate_dim=width, **chosen)(model) == narrow[width] != whole
        assert model.truncate_dim is None
    several = HybridRetrievalEvaluator("HybridDemo", matryoshka_dims=[24, 8], **chosen)
    expected = {f"dim_{width}_{key}": value for width in (24, 8) for key, value in narrow[width].items()}
    assert several(model, str(tmp_path)) == {**expected, **whole}
    assert several.primary_metric == "map"
    assert several.get_config_dict()["matryoshka_dims"] == [24, 8]
    with pytest.raises(RequestError, match="1000 dimensions are to be measured, but the model has 64: give fewer"):
        HybridRetrievalEvaluator("HybridDemo", truncate_dim=1000, **chosen)(model)


def test_it_is_an_evaluator_with_the_names_of_their_own() -> None:
    options: dict[str, Any] = {"languages": ["en"], "settings": ["mono"]}
    theirs = HybridRetrievalEvaluator("HybridDemo", corpus_prompt="satz ", **options)
    assert isinstance(theirs, BaseEvaluator)
    ours = HybridRetrievalEvaluator("HybridDemo", passage_prompt="satz ", **options)
    assert theirs.get_config_dict() == ours.get_config_dict()
    assert theirs.prompts == {"query": None, "document": "satz "}


NAMED: dict[str, Any] = {"languages": ["de", "en"], "settings": ["mono", "multi"]}


@pytest.fixture(scope="module")
def unnamed() -> tuple[SentenceTransformer, dict[str, float]]:
    """A model and its metrics without a name before them."""
    model = demo_model()
    return model, HybridRetrievalEvaluator("HybridDemo", name="", **NAMED)(model)


@pytest.mark.parametrize(
    ("name", "primary"),
    [
        ("multilingual", "multilingual_map"),
        ("bias", "bias_rank_distance"),
        ("map", "map"),
        ("my run/1", "map"),
        ("a" * 300, "multilingual_map"),
    ],
)
def test_any_name_will_do(
    name: str, primary: str, unnamed: tuple[SentenceTransformer, dict[str, float]], tmp_path: Path
) -> None:
    """Also one that a metric begins with: what decides is what was asked for, however often it is measured."""
    model, expected = unnamed
    evaluator = HybridRetrievalEvaluator("HybridDemo", name=name, primary_metric=primary, **NAMED)
    for _ in range(2):
        metrics = SequentialEvaluator([evaluator])(model, str(tmp_path))
        assert metrics.pop("sequential_score") == metrics[str(evaluator.primary_metric)] == expected[primary]
        assert metrics == {f"{name}_{key}": value for key, value in expected.items()}
    (table,) = tmp_path.iterdir()
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3


def test_names_that_no_file_can_have_get_a_table_each() -> None:
    names = ["a/b", "a\\b", "a-b", "a:b", *(letter * 300 for letter in "äö"), "ä" * 299]
    options: dict[str, Any] = {"languages": ["de"], "settings": ["mono"]}
    files = [HybridRetrievalEvaluator("HybridDemo", name=name, **options).csv_file for name in names]
    assert len({*files}) == len(names)
    assert files[2] == "HybridRetrieval_evaluation_a-b_results.csv"
    assert max(len(file.encode()) for file in files) <= 255 - len("-99")


def training_set(n: int) -> Dataset:
    """German questions and English answers of the demo, with labels for the loss."""
    german, english = demo().queries["de"], demo().passages["en"]
    part = demo().part_index("en")
    judgments = german.judgments
    inside = judgments.part == part
    rows = list(zip(judgments.query[inside].tolist(), judgments.passage[inside].tolist(), strict=True))[:n]
    return Dataset.from_dict(
        {
            "query": [german.texts[query] for query, _ in rows],
            "passage": [english.texts[passage] for _, passage in rows],
            "label": [[passage, 0, 1] for _, passage in rows],
        }
    )


def trained(model: SentenceTransformer, folder: Path) -> SentenceTransformerTrainer:
    """A model after two epochs, measured after each; the better one is kept."""
    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model, gather_across_devices=True))
    evaluator = HybridRetrievalEvaluator("HybridDemo", languages=["de", "en"])
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=16,
        learning_rate=0.05,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_HybridDemo_map",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_drop_last=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=training_set(64), loss=loss, evaluator=evaluator
    )
    LossByKind(loss).attach(trainer)
    trainer.train()
    return trainer


def test_in_a_trainer(tmp_path: Path) -> None:
    model = demo_model()
    trainer = trained(model, tmp_path / "out")
    measured = [line for line in trainer.state.log_history if "eval_HybridDemo_map" in line]
    assert [line["epoch"] for line in measured] == [1, 2]
    assert measured[0]["eval_HybridDemo_cross_lingual_map"] != measured[1]["eval_HybridDemo_cross_lingual_map"]
    assert trainer.state.best_metric == max(line["eval_HybridDemo_map"] for line in measured)
    # What was logged for the best checkpoint is what `run` finds in it.
    best: Any = trainer.state.best_model_checkpoint
    saved = Run(SentenceTransformer(best, device="cpu"), tmp_path, languages=["de", "en"])
    line = next(each for each in measured if each["step"] == int(Path(best).name.split("-")[1]))
    rows = saved.rows("HybridDemo-Multilingual")
    distance = rows["ranks"].map(max) - rows["ranks"].map(min)
    of_pools = [distance[rows["subset"] == subset].to_numpy() for subset in ("de", "en")]
    assert line["eval_HybridDemo_bias_rank_distance"] == float(np.mean([each.mean() for each in of_pools]))
    rows = saved.rows("HybridDemo-Pairs")
    of_pairs = [rows.loc[rows["subset"] == subset, "ap"].to_numpy() for subset in ("de-de", "en-en")]
    assert line["eval_HybridDemo_monolingual_map"] == float(np.mean([each.mean() for each in of_pairs]))
    model.save_pretrained(str(tmp_path / "card"))
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert "Evaluated with <code>hybrid_bench.training.evaluator.HybridRetrievalEvaluator</code>" in card
    assert "| **map** " in card
    assert '"collection": "HybridDemo"' in card
    assert len(list((tmp_path / "out" / "eval").glob("*.csv"))) == 1


def main(folder: Path) -> None:
    """What each process does: train, and note what it logged."""
    torch.set_num_threads(1)
    trainer = trained(demo_model(), folder / "out")
    rank = int(os.environ["RANK"])
    (folder / f"{rank}.json").write_text(json.dumps(trainer.state.log_history), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_under_torchrun(tmp_path: Path) -> None:
    """All devices get what the first one measured, the table has one line an epoch, and the losses are logged."""
    started = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, tmp_path],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert started.returncode == 0, started.stderr[-4000:]
    logs = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    evaluated = [[line for line in log if "eval_HybridDemo_map" in line] for log in logs]
    assert len(evaluated[0]) == 2
    for first, second in zip(*evaluated, strict=True):
        measured = {key: value for key, value in first.items() if key.startswith("eval_HybridDemo_")}
        assert measured.items() <= second.items()
    losses = [[line["loss_cross_lingual"] for line in log if "loss" in line] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    (table,) = (tmp_path / "out" / "eval").glob("*.csv")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3


if __name__ == "__main__":
    main(Path(sys.argv[1]))
