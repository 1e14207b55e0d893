"""Several processes, started by torchrun, train on the batches that one process would train on, and go on exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch

from hybrid_bench.training.sampling import BatchPlan, Sampling
from recorded_training import BATCH, EPOCHS, SEED, Batches, data

SCRIPT = Path(__file__).parents[1] / "recorded_training.py"
#: In the first epoch; at its end; in the middle of the second, and of the third.
STEPS = (4, 8, 12, 20)


def launched(processes: int, folder: Path) -> list[dict[str, Batches]]:
    """What each process was given, by the step that it started from."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder), *map(str, STEPS)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed training")
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_see_the_batches_of_one(processes: int, tmp_path: Path) -> None:
    dataset = data()
    plan = BatchPlan(dataset.items, BATCH, Sampling(alpha=0.5), SEED)
    expected = [
        dataset.labels(epoch.batch(step)).tolist()
        for epoch in (plan.epoch(number) for number in range(EPOCHS))
        for step in range(plan.steps)
    ]
    ranks = launched(processes, tmp_path)
    for start in (0, *STEPS):
        together = [list(chain(*parts)) for parts in zip(*(rank[str(start)] for rank in ranks), strict=True)]
        assert together == expected[start:], f"from step {start}"
