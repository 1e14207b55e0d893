"""Parallel queries and passages for training: which there are, in which languages, and which belong together.

A `ParallelTexts` is one source of training data. It holds no text of its own: its columns are Arrow, usually
memory-mapped, and are read row by row when asked. Needs neither torch nor datasets.

Terms:

- A *row* is a query with its passage, and its hard negatives if there are any, in every language that has them.
- A *role* is what a text is in a row: ``query``, ``passage``, ``negative_1``, ``negative_2``, ...
- An *item* is a row in one query language and one passage language, which is what a model is trained on. Its hard
  negatives are in the language of the passage.
- A *group* is a set of rows whose passages answer the same questions: copies or translations of each other, or the same
  answer. Passages of one group must never be negatives of each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.data.collection import Column
from hybrid_bench.errors import DataError, RequestError, shown
from hybrid_bench.languages import did_you_mean

__all__ = ["ItemParts", "Items", "ParallelTexts", "Rows"]

Rows = NDArray[np.int64] | NDArray[np.int32]
"""(n,), a whole number for each row."""

# A column of the parallel schema: role, number of the hard negative, language.
_COLUMN = re.compile(r"(query|passage|negative(?:_(\d+))?)_([A-Za-z][A-Za-z0-9-]*)")
# Groups share an int64 with the number of their source, see `ParallelDataset`.
_MOST_GROUPS = 2**40
# Rows that are looked at together where a whole column is read.
_PIECE = 2**20


@dataclass(frozen=True, eq=False)
class ParallelTexts:
    """One source of training data.

    Attributes:
        name: Its name in messages, notes and the model card.
        queries: Queries by language code. A null in Arrow means that there is no translation.
        passages: Passages by language code, in the same languages.
        negatives: The first, second, ... hard negatives by language code, in the same languages.
        query_rows: (n,), the row of `queries` that each row reads, -1 for none; None where it is the row itself. With
            this and the next two, millions of pairs over collections need not be written out in every language.
        passage_rows: (n,), the same for `passages`.
        negative_rows: The same for each of `negatives`; empty where all are None.
        groups: (n,), 0 to 2^40 - 1, the same number for all rows of a group; None where every row is its own group.
        negative_groups: For each of `negatives`, (n,), the group that the hard negative belongs to, numbered as
            `groups` are, -1 where it is not known; empty where nothing is. A batch then holds no hard negative that
            answers another of its queries.
        notes: What a reader of the model card has to be told.

    Raises:
        DataError: Languages or lengths do not fit together, a language has no text, or a number is out of its range.
    """

    name: str
    queries: Mapping[str, Column]
    passages: Mapping[str, Column]
    negatives: tuple[Mapping[str, Column], ...] = ()
    query_rows: Rows | None = None
    passage_rows: Rows | None = None
    negative_rows: tuple[Rows | None, ...] = ()
    groups: Rows | None = None
    negative_groups: tuple[Rows | None, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.queries:
            raise DataError(f"{self.name}: no languages; give queries and passages in at least one")
        for what, count in (("rows", len(self.negative_rows)), ("groups", len(self.negative_groups))):
            if count not in {0, len(self.negatives)}:
                raise DataError(
                    f"{self.name}: {what} for {count} hard negatives, but texts for {len(self.negatives)}: "
                    "give as many, or none"
                )
        for role in self.roles:
            self._check_role(role)
        if not len(self):
            raise DataError(f"{self.name}: no rows; leave the source out")
        for what, numbers, least, bound in self._numbers():
            if numbers is None:
                continue
            if len(numbers) != len(self):
                raise DataError(f"{self.name}: {len(numbers):,} {what}, but {len(self):,} rows: give one for each")
            low, high = int(numbers.min()), int(numbers.max())
            if low < least or high >= bound:
                raise DataError(f"{self.name}: {what} from {low:,} to {high:,}, which must be {least} to {bound - 1:,}")

    def __len__(self) -> int:
        """Number of rows, n."""
        rows = self.query_rows if self.query_rows is not None else self.passage_rows
        return len(next(iter(self.queries.values()))) if rows is None else len(rows)

    @property
    def languages(self) -> tuple[str, ...]:
        """Language codes, in the order of `queries`."""
        return tuple(self.queries)

    @property
    def roles(self) -> tuple[str, ...]:
        """``query``, ``passage``, then ``negative_1``, ... in order."""
        return ("query", "passage", *(f"negative_{k}" for k in range(1, len(self.negatives) + 1)))

    @classmethod
    def from_table(cls, name: str, table: pa.Table) -> ParallelTexts:
        """From the project's own schema: one column for each role and language.

        Args:
            name: Name of the source.
            table: Strings in ``query_<lang>`` and ``passage_<lang>``, optionally ``negative_<lang>`` or
                ``negative_1_<lang>``, ``negative_2_<lang>``, ...; a null or a text of white space alone means that
                there is no translation. Optionally ``group``, strings or whole numbers, by which rows belong
                together; a null is a group of its own. Without it, so is every row: see `joined`.

        Raises:
            DataError: A column is missing, unknown or not of its type, or what `ParallelTexts` refuses.
        """
        roles: dict[str, dict[str, Column]] = {"query": {}, "passage": {}}
        for column in table.column_names:
            if column == "group":
                continue
            found = _COLUMN.fullmatch(column)
            if found is None:
                raise DataError(
                    f"{name}: unknown column {shown(column)}; a parallel table has query_<language>, "
                    "passage_<language>, negative_<language> and group: rename it or take it out"
                )
            role = "negative_1" if found[1] == "negative" else found[1]
            if found[3] in roles.setdefault(role, {}):
                raise DataError(f"{name}: the columns of {role} in '{found[3]}' are there twice; keep one")
            roles[role][found[3]] = Column(_texts(name, column, table[column]))
        count = len(roles) - 2
        if unexpected := [f"negative_{k}" for k in range(1, count + 1) if f"negative_{k}" not in roles]:
            raise DataError(f"{name}: missing column {unexpected[0]}_<language>: number hard negatives from 1, no gaps")
        return cls(
            name,
            roles["query"],
            roles["passage"],
            tuple(roles[f"negative_{k}"] for k in range(1, count + 1)),
            groups=_groups(name, table["group"]) if "group" in table.column_names else None,
        )

    def texts(self, role: str, language: str, rows: Rows) -> list[str]:
        """The texts of these rows, in this order; ``""`` where there is none.

        Args:
            role: One of `roles`.
            language: One of `languages`.
            rows: (m,), 0 to n - 1.

        Raises:
            RequestError: The source does not have this role or language.
        """
        column, mapping = self._column(role, language)
        places = np.asarray(rows, dtype=np.int64) if mapping is None else mapping[rows].astype(np.int64)
        if mapping is None or role not in self._gaps:
            return column.take(places)
        found = np.full(len(places), "", dtype=object)
        found[places >= 0] = column.take(places[places >= 0])
        return list(found)

    def complete(self, role: str, language: str) -> bool:
        """Whether every row has a text here; known without a look at the rows."""
        column, _ = self._column(role, language)
        return role not in self._gaps and column._data.null_count == 0

    def available(self, role: str, language: str, rows: Rows) -> NDArray[np.bool_]:
        """(m,), whether each of these rows has a text; arguments and errors as in `texts`."""
        column, mapping = self._column(role, language)
        places = rows if mapping is None else mapping[rows]
        known = places >= 0
        if column._data.null_count:
            bits = self._present[role, language] if (role, language) in self._present else self._mark(role, language)
            # Place -1 reads the last bit, which `known` then overrules.
            known &= (bits[places >> 3] >> (places & 7).astype(np.uint8) & 1).astype(np.bool_)
        return np.asarray(known, dtype=np.bool_)

    @cached_property
    def whole(self) -> bool:
        """Whether every row has every text in every language; known without a look at the rows."""
        return all(self.complete(role, language) for role in self.roles for language in self.languages)

    def readable(self, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """In which languages these rows have what an item needs: two arrays, (m, languages).

        The first says where there is a query, the second where there are a passage and all hard negatives.
        """
        asked, answered = np.ones((2, len(rows), len(self.languages)), dtype=np.bool_)
        for place, language in enumerate(self.languages):
            for role in self.roles:
                if not self.complete(role, language):
                    side = asked if role == "query" else answered
                    side[:, place] &= self.available(role, language, rows)
        return asked, answered

    def group_of(self, rows: Rows) -> NDArray[np.int64]:
        """(m,), the group of each of these rows."""
        return np.asarray(rows if self.groups is None else self.groups[rows], dtype=np.int64)

    def select(self, rows: ArrayLike) -> ParallelTexts:
        """These rows alone, in this order, over the same columns: no text is copied.

        Args:
            rows: (m,), row numbers, or (n,) booleans that say which rows to keep.

        Raises:
            RequestError: A row that is not there, or none at all.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            if len(chosen) != len(self):
                raise RequestError(f"{self.name}: {len(chosen):,} booleans for {len(self):,} rows: give one for each")
            chosen = np.flatnonzero(chosen)
        if not len(chosen):
            raise RequestError(f"{self.name}: no row is left of {len(self):,}: leave the source out")
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise RequestError(
                f"{self.name}: rows {chosen.min():,} to {chosen.max():,} of a source of {len(self):,} rows"
            )
        small = np.int32 if len(self) < 2**31 else np.int64

        def of(numbers: Rows | None) -> Rows:
            return np.asarray(chosen if numbers is None else numbers[chosen], dtype=small if numbers is None else None)

        negative_rows = self.negative_rows or (None,) * len(self.negatives)
        groups = None if self.groups is None else self.groups[chosen]
        if groups is None and self.negative_groups:  # which number rows as they were
            groups = of(None)
        return replace(
            self,
            query_rows=of(self.query_rows),
            passage_rows=of(self.passage_rows),
            negative_rows=tuple(of(numbers) for numbers in negative_rows),
            groups=groups,
            negative_groups=tuple(None if numbers is None else numbers[chosen] for numbers in self.negative_groups),
        )

    def joined(self) -> ParallelTexts:
        """With rows in one group, too, that have the same passage, word for word, in any language.

        An answer that is told apart in one language may be the same sentence in another, so groups are joined over all
        of them, and with the groups that there were. Reads every passage: for sources of millions of rows, give
        `groups` instead. Groups of hard negatives that were known are translated; the texts of negatives are not read.
        """
        # scipy.sparse takes 0.2 s to import, and nothing else here needs it.
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        rows = np.arange(len(self), dtype=np.int64)
        # Rows, groups and passages are nodes of one graph; its components are the groups that are asked for.
        names, group = np.unique(rows if self.groups is None else self.groups, return_inverse=True)
        first_group, nodes = len(self), len(self) + len(names)
        starts, ends = [rows], [first_group + group]
        for language in self.languages:
            there = rows[self.available("passage", language, rows)]
            coded = pa.array(self.texts("passage", language, there), pa.large_string()).dictionary_encode()
            starts, ends = [*starts, there], [*ends, nodes + coded.indices.to_numpy().astype(np.int64)]
            nodes += len(coded.dictionary)
        left, right = np.concatenate(starts), np.concatenate(ends)
        graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(nodes, nodes))
        component = connected_components(graph, directed=False)[1].astype(np.int64)

        def translated(numbers: Rows) -> NDArray[np.int64]:
            place = np.minimum(np.searchsorted(names, numbers), len(names) - 1)
            # The group of no row needs no number: nothing can clash with it.
            return np.where(names[place] == numbers, component[first_group + place], -1)

        return replace(
            self,
            groups=component[: len(self)],
            negative_groups=tuple(None if each is None else translated(each) for each in self.negative_groups),
        )

    # -- within ---------------------------------------------------------------------------------------------------

    def _table(self, role: str) -> tuple[Mapping[str, Column], Rows | None]:
        """The columns of a role, and the row of theirs that each row reads."""
        if role == "query":
            return self.queries, self.query_rows
        if role == "passage":
            return self.passages, self.passage_rows
        if role not in self.roles:
            raise RequestError(f"{self.name} has no {shown(role)}: {did_you_mean(role, self.roles)}")
        k = int(role.removeprefix("negative_")) - 1
        return self.negatives[k], self.negative_rows[k] if self.negative_rows else None

    def _column(self, role: str, language: str) -> tuple[Column, Rows | None]:
        columns, mapping = self._table(role)
        if language not in columns:
            raise RequestError(f"{self.name} has no '{language}': {did_you_mean(language, columns)}")
        return columns[language], mapping

    def _check_role(self, role: str) -> None:
        """Whether the columns of a role fit the queries and each other."""
        columns, mapping = self._table(role)
        if odd := sorted({*columns} ^ {*self.queries}):
            here, there = ("query", role) if odd[0] in self.queries else (role, "query")
            raise DataError(
                f"{self.name}: {here}_{odd[0]} is there, but the column {there}_{odd[0]} is missing: add it, or leave "
                f"'{odd[0]}' out"
            )
        lengths = {language: len(column) for language, column in columns.items()}
        (first, length), *others = lengths.items()
        for language, other in others:
            if other != length:
                raise DataError(
                    f"{self.name}: {role}_{first} has {length:,} rows but {role}_{language} {other:,}: "
                    "one row must be the same in all languages"
                )
        if mapping is None and length != len(self):
            raise DataError(
                f"{self.name}: {length:,} rows of {role}, but {len(self):,} rows: give both in the same order, or "
                f"the row that each one reads"
            )
        for language, column in columns.items():
            if column._data.null_count == length:
                raise DataError(
                    f"{self.name}: no row has a {role} in '{language}': leave the language out, or add its texts"
                )

    def _numbers(self) -> Iterator[tuple[str, Rows | None, int, int]]:
        """What numbers rows, with its least value and what it must stay below."""
        for role in self.roles:
            columns, mapping = self._table(role)
            yield f"rows of {role}", mapping, -1, len(next(iter(columns.values())))
        yield "groups", self.groups, 0, _MOST_GROUPS
        for k, numbers in enumerate(self.negative_groups, 1):
            yield f"groups of negative_{k}", numbers, -1, _MOST_GROUPS

    @cached_property
    def _gaps(self) -> frozenset[str]:
        """Roles that some rows lack in every language."""
        found = {role: self._table(role)[1] for role in self.roles}
        return frozenset(role for role, mapping in found.items() if mapping is not None and mapping.min() < 0)

    @cached_property
    def _present(self) -> dict[tuple[str, str], NDArray[np.uint8]]:
        """By role and language, one bit for each row of the column, lowest first."""
        return {}

    def _mark(self, role: str, language: str) -> NDArray[np.uint8]:
        data = self._column(role, language)[0]._data
        pieces = [
            np.packbits(data.slice(start, _PIECE).is_valid().to_numpy(), bitorder="little")
            for start in range(0, len(data), _PIECE)
        ]
        return self._present.setdefault((role, language), np.concatenate(pieces))


class ItemParts(NamedTuple):
    """What items are: (m,) arrays.

    Attributes:
        source: Position of the source.
        row: Row of the source.
        query: Position of the query's language in the source's languages; -1 where an index asks for a row as such.
        passage: The same of the passage's language.
    """

    source: NDArray[np.int64]
    row: NDArray[np.int64]
    query: NDArray[np.int64]
    passage: NDArray[np.int64]


class Items:
    """One number for every item of several sources, so that nothing of size rows x languages^2 is stored.

    The first N numbers, for N rows in all, ask for a row in whatever language it is whole in. Then come N for each pair
    of languages: number (1 + q L + p) N + r is row r in query language q and passage language p of the L languages of
    its source.

    Args:
        sources: At least one, of different names.

    Raises:
        RequestError: There is no source, or two have one name.
    """

    def __init__(self, sources: Sequence[ParallelTexts]) -> None:
        self.sources = tuple(sources)
        if not self.sources:
            raise RequestError("no sources: give at least one ParallelTexts")
        names = [source.name for source in self.sources]
        if twice := [name for name in names if names.count(name) > 1]:
            raise RequestError(f"two sources are called {shown(twice[0])}: give each its own name")
        #: Languages of all sources, in the order of their first source.
        self.languages = tuple(dict.fromkeys(code for source in self.sources for code in source.languages))
        self._starts = np.cumsum([0, *(len(source) for source in self.sources)], dtype=np.int64)
        self._counts = np.array([len(source.languages) for source in self.sources], dtype=np.int64)

    @property
    def n_rows(self) -> int:
        """Rows of all sources, N."""
        return int(self._starts[-1])

    @property
    def end(self) -> int:
        """All numbers are below this."""
        return (1 + int(self._counts.max()) ** 2) * self.n_rows

    def encode(
        self, source: int, rows: Rows, query: NDArray[np.int64] | int, passage: NDArray[np.int64] | int
    ) -> NDArray[np.int64]:
        """(m,), the numbers of items of one source; see `ItemParts` for the arguments, which must be in range."""
        pair = 1 + np.asarray(query, dtype=np.int64) * self._counts[source] + passage
        return np.asarray(pair * self.n_rows + self._starts[source] + rows, dtype=np.int64)

    def decode(self, numbers: ArrayLike) -> ItemParts:
        """What is numbered so.

        Raises:
            IndexError: A number is not an item's.
        """
        items = np.asarray(numbers, dtype=np.int64)
        pair, row = np.divmod(items, self.n_rows)
        source = np.searchsorted(self._starts, row, side="right") - 1
        count = self._counts[source]
        if len(items) and (items.min() < 0 or (pair > count**2).any()):
            raise IndexError(f"items {items.min()} to {items.max()}: not all of them are items of these sources")
        query, passage = np.divmod(pair - 1, count)
        return ItemParts(source, row - self._starts[source], query, np.where(pair > 0, passage, -1))


def _texts(name: str, column: str, data: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as Arrow strings, with null for what is blank."""
    kind = data.type.value_type if pa.types.is_dictionary(data.type) else data.type
    if pa.types.is_null(kind) or kind != data.type:
        data = data.cast(pa.large_string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"{name}: the column {column} holds {kind}, not text: give strings")
    return pa.chunked_array([_without_blanks(chunk) for chunk in data.chunks], data.type)


def _without_blanks(chunk: pa.Array) -> pa.Array:
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(chunk)), 0)
    return pc.if_else(blank, pa.scalar(None, chunk.type), chunk) if pc.any(blank).as_py() else chunk


def _groups(name: str, data: pa.ChunkedArray) -> NDArray[np.int64]:
    """Numbers for groups, from 0; a null gets one for itself."""
    kind = data.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"{name}: the column group holds {kind}: give strings or whole numbers")
    coded = data.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    alone = coded.indices.is_null().to_numpy(zero_copy_only=False)
    numbers: NDArray[np.int64] = coded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers[alone] = len(coded.dictionary) + np.arange(int(alone.sum()))
    return numbers
