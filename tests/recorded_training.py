"""A training by the real Trainer that notes what every step was given; as a script, one process of several.

``torchrun --nproc-per-node W recorded_training.py FOLDER`` trains without a break, then again from several of its
checkpoints, and writes what each process was given, by the step that it started from, to ``FOLDER/<rank>.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor

from helpers import static_model
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.sampler import HybridBatchSampler
from parallel_texts import parallel

__all__ = ["BATCH", "EPOCHS", "SAVE_STEPS", "SEED", "Batches", "data", "trained"]

#: Of all devices together. Six and two full batches of the two sources make eight steps of an epoch.
BATCH = 16
EPOCHS, SAVE_STEPS, SEED = 3, 4, 5

Batches = list[list[list[int]]]
"""By step, the labels of its items."""


class Recording(MultipleNegativesRankingLoss):
    """The loss, with a note of the labels of every batch."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__(model)
        self.seen: Batches = []

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Any:
        self.seen.append(labels.tolist())
        return super().forward(sentence_features, labels)


def data() -> ParallelDataset:
    """Two sources of different languages; every row is its own group, so that a label tells the item."""
    return ParallelDataset.of(
        [parallel("A", 100, ("de", "en", "sw"), missing=0.05), parallel("B", 40, ("en", "zh", "ar"))]
    )


def trained(
    folder: Path, *, resume: int | None = None, sampler: Callable[..., HybridBatchSampler] | None = None, **options: Any
) -> tuple[Batches, Tensor]:
    """What each step of this process was given, and the vectors of the trained model.

    Args:
        folder: For the checkpoints; those of an earlier training if it is to be resumed.
        resume: The step from whose checkpoint to go on.
        sampler: None for hybrid batches with alpha 0.5.
        options: Training arguments.
    """
    dataset = data()
    texts = [item[role] for item in dataset for role in ("query", "passage")]
    model = static_model(texts, dimension=16)
    model.model_card_data.generate_widget_examples = False  # which takes longer than the training
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    arguments: dict[str, Any] = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH // processes,
        "save_steps": SAVE_STEPS,
        "seed": SEED,
        "learning_rate": 1e-2,
        "batch_sampler": sampler or HybridBatchSampler.mode(alpha=0.5),
        "report_to": "none",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        **options,
    }
    loss = Recording(model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(str(folder), **arguments),
        train_dataset=dataset,
        loss=loss,
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(folder / f"checkpoint-{resume}"))
    (weights,) = model.parameters()
    return loss.seen, weights.detach().clone()


def main() -> None:
    """Train as this process of several."""
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    batches, weights = trained(folder / "checkpoints")
    found = {0: batches}
    for step in map(int, sys.argv[2:]):
        found[step], again = trained(folder / "checkpoints", resume=step)
        assert torch.equal(weights, again), f"other weights after going on from step {step}"
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
