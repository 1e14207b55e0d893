from __future__ import annotations

import csv
import gzip
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import mteb
import pytest
from datasets import Dataset

from helpers import WordCounts
from hybrid_bench.data import beir, files
from hybrid_bench.data.beir import beir_task, file_name, parse_beir, read_beir, shared_ids, write_beir
from hybrid_bench.data.files import lines as lines_of
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.evaluation.foreign import exact

CORPUS = (
    {"_id": "d1", "title": "Red fox", "text": "an animal", "metadata": {"url": "x"}},
    {"_id": "d2", "text": "jumps"},
    {"_id": "d3", "title": "", "text": "red fox jumps", "metadata": {"pages": [1, 2]}},
    {"_id": "d4", "title": None, "text": ""},
)
QUERIES = ({"_id": "q1", "text": "red fox jumps"}, {"_id": "q2", "text": "animal", "metadata": {}})
HEADER = "query-id\tcorpus-id\tscore\n"
QRELS = HEADER + "q1\td1\t2\nq1\td2\t1\nq1\td4\t0\n"


@pytest.fixture(autouse=True)
def cache_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `datasets` keeps corpora during a test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache of datasets")
    return tmp_path / "cache of datasets"


def lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make(
    folder: Path,
    corpus: Sequence[Mapping[str, Any]] | str = CORPUS,
    queries: Sequence[Mapping[str, Any]] | str = QUERIES,
    **qrels: str,
) -> Path:
    """A folder with these files; a string is a file's content as it stands."""
    (folder / "qrels").mkdir(parents=True)
    for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        (folder / name).write_text(content if isinstance(content, str) else lines(content), encoding="utf-8")
    for split, table in (qrels or {"test": QRELS}).items():
        (folder / "qrels" / f"{split}.tsv").write_text(table, encoding="utf-8")
    return folder


def rows_of(data: Dataset) -> list[dict[str, Any]]:
    return list(data)


# -- reading ------------------------------------------------------------------------------------------------------


def test_a_folder_with_titles_grades_and_metadata(tmp_path: Path) -> None:
    data = read_beir(make(tmp_path / "animals"))
    assert data.name == "animals"
    assert rows_of(data.corpus) == [
        {"id": "d1", "title": "Red fox", "text": "an animal"},
        {"id": "d2", "title": "", "text": "jumps"},
        {"id": "d3", "title": "", "text": "red fox jumps"},
        {"id": "d4", "title": "", "text": ""},
    ]
    assert rows_of(data.queries) == [{"id": "q1", "text": "red fox jumps"}, {"id": "q2", "text": "animal"}]
    assert data.qrels == {"test": {"q1": {"d1": 2, "d2": 1, "d4": 0}}}
    assert data.notes == ()


def test_the_corpus_is_mapped_from_the_cache_and_parsed_once(
    tmp_path: Path, cache_of_datasets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path / "animals")
    first = read_beir(folder)
    (file,) = first.corpus.cache_files
    assert Path(file["filename"]).is_relative_to(cache_of_datasets)
    read: list[Path] = []

    def noted(path: Path) -> Iterator[tuple[int, str]]:
        read.append(path)
        return lines_of(path)

    for module in (files, beir):
        monkeypatch.setattr(module, "lines", noted)
    again = read_beir(folder)
    assert rows_of(again.corpus) == rows_of(first.corpus)
    assert [path.name for path in read] == ["queries.jsonl", "test.tsv"]


def test_a_changed_corpus_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    folder = make(tmp_path / "animals")
    before = read_beir(folder)
    state = (folder / "corpus.jsonl").stat()
    (folder / "corpus.jsonl").write_text(lines(CORPUS).replace("an animal", "AN ANIMAL"), encoding="utf-8")
    os.utime(folder / "corpus.jsonl", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    after = read_beir(folder)
    assert after.corpus[0]["text"] == "AN ANIMAL"
    assert after.sha256 != before.sha256


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/dev.tsv"])
def test_the_hash_depends_on_every_file_and_not_on_the_place(tmp_path: Path, file: str) -> None:
    folders = [make(tmp_path / name / "animals", test=QRELS, dev=QRELS) for name in ("a", "b", "c")]
    with (folders[2] / file).open("a", encoding="utf-8") as changed:
        changed.write("\n")  # a blank line is another file, though it says the same
    a, b, c = (read_beir(folder, ["test"]).sha256 for folder in folders)
    assert a == b != c


def test_a_folder_in_which_no_document_has_a_title(tmp_path: Path) -> None:
    corpus = [{"_id": "d1", "title": "", "text": "a"}, {"_id": "d2", "text": "b"}]
    data = read_beir(make(tmp_path / "plain", corpus, test="q1\td1\t1\n"))
    assert rows_of(data.corpus) == [{"id": "d1", "text": "a"}, {"id": "d2", "text": "b"}]


def test_packed_files(tmp_path: Path) -> None:
    plain, packed = make(tmp_path / "plain"), make(tmp_path / "packed")
    for name in ("corpus.jsonl", "queries.jsonl"):
        (packed / f"{name}.gz").write_bytes(gzip.compress((packed / name).read_bytes()))
        (packed / name).unlink()
    expected, found = read_beir(plain), read_beir(packed)
    assert rows_of(found.corpus) == rows_of(expected.corpus)
    assert rows_of(found.queries) == rows_of(expected.queries)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param("q1\td1\t2\nq1\td2\t1\n", id="no header"),
        pytest.param("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\n", id="header"),
        pytest.param("\ufeffqid\tpid\trel\r\nq1\td1\t2\r\nq1\td2\t1\r\n", id="another header, Windows"),
        pytest.param("q1\td1\t2\n\nq1\td2\t1\nq1\td1\t2", id="blank line, repeated line, no last line feed"),
    ],
)
def test_forms_of_qrels(tmp_path: Path, table: str) -> None:
    assert read_beir(make(tmp_path / "animals", test=table)).qrels == {"test": {"q1": {"d1": 2, "d2": 1}}}


def test_splits_stand_in_the_usual_order(tmp_path: Path) -> None:
    one, two = "q1\td1\t1\n", "q2\td1\t1\n"
    folder = make(tmp_path / "animals", train=one, zulu=one, alpha=one, test=two, dev=one)
    (folder / "qrels" / "._test.tsv").write_bytes(b"\x00\x05")  # what some systems leave beside files
    data = read_beir(folder)
    assert list(data.qrels) == ["test", "dev", "train", "alpha", "zulu"]
    assert data.qrels["test"] == {"q2": {"d1": 1}}
    assert list(read_beir(folder, ["dev"]).qrels) == ["dev"]


def test_integer_ids_are_their_digits(tmp_path: Path) -> None:
    folder = make(tmp_path / "n", [{"_id": 7, "text": "a"}], [{"_id": 12, "text": "b"}], test="12\t7\t1\n")
    data = read_beir(folder)
    assert (data.corpus["id"][0], data.queries["id"][0], data.qrels) == ("7", "12", {"test": {"12": {"7": 1}}})


def test_judged_documents_that_are_not_in_the_corpus_are_kept_and_told(tmp_path: Path) -> None:
    table = "q1\td1\t1\nq1\tgone\t1\nq2\tgone\t1\nq2\tlost\t0\n"
    data = read_beir(make(tmp_path / "animals", test=table, dev="q1\td1\t1\n"))
    assert data.qrels["test"] == {"q1": {"d1": 1, "gone": 1}, "q2": {"gone": 1, "lost": 0}}
    assert data.notes == ("test: 2 judged documents are not in the corpus (first: 'gone'); counted as not retrieved",)


def test_what_else_is_told(tmp_path: Path) -> None:
    queries: list[Mapping[str, Any]] = [*QUERIES, {"_id": "d2", "text": "jumps"}]
    data = read_beir(make(tmp_path / "animals", queries=queries, test="q1\td1\t0\nd2\td2\t1\n"))
    assert data.notes == (
        "1 document has the id of a query (first: 'd2'): as in beir's evaluation, a document does not count for the "
        "query of the same id",
        "test: 1 query has no relevant document (first: 'q1')",
    )


# -- what is wrong with a folder ----------------------------------------------------------------------------------

ID, ODD = '{"_id": "d1", "text": "a"}\n', "\\ud800"
WRONG_LINES = {
    "cut off": ('{"_id": "d1", "te', "corpus.jsonl:1: not JSON (Unterminated string"),
    "no id": ('{"id": "d1", "text": "a"}', "corpus.jsonl:1: '_id' is missing, found only 'id', 'text'"),
    "no text": (f'{ID}{{"_id": "d2", "title": "t"}}', "corpus.jsonl:2: 'text' is missing, found only '_id', 'title'"),
    "null text": ('{"_id": "d1", "text": null}', "corpus.jsonl:1: 'text' should be a string, found null"),
    "id of a kind": ('{"_id": 1.5, "text": "a"}', "corpus.jsonl:1: '_id' should be a string, found 1.5"),
    "truth as an id": ('{"_id": true, "text": "a"}', "corpus.jsonl:1: '_id' should be a string, found true"),
    "title of a kind": (
        '{"_id": "d1", "title": 3, "text": "a"}',
        "corpus.jsonl:1: 'title' should be a string, found 3",
    ),
    "empty id": ('{"_id": "", "text": "a"}', "corpus.jsonl:1: '_id' \"\" is empty"),
    "tab in an id": ('{"_id": "d\\t1", "text": "a"}', "corpus.jsonl:1: '_id' \"d\\t1\" has a tab or a line break"),
    "the same id": (f'{ID}\n{{"_id": "d1", "text": "b"}}', "corpus.jsonl:3: '_id' \"d1\" stands in line 1 already"),
    "number and digits": (
        '{"_id": 1, "text": "a"}\n{"_id": "1", "text": "b"}',
        "corpus.jsonl:2: '_id' \"1\" stands in line 1 already",
    ),
    "half a character": (f'{{"_id": "d1", "text": "a{ODD}"}}', "corpus.jsonl:1: 'text' has half a surrogate pair"),
    "nothing": ("\n \n", "corpus.jsonl is empty: it should hold one object"),
}


@pytest.mark.parametrize("case", WRONG_LINES)
def test_wrong_lines_of_a_corpus(tmp_path: Path, case: str) -> None:
    content, message = WRONG_LINES[case]
    with pytest.raises(DataError) as caught:
        read_beir(make(tmp_path / "animals", content))
    assert str(caught.value).startswith(f"{tmp_path / 'animals'}{os.sep}{message}")


@pytest.mark.parametrize("case", [case for case in WRONG_LINES if "title" not in case])
def test_wrong_lines_of_queries(tmp_path: Path, case: str) -> None:
    content, message = WRONG_LINES[case]
    with pytest.raises(DataError) as caught:
        read_beir(make(tmp_path / "animals", queries=content))
    assert str(caught.value).startswith(f"{tmp_path / 'animals'}{os.sep}{message.replace('corpus', 'queries')}")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("q1\td1\n", "test.tsv:1: 2 columns instead of three, query-id, corpus-id and score: columns are separated"),
        ("q1 d1 1\n", "test.tsv:1: 1 column instead of three"),
        (
            "q1\td1\t1\nq1 0 d1 1\n",
            "test.tsv:2: 1 column instead of three, query-id, corpus-id and score: TREC's second",
        ),
        (
            "q1\t0\td1\t1\n",
            "test.tsv:1: 4 columns instead of three, query-id, corpus-id and score: TREC's second column",
        ),
        (f"{HEADER}q1\td1\t1.0\n", 'test.tsv:2: score "1.0" is not an integer'),
        ("q9\td1\t0.5\n", 'test.tsv:1: score "0.5" is not an integer'),
        ("q1\td1\tyes\n", 'test.tsv:1: score "yes" is not an integer'),
        (f"{HEADER}{HEADER}", 'test.tsv:2: score "score" is not an integer'),
        (f"q1\td1\t{2**31}\n", "test.tsv:1: score 2147483648 does not fit into 32 bits"),
        (f"{HEADER}q1\td1\t1\nq9\td1\t1\n", 'test.tsv:3: queries.jsonl has no query "q9"'),
        ("q1\t\t1\n", "test.tsv:1: the corpus-id is empty"),
        ("q1\td1\t1\nq1\td1\t2\n", 'test.tsv:2: document "d1" has score 2 for query "q1", but 1 before'),
        ('q1\t"d1\t1\nq1\td2\t1\n', "test.tsv:1: quotes are not closed"),
        (HEADER, "test.tsv holds no judgment"),
        ("", "test.tsv holds no judgment"),
    ],
)
def test_wrong_qrels(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_beir(make(tmp_path / "animals", test=table))
    assert str(caught.value).startswith(f"{tmp_path / 'animals' / 'qrels'}{os.sep}{message}")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not a folder: give one that holds corpus.jsonl"):
        read_beir(tmp_path / "nowhere")


def test_a_folder_without_a_corpus_tells_what_is_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "animals")
    (folder / "corpus.jsonl").rename(folder / "passages.jsonl")
    with pytest.raises(
        DataError, match=r"has no corpus.jsonl \(or corpus.jsonl.gz\): it holds passages.jsonl, qrels/, q"
    ):
        read_beir(folder)


def test_a_folder_of_folders_names_one(tmp_path: Path) -> None:
    make(tmp_path / "cqadupstack" / "android")
    with pytest.raises(DataError, match=r"it holds android/; its folder android has one: give .*android$"):
        read_beir(tmp_path / "cqadupstack")


def test_a_folder_without_judgments_tells_what_is_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "animals")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "test.txt")
    with pytest.raises(
        DataError,
        match=r"has no qrels/<split>.tsv: it holds corpus.jsonl, qrels/, queries.jsonl; qrels/ holds test.txt",
    ):
        read_beir(folder)
    (folder / "qrels" / "test.txt").unlink()
    with pytest.raises(DataError, match="qrels/ is empty"):
        read_beir(folder)
    (folder / "qrels").rmdir()
    with pytest.raises(DataError, match=r"has no qrels/<split>.tsv: it holds corpus.jsonl, queries.jsonl$"):
        beir_task(folder)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no qrels/dev.tsv: its splits are test, train"):
        read_beir(make(tmp_path / "animals", train="q1\td1\t1\n", test=QRELS), ["dev"])


def test_packed_and_unpacked_side_by_side(tmp_path: Path) -> None:
    folder = make(tmp_path / "animals")
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=r"holds both corpus.jsonl and corpus.jsonl.gz: remove one of them"):
        read_beir(folder)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "below")
    with pytest.raises(DataError, match=r"cannot keep .*corpus.jsonl in the cache of `datasets` .*HF_DATASETS_CACHE"):
        read_beir(make(tmp_path / "animals"))


# -- writing ------------------------------------------------------------------------------------------------------

ODD_IDS = ["a b", "c/d", '"', '"e', 'f"g"', "'h'", "%20", "ü\u2028中", " i", "-j", "q\\n", "{k}"]


def tables(ids: Sequence[str] = ("d1", "d2"), title: str | None = None) -> tuple[Dataset, Dataset]:
    corpus = {"id": list(ids), "text": [f"text of {text_id}" for text_id in ids]}
    if title is not None:
        corpus["title"] = [title] * len(ids)
    queries = {"id": [f"?{text_id}" for text_id in ids], "text": [f"which {text_id}" for text_id in ids]}
    return Dataset.from_dict(corpus), Dataset.from_dict(queries)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    corpus, queries = tables(ODD_IDS, "a\ttitle")
    qrels = {"test": {f"?{text_id}": {text_id: place} for place, text_id in enumerate(ODD_IDS)}}
    qrels["dev"] = {"?a b": {"c/d": -1, "not there": 2}}
    write_beir(tmp_path / "new" / "odd", corpus, queries, qrels)
    data = read_beir(tmp_path / "new" / "odd")
    assert rows_of(data.corpus.select_columns(["id", "text", "title"])) == rows_of(corpus)
    assert rows_of(data.queries) == rows_of(queries)
    assert data.qrels == qrels
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["odd"]  # nothing is left beside


def test_the_files_as_they_stand(tmp_path: Path) -> None:
    corpus, queries = tables(["ü"])
    write_beir(tmp_path / "x", corpus, queries, {"test": {"?ü": {"ü": 3}}})
    files = {
        path.relative_to(tmp_path / "x").as_posix(): path for path in (tmp_path / "x").rglob("*") if path.is_file()
    }
    assert {name: path.read_bytes().decode() for name, path in files.items()} == {
        "corpus.jsonl": '{"_id": "ü", "title": "", "text": "text of ü", "metadata": {}}\n',
        "queries.jsonl": '{"_id": "?ü", "text": "which ü", "metadata": {}}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\n?ü\tü\t3\n",
    }
    mode = (tmp_path / "x").stat().st_mode
    (tmp_path / "made as usual").mkdir()
    assert mode == (tmp_path / "made as usual").stat().st_mode


def test_selections_and_formats_of_datasets(tmp_path: Path) -> None:
    corpus, queries = tables(["d1", "d2", "d3"])
    corpus = corpus.select([2, 0]).with_format("numpy")
    write_beir(tmp_path / "x", corpus, queries, {"test": {"?d1": {"d3": 1}}})
    assert read_beir(tmp_path / "x").corpus["id"][:] == ["d3", "d1"]


@pytest.mark.parametrize(
    ("text_id", "fault"),
    [
        ("a\tb", r"\"a\\tb\" of a .* has a tab or a line break"),
        ("a\nb", "line break"),
        ("a\rb", "line break"),
        ("", "empty"),
    ],
)
@pytest.mark.parametrize("what", ["document", "query", "judged document"])
def test_ids_that_qrels_cannot_hold(tmp_path: Path, text_id: str, fault: str, what: str) -> None:
    corpus = tables(["d1", text_id] if what == "document" else ["d1"])[0]
    asked = ["q1", text_id] if what == "query" else ["q1"]
    queries = Dataset.from_dict({"id": asked, "text": asked})
    qrels = {"test": {"q1": {text_id if what == "judged document" else "d1": 1}}}
    with pytest.raises(DataError, match=fault):
        write_beir(tmp_path / "x", corpus, queries, qrels)
    assert list(tmp_path.glob("x*")) == []


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"id": ["a", "b", "a"], "text": ["", "", ""]}, 'the id "a" stands for two of the 3 rows of corpus.jsonl'),
        ({"id": ["a"], "text": [None]}, 'the text of document "a" should be a string, found null'),
        ({"id": ["a"], "text": [["u", "v"]]}, r'the text of document "a" should be a string, found \["u", "v"\]'),
        ({"id": ["a"], "image": [1]}, "a document has no 'text', only id, image"),
        ({"id": [3], "text": ["x"]}, "the id 3 of a document is not a string"),
    ],
)
def test_corpora_that_cannot_be_written(tmp_path: Path, corpus: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_beir(tmp_path / "x", Dataset.from_dict(corpus), tables()[1], {"test": {"?d1": {"d1": 1}}})
    assert list(tmp_path.glob("x*")) == []


def test_judgments_of_a_query_that_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='query "q9" is judged, but not among the 2 queries'):
        write_beir(tmp_path / "x", *tables(), {"test": {"q9": {"d1": 1}}})


def test_a_folder_is_overwritten_only_if_asked(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()  # an empty folder is as good as none
    write_beir(folder, *tables(), {"test": {"?d1": {"d1": 1}}, "dev": {"?d2": {"d1": 1}}})
    written = (folder / "corpus.jsonl").stat().st_mtime_ns
    (folder / "README.md").write_text("mine", encoding="utf-8")
    write_beir(folder, *tables(), {"test": {"?d1": {"d1": 1}}, "dev": {"?d2": {"d1": 1}}})
    assert (folder / "corpus.jsonl").stat().st_mtime_ns == written
    with pytest.raises(RequestError, match="x holds something else already: choose another folder"):
        write_beir(folder, *tables(), {"test": {"?d1": {"d1": 1}}})
    assert (folder / "qrels" / "dev.tsv").is_file()
    write_beir(folder, *tables(["d5"]), {"train": {"?d5": {"d5": 1}}}, overwrite=True)
    data = read_beir(folder)
    assert (data.corpus["id"][0], dict(data.qrels)) == ("d5", {"train": {"?d5": {"d5": 1}}})
    assert (folder / "README.md").read_text(encoding="utf-8") == "mine"


def test_a_folder_with_other_files_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.tex").touch()
    with pytest.raises(RequestError, match="holds something else"):
        write_beir(tmp_path / "x", *tables(), {"test": {"?d1": {"d1": 1}}})
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        write_beir(tmp_path / "file", *tables(), {"test": {"?d1": {"d1": 1}}}, overwrite=True)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*: choose another folder"):
        write_beir(tmp_path / "file" / "x", *tables(), {"test": {"?d1": {"d1": 1}}})


# -- the task -----------------------------------------------------------------------------------------------------


def evaluated(task: Any, model: Any = None) -> dict[str, dict[str, Any]]:
    """mteb's scores by split."""
    model = model or WordCounts(dimension=4096)
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return {split: dict(scores[0]) for split, scores in result.task_results[0].scores.items()}


ENGINES = pytest.mark.parametrize("engine", [lambda task: task, exact], ids=["mteb", "ours"])


@ENGINES
def test_graded_judgments_and_titles(tmp_path: Path, engine: Callable[[Any], Any]) -> None:
    task = engine(beir_task(make(tmp_path / "animals")))
    # d3 has all three words, d1 two in its title, d2 one; d3 is not judged, so gains are 0, 2, 1
    gained = 2 / math.log2(3) + 1 / math.log2(4)
    (scores,) = evaluated(task).values()
    assert scores["main_score"] == scores["ndcg_at_10"] == pytest.approx(gained / (2 + 1 / math.log2(3)), abs=1e-5)
    assert scores["map_at_10"] == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-5)
    assert (scores["hf_subset"], scores["languages"]) == ("default", ["und-Zyyy"])


def test_a_task_says_what_it_is(tmp_path: Path) -> None:
    folder = make(tmp_path / "My animals: red, 中", test=QRELS, dev="q2\td1\t1\n")
    task: Any = beir_task(folder)
    assert task.metadata.name == "beir-My-animals-red-中"
    assert list(task.eval_splits) == ["test"]
    assert task.beir_sha256 == task.metadata.revision == read_beir(folder).sha256
    assert not task.data_loaded
    task.load_data()
    assert list(task.dataset["default"]) == ["test"]
    data = task.dataset["default"]["test"]
    assert (data["queries"]["id"][:], data["top_ranked"]) == (["q1"], None)
    assert data["relevant_docs"] == {"q1": {"d1": 2, "d2": 1, "d4": 0}}
    task.unload_data()
    task.load_data()
    assert len(task.dataset["default"]["test"]["corpus"]) == 4


def test_without_a_test_split_all_are_evaluated(tmp_path: Path) -> None:
    folder = make(tmp_path / "animals", train="q1\td3\t1\n", dev="q2\td1\t1\n")
    scores = evaluated(beir_task(folder))
    assert {split: found["map_at_1"] for split, found in scores.items()} == {"dev": 1.0, "train": 1.0}
    assert list(evaluated(beir_task(folder).filter_eval_splits(["dev"]))) == ["dev"]


@ENGINES
def test_a_judged_document_that_is_not_there_counts_as_not_retrieved(
    tmp_path: Path, engine: Callable[[Any], Any]
) -> None:
    task = engine(beir_task(make(tmp_path / "animals", test="q1\td3\t1\nq1\tgone\t1\n")))
    assert evaluated(task)["test"]["map_at_10"] == 0.5


@ENGINES
def test_a_document_does_not_count_for_the_query_of_its_id(tmp_path: Path, engine: Callable[[Any], Any]) -> None:
    corpus = [{"_id": "1", "text": "red fox"}, {"_id": "2", "text": "red"}]
    folder = make(tmp_path / "numbered", corpus, [{"_id": "1", "text": "red fox"}], test="1\t2\t1\n")
    task = engine(beir_task(folder))
    assert evaluated(task)["test"]["map_at_1"] == 1.0
    assert "1 document has the id of a query (first: '1')" in task.beir_notes[0]


def test_a_folder_that_changes_before_it_is_loaded(tmp_path: Path) -> None:
    folder = make(tmp_path / "animals")
    task = beir_task(folder)
    (folder / "qrels" / "test.tsv").write_text(QRELS + "q2\td1\t1\n", encoding="utf-8")
    with pytest.raises(DataError, match="animals has changed since its task was made: make the task again"):
        task.load_data()
    assert not task.data_loaded


@pytest.mark.parametrize(
    ("language", "tag"), [("de", "deu-Latn"), ("zh", "zho-Hans"), ("nld-Latn", "nld-Latn"), (None, "und-Zyyy")]
)
def test_the_language_of_a_folder(tmp_path: Path, language: str | None, tag: str) -> None:
    task = beir_task(make(tmp_path / "animals"), language)
    assert task.metadata.eval_langs == [tag]
    assert task.languages == [tag[:3]]


@pytest.mark.parametrize(
    ("language", "message"),
    [
        (
            "xx",
            "unknown language 'xx': give a code of ISO 639-1 or 639-3, with or without script, as de, deu or deu-Latn",
        ),
        ("German", "given by code, 'de'"),
        ("qqq-Latn", "unknown language 'qqq-Latn': mteb has no such language or script"),
        ("deu-Xxxx", "unknown language 'deu-Xxxx'"),
    ],
)
def test_a_language_that_is_none(tmp_path: Path, language: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        beir_task(make(tmp_path / "animals"), language)


def test_a_folder_is_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b%20").mkdir()
    assert parse_beir(f"beir:{tmp_path}/a b%20") == (tmp_path / "a b%20", None)
    assert parse_beir(f"beir:{tmp_path}?language=de") == (tmp_path, "de")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert parse_beir("beir:~?language=nld-Latn") == (tmp_path, "nld-Latn")
    assert parse_beir("beir:.") == (Path(), None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("XQuAD-R", "'XQuAD-R' is not a BEIR folder: give beir:/path"),
        ("beir:", "names no folder: nothing is not one"),
        ("beir:?language=de", "names no folder"),
        ("beir:no/where", "names no folder: no/where is not one"),
        ("beir:.?langauge=de", "unknown option 'langauge': did you mean 'language'"),
        ("beir:.?language", r"'\?language' of 'beir:.\?language' cannot be read: give it as \?language=de"),
        ("beir:.?language=", "gives no language"),
    ],
)
def test_a_folder_that_cannot_be_parsed(spec: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_beir(spec)


# -- the small ones -----------------------------------------------------------------------------------------------


def test_shared_ids_stand_in_the_order_asked_for() -> None:
    corpus = tables([f"d{number}" for number in range(250_000)])[0]
    assert shared_ids(corpus, ["x", "d249999", "d0", "D0"]) == ["d249999", "d0"]
    assert shared_ids(corpus.select([5, 3]), ["d3", "d0"]) == ["d3"]
    assert shared_ids(corpus, []) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ar-de", "ar-de"), ("a/b", "a__b"), ("../x", "__x"), ("a b:c", "a-b-c"), ("..", "unnamed"), ("中 文", "中-文")],
)
def test_names_that_can_stand_in_a_path(name: str, expected: str) -> None:
    assert file_name(name) == expected


def test_quoted_ids_are_read_as_csv_reads_them(tmp_path: Path) -> None:
    corpus, queries = tables(ODD_IDS)
    write_beir(tmp_path / "odd", corpus, queries, {"test": {f"?{text_id}": {text_id: 1} for text_id in ODD_IDS}})
    with (tmp_path / "odd" / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
        assert [row[1] for row in csv.reader(file, delimiter="\t")][1:] == ODD_IDS
