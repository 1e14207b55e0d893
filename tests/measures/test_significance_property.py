"""What holds for any scores in any layout: names and order do not matter, and A against B mirrors B against A."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_bench.measures.significance import (
    EXACT_CLUSTERS,
    FEW_CLUSTERS,
    Cells,
    Comparison,
    Contrast,
    benjamini_hochberg,
    bootstrap,
    bootstrap_median,
    bootstrap_statistic,
    bootstrap_sums,
    cluster_sums,
    clustered_t,
    compare,
    flip_test,
    holm,
    sign_flip,
    step_down,
    tukey_hsd,
)

# The first call of SciPy's tests takes what time it takes.
LAYOUTS = settings(deadline=None, max_examples=60, derandomize=True)
DRAWS = 100

Floats = NDArray[np.float64]

#: So few that all flips are quickly seen, or just so many that they are random.
_FEW, _MANY = st.integers(2, 6), st.integers(EXACT_CLUSTERS + 1, EXACT_CLUSTERS + 8)
#: Eighths: their differences are exact, ties are frequent, and some clusters have none.
_SCORES = st.integers(0, 8).map(lambda eighths: eighths / 8)
_ANY = st.floats(-1e3, 1e3, allow_subnormal=False)


@dataclass(frozen=True)
class Problem:
    """Parallel columns: setting, cluster and score of three runs."""

    setting: NDArray[np.int64]
    cluster: NDArray[np.int64]
    runs: Floats

    @property
    def cells(self) -> Cells:
        return Cells.of(self.setting, self.cluster)

    def compare(self) -> Comparison:
        return compare(self.cells, self.runs[0], self.runs[1], draws=DRAWS, seed=1)


def numbers(comparison: Comparison) -> dict[str, Any]:
    """Those of a comparison; a detectable effect that is none is endless."""
    return {name: np.inf if value is None else value for name, value in vars(comparison).items()}


@st.composite
def problems(
    draw: st.DrawFn,
    score: st.SearchStrategy[float] = _SCORES,
    clusters: st.SearchStrategy[int] = _FEW | _MANY,
) -> Problem:
    """Layouts with gaps and clusters of different size."""
    n_clusters = draw(clusters)
    further = draw(st.lists(st.integers(0, n_clusters - 1), max_size=30))
    cluster = draw(st.permutations([*range(n_clusters), *further]))
    n = len(cluster)
    setting = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    runs = draw(st.lists(st.lists(score, min_size=n, max_size=n), min_size=3, max_size=3))
    return Problem(np.array(setting), np.array(cluster), np.array(runs, dtype=np.float64))


@LAYOUTS
@given(problems())
def test_swapping_the_runs_negates_the_difference_and_keeps_p(problem: Problem) -> None:
    ours, swapped = problem.compare(), replace(problem, runs=problem.runs[[1, 0, 2]]).compare()
    assert swapped.delta == -ours.delta
    assert (swapped.mean_a, swapped.mean_b) == (ours.mean_b, ours.mean_a)
    assert (swapped.wins, swapped.ties, swapped.losses) == (ours.losses, ours.ties, ours.wins)
    assert (swapped.p, swapped.p_t, swapped.p_paired_t) == (ours.p, ours.p_t, ours.p_paired_t)
    assert (swapped.se, swapped.detectable) == (ours.se, ours.detectable)
    there, here = numbers(swapped), numbers(ours)
    assert there["d_z"] == -here["d_z"]
    np.testing.assert_allclose(there["p_wilcoxon"], here["p_wilcoxon"], rtol=1e-9)
    np.testing.assert_allclose([swapped.low, swapped.high], [-ours.high, -ours.low], rtol=0, atol=1e-12)


@LAYOUTS
@given(problems(), st.integers(-1000, 1000))
def test_adding_a_constant_to_both_changes_nothing(problem: Problem, constant: int) -> None:
    ours, moved = problem.compare(), replace(problem, runs=problem.runs + constant).compare()
    np.testing.assert_allclose(
        [moved.mean_a, moved.mean_b], [ours.mean_a + constant, ours.mean_b + constant], rtol=0, atol=1e-9
    )
    assert replace(moved, mean_a=ours.mean_a, mean_b=ours.mean_b) == ours


@LAYOUTS
@given(problems(), st.randoms(use_true_random=False), st.integers(0, 1000))
def test_relabelling_clusters_changes_nothing(problem: Problem, random: Random, gap: int) -> None:
    names = [number * (gap + 1) for number in range(problem.cluster.max() + 1)]
    random.shuffle(names)
    renamed = replace(problem, cluster=np.array(names)[problem.cluster])
    assert renamed.compare() == problem.compare()
    before, after = (tukey_hsd(each.cells, each.runs, draws=DRAWS) for each in (problem, renamed))
    np.testing.assert_array_equal(after.p, before.p)


@LAYOUTS
@given(problems(clusters=_FEW), st.randoms(use_true_random=False))
def test_the_order_of_the_cells_does_not_matter(problem: Problem, random: Random) -> None:
    """Where flips are random, another order of the clusters draws others; where they are all, nothing changes."""
    order = list(range(len(problem.cluster)))
    random.shuffle(order)
    shuffled = Problem(problem.setting[order], problem.cluster[order], problem.runs[:, order])
    ours, other = problem.compare(), shuffled.compare()
    assert ours.exact
    assert (other.p, other.wins, other.losses) == (ours.p, ours.wins, ours.losses)
    names = ("delta", "se", "detectable", "p_paired_t", "p_wilcoxon")
    there, here = ([numbers(each)[name] for name in names] for each in (other, ours))
    np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-12)


@LAYOUTS
@given(problems(_ANY), st.integers(-30, 30))
def test_the_unit_of_the_scores_does_not_matter(problem: Problem, exponent: int) -> None:
    ours, scaled = problem.compare(), replace(problem, runs=problem.runs * 2.0**exponent).compare()
    assert scaled.p == ours.p
    assert (scaled.p_t, scaled.p_paired_t, scaled.d_z) == (ours.p_t, ours.p_paired_t, ours.d_z)
    there, here = numbers(scaled), numbers(ours)
    assert [there[name] for name in ("low", "high", "se")] == [
        here[name] * 2.0**exponent for name in ("low", "high", "se")
    ]


@LAYOUTS
@given(problems(_ANY))
def test_results_stay_in_their_range(problem: Problem) -> None:
    cells, d = problem.cells, problem.runs[0] - problem.runs[1:]
    for by_setting in (False, bool((np.minimum(cells.counts, 1).sum(axis=0) > 1).all())):
        flip = sign_flip(cells, d, by_setting=by_setting, draws=DRAWS)
        assert ((flip.p >= 1 / max(flip.draws, DRAWS + 1)) & (flip.p <= 1)).all()
        assert flip.exact == (cells.n_clusters <= EXACT_CLUSTERS)
        analytic = clustered_t(cells, d, by_setting=by_setting)
        assert ((analytic.p > 0) & (analytic.p <= 1) & (analytic.se >= 0) & (analytic.detectable >= 0)).all()
        assert ((analytic.low <= analytic.delta) & (analytic.delta <= analytic.high)).all()
        for interval in (
            bootstrap(cells, d, by_setting=by_setting, draws=DRAWS),
            bootstrap_median(cells, d, by_setting=by_setting, draws=DRAWS),
        ):
            assert (interval.low <= interval.high).all()
            # Those of few clusters are no quantiles.
            of_many = cells.n_clusters >= FEW_CLUSTERS and not by_setting
            assert (interval.low >= d.min() - 1e-9).all() or not of_many
            assert (interval.high <= d.max() + 1e-9).all() or not of_many
    ours = numbers(problem.compare())
    assert all(0 < ours[p] <= 1 for p in ("p", "p_t", "p_paired_t", "p_wilcoxon"))
    assert ours["wins"] + ours["ties"] + ours["losses"] == ours["n_cells"]
    tukey = tukey_hsd(cells, problem.runs, draws=DRAWS)
    assert ((tukey.p >= 1 / (DRAWS + 1)) & (tukey.p <= 1)).all()


def macro_medians(values: Floats, setting: NDArray[np.intp]) -> float:
    return float(np.mean([np.median(values[setting == p]) for p in np.unique(setting)]))


@settings(LAYOUTS, max_examples=40)
@given(problems(_SCORES | _ANY))
def test_medians_are_those_of_numpy(problem: Problem) -> None:
    """Few cells and many ties, and settings that some resamples do not have."""
    cells, a = problem.cells, problem.runs[0]
    quick, slow = (
        bootstrap_median(cells, a, draws=DRAWS),
        bootstrap_statistic(cells, a, macro_medians, draws=DRAWS),
    )
    np.testing.assert_allclose([quick.low, quick.high], [slow.low, slow.high], rtol=1e-12, atol=1e-9)


@LAYOUTS
@given(problems())
def test_means_by_sums_are_means(problem: Problem) -> None:
    cells, (a, b, _) = problem.cells, problem.runs
    sizes = cells.counts.sum(axis=0)

    def macro(sums: Floats) -> Floats:
        return np.asarray((sums / sizes).mean(axis=1))

    by_sums = flip_test(Contrast.of_sums(cluster_sums(cells, a), cluster_sums(cells, b), macro), draws=DRAWS)
    assert by_sums.p == sign_flip(cells, a - b, draws=DRAWS).p

    def of_present(sums: Floats) -> Floats:
        totals, numbers = np.split(sums, 2, axis=1)
        means = np.divide(totals, numbers, out=np.zeros_like(totals), where=numbers > 0)
        return np.asarray(means.sum(axis=1) / (numbers > 0).sum(axis=1))

    ours = bootstrap_sums(np.concatenate([cluster_sums(cells, a), cells.counts], axis=1), of_present, draws=DRAWS)
    means = bootstrap(cells, a, draws=DRAWS)
    np.testing.assert_allclose([ours.low, ours.high], [means.low, means.high], rtol=0, atol=1e-12)


@LAYOUTS
@given(problems())
def test_stepping_down_raises_p_in_no_order_of_its_own(problem: Problem) -> None:
    """Nothing below its own p, nothing above 1; the order of the family is free."""
    cells, (a, b, c) = problem.cells, problem.runs
    contrasts = [Contrast.of_means(cells, np.stack([a - c, b - c])), Contrast.of_medians(cells, a, b)]
    found, turned = step_down(contrasts, draws=DRAWS), step_down(contrasts[::-1], draws=DRAWS)
    for p, adjusted in zip(found.p, found.p_adjusted, strict=True):
        assert ((adjusted >= p) & (adjusted <= 1)).all()
    np.testing.assert_array_equal(found.p_adjusted[0], turned.p_adjusted[1])
    np.testing.assert_array_equal(found.p_adjusted[1], turned.p_adjusted[0])


@LAYOUTS
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrections_raise_p_in_its_order(values: list[float]) -> None:
    """And Benjamini-Hochberg, which promises less, raises it less than Holm, and neither more than Bonferroni."""
    p = np.array(values)
    order = np.argsort(p)
    by_holm, by_bh = holm(p), benjamini_hochberg(p)
    for adjusted in (by_holm, by_bh):
        assert (adjusted >= p).all()
        assert (np.diff(adjusted[order]) >= 0).all()
        assert (adjusted <= np.minimum(1, p * len(p) * (1 + 1e-12))).all()
    assert (by_bh <= by_holm * (1 + 1e-12)).all()
