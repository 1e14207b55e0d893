"""What a model of mteb's is told besides the text: prompts and instructions, and on what else its vectors depend.

A wrapper that is known here tells a text and one prompt to its model, so the prompt is all that has to be known. Any
other wrapper may make its prompt of whatever mteb tells it of the task; there, all that decides the prompt counts.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from hybrid_bench.engine.lexical import BM25, CharNgramEncoder

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

__all__ = ["Role", "depends_on_subset", "encoded_together", "innermost", "instruction_of", "prompt_of", "told_to"]


class Role(StrEnum):
    """What a text is encoded as; the values are those of mteb's PromptType."""

    QUERY = "query"
    PASSAGE = "document"


def innermost(model: Any) -> Any:
    """The model within mteb's wrappers that change vectors or keep them, but build no prompt."""
    return _layers(model)[-1]


def _layers(model: Any) -> list[Any]:
    from mteb.models.cache_wrappers import CachedEmbeddingWrapper
    from mteb.models.compression_wrappers import CompressionWrapper

    found = [model]
    while isinstance(found[-1], CompressionWrapper | CachedEmbeddingWrapper):
        outer = found[-1]
        found.append(outer.model if isinstance(outer, CompressionWrapper) else outer._model)
    return found


def encoded_together(model: Any) -> bool:
    """Whether a text's vector depends on what else is encoded in the same call.

    So it is with mteb's quantisation to integers, whose thresholds are the extremes of what it is given, and with
    contextual document embeddings, which look at a sample of it. Pools cannot be put together of such vectors: each
    has to be encoded by itself.
    """
    from mteb.models.compression_wrappers import CompressionWrapper
    from mteb.models.model_implementations.cde_models import CDEWrapper
    from mteb.types import OutputDType

    integers = (OutputDType.INT8, OutputDType.UINT8, OutputDType.INT4, OutputDType.UINT4)
    return any(
        isinstance(layer, CDEWrapper)
        or (isinstance(layer, CompressionWrapper) and layer._quantization_level in integers)
        for layer in _layers(model)
    )


def depends_on_subset(model: Any) -> bool:
    """Whether a model may read the same text otherwise in another subset; it is told of the subset."""
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    return model.__class__ not in (SentenceTransformerEncoderWrapper, CharNgramEncoder)


def prompt_of(model: Any, metadata: TaskMetadata, role: Role) -> str | None:
    """The prompt or instruction that mteb's model wrappers would put before a text; None if there is none.

    Follows mteb: a name from `get_prompt_name` into the model's prompts, else the instruction of an instruction model.
    """
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
    from mteb.types import PromptType

    model = innermost(model)
    prompt_type = PromptType(role.value)
    prompts = getattr(model, "model_prompts", None)
    if prompts:
        # A wrapper of multi-vector models is no AbsEncoder, and has only the prompts.
        of_model = getattr(model, "get_prompt_name", None)
        name = of_model(metadata, prompt_type) if of_model else get_prompt_name(prompts, metadata, prompt_type)
        return prompts.get(name) if name else None
    instructed = isinstance(model, InstructSentenceTransformerModel)
    if not instructed and getattr(model, "instruction_template", None) is None:
        return None
    if role is Role.PASSAGE and not getattr(model, "apply_instruction_to_passages", True):
        return None
    with _mteb_silent():
        return str(model.get_task_instruction(metadata, prompt_type)) or None


@contextmanager
def _mteb_silent() -> Iterator[None]:
    """mteb warns, and logs, where a task has an instruction for queries alone: here it is only asked, not used."""
    log = logging.getLogger("mteb.models.abs_encoder")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def instruction_of(metadata: TaskMetadata) -> dict[str, Any]:
    """What a task tells any model that follows instructions: its type, and its own prompt if it has one."""
    prompt: Any = metadata.prompt  # a text, or one for each role
    return {"type": metadata.type, "prompt": dict(prompt) if isinstance(prompt, dict) else prompt}


def told_to(model: Any, metadata: TaskMetadata, collection: str) -> dict[str, Any] | None:
    """All that may decide the prompts of a wrapper that builds its own; None if `prompt_of` knows them.

    Args:
        model: The model.
        metadata: The task that it is told about.
        collection: What the task is about. It stands for the task's name, so that the tasks of one collection share
            their embeddings; where a model has an instruction for one of them by name, it is in here itself.
    """
    from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    from mteb.types import PromptType

    model = innermost(model)
    known = (SentenceTransformerEncoderWrapper, InstructSentenceTransformerModel, CharNgramEncoder, BM25)
    if model.__class__ in known:
        return None
    own: dict[str, str] = {}
    if hasattr(model, "get_instruction"):
        with _mteb_silent():
            own = {role.value: str(model.get_instruction(metadata, PromptType(role.value))) for role in Role}
    return {"collection": collection, **instruction_of(metadata), "instructions": own}
