"""`train`: a configuration -> a trained model, with everything that can be wrong said before the model is loaded.

Beside the model's folder ``<output>`` lies ``<output>.training`` with checkpoints, logs, evaluations, and
``training.json``: the settings that decide what comes out. A training that was interrupted goes on from its last
checkpoint when it is started again with these settings; with others it is refused, as two halves of two trainings are
none. The model's folder holds an ordinary sentence-transformers model and ``hybrid_training.json`` (see `trained`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer import losses
from tabulate import tabulate
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hybrid_bench.data.collection import DataOptions
from hybrid_bench.data.trained import RECORD, read_record, write_record
from hybrid_bench.errors import DataError, ModelError, RequestError, first_line, shown
from hybrid_bench.languages import LANGUAGES, did_you_mean
from hybrid_bench.training.build import build_model, lora_config, merged, texts_of
from hybrid_bench.training.config import LOSSES, EvaluationConfig, TrainingConfig, argument_names, plain, require
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.evaluator import HybridRetrievalEvaluator
from hybrid_bench.training.loss import HybridBatchLoss, LossByKind
from hybrid_bench.training.overlap import OverlapReport, evaluation_texts, guard
from hybrid_bench.training.sampler import HybridBatchSampler
from hybrid_bench.training.sampling import BatchPlan, Sampling
from hybrid_bench.training.sources import SourceTexts
from hybrid_bench.training.trainer import HybridTrainer
from hybrid_bench.version import VERSION

if TYPE_CHECKING:
    from hybrid_bench.training.texts import ParallelTexts

__all__ = ["Prepared", "Trained", "check_kept", "measures_table", "prepare", "train", "warn_of_measuring"]

Tell = Callable[[str], None]

_STATE = "training.json"
_BEFORE = "before.json"
_FORMAT = 1
#: Arguments that change what is logged, saved, or how fast it goes, not what is learned.
_WITHOUT_EFFECT = frozenset(
    {
        "report_to", "run_name", "project", "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node",
        "logging_dir", "logging_first_step", "logging_steps", "logging_strategy", "logging_nan_inf_filter",
        "save_on_each_node", "save_total_limit", "skip_memory_metrics", "per_device_eval_batch_size",
        "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "ddp_timeout", "push_to_hub",
        "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_token", "hub_always_push",
        "save_strategy", "save_steps", "include_num_input_tokens_seen", "gradient_checkpointing",
        "gradient_checkpointing_kwargs", "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_backend",
        "torch_empty_cache_steps",
    }
)  # fmt: skip # one a line would be a page
#: Packages of the loggers that are asked for most.
_LOGGERS = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow", "trackio": "trackio"}


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
        texts: By source, what tells its texts from others, see `_sample_hash`.
        resume: The checkpoint to go on from; None to start at the beginning.
        done: Whether the model is there already, trained with the same settings.
    """

    config: TrainingConfig
    arguments: _Arguments
    sources: tuple[ParallelTexts, ...]
    validation: ParallelTexts | None
    evaluators: tuple[HybridRetrievalEvaluator, ...]
    overlap: OverlapReport | None
    plan: BatchPlan
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


@dataclass(frozen=True)
class Trained:
    """What `train` did.

    Attributes:
        folder: The model.
        before: Measures before the first step; empty if they were not asked for.
        after: Measures of the model as it was saved.
        steps: Steps of the training.
        seconds: How long they took, since the start or the last resumption.
        main: Whether this is the process that tells of it.
    """

    folder: Path
    before: Mapping[str, float]
    after: Mapping[str, float]
    steps: int
    seconds: float
    main: bool = True


def prepare(
    config: TrainingConfig,
    tell: Tell = lambda line: None,
    *,
    overwrite: bool = False,
    write: bool = False,
    elsewhere: bool = False,
) -> Prepared:
    """Check all that can be checked without the model: arguments, packages, output, data, languages, batches.

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
    arguments = _arguments(_without_accelerator(config, tell) if elsewhere else config)
    _check_loss(config)
    if config.lora is not None:
        lora_config(config.lora)
    _check_output(config, write=write)
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
    warn_of_measuring(sources, config.evaluation, tell)
    evaluators = tuple(_evaluator(config, name) for name in config.evaluation.collections)
    if evaluators and arguments.eval_strategy != "no" and _divided(arguments):
        if validation is None:
            raise RequestError(
                "[arguments] eval_strategy: a model that is divided among devices (FSDP, ZeRO 3) is measured on"
                " collections before and after its training, not in between: leave it out, or give [validation]"
            )
        tell("divided among devices, the model is measured on collections before and after its training only")
    processes = arguments.world_size
    plan = _plan(sources, arguments.train_batch_size * processes, config.sampling, config.seed)
    for note in plan.notes:
        tell(note)
    if validation is not None and config.validation is not None:
        _plan([validation], arguments.eval_batch_size * processes, config.validation.sampling, config.seed)
    texts = {source.name: _sample_hash(source) for source in sources}
    now = _now(config, sources, texts, arguments)
    resume, done = _state(config, now, overwrite=overwrite, write=write and _is_main(arguments))
    if resume is not None:
        tell(f"going on from {resume}")
    tell(
        f"{plan.steps:,} {'step' if plan.steps == 1 else 'steps'} an epoch, of {plan.size:,} pairs: "
        + ", ".join(f"{name} {batches:,}" for name, batches in plan.batches.items())
    )
    return Prepared(config, arguments, sources, validation, evaluators, report, plan, texts, resume, done)


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
    _check_output(config, write=False)
    _state(config, _now(config, ready.sources, ready.texts, ready.arguments), overwrite=overwrite, write=False)


def train(config: TrainingConfig, tell: Tell = lambda line: None, *, overwrite: bool = False) -> Trained:
    """Train a model, or go on with its training, and save it.

    Under `accelerate launch` or `torchrun` every process calls it; the first one tells and writes.

    Args:
        config: The training.
        tell: Called with a line about each step.
        overwrite: Whether a model or checkpoints of another training in the output folder may go.

    Returns:
        Where the model is, and its measures.

    Raises:
        RequestError: Something that was asked for cannot be; nothing has been trained then.
        DataError: A source or collection cannot be read; nor then.
        ModelError: The model cannot be loaded, the loss is not finite, or memory is not enough.
    """
    tell = tell if int(os.environ.get("RANK", "0")) == 0 else _nothing
    ready = prepare(config, tell, overwrite=overwrite, write=True)
    if ready.done:
        tell(f"{config.output}: already trained with these settings")
        record = read_record(config.output) or {}
        if _difference(record.get("evaluation", plain(config.evaluation)), plain(config.evaluation)):
            tell("its measures are of another [evaluation]: `hybrid-bench run` measures it again")
        measured = (record.get("before", {}), record.get("after", {}))
        return Trained(config.output, *measured, record.get("steps", 0), 0.0, _is_main(ready.arguments))
    try:
        return _trained(ready, tell)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "not enough memory on the device: `train --estimate` says where it goes; lower per_device_train_batch_size,"
            ' take kind = "cached-mnrl" in [loss], or gradient_checkpointing = true'
        ) from error


def _nothing(_: str) -> None:
    """Told by another process."""


def _trained(ready: Prepared, tell: Tell) -> Trained:
    config, arguments = ready.config, ready.arguments
    main = _is_main(arguments)
    part = config.output.with_name(f"{config.output.name}.part")
    ended = None if ready.resume is None else _ended(ready.resume)
    if ended is not None:
        # Interrupted while the model was saved or measured. The Trainer would take another step.
        tell(f"the training had ended: {ended.best} is saved and measured")
        before = _noted_before(config)
        after: dict[str, float] = {}
        if main:
            _model_of(ended.best, part)
            after = _finished(ready, part, tell, before=before, steps=ended.steps, device=str(arguments.device))
        arguments.distributed_state.wait_for_everyone()
        return Trained(config.output, before, after, ended.steps, 0.0, main)
    if arguments.dataloader_num_workers:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not live on in forked workers, which then hang
    device = None if arguments.world_size == 1 and not arguments.use_cpu else str(arguments.device)
    model = build_model(
        config.model, lambda: texts_of(ready.sources), lora=config.lora, seed=config.seed, device=device
    )
    prompts = {"query": _prompt(model, "query"), "passage": _prompt(model, "document", "passage", "corpus")}
    dataset = ParallelDataset.of(ready.sources, name=" + ".join(source.name for source in ready.sources))
    for column in dataset.column_names:
        if column.startswith("negative"):
            prompts[column] = prompts["passage"]
    arguments.prompts = {column: prompt for column, prompt in prompts.items() if prompt} or None
    arguments.drawn = {
        "sampling": config.sampling.mode,
        "alpha": config.sampling.alpha,
        "languages": list(ready.languages),
        "sources": [source.name for source in ready.sources],
    }
    _describe(model, ready)
    before = _before(model, ready, tell) if main else {}
    outer, inner = _loss(config, model)
    trainer = HybridTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=None if ready.validation is None else ParallelDataset.of(ready.validation),
        loss=outer,
        evaluator=list(ready.evaluators) or None
        if arguments.eval_strategy != "no" and not _divided(arguments)
        else None,
        callbacks=_early_stopping(config),
    )
    LossByKind(inner).attach(trainer)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)  # they write to stdout, which is for tables
    trainer.add_callback(_Telling(tell))
    start = time.perf_counter()
    with warnings.catch_warnings():
        # What the Trainer and accelerate still call by old names is no concern of who trains.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing_enable.*", FutureWarning)
        warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)
        trainer.train(resume_from_checkpoint=str(ready.resume) if ready.resume else None)
    seconds = time.perf_counter() - start
    steps = int(trainer.state.global_step)
    tell(f"{steps:,} steps in {seconds:,.0f} s")
    if main:
        shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(part))
    trainer.accelerator.wait_for_everyone()
    after = {}
    if main:
        after = _finished(ready, part, tell, before=before, steps=steps, device=device or str(model.device))
    trainer.accelerator.wait_for_everyone()
    return Trained(config.output, before, after, steps, seconds, main)


class _Ended(NamedTuple):
    """A training of which all steps are done.

    Attributes:
        best: The checkpoint to keep.
        steps: Steps of the training.
    """

    best: Path
    steps: int


def _ended(checkpoint: Path) -> _Ended | None:
    """What a checkpoint says if it is of the last step, or of the one at which the training was stopped."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    if not control.get("should_training_stop") and state["global_step"] < state["max_steps"]:
        return None
    best = checkpoint.with_name(Path(state["best_model_checkpoint"]).name) if state["best_model_checkpoint"] else None
    return _Ended(best if best is not None and best.is_dir() else checkpoint, state["global_step"])


#: What the Trainer, accelerate and DeepSpeed put beside the model into a checkpoint.
_OF_TRAINER = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", "training_args.bin", "global_step*",
    "latest", "zero_to_*", "pytorch_model_fsdp*",
)  # fmt: skip # one a line would be a page


def _model_of(checkpoint: Path, folder: Path) -> None:
    """The model in a checkpoint, as it is saved at the end of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(*_OF_TRAINER))


def _finished(
    ready: Prepared, part: Path, tell: Tell, *, before: Mapping[str, float], steps: int, device: str
) -> dict[str, float]:
    """Make the saved model what it is to be, measure it as it was saved, and put it into its place."""
    config = ready.config
    _load_whole()  # the Trainer is through
    (part / "training_args.bin").unlink(missing_ok=True)  # it names paths of this machine
    card = (part / "README.md").read_text(encoding="utf-8") if (part / "README.md").is_file() else ""
    if config.lora is not None and config.lora.merge:
        whole = merged(config.model, part)
        shutil.rmtree(part)
        whole.save_pretrained(str(part), create_model_card=False)
    after: dict[str, float] = {}
    if ready.evaluators:
        saved = SentenceTransformer(str(part), device=device, model_kwargs=_dtype(config))
        after = _measured(saved, ready, steps)
        _tell_measures(tell, "after training", after)
    record = {
        "languages": list(ready.languages),
        "base": config.model.name or f"{config.model.kind} from nothing",
        "mode": config.sampling.mode,
        "alpha": config.sampling.alpha,
        "seed": config.seed,
        "sources": [
            {"name": source.name, "rows": len(source), "languages": list(source.languages)} for source in ready.sources
        ],
        "texts": dict(ready.texts),
        "evaluation": plain(config.evaluation),
        "steps": steps,
        "before": dict(before),
        "after": after,
        "settings": _settings(config),
        "versions": _versions(),
    }
    write_record(part, record)
    (part / "README.md").write_text(_card(card, ready, record), encoding="utf-8")
    if config.output.exists():
        shutil.rmtree(config.output)
    part.replace(config.output)
    tell(f"saved {config.output}")
    return after


def _dtype(config: TrainingConfig) -> dict[str, Any]:
    return {} if config.model.kind == "static" else {"dtype": getattr(torch, config.model.dtype or "float32")}


def _versions() -> dict[str, str]:
    return {
        "hybrid_bench": VERSION,
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------------------------------------------------------------
# What is checked first
# ---------------------------------------------------------------------------------------------------------------------


class _Samplers:
    """Batches of the training, and those of the validation set: the Trainer has one place for both."""

    def __init__(self, training: Sampling, validation: Sampling | None, name: str | None) -> None:
        self.training, self.validation, self.name = training, validation, name

    def __call__(self, dataset: ParallelDataset, *args: Any, **kwargs: Any) -> HybridBatchSampler:
        validates = [source.name for source in dataset.sources] == [self.name] and self.validation is not None
        return HybridBatchSampler(dataset, *args, sampling=self.validation if validates else self.training, **kwargs)


class _Arguments(SentenceTransformerTrainingArguments):
    """The Trainer's arguments, of which loggers are given a dictionary; callables are left out of it."""

    #: What is put into it instead of the sampler.
    drawn: Mapping[str, Any] = MappingProxyType({})

    def to_dict(self) -> dict[str, Any]:
        """For loggers and the model card."""
        return {**super().to_dict(), **self.drawn}  # type: ignore[no-untyped-call] # has no types


def _without_accelerator(config: TrainingConfig, tell: Tell) -> TrainingConfig:
    """As far as a machine without one can tell whether it is right."""
    given = config.training_arguments
    if given.get("use_cpu") or torch.accelerator.is_available():
        return config
    without = [name for name in ("bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval") if given.get(name)]
    if without:
        tell(f"[arguments] {', '.join(without)}: not checked, there is no accelerator here")
    return replace(config, arguments={name: value for name, value in config.arguments.items() if name not in without})


def _arguments(config: TrainingConfig) -> _Arguments:
    """The Trainer's arguments, with ours where nothing is said."""
    _check_packages(config)
    given = config.training_arguments
    for name, least in (("per_device_train_batch_size", 2), ("num_train_epochs", 0), ("learning_rate", 0)):
        value = given.get(name, least)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= least:
            raise RequestError(f"[arguments] {name} = {shown(value)}: give a number of at least {least}")
    validation = config.validation
    samplers = _Samplers(
        config.sampling,
        None if validation is None else validation.sampling,
        None if validation is None else validation.source.name,
    )
    defaults: dict[str, Any] = {
        "per_device_eval_batch_size": given["per_device_train_batch_size"],
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_timeout": 4 * 3600,  # seconds that the others wait while the first process evaluates; 30 minutes are few
        **_evaluations(config, given),
    }
    try:
        arguments = _Arguments(
            output_dir=str(config.work), seed=config.seed, batch_sampler=samplers, **_renamed({**defaults, **given})
        )
    except (TypeError, ValueError, ImportError) as error:
        raise RequestError(f"[arguments]: {first_line(error)}") from error
    _load_whole()
    return arguments


def _load_whole() -> None:
    """From now on, models are loaded whole; with ZeRO 3, they would be divided as they are loaded.

    As with FSDP, it is the Trainer that divides the one that it trains, so that the first process alone can measure it
    before and after. Both the arguments and the Trainer ask for the contrary when they are made.
    """
    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call] # has no types


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """With the names of the installed transformers, which has renamed gradient checkpointing in the middle of 5."""
    old, new = "gradient_checkpointing", "activation_checkpointing"
    if new not in argument_names():
        return dict(given)
    return {name.replace(old, new) if name.startswith(old) else name: value for name, value in given.items()}


def _check_packages(config: TrainingConfig) -> None:
    """What a training needs besides, and is not installed with the package."""
    given = config.training_arguments
    loggers = given.get("report_to") or "none"
    needed = {_LOGGERS[name]: f"report_to {name}" for name in _listed(loggers) if name in _LOGGERS}
    needed |= {"deepspeed": "deepspeed"} if given.get("deepspeed") else {}
    for package, what in needed.items():
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"{what} needs {package}, which is not installed: pip install {package}")
    if config.overlap.check:
        require("rensa", "[overlap]")


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _evaluations(config: TrainingConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """When the Trainer evaluates, if nothing is said. Early stopping needs it at every checkpoint."""
    strategy = given.get("eval_strategy")
    if config.validation is None:
        if given.get("load_best_model_at_end") and "metric_for_best_model" not in given:
            raise RequestError("[arguments] load_best_model_at_end: give [validation], or metric_for_best_model, too")
        if strategy not in {None, "no"} and not config.evaluation.collections:
            raise RequestError(
                f'[arguments] eval_strategy = "{strategy}", and there is nothing to evaluate: give collections in'
                " [evaluation], or [validation]"
            )
        return {}
    if strategy == "no":
        raise RequestError('[validation] decides when training stops, and eval_strategy is "no": leave one out')
    when: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 500, "save_steps": given.get("eval_steps", 500)}
    if strategy == "epoch":
        when = {"save_strategy": "epoch"}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": False}
    # A training that goes on knows how many evaluations in a row were no better.
    return {**when, **best, "restore_callback_states_from_checkpoint": True}


def _is_main(arguments: SentenceTransformerTrainingArguments) -> bool:
    return bool(arguments.process_index == 0)


def _divided(arguments: SentenceTransformerTrainingArguments) -> bool:
    """Whether a device holds a part of the weights while it trains: then the first one alone cannot embed texts."""
    sharded = bool(arguments.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    return sharded or getattr(arguments.deepspeed_plugin, "zero_stage", None) == 3


def _loss_options(config: TrainingConfig) -> dict[str, Any]:
    loss = config.loss
    named = {"scale": loss.scale, "mini_batch_size": loss.mini_batch_size}
    options = {**{name: value for name, value in named.items() if value is not None}, **loss.options}
    if loss.gather_across_devices:
        options["gather_across_devices"] = True
    if "directions" in options:
        options["directions"] = tuple(options["directions"])
    return options


def _check_loss(config: TrainingConfig) -> None:
    kind: Any = getattr(losses, LOSSES[config.loss.kind])
    known = set(inspect.signature(kind).parameters) - {"model", "guide", "similarity_fct"}
    for name in _loss_options(config):
        if name not in known:
            raise RequestError(f"[loss.options] {kind.__name__} has no option '{name}': {did_you_mean(name, known)}")


def _check_output(config: TrainingConfig, *, write: bool) -> None:
    """The output folder can be written, and holds nothing but a model of `train`; only a training leaves a folder."""
    output = config.output
    if output.is_file():
        raise RequestError(f"output: {output} is a file; name a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise RequestError(f"output: {output} holds something else than a model of `train`: choose another folder")
    try:
        config.work.mkdir(parents=True, exist_ok=True)
        probe = config.work / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
        if not write and not any(config.work.iterdir()):
            config.work.rmdir()
    except OSError as error:
        raise DataError(f"cannot write in {config.work} ({error.strerror}): choose another output") from error


def _plan(sources: Sequence[ParallelTexts], size: int, sampling: Sampling, seed: int) -> BatchPlan:
    dataset = ParallelDataset.of(sources)
    return BatchPlan(dataset.items, size, sampling, seed)


# ---------------------------------------------------------------------------------------------------------------------
# What makes two trainings the same
# ---------------------------------------------------------------------------------------------------------------------


def _settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide what is learned, as JSON has them."""
    settings: dict[str, Any] = plain(config)
    for name in ("output", "data_dir", "evaluation"):
        settings.pop(name, None)
    settings["loss"].pop("mini_batch_size", None)  # how much of a batch is embedded at once
    given = plain(config.training_arguments)
    settings["arguments"] = {name: value for name, value in given.items() if name not in _WITHOUT_EFFECT}
    return settings


def _now(
    config: TrainingConfig, sources: Sequence[ParallelTexts], texts: Mapping[str, str], arguments: _Arguments
) -> dict[str, Any]:
    """All that a training must have in common with what is in its folder to go on from there, as JSON has it."""
    return {
        "format": _FORMAT,
        "settings": _settings(config),
        "rows": {source.name: len(source) for source in sources},
        "texts": dict(texts),
        "devices": arguments.world_size,
        # What `accelerate launch` says counts too, where the configuration says nothing.
        "precision": getattr(arguments, "mixed_precision", "no"),
    }


def _state(config: TrainingConfig, now: Mapping[str, Any], *, overwrite: bool, write: bool) -> tuple[Path | None, bool]:
    """The checkpoint to go on from, and whether the model is there; what is of another training is refused."""
    record = None if overwrite else read_record(config.output)
    if record is not None:
        # Rows are part of the texts' hashes. The number of devices is no part of what a finished model is.
        compared = [name for name in ("settings", "texts") if name in record]
        difference = _difference({name: record[name] for name in compared}, {name: now[name] for name in compared})
        if difference:
            raise RequestError(
                f"{config.output} holds a model of another training ({difference}): choose another output, or"
                " --overwrite it"
            )
        return None, True
    path = config.work / _STATE
    checkpoints = _checkpoints(config.work)
    if path.is_file() and checkpoints and not overwrite:
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {first_line(error)}; --overwrite starts anew") from error
        difference = _difference(saved, now)
        if difference:
            raise RequestError(
                f"{checkpoints[-1]} is of another training ({difference}): choose another output, or --overwrite it"
            )
        return checkpoints[-1], False
    if write:
        for checkpoint in config.work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(now, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    return None, False


def _sample_hash(source: ParallelTexts) -> str:
    """A hash of the texts and groups of up to a thousand rows, evenly spread over a source.

    Tells other data of the same size, not a few rows that were changed between these: reading millions of texts would
    take longer than the start of a training may.
    """
    rows = np.unique(np.linspace(0, max(0, len(source) - 1), min(len(source), 1_000), dtype=np.int64))
    digest = hashlib.sha256()
    negatives = {f"negative_{number}": columns for number, columns in enumerate(source.negatives, start=1)}
    for role, columns in {"query": source.queries, "passage": source.passages, **negatives}.items():
        for code in sorted(columns):
            digest.update(json.dumps([role, code, source.texts(role, code, rows)], ensure_ascii=False).encode())
    digest.update(source.group_of(rows).tobytes())
    digest.update(str(len(source)).encode())
    return digest.hexdigest()[:16]


def _checkpoints(work: Path) -> list[Path]:
    """Complete checkpoints by step: the Trainer writes its state last."""
    found = [path for path in work.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _difference(old: Any, new: Any, where: str = "") -> str:
    """The first setting that differs, with both values; empty if none does."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = _difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return ""
    if old == new:
        return ""
    name = where.removeprefix("settings.")
    return f"{name} was {shown(old)}, now {shown(new)}"


# ---------------------------------------------------------------------------------------------------------------------
# Parts of the training
# ---------------------------------------------------------------------------------------------------------------------


def _describe(model: SentenceTransformer, ready: Prepared) -> None:
    """What the model card says of languages, data and name."""
    config, data = ready.config, model.model_card_data
    data.language = list(ready.languages)
    data.model_name = f"{config.output.name}: hybrid batches, {_how(config)}"
    # Otherwise each folder that the model was loaded from is looked for on the hub.
    data.local_files_only = config.model.kind != "pretrained" or Path(config.model.name).expanduser().is_dir()


def _how(config: TrainingConfig) -> str:
    sampling = config.sampling
    return sampling.mode if sampling.alpha is None else f"{sampling.mode}, alpha {sampling.alpha:g}"


def _card(card: str, ready: Prepared, record: Mapping[str, Any]) -> str:
    """The model card of sentence-transformers with a section of ours before its section on training."""
    config = ready.config
    names = [LANGUAGES[code].name if code in LANGUAGES else code for code in ready.languages]
    sources = [
        [source.name, f"{len(source):,}", " ".join(source.languages), f"{ready.plan.batches[source.name]:,}"]
        for source in ready.sources
    ]
    parts = [
        "## Training with hybrid batches",
        f"Trained with hybrid_bench {VERSION} (method: arXiv 2408.10536), sampling {_how(config)}, seed"
        f" {config.seed}, {record['steps']:,} steps of {ready.plan.size:,} pairs, on {', '.join(names)}."
        f" `{RECORD}` holds the whole configuration.",
        tabulate(sources, ["Source", "Rows", "Languages", "Batches an epoch"], tablefmt="pipe", disable_numparse=True),
        *(f"- {source.name}: {note}" for source in ready.sources for note in source.notes),
        *(f"- {note}" for note in ready.plan.notes),
        "### Overlap with evaluation collections",
        "Training data were **not** compared with evaluation collections: nothing is known of zero-shot results."
        if ready.overlap is None
        else _briefly(ready.overlap).to_markdown(),
    ]
    table = _measures(record["before"], record["after"])
    if table:
        parts += ["### Results", table]
    section = "\n\n".join(parts) + "\n\n"
    place = card.find("## Training Details")
    return card[:place] + section + card[place:] if place >= 0 else f"{card}\n{section}"


def _briefly(report: OverlapReport) -> OverlapReport:
    """Without advice for whoever trains, which names folders of this machine."""
    reasons = {
        name: reason.partition(";")[0].partition(" from http")[0] for name, reason in report.not_compared.items()
    }
    return replace(report, not_compared=reasons)


def measures_table(trained: Trained) -> str:
    """The measures before and after a training, as Markdown; empty if there are none."""
    table = _measures(trained.before, trained.after)
    return f"{table}\n" if table else ""


def _measures(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    rows = [
        [name, f"{before[name]:.4f}" if name in before else "-", f"{after[name]:.4f}" if name in after else "-"]
        for name in dict.fromkeys((*before, *after))
    ]
    heads = ["Measure", "Before", "After"]
    return (
        tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=("left", "right", "right"))
        if rows
        else ""
    )


def _prompt(model: SentenceTransformer, *roles: str) -> str:
    """The prompt that the model itself puts before texts of a role when it encodes them."""
    return next((model.prompts[role] or "" for role in roles if role in model.prompts), "")


def _loss(config: TrainingConfig, model: SentenceTransformer) -> tuple[torch.nn.Module, HybridBatchLoss]:
    """The loss to train with, and the hybrid loss in it."""
    options = _loss_options(config)
    kind: Any = getattr(losses, LOSSES[config.loss.kind])
    if config.loss.guide is not None:
        try:
            options["guide"] = SentenceTransformer(config.loss.guide)
        except Exception as error:  # as for the model itself
            raise ModelError(f"cannot load loss.guide {config.loss.guide}: {first_line(error)}") from error
    try:
        wrapped = kind(model, **options)
    except (TypeError, ValueError) as error:
        raise RequestError(f"[loss]: {first_line(error)}") from error
    inner = HybridBatchLoss(
        model,
        wrapped,
        mask=config.loss.mask,
        mono_weight=config.loss.mono_weight,
        cross_weight=config.loss.cross_weight,
    )
    if not config.loss.matryoshka:
        return inner, inner
    width = model.get_embedding_dimension()
    if width is None or max(config.loss.matryoshka) > width:
        raise RequestError(f"loss.matryoshka = {list(config.loss.matryoshka)}: the model has {width} dimensions")
    return losses.MatryoshkaLoss(model, inner, list(config.loss.matryoshka)), inner


def _early_stopping(config: TrainingConfig) -> list[TrainerCallback]:
    if config.validation is None:
        return []
    return [EarlyStoppingCallback(config.validation.patience, config.validation.min_delta)]


class _Telling(TrainerCallback):
    """One line for each entry of the log."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Tell the first process's entries."""
        if logs is None or not state.is_world_process_zero or "train_runtime" in logs:
            return
        wanted = {
            name: value
            for name, value in logs.items()
            if "loss" in name or name in {"learning_rate", "grad_norm"} or (name.startswith("eval_") and "map" in name)
        }
        if wanted:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in wanted.items() if isinstance(value, float))
            self.tell(f"step {state.global_step:,} of {state.max_steps:,}: {figures}")


# ---------------------------------------------------------------------------------------------------------------------
# Data and measures
# ---------------------------------------------------------------------------------------------------------------------


def _guarded(
    config: TrainingConfig, sources: Sequence[ParallelTexts], tell: Tell
) -> tuple[tuple[ParallelTexts, ...], OverlapReport]:
    """The sources without what evaluation collections have of them, as far as the configuration wants that."""
    wanted = config.overlap.collections
    asked = (
        {name: _asked(config, name) for name in config.evaluation.collections} if config.evaluation.folds > 1 else {}
    )
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
    for name, reason in _briefly(report).not_compared.items():
        tell(f"not compared with {name}: {reason}")
    return kept, report


def warn_of_measuring(sources: Sequence[ParallelTexts], evaluation: EvaluationConfig, tell: Tell) -> None:
    """Tell of each collection that is a source and measured as a whole."""
    for source in sources:
        name = source.collection if isinstance(source, SourceTexts) else ""
        if name in evaluation.collections and evaluation.folds == 1:
            tell(f"WARNING: {name} is trained on, as {source.name}, and measured: these are no results of unseen data")


def _asked(config: TrainingConfig, name: str) -> frozenset[str]:
    """The ids of the questions of a collection that are asked."""
    from hybrid_bench.evaluation.registry import collections

    wanted, known = config.evaluation, collections()
    if name not in known:
        raise RequestError(f"evaluation.folds divides collections, and '{name}' is none: {did_you_mean(name, known)}")
    collection = known[name][0].source.load(DataOptions(data_dir=config.data_dir))
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


def _measured(model: SentenceTransformer, ready: Prepared, steps: int) -> dict[str, float]:
    """The measures of a model on all collections, which are written into a table too."""
    folder = str(ready.config.work / "eval")  # where the Trainer writes those in between
    return {
        name: float(value)
        for evaluator in ready.evaluators
        for name, value in evaluator(model, folder, -1, steps).items()
    }


def _before(model: SentenceTransformer, ready: Prepared, tell: Tell) -> dict[str, float]:
    """The measures before the first step, as far as they are asked for; noted for a training that goes on."""
    if ready.resume is not None:
        return _noted_before(ready.config)
    before: dict[str, float] = {}
    if ready.config.evaluation.before and ready.evaluators:
        before = _measured(model, ready, 0)
        _tell_measures(tell, "before training", before)
    (ready.config.work / _BEFORE).write_text(json.dumps(before, indent=1) + "\n", encoding="utf-8")
    return before


def _noted_before(config: TrainingConfig) -> dict[str, float]:
    """What was noted of them when the training began, if they are asked for."""
    path = config.work / _BEFORE
    if not config.evaluation.before or not path.is_file():
        return {}
    before: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return before


def _tell_measures(tell: Tell, when: str, measures: Mapping[str, float]) -> None:
    shown = [f"{name} {value:.4f}" for name, value in measures.items() if name.endswith(("_map", "_rank_distance"))]
    if shown:
        tell(f"{when}: {', '.join(shown)}")
