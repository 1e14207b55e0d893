"""Rank queries in a synthetic collection of any size, and print how much memory that took: ``large_pool.py PASSAGES``.

Two languages of PASSAGES passages each lie in memory-mapped Arrow files, as large corpora do. The encoder counts hashed
words, so that it costs next to nothing. What is printed, in MB: by how much the peak of the process is above that for
two pieces a language, and the size of the embeddings that were not kept.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# ruff: noqa: E402 # run from a checkout, the package need not be installed
sys.path[:0] = [str(Path(__file__).parents[1])]

from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta, ScoringFunction

from hybrid_bench.data.collection import Collection, Column, Judgments, Passages, Queries
from hybrid_bench.engine import ranking, streamed
from hybrid_bench.engine.encode import Embeddings
from hybrid_bench.evaluation.registry import task_classes

QUERIES = 200
WORDS = np.array([f"word{number}" for number in range(5000)])


class HashedWords(AbsEncoder):
    """Counts of hashed words."""

    mteb_model_meta: ModelMeta

    def __init__(self, dimension: int) -> None:
        known = {"name": "benchmarks/hashed-words", "revision": "1", "modalities": ["text"]}
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={**known, "model_type": ["dense"], "similarity_fn_name": ScoringFunction.COSINE}
        )
        self.dimension = dimension
        self.column = {word: zlib.crc32(word.encode()) % dimension for word in WORDS.tolist()}

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **_: Any
    ) -> NDArray[np.float32]:
        texts = [text for batch in inputs for text in batch["text"]]
        counts = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                counts[row, self.column[word]] += 1
        return counts


def passages(language: str, size: int, folder: Path) -> Passages:
    """Passages of eight random words, in a memory-mapped file."""
    rng = np.random.default_rng(len(language) + ord(language[0]))
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    path = folder / f"{language}.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, size, 10_000):
            numbers = range(start, min(start + 10_000, size))
            ids = pa.array([f"{zlib.crc32(str(number).encode()):08x}.{language}.{number}" for number in numbers])
            texts = pa.array([" ".join(words) for words in WORDS[rng.integers(0, len(WORDS), (len(numbers), 8))]])
            writer.write_batch(pa.record_batch([ids, texts], schema=schema))
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return Passages(language, Column(table["id"]), Column(table["text"]))


def collection(languages: tuple[str, ...], size: int, folder: Path) -> Collection:
    """Each query asks with half of the words of its one relevant passage."""
    parts = {code: passages(code, size, folder) for code in languages}
    queries = {}
    for number, (code, part) in enumerate(parts.items()):
        relevant = np.random.default_rng(number).choice(size, QUERIES, replace=False).tolist()
        ids = tuple(f"{code}{query}" for query in range(QUERIES))
        texts = tuple(" ".join(part.texts[passage].split()[:4]) for passage in relevant)
        judgments = Judgments.of((query, number, passage, 1) for query, passage in enumerate(relevant))
        queries[code] = Queries(code, ids, ids, texts, judgments)
    clusters = {query: number for number, query in enumerate(i for each in queries.values() for i in each.ids)}
    return Collection("Synthetic", parts, queries, clusters, clusters, "1", dict.fromkeys(languages, "1"))


def peak() -> float:
    """Most memory that the process has had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    """Rank in both pools of one language, and in the pool of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("passages", type=int)
    parser.add_argument("--piece", type=int, default=streamed._PIECE, help="passages encoded at once")
    parser.add_argument("--dimension", type=int, default=256, help="numbers in each embedding")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    streamed._PIECE = options.piece
    metadata = task_classes()["HybridDemo-Pairs"].metadata

    def rank(size: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            data = collection(("de", "en"), size, Path(folder))
            model = HashedWords(options.dimension)
            embeddings = Embeddings(model, metadata, {"batch_size": 512}, lambda code: f"{code}-{code}", False)
            ranker = ranking.Ranker.dense(data, embeddings)
            ranker.prepare({"de": ["de"], "en": ["en"]})
            return ranker.rank("de", ("de", "en")).pool_size

    ranking.RESIDENT_PASSAGES = 0
    rank(2 * options.piece)  # what libraries and whole pieces take, whatever the size
    before = peak()
    assert rank(options.passages) == 2 * options.passages
    print(f"{peak() - before:.0f} {2 * options.passages * options.dimension * 4 / 2**20:.0f}")


if __name__ == "__main__":
    main()
