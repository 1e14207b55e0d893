"""Queries asked in other languages than the one they were written in: the file format, its reader and its writer.

MIRACL's queries are written in the language of the passages they were judged against. Translations of them let a model
be asked across languages. A file holds one translation a line, of one or more translators ("sources"):

- ``.tsv``: a header line that names the columns, then one row a line, columns separated by tabs. Nothing is quoted or
  escaped, so a text cannot hold a tab or a line break; the writer refuses it.
- ``.jsonl``: one JSON object a line with the columns as keys; any text can be written.

Both are UTF-8, and either may be compressed with gzip (``.tsv.gz``, ``.jsonl.gz``). The columns are those of `Row`, in
any order; others are ignored, as are empty lines.

A query is known by the language of its passages and its id: the same id stands for unrelated queries in different
languages.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple

from hybrid_bench.data.files import atomic
from hybrid_bench.data.hashing import sha256_of_json
from hybrid_bench.data.parsing import parse_json
from hybrid_bench.errors import DataError, RequestError, listed, reason
from hybrid_bench.languages import did_you_mean, language

__all__ = [
    "Coverage",
    "Row",
    "Translations",
    "check_ids",
    "coverage",
    "format_row",
    "header",
    "parse_row",
    "read_rows",
    "read_translations",
    "write_rows",
]

_NAMED = 5  # so many unknown ids are named in an error, the rest is counted


class Row(NamedTuple):
    """One translation of one query; the columns of a file.

    Attributes:
        corpus_language: Two-letter code of the language that the query was written in, that of its passages.
        query_id: Its id there.
        query_language: Two-letter code of the language it was translated into.
        text: The translation.
        source: Who translated: the name of a model, ``human``, ...
    """

    corpus_language: str
    query_id: str
    query_language: str
    text: str
    source: str


@dataclass(frozen=True)
class Translations:
    """One source's translations of queries. Make it by `of`, so that the hashes are those of the texts.

    Attributes:
        source: Who translated.
        texts: (corpus language, query language) -> query id -> text, in order of appearance.
        sha256: By corpus language, hash over its sorted entries and the source. Two objects are equal if these are.
    """

    source: str
    texts: Mapping[tuple[str, str], Mapping[str, str]] = field(compare=False)
    sha256: Mapping[str, str]

    def __hash__(self) -> int:
        return hash((self.source, *sorted(self.sha256.items())))

    @classmethod
    def of(cls, source: str, texts: Mapping[tuple[str, str], Mapping[str, str]]) -> Translations:
        """From a source's name and its texts."""
        entries: dict[str, list[tuple[str, str, str]]] = {}
        for (corpus, query), by_id in texts.items():
            entries.setdefault(corpus, []).extend((query, query_id, text) for query_id, text in by_id.items())
        digests = {corpus: sha256_of_json([source, corpus, sorted(rows)]) for corpus, rows in entries.items()}
        return cls(source, texts, digests)


class Coverage(NamedTuple):
    """How many queries of one language a source has in another.

    Attributes:
        source: Who translated.
        corpus_language: From.
        query_language: To.
        translated: Queries that have a translation.
        total: Queries there are; None where that is not known.
    """

    source: str
    corpus_language: str
    query_language: str
    translated: int
    total: int | None


def read_translations(paths: Sequence[Path]) -> dict[str, Translations]:
    """All translations in these files.

    Args:
        paths: Files in the format of this module, at least one. A source may be spread over several.

    Returns:
        By source, in order of appearance.

    Raises:
        RequestError: If a file's suffix is none of the known.
        DataError: If a file cannot be read, a row is not valid (see `read_rows`), or a source translates one query
            into one language in two ways.
    """
    texts: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    places: dict[tuple[str, str, str, str], tuple[Path, int]] = {}
    for path in paths:
        for line, row in read_rows(path):
            by_id = texts.setdefault(row.source, {}).setdefault((row.corpus_language, row.query_language), {})
            key = (row.source, row.corpus_language, row.query_language, row.query_id)
            if by_id.setdefault(row.query_id, row.text) != row.text:
                before, at = places[key]
                raise DataError(
                    f"{path}:{line}: {row.source} translates query '{row.query_id}' of '{row.corpus_language}' into"
                    f" '{row.query_language}' as '{row.text}', but as '{by_id[row.query_id]}' in {before}:{at}: keep"
                    " one of them, or give them different sources"
                )
            places.setdefault(key, (path, line))
    if not texts:
        raise DataError(f"no translations in {', '.join(map(str, paths))}: only empty lines and headers")
    return {source: Translations.of(source, by_direction) for source, by_direction in texts.items()}


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of one file with their line numbers, each valid by itself.

    Raises:
        RequestError: If the file's suffix is none of the known.
        DataError: If the file cannot be read, is not UTF-8 or damaged; or a row lacks a column, has an empty text, id
            or source, an unknown language code, or a query language that is the corpus language. The last line of a
            TSV file must end in a line break unless its source was seen before: a file that was cut off within the
            last column reads like one of another source.
    """
    is_json = _is_json(path)
    columns: Sequence[str] | None = None
    sources: set[str] = set()
    for number, (line, ended) in enumerate(_lines(path), start=1):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        if not is_json and columns is None:
            columns = _columns(line, place)
            continue
        try:
            row = parse_row(line, columns)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
        if not is_json and not ended and _may_be_cut(row.source, sources):
            raise DataError(
                f"{place}: the last line has no line break at its end, and no other line has its source '{row.source}':"
                " the file may have been cut off; end the line, or complete the file"
            )
        sources.add(row.source)
        yield number, row
    if not is_json and columns is None:
        raise DataError(f"{path} is empty: it must begin with the line {header().rstrip()!r}")


def header() -> str:
    """The first line of a TSV file."""
    return "\t".join(Row._fields) + "\n"


def parse_row(line: str, columns: Sequence[str] | None) -> Row:
    """The row that a line holds.

    Args:
        line: Without its line break.
        columns: What the columns of a TSV file hold, in order; None for a line of JSON.

    Raises:
        DataError: If it is not valid; without the place, which the caller knows.
    """
    row = _of_json(line) if columns is None else _of_tsv(line, columns)
    return _checked(row)


def format_row(row: Row, path: Path) -> str:
    """The line, with its line break, that holds this row in a file of this name.

    Raises:
        RequestError: If the file's suffix is none of the known.
        DataError: If the row is not valid, or the format cannot hold it.
    """
    row = _checked(row)
    if _is_json(path):
        return json.dumps(row._asdict(), ensure_ascii=False) + "\n"
    for column, value in row._asdict().items():
        if any(character in value for character in "\t\n\r"):
            raise DataError(
                f"{column} {value!r} of query '{row.query_id}' holds a tab or a line break, which a TSV file cannot:"
                " write a .jsonl file"
            )
    return "\t".join(row) + "\n"


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a file; it appears under its name when it is whole.

    Raises:
        RequestError: If the file's suffix is none of the known.
        DataError: If a row is not valid or the file cannot be written.
    """
    is_json = _is_json(path)
    try:
        with (
            atomic(path) as beside,
            beside.open("wb") as raw,
            # Without a time stamp, equal rows give equal bytes.
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if _is_gzip(path) else raw as file,
        ):
            if not is_json:
                file.write(header().encode())
            for row in rows:
                file.write(format_row(row, path).encode())
    except OSError as error:
        raise DataError(f"cannot write {path}: {reason(error)}; choose another folder") from error


def check_ids(translations: Translations, known: Mapping[str, Collection[str]]) -> None:
    """Refuse translations of queries that do not exist.

    Args:
        translations: What was read.
        known: The ids of the queries, by corpus language; languages that are not in it are not checked.

    Raises:
        DataError: If there is an unknown id. Names the first, and says so when one exists in another language.
    """
    unknown = list(
        dict.fromkeys(
            (corpus, query_id)
            for (corpus, _), by_id in translations.texts.items()
            if corpus in known
            for query_id in by_id.keys() - known[corpus]
        )
    )
    if not unknown:
        return
    unknown.sort()
    named = listed((f"'{query_id}' of '{corpus}'" for corpus, query_id in unknown), _NAMED)
    more = f" ({len(unknown)} queries)" if len(unknown) > _NAMED else ""
    message = f"{translations.source} translates queries that do not exist: {named}{more}"
    for corpus, query_id in unknown:
        elsewhere = next((other for other in known if other != corpus and query_id in known[other]), None)
        if elsewhere is not None:
            message += (
                f"; ids are per corpus language: '{query_id}' is a query of '{elsewhere}', another query than any of"
                f" '{corpus}', so corpus_language must name the language that a query was written in"
            )
            break
    raise DataError(message)


def coverage(
    translations: Mapping[str, Translations], known: Mapping[str, Collection[str]] | None = None
) -> list[Coverage]:
    """How many queries each source has, by corpus language and query language.

    Args:
        translations: As `read_translations` returns them.
        known: The ids of the queries, by corpus language: of how many. Only these are counted, where given.

    Returns:
        One entry for each source, corpus language and query language that has a translation, in order of appearance.
    """
    rows = []
    for source, of_source in translations.items():
        for (corpus, query), by_id in of_source.texts.items():
            ids = None if known is None else known.get(corpus)
            translated = len(by_id) if ids is None else sum(query_id in by_id for query_id in ids)
            rows.append(Coverage(source, corpus, query, translated, None if ids is None else len(ids)))
    return rows


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _is_json(path: Path) -> bool:
    """Whether the file's name says that it holds JSON lines; the alternative is TSV."""
    suffix = Path(path.stem).suffix if _is_gzip(path) else path.suffix
    if suffix not in {".tsv", ".jsonl"}:
        raise RequestError(
            f"cannot tell the format of {path}: translations are in .tsv or .jsonl files, either may end in .gz"
        )
    return suffix == ".jsonl"


def _lines(path: Path) -> Iterator[tuple[str, bool]]:
    """The lines without their line breaks, and whether they had one.

    Only a line feed ends a line (a carriage return before it is dropped): texts may hold what Python's `splitlines`
    and universal newlines take for line breaks.
    """
    if path.exists() and not path.is_file():  # a device may be read without end
        raise DataError(f"{path} is not a file")
    number = 0
    try:
        file: BufferedIOBase
        with gzip.open(path, "rb") if _is_gzip(path) else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield line.removesuffix("\n").removesuffix("\r"), raw.endswith(b"\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged after line {number} ({error}): compress it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error


def _may_be_cut(source: str, seen: Collection[str]) -> bool:
    """Whether the source of a line without an end may be the beginning of another."""
    return source not in seen or any(other.startswith(source) and other != source for other in seen)


def _columns(line: str, place: str) -> list[str]:
    """The columns that a TSV file's first line names."""
    columns = line.split("\t")
    for column in Row._fields:
        if columns.count(column) > 1:
            raise DataError(f"{place}: column '{column}' is named twice")
    missing = [column for column in Row._fields if column not in columns]
    if missing:
        raise DataError(
            f"{place}: the header lacks {_quoted(missing)}; it names {_quoted(columns)}, but must be"
            f" {header().rstrip()!r} (separated by tabs)"
        )
    return columns


def _of_tsv(line: str, columns: Sequence[str]) -> Row:
    values = line.split("\t")
    if len(values) < len(columns):
        raise DataError(
            f"missing column {_quoted(columns[len(values) :])}: the line has {len(values)} of {len(columns)} columns"
            " (separated by tabs)"
        )
    if len(values) > len(columns):
        raise DataError(
            f"{len(values)} columns, but the header names {len(columns)}: a text cannot hold a tab in a TSV file, only"
            " in a .jsonl file"
        )
    by_name = dict(zip(columns, values, strict=True))
    return Row(*(by_name[column] for column in Row._fields))


def _of_json(line: str) -> Row:
    try:
        value = parse_json(line)
    except ValueError as error:
        detail = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"not JSON, or cut off ({detail})") from error
    if not isinstance(value, dict):
        raise DataError(f"must be a JSON object, not {line[:40]!r}")
    for column in Row._fields:
        if column not in value:
            raise DataError(f"missing column '{column}': {did_you_mean(column, value)}")
        if not isinstance(value[column], str):
            raise DataError(f"{column} must be a string, not {json.dumps(value[column])[:40]}")
    return Row(*(value[column] for column in Row._fields))


def _checked(row: Row) -> Row:
    """A row with its languages in our one way of writing; refuses what cannot be a row, without naming its place."""
    for column, value in row._asdict().items():
        if not value.strip():
            raise DataError(f"empty {column}" + (f" of query '{row.query_id}'" if row.query_id.strip() else ""))
        if column != "text" and value != value.strip():
            raise DataError(f"{column} {value!r} begins or ends with white space")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{column} of query {row.query_id!r} holds half a surrogate pair") from error
    codes = {}
    for column in ("corpus_language", "query_language"):
        try:
            codes[column] = language(getattr(row, column)).code
        except RequestError as error:
            raise DataError(f"{column}: {error}") from error
    row = row._replace(**codes)
    if row.query_language == row.corpus_language:
        raise DataError(
            f"query '{row.query_id}' is translated from '{row.corpus_language}' into the same language: the official"
            " queries are used there; leave the line out"
        )
    return row


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
