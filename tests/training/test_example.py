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
from hybrid_bench.training.sources import SourceSpec

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

SWEEP = """\
output = "models/demo-sweep"

[model]
kind = "static"
vocabulary = 4000
width = 128

[[sources]]                  # a third of the demo's paragraphs
name = "demo"
kind = "lareqa"
dataset = "HybridDemo"
options = { folds = 3, fold = [0] }

[validation]                 # another third decides when training stops
patience = 2

[validation.source]
name = "held-out"
kind = "lareqa"
dataset = "HybridDemo"
options = { folds = 3, fold = [1] }

[evaluation]                 # the last third is asked
collections = ["HybridDemo"]
folds = 3
fold = [2]

[arguments]
per_device_train_batch_size = 16
learning_rate = 0.05
max_steps = 150
eval_steps = 25
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
    for each in (CONFIG, SWEEP):
        assert f"```toml\n{each}```" in page
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
def test_a_sweep_of_thirds_is_asked_the_last(tmp_path: Path) -> None:
    (tmp_path / "thirds.toml").write_text(SWEEP, encoding="utf-8")
    out, seconds = in_process(
        tmp_path, "-m", "hybrid_bench", "sweep", "thirds.toml", "--alpha", "0", "1", "--seeds", "1", "2", "3"
    )
    assert seconds < 300
    third = SourceSpec("demo", "lareqa", dataset="HybridDemo", options={"folds": 3, "fold": [2]}).load()
    assert f"All of HybridDemo here is of {len(third.question_ids or ())} of its questions" in out
    for place in (tmp_path / "models" / "demo-sweep").glob("alpha-*"):
        record = read_record(place) or {}
        assert not record.get("after"), "measured by the sweep alone"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert [row[:2] for row in rows if row[:1] in (["0"], ["1"])] == [["0", "3"], ["1", "3"]]
    # So few questions show nothing: no difference is called one.
    assert "†" not in "".join(line for line in out.splitlines() if line.startswith("|"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plain_script_does_too(tmp_path: Path) -> None:
    from hybrid_bench.training.build import build_model, texts_of
    from hybrid_bench.training.config import ModelConfig

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
