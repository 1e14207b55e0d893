"""Embeddings of a collection, each distinct text once.

mteb's own loaders build what a model reads, so prompts, instructions and encode arguments are respected. Texts of one
role (query or passage) that read the same are encoded once, over all languages where the model's prompt does not
depend on the subset, within a subset otherwise. Embeddings are kept as float32, whatever the model computes in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.engine.cache import EmbeddingCache
from hybrid_bench.engine.debias import OPTIONS
from hybrid_bench.engine.prompts import Role, prompt_of
from hybrid_bench.engine.ranks import BLOCK_COLUMNS, BLOCK_ROWS
from hybrid_bench.errors import ModelError
from hybrid_bench.progress import Progress

if TYPE_CHECKING:
    import torch
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.models_protocols import EncoderProtocol

__all__ = [
    "DenseScores",
    "EmbeddingCache",
    "Embeddings",
    "Matrix",
    "Role",
    "Similarity",
    "Text",
    "distinct",
    "prompt_of",
    "read_as",
    "similarity_of",
]

Matrix = NDArray[np.float32]
#: Components between its inverse and this have squares and products within float32's range, for any dimension.
_LARGEST = 2.0**40
#: Products of which the largest is smaller lose digits, or become zero: float32 ends at 1e-38, with seven digits.
_LEAST_PRODUCT = 1e-30
#: What is encoded: a text, or a passage's title and text, which mteb gives its models both apart and joined.
Text = str | tuple[str, str]
#: Embeddings as they come from a model: places among the texts that it was given, and the rows for them.
Batches = Iterator[tuple[NDArray[np.int64], Matrix]]


@dataclass
class Embeddings:
    """The embeddings of one model for one collection, filled on demand, by role and name of a part or query set.

    Attributes:
        model: An encoder as mteb defines it, for single vectors.
        metadata: The task that the model is told about; decides its prompts.
        encode_kwargs: Arguments for the model's `encode`, e.g. ``batch_size``.
        subset: The subset that the model is told about, by name.
        by_subset: Whether the model's prompt may depend on the subset; then texts are shared within one only.
        told: All that may decide the model's prompts, where they are not known (see `prompts.told_to`).
        cache: Where to keep embeddings on disk.
    """

    model: EncoderProtocol
    metadata: TaskMetadata
    encode_kwargs: Mapping[str, Any]
    subset: Callable[[str], str]
    by_subset: bool
    told: Mapping[str, Any] | None = None
    cache: EmbeddingCache | None = None
    _matrices: dict[tuple[Role, str], Matrix] = field(default_factory=dict)
    _known: dict[tuple[Role, str], dict[Text, tuple[str, int]]] = field(default_factory=dict)
    _dimension: int | None = None
    _looks: dict[Role, _Look] = field(default_factory=dict)

    def encode(self, role: Role, texts: Mapping[str, Sequence[Text]]) -> None:
        """Encode the distinct texts of these parts or query sets that are not known yet, and keep the embeddings."""
        missing = {name: distinct(role, texts[name]) for name in texts if (role, name) not in self._matrices}
        new = {text for named in missing.values() for text in named}
        with Progress(len(new), f"Encoding {'queries' if role is Role.QUERY else 'passages'}", "texts") as bar:
            for name, named in missing.items():
                self._encode_and_keep(role, name, named, bar.update)

    def rows(self, role: Role, name: str, texts: Sequence[Text]) -> tuple[Matrix, NDArray[np.int64]]:
        """Embeddings of the distinct texts of an encoded part or query set, and the row of each text in them.

        Returns:
            float32 (distinct texts, dimension), and int64 (texts,).
        """
        read = read_as(role, texts)
        place = {text: row for row, text in enumerate(dict.fromkeys(read))}
        return self._matrices[role, name], np.array([place[text] for text in read], dtype=np.int64)

    def once(self, role: Role, name: str, texts: Sequence[Text], progress: Callable[[int], object]) -> Matrix:
        """Embeddings of these texts, which are not kept in memory.

        Args:
            role: What they are encoded as.
            name: The part or query set that they belong to.
            texts: Each once, as `distinct` gives them.
            progress: Called with the number of texts done.

        Returns:
            float32 (texts, dimension).
        """
        return self._matrix(role, name, texts, lambda wanted: self._batches(role, name, wanted, progress))

    def forget(self, role: Role) -> None:
        """Free the memory of what was kept for a role."""
        for kept in (self._matrices, self._known):
            for key in [key for key in kept if key[0] is role]:
                del kept[key]

    def _encode_and_keep(
        self, role: Role, name: str, texts: Mapping[Text, Text], progress: Callable[[int], object]
    ) -> None:
        known = self._known.setdefault((role, self.subset(name) if self.by_subset else ""), {})
        read_of = {text: read for read, text in texts.items()}

        def encode(wanted: Sequence[Text]) -> Batches:
            found = [known.get(read_of[text]) for text in wanted]
            old = [row for row, place in enumerate(found) if place is not None]
            if old:
                places = [place for place in found if place is not None]
                yield np.array(old), np.stack([self._matrices[role, where][row] for where, row in places])
            new = np.array([row for row, place in enumerate(found) if place is None], dtype=np.int64)
            for rows, vectors in self._batches(role, name, [wanted[row] for row in new], progress):
                yield new[rows], vectors

        self._matrices[role, name] = self._matrix(role, name, list(texts.values()), encode)
        for row, read in enumerate(texts):
            known.setdefault(read, (name, row))

    def _matrix(
        self, role: Role, name: str, texts: Sequence[Text], encode: Callable[[Sequence[Text]], Batches]
    ) -> Matrix:
        """The embeddings of distinct texts, from the disk cache if there is one."""
        result: Matrix | None = None
        if self.cache is not None:
            result = self.cache.get(self.identity(role, name), texts, encode, self._chunk)
        else:
            for rows, vectors in encode(texts):
                if result is None:
                    result = np.empty((len(texts), vectors.shape[1]), dtype=np.float32)
                result[rows] = vectors
        assert result is not None
        self._looks.setdefault(role, _Look()).at(result)
        return result

    @property
    def remarks(self) -> list[str]:
        """What has to be said of embeddings that say nothing of their texts; empty if there are none."""
        return [remark for role, look in self._looks.items() if (remark := look.remark(role))]

    @property
    def device(self) -> str:
        """Where the model computes, if that is a CUDA device; else ``cpu``."""
        device = str(getattr(getattr(self.model, "model", None), "device", "cpu"))
        return device if device.startswith("cuda") else "cpu"

    @property
    def _chunk(self) -> int:
        """Texts given to the model in one call: many batches, so that it can sort them by length."""
        return max(2048, 64 * int(self.encode_kwargs.get("batch_size", 32)))

    def identity(self, role: Role, name: str) -> dict[str, Any]:
        """All that the embedding of a text depends on, apart from the text."""
        meta = self.model.mteb_model_meta
        changing = {k: str(v) for k, v in self.encode_kwargs.items() if k not in ("batch_size", "show_progress_bar")}
        return {
            "model": meta.name,
            "revision": meta.revision,
            "options": {k: str(v) for k, v in (meta.experiment_kwargs or {}).items() if k not in OPTIONS},
            "encode_kwargs": changing,
            "role": role.value,
            "prompt": prompt_of(self.model, self.metadata, role),
            "told": None if self.told is None else dict(self.told),
            "subset": self.subset(name) if self.by_subset else None,
            "dtype": "float32",
        }

    def _batches(self, role: Role, name: str, texts: Sequence[Text], progress: Callable[[int], object]) -> Batches:
        """Embeddings from the model, longest texts first: places in `texts`, and float32 (places, dimension).

        With a cache, the model is given one batch at a time: so much is lost at most when it is stopped, and the
        batches are the same ones however often that happens. Without, it is given many, and may sort them by length.
        """
        from datasets import Dataset
        from mteb._create_dataloaders import create_dataloader
        from mteb.types import PromptType
        from torch.utils.data import DataLoader

        # Longest first, so that batches hold texts of like length, over all calls together.
        order = sorted(range(len(texts)), key=lambda row: -_length(texts[row]))
        kwargs = {"batch_size": 32, **self.encode_kwargs, "show_progress_bar": False}
        batch_size = int(kwargs["batch_size"])
        for start in range(0, len(order), self._chunk):
            chosen = order[start : start + self._chunk]
            titles, bodies = zip(*(_title_and_text(texts[row]) for row in chosen), strict=True)
            titled = isinstance(texts[0], tuple)
            columns = {"id": [str(row) for row in chosen], "text": bodies} | ({"title": titles} if titled else {})
            with _no_dataset_bars():
                loader: Any = create_dataloader(
                    Dataset.from_dict(columns),
                    task_metadata=self.metadata,
                    prompt_type=PromptType(role.value),
                    batch_size=batch_size,
                )
            step = len(chosen) if self.cache is None else batch_size
            for first in range(0, len(chosen), step):
                rows = chosen[first : first + step]
                inputs = loader
                if len(rows) < len(chosen):
                    some = loader.dataset.select(range(first, first + len(rows)))
                    inputs = DataLoader(some, batch_size=batch_size, collate_fn=loader.collate_fn)
                with _no_dataset_bars():
                    vectors = self.model.encode(
                        inputs,
                        task_metadata=self.metadata,
                        hf_split=self.metadata.eval_splits[0],
                        hf_subset=self.subset(name),
                        prompt_type=PromptType(role.value),
                        **kwargs,
                    )
                block = self._checked(vectors, bodies[first : first + len(rows)])
                progress(len(rows))
                yield np.array(rows, dtype=np.int64), block

    def _checked(self, vectors: Any, texts: Sequence[str]) -> Matrix:
        """What the model returned, as float32, if it is one finite vector per text."""
        import torch

        name = self.model.mteb_model_meta.name
        if isinstance(vectors, torch.Tensor):
            vectors = vectors.detach().to("cpu", torch.float32).numpy()
        block = np.asarray(vectors, dtype=np.float32)
        expected = f"({len(texts)}, {self._dimension or 'dimension'})"
        if block.ndim != 2 or len(block) != len(texts) or self._dimension not in (None, block.shape[1]):
            raise ModelError(
                f"{name} returned embeddings of shape {block.shape} for {len(texts)} texts, not {expected}"
            )
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            bad = texts[int(np.argmin(finite))]
            raise ModelError(
                f"{name} returned NaN or infinite embeddings for {(~finite).sum()} of {len(texts)} texts, "
                f"the first for {bad[:60]!r}"
            )
        self._dimension = block.shape[1]
        return block


class _Look:
    """Looks at the embeddings of one role as they come: whether they tell texts apart."""

    def __init__(self) -> None:
        self.seen = self.zeros = 0
        self.first: Matrix | None = None
        self.differ = False

    def at(self, vectors: Matrix) -> None:
        """Look at more of them."""
        if self.first is None and len(vectors):
            self.first = np.array(vectors[0])
        self.seen += len(vectors)
        self.zeros += int((~vectors.any(axis=1)).sum())
        self.differ = self.differ or bool((vectors != self.first).any())

    def remark(self, role: Role) -> str | None:
        """What is to be said; None for nothing."""
        what = "queries" if role is Role.QUERY else "passages"
        if self.seen > 1 and not self.differ:
            return f"the embeddings of all {self.seen:,} distinct {what} are the same: every score ties, and ids decide"
        if self.zeros:
            return f"the embeddings of {self.zeros:,} of {self.seen:,} distinct {what} are all zeros: their scores tie"
        return None


def read_as(role: Role, texts: Sequence[Text]) -> list[Text]:
    """The texts as nearly every model reads them, by which they are told apart: mteb strips passages."""
    if role is Role.QUERY:
        return list(texts)
    return [(text if text[0] else text[1].strip()) if isinstance(text, tuple) else text.strip() for text in texts]


def distinct(role: Role, texts: Sequence[Text]) -> dict[Text, Text]:
    """The texts that read differently: as they are read (`read_as`), and as the first of them stands in the data.

    The latter is what mteb is given, for the models that read what it has not stripped.
    """
    found: dict[Text, Text] = {}
    for read, text in zip(read_as(role, texts), texts, strict=True):
        found.setdefault(read, text)
    return found


def _title_and_text(text: Text) -> tuple[str, str]:
    return text if isinstance(text, tuple) else ("", text)


def _length(text: Text) -> int:
    return sum(map(len, _title_and_text(text)))


@contextmanager
def _no_dataset_bars() -> Iterator[None]:
    """Silence the progress bars of `datasets`, which preparing a thousand short texts would flash up."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


class Similarity(StrEnum):
    """How scores are made of embeddings."""

    COSINE = "cosine"
    DOT = "dot"
    #: Whatever the model's own `similarity` computes.
    MODEL = "model"


def similarity_of(model: EncoderProtocol, queries: Matrix, passages: Matrix) -> Similarity:
    """Find out what the model's own `similarity` is, by comparing it on a few embeddings.

    Cosine and dot product are recognised, because they can be computed with one matrix product from vectors that are
    normalised once. Anything else is left to the model.

    Args:
        model: The model.
        queries: Embeddings of a few queries, float32 (n, dimension).
        passages: Embeddings of a few passages.
    """
    import torch

    # In the middle of float32's range, lest what the model computes overflow: scale decides neither of the two.
    q, p = (_scaled(torch.from_numpy(np.array(vectors)), together=True) for vectors in (queries, passages))
    own = torch.as_tensor(model.similarity(q, p)).to("cpu", torch.float32)
    if own.shape != (len(q), len(p)):
        raise ModelError(
            f"{model.mteb_model_meta.name}: similarity returned shape {tuple(own.shape)}, not {(len(q), len(p))}"
        )
    for name, scores in ((Similarity.COSINE, _normalised(q) @ _normalised(p).T), (Similarity.DOT, q @ p.T)):
        # 1e-5 of the largest score: float32 products of unequal order differ by about 1e-7 of it.
        if torch.allclose(own, scores, rtol=0.0, atol=1e-5 * max(1e-30, float(scores.abs().max()))):
            return name
    return Similarity.MODEL


def _normalised(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors of length 1, whatever their scale; zeros stay zeros."""
    import torch

    return torch.nn.functional.normalize(_scaled(vectors), p=2, dim=1)


def _scaled(vectors: torch.Tensor, *, together: bool = False) -> torch.Tensor:
    """The same, where their scale is extreme times a power of two, which rounds nothing; each row's, or one for all.

    Squares of components beyond 1e19 overflow float32, and those below 1e-19 vanish in it.
    """
    import torch

    largest = vectors.abs().amax() if together else vectors.abs().amax(dim=1, keepdim=True)
    extreme = (largest > 0) & ((largest > _LARGEST) | (largest < 1 / _LARGEST))
    if not bool(extreme.any()):
        return vectors
    exponent = torch.where(extreme, torch.frexp(largest).exponent, 0)
    # In two steps: the power itself may be beyond what float32 holds.
    half = torch.div(exponent, 2, rounding_mode="floor")
    return torch.ldexp(torch.ldexp(vectors, -half), half - exponent)


class DenseScores:
    """Scores of one query set for all passages of a pool, block by block (a `ranks.ScoreBlocks`).

    Blocks are computed in one fixed shape, padded at the end, because the last bits of a product depend on its shape.
    Passages that read the same share one score, which is copied: in a product equal rows may get unequal bits.

    Args:
        queries: float32 (queries, dimension).
        passages: The pool.
        model: Asked for the scores where the similarity is the model's own.
        block_rows: Rows of a block.
    """

    def __init__(
        self,
        queries: Matrix,
        passages: PreparedPassages,
        model: EncoderProtocol | None = None,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        import torch

        self._passages = passages
        self._model = model
        self._block_rows = block_rows
        prepared = torch.from_numpy(np.array(queries))
        if passages.similarity is Similarity.COSINE:
            prepared = _normalised(prepared)
        elif passages.similarity is Similarity.DOT:
            self._check_scale(float(prepared.abs().max()), passages, model)
        self._queries = _padded(prepared, block_rows).to(passages.vectors.device)
        self._local = threading.local()

    @staticmethod
    def _check_scale(queries: float, passages: PreparedPassages, model: EncoderProtocol | None) -> None:
        """Refuse dot products that vanish in float32, and would tie; those that overflow are refused when counted."""
        largest = queries * float(passages.vectors.abs().max())
        if 0 < largest < _LEAST_PRODUCT:
            name = "the model" if model is None else model.mteb_model_meta.name
            raise ModelError(
                f"{name} returned embeddings so small that their dot products, {largest:.0e} at most, vanish in "
                "float32: scale them"
            )

    def over(self, passages: PreparedPassages) -> DenseScores:
        """Scores of the same queries for other passages."""
        other = copy(self)
        other._passages = passages
        return other

    def __call__(self, rows: slice, columns: slice) -> Matrix:
        """The scores of some rows and columns; valid until the same thread's next call."""
        import torch

        vectors = self._passages.vectors
        width = columns.stop - columns.start
        blocks = -(-width // BLOCK_COLUMNS)
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.shape[1] < blocks * BLOCK_COLUMNS:
            buffer = self._local.buffer = torch.empty(self._block_rows, blocks * BLOCK_COLUMNS)
        queries = self._queries[rows.start : rows.start + self._block_rows]
        for block in range(blocks):
            start = columns.start + block * BLOCK_COLUMNS
            passages = vectors[start : start + BLOCK_COLUMNS]
            out = buffer[:, block * BLOCK_COLUMNS : (block + 1) * BLOCK_COLUMNS]
            if self._passages.similarity is Similarity.MODEL:
                assert self._model is not None
                out.copy_(torch.as_tensor(self._model.similarity(queries, passages)))
            elif vectors.device.type == "cpu":
                torch.mm(queries, passages.T, out=out)
            else:
                out.copy_(queries @ passages.T)
        scores: Matrix = buffer.numpy()
        copies, originals = self._passages.copies(columns)
        scores[:, copies] = scores[:, originals]
        return scores[: rows.stop - rows.start, :width]


class PreparedPassages:
    """Passages of a pool, ready for products: normalised if need be, padded to whole blocks, where the model is.

    Args:
        vectors: float32 (passages, dimension).
        original: int64 (passages,), the first passage that reads the same as each; itself if there is none before it.
        similarity: How scores are made.
        device: Where products are computed.
    """

    def __init__(
        self, vectors: Matrix, original: NDArray[np.int64], similarity: Similarity, device: str = "cpu"
    ) -> None:
        import torch

        prepared = torch.from_numpy(np.array(vectors))
        if similarity is Similarity.COSINE:
            prepared = _normalised(prepared)
        self.vectors = _padded(prepared, BLOCK_COLUMNS).to(device)
        self.similarity = similarity
        self._copy = np.flatnonzero(original != np.arange(len(original)))
        self._original = original[self._copy]

    def copies(self, columns: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places, counted from the start of `columns`, of the copies in it and of their originals, where both are."""
        inside = (self._copy >= columns.start) & (self._copy < columns.stop) & (self._original >= columns.start)
        return self._copy[inside] - columns.start, self._original[inside] - columns.start


def _padded(vectors: torch.Tensor, multiple: int) -> torch.Tensor:
    """The same with rows of zeros at the end, up to a multiple."""
    padded = vectors.new_zeros(len(vectors) + -len(vectors) % multiple, vectors.shape[1])
    padded[: len(vectors)] = vectors
    return padded
