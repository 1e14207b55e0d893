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
Hesterberg (2015, doi:10.1080/00031305.2015.1089789) for the quantiles between which the resamples are cut; Cameron &
Miller (2015, doi:10.3368/jhr.50.2.317) for the clustered standard error with G - 1 degrees of freedom.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hybrid_bench.errors import RequestError
from hybrid_bench.measures.metrics import Scores

__all__ = [
    "DRAWS",
    "EXACT_CLUSTERS",
    "FEW_CLUSTERS",
    "Cells",
    "ClusterMeans",
    "ClusteredT",
    "Comparison",
    "Contrast",
    "Interval",
    "SignFlip",
    "Statistic",
    "SteppedDown",
    "SumsFigure",
    "TukeyHSD",
    "attainable",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_median",
    "bootstrap_statistic",
    "bootstrap_sums",
    "cluster_mean_tests",
    "cluster_sums",
    "clustered_t",
    "compare",
    "compare_by",
    "detectable_effect",
    "difference",
    "flip_test",
    "holm",
    "macro_mean",
    "macro_median",
    "sign_flip",
    "sign_flip_above",
    "sign_flip_interval",
    "step_down",
    "tukey_hsd",
]

#: Random draws of a test or an interval, where nobody asks for another number.
DRAWS = 10_000
#: Up to this many clusters a sign-flip test looks at all 2^G flips, at most 16,384, instead of drawing.
EXACT_CLUSTERS = 14
#: With fewer clusters resamples are too alike: intervals are t intervals, and power is that of the flips themselves.
FEW_CLUSTERS = 10

# Sums of the same numbers in another order differ by about 1e-16 of their terms. What is closer than this is equal.
_ROUNDING = 1e-12
# Numbers in one block of draws: 8 MiB, so that it stays near the processor.
_BLOCK = 2**20
# Numbers for a draw in a search for medians: so its blocks stay near the processor, too, which halves the time.
_SEARCHED = 2**10
# Random samples behind the power of the sign-flip test with few clusters: its standard error is below 1%.
_POWER_DRAWS = 10_000
# Most figures of resamples that are held at a time: 128 MiB.
_FIGURES = 2**24
# As little as this of 1 - |v| is nothing, see `_not_rejected`.
_ROOT = 1e-9
# Stands for a p-value that is too small for a float.
_SMALLEST = float(np.finfo(np.float64).tiny)


Statistic = Callable[[Scores, NDArray[np.intp]], float]
"""A figure for one run, from the values of cells, (n, ...), and the setting of each, (n,), as a place in
`Cells.settings`. In a bootstrap some cells come several times and others not at all."""

SumsFigure = Callable[[Scores], Scores]
"""Figures, (n,) or (n, ...), from n times k sums over cells, (n, k)."""


@dataclass(frozen=True)
class Cells:
    """Where each score belongs, as parallel columns. Made by `Cells.of`; serves all runs and measures on these cells.

    Attributes:
        setting: (n_cells,), the cell's setting, as a place in `settings`.
        cluster: (n_cells,), its cluster, 0 to G - 1, numbered in the order of their first cells.
        settings: (P,), the settings as they were given, ascending.
        counts: (G, P), number of cells of each cluster in each setting.
        clusters: (G,), the clusters as they were given.
    """

    setting: NDArray[np.intp]
    cluster: NDArray[np.intp]
    settings: NDArray[np.int64]
    counts: NDArray[np.int64]
    clusters: NDArray[np.int64]

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
        by_first = np.argsort(first)
        order = np.empty(len(names), dtype=np.intp)
        order[by_first] = np.arange(len(names))
        cluster_of = order[cluster_of]
        size = len(names) * len(settings)
        counts = np.bincount(cluster_of * len(settings) + setting_of, minlength=size)
        return cls(setting_of, cluster_of, settings, counts.reshape(len(names), -1).astype(np.int64), names[by_first])

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
class SteppedDown:
    """What `step_down` found for a family of contrasts: lists have an array for each, of the shape of its differences.

    Attributes:
        p: p-values, each for itself, by the flips of the family.
        p_adjusted: The same, adjusted for all differences of all contrasts; none below its p.
        n_clusters: Number of clusters of all contrasts together.
        draws: Number of flips that each was compared with.
        exact: Whether these were all that there are.
        seed: Of the random flips; plays no part if exact.
    """

    p: list[Scores]
    p_adjusted: list[Scores]
    n_clusters: int
    draws: int
    exact: bool
    seed: int


@dataclass(frozen=True)
class Interval:
    """Cluster bootstrap intervals, see `bootstrap`; arrays of shape () for one estimate.

    Attributes:
        estimate: The figures for the cells as they are.
        low: Lower ends, in the unit of the scores.
        high: Upper ends.
        confidence: Share of such intervals that should hold the true figure.
        draws: Number of resamples.
        seed: Of the resamples.
        expanded: Whether they are expanded percentile intervals, t intervals below `FEW_CLUSTERS`; or plain ones.
    """

    estimate: Scores
    low: Scores
    high: Scores
    confidence: float
    draws: int
    seed: int
    expanded: bool


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

    What does not go with its figure is None: standard error, classical tests and effects of a median or of Kendall's W.

    Attributes:
        n_cells: Number of cells.
        n_settings: P.
        n_clusters: G.
        mean_a: Macro mean of A, or whatever figure is compared.
        mean_b: The same of B.
        delta: mean_a - mean_b. Positive: A scores higher.
        low: Lower end of the cluster bootstrap interval of delta, see `bootstrap`.
        high: Its upper end.
        confidence: Of that interval.
        p: p-value of the sign-flip test: the one to go by.
        flips: Number of flips that it looked at.
        exact: Whether these were all that there are.
        se: Clustered standard error of delta.
        p_t: p-value of the analytic clustered t-test, to check the others by.
        p_paired_t: p-value of the paired t-test on cluster means.
        p_wilcoxon: p-value of Wilcoxon's test on cluster means.
        d_z: Effect size, in standard deviations between clusters; sign as delta.
        detectable: Least absolute difference that the sign-flip test would find with a power of 0.8, see
            `detectable_effect`; None also where it finds none of any size.
        wins: Number of cells in which A scores higher; for a measure where lower is better, these are its losses. None
            where cells have no score of their own.
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
    flips: int
    exact: bool
    se: float | None
    p_t: float | None
    p_paired_t: float | None
    p_wilcoxon: float | None
    d_z: float | None
    detectable: float | None
    wins: int | None
    ties: int | None
    losses: int | None
    draws: int
    seed: int

    @property
    def attainable(self) -> float:
        """The smallest p-value that the test could have given."""
        return attainable(self.n_clusters, self.draws)


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
    return (means if by_setting else means.mean(axis=1)).reshape(_shape(checked, cells, by_setting))


def macro_median(cells: Cells, values: ArrayLike) -> Scores:
    """Mean over settings of the medians over questions.

    Args:
        cells: The cells.
        values: (..., n_cells), scores of one or more runs.

    Returns:
        (...), in the range of the values.

    Raises:
        RequestError: The values do not fit the cells, or one is not a finite number.
    """
    checked = _checked(cells, values)
    once = np.ones((1, cells.n_clusters))
    return _medians(cells, _rows(checked), once, by_setting=False).reshape(checked.shape[:-1])


@dataclass(frozen=True)
class Contrast:
    """Differences of runs, and what becomes of them where A and B are swapped in some clusters.

    What a sign-flip test needs, whatever the figure is: `sign_flip` tests one of these for itself, `step_down` several
    together. Clusters of the same number are swapped together in all contrasts of a family, so that the numbers should
    be those of the articles, not of places in a table.

    Attributes:
        clusters: (G,), numbers of the clusters.
        delta: The observed differences, A - B, of any shape.
        slack: By how much rounding may move each of them; of that shape.
        flipped: From flips (n, G), true where A and B are swapped, to the differences that these give, (n, ...).
    """

    clusters: NDArray[np.int64]
    delta: Scores
    slack: Scores
    flipped: Callable[[NDArray[np.bool_]], Scores]

    @classmethod
    def of_means(cls, cells: Cells, differences: ArrayLike, *, by_setting: bool = False) -> Contrast:
        """Differences of macro means: Delta* = sum_c s_c x_c, with s_c = -1 where a cluster is swapped.

        Args:
            cells: The cells.
            differences: (..., n_cells), d = A - B of one or more pairs of runs.
            by_setting: Each Delta_p instead of Delta: of shape (..., P).

        Raises:
            RequestError: The differences do not fit the cells, or one is not a finite number.
        """
        checked = _checked(cells, differences)
        delta = macro_mean(cells, checked, by_setting=by_setting)
        shares = _cluster_sums(cells, _rows(checked), by_setting)
        slack = _ROUNDING * np.abs(shares).sum(axis=0)

        def flipped(flips: NDArray[np.bool_]) -> Scores:
            return np.asarray(((1.0 - 2.0 * flips) @ shares).reshape(len(flips), *delta.shape))

        return cls(cells.clusters, delta, slack.reshape(delta.shape), flipped)

    @classmethod
    def of_medians(cls, cells: Cells, a: ArrayLike, b: ArrayLike, *, by_setting: bool = False) -> Contrast:
        """Differences of macro means over settings of the medians of their cells.

        Without a sort per flip: with B's cells in G clusters of their own, a flip takes G clusters of 2 G, and their
        medians are found as in `bootstrap_median`.

        Args:
            cells: The cells.
            a: (..., n_cells), scores of run A, or of several runs.
            b: The same of B.
            by_setting: The difference of the medians of each setting instead: of shape (..., P).

        Raises:
            RequestError: The scores do not fit the cells or each other, or one is not a finite number.
        """
        first, second = _both(_checked(cells, a), _checked(cells, b))
        # B's cells are those of G more clusters, of which a run has the ones that it has not got of A.
        doubled = Cells.of(np.tile(cells.setting, 2), np.concatenate([cells.cluster, cells.cluster + cells.n_clusters]))
        rows = _rows(np.concatenate([first, second], axis=-1))
        shape = _shape(first, cells, by_setting)

        def figures(kept: Scores) -> Scores:
            return np.moveaxis(_medians(doubled, rows, kept, by_setting), -1, 0).reshape(len(kept), *shape)

        return _exchanged(cells.clusters, figures, _SEARCHED)

    @classmethod
    def of_sums(
        cls, a: ArrayLike, b: ArrayLike, figure: SumsFigure, *, clusters: NDArray[np.int64] | None = None
    ) -> Contrast:
        """Differences of a figure that needs nothing but sums over cells: Kendall's W.

        Args:
            a: (G, k), sums over the cells of each cluster for run A, see `cluster_sums`.
            b: The same of B.
            figure: See `SumsFigure`; several figures make several differences.
            clusters: (G,), numbers of the clusters; 0 to G - 1 where none are given.

        Raises:
            RequestError: The sums are not a table of at least two clusters, do not fit each other, one is not a finite
                number, or a figure is not a finite number.
        """
        first, second = _both(_checked_sums(a), _checked_sums(b))
        sums = np.concatenate([first, second])
        names = np.arange(len(first)) if clusters is None else clusters
        return _exchanged(names.astype(np.int64), lambda kept: _figures(figure, kept @ sums), max(sums.shape))


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
        Results of shape (...), or (..., P) by setting. They are not corrected for their number: see `step_down`, `holm`
        and `benjamini_hochberg`.

    Raises:
        RequestError: The differences do not fit the cells, one is not a finite number, or there are too few draws.
    """
    _check_draws(draws)
    return flip_test(Contrast.of_means(cells, differences, by_setting=by_setting), draws=draws, seed=seed)


def flip_test(contrast: Contrast, *, draws: int = DRAWS, seed: int = 0) -> SignFlip:
    """Test Delta = 0 for any figure, as `sign_flip` does for means, with the same flips: each difference for itself.

    Args:
        contrast: The differences.
        draws: B, at least 100.
        seed: Of the random flips.

    Raises:
        RequestError: There are too few draws, or a figure is not a finite number.
    """
    _check_draws(draws)
    n_clusters = len(contrast.clusters)
    least = np.abs(contrast.delta) - contrast.slack
    exceeding = np.zeros(contrast.delta.shape, dtype=np.int64)
    seen = 0
    for flips in _flips(n_clusters, draws, seed, max(n_clusters, contrast.delta.size)):
        exceeding += (np.abs(contrast.flipped(flips)) >= least).sum(axis=0)
        seen += len(flips)
    exact = n_clusters <= EXACT_CLUSTERS
    return SignFlip(contrast.delta, _p_of(exceeding, seen, exact), seen, exact, seed)


def step_down(contrasts: Sequence[Contrast], *, draws: int = DRAWS, seed: int = 0) -> SteppedDown:
    """Test all differences of several contrasts together: the chance of any false finding is held at the level.

    The step-down max-T method of Westfall and Young (1993, Resampling-based multiple testing, algorithm 4.1): all see
    the same flips, so that what measures, settings and runs have in common is used and not paid for. With t_i the size
    of a difference, in units of its root mean square over the flips and over the observed labelling or as the normal
    score of its own p-value, whichever is greater, and t_(1) >= t_(2) >= ... in order,

        p_(i) = max over j <= i of (1 + #{max over k >= j of t*_(k) >= t_(j)}) / (B + 1),

    or the share of all flips where these are enumerated. For one difference that is its own p-value. Sizes alone would
    compare medians with means as if both were normal: flips of a median jump between the two runs, so that it is never
    large in units of them, however sure it is. Normal scores alone would be the min-P method, of which p-values are at
    least about m / (B + 1) for m differences. Both are the same function of a difference for every flip, as the method
    needs it. Where several runs
    stand against one baseline the flips keep the covariances of the differences, and not their joint skewness.

    Args:
        contrasts: The family. Clusters of the same number in several of them are the same.
        draws: B, at least 100.
        seed: Of the random flips.

    Raises:
        RequestError: There is no contrast, there are too few draws, or a figure is not a finite number.
    """
    _check_draws(draws)
    if not contrasts:
        raise RequestError("no differences to test together: give at least one")
    # Numbered in the order of their first contrast, so that a contrast alone sees the flips of `flip_test`.
    names = np.concatenate([contrast.clusters for contrast in contrasts])
    distinct, first = np.unique(names, return_index=True)
    place = dict(zip(distinct[np.argsort(first)].tolist(), range(len(distinct)), strict=True))
    columns = [np.array([place[name] for name in contrast.clusters.tolist()]) for contrast in contrasts]
    n_clusters = len(distinct)
    delta = np.concatenate([contrast.delta.ravel() for contrast in contrasts])
    slack = np.concatenate([contrast.slack.ravel() for contrast in contrasts])
    width = max(n_clusters, *(contrast.delta.size for contrast in contrasts))
    drawn = [
        np.concatenate(
            [
                contrast.flipped(flips[:, own]).reshape(len(flips), -1)
                for contrast, own in zip(contrasts, columns, strict=True)
            ],
            axis=1,
        )
        for flips in _flips(n_clusters, draws, seed, width)
    ]
    flipped = np.abs(np.concatenate(drawn))  # (B, m)
    seen, exact = len(flipped), n_clusters <= EXACT_CLUSTERS
    least = np.maximum(np.abs(delta) - slack, 0)
    p = _p_of((flipped >= least).sum(axis=0), seen, exact)
    squares = np.square(flipped).sum(axis=0) + (0 if exact else np.square(delta))
    every = seen if exact else seen + 1
    unit = np.sqrt(squares / every)
    unit[unit <= slack] = np.inf  # no flip differs from no difference
    for column, each in enumerate(flipped.T):
        # How many flips are at least as far from 0, and whether the observed labelling is.
        exceeding = seen - np.searchsorted(np.sort(each), each - slack[column])
        besides = np.abs(delta[column]) >= each - slack[column]
        each[:] = np.maximum(each / unit[column], _normal_score((exceeding + (0 if exact else besides)) / every))
    score = _normal_score(p)
    order = np.argsort(-np.maximum(np.abs(delta) / unit, score), kind="stable")
    # The largest of each difference and all after it.
    largest = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]
    least = np.maximum(least / unit, score * (1 - _SAME_SCORE))
    exceeding = (largest >= least[order]).sum(axis=0)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.maximum(_p_of(exceeding, seen, exact), p[order]))
    ends = np.cumsum([contrast.delta.size for contrast in contrasts])[:-1]
    shapes = [contrast.delta.shape for contrast in contrasts]

    def of_contrasts(values: Scores) -> list[Scores]:
        return [part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes, strict=True)]

    return SteppedDown(of_contrasts(p), of_contrasts(adjusted), n_clusters, seen, exact, seed)


#: Relative difference below which normal scores of the same p-value may lie apart.
_SAME_SCORE = 1e-12


def _normal_score(p: Scores) -> Scores:
    """The size of a standard normal variable that has these two-sided p-values."""
    return np.asarray(-special.ndtri(np.asarray(p) / 2))


def attainable(n_clusters: int, draws: int = DRAWS) -> float:
    """The smallest p-value that a sign-flip test can give: 2^(1 - G) where all flips are enumerated, else 1 / (B + 1).

    Args:
        n_clusters: G.
        draws: B, of random flips.
    """
    return 2.0 ** (1 - n_clusters) if n_clusters <= EXACT_CLUSTERS else 1 / (draws + 1)


def sign_flip_above(
    cells: Cells, differences: ArrayLike, bound: float = 0.0, *, draws: int = DRAWS, seed: int = 0
) -> Scores:
    """One-sided p-value of Delta <= bound, by the sign-flip test of d - bound: small where Delta is surely more.

    Every random flip counts with its mirror image, so that for the same flips this is half of the two-sided p-value of
    `sign_flip` where Delta is above the bound, and never contradicts `sign_flip_interval`.

    Args:
        cells: The cells.
        differences: (..., n_cells), d = A - B of one or more pairs of runs.
        bound: In the unit of the scores. With -0.01 a small p-value says that A is not worse than B by 0.01 or more.
        draws: Random flips, at least 100.
        seed: Of these.

    Raises:
        RequestError: The differences do not fit the cells, one is not a finite number, or there are too few draws.
    """
    _check_draws(draws)
    contrast = Contrast.of_means(cells, _checked(cells, differences) - bound)
    least = contrast.delta - contrast.slack
    exceeding = np.zeros(contrast.delta.shape, dtype=np.int64)
    seen = 0
    for flips in _flips(cells.n_clusters, draws, seed, max(cells.n_clusters, contrast.delta.size)):
        flipped = contrast.flipped(flips)
        exceeding += (flipped >= least).sum(axis=0) + (-flipped >= least).sum(axis=0)
        seen += 2 * len(flips)
    if cells.n_clusters <= EXACT_CLUSTERS:
        return np.asarray(exceeding / seen)
    # The observed labelling, and its mirror image.
    return np.asarray((1 + (-contrast.delta >= least) + exceeding) / (2 + seen))


def sign_flip_interval(
    cells: Cells, differences: ArrayLike, *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[Scores, Scores]:
    """All differences theta that the sign-flip test does not reject: it never contradicts that test's p-value.

    The test of theta is that of the shares x_c - theta w_c, with w_c the shares of cells that are all 1. With
    u = sum_c s_c x_c and v = sum_c s_c w_c, a flip counts against theta where |u - theta v| >= |Delta - theta|: between
    the roots (Delta - u) / (1 - v) and (Delta + u) / (1 + v), which have Delta between them. So p falls on both sides
    of Delta, and the ends are quantiles of the roots.

    Args:
        cells: The cells.
        differences: (..., n_cells), d = A - B of one or more pairs of runs.
        confidence: Between 0 and 1; with 0.9, an end is beyond theta exactly where a one-sided test at 5% rejects it.
        draws: Random flips, at least 100.
        seed: Of these; the flips are those of `sign_flip`.

    Returns:
        Lower and upper ends, (...) each; infinite where there are too few clusters for this confidence.

    Raises:
        RequestError: The differences do not fit the cells, one is not a finite number, there are too few draws, or the
            confidence is none.
    """
    _check_draws(draws)
    _check_share("confidence", confidence)
    checked = _checked(cells, differences)
    flips = np.concatenate(list(_flips(cells.n_clusters, draws, seed, cells.n_clusters)))
    if cells.n_clusters > EXACT_CLUSTERS:  # the observed labelling beside random ones
        flips = np.concatenate([np.zeros((1, cells.n_clusters), np.bool_), flips])
    shares = _cluster_sums(cells, np.concatenate([_rows(checked), np.ones((1, cells.n_cells))]), by_setting=False)
    low, high = _not_rejected(shares[:, :-1].T, shares[:, -1], 1.0 - 2.0 * flips, 1 - confidence)
    return low.reshape(checked.shape[:-1]), high.reshape(checked.shape[:-1])


def _not_rejected(shares: Scores, weights: Scores, signs: Scores, level: float) -> tuple[Scores, Scores]:
    """Ends of `sign_flip_interval`, (n,) each.

    Args:
        shares: (n, G), x_c.
        weights: (G,) or (n, G), w_c.
        signs: (n_flips, G), +1 and -1, the observed labelling among them.
        level: 1 - confidence.
    """
    delta = shares.sum(axis=1, keepdims=True)
    u, v = shares @ signs.T, np.atleast_2d(weights @ signs.T)
    roots = []
    for over, under, without in ((delta - u, 1 - v, -np.inf), (delta + u, 1 + v, np.inf)):
        # Nothing is left of 1 - |v| where all clusters have the same sign: every theta is then as good.
        roots.append(np.divide(over, under, out=np.full_like(u, without), where=under > _ROOT))
    open_ended = np.isinf(roots[0]) | np.isinf(roots[1])
    low = np.where(open_ended, -np.inf, np.minimum(*roots))
    high = np.where(open_ended, np.inf, np.maximum(*roots))
    place = int(level * len(signs) * (1 + _ROUNDING))  # p > level where more flips than this count
    return np.partition(low, place, axis=1)[:, place], np.partition(high, -1 - place, axis=1)[:, -1 - place]


def detectable_effect(
    se: float, n_clusters: int, *, confidence: float = 0.95, power: float = 0.8, draws: int = DRAWS
) -> float | None:
    """The true |Delta| that a sign-flip test at the level 1 - confidence finds with this power.

    From `FEW_CLUSTERS` up the flips have the power of t (Bloom 1995, doi:10.1177/0193841X9501900504; 1.5% less with 10
    clusters, 1% with 16): (t_(1 + confidence)/2 + t_power) SE. Below, it is the quantile, over samples of G normal
    clusters of one size, of how far the interval of all differences that the flips do not reject reaches beyond none.

    Args:
        se: Clustered standard error of Delta.
        n_clusters: G.
        confidence: Between 0 and 1.
        power: Between 0 and 1.
        draws: Random flips of the test.

    Returns:
        The difference, in the unit of SE; None where no p-value can be as small as the level.
    """
    if attainable(n_clusters, draws) > (1 - confidence) * (1 + _ROUNDING):
        return None
    if n_clusters < FEW_CLUSTERS:
        return se * _reach_of_flips(n_clusters, confidence, power)
    df = n_clusters - 1
    return se * float(special.stdtrit(df, (1 + confidence) / 2) + special.stdtrit(df, power))


@lru_cache(maxsize=64)
def _reach_of_flips(n_clusters: int, confidence: float, power: float) -> float:
    """The detectable effect of few clusters, in standard errors."""
    noise = np.random.default_rng(n_clusters).standard_normal((_POWER_DRAWS, n_clusters)) / n_clusters
    signs = 1.0 - 2.0 * np.concatenate(list(_flips(n_clusters, 0, 0, n_clusters)))
    low, _ = _not_rejected(noise, np.full(n_clusters, 1 / n_clusters), signs, 1 - confidence)
    return float(np.quantile(-low, power, method="higher") * np.sqrt(n_clusters))


def bootstrap(
    cells: Cells,
    values: ArrayLike,
    *,
    by_setting: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    expanded: bool = True,
) -> Interval:
    """Expanded percentile cluster bootstrap interval of a macro mean.

    Each resample takes G clusters with replacement, a cluster with all its cells, and computes the mean of every
    setting anew, over as many cells as it now has; settings of which no cell was taken are left out of that resample.
    The interval reaches from the Phi(-r) to the Phi(r) quantile of the means, with

        r = sqrt(G / (G - 1)) t_(1 + confidence)/2, G - 1 degrees of freedom,

    for the variance of resampled means has the divisor G, not G - 1, and their quantiles are nearly those of a normal
    variable, not of t. Plain percentiles, (1 - confidence) / 2 and (1 + confidence) / 2, make the interval too short:
    with 48 clusters 93.8% of nominally 95% intervals held the truth in a trial on real runs, expanded ones 94.7%.

    The ends stay within what resamples give. Those of few clusters are too alike for that: below `FEW_CLUSTERS` the
    interval is the estimate +- t_(1 + confidence)/2 sqrt(G / (G - 1)) times the standard deviation of the resampled
    means, with G - 1 degrees of freedom, whatever the figure. With 3 clusters percentiles held the truth in 71 to 77%.

    Args:
        cells: The cells.
        values: (..., n_cells), scores of runs, or their differences; all see the same resamples.
        by_setting: Intervals of each setting's mean instead, with the clusters that have cells there for G.
        draws: Number of resamples, at least 100.
        seed: Of the resamples.
        confidence: Between 0 and 1.
        expanded: Expand; if not, the plain percentiles.

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
    # Settings with equally many cells of every cluster have the same size in every resample. For their macro mean they
    # are as one setting, with the sums of all; and often, as in XQuAD-R, all settings are such.
    layouts, layout_of = np.unique(cells.counts.astype(np.float64), axis=1, return_inverse=True)
    layout_of = layout_of.reshape(-1)  # NumPy 2.0 alone gives it another axis
    column = np.arange(cells.n_settings) if by_setting else layout_of
    n_columns = int(column.max()) + 1
    place = cells.cluster * n_columns + column[cells.setting]
    n_settings = np.bincount(layout_of)[:, None]
    n_clusters = _clusters_of_settings(cells) if by_setting else np.array([cells.n_clusters])
    low, high = np.empty((2, len(rows), len(n_clusters)))
    estimate = macro_mean(cells, checked, by_setting=by_setting)
    estimates = estimate.reshape(len(rows), len(n_clusters))
    step = max(1, _FIGURES // (draws * len(n_clusters)))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        # Sums, not means: a setting's mean in a resample is the sum over its cells by their number there.
        sums = [np.bincount(place, row, cells.n_clusters * n_columns) for row in part]
        sums_of = np.stack(sums).reshape(len(part), cells.n_clusters, n_columns).transpose(0, 2, 1)
        means = np.empty((len(part), len(n_clusters), draws))
        start = 0
        for times in _resamples(cells.n_clusters, draws, seed, len(part) * n_columns):
            now = slice(start, start := start + len(times))
            size = layouts.T @ times.T
            present = size > 0
            total = (sums_of.reshape(-1, cells.n_clusters) @ times.T).reshape(len(part), n_columns, -1)
            if by_setting:
                size = np.where(present, size, np.nan)[layout_of]
                means[:, :, now] = total / size
            else:
                np.divide(total, size, out=total, where=present)  # a sum over no cell is 0 already
                means[:, 0, now] = total.sum(axis=1) / (n_settings * present).sum(axis=0)
        of_part = estimates[first : first + step]
        low[first : first + step], high[first : first + step] = _ends(of_part, means, confidence, n_clusters, expanded)
    low, high = low.reshape(estimate.shape), high.reshape(estimate.shape)
    return Interval(estimate, low, high, confidence, draws, seed, expanded)


def bootstrap_median(
    cells: Cells,
    values: ArrayLike,
    *,
    minus: ArrayLike | None = None,
    by_setting: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    expanded: bool = True,
) -> Interval:
    """Cluster bootstrap interval, as `bootstrap` makes it, of the macro mean over settings of medians of cells.

    What `bootstrap_statistic` gives for that statistic, without a sort per resample: a setting's cells are put in order
    once, and a resample's median is where half of the cells that it has is reached.

    Args:
        cells: The cells.
        values: (..., n_cells), scores of runs; all see the same resamples.
        minus: The same of other runs, or of one run: then the figures are differences, medians of `values` less these.
        by_setting: Intervals of each setting's median instead, with the clusters that have cells there for G.
        draws: Number of resamples, at least 100.
        seed: Of the resamples.
        confidence: Between 0 and 1.
        expanded: Expand; if not, the plain percentiles.

    Returns:
        Results of shape (...), or (..., P) by setting.

    Raises:
        RequestError: The values do not fit the cells or each other, one is not a finite number, there are too few
            draws, the confidence is none, or, by setting, a setting has fewer than two clusters.
    """
    _check_draws(draws)
    _check_share("confidence", confidence)
    if by_setting:
        _check_clusters_of_settings(cells)
    runs = [_checked(cells, values)]
    if minus is not None:
        difference(cells, values, minus)  # says what does not fit
        runs.append(_checked(cells, minus))
    n_clusters = _clusters_of_settings(cells) if by_setting else np.array([cells.n_clusters])

    def figures(times: Scores) -> Scores:
        medians = [
            _medians(cells, _rows(run), times, by_setting).reshape(*run.shape[:-1], len(n_clusters), len(times))
            for run in runs
        ]
        return medians[0] if minus is None else np.asarray(medians[0] - medians[1])

    estimate = figures(np.ones((1, cells.n_clusters)))[..., 0]
    resampled = np.empty((*estimate.shape, draws))
    start = 0
    for times in _resamples(cells.n_clusters, draws, seed, _SEARCHED):
        now = slice(start, start := start + len(times))
        resampled[..., now] = figures(times)
    low, high = _ends(estimate, resampled, confidence, n_clusters, expanded)
    estimate, low, high = (each if by_setting else each.reshape(each.shape[:-1]) for each in (estimate, low, high))
    return Interval(estimate, low, high, confidence, draws, seed, expanded)


def bootstrap_sums(
    sums: ArrayLike,
    figure: SumsFigure,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    expanded: bool = True,
) -> Interval:
    """Cluster bootstrap interval of a figure that needs nothing but sums over cells, as `bootstrap` makes it.

    What `bootstrap_statistic` gives for that statistic, with all resamples at once. Kendall's W is such a figure, and
    so is any smooth function of means: let the numbers of cells be among the sums. For the difference of two runs, let
    the sums be those of both, and the figure subtract.

    Args:
        sums: (G, k), sums over the cells of each cluster, see `cluster_sums`.
        figure: See `SumsFigure`; several figures, as of several runs, see the same resamples.
        draws: Number of resamples, at least 100.
        seed: Of the resamples.
        confidence: Between 0 and 1.
        expanded: Expand; if not, the plain percentiles.

    Returns:
        Results of the shape that the figures have for each resample.

    Raises:
        RequestError: The sums are not a table of at least two clusters, one is not a finite number, there are too few
            draws, the confidence is none, or a figure is not a finite number.
    """
    _check_draws(draws)
    _check_share("confidence", confidence)
    checked = _checked_sums(sums)
    n_clusters = len(checked)
    estimate = _figures(figure, checked.sum(axis=0, keepdims=True))[0]
    blocks = [
        _figures(figure, times @ checked).reshape(len(times), -1)
        for times in _resamples(n_clusters, draws, seed, checked.shape[1])
    ]
    resampled = np.ascontiguousarray(np.concatenate(blocks).T)[:, None]
    low, high = _ends(estimate.reshape(-1, 1), resampled, confidence, np.array([n_clusters]), expanded)
    return Interval(
        np.asarray(estimate),
        low.reshape(estimate.shape),
        high.reshape(estimate.shape),
        confidence,
        draws,
        seed,
        expanded,
    )


def bootstrap_statistic(
    cells: Cells,
    values: ArrayLike,
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    expanded: bool = True,
) -> Interval:
    """Cluster bootstrap interval of any statistic, as `bootstrap` makes it for means, with the same resamples.

    For the difference of two runs, let the values be those of both, (n_cells, 2), and the statistic subtract.
    `bootstrap_median` and `bootstrap_sums` are much faster for what they are made for.

    Args:
        cells: The cells.
        values: (n_cells, ...), what the statistic needs of each cell.
        statistic: Called once per resample, with the cells of the clusters that were taken.
        draws: Number of resamples, at least 100.
        seed: Of the resamples.
        confidence: Between 0 and 1.
        expanded: Expand; if not, the plain percentiles.

    Raises:
        RequestError: The values do not fit the cells, one is not a finite number, there are too few draws, the
            confidence is none, or the statistic gave something else than a finite number.
    """
    _check_draws(draws)
    _check_share("confidence", confidence)
    checked = _checked(cells, values, axis=0)
    order = np.argsort(cells.cluster, kind="stable")
    members = np.split(order, np.cumsum(cells.counts.sum(axis=1))[:-1])
    figures = []
    for times in _resamples(cells.n_clusters, draws, seed, cells.n_clusters):
        for taken in times.astype(np.intp):
            chosen = np.concatenate([members[cluster] for cluster in np.repeat(np.arange(len(taken)), taken)])
            figures.append(_figure(statistic, checked[chosen], cells.setting[chosen]))
    estimate = np.asarray(_figure(statistic, checked, cells.setting))
    resamples = np.array(figures)[None, None]
    low, high = _ends(estimate.reshape(1, 1), resamples, confidence, np.array([cells.n_clusters]), expanded)
    return Interval(estimate, low.reshape(()), high.reshape(()), confidence, draws, seed, expanded)


def cluster_sums(cells: Cells, values: ArrayLike) -> Scores:
    """Sums over the cells of each cluster in each setting, for `bootstrap_sums` and `Contrast.of_sums`.

    Args:
        cells: The cells.
        values: (n_cells,) or (n_cells, k), what to add up. The numbers of cells are there already: `Cells.counts`.

    Returns:
        (G, P) or (G, P, k).

    Raises:
        RequestError: The values do not fit the cells, or one is not a finite number.
    """
    checked = _checked(cells, values, axis=0)
    columns = checked.reshape(cells.n_cells, -1).T
    sums = [np.bincount(_place(cells), column, cells.counts.size) for column in columns]
    return np.asarray(np.stack(sums, axis=-1).reshape(*cells.counts.shape, *checked.shape[1:]), dtype=np.float64)


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
    n_clusters = np.tile(_clusters_of_settings(cells), len(rows)) if by_setting else np.array(cells.n_clusters)
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
    shape = _shape(checked, cells, by_setting)
    delta, se, t, p, low, high, d_z, detectable = (each.reshape(shape) for each in columns)
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
    interval = bootstrap(cells, d, draws=draws, seed=seed, confidence=confidence)
    means = macro_mean(cells, np.stack([of_a, of_b]))
    found = compare_by(cells, Contrast.of_means(cells, d), interval, means, (of_a, of_b))
    analytic = clustered_t(cells, d, confidence=confidence)
    classical = cluster_mean_tests(cells, d)
    return replace(
        found,
        se=float(analytic.se),
        p_t=float(analytic.p),
        p_paired_t=classical.p_t,
        p_wilcoxon=classical.p_wilcoxon,
        d_z=float(analytic.d_z),
        detectable=detectable_effect(float(analytic.se), cells.n_clusters, confidence=confidence, draws=draws),
    )


def compare_by(
    cells: Cells,
    contrast: Contrast,
    interval: Interval,
    figures: Scores,
    scores: tuple[ArrayLike, ArrayLike] | None = None,
) -> Comparison:
    """What is said about run A against run B by any figure: test and interval, without what goes with means only.

    Args:
        cells: The cells.
        contrast: The difference of the figures, one number.
        interval: Its interval, with the draws and the seed of the test.
        figures: (2,), those of A and B.
        scores: (n_cells,) each, of A and B, where cells have scores whose wins and losses can be counted.

    Raises:
        RequestError: A figure is not a finite number.
    """
    flip = flip_test(contrast, draws=interval.draws, seed=interval.seed)
    counted: tuple[int | None, ...] = (None, None, None)
    if scores is not None:
        of_a, of_b = _both(_checked(cells, scores[0]), _checked(cells, scores[1]))
        tied = np.abs(of_a - of_b) <= _ROUNDING * np.maximum(np.abs(of_a), np.abs(of_b))
        counted = int(((of_a > of_b) & ~tied).sum()), int(tied.sum()), int(((of_a < of_b) & ~tied).sum())
    return Comparison(
        n_cells=cells.n_cells,
        n_settings=cells.n_settings,
        n_clusters=cells.n_clusters,
        mean_a=float(figures[0]),
        mean_b=float(figures[1]),
        delta=float(flip.delta.reshape(())),
        low=float(interval.low.reshape(())),
        high=float(interval.high.reshape(())),
        confidence=interval.confidence,
        p=float(flip.p.reshape(())),
        flips=flip.draws,
        exact=flip.exact,
        se=None,
        p_t=None,
        p_paired_t=None,
        p_wilcoxon=None,
        d_z=None,
        detectable=None,
        wins=counted[0],
        ties=counted[1],
        losses=counted[2],
        draws=interval.draws,
        seed=interval.seed,
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


def _checked_sums(sums: ArrayLike) -> Scores:
    """Sums by cluster as float64, (G, k), all of them finite."""
    checked = np.asarray(sums, dtype=np.float64)
    if checked.ndim != 2 or len(checked) < 2:
        raise RequestError(f"sums of shape {checked.shape}: give (n_clusters, k) with at least 2 clusters")
    if not np.isfinite(checked).all():
        cluster, column = np.argwhere(~np.isfinite(checked))[0]
        raise RequestError(f"sum {column} of cluster {cluster} is {checked[cluster, column]}: give finite numbers")
    return checked


def _both(first: Scores, second: Scores) -> tuple[Scores, Scores]:
    """Values of both runs, of one shape."""
    if first.shape != second.shape:
        raise RequestError(f"values of shape {first.shape} against {second.shape}: give the same for both runs")
    return first, second


def _check_draws(draws: int) -> None:
    if draws < 100:
        raise RequestError(f"{draws} draws: take at least 100, better {DRAWS}")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise RequestError(f"{name} {value}: give a number between 0 and 1, such as 0.95")


def _clusters_of_settings(cells: Cells) -> NDArray[np.intp]:
    """(P,), number of clusters that have cells in each setting."""
    return np.asarray((cells.counts > 0).sum(axis=0))


def _check_clusters_of_settings(cells: Cells) -> None:
    n_clusters = _clusters_of_settings(cells)
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


def _shape(checked: Scores, cells: Cells, by_setting: bool) -> tuple[int, ...]:
    """Shape of results for `checked`: the axes that it has besides the cells, and settings last."""
    return checked.shape[:-1] + ((cells.n_settings,) if by_setting else ())


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


def _exchanged(clusters: NDArray[np.int64], figures: Callable[[Scores], Scores], width: int) -> Contrast:
    """The contrast of figures of runs that are put together from the clusters of A and B.

    Args:
        clusters: (G,), numbers of the clusters.
        figures: Figures, (n, ...), of runs that take of A and B what is 1 in (n, 2 G): A's clusters, then B's.
        width: Numbers that a flip needs, which sets how many are taken at a time.
    """
    of_a, of_b = figures(np.repeat([[1.0, 0.0], [0.0, 1.0]], len(clusters), axis=1))
    step = max(1, _BLOCK // width)

    def flipped(flips: NDArray[np.bool_]) -> Scores:
        found = []
        for start in range(0, len(flips), step):
            part = flips[start : start + step]
            kept = np.concatenate([~part, part], axis=1).astype(np.float64)
            found.append(figures(kept) - figures(1 - kept))
        return np.concatenate(found)

    delta = np.asarray(of_a - of_b)
    return Contrast(clusters, delta, _ROUNDING * np.maximum(np.abs(of_a), np.abs(of_b)), flipped)


def _p_of(exceeding: NDArray[np.int64], seen: int, exact: bool) -> Scores:
    """The p-values; the observed labelling is one of all flips, and counts beside random ones."""
    return np.asarray(exceeding / seen if exact else (1 + exceeding) / (1 + seen))


def _resamples(n_clusters: int, draws: int, seed: int, width: int) -> Iterator[Scores]:
    """Blocks (n, G): how often each cluster is taken in each resample. A draw depends on the seed and on G alone."""
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(n_clusters, width))
    for start in range(0, draws, step):
        n = min(step, draws - start)
        taken = generator.integers(n_clusters, size=(n, n_clusters)) + n_clusters * np.arange(n)[:, None]
        yield np.bincount(taken.ravel(), minlength=n * n_clusters).reshape(n, n_clusters).astype(np.float64)


def _medians(cells: Cells, rows: Scores, times: Scores, by_setting: bool) -> Scores:
    """Medians where each cluster's cells count as often as `times` (n, G) says.

    In two steps over the cells of a setting in order of value, in runs of about as many cells as there are runs: how
    many cells a draw has up to the end of each run, for all settings by one product; and then, in the run where half of
    its cells is reached, at which of them.

    Returns:
        (n_rows, P, n), NaN for settings without a cell; or the mean of the others, (n_rows, 1, n).
    """
    by_place = np.argsort(cells.setting, kind="stable")
    members = np.split(by_place, np.cumsum(cells.counts.sum(axis=0))[:-1])
    medians = np.full((len(rows), cells.n_settings, len(times)), np.nan)
    for row, values in enumerate(rows):
        ordered = [chosen[np.argsort(values[chosen])] for chosen in members]
        ends = [_up_to_ends(cells.cluster[order], cells.n_clusters) for order in ordered]
        up_to = np.split(times @ np.concatenate(ends, axis=1), np.cumsum([end.shape[1] for end in ends])[:-1], axis=1)
        for setting, order in enumerate(ordered):
            draws = _Ordered(values[order], cells.cluster[order], times, up_to[setting])
            half = draws.up_to[:, -1] / 2
            some = np.flatnonzero(half)
            middle, reached = draws.reach(some, half[some])
            # Exactly half: the next value that is taken is in the middle, too.
            two = np.flatnonzero(reached == half[some])
            middle[two] = (middle[two] + draws.reach(some[two], half[some[two]] + 0.5)[0]) / 2
            medians[row, setting, some] = middle
    return medians if by_setting else np.asarray(np.nanmean(medians, axis=1, keepdims=True))


def _run_length(n_cells: int) -> int:
    """About as many cells in a run as there are runs."""
    return int(np.ceil(np.sqrt(n_cells)))


def _up_to_ends(cluster: NDArray[np.intp], n_clusters: int) -> Scores:
    """How many cells, whose clusters these are, each cluster has up to the end of each run, (G, n_runs)."""
    run = np.arange(len(cluster)) // _run_length(len(cluster))
    n_runs = int(run[-1]) + 1
    counts = np.bincount(cluster * n_runs + run, minlength=n_clusters * n_runs)
    return np.cumsum(counts.reshape(n_clusters, n_runs), axis=1, dtype=np.float64)


@dataclass(frozen=True)
class _Ordered:
    """Draws of the cells of one setting, in order of value.

    Attributes:
        values: (m,), ascending.
        cluster: (m,), their clusters.
        times: (n, G), how often each draw has the cells of each cluster.
        up_to: (n, n_runs), how many cells it has up to the end of each run.
    """

    values: Scores
    cluster: NDArray[np.intp]
    times: Scores
    up_to: Scores

    def reach(self, draw: NDArray[np.intp], rank: Scores) -> tuple[Scores, Scores]:
        """The first value up to which a draw has at least so many cells, and how many it has.

        Args:
            draw: (k,), the draws.
            rank: (k,), above 0, and at most what the draw has of all cells.
        """
        length = _run_length(len(self.values))
        run = (self.up_to[draw] < rank[:, None]).sum(axis=1)
        before = np.where(run > 0, self.up_to[draw, run - 1], 0.0)
        # The last run may be shorter; what stands for the rest comes after the value that is looked for.
        within = np.minimum(run[:, None] * length + np.arange(length), len(self.values) - 1)
        reached = before[:, None] + np.cumsum(self.times[draw[:, None], self.cluster[within]], axis=1)
        here = np.arange(len(draw)), (reached < rank[:, None]).sum(axis=1)
        return self.values[within[here]], reached[here]


def _figure(statistic: Statistic, values: Scores, setting: NDArray[np.intp]) -> float:
    figure = float(statistic(values, setting))
    if not np.isfinite(figure):
        raise RequestError(f"the statistic gave {figure}: it must be a finite number for every flip and resample")
    return figure


def _figures(figure: SumsFigure, sums: Scores) -> Scores:
    """Figures of rows of sums, (n, ...), all of them finite."""
    found = np.asarray(figure(sums), dtype=np.float64)
    if found.ndim < 1 or len(found) != len(sums):
        raise RequestError(f"the figure gave shape {found.shape} for {len(sums)} rows of sums: give one for every row")
    if not np.isfinite(found).all():
        wrong = found[~np.isfinite(found)][0]
        raise RequestError(f"the figure gave {wrong}: it must be a finite number for every flip and resample")
    return found


def _ends(
    estimate: Scores, figures: Scores, confidence: float, n_clusters: NDArray[np.intp], expanded: bool
) -> tuple[Scores, Scores]:
    """Both ends, (..., m), of the intervals of figures (..., m, draws), which are put in order.

    Draws in which a setting had no cell are NaN there, and left out. The quantiles are NumPy's, by one sort: that is
    several times faster than its search for each.

    Args:
        estimate: (..., m), the figures for the cells as they are.
        figures: The figures of all resamples.
        confidence: Between 0 and 1.
        n_clusters: (m,), the G of each column.
        expanded: See `bootstrap`.
    """
    level = np.full(len(n_clusters), (1 - confidence) / 2)
    wider = np.sqrt(n_clusters / (n_clusters - 1)) * special.stdtrit(n_clusters - 1, (1 + confidence) / 2)
    if expanded:
        level = special.ndtr(-wider)
    figures.sort(axis=-1)  # NaN last
    last = (~np.isnan(figures)).sum(axis=-1) - 1
    ends = []
    for place in (level * last, (1 - level) * last):
        below = place.astype(np.intp)
        above, part = np.minimum(below + 1, last), place - below
        a, b = (np.take_along_axis(figures, each[..., None], axis=-1)[..., 0] for each in (below, above))
        # From the nearer one, so that rounding does not carry it beyond the other.
        ends.append(np.where(part < 0.5, a + part * (b - a), b - (1 - part) * (b - a)))
    few = np.flatnonzero(n_clusters < FEW_CLUSTERS)
    if expanded and len(few):
        reach = wider[few] * np.nanstd(figures[..., few, :], axis=-1)
        ends[0][..., few], ends[1][..., few] = estimate[..., few] - reach, estimate[..., few] + reach
    return ends[0], ends[1]
