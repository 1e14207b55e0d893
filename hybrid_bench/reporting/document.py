"""Reports: from saved runs to tables and figures, in every format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybrid_bench.analysis.comparisons import Difference
from hybrid_bench.analysis.scores import CLUSTERS, OF_QUERIES, OF_SUBSETS, check_measure
from hybrid_bench.analysis.study import MEAN, Choices, Level, Study, Value
from hybrid_bench.data.published import PublishedSystem, is_published, published
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting, did_you_mean
from hybrid_bench.measures.significance import DRAWS
from hybrid_bench.reporting.elements import Exhibit, Figure, Table
from hybrid_bench.reporting.figures import figures
from hybrid_bench.reporting.tables import (
    BY_LANGUAGE,
    BY_LANGUAGE_GRADED,
    MAIN,
    bias_tables,
    compare_table,
    differences,
    leaderboard_table,
    main_measure,
    main_table,
    miracl_tables,
    pair_tables,
    per_language_tables,
    reproduce_tables,
    task_table,
)
from hybrid_bench.reporting.text import as_csv, as_json, as_latex, as_markdown, standalone
from hybrid_bench.runs.saved import find_runs
from hybrid_bench.version import VERSION

__all__ = ["FORMATS", "TABLES", "ReportRequest", "compare", "report", "save_figures"]

FORMATS = ("markdown", "latex", "html", "csv", "json")
TABLES = ("main", "bias", "per-language", "pairs", "miracl", "compare", "leaderboard")


@dataclass(frozen=True)
class ReportRequest:
    """What is to be reported, and how.

    Attributes:
        paths: Output folders of `run`, folders of single runs, or ``published:KEY[/SYSTEM]``.
        table: One of `TABLES`; None for the main table and that of other tasks, or, in a page and in the long form, for
            everything.
        format: One of `FORMATS`.
        baseline: Folder of the run that the others are compared with; None for no comparison.
        measure: What ``compare`` compares.
        cluster: What questions are clustered by, see `scores.CLUSTERS`.
        draws: Flips and resamples.
        seed: Of both.
        intervals: Whether tables have intervals; the long form and pages always do.
        letters: Whether the main table has letters of Tukey's test for all pairs of runs.
        standalone: Whether LaTeX is a whole document.
        reproduce: Whether to say how far runs with a published system's backbone and sampling are from print.
        subsets: Only these subsets, by task; None for all that the runs have.
    """

    paths: Sequence[Path | str]
    table: str | None = None
    format: str = "markdown"
    baseline: Path | None = None
    measure: str = "map"
    cluster: str = CLUSTERS[0]
    draws: int = DRAWS
    seed: int = 0
    intervals: bool = False
    letters: bool = False
    standalone: bool = False
    reproduce: bool = False
    subsets: Mapping[str, Collection[str]] | None = None


def report(request: ReportRequest) -> str:
    """The report as text in the format that was asked for.

    Raises:
        RequestError: If a path holds no run, an option is wrong, or runs that cannot be compared are to be.
        DataError: If a run cannot be read.
    """
    _check(request)
    study = study_of(request)
    if request.format == "html" and request.table is None:
        _compute_for_page(study)
    if request.format in {"csv", "json"}:
        records = _records(study, request)
        if not records:
            raise RequestError(_nothing(study, request))
        return as_csv(records) if request.format == "csv" else as_json(records, _details(study))
    tables = _tables(study, request)
    if not tables:
        raise RequestError(_nothing(study, request))
    if request.format == "html":
        from hybrid_bench.reporting.html import page

        shown: list[Exhibit] = [*tables, *(figures(study) if request.table is None else _figures_of(study, request))]
        return page(_title(request), shown, _details(study))
    if request.format == "latex":
        if request.standalone:
            return standalone(tables, intervals=request.intervals)
        return "\n".join(as_latex(table, intervals=request.intervals) for table in tables)
    several = len(tables) > 1 and (request.table is not None or request.reproduce)
    return "\n".join(
        (f"**{table.title}**\n\n" if several else "") + as_markdown(table, intervals=request.intervals)
        for table in tables
    )


def compare(request: ReportRequest) -> str:
    """The runs against one of them, in every setting that all of them have.

    Raises:
        RequestError: If there are fewer than two runs, they cannot be compared, or have nothing in common.
        DataError: If a run cannot be read.
    """
    return report(replace(request, table="compare"))


def save_figures(request: ReportRequest, folder: Path) -> list[Path]:
    """Draw the figures of the runs into a folder, as PNG and PDF.

    Returns:
        The files.

    Raises:
        RequestError: As `report`; or if matplotlib is not installed.
        DataError: If a run cannot be read, or the folder not be written.
    """
    from hybrid_bench.reporting.plots import save

    _check(request)
    study = study_of(replace(request, intervals=True))
    made = figures(study)
    if not made:
        raise RequestError("there is nothing to draw: the runs have neither several languages nor a multilingual pool")
    return save(made, folder)


def study_of(request: ReportRequest) -> Study:
    """The runs and published systems that a request names."""
    folders = [Path(path) for path in request.paths if not is_published(path)]
    reported: list[PublishedSystem] = []
    for path in request.paths:
        if is_published(path):
            reported += [system for system in published(str(path)) if system not in reported]
    baseline = request.baseline
    if request.table == "compare" and (reported or (baseline is not None and is_published(baseline))):
        raise RequestError(
            f"'{next(str(p) for p in [*request.paths, baseline] if p is not None and is_published(p))}' cannot be "
            "compared: published results have no scores by query; `report` shows them beside runs"
        )
    if baseline is not None and is_published(baseline):
        raise RequestError(
            f"'{baseline}' cannot be a baseline: published results have no scores by query; name the folder of a run"
        )
    runs = find_runs(folders if baseline is None else [baseline, *folders]) if folders or baseline else []
    if baseline is not None and len(find_runs([baseline])) > 1:
        raise RequestError(
            f"{baseline} holds several runs: name the folder of one, <output>/results/<model>/<revision>"
        )
    if request.subsets is not None:
        runs = [run.only(request.subsets) for run in runs]
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
    )
    return Study(runs, reported, choices)


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
    if request.table == "compare":
        check_measure(request.measure)


def _tables(study: Study, request: ReportRequest) -> list[Table]:
    name = request.table
    everything = name is None and request.format == "html"
    found: list[Table | None] = []
    if name in {None, "main"}:
        found.append(main_table(study, letters=request.letters))
    if name is None:
        found.append(task_table(study))
    if name == "leaderboard" or (everything and len(study.runs) > 1):
        found.append(leaderboard_table(study))
    if name == "compare":
        found.append(compare_table(study, request.measure))
    if name == "per-language" or everything:
        found += per_language_tables(study)
    if name == "miracl":
        found += miracl_tables(study)
    if name == "bias" or everything:
        found += bias_tables(study)
    if name == "pairs":  # in a page they are heat maps
        found += pair_tables(study)
    if request.reproduce:
        found += reproduce_tables(study)
    return [table for table in found if table is not None]


def _compute_for_page(study: Study) -> None:
    """Compute what the tables and figures of a page ask for in few calls, which share their resamples, and are kept."""
    for parallel, shown in ((True, BY_LANGUAGE), (False, BY_LANGUAGE_GRADED)):
        for collection in study.collections(parallel=parallel):
            main = main_measure(study, collection)
            for setting in study.settings(collection):
                by_language = {measure for each, measure in shown if each is setting} - {main}
                study.values(collection, setting, [main])
                study.values(collection, setting, sorted(by_language), {"mean", "language", "seen"})


def _figures_of(study: Study, request: ReportRequest) -> list[Figure]:
    """The figures that belong to one table in a page."""
    wanted = {"pairs": ("pairs-",), "bias": ("answers-", "distances-", "bias-"), "per-language": ("languages-",)}
    return [figure for figure in figures(study) if figure.name.startswith(wanted.get(request.table or "", ("\0",)))]


def _title(request: ReportRequest) -> str:
    return "Leaderboard" if request.table == "leaderboard" else "Multilingual retrieval"


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


def _records(study: Study, request: ReportRequest) -> list[dict[str, Any]]:
    """One record for each value: long, not rounded, with what is known about it."""
    if request.table == "compare":
        return _compared(study, request.measure)
    if request.table == "leaderboard":
        return _standings(study)
    records: list[dict[str, Any]] = []
    for parallel in (True, False):
        for collection in study.collections(parallel=parallel):
            for setting in study.settings(collection):
                if request.table == "miracl" and collection != "MIRACL":
                    continue
                measures, levels = _wanted(study, request, collection, setting, parallel)
                values = study.values(collection, setting, measures, levels)
                records += [
                    _record(study, run, level, value, collection=collection, setting=setting.value, metric=measure)
                    for (run, measure), found in values.items()
                    for level, value in found.items()
                ]
    for system in study.reported:
        records += [
            {
                **_EMPTY,
                "system": system.name,
                "kind": "reported",
                "collection": value.collection,
                "setting": value.setting.value,
                "query_language": value.query_language,
                "metric": value.metric,
                "value": value.value,
                "source": f"{system.publication.identifier}, {value.source}",
            }
            for value in system.values.values()
            if request.table != "miracl" or value.collection == "MIRACL"
        ]
    return records


_EMPTY: Mapping[str, Any] = dict.fromkeys(
    (
        *("system", "kind", "revision", "collection", "setting", "query_language", "pool", "metric", "value", "n"),
        *("subsets", "lo", "hi", "cluster", "clusters", "baseline", "delta", "p", "p_adjusted", "source"),
    )
)


def _standings(study: Study) -> list[dict[str, Any]]:
    """One record for each number of the leaderboard."""
    table = leaderboard_table(study)
    records = []
    for row in () if table is None else table.rows:
        for column, cell in zip(table.columns if table else (), row.cells, strict=True):
            setting, _, kind = column.key.rpartition(" ")
            place = {
                "system": row.label,
                "kind": row.kind,
                "collection": row.section,
                "setting": setting,
                "metric": kind,
            }
            records.append({**_EMPTY, **place, "query_language": MEAN, "value": cell.value})
    return [record for record in records if record["value"] is not None]


def _compared(study: Study, measure: str) -> list[dict[str, Any]]:
    """One record for each run and setting that are compared, with all that `significance.compare` says."""
    records = []
    runs = {name: run for run, name in enumerate(study.names)}
    for aligned, found in differences(study, measure):
        collection, setting = found[0].collection, found[0].setting
        values = study.values(collection, setting, [measure], {"mean"})
        place = {"collection": collection, "setting": setting.value, "metric": measure}
        of_runs = {each.run: each for each in found}
        for name in aligned.runs:
            run, level = runs[name], Level(MEAN)
            record = _record(study, run, level, values[run, measure][level], **place)
            each = of_runs.get(name)
            records.append({**record, **(dict.fromkeys(_OF_DIFFERENCES) if each is None else _difference(each))})
    return records


def _difference(each: Difference) -> dict[str, Any]:
    result = each.result
    named = (result.low, result.high, result.se, result.d_z, result.detectable, result.wins, result.ties, result.losses)
    classical = (result.p_t, result.p_paired_t, result.p_wilcoxon)
    by_cluster = (each.by[name].p if name in each.by else None for name in CLUSTERS)
    return dict(zip(_OF_DIFFERENCES, (*named, *classical, *by_cluster), strict=True))


#: What a comparison has besides: ends of the interval of ``delta``, cells in which the run scores higher or lower than
#: the baseline, and p-values of other tests and other clusters.
_OF_DIFFERENCES = (
    *("delta_lo", "delta_hi", "se", "d_z", "detectable", "higher", "ties", "lower"),
    *("p_t", "p_paired_t", "p_wilcoxon"),
    *(f"p_{name}" for name in CLUSTERS),
)


def _wanted(
    study: Study, request: ReportRequest, collection: str, setting: Setting, parallel: bool
) -> tuple[list[str], set[str]]:
    """Measures and levels that a table shows; all where none is named."""
    table = request.table
    quality = ["map", "ndcg_at_10", "recall_at_1", "recall_at_10", "recall_at_100", "mrr"]
    excess = [f"bias_js_at_10_{target}_{what}" for target in ("uniform", "prior") for what in ("expected", "excess")]
    bias = [*(key for key in OF_QUERIES if key.startswith("bias_")), *OF_SUBSETS, *excess]
    bias = bias if setting is Setting.MULTILINGUAL else []
    if table is None:
        return [*quality, *bias], {"mean", "language", "pair", "seen"}
    if table == "bias":
        return bias, {"mean", "language"}
    if table == "pairs":
        return [main_measure(study, collection)], {"language", "pair"}
    if table in {"per-language", "miracl"}:
        shown = BY_LANGUAGE if parallel else BY_LANGUAGE_GRADED
        return [measure for each, measure in shown if each is setting], {"mean", "language", "seen"}
    return [column.key for each, column in MAIN if each is setting] if parallel else quality, {"mean"}


def _record(study: Study, run: int, level: Level, value: Value, **place: str) -> dict[str, Any]:
    choices = study.choices
    tested = value.p is not None
    return {
        **_EMPTY,
        "system": study.names[run],
        "kind": "run",
        "revision": study.runs[run].revision,
        **place,
        "query_language": level.query_language,
        "pool": level.pool,
        "value": value.value,
        "n": value.n,
        "subsets": value.subsets,
        "lo": value.low,
        "hi": value.high,
        "cluster": choices.cluster if tested or value.low is not None else None,
        "clusters": value.clusters,
        "baseline": study.names[choices.baseline] if tested and choices.baseline is not None else None,
        "delta": value.delta,
        "p": value.p,
        "p_adjusted": value.p_adjusted,
    }
