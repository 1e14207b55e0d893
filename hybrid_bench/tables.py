"""Tables from runs: one frame of values, then Markdown or LaTeX.

Everything is computed from the per-query tables. Values are means over queries, then over subsets, each subset
counting the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from hybrid_bench.bias import bias_measures, inputs_of
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.metrics import NOT_RETRIEVED
from hybrid_bench.runs import Run, names_of

__all__ = ["FORMATS", "MAIN", "TASKS", "Column", "escape_latex", "main_frame", "render", "task_frame"]

FORMATS = ("markdown", "latex")
#: What the bias measures of a pool are computed from.
_RANKS = ("query_language", "pool_languages", "ranks", "rank_languages", "gains", "top_languages")


class Column(NamedTuple):
    """A column of numbers.

    Attributes:
        key: Its name in the frame.
        title: What stands above it.
        group: What stands above several of them.
        decimals: Digits after the point.
        higher_is_better: Direction, for best and second.
    """

    key: str
    title: str
    group: str
    decimals: int
    higher_is_better: bool


#: The main table: the paper's Tables 1 and 2 side by side.
MAIN = (
    *(Column(setting.value, setting.short, "mAP", 3, True) for setting in Setting),
    Column("bias_rank_distance", "mean", "Rank distance", 1, False),
    Column("bias_rank_distance_median", "median", "Rank distance", 1, False),
)


#: The table of other tasks: MIRACL, and those of mteb. The last two apply to pools of several languages.
TASKS = (
    Column("ndcg_at_10", "nDCG@10", "", 3, True),
    Column("recall_at_100", "R@100", "", 3, True),
    Column("ap", "mAP", "", 3, True),
    Column("bias_js_at_10_prior_excess", "JS@10 excess", "Shares", 3, False),
    Column("bias_awrf_prior", "AWRF", "Shares", 3, True),
)


def main_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Rows of the main table: for each parallel collection and run, mAP by setting and rank distance.

    Returns:
        Frame with columns ``collection``, ``model``, ``subsets`` (how many of each setting), ``covered`` (which) and
        the keys of `MAIN`; NaN where a run has no such subset, or a measure does not apply. Runs that would have the
        same name are told apart by their revisions.
    """
    rows: list[dict[str, Any]] = []
    names = names_of(runs)
    everything = [table for run in runs for table in run.tasks.values() if table.parallel]
    for collection in dict.fromkeys(table.collection for table in everything):
        for run, name in zip(runs, names, strict=True):
            tables = [table for table in run.tasks.values() if table.collection == collection and table.parallel]
            if not tables:
                continue
            row: dict[str, Any] = {"collection": collection, "model": name, "subsets": {}, "covered": {}}
            for table in tables:
                row["subsets"] |= {setting: len(pools) for setting, pools in table.covered.items()}
                row["covered"] |= table.covered
                row |= _means(table.frame("ap", "n_relevant", "ranks"))
            rows.append(row)
    return pd.DataFrame(rows, columns=["collection", "model", "subsets", "covered", *(column.key for column in MAIN)])


def task_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Rows of the table of other tasks: for each task, setting and run, the keys of `TASKS`.

    Returns:
        Frame as `main_frame` makes it, with the task and its setting in ``collection``.
    """
    rows: list[dict[str, Any]] = []
    names = names_of(runs)
    tasks = dict.fromkeys(name for run in runs for name, table in run.tasks.items() if not table.parallel)
    for task, setting in product(tasks, Setting):
        for run, name in zip(runs, names, strict=True):
            table = run.tasks.get(task)
            if table is None or setting.value not in table.covered:
                continue
            pooled = setting is Setting.MULTILINGUAL
            frame = table.frame("ndcg_at_10", "recall_at_100", "ap", *(_RANKS if pooled else ()))
            frame = frame[frame["setting"] == setting.value]
            by_subset = frame.groupby(["split", "subset"], observed=True)
            means = by_subset[["ndcg_at_10", "recall_at_100", "ap"]].mean().mean()
            row: dict[str, Any] = {"collection": f"{task}, {setting.value}", "model": name}
            row |= {str(key): float(value) for key, value in means.items()}
            if pooled:
                shares = pd.DataFrame(
                    [bias_measures(*inputs_of(rows_of, table.metadata)) for _, rows_of in by_subset]
                ).mean()
                row |= {column.key: shares[column.key] for column in TASKS if column.key in shares}
            row["subsets"] = {setting.value: len(table.covered[setting.value])}
            row["covered"] = {column.key: table.covered[setting.value] for column in TASKS}
            row["notes"] = tuple(table.metadata.get("notes", ()))
            rows.append(row)
    return pd.DataFrame(
        rows, columns=["collection", "model", "subsets", "covered", "notes", *(column.key for column in TASKS)]
    )


def _means(frame: pd.DataFrame) -> dict[str, float]:
    by_subset = frame.groupby(["setting", "split", "subset"], observed=True)["ap"].mean()
    by_setting = by_subset.groupby("setting", observed=True).mean()
    means = {str(setting): float(mean) for setting, mean in by_setting.items()}
    pooled = frame[frame["setting"] == Setting.MULTILINGUAL.value]
    if len(pooled):
        distance = _rank_distance(pooled)
        if distance is not None:
            grouped = distance.groupby([pooled["split"].astype(str), pooled["subset"].astype(str)])
            means["bias_rank_distance"] = float(grouped.mean().mean())
            means["bias_rank_distance_median"] = float(grouped.median().mean())
    return means


def _rank_distance(pooled: pd.DataFrame) -> pd.Series[Any] | None:
    """Largest minus smallest rank per query, from the stored ranks; None where `bias.rank_distance` has none."""
    worst = np.array([ranks[-1] for ranks in pooled["ranks"]], dtype=np.int64)
    best = np.array([ranks[0] for ranks in pooled["ranks"]], dtype=np.int64)
    if (pooled["n_relevant"] < 2).any() or (worst == NOT_RETRIEVED).any():
        return None
    return pd.Series(worst - best, index=pooled.index)


def render(frame: pd.DataFrame, columns: Sequence[Column], fmt: str, first: str = "Collection") -> str:
    """A table with the best value of each collection in bold and the second underlined, ties included.

    Best and second are decided on the values as printed, so that two equal numbers are marked alike. A value that is
    not there is a dash, and takes no part. Values over different subsets or pools are not marked.

    Args:
        frame: From `main_frame`.
        columns: What to print.
        fmt: ``markdown`` or ``latex``.
        first: What stands above the first column.
    """
    if fmt not in FORMATS:
        raise RequestError(f"unknown format '{fmt}': {', '.join(FORMATS)}")
    columns = [column for column in columns if frame[column.key].notna().any()] if first != "Collection" else columns
    marks = _MARKS[fmt]
    texts = []
    for _, group in frame.groupby("collection", sort=False):
        cells = {column.key: _cells(group[column.key], column, marks, _comparable(group, column)) for column in columns}
        for position, (_, row) in enumerate(group.iterrows()):
            texts.append([row["collection"], row["model"], *(cells[column.key][position] for column in columns)])
    return _latex(texts, columns, first) if fmt == "latex" else _markdown(texts, columns, first)


class _Marks(NamedTuple):
    best: str
    second: str
    missing: str


_MARKS = {
    "markdown": _Marks("**{}**", "<u>{}</u>", "-"),
    "latex": _Marks(r"\textbf{{{}}}", r"\underline{{{}}}", "--"),
}


def _comparable(group: pd.DataFrame, column: Column) -> bool:
    """Whether all values of a column are means over the same subsets of the same pools."""
    if "covered" not in group:
        return True
    present = group[group[column.key].notna()]
    return (
        len({covered.get(column.key, covered.get(Setting.MULTILINGUAL.value)) for covered in present["covered"]}) <= 1
    )


def _cells(values: pd.Series, column: Column, marks: _Marks, comparable: bool) -> list[str]:
    printed = [None if np.isnan(value) else f"{value:.{column.decimals}f}" for value in values]
    present = [float(text) for text in printed if text is not None]
    # One value alone is neither best nor second.
    ranked = sorted(set(present), reverse=column.higher_is_better) if len(present) > 1 and comparable else []
    cells = []
    for text in printed:
        if text is None:
            cells.append(marks.missing)
        elif float(text) in ranked[:1]:
            cells.append(marks.best.format(text))
        elif float(text) in ranked[1:2]:
            cells.append(marks.second.format(text))
        else:
            cells.append(text)
    return cells


def _arrow(column: Column, up: str, down: str) -> str:
    return up if column.higher_is_better else down


def _markdown(rows: Sequence[Sequence[str]], columns: Sequence[Column], first: str) -> str:
    header = [first, "Model", *(f"{c.group} {c.title} {_arrow(c, '↑', '↓')}".strip() for c in columns)]
    escaped = [[cell.replace("|", r"\|") if place < 2 else cell for place, cell in enumerate(row)] for row in rows]
    align = ("left", "left", *["right"] * len(columns))
    return str(tabulate(escaped, headers=header, tablefmt="pipe", colalign=align, disable_numparse=True))


def _latex(rows: Sequence[Sequence[str]], columns: Sequence[Column], first_title: str) -> str:
    groups: list[tuple[str, int, int]] = []
    for place, column in enumerate(columns, start=3):
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1], place)
        else:
            groups.append((column.group, place, place))
    over = " & ".join(rf"\multicolumn{{{last - first + 1}}}{{c}}{{{name}}}" for name, first, last in groups)
    rules = " ".join(rf"\cmidrule(lr){{{first}-{last}}}" for name, first, last in groups if name)
    titles = " & ".join(f"{c.title} " + _arrow(c, r"$\uparrow$", r"$\downarrow$") for c in columns)
    lines = [
        r"\begin{tabular}{ll" + "r" * len(columns) + "}",
        r"\toprule",
        rf" & & {over} \\",
        rules,
        rf"{first_title} & Model & {titles} \\",
    ]
    previous = None
    for collection, model, *cells in rows:
        if collection != previous:
            lines.append(r"\midrule")
        shown = escape_latex(collection) if collection != previous else ""
        lines.append(rf"{shown} & {escape_latex(model)} & {' & '.join(cells)} \\")
        previous = collection
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in text)
