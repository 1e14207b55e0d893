"""Reports: the tables of runs with what a reader needs to know beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.languages import Setting
from hybrid_bench.tables import MAIN, TASKS, find_runs, main_frame, render, task_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["report"]

_MAIN_NOTE = (
    "mAP at full depth and rank distance (largest minus smallest rank of a query's parallel answers in the "
    "multilingual pool): means over queries, then over subsets; the median is each subset's, averaged likewise."
)
_TASKS_NOTE = "Means over queries, then over subsets."
_SHARES_NOTE = (
    "JS@10 excess: how far the languages of the first ten are from the pool's shares, less what a random order gives "
    "(0 to 1); AWRF: likeness of the first hundred's exposure to the pool's shares."
)
_NOTES_SHOWN = 5


def report(paths: Sequence[Path], fmt: str = "markdown", subsets: Mapping[str, Collection[str]] | None = None) -> str:
    """The tables of the runs at these paths, with notes on what they show.

    First the main table, of the parallel collections; then one of all other tasks, if there are any.

    Args:
        paths: Output folders of `run`, or folders of single runs.
        fmt: ``markdown`` or ``latex``.
        subsets: Only these subsets, by task; None for all that the runs have.

    Raises:
        RequestError: If a path holds no run, or the format is unknown.
        DataError: If a run cannot be read.
    """
    runs = find_runs(paths)
    runs = runs if subsets is None else [run.only(subsets) for run in runs]
    parts = []
    main, tasks = main_frame(runs), task_frame(runs)
    if len(main) or not len(tasks):
        notes = [_MAIN_NOTE, *(_covered(name, group["covered"].tolist()) for name, group in _groups(main))]
        parts.append(_with_notes(render(main, MAIN, fmt), notes, fmt))
    if len(tasks):
        shares = tasks["bias_awrf_prior"].notna().any()
        notes = [_TASKS_NOTE, *([_SHARES_NOTE] if shares else [])]
        notes += [_subsets(name, group) for name, group in _groups(tasks)]
        told = list(dict.fromkeys(note for each in tasks["notes"] for note in each))
        notes += told[:_NOTES_SHOWN]
        if len(told) > _NOTES_SHOWN:
            notes.append(f"and {len(told) - _NOTES_SHOWN} more notes in signatures.jsonl")
        parts.append(_with_notes(render(tasks, TASKS, fmt, first="Task"), notes, fmt))
    return "\n".join(parts)


def _groups(frame: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    return ((str(name), group) for name, group in frame.groupby("collection", sort=False))


def _with_notes(table: str, notes: Sequence[str], fmt: str) -> str:
    text = "\n".join(f"{'% ' if fmt == 'latex' else ''}{note}" for note in notes)
    return f"{text}\n{table}\n" if fmt == "latex" else f"{table}\n\n{text}\n"


def _subsets(name: str, group: pd.DataFrame) -> str:
    """How many subsets a task's means are over."""
    counts = sorted({sum(subsets.values()) for subsets in group["subsets"]})
    unequal = len({covered["ap"] for covered in group["covered"]}) > 1
    number = "/".join(map(str, counts))
    return f"{name}: {number} subset{'' if number == '1' else 's'}{_DIFFERING if unequal else ''}."


_DIFFERING = " (the runs do not cover the same subsets and pools: such means cannot be compared, and are not marked)"


def _covered(collection: str, covered: Sequence[Mapping[str, Any]]) -> str:
    """How many subsets each setting's mean is over; told apart where the runs differ."""
    parts = []
    for setting in Setting:
        counts = sorted({len(pools.get(setting.value, ())) for pools in covered})
        if counts != [0]:
            parts.append(f"{'/'.join(map(str, counts))} {setting.value}")
    unequal = any(pools != covered[0] for pools in covered)
    return f"{collection}: {', '.join(parts)} subsets{_DIFFERING if unequal else ''}."
