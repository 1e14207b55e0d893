"""Runs on the same queries: scores side by side, and what `significance` says of their differences.

Queries are paired by task, split, subset and question id, never by position. Runs that were made from different data,
or on other queries, are not compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_bench.analysis.scores import (
    CLUSTERS,
    COMPARED,
    KEY,
    check_measure,
    clusters_of,
    concordance,
    setting_scores,
)
from hybrid_bench.errors import RequestError, listed
from hybrid_bench.languages import Setting
from hybrid_bench.measures.metrics import Scores
from hybrid_bench.measures.significance import (
    Cells,
    Comparison,
    Contrast,
    Interval,
    SumsFigure,
    TukeyHSD,
    bootstrap_median,
    bootstrap_sums,
    compare,
    compare_by,
    difference,
    holm,
    macro_mean,
    macro_median,
    sign_flip_above,
    sign_flip_interval,
    tukey_hsd,
)
from hybrid_bench.measures.trainings import Methods, compare_methods
from hybrid_bench.runs.reading import Run, TaskTable, names_of

__all__ = [
    "CLUSTERS",
    "LEVEL",
    "Aligned",
    "Difference",
    "MethodDifference",
    "Within",
    "against_baseline",
    "against_method",
    "align",
    "all_pairs",
    "check_margin",
    "claim_of",
    "scores_of",
    "seed_of",
    "unlike",
]

#: Below this an adjusted p-value is called a difference.
LEVEL = 0.05


def scores_of(run: Run, collection: str, setting: Setting, measure: str) -> pd.DataFrame:
    """The scores of the queries of one setting.

    Args:
        run: The run.
        collection: Name of the collection.
        setting: The setting.
        measure: One of `scores.OF_QUERIES`.

    Returns:
        One row per query, sorted by `scores.KEY`: its columns, ``query_language``, ``cluster_article``,
        ``cluster_paragraph``, ``score``. Empty if the run has nothing of that setting, or the measure does not apply.

    Raises:
        RequestError: If there is no such measure of queries.
    """
    check_measure(measure)
    frame, values = _of_queries(run, collection, setting, measure)
    return frame.assign(score=values)


#: What a run's figure is in a setting: the mean over subsets of means of its queries' scores, or of medians, or of
#: Kendall's W of its queries' places of the languages.
Figure = Literal["mean", "median", "concordance"]


def _figure_of(measure: str) -> Figure:
    if measure == "bias_kendall_w":
        return "concordance"
    return "median" if measure == "bias_rank_distance_median" else "mean"


def _of_queries(run: Run, collection: str, setting: Setting, measure: str) -> tuple[pd.DataFrame, Scores]:
    """The queries that a measure applies to, sorted by `scores.KEY`, and what its figure is made of.

    Returns:
        A row per query, and (n_queries,) scores, or (n_queries, L) places of the languages; empty where it applies to
        none.
    """
    found = setting_scores(run, collection, setting)
    if _figure_of(measure) == "concordance":
        places = found.places
        known = None if places is None else places[:, 0] > 0
        values = None if places is None else places.astype(np.float64)
    else:
        values = found.of("bias_rank_distance" if _figure_of(measure) == "median" else measure)
        known = None if values is None else ~np.isnan(values)
    if values is None or known is None:
        return found.queries.iloc[:0], np.zeros(0)
    order = found.order if known.all() else found.order[known[found.order]]
    return found.queries.iloc[order].reset_index(drop=True), values[order]


@dataclass(frozen=True)
class Aligned:
    """The scores of several runs on the same queries.

    Attributes:
        runs: Names of the runs.
        queries: One row per query, as `scores_of` gives it, without the score.
        scores: (runs, queries); for Kendall's W (runs, queries, L), places of the languages.
        figure: What is made of them.
    """

    runs: tuple[str, ...]
    queries: pd.DataFrame
    scores: Scores
    figure: Figure = "mean"

    def cells(self, cluster: str) -> Cells:
        """The queries as cells: each subset a setting, questions clustered as asked for (see `CLUSTERS`).

        Raises:
            RequestError: If there is only one such cluster.
        """
        if cluster not in self._cells:
            self._cells[cluster] = Cells.of(self._subset_codes[0], self._clusters[cluster])
        return self._cells[cluster]

    def of(self, subsets: Collection[tuple[str, str, str]]) -> Aligned:
        """Of some of the subsets only."""
        chosen = np.array([subset in subsets for subset in self.subsets], dtype=np.bool_)[self.codes]
        return replace(self, queries=self.queries[chosen].reset_index(drop=True), scores=self.scores[:, chosen])

    def contrast(self, cluster: str, baseline: int = 0) -> Contrast:
        """What tests need of every other run's difference from one of them, in the order of the runs.

        The clusters have numbers that are the same in all settings and measures of a collection, so that
        `significance.step_down` can test several of these together.

        Args:
            cluster: The clustering, see `CLUSTERS`.
            baseline: Position of the baseline.

        Raises:
            RequestError: If there is only one such cluster.
        """
        cells = self.cells(cluster)
        others = [run for run in range(len(self.runs)) if run != baseline]
        if self.figure == "mean":
            return Contrast.of_means(cells, difference(cells, self.scores[others], self.scores[baseline]))
        if self.figure == "median":
            base = np.broadcast_to(self.scores[baseline], (len(others), len(self.queries)))
            return Contrast.of_medians(cells, self.scores[others], base)
        of_runs = [self._concordance(cells, run)[0] for run in others]
        base, figure = self._concordance(cells, baseline)

        def of_all(rows: Scores) -> Scores:
            return np.stack([figure(part) for part in np.split(rows, len(others), axis=1)], axis=1)

        sums = np.concatenate(of_runs, axis=1)
        return Contrast.of_sums(sums, np.tile(base, len(others)), of_all, clusters=cells.clusters)

    def comparison(self, cluster: str, run: int, baseline: int, **options: Any) -> Comparison:
        """One run against another in every way that there is for the figure.

        Args:
            cluster: The clustering, see `CLUSTERS`.
            run: Position of the run.
            baseline: Position of the other.
            **options: ``draws``, ``seed`` and ``confidence`` of `significance.compare`.

        Raises:
            RequestError: If there is only one such cluster, or an option is wrong.
        """
        cells, a, b = self.cells(cluster), self.scores[run], self.scores[baseline]
        if self.figure == "mean":
            return compare(cells, a, b, **options)
        pair = replace(self, runs=(self.runs[baseline], self.runs[run]), scores=np.stack([b, a]))
        figures = pair._figures(cells)[::-1]
        counted = (a, b) if self.figure == "median" else None
        return compare_by(cells, pair.contrast(cluster), pair._interval(cells, **options), figures, counted)

    def _figures(self, cells: Cells) -> Scores:
        """(runs,), the median or Kendall's W of each run."""
        if self.figure == "median":
            return macro_median(cells, self.scores)
        of_runs = (self._concordance(cells, run) for run in range(len(self.runs)))
        return np.concatenate([figure(sums.sum(axis=0, keepdims=True)) for sums, figure in of_runs])

    def _interval(self, cells: Cells, **options: Any) -> Interval:
        """Of the second run's figure less the first's."""
        if self.figure == "median":
            return bootstrap_median(cells, self.scores[1], minus=self.scores[0], **options)
        (base, figure), (sums, _) = (self._concordance(cells, run) for run in (0, 1))
        width = base.shape[1]
        return bootstrap_sums(
            np.concatenate([sums, base], axis=1),
            lambda rows: figure(rows[:, :width]) - figure(rows[:, width:]),
            **options,
        )

    def _concordance(self, cells: Cells, run: int) -> tuple[Scores, SumsFigure]:
        return concordance(cells, self.scores[run].astype(np.int64))

    @property
    def codes(self) -> NDArray[np.int64]:
        """(n_queries,), position of each query's subset in `subsets`."""
        return self._subset_codes[0]

    def cluster(self, name: str) -> NDArray[np.int64]:
        """(n_queries,), cluster of each query, by one of `scores.CLUSTERS`."""
        return self._clusters[name]

    @property
    def clusterings(self) -> list[str]:
        """Those of `CLUSTERS` by which there are several clusters."""
        return [name for name in CLUSTERS if len(np.unique(self._clusters[name])) > 1]

    @cached_property
    def subsets(self) -> list[tuple[str, str, str]]:
        """Task, split and subset, numbered as the settings of `cells` are."""
        return self._subset_codes[1]

    @cached_property
    def _subset_codes(self) -> tuple[NDArray[np.int64], list[tuple[str, str, str]]]:
        # Column by column: an index of all three would make a tuple for every query.
        code = np.zeros(len(self.queries), dtype=np.int64)
        for column in ("task", "split", "subset"):
            of_column, names = pd.factorize(self.queries[column])
            code = code * max(1, len(names)) + of_column
        _, first, codes = np.unique(code, return_index=True, return_inverse=True)
        named = self.queries[["task", "split", "subset"]].iloc[first]
        return codes.astype(np.int64), [(str(a), str(b), str(c)) for a, b, c in named.itertuples(index=False)]

    @cached_property
    def _cells(self) -> dict[str, Cells]:
        return {}

    @cached_property
    def _clusters(self) -> Mapping[str, NDArray[np.int64]]:
        return clusters_of(self.queries)


def align(runs: Sequence[Run], collection: str, setting: Setting, measure: str) -> Aligned:
    """Put the scores of runs side by side.

    Args:
        runs: The runs; each has something of this setting.
        collection: Name of the collection.
        setting: The setting.
        measure: One of `scores.COMPARED`.

    Raises:
        RequestError: If there is no such measure, or runs were made from different data, ranked different pools, or do
            not have the same queries; it says which.
    """
    check_measure(measure, COMPARED)
    names = names_of(runs)
    (first, values), *others = (_of_queries(run, collection, setting, measure) for run in runs)
    found = [values]
    for run, name, (frame, values) in zip(runs[1:], names[1:], others, strict=True):
        why = unlike(runs[0], run, collection, setting)
        if why is not None:
            raise RequestError(f"{names[0]} and {name} {why}")
        if len(frame) != len(first) or not frame[KEY].equals(first[KEY]):
            raise RequestError(_differing(names[0], first, name, frame))
        found.append(values)
    return Aligned(tuple(names), first, np.stack(found), _figure_of(measure))


def unlike(run: Run, another: Run, collection: str, setting: Setting) -> str | None:
    """Why the numbers of two runs in this setting are about different data or pools, and what to do; None if not."""
    for task, table in run.tasks.items():
        other = another.tasks.get(task)
        if other is None or table.collection != collection or setting.value not in table.covered:
            continue
        one, two = table.signature["data_sha256"], other.signature["data_sha256"]
        changed = sorted(part for part in one.keys() & two.keys() if one[part] != two[part])
        if changed:
            return (
                f"were made from different data of {task} ({listed(changed, 5)}; files whose lines stand in another "
                "order count as different): run one of them again, so that both are about the same"
            )
        one, two = _pools(table, setting), _pools(other, setting)
        changed = sorted(subset for subset in one.keys() & two.keys() if one[subset] != two[subset])
        if changed:
            return (
                f"ranked different pools in {task}, {changed[0]} ({one[changed[0]]}; {two[changed[0]]}): make both "
                "with the same --pool and --pool-languages"
            )
    return None


def _pools(table: TaskTable, setting: Setting) -> dict[str, str]:
    """What the pool of each subset is."""
    languages = ""
    if setting is Setting.MULTILINGUAL:  # in pairs the subset's name tells them
        whole = "-".join(sorted(table.metadata["languages"]))
        languages = f" in {table.metadata['options'].get('pool_languages', whole)}"
    return {subset: f"{size:,} passages{languages}" for subset, size in table.covered.get(setting.value, ())}


def _differing(name: str, first: pd.DataFrame, other_name: str, other: pd.DataFrame) -> str:
    one, two = (set(map(tuple, frame[KEY].to_numpy())) for frame in (first, other))
    only_one, only_two = sorted(one - two), sorted(two - one)

    def shown(keys: Sequence[tuple[str, ...]]) -> str:
        return listed(f"{question} ({subset})" for _, _, subset, question in keys)

    parts = [f"only {who} has {shown(keys)}" for who, keys in ((name, only_one), (other_name, only_two)) if keys]
    told = f"{name} and {other_name} do not have the same queries: {'; '.join(parts)}"
    ours, theirs = set(first["subset"]), set(other["subset"])
    return f"{told}; --common compares the subsets that all runs have" if ours != theirs and ours & theirs else told


@dataclass(frozen=True)
class Within:
    """Whether a run is worse than the baseline by a margin or more; better and worse are those of the measure.

    Attributes:
        margin: The margin, in the unit of the measure.
        not_worse: One-sided p-value of being worse by the margin or more.
        better: One-sided p-value of not being better at all.
        equivalent: p-value of differing by the margin or more, either way: the larger of two one-sided ones.
        low: Lower end of the 90% interval of the difference that these tests give: no more than 5% beyond either end.
        high: Its upper end.
    """

    margin: float
    not_worse: float
    better: float
    equivalent: float
    low: float
    high: float


def check_margin(margin: float) -> None:
    """`RequestError` unless a difference can be held against it."""
    if not (0 < margin < float("inf")):
        raise RequestError(f"margin {margin:g}: give a number above 0, in the unit of the measure, such as 0.01")


def claim_of(measured: Mapping[Setting, Within]) -> float | None:
    """p-value of "not worse within languages and better across", an intersection-union test.

    Both have to hold, so that the larger of their p-values needs no correction (Berger 1982,
    doi:10.1080/00401706.1982.10487790).

    Returns:
        None where one of both settings is not there.
    """
    within, across = measured.get(Setting.MONOLINGUAL), measured.get(Setting.CROSS_LINGUAL)
    return None if within is None or across is None else max(within.not_worse, across.better)


@dataclass(frozen=True)
class Difference:
    """A run against the baseline on one measure in one setting.

    Attributes:
        run: Name of the run.
        baseline: Name of the baseline.
        collection: Name of the collection.
        setting: The setting.
        measure: The measure.
        by: The comparison by each clustering of `CLUSTERS` that has several clusters.
        cluster: The clustering that counts.
        p_adjusted: Holm's adjusted p-value of that, over the runs that were compared in this collection, setting and
            measure.
        within: By a margin, where one is asked for.
    """

    run: str
    baseline: str
    collection: str
    setting: Setting
    measure: str
    by: Mapping[str, Comparison]
    cluster: str
    p_adjusted: float
    within: Within | None = None

    @property
    def result(self) -> Comparison:
        """The comparison by the clustering that counts."""
        return self.by[self.cluster]


def against_baseline(
    aligned: Aligned,
    baseline: int,
    *,
    collection: str,
    setting: Setting,
    measure: str,
    cluster: str = CLUSTERS[0],
    margin: float | None = None,
    higher_is_better: bool = True,
    **options: Any,
) -> list[Difference]:
    """Every other run against one of them, with Holm's correction for their number.

    Args:
        aligned: The scores.
        baseline: Position of the baseline.
        collection: Told in the result.
        setting: Told in the result.
        measure: Told in the result.
        cluster: The clustering that counts.
        margin: By how much a run would be worse; None for no tests of that.
        higher_is_better: Direction of the measure, for these.
        **options: ``draws``, ``seed`` and ``confidence`` of `significance.compare`.

    Raises:
        RequestError: If the clustering that counts has only one cluster, an option is wrong, or there is a margin for
            a measure that is no mean over queries.
    """
    aligned.cells(cluster)  # says what is wrong with it before anything is computed
    others = [run for run in range(len(aligned.runs)) if run != baseline]
    compared = [
        {name: aligned.comparison(name, run, baseline, **options) for name in aligned.clusterings} for run in others
    ]
    adjusted = holm([by[cluster].p for by in compared]).tolist() if compared else []
    sign = 1 if higher_is_better else -1
    drawn = {name: value for name, value in options.items() if name != "confidence"}
    if margin is not None and aligned.figure != "mean":
        raise RequestError("a margin goes with measures that are means over queries, not with medians or Kendall's W")
    gains = sign * (aligned.scores - aligned.scores[baseline])
    within = [
        None if margin is None else _within(aligned.cells(cluster), gains[run], sign * margin, drawn) for run in others
    ]
    return [
        Difference(
            aligned.runs[run], aligned.runs[baseline], collection, setting, measure, by, cluster, p_adjusted, by_margin
        )
        for run, by, p_adjusted, by_margin in zip(others, compared, adjusted, within, strict=True)
    ]


def _within(cells: Cells, gain: Scores, signed: float, drawn: Mapping[str, Any]) -> Within:
    """By a margin, which is negative where lower is better, from what a run gains over the baseline in each cell."""
    margin, sign = abs(signed), 1 if signed > 0 else -1
    check_margin(margin)
    not_worse = float(sign_flip_above(cells, gain, -margin, **drawn))
    not_better = float(sign_flip_above(cells, -gain, -margin, **drawn))
    better = float(sign_flip_above(cells, gain, **drawn))
    ends = sorted(sign * float(end) for end in sign_flip_interval(cells, gain, confidence=1 - 2 * LEVEL, **drawn))
    return Within(margin, not_worse, better, max(not_worse, not_better), ends[0], ends[1])


@dataclass(frozen=True)
class MethodDifference:
    """A method, several trainings, against another on one measure in one setting.

    Attributes:
        method: Its name.
        baseline: The other's.
        collection: Name of the collection.
        setting: The setting.
        measure: The measure.
        result: The comparison.
        p_adjusted: Holm's adjusted p-value, over the methods compared in this collection, setting and measure.
        within: By a margin, where one is asked for.
    """

    method: str
    baseline: str
    collection: str
    setting: Setting
    measure: str
    result: Methods
    p_adjusted: float
    within: Within | None = None


def seed_of(run: Run) -> int | None:
    """The seed that a run's model was trained with; None if it does not say."""
    seed = (run.training or {}).get("seed")
    return seed if isinstance(seed, int) else None


def against_method(
    aligned: Aligned,
    methods: Mapping[str, Sequence[int]],
    baseline: str,
    seeds: Sequence[int | None],
    *,
    collection: str,
    setting: Setting,
    measure: str,
    cluster: str = CLUSTERS[0],
    margin: float | None = None,
    higher_is_better: bool = True,
    confidence: float = 0.95,
) -> list[MethodDifference]:
    """Every other method against one of them, with Holm's correction for their number.

    Runs are paired by their seeds where both methods have the same ones.

    Args:
        aligned: The scores of all runs.
        methods: By name, the positions of a method's runs, at least two.
        baseline: Name of the baseline.
        seeds: (runs,), the seed of each run, None where it is not known.
        collection: Told in the result.
        setting: Told in the result.
        measure: Told in the result.
        cluster: What questions are clustered by.
        margin: By how much a method would be worse; None for no tests of that.
        higher_is_better: Direction of the measure, for these.
        confidence: Of the intervals.

    Raises:
        RequestError: If there is only one cluster, a method has a single run, or the measure is no mean over queries.
    """
    if aligned.figure != "mean":
        raise RequestError("methods are compared by means over queries, not by medians or Kendall's W: compare runs")
    cells, sign = aligned.cells(cluster), 1 if higher_is_better else -1
    found = {}
    for name, runs in methods.items():
        if name != baseline:
            order = [
                sorted(each, key=lambda run: (seeds[run] is None, seeds[run])) for each in (runs, methods[baseline])
            ]
            one, other = ([seeds[run] for run in each] for each in order)
            paired = one == other and None not in one and len(set(one)) == len(one)
            a, b = (aligned.scores[each] for each in order)
            found[name] = compare_methods(cells, a, b, paired=paired, confidence=confidence)
    adjusted = holm([result.p for result in found.values()]).tolist() if found else []
    return [
        MethodDifference(
            name,
            baseline,
            collection,
            setting,
            measure,
            result,
            p,
            None if margin is None else _by(result, margin, sign),
        )
        for (name, result), p in zip(found.items(), adjusted, strict=True)
    ]


def _by(result: Methods, margin: float, sign: int) -> Within:
    check_margin(margin)
    above, below = (result.p_above, result.p_below) if sign > 0 else (result.p_below, result.p_above)
    not_worse, not_better = above(-sign * margin), below(sign * margin)
    low, high = result.interval(1 - 2 * LEVEL)
    return Within(margin, not_worse, above(0.0), max(not_worse, not_better), low, high)


def all_pairs(
    aligned: Aligned, cluster: str = CLUSTERS[0], *, higher_is_better: bool = True, **options: Any
) -> tuple[TukeyHSD, list[str]]:
    """All pairs of runs by the randomised Tukey HSD test, and letters: runs that share one do not differ.

    Args:
        aligned: The scores of at least two runs.
        cluster: The clustering.
        higher_is_better: Direction of the measure.
        **options: ``draws`` and ``seed`` of `significance.tukey_hsd`.

    Returns:
        The test's result, and the letters of each run; ``a`` is the group of the best mean.
    """
    result = tukey_hsd(aligned.cells(cluster), aligned.scores, **options)
    means = macro_mean(aligned.cells(cluster), aligned.scores)
    return result, _letters(result.p < LEVEL, (means if higher_is_better else -means).tolist())


def _letters(different: NDArray[np.bool_], means: Sequence[float]) -> list[str]:
    """A compact letter display (Piepho 2004): the maximal groups of runs of which no two differ, highest first."""
    order = sorted(range(len(means)), key=lambda run: -means[run])
    groups: list[set[int]] = [set(order)]
    for place, one in enumerate(order):
        for other in order[place + 1 :]:
            if not different[one, other]:
                continue
            split: list[set[int]] = []
            for group in groups:
                split += [group - {one}, group - {other}] if {one, other} <= group else [group]
            groups = [g for n, g in enumerate(split) if not any(g < h for h in split) and g not in split[:n]]
    groups.sort(key=lambda group: sorted(map(order.index, group)))
    names = [chr(ord("a") + number) if number < 26 else f"z{number}" for number in range(len(groups))]
    return [
        "".join(name for name, group in zip(names, groups, strict=True) if run in group) for run in range(len(means))
    ]
