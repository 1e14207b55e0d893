"""`HybridBatchSampler`: the batches of `sampling`, as a SentenceTransformerTrainer asks for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

from hybrid_bench.errors import RequestError
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.sampling import BatchPlan, Epoch, Sampling
from hybrid_bench.training.texts import Items

__all__ = ["HybridBatchSampler"]

_log = logging.getLogger(__name__)


class HybridBatchSampler(DefaultBatchSampler):
    """Batches of a `ParallelDataset` that are monolingual with probability alpha, and cross-lingual otherwise.

    Goes into the training arguments as ``batch_sampler=HybridBatchSampler.mode("hybrid", alpha=0.5)``; the class itself
    is the paper's choice, alpha = 0.5. Source, kind and language are decided once per *global* step, for all devices
    together: the Trainer hands consecutive batches to its devices, and those of one step are the parts of what one
    device with a batch of the same total size would see. What a batch holds depends on seed, epoch, step and that total
    size alone. A step of gradient accumulation has a batch of its own.

    Training goes on from a checkpoint exactly, in any epoch and on any number of devices, and at once: batches are
    computed when they are read, and those that are skipped are not.

    From a dictionary of data sets, sentence-transformers draws with a sampler for each. On several devices the parts of
    a global batch then go to different steps.

    Args:
        dataset: A `ParallelDataset`.
        batch_size: Items on each device, B.
        drop_last: Has no effect: all batches are full, see `sampling`.
        valid_label_columns: Has no effect either.
        generator: Nor has this: every decision is a hash of seed, epoch and step.
        seed: The Trainer gives its own.
        sampling: How to draw; None for hybrid with alpha = 0.5.
        processes: W, over how many devices the Trainer spreads consecutive batches. None for the size of the process
            group, if there is one. To be given where not all processes read different data, as in tensor
            parallelism, and 1 for accelerate's `split_batches`.

    Attributes:
        plan: What epochs are made of: steps, batches by source, and notes for the user, which are logged as warnings.

    Raises:
        RequestError: Another kind of data set, or what `BatchPlan` refuses.
    """

    def __init__(
        self,
        dataset: ParallelDataset,
        batch_size: int,
        drop_last: bool = True,
        *,
        valid_label_columns: list[str] | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        processes: int | None = None,
    ) -> None:
        if not isinstance(dataset, ParallelDataset):
            raise RequestError(
                f"HybridBatchSampler draws from a ParallelDataset, not from a {type(dataset).__name__}: make one with "
                "ParallelDataset.of(sources)"
            )
        self.dataset = dataset
        super().__init__(dataset, batch_size, drop_last, valid_label_columns, generator, seed)  # which sets the epoch
        self.sampling = sampling or Sampling()
        self.processes = _processes() if processes is None else processes
        self.plan = BatchPlan(dataset.items, batch_size * self.processes, self.sampling, seed)
        for note in self.plan.notes:
            _log.warning("%s", note)

    @classmethod
    def mode(
        cls,
        mode: str = "hybrid",
        *,
        alpha: float | None = None,
        language: str = "en",
        keep_single: bool = False,
        processes: int | None = None,
    ) -> Callable[..., HybridBatchSampler]:
        """What the training arguments take as `batch_sampler`; see `Sampling` for the arguments and errors."""
        return partial(cls, sampling=Sampling(mode, alpha, language, keep_single), processes=processes)

    # The data set keeps the epoch: accelerate sets it there where it does not reach the sampler, see `ParallelDataset`.
    @property
    def epoch(self) -> int:
        """The epoch that the next iteration goes through, from 0."""
        return self.dataset.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.dataset.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch, on all devices."""
        return self.plan.steps * self.processes

    def __iter__(self) -> Iterator[Sequence[int]]:  # type: ignore[override] # computed when read, so not a list
        """The batches of the epoch; those of one step are consecutive, the first device's first."""
        return self._parts(self.plan.epoch(self.epoch))

    def _parts(self, epoch: Epoch) -> Iterator[Sequence[int]]:
        for step in range(self.plan.steps):
            for process in range(self.processes):
                yield _Part(self.dataset.items, epoch, step, process * self.batch_size, self.batch_size)


class _Part(Sequence[int]):
    """One device's part of a global batch, computed when it is read.

    accelerate skips batches by taking and dropping them, on every device those of all devices. This makes it cheap.
    """

    __slots__ = ("_epoch", "_items", "_size", "_start", "_step")

    def __init__(self, items: Items, epoch: Epoch, step: int, start: int, size: int) -> None:
        self._items = items
        self._epoch, self._step, self._start, self._size = epoch, step, start, size

    def items(self) -> NDArray[np.int64]:
        """(B,), the items."""
        return self._epoch.batch(self._step)[self._start : self._start + self._size]

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> list[int]: ...

    def __getitem__(self, place: int | slice) -> int | list[int]:
        found = self._items.named(self.items())
        return found[place] if isinstance(place, int) else [*found[place]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._items.named(self.items()))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # like a list

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process gets the numbers, not the sources.
        return list, (self.items().tolist(),)


def _processes() -> int:
    """Number of processes that train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1
