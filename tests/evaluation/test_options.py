"""What was asked for is done, or refused, or told: options, models as objects, models that fail, and an interrupt."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.models import CompressionWrapper
from mteb.types import OutputDType

from helpers import WordCounts, registered, static_model, task_of
from hybrid_bench.engine.models import given
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.evaluation.runner import Outcome, RunRequest, run
from hybrid_bench.runs.result_files import read_signatures

PAIRS, MULTI = "HybridDemo-Pairs", "HybridDemo-Multilingual"
BM25, NGRAM, CROSS = "hybrid_bench/bm25", "hybrid_bench/char-ngram", "mteb/baseline-random-cross-encoder"
SMALL: dict[str, Any] = {"tasks": [PAIRS], "languages": ["de"]}


def go(output: Path, *models: Any, told: list[str] | None = None, **options: Any) -> Outcome:
    return run(RunRequest(models=models, output=output, **{**SMALL, **options}), ([] if told is None else told).append)


# -- options that do not apply ---------------------------------------------------------------------------------------


@pytest.fixture
def first(tmp_path: Path) -> Path:
    (folder,) = go(tmp_path / "first", BM25).folders
    return folder


def test_reranking_with_an_encoder_is_refused(tmp_path: Path, first: Path) -> None:
    with pytest.raises(RequestError, match=rf"^--rerank is for cross-encoders, and {NGRAM} is none: .* --top-k$"):
        go(tmp_path, NGRAM, rerank=first, top_k=5)


def test_reranking_beside_an_encoder_is_told(tmp_path: Path, first: Path) -> None:
    told: list[str] = []
    outcome = go(tmp_path, NGRAM, CROSS, rerank=first, top_k=5, told=told)
    assert (outcome.failures, len(outcome.folders)) == ([], 2)
    assert f"--rerank does not apply to {NGRAM}, which searches the whole pool" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "hard-negatives"}, f"--pool hard-negatives does not apply to {PAIRS}: leave it out"),
        ({"pool_languages": ["de", "en"]}, f"--pool-languages de en does not apply to {PAIRS}: leave it out"),
        (
            {"passage": "sentence+context", "tasks": ["NFCorpus"], "languages": []},
            "--passage sentence+context does not apply to NFCorpus: leave it out",
        ),
    ],
)
def test_an_option_that_applies_to_no_task_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(RequestError) as error:
        go(tmp_path, BM25, **options)
    assert str(error.value) == message
    assert list(tmp_path.rglob("*.json")) == []


def test_a_pools_languages_are_nothing_to_pairs_of_the_same_collection(tmp_path: Path) -> None:
    told: list[str] = []
    outcome = go(tmp_path, BM25, tasks=["HybridDemo"], pool_languages=["de", "en"], told=told)
    assert outcome.failures == []
    assert not [line for line in told if "does not apply" in line]


def test_options_that_change_no_number_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    outcome = go(tmp_path, BM25, embedding_cache=tmp_path / "cache", device="cpu", batch_size=7, told=told)
    assert outcome.failures == []
    assert [line for line in told if "does not apply" in line] == [
        f"{option} does not apply to {BM25}" for option in ("--embedding-cache", "--device", "--batch-size")
    ]
    told.clear()
    go(tmp_path, NGRAM, embedding_cache=tmp_path / "cache", batch_size=7, told=told)
    assert not [line for line in told if "does not apply" in line]


# -- models as objects -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words() -> list[str]:
    collection = task_of(PAIRS).read_collection()
    return [*collection.queries["de"].texts, *collection.passages["de"].texts]


def result(model: Any, cache: Any = None) -> float:
    task = task_of(PAIRS, ["de-de"])
    made = mteb.evaluate(model, task, cache=cache, co2_tracker=False, show_progress_bar=False)
    return float(made.task_results[0].scores["test"][0]["map"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_in_memory_is_run_as_its_folder_is(tmp_path: Path, words: list[str]) -> None:
    model = static_model(words, dimension=16)
    model.save_pretrained(str(tmp_path / "mine"))
    outcome = go(tmp_path / "runs", given(model, "mine"), str(tmp_path / "mine"))
    assert outcome.failures == []
    one, two = outcome.folders
    assert one.parent == two.parent
    assert one.name != two.name  # the weights' hash, and the folder's
    names = {read_signatures(folder)[PAIRS]["model"] for folder in outcome.folders}
    assert names == {"local/mine"}
    first, second = (json.loads((folder / f"{PAIRS}.json").read_text())["scores"] for folder in outcome.folders)
    assert first == second
    told: list[str] = []
    go(tmp_path / "runs", given(model, "mine"), told=told)
    assert told == [f"local/mine on {PAIRS}: already there"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_ordinary_line_of_a_notebook_runs_with_one_warning(words: list[str]) -> None:
    model = static_model(words, dimension=16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = result(model)
    named = [str(each.message) for each in caught if "has no name" in str(each.message)]
    assert len(named) == 1
    assert "SentenceTransformer has no name, so its results are kept apart as unnamed/" in named[0]
    assert found == result(given(model, "mine").model)


@pytest.mark.filterwarnings("ignore")
def test_models_without_a_name_are_kept_apart(tmp_path: Path, words: list[str]) -> None:
    """What one has saved is never found as another's."""
    cache = mteb.ResultCache(tmp_path)
    models = [static_model(words, dimension=16, seed=seed) for seed in (0, 1)]
    saved = [result(model, cache) for model in models]
    assert saved == [result(model) for model in models]
    assert saved[0] != saved[1]
    assert len(list(tmp_path.glob(f"results/unnamed__*/*/{PAIRS}.json"))) == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_integers_are_quantised_as_mteb_does(words: list[str]) -> None:
    """mteb takes the thresholds from a whole pool, of one language or of all."""

    def wrapped() -> Any:
        return CompressionWrapper(given(static_model(words, dimension=16), "tests/dense").model, OutputDType.INT8)

    from mteb.abstasks.retrieval import AbsTaskRetrieval

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer texts than mteb would like
        for name, subset in ((PAIRS, "de-en"), (MULTI, "de")):
            task = task_of(name, [subset])
            made = mteb.evaluate(wrapped(), task, cache=None, co2_tracker=False, show_progress_bar=False)
            ours = made.task_results[0].scores["test"][0]
            task.load_data()
            # mteb's own evaluation of the same data.
            theirs = AbsTaskRetrieval._evaluate_subset(
                task,
                wrapped(),
                task.dataset[subset]["test"],
                encode_kwargs={"batch_size": 32},
                hf_split="test",
                hf_subset=subset,
                timer=mteb.timing.TimingStack(),
            )
            for measure in ("ndcg_at_10", "recall_at_100", "mrr_at_10"):
                assert ours[measure] == pytest.approx(theirs[measure], abs=2e-5), (name, measure)


# -- failures and interrupts -----------------------------------------------------------------------------------------


class Stops(WordCounts):
    calls = 1

    def encode(self, inputs: Any, **arguments: Any) -> Any:
        if len(self.asked) == self.calls:
            raise KeyboardInterrupt
        return super().encode(inputs, **arguments)


@pytest.mark.parametrize("cached", [False, True])
def test_an_interrupt_tells_what_is_saved(tmp_path: Path, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = registered(monkeypatch, "tests/stops", Stops)
    monkeypatch.setattr(WordCounts, "asked", [])
    monkeypatch.setattr(Stops, "calls", 3 if cached else 1)
    told: list[str] = []
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "runs", name, embedding_cache=cache, told=told)
    if cached:
        kept = sum(number for _, _, number in WordCounts.asked)
        assert told[-1] == f"{name} on {PAIRS}: stopped; 0 of 1 subset is saved, and {kept} new embeddings in {cache}"
    else:
        clause = "embeddings are not: --embedding-cache DIR keeps them"
        assert told[-1] == f"{name} on {PAIRS}: stopped; 0 of 1 subset is saved, {clause}"


def test_a_failing_model_does_not_end_the_others(tmp_path: Path, words: list[str]) -> None:
    folder = tmp_path / ("x" * 249)
    static_model(words, dimension=16).save_pretrained(str(folder))
    outcome = go(tmp_path / "runs", str(folder), BM25)
    assert [failure.model for failure in outcome.failures] == [str(folder)]
    assert [read_signatures(place)[PAIRS]["model"] for place in outcome.folders] == [BM25]


def test_a_cache_that_cannot_be_written_does_not_end_the_others(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    outcome = go(tmp_path / "runs", NGRAM, BM25, embedding_cache=tmp_path / "cache")
    (failure,) = outcome.failures
    assert isinstance(failure.error, DataError)
    assert str(failure).startswith(f"{NGRAM} on {PAIRS}: cannot use the embedding cache {tmp_path / 'cache'} (")
    assert len(outcome.folders) == 1
