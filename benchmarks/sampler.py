"""The batch sampler over sources of millions of rows: ``sampler.py [--rows N] [--missing]``.

Prints how long it takes to be ready, how much memory it takes on top of what the process has with the data (peak and
lasting, in MB), how many global batches it computes in a second, and how long it takes accelerate to skip to a step.
As in mMARCO, rows are pairs over collections of queries and passages in every language, so that many share a passage.
The texts are empty of meaning, memory-mapped and never read: this is about numbers.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

# ruff: noqa: E402 # run from a checkout, the package need not be installed
sys.path[:0] = [str(Path(__file__).parents[1])]

from accelerate.data_loader import (  # type: ignore[import-untyped] # ships no types
    BatchSamplerShard,
    SkipBatchSampler,
)

from hybrid_bench.data.collection import Column
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.sampler import HybridBatchSampler
from hybrid_bench.training.texts import ParallelTexts

LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
SIZE = 100


def column(size: int, folder: Path, name: str, missing: bool) -> Column:
    """A memory-mapped column of short strings; every tenth is null, if any is."""
    path = folder / f"{name}.arrow"
    schema = pa.schema([("text", pa.string())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, size, 100_000):
            numbers = range(start, min(start + 100_000, size))
            texts = [None if missing and number % 10 == len(name) % 10 else "text" for number in numbers]
            writer.write_batch(pa.record_batch([pa.array(texts, pa.string())], schema=schema))
    return Column(pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"])


def source(rows: int, folder: Path, missing: bool) -> ParallelTexts:
    """Rows over a fifth as many passages and a seventieth as many queries."""
    rng = np.random.default_rng(0)
    n_queries, n_passages = max(1, rows // 70), max(SIZE, rows // 5)
    passage_rows = rng.integers(0, n_passages, rows, dtype=np.int32)
    return ParallelTexts(
        "pairs",
        {code: column(n_queries, folder, f"q{code}", False) for code in LANGUAGES},
        {code: column(n_passages, folder, f"p{code}", missing) for code in LANGUAGES},
        query_rows=rng.integers(0, n_queries, rows, dtype=np.int32),
        passage_rows=passage_rows,
        groups=passage_rows,
    )


def memory(what: str) -> float:
    """What the kernel says about this process, in MB: VmRSS, or VmHWM for the peak."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Measure, and print one figure on each line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000_000)
    parser.add_argument("--step", type=int, default=300_000, help="where to go on")
    parser.add_argument("--batches", type=int, default=20_000, help="how many to compute")
    parser.add_argument("--missing", action="store_true", help="leave out a tenth of the passages in every language")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = source(options.rows, Path(folder), options.missing)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = memory("VmRSS")

        start = time.perf_counter()
        dataset = ParallelDataset.of(pairs)
        sampler = HybridBatchSampler(dataset, SIZE, seed=1)
        first = list(next(iter(sampler)))
        print(f"rows x languages:            {len(dataset):,} x {len(LANGUAGES)}")
        print(f"ready, with a first batch:   {time.perf_counter() - start:.3f} s")
        assert len(first) == SIZE

        count = min(options.batches, len(sampler))
        start = time.perf_counter()
        for _, batch in zip(range(count), sampler, strict=False):
            list(batch)
        seconds = time.perf_counter() - start
        print(f"batches of {SIZE}:              {count / seconds:,.0f} a second, over {count:,}")

        # The steps of training on so many devices that one epoch holds them all.
        for processes in (1, 8):
            spread = HybridBatchSampler.mode(processes=processes)(dataset, SIZE // processes)
            step = min(options.step, spread.plan.steps - 1)
            shard = BatchSamplerShard(spread, processes, processes - 1, even_batches=False)
            start = time.perf_counter()
            there = list(next(iter(SkipBatchSampler(shard if processes > 1 else spread, step))))
            print(
                f"resume at step {step:,}, {processes} devices: {time.perf_counter() - start:.2f} s",
                flush=True,
            )
            whole = spread.plan.epoch(0).batch(step)
            assert there == whole[-(SIZE // processes) :].tolist()
        print(f"memory beyond the data:      {memory('VmHWM') - before:.0f} MB at the peak")


if __name__ == "__main__":
    main()
