"""What the model card says of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from hybrid_bench.data.files import expanded
from hybrid_bench.data.training_record import RECORD
from hybrid_bench.languages import name_of
from hybrid_bench.training.config import TrainingConfig
from hybrid_bench.training.prepared import Prepared
from hybrid_bench.version import VERSION

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["describe", "measures_side_by_side", "model_card"]


def describe(model: SentenceTransformer, ready: Prepared) -> None:
    """What the model card says of languages, data and name."""
    config, data = ready.config, model.model_card_data
    data.language = list(ready.languages)
    data.model_name = f"{config.output.name}: hybrid batches, {_how(config)}"
    # Otherwise each folder that the model was loaded from is looked for on the hub.
    data.local_files_only = config.model.kind != "pretrained" or expanded(config.model.name).is_dir()


def _how(config: TrainingConfig) -> str:
    sampling = config.sampling
    return sampling.mode if sampling.alpha is None else f"{sampling.mode}, alpha {sampling.alpha:g}"


def model_card(card: str, ready: Prepared, record: Mapping[str, Any]) -> str:
    """The model card of sentence-transformers with a section of ours before its section on training."""
    config = ready.config
    names = [name_of(code) for code in ready.languages]
    sources = [
        [source.name, f"{len(source):,}", " ".join(source.languages), f"{ready.plan.batches[source.name]:,}"]
        for source in ready.sources
    ]
    parts = [
        "## Training with hybrid batches",
        f"Trained with hybrid_bench {VERSION} (method: arXiv 2408.10536), sampling {_how(config)}, seed"
        f" {config.seed}, {record['steps']:,} steps of {ready.plan.size:,} pairs, on {', '.join(names)}."
        f" `{RECORD}` holds the whole configuration.",
        tabulate(sources, ["Source", "Rows", "Languages", "Batches an epoch"], tablefmt="pipe", disable_numparse=True),
        *(f"- {source.name}: {note}" for source in ready.sources for note in source.notes),
        *(f"- {note}" for note in ready.plan.notes),
        *(f"- {line}" for each in ready.usage for line in each.lines()),
        "### Overlap with evaluation collections",
        "Training data were **not** compared with evaluation collections: nothing is known of zero-shot results."
        if ready.overlap is None
        else ready.overlap.briefly().to_markdown(),
    ]
    table = measures_side_by_side(record["before"], record["after"])
    if table:
        parts += ["### Results", table]
    section = "\n\n".join(parts) + "\n\n"
    place = card.find("## Training Details")
    return card[:place] + section + card[place:] if place >= 0 else f"{card}\n{section}"


def measures_side_by_side(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Measures before and after a training as a Markdown table; empty if there are none."""
    rows = [
        [name, f"{before[name]:.4f}" if name in before else "-", f"{after[name]:.4f}" if name in after else "-"]
        for name in dict.fromkeys((*before, *after))
    ]
    heads = ["Measure", "Before", "After"]
    return (
        tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=("left", "right", "right"))
        if rows
        else ""
    )
