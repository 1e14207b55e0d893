"""The arguments of the Trainer that a configuration gives, with ours where it says nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hybrid_bench.errors import RequestError, first_line, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.measures.bias import higher_is_better
from hybrid_bench.training.config import TrainingConfig, require
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.sampler import HybridBatchSampler
from hybrid_bench.training.sampling import Sampling

__all__ = [
    "Arguments",
    "Tell",
    "check_names",
    "divided",
    "is_main",
    "load_whole",
    "trainer_arguments",
    "without_accelerator",
]

Tell = Callable[[str], None]
#: Packages of the loggers that are asked for most.
_LOGGERS = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow", "trackio": "trackio"}


#: The least that numbers may be which libraries look at late, or not at all.
_LEAST = {
    "per_device_train_batch_size": 2,
    "num_train_epochs": 0,
    "learning_rate": 0,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "max_grad_norm": 0,
}


class _Samplers:
    """Batches of the training, and those of the validation set: the Trainer has one place for both."""

    def __init__(self, training: Sampling, validation: Sampling | None, name: str | None) -> None:
        self.training, self.validation, self.name = training, validation, name

    def __call__(self, dataset: ParallelDataset, *args: Any, **kwargs: Any) -> HybridBatchSampler:
        validates = [source.name for source in dataset.sources] == [self.name] and self.validation is not None
        return HybridBatchSampler(dataset, *args, sampling=self.validation if validates else self.training, **kwargs)


class Arguments(SentenceTransformerTrainingArguments):
    """The Trainer's arguments, of which loggers are given a dictionary; callables are left out of it."""

    #: What is put into it instead of the sampler.
    drawn: Mapping[str, Any] = MappingProxyType({})

    def to_dict(self) -> dict[str, Any]:
        """For loggers and the model card."""
        return {**super().to_dict(), **self.drawn}  # type: ignore[no-untyped-call] # has no types


def without_accelerator(config: TrainingConfig, tell: Tell) -> TrainingConfig:
    """As far as a machine without one can tell whether it is right."""
    given = config.training_arguments
    if given.get("use_cpu") or torch.accelerator.is_available():
        return config
    without = [name for name in ("bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval") if given.get(name)]
    if without:
        tell(f"[arguments] {', '.join(without)}: not checked, there is no accelerator here")
    return replace(config, arguments={name: value for name, value in config.arguments.items() if name not in without})


def _names() -> list[str]:
    return [each.name for each in fields(SentenceTransformerTrainingArguments) if each.init]


def check_names(config: TrainingConfig) -> None:
    """Refuse arguments that the installed sentence-transformers and transformers do not have."""
    known = _names()
    for name in _renamed(config.arguments):
        if name not in known:
            hint = did_you_mean(name, known)
            raise RequestError(
                f"[arguments] {name} is no field of SentenceTransformerTrainingArguments"
                + (f": {hint}" if hint.startswith("did") else "")  # the list of all would be long
            )


def trainer_arguments(config: TrainingConfig) -> Arguments:
    """The Trainer's arguments, with ours where nothing is said."""
    check_names(config)
    _check_packages(config)
    given = config.training_arguments
    for name, least in _LEAST.items():
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
        arguments = Arguments(
            output_dir=str(config.work), seed=config.seed, batch_sampler=samplers, **_renamed({**defaults, **given})
        )
    except (TypeError, ValueError, ImportError) as error:
        raise RequestError(f"[arguments]: {first_line(error)}") from error
    load_whole()
    return arguments


def load_whole() -> None:
    """From now on, models are loaded whole; with ZeRO 3, they would be divided as they are loaded.

    As with FSDP, it is the Trainer that divides the one that it trains, so that the first process alone can measure it
    before and after. Both the arguments and the Trainer ask for the contrary when they are made.
    """
    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call] # has no types


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """With the names of the installed transformers, which has renamed gradient checkpointing in the middle of 5."""
    old, new = "gradient_checkpointing", "activation_checkpointing"
    if new not in _names():
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
        if strategy not in {None, "no"} and not (config.evaluation.collections and config.evaluation.measured):
            raise RequestError(
                f'[arguments] eval_strategy = "{strategy}", and there is nothing to evaluate: give collections in'
                " [evaluation], or [validation]"
            )
        return _direction(given.get("metric_for_best_model"), given)
    if strategy == "no":
        raise RequestError('[validation] decides when training stops, and eval_strategy is "no": leave one out')
    when: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 500, "save_steps": given.get("eval_steps", 500)}
    if strategy == "epoch":
        when = {"save_strategy": "epoch"}
    metric = given.get("metric_for_best_model", "eval_loss")
    best = {"load_best_model_at_end": True, "metric_for_best_model": metric, **_direction(metric, given)}
    # A training that goes on knows how many evaluations in a row were no better.
    return {**when, **best, "restore_callback_states_from_checkpoint": True}


def _direction(metric: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Whether more of the metric that decides is better; transformers has that of all but losses."""
    if metric is None:
        return {}
    better, said = higher_is_better(str(metric)), given.get("greater_is_better")
    if said is None and better is None:
        raise RequestError(
            f"[arguments] metric_for_best_model = {shown(metric)}: neither more nor less of it is better; give "
            "greater_is_better, or another metric"
        )
    if None not in {said, better} and said != better:
        raise RequestError(
            f"[arguments] greater_is_better = {shown(said)} would keep the worst checkpoint: "
            f"{'more' if better else 'less'} of {metric} is better; leave it out"
        )
    return {"greater_is_better": better if said is None else said}


def is_main(arguments: SentenceTransformerTrainingArguments) -> bool:
    """Whether this is the process that tells and writes."""
    return bool(arguments.process_index == 0)


def divided(arguments: SentenceTransformerTrainingArguments) -> bool:
    """Whether a device holds a part of the weights while it trains: then the first one alone cannot embed texts."""
    sharded = bool(arguments.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    return sharded or getattr(arguments.deepspeed_plugin, "zero_stage", None) == 3
