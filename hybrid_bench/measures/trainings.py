"""Whether one method really scores higher than another, where each was trained several times.

The same method trained again, with another seed, gives another run. What is said about a method, and not about one of
its runs, has to hold for other questions and for other trainings: two sources of variance that cross, since every run
is asked all questions. Notation, for methods A and B with n_a and n_b runs, over cells as in `significance`:

- m_i = macro mean of run i, and s^2 the variance of these within a method, with divisor n - 1;
- Delta = mean of A's m_i - mean of B's;
- Q = clustered SE^2 of the difference of each cell's mean over A's runs and its mean over B's: how Delta varies with
  the questions, for these runs;
- S = s_a^2 / n_a + s_b^2 / n_b: how it varies with the runs, for these questions;
- I = the part that is in both, of runs that do better than their method on some clusters and worse on others: the
  clustered SE^2 of each run's deviations from its method's mean, with divisor n - 1 for n, over n, for A and for B.

Q and S both contain I once. So Var(Delta) is estimated by S + max(Q - I, 0); that is the analysis of variance of two
crossed random effects, with clusters for one of them. Delta / SE is taken for t with Satterthwaite's degrees of
freedom, unless the interval of these very runs, from Q with G - 1 degrees, is the wider one: a few trainings may lie
close together by chance, and what does not hold for other questions does not hold for other trainings besides.
`benchmarks/claims.py` measures how often that is wrong, see `results/calibration/claims.md`.

Sources: Satterthwaite (1946, doi:10.2307/3002019) for the degrees of freedom; Searle, Casella & McCulloch (1992,
Variance components, chapter 4) for the components; Bouthillier et al. (2021, arXiv 2103.03098) for seeds as a source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybrid_bench.errors import RequestError
from hybrid_bench.measures.metrics import Scores
from hybrid_bench.measures.significance import Cells, clustered_t, macro_mean

__all__ = ["PAIRED_FROM", "Methods", "compare_methods"]

#: Runs that share their seeds are taken in pairs from so many pairs up. Two have one degree of freedom for the
#: trainings; taken apart they have two, and promise no more than holds where seeds do not make runs less alike.
PAIRED_FROM = 3
#: So many trainings or clusters are the most that are asked for.
_MOST = 10**6


@dataclass(frozen=True)
class Methods:
    """What is said about method A against method B on one measure, as plain numbers.

    Attributes:
        n_cells: Number of cells.
        n_settings: P.
        n_clusters: G.
        trainings: Number of runs of A and of B.
        paired: Whether runs were taken in pairs with one seed.
        mean_a: Mean over the runs of A of their macro means.
        mean_b: The same of B.
        delta: mean_a - mean_b. Positive: A scores higher.
        low: Lower end of the t interval of delta.
        high: Its upper end.
        confidence: Of that interval.
        se: Standard error of delta over questions and trainings.
        df: Satterthwaite's degrees of freedom.
        p: Two-sided p-value of no difference, in (0, 1].
        of_questions: max(Q - I, 0), the variance of delta that other questions bring.
        of_trainings: S, that other trainings bring.
        shared: I, the part of S that falls with the number of clusters too; at most S.
        spread: Standard deviations of the runs of A and of B; of the differences, twice, where they are paired.
    """

    n_cells: int
    n_settings: int
    n_clusters: int
    trainings: tuple[int, int]
    paired: bool
    mean_a: float
    mean_b: float
    delta: float
    low: float
    high: float
    confidence: float
    se: float
    df: float
    p: float
    of_questions: float
    of_trainings: float
    shared: float
    spread: tuple[float, float]

    def p_above(self, bound: float) -> float:
        """One-sided p-value of delta <= bound: small where A is surely more than that above B."""
        return _one_sided(self.delta - bound, self.se, self.df)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of delta >= bound."""
        return _one_sided(bound - self.delta, self.se, self.df)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The t interval with another confidence."""
        reach = float(special.stdtrit(self.df, (1 + confidence) / 2)) * self.se
        return self.delta - reach, self.delta + reach

    def detectable(self, power: float = 0.8) -> float:
        """The true |delta| that the test finds with this power: (t_(1 + confidence)/2 + t_power) SE."""
        return self._reach(self.se, self.df, power)

    def trainings_for(self, size: float, power: float = 0.8) -> int | None:
        """How many trainings of each method would find a true difference of this size, on these questions.

        Returns:
            The least number from 2 up; None if no number would.
        """
        of_runs = [spread**2 for spread in (self.spread[:1] if self.paired else self.spread)]

        def found(n: int) -> bool:
            parts = [*(each / n for each in of_runs), self.of_questions]
            return self._found(parts, n, self.n_clusters, size, power)

        return _least(found, 2)

    def clusters_for(self, size: float, power: float = 0.8) -> int | None:
        """How many clusters of questions like these would find a true difference of this size, with these trainings.

        Returns:
            The least number from 2 up; None if no number would.
        """
        n = min(self.trainings)

        def found(n_clusters: int) -> bool:
            scale = self.n_clusters / n_clusters
            of_trainings = self.of_trainings - self.shared + self.shared * scale
            of_questions = self.of_questions * scale
            halves = [of_trainings] if self.paired else [of_trainings / 2] * 2
            return self._found([*halves, of_questions], n, n_clusters, size, power)

        return _least(found, 2)

    def _found(self, parts: list[float], trainings: int, n_clusters: int, size: float, power: float) -> bool:
        degrees = [trainings - 1] * (len(parts) - 1) + [n_clusters - 1]
        se = float(np.sqrt(sum(parts)))
        return self._reach(se, _satterthwaite(sum(parts), parts, degrees), power) <= size

    def _reach(self, se: float, df: float, power: float) -> float:
        return se * float(special.stdtrit(df, (1 + self.confidence) / 2) + special.stdtrit(df, power))


def compare_methods(
    cells: Cells, a: ArrayLike, b: ArrayLike, *, paired: bool = False, confidence: float = 0.95
) -> Methods:
    """Compare method A with method B on one measure, for other questions and other trainings.

    Args:
        cells: The cells.
        a: (n_a, n_cells), scores of the runs of A.
        b: (n_b, n_cells), scores of those of B.
        paired: Whether the runs at the same place have one seed; they are taken in pairs from `PAIRED_FROM` up.
        confidence: Of the interval; the detectable effect is for a test at the level 1 - confidence.

    Raises:
        RequestError: The scores do not fit the cells, one is not a finite number, a method has a single run, whose
            variance cannot be told, paired methods have not equally many, or the confidence is none.
    """
    runs = tuple(np.atleast_2d(np.asarray(each, dtype=np.float64)) for each in (a, b))
    n = len(runs[0]), len(runs[1])
    for name, count in zip("AB", n, strict=True):
        if count < 2:
            raise RequestError(f"{count} run of method {name}: train it again with other seeds, at least 2 in all")
    if paired and n[0] != n[1]:
        raise RequestError(f"{n[0]} runs against {n[1]}: runs in pairs must be equally many")
    paired = paired and n[0] >= PAIRED_FROM
    means = [macro_mean(cells, each) for each in runs]
    over_runs = clustered_t(cells, runs[0].mean(axis=0) - runs[1].mean(axis=0), confidence=confidence)
    parts = [runs[0] - runs[1]] if paired else list(runs)
    spread = [float(macro_mean(cells, each).std(ddof=1)) for each in parts]
    of_runs = [s**2 / len(each) for s, each in zip(spread, parts, strict=True)]
    shared = sum(_shared(cells, each) for each in parts)
    of_trainings, whole = sum(of_runs), float(over_runs.se) ** 2
    of_questions = max(whole - shared, 0.0)
    variance = of_trainings + of_questions
    df = _satterthwaite(variance, [*of_runs, of_questions], [*(len(each) - 1 for each in parts), cells.n_clusters - 1])
    reach, se, df = max(
        (float(special.stdtrit(degrees, (1 + confidence) / 2) * np.sqrt(squared)), float(np.sqrt(squared)), degrees)
        for squared, degrees in ((variance, df), (whole, float(cells.n_clusters - 1)))
    )
    delta = float(over_runs.delta)
    return Methods(
        n_cells=cells.n_cells,
        n_settings=cells.n_settings,
        n_clusters=cells.n_clusters,
        trainings=n,
        paired=paired,
        mean_a=float(means[0].mean()),
        mean_b=float(means[1].mean()),
        delta=delta,
        low=delta - reach,
        high=delta + reach,
        confidence=confidence,
        se=se,
        df=df,
        p=min(1.0, 2 * _one_sided(abs(delta), se, df)),
        of_questions=of_questions,
        of_trainings=of_trainings,
        shared=min(shared, of_trainings),
        spread=(spread[0], spread[-1]),
    )


def _shared(cells: Cells, runs: Scores) -> float:
    """I of one method, or of pairs: how far its runs differ in what they do well."""
    n = len(runs)
    deviations = runs - runs.mean(axis=0)
    return float(np.square(clustered_t(cells, deviations).se).sum()) / (n - 1) / n


def _satterthwaite(variance: float, parts: list[float], degrees: list[int]) -> float:
    """Degrees of freedom of a sum of independent variances."""
    below = sum(part**2 / df for part, df in zip(parts, degrees, strict=True))
    return variance**2 / below if below > 0 else float(min(degrees))


def _one_sided(distance: float, se: float, df: float) -> float:
    t = distance / se if se > 0 else float(np.sign(distance)) * np.inf
    smallest = float(np.finfo(np.float64).tiny)
    return max(float(special.stdtr(df, -t)), smallest) if distance or se > 0 else 0.5


def _least(found: Callable[[int], bool], least: int) -> int | None:
    """The smallest number from some up for which this holds, and then for all greater ones; None if for none."""
    if not found(_MOST):
        return None
    most = _MOST
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if found(middle) else (middle + 1, most)
    return least
