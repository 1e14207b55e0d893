"""What a model is told besides the text, by wrappers that are known and by those that build their own prompts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from mteb.models import CompressionWrapper
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.cache_wrappers import CachedEmbeddingWrapper
from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.types import OutputDType, PromptType

from helpers import WordCounts, meta_of, static_model, task_of
from hybrid_bench.engine.encode import Embeddings
from hybrid_bench.engine.lexical import CharNgramEncoder
from hybrid_bench.engine.prompts import Role, depends_on_subset, encoded_together, innermost, prompt_of, told_to

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

METADATA = task_of("XQuAD-R-Pairs").metadata
TEXTS = ["Berlin", "the cat"]
WORDS = [*TEXTS, "Q: P: X: R: D: T: Instruct: find the answer to this question. Retrieve text based on user query."]


def metadata(name: str = "XQuAD-R-Pairs", **fields: Any) -> TaskMetadata:
    return METADATA.model_copy(update={"name": name, **fields})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "static"
    static_model(WORDS, dimension=16).save_pretrained(str(path))
    return path


def wrapped(prompts: dict[str, str] | None = None) -> SentenceTransformerEncoderWrapper:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mteb and sentence-transformers deprecate
        model = SentenceTransformerEncoderWrapper(static_model(WORDS, dimension=16, prompts=prompts))
    model.mteb_model_meta = meta_of("test/static")
    return model


def instructed(folder: Path, template: Any = None, **options: Any) -> InstructSentenceTransformerModel:
    path: Any = str(folder)
    revision: Any = None  # as a local folder has it
    model = InstructSentenceTransformerModel(path, revision, device="cpu", instruction_template=template, **options)
    model.mteb_model_meta = meta_of("test/instructed")
    return model


def in_front(model: Any, task: TaskMetadata, role: Role) -> str:
    """What was put in front of the texts, found by what plain texts would have to be to get the same vectors."""
    embeddings = Embeddings(model, task, {}, lambda code: f"{code}-{code}", False)
    embeddings.encode(role, {"en": TEXTS})
    prompt = prompt_of(model, task, role) or ""
    vectors = static_model(WORDS, dimension=16).encode([prompt + text for text in TEXTS])
    np.testing.assert_allclose(embeddings.rows(role, "en", TEXTS)[0], vectors, rtol=1e-6)
    return prompt


@pytest.mark.parametrize(
    ("prompts", "query", "passage"),
    [
        (None, "", ""),
        ({"query": "Q: ", "document": "P: "}, "Q: ", "P: "),
        ({"XQuAD-R-Pairs-query": "X: ", "Retrieval": "R: ", "query": "Q: "}, "X: ", "R: "),
        ({"Retrieval-document": "D: ", "XQuAD-R-Pairs": "T: ", "query": "Q: "}, "T: ", "T: "),
    ],
)
def test_is_what_mteb_puts_in_front(prompts: dict[str, str] | None, query: str, passage: str) -> None:
    model = wrapped(prompts)
    assert in_front(model, METADATA, Role.QUERY) == query
    assert in_front(model, METADATA, Role.PASSAGE) == passage
    assert told_to(model, METADATA, "XQuAD-R") is None


@pytest.mark.filterwarnings("ignore:Prompt type")
@pytest.mark.parametrize("to_passages", [False, True])
@pytest.mark.parametrize("template", [None, "Instruct: {instruction} ", lambda instruction, role: "X: "])
@pytest.mark.parametrize(
    "prompt", [None, "find the answer ", {"query": "find the answer "}], ids=["none", "one", "role"]
)
def test_an_instruction_is_what_the_wrapper_puts_in_front(
    folder: Path, prompt: Any, template: Any, to_passages: bool
) -> None:
    """With a template and without; to passages only where it is."""
    model = instructed(folder, template, apply_instruction_to_passages=to_passages)
    task = metadata(prompt=prompt)
    query = in_front(model, task, Role.QUERY)
    assert query
    if prompt is not None and not callable(template):
        assert "find the answer" in query
    passage = in_front(model, task, Role.PASSAGE)
    assert bool(passage) == (to_passages and (callable(template) or prompt != {"query": "find the answer "}))
    assert told_to(model, task, "XQuAD-R") is None


class OwnPrompt(WordCounts):
    """Builds a prompt of its own, as mteb's wrappers of LLM2Vec, UEmbed and EmbeddingGemma do."""


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"prompt": "find code"}, False),
        ({"prompt": {"query": "find the answer"}}, False),
        ({"type": "Reranking"}, False),
        ({"name": "XQuAD-R-Multilingual"}, True),
        ({"description": "other words"}, True),
    ],
)
def test_a_wrapper_with_prompts_of_its_own_is_told_all_that_may_decide_them(other: dict[str, Any], same: bool) -> None:
    one, two = metadata(prompt="find the answer"), metadata(**{"prompt": "find the answer", **other})
    model: Any = OwnPrompt()
    assert (told_to(model, one, "XQuAD-R") == told_to(model, two, "XQuAD-R")) == same
    assert told_to(model, one, "XQuAD-R") != told_to(model, one, "MLQA-R")

    def identity(task: TaskMetadata) -> dict[str, Any]:
        return Embeddings(model, task, {}, lambda code: code, True, told=told_to(model, task, "XQuAD-R")).identity(
            Role.QUERY, "en"
        )

    assert (identity(one) == identity(two)) == same


def test_an_instruction_for_a_task_by_name_is_told(folder: Path) -> None:
    """Then the two tasks of a collection do not share their embeddings."""
    model = OwnPrompt()
    model.prompts_dict = {"XQuAD-R-Pairs": "Q: "}
    one, two = metadata(), metadata("XQuAD-R-Multilingual")
    assert told_to(model, one, "XQuAD-R") != told_to(model, two, "XQuAD-R")


@pytest.mark.parametrize(
    ("kind", "together"),
    [
        (OutputDType.INT8, True),
        (OutputDType.UINT8, True),
        (OutputDType.INT4, True),
        (OutputDType.UINT4, True),
        (OutputDType.BINARY, False),
        (OutputDType.FLOAT16, False),
        (OutputDType.FLOAT8_E4M3FN, False),
        (OutputDType.BF16, False),
    ],
)
def test_whether_a_vector_depends_on_what_else_is_encoded(kind: OutputDType, together: bool, tmp_path: Path) -> None:
    """By its definition: the same text alone and among others."""
    model: Any = CompressionWrapper(CharNgramEncoder(), kind)
    texts = ["Berlin is a city", "the cat", "a dog runs", "Köln 1999"]

    def encode(chosen: list[str]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few texts to take thresholds from
            found = model.encode(
                [{"text": chosen}],
                task_metadata=METADATA,
                hf_split="test",
                hf_subset="en-en",
                prompt_type=PromptType.query,
            )
        return torch.as_tensor(found).float()

    assert torch.equal(encode(texts)[:2], encode(texts[:2])) != together
    assert encoded_together(model) == together
    kept = CachedEmbeddingWrapper(model, tmp_path)
    assert encoded_together(kept) == together
    assert innermost(kept) is model.model


def test_what_is_within_a_wrapper_decides_the_prompt() -> None:
    model = CompressionWrapper(wrapped({"query": "Q: "}), OutputDType.BINARY)
    assert prompt_of(model, METADATA, Role.QUERY) == "Q: "
    assert told_to(model, METADATA, "XQuAD-R") is None


def test_only_what_is_known_shares_texts_over_subsets() -> None:
    class Same(AbsEncoder):
        def encode(self, *_: Any, **__: Any) -> Any: ...

    assert [depends_on_subset(model) for model in (wrapped(), CharNgramEncoder(), Same(), OwnPrompt())] == [
        False,
        False,
        True,
        True,
    ]
