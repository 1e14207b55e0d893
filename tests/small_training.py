"""A training that takes a second or two, as a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file

from helpers import DEMO_HALF
from hybrid_bench.training.config import TrainingConfig, load_config

if TYPE_CHECKING:
    import torch

__all__ = ["SMALL", "TINY", "Told", "configured", "weights"]

#: Two of the demo's languages, half of its paragraphs; the other half is asked, within each language.
SMALL = f"""
[model]
kind = "static"
vocabulary = 600
width = 32
query_prompt = "Query: "

{DEMO_HALF}
[evaluation]
collections = ["HybridDemo"]
languages = ["de", "en"]
settings = ["mono"]
folds = 2
fold = [1]

[arguments]
per_device_train_batch_size = 8
learning_rate = 0.02
max_steps = 8
save_steps = 4
logging_steps = 4
use_cpu = true
"""
#: A transformer in place of the static model.
TINY = {"kind": "transformer", "vocabulary": 500, "width": 16, "layers": 1, "heads": 2, "max_length": 32}


def configured(folder: Path, changes: Mapping[str, Any] = MappingProxyType({}), text: str = SMALL) -> TrainingConfig:
    """A configuration whose output is ``<folder>/model``."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, {"output": str(folder / "model"), **changes})


class Told(list[str]):
    """What a training tells, line by line."""

    def about(self, text: str) -> list[str]:
        return [line for line in self if text in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
