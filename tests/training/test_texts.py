"""Parallel texts: read by definition, refused in one line, and never read before they are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Hashable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hybrid_bench.data.collection import Column, DataOptions
from hybrid_bench.errors import DataError, HybridBenchError, RequestError
from hybrid_bench.evaluation.registry import task_classes
from hybrid_bench.training.texts import Items, ParallelTexts
from parallel_texts import many_rows, parallel, table_of, text_of

LANGUAGES = ("de", "en", "sw")


def column(*texts: str | None) -> Column:
    return Column(pa.chunked_array([pa.array(texts, pa.string())]))


def test_a_table_becomes_roles_and_languages() -> None:
    table = table_of("S", 30, LANGUAGES, missing=0.3, negatives=2)
    source = ParallelTexts.from_table("S", table)
    assert len(source) == 30
    assert source.languages == LANGUAGES
    assert source.roles == ("query", "passage", "negative_1", "negative_2")
    rows = np.random.default_rng(0).permutation(30)
    for role, code in product(source.roles, LANGUAGES):
        written = table[f"{role}_{code}"].to_pylist()
        assert source.texts(role, code, rows) == [written[row] or "" for row in rows]
        assert source.available(role, code, rows).tolist() == [written[row] is not None for row in rows]
        assert not source.complete(role, code)
    assert not source.whole
    assert parallel("S", 30, LANGUAGES, negatives=2).whole


def test_a_text_of_white_space_counts_as_missing() -> None:
    source = ParallelTexts.from_table(
        "S", pa.table({"query_en": ["a", " \n", "", None], "passage_en": ["x", "y", "z", "\u3000"]})
    )
    rows = np.arange(4)
    assert source.available("query", "en", rows).tolist() == [True, False, False, False]
    assert source.available("passage", "en", rows).tolist() == [True, True, True, False]


def test_one_hard_negative_needs_no_number() -> None:
    table = pa.table({"query_en": ["a"], "passage_en": ["x"], "negative_en": ["n"]})
    assert ParallelTexts.from_table("S", table).texts("negative_1", "en", np.array([0])) == ["n"]


@pytest.mark.parametrize(
    ("groups", "same"),
    [
        (pa.array(["a", "b", "a", None, None, "b"]), [(0, 2), (1, 5)]),
        (pa.array([7, -1, 7, None, 3, -1]), [(0, 2), (1, 5)]),
        (pa.chunked_array([pa.array([9, 8]), pa.array([9, 1, 2, 8])]), [(0, 2), (1, 5)]),
        (pa.array(["a", "b", "a", "c", "d", "b"]).dictionary_encode().cast(pa.large_string()), [(0, 2), (1, 5)]),
    ],
)
def test_groups_are_numbered_and_null_is_a_group_of_its_own(groups: Any, same: list[tuple[int, int]]) -> None:
    table = table_of("S", 6, ["en"]).append_column("group", groups)
    found = ParallelTexts.from_table("S", table).group_of(np.arange(6)).tolist()
    assert [(a, b) for a, b in product(range(6), repeat=2) if a < b and found[a] == found[b]] == same


def test_every_row_is_its_own_group_by_default() -> None:
    assert parallel("S", 5, LANGUAGES).group_of(np.array([3, 1])).tolist() == [3, 1]


def test_rows_read_other_rows_of_collections() -> None:
    source = ParallelTexts(
        "S",
        {"de": column("q0", "q1"), "en": column("Q0", None)},
        {"de": column("p0", "p1", "p2"), "en": column("P0", "P1", None)},
        ({"de": column("n0"), "en": column("N0")},),
        query_rows=np.array([1, 0, -1, 1], dtype=np.int32),
        passage_rows=np.array([2, 2, 0, 1]),
        negative_rows=(np.array([0, -1, 0, 0]),),
    )
    rows = np.arange(4)
    assert len(source) == 4
    assert source.texts("query", "de", rows) == ["q1", "q0", "", "q1"]
    assert source.texts("passage", "en", rows[::-1]) == ["P1", "P0", "", ""]
    assert source.available("query", "en", rows).tolist() == [False, True, False, False]
    asked, answered = source.readable(rows)
    assert asked.tolist() == [[True, False], [True, True], [False, False], [True, False]]
    assert answered.tolist() == [[True, False], [False, False], [True, True], [True, True]]
    assert [source.complete(role, "de") for role in source.roles] == [False, True, False]


def test_selected_rows_are_the_same_texts_in_that_order() -> None:
    source = parallel("S", 40, LANGUAGES, missing=0.2, negatives=1, groups=np.arange(40) // 3)
    source = replace(source, negative_groups=(np.arange(40) // 2,))
    rows = np.random.default_rng(1).integers(0, 40, 25)
    again = np.random.default_rng(2).permutation(25)[:10]
    mask = np.zeros(40, dtype=np.bool_)
    mask[[3, 5, 39]] = True
    for chosen, picked in (
        (source.select(rows), rows),
        (source.select(rows).select(again), rows[again]),
        (source.select(mask), np.array([3, 5, 39])),
        (source.select([4]), np.array([4])),
    ):
        all_rows = np.arange(len(chosen))
        assert len(chosen) == len(picked)
        assert chosen.queries is source.queries
        for role, code in product(source.roles, LANGUAGES):
            assert chosen.texts(role, code, all_rows) == source.texts(role, code, picked)
            assert (chosen.available(role, code, all_rows) == source.available(role, code, picked)).all()
        assert (chosen.group_of(all_rows) == source.group_of(picked)).all()
        assert chosen.negative_groups[0] is not None
        assert (chosen.negative_groups[0] == picked // 2).all()


def test_selected_rows_keep_the_groups_that_their_negatives_know() -> None:
    source = replace(parallel("S", 4, ["en"], negatives=1), negative_groups=(np.array([1, 2, 3, 0]),))
    chosen = source.select([2, 3])
    assert chosen.group_of(np.arange(2)).tolist() == [2, 3]
    assert chosen.negative_groups[0] is not None
    assert chosen.negative_groups[0].tolist() == [3, 0]


def joined_by_definition(rows: list[list[Hashable]]) -> list[set[int]]:
    """Sets of rows that share something, merged until no two do."""
    groups: list[tuple[set[Hashable], set[int]]] = []
    for row, has in enumerate(rows):
        keys, members = set(has), {row}
        touching = [group for group in groups if group[0] & keys]
        groups = [group for group in groups if group not in touching]
        for other_keys, others in touching:
            keys, members = keys | other_keys, members | others
        groups.append((keys, members))
    return [members for _, members in groups]


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_answer_the_same_are_joined(seed: int) -> None:
    """A group, a question id, a query or a passage in common, in whichever languages; a negative that is a passage."""
    rng = np.random.default_rng(seed)
    n, codes = 60, ("de", "en")

    def texts(role: str, most: int) -> dict[str, list[str | None]]:
        numbers = {code: rng.integers(0, most, n).tolist() for code in codes}
        # Some have no text in a language, some have white space at an end; German 1 and English 1 are one text.
        return {
            f"{role}_{code}": [None if x % 7 == 0 else f"{role} {x}" + " " * (x % 3 == 0) for x in each]
            for code, each in numbers.items()
        }

    columns: dict[str, Any] = {**texts("query", 900), **texts("passage", 700)}
    about_passages = {
        f"negative_{code}": [x and x.replace("negative", "passage") for x in each]
        for code, each in ((code, texts("negative", 700)[f"negative_{code}"]) for code in codes)
    }
    group = rng.integers(0, 400, n)
    question = [None if x < 20 else f"q{x}" for x in rng.integers(0, 400, n).tolist()]
    against = [None if x >= 200 else x for x in rng.integers(0, 1_000, n).tolist()]
    table = pa.table(
        {
            **columns,
            **about_passages,
            "group": group,
            "question_id": question,
            "negative_group": pa.array(against, pa.int64()),
        }
    )
    source = ParallelTexts.from_table("S", table)
    joined = source.joined()

    def stripped(name: str, row: int) -> Hashable:
        text = {**columns, **about_passages}[name][row]
        return None if text is None else (name.partition("_")[0], text.strip())

    def keys(row: int) -> list[Hashable]:
        found = [stripped(name, row) for name in columns]
        found += [("group", int(group[row])), question[row] and ("question", question[row])]
        return [key for key in found if key is not None]

    answers: set[Hashable] = {key for row in range(n) for key in keys(row)}
    # A row's negative is a thing of its own, that has what it has in common with rows.
    negatives: list[list[Hashable]] = []
    for row in range(n):
        found = [stripped(f"negative_{code}", row) for code in codes]
        has: list[Hashable] = [("passage", key[1]) for key in found if isinstance(key, tuple)]
        has += [] if against[row] is None else [("group", against[row])]
        negatives.append([key for key in has if key in answers])
    expected = joined_by_definition([*map(keys, range(n)), *negatives])
    found = joined.group_of(np.arange(n)).tolist()
    of_negatives = [-1] * n if not joined.negative_groups else np.asarray(joined.negative_groups[0]).tolist()
    for members in expected:
        rows, others = {i for i in members if i < n}, {i - n for i in members if i >= n}
        if rows:
            (number,) = {found[row] for row in rows}
            assert {row for row in range(n) if found[row] == number} == rows
            assert {row for row in range(n) if of_negatives[row] == number} == others
        else:
            assert [of_negatives[row] for row in others] == [-1] * len(others)
    assert 2 < max(len({i for i in members if i < n}) for members in expected) < n / 2
    assert any(number >= 0 for number in of_negatives)
    assert joined.joined() is joined


def test_what_has_nothing_in_common_stays_as_it_is() -> None:
    source = parallel("S", 50, LANGUAGES, missing=0.2, negatives=2)
    assert source.joined().groups is None
    assert source.joined().negative_groups == ()
    numbers = np.arange(50) // 3 * 7
    known = replace(source, groups=numbers, negative_groups=(np.full(50, 3), None))
    assert known.joined().groups is numbers  # and 3 is the group of no row
    assert known.joined().negative_groups == ()


def test_a_word_that_stands_for_no_negative_joins_nothing() -> None:
    rows = {
        "query_en": ["a", "b", "c"],
        "passage_en": ["x", "y", "z"],
        "query_de": list("ABC"),
        "passage_de": list("XYZ"),
    }
    table = pa.table({**rows, "negative_en": ["none"] * 3, "negative_de": ["Z", "Y", "nichts"]})
    joined = ParallelTexts.from_table("S", table).joined()
    assert joined.groups is None
    assert [each.tolist() for each in joined.negative_groups if each is not None] == [[2, 1, -1]]


def test_sources_that_are_too_large_to_look_through_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    source = parallel("S", 10, ["de", "en"])
    monkeypatch.setattr("hybrid_bench.training.texts.MOST_JOINED", 19)
    told = source.with_answers()
    assert not told.answers_known
    assert told.notes[0].startswith("too large to look for rows of the same query or passage (10 rows): ")
    assert told.with_answers().notes == told.notes
    monkeypatch.setattr("hybrid_bench.training.texts.MOST_JOINED", 20)
    assert source.with_answers().answers_known


def test_the_groups_of_negatives_are_columns_of_the_table() -> None:
    table = table_of("S", 3, ["en"], negatives=2)
    groups = pa.array(["a", "b", None])
    for first, second in ((["b", None, "c"], None), (None, ["a", "x", "b"])):
        columns = {"group": groups, "negative_1_group": first, "negative_2_group": second}
        more = {
            name: pa.array(column, pa.string())
            for name, column in columns.items()
            if column is not None or name == "group"
        }
        source = ParallelTexts.from_table(
            "S", pa.table({**dict(zip(table.column_names, table.columns, strict=True)), **more})
        )
        a, b = source.group_of(np.array([0, 1])).tolist()
        found = [None if each is None else each.tolist() for each in source.negative_groups]
        if second is None:
            known = found[0] or []
            assert (known[:2], found[1]) == ([b, -1], None)
            assert known[2] not in {*source.group_of(np.arange(3)).tolist(), -1}
        else:
            assert (found[0], (found[1] or [])[::2]) == (None, [a, b])


def test_answers_of_xquad_r_when_joined(data_dir: Path) -> None:
    """In English 656 of 1,190 questions share their answer; over all languages more do, and some share their words."""
    collection = task_classes()["XQuAD-R-Pairs"]().reader.load(DataOptions(data_dir=data_dir))
    columns: dict[str, list[str]] = {}
    for code, queries in collection.queries.items():
        judged = queries.judgments
        mine = judged.part == collection.part_index(code)
        answer = dict(zip(judged.query[mine].tolist(), judged.passage[mine].tolist(), strict=True))
        order = sorted(range(len(queries)), key=lambda place: queries.question_ids[place])
        columns[f"query_{code}"] = [queries.texts[place] for place in order]
        columns[f"passage_{code}"] = [collection.passages[code].texts[answer[place]] for place in order]
    source = ParallelTexts.from_table("XQuAD-R", pa.table(columns))
    _, place, count = np.unique(columns["passage_en"], return_inverse=True, return_counts=True)
    assert (len(source), int((count[place] > 1).sum())) == (1190, 656)
    for role, groups in (("passage", 489), ("", 488)):
        merged = joined_by_definition(
            [
                [
                    (name.partition("_")[0], column[row].strip())
                    for name, column in columns.items()
                    if name.startswith(role)
                ]
                for row in range(1190)
            ]
        )
        assert len(merged) == groups
    found = source.joined().group_of(np.arange(1190))
    assert len(np.unique(found)) == len(merged)
    for members in merged:
        assert {*np.flatnonzero(found == found[min(members)]).tolist()} == members


REFUSED: dict[str, tuple[Mapping[str, Any], str]] = {
    "a passage column is missing": (
        {"query_de": ["a"], "passage_de": ["x"], "query_en": ["b"]},
        "S: query_en is there, but the column passage_en is missing: add it, or leave 'en' out",
    ),
    "a query column is missing": (
        {"query_de": ["a"], "passage_de": ["x"], "passage_en": ["b"]},
        "S: passage_en is there, but the column query_en is missing: add it, or leave 'en' out",
    ),
    "a negative is missing": (
        {"query_de": ["a"], "passage_de": ["x"], "query_en": ["a"], "passage_en": ["x"], "negative_de": ["n"]},
        "S: query_en is there, but the column negative_1_en is missing",
    ),
    "a number is missing": (
        {"query_de": ["a"], "passage_de": ["x"], "negative_2_de": ["n"]},
        "S: missing column negative_1_<language>: number hard negatives from 1, no gaps",
    ),
    "twice the same": (
        {"query_de": ["a"], "passage_de": ["x"], "negative_de": ["n"], "negative_1_de": ["n"]},
        "S: the columns of negative_1 in 'de' are there twice; keep one",
    ),
    "no columns": ({"group": [1]}, "S: no languages; give queries and passages in at least one"),
    "another column": ({"qurey_de": ["a"]}, 'S: unknown column "qurey_de"; a parallel table has query_<language>,'),
    "not text": ({"query_de": [1], "passage_de": ["x"]}, "S: the column query_de holds int64, not text: give strings"),
    "a language without a text": (
        {"query_de": ["a"], "passage_de": ["x"], "query_en": ["b"], "passage_en": [None]},
        "S: no row has a passage in 'en': leave the language out, or add its texts",
    ),
    "no rows": (
        {"query_de": pa.array([], pa.string()), "passage_de": pa.array([], pa.string())},
        "S: no row has a query in 'de': leave the language out, or add its texts",
    ),
    "groups of a negative that is not there": (
        {"query_de": ["a"], "passage_de": ["x"], "group": ["g"], "negative_2_group": ["g"]},
        "S: negative_2_group is there, but not the hard negative: add its texts, or leave it out",
    ),
    "groups of negatives alone": (
        {"query_de": ["a"], "passage_de": ["x"], "negative_de": ["n"], "negative_group": ["g"]},
        "S: negative_group is there, but the column group is missing: add it",
    ),
    "groups of negatives twice": (
        {"query_de": ["a"], "passage_de": ["x"], "negative_group": ["g"], "negative_1_group": ["g"]},
        "S: the columns of groups of negative_1 are there twice; keep one",
    ),
    "question ids of another type": (
        {"query_de": ["a"], "passage_de": ["x"], "question_id": [0.5]},
        "S: the column question_id holds double: give strings or whole numbers",
    ),
    "groups of another type": (
        {"query_de": ["a"], "passage_de": ["x"], "group": [0.5]},
        "S: the column group holds double: give strings or whole numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_is_not_one_is_refused_in_one_line(case: str) -> None:
    columns, message = REFUSED[case]
    with pytest.raises(DataError) as error:
        ParallelTexts.from_table("S", pa.table(columns))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


A, B = {"de": column("a", "b")}, {"de": column("x", "y", "z")}
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "unequal columns": ({"queries": A, "passages": B}, "S: 3 rows of passage, but 2 rows: give both in the same order"),
    "unequal languages": (
        {"queries": {**A, "en": column("a", "b", "c")}, "passages": {**A, "en": column("a", "b")}},
        "S: query_de has 2 rows but query_en 3: one row must be the same in all languages",
    ),
    "a row that is not there": (
        {"queries": A, "passages": B, "passage_rows": np.array([0, 3])},
        "S: rows of passage from 0 to 3, which must be -1 to 2",
    ),
    "rows for too few": (
        {"queries": A, "passages": B, "query_rows": np.array([0, 1, 1]), "passage_rows": np.array([0, 2])},
        "S: 2 rows of passage, but 3 rows: give one for each",
    ),
    "a group below 0": ({"queries": A, "passages": A, "groups": np.array([0, -1])}, "S: groups from -1 to 0, which"),
    "no rows at all": (
        {"queries": A, "passages": A, "query_rows": np.array([], int), "passage_rows": np.array([], int)},
        "S: no rows; leave the source out",
    ),
    "question ids for too few": (
        {"queries": A, "passages": A, "question_ids": ("q",)},
        "S: 1 question ids, but 2 rows",
    ),
    "groups for too few": ({"queries": A, "passages": A, "groups": np.array([0])}, "S: 1 groups, but 2 rows"),
    "rows of negatives that are not there": (
        {"queries": A, "passages": A, "negative_rows": (np.array([0, 1]),)},
        "S: rows for 1 hard negatives, but texts for 0: give as many, or none",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_columns_that_do_not_fit_are_refused_in_one_line(case: str) -> None:
    arguments, message = UNFIT[case]
    with pytest.raises(DataError) as error:
        ParallelTexts("S", **arguments)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda source: source.texts("query", "fr", np.array([0])), "S has no 'fr': known: de, en, sw"),
        (lambda source: source.texts("pasage", "de", np.array([0])), "S has no \"pasage\": did you mean 'passage'?"),
        (lambda source: source.available("negative_1", "de", np.array([0])), 'S has no "negative_1": known: passage,'),
        (lambda source: source.select([]), "S: no row is left of 9: leave the source out"),
        (lambda source: source.select([9]), "S: rows 9 to 9 of a source of 9 rows"),
        (lambda source: source.select(np.zeros(3, dtype=np.bool_)), "S: 3 booleans for 9 rows: give one for each"),
        (lambda source: Items([]), "no sources: give at least one ParallelTexts"),
        (lambda source: Items([source, source]), 'two sources are called "S": give each its own name'),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_one_line(call: Any, message: str) -> None:
    with pytest.raises(RequestError) as error:
        call(parallel("S", 9, LANGUAGES))
    assert str(error.value).startswith(message)
    assert isinstance(error.value, HybridBenchError)


def test_items_have_one_number_each() -> None:
    sources = [parallel("A", 4, ["en", "de", "sw"]), parallel("B", 3, ["de"]), parallel("C", 2, ["sw", "fr"])]
    items = Items(sources)
    assert items.languages == ("en", "de", "sw", "fr")
    assert items.n_rows == 9
    seen = []
    for number, source in enumerate(sources):
        count = len(source.languages)
        for row, query, passage in product(range(len(source)), range(count), range(count)):
            (found,) = items.encode(number, np.array([row]), query, passage).tolist()
            assert [int(part[0]) for part in items.decode([found])] == [number, row, query, passage]
            seen.append(found)
    assert len({*seen}) == 4 * 9 + 3 + 2 * 4
    assert min(seen) == 9  # below are the rows as such
    assert max(seen) < items.end
    every = items.decode(np.array(seen))
    assert (items.encode(0, every.row[:36], every.query[:36], every.passage[:36]) == seen[:36]).all()
    as_such = items.decode(np.arange(9))
    assert as_such.source.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert as_such.row.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert {*as_such.query.tolist(), *as_such.passage.tolist()} == {-1}
    # The second source has one pair of languages only, so the second pair's number for its rows is nobody's.
    for wrong in (-1, items.end, 2 * 9 + 4):
        with pytest.raises(IndexError):
            items.decode([wrong])


def test_numbers_of_large_sources_fit() -> None:
    items = Items([many_rows("S", 40_000_000, [f"l{number}" for number in range(14)])])
    last = items.encode(0, np.array([39_999_999]), 13, 13)
    assert last.tolist() == [items.end - 1]
    assert [int(part[0]) for part in items.decode(last)] == [0, 39_999_999, 13, 13]


def test_texts_are_read_without_torch_or_datasets() -> None:
    script = (
        "import sys; sys.orig_argv = ['python', '-m', 'hybrid_bench']\n"  # as the command line, which registers late
        "import hybrid_bench.training.sampling, hybrid_bench.training.texts\n"
        "print([name for name in ('datasets', 'mteb', 'sentence_transformers', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_text_says_what_it_is() -> None:
    assert parallel("S", 3, ["en"]).texts("passage", "en", np.array([2])) == [text_of("S", "passage", 2, "en")]
