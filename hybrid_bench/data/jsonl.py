r"""A user's own parallel data as a collection: questions and passages in several languages, in one documented form.

Two tables, `passages` and `questions`. A row of theirs is an object with these keys:

============  =========  ===============================================================================
``id``        both       A string or a whole number, of any form.
``language``  both       Of ISO 639-1 or 639-3, with or without script, e.g. ``pl`` or ``pol-Latn``.
``text``      both       Not empty.
``title``     passages   Optional.
``relevant``  questions  Which passages answer the question; see below. Optional.
``group``     questions  What questions come from together, e.g. an article. Optional.
``paragraph`` questions  The smaller unit within the group that they come from together. Optional.
============  =========  ===============================================================================

**The same id in several languages is the same question, or the same passage, in these languages.** So `id` and
`language` together are unique in a table. Not every question and passage has to be there in every language, and there
may be languages with passages only, or with questions only.

``relevant`` is a list. Each entry is the id of a passage, which then is relevant in every language that has it, or an
object with ``id`` and, as needed, ``language`` (only the passage in this language) and ``gain`` (a whole number,
1 if it is not given; 0 for a passage that was judged not to be relevant). In JSON, ``{passage id: gain}`` may stand for
a list. **Judgments belong to the question, not to its wording**: it does not matter at which language's version they
stand, and those of all versions count for all of them. A question may have any number of relevant passages; one
without any is left out, and the collection's notes say so.

Questions of a ``group`` (a name, the same in every language) are not independent, which the significance tests take
into account. Without groups every question stands for itself.

Two lines of ``passages.jsonl`` and two of ``questions.jsonl``::

    {"id": "p1", "language": "en", "text": "The Danube is 2,850 kilometres long.", "title": "Danube"}
    {"id": "p1", "language": "de", "text": "Die Donau ist 2850 Kilometer lang.", "title": "Donau"}

    {"id": "q1", "language": "en", "text": "How long is the Danube?", "relevant": ["p1"], "group": "Danube"}
    {"id": "q1", "language": "de", "text": "Wie lang ist die Donau?"}

Where the tables stand (`JsonlReader.parse` reads these names):

- ``jsonl:FOLDER``: each table is a file, ``passages.jsonl``, or a folder of files, ``passages/*.jsonl``, for instance
  one for each language. ``.jsonl.gz`` and ``.parquet`` do as well.
- ``jsonl:FILE``: both tables in one file. Each row then also has ``kind``, which is ``passage`` or ``question``.
- ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``: a dataset on the Hugging Face Hub with the configurations ``passages``
  and ``questions``, in Parquet or JSON lines, read by `datasets` and kept on disk (memory-mapped), which is the form
  for large collections. Of several splits it is ``test`` that counts. ``relevant`` is best given as a list of ids, or
  of objects.
- ``hf:FOLDER``: a folder laid out like one. Its ``README.md`` begins like this::

    ---
    configs:
    - config_name: passages
      data_files: passages.parquet
    - config_name: questions
      data_files: questions.parquet
    ---

A relevant passage that does not exist, a language that is not known, a key with a slip of the pen: whatever is wrong
raises `DataError` with its place. Keys that begin with ``_`` are the user's own and not looked at.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection as Some
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hybrid_bench.data.collection import (
    Collection,
    Column,
    DataOptions,
    Judgments,
    Passages,
    Queries,
    Strings,
    clusters,
    take,
    text_id,
)
from hybrid_bench.data.files import expanded, json_objects
from hybrid_bench.data.hashing import sha256_of_lines, sha256_once
from hybrid_bench.data.hub import NotOnTheHubError, configurations, files_of, mapped, patterns, snapshot
from hybrid_bench.errors import DataError, RequestError, first_line, listed, shown
from hybrid_bench.languages import did_you_mean, language

__all__ = ["JsonlReader"]

#: Changes when the same files give another collection.
FORMAT = 1

#: What the name of a file of a table may end with.
_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_SPEC = re.compile(r"(?:(?P<name>[^=:/\\]*)=)?(?P<kind>jsonl|hf):(?P<place>.*)", re.DOTALL)
_NAME = re.compile(r"\w[\w.+-]*")
_DATASET = re.compile(r"[A-Za-z0-9_-][\w.-]*(/[A-Za-z0-9_-][\w.-]*)?", re.ASCII)

_KEYS = {
    "passages": ("id", "language", "text", "title"),
    "questions": ("id", "language", "text", "relevant", "group", "paragraph"),
}
_ENTRY_KEYS = ("id", "language", "gain")
_SMALL = 100_000  # a part with fewer passages is kept as tuples
_CHUNK = 50_000  # strings that are put into one Arrow array
_BIGGEST_GAIN = 2**31 - 1
_SPLIT = "test"


@dataclass(frozen=True)
class JsonlReader:
    """Where a user's parallel data come from. Make one with `parse`.

    Attributes:
        collection: Name of the collection.
        kind: ``jsonl`` or ``hf``.
        place: Absolute path of the file or folder; for a dataset on the Hub, its name.
        wanted: The branch, tag or commit that was asked for; empty for the newest, and for files.
        declared: The languages of the passages, if they were given; else they are read from the data.
        declared_queries: The same for the questions.
        notice: What a user of the data has to be told, e.g. about their licence.
    """

    collection: str
    kind: str
    place: str
    wanted: str = ""
    declared: tuple[str, ...] = ()
    declared_queries: tuple[str, ...] = ()
    notice: str = ""

    def __post_init__(self) -> None:
        """Refuse a name that cannot be that of a task and its files."""
        if not _NAME.fullmatch(self.collection):
            raise RequestError(
                f"'{self.collection}' cannot be a collection's name: letters, digits, '_', '.', '+' and '-', beginning "
                f"with a letter or digit; give one with NAME={self.kind}:{self.place}"
            )
        for code in (*self.declared, *self.declared_queries):
            language(code)

    @staticmethod
    def is_spec(text: str) -> bool:
        """Whether a name on the command line is meant for `parse`."""
        return _SPEC.fullmatch(text) is not None

    @classmethod
    def parse(
        cls,
        spec: str,
        *,
        collection: str | None = None,
        languages: Sequence[str] = (),
        query_languages: Sequence[str] | None = None,
        notice: str = "",
    ) -> JsonlReader:
        """The source that a name stands for. Nothing is read yet, except whether there is such a file or folder.

        Args:
            spec: ``jsonl:PATH`` or ``hf:PLACE``, as the module describes; ``NAME=`` may stand before it. A relative
                path is taken from the working folder.
            collection: Name of the collection; by default that in `spec`, or of the folder, file or dataset.
            languages: Languages of the passages. Where they are not given, the data are read as soon as someone asks
                for them, which is when tasks are made.
            query_languages: Languages of the questions; by default the same.
            notice: What a user of the data has to be told.

        Raises:
            RequestError: If this is not such a name, or there is no such file or folder.
        """
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise RequestError(f"'{spec}' is not the place of parallel data: jsonl:PATH, hf:FOLDER or hf:ORG/NAME")
        kind, place, wanted = match["kind"], match["place"], ""
        if not place:
            raise RequestError(f"'{spec}' names no {'file or folder' if kind == 'jsonl' else 'folder or dataset'}")
        try:
            path = expanded(place)
        except RuntimeError as error:
            raise RequestError(f"{spec}: {error}; name the folder without '~'") from error
        if path.exists():
            if not (path.is_file() or path.is_dir()):  # a device may be read without end
                raise RequestError(f"{spec}: {path} is neither a file nor a folder")
            place, stem = str(path.resolve()), path.resolve().name
            for ending in _ENDINGS if path.is_file() else ():
                stem = stem.removesuffix(ending)
            if kind == "hf" and not path.is_dir():
                raise RequestError(f"{spec} is a file: give the folder of the dataset, or jsonl:{path}")
        elif kind == "jsonl":
            raise RequestError(f"{spec}: there is no file or folder {path.absolute()}")
        else:
            place, at, wanted = place.partition("@")
            if not _DATASET.fullmatch(place) or bool(at) != bool(wanted):
                raise RequestError(f"{spec}: no such folder, nor the name of a dataset on the Hub, ORG/NAME[@REVISION]")
            stem = place.rpartition("/")[2]
        name = collection or match["name"] or re.sub(r"[^\w.+-]+", "-", stem).strip("-.+")
        return cls(
            collection=name,
            kind=kind,
            place=place,
            wanted=wanted,
            declared=_codes(languages),
            declared_queries=_codes(languages if query_languages is None else query_languages),
            notice=notice,
        )

    @property
    def spec(self) -> str:
        """The name that `parse` reads."""
        return f"{self.collection}={self.kind}:{self.place}{self.wanted and '@'}{self.wanted}"

    @property
    def passage_languages(self) -> tuple[str, ...]:
        """The languages that have passages. The data are read where they were not given."""
        return self.declared or tuple(code for code, part in self.load(DataOptions()).passages.items() if len(part))

    @property
    def query_languages(self) -> tuple[str, ...]:
        """The languages that have questions. The data are read where they were not given."""
        return self.declared_queries or tuple(self.load(DataOptions()).queries)

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages. One that has questions only has an empty part, so that it is known."""
        return tuple(sorted({*self.passage_languages, *self.query_languages}))

    @property
    def revision(self) -> str:
        """The commit of a dataset on the Hub; for files, the beginning of a hash over all of them."""
        return _layout(self).revision

    def load(self, options: DataOptions, languages: Some[str] | None = None) -> Collection:
        """The collection. All languages are read: a question's relevant passages may stand in any of them.

        Files that were changed are read again. None of the options is about such data.

        Raises:
            DataError: If something is wrong with the data; it names the place.
            RequestError: If the Hub does not have the dataset, or not this revision of it.
        """
        whole = _load(replace(self, declared=(), declared_queries=(), notice=""), _layout(self).digest)
        for what, given, found in (
            ("passages", self.declared, tuple(code for code, part in whole.passages.items() if len(part))),
            ("questions", self.declared_queries, tuple(whole.queries)),
        ):
            if given and given != found:
                raise DataError(f"{self.spec}: the {what} are in {', '.join(found)}, not in {', '.join(given)}")
        return whole

    def sha256(self, options: DataOptions, languages: Some[str] | None = None) -> Mapping[str, str]:
        """Hashes by part. Judgments join all rows, so each part depends on all files."""
        # And all of them together stand for the whole, under no part's name: another set of data, in other languages,
        # may have the same name.
        return dict.fromkeys(("", *self.languages), _layout(self).digest)

    def saved_options(self, options: DataOptions, subsets: Some[str]) -> Mapping[str, str]:
        """Nothing: none of the options changes such data."""
        return {}

    def missing(self, options: DataOptions, subset: str) -> str | None:
        """Why a subset cannot be run: questions of one language need not have relevant passages in every other."""
        query, _, corpus = subset.partition("-")
        whole = self.load(options)
        if query not in whole.queries:
            return f"there are no questions in '{query}'"
        if not corpus or (whole.queries[query].judgments.part == whole.part_index(corpus)).any():
            return None
        return f"no question in '{query}' has a relevant passage in '{corpus}'"


def _codes(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({language(code).code for code in given}))


# -- tables: where they stand, and their rows ---------------------------------------------------------------------


class _File(Protocol):
    """A file of a table, or a dataset that is one."""

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row and its number, from 1."""

    def where(self, number: int) -> str:
        """The place of a row, for a message."""


class _Place(NamedTuple):
    """A row's place, which is only put into words when something is wrong there."""

    file: _File
    number: int

    def __str__(self) -> str:
        return self.file.where(self.number)


@dataclass(frozen=True)
class _JsonLines:
    """A file with one JSON object on each line; empty lines do not count."""

    path: Path

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return json_objects(self.path)

    def where(self, number: int) -> str:
        return f"{self.path}:{number}"


@dataclass(frozen=True)
class _Parquet:
    """A Parquet file."""

    path: Path

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            with pq.ParquetFile(self.path) as file:
                batches = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(10_000))
                yield from enumerate(batches, 1)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {self.path}: {first_line(error)}") from error

    def where(self, number: int) -> str:
        return f"{self.path}, row {number}"


@dataclass(frozen=True)
class _Dataset:
    """A split of a Hugging Face dataset, memory-mapped."""

    name: str
    data: Any  # a datasets.Dataset

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        numbers = count(1)
        for batch in self.data.iter(10_000):
            for values in zip(*batch.values(), strict=True):
                yield next(numbers), dict(zip(batch, values, strict=True))

    def where(self, number: int) -> str:
        return f"{self.name}, row {number}"

    def column(self, name: str, rows: NDArray[np.int64]) -> pa.ChunkedArray:
        """A column at these rows: slices of it where they stand together, a copy where they are scattered."""
        column = self.data.data.table[name]
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        if len(starts) <= 100 + len(rows) // 1000:
            ends = [*starts[1:], len(rows)]
            slices = [column.slice(rows[start], end - start) for start, end in zip(starts, ends, strict=True)]
            chunks = [chunk for part in slices for chunk in part.chunks]
        else:
            blocks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
            chunks = [pa.array(take(Column(column), block), column.type) for block in blocks]
        return pa.chunked_array(chunks, column.type)


class _Layout(NamedTuple):
    """What a source's data are, before they are read.

    Attributes:
        digest: Hash over all that they depend on.
        revision: What they are called in a result.
        files: By table.
        single: Whether one file holds both tables.
    """

    digest: str
    revision: str
    files: Mapping[str, Sequence[Path]]
    single: bool = False


def _layout(source: JsonlReader) -> _Layout:
    place = Path(source.place)
    head = f"hybrid_bench.parallel {FORMAT}"
    files: dict[str, Sequence[Path]]
    if source.kind == "hf":
        folder = place if place.is_absolute() else _snapshot(source.place, source.wanted)
        _described(folder, source.place)
        files = {table: files_of(folder, table, _SPLIT) for table in _KEYS}
        if not place.is_absolute():
            return _Layout(sha256_of_lines([head, f"{source.place}@{folder.name}"]), folder.name, files)
    elif place.is_dir():
        files = {table: _table_files(place, table) for table in _KEYS}
    else:
        files = dict.fromkeys(_KEYS, (place,))
    hashes = [f"{table} {sha256_once(path)}" for table, paths in files.items() for path in paths]
    digest = sha256_of_lines([head, *hashes])
    return _Layout(digest, digest[:12], files, single=files["passages"] == files["questions"])


def _table_files(folder: Path, table: str) -> tuple[Path, ...]:
    """The files of a table in a folder: one that has its name, or all in the folder that has."""
    found = [folder / f"{table}{ending}" for ending in _ENDINGS if (folder / f"{table}{ending}").is_file()]
    within = folder / table
    if within.is_dir():
        files = sorted(path for path in within.iterdir() if path.name.endswith(_ENDINGS))
        if files and not found:
            return tuple(files)
        found += [within] if files else []
    if len(found) == 1:
        return tuple(found)
    if found:
        raise DataError(
            f"{folder}: {table} stand in {' and in '.join(path.name for path in found)}; keep one of them, or put all "
            f"files into the folder {within}"
        )
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    named = listed(there, 10) or "nothing"
    raise DataError(f"{folder}: {table}.jsonl (or .jsonl.gz, .parquet, or a folder {table}) is missing; found {named}")


def _open(source: JsonlReader, layout: _Layout, table: str) -> list[_File]:
    if source.kind == "jsonl":
        return [_Parquet(path) if path.suffix == ".parquet" else _JsonLines(path) for path in layout.files[table]]
    name = f"{source.place}, {table}"
    # The files of a commit never change.
    key = "" if Path(source.place).is_absolute() else f"{layout.digest} {table}"
    return [_Dataset(name, mapped(name, layout.files[table], key=key))]


@cache
def _snapshot(name: str, revision: str) -> Path:
    """Local copy of the two configurations of a dataset on the Hub; the Hub is asked once a process."""
    called = f"hf:{name}{revision and '@'}{revision}"
    wanted = partial(_described, name=called)
    try:
        return snapshot(name, revision, wanted, called=called, otherwise="give the folder of another copy, hf:FOLDER")
    except NotOnTheHubError as error:
        raise RequestError(str(error)) from error


def _described(folder: Path, name: str) -> list[str]:
    """Which files of a dataset are needed; `DataError` if its description does not have both configurations."""
    found = configurations(folder)
    for table in _KEYS:
        if table not in found:
            raise DataError(
                f"{name} has no configuration '{table}' (found: {', '.join(map(repr, found)) or 'none'}); the YAML at"
                " the beginning of its README.md should have: configs: [{config_name: passages, data_files:"
                " passages.parquet}, {config_name: questions, data_files: questions.parquet}]"
            )
    return [pattern for table in _KEYS for pattern in patterns(folder, table, _SPLIT)]


# -- rows: what they must hold ------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """One judgment as it stands in ``relevant``; without a language it is about all."""

    id: str
    language: str | None
    gain: int


class _Question(NamedTuple):
    id: str
    language: str
    text: str
    relevant: list[_Entry]
    group: str | None
    paragraph: str | None
    place: _Place


def _rows(files: Iterable[_File], table: str, single: bool) -> Iterator[tuple[dict[str, Any], _Place]]:
    """The rows of a table with their places. Keys without a value count as not there, in JSON too.

    Args:
        files: The files.
        table: ``passages`` or ``questions``.
        single: Whether both tables stand in one file, and each row says of which it is.
    """
    keys = _KEYS[table]
    allowed = frozenset(keys)
    kinds = {name.removesuffix("s"): name for name in _KEYS}
    for file in files:
        for number, whole in file.rows():
            place = _Place(file, number)
            row = {key: value for key, value in whole.items() if value is not None}
            if single:
                kind = _string(row, "kind", place)
                if kind not in kinds:
                    raise DataError(f"{place}: unknown kind {shown(kind)}: {did_you_mean(kind, kinds)}")
                if kinds[kind] != table:
                    continue
                del row["kind"]
            if not row.keys() <= allowed:
                for key in sorted(row.keys() - allowed):
                    if not key.startswith("_"):
                        raise DataError(
                            f"{place}: unknown key '{key}' in a row of {table}, {did_you_mean(key, keys)} "
                            "(keys of your own begin with '_')"
                        )
            yield row, place


def _value(row: Mapping[str, Any], key: str, place: _Place) -> Any:
    if key not in row:
        raise DataError(f"{place}: '{key}' is missing, found only {', '.join(map(repr, row)) or 'an empty object'}")
    return row[key]


def _string(row: Mapping[str, Any], key: str, place: _Place) -> str:
    """Text that can be written as UTF-8 and is not empty."""
    value = _value(row, key, place)
    if not isinstance(value, str):
        raise DataError(f"{place}: '{key}' should be a string, found {shown(value)}")
    if not value or value.isspace():
        raise DataError(f"{place}: '{key}' is empty")
    return value


def _id(row: Mapping[str, Any], key: str, place: _Place) -> str:
    """An id, or a group's name: a string, or a whole number, which is taken for its digits."""
    value = _value(row, key, place)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{place}: '{key}' should be a string or a whole number, found {shown(value)}")
    return _string(row, key, place)


def _language(row: Mapping[str, Any], place: _Place) -> str:
    """The language's code in our one way of writing."""
    code = _string(row, "language", place)
    try:
        return language(code).code
    except RequestError as error:
        raise DataError(f"{place}: {error}") from error


def _gain(value: Any, about: str, place: _Place) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _BIGGEST_GAIN:
        return value
    hint = ""
    if isinstance(value, (dict, list, str)):
        hint = '; for the passages of one language write [{"id": ..., "language": ..., "gain": ...}, ...]'
    raise DataError(f"{place}: the gain of '{about}' should be a whole number from 0, found {shown(value)}{hint}")


def _entries(value: Any, place: _Place) -> list[_Entry]:
    """What ``relevant`` says, in any of its forms."""
    if isinstance(value, Mapping):
        # From a table, where every id is a column, all but a few of them have no value.
        value = [(key, gain) for key, gain in value.items() if gain is not None]
    if not isinstance(value, list):
        raise DataError(f"{place}: 'relevant' should be a list of passage ids, found {shown(value)}")
    entries = []
    for item in value:
        match item:
            case Mapping():
                fields = {key: field for key, field in item.items() if field is not None}
                for key in sorted(fields.keys() - set(_ENTRY_KEYS)):
                    raise DataError(
                        f"{place}: unknown key '{key}' in an entry of 'relevant', {did_you_mean(key, _ENTRY_KEYS)}"
                    )
                passage = _id(fields, "id", place)
                code = _language(fields, place) if "language" in fields else None
                entries.append(_Entry(passage, code, _gain(fields.get("gain", 1), passage, place)))
            case (passage, gain) if isinstance(item, tuple):
                passage = _id({"relevant": passage}, "relevant", place)
                entries.append(_Entry(passage, None, _gain(gain, passage, place)))
            case _:
                entries.append(_Entry(_id({"relevant": item}, "relevant", place), None, 1))
    return entries


# -- passages -----------------------------------------------------------------------------------------------------


class _Gathered:
    """Strings one by one, kept in Arrow: as Python's objects they would need several times the memory."""

    def __init__(self) -> None:
        self._chunks: list[pa.Array] = []
        self._last: list[str] = []

    def append(self, text: str) -> None:
        self._last.append(text)
        if len(self._last) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        self._chunks.append(pa.array(self._last, pa.string()))
        self._last = []

    def array(self) -> pa.ChunkedArray:
        self._flush()
        return pa.chunked_array(self._chunks, pa.string())


class _Part:
    """The passages of one language, as they are read."""

    def __init__(self) -> None:
        self.ids, self.texts, self.titles = _Gathered(), _Gathered(), _Gathered()
        self.files = array("q")  # number of each passage's file
        self.numbers = array("q")  # and of its row there, from 1
        self.titled = False


class _PassageTable(NamedTuple):
    """The passages that were read.

    Attributes:
        passages: By language.
        found: id -> language -> position, of the ids that were asked for.
        examples: Two ids as they stand in the data.
    """

    passages: dict[str, Passages]
    found: dict[str, dict[str, int]]
    examples: list[str]


def _read_passages(files: Sequence[_File], single: bool, name: str, wanted: Some[str]) -> _PassageTable:
    """Read and check the passages.

    Args:
        files: The files of the table.
        single: Whether these hold the questions too.
        name: Name of the collection.
        wanted: The ids that questions refer to.
    """
    parts: dict[str, _Part] = defaultdict(_Part)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    examples: list[str] = []
    dataset = files[0] if isinstance(files[0], _Dataset) else None  # which is the only file of its table
    for file_number, file in enumerate(files):
        for row, place in _rows([file], "passages", single):
            code = _language(row, place)
            original = _id(row, "id", place)
            text = _string(row, "text", place)
            title = _title(row, place)
            part = parts[code]
            if original in wanted:
                found[original][code] = len(part.numbers)
            if len(examples) < 2 and original not in examples:
                examples.append(original)
            part.ids.append(text_id(name, code, original))
            part.files.append(file_number)
            part.numbers.append(place.number)
            part.titled |= bool(title)
            if dataset is None:
                part.texts.append(text)
                part.titles.append(title)
    passages = {}
    for code, part in sorted(parts.items()):
        ids = part.ids.array()
        if pc.count_distinct(ids).as_py() < len(ids):
            raise _twice(Column(ids), code, part, files)
        if dataset is None:
            texts, titles = part.texts.array(), part.titles.array() if part.titled else None
        else:
            rows = np.array(part.numbers, dtype=np.int64) - 1
            texts, titles = dataset.column("text", rows), dataset.column("title", rows) if part.titled else None
        passages[code] = Passages(code, _kept(ids), _kept(texts), None if titles is None else _kept(titles))
    return _PassageTable(passages, found, examples)


def _title(row: Mapping[str, Any], place: _Place) -> str:
    title = row.get("title", "")
    if not isinstance(title, str):
        raise DataError(f"{place}: 'title' should be a string, found {shown(title)}")
    return title


def _kept(strings: pa.ChunkedArray) -> Strings:
    column = Column(strings)
    return tuple(column) if len(column) < _SMALL else column


def _twice(ids: Strings, code: str, part: _Part, files: Sequence[_File]) -> DataError:
    """Says which passage is there twice."""

    def where(row: int) -> _Place:
        return _Place(files[part.files[row]], part.numbers[row])

    first: dict[str, int] = {}
    for row, passage in enumerate(ids):
        if first.setdefault(passage, row) != row:
            original = passage.split(".", 2)[2]
            return DataError(
                f"{where(row)}: the passage '{original}' stands in '{code}' twice, first at {where(first[passage])}; "
                "an id may be there once in each language"
            )
    raise AssertionError("no id occurs twice")


# -- questions ----------------------------------------------------------------------------------------------------


def _read_questions(files: Sequence[_File], single: bool) -> list[_Question]:
    questions = []
    seen: dict[tuple[str, str], _Place] = {}
    for row, place in _rows(files, "questions", single):
        question = _Question(
            id=_id(row, "id", place),
            language=_language(row, place),
            text=_string(row, "text", place),
            relevant=_entries(row.get("relevant", []), place),
            group=_id(row, "group", place) if "group" in row else None,
            paragraph=_id(row, "paragraph", place) if "paragraph" in row else None,
            place=place,
        )
        first = seen.setdefault((question.id, question.language), place)
        if first is not place:
            raise DataError(
                f"{place}: the question '{question.id}' stands in '{question.language}' twice, first at {first}; an id "
                "may be there once in each language"
            )
        questions.append(question)
    return questions


def _judged(questions: Sequence[_Question], table: _PassageTable) -> dict[str, NDArray[np.int64]]:
    """What is relevant to each question, by id: rows of part, passage and gain in ascending order.

    Raises:
        DataError: If a passage does not exist, has two gains, or if it is not clear in which language it is meant.
    """
    numbers = {code: number for number, code in enumerate(table.passages)}
    judged: dict[str, dict[tuple[int, int], tuple[int, _Place]]] = defaultdict(dict)
    unknown = []
    for question in questions:
        mine = judged[question.id]
        for entry in question.relevant:
            rows = table.found.get(entry.id, {})
            codes = rows.keys() & ({entry.language} if entry.language else rows.keys())
            if not codes:
                unknown.append((question, entry))
            for code in codes:
                gain, place = mine.setdefault((numbers[code], rows[code]), (entry.gain, question.place))
                if gain != entry.gain:
                    raise DataError(
                        f"{question.place}: the passage '{entry.id}' has gain {entry.gain} for the question "
                        f"'{question.id}', but {gain} at {place}; judgments count for all versions of a question, so "
                        "give the same, or give it once"
                    )
    if unknown:
        raise _unknown(unknown, table)
    _check_shared(questions, table)
    arrays = {}
    for question_id, passages in judged.items():
        rows_of = [(*key, gain) for key, (gain, _) in sorted(passages.items()) if gain]
        if rows_of:
            arrays[question_id] = np.array(rows_of, dtype=np.int64)
    return arrays


def _unknown(unknown: Sequence[tuple[_Question, _Entry]], table: _PassageTable) -> DataError:
    question, entry = unknown[0]
    elsewhere = table.found.get(entry.id)
    what = f"the relevant passage '{entry.id}' does not exist"
    if elsewhere:
        what += f" in '{entry.language}', only in {', '.join(sorted(elsewhere))}"
    else:
        what += f" (passages have ids like {' and '.join(map(repr, table.examples))})"
    if len(unknown) > 1:
        what += f"; nor do {len(unknown) - 1:,} more"
    return DataError(f"{question.place}: {what}; add it, or take it out of 'relevant'")


def _check_shared(questions: Sequence[_Question], table: _PassageTable) -> None:
    """Refuse ids that look as if each language numbered its passages by itself.

    An id without a language is meant in every language that has it. If so, all versions of a question that give
    judgments give the same ones. Where they do not, a '17' here and a '17' there may well be two passages, and joining
    them would make wrong judgments that nobody sees.
    """
    versions: dict[str, tuple[_Question, set[str]]] = {}
    for question in questions:
        mine = {entry.id for entry in question.relevant if entry.language is None}
        if not question.relevant:
            continue
        other, theirs = versions.setdefault(question.id, (question, mine))
        for passage in sorted(mine ^ theirs):
            codes = sorted(table.found[passage])
            if len(codes) > 1:
                here, there = (question, other) if passage in mine else (other, question)
                raise DataError(
                    f"{here.place}: '{passage}' is relevant to the question '{question.id}' here, but not at "
                    f"{there.place}, and {', '.join(codes)} have a passage of this id; if only that in "
                    f'\'{here.language}\' is meant, write {{"id": {json.dumps(passage)}, "language": '
                    f'"{here.language}"}}; if all are, give the same list at both, or at one only'
                )


# -- the collection -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _load(source: JsonlReader, digest: str) -> Collection:
    """Read it all. The digest is part of what the cache goes by."""
    layout = _layout(source)
    questions = _read_questions(_open(source, layout, "questions"), layout.single)
    wanted = {entry.id for question in questions for entry in question.relevant}
    table = _read_passages(_open(source, layout, "passages"), layout.single, source.collection, wanted)
    for what, there in (("passages", table.passages), ("questions", questions)):
        if not there:
            raise DataError(f"{source.kind}:{source.place}: there are no {what}")
    judged = _judged(questions, table)
    kept = [question for question in questions if question.id in judged]
    if not kept:
        raise DataError(
            f"{questions[0].place}: no question has a relevant passage; give 'relevant', a list of passage ids"
        )
    parts = sorted({*table.passages, *(question.language for question in kept)})
    number = np.array([parts.index(code) for code in table.passages])
    queries = {}
    for code in sorted({question.language for question in kept}):
        asked = [question for question in kept if question.language == code]
        rows = np.concatenate([judged[question.id] for question in asked])
        queries[code] = Queries(
            language=code,
            ids=tuple(text_id(source.collection, code, question.id) for question in asked),
            question_ids=tuple(question.id for question in asked),
            texts=tuple(question.text for question in asked),
            judgments=Judgments(
                query=np.repeat(np.arange(len(asked)), [len(judged[question.id]) for question in asked]).astype(
                    np.int32
                ),
                part=number[rows[:, 0]].astype(np.int16),
                passage=rows[:, 1].astype(np.int32),
                gain=rows[:, 2].astype(np.int32),
            ),
        )
    paragraphs, groups = _groups(kept)
    return Collection(
        name=source.collection,
        passages={code: table.passages.get(code, Passages(code, (), ())) for code in parts},
        queries=queries,
        paragraph_cluster=clusters(paragraphs),
        article_cluster=clusters([*paragraphs, *groups]),
        revision=layout.revision,
        sha256=dict.fromkeys(("", *parts), digest),
        notes=tuple(_notes(questions, kept, table)),
    )


def _groups(questions: Sequence[_Question]) -> tuple[list[list[str]], list[list[str]]]:
    """Question ids that belong together, by paragraph (each question for itself, too) and by group."""
    alone = dict.fromkeys(question.id for question in questions)
    paragraphs: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        if question.paragraph is not None:
            paragraphs[question.group, question.paragraph].append(question.id)
        if question.group is not None:
            groups[question.group].append(question.id)
    return [*([question_id] for question_id in alone), *paragraphs.values()], list(groups.values())


def _notes(questions: Sequence[_Question], kept: Sequence[_Question], table: _PassageTable) -> Iterator[str]:
    """What a reader of the numbers has to be told."""
    ids = {question.id for question in kept}
    left_out = list(dict.fromkeys(question.id for question in questions if question.id not in ids))
    if left_out:
        # Without the places of their rows: notes are kept with results, which others read.
        yield (
            f"questions left out because no passage is relevant to them, {len(left_out):,} of "
            f"{len(left_out) + len(ids):,}: {listed(left_out, form=repr)}"
        )
    versions = Counter(question.language for question in kept)
    if len(set(versions.values())) > 1 or max(versions.values()) < len(ids):
        counts = ", ".join(f"{code} {count:,}" for code, count in sorted(versions.items()))
        yield f"not every one of the {len(ids):,} questions is there in every language: {counts}"
    times = Counter(question.id for question in kept)
    joined = dict.fromkeys(
        entry.id
        for question in kept
        if times[question.id] == 1
        for entry in question.relevant
        if entry.language is None and len(table.found[entry.id]) > 1
    )
    if joined:
        yield (
            f"questions that are there in one language only have relevant passages whose ids stand in several; these "
            f"count in all of them: {listed(joined, form=repr)}"
        )
    if len(table.passages) == 1:
        (code,) = table.passages
        yield f"all passages are in one language ('{code}'), so a pool of all languages is the same as that of '{code}'"
