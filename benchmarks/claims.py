"""What `nox -s calibration` runs second: few clusters, many differences at once, and methods trained several times.

1. How often do intervals of few articles hold the truth, in samples of real articles and in normal clusters?
2. How often does a run that does not differ get a dagger somewhere in a table, by Holm's correction of each column and
   by `significance.step_down` over all of them?
3. How often are two methods that do not differ called different, by `trainings.compare_methods`, and by each question's
   mean over the trainings? Trainings are drawn from what trainings of one static model with other seeds really vary in.

Writes ``claims.md`` and ``claims.csv``. Ends with 1 if a promise is not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

# ruff: noqa: E402 # run from a checkout, the package need not be installed
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from calibration import COVERAGE, LEVEL, Case, Totals, cases_of, intervals, make_runs, read_run, redrawn
from hybrid_bench.analysis.scores import OF_QUERIES, setting_scores
from hybrid_bench.errors import DataError, HybridBenchError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import (
    FEW_CLUSTERS,
    Cells,
    Contrast,
    attainable,
    holm,
    macro_mean,
    sign_flip,
    step_down,
)
from hybrid_bench.measures.trainings import PAIRED_FROM, compare_methods
from hybrid_bench.runs.reading import Run, find_runs

__all__ = ["Claim", "broken", "families", "few_clusters", "main", "methods", "report_of", "splits"]

Floats = NDArray[np.float64]

#: Numbers of articles in samples.
FEW = (3, 4, 5, 6, 8, 9, 10, 12)
#: Intervals of few clusters; the first is the one that is reported.
INTERVALS = ("significance.bootstrap", "expanded percentile", "clustered t", "sign flip")
#: Numbers of trainings of each method.
TRAININGS = (2, 3, 5, 10)
#: How much methods differ by article, in standard errors of the trainings of three.
DIFFERENCES = (0.0, 1.0, 3.0)
#: Most false positives of a test of methods, and of a family; rates below are conservative, and told.
MOST = 0.065
#: What is measured of methods: measure and setting.
MEASURED = (
    ("map", Setting.MONOLINGUAL),
    ("map", Setting.CROSS_LINGUAL),
    ("map", Setting.MULTILINGUAL),
    ("bias_rank_distance", Setting.MULTILINGUAL),
)
#: The columns of the main table that are means over queries.
MAIN_COLUMNS = (
    *((measure, Setting.MONOLINGUAL) for measure in ("map", "recall_at_1")),
    *((measure, Setting.CROSS_LINGUAL) for measure in ("map", "recall_at_1")),
    *((measure, Setting.MULTILINGUAL) for measure in ("map", "recall_at_10", "bias_rank_distance")),
)


class Claim(NamedTuple):
    """A figure, and a line of the CSV.

    Attributes:
        part: ``few clusters``, ``family``, ``methods`` or ``splits``.
        case: What it is of.
        n: Number of clusters, of differences, or of trainings of each method.
        method: The interval or test.
        value: A rate.
        draws: Number of draws that it comes from.
    """

    part: str
    case: str
    n: int
    method: str
    value: float
    draws: int


# -- few clusters ----------------------------------------------------------------------------------------------------


def few_clusters(cases: Sequence[Case], draws: int, resamples: int, seed: int) -> list[Claim]:
    """How often intervals hold the truth: of real articles drawn anew, and of normal clusters of one size."""
    found = []
    for size in FEW:
        rng = np.random.default_rng([seed, size])
        samples = {"articles": [redrawn(case, size, draws // len(cases), rng) for case in cases]}
        samples["normal"] = [Totals(rng.standard_normal((draws, size)), np.ones((1, size)))]
        for name, each in samples.items():
            held: dict[str, list[NDArray[np.bool_]]] = {}
            for totals in each:
                for method, (low, high) in intervals(totals, resamples, seed + size, INTERVALS).items():
                    held.setdefault(method, []).append((low <= 0) & (high >= 0))
            for method, holds in held.items():
                rate = np.concatenate(holds)
                found.append(Claim("few clusters", name, size, method, float(rate.mean()), len(rate)))
    return found


# -- many differences ------------------------------------------------------------------------------------------------


def by_article(run: Run, measure: str, setting: Setting, collection: str) -> tuple[Cells, Floats] | None:
    """The cells of the queries that have this measure, sorted by query, and their scores; None if there are none."""
    scores = setting_scores(run, collection, setting)
    values = scores.of(measure)
    if values is None or np.isnan(values).any():
        return None
    order = scores.order
    return Cells.of(scores.subset[order], scores.cluster("article")[order]), values[order]


def families(runs: Sequence[Run], collection: str, draws: int, flips: int, seed: int) -> list[Claim]:
    """How often a run gets a dagger somewhere: labels of centred differences are swapped by article."""
    bias = [(key, Setting.MULTILINGUAL) for key in OF_QUERIES if key.startswith("bias_")]
    found = []
    for name, columns in (("main table", MAIN_COLUMNS), ("bias tables", bias), ("both", (*MAIN_COLUMNS, *bias))):
        shares = []
        for measure, setting in dict.fromkeys(columns):
            each = [by_article(run, measure, setting, collection) for run in runs]
            if None in each:
                continue
            (cells, base), *others = [one for one in each if one is not None]
            for _, values in others:
                d = values - base
                d = d - macro_mean(cells, d, by_setting=True)[cells.setting]
                weights = 1 / cells.counts.sum(axis=0)[cells.setting] / cells.n_settings
                shares.append(np.bincount(cells.cluster, d * weights, cells.n_clusters))
        of_columns = np.array(shares).reshape(-1, len(runs) - 1, len(shares[0]))
        of_columns = of_columns[np.abs(of_columns).sum(axis=(1, 2)) > 0]
        n_clusters = of_columns.shape[2]
        cells = Cells.of(np.zeros(n_clusters, np.intp), np.arange(n_clusters))
        rng = np.random.default_rng([seed, len(columns)])
        apart, together = [], []
        for draw in range(draws):
            signs = rng.choice([-1.0, 1.0], n_clusters)
            contrast = Contrast.of_means(cells, n_clusters * of_columns * signs)
            tested = step_down([contrast], draws=flips, seed=seed + draw)
            # A run: any of its columns.
            by_column = np.array([holm(p) for p in tested.p[0]])
            apart.append((by_column <= LEVEL).any(axis=0))
            together.append((tested.p_adjusted[0] <= LEVEL).any())
        n = of_columns[:, :, 0].size
        found.append(Claim("family", name, n, "Holm by column, a run", float(np.mean(apart)), draws))
        any_of_all = float(np.mean(np.any(apart, axis=1)))
        found.append(Claim("family", name, n, "Holm by column, any", any_of_all, draws))
        found.append(Claim("family", name, n, "step-down max-T, any", float(np.mean(together)), draws))
    return found


# -- methods ---------------------------------------------------------------------------------------------------------


class Variation(NamedTuple):
    """How trainings of one method vary.

    Attributes:
        main: Standard deviation of a training on all articles alike.
        parts: (k, G), deviations by article of which random sums have the covariance that trainings have.
    """

    main: float
    parts: Floats


def variation(means: Floats) -> Variation:
    """From the means of k trainings by article, (k, G)."""
    k, n_clusters = means.shape
    of_runs = means.mean(axis=1, keepdims=True)
    parts = means - of_runs
    parts = (parts - parts.mean(axis=0)) / np.sqrt(k - 1)
    # Articles that deviate alone move the mean of all as well.
    within = float(np.square(parts).sum()) / n_clusters**2
    return Variation(float(np.sqrt(max(0.0, of_runs.var(ddof=1) - within))), parts)


def drawn(of: Variation, n: int, rng: np.random.Generator) -> Floats:
    """Trainings of a method, (n, G); articles deviate independently of each other."""
    k, n_clusters = of.parts.shape
    signs = rng.choice([-1.0, 1.0], n_clusters)
    return np.asarray(of.main * rng.standard_normal((n, 1)) + (rng.standard_normal((n, k)) @ of.parts) * signs)


def methods(trainings: dict[str, Floats], draws: int, flips: int, seed: int) -> list[Claim]:
    """How often two methods are called different where there is no difference, for other articles and trainings.

    Args:
        trainings: By measure and setting, the means of trainings of one method by article, (k, G).
        draws: Draws of each kind.
        flips: Of the test of each question's mean over trainings.
        seed: Of everything.
    """
    found = []
    for place, (name, means) in enumerate(trainings.items()):
        of, n_clusters = variation(means), means.shape[1]
        cells = Cells.of(np.zeros(n_clusters, np.intp), np.arange(n_clusters))
        rng = np.random.default_rng([seed, place])
        size = np.sqrt(2 / 3 * (of.main**2 + np.square(of.parts).sum() / n_clusters**2))
        for ratio in DIFFERENCES:
            by_cluster = rng.standard_normal(n_clusters) * np.sqrt(n_clusters) * size * ratio
            for n in TRAININGS:
                rejected: dict[str, list[bool]] = {}
                for draw in range(draws):
                    a = drawn(of, n, rng) + by_cluster * rng.choice([-1.0, 1.0], n_clusters)
                    b = drawn(of, n, rng)
                    tests = {"apart": compare_methods(cells, a, b).p}
                    if n >= PAIRED_FROM:
                        tests["in pairs"] = compare_methods(cells, a, b, paired=True).p
                    d = a.mean(axis=0) - b.mean(axis=0)
                    tests["means over trainings"] = float(sign_flip(cells, d, draws=flips, seed=seed + draw).p)
                    for test, p in tests.items():
                        rejected.setdefault(test, []).append(p <= LEVEL)
                case = f"{name}, {ratio:g}"
                found += [
                    Claim("methods", case, n, test, float(np.mean(each)), draws) for test, each in rejected.items()
                ]
    return found


def splits(trainings: dict[str, Floats], draws: int, flips: int, seed: int) -> list[Claim]:
    """How often trainings of one method are called different, three against three of them, without any assumption."""
    found = []
    for name, means in trainings.items():
        k, n_clusters = means.shape
        cells = Cells.of(np.zeros(n_clusters, np.intp), np.arange(n_clusters))
        rng = np.random.default_rng(seed)
        rejected: dict[str, list[bool]] = {"apart": [], "in pairs": [], "means over trainings": []}
        for draw in range(draws):
            order = rng.permutation(k)
            a, b = means[order[:3]], means[order[3:6]]
            rejected["apart"].append(compare_methods(cells, a, b).p <= LEVEL)
            rejected["in pairs"].append(compare_methods(cells, a, b, paired=True).p <= LEVEL)
            d = a.mean(axis=0) - b.mean(axis=0)
            rejected["means over trainings"].append(bool(sign_flip(cells, d, draws=flips, seed=seed + draw).p <= LEVEL))
        found += _claims("splits", name, 3, rejected)
    return found


def _claims(part: str, case: str, n: int, rejected: dict[str, list[bool]]) -> list[Claim]:
    return [Claim(part, case, n, test, float(np.mean(each)), len(each)) for test, each in rejected.items()]


def means_of(runs: Sequence[Run], collection: str) -> dict[str, Floats]:
    """Means by article of what is measured of methods, (k, G)."""
    found = {}
    for measure, setting in MEASURED:
        rows = []
        for run in runs:
            each = by_article(run, measure, setting, collection)
            if each is None:
                raise DataError(f"{run.label} lacks {measure} in some queries: take a collection with whole pools")
            cells, values = each
            rows.append(np.bincount(cells.cluster, values) / np.bincount(cells.cluster))
        found[f"{measure}, {setting.value}"] = np.array(rows)
    return found


# -- report ----------------------------------------------------------------------------------------------------------


def broken(claims: Sequence[Claim]) -> list[str]:
    """The promises that are not kept; what few draws leave to chance is no fault."""
    found = []
    for claim in claims:
        chance = 3 * np.sqrt(LEVEL * (1 - LEVEL) / claim.draws)
        if claim.part == "few clusters" and claim.method == "significance.bootstrap" and claim.case == "normal":
            low, high = min(COVERAGE[0], 1 - LEVEL - chance), max(COVERAGE[1], 1 - LEVEL + chance)
            if not low <= claim.value <= high and claim.n < FEW_CLUSTERS:
                found.append(f"{claim.n} normal clusters: {100 * claim.value:.1f}% of the 95% intervals hold the truth")
        most = max(MOST, LEVEL + chance)
        if claim.method in {"apart", "in pairs"} and claim.part == "methods" and claim.value > most:
            found.append(f"{claim.case}, {claim.n} trainings {claim.method}: {100 * claim.value:.1f}% false positives")
        if claim.method.startswith("step-down") and claim.value > most:
            found.append(f"{claim.case}: {100 * claim.value:.1f}% of families have a false finding by {claim.method}")
    return found


def _rate(claims: Sequence[Claim], **wanted: Any) -> str:
    values = [c.value for c in claims if all(getattr(c, name) == value for name, value in wanted.items())]
    return f"{100 * np.mean(values):.1f}" if values else "-"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["left" if column == 0 else "right" for column in range(len(titles))]
    return tabulate(rows, titles, tablefmt="pipe", disable_numparse=True, colalign=align)


def report_of(claims: Sequence[Claim], trainings: int) -> str:
    """The report as Markdown."""
    titles = ("Reported", *INTERVALS[1:])
    few = [
        [
            str(size),
            f"{attainable(size):.4f}",
            *(_rate(claims, part="few clusters", case="normal", n=size, method=method) for method in INTERVALS),
            *(_rate(claims, part="few clusters", case="articles", n=size, method=method) for method in INTERVALS),
        ]
        for size in FEW
    ]
    of_families = [c for c in claims if c.part == "family"]
    family = [
        [name, str(next(c.n for c in of_families if c.case == name))]
        + [_rate(of_families, case=name, method=method) for method in dict.fromkeys(c.method for c in of_families)]
        for name in dict.fromkeys(c.case for c in of_families)
    ]
    tests = ("apart", "in pairs", "means over trainings")
    of_methods = [c for c in claims if c.part == "methods"]
    rows = []
    for case in dict.fromkeys(c.case for c in of_methods):
        name, _, ratio = case.rpartition(", ")
        rates = {n: [_rate(of_methods, case=case, n=n, method=test) for test in tests] for n in TRAININGS}
        rows += [[name, ratio, str(n), *of_tests] for n, of_tests in rates.items()]
    of_splits = [c for c in claims if c.part == "splits"]
    split = [
        [name, *(_rate(of_splits, case=name, method=test) for test in tests)]
        for name in dict.fromkeys(c.case for c in of_splits)
    ]
    draws = {c.part: c.draws for c in claims}
    ours = [c.value for c in of_methods if c.method in tests[:2]]
    parts = [
        "# Few clusters, many differences, several trainings",
        *(f"- **Broken:** {line}." for line in broken(claims)),
        "`nox -s calibration` runs `benchmarks/claims.py` after the rest. Every figure is in `claims.csv`.",
        "## Few clusters",
        f"Per cent of the 95% intervals that hold the truth. Reported is `significance.bootstrap`: t intervals below "
        f"{FEW_CLUSTERS} clusters, expanded percentiles from there. First normal clusters of one size, then articles "
        "drawn anew from real differences, which are skewed and unequal, so that every interval lacks something. The "
        "sign-flip interval is endless, and the test without power, where its smallest p is above .05. "
        f"{draws['few clusters']:,} draws.",
        _table(
            ["Clusters", "Smallest p", *titles, *(f"{title}, articles" for title in titles)],
            few,
        ),
        "## Many differences at once",
        "Two runs against a third, none of which differ: labels are swapped by article. Per cent of "
        f"{draws['family']:,} draws in which a run gets a dagger in some column, and in which any run does, by Holm's "
        "correction of the runs in each column; and in which any run does by step-down max-T over columns and runs.",
        _table(["Columns of", "Differences", "Holm, a run", "Holm, any", "Step-down max-T, any"], family),
        "## Methods with several trainings",
        f"Per cent of {draws['methods']:,} draws in which two methods that do not differ are called different at 5%. "
        f"Trainings are drawn with the variances, on all articles alike and on single ones, that {trainings} trainings "
        "of one static model with other seeds have in XQuAD-R; methods differ at random by article, by so many "
        "standard errors of three trainings (By article). Apart and in pairs: `trainings.compare_methods`, which takes "
        "two trainings never in pairs. Means over trainings: the sign-flip test of each question's mean, which speaks "
        f"of these trainings only. Ours find a difference in {100 * min(ours):.1f} to {100 * max(ours):.1f}%, least "
        "where methods do not differ by article, where they are conservative; their 95% intervals hold the truth in "
        "all other draws.",
        _table(["Measure", "By article", "Trainings", "Apart", "In pairs", "Means over trainings"], rows),
        f"The same of the trainings themselves, three against three others, over {draws['splits']:,} splits:",
        _table(["Measure", "Apart", "In pairs", "Means over trainings"], split),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs, measure, and write; 0 if all promises are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("HYBRID_BENCH_DATA", "../shared/data"))
    parser.add_argument("--data-dir", type=Path, default=default, help="holds xquad-r and ntrex-128")
    parser.add_argument("--runs", type=Path, help="folder for the runs, which are used again (default: none are kept)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "calibration")
    parser.add_argument("--trainings", type=int, default=10, help="of the static model, at least 6 (default: 10)")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.draws < 10 or options.flips < 100 or options.seed < 0 or options.trainings < 6:
        parser.error("take at least 10 draws, 100 flips, 6 trainings, and a seed from 0 up")
    warnings.simplefilter("ignore")
    with contextlib.ExitStack() as stack:
        folder = options.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            claims = measured(folder, options.data_dir.resolve(), options)
        except HybridBenchError as error:
            parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "claims.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Claim._fields)
        writer.writerows((*claim[:4], f"{claim.value:.6f}", claim.draws) for claim in claims)
    (options.out / "claims.md").write_text(report_of(claims, options.trainings), encoding="utf-8")
    for line in broken(claims):
        print(f"broken: {line}")
    print(f"written to {options.out}")
    return 1 if broken(claims) else 0


def measured(folder: Path, data_dir: Path, options: argparse.Namespace) -> list[Claim]:
    """All figures, from runs of two embedded models and of a static model with several seeds."""
    from static_model import ntrex_pairs, train

    models = ["hybrid_bench/bm25", "hybrid_bench/char-ngram"]
    for seed in range(1, options.trainings + 1):
        place = folder / "models" / f"static-seed-{seed}"
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as beside:
                train(ntrex_pairs(data_dir), seed=seed).save(str(Path(beside) / "model"))
                (Path(beside) / "model").rename(place)
        models.append(str(place))
    made = make_runs(folder, models, data_dir=data_dir)
    by_name = {run.model: run for run in find_runs([folder])}
    runs = [by_name[run.name] for run in made]
    draws, flips, seed = options.draws, options.flips, options.seed
    three = [read_run(run.folder) for run in runs[:3]]
    cases = [case for case in cases_of(three) if case.settings == "all"]
    trainings = means_of(runs[2:], "XQuAD-R")
    return [
        *few_clusters(cases, 3 * draws, flips, seed),
        *families([runs[1], runs[0], runs[2]], "XQuAD-R", draws, flips, seed),
        *methods(trainings, draws, flips, seed),
        *splits(trainings, draws, flips, seed),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
