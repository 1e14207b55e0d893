"""Reports: from saved runs to tables and figures, in every format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from hybrid_bench.analysis.comparisons import Difference, check_margin
from hybrid_bench.analysis.frame import COLUMNS, COMPUTED, Request, Results, results_of
from hybrid_bench.analysis.scores import CLUSTERS, COMPARED, OF_POOLS, OF_QUERIES, OF_SUBSETS, check_measure
from hybrid_bench.analysis.study import SEEN, Choices, Study
from hybrid_bench.data.published import PublishedSystem, is_published, published_systems
from hybrid_bench.errors import RequestError, listed
from hybrid_bench.languages import Setting, did_you_mean, settings_of
from hybrid_bench.measures.significance import DRAWS
from hybrid_bench.reporting.elements import Figure, Table
from hybrid_bench.reporting.figures import chosen_figures, figure_needs, figures_of
from hybrid_bench.reporting.methods import check_methods, method_records, methods_table
from hybrid_bench.reporting.tables import (
    BY_LANGUAGE,
    BY_LANGUAGE_GRADED,
    MAIN,
    compare_needs,
    compare_table,
    differences,
    needs_of,
    reproduce_tables,
    tables_of,
)
from hybrid_bench.reporting.text import as_csv, as_json, as_latex, as_markdown, as_terminal, standalone
from hybrid_bench.runs.reading import Run, common_to, find_run, find_runs, titled
from hybrid_bench.version import VERSION

__all__ = [
    "FORMATS",
    "TABLES",
    "WRITTEN",
    "Report",
    "ReportRequest",
    "compare",
    "report",
    "report_of",
    "save_figures",
    "study_of",
]

FORMATS = ("markdown", "terminal", "latex", "html", "csv", "json")
TABLES = ("main", "bias", "per-language", "pairs", "miracl", "compare", "leaderboard")


@dataclass(frozen=True)
class ReportRequest:
    """What is to be reported, and how.

    Attributes:
        paths: Output folders of `run`, folders of single runs, runs, or ``published:KEY[/SYSTEM]``.
        table: One of `TABLES`; None for the main table and that of other tasks, or, in a page and in the long form, for
            everything.
        format: One of `FORMATS`.
        baseline: The run that the others are compared with, or its folder, or its model's name; None for no comparison.
        measure: What ``compare`` compares.
        cluster: What questions are clustered by, see `scores.CLUSTERS`.
        draws: Flips and resamples.
        seed: Of both.
        intervals: Whether tables have intervals; the long form and pages always do.
        letters: Whether the main table has letters of Tukey's test for all pairs of runs.
        standalone: Whether LaTeX is a whole document.
        reproduce: Whether to say how far runs with a published system's backbone and sampling are from print.
        subsets: Only these subsets, by task; None for all that the runs have.
        margin: By how much a run would be worse, for ``compare``; None for no tests of that.
        groups: Instead of paths, for ``compare``: the runs of each method, trained several times, by its name.
        size: A difference of methods; how many trainings or clusters would find it is told.
        common: Whether only subsets count that all runs have.
        labels: What runs are called in tables, figures and the page, by the names that they have without (see
            `reading.titled`); files for programs, CSV and JSON, keep these.
        width: Characters in a line of the format ``terminal``.
        primary: The measure whose p-values are adjusted for the number of runs alone, as ``map`` in the multilingual
            setting or ``cross-lingual:map``; None for each collection's main measure in the multilingual setting.
    """

    paths: Sequence[Path | str | Run]
    table: str | None = None
    format: str = "markdown"
    baseline: Path | str | Run | None = None
    measure: str = "map"
    cluster: str = CLUSTERS[0]
    draws: int = DRAWS
    seed: int = 0
    intervals: bool = False
    letters: bool = False
    standalone: bool = False
    reproduce: bool = False
    subsets: Mapping[str, Collection[str]] | None = None
    margin: float | None = None
    groups: Mapping[str, Sequence[Path | Run]] | None = None
    size: float | None = None
    common: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    width: int = 100
    primary: str | None = None


class Report:
    """A report: the long frame of all that it shows, computed once, and what is made from it.

    Attributes:
        request: What was asked for.
        study: The runs and published systems.
    """

    def __init__(self, request: ReportRequest) -> None:
        _check(request)
        self.request, self.study = request, study_of(request)

    @cached_property
    def results(self) -> Results:
        """The values of the runs that the report shows."""
        if self._is_long:
            return results_of(self.study, _long_needs(self.study, self.request))
        needs = needs_of(self.study, self._names)
        needs += figure_needs(self.study) if self._has_figures else []
        needs += compare_needs(self.study, self.request.measure) if self.request.table == "compare" else []
        return results_of(self.study, needs)

    @property
    def frame(self) -> pd.DataFrame:
        """The long frame, see `analysis.frame.Results`."""
        return self.results.frame

    @cached_property
    def tables(self) -> dict[str, list[Table]]:
        """Its tables by name; those that the runs have nothing for are empty."""
        found = {name: tables_of(self.study, [name], self.results) for name in self._names}
        margin, size = self.request.margin, self.request.size
        if self.request.groups is not None:
            found["compare"] = [methods_table(self.study, *self._methods, margin=margin, size=size)]
        elif self.request.table == "compare":
            found["compare"] = [compare_table(self.study, self.request.measure, margin, self.results)]
        if self.request.reproduce:
            found["reproduce"] = reproduce_tables(self.study)
        return found

    @cached_property
    def figures(self) -> list[Figure]:
        """Its figures: of a page, or those that belong to its one table."""
        if not self._has_figures:
            return []
        figures = figures_of(self.study, self.results)
        return [figure for figure in figures if figure.name.startswith(_FIGURES_OF.get(self.request.table or "", ""))]

    def text(self) -> str:
        """The report in its format.

        Raises:
            RequestError: If the runs have nothing for it, or cannot be compared.
            DataError: If a run cannot be read.
        """
        request, study = self.request, self.study
        if self._is_long:
            records = self.records()
            if not records:
                raise RequestError(_nothing(study, request))
            return as_csv(records) if request.format == "csv" else as_json(records, _details(study))
        tables = [table for each in self.tables.values() for table in each]
        if not tables:
            raise RequestError(_nothing(study, request))
        if request.format == "html":
            from hybrid_bench.reporting.html import page

            return page(self._title, [*tables, *self.figures], _details(study))
        if request.format == "latex":
            if request.standalone:
                return standalone(tables, intervals=request.intervals)
            return "\n".join(as_latex(table, intervals=request.intervals) for table in tables)
        several = len(tables) > 1 and (request.table is not None or request.reproduce)
        if request.format == "terminal":
            return "\n".join(
                (f"{table.title}\n\n" if several else "")
                + as_terminal(table, request.width, intervals=request.intervals, styled=True)
                for table in tables
            )
        return "\n".join(
            (f"**{table.title}**\n\n" if several else "") + as_markdown(table, intervals=request.intervals)
            for table in tables
        )

    @property
    def _title(self) -> str:
        """What a page is called: what it shows, and of whom."""
        kind = "Leaderboard" if self.request.table == "leaderboard" else "Multilingual retrieval"
        return f"{kind}: {listed([*self.study.names, *(system.label for system in self.study.reported)])}"

    @property
    def _is_long(self) -> bool:
        return self.request.format in {"csv", "json"}

    @property
    def _has_figures(self) -> bool:
        return self.request.format == "html" and (self.request.table is None or self.request.table in _FIGURES_OF)

    @property
    def _names(self) -> list[str]:
        """Its tables that are made from the frame."""
        if self.request.table is not None:
            return [name for name in [self.request.table] if name != "compare"]
        if self.request.format != "html":
            return ["main", "tasks"]
        board = ["leaderboard"] if len(self.study.runs) > 1 else []
        return ["main", "tasks", *board, "per-language", "bias"]  # pairs are heat maps in a page

    @property
    def _methods(self) -> tuple[dict[str, list[int]], str, str]:
        """The runs of each method, by their positions; the baseline's name; the measure."""
        groups = self.request.groups or {}
        position = {run.folder.resolve(): place for place, run in enumerate(self.study.runs)}
        methods = {name: [position[run.folder.resolve()] for run in find_runs(each)] for name, each in groups.items()}
        named = None if self.request.baseline is None else str(self.request.baseline)
        return methods, check_methods(methods, named), self.request.measure

    def records(self) -> list[dict[str, Any]]:
        """One record for each value: long, not rounded, with what is known about it."""
        if self.request.table == "leaderboard":
            return _standings(self.study)
        if self.request.groups is not None:
            return method_records(self.study, *self._methods, margin=self.request.margin, size=self.request.size)
        if self.request.table == "compare":
            return _compared(self.results, self.request.measure, self.request.margin)
        found = self.frame
        if self.request.table == "miracl":
            found = found[found["collection"] == "MIRACL"]
        return _long(found)


#: What the names of the figures that belong to a table begin with.
_FIGURES_OF = {"pairs": ("pairs-",), "bias": ("answers-", "distances-", "bias-"), "per-language": ("languages-",)}


def report_of(request: ReportRequest) -> Report:
    """The report that a request asks for.

    Raises:
        RequestError: If a path holds no run, or an option is wrong.
        DataError: If a run cannot be read.
    """
    return Report(request)


def report(request: ReportRequest) -> str:
    """The report as text in the format that was asked for.

    Raises:
        RequestError: If a path holds no run, an option is wrong, or runs that cannot be compared are to be.
        DataError: If a run cannot be read.
    """
    return Report(request).text()


def compare(request: ReportRequest) -> str:
    """The runs against one of them, in every setting that all of them have.

    Raises:
        RequestError: If there are fewer than two runs, they cannot be compared, or have nothing in common.
        DataError: If a run cannot be read.
    """
    return report(replace(request, table="compare"))


def save_figures(request: ReportRequest, folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Draw the figures of the runs into a folder, as PNG and PDF.

    Args:
        request: The runs, and how they are compared.
        folder: Where to.
        names: Only the figures of these names, see `figures.chosen_figures`; all if empty.

    Returns:
        The files.

    Raises:
        RequestError: As `report`; if matplotlib is not installed; or if there is no figure of a name.
        DataError: If a run cannot be read, or the folder not be written.
    """
    from hybrid_bench.reporting.plots import save

    _check(request)
    study = study_of(replace(request, intervals=True))
    made = figures_of(study)
    if not made:
        raise RequestError("there is nothing to draw: the runs have neither several languages nor a multilingual pool")
    return save(chosen_figures(made, names) if names else made, folder)


def study_of(request: ReportRequest) -> Study:
    """The runs and published systems that a request names."""
    if request.groups is not None:
        check_methods(request.groups, None if request.baseline is None else str(request.baseline))
        runs_of = {name: find_runs(each) for name, each in request.groups.items()}
        folders = [run.folder.resolve() for runs in runs_of.values() for run in runs]
        twice = next((folder for folder in folders if folders.count(folder) > 1), None)
        if twice is not None:
            raise RequestError(f"{twice} is a run of two groups: a training belongs to one method")
        request = replace(request, paths=[run for runs in runs_of.values() for run in runs], baseline=None)
    paths: list[Path | Run] = []
    reported: list[PublishedSystem] = []
    for path in request.paths:
        if isinstance(path, Run) or not is_published(path):
            paths.append(path if isinstance(path, Run) else Path(path))
        else:
            reported += [system for system in published_systems(str(path)) if system not in reported]
    baseline = request.baseline
    unusable = baseline is not None and not isinstance(baseline, Run) and is_published(baseline)
    if request.table == "compare" and (reported or unusable):
        each = [*request.paths, *([baseline] if unusable else [])]
        named = next(
            str(path) for path in each if not isinstance(path, Run) and path is not None and is_published(path)
        )
        raise RequestError(
            f"'{named}' cannot be compared: published results have no scores by query; `report` shows them beside runs"
        )
    if unusable:
        raise RequestError(
            f"'{baseline}' cannot be a baseline: published results have no scores by query; name the folder of a run"
        )
    runs = find_runs(paths if baseline is None else [find_run(baseline, paths), *paths])
    if request.subsets is not None:
        runs = [run.only(request.subsets) for run in runs]
    if request.common and runs:
        runs = common_to(runs)
    labelled = titled(runs, request.labels)
    if request.format not in {"csv", "json"}:
        runs = labelled
    position = None if baseline is None else 0
    if request.table == "compare":
        position = 0
        if len(runs) < 2:
            label = runs[0].label if runs else "none"
            raise RequestError(f"one run only ({label}): a comparison takes two; name another run's folder")
    choices = Choices(
        baseline=position,
        intervals=request.intervals or request.format in {"html", "csv", "json"},
        cluster=request.cluster,
        draws=request.draws,
        seed=request.seed,
        letters=request.letters,
        primary=_primary(request.primary),
    )
    return Study(runs, reported, choices)


def _primary(name: str | None) -> tuple[Setting, str] | None:
    """The setting and measure that are primary.

    Raises:
        RequestError: If there is no such setting, or no such measure by which runs can be compared.
    """
    if name is None:
        return None
    setting, _, measure = name.rpartition(":")
    check_measure(measure, COMPARED)
    return next(iter(settings_of([setting or Setting.MULTILINGUAL]))), measure


def _check(request: ReportRequest) -> None:
    for name, value, known in (
        ("format", request.format, FORMATS),
        ("table", request.table, TABLES),
        ("cluster", request.cluster, CLUSTERS),
    ):
        if value is not None and value not in known:
            raise RequestError(f"unknown {name} '{value}': {did_you_mean(value, known)}")
    if request.standalone and request.format != "latex":
        raise RequestError(f"--standalone goes with --format latex, not with {request.format}")
    if request.reproduce and request.format in {"csv", "json"}:
        raise RequestError(f"--reproduce makes a table: take --format markdown, latex or html, not {request.format}")
    if request.letters and (request.table not in {None, "main"} or request.format in {"csv", "json"}):
        raise RequestError("--letters are of the main table, in --format markdown, latex or html: leave it out")
    if request.measure != "map" and request.table != "compare":
        raise RequestError(f"--measure {request.measure} goes with --table compare: other tables have their own")
    if request.draws < 100:
        raise RequestError(f"{request.draws} draws: take at least 100, better {DRAWS}")
    if request.seed < 0:
        raise RequestError(f"seed {request.seed}: give a whole number from 0 up")
    _check_of_compare(request)


def _check_of_compare(request: ReportRequest) -> None:
    """What only comparisons have."""
    if request.table == "compare":
        check_measure(request.measure, COMPARED)
    _primary(request.primary)
    for name, asked in (("margin", request.margin), ("group", request.groups), ("size", request.size)):
        if asked is not None and request.table != "compare":
            raise RequestError(f"--{name} goes with `compare`: other tables have no tests of that kind")
    if request.margin is not None:
        check_margin(request.margin)
    if request.size is not None and (request.groups is None or not 0 < request.size < float("inf")):
        raise RequestError(f"--size {request.size:g}: give a number above 0, and the trainings of each --group")


def _nothing(study: Study, request: ReportRequest) -> str:
    what = "tables" if request.table is None else f"table '{request.table}'"
    names = ", ".join([*study.names, *(system.label for system in study.reported)])
    return f"there is nothing for the {what} in {names}: `hybrid-bench run` says what a task needs"


def _details(study: Study) -> dict[str, Any]:
    """What repeats the numbers: of the report, and of each run its signatures."""
    choices = study.choices
    runs = {}
    for run, name in zip(study.runs, study.names, strict=True):
        signatures = {task: dict(table.signature) for task, table in run.tasks.items()}
        runs[name] = {"model": run.model, "revision": run.revision, "options": dict(run.options), "tasks": signatures}
    return {
        "hybrid_bench": VERSION,
        "baseline": None if choices.baseline is None else study.names[choices.baseline],
        "cluster": choices.cluster,
        "draws": choices.draws,
        "seed": choices.seed,
        "confidence": 0.95,
        "runs": runs,
        "published": [system.publication.citation for system in study.reported[:1]],
    }


# -- the long form ------------------------------------------------------------------------------------------------

#: What columns of the frame are called where the long form is written.
WRITTEN = {"run": "system", "measure": "metric", "low": "lo", "high": "hi"}


def _long(frame: pd.DataFrame, besides: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of the frame, whatever columns it has, as records; None for what is not there.

    As files have it, the column of the query language holds the name of any other level.
    """
    languages = frame["query_language"].where(frame["query_language"] != "", frame["level"])
    columns = [column for column in [*COLUMNS, *besides] if column != "level"]
    written = frame.assign(query_language=languages).reindex(columns=columns).rename(columns=WRITTEN).astype(object)
    rows = written.where(written.notna(), None).itertuples(index=False, name=None)
    return [dict(zip(written.columns, row, strict=True)) for row in rows]


def _standings(study: Study) -> list[dict[str, Any]]:
    """One record for each number of the leaderboard."""
    rows = []
    for table in tables_of(study, ["leaderboard"]):
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                setting, _, measure = column.key.rpartition(" ")
                rows.append(
                    {
                        "run": row.label,
                        "kind": row.kind,
                        "collection": row.section,
                        "setting": setting,
                        "level": "mean",
                        "query_language": "",
                        "measure": measure,
                        "value": cell.value,
                    }
                )
    return _long(pd.DataFrame([row for row in rows if row["value"] is not None], dtype=object)) if rows else []


def _compared(results: Results, measure: str, margin: float | None = None) -> list[dict[str, Any]]:
    """One record for each run and setting that are compared, with all that `significance.compare` says."""
    of_runs: dict[tuple[str, str, str], dict[str, Any]] = {}
    columns = [*_OF_DIFFERENCES, *(_OF_MARGINS if margin is not None else ())]
    for aligned, found in differences(results.study, measure, margin):
        place = (found[0].collection, found[0].setting.value)
        of_runs |= {(name, *place): dict.fromkeys(columns) for name in aligned.runs}
        of_runs |= {(each.run, *place): _difference(each) for each in found}
    frame = results.frame[results.frame["kind"] == "run"]
    keys = list(zip(frame["run"], frame["collection"], frame["setting"], strict=True))
    frame = frame[[key in of_runs for key in keys]].reset_index(drop=True)
    besides = pd.DataFrame([of_runs[key] for key in keys if key in of_runs], dtype=object)
    return _long(frame.join(besides), columns)


def _difference(each: Difference) -> dict[str, Any]:
    result = each.result
    return {
        "delta_lo": result.low,
        "delta_hi": result.high,
        "se": result.se,
        "d_z": result.d_z,
        "detectable": result.detectable,
        "higher": result.wins,
        "ties": result.ties,
        "lower": result.losses,
        "p_t": result.p_t,
        "p_paired_t": result.p_paired_t,
        "p_wilcoxon": result.p_wilcoxon,
        **{f"p_{name}": each.by[name].p if name in each.by else None for name in CLUSTERS},
        **({} if each.within is None else dict(zip(_OF_MARGINS, vars(each.within).values(), strict=True))),
    }


#: What a comparison has besides: ends of the interval of ``delta``, cells in which the run scores higher or lower than
#: the baseline, and p-values of other tests and other clusters.
_OF_DIFFERENCES = (
    *("delta_lo", "delta_hi", "se", "d_z", "detectable", "higher", "ties", "lower"),
    *("p_t", "p_paired_t", "p_wilcoxon"),
    *(f"p_{name}" for name in CLUSTERS),
)


#: What it has by a margin, in the order of `comparisons.Within`.
_OF_MARGINS = ("margin", "p_not_worse", "p_better", "p_equivalent", "margin_lo", "margin_hi")


def _long_needs(study: Study, request: ReportRequest) -> list[Request]:
    """The values of the long form of a table, which may be more than it shows; all where none is named."""
    table = request.table
    if table == "leaderboard":  # made from the table
        return []
    if table == "compare":
        return compare_needs(study, request.measure)
    return [
        Request(collection, setting, *_measures_and_levels(study, table, collection, setting, parallel=parallel))
        for parallel in (True, False)
        for collection in study.collections(parallel=parallel)
        for setting in study.settings(collection)
        if study.runs and (table != "miracl" or collection == "MIRACL")
    ]


def _measures_and_levels(
    study: Study, table: str | None, collection: str, setting: Setting, *, parallel: bool
) -> tuple[list[str], list[str]]:
    quality = ["map", "ndcg_at_10", "recall_at_1", "recall_at_10", "recall_at_100", "mrr"]
    bias = [*(key for key in OF_QUERIES if key.startswith("bias_")), *OF_SUBSETS, *OF_POOLS]
    bias = bias if setting is Setting.MULTILINGUAL else []
    if table is None:
        return [*quality, *bias], list(COMPUTED)
    if table == "bias":
        return bias, ["mean", "language"]
    if table == "pairs":
        return [study.main_measure(collection)], ["language", "pair"]
    if table in {"per-language", "miracl"}:
        shown = BY_LANGUAGE if parallel else BY_LANGUAGE_GRADED
        return [measure for each, measure in shown if each is setting], ["mean", "language", *SEEN]
    return [column.key for each, column in MAIN if each is setting] if parallel else quality, ["mean"]
