"""Language bias of a ranking, from the ranks of parallel relevant passages.

In a multilingual pool every query has one relevant passage per language. A model without language bias places them
side by side; a biased one spreads them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.metrics import NOT_RETRIEVED, RelevantRanks

__all__ = ["bias_measures", "rank_distance"]


def rank_distance(ranks: RelevantRanks) -> NDArray[np.float64] | None:
    """Rank distance of every query: the largest minus the smallest rank of its relevant passages.

    The measure of arXiv 2408.10536, footnote 6. Not negative, in ranks; lower is better; at least R - 1 for R
    relevant passages.

    Returns:
        Array (n_queries,); None where it does not apply: a query has fewer than two relevant passages, or one was
        not retrieved, so that its rank is not known.
    """
    if (ranks.n_relevant < 2).any() or (ranks.rank == NOT_RETRIEVED).any():
        return None
    # Sorted by rank within a query: the first is the best, the last the worst.
    last = np.cumsum(ranks.n_relevant) - 1
    first = np.concatenate([[0], last[:-1] + 1])
    distance: NDArray[np.float64] = ranks.rank[last].astype(np.float64) - ranks.rank[first]
    return distance


def bias_measures(ranks: RelevantRanks) -> dict[str, float]:
    """The bias measures of a multilingual pool that apply, as flat numbers for an mteb result.

    Both the mean and the median of the rank distance: on real data a tenth of the queries carries most of the mean.
    """
    distance = rank_distance(ranks)
    if distance is None:
        return {}
    return {
        "bias_rank_distance": float(distance.mean()),
        "bias_rank_distance_median": float(np.median(distance)),
    }
