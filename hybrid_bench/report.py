"""Reports: the tables of runs with what a reader needs to know beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from hybrid_bench.languages import Setting
from hybrid_bench.tables import MAIN, find_runs, main_frame, render

__all__ = ["report"]


def report(paths: Sequence[Path], fmt: str = "markdown", subsets: Mapping[str, Collection[str]] | None = None) -> str:
    """The main table of the runs at these paths, with a note on what it shows.

    Args:
        paths: Output folders of `run`, or folders of single runs.
        fmt: ``markdown`` or ``latex``.
        subsets: Only these subsets, by task; None for all that the runs have.

    Raises:
        RequestError: If a path holds no run, or the format is unknown.
        DataError: If a run cannot be read.
    """
    runs = find_runs(paths)
    frame = main_frame(runs if subsets is None else [run.only(subsets) for run in runs])
    table = render(frame, MAIN, fmt)
    notes = [
        _note(str(collection), group["covered"].tolist())
        for collection, group in frame.groupby("collection", sort=False)
    ]
    mark = "% " if fmt == "latex" else ""
    lines = [
        "mAP at full depth and rank distance (largest minus smallest rank of a query's parallel answers in the "
        "multilingual pool): means over queries, then over subsets; the median is each subset's, averaged likewise.",
        *notes,
    ]
    text = "\n".join(f"{mark}{line}" for line in lines)
    return f"{text}\n{table}\n" if fmt == "latex" else f"{table}\n\n{text}\n"


def _note(collection: str, covered: Sequence[Mapping[str, frozenset[tuple[str, int]]]]) -> str:
    """How many subsets each setting's mean is over; told apart where the runs differ."""
    parts = []
    for setting in Setting:
        counts = sorted({len(pools.get(setting.value, ())) for pools in covered})
        if counts != [0]:
            parts.append(f"{'/'.join(map(str, counts))} {setting.value}")
    differing = " (the runs do not cover the same subsets and pools: such means cannot be compared, and are not marked)"
    unequal = any(pools != covered[0] for pools in covered)
    return f"{collection}: {', '.join(parts)} subsets{differing if unequal else ''}."
