"""Retrieval measures from relevant ranks: per-query scores, then means.

Everything is computed from the 1-based ranks r_1 < ... < r_R of the R relevant passages of a query, with gains
g_1 ... g_R for graded judgments. All measures lie in [0, 1] and higher is better. Names are those of mteb, definitions
those of trec_eval:

- ``map``: average precision at full depth, (1/R) sum_i i / r_i. ``map_at_k``: the same sum over r_i <= k; the divisor
  stays R.
- ``ndcg_at_k``: sum over r_i <= k of g_i / log2(r_i + 1), over the same sum for the best possible order.
- ``recall_at_k``: share of the R passages with r <= k. ``precision_at_k``: their number over k.
- ``mrr_at_k``: 1 / r_1 if r_1 <= k, else 0. ``hit_rate_at_k``: 1 if r_1 <= k, else 0.
- ``lareqa_map_at_20``: AP@20 with divisor min(R, 20), the figure that LAReQA (arXiv 2004.05484) reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["K_VALUES", "NOT_RETRIEVED", "RelevantRanks", "Scores", "measures", "per_query"]

#: mteb's own cut-offs.
K_VALUES = (1, 3, 5, 10, 20, 100, 1000)
#: Stands for the rank of a relevant passage that a search of limited depth did not return.
NOT_RETRIEVED = np.iinfo(np.int32).max
#: One number for each query, in the unit of a measure; and what is computed from such numbers.
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class RelevantRanks:
    """Ranks of the relevant passages of some queries in one pool, as parallel columns sorted by (query, rank).

    Attributes:
        n_queries: Number of queries; each has at least one relevant passage.
        query: int32, position of the query.
        rank: int32, 1-based rank of the passage, or `NOT_RETRIEVED`.
        gain: int32, its relevance grade, at least 1.
        language: int16, its language, as a position in the collection's languages.
    """

    n_queries: int
    query: NDArray[np.int32]
    rank: NDArray[np.int32]
    gain: NDArray[np.int32]
    language: NDArray[np.int16]

    @classmethod
    def sort(
        cls,
        n_queries: int,
        query: NDArray[np.int32],
        rank: NDArray[np.int32],
        gain: NDArray[np.int32],
        language: NDArray[np.int16],
    ) -> RelevantRanks:
        """The same from columns in any order."""
        order = np.lexsort((rank, query))
        return cls(n_queries, query[order], rank[order], gain[order], language[order])

    @cached_property
    def n_relevant(self) -> NDArray[np.int64]:
        """Number of relevant passages of each query, retrieved or not."""
        counts: NDArray[np.int64] = np.bincount(self.query, minlength=self.n_queries).astype(np.int64)
        return counts

    @cached_property
    def one_per_language(self) -> bool:
        """Whether no query has several relevant passages in one language."""
        if len(self.query) == 0:
            return True
        cell = self.query.astype(np.int64) * (int(self.language.max()) + 1) + self.language
        return len(np.unique(cell)) == len(cell)

    @property
    def place(self) -> NDArray[np.int64]:
        """1-based place of each passage among the relevant passages of its query, by rank."""
        first: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.n_relevant)[:-1]])
        return np.arange(len(self.query)) - first[self.query] + 1


def per_query(ranks: RelevantRanks, k_values: Sequence[int] = K_VALUES) -> dict[str, Scores]:
    """Every measure of every query.

    Args:
        ranks: The relevant ranks.
        k_values: Cut-offs for the measures that take one.

    Returns:
        Arrays (n_queries,) by the measure's name, in the order in which they should be shown.
    """
    n, query, rank = ranks.n_queries, ranks.query, ranks.rank.astype(np.float64)
    n_relevant = ranks.n_relevant
    retrieved = ranks.rank != NOT_RETRIEVED
    # precision at the rank of each relevant passage
    precision = np.where(retrieved, ranks.place / rank, 0.0)
    discounted = ranks.gain / np.log2(rank + 1)
    first_rank = np.full(n, np.inf)
    np.minimum.at(first_rank, query[retrieved], rank[retrieved])

    def total(values: Scores) -> Scores:
        return np.asarray(np.bincount(query, weights=values, minlength=n), dtype=np.float64)

    scores = {"map": total(precision) / n_relevant}
    within = {k: ranks.rank <= k for k in k_values}
    found = {k: total(within[k].astype(np.float64)) for k in k_values}
    scores |= {f"ndcg_at_{k}": total(discounted * within[k]) / _ideal(ranks, k) for k in k_values}
    scores |= {f"map_at_{k}": total(precision * within[k]) / n_relevant for k in k_values}
    scores |= {f"recall_at_{k}": found[k] / n_relevant for k in k_values}
    scores |= {f"precision_at_{k}": found[k] / k for k in k_values}
    scores |= {f"mrr_at_{k}": np.where(first_rank <= k, 1 / first_rank, 0.0) for k in k_values}
    scores |= {f"hit_rate_at_{k}": (first_rank <= k).astype(np.float64) for k in k_values}
    scores["mrr"] = 1 / first_rank
    scores["lareqa_map_at_20"] = total(precision * (ranks.rank <= 20)) / np.minimum(n_relevant, 20)
    return scores


def _ideal(ranks: RelevantRanks, k: int) -> Scores:
    """Discounted gain at k of the order by descending gain."""
    by_gain = np.lexsort((-ranks.gain, ranks.query))
    place = ranks.place  # queries are contiguous in both orders, so the places are the same
    value = np.where(place <= k, ranks.gain[by_gain] / np.log2(place + 1), 0.0)
    return np.asarray(np.bincount(ranks.query, weights=value, minlength=ranks.n_queries), dtype=np.float64)


def measures(ranks: RelevantRanks, k_values: Sequence[int] = K_VALUES) -> dict[str, float]:
    """Mean over queries of every measure of `per_query`, and ``accuracy``, mteb's other name for ``recall_at_1``.

    Without 1 among the cut-offs there is no ``accuracy``.
    """
    means = {name: float(scores.mean()) for name, scores in per_query(ranks, k_values).items()}
    return means | ({"accuracy": means["recall_at_1"]} if "recall_at_1" in means else {})
