"""Models x tasks: what is run, what is not run again, and what one failure leaves of the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import mteb
import numpy as np
import pyarrow.parquet as pq
import pytest
from mteb.models.abs_encoder import AbsEncoder

from helpers import WordCounts, registered, save_tiny, static_model, task_of, texts_of
from hybrid_bench.data.files import RemoteFile
from hybrid_bench.data.hashing import sha256_of
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.data.translations import Row, Translations, read_translations, write_rows
from hybrid_bench.errors import DataError, ModelError, RequestError
from hybrid_bench.evaluation.registry import task_classes
from hybrid_bench.evaluation.runner import Outcome, RunRequest, mteb_saving_tables, run, select_tasks
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.languages import Setting
from hybrid_bench.measures.metrics import NOT_RETRIEVED
from hybrid_bench.runs.result_files import read_signatures, table_path

PAIRS, MULTI = "HybridDemo-Pairs", "HybridDemo-Multilingual"
COUNTS = "tests/word-counts"


@pytest.fixture(autouse=True)
def counting_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """mteb knows `WordCounts` by name; what it is asked is counted from nothing."""
    registered(monkeypatch, COUNTS, WordCounts)
    WordCounts.asked.clear()
    yield
    WordCounts.asked.clear()


class Told(list[str]):
    """What `run` tells, line by line."""

    def about(self, text: str) -> list[str]:
        return [line for line in self if text in line]


def go(output: Path, *models: str, told: Told | None = None, **options: Any) -> Outcome:
    """`run` on the demo's German and English, that is 4 pairs and 2 multilingual subsets."""
    options = {"tasks": ["HybridDemo"], "languages": ["de", "en"], **options}
    request = RunRequest(models=models or (COUNTS,), output=output, **options)
    return run(request, tell=(Told() if told is None else told).append)


def subsets(folder: Path, task: str) -> dict[str, dict[str, Any]]:
    content = json.loads((folder / f"{task}.json").read_text(encoding="utf-8"))
    return {entry["hf_subset"]: entry for entry in content["scores"]["test"]}


def drop_subsets(folder: Path, task: str, dropped: set[str]) -> None:
    """As if a run had been stopped before these."""
    path = folder / f"{task}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["scores"]["test"] = [entry for entry in content["scores"]["test"] if entry["hf_subset"] not in dropped]
    path.write_text(json.dumps(content), encoding="utf-8")


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- the request -----------------------------------------------------------------------------------------------------


def parallel(request: RunRequest) -> list[ParallelRetrieval]:
    """The tasks of a request, all of which are of this kind."""
    tasks = [task for task in select_tasks(request) if isinstance(task, ParallelRetrieval)]
    assert len(tasks) == len(select_tasks(request))
    return tasks


class TestSelectTasks:
    def select(self, **options: Any) -> dict[str, list[str]]:
        request = RunRequest(models=(), **{"tasks": ["HybridDemo"], **options})
        return {task.metadata.name: task.hf_subsets for task in select_tasks(request)}

    def test_a_collection_is_both_its_tasks(self) -> None:
        found = self.select()
        assert {name: len(chosen) for name, chosen in found.items()} == {PAIRS: 121, MULTI: 11}
        assert self.select(tasks=["hybriddemo"]) == found
        assert self.select(tasks=["HybridDemo", PAIRS]) == found

    def test_a_single_task(self) -> None:
        assert list(self.select(tasks=[MULTI])) == [MULTI]

    @pytest.mark.parametrize(
        ("settings", "numbers"),
        [
            (["mono"], {PAIRS: 11}),
            (["cross"], {PAIRS: 110}),
            (["multi"], {MULTI: 11}),
            (["multi", "mono"], {PAIRS: 11, MULTI: 11}),
        ],
    )
    def test_settings(self, settings: list[str], numbers: dict[str, int]) -> None:
        found = self.select(settings=settings)
        assert {name: len(chosen) for name, chosen in found.items()} == numbers
        if settings == ["mono"]:
            assert {task_of(PAIRS).setting_of(subset) for subset in found[PAIRS]} == {Setting.MONOLINGUAL}

    def test_languages_pick_queries_and_pairs_but_leave_the_pool_whole(self) -> None:
        tasks = parallel(RunRequest(models=(), tasks=["HybridDemo"], languages=["de", "en"]))
        assert [task.hf_subsets for task in tasks] == [["de-de", "de-en", "en-de", "en-en"], ["de", "en"]]
        assert len(tasks[1].pool_of("de")[1]) == 11

    def test_pool_languages_narrow_the_pool(self) -> None:
        tasks = parallel(RunRequest(models=(), tasks=["HybridDemo"], pool_languages=["zh", "ar"]))
        assert tasks[1].pool_of("de") == ("de", ("ar", "zh"))
        assert len(tasks[0].hf_subsets) == 121

    @pytest.mark.parametrize(
        ("options", "clause"),
        [
            ({"tasks": ["HybridDem"]}, "unknown task 'HybridDem': did you mean 'HybridDemo'"),
            ({"settings": ["monolngual"]}, "unknown setting 'monolngual'"),
            ({"languages": ["xx"]}, "xx"),
            ({"languages": ["fr"]}, "HybridDemo has no language 'fr': it has ar, de, "),
            ({"pool_languages": ["fr"]}, "HybridDemo has no language 'fr'"),
            ({"tasks": [MULTI], "settings": ["mono"]}, f"nothing to run: no subset of {MULTI} is in settings mono"),
            ({"languages": ["de"], "settings": ["cross"]}, "nothing to run"),
            ({"translation_source": "nllb"}, "--translation-source NAME goes with --translations FILE"),
        ],
        ids=str,
    )
    def test_wrong_requests(self, options: dict[str, Any], clause: str) -> None:
        with pytest.raises(RequestError) as error:
            self.select(**options)
        assert clause in str(error.value)
        assert "\n" not in str(error.value)


class TestSelectTranslations:
    """Only MIRACL's tasks read them, but whose they are is settled for any request."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        rows = {"a": [("1", "nllb")], "b": [("1", "madlad"), ("2", "nllb")]}
        for name, named in rows.items():
            write_rows(
                tmp_path / f"{name}.tsv",
                [Row("en", query, "sw", f"Swali la {query}?", source) for query, source in named],
            )
        return [tmp_path / f"{name}.tsv" for name in rows]

    def select(self, files: list[Path], source: str | None = None) -> Translations:
        request = RunRequest(models=(), tasks=["MIRACL-Pairs"], translations=files, translation_source=source)
        tasks = [task for task in select_tasks(request) if isinstance(task, ParallelRetrieval)]
        (found,) = {task.options.data.translations for task in tasks}
        assert found is not None
        return found

    def test_of_one_source(self, files: list[Path]) -> None:
        assert self.select(files[:1]).source == "nllb"
        assert self.select(files, "madlad").source == "madlad"
        assert self.select(files, "nllb") == read_translations(files)["nllb"]

    def test_of_several(self, files: list[Path]) -> None:
        with pytest.raises(RequestError, match=r"by 2 sources \(.*\): choose one with --translation-source") as error:
            self.select(files)
        assert "\n" not in str(error.value)

    def test_of_another(self, files: list[Path]) -> None:
        with pytest.raises(RequestError, match="no translations by 'nlb' in the files: did you mean 'nllb'"):
            self.select(files, "nlb")


# -- results ---------------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_plain_mteb_evaluate(tmp_path: Path) -> None:
    models = (COUNTS, "hybrid_bench/bm25", "hybrid_bench/char-ngram")
    outcome = go(tmp_path, *models)
    assert outcome.failures == []
    assert [folder.parent.name for folder in outcome.folders] == [name.replace("/", "__") for name in models]
    for name, folder in zip(models, outcome.folders, strict=True):
        model = mteb.get_model(name)
        for task_name in (PAIRS, MULTI):
            ours = subsets(folder, task_name)
            task = task_of(task_name, list(ours))
            result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
            for plain in result.task_results[0].scores["test"]:
                saved = ours[plain["hf_subset"]]
                assert set(saved) == set(plain)
                for key, value in plain.items():
                    assert saved[key] == (round(value, 6) if isinstance(value, float) else value)


def test_two_checkpoints_of_one_name_share_nothing(tmp_path: Path) -> None:
    texts = texts_of(task_of(PAIRS).read_collection(), ["de", "en"])
    checkpoints = [tmp_path / f"seed-{seed}" / "checkpoint" for seed in (1, 2)]
    for seed, folder in enumerate(checkpoints):
        static_model(texts, dimension=16, seed=seed).save_pretrained(str(folder))
    outcome = go(tmp_path / "runs", *map(str, checkpoints))
    first, second = outcome.folders
    assert first.parent == second.parent == tmp_path / "runs" / "results" / "local__checkpoint"
    assert first != second
    assert [signature["model_source"] for signature in read_signatures(second).values()] == [str(checkpoints[1])] * 2
    assert subsets(first, PAIRS)["de-en"]["map"] != subsets(second, PAIRS)["de-en"]["map"]
    # What is in a README is not the model.
    (checkpoints[0] / "README.md").write_text("Changed.", encoding="utf-8")
    told = Told()
    assert go(tmp_path / "runs", str(checkpoints[0]), told=told).folders == [first]
    assert len(told.about("already there")) == 2


class TestResume:
    def test_what_is_there_is_not_run_again(self, tmp_path: Path) -> None:
        (folder,) = go(tmp_path).folders
        before = bytes_of(folder)
        WordCounts.asked.clear()
        told = Told()
        outcome = go(tmp_path, told=told)
        assert outcome.folders == [folder]
        assert WordCounts.asked == []
        assert told == [f"{COUNTS} on {name}: already there" for name in (PAIRS, MULTI)]
        assert bytes_of(folder) == before

    def test_only_missing_subsets_are_run(self, tmp_path: Path) -> None:
        """With the texts that they need, and no others."""
        (folder,) = go(tmp_path, languages=["de", "en", "th"]).folders
        before = subsets(folder, PAIRS)
        drop_subsets(folder, PAIRS, {"de-en", "th-en"})
        WordCounts.asked.clear()
        told = Told()
        go(tmp_path, languages=["de", "en", "th"], told=told)
        assert told == [f"{COUNTS} on {PAIRS}: 2 subsets", f"{COUNTS} on {MULTI}: already there"]
        assert sorted((role, subset) for role, subset, _ in WordCounts.asked) == [
            ("document", "en-en"),
            ("query", "de-de"),
            ("query", "th-th"),
        ]
        assert subsets(folder, PAIRS) == before
        assert set(pq.read_table(table_path(folder, PAIRS))["subset"].to_pylist()) == set(before)
        go(tmp_path, languages=["de", "en", "th"], told=told)
        assert told[2:] == [f"{COUNTS} on {name}: already there" for name in (PAIRS, MULTI)]

    def test_more_languages_are_added(self, tmp_path: Path) -> None:
        (folder,) = go(tmp_path, languages=["de"]).folders
        go(tmp_path, languages=["de", "en"])
        assert set(subsets(folder, PAIRS)) == {"de-de", "de-en", "en-de", "en-en"}
        assert set(subsets(folder, MULTI)) == {"de", "en"}
        told = Told()
        go(tmp_path, languages=["en"], told=told)
        assert len(told.about("already there")) == 2

    def test_another_models_rows_do_not_slip_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second model has a part already; the first is run on the same tasks just before."""
        other = registered(monkeypatch, "tests/other", lambda name, **_: WordCounts(name, dimension=7))
        (folder,) = go(tmp_path, other).folders
        before = bytes_of(folder)[table_path(folder, PAIRS)]
        drop_subsets(folder, PAIRS, {"de-en"})
        go(tmp_path, COUNTS, other)
        rows = sorted(pq.read_table(table_path(folder, PAIRS)).to_pylist(), key=str)
        (tmp_path / "before.parquet").write_bytes(before)
        assert rows == sorted(pq.read_table(tmp_path / "before.parquet").to_pylist(), key=str)

    @pytest.mark.parametrize("damage", ["deleted", "damaged"])
    def test_without_its_table_a_task_is_run_again(self, damage: str, tmp_path: Path) -> None:
        (folder,) = go(tmp_path).folders
        before, table = subsets(folder, PAIRS), table_path(folder, PAIRS)
        whole = table.read_bytes()
        if damage == "deleted":
            table.unlink()
        else:
            table.write_bytes(whole[: len(whole) // 2])
        told = Told()
        go(tmp_path, told=told)
        reason = "missing" if damage == "deleted" else "damaged"
        assert told == [
            f"{COUNTS} on {PAIRS}: the saved result is not used, because its per-query table is {reason}",
            f"{COUNTS} on {PAIRS}: 4 subsets",
            f"{COUNTS} on {MULTI}: already there",
        ]
        assert subsets(folder, PAIRS) == before
        assert table.read_bytes() == whole
        assert read_signatures(folder)[PAIRS]["table_sha256"] == sha256_of(table)

    def test_changed_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another revision of the collection: run again, and the earlier result kept."""
        (folder,) = go(tmp_path).folders
        before = {path.name: content for path, content in bytes_of(folder).items()}
        monkeypatch.setattr(task_classes()[PAIRS], "reader", changed_source(tmp_path / "data"))
        told = Told()
        go(tmp_path, told=told)
        assert told.about("not used") == [
            f"{COUNTS} on {PAIRS}: the saved result is not used, because it was made from other data"
        ]
        assert told[-1] == f"{COUNTS} on {MULTI}: already there"
        (aside,) = (folder / "superseded").iterdir()
        for name in (f"{PAIRS}.json", f"{PAIRS}.queries.parquet"):
            assert (aside / name).read_bytes() == before[name] != (folder / name).read_bytes()
        needed = ["de-de", "de-en", "en-de", "en-en"]
        original = task_of(MULTI).data_sha256()  # whose reader is as it was
        assert read_signatures(aside)[PAIRS]["data_sha256"] == {code: original[code] for code in ("de", "en")}
        assert read_signatures(folder)[PAIRS]["data_sha256"] == task_of(PAIRS, needed).data_sha256()
        # Back again: nothing is lost by that either.
        monkeypatch.undo()
        registered(monkeypatch, COUNTS, WordCounts)
        go(tmp_path)
        assert len(list((folder / "superseded").iterdir())) == 2


def changed_source(folder: Path) -> LareqaReader:
    """The demo with one question put otherwise."""
    source = task_of(PAIRS).reader
    assert isinstance(source, LareqaReader)
    assert source.root is not None
    folder.mkdir()
    files = {}
    for code, file in source.files.items():
        content = json.loads((source.root / file.path).read_text(encoding="utf-8"))
        if code == "de":
            content["data"][0]["paragraphs"][0]["qas"][0]["question"] = "Was steht auf dem Dach?"
        path = folder / file.path
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        files[code] = RemoteFile(path=file.path, url="", sha256=sha256_of(path))
    return replace(source, revision="2", files=files, root=folder)


class TestOverwriteStrategy:
    def test_always(self, tmp_path: Path) -> None:
        (folder,) = go(tmp_path).folders
        path = folder / f"{PAIRS}.json"
        right = subsets(folder, PAIRS)
        path.write_text(path.read_text(encoding="utf-8").replace('"map": 0.', '"map": 9.'), encoding="utf-8")
        assert subsets(folder, PAIRS) != right
        go(tmp_path)
        assert subsets(folder, PAIRS) != right  # nothing tells that it was tampered with
        WordCounts.asked.clear()
        go(tmp_path, overwrite_strategy="always")
        assert subsets(folder, PAIRS) == right
        assert WordCounts.asked != []

    def test_only_cache_runs_nothing(self, tmp_path: Path) -> None:
        go(tmp_path, tasks=[MULTI])
        WordCounts.asked.clear()
        outcome = go(tmp_path, overwrite_strategy="only-cache")
        assert WordCounts.asked == []
        assert len(outcome.folders) == 1
        (failure,) = outcome.failures
        assert "no results found in cache" in str(failure)
        assert "\n" not in str(failure)

    def test_only_cache_finds_what_comes_after_a_task_without_result(self, tmp_path: Path) -> None:
        """Also the part of a task that is there."""
        (folder,) = go(tmp_path).folders
        drop_subsets(folder, PAIRS, {"de-en"})
        outcome = go(tmp_path, overwrite_strategy="only-cache")
        assert outcome.folders == [folder]
        assert len(outcome.failures) == 1

    def test_never_completes_no_result(self, tmp_path: Path) -> None:
        """mteb's meaning: what has no result at all is run, one that is not complete is left alone."""
        (folder,) = go(tmp_path, tasks=[PAIRS]).folders
        drop_subsets(folder, PAIRS, {"de-en"})
        before = bytes_of(folder)[folder / f"{PAIRS}.json"]
        outcome = go(tmp_path, overwrite_strategy="never")
        (failure,) = outcome.failures
        assert (failure.model, failure.task) == (COUNTS, PAIRS)
        assert (folder / f"{PAIRS}.json").read_bytes() == before
        assert list(subsets(folder, MULTI)) == ["de", "en"]

    def test_never_with_options(self, tmp_path: Path) -> None:
        """Options are ours: a loader of mteb's would not know what to do with them."""
        texts = texts_of(task_of(PAIRS).read_collection(), ["de", "en"])
        static_model(texts, dimension=16).save_pretrained(str(tmp_path / "model"))
        options: dict[str, Any] = {"passage": "sentence+context", "overwrite_strategy": "never"}
        assert go(tmp_path / "runs", str(tmp_path / "model"), **options).failures == []


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "place", "changed"),
        [
            ({"passage": "sentence+context"}, "passage_sentence+context", {PAIRS, MULTI}),
            ({"pool_languages": ["en", "de"]}, "pool_languages_de-en", {MULTI}),
        ],
        ids=["passage", "pool"],
    )
    def test_have_results_of_their_own(
        self, options: dict[str, Any], place: str, changed: set[str], tmp_path: Path
    ) -> None:
        """Of the tasks that they change; those of the others stand where they stand without."""
        (default,) = go(tmp_path).folders
        before = bytes_of(default)
        special = default / "experiments" / place
        told = Told()
        assert go(tmp_path, told=told, **options).folders == ([special] if PAIRS in changed else [default, special])
        assert len(told.about("already there")) == 2 - len(changed)
        assert {path: content for path, content in bytes_of(default).items() if special not in path.parents} == before
        for name in (PAIRS, MULTI):
            assert read_signatures(default)[name]["options"] == {}
            assert (special / f"{name}.json").is_file() == table_path(special, name).is_file() == (name in changed)
        assert set(read_signatures(special)) == changed
        for name in changed:
            assert subsets(special, name).keys() == subsets(default, name).keys()
            assert subsets(special, name) != subsets(default, name)
            expected = {key: value if isinstance(value, str) else "de-en" for key, value in options.items()}
            assert read_signatures(special)[name]["options"] == expected
        told = Told()
        go(tmp_path, told=told, **options)
        go(tmp_path, told=told)
        assert len(told.about("already there")) == 4
        (model,) = mteb.ResultCache(tmp_path).load_results(models=[COUNTS]).model_results  # mteb's view: the default
        assert model.experiment_name is None

    def test_candidates_are_read_with_their_context(self, tmp_path: Path) -> None:
        go(tmp_path, passage="sentence+context", settings=["mono"], languages=["de"])
        collection = task_of(PAIRS).read_collection()
        assert ("document", "de-de", len(set(collection.passages["de"].texts))) in WordCounts.asked
        (folder,) = go(tmp_path, passage="sentence+context", settings=["mono"], languages=["de"]).folders
        assert read_signatures(folder)[PAIRS]["passage"] == "sentence+context"


class TestRerank:
    NAME = "mteb/baseline-random-cross-encoder"

    def test_the_first_stage_is_the_model_of_a_run(self, tmp_path: Path) -> None:
        (first,) = go(tmp_path, "hybrid_bench/bm25", tasks=[MULTI], languages=["de"]).folders
        (folder,) = go(tmp_path, self.NAME, tasks=[MULTI], languages=["de"], rerank=first, top_k=25).folders
        signature = read_signatures(folder)[MULTI]
        assert signature["depth"] == 25
        assert signature["options"]["top_k"] == "25"
        assert "bm25" in signature["options"]["rerank"]
        stage, reranked = (pq.read_table(table_path(place, MULTI)).to_pylist() for place in (first, folder))
        for before, after in zip(stage, reranked, strict=True):
            found = [rank for rank in after["ranks"] if rank != NOT_RETRIEVED]
            assert len(found) == sum(rank <= 25 for rank in before["ranks"])
            assert max(found, default=1) <= 25
        assert "bias_rank_distance" not in subsets(folder, MULTI)["de"]
        assert "bias_rank_distance" in subsets(first, MULTI)["de"]

    def test_another_first_stage_or_depth_is_another_result(self, tmp_path: Path) -> None:
        """Even of runs whose folders end alike, as those with options do; which must be the same options."""
        firsts = ("hybrid_bench/bm25", "hybrid_bench/char-ngram")
        small: dict[str, Any] = {"languages": ["de"], "settings": ["mono"]}
        alike: dict[str, Any] = {"passage": "sentence+context", **small}
        runs = go(tmp_path, *firsts, **alike).folders
        places = [go(tmp_path, self.NAME, rerank=run, top_k=k, **alike).folders for run in runs for k in (5, 10)]
        assert len({place for (place,) in places}) == 4
        with pytest.raises(RequestError, match=r"made with --passage sentence\+context, not the default: "):
            go(tmp_path, self.NAME, rerank=runs[0], top_k=5, **small)
        (plain,) = go(tmp_path, firsts[0], **small).folders
        with pytest.raises(RequestError, match=r"--passage as it is by default, not sentence\+context: give the same"):
            go(tmp_path, self.NAME, rerank=plain, top_k=5, **alike)

    def test_a_saved_model_gives_candidates(self, tmp_path: Path) -> None:
        texts = texts_of(task_of(PAIRS).read_collection(), ["de", "en"])
        checkpoint = tmp_path / "checkpoint"
        static_model(texts, dimension=16).save_pretrained(str(checkpoint))
        reranker = save_tiny("CrossEncoder", tmp_path / "reranker", texts)
        small: dict[str, Any] = {"languages": ["de"], "settings": ["mono"]}
        (first,) = go(tmp_path / "runs", str(checkpoint), **small).folders
        outcome = go(tmp_path / "runs", str(reranker), rerank=first, top_k=5, **small)
        assert outcome.failures == []
        # Trained further: its candidates would be others.
        static_model(texts, dimension=16, seed=5).save_pretrained(str(checkpoint))
        with pytest.raises(RequestError, match="which is now"):
            go(tmp_path / "runs", str(reranker), rerank=first, top_k=5, **small)

    def test_without_candidates(self, tmp_path: Path) -> None:
        outcome = go(tmp_path, self.NAME, COUNTS)
        assert [(failure.model, failure.task) for failure in outcome.failures] == [
            (self.NAME, PAIRS),
            (self.NAME, MULTI),
        ]
        assert all(isinstance(failure.error, RequestError) for failure in outcome.failures)
        assert "--rerank RUN --top-k K" in str(outcome.failures[0])
        assert len(outcome.folders) == 1

    def test_what_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="is not the folder of one model's run"):
            go(tmp_path / "runs", self.NAME, rerank=tmp_path, top_k=5)
        for half in ({"rerank": tmp_path}, {"top_k": 5}, {"rerank": tmp_path, "top_k": 0}):
            with pytest.raises(RequestError, match="go together"):
                go(tmp_path / "runs", self.NAME, **half)


# -- failures --------------------------------------------------------------------------------------------------------


class FailsOnChinese(WordCounts):
    def encode(self, inputs: Any, **arguments: Any) -> Any:
        if arguments["hf_subset"].startswith("zh"):
            raise RuntimeError("out of memory\nin line two")
        return super().encode(inputs, **arguments)


class ReturnsNan(WordCounts):
    def encode(self, inputs: Any, **arguments: Any) -> Any:
        return super().encode(inputs, **arguments) * np.nan


class ReturnsOneRow(WordCounts):
    def encode(self, inputs: Any, **arguments: Any) -> Any:
        return super().encode(inputs, **arguments)[:1]


class TestFailures:
    def test_on_one_task_leave_the_other(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bad = registered(monkeypatch, "tests/fails-on-chinese", FailsOnChinese)
        outcome = go(tmp_path, bad, COUNTS)
        (failure,) = outcome.failures
        assert str(failure) == f"{bad} on {MULTI}: RuntimeError: out of memory in line two"
        partial, whole = outcome.folders
        assert set(subsets(partial, PAIRS)) == {"de-de", "de-en", "en-de", "en-en"}
        assert not (partial / f"{MULTI}.json").exists()
        assert set(subsets(whole, MULTI)) == {"de", "en"}

    @pytest.mark.parametrize(
        ("loader", "clause"),
        [
            (ReturnsNan, "{name} returned NaN or infinite embeddings for "),
            (ReturnsOneRow, "{name} returned embeddings of shape (1, 32) for "),
        ],
    )
    def test_bad_models(
        self, loader: Callable[..., Any], clause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = registered(monkeypatch, "tests/bad", loader)
        outcome = go(tmp_path, name, COUNTS)
        assert [(failure.model, failure.task) for failure in outcome.failures] == [(name, PAIRS), (name, MULTI)]
        for failure in outcome.failures:
            assert isinstance(failure.error, ModelError)
            assert clause.format(name=name) in str(failure)
            assert "\n" not in str(failure)
        assert [folder.parent.name for folder in outcome.folders] == ["tests__word-counts"]

    def test_a_model_that_cannot_be_loaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def loader(*_: Any, **__: Any) -> Any:
            raise ImportError("needs a package\nthat is not here")

        name = registered(monkeypatch, "tests/not-here", loader)
        (tmp_path / "empty").mkdir()
        outcome = go(tmp_path, name, str(tmp_path / "empty"), COUNTS)
        assert [failure.task for failure in outcome.failures] == [None, None]
        lines = sorted(str(failure) for failure in outcome.failures)
        assert any("cannot load tests/not-here: needs a package" in line for line in lines)
        assert any("holds no model" in line for line in lines)
        assert len(outcome.folders) == 1

    def test_what_a_model_that_cannot_be_loaded_has_is_still_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Results of an earlier run, of all tasks, though the first of them lacks a subset."""

        def loader(*_: Any, **__: Any) -> Any:
            raise ImportError("needs a package that is not here")

        (folder,) = go(tmp_path).folders
        drop_subsets(folder, PAIRS, {"de-en"})
        registered(monkeypatch, COUNTS, loader)
        outcome = go(tmp_path)
        assert outcome.folders == [folder]
        assert [failure.task for failure in outcome.failures] == [None]

    def test_a_wrong_request_runs_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="did you mean 'hybrid_bench/bm25'"):
            go(tmp_path, COUNTS, "hybrid_bench/bm52")
        assert WordCounts.asked == []
        assert list(tmp_path.iterdir()) == []

    def test_missing_data_are_told_before_a_model_is_loaded(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"en\.json|xquad-r"):
            go(tmp_path, tasks=["XQuAD-R"], data_dir=tmp_path)
        assert WordCounts.asked == []

    def test_what_is_saved_survives_a_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A model that fails now does not touch what it did when it worked."""
        (folder,) = go(tmp_path).folders
        before = bytes_of(folder)
        registered(monkeypatch, COUNTS, ReturnsNan)
        outcome = go(tmp_path, overwrite_strategy="always")
        assert len(outcome.failures) == 2
        assert outcome.folders == [folder]
        assert bytes_of(folder) == before


# -- a kill ----------------------------------------------------------------------------------------------------------


class SlowSparse(AbsEncoder):
    """A sparse model, so that mteb searches subset by subset; it writes down each and takes its time over it."""

    log: ClassVar[Path]
    seconds: ClassVar[float] = 0.0

    def __init__(self, model_name: str = "tests/slow", **_: Any) -> None:
        self.counts = WordCounts()

    def encode(self, inputs: Any, *, hf_subset: str, prompt_type: Any = None, **arguments: Any) -> Any:
        if prompt_type.value == "query":
            time.sleep(self.seconds)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{arguments['task_metadata'].name} {hf_subset}\n")
        return self.counts.encode(inputs, hf_subset=hf_subset, prompt_type=prompt_type, **arguments)


KILLED = """
import sys
from pathlib import Path

import pytest

from hybrid_bench.runs import saving as results
from hybrid_bench.evaluation.runner import RunRequest, run
from helpers import registered
from evaluation.test_runner import SlowSparse

output, log = map(Path, sys.argv[1:])
SlowSparse.log, SlowSparse.seconds = log, 0.2
results._SECONDS_BETWEEN_SAVES = 0.5
with pytest.MonkeyPatch.context() as monkeypatch:
    name = registered(monkeypatch, "tests/slow", SlowSparse, model_type=["sparse"])
    run(RunRequest(models=[name], tasks=["HybridDemo"], languages=["ar", "de", "zh"], output=output))
"""


def test_after_a_kill_only_what_is_missing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in the middle of nine pairs; what was saved by then stands, and a second run does the rest."""
    output, log, languages = tmp_path / "runs", tmp_path / "log", ["ar", "de", "zh"]
    folder = output / "results" / "tests__slow" / "1"
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(output), str(log)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while len(log.read_text(encoding="utf-8").splitlines() if log.exists() else []) < 5:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    saved = subsets(folder, PAIRS)
    assert 1 < len(saved) < 9
    log.unlink()
    SlowSparse.log = log
    registered(monkeypatch, "tests/slow", SlowSparse, model_type=["sparse"])
    told = Told()
    assert go(output, "tests/slow", languages=languages, told=told).failures == []
    assert told.about("not used") == []
    expected = {f"{query}-{corpus}" for query in languages for corpus in languages}
    done = log.read_text(encoding="utf-8").splitlines()
    assert sorted(done) == sorted([f"{PAIRS} {s}" for s in expected - set(saved)] + [f"{MULTI} {s}" for s in languages])
    assert set(subsets(folder, PAIRS)) == expected
    assert {subset: subsets(folder, PAIRS)[subset] for subset in saved} == saved
    # As if it had never been killed.
    go(tmp_path / "whole", "tests/slow", languages=languages)
    whole = tmp_path / "whole" / "results" / "tests__slow" / "1"
    for name in (PAIRS, MULTI):
        assert subsets(folder, name) == subsets(whole, name)
        rows, others = (pq.read_table(table_path(place, name)).to_pylist() for place in (folder, whole))
        assert sorted(rows, key=str) == sorted(others, key=str)


# -- mteb's own command line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, iter, tuple])
def test_code_of_mtebs_that_evaluates_saves_tables_too(form: Callable[[Any], Any], tmp_path: Path) -> None:
    original = mteb.evaluate
    tasks = [task_of(PAIRS, ["de-en"]), task_of(MULTI, ["de"])]
    model: Any = WordCounts()
    with mteb_saving_tables():
        mteb.evaluate(
            model,
            form(tasks),
            cache=mteb.ResultCache(tmp_path),
            co2_tracker=False,
            show_progress_bar=False,
        )
    assert mteb.evaluate is original
    folder = tmp_path / "results" / "tests__word-counts" / "1"
    assert table_path(folder, PAIRS).is_file()
    assert table_path(folder, MULTI).is_file()
    told = Told()
    go(tmp_path, languages=["de"], settings=["multi"], told=told)
    assert told == [f"{COUNTS} on {MULTI}: already there"]
