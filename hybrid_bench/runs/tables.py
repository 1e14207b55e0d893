"""The per-query table: one row per query and subset, from which every measure can be computed again.

Nothing here needs mteb; `saving.RunCache` saves the table beside mteb's result files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from hybrid_bench.data.collection import Collection
from hybrid_bench.engine.ranking import PoolRanks
from hybrid_bench.languages import Setting
from hybrid_bench.measures.metrics import per_query
from hybrid_bench.runs.result_files import (
    METADATA_KEY,
    QUERY_COLUMNS,
)

__all__ = ["query_table"]


def query_table(
    collection: Collection, pool: PoolRanks, *, split: str, subset: str, setting: Setting, metadata: Mapping[str, Any]
) -> pa.Table:
    """One row per query of a subset; from these rows alone every measure can be computed again.

    Args:
        collection: The collection.
        pool: The ranks.
        split: Name of the split in mteb.
        subset: Name of the subset in mteb.
        setting: The setting of the subset.
        metadata: Kept with the table, e.g. the similarity.

    Returns:
        Table with the columns of DESIGN's results format, and ``split``. ``ranks`` ascend; ``rank_languages`` and
        ``gains`` stand in the same order. ``top_languages`` are positions in the metadata's ``languages``, best first;
        null for a pool of one part.
    """
    queries = collection.queries[pool.query_set]
    n = len(pool.queries)
    question_ids = [queries.question_ids[row] for row in pool.queries]
    ranks = pool.ranks
    offsets = np.concatenate([[0], np.cumsum(ranks.n_relevant)]).astype(np.int32)
    codes = np.array(collection.languages)
    best = ranks.rank[offsets[:-1]]
    scores = per_query(ranks, (1, 10, 100))
    top: pa.Array = pa.nulls(n, pa.list_(pa.int8()))
    if pool.top_languages is not None:
        width = pool.top_languages.shape[1]
        top = pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * width, pa.array(pool.top_languages.ravel()))

    def same(value: str) -> pa.Array:
        return pa.DictionaryArray.from_arrays(np.zeros(n, dtype=np.int8), pa.array([value]))

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    pool_languages = [collection.passages[part].language for part in pool.parts]
    columns = {
        "split": same(split),
        "subset": same(subset),
        "setting": same(setting),
        "query_language": same(queries.language),
        "pool_languages": pa.ListArray.from_arrays(
            np.arange(n + 1, dtype=np.int32) * len(pool_languages), pa.array(pool_languages * n, pa.string())
        ),
        "question_id": pa.array(question_ids, pa.string()),
        "cluster_paragraph": pa.array([collection.paragraph_cluster[q] for q in question_ids], pa.int32()),
        "cluster_article": pa.array([collection.article_cluster[q] for q in question_ids], pa.int32()),
        "pool_size": pa.array(np.full(n, pool.pool_size, dtype=np.int32)),
        "n_relevant": pa.array(ranks.n_relevant.astype(np.int32)),
        "ranks": lists(pa.array(ranks.rank)),
        "rank_languages": lists(pa.array(codes[ranks.language])),
        "gains": lists(pa.array(ranks.gain)),
        "top_languages": top,
        "top1_relevant": pa.array(best == 1),
        **{column: pa.array(scores[name]) for column, name in QUERY_COLUMNS.items()},
    }
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
