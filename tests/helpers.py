"""What several tests share: models small enough to make on the spot, all of them real, and a few readings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from mteb.models.model_meta import ModelMeta, ScoringFunction
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from hybrid_bench.corpora import Collection
from hybrid_bench.metrics import RelevantRanks
from hybrid_bench.results import metadata_of
from hybrid_bench.retrieval import ParallelRetrieval
from hybrid_bench.tasks import task_classes

__all__ = ["meta_of", "relevant_ranks", "static_model", "task_of", "texts_of", "word_pieces"]


def task_of(name: str, subsets: Sequence[str] | None = None, **options: Any) -> ParallelRetrieval:
    """A fresh task, narrowed to some subsets; `options` are those of `TaskOptions`."""
    task = task_classes()[name]()
    if subsets is not None:
        task.hf_subsets = list(subsets)
    task.options = replace(task.options, **options)
    return task


def texts_of(collection: Collection, languages: Sequence[str] = ()) -> list[str]:
    """All queries and passages of a collection, or of some of its languages."""
    return [
        text
        for code in languages or collection.languages
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


def static_model(
    texts: Iterable[str], dimension: int = 64, seed: int = 0, prompts: dict[str, str] | None = None
) -> SentenceTransformer:
    """A static embedding model with random vectors for the pieces of these texts: it finds texts that share words."""
    tokenizer = word_pieces(texts)
    vectors = np.random.default_rng(seed).standard_normal((tokenizer.get_vocab_size(), dimension)).astype(np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=vectors)
    return SentenceTransformer(modules=[module], device="cpu", prompts=prompts)


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
