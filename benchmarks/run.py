"""What `nox -s bench` runs: our paths beside their peers, on real XQuAD-R, as ratios taken in one run.

Times on a shared machine are noisy: nothing here passes or fails. Every ratio is taken from the medians of interleaved
repetitions, and the output says what was sampled and what was scaled.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

# Run from a checkout, the package need not be installed.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

#: Subsets on which mteb's own path is timed; spread over the languages and settings.
SAMPLE = ("ar-ar", "de-en", "el-hi", "en-de", "en-zh", "es-th", "hi-tr", "ru-vi", "th-ar", "vi-es", "zh-ru")
POOLED_SAMPLE = ("tr",)

# From the kernel's account of this process alone: `ru_maxrss` begins with the memory of the process that started it.
MEMORY = """
import pathlib, re, sys
from hybrid_bench.cli.commands import main
code = main(sys.argv[1:])
kilobytes = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]
print(f"{int(kilobytes) / 1024:.0f}", file=sys.stderr)
raise SystemExit(code)
"""


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that an action took, and what it returned."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def interleaved(actions: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Median seconds of each action, run in turn so that a slow spell of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repetitions):
        for name, action in actions.items():
            times[name].append(timed(action)[0])
    return {name: median(values) for name, values in times.items()}


def against_mteb(model_folder: Path, data_dir: Path) -> None:
    """All 132 settings of XQuAD-R against mteb's own path on the same tasks with the same model."""
    import mteb
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from hybrid_bench.data.collection import DataOptions
    from hybrid_bench.engine.models import load, model_meta
    from hybrid_bench.evaluation.registry import collections
    from hybrid_bench.evaluation.tasks import TaskOptions

    pairs, multilingual = collections()["XQuAD-R"]

    def naive(task_class: type) -> type:
        own = {"_evaluate_subset": AbsTaskRetrieval._evaluate_subset}
        return type(f"Naive{task_class.__name__}", (task_class,), own)

    def run(task_class: type, subsets: Sequence[str] | None) -> None:
        task = task_class()
        task.options = TaskOptions(data=DataOptions(data_dir=data_dir))
        task.hf_subsets = list(subsets) if subsets else task.hf_subsets
        # mteb's path needs a main score that it computes itself
        task.metadata = task.metadata.model_copy(update={"main_score": "map_at_1000"})
        mteb.evaluate(
            model, task, cache=None, co2_tracker=False, show_progress_bar=False, encode_kwargs={"batch_size": 256}
        )

    meta = model_meta(str(model_folder))
    model: Any = load(meta)
    task = pairs()
    task.options = TaskOptions(data=DataOptions(data_dir=data_dir))
    task.load_data()  # so that both sides find the files in the page cache
    run(naive(pairs), SAMPLE[:1])

    naive_pairs, _ = timed(lambda: run(naive(pairs), SAMPLE))
    naive_pool, _ = timed(lambda: run(naive(multilingual), POOLED_SAMPLE))
    ours = []
    for _ in range(3):
        model = load(meta)  # a fresh model object: nothing is remembered
        ours.append(timed(lambda: run(pairs, None))[0] + timed(lambda: run(multilingual, None))[0])
    scaled = naive_pairs / len(SAMPLE) * 121 + naive_pool / len(POOLED_SAMPLE) * 11
    print("1. All 132 settings of XQuAD-R, static model, against mteb.evaluate of the same tasks")
    print(f"   ours, 132 subsets, measured:              {median(ours):8.1f} s")
    sampled = f"{len(SAMPLE)} pairs and {len(POOLED_SAMPLE)} multilingual"
    print(f"   mteb, {sampled}, measured: {naive_pairs + naive_pool:8.1f} s")
    print(f"   mteb, scaled to 121 pairs and 11 multilingual: {scaled:8.1f} s")
    print(f"   ratio: {scaled / median(ours):.1f} times faster (aim: 20)\n")


def against_product(data_dir: Path) -> None:
    """Ranking from given embeddings against the bare float32 matrix product."""
    import torch

    from hybrid_bench.data.collection import DataOptions
    from hybrid_bench.engine.encode import DenseScores, PreparedPassages, Similarity
    from hybrid_bench.engine.ranks import BLOCK_ROWS, Targets, count_above
    from hybrid_bench.evaluation.registry import collections

    collection = collections()["XQuAD-R"][0].reader.load(DataOptions(data_dir=data_dir))
    rng = np.random.default_rng(0)
    dimension = 384
    sizes = [len(collection.passages[code]) for code in collection.parts]
    ends = np.cumsum(sizes)
    starts = (ends - sizes).astype(np.int64)
    passages = rng.normal(size=(ends[-1], dimension)).astype(np.float32)
    queries = {
        code: rng.normal(size=(len(collection.queries[code]), dimension)).astype(np.float32)
        for code in collection.parts
    }
    id_ranks = collection.id_ranks(collection.parts)
    total = sum(len(rows) for rows in queries.values())

    def ranking() -> None:
        prepared = PreparedPassages(passages, np.arange(len(passages)), Similarity.COSINE)
        for code, rows in queries.items():
            judgments = collection.queries[code].judgments
            column = starts[judgments.part] + judgments.passage
            count_above(
                DenseScores(rows, prepared), len(rows), Targets(judgments.query, column), ends.tolist(), id_ranks
            )

    p = torch.from_numpy(passages)
    out = torch.empty(BLOCK_ROWS, len(passages))

    def product() -> None:
        for rows in queries.values():
            q = torch.from_numpy(rows)
            for start in range(0, len(q), BLOCK_ROWS):
                block = q[start : start + BLOCK_ROWS]
                torch.mm(block, p.T, out=out[: len(block)])

    ranking()
    product()
    times = interleaved({"ranking": ranking, "product": product}, 7)
    print(f"2. Ranking from given embeddings ({total:,} queries x {len(passages):,} passages, d = {dimension})")
    print("   normalising, product, ranks in all 12 pools of every query, ties, top-100 languages")
    print(f"   ranking: {times['ranking']:.2f} s, bare float32 product: {times['product']:.2f} s")
    print(f"   ratio: {times['ranking'] / times['product']:.2f} (aim: at most 1.6)\n")


def against_measures(data_dir: Path) -> None:
    """Measures from a score matrix against pytrec_eval, ir_measures and ranx."""
    import ir_measures
    import pytrec_eval
    import ranx

    from hybrid_bench.data.collection import DataOptions
    from hybrid_bench.engine.ranks import Targets, count_above
    from hybrid_bench.evaluation.registry import collections
    from hybrid_bench.measures.metrics import RelevantRanks, per_query

    collection = collections()["XQuAD-R"][0].reader.load(DataOptions(data_dir=data_dir))
    queries, passages = collection.queries["de"], collection.passages["en"]
    mine = queries.judgments.part == collection.part_index("en")
    row, column = queries.judgments.query[mine], queries.judgments.passage[mine].astype(np.int64)
    gain, parts = queries.judgments.gain[mine], queries.judgments.part[mine]
    scores = np.random.default_rng(0).normal(size=(len(queries), len(passages))).astype(np.float32)

    def ours() -> dict[str, np.ndarray[Any, Any]]:
        counts = count_above(
            lambda rows, columns: scores[rows, columns],
            len(queries),
            Targets(row, column),
            [len(passages)],
            collection.id_ranks(["en"]),
        )
        rank = 1 + counts.above[:, 0]
        return per_query(RelevantRanks.sort(len(queries), row, rank, gain, parts), (1, 10, 100))

    # Each peer is given the scores in its own form; making that form is not timed.
    qrels = {queries.ids[q]: {passages.ids[p]: 1} for q, p in zip(row, column, strict=True)}
    run = {
        query: dict(zip(passages.ids, line, strict=True))
        for query, line in zip(queries.ids, scores.tolist(), strict=True)
    }
    names = {"map", "ndcg_cut.10", "recall.1,10,100", "recip_rank"}
    measures = [
        ir_measures.AP,
        ir_measures.nDCG @ 10,
        ir_measures.R @ 1,
        ir_measures.R @ 10,
        ir_measures.R @ 100,
        ir_measures.RR,
    ]
    ranx_names = ["map", "ndcg@10", "recall@1", "recall@10", "recall@100", "mrr"]
    ranx_qrels, ranx_run = ranx.Qrels(qrels), ranx.Run(run)

    peers: dict[str, Callable[[], Any]] = {
        "pytrec_eval": lambda: pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(run),
        "ir_measures": lambda: list(ir_measures.iter_calc(measures, qrels, run)),
        "ranx": lambda: ranx.evaluate(ranx_qrels, ranx_run, ranx_names),
    }
    for action in peers.values():  # ranx compiles on its first call
        action()
    found = ours()
    theirs = pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(run)
    worst = max(
        abs(found[name][place] - theirs[query][peer])
        for name, peer in (("map", "map"), ("ndcg_at_10", "ndcg_cut_10"), ("recall_at_100", "recall_100"))
        for place, query in enumerate(queries.ids)
    )
    times = interleaved({"ours": ours, **peers}, 5)
    print(f"3. AP, nDCG@10, R@1/10/100, RR of {len(queries):,} queries x {len(passages):,} passages, from scores")
    print(f"   ours: {times['ours'] * 1000:.1f} ms; largest difference to pytrec_eval: {worst:.1e}")
    for name in peers:
        ratio = times[name] / times["ours"]
        print(f"   {name}: {times[name] * 1000:.0f} ms, {ratio:.0f} times ours (aim: 50)")
    print()


def peak_memory(model_folder: Path, data_dir: Path) -> None:
    """Peak memory of a whole `run` of XQuAD-R, in a process of its own."""
    with tempfile.TemporaryDirectory() as output:
        arguments = ["run", "--models", str(model_folder), "--tasks", "XQuAD-R", "--data-dir", str(data_dir)]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *arguments, "--output", output],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    print("4. `run` on XQuAD-R with the static model")
    print(f"   peak memory of the process: {done.stderr.strip().splitlines()[-1]} MB (aim: below 1,536)\n")
    print(done.stdout)


def large_pools() -> None:
    """Peak memory of ranking in streamed pools, by their size."""
    print("5. Streamed pools of two languages (256 dimensions; memory above that for small pools)")
    script = Path(__file__).with_name("large_pool.py")
    for passages in (100_000, 200_000, 400_000):
        command = [sys.executable, str(script), str(passages)]
        seconds, done = timed(partial(subprocess.run, command, capture_output=True, text=True, check=False))
        if done.returncode:
            raise SystemExit(done.stderr)
        peak, kept = done.stdout.split()
        print(f"   {passages:,} passages a language: {peak} MB (embeddings: {kept} MB), {seconds:.0f} s")
    print()


def main() -> None:
    """Run the benchmarks chosen."""
    parts = ("mteb", "product", "measures", "memory", "large")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(parts)} (default: all)")
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("HYBRID_BENCH_DATA", "../shared/data")))
    options = parser.parse_args()
    chosen = options.parts or parts
    unknown = set(chosen) - set(parts)
    if unknown or not (options.data_dir / "xquad-r" / "en.json").is_file():
        parser.error(f"unknown part {unknown}" if unknown else f"no real data in {options.data_dir}: give --data-dir")
    warnings.simplefilter("ignore")
    data_dir = options.data_dir.resolve()
    packages = ("mteb", "torch", "numpy", "pytrec-eval-terrier")
    print(f"{os.cpu_count()} CPUs; {', '.join(f'{name} {version(name)}' for name in packages)}\n")
    if "product" in chosen:
        against_product(data_dir)
    if "measures" in chosen:
        against_measures(data_dir)
    if "large" in chosen:
        large_pools()
    if {"mteb", "memory"} & set(chosen):
        from static_model import ntrex_pairs, train

        with tempfile.TemporaryDirectory() as folder:
            model_folder = Path(folder) / "static-ntrex"
            train(ntrex_pairs(data_dir)).save(str(model_folder))
            if "mteb" in chosen:
                against_mteb(model_folder, data_dir)
            if "memory" in chosen:
                peak_memory(model_folder, data_dir)


if __name__ == "__main__":
    main()
