"""What lies in the folders of a training: whether it is done, and from where it goes on.

A checkpoint counts when it is whole: when its last file is written, the first process writes a manifest with the size
and hash of each. Of two trainings into one folder, the second waits for the first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from hybrid_bench.data.files import atomic, settle
from hybrid_bench.data.hashing import sha256_of
from hybrid_bench.data.parsing import read_json
from hybrid_bench.data.training_record import RECORD, read_record
from hybrid_bench.errors import DataError, RequestError, first_line, reason, shown
from hybrid_bench.training.arguments import Arguments, Tell
from hybrid_bench.training.config import TrainingConfig, plain

if TYPE_CHECKING:
    from hybrid_bench.training.texts import ParallelTexts

__all__ = [
    "BEFORE",
    "Ended",
    "alone",
    "check_output",
    "ended_at",
    "first_difference",
    "found_state",
    "identity",
    "model_of",
    "noted_before",
    "put_in_place",
    "sample_hash",
    "settings_that_count",
    "write_manifest",
]

_STATE = "training.json"
_MANIFEST = "manifest.json"
_LOCK = ".lock"
#: A model on its way into a folder that cannot be replaced as a whole.
_ARRIVING = ".arriving"
#: What may stand in an output folder besides: the root of a mounted file system has it.
_NOT_OURS = frozenset({"lost+found"})
BEFORE = "before.json"
_FORMAT = 1
_EPOCHS = 3  # of a training of which nothing is said, in transformers
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


def ended_at(checkpoint: Path, arguments: Arguments) -> Ended | None:
    """What a checkpoint says if it is of the last step, or of the one at which the training was stopped."""
    path = checkpoint / "trainer_state.json"
    try:
        state = read_json(path, nan=True)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}; --overwrite starts anew") from error
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    step, last = state["global_step"], state["max_steps"]
    if step < last:
        ended = bool(control.get("should_training_stop"))
    elif arguments.max_steps > 0:
        ended = arguments.max_steps <= step  # when it was saved, it may have been meant to be shorter
    else:
        ended = math.ceil(arguments.num_train_epochs) <= state["num_train_epochs"]
    if not ended:
        return None
    return Ended(_best_of(checkpoint, state) or checkpoint, step)


def _best_of(checkpoint: Path, state: Mapping[str, Any]) -> Path | None:
    """The checkpoint that is the best so far, as one of them says, which may have been moved with its folder."""
    best = state.get("best_model_checkpoint")
    return checkpoint.with_name(Path(best).name) if best else None


#: What the Trainer, accelerate and DeepSpeed put beside the model into a checkpoint.
_OF_TRAINER = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "trainer_state.json", "training_args.bin", "global_step*",
    "latest", "zero_to_*", "pytorch_model_fsdp*", _MANIFEST,
)  # fmt: skip # one a line would be a page


def model_of(checkpoint: Path, folder: Path) -> None:
    """The model in a checkpoint, as it is saved at the end of a training."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(*_OF_TRAINER))


def check_output(config: TrainingConfig, *, write: bool) -> None:
    """The output folder can be written, and holds nothing but a model of `train`; only a training leaves a folder.

    Raises:
        RequestError: It is, or holds, something else.
        DataError: It cannot be read or written.
    """
    output = config.output
    try:
        target = output.resolve()
        if target.exists() and not target.is_dir():
            raise RequestError(f"output: {output} is a file; name a folder")
        held = {path.name for path in target.iterdir()} - _NOT_OURS if target.is_dir() else set()
        if held and not held & {RECORD, _ARRIVING}:
            raise RequestError(f"output: {output} holds something else than a model of `train`: choose another folder")
        config.work.mkdir(parents=True, exist_ok=True)
        _probe(config.work)
        if not write and not any(config.work.iterdir()):
            config.work.rmdir()
        if output.is_symlink() or target.is_dir():
            _probe(next(folder for folder in (target, *target.parents) if folder.exists()))
    except OSError as error:
        where = error.filename or config.work
        raise DataError(f"cannot write in {where} ({reason(error)}): choose another output") from error
    except RequestError:
        raise
    except (RuntimeError, ValueError) as error:  # links in a circle; a null character
        raise RequestError(f"output: {shown(str(output))} is no folder: {first_line(error)}") from error


def _probe(folder: Path) -> None:
    probe = folder / f".{os.getpid()}"
    probe.touch()
    probe.unlink()


@contextmanager
def alone(config: TrainingConfig, tell: Tell) -> Iterator[None]:
    """While this is open, no other process trains into the output folder; wait for one that does.

    What it leaves is a finished model, or, if it was stopped, checkpoints to go on from.
    """
    check_output(config, write=True)
    lock = FileLock(config.work / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(f"another process trains into {config.output}: waiting until it is through")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def put_in_place(part: Path, output: Path) -> None:
    """Make a finished model the output, whatever stands there.

    A link, or a folder that is mounted, stays and is given new files. `RECORD` is the first to go and the last to
    come, so that half a model is not taken for one.

    Args:
        part: The model's folder, beside `output`.
        output: The output.
    """
    if not output.is_symlink():
        old = output.with_name(f"{output.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        try:
            if output.exists():
                output.rename(old)
            settle(part, output)
        except OSError:
            if old.exists():  # nothing is in the way, and yet the model cannot come: some other fault
                old.rename(output)
                raise
        else:
            shutil.rmtree(old, ignore_errors=True)
            return
    target = output.resolve()
    arriving = target / _ARRIVING
    shutil.rmtree(arriving, ignore_errors=True)
    shutil.copytree(part, arriving)
    (target / RECORD).unlink(missing_ok=True)
    for path in target.iterdir():
        if path.name in {_ARRIVING, *_NOT_OURS}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in sorted(arriving.iterdir(), key=lambda path: path.name == RECORD):
        path.rename(target / path.name)
    arriving.rmdir()
    shutil.rmtree(part)


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
    config: TrainingConfig, now: Mapping[str, Any], tell: Tell, *, overwrite: bool, write: bool
) -> tuple[Path | None, bool]:
    """The checkpoint to go on from, and whether the model is there; what is of another training is refused.

    A longer training than the one that is there, and the same but for that, goes on where that one ended.
    """
    record = None if overwrite else read_record(config.output)
    checkpoints = [] if overwrite else _checkpoints(config.work)
    if record is not None:
        # Rows are part of the texts' hashes. The number of devices is no part of what a finished model is.
        compared: list[str] = [name for name in ("settings", "texts") if name in record]
        old: dict[str, Any] = {name: record[name] for name in compared}
        new: dict[str, Any] = {name: now[name] for name in compared}
        if not (difference := first_difference(old, new)):
            return None, True
        if not (_longer(old, new) and checkpoints):
            raise RequestError(
                f"{config.output} holds a model of another training ({difference}): choose another output, or"
                " --overwrite it"
            )
    path = config.work / _STATE
    if checkpoints and path.is_file():
        difference = _difference_of(path, now, checkpoints[-1])
        if difference:
            tell(
                f"a longer training than there was ({difference}): from here on its learning rate is that of the longer"
                " one, which differs before, too, unless it is constant"
            )
        for checkpoint in reversed(checkpoints):
            damage = _damage(checkpoint)
            if not damage:
                if write and difference:
                    _write_state(path, now)
                return checkpoint, False
            tell(f"{checkpoint} is not whole: {damage}")
            if write:
                _put_aside(checkpoint)
        tell("no checkpoint is whole: the training starts at its beginning")
    if write:
        for checkpoint in config.work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        _write_state(path, now)
    return None, False


def _difference_of(path: Path, now: Mapping[str, Any], checkpoint: Path) -> str:
    """What differs from the training that was noted, which may be longer now; nothing else may."""
    try:
        saved = read_json(path, nan=True)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}; --overwrite starts anew") from error
    difference = first_difference(saved, now)
    if difference and not _longer(saved, now):
        raise RequestError(
            f"{checkpoint} is of another training ({difference}): choose another output, or --overwrite it"
        )
    return difference


def _write_state(path: Path, now: Mapping[str, Any]) -> None:
    with atomic(path) as beside:
        beside.write_text(json.dumps(now, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _longer(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two trainings differ in nothing but their length, and the new one is the longer."""
    lengths, others = [], []
    for each in (old, new):
        settings = each.get("settings", {})
        given = dict(settings.get("arguments", {}))
        steps, epochs = given.pop("max_steps", -1), given.pop("num_train_epochs", _EPOCHS)
        if not isinstance(steps, int) or not isinstance(epochs, int | float):
            return False
        lengths.append((True, steps) if steps > 0 else (False, math.ceil(epochs)))
        others.append({**each, "settings": {**settings, "arguments": given}})
    return others[0] == others[1] and lengths[0][0] == lengths[1][0] and lengths[0] < lengths[1]


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
    """All checkpoints by step."""
    found = [path for path in work.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def write_manifest(checkpoint: Path) -> None:
    """Note size and hash of every file of a checkpoint, now that all are written."""
    files = {
        path.relative_to(checkpoint).as_posix(): [path.stat().st_size, sha256_of(path)]
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != _MANIFEST
    }
    with atomic(checkpoint / _MANIFEST) as part:
        part.write_text(json.dumps(files, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _damage(checkpoint: Path) -> str:
    """Why a checkpoint is not whole; empty if it is, and the one is that it calls the best."""
    try:
        files = read_json(checkpoint / _MANIFEST, nan=True)
        for name, (size, digest) in files.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size or sha256_of(path) != digest:
                return f"{name} is damaged"
        best = _best_of(checkpoint, read_json(checkpoint / "trainer_state.json", nan=True))
    except FileNotFoundError as error:
        name = Path(error.filename).name
        return "it was not saved to the end" if name == _MANIFEST else f"{name} is missing"
    except (AttributeError, DataError, OSError, RecursionError, TypeError, ValueError) as error:
        return f"{_MANIFEST} is damaged: {first_line(error)}"
    if best is not None and best != checkpoint and (damage := _damage(best)):
        return f"{best.name}, the best so far, is not whole: {damage}"
    return ""


def _put_aside(checkpoint: Path) -> None:
    """What was never whole goes; what was is kept under another name, which nothing takes for a checkpoint."""
    aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if (checkpoint / _MANIFEST).is_file():
        checkpoint.rename(aside)
    else:
        shutil.rmtree(checkpoint)


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
    try:
        before: dict[str, float] = read_json(path, nan=True)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}; remove it, or --overwrite starts anew") from error
    return before
