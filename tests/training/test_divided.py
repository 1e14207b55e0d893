"""Trainings of a model that is divided among two processes (FSDP, DeepSpeed's ZeRO), with gloo on CPU.

This file is also the script that torchrun starts; see `main`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import DistributedType, state  # type: ignore[import-untyped] # has no types
from safetensors.torch import load_file

from helpers import DEMO_HALF, save_tiny
from hybrid_bench.errors import RequestError
from hybrid_bench.training.build import build_model
from hybrid_bench.training.config import ModelConfig, TrainingConfig, load_config
from hybrid_bench.training.loop import train
from hybrid_bench.training.prepared import prepare
from hybrid_bench.training.trainer import HybridTrainer

WORDS = ["honey", "bees", "hive", "queen", "der", "die", "das", "Honig", "Bienen"]
SETTINGS = f"""
{DEMO_HALF}[loss]
gather_across_devices = true
[evaluation]
collections = ["HybridDemo"]
languages = ["de"]
settings = ["mono"]
[arguments]
learning_rate = 0.002
max_steps = 4
save_steps = 1
save_total_limit = 9
use_cpu = true
"""
VALIDATION = {
    "validation": {
        "patience": 1,
        "min_delta": 1000.0,  # so that the first evaluation stays the best
        "source": {
            "name": "english",
            "kind": "lareqa",
            "dataset": "HybridDemo",
            "languages": ["en"],
            "options": {"folds": 2, "fold": [1]},
        },
    },
    "arguments.eval_steps": 1,
    "evaluation.collections": [],
}
#: What `accelerate launch` makes of the package's configurations, for a CPU.
ENVIRONMENT = {
    "fsdp": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
    },
    **{
        f"deepspeed-zero{stage}": {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
            "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
            "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
            "ACCELERATE_GRADIENT_CLIPPING": "1.0",
            "DS_ACCELERATOR": "cpu",
        }
        for stage in (2, 3)
    },
}
_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed: pip install --no-build-isolation deepspeed"
)


def configured(folder: Path, name: str, batch: int, **changes: Any) -> TrainingConfig:
    path = folder / "settings.toml"
    given = {"output": str(folder / name), "model.name": str(folder / "bert")}
    return load_config(path, {**given, "arguments.per_device_train_batch_size": batch, **changes})


def divide_on_cpu() -> None:
    """accelerate divides models on accelerators only; torch does on CPUs as well."""
    made = state.AcceleratorState.__init__

    def init(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        made(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
        if getattr(self, "fsdp_plugin", None) is not None:
            self.distributed_type = DistributedType.FSDP

    state.AcceleratorState.__init__ = init


def is_divided(weight: torch.nn.Parameter) -> bool:
    """By FSDP, or by ZeRO 3."""
    return isinstance(weight, torch.distributed.tensor.DTensor) or hasattr(weight, "ds_tensor")


def main(folder: Path) -> None:
    """What each process does: a training, the same from its last checkpoint but one, and one that keeps the best."""
    torch.set_num_threads(1)
    divide_on_cpu()
    divided = []
    save = HybridTrainer.save_model

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        divided.append(all(is_divided(weight) for weight in self.model.parameters()))
        save(self, *args, **kwargs)

    HybridTrainer.save_model = noted  # type: ignore[method-assign] # to see what is saved
    whole = configured(folder, "divided", 8)
    train(whole)
    again = configured(folder, "again", 8)
    if os.environ["RANK"] == "0":
        shutil.copytree(whole.work, again.work)
        shutil.rmtree(again.work / "checkpoint-4")
    torch.distributed.barrier()
    train(again)
    train(configured(folder, "best", 8, **VALIDATION))
    if os.environ["RANK"] == "0":
        (folder / "divided.json").write_text(json.dumps(divided), encoding="utf-8")


def saved_tiny(folder: Path) -> None:
    """A tiny BERT, with the pooler that no embedding needs, and without dropout; and the settings."""
    save_tiny("SentenceTransformer", folder / "bert", WORDS, seed=1)
    path = folder / "bert" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    path.write_text(json.dumps(config), encoding="utf-8")
    (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of torch has no torch.distributed")
@pytest.mark.parametrize("how", ["fsdp", *(pytest.param(f"deepspeed-zero{n}", marks=_DEEPSPEED) for n in (2, 3))])
def test_a_divided_model_is_trained_saved_and_resumed_as_a_whole(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
    saved_tiny(tmp_path)
    tests = Path(__file__).parents[1]
    environment = {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])), **ENVIRONMENT[how]}
    started = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, tmp_path],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
    )
    assert started.returncode == 0, started.stderr[-4000:]
    divided = json.loads((tmp_path / "divided.json").read_text(encoding="utf-8"))
    # Five times and twice; then, after an evaluation, FSDP has them whole until they are needed again. ZeRO 2 divides
    # gradients and the optimiser's state alone.
    assert divided[:7] == [how != "deepspeed-zero2"] * 7
    alone = train(configured(tmp_path, "alone", 16))
    expected, base = (load_file(folder / "model.safetensors") for folder in (alone.folder, tmp_path / "bert"))
    found = {name: load_file(tmp_path / name / "model.safetensors") for name in ("divided", "again", "best")}
    assert all(weights.keys() == expected.keys() for weights in found.values())
    for name, weight in expected.items():
        torch.testing.assert_close(found["divided"][name], weight, rtol=0, atol=3e-4)
        assert torch.equal(found["again"][name], found["divided"][name])
        # A changed weight for all that an embedding depends on.
        assert torch.equal(weight, base[name]) == ("pooler" in name)
    # The best is the first checkpoint, where one more evaluation was no better.
    first = load_file(tmp_path / "best.training" / "checkpoint-1" / "model.safetensors")
    last = load_file(tmp_path / "best.training" / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(found["best"][name], first[name]) for name in first)
    assert any(not torch.equal(last[name], first[name]) for name in first)
    records = [
        json.loads((tmp_path / name / "hybrid_training.json").read_text(encoding="utf-8"))
        for name in ("alone", "divided", "again")
    ]
    for record in records[1:]:
        assert record["before"] == pytest.approx(records[0]["before"])
        assert record["after"] == pytest.approx(records[0]["after"], abs=1e-3)


def test_a_divided_model_is_not_measured_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One device alone could not embed texts: this is said before the training, not found out in it."""
    monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
    saved_tiny(tmp_path)
    changes = {"arguments.eval_strategy": "steps", "arguments.eval_steps": 1}
    prepare(configured(tmp_path, "out", 8, **changes))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RequestError, match=r"eval_strategy: a model that is divided among devices .* \[validation\]"):
        prepare(configured(tmp_path, "out", 8, **changes))
    told: list[str] = []
    collections = {"evaluation.collections": ["HybridDemo"]}
    prepare(configured(tmp_path, "out", 8, **{**VALIDATION, **collections}), told.append)
    assert any("before and after its training only" in line for line in told)


def test_what_no_embedding_depends_on_is_not_trained(tmp_path: Path) -> None:
    saved_tiny(tmp_path)
    model = build_model(ModelConfig(name=str(tmp_path / "bert")), tuple, device="cpu")
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen == {"0.model.pooler.dense.weight", "0.model.pooler.dense.bias"}
    model(model.preprocess(WORDS))["sentence_embedding"].sum().backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert without == frozen


if __name__ == "__main__":
    main(Path(sys.argv[1]))
