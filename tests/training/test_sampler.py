"""The sampler under the real Trainer: what a step is given, going on from checkpoints, and how fast."""

from __future__ import annotations

import logging
import pickle
import time
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from accelerate import skip_first_batches  # type: ignore[import-untyped] # ships no types
from accelerate.data_loader import BatchSamplerShard  # type: ignore[import-untyped] # ships no types
from torch.utils.data import DataLoader, Dataset

from hybrid_bench.errors import RequestError
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.sampler import HybridBatchSampler
from hybrid_bench.training.sampling import BatchPlan, Sampling
from parallel_texts import many_rows, parallel
from recorded_training import BATCH, EPOCHS, SEED, Batches, data, trained

STEPS = 8


def planned(sampling: Sampling | None = None, size: int = BATCH) -> Batches:
    """What all steps of a training should be given, straight from the plan."""
    dataset = data()
    plan = BatchPlan(dataset.items, size, sampling or Sampling(alpha=0.5), SEED)
    epochs = [plan.epoch(number) for number in range(EPOCHS)]
    return [dataset.labels(epoch.batch(step)).tolist() for epoch in epochs for step in range(plan.steps)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Batches, torch.Tensor]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, *trained(folder)


def test_the_trainer_gets_the_batches_of_the_plan(unbroken: tuple[Path, Batches, torch.Tensor]) -> None:
    _, batches, _ = unbroken
    assert len(batches) == EPOCHS * STEPS
    assert batches == planned()
    assert len({str(batch) for batch in batches}) == len(batches)


@pytest.mark.parametrize("step", [4, 8, 12, 20])
def test_training_goes_on_exactly(unbroken: tuple[Path, Batches, torch.Tensor], step: int) -> None:
    """In the first epoch, at the end of it, and in later ones."""
    folder, batches, weights = unbroken
    rest, again = trained(folder, resume=step)
    assert rest == batches[step:]
    assert torch.equal(weights, again)


def test_training_goes_on_exactly_with_workers_and_accumulated_steps(tmp_path: Path) -> None:
    options: dict[str, Any] = {"gradient_accumulation_steps": 2, "dataloader_num_workers": 2, "save_steps": 3}
    batches, weights = trained(tmp_path, **options)
    assert batches == planned()
    rest, again = trained(tmp_path, resume=6, **options)  # updates, of two batches each: in the second epoch
    assert rest == batches[12:]
    assert torch.equal(weights, again)


@pytest.mark.parametrize(
    "sampling", [Sampling("x-y"), Sampling("x-x-mono"), Sampling("x-x"), Sampling("en-en"), Sampling(alpha=0.8)]
)
def test_every_mode_is_an_argument_of_the_trainer(tmp_path: Path, sampling: Sampling) -> None:
    alpha = sampling.alpha if sampling.mode == "hybrid" else None
    sampler = HybridBatchSampler.mode(sampling.mode, alpha=alpha)
    batches, _ = trained(tmp_path, sampler=sampler, save_strategy="no", num_train_epochs=1)
    assert batches == planned(sampling)[: len(batches)]
    assert len(batches) in {7, 8}  # English alone has fewer rows than all languages


def test_the_class_is_an_argument_too(tmp_path: Path) -> None:
    batches, _ = trained(tmp_path, sampler=HybridBatchSampler, save_strategy="no", num_train_epochs=1)
    assert batches == planned()[:STEPS]


def test_another_seed_gives_others(tmp_path: Path) -> None:
    batches, _ = trained(tmp_path, save_strategy="no", seed=SEED + 1, num_train_epochs=1)
    assert not any(one == other for one, other in zip(batches, planned(), strict=False))


class Numbers(Dataset[int]):
    """A data set that gives back what it is asked for."""

    def __getitem__(self, number: int) -> int:
        return number


def loader_of(sampler: Any) -> DataLoader[int]:
    """Batches of the numbers that a sampler asks for."""
    return DataLoader(Numbers(), batch_sampler=sampler, collate_fn=list)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("skip", [0, 3])
def test_devices_get_the_parts_of_one_global_batch(processes: int, skip: int) -> None:
    """As accelerate hands out batches, and as it skips them when training goes on."""
    whole = HybridBatchSampler(data(), BATCH, seed=SEED)
    spread = HybridBatchSampler.mode(processes=processes)(data(), batch_size=BATCH // processes, seed=SEED)
    assert (len(whole), len(spread)) == (STEPS, STEPS * processes)
    for epoch in range(2):
        whole.set_epoch(epoch)
        spread.set_epoch(epoch)
        devices = []
        for process in range(processes):
            shard = BatchSamplerShard(spread, processes, process, even_batches=False)
            devices.append(list(skip_first_batches(loader_of(shard), skip)))
        together = [list(chain(*parts)) for parts in zip(*devices, strict=True)]
        assert together == [list(batch) for batch in whole][skip:]


def test_the_epoch_can_be_set_through_the_data_set() -> None:
    """Which is all that accelerate reaches when training goes on, on several devices."""
    dataset = data()
    sampler = HybridBatchSampler(dataset, BATCH, seed=SEED)
    first = [list(batch) for batch in sampler]
    dataset.set_epoch(1)
    assert sampler.epoch == 1
    second = [list(batch) for batch in sampler]
    assert second != first
    going_on = iter(sampler)
    dataset.set_epoch(0)  # by an evaluation on the same data, say
    assert [list(batch) for batch in going_on] == second
    assert [list(batch) for batch in sampler] == first


def test_a_resume_at_a_late_step_jumps_there() -> None:
    dataset = ParallelDataset.of(many_rows("S", 3_200_000, ("de", "en", "sw")))
    sampler = HybridBatchSampler.mode(processes=8)(dataset, batch_size=1)
    shard = BatchSamplerShard(sampler, 8, 3, even_batches=False)
    start = time.perf_counter()
    batch = next(iter(skip_first_batches(loader_of(shard), 300_000)))
    assert time.perf_counter() - start < 5
    assert batch == sampler.plan.epoch(0).batch(300_000)[3:4].tolist()


def test_a_batch_is_a_sequence_and_reaches_workers_as_a_list() -> None:
    sampler = HybridBatchSampler(data(), 4, seed=1)
    batch, other = list(sampler)[:2]
    numbers = list(batch)
    assert len(batch) == len(numbers) == 4
    assert (batch[0], batch[-1], batch[1:3]) == (numbers[0], numbers[-1], numbers[1:3])
    assert batch == numbers
    assert batch != other
    assert pickle.loads(pickle.dumps(batch)) == numbers
    assert type(pickle.loads(pickle.dumps(batch))) is list
    assert repr(batch) == repr(numbers)
    assert pickle.loads(pickle.dumps(HybridBatchSampler.mode(alpha=0.25)))(data(), 4).sampling.alpha == 0.25


def test_what_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    dataset = ParallelDataset.of([parallel("A", 60, ("de", "en")), parallel("B", 60, ("en",))])
    with caplog.at_level(logging.WARNING):
        sampler = HybridBatchSampler.mode("x-y")(dataset, batch_size=4)
    assert caplog.messages == list(sampler.plan.notes) != []
    assert caplog.messages[0].startswith("in one language, so left out of cross-lingual batches: B; an epoch has 0% of")


def test_errors_name_the_global_batch() -> None:
    with pytest.raises(RequestError, match=r"A has 100 groups .* a batch takes 120, .* \(over all devices together\)"):
        HybridBatchSampler.mode(processes=4)(ParallelDataset.of(parallel("A", 100, ("de", "en"))), batch_size=30)


def test_another_data_set_is_refused() -> None:
    plain = datasets.Dataset.from_dict({"query": ["a"], "passage": ["b"]})
    with pytest.raises(RequestError) as error:
        HybridBatchSampler(plain, 1)
    assert str(error.value) == (
        "HybridBatchSampler draws from a ParallelDataset, not from a Dataset: make one with ParallelDataset.of(sources)"
    )
