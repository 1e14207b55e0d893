"""`run --debias`: what is fitted on what, what is refused, how results are saved and called, and what is encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import WordCounts, registered, static_model, task_of, texts_of
from hybrid_bench.cli.arguments import parser
from hybrid_bench.engine.debias import Method
from hybrid_bench.engine.models import given
from hybrid_bench.errors import RequestError
from hybrid_bench.evaluation import debiasing as module
from hybrid_bench.evaluation.debiasing import debiasing
from hybrid_bench.evaluation.runner import Outcome, RunRequest, run
from hybrid_bench.runs.reading import find_run
from hybrid_bench.runs.result_files import read_signatures, table_path

PAIRS, MULTI = "HybridDemo-Pairs", "HybridDemo-Multilingual"
BM25, NGRAM, CROSS = "hybrid_bench/bm25", "hybrid_bench/char-ngram", "mteb/baseline-random-cross-encoder"
LANGUAGES = ("de", "en")
FITTED = [method for method in Method if method.fits]
FILES = {"de": "ref.deu", "en": "src.eng"}


@pytest.fixture
def aligned(tmp_path: Path) -> Path:
    """A data folder with NTREX-128's layout: 30 lines in two languages, made of the demo's words in another order."""
    collection = task_of(PAIRS).read_collection()
    folder = tmp_path / "data" / "ntrex-128"
    folder.mkdir(parents=True)
    for code, name in FILES.items():
        lines = [" ".join(reversed(text.split())) for text in collection.queries[code].texts[:30]]
        (folder / f"newstest2019-{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder.parent


def go(output: Path, *models: Any, told: list[str] | None = None, **options: Any) -> Outcome:
    narrow: dict[str, Any] = {"tasks": [MULTI], "languages": ["de"], "pool_languages": LANGUAGES}
    request = RunRequest(models=models, output=output, **{**narrow, "debias_on": "ntrex", **options})
    return run(request, ([] if told is None else told).append)


def ranks(folder: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(table_path(folder, MULTI)).column("ranks").to_pylist()


# -- what is saved ----------------------------------------------------------------------------------------------------


def test_results_are_kept_apart_and_called_by_the_method(tmp_path: Path, aligned: Path) -> None:
    (plain,) = go(tmp_path / "runs", NGRAM, debias_on=None, data_dir=aligned).folders
    before = ranks(plain), (plain / f"{MULTI}.json").read_bytes()
    folders = {}
    for method in FITTED:
        (folders[method],) = go(tmp_path / "runs", NGRAM, debias=method, data_dir=aligned).folders
        options = {"pool_languages": "de-en", "debias": method, "debias_on": "ntrex"}
        assert read_signatures(folders[method])[MULTI]["options"] == options
        label = f"{NGRAM} (debias={method}, debias_on=ntrex, pool_languages=de-en)"
        assert find_run(folders[method]).label == label
    assert len({plain, *folders.values()}) == 1 + len(FITTED)
    assert all(ranks(folder) != before[0] for folder in folders.values())
    # Without the option, results are those they were, in their place.
    told: list[str] = []
    go(tmp_path / "runs", NGRAM, debias="none", debias_on=None, data_dir=aligned, told=told)
    assert told == [f"{NGRAM} on {MULTI}: already there"]
    (again,) = go(tmp_path / "again", NGRAM, debias_on=None, data_dir=aligned).folders
    assert (ranks(again), ranks(plain)) == (before[0], before[0])
    assert (plain / f"{MULTI}.json").read_bytes() == before[1]


def test_other_texts_to_fit_on_make_a_result_anew(tmp_path: Path, aligned: Path) -> None:
    go(tmp_path / "runs", NGRAM, debias="centred", data_dir=aligned)
    told: list[str] = []
    go(tmp_path / "runs", NGRAM, debias="centred", data_dir=aligned, told=told)
    assert told == [f"{NGRAM} on {MULTI}: already there"]
    path = aligned / "ntrex-128" / "newstest2019-ref.deu.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("e", "o"), encoding="utf-8")
    told.clear()
    (folder,) = go(tmp_path / "runs", NGRAM, debias="centred", data_dir=aligned, told=told).folders
    assert told[0].startswith(
        f"{NGRAM} on {MULTI}: the saved result is not used, because the hash of the texts that its debiasing was fitted"
    )
    assert list(folder.glob("superseded/*"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_in_memory_is_debiased_on_the_demo_by_default(tmp_path: Path, data_dir: Path) -> None:
    """XQuAD-R by a static model, centred on the demo: means that are computed here, from the demo's own texts."""
    words = texts_of(task_of(PAIRS).read_collection(), LANGUAGES)
    model = static_model(words, dimension=16)
    outcome = go(
        tmp_path,
        given(model, "mine"),
        tasks=["XQuAD-R-Multilingual"],
        debias="centred",
        debias_on=None,
        data_dir=data_dir,
    )
    assert outcome.failures == []
    (folder,) = outcome.folders
    assert read_signatures(folder)["XQuAD-R-Multilingual"]["options"]["debias_on"] == "HybridDemo"
    collection, demo = task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection(), task_of(PAIRS).read_collection()

    def unit(texts: Any) -> Any:
        vectors = np.asarray(model.encode(list(texts)), dtype=np.float64)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def centred(texts: Any, fitted: Any) -> Any:
        moved = unit(texts) - unit(fitted).mean(axis=0)
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    answers = {}
    for code in LANGUAGES:
        judged = demo.queries[code].judgments
        own = judged.passage[judged.part == demo.part_index(code)]  # the answer of each question, in its order
        answers[code] = [demo.passages[code].texts[row] for row in own.tolist()]
    queries = centred(collection.queries["de"].texts, demo.queries["de"].texts)
    passages = [centred(collection.passages[code].texts, answers[code]) for code in ("de", "en")]
    scores = queries @ np.concatenate(passages).T
    import pyarrow.parquet as pq

    table = pq.read_table(table_path(folder, "XQuAD-R-Multilingual"))
    place = {question: row for row, question in enumerate(collection.queries["de"].question_ids)}
    judged = collection.queries["de"].judgments
    starts = {"de": 0, "en": len(collection.passages["de"])}
    checked = 0
    for row in table.slice(0, 200).to_pylist():
        query = place[row["question_id"]]
        for code, rank in zip(row["rank_languages"], row["ranks"], strict=True):
            (at,) = np.flatnonzero((judged.query == query) & (judged.part == collection.part_index(code)))
            own = scores[query, starts[code] + judged.passage[at]]
            assert 1 + (scores[query] > own + 1e-6).sum() <= rank <= (scores[query] > own - 1e-6).sum()
            checked += 1
    assert checked == 400


def test_round_robin_is_for_whatever_is_ranked_here(tmp_path: Path) -> None:
    outcome = go(tmp_path, NGRAM, BM25, debias="round-robin", debias_on=None)
    assert outcome.failures == []
    for folder, name in zip(outcome.folders, (NGRAM, BM25), strict=True):
        signature = read_signatures(folder)[MULTI]
        assert signature["options"] == {"pool_languages": "de-en", "debias": "round-robin"}
        assert "debias_texts" not in signature
        assert find_run(folder).label == f"{name} (debias=round-robin, pool_languages=de-en)"
    outcome = go(tmp_path, CROSS, debias="round-robin", debias_on=None)
    assert [str(failure.error) for failure in outcome.failures] == [
        f"--debias round-robin does not apply to {CROSS}, which does its own search: leave it out"
    ]


# -- what is encoded --------------------------------------------------------------------------------------------------


def test_with_a_cache_a_second_method_encodes_nothing(
    tmp_path: Path, aligned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = registered(monkeypatch, "tests/counts", WordCounts)
    monkeypatch.setattr(WordCounts, "asked", [])
    cached: dict[str, Any] = {"data_dir": aligned, "embedding_cache": tmp_path / "cache"}

    def encoded(**options: Any) -> int:
        before = len(WordCounts.asked)
        assert go(tmp_path / "runs", name, **cached, **options).failures == []
        return sum(number for _, _, number in WordCounts.asked[before:])

    collection = task_of(PAIRS).read_collection()
    distinct = len(set(collection.queries["de"].texts))
    distinct += sum(len({text.strip() for text in collection.passages[code].texts}) for code in LANGUAGES)
    assert encoded(debias_on=None) == distinct
    # The texts to fit on, as queries and as passages, and nothing of the collection; then nothing at all.
    lines = [
        set((aligned / "ntrex-128" / f"newstest2019-{file}.txt").read_text().splitlines()) for file in FILES.values()
    ]
    assert encoded(debias="centred") == 2 * sum(map(len, lines))
    assert [encoded(debias=method) for method in ("lsar", "shift", "csls", "z-score")] == [0, 0, 0, 0]


def test_what_is_fitted_on_is_parallel_and_not_too_much(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(MULTI, ["de"], data_dir=data_dir)
    found = debiasing(task, Method.CENTRED, "XQuAD-R", data_dir)
    collection = task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection()
    assert set(found.queries) == set(found.passages) == set(collection.parts)
    ids = {}
    for code, texts in found.queries.items():
        asked = collection.queries[code]
        of_text: dict[str, set[str]] = {}
        for text, question in zip(asked.texts, asked.question_ids, strict=True):
            of_text.setdefault(text, set()).add(question)
        ids[code] = [of_text[text] for text in texts]
        assert len(texts) == len(found.passages[code]) == module.ROWS
    for row in range(module.ROWS):
        (question,) = set.intersection(*(each[row] for each in ids.values()))
        for code in collection.parts:
            asked = collection.queries[code]
            judged = asked.judgments
            query = asked.question_ids.index(question)
            here = (judged.query == query) & (judged.part == collection.part_index(code))
            (passage,) = judged.passage[here].tolist()
            assert found.passages[code][row] == collection.passages[code].texts[passage]
    monkeypatch.setattr(module, "ROWS", 7)
    assert debiasing(task, Method.LSAR, "ntrex", data_dir).queries.keys() == set(collection.parts)
    assert {len(texts) for texts in debiasing(task, Method.LSAR, "ntrex", data_dir).passages.values()} == {7}


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"debias": "centered"}, "unknown --debias 'centered': did you mean 'centred'?"),
        ({"debias_on": "ntrex"}, "--debias-on NAME goes with a --debias METHOD that is fitted"),
        ({"debias": "round-robin"}, "--debias-on NAME goes with a --debias METHOD that is fitted"),
        (
            {"debias": "lsar", "debias_on": None},
            "--debias lsar would be fitted on HybridDemo, which is evaluated: give another collection with --debias-on",
        ),
        ({"debias": "lsar", "debias_on": "XQuAD"}, "unknown --debias-on 'XQuAD': did you mean 'XQuAD-R'?"),
        (
            {"debias": "csls", "models": [BM25]},
            f"--debias csls changes embeddings, and {BM25} has none: leave it out",
        ),
        (
            {"debias": "csls", "models": [BM25, CROSS]},
            f"--debias csls changes embeddings, and {BM25}, {CROSS} has none: leave it out",
        ),
        (
            {"debias": "csls", "pool_languages": ["de", "en", "th"]},
            "ntrex has no th, so that --debias csls cannot be fitted on it: leave them out with --languages and "
            "--pool-languages, or give another collection with --debias-on",
        ),
        (
            {"debias": "csls", "tasks": ["NFCorpus"], "languages": [], "pool_languages": []},
            "--debias csls does not apply to NFCorpus: leave it out",
        ),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, aligned: Path, options: Any, message: str) -> None:
    models = options.pop("models", [NGRAM])
    with pytest.raises(RequestError) as error:
        go(tmp_path / "runs", *models, **{"data_dir": aligned, **options})
    assert str(error.value) == message
    assert list((tmp_path / "runs").rglob("*.json")) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_with_a_similarity_of_its_own_is_refused(tmp_path: Path, aligned: Path) -> None:
    model = static_model(texts_of(task_of(PAIRS).read_collection(), LANGUAGES), similarity_fn_name="euclidean")
    outcome = go(tmp_path / "runs", given(model, "mine"), debias="centred", data_dir=aligned)
    assert [str(failure) for failure in outcome.failures] == [
        f"local/mine on {MULTI}: local/mine makes scores neither by cosine nor by dot product: --debias centred is for "
        "these alone"
    ]


def test_the_command_line_knows_all_methods() -> None:
    for method in Method:
        assert parser().parse_args(["run", "--debias", method]).debias == method


def test_reranking_is_refused_beside_it(tmp_path: Path, aligned: Path) -> None:
    (first,) = go(tmp_path, BM25, debias_on=None).folders
    with pytest.raises(RequestError, match=r"^--debias and --rerank do not go together: leave one out$"):
        go(tmp_path, CROSS, NGRAM, rerank=first, top_k=5, debias="csls", data_dir=aligned)


def test_without_a_folder_of_ntrex_it_is_told_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_BENCH_DATA", raising=False)
    with pytest.raises(
        RequestError, match=r"^--debias-on ntrex needs NTREX-128's files .* name the folder above it with"
    ):
        go(tmp_path, NGRAM, debias="centred")
    with pytest.raises(
        RequestError, match=rf"in the folder ntrex-128, and {tmp_path / 'ntrex-128'} has none: name the "
    ):
        go(tmp_path, NGRAM, debias="centred", data_dir=tmp_path)


def test_a_text_that_is_evaluated_is_not_fitted_on(tmp_path: Path, aligned: Path) -> None:
    """Whatever its case and punctuation, in whatever language it stands, as a query or a passage."""
    passage = task_of(PAIRS).read_collection().passages["th"].texts[3]
    for name in FILES.values():
        path = aligned / "ntrex-128" / f"newstest2019-{name}.txt"
        path.write_text(path.read_text(encoding="utf-8") + f"  {passage.upper()}!\n", encoding="utf-8")
    with pytest.raises(RequestError) as error:
        go(tmp_path / "runs", NGRAM, debias="shift", data_dir=aligned)
    assert str(error.value) == (
        "--debias shift would be fitted on a text of HybridDemo, which is evaluated: "
        f"{passage.strip()[:60]!r} is in ntrex too; give another collection with --debias-on"
    )


def test_beside_a_model_without_embeddings_it_is_told(tmp_path: Path, aligned: Path) -> None:
    told: list[str] = []
    outcome = go(tmp_path, NGRAM, BM25, debias="csls", data_dir=aligned, told=told)
    assert outcome.failures == []
    assert f"--debias csls does not apply to {BM25}, which has no embeddings" in told
    options = [read_signatures(folder)[MULTI]["options"] for folder in outcome.folders]
    assert ["debias" in each for each in options] == [True, False]
    assert "debias_texts" not in read_signatures(outcome.folders[1])[MULTI]
    assert json.loads((outcome.folders[1] / f"{MULTI}.json").read_text())["scores"]
