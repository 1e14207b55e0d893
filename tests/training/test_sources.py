"""Sources of training data: files exactly as they are published, read, and compared with a plain reading of them."""

from __future__ import annotations

import gzip
import json
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub_server import COMMIT, nowhere, serving, use_hub
from hybrid_bench.data.collection import DataOptions
from hybrid_bench.errors import DataError, HybridBenchError, RequestError
from hybrid_bench.evaluation.registry import collections
from hybrid_bench.training.config import PRESETS
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.sampling import BatchPlan, Sampling
from hybrid_bench.training.sources import SourceSpec, SourceTexts, lareqa_articles


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, of ours and of the libraries; nobody answers."""
    folder = tmp_path / "caches"
    monkeypatch.setenv("HYBRID_BENCH_CACHE", str(folder / "ours"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    use_hub(monkeypatch, nowhere(), folder / "hub")
    return folder


def spec(kind: str, path: Path | str = "", **more: Any) -> SourceSpec:
    return SourceSpec(more.pop("name", "s"), kind, path=str(path), **more)  # type: ignore[arg-type] # wrong kinds too


def refused(make: Callable[[], Any], kind: type[HybridBenchError], *parts: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def whole(source: SourceTexts, role: str, code: str) -> list[str]:
    return source.texts(role, code, np.arange(len(source)))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def write_json(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()))
        return path
    return write(path, content)


# -- what a configuration may say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"kind": "paralel", "path": "p"}, ["no kind 'paralel'", "did you mean 'parallel'?"]),
        ({"kind": "parallel"}, ["give path"]),
        ({"kind": "parallel", "dataset": "a/b"}, ["give path in place of dataset"]),
        ({"kind": "hf", "path": "p", "dataset": "a/b"}, ["both path and dataset"]),
        ({"kind": "hf", "dataset": "a b"}, ["'a b'", "ORG/NAME"]),
        ({"kind": "hf", "path": "p", "revision": "main"}, ["revision 'main'"]),
        ({"kind": "hf", "path": "p", "columns": {"querry_en": "q"}}, ["'querry_en'", "query_<language>"]),
        ({"kind": "hf", "path": "p", "options": {"splt": "x"}}, ["no option 'splt'", "did you mean 'split'?"]),
        ({"kind": "hf", "path": "p", "options": {"split": 3}}, ["options.split = 3"]),
        ({"kind": "hf", "path": "p", "options": {"config": "{language}"}}, ["columns.id is missing"]),
        ({"kind": "mmarco"}, ["give languages"]),
        ({"kind": "mmarco", "languages": ("en",), "columns": {"query_en": "q"}}, ["leave out columns"]),
        ({"kind": "mmarco", "languages": ("xx",)}, ["no language 'xx'"]),
        ({"kind": "mmarco", "languages": ("en",), "options": {"version": "v3"}}, ['"v3"', "v2, v1.1"]),
        ({"kind": "mmarco", "languages": ("en",), "options": {"negatives": 2}}, ["a triple has one"]),
        ({"kind": "mmarco", "languages": ("en",), "options": {"negatives": True}}, ["options.negatives = true"]),
        ({"kind": "mr-tydi", "languages": ("en", "ar")}, ["give one in languages"]),
        ({"kind": "mfaq"}, ["give one in languages"]),
        ({"kind": "ntrex", "path": "p", "languages": ("german",)}, ["'de', not 'german'"]),
        ({"kind": "ntrex", "path": "p", "languages": ("de", "de")}, ["twice"]),
        ({"kind": "ntrex", "path": "p", "languages": ("Deutsch!",)}, ["no code of a language"]),
        ({"kind": "lines", "path": "p"}, ["columns is missing"]),
        ({"kind": "lines", "path": "p", "columns": {"de": "a"}, "languages": ("en",)}, ["no file of 'en'"]),
        ({"kind": "lareqa", "path": "p", "options": {"folds": 2, "fold": [2]}}, ["numbers from 0 to 1"]),
        ({"kind": "lareqa", "path": "p", "options": {"by": "word"}}, ["paragraph or article"]),
        ({"kind": "lareqa", "path": "p", "options": {"passage": "words"}}, ["sentence+context"]),
        ({"kind": "ntrex", "path": "p", "options": {"x": 1}}, ["no option 'x'", "it takes none"]),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(fields: dict[str, Any], parts: list[str]) -> None:
    refused(lambda: SourceSpec("the source", **fields), RequestError, "the source", *parts)


def test_a_source_needs_a_name() -> None:
    refused(lambda: spec("parallel", "p", name=" "), RequestError, "no name")


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    for kind, more in (("parallel", {}), ("ntrex", {}), ("lareqa", {}), ("mmarco", {"languages": ("en",)})):
        refused(spec(kind, tmp_path / "none", **more).load, RequestError, "there is no file or folder")
    file = write(tmp_path / "file", "")
    refused(spec("ntrex", file).load, RequestError, "is a file: give the folder")


def test_a_note_tells_of_another_number_of_rows(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", [{"query_en": "q", "passage_en": "p"}])
    assert spec("parallel", path, rows=1).load().notes == ()
    assert spec("parallel", path, rows=2000).load().notes == ("1 rows, where 2,000 were expected",)


@pytest.mark.parametrize("kind", ["parallel", "hf"])
def test_rows_of_one_passage_are_one_group_without_being_told(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the kind of SQuAD: several questions that a sentence answers."""
    rows = [{"query_en": f"q{row}", "passage_en": f"answer {row // 5}"} for row in range(40)]
    path = write_json(tmp_path / "rows" / "a.jsonl", rows)
    place = path if kind == "parallel" else hub_folder(path.parent, {})
    options = {} if kind == "parallel" else {"options": {"files": "*.jsonl"}}
    made = spec(kind, place, **options)
    assert [int(each) // 5 for each in np.unique(made.load().group_of(np.arange(40)), return_index=True)[1]] == list(
        range(8)
    )
    plan = BatchPlan(ParallelDataset.of(made.load()).items, 8, Sampling("x-x-mono"), seed=0)
    for step in range(plan.steps):
        batch = made.load().texts("passage", "en", plan.epoch(0).batch(step) % 40)
        assert len(set(batch)) == 8
    monkeypatch.setattr("hybrid_bench.training.texts.MOST_JOINED", 39)
    assert made.load().groups is None
    assert "too large to look for rows of the same query or passage (40 rows)" in made.load().notes[0]


# -- the project's own format ---------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"query_en": "How long?", "passage_en": "2,850\u2028km.", "query_de": "Wie lang?", "passage_de": "2850 km."},
    {"query_en": "How deep?", "passage_en": "8 m.", "negative_en": "wide", "group": "g", "question_id": "q2"},
    {
        "query_en": "ที่ไหน",
        "passage_en": '"8 m"',
        "query_de": None,
        "passage_de": "8 m",
        "group": "g",
        "article": "Danube",
    },
    {"query_en": "Deep?", "passage_en": "8 m!", "query_de": "Tief?", "passage_de": "8 m!", "negative_de": "breit"},
]


def saved(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """The rows in a file of the form that its name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        new = pa.ipc.new_stream if "stream" in path.name else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)
    else:
        write_json(path, rows)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow", "stream.arrow"])
@pytest.mark.parametrize("folder", [False, True])
def test_every_form_of_the_own_format_gives_the_same(name: str, folder: bool, tmp_path: Path) -> None:
    path = saved(ROWS[:2] if folder else ROWS, tmp_path / "data" / name)
    if folder:  # languages and negatives that only the second file has
        saved(ROWS[2:], path.with_name(f"z{name}"))
        write(path.with_name("README.md"), "not data")
    source = spec("parallel", path.parent if folder else path).load()
    assert source.languages == ("en", "de")
    for role, code in (("query", "en"), ("query", "de"), ("passage", "de"), ("negative_1", "de"), ("negative_1", "en")):
        column = f"{role.replace('_1', '')}_{code}"
        assert whole(source, role, code) == [row.get(column) or "" for row in ROWS]
    assert source.groups is not None
    assert [bool(source.groups[i] == source.groups[j]) for i, j in ((1, 2), (0, 1), (0, 3), (1, 3))] == [
        True,
        False,
        False,
        False,
    ]
    assert source.question_ids is not None
    assert list(source.question_ids) == ["", "q2", "", ""]
    assert source.article is not None
    assert source.article.tolist() == [-1, -1, 0, -1]
    assert source.titles == (frozenset({"Danube"}),)
    some = source.select([2, 1])
    assert whole(some, "query", "en") == ["ที่ไหน", "How deep?"]
    assert (list(some.question_ids or ()), some.article.tolist()) == (["", "q2"], [0, -1])  # type: ignore[union-attr]
    assert list(source.select(np.array([False, True, False, False])).question_ids or ()) == ["q2"]


def test_languages_are_those_asked_for_in_that_order(tmp_path: Path) -> None:
    path = saved(ROWS, tmp_path / "a.jsonl")
    both = spec("parallel", path, languages=("de", "en")).load()
    assert both.languages == ("de", "en")
    assert tuple(both.negatives[0]) == ("de", "en")
    assert spec("parallel", path, languages=("de",)).load().languages == ("de",)
    refused(spec("parallel", path, languages=("de", "fr")).load, DataError, "'fr'", "it has de, en")


def test_a_language_may_begin_late(tmp_path: Path) -> None:
    rows = [{"query_en": f"q{i}", "passage_en": f"p{i}"} for i in range(25_000)]
    path = write_json(tmp_path / "a.jsonl", [*rows, {**rows[0], "query_de": "f", "passage_de": "a"}])
    source = spec("parallel", path).load()
    assert len(source) == 25_001
    assert source.texts("query", "de", np.array([0, 24_999, 25_000])) == ["", "", "f"]


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([{"query_en": "q", "passage_en": "p", "pasage_de": "p"}], ["unknown column", "pasage_de"]),
        ([{"query_en": "q", "passage_en": "p"}, {"query_en": 3, "passage_en": "p"}], ["a.jsonl:2", "'query_en'", "3"]),
        ([{"query_en": "q"}], ["passage"]),
        ([{"text": "q"}], ["columns query_<language>"]),
        ([{"query_en": "\ud800", "passage_en": "p"}], ["a.jsonl:1", "half a surrogate pair"]),
    ],
)
def test_wrong_rows_of_the_own_format(rows: list[dict[str, Any]], parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(spec("parallel", path).load, DataError, *parts)


def test_files_of_the_own_format_that_are_none(tmp_path: Path) -> None:
    refused(spec("parallel", write(tmp_path / "a.csv", "")).load, DataError, ".jsonl, .jsonl.gz, .parquet, .arrow")
    refused(spec("parallel", write(tmp_path / "a.parquet", "no")).load, DataError, "cannot read")
    refused(spec("parallel", write(tmp_path / "a.arrow", "no")).load, DataError, "cannot be read as Arrow")
    refused(spec("parallel", write(tmp_path / "a.jsonl", "[]\n")).load, DataError, "a.jsonl:1")
    (tmp_path / "empty").mkdir()
    refused(spec("parallel", tmp_path / "empty").load, DataError, "files of one kind")
    saved(ROWS, tmp_path / "two" / "a.jsonl")
    saved(ROWS, tmp_path / "two" / "a.parquet")
    refused(spec("parallel", tmp_path / "two").load, DataError, "files of one kind")


def test_what_was_parsed_is_kept_and_mapped_until_the_file_changes(tmp_path: Path, caches: Path) -> None:
    rows = [{"query_en": f"question {i}", "passage_en": "word " * 100} for i in range(20_000)]
    path = write_json(tmp_path / "a.jsonl", rows)
    spec("parallel", path).load()
    (kept,) = (caches / "ours" / "training").glob("*.arrow")
    stamp = kept.stat().st_mtime_ns
    before = pa.total_allocated_bytes()
    again = spec("parallel", path).load()
    assert pa.total_allocated_bytes() - before < 1_000_000 < kept.stat().st_size
    assert kept.stat().st_mtime_ns == stamp
    assert again.texts("query", "en", np.array([19_999])) == ["question 19999"]
    write_json(path, rows[:3])
    assert len(spec("parallel", path).load()) == 3


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BENCH_CACHE", str(write(tmp_path / "file", "")))
    path = saved(ROWS, tmp_path / "a.jsonl")
    refused(spec("parallel", path).load, DataError, "cannot write in the cache folder", "HYBRID_BENCH_CACHE")


def test_several_may_read_a_source_for_the_first_time_at_once(tmp_path: Path) -> None:
    path = saved(ROWS * 2000, tmp_path / "a.jsonl")
    sizes: list[int] = []
    threads = [threading.Thread(target=lambda: sizes.append(len(spec("parallel", path).load()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [8000] * 4


# -- data sets of the Hub -------------------------------------------------------------------------------------------

SQUAD = [
    {"id": "a", "title": "Rhine", "question": "Where?", "context": "In Basel.", "answers": {"text": ["Basel", "B."]}},
    {"id": "b", "title": "Rhine", "question": "How?", "context": "So.", "answers": {"text": []}},
]
SQUAD_COLUMNS = {"query_en": "question", "passage_en": "context", "article": "title", "question_id": "id"}


def hub_folder(folder: Path, configs: Mapping[str, str]) -> Path:
    listed = [{"config_name": name, "data_files": files} for name, files in configs.items()]
    write(folder / "README.md", f"---\nconfigs: {json.dumps(listed)}\n---\n")
    return folder


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_data_set_with_other_columns(form: str, tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "squad", {"plain": f"data/train.{form}"})
    if form == "json":
        write_json(folder / "data" / "train.json", SQUAD)
    else:
        (folder / "data").mkdir()
        pq.write_table(pa.Table.from_pylist(SQUAD), folder / "data" / "train.parquet")
    source = spec("hf", folder, columns=SQUAD_COLUMNS, options={"config": "plain"}).load()
    assert (whole(source, "query", "en"), whole(source, "passage", "en")) == (["Where?", "How?"], ["In Basel.", "So."])
    assert list(source.question_ids or ()) == ["a", "b"]
    assert source.titles == (frozenset({"Rhine"}),)
    # By a pattern, and from within a column: the second question has no answer.
    answers = {**SQUAD_COLUMNS, "passage_en": "answers.text.0", "negative_en": "answers.text.1"}
    nested = spec("hf", folder, columns=answers, options={"files": f"**/*.{form}"}).load()
    assert [whole(nested, role, "en") for role in ("passage", "negative_1")] == [["Basel", ""], ["B.", ""]]
    for wrong, parts in {
        "contxt": ["no column 'contxt'", "did you mean 'context'?"],
        "answers.txt": ["no 'txt' of 'answers.txt'", "did you mean 'text'?"],
        "question.0": ["'question.0'", "string"],
        "answers.text": ["'answers.text' should be strings", "list"],
    }.items():
        columns = {"query_en": "question", "passage_en": wrong}
        refused(spec("hf", folder, columns=columns, options={"config": "plain"}).load, DataError, *parts)
    refused(spec("hf", folder, options={"config": "plain"}).load, DataError, "'question'", "say in columns")
    refused(spec("hf", folder, columns=SQUAD_COLUMNS, options={"files": "*.csv"}).load, DataError, "no files *.csv")


def test_a_data_set_in_our_own_format_may_have_more_columns(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "ours", {"default": "a.jsonl"})
    write_json(folder / "a.jsonl", [{"query_en": "q", "passage_en": "p", "score": 0.5}])
    assert spec("hf", folder).load().languages == ("en",)


def test_configurations_by_language_are_joined_by_id(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "mlqa", {f"mlqa.{code}": f"{code}.jsonl" for code in ("en", "de", "vi")})
    texts = {"en": ["x", "a", "b"], "de": ["b", "a"], "vi": ["c", "a"]}
    for code, ids in texts.items():
        rows = [{"id": i, "q": f"{code} {i}?", "p": f"{code} {i}.", "title": f"{code} T"} for i in ids]
        write_json(folder / f"{code}.jsonl", rows)
    columns = {"id": "id", "query": "q", "passage": "p", "article": "title"}
    options = {"config": "mlqa.{language}"}
    source = spec("hf", folder, columns=columns, options=options, languages=("en", "de", "vi")).load()
    assert list(source.question_ids or ()) == ["x", "a", "b", "c"]
    for code, ids in texts.items():
        for role, end in (("query", "?"), ("passage", ".")):
            wanted = [f"{code} {i}{end}" if i in ids else "" for i in ("x", "a", "b", "c")]
            assert whole(source, role, code) == wanted
    assert source.titles == (frozenset({"en T"}), frozenset({"vi T"}))  # the first that has one speaks for all

    def load(**more: Any) -> SourceTexts:
        return spec("hf", folder, columns=columns, options=options, **more).load()

    refused(load, RequestError, "give languages")
    refused(lambda: load(languages=("en", "fr")), DataError, "mlqa.fr")
    write_json(folder / "de.jsonl", [{"id": "z", "q": "?", "p": ".", "title": ""}])
    refused(lambda: load(languages=("en", "de")), DataError, "no id of 'en' is in another language", '"z"')
    write_json(folder / "de.jsonl", [{"id": "a", "q": "?", "p": ".", "title": ""}] * 2)
    refused(lambda: load(languages=("en", "de")), DataError, 'id "a" occurs twice')
    # A file of the same size and ends with another text in its middle is another file.
    write_json(folder / "de.jsonl", [{"id": i, "q": f"{i}?", "p": "alt", "title": ""} for i in ("a", "b", "x")])
    assert load(languages=("en", "de")).texts("passage", "de", np.array([2])) == ["alt"]
    write_json(folder / "de.jsonl", [{"id": i, "q": f"{i}?", "p": "neu", "title": ""} for i in ("a", "b", "x")])
    assert load(languages=("en", "de")).texts("passage", "de", np.array([2])) == ["neu"]


def test_only_the_files_that_are_needed_come_from_the_hub(
    tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mmarco_files(tmp_path / "mmarco")
    with serving(folder, "unicamp-dl/mmarco") as hub:
        use_hub(monkeypatch, hub.endpoint, caches / "hub")
        source = spec("mmarco", languages=("en", "de")).load()
        assert hub.downloaded() == {
            "README.md",
            "data/triples.train.ids.small.tsv",
            *(f"data/google/collections/{name}_collection.tsv" for name in ("english", "german")),
            *(f"data/google/queries/train/{name}_queries.train.tsv" for name in ("english", "german")),
        }
        assert f"revision {COMMIT}" in source.notes
        refused(spec("mmarco", languages=("en",), revision="v9").load, RequestError, "'v9'")
        refused(spec("hf", dataset="org/none", columns=SQUAD_COLUMNS).load, RequestError, "'org/none'", "give path")
    write_json(tmp_path / "squad" / "train.jsonl", SQUAD)
    with serving(hub_folder(tmp_path / "squad", {"default": "train.jsonl"}), "org/squad") as hub:
        use_hub(monkeypatch, hub.endpoint, caches / "hub")
        assert len(spec("hf", dataset="org/squad", columns=SQUAD_COLUMNS).load()) == 2
    refused(spec("mfaq", languages=("en",)).load, DataError, "cannot be reached", "give path")


# -- mMARCO ---------------------------------------------------------------------------------------------------------

#: Ids are the same in all languages; queries stand in no order, as in MS MARCO; German lacks passage 2, and Arabic
#: query 1185869, MS MARCO's highest.
PASSAGES = {
    "english": {0: "The presence of communication.", 1: 'It "is" 5\u2028km.', 2: "Chicago.", 3: "d e", 5: "f", 4: "e"},
    "german": {0: "Die Anwesenheit.", 1: "Es ist 5 km.", 3: "D E", 4: "E", 5: "F"},
    "arabic": {0: "وجود", 1: "كم", 2: "شيكاغو", 3: "د", 4: "ه", 5: "و"},
}
QUERIES = {
    "english": {121352: "define extreme", 9: "what is it", 1185869: ")what was the immediate impact", 7: "far"},
    "german": {9: "was ist es", 7: "weit", 121352: "extrem", 1185869: "was war"},
    "arabic": {9: "ما هو", 7: "بعيد", 121352: "تعريف"},
}
TRIPLES = [
    (1185869, 0, 3),
    (9, 1, 2),
    (9, 2, 0),
    (7, 2, 4),
    (1185869, 0, 5),
    (121352, 3, 1),
    (9, 1, 3),
]
NAMES = {"en": "english", "de": "german", "ar": "arabic"}


def mmarco_files(
    folder: Path,
    version: str = "google",
    passages: Mapping[str, Mapping[int, str]] = PASSAGES,
    queries: Mapping[str, Mapping[int, str]] = QUERIES,
    triples: Sequence[tuple[int, int, int]] = TRIPLES,
) -> Path:
    write(folder / "README.md", "# mMARCO\n")
    for name, texts in passages.items():
        path = folder / "data" / version / "collections" / f"{name}_collection.tsv"
        write(path, "".join(f"{i}\t{text}\n" for i, text in texts.items()))
    for name, texts in queries.items():
        path = folder / "data" / version / "queries" / "train" / f"{name}_queries.train.tsv"
        write(path, "".join(f"{i}\t{text}\n" for i, text in texts.items()))
    write(folder / "data" / "triples.train.ids.small.tsv", "".join("{}\t{}\t{}\n".format(*each) for each in triples))
    return folder


def plain_join(code: str, triples: Sequence[tuple[int, int, int]] = TRIPLES) -> tuple[list[str], list[str], list[str]]:
    """What the data set's own loading script would give, were no text missing."""
    asked, texts = QUERIES[NAMES[code]], PASSAGES[NAMES[code]]
    return (
        [asked.get(q, "") for q, _, _ in triples],
        [texts.get(p, "") for _, p, _ in triples],
        [texts.get(n, "") for _, _, n in triples],
    )


def components(triples: Sequence[tuple[int, int, int]]) -> dict[int, int]:
    """The group of each relevant passage by its definition: join passages of one query until nothing changes."""
    group = {p: p for _, p, _ in triples}
    changed = True
    while changed:
        changed = False
        for q, p, _ in triples:
            for other, r, _ in triples:
                if q == other and group[p] != group[r]:
                    low = min(group[p], group[r])
                    group[p] = group[r] = low
                    changed = True
    return group


@pytest.mark.parametrize(
    ("folder", "version"),
    [("google", "v2"), ("v2", "v2"), ("helsinki", "v1.1"), ("v1.1", "v1.1"), ("v1", "v1.1")],
)
def test_mmarco_is_joined_by_id(folder: str, version: str, tmp_path: Path) -> None:
    mmarco_files(tmp_path, folder)
    options = {"version": version, "negatives": 1}
    source = spec("mmarco", tmp_path, languages=("de", "en", "ar"), options=options).load()
    assert len(source) == len(TRIPLES)
    for code in NAMES:
        assert [whole(source, role, code) for role in source.roles] == list(plain_join(code))
    assert source.available("passage", "de", np.arange(7)).tolist() == [True, True, False, False, True, True, True]
    group = components(TRIPLES)
    groups = source.groups
    assert groups is not None
    for i, (_, p, _) in enumerate(TRIPLES):
        for j, (_, r, n) in enumerate(TRIPLES):
            assert (groups[i] == groups[j]) == (group[p] == group[r])
            negative = source.negative_groups[0]
            assert negative is not None
            assert (groups[i] == negative[j]) == (group[p] == group.get(n))
            assert (negative[j] == -1) == (n not in group)
    assert source.notes == (
        "1 of 4 texts of the role query are not there in 'ar'",
        "1 of 6 texts of the role passage are not there in 'de'",
    )


def test_mmarco_rows_are_mapped_and_texts_not_copied(tmp_path: Path) -> None:
    source = spec("mmarco", mmarco_files(tmp_path), languages=("en", "de"), options={"negatives": 1}).load()
    for numbers in (source.query_rows, source.passage_rows, source.groups, *source.negative_rows):
        assert isinstance(numbers, np.memmap)
    assert source.negatives[0] is source.passages


def test_mmarco_distinct_pairs(tmp_path: Path) -> None:
    source = spec("mmarco", mmarco_files(tmp_path), languages=("en",), options={"distinct": True}).load()
    first = [each for i, each in enumerate(TRIPLES) if each[:2] not in [before[:2] for before in TRIPLES[:i]]]
    assert len(source) == 5
    assert [whole(source, role, "en") for role in source.roles] == list(plain_join("en", first))[:2]
    assert not source.negatives


def test_mmarco_groups_of_many_random_triples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    pairs = np.stack([rng.integers(0, 60, 90), rng.integers(0, 80, 90)], axis=1)
    rows = pairs[rng.integers(0, 90, 400)]
    triples = [(int(q), int(p), int(n)) for (q, p), n in zip(rows, rng.integers(0, 100, 400), strict=True)]
    passages = {"english": {i: f"p{i}" for i in rng.permutation(100).tolist()}}
    queries = {"english": {i: f"q{i}" for i in rng.permutation(60).tolist()}}
    mmarco_files(tmp_path, passages=passages, queries=queries, triples=triples)
    source = spec("mmarco", tmp_path, languages=("en",), options={"negatives": 1}).load()
    assert whole(source, "query", "en") == [f"q{q}" for q, _, _ in triples]
    assert whole(source, "passage", "en") == [f"p{p}" for _, p, _ in triples]
    assert whole(source, "negative_1", "en") == [f"p{n}" for _, _, n in triples]
    group = components(triples)
    assert source.groups is not None
    same = source.groups[:, None] == source.groups[None, :]
    wanted = np.array([group[p] for _, p, _ in triples])
    assert (same == (wanted[:, None] == wanted[None, :])).all()
    distinct = spec("mmarco", tmp_path, languages=("en",), options={"distinct": True}).load()
    assert len(distinct) == len({(q, p) for q, p, _ in triples})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"data/google/collections/german_collection.tsv": None}, ["german_collection.tsv", "v2", "'de'"]),
        ({"data/triples.train.ids.small.tsv": "9\t1\t2\n9\t1\n"}, ["Row #2", "query, passage, negative"]),
        ({"data/triples.train.ids.small.tsv": "9\t1\tx\n"}, ["Row #1", "'x'"]),
        ({"data/triples.train.ids.small.tsv": ""}, ["triples.train.ids.small.tsv is empty"]),
        ({"data/triples.train.ids.small.tsv": "9\t-1\t2\n"}, ["passage id -1 is no id of MS MARCO"]),
        ({"data/triples.train.ids.small.tsv": "9\t1\t999999999\n"}, ["negative id 999999999 is no id of MS MARCO"]),
        ({"data/triples.train.ids.small.tsv": "9\t1\t2\n8\t1\t2\n"}, ["1 query ids", "in no language, e.g. 8"]),
        ({"data/triples.train.ids.small.tsv": "9\t77\t2\n9\t1\t2\n"}, ["1 passage ids", "e.g. 77"]),
        ({"data/triples.train.ids.small.tsv": "9\t2\t1\n"}, ["no passage id", "german_collection.tsv"]),
        ({"data/google/collections/german_collection.tsv": "0\ta\n1\tb\n0\tc\n"}, ["id 0 occurs twice"]),
        ({"data/google/collections/german_collection.tsv": "0\ta\n1\tb\tc\n"}, ["Row #2", "id, text"]),
        ({"data/google/collections/german_collection.tsv": "0\ta\nx\tb\n"}, ["Row #2", "'x'"]),
        ({"data/google/collections/german_collection.tsv": "-4\ta\n"}, ["id -4 is no id of MS MARCO"]),
        ({"data/google/collections/german_collection.tsv": "0\ta\n999999999\tb\n"}, ["id 999999999 is no id of MS"]),
        ({"data/google/collections/german_collection.tsv": ""}, ["german_collection.tsv is empty"]),
    ],
)
def test_wrong_files_of_mmarco(change: dict[str, str | None], parts: list[str], tmp_path: Path) -> None:
    mmarco_files(tmp_path)
    for name, content in change.items():
        (tmp_path / name).unlink() if content is None else write(tmp_path / name, content)
    refused(spec("mmarco", tmp_path, languages=("en", "de")).load, DataError, *parts)


def test_mmarco_text_that_is_not_unicode(tmp_path: Path) -> None:
    mmarco_files(tmp_path)
    (tmp_path / "data/google/collections/german_collection.tsv").write_bytes(b"0\ta\n1\t\xff\n")
    refused(spec("mmarco", tmp_path, languages=("en", "de")).load, DataError, "german_collection.tsv", "UTF8")


# -- lists, and how many negatives ----------------------------------------------------------------------------------

FLAG = [
    {"query": "q0", "pos": ["p0", "p0b"], "neg": ["n0", "n1", "n2"]},
    {"query": "q1", "pos": ["p1"], "neg": ["n3", "n4"]},
    {"query": "q2", "pos": [], "neg": ["n5", "n6"]},
]
FLAG_COLUMNS = {"query_en": "query", "passage_en": "pos", "negative_en": "neg"}


@pytest.mark.parametrize("place", ["rows.jsonl", "train.jsonl", "data/train-00000-of-00001.jsonl", "train/part.jsonl"])
def test_lists_are_rows_and_negatives_wherever_load_dataset_finds_the_file(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_json(folder / place, FLAG)
    write_json(folder / place.replace("train", "test").replace("rows", "test"), FLAG[:1])
    given = folder / place if place == "rows.jsonl" else folder
    source = spec("hf", given, columns=FLAG_COLUMNS).load()
    assert whole(source, "query", "en") == ["q0", "q0", "q1", "q2"]
    assert whole(source, "passage", "en") == ["p0", "p0b", "p1", ""]  # an empty list keeps its row, to be told of
    assert whole(source, "negative_1", "en") == ["n0", "n0", "n3", "n5"]
    assert whole(source, "negative_2", "en") == ["n1", "n1", "n4", "n6"]
    assert source.roles[2:] == ("negative_1", "negative_2")  # as many as every row has: no row is lost
    assert any("lists have 2 to 3 hard negatives, of which 2 are read" in note for note in source.notes)
    assert source.groups is not None
    assert source.groups[0] == source.groups[1]  # two answers of one query are no negatives of each other
    if place == "train.jsonl":
        theirs = datasets.load_dataset(str(folder), split="train")
        assert theirs["query"][:] == ["q0", "q1", "q2"]


@pytest.mark.parametrize(("wanted", "found"), [(0, []), (1, ["n0", "n0", "n3", "n5"]), (3, ["n2", "n2", "", ""])])
def test_so_many_negatives_as_are_asked_for(wanted: int, found: list[str], tmp_path: Path) -> None:
    write_json(tmp_path / "train.jsonl", FLAG)
    source = spec("hf", tmp_path, columns=FLAG_COLUMNS, negatives=wanted).load()
    assert len(source.negatives) == wanted
    assert not wanted or whole(source, f"negative_{wanted}", "en") == found
    assert not source.notes


def test_negatives_of_tables_and_of_what_has_an_option(tmp_path: Path) -> None:
    texts = {f"{role}_en": role for role in ("query", "passage", "negative_1", "negative_2")}
    path = write_json(tmp_path / "rows.jsonl", [texts])
    assert spec("parallel", path, negatives=1).load().roles == ("query", "passage", "negative_1")
    refused(spec("parallel", path, negatives=3).load, DataError, "negatives = 3, but its rows have 2")
    refused(lambda: spec("parallel", path, negatives=-1), RequestError, "negatives = -1")
    refused(lambda: spec("mmarco", "p", languages=("en",), options={"negatives": 1}, negatives=1), RequestError, "both")
    mmarco_files(tmp_path)
    assert len(spec("mmarco", tmp_path, languages=("en", "de"), negatives=1).load().negatives) == 1


def test_lists_that_cannot_be(tmp_path: Path) -> None:
    path = write_json(tmp_path / "train.jsonl", [{"query": ["q"], "pos": "p", "numbers": [1]}])
    refused(
        spec("hf", path, columns={"query_en": "query", "passage_en": "pos"}).load, DataError, "'query_en' is of the"
    )
    refused(spec("hf", path, columns={"query_en": "pos", "passage_en": "numbers"}).load, DataError, "list<")
    refused(spec("parallel", path, columns={"query_en": "query"}).load, DataError, "should be a string", 'kind = "hf"')


# -- Mr. TyDi -------------------------------------------------------------------------------------------------------


def passage(docid: str, title: str, text: str) -> dict[str, str]:
    return {"docid": docid, "title": title, "text": text}


TYDI = [
    {
        "query_id": "1",
        "query": "When was quantum field theory developed?",
        "positive_passages": [passage("25267#12", "Quantum field theory", "In the 1920s.")],
        "negative_passages": [passage("346489#8", "Local quantum field theory", "It."), passage("3#1", "", "No.")],
    },
    {
        "query_id": "2",
        "query": "Who was first?",
        "positive_passages": [passage("9#0", "Dirac", "Dirac."), passage("25267#12", "", "In the 1920s.")],
        "negative_passages": [],
    },
    {
        "query_id": "4",
        "query": "Is it big?",
        "positive_passages": [passage("9#3", "Dirac", "Yes.")],
        "negative_passages": [passage("1#1", "t", "No")],
    },
]


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train.jsonl"])
def test_mr_tydi(name: str, tmp_path: Path) -> None:
    write_json(tmp_path / "mrtydi-v1.1-english" / name, TYDI)
    source = spec("mr-tydi", tmp_path, languages=("en",), options={"negatives": 2}).load()
    assert source.languages == ("en",)
    assert [whole(source, role, "en") for role in source.roles] == [
        ["When was quantum field theory developed?", "Who was first?", "Is it big?"],
        ["In the 1920s.", "Dirac.", "Yes."],
        ["It.", "", "No"],
        ["No.", "", ""],
    ]
    assert source.groups is not None
    assert source.groups[0] == source.groups[1] != source.groups[2]  # one passage answers the first two
    assert list(source.question_ids or ()) == ["1", "2", "4"]
    assert source.article is not None
    assert source.article.tolist() == [0, 1, 1]
    assert source.titles == (frozenset({"Quantum field theory"}), frozenset({"Dirac"}))
    titled = spec("mr-tydi", tmp_path, languages=("en",), options={"titles": True}).load()
    assert whole(titled, "passage", "en") == ["Quantum field theory In the 1920s.", "Dirac Dirac.", "Dirac Yes."]
    assert not titled.negatives


def test_wrong_files_of_mr_tydi(tmp_path: Path) -> None:
    load = spec("mr-tydi", tmp_path, languages=("en",)).load
    refused(load, DataError, "mrtydi-v1.1-english/train.jsonl.gz")
    path = tmp_path / "mrtydi-v1.1-english" / "train.jsonl.gz"
    write_json(path, [{**TYDI[0], "positive_passages": [passage("1#1", "", "")]}])
    refused(load, DataError, f"{path}:1", "ids without text")
    write_json(path, [TYDI[0], {**TYDI[0], "positive_passages": []}])
    refused(load, DataError, f"{path}:2", "'positive_passages' is empty")
    write_json(path, [{**TYDI[0], "query": None}])
    refused(load, DataError, f"{path}:1", "'query' should be a string")
    write_json(path, [{"query_id": "1", "query": "?"}])
    refused(load, DataError, f"{path}:1", "'positive_passages' should be a list")
    refused(spec("mr-tydi", tmp_path, languages=("fi",)).load, DataError, "mrtydi-v1.1-finnish", "mrtydi-v1.1-english")


# -- MFAQ -----------------------------------------------------------------------------------------------------------


def page(number: int, *pairs: tuple[str, str]) -> dict[str, Any]:
    found = [{"question": question, "answer": answer, "language": "en"} for question, answer in pairs]
    return {"id": number, "language": "en", "num_pairs": len(found), "domain": "a.com", "qa_pairs": found}


def test_mfaq(tmp_path: Path) -> None:
    pages = [page(0, ("Do I need a car?", "If so."), ("Why?", "Call us.")), page(1, ("Who?", "Call us. "), (" ", "x"))]
    write_json(tmp_path / "data" / "en" / "train.jsonl", pages)
    write_json(tmp_path / "data" / "en" / "valid.jsonl", pages[:1])
    source = spec("mfaq", tmp_path, languages=("en",)).load()
    assert whole(source, "query", "en") == ["Do I need a car?", "Why?", "Who?"]
    assert whole(source, "passage", "en") == ["If so.", "Call us.", "Call us. "]
    assert source.groups is not None
    assert source.groups[1] == source.groups[2] != source.groups[0]
    assert len(spec("mfaq", tmp_path, languages=("en",), options={"split": "valid"}).load()) == 2
    refused(spec("mfaq", tmp_path, languages=("fr",)).load, DataError, "data/fr/train.jsonl")
    path = write_json(tmp_path / "data" / "de" / "train.jsonl", [pages[0], {"id": 3}])
    refused(spec("mfaq", tmp_path, languages=("de",)).load, DataError, f"{path}:2", "'qa_pairs'")
    write_json(path, [{"qa_pairs": [{"question": "?"}]}])
    refused(spec("mfaq", tmp_path, languages=("de",)).load, DataError, f"{path}:1", "'answer'")
    write_json(path, [{"qa_pairs": []}])
    refused(spec("mfaq", tmp_path, languages=("de",)).load, DataError, "no question-answer pairs")


# -- LAReQA ---------------------------------------------------------------------------------------------------------


def squad_questions(path: Path) -> Iterator[tuple[str, str, str, tuple[int, int], str]]:
    """Id, question, answer sentence, the sentence's place, and title, read independently of the package."""
    number = 0
    for article in json.loads(path.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                start = qa["answers"][0]["answer_start"]
                (place,) = (i for i, (b, e) in enumerate(paragraph["sentence_breaks"]) if b <= start < e)
                begin, end = paragraph["sentence_breaks"][place]
                sentence = paragraph["context"][begin:end]
                yield qa["id"], qa["question"], sentence, (number, place), article["title"]
            number += 1


@pytest.mark.parametrize(("folder", "counts"), [("xquad-r", (1190, 488, 656, 48)), ("mlqa-r", (1148, 1140, 0, 520))])
def test_a_question_and_the_sentence_that_answers_it(
    folder: str, counts: tuple[int, int, int, int], data_dir: Path
) -> None:
    """Counts: rows, groups, questions that share an answer sentence in English, articles."""
    rows, groups, english, articles = counts
    source = spec("lareqa", data_dir / folder).load()
    read = {path.stem: list(squad_questions(path)) for path in sorted((data_dir / folder).glob("*.json"))}
    ids = list(dict.fromkeys(i for found in read.values() for i, *_ in found))
    assert list(source.question_ids or ()) == ids
    assert len(source) == rows
    at: dict[tuple[str, object], set[str]] = {}
    for code, found in read.items():
        by_id = {i: (question, sentence) for i, question, sentence, *_ in found}
        assert whole(source, "query", code) == [by_id.get(i, ("", ""))[0] for i in ids]
        assert whole(source, "passage", code) == [by_id.get(i, ("", ""))[1] for i in ids]
        for i, _, _, place, _ in found:
            at.setdefault((code, place), set()).add(i)
    for found in read.values():
        for i, question, sentence, *_ in found:
            at.setdefault(("the same question", question.strip()), set()).add(i)
            at.setdefault(("the same sentence", sentence.strip()), set()).add(i)
    assert sum(len(each) for (code, _), each in at.items() if code == "en" and len(each) > 1) == english
    # Groups by their definition: sets of ids with a sentence or a question in common, joined until none is.
    group_of = {i: {i} for i in ids}
    for each in at.values():
        group = set().union(*(group_of[i] for i in each))
        group_of.update(dict.fromkeys(group, group))
    joined = {frozenset(group) for group in group_of.values()}
    assert len(joined) == groups
    assert source.groups is not None
    of = dict(zip(ids, source.groups.tolist(), strict=True))
    assert joined == {frozenset(i for i in ids if of[i] == number) for number in set(of.values())}
    assert source.article is not None
    assert len(set(source.article.tolist())) == len(source.titles) == articles


def test_articles_are_those_of_the_collection_and_have_titles_in_all_languages(data_dir: Path) -> None:
    task = collections()["MLQA-R"][0]
    files = {path.stem: path for path in sorted((data_dir / "mlqa-r").glob("*.json"))}
    found = lareqa_articles(files)
    cluster = task.reader.load(DataOptions(data_dir=data_dir)).article_cluster
    assert {(found.number[i], cluster[i]) for i in cluster} == {(number, number) for number in range(520)}
    (prime,) = (titles for titles in found.titles if "Prime number" in titles)
    assert "素数" in prime


def test_a_collection_of_the_project_by_name(data_dir: Path) -> None:
    named = spec("lareqa", dataset="MLQA-R", languages=("zh", "en")).load(data_dir)
    folder = spec("lareqa", data_dir / "mlqa-r", languages=("zh", "en")).load()
    assert (named.collection, folder.collection) == ("MLQA-R", "")
    assert named.languages == ("zh", "en")
    assert list(named.question_ids or ()) == list(folder.question_ids or ())
    assert whole(named, "passage", "zh") == whole(folder, "passage", "zh")
    # Without the other five languages nothing is known less of what belongs together.
    assert named.groups is not None
    assert len(set(named.groups.tolist())) == 1140
    refused(spec("lareqa", dataset="MLQAR").load, RequestError, "did you mean 'MLQA-R'?")
    refused(spec("lareqa", dataset="MIRACL").load, RequestError, "in LAReQA's format")


def test_folds_part_the_questions_by_paragraph_or_article() -> None:
    demo = collections()["HybridDemo"][0].reader.load(DataOptions())
    for by, cluster in (("paragraph", demo.paragraph_cluster), ("article", demo.article_cluster)):
        parts = [
            spec("lareqa", dataset="HybridDemo", options={"folds": 3, "fold": [fold], "by": by}).load()
            for fold in range(3)
        ]
        for fold, part in enumerate(parts):
            assert set(part.question_ids or ()) == {i for i, number in cluster.items() if number % 3 == fold}
        assert sum(map(len, parts)) == 84
        two = spec("lareqa", dataset="HybridDemo", options={"folds": 3, "fold": [0, 2], "by": by}).load()
        assert set(two.question_ids or ()) == {*(parts[0].question_ids or ()), *(parts[2].question_ids or ())}
        assert len(two.titles) == len(set(demo.article_cluster.values()))
    context = spec("lareqa", dataset="HybridDemo", languages=("en",), options={"passage": "sentence+context"}).load()
    plain = spec("lareqa", dataset="HybridDemo", languages=("en",)).load()
    for long, short in zip(whole(context, "passage", "en"), whole(plain, "passage", "en"), strict=True):
        assert long.startswith(f"{short} ")
        assert long.count(short.strip()) == 2


def test_wrong_folders_of_lareqa(tmp_path: Path) -> None:
    refused(spec("lareqa", tmp_path).load, DataError, "<language>.json")
    write(tmp_path / "en.json", "{}")
    refused(spec("lareqa", tmp_path).load, DataError, "'data' is missing")
    refused(spec("lareqa", tmp_path, languages=("de",)).load, DataError, "'de'", "it has en")


# -- aligned lines --------------------------------------------------------------------------------------------------


def test_ntrex(data_dir: Path) -> None:
    source = spec("ntrex", data_dir / "ntrex-128").load()
    assert (len(source), len(source.languages)) == (1997, 20)
    files = {"en": "src.eng", "de": "ref.deu", "zh": "ref.zho-CN", "ar": "ref.arb"}
    for code, name in files.items():
        plain = (data_dir / "ntrex-128" / f"newstest2019-{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
        assert whole(source, "query", code) == whole(source, "passage", code) == plain
    documents = (data_dir / "ntrex-128" / "DOCUMENT_IDS.tsv").read_text().split()
    assert source.article is not None
    numbers = {document: number for number, document in enumerate(dict.fromkeys(documents))}
    assert source.article.tolist() == [numbers[document] for document in documents]
    assert len(np.unique(source.group_of(np.arange(1997)))) == 1994  # some sentences stand there twice
    some = spec("ntrex", data_dir / "ntrex-128", languages=("vi", "tr")).load()
    assert some.languages == ("vi", "tr")
    refused(spec("ntrex", data_dir / "ntrex-128", languages=("yo",)).load, DataError, "'yo'", "it has ar, bn")


def test_ntrex_takes_the_language_before_its_varieties(tmp_path: Path) -> None:
    for name, text in {"spa": "a", "spa-MX": "b", "zho-TW": "c", "zho-CN": "d"}.items():
        write(tmp_path / f"newstest2019-ref.{name}.txt", f"{text}\n")
    source = spec("ntrex", tmp_path).load()
    assert {code: whole(source, "query", code) for code in source.languages} == {"es": ["a"], "zh": ["d"]}
    assert source.article is None
    refused(spec("ntrex", write(tmp_path / "x" / "y", "").parent).load, DataError, "NTREX-128")


def test_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.en", "one\r\n\n three\u2028 \nfour")
    write(tmp_path / "a.it", "uno\ndue\n\nquattro\n")
    write(tmp_path / "ids", "x\nx\ny\nz")
    columns = {"en": "a.en", "it": "a.it"}
    source = spec("lines", tmp_path, columns=columns, options={"documents": "ids"}).load()
    assert whole(source, "query", "en") == ["one", "", " three\u2028 ", "four"]
    assert whole(source, "passage", "it") == ["uno", "due", "", "quattro"]
    assert source.article is not None
    assert source.article.tolist() == [0, 0, 1, 2]
    assert spec("lines", tmp_path, columns=columns, languages=("it",)).load().languages == ("it",)
    refused(spec("lines", tmp_path, columns={**columns, "de": "a.de"}).load, DataError, "a.de")
    write(tmp_path / "a.it", "uno\ndue\n")
    refused(spec("lines", tmp_path, columns=columns).load, DataError, "4 lines", "2: they are not aligned")


# -- the paper's data -----------------------------------------------------------------------------------------------

#: arXiv 2408.10536, Table 9: rows of each language, and languages.
TABLE_9 = {
    "WikiQA": (1469, "en ar zh de es ru th tr hi"),
    "Mr. TyDi": (3547, "en"),
    "DuoRC": (33298, "en ar zh de es ru th tr hi"),
    "NewsQA": (59496, "en ar zh de es ru th tr hi"),
    "Google NQ": (113535, "en ar zh de es ru th tr hi"),
    "Yahoo QA": (135557, "en ar zh de es ru th tr hi"),
    "EntityQuestions": (176975, "en ar zh de es ru th tr hi"),
    "MFAQ": (3567659, "en"),
    "mMARCO": (39780811, "en ar zh de es ru hi"),
}


def test_the_papers_data_are_a_configuration() -> None:
    text = PRESETS["paper-data"].read_text()
    public = tomllib.loads(text)
    assert set(public) == {"sources"}
    assert {each["name"] for each in public["sources"]} == {"mMARCO", "MFAQ", "Mr. TyDi"}
    # With the comment signs taken away from them, the sets that are not public stand there too.
    commented = text.partition("# [[sources]]")[2]
    rest = tomllib.loads("[[sources]]" + "\n".join(line.removeprefix("#") for line in commented.split("\n")))
    made = [
        SourceSpec(**{**each, "languages": tuple(each["languages"])}) for each in public["sources"] + rest["sources"]
    ]
    assert {each.name: (each.rows, " ".join(each.languages)) for each in made} == TABLE_9
    assert "translated in-house" in text


def test_the_papers_data_load_from_files_in_their_formats(tmp_path: Path) -> None:
    text = PRESETS["paper-data"].read_text()
    mmarco_files(tmp_path)
    write_json(tmp_path / "data" / "en" / "train.jsonl", [page(0, ("Why?", "So."))])
    write_json(tmp_path / "mrtydi-v1.1-english" / "train.jsonl.gz", TYDI)
    for each in tomllib.loads(text)["sources"]:
        made = SourceSpec(**{**each, "languages": tuple(each["languages"])})
        local = replace(made, path=str(tmp_path), dataset="", revision="")
        if made.kind == "mmarco":
            local = replace(local, languages=("en", "ar"))
        source = local.load()
        assert any("were expected" in note for note in source.notes)
        assert whole(source, "query", "en")[0]
