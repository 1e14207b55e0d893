"""The figures of a report, from the long frame, as data; `plots` draws them, `html` shows them in a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hybrid_bench.analysis.comparisons import LEVEL
from hybrid_bench.analysis.frame import Request, Results, Value, results_of
from hybrid_bench.analysis.study import Study
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting, did_you_mean
from hybrid_bench.measures.bias import diagonal_gap
from hybrid_bench.reporting.elements import Bar, Bars, Distribution, Figure, HeatMap, Point, Scatter
from hybrid_bench.reporting.tables import p_text, pair_needs, pair_values, slug

__all__ = ["chosen_figures", "figure_needs", "figures_of"]

_DISTANCE = "bias_rank_distance"
#: So many times as large as the least: too far for a linear axis.
_FAR = 5
_TITLES = {"map": "mAP", "ndcg_at_10": "nDCG@10"}


def figure_needs(study: Study) -> list[Request]:
    """What the figures are made from, besides the scores of single queries."""
    needs: list[Request] = []
    for collection in study.collections():
        measures = [study.main_measure(collection)]
        if Setting.CROSS_LINGUAL in study.settings(collection):
            needs += pair_needs(study, collection)
        needs += [Request(collection, setting, measures, ["mean", "language"]) for setting in Setting]
        needs.append(Request(collection, Setting.MULTILINGUAL, [_DISTANCE], ["mean"]))
    return needs


def figures_of(study: Study, results: Results | None = None) -> list[Figure]:
    """All figures that apply to the runs, by collection.

    They are: the main measure of every pair of languages, or its difference from the baseline; the language of the
    first answer by that of the question; the distribution of rank distances; bias against quality; the main measure by
    language; and, where runs say which alpha they were trained with, monolingual against cross-lingual quality.

    Args:
        study: The runs.
        results: Values of the study, if they were computed, with all of `figure_needs`.
    """
    if results is None:
        results = results_of(study, figure_needs(study))
    made: list[Figure] = []
    for collection in study.collections():
        settings = study.settings(collection)
        measure = study.main_measure(collection)
        if Setting.CROSS_LINGUAL in settings:
            made += _pairs(results, collection, measure)
        if Setting.MULTILINGUAL in settings:
            made += _answer_languages(study, collection)
            made += _distances(study, collection)
        made += _bias_against_quality(results, collection, measure)
        made += _by_language(results, collection, measure)
        made += _alpha_sweep(results, collection, measure)
    return made


def chosen_figures(figures: Sequence[Figure], names: Sequence[str]) -> list[Figure]:
    """The figures of these names, in their order among all.

    Args:
        figures: All of a report.
        names: Names, or what several begin with up to a hyphen: ``pairs``, ``pairs-XQuAD-R``.

    Raises:
        RequestError: If there is none of a name.
    """
    known = [figure.name for figure in figures]
    wanted = {name: [each for each in known if each == name or each.startswith(f"{name}-")] for name in names}
    for name, found in wanted.items():
        if not found:
            kinds = list(dict.fromkeys(each.partition("-")[0] for each in known))
            raise RequestError(f"no figure '{name}': {did_you_mean(name, [*kinds, *known])}")
    return [figure for figure in figures if any(figure.name in found for found in wanted.values())]


def _pairs(results: Results, collection: str, measure: str) -> list[Figure]:
    """A heat map for each run; with a baseline, of the differences from it, marked where one was found."""
    study = results.study
    made: list[HeatMap] = []
    baseline = None if study.choices.baseline is None else study.names[study.choices.baseline]
    for name, found in pair_values(results, collection, measure).items():
        if not found:
            continue
        codes = tuple(sorted({code for pair in found for code in pair}))
        differs = baseline is not None and name != baseline
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
        if differs:
            what = f"{_TITLES[measure]}, difference from {baseline}"
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
    return _on_one_scale(made)


def _on_one_scale(figures: Sequence[HeatMap]) -> list[Figure]:
    """Heat maps that are compared, the same colour for the same value; differences have a scale of their own."""
    made: list[Figure] = []
    for figure in figures:
        alike = [each.values.ravel() for each in figures if each.diverging is figure.diverging]
        together = np.concatenate(alike)
        together = together[np.isfinite(together)]
        if len(alike) == 1 or not len(together):
            made.append(figure)
            continue
        note = f"One scale for the {len(alike)} runs{' that are compared' if figure.diverging else ''}."
        ends = float(together.min()), float(together.max())
        made.append(replace(figure, ends=ends, notes=(*figure.notes, note)))
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
    made: list[HeatMap] = []
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
        notes = [] if gap is None else [f"Diagonal gap, the own language less the mean of the others: {gap:+.3f}."]
        if not np.allclose(np.nansum(values, axis=1), 1):
            notes.append(
                "A share is of the questions that have an answer in the language; not all have one in every language, "
                "so rows do not add up to 1."
            )
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
                notes=tuple(notes),
            )
        )
    return _on_one_scale(made)


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


def _means(results: Results, collection: str, setting: Setting, measure: str) -> dict[str, float]:
    """The means of the runs that have one, by name."""
    return {place.run: value.value for place, value in results.of(collection, setting, measure, "mean")}


def _bias_against_quality(results: Results, collection: str, measure: str) -> list[Figure]:
    """A point for each run: quality in the multilingual pool, and bias there."""
    quality = _means(results, collection, Setting.MULTILINGUAL, measure)
    bias = _means(results, collection, Setting.MULTILINGUAL, _DISTANCE)
    points = [Point(name, x, bias[name]) for name, x in quality.items() if name in bias]
    for system in results.study.reported:
        across = system.get(collection, Setting.MULTILINGUAL, measure)
        up = system.get(collection, Setting.MULTILINGUAL, _DISTANCE)
        if across is not None and up is not None:
            points.append(Point(system.label, across.value, up.value, kind="reported"))
    if len(points) < 2:
        return []
    # Published systems and runs can be two powers of ten apart: on a linear axis the better ones would be one point.
    distances = [point.y for point in points]
    logarithmic = min(distances) > 0 and max(distances) >= _FAR * min(distances)
    return [
        Scatter(
            slug("bias", collection),
            f"{collection}: bias against quality",
            f"{_TITLES[measure]}, multilingual ↑",
            f"mean rank distance{', logarithmic' if logarithmic else ''} ↓",
            tuple(points),
            logarithmic=logarithmic,
        )
    ]


def _by_language(results: Results, collection: str, measure: str) -> list[Figure]:
    made: list[Figure] = []
    for setting in results.study.settings(collection):
        bars: dict[str, dict[str, Bar]] = {}
        for place, value in results.of(collection, setting, measure, "language"):
            bars.setdefault(place.run, {})[place.query_language] = Bar(value.value, value.low, value.high)
        codes = tuple(sorted({code for each in bars.values() for code in each}))
        if len(codes) < 2:
            continue
        series = {name: [each.get(code) for code in codes] for name, each in bars.items()}
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


def _alpha_sweep(results: Results, collection: str, measure: str) -> list[Figure]:
    """Monolingual against cross-lingual quality of runs that say which alpha they were trained with."""
    study = results.study
    mono = _means(results, collection, Setting.MONOLINGUAL, measure)
    cross = _means(results, collection, Setting.CROSS_LINGUAL, measure)
    bias = _means(results, collection, Setting.MULTILINGUAL, _DISTANCE)
    by_alpha: dict[tuple[str, float], list[str]] = {}
    for run, name in zip(study.runs, study.names, strict=True):
        training = run.training
        if name in mono and name in cross and training is not None and training.get("alpha") is not None:
            by_alpha.setdefault((str(training.get("base", "")), float(training["alpha"])), []).append(name)
    if len({alpha for _, alpha in by_alpha}) < 2:
        return []
    means = {
        key: tuple(float(np.mean([values[name] for name in names])) for values in (mono, cross))
        for key, names in sorted(by_alpha.items())
    }
    points = []
    for (base, alpha), (x, y) in means.items():
        alike = [each for (other, _), each in means.items() if other == base]
        front = not any(other[0] >= x and other[1] >= y and other != (x, y) for other in alike)
        sizes = [bias[name] for name in by_alpha[base, alpha] if name in bias]
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
