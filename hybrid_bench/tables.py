"""Tables from runs: one frame of values, then Markdown or LaTeX.

Everything is computed from the per-query tables. Values are means over queries, then over subsets, each subset
counting the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException
from tabulate import tabulate

from hybrid_bench.bias import bias_measures, inputs_of
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.metrics import NOT_RETRIEVED
from hybrid_bench.results import FORMAT, metadata_of, read_signatures

__all__ = ["FORMATS", "Column", "Run", "TaskTable", "find_runs", "main_frame", "render", "task_frame"]

FORMATS = ("markdown", "latex")
#: The columns of the per-query table that the main table is made from; the others are large.
_COLUMNS = ["split", "subset", "setting", "pool_size", "n_relevant", "ranks", "ap"]
#: Those that other tasks' tables need besides.
_MORE_COLUMNS = [
    "query_language",
    "pool_languages",
    "rank_languages",
    "gains",
    "top_languages",
    "ndcg_at_10",
    "recall_at_100",
]


@dataclass(frozen=True)
class TaskTable:
    """The per-query table of one task.

    Attributes:
        collection: Name of the collection.
        frame: One row per query and subset, with the columns that the tables need (see `results.query_table`).
        metadata: What is kept with the table.
    """

    collection: str
    frame: pd.DataFrame
    metadata: Mapping[str, Any]

    @property
    def parallel(self) -> bool:
        """Whether it belongs into the main table: measured by average precision, as parallel collections are."""
        return str(self.metadata.get("main_score", "map")) == "map"

    @property
    def subsets(self) -> Mapping[str, int]:
        """How many subsets of each setting are in it."""
        return {setting: len(pools) for setting, pools in self.covered.items()}

    @property
    def covered(self) -> Mapping[str, frozenset[tuple[str, int]]]:
        """The subsets of each setting, each with its pool's size: only means over the same ones can be compared."""
        pools = self.frame[["setting", "split", "subset", "pool_size"]].drop_duplicates()
        names = pools["split"].astype(str) + "/" + pools["subset"].astype(str)
        return {
            str(setting): frozenset(zip(names[group.index], group["pool_size"].astype(int), strict=True))
            for setting, group in pools.groupby("setting", observed=True)
        }


@dataclass(frozen=True)
class Run:
    """One model's results, at one revision and with one set of options.

    Attributes:
        folder: Where they lie.
        model: The model's name.
        options: What was chosen besides, empty for the defaults.
        tasks: The per-query tables by task.
    """

    folder: Path
    model: str
    options: Mapping[str, str]
    tasks: Mapping[str, TaskTable]

    def only(self, subsets: Mapping[str, Collection[str]]) -> Run:
        """The same run with these subsets of these tasks alone."""
        tasks = {}
        for name, table in self.tasks.items():
            frame = table.frame[table.frame["subset"].isin(list(subsets.get(name, ())))]
            if len(frame):
                tasks[name] = replace(table, frame=frame)
        return replace(self, tasks=tasks)

    @property
    def revision(self) -> str:
        """The model's revision, as the folder has it."""
        return self.folder.parents[1].name if self.folder.parent.name == "experiments" else self.folder.name

    @property
    def label(self) -> str:
        """Name for a table: the model, and its options where there are some."""
        if not self.options:
            return self.model
        return f"{self.model} ({', '.join(f'{name}={value}' for name, value in self.options.items())})"


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs at these paths, in order; within a path, sorted by folder.

    Args:
        paths: Output folders of `run`, their ``results`` folders, or folders of single runs.

    Raises:
        RequestError: If a path holds no run.
        DataError: If a per-query table cannot be read.
    """
    runs: dict[Path, Run] = {}
    for path in paths:
        found = [_read(folder) for folder in sorted({file.parent for file in _tables(path)})]
        finished = [run for run in found if run.tasks]
        if not finished:
            raise RequestError(
                f"no run in {path}: `hybrid-bench run --output DIR` makes one"
                + (", and ends those that were interrupted there" if found else "")
            )
        for run in finished:
            runs.setdefault(run.folder.resolve(), run)
    return list(runs.values())


def _tables(path: Path) -> Iterator[Path]:
    single = list(path.glob("*.queries.parquet"))
    if single:  # what lies further down in a run's folder, superseded or with other options, is another run
        yield from single
        return
    for pattern in ("*/*/", "*/*/experiments/*/", "results/*/*/", "results/*/*/experiments/*/"):
        yield from (file for file in path.glob(f"{pattern}*.queries.parquet") if "superseded" not in file.parts[-3:])


def _read(folder: Path) -> Run:
    signatures = read_signatures(folder)
    tasks: dict[str, TaskTable] = {}
    model, options = folder.parent.name, {}
    for file in sorted(folder.glob("*.queries.parquet")):
        name = file.name.removesuffix(".queries.parquet")
        if name not in signatures or not (folder / f"{name}.json").is_file():
            continue  # interrupted before its result was written
        if signatures[name].get("format") != FORMAT:
            raise DataError(f"{file} was made by another version of hybrid_bench: run the task again")
        try:
            main = signatures[name].get("main_score", "map") == "map"
            table = pq.read_table(file, columns=_COLUMNS if main else [*_COLUMNS, *_MORE_COLUMNS])
        except (ArrowException, OSError) as error:
            raise DataError(f"{file} is damaged ({error}): run the task again") from error
        metadata = metadata_of(table)
        model, options = metadata["model"], metadata["options"]
        tasks[name] = TaskTable(metadata["collection"], table.to_pandas(), metadata)
    return Run(folder, model, options, tasks)


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
    names = _names(runs)
    everything = [table for run in runs for table in run.tasks.values() if table.parallel]
    for collection in dict.fromkeys(table.collection for table in everything):
        for run, name in zip(runs, names, strict=True):
            tables = [table for table in run.tasks.values() if table.collection == collection and table.parallel]
            if not tables:
                continue
            row: dict[str, Any] = {"collection": collection, "model": name, "subsets": {}, "covered": {}}
            for table in tables:
                row["subsets"] |= table.subsets
                row["covered"] |= table.covered
                row |= _means(table.frame)
            rows.append(row)
    return pd.DataFrame(rows, columns=["collection", "model", "subsets", "covered", *(column.key for column in MAIN)])


def _names(runs: Sequence[Run]) -> list[str]:
    """A name for each run; those that would have the same are told apart by their revisions."""
    alike = Counter(run.label for run in runs)
    return [run.label if alike[run.label] == 1 else f"{run.label} @{run.revision[:7]}" for run in runs]


def task_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Rows of the table of other tasks: for each task, setting and run, the keys of `TASKS`.

    Returns:
        Frame as `main_frame` makes it, with the task and its setting in ``collection``.
    """
    rows: list[dict[str, Any]] = []
    names = _names(runs)
    tasks = dict.fromkeys(name for run in runs for name, table in run.tasks.items() if not table.parallel)
    for task, setting in product(tasks, Setting):
        for run, name in zip(runs, names, strict=True):
            table = run.tasks.get(task)
            if table is None or setting.value not in table.covered:
                continue
            frame = table.frame[table.frame["setting"] == setting.value]
            by_subset = frame.groupby(["split", "subset"], observed=True)
            means = by_subset[["ndcg_at_10", "recall_at_100", "ap"]].mean().mean()
            row: dict[str, Any] = {"collection": f"{task}, {setting.value}", "model": name}
            row |= {str(key): float(value) for key, value in means.items()}
            if setting is Setting.MULTILINGUAL:
                shares = pd.DataFrame(
                    [bias_measures(*inputs_of(rows_of, table.metadata)) for _, rows_of in by_subset]
                ).mean()
                row |= {column.key: shares[column.key] for column in TASKS if column.key in shares}
            row["subsets"] = {setting.value: table.subsets[setting.value]}
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
