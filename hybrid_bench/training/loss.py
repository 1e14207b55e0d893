"""`HybridBatchLoss`: in-batch negatives without those that are the answer too, and the loss of each kind of batch.

It is put around a loss of sentence-transformers, as its MatryoshkaLoss is::

    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model))

Two passages of one group say the same: translations of each other, or copies. A query whose answer is one of them must
not be told that the other is wrong. Losses with in-batch negatives have one thing in common, a similarity function
that they ask for matrices of scores, and this is where such pairs are taken out: their score becomes minus infinity,
so that they have no share in the softmax and get no gradient. Everything else is left to the wrapped loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from sentence_transformers.sentence_transformer.losses import (
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    GISTEmbedLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import all_gather, get_rank, is_dist_initialized
from torch import Tensor, nn
from transformers import TrainerCallback

from hybrid_bench.data.published import PUBLICATIONS
from hybrid_bench.errors import ModelError, RequestError, listed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

__all__ = ["HybridBatchLoss", "LossByKind"]

_FAMILY = (
    MultipleNegativesRankingLoss,
    CachedMultipleNegativesRankingLoss,
    GISTEmbedLoss,
    CachedGISTEmbedLoss,
)
#: What a batch can be: all its pairs within a language, all across two, or some of both.
_KINDS = ("monolingual", "cross_lingual", "mixed")
#: Columns of a label before the groups of hard negatives.
_LABEL = 3
_PAIRS_SHOWN = 4


class HybridBatchLoss(nn.Module):
    """A loss with in-batch negatives that leaves out false negatives, for monolingual and cross-lingual batches.

    The wrapped loss is MultipleNegativesRankingLoss, its GradCache form, GISTEmbedLoss, its GradCache form, or a
    subclass, with any options: `directions`, `hardness_mode`, `gather_across_devices`. Of a pair of texts whose
    passages have one group, the score is left out in every direction, except that of a query and its own passage. With
    `gather_across_devices` this holds for the texts of all devices. What is not in a group is scored as without the
    wrapper, to the last bit.

    Labels are integers, one row per pair: ``[group, query language, passage language]``, as `ParallelDataset` makes
    them. Languages are numbers that are only compared. A negative group stands for a passage of which nothing is
    known: it is a negative of all others. Hard negatives are passages of this kind, unless the labels go on with a
    group for each of them: then they are left out for the queries of that group.

    MatryoshkaLoss goes around this loss, not into it, and not around it if the wrapped loss is a GradCache form.

    Args:
        model: The model that is trained.
        loss: The wrapped loss, for the same model.
        mask: Whether to leave out false negatives.
        mono_weight: Weight of the loss of a monolingual batch. A batch of both kinds is weighted by its pairs' mean.
        cross_weight: Weight of the loss of a cross-lingual batch.

    Raises:
        RequestError: If the loss is not one of these, or a weight is not a number from 0 up; later, if the labels are
            not as described.
        ModelError: Later, if the loss is NaN or infinite.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        loss: nn.Module,
        *,
        mask: bool = True,
        mono_weight: float = 1.0,
        cross_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check_wrapped(loss)
        for name, weight in (("mono_weight", mono_weight), ("cross_weight", cross_weight)):
            if not (math.isfinite(weight) and weight >= 0):
                raise RequestError(f"{name} is {weight}: give a number from 0 up")
        if mono_weight == cross_weight == 0:
            raise RequestError("mono_weight and cross_weight are both 0, so nothing would be learnt: give one of them")
        self.model = model
        self.loss = loss
        self.mask = mask
        self.mono_weight = mono_weight
        self.cross_weight = cross_weight
        self._calls = 0
        # Sum and number of losses by kind, in training and in evaluation.
        self._sums: dict[bool, dict[str, tuple[float, int]]] = {True: {}, False: {}}

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The wrapped loss of a batch, weighted by the batch's kind.

        Args:
            sentence_features: Queries, passages and any hard negatives, as the trainer tokenises them.
            labels: int64 (batch, 3), or (batch, 3 + hard negatives); see the class.

        Returns:
            Scalar.
        """
        features = list(sentence_features)
        self._calls += 1
        _check_labels(labels, n_negatives=len(features) - 2)
        if self.mask:
            with _masked(self.loss, labels, n_negatives=len(features) - 2):
                loss: Tensor = self.loss(features, labels)
        else:
            loss = self.loss(features, labels)
        # One look at the values waits for a GPU once, as the trainer does after each step too.
        within = labels[:, 1] == labels[:, 2]
        value, share = torch.stack([loss.detach().float(), within.float().mean()]).tolist()
        if not math.isfinite(value):
            raise ModelError(self._not_finite(value, labels))
        seen, kind = self._sums[self.model.training], _kind(share)
        total, count = seen.get(kind, (0.0, 0))
        seen[kind] = total + value, count + 1
        weight = share * self.mono_weight + (1 - share) * self.cross_weight
        return loss if weight == 1 else weight * loss

    def mean_losses(self, *, training: bool = True) -> dict[str, float]:
        """Mean loss by kind of batch since the last call, without weights, over all devices; then counted anew.

        All devices must call it together. Around it, MatryoshkaLoss computes several losses of a batch; the mean is
        over all of them.

        Args:
            training: Of the batches the model was trained on; else of those that were only evaluated.

        Returns:
            By ``monolingual``, ``cross_lingual`` and ``mixed``; those of which there was no batch are left out.
        """
        seen, self._sums[training] = self._sums[training], {}
        if is_dist_initialized():
            device = next(self.model.parameters()).device
            sums = torch.tensor([seen.get(kind, (0.0, 0)) for kind in _KINDS], device=device)
            dist.all_reduce(sums)
            seen = {kind: (total, int(count)) for kind, (total, count) in zip(_KINDS, sums.tolist(), strict=True)}
        return {kind: seen[kind][0] / seen[kind][1] for kind in _KINDS if kind in seen and seen[kind][1]}

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of this loss."""
        return {
            "loss": self.loss,
            "mask": self.mask,
            "mono_weight": self.mono_weight,
            "cross_weight": self.cross_weight,
        }

    @property
    def citation(self) -> str:
        """BibTeX entry for the model card."""
        return PUBLICATIONS["elmahdy2024"].bibtex

    @property
    def uses_gradient_cache(self) -> bool:
        """Whether the wrapped loss has its backward pass in a hook; losses around this one have to know."""
        return bool(getattr(self.loss, "uses_gradient_cache", False))

    @property
    def calculate_loss(self) -> Callable[..., Tensor]:
        """What MatryoshkaLoss asks of a GradCache loss, to call it itself: not offered, `RequestError` says why."""
        name = type(self.loss).__name__
        raise RequestError(
            f"MatryoshkaLoss cannot go around HybridBatchLoss with {name}: it calls a method of GradCache losses, past "
            f"the mask; wrap {name.removeprefix('Cached')} instead, or leave MatryoshkaLoss out"
        )

    def _not_finite(self, value: float, labels: Tensor) -> str:
        pairs = sorted({(query, passage) for _, query, passage, *_ in labels.tolist()})
        shown = listed((f"{query}-{passage}" for query, passage in pairs), _PAIRS_SHOWN)
        kind = _kind(sum(query == passage for query, passage in pairs) / len(pairs)).replace("_", "-")
        groups = ", ".join(map(str, labels[:_PAIRS_SHOWN, 0].tolist()))
        return (
            f"the loss is {value} in batch {self._calls} ({kind}, {len(labels)} pairs, languages {shown} by "
            f"number, groups {groups}{', ...' if len(labels) > _PAIRS_SHOWN else ''}): lower the learning rate, or "
            "compute in bf16 or float32 if this is fp16; a model that gives NaN for a text cannot be trained"
        )


class LossByKind(TrainerCallback):
    """Logs the loss of monolingual, cross-lingual and mixed batches apart, each as a mean over its own batches.

    Beside ``loss`` stand ``loss_monolingual``, ``loss_cross_lingual`` and ``loss_mixed``, as far as there were such
    batches since the last line, and beside ``eval_loss`` the like, ``eval_loss_monolingual``. They are without weights.

    Given to the trainer in ``callbacks=[LossByKind(loss)]``, it reaches the trainer's history and what it prints.
    Loggers such as TensorBoard and W&B stand before a user's callbacks; `attach` puts it before them.

    Args:
        loss: The loss that the trainer has, or that stands in another loss.
    """

    def __init__(self, loss: HybridBatchLoss) -> None:
        self.loss = loss

    def attach(self, trainer: SentenceTransformerTrainer) -> None:
        """Put it before all callbacks of a trainer, so that every logger gets the figures."""
        callbacks = trainer.callback_handler.callbacks
        callbacks[:] = [self, *(callback for callback in callbacks if callback is not self)]

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Add the figures to a line of the log. The trainer calls this on all devices."""
        if logs is None:
            return
        if "loss" in logs:
            prefix = ""
        else:
            names = (name for name in logs if name.startswith("eval_") and name.endswith("_loss"))
            name = next(names, None)
            if name is None:
                return
            prefix = name.removesuffix("loss")
        means = self.loss.mean_losses(training=not prefix)
        new = {f"{prefix}loss_{kind}": round(value, 4) for kind, value in means.items()}
        logs.update(new)
        if state.log_history:  # written before the callbacks are asked
            state.log_history[-1].update(new)


def _kind(share: float) -> str:
    """The kind of a batch in which this share of the pairs is within a language."""
    return "monolingual" if share == 1 else "mixed" if share else "cross_lingual"


def _check_wrapped(loss: Any) -> None:
    """Refuse a loss that has no in-batch negatives, or that this one cannot be put around."""
    if isinstance(loss, _FAMILY):
        return
    name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    if isinstance(loss, HybridBatchLoss):
        raise RequestError("HybridBatchLoss is already around this loss: once is enough")
    if isinstance(getattr(loss, "loss", None), nn.Module):
        raise RequestError(
            f"HybridBatchLoss cannot go around {name}, but {name} around HybridBatchLoss: "
            f"{name}(model, HybridBatchLoss(model, loss), ...)"
        )
    known = ", ".join(kind.__name__ for kind in _FAMILY)
    raise RequestError(
        f"HybridBatchLoss cannot go around {name}, which does not score in-batch negatives by a similarity function; "
        f"give an instance of {known}"
    )


def _check_labels(labels: Any, n_negatives: int) -> None:
    widths = {_LABEL, _LABEL + n_negatives}
    if not isinstance(labels, Tensor) or labels.ndim != 2 or labels.shape[1] not in widths:
        found = f"of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        raise RequestError(
            f"the labels are {found}, not (batch, 3): HybridBatchLoss needs [group, query language, passage language] "
            "of each pair in a column 'label', as ParallelDataset has it"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise RequestError(f"the labels are {labels.dtype}, not integers: groups and languages are numbers to compare")


# -- the mask -------------------------------------------------------------------------------------------------------


class _Scored(NamedTuple):
    """One matrix of scores that a loss asks for: rows are pairs of this device, columns what they are scored with.

    Attributes:
        groups: int64 (columns,), group of each column's text.
        own: Column of the first row's own text, that of the second being the next; None if none is in these columns.
        transposed: Whether it asks for the columns by rows.
    """

    groups: Tensor
    own: int | None
    transposed: bool = False


class _Masking:
    """A similarity function whose scores of false negatives are minus infinity.

    Which matrix is asked for cannot be seen in the vectors; it is known from the order in which the loss asks. A
    GradCache form asks in the same order again and again, for the next rows each time.
    """

    def __init__(self, similarity: Callable[[Tensor, Tensor], Tensor], rows: Tensor, order: Sequence[_Scored]) -> None:
        self._similarity = similarity
        # A negative group is no group, not even that of another negative number.
        self._rows = rows.masked_fill(rows < 0, torch.iinfo(rows.dtype).min)
        self._order = order
        self._done = 0
        self._next = 0

    @property
    def complete(self) -> bool:
        """Whether the loss has asked for all rows, in the order."""
        return self._next == 0 and self._done == len(self._rows)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        scores = self._similarity(a, b)
        asked = self._order[self._next]
        n = scores.shape[1 if asked.transposed else 0]
        groups = self._rows[self._done : self._done + n]
        if scores.shape != ((len(asked.groups), len(groups)) if asked.transposed else (len(groups), len(asked.groups))):
            raise _other_order()
        false = groups[:, None] == asked.groups
        if asked.own is not None:
            false.diagonal(asked.own + self._done).zero_()
        self._next = (self._next + 1) % len(self._order)
        if self._next == 0:
            self._done += n
        # Not in place: the backward pass of some similarities needs the scores as they were.
        return scores.masked_fill(false.T if asked.transposed else false, -torch.inf)


def _other_order() -> RequestError:
    return RequestError(
        "the wrapped loss asks for similarities in another way than sentence-transformers' own: its false negatives "
        "are not known; give HybridBatchLoss(..., mask=False), and a sampler that keeps groups apart"
    )


@contextmanager
def _masked(loss: nn.Module, labels: Tensor, n_negatives: int) -> Iterator[None]:
    """While this is open, the loss's similarity function leaves out false negatives.

    Not for longer: the loss stays the user's, and its similarity what the model card says it is.
    """
    # The GradCache form has the options in a loss of the plain form inside.
    inner = getattr(loss, "loss", None)
    holder = inner if isinstance(inner, MultipleNegativesRankingLoss) else loss
    similarity: Any = holder.similarity_fct
    masking = _Masking(similarity, labels[:, 0], _order(holder, labels, n_negatives))
    _replace_similarity(holder, masking)
    try:
        yield
    finally:
        _replace_similarity(holder, similarity)
    if not masking.complete:
        raise _other_order()


def _replace_similarity(holder: nn.Module, similarity: Any) -> None:
    # Deleted first: torch takes no plain function in the place of a module.
    del holder.similarity_fct
    holder.similarity_fct = similarity


def _order(loss: nn.Module, labels: Tensor, n_negatives: int) -> list[_Scored]:
    """The matrices that a loss asks for, in its order."""
    local = labels[:, 0]
    # The passages, then the first hard negatives, the second ones, and so on.
    columns = [local, *labels[:, _LABEL:].T]
    columns += [torch.full_like(local, -1)] * (1 + n_negatives - len(columns))
    offset = 0
    if loss.gather_across_devices and is_dist_initialized():
        columns = [all_gather(column.contiguous()) for column in columns]
        offset = get_rank() * len(local)
    pairs, *negatives = columns
    documents = torch.cat(columns) if negatives else pairs
    if isinstance(loss, MultipleNegativesRankingLoss):
        possible = {
            "query_to_doc": _Scored(documents, offset),
            "query_to_query": _Scored(pairs, offset),
            "doc_to_query": _Scored(pairs, offset, transposed=True),
            "doc_to_doc": _Scored(documents, offset, transposed=True),
        }
        return [scored for direction, scored in possible.items() if direction in loss.directions]
    order = [_Scored(pairs, offset)]
    if loss.contrast_anchors:
        order.append(_Scored(local, 0))
    if loss.contrast_positives:
        order.append(_Scored(pairs, offset))
    order += [_Scored(groups, None) for groups in negatives]
    # Each is asked for twice: the guide's scores follow the model's.
    return [scored for scored in order for _ in range(2)]
