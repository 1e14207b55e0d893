"""Whether one run really scores higher than another: differences, intervals and p-values that respect clusters.

The unit is the *cell*: the score of one question in one setting. The same question is asked in every language, and
questions about one article share their passages, so cells are not independent; clusters of them are. Everything here
resamples or sums over whole clusters. Notation, for runs A and B:

- d_qp = score of A - score of B, question q, setting p. Positive: A scores higher; whether that is good is the
  measure's affair (for a language bias it is not).
- Delta_p = mean of d_qp over the n_p cells of setting p. Delta = mean of Delta_p over the P settings. Settings may hold
  different questions: each of them counts 1/P, however many it has.
- share of cluster c: x_c = (1/P) sum over its cells of d_qp / n_p, so that Delta = sum_c x_c.
- influence of cluster c: psi_c = (1/P) sum over its cells of (d_qp - Delta_p) / n_p, so that 0 = sum_c psi_c.

All tests are two-sided, and no p-value is ever 0. Random draws come from a generator of their own, made from ``seed``;
the order of the clusters is that of their first cell, so their names do not matter. Pairing questions by id, and
choosing what a cluster is, is done by whoever calls.

Sources: Smucker, Allan & Carterette (CIKM 2007) for the randomisation test in retrieval; Phipson & Smyth (2010,
doi:10.2202/1544-6115.1585) for (c + 1) / (B + 1); Davison & Hinkley (1997, section 3.8) for resampling clusters;
Cameron & Miller (2015, doi:10.3368/jhr.50.2.317) for the clustered standard error with G - 1 degrees of freedom.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hybrid_bench.errors import RequestError

__all__ = [
    "DRAWS",
    "EXACT_CLUSTERS",
    "Cells",
    "ClusterMeans",
    "ClusteredT",
    "Comparison",
    "Interval",
    "SignFlip",
    "Statistic",
    "TukeyHSD",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_statistic",
    "cluster_mean_tests",
    "clustered_t",
    "compare",
    "difference",
    "holm",
    "macro_mean",
    "sign_flip",
    "sign_flip_statistic",
    "tukey_hsd",
]

#: Random draws of a test or an interval, where nobody asks for another number.
DRAWS = 10_000
#: Up to this many clusters a sign-flip test looks at all 2^G flips, at most 16,384, instead of drawing.
EXACT_CLUSTERS = 14

# Sums of the same numbers in another order differ by about 1e-16 of their terms. What is closer than this is equal.
_ROUNDING = 1e-12
# Numbers in one block of draws: 8 MiB, so that it stays near the processor.
_BLOCK = 2**20
# Stands for a p-value that is too small for a float.
_SMALLEST = float(np.finfo(np.float64).tiny)

Scores = NDArray[np.float64]

Statistic = Callable[[Scores, NDArray[np.intp]], float]
"""A figure for one run, from the values of cells, (n, ...), and the setting of each, (n,), as a place in
`Cells.settings`. In a bootstrap some cells come several times and others not at all."""


@dataclass(frozen=True)
class Cells:
    """Where each score belongs, as parallel columns. Made by `Cells.of`; serves all runs and measures on these cells.

    Attributes:
        setting: (n_cells,), the cell's setting, as a place in `settings`.
        cluster: (n_cells,), its cluster, 0 to G - 1, numbered in the order of their first cells.
        settings: (P,), the settings as they were given, ascending.
        counts: (G, P), number of cells of each cluster in each setting.
    """

    setting: NDArray[np.intp]
    cluster: NDArray[np.intp]
    settings: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, setting: ArrayLike, cluster: ArrayLike) -> Cells:
        """Take the settings and clusters of the cells.

        Args:
            setting: (n_cells,), a number for the setting of each cell. Gaps are allowed, as in the codes of a category.
            cluster: (n_cells,), a number for its cluster. A cluster may reach over all settings, and should.

        Raises:
            RequestError: The columns are empty, not of one length or not whole numbers from 0 up, or there are fewer
                than two clusters, of which nothing can be learned about variation between them.
        """
        settings, setting_of, _ = _codes("settings", setting)
        names, cluster_of, first = _codes("clusters", cluster)
        if len(setting_of) != len(cluster_of):
            raise RequestError(
                f"{len(setting_of)} settings but {len(cluster_of)} clusters: give one of each for every cell"
            )
        if len(names) < 2:
            raise RequestError(
                f"{len(names)} cluster: a comparison needs at least 2; choose smaller clusters, or more questions"
            )
        order = np.empty(len(names), dtype=np.intp)
        order[np.argsort(first)] = np.arange(len(names))
        cluster_of = order[cluster_of]
        size = len(names) * len(settings)
        counts = np.bincount(cluster_of * len(settings) + setting_of, minlength=size)
        return cls(setting_of, cluster_of, settings, counts.reshape(len(names), -1).astype(np.int64))

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.setting)

    @property
    def n_settings(self) -> int:
        """P, the number of settings."""
        return len(self.settings)

    @property
    def n_clusters(self) -> int:
        """G, the number of clusters."""
        return len(self.counts)


@dataclass(frozen=True)
class SignFlip:
    """What a sign-flip test found; arrays of shape () for one difference.

    Attributes:
        delta: The observed differences, A - B.
        p: Their p-values, each for itself: 1 / (draws + 1) to 1, or from 2^(1 - G) if exact. Small: A and B differ.
        draws: Number of flips that each was compared with.
        exact: Whether these were all that there are.
        seed: Of the random flips; plays no part if exact.
    """

    delta: Scores
    p: Scores
    draws: int
    exact: bool
    seed: int


@dataclass(frozen=True)
class Interval:
    """Percentile bootstrap intervals; arrays of shape () for one estimate.

    Attributes:
        estimate: The figures for the cells as they are.
        low: Lower ends, in the unit of the scores.
        high: Upper ends.
        confidence: Share of such intervals that should hold the true figure.
        draws: Number of resamples.
        seed: Of the resamples.
    """

    estimate: Scores
    low: Scores
    high: Scores
    confidence: float
    draws: int
    seed: int


@dataclass(frozen=True)
class ClusteredT:
    """What the analytic clustered t-test found, see `clustered_t`; arrays of shape () for one difference.

    Attributes:
        delta: The observed differences, A - B.
        se: Their clustered standard errors, not negative.
        t: delta / se; infinite if all clusters differ by exactly the same, 0 if by nothing.
        df: Degrees of freedom, G - 1.
        p: Two-sided p-values, in (0, 1].
        low: Lower ends of the t interval.
        high: Upper ends.
        d_z: Effect sizes t / sqrt(G).
        detectable: Minimum detectable effects.
    """

    delta: Scores
    se: Scores
    t: Scores
    df: NDArray[np.int64]
    p: Scores
    low: Scores
    high: Scores
    d_z: Scores
    detectable: Scores


@dataclass(frozen=True)
class ClusterMeans:
    """What the classical paired tests on cluster means found, see `cluster_mean_tests`.

    Attributes:
        n_clusters: G.
        mean: Mean of the cluster means of the differences; not Delta where clusters or settings are unbalanced.
        t: Student's paired t.
        p_t: Its two-sided p-value, in (0, 1].
        w: Wilcoxon's signed-rank statistic, the smaller of the two sums of ranks.
        p_wilcoxon: Its two-sided p-value, in (0, 1].
    """

    n_clusters: int
    mean: float
    t: float
    p_t: float
    w: float
    p_wilcoxon: float


@dataclass(frozen=True)
class TukeyHSD:
    """What a randomised Tukey HSD test found for all pairs of R runs.

    Attributes:
        delta: (R, R), macro mean of the row's run - that of the column's; antisymmetric.
        p: (R, R), p-values already corrected for all pairs, 1 / (draws + 1) to 1; symmetric, 1 on the diagonal.
        draws: Number of random permutations.
        seed: Of the permutations.
    """

    delta: Scores
    p: Scores
    draws: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """All that is said about run A against run B on one measure, as plain numbers.

    Attributes:
        n_cells: Number of cells.
        n_settings: P.
        n_clusters: G.
        mean_a: Macro mean of A.
        mean_b: Macro mean of B.
        delta: mean_a - mean_b. Positive: A scores higher.
        low: Lower end of the percentile cluster bootstrap interval of delta.
        high: Its upper end.
        confidence: Of that interval.
        p: p-value of the sign-flip test: the one to go by.
        exact: Whether it looked at all flips.
        se: Clustered standard error of delta.
        p_t: p-value of the analytic clustered t-test, to check the others by.
        p_paired_t: p-value of the paired t-test on cluster means.
        p_wilcoxon: p-value of Wilcoxon's test on cluster means.
        d_z: Effect size, in standard deviations between clusters; sign as delta.
        detectable: Least absolute difference that this layout would find with a power of 0.8.
        wins: Number of cells in which A scores higher; for a measure where lower is better, these are its losses.
        ties: Number of cells in which both score the same.
        losses: Number of cells in which A scores lower.
        draws: Number of resamples, and of random flips unless exact.
        seed: Of both.
    """

    n_cells: int
    n_settings: int
    n_clusters: int
    mean_a: float
    mean_b: float
    delta: float
    low: float
    high: float
    confidence: float
    p: float
    exact: bool
    se: float
    p_t: float
    p_paired_t: float
    p_wilcoxon: float
    d_z: float
    detectable: float
    wins: int
    ties: int
    losses: int
    draws: int
    seed: int


def difference(cells: Cells, a: ArrayLike, b: ArrayLike) -> Scores:
    """The differences d = a - b of aligned scores.

    Args:
        cells: The cells.
        a: (n_cells,) or (n_runs, n_cells), scores of run A, or of several runs.
        b: The same of B. One run may stand against several, as a baseline does.

    Returns:
        (n_cells,) or (n_runs, n_cells).

    Raises:
        RequestError: The scores do not fit the cells or each other, or one is not a finite number.
    """
    first, second = _checked(cells, a), _checked(cells, b)
    try:
        return np.asarray(first - second)
    except ValueError:
        raise RequestError(
            f"scores of shape {first.shape} against {second.shape}: give as many runs on both sides, or one on either"
        ) from None


def macro_mean(cells: Cells, values: ArrayLike, *, by_setting: bool = False) -> Scores:
    """Mean over settings of the means over questions: (1/P) sum_p (1/n_p) sum over q in p of the value.

    Args:
        cells: The cells.
        values: (..., n_cells), scores or differences of one or more runs.
        by_setting: Do not average over the settings.

    Returns:
        (...), or (..., P) by setting; in the range of the values.

    Raises:
        RequestError: The values do not fit the cells, or one is not a finite number.
    """
    checked = _checked(cells, values)
    means = _setting_means(cells, _rows(checked))
    return _shaped(means if by_setting else means.mean(axis=1), checked, cells, by_setting)


def sign_flip(
    cells: Cells, differences: ArrayLike, *, by_setting: bool = False, draws: int = DRAWS, seed: int = 0
) -> SignFlip:
    """Test Delta = 0 by the cluster sign-flip (randomisation) test.

    The null hypothesis is that A and B can be exchanged within a cluster. Then each share x_c may as well have the
    other sign: Delta* = sum_c s_c x_c with s_c = +1 or -1 at random, one for all cells of a cluster. With B draws,

        p = (1 + #{|Delta*| >= |Delta|}) / (B + 1),

    where the 1 is the observed labelling, itself one of the possible; so p is at least 1 / (B + 1) and the test keeps
    its level for any B. Up to `EXACT_CLUSTERS` clusters, p is the share of all 2^G flips, the observed among them.

    Args:
        cells: The cells.
        differences: (..., n_cells), d = A - B of one or more pairs of runs; all see the same flips.
        by_setting: Test each Delta_p instead of Delta, again by the same flips.
        draws: B, at least 100.
        seed: Of the random flips.

    Returns:
        Results of shape (...), or (..., P) by setting. They are not corrected for their number: see `holm` and
        `benjamini_hochberg`.

    Raises:
        RequestError: The differences do not fit the cells, one is not a finite number, or there are too few draws.
    """
    _check_draws(draws)
    checked = _checked(cells, differences)
    delta = macro_mean(cells, checked, by_setting=by_setting)
    shares = _cluster_sums(cells, _rows(checked), by_setting)
    least = np.abs(delta).ravel() - _ROUNDING * np.abs(shares).sum(axis=0)
    exceeding = np.zeros(len(least), dtype=np.int64)
    seen = 0
    for flips in _flips(cells.n_clusters, draws, seed, max(shares.shape)):
        exceeding += (np.abs((1.0 - 2.0 * flips) @ shares) >= least).sum(axis=0)
        seen += len(flips)
    return _sign_flip(cells, delta, exceeding.reshape(delta.shape), seen, seed)


def sign_flip_statistic(
    cells: Cells, a: ArrayLike, b: ArrayLike, statistic: Statistic, *, draws: int = DRAWS, seed: int = 0
) -> SignFlip:
    """Test Delta = T(A) - T(B) = 0 for a statistic that is no mean of cells: a median, Kendall's W.

    As `sign_flip`, with the same flips, but each flip swaps A and B in the cells of the flipped clusters and computes T
    of both again. For T = `macro_mean` both tests give the same.

    Args:
        cells: The cells.
        a: (n_cells, ...), what run A has in each cell: a score, or all ranks that T needs.
        b: The same of B.
        statistic: T. It is called twice per draw.
        draws: B, at least 100.
        seed: Of the random flips.

    Raises:
        RequestError: The values do not fit the cells or each other, one is not a finite number, there are too few
            draws, or the statistic gave something else than a finite number.
    """
    _check_draws(draws)
    first, second = _checked(cells, a, axis=0), _checked(cells, b, axis=0)
    if first.shape != second.shape:
        raise RequestError(f"values of shape {first.shape} against {second.shape}: give the same for both runs")
    of_a, of_b = (_figure(statistic, values, cells.setting) for values in (first, second))
    least = abs(of_a - of_b) - _ROUNDING * max(abs(of_a), abs(of_b))
    exceeding = seen = 0
    for flips in _flips(cells.n_clusters, draws, seed, cells.n_clusters):
        for flip in flips:
            swapped = flip[cells.cluster].reshape(-1, *[1] * (first.ndim - 1))
            now = _figure(statistic, np.where(swapped, second, first), cells.setting)
            now -= _figure(statistic, np.where(swapped, first, second), cells.setting)
            exceeding += abs(now) >= least
        seen += len(flips)
    return _sign_flip(cells, np.asarray(of_a - of_b), np.asarray(exceeding), seen, seed)


def bootstrap(
    cells: Cells,
    values: ArrayLike,
    *,
    by_setting: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile cluster bootstrap interval of a macro mean.

    Each resample takes G clusters with replacement, a cluster with all its cells, and computes the mean of every
    setting anew, over as many cells as it now has; settings of which no cell was taken are left out of that resample.
    The interval reaches from the (1 - confidence) / 2 to the (1 + confidence) / 2 quantile of the means. With few
    clusters it is a little short: with 48, about 94% of nominally 95% intervals held the truth in a trial on real runs.

    Args:
        cells: The cells.
        values: (..., n_cells), scores of runs, or their differences; all see the same resamples.
        by_setting: Intervals of each setting's mean instead.
        draws: Number of resamples, at least 100.
        seed: Of the resamples.
        confidence: Between 0 and 1.

    Returns:
        Results of shape (...), or (..., P) by setting.

    Raises:
        RequestError: The values do not fit the cells, one is not a finite number, there are too few draws, the
            confidence is none, or, by setting, a setting has fewer than two clusters.
    """
    _check_draws(draws)
    _check_share("confidence", confidence)
    if by_setting:
        _check_clusters_of_settings(cells)
    checked = _checked(cells, values)
    rows = _rows(checked)
    n_clusters, n_settings = cells.counts.shape
    counts = cells.counts.astype(np.float64)
    # Sums, not means: a setting's mean in a resample is the sum over its cells by their number there.
    sums = [np.bincount(_place(cells), row, counts.size).reshape(counts.shape) for row in rows]
    means = np.empty((len(rows), draws, n_settings if by_setting else 1))
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(n_clusters, n_settings))
    for start in range(0, draws, step):
        n = min(step, draws - start)
        taken = generator.integers(n_clusters, size=(n, n_clusters)) + n_clusters * np.arange(n)[:, None]
        times = np.bincount(taken.ravel(), minlength=n * n_clusters).reshape(n, n_clusters).astype(np.float64)
        size = times @ counts
        present = size > 0
        for row, total in enumerate(sums):
            mean = np.divide(times @ total, size, out=np.zeros_like(size), where=present)
            if by_setting:
                mean[~present] = np.nan
            else:
                mean = mean.sum(axis=1, keepdims=True) / present.sum(axis=1, keepdims=True)
            means[row, start : start + n] = mean
    low, high = _percentiles(means, confidence, axis=1)
    low, high = (_shaped(end if by_setting else end[:, 0], checked, cells, by_setting) for end in (low, high))
    return Interval(macro_mean(cells, checked, by_setting=by_setting), low, high, confidence, draws, seed)


def bootstrap_statistic(
    cells: Cells,
    values: ArrayLike,
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile cluster bootstrap interval of a statistic that is no mean of cells, as `bootstrap` does for means.

    For the difference of two runs, let the values be those of both, (n_cells, 2), and the statistic subtract.

    Args:
        cells: The cells.
        values: (n_cells, ...), what the statistic needs of each cell.
        statistic: Called once per resample, with the cells of the clusters that were taken.
        draws: Number of resamples, at least 100.
        seed: Of the resamples.
        confidence: Between 0 and 1.

    Raises:
        RequestError: The values do not fit the cells, one is not a finite number, there are too few draws, the
            confidence is none, or the statistic gave something else than a finite number.
    """
    _check_draws(draws)
    _check_share("confidence", confidence)
    checked = _checked(cells, values, axis=0)
    order = np.argsort(cells.cluster, kind="stable")
    members = np.split(order, np.cumsum(cells.counts.sum(axis=1))[:-1])
    generator = np.random.default_rng(seed)
    figures = np.empty(draws)
    for draw in range(draws):
        taken = generator.integers(cells.n_clusters, size=cells.n_clusters)
        chosen = np.concatenate([members[cluster] for cluster in taken])
        figures[draw] = _figure(statistic, checked[chosen], cells.setting[chosen])
    low, high = _percentiles(figures, confidence, axis=0)
    estimate = np.asarray(_figure(statistic, checked, cells.setting))
    return Interval(estimate, low, high, confidence, draws, seed)


def clustered_t(
    cells: Cells,
    differences: ArrayLike,
    *,
    by_setting: bool = False,
    confidence: float = 0.95,
    power: float = 0.8,
) -> ClusteredT:
    """The analytic clustered standard error of Delta, and what follows from it.

    With the influences psi_c of the module's docstring,

        SE^2 = G / (G - 1) sum_c psi_c^2        t = Delta / SE, with G - 1 degrees of freedom
        interval = Delta +- t_(1 + confidence)/2 SE
        d_z = t / sqrt(G) = (Delta / G) / sd(psi): Cohen's d for paired data, with clusters for subjects
        detectable = (t_(1 + confidence)/2 + t_power) SE: the true |Delta| that a test at the level 1 - confidence finds
        with this power (Bloom 1995, doi:10.1177/0193841X9501900504); about 2.8 SE

    Args:
        cells: The cells.
        differences: (..., n_cells), d = A - B of one or more pairs of runs; or scores, for the interval of a mean.
        by_setting: The same for each Delta_p, whose clusters are those that have cells in p.
        confidence: Between 0 and 1.
        power: Between 0 and 1.

    Returns:
        Results of shape (...), or (..., P) by setting.

    Raises:
        RequestError: The differences do not fit the cells, one is not a finite number, the confidence or the power is
            none, or, by setting, a setting has fewer than two clusters.
    """
    _check_share("confidence", confidence)
    _check_share("power", power)
    if by_setting:
        _check_clusters_of_settings(cells)
    checked = _checked(cells, differences)
    rows = _rows(checked)
    means = _setting_means(cells, rows)
    delta = means.ravel() if by_setting else means.mean(axis=1)
    influences = _cluster_sums(cells, rows - means[:, cells.setting], by_setting)
    shares = _cluster_sums(cells, rows, by_setting)
    n_clusters = np.tile((cells.counts > 0).sum(axis=0), len(rows)) if by_setting else np.array(cells.n_clusters)
    se = np.sqrt(n_clusters / (n_clusters - 1) * np.square(influences).sum(axis=0))
    se[se <= _ROUNDING * np.abs(shares).sum(axis=0)] = 0.0
    t = np.divide(delta, se, out=np.where(delta == 0, 0.0, np.copysign(np.inf, delta)), where=se > 0)
    df = n_clusters - 1
    reach = special.stdtrit(df, (1 + confidence) / 2)
    columns = (
        delta,
        se,
        t,
        np.maximum(2 * special.stdtr(df, -np.abs(t)), _SMALLEST),
        delta - reach * se,
        delta + reach * se,
        t / np.sqrt(n_clusters),
        (reach + special.stdtrit(df, power)) * se,
    )
    delta, se, t, p, low, high, d_z, detectable = (_shaped(each, checked, cells, by_setting) for each in columns)
    degrees = np.broadcast_to(df, t.size).reshape(t.shape).astype(np.int64)
    return ClusteredT(delta, se, t, degrees, p, low, high, d_z, detectable)


def cluster_mean_tests(cells: Cells, differences: ArrayLike) -> ClusterMeans:
    """Student's paired t and Wilcoxon's signed-rank test on cluster means, for those who must report them.

    The mean of a cluster is the macro mean of its cells alone: over the settings that it reaches, of its means there.
    Clusters count alike, whatever their size, so these tests ask a slightly different question than `sign_flip`.
    Wilcoxon's drops clusters whose mean is 0; it is exact up to 50 clusters, if no two means tie and none is 0.

    Args:
        cells: The cells.
        differences: (n_cells,), d = A - B.

    Raises:
        RequestError: The differences do not fit the cells, or one is not a finite number.
    """
    from scipy import stats

    checked = _checked(cells, differences)
    if checked.ndim != 1:
        raise RequestError(f"differences of shape {checked.shape}: give one pair of runs at a time")
    sums = np.bincount(_place(cells), checked, cells.counts.size).reshape(cells.counts.shape)
    means = np.divide(sums, cells.counts, out=np.zeros_like(sums), where=cells.counts > 0).sum(axis=1)
    means /= (cells.counts > 0).sum(axis=1)
    mean = float(means.mean())
    # So that equal means tie, and what cancels is 0, in spite of rounding.
    scale = float(np.abs(means).max()) or 1.0
    means = np.round(means / scale, 12)
    if np.ptp(means) == 0:
        t = 0.0 if means[0] == 0 else float(np.copysign(np.inf, means[0]))
        p_t = 1.0 if means[0] == 0 else _SMALLEST
    else:
        student = stats.ttest_1samp(means, 0.0)
        t, p_t = float(student.statistic), max(float(student.pvalue), _SMALLEST)
    w, p_wilcoxon = 0.0, 1.0
    if means.any():
        with warnings.catch_warnings():
            # Older versions of SciPy warn about few clusters; the number of clusters is in the result.
            warnings.simplefilter("ignore", UserWarning)
            wilcoxon = stats.wilcoxon(means)
        w, p_wilcoxon = float(wilcoxon.statistic), max(float(wilcoxon.pvalue), _SMALLEST)
    return ClusterMeans(cells.n_clusters, mean, t, p_t, w, p_wilcoxon)


def tukey_hsd(cells: Cells, scores: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> TukeyHSD:
    """Test all pairs of runs at once by randomised Tukey HSD.

    The null hypothesis is that all runs can be exchanged within a cluster. Each draw permutes the runs in every
    cluster, one permutation for all its cells, and takes the range of the permuted macro means; with B draws,

        p_ij = (1 + #{max - min of the permuted macro means >= |Delta_ij|}) / (B + 1).

    That holds the chance of any false finding among the pairs at the level of the test. For two runs it is `sign_flip`.
    Source: Carterette (2012, doi:10.1145/2094072.2094076), with clusters in place of topics.

    Args:
        cells: The cells.
        scores: (n_runs, n_cells), at least two runs.
        draws: B, at least 100.
        seed: Of the random permutations.

    Raises:
        RequestError: The scores do not fit the cells, one is not a finite number, there are fewer than two runs or too
            few draws.
    """
    _check_draws(draws)
    checked = _checked(cells, scores)
    if checked.ndim != 2 or len(checked) < 2:
        raise RequestError(f"scores of shape {checked.shape}: give (n_runs, n_cells) with at least 2 runs")
    means = macro_mean(cells, checked)
    delta = np.asarray(means[:, None] - means)
    shares = _cluster_sums(cells, checked, by_setting=False)
    # What all runs have in common in a cluster is in every permutation, and would only cost digits.
    shares -= shares.mean(axis=1, keepdims=True)
    generator = np.random.default_rng(seed)
    ranges = np.empty(draws)
    step = max(1, _BLOCK // 4 // shares.size)
    for start in range(0, draws, step):
        n = min(step, draws - start)
        permuted = np.broadcast_to(shares, (n, *shares.shape)).copy()
        generator.permuted(permuted, axis=2, out=permuted)
        ranges[start : start + n] = np.ptp(permuted.sum(axis=1), axis=1)
    least = np.abs(delta) - _ROUNDING * np.abs(shares).max(axis=1).sum()
    exceeding = draws - np.searchsorted(np.sort(ranges), least.ravel()).reshape(least.shape)
    return TukeyHSD(delta, (1 + exceeding) / (draws + 1), draws, seed)


def holm(p: ArrayLike) -> Scores:
    """Holm's step-down adjusted p-values: hold the chance of any false finding in the family.

    For m p-values in ascending order: max over j <= i of min(1, (m - j + 1) p_(j)). Source: Holm (1979), Scandinavian
    Journal of Statistics 6(2). The usual family is all runs against one baseline.

    Args:
        p: p-values of one family, of any shape.

    Returns:
        Adjusted p-values in the same shape, none below its p, none above 1. Below the level: a finding.

    Raises:
        RequestError: One is not between 0 and 1.
    """
    values = _probabilities(p)
    order = np.argsort(values, axis=None, kind="stable")
    stepped = np.maximum.accumulate(values.ravel()[order] * np.arange(values.size, 0, -1))
    return _unsorted(stepped, order, values.shape)


def benjamini_hochberg(p: ArrayLike) -> Scores:
    """Benjamini and Hochberg's adjusted p-values: hold the expected share of false findings among the findings.

    For m p-values in ascending order: min over j >= i of min(1, p_(j) m / j). Source: Benjamini & Hochberg (1995,
    doi:10.1111/j.2517-6161.1995.tb02031.x). The usual family is a map of all language pairs.

    Args:
        p: p-values of one family, of any shape.

    Returns:
        Adjusted p-values in the same shape, none below its p, none above 1. Below the level: a finding.

    Raises:
        RequestError: One is not between 0 and 1.
    """
    values = _probabilities(p)
    order = np.argsort(values, axis=None, kind="stable")
    ratios = values.ravel()[order] * (values.size / np.arange(1, values.size + 1))
    return _unsorted(np.minimum.accumulate(ratios[::-1])[::-1], order, values.shape)


def compare(
    cells: Cells,
    a: ArrayLike,
    b: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """Compare run A with run B on one measure, in every way that this file knows for the macro mean.

    Args:
        cells: The cells.
        a: (n_cells,), scores of A.
        b: (n_cells,), scores of B, in the same order.
        draws: Number of flips and of resamples, at least 100.
        seed: Of both.
        confidence: Of the interval; the detectable effect is for a test at the level 1 - confidence.

    Raises:
        RequestError: The scores do not fit the cells or each other, one is not a finite number, there are too few
            draws, or the confidence is none.
    """
    of_a, of_b = _checked(cells, a), _checked(cells, b)
    if of_a.ndim != 1 or of_b.ndim != 1:
        raise RequestError(f"scores of shape {of_a.shape} against {of_b.shape}: give one run on either side")
    d = of_a - of_b
    flip = sign_flip(cells, d, draws=draws, seed=seed)
    interval = bootstrap(cells, d, draws=draws, seed=seed, confidence=confidence)
    analytic = clustered_t(cells, d, confidence=confidence)
    classical = cluster_mean_tests(cells, d)
    tied = np.abs(d) <= _ROUNDING * np.maximum(np.abs(of_a), np.abs(of_b))
    return Comparison(
        n_cells=cells.n_cells,
        n_settings=cells.n_settings,
        n_clusters=cells.n_clusters,
        mean_a=float(macro_mean(cells, of_a)),
        mean_b=float(macro_mean(cells, of_b)),
        delta=float(flip.delta),
        low=float(interval.low),
        high=float(interval.high),
        confidence=confidence,
        p=float(flip.p),
        exact=flip.exact,
        se=float(analytic.se),
        p_t=float(analytic.p),
        p_paired_t=classical.p_t,
        p_wilcoxon=classical.p_wilcoxon,
        d_z=float(analytic.d_z),
        detectable=float(analytic.detectable),
        wins=int(((d > 0) & ~tied).sum()),
        ties=int(tied.sum()),
        losses=int(((d < 0) & ~tied).sum()),
        draws=draws,
        seed=seed,
    )


def _codes(name: str, column: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """The distinct numbers of a column, ascending; the place of each cell's among them; and their first cells."""
    values = np.asarray(column)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iu":
        raise RequestError(
            f"{name} of shape {values.shape} and type {values.dtype}: give one whole number for every cell"
        )
    if values.min() < 0:
        raise RequestError(f"{name} hold {values.min()}: number them from 0 up, and leave out cells that have none")
    distinct, first, place = np.unique(values, return_index=True, return_inverse=True)
    return distinct.astype(np.int64), place.reshape(-1), first


def _checked(cells: Cells, values: ArrayLike, axis: int = -1) -> Scores:
    """Values as float64, with cells along this axis, all of them finite."""
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim < 1 or checked.shape[axis] != cells.n_cells:
        where = "last" if axis else "first"
        raise RequestError(
            f"scores of shape {checked.shape} for {cells.n_cells} cells: the {where} axis must be the cells, in order"
        )
    if not np.isfinite(checked).all():
        bad = np.argwhere(~np.isfinite(checked))[0]
        raise RequestError(
            f"the score of cell {bad[axis]} is {checked[tuple(bad)]}: leave out questions that a run has no score for"
        )
    return checked


def _check_draws(draws: int) -> None:
    if draws < 100:
        raise RequestError(f"{draws} draws: take at least 100, better {DRAWS}")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise RequestError(f"{name} {value}: give a number between 0 and 1, such as 0.95")


def _check_clusters_of_settings(cells: Cells) -> None:
    n_clusters = (cells.counts > 0).sum(axis=0)
    if n_clusters.min() < 2:
        setting = cells.settings[n_clusters.argmin()]
        raise RequestError(f"setting {setting} has 1 cluster: leave it out, or choose smaller clusters")


def _probabilities(p: ArrayLike) -> Scores:
    values = np.asarray(p, dtype=np.float64)
    wrong = ~((values >= 0) & (values <= 1))  # NaN is neither
    if wrong.any():
        raise RequestError(f"{values[wrong][0]} is no p-value: leave out what was not tested")
    return values


def _unsorted(adjusted: Scores, order: NDArray[np.intp], shape: tuple[int, ...]) -> Scores:
    """Adjusted p-values back in the order and shape that their p-values came in."""
    result = np.empty(len(order))
    result[order] = np.minimum(adjusted, 1.0)
    return result.reshape(shape)


def _place(cells: Cells) -> NDArray[np.intp]:
    """The place of each cell's (cluster, setting) in the ravelled `counts`."""
    return np.asarray(cells.cluster * cells.n_settings + cells.setting)


def _rows(checked: Scores) -> Scores:
    """Values (..., n_cells) as (n_rows, n_cells)."""
    return checked.reshape(-1, checked.shape[-1])


def _shaped(results: Scores, checked: Scores, cells: Cells, by_setting: bool) -> Scores:
    """Results for the rows of `checked`, with the axes that it has besides the cells, and settings last."""
    return results.reshape(checked.shape[:-1] + ((cells.n_settings,) if by_setting else ()))


def _setting_means(cells: Cells, rows: Scores) -> Scores:
    """Mean of every row in every setting, (n_rows, P)."""
    totals = [np.bincount(cells.setting, row, cells.n_settings) for row in rows]
    return np.asarray(np.reshape(totals, (-1, cells.n_settings)) / cells.counts.sum(axis=0))


def _cluster_sums(cells: Cells, rows: Scores, by_setting: bool) -> Scores:
    """Sums over the cells of each cluster of value / (P n_p), (G, n_rows); by setting of value / n_p, (G, n_rows P)."""
    weights = 1.0 / cells.counts.sum(axis=0)[cells.setting]
    if by_setting:
        sums = [np.bincount(_place(cells), row * weights, cells.counts.size) for row in rows]
        return np.concatenate([each.reshape(cells.counts.shape) for each in sums], axis=1)
    weights /= cells.n_settings
    return np.stack([np.bincount(cells.cluster, row * weights, cells.n_clusters) for row in rows], axis=1)


def _flips(n_clusters: int, draws: int, seed: int, width: int) -> Iterator[NDArray[np.bool_]]:
    """Blocks (n, G) of flips, true where A and B are swapped: all 2^G, or as many random ones as asked for.

    A draw depends on the seed and on G, not on the width of what it is multiplied with, which sets the size of a block.
    """
    step = max(1, _BLOCK // width)
    if n_clusters <= EXACT_CLUSTERS:
        for start in range(0, 2**n_clusters, step):
            numbers = np.arange(start, min(start + step, 2**n_clusters))
            yield (numbers[:, None] >> np.arange(n_clusters) & 1).astype(np.bool_)
        return
    generator = np.random.default_rng(seed)
    for start in range(0, draws, step):
        size = (min(step, draws - start), -(-n_clusters // 64))
        words = generator.integers(2**64, size=size, dtype=np.uint64).astype("<u8", copy=False)
        yield np.unpackbits(words.view(np.uint8), axis=1, count=n_clusters).astype(np.bool_)


def _sign_flip(cells: Cells, delta: Scores, exceeding: NDArray[np.int64], seen: int, seed: int) -> SignFlip:
    """The p-values; the observed labelling is one of all flips, and counts beside random ones."""
    exact = cells.n_clusters <= EXACT_CLUSTERS
    p = exceeding / seen if exact else (1 + exceeding) / (1 + seen)
    return SignFlip(delta, np.asarray(p), seen, exact, seed)


def _figure(statistic: Statistic, values: Scores, setting: NDArray[np.intp]) -> float:
    figure = float(statistic(values, setting))
    if not np.isfinite(figure):
        raise RequestError(f"the statistic gave {figure}: it must be a finite number for every flip and resample")
    return figure


def _percentiles(figures: Scores, confidence: float, axis: int) -> tuple[Scores, Scores]:
    """Both ends of the percentile interval; draws in which a setting had no cell are NaN there, and left out."""
    quantile = np.nanquantile if np.isnan(figures).any() else np.quantile
    low, high = quantile(figures, [(1 - confidence) / 2, (1 + confidence) / 2], axis=axis)
    return np.asarray(low), np.asarray(high)
