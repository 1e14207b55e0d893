"""What several tests share: models small enough to make on the spot, all of them real, and a few readings."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sentence_transformers
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta, ScoringFunction
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from hybrid_bench.data.collection import Collection, DataOptions, Judgments, Queries
from hybrid_bench.engine.models import with_options
from hybrid_bench.evaluation.registry import task_classes
from hybrid_bench.evaluation.runner import RunRequest, run
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.measures.metrics import RelevantRanks
from hybrid_bench.runs.result_files import metadata_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pytest

__all__ = [
    "DEMO_HALF",
    "WordCounts",
    "asking",
    "meta_of",
    "registered",
    "relevant_ranks",
    "run_folder",
    "save_tiny",
    "static_model",
    "task_of",
    "tell_options",
    "texts_of",
    "word_pieces",
]

#: Of a training configuration: half of the demo's paragraphs, in two of its languages.
DEMO_HALF = """[[sources]]
name = "demo half"
kind = "lareqa"
dataset = "HybridDemo"
languages = ["de", "en"]
options = { folds = 2, fold = [0] }

[overlap]
check = false
"""


def task_of(name: str, subsets: Sequence[str] | None = None, **options: Any) -> ParallelRetrieval:
    """A fresh task, narrowed to some subsets; `options` are those of `TaskOptions` and `DataOptions`."""
    task = task_classes()[name]()
    if subsets is not None:
        task.hf_subsets = list(subsets)
    data = {field.name: options.pop(field.name) for field in fields(DataOptions) if field.name in options}
    task.options = replace(task.options, data=replace(task.options.data, **data), **options)
    return task


def asking(task: ParallelRetrieval, every: int) -> ParallelRetrieval:
    """The same task with each `every`-th of its questions, against all passages: mteb's way takes time by the question.

    It asks the same of what is made of its type.
    """

    class Asking(type(task)):  # type: ignore[misc] # whatever task it is
        def read_collection(self) -> Collection:
            collection: Collection = super().read_collection()
            return replace(collection, queries={name: _every(each, every) for name, each in collection.queries.items()})

    asked = Asking()
    asked.hf_subsets, asked.options = task.hf_subsets, task.options
    return asked


def _every(queries: Queries, every: int) -> Queries:
    judgments = queries.judgments
    kept = judgments.query % every == 0
    columns = {field.name: getattr(judgments, field.name)[kept] for field in fields(Judgments)}
    return replace(
        queries,
        ids=queries.ids[::every],
        question_ids=queries.question_ids[::every],
        texts=queries.texts[::every],
        judgments=Judgments(**columns | {"query": columns["query"] // every}),
    )


def tell_options(model: Any, task: ParallelRetrieval) -> None:
    """Write a task's options into a model's metadata, as `run` does."""
    with_options(model, task.saved_options())


def texts_of(collection: Collection, languages: Sequence[str] = ()) -> list[str]:
    """All queries and passages of a parallel collection, or of some of its languages."""
    return [
        text
        for code in languages or collection.parts
        for texts in (collection.queries[code].texts, collection.passages[code].texts)
        for text in texts
    ]


def word_pieces(texts: Iterable[str], words: int = 4000) -> Tokenizer:
    """A WordPiece tokenizer with the commonest words of these texts and all their letters: the same in every run."""
    normalizer, splitter = normalizers.NFKC(), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted({letter for word in counts for letter in word})
    common = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:words]]
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    pieces |= dict.fromkeys([*common, *letters, *(f"##{letter}" for letter in letters)])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    return tokenizer


def static_model(texts: Iterable[str], dimension: int = 64, seed: int = 0, **arguments: Any) -> SentenceTransformer:
    """A static embedding model with random vectors for the pieces of these texts: it finds texts that share words."""
    tokenizer = word_pieces(texts)
    vectors = np.random.default_rng(seed).standard_normal((tokenizer.get_vocab_size(), dimension)).astype(np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=vectors)
    return SentenceTransformer(modules=[module], device="cpu", **arguments)


def save_tiny(kind: str, folder: Path, texts: Iterable[str], seed: int = 0) -> Path:
    """Save a transformer of one layer with random weights, as sentence-transformers saves a model of this kind.

    Args:
        kind: Name of its class in sentence-transformers.
        folder: Where to save it; beside it, under ``<name>-transformers``, lies what transformers saved.
        texts: Where its vocabulary is taken from.
        seed: Of the weights.
    """
    tokenizer = word_pieces(texts, 500)
    ids = tokenizer.get_vocab()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    plain = folder.with_name(f"{folder.name}-transformers")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special)  # type: ignore[no-untyped-call] # has no types
    fast.save_pretrained(plain)
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    config.num_labels = 1
    heads = {"CrossEncoder": BertForSequenceClassification, "SparseEncoder": BertForMaskedLM}
    torch.manual_seed(seed)
    heads.get(kind, BertModel)(config).save_pretrained(plain)
    getattr(sentence_transformers, kind)(str(plain), device="cpu").save_pretrained(str(folder))
    return folder


class WordCounts(AbsEncoder):
    """An encoder that counts hashed words, with the dot product: small whole numbers, so that every score is exact.

    It notes what it is asked to encode. `asked` belongs to the class, so that it is known of a model that `run` loaded.
    """

    asked: ClassVar[list[tuple[str, str, int]]] = []  # role, subset, number of texts

    def __init__(
        self, model_name: str = "tests/word-counts", revision: str | None = "1", dimension: int = 32, **_: Any
    ) -> None:
        self.mteb_model_meta = meta_of(
            model_name, revision or "1", similarity_fn_name=ScoringFunction.DOT_PRODUCT, loader=type(self)
        )
        self.dimension = dimension

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **_: Any
    ) -> Any:
        texts = [text for batch in inputs for text in batch["text"]]
        self.asked.append((prompt_type.value, hf_subset, len(texts)))
        return self.vectors(texts)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.casefold().split():
                counts[row, zlib.crc32(word.encode()) % self.dimension] += 1
        return counts


def registered(monkeypatch: pytest.MonkeyPatch, name: str, loader: Callable[..., Any], **fields: Any) -> str:
    """Make mteb know a model by name until the test is over, as it knows its own; returns the name."""
    monkeypatch.setitem(MODEL_REGISTRY, name, meta_of(name, loader=loader, **fields))
    return name


def meta_of(name: str, revision: str = "1", **fields: Any) -> ModelMeta:
    """Metadata of a model that exists in a test only."""
    known = {"model_type": ["dense"], "similarity_fn_name": ScoringFunction.COSINE, "modalities": ["text"]}
    return ModelMeta.create_empty(overwrites={"name": name, "revision": revision, **known, **fields})


def relevant_ranks(table: pa.Table) -> RelevantRanks:
    """The ranks that a per-query table holds."""
    languages = metadata_of(table)["languages"]
    query = np.repeat(np.arange(len(table)), table["n_relevant"].to_numpy())

    def flat(column: str) -> Any:
        return table[column].combine_chunks().flatten().to_pylist()

    return RelevantRanks(
        n_queries=len(table),
        query=query.astype(np.int32),
        rank=np.array(flat("ranks"), dtype=np.int32),
        gain=np.array(flat("gains"), dtype=np.int32),
        language=np.array([languages.index(code) for code in flat("rank_languages")], dtype=np.int16),
    )


def run_folder(models: list[str], tasks: list[str], output: Path, **options: Any) -> Path:
    """The folder of a real run."""
    outcome = run(RunRequest(models=models, tasks=tasks, output=output, **options))
    assert outcome.failures == []
    (folder,) = outcome.folders
    return folder
