"""BEIR's folder format, in and out: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv`` (arXiv 2104.08663).

`read_beir` checks a folder line by line, and `beir_task` makes an mteb task of it; `write_beir` writes one that beir's
own loader reads. Corpora may be large: they are read and written in batches, and kept by `datasets` as a memory-mapped
file in its cache, so that a folder is parsed once. Nothing here knows a model.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from hybrid_bench.data.collection import judge
from hybrid_bench.data.files import expanded, json_objects, lines, scratch, settle
from hybrid_bench.data.hashing import sha256_once
from hybrid_bench.errors import DataError, HybridBenchError, RequestError, causes, first_line, listed, reason, shown
from hybrid_bench.languages import did_you_mean, language

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

__all__ = ["BeirFolder", "Qrels", "beir_task", "file_name", "parse_beir", "read_beir", "shared_ids", "write_beir"]

#: Grade by document id by query id.
Qrels = Mapping[str, Mapping[str, int]]

#: mteb wants a language and a script. ISO 639-3 has `und` for a language that nobody has told, ISO 15924 has `Zyyy`.
UNDETERMINED = "und-Zyyy"

#: Changes when a corpus is parsed to something else, so that a copy in the cache of `datasets` is not used any more.
_FORMAT = 1
#: Splits in the order in which they are named; others follow.
_SPLITS = ("test", "dev", "train")
_PREFIX = "beir:"
_OPTIONS = ("language",)
_BATCH = 1_000  # rows written at once
_NAMED = 8  # so many names are listed in an error, the rest is counted
_GRADES = range(-(2**31), 2**31)


@dataclass(frozen=True)
class BeirFolder:
    """A folder in BEIR's format, checked.

    Attributes:
        name: The folder's name.
        corpus: Columns ``id``, ``text`` and, where any document has one, ``title``; memory-mapped.
        queries: Columns ``id`` and ``text``; all that are in the file, judged or not.
        qrels: Judgments by split, with grade 0 and documents that are not in the corpus.
        sha256: Hash over the names and contents of the folder's files, those of all its splits among them.
        notes: What a reader of numbers on it has to be told.
    """

    name: str
    corpus: Dataset
    queries: Dataset
    qrels: Mapping[str, Qrels]
    sha256: str
    notes: tuple[str, ...]


def read_beir(folder: Path, splits: Sequence[str] | None = None) -> BeirFolder:
    """Read a folder in BEIR's format.

    ``corpus.jsonl`` and ``queries.jsonl`` may be packed with gzip (``.gz``). A document's ``title`` may be absent or
    empty. An ``_id`` may be an integer, and is then its decimal string; a grade must be an integer.

    Args:
        folder: The folder.
        splits: The splits whose judgments are wanted; None for all that it has.

    Raises:
        DataError: If a file or a split is missing, or a line is not what the format promises.
    """
    import pyarrow.compute as pc
    from datasets import Dataset

    files = _files(folder)
    missing = [split for split in splits or () if split not in files.qrels]
    if missing:
        raise DataError(f"{folder} has no qrels/{missing[0]}.tsv: its splits are {', '.join(files.qrels)}")
    digest = files.sha256()
    rows = dict(_distinct(files.queries))
    queries = Dataset.from_dict({"id": list(rows), "text": list(rows.values())})
    corpus = _corpus(files.corpus)
    notes = []
    if shared := shared_ids(corpus, rows):
        notes.append(
            f"{_count(len(shared), 'document has', 'documents have')} the id of a query (first: {shared[0]!r}): as in "
            "beir's evaluation, a document does not count for the query of the same id"
        )
    qrels: dict[str, Qrels] = {}
    for split in splits or files.qrels:
        found = _read_qrels(files.qrels[split], rows.keys(), files.queries.name)
        judged = dict.fromkeys(document for documents in found.values() for document in documents)
        known = set(shared_ids(corpus, judged))
        if absent := [document for document in judged if document not in known]:
            notes.append(
                f"{split}: {_count(len(absent), 'judged document is', 'judged documents are')} not in the corpus "
                f"(first: {absent[0]!r}); counted as not retrieved"
            )
        if idle := [query for query, documents in found.items() if max(documents.values()) < 1]:
            notes.append(
                f"{split}: {_count(len(idle), 'query has', 'queries have')} no relevant document (first: {idle[0]!r})"
            )
        qrels[split] = found
    if not pc.any(pc.not_equal(_column(corpus, "title"), "")).as_py():
        corpus = corpus.remove_columns("title")
    return BeirFolder(folder.resolve().name, corpus, queries, qrels, digest, tuple(notes))


def write_beir(
    folder: Path,
    corpus: Dataset,
    queries: Dataset,
    qrels: Mapping[str, Qrels],
    *,
    languages: tuple[str | None, str | None] = (None, None),
    overwrite: bool = False,
) -> None:
    """Write a folder in BEIR's format, first beside its place and then renamed.

    A folder that holds the very same already is left as it is.

    Args:
        folder: Where it will be; folders above it are made.
        corpus: Columns ``id``, ``text`` and optionally ``title``; streamed.
        queries: Columns ``id`` and ``text``.
        qrels: Judgments by split. Documents that are not in the corpus may be judged, but only queries that are there.
        languages: Of the queries and of the corpus, kept as ``language`` in the metadata of their rows, where
            `beir_task` looks for them; None where it is not known, or not one.
        overwrite: Whether what the folder holds in BEIR's format may be replaced.

    Raises:
        DataError: If an id is empty, is there twice, or has a tab or a line break, which qrels cannot hold; if a text
            is missing, or a judged query; if the folder cannot be written.
        RequestError: If the folder holds something else and may not be overwritten.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch(folder.parent) as place:
            beside = place / folder.name  # not the temporary folder itself, which only its owner may enter
            (beside / "qrels").mkdir(parents=True)
            _write_rows(beside / "corpus.jsonl", corpus, "document", languages[1], titled=True)
            _write_rows(beside / "queries.jsonl", queries, "query", languages[0], titled=False)
            known = set(_column(queries, "id").to_pylist())
            for split, judgments in qrels.items():
                _write_qrels(beside / "qrels" / f"{file_name(split)}.tsv", judgments, known)
            _settle(beside, folder, overwrite)
    except OSError as error:
        raise DataError(f"cannot write {folder} ({reason(error)}): choose another folder") from error


def beir_task(folder: Path, language: str | None = None) -> AbsTaskRetrieval:
    """An mteb task for a folder in BEIR's format.

    It is named ``beir-<folder name>`` and has one split for each qrels file; evaluated is ``test``, or, where there is
    none, every split. As in beir's own evaluation, a document does not count for the query of the same id. The task
    has the attributes ``beir_folder``, ``beir_sha256`` (see `BeirFolder.sha256`; also mteb's data set revision) and,
    once its data are loaded, ``beir_notes`` (see `BeirFolder.notes`).

    Args:
        folder: The folder; its files are read when mteb loads the data, here only hashed.
        language: Its language, in any way that `languages.language` reads (``pl``, ``pol-Latn``); None for
            what its rows' metadata say, see `write_beir`.

    Returns:
        A task that has not loaded its data. Loading raises `DataError` if they are not right, or have changed.

    Raises:
        DataError: If the folder lacks a file.
        RequestError: If there is no such language.
    """
    from mteb.abstasks.task_metadata import TaskMetadata

    files = _files(folder)
    tags = [_tag(language)] if language else _told_tags(files)
    name = folder.resolve().name
    digest = files.sha256()
    metadata = TaskMetadata(
        name=f"beir-{file_name(name)}",
        description=f"Retrieval on the user's folder '{name}', which is in BEIR's format.",
        dataset={"path": name, "revision": digest},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"] if "test" in files.qrels else list(files.qrels),
        eval_langs=tags,
        main_score="ndcg_at_10",
    )
    # mteb reads the metadata off the class, also after a task has unloaded its data.
    members = {"metadata": metadata, "beir_folder": folder, "beir_sha256": digest}
    task: AbsTaskRetrieval = type("BeirTask", (_task_base(),), members)()
    return task


def parse_beir(spec: str) -> tuple[Path, str | None]:
    """Folder and language of a task given as ``beir:/path`` or ``beir:/path?language=de``.

    Raises:
        RequestError: If it does not begin with ``beir:``, names no folder, or has another option.
    """
    if not spec.startswith(_PREFIX):
        raise RequestError(f"'{spec}' is not a BEIR folder: give {_PREFIX}/path or {_PREFIX}/path?language=de")
    path, _, query = spec.removeprefix(_PREFIX).partition("?")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise RequestError(f"'?{query}' of '{spec}' cannot be read: give it as ?language=de") from error
    for name, value in options.items():
        if name not in _OPTIONS:
            raise RequestError(f"'{spec}' has an unknown option '{name}': {did_you_mean(name, _OPTIONS)}")
        if not value:
            raise RequestError(f"'{spec}' gives no {name}: give it as ?{name}=de, or leave it out")
    folder = expanded(path)
    if not path or not folder.is_dir():
        raise RequestError(f"'{spec}' names no folder: {path or 'nothing'} is not one; give {_PREFIX}/path")
    return folder, options.get("language")


def shared_ids(rows: Dataset, ids: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Those of some ids that a data set has in its column ``id``, in their own order; the column is only streamed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(list(ids), pa.string())
    found = [pc.index_in(chunk, value_set=wanted).unique() for chunk in _column(rows, "id").chunks]
    places = {place for chunk in found for place in chunk.to_pylist() if place is not None}
    return [wanted[place].as_py() for place in sorted(places)]


def file_name(name: str) -> str:
    """A name that can stand in a path: letters, digits, ``_``, ``-`` and dots within; a slash becomes ``__``."""
    return re.sub(r"[^\w.-]+", "-", name.replace("/", "__")).strip(".-") or "unnamed"


# -- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """The files of a folder; those of its splits in the order of `_SPLITS`."""

    corpus: Path
    queries: Path
    qrels: dict[str, Path]

    def sha256(self) -> str:
        digest = sha256()
        for path in (self.corpus, self.queries, *(self.qrels[split] for split in sorted(self.qrels))):
            digest.update(f"{path.name}\0{sha256_once(path)}\n".encode())
        return digest.hexdigest()


def _files(folder: Path) -> _Files:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give one that holds corpus.jsonl, queries.jsonl and qrels/")
    tables = [path for path in (folder / "qrels").glob("*.tsv") if not path.name.startswith(".")]
    corpus, queries = _table(folder, "corpus.jsonl"), _table(folder, "queries.jsonl")
    if not tables:
        within = f"; qrels/ {_holds(folder / 'qrels')}" if (folder / "qrels").is_dir() else ""
        raise DataError(f"{folder} has no qrels/<split>.tsv: it {_holds(folder)}{within}")
    order = {split: place for place, split in enumerate(_SPLITS)}
    tables.sort(key=lambda path: (order.get(path.stem, len(order)), path.stem))
    return _Files(corpus, queries, {path.stem: path for path in tables})


def _table(folder: Path, name: str) -> Path:
    """One of the two JSON Lines files, packed or not."""
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if len(found) == 2:
        raise DataError(f"{folder} holds both {name} and {name}.gz: remove one of them")
    if not found:
        inner = sorted(path.parent.name for path in folder.glob(f"*/{name}*"))
        hint = f"; its folder {inner[0]} has one: give {folder / inner[0]}" if inner else ""
        raise DataError(f"{folder} has no {name} (or {name}.gz): it {_holds(folder)}{hint}")
    return found[0]


def _holds(folder: Path) -> str:
    """What is in a folder, for an error message."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    return f"holds {listed(names, _NAMED)}" if names else "is empty"


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON Lines file with ``_id`` and ``text`` checked, each with its place."""
    for number, row in json_objects(path):
        where = f"{path}:{number}"
        if type(row.get("_id")) is int:  # not a bool
            row["_id"] = str(row["_id"])
        row["_id"] = _string(row, "_id", where)
        row["text"] = _string(row, "text", where)
        if fault := _fault(row["_id"]):
            raise DataError(f"{where}: '_id' {shown(row['_id'])} {fault}")
        yield where, row


def _string(row: Mapping[str, Any], name: str, where: str) -> str:
    if name not in row:
        raise DataError(f"{where}: '{name}' is missing, found only {', '.join(map(repr, row)) or 'an empty object'}")
    value = row[name]
    if not isinstance(value, str):
        raise DataError(f"{where}: '{name}' should be a string, found {shown(value)}")
    return value


def _fault(text_id: str) -> str:
    """Why an id cannot be one; empty if it can."""
    if not text_id:
        return "is empty"
    return "has a tab or a line break, which qrels cannot hold" if re.search(r"[\t\n\r]", text_id) else ""


def _distinct(path: Path) -> Iterator[tuple[str, str]]:
    """Ids and texts; `DataError` if an id is there twice."""
    seen: dict[str, str] = {}
    for where, row in _rows(path):
        if seen.setdefault(row["_id"], where) is not where:
            raise DataError(f"{where}: '_id' {shown(row['_id'])} stands in line {_line(seen[row['_id']])} already")
        yield row["_id"], row["text"]
    if not seen:
        raise DataError(f"{path} is empty: it should hold one object with '_id' and 'text' on each line")


def _line(where: str) -> str:
    return where.rpartition(":")[2]


def _corpus(path: Path) -> Dataset:
    """The documents, memory-mapped from the cache of `datasets`, where they are put when a file is read first."""
    import pyarrow.compute as pc
    from datasets import Dataset, Features, Value
    from datasets.exceptions import DatasetGenerationError

    try:
        corpus = Dataset.from_generator(
            _documents,
            features=Features(dict.fromkeys(("id", "title", "text"), Value("string"))),
            # What the copy in the cache is found by.
            gen_kwargs={"path": str(path), "sha256": sha256_once(path), "version": _FORMAT},
        )
    except (DatasetGenerationError, OSError) as error:
        wrong = next((each for each in causes(error) if isinstance(each, DataError)), None)
        if wrong is not None:
            raise DataError(str(wrong)) from error  # the same object would be the cause of its own context
        raise DataError(
            f"cannot keep {path} in the cache of `datasets` ({first_line(causes(error)[-1])}): set HF_DATASETS_CACHE to"
            " a folder with space"
        ) from error
    if pc.count_distinct(_column(corpus, "id")).as_py() < len(corpus):
        for _ in _distinct(path):  # raises at the second of two
            pass
    return corpus


def _documents(path: str, sha256: str, version: int) -> Iterator[dict[str, str]]:
    count = 0
    for count, (where, row) in enumerate(_rows(Path(path)), 1):  # noqa: B007 # whether there was any
        # mteb measures the length of every title: an absent one is written as empty.
        title = "" if row.get("title") is None else _string(row, "title", where)
        yield {"id": row["_id"], "title": title, "text": row["text"]}
    if not count:
        raise DataError(f"{path} is empty: it should hold one object with '_id', 'title' and 'text' on each line")


def _column(rows: Dataset, name: str) -> pa.ChunkedArray:
    """A column of strings as Arrow has it, in the rows' order."""
    import pyarrow as pa

    batches = rows.select_columns([name]).with_format("arrow").iter(100_000)
    return pa.chunked_array([chunk for batch in batches for chunk in batch[name].cast(pa.string()).chunks], pa.string())


def _read_qrels(path: Path, queries: AbstractSet[str], queries_file: str) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    first = True
    for number, line in lines(path):
        where = f"{path}:{number}"
        cells = _cells(line, where)
        if len(cells) != 3:
            hint = "columns are separated by tabs"
            if len(cells) == 4 or len(line.split()) == 4:
                hint = "TREC's second column has to go"
            raise DataError(
                f"{where}: {_count(len(cells), 'column', 'columns')} instead of three, query-id, corpus-id and score: "
                f"{hint}; found {shown(line.rstrip())}"
            )
        query, document, score = cells
        header, first = first and query not in queries and not _is_number(score), False
        if header:
            continue
        try:
            grade = int(score)
        except ValueError:
            raise DataError(f"{where}: score {shown(score)} is not an integer") from None
        if grade not in _GRADES:
            raise DataError(f"{where}: score {grade} does not fit into 32 bits")
        if query not in queries:
            raise DataError(f"{where}: {queries_file} has no query {shown(query)}")
        if not document:
            raise DataError(f"{where}: the corpus-id is empty")
        judge(qrels, query, document, grade, where)
    if not qrels:
        raise DataError(f"{path} holds no judgment: it should have lines of query-id, corpus-id and score")
    return qrels


def _cells(line: str, where: str) -> list[str]:
    """The columns of a line as Python's csv module, which BEIR's files are written with, puts them."""
    line = line.rstrip("\r\n")
    if '"' not in line:
        return line.split("\t")
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error as error:
        raise DataError(
            f'{where}: quotes are not closed ({error}): write an id that begins with " in quotes, those in it doubled'
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


# -- writing ------------------------------------------------------------------------------------------------------


def _write_rows(path: Path, rows: Dataset, what: str, language: str | None, *, titled: bool) -> None:
    import pyarrow.compute as pc

    for column in ("id", "text"):
        if column not in rows.column_names:
            raise DataError(f"a {what} has no '{column}', only {', '.join(rows.column_names)}: it has to have both")
    counts = pc.value_counts(_column(rows, "id"))
    if len(counts) < len(rows):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise DataError(f"the id {shown(twice)} stands for two of the {len(rows):,} rows of {path.name}")
    columns = [column for column in ("id", "title", "text") if column in rows.column_names]
    about = {"metadata": {"language": language} if language else {}}
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in rows.select_columns(columns).with_format(None).iter(_BATCH):
            titles = batch.get("title", [""] * len(batch["id"]))
            for text_id, title, text in zip(batch["id"], titles, batch["text"], strict=True):
                _check(text_id, what)
                if not isinstance(text, str):
                    raise DataError(f"the text of {what} {shown(text_id)} should be a string, found {shown(text)}")
                row = {"_id": text_id} | ({"title": title or ""} if titled else {}) | {"text": text} | about
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_qrels(path: Path, qrels: Qrels, queries: AbstractSet[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("query-id", "corpus-id", "score"))
        for query, documents in qrels.items():
            if query not in queries:
                raise DataError(f"query {shown(query)} is judged, but not among the {len(queries):,} queries")
            for document, grade in documents.items():
                _check(document, "document")
                writer.writerow((query, document, int(grade)))


def _check(text_id: Any, what: str) -> None:
    fault = _fault(text_id) if isinstance(text_id, str) else "is not a string"
    if fault:
        raise DataError(f"the id {shown(text_id)} of a {what} {fault}")


def _settle(beside: Path, folder: Path, overwrite: bool) -> None:
    """Put a folder that was written beside into its place."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        if folder.exists():
            folder.rmdir()
        settle(beside, folder)
        return
    if not folder.is_dir():
        raise RequestError(f"{folder} is a file: choose another folder")
    new = {path.relative_to(beside) for path in beside.rglob("*") if path.is_file()}
    old = {path.relative_to(folder) for path in (*folder.glob("*.jsonl*"), *folder.glob("qrels/*")) if path.is_file()}
    if new == old and all(sha256_once(beside / path) == sha256_once(folder / path) for path in new):
        return
    if not overwrite:
        raise RequestError(f"{folder} holds something else already: choose another folder, or replace it (--overwrite)")
    # Without judgments a folder is not read: whoever meets it now does not take old ones for the new corpus.
    ours = {Path(f"{name}.jsonl{packed}") for name in ("corpus", "queries") for packed in ("", ".gz")}
    for path in old:
        if path in ours or path.suffix == ".tsv":
            (folder / path).unlink()
    (folder / "qrels").mkdir(exist_ok=True)
    for path in sorted(new, key=lambda path: path.suffix == ".tsv"):
        settle(beside / path, folder / path)


# -- the task -----------------------------------------------------------------------------------------------------


def _told_tags(files: _Files) -> list[str]:
    """The tags of queries and corpus that the first row of each tells; one if they are in the same language."""
    tags = []
    for path in (files.queries, files.corpus):
        try:
            _, row = next(json_objects(path))
            tags.append(language(row["metadata"]["language"]).tag)
        except (LookupError, TypeError, StopIteration, HybridBenchError):  # not told, or in a form of the user's own
            tags.append(UNDETERMINED)
    return [UNDETERMINED] if UNDETERMINED in tags else list(dict.fromkeys(tags))


def _tag(code: str) -> str:
    """mteb's tag of a language."""
    from mteb.languages import check_language_code

    if re.fullmatch(r"[a-z]{3}-[A-Z][a-z]{3}", code):  # mteb's own way of writing
        try:
            check_language_code(code)
        except ValueError as error:
            raise RequestError(f"unknown language '{code}': mteb has no such language or script") from error
        return code
    return language(code).tag


@cache
def _task_base() -> type[AbsTaskRetrieval]:
    """What the tasks of all folders have in common; made here, because importing mteb takes seconds."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.timing import TimingStack

    class BeirTask(AbsTaskRetrieval):
        """Retrieval on a folder in BEIR's format; see `beir_task`."""

        ignore_identical_ids = True
        beir_folder: Path
        beir_sha256: str
        beir_notes: tuple[str, ...] = ()

        def load_data(self, num_proc: int | None = None, *, timer: TimingStack | None = None, **kwargs: Any) -> None:
            """Read the splits that are evaluated; a query is asked in the splits that judge it."""
            if self.data_loaded:
                return
            with (timer or TimingStack())("Data loading", log_message=f"Loading dataset {self.metadata.name}..."):
                data = read_beir(self.beir_folder, self.eval_splits)
                if data.sha256 != self.beir_sha256:
                    raise DataError(f"{self.beir_folder} has changed since its task was made: make the task again")
                self.beir_notes = data.notes
                self.dataset = {"default": {split: _split(data, split) for split in self.eval_splits}}
            self.data_loaded = True

    return BeirTask


def _split(data: BeirFolder, split: str) -> Any:
    """A split as mteb lays it out."""
    qrels = data.qrels[split]
    asked = [place for place, query in enumerate(_column(data.queries, "id").to_pylist()) if query in qrels]
    return {
        "corpus": data.corpus,
        "queries": data.queries.select(asked),
        "relevant_docs": {query: dict(documents) for query, documents in qrels.items()},
        "top_ranked": None,
    }
