"""Two methods with several trainings each: against the definitions written out, SciPy, and simulated nulls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hybrid_bench.errors import RequestError
from hybrid_bench.measures.significance import Cells, clustered_t, macro_mean
from hybrid_bench.measures.trainings import PAIRED_FROM, Methods, compare_methods

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Standard deviations of what makes a score: of the difference on a cluster, of a run, of a run on a cluster."""

    clusters: float
    runs: float
    both: float
    n_clusters: int = 24

    @property
    def cells(self) -> Cells:
        """Clusters of 1 to 4 questions, each in both of two settings."""
        of_question = np.repeat(np.arange(self.n_clusters), 1 + np.arange(self.n_clusters) % 4)
        return Cells.of(np.repeat([0, 1], len(of_question)), np.tile(of_question, 2))

    def draw(self, rng: np.random.Generator, n: tuple[int, int], delta: float = 0.0) -> tuple[Floats, Floats]:
        """Scores of the runs of two methods that differ by delta."""
        cells = self.cells
        difference = delta + self.clusters * rng.standard_normal(self.n_clusters)[cells.cluster]
        runs = []
        for count, shift in zip(n, (difference, 0 * difference), strict=True):
            of_run = self.runs * rng.standard_normal((count, 1))
            of_both = self.both * rng.standard_normal((count, self.n_clusters))[:, cells.cluster]
            runs.append(shift + of_run + of_both + 0.05 * rng.standard_normal((count, cells.n_cells)))
        return runs[0], runs[1]


def by_definition(cells: Cells, a: Floats, b: Floats, paired: bool, confidence: float) -> tuple[float, float]:
    """Variance and degrees of freedom, cell by cell as the module's docstring has them."""

    def se_squared(d: Floats) -> float:
        delta = [np.mean(d[cells.setting == p]) for p in range(cells.n_settings)]
        psi = np.zeros(cells.n_clusters)
        for value, p, c in zip(d, cells.setting.tolist(), cells.cluster.tolist(), strict=True):
            psi[c] += (value - delta[p]) / np.sum(cells.setting == p) / cells.n_settings
        return float(cells.n_clusters / (cells.n_clusters - 1) * np.sum(psi**2))

    whole = se_squared(a.mean(axis=0) - b.mean(axis=0))
    groups = [a - b] if paired else [a, b]
    of_runs, shared = [], 0.0
    for runs in groups:
        n = len(runs)
        means = [np.mean([run[cells.setting == p].mean() for p in range(cells.n_settings)]) for run in runs]
        of_runs.append(float(np.var(means, ddof=1)) / n)
        shared += sum(se_squared(run - runs.mean(axis=0)) for run in runs) / (n - 1) / n
    of_questions = max(whole - shared, 0.0)
    total = sum(of_runs) + of_questions
    below = sum(v**2 / (len(runs) - 1) for v, runs in zip(of_runs, groups, strict=True))
    df = total**2 / (below + of_questions**2 / (cells.n_clusters - 1))
    quantile = 0.5 + confidence / 2
    of_these = stats.t.ppf(quantile, cells.n_clusters - 1) * np.sqrt(whole)
    return (total, df) if stats.t.ppf(quantile, df) * np.sqrt(total) > of_these else (whole, cells.n_clusters - 1)


WORLDS = {
    "questions": World(0.2, 0.01, 0.02),
    "trainings": World(0.05, 0.1, 0.02),
    "both at once": World(0.0, 0.02, 0.15),
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
@pytest.mark.parametrize(("n", "paired"), [((3, 3), False), ((3, 3), True), ((2, 5), False), ((10, 10), True)], ids=str)
def test_equals_the_definition(world: World, n: tuple[int, int], paired: bool) -> None:
    cells = world.cells
    for seed in range(6):  # in some of them the interval of these very runs is the wider one
        a, b = world.draw(np.random.default_rng(seed), n, 0.05)
        ours = compare_methods(cells, a, b, paired=paired, confidence=0.9)
        variance, df = by_definition(cells, a, b, paired, 0.9)
        delta = float(macro_mean(cells, a).mean() - macro_mean(cells, b).mean())
        assert (ours.trainings, ours.paired, ours.n_clusters) == (n, paired, 24)
        assert ours.delta == pytest.approx(delta, abs=1e-12)
        assert ours.mean_a - ours.mean_b == pytest.approx(delta, abs=1e-12)
        assert (ours.se, ours.df) == pytest.approx((np.sqrt(variance), df), rel=1e-9)
        assert ours.p == pytest.approx(2 * float(stats.t.sf(abs(delta) / np.sqrt(variance), df)), rel=1e-9)
        expected = stats.t.interval(0.9, df, delta, np.sqrt(variance))
        assert (ours.low, ours.high) == pytest.approx(expected, abs=1e-12)
        assert ours.interval(0.9) == pytest.approx(expected, abs=1e-12)
        assert ours.p_above(-0.01) == pytest.approx(float(stats.t.sf((delta + 0.01) / np.sqrt(variance), df)), rel=1e-9)
        assert ours.p_below(0.01) == pytest.approx(float(stats.t.sf((0.01 - delta) / np.sqrt(variance), df)), rel=1e-9)
        assert (ours.p < 0.1) == (ours.low > 0 or ours.high < 0)


def test_without_noise_of_questions_is_welch_and_the_paired_t_test() -> None:
    """Every run has one score on all cells: SciPy's tests of the runs' means."""
    cells = World(0, 0, 0).cells
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((5, 1)) + 0.8, rng.standard_normal((4, 1))
    ones = np.ones(cells.n_cells)
    ours = compare_methods(cells, a * ones, b * ones)
    welch = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    assert (ours.p, ours.df) == pytest.approx((welch.pvalue, welch.df), rel=1e-9)
    ours = compare_methods(cells, a[:4] * ones, b * ones, paired=True)
    student = stats.ttest_rel(a[:4, 0], b[:, 0])
    assert (ours.p, ours.df) == pytest.approx((student.pvalue, 3), rel=1e-9)


def test_runs_that_are_all_alike_leave_the_clustered_t_test() -> None:
    world = World(0.2, 0.0, 0.0)
    cells = world.cells
    a, b = (np.repeat(each[:1], 4, axis=0) for each in world.draw(np.random.default_rng(4), (4, 4), 0.1))
    ours, analytic = compare_methods(cells, a, b), clustered_t(cells, a[0] - b[0])
    assert (ours.se, ours.df, ours.p) == pytest.approx((float(analytic.se), 23, float(analytic.p)), rel=1e-9)
    assert ours.detectable() == pytest.approx(float(analytic.detectable), rel=1e-9)
    assert (ours.of_trainings, ours.shared) == (0, 0)


def test_two_pairs_are_taken_apart() -> None:
    world = WORLDS["trainings"]
    a, b = world.draw(np.random.default_rng(5), (2, 2))
    assert PAIRED_FROM == 3
    assert compare_methods(world.cells, a, b, paired=True) == compare_methods(world.cells, a, b)


def test_pairs_profit_from_what_their_seeds_share() -> None:
    world = World(0.02, 0.0, 0.02)
    a, b = world.draw(np.random.default_rng(6), (5, 5))
    common = np.random.default_rng(7).standard_normal((5, 1))
    paired, apart = (compare_methods(world.cells, a + common, b + common, paired=paired) for paired in (True, False))
    assert paired.se < apart.se / 10
    assert paired.se == pytest.approx(compare_methods(world.cells, a, b, paired=True).se, rel=1e-9)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
@pytest.mark.parametrize(("n", "paired"), [(2, False), (3, True), (3, False), (5, True)])
def test_keeps_its_level_where_runs_pooled_by_question_do_not(world: World, n: int, paired: bool) -> None:
    rng = np.random.default_rng(8)
    cells = world.cells
    draws = 250
    found, naive = 0, 0
    for _ in range(draws):
        a, b = world.draw(rng, (n, n))
        found += compare_methods(cells, a, b, paired=paired).p <= 0.05
        naive += float(clustered_t(cells, a.mean(axis=0) - b.mean(axis=0)).p) <= 0.05
    assert found / draws < 0.09
    if world is WORLDS["trainings"]:
        assert naive / draws > 0.3


def test_finds_what_it_says_that_it_would() -> None:
    """With 80% where the variances are those that it was told of."""
    world = World(0.15, 0.05, 0.05)
    rng = np.random.default_rng(9)
    size = float(np.median([compare_methods(world.cells, *world.draw(rng, (4, 4))).detectable() for _ in range(80)]))
    found = [compare_methods(world.cells, *world.draw(rng, (4, 4), size)).p <= 0.05 for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


def enough(trainings: int, n_clusters: int, size: float, world: World) -> float:
    rng = np.random.default_rng(10)
    layout = World(world.clusters, world.runs, world.both, n_clusters)
    pairs = (layout.draw(rng, (trainings, trainings), size) for _ in range(150))
    return float(np.mean([compare_methods(layout.cells, a, b).p <= 0.05 for a, b in pairs]))


def test_how_many_trainings_or_clusters_would_find_a_difference() -> None:
    world = World(0.1, 0.08, 0.02)
    known = [compare_methods(world.cells, *world.draw(np.random.default_rng(seed), (20, 20))) for seed in range(15)]
    told = sorted(each.trainings_for(0.1) or 0 for each in known)[7]
    assert 0.65 < enough(told, 24, 0.1, world) < 0.95
    world = World(0.3, 0.01, 0.1)
    known = [compare_methods(world.cells, *world.draw(np.random.default_rng(seed), (6, 6))) for seed in range(15)]
    told = sorted(each.clusters_for(0.12) or 0 for each in known)[7]
    assert 0.65 < enough(6, told, 0.12, world) < 0.95


def test_the_numbers_are_the_least_and_none_where_nothing_would_do() -> None:
    world = World(0.1, 0.08, 0.02)
    found = compare_methods(world.cells, *world.draw(np.random.default_rng(12), (6, 6)))
    assert found.trainings_for(100.0) == 2
    assert found.clusters_for(100.0) == 2
    limit = 2.9 * float(np.sqrt(found.of_questions))
    assert found.trainings_for(limit * 0.5) is None, "the questions alone vary more"
    assert found.clusters_for(0.01) is None, "the trainings alone vary more"
    n = found.trainings_for(limit * 1.1)
    assert n is not None
    assert n > 6
    m = found.clusters_for(found.detectable() * 0.98)
    assert m is not None
    assert m > 24


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (
            np.zeros((1, 2)),
            np.zeros((2, 2)),
            {},
            "1 run of method A: train it again with other seeds, at least 2 in",
        ),
        (np.zeros((2, 2)), np.zeros(2), {}, "1 run of method B"),
        (np.zeros((3, 2)), np.zeros((4, 2)), {"paired": True}, "3 runs against 4: runs in pairs must be equally many"),
        (np.zeros((2, 2)), np.zeros((2, 3)), {}, "for 2 cells"),
        (np.zeros((2, 2)), np.full((2, 2), np.nan), {}, "the score of cell 0 is nan"),
        (np.zeros((2, 2)), np.zeros((2, 2)), {"confidence": 1}, "confidence 1: give a number between 0 and 1"),
    ],
)
def test_refuses(a: Floats, b: Floats, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        compare_methods(Cells.of([0, 0], [0, 1]), a, b, **options)


def test_nothing_differs() -> None:
    found: Methods = compare_methods(Cells.of([0, 0], [0, 1]), np.zeros((2, 2)), np.zeros((2, 2)))
    assert (found.p, found.se, found.delta, found.p_above(-0.1) < 1e-9, found.p_below(0)) == (1, 0, 0, True, 0.5)
