"""The documentation's examples of a training: half of the demo's paragraphs are trained on, the other half is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybrid_bench.data.training_record import read_record

CONFIG = """\
output = "models/demo-hybrid"

[model]                      # token vectors, made from nothing
kind = "static"
vocabulary = 4000
width = 128

[[sources]]                  # a half of the demo's paragraphs
name = "demo"
kind = "lareqa"
dataset = "HybridDemo"
options = { folds = 2, fold = [0] }

[evaluation]                 # the other half
collections = ["HybridDemo"]
folds = 2
fold = [1]

[arguments]                  # any field of SentenceTransformerTrainingArguments
per_device_train_batch_size = 32
learning_rate = 0.05
max_steps = 150
logging_steps = 50
save_strategy = "no"
"""

SCRIPT = """\
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hybrid_bench.training import HybridBatchLoss, HybridBatchSampler, HybridRetrievalEvaluator, ParallelDataset
from hybrid_bench.training.sources import SourceSpec

model = SentenceTransformer("my-model", device="cpu")
source = SourceSpec("demo", "lareqa", dataset="HybridDemo", options={"folds": 2}).load()
held_out = SourceSpec("asked", "lareqa", dataset="HybridDemo", options={"folds": 2, "fold": [1]}).load().question_ids
evaluator = HybridRetrievalEvaluator("HybridDemo", questions=held_out)
arguments = SentenceTransformerTrainingArguments(
    output_dir="out",
    batch_sampler=HybridBatchSampler.mode("hybrid", alpha=0.5),
    per_device_train_batch_size=32,
    learning_rate=0.05,
    max_steps=100,
    save_strategy="no",
    report_to="none",
)
loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model))
print(evaluator(model))
SentenceTransformerTrainer(model, arguments, ParallelDataset.of(source), loss=loss).train()
print(evaluator(model))
"""


def in_process(folder: Path, *arguments: str) -> tuple[str, float]:
    """What a Python process writes to stdout, and the seconds that it takes."""
    environment = {**os.environ, "HYBRID_BENCH_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, time.perf_counter() - start


def test_they_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"```toml\n{CONFIG}```" in page
    assert f"```python\n{SCRIPT}```" in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_configuration_improves_the_other_half(tmp_path: Path) -> None:
    assert len(CONFIG.splitlines()) < 25
    (tmp_path / "demo.toml").write_text(CONFIG, encoding="utf-8")
    out, seconds = in_process(tmp_path, "-m", "hybrid_bench", "train", "demo.toml")
    assert seconds < 180
    record = read_record(tmp_path / "models" / "demo-hybrid") or {}
    before, after = record["before"], record["after"]
    for measure in ("monolingual_map", "cross_lingual_map", "multilingual_map", "map"):
        assert after[f"HybridDemo_{measure}"] > before[f"HybridDemo_{measure}"], measure
    assert after["HybridDemo_bias_rank_distance"] < before["HybridDemo_bias_rank_distance"]
    row = next(line.split() for line in out.splitlines() if line.startswith("| HybridDemo_map "))
    assert row[3::2] == [f"{before['HybridDemo_map']:.4f}", f"{after['HybridDemo_map']:.4f}"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plain_script_does_too(tmp_path: Path) -> None:
    from hybrid_bench.training.build import build_model, texts_of
    from hybrid_bench.training.config import ModelConfig
    from hybrid_bench.training.sources import SourceSpec

    assert len(SCRIPT.splitlines()) < 25
    source = SourceSpec("demo", "lareqa", dataset="HybridDemo", options={"folds": 2}).load()
    made = build_model(ModelConfig(kind="static", vocabulary=4000, width=128), lambda: texts_of([source]), device="cpu")
    made.save_pretrained(str(tmp_path / "my-model"))
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    out, _ = in_process(tmp_path, "script.py")
    before, after = (
        json.loads(line.replace("'", '"')) for line in out.splitlines() if line.startswith("{'HybridDemo_map")
    )
    assert after["HybridDemo_map"] > before["HybridDemo_map"]
    assert after["HybridDemo_cross_lingual_map"] > before["HybridDemo_cross_lingual_map"]
