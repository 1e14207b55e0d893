"""What several runs are worth, side by side: values, intervals, and differences from a baseline.

A *level* is what a value is a mean over: the subsets of one setting that have a query language, a pair of languages, or
all of them. Runs on the same queries share their resamples and flips, so that twenty runs cost little more than one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.analysis.comparisons import Aligned, align, unlike
from hybrid_bench.analysis.scores import CLUSTERS, OF_QUERIES, OF_SUBSETS, SettingScores, scores
from hybrid_bench.data.published import PublishedSystem
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import (
    DRAWS,
    Cells,
    benjamini_hochberg,
    bootstrap,
    bootstrap_median,
    bootstrap_sums,
    holm,
    sign_flip,
)
from hybrid_bench.runs.saved import Run, TaskTable, names_of

__all__ = ["KINDS", "MEAN", "SEEN", "Choices", "Level", "Study", "Value", "seen_subsets"]

#: Kinds of levels: over everything, by query language, by pair, by whether languages were seen in training.
KINDS = ("mean", "language", "pair", "seen")
#: Levels that are means over languages.
MEAN = "mean"
#: Levels by whether a model was trained on the languages of query and pool: on all, on one of both, on none.
SEEN = ("seen", "mixed", "unseen")

Scores = NDArray[np.float64]
#: What runs share that have the same subsets, queries and clusters, in the same order.
_Layout = tuple[tuple[tuple[str, str, str], ...], bytes, bytes]


class Level(NamedTuple):
    """What a value is a mean over.

    Attributes:
        query_language: A code, `MEAN`, or one of `SEEN`.
        pool: Language of the passages of a pair; empty for a mean over the pools of the setting.
    """

    query_language: str
    pool: str = ""


@dataclass(frozen=True)
class Choices:
    """How values are computed.

    Attributes:
        baseline: Position of the run that the others are compared with; None for no comparison.
        intervals: Whether intervals are computed.
        cluster: What questions are clustered by, see `comparisons.CLUSTERS`.
        draws: Flips and resamples.
        seed: Of both.
    """

    baseline: int | None = None
    intervals: bool = False
    cluster: str = CLUSTERS[0]
    draws: int = DRAWS
    seed: int = 0

    @property
    def drawn(self) -> dict[str, Any]:
        """The arguments of `significance` that say what is drawn."""
        return {"draws": self.draws, "seed": self.seed}


@dataclass(frozen=True)
class Value:
    """A value of a run, and what is known about it.

    Attributes:
        value: The mean over subsets of means over queries, in the unit of the measure.
        n: Queries that it is over, each counted in every subset.
        subsets: Subsets that it is over.
        low: Lower end of its 95% interval; None where none was computed.
        high: Upper end.
        clusters: Clusters that interval and test rest on.
        delta: The difference from the baseline; None for the baseline, and where there is none.
        p: p-value of the cluster sign-flip test.
        p_adjusted: The same adjusted: over the runs by Holm for means, over the languages or pairs of the run by
            Benjamini and Hochberg for these.
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


@dataclass(frozen=True)
class Study:
    """Runs, published systems, and how to look at them.

    Attributes:
        runs: The runs.
        reported: Published systems, which are only shown.
        choices: How values are computed.
    """

    runs: Sequence[Run]
    reported: Sequence[PublishedSystem] = ()
    choices: Choices = field(default_factory=Choices)

    @cached_property
    def names(self) -> list[str]:
        """A name for each run, no two alike."""
        return names_of(self.runs)

    @cached_property
    def tables(self) -> list[TaskTable]:
        """The tables of all runs."""
        return [table for run in self.runs for table in run.tasks.values()]

    def collections(self, *, parallel: bool) -> list[str]:
        """The collections that are measured by average precision, or the others, in order of appearance."""
        found = [table.collection for table in self.tables if table.parallel is parallel]
        if parallel and not self.runs:
            found = [collection for system in self.reported for collection, *_ in system.values]
        return list(dict.fromkeys(found))

    def settings(self, collection: str) -> list[Setting]:
        """The settings that any run has of a collection; without runs, those that were published."""
        if not self.runs:
            of_collection = {key[1] for system in self.reported for key in system.values if key[0] == collection}
            return [setting for setting in Setting if setting in of_collection]
        covered = [table.covered for table in self.tables if table.collection == collection]
        return [setting for setting in Setting if any(setting.value in each for each in covered)]

    def scores(self, run: int, collection: str, setting: Setting) -> SettingScores:
        """The scores of a run; empty if it has none of this setting."""
        return scores(self.runs[run], collection, setting)

    def coverage(self, run: int, collection: str, setting: Setting) -> frozenset[tuple[str, int]]:
        """The subsets of a run, each with the size of its pool: only means over the same ones can be compared."""
        tables = [table for table in self.runs[run].tasks.values() if table.collection == collection]
        return frozenset().union(*(table.covered.get(setting.value, frozenset()) for table in tables))

    def alike(self, collection: str, setting: Setting) -> bool:
        """Whether the runs that have this setting are about the same data, and rank the same pools, where they meet."""
        if (collection, setting) not in self._alike:
            having = [
                run for number, run in enumerate(self.runs) if len(self.coverage(number, collection, setting)) > 0
            ]
            pairs = combinations(having, 2)
            self._alike[collection, setting] = all(unlike(*pair, collection, setting) is None for pair in pairs)
        return self._alike[collection, setting]

    @cached_property
    def _alike(self) -> dict[tuple[str, Setting], bool]:
        return {}

    def languages(self, collection: str) -> list[str]:
        """The query languages of a collection in all runs and settings, sorted."""
        found: set[str] = set()
        for run in range(len(self.runs)):
            for setting in self.settings(collection):
                found.update(self.scores(run, collection, setting).query_languages)
        for system in self.reported:
            found.update(code for name, _, code, _ in system.values if name == collection)
        return sorted(found - {MEAN, "median"})

    def values(
        self, collection: str, setting: Setting, measures: Sequence[str], levels: Iterable[str] | None = None
    ) -> dict[tuple[int, str], dict[Level, Value]]:
        """Values of measures in one setting.

        Args:
            collection: Name of the collection.
            setting: The setting.
            measures: Measures of `scores`.
            levels: Of `KINDS`; None for all. Fewer take less time; what was computed once is kept.

        Returns:
            Values by level, by run and measure. What a run does not have is not there.

        Raises:
            RequestError: If there is a baseline, and a run that has this setting cannot be compared with it; or an
                option is wrong.
        """
        kinds = set(levels) if levels is not None else set(KINDS)
        known = self._known
        missing = [m for m in measures if not kinds <= known.get((collection, setting, m), (set(), {}))[0]]
        if missing:
            # What was known of fewer levels is computed again with all of them, so that one call has everything.
            wanted = kinds.union(*(known.get((collection, setting, m), (set(), {}))[0] for m in missing))
            computed = self._values(collection, setting, missing, wanted)
            for measure in missing:
                of_runs = {run: each for (run, name), each in computed.items() if name == measure}
                known[collection, setting, measure] = (wanted, of_runs)
        return {
            (run, measure): {level: value for level, value in each.items() if _kind(level) in kinds}
            for run in range(len(self.runs))
            for measure in measures
            if (each := known[collection, setting, measure][1].get(run)) is not None
        }

    @cached_property
    def _known(self) -> dict[tuple[str, Setting, str], tuple[set[str], dict[int, dict[Level, Value]]]]:
        """Values that were computed, by collection, setting and measure: the kinds of levels, and values by run."""
        return {}

    def _values(
        self, collection: str, setting: Setting, measures: Sequence[str], kinds: set[str]
    ) -> dict[tuple[int, str], dict[Level, Value]]:
        found: dict[tuple[int, str], dict[Level, Value]] = {}
        for run in range(len(self.runs)):
            each = self.scores(run, collection, setting)
            if not len(each):
                continue
            wanted = _levels(each, setting, self.runs[run].trained_languages, kinds)
            for measure in measures:
                by_subset = each.of_subsets(measure)
                if by_subset is None:
                    continue
                counts = _counts(each, measure)
                found[run, measure] = {
                    level: Value(float(by_subset[codes].mean()), int(counts[codes].sum()), len(codes))
                    for level, all_codes in wanted.items()
                    if len(codes := all_codes[~np.isnan(by_subset[all_codes])])
                }
        if self.choices.intervals:
            self._add_intervals(found, collection, setting, kinds)
        if self.choices.baseline is not None:
            self._add_differences(found, collection, setting, kinds)
        return found

    # -- intervals ------------------------------------------------------------------------------------------------

    def _add_intervals(
        self,
        found: dict[tuple[int, str], dict[Level, Value]],
        collection: str,
        setting: Setting,
        kinds: set[str],
    ) -> None:
        alike: dict[_Layout, list[tuple[int, str, Scores]]] = defaultdict(list)
        layouts: dict[_Layout, tuple[SettingScores, NDArray[np.bool_]]] = {}
        for (run, measure), of_run in found.items():
            each = self.scores(run, collection, setting)
            if measure in OF_SUBSETS:
                self._add_interval_of_subsets(of_run, each, measure)
                continue
            values = None if measure.endswith("_expected") else each.of(measure)
            if values is None:
                continue
            known = ~np.isnan(values)
            cluster = each.cluster(self.choices.cluster)
            key = (tuple(each.subsets), each.subset[known].tobytes(), cluster[known].tobytes())
            layouts.setdefault(key, (each, known))
            alike[key].append((run, measure, values[known]))
        for key, members in alike.items():
            each, known = layouts[key]
            rows = np.stack([values for *_, values in members])
            codes, cluster = each.subset[known], each.cluster(self.choices.cluster)[known]
            # What a run has seen depends on its training; all other levels are the same for all.
            groups = [(list(range(len(members))), _levels(each, setting, None, kinds - {"seen"}))]
            if "seen" in kinds:
                by_training: dict[tuple[str, ...] | None, list[int]] = defaultdict(list)
                for place, (run, _, _) in enumerate(members):
                    by_training[self.runs[run].trained_languages].append(place)
                groups += [(places, _levels(each, setting, seen, {"seen"})) for seen, places in by_training.items()]
            for places, levels in groups:
                for level, low, high, clusters in self._intervals(codes, cluster, rows[places], levels):
                    for row, place in enumerate(places):
                        of_run = found[members[place][:2]]
                        if level in of_run:
                            ends = {"low": float(low[row]), "high": float(high[row])}
                            of_run[level] = _with(of_run[level], **ends, clusters=clusters)

    def _intervals(
        self,
        codes: NDArray[np.intp],
        cluster: NDArray[np.int64],
        rows: Scores,
        levels: Mapping[Level, NDArray[np.intp]],
    ) -> Iterable[tuple[Level, Scores, Scores, int]]:
        """Intervals of every level that has several clusters; pairs of languages in one call."""
        for level, within, cells in _of_several(codes, cluster, levels):
            found = bootstrap(cells, rows[:, within], **self.choices.drawn)
            yield level, found.low, found.high, cells.n_clusters
        single = _pairs(levels)
        # A pair whose questions are all of one cluster has no interval.
        single = {code: level for code, level in single.items() if _cells(codes[codes == code], cluster[codes == code])}
        if single:
            within = np.isin(codes, list(single))
            cells = Cells.of(codes[within], cluster[within])
            found = bootstrap(cells, rows[:, within], by_setting=True, **self.choices.drawn)
            for place, code in enumerate(cells.settings.tolist()):
                clusters = int((cells.counts[:, place] > 0).sum())
                yield single[code], found.low[:, place], found.high[:, place], clusters

    def _add_interval_of_subsets(self, values: dict[Level, Value], each: SettingScores, measure: str) -> None:
        """The interval of a median or of Kendall's W, for the mean over the query languages that it applies to."""
        level = Level(MEAN)
        by_subset = each.of_subsets(measure)
        if level not in values or by_subset is None:
            return
        known = ~np.isnan(by_subset)[each.subset]
        cells = _cells(each.subset[known], each.cluster(self.choices.cluster)[known])
        if cells is None:
            return
        if measure == "bias_rank_distance_median":
            distances = each.of("bias_rank_distance")
            assert distances is not None
            found = bootstrap_median(cells, distances[known], **self.choices.drawn)
        else:
            cluster = np.zeros(len(each), dtype=np.intp)
            cluster[known] = cells.cluster
            sums, figure = each.concordance(cluster, cells.n_clusters)
            found = bootstrap_sums(sums, figure, **self.choices.drawn)
        values[level] = _with(values[level], low=float(found.low), high=float(found.high), clusters=cells.n_clusters)

    # -- differences ----------------------------------------------------------------------------------------------

    def _add_differences(
        self,
        found: dict[tuple[int, str], dict[Level, Value]],
        collection: str,
        setting: Setting,
        kinds: set[str],
    ) -> None:
        baseline = self.choices.baseline
        assert baseline is not None
        each = self.scores(baseline, collection, setting)
        levels = _levels(each, setting, None, kinds - {"seen"})
        alike: dict[_Layout, list[tuple[str, list[int], Aligned]]] = defaultdict(list)
        # An excess differs from its measure by a constant, so that there is nothing more to test.
        for measure in [measure for run, measure in found if run == baseline and measure in OF_QUERIES]:
            others = [run for run, name in found if name == measure and run != baseline]
            if others:
                aligned = self.aligned([baseline, *others], collection, setting, measure)
                key = (
                    tuple(aligned.subsets),
                    aligned.codes.tobytes(),
                    aligned.cluster(self.choices.cluster).tobytes(),
                )
                alike[key].append((measure, others, aligned))
        for members in alike.values():
            aligned = members[0][2]
            place = {name: code for code, name in enumerate(aligned.subsets)}
            named = {
                level: np.array([place[each.subsets[code]] for code in codes.tolist() if each.subsets[code] in place])
                for level, codes in levels.items()
            }
            rows = np.concatenate([each.scores[1:] - each.scores[0] for *_, each in members])
            tested = dict(self._tests(aligned.codes, aligned.cluster(self.choices.cluster), rows, named))
            start = 0
            for measure, others, _ in members:
                mine = slice(start, start + len(others))
                of_measure = {level: (delta[mine], p[mine]) for level, (delta, p) in tested.items()}
                self._note_differences(found, measure, others, of_measure)
                start += len(others)

    def _tests(
        self,
        codes: NDArray[np.intp],
        cluster: NDArray[np.int64],
        rows: Scores,
        levels: Mapping[Level, NDArray[np.intp]],
    ) -> Iterable[tuple[Level, tuple[Scores, Scores]]]:
        """Differences and p-values of every level that has several clusters; pairs of languages in one call."""
        for level, within, cells in _of_several(codes, cluster, levels):
            test = sign_flip(cells, rows[:, within], **self.choices.drawn)
            yield level, (test.delta, test.p)
        single = _pairs(levels)
        if single:
            within = np.isin(codes, list(single))
            pairs = _cells(codes[within], cluster[within])
            if pairs is not None:
                test = sign_flip(pairs, rows[:, within], by_setting=True, **self.choices.drawn)
                for place, code in enumerate(pairs.settings.tolist()):
                    yield single[code], (test.delta[:, place], test.p[:, place])

    @staticmethod
    def _note_differences(
        found: dict[tuple[int, str], dict[Level, Value]],
        measure: str,
        others: Sequence[int],
        tested: Mapping[Level, tuple[Scores, Scores]],
    ) -> None:
        families: dict[str, list[Level]] = defaultdict(list)
        for level in tested:
            families["mean" if level == Level(MEAN) else "pair" if level.pool else "language"].append(level)
        for family, members in families.items():
            p = np.stack([tested[level][1] for level in members])  # (levels, runs)
            if family == "mean":
                adjusted = holm(p[0])[None]
            else:
                adjusted = np.stack([benjamini_hochberg(column) for column in p.T], axis=1)
            for place, level in enumerate(members):
                for number, run in enumerate(others):
                    if level in found[run, measure]:
                        found[run, measure][level] = _with(
                            found[run, measure][level],
                            delta=float(tested[level][0][number]),
                            p=float(p[place, number]),
                            p_adjusted=float(adjusted[place, number]),
                        )

    def aligned(self, runs: Sequence[int], collection: str, setting: Setting, measure: str) -> Aligned:
        """The scores of some of the runs on the same queries; see `comparisons.align`."""
        return align([self.runs[run] for run in runs], collection, setting, measure)


def _kind(level: Level) -> str:
    """Which of `KINDS` a level is of."""
    if level.pool:
        return "pair"
    return "mean" if level.query_language == MEAN else "seen" if level.query_language in SEEN else "language"


def _is_one(level: Level, members: NDArray[np.intp]) -> bool:
    """Whether a level is one subset, a pair's, so that all such can go into one call."""
    return bool(level.pool) and len(members) == 1


def _pairs(levels: Mapping[Level, NDArray[np.intp]]) -> dict[int, Level]:
    """The levels that are one subset, by this subset."""
    return {int(members[0]): level for level, members in levels.items() if _is_one(level, members)}


def _of_several(
    codes: NDArray[np.intp], cluster: NDArray[np.int64], levels: Mapping[Level, NDArray[np.intp]]
) -> Iterable[tuple[Level, NDArray[np.bool_], Cells]]:
    """The other levels that have several clusters: which queries are theirs, and these as cells."""
    for level, members in levels.items():
        if not _is_one(level, members):
            within = np.isin(codes, members)
            cells = _cells(codes[within], cluster[within])
            if cells is not None:
                yield level, within, cells


def _with(value: Value, **changes: Any) -> Value:
    return replace(value, **changes)


def _levels(
    found: SettingScores, setting: Setting, trained: Iterable[str] | None, kinds: set[str]
) -> dict[Level, NDArray[np.intp]]:
    """The subsets of each level."""
    codes = np.arange(len(found.subsets), dtype=np.intp)
    asked, pools = np.array(found.query_languages), np.array(found.pools)
    levels: dict[Level, NDArray[np.intp]] = {}
    if "mean" in kinds:
        levels[Level(MEAN)] = codes
    if "language" in kinds:
        levels |= {Level(code): codes[asked == code] for code in sorted(set(asked.tolist()))}
    if "pair" in kinds and setting is Setting.CROSS_LINGUAL:
        levels |= {
            Level(one, other): codes[(asked == one) & (pools == other)]  # in several splits there may be several
            for one, other in dict.fromkeys(zip(asked.tolist(), pools.tolist(), strict=True))
        }
    if "seen" in kinds and trained is not None:
        levels |= {Level(name): members for name, members in seen_subsets(found, setting, trained).items()}
    return levels


def seen_subsets(found: SettingScores, setting: Setting, trained: Iterable[str]) -> dict[str, NDArray[np.intp]]:
    """The subsets of a setting by whether a model was trained on their languages.

    Args:
        found: The scores of the setting.
        setting: The setting.
        trained: Codes of the languages of the training.

    Returns:
        By each of `SEEN` that there is, positions in `SettingScores.subsets`: of those with both languages, with one,
        with neither.
    """
    known = np.isin(found.query_languages, list(trained)).astype(int)
    # A pool of all languages is neither: it is told by the language of the question alone.
    known += known if setting is Setting.MULTILINGUAL else np.isin(found.pools, list(trained)).astype(int)
    by_kind = {name: np.flatnonzero(known == number) for name, number in zip(SEEN, (2, 1, 0), strict=True)}
    return {name: members for name, members in by_kind.items() if len(members)}


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
