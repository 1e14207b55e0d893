"""The kinds ``ntrex`` and ``lines``: text files in which line n is the same sentence in every language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_bench.data.aligned import aligned_lines, ntrex_files
from hybrid_bench.data.collection import Column
from hybrid_bench.errors import DataError
from hybrid_bench.training.sources.places import local_path
from hybrid_bench.training.sources.schema import SourceTexts, need_languages

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["read_lines", "read_ntrex"]


def read_ntrex(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """NTREX-128: a sentence, and its translation, with the document that it is from."""
    folder = local_path(spec)
    found = ntrex_files(folder)
    if not found:
        raise DataError(f"{spec.name}: {folder} has no files of NTREX-128, newstest2019-ref.<code>.txt")
    need_languages(spec, found, str(folder))
    documents = folder / "DOCUMENT_IDS.tsv"
    wanted = {code: found[code] for code in spec.languages or found}
    return _line_aligned(spec, wanted, documents if documents.is_file() else None)


def read_lines(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """Text files of which ``columns`` gives each language its own."""
    folder = local_path(spec)
    wanted = {code: folder / spec.columns[code] for code in spec.languages or spec.columns}
    documents = folder / spec.option("documents") if spec.option("documents") else None
    for path in (*wanted.values(), *([documents] if documents else [])):
        if not path.is_file():
            raise DataError(f"{spec.name}: there is no file {path}")
    return _line_aligned(spec, wanted, documents)


def _line_aligned(spec: SourceSpec, files: Mapping[str, Path], documents: Path | None) -> SourceTexts:
    """Each line as a query, and its translations as passages."""
    paths = (*files.values(), *([documents] if documents else []))
    found = {path: pa.array(lines) for path, lines in aligned_lines(spec.name, paths)}
    columns = {code: Column(pa.chunked_array([found[path]])) for code, path in files.items()}
    note = (
        "a sentence and its translation: within a language, query and passage are the same, so its monolingual batches"
        " teach little"
    )
    texts = SourceTexts(spec.name, queries=columns, passages=columns, notes=(note,))
    if documents is None:
        return texts
    coded = found[documents].dictionary_encode()
    article = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return replace(texts, article=article, titles=(frozenset(),) * len(coded.dictionary))
