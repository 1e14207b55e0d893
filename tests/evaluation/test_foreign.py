"""Tasks of mteb on our engine: what a name stands for, what is refused, how results are saved and found again.

The data sets are small and made on the spot, but lie in folders in the layout of the Hub, and mteb's own code loads
them. That the numbers are mteb's is what `parity/test_foreign.py` is about, which takes its folders from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import mteb
import numpy as np
import pyarrow.parquet as pq
import pytest
from mteb.abstasks.aggregate_task_metadata import AggregateTaskMetadata
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.sts import AbsTaskSTS
from mteb.benchmarks.benchmark import Benchmark
from mteb.results import TaskResult

from helpers import WordCounts, registered
from hub_server import nowhere, use_hub
from hybrid_bench.data.beir import beir_task
from hybrid_bench.engine.lexical import subset_languages
from hybrid_bench.errors import DataError, HybridBenchError, RequestError
from hybrid_bench.evaluation.foreign import exact, mteb_names, why_not
from hybrid_bench.evaluation.runner import Outcome, RunRequest, named_tasks, run, select_tasks
from hybrid_bench.evaluation.tasks import ExactRetrieval, TaskOptions
from hybrid_bench.languages import Setting
from hybrid_bench.runs.result_files import read_signatures, table_path
from mteb_tasks import BENCHMARKS, REGISTRY, WORDS, Data, random_data, save_configs, save_hub, task_class


def save_beir(folder: Path) -> Path:
    """A folder in BEIR's format with one document and one query."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "a text"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "a query"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    return folder


# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` makes of the files is kept for one test; nothing else is looked for in the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache of datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


class Counts(WordCounts):
    """For any kind of task; it counts how often it was loaded, and how many texts it was asked for."""

    loaded: ClassVar[int] = 0
    texts: ClassVar[int] = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Counts.loaded += 1

    def encode(self, inputs: Any, **_: Any) -> Any:
        texts = [text for batch in inputs for text in batch["text"]]
        Counts.texts += len(texts)
        return self.vectors(texts)


MODEL = "tests/counts"


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, MODEL, Counts)
    Counts.loaded = Counts.texts = 0


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Any]], type[Any]]:
    """Make mteb know a task by name until the test is over."""

    def make_known(kind: type[Any]) -> type[Any]:
        monkeypatch.setitem(REGISTRY, kind.metadata.name, kind)
        return kind

    return make_known


class Told(list[str]):
    """What `run` tells, line by line."""


def go(tmp_path: Path, *tasks: str, told: Told | None = None, **options: Any) -> Outcome:
    """`run` on data sets below ``data``, results in ``runs``."""
    request = RunRequest(
        models=[MODEL], tasks=tasks, output=tmp_path / "runs", **{"data_dir": tmp_path / "data", **options}
    )
    return run(request, tell=(Told() if told is None else told).append)


def results(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "results" / MODEL.replace("/", "__") / "1"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def chosen(*tasks: str, **options: Any) -> dict[str, list[str]]:
    """The subsets of each task that a request selects."""
    return {task.metadata.name: list(task.hf_subsets) for task in select_tasks(RunRequest((), tasks, **options))}


def small(**options: Any) -> Data:
    """`random_data` with 40 documents and 8 queries."""
    return random_data(**{"documents": 40, "queries": 8, **options})


# -- names -----------------------------------------------------------------------------------------------------------


def names_of(name: str) -> list[str]:
    return [task.metadata.name for task in named_tasks(name)]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "subsets"),
        [("NFCorpus", 1), ("MLQARetrieval", 49), ("BelebeleRetrieval", 376), ("XQuADRetrieval", 12)],
    )
    @pytest.mark.parametrize("form", [str, str.casefold, str.upper])
    def test_a_task_of_mtebs(self, name: str, subsets: int, form: Callable[[str], str]) -> None:
        (task,) = named_tasks(form(name))
        assert isinstance(task, ExactRetrieval)
        assert isinstance(task, REGISTRY[name])
        assert (task.metadata, len(task.hf_subsets)) == (mteb.get_task(name).metadata, subsets)

    @pytest.mark.parametrize(
        ("name", "tasks", "whole", "first", "last"),
        [
            ("BEIR", 15, "CQADupstackRetrieval", "CQADupstackAndroidRetrieval", "CQADupstackWordpressRetrieval"),
            ("BEIR-PL", 13, "CQADupstackRetrieval-PL", "CQADupstack-Android-PL", "CQADupstack-Wordpress-PL"),
        ],
    )
    def test_a_benchmark(self, name: str, tasks: int, whole: str, first: str, last: str) -> None:
        """Its tasks, and before an aggregate its twelve parts."""
        found = {task.metadata.name: task for task in named_tasks(name)}
        assert len(found) == tasks + 12
        assert [task for task, each in found.items() if not isinstance(each, ExactRetrieval)] == [whole]
        order = list(found)
        assert order[order.index(whole) - 12] == first
        assert order[order.index(whole) - 1] == last

    def test_a_benchmark_that_mteb_does_not_list(self) -> None:
        with pytest.raises(KeyError):
            mteb.get_benchmark("BEIR-PL")
        assert "SciFact-PL" in names_of("beir-pl")

    def test_a_benchmark_says_which_splits(self) -> None:
        (task,) = (task for task in named_tasks("BEIR") if task.metadata.name == "MSMARCO")
        assert list(task.eval_splits) == ["dev"]

    def test_an_aggregate_alone(self) -> None:
        assert names_of("CQADupstackRetrieval") == names_of("BEIR")[7:20]

    def test_a_benchmark_of_many_kinds(self) -> None:
        left = {task.metadata.type for task in named_tasks("MTEB(eng, v2)") if not isinstance(task, ExactRetrieval)}
        assert {"Classification", "Clustering", "Reranking", "STS", "Summarization"} <= left
        assert "Retrieval" not in left

    @pytest.mark.parametrize(
        ("name", "clause"),
        [
            ("NFCorpu", "did you mean 'NFCorpus'"),
            ("nfcorpsu", "did you mean 'NFCorpus'"),
            ("BIER", "did you mean 'BEIR'"),
            ("BEIR-P", "did you mean 'BEIR-PL'"),
            ("MLQA-Retrieval", "did you mean 'MLQARetrieval'"),
            ("XQuAD", "did you mean 'XQuAD-R'"),
            ("qqqqqqqq", "`hybrid-bench tasks` lists ours"),
            ("", "`hybrid-bench tasks` lists ours"),
        ],
    )
    def test_a_wrong_name(self, name: str, clause: str) -> None:
        with pytest.raises(RequestError) as error:
            named_tasks(name)
        assert f"unknown task '{name}'" in str(error.value)
        assert clause in str(error.value)

    def test_names_are_those_that_are_understood(self) -> None:
        listed = mteb_names()
        assert {"NFCorpus", "BelebeleRetrieval", "CQADupstackRetrieval", "BEIR", "BEIR-PL"} <= set(listed)
        assert len(listed) == len(set(listed))

    def test_two_names_of_one_task(self) -> None:
        assert list(chosen("NFCorpus", "BEIR")) == [
            "NFCorpus",
            *(name for name in names_of("BEIR") if name != "NFCorpus"),
        ]


# -- what our engine scores ------------------------------------------------------------------------------------------


class TestWhyNot:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("Banking77Classification", "it is not a retrieval task"),
            ("STS12", "it is not a retrieval task"),
            ("CQADupstackRetrieval", "it is not a retrieval task"),
            ("AskUbuntuDupQuestions", "it is a task of type Reranking over text"),
            ("VisRAGRetArxivQA", "it is a task of type Retrieval over text, image"),
            ("CIRRIT2IRetrieval", "it is a task of type Any2AnyRetrieval over text, image"),
            ("Core17InstructionRetrieval", "it is a task of type InstructionReranking over text"),
            ("IFIRNFCorpus", "it is a task of type InstructionRetrieval over text"),
            ("QASPER", "it has its own way to evaluate (task_specific_scores)"),
            ("LIMITRetrieval", "its main score is recall_at_2"),
        ],
    )
    def test_a_task_that_is_left_to_mteb(self, name: str, reason: str) -> None:
        task: Any = mteb.get_task(name)
        assert why_not(task) == reason
        with pytest.raises(RequestError, match=f"{name} is left to mteb: ") as error:
            exact(task)
        assert reason in str(error.value)
        assert "`hybrid-bench mteb run`" in str(error.value)

    @pytest.mark.parametrize("name", ["evaluate", "_evaluate_subset", "task_specific_scores"])
    def test_an_evaluation_of_its_own(self, name: str) -> None:
        def own(self: Any, *arguments: Any, **options: Any) -> Any:
            raise AssertionError

        members: dict[str, Any] = {name: own}
        reason = why_not(task_class("OwnRetrieval", "tests/own", **members)())
        assert reason == f"it has its own way to evaluate ({name})"

    def test_the_first_result_left_out(self) -> None:
        kind = task_class("OwnRetrieval", "tests/own", skip_first_result=True)
        assert why_not(kind()) == "it has its own way to evaluate (skip_first_result)"

    def test_most_retrieval_tasks_of_mteb_are_ours(self) -> None:
        kinds = [kind for kind in REGISTRY.values() if kind.metadata.type == "Retrieval"]
        texts = [kind() for kind in kinds if kind.metadata.modalities == ["text"]]
        assert sum(why_not(task) is None for task in texts) > 400


class TestExact:
    def test_the_task_that_was_given_is_left_alone(self, tmp_path: Path) -> None:
        save_hub(tmp_path / "tests/data", {"default": small()})
        given = task_class("TestRetrieval", "tests/data")()
        task = exact(given, tmp_path)
        task.load_data()
        assert task.data_loaded
        assert task.metadata.name == "TestRetrieval"
        assert not given.data_loaded
        assert not isinstance(given, ExactRetrieval)

    def test_twice_is_once_but_no_request_meets_the_options_of_another(self) -> None:
        task = exact(task_class("TestRetrieval", "tests/data")())
        task.options = TaskOptions(top_k=3)
        again = exact(task)
        assert type(again) is type(task)
        assert (again.options, task.options) == (TaskOptions(), TaskOptions(top_k=3))

    def test_chosen_subsets_and_splits_stay(self) -> None:
        given: Any = mteb.get_task("MLQARetrieval", eval_splits=["validation"], languages=["vie"])
        task = exact(given)
        assert task.hf_subsets == given.hf_subsets != mteb.get_task("MLQARetrieval").hf_subsets
        assert list(task.eval_splits) == ["validation"]

    def test_data_come_from_the_users_folder_where_they_are_there(self, tmp_path: Path) -> None:
        """And from where mteb has them where they are not."""
        save_hub(tmp_path / "theirs", {"default": small()})
        path = str(tmp_path / "theirs")
        task = exact(task_class("TestRetrieval", path)(), tmp_path / "nothing here")
        task.load_data()
        collection = task.collection
        assert collection is not None
        assert [len(passages) for passages in collection.passages.values()] == [40]
        task.unload_data()
        assert task.collection is None
        save_hub(tmp_path / "data/tests/set", {"default": small(documents=30)})
        task = exact(task_class("TestRetrieval", "tests/set")(), tmp_path / "data")
        task.load_data()
        collection = task.collection
        assert collection is not None
        assert [len(passages) for passages in collection.passages.values()] == [30]
        # What is saved names the data set, not a folder of this machine.
        assert task.metadata.dataset == {"path": "tests/set", "revision": "1"}
        task.unload_data()
        assert task.metadata.dataset == {"path": "tests/set", "revision": "1"}

    def test_two_folders_of_one_name_are_two_data_sets(self, tmp_path: Path) -> None:
        """`datasets` keeps what it made of a folder by the folder's name and README, which are the same here."""
        kind, texts = task_class("TestRetrieval", "tests/set"), []
        for seed, place in enumerate(("a", "b")):
            data = small(seed=seed)
            save_hub(tmp_path / place / "tests/set", {"default": data})
            task = exact(kind(), tmp_path / place)
            task.load_data()
            assert task.collection is not None
            texts.append(list(task.collection.passages["test/default"].texts))
            assert texts[-1] == [row["text"] for row in data.corpus]
        assert texts[0] != texts[1]

    def test_the_users_folder_may_be_told_by_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HYBRID_BENCH_DATA", str(tmp_path / "data"))
        save_hub(tmp_path / "data/tests/set", {"default": small(documents=30)})
        task = exact(task_class("TestRetrieval", "tests/set")())
        assert task.data_sha256() == exact(task_class("TestRetrieval", "tests/set")(), tmp_path / "data").data_sha256()
        task.load_data()
        assert task.collection is not None
        assert [len(passages) for passages in task.collection.passages.values()] == [30]

    def test_a_beir_folder_is_not_looked_for_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One of the same name in the user's data folder is another."""
        save_hub(tmp_path / "data/same", {"default": small()})
        monkeypatch.setenv("HYBRID_BENCH_DATA", str(tmp_path / "data"))
        task = exact(beir_task(save_beir(tmp_path / "here/same")))
        task.load_data()
        assert task.collection is not None
        assert [len(passages) for passages in task.collection.passages.values()] == [1]

    @pytest.mark.parametrize("offline", [True, False])
    def test_data_that_are_nowhere(self, offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error comes at once, though huggingface_hub would try for half a minute."""
        use_hub(monkeypatch, nowhere(), tmp_path / "cache of the hub")
        if offline:
            monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
        task = exact(task_class("TestRetrieval", "tests/not-there")(), tmp_path)
        reason = r"offline is set \(HYBRID_BENCH_OFFLINE=1\)" if offline else r"it cannot be reached \(.*refused.*\)"
        start = time.monotonic()
        with pytest.raises(
            DataError, match=f"^TestRetrieval cannot load .*tests/not-there.*: {reason}, and .*--data-d"
        ):
            task.load_data()
        assert time.monotonic() - start < 5

    def test_what_is_wrong_with_data_that_are_there_is_not_put_down_to_the_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("hybrid_bench.data.hub._unreachable", lambda name, revision: "")
        kind = task_class("TestRetrieval", "tests/set")

        def wrong(self: Any, **_: Any) -> None:
            raise KeyError("corpus")

        monkeypatch.setattr(kind, "load_data", wrong)
        with pytest.raises(KeyError, match="corpus"):
            exact(kind()).load_data()

    def test_the_hash_depends_on_every_file_and_not_on_the_place(self, tmp_path: Path) -> None:
        task = task_class("TestRetrieval", "tests/set")
        for name in ("a", "b"):
            save_hub(tmp_path / name / "tests/set", {"default": small()})
        hashes = [exact(task(), tmp_path / name).data_sha256() for name in ("a", "b", "not there")]
        assert hashes[0] == hashes[1] != hashes[2]
        with (tmp_path / "b/tests/set/default/test.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n")
        assert exact(task(), tmp_path / "b").data_sha256() != hashes[1]


# -- data that are refused when they are loaded ----------------------------------------------------------------------


def conversations(data: Data) -> Data:
    turns = [
        {"_id": row["_id"], "text": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": "?"}]}
        for row in data.queries
    ]
    return replace(data, queries=turns)


def messages(data: Data) -> Data:
    return replace(data, queries=[{"_id": row["_id"], "text": [row["text"], "and?"]} for row in data.queries])


def instructions(data: Data) -> Data:
    rows = [{"query-id": row["_id"], "instruction": "Find it."} for row in data.queries]
    return replace(data, more={"instruction": rows})


def candidates(data: Data) -> Data:
    return replace(data, more={"top_ranked": [{"query-id": row["_id"], "corpus-ids": ["d1"]} for row in data.queries]})


def documents_of_one_id(data: Data) -> Data:
    return replace(data, corpus=[*data.corpus, {"_id": "d1", "text": "something else"}])


def queries_of_one_id(data: Data) -> Data:
    return replace(data, queries=[*data.queries, {"_id": "q1", "text": "something else"}])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (conversations, "its queries are conversations"),
        (messages, "its queries are conversations"),
        (instructions, "its queries have instructions"),
        (candidates, "it gives candidates to rerank"),
        # mteb gives one of the two, whichever its heap held last, or the results of both together.
        (documents_of_one_id, "d1"),
        (queries_of_one_id, "q1"),
    ],
)
def test_what_is_refused_when_it_is_loaded(
    change: Callable[[Data], Data], reason: str, tmp_path: Path, known: Callable[..., Any]
) -> None:
    save_hub(tmp_path / "data/tests/set", {"default": change(small())})
    known(task_class("TestRetrieval", "tests/set"))
    (failure,) = go(tmp_path, "TestRetrieval").failures
    assert isinstance(failure.error, RequestError)
    assert str(failure).startswith(f"{MODEL} on TestRetrieval: TestRetrieval, subset default, is left to mteb: ")
    assert reason in str(failure)
    assert "\n" not in str(failure)
    assert Counts.texts == 0
    assert not (results(tmp_path) / "TestRetrieval.json").exists()


def test_without_any_judgment_of_a_query(tmp_path: Path, known: Callable[..., Any]) -> None:
    data = small()
    data = replace(data, qrels={"test": [(f"another {query}", *row) for query, *row in data.qrels["test"]]})  # type: ignore[misc] # mypy loses the types of a starred target
    save_hub(tmp_path / "data/tests/set", {"default": data})
    known(task_class("TestRetrieval", "tests/set"))
    (failure,) = go(tmp_path, "TestRetrieval").failures
    assert isinstance(failure.error, DataError)
    assert "no query has a judgment" in str(failure)


def test_documents_that_are_absent_are_told(tmp_path: Path) -> None:
    data = small()
    data = replace(data, qrels={"test": [*data.qrels["test"], ("q1", "not there", 1), ("q2", "nor here", 0)]})
    task = exact(task_class("TestRetrieval", save_hub(tmp_path / "set", {"default": data}))())
    task.load_data()
    assert task.collection is not None
    assert task.collection.notes == (
        "test/default: 1 relevant documents are not in the corpus, and count as not retrieved",
    )


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(tmp_path: Path, known: Callable[..., Any]) -> type[Any]:
    """A task with titles, grades and two splits."""
    data = small(titles=True, splits=("dev", "test"))
    save_hub(tmp_path / "data/tests/set", {"default": data})
    kind: type[Any] = known(task_class("TestRetrieval", "tests/set", metadata={"eval_splits": ["dev", "test"]}))
    return kind


class TestRun:
    def test_results_are_saved_as_mteb_saves_them(self, one: type[Any], tmp_path: Path) -> None:
        outcome = go(tmp_path, "testretrieval")
        assert outcome.failures == []
        (folder,) = outcome.folders
        assert folder == results(tmp_path)
        by_path = TaskResult.from_disk(folder / "TestRetrieval.json")
        cache = mteb.ResultCache(tmp_path / "runs")
        by_name = cache.load_task_result("TestRetrieval", mteb.get_model_meta(MODEL))
        (listed,) = cache.load_results(models=[MODEL], tasks=["TestRetrieval"]).model_results
        model = mteb.get_model(MODEL)
        task = exact(one(), tmp_path / "data")
        plain = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
        for found in (by_path, by_name, listed.task_results[0]):
            assert found is not None
            assert (found.task_name, found.dataset_revision) == ("TestRetrieval", "1")
            assert set(found.scores) == {"dev", "test"}
            assert found.get_score() == pytest.approx(plain.task_results[0].get_score(), abs=1e-6)
        assert 0 < by_path.get_score() < 1

    def test_one_row_per_query(self, one: type[Any], tmp_path: Path) -> None:
        go(tmp_path, "TestRetrieval")
        rows = pq.read_table(table_path(results(tmp_path), "TestRetrieval")).to_pylist()
        assert [(row["split"], row["question_id"]) for row in rows] == [
            (split, f"{split}/default/q{number}") for split in ("dev", "test") for number in range(8)
        ]
        assert {row["setting"] for row in rows} == {"monolingual"}
        assert {row["query_language"] for row in rows} == {"en"}
        assert {row["pool_size"] for row in rows} == {40}
        assert {row["n_relevant"] for row in rows} == {5}
        saved = TaskResult.from_disk(results(tmp_path) / "TestRetrieval.json").scores
        for split in ("dev", "test"):
            ours = [row for row in rows if row["split"] == split]
            for column, key in (("ndcg_at_10", "ndcg_at_10"), ("ap", "map"), ("recall_at_100", "recall_at_100")):
                assert np.mean([row[column] for row in ours]) == pytest.approx(saved[split][0][key], abs=1e-6)
        signature = read_signatures(results(tmp_path))["TestRetrieval"]
        assert signature["main_score"] == "ndcg_at_10"
        assert signature["data_revision"] == "1"

    def test_what_is_there_is_not_run_again(self, one: type[Any], tmp_path: Path) -> None:
        go(tmp_path, "TestRetrieval")
        before, loaded, told = bytes_of(results(tmp_path)), Counts.loaded, Told()
        outcome = go(tmp_path, "TestRetrieval", told=told)
        assert outcome.folders == [results(tmp_path)]
        assert told == [f"{MODEL} on TestRetrieval: already there"]
        assert Counts.loaded == loaded == 1
        assert bytes_of(results(tmp_path)) == before

    @pytest.mark.parametrize("change", ["revision", "file"])
    def test_other_data_are_run_again(
        self, change: str, one: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another revision of the data set, or another file in the user's folder; the earlier result is kept."""
        go(tmp_path, "TestRetrieval")
        before = bytes_of(results(tmp_path))
        if change == "revision":
            dataset = {"path": "tests/set", "revision": "2"}
            monkeypatch.setattr(one, "metadata", one.metadata.model_copy(update={"dataset": dataset}))
        else:
            other = small(seed=1, titles=True, splits=("dev", "test"))
            save_hub(tmp_path / "data/tests/set", {"default": other})
        told = Told()
        assert go(tmp_path, "TestRetrieval", told=told).failures == []
        assert told == [
            f"{MODEL} on TestRetrieval: the saved result is not used, because it was made from other data",
            f"{MODEL} on TestRetrieval: 1 subset",
        ]
        (aside,) = (results(tmp_path) / "superseded").iterdir()
        for name in ("TestRetrieval.json", "TestRetrieval.queries.parquet"):
            assert (aside / name).read_bytes() == before[name] != (results(tmp_path) / name).read_bytes()
        saved = TaskResult.from_disk(results(tmp_path) / "TestRetrieval.json")
        assert saved.dataset_revision == ("2" if change == "revision" else "1")
        go(tmp_path, "TestRetrieval", told=told)
        assert told[2:] == [f"{MODEL} on TestRetrieval: already there"]

    def test_question_ids_of_subsets_do_not_join(self, tmp_path: Path, known: Callable[..., Any]) -> None:
        """``q1`` of one subset is another question than ``q1`` of the next, until somebody says otherwise."""
        languages = {"deu": ["deu-Latn"], "fra": ["fra-Latn"]}
        save_hub(tmp_path / "data/tests/set", {name: small(seed=i) for i, name in enumerate(languages)})
        known(task_class("TestRetrieval", "tests/set", metadata={"eval_langs": languages}))
        go(tmp_path, "TestRetrieval")
        rows = pq.read_table(table_path(results(tmp_path), "TestRetrieval")).to_pylist()
        assert len({row["question_id"] for row in rows}) == len(rows) == 16
        assert len({row["cluster_article"] for row in rows}) == 16
        assert {(row["subset"], row["query_language"]) for row in rows} == {("deu", "de"), ("fra", "fr")}

    def test_missing_subsets_are_added(self, tmp_path: Path, known: Callable[..., Any]) -> None:
        languages = {"deu": ["deu-Latn"], "fra": ["fra-Latn"]}
        save_hub(tmp_path / "data/tests/set", {name: small(seed=i) for i, name in enumerate(languages)})
        known(task_class("TestRetrieval", "tests/set", metadata={"eval_langs": languages}))
        go(tmp_path, "TestRetrieval", languages=["de"])
        told = Told()
        go(tmp_path, "TestRetrieval", told=told)
        assert told == [f"{MODEL} on TestRetrieval: 1 subset"]
        rows = pq.read_table(table_path(results(tmp_path), "TestRetrieval"))
        assert rows["subset"].to_pylist().count("deu") == rows["subset"].to_pylist().count("fra") == 8


# -- aggregates ------------------------------------------------------------------------------------------------------

PARTS = ("FirstRetrieval", "SecondRetrieval")


@pytest.fixture
def whole(tmp_path: Path, known: Callable[..., Any]) -> None:
    """A task whose result is the mean of two, the second of which is in German."""
    parts = []
    for number, name in enumerate(PARTS):
        save_hub(tmp_path / "data/tests" / name, {"default": small(seed=number)})
        tags = {"eval_langs": ["deu-Latn" if number else "eng-Latn"]}
        parts.append(known(task_class(name, f"tests/{name}", metadata=tags)))
    metadata = AggregateTaskMetadata(
        name="WholeRetrieval",
        description="Made for a test.",
        tasks=[part() for part in parts],
        main_score="ndcg_at_10",
        type="Retrieval",
        eval_splits=["test"],
    )
    known(type("WholeRetrieval", (AbsTaskAggregate,), {"metadata": metadata}))


def score(tmp_path: Path, task: str) -> float:
    return float(TaskResult.from_disk(results(tmp_path) / f"{task}.json").get_score())


def close_to(values: Sequence[float]) -> Any:
    return pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.usefixtures("whole")
class TestAggregates:
    def test_the_result_is_combined_from_the_parts(self, tmp_path: Path) -> None:
        told = Told()
        assert go(tmp_path, "WholeRetrieval", told=told).failures == []
        assert [line.split(":")[0] for line in told] == [f"{MODEL} on {name}" for name in (*PARTS, "WholeRetrieval")]
        assert "not a retrieval task" not in told[-1]
        assert Counts.texts == 2 * 48  # each part once: nothing is encoded for the whole
        scores = [score(tmp_path, name) for name in PARTS]
        assert scores[0] != scores[1]
        assert score(tmp_path, "WholeRetrieval") == close_to(scores)
        assert all(table_path(results(tmp_path), name).is_file() for name in PARTS)
        read = mteb.ResultCache(tmp_path / "runs").load_results(models=[MODEL])
        assert set(read.task_names) == {*PARTS, "WholeRetrieval"}

    def test_what_is_there_is_not_run_again(self, tmp_path: Path) -> None:
        go(tmp_path, "WholeRetrieval")
        before, told = bytes_of(results(tmp_path)), Told()
        go(tmp_path, "WholeRetrieval", told=told)
        assert bytes_of(results(tmp_path)) == before
        assert Counts.loaded == 1
        assert told == [f"{MODEL} on {name}: already there" for name in (*PARTS, "WholeRetrieval")]

    def test_it_is_combined_again_when_a_part_is_run_again(self, tmp_path: Path) -> None:
        go(tmp_path, "WholeRetrieval")
        before = score(tmp_path, "FirstRetrieval")
        save_hub(tmp_path / "data/tests/FirstRetrieval", {"default": small(seed=7)})
        go(tmp_path, "WholeRetrieval")
        assert score(tmp_path, "FirstRetrieval") != before
        assert score(tmp_path, "WholeRetrieval") == close_to([score(tmp_path, name) for name in PARTS])

    def test_without_one_of_its_parts_it_is_left_out(self) -> None:
        assert list(chosen("WholeRetrieval")) == [*PARTS, "WholeRetrieval"]
        assert list(chosen("WholeRetrieval", languages=["en"])) == ["FirstRetrieval"]
        assert list(chosen("WholeRetrieval", languages=["en", "de"])) == [*PARTS, "WholeRetrieval"]
        with pytest.raises(RequestError, match="nothing to run"):
            chosen("WholeRetrieval", settings=["cross"])

    def test_a_part_that_fails(self, tmp_path: Path) -> None:
        """The other part is saved; the whole is not, and mteb does not run the part behind our back."""
        save_hub(tmp_path / "data/tests/SecondRetrieval", {"default": instructions(small())})
        outcome = go(tmp_path, "WholeRetrieval")
        assert outcome.failures[0].task == "SecondRetrieval"
        assert all(isinstance(failure.error, HybridBenchError) for failure in outcome.failures)
        assert sorted(path.name for path in results(tmp_path).glob("*Retrieval.json")) == ["FirstRetrieval.json"]
        assert Counts.texts == 48


# -- tasks that are left to mteb -------------------------------------------------------------------------------------


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: type[Any]) -> None:
    """A benchmark of a classification, an STS task, and one that our engine scores; two are in English."""
    rng = np.random.default_rng(0)

    def text() -> str:
        return " ".join(rng.choice(WORDS, 5).tolist())

    pairs = [{"sentence1": text(), "sentence2": text(), "score": float(number % 6)} for number in range(30)]
    labelled = [{"text": f"{WORDS[number % 2]} {text()}", "label": number % 2} for number in range(40)]
    sts = save_configs(tmp_path / "sts", {"default": {"test": pairs}})
    classification = save_configs(tmp_path / "classification", {"default": {"train": labelled, "test": labelled}})
    made = [
        task_class(
            "TestSTS",
            sts,
            base=AbsTaskSTS,
            metadata={"type": "STS", "main_score": "cosine_spearman"},
            min_score=0,
            max_score=5,
        ),
        task_class(
            "TestClassification",
            classification,
            base=AbsTaskClassification,
            metadata={"type": "Classification", "main_score": "accuracy", "eval_langs": ["fra-Latn"]},
        ),
    ]
    for kind in made:
        monkeypatch.setitem(REGISTRY, kind.metadata.name, kind)
    tasks = [*(kind() for kind in made), one()]
    benchmark = Benchmark(name="Tests(mixed)", aliases=["mixed"], tasks=tasks, description="Made for a test.")
    monkeypatch.setattr(BENCHMARKS, "TESTS_MIXED", benchmark, raising=False)


@pytest.mark.usefixtures("others")
class TestLeftToMteb:
    def test_they_are_run_by_mteb_and_saved(self, tmp_path: Path) -> None:
        told = Told()
        assert go(tmp_path, "mixed", told=told).failures == []
        assert told == [
            f"{MODEL} on TestSTS: 1 subset, left to mteb, because it is not a retrieval task",
            f"{MODEL} on TestClassification: 1 subset, left to mteb, because it is not a retrieval task",
            f"{MODEL} on TestRetrieval: 1 subset",
        ]
        model = mteb.get_model(MODEL)
        for name in ("TestSTS", "TestClassification"):
            saved = TaskResult.from_disk(results(tmp_path) / f"{name}.json")
            plain = mteb.evaluate(model, mteb.get_task(name), cache=None, co2_tracker=False, show_progress_bar=False)
            assert saved.get_score() == pytest.approx(plain.task_results[0].get_score(), abs=1e-5)
            assert not table_path(results(tmp_path), name).exists()
        assert list(read_signatures(results(tmp_path))) == ["TestRetrieval"]

    def test_what_is_there_is_not_run_again(self, tmp_path: Path) -> None:
        """Nor is the model loaded to find that out."""
        go(tmp_path, "Tests(mixed)")
        before, told = bytes_of(results(tmp_path)), Told()
        go(tmp_path, "Tests(mixed)", told=told)
        assert bytes_of(results(tmp_path)) == before
        assert Counts.loaded == 1
        assert told == [f"{MODEL} on Test{name}: already there" for name in ("STS", "Classification", "Retrieval")]

    def test_languages_narrow_them_too(self) -> None:
        assert list(chosen("mixed", languages=["fr"])) == ["TestClassification"]
        assert list(chosen("mixed", languages=["en"])) == ["TestSTS", "TestRetrieval"]


# -- languages and settings ------------------------------------------------------------------------------------------


class TestLanguages:
    @pytest.mark.parametrize(
        ("name", "options", "subsets"),
        [
            ("XQuADRetrieval", {"languages": ["zh", "de"]}, ["de", "zh"]),
            ("XQuADRetrieval", {"settings": ["mono"], "languages": ["el"]}, ["el"]),
            ("MLQARetrieval", {"languages": ["de"]}, ["deu-deu"]),
            ("MLQARetrieval", {"languages": ["ar", "en"]}, ["ara-ara", "ara-eng", "eng-ara", "eng-eng"]),
            ("MLQARetrieval", {"languages": ["ar", "en"], "settings": ["cross"]}, ["ara-eng", "eng-ara"]),
            ("MLQARetrieval", {"languages": ["ar", "en"], "settings": ["mono"]}, ["ara-ara", "eng-eng"]),
            ("BelebeleRetrieval", {"languages": ["de"]}, ["deu_Latn-deu_Latn"]),
            (
                "BelebeleRetrieval",
                {"languages": ["de", "en"]},
                ["deu_Latn-deu_Latn", "deu_Latn-eng_Latn", "eng_Latn-deu_Latn", "eng_Latn-eng_Latn"],
            ),
            ("BelebeleRetrieval", {"languages": ["th"], "settings": ["mono"]}, ["tha_Thai-tha_Thai"]),
            ("CUREv1", {"languages": ["en"]}, ["en"]),
            ("CUREv1", {"languages": ["en", "es"], "settings": ["cross"]}, ["es"]),
        ],
    )
    def test_narrow_the_subsets(self, name: str, options: dict[str, Any], subsets: list[str]) -> None:
        found = chosen(name, **options)
        assert {task: sorted(each) for task, each in found.items()} == {name: subsets}

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("NFCorpus", {"languages": ["de"]}),
            ("NFCorpus", {"settings": ["cross"]}),
            ("NFCorpus", {"settings": ["multi"]}),
            ("XQuADRetrieval", {"languages": ["yo"]}),
            ("MLQARetrieval", {"languages": ["de"], "settings": ["cross"]}),
        ],
    )
    def test_nothing_is_left(self, name: str, options: dict[str, Any]) -> None:
        with pytest.raises(RequestError, match=f"nothing to run: no subset of {name} is in settings"):
            chosen(name, **options)

    def test_one_benchmark_in_one_language(self) -> None:
        assert set(chosen("MTEB(Multilingual, v2)", languages=["vi"], settings=["mono"])["BelebeleRetrieval"]) == {
            "vie_Latn-vie_Latn"
        }

    @pytest.mark.parametrize(
        ("name", "subset", "setting"),
        [
            ("NFCorpus", "default", Setting.MONOLINGUAL),
            ("AppsRetrieval", "default", Setting.MONOLINGUAL),  # its second language is Python
            ("XQuADRetrieval", "ro", Setting.MONOLINGUAL),
            ("MLQARetrieval", "eng-eng", Setting.MONOLINGUAL),
            ("MLQARetrieval", "eng-deu", Setting.CROSS_LINGUAL),
            ("BelebeleRetrieval", "swh_Latn-swh_Latn", Setting.MONOLINGUAL),
            ("BelebeleRetrieval", "arb_Arab-arb_Latn", Setting.MONOLINGUAL),
            ("BelebeleRetrieval", "eng_Latn-swh_Latn", Setting.CROSS_LINGUAL),
            ("XPQARetrieval", "ita-eng", Setting.CROSS_LINGUAL),
            ("MKQARetrieval", "no", Setting.MONOLINGUAL),  # three tags for Norwegian
            ("CUREv1", "en", Setting.MONOLINGUAL),
            ("CUREv1", "es", Setting.CROSS_LINGUAL),
        ],
    )
    def test_the_setting_of_a_subset(self, name: str, subset: str, setting: Setting) -> None:
        task: Any = mteb.get_task(name)
        assert exact(task).setting_of(subset) is setting

    @pytest.mark.parametrize(
        ("name", "subset", "languages"),
        [
            ("NFCorpus", "default", ("en", "en")),
            ("XQuADRetrieval", "ro", ("ro", "ro")),
            ("MLQARetrieval", "zho-eng", ("en", "zh")),
            ("XPQARetrieval", "cmn-eng", ("en", "zh")),
            ("XPQARetrieval", "ita-eng", ("en", "it")),
            ("BelebeleRetrieval", "zho_Hans-eng_Latn", ("en", "zh")),
            ("CUREv1", "es", ("es", "en")),
        ],
    )
    def test_of_queries_and_of_documents(self, name: str, subset: str, languages: tuple[str, str]) -> None:
        """mteb's pairs name the documents' language first, as the lengths in its descriptive statistics show.

        In MLQARetrieval queries have 15 characters in zho-zho and 49 in zho-eng, in XPQARetrieval 12 in cmn-cmn and 41
        in cmn-eng; documents have as many in both. BelebeleRetrieval's own code says so.
        """
        assert subset_languages(mteb.get_task(name).metadata, subset) == languages


def test_the_language_of_a_beir_folder_is_part_of_its_data(tmp_path: Path) -> None:
    """BM25 goes by it: a result with one language is none for another."""
    folder = save_beir(tmp_path)
    hashes = {language: exact(beir_task(folder, language)).data_sha256()["data"] for language in (None, "de", "en")}
    assert len(set(hashes.values())) == 3
