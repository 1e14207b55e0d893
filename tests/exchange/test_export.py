from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import datasets
import numpy as np
import pytest
import pytrec_eval
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from helpers import task_of
from hybrid_bench.data.beir import beir_task, read_beir, write_beir
from hybrid_bench.engine.lexical import subset_languages
from hybrid_bench.errors import DataError, ModelError, RequestError
from hybrid_bench.evaluation.foreign import exact
from hybrid_bench.exchange.export import Results, export_beir, export_trec, write_qrels, write_trec_run
from hybrid_bench.languages import Setting

CORPUS = {"id": ["d1", "d2", "d3"], "title": ["", "two", ""], "text": ["first", "second", "third"]}
QUERIES = {"id": ["q1", "q2"], "text": ["what", "where"]}
QRELS = {"q1": {"d1": 2, "d3": 0}, "q2": {"d2": 1}}


@pytest.fixture(autouse=True)
def cache_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache of datasets")


def small_task(folder: Path, **splits: Mapping[str, Mapping[str, int]]) -> Any:
    """A real mteb task of one subset, with these judgments by split."""
    write_beir(folder, Dataset.from_dict(CORPUS), Dataset.from_dict(QUERIES), splits or {"test": QRELS})
    return beir_task(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_run(path: Path) -> dict[str, dict[str, float]]:
    with path.open(encoding="utf-8") as file:
        return pytrec_eval.parse_run(file)


# -- BEIR ---------------------------------------------------------------------------------------------------------


def test_our_tasks_have_a_folder_for_every_subset(tmp_path: Path) -> None:
    told: list[str] = []
    tasks = [task_of("HybridDemo-Pairs", ["de-en", "en-en"]), task_of("HybridDemo-Multilingual", ["de"])]
    folders = export_beir(tasks, tmp_path / "out", told.append)
    names = [folder.relative_to(tmp_path / "out").as_posix() for folder in folders]
    assert names == ["HybridDemo-Pairs/de-en", "HybridDemo-Pairs/en-en", "HybridDemo-Multilingual/de"]
    assert [line.split(" in ")[0] for line in told if "folder" in line] == [
        "HybridDemo-Pairs: 2 folders",
        "HybridDemo-Multilingual: 1 folder",
    ]
    assert not any(task.data_loaded for task in tasks)
    collection = tasks[0].read_collection()
    pair, pool = read_beir(folders[0]), read_beir(folders[2])
    assert dict(zip(pair.corpus["id"], pair.corpus["text"], strict=True)) == dict(
        zip(collection.passages["en"].ids, collection.passages["en"].texts, strict=True)
    )
    assert len(pool.corpus) == sum(len(passages) for passages in collection.passages.values())
    assert {len(relevant) for relevant in pool.qrels["test"].values()} == {len(collection.passages)}
    assert (pair.notes, pool.notes) == ((), ())


def test_a_task_without_subsets_has_one_folder_and_comes_out_as_it_went_in(tmp_path: Path) -> None:
    task = small_task(tmp_path / "small")
    assert export_beir([task], tmp_path / "out") == [tmp_path / "out" / "beir-small"]
    assert contents(tmp_path / "out" / "beir-small") == contents(tmp_path / "small")


def test_data_that_were_loaded_stay(tmp_path: Path) -> None:
    task = small_task(tmp_path / "small")
    task.load_data()
    export_beir([task], tmp_path / "out")
    assert task.data_loaded


def test_splits_share_a_folder(tmp_path: Path) -> None:
    splits = {"dev": {"q1": {"d1": 1}}, "train": {"q2": {"d2": 1}}}
    (folder,) = export_beir([small_task(tmp_path / "small", **splits)], tmp_path / "out")
    data = read_beir(folder)
    assert data.qrels == splits
    assert sorted(data.queries["id"]) == ["q1", "q2"]


@pytest.mark.parametrize("part", ["corpus", "corpus of another size", "queries"])
def test_splits_that_differ_have_folders_of_their_own(tmp_path: Path, part: str) -> None:
    task = small_task(tmp_path / "small", dev=QRELS, train=QRELS)
    task.load_data()
    train = task.dataset["default"]["train"]
    if part == "queries":
        train["queries"] = Dataset.from_dict({"id": ["q1", "q2"], "text": ["what", "WHERE"]})
    elif part == "corpus":
        train["corpus"] = Dataset.from_dict(CORPUS | {"text": ["first", "second", "THIRD"]})
    else:
        train["corpus"] = train["corpus"].select([0, 1])
    folders = export_beir([task], tmp_path / "out")
    assert [folder.name for folder in folders] == ["dev", "train"]
    assert [list(read_beir(folder).qrels) for folder in folders] == [["dev"], ["train"]]


def test_the_older_layout_of_mteb(tmp_path: Path) -> None:
    class OldTask(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="OldTask",
            description="Laid out as mteb's tasks were before version 2.",
            dataset={"path": "none", "revision": "1"},
            type="Retrieval",
            category="t2t",
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            self.corpus = {"test": {"d1": {"title": "t", "text": "a"}, "d2": {"text": "b"}}}
            self.queries = {"test": {"q1": "c"}}
            self.relevant_docs = {"test": {"q1": {"d2": 1}}}
            self.data_loaded = True

    (folder,) = export_beir([OldTask()], tmp_path / "out")
    data = read_beir(folder)
    assert list(data.corpus) == [{"id": "d1", "title": "t", "text": "a"}, {"id": "d2", "title": "", "text": "b"}]
    assert (list(data.queries), data.qrels) == ([{"id": "q1", "text": "c"}], {"test": {"q1": {"d2": 1}}})


def test_judgments_of_queries_that_are_not_asked_are_left_out_and_told(tmp_path: Path) -> None:
    task = small_task(tmp_path / "small")
    task.load_data()
    task.dataset["default"]["test"]["relevant_docs"] |= {"q8": {"d1": 1}, "q9": {"d1": 1}}
    told: list[str] = []
    (folder,) = export_beir([task], tmp_path / "out", told.append)
    assert read_beir(folder).qrels == {"test": QRELS}
    assert told[0] == "beir-small (test): judgments of 2 queries that are not asked are left out"


def test_what_is_there_is_overwritten_only_if_asked(tmp_path: Path) -> None:
    task = small_task(tmp_path / "small")
    (folder,) = export_beir([task], tmp_path / "out")
    export_beir([task], tmp_path / "out")  # the same again
    (folder / "queries.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(RequestError, match="holds something else already"):
        export_beir([task], tmp_path / "out")
    export_beir([task], tmp_path / "out", overwrite=True)
    assert contents(folder) == contents(tmp_path / "small")


def shared(task: Any, data: Any) -> None:
    data["queries"] = Dataset.from_dict({"id": ["q1", "d2"], "text": ["a", "b"]})
    data["relevant_docs"] = {"q1": {"d1": 1}}
    task.ignore_identical_ids = False


def candidates(task: Any, data: Any) -> None:
    data["top_ranked"] = {"q1": ["d1", "d2"]}


def instructions(task: Any, data: Any) -> None:
    data["queries"] = data["queries"].add_column("instruction", ["do", "do not"])


def first_result(task: Any, data: Any) -> None:
    task.skip_first_result = True


def pictures(task: Any, data: Any) -> None:
    data["corpus"] = data["corpus"].remove_columns(["text", "title"]).add_column("image", [1, 2, 3])


def conversations(task: Any, data: Any) -> None:
    data["queries"] = Dataset.from_dict({"id": ["q1"], "text": [["hello", "and?"]]})


def nothing(task: Any, data: Any) -> None:
    data["relevant_docs"] = {"q1": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shared, r"beir-small \(test\) has 1 ids that a query and a document share, e.g. 'd2': beir would leave"),
        (candidates, r"ranks a list of candidates for every query"),
        (instructions, r"has an instruction with every query"),
        (first_result, r"does not count the first result of a query"),
        (pictures, r"has no plain text in its corpus \(columns id, image\)"),
        (conversations, r"has no plain text in its queries \(columns id, text\)"),
        (nothing, r"has no judged query"),
    ],
)
def test_tasks_that_beir_would_evaluate_otherwise(tmp_path: Path, change: Any, message: str) -> None:
    task = small_task(tmp_path / "small")
    task.load_data()
    change(task, task.dataset["default"]["test"])
    with pytest.raises(DataError, match=message):
        export_beir([task], tmp_path / "out")
    assert contents(tmp_path / "out") == {}


def test_a_task_that_leaves_out_shared_ids_itself_is_written(tmp_path: Path) -> None:
    task = small_task(tmp_path / "small")
    task.load_data()
    shared(task, task.dataset["default"]["test"])
    task.ignore_identical_ids = True
    (folder,) = export_beir([task], tmp_path / "out")
    assert "1 document has the id of a query (first: 'd2')" in read_beir(folder).notes[0]


# -- TREC ---------------------------------------------------------------------------------------------------------


def test_a_run_as_it_stands(tmp_path: Path) -> None:
    results = {"q2": {"d1": 0.5, "d2": 1.5, "d10": 0.5, "d9": -2.0}, "q1": {"é": 0.1}, "q3": {}}
    write_trec_run(tmp_path / "new" / "a.run", results, "my model")
    assert (tmp_path / "new" / "a.run").read_text(encoding="utf-8").splitlines() == [
        "q2 Q0 d2 1 1.5 my%20model",
        "q2 Q0 d10 2 0.5 my%20model",
        "q2 Q0 d1 3 0.5 my%20model",
        "q2 Q0 d9 4 -2 my%20model",
        "q1 Q0 é 1 0.100000001 my%20model",
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.run"]


def test_judgments_as_they_stand(tmp_path: Path) -> None:
    write_qrels(tmp_path / "a.qrels", {"q 1": {"d%1": 2, "d2": 0}, "q2": {"d1": -1}})
    assert (tmp_path / "a.qrels").read_text(encoding="utf-8") == "q%201 0 d%251 2\nq%201 0 d2 0\nq2 0 d1 -1\n"


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, unique=True),
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
)
@settings(max_examples=200, deadline=None)
def test_scores_and_ids_survive(tmp_path_factory: pytest.TempPathFactory, scores: list[float], name: str) -> None:
    """Every float32 is read back as itself, in order; every id can be decoded, and holds no white space."""
    path = tmp_path_factory.mktemp("trec") / "a.run"
    written = {f"{name}{place}": score for place, score in enumerate(scores)}
    write_trec_run(path, {name: written}, "tag")
    (found,) = read_run(path).values()
    assert {unquote(text_id): np.float32(score) for text_id, score in found.items()} == {
        text_id: np.float32(score) for text_id, score in written.items()
    }
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_scores_are_compared_as_float32(tmp_path: Path) -> None:
    """Two scores that differ as float64 only are a tie, which the ids decide, as in trec_eval."""
    write_trec_run(tmp_path / "a.run", {"q": {"d1": 0.1 + 1e-12, "d2": 0.1}}, "tag")
    assert list(read_run(tmp_path / "a.run")["q"]) == ["d2", "d1"]


@pytest.mark.parametrize("white", [" ", "\t", "\n", "\u00a0", "\u2003", "\x85", "%"])
def test_white_space_in_ids(tmp_path: Path, white: str) -> None:
    write_trec_run(tmp_path / "a.run", {f"q{white}1": {f"d{white}1": 1.0}}, "tag")
    ((query, documents),) = read_run(tmp_path / "a.run").items()
    assert (unquote(query), unquote(*documents)) == (f"q{white}1", f"d{white}1")


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1e39])
def test_scores_that_are_no_numbers(tmp_path: Path, score: float) -> None:
    with pytest.raises(ModelError, match=r"a score of query 'q1' is (nan|inf): scores must be finite numbers"):
        write_trec_run(tmp_path / "a.run", {"q1": {"d1": 1.0, "d2": score}}, "tag")
    assert list(tmp_path.iterdir()) == []


def test_empty_ids(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an id is empty: TREC files cannot hold it"):
        write_trec_run(tmp_path / "a.run", {"q1": {"": 1.0}}, "tag")
    with pytest.raises(DataError, match="an id is empty"):
        write_qrels(tmp_path / "a.qrels", {"": {"d1": 1}})
    with pytest.raises(DataError, match="an id is empty"):
        write_trec_run(tmp_path / "a.run", {"q1": {"d1": 1.0}}, "")


def test_a_file_is_overwritten_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.qrels"
    write_qrels(path, {"q1": {"d1": 1}})
    write_qrels(path, {"q1": {"d1": 1}})
    for other in ({"q1": {"d1": 2}}, {"q1": {"d1": 10}}):  # of the same size, and of another
        with pytest.raises(RequestError, match=r"a.qrels holds something else already"):
            write_qrels(path, other)
    assert path.read_text(encoding="utf-8") == "q1 0 d1 1\n"
    write_qrels(path, {"q1": {"d1": 2}}, overwrite=True)
    assert path.read_text(encoding="utf-8") == "q1 0 d1 2\n"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*a.qrels"):
        write_qrels(tmp_path / "file" / "a.qrels", {"q1": {"d1": 1}})


def by_number(task: Any, subset: str, split: str, k: int) -> Results:
    """The last documents of the corpus first, for every query, and for one that is not judged."""
    data = task.dataset[subset][split]
    documents = data["corpus"]["id"][:]
    found = {document: float(place) for place, document in list(enumerate(documents))[-k:]}
    return dict.fromkeys([*data["queries"]["id"], "nobody asked"], found)


def test_runs_and_judgments_of_our_tasks(tmp_path: Path) -> None:
    task = task_of("HybridDemo-Pairs", ["de-en", "en-en"])
    told: list[str] = []
    files = export_trec(by_number, [task], tmp_path / "out", told.append, k=3, run="org/model")
    assert [file.name for file in files] == [
        "HybridDemo-Pairs.de-en.org__model.run",
        "HybridDemo-Pairs.de-en.qrels",
        "HybridDemo-Pairs.en-en.org__model.run",
        "HybridDemo-Pairs.en-en.qrels",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(file.name for file in files)
    collection = task.read_collection()
    run = read_run(files[0])
    assert set(run) == set(collection.queries["de"].ids)
    assert {len(found) for found in run.values()} == {3}
    with files[1].open(encoding="utf-8") as file:
        qrels = pytrec_eval.parse_qrel(file)
    assert set(qrels) == set(run)
    assert {next(iter(relevant)) for relevant in qrels.values()} <= set(collection.passages["en"].ids)
    assert not task.data_loaded
    assert not any("percent" in line for line in told)


def test_names_of_files_of_a_task_with_splits_and_no_subsets(tmp_path: Path) -> None:
    one, two = small_task(tmp_path / "one"), small_task(tmp_path / "two", dev=QRELS, train=QRELS)
    files = export_trec(by_number, [one, two], tmp_path / "out", k=2, run="m")
    assert [file.name for file in files] == [
        "beir-one.m.run",
        "beir-one.qrels",
        "beir-two.dev.m.run",
        "beir-two.dev.qrels",
        "beir-two.train.m.run",
        "beir-two.train.qrels",
    ]
    assert read_run(files[0]) == {query: {"d3": 2.0, "d2": 1.0} for query in ("q1", "q2")}


def test_escaped_ids_are_told_once(tmp_path: Path) -> None:
    corpus = Dataset.from_dict({"id": ["d 1", "d2"], "text": ["a", "b"]})
    queries = Dataset.from_dict({"id": ["q1"], "text": ["a"]})
    for name in ("one", "two"):
        write_beir(tmp_path / name, corpus, queries, {"test": {"q1": {"d2": 1}}})
    told: list[str] = []
    tasks = [beir_task(tmp_path / "one"), beir_task(tmp_path / "two")]
    files = export_trec(by_number, tasks, tmp_path / "out", told.append, k=5, run="m")
    assert list(read_run(files[0])["q1"]) == ["d2", "d%201"]
    assert [line for line in told if "percent-encoded" in line] == [
        "TREC files cannot hold white space in ids: it and '%' are percent-encoded, as in 'd%201' for 'd 1'"
    ]


def test_a_run_leaves_out_what_the_task_leaves_out(tmp_path: Path) -> None:
    task = small_task(tmp_path / "small")
    task.load_data()
    data = task.dataset["default"]["test"]
    data["queries"] = Dataset.from_dict({"id": ["d3"], "text": ["a"]})
    data["relevant_docs"] = {"d3": {"d1": 1}}
    run, _ = export_trec(by_number, [task], tmp_path / "left out", k=3, run="m")
    assert list(read_run(run)["d3"]) == ["d2", "d1"]
    task.ignore_identical_ids = False
    run, _ = export_trec(by_number, [task], tmp_path / "counted", k=3, run="m")
    assert list(read_run(run)["d3"]) == ["d3", "d2", "d1"]


def test_no_documents_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="0 documents of each query cannot be written: give at least 1"):
        export_trec(by_number, [small_task(tmp_path / "small")], tmp_path / "out", k=0, run="m")


def test_both_languages_of_a_pair_come_back(tmp_path: Path) -> None:
    tasks = [task_of("HybridDemo-Pairs", ["ar-de", "de-de"]), task_of("HybridDemo-Multilingual", ["ar"])]
    pair, alone, pool = map(beir_task, export_beir(tasks, tmp_path))
    assert pair.metadata.eval_langs == ["arb-Arab", "deu-Latn"]
    assert subset_languages(pair.metadata, "default") == ("ar", "de")
    assert exact(pair).setting_of("default") is Setting.CROSS_LINGUAL
    assert alone.metadata.eval_langs == ["deu-Latn"]
    assert pool.metadata.eval_langs == ["und-Zyyy"]  # a pool of all languages is in none
    assert beir_task(tmp_path / "HybridDemo-Pairs" / "ar-de", "el").metadata.eval_langs == ["ell-Grek"]
