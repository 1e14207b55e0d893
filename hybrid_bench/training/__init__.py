"""Training with hybrid batches (arXiv 2408.10536), for sentence-transformers.

The parts can be used alone, each in a plain SentenceTransformerTrainer script: `ParallelDataset` holds parallel queries
and passages, `HybridBatchSampler` draws batches that are monolingual with probability alpha and cross-lingual
otherwise, `HybridBatchLoss` keeps translations of one passage from being each other's negatives (`LossByKind` logs it
for monolingual and cross-lingual batches apart), and `HybridRetrievalEvaluator` measures what `run` measures. They are
imported when they are first asked for: sources, overlap and configuration are checked without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_bench.training.data import ParallelDataset
    from hybrid_bench.training.evaluator import HybridRetrievalEvaluator
    from hybrid_bench.training.loss import HybridBatchLoss, LossByKind
    from hybrid_bench.training.sampler import HybridBatchSampler
    from hybrid_bench.training.sampling import Sampling
    from hybrid_bench.training.texts import ParallelTexts

__all__ = [
    "HybridBatchLoss",
    "HybridBatchSampler",
    "HybridRetrievalEvaluator",
    "LossByKind",
    "ParallelDataset",
    "ParallelTexts",
    "Sampling",
]

_HOME = {
    "HybridBatchLoss": "loss",
    "HybridBatchSampler": "sampler",
    "HybridRetrievalEvaluator": "evaluator",
    "LossByKind": "loss",
    "ParallelDataset": "data",
    "ParallelTexts": "texts",
    "Sampling": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
