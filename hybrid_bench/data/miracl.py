"""MIRACL by language pair: the questions of 18 languages against the Wikipedia passages they were judged on.

Every language has its own passages, questions and judgments (Zhang et al., 2023), and no two of them share any. Asked
across languages, a question is a translation of one that was written and judged in the language of the passages. So a
query set is named ``<query>-<corpus>``: the questions and judgments of the corpus language, asked in the query
language. On the diagonal these are the official development questions; the others need `DataOptions.translations`.

Ids collide between languages: the same query id, and the same document id, stand for unrelated texts. Nothing is joined
by bare id; whatever leaves this module carries the language in its id.

The data come in three forms, which all end in the same collection:

- mteb's data sets on the Hugging Face Hub, at a pinned revision: configurations ``<lang>-corpus``, ``<lang>-queries``
  and ``<lang>-qrels``, split ``dev``. ``mteb/MIRACLRetrieval`` has all passages, ``mteb/MIRACLRetrievalHardNegatives``
  the 250 best of three retrievers for up to 1,000 questions of a language.
- the same data set as a folder, ``mteb/MIRACLRetrieval`` below the data folder.
- project MIRACL's own files below the data folder: ``miracl/topics.miracl-v1.0-<lang>-dev.tsv``,
  ``miracl/qrels.miracl-v1.0-<lang>-dev.tsv`` and ``miracl/miracl-corpus-v1.0-<lang>/docs-*.jsonl.gz`` (or ``.jsonl``).

Passages are read by `datasets` into its cache and memory-mapped from there: the largest corpus has 33 million.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Some
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hybrid_bench.data.collection import (
    Collection,
    Column,
    DataOptions,
    Judgments,
    PassagePool,
    Passages,
    Queries,
    clusters,
    judge,
    text_id,
)
from hybrid_bench.data.files import data_folder, lines
from hybrid_bench.data.hashing import sha256_of_lines, sha256_once
from hybrid_bench.data.hub import files_of, mapped, patterns, snapshot
from hybrid_bench.data.translations import Translations, check_ids
from hybrid_bench.errors import DataError, RequestError, shown
from hybrid_bench.languages import did_you_mean

__all__ = ["HubDataset", "MiraclReader"]

_SPLIT = "dev"
_KINDS = ("corpus", "queries", "qrels")
_KEPT = 4  # so many collections are kept in a process: passages are memory-mapped, and queries are small
_AT_ONCE = 1_000_000  # passages that are looked through at once


@dataclass(frozen=True, eq=False)
class HubDataset:
    """A data set on the Hugging Face Hub, with what it must hold.

    Attributes:
        name: ``organisation/name``.
        revision: The commit that it is pinned to.
        passages: Published number of passages by language.
        queries: Published number of queries by language.
    """

    name: str
    revision: str
    passages: Mapping[str, int]
    queries: Mapping[str, int]


@dataclass(frozen=True)
class MiraclReader:
    """Where MIRACL comes from; a `collection.Reader`.

    Attributes:
        collection: Name of the collection.
        pools: The data set that has the passages of each pool.
        notice: What a user of the data has to be told.
    """

    collection: str
    pools: Mapping[PassagePool, HubDataset]
    notice: str = ""
    _parts: dict[tuple[str, str], _Part] = field(default_factory=dict, repr=False, compare=False)
    _collections: dict[Any, Collection] = field(default_factory=dict, repr=False, compare=False)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the order of the data set."""
        return tuple(self.pools[PassagePool.FULL].passages)

    def load(self, options: DataOptions, languages: Some[str] | None = None) -> Collection:
        """The collection. Only the parts in these languages are read, and only their query sets are there.

        Raises:
            RequestError: If there is no such language.
            DataError: If the data cannot be read or are not what they should be, if they are not there and the Hub
                cannot be reached, or if questions are translated that do not exist.
        """
        places = {language: self._place(options, language) for language in self._wanted(languages)}
        sha256 = self._sha256(options, places)
        key = (tuple(sha256.items()), options.translations)
        if key not in self._collections:
            collection = self._collect(options, self._read(options, places), sha256)
            while len(self._collections) >= _KEPT:
                del self._collections[next(iter(self._collections))]
            self._collections[key] = collection
        return self._collections[key]

    def sha256(self, options: DataOptions, languages: Some[str] | None = None) -> Mapping[str, str]:
        """Hashes by part. For data of the Hub the revision stands for them, for local files their content."""
        return self._sha256(options, {language: self._place(options, language) for language in self._wanted(languages)})

    def saved_options(self, options: DataOptions, subsets: Some[str]) -> Mapping[str, str]:
        """Hard negatives instead of whole corpora, and whose translations are asked, where these are chosen."""
        told = {} if options.pool == PassagePool.FULL else {"pool": str(options.pool)}
        if options.translations is not None and any(_is_translated(subset) for subset in subsets):
            told["translations"] = options.translations.source
        return told

    def missing(self, options: DataOptions, subset: str) -> str | None:
        """Why a subset cannot be run: without translations only the diagonal can be run.

        Args:
            options: What was chosen.
            subset: ``<query>-<corpus>``, or ``<query>`` of the multilingual task.

        Raises:
            RequestError: If a language in it does not exist.
        """
        query, _, corpus = subset.partition("-")
        self._wanted([query, corpus or query])
        translations = options.translations
        if not _is_translated(subset) or (translations is not None and translations.texts.get((corpus, query))):
            return None
        given = "" if translations is None else f", which those by {translations.source} are not"
        return (
            f"it needs the questions of '{corpus}' translated into '{query}'{given}: give --translations FILE, or make"
            " some with `hybrid-bench translate`"
        )

    def topics(self, options: DataOptions, language: str) -> dict[str, str]:
        """The development questions of a language, which are what there is to translate. No passages are read.

        Returns:
            Text by query id (the bare id of the data set, unique within the language only), in the data set's order.

        Raises:
            RequestError: If there is no such language.
            DataError: See `load`.
        """
        self._wanted([language])
        place = self._place(options, language, topics_only=True)
        if isinstance(place, HubDataset):
            place = _DatasetFolder(_snapshot(place, [language], ["queries"]), language, place.revision)
        return place.queries()

    def _pool(self, options: DataOptions) -> HubDataset:
        return self.pools[PassagePool(options.pool)]

    def _wanted(self, languages: Some[str] | None) -> tuple[str, ...]:
        """The languages that are asked for, in the order of the data set."""
        for language in languages or ():
            if language not in self.languages:
                raise RequestError(
                    f"{self.collection} has no language '{language}': {did_you_mean(language, self.languages)}"
                )
        return tuple(language for language in self.languages if languages is None or language in languages)

    def _place(self, options: DataOptions, language: str, *, topics_only: bool = False) -> _Local | HubDataset:
        """Where the data of a language are to be taken from."""
        dataset = self._pool(options)
        given = data_folder(options.data_dir)
        if given is None:
            return dataset
        folder, origin, without = given
        full = PassagePool(options.pool) is PassagePool.FULL
        own = _OwnFiles(folder / "miracl", language)
        layout = folder / "mteb" / dataset.name.partition("/")[2]
        if full and own.corpus.is_dir():
            return own
        if layout.is_dir():
            return _DatasetFolder(layout, language)
        if full and topics_only and own.topics.is_file():
            return own
        if not folder.is_dir():
            raise DataError(f"{origin} {folder} is not a folder: give one that holds MIRACL, or {without}")
        looked = [f"{layout.relative_to(folder)} (the data set {dataset.name})"]
        if full:
            looked.append(f"{own.corpus.relative_to(folder)} (as project MIRACL publishes it)")
        if full and topics_only:
            looked.append(f"{own.topics.relative_to(folder)}")
        chosen = "" if topics_only else ", choose other languages (--languages, --pool-languages)"
        raise DataError(
            f"{origin} {folder} does not have {self.collection} in '{language}': looked for {' and '.join(looked)};"
            f" put one of them there{chosen}, or {without} to download"
        )

    def _sha256(self, options: DataOptions, places: Mapping[str, _Local | HubDataset]) -> dict[str, str]:
        found = {}
        for language, place in places.items():
            depends = [self.collection, str(options.pool), language, _digest(place)]
            if options.translations is not None:
                depends.append(options.translations.sha256.get(language, "none"))
            found[language] = sha256_of_lines(depends)
        return found

    def _read(self, options: DataOptions, places: Mapping[str, _Local | HubDataset]) -> dict[str, _Part]:
        """The parts of these languages; what has to be downloaded is downloaded together."""
        dataset = self._pool(options)
        keys = {language: (language, _digest(place)) for language, place in places.items()}
        new = [language for language in places if keys[language] not in self._parts]
        remote = [language for language in new if isinstance(places[language], HubDataset)]
        copy = _snapshot(dataset, remote, _KINDS) if remote else Path()
        for language in new:
            place = places[language]
            local = place if not isinstance(place, HubDataset) else _DatasetFolder(copy, language, place.revision)
            part = _part_of(local, self.collection, language)
            differ = [
                f"{language}: {found:,} {what}, where {dataset.name} has {expected:,}"
                for what, found, expected in (
                    ("passages", len(part.passages), dataset.passages[language]),
                    ("questions", len(part.texts), dataset.queries[language]),
                )
                if found != expected
            ]
            if differ and isinstance(place, HubDataset):
                raise DataError(
                    f"{differ[0]} at {dataset.revision[:12]}: the copy in {copy} is not whole, delete it to"
                    " download it again"
                )
            self._parts[keys[language]] = part._replace(notes=(*differ, *part.notes))
        return {language: self._parts[key] for language, key in keys.items()}

    def _collect(self, options: DataOptions, parts: Mapping[str, _Part], sha256: Mapping[str, str]) -> Collection:
        self._check_translations(options, parts)
        queries: dict[str, Queries] = {}
        notes = [note for part in parts.values() for note in part.notes]
        for index, (corpus, part) in enumerate(parts.items()):
            question_ids = {query_id: text_id(self.collection, corpus, query_id) for query_id in part.relevant}
            queries[f"{corpus}-{corpus}"] = _query_set(part, index, corpus, texts=part.texts, question_ids=question_ids)
            for query, texts in _translated(options, corpus).items():
                ids = {query_id: f"{question_id}.{query}" for query_id, question_id in question_ids.items()}
                asked = _query_set(part, index, query, texts=texts, question_ids=question_ids, ids=ids)
                queries[f"{query}-{corpus}"] = asked
                source = options.translations.source if options.translations else ""
                notes.append(
                    f"{query}-{corpus}: {len(asked):,} of {len(part.relevant):,} questions translated (source {source})"
                )
        return Collection(
            name=self.collection,
            passages={language: part.passages for language, part in parts.items()},
            queries=queries,
            paragraph_cluster=clusters(_groups(self.collection, parts, lambda docid: docid)),
            article_cluster=clusters(_groups(self.collection, parts, lambda docid: docid.partition("#")[0])),
            revision=self._pool(options).revision if data_folder(options.data_dir) is None else "local files",
            sha256=sha256,
            notes=tuple(notes),
        )

    def _check_translations(self, options: DataOptions, parts: Mapping[str, _Part]) -> None:
        """Refuse translations of questions that do not exist, as far as the parts tell."""
        translations = options.translations
        if translations is None:
            return
        for corpus, query in translations.texts:
            if corpus == query:
                raise DataError(f"{translations.source} translates from '{corpus}' to '{query}': the same language")
            for language in (corpus, query):
                if language not in self.languages:
                    raise DataError(
                        f"{translations.source} translates from '{corpus}' to '{query}', but {self.collection} has no"
                        f" '{language}': it has {', '.join(self.languages)}"
                    )
        if PassagePool(options.pool) is PassagePool.FULL:
            check_ids(translations, {corpus: part.texts.keys() for corpus, part in parts.items()})
            return
        # The other pools have some of the questions only, and translations are made of all: those of no known question
        # are translations of something else.
        for corpus, part in parts.items():
            for query, texts in _translated(options, corpus).items():
                if texts and not texts.keys() & part.texts.keys():
                    check_ids(
                        Translations.of(translations.source, {(corpus, query): texts}), {corpus: part.texts.keys()}
                    )


def _is_translated(subset: str) -> bool:
    query, _, corpus = subset.partition("-")
    return bool(corpus) and corpus != query


def _translated(options: DataOptions, corpus: str) -> dict[str, Mapping[str, str]]:
    """The translations of one language's questions: query language -> query id -> text."""
    texts = {} if options.translations is None else options.translations.texts
    return {query: by_id for (origin, query), by_id in texts.items() if origin == corpus and by_id}


# -- parts: the passages of one language, and the questions that were judged on them --------------------------------


class _Relevant(NamedTuple):
    docid: str
    row: int  # of the passage, -1 where the corpus lacks it
    gain: int


class _Part(NamedTuple):
    """One language.

    Attributes:
        passages: Its passages.
        texts: All questions, by query id.
        relevant: The relevant passages of each question that has any, by query id.
        notes: What a reader of the numbers has to be told.
    """

    passages: Passages
    texts: Mapping[str, str]
    relevant: Mapping[str, Sequence[_Relevant]]
    notes: tuple[str, ...]


class _PassageIds(Column):
    """Ids of passages, made of the document ids when they are asked for: millions of them need no memory."""

    def __init__(self, docids: pa.ChunkedArray, collection: str, language: str) -> None:
        super().__init__(docids)
        self._origin = (collection, language)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if not isinstance(place, slice):
            return text_id(*self._origin, super().__getitem__(place))
        start, stop, step = place.indices(len(self))
        if step != 1:
            return self.take(np.arange(start, stop, step, dtype=np.int64))
        return [text_id(*self._origin, docid) for docid in super().__getitem__(slice(start, stop))]

    def __iter__(self) -> Iterator[str]:
        return (text_id(*self._origin, docid) for docid in super().__iter__())

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """The ids of these rows."""
        return [text_id(*self._origin, docid) for docid in super().take(rows)]


def _part_of(place: _Local, collection: str, language: str) -> _Part:
    """Read one language."""
    texts = place.queries()
    relevant = {
        query_id: {docid: gain for docid, gain in judged.items() if gain >= 1}
        for query_id, judged in place.qrels().items()
    }
    relevant = {query_id: judged for query_id, judged in relevant.items() if judged}
    docids, passage_texts, titles = place.passages()
    rows = _rows_of(docids, {docid for judged in relevant.values() for docid in judged}, place.name)
    found = {
        query_id: [_Relevant(docid, rows.get(docid, -1), gain) for docid, gain in sorted(relevant[query_id].items())]
        for query_id in texts
        if query_id in relevant
    }
    total = sum(map(len, found.values()))
    absent = sum(passage.row < 0 for passages in found.values() for passage in passages)
    if not total:
        raise DataError(f"{place.name}: no question in '{language}' has a relevant passage")
    if absent == total:
        raise DataError(
            f"{place.name}: of {total:,} relevant passages in '{language}', none is among its {len(docids):,} passages:"
            " the judgments belong to other passages"
        )
    notes = []
    if absent:
        notes.append(
            f"{language}: {absent:,} of {total:,} relevant passages are not in the corpus; they count as never found"
        )
    if without := len(texts) - len(found):
        notes.append(f"{language}: {without:,} of {len(texts):,} questions have no relevant passage and are left out")
    if unknown := len(relevant.keys() - texts.keys()):
        notes.append(f"{language}: {unknown:,} questions are judged, but their text is not there; they are left out")
    return _Part(
        passages=Passages(
            language=language,
            ids=_PassageIds(docids, collection, language),
            texts=Column(passage_texts),
            titles=None if titles is None else Column(titles),
        ),
        texts=texts,
        relevant=found,
        notes=tuple(notes),
    )


def _rows_of(docids: pa.ChunkedArray, wanted: Iterable[str], name: str) -> dict[str, int]:
    """The rows of these documents, as far as they are there; `DataError` for one that is there twice."""
    ordered = sorted(wanted)
    values = pa.array(ordered, docids.type)
    rows: dict[str, int] = {}
    for start in range(0, len(docids), _AT_ONCE):
        places = pc.index_in(docids.slice(start, _AT_ONCE), value_set=values)
        hits = np.flatnonzero(places.is_valid().to_numpy())
        for row, value in zip(hits.tolist(), places.drop_null().to_pylist(), strict=True):
            docid = ordered[value]
            if rows.setdefault(docid, start + row) != start + row:
                raise DataError(f"{name}: document '{docid}' occurs twice, as passage {rows[docid]} and {start + row}")
    return rows


def _query_set(
    part: _Part,
    part_index: int,
    language: str,
    *,
    texts: Mapping[str, str],
    question_ids: Mapping[str, str],
    ids: Mapping[str, str] | None = None,
) -> Queries:
    """The questions of a part that have a text in this language, in their order."""
    asked = [query_id for query_id in part.relevant if query_id in texts]
    return Queries(
        language=language,
        ids=tuple((ids or question_ids)[query_id] for query_id in asked),
        question_ids=tuple(question_ids[query_id] for query_id in asked),
        texts=tuple(texts[query_id] for query_id in asked),
        judgments=Judgments.of(
            (number, part_index, passage.row, passage.gain)
            for number, query_id in enumerate(asked)
            for passage in part.relevant[query_id]
        ),
    )


def _groups(collection: str, parts: Mapping[str, _Part], level: Callable[[str], str]) -> Iterator[list[str]]:
    """The question ids that share a relevant passage, or what `level` makes of its document id, within a language."""
    for language, part in parts.items():
        together: dict[str, list[str]] = defaultdict(list)
        for query_id, relevant in part.relevant.items():
            for passage in relevant:
                together[level(passage.docid)].append(text_id(collection, language, query_id))
        yield from together.values()


# -- where one language is read from --------------------------------------------------------------------------------


class _Local(Protocol):
    """The files of one language."""

    @property
    def name(self) -> str:
        """What to call them in an error."""

    def sha256(self) -> str:
        """Hash over their content."""

    def queries(self) -> dict[str, str]:
        """Text by query id."""

    def qrels(self) -> dict[str, dict[str, int]]:
        """Query id -> document id -> gain; 0 is judged and not relevant."""

    def passages(self) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray | None]:
        """Document ids, texts, and titles if there are any, as memory-mapped columns."""


@dataclass(frozen=True)
class _OwnFiles:
    """Project MIRACL's own files."""

    folder: Path
    language: str

    @property
    def name(self) -> str:
        return str(self.corpus)

    @property
    def corpus(self) -> Path:
        return self.folder / f"miracl-corpus-v1.0-{self.language}"

    @property
    def topics(self) -> Path:
        return self.folder / f"topics.miracl-v1.0-{self.language}-{_SPLIT}.tsv"

    @property
    def judgments(self) -> Path:
        return self.folder / f"qrels.miracl-v1.0-{self.language}-{_SPLIT}.tsv"

    def sha256(self) -> str:
        files = (self.topics, self.judgments, *self._documents())
        return sha256_of_lines(f"{path.name} {sha256_once(path)}" for path in files)

    def queries(self) -> dict[str, str]:
        texts: dict[str, str] = {}
        for place, line in _lines(self.topics):
            query_id, tab, text = line.partition("\t")
            if not (query_id and tab and text.strip()):
                raise DataError(f"{place}: expected a query id, a tab and a question, found {shown(line)}")
            if query_id in texts:
                raise DataError(f"{place}: query id '{query_id}' occurs twice")
            texts[query_id] = text
        if not texts:
            raise DataError(f"{self.topics} is empty: fetch it again")
        return texts

    def qrels(self) -> dict[str, dict[str, int]]:
        known = self.queries()
        judged: dict[str, dict[str, int]] = {}
        for place, line in _lines(self.judgments):
            # Between tabs a document id may hold spaces; trec_eval's own format has any white space.
            values = line.split("\t") if "\t" in line else line.split()
            if len(values) != 4 or not re.fullmatch(r"-?[0-9]{1,9}", values[3]):
                raise DataError(
                    f"{place}: expected query id, 'Q0', document id and a whole number, found {shown(line)}"
                )
            query_id, _, docid, gain = values
            if query_id not in known:
                raise DataError(
                    f"{place}: query id '{query_id}' is judged, but is not in {self.topics}; are both files of"
                    f" '{self.language}'? The ids of one language mean nothing in another"
                )
            judge(judged, query_id, docid, int(gain), place)
        return judged

    def passages(self) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray | None]:
        data = mapped(self.name, self._documents(), strings=("docid", "title", "text"))
        return _columns(data.data.table, "docid", self.name)

    def _documents(self) -> list[Path]:
        """The files of the passages, in the order of their numbers."""
        found: dict[str, Path] = {}
        for path in sorted(self.corpus.glob("docs-*.jsonl*"), key=lambda path: (len(path.name), path.name)):
            stem = path.name.removesuffix(".gz").removesuffix(".jsonl")
            if path.name.removeprefix(stem) in {".jsonl", ".jsonl.gz"}:
                if stem in found:
                    raise DataError(f"{path} and {found[stem].name} hold the same passages: keep one of them")
                found[stem] = path
        if not found:
            raise DataError(f"{self.corpus} has no passages: there should be docs-0.jsonl.gz, or docs-0.jsonl, and on")
        return list(found.values())


@dataclass(frozen=True)
class _DatasetFolder:
    """A folder laid out as mteb's data sets are on the Hub: a README.md that names the files of each configuration.

    Attributes:
        folder: The folder.
        language: The language of ours.
        revision: Stands for the content where that is known not to change.
    """

    folder: Path
    language: str
    revision: str = ""

    @property
    def name(self) -> str:
        return str(self.folder)

    def sha256(self) -> str:
        return sha256_of_lines(f"{kind} {sha256_once(path)}" for kind in _KINDS for path in self._files(kind))

    def queries(self) -> dict[str, str]:
        where = f"{self.folder}, {self.language}-queries"
        table = self._table("queries")
        key = _id_column(table, where)
        texts: dict[str, str] = {}
        for query_id, text in zip(_strings(table, key, where), _strings(table, "text", where), strict=True):
            if query_id in texts:
                raise DataError(f"{where}: query id '{query_id}' occurs twice")
            texts[query_id] = text
        return texts

    def qrels(self) -> dict[str, dict[str, int]]:
        where = f"{self.folder}, {self.language}-qrels"
        table = self._table("qrels")
        judged: dict[str, dict[str, int]] = {}
        columns = [_strings(table, column, where) for column in ("query-id", "corpus-id", "score")]
        for query_id, docid, gain in zip(*columns, strict=True):
            if not re.fullmatch(r"-?[0-9]{1,9}(\.0+)?", gain):
                raise DataError(f"{where}: score {shown(gain)} of document '{docid}' should be a whole number")
            judge(judged, query_id, docid, int(float(gain)), where)
        return judged

    def passages(self) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray | None]:
        where = f"{self.folder}, {self.language}-corpus"
        table = self._table("corpus")
        return _columns(table, _id_column(table, where), where)

    def _files(self, kind: str) -> list[Path]:
        return files_of(self.folder, f"{self.language}-{kind}", _SPLIT)

    def _table(self, kind: str) -> pa.Table:
        # Not by mteb's `RetrievalDatasetLoader`, which reads the same: it writes the corpus to disk a second time to
        # rename a column, and cannot read queries alone.
        config = f"{self.language}-{kind}"
        key = self.revision and f"{self.revision} {config}"
        return mapped(f"{self.folder}, {config}", self._files(kind), key=key).data.table


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file, each with its place."""
    return ((f"{path}:{number}", line.rstrip("\r\n")) for number, line in lines(path))


def _columns(table: pa.Table, key: str, name: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray | None]:
    """The ids, texts and titles of a corpus; an id or a text that is missing is an error, a title is not."""
    _need(table, (key, "text"), name)
    for column in (key, "text"):
        if missing := table.column(column).null_count:
            raise DataError(f"{name}: {missing:,} of {len(table):,} passages have no '{column}'")
    docids = table.column(key)
    if not (pa.types.is_string(docids.type) or pa.types.is_large_string(docids.type)):
        docids = docids.cast(pa.string())
    return docids, table.column("text"), table.column("title") if "title" in table.column_names else None


def _id_column(table: pa.Table, name: str) -> str:
    """What the column of the ids is called; mteb takes both."""
    found = [column for column in ("_id", "id") if column in table.column_names]
    if not found:
        raise DataError(f"{name}: there is no column '_id', only {', '.join(table.column_names)}")
    return found[0]


def _strings(table: pa.Table, column: str, name: str) -> list[str]:
    """A small column; `DataError` where a value is missing."""
    _need(table, (column,), name)
    values = table.column(column)
    if values.null_count:
        raise DataError(f"{name}: {values.null_count:,} of {len(values):,} rows have no '{column}'")
    return [str(value) for value in values.to_pylist()]


def _need(table: pa.Table, columns: Iterable[str], name: str) -> None:
    for column in columns:
        if column not in table.column_names:
            raise DataError(f"{name}: there is no column '{column}', only {', '.join(table.column_names)}")


def _snapshot(dataset: HubDataset, languages: Sequence[str], kinds: Sequence[str]) -> Path:
    """The folder of a local copy of these configurations, downloaded where needed."""
    configs = [f"{language}-{kind}" for language in languages for kind in kinds]
    return snapshot(
        dataset.name,
        dataset.revision,
        lambda folder: [pattern for config in configs for pattern in patterns(folder, config, _SPLIT)],
        called=f"{dataset.name} ({', '.join(languages)}) at {dataset.revision[:12]}",
        otherwise="pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder that holds the data set as"
        f" mteb/{dataset.name.partition('/')[2]}",
    )


def _digest(place: _Local | HubDataset) -> str:
    """What stands for the data of one language at a place."""
    return f"{place.name}@{place.revision}" if isinstance(place, HubDataset) else place.sha256()
