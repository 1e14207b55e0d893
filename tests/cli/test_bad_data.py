"""Wrong lines of data, as a user meets them: the command ends, names file and line in one line, and does the rest."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid_bench.cli.commands import main

# A reader that hangs has to end as a failure; the longest of these takes a few seconds.
pytestmark = pytest.mark.timeout(240)

Write = Callable[[Path, str | bytes], str]

#: A wrong line by what is wrong with it, and what the message says. `{id}` is what the reader calls an id.
WRONG: Mapping[str, tuple[str | bytes, str]] = {
    "cut off": ('{{"language": "de", "{id}": "c", "text": "w', "not JSON"),
    "a key twice": ('{{"language": "de", "{id}": "c", "text": "w1", "text": "w2"}}', 'the key "text" stands twice'),
    "no text": ('{{"language": "de", "{id}": "c"}}', "text"),
    "null for a text": ('{{"language": "de", "{id}": "c", "text": null}}', "text"),
    "an id that is none": ('{{"language": "de", "{id}": 1.5, "text": "w1"}}', "id"),
    "a number of digits": ('{{"language": "de", "{id}": ' + "1" * 5_000 + ', "text": "w1"}}', "thousands of digits"),
    "deep": ('{{"language": "de", "{id}": "c", "text": ' + "[" * 100_000 + "}}", "nested too deeply"),
    "half a pair": ('{{"language": "de", "{id}": "c", "text": "\\ud800"}}', "half a surrogate pair"),
    "no number": ('{{"language": "de", "{id}": "c", "text": NaN}}', "NaN"),
    "no object": ("[1, 2]", "should be a JSON object"),
    "no UTF-8": (b'{"text": "\xff"}', "not UTF-8"),
}


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]], last: str | bytes = "", key: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    wrong = last if isinstance(last, bytes) else last.format(id=key).encode()
    path.write_bytes(text + wrong)


def beir(folder: Path, corpus: str | bytes = "", queries: str | bytes = "", qrels: str | bytes = "") -> str:
    write_lines(folder / "corpus.jsonl", [{"_id": "a", "text": "w1"}, {"_id": "b", "text": "w2"}], corpus, "_id")
    write_lines(folder / "queries.jsonl", [{"_id": "q", "text": "w1"}], queries, "_id")
    write_lines(folder / "qrels" / "test.tsv", [])
    wrong = qrels if isinstance(qrels, bytes) else qrels.encode()
    (folder / "qrels" / "test.tsv").write_bytes(b"query-id\tcorpus-id\tscore\nq\ta\t1\n" + wrong)
    return f"beir:{folder}"


def own(folder: Path, passages: str | bytes = "", questions: str | bytes = "") -> str:
    rows = [{"id": each, "language": code, "text": "w1"} for each in ("a", "b") for code in ("de", "en")]
    asked = [{"id": "q", "language": code, "text": "w1", "relevant": ["a"]} for code in ("de", "en")]
    write_lines(folder / "passages.jsonl", rows, passages, "id")
    write_lines(folder / "questions.jsonl", asked, questions, "id")
    return f"jsonl:{folder}"


def hub(folder: Path, passages: str | bytes) -> str:
    own(folder, passages)
    configs = "".join(f"- {{config_name: {name}, data_files: {name}.jsonl}}\n" for name in ("passages", "questions"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return f"hf:{folder}"


#: The files of rows that `run` reads, each with the number of the line that follows its right ones.
FILES: Mapping[str, tuple[Write, str]] = {
    "beir corpus": (lambda folder, line: beir(folder, corpus=line), "corpus.jsonl:3"),
    "beir queries": (lambda folder, line: beir(folder, queries=line), "queries.jsonl:2"),
    "jsonl passages": (lambda folder, line: own(folder, passages=line), "passages.jsonl:5"),
    "jsonl questions": (lambda folder, line: own(folder, questions=line), "questions.jsonl:3"),
    "hf passages": (hub, "passages.jsonl:5"),
}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HYBRID_BENCH_DATA", raising=False)


def ends(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, *options: str) -> str:
    """The one line that `run` says of a task with wrong data; the other task is done all the same.

    Not so where the data have to be read before the task is known, which is refused as a whole.
    """
    good = beir(tmp_path / "fine")
    arguments = ["run", "--models", "hybrid_bench/bm25", "--tasks", task, good, "--output", str(tmp_path / "out")]
    assert main([*arguments, *options]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert bool([*(tmp_path / "out").rglob("beir-fine.json")]) != task.startswith(("jsonl:", "hf:"))
    (line,) = (line for line in said.splitlines() if line.startswith("hybrid-bench"))
    return line


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("case", WRONG)
def test_wrong_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, case: str) -> None:
    write, place = FILES[file]
    line, message = WRONG[case]
    if file.startswith("hf") and case in {"no text", "null for a text", "an id that is none"}:
        place = "row 5"  # of a table in Arrow, whose lines nobody knows
    told = ends(tmp_path, capsys, write(tmp_path / "wrong", line))
    assert place in told
    assert message in told


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q\ta\n", "test.tsv:3: 2 columns"),
        ("q\ta\t2\n", 'document "a" has score 2'),
        ("q\tb\tone\n", "not an integer"),
        ("q\tb\t" + "1" * 5_000, "test.tsv:3: score"),
        ("z\ta\t1\n", 'no query "z"'),
        (b"q\t\xff\t1\n", "test.tsv:3: not UTF-8"),
    ],
)
def test_wrong_judgments(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str | bytes, message: str) -> None:
    assert message in ends(tmp_path, capsys, beir(tmp_path / "wrong", qrels=line))


def test_a_packed_file_that_breaks_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = beir(tmp_path / "wrong")
    path = tmp_path / "wrong" / "corpus.jsonl"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name("corpus.jsonl.gz").write_bytes(packed[:-9])
    assert "corpus.jsonl.gz:" in ends(tmp_path, capsys, task)


def in_layout_of_the_hub(folder: Path, name: str, content: str | bytes) -> None:
    """NFCorpus as mteb's loader reads it, with one file of this content."""
    folder.mkdir(parents=True)
    parts = (("corpus", "corpus"), ("queries", "queries"), ("default", "test"))
    configs = "".join(
        f"- config_name: {part}\n  data_files:\n  - split: {split}\n    path: {part}.jsonl\n" for part, split in parts
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    write_lines(folder / "corpus.jsonl", [{"_id": "a", "title": "", "text": "w1"}])
    write_lines(folder / "queries.jsonl", [{"_id": "q", "text": "w1"}])
    write_lines(folder / "default.jsonl", [{"query-id": "q", "corpus-id": "a", "score": 1}])
    with (folder / name).open("ab") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "b", "te', "corpus.jsonl:2: not JSON"),
        ("queries.jsonl", '{"_id": "b", "text": "a", "text": "b"}', 'queries.jsonl:2: the key "text" stands twice'),
        ("default.jsonl", b"\xff", "default.jsonl:2: not UTF-8"),
        ("default.jsonl", '{"query-id": "q", "corpus-id": "a", "score": {"x": 1}}', "NFCorpus cannot read its data"),
    ],
)
def test_a_file_in_the_layout_of_the_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | bytes, message: str
) -> None:
    in_layout_of_the_hub(tmp_path / "data" / "mteb" / "nfcorpus", name, content)
    told = ends(tmp_path, capsys, "NFCorpus", "--data-dir", str(tmp_path / "data"))
    assert message in told
    assert "An error occurred while generating" not in told
