"""Sources of training data whose texts say what they are, so that what comes out can be checked by reading it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hybrid_bench.data.collection import Column
from hybrid_bench.training.texts import ParallelTexts

__all__ = ["many_rows", "parallel", "table_of", "text_of"]


def text_of(name: str, role: str, row: int, language: str) -> str:
    """The text of a row."""
    return f"{name} {role} {row} {language}"


def table_of(
    name: str, rows: int, languages: Sequence[str], *, missing: float = 0.0, negatives: int = 0, seed: int = 0
) -> pa.Table:
    """A parallel table in several chunks, with this share of its texts missing."""
    rng = np.random.default_rng(seed)
    columns = {}
    for role in ("query", "passage", *(f"negative_{k}" for k in range(1, negatives + 1))):
        for language in languages:
            there = rng.random(rows) >= missing
            columns[f"{role}_{language}"] = pa.chunked_array(
                [
                    pa.array(
                        [text_of(name, role, row, language) if there[row] else None for row in piece.tolist()],
                        pa.string(),
                    )
                    for piece in np.array_split(np.arange(rows), 3)
                ]
            )
    return pa.table(columns)


def parallel(
    name: str,
    rows: int,
    languages: Sequence[str],
    *,
    missing: float = 0.0,
    negatives: int = 0,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> ParallelTexts:
    """The same as a source."""
    table = table_of(name, rows, languages, missing=missing, negatives=negatives, seed=seed)
    if groups is not None:
        table = table.append_column("group", pa.array(groups))
    return ParallelTexts.from_table(name, table)


def many_rows(name: str, rows: int, languages: Sequence[str]) -> ParallelTexts:
    """A source of any size that takes hardly any memory: all its rows read the same text, and pass for others."""
    columns = {code: Column(pa.chunked_array([pa.array([f"text in {code}"])])) for code in languages}
    same = np.zeros(rows, dtype=np.int32)
    return ParallelTexts(name, columns, columns, query_rows=same, passage_rows=same, answers_known=True)
