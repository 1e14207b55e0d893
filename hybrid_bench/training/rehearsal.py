"""Loss, optimiser, scheduler and best metric, tried on a model without weights before anything is loaded or trained.

What the libraries refuse, they refuse when they are asked: most of it only as the training starts, some hours later,
when it first evaluates. Here they are asked at once, with a tiny model from nothing in place of the one that is
trained, and with two rows of every source. Of the model itself its configuration is read, and its network is made
without weights where it matters which layers it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import Trainer, get_scheduler
from transformers.trainer_optimizer import is_optimizer_factory

from hybrid_bench.errors import HybridBenchError, RequestError, first_line, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.arguments import Arguments, divided
from hybrid_bench.training.build import (
    DEFAULT_WIDTH,
    Folder,
    build_model,
    check_max_length,
    check_pooling,
    network_config,
    network_without_weights,
    texts_of,
)
from hybrid_bench.training.config import ModelConfig, TrainingConfig
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.objective import check_widths, make_loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

    from hybrid_bench.training.evaluator import HybridRetrievalEvaluator
    from hybrid_bench.training.texts import ParallelTexts

__all__ = ["rehearse"]

#: The model in place of the real one: the smallest tokenizer that has a token for every byte.
_TINY = {"vocabulary": 300, "width": 8, "max_length": 8}
_TEXTS = 100  # that its tokenizer is trained on


def rehearse(
    config: TrainingConfig,
    arguments: Arguments,
    sources: Sequence[ParallelTexts],
    evaluators: Sequence[HybridRetrievalEvaluator],
    steps: int,
) -> None:
    """Try what a training is made of.

    Args:
        config: The training.
        arguments: The Trainer's.
        sources: What it is trained on.
        evaluators: What is measured in between.
        steps: Steps of an epoch.

    Raises:
        RequestError: Something does not go together.
        ModelError: The model's configuration, or its guide's, cannot be read.
    """
    _check_metric(config, arguments, evaluators)
    network = _network(config)
    kind = "static" if config.model.kind == "static" else "transformer"
    few = {} if kind == "static" else {"layers": 1, "heads": 1}
    tiny = ModelConfig(kind=kind, **_TINY, **few)  # type: ignore[arg-type] # of a dictionary
    with torch.random.fork_rng(devices=[]):
        model = build_model(tiny, lambda: islice(texts_of(sources), _TEXTS), device="cpu")
        _try_loss(config, model, sources)
    _try_optimizer(config, arguments, network or model, steps)


def _network(config: TrainingConfig) -> torch.nn.Module | None:
    """The network of a pretrained model without weights, if its layers have to be known; see that the rest fits."""
    model = config.model
    if config.loss.guide is not None:
        Folder.of(config.loss.guide, "loss.guide")
    if model.kind != "pretrained":
        check_widths(config.loss, model.width or DEFAULT_WIDTH)
        return None
    folder = Folder.of(model.name, "model.name", model.revision)
    check_pooling(model, folder)
    if not folder.has_transformer:
        return None
    network = network_config(model)
    check_max_length(model, network)
    check_widths(config.loss, folder.width or getattr(network, "hidden_size", None))
    if config.lora is None and not config.arguments.get("optim_target_modules"):
        return None
    return network_without_weights(network, lora=config.lora, name=model.name)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except HybridBenchError:
        raise
    except (ArithmeticError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RequestError(f"{what}: {first_line(error)}") from error


def _try_loss(config: TrainingConfig, model: SentenceTransformer, sources: Sequence[ParallelTexts]) -> None:
    """The loss of two rows of each source, forward and backward; on one device, and as wide as the tiny model is."""
    loss = replace(config.loss, matryoshka=(), gather_across_devices=False)
    with _one_line("[loss]"):
        whole, _ = make_loss(replace(config, loss=loss), model, guide=None if config.loss.guide is None else model)
    for source in sources:
        dataset = ParallelDataset.of(source)
        items = dataset.__getitems__(range(min(2, len(dataset))))
        columns = [column for column in items[0] if column != "label"] if items else []
        if not items:
            continue
        what = f'loss.kind = "{config.loss.kind}" with {", ".join(columns)} of {source.name}'
        with _one_line(what):
            features = [model.preprocess([item[column] for item in items]) for column in columns]
            whole(features, torch.tensor([item["label"] for item in items])).backward()


def _try_optimizer(config: TrainingConfig, arguments: Arguments, network: Any, steps: int) -> None:
    """The optimiser and its scheduler, of one weight; those that choose among layers are only looked for."""
    weight = torch.nn.Parameter(torch.zeros(2, 2, device=arguments.device))
    with _one_line(f"[arguments] optim = {shown(arguments.optim)}"):
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, network)
        if is_optimizer_factory(kind) or options.keys() & {"params", "model", "optimizer_dict"}:
            kind, options = torch.optim.SGD, {"lr": 0.1}
        optimizer = kind([weight], **options)
    total = arguments.max_steps
    if total <= 0:
        total = math.ceil(steps / arguments.gradient_accumulation_steps * arguments.num_train_epochs)
    with _one_line(f"[arguments] lr_scheduler_type = {shown(arguments.lr_scheduler_type)}"):
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=arguments.get_warmup_steps(total),
            num_training_steps=total,
            scheduler_specific_kwargs=cast("dict[str, Any] | None", arguments.lr_scheduler_kwargs),
        )


def _check_metric(config: TrainingConfig, arguments: Arguments, evaluators: Sequence[HybridRetrievalEvaluator]) -> None:
    """There will be the metric that decides: the Trainer asks for it when it has evaluated for the first time."""
    metric = arguments.metric_for_best_model
    if metric is None or arguments.eval_strategy == "no":
        return
    known = ["loss"] if config.validation is not None else []
    if evaluators and not divided(arguments):
        known += ["sequential_score", *(name for evaluator in evaluators for name in evaluator.metrics)]
    name = metric.removeprefix("eval_")
    if name in known:
        return
    if name == "loss":
        raise RequestError(
            f'[arguments] metric_for_best_model = "{metric}": there is no set to take a loss of: give [validation], or'
            " a metric of a collection"
        )
    raise RequestError(f"[arguments] metric_for_best_model = {shown(metric)}: {did_you_mean(name, known)}")
