"""Runs for the tests of reports: saved and then changed, or made up in memory; and their values by definition."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bias_cases import Asked, Case, by_definition
from hybrid_bench.analysis.frame import COMPUTED, LEVELS, Request, Value, results_of
from hybrid_bench.analysis.study import Study
from hybrid_bench.data.published import PublishedSystem, PublishedValue
from hybrid_bench.languages import Setting
from hybrid_bench.runs.reading import Run, TaskTable
from hybrid_bench.runs.result_files import metadata_of, table_path

__all__ = [
    "MEAN",
    "QUALITY",
    "Level",
    "bias_by_definition",
    "change_metadata",
    "level_of",
    "made_up",
    "printed_of",
    "quality_by_definition",
    "subsets_of",
    "under_name",
    "values_of",
]

#: A level, with the languages of query and pool that it is of.
Level = tuple[str, str, str]
MEAN: Level = ("mean", "", "")

#: Measures of quality, each with the column that it is saved in.
QUALITY = {
    "map": "ap",
    "ndcg_at_10": "ndcg_at_10",
    "recall_at_1": "recall_at_1",
    "recall_at_10": "recall_at_10",
    "recall_at_100": "recall_at_100",
    "mrr": "rr",
}


def change_metadata(folder: Path, task: str, **changes: Any) -> None:
    """Change what is kept with a per-query table."""
    path = table_path(folder, task)
    table = pq.read_table(path)
    kept = {**metadata_of(table), **changes}
    pq.write_table(table.replace_schema_metadata({b"hybrid_bench": json.dumps(kept).encode()}), path)


def under_name(folder: Path, name: str, change: Callable[[pa.Table], pa.Table] | None = None) -> Path:
    """Copy a saved run as one of another model beside it, its tables changed; returns the copy's folder."""
    copy = folder.parents[1] / "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:80] / folder.name
    shutil.copytree(folder, copy)
    for file in copy.glob("*.queries.parquet"):
        task = file.name.removesuffix(".queries.parquet")
        if change is not None:
            pq.write_table(change(pq.read_table(file)), file)
        change_metadata(copy, task, model=name)
    return copy


def made_up(
    name: str,
    scores: Mapping[str, Sequence[float]],
    *,
    collection: str = "C",
    main_score: str = "map",
    ranks: Mapping[str, Sequence[Sequence[int]]] | None = None,
    training: Mapping[str, Any] | None = None,
    per_cluster: int = 1,
    pool_size: int = 1000,
    notes: Sequence[str] = (),
) -> Run:
    """A run whose queries have these scores, whatever their ranks.

    Args:
        name: Of the model.
        scores: Of the queries of each subset, in every measure of quality: ``de-en`` is a pair, ``de`` a pool of
            de and en.
        collection: Name of the collection.
        main_score: Its main measure.
        ranks: Of the two relevant passages of the queries of a subset, that in de first; 1 and 2 where there are none.
        training: What the model says of its training.
        per_cluster: Questions of an article, in a row.
        pool_size: Passages in a pool.
        notes: What the task says of itself.
    """
    rows: list[dict[str, Any]] = []
    for subset, values in scores.items():
        asked, _, pool = subset.partition("-")
        setting = "multilingual" if not pool else "monolingual" if asked == pool else "cross-lingual"
        for number, value in enumerate(values):
            found = sorted(zip((ranks or {}).get(subset, [(1, 2)] * len(values))[number], ("de", "en"), strict=True))
            rows.append(
                {
                    "split": "test",
                    "subset": subset,
                    "setting": setting,
                    "query_language": asked,
                    "pool_languages": [pool] if pool else ["de", "en"],
                    "question_id": f"q{number}",
                    "cluster_article": number // per_cluster,
                    "cluster_paragraph": number // per_cluster,
                    "pool_size": pool_size,
                    "ranks": [rank for rank, _ in found] if not pool else [1],
                    "rank_languages": [language for _, language in found] if not pool else [pool],
                    "gains": [1, 1] if not pool else [1],
                    "top_languages": None,
                    **dict.fromkeys(QUALITY.values(), float(value)),
                }
            )
    frame = pd.DataFrame(rows)
    columns: dict[str, Any] = {str(column): values for column, values in frame.items()}
    metadata = {
        "collection": collection,
        "languages": ["de", "en"],
        "passages": {"de": pool_size // 2, "en": pool_size - pool_size // 2},
        "options": {},
        "main_score": main_score,
        "notes": list(notes),
        **({"training": dict(training)} if training is not None else {}),
    }
    task = TaskTable(Path("made-up"), metadata, {"data_sha256": {}}, _read=columns)
    return Run(Path("made-up") / name / "1", name, {}, {f"{collection}-Task": task})


def values_of(
    study: Study, collection: str, setting: Setting, measures: Sequence[str], levels: Iterable[str] = COMPUTED
) -> dict[tuple[int, str], dict[Level, Value]]:
    """The values of one setting by level, by run and measure, from the frame."""
    results = results_of(study, [Request(collection, setting, measures, set(levels))])
    found: dict[tuple[int, str], dict[Level, Value]] = {}
    for measure in measures:
        for place, value in results.of(collection, setting, measure, *LEVELS):
            found.setdefault((study.names.index(place.run), measure), {})[place[4:]] = value
    return found


def level_of(over: str) -> Level:
    """The level that is named in a file of published results or a long form: a language, or over all of them."""
    return (over, "", "") if over in LEVELS else ("language", over, "")


def printed_of(
    system: PublishedSystem, collection: str, setting: Setting, over: str, metric: str
) -> PublishedValue | None:
    """A printed number by what a file has in the place of its language."""
    level, language, _ = level_of(over)
    return system.get(collection, setting, metric, level, language)


# -- by definition ------------------------------------------------------------------------------------------------


def quality_by_definition(row: Mapping[str, Any]) -> dict[str, float]:
    """The measures of quality of a saved query, from its ranks and gains."""
    ranks, n = row["ranks"], len(row["ranks"])

    def gain(gains: Sequence[int], places: Sequence[int]) -> float:
        each = zip(gains, places, strict=True)
        return math.fsum(value / math.log2(1 + place) for value, place in each if place <= 10)

    ideal = gain(sorted(row["gains"], reverse=True), range(1, n + 1))
    return {
        "map": math.fsum(found / rank for found, rank in enumerate(ranks, start=1)) / n,
        "ndcg_at_10": gain(row["gains"], ranks) / ideal,
        **{f"recall_at_{k}": sum(rank <= k for rank in ranks) / n for k in (1, 10, 100)},
        "mrr": 1 / ranks[0],
    }


def subsets_of(rows: Sequence[Mapping[str, Any]], setting: str) -> dict[str, list[Mapping[str, Any]]]:
    """The saved queries of a setting by subset."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["setting"] == setting:
            found.setdefault(row["subset"], []).append(row)
    return found


def bias_by_definition(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, float]:
    """The measures of bias of a subset's saved queries."""
    codes = metadata["languages"]
    within = rows[0]["pool_languages"]
    asked = [
        Asked([(r, codes.index(c)) for r, c in zip(row["ranks"], row["rank_languages"], strict=True)], _top(row))
        for row in rows
    ]
    passages = [metadata["passages"][code] if code in within else 0 for code in codes]
    known = rows[0]["top_languages"] is not None
    return by_definition(Case(asked, passages, codes.index(rows[0]["query_language"]), known=known))


def _top(row: Mapping[str, Any]) -> list[int]:
    return [] if row["top_languages"] is None else [int(code) for code in np.asarray(row["top_languages"])]
