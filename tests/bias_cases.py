"""Rankings to measure, and language bias by its definition: query by query, passage by passage, in plain Python."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hybrid_bench.measures.bias import Pool
from hybrid_bench.measures.metrics import NOT_RETRIEVED, RelevantRanks

__all__ = ["Asked", "Case", "arranged", "by_definition", "expected_over_sets", "js", "random_case", "table_of"]


@dataclass(frozen=True)
class Asked:
    """One query: rank and language of its relevant passages, and the language of each known passage, in order."""

    relevant: Sequence[tuple[int, int]]
    top: Sequence[int]


@dataclass(frozen=True)
class Case:
    """The queries of one language in a pool with so many passages of each language."""

    queries: Sequence[Asked]
    passages: Sequence[int]
    query_language: int = 0
    depth: int | None = None
    known: bool = True

    def inputs(self) -> tuple[RelevantRanks, Pool]:
        """As the package takes it; relevant passages in no order, and the first 100 languages."""
        rows = [(n, rank, language) for n, query in enumerate(self.queries) for rank, language in query.relevant]
        np.random.default_rng(0).shuffle(rows)
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        table = table[np.argsort(table[:, 0], kind="stable")]
        query, rank, language = table.T
        ranks = RelevantRanks.sort(
            len(self.queries),
            query.astype(np.int32),
            rank.astype(np.int32),
            np.ones(len(table), dtype=np.int32),
            language.astype(np.int16),
        )
        passages = np.array(self.passages, dtype=np.int64)
        top = np.array([query.top[:100] for query in self.queries], dtype=np.int8) if self.known else None
        size = int(passages.sum())
        return ranks, Pool(self.query_language, passages, top, size if self.depth is None else self.depth)


def arranged(order: Sequence[int], relevant: Iterable[int]) -> Asked:
    """A query from the language of every passage, best first, and the ranks of the relevant ones."""
    return Asked([(rank, order[rank - 1]) for rank in relevant], order)


def random_case(
    seed: int,
    passages: Sequence[int],
    n_queries: int,
    n_relevant: Callable[[int], int] | None = None,
    *,
    query_language: int = 0,
    favour: float = 0.0,
) -> Case:
    """Rankings of a pool by random scores, those of the query's language higher by `favour`.

    Every query has one relevant passage in each of `n_relevant(number)` languages (all, by default), its own included.
    """
    rng = np.random.default_rng(seed)
    within = np.flatnonzero(passages)
    language = np.repeat(np.arange(len(passages)), passages)
    start = np.cumsum([0, *passages])
    queries = []
    for number in range(n_queries):
        n = len(within) if n_relevant is None else n_relevant(number)
        others = rng.permutation(within[within != query_language])[: n - 1]
        chosen = [start[code] + rng.integers(passages[code]) for code in (query_language, *others)]
        scores = rng.random(len(language)) + favour * (language == query_language)
        order = np.argsort(-scores)
        place = np.argsort(order)
        queries.append(arranged(language[order].tolist(), (place[chosen] + 1).tolist()))
    return Case(queries, passages, query_language)


def js(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon divergence to base 2, as entropy of the mean less the mean of the entropies."""

    def entropy(distribution: Iterable[float]) -> float:
        return math.fsum(-x * math.log2(x) for x in distribution if x > 0)

    return entropy((a + b) / 2 for a, b in zip(p, q, strict=True)) - (entropy(p) + entropy(q)) / 2


def by_definition(case: Case) -> dict[str, float]:
    """Every measure of a subset that they all apply to, or some: those that cannot be computed are left out."""
    n_pool = sum(case.passages)
    within = [language for language, count in enumerate(case.passages) if count > 0]
    targets = {
        "uniform": [1 / len(within) for _ in within],
        "prior": [case.passages[language] / n_pool for language in within],
    }
    values: dict[str, list[float]] = {}

    def add(key: str, value: float) -> None:
        values.setdefault(f"bias_{key}", []).append(value)

    orders = []
    for query in case.queries:
        ranks = [rank for rank, _ in query.relevant]
        n, best, worst = len(ranks), min(ranks), max(ranks)
        add("complete_at_20", float(worst <= 20))
        add("complete_at_100", float(worst <= 100))
        if worst < NOT_RETRIEVED and n > 1:
            add("rank_distance", worst - best)
            add("rank_distance_norm", (worst - best) / ((n_pool + 1) * (n - 1) / (n + 1)))
            add("rank_variance", statistics.pvariance(ranks))
            add("log_rank_std", statistics.pstdev([math.log(rank) for rank in ranks]))
            if n < n_pool:
                add("max_rank_norm", 100 * math.log2(n_pool / worst) / math.log2(n_pool / n))
        if case.query_language in [language for _, language in query.relevant]:
            add("language_preference", float(min(query.relevant)[1] == case.query_language))
        orders.append([language for _, language in sorted(query.relevant)])
        if not case.known:
            continue
        first_10 = [query.top[:10].count(language) / 10 for language in within]
        weights = [1 / math.log2(max(rank, 2)) for rank in range(1, min(100, n_pool) + 1)]
        exposure = [
            math.fsum(weight for weight, found in zip(weights, query.top, strict=False) if found == language)
            / math.fsum(weights)
            for language in within
        ]
        for kind, target in targets.items():
            add(f"js_at_10_{kind}", js(first_10, target))
            add(f"awrf_{kind}", 1 - js(exposure, target))
        for relevant in (True, False):
            for own in (True, False):
                hit = (best == 1) == relevant and (query.top[0] == case.query_language) == own
                add(f"top1_{'relevant' if relevant else 'irrelevant'}_{'own' if own else 'other'}", float(hit))
    found = {key: math.fsum(of_queries) / len(of_queries) for key, of_queries in values.items()}
    if "bias_rank_distance" in values:
        found["bias_rank_distance_median"] = statistics.median(values["bias_rank_distance"])
    if all(sorted(order) == within for order in orders) and len(orders) > 1 and len(within) > 1:
        found["bias_kendall_w"] = _kendall_w(orders)
    return found


def _kendall_w(orders: Sequence[Sequence[int]]) -> float:
    """From Spearman's correlations: W = (1 + (m - 1) mean rho) / m over all pairs of queries."""
    m, n = len(orders), len(orders[0])
    correlations = [
        1 - 6 * sum((a.index(language) - b.index(language)) ** 2 for language in a) / (n**3 - n)
        for a, b in combinations(orders, 2)
    ]
    return (1 + (m - 1) * math.fsum(correlations) / len(correlations)) / m


def expected_over_sets(n: int, size: int, value: Callable[[tuple[int, ...]], float]) -> float:
    """Mean of a value over all sets of n ranks in a pool."""
    values = [value(ranks) for ranks in combinations(range(1, size + 1), n)]
    return math.fsum(values) / len(values)


def table_of(case: Case, codes: Sequence[str], subset: str = "x") -> dict[str, list[Any]]:
    """The columns of the per-query table that `inputs_of` reads, written by hand."""
    n = len(case.queries)
    relevant = [sorted(query.relevant) for query in case.queries]
    within = [code for code, count in zip(codes, case.passages, strict=True) if count]
    return {
        "subset": [subset] * n,
        "query_language": [codes[case.query_language]] * n,
        "pool_languages": [within] * n,
        "pool_size": [sum(case.passages)] * n,
        "ranks": [[rank for rank, _ in of_query] for of_query in relevant],
        "rank_languages": [[codes[language] for _, language in of_query] for of_query in relevant],
        "gains": [[1] * len(of_query) for of_query in relevant],
        "top_languages": [query.top[:100] if case.known else None for query in case.queries],
    }
