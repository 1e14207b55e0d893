"""Retrieval tasks of mteb made on the spot: data in the Hub's layout, and a class for it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

Row = Mapping[str, Any]
REGISTRY = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
BENCHMARKS = importlib.import_module("mteb.benchmarks.benchmarks")

# -- data sets in the layout of the Hub -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """One subset: its corpus, its queries, and by split (query id, document id, gain)."""

    corpus: Sequence[Row]
    queries: Sequence[Row]
    qrels: Mapping[str, Sequence[tuple[str, str, int]]]
    more: Mapping[str, Sequence[Row]] = field(default_factory=dict)  # further configs, e.g. ``top_ranked``


def save_hub(folder: Path, subsets: Mapping[str, Data], form: str = "jsonl") -> Path:
    """Save a data set as the Hub holds it: one file for each config and split, and a README that names them.

    The subset ``default`` has the configs ``corpus``, ``queries`` and ``default`` (its judgments); another one has
    ``<subset>-corpus``, ``<subset>-queries`` and ``<subset>-qrels``.

    Args:
        folder: Where to save it.
        subsets: The subsets by name.
        form: ``jsonl`` or ``parquet``.
    """
    configs: dict[str, dict[str, Sequence[Row]]] = {}
    for subset, data in subsets.items():
        before = "" if subset == "default" else f"{subset}-"
        configs[f"{before}corpus"] = {"corpus": data.corpus}
        configs[f"{before}queries"] = {"queries": data.queries}
        configs[f"{before}qrels" if before else "default"] = {
            split: [{"query-id": query, "corpus-id": document, "score": gain} for query, document, gain in rows]
            for split, rows in data.qrels.items()
        }
        configs |= {f"{before}{name}": {"test": rows} for name, rows in data.more.items()}
    return save_configs(folder, configs, form)


def save_configs(folder: Path, configs: Mapping[str, Mapping[str, Sequence[Row]]], form: str = "jsonl") -> Path:
    """Save rows by config and split in the layout of the Hub."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            path = folder / config / f"{split}.{form}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if form == "parquet":
                pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
            else:
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                path.write_text(text, encoding="utf-8")
            lines += [f"  - split: {split}", f"    path: {config}/{split}.{form}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return folder


def task_class(
    name: str,
    path: Path | str,
    *,
    base: type = AbsTaskRetrieval,
    metadata: Mapping[str, Any] | None = None,
    **members: Any,
) -> type[Any]:
    """A task of mteb's over a data set that lies at this path.

    Args:
        name: Its name.
        path: The data set's folder.
        base: What kind of task it is.
        metadata: What differs from English retrieval with the split ``test``.
        **members: Of the class.
    """
    fields = {
        "name": name,
        "description": "Made for a test.",
        "dataset": {"path": str(path), "revision": "1"},
        "type": "Retrieval",
        "category": "t2t",
        "modalities": ["text"],
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "main_score": "ndcg_at_10",
    }
    return type(name, (base,), {"metadata": TaskMetadata(**{**fields, **(metadata or {})}), **members})


WORDS = tuple(f"{start}{end}" for start in ("ba", "do", "fu", "gi", "le", "mo", "ru", "sa") for end in "dkmnprst")


def random_data(
    documents: int = 200,
    queries: int = 24,
    *,
    seed: int = 0,
    splits: Sequence[str] = ("test",),
    gains: Sequence[int] = (1, 2, 3),
    titles: bool = False,
) -> Data:
    """Documents of nine words, the last their own, and queries of four; each has five documents judged."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return " ".join(rng.choice(WORDS, length).tolist())

    corpus: list[dict[str, Any]] = [{"_id": f"d{i}", "text": f"{text(8)} own{i}"} for i in range(documents)]
    if titles:
        for i, row in enumerate(corpus):
            row["title"] = text(2) if i % 3 else ""
    asked = [{"_id": f"q{i}", "text": f"{text(4)} own{i}"} for i in range(queries)]
    qrels = {
        split: [
            (row["_id"], f"d{document}", int(rng.choice(gains)))
            for row in asked
            for document in rng.choice(documents, 5, replace=False).tolist()
        ]
        for split in splits
    }
    return Data(corpus, asked, qrels)
