"""The masked loss on several devices, under torchrun with gloo, is the one of a single process over the whole batch.

This file is also the script that torchrun starts; see `main`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedGISTEmbedLoss,
    CachedMultipleNegativesRankingLoss,
    GISTEmbedLoss,
    MultipleNegativesRankingLoss,
)
from torch import Tensor, nn

from helpers import save_tiny
from hybrid_bench.training.loss import HybridBatchLoss

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu"]
PAIRS = 8
#: False negatives stand on the same device and on others, for two devices as for four.
GROUPS = (7, 7, -1, 0, 7, -1, 0, 5)
NEGATIVE_GROUPS = (-1, 0, 7, -1, 5, -1, -1, 7)


class Case(NamedTuple):
    """A wrapped loss.

    Attributes:
        make: Makes it of a model and a guide.
        negatives: Whether there is a hard negative for each pair.
        gathered: Whether its batch is that of all devices.
    """

    make: Callable[[Any, Any], nn.Module]
    negatives: bool = False
    gathered: bool = True


CASES = {
    "plain": Case(lambda model, _: MultipleNegativesRankingLoss(model, gather_across_devices=True)),
    "plain, negatives": Case(lambda model, _: MultipleNegativesRankingLoss(model, gather_across_devices=True), True),
    "not gathered": Case(lambda model, _: MultipleNegativesRankingLoss(model), True, gathered=False),
    "all directions": Case(
        lambda model, _: MultipleNegativesRankingLoss(
            model,
            gather_across_devices=True,
            directions=("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"),
            hardness_mode="in_batch_negatives",
            hardness_strength=3.0,
        ),
        True,
    ),
    "cached": Case(
        lambda model, _: CachedMultipleNegativesRankingLoss(model, mini_batch_size=2, gather_across_devices=True)
    ),
    "cached, negatives": Case(
        lambda model, _: CachedMultipleNegativesRankingLoss(model, mini_batch_size=3, gather_across_devices=True), True
    ),
    # A query is compared with those of its own device only, so not with `contrast_anchors`.
    "gist": Case(
        lambda model, guide: GISTEmbedLoss(model, guide, contrast_anchors=False, gather_across_devices=True), True
    ),
    "cached gist": Case(
        lambda model, guide: CachedGISTEmbedLoss(
            model, guide, mini_batch_size=3, contrast_anchors=False, gather_across_devices=True
        ),
        True,
    ),
}


class Found(NamedTuple):
    """What a process found: loss of its own pairs, gradient of the model, and the mean losses that it would log."""

    loss: Tensor
    gradient: Tensor
    means: dict[str, float]


def found_by(
    model: SentenceTransformer, guide: SentenceTransformer, case: Case, pairs: slice, parallel: Any = None
) -> Found:
    """Loss and gradient of these pairs; `parallel` is the model as it is spread over devices."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(len(WORDS), (2 + case.negatives, PAIRS, 5), generator=generator).tolist()
    columns = [[" ".join(WORDS[word] for word in text) for text in column[pairs]] for column in words]
    negatives = [[group] if case.negatives else [] for group in NEGATIVE_GROUPS]
    labels = [[group, 0, 0, *known] for group, known in zip(GROUPS, negatives, strict=True)]
    loss = HybridBatchLoss(model, case.make(model, guide))
    if parallel is not None:
        put_in(loss, parallel)
    model.zero_grad()
    value = loss([model.preprocess(column) for column in columns], torch.tensor(labels[pairs]))
    value.backward()
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    means = loss.mean_losses(training=False)
    return Found(value.detach(), torch.cat([part.flatten() for part in gradient]), means)


def put_in(loss: Any, parallel: nn.Module) -> None:
    """Give the model to a loss, and to the losses in it, as the trainer does."""
    loss.model = parallel
    if isinstance(inner := getattr(loss, "loss", None), nn.Module):
        put_in(inner, parallel)


def load(folder: Path) -> list[SentenceTransformer]:
    """The model and its guide, in double precision and without dropout."""
    models = [SentenceTransformer(str(folder / name), device="cpu").double().eval() for name in ("model", "guide")]
    for name, parameter in models[0].named_parameters():
        parameter.requires_grad_("pooler" not in name)  # it has no part in an embedding, which DDP would wait for
    return models


def main(folder: Path) -> None:
    """What each process does: every case on its share of the pairs, with the model in DDP."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    model, guide = load(folder)
    parallel = nn.parallel.DistributedDataParallel(model).eval()
    share = PAIRS // world
    pairs = slice(rank * share, (rank + 1) * share)
    found = {name: found_by(model, guide, case, pairs, parallel) for name, case in CASES.items()}
    torch.save({name: tuple(each) for name, each in found.items()}, folder / f"{world}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_tiny("SentenceTransformer", folder / "model", WORDS, seed=1)
    save_tiny("SentenceTransformer", folder / "guide", WORDS, seed=2)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_are_as_one(folder: Path, world: int) -> None:
    tests = Path(__file__).parents[1]
    started = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", __file__, folder],
        env={**os.environ, "PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert started.returncode == 0, started.stderr[-4000:]
    by_rank = [torch.load(folder / f"{world}-{rank}.pt", weights_only=True) for rank in range(world)]
    model, guide = load(folder)
    for name, case in CASES.items():
        found = [Found(*each[name]) for each in by_rank]
        share = PAIRS // world
        alone = [slice(None)] if case.gathered else [slice(start, start + share) for start in range(0, PAIRS, share)]
        expected = [found_by(model, guide, case, pairs) for pairs in alone]
        loss = torch.stack([each.loss for each in expected]).mean()
        gradient = torch.stack([each.gradient for each in expected]).mean(0)
        torch.testing.assert_close(torch.stack([each.loss for each in found]).mean(), loss, rtol=0, atol=1e-9)
        for each in found:  # DDP gives all the same gradient
            torch.testing.assert_close(each.gradient, gradient, rtol=0, atol=1e-9)
            assert each.means == pytest.approx({"monolingual": float(loss)}, rel=1e-6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
