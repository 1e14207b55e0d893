"""Collections: queries and passages in several languages, with relevance judgments.

A `Collection` is the only form of data that the rest of the package knows. Raw files become one in the modules that
know their format (`lareqa`, `miracl`, `parallel`); an mteb task becomes one in `retrieval`.

Terms (all arrays are aligned by position):

- A *part* is what pools are made of: the passages of one language, or, in an mteb task, one of its corpora.
- A *query set* is asked against pools as a whole: the questions of a collection in one language. In MIRACL, where
  every language has its own questions, it is the questions of one language as asked in another.
- A *question id* is the id that one question has in every language. Queries are paired across languages and models
  by it, never by position or text.
- A *cluster* is a set of question ids that share a paragraph (or article) in any language. Questions of one cluster
  are not independent, which is what the significance tests need to know.
"""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hybrid_bench.data.hashing import sha256_of_text
from hybrid_bench.data.translations import Translations
from hybrid_bench.errors import DataError, RequestError, shown
from hybrid_bench.languages import did_you_mean

__all__ = [
    "Collection",
    "Column",
    "DataOptions",
    "Judgments",
    "PassagePool",
    "PassageText",
    "Passages",
    "Queries",
    "Reader",
    "Strings",
    "clusters",
    "judge",
    "take",
    "text_id",
]

#: Texts or ids, by position. A tuple for a small collection; for a large one something that reads them when asked.
Strings = Sequence[str]


class Column(Sequence[str]):
    """A column of strings in Arrow, usually memory-mapped: read in slices, never as a whole. A null reads as ``""``.

    Args:
        data: Strings, small or large ones, in any number of chunks.
    """

    def __init__(self, data: pa.ChunkedArray) -> None:
        self._data = data
        self._ends = np.cumsum([len(chunk) for chunk in data.chunks], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step, dtype=np.int64))
            return [text or "" for text in self._data.slice(start, max(0, stop - start)).to_pylist()]
        return self._data[place].as_py() or ""

    def __iter__(self) -> Iterator[str]:
        for batch in pa.table({"": self._data}).to_batches(max_chunksize=10_000):
            yield from (text or "" for text in batch.column(0).to_pylist())

    def find(self, wanted: Iterable[str]) -> dict[str, int]:
        """The row of each of these strings that is in the column; the first one, if it is there more than once."""
        found: dict[str, int] = {}
        values = pa.array(list(wanted), self._data.type)
        start = 0
        for chunk in self._data.chunks:
            place = pc.index_in(chunk, value_set=values)
            rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
            for row, text in zip(rows.tolist(), chunk.take(pa.array(rows)).to_pylist(), strict=True):
                found.setdefault(text, start + row)
            start += len(chunk)
        return found

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """The strings at these rows, in this order.

        Each chunk is asked for its own rows: Arrow would first join chunks of small strings, that is, copy the column.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a column of {len(self)}")
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        found = np.empty(len(rows), dtype=object)
        cuts = np.searchsorted(ascending, [0, *self._ends])
        for number, (low, high) in enumerate(pairwise(cuts)):
            if low < high:
                start = self._ends[number - 1] if number else 0
                texts = self._data.chunk(number).take(pa.array(ascending[low:high] - start)).to_pylist()
                found[order[low:high]] = [text or "" for text in texts]
        return list(found)


def take(strings: Strings, rows: NDArray[np.int64]) -> list[str]:
    """The strings at these rows, in this order."""
    if isinstance(strings, Column):
        return strings.take(rows)
    return [strings[row] for row in rows.tolist()]


class PassageText(StrEnum):
    """What text stands for a candidate sentence."""

    SENTENCE = "sentence"
    #: The sentence followed by its whole paragraph, the two inputs that LAReQA's own models read.
    SENTENCE_CONTEXT = "sentence+context"


class PassagePool(StrEnum):
    """Which passages MIRACL's queries are asked against."""

    FULL = "full"
    #: The 250 best of three retrievers for every query, pooled, as mteb publishes them.
    HARD_NEGATIVES = "hard-negatives"


@dataclass(frozen=True)
class Passages:
    """The passages of one part, in any order.

    Attributes:
        language: Our two-letter code where there is one, else mteb's three-letter code; empty where it is not known.
        ids: Unique in the collection.
        texts: The passages.
        titles: Their titles, empty for a passage without one; None where no passage has any.
    """

    language: str
    ids: Strings
    texts: Strings
    titles: Strings | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Judgments:
    """Judged passages of a query set, as parallel columns, sorted by query.

    Attributes:
        query: int32, position of the query in its `Queries`.
        part: int16, position of the passage's part in `Collection.parts`.
        passage: int32, position of the passage in its part; -1 where the corpus lacks it, so that no search finds it.
        gain: int32, relevance grade, at least 1.
    """

    query: NDArray[np.int32]
    part: NDArray[np.int16]
    passage: NDArray[np.int32]
    gain: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, int, int]]) -> Judgments:
        """From (query, part, passage, gain), sorted by query."""
        columns = np.array(list(rows), dtype=np.int64).reshape(-1, 4)
        return cls(
            query=columns[:, 0].astype(np.int32),
            part=columns[:, 1].astype(np.int16),
            passage=columns[:, 2].astype(np.int32),
            gain=columns[:, 3].astype(np.int32),
        )


@dataclass(frozen=True)
class Queries:
    """A query set.

    Attributes:
        language: Language of the queries, coded as in `Passages`.
        ids: One id per query, unique in the collection.
        question_ids: The id of the question in every language.
        texts: What is asked.
        judgments: The relevant passages, in every part that has one.
        excluded: Passages that do not count for a query, as if they were not in the pool; their gain is not used.
            mteb leaves out documents with the query's own id where its task says so.
    """

    language: str
    ids: tuple[str, ...]
    question_ids: tuple[str, ...]
    texts: tuple[str, ...]
    judgments: Judgments
    excluded: Judgments | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Collection:
    """Queries and passages in several languages.

    Attributes:
        name: Name of the collection, e.g. ``XQuAD-R``.
        passages: Candidates by part. A parallel collection has one part for each language, named by its code.
        queries: Queries by query set. A parallel collection has one for each language, named by its code.
        paragraph_cluster: Cluster of each question id by shared paragraph, numbered from 0.
        article_cluster: The same by shared article; coarser.
        revision: Commit or version of the source.
        sha256: By part, a hash over all that the results on it depend on: its passages, how their texts were formed,
            its queries and judgments. A saved result is out of date when the hash of one of its parts has changed.
        notes: What a reader of the numbers has to be told.
    """

    name: str
    passages: Mapping[str, Passages]
    queries: Mapping[str, Queries]
    paragraph_cluster: Mapping[str, int]
    article_cluster: Mapping[str, int]
    revision: str
    sha256: Mapping[str, str]
    notes: tuple[str, ...] = ()
    # Worked out once; a collection that is made of another one by `replace` has its own.
    _id_ranks: dict[tuple[str, ...], NDArray[np.int32]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _padded: dict[tuple[str, str], int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the data set."""
        return tuple(self.passages)

    @property
    def languages(self) -> tuple[str, ...]:
        """Language of each part."""
        return tuple(passages.language for passages in self.passages.values())

    def part_index(self, name: str) -> int:
        """Position of a part in `parts`; `RequestError` if the collection does not have it."""
        if name not in self.passages:
            raise RequestError(f"{self.name} has no '{name}': {did_you_mean(name, self.passages)}")
        return self.parts.index(name)

    def padded(self, query_sets: Iterable[str], parts: Iterable[str]) -> dict[str, int]:
        """How many texts begin or end with white space, of the ``queries`` and of the ``passages`` with their titles.

        mteb gives models queries as they are, and strips passages: of the former it counts, of the latter it does not.
        Such a text is seldom meant to be so, and models may read it as another one.

        Args:
            query_sets: Whose queries.
            parts: Whose passages.
        """
        counts = {"queries": 0, "passages": 0}
        for kind, names in (("queries", query_sets), ("passages", parts)):
            for name in names:
                if (kind, name) not in self._padded:
                    self._padded[kind, name] = sum(text != text.strip() for text in self._read(kind, name))
                counts[kind] += self._padded[kind, name]
        return counts

    def _read(self, kind: str, name: str) -> Iterable[str]:
        """The texts of a query set or part, with titles as mteb joins them."""
        if kind == "queries":
            return self.queries[name].texts
        passages = self.passages[name]
        if passages.titles is None:
            return passages.texts
        pairs = zip(passages.titles, passages.texts, strict=True)
        return (f"{title} {text}" if title else text for title, text in pairs)

    def id_ranks(self, parts: Sequence[str]) -> NDArray[np.int32]:
        """Place of each passage of these parts, side by side, among all of them in ascending order of id.

        Comparing these numbers is comparing the ids as UTF-8 bytes, the rule by which trec_eval breaks ties.
        """
        key = tuple(parts)
        if key not in self._id_ranks:
            ids = pa.chunked_array(
                [
                    pa.array(passages.ids[start : start + 50_000], pa.large_binary())
                    for passages in (self.passages[part] for part in key)
                    for start in range(0, len(passages), 50_000)
                ],
                pa.large_binary(),
            )
            place = np.empty(len(ids), dtype=np.int32)
            place[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids), dtype=np.int32)
            self._id_ranks[key] = place
        return self._id_ranks[key]


@dataclass(frozen=True)
class DataOptions:
    """What can be chosen about the data.

    Attributes:
        data_dir: The user's data folder; None for the environment variable or the download cache.
        passage: What text stands for a candidate sentence (collections in LAReQA's format).
        pool: Which passages (MIRACL).
        translations: Queries in other languages than those they were written in (MIRACL).
    """

    data_dir: Path | None = None
    passage: PassageText = PassageText.SENTENCE
    pool: PassagePool = PassagePool.FULL
    translations: Translations | None = None


class Reader(Protocol):
    """Knows where a collection lies, and reads it."""

    @property
    def collection(self) -> str:
        """Its name."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Its parts, one for each language."""

    @property
    def notice(self) -> str:
        """What a user of the data has to be told, e.g. about their licence; empty for nothing."""

    def load(self, options: DataOptions, languages: Some[str] | None = None) -> Collection:
        """The collection as the options ask for it, the same object for the same arguments within a process.

        Args:
            options: What was chosen.
            languages: The parts that are needed; None for all. Where the data are small all may be read.

        Raises:
            DataError: If the data cannot be read, or are not what they should be.
        """

    def sha256(self, options: DataOptions, languages: Some[str] | None = None) -> Mapping[str, str]:
        """`Collection.sha256`, by a shorter way where there is one."""

    def saved_options(self, options: DataOptions, subsets: Some[str]) -> Mapping[str, str]:
        """What of the options changes the data of these subsets, as it is saved with results; empty for defaults."""

    def missing(self, options: DataOptions, subset: str) -> str | None:
        """Why a subset of its tasks cannot be run with these options, and what to do; None if it can."""


def text_id(collection: str, language: str, original: str) -> str:
    """The id of a text of one of our collections: ``<8 hex>.<language>.<original id>``.

    Ids break ties between equal scores. Were the language the first thing in them, ties would favour a language; the
    leading hash of (collection, language, original id) makes the order arbitrary but fixed. It also keeps apart the
    ids that collide between languages.
    """
    digest = sha256_of_text(f"{collection}\t{language}\t{original}")
    return f"{digest[:8]}.{language}.{original}"


def judge(judged: dict[str, dict[str, int]], query: str, document: str, grade: int, where: str) -> None:
    """Add a judgment to those by query and document. The same one may be given again, as beir's files do.

    Raises:
        DataError: If the document has another grade for this query already.
    """
    if (known := judged.setdefault(query, {}).setdefault(document, grade)) != grade:
        raise DataError(
            f"{where}: document {shown(document)} has score {grade} for query {shown(query)}, but {known} before"
        )


def clusters(groups: Iterable[Iterable[str]]) -> dict[str, int]:
    """Connected components of ids that share a group: id -> component, numbered from 0 in order of appearance.

    Groups are, for instance, the questions of one paragraph in one language; with the groups of all languages given,
    two questions are together when they share a paragraph in *any* language.
    """
    parent: dict[str, str] = {}

    def root(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for group in groups:
        first: str | None = None
        for item in group:
            parent.setdefault(item, item)
            if first is None:
                first = item
            else:
                parent[root(item)] = root(first)
    numbers: dict[str, int] = {}
    return {item: numbers.setdefault(root(item), len(numbers)) for item in parent}
