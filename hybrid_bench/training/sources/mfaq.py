"""The kind ``mfaq``: question-answer pairs of one language by web page."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hybrid_bench.data.files import json_objects
from hybrid_bench.errors import DataError, shown
from hybrid_bench.training.sources.cache import BATCH, arrow_table, batched, file_identity
from hybrid_bench.training.sources.places import data_folder, one_of
from hybrid_bench.training.sources.schema import SourceTexts, of_schema, string_in, with_commit

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["read_mfaq"]


def read_mfaq(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """Question-answer pairs; equal answers, which pages of one site repeat, are one group."""
    (code,) = spec.languages
    file = f"data/{code}/{spec.option('split')}.jsonl"
    root, commit = data_folder(spec, lambda folder: [file])
    path = one_of(spec, root, file, f"{file}.gz")
    schema = pa.schema([(f"query_{code}", pa.string()), (f"passage_{code}", pa.string()), ("answer", pa.int64())])

    def rows() -> Iterator[pa.RecordBatch]:
        pairs = (pair for number, page in json_objects(path) for pair in pairs_of(number, page))
        for piece in batched(pairs, BATCH):
            yield pa.record_batch([pa.array(column) for column in zip(*piece, strict=True)], schema=schema)

    def pairs_of(number: int, page: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
        where = f"{path}:{number}"
        found = page.get("qa_pairs")
        if not isinstance(found, list):
            raise DataError(f"{where}: 'qa_pairs' should be a list, found {shown(found)}")
        for pair in found:
            question, answer = (string_in(pair, key, f"{where}, qa_pairs") for key in ("question", "answer"))
            if question.strip() and answer.strip():
                digest = hashlib.blake2b(answer.strip().encode(), digest_size=8).digest()
                yield question, answer, int.from_bytes(digest, signed=True)

    table = arrow_table(("mfaq", code, file_identity(path)), lambda: (schema, rows()))
    if not len(table):
        raise DataError(f"{path} has no question-answer pairs")
    texts = of_schema(spec, table.drop_columns(["answer"]))
    # Pages of one site repeat their answers.
    _, groups = np.unique(table["answer"].to_numpy(), return_inverse=True)
    return with_commit(replace(texts, groups=groups), commit)
