"""How long tests and intervals take: on random scores in the layout of XQuAD-R, and beside SciPy's on a small case.

The layout is that of all 132 settings: 1,190 questions in each, in so many clusters. Times on a shared machine are
noisy: nothing here passes or fails. Ratios are taken from the medians of interleaved repetitions.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# ruff: noqa: E402 # run from a checkout, the package need not be installed
sys.path[:0] = [str(Path(__file__).parents[1])]

from hybrid_bench.measures.significance import (
    DRAWS,
    Cells,
    Contrast,
    bootstrap,
    bootstrap_median,
    bootstrap_statistic,
    bootstrap_sums,
    cluster_sums,
    compare,
    flip_test,
    sign_flip,
    step_down,
    tukey_hsd,
)

QUESTIONS, SETTINGS, LANGUAGES = 1190, 132, 11
RUNS, MANY_RUNS, MEASURES = 5, 20, 20


def layout(n_clusters: int, n_settings: int = SETTINGS) -> Cells:
    """Every question in every setting; clusters of as many questions as can be."""
    question = np.tile(np.arange(QUESTIONS), n_settings)
    return Cells.of(np.repeat(np.arange(n_settings), QUESTIONS), question * n_clusters // QUESTIONS)


def concordance(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's W, averaged over query languages, from sums of places by query language and language."""
    places = sums.reshape(len(sums), LANGUAGES, LANGUAGES)
    m = places.sum(axis=2, keepdims=True) * 2 / (LANGUAGES * (LANGUAGES + 1))
    spread = np.square(places - m * (LANGUAGES + 1) / 2).sum(axis=2, keepdims=True)
    return np.asarray((12 * spread / (m**2 * (LANGUAGES**3 - LANGUAGES))).mean(axis=(1, 2)))


def seconds(title: str, action: Callable[[], Any]) -> None:
    """Print how long an action takes, the best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    print(f"   {title:<62}{min(times):8.2f} s", flush=True)


def on_xquad_r(n_clusters: int) -> None:
    """What the reports ask for, in the layout of XQuAD-R."""
    rng = np.random.default_rng(0)
    cells, pooled = layout(n_clusters), layout(n_clusters, LANGUAGES)
    scores = rng.random((RUNS, cells.n_cells))
    pairs = np.array(list(combinations(range(RUNS), 2)))
    d = scores[pairs[:, 0]] - scores[pairs[:, 1]]
    print(f"{n_clusters:,} clusters, {DRAWS:,} draws")
    seconds(f"sign flips, {len(d)} pairs of {RUNS} runs", lambda: sign_flip(cells, d))
    seconds("  for each of 132 settings", lambda: sign_flip(cells, d, by_setting=True))
    seconds(f"Tukey's HSD, {RUNS} runs", lambda: tukey_hsd(cells, scores))
    seconds("all of one comparison", lambda: compare(cells, scores[0], scores[1]))
    seconds(f"intervals, {RUNS} runs", lambda: bootstrap(cells, scores))
    seconds("  for each of 132 settings", lambda: bootstrap(cells, scores, by_setting=True))
    many = rng.random((MANY_RUNS * MEASURES, cells.n_cells))
    seconds(f"intervals, {MANY_RUNS} runs x {MEASURES} measures", lambda: bootstrap(cells, many))
    distances = np.floor(13_014 * rng.random((MANY_RUNS, pooled.n_cells)))
    seconds(f"intervals of medians, {MANY_RUNS} runs, 11 settings", lambda: bootstrap_median(pooled, distances))
    medians = Contrast.of_medians(pooled, distances[0], distances[1])
    seconds("sign flips of medians, 1 pair, 11 settings", lambda: flip_test(medians))
    family = Contrast.of_means(cells, many[1:] - many[0])
    seconds(f"step-down max-T, {len(family.delta)} differences", lambda: step_down([family]))
    places = rng.permuted(np.tile(np.arange(1, LANGUAGES + 1), (pooled.n_cells, 1)), axis=1)
    sums = cluster_sums(pooled, places).reshape(n_clusters, -1)
    seconds("interval of Kendall's W, 1 run, 11 settings", lambda: bootstrap_sums(sums, concordance))
    print()


def beside_others() -> None:
    """The same small cases by SciPy, and medians by the general way."""
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 48))
    one = Cells.of(np.zeros(48, np.intp), np.arange(48))
    pooled = layout(48, LANGUAGES)
    distances = np.floor(13_014 * rng.random(pooled.n_cells))
    few = 200

    def mean_difference(x: Any, y: Any, axis: int) -> Any:
        return np.mean(x - y, axis=axis)

    def medians(values: Any, setting: Any) -> float:
        return float(np.mean([np.median(values[setting == p]) for p in range(LANGUAGES)]))

    cases: Sequence[tuple[str, Callable[[], Any], Callable[[], Any]]] = (
        (
            f"sign flips, 48 cells, {DRAWS:,} draws: scipy.stats.permutation_test",
            lambda: sign_flip(one, a - b),
            lambda: stats.permutation_test(
                (a, b), mean_difference, permutation_type="samples", n_resamples=DRAWS, vectorized=True
            ),
        ),
        (
            f"interval, 48 cells, {DRAWS:,} draws: scipy.stats.bootstrap",
            lambda: bootstrap(one, a - b),
            lambda: stats.bootstrap((a - b,), np.mean, n_resamples=DRAWS, method="percentile", vectorized=True),
        ),
        (
            f"medians, 11 settings, {few} draws: NumPy's of every resample",
            lambda: bootstrap_median(pooled, distances, draws=few),
            lambda: bootstrap_statistic(pooled, distances, medians, draws=few),
        ),
    )
    print("Beside others, the same case and number of draws")
    for title, ours, theirs in cases:
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(5):
            for action, taken in zip((ours, theirs), times, strict=True):
                start = time.perf_counter()
                action()
                taken.append(time.perf_counter() - start)
        here, there = (median(taken) for taken in times)
        print(f"   {title:<70}{1000 * there:8.1f} ms, {there / here:.0f} times ours ({1000 * here:.1f} ms)", flush=True)


def main() -> None:
    """Time everything for these numbers of clusters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clusters", nargs="*", type=int, default=[48], help="numbers of clusters (default: 48)")
    options = parser.parse_args()
    if not all(2 <= n <= QUESTIONS for n in options.clusters):
        parser.error(f"{options.clusters}: from 2 to {QUESTIONS:,} clusters, as many as there are questions")
    print(f"{os.cpu_count()} CPUs; {', '.join(f'{name} {version(name)}' for name in ('numpy', 'scipy'))}\n")
    for n_clusters in options.clusters:
        on_xquad_r(n_clusters)
    beside_others()


if __name__ == "__main__":
    main()
