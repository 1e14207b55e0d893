"""Runs side by side: what they are called, what they have, and how they are to be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.analysis.comparisons import Aligned, align, unlike
from hybrid_bench.analysis.scores import CLUSTERS, SettingScores, setting_scores
from hybrid_bench.data.published import PublishedSystem
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import DRAWS
from hybrid_bench.runs.reading import Run, TaskTable, names_of

__all__ = ["SEEN", "Choices", "Study", "seen_subsets"]

#: Levels by whether a model was trained on the languages of query and pool: on both, on one of them, on none.
SEEN = ("seen", "mixed", "unseen")


@dataclass(frozen=True)
class Choices:
    """How values are computed.

    Attributes:
        baseline: Position of the run that the others are compared with; None for no comparison.
        intervals: Whether intervals are computed.
        cluster: What questions are clustered by, see `comparisons.CLUSTERS`.
        draws: Flips and resamples.
        seed: Of both.
        letters: Whether the main table has letters of Tukey's test for all pairs of runs.
        primary: Setting and measure that a study is mainly about, whose p-values are adjusted over the runs alone; None
            for each collection's main measure in the multilingual setting.
    """

    baseline: int | None = None
    intervals: bool = False
    cluster: str = CLUSTERS[0]
    draws: int = DRAWS
    seed: int = 0
    letters: bool = False
    primary: tuple[Setting, str] | None = None

    @property
    def drawn(self) -> dict[str, Any]:
        """The arguments of `significance` that say what is drawn."""
        return {"draws": self.draws, "seed": self.seed}


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

    def collections(self, *, parallel: bool | None = None) -> list[str]:
        """The collections that are measured by average precision, or the others, in order of appearance; None: both."""
        if parallel is None:
            return list(dict.fromkeys([*self.collections(parallel=True), *self.collections(parallel=False)]))
        found = [table.collection for table in self.tables if table.parallel is parallel]
        if parallel and not self.runs:
            found = [value.collection for system in self.reported for value in system.values.values()]
        return list(dict.fromkeys(found))

    def main_measure(self, collection: str) -> str:
        """What a collection is mainly measured by."""
        return "map" if collection in self.collections(parallel=True) else "ndcg_at_10"

    def primary(self, collection: str) -> tuple[Setting, str]:
        """Setting and measure whose p-values are adjusted by themselves, see `Choices`."""
        return self.choices.primary or (Setting.MULTILINGUAL, self.main_measure(collection))

    def settings(self, collection: str) -> list[Setting]:
        """The settings that any run has of a collection; without runs, those that were published."""
        if not self.runs:
            printed = [value for system in self.reported for value in system.values.values()]
            of_collection = {value.setting for value in printed if value.collection == collection}
            return [setting for setting in Setting if setting in of_collection]
        covered = [table.covered for table in self.tables if table.collection == collection]
        return [setting for setting in Setting if any(setting.value in each for each in covered)]

    def scores(self, run: int, collection: str, setting: Setting) -> SettingScores:
        """The scores of a run; empty if it has none of this setting."""
        return setting_scores(self.runs[run], collection, setting)

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
            found.update(value.query_language for value in system.values.values() if value.collection == collection)
        return sorted(found - {""})

    def aligned(self, runs: Sequence[int], collection: str, setting: Setting, measure: str) -> Aligned:
        """The scores of some of the runs on the same queries; see `comparisons.align`."""
        found = align([self.runs[run] for run in runs], collection, setting, measure)
        return replace(found, runs=tuple(self.names[run] for run in runs))


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
