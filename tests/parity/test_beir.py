"""Real XQuAD-R out to BEIR's format and TREC files, evaluated by beir and trec_eval; and in again, evaluated by mteb.

beir and pytrec_eval get the very scores that our engine ranked, so that every rank must be the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import mteb
import numpy as np
import pytest
import pytrec_eval
from beir.datasets.data_loader import GenericDataLoader
from beir.retrieval.evaluation import EvaluateRetrieval
from mteb.abstasks.retrieval import AbsTaskRetrieval

from helpers import asking, relevant_ranks, static_model, task_of, texts_of
from hybrid_bench.data.beir import beir_task, read_beir
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.evaluation.foreign import exact
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.exchange.export import Results, export_beir, export_trec, ranked_by
from hybrid_bench.measures.metrics import K_VALUES, per_query

#: A monolingual, a cross-lingual and a multilingual setting.
SUBSETS = {"de-de": "XQuAD-R-Pairs", "ar-de": "XQuAD-R-Pairs", "en": "XQuAD-R-Multilingual"}
#: Of the questions each fifth is asked, against all sentences.
EVERY, N_QUERIES = 5, 238
#: beir and mteb round to five decimals.
ROUNDED = 0.5e-5 + 1e-12
#: Between two programs that sum a few dozen terms in float64, in another order. One rank of one query that is off by
#: one place moves its average precision by more than 1 / (11 * 13014^2) = 5e-10 in the pool of all languages, and by
#: more than 6e-7 in one of a single language.
SUMMED = 1e-10
#: beir's names, trec_eval's, and ours.
NAMES = {
    "NDCG": ("ndcg_cut", "ndcg_at"),
    "MAP": ("map_cut", "map_at"),
    "Recall": ("recall", "recall_at"),
    "P": ("P", "precision_at"),
}
ARGUMENTS: Any = {"encode_kwargs": {"batch_size": 256, "show_progress_bar": False}}


@dataclass(frozen=True)
class Evaluated:
    """A subset, evaluated by our engine, and written in BEIR's format."""

    model: Any
    task: ParallelRetrieval
    subset: str
    scores: dict[str, Any]
    folder: Path

    def top(self, k: int) -> Results:
        return ranked_by(self.model, ARGUMENTS["encode_kwargs"])(self.task, self.subset, "test", k)

    @property
    def pool_size(self) -> int:
        return len(self.task.dataset[self.subset]["test"]["corpus"])


def evaluate(model: Any, task: Any) -> dict[str, Any]:
    """The scores of the only subset of a task."""
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False, **ARGUMENTS)
    (scores,) = result.task_results[0].scores["test"]
    return dict(scores)


@pytest.fixture(scope="module")
def cache_of_datasets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache of datasets"))
        yield


@pytest.fixture(scope="module")
def model(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Real vectors, though random ones: it finds sentences that share words with the question."""
    folder = tmp_path_factory.mktemp("model") / "static"
    static_model(texts_of(task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection())).save_pretrained(str(folder))
    return load(model_meta(str(folder)))


@pytest.fixture(scope="module", params=list(SUBSETS))
def evaluated(
    request: pytest.FixtureRequest,
    data_dir: Path,
    model: Any,
    tmp_path_factory: pytest.TempPathFactory,
    cache_of_datasets: None,
) -> Evaluated:
    task = asking(task_of(SUBSETS[request.param], [request.param], data_dir=data_dir), EVERY)
    scores = evaluate(model, task)
    if not task.data_loaded:
        task.load_data()
    (folder,) = export_beir([task], tmp_path_factory.mktemp("out"))
    return Evaluated(model, task, request.param, scores, folder)


# beir's loader leaves the three files to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file <_io:ResourceWarning")
def test_beirs_loader_reads_what_the_task_holds(evaluated: Evaluated) -> None:
    corpus, queries, qrels = GenericDataLoader(str(evaluated.folder)).load("test")
    data = evaluated.task.dataset[evaluated.subset]["test"]
    assert corpus == {
        text_id: {"title": "", "text": text}
        for text_id, text in zip(data["corpus"]["id"], data["corpus"]["text"], strict=True)
    }
    assert queries == dict(zip(data["queries"]["id"], data["queries"]["text"], strict=True))
    assert qrels == data["relevant_docs"]
    assert len(queries) == N_QUERIES
    assert len(corpus) == {"de-de": 1276, "ar-de": 1276, "en": 13014}[evaluated.subset]
    assert {len(relevant) for relevant in qrels.values()} == {11 if evaluated.subset == "en" else 1}


def test_beirs_evaluation_gives_our_figures(evaluated: Evaluated) -> None:
    results = {query: dict(found) for query, found in evaluated.top(1000).items()}
    qrels = {query: dict(relevant) for query, relevant in read_beir(evaluated.folder).qrels["test"].items()}
    figures = EvaluateRetrieval.evaluate(qrels, results, list(K_VALUES))
    theirs = {name: value for measures in figures for name, value in measures.items()}
    assert len(theirs) == len(NAMES) * len(K_VALUES)
    for name, value in theirs.items():
        kind, k = name.split("@")
        assert value == pytest.approx(evaluated.scores[f"{NAMES[kind][1]}_{k}"], rel=0, abs=ROUNDED), name
    # neither a perfect ranking nor none: there is something to get wrong
    assert 0.001 < theirs["MAP@1000"] < 0.9


def test_trec_eval_gives_our_figures_query_by_query(evaluated: Evaluated, tmp_path: Path) -> None:
    whole = evaluated.subset != "en"  # three million lines otherwise
    depth = evaluated.pool_size if whole else 1000
    top = ranked_by(evaluated.model, ARGUMENTS["encode_kwargs"])
    run_file, qrels_file = export_trec(top, [evaluated.task], tmp_path, k=depth, run="tests/static")
    assert run_file.name == f"{SUBSETS[evaluated.subset]}.{evaluated.subset}.tests__static.run"
    with run_file.open(encoding="utf-8") as run, qrels_file.open(encoding="utf-8") as qrels:
        results, relevant = pytrec_eval.parse_run(run), pytrec_eval.parse_qrel(qrels)
    assert {len(found) for found in results.values()} == {depth}
    cut = ",".join(map(str, K_VALUES))
    asked = {f"{theirs}.{cut}" for theirs, _ in NAMES.values()} | {"map", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(relevant, asked).evaluate(results)
    (table,) = evaluated.task.tables.values()
    ours = per_query(relevant_ranks(table))
    queries = evaluated.task.read_collection().queries[evaluated.subset.split("-")[0]]
    id_of = dict(zip(queries.question_ids, queries.ids, strict=True))
    in_order = [theirs[id_of[question]] for question in table["question_id"].to_pylist()]
    names = {f"{kind}_{k}": f"{name}_{k}" for kind, name in NAMES.values() for k in K_VALUES}
    names |= {"map": "map", "recip_rank": "mrr"} if whole else {}
    for name, our_name in names.items():
        expected = np.array([scores[name] for scores in in_order])
        np.testing.assert_allclose(ours[our_name], expected, rtol=0, atol=SUMMED, err_msg=name)
    assert len(np.unique(ours["ndcg_at_1000"])) > 20


def test_mteb_gives_the_folder_the_figures_of_the_subset(evaluated: Evaluated) -> None:
    """By mteb's own evaluation to the last bit.

    By ours, as far as mteb's figures have digits: of the queries one may have two scores so close that mteb's
    product, which is of another shape, orders them otherwise.
    """
    members = {"_evaluate_subset": AbsTaskRetrieval._evaluate_subset}
    reference = cast("ParallelRetrieval", type("Reference", (type(evaluated.task),), members)())
    reference.hf_subsets, reference.options = evaluated.task.hf_subsets, evaluated.task.options
    original = evaluate(evaluated.model, reference)
    found = evaluate(evaluated.model, beir_task(evaluated.folder, "de"))
    measured = {name for name, value in found.items() if isinstance(value, float)} - {"main_score"}
    assert {f"{name}_at_{k}" for name in ("map", "ndcg", "recall", "precision", "mrr") for k in K_VALUES} <= measured
    assert {name: found[name] for name in measured} == {name: original[name] for name in measured}
    assert found["main_score"] == original["ndcg_at_10"]
    for name in measured & evaluated.scores.keys():
        assert found[name] == pytest.approx(evaluated.scores[name], rel=0, abs=ROUNDED + 1 / N_QUERIES), name


def test_our_engine_gives_the_folder_the_figures_of_the_subset(evaluated: Evaluated) -> None:
    task = exact(beir_task(evaluated.folder))
    found = evaluate(evaluated.model, task)
    (table,), (original,) = task.tables.values(), evaluated.task.tables.values()
    assert len(table) == N_QUERIES
    assert found["map"] == pytest.approx(evaluated.scores["map"], rel=0, abs=SUMMED)
    for name in ("ndcg_at_10", "map_at_1000", "recall_at_100", "mrr"):
        assert found[name] == pytest.approx(evaluated.scores[name], rel=0, abs=SUMMED), name
    assert sorted(table["ranks"].to_pylist()) == sorted(original["ranks"].to_pylist())
