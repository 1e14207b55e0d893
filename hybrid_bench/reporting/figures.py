"""The figures of a report, from a `Study`, as data; `plots` draws them, `html` shows them in a page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hybrid_bench.analysis.comparisons import LEVEL
from hybrid_bench.analysis.study import MEAN, Level, Study, Value
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import diagonal_gap
from hybrid_bench.reporting.elements import Bar, Bars, Distribution, Figure, HeatMap, Point, Scatter
from hybrid_bench.reporting.tables import main_measure, p_text, pair_values, slug

__all__ = ["figures"]

_MEAN = Level(MEAN)
_DISTANCE = "bias_rank_distance"
_TITLES = {"map": "mAP", "ndcg_at_10": "nDCG@10"}


def figures(study: Study) -> list[Figure]:
    """All figures that apply to the runs, by collection.

    They are: the main measure of every pair of languages, or its difference from the baseline; the language of the
    first answer by that of the question; the distribution of rank distances; bias against quality; the main measure by
    language; and, where runs say which alpha they were trained with, monolingual against cross-lingual quality.
    """
    made: list[Figure] = []
    for collection in [*study.collections(parallel=True), *study.collections(parallel=False)]:
        settings = study.settings(collection)
        measure = main_measure(study, collection)
        if Setting.CROSS_LINGUAL in settings:
            made += _pairs(study, collection, measure)
        if Setting.MULTILINGUAL in settings:
            made += _answer_languages(study, collection)
            made += _distances(study, collection)
        made += _bias_against_quality(study, collection, measure)
        made += _by_language(study, collection, measure)
        made += _alpha_sweep(study, collection, measure)
    return made


def _pairs(study: Study, collection: str, measure: str) -> list[Figure]:
    """A heat map for each run; with a baseline, of the differences from it, marked where one was found."""
    made: list[Figure] = []
    cells = pair_values(study, collection, measure)
    baseline = study.choices.baseline
    for run, name in enumerate(study.names):
        found = cells.get(run, {})
        if not found:
            continue
        codes = tuple(sorted({code for pair in found for code in pair}))
        differs = baseline is not None and run != baseline
        values = np.full((len(codes), len(codes)), np.nan)
        marks: dict[tuple[int, int], str] = {}
        hints: dict[tuple[int, int], str] = {}
        for (asked, pool), value in found.items():
            place = codes.index(asked), codes.index(pool)
            shown = value.delta if differs else value.value
            values[place] = np.nan if shown is None else shown
            hints[place] = _hint(value)
            if differs and value.p_adjusted is not None and value.p_adjusted < LEVEL:
                marks[place] = "*"
        what = f"{_TITLES[measure]} ↑"
        if differs and baseline is not None:
            what = f"{_TITLES[measure]}, difference from {study.names[baseline]}"
        notes = [
            f"* p below .05, cluster sign-flip test, questions clustered by {study.choices.cluster}, adjusted by "
            "Benjamini and Hochberg over the pairs of two languages, and over those of one."
        ]
        made.append(
            HeatMap(
                name=slug("pairs", collection, name),
                title=f"{collection} by pair of languages: {name}",
                measure=what,
                row_title="language of the question",
                column_title="language of the passages",
                rows=codes,
                columns=codes,
                values=values,
                diverging=differs,
                marks=marks,
                hints=hints,
                notes=tuple(notes) if differs else (),
            )
        )
    return made


def _hint(value: Value) -> str:
    parts = [f"{value.value:.4f}", f"{value.n} queries"]
    if value.low is not None and value.high is not None:
        parts.append(f"95% interval {value.low:.4f} to {value.high:.4f}")
    if value.p is not None and value.p_adjusted is not None and value.delta is not None:
        parts.append(f"difference {value.delta:+.4f}, p {p_text(value.p)}, adjusted {p_text(value.p_adjusted)}")
    return "; ".join(parts)


def _answer_languages(study: Study, collection: str) -> list[Figure]:
    """Which language answers first, by the language of the question, and how far the own language is ahead."""
    made: list[Figure] = []
    for run, name in enumerate(study.names):
        each = study.scores(run, collection, Setting.MULTILINGUAL)
        if not each.ranked:
            continue
        matrix = each.answer_languages()
        what = "share of questions whose best-placed answer is in the language"
        if not matrix:
            matrix = each.answer_languages("top_10")
            what = "share of the language in the first ten passages"
        if not matrix:
            continue
        gap = diagonal_gap(matrix)
        rows = tuple(dict.fromkeys(asked for asked, _ in matrix))
        columns = tuple(sorted({answer for _, answer in matrix}))
        values = np.array([[matrix.get((asked, answer), np.nan) for answer in columns] for asked in rows])
        told = "" if gap is None else f"Diagonal gap, the own language less the mean of the others: {gap:+.3f}."
        made.append(
            HeatMap(
                name=slug("answers", collection, name),
                title=f"{collection}, language of the answer: {name}",
                measure=what,
                row_title="language of the question",
                column_title="language of the answer",
                rows=rows,
                columns=columns,
                values=values,
                decimals=2,
                notes=(told,) if told else (),
            )
        )
    return made


def _distances(study: Study, collection: str) -> list[Figure]:
    """Rank distances of all queries: on a logarithmic scale, since few queries carry most of the mean."""
    series = {}
    for run, name in enumerate(study.names):
        values = study.scores(run, collection, Setting.MULTILINGUAL).of(_DISTANCE)
        if values is not None:
            series[name] = values[~np.isnan(values)]
    if not series:
        return []
    title = f"{collection}: rank distance of the queries"
    note = "Share of the queries whose rank distance is at most so much; the tail carries the mean."
    return [Distribution(slug("distances", collection), title, "rank distance ↓", series, (note,))]


def _mean(study: Study, collection: str, setting: Setting, measure: str) -> Mapping[int, Value]:
    values = study.values(collection, setting, [measure], {"mean"})
    return {run: each[_MEAN] for (run, _), each in values.items()}


def _bias_against_quality(study: Study, collection: str, measure: str) -> list[Figure]:
    """A point for each run: quality in the multilingual pool, and bias there."""
    quality = _mean(study, collection, Setting.MULTILINGUAL, measure)
    bias = _mean(study, collection, Setting.MULTILINGUAL, _DISTANCE)
    points = [Point(study.names[run], quality[run].value, bias[run].value) for run in quality if run in bias]
    for system in study.reported:
        across = system.get(collection, Setting.MULTILINGUAL, MEAN, measure)
        up = system.get(collection, Setting.MULTILINGUAL, MEAN, _DISTANCE)
        if across is not None and up is not None:
            points.append(Point(system.label, across.value, up.value, kind="reported"))
    if len(points) < 2:
        return []
    return [
        Scatter(
            slug("bias", collection),
            f"{collection}: bias against quality",
            f"{_TITLES[measure]}, multilingual ↑",
            "mean rank distance ↓",
            tuple(points),
        )
    ]


def _by_language(study: Study, collection: str, measure: str) -> list[Figure]:
    made: list[Figure] = []
    for setting in study.settings(collection):
        values = study.values(collection, setting, [measure], {"language"})
        codes = tuple(sorted({level.query_language for each in values.values() for level in each} - {""}))
        if len(codes) < 2:
            continue
        series = {
            study.names[run]: [
                None if (value := each.get(Level(code))) is None else Bar(value.value, value.low, value.high)
                for code in codes
            ]
            for (run, _), each in values.items()
        }
        made.append(
            Bars(
                slug("languages", collection, setting.value),
                f"{collection}, {setting.value}, by language of the question",
                f"{_TITLES[measure]} ↑",
                codes,
                series,
            )
        )
    return made


def _alpha_sweep(study: Study, collection: str, measure: str) -> list[Figure]:
    """Monolingual against cross-lingual quality of runs that say which alpha they were trained with."""
    mono = _mean(study, collection, Setting.MONOLINGUAL, measure)
    cross = _mean(study, collection, Setting.CROSS_LINGUAL, measure)
    bias = _mean(study, collection, Setting.MULTILINGUAL, _DISTANCE)
    by_alpha: dict[tuple[str, float], list[int]] = {}
    for run in mono:
        training = study.runs[run].training
        if run in cross and training is not None and training.get("alpha") is not None:
            by_alpha.setdefault((str(training.get("base", "")), float(training["alpha"])), []).append(run)
    if len({alpha for _, alpha in by_alpha}) < 2:
        return []
    means = {
        key: tuple(float(np.mean([values[run].value for run in runs])) for values in (mono, cross))
        for key, runs in sorted(by_alpha.items())
    }
    points = []
    for (base, alpha), (x, y) in means.items():
        alike = [each for (other, _), each in means.items() if other == base]
        front = not any(other[0] >= x and other[1] >= y and other != (x, y) for other in alike)
        sizes = [bias[run].value for run in by_alpha[base, alpha] if run in bias]
        points.append(Point(f"{alpha:g}", x, y, float(np.mean(sizes)) if sizes else None, base, chosen=front))
    title = f"{collection}: share of monolingual batches, alpha"
    notes = ("Means over seeds. Set off: on the Pareto front, no other alpha is better in both.",)
    return [
        Scatter(
            slug("alpha", collection),
            title,
            f"{_TITLES[measure]}, monolingual ↑",
            f"{_TITLES[measure]}, cross-lingual ↑",
            tuple(points),
            joined=True,
            size_title="mean rank distance ↓",
            notes=notes,
        )
    ]
