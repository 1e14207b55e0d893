"""The loss that a configuration asks for."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from hybrid_bench.errors import ModelError, RequestError, first_line
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.config import LOSSES, LossConfig, TrainingConfig
from hybrid_bench.training.loss import HybridBatchLoss

if TYPE_CHECKING:
    import torch

__all__ = ["check_loss", "check_widths", "make_loss"]


def _options(config: TrainingConfig) -> dict[str, Any]:
    loss = config.loss
    named = {"scale": loss.scale, "mini_batch_size": loss.mini_batch_size}
    options = {**{name: value for name, value in named.items() if value is not None}, **loss.options}
    if loss.gather_across_devices:
        options["gather_across_devices"] = True
    if "directions" in options:
        options["directions"] = tuple(options["directions"])
    return options


def check_loss(config: TrainingConfig) -> None:
    """Refuse options that the class of the loss does not take."""
    kind: Any = getattr(losses, LOSSES[config.loss.kind])
    known = set(inspect.signature(kind).parameters) - {"model", "guide", "similarity_fct"}
    for name in _options(config):
        if name not in known:
            raise RequestError(f"[loss.options] {kind.__name__} has no option '{name}': {did_you_mean(name, known)}")


def check_widths(loss: LossConfig, width: int | None) -> None:
    """Refuse dimensions that an embedding of this width does not have; None: it is not known."""
    if loss.matryoshka and width is not None and max(loss.matryoshka) > width:
        raise RequestError(f"loss.matryoshka = {list(loss.matryoshka)}: the model has {width} dimensions")


def make_loss(
    config: TrainingConfig, model: SentenceTransformer, guide: SentenceTransformer | None = None
) -> tuple[torch.nn.Module, HybridBatchLoss]:
    """The loss to train with, and the hybrid loss in it.

    Args:
        config: The training.
        model: The model that is trained.
        guide: In place of the one that the configuration names, which is loaded otherwise.
    """
    options = _options(config)
    kind: Any = getattr(losses, LOSSES[config.loss.kind])
    if guide is not None:
        options["guide"] = guide
    elif config.loss.guide is not None:
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
    check_widths(config.loss, model.get_embedding_dimension())
    return losses.MatryoshkaLoss(model, inner, list(config.loss.matryoshka)), inner
