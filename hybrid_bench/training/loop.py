"""`train`: a configuration -> a trained model.

Beside the model's folder ``<output>`` lies ``<output>.training`` with checkpoints, logs, evaluations, and
``training.json``: the settings that decide what comes out. A training that was interrupted goes on from its last
checkpoint when it is started again with these settings; with others it is refused, as two halves of two trainings are
none. The model's folder holds an ordinary sentence-transformers model and ``hybrid_training.json`` (see `trained`).
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers import EarlyStoppingCallback, PrinterCallback, ProgressCallback, TrainerCallback

from hybrid_bench.data.training_record import read_record, write_record
from hybrid_bench.errors import DataError, HybridBenchError, ModelError, first_line
from hybrid_bench.training.arguments import Tell, divided, is_main, load_whole
from hybrid_bench.training.build import build_model, merged, texts_of
from hybrid_bench.training.card import describe, measures_side_by_side, model_card
from hybrid_bench.training.config import TrainingConfig, plain
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.loss import LossByKind
from hybrid_bench.training.objective import make_loss
from hybrid_bench.training.prepared import Prepared, prepare
from hybrid_bench.training.state import (
    BEFORE,
    alone,
    ended_at,
    first_difference,
    model_of,
    noted_before,
    put_in_place,
    settings_that_count,
    write_manifest,
)
from hybrid_bench.training.trainer import HybridTrainer
from hybrid_bench.version import VERSION

__all__ = ["Trained", "measures_table", "train"]


@dataclass(frozen=True)
class Trained:
    """What `train` did.

    Attributes:
        folder: The model.
        before: Measures before the first step; empty if they were not asked for.
        after: Measures of the model as it was saved.
        steps: Steps of the training.
        seconds: How long they took, since the start or the last resumption.
        main: Whether this is the process that tells of it.
    """

    folder: Path
    before: Mapping[str, float]
    after: Mapping[str, float]
    steps: int
    seconds: float
    main: bool = True


def train(config: TrainingConfig, tell: Tell = lambda line: None, *, overwrite: bool = False) -> Trained:
    """Train a model, or go on with its training, and save it.

    Under `accelerate launch` or `torchrun` every process calls it; the first one tells and writes.

    Args:
        config: The training.
        tell: Called with a line about each step.
        overwrite: Whether a model or checkpoints of another training in the output folder may go.

    Returns:
        Where the model is, and its measures.

    Raises:
        RequestError: Something that was asked for cannot be; nothing has been trained then.
        DataError: A source or collection cannot be read; nor then.
        ModelError: The model cannot be loaded, the loss is not finite, or memory is not enough.
    """
    main = int(os.environ.get("RANK", "0")) == 0
    tell = tell if main else _nothing
    try:
        with alone(config, tell) if main else nullcontext():
            ready = prepare(config, tell, overwrite=overwrite, write=True)
            return _kept(ready, tell) if ready.done else _trained(ready, tell)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "not enough memory on the device: `train --estimate` says where it goes; lower per_device_train_batch_size,"
            ' take kind = "cached-mnrl" in [loss], or gradient_checkpointing = true'
        ) from error
    except HybridBenchError:
        raise
    except (ImportError, LookupError, TypeError, ValueError) as error:  # of libraries, about what they were asked for
        raise ModelError(f"the training ended with {type(error).__name__}: {first_line(error)}") from error
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{first_line(error)}: what was saved is kept, and the same command goes on from there"
        ) from error


def _kept(ready: Prepared, tell: Tell) -> Trained:
    """The model that is there already."""
    config = ready.config
    tell(f"{config.output}: already trained with these settings")
    record = read_record(config.output) or {}
    wanted = plain(config.evaluation)
    if config.evaluation.measured and first_difference(record.get("evaluation", wanted), wanted):
        tell("its measures are of another [evaluation]: `hybrid-bench run` measures it again")
    measured = (record.get("before", {}), record.get("after", {}))
    return Trained(config.output, *measured, record.get("steps", 0), 0.0, is_main(ready.arguments))


def _nothing(_: str) -> None:
    """Told by another process."""


def _trained(ready: Prepared, tell: Tell) -> Trained:
    config, arguments = ready.config, ready.arguments
    main = is_main(arguments)
    part = config.output.with_name(f"{config.output.name}.part")
    ended = None if ready.resume is None else ended_at(ready.resume, arguments)
    if ended is not None:
        # Interrupted while the model was saved or measured. The Trainer would take another step.
        tell(f"the training had ended: {ended.best} is saved and measured")
        before = noted_before(config)
        after: dict[str, float] = {}
        if main:
            model_of(ended.best, part)
            after = _finished(ready, part, tell, before=before, steps=ended.steps, device=str(arguments.device))
        arguments.distributed_state.wait_for_everyone()
        return Trained(config.output, before, after, ended.steps, 0.0, main)
    if arguments.dataloader_num_workers:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not live on in forked workers, which then hang
    device = None if arguments.world_size == 1 and not arguments.use_cpu else str(arguments.device)
    model = build_model(
        config.model, lambda: texts_of(ready.sources), lora=config.lora, seed=config.seed, device=device
    )
    prompts = {"query": _prompt(model, "query"), "passage": _prompt(model, "document", "passage", "corpus")}
    dataset = ParallelDataset.of(ready.sources, name=" + ".join(source.name for source in ready.sources))
    for column in dataset.column_names:
        if column.startswith("negative"):
            prompts[column] = prompts["passage"]
    arguments.prompts = {column: prompt for column, prompt in prompts.items() if prompt} or None
    arguments.drawn = {
        "sampling": config.sampling.mode,
        "alpha": config.sampling.alpha,
        "languages": list(ready.languages),
        "sources": [source.name for source in ready.sources],
    }
    describe(model, ready)
    before = _before(model, ready, tell) if main else {}
    outer, inner = make_loss(config, model)
    trainer = HybridTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=None if ready.validation is None else ParallelDataset.of(ready.validation),
        loss=outer,
        evaluator=list(ready.evaluators) or None
        if arguments.eval_strategy != "no" and not divided(arguments)
        else None,
        callbacks=_early_stopping(config),
    )
    LossByKind(inner).attach(trainer)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)  # they write to stdout, which is for tables
    trainer.add_callback(_Telling(tell))
    trainer.add_callback(_Manifests())
    start = time.perf_counter()
    with warnings.catch_warnings():
        # What the Trainer and accelerate still call by old names is no concern of who trains.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing_enable.*", FutureWarning)
        warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)
        trainer.train(resume_from_checkpoint=str(ready.resume) if ready.resume else None)
    seconds = time.perf_counter() - start
    steps = int(trainer.state.global_step)
    tell(f"{steps:,} steps in {seconds:,.0f} s")
    if main:
        shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(part))
    trainer.accelerator.wait_for_everyone()
    after = {}
    if main:
        after = _finished(ready, part, tell, before=before, steps=steps, device=device or str(model.device))
    trainer.accelerator.wait_for_everyone()
    return Trained(config.output, before, after, steps, seconds, main)


def _finished(
    ready: Prepared, part: Path, tell: Tell, *, before: Mapping[str, float], steps: int, device: str
) -> dict[str, float]:
    """Make the saved model what it is to be, measure it as it was saved, and put it into its place."""
    config = ready.config
    load_whole()  # the Trainer is through
    (part / "training_args.bin").unlink(missing_ok=True)  # it names paths of this machine
    card = (part / "README.md").read_text(encoding="utf-8") if (part / "README.md").is_file() else ""
    if config.lora is not None and config.lora.merge:
        whole = merged(config.model, part)
        shutil.rmtree(part)
        whole.save_pretrained(str(part), create_model_card=False)
    after: dict[str, float] = {}
    if ready.evaluators:
        saved = SentenceTransformer(str(part), device=device, model_kwargs=_dtype(config))
        after = _measured(saved, ready, steps)
        _tell_measures(tell, "after training", after)
    record = {
        "languages": list(ready.languages),
        "base": config.model.name or f"{config.model.kind} from nothing",
        "mode": config.sampling.mode,
        "alpha": config.sampling.alpha,
        "seed": config.seed,
        "sources": [
            {"name": source.name, "rows": len(source), "languages": list(source.languages)} for source in ready.sources
        ],
        "texts": dict(ready.texts),
        "evaluation": plain(config.evaluation),
        "steps": steps,
        "before": dict(before),
        "after": after,
        "settings": settings_that_count(config),
        "versions": _versions(),
    }
    write_record(part, record)
    (part / "README.md").write_text(model_card(card, ready, record), encoding="utf-8")
    put_in_place(part, config.output)
    tell(f"saved {config.output}")
    return after


def _dtype(config: TrainingConfig) -> dict[str, Any]:
    return {} if config.model.kind == "static" else {"dtype": getattr(torch, config.model.dtype or "float32")}


def _versions() -> dict[str, str]:
    return {
        "hybrid_bench": VERSION,
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
    }


def measures_table(trained: Trained) -> str:
    """The measures before and after a training, as Markdown; empty if there are none."""
    table = measures_side_by_side(trained.before, trained.after)
    return f"{table}\n" if table else ""


def _prompt(model: SentenceTransformer, *roles: str) -> str:
    """The prompt that the model itself puts before texts of a role when it encodes them."""
    return next((model.prompts[role] or "" for role in roles if role in model.prompts), "")


def _early_stopping(config: TrainingConfig) -> list[TrainerCallback]:
    if config.validation is None:
        return []
    return [EarlyStoppingCallback(config.validation.patience, config.validation.min_delta)]


class _Manifests(TrainerCallback):
    """Writes a checkpoint's manifest when every process has written its part."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for the others."""
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            write_manifest(Path(args.output_dir, f"checkpoint-{state.global_step}"))


class _Telling(TrainerCallback):
    """One line for each entry of the log."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Tell the first process's entries."""
        if logs is None or not state.is_world_process_zero or "train_runtime" in logs:
            return
        wanted = {
            name: value
            for name, value in logs.items()
            if "loss" in name or name in {"learning_rate", "grad_norm"} or (name.startswith("eval_") and "map" in name)
        }
        if wanted:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in wanted.items() if isinstance(value, float))
            self.tell(f"step {state.global_step:,} of {state.max_steps:,}: {figures}")


def _measured(model: SentenceTransformer, ready: Prepared, steps: int) -> dict[str, float]:
    """The measures of a model on all collections, which are written into a table too."""
    folder = str(ready.config.work / "eval")  # where the Trainer writes those in between
    return {
        name: float(value)
        for evaluator in ready.evaluators
        for name, value in evaluator(model, folder, -1, steps).items()
    }


def _before(model: SentenceTransformer, ready: Prepared, tell: Tell) -> dict[str, float]:
    """The measures before the first step, as far as they are asked for; noted for a training that goes on."""
    if ready.resume is not None:
        return noted_before(ready.config)
    before: dict[str, float] = {}
    if ready.config.evaluation.before and ready.evaluators:
        before = _measured(model, ready, 0)
        _tell_measures(tell, "before training", before)
    (ready.config.work / BEFORE).write_text(json.dumps(before, indent=1) + "\n", encoding="utf-8")
    return before


def _tell_measures(tell: Tell, when: str, measures: Mapping[str, float]) -> None:
    shown = [f"{name} {value:.4f}" for name, value in measures.items() if name.endswith(("_map", "_rank_distance"))]
    if shown:
        tell(f"{when}: {', '.join(shown)}")
