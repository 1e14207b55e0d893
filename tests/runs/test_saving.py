"""Runs on disk: that mteb reads them, that the tables hold what the scores were made from, and when they are stale."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mteb.results import TaskResult

from helpers import WordCounts, meta_of, relevant_ranks, task_of, tell_options
from hybrid_bench.data.collection import Judgments
from hybrid_bench.data.files import atomic
from hybrid_bench.data.hashing import sha256_of
from hybrid_bench.engine.lexical import BM25
from hybrid_bench.engine.ranking import Ranker
from hybrid_bench.errors import DataError
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import rank_distance
from hybrid_bench.measures.metrics import K_VALUES, NOT_RETRIEVED, measures
from hybrid_bench.runs import saving as results
from hybrid_bench.runs.result_files import QUERY_COLUMNS, metadata_of, read_signatures, table_path
from hybrid_bench.runs.saving import RunCache
from hybrid_bench.runs.tables import query_table

PAIRS, MULTI = "HybridDemo-Pairs", "HybridDemo-Multilingual"
SUBSETS: Mapping[str, list[str]] = {PAIRS: ["de-de", "de-en", "en-de"], MULTI: ["de", "en"]}
META = meta_of("tests/word-counts")


def evaluate(task: ParallelRetrieval, cache: Any, **arguments: Any) -> TaskResult:
    arguments = {"co2_tracker": False, "show_progress_bar": False, **arguments}
    arguments.setdefault("encode_kwargs", {"batch_size": 256})
    model: Any = WordCounts()
    tell_options(model, task)
    result = mteb.evaluate(model, task, cache=cache, **arguments)
    return result.task_results[0]


def save(folder: Path, subsets: Mapping[str, list[str]] = SUBSETS) -> Path:
    """Evaluate and save; returns the folder of the run."""
    for name, chosen in subsets.items():
        task = task_of(name, chosen)
        evaluate(task, RunCache(folder, [task]))
    return folder / "results" / "tests__word-counts" / "1"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run; not to be changed."""
    return save(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run_folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    output = tmp_path / "runs"
    shutil.copytree(saved.parents[2], output)
    return output / saved.relative_to(saved.parents[2])


def output_of(run_folder: Path) -> Path:
    return run_folder.parents[2]


def scores_of(run_folder: Path, task: str) -> dict[str, dict[str, Any]]:
    content = json.loads((run_folder / f"{task}.json").read_text(encoding="utf-8"))
    return {entry["hf_subset"]: entry for entry in content["scores"]["test"]}


# -- mteb's files ----------------------------------------------------------------------------------------------------


class TestLayout:
    def test_files(self, saved: Path) -> None:
        found = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
        tasks = {f"{name}.{ending}" for name in SUBSETS for ending in ("json", "queries.parquet")}
        assert found == tasks | {"model_meta.json", "run_settings.jsonl", "signatures.jsonl"}
        assert {path.name for path in output_of(saved).iterdir()} == {"results", ".lock"}  # nothing is left beside

    def test_mtebs_files_are_as_mteb_writes_them(self, saved: Path, tmp_path: Path) -> None:
        for name, subsets in SUBSETS.items():
            evaluate(task_of(name, subsets), mteb.ResultCache(tmp_path))
        theirs = tmp_path / "results" / "tests__word-counts" / "1"
        for name in ("model_meta.json", "run_settings.jsonl"):
            assert (saved / name).read_bytes() == (theirs / name).read_bytes()
        for name in SUBSETS:
            ours, plain = (json.loads((folder / f"{name}.json").read_text("utf-8")) for folder in (saved, theirs))
            for times in ("evaluation_time", "date", "evaluation_phases"):
                assert type(ours.pop(times)) is type(plain.pop(times))
            assert ours == plain

    def test_plain_mteb_reads_them(self, saved: Path) -> None:
        cache = mteb.ResultCache(output_of(saved))
        for name, subsets in SUBSETS.items():
            result = cache.load_task_result(name, META)
            assert result is not None
            result.validate_and_filter_scores(task_of(name, subsets))
            assert result.get_missing_evaluations(task_of(name, subsets)) == {}
            assert result.get_score() == pytest.approx(
                np.mean([entry["map"] for entry in scores_of(saved, name).values()]), abs=1e-6
            )
        loaded = cache.load_results(models=["tests/word-counts"], tasks=list(SUBSETS))
        (model,) = loaded.model_results
        assert (model.model_name, model.model_revision, model.experiment_name) == ("tests/word-counts", "1", None)
        assert sorted(model.task_names) == sorted(SUBSETS)
        table = loaded.to_dataframe(aggregation_level="subset")
        assert sorted(table["subset"]) == sorted(subset for subsets in SUBSETS.values() for subset in subsets)

    def test_keys(self, saved: Path) -> None:
        for name in SUBSETS:
            for scores in scores_of(saved, name).values():
                mtebs = {
                    f"{m}_at_{k}" for m in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate") for k in K_VALUES
                }
                assert mtebs | {"accuracy", "main_score", "languages"} <= set(scores)
                assert scores["main_score"] == scores["map"]
                assert not [key for key in scores if key.startswith("nauc")]
                bias = {key for key in scores if key.startswith("bias_")}
                assert ({"bias_rank_distance", "bias_rank_distance_median"} <= bias) if name == MULTI else not bias
                assert all(isinstance(scores[key], float) for key in mtebs | bias)

    def test_other_tasks_are_left_to_mteb(self, tmp_path: Path) -> None:
        scores = {"test": {"default": {"main_score": 0.5, "cosine_spearman": 0.5}}}
        result = TaskResult.from_task_results(mteb.get_task("STS12"), scores, evaluation_time=1.0)
        cache = RunCache(tmp_path, [task_of(PAIRS)])
        cache.save_to_cache(result, META, encode_kwargs={})
        loaded = cache.load_task_result("STS12", META)
        assert loaded is not None
        assert loaded.get_score() == 0.5
        assert not (tmp_path / "results" / "tests__word-counts" / "1" / "signatures.jsonl").exists()

    def test_an_output_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(
            DataError, match=r"cannot write to the output folder .*choose another with --output"
        ) as error:
            RunCache(tmp_path / "file" / "runs", [])
        assert "\n" not in str(error.value)


# -- the tables ------------------------------------------------------------------------------------------------------


class TestTables:
    SCHEMA: Mapping[str, pa.DataType] = {
        "split": pa.string(),
        "subset": pa.string(),
        "setting": pa.string(),
        "query_language": pa.string(),
        "pool_languages": pa.list_(pa.string()),
        "question_id": pa.string(),
        "cluster_paragraph": pa.int32(),
        "cluster_article": pa.int32(),
        "pool_size": pa.int32(),
        "n_relevant": pa.int32(),
        "ranks": pa.list_(pa.int32()),
        "rank_languages": pa.list_(pa.string()),
        "gains": pa.list_(pa.int32()),
        "top_languages": pa.list_(pa.int8()),
        "top1_relevant": pa.bool_(),
        "ap": pa.float64(),
        "ndcg_at_10": pa.float64(),
        "recall_at_1": pa.float64(),
        "recall_at_10": pa.float64(),
        "recall_at_100": pa.float64(),
        "rr": pa.float64(),
    }

    def test_columns(self, saved: Path) -> None:
        for name in SUBSETS:
            schema = pq.read_schema(table_path(saved, name))
            assert schema.names == list(self.SCHEMA)
            for field in schema:
                stored = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
                expected = self.SCHEMA[field.name]
                if pa.types.is_list(expected):
                    assert pa.types.is_list(stored)
                    stored, expected = stored.value_type, expected.value_type
                assert stored == expected, field

    def test_rows(self, saved: Path) -> None:
        collection = task_of(PAIRS).read_collection()
        for name, subsets in SUBSETS.items():
            table = pq.read_table(table_path(saved, name)).to_pandas()
            assert list(dict.fromkeys(table["subset"])) == subsets
            assert set(table["split"]) == {"test"}
            for subset, rows in table.groupby("subset", observed=True):
                query, pool = task_of(name).pool_of(str(subset), "test")
                assert list(rows["question_id"]) == list(collection.queries[query].question_ids)
                assert {tuple(languages) for languages in rows["pool_languages"]} == {pool}
                assert set(rows["pool_size"]) == {sum(len(collection.passages[code]) for code in pool)}
                assert set(rows["query_language"]) == {query}
                assert set(rows["setting"]) == {str(task_of(name).setting_of(str(subset)))}
                assert set(rows["n_relevant"]) == {len(pool)}
                for question, paragraph, article in zip(
                    rows["question_id"], rows["cluster_paragraph"], rows["cluster_article"], strict=True
                ):
                    assert paragraph == collection.paragraph_cluster[question]
                    assert article == collection.article_cluster[question]
                for ranks, languages, gains, first in zip(
                    rows["ranks"], rows["rank_languages"], rows["gains"], rows["top1_relevant"], strict=True
                ):
                    assert list(ranks) == sorted(set(ranks))
                    assert sorted(languages) == sorted(pool)
                    assert list(gains) == [1] * len(pool)
                    assert first == (ranks[0] == 1)
                if name == PAIRS:
                    assert rows["top_languages"].isna().all()
                else:
                    assert {len(top) for top in rows["top_languages"]} == {100}
                    assert set(np.concatenate(list(rows["top_languages"]))) <= set(range(len(pool)))

    def test_every_score_can_be_computed_again(self, saved: Path) -> None:
        for name in SUBSETS:
            table = pq.read_table(table_path(saved, name))
            for subset, scores in scores_of(saved, name).items():
                rows = table.filter(pa.compute.equal(table["subset"].cast(pa.string()), subset))
                ranks = relevant_ranks(rows)
                for key, value in measures(ranks).items():
                    assert scores[key] == pytest.approx(value, abs=5.1e-7), (subset, key)
                for column, key in QUERY_COLUMNS.items():
                    assert rows[column].to_numpy().mean() == pytest.approx(scores[key], abs=5.1e-7)
                if name == MULTI:
                    distance = rank_distance(ranks)
                    assert distance is not None
                    assert scores["bias_rank_distance"] == pytest.approx(distance.mean(), abs=5.1e-7)
                    assert scores["bias_rank_distance_median"] == np.median(distance)

    def test_metadata(self, saved: Path) -> None:
        collection = task_of(PAIRS).read_collection()
        metadata = metadata_of(pq.read_table(table_path(saved, MULTI)))
        assert (metadata["similarity"], metadata["dtype"], metadata["depth"]) == ("dot", "float32", "full")
        assert metadata["languages"] == list(collection.languages) == list(collection.parts)
        assert metadata["passages"] == {code: len(collection.passages[code]) for code in collection.parts}

    def test_a_multilingual_pool_narrowed_to_one_language(self, tmp_path: Path) -> None:
        task = task_of(MULTI, ["de"], pool_languages=("de",))
        evaluate(task, None)
        assert set(task.tables["test", "de"]["setting"].cast(pa.string()).to_pylist()) == {"multilingual"}

    def test_parts_that_are_not_named_after_their_language(self) -> None:
        """As those of an mteb task; and what its corpus lacks has no place on top."""
        demo = task_of(PAIRS).read_collection()
        given = demo.queries["de"]
        lacking = given.judgments.query % 7 == 0
        judgments = replace(given.judgments, passage=np.where(lacking, np.int32(-1), given.judgments.passage))
        collection = replace(
            demo,
            passages={f"dev/{number}": passages for number, passages in enumerate(demo.passages.values())},
            queries={"dev/ask": replace(given, judgments=judgments)},
        )
        pool = Ranker.bm25(collection, BM25()).rank("dev/ask", ("dev/1", "dev/3"))
        table = query_table(
            collection, pool, split="dev", subset="default", setting=Setting.MONOLINGUAL, metadata={"depth": "full"}
        )
        rows = table.to_pylist()
        assert [row["question_id"] for row in rows] == list(given.question_ids)
        for number, row in enumerate(rows):
            assert (row["split"], row["subset"], row["setting"]) == ("dev", "default", "monolingual")
            assert (row["query_language"], row["pool_languages"]) == ("de", ["de", "en"])
            assert sorted(row["rank_languages"]) == ["de", "en"]
            assert set(row["top_languages"]) <= {1, 3}
            assert row["top1_relevant"] == (1 in row["ranks"])
            if number % 7 == 0:
                assert row["ranks"] == [NOT_RETRIEVED] * 2
                assert row["ap"] == row["rr"] == row["recall_at_100"] == 0
            else:
                assert max(row["ranks"]) <= row["pool_size"] == 256
        assert metadata_of(table) == {"depth": "full"}

    def test_a_pool_that_nothing_is_relevant_in(self) -> None:
        demo = task_of(PAIRS).read_collection()
        nothing = replace(demo.queries["de"], judgments=Judgments.of([]))
        pool = Ranker.bm25(replace(demo, queries={"de": nothing}), BM25()).rank("de", ("de", "en"))
        table = query_table(demo, pool, split="test", subset="de", setting=Setting.MULTILINGUAL, metadata={})
        assert len(table) == 0
        assert table.column_names == list(self.SCHEMA)

    def test_a_table_of_somebody_elses(self) -> None:
        assert metadata_of(pa.table({"subset": ["de-en"]})) == {}


class TestSignatures:
    def test_what_they_hold(self, saved: Path) -> None:
        collection = task_of(PAIRS).read_collection()
        signatures = read_signatures(saved)
        assert list(signatures) == list(SUBSETS)
        for name, signature in signatures.items():
            assert signature["task"] == name
            parts = ("de", "en") if name == PAIRS else collection.parts  # those that its pools are made of
            assert signature["data_sha256"] == {part: collection.sha256[part] for part in parts}
            assert signature["table_sha256"] == sha256_of(table_path(saved, name))
            assert set(signature["versions"]) == {"hybrid_bench", "mteb", "torch", "numpy"}
            assert signature["tie_rule"] == "score descending, then id descending as UTF-8 bytes"
            assert (signature["model"], signature["revision"]) == ("tests/word-counts", "1")
            assert {"prompts", "dtype", "similarity", "depth", "passage", "options"} <= set(signature)

    def test_lines_that_cannot_be_read_count_as_absent(self, run_folder: Path) -> None:
        path = run_folder / "signatures.jsonl"
        first, second = path.read_text(encoding="utf-8").splitlines()
        path.write_text(f'{first}\nnot JSON\n[]\n{{"format": 1}}\n{second[:50]}', encoding="utf-8")
        assert list(read_signatures(run_folder)) == [PAIRS]

    def test_none(self, tmp_path: Path) -> None:
        assert read_signatures(tmp_path) == {}


# -- what is stale ---------------------------------------------------------------------------------------------------


def edit_signature(folder: Path, **changes: Any) -> None:
    signatures = read_signatures(folder)
    signatures[PAIRS] |= changes
    lines = "".join(json.dumps(entry) + "\n" for entry in signatures.values())
    (folder / "signatures.jsonl").write_text(lines, encoding="utf-8")


def damage_table(folder: Path) -> None:
    path = table_path(folder, PAIRS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


STALE: Mapping[str, tuple[str, Callable[[Path], object]]] = {
    "no signatures": ("it has no signature", lambda folder: (folder / "signatures.jsonl").unlink()),
    "other rules": ("it was made by another version's rules", lambda folder: edit_signature(folder, format=0)),
    "other data": (
        "it was made from other data",
        lambda folder: edit_signature(folder, data_sha256=dict.fromkeys(["de", "en"], "0" * 64)),
    ),
    "no table": ("its per-query table is missing", lambda folder: table_path(folder, PAIRS).unlink()),
    "damaged table": ("its per-query table is damaged", damage_table),
}


class TestStale:
    def test_nothing_is(self, run_folder: Path) -> None:
        task = task_of(PAIRS)
        cache = RunCache(output_of(run_folder), [task])
        assert cache.why_not(PAIRS, META) is None
        loaded = cache.load_task_result(PAIRS, META)
        assert loaded is not None
        assert {entry["hf_subset"] for entry in loaded.scores["test"]} == set(SUBSETS[PAIRS])

    @pytest.mark.parametrize("case", STALE)
    def test_is_run_again_and_the_earlier_files_are_kept(self, case: str, run_folder: Path) -> None:
        reason, spoil = STALE[case]
        spoil(run_folder)
        before = {path.name: path.read_bytes() for path in run_folder.iterdir() if path.name.startswith(PAIRS)}
        others = {path: path.read_bytes() for path in run_folder.iterdir() if path.name.startswith(MULTI)}
        task = task_of(PAIRS, ["de-en"])
        cache = RunCache(output_of(run_folder), [task])
        assert cache.why_not(PAIRS, META) == reason
        assert cache.load_task_result(PAIRS, META) is None
        WordCounts.asked.clear()
        evaluate(task, cache)
        assert WordCounts.asked != []
        # What is there now is whole, and of the one subset that was asked for ...
        assert RunCache(output_of(run_folder), [task]).why_not(PAIRS, META) is None
        assert list(scores_of(run_folder, PAIRS)) == ["de-en"]
        assert set(pq.read_table(table_path(run_folder, PAIRS))["subset"].to_pylist()) == {"de-en"}
        # ... what was there lies aside, where mteb does not look, and the other task is as it was.
        (aside,) = (run_folder / "superseded").iterdir()
        assert {path.name: path.read_bytes() for path in aside.iterdir() if path.name != "signatures.jsonl"} == before
        assert ("no signatures" in case) != (aside / "signatures.jsonl").exists()
        assert {path: path.read_bytes() for path in others} == others
        loaded = mteb.ResultCache(output_of(run_folder)).load_results(models=["tests/word-counts"])
        assert len(loaded.model_results[0].task_results) == 2

    def test_only_by_the_data_of_its_own_pool(self, run_folder: Path) -> None:
        """Another language's passages may have changed since."""
        hashes = task_of(PAIRS).data_sha256()
        edit_signature(run_folder, data_sha256={"de": "0" * 64, "en": hashes["en"]})
        expected = {"de-en": None, "th-en": None, "de-de": "it was made from other data", "de-th": None}
        for subset, reason in expected.items():
            task = task_of(PAIRS, [subset])
            assert RunCache(output_of(run_folder), [task]).why_not(PAIRS, META) == reason
        # What is added vouches for its own data, and not for those of the earlier rows.
        task = task_of(PAIRS, ["de-en", "th-th"])
        evaluate(task, RunCache(output_of(run_folder), [task]))
        assert read_signatures(run_folder)[PAIRS]["data_sha256"] == {
            "de": "0" * 64,
            "en": hashes["en"],
            "th": hashes["th"],
        }
        assert set(scores_of(run_folder, PAIRS)) == {*SUBSETS[PAIRS], "th-th"}
        task = task_of(PAIRS, ["de-de", "de-en"])
        assert RunCache(output_of(run_folder), [task]).why_not(PAIRS, META) == "it was made from other data"

    def test_a_result_that_was_cut_off(self, run_folder: Path) -> None:
        path = run_folder / f"{PAIRS}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        task = task_of(PAIRS, SUBSETS[PAIRS])
        cache = RunCache(output_of(run_folder), [task])
        assert cache.load_task_result(PAIRS, META) is None
        expected = {entry["hf_subset"]: entry for entry in json.loads(whole)["scores"]["test"]}
        evaluate(task, cache)
        assert scores_of(run_folder, PAIRS) == expected

    def test_a_result_of_plain_mteb_has_no_table_and_is_run_again(self, tmp_path: Path) -> None:
        evaluate(task_of(PAIRS, ["de-en"]), mteb.ResultCache(tmp_path))
        task = task_of(PAIRS, ["de-en"])
        cache = RunCache(tmp_path, [task])
        assert cache.why_not(PAIRS, META) == "it has no signature"
        evaluate(task, cache)
        assert RunCache(tmp_path, [task]).why_not(PAIRS, META) is None


class TestGoingOn:
    def test_only_missing_subsets_are_added(self, run_folder: Path) -> None:
        before, table_before = scores_of(run_folder, PAIRS), pq.read_table(table_path(run_folder, PAIRS))
        task = task_of(PAIRS, ["de-en", "en-en"])
        result = evaluate(task, RunCache(output_of(run_folder), [task]))
        assert set(task.tables) == {("test", "en-en")}
        assert {entry["hf_subset"] for entry in result.scores["test"]} == {*SUBSETS[PAIRS], "en-en"}
        after = scores_of(run_folder, PAIRS)
        assert {subset: after[subset] for subset in before} == before
        assert set(after) == {*before, "en-en"}
        table = pq.read_table(table_path(run_folder, PAIRS)).to_pylist()
        assert [row for row in table if row["subset"] in before] == table_before.to_pylist()
        assert {row["subset"] for row in table} == {*before, "en-en"}
        assert not (run_folder / "superseded").exists()

    def test_other_subsets_are_not_lost_when_one_is_always_run(self, run_folder: Path) -> None:
        before = scores_of(run_folder, PAIRS)
        task = task_of(PAIRS, ["de-en"])
        evaluate(task, RunCache(output_of(run_folder), [task]), overwrite_strategy="always")
        assert scores_of(run_folder, PAIRS) == before
        assert set(pq.read_table(table_path(run_folder, PAIRS))["subset"].to_pylist()) == set(before)

    def test_one_cache_for_two_models_in_turn(self, tmp_path: Path) -> None:
        task = task_of(PAIRS)
        cache = RunCache(tmp_path, [task])
        for name, subset in (("a", "de-en"), ("a", "en-de"), ("b", "de-en"), ("a", "en-en")):
            task.hf_subsets = [subset]
            model: Any = WordCounts(f"tests/{name}")
            mteb.evaluate(model, task, cache=cache, co2_tracker=False, show_progress_bar=False)
        (folder,) = (tmp_path / "results" / "tests__a").iterdir()
        assert set(scores_of(folder, PAIRS)) == {"de-en", "en-de", "en-en"}
        assert set(pq.read_table(table_path(folder, PAIRS))["subset"].to_pylist()) == {"de-en", "en-de", "en-en"}

    def test_what_is_saved_on_the_way_is_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """After every subset that is saved, the files can be read, and a new run would take them up."""
        monkeypatch.setattr(results, "_SECONDS_BETWEEN_SAVES", 0.0)
        seen: list[list[str]] = []
        task = task_of(PAIRS, SUBSETS[PAIRS])

        class Watching(RunCache):
            def save_to_cache(self, *arguments: Any, **named: Any) -> None:
                super().save_to_cache(*arguments, **named)
                other = RunCache(tmp_path, [task_of(PAIRS, SUBSETS[PAIRS])])
                loaded = other.load_task_result(PAIRS, META)
                assert loaded is not None
                seen.append([entry["hf_subset"] for entry in loaded.scores["test"]])

        evaluate(task, Watching(tmp_path, [task]))
        assert seen == [["de-de"], ["de-de", "de-en"], SUBSETS[PAIRS], SUBSETS[PAIRS]]

    def test_not_every_subset_is_saved_on_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the first, then after some seconds, and the last: mteb asks for it after each of 121."""
        written: list[str] = []

        @contextmanager
        def noting(path: Path) -> Iterator[Path]:
            written.append(path.name)
            with atomic(path) as beside:
                yield beside

        monkeypatch.setattr(results, "atomic", noting)
        task = task_of(PAIRS, SUBSETS[PAIRS])
        evaluate(task, RunCache(tmp_path, [task]))
        assert written == [f"{PAIRS}.queries.parquet", "signatures.jsonl"] * 2
