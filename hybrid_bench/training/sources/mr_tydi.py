"""The kind ``mr-tydi``: questions of one language with relevant and other passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hybrid_bench.data.collection import Column, clusters
from hybrid_bench.errors import DataError, shown
from hybrid_bench.training.sources.cache import arrow_table, file_identity, of_rows
from hybrid_bench.training.sources.places import data_folder, one_of
from hybrid_bench.training.sources.schema import (
    LANGUAGE_NAMES,
    SourceTexts,
    column_parts,
    of_schema,
    string_in,
    with_commit,
)

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["read_mr_tydi"]


def read_mr_tydi(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """A question, its first relevant passage, and as many of its hard negatives as are asked for."""
    (code,) = spec.languages
    count, split = spec.option("negatives"), spec.option("split")
    file = f"mrtydi-v1.1-{LANGUAGE_NAMES[code]}/{split}.jsonl.gz"
    root, commit = data_folder(spec, lambda folder: [file])
    path = one_of(spec, root, file, file.removesuffix(".gz"))
    negatives = [f"negative_{k}_{code}" for k in range(1, count + 1)]
    schema = pa.schema(
        [(name, pa.string()) for name in (f"query_{code}", f"passage_{code}", *negatives, "id", "title")]
    )
    for name in ("documents", "others"):
        schema = schema.append(pa.field(name, pa.list_(pa.string())))

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

        made = [
            string_in(value, "query", where),
            text(relevant[0]),
            *map(text, others),
            *[None] * (count - len(others)),
        ]
        documents = ([each["docid"] for each in some] for some in (relevant, others))
        return [*made, string_in(value, "query_id", where), relevant[0]["title"], *documents]

    key = ("mr-tydi with others", file_identity(path), str(count), str(spec.option("titles")))
    table = arrow_table(key, lambda: (schema, of_rows(schema, path, row)))
    documents = table["documents"].to_pylist()
    group = clusters(documents)  # questions that share a relevant passage
    others = table["others"].to_pylist()
    against = np.full((count, len(table)), -1, np.int64)
    for place, docs in enumerate(others):
        against[: len(docs), place] = [group.get(each, -1) for each in docs]
    article = pa.chunked_array([pa.array([docs[0].partition("#")[0] for docs in documents])]).combine_chunks()
    coded = article.dictionary_encode()
    titles: list[set[str]] = [set() for _ in coded.dictionary]
    for number, title in zip(coded.indices.to_pylist(), table["title"].to_pylist(), strict=True):
        titles[number] |= {title} if title.strip() else set()
    texts = of_schema(spec, table.select([name for name in table.column_names if column_parts(name)[2]]))
    return with_commit(
        replace(
            texts,
            groups=np.array([group[docs[0]] for docs in documents], np.int64),
            negative_groups=tuple(against),
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
    return [{key: string_in(each, key, f"{where}, {name}") for key in ("docid", "title", "text")} for each in found]
