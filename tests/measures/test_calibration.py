"""The calibration of tests and intervals, on small cases whose answer is known, and the real demo runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import stats

from hybrid_bench.errors import DataError
from hybrid_bench.measures.significance import Cells, bootstrap, clustered_t, sign_flip
from hybrid_bench.runs.result_files import table_path

# The benchmarks are scripts, on no path.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import calibration
from calibration import METHODS, UNITS, Calibration, Case, Figure, Run, Totals

Floats = NDArray[np.float64]


def units(articles: int, paragraphs: int, questions: int) -> dict[str, NDArray[np.intp]]:
    """Clusters of questions: so many articles, paragraphs in each, and questions in each of these."""
    question = np.arange(articles * paragraphs * questions)
    paragraph = question // questions
    return {"question": question, "paragraph": paragraph, "article": paragraph // paragraphs}


def case(clusters: Mapping[str, NDArray[np.intp]], shared: float, n_settings: int = 6, seed: int = 0) -> Case:
    """Normal differences, of which each unit of text shares a part with this standard deviation."""
    rng = np.random.default_rng(seed)
    d = rng.standard_normal((n_settings, len(clusters["question"])))
    for cluster in clusters.values():
        d += shared * rng.standard_normal(cluster.max() + 1)[cluster]
    return Case("a - b", "all", d - d.mean(axis=1, keepdims=True), clusters, 0.1)


def lopsided(seed: int = 0) -> Case:
    """Clusters of 1 to 6 questions, skewed differences."""
    rng = np.random.default_rng(seed)
    article = np.repeat(np.arange(20), rng.integers(1, 7, 20))
    question = np.arange(len(article))
    d = rng.exponential(size=(4, len(article))) + rng.exponential(size=20)[article]
    clusters = {"question": question, "paragraph": question // 2, "article": article}
    return Case("a - b", "all", d - d.mean(axis=1, keepdims=True), clusters, 0.0)


def two_runs(seed: int = 0) -> list[Run]:
    """Random scores of two runs in four settings."""
    clusters = units(48, 1, 5)
    rng = np.random.default_rng(seed)
    settings = ("monolingual", "monolingual", "multilingual", "multilingual")
    questions = tuple(f"q{number}" for number in clusters["question"])
    return [
        Run(name, "1", rng.random((4, 240)), ("P en-en", "P de-de", "M en", "M de"), settings, questions, clusters)
        for name in ("org/a", "org/b")
    ]


def rates(found: list[Figure]) -> dict[tuple[str, str], float]:
    return {(f.clusters, f.method): f.value for f in found}


def report_tables(report: str) -> list[list[list[str]]]:
    """The cells of the tables of a report, row by row, titles first."""
    blocks = [block.splitlines() for block in report.split("\n\n") if block.startswith("|")]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])] for lines in blocks
    ]


@pytest.fixture(scope="module")
def sample() -> tuple[Cells, Floats, Totals]:
    """Three samples of differences, not centred, in cells and in totals."""
    uneven = lopsided()
    cluster = uneven.clusters["article"]
    values = np.stack([uneven.means, uneven.means + 0.4, uneven.d[0] - 0.2])
    return Cells.of(np.zeros_like(cluster), cluster), values, calibration.totals_of(values, cluster)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A real run of the demo collection, and where it is."""
    folder = tmp_path_factory.mktemp("runs")
    (run,) = calibration.make_runs(folder, ["hybrid_bench/bm25"], "HybridDemo", languages=("de", "en"))
    return next((folder / "results").glob("*/*")), run


def measured() -> Calibration:
    """Everything, with fewer flips where they are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "_MANY_FLIPS", 2000)
        return calibration.calibrate(two_runs(2), 400, 500, 0)


@pytest.fixture(scope="module")
def found() -> Calibration:
    return measured()


class TestFalsePositives:
    @pytest.mark.parametrize("unit", UNITS)
    def test_every_test_holds_its_level_on_independent_cells(self, unit: str) -> None:
        independent = case(units(60, 4, 5), shared=0, n_settings=8)
        signs = calibration.random_signs(independent.clusters[unit], 2000, np.random.default_rng(1))
        found = rates(calibration.false_positives(independent, unit, signs, 500, 0))
        assert len(found) == 5
        for test, rate in found.items():
            # Four Monte-Carlo errors; naive variances of one sample of differences are themselves off by some 10%.
            assert 0.025 < rate < 0.08, test

    def test_only_tests_of_large_enough_clusters_hold_their_level_on_clustered_cells(self) -> None:
        clustered = case(units(40, 4, 4), shared=1)
        found = {}
        for unit in UNITS:
            signs = calibration.random_signs(clustered.clusters[unit], 2000, np.random.default_rng(1))
            found[unit] = rates(calibration.false_positives(clustered, unit, signs, 500, 0))
            for place, other in enumerate(UNITS):
                rate = found[unit][other, "sign flip"]
                if place >= UNITS.index(unit):
                    assert 0.03 < rate < 0.07, (unit, other)
                else:
                    assert rate > 0.1, (unit, other)
        naive = [rate for by_test in found.values() for test, rate in by_test.items() if test[1] != "sign flip"]
        assert min(naive) > 0.3

    def test_figures_say_what_they_are(self) -> None:
        found = calibration.false_positives(lopsided(), "article", np.ones((4, len(lopsided().means))), 100, 0)
        f = found[0]
        assert (f.part, f.pair, f.settings, f.drawn_by, f.draws) == ("false positives", "a - b", "all", "article", 4)
        # As they are, centred differences are no draw at all: p is 1.
        assert (f.value, f.error) == (0, 0)

    def test_equals_what_significance_and_scipy_find_on_all_cells(self) -> None:
        signs = calibration.random_signs(lopsided().clusters["article"], 5, np.random.default_rng(2))
        for unit in UNITS:
            checks = calibration.checked_on_cells(lopsided(), unit, signs, 300, 7)
            assert len(checks) == 6
            assert max(checks.values()) < 1e-12, checks


class TestRandomSigns:
    def test_a_cluster_has_one_sign(self) -> None:
        cluster = np.array([0, 2, 1, 0, 2, 2])
        signs = calibration.random_signs(cluster, 400, np.random.default_rng(0))
        assert signs.shape == (400, 6)
        assert set(signs.ravel()) == {-1, 1}
        assert (signs[:, 0] == signs[:, 3]).all()
        assert (signs[:, [1]] == signs[:, [4, 5]]).all()
        assert np.abs(np.corrcoef(signs[:, :3].T) - np.eye(3)).max() < 0.2
        np.testing.assert_array_equal(signs, calibration.random_signs(cluster, 400, np.random.default_rng(0)))


class TestCases:
    def test_every_setting_is_centred(self) -> None:
        runs = two_runs()
        found = calibration.cases_of(runs)
        assert [(f.pair, f.settings, f.d.shape) for f in found] == [
            ("org/a - org/b", "all", (4, 240)),
            ("org/a - org/b", "monolingual", (2, 240)),
            ("org/a - org/b", "multilingual", (2, 240)),
        ]
        for each in found:
            np.testing.assert_allclose(each.d.mean(axis=1), 0, atol=1e-15)
        difference = runs[0].ap - runs[1].ap
        assert found[0].delta == pytest.approx(difference.mean())
        np.testing.assert_allclose(found[2].d[1], difference[3] - difference[3].mean())

    def test_refuses_runs_over_other_questions(self) -> None:
        a, b = two_runs()
        with pytest.raises(DataError, match="org/a and org/b were not run on the same subsets and questions"):
            calibration.cases_of([a, replace(b, questions=b.questions[::-1])])


def ends(found: Any) -> Floats:
    return np.array([found.low, found.high])


class TestIntervals:
    def test_known_ones_equal_those_of_significance(self, sample: tuple[Cells, Floats, Totals]) -> None:
        cells, values, totals = sample
        found = calibration.intervals(totals, 999, 3)
        assert tuple(found) == METHODS
        reported, plain = (bootstrap(cells, values, draws=999, seed=3, expanded=expanded) for expanded in (True, False))
        np.testing.assert_allclose(found["significance.bootstrap"], ends(reported), atol=1e-12)
        np.testing.assert_allclose(found["expanded percentile"], ends(reported), atol=1e-12)
        np.testing.assert_allclose(found["percentile"], ends(plain), atol=1e-12)
        np.testing.assert_allclose(found["clustered t"], ends(clustered_t(cells, values)), atol=1e-12)

    def test_percentiles_and_their_corrections_by_definition(self, sample: tuple[Cells, Floats, Totals]) -> None:
        _, _, totals = sample
        times = calibration.resamples_of(20, 999, 3)
        assert (times.sum(axis=1) == 20).all()
        means = np.array([[(k * t).sum() / (k * totals.counts[0]).sum() for k in times] for t in totals.sums])
        found = calibration.intervals(totals, 999, 3)
        reach = stats.t.ppf(0.975, 19) * np.sqrt(20 / 19)
        plain = np.quantile(means, [0.025, 0.975], axis=1)
        np.testing.assert_allclose(found["percentile"], plain, atol=1e-12)
        levels = stats.norm.cdf([-reach, reach])
        np.testing.assert_allclose(found["expanded percentile"], np.quantile(means, levels, axis=1), atol=1e-12)
        scaled = totals.estimate + (plain - totals.estimate) * reach / stats.norm.ppf(0.975)
        np.testing.assert_allclose(found["t-scaled percentile"], scaled, atol=1e-12)

    def test_bootstrap_t_by_definition(self, sample: tuple[Cells, Floats, Totals]) -> None:
        cells, values, totals = sample
        members = [np.flatnonzero(cells.cluster == cluster) for cluster in range(20)]
        pivots = []
        for k in calibration.resamples_of(20, 400, 3).astype(int):
            taken = np.repeat(np.arange(20), k)
            rows = np.concatenate([members[cluster] for cluster in taken])
            # Each cluster taken is one of its own.
            own = np.repeat(np.arange(20), [len(members[cluster]) for cluster in taken])
            again = clustered_t(Cells.of(np.zeros_like(own), own), values[1, rows])
            pivots.append((again.delta - values[1].mean()) / again.se)
        low, high = np.quantile(pivots, [0.025, 0.975])
        se = clustered_t(cells, values[1]).se
        found = calibration.intervals(totals, 400, 3)["bootstrap-t"]
        np.testing.assert_allclose(
            [found[0][1], found[1][1]], values[1].mean() - np.array([high, low]) * se, atol=1e-10
        )

    def test_bca_agrees_with_scipy(self) -> None:
        values = np.random.default_rng(0).exponential(size=40)
        scipy = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", random_state=0)
        totals = Totals(values[None], np.ones((1, 40)))
        (low,), (high,) = calibration.intervals(totals, 20_000, 0)["BCa"]
        width = high - low
        assert low == pytest.approx(scipy.confidence_interval.low, abs=0.03 * width)
        assert high == pytest.approx(scipy.confidence_interval.high, abs=0.03 * width)
        plain = calibration.intervals(totals, 20_000, 0)["percentile"]
        assert high > plain[1][0] + 0.03 * width, "skewed as these are, the correction should show"

    @pytest.mark.parametrize("n_clusters", [7, 20])
    def test_of_sign_flips_holds_what_the_test_does_not_reject(self, n_clusters: int) -> None:
        rng = np.random.default_rng(n_clusters)
        cluster = np.repeat(np.arange(n_clusters), rng.integers(1, 5, n_clusters))
        values = rng.standard_normal((3, len(cluster))) + rng.standard_normal(n_clusters)[cluster] + 0.3
        (lows, highs) = calibration.intervals(calibration.totals_of(values, cluster), 500, 4)["sign flip"]
        cells = Cells.of(np.zeros_like(cluster), cluster)
        for row, low, high in zip(values, lows, highs, strict=True):
            theta = np.linspace(low - 1, high + 1, 301)
            p = sign_flip(cells, row - theta[:, None], draws=500, seed=4).p
            np.testing.assert_array_equal(p > 0.05, (low <= theta) & (theta <= high))

    def test_of_sign_flips_has_no_ends_where_no_flip_could_reject(self) -> None:
        """Of 16 flips the observed one and its opposite always count: p is at least 1/8."""
        totals = Totals(np.array([[1.0, 2.0, 3.0, 4.0]]), np.ones((1, 4)))
        (low,), (high,) = calibration.intervals(totals, 500, 0)["sign flip"]
        assert (low, high) == (-np.inf, np.inf)

    def test_samples_of_articles_are_whole_articles(self) -> None:
        population = calibration.totals_of(lopsided().means[None], lopsided().clusters["article"])
        known = set(zip(population.sums[0], population.counts[0], strict=True))
        drawn = calibration.redrawn(lopsided(), 9, 50, np.random.default_rng(0))
        assert drawn.sums.shape == drawn.counts.shape == (50, 9)
        assert set(zip(drawn.sums.ravel(), drawn.counts.ravel(), strict=True)) == known
        assert population.estimate == pytest.approx(0, abs=1e-15)

    def test_samples_of_their_own_size_are_as_if_alone(self) -> None:
        drawn = calibration.redrawn(lopsided(), 9, 5, np.random.default_rng(0))
        together = calibration.intervals(drawn, 300, 2)
        alone = calibration.intervals(Totals(drawn.sums[3:4], drawn.counts[3:4]), 300, 2)
        for method in METHODS:
            np.testing.assert_allclose(np.array(together[method])[:, 3:4], alone[method], atol=1e-12)

    def test_of_few_normal_clusters_percentiles_are_as_short_as_expected(self) -> None:
        normal = Totals(np.random.default_rng(5).standard_normal((4000, 8)), np.ones((1, 8)))
        found = rates(calibration.coverage(lopsided(), "articles anew", normal, 400, 0)[::3])
        expected = 1 - 2 * stats.t.sf(stats.norm.ppf(0.975) * np.sqrt(7 / 8), 7)
        assert found["8", "percentile"] == pytest.approx(expected, abs=0.015)
        assert expected < 0.91
        for method in ("clustered t", "sign flip", "expanded percentile", "t-scaled percentile"):
            assert found["8", method] == pytest.approx(0.95, abs=0.02), method

    def test_coverage_width_and_contradictions_are_told(self) -> None:
        signs = calibration.random_signs(lopsided().clusters["article"], 600, np.random.default_rng(6))
        totals = calibration.totals_of(signs * lopsided().means, lopsided().clusters["article"])
        found = calibration.coverage(lopsided(), "article", totals, 300, 0)
        by_part = {(f.part, f.method): f.value for f in found}
        assert len(by_part) == len(found) == 3 * len(METHODS)
        assert by_part["contradicts p", "sign flip"] == 0
        assert 0 < by_part["contradicts p", "percentile"] < 0.1
        assert by_part["width", "clustered t"] == 1
        assert by_part["width", "percentile"] < 0.97
        # The interval that never contradicts the test holds the truth as often as the test finds nothing.
        p = calibration.cluster_p(signs * lopsided().means, lopsided().clusters["article"], 300, 0)
        assert by_part["coverage", "sign flip"] == np.mean(p > 0.05)


class TestExactness:
    def test_flips_are_all_flips_and_come_close_to_t(self) -> None:
        found = calibration.exactness(case(units(20, 12, 1), shared=0.5), 2000, 0)
        exact = [f for f in found if f.part == "all flips"]
        assert [(f.clusters, f.method, f.draws) for f in exact] == [
            ("8", "all", 256),
            ("14", "all", 2**14),
            ("16", "random", 2000),
            ("18", "random", 2000),
        ]
        assert max(f.value for f in exact[:2]) < 1e-12
        assert max(f.value for f in exact[2:]) < 4
        agreement = {f.clusters: f.value for f in found if f.part == "clustered t"}
        assert agreement["paragraph"] < 0.01
        effective = {f.clusters: f.value for f in found if f.part == "effective clusters"}
        assert 5 < effective["article"] < 20 < effective["paragraph"] < 240


class TestRuns:
    def test_are_made_and_read(self, made: tuple[Path, Run]) -> None:
        place, run = made
        assert run.name == "hybrid_bench/bm25"
        assert run.settings == ("monolingual", "cross-lingual", "cross-lingual", "monolingual", *["multilingual"] * 2)
        assert run.subsets[1] == "HybridDemo-Pairs de-en"
        assert run.ap.shape == (6, len(run.questions)) == (6, 84)
        assert [run.clusters[unit].max() + 1 for unit in UNITS] == [84, 42, 21]
        table = pq.read_table(table_path(place, "HybridDemo-Pairs")).to_pandas()
        rows = table[table["subset"] == "en-de"].set_index("question_id")["ap"]
        np.testing.assert_array_equal(run.ap[2], rows[list(run.questions)])

    def test_refuses_what_is_missing_or_unbalanced(self, made: tuple[Path, Run]) -> None:
        place, _ = made
        with pytest.raises(DataError, match="has no result of XQuAD-R-Pairs: run it"):
            calibration.read_run(place, "XQuAD-R")
        path = table_path(place, "HybridDemo-Multilingual")
        whole = pq.read_table(path)
        try:
            pq.write_table(whole.slice(1), path)
            with pytest.raises(DataError, match="HybridDemo-Multilingual de has other questions than the first subset"):
                calibration.read_run(place, "HybridDemo")
        finally:
            pq.write_table(whole, path)

    def test_a_failing_model_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="no-such-model"):
            calibration.make_runs(tmp_path, ["hybrid_bench/no-such-model"], "HybridDemo")


class TestReport:
    def test_the_same_seed_gives_the_same_figures(self, found: Calibration) -> None:
        assert measured().figures == found.figures

    def test_is_written_with_its_figures(self, found: Calibration, tmp_path: Path) -> None:
        calibration.save(found, tmp_path / "new")
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["README.md", "calibration.csv"]
        lines = (tmp_path / "new" / "calibration.csv").read_text().splitlines()
        assert lines[0] == "part,pair,settings,drawn_by,clusters,method,value,error,draws"
        assert len(lines) == 1 + len(found.figures)
        report = (tmp_path / "new" / "README.md").read_text()
        (rate,) = found.of("false positives", settings="monolingual", drawn_by="article", clusters="cell")
        assert rate.error is not None
        assert rate.error == pytest.approx(np.sqrt(rate.value * (1 - rate.value) / 400))
        assert "400 draws for each comparison and way of swapping; 500 flips" in report
        assert "nan" not in report

    def test_begins_with_the_averages_and_ranges_of_all_comparisons(self, found: Calibration) -> None:
        first = report_tables(calibration.report_of(found))[0]
        assert [title.split(" (")[0] for title in first[0]] == [
            "Labels swapped by",
            *(f"By {unit}" for unit in UNITS),
            "Paired t over all cells",
            "t over means of settings",
        ]
        tests = [
            *((unit, "sign flip") for unit in UNITS),
            ("cell", "pooled paired t"),
            ("setting", "t over setting means"),
        ]
        for row, unit in zip(first[1:], UNITS, strict=True):
            assert row[0] == unit
            for cell, (clusters, method) in zip(row[1:], tests, strict=True):
                figures = found.of("false positives", drawn_by=unit, clusters=clusters, method=method)
                rates = [100 * f.value for f in figures]
                assert len(rates) == 3, "all settings, and two kinds"
                assert cell == f"{np.mean(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"

    def test_has_the_averages_of_every_kind_of_setting(self, found: Calibration) -> None:
        by_settings = report_tables(calibration.report_of(found))[2]
        assert [row[:2] for row in by_settings[1:]] == [
            [settings, unit] for settings in ("all", "monolingual", "multilingual") for unit in UNITS
        ]
        (rate,) = found.of("false positives", settings="multilingual", drawn_by="article", clusters="paragraph")
        assert by_settings[-1][3] == f"{100 * rate.value:.1f}"

    def test_tells_which_interval_the_reports_use(self, found: Calibration) -> None:
        assert found.reported == "expanded percentile"
        report = calibration.report_of(found)
        assert "`significance.bootstrap` (expanded percentile, by article)" in report
        assert "| expanded percentile (reported) |" in report

    def test_keeps_all_promises_where_cells_are_independent(self, found: Calibration) -> None:
        assert found.broken() == []

    @pytest.mark.parametrize(
        ("part", "wanted", "value", "message"),
        [
            ("false positives", {"clusters": "article"}, 0.2, "swapped by question: 20.0% false positives"),
            (
                "coverage",
                {"method": METHODS[0], "settings": "monolingual"},
                0.8,
                "80.0% of the 95% intervals of signif",
            ),
            ("all flips", {"method": "all"}, 0.01, "8 clusters: p is not that of all flips"),
        ],
    )
    def test_tells_broken_promises(
        self, found: Calibration, part: str, wanted: dict[str, str], value: float, message: str
    ) -> None:
        worse = found.of(part, **wanted)
        figures = [replace(f, value=value) if f in worse else f for f in found.figures]
        broken = replace(found, figures=figures)
        assert any(message in line for line in broken.broken())
        assert "**Broken:**" in calibration.report_of(broken)
        assert "**Broken:**" not in calibration.report_of(found)

    def test_tells_what_differs_on_all_cells(self, found: Calibration) -> None:
        assert replace(found, checks={"mean": 0.1}).broken() == ["mean: 1.0e-01 off on all cells"]


class TestMain:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--draws", "1"], "1 draws, 4000 resamples, seed 0: take at least 2 draws"),
            (["--resamples", "99"], "99 resamples, seed 0: take at least 2 draws, 100 resamples"),
            (["--seed", "-1"], "and a seed from 0 up"),
            ([], "no translations to train on: put NTREX-128's files into"),
        ],
    )
    def test_refuses(
        self, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            calibration.main(["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
