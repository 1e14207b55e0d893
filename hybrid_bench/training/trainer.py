"""The Trainer of sentence-transformers, for models whose weights are divided among devices too (FSDP, DeepSpeed).

That of sentence-transformers 6.2 writes the model as it is in memory: of such a model, the parts of one device, or
nothing. The Trainer of transformers hands it the whole weights, gathered; here they are what is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformerTrainer
from transformers.integrations.deepspeed import deepspeed_load_checkpoint

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

__all__ = ["HybridTrainer"]


class HybridTrainer(SentenceTransformerTrainer):
    """As its parent, and saves and loads divided models as a whole."""

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Save the model; `state_dict` are the gathered weights of a divided one, which the first process has."""
        if not self.args.should_save:
            return  # of a divided model, every process is asked
        if not state_dict:
            super()._save(output_dir)
            return
        with _gathered(self.model, state_dict):
            super()._save(output_dir)

    def _load_best_model(self) -> None:
        """Load the best checkpoint; its parent goes on with the last one, and says so in a log, if that fails."""
        best = str(self.state.best_model_checkpoint)
        self.model.model_card_data.set_best_model_step(int(best.rpartition("-")[2]))
        self._load_from_checkpoint(best)

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        """Give the model the weights of a checkpoint."""
        if self.is_fsdp_enabled:
            from accelerate.utils import load_fsdp_model  # type: ignore[import-untyped] # has no types

            load_fsdp_model(
                self.accelerator.state.fsdp_plugin, self.accelerator, model or self.model_wrapped, checkpoint_path
            )
        elif self.is_deepspeed_enabled:
            deepspeed_load_checkpoint(  # type: ignore[no-untyped-call] # has no types
                self.model_wrapped, checkpoint_path
            )
        else:
            super()._load_from_checkpoint(checkpoint_path)


@contextmanager
def _gathered(model: SentenceTransformer, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While this is open, the model and all its parts say that these are their weights: each part saves its own."""
    parts: dict[str, Any] = dict(model.named_modules())
    for name, part in parts.items():
        part.state_dict = partial(_below, weights, f"{name}." if name else "")
    # The model card's example would be computed by one process, which would wait for the weights of the others.
    card: Any = model.model_card_data
    card.run_usage_snippet = _nothing
    try:
        yield
    finally:
        del card.run_usage_snippet
        for part in parts.values():
            del part.state_dict


def _below(weights: Mapping[str, Tensor], prefix: str, *_: Any, **__: Any) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _nothing() -> None:
    """In place of the example."""
