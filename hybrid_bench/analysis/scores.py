"""Scores of a run by query, in one setting of one collection: what means, intervals and tests are computed from.

Measures are called by the names they have in mteb's results: ``map``, ``ndcg_at_10``, ``recall_at_1``, ..., and the
``bias_`` measures, which are computed again from the ranks that the per-query table holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting, did_you_mean
from hybrid_bench.measures import bias
from hybrid_bench.measures.bias import MEASURES, Pool, inputs_of
from hybrid_bench.measures.metrics import RelevantRanks, Scores
from hybrid_bench.measures.significance import Cells, SumsFigure, cluster_sums
from hybrid_bench.runs.reading import Run, TaskTable
from hybrid_bench.runs.result_files import QUERY_COLUMNS

__all__ = [
    "CLUSTERS",
    "COMPARED",
    "KEY",
    "OF_POOLS",
    "OF_QUERIES",
    "OF_SUBSETS",
    "PoolOfQueries",
    "SettingScores",
    "check_measure",
    "clusters_of",
    "concordance",
    "setting_scores",
]

#: What questions may be clustered by, the coarsest first; the first is the default.
CLUSTERS = ("article", "paragraph", "question")
#: What tells a query from all others of a collection and setting.
KEY = ["task", "split", "subset", "question_id"]
_COLUMNS = {name: column for column, name in QUERY_COLUMNS.items()}
#: Measures that every query has a value of, where they apply.
OF_QUERIES = (*_COLUMNS, *(measure.key for measure in MEASURES if measure.per_query is not None))
#: Measures that belong to a query language's queries as a whole.
OF_SUBSETS = tuple(measure.key for measure in MEASURES if measure.per_query is None)
#: What measures that are not 0 under a random ranking either are then, and what they are less that; of a pool.
OF_POOLS = tuple(
    f"{measure.key}_{what}"
    for measure in MEASURES
    if measure.key.startswith("bias_js_")
    for what in ("expected", "excess")
)
#: Measures by which runs can be compared: those, and what a measure is above a random ranking.
COMPARED = (*OF_QUERIES, *OF_SUBSETS, *(key for key in OF_POOLS if key.endswith("_excess")))
#: The columns that `bias.inputs_of` reads.
_RANKS = ("pool_languages", "ranks", "rank_languages", "gains", "top_languages")
_CLUSTERS = ("cluster_article", "cluster_paragraph")
_EXCESS = "_excess"


class PoolOfQueries(NamedTuple):
    """The ranks of one subset's queries.

    Attributes:
        subset: Position in `SettingScores.subsets`.
        rows: Positions of the queries in `SettingScores.queries`.
        ranks: Their relevant ranks.
        pool: What they were asked against.
    """

    subset: int
    rows: NDArray[np.intp]
    ranks: RelevantRanks
    pool: Pool


class SettingScores:
    """The queries of one setting, and their scores by measure, each computed when it is first asked for.

    Attributes:
        subsets: (task, split, subset) of each subset.
        subset: (n_queries,), position of each query's subset there, in the order of the saved tables.
        query_languages: Language of the questions of each subset.
        pools: What each subset's passages are: their language, or ``all`` in the multilingual setting.
    """

    def __init__(self, run: Run, collection: str, setting: Setting) -> None:
        self._tables = {
            name: table
            for name, table in run.tasks.items()
            if table.collection == collection and setting.value in table.covered
        }
        self._setting = setting
        self._rows: list[NDArray[np.intp]] = []
        self.subsets: list[tuple[str, str, str]] = []
        self.query_languages: list[str] = []
        self.pools: list[str] = []
        codes: list[NDArray[np.intp]] = []
        for name, table in self._tables.items():
            frame = table.frame("query_language")
            frame = frame[frame["setting"] == setting.value]
            split, subset = (frame[column].astype("category").cat for column in ("split", "subset"))
            wide = len(subset.categories)
            found, first, code = np.unique(
                split.codes.to_numpy(np.intp) * wide + subset.codes, return_index=True, return_inverse=True
            )
            codes.append(code + len(self.subsets))
            names = [(name, str(split.categories[c // wide]), str(subset.categories[c % wide])) for c in found]
            asked = frame["query_language"].iloc[first].astype(str).tolist()
            self.subsets += names
            self.query_languages += asked
            self.pools += self._pools(table, [each for _, _, each in names], asked, frame.index[first])
            self._rows.append(frame.index.to_numpy())
        self.subset = np.concatenate(codes) if codes else np.empty(0, dtype=np.intp)
        self._found: dict[str, Scores | None] = {}
        self._clusters: dict[str, NDArray[np.int64]] = {}

    @cached_property
    def queries(self) -> pd.DataFrame:
        """One row per query, in the order of the saved tables."""
        kept = [*KEY, "query_language", *_CLUSTERS]
        text = dict.fromkeys(KEY, str) | {"query_language": str}
        parts = [
            table.frame("query_language", "question_id", *_CLUSTERS).loc[rows].assign(task=name)[kept].astype(text)
            for (name, table), rows in zip(self._tables.items(), self._rows, strict=True)
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=kept)

    def _pools(self, table: TaskTable, subsets: list[str], asked: list[str], first: pd.Index[Any]) -> list[str]:
        """What the passages of a task's subsets are; `first` has the row of each one's first query."""
        if self._setting is Setting.MULTILINGUAL:
            return ["all"] * len(subsets)
        if self._setting is Setting.MONOLINGUAL:
            return asked
        pools = [subset.removeprefix(f"{code}-") for subset, code in zip(subsets, asked, strict=True)]
        if set(pools) <= set(table.metadata["languages"]):
            return pools
        # Subsets of mteb may have other names, even with the language of the corpus first. To read lists takes longer.
        return [str(languages[0]) for languages in table.frame("pool_languages").loc[first, "pool_languages"]]

    def __len__(self) -> int:
        return len(self.subset)

    def of(self, measure: str) -> Scores | None:
        """Values of a measure of `OF_QUERIES`: (n_queries,), NaN for queries that it does not apply to.

        Also of ``*_excess``, a measure less what it is under a random ranking of the query's pool.

        Returns:
            None if it applies to none.
        """
        if measure not in self._found:
            if measure.endswith(_EXCESS):
                base = measure.removesuffix(_EXCESS)
                values, expected = self.of(base), self.of_subsets(f"{base}_expected")
                if values is not None and expected is not None:
                    values = values - expected[self.subset]
                self._found[measure] = values
            elif measure in _COLUMNS:
                column = _COLUMNS[measure]
                parts = [
                    table.frame(column).loc[rows, column].to_numpy(np.float64)
                    for table, rows in zip(self._tables.values(), self._rows, strict=True)
                ]
                self._found[measure] = np.concatenate(parts) if parts else None
            else:
                self._found[measure] = self._bias(measure)
        return self._found[measure]

    def of_subsets(self, measure: str) -> Scores | None:
        """Values of any measure by subset: (n_subsets,), the mean over queries, NaN where it does not apply.

        Besides `OF_QUERIES` and `OF_SUBSETS`, all keys of `bias.bias_measures` are known here.

        Returns:
            None if it applies to no subset.
        """
        if measure in OF_QUERIES:
            values = self.of(measure)
            if values is None:
                return None
            known = ~np.isnan(values)
            count = np.bincount(self.subset[known], minlength=len(self.subsets))
            total = np.bincount(self.subset[known], values[known], len(self.subsets))
            means: Scores = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
            return means
        found = np.full(len(self.subsets), np.nan)
        for each in self.ranked:
            value = bias.measure_of(measure, each.ranks, each.pool)
            found[each.subset] = np.nan if value is None else value
        return None if np.isnan(found).all() else found

    def at_random(self, measure: str, query_language: str = "") -> float | None:
        """What a ``bias_`` measure is under a random ranking, mean over subsets; None if it does not apply.

        Args:
            measure: The measure.
            query_language: Of the subsets of this one only; empty for all.
        """
        found = [
            at_random[measure]
            for each, at_random in zip(self.ranked, self._at_random, strict=True)
            if measure in at_random and query_language in {"", self.query_languages[each.subset]}
        ]
        return float(np.mean(found)) if found else None

    def cluster(self, name: str) -> NDArray[np.int64]:
        """The cluster of each query, by one of `CLUSTERS`: (n_queries,)."""
        if name not in self._clusters:
            column = "question_id" if name == "question" else f"cluster_{name}"
            read = [
                table.frame(column).loc[rows, column]
                for table, rows in zip(self._tables.values(), self._rows, strict=True)
            ]
            found = pd.concat(read, ignore_index=True) if read else pd.Series(dtype=np.int64)
            self._clusters[name] = _numbered(found) if name == "question" else found.to_numpy(np.int64)
        return self._clusters[name]

    def answer_languages(
        self, cell: Literal["preference", "preference_at_random", "top_10"] = "preference"
    ) -> dict[tuple[str, str], float]:
        """Which languages answer, by (language of the question, language of the answer); see `bias.language_matrix`.

        Returns:
            Empty where it does not apply.
        """
        found: dict[tuple[str, str], float] = {}
        for each in self.ranked:
            languages = list(self._tables[self.subsets[each.subset][0]].metadata["languages"])
            found |= bias.language_matrix([(each.ranks, each.pool)], languages, cell)
        return found

    @cached_property
    def places(self) -> NDArray[np.int64] | None:
        """Places of the languages among each query's parallel answers, of which Kendall's W is made; see `concordance`.

        Returns:
            (n_queries, L), from 1 to the n languages of the query's pool, in its first n columns; 0 in the others, and
            for queries that W does not apply to. None if it applies to none.
        """
        found = {
            each.subset: (each.rows, bias.language_places(each.ranks))
            for each in self.ranked
            if bias.measure_of("bias_kendall_w", each.ranks, each.pool) is not None
        }
        if not found:
            return None
        places = np.zeros((len(self), max(of_subset.shape[1] for _, of_subset in found.values())), dtype=np.int64)
        for rows, of_subset in found.values():
            places[rows, : of_subset.shape[1]] = of_subset
        return places

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Positions of the queries sorted by `KEY`: the same for runs on the same queries, however they were saved."""
        codes = [pd.factorize(self.queries[name], sort=True)[0] for name in reversed(KEY)]
        return np.lexsort(codes).astype(np.intp)

    @cached_property
    def absent(self) -> Mapping[str, str]:
        """Why a bias measure does not apply, by measure: the reason that its first subset gives; all of them."""
        reasons: dict[str, str] = {}
        if len(self) and not self.ranked:
            return {measure.key: "the pool has only one language" for measure in MEASURES}
        for each in self.ranked:
            for key, reason in bias.absent(each.ranks, each.pool).items():
                reasons.setdefault(key, reason)
        return reasons

    @cached_property
    def ranked(self) -> list[PoolOfQueries]:
        """The ranks of every subset whose pool holds several languages; bias is about no others."""
        found = []
        start = 0
        for (_, table), rows in zip(self._tables.items(), self._rows, strict=True):
            codes = self.subset[start : start + len(rows)]
            if self._setting is Setting.MULTILINGUAL:
                frame = table.frame("query_language", *_RANKS).loc[rows]
                for code in np.unique(codes):
                    within = np.flatnonzero(codes == code)
                    part = frame.iloc[within]
                    if len(part["pool_languages"].iloc[0]) > 1:  # subsets of mteb's may each have another corpus
                        found.append(PoolOfQueries(int(code), start + within, *inputs_of(part, table.metadata)))
            start += len(rows)
        return found

    def _bias(self, measure: str) -> Scores | None:
        values = np.full(len(self), np.nan)
        for each in self.ranked:
            found = bias.queries_of(measure, each.ranks, each.pool)
            if found is not None:
                values[each.rows[found.query]] = found.value
        return None if np.isnan(values).all() else values

    @cached_property
    def _at_random(self) -> list[Mapping[str, float]]:
        return [bias.random_ranking(each.ranks, each.pool) for each in self.ranked]


def concordance(cells: Cells, places: NDArray[np.int64]) -> tuple[Scores, SumsFigure]:
    """Kendall's W as a figure of sums over clusters, for intervals and tests.

    W depends on the number of queries and, for each language, the sum of its places; both are sums over clusters.

    Args:
        cells: The queries that W applies to; a setting for each subset.
        places: (n_cells, L), see `SettingScores.places`.

    Returns:
        (G, k) sums, and what makes of (n, k) sums W, averaged over the subsets: (n,).
    """
    numbers = cells.counts[:, :, None].astype(np.float64)
    sums = np.concatenate([numbers, cluster_sums(cells, places)], axis=2)
    widths = [int(places[cells.setting == subset].max()) for subset in range(cells.n_settings)]

    def figure(rows: Scores) -> Scores:
        total = np.zeros(len(rows))
        for n, of_subset in zip(widths, np.moveaxis(rows.reshape(len(rows), *sums.shape[1:]), 1, 0), strict=True):
            m = of_subset[:, 0]
            squares = np.square(of_subset[:, 1 : 1 + n] - m[:, None] * (n + 1) / 2).sum(axis=1)
            total += 12 * squares / (np.maximum(m, 1) ** 2 * (n**3 - n))
        return np.asarray(total / len(widths))

    return sums.reshape(len(sums), -1), figure


def setting_scores(run: Run, collection: str, setting: Setting) -> SettingScores:
    """The scores of a run in one setting of a collection; the same object each time. Empty if it has none.

    Raises:
        DataError: If a table cannot be read.
    """
    key = (collection, setting)
    if key not in run.cache:
        run.cache[key] = SettingScores(run, collection, setting)
    found: SettingScores = run.cache[key]
    return found


def clusters_of(queries: pd.DataFrame) -> Mapping[str, NDArray[np.int64]]:
    """What queries are clustered by, by name of `CLUSTERS`: for each a number, the same in all settings."""
    return {
        "article": queries["cluster_article"].to_numpy(np.int64),
        "paragraph": queries["cluster_paragraph"].to_numpy(np.int64),
        # 63 bits of a hash, which knows nothing of the other questions.
        "question": (pd.util.hash_array(queries["question_id"].to_numpy(object)) >> 1).astype(np.int64),
    }


def _numbered(column: pd.Series[Any]) -> NDArray[np.int64]:
    """A number for each distinct value, in the order in which they come."""
    return pd.factorize(column)[0].astype(np.int64)


def check_measure(measure: str, known: Sequence[str] = OF_QUERIES) -> None:
    """`RequestError` unless this is one of the known measures."""
    if measure not in known:
        what = "measure of queries" if known == OF_QUERIES else "measure"
        raise RequestError(f"no {what} is called '{measure}': {did_you_mean(measure, known)}")
