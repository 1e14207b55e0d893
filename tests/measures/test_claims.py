"""What `nox -s calibration` measures of methods: on made-up trainings, whose variances are known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# The benchmarks are scripts, on no path.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from claims import Claim, Variation, broken, drawn, methods, report_of, splits, variation


def trainings(k: int, *, main: float, both: float, n_clusters: int = 30, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.asarray(main * rng.standard_normal((k, 1)) + both * rng.standard_normal((k, n_clusters)))


def test_what_is_drawn_varies_as_the_trainings_do() -> None:
    of = variation(trainings(400, main=0.3, both=0.2))
    assert 0.27 < of.main < 0.33
    rng = np.random.default_rng(1)
    again = np.concatenate([drawn(of, 2, rng) for _ in range(2000)])
    assert 0.27 < again.mean(axis=1).std() < 0.33
    assert 0.18 < (again - again.mean(axis=1, keepdims=True)).std() < 0.22


def test_trainings_that_only_deviate_by_article_have_no_variance_of_their_own() -> None:
    of: Variation = variation(trainings(12, main=0.0, both=0.5))
    assert of.main < 0.08


def test_methods_keep_their_level_and_means_over_trainings_do_not() -> None:
    made = {"map, monolingual": trainings(10, main=0.3, both=0.1)}
    found = [*methods(made, 60, 200, 0), *splits(made, 60, 200, 0)]
    rates = {(c.part, c.method): c.value for c in found if c.n == 3 and not c.case.endswith((" 1", " 3"))}
    assert rates["methods", "apart"] <= 0.15
    assert rates["methods", "means over trainings"] > 0.4


def test_a_promise_that_is_not_kept_is_told() -> None:
    kept = Claim("methods", "map, monolingual, 0", 3, "apart", 0.05, 1000)
    assert broken([kept]) == []
    assert broken([kept._replace(value=0.12)]) == ["map, monolingual, 0, 3 trainings apart: 12.0% false positives"]
    assert broken([kept._replace(value=0.12, method="means over trainings")]) == []
    few = Claim("few clusters", "normal", 3, "significance.bootstrap", 0.75, 1000)
    assert broken([few]) == ["3 normal clusters: 75.0% of the 95% intervals hold the truth"]
    assert broken([few._replace(method="expanded percentile")]) == []
    family = Claim("family", "both", 44, "step-down max-T, any", 0.2, 1000)
    assert broken([family]) == ["both: 20.0% of families have a false finding by step-down max-T, any"]
    parts = [kept._replace(value=0.12), few, family, Claim("splits", "map, monolingual", 3, "apart", 0.0, 1000)]
    assert report_of(parts, 10).count("**Broken:**") == 3
