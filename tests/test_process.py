"""That no test leaves anything behind in the process, and that the order of the tests does not matter."""

from __future__ import annotations

import importlib
import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import pytest
import torch

from hybrid_bench.cli.commands import main
from process import process_kept

TASKS: Any = importlib.import_module("mteb.get_tasks")
BENCHMARKS: Any = importlib.import_module("mteb.benchmarks.benchmarks")


def benchmark_tasks() -> list[str]:
    return [task.metadata.name for task in mteb.get_benchmark("HybridBench").tasks]


def state() -> dict[str, Any]:
    """What `CHANGES` change, each by its name."""
    return {
        "environment": os.environ.get("HYBRID_BENCH_DATA"),
        "another variable": os.environ.get("PATH"),
        "folder": Path.cwd(),
        "arguments": list(sys.argv),
        "paths": list(sys.path),
        "signals": signal.getsignal(signal.SIGTERM),
        "level": logging.getLogger().level,
        "handlers": list(logging.getLogger("mteb").handlers),
        "logging": logging.root.manager.disable,
        "python's generator": random.getstate(),
        "numpy's generator": np.random.get_state()[1].tolist(),  # type: ignore[index] # the tuple, as no legacy=False is given
        "torch's generator": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "exactness": torch.are_deterministic_algorithms_enabled(),
        "bars": datasets.are_progress_bars_disabled(),
        "caching": datasets.is_caching_enabled(),
        "cache": datasets.config.HF_DATASETS_CACHE,
        "tasks": [name in TASKS._TASKS_REGISTRY for name in ("XQuAD-R-Pairs", "Other")],
        "list of tasks": len(TASKS.TASK_LIST),
        "models": "hybrid_bench/bm25" in mteb.models.model_implementations.MODEL_REGISTRY,
        "benchmarks": hasattr(BENCHMARKS, "HYBRID_BENCH"),
        "tasks of a benchmark": benchmark_tasks() if hasattr(BENCHMARKS, "HYBRID_BENCH") else None,
    }


CHANGES: dict[str, Callable[[], Any]] = {
    "environment": lambda: os.environ.update(HYBRID_BENCH_DATA="elsewhere"),
    "another variable": lambda: os.environ.pop("PATH"),
    "folder": lambda: os.chdir("/"),
    "arguments": lambda: sys.argv.append("--more"),
    "paths": lambda: sys.path.insert(0, "nowhere"),
    "signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "level": lambda: logging.getLogger().setLevel(logging.DEBUG - 1),
    "handlers": lambda: logging.getLogger("mteb").addHandler(logging.NullHandler()),
    "logging": lambda: logging.disable(logging.INFO),
    "python's generator": random.random,
    "numpy's generator": np.random.rand,
    "torch's generator": lambda: torch.rand(1),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "gradients": lambda: torch.set_grad_enabled(False),
    "exactness": lambda: torch.use_deterministic_algorithms(True),
    "bars": datasets.disable_progress_bars,
    "caching": datasets.disable_caching,
    "cache": lambda: setattr(datasets.config, "HF_DATASETS_CACHE", "elsewhere"),
    "tasks": lambda: TASKS._TASKS_REGISTRY.update(Other=TASKS._TASKS_REGISTRY.pop("XQuAD-R-Pairs")),
    "list of tasks": lambda: setattr(TASKS, "TASK_LIST", ()),
    "models": lambda: mteb.models.model_implementations.MODEL_REGISTRY.pop("hybrid_bench/bm25"),
    "benchmarks": lambda: delattr(BENCHMARKS, "HYBRID_BENCH"),
    # mteb sorts what it shows, and puts that in the place of what there was.
    "tasks of a benchmark": lambda: main(["mteb", "available-benchmarks", "--benchmarks", "HybridBench"]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_process_is_given_back(what: str) -> None:
    before = state()
    assert set(before) == set(CHANGES)
    with process_kept():
        CHANGES[what]()
        assert state()[what] != before[what]
    assert state() == before
    assert benchmark_tasks()[0] == "XQuAD-R-Pairs"


def test_the_process_is_given_back_after_an_error() -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), process_kept():
        os.environ["HYBRID_BENCH_DATA"] = str(1 // (len(os.environ) - len(os.environ)))
    assert state() == before


@pytest.mark.parametrize("turn", [1, 2])
def test_whichever_runs_first_leaves_nothing_to_the_other(turn: int) -> None:
    assert benchmark_tasks()[0] == "XQuAD-R-Pairs"
    assert os.environ.setdefault("TURN", str(turn)) == str(turn)
    CHANGES["tasks of a benchmark"]()
    assert benchmark_tasks()[0] == "MLQA-R-Multilingual"
