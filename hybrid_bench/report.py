"""Reports: the tables of runs with what a reader needs to know beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from hybrid_bench.comparisons import CLUSTERS, LEVEL, Difference, against_baseline, align, all_pairs
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.runs import Run, find_runs, names_of
from hybrid_bench.significance import DRAWS
from hybrid_bench.tables import MAIN, TASKS, main_frame, render, task_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "report"]

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


def compare(
    paths: Sequence[Path],
    baseline: Path | None = None,
    *,
    measure: str = "map",
    cluster: str = CLUSTERS[0],
    draws: int = DRAWS,
    seed: int = 0,
) -> str:
    """The runs at these paths against one of them, in every setting that all of them have, as Markdown.

    Args:
        paths: Output folders of `run`, or folders of single runs; at least two runs in all.
        baseline: Folder of the run that the others are compared with; None for the first.
        measure: A measure of queries by mteb's name, or a ``bias_`` measure that is a mean over queries.
        cluster: What questions are clustered by where it counts (see `comparisons.CLUSTERS`).
        draws: Flips and resamples.
        seed: Of both.

    Raises:
        RequestError: If there are fewer than two runs, they cannot be compared, or have nothing in common.
        DataError: If a run cannot be read.
    """
    runs = find_runs(paths if baseline is None else [baseline, *paths])
    if baseline is not None and len(find_runs([baseline])) > 1:
        raise RequestError(
            f"{baseline} holds several runs: name the folder of one, <output>/results/<model>/<revision>"
        )
    if len(runs) < 2:
        raise RequestError(f"one run only ({runs[0].label}): a comparison takes two; name another run's folder")
    names = names_of(runs)
    sections = []
    for collection, setting in _in_common(runs):
        aligned = align(runs, collection, setting, measure)
        if not len(aligned.queries):
            continue  # the measure does not apply to this setting
        found = against_baseline(
            aligned, 0, collection=collection, setting=setting, measure=measure, cluster=cluster, draws=draws, seed=seed
        )
        letters = all_pairs(aligned, cluster, draws=draws, seed=seed)[1] if len(runs) > 2 else None
        sections.append(_compared(found, letters))
    if not sections:
        shown = ", ".join(names)
        raise RequestError(f"nothing to compare: {shown} have no setting of a collection in common with '{measure}'")
    notes = (
        f"Difference from {names[0]} in {measure}, mean over subsets of means over queries; 95% interval by the "
        f"percentile cluster bootstrap, p by the cluster sign-flip test ({draws:,} flips and resamples, seed {seed}), "
        f"where it counts with questions clustered by {cluster}; Holm: adjusted for the runs compared in a setting, "
        f"† where that is below {LEVEL}; "
        "d_z: mean over standard deviation of the clusters' shares; MDE: difference that would be found in 80% of "
        "cases."
    )
    if len(runs) > 2:
        notes += " Runs that share a letter do not differ by the randomised Tukey HSD test."
    return "\n\n".join([*sections, notes]) + "\n"


def _in_common(runs: Sequence[Run]) -> list[tuple[str, Setting]]:
    """The settings that all runs have, by collection."""
    each = [
        {
            (table.collection, setting)
            for table in run.tasks.values()
            for setting in Setting
            if setting.value in table.covered
        }
        for run in runs
    ]
    order = dict.fromkeys((table.collection, setting) for table in runs[0].tasks.values() for setting in Setting)
    return [key for key in order if all(key in found for found in each)]


def _compared(found: Sequence[Difference], letters: Sequence[str] | None) -> str:
    first = found[0]
    heads = ["Run", "Mean", "Difference", "95% interval", *(f"p ({name})" for name in CLUSTERS), "p (Holm)", "d_z"]
    heads += ["Wins/ties/losses", "MDE", *(["Letters"] if letters else [])]
    rows = [[first.baseline, f"{first.result.mean_b:.4f}", *["-"] * 9, *([letters[0]] if letters else [])]]
    for number, each in enumerate(found, start=1):
        result = each.result
        rows.append(
            [
                each.run + (" †" if each.p_adjusted < LEVEL else ""),
                f"{result.mean_a:.4f}",
                f"{result.delta:+.4f}",
                f"{result.low:+.4f} to {result.high:+.4f}",
                *(_p(each.by[name].p) if name in each.by else "-" for name in CLUSTERS),
                _p(each.p_adjusted),
                f"{result.d_z:.2f}",
                f"{result.wins}/{result.ties}/{result.losses}",
                f"{result.detectable:.4f}",
                *([letters[number]] if letters else []),
            ]
        )
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    align_right = ("left", *["right"] * (len(heads) - 1))
    title = (
        f"**{first.collection}, {first.setting.value}**: {first.measure}, {first.result.n_settings} subsets, "
        f"{first.result.n_cells:,} queries in {first.result.n_clusters} clusters"
    )
    table = tabulate(escaped, headers=heads, tablefmt="pipe", colalign=align_right, disable_numparse=True)
    return f"{title}\n\n{table}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"


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
