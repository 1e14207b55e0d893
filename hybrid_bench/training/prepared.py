"""A training, checked and ready to start: all that can be wrong is said before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_bench.data.collection import DataOptions
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.arguments import Arguments, Tell, divided, is_main, trainer_arguments, without_accelerator
from hybrid_bench.training.build import lora_config
from hybrid_bench.training.config import EvaluationConfig, TrainingConfig
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.evaluator import HybridRetrievalEvaluator
from hybrid_bench.training.objective import check_loss
from hybrid_bench.training.overlap import OverlapReport, evaluation_texts, guard
from hybrid_bench.training.rehearsal import rehearse
from hybrid_bench.training.sampling import BatchPlan, Sampling
from hybrid_bench.training.sources import SourceTexts
from hybrid_bench.training.state import check_output, found_state, identity, sample_hash
from hybrid_bench.training.usage import Usage, usage_of

if TYPE_CHECKING:
    from hybrid_bench.training.texts import ParallelTexts

__all__ = ["Prepared", "asked_questions", "check_kept", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A training, checked and ready to start.

    Attributes:
        config: What was asked for.
        arguments: The Trainer's arguments.
        sources: The sources, without the rows that overlap with evaluation collections.
        validation: The validation set, if any.
        evaluators: What is measured.
        overlap: What the guard found; None if it was not asked.
        plan: What an epoch is made of.
        usage: What batches make of the rows of each source.
        texts: By source, what tells its texts from others, see `sample_hash`.
        resume: The checkpoint to go on from; None to start at the beginning.
        done: Whether the model is there already, trained with the same settings.
    """

    config: TrainingConfig
    arguments: Arguments
    sources: tuple[ParallelTexts, ...]
    validation: ParallelTexts | None
    evaluators: tuple[HybridRetrievalEvaluator, ...]
    overlap: OverlapReport | None
    plan: BatchPlan
    usage: tuple[Usage, ...]
    texts: Mapping[str, str]
    resume: Path | None
    done: bool

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model sees, sorted."""
        sampling = self.config.sampling
        if sampling.mode == "en-en":
            return (sampling.language,)
        taking_part = [source for source in self.sources if self.plan.batches[source.name]]
        return tuple(sorted({code for source in taking_part for code in source.languages}))


def prepare(
    config: TrainingConfig,
    tell: Tell = lambda line: None,
    *,
    overwrite: bool = False,
    write: bool = False,
    elsewhere: bool = False,
) -> Prepared:
    """Check all that can be checked without the model's weights: packages, output, data, batches, and what learns.

    Args:
        config: The training.
        tell: Called with a line about each step.
        overwrite: Whether a model or checkpoints of another training in the output folder may go.
        write: Whether to note the settings beside the checkpoints, as the training begins now.
        elsewhere: Whether it may be trained on another machine: what an accelerator is needed for, and there is none
            here, is then told, not refused.

    Raises:
        RequestError: Something that was asked for cannot be.
        DataError: A source or collection cannot be read, or the output folder not be written.
    """
    arguments = trainer_arguments(without_accelerator(config, tell) if elsewhere else config)
    check_loss(config)
    if config.lora is not None:
        lora_config(config.lora)
    check_output(config, write=write)
    sources: tuple[ParallelTexts, ...] = tuple(spec.load(config.data_dir) for spec in config.sources)
    for source in sources:
        tell(f"{source.name}: {len(source):,} rows in {' '.join(source.languages)}")
        for note in source.notes:
            tell(f"{source.name}: {note}")
    validation: ParallelTexts | None = None
    if config.validation is not None:
        validation = config.validation.source.load(config.data_dir)
    report = None
    if config.overlap.check:
        # A set that decides when training stops must not stand in a collection either.
        read = sources if validation is None else (*sources, validation)
        kept, report = _guarded(config, read, tell)
        sources, validation = kept[: len(sources)], None if validation is None else kept[-1]
    _warn_of_measuring(sources, config.evaluation, tell)
    measured = config.evaluation.collections if config.evaluation.measured else ()
    evaluators = tuple(_evaluator(config, name) for name in measured)
    if evaluators and arguments.eval_strategy != "no" and divided(arguments):
        if validation is None:
            raise RequestError(
                "[arguments] eval_strategy: a model that is divided among devices (FSDP, ZeRO 3) is measured on"
                " collections before and after its training, not in between: leave it out, or give [validation]"
            )
        tell("divided among devices, the model is measured on collections before and after its training only")
    processes = arguments.world_size
    plan = _plan(sources, arguments.train_batch_size * processes, config.sampling, config.seed)
    usage = usage_of(plan)
    for note in (*plan.notes, *(line for each in usage for line in each.lines())):
        tell(note)
    if validation is not None and config.validation is not None:
        _plan([validation], arguments.eval_batch_size * processes, config.validation.sampling, config.seed)
    rehearse(config, arguments, sources, evaluators, plan.steps)
    texts = {source.name: sample_hash(source) for source in sources}
    now = identity(config, sources, texts, arguments)
    with arguments.distributed_state.main_process_first():  # it puts aside what the others shall not see
        resume, done = found_state(config, now, tell, overwrite=overwrite, write=write and is_main(arguments))
    if resume is not None:
        tell(f"going on from {resume}")
    tell(
        f"{plan.steps:,} {'step' if plan.steps == 1 else 'steps'} an epoch, of {plan.size:,} pairs: "
        + ", ".join(f"{name} {batches:,}" for name, batches in plan.batches.items())
    )
    return Prepared(config, arguments, sources, validation, evaluators, report, plan, usage, texts, resume, done)


def check_kept(config: TrainingConfig, ready: Prepared, *, overwrite: bool = False) -> None:
    """Check what lies in the output folder of a training on the same data as another one.

    Args:
        config: The training.
        ready: The other one.
        overwrite: As for `prepare`.

    Raises:
        RequestError: It is of another training, or no folder of a training.
        DataError: It cannot be read or written.
    """
    check_output(config, write=False)
    now = identity(config, ready.sources, ready.texts, ready.arguments)
    found_state(config, now, lambda line: None, overwrite=overwrite, write=False)


def _plan(sources: Sequence[ParallelTexts], size: int, sampling: Sampling, seed: int) -> BatchPlan:
    dataset = ParallelDataset.of(sources)
    return BatchPlan(dataset.items, size, sampling, seed)


def _guarded(
    config: TrainingConfig, sources: Sequence[ParallelTexts], tell: Tell
) -> tuple[tuple[ParallelTexts, ...], OverlapReport]:
    """The sources without what evaluation collections have of them, as far as the configuration wants that."""
    wanted = config.overlap.collections
    asked = asked_questions(config)
    texts, unread = evaluation_texts(config.data_dir, wanted, asked)
    own = {source.collection: source.name for source in sources if isinstance(source, SourceTexts)}
    compared = []
    for each in texts:
        if each.collection in asked and config.evaluation.by == "paragraph":
            compared.append(replace(each, by_paragraph=True))
        elif each.collection in own and each.collection not in asked and not wanted:
            unread[each.collection] = f"it is trained on, as {own[each.collection]}"
        else:
            compared.append(each)
    kept, report = guard(sources, compared, drop=config.overlap.drop)
    for before in sources:
        if overlapping := len(report.rows(before.name)):
            kinds = "; ".join(
                f"{len(each.rows):,} {each.collection}, {each.kind}"
                for each in report.overlaps
                if each.source == before.name
            )
            tell(
                f"{before.name}: {overlapping:,} of {len(before):,} rows stand in an evaluation collection,"
                f" {'dropped' if report.dropped else 'kept'} ({kinds})"
            )
    report = replace(report, not_compared={**report.not_compared, **unread})
    for name, reason in report.briefly().not_compared.items():
        tell(f"not compared with {name}: {reason}")
    return kept, report


def _warn_of_measuring(sources: Sequence[ParallelTexts], evaluation: EvaluationConfig, tell: Tell) -> None:
    """Tell of each collection that is a source and measured as a whole."""
    for source in sources:
        name = source.collection if isinstance(source, SourceTexts) else ""
        if name in evaluation.collections and evaluation.folds == 1:
            tell(f"WARNING: {name} is trained on, as {source.name}, and measured: these are no results of unseen data")


def asked_questions(config: TrainingConfig) -> dict[str, frozenset[str]]:
    """The questions that ``[evaluation]`` asks, where they are a part of a collection's.

    Returns:
        By collection, their ids; nothing of a collection whose questions are all asked.

    Raises:
        RequestError: If there is no collection of a name.
        DataError: If one cannot be read.
    """
    wanted = config.evaluation
    return {name: _asked(config, name) for name in wanted.collections} if wanted.folds > 1 else {}


def _asked(config: TrainingConfig, name: str) -> frozenset[str]:
    """The ids of the questions of a collection that are asked."""
    from hybrid_bench.evaluation.registry import collections

    wanted, known = config.evaluation, collections()
    if name not in known:
        raise RequestError(f"evaluation.folds divides collections, and '{name}' is none: {did_you_mean(name, known)}")
    collection = known[name][0].reader.load(DataOptions(data_dir=config.data_dir))
    number = collection.paragraph_cluster if wanted.by == "paragraph" else collection.article_cluster
    return frozenset(each for each, cluster in number.items() if cluster % wanted.folds in wanted.fold)


def _evaluator(config: TrainingConfig, name: str) -> HybridRetrievalEvaluator:
    wanted = config.evaluation
    return HybridRetrievalEvaluator(
        name,
        settings=wanted.settings,
        languages=wanted.languages,
        pool_languages=wanted.pool_languages,
        questions=_asked(config, name) if wanted.folds > 1 else None,
        data=DataOptions(data_dir=config.data_dir),
        batch_size=wanted.batch_size,
    )
