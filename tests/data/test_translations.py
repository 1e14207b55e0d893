"""The file format of translated queries: what is read, what is refused and where, what is written."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from hybrid_bench.data.translations import (
    Coverage,
    Row,
    Translations,
    check_ids,
    coverage,
    format_row,
    header,
    read_rows,
    read_translations,
    write_rows,
)
from hybrid_bench.errors import DataError, RequestError

ROWS = [
    Row("de", "81674#0", "en", "Where is the Iroquois territory in Canada?", "nllb"),
    Row("de", "81674#0", "th", "ดินแดนของชาวอิโรควอยส์ในแคนาดาอยู่ที่ไหน", "nllb"),
    Row("sw", "0", "en", 'What is "ujamaa"?\u2028A policy\u0085', "human"),  # not line breaks in a file of ours
    Row("en", "0", "sw", "Je, Krioli ni pijini ya Kifaransa?", "nllb"),
    Row("de", "9789633#0", "en", "How many kinds of jellyfish are there?", "nllb"),
]
HEADER = "corpus_language\tquery_id\tquery_language\ttext\tsource\n"
GOOD = "de\t81674#0\ten\tWhere is it?\tnllb\n"
KNOWN = {"de": ("81674#0", "9789633#0", "5"), "en": ("0",), "sw": ("0", "7")}
SUFFIXES = ["tsv", "jsonl", "tsv.gz", "jsonl.gz"]


def write(folder: Path, content: str | bytes, name: str = "mt.tsv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def line_of(**changes: str) -> str:
    """A line of JSON; a value of "-" leaves the key out."""
    row = ROWS[0]._asdict() | changes
    return json.dumps({key: value for key, value in row.items() if value != "-"}) + "\n"


def message(path: Path) -> str:
    """What a person reads about a file that is refused: one line."""
    with pytest.raises(DataError) as error:
        read_translations([path])
    assert "\n" not in str(error.value)
    return str(error.value)


# -- reading -------------------------------------------------------------------------------------------------------


class TestReading:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_what_was_written_is_read(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / "new" / f"mt.{suffix}"
        write_rows(path, ROWS)
        found = read_translations([path])
        assert list(found) == ["nllb", "human"]
        assert found["nllb"].texts == {
            ("de", "en"): {"81674#0": ROWS[0].text, "9789633#0": ROWS[4].text},
            ("de", "th"): {"81674#0": ROWS[1].text},
            ("en", "sw"): {"0": ROWS[3].text},
        }
        assert found["human"].texts == {("sw", "en"): {"0": ROWS[2].text}}

    def test_a_source_may_be_spread_over_files(self, tmp_path: Path) -> None:
        paths = [tmp_path / "a.tsv", tmp_path / "b.jsonl"]
        write_rows(paths[0], ROWS[:3])
        write_rows(paths[1], ROWS[2:])  # a repeat that says the same is no contradiction
        write_rows(tmp_path / "all.tsv", ROWS)
        assert read_translations(paths) == read_translations([tmp_path / "all.tsv"])

    def test_columns_in_any_order_others_ignored_and_windows_line_breaks(self, tmp_path: Path) -> None:
        content = (
            "\ufeffsource\ttext\tscore\tquery_language\tquery_id\tcorpus_language\r\n\r\nhuman\tWo?\t.5\tde\t7\ten\r\n"
        )
        assert read_translations([write(tmp_path, content)])["human"].texts == {("en", "de"): {"7": "Wo?"}}

    def test_quotes_and_backslashes_are_text(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + 'en\t7\tde\t"Wo \\t ""?\thuman\n')
        assert read_translations([path])["human"].texts["en", "de"]["7"] == '"Wo \\t ""?'

    def test_the_same_id_is_another_query_in_another_language(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + "en\t0\tde\tEins\tx\nsw\t0\tde\tZwei\tx\n")
        assert read_translations([path])["x"].texts == {("en", "de"): {"0": "Eins"}, ("sw", "de"): {"0": "Zwei"}}

    def test_rows_come_with_their_line_numbers(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + "\n" + GOOD + "\n" + GOOD)
        assert [line for line, _ in read_rows(path)] == [3, 5]


class TestCutOff:
    """A file that was cut off must not be taken for a whole one."""

    def test_every_cut_within_the_last_line_of_tsv_is_noticed(self, tmp_path: Path) -> None:
        whole = (HEADER + "".join(format_row(row, Path("x.tsv")) for row in (ROWS[2], ROWS[1]))).encode()
        start = whole[:-1].rindex(b"\n") + 1
        for end in range(start + 1, len(whole)):
            assert "mt.tsv:3:" in message(write(tmp_path, whole[:end]))

    def test_every_cut_within_the_last_line_of_json_is_noticed(self, tmp_path: Path) -> None:
        whole = "".join(format_row(row, Path("x.jsonl")) for row in ROWS[:2]).encode()
        start = whole[:-1].rindex(b"\n") + 1
        for end in range(start + 1, len(whole) - 1):  # without its line break alone, the line is whole
            assert "mt.jsonl:2:" in message(write(tmp_path, whole[:end], "mt.jsonl"))

    def test_a_last_line_without_end_is_taken_if_its_source_was_seen(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + GOOD + "de\t7\ten\tWhy?\tnllb")
        assert read_translations([path])["nllb"].texts["de", "en"]["7"] == "Why?"

    def test_unless_that_source_is_the_beginning_of_another(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + GOOD + "de\t7\ten\tWhy?\tnllb-large\nde\t8\ten\tHow?\tnllb")
        assert "cut off" in message(path)

    @pytest.mark.parametrize("lost", [1, 12, 40])
    def test_a_compressed_file_that_was_cut_off(self, tmp_path: Path, lost: int) -> None:
        whole = gzip.compress((HEADER + GOOD).encode())
        assert "is damaged" in message(write(tmp_path, whole[:-lost], "mt.tsv.gz"))

    def test_a_compressed_file_that_is_none(self, tmp_path: Path) -> None:
        assert "is damaged" in message(write(tmp_path, HEADER + GOOD, "mt.tsv.gz"))


class TestRefused:
    """Each with file and line, what is wrong, and what to do."""

    @pytest.mark.parametrize(
        ("content", "clauses"),
        [
            pytest.param(HEADER + GOOD + "de\t1\ten\tx\n", [":3:", "missing column 'source'", "4 of 5"], id="columns"),
            pytest.param(HEADER + "de\t1\ten\tx\ty\tnllb\n", [":2:", "6 columns", "tab", ".jsonl"], id="tab in a text"),
            pytest.param(
                HEADER + "de\t1\tEN\tx\ty\n", [":2:", "query_language", "'EN'", "did you mean 'en'"], id="code"
            ),
            pytest.param(HEADER + "German\t1\ten\tx\ty\n", [":2:", "corpus_language", "'de'"], id="name for a code"),
            pytest.param(HEADER + "de\t1\ten\t \ty\n", [":2:", "empty text", "query '1'"], id="text"),
            pytest.param(HEADER + "de\t\ten\tx\ty\n", [":2:", "empty query_id"], id="id"),
            pytest.param(HEADER + "de\t1\ten\tx\t\n", [":2:", "empty source"], id="source"),
            pytest.param(
                HEADER + "de\t1 \ten\tx\ty\n", [":2:", "query_id '1 '", "white space"], id="space after an id"
            ),
            pytest.param(HEADER + GOOD + "de\t1\tde\tx\ty\n", [":3:", "'1'", "same language"], id="same language"),
            pytest.param("corpus_language\tid\n", [":1:", "lacks 'query_id', 'query_language'", "'id'"], id="header"),
            pytest.param(GOOD, [":1:", "header", "corpus_language"], id="no header"),
            pytest.param("text\t" + HEADER, [":1:", "'text'", "twice"], id="column twice"),
            pytest.param("", ["is empty", "corpus_language"], id="empty"),
            pytest.param(HEADER, ["no translations"], id="header alone"),
            pytest.param(HEADER.encode() + "de\t1\ten\tüber\ty\n".encode("latin-1"), [":2:", "UTF-8"], id="latin-1"),
            pytest.param((HEADER + GOOD).encode("utf-16"), [":1:", "UTF-8"], id="utf-16"),
        ],
    )
    def test_tsv(self, tmp_path: Path, content: str | bytes, clauses: list[str]) -> None:
        text = message(path := write(tmp_path, content))
        assert str(path) in text
        assert all(clause in text for clause in clauses), text

    @pytest.mark.parametrize(
        ("content", "clauses"),
        [
            pytest.param(line_of() + line_of(source="-"), [":2:", "missing column 'source'"], id="key"),
            pytest.param(line_of(text="-", txt="x"), [":1:", "missing column 'text'", "did you mean 'txt'"], id="typo"),
            pytest.param(
                line_of().replace('"81674#0"', "81674"), [":1:", "query_id must be a string, not 81674"], id="int"
            ),
            pytest.param(line_of(query_language="nx"), [":1:", "unknown language 'nx'"], id="code"),
            pytest.param(line_of(text=""), [":1:", "empty text"], id="text"),
            pytest.param(line_of() + '{"corpus_language": "de"', [":2:", "not JSON"], id="truncated"),
            pytest.param("[1]\n", [":1:", "JSON object"], id="array"),
            pytest.param(line_of(text="\ud83d"), [":1:", "surrogate"], id="half a surrogate pair"),
            pytest.param("", ["no translations"], id="empty"),
        ],
    )
    def test_json(self, tmp_path: Path, content: str, clauses: list[str]) -> None:
        text = message(path := write(tmp_path, content, "mt.jsonl"))
        assert str(path) in text
        assert all(clause in text for clause in clauses), text

    def test_two_translations_of_one_query_by_one_source(self, tmp_path: Path) -> None:
        first = write(tmp_path, HEADER + GOOD, "a.tsv")
        second = write(tmp_path, HEADER + GOOD.replace("it", "they"), "b.tsv")
        with pytest.raises(
            DataError, match=r"b\.tsv:2: nllb translates query '81674#0' .*'Where is it\?' in .*a\.tsv:2"
        ):
            read_translations([first, second])

    def test_one_file_in_which_they_contradict_each_other(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + GOOD + GOOD + GOOD.replace("it", "they"))
        assert f"{path}:4: " in message(path)
        assert f"{path}:2: keep" in message(path)

    def test_two_sources_may_differ(self, tmp_path: Path) -> None:
        path = write(tmp_path, HEADER + GOOD + "de\t81674#0\ten\tWhere are they?\thuman\n")
        assert list(read_translations([path])) == ["nllb", "human"]

    def test_unknown_suffix(self, tmp_path: Path) -> None:
        for name in ("mt.csv", "mt.gz", "mt"):
            with pytest.raises(RequestError, match=r"\.tsv or \.jsonl"):
                read_translations([write(tmp_path, HEADER + GOOD, name)])

    def test_no_such_file(self, tmp_path: Path) -> None:
        assert message(tmp_path / "no.tsv") == f"there is no file {tmp_path / 'no.tsv'}"

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "mt.tsv").mkdir()
        assert "is not a file" in message(tmp_path / "mt.tsv")


# -- what it is ----------------------------------------------------------------------------------------------------


class TestHashes:
    def of(self, rows: list[Row], source: str = "nllb") -> Translations:
        texts: dict[tuple[str, str], dict[str, str]] = {}
        for row in rows:
            texts.setdefault((row.corpus_language, row.query_language), {})[row.query_id] = row.text
        return Translations.of(source, texts)

    def test_order_does_not_matter(self) -> None:
        assert self.of(ROWS) == self.of(ROWS[::-1])
        assert hash(self.of(ROWS)) == hash(self.of(ROWS[::-1]))

    def test_only_the_hash_of_the_corpus_language_changes_with_a_text(self) -> None:
        one, other = self.of(ROWS), self.of([*ROWS[:4], ROWS[4]._replace(text="How many kinds of jellyfish exist?")])
        assert one != other
        assert {code for code in one.sha256 if one.sha256[code] != other.sha256[code]} == {"de"}

    @pytest.mark.parametrize("change", [{"query_id": "1"}, {"query_language": "fr"}, {"corpus_language": "fi"}])
    def test_everything_counts(self, change: dict[str, str]) -> None:
        assert self.of(ROWS).sha256 != self.of([ROWS[0]._replace(**change), *ROWS[1:]]).sha256

    def test_the_source_counts(self) -> None:
        assert self.of(ROWS).sha256["de"] != self.of(ROWS, "other").sha256["de"]

    def test_it_can_be_an_option(self) -> None:
        chosen = {self.of(ROWS): 1}  # options are keys of what is loaded once
        assert chosen[self.of(ROWS[::-1])] == 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.of(ROWS).source = "x"  # type: ignore[misc] # what the test is about


class TestKnownIds:
    def read(self, folder: Path, lines: str) -> dict[str, Translations]:
        return read_translations([write(folder, HEADER + lines)])

    def test_known_ids_pass(self, tmp_path: Path) -> None:
        write_rows(tmp_path / "mt.tsv", ROWS)
        for translations in read_translations([tmp_path / "mt.tsv"]).values():
            check_ids(translations, KNOWN)

    def test_unknown_ids_are_named_and_counted(self, tmp_path: Path) -> None:
        lines = "".join(f"de\tx{at}\t{q}\ttext\ts\n" for at in range(7) for q in ("en", "fr"))
        with pytest.raises(DataError) as error:
            check_ids(self.read(tmp_path, GOOD.replace("nllb", "s") + lines)["s"], KNOWN)
        assert "s translates queries that do not exist: 'x0' of 'de', 'x1' of 'de'" in str(error.value)
        assert "'x4' of 'de' and 2 more (7 queries)" in str(error.value)
        assert "another query" not in str(error.value)

    def test_an_id_of_another_language_is_explained(self, tmp_path: Path) -> None:
        found = self.read(tmp_path, "en\t0\tde\ttext\ts\nen\t7\tde\ttext\ts\n")["s"]
        with pytest.raises(DataError, match=r"'7' of 'en'; ids are per corpus language: '7' is a query of 'sw'"):
            check_ids(found, KNOWN)

    def test_languages_that_are_not_known_are_not_checked(self, tmp_path: Path) -> None:
        check_ids(self.read(tmp_path, "fi\tx\tde\ttext\ts\n")["s"], KNOWN)

    def test_coverage(self, tmp_path: Path) -> None:
        write_rows(tmp_path / "mt.tsv", [*ROWS, Row("fi", "1", "de", "x", "human")])
        found = read_translations([tmp_path / "mt.tsv"])
        assert coverage(found, KNOWN) == [
            Coverage("nllb", "de", "en", 2, 3),
            Coverage("nllb", "de", "th", 1, 3),
            Coverage("nllb", "en", "sw", 1, 1),
            Coverage("human", "sw", "en", 1, 2),
            Coverage("human", "fi", "de", 1, None),
        ]
        assert [entry.total for entry in coverage(found)] == [None] * 5


# -- writing -------------------------------------------------------------------------------------------------------


class TestWriting:
    def test_the_header_is_the_documented_one(self) -> None:
        assert header() == HEADER

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_equal_rows_give_equal_bytes(self, tmp_path: Path, suffix: str) -> None:
        write_rows(tmp_path / f"a.{suffix}", ROWS)
        write_rows(tmp_path / f"b.{suffix}", iter(ROWS))
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()

    @pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\rb"])
    def test_a_tab_or_a_line_break_needs_json(self, tmp_path: Path, text: str) -> None:
        row = ROWS[0]._replace(text=text)
        with pytest.raises(DataError, match=r"query '81674#0' holds a tab or a line break.*\.jsonl"):
            write_rows(tmp_path / "mt.tsv", [row])
        write_rows(tmp_path / "mt.jsonl", [row])
        assert [found for _, found in read_rows(tmp_path / "mt.jsonl")] == [row]

    def test_a_row_that_would_be_refused_is_not_written_and_the_old_file_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "mt.tsv"
        write_rows(path, ROWS)
        before = path.read_bytes()
        with pytest.raises(DataError, match="same language"):
            write_rows(path, [*ROWS, ROWS[0]._replace(query_language="de")])
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["mt.tsv"]

    def test_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot write"):
            write_rows(tmp_path / "file" / "mt.tsv", ROWS)
