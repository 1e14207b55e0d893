"""The comparison of methods, each trained several times: a table, and records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hybrid_bench.analysis.comparisons import LEVEL, MethodDifference, against_method, seed_of
from hybrid_bench.analysis.study import Study
from hybrid_bench.errors import RequestError, listed
from hybrid_bench.reporting.elements import Cell, Column, Row, Table
from hybrid_bench.reporting.tables import (
    DAGGER,
    MARGIN_COLUMNS,
    claims,
    common_settings,
    direction,
    margin_cells,
    margin_notes,
    p_text,
)

__all__ = ["method_differences", "method_records", "methods_table"]

#: Positions of the runs of each method, by its name.
Methods = Mapping[str, Sequence[int]]


def method_differences(
    study: Study, methods: Methods, baseline: str, measure: str, margin: float | None = None
) -> Iterator[list[MethodDifference]]:
    """Every other method against one of them, in each setting that all runs have and the measure applies to.

    Raises:
        RequestError: If a method has a single run, or runs cannot be compared.
    """
    for name, runs in methods.items():
        if len(runs) < 2:
            what = f"only {study.names[runs[0]]}" if runs else "no run"
            raise RequestError(
                f"{name} has {what}: a method takes at least 2 trainings; `compare` without --group compares runs"
            )
    seeds = [seed_of(run) for run in study.runs]
    for collection, setting in common_settings(study):
        aligned = study.aligned(range(len(study.runs)), collection, setting, measure)
        if len(aligned.queries):
            place: dict[str, Any] = {"collection": collection, "setting": setting, "measure": measure}
            yield against_method(
                aligned,
                methods,
                baseline,
                seeds,
                cluster=study.choices.cluster,
                margin=margin,
                higher_is_better=direction(measure) is not False,
                **place,
            )


def methods_table(
    study: Study,
    methods: Methods,
    baseline: str,
    measure: str,
    *,
    margin: float | None = None,
    size: float | None = None,
) -> Table:
    """Every method against one of them: for other questions and other trainings.

    Args:
        study: The runs.
        methods: Those of each method, at least two.
        baseline: Name of the method that the others are compared with.
        measure: A measure that is a mean over queries.
        margin: By how much a method would be worse; None for no tests of that.
        size: A difference; how many trainings or clusters would find it is told. None for nothing of that.

    Raises:
        RequestError: If the runs cannot be compared, or have nothing in common.
    """
    by = f"{study.choices.cluster}s"
    columns = [
        Column("runs", "Trainings", "", None, None),
        Column("mean", "Mean", "", 4, None),
        Column("spread", "SD", "", 4, None),
        Column("delta", "Difference", "", 4, None),
        Column("interval", "95% interval", "", None, None),
        Column("p", "p", "", None, None),
        Column("p_adjusted", "p (Holm)", "", None, None),
        Column("se_questions", by, "Standard error from", 4, None),
        Column("se_trainings", "trainings", "Standard error from", 4, None),
        Column("df", "df", "", 1, None),
        Column("detectable", "MDE", "", 4, None),
        *(() if size is None else (Column("more_trainings", "trainings", f"For {size:g}", None, None),)),
        *(() if size is None else (Column("more_clusters", by, f"For {size:g}", None, None),)),
        *(MARGIN_COLUMNS if margin is not None else ()),
    ]
    rows: list[Row] = []
    notes: list[str] = []
    paired: set[bool] = set()
    within: dict[tuple[str, str], dict[Any, Any]] = {}
    for found in method_differences(study, methods, baseline, measure, margin):
        first = found[0]
        section = f"{first.collection}, {first.setting.value}"
        empty = [Cell()] * (len(columns) - 2)
        rows.append(
            Row(section, baseline, (Cell(text=str(len(methods[baseline]))), _number(first.result.mean_b, 4), *empty))
        )
        rows += [Row(section, each.method, _cells(each, size)) for each in found]
        result = first.result
        notes.append(f"{section}: {result.n_settings} subsets, {result.n_cells:,} queries in {result.n_clusters} {by}.")
        paired |= {each.result.paired for each in found}
        for each in found:
            if each.within is not None:
                within.setdefault((each.collection, each.method), {})[each.setting] = each.within
    if not rows:
        raise RequestError(f"nothing to compare: the runs have no setting of a collection in common with '{measure}'")
    how = {
        (True,): "paired by their seeds",
        (False,): "not paired, as methods do not have the same seeds, or fewer than 3",
        (False, True): "paired by their seeds where methods have the same",
    }[tuple(sorted(paired))]
    notes.append(
        f"Difference from {baseline} in {measure}, means over trainings of means over subsets and queries. Intervals "
        f"and p speak of other questions and other trainings: two crossed sources of variance, {by} and trainings, "
        f"{how}; t with Satterthwaite's degrees of freedom (df). Holm: adjusted for the methods compared in a setting, "
        f"{DAGGER} where that is below {LEVEL}. SD: of the trainings' means, of their differences where they are "
        f"paired. MDE: difference that one test at {LEVEL} would find in 80% of cases."
    )
    if size is not None:
        notes.append(
            f"For {size:g}: how many trainings of each method, or how many {by}, would find a true difference of "
            f"{size:g} in 80% of cases, if all else stays; -: no number would."
        )
    if margin is not None:
        notes += [*margin_notes(margin, measure, "the t-test"), *claims(within, margin, measure)]
    title = f"Differences of methods from {baseline} in {measure}"
    return Table("compare", title, ("Setting", "Method"), tuple(columns), tuple(rows), tuple(notes))


def _cells(each: MethodDifference, size: float | None) -> tuple[Cell, ...]:
    result = each.result
    needed = () if size is None else (result.trainings_for(size), result.clusters_for(size))
    return (
        Cell(text=str(result.trainings[0])),
        _number(result.mean_a, 4),
        _number(result.spread[0], 4),
        Cell(
            result.delta,
            f"{result.delta:+.4f}",
            mark=DAGGER if each.p_adjusted < LEVEL else "",
            low=result.low,
            high=result.high,
            p=result.p,
            p_adjusted=each.p_adjusted,
        ),
        Cell(text=f"{result.low:+.4f} to {result.high:+.4f}"),
        Cell(result.p, p_text(result.p)),
        Cell(each.p_adjusted, p_text(each.p_adjusted)),
        _number(float(np.sqrt(result.of_questions)), 4),
        _number(float(np.sqrt(result.of_trainings)), 4),
        _number(result.df, 1),
        _number(result.detectable(), 4),
        *(Cell(text="-" if n is None else f"{n:,}") for n in needed),
        *(() if each.within is None else margin_cells(each.within)),
    )


def _number(value: float, decimals: int) -> Cell:
    return Cell(value, f"{value:.{decimals}f}")


def method_records(
    study: Study,
    methods: Methods,
    baseline: str,
    measure: str,
    *,
    margin: float | None = None,
    size: float | None = None,
) -> list[dict[str, Any]]:
    """One record for each method and setting, not rounded; see `methods_table` for the arguments."""
    records = []
    for found in method_differences(study, methods, baseline, measure, margin):
        for each in found:
            numbers = asdict(each.result)
            (numbers["trainings"], numbers["trainings_b"]) = each.result.trainings
            (numbers["spread"], numbers["spread_b"]) = each.result.spread
            place = {
                "method": each.method,
                "baseline": each.baseline,
                "collection": each.collection,
                "setting": each.setting.value,
                "metric": each.measure,
                "cluster": study.choices.cluster,
            }
            record = place | numbers | {"p_adjusted": each.p_adjusted, "detectable": each.result.detectable()}
            if size is not None:
                record |= {
                    "size": size,
                    "trainings_for_size": each.result.trainings_for(size),
                    "clusters_for_size": each.result.clusters_for(size),
                }
            if each.within is not None:
                record |= {f"margin_{name}" if name != "margin" else name: v for name, v in vars(each.within).items()}
            records.append(record)
    return records


def check_methods(groups: Mapping[str, Sequence[Any]], baseline: str | None) -> str:
    """Name of the baseline: the first group where none is named.

    Raises:
        RequestError: If there are fewer than two groups, or none of that name.
    """
    if len(groups) < 2:
        raise RequestError(f"one --group only ({listed(groups)}): a comparison takes two; give --group NAME=RUNS again")
    if baseline is not None and baseline not in groups:
        raise RequestError(f"--baseline {baseline} is none of the groups: name one of {listed(groups)}")
    return next(iter(groups)) if baseline is None else baseline
