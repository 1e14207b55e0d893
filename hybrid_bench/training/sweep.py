"""`sweep`: the same training for several alphas and seeds, evaluated, and what comes out of it side by side.

Each training has a folder of its own in the output folder, and all runs are saved in ``<output>/runs``. What is there
already, with the same settings, is kept: an interrupted sweep goes on when it is started again, and more seeds can be
added later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from hybrid_bench.comparisons import LEVEL, Aligned, against_baseline, align
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.report import ReportRequest, report
from hybrid_bench.run import RunRequest, run, select_tasks
from hybrid_bench.runs import Run, TaskTable, find_runs
from hybrid_bench.significance import DRAWS, macro_mean
from hybrid_bench.study import SEEN, Level, Study
from hybrid_bench.training.config import TrainingConfig
from hybrid_bench.training.sampling import Sampling
from hybrid_bench.training.train import prepare, train

__all__ = ["Point", "pareto", "sweep", "sweep_report"]

Tell = Callable[[str], None]

#: What is compared: measure and setting, in the order of the table's columns.
_MEASURED = (
    ("map", Setting.MONOLINGUAL),
    ("map", Setting.CROSS_LINGUAL),
    ("map", Setting.MULTILINGUAL),
    ("bias_rank_distance", Setting.MULTILINGUAL),
)
_HEADS = ("Mo. mAP", "Cr. mAP", "Mul. mAP", "Rank distance")


@dataclass(frozen=True)
class Point:
    """A run of a sweep.

    Attributes:
        alpha: Share of monolingual batches in its training.
        seed: Seed of its training.
        run: Folder of its results.
    """

    alpha: float
    seed: int
    run: Path


def sweep(
    config: TrainingConfig, alphas: Sequence[float], seeds: Sequence[int], tell: Tell = lambda line: None
) -> list[Point]:
    """Train and evaluate for every alpha and seed, as far as it has not been done.

    Args:
        config: The training; its mode, alpha and seed are replaced, and its output is the folder for all.
        alphas: Shares of monolingual batches, each 0 to 1.
        seeds: Seeds.
        tell: Called with a line about each step.

    Returns:
        The runs, by alpha and seed.

    Raises:
        RequestError: Something that was asked for cannot be; all trainings have been checked before the first starts.
        DataError: As `prepare`.
        ModelError: A training or an evaluation failed; what was finished is kept.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError(
            "a sweep is one process: start it without torchrun or accelerate, or launch `train` for each alpha and seed"
        )
    for name, values in (("alpha", alphas), ("seed", seeds)):
        if not values:
            raise RequestError(f"no {name} is given: give at least one")
        if len(set(values)) < len(values):
            raise RequestError(f"a value of {name} is given twice: {' '.join(map(str, values))}")
    if not config.evaluation.collections:
        raise RequestError("a sweep compares what it trains: give collections in [evaluation]")
    if config.evaluation.folds > 1:
        raise RequestError("a sweep measures whole collections: leave out evaluation.folds, and train on other data")
    grid = {(alpha, seed): _at(config, alpha, seed) for alpha in sorted(alphas) for seed in sorted(seeds)}
    select_tasks(_request(config, config.output))
    for alpha in sorted(alphas):
        prepare(grid[alpha, min(seeds)])  # seeds differ in nothing that could be wrong
    points = []
    for (alpha, seed), each in grid.items():
        tell(f"alpha {alpha:g}, seed {seed}")
        trained = train(each, tell)
        outcome = run(_request(config, trained.folder), tell=tell)
        for failure in outcome.failures:
            raise failure.error
        points.append(Point(alpha, seed, outcome.folders[0]))
    return points


def _at(config: TrainingConfig, alpha: float, seed: int) -> TrainingConfig:
    """One training of the sweep. It is measured once, by `run`, which saves what it finds."""
    return replace(
        config,
        output=config.output / f"alpha-{alpha:g}-seed-{seed}",
        sampling=Sampling("hybrid", alpha, keep_single=config.sampling.keep_single),
        seed=seed,
        evaluation=replace(config.evaluation, collections=()),
        arguments={name: value for name, value in config.arguments.items() if name not in _EVALUATIONS}
        if config.validation is None
        else config.arguments,
    )


#: Arguments about evaluations during a training, of which a sweep has none, unless there is a validation set.
_EVALUATIONS = {"eval_strategy", "eval_steps", "eval_on_start", "eval_delay"}


def _request(config: TrainingConfig, model: Path) -> RunRequest:
    wanted = config.evaluation
    return RunRequest(
        models=(str(model),),
        tasks=wanted.collections,
        settings=wanted.settings,
        languages=wanted.languages,
        pool_languages=wanted.pool_languages,
        output=config.output / "runs",
        data_dir=config.data_dir,
        batch_size=wanted.batch_size,
    )


def pareto(values: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other is better than: at least as high in everything, and higher in something.

    Args:
        values: The points, each with the same number of values; higher is better.
    """
    points = np.array(values, dtype=np.float64)
    no_worse = (points[:, None] >= points[None, :]).all(2)
    better = (points[:, None] > points[None, :]).any(2)
    return [not each for each in np.any(no_worse & better, axis=0)]


def sweep_report(points: Sequence[Point], *, draws: int = DRAWS) -> str:
    """The report of all runs, then for every collection the means by alpha, the Pareto front, and tests.

    A test compares alphas by each query's mean score over the seeds: what it generalises to is other questions, for
    these trainings. Spread over seeds stands in the table.

    Args:
        points: From `sweep`.
        draws: Flips and resamples of a test.
    """
    runs = [each for point in points for each in find_runs([point.run])]
    collections = dict.fromkeys(table.collection for table in runs[0].tasks.values())
    sections = [report(ReportRequest(paths=[point.run for point in points])).strip()]
    sections += [_section(points, runs, name, draws) for name in collections]
    return "\n\n".join(sections) + "\n"


def _section(points: Sequence[Point], runs: Sequence[Run], collection: str, draws: int) -> str:
    """A collection's table of alphas, and its tests."""
    alphas = sorted({point.alpha for point in points})
    members = {alpha: [place for place, point in enumerate(points) if point.alpha == alpha] for alpha in alphas}
    aligned: dict[tuple[str, Setting], Aligned] = {}
    for measure, setting in _MEASURED:
        if all(any(setting.value in table.covered for table in _tables(each, collection)) for each in runs):
            found = align(runs, collection, setting, measure)
            if len(found.queries):
                aligned[measure, setting] = found
    if not aligned:
        return f"**{collection}**: the runs have no setting in common."
    by_run = {key: macro_mean(each.cells("question"), each.scores) for key, each in aligned.items()}
    means = {key: np.array([values[members[alpha]].mean() for alpha in alphas]) for key, values in by_run.items()}
    axes = [key for key in _MEASURED[:2] if key in means]
    front = pareto(np.stack([means[key] for key in axes], axis=1).tolist()) if len(axes) == 2 else None
    rows = [
        [f"{alpha:g}", str(len(members[alpha])), *(_cell(by_run, key, members[alpha]) for key in _MEASURED)]
        + ([] if front is None else ["yes" if front[place] else ""])
        for place, alpha in enumerate(alphas)
    ]
    heads = ["alpha", "Seeds", *_HEADS, *([] if front is None else ["Pareto front"])]
    table = tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=("right",) * len(heads))
    notes = (
        "Means over seeds, ± standard deviation over them. Pareto front: no other alpha is better in one of"
        " monolingual and cross-lingual mAP and at least as good in the other. alpha 1 is X-X-mono, 0 is X-Y."
    )
    tests = [_tests(aligned, members, baseline, collection, draws) for baseline in (1.0, 0.0) if baseline in members]
    seen = _seen(runs, members, collection)
    return "\n\n".join([f"**{collection} by alpha**", table, notes, *(each for each in (*tests, seen) if each)])


def _seen(runs: Sequence[Run], members: Mapping[float, list[int]], collection: str) -> str:
    """Quality by whether the models were trained on the languages, means over seeds; empty if they were on all."""
    study = Study(runs)
    columns: dict[str, dict[float, float]] = {}
    for setting in Setting:
        values = study.values(collection, setting, ["map"], {"seen"})
        for kind in SEEN:
            by_alpha = {}
            for alpha, places in members.items():
                found = [values.get((place, "map"), {}).get(Level(kind)) for place in places]
                if all(found):
                    by_alpha[alpha] = float(np.mean([value.value for value in found if value is not None]))
            if by_alpha:
                columns[f"{setting.short} {kind}"] = by_alpha
    if all(name.endswith(f" {SEEN[0]}") for name in columns):
        return ""
    rows = [
        [f"{alpha:g}", *(f"{each[alpha]:.4f}" if alpha in each else "-" for each in columns.values())]
        for alpha in members
    ]
    table = tabulate(
        rows, ["alpha", *columns], tablefmt="pipe", disable_numparse=True, colalign=("right",) * len(rows[0])
    )
    note = (
        "mAP by whether question and passages are in languages of the training: seen, both; mixed, one of them; unseen,"
        " neither. In the multilingual pool the language of the question decides."
    )
    return f"Languages in and out of the training:\n\n{table}\n\n{note}"


def _tables(each: Run, collection: str) -> list[TaskTable]:
    return [table for table in each.tasks.values() if table.collection == collection]


def _cell(
    by_run: Mapping[tuple[str, Setting], NDArray[np.float64]], key: tuple[str, Setting], places: list[int]
) -> str:
    if key not in by_run:
        return "-"
    values = by_run[key][places]
    digits = 4 if key[0] == "map" else 1
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _tests(
    aligned: Mapping[tuple[str, Setting], Aligned],
    members: Mapping[float, list[int]],
    baseline: float,
    collection: str,
    draws: int,
) -> str:
    """Every other alpha against one of them."""
    alphas = list(members)
    if len(alphas) < 2:
        return ""
    rows = []
    for (measure, setting), each in aligned.items():
        scores = np.stack([each.scores[places].mean(0) for places in members.values()])
        by_alpha = Aligned(tuple(f"{alpha:g}" for alpha in alphas), each.queries, scores)
        cluster = by_alpha.clusterings[0]
        for found in against_baseline(
            by_alpha,
            alphas.index(baseline),
            collection=collection,
            setting=setting,
            measure=measure,
            cluster=cluster,
            draws=draws,
        ):
            result = found.result
            digits = 4 if measure == "map" else 1
            rows.append(
                [
                    f"{setting.short} {'mAP' if measure == 'map' else 'rank distance'}",
                    found.run + (" †" if found.p_adjusted < LEVEL else ""),
                    f"{result.delta:+.{digits}f}",
                    f"{result.low:+.{digits}f} to {result.high:+.{digits}f}",
                    f"{found.p_adjusted:.4f}",
                ]
            )
    name = "X-X-mono" if baseline == 1 else "X-Y"
    title = f"Against alpha {baseline:g} ({name}), each query's score the mean over seeds:"
    heads = ["Measure", "alpha", "Difference", "95% interval", "p (Holm)"]
    table = tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=("left", *["right"] * 4))
    note = (
        f"Cluster sign-flip test and expanded percentile cluster bootstrap ({draws:,} draws), questions clustered by"
        " the coarsest clusters that there are several of; † where p, adjusted for the alphas compared, is below"
        f" {LEVEL}."
    )
    return f"{title}\n\n{table}\n\n{note}"
