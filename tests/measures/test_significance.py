"""Significance against its definitions written out, against SciPy, against full enumeration, and on simulated nulls."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hybrid_bench.errors import RequestError
from hybrid_bench.measures import significance
from hybrid_bench.measures.bias import kendall_w
from hybrid_bench.measures.significance import (
    EXACT_CLUSTERS,
    FEW_CLUSTERS,
    Cells,
    Contrast,
    SignFlip,
    Statistic,
    attainable,
    benjamini_hochberg,
    bootstrap,
    bootstrap_median,
    bootstrap_statistic,
    bootstrap_sums,
    cluster_mean_tests,
    cluster_sums,
    clustered_t,
    compare,
    detectable_effect,
    difference,
    flip_test,
    holm,
    macro_mean,
    macro_median,
    sign_flip,
    sign_flip_above,
    sign_flip_interval,
    step_down,
    tukey_hsd,
)

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Sample:
    """Scores of two runs whose cells depend on each other within a cluster; settings and clusters are unbalanced."""

    setting: Places
    cluster: Places
    a: Floats
    b: Floats

    @property
    def cells(self) -> Cells:
        return Cells.of(self.setting, self.cluster)

    @property
    def d(self) -> Floats:
        return self.a - self.b


def sample(seed: int, n_clusters: int, n_settings: int = 4, effect: float = 0.0) -> Sample:
    """Clusters of 1 to 6 questions, each of them asked in some of the settings, always in the first."""
    rng = np.random.default_rng(seed)
    of_question = np.repeat(np.arange(n_clusters), rng.integers(1, 7, n_clusters))
    question, setting = np.meshgrid(np.arange(len(of_question)), np.arange(n_settings), indexing="ij")
    asked = rng.random(question.shape) < 1 - 0.2 * setting
    question, setting = question[asked], setting[asked]
    cluster = of_question[question]
    common = rng.random(len(of_question))[question]
    shift = effect + 0.3 * rng.standard_normal(n_clusters)[cluster]
    a, b = (common + 0.2 * rng.standard_normal(len(question)) for _ in range(2))
    return Sample(setting.astype(np.intp), cluster.astype(np.intp), a + shift, b)


def macro_by_definition(setting: Places, values: Floats) -> float:
    return float(np.mean([np.mean([v for s, v in zip(setting, values, strict=True) if s == p]) for p in set(setting)]))


def all_flips(data: Sample) -> Floats:
    """Delta under all 2^G flips, by the definition."""
    clusters = np.unique(data.cluster)
    flipped = []
    for signs in product([1.0, -1.0], repeat=len(clusters)):
        of_cluster = dict(zip(clusters.tolist(), signs, strict=True))
        sign = np.array([of_cluster[c] for c in data.cluster.tolist()])
        flipped.append(macro_by_definition(data.setting, sign * data.d))
    return np.array(flipped)


def macro_medians(values: Floats, setting: Places) -> float:
    return float(np.mean([np.median(values[setting == p]) for p in np.unique(setting)]))


def expanded_levels(n_clusters: int, confidence: float = 0.95) -> Floats:
    """Between which quantiles an expanded percentile interval reaches (Hesterberg 2015)."""
    reach = np.sqrt(n_clusters / (n_clusters - 1)) * stats.t.ppf((1 + confidence) / 2, n_clusters - 1)
    return np.asarray(stats.norm.cdf([-reach, reach]))


def ends(figures: Any, estimate: float, n_clusters: int, confidence: float = 0.95) -> Floats:
    """The interval from the figures of resamples: expanded percentiles, or t where there are fewer than 10 clusters."""
    if n_clusters >= FEW_CLUSTERS:
        return np.asarray(np.nanquantile(figures, expanded_levels(n_clusters, confidence)))
    se = np.sqrt(n_clusters / (n_clusters - 1)) * np.nanstd(figures)
    return np.asarray(estimate + stats.t.ppf([(1 - confidence) / 2, (1 + confidence) / 2], n_clusters - 1) * se)


def resampled(seed: int, cluster: Places, draws: int) -> list[Places]:
    """The cells of each resample: whole clusters, drawn as `bootstrap` says, by a generator made from the seed."""
    n_clusters = int(cluster.max()) + 1
    members = [np.flatnonzero(cluster == c) for c in range(n_clusters)]
    generator = np.random.default_rng(seed)
    taken = (generator.integers(n_clusters, size=n_clusters) for _ in range(draws))
    return [np.concatenate([members[c] for c in clusters]) for clusters in taken]


def places(seed: int, n_clusters: int, agreement: float = 1.0) -> tuple[Cells, Places]:
    """The places of 4 languages for queries in 3 languages, (n_cells, 4), with some agreement in each of the 3."""
    of_question = np.repeat(np.arange(n_clusters), np.random.default_rng(n_clusters).integers(1, 5, n_clusters))
    query_language, cluster = np.repeat(np.arange(3), len(of_question)), np.tile(of_question, 3)
    rng = np.random.default_rng(seed)
    likings = agreement * rng.standard_normal((3, 4))[query_language]
    likings += rng.standard_normal((n_clusters, 4))[cluster] + rng.standard_normal((len(cluster), 4))
    return Cells.of(query_language, cluster), np.argsort(np.argsort(likings, axis=1), axis=1) + 1


def mean_w(values: Floats, setting: Places) -> float:
    """Kendall's W, averaged over query languages."""
    return float(np.mean([kendall_w(values[setting == p].astype(np.int64)) for p in np.unique(setting)]))


def mean_w_of_sums(sums: Floats) -> Floats:
    """The same from rows of sums: of the places of 4 languages and the number of queries, in each of 3 languages."""
    of_language = sums.reshape(-1, 3, 5)
    m = of_language[:, :, 4:]
    spread = np.square(of_language[:, :, :4] - m * 5 / 2).sum(axis=2)
    return np.asarray((12 * spread / (m[:, :, 0] ** 2 * 60)).mean(axis=1))


def sums_of(cells: Cells, order: Places) -> Floats:
    """(G, 3 * 5)."""
    both = np.concatenate([cluster_sums(cells, order), cells.counts[:, :, None]], axis=2)
    return both.reshape(cells.n_clusters, -1)


def swap_test(
    cells: Cells, a: ArrayLike, b: ArrayLike, statistic: Statistic, *, draws: int = 10_000, seed: int = 0
) -> SignFlip:
    """The test of any statistic by its definition: swap the runs' cells, and compute it again from both."""
    first, second = (np.asarray(run, dtype=np.float64) for run in (a, b))

    def delta(swapped: NDArray[np.bool_]) -> float:
        where = swapped[cells.cluster].reshape(-1, *[1] * (first.ndim - 1))
        of_a = statistic(np.where(where, second, first), cells.setting)
        return of_a - statistic(np.where(where, first, second), cells.setting)

    observed = delta(np.zeros(cells.n_clusters, np.bool_))
    flips = np.concatenate(list(significance._flips(cells.n_clusters, draws, seed, cells.n_clusters)))
    exceeding = sum(abs(delta(flip)) >= abs(observed) - 1e-9 for flip in flips)
    exact = cells.n_clusters <= EXACT_CLUSTERS
    p = exceeding / len(flips) if exact else (1 + exceeding) / (1 + len(flips))
    return SignFlip(np.asarray(observed), np.asarray(p), len(flips), exact, seed)


def monte_carlo(p: Floats | float, draws: int) -> Any:
    """Four standard errors of a p-value from this many draws."""
    return 4 * np.sqrt(np.asarray(p) * (1 - np.asarray(p)) / draws) + 1 / draws


class TestCells:
    def test_clusters_are_numbered_by_their_first_cell(self) -> None:
        cells = Cells.of([4, 4, 9, 9, 4], [70, 20, 70, 90, 20])
        assert cells.cluster.tolist() == [0, 1, 0, 2, 1]
        assert cells.setting.tolist() == [0, 0, 1, 1, 0]
        assert cells.settings.tolist() == [4, 9]
        assert cells.counts.tolist() == [[1, 1], [2, 0], [0, 1]]
        assert (cells.n_cells, cells.n_settings, cells.n_clusters) == (5, 2, 3)

    @pytest.mark.parametrize(
        ("setting", "cluster", "message"),
        [
            ([0, 0, 0], [0, 1], "3 settings but 2 clusters"),
            ([0, 0], [5, 5], "1 cluster: a comparison needs at least 2"),
            ([], [], "one whole number for every cell"),
            ([[0], [0]], [0, 1], "one whole number for every cell"),
            ([0.0, 1.0], [0, 1], "type float64"),
            (["en", "de"], [0, 1], "one whole number for every cell"),
            ([0, 0, 1], [0, -1, 1], "clusters hold -1"),
        ],
    )
    def test_refuses(self, setting: Any, cluster: Any, message: str) -> None:
        with pytest.raises(RequestError, match=message):
            Cells.of(setting, cluster)


class TestMacroMean:
    def test_settings_count_alike_whatever_their_size(self) -> None:
        cells = Cells.of([0, 0, 0, 1], [0, 0, 1, 1])
        assert macro_mean(cells, [1, 2, 3, 10]) == 6  # (2 + 10) / 2; the mean of all cells is 4
        assert macro_mean(cells, [1, 2, 3, 10], by_setting=True).tolist() == [2, 10]

    def test_equals_the_definition(self) -> None:
        data = sample(1, 30)
        both = macro_mean(data.cells, np.stack([data.a, data.b]))
        expected = [macro_by_definition(data.setting, data.a), macro_by_definition(data.setting, data.b)]
        np.testing.assert_allclose(both, expected, rtol=0, atol=1e-12)

    def test_keeps_the_axes_of_the_runs(self) -> None:
        data = sample(2, 5)
        values = np.arange(6)[:, None] + data.a
        shaped = macro_mean(data.cells, values.reshape(2, 3, -1), by_setting=True)
        np.testing.assert_array_equal(shaped.reshape(6, 4), macro_mean(data.cells, values, by_setting=True))


class TestDifference:
    def test_one_run_stands_against_several(self) -> None:
        cells = Cells.of([0, 0], [0, 1])
        assert difference(cells, [[1, 2], [5, 6]], [1, 1]).tolist() == [[0, 1], [4, 5]]

    @pytest.mark.parametrize(
        ("a", "b", "message"),
        [
            ([1, 2, 3], [1, 2], r"shape \(3,\) for 2 cells: the last axis"),
            ([1, 2], 1, r"shape \(\) for 2 cells"),
            (np.zeros((3, 2)), np.zeros((2, 2)), r"shape \(3, 2\) against \(2, 2\)"),
            ([1, float("nan")], [1, 2], "the score of cell 1 is nan"),
            ([1, None], [1, 2], "the score of cell 1 is nan"),
            ([1, 2], [[0, 0], [float("-inf"), 2]], "the score of cell 0 is -inf"),
        ],
    )
    def test_refuses(self, a: Any, b: Any, message: str) -> None:
        with pytest.raises(RequestError, match=message):
            difference(Cells.of([0, 0], [0, 1]), a, b)


class TestSignFlip:
    def test_equals_scipy(self) -> None:
        """One cell per cluster: SciPy's paired permutation test, which looks at all 2^12 flips too."""
        rng = np.random.default_rng(3)
        a, b = rng.random(12) + 0.15, rng.random(12)
        flip = sign_flip(Cells.of(np.zeros(12, int), np.arange(12)), a - b)
        scipy = stats.permutation_test(
            (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=2**12
        )
        assert flip.exact
        assert flip.draws == 2**12
        assert flip.p == pytest.approx(scipy.pvalue, abs=1e-12)
        assert flip.delta == pytest.approx(scipy.statistic, abs=1e-12)

    @pytest.mark.parametrize("seed", range(4))
    def test_exact_is_the_share_of_all_flips(self, seed: int) -> None:
        data = sample(seed, 8, effect=0.1)
        flip, flips = sign_flip(data.cells, data.d), all_flips(data)
        assert flip.delta == pytest.approx(flips[0], abs=1e-12)
        assert flip.p == np.mean(np.abs(flips) >= abs(flips[0]) - 1e-12)
        assert flip.p < 1

    def test_the_p_value_of_equal_clusters_is_two_of_all_flips(self) -> None:
        """Rounding must not tell the flip of everything, or of nothing, from what was observed."""
        cells = Cells.of(np.zeros(30, int), np.repeat(np.arange(10), 3))
        assert sign_flip(cells, np.full(30, 0.1)).p == 2 / 2**10

    @pytest.mark.parametrize("effect", [0.0, 0.1, 0.2])
    def test_random_flips_come_close_to_all(self, effect: float) -> None:
        data = sample(5, 16, effect=effect)
        cells, draws = data.cells, 100_000
        sizes = cells.counts.sum(axis=0)
        shares = np.bincount(cells.cluster, data.d / sizes[cells.setting] / cells.n_settings)
        signs = np.array(list(product([1, -1], repeat=16)))
        exact = np.mean(np.abs(signs @ shares) >= abs(shares.sum()) - 1e-12)
        flip = sign_flip(cells, data.d, draws=draws)
        assert (flip.exact, flip.draws) == (False, draws)
        assert flip.p == pytest.approx(exact, abs=monte_carlo(exact, draws))

    @pytest.mark.parametrize("n_clusters", [240, 933])
    def test_agrees_with_the_analytic_t(self, n_clusters: int) -> None:
        data = sample(6, n_clusters, effect=0.0)
        se = float(clustered_t(data.cells, data.d).se)
        # From no difference to a clear one, in steps of a third of a standard error.
        wanted = np.arange(12)[:, None] / 3 * se
        d = data.d - macro_mean(data.cells, data.d) + wanted
        flip, analytic = sign_flip(data.cells, d, draws=40_000), clustered_t(data.cells, d)
        assert analytic.p.max() > 0.9
        assert analytic.p.min() < 0.001
        np.testing.assert_allclose(flip.p, analytic.p, rtol=0, atol=0.01)

    @pytest.mark.parametrize("n_clusters", [240, 480])
    @pytest.mark.parametrize("by_setting", [False, True])
    def test_agrees_with_the_analytic_t_in_balanced_clusters(self, n_clusters: int, by_setting: bool) -> None:
        """Five questions in each cluster, every question in each of three settings."""
        rng = np.random.default_rng(27)
        cluster = np.tile(np.repeat(np.arange(n_clusters), 5), 3)
        cells = Cells.of(np.repeat(np.arange(3), 5 * n_clusters), cluster)
        d = rng.standard_normal(cells.n_cells) + rng.standard_normal(n_clusters)[cluster]
        d -= macro_mean(cells, d, by_setting=True)[cells.setting]
        shifted = d + np.arange(12)[:, None] / 3 * clustered_t(cells, d).se
        flip = sign_flip(cells, shifted, draws=40_000, by_setting=by_setting)
        analytic = clustered_t(cells, shifted, by_setting=by_setting)
        assert analytic.p.max() > 0.9
        assert analytic.p.min() < 0.003
        np.testing.assert_allclose(flip.p, analytic.p, rtol=0, atol=0.01)

    @pytest.mark.parametrize("n_clusters", [EXACT_CLUSTERS + 1, 70, 300])
    def test_is_never_zero(self, n_clusters: int) -> None:
        cells = Cells.of(np.zeros(n_clusters, int), np.arange(n_clusters))
        flip = sign_flip(cells, np.ones(n_clusters) + np.arange(n_clusters) / 1000, draws=200)
        # 15 clusters have 2 of 2^15 flips that count, the others practically none but the observed.
        assert 1 / 201 <= flip.p <= 2 / 201

    def test_no_difference_at_all(self) -> None:
        for n_clusters in (4, 40):
            cells = Cells.of(np.zeros(n_clusters, int), np.arange(n_clusters))
            assert sign_flip(cells, np.zeros(n_clusters), draws=100).p == 1

    def test_all_flips_of_a_cluster_go_together(self) -> None:
        """Two clusters with differences of one sign: however many cells they have, p is 1/2."""
        cells = Cells.of(np.tile(np.arange(10), 20), np.repeat([0, 1], 100))
        assert sign_flip(cells, np.random.default_rng(0).random(200) + 0.1).p == 0.5

    @pytest.mark.parametrize("n_clusters", [7, 30])
    def test_rows_and_settings_are_tested_as_if_alone(self, n_clusters: int) -> None:
        data = sample(7, n_clusters)
        cells, rows = data.cells, np.stack([data.d, data.d + 0.05, data.a])
        together = sign_flip(cells, rows, draws=500, seed=3)
        by_setting = sign_flip(cells, rows.reshape(3, 1, -1), by_setting=True, draws=500, seed=3)
        assert by_setting.p.shape == by_setting.delta.shape == (3, 1, 4)
        for number, row in enumerate(rows):
            assert together.p[number] == sign_flip(cells, row, draws=500, seed=3).p
            for p in range(4):
                within = np.where(data.setting == p, row * 4, 0.0)  # the others have no say in the macro mean
                alone = sign_flip(cells, within, draws=500, seed=3)
                assert by_setting.p[number, 0, p] == alone.p
                assert by_setting.delta[number, 0, p] == pytest.approx(float(alone.delta), abs=1e-12)

    def test_the_seed_decides(self) -> None:
        data = sample(8, 40)
        ps = [float(sign_flip(data.cells, data.d, draws=500, seed=seed).p) for seed in (1, 1, 2, 3, 4)]
        assert ps[0] == ps[1]
        assert len(set(ps)) > 2

    def test_refuses_few_draws(self) -> None:
        with pytest.raises(RequestError, match="99 draws: take at least 100"):
            sign_flip(Cells.of([0, 0], [0, 1]), [1, 2], draws=99)


class TestSwapTest:
    """The definition that medians and sums are held against, against what is known of it."""

    @pytest.mark.parametrize("n_clusters", [8, 20])
    def test_of_the_macro_mean_is_the_sign_flip_test(self, n_clusters: int) -> None:
        data = sample(9, n_clusters, effect=0.1)
        cells = data.cells
        by_swaps = swap_test(cells, data.a, data.b, lambda values, _: float(macro_mean(cells, values)), draws=300)
        of_means = sign_flip(cells, data.d, draws=300)
        assert by_swaps.p == of_means.p
        assert (by_swaps.exact, by_swaps.draws) == (of_means.exact, of_means.draws)
        assert by_swaps.delta == pytest.approx(float(of_means.delta), abs=1e-12)


class TestAttainable:
    @pytest.mark.parametrize("n_clusters", [2, 3, 6, EXACT_CLUSTERS, EXACT_CLUSTERS + 1, 40])
    def test_is_the_p_value_of_the_clearest_difference(self, n_clusters: int) -> None:
        """All clusters agree: none of 200 random flips of so many gives as much."""
        cells = Cells.of(np.zeros(n_clusters, int), np.arange(n_clusters))
        d = 1 + np.arange(n_clusters) / 1000
        assert sign_flip(cells, d, draws=200, seed=1).p == attainable(n_clusters, 200)


@dataclass(frozen=True)
class Family:
    """Two runs against a third: means in all settings, of each, of squares in some clusters, medians, Kendall's W."""

    contrasts: list[Contrast]
    deltas: Any  # from swapped clusters, by number, to all differences, by the definition


def family(seed: int, n_clusters: int) -> Family:
    data = sample(seed, n_clusters, effect=0.1)
    runs = np.stack([data.a, data.b[::-1]])
    base = data.b
    some = data.cluster % 3 != 1  # another measure, that does not apply to every third cluster
    part = Cells.of(data.setting[some], data.cluster[some])
    (of_places, first), (_, second) = places(seed + 100, n_clusters), places(seed + 101, n_clusters)
    contrasts = [
        Contrast.of_means(data.cells, runs - base),
        Contrast.of_means(data.cells, runs[0] - base, by_setting=True),
        Contrast.of_means(part, (runs**2 - base**2)[:, some]),
        Contrast.of_medians(data.cells, runs, np.stack([base, base])),
        Contrast.of_sums(sums_of(of_places, first), sums_of(of_places, second), mean_w_of_sums),
    ]

    def deltas(swapped: NDArray[np.bool_]) -> Floats:
        def both(run: Floats, cluster: Places) -> tuple[Floats, Floats]:
            other = np.broadcast_to(base, run.shape)
            return np.where(swapped[cluster], other, run), np.where(swapped[cluster], run, other)

        pairs = [both(run, data.cluster) for run in runs]
        found = [macro_by_definition(data.setting, a - b) for a, b in pairs]
        a, b = pairs[0]
        found += [float(np.mean((a - b)[data.setting == p])) for p in range(4)]
        found += [macro_by_definition(data.setting[some], (a**2 - b**2)[some]) for a, b in pairs]
        found += [macro_medians(a, data.setting) - macro_medians(b, data.setting) for a, b in pairs]
        where = swapped[of_places.cluster][:, None]
        one, two = np.where(where, second, first), np.where(where, first, second)
        return np.array([*found, mean_w(one, of_places.setting) - mean_w(two, of_places.setting)])

    return Family(contrasts, deltas)


def stepped_down(flipped: Floats, observed: Floats, exact: bool) -> Floats:
    """Westfall and Young's algorithm 4.1, word for word: (B, m) differences by flip, and the m observed."""
    every = flipped if exact else np.concatenate([observed[None], flipped])
    unit = np.sqrt((every**2).mean(axis=0))

    def size(values: Floats) -> Floats:
        p = np.array([np.mean(np.abs(every) >= np.abs(row) - 1e-9, axis=0) for row in values])
        return np.asarray(np.maximum(np.abs(values) / unit, stats.norm.isf(p / 2)))

    t, t_star = size(observed[None])[0], size(every)
    order = np.argsort(-t)
    adjusted = np.empty(len(t))
    least = 0.0
    for place, column in enumerate(order):
        largest = t_star[:, order[place:]].max(axis=1)
        least = max(least, float(np.mean(largest >= t[column] - 1e-9)))
        adjusted[column] = least
    return adjusted


def flips_of(contrast: Contrast) -> Floats:
    """The differences of a contrast under 500 random flips."""
    flips = np.random.default_rng(9).random((500, len(contrast.clusters))) < 0.5
    return np.asarray(contrast.flipped(flips))


class TestStepDown:
    def test_is_the_definition_over_all_flips(self) -> None:
        """Of every cluster that any contrast has, by brute force from the scores."""
        made = family(40, 7)
        flipped = np.array([made.deltas(np.array(flip)) for flip in product([False, True], repeat=7)])
        found = step_down(made.contrasts)
        assert (found.exact, found.draws, found.n_clusters) == (True, 2**7, 7)
        p = np.mean(np.abs(flipped) >= np.abs(flipped[0]) - 1e-9, axis=0)
        np.testing.assert_allclose(np.concatenate([each.ravel() for each in found.p]), p, rtol=1e-12)
        adjusted = np.concatenate([each.ravel() for each in found.p_adjusted])
        np.testing.assert_allclose(adjusted, stepped_down(flipped, flipped[0], exact=True), rtol=1e-12)
        assert [each.shape for each in found.p_adjusted] == [(2,), (4,), (2,), (2,), ()]
        assert len(np.unique(adjusted)) > 4, "too little differs to tell one definition from another"

    def test_is_the_definition_over_random_flips(self) -> None:
        made = family(41, 17)
        flips = np.concatenate(list(significance._flips(17, 300, 5, 17)))
        flipped = np.array([made.deltas(flip) for flip in flips])
        observed = made.deltas(np.zeros(17, np.bool_))
        found = step_down(made.contrasts, draws=300, seed=5)
        assert (found.exact, found.draws) == (False, 300)
        adjusted = np.concatenate([each.ravel() for each in found.p_adjusted])
        np.testing.assert_allclose(adjusted, stepped_down(flipped, observed, exact=False), rtol=1e-12)

    @pytest.mark.parametrize("n_clusters", [9, 30])
    def test_of_one_difference_is_its_own_test(self, n_clusters: int) -> None:
        data = sample(42, n_clusters, effect=0.1)
        contrast = Contrast.of_medians(data.cells, data.a, data.b)
        alone, found = flip_test(contrast, draws=400, seed=3), step_down([contrast], draws=400, seed=3)
        assert found.p[0] == found.p_adjusted[0] == alone.p

    def test_the_same_differences_twice_cost_nothing(self) -> None:
        data = sample(43, 30, effect=0.08)
        contrast = Contrast.of_means(data.cells, data.d)
        twice = step_down([contrast, contrast], draws=2000)
        assert twice.p_adjusted[0] == twice.p_adjusted[1] == sign_flip(data.cells, data.d, draws=2000).p
        assert 0.001 < twice.p_adjusted[0] < 0.2
        assert holm(np.array(twice.p))[0] == 2 * twice.p[0]

    def test_clusters_are_joined_by_number(self) -> None:
        """Two contrasts of the same clusters in another order are the same, and one of other clusters is not."""
        rng = np.random.default_rng(44)
        d = rng.standard_normal(20) + 0.4
        one = Contrast.of_means(Cells.of([0] * 20, np.arange(20)), d)
        turned = Contrast.of_means(Cells.of([0] * 20, np.arange(20)[::-1]), d[::-1])
        other = Contrast.of_means(Cells.of([0] * 20, 20 + np.arange(20)), d)
        same, apart = step_down([one, turned], draws=4000), step_down([one, other], draws=4000)
        assert same.p_adjusted[0] == same.p[0]
        assert (same.n_clusters, apart.n_clusters) == (20, 40)
        independent = 1 - (1 - apart.p[0]) ** 2  # of two that have nothing in common
        assert apart.p_adjusted[0] == pytest.approx(float(independent), abs=monte_carlo(independent, 4000) + 0.01)

    def test_holds_the_chance_of_any_false_finding(self) -> None:
        """Six measures of two runs, alike in part, where there is no difference: Holm by measure finds some often."""
        rng = np.random.default_rng(45)
        cells = Cells.of([0] * 24, np.arange(24))
        by_measure, together = [], []
        for _ in range(400):
            common = rng.standard_normal((2, 1, 24))
            d = (common + rng.standard_normal((2, 6, 24))) * np.exp(rng.standard_normal(24))
            found = step_down([Contrast.of_means(cells, d)], draws=399, seed=int(rng.integers(2**31)))
            by_measure.append(min(holm(column).min() for column in found.p[0].T) <= 0.05)
            together.append(found.p_adjusted[0].min() <= 0.05)
        assert np.mean(by_measure) > 0.11
        assert 0.02 < np.mean(together) < 0.08

    def test_a_sure_median_is_found_beside_means(self) -> None:
        """All questions differ by far more than anything within a run: a flip's median jumps from run to run."""
        rng = np.random.default_rng(46)
        n = 40
        cells = Cells.of([0] * n, np.arange(n))
        a, b = rng.normal(500, 100, n), rng.normal(12_000, 100, n)
        medians, means = Contrast.of_medians(cells, a, b), Contrast.of_means(cells, rng.standard_normal((30, n)))
        found = step_down([medians, means], draws=2000)
        assert found.p[0] == attainable(n, 2000)
        assert found.p_adjusted[0] <= 40 * attainable(n, 2000)
        units = np.sqrt(np.mean(np.square(np.abs(flips_of(medians)))))
        assert abs(float(medians.delta)) / units < 2, "sizes alone would find it"

    def test_nothing_differs(self) -> None:
        cells = Cells.of([0] * 20, np.arange(20))
        found = step_down([Contrast.of_means(cells, np.stack([np.zeros(20), np.ones(20) + np.arange(20) / 100]))])
        assert found.p_adjusted[0][0] == 1
        assert found.p_adjusted[0][1] == attainable(20)

    def test_refuses(self) -> None:
        with pytest.raises(RequestError, match="no differences to test together"):
            step_down([])
        with pytest.raises(RequestError, match="99 draws"):
            step_down([Contrast.of_means(Cells.of([0, 0], [0, 1]), [1, 2])], draws=99)


class TestMedians:
    @pytest.mark.parametrize("rounded", [False, True])
    @pytest.mark.parametrize("n_clusters", [6, 20])
    def test_is_the_general_test_of_medians(self, n_clusters: int, rounded: bool) -> None:
        data = sample(28, n_clusters, effect=0.2)
        a, b = (np.round(5 * run) if rounded else run for run in (data.a, data.b))
        ours = flip_test(Contrast.of_medians(data.cells, a, b), draws=300, seed=4)
        general = swap_test(data.cells, a, b, macro_medians, draws=300, seed=4)
        assert ours.delta == pytest.approx(float(general.delta), abs=1e-12)
        assert (ours.p, ours.draws, ours.exact) == (general.p, general.draws, general.exact)
        assert 0 < ours.p < 1

    def test_exact_is_the_share_of_all_flips(self) -> None:
        data = sample(29, 7, effect=0.1)
        deltas = []
        for swaps in product([False, True], repeat=7):
            swapped = np.array(swaps)[data.cluster]
            of_a = macro_medians(np.where(swapped, data.b, data.a), data.setting)
            deltas.append(of_a - macro_medians(np.where(swapped, data.a, data.b), data.setting))
        ours = flip_test(Contrast.of_medians(data.cells, data.a, data.b))
        assert ours.delta == pytest.approx(deltas[0], abs=1e-12)
        assert ours.p == np.mean(np.abs(deltas) >= abs(deltas[0]) - 1e-12)

    def test_rows_and_settings_are_tested_as_if_alone(self) -> None:
        data = sample(30, 18)
        a, b = np.stack([data.a, data.b + 0.1, data.b]), np.stack([data.b, data.a, data.b])
        together = flip_test(Contrast.of_medians(data.cells, a, b), draws=400, seed=2)
        assert together.p.tolist() == [
            float(flip_test(Contrast.of_medians(data.cells, *pair), draws=400, seed=2).p)
            for pair in zip(a, b, strict=True)
        ]
        assert together.p[2] == 1
        by_setting = flip_test(
            Contrast.of_medians(data.cells, a[:2, None], b[:2, None], by_setting=True), draws=400, seed=2
        )
        assert by_setting.p.shape == by_setting.delta.shape == (2, 1, 4)
        for p in range(4):

            def median(values: Floats, setting: Places, p: int = p) -> float:
                return float(np.median(values[setting == p]))

            general = swap_test(data.cells, a[1], b[1], median, draws=400, seed=2)
            assert by_setting.p[1, 0, p] == general.p

    def test_refuses(self) -> None:
        cells = Cells.of([0, 0], [0, 1])
        with pytest.raises(RequestError, match=r"\(2,\) against \(1, 2\): give the same for both"):
            Contrast.of_medians(cells, [1, 2], [[1, 2]])
        with pytest.raises(RequestError, match="99 draws: take at least 100"):
            flip_test(Contrast.of_medians(cells, [1, 2], [1, 2]), draws=99)


class TestSums:
    @pytest.mark.parametrize("n_clusters", [6, 20])
    def test_is_the_general_test(self, n_clusters: int) -> None:
        (cells, a), (_, b) = places(31, n_clusters, agreement=3), places(32, n_clusters, agreement=0.5)
        ours = flip_test(Contrast.of_sums(sums_of(cells, a), sums_of(cells, b), mean_w_of_sums), draws=300, seed=4)
        general = swap_test(cells, a, b, mean_w, draws=300, seed=4)
        assert ours.delta == pytest.approx(float(general.delta), abs=1e-12)
        assert (ours.p, ours.draws, ours.exact) == (general.p, general.draws, general.exact)
        assert 0 < ours.p < 1

    def test_of_sums_themselves_is_the_sign_flip_test(self) -> None:
        data = sample(33, 25, effect=0.05)
        a, b = (cluster_sums(data.cells, run) / data.cells.counts.sum(axis=0) for run in (data.a, data.b))
        several = flip_test(
            Contrast.of_sums(a, b, lambda sums: np.column_stack([sums.mean(axis=1), sums])), draws=500, seed=1
        )
        assert several.p.shape == (5,)
        assert several.p[0] == sign_flip(data.cells, data.d, draws=500, seed=1).p
        np.testing.assert_array_equal(
            several.p[1:], sign_flip(data.cells, data.d, by_setting=True, draws=500, seed=1).p
        )

    @pytest.mark.parametrize(
        ("a", "b", "figure", "message"),
        [
            ([[1, 2]], [[1, 2]], mean_w_of_sums, r"shape \(1, 2\): give \(n_clusters, k\) with at least 2 clusters"),
            ([1, 2], [1, 2], mean_w_of_sums, r"shape \(2,\): give"),
            ([[1], [2]], [[1, 2], [3, 4]], mean_w_of_sums, r"\(2, 1\) against \(2, 2\)"),
            ([[1], [np.inf]], [[1], [2]], mean_w_of_sums, "sum 0 of cluster 1 is inf"),
            ([[1], [2]], [[1], [2]], lambda sums: sums.sum(), r"the figure gave shape \(\) for 2 rows"),
            ([[1], [2]], [[1], [2]], lambda sums: sums[:, 0] * np.nan, "the figure gave nan"),
        ],
    )
    def test_refuses(self, a: Any, b: Any, figure: Any, message: str) -> None:
        with pytest.raises(RequestError, match=message):
            Contrast.of_sums(a, b, figure)


class TestClusterSums:
    def test_equal_the_definition(self) -> None:
        data = sample(34, 6)
        values = np.stack([data.a, data.b], axis=1)
        sums = cluster_sums(data.cells, values)
        assert sums.shape == (6, 4, 2)
        for c, p in product(range(6), range(4)):
            rows = (data.cluster == c) & (data.setting == p)
            np.testing.assert_allclose(sums[c, p], values[rows].sum(axis=0), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(cluster_sums(data.cells, data.b), sums[:, :, 1])
        np.testing.assert_array_equal(cluster_sums(data.cells, np.ones(len(data.a))), data.cells.counts)


class TestBootstrap:
    def test_agrees_with_scipy(self) -> None:
        """Plain percentiles, whole clusters, settings of different size; SciPy resamples the clusters' numbers."""
        data = sample(12, 40, effect=0.1)
        members = [np.flatnonzero(data.cluster == cluster) for cluster in range(40)]

        def macro_of(clusters: Places) -> float:
            rows = np.concatenate([members[cluster] for cluster in clusters])
            return float(np.mean([data.d[rows][data.setting[rows] == p].mean() for p in range(4)]))

        scipy = stats.bootstrap(
            (np.arange(40),), macro_of, n_resamples=4000, vectorized=False, method="percentile", random_state=0
        )
        ours = bootstrap(data.cells, data.d, expanded=False)
        width = float(ours.high - ours.low)
        assert ours.estimate == pytest.approx(macro_by_definition(data.setting, data.d), abs=1e-12)
        # A quantile from 4,000 draws strays by about .02 of the interval's width.
        assert ours.low == pytest.approx(scipy.confidence_interval.low, abs=0.08 * width)
        assert ours.high == pytest.approx(scipy.confidence_interval.high, abs=0.08 * width)

    @pytest.mark.parametrize("n_clusters", [2, 3, 9, 48])
    @pytest.mark.parametrize("expanded", [True, False])
    def test_equals_the_definition(self, n_clusters: int, expanded: bool) -> None:
        data = sample(35, n_clusters)
        rows = np.stack([data.a, data.b])
        chosen = resampled(7, data.cells.cluster, 300)
        means = np.array([[macro_by_definition(data.setting[rows_], run[rows_]) for rows_ in chosen] for run in rows])
        ours = bootstrap(data.cells, rows, draws=300, seed=7, confidence=0.9, expanded=expanded)
        assert ours.expanded == expanded
        for number, run in enumerate(rows):
            estimate = macro_by_definition(data.setting, run)
            expected = ends(means[number], estimate, n_clusters, 0.9)
            expected = expected if expanded else np.quantile(means[number], [0.05, 0.95])
            np.testing.assert_allclose([ours.low[number], ours.high[number]], expected, rtol=0, atol=1e-12)

    def test_equals_the_definition_by_setting(self) -> None:
        """Settings differ in the number of clusters that they have, and so in the interval, one of them in its kind."""
        data = sample(36, 10)
        cells = data.cells
        means = np.array(
            [
                [np.mean(data.a[rows][data.setting[rows] == p]) for p in range(4)]
                for rows in resampled(7, cells.cluster, 300)
            ]
        )
        n_clusters = (cells.counts > 0).sum(axis=0)
        assert len(set(n_clusters.tolist())) > 1, "all settings have all clusters, so this shows nothing"
        ours = bootstrap(cells, data.a, by_setting=True, draws=300, seed=7)
        assert n_clusters.min() < FEW_CLUSTERS <= n_clusters.max()
        expected = [ends(means[:, p], float(ours.estimate[p]), int(n_clusters[p])) for p in range(4)]
        np.testing.assert_allclose(np.stack([ours.low, ours.high], axis=1), expected, rtol=0, atol=1e-12)

    def test_many_rows_are_as_if_alone(self) -> None:
        """So many that they are resampled in parts."""
        data = sample(37, 12)
        rows = np.random.default_rng(0).random((50, len(data.a)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hybrid_bench.measures.significance._FIGURES", 7 * 200 * 4)
            together = bootstrap(data.cells, rows, by_setting=True, draws=200)
        alone = [bootstrap(data.cells, row, by_setting=True, draws=200) for row in rows]
        np.testing.assert_allclose(together.low, [each.low for each in alone], rtol=0, atol=1e-12)
        np.testing.assert_allclose(together.high, [each.high for each in alone], rtol=0, atol=1e-12)

    @pytest.mark.parametrize("n_clusters", [2, 3, 5, 9])
    def test_of_few_clusters_is_the_analytic_one(self, n_clusters: int) -> None:
        """Of equal size, where the standard error of resampled means is the clustered one."""
        cells = Cells.of(np.zeros(2 * n_clusters, int), np.repeat(np.arange(n_clusters), 2))
        values = np.random.default_rng(n_clusters).standard_normal(2 * n_clusters)
        ours, analytic = bootstrap(cells, values), clustered_t(cells, values)
        width = float(analytic.high - analytic.low)
        assert ours.low == pytest.approx(float(analytic.low), abs=0.02 * width)
        assert ours.high == pytest.approx(float(analytic.high), abs=0.02 * width)

    @pytest.mark.parametrize("n_clusters", [3, 6, 9])
    def test_of_few_clusters_holds_the_truth(self, n_clusters: int) -> None:
        """And percentiles do not: of 3 clusters they hold it in some three quarters of the draws."""
        cells = Cells.of(np.zeros(n_clusters, int), np.arange(n_clusters))
        values = np.random.default_rng(0).standard_normal((1000, n_clusters))
        ours, plain = (bootstrap(cells, values, draws=500, expanded=expanded) for expanded in (True, False))
        assert 0.93 <= np.mean((ours.low <= 0) & (ours.high >= 0)) <= 0.97
        assert np.mean((plain.low <= 0) & (plain.high >= 0)) < 0.92

    def test_expanded_is_wider_and_as_wide_with_many_clusters(self) -> None:
        for n_clusters, least, most in ((10, 1.1, 1.4), (1000, 1.0, 1.02)):
            data = sample(38, n_clusters)
            plain, ours = (bootstrap(data.cells, data.d, expanded=expanded) for expanded in (False, True))
            assert ours.low < plain.low < plain.high < ours.high
            assert least < (ours.high - ours.low) / (plain.high - plain.low) < most

    def test_agrees_with_the_normal_interval(self) -> None:
        data = sample(13, 500)
        ours, analytic = bootstrap(data.cells, data.d, confidence=0.9), clustered_t(data.cells, data.d, confidence=0.9)
        se = float(analytic.se)
        assert ours.low == pytest.approx(float(analytic.low), abs=0.1 * se)
        assert ours.high == pytest.approx(float(analytic.high), abs=0.1 * se)

    def test_settings_are_averaged_over_the_cells_taken(self) -> None:
        """Two clusters, four resamples: both twice, each once; a quarter of them lacks the second setting."""
        cells = Cells.of([0, 0, 0, 1], [0, 1, 1, 0])
        values = [1.0, 4.0, 4.0, 9.0]
        # Cluster 0 twice: (1 + 9) / 2 = 5. Both: ((1 + 4 + 4) / 3 + 9) / 2 = 6. Cluster 1 twice: 4, no second setting.
        ours = bootstrap(cells, values, draws=2000, confidence=0.999, expanded=False)
        assert (float(ours.low), float(ours.estimate), float(ours.high)) == (4, 6, 6)
        # Between the 35 and 65 per cent quantiles.
        middle = bootstrap(cells, values, draws=2000, confidence=0.3, expanded=False)
        assert (float(middle.low), float(middle.high)) == (5, 6)

    def test_by_setting_is_that_setting_alone(self) -> None:
        data = sample(14, 12)
        ours = bootstrap(data.cells, np.stack([data.a, data.b]), by_setting=True, seed=5)
        assert ours.low.shape == ours.high.shape == ours.estimate.shape == (2, 4)
        for p in range(4):
            rows = data.setting == p
            alone = bootstrap(Cells.of(data.setting[rows], data.cluster[rows]), data.b[rows], seed=5)
            width = float(alone.high - alone.low)
            assert ours.estimate[1, p] == pytest.approx(float(alone.estimate), abs=1e-12)
            assert ours.low[1, p] == pytest.approx(float(alone.low), abs=0.08 * width)
            assert ours.high[1, p] == pytest.approx(float(alone.high), abs=0.08 * width)

    def test_resamples_without_a_setting_are_left_out_of_its_interval(self) -> None:
        """The second setting has cells of 2 of 12 clusters; they are missing in more than a tenth of the resamples."""
        cells = Cells.of([0] * 12 + [1, 1], [*range(12), 0, 1])
        ours = bootstrap(cells, [0.0] * 12 + [2.0, 3.0], by_setting=True, draws=500, expanded=False)
        assert (ours.low[1], ours.high[1]) == (2, 3)

    def test_of_a_statistic_agrees_with_that_of_the_mean(self) -> None:
        data = sample(15, 30)
        ours = bootstrap(data.cells, data.d)
        by_statistic = bootstrap_statistic(
            data.cells,
            np.stack([data.a, data.b], axis=1),
            lambda both, setting: float(np.mean([np.mean(both[setting == p] @ [1, -1]) for p in range(4)])),
            draws=2000,
            seed=1,
        )
        width = float(ours.high - ours.low)
        assert by_statistic.estimate == pytest.approx(float(ours.estimate), abs=1e-12)
        assert by_statistic.low == pytest.approx(float(ours.low), abs=0.1 * width)
        assert by_statistic.high == pytest.approx(float(ours.high), abs=0.1 * width)

    def test_of_a_statistic_takes_whole_clusters(self) -> None:
        cells = Cells.of([0, 0, 0, 0, 0], [3, 1, 3, 1, 1])
        seen: set[tuple[float, ...]] = set()

        def note(values: Floats, setting: Places) -> float:
            assert len(values) == len(setting)
            seen.add(tuple(sorted(values.tolist())))
            return float(np.median(values))

        ours = bootstrap_statistic(cells, [1, 2, 3, 4, 6], note, draws=200, expanded=False)
        # With two clusters half of the medians are 3, that of everything; a quarter 2 and a quarter 4.
        assert seen == {(1, 1, 3, 3), (1, 2, 3, 4, 6), (2, 2, 4, 4, 6, 6)}
        assert (float(ours.low), float(ours.estimate), float(ours.high)) == (2, 3, 4)

    @pytest.mark.parametrize("expanded", [True, False])
    def test_of_a_statistic_equals_the_definition(self, expanded: bool) -> None:
        """And has the resamples of `bootstrap`."""
        data = sample(39, 10)
        medians = [macro_medians(data.a[rows], data.setting[rows]) for rows in resampled(3, data.cells.cluster, 200)]
        ours = bootstrap_statistic(data.cells, data.a, macro_medians, draws=200, seed=3, expanded=expanded)
        levels = expanded_levels(10) if expanded else [0.025, 0.975]
        np.testing.assert_allclose([ours.low, ours.high], np.quantile(medians, levels), rtol=0, atol=1e-12)

        def macro(values: Floats, setting: Places) -> float:
            return macro_by_definition(setting, values)

        by_statistic = bootstrap_statistic(data.cells, data.a, macro, draws=200, seed=3, expanded=expanded)
        quick = bootstrap(data.cells, data.a, draws=200, seed=3, expanded=expanded)
        np.testing.assert_allclose([by_statistic.low, by_statistic.high], [quick.low, quick.high], rtol=0, atol=1e-12)

    def test_refuses(self) -> None:
        data = sample(16, 5)
        with pytest.raises(RequestError, match="confidence 95: give a number between 0 and 1"):
            bootstrap(data.cells, data.d, confidence=95)
        with pytest.raises(RequestError, match="0 draws: take at least 100"):
            bootstrap(data.cells, data.d, draws=0)
        with pytest.raises(RequestError, match="setting 7 has 1 cluster"):
            bootstrap(Cells.of([3, 3, 7], [0, 1, 1]), [1, 2, 3], by_setting=True)
        with pytest.raises(RequestError, match="the statistic gave inf"):
            bootstrap_statistic(data.cells, data.d, lambda *_: float("inf"))


class TestBootstrapMedian:
    @pytest.mark.parametrize("rounded", [False, True])
    @pytest.mark.parametrize("n_clusters", [2, 5, 15, 70])
    def test_is_the_general_interval_of_medians(self, n_clusters: int, rounded: bool) -> None:
        """Where settings are absent from some resamples, numbers of cells are odd and even, and values tie."""
        data = sample(40, n_clusters, n_settings=3)
        rows = np.stack([data.a, data.b])
        rows = np.round(5 * rows) if rounded else rows
        for expanded in (True, False):
            options: dict[str, Any] = {"draws": 200, "seed": 5, "expanded": expanded}
            ours = bootstrap_median(data.cells, rows, **options)
            for number, row in enumerate(rows):
                general = bootstrap_statistic(data.cells, row, macro_medians, **options)
                for end in ("estimate", "low", "high"):
                    value = getattr(general, end)
                    assert getattr(ours, end)[number] == pytest.approx(float(value), abs=1e-12)

    def test_of_differences(self) -> None:
        """Of the medians, not median differences."""
        data = sample(41, 12, effect=0.2)

        def statistic(both: Floats, setting: Places) -> float:
            return macro_medians(both[:, 0], setting) - macro_medians(both[:, 1], setting)

        general = bootstrap_statistic(data.cells, np.stack([data.a, data.b], axis=1), statistic, draws=200)
        ours = bootstrap_median(data.cells, np.stack([data.b, data.a]), minus=data.b, draws=200)
        assert (ours.estimate[0], ours.low[0], ours.high[0]) == (0, 0, 0)
        np.testing.assert_allclose(
            [ours.estimate[1], ours.low[1], ours.high[1]], [general.estimate, general.low, general.high], atol=1e-12
        )
        alone = bootstrap_median(data.cells, data.a, minus=data.b, draws=200)
        assert alone.low.shape == ()
        assert alone.low == ours.low[1]

    def test_by_setting_equals_the_definition(self) -> None:
        data = sample(42, 9)
        cells = data.cells
        with np.errstate(all="raise"):
            ours = bootstrap_median(cells, data.b[None], by_setting=True, draws=300, seed=7)
        assert ours.estimate.shape == ours.low.shape == (1, 4)
        n_clusters = (cells.counts > 0).sum(axis=0)
        for p in range(4):
            chosen = [rows[data.setting[rows] == p] for rows in resampled(7, cells.cluster, 300)]
            medians = [np.median(data.b[rows]) for rows in chosen if len(rows)]
            expected = ends(medians, float(ours.estimate[0, p]), int(n_clusters[p]))
            np.testing.assert_allclose([ours.low[0, p], ours.high[0, p]], expected, rtol=0, atol=1e-12)
            assert ours.estimate[0, p] == pytest.approx(float(np.median(data.b[data.setting == p])), abs=1e-12)

    def test_agrees_with_scipy(self) -> None:
        values = np.random.default_rng(43).exponential(size=201)
        scipy = stats.bootstrap((values,), np.median, n_resamples=4000, method="percentile", random_state=0)
        cells = Cells.of(np.zeros(201, int), np.arange(201))
        ours = bootstrap_median(cells, values, expanded=False)
        width = float(ours.high - ours.low)
        assert ours.low == pytest.approx(scipy.confidence_interval.low, abs=0.08 * width)
        assert ours.high == pytest.approx(scipy.confidence_interval.high, abs=0.08 * width)

    def test_refuses(self) -> None:
        data = sample(44, 5)
        with pytest.raises(RequestError, match="give as many runs on both sides"):
            bootstrap_median(data.cells, np.stack([data.a] * 3), minus=np.stack([data.b] * 2))
        with pytest.raises(RequestError, match="the score of cell 0 is nan"):
            bootstrap_median(data.cells, np.full(len(data.a), np.nan))
        with pytest.raises(RequestError, match="setting 7 has 1 cluster"):
            bootstrap_median(Cells.of([3, 3, 7], [0, 1, 1]), [1, 2, 3], by_setting=True)


class TestBootstrapSums:
    @pytest.mark.parametrize("expanded", [True, False])
    def test_is_the_general_interval_of_kendall_w(self, expanded: bool) -> None:
        cells, order = places(45, 20)
        options: dict[str, Any] = {"draws": 300, "seed": 6, "expanded": expanded}
        ours = bootstrap_sums(sums_of(cells, order), mean_w_of_sums, **options)
        general = bootstrap_statistic(cells, order, mean_w, **options)
        assert ours.low.shape == ()
        np.testing.assert_allclose(
            [ours.estimate, ours.low, ours.high], [general.estimate, general.low, general.high], rtol=0, atol=1e-12
        )
        assert ours.low < ours.estimate < ours.high

    def test_several_figures_at_once(self) -> None:
        """Means of settings and their ratio to the first: as `bootstrap` where that can say it."""
        data = sample(46, 40)
        sums = np.concatenate([cluster_sums(data.cells, data.a), data.cells.counts], axis=1)

        def figures(rows: Floats) -> Floats:
            means = rows[:, :4] / rows[:, 4:]
            return np.stack([means, means / means[:, :1]], axis=1)

        ours = bootstrap_sums(sums, figures, draws=400, seed=2)
        means = bootstrap(data.cells, data.a, by_setting=True, draws=400, seed=2)
        assert ours.low.shape == ours.estimate.shape == (2, 4)
        assert (data.cells.counts > 0).sum(axis=0).max() == 40
        full = (data.cells.counts > 0).sum(axis=0) == 40  # the others expand by fewer clusters
        for end in ("estimate", "low", "high"):
            np.testing.assert_allclose(getattr(ours, end)[0, full], getattr(means, end)[full], rtol=0, atol=1e-12)
        assert (ours.low[1, 0], ours.high[1, 0]) == (1, 1)

    def test_refuses(self) -> None:
        with pytest.raises(RequestError, match=r"shape \(1, 3\): give \(n_clusters, k\)"):
            bootstrap_sums([[1, 2, 3]], mean_w_of_sums)
        with pytest.raises(RequestError, match="the figure gave inf: it must be a finite number"):
            bootstrap_sums([[0.0], [1.0]], lambda sums: np.where(sums[:, 0] > 0, 1.0, np.inf))


class TestClusteredT:
    def test_is_the_paired_t_test_where_every_cluster_is_one_cell(self) -> None:
        rng = np.random.default_rng(17)
        a, b = rng.random(25) + 0.1, rng.random(25)
        ours = clustered_t(Cells.of(np.zeros(25, int), np.arange(25)), a - b, confidence=0.9)
        scipy = stats.ttest_rel(a, b)
        interval = scipy.confidence_interval(0.9)
        d = a - b
        np.testing.assert_allclose(
            [ours.t, ours.p, ours.df, ours.low, ours.high, ours.se, ours.d_z],
            [scipy.statistic, scipy.pvalue, 24, interval.low, interval.high, stats.sem(d), d.mean() / d.std(ddof=1)],
            rtol=1e-12,
        )

    def test_equals_the_definition(self) -> None:
        data = sample(18, 23, effect=0.2)
        deltas = {p: float(np.mean(data.d[data.setting == p])) for p in range(4)}
        sizes = {p: int((data.setting == p).sum()) for p in range(4)}
        psi = dict.fromkeys(data.cluster.tolist(), 0.0)
        for p, c, d in zip(data.setting.tolist(), data.cluster.tolist(), data.d.tolist(), strict=True):
            psi[c] += (d - deltas[p]) / sizes[p] / 4
        se = np.sqrt(23 / 22 * sum(value**2 for value in psi.values()))
        ours = clustered_t(data.cells, data.d)
        delta = np.mean(list(deltas.values()))
        reach = stats.t.ppf(0.975, 22)
        np.testing.assert_allclose(
            [ours.delta, ours.se, ours.t, ours.low, ours.high, ours.d_z, ours.p],
            [
                delta,
                se,
                delta / se,
                delta - reach * se,
                delta + reach * se,
                delta / 23 / np.std(list(psi.values()), ddof=1),
                2 * stats.t.sf(delta / se, 22),
            ],
            rtol=1e-12,
        )

    @pytest.mark.parametrize("power", [0.8, 0.95])
    def test_the_detectable_effect_is_found_with_this_power(self, power: float) -> None:
        """The power of a t-test, from the noncentral t distribution."""
        data = sample(19, 48)
        ours = clustered_t(data.cells, data.d, power=power)
        shift = float(ours.detectable / ours.se)
        assert stats.nct.sf(stats.t.ppf(0.975, 47), 47, shift) == pytest.approx(power, abs=0.005)

    @pytest.mark.parametrize("n_clusters", [2, 3, 4, 12])
    def test_the_detectable_effect_has_quantiles_of_t(self, n_clusters: int) -> None:
        """Not of the normal distribution, from which they are far with few clusters."""
        data = sample(46, n_clusters)
        ours = clustered_t(data.cells, data.d, confidence=0.9, power=0.7)
        reach = float(np.sum(stats.t.ppf([0.95, 0.7], n_clusters - 1)))
        assert ours.detectable == pytest.approx(reach * float(ours.se), rel=1e-9)

    def test_by_setting_is_that_setting_alone(self) -> None:
        data = sample(20, 9)
        ours = clustered_t(data.cells, np.stack([data.d, data.a]), by_setting=True)
        for p in range(4):
            rows = data.setting == p
            alone = clustered_t(Cells.of(data.setting[rows], data.cluster[rows]), data.a[rows])
            for name in ("delta", "se", "t", "df", "p", "low", "high", "d_z", "detectable"):
                value = getattr(ours, name)
                assert value.shape == (2, 4)
                assert value[1, p] == pytest.approx(float(getattr(alone, name)), rel=1e-12)
        assert ours.df.min() < 8, "all settings have all clusters, so this shows nothing"

    def test_no_variation_between_clusters(self) -> None:
        cells = Cells.of([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
        same = clustered_t(cells, np.array([[0.1] * 6, [-0.1] * 6, [0.0] * 6]))
        assert same.se.tolist() == [0, 0, 0]
        assert same.t.tolist() == [np.inf, -np.inf, 0]
        assert (same.p[:2] > 0).all()
        assert (same.p[:2] < 1e-300).all()
        assert same.p[2] == 1
        np.testing.assert_allclose([same.low, same.high], [[0.1, -0.1, 0]] * 2, rtol=1e-12)

    def test_is_never_zero(self) -> None:
        cells = Cells.of(np.zeros(5000, int), np.arange(5000))
        assert 0 < clustered_t(cells, 1 + np.arange(5000) / 1e6).p < 1e-300

    def test_refuses(self) -> None:
        data = sample(21, 5)
        with pytest.raises(RequestError, match="power 1: give a number between 0 and 1"):
            clustered_t(data.cells, data.d, power=1)
        with pytest.raises(RequestError, match="setting 7 has 1 cluster"):
            clustered_t(Cells.of([3, 3, 7], [0, 1, 1]), [1, 2, 3], by_setting=True)


class TestDetectableEffect:
    @pytest.mark.parametrize("n_clusters", [6, 8, 12, 30])
    def test_is_found_with_this_power_by_the_sign_flip_test(self, n_clusters: int) -> None:
        """In normal clusters of one size: not by t, which has 66% there with 6 clusters where it says 80%."""
        effect = detectable_effect(1 / np.sqrt(n_clusters), n_clusters)
        assert effect is not None
        cells = Cells.of(np.zeros(n_clusters, int), np.arange(n_clusters))
        d = np.random.default_rng(1).standard_normal((4000, n_clusters)) + effect
        found = np.mean(sign_flip(cells, d, draws=999).p <= 0.05)
        assert found == pytest.approx(0.8, abs=0.025)

    @pytest.mark.parametrize("n_clusters", [FEW_CLUSTERS, 15, 48])
    def test_with_more_clusters_is_that_of_t(self, n_clusters: int) -> None:
        data = sample(28, n_clusters)
        analytic = clustered_t(data.cells, data.d)
        assert detectable_effect(float(analytic.se), n_clusters) == pytest.approx(float(analytic.detectable), rel=1e-12)

    def test_the_formulas_meet(self) -> None:
        below, above = detectable_effect(1, FEW_CLUSTERS - 1), detectable_effect(1, FEW_CLUSTERS)
        assert below is not None
        assert above is not None
        assert 1 < below / above < 1.05

    def test_none_where_the_level_cannot_be_reached(self) -> None:
        assert detectable_effect(1, 5) is None
        assert detectable_effect(1, 6) is not None
        assert detectable_effect(1, 7, confidence=0.99) is None
        assert detectable_effect(1, 40, confidence=0.995, draws=100) is None


class TestSignFlipInterval:
    @pytest.mark.parametrize("n_clusters", [7, 25])
    @pytest.mark.parametrize("confidence", [0.95, 0.9])
    def test_holds_what_the_test_does_not_reject(self, n_clusters: int, confidence: float) -> None:
        """The definition: shifted by what is a little within an end, or beyond it, the test says so."""
        data = sample(47, n_clusters, effect=0.1)
        low, high = sign_flip_interval(data.cells, data.d, confidence=confidence, draws=500, seed=2)
        for theta, inside in ((low - 1e-7, False), (low + 1e-7, True), (high - 1e-7, True), (high + 1e-7, False)):
            p = sign_flip(data.cells, data.d - theta, draws=500, seed=2).p
            assert (p > 1 - confidence) == inside
        assert low < macro_mean(data.cells, data.d) < high

    def test_is_endless_where_the_level_cannot_be_reached(self) -> None:
        data = sample(48, 5)
        assert np.isinf(sign_flip_interval(data.cells, data.d)).all()
        low, high = sign_flip_interval(data.cells, np.stack([data.d, data.a]), confidence=0.9)
        assert np.isfinite([low, high]).all()
        assert low.shape == (2,)

    def test_comes_close_to_t(self) -> None:
        data = sample(49, 200)
        low, high = sign_flip_interval(data.cells, data.d)
        analytic = clustered_t(data.cells, data.d)
        np.testing.assert_allclose([low, high], [analytic.low, analytic.high], atol=0.15 * float(analytic.se))


class TestSignFlipAbove:
    def test_exact_is_the_share_of_all_flips(self) -> None:
        data = sample(51, 7, effect=0.1)
        for bound in (-0.1, 0.0, 0.3):
            flips = all_flips(Sample(data.setting, data.cluster, data.a - bound, data.b))
            expected = np.mean(flips >= flips[0] - 1e-12)
            assert sign_flip_above(data.cells, data.d, bound) == expected

    @pytest.mark.parametrize("n_clusters", [8, 30])
    def test_is_half_of_the_two_sided_on_its_side(self, n_clusters: int) -> None:
        data = sample(52, n_clusters)
        delta = float(macro_mean(data.cells, data.d))
        for bound in (delta - 0.05, delta - 0.01):
            p = sign_flip(data.cells, data.d - bound, draws=300, seed=1).p
            assert sign_flip_above(data.cells, data.d, bound, draws=300, seed=1) == pytest.approx(float(p) / 2)
            assert sign_flip_above(data.cells, -data.d, -bound, draws=300, seed=1) > 1 - p / 2 - 1e-12

    def test_never_contradicts_the_interval(self) -> None:
        data = sample(53, 20, effect=0.1)
        low, _ = sign_flip_interval(data.cells, data.d, confidence=0.9, draws=500, seed=2)
        ps = [sign_flip_above(data.cells, data.d, float(low) + off, draws=500, seed=2) for off in (-1e-7, 1e-7)]
        assert ps[0] <= 0.05 < ps[1]


class TestMacroMedian:
    def test_equals_the_definition(self) -> None:
        data = sample(50, 9)
        ours = macro_median(data.cells, np.stack([data.a, data.b]))
        np.testing.assert_allclose(ours, [macro_medians(run, data.setting) for run in (data.a, data.b)], atol=1e-12)


class TestClusterMeans:
    @pytest.mark.parametrize(("n_clusters", "effect"), [(6, 0.0), (20, 0.1), (120, 0.02)])
    def test_equals_scipy_on_the_means(self, n_clusters: int, effect: float) -> None:
        data = sample(22, n_clusters, effect=effect)

        def means(scores: Floats) -> list[float]:
            rows = [data.cluster == c for c in range(n_clusters)]
            return [macro_by_definition(data.setting[row], scores[row]) for row in rows]

        ours, of_a, of_b = cluster_mean_tests(data.cells, data.d), means(data.a), means(data.b)
        student, wilcoxon = stats.ttest_rel(of_a, of_b), stats.wilcoxon(np.subtract(of_a, of_b))
        np.testing.assert_allclose(
            [ours.mean, ours.t, ours.p_t, ours.w, ours.p_wilcoxon],
            [
                np.mean(of_a) - np.mean(of_b),
                student.statistic,
                student.pvalue,
                wilcoxon.statistic,
                wilcoxon.pvalue,
            ],
            rtol=1e-9,
        )
        assert ours.n_clusters == n_clusters

    def test_means_that_differ_by_rounding_only_tie(self) -> None:
        cells = Cells.of(np.zeros(8, int), np.repeat(np.arange(4), 2))
        d = [0.1, 0.2, 0.15, 0.15, -0.3, 0.0, 0.1 + 0.2, -0.3]  # means .15, .15, -.15, and 5e-17 for 0
        assert np.mean(d[6:]) != 0
        ours = cluster_mean_tests(cells, d)
        assert ours.w == 2  # ranks 2, 2, 2 without the cluster at 0
        assert ours.t == pytest.approx(float(stats.ttest_1samp([1, 1, -1, 0], 0).statistic))

    @pytest.mark.parametrize(("d", "t"), [(0.1, np.inf), (-0.1, -np.inf), (0.0, 0.0)])
    def test_no_variation_between_clusters(self, d: float, t: float) -> None:
        ours = cluster_mean_tests(Cells.of([0] * 9, [0, 0, 1, 1, 1, 2, 2, 2, 2]), np.full(9, d))
        assert ours.t == t
        assert ours.p_t == 1 if d == 0 else 0 < ours.p_t < 1e-300
        assert ours.p_wilcoxon == (1 if d == 0 else 0.25)

    def test_refuses_several_pairs(self) -> None:
        with pytest.raises(RequestError, match="one pair of runs at a time"):
            cluster_mean_tests(Cells.of([0, 0], [0, 1]), [[1, 2], [3, 4]])


class TestCorrections:
    def test_holm_by_hand(self) -> None:
        # .005 * 4, .01 * 3, .03 * 2, and .04 * 1 raised to what came before it
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
        np.testing.assert_allclose(holm([0.5, 0.4, 0.4]), [1, 1, 1])
        np.testing.assert_allclose(holm([0.02]), [0.02])

    def test_benjamini_hochberg_by_hand(self) -> None:
        # .005 * 4 / 1, .01 * 4 / 2, .03 * 4 / 3, .04 * 4 / 4, each at most what comes after it
        np.testing.assert_allclose(benjamini_hochberg([0.01, 0.04, 0.03, 0.005]), [0.02, 0.04, 0.04, 0.02], rtol=1e-12)

    @pytest.mark.parametrize("n", [1, 2, 37, 110])
    def test_benjamini_hochberg_equals_scipy(self, n: int) -> None:
        p = np.random.default_rng(n).random(n).round(2) ** 2
        np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), rtol=1e-12)

    @pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
    def test_keep_the_shape(self, correct: Any) -> None:
        p = np.random.default_rng(2).random((11, 11))
        np.testing.assert_array_equal(correct(p), correct(p.ravel()).reshape(11, 11))
        assert correct([]).shape == (0,)

    @pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
    @pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1])
    def test_refuse(self, correct: Any, wrong: float) -> None:
        with pytest.raises(RequestError, match=f"{wrong} is no p-value"):
            correct([0.1, wrong])


class TestTukeyHSD:
    def test_comes_close_to_all_permutations(self) -> None:
        data = sample(23, 5, effect=0.4)
        runs = np.stack([data.a, data.b, data.b + 0.3 * data.a])
        ranges = []
        for chosen in product(permutations(range(3)), repeat=5):
            order = np.array(chosen)[data.cluster].T
            means = macro_mean(data.cells, np.take_along_axis(runs, order, axis=0))
            ranges.append(means.max() - means.min())
        observed = [macro_by_definition(data.setting, run) for run in runs]
        delta = np.subtract.outer(observed, observed)
        expected = np.mean(np.array(ranges)[:, None, None] >= np.abs(delta) - 1e-12, axis=0)
        ours = tukey_hsd(data.cells, runs, draws=50_000)
        np.testing.assert_allclose(ours.delta, delta, rtol=0, atol=1e-12)
        assert (np.abs(ours.p - expected) <= monte_carlo(expected, 50_000)).all(), (ours.p, expected)
        assert len(np.unique(expected)) == 4, "the pairs should differ, and the diagonal be 1"
        np.testing.assert_array_equal(ours.p, ours.p.T)
        assert (np.diag(ours.p) == 1).all()

    def test_of_two_runs_is_the_sign_flip_test(self) -> None:
        data = sample(24, 60, effect=0.05)
        ours = tukey_hsd(data.cells, np.stack([data.a, data.b]), draws=20_000)
        p = float(sign_flip(data.cells, data.d, draws=100_000).p)
        assert 0.01 < p < 0.9
        assert ours.p[0, 1] == pytest.approx(p, abs=monte_carlo(p, 20_000))

    def test_is_never_zero(self) -> None:
        cells = Cells.of(np.zeros(100, int), np.arange(100))
        runs = np.arange(4)[:, None] + np.random.default_rng(0).random((4, 100))
        assert tukey_hsd(cells, runs, draws=200).p.min() == 1 / 201

    def test_rounding_does_not_break_ties(self) -> None:
        """In three equal clusters the range is that of the outer runs where all agree on both: once in 36 draws."""
        cells = Cells.of([0] * 9, np.repeat([0, 1, 2], 3))
        for runs in np.random.default_rng(0).random((5, 3)):
            ours = tukey_hsd(cells, np.tile(runs[:, None], 9), draws=5000)
            assert ours.p.min() == pytest.approx(1 / 36, abs=monte_carlo(1 / 36, 5000))

    def test_what_runs_have_in_common_does_not_matter(self) -> None:
        data = sample(25, 30)
        runs = np.random.default_rng(0).integers(0, 65, (4, len(data.d))) / 64
        common = 2.0**36 * (data.cluster + 1)
        np.testing.assert_array_equal(
            tukey_hsd(data.cells, runs, draws=300).p, tukey_hsd(data.cells, runs + common, draws=300).p
        )

    @pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 2, 4)])
    def test_refuses(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(RequestError, match="with at least 2 runs"):
            tukey_hsd(Cells.of([0] * 4, range(4)), np.zeros(shape))


class TestCompare:
    def test_gathers_what_the_parts_say(self) -> None:
        data = sample(26, 30, effect=0.1)
        ours = compare(data.cells, data.a, data.b, draws=400, seed=9, confidence=0.9)
        flip = sign_flip(data.cells, data.d, draws=400, seed=9)
        interval = bootstrap(data.cells, data.d, draws=400, seed=9, confidence=0.9)
        analytic = clustered_t(data.cells, data.d, confidence=0.9)
        classical = cluster_mean_tests(data.cells, data.d)
        assert (ours.n_cells, ours.n_settings, ours.n_clusters) == (len(data.d), 4, 30)
        assert (ours.draws, ours.seed, ours.confidence, ours.exact) == (400, 9, 0.9, False)
        assert [ours.delta, ours.p, ours.low, ours.high] == list(
            map(float, (flip.delta, flip.p, interval.low, interval.high))
        )
        assert [ours.se, ours.p_t, ours.d_z] == list(map(float, (analytic.se, analytic.p, analytic.d_z)))
        assert (ours.p_paired_t, ours.p_wilcoxon) == (classical.p_t, classical.p_wilcoxon)
        assert ours.detectable == analytic.detectable
        assert (ours.flips, ours.attainable) == (400, 1 / 401)
        assert ours.mean_a - ours.mean_b == pytest.approx(ours.delta, abs=1e-12)
        assert (ours.wins, ours.ties, ours.losses) == ((data.d > 0).sum(), 0, (data.d < 0).sum())

    @pytest.mark.parametrize("n_clusters", [2, 3, 5])
    def test_no_effect_is_detectable_where_no_p_value_is_small_enough(self, n_clusters: int) -> None:
        data = sample(27, n_clusters, effect=3.0)
        ours = compare(data.cells, data.a, data.b, draws=400)
        assert ours.p == ours.attainable == 2 ** (1 - n_clusters) > 0.05
        assert (ours.flips, ours.exact, ours.detectable) == (2**n_clusters, True, None)
        assert compare(data.cells, data.a, data.b, draws=400, confidence=0.4).detectable is not None

    def test_scores_that_differ_by_rounding_only_tie(self) -> None:
        ours = compare(Cells.of([0] * 5, range(5)), [0.1 + 0.2, 1, 0, 0.5, 0.7], [0.3, 0.9, 0, 0.4, 0.8])
        assert (ours.wins, ours.ties, ours.losses) == (2, 2, 1)

    def test_refuses_several_runs(self) -> None:
        with pytest.raises(RequestError, match="one run on either side"):
            compare(Cells.of([0, 0], [0, 1]), [[1, 2]], [1, 2])


@dataclass(frozen=True)
class Null:
    """Differences in which A and B are exchangeable by article: d is (600, n_cells), a draw of the labels per row."""

    setting: Places
    article: Places
    question: Places
    d: Floats


@pytest.fixture(scope="module")
def null() -> Null:
    rng = np.random.default_rng(0)
    article_of = np.repeat(np.arange(30), rng.integers(4, 13, 30))
    n = len(article_of)
    effect = 0.3 * rng.standard_normal(30)[article_of] + 0.3 * rng.standard_normal(n)
    d = (effect + 0.5 * rng.standard_normal((12, n))).ravel()
    setting, question = np.repeat(np.arange(12), n), np.tile(np.arange(n), 12)
    article = article_of[question]
    d -= macro_mean(Cells.of(setting, article), d)
    return Null(setting, article, question, d * rng.choice([-1.0, 1.0], (600, 30))[:, article])


class TestCalibration:
    """Labels swapped at random by article. Tests that know the articles keep their level, those that do not, do not."""

    @pytest.mark.parametrize("test", [sign_flip, clustered_t])
    def test_article_clusters_keep_the_level(self, test: Any, null: Null) -> None:
        options = {"draws": 2000} if test is sign_flip else {}
        rejected = np.mean(test(Cells.of(null.setting, null.article), null.d, **options).p <= 0.05)
        assert 0.03 <= rejected <= 0.07

    def test_the_interval_holds_the_truth(self, null: Null) -> None:
        interval = bootstrap(Cells.of(null.setting, null.article), null.d, draws=1000)
        assert 0.92 <= np.mean((interval.low <= 0) & (interval.high >= 0)) <= 0.97

    def test_smaller_clusters_do_not(self, null: Null) -> None:
        assert np.mean(sign_flip(Cells.of(null.setting, null.question), null.d, draws=2000).p <= 0.05) > 0.15

    def test_a_pooled_t_test_does_not(self, null: Null) -> None:
        assert np.mean(stats.ttest_1samp(null.d, 0, axis=1).pvalue <= 0.05) > 0.4


def test_speed() -> None:
    """5 runs over XQuAD-R's 132 settings: 0.2 s for all pairs, 0.2 s for Tukey's HSD, on two cores."""
    rng = np.random.default_rng(0)
    setting, question = np.repeat(np.arange(132), 1190), np.tile(np.arange(1190), 132)
    cells = Cells.of(setting, np.arange(1190)[question] * 240 // 1190)
    runs = rng.random((5, cells.n_cells))
    pairs = np.array([(i, j) for i in range(5) for j in range(i)])
    began = time.perf_counter()
    d = runs[pairs[:, 0]] - runs[pairs[:, 1]]
    assert sign_flip(cells, d).p.shape == (10,)
    assert sign_flip(cells, d, by_setting=True).p.shape == (10, 132)
    assert tukey_hsd(cells, runs).p.shape == (5, 5)
    assert bootstrap(cells, runs).low.shape == (5,)
    assert time.perf_counter() - began < 5
