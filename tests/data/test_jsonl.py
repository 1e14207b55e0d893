"""A user's own parallel data: every form of them gives the same collection, and what is wrong is named by its place."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_server import COMMIT, HubServer, nowhere, serving, use_hub
from hybrid_bench.data import jsonl as parallel
from hybrid_bench.data.collection import Collection, Column, DataOptions, text_id
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.errors import DataError, RequestError

Row = dict[str, Any]
NONE = DataOptions()

PASSAGES: list[Row] = [
    {"id": "p1", "language": "en", "text": "The Danube is 2,850 kilometres long.", "title": "Danube"},
    {"id": "p1", "language": "de", "text": "Die Donau ist 2850 Kilometer lang.", "title": "Donau"},
    {"id": "p2", "language": "en", "text": "Vienna lies on the Danube."},
    {"id": "p2", "language": "de", "text": "Wien liegt an der Donau."},
    {"id": "p2", "language": "fr", "text": "Vienne se trouve sur le Danube."},
    {"id": "p3", "language": "en", "text": "Turin lies on the Po."},
]
QUESTIONS: list[Row] = [
    {"id": "q1", "language": "en", "text": "How long is the Danube?", "relevant": ["p1"], "group": "Danube"},
    {"id": "q1", "language": "de", "text": "Wie lang ist die Donau?"},
    {"id": "q2", "language": "de", "text": "Was liegt an der Donau?", "relevant": ["p2", "p1"], "group": "Danube"},
    {"id": "q3", "language": "fr", "text": "Où est Turin ?", "relevant": [{"id": "p3", "gain": 2}]},
]
#: What follows from these rows by the rules that the module states: question -> (language, passage, gain).
RELEVANT = {
    "q1": {("de", "p1", 1), ("en", "p1", 1)},
    "q2": {("de", "p1", 1), ("en", "p1", 1), ("de", "p2", 1), ("en", "p2", 1), ("fr", "p2", 1)},
    "q3": {("en", "p3", 2)},
}

README = """\
---
configs:
- config_name: passages
  data_files: passages.parquet
- config_name: questions
  data_files:
  - split: test
    path: questions.*
---
# Data
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` keeps goes where the test's files go."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(folder: Path, passages: Sequence[Row] = PASSAGES, questions: Sequence[Row] = QUESTIONS) -> Path:
    """A folder with both tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "passages.jsonl").write_text(lines(passages), encoding="utf-8")
    (folder / "questions.jsonl").write_text(lines(questions), encoding="utf-8")
    return folder


def write_dataset(folder: Path, passages: Sequence[Row] = PASSAGES, questions: Sequence[Row] = QUESTIONS) -> Path:
    """A folder in the Hub's layout; the columns of Parquet have one type each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(README, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(list(passages)), folder / "passages.parquet")
    uniform = [row | {"relevant": as_objects(row.get("relevant"))} for row in questions]
    pq.write_table(pa.Table.from_pylist(uniform), folder / "questions.parquet")
    return folder


def as_objects(relevant: list[Any] | None) -> list[Row] | None:
    """The same judgments, all as objects."""
    if relevant is None:
        return None
    return [entry if isinstance(entry, dict) else {"id": entry} for entry in relevant]


def load(spec: str, **arguments: Any) -> Collection:
    return JsonlReader.parse(spec, **arguments).load(NONE)


def relevant_of(collection: Collection) -> dict[str, dict[str, set[tuple[str, str, int]]]]:
    """Query language -> question -> (language, original id, gain) of each relevant passage."""
    found: dict[str, dict[str, set[tuple[str, str, int]]]] = {}
    for code, queries in collection.queries.items():
        judgments = queries.judgments
        assert (np.diff(judgments.query) >= 0).all()
        of: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        for query, part, passage, gain in zip(
            judgments.query, judgments.part, judgments.passage, judgments.gain, strict=True
        ):
            name = collection.parts[part]
            original = collection.passages[name].ids[passage].split(".", 2)[2]
            assert (name, original, int(gain)) not in of[queries.question_ids[query]]
            of[queries.question_ids[query]].add((name, original, int(gain)))
        found[code] = dict(of)
    return found


def plain(collection: Collection) -> Any:
    """All of a collection that its form should not change."""
    return (
        collection.name,
        {
            code: (list(part.ids), list(part.texts), None if part.titles is None else list(part.titles))
            for code, part in collection.passages.items()
        },
        {code: (queries.ids, queries.question_ids, queries.texts) for code, queries in collection.queries.items()},
        relevant_of(collection),
        collection.paragraph_cluster,
        collection.article_cluster,
    )


# -- the collection -----------------------------------------------------------------------------------------------


def test_a_folder_of_json_lines_becomes_a_collection(tmp_path: Path) -> None:
    source = JsonlReader.parse(f"jsonl:{write(tmp_path / 'Rivers')}")
    collection = source.load(NONE)
    assert (source.collection, collection.name) == ("Rivers", "Rivers")
    assert collection.parts == source.languages == collection.languages == ("de", "en", "fr")
    english = collection.passages["en"]
    assert english.ids == tuple(text_id("Rivers", "en", original) for original in ("p1", "p2", "p3"))
    assert english.texts == tuple(row["text"] for row in PASSAGES if row["language"] == "en")
    assert english.titles == ("Danube", "", "")
    assert collection.passages["fr"].titles is None
    german = collection.queries["de"]
    assert (german.language, german.question_ids) == ("de", ("q1", "q2"))
    assert german.ids == (text_id("Rivers", "de", "q1"), text_id("Rivers", "de", "q2"))
    assert german.texts == ("Wie lang ist die Donau?", "Was liegt an der Donau?")
    assert [column.dtype for column in vars(german.judgments).values()] == [np.int32, np.int16, np.int32, np.int32]
    assert relevant_of(collection) == {
        "de": {"q1": RELEVANT["q1"], "q2": RELEVANT["q2"]},
        "en": {"q1": RELEVANT["q1"]},
        "fr": {"q3": RELEVANT["q3"]},
    }
    assert collection.paragraph_cluster == {"q1": 0, "q2": 1, "q3": 2}
    assert collection.article_cluster == {"q1": 0, "q2": 0, "q3": 1}
    assert set(collection.sha256) == {"", "de", "en", "fr"}
    assert source.sha256(NONE) == collection.sha256
    assert collection.revision == source.revision == collection.sha256["en"][:12]
    assert source.saved_options(NONE, ["en-de"]) == {}


def test_the_rows_in_the_documentation_are_what_it_says(tmp_path: Path) -> None:
    assert parallel.__doc__
    rows = [json.loads(line) for line in re.findall(r'^    (\{"id".*)$', parallel.__doc__, re.MULTILINE)]
    assert len(rows) == 4
    passages, questions = rows[:2], rows[2:]
    collection = load(f"jsonl:{write(tmp_path / 'doc', passages, questions)}")
    both = {("de", "p1", 1), ("en", "p1", 1)}
    assert relevant_of(collection) == {"de": {"q1": both}, "en": {"q1": both}}


def gzipped(folder: Path) -> str:
    for table in ("passages", "questions"):
        (folder / f"{table}.jsonl.gz").write_bytes(gzip.compress((folder / f"{table}.jsonl").read_bytes()))
        (folder / f"{table}.jsonl").unlink()
    return f"jsonl:{folder}"


def in_parquet(folder: Path) -> str:
    for table, rows in (("passages", PASSAGES), ("questions", QUESTIONS)):
        uniform = [row | ({"relevant": as_objects(row["relevant"])} if "relevant" in row else {}) for row in rows]
        pq.write_table(pa.Table.from_pylist(uniform), folder / f"{table}.parquet", row_group_size=2)
        (folder / f"{table}.jsonl").unlink()
    return f"jsonl:{folder}"


def in_many_files(folder: Path) -> str:
    (folder / "passages").mkdir()
    for number, row in enumerate(PASSAGES):
        (folder / "passages" / f"{number}.jsonl").write_text(lines([row]), encoding="utf-8")
    (folder / "passages" / "notes.txt").write_text("not a table")
    (folder / "passages.jsonl").unlink()
    return f"jsonl:{folder}"


def in_one_file(folder: Path) -> str:
    rows = [row | {"kind": "question"} for row in QUESTIONS] + [row | {"kind": "passage"} for row in PASSAGES]
    (folder.parent / "one").mkdir()
    path = folder.parent / "one" / f"{folder.name}.jsonl"
    path.write_text(lines(rows), encoding="utf-8")
    return f"jsonl:{path}"


def as_dataset(folder: Path) -> str:
    return f"hf:{write_dataset(folder.parent / 'hub' / folder.name)}"


def as_windows_writes(folder: Path) -> str:
    for table in ("passages", "questions"):
        text = (folder / f"{table}.jsonl").read_text(encoding="utf-8")
        (folder / f"{table}.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode())
    return f"jsonl:{folder}"


def with_own_keys_and_nulls(folder: Path) -> str:
    passages = [{"title": None, "_source": {"page": 1}} | row for row in PASSAGES]
    write(folder, passages, [{"relevant": None, "paragraph": None} | row for row in QUESTIONS])
    return f"jsonl:{folder}"


@pytest.mark.parametrize(
    "form",
    [gzipped, in_parquet, in_many_files, in_one_file, as_dataset, as_windows_writes, with_own_keys_and_nulls],
)
def test_every_form_gives_the_same_collection(tmp_path: Path, form: Callable[[Path], str]) -> None:
    folder = write(tmp_path / "Rivers")
    expected = plain(load(f"jsonl:{folder}"))
    assert plain(load(form(folder))) == expected


def test_ids_may_be_numbers_or_hold_any_character(tmp_path: Path) -> None:
    odd = ["a b/c\"d'", "ü\u2028.x", "..", "7"]
    passages = [{"id": i, "language": "en", "text": f"text {i}"} for i in odd]
    questions: list[Row] = [{"id": i, "language": "en", "text": f"what {i}?", "relevant": [i]} for i in odd[:3]]
    questions.append({"id": 12, "language": "en", "text": "seven?", "relevant": [7], "group": 1, "paragraph": 0})
    collection = load(f"jsonl:{write(tmp_path / 'odd', passages, questions)}")
    expected = {i: {("en", i, 1)} for i in odd[:3]} | {"12": {("en", "7", 1)}}
    assert relevant_of(collection) == {"en": expected}


# -- judgments ----------------------------------------------------------------------------------------------------


def one_question(tmp_path: Path, relevant: Any, passages: Sequence[Row] = PASSAGES) -> set[tuple[str, str, int]]:
    questions = [{"id": "q", "language": "en", "text": "?", "relevant": relevant}]
    return relevant_of(load(f"jsonl:{write(tmp_path / 'one', passages, questions)}"))["en"]["q"]


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        (["p1"], {("en", "p1", 1), ("de", "p1", 1)}),
        ([{"id": "p1"}], {("en", "p1", 1), ("de", "p1", 1)}),
        ([{"id": "p1", "language": "de", "gain": 3}, "p3"], {("de", "p1", 3), ("en", "p3", 1)}),
        ({"p1": 2, "p2": 0, "p3": 1}, {("en", "p1", 2), ("de", "p1", 2), ("en", "p3", 1)}),
        (["p3", "p3", {"id": "p3", "language": "en"}], {("en", "p3", 1)}),
        ([{"id": "p3", "gain": None, "language": None}], {("en", "p3", 1)}),
    ],
)
def test_every_form_of_a_judgment(tmp_path: Path, relevant: Any, expected: set[tuple[str, str, int]]) -> None:
    assert one_question(tmp_path, relevant) == expected


def test_a_column_of_maps_holds_gains(tmp_path: Path) -> None:
    folder = write(tmp_path / "maps")
    (folder / "questions.jsonl").unlink()
    table = pa.table({"id": ["q"], "language": ["en"], "text": ["?"]}).append_column(
        "relevant", pa.array([[("p1", 2), ("p3", 1)]], pa.map_(pa.string(), pa.int64()))
    )
    pq.write_table(table, folder / "questions.parquet")
    assert relevant_of(load(f"jsonl:{folder}"))["en"]["q"] == {("en", "p1", 2), ("de", "p1", 2), ("en", "p3", 1)}


def test_a_dataset_in_json_lines_may_hold_judgments_in_several_forms(tmp_path: Path) -> None:
    folder = write(tmp_path / "hub")
    (folder / "README.md").write_text(README.replace("passages.parquet", "passages.jsonl"), encoding="utf-8")
    questions = [row | {"relevant": row.get("relevant", [])} for row in QUESTIONS]
    questions[0] |= {"relevant": {"p1": 1}}
    (folder / "questions.jsonl").write_text(lines(questions), encoding="utf-8")
    assert plain(load(f"hf:{folder}")) == plain(load(f"jsonl:{write(tmp_path / 'plain')}", collection="hub"))


def test_judgments_of_all_versions_of_a_question_are_joined(tmp_path: Path) -> None:
    """As in LAReQA's data, where each language's file knows the answer in its own language only."""
    passages = [{"id": f"{code}-{i}", "language": code, "text": f"{code} {i}"} for code in ("de", "en") for i in (1, 2)]
    questions: list[Row] = [
        {"id": "q", "language": "de", "text": "a", "relevant": ["de-1"]},
        {"id": "q", "language": "en", "text": "b", "relevant": {"en-1": 2, "en-2": 1}},
        {"id": "q", "language": "fr", "text": "c"},
    ]
    found = relevant_of(load(f"jsonl:{write(tmp_path / 'joined', passages, questions)}"))
    all_three = {("de", "de-1", 1), ("en", "en-1", 2), ("en", "en-2", 1)}
    assert found == {"de": {"q": all_three}, "en": {"q": all_three}, "fr": {"q": all_three}}


def test_numbers_that_each_language_counts_by_itself_are_refused(tmp_path: Path) -> None:
    passages = [{"id": i, "language": code, "text": f"{code} {i}"} for code in ("de", "en") for i in (1, 2)]
    questions: list[Row] = [
        {"id": "q", "language": "de", "text": "a", "relevant": [1]},
        {"id": "q", "language": "en", "text": "b", "relevant": [2]},
    ]
    folder = write(tmp_path / "counted", passages, questions)
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{folder}")
    path = folder / "questions.jsonl"
    assert str(caught.value) == (
        f"{path}:1: '1' is relevant to the question 'q' here, but not at {path}:2, and de, en have a passage of this"
        ' id; if only that in \'de\' is meant, write {"id": "1", "language": "de"}; if all are, give the same list at'
        " both, or at one only"
    )
    for row in questions:
        row["relevant"] = [{"id": row["relevant"][0], "language": row["language"]}]
    write(folder, passages, questions)
    assert relevant_of(load(f"jsonl:{folder}"))["en"]["q"] == {("de", "1", 1), ("en", "2", 1)}


passages_strategy = st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from(["de", "en", "fr"])), min_size=1)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Any passages, and questions that give all their judgments at one of their versions."""
    pairs = draw(passages_strategy)
    passages = [{"id": i, "language": code, "text": f"{i} {code}"} for i, code in draw(st.permutations(sorted(pairs)))]
    questions: list[Row] = []
    for question in draw(st.sets(st.integers(0, 4), min_size=1)):
        versions = draw(st.lists(st.sampled_from(["de", "en", "ru"]), min_size=1, unique=True))
        rows: list[Row] = [{"id": question, "language": code, "text": f"{question}?"} for code in versions]
        ids = draw(st.lists(st.sampled_from(sorted({i for i, _ in pairs})), unique=True))
        exact = draw(st.sets(st.sampled_from(sorted(pairs)))) if draw(st.booleans()) else set()
        rows[draw(st.integers(0, len(rows) - 1))]["relevant"] = [
            *ids,
            *({"id": i, "language": code, "gain": 1} for i, code in exact),
        ]
        questions += rows
    return passages, draw(st.permutations(questions))


@settings(max_examples=100)
@given(tables())
def test_what_is_relevant_follows_from_the_rules(
    tmp_path_factory: pytest.TempPathFactory, data: tuple[list[Row], list[Row]]
) -> None:
    passages, questions = data
    folder = write(tmp_path_factory.mktemp("rules"), passages, questions)
    wanted: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
    for question in questions:
        for entry in question.get("relevant", []):
            wanted[str(question["id"])] |= {
                (row["language"], row["id"], 1)
                for row in passages
                if (row["id"] == entry if isinstance(entry, str) else entry.items() <= (row | {"gain": 1}).items())
            }
    expected: dict[str, dict[str, Any]] = defaultdict(dict)
    for question in questions:
        if wanted[str(question["id"])]:
            expected[question["language"]][str(question["id"])] = wanted[str(question["id"])]
    if expected:
        assert relevant_of(load(f"jsonl:{folder}")) == expected
    else:
        with pytest.raises(DataError, match="no question has a relevant passage"):
            load(f"jsonl:{folder}")


# -- clusters and notes -------------------------------------------------------------------------------------------


def grouped(tmp_path: Path, *groups: Row) -> Collection:
    passages: list[Row] = [{"id": "p", "language": "en", "text": "x"}]
    questions: list[Row] = [{"language": "en", "text": "?", "relevant": ["p"]} | row for row in groups]
    return load(f"jsonl:{write(tmp_path / 'grouped', passages, questions)}")


def test_without_groups_every_question_stands_for_itself(tmp_path: Path) -> None:
    collection = grouped(tmp_path, {"id": "a"}, {"id": "b"}, {"id": "a", "language": "de"})
    assert collection.paragraph_cluster == collection.article_cluster == {"a": 0, "b": 1}


def test_groups_and_the_paragraphs_within_them_are_clusters(tmp_path: Path) -> None:
    collection = grouped(
        tmp_path,
        {"id": "a", "group": "Danube", "paragraph": 1},
        {"id": "b", "group": "Danube", "paragraph": 2},
        {"id": "c", "group": "Po", "paragraph": 1},
        {"id": "d", "group": "Danube", "paragraph": 1},
        {"id": "e"},
    )
    assert collection.paragraph_cluster == {"a": 0, "b": 1, "c": 2, "d": 0, "e": 3}
    assert collection.article_cluster == {"a": 0, "b": 0, "c": 1, "d": 0, "e": 2}


def test_a_group_in_any_language_joins_questions_and_paragraphs_without_groups_do_too(tmp_path: Path) -> None:
    collection = grouped(
        tmp_path,
        {"id": "a", "group": "Donau", "language": "de"},
        {"id": "b", "group": "Donau", "language": "de"},
        {"id": "b", "group": "Danube", "language": "en"},
        {"id": "c", "group": "Danube", "language": "en"},
        {"id": "d", "paragraph": "x"},
        {"id": "e", "paragraph": "x"},
    )
    assert collection.article_cluster == {"a": 0, "b": 0, "c": 0, "d": 1, "e": 1}
    assert collection.paragraph_cluster == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 3}


def test_questions_without_a_relevant_passage_are_left_out_and_named(tmp_path: Path) -> None:
    more: list[Row] = [{"id": f"n{i}", "language": "en", "text": "?"} for i in range(4)]
    more.append({"id": "z", "language": "fr", "text": "?", "relevant": {"p1": 0}})
    folder = write(tmp_path / "few", PASSAGES, [*more, *QUESTIONS])
    collection = load(f"jsonl:{folder}")
    assert relevant_of(collection) == relevant_of(load(f"jsonl:{write(tmp_path / 'all')}"))
    assert collection.notes[0] == (
        "questions left out because no passage is relevant to them, 5 of 8: 'n0', 'n1', 'n2' and 2 more"
    )


def test_notes_say_where_translations_are_missing_and_where_ids_are_joined(tmp_path: Path) -> None:
    collection = load(f"jsonl:{write(tmp_path / 'x')}")
    assert collection.notes == (
        "not every one of the 3 questions is there in every language: de 2, en 1, fr 1",
        "questions that are there in one language only have relevant passages whose ids stand in several; these count "
        "in all of them: 'p2', 'p1'",
    )
    questions = [QUESTIONS[0], QUESTIONS[1]]
    assert load(f"jsonl:{write(tmp_path / 'y', PASSAGES, questions)}").notes == ()


def test_a_collection_in_one_language_works_and_says_what_that_means(tmp_path: Path) -> None:
    passages = [row for row in PASSAGES if row["language"] == "en"]
    source = JsonlReader.parse(f"jsonl:{write(tmp_path / 'x', passages, QUESTIONS[:1])}")
    assert (source.languages, source.query_languages) == (("en",), ("en",))
    assert source.load(NONE).notes == (
        "all passages are in one language ('en'), so a pool of all languages is the same as that of 'en'",
    )


def test_a_language_with_questions_only_has_an_empty_part(tmp_path: Path) -> None:
    asked = {"id": "q1", "language": "sw", "text": "Danube ina urefu gani?"}
    source = JsonlReader.parse(f"jsonl:{write(tmp_path / 'x', PASSAGES, [*QUESTIONS[:2], asked])}")
    collection = source.load(NONE)
    assert source.languages == collection.parts == collection.languages == ("de", "en", "fr", "sw")
    assert source.passage_languages == ("de", "en", "fr")
    assert source.query_languages == ("de", "en", "sw")
    assert len(collection.passages["sw"]) == 0
    assert relevant_of(collection)["sw"] == {"q1": RELEVANT["q1"]}
    assert source.missing(NONE, "sw-en") is None
    assert source.missing(NONE, "sw") is None
    assert source.missing(NONE, "en-sw") == "no question in 'en' has a relevant passage in 'sw'"
    assert source.missing(NONE, "de-fr") == "no question in 'de' has a relevant passage in 'fr'"
    assert source.missing(NONE, "fr-en") == "there are no questions in 'fr'"


# -- large collections --------------------------------------------------------------------------------------------


def many(n: int, scattered: bool) -> list[Row]:
    """n long passages in three languages, these one after the other or mixed; a few have titles."""
    codes = ["de", "en", "fr"]
    order = np.arange(n) % 3 if scattered else np.sort(np.arange(n) % 3)
    return [
        {"id": i, "language": codes[which], "text": f"{i} " + "x" * 500, "title": "T" if i % 7 == 0 else None}
        for i, which in enumerate(order.tolist())
    ]


@pytest.mark.parametrize("scattered", [False, True])
def test_large_parts_are_columns_and_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scattered: bool
) -> None:
    rows = many(2000, scattered)
    questions = [{"id": "q", "language": "en", "text": "?", "relevant": [i]} for i in (1999,)]
    small = load(f"jsonl:{write(tmp_path / 'n', rows, questions)}")
    monkeypatch.setattr(parallel, "_SMALL", 10)
    monkeypatch.setattr(parallel, "_CHUNK", 300)
    parallel._load.cache_clear()
    for large in (
        load(f"jsonl:{tmp_path / 'n'}"),
        load(f"hf:{write_dataset(tmp_path / 'hub' / 'n', rows, questions)}"),
    ):
        assert isinstance(large.passages["de"].texts, Column)
        assert isinstance(large.passages["de"].ids, Column)
        assert plain(large) == plain(small)


def test_passages_of_a_dataset_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_SMALL", 10)
    rows = many(20_000, scattered=False)
    questions = [{"id": "q", "language": "en", "text": "?", "relevant": [rows[-1]["id"]]}]
    folder = write_dataset(tmp_path / "disk", rows, questions)
    load(f"hf:{folder}", collection="first")  # has `datasets` convert it
    before = pa.total_allocated_bytes()
    collection = load(f"hf:{folder}", collection="second")
    size = sum(len(row["text"]) for row in rows)
    assert pa.total_allocated_bytes() - before < size / 5  # the ids
    assert collection.passages["fr"].texts[-1] == rows[-1]["text"]


def test_duplicates_are_found_in_large_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_CHUNK", 7)
    rows = many(100, scattered=True)
    rows.insert(60, rows[3])
    questions = [{"id": "q", "language": "en", "text": "?", "relevant": [1]}]
    folder = write(tmp_path / "twice", rows, questions)
    path = folder / "passages.jsonl"
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{folder}")
    assert str(caught.value) == (
        f"{path}:61: the passage '3' stands in 'de' twice, first at {path}:4; an id may be there once in each language"
    )


# -- changes ------------------------------------------------------------------------------------------------------


def test_the_same_object_until_a_file_changes(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    source = JsonlReader.parse(f"jsonl:{folder}")
    first = source.load(NONE)
    assert source.load(DataOptions(data_dir=tmp_path), ["en"]) is first
    assert JsonlReader.parse(f"jsonl:{folder}", notice="Not for sale.").load(NONE) is first
    (folder / "questions.jsonl").write_text(lines([*QUESTIONS, QUESTIONS[0] | {"language": "fr"}]), encoding="utf-8")
    second = source.load(NONE)
    assert "q1" in second.queries["fr"].question_ids
    assert second.sha256 != first.sha256
    assert source.sha256(NONE) == second.sha256


def test_a_folder_in_the_hubs_layout_is_read_again_when_it_changes(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "x")
    source = JsonlReader.parse(f"hf:{folder}")
    first = source.load(NONE)
    assert source.load(NONE) is first
    write_dataset(folder, PASSAGES, QUESTIONS[:2])
    second = source.load(NONE)
    assert set(second.queries) == {"de", "en"}
    assert second.sha256 != first.sha256


def test_languages_that_are_given_are_not_looked_up_but_checked(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    source = JsonlReader.parse(f"jsonl:{folder}", languages=["fr", "en", "de"])
    assert source.load(NONE).parts == source.languages == source.query_languages == ("de", "en", "fr")
    wrong = JsonlReader.parse(f"x=jsonl:{folder}", languages=["de", "en"], query_languages=["de", "en", "fr"])
    (folder / "passages.jsonl").unlink()
    assert wrong.languages == ("de", "en", "fr")  # nothing is read
    write(folder)
    with pytest.raises(DataError, match=r": the passages are in de, en, fr, not in de, en$"):
        wrong.load(NONE)
    wrong = JsonlReader.parse(f"jsonl:{folder}", languages=["de", "en", "fr"], query_languages=["en"])
    with pytest.raises(DataError, match=r": the questions are in de, en, fr, not in en$"):
        wrong.load(NONE)


# -- names --------------------------------------------------------------------------------------------------------


def test_what_stands_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "my data (v2)")
    monkeypatch.chdir(tmp_path)
    source = JsonlReader.parse("jsonl:my data (v2)")
    assert (source.collection, source.place) == ("my-data-v2", str(tmp_path / "my data (v2)"))
    assert JsonlReader.parse(source.spec) == source
    assert JsonlReader.parse("Rivers=jsonl:my data (v2)/").collection == "Rivers"
    assert JsonlReader.parse("Rivers=jsonl:my data (v2)", collection="Lakes").collection == "Lakes"
    (tmp_path / "all.v1.jsonl.gz").touch()
    assert JsonlReader.parse("jsonl:all.v1.jsonl.gz").collection == "all.v1"
    hub = JsonlReader.parse("hf:org/Some-Data_1@refs/pr/1")
    assert (hub.collection, hub.place, hub.wanted) == ("Some-Data_1", "org/Some-Data_1", "refs/pr/1")
    assert hub.spec == "Some-Data_1=hf:org/Some-Data_1@refs/pr/1"
    assert JsonlReader.parse(hub.spec) == hub
    (tmp_path / "org" / "Some-Data_1").mkdir(parents=True)  # as in `datasets`, a folder comes first
    assert JsonlReader.parse("hf:org/Some-Data_1").place == str(tmp_path / "org" / "Some-Data_1")


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("jsonl:x", True),
        ("hf:org/name@main", True),
        ("Name=jsonl:/a/b", True),
        ("XQuAD-R", False),
        ("beir:folder", False),
        ("./jsonl:x", False),
    ],
)
def test_which_names_are_meant_for_it(text: str, yes: bool) -> None:
    assert JsonlReader.is_spec(text) is yes


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("XQuAD-R", "'XQuAD-R' is not the place of parallel data: jsonl:PATH, hf:FOLDER or hf:ORG/NAME"),
        ("jsonl:", "'jsonl:' names no file or folder"),
        ("hf:", "'hf:' names no folder or dataset"),
        ("jsonl:nowhere", "jsonl:nowhere: there is no file or folder {cwd}/nowhere"),
        ("hf:./nowhere", "hf:./nowhere: no such folder, nor the name of a dataset on the Hub, ORG/NAME[@REVISION]"),
        ("hf:a/b/c", "hf:a/b/c: no such folder, nor the name of a dataset on the Hub, ORG/NAME[@REVISION]"),
        ("hf:a/b@", "hf:a/b@: no such folder, nor the name of a dataset on the Hub, ORG/NAME[@REVISION]"),
        ("hf:file.txt", "hf:file.txt is a file: give the folder of the dataset, or jsonl:file.txt"),
        (
            "a b=jsonl:file.txt",
            "'a b' cannot be a collection's name: letters, digits, '_', '.', '+' and '-', beginning with a letter or "
            "digit; give one with NAME=jsonl:{cwd}/file.txt",
        ),
    ],
)
def test_wrong_names_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    with pytest.raises(RequestError) as caught:
        JsonlReader.parse(spec)
    assert str(caught.value) == message.format(cwd=tmp_path)


def test_an_unknown_language_among_those_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="unknown language 'German': languages are given by code, 'de'"):
        JsonlReader.parse(f"jsonl:{write(tmp_path)}", collection="x", languages=["German"])


# -- wrong data ---------------------------------------------------------------------------------------------------

PASSAGE, QUESTION = PASSAGES[0], QUESTIONS[0]


def without(row: Mapping[str, Any], key: str) -> Row:
    return {name: value for name, value in row.items() if name != key}


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ("passages", {**PASSAGE, "language": "xx"}, "unknown language 'xx': give a code of ISO 639-1 or 639-3"),
        ("passages", {**PASSAGE, "language": "EN"}, "unknown language 'EN': did you mean 'en'?"),
        ("passages", {**PASSAGE, "language": "German"}, "unknown language 'German': languages are given by code, 'de'"),
        ("passages", {**PASSAGE, "language": ["de"]}, "'language' should be a string, found [\"de\"]"),
        ("passages", without(PASSAGE, "language"), "'language' is missing, found only 'id', 'text', 'title'"),
        ("passages", {}, "'language' is missing, found only an empty object"),
        ("passages", {**PASSAGE, "text": None}, "'text' is missing, found only 'id', 'language', 'title'"),
        ("passages", {**PASSAGE, "text": ""}, "'text' is empty"),
        ("passages", {**PASSAGE, "text": "\u3000 \t"}, "'text' is empty"),
        ("passages", {**PASSAGE, "text": 5}, "'text' should be a string, found 5"),
        ("passages", {**PASSAGE, "text": "\ud83d"}, "'text' has half a surrogate pair, '\\ud83d'"),
        ("passages", {**PASSAGE, "title": "\ud83d"}, "'title' has half a surrogate pair, '\\ud83d'"),
        ("passages", {**PASSAGE, "title": 5}, "'title' should be a string, found 5"),
        ("passages", {**PASSAGE, "id": ""}, "'id' is empty"),
        ("passages", {**PASSAGE, "id": 1.0}, "'id' should be a string or a whole number, found 1.0"),
        ("passages", {**PASSAGE, "id": True}, "'id' should be a string or a whole number, found true"),
        ("passages", {**PASSAGE, "titel": "x"}, "unknown key 'titel' in a row of passages, did you mean 'title'?"),
        ("passages", {**PASSAGE, "relevant": []}, "unknown key 'relevant' in a row of passages, known: id, "),
        ("questions", {**QUESTION, "question_id": "q"}, "unknown key 'question_id' in a row of questions, "),
        ("questions", {**QUESTION, "relevant": "p1"}, "'relevant' should be a list of passage ids, found \"p1\""),
        ("questions", {**QUESTION, "relevant": 1}, "'relevant' should be a list of passage ids, found 1"),
        (
            "questions",
            {**QUESTION, "relevant": [["p1"]]},
            "'relevant' should be a string or a whole number, found [\"p1\"]",
        ),
        ("questions", {**QUESTION, "relevant": [{"language": "de"}]}, "'id' is missing, found only 'language'"),
        (
            "questions",
            {**QUESTION, "relevant": [{"id": "p1", "grade": 1}]},
            "unknown key 'grade' in an entry of 'relevant', ",
        ),
        (
            "questions",
            {**QUESTION, "relevant": [{"id": "p1", "language": "xx"}]},
            "unknown language 'xx': give a code",
        ),
        (
            "questions",
            {**QUESTION, "relevant": {"p1": -1}},
            "the gain of 'p1' should be a whole number from 0, found -1",
        ),
        (
            "questions",
            {**QUESTION, "relevant": {"p1": 0.5}},
            "the gain of 'p1' should be a whole number from 0, found 0.5",
        ),
        (
            "questions",
            {**QUESTION, "relevant": {"p1": True}},
            "the gain of 'p1' should be a whole number from 0, found true",
        ),
        (
            "questions",
            {**QUESTION, "relevant": {"p1": 2**31}},
            "the gain of 'p1' should be a whole number from 0, found 2147483648",
        ),
        (
            "questions",
            {**QUESTION, "relevant": {"en": ["p1"]}},
            "the gain of 'en' should be a whole number from 0, found [\"p1\"]; for the passages of one language write "
            '[{"id": ..., "language": ..., "gain": ...}, ...]',
        ),
        (
            "questions",
            {**QUESTION, "relevant": ["p1", "p9"]},
            "the relevant passage 'p9' does not exist (passages have ids like 'p1' and 'p2'); add it, or take it out of"
            " 'relevant'",
        ),
        (
            "questions",
            {**QUESTION, "relevant": ["p9", "p8", {"id": "p7"}]},
            "the relevant passage 'p9' does not exist (passages have ids like 'p1' and 'p2'); nor do 2 more; add ",
        ),
        (
            "questions",
            {**QUESTION, "relevant": [{"id": "p1", "language": "fr"}]},
            "the relevant passage 'p1' does not exist in 'fr', only in de, en; add it, ",
        ),
        ("questions", {**QUESTION, "group": ["a"]}, "'group' should be a string or a whole number, found [\"a\"]"),
        ("questions", {**QUESTION, "paragraph": ""}, "'paragraph' is empty"),
        ("passages", b'{"id": "p1", "language"', "not JSON (Expecting ':' delimiter: line 1 column 24 (char 23))"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, table: str, line: Row | bytes, message: str) -> None:
    folder = write(tmp_path / "x")
    path = folder / f"{table}.jsonl"
    right = path.read_bytes().splitlines(keepends=True)
    # In the place of the first row, after an empty line, which counts as a line.
    wrong = line if isinstance(line, bytes) else json.dumps(line).encode()
    path.write_bytes(b"".join([b"\n", wrong + b"\n", *right[1:]]))
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{folder}")
    assert str(caught.value).startswith(f"{path}:2: {message}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_two_rows_with_the_same_id_and_language_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", PASSAGES, [*QUESTIONS, QUESTIONS[0]])
    path = folder / "questions.jsonl"
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{folder}")
    assert str(caught.value) == (
        f"{path}:5: the question 'q1' stands in 'en' twice, first at {path}:1; an id may be there once in each language"
    )


def test_two_gains_of_a_passage_are_refused(tmp_path: Path) -> None:
    questions = [QUESTIONS[0], QUESTIONS[1] | {"relevant": {"p1": 2}}]
    folder = write(tmp_path / "x", PASSAGES, questions)
    path = folder / "questions.jsonl"
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{folder}")
    assert str(caught.value) == (
        f"{path}:2: the passage 'p1' has gain 2 for the question 'q1', but 1 at {path}:1; judgments count for all "
        "versions of a question, so give the same, or give it once"
    )


def test_rows_of_tables_are_named_by_number(tmp_path: Path) -> None:
    wrong = [*PASSAGES[:2], PASSAGES[2] | {"text": " "}]
    hub = write_dataset(tmp_path / "hub", wrong, QUESTIONS[:2])
    with pytest.raises(DataError, match=re.escape(f"{hub}, passages, row 3: 'text' is empty")):
        load(f"hf:{hub}")
    with pytest.raises(DataError, match=re.escape(f"{hub / 'passages.parquet'}, row 3: 'text' is empty")):
        load(f"jsonl:{hub}")


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "x", [row | {"url": "x", "_page": 1} for row in PASSAGES])
    with pytest.raises(DataError, match=r"row 1: unknown key 'url' in a row of passages, .* begin with '_'"):
        load(f"hf:{folder}")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PASSAGE, "'kind' is missing, found only 'id', 'language', 'text', 'title'"),
        ({**PASSAGE, "kind": "passages"}, "unknown kind \"passages\": did you mean 'passage'?"),
        ({**PASSAGE, "kind": "question"}, "unknown key 'title' in a row of questions, "),
    ],
)
def test_a_single_file_needs_the_kind_of_each_row(tmp_path: Path, row: Row, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(lines([row]), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(f"{path}:1: {message}")):
        load(f"jsonl:{path}")


def remove_questions(folder: Path) -> None:
    (folder / "questions.jsonl").rename(folder / "queries.jsonl")


def double(folder: Path) -> None:
    (folder / "passages.jsonl.gz").touch()


def empty_passages(folder: Path) -> None:
    (folder / "passages.jsonl").write_text("\n\n")


def empty_questions(folder: Path) -> None:
    (folder / "questions.jsonl").write_text("")


def no_judgments(folder: Path) -> None:
    write(folder, PASSAGES, [without(row, "relevant") for row in QUESTIONS])


def cut_gzip(folder: Path) -> None:
    gzipped(folder)
    path = folder / "passages.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])


def no_parquet(folder: Path) -> None:
    (folder / "passages.jsonl").rename(folder / "passages.parquet")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            remove_questions,
            "{folder}: questions.jsonl (or .jsonl.gz, .parquet, or a folder questions) is missing; found "
            "passages.jsonl, queries.jsonl",
        ),
        (double, "{folder}: passages stand in passages.jsonl and in passages.jsonl.gz; keep one of them, or put "),
        (empty_passages, "jsonl:{folder}: there are no passages"),
        (empty_questions, "jsonl:{folder}: there are no questions"),
        (
            no_judgments,
            "{folder}/questions.jsonl:1: no question has a relevant passage; give 'relevant', a list of passage ids",
        ),
        (cut_gzip, "{folder}/passages.jsonl.gz:5: the file breaks off or is damaged (Compressed file ended before "),
        (no_parquet, "cannot read {folder}/passages.parquet: Parquet magic bytes not found"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    folder = write(tmp_path / "x")
    spoil(folder)
    with pytest.raises(DataError) as caught:
        load(f"jsonl:{folder}")
    assert str(caught.value).startswith(message.format(folder=folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("readme", "message"),
    [
        ("", "{folder} has no configuration 'passages' (found: none); the YAML at the beginning of its README.md"),
        (README.replace("config_name: questions", "config_name: queries"), "{folder} has no configuration 'questions'"),
    ],
)
def test_a_folder_in_another_layout_than_the_hubs_is_explained(tmp_path: Path, readme: str, message: str) -> None:
    folder = write_dataset(tmp_path / "x")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load(f"hf:{folder}")
    assert str(caught.value).startswith(message.format(folder=folder))
    assert "\n" not in str(caught.value)


def test_the_yaml_that_the_error_proposes_is_right(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "x")
    (folder / "README.md").write_text("", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load(f"hf:{folder}")
    proposed = str(caught.value)[str(caught.value).index("configs:") :]
    (folder / "README.md").write_text(f"---\n{proposed}\n---\n", encoding="utf-8")
    assert plain(load(f"hf:{folder}")) == plain(load(f"jsonl:{write(tmp_path / 'y')}", collection="x"))


def test_of_several_splits_test_is_read(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "x")
    pq.write_table(pq.read_table(folder / "questions.parquet").slice(0, 1), folder / "train.parquet")
    more = README.replace("  - split: test", "  - split: train\n    path: train.parquet\n  - split: test")
    (folder / "README.md").write_text(more, encoding="utf-8")
    assert plain(load(f"hf:{folder}")) == plain(load(f"jsonl:{write(tmp_path / 'y')}", collection="x"))


# -- the Hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that has the dataset ``org/rivers``, with a file that nobody needs."""
    folder = write_dataset(tmp_path / "on-the-hub")
    (folder / "train").mkdir()
    (folder / "train" / "much.parquet").write_bytes(b"more than anybody wants")
    parallel._snapshot.cache_clear()
    with serving(folder, "org/rivers") as server:
        use_hub(monkeypatch, server.endpoint, tmp_path / "hub")
        yield server


def test_a_dataset_on_the_hub_is_pinned_and_read_without_it(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("hf:org/rivers")
    assert hub.downloaded() == {"README.md", "passages.parquet", "questions.parquet"}
    assert first.revision == COMMIT
    assert load("hf:org/rivers") is first
    assert not hub.asked  # once a process
    assert plain(first)[1:] == plain(load(f"rivers=hf:{hub.folder}"))[1:]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for spec in ("hf:org/rivers", f"hf:org/rivers@{COMMIT}"):
        parallel._snapshot.cache_clear()
        parallel._load.cache_clear()
        again = load(spec)
        assert not hub.asked
        assert (again.revision, again.sha256, plain(again)) == (COMMIT, first.sha256, plain(first))


def test_without_a_network_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parallel._snapshot.cache_clear()
    use_hub(monkeypatch, endpoint := nowhere(), tmp_path / "hub")
    with pytest.raises(DataError) as caught:
        load(f"hf:org/rivers@{COMMIT}")
    message = str(caught.value)
    assert message.startswith(f"cannot get hf:org/rivers@{COMMIT} from {endpoint}: it cannot be reached (")
    assert message.endswith("; give the folder of another copy, hf:FOLDER")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:org/lakes", "hf:org/lakes: the Hub has no dataset 'org/lakes', or it is private"),
        ("hf:org/rivers@v9", "hf:org/rivers@v9: the Hub has the dataset, but no branch, tag or commit"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have_is_a_wrong_request(spec: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load(spec)


def test_a_dataset_without_the_configurations_is_not_downloaded(hub: HubServer) -> None:
    (hub.folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"^hf:org/rivers has no configuration 'passages' \(found: none\); the YAML"):
        load("hf:org/rivers")
    assert hub.downloaded() == {"README.md"}


# -- time ---------------------------------------------------------------------------------------------------------


def test_reading_is_linear_in_the_number_of_rows(tmp_path: Path) -> None:
    """A slip that made each row cost as much as all would take minutes here."""
    rows = [{"id": i, "language": "en" if i % 2 else "de", "text": f"text {i}"} for i in range(50_000)]
    questions = [{"id": i, "language": "en", "text": "?", "relevant": [i], "group": i // 10} for i in range(10_000)]
    folder = write(tmp_path / "n", rows, questions)
    start = time.monotonic()
    assert len(load(f"jsonl:{folder}").queries["en"]) == 10_000
    assert time.monotonic() - start < 30
