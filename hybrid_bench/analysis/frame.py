"""The long frame: what runs are worth, with intervals and differences from a baseline, one row for each value.

A *level* is what a value is a mean over: the subsets of one setting that have a query language, a pair of languages, or
all of them. A `Request` says which measures of which setting are wanted at which levels, and `results_of` computes all
that is requested at once: runs on the same queries share their resamples and flips, so that twenty runs cost little
more than one. What is shown, in whatever form, is taken from that one frame. `long_frame` and `query_frame` are for
those who have runs and a notebook.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_bench.analysis.comparisons import Aligned, scores_of
from hybrid_bench.analysis.scores import (
    CLUSTERS,
    COMPARED,
    OF_POOLS,
    OF_SUBSETS,
    SettingScores,
    check_measure,
    concordance,
    setting_scores,
)
from hybrid_bench.analysis.study import SEEN, Choices, Study, seen_subsets
from hybrid_bench.data.published import PublishedSystem, PublishedValue
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting, did_you_mean, settings_of
from hybrid_bench.measures.metrics import Scores
from hybrid_bench.measures.significance import (
    DRAWS,
    Cells,
    Contrast,
    benjamini_hochberg,
    bootstrap,
    bootstrap_median,
    bootstrap_sums,
    flip_test,
    holm,
    sign_flip,
    step_down,
)
from hybrid_bench.runs.reading import Run

__all__ = [
    "COLUMNS",
    "COMPUTED",
    "LEVELS",
    "Place",
    "Request",
    "Results",
    "Value",
    "checked",
    "long_frame",
    "query_frame",
    "results_of",
]

#: What a value can be a mean over: everything, a query language, a pair of languages, or the subsets in `SEEN`; and the
#: median over query languages.
LEVELS = ("mean", "median", "language", "pair", *SEEN)
#: All but the median, which only tables of MIRACL have.
COMPUTED = ("mean", "language", "pair", *SEEN)
#: The columns of the long frame; see `Results`.
COLUMNS = {
    **dict.fromkeys(("run", "kind", "revision", "collection", "setting", "level", "query_language", "pool"), "object"),
    "measure": "object",
    "value": "float64",
    "n": "Int64",
    "subsets": "Int64",
    "low": "float64",
    "high": "float64",
    "cluster": "object",
    "clusters": "Int64",
    "baseline": "object",
    **dict.fromkeys(("delta", "p", "p_adjusted"), "float64"),
    "source": "object",
}

#: A level, and the languages that it is of: the query's, the pool's; empty where it is of all.
_Level = tuple[str, str, str]
_MEAN: _Level = ("mean", "", "")
#: What runs share that have the same subsets, queries and clusters, in the same order.
_Layout = tuple[tuple[tuple[str, str, str], ...], bytes, bytes]
#: Values of one setting by level, by run and measure.
_Found = dict[tuple[int, str], dict[_Level, "Value"]]


class Request(NamedTuple):
    """What is wanted of one setting of a collection.

    Attributes:
        collection: Name of the collection.
        setting: The setting.
        measures: Measures by the names of `scores`.
        levels: Of `LEVELS`. Fewer take less time.
    """

    collection: str
    setting: Setting
    measures: Sequence[str]
    levels: Collection[str] = COMPUTED


@dataclass(frozen=True)
class Value:
    """A value of a run, and what is known about it: a row of the long frame, None for what is not there.

    Attributes:
        value: The mean over subsets of means over queries, in the unit of the measure.
        n: Queries that it is over, each counted in every subset.
        subsets: Subsets that it is over.
        low: Lower end of its 95% interval; None where none was computed.
        high: Upper end.
        clusters: Clusters that interval and test rest on.
        delta: The difference from the baseline; None for the baseline, and where there is none.
        p: p-value of the cluster sign-flip test.
        p_adjusted: The same adjusted. Of means: the primary measure's over the runs by Holm; all others of the
            collection that were requested together, over settings, measures and runs, by step-down max-T. Of languages
            or pairs: over those of the run by Benjamini and Hochberg.
    """

    value: float
    n: int
    subsets: int
    low: float | None = None
    high: float | None = None
    clusters: int | None = None
    delta: float | None = None
    p: float | None = None
    p_adjusted: float | None = None


class Place(NamedTuple):
    """Which value of a run is meant: where it stands in the long frame.

    Attributes:
        run: Name of the run, of `Study.names`.
        collection: Name of the collection.
        setting: The setting.
        measure: The measure.
        level: Of `LEVELS`.
        query_language: Code, where the level is a language or a pair.
        pool: Language of the passages, where it is a pair.
    """

    run: str
    collection: str
    setting: Setting
    measure: str
    level: str = "mean"
    query_language: str = ""
    pool: str = ""


@dataclass(frozen=True)
class Results:
    """The values of a study, computed once for all that was requested.

    Attributes:
        study: The study.
        frame: The values in the long form, one row each, by the columns of `COLUMNS`: ``run``, its name; ``kind``,
            ``run`` or, for published systems, ``reported``; ``revision``; ``collection``, ``setting``, ``level``,
            ``query_language``, ``pool`` and ``measure``, see `Place`; ``value``, ``n``, ``subsets``, ``low``, ``high``,
            ``clusters``, ``delta``, ``p`` and ``p_adjusted``, see `Value`, missing where there is none; ``cluster``,
            what questions are clustered by where clusters count; ``baseline``, what ``delta`` is the difference from;
            ``source``, where a reported value was printed. By collection and setting in the order of the requests, then
            by run, measure and level; published values come last, all of them.
    """

    study: Study
    frame: pd.DataFrame

    def at(self, run: str, collection: str, setting: Setting, measure: str, *level: str) -> Value | None:
        """One value of a run; None where there is none. The arguments are those of `Place`."""
        return self._values.get(Place(run, collection, setting, measure, *level))

    def of(self, collection: str, setting: Setting, measure: str, *levels: str) -> Iterator[tuple[Place, Value]]:
        """All values of the runs for one measure and setting at some levels, with their places, in order."""
        for place, value in self._values.items():
            if place[1:4] == (collection, setting, measure) and place.level in levels:
                yield place, value

    @cached_property
    def _values(self) -> dict[Place, Value]:
        """The runs' rows by their places."""
        of_runs = self.frame[self.frame["kind"] == "run"]
        places = of_runs[list(Place._fields)].itertuples(index=False, name=None)
        numbers = of_runs[list(Value.__dataclass_fields__)].astype(object)
        numbers = numbers.where(numbers.notna(), None)
        return {
            Place(run, collection, Setting(setting), *rest): Value(*row)
            for (run, collection, setting, *rest), row in zip(
                places, numbers.itertuples(index=False, name=None), strict=True
            )
        }


def results_of(study: Study, requests: Iterable[Request]) -> Results:
    """All values that are requested; what is requested twice is computed once.

    What a run does not have is not there.

    Raises:
        RequestError: If a request names what is not there (see `checked`); if there is a baseline, and a run that has
            a requested setting cannot be compared with it; or if an option is wrong.
    """
    wanted: dict[tuple[str, Setting], dict[str, set[str]]] = {}
    for request in (checked(study, each) for each in requests):
        of_setting = wanted.setdefault((request.collection, request.setting), {})
        for measure in request.measures:
            of_setting.setdefault(measure, set()).update(request.levels)
    found = {place: _values(study, *place, levels) for place, levels in wanted.items()}
    if study.choices.baseline is not None:
        for collection in dict.fromkeys(collection for collection, _ in found):
            of_collection = {setting: each for (name, setting), each in found.items() if name == collection}
            _test_means(study, collection, of_collection)
    rows: list[dict[str, Any]] = []
    for (collection, setting), each in found.items():
        for (run, measure), values in each.items():
            place = {"collection": collection, "setting": setting.value, "measure": measure}
            rows += [_row(study, run, place, level, value) for level, value in values.items()]
    rows += [_reported_row(system, value) for system in study.reported for value in system.values.values()]
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return Results(study, frame.astype(COLUMNS))


def checked(study: Study, request: Request) -> Request:
    """The request, its setting as one of `Setting`.

    Raises:
        RequestError: If it names a collection that no run has, or a setting, measure or level that there is not.
    """
    _known("collection", [request.collection], study.collections())
    (setting,) = settings_of([request.setting])
    for measure in request.measures:
        check_measure(measure, (*COMPARED, *OF_POOLS))
    _known("level", request.levels, LEVELS)
    return request._replace(setting=setting)


def _row(study: Study, run: int, place: Mapping[str, str], level: _Level, value: Value) -> dict[str, Any]:
    tested, baseline = value.p is not None, study.choices.baseline
    return {
        "run": study.names[run],
        "kind": "run",
        "revision": study.runs[run].revision,
        **place,
        **dict(zip(("level", "query_language", "pool"), level, strict=True)),
        **vars(value),
        "cluster": study.choices.cluster if tested or value.low is not None else None,
        "baseline": study.names[baseline] if tested and baseline is not None else None,
    }


# -- values ---------------------------------------------------------------------------------------------------


def _values(study: Study, collection: str, setting: Setting, wanted: Mapping[str, Collection[str]]) -> _Found:
    """Values of one setting for the levels that are wanted of each measure."""
    found: _Found = {}
    kinds = {kind for levels in wanted.values() for kind in levels}
    kinds |= {"language"} if "median" in kinds else set()
    for run in range(len(study.runs)):
        each = study.scores(run, collection, setting)
        if not len(each):
            continue
        levels = _levels(each, setting, study.runs[run].trained_languages, kinds)
        for measure, of_measure in wanted.items():
            by_subset = each.of_subsets(measure)
            if by_subset is None:
                continue
            counts = _counts(each, measure)
            values = {
                level: Value(float(by_subset[codes].mean()), int(counts[codes].sum()), len(codes))
                for level, all_codes in levels.items()
                if len(codes := all_codes[~np.isnan(by_subset[all_codes])])
            }
            if "median" in kinds and (median := _median(values)) is not None:
                values["median", "", ""] = median
            found[run, measure] = {level: value for level, value in values.items() if level[0] in of_measure}
    if study.choices.intervals:
        _add_intervals(study, found, collection, setting, kinds)
    if study.choices.baseline is not None:
        _add_differences(study, found, collection, setting, kinds & {"language", "pair"})
    return found


# -- intervals and differences ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Alike:
    """Scores over the same queries, whose intervals and tests can share what is drawn.

    Attributes:
        codes: (n_queries,), position of each query's subset.
        cluster: (n_queries,), its cluster.
        scores: (rows, n_queries).
        values: Of each row, a run's measure, the values by level, which are completed.
    """

    codes: NDArray[np.intp]
    cluster: NDArray[np.int64]
    scores: Scores
    values: Sequence[dict[_Level, Value]]

    def parts(self, levels: Mapping[_Level, NDArray[np.intp]]) -> Iterator[_Part]:
        """Every level that has several clusters, with the rows that want it; all pairs of languages are one part."""
        pairs = {}
        for level, members in levels.items():
            if level[0] == "pair" and len(members) == 1:
                pairs[int(members[0])] = level
            elif (part := self._part([level], members, by_setting=False)) is not None:
                yield part
        # Who wants one pair wants all.
        if pairs and (part := self._part(list(pairs.values()), list(pairs), by_setting=True)) is not None:
            yield part._replace(levels=[pairs[code] for code in part.cells.settings.tolist()])

    def one_cluster(self, members: NDArray[np.intp]) -> bool:
        """Whether the queries of these subsets are all of one cluster, or there are none."""
        return _cells(self.codes[within := np.isin(self.codes, members)], self.cluster[within]) is None

    def _part(
        self, levels: list[_Level], members: Sequence[int] | NDArray[np.intp], *, by_setting: bool
    ) -> _Part | None:
        chosen = [row for row, values in enumerate(self.values) if levels[0] in values]
        within = np.isin(self.codes, members)
        cells = _cells(self.codes[within], self.cluster[within])
        if cells is None or not chosen:
            return None
        return _Part(levels, cells, self.scores[chosen][:, within], [self.values[row] for row in chosen], by_setting)


class _Part(NamedTuple):
    """Some rows at one level, or at each pair of languages.

    Attributes:
        levels: The level; or, by setting, the pair of each of the cells' settings.
        cells: The queries.
        scores: (rows, n_cells).
        values: Of each row.
        by_setting: Whether every setting of the cells is a level of its own.
    """

    levels: list[_Level]
    cells: Cells
    scores: Scores
    values: Sequence[dict[_Level, Value]]
    by_setting: bool

    def complete(self, **numbers: Scores) -> None:
        """Enter numbers, (rows,) or by setting (rows, settings), into the values under their names."""
        counts = (self.cells.counts > 0).sum(axis=0).tolist() if self.by_setting else [self.cells.n_clusters]
        each = {name: found.reshape(len(self.values), len(self.levels)) for name, found in numbers.items()}
        for row, values in enumerate(self.values):
            for place, (level, clusters) in enumerate(zip(self.levels, counts, strict=True)):
                known: dict[str, Any] = {name: float(found[row, place]) for name, found in each.items()}
                values[level] = replace(values[level], clusters=clusters, **known)


def _add_intervals(study: Study, found: _Found, collection: str, setting: Setting, kinds: set[str]) -> None:
    choices = study.choices
    layouts: dict[_Layout, list[tuple[int, str]]] = defaultdict(list)
    for run, measure in found:
        each = study.scores(run, collection, setting)
        if measure in OF_SUBSETS:
            _add_interval_of_subsets(choices, found[run, measure], each, measure)
        elif not measure.endswith("_expected") and (values := each.of(measure)) is not None:
            known = ~np.isnan(values)
            key = (
                tuple(each.subsets),
                each.subset[known].tobytes(),
                each.cluster(choices.cluster)[known].tobytes(),
            )
            layouts[key].append((run, measure))
    for members in layouts.values():
        rows = []
        for run, measure in members:
            each = study.scores(run, collection, setting)
            values = each.of(measure)
            assert values is not None
            rows.append(values[known := ~np.isnan(values)])
        codes, cluster = each.subset[known], each.cluster(choices.cluster)[known]
        alike = _Alike(codes, cluster, np.stack(rows), [found[member] for member in members])
        _bootstrap(choices, alike, _levels(each, setting, None, kinds))
        # What a run has seen depends on its training; all other levels are the same for all.
        trained = [study.runs[run].trained_languages for run, _ in members]
        for seen in dict.fromkeys(trained) if kinds & set(SEEN) else ():
            chosen = [row for row, languages in enumerate(trained) if languages == seen]
            of_seen = _Alike(codes, cluster, alike.scores[chosen], [alike.values[row] for row in chosen])
            _bootstrap(choices, of_seen, _levels(each, setting, seen, kinds & set(SEEN)))


def _bootstrap(choices: Choices, alike: _Alike, levels: Mapping[_Level, NDArray[np.intp]]) -> None:
    # A pair whose questions are all of one cluster has no interval.
    levels = {
        level: members for level, members in levels.items() if level[0] != "pair" or not alike.one_cluster(members)
    }
    for part in alike.parts(levels):
        ends = bootstrap(part.cells, part.scores, by_setting=part.by_setting, **choices.drawn)
        part.complete(low=ends.low, high=ends.high)


def _add_interval_of_subsets(choices: Choices, values: dict[_Level, Value], each: SettingScores, measure: str) -> None:
    """The interval of a median or of Kendall's W, for the mean over the query languages that it applies to."""
    by_subset = each.of_subsets(measure)
    if _MEAN not in values or by_subset is None:
        return
    known = ~np.isnan(by_subset)[each.subset]
    cells = _cells(each.subset[known], each.cluster(choices.cluster)[known])
    if cells is None:
        return
    if measure == "bias_rank_distance_median":
        distances = each.of("bias_rank_distance")
        assert distances is not None
        found = bootstrap_median(cells, distances[known], **choices.drawn)
    else:
        assert each.places is not None
        found = bootstrap_sums(*concordance(cells, each.places[known]), **choices.drawn)
    values[_MEAN] = replace(values[_MEAN], low=float(found.low), high=float(found.high), clusters=cells.n_clusters)


def _add_differences(study: Study, found: _Found, collection: str, setting: Setting, kinds: set[str]) -> None:
    choices = study.choices
    assert choices.baseline is not None
    each = study.scores(choices.baseline, collection, setting)
    layouts: dict[_Layout, list[tuple[str, list[int], Aligned]]] = defaultdict(list)
    tested = [name for run, name in found if run == choices.baseline and name in COMPARED and name not in OF_SUBSETS]
    for measure in tested if kinds else []:
        others = [run for run, name in found if name == measure and run != choices.baseline]
        if others:
            aligned = study.aligned([choices.baseline, *others], collection, setting, measure)
            cluster = aligned.cluster(choices.cluster)
            key = (tuple(aligned.subsets), aligned.codes.tobytes(), cluster.tobytes())
            layouts[key].append((measure, others, aligned))
    for members in layouts.values():
        aligned = members[0][2]
        place = {name: code for code, name in enumerate(aligned.subsets)}
        levels = {
            level: np.array([place[each.subsets[code]] for code in codes.tolist() if each.subsets[code] in place])
            for level, codes in _levels(each, setting, None, kinds).items()
        }
        alike = _Alike(
            aligned.codes,
            aligned.cluster(choices.cluster),
            np.concatenate([each.scores[1:] - each.scores[0] for *_, each in members]),
            [found[run, measure] for measure, others, _ in members for run in others],
        )
        for part in alike.parts(levels):
            test = sign_flip(part.cells, part.scores, by_setting=part.by_setting, **choices.drawn)
            part.complete(delta=test.delta, p=test.p)
    _adjust(found)


def _adjust(found: _Found) -> None:
    """Adjust the p-values of languages, and those of pairs, over those of a run's measure."""
    for values in found.values():
        for kind in ("language", "pair"):
            levels = [level for level, value in values.items() if level[0] == kind and value.p is not None]
            adjusted = benjamini_hochberg(np.array([values[level].p for level in levels], dtype=np.float64))
            for level, each in zip(levels, adjusted.tolist(), strict=True):
                values[level] = replace(values[level], p_adjusted=each)


def _test_means(study: Study, collection: str, found: Mapping[Setting, _Found]) -> None:
    """Test the means of all settings of a collection, medians and Kendall's W among them, and adjust their p-values.

    The primary measure's are adjusted over the runs by Holm. All others are one family, over settings, measures and
    runs, which is controlled by step-down max-T on the flips that they share.
    """
    choices = study.choices
    baseline = choices.baseline
    assert baseline is not None
    rest: list[tuple[Contrast, list[dict[_Level, Value]]]] = []
    for setting, of_setting in found.items():
        for measure in [name for run, name in of_setting if run == baseline and name in COMPARED]:
            others = [run for run, name in of_setting if name == measure and run != baseline]
            values = [of_setting[run, measure] for run in others]
            if not others or not all(_MEAN in each for each in values):
                continue
            aligned = study.aligned([baseline, *others], collection, setting, measure)
            if choices.cluster not in aligned.clusterings:
                continue
            contrast = aligned.contrast(choices.cluster)
            if (setting, measure) != study.primary(collection):
                rest.append((contrast, values))
                continue
            test = flip_test(contrast, **choices.drawn)
            _note_test(values, contrast, test.p, holm(test.p))
    if rest:
        stepped = step_down([contrast for contrast, _ in rest], **choices.drawn)
        for (contrast, values), p, adjusted in zip(rest, stepped.p, stepped.p_adjusted, strict=True):
            _note_test(values, contrast, p, adjusted)


def _note_test(values: Sequence[dict[_Level, Value]], contrast: Contrast, p: Scores, adjusted: Scores) -> None:
    """Enter the test of the runs' means into their values."""
    for each, delta, p_of_run, adjusted_of_run in zip(values, contrast.delta, p, adjusted, strict=True):
        each[_MEAN] = replace(
            each[_MEAN],
            clusters=len(contrast.clusters),
            delta=float(delta),
            p=float(p_of_run),
            p_adjusted=float(adjusted_of_run),
        )


def _levels(
    found: SettingScores, setting: Setting, trained: Iterable[str] | None, kinds: Collection[str]
) -> dict[_Level, NDArray[np.intp]]:
    """The subsets of each level that is a mean over some."""
    codes = np.arange(len(found.subsets), dtype=np.intp)
    asked, pools = np.array(found.query_languages), np.array(found.pools)
    levels: dict[_Level, NDArray[np.intp]] = {}
    if "mean" in kinds:
        levels[_MEAN] = codes
    if "language" in kinds:
        levels |= {("language", code, ""): codes[asked == code] for code in sorted(set(asked.tolist()))}
    if "pair" in kinds and setting is Setting.CROSS_LINGUAL:
        levels |= {
            ("pair", one, other): codes[(asked == one) & (pools == other)]  # in several splits there may be several
            for one, other in dict.fromkeys(zip(asked.tolist(), pools.tolist(), strict=True))
        }
    if trained is not None:
        seen = seen_subsets(found, setting, trained)
        levels |= {(name, "", ""): members for name, members in seen.items() if name in kinds}
    return levels


def _median(values: Mapping[_Level, Value]) -> Value | None:
    """The median of the query languages' values."""
    languages = [value for (kind, *_), value in values.items() if kind == "language"]
    if not languages:
        return None
    middle = float(np.median([value.value for value in languages]))
    return Value(middle, sum(value.n for value in languages), len(languages))


def _reported_row(system: PublishedSystem, value: PublishedValue) -> dict[str, Any]:
    return {
        "run": system.name,
        "kind": "reported",
        "collection": value.collection,
        "setting": value.setting.value,
        "level": value.level,
        "query_language": value.query_language,
        "measure": value.metric,
        "value": value.value,
        "source": f"{system.publication.identifier}, {value.source}",
    }


def _counts(found: SettingScores, measure: str) -> NDArray[np.int64]:
    """Queries of each subset that the measure applies to."""
    values = None if measure in OF_SUBSETS or measure.endswith("_expected") else found.of(measure)
    known = slice(None) if values is None else ~np.isnan(values)
    return np.bincount(found.subset[known], minlength=len(found.subsets)).astype(np.int64)


def _cells(codes: NDArray[np.intp], cluster: NDArray[np.int64]) -> Cells | None:
    """Cells for a test or interval; None if there is only one cluster, of which nothing can be learned."""
    if len(cluster) == 0 or (cluster == cluster[0]).all():
        return None
    return Cells.of(codes, cluster)


# -- for notebooks ------------------------------------------------------------------------------------------------


def long_frame(
    runs: Sequence[Run],
    measures: str | Sequence[str],
    *,
    by: str | Sequence[str] = "mean",
    collections: Sequence[str] | None = None,
    settings: Sequence[str] | None = None,
    baseline: str | int | None = None,
    intervals: bool = True,
    cluster: str = CLUSTERS[0],
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Values of some measures of some runs, one row each; see `Results` for the columns.

    Args:
        runs: The runs.
        measures: One or several, by the names of `scores`.
        by: Levels, of `LEVELS`: what values are means over.
        collections: Of these only; None for all.
        settings: Of these only, as `languages.settings_of` takes them; None for all.
        baseline: Name of the run that the others are compared with, or its position; None for no comparison.
        intervals: Whether intervals are computed.
        cluster: What questions are clustered by, of `CLUSTERS`.
        draws: Flips and resamples.
        seed: Of both.

    Raises:
        RequestError: If a measure, level, collection, setting, run or clustering is not known; if runs cannot be
            compared; or if the runs have nothing of what is asked for.
        DataError: If a run cannot be read.
    """
    _known("cluster", [cluster], CLUSTERS)
    study = Study(runs)
    choices = Choices(_position(study, baseline), intervals, cluster, draws, seed)
    measures = [measures] if isinstance(measures, str) else list(measures)
    levels = [by] if isinstance(by, str) else list(by)
    chosen = _chosen(study, collections, settings)
    frame = results_of(replace(study, choices=choices), [Request(*place, measures, levels) for place in chosen]).frame
    return _there(frame, study, measures)


def query_frame(
    runs: Sequence[Run],
    measures: str | Sequence[str],
    *,
    collections: Sequence[str] | None = None,
    settings: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The queries of some runs with their values of some measures, one row for each run, query, subset and measure.

    Args:
        runs: The runs.
        measures: One or several of `scores.OF_QUERIES`.
        collections: Of these only; None for all.
        settings: Of these only; None for all.

    Returns:
        Columns ``run``, ``collection``, ``setting``, ``task``, ``split``, ``subset``, ``query_language``, ``pool`` (the
        language of the passages, or ``all``), ``question_id``, ``cluster_article``, ``cluster_paragraph``, ``measure``
        and ``value``. A query that a measure does not apply to has no row of it.

    Raises:
        RequestError: As `long_frame`.
        DataError: If a run cannot be read.
    """
    study = Study(runs)
    measures = [measures] if isinstance(measures, str) else list(measures)
    parts = []
    for collection, setting in _chosen(study, collections, settings):
        for run, name in zip(runs, study.names, strict=True):
            found = setting_scores(run, collection, setting)
            pools = pd.Series(dict(zip(found.subsets, found.pools, strict=True)), dtype=object)
            for measure in measures:
                frame = scores_of(run, collection, setting, measure).rename(columns={"score": "value"})
                keys = zip(frame["task"], frame["split"], frame["subset"], strict=True)
                parts.append(
                    frame.assign(
                        run=name,
                        collection=collection,
                        setting=setting.value,
                        measure=measure,
                        pool=[pools[key] for key in keys],
                    )
                )
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return _there(whole, study, measures).reindex(columns=list(QUERY_FRAME_COLUMNS))


#: The columns of `query_frame`.
QUERY_FRAME_COLUMNS = (
    *("run", "collection", "setting", "task", "split", "subset", "query_language", "pool", "question_id"),
    *("cluster_article", "cluster_paragraph", "measure", "value"),
)


def _chosen(
    study: Study, collections: Sequence[str] | None, settings: Sequence[str] | None
) -> list[tuple[str, Setting]]:
    """The settings of the collections that are asked for and there."""
    _known("collection", collections or (), study.collections())
    wanted = settings_of(settings or ())
    named = study.collections() if collections is None else collections
    return [(name, setting) for name in named for setting in study.settings(name) if setting in wanted]


def _position(study: Study, baseline: str | int | None) -> int | None:
    if isinstance(baseline, int) and not 0 <= baseline < len(study.runs):
        raise RequestError(f"baseline {baseline}: the runs are 0 to {len(study.runs) - 1}")
    if not isinstance(baseline, str):
        return baseline
    _known("baseline", [baseline], study.names)
    return study.names.index(baseline)


def _there(frame: pd.DataFrame, study: Study, measures: Sequence[str]) -> pd.DataFrame:
    if len(frame) == 0:
        runs = ", ".join(study.names) or "no run"
        raise RequestError(f"nothing of {', '.join(measures)} in {runs}: it does not apply to what they ran")
    return frame


def _known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise RequestError(f"unknown {what} '{name}': {did_you_mean(name, known)}")
