"""The kinds ``ntrex`` and ``lines``: text files in which line n is the same sentence in every language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_bench.data.collection import Column
from hybrid_bench.data.files import lines
from hybrid_bench.errors import DataError, first_line
from hybrid_bench.languages import LANGUAGES
from hybrid_bench.training.sources.places import local_path
from hybrid_bench.training.sources.schema import SourceTexts, need_languages

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["read_lines", "read_ntrex"]


def read_ntrex(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """NTREX-128: a sentence, and its translation, with the document that it is from."""
    folder = local_path(spec)
    found: dict[str, Path] = {}
    for code, language in LANGUAGES.items():
        three = language.tag.partition("-")[0]
        names = [f"newstest2019-src.{three}.txt", f"newstest2019-ref.{three}.txt"]
        # Where the code of a language has none, that of a variety: zho-CN before zho-TW.
        names += sorted(path.name for path in folder.glob(f"newstest2019-ref.{three}-*.txt"))
        if there := [folder / name for name in names if (folder / name).is_file()]:
            found[code] = there[0]
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
    counts = {path: _count_lines(path) for path in (*files.values(), *([documents] if documents else []))}
    (first, count), *others = counts.items()
    for path, other in others:
        if other != count:
            raise DataError(f"{spec.name}: {first} has {count:,} lines but {path} {other:,}: they are not aligned")
    columns = {code: Column(pa.chunked_array([pa.array(_by_line(path, count))])) for code, path in files.items()}
    note = (
        "a sentence and its translation: within a language, query and passage are the same, so its monolingual batches"
        " teach little"
    )
    texts = SourceTexts(spec.name, queries=columns, passages=columns, notes=(note,))
    if documents is None:
        return texts
    coded = pa.array(_by_line(documents, count)).dictionary_encode()
    article = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return replace(texts, article=article, titles=(frozenset(),) * len(coded.dictionary))


def _count_lines(path: Path) -> int:
    """Lines of a file, blank ones among them, but none behind the last line feed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error
    return content.count(b"\n") + bool(content and not content.endswith(b"\n"))


def _by_line(path: Path, count: int) -> list[str | None]:
    """The lines of a file; None for a blank one."""
    found: list[str | None] = [None] * count
    for number, line in lines(path):
        found[number - 1] = line.rstrip("\r\n")
    return found
