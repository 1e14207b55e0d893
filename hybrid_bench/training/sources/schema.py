"""What a reader gives: `SourceTexts`, and the names of columns in the schema that all formats are brought into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.errors import DataError, shown
from hybrid_bench.languages import LANGUAGES
from hybrid_bench.training.texts import NEGATIVE_GROUP, ParallelTexts

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = [
    "ABOUT",
    "LANGUAGE_CODE",
    "LANGUAGE_NAMES",
    "ROLE",
    "SourceTexts",
    "column_parts",
    "is_about",
    "need_languages",
    "of_schema",
    "string_in",
    "with_commit",
]

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
LANGUAGE_NAMES = {code: language.name.lower() for code, language in LANGUAGES.items()}
LANGUAGE_NAMES |= {code: name.lower() for code, name in _MORE_LANGUAGES.items()}
LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
ROLE = re.compile(r"query|passage|negative(_[1-9]\d*)?")
#: Columns that are not in a language, besides the groups of negatives, see `is_about`: the first two are of the schema
#: of `ParallelTexts`, the last is for the guard.
ABOUT = ("group", "question_id", "article")


@dataclass(frozen=True)
class SourceTexts(ParallelTexts):
    """Parallel texts, and what is known of where each row comes from.

    Attributes:
        article: (n,), int32, number of the article, or other document, that a row's passage is from; -1 where that is
            not known. None where it is known of no row.
        titles: By number of the article, its titles in all languages as they stand there; may be empty.
        collection: Name of the collection of this project that it is, or is a part of; else empty.
    """

    article: NDArray[np.int32] | None = None
    titles: tuple[frozenset[str], ...] = ()
    collection: str = ""

    def select(self, rows: ArrayLike) -> Self:
        """These rows, with their articles."""
        kept = super().select(rows)
        return kept if self.article is None else replace(kept, article=self.article[np.asarray(rows)])


def is_about(column: str) -> bool:
    """Whether a column of our schema is about rows as a whole, not a text in a language."""
    return column in ABOUT or NEGATIVE_GROUP.fullmatch(column) is not None


def column_parts(column: str) -> tuple[str, str, str]:
    """A column as a whole, its role and its language; these two are empty of one without a language."""
    role, _, code = column.rpartition("_")
    return (column, role, code) if ROLE.fullmatch(role) and not is_about(column) else (column, "", "")


def of_schema(spec: SourceSpec, table: pa.Table) -> SourceTexts:
    """A table with our columns as a source."""
    there = {code for _, _, code in map(column_parts, table.column_names) if code}
    need_languages(spec, there, spec.place)
    articles = table["article"] if "article" in table.column_names else None
    texts = SourceTexts.from_table(spec.name, table if articles is None else table.drop_columns("article"))
    if spec.languages:  # in the order in which they were asked for
        texts = replace(
            texts,
            queries={code: texts.queries[code] for code in spec.languages},
            passages={code: texts.passages[code] for code in spec.languages},
            negatives=tuple({code: each[code] for code in spec.languages} for each in texts.negatives),
        )
    if articles is not None:
        coded = articles.cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.unify_dictionaries().combine_chunks()
        article = pc.fill_null(coded.indices.cast(pa.int32()), -1).to_numpy(zero_copy_only=False)
        titles = tuple(frozenset([title]) for title in coded.dictionary.to_pylist())
        texts = replace(texts, article=article, titles=titles)
    return texts


def need_languages(spec: SourceSpec, there: Iterable[str], where: str) -> None:
    """Refuse a source that lacks a language that is asked for."""
    there = sorted(there)
    for code in spec.languages:
        if code not in there:
            has = f"it has {', '.join(there)}" if there else "it has none"
            raise DataError(f"{spec.name}: {where} has nothing in '{code}': {has}")


def with_commit(texts: SourceTexts, commit: str) -> SourceTexts:
    """With a note of the commit that a data set of the Hub was read at."""
    return replace(texts, notes=(*texts.notes, f"revision {commit}")) if commit else texts


def string_in(row: Any, name: str, where: str) -> str:
    """The string of this name in a JSON object."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str):
        raise DataError(
            f"{where}: '{name}' should be a string, found {shown(value if isinstance(row, Mapping) else row)}"
        )
    return value
