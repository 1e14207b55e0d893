"""Saved runs, for the tests of what reads them: small models on three languages of the demo, and ways to harm them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import WordCounts, registered
from hybrid_bench.evaluation.runner import RunRequest, run
from hybrid_bench.runs.result_files import read_signatures, table_path

__all__ = [
    "BM25",
    "CHAR_NGRAM",
    "LANGUAGES",
    "WORD_COUNTS",
    "change_signature",
    "change_table",
    "copy_of",
    "folder_of",
    "rows_of",
    "save_runs",
]

BM25, CHAR_NGRAM, WORD_COUNTS = "hybrid_bench/bm25", "hybrid_bench/char-ngram", "tests/word-counts"
LANGUAGES = ("de", "en", "th")


def save_runs(
    output: Path,
    models: Sequence[str] = (BM25, CHAR_NGRAM),
    tasks: Sequence[str] = ("HybridDemo",),
    languages: Sequence[str] = LANGUAGES,
    **options: Any,
) -> Path:
    """Run these models, and return the output folder; a name that neither we nor mteb know is a `WordCounts`."""
    with pytest.MonkeyPatch.context() as patch:
        for model in models:
            if model.startswith("tests/"):
                registered(patch, model, WordCounts)
        outcome = run(RunRequest(models, tasks, languages=languages, output=output, **options))
    assert outcome.failures == []
    return output


def folder_of(output: Path, model: str) -> Path:
    """The folder of a model's one revision."""
    (folder,) = (output / "results" / model.replace("/", "__")).iterdir()
    return folder


def copy_of(output: Path, folder: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copytree(output, folder / "copy"))


def rows_of(folder: Path, *tasks: str) -> list[dict[str, Any]]:
    """The per-query rows of some tasks as plain Python, each with its task's name."""
    return [{**row, "task": task} for task in tasks for row in pq.read_table(table_path(folder, task)).to_pylist()]


def change_table(folder: Path, task: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a per-query table again, as another one; what is kept with it stays."""
    path = table_path(folder, task)
    pq.write_table(change(pq.read_table(path)), path)


def change_signature(folder: Path, task: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the signatures of a run again, after one of them was changed in place."""
    signatures = read_signatures(folder)
    change(signatures[task])
    lines = [json.dumps(entry) for entry in signatures.values()]
    (folder / "signatures.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
