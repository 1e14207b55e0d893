"""What lies in the folders of a training: whether it is done, and from where it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hybrid_bench.data.files import atomic
from hybrid_bench.data.trained import RECORD, read_record
from hybrid_bench.errors import DataError, RequestError, first_line, shown
from hybrid_bench.training.arguments import Arguments
from hybrid_bench.training.config import TrainingConfig, plain

if TYPE_CHECKING:
    from hybrid_bench.training.texts import ParallelTexts

__all__ = [
    "BEFORE",
    "Ended",
    "check_output",
    "ended_at",
    "first_difference",
    "found_state",
    "identity",
    "model_of",
    "noted_before",
    "sample_hash",
    "settings_that_count",
]

_STATE = "training.json"
BEFORE = "before.json"
_FORMAT = 1
#: Arguments that change what is logged, saved, or how fast it goes, not what is learned.
_WITHOUT_EFFECT = frozenset(
    {
        "report_to", "run_name", "project", "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node",
        "logging_dir", "logging_first_step", "logging_steps", "logging_strategy", "logging_nan_inf_filter",
        "save_on_each_node", "save_total_limit", "skip_memory_metrics", "per_device_eval_batch_size",
        "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "ddp_timeout", "push_to_hub",
        "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_token", "hub_always_push",
        "save_strategy", "save_steps", "include_num_input_tokens_seen", "gradient_checkpointing",
        "gradient_checkpointing_kwargs", "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_backend",
        "torch_empty_cache_steps",
    }
)  # fmt: skip # one a line would be a page


class Ended(NamedTuple):
    """A training of which all steps are done.

    Attributes:
        best: The checkpoint to keep.
        steps: Steps of the training.
    """

    best: Path
    steps: int


def ended_at(checkpoint: Path) -> Ended | None:
    """What a checkpoint says if it is of the last step, or of the one at which the training was stopped."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    if not control.get("should_training_stop") and state["global_step"] < state["max_steps"]:
        return None
    best = checkpoint.with_name(Path(state["best_model_checkpoint"]).name) if state["best_model_checkpoint"] else None
    return Ended(best if best is not None and best.is_dir() else checkpoint, state["global_step"])


#: What the Trainer, accelerate and DeepSpeed put beside the model into a checkpoint.
_OF_TRAINER = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", "training_args.bin", "global_step*",
    "latest", "zero_to_*", "pytorch_model_fsdp*",
)  # fmt: skip # one a line would be a page


def model_of(checkpoint: Path, folder: Path) -> None:
    """The model in a checkpoint, as it is saved at the end of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(*_OF_TRAINER))


def check_output(config: TrainingConfig, *, write: bool) -> None:
    """The output folder can be written, and holds nothing but a model of `train`; only a training leaves a folder."""
    output = config.output
    if output.is_file():
        raise RequestError(f"output: {output} is a file; name a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise RequestError(f"output: {output} holds something else than a model of `train`: choose another folder")
    try:
        config.work.mkdir(parents=True, exist_ok=True)
        probe = config.work / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
        if not write and not any(config.work.iterdir()):
            config.work.rmdir()
    except OSError as error:
        raise DataError(f"cannot write in {config.work} ({error.strerror}): choose another output") from error


def settings_that_count(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide what is learned, as JSON has them."""
    settings: dict[str, Any] = plain(config)
    for name in ("output", "data_dir", "evaluation"):
        settings.pop(name, None)
    settings["loss"].pop("mini_batch_size", None)  # how much of a batch is embedded at once
    given = plain(config.training_arguments)
    settings["arguments"] = {name: value for name, value in given.items() if name not in _WITHOUT_EFFECT}
    return settings


def identity(
    config: TrainingConfig, sources: Sequence[ParallelTexts], texts: Mapping[str, str], arguments: Arguments
) -> dict[str, Any]:
    """All that a training must have in common with what is in its folder to go on from there, as JSON has it."""
    return {
        "format": _FORMAT,
        "settings": settings_that_count(config),
        "rows": {source.name: len(source) for source in sources},
        "texts": dict(texts),
        "devices": arguments.world_size,
        # What `accelerate launch` says counts too, where the configuration says nothing.
        "precision": getattr(arguments, "mixed_precision", "no"),
    }


def found_state(
    config: TrainingConfig, now: Mapping[str, Any], *, overwrite: bool, write: bool
) -> tuple[Path | None, bool]:
    """The checkpoint to go on from, and whether the model is there; what is of another training is refused."""
    record = None if overwrite else read_record(config.output)
    if record is not None:
        # Rows are part of the texts' hashes. The number of devices is no part of what a finished model is.
        compared = [name for name in ("settings", "texts") if name in record]
        difference = first_difference({name: record[name] for name in compared}, {name: now[name] for name in compared})
        if difference:
            raise RequestError(
                f"{config.output} holds a model of another training ({difference}): choose another output, or"
                " --overwrite it"
            )
        return None, True
    path = config.work / _STATE
    checkpoints = _checkpoints(config.work)
    if path.is_file() and checkpoints and not overwrite:
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {first_line(error)}; --overwrite starts anew") from error
        difference = first_difference(saved, now)
        if difference:
            raise RequestError(
                f"{checkpoints[-1]} is of another training ({difference}): choose another output, or --overwrite it"
            )
        return checkpoints[-1], False
    if write:
        for checkpoint in config.work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        with atomic(path) as beside:
            beside.write_text(json.dumps(now, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return None, False


def sample_hash(source: ParallelTexts) -> str:
    """A hash of the texts and groups of up to a thousand rows, evenly spread over a source.

    Tells other data of the same size, not a few rows that were changed between these: reading millions of texts would
    take longer than the start of a training may.
    """
    rows = np.unique(np.linspace(0, max(0, len(source) - 1), min(len(source), 1_000), dtype=np.int64))
    digest = hashlib.sha256()
    negatives = {f"negative_{number}": columns for number, columns in enumerate(source.negatives, start=1)}
    for role, columns in {"query": source.queries, "passage": source.passages, **negatives}.items():
        for code in sorted(columns):
            digest.update(json.dumps([role, code, source.texts(role, code, rows)], ensure_ascii=False).encode())
    digest.update(source.group_of(rows).tobytes())
    digest.update(str(len(source)).encode())
    return digest.hexdigest()[:16]


def _checkpoints(work: Path) -> list[Path]:
    """Complete checkpoints by step: the Trainer writes its state last."""
    found = [path for path in work.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def first_difference(old: Any, new: Any, where: str = "") -> str:
    """The first setting that differs, with both values; empty if none does."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = first_difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return ""
    if old == new:
        return ""
    name = where.removeprefix("settings.")
    return f"{name} was {shown(old)}, now {shown(new)}"


def noted_before(config: TrainingConfig) -> dict[str, float]:
    """What was noted of them when the training began, if they are asked for."""
    path = config.work / BEFORE
    if not config.evaluation.before or not path.is_file():
        return {}
    before: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return before
