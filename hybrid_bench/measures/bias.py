"""Language bias of a ranking: how much it favours a language, from relevant ranks and the languages at the top.

In a multilingual pool every query of a parallel collection has one relevant passage per language. A model without
language bias places them side by side; a biased one spreads them, the query's own language or a frequent one first.
Other collections have no parallel judgments; for them there is the mix of languages at the top.

`MEASURES` declares every measure: formula, source, range, direction, where it does not apply, and what a random
ranking of the pool gives. The functions go over this list: `bias_measures` has the numbers of one subset (one query
language against one pool), `per_query_bias` those of its queries, `random_ranking` the row to compare them with, and
`absent` the reasons for what is not there. Nothing is needed but what the per-query table holds; `inputs_of` reads it.

In the formulas r_1 < ... < r_n are the ranks of the n relevant passages of a query in a pool of N, ln is the natural
logarithm and log2 that to base 2; p is a distribution over the pool's languages, and q the target: ``uniform``, the
same for every language of the pool, or ``prior``, the shares that the languages have in the pool. JS(p, q) is the
Jensen-Shannon divergence to base 2, KL(p|m)/2 + KL(q|m)/2 with m = (p + q)/2: from 0, equal, to 1, nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from math import comb, log, log2
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from hybrid_bench.measures.metrics import NOT_RETRIEVED, RelevantRanks, Scores

__all__ = [
    "MEASURES",
    "BiasMeasure",
    "Pool",
    "QueryScores",
    "absent",
    "bias_measures",
    "diagonal_gap",
    "higher_is_better",
    "inputs_of",
    "kendall_w",
    "language_matrix",
    "language_places",
    "measure_of",
    "per_query_bias",
    "queries_of",
    "random_ranking",
    "rank_distance",
]

Target = Literal["uniform", "prior"]

#: Depth of the attention-weighted measures: as many languages at the top are kept.
AWRF_DEPTH = 100
#: Random sets of ranks, and random tops, behind the two expectations that are not exact; seeded, see `_rng`. In pools
#: of 100 passages or more their standard errors are below .002 (``bias_log_rank_std``) and .0005 (``bias_awrf_*``).
RANK_DRAWS = 100_000
TOP_DRAWS = 20_000


@dataclass(frozen=True)
class Pool:
    """What a subset's queries were asked against, and what came first.

    Languages are positions in the collection's languages, of which there are L.

    Attributes:
        query_language: Language of the queries.
        passages: int64 (L,), passages of each language in the pool; 0 for a language that is not in it.
        top_languages: int8 (n_queries, k), language of the first k passages, best first; None if not known.
        depth: How many passages of each query were ranked; `size` unless a model searched less deep.
    """

    query_language: int
    passages: NDArray[np.int64]
    top_languages: NDArray[np.int8] | None
    depth: int

    @classmethod
    def of(
        cls,
        languages: Sequence[str],
        passages: Mapping[str, int],
        query_language: str,
        pool_languages: Iterable[str],
        *,
        top_languages: NDArray[np.int8] | None = None,
        depth: int | None = None,
    ) -> Pool:
        """The same from codes.

        Args:
            languages: Codes of the collection's languages.
            passages: Passages by language; other languages than the pool's may be in it.
            query_language: Code of the queries' language.
            pool_languages: Codes of the languages in the pool.
            top_languages: As the attribute.
            depth: As the attribute; None for all.
        """
        within = set(pool_languages)
        counts = np.array([passages[code] if code in within else 0 for code in languages], dtype=np.int64)
        size = int(counts.sum())
        return cls(languages.index(query_language), counts, top_languages, size if depth is None else min(depth, size))

    @property
    def size(self) -> int:
        """Passages in the pool."""
        return int(self.passages.sum())

    @property
    def languages(self) -> NDArray[np.int64]:
        """Languages that have passages in the pool, ascending."""
        return np.flatnonzero(self.passages).astype(np.int64)

    @property
    def counts(self) -> tuple[int, ...]:
        """Passages of each of `languages`."""
        return tuple(self.passages[self.languages].tolist())


class QueryScores(NamedTuple):
    """A measure of the queries that it applies to: all of them, but for ``bias_language_preference``.

    Attributes:
        query: int64 (m,), positions of these queries, ascending.
        value: float64 (m,), their values.
    """

    query: NDArray[np.int64]
    value: Scores


@dataclass(frozen=True)
class BiasMeasure:
    """A measure: what it means, and how it is computed.

    Attributes:
        key: Its name in mteb's result.
        formula: Per query, unless said otherwise.
        source: Where it comes from.
        lowest: No value is lower.
        highest: No value is higher.
        higher_is_better: Direction; None where neither is better: what a random ranking gives is free of bias.
        why_absent: Why it does not apply to a subset; None if it does.
        at_random: Its expected value under a random ranking of the pool.
        per_query: Values of the queries, whose mean it is; None for a measure that belongs to a subset as a whole.
        of_subset: That measure.
    """

    key: str
    formula: str
    source: str
    lowest: float
    highest: float
    higher_is_better: bool | None
    why_absent: Callable[[RelevantRanks, Pool], str | None]
    at_random: Callable[[RelevantRanks, Pool], float]
    per_query: Callable[[RelevantRanks, Pool], QueryScores] | None = None
    of_subset: Callable[[RelevantRanks, Pool], float] | None = None

    def value(self, ranks: RelevantRanks, pool: Pool) -> float:
        """The measure of a subset that it applies to."""
        if self.per_query is not None:
            return float(self.per_query(ranks, pool).value.mean())
        assert self.of_subset is not None
        return self.of_subset(ranks, pool)


# -- the measures of a subset ---------------------------------------------------------------------------------------


def bias_measures(ranks: RelevantRanks, pool: Pool) -> dict[str, float]:
    """The measures of one subset that apply, as flat numbers for an mteb result; `absent` says why others do not.

    Besides those of `MEASURES` there are, for each ``bias_js_at_10_*``, which is not 0 under a random ranking either,
    ``*_expected``, what it is then, and ``*_excess``, the measure less this.

    Args:
        ranks: The relevant ranks of the queries of one language in the pool.
        pool: The pool.
    """
    return _with_excess(ranks, pool, {m.key: m.value(ranks, pool) for m in _applicable(ranks, pool)})


def per_query_bias(ranks: RelevantRanks, pool: Pool) -> dict[str, QueryScores]:
    """Values of the queries by measure, for medians, intervals and tests; those that apply and are means over queries.

    Args:
        ranks: The relevant ranks of the queries of one language in the pool.
        pool: The pool.
    """
    return {m.key: m.per_query(ranks, pool) for m in _applicable(ranks, pool) if m.per_query is not None}


def random_ranking(ranks: RelevantRanks, pool: Pool) -> dict[str, float]:
    """What `bias_measures` is expected to be, key by key, if every order of the pool is equally likely.

    Exact, except ``bias_log_rank_std`` and ``bias_awrf_*``, which are Monte Carlo means with a fixed seed
    (`RANK_DRAWS`, `TOP_DRAWS`), and ``bias_rank_distance_median``, which is the median of the distribution, to which
    that of many queries tends.

    Args:
        ranks: Of these only the number and the languages of the relevant passages count.
        pool: The pool.
    """
    return _with_excess(ranks, pool, {m.key: m.at_random(ranks, pool) for m in _applicable(ranks, pool)})


def absent(ranks: RelevantRanks, pool: Pool) -> dict[str, str]:
    """Why a measure of `MEASURES` does not apply to a subset, in a few words, by key; without those that apply."""
    if ranks.n_queries == 0:
        return {measure.key: "there is no query" for measure in MEASURES}
    reasons = {measure.key: measure.why_absent(ranks, pool) for measure in MEASURES}
    return {key: reason for key, reason in reasons.items() if reason is not None}


def measure_of(key: str, ranks: RelevantRanks, pool: Pool) -> float | None:
    """One number of `bias_measures`, without computing the others; None if it is not there."""
    measure = _BY_KEY[key.removesuffix("_expected").removesuffix("_excess")]
    if ranks.n_queries == 0 or measure.why_absent(ranks, pool) is not None:
        return None
    if key.endswith("_expected"):
        return measure.at_random(ranks, pool)
    value = measure.value(ranks, pool)
    return value - measure.at_random(ranks, pool) if key.endswith("_excess") else value


def queries_of(key: str, ranks: RelevantRanks, pool: Pool) -> QueryScores | None:
    """One measure of `per_query_bias`, without computing the others; None if it is not there."""
    measure = _BY_KEY[key]
    if measure.per_query is None or ranks.n_queries == 0 or measure.why_absent(ranks, pool) is not None:
        return None
    return measure.per_query(ranks, pool)


def _applicable(ranks: RelevantRanks, pool: Pool) -> list[BiasMeasure]:
    missing = absent(ranks, pool)
    return [measure for measure in MEASURES if measure.key not in missing]


def _with_excess(ranks: RelevantRanks, pool: Pool, values: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in values.items():
        found[key] = value
        if key.startswith("bias_js_"):
            expected = _BY_KEY[key].at_random(ranks, pool)
            found |= {f"{key}_expected": expected, f"{key}_excess": value - expected}
    return found


# -- where measures do not apply ------------------------------------------------------------------------------------

_Why = Callable[[RelevantRanks, Pool], str | None]


def _first_of(*checks: _Why) -> _Why:
    """The first reason that one of these gives."""

    def why(ranks: RelevantRanks, pool: Pool) -> str | None:
        return next((reason for check in checks if (reason := check(ranks, pool)) is not None), None)

    return why


def _not_parallel(ranks: RelevantRanks, pool: Pool) -> str | None:
    del pool
    if (ranks.n_relevant < 2).any():
        return "a query has only one relevant passage in the pool"
    if not ranks.one_per_language:
        return "judgments are not parallel: a query has several relevant passages in one language"
    return None


def _truncated(ranks: RelevantRanks, pool: Pool) -> str | None:
    if not (ranks.rank == NOT_RETRIEVED).any():
        return None
    limit = f" among the first {pool.depth}" if pool.depth < pool.size else ""
    return f"a relevant passage was not retrieved{limit}, so its rank is not known"


def _not_complete(ranks: RelevantRanks, pool: Pool) -> str | None:
    if (ranks.n_relevant < len(pool.languages)).any():
        return "a query lacks a relevant passage in some language of the pool"
    return None


def _all_relevant(ranks: RelevantRanks, pool: Pool) -> str | None:
    return "every passage of the pool is relevant" if (ranks.n_relevant >= pool.size).any() else None


def _one_query(ranks: RelevantRanks, pool: Pool) -> str | None:
    del pool
    return "there is only one query, which agrees with itself" if ranks.n_queries < 2 else None


def _too_many_for(k: int) -> _Why:
    def why(ranks: RelevantRanks, pool: Pool) -> str | None:
        if (ranks.n_relevant > k).any():
            return f"a query has more than {k} relevant passages"
        return f"only the first {pool.depth} passages were ranked" if pool.depth < min(k, pool.size) else None

    return why


def _no_preference(ranks: RelevantRanks, pool: Pool) -> str | None:
    having = np.unique(ranks.query[ranks.language == pool.query_language])
    if len(having) == 0:
        return "no query has a relevant passage in its own language"
    if (ranks.rank[_first(ranks)[having]] == NOT_RETRIEVED).any():
        return "no relevant passage of a query was retrieved"
    return None


def _no_top(least: Callable[[int], int]) -> _Why:
    """For a measure of the first passages; `least` says how many of them it takes, given the size of the pool."""

    def why(ranks: RelevantRanks, pool: Pool) -> str | None:
        del ranks
        if len(pool.languages) < 2:
            return "the pool has only one language"
        if pool.top_languages is None:
            return "the languages of the first passages are not known"
        known, wanted = pool.top_languages.shape[1], least(pool.size)
        return f"the languages of the first {known} passages only are known, not {wanted}" if known < wanted else None

    return why


# -- ranks of parallel passages -------------------------------------------------------------------------------------


def rank_distance(ranks: RelevantRanks) -> Scores | None:
    """Rank distance of every query: the largest minus the smallest rank of its relevant passages.

    The measure of arXiv 2408.10536, footnote 6. Not negative, in ranks; lower is better; at least R - 1 for R
    relevant passages.

    Returns:
        Array (n_queries,); None where it does not apply: a query has fewer than two relevant passages, or one was
        not retrieved, so that its rank is not known.
    """
    if (ranks.n_relevant < 2).any() or (ranks.rank == NOT_RETRIEVED).any():
        return None
    best, worst = _best_and_worst(ranks)
    return worst - best


def language_places(ranks: RelevantRanks) -> NDArray[np.int64]:
    """Place of each language among the relevant passages of each query, from 1; for queries that have all languages.

    Returns:
        Array (n_queries, n languages): the input of `kendall_w`.

    Raises:
        ValueError: If not every query has one relevant passage in each of the same languages.
    """
    languages = np.unique(ranks.language)
    order = np.lexsort((ranks.language, ranks.query))
    complete = len(order) == ranks.n_queries * len(languages)
    if not complete or (ranks.language[order].reshape(ranks.n_queries, -1) != languages).any():
        raise ValueError("every query must have one relevant passage in each of the same languages")
    return ranks.place[order].reshape(ranks.n_queries, -1)


def kendall_w(places: NDArray[np.int64]) -> float:
    """Kendall's coefficient of concordance (Kendall and Babington Smith, 1939): do queries agree on languages' order?

    W = 12 S / (m^2 (n^3 - n)) for m queries and n languages, with S the sum of squared deviations of the languages'
    sums of places from their mean. From 0 to 1, where all queries place the languages in the same order; lower is
    better; 1/m under random rankings. Only for the queries of one language: put together, a model that places each
    query's own language first has no common order at all.

    Args:
        places: Array (m, n): each row holds 1 ... n, see `language_places`.
    """
    m, n = places.shape
    sums = places.sum(axis=0, dtype=np.float64)
    return float(12 * np.square(sums - m * (n + 1) / 2).sum() / (m**2 * (n**3 - n)))


def _last(ranks: RelevantRanks) -> NDArray[np.int64]:
    """Row of each query's worst relevant passage: rows are sorted by rank within a query."""
    return np.cumsum(ranks.n_relevant) - 1


def _first(ranks: RelevantRanks) -> NDArray[np.int64]:
    """Row of each query's best relevant passage."""
    n_relevant = ranks.n_relevant
    return np.cumsum(n_relevant) - n_relevant


def _best_and_worst(ranks: RelevantRanks) -> tuple[Scores, Scores]:
    rank = ranks.rank.astype(np.float64)
    return rank[_first(ranks)], rank[_last(ranks)]


def _all_queries(ranks: RelevantRanks, value: NDArray[Any]) -> QueryScores:
    return QueryScores(np.arange(ranks.n_queries), value.astype(np.float64))


def _distances(ranks: RelevantRanks, pool: Pool) -> QueryScores:
    del pool
    best, worst = _best_and_worst(ranks)
    return _all_queries(ranks, worst - best)


def _distances_norm(ranks: RelevantRanks, pool: Pool) -> QueryScores:
    expected = _per_n(ranks, lambda n: _expected_distance(n, pool.size))
    return _all_queries(ranks, _distances(ranks, pool).value / expected)


def _variances(ranks: RelevantRanks, pool: Pool) -> QueryScores:
    del pool
    return _all_queries(ranks, _variance_of(ranks, ranks.rank.astype(np.float64)))


def _log_rank_stds(ranks: RelevantRanks, pool: Pool) -> QueryScores:
    del pool
    return _all_queries(ranks, np.sqrt(_variance_of(ranks, np.log(ranks.rank))))


def _variance_of(ranks: RelevantRanks, value: Scores) -> Scores:
    """Population variance over the relevant passages of each query."""
    n, n_relevant = ranks.n_queries, ranks.n_relevant
    mean = np.bincount(ranks.query, weights=value, minlength=n) / n_relevant
    square = np.square(value - mean[ranks.query])
    return np.asarray(np.bincount(ranks.query, weights=square, minlength=n) / n_relevant, dtype=np.float64)


def _max_rank_norms(ranks: RelevantRanks, pool: Pool) -> QueryScores:
    best_possible = np.log2(ranks.n_relevant)
    worst_possible = np.log2(pool.size)
    found = np.log2(_best_and_worst(ranks)[1])
    return _all_queries(ranks, 100 * (worst_possible - found) / (worst_possible - best_possible))


def _completes(k: int) -> Callable[[RelevantRanks, Pool], QueryScores]:
    def score(ranks: RelevantRanks, pool: Pool) -> QueryScores:
        del pool
        return _all_queries(ranks, ranks.rank[_last(ranks)] <= k)

    return score


def _preferences(ranks: RelevantRanks, pool: Pool) -> QueryScores:
    return _placed_first(ranks, pool.query_language)


def _placed_first(ranks: RelevantRanks, language: int) -> QueryScores:
    """Whether this language has the best-placed relevant passage, for the queries that have one in it."""
    having = np.unique(ranks.query[ranks.language == language]).astype(np.int64)
    best = ranks.language[_first(ranks)[having]]
    return QueryScores(having, (best == language).astype(np.float64))


# -- languages at the top -------------------------------------------------------------------------------------------


def _target(counts: tuple[int, ...], kind: Target) -> Scores:
    """Target shares of languages that have so many passages in the pool."""
    shares: Scores = np.array(counts if kind == "prior" else [1] * len(counts), dtype=np.float64)
    shares /= shares.sum()
    return shares


def _js(p: Scores, q: Scores) -> Scores:
    """Jensen-Shannon divergence to base 2 over the last axis; p and q sum to 1 there."""
    middle = (p + q) / 2
    return np.asarray((rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / (2 * log(2)), dtype=np.float64)


def _shares(pool: Pool, weights: Scores) -> Scores:
    """Share of each of the pool's languages in the first passages, (n_queries, n languages); `weights` by rank."""
    assert pool.top_languages is not None
    top = pool.top_languages[:, : len(weights)]
    shares: Scores = np.stack([(top == language) @ weights for language in pool.languages], axis=1)
    shares /= weights.sum()
    return shares


def _awrf_weights(pool_size: int) -> Scores:
    """Attention that each of the first ranks gets: 1 / log2(max(r, 2))."""
    ranks = np.arange(1, min(AWRF_DEPTH, pool_size) + 1)
    weights: Scores = 1 / np.log2(np.maximum(ranks, 2))
    return weights


def _js_at_10(kind: Target) -> Callable[[RelevantRanks, Pool], QueryScores]:
    def score(ranks: RelevantRanks, pool: Pool) -> QueryScores:
        return _all_queries(ranks, _js(_shares(pool, np.ones(10)), _target(pool.counts, kind)))

    return score


def _awrf(kind: Target) -> Callable[[RelevantRanks, Pool], QueryScores]:
    def score(ranks: RelevantRanks, pool: Pool) -> QueryScores:
        return _all_queries(ranks, 1 - _js(_shares(pool, _awrf_weights(pool.size)), _target(pool.counts, kind)))

    return score


def _top1(*, relevant: bool, own: bool) -> Callable[[RelevantRanks, Pool], QueryScores]:
    def score(ranks: RelevantRanks, pool: Pool) -> QueryScores:
        assert pool.top_languages is not None
        is_relevant = ranks.rank[_first(ranks)] == 1
        is_own = pool.top_languages[:, 0] == pool.query_language
        return _all_queries(ranks, (is_relevant == relevant) & (is_own == own))

    return score


# -- under random rankings ------------------------------------------------------------------------------------------


def _per_n(ranks: RelevantRanks, value: Callable[[int], float]) -> Scores:
    """A value of every query that depends on its number of relevant passages only."""
    distinct, place = np.unique(ranks.n_relevant, return_inverse=True)
    return np.array([value(n) for n in distinct.tolist()], dtype=np.float64)[place]


def _mean_per_n(value: Callable[[int, int], float]) -> Callable[[RelevantRanks, Pool], float]:
    """The mean over queries of a value that depends on n and N only."""
    return lambda ranks, pool: float(_per_n(ranks, lambda n: value(n, pool.size)).mean())


def _expected_distance(n: int, size: int) -> float:
    return (size + 1) * (n - 1) / (n + 1)


def _expected_variance(n: int, size: int) -> float:
    return (n - 1) / n * size * (size + 1) / 12


def _expected_complete(k: int) -> Callable[[int, int], float]:
    return lambda n, size: comb(min(k, size), n) / comb(size, n)


def _median_distance(ranks: RelevantRanks, pool: Pool) -> float:
    """Median of max r - min r over random sets of ranks, mixed over the queries' n.

    P(max r - min r <= d) = ((N - d) C(d, n-1) + C(d, n)) / C(N, n): the sets by their smallest rank, which leaves d
    places for the others, or fewer at the end of the pool.
    """
    size = pool.size
    distinct, counts = np.unique(ranks.n_relevant, return_counts=True)
    groups = list(zip(distinct.tolist(), counts.tolist(), strict=True))

    def share(d: int) -> Fraction:
        within = (count * Fraction((size - d) * comb(d, n - 1) + comb(d, n), comb(size, n)) for n, count in groups)
        return sum(within, Fraction(0)) / ranks.n_queries

    low, high = 0, size - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if share(middle) >= Fraction(1, 2) else (middle + 1, high)
    # Exactly half: every number up to the next one that occurs is a median; take the middle, as of an even sample.
    if share(low) > Fraction(1, 2):
        return float(low)
    upper = next(d for d in range(low + 1, size) if share(d) > share(low))
    return (low + upper) / 2


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng([20_408, *key])


@lru_cache(maxsize=256)
def _expected_log_rank_std(n: int, size: int) -> float:
    """Mean over random sets, drawn by Floyd's method: the i-th of n takes any of 1 ... N-n+i, or N-n+i if taken."""
    rng = _rng(n, size)
    chosen = np.empty((RANK_DRAWS, n), dtype=np.int64)
    for place, last in enumerate(range(size - n + 1, size + 1)):
        drawn = rng.integers(1, last, RANK_DRAWS, endpoint=True)
        taken = (chosen[:, :place] == drawn[:, None]).any(axis=1)
        chosen[:, place] = np.where(taken, last, drawn)
    return float(np.log(chosen).std(axis=1).mean())


@lru_cache(maxsize=256)
def _expected_max_rank_norm(n: int, size: int) -> float:
    """From P(max r = k) = C(k-1, n-1) / C(N, n), by the ratio (k-n) / (k-1) of neighbours, downwards from n / N."""
    k = np.arange(size, n, -1)
    probability = np.cumprod(np.concatenate([[n / size], (k - n) / (k - 1)]))
    expected = float(probability @ np.log2(np.arange(size, n - 1, -1)))
    return 100 * (log2(size) - expected) / (log2(size) - log2(n))


def _random_preference(ranks: RelevantRanks, pool: Pool) -> float:
    having = _preferences(ranks, pool).query
    return float((1 / ranks.n_relevant[having]).mean())


def _random_js_at_10(kind: Target) -> Callable[[RelevantRanks, Pool], float]:
    return lambda ranks, pool: _expected_js(pool.counts, kind)


@lru_cache(maxsize=256)
def _expected_js(within: tuple[int, ...], kind: Target) -> float:
    """Sum over languages, since the divergence is one; a language's number in the first 10 is hypergeometric."""
    size = sum(within)
    target = _target(within, kind)
    found = np.arange(11)
    expected = 0.0
    for count, q in zip(within, target.tolist(), strict=True):
        probability = np.array([comb(count, x) * comb(size - count, 10 - x) / comb(size, 10) for x in found.tolist()])
        p = found / 10
        term = (rel_entr(p, (p + q) / 2) + rel_entr(q, (p + q) / 2)) / (2 * log(2))
        expected += float(probability @ term)
    return expected


def _random_awrf(kind: Target) -> Callable[[RelevantRanks, Pool], float]:
    return lambda ranks, pool: _expected_awrf(pool.counts)[kind]


@lru_cache(maxsize=256)
def _expected_awrf(within: tuple[int, ...]) -> Mapping[Target, float]:
    """Means over random tops: how many passages of each language, then in which order."""
    size, n = sum(within), len(within)
    weights = _awrf_weights(size)
    rng = _rng(*within)
    counts = rng.multivariate_hypergeometric(within, len(weights), TOP_DRAWS, method="marginals")
    tops = np.repeat(np.tile(np.arange(n), TOP_DRAWS), counts.ravel()).reshape(TOP_DRAWS, -1)
    tops = rng.permuted(tops, axis=1)
    shares = np.stack([(tops == language) @ weights for language in range(n)], axis=1) / weights.sum()
    kinds: tuple[Target, ...] = ("uniform", "prior")
    return {kind: float(1 - _js(shares, _target(within, kind)).mean()) for kind in kinds}


def _random_top1(*, relevant: bool, own: bool) -> Callable[[RelevantRanks, Pool], float]:
    """The share of such passages in the pool, averaged over queries."""

    def expected(ranks: RelevantRanks, pool: Pool) -> float:
        chosen = (ranks.language == pool.query_language) == own
        number_relevant = int(chosen.sum()) / ranks.n_queries
        number = int(pool.passages[pool.query_language]) if own else pool.size - int(pool.passages[pool.query_language])
        return (number_relevant if relevant else number - number_relevant) / pool.size

    return expected


# -- declarations ---------------------------------------------------------------------------------------------------

_PARALLEL_RANKS = _first_of(_not_parallel, _truncated)
_PAPER = "arXiv 2408.10536, footnote 6"
_OF_ALL_LANGUAGES = "arXiv 2604.05684"
_MLAIRE = "after arXiv 2605.07249"
_FAIRNESS = "arXiv 1901.10437, with the divergence of the TREC Fair Ranking tracks, but to base 2"
_INFINITE = float("inf")


def _complete_at(k: int) -> BiasMeasure:
    return BiasMeasure(
        key=f"bias_complete_at_{k}",
        formula=f"1 if max r <= {k}, else 0; for n <= {k}",
        source=_OF_ALL_LANGUAGES,
        lowest=0,
        highest=1,
        higher_is_better=True,
        why_absent=_first_of(_not_parallel, _too_many_for(k)),
        at_random=_mean_per_n(_expected_complete(k)),
        per_query=_completes(k),
    )


def _js_at_10_from(target: Target) -> BiasMeasure:
    return BiasMeasure(
        key=f"bias_js_at_10_{target}",
        formula=f"JS(p, {target}), p the shares of the languages among the first 10 passages",
        source="Lin, Divergence measures based on the Shannon entropy, 1991",
        lowest=0,
        highest=1,
        higher_is_better=False,
        why_absent=_no_top(lambda size: 10),
        at_random=_random_js_at_10(target),
        per_query=_js_at_10(target),
    )


def _awrf_from(target: Target) -> BiasMeasure:
    return BiasMeasure(
        key=f"bias_awrf_{target}",
        formula=(
            f"1 - JS(p, {target}), p the languages' shares of the sum of 1/log2(max(r, 2)) over the first {AWRF_DEPTH} "
            "passages, or all of a smaller pool"
        ),
        source=_FAIRNESS,
        lowest=0,
        highest=1,
        higher_is_better=True,
        why_absent=_no_top(lambda size: min(AWRF_DEPTH, size)),
        at_random=_random_awrf(target),
        per_query=_awrf(target),
    )


def _top1_split(*, relevant: bool, own: bool) -> BiasMeasure:
    passage = "relevant" if relevant else "not relevant"
    language = "in the query's language" if own else "in another language"
    return BiasMeasure(
        key=f"bias_top1_{'relevant' if relevant else 'irrelevant'}_{'own' if own else 'other'}",
        formula=f"1 if the first passage is {passage} and {language}, else 0",
        source=_MLAIRE,
        lowest=0,
        highest=1,
        higher_is_better=None,
        why_absent=_no_top(lambda size: 1),
        at_random=_random_top1(relevant=relevant, own=own),
        per_query=_top1(relevant=relevant, own=own),
    )


#: All of them, in the order in which they are shown.
MEASURES: tuple[BiasMeasure, ...] = (
    BiasMeasure(
        key="bias_rank_distance",
        formula="max r - min r",
        source=_PAPER,
        lowest=1,
        highest=_INFINITE,
        higher_is_better=False,
        why_absent=_PARALLEL_RANKS,
        at_random=_mean_per_n(_expected_distance),
        per_query=_distances,
    ),
    BiasMeasure(
        key="bias_rank_distance_median",
        formula="median over queries of max r - min r: a few queries carry most of the mean",
        source=_PAPER,
        lowest=1,
        highest=_INFINITE,
        higher_is_better=False,
        why_absent=_PARALLEL_RANKS,
        at_random=_median_distance,
        of_subset=lambda ranks, pool: float(np.median(_distances(ranks, pool).value)),
    ),
    BiasMeasure(
        key="bias_rank_distance_norm",
        formula="(max r - min r) / ((N+1)(n-1)/(n+1)), the distance over what it is expected to be at random",
        source=_PAPER,
        lowest=0,
        highest=3,  # (N-1)/(N+1) * (n+1)/(n-1), and n is 2 at least
        higher_is_better=False,
        why_absent=_PARALLEL_RANKS,
        at_random=lambda ranks, pool: 1.0,
        per_query=_distances_norm,
    ),
    BiasMeasure(
        key="bias_rank_variance",
        formula="population variance of r: sum (r - mean r)^2 / n",
        source="the textbook",
        lowest=0.25,
        highest=_INFINITE,
        higher_is_better=False,
        why_absent=_PARALLEL_RANKS,
        at_random=_mean_per_n(_expected_variance),
        per_query=_variances,
    ),
    BiasMeasure(
        key="bias_log_rank_std",
        formula=(
            "population standard deviation of ln r: sqrt(sum (ln r - mean ln r)^2 / n), which the tail does not rule; "
            "not 0 for ranks 1 to n (.69 for 11), and less for neighbours further down"
        ),
        source="the textbook",
        lowest=0,
        highest=_INFINITE,
        higher_is_better=False,
        why_absent=_PARALLEL_RANKS,
        at_random=_mean_per_n(_expected_log_rank_std),
        per_query=_log_rank_stds,
    ),
    BiasMeasure(
        key="bias_max_rank_norm",
        formula="100 (log2 N - log2 max r) / (log2 N - log2 n)",
        source=_OF_ALL_LANGUAGES,
        lowest=0,
        highest=100,
        higher_is_better=True,
        why_absent=_first_of(_PARALLEL_RANKS, _all_relevant),
        at_random=_mean_per_n(_expected_max_rank_norm),
        per_query=_max_rank_norms,
    ),
    _complete_at(20),
    _complete_at(100),
    BiasMeasure(
        key="bias_language_preference",
        formula="1 if the passage at min r is in the query's language, else 0; of the queries that have one in it",
        source=_MLAIRE,
        lowest=0,
        highest=1,
        higher_is_better=None,
        why_absent=_first_of(_not_parallel, _no_preference),
        at_random=_random_preference,
        per_query=_preferences,
    ),
    BiasMeasure(
        key="bias_kendall_w",
        formula="12 S / (m^2 (n^3 - n)) over the m queries, see `kendall_w`; if all have every language of the pool",
        source="Kendall and Babington Smith, The problem of m rankings, 1939",
        lowest=0,
        highest=1,
        higher_is_better=False,
        why_absent=_first_of(_not_parallel, _truncated, _not_complete, _one_query),
        at_random=lambda ranks, pool: 1 / ranks.n_queries,
        of_subset=lambda ranks, pool: kendall_w(language_places(ranks)),
    ),
    _js_at_10_from("uniform"),
    _js_at_10_from("prior"),
    _awrf_from("uniform"),
    _awrf_from("prior"),
    _top1_split(relevant=True, own=True),
    _top1_split(relevant=True, own=False),
    _top1_split(relevant=False, own=True),
    _top1_split(relevant=False, own=False),
)
_BY_KEY = {measure.key: measure for measure in MEASURES}


def higher_is_better(metric: str) -> bool | None:
    """The direction of a metric as a training names it, e.g. ``eval_XQuAD-R_bias_rank_distance``.

    Args:
        metric: A measure's key, with anything before it. No key is the end of another.

    Returns:
        Whether more of it is better, which holds of all that are no measures of bias, but for a loss; None where
        neither is better.
    """
    found = next((measure for key, measure in _BY_KEY.items() if metric == key or metric.endswith(f"_{key}")), None)
    return not metric.endswith("loss") if found is None else found.higher_is_better


# -- query language by answer language ------------------------------------------------------------------------------

Cell = Literal["preference", "preference_at_random", "reciprocal_rank", "top_10"]


def language_matrix(
    subsets: Iterable[tuple[RelevantRanks, Pool]], languages: Sequence[str], cell: Cell = "preference"
) -> dict[tuple[str, str], float]:
    """The heat map of query language by answer language.

    Args:
        subsets: Ranks and pool of each query language.
        languages: Codes of the collection's languages.
        cell: What a cell holds, from 0 to 1:

            - ``preference``: share of the queries whose best-placed relevant passage is in the answer language, of
              those that have one in it. The diagonal is ``bias_language_preference``; it needs parallel judgments.
            - ``preference_at_random``: the same under a random ranking: mean of 1/n over these queries. Not the same
              in every cell where queries lack languages, so that the diagonal gap is not 0 there either.
            - ``reciprocal_rank``: mean of 1/r of the best relevant passage in the answer language, over the queries
              that have one in it; 0 if it was not retrieved.
            - ``top_10``: mean share of the answer language in the first 10 passages; it needs no judgments.

    Returns:
        Values by (query language, answer language). What does not apply is not there.
    """
    row = {
        "preference": _preference_row,
        "preference_at_random": _preference_at_random_row,
        "reciprocal_rank": _reciprocal_rank_row,
        "top_10": _top_10_row,
    }[cell]
    return {
        (languages[pool.query_language], languages[language]): value
        for ranks, pool in subsets
        if ranks.n_queries > 0
        for language, value in row(ranks, pool).items()
    }


def diagonal_gap(matrix: Mapping[tuple[str, str], float]) -> float | None:
    """How far a query's own language is ahead in a `language_matrix`: the diagonal less the mean of the row's others.

    The mean of this over query languages, from -1 to 1; no preference for the own language is 0 where every query has
    all languages, and elsewhere what it is of ``preference_at_random``.

    Returns:
        None if no row has both the diagonal and another cell.
    """
    gaps = []
    for query_language, own in ((query, value) for (query, answer), value in matrix.items() if query == answer):
        others = [value for (query, answer), value in matrix.items() if query == query_language != answer]
        if others:
            gaps.append(own - float(np.mean(others)))
    return float(np.mean(gaps)) if gaps else None


def _preference_row(ranks: RelevantRanks, pool: Pool) -> dict[int, float]:
    if _not_parallel(ranks, pool) is not None or (ranks.rank[_first(ranks)] == NOT_RETRIEVED).any():
        return {}
    return {
        language: float(_placed_first(ranks, language).value.mean()) for language in np.unique(ranks.language).tolist()
    }


def _preference_at_random_row(ranks: RelevantRanks, pool: Pool) -> dict[int, float]:
    shares = 1 / ranks.n_relevant
    return {
        language: float(shares[_placed_first(ranks, language).query].mean())
        for language in _preference_row(ranks, pool)
    }


def _reciprocal_rank_row(ranks: RelevantRanks, pool: Pool) -> dict[int, float]:
    del pool
    row = {}
    for language in np.unique(ranks.language).tolist():
        within = ranks.language == language
        # rows are sorted by rank within a query, and the first one of each is taken
        _, best = np.unique(ranks.query[within], return_index=True)
        rank = ranks.rank[within][best]
        row[language] = float(np.where(rank == NOT_RETRIEVED, 0.0, 1 / rank).mean())
    return row


def _top_10_row(ranks: RelevantRanks, pool: Pool) -> dict[int, float]:
    if _BY_KEY["bias_js_at_10_prior"].why_absent(ranks, pool) is not None:
        return {}
    return dict(zip(pool.languages.tolist(), _shares(pool, np.ones(10)).mean(axis=0).tolist(), strict=True))


# -- from the per-query table ---------------------------------------------------------------------------------------


class Rows(Protocol):
    """Columns by name: a pandas frame, a pyarrow table, or a mapping of lists."""

    def __getitem__(self, column: str, /) -> Any: ...


def inputs_of(rows: Rows, metadata: Mapping[str, Any]) -> tuple[RelevantRanks, Pool]:
    """Ranks and pool of one subset, from its rows of the per-query table.

    Args:
        rows: The rows of one subset, as `tables.query_table` makes them: a frame or table with the columns
            ``subset, query_language, pool_languages, pool_size, ranks, rank_languages, gains, top_languages``.
        metadata: The table's, of which ``languages``, ``passages`` and ``depth`` are read.

    Returns:
        What `bias_measures` and the other functions take, queries counted as in `rows`.

    Raises:
        ValueError: If the rows are of no subset or of several, or their pool is not the one in the metadata.
    """
    subsets = sorted(set(_values(rows, "subset")))
    if len(subsets) != 1:
        raise ValueError(f"rows of one subset are wanted, not of {len(subsets)} ({', '.join(subsets[:5])})")
    languages: list[str] = list(metadata["languages"])
    position = {code: place for place, code in enumerate(languages)}
    ranks = [np.asarray(row, dtype=np.int32) for row in _values(rows, "ranks")]
    relevant = RelevantRanks.sort(
        n_queries=len(ranks),
        query=np.repeat(np.arange(len(ranks), dtype=np.int32), [len(row) for row in ranks]),
        rank=np.concatenate(ranks),
        gain=np.concatenate([np.asarray(row, dtype=np.int32) for row in _values(rows, "gains")]),
        language=np.array([position[code] for code in chain(*_values(rows, "rank_languages"))], dtype=np.int16),
    )
    tops = list(_values(rows, "top_languages"))
    depth = metadata.get("depth", "full")
    pool = Pool.of(
        languages,
        metadata["passages"],
        next(iter(_values(rows, "query_language"))),
        next(iter(_values(rows, "pool_languages"))),
        top_languages=None if any(top is None for top in tops) else np.array(tops, dtype=np.int8),
        depth=None if depth == "full" else int(depth),
    )
    sizes = {int(size) for size in _values(rows, "pool_size")}
    if sizes != {pool.size}:
        raise ValueError(
            f"subset {subsets[0]}: the rows are of a pool of {min(sizes)} passages, but by the table's metadata its "
            f"languages have {pool.size}"
        )
    return relevant, pool


def _values(rows: Rows, column: str) -> Iterable[Any]:
    """A column, with numpy arrays or lists where it holds lists; pyarrow's own scalars would be slow."""
    values = rows[column]
    found: Iterable[Any] = values.to_numpy() if hasattr(values, "to_numpy") else values
    return found
