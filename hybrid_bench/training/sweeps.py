"""`sweep`: the same training for several alphas and seeds, evaluated, and what comes out of it side by side.

Each training has a folder of its own in the output folder, and all runs are saved in ``<output>/runs``. What is there
already, with the same settings, is kept: an interrupted sweep goes on when it is started again, and more seeds can be
added later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from hybrid_bench.analysis.comparisons import LEVEL, Aligned, align
from hybrid_bench.analysis.scores import setting_scores
from hybrid_bench.analysis.study import Study, seen_subsets
from hybrid_bench.errors import RequestError
from hybrid_bench.evaluation.runner import RunRequest, run, select_tasks
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import DRAWS, Comparison, compare, holm, macro_mean
from hybrid_bench.measures.trainings import PAIRED_FROM, Methods, compare_methods
from hybrid_bench.reporting.tables import tables_of
from hybrid_bench.reporting.text import as_markdown, as_terminal
from hybrid_bench.runs.reading import Run, TaskTable, find_runs, joined
from hybrid_bench.training.config import TrainingConfig
from hybrid_bench.training.loop import train
from hybrid_bench.training.prepared import check_kept, prepare
from hybrid_bench.training.sampling import Sampling

__all__ = ["Point", "evaluation_request", "pareto", "sweep", "sweep_report"]

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
        folders: Folders of its results: two where a pool of some languages is asked for, which is an option of a task.
    """

    alpha: float
    seed: int
    folders: tuple[Path, ...]


def sweep(
    config: TrainingConfig,
    alphas: Sequence[float],
    seeds: Sequence[int],
    tell: Tell = lambda line: None,
    *,
    overwrite: bool = False,
) -> list[Point]:
    """Train and evaluate for every alpha and seed, as far as it has not been done.

    Args:
        config: The training; its mode, alpha and seed are replaced, and its output is the folder for all.
        alphas: Shares of monolingual batches, each 0 to 1.
        seeds: Seeds.
        tell: Called with a line about each step.
        overwrite: Whether models and checkpoints of other trainings in its folders may go.

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
    grid = {(alpha, seed): _at(config, alpha, seed) for alpha in sorted(alphas) for seed in sorted(seeds)}
    select_tasks(evaluation_request(config, str(config.output)))
    for alpha in sorted(alphas):
        # Seeds differ in nothing that could be wrong, but for what is in their folders.
        ready = prepare(grid[alpha, min(seeds)], overwrite=overwrite)
        for seed in sorted(seeds)[1:]:
            check_kept(grid[alpha, seed], ready, overwrite=overwrite)
    points = []
    for (alpha, seed), each in grid.items():
        tell(f"alpha {alpha:g}, seed {seed}")
        trained = train(each, tell, overwrite=overwrite)
        outcome = run(evaluation_request(config, str(trained.folder)), tell=tell)
        for failure in outcome.failures:
            raise failure.error
        points.append(Point(alpha, seed, tuple(outcome.folders)))
    return points


def _at(config: TrainingConfig, alpha: float, seed: int) -> TrainingConfig:
    """One training of the sweep. It is measured once, by `run`, which saves what it finds."""
    return replace(
        config,
        output=config.output / f"alpha-{alpha:g}-seed-{seed}",
        sampling=Sampling("hybrid", alpha, keep_single=config.sampling.keep_single),
        seed=seed,
        evaluation=replace(config.evaluation, measured=False),
        arguments={name: value for name, value in config.arguments.items() if name not in _EVALUATIONS}
        if config.validation is None
        else config.arguments,
    )


#: Arguments about evaluations during a training, of which a sweep has none, unless there is a validation set.
_EVALUATIONS = {
    "eval_strategy", "eval_steps", "eval_on_start", "eval_delay",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
}  # fmt: skip # in two lines


def evaluation_request(config: TrainingConfig, model: str) -> RunRequest:
    """What a sweep measures of each model, asked of one: whole collections, of which the report may take a part."""
    wanted = config.evaluation
    return RunRequest(
        models=(model,),
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


def sweep_report(
    points: Sequence[Point],
    *,
    beside: Sequence[Sequence[Path]] = (),
    questions: Mapping[str, Collection[str]] | None = None,
    seen: Sequence[str] | None = None,
    draws: int = DRAWS,
    width: int | None = None,
) -> str:
    """The report of all runs, then for every collection the means by alpha, the Pareto front, and tests.

    Tests compare alphas for other questions and other trainings, in pairs of one seed, see `trainings`; with one seed
    for other questions only. Spread over seeds stands in the tables.

    Args:
        points: From `sweep`.
        beside: Other runs, each by its folders, that the first table shows too, such as the model before its training.
        questions: By collection, ids of the questions that it is about; others count in nothing. See
            `prepared.asked_questions`.
        seen: Languages that are told apart from all others; None: those that the models were trained on.
        draws: Flips and resamples of a test of one seed.
        width: Characters in a line of the terminal that shows it; None for Markdown.
    """
    runs = [joined(find_runs(point.folders)).asking(questions or {}) for point in points]
    collections = dict.fromkeys(table.collection for table in runs[0].tasks.values())
    study = Study([*(joined(find_runs(folders)).asking(questions or {}) for folders in beside), *runs])
    tables = tables_of(study, ["main"])
    sections = [(as_markdown(each) if width is None else as_terminal(each, width)).strip() for each in tables]
    sections += [
        f"All of {name} here is of {len(questions[name])} of its questions, those that [evaluation] asks; the saved"
        " runs have them all, with those that the models were trained on."
        for name in collections
        if questions and name in questions
    ]
    sections += [_section(points, runs, name, seen, draws) for name in collections]
    return "\n\n".join(sections) + "\n"


class _Measured(NamedTuple):
    """A measure in one setting, over all subsets or some, of all runs.

    Attributes:
        head: Its name in a table.
        measure: The measure.
        setting: The setting.
        aligned: The scores of the runs.
        means: (runs,), their macro means.
    """

    head: str
    measure: str
    setting: Setting
    aligned: Aligned
    means: NDArray[np.float64]

    def text(self, value: float, sign: str = "") -> str:
        """A value of this measure."""
        return f"{value:{sign}.{4 if self.measure == 'map' else 1}f}"

    def spread(self, runs: list[int]) -> str:
        """The mean over runs and its standard deviation."""
        values = self.means[runs]
        return self.text(values.mean()) + (f" ± {self.text(values.std(ddof=1))}" if len(values) > 1 else "")


def _section(
    points: Sequence[Point], runs: Sequence[Run], collection: str, seen: Sequence[str] | None, draws: int
) -> str:
    """A collection's tables by alpha, and its tests: of all languages, then of those in and out of the training."""
    alphas = sorted({point.alpha for point in points})
    members = {alpha: [place for place, point in enumerate(points) if point.alpha == alpha] for alpha in alphas}
    seeds = [point.seed for point in points]
    whole = _measured(runs, collection)
    if not whole:
        return f"**{collection}**: the runs have no setting in common."
    parts = [f"**{collection} by alpha**", _by_alpha(whole, members), _ALPHAS]
    baselines = [alpha for alpha in (1.0, 0.0) if alpha in members and len(members) > 1]
    parts += [_tests(whole, members, seeds, alpha, collection=collection, draws=draws) for alpha in baselines]
    apart = _apart(runs, collection, whole, seen)
    if apart:
        title = f"**{collection} by languages: {' '.join(seen or runs[0].trained_languages or ())}, and the others**"
        parts += [title, _by_alpha(apart, members), _LANGUAGES]
        parts += [_tests(apart, members, seeds, alpha, collection=collection, draws=draws) for alpha in baselines]
    return "\n\n".join(parts)


_ALPHAS = (
    "Means over seeds, ± standard deviation over them. Pareto front: by means, no other alpha is better in one of"
    " monolingual and cross-lingual mAP and at least as good in the other; the tests say which differences there are."
    " alpha 1 is X-X-mono, 0 is X-Y."
)
_LANGUAGES = (
    "Seen: question and passages are in the languages that are named; mixed: one of them; unseen: neither. In the"
    " multilingual pool, which is of all languages, that of the question decides."
)


def _measured(runs: Sequence[Run], collection: str) -> list[_Measured]:
    """The measures that all runs have."""
    found = []
    for (measure, setting), head in zip(_MEASURED, _HEADS, strict=True):
        if all(any(setting.value in table.covered for table in _tables(each, collection)) for each in runs):
            aligned = align(runs, collection, setting, measure)
            if len(aligned.queries):
                means = macro_mean(aligned.cells("question"), aligned.scores)
                found.append(_Measured(head, measure, setting, aligned, means))
    return found


def _tables(each: Run, collection: str) -> list[TaskTable]:
    return [table for table in each.tasks.values() if table.collection == collection]


def _apart(
    runs: Sequence[Run], collection: str, whole: Sequence[_Measured], seen: Sequence[str] | None
) -> list[_Measured]:
    """The same, each over the subsets of seen, mixed and unseen languages; empty if there is but one kind of them."""
    trained = {each.trained_languages for each in runs}
    languages = trained.pop() if seen is None and len(trained) == 1 else seen
    if languages is None:
        return []
    found: list[_Measured] = []
    kinds: set[str] = set()
    for each in whole:
        of_setting = setting_scores(runs[0], collection, each.setting)
        for kind, members in seen_subsets(of_setting, each.setting, languages).items():
            kinds.add(kind)
            aligned = each.aligned.of({of_setting.subsets[place] for place in members.tolist()})
            means = macro_mean(aligned.cells("question"), aligned.scores)
            found.append(_Measured(f"{each.head}, {kind}", each.measure, each.setting, aligned, means))
    return found if len(kinds) > 1 else []


def _by_alpha(measured: Sequence[_Measured], members: Mapping[float, list[int]]) -> str:
    """A row for each alpha; with the Pareto front, where both measures that it is of are there."""
    rows = [
        [f"{alpha:g}", str(len(runs)), *(each.spread(runs) for each in measured)] for alpha, runs in members.items()
    ]
    heads = ["alpha", "Seeds", *(each.head for each in measured)]
    axes = [each.means for each in measured if each.head in _HEADS[:2]]
    if len(axes) == 2:
        front = pareto([[means[runs].mean() for means in axes] for runs in members.values()])
        rows = [[*row, "yes" if best else ""] for row, best in zip(rows, front, strict=True)]
        heads.append("Pareto front")
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=("right",) * len(heads))


def _tests(
    measured: Sequence[_Measured],
    members: Mapping[float, list[int]],
    seeds: Sequence[int],
    baseline: float,
    *,
    collection: str,
    draws: int,
) -> str:
    """Every other alpha against one of them."""
    rows: list[list[str]] = []
    clusters: dict[str, None] = {}
    several = min(len(runs) for runs in members.values()) > 1
    for each in measured:
        cluster = each.aligned.clusterings[0]
        cells, scores = each.aligned.cells(cluster), each.aligned.scores
        others = [alpha for alpha in members if alpha != baseline]
        base = scores[members[baseline]]
        compared: list[Comparison | Methods]
        if several:  # the runs of an alpha are in the order of their seeds, which are the same for all
            compared = [compare_methods(cells, scores[members[alpha]], base, paired=True) for alpha in others]
        else:
            compared = [compare(cells, scores[members[alpha][0]], base[0], draws=draws) for alpha in others]
        adjusted = holm([found.p for found in compared])
        for alpha, found, p in zip(others, compared, adjusted, strict=True):
            clusters[f"{found.n_clusters} {cluster}s"] = None
            rows.append(
                [
                    each.head,
                    f"{alpha:g}" + (" †" if p < LEVEL else ""),
                    each.text(found.delta, "+"),
                    f"{each.text(found.low, '+')} to {each.text(found.high, '+')}",
                    f"{p:.4f}",
                    _by_seed(each, members[alpha], members[baseline], seeds),
                ]
            )
    name = "X-X-mono" if baseline == 1 else "X-Y"
    title = f"Against alpha {baseline:g} ({name}):"
    heads = ["Measure", "alpha", "Difference", "95% interval", "p (Holm)", "Least and greatest of a seed"]
    table = tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=("left", *["right"] * 5))
    where = f"questions clustered into {' or '.join(clusters)}; † where p, adjusted for the alphas compared, is below"
    if several:
        paired = min(len(runs) for runs in members.values()) >= PAIRED_FROM
        how = "in pairs of one seed" if paired else "of two seeds, taken apart"
        note = (
            "Intervals and p speak of other questions and other trainings: two crossed sources of variance, trainings"
            f" {how}, and {where} {LEVEL}; t with Satterthwaite's degrees of freedom. The last column shows the"
            " differences of runs with the same seed."
        )
    else:
        note = (
            f"Cluster sign-flip test and expanded percentile cluster bootstrap ({draws:,} draws), {where} {LEVEL}. They"
            " speak of other questions, for these trainings: train with several seeds to say anything of the method."
        )
    return f"{title}\n\n{table}\n\n{note}"


def _by_seed(each: _Measured, runs: Sequence[int], others: Sequence[int], seeds: Sequence[int]) -> str:
    """The least and the greatest difference of two alphas with the same seed."""
    other = {seeds[run]: each.means[run] for run in others}
    found = [each.means[run] - other[seeds[run]] for run in runs if seeds[run] in other]
    return f"{each.text(min(found), '+')}, {each.text(max(found), '+')}" if found else "-"
