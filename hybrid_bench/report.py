"""Reports: the tables of runs with what a reader needs to know beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from hybrid_bench.languages import Setting
from hybrid_bench.tables import MAIN, find_runs, main_frame, render

__all__ = ["report"]


def report(paths: Sequence[Path], fmt: str = "markdown", collections: Collection[str] | None = None) -> str:
    """The main table of the runs at these paths, with a note on what it shows.

    Args:
        paths: Output folders of `run`, or folders of single runs.
        fmt: ``markdown`` or ``latex``.
        collections: Only these collections; None for all that the runs have.

    Raises:
        RequestError: If a path holds no run, or the format is unknown.
        DataError: If a run cannot be read.
    """
    frame = main_frame(find_runs(paths))
    if collections is not None:
        frame = frame[frame["collection"].isin(collections)]
    table = render(frame, MAIN, fmt)
    notes = [
        _note(str(collection), group["subsets"].tolist())
        for collection, group in frame.groupby("collection", sort=False)
    ]
    mark = "% " if fmt == "latex" else ""
    lines = [
        "mAP at full depth and rank distance (largest minus smallest rank of a query's parallel answers in the "
        "multilingual pool): means over queries, then over subsets; the median is taken over queries.",
        *notes,
    ]
    text = "\n".join(f"{mark}{line}" for line in lines)
    return f"{text}\n{table}\n" if fmt == "latex" else f"{table}\n\n{text}\n"


def _note(collection: str, subsets: Sequence[dict[str, int]]) -> str:
    """How many subsets each setting's mean is over; told apart where the runs differ."""
    parts = []
    for setting in Setting:
        counts = sorted({counted.get(setting.value, 0) for counted in subsets})
        if counts != [0]:
            parts.append(f"{'/'.join(map(str, counts))} {setting.value}")
    differing = " (the runs do not cover the same subsets: their means cannot be compared)"
    unequal = any(counted != subsets[0] for counted in subsets)
    return f"{collection}: {', '.join(parts)} subsets{differing if unequal else ''}."
