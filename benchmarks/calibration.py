"""What `nox -s calibration` runs: do the p-values and intervals of `significance` keep their promises on real scores?

Three runs of all 132 settings of XQuAD-R are made, and pairs of them compared on average precision where it is known
that nothing is to be found:

1. The differences of two runs are centred, and get random signs, one for all cells of a question, a paragraph or an
   article. How often does each test, at 5%, find a difference?
2. How often does each 95% interval hold 0, the true difference? In these draws, and in samples of whole articles,
   drawn with replacement from the centred ones, whose differences are as skewed as they really are.
3. Is the p-value of random flips that of all flips, and with many clusters that of the analytic t-test?

Writes ``README.md`` and ``calibration.csv``. The same runs, seed, draws and versions give the same figures. Ends with
1 if a test or an interval that the reports rest on does not keep its promise.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from tabulate import tabulate

# ruff: noqa: E402 # run from a checkout, the package need not be installed
sys.path[:0] = [str(Path(__file__).parents[1])]

from hybrid_bench.data.files import atomic
from hybrid_bench.errors import DataError, HybridBenchError
from hybrid_bench.measures import significance
from hybrid_bench.measures.significance import EXACT_CLUSTERS, Cells, bootstrap, clustered_t, macro_mean, sign_flip

__all__ = [
    "METHODS",
    "UNITS",
    "Calibration",
    "Case",
    "Figure",
    "Run",
    "Totals",
    "calibrate",
    "cases_of",
    "checked_on_cells",
    "cluster_p",
    "coverage",
    "csv_of",
    "exactness",
    "false_positives",
    "intervals",
    "main",
    "make_runs",
    "pooled_p",
    "random_signs",
    "read_run",
    "redrawn",
    "report_of",
    "resamples_of",
    "save",
    "setting_means_p",
    "sign_flip_interval",
    "totals_of",
]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

#: What labels are swapped by, and what a cluster can be; each is a part of the next.
UNITS = ("question", "paragraph", "article")
#: Level of the tests; 1 - confidence of the intervals.
LEVEL = 0.05
#: Rates that are near enough: of false positives, and of intervals that hold the truth.
RATES, COVERAGE = (0.04, 0.065), (0.935, 0.965)
#: Largest difference between the p-values of sign flips and of the analytic t, from so many clusters up.
AGREEMENT, MANY_CLUSTERS = 0.01, 240
#: Numbers of articles in the samples drawn with replacement.
SIZES = (12, 24, 48, 96)
#: How an interval can be made; the first is the one that `significance.bootstrap` gives, and so the reports.
METHODS = (
    "significance.bootstrap",
    "percentile",
    "expanded percentile",
    "t-scaled percentile",
    "BCa",
    "bootstrap-t",
    "clustered t",
    "sign flip",
)
#: The tests.
FLIPS, POOLED, OVER_SETTINGS = "sign flip", "pooled paired t", "t over setting means"
# Draws that share their random flips or resamples; a new block has new ones.
_BLOCK = 200
# Draws that are computed on all cells too.
_CHECKED = 3
# Flips in the comparison with all flips and with t, where only their own error should be small.
_MANY_FLIPS = 100_000
_ALL = "all"
_ANEW = "articles anew"


@dataclass(frozen=True)
class Run:
    """Average precision of a model, one row per setting (subset), one column per question.

    Attributes:
        name: The model.
        revision: Its revision.
        ap: (P, Q).
        subsets: (P,), names of the rows, with the task's.
        settings: (P,), the setting of each row.
        questions: (Q,), ids.
        clusters: By unit, (Q,), the cluster of each question.
    """

    name: str
    revision: str
    ap: Floats
    subsets: tuple[str, ...]
    settings: tuple[str, ...]
    questions: tuple[str, ...]
    clusters: Mapping[str, Places]


@dataclass(frozen=True)
class Case:
    """Differences of two runs in some settings, centred: whatever labels are swapped, the true difference is 0.

    Attributes:
        pair: The two models.
        settings: Which settings.
        d: (P, Q), every row with mean 0.
        clusters: By unit, (Q,).
        delta: The difference that was taken away, macro mean.
    """

    pair: str
    settings: str
    d: Floats
    clusters: Mapping[str, Places]
    delta: float

    @property
    def means(self) -> Floats:
        """(Q,), mean of each question over the settings.

        Every question is in every setting, and all cells of a question are in one cluster and get one sign. So these
        means, as cells of one setting, have the same shares, influences and resampled means as all P Q cells.
        """
        return np.asarray(self.d.mean(axis=0))


@dataclass(frozen=True)
class Totals:
    """Samples as sums by cluster, which is all that intervals of a mean need.

    Attributes:
        sums: (n, G), sum of the differences in each cluster.
        counts: (n, G) or (1, G), number of questions in each cluster.
    """

    sums: Floats
    counts: Floats

    @property
    def estimate(self) -> Floats:
        """(n,), the means."""
        return np.asarray(self.sums.sum(axis=1) / self.counts.sum(axis=1))


@dataclass(frozen=True)
class Figure:
    """One figure of the result, and a line of the CSV.

    Attributes:
        part: What was measured: ``false positives``, ``coverage``, ``width``, ...
        pair: The two models.
        settings: Which settings.
        drawn_by: What labels were swapped by, or ``articles anew``.
        clusters: The clusters of the test or interval; for samples of articles, their number.
        method: The test or interval.
        value: The figure.
        error: Its Monte-Carlo standard error; None where there is none.
        draws: Number of draws that it comes from.
    """

    part: str
    pair: str
    settings: str
    drawn_by: str
    clusters: str
    method: str
    value: float
    error: float | None
    draws: int


# -- runs ------------------------------------------------------------------------------------------------------------


def make_runs(
    folder: Path,
    models: Sequence[str],
    collection: str = "XQuAD-R",
    *,
    data_dir: Path | None = None,
    languages: Sequence[str] = (),
) -> list[Run]:
    """Make the runs of these models, as far as the folder has not got them, and read them.

    Raises:
        Exception: What made a model fail.
        DataError: The data cannot be read, or a run is not as `read_run` wants it.
    """
    from hybrid_bench.evaluation.runner import RunRequest, run, to_stderr

    request = RunRequest(models=models, tasks=[collection], languages=languages, output=folder, data_dir=data_dir)
    outcome = run(request, to_stderr)
    for failure in outcome.failures:
        raise failure.error
    return [read_run(path, collection) for path in outcome.folders]


def static_model(folder: Path, data_dir: Path) -> str:
    """The place of a static model trained on NTREX-128, which is trained if it is not there yet."""
    from static_model import ntrex_pairs, train

    place = folder / "models" / "static-ntrex"
    if not place.is_dir():
        pairs = ntrex_pairs(data_dir)
        with atomic(place) as beside:
            train(pairs).save(str(beside))
    return str(place)


def read_run(folder: Path, collection: str = "XQuAD-R") -> Run:
    """Read the average precisions of a run's folder.

    Raises:
        DataError: A task is missing, or a question is not in every setting: then questions cannot stand for cells.
    """
    import pyarrow.parquet as pq

    from hybrid_bench.runs.result_files import read_signatures, table_path

    signatures = read_signatures(folder)
    rows, subsets, settings = [], [], []
    first = None
    for task in (f"{collection}-Pairs", f"{collection}-Multilingual"):
        if task not in signatures or not table_path(folder, task).is_file():
            raise DataError(f"{folder} has no result of {task}: run it, or give another folder with --runs")
        columns = ["subset", "setting", "question_id", "cluster_paragraph", "cluster_article", "ap"]
        table = pq.read_table(table_path(folder, task), columns=columns).to_pandas()
        for subset, part in table.groupby("subset", observed=True):
            ordered = part.sort_values("question_id")
            questions = tuple(ordered["question_id"])
            if first is None:
                first = ordered
            if questions != tuple(first["question_id"]):
                raise DataError(
                    f"{folder}: {task} {subset} has other questions than the first subset; choose a collection with "
                    "every question in every setting"
                )
            rows.append(ordered["ap"].to_numpy(np.float64))
            subsets.append(f"{task} {subset}")
            settings.append(str(ordered["setting"].iloc[0]))
    assert first is not None, "a result has at least one subset"
    clusters = {"question": np.arange(len(first))}
    for unit in UNITS[1:]:
        # Numbered as in `Cells`, so that a seed takes the same clusters.
        one_setting = np.zeros(len(first), np.intp)
        clusters[unit] = Cells.of(one_setting, first[f"cluster_{unit}"].to_numpy()).cluster
    made = next(iter(signatures.values()))
    return Run(
        made["model"],
        made["revision"],
        np.stack(rows),
        tuple(subsets),
        tuple(settings),
        tuple(first["question_id"]),
        clusters,
    )


def cases_of(runs: Sequence[Run]) -> list[Case]:
    """All pairs of runs, in all settings together and in each of the three apart.

    Raises:
        DataError: The runs are not over the same subsets and questions.
    """
    found = []
    for a, b in combinations(runs, 2):
        if (a.subsets, a.questions) != (b.subsets, b.questions):
            raise DataError(f"{a.name} and {b.name} were not run on the same subsets and questions")
        d = a.ap - b.ap
        for name in (_ALL, *dict.fromkeys(a.settings)):
            rows = d if name == _ALL else d[np.array(a.settings) == name]
            means = rows.mean(axis=1, keepdims=True)
            found.append(Case(f"{a.name} - {b.name}", name, rows - means, a.clusters, float(means.mean())))
    return found


# -- draws and tests -------------------------------------------------------------------------------------------------


def random_signs(cluster: Places, draws: int, rng: np.random.Generator) -> Floats:
    """Random signs of questions, (draws, Q): the same for all questions of a cluster, -1 where labels are swapped."""
    signs = 2.0 * rng.integers(2, size=(draws, int(cluster.max()) + 1)) - 1
    return np.asarray(signs[:, cluster])


def pooled_p(d: Floats, signs: Floats) -> Floats:
    """Student's paired t over all cells as if they were independent; a p-value per draw."""
    n = d.size
    delta = signs @ d.mean(axis=0) / d.shape[1]
    # A sign does not change a square.
    variance = (np.square(d).sum() - n * delta**2) / (n - 1)
    return np.asarray(2 * special.stdtr(n - 1, -np.abs(delta) / np.sqrt(variance / n)))


def setting_means_p(d: Floats, signs: Floats) -> Floats:
    """Student's t over the means of the settings, as if these were independent; a p-value per draw."""
    means = signs @ d.T / d.shape[1]
    return np.asarray(stats.ttest_1samp(means, 0.0, axis=1).pvalue)


def cluster_p(values: Floats, cluster: Places, resamples: int, seed: int) -> Floats:
    """p-values of `significance.sign_flip`, one per row of values (draws, Q), a block of rows with the same flips."""
    cells = Cells.of(np.zeros_like(cluster), cluster)
    blocks = [
        sign_flip(cells, values[rows], draws=resamples, seed=seed + number).p
        for number, rows in enumerate(_blocks(len(values)))
    ]
    return np.concatenate(blocks)


def false_positives(case: Case, unit: str, signs: Floats, resamples: int, seed: int) -> list[Figure]:
    """Share of the draws in which each test finds a difference."""
    values = signs * case.means
    found = {(other, FLIPS): cluster_p(values, case.clusters[other], resamples, seed) for other in reversed(UNITS)}
    found["cell", POOLED] = pooled_p(case.d, signs)
    found["setting", OVER_SETTINGS] = setting_means_p(case.d, signs)
    return [
        _rate(case, "false positives", p <= LEVEL, drawn_by=unit, clusters=clusters, method=method)
        for (clusters, method), p in found.items()
    ]


def checked_on_cells(case: Case, unit: str, signs: Floats, resamples: int, seed: int) -> dict[str, float]:
    """Largest differences between what is computed here from questions, and by `significance` and SciPy from all cells.

    Args:
        case: The case.
        unit: Clusters of the tests and intervals.
        signs: (n, Q), a few draws.
        resamples: Flips and resamples.
        seed: Of both.
    """
    n_settings, n_questions = case.d.shape
    cells = Cells.of(np.repeat(np.arange(n_settings), n_questions), np.tile(case.clusters[unit], n_settings))
    full = (signs[:, None, :] * case.d).reshape(len(signs), -1)
    totals = totals_of(signs * case.means, case.clusters[unit])
    ours = intervals(totals, resamples, seed)
    interval, analytic = bootstrap(cells, full, draws=resamples, seed=seed), clustered_t(cells, full)
    alike: dict[str, tuple[ArrayLike, ArrayLike]] = {
        "sign flip, p": (
            cluster_p(signs * case.means, case.clusters[unit], resamples, seed),
            sign_flip(cells, full, draws=resamples, seed=seed).p,
        ),
        "mean": (totals.estimate, macro_mean(cells, full)),
        "bootstrap interval": (ours["significance.bootstrap"], (interval.low, interval.high)),
        "clustered t interval": (ours["clustered t"], (analytic.low, analytic.high)),
        "pooled t, p": (pooled_p(case.d, signs), stats.ttest_1samp(full, 0.0, axis=1).pvalue),
        "t over setting means, p": (
            setting_means_p(case.d, signs),
            stats.ttest_1samp(macro_mean(cells, full, by_setting=True), 0.0, axis=1).pvalue,
        ),
    }
    return {what: float(np.abs(np.asarray(here) - np.asarray(there)).max()) for what, (here, there) in alike.items()}


# -- intervals -------------------------------------------------------------------------------------------------------


def totals_of(values: Floats, cluster: Places) -> Totals:
    """Sums by cluster of values (n, Q)."""
    member = np.equal.outer(cluster, np.arange(cluster.max() + 1)).astype(np.float64)
    return Totals(values @ member, member.sum(axis=0)[None])


def redrawn(case: Case, size: int, draws: int, rng: np.random.Generator) -> Totals:
    """Samples of whole articles, drawn with replacement. The mean over all articles, the truth, is 0 by centring."""
    population = totals_of(case.means[None], case.clusters["article"])
    taken = rng.integers(population.sums.shape[1], size=(draws, size))
    return Totals(population.sums[0][taken], population.counts[0][taken])


def resamples_of(n_clusters: int, resamples: int, seed: int) -> Floats:
    """How often each cluster is taken in each resample, (resamples, G), as `significance.bootstrap` draws them."""
    taken = np.random.default_rng(seed).integers(n_clusters, size=(resamples, n_clusters))
    places = taken + n_clusters * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=taken.size).reshape(taken.shape).astype(np.float64)


def intervals(
    totals: Totals, resamples: int, seed: int, methods: Sequence[str] = METHODS
) -> dict[str, tuple[Floats, Floats]]:
    """95% intervals of the means of a block of samples, by method: lower and upper ends, (n,) each.

    Args:
        totals: The samples; all see the same resamples and flips.
        resamples: Number of resamples and flips.
        seed: Of both.
        methods: Of these only.
    """
    n_clusters = totals.sums.shape[1]
    times = resamples_of(n_clusters, resamples, seed)
    means, errors = _resampled(totals, times)
    estimate, se = _with_error(totals)
    t = special.stdtrit(n_clusters - 1, 1 - LEVEL / 2)
    z = special.ndtri(1 - LEVEL / 2)
    wider = np.sqrt(n_clusters / (n_clusters - 1)) * t
    ordered = np.sort(means, axis=1)
    plain = _ends(ordered, LEVEL / 2, 1 - LEVEL / 2)
    pivots = np.divide(means - estimate[:, None], errors, out=np.zeros_like(means), where=errors > 0)
    pivot_low, pivot_high = _ends(np.sort(pivots, axis=1), LEVEL / 2, 1 - LEVEL / 2)
    made: dict[str, Callable[[], tuple[Floats, Floats]]] = {
        "significance.bootstrap": lambda: _reported(totals, resamples, seed),
        "percentile": lambda: plain,
        # Hesterberg (2015, doi:10.1080/00031305.2015.1089789).
        "expanded percentile": lambda: _ends(ordered, special.ndtr(-wider), special.ndtr(wider)),
        "t-scaled percentile": lambda: (
            estimate + (plain[0] - estimate) * wider / z,
            estimate + (plain[1] - estimate) * wider / z,
        ),
        "BCa": lambda: _bca(totals, ordered, z),
        "bootstrap-t": lambda: (estimate - pivot_high * se, estimate - pivot_low * se),
        "clustered t": lambda: (estimate - t * se, estimate + t * se),
        "sign flip": lambda: sign_flip_interval(totals, _flips(n_clusters, resamples, seed)),
    }
    return {method: made[method]() for method in methods}


def sign_flip_interval(totals: Totals, flips: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The intervals of `significance.sign_flip_interval`, for samples that need not have articles of the same size.

    Args:
        totals: The samples.
        flips: (n_flips, G), +1 and -1, the observed labelling (all +1) among them: all 2^G, or that and random ones.
        level: 1 - confidence.

    Returns:
        Lower and upper ends, (n,) each; infinite where there are too few flips for this level.
    """
    size = totals.counts.sum(axis=1, keepdims=True)
    return significance._not_rejected(totals.sums / size, totals.counts / size, flips, level)


def _flips(n_clusters: int, resamples: int, seed: int) -> Floats:
    """The flips of `significance.sign_flip`, the observed labelling among them, (n_flips, G)."""
    flips = [1.0 - 2.0 * block for block in significance._flips(n_clusters, resamples, seed, n_clusters)]
    observed = [] if n_clusters <= EXACT_CLUSTERS else [np.ones((1, n_clusters))]
    return np.concatenate(observed + flips)


def _sign_flip_p(totals: Totals, resamples: int, seed: int) -> Floats:
    """p-values of `significance.sign_flip`, from one cell per cluster, which has the share of all its cells."""
    n_clusters = totals.sums.shape[1]
    cells = Cells.of(np.zeros(n_clusters, np.intp), np.arange(n_clusters))
    shares = totals.sums / totals.counts.sum(axis=1, keepdims=True)
    return sign_flip(cells, n_clusters * shares, draws=resamples, seed=seed).p


def _clustered_p(totals: Totals) -> Floats:
    """p-values of the analytic clustered t-test."""
    estimate, se = _with_error(totals)
    return np.asarray(2 * special.stdtr(totals.sums.shape[1] - 1, -np.abs(estimate) / se))


def _with_error(totals: Totals) -> tuple[Floats, Floats]:
    """Mean and its clustered standard error, as `significance.clustered_t` has them."""
    estimate = totals.estimate
    n_clusters = totals.sums.shape[1]
    influence = (totals.sums - estimate[:, None] * totals.counts) / totals.counts.sum(axis=1, keepdims=True)
    return estimate, np.sqrt(n_clusters / (n_clusters - 1) * np.square(influence).sum(axis=1))


def _resampled(totals: Totals, times: Floats) -> tuple[Floats, Floats]:
    """Mean and clustered standard error in every resample, (n, resamples)."""
    n_clusters = times.shape[1]
    size = totals.counts @ times.T
    means = totals.sums @ times.T / size
    squares = np.square(totals.sums) @ times.T - 2 * means * ((totals.sums * totals.counts) @ times.T)
    squares += np.square(means) * (np.square(totals.counts) @ times.T)
    errors = np.sqrt(n_clusters / (n_clusters - 1) * np.maximum(squares, 0)) / size
    return means, errors


def _ends(ordered: Floats, low: float | Floats, high: float | Floats) -> tuple[Floats, Floats]:
    """Quantiles of sorted rows, interpolated as NumPy does; levels of shape () or (n,)."""
    found = []
    for level in (low, high):
        place = np.broadcast_to(np.asarray(level) * (ordered.shape[1] - 1), len(ordered))
        below = np.minimum(place.astype(np.intp), ordered.shape[1] - 2)
        rows = np.arange(len(ordered))
        found.append(ordered[rows, below] + (place - below) * (ordered[rows, below + 1] - ordered[rows, below]))
    return found[0], found[1]


def _bca(totals: Totals, ordered: Floats, z: float) -> tuple[Floats, Floats]:
    """Efron's bias-corrected and accelerated interval (1987), with the jackknife over clusters."""
    estimate = totals.estimate[:, None]
    n = ordered.shape[1]
    below = (ordered < estimate).sum(axis=1) + 0.5 * (ordered == estimate).sum(axis=1)
    bias = special.ndtri(np.clip(below / n, 0.5 / n, 1 - 0.5 / n))
    without = totals.sums.sum(axis=1, keepdims=True) - totals.sums
    without = without / (totals.counts.sum(axis=1, keepdims=True) - totals.counts)
    change = without.mean(axis=1, keepdims=True) - without
    acceleration = (change**3).sum(axis=1) / (6 * (change**2).sum(axis=1) ** 1.5)
    low, high = (special.ndtr(bias + (bias + q) / (1 - acceleration * (bias + q))) for q in (-z, z))
    return _ends(ordered, low, high)


def _reported(totals: Totals, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """The intervals of `significance.bootstrap`, from cells with these sums by cluster."""
    lows, highs = [], []
    counts = np.broadcast_to(totals.counts, totals.sums.shape).astype(np.intp)
    shared = len(totals.counts) == 1
    for rows in [slice(None)] if shared else [slice(row, row + 1) for row in range(len(counts))]:
        size = counts[rows][0]
        cells = Cells.of(np.zeros(size.sum(), np.intp), np.repeat(np.arange(len(size)), size))
        found = bootstrap(cells, np.repeat(totals.sums[rows] / size, size, axis=1), draws=resamples, seed=seed)
        lows.append(found.low)
        highs.append(found.high)
    return np.concatenate(lows), np.concatenate(highs)


def coverage(case: Case, drawn_by: str, totals: Totals, resamples: int, seed: int) -> list[Figure]:
    """How often each interval holds 0, how often that contradicts the sign-flip test, and how wide it is.

    Widths are mean widths, as shares of that of the clustered t interval.
    """
    draws = len(totals.sums)
    held: dict[str, list[NDArray[np.bool_]]] = {method: [] for method in METHODS}
    widths = dict.fromkeys(METHODS, 0.0)
    found = []
    for number, rows in enumerate(_blocks(draws)):
        block = Totals(totals.sums[rows], totals.counts if len(totals.counts) == 1 else totals.counts[rows])
        found.append(_sign_flip_p(block, resamples, seed + number) <= LEVEL)
        for method, (low, high) in intervals(block, resamples, seed + number).items():
            held[method].append((low <= 0) & (high >= 0))
            widths[method] += float((high - low).sum())
    rejected = np.concatenate(found)
    clusters = "article" if drawn_by in UNITS else str(totals.sums.shape[1])
    figures = []
    for method in METHODS:
        holds = np.concatenate(held[method])
        where = {"drawn_by": drawn_by, "clusters": clusters, "method": method}
        figures.append(_rate(case, "coverage", holds, **where))
        figures.append(_rate(case, "contradicts p", holds == rejected, **where))
        width = widths[method] / widths["clustered t"]
        figures.append(Figure("width", case.pair, case.settings, drawn_by, clusters, method, width, None, draws))
    return figures


# -- exactness -------------------------------------------------------------------------------------------------------


def exactness(case: Case, resamples: int, seed: int) -> list[Figure]:
    """How far the p-values of `sign_flip` are from those of all flips, and of the analytic t.

    The centred differences are shifted from none to 11/3 clustered standard errors, so that p goes from 1 to .001; of
    the twelve p-values the worst counts. Against all flips, the clusters are the first articles; what is over the limit
    of the exact test is drawn at random, and its distance is in standard errors of that draw.
    """

    def figure(part: str, clusters: str, method: str, value: float, draws: int) -> Figure:
        return Figure(part, case.pair, case.settings, "", clusters, method, value, None, draws)

    found = []
    article = case.clusters["article"]
    for n_clusters in (8, EXACT_CLUSTERS, EXACT_CLUSTERS + 2, EXACT_CLUSTERS + 4):
        if n_clusters > article.max() + 1:
            break
        kept = article < n_clusters
        totals = totals_of(_shifted(case.means[kept], article[kept]), article[kept])
        p = _sign_flip_p(totals, resamples, seed)
        shares = totals.sums / kept.sum()
        signs = 1.0 - 2.0 * (np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters) & 1)
        exact = (np.abs(signs @ shares.T) >= np.abs(shares.sum(axis=1)) - 1e-12).mean(axis=0)
        off = np.abs(p - exact)
        if n_clusters <= EXACT_CLUSTERS:
            found.append(figure("all flips", str(n_clusters), "all", float(off.max()), 2**n_clusters))
        else:
            # The 1 in (c + 1) / (B + 1) moves p by up to 1 / B.
            off = np.maximum(off - 1 / resamples, 0) / np.sqrt(exact * (1 - exact) / resamples + 1e-12)
            found.append(figure("all flips", str(n_clusters), "random", float(off.max()), resamples))
    for unit in UNITS:
        cluster = case.clusters[unit]
        squares = np.square(totals_of(case.means[None], cluster).sums)
        effective = float(squares.sum() ** 2 / np.square(squares).sum())
        found.append(figure("effective clusters", unit, "", effective, 0))
        totals = totals_of(_shifted(case.means, cluster), cluster)
        off = np.abs(_sign_flip_p(totals, _MANY_FLIPS, seed) - _clustered_p(totals))
        found.append(figure("clustered t", unit, "sign flip", float(off.max()), _MANY_FLIPS))
    return found


def _shifted(means: Floats, cluster: Places) -> Floats:
    """The values centred and moved by 0, 1/3, ..., 11/3 of their clustered standard error, (12, Q)."""
    centred = means - means.mean()
    se = _with_error(totals_of(centred[None], cluster))[1]
    return np.asarray(centred + np.arange(12)[:, None] / 3 * se)


# -- everything ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """All that was measured.

    Attributes:
        runs: The runs.
        n_clusters: Number of clusters, by unit.
        draws: Draws in each row.
        resamples: Flips of a test, resamples of an interval.
        seed: Of everything.
        figures: As in the CSV.
        checks: Largest differences to what `significance` and SciPy give for all cells.
        seconds: By part.
    """

    runs: Sequence[Run]
    n_clusters: Mapping[str, int]
    draws: int
    resamples: int
    seed: int
    figures: Sequence[Figure]
    checks: Mapping[str, float]
    seconds: Mapping[str, float]

    def of(self, part: str, **wanted: str) -> list[Figure]:
        """The figures of a part that have these values."""
        return [f for f in self.figures if f.part == part and all(getattr(f, k) == v for k, v in wanted.items())]

    @property
    def default_test(self) -> list[Figure]:
        """False positives of what the reports go by: the sign-flip test with articles as clusters."""
        return self.of("false positives", clusters="article", method=FLIPS)

    def swapped(self, part: str, method: str) -> list[Figure]:
        """The figures of an interval where labels were swapped."""
        return [f for f in self.of(part, method=method) if f.drawn_by in UNITS]

    @property
    def cases(self) -> list[tuple[str, str]]:
        """Pairs of runs and settings."""
        return list(dict.fromkeys((f.pair, f.settings) for f in self.figures))

    @property
    def reported(self) -> str:
        """Which of the other intervals `significance.bootstrap` gives."""
        values = {m: [f.value for p in ("coverage", "width") for f in self.of(p, method=m)] for m in METHODS}
        return next((m for m in METHODS[1:] if np.allclose(values[m], values[METHODS[0]])), "another")

    def broken(self) -> list[str]:
        """The promises that are not kept, of the tests and intervals that the reports rest on."""
        # What few draws leave to chance is no fault of the test.
        chance = 3 * np.sqrt(LEVEL * (1 - LEVEL) / self.draws)
        low, high = min(RATES[0], LEVEL - chance), max(RATES[1], LEVEL + chance)
        found = [
            f"{f.pair}, {f.settings} settings, labels swapped by {f.drawn_by}: {100 * f.value:.1f}% false positives of "
            "the default test"
            for f in self.default_test
            if not low <= f.value <= high
        ]
        low, high = min(COVERAGE[0], 1 - LEVEL - chance), max(COVERAGE[1], 1 - LEVEL + chance)
        found += [
            f"{f.pair}, {f.settings} settings, labels swapped by {f.drawn_by}: {100 * f.value:.1f}% of the 95% "
            f"intervals of {METHODS[0]} hold the truth"
            for f in self.swapped("coverage", METHODS[0])
            if not low <= f.value <= high
        ]
        found += [f"{what}: {value:.1e} off on all cells" for what, value in self.checks.items() if value > 1e-9]
        for f in self.of("all flips"):
            if f.value > (1e-9 if f.method == "all" else 5):
                found.append(f"{f.pair}, {f.settings} settings, {f.clusters} clusters: p is not that of all flips")
        return found


def calibrate(runs: Sequence[Run], draws: int, resamples: int, seed: int) -> Calibration:
    """Measure everything on all pairs of these runs."""
    figures: list[Figure] = []
    checks: dict[str, float] = {}
    seconds: dict[str, float] = {}

    def timed(part: str, measure: Callable[..., list[Figure]], *arguments: Any) -> None:
        start = time.perf_counter()
        figures.extend(measure(*arguments))
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start

    for number, case in enumerate(cases_of(runs)):
        figures += _standard_errors(case)
        for place, unit in enumerate(UNITS):
            signs = random_signs(case.clusters[unit], draws, np.random.default_rng([seed, number, place]))
            # Every row has flips and resamples of its own, too.
            own = seed + 1000 * (len(UNITS) * number + place)
            totals = totals_of(signs * case.means, case.clusters["article"])
            timed("false positives", false_positives, case, unit, signs, resamples, own)
            timed("intervals", coverage, case, unit, totals, resamples, own)
            if case.settings == _ALL:
                found = checked_on_cells(case, "article", signs[:_CHECKED], resamples, own)
                checks = {what: max(value, checks.get(what, 0.0)) for what, value in found.items()}
        if case.settings == _ALL:
            for size in SIZES:
                totals = redrawn(case, size, draws, np.random.default_rng([seed, number, len(UNITS), size]))
                timed("intervals, articles anew", coverage, case, _ANEW, totals, resamples, seed + 1000 * number)
        timed("exactness", exactness, case, significance.DRAWS, seed + number)
    n_clusters = {unit: int(cluster.max()) + 1 for unit, cluster in runs[0].clusters.items()}
    return Calibration(runs, n_clusters, draws, resamples, seed, figures, checks, seconds)


def _standard_errors(case: Case) -> list[Figure]:
    """The real difference, and its standard errors by cluster, as multiples of the one for independent cells."""
    independent = float(case.d.std(ddof=1) / np.sqrt(case.d.size))
    found = [Figure("difference", case.pair, case.settings, "", "", "", case.delta, None, 0)]
    for unit in UNITS:
        se = float(_with_error(totals_of(case.means[None], case.clusters[unit]))[1][0])
        ratio = se / independent
        found.append(Figure("standard error", case.pair, case.settings, "", unit, "clustered", ratio, None, 0))
    return found


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _rate(case: Case, part: str, hits: NDArray[np.bool_], **where: str) -> Figure:
    rate = float(hits.mean())
    error = float(np.sqrt(rate * (1 - rate) / len(hits)))
    return Figure(part, case.pair, case.settings, value=rate, error=error, draws=len(hits), **where)


def _mean(figures: Sequence[Figure]) -> float:
    return float(np.mean([f.value for f in figures]))


# -- report ----------------------------------------------------------------------------------------------------------


def csv_of(calibration: Calibration) -> str:
    """All figures as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Figure)])
    for f in calibration.figures:
        error = "" if f.error is None else f"{f.error:.6f}"
        writer.writerow(
            [f.part, f.pair, f.settings, f.drawn_by, f.clusters, f.method, f"{f.value:.6f}", error, f.draws]
        )
    return text.getvalue()


def report_of(calibration: Calibration) -> str:
    """The report as Markdown."""
    c = calibration
    parts = (*_head(c), *_how(c), *_by_settings(c), *_intervals(c), *_exactness(c))
    return "\n\n".join(parts) + "\n"


# Clusters and method of each test, in the order of the tables, and its title there.
_TESTS = {
    **{(unit, FLIPS): f"By {unit}" for unit in UNITS},
    ("article", FLIPS): "By article (default)",
    ("cell", POOLED): "Paired t over all cells",
    ("setting", OVER_SETTINGS): "t over means of settings",
}


def _head(c: Calibration) -> list[str]:
    rows = []
    for unit in UNITS:
        found = [
            c.of("false positives", drawn_by=unit, clusters=clusters, method=method) for clusters, method in _TESTS
        ]
        rows.append([unit, *(f"{100 * _mean(figures):.1f} ({_span(figures)})" for figures in found)])
    reported, plain = c.swapped("coverage", METHODS[0]), c.swapped("coverage", "percentile")
    return [
        "# Do the p-values and intervals keep their promises?",
        *(f"- **Broken:** {line}." for line in c.broken()),
        f"Per cent of the draws in which a test at {100 * LEVEL:.0f}% finds a difference where there is none: "
        f"the average of {len(c.cases)} comparisons of real runs of XQuAD-R, and their range. Sign flips are right if "
        "they take what labels were swapped by, or larger clusters; only articles always are.",
        _table(["Labels swapped by", *_TESTS.values()], rows),
        f"The 95% intervals of `significance.bootstrap` ({c.reported}, by article) hold the truth in "
        f"{100 * _mean(reported):.1f}% of the draws ({_span(reported)}); plain percentile intervals would in "
        f"{100 * _mean(plain):.1f}% ({_span(plain)}).",
    ]


def _how(c: Calibration) -> list[str]:
    first = c.runs[0]
    kinds = {kind: first.settings.count(kind) for kind in dict.fromkeys(first.settings)}
    versions = ", ".join(f"{name} {version(name)}" for name in ("hybrid-bench", "mteb", "torch", "numpy", "scipy"))
    rows = []
    for settings in dict.fromkeys(settings for _, settings in c.cases):
        differences = [abs(f.value) for f in c.of("difference", settings=settings)]
        errors = [[f.value for f in c.of("standard error", settings=settings, clusters=unit)] for unit in UNITS]
        spans = (f"{min(values):.1f} to {max(values):.1f}" for values in errors)
        rows.append([settings, f"{min(differences):.3f} to {max(differences):.3f}", *spans])
    return [
        "## How it was measured",
        "`nox -s calibration` runs `benchmarks/calibration.py`, which ends with 1 if the default test is not within "
        f"{100 * RATES[0]:.1f} to {100 * RATES[1]:.1f}%, or the interval not within {100 * COVERAGE[0]:.1f} to "
        f"{100 * COVERAGE[1]:.1f}%, in any comparison. Every figure is in `calibration.csv`.",
        "\n".join([
            f"- Runs: {', '.join(f'{run.name} ({run.revision})' for run in c.runs)}; average precision at full depth "
            f"of {len(first.questions):,} questions in each of {len(first.subsets)} settings "
            f"({', '.join(f'{n} {kind}' for kind, n in kinds.items())}). Every pair of runs is compared in all "
            "settings and in each kind.",
            f"- Clusters: {', '.join(f'{n:,} by {unit}' for unit, n in c.n_clusters.items())}.",
            "- What is drawn: from every cell the mean of its setting is taken, so that the true difference is 0, and "
            "what makes cells alike stays. (Otherwise random signs would turn the difference of the runs into noise "
            "that all cells of a question share, and the naive tests would look worse than they are.) Then labels are "
            "swapped at random, in whole questions, paragraphs or articles.",
            f"- {c.draws:,} draws for each comparison and way of swapping; {c.resamples:,} flips or resamples a draw, "
            f"where the reports take {significance.DRAWS:,}; every {_BLOCK} draws share them; seed {c.seed}.",
            f"- {versions}. On {os.cpu_count()} CPUs: "
            f"{', '.join(f'{what} {taken:.0f} s' for what, taken in c.seconds.items())}.",
            f"- Questions stand for their cells, as each is in every setting. On {_CHECKED} draws of every way of "
            f"swapping, in all settings, everything was computed from all {first.ap.size:,} cells, too, by "
            "`significance` and SciPy; largest differences: "
            f"{', '.join(f'{what} {value:.0e}' for what, value in c.checks.items())}.",
        ]),
        "The real differences, and their clustered standard errors as multiples of that for independent cells, which "
        "is why the other tests fail:",
        _table(["Settings", "Difference", *(f"By {unit}" for unit in UNITS)], rows),
    ]  # fmt: skip


def _by_settings(c: Calibration) -> list[str]:
    rows = []
    for settings in dict.fromkeys(settings for _, settings in c.cases):
        for unit in UNITS:
            found = [
                c.of("false positives", settings=settings, drawn_by=unit, clusters=clusters, method=method)
                for clusters, method in _TESTS
            ]
            rows.append([settings, unit, *(f"{100 * _mean(figures):.1f}" for figures in found)])
    n_pairs = len({pair for pair, _ in c.cases})
    error = 100 * np.sqrt(LEVEL * (1 - LEVEL) / c.draws)
    return [
        "## False positives by setting",
        f"Averages over {n_pairs} pairs of runs. At 5% the Monte-Carlo error of one comparison is {error:.1f}.",
        _table(["Settings", "Labels swapped by", *_TESTS.values()], rows),
    ]


def _intervals(c: Calibration) -> list[str]:
    rows = []
    for method in METHODS[1:]:
        found = c.swapped("coverage", method)
        by_unit = [_mean([f for f in found if f.drawn_by == unit]) for unit in UNITS]
        inside = sum(COVERAGE[0] <= f.value <= COVERAGE[1] for f in found)
        contradicting, width = _mean(c.swapped("contradicts p", method)), _mean(c.swapped("width", method))
        means = [f"{100 * value:.1f}" for value in (*by_unit, _mean(found))]
        name = f"{method} (reported)" if method == c.reported else method
        rows.append(
            [name, *means, _span(found), f"{inside} of {len(found)}", f"{100 * contradicting:.1f}", f"{width:.3f}"]
        )
    anew = []
    for size in SIZES:
        expected = 1 - 2 * special.stdtr(size - 1, -special.ndtri(1 - LEVEL / 2) * np.sqrt((size - 1) / size))
        found = c.of("coverage", drawn_by=_ANEW, clusters=str(size))
        means = [f"{100 * _mean([f for f in found if f.method == method]):.1f}" for method in METHODS[1:]]
        anew.append([str(size), f"{100 * expected:.1f}", *means])
    titles = ["Interval", *(f"Swapped by {unit}" for unit in UNITS), "Mean", "Range"]
    titles += [f"{100 * COVERAGE[0]:.1f} to {100 * COVERAGE[1]:.1f}%", "Contradicts p", "Width"]
    effective = [f.value for f in c.of("effective clusters", clusters="article")]
    return [
        "## Intervals",
        "Per cent of the 95% intervals, by article, that hold the true difference, 0. Contradicts p: per cent of the "
        "draws in which the interval holds 0 and the sign-flip test finds a difference, or neither. Width: as a share "
        "of that of the clustered t interval. Of B resamples, percentiles lose about 2 x .95 / B: "
        f"{190 / c.resamples:.2f} points here, {190 / significance.DRAWS:.2f} in the reports.",
        _table(titles, rows),
        "The same where no label is swapped, but whole articles are drawn with replacement from the centred ones, so "
        "that their differences are as skewed as they are; in all settings, averages over the pairs of runs. Such "
        "differences cannot be exchanged: here the sign-flip test is an approximation, too. Expected is what "
        "percentile intervals would hold if sums by article were normal: P(|t| <= 1.96 sqrt((G - 1) / G)), t with "
        "G - 1 degrees of freedom.",
        _table(["Articles", "Expected", *METHODS[1:]], anew),
        "What percentile intervals lack beyond that comes from the unequal weight of articles: all "
        f"{c.n_clusters['article']} vary as {min(effective):.0f} to {max(effective):.0f} equal ones would, by "
        "(sum x^2)^2 / sum x^4 of their shares x.",
        "\n".join([
            "- expanded percentile: cut at Phi(-+ sqrt(G / (G - 1)) t) for t = t_.975 with G - 1 degrees of freedom, "
            "instead of at .025 and .975 (Hesterberg 2015, doi:10.1080/00031305.2015.1089789). It serves every "
            "statistic, medians too, and stays within what resamples give.",
            "- t-scaled percentile: both ends' distances from the estimate times sqrt(G / (G - 1)) t / 1.96.",
            "- BCa: bias-corrected and accelerated (Efron 1987), by the jackknife over clusters.",
            "- bootstrap-t: pivots with the clustered standard error of each resample.",
            "- clustered t: the analytic interval of `significance.clustered_t`.",
            "- sign flip: all differences that the sign-flip test does not reject, so that it never contradicts p; for "
            "means only. What it lacks of 100% is that test's rate of false positives.",
        ]),
    ]  # fmt: skip


def _exactness(c: Calibration) -> list[str]:
    rows = []
    for (clusters, method), draws in {(f.clusters, f.method): f.draws for f in c.of("all flips")}.items():
        worst = max(f.value for f in c.of("all flips", clusters=clusters, method=method))
        shown = f"{worst:.0e}" if method == "all" else f"{worst:.1f} standard errors"
        rows.append([clusters, f"{2 ** int(clusters):,}", f"{draws:,}", shown])
    agreement = []
    for unit in reversed(UNITS):
        off = [f.value for f in c.of("clustered t", clusters=unit)]
        equal = [f.value for f in c.of("effective clusters", clusters=unit)]
        within = f"{sum(value <= AGREEMENT for value in off)} of {len(off)}"
        agreement.append(
            [f"{c.n_clusters[unit]:,} {unit}s", f"{min(equal):.0f} to {max(equal):.0f}", within, f"{max(off):.4f}"]
        )
    return [
        "## Exactness of p",
        "The centred differences, moved by 0, 1/3, ..., 11/3 clustered standard errors, so that p goes from 1 to about "
        ".001: the largest difference of these twelve p-values in any comparison. To all flips, enumerated, of the "
        "first articles:",
        _table(["Articles", "All flips", "Flips of the test", "Largest difference"], rows),
        f"To the analytic clustered t, with {_MANY_FLIPS:,} flips, whose own standard error is at most "
        f"{0.5 / np.sqrt(_MANY_FLIPS):.4f}. Where a few clusters have most of the weight, t is an approximation; the "
        "flips are not.",
        _table(["Clusters", "Vary as so many equal ones", f"Within {AGREEMENT}", "Largest difference"], agreement),
    ]


def _span(figures: Sequence[Figure]) -> str:
    values = [100 * f.value for f in figures]
    return f"{min(values):.1f} to {max(values):.1f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["right" if cell[:1].isdigit() else "left" for cell in rows[0]]
    return tabulate(rows, titles, tablefmt="pipe", disable_numparse=True, colalign=align)


def save(calibration: Calibration, folder: Path) -> None:
    """Write report and CSV."""
    for name, text in (("calibration.csv", csv_of(calibration)), ("README.md", report_of(calibration))):
        with atomic(folder / name) as beside:
            beside.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs, measure, and write; 0 if all promises are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("HYBRID_BENCH_DATA", "../shared/data"))
    parser.add_argument("--data-dir", type=Path, default=default, help="holds xquad-r and ntrex-128")
    parser.add_argument("--runs", type=Path, help="folder for the runs, which are used again (default: none are kept)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "calibration")
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=4000, help="flips of a test, resamples of an interval")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.draws < 2 or options.resamples < 100 or options.seed < 0:
        parser.error(
            f"{options.draws} draws, {options.resamples} resamples, seed {options.seed}: take at least 2 draws, 100 "
            "resamples, and a seed from 0 up"
        )
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        folder = options.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data_dir = options.data_dir.resolve()
        try:
            models = ["hybrid_bench/bm25", "hybrid_bench/char-ngram", static_model(folder, data_dir)]
            runs = make_runs(folder, models, data_dir=data_dir)
            taken = time.perf_counter() - start
            calibration = calibrate(runs, options.draws, options.resamples, options.seed)
        except HybridBenchError as error:
            parser.error(str(error))
    if options.runs is None:  # else some may have been there already
        calibration = replace(calibration, seconds={"runs": taken, **calibration.seconds})
    save(calibration, options.out)
    for line in calibration.broken():
        print(f"broken: {line}")
    print(f"written to {options.out}")
    return 1 if calibration.broken() else 0


if __name__ == "__main__":
    raise SystemExit(main())
