"""What lies in a run's folder and how it is read: the names of its files, the per-query table's columns, signatures.

Reading needs neither mteb nor torch; `store` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybrid_bench.data.parsing import parse_json
from hybrid_bench.errors import DataError, of_system

__all__ = [
    "FORMAT",
    "METADATA_KEY",
    "OUTPUT",
    "QUERY_COLUMNS",
    "SIGNATURES",
    "metadata_of",
    "read_signatures",
    "table_path",
]

#: Changes when ranks, measures or the table change their meaning; results of another format are run again.
FORMAT = 2
#: The per-query measures in the table, by the name that `metrics.per_query` gives them.
QUERY_COLUMNS = {
    "ap": "map",
    "ndcg_at_10": "ndcg_at_10",
    "recall_at_1": "recall_at_1",
    "recall_at_10": "recall_at_10",
    "recall_at_100": "recall_at_100",
    "rr": "mrr",
}
#: The output folder, where none is named.
OUTPUT = Path("runs")
#: Where a table's metadata stand in its schema.
METADATA_KEY = b"hybrid_bench"
#: Name of the file of signatures in a run's folder.
SIGNATURES = "signatures.jsonl"


def metadata_of(table: pa.Table | pa.Schema) -> dict[str, Any]:
    """What `tables.query_table` kept with the table, or its schema; empty if it was not written by this package."""
    schema = table if isinstance(table, pa.Schema) else table.schema
    kept: dict[str, Any] = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return kept


def table_path(folder: Path, task: str) -> Path:
    """Where the per-query table of a task lies in a run's folder."""
    return folder / f"{task}.queries.parquet"


def read_signatures(folder: Path) -> dict[str, dict[str, Any]]:
    """The signatures of a run's folder by task; a line that is damaged counts as absent.

    Raises:
        DataError: If the file cannot be read.
    """
    path = folder / SIGNATURES
    found: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
    except OSError as error:
        raise DataError(of_system(error)) from error
    for line in lines:
        try:
            entry = parse_json(line.decode())
            found[entry["task"]] = entry
        except (ValueError, TypeError, KeyError):
            continue
    return found
