"""Parallel queries and passages for training: which there are, in which languages, and which belong together.

A `ParallelTexts` is one source of training data. It holds no text of its own: its columns are Arrow, usually
memory-mapped, and are read row by row when asked. Needs neither torch nor datasets.

Terms:

- A *row* is a query with its passage, and its hard negatives if there are any, in every language that has them.
- A *role* is what a text is in a row: ``query``, ``passage``, ``negative_1``, ``negative_2``, ...
- An *item* is a row in one query language and one passage language, which is what a model is trained on. Its hard
  negatives are in the language of the passage.
- A *group* is a set of rows whose passages answer the same questions: copies or translations of each other, or the same
  answer. Passages of one group must never be negatives of each other, nor hard negatives of its queries. What the data
  show to be of one group, `ParallelTexts.joined` finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.data.collection import Column, Strings, take
from hybrid_bench.errors import DataError, RequestError, shown
from hybrid_bench.languages import did_you_mean

__all__ = ["MOST_JOINED", "NEGATIVE_GROUP", "Item", "ItemParts", "Items", "ParallelTexts", "Rows"]

Rows = NDArray[np.int64] | NDArray[np.int32]
"""(n,), a whole number for each row."""

#: A column of the parallel schema: the groups of a hard negative, by its number.
NEGATIVE_GROUP = re.compile(r"negative(?:_(\d+))?_group")
# And one of texts: role, number of the hard negative, language.
_COLUMN = re.compile(r"(query|passage|negative(?:_(\d+))?)_([A-Za-z][A-Za-z0-9-]*)")
# Groups share an int64 with the number of their source, see `ParallelDataset`.
_MOST_GROUPS = 2**40
# Rows that are looked at together where a whole column is read.
_PIECE = 2**20
#: Up to so many rows times languages, rows of one group are looked for without being asked: it takes seconds.
MOST_JOINED = 5_000_000


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
        question_ids: (n,), the id of each row's question, the same in every language and for each of its answers, empty
            for none; None where there is none.
        notes: What a reader of the model card has to be told.
        answers_known: Whether the groups tell all that can be seen in the data, see `joined`.

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
    question_ids: Strings | None = None
    notes: tuple[str, ...] = ()
    answers_known: bool = False

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
        if self.question_ids is not None and len(self.question_ids) != len(self):
            raise DataError(
                f"{self.name}: {len(self.question_ids):,} question ids, but {len(self):,} rows: give one for each"
            )
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
    def from_table(cls, name: str, table: pa.Table) -> Self:
        """From the project's own schema: one column for each role and language.

        Args:
            name: Name of the source.
            table: Strings in ``query_<lang>`` and ``passage_<lang>``, optionally ``negative_<lang>`` or
                ``negative_1_<lang>``, ``negative_2_<lang>``, ...; a null or a text of white space alone means that
                there is no translation. Optionally ``group``, strings or whole numbers, by which rows belong
                together; a null is a group of its own. Beside it, optionally ``negative_group`` or
                ``negative_1_group``, ...: the group that a hard negative answers, null where none is known. Optionally
                ``question_id``. What the texts show besides is found by `joined`.

        Raises:
            DataError: A column is missing, unknown or not of its type, or what `ParallelTexts` refuses.
        """
        roles: dict[str, dict[str, Column]] = {"query": {}, "passage": {}}
        against: dict[int, str] = {}
        for column in table.column_names:
            if column in {"group", "question_id"}:
                continue
            if found := NEGATIVE_GROUP.fullmatch(column):
                if against.setdefault(int(found[1] or 1), column) != column:
                    raise DataError(f"{name}: the columns of groups of negative_1 are there twice; keep one")
                continue
            found = _COLUMN.fullmatch(column)
            if found is None:
                raise DataError(
                    f"{name}: unknown column {shown(column)}; a parallel table has query_<language>, "
                    "passage_<language>, negative_<language>, group, negative_group and question_id: rename it or take "
                    "it out"
                )
            role = "negative_1" if found[1] == "negative" else found[1]
            if found[3] in roles.setdefault(role, {}):
                raise DataError(f"{name}: the columns of {role} in '{found[3]}' are there twice; keep one")
            roles[role][found[3]] = Column(_texts(name, column, table[column]))
        count = len(roles) - 2
        if unexpected := [f"negative_{k}" for k in range(1, count + 1) if f"negative_{k}" not in roles]:
            raise DataError(f"{name}: missing column {unexpected[0]}_<language>: number hard negatives from 1, no gaps")
        if odd := [column for k, column in against.items() if k > count]:
            raise DataError(f"{name}: {odd[0]} is there, but not the hard negative: add its texts, or leave it out")
        groups: list[NDArray[np.int64] | None] = [None] * (1 + count)
        if "group" in table.column_names:
            numbered = [
                None if each is None else table[each] for each in ("group", *map(against.get, range(1, count + 1)))
            ]
            groups = _groups(name, numbered)
        elif against:
            raise DataError(f"{name}: {min(against.values())} is there, but the column group is missing: add it")
        return cls(
            name,
            roles["query"],
            roles["passage"],
            tuple(roles[f"negative_{k}"] for k in range(1, count + 1)),
            groups=groups[0],
            negative_groups=tuple(groups[1:]) if against else (),
            question_ids=_ids(name, table["question_id"]) if "question_id" in table.column_names else None,
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

    def select(self, rows: ArrayLike) -> Self:
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
            question_ids=None if self.question_ids is None else tuple(take(self.question_ids, chosen.astype(np.int64))),
        )

    def joined(self) -> Self:
        """With all rows in one group that the data show to answer the same questions.

        These are rows that have a question id, a query or a passage in common, word for word but for white space at the
        ends, whatever the language; and on from row to row, with the groups that there were: an answer that is told
        apart in one language may be the same sentence in another. A hard negative that is the passage of a row, in any
        language, is of that row's group. Reads every text: see `with_answers` for sources of millions of rows.

        A group has the number that its first row had. Groups of hard negatives that are those of no row become -1.
        """
        if self.answers_known:
            return self
        # scipy.sparse takes 0.2 s to import, and nothing else here needs it.
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        rows = np.arange(len(self), dtype=np.int64)
        # Rows, groups, question ids, texts and hard negatives are nodes of one graph; its components are the groups.
        names, group = np.unique(rows if self.groups is None else self.groups, return_inverse=True)
        first_group, nodes = len(self), len(self) + len(names)
        starts, ends = [rows], [first_group + group]
        if self.question_ids is not None:
            asked, code, count = _coded([(rows, pa.chunked_array([pa.array(list(self.question_ids), pa.string())]))])[
                :3
            ]
            starts, ends, nodes = [*starts, asked], [*ends, nodes + code], nodes + count
        for role in ("query", "passage"):
            there, code, count, known = _coded([self._stripped(role, language) for language in self.languages])
            first_text = nodes
            starts, ends, nodes = [*starts, there], [*ends, nodes + code], nodes + count
        first_negative = nodes
        for k, role in enumerate(self.roles[2:]):
            nodes, base = nodes + len(self), nodes
            for language in self.languages:
                there, texts = self._stripped(role, language)
                # What is no row's passage joins nothing: a word that stands for "none" would join all there are.
                code = pc.fill_null(pc.index_in(texts, value_set=known), -1).to_numpy().astype(np.int64)
                starts, ends = [*starts, base + there[code >= 0]], [*ends, first_text + code[code >= 0]]
            given = self.negative_groups[k] if self.negative_groups else None
            if given is not None:
                place = np.minimum(np.searchsorted(names, given), len(names) - 1)
                of_a_row = np.flatnonzero(names[place] == given)
                starts, ends = [*starts, base + of_a_row], [*ends, first_group + place[of_a_row]]
        left, right = np.concatenate(starts), np.concatenate(ends)
        graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(nodes, nodes))
        count, component = connected_components(graph, directed=False)
        found, first_row = np.unique(component[: len(self)], return_index=True)
        number = np.full(count, -1, dtype=np.int64)
        number[found] = self.group_of(first_row)
        negatives = [number[component[start : start + len(self)]] for start in range(first_negative, nodes, len(self))]
        any_known = any((each >= 0).any() for each in negatives)
        return replace(
            self,
            groups=self.groups if len(found) == len(names) else number[component[: len(self)]],
            negative_groups=tuple(negatives) if any_known else (),
            answers_known=True,
        )

    def with_answers(self) -> Self:
        """`joined` where that takes seconds; where it would take longer, with a note that it was not done."""
        if self.answers_known or len(self) * len(self.languages) <= MOST_JOINED:
            return self.joined()
        note = (
            f"too large to look for rows of the same query or passage ({len(self):,} rows): where they meet in a batch"
            " and are not in one group, each is a wrong answer to the other's query"
        )
        return self if note in self.notes else replace(self, notes=(*self.notes, note))

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

    def _stripped(self, role: str, language: str) -> tuple[NDArray[np.int64], pa.ChunkedArray]:
        """The rows that have a text here, and the texts, without white space at the ends."""
        column, mapping = self._column(role, language)
        rows = np.flatnonzero(self.available(role, language, np.arange(len(self), dtype=np.int64)))
        if mapping is None:
            texts = column._data.drop_null()
        else:
            texts = pa.chunked_array([pa.array(column.take(mapping[rows].astype(np.int64)), pa.large_string())])
        trimmed = [_without_ends(chunk) for chunk in texts.cast(pa.large_string()).chunks]
        return rows, pa.chunked_array(trimmed, pa.large_string())

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


class Item(int):
    """The number of an item, which may be counted among the rows of several data sets.

    sentence-transformers draws from a dictionary of data sets by adding to each number how many rows stand before its
    data set; torch's ConcatDataset looks for the data set by the sum, and takes that off again. Here sums, differences
    and comparisons are those of the item's row, and the number stays what it is.
    """

    row: int
    before: int

    def __new__(cls, number: int, row: int, before: int = 0) -> Item:
        """An item by its number, its row among all rows of its data set, and the rows that stand before that."""
        made = super().__new__(cls, number)
        made.row, made.before = row, before
        return made

    def __add__(self, rows: int) -> Item:
        return Item(int(self), self.row, self.before + rows)

    __radd__ = __add__

    def __sub__(self, rows: int) -> Item:
        return Item(int(self), self.row, self.before - rows)

    def __lt__(self, bound: int) -> bool:
        return self.row + self.before < bound

    def __reduce__(self) -> tuple[Any, ...]:
        return Item, (int(self), self.row, self.before)


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

    def named(self, numbers: NDArray[np.int64]) -> list[Item]:
        """These numbers as such that can be counted among other data sets, see `Item`."""
        return [Item(number, number % self.n_rows) for number in numbers.tolist()]

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


def _without_ends(chunk: pa.Array) -> pa.Array:
    """Texts without white space at their ends; the same array where none has any, which is mapped, not in memory."""
    trimmed = pc.utf8_trim_whitespace(chunk)
    return chunk if trimmed.equals(chunk) else trimmed


def _coded(
    columns: Sequence[tuple[NDArray[np.int64], pa.ChunkedArray]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, pa.Array]:
    """Rows and numbers of their texts over all columns, how many texts there are, and what they are.

    An empty text is left out.
    """
    chunks = [chunk for _, texts in columns for chunk in texts.chunks]
    coded = pa.chunked_array(chunks, columns[0][1].type).dictionary_encode().unify_dictionaries()
    known = coded.chunk(0).dictionary if coded.num_chunks else pa.array([], columns[0][1].type)
    numbers = [chunk.indices.to_numpy().astype(np.int64) for chunk in coded.chunks]
    code = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    rows = np.concatenate([rows for rows, _ in columns])
    named = np.append(pc.binary_length(known).to_numpy(zero_copy_only=False) > 0, True)[code]
    return rows[named], code[named], len(known), known


def _groups(name: str, columns: Sequence[pa.ChunkedArray | None]) -> list[NDArray[np.int64] | None]:
    """Numbers for groups, from 0, one number for the same in all columns.

    Args:
        name: Name of the source.
        columns: Of the rows, then of each hard negative, as far as there is one. A null gets a number for itself in the
            first column, -1 in the others.
    """
    there = [column for column in columns if column is not None]
    for column in there:
        if not (
            pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        ):
            raise DataError(f"{name}: the column group holds {column.type}: give strings or whole numbers")
    kind = there[0].type if all(column.type == there[0].type for column in there) else pa.large_string()
    together = pa.chunked_array([chunk for column in there for chunk in column.cast(kind).chunks], kind)
    coded = together.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    numbers: NDArray[np.int64] = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    length = len(there[0])
    alone = np.flatnonzero(numbers[:length] < 0)
    numbers[alone] = len(coded.dictionary) + np.arange(len(alone))
    pieces = iter(numbers.reshape(-1, length))
    return [None if column is None else next(pieces) for column in columns]


def _ids(name: str, data: pa.ChunkedArray) -> Column:
    """Ids as strings."""
    kind = data.type
    if not any(
        of(kind) for of in (pa.types.is_null, pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
    ):
        raise DataError(f"{name}: the column question_id holds {kind}: give strings or whole numbers")
    return Column(data.cast(pa.string()))
