r"""Where training data come from: what a configuration says of a source, and the readers of the formats.

A `SourceSpec` is declarative; `SourceSpec.load` reads it into `SourceTexts`, which are `ParallelTexts` that also know
what the overlap guard asks for: question ids and articles. A source in one language is allowed; it gives monolingual
batches only.

============  =====================================================================================================
``parallel``  The project's own schema: ``query_<lang>``, ``passage_<lang>``, optionally ``negative_<lang>`` or
              ``negative_1_<lang>``, ``negative_2_<lang>``, ..., ``group``, ``question_id`` and ``article``, in JSON
              lines (``.jsonl``, ``.jsonl.gz``), Parquet or Arrow: a file, or a folder of them.
``hf``        Any data set of the Hugging Face Hub, or a folder laid out like one, in Parquet or JSON lines. ``columns``
              says what each column of the schema above is called there; ``answers.text.0`` is the first item of the
              list in the field ``text``. Where every language is a configuration of its own, ``config`` holds
              ``{language}``, ``columns`` are ``query``, ``passage``, ... without a language, and ``id`` joins them.
``mmarco``    mMARCO (arXiv 2108.13897, ``unicamp-dl/mmarco``): ``data/triples.train.ids.small.tsv`` with query and
              passage ids that are the same in all languages, and for each language the texts,
              ``data/google/collections/<language>_collection.tsv`` and
              ``data/google/queries/train/<language>_queries.train.tsv`` (v2; ``helsinki`` in place of ``google`` is
              v1.1).
``mr-tydi``   Mr. TyDi (arXiv 2108.08787, ``castorini/mr-tydi``): ``mrtydi-v1.1-<language>/train.jsonl.gz``; one
              language, as no question is there in two.
``mfaq``      MFAQ (arXiv 2109.12870, ``clips/mfaq``): ``data/<lang>/train.jsonl``, question-answer pairs by web page;
              one language.
``lareqa``    LAReQA's format (arXiv 2004.05484), one ``<lang>.json`` for each language in a folder, or a collection of
              this project by name, e.g. ``dataset = "MLQA-R"``: a question, and the sentence that answers it. Linked
              between languages by question id.
``ntrex``     NTREX-128 (``newstest2019-src.eng.txt``, ``newstest2019-ref.<code>.txt``, ``DOCUMENT_IDS.tsv``): a
              sentence, and its translation.
``lines``     Text files in which line n is the same sentence in every language; ``columns`` gives each its file.
============  =====================================================================================================

What has to be parsed is parsed once, into Arrow files in the cache, which are memory-mapped: neither rows nor texts of
mMARCO's 39,780,811 triples over 7 languages are held in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.data.collection import Column, PassageText, Strings, clusters, take
from hybrid_bench.data.files import cache_dir, json_objects, lines, resolve, sha256_of_lines, sha256_once
from hybrid_bench.data.hub import NotOnTheHubError, files_of, mapped, patterns, snapshot
from hybrid_bench.data.lareqa import LareqaSource, read_lareqa
from hybrid_bench.errors import DataError, RequestError, first_line, listed, shown
from hybrid_bench.languages import LANGUAGES, did_you_mean
from hybrid_bench.training.texts import ParallelTexts, Rows

__all__ = ["Articles", "SourceSpec", "SourceTexts", "collection_files", "lareqa_articles"]

#: Changes when the same files give other Arrow files.
_FORMAT = "1"

Kind = Literal["parallel", "hf", "mmarco", "mr-tydi", "mfaq", "lareqa", "ntrex", "lines"]

#: Up to so many passages, rows of a table without groups that have the same one are found: it takes seconds.
_JOINED = 5_000_000
#: What each kind takes in ``options``, with the defaults.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "parallel": {},
    "hf": {"config": "default", "split": "train", "files": ""},
    "mmarco": {"version": "v2", "negatives": 0, "distinct": False},
    "mr-tydi": {"split": "train", "negatives": 0, "titles": False},
    "mfaq": {"split": "train"},
    "lareqa": {"passage": "sentence", "by": "paragraph", "folds": 1, "fold": (0,)},
    "ntrex": {},
    "lines": {"documents": ""},
}
#: The data set that is meant where neither a path nor a data set is given.
_DATASETS = {"mmarco": "unicamp-dl/mmarco", "mr-tydi": "castorini/mr-tydi", "mfaq": "clips/mfaq"}
_WITH_COLUMNS = ("parallel", "hf", "lines")
_ONE_LANGUAGE = ("mr-tydi", "mfaq")

#: mMARCO's translations, by Google and by models of the University of Helsinki, and the names that their folders had.
_MMARCO_VERSIONS = {"v2": ("google", "v2"), "v1.1": ("helsinki", "v1.1", "v1")}
#: Languages that training data have besides those of the collections.
_MORE_LANGUAGES = {
    "cs": "Czech",
    "da": "Danish",
    "he": "Hebrew",
    "hr": "Croatian",
    "hu": "Hungarian",
    "it": "Italian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "sv": "Swedish",
}
_NAMES = {code: language.name.lower() for code, language in LANGUAGES.items()}
_NAMES |= {code: name.lower() for code, name in _MORE_LANGUAGES.items()}

_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_DATASET = re.compile(r"[A-Za-z0-9_-][\w.-]*(/[A-Za-z0-9_-][\w.-]*)?", re.ASCII)
_ROLE = re.compile(r"query|passage|negative(_[1-9]\d*)?")
#: Columns that are not in a language: the first is of the schema of `ParallelTexts`, the others are for the guard.
_ABOUT = ("group", "question_id", "article")
_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".arrow")

_BATCH = 10_000  # rows that are turned into Arrow at once
_ID_BATCH = 1 << 16  # texts of mMARCO in one piece
_TRIPLES = 4_000_000  # that are looked at together
_READ_BYTES = 1 << 24  # of a TSV file at once
_WHOLE_BYTES = 1 << 28  # up to this size a file is known by its content, not by its size, time and ends
_HIGHEST_ID = 50_000_000  # texts of mMARCO stand at their ids; MS MARCO's are below 9 million


@dataclass(frozen=True)
class SourceSpec:
    """One source of training data, as a configuration gives it. Nothing is read before `load`.

    Attributes:
        name: What messages, the model card and the overlap report call it.
        kind: Its format; see the module.
        path: A file or folder; a relative one is taken from the working folder.
        dataset: In place of a path, a data set of the Hugging Face Hub, ``ORG/NAME``; of the kind ``lareqa``, a
            collection of this project. Kinds that are one data set know its name.
        revision: Commit, tag or branch of the data set on the Hub; empty for the newest.
        languages: Codes of the languages to take; empty for all that are there.
        columns: What the columns of our schema are called there.
        options: What else the kind takes; see `option`.
        rows: How many rows there should be; a note says so where there are others.

    Raises:
        RequestError: If something is unknown or does not go together.
    """

    name: str
    kind: Kind
    path: str = ""
    dataset: str = ""
    revision: str = ""
    languages: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise RequestError("a source has no name: give each its own")
        if self.kind not in _OPTIONS:
            raise RequestError(f"{self.name}: no kind '{self.kind}': {did_you_mean(str(self.kind), _OPTIONS)}")
        if self.path and self.dataset:
            raise RequestError(f"{self.name}: both path and dataset are given: leave one out")
        if self.dataset and self.kind in {"parallel", "ntrex", "lines"}:
            raise RequestError(f"{self.name}: kind '{self.kind}' is read from files: give path in place of dataset")
        if not self.path and not self.dataset and self.kind not in _DATASETS:
            raise RequestError(f"{self.name}: nothing says where it is: give path")
        if self.kind != "lareqa" and self.dataset and not _DATASET.fullmatch(self.dataset):
            raise RequestError(f"{self.name}: '{self.dataset}' is no name of a data set on the Hub: give ORG/NAME")
        if self.revision and (self.path or self.kind == "lareqa"):
            raise RequestError(f"{self.name}: revision '{self.revision}' is of a data set on the Hub: leave it out")
        self._check_languages()
        self._check_columns()
        self._check_options()

    def _check_languages(self) -> None:
        codes = {name: code for code, name in _NAMES.items()}
        for code in self.languages:
            if code.lower() in codes:
                raise RequestError(f"{self.name}: languages are given by code: '{codes[code.lower()]}', not '{code}'")
            if not _LANGUAGE_CODE.fullmatch(code):
                raise RequestError(f"{self.name}: '{code}' is no code of a language: {did_you_mean(code, _NAMES)}")
            if self.languages.count(code) > 1:
                raise RequestError(f"{self.name}: language '{code}' is given twice")
            if self.kind in {"mmarco", "mr-tydi"} and code not in _NAMES:
                raise RequestError(f"{self.name}: {self.kind} has no language '{code}': {did_you_mean(code, _NAMES)}")
        if self.kind == "mmarco" and not self.languages:
            raise RequestError(f"{self.name}: give languages, e.g. ['en', 'de']: each has 3 gigabytes of passages")
        if self.kind in _ONE_LANGUAGE and len(self.languages) != 1:
            raise RequestError(
                f"{self.name}: nothing in {self.kind} is there in two languages: give one in languages, and a source of"
                " its own to each other"
            )

    def _check_columns(self) -> None:
        if self.columns and self.kind not in _WITH_COLUMNS:
            raise RequestError(f"{self.name}: the format of {self.kind} is fixed: leave out columns")
        by_language = self.kind == "hf" and "{language}" in str(self.options.get("config", ""))
        if self.kind == "lines":
            if not self.columns:
                raise RequestError(f'{self.name}: columns is missing: give the file of each language, de = "de.txt"')
            for code in (code for code in self.columns if not _LANGUAGE_CODE.fullmatch(code)):
                raise RequestError(f"{self.name}: columns.{code}: '{code}' is no code of a language")
            for code in (code for code in self.languages if code not in self.columns):
                raise RequestError(f"{self.name}: no file of '{code}' in columns: {did_you_mean(code, self.columns)}")
            return
        if by_language:
            for column in ("id", "query", "passage"):
                if column not in self.columns:
                    raise RequestError(
                        f"{self.name}: columns.{column} is missing: with {{language}} in config, give id, query and"
                        " passage"
                    )
            if not self.languages:
                raise RequestError(f"{self.name}: give languages: config has {{language}} in it")
        for column in self.columns:
            role, _, code = column.rpartition("_")
            known = ("id", *_ABOUT) if by_language else _ABOUT
            whole = _ROLE.fullmatch(column) if by_language else _ROLE.fullmatch(role) and _LANGUAGE_CODE.fullmatch(code)
            if column not in known and not whole:
                form = "query" if by_language else "query_<language>"
                raise RequestError(
                    f"{self.name}: columns has the unknown key '{column}': keys are {form},"
                    f" {form.replace('query', 'passage')}, {form.replace('query', 'negative_1')}, {', '.join(known)}"
                )

    def _check_options(self) -> None:
        known = _OPTIONS[self.kind]
        for option, value in self.options.items():
            if option not in known:
                hint = did_you_mean(option, known) if known else "it takes none"
                raise RequestError(f"{self.name}: kind '{self.kind}' has no option '{option}': {hint}")
            default = known[option]
            kind = Sequence if isinstance(default, tuple) else type(default)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise RequestError(f"{self.name}: options.{option} = {shown(value)}: should be like {shown(default)}")
        checks: list[tuple[str, Callable[[Any], bool], str]] = [
            ("negatives", lambda value: value >= 0, "a number of hard negatives, at least 0"),
            ("version", _MMARCO_VERSIONS.__contains__, f"one of {', '.join(_MMARCO_VERSIONS)}"),
            ("passage", [*PassageText].__contains__, f"one of {', '.join(PassageText)}"),
            ("by", ("paragraph", "article").__contains__, "paragraph or article"),
            ("folds", lambda value: value >= 1, "a number of parts, at least 1"),
        ]
        for option, allowed, wanted in checks:
            if option in known and not allowed(self.option(option)):
                raise RequestError(f"{self.name}: options.{option} = {shown(self.option(option))}: should be {wanted}")
        if self.kind == "mmarco" and self.option("negatives") > 1:
            raise RequestError(f"{self.name}: options.negatives = {self.option('negatives')}: a triple has one")
        if self.kind == "lareqa":
            folds, fold = self.option("folds"), tuple(self.option("fold"))
            if not fold or any(not isinstance(each, int) or not 0 <= each < folds for each in fold):
                raise RequestError(
                    f"{self.name}: options.fold = {shown(fold)}: should be numbers from 0 to {folds - 1}"
                )

    def option(self, name: str) -> Any:
        """The value of an option of its kind, or its default.

        ============  ==============  ==========================================================================
        ``hf``        ``config``      Configuration; with ``{language}`` in it, each language has its own.
                      ``split``       Split.
                      ``files``       In place of both, the files, as a glob below the folder.
        ``mmarco``    ``version``     ``v2`` or ``v1.1``.
                      ``negatives``   1: the third id of a triple is a hard negative.
                      ``distinct``    Each pair of query and passage once, in place of every triple.
        ``mr-tydi``   ``split``       Split; only ``train`` has texts.
                      ``negatives``   So many of a question's hard negatives.
                      ``titles``      Passages begin with the title of their article.
        ``mfaq``      ``split``       ``train`` or ``valid``.
        ``lareqa``    ``passage``     ``sentence``, or ``sentence+context`` with the paragraph after it.
                      ``folds``       Questions are parted in so many, by the number of their cluster modulo this.
                      ``fold``        Which of the parts, from 0.
                      ``by``          Which clusters: ``paragraph`` or ``article``, numbered as in `Collection`.
        ``lines``     ``documents``   File with the id of each line's document.
        ============  ==============  ==========================================================================
        """
        return self.options.get(name, _OPTIONS[self.kind][name])

    @property
    def place(self) -> str:
        """The path or data set, and the revision if one is given."""
        return self.path or f"{self.dataset or _DATASETS[self.kind]}{self.revision and '@'}{self.revision}"

    def load(self, data_dir: Path | None = None) -> SourceTexts:
        """Read the source.

        Args:
            data_dir: The user's data folder, where collections of this project are looked for; as for `run`.

        Raises:
            RequestError: There is no such file, folder or data set.
            DataError: It does not hold what its format promises, or lacks a language; the line names the place.
        """
        texts = _READERS[self.kind](self, data_dir)
        if self.kind in {"parallel", "hf"} and texts.groups is None:
            if len(texts) * len(texts.languages) <= _JOINED:
                texts = cast("SourceTexts", texts.joined())
            else:
                note = (
                    "no column group, and too large to look for rows of the same passage: where they meet in a batch,"
                    " each is a wrong answer to the other's query"
                )
                texts = replace(texts, notes=(*texts.notes, note))
        if self.rows is not None and len(texts) != self.rows:
            note = f"{len(texts):,} rows, where {self.rows:,} were expected"
            texts = replace(texts, notes=(*texts.notes, note))
        return texts


@dataclass(frozen=True)
class SourceTexts(ParallelTexts):
    """Parallel texts, and what is known of where each row comes from.

    Attributes:
        question_ids: (n,), the id of each row's question, the same in every language; None where there is none.
        article: (n,), int32, number of the article, or other document, that a row's passage is from; -1 where that is
            not known. None where it is known of no row.
        titles: By number of the article, its titles in all languages as they stand there; may be empty.
        collection: Name of the collection of this project that it is, or is a part of; else empty.
    """

    question_ids: Strings | None = None
    article: NDArray[np.int32] | None = None
    titles: tuple[frozenset[str], ...] = ()
    collection: str = ""

    def select(self, rows: ArrayLike) -> SourceTexts:
        """See `ParallelTexts`."""
        kept = cast("SourceTexts", super().select(rows))
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return replace(
            kept,
            question_ids=None if self.question_ids is None else tuple(take(self.question_ids, chosen)),
            article=None if self.article is None else self.article[chosen],
        )


class Articles(NamedTuple):
    """Articles of data in LAReQA's format.

    Attributes:
        number: By question id, the number of its article: questions that share one in any language have one number.
        titles: By number, the titles that an article has, in all languages.
        paragraphs: By question id, the paragraph that its answer is in, in each language.
    """

    number: Mapping[str, int]
    titles: tuple[frozenset[str], ...]
    paragraphs: Mapping[str, tuple[str, ...]]


def collection_files(source: LareqaSource, data_dir: Path | None = None) -> dict[str, Path]:
    """The files of a collection in LAReQA's format, by language; see `sources.resolve` for what is raised."""
    if source.root is not None:
        return {code: source.root / remote.path for code, remote in source.files.items()}
    found = resolve(list(source.files.values()), data_dir)
    return {code: found[remote.path] for code, remote in source.files.items()}


def lareqa_articles(files: Mapping[str, Path]) -> Articles:
    """The articles of files in LAReQA's format, which must have been read as such before.

    Titles are localised, and a question stands in some languages only. So articles are joined by question id, as
    `Collection.article_cluster` is, and each has the titles of all languages.
    """
    together: list[tuple[str, list[str]]] = []
    paragraphs: dict[str, tuple[str, ...]] = {}
    for path in files.values():
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            found = {qa["id"]: paragraph["context"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]}
            together.append((str(article.get("title", "")), list(found)))
            paragraphs |= {each: (*paragraphs.get(each, ()), text) for each, text in found.items()}
    number = clusters(ids for _, ids in together)
    titles: list[set[str]] = [set() for _ in set(number.values())]
    for title, ids in together:
        if ids and title.strip():
            titles[number[ids[0]]].add(title)
    return Articles(number, tuple(map(frozenset, titles)), paragraphs)


# -- parallel, hf: tables -----------------------------------------------------------------------------------------


def _read_parallel(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    place = _local(spec)
    files = [place]
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.is_file() and path.name.endswith(_ENDINGS))
    kinds = {path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix for path in files}
    if not files or len(kinds) > 1 or not all(path.name.endswith(_ENDINGS) for path in files):
        raise DataError(f"{place}: should be, or hold, files of one kind: {', '.join(_ENDINGS)}")
    if kinds == {".arrow"}:
        table = _joined(spec, [_open_arrow(path) for path in files])
    else:
        about = ("parallel", *map(_identity, files), *sorted(spec.columns.values()))
        table = _arrow(about, lambda: _parsed(spec, files, kinds == {".parquet"}))
    return _of_schema(spec, _renamed(spec, table, str(place), key=[_identity(path) for path in files]))


def _open_arrow(path: Path) -> pa.Table:
    """A file in Arrow's file format or its stream format, memory-mapped."""
    try:
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Arrow: {first_line(error)}") from error


def _joined(spec: SourceSpec, tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other; a column that one lacks is empty there."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{spec.name}: the files of {spec.path} do not fit together: {first_line(error)}") from error


def _parsed(spec: SourceSpec, files: Sequence[Path], parquet: bool) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of JSON lines or Parquet, all columns as strings."""
    if parquet:
        try:
            schemas = [pq.read_schema(path) for path in files]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{spec.name}: cannot read {spec.path}: {first_line(error)}") from error
        names = list(dict.fromkeys(chain.from_iterable(schema.names for schema in schemas)))
        found: Iterator[tuple[str, dict[str, Any]]] = chain.from_iterable(map(_parquet_rows, files))
    else:
        # Twice through the file, as a language may begin late; the second time into Arrow.
        rows = chain.from_iterable(json_objects(path) for path in files)
        names = list(dict.fromkeys(chain.from_iterable(row for _, row in rows)))
        found = ((f"{path}:{number}", row) for path in files for number, row in json_objects(path))
    schema = pa.schema([(name, pa.string()) for name in names])

    def text(row: Mapping[str, Any], name: str, place: str) -> str | None:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and name in {*_ABOUT, *spec.columns.values()}:
            return str(value)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: '{name}' should be a string, found {shown(value)}")
        return value

    def batches() -> Iterator[pa.RecordBatch]:
        for piece in _batched(found, _BATCH):
            columns = [[text(row, name, place) for place, row in piece] for name in names]
            yield pa.record_batch([_strings(column, piece[0][0]) for column in columns], schema=schema)

    return schema, batches()


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error


def _read_hf(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    config, split, pattern = spec.option("config"), spec.option("split"), spec.option("files")
    configs = [config.replace("{language}", code) for code in spec.languages] if "{language}" in config else [config]

    def wanted(folder: Path) -> list[str]:
        if pattern:
            return [pattern.replace("{language}", code) for code in spec.languages or ("",)]
        return list(chain.from_iterable(patterns(folder, each, split) for each in configs))

    folder, commit = _folder(spec, wanted)

    keys: list[str] = []

    def table_of(name: str, code: str) -> pa.Table:
        if pattern:
            glob = pattern.replace("{language}", code)
            files = sorted(path for path in folder.glob(glob) if path.is_file())
            if not files:
                raise DataError(f"{spec.name}: {folder} has no files {glob}")
        else:
            files = files_of(folder, name, split)
        # The files of a commit never change.
        keys.append(f"{commit} {name} {split} {pattern} {code}" if commit else sha256_of_lines(map(_identity, files)))
        return mapped(f"{spec.name}, {name}", files, key=keys[-1]).data.table

    if "{language}" in config or "{language}" in pattern:
        tables = {code: table_of(config.replace("{language}", code), code) for code in spec.languages}
        table = _joined_by_id(spec, tables, key=keys)
    else:
        table = _renamed(spec, table_of(config, ""), spec.place, key=keys)
    return _with_commit(_of_schema(spec, table), commit)


def _renamed(spec: SourceSpec, table: pa.Table, where: str, *, key: Sequence[str]) -> pa.Table:
    """The columns of our schema, under our names, in the languages that are wanted.

    Without a map of columns, those of the schema are taken; of a data set of others, whatever else it holds is not
    looked at, while in our own format an unknown column is a slip of the pen, which `ParallelTexts` refuses.
    """
    _need_languages(spec, {code for _, _, code in map(_parts, spec.columns or table.column_names) if code}, where)
    if spec.columns:
        wanted = {"", *(spec.languages or (code for _, _, code in map(_parts, spec.columns)))}
        chosen = {ours: theirs for ours, theirs in spec.columns.items() if _parts(ours)[2] in wanted}
        return _mapped_columns(table, chosen, f"{spec.name}: {where}", key=key)
    kept = []
    for name in table.column_names:
        _, role, code = _parts(name)
        if not spec.languages or code in spec.languages if role else name in _ABOUT or spec.kind == "parallel":
            kept.append(name)
    if not any(role for _, role, _ in map(_parts, kept)):
        raise DataError(
            f"{spec.name}: {where} has no columns query_<language> and passage_<language>, only"
            f" {', '.join(map(repr, table.column_names))}: say in columns which is which"
        )
    return table.select(kept)


def _parts(column: str) -> tuple[str, str, str]:
    role, _, code = column.rpartition("_")
    return (column, role, code) if _ROLE.fullmatch(role) else (column, "", "")


def _mapped_columns(table: pa.Table, columns: Mapping[str, str], where: str, *, key: Sequence[str]) -> pa.Table:
    """Columns under our names. Those within others are written out once, the others stay where they are.

    Args:
        table: The table.
        columns: By our name, theirs.
        where: What to call the table in an error.
        key: What stands for its content.
    """
    for theirs in columns.values():
        if theirs not in table.column_names and theirs.partition(".")[0] not in table.column_names:
            raise DataError(f"{where} has no column '{theirs}': {_known(theirs, table.column_names)}")
    if all(theirs in table.column_names for theirs in columns.values()):
        return pa.table({ours: table[theirs] for ours, theirs in columns.items()})

    def parsed() -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        schema = pa.schema([(ours, pa.string()) for ours in columns])
        return schema, (
            pa.record_batch(
                [_as_strings(_within(batch, theirs, where), theirs, where) for theirs in columns.values()],
                schema=schema,
            )
            for batch in table.to_batches(max_chunksize=_BATCH)
        )

    return _arrow(("columns", *key, str(sorted(columns.items()))), parsed)


def _as_strings(values: pa.Array | pa.ChunkedArray, name: str, where: str) -> pa.Array | pa.ChunkedArray:
    """Strings, or numbers as such."""
    try:
        return values.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"{where}: '{name}' should be strings, found {values.type}; what is within a column is named"
            f" {name}.FIELD or {name}.0"
        ) from error


def _within(batch: pa.RecordBatch, path: str, where: str) -> pa.Array:
    """What stands at ``column.field.0`` of each row, null for nothing: fields by name, items of a list by number.

    Raises:
        DataError: There is no such field.
    """
    if path in batch.schema.names:
        return batch.column(path)
    first, *steps = path.split(".")
    values = batch.column(first)
    for step in steps:
        kind = values.type
        if pa.types.is_struct(kind):
            if kind.get_field_index(step) < 0:
                fields = [kind.field(place).name for place in range(kind.num_fields)]
                raise DataError(f"{where}: there is no '{step}' of '{path}': {_known(step, fields)}")
            values = pc.struct_field(values, step)
        elif (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and step.isdecimal():
            # A list that is too short gives null, where `list_element` alone would give an error.
            padded = pc.list_slice(values, int(step), int(step) + 1, return_fixed_size_list=True)
            values = pc.list_element(padded, 0)
        else:
            raise DataError(f"{where}: '{path}': what stands before '{step}' is of the type {kind}")
    return values


def _joined_by_id(spec: SourceSpec, tables: Mapping[str, pa.Table], *, key: Sequence[str]) -> pa.Table:
    """One table of all languages, with one row for each id, in the order in which the ids are met."""
    roles = [ours for ours in spec.columns if _ROLE.fullmatch(ours)]
    about = [ours for ours in spec.columns if ours in _ABOUT]
    rows: dict[str, dict[str, int]] = {}  # language -> id -> row
    columns: dict[str, dict[str, Column]] = {}
    for (code, table), of_language in zip(tables.items(), key, strict=True):
        where = f"{spec.name}: {spec.place}, '{code}'"
        renamed = _mapped_columns(table, spec.columns, where, key=[of_language])
        columns[code] = {
            ours: Column(_as_strings(renamed[ours], theirs, where)) for ours, theirs in spec.columns.items()
        }
        found: dict[str, int] = {}
        for row, each in enumerate(columns[code]["id"]):
            if found.setdefault(each, row) != row:
                raise DataError(f"{where}: id {shown(each)} occurs twice, in rows {found[each]} and {row}")
        rows[code] = found
    first, *others = tables
    if others and not any(rows[first].keys() & rows[code].keys() for code in others):
        raise DataError(
            f"{spec.name}: no id of '{first}' is in another language: {listed(rows[first], form=shown)} against"
            f" {listed(rows[others[0]], form=shown)} of '{others[0]}'; is '{spec.columns['id']}' the same question"
            " everywhere?"
        )
    ids = list(dict.fromkeys(chain.from_iterable(rows.values())))
    names = [*(f"{role}_{code}" for role in roles for code in tables), *about]
    names += [] if "question_id" in about else ["question_id"]
    schema = pa.schema([(name, pa.string()) for name in names])

    def strings(column: Column, places: NDArray[np.int64]) -> list[str | None]:
        texts = iter(column.take(places[places >= 0]))
        return [next(texts) or None if there else None for there in (places >= 0).tolist()]

    def batches() -> Iterator[pa.RecordBatch]:
        for piece in _batched(ids, _BATCH):
            at = {code: np.array([found.get(each, -1) for each in piece], np.int64) for code, found in rows.items()}
            made = [strings(columns[code][role], at[code]) for role in roles for code in tables]
            for name in about:  # what is said of a row in one language holds for all
                options = zip(*(strings(columns[code][name], at[code]) for code in tables), strict=True)
                made.append([next((value for value in each if value), None) for each in options])
            if "question_id" not in about:
                made.append(list(piece))
            yield pa.record_batch([pa.array(column, pa.string()) for column in made], schema=schema)

    return _arrow(("joined", *key, *tables, str(sorted(spec.columns.items()))), lambda: (schema, batches()))


def _of_schema(spec: SourceSpec, table: pa.Table) -> SourceTexts:
    """A table with our columns as a source."""
    there = {code for _, _, code in map(_parts, table.column_names) if code}
    _need_languages(spec, there, spec.place)
    known = {name: table[name] for name in _ABOUT[1:] if name in table.column_names}
    made = SourceTexts.from_table(spec.name, table.drop_columns(list(known)))
    texts = cast("SourceTexts", made)
    if spec.languages:  # in the order in which they were asked for
        texts = replace(
            texts,
            queries={code: texts.queries[code] for code in spec.languages},
            passages={code: texts.passages[code] for code in spec.languages},
            negatives=tuple({code: each[code] for code in spec.languages} for each in texts.negatives),
        )
    if "question_id" in known:
        texts = replace(texts, question_ids=Column(known["question_id"].cast(pa.string())))
    if "article" in known:
        coded = known["article"].cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.unify_dictionaries().combine_chunks()
        article = pc.fill_null(coded.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
        titles = tuple(frozenset([title]) for title in coded.dictionary.to_pylist())
        texts = replace(texts, article=article, titles=titles)
    return texts


# -- mmarco -------------------------------------------------------------------------------------------------------


def _read_mmarco(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    versions = _MMARCO_VERSIONS[spec.option("version")]

    def files(folder: str) -> dict[str, str]:
        named = {"triples": "data/triples.train.ids.small.tsv"}
        for code in spec.languages:
            named[f"passage_{code}"] = f"data/{folder}/collections/{_NAMES[code]}_collection.tsv"
            named[f"query_{code}"] = f"data/{folder}/queries/train/{_NAMES[code]}_queries.train.tsv"
        return named

    root, commit = _folder(spec, lambda folder: files(versions[0]).values())
    at = next((version for version in versions if (root / "data" / version).is_dir()), versions[0])
    paths = {name: root / path for name, path in files(at).items()}
    for name, path in paths.items():
        if not path.is_file():
            code = name.rpartition("_")[2]
            has = f" in '{code}'" if name != "triples" else ""
            raise DataError(f"{spec.name}: there is no {path}, which mMARCO {spec.option('version')} has{has}")

    triples = _triples(paths["triples"])
    columns = {role: {code: _texts_by_id(paths[f"{role}_{code}"]) for code in spec.languages} for role in _MMARCO_ROLES}
    notes: list[str] = []
    for role, numbers in (("query", [triples.query]), ("passage", [triples.passage, triples.negative])):
        used = numbers if role == "query" or spec.option("negatives") else numbers[:1]
        columns[role] = _of_one_length(columns[role])
        notes += _check_ids(spec.name, role, used, columns[role], paths)
    texts = SourceTexts(
        name=spec.name,
        queries=columns["query"],
        passages=columns["passage"],
        negatives=(columns["passage"],) * spec.option("negatives"),
        query_rows=triples.query,
        passage_rows=triples.passage,
        negative_rows=(triples.negative,) * spec.option("negatives"),
        groups=triples.group,
        negative_groups=(triples.negative_group,) * spec.option("negatives"),
        notes=tuple(notes),
    )
    return _with_commit(texts.select(triples.distinct) if spec.option("distinct") else texts, commit)


_MMARCO_ROLES = ("query", "passage")


class _Triples(NamedTuple):
    """Triples, as memory-mapped int32.

    Attributes:
        query: (n,), query ids.
        passage: (n,), ids of relevant passages.
        negative: (n,), ids of the others.
        group: (n,), number of the passage's group. Passages that are relevant to one query are in one group.
        negative_group: (n,), the group of the other passage; -1 where no query has it as relevant.
        distinct: The first row of each pair of query and relevant passage, ascending.
    """

    query: NDArray[np.int32]
    passage: NDArray[np.int32]
    negative: NDArray[np.int32]
    group: NDArray[np.int32]
    negative_group: NDArray[np.int32]
    distinct: NDArray[np.int32]


def _triples(path: Path) -> _Triples:
    """The triples of a file with query, relevant and other passage id on each line."""
    names = _Triples._fields
    folder = _cache_path(("triples", _identity(path)), "")
    with _built(folder):
        if not folder.is_dir():
            part = folder.with_name(folder.name + ".part")
            part.mkdir(parents=True, exist_ok=True)
            with (
                (part / "query").open("wb") as q,
                (part / "passage").open("wb") as p,
                (part / "negative").open("wb") as n,
            ):
                for batch in _tsv(path, ("query", "passage", "negative"), texts=False):
                    for column, file in zip(batch.columns, (q, p, n), strict=True):
                        column.to_numpy().tofile(file)
            if not (part / "query").stat().st_size:
                raise DataError(f"{path} is empty: it should have query id, passage id and passage id on each line")
            read = [np.memmap(part / name, np.int32, "r") for name in names[:3]]
            for name, low in zip(names[:3], (int(numbers.min()) for numbers in read), strict=True):
                if low < 0:
                    raise DataError(f"{path}: {name} id {low} is below 0")
            _write_groups(part, *read)
            part.rename(folder)
    return _Triples(*(np.memmap(folder / name, np.int32, "r") for name in names))


def _write_groups(folder: Path, query: Rows, passage: Rows, negative: Rows) -> None:
    """Write the columns of `_Triples` that follow from the first three."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys, firsts = np.empty(0, np.int64), np.empty(0, np.int64)
    for start in range(0, len(query), _TRIPLES):  # a pair comes back some 75 times: what is kept at once stays small
        pairs = query[start : start + _TRIPLES].astype(np.int64) << 32 | passage[start : start + _TRIPLES]
        some, first = np.unique(pairs, return_index=True)
        keys, which = np.unique(np.concatenate([keys, some]), return_index=True)
        firsts = np.concatenate([firsts, first + start])[which]
    np.sort(firsts).astype(np.int32).tofile(folder / "distinct")
    asked, query_node = np.unique(keys >> 32, return_inverse=True)
    relevant, passage_node = np.unique(keys & 0xFFFFFFFF, return_inverse=True)
    nodes = len(asked) + len(relevant)
    edges = (np.ones(len(keys), np.int8), (query_node, len(asked) + passage_node))
    _, component = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
    group_of = np.full(1 + max(int(passage.max()), int(negative.max())), -1, np.int32)
    group_of[relevant] = component[len(asked) :]
    for name, ids in (("group", passage), ("negative_group", negative)):
        with (folder / name).open("wb") as file:
            for start in range(0, len(ids), _TRIPLES):
                group_of[ids[start : start + _TRIPLES]].tofile(file)


def _texts_by_id(path: Path) -> Column:
    """The texts of a file with an id and a text on each line: row n is the text with id n, null where there is none.

    So languages are joined by id without any table of ids, whatever their order in the files and whichever are missing.
    """
    raw = ("as it stands", _identity(path))

    def parsed() -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        schema = pa.schema([("id", pa.int32()), ("text", pa.string())])
        # First as it stands there, then in the order of the ids: neither needs the texts in memory.
        table = _arrow(raw, lambda: (schema, _tsv(path, ("id", "text"), texts=True)))
        if not len(table):
            raise DataError(f"{path} is empty: it should have an id and a text on each line")
        ids = table["id"].to_numpy()
        order = np.argsort(ids, kind="stable").astype(np.int64)
        ids = ids[order]
        if len(twice := np.flatnonzero(ids[1:] == ids[:-1])):
            raise DataError(f"{path}: id {ids[twice[0]]} occurs twice")
        if ids[0] < 0 or ids[-1] > _HIGHEST_ID:
            raise DataError(
                f"{path}: id {ids[0] if ids[0] < 0 else ids[-1]} is no id of MS MARCO: 0 to {_HIGHEST_ID:,}"
            )
        return pa.schema([("text", pa.string())]), pieces(Column(table["text"]), ids, order)

    def pieces(column: Column, ids: NDArray[np.int32], order: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        for start in range(0, int(ids[-1]) + 1, _ID_BATCH):
            end = min(start + _ID_BATCH, int(ids[-1]) + 1)
            low, high = np.searchsorted(ids, [start, end])
            made = np.full(end - start, None, dtype=object)
            made[ids[low:high] - start] = column.take(order[low:high])
            yield pa.record_batch([pa.array(made, pa.string())], ["text"])

    texts = _arrow(("by id", raw[1]), parsed)["text"]
    with suppress(OSError):  # Windows keeps what is mapped
        _cache_path(raw, ".arrow").unlink(missing_ok=True)
    return Column(texts)


def _tsv(path: Path, columns: Sequence[str], *, texts: bool) -> Iterator[pa.RecordBatch]:
    """The batches of a file with whole numbers, and a text in the last column if it has any, separated by tabs."""
    kinds = {name: pa.string() if texts and name == columns[-1] else pa.int32() for name in columns}
    try:
        with pa.csv.open_csv(
            path,
            # One thread: so that an error knows its line.
            pa.csv.ReadOptions(column_names=list(columns), block_size=_READ_BYTES, use_threads=False),
            pa.csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False, escape_char=False),
            pa.csv.ConvertOptions(column_types=kinds, null_values=[], strings_can_be_null=False),
        ) as reader:
            yield from reader
    except (OSError, pa.ArrowException) as error:
        if path.is_file() and path.stat().st_size == 0:
            return
        wanted = ", ".join(columns)
        raise DataError(f"{path}: {first_line(error)}; each line should be {wanted}, separated by tabs") from error


def _of_one_length(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Columns, the shorter ones filled up with nulls."""
    length = max(map(len, columns.values()))
    return {
        code: column
        if len(column) == length
        else Column(pa.chunked_array([*column._data.chunks, pa.nulls(length - len(column), pa.string())]))
        for code, column in columns.items()
    }


def _check_ids(
    name: str, role: str, numbers: Sequence[Rows], columns: Mapping[str, Column], paths: Mapping[str, Path]
) -> Iterator[str]:
    """Whether the ids of the triples have texts: some of them everywhere, all of them somewhere.

    Yields:
        How many of those that are asked for a language lacks.
    """
    length = len(next(iter(columns.values())))
    asked = np.zeros(1 + max(length - 1, *(int(each.max()) for each in numbers)), dtype=np.bool_)
    for each in numbers:
        for start in range(0, len(each), _TRIPLES):
            asked[each[start : start + _TRIPLES]] = True
    there = np.zeros(len(asked), dtype=np.bool_)
    for code, column in columns.items():
        present = np.zeros(len(asked), dtype=np.bool_)
        present[:length] = column._data.is_valid().to_numpy()
        there |= present
        lacking = int((asked & ~present).sum())
        if lacking == asked.sum():
            raise DataError(f"{name}: no {role} id of {paths['triples']} is in {paths[f'{role}_{code}']}")
        if lacking:
            yield f"{lacking:,} of {int(asked.sum()):,} texts of the role {role} are not there in '{code}'"
    if len(absent := np.flatnonzero(asked & ~there)):
        first = paths[f"{role}_{next(iter(columns))}"]
        raise DataError(
            f"{name}: {len(absent):,} {role} ids of {paths['triples']} are in no language, e.g. {absent[0]}: is {first}"
            " whole?"
        )


# -- mr-tydi, mfaq ------------------------------------------------------------------------------------------------


def _read_mr_tydi(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    (code,) = spec.languages
    count, split = spec.option("negatives"), spec.option("split")
    file = f"mrtydi-v1.1-{_NAMES[code]}/{split}.jsonl.gz"
    root, commit = _folder(spec, lambda folder: [file])
    path = _one_of(spec, root, file, file.removesuffix(".gz"))
    negatives = [f"negative_{k}_{code}" for k in range(1, count + 1)]
    schema = pa.schema(
        [(name, pa.string()) for name in (f"query_{code}", f"passage_{code}", *negatives, "id", "title")]
    )
    schema = schema.append(pa.field("documents", pa.list_(pa.string())))

    def row(number: int, value: Mapping[str, Any]) -> list[Any]:
        where = f"{path}:{number}"
        relevant = _passages(value, "positive_passages", where)
        if not relevant:
            raise DataError(f"{where}: 'positive_passages' is empty")
        if not any(relevant[0][key] for key in ("text", "title")):
            raise DataError(f"{where}: its passages are ids without text, as in all splits but train: take that one")
        others = _passages(value, "negative_passages", where)[:count] if count else []

        def text(passage: Mapping[str, str]) -> str:
            return f"{passage['title']} {passage['text']}" if spec.option("titles") else passage["text"]

        made = [_string(value, "query", where), text(relevant[0]), *map(text, others), *[None] * (count - len(others))]
        return [*made, _string(value, "query_id", where), relevant[0]["title"], [each["docid"] for each in relevant]]

    key = ("mr-tydi", _identity(path), str(count), str(spec.option("titles")))
    table = _arrow(key, lambda: (schema, _of_rows(schema, path, row)))
    documents = table["documents"].to_pylist()
    group = clusters(documents)  # questions that share a relevant passage
    article = pa.chunked_array([pa.array([docs[0].partition("#")[0] for docs in documents])]).combine_chunks()
    coded = article.dictionary_encode()
    titles: list[set[str]] = [set() for _ in coded.dictionary]
    for number, title in zip(coded.indices.to_pylist(), table["title"].to_pylist(), strict=True):
        titles[number] |= {title} if title.strip() else set()
    texts = _of_schema(spec, table.select([name for name in table.column_names if _parts(name)[2]]))
    return _with_commit(
        replace(
            texts,
            groups=np.array([group[docs[0]] for docs in documents], np.int64),
            question_ids=Column(table["id"]),
            article=coded.indices.to_numpy().astype(np.int32),
            titles=tuple(map(frozenset, titles)),
        ),
        commit,
    )


def _passages(row: Mapping[str, Any], name: str, where: str) -> list[dict[str, str]]:
    found = row.get(name)
    if not isinstance(found, list):
        raise DataError(f"{where}: '{name}' should be a list of passages, found {shown(found)}")
    return [{key: _string(each, key, f"{where}, {name}") for key in ("docid", "title", "text")} for each in found]


def _read_mfaq(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    (code,) = spec.languages
    file = f"data/{code}/{spec.option('split')}.jsonl"
    root, commit = _folder(spec, lambda folder: [file])
    path = _one_of(spec, root, file, f"{file}.gz")
    schema = pa.schema([(f"query_{code}", pa.string()), (f"passage_{code}", pa.string()), ("answer", pa.int64())])

    def rows() -> Iterator[pa.RecordBatch]:
        pairs = (pair for number, page in json_objects(path) for pair in pairs_of(number, page))
        for piece in _batched(pairs, _BATCH):
            yield pa.record_batch([pa.array(column) for column in zip(*piece, strict=True)], schema=schema)

    def pairs_of(number: int, page: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
        where = f"{path}:{number}"
        found = page.get("qa_pairs")
        if not isinstance(found, list):
            raise DataError(f"{where}: 'qa_pairs' should be a list, found {shown(found)}")
        for pair in found:
            question, answer = (_string(pair, key, f"{where}, qa_pairs") for key in ("question", "answer"))
            if question.strip() and answer.strip():
                digest = hashlib.blake2b(answer.strip().encode(), digest_size=8).digest()
                yield question, answer, int.from_bytes(digest, signed=True)

    table = _arrow(("mfaq", code, _identity(path)), lambda: (schema, rows()))
    if not len(table):
        raise DataError(f"{path} has no question-answer pairs")
    texts = _of_schema(spec, table.drop_columns(["answer"]))
    # Pages of one site repeat their answers.
    _, groups = np.unique(table["answer"].to_numpy(), return_inverse=True)
    return _with_commit(replace(texts, groups=groups), commit)


# -- lareqa -------------------------------------------------------------------------------------------------------


def _read_lareqa_source(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    if spec.dataset:
        from hybrid_bench.evaluation.registry import collections  # mteb, which takes seconds

        sources = {name: tasks[0].source for name, tasks in collections().items()}
        known = {name: source for name, source in sources.items() if isinstance(source, LareqaSource)}
        if spec.dataset not in known:
            raise RequestError(
                f"{spec.name}: no collection '{spec.dataset}' in LAReQA's format: {did_you_mean(spec.dataset, known)}"
            )
        paths = collection_files(known[spec.dataset], data_dir)
    else:
        folder = _local(spec)
        paths = {path.stem: path for path in sorted(folder.glob("*.json")) if _LANGUAGE_CODE.fullmatch(path.stem)}
        if not paths:
            raise DataError(f"{spec.name}: {folder} has no files in LAReQA's format, <language>.json")
    _need_languages(spec, paths, spec.place)
    # Every language is read: what belongs together is known only from all of them.
    files = {code: read_lareqa(path, PassageText(spec.option("passage"))) for code, path in paths.items()}
    same: dict[tuple[str, str], list[str]] = defaultdict(list)  # passage, by place and by words -> question ids
    level: dict[tuple[str, int], list[str]] = defaultdict(list)
    for code, file in files.items():
        for question in file.questions:
            same[code, question.passage].append(question.id)
            same[code, f"={file.candidates[question.passage].strip()}"].append(question.id)
            level[code, getattr(question, spec.option("by"))].append(question.id)
    group, cluster = clusters(same.values()), clusters(level.values())
    articles = lareqa_articles(paths)
    wanted = spec.languages or tuple(paths)
    asked = {code: {question.id: question for question in files[code].questions} for code in wanted}
    ids = [
        each
        for each in dict.fromkeys(chain.from_iterable(asked.values()))
        if cluster[each] % spec.option("folds") in spec.option("fold")
    ]
    if not ids:
        raise DataError(f"{spec.name}: no question of {spec.place} is in fold {shown(spec.option('fold'))}")
    table = {}
    for code in wanted:
        found = [asked[code].get(each) for each in ids]
        answers = [None if question is None else files[code].candidates[question.passage] for question in found]
        table[f"query_{code}"] = pa.array([None if question is None else question.text for question in found])
        table[f"passage_{code}"] = pa.array(answers)
    texts = _of_schema(replace(spec, languages=wanted), pa.table(table))
    return replace(
        texts,
        groups=np.array([group[each] for each in ids], np.int64),
        question_ids=tuple(ids),
        article=np.array([articles.number[each] for each in ids], np.int32),
        titles=articles.titles,
        collection=spec.dataset,
    )


# -- ntrex, lines -------------------------------------------------------------------------------------------------


def _read_ntrex(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    folder = _local(spec)
    found: dict[str, Path] = {}
    for code, language in LANGUAGES.items():
        three = language.tag.partition("-")[0]
        names = [f"newstest2019-src.{three}.txt", f"newstest2019-ref.{three}.txt"]
        # Where the code of a language has none, that of a variety: zho-CN before zho-TW.
        names += sorted(path.name for path in folder.glob(f"newstest2019-ref.{three}-*.txt"))
        if there := [folder / name for name in names if (folder / name).is_file()]:
            found[code] = there[0]
    if not found:
        raise DataError(f"{spec.name}: {folder} has no files of NTREX-128, newstest2019-ref.<code>.txt")
    _need_languages(spec, found, str(folder))
    documents = folder / "DOCUMENT_IDS.tsv"
    wanted = {code: found[code] for code in spec.languages or found}
    return _line_aligned(spec, wanted, documents if documents.is_file() else None)


def _read_lines(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    folder = _local(spec)
    wanted = {code: folder / spec.columns[code] for code in spec.languages or spec.columns}
    documents = folder / spec.option("documents") if spec.option("documents") else None
    for path in (*wanted.values(), *([documents] if documents else [])):
        if not path.is_file():
            raise DataError(f"{spec.name}: there is no file {path}")
    return _line_aligned(spec, wanted, documents)


def _line_aligned(spec: SourceSpec, files: Mapping[str, Path], documents: Path | None) -> SourceTexts:
    """Each line as a query, and its translations as passages."""
    counts = {path: _count_lines(path) for path in (*files.values(), *([documents] if documents else []))}
    (first, count), *others = counts.items()
    for path, other in others:
        if other != count:
            raise DataError(f"{spec.name}: {first} has {count:,} lines but {path} {other:,}: they are not aligned")
    columns = {code: Column(pa.chunked_array([pa.array(_by_line(path, count))])) for code, path in files.items()}
    note = (
        "a sentence and its translation: within a language, query and passage are the same, so its monolingual batches"
        " teach little"
    )
    texts = SourceTexts(spec.name, queries=columns, passages=columns, notes=(note,))
    if documents is None:
        return texts
    coded = pa.array(_by_line(documents, count)).dictionary_encode()
    article = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return replace(texts, article=article, titles=(frozenset(),) * len(coded.dictionary))


def _count_lines(path: Path) -> int:
    """Lines of a file, blank ones among them, but none behind the last line feed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error
    return content.count(b"\n") + bool(content and not content.endswith(b"\n"))


def _by_line(path: Path, count: int) -> list[str | None]:
    """The lines of a file; None for a blank one."""
    found: list[str | None] = [None] * count
    for number, line in lines(path):
        found[number - 1] = line.rstrip("\r\n")
    return found


# -- where files are, and what was made of them -------------------------------------------------------------------


def _local(spec: SourceSpec) -> Path:
    try:
        path = Path(spec.path).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{spec.name}: {error}; name the folder without '~'") from error
    if not path.exists():
        raise RequestError(f"{spec.name}: there is no file or folder {path.absolute()}")
    if spec.kind != "parallel" and not path.is_dir():
        raise RequestError(f"{spec.name}: {path} is a file: give the folder that it is in")
    return path.resolve()


def _folder(spec: SourceSpec, wanted: Callable[[Path], Iterable[str]]) -> tuple[Path, str]:
    """The folder of a data set, and its commit: where it is given, or a local copy from the Hub."""
    if spec.path:
        return _local(spec), ""
    name = spec.dataset or _DATASETS[spec.kind]
    try:
        folder = snapshot(
            name,
            spec.revision,
            wanted,
            called=f"{spec.name} ({spec.place})",
            otherwise="give path, a folder with a copy",
        )
    except NotOnTheHubError as error:
        raise RequestError(str(error)) from error
    return folder, folder.name


def _one_of(spec: SourceSpec, root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    there = sorted(path.parent.name for path in root.glob(f"{names[0].partition('/')[0].partition('-')[0]}*/*"))
    has = f", which has {', '.join(dict.fromkeys(there))}" if there else ""
    raise DataError(f"{spec.name}: there is no {names[0]} in {root}{has}")


def _need_languages(spec: SourceSpec, there: Iterable[str], where: str) -> None:
    there = sorted(there)
    for code in spec.languages:
        if code not in there:
            has = f"it has {', '.join(there)}" if there else "it has none"
            raise DataError(f"{spec.name}: {where} has nothing in '{code}': {has}")


def _with_commit(texts: SourceTexts, commit: str) -> SourceTexts:
    return replace(texts, notes=(*texts.notes, f"revision {commit}")) if commit else texts


def _known(word: str, names: Iterable[str]) -> str:
    names = list(names)
    return did_you_mean(word, names) if names else "it has none"


def _string(row: Any, name: str, where: str) -> str:
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str):
        raise DataError(
            f"{where}: '{name}' should be a string, found {shown(value if isinstance(row, Mapping) else row)}"
        )
    return value


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


def _strings(column: Sequence[str | None], where: str) -> pa.Array:
    """Strings as Arrow, which takes no lone surrogate, as JSON may have one."""
    try:
        return pa.array(column, pa.string())
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise DataError(f"at or after {where}: a text that is not Unicode ({first_line(error)})") from error


def _of_rows(
    schema: pa.Schema, path: Path, row: Callable[[int, Mapping[str, Any]], Sequence[Any]]
) -> Iterator[pa.RecordBatch]:
    for piece in _batched((row(number, value) for number, value in json_objects(path)), _BATCH):
        columns = zip(*piece, strict=True)
        yield pa.record_batch(
            [pa.array(list(column), kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema
        )


def _identity(path: Path) -> str:
    """What stands for a file: its content where that is quickly read, else its place, size, time and two ends."""
    status = path.stat()
    if status.st_size <= _WHOLE_BYTES:
        return sha256_once(path)
    with path.open("rb") as file:
        ends = file.read(1 << 20)
        file.seek(-(1 << 20), 2)
        ends += file.read()
    about = [str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), hashlib.sha256(ends).hexdigest()]
    return sha256_of_lines(about)


def _cache_path(key: Sequence[str], ending: str) -> Path:
    return cache_dir() / "training" / f"{sha256_of_lines([_FORMAT, *key])[:32]}{ending}"


@contextmanager
def _built(path: Path) -> Iterator[None]:
    """Write something in the cache, one process at a time: those of a training all come here at once."""
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f"{path.name}.lock")):
            yield
    except OSError as error:
        raise DataError(
            f"cannot write in the cache folder {path.parent}: {first_line(error)}; set HYBRID_BENCH_CACHE to a folder"
            " that can be written"
        ) from error


def _arrow(key: Sequence[str], parsed: Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]]) -> pa.Table:
    """A table in the cache, memory-mapped; written if it is not there.

    Args:
        key: What stands for its content.
        parsed: Gives its schema and its rows, if they are needed.
    """
    path = _cache_path(key, ".arrow")
    if not path.is_file():
        with _built(path):
            if not path.is_file():
                schema, batches = parsed()
                part = path.with_name(f"{path.name}.part")
                with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                part.replace(path)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


_READERS: Mapping[str, Callable[[SourceSpec, Path | None], SourceTexts]] = {
    "parallel": _read_parallel,
    "hf": _read_hf,
    "mmarco": _read_mmarco,
    "mr-tydi": _read_mr_tydi,
    "mfaq": _read_mfaq,
    "lareqa": _read_lareqa_source,
    "ntrex": _read_ntrex,
    "lines": _read_lines,
}
assert {*_READERS} == {*_OPTIONS} == {*get_args(Kind)}
