"""Embeddings of a collection, each distinct text once.

mteb's own loaders build what a model reads, so prompts, instructions and encode arguments are respected. Texts of one
role (query or passage) that read the same are encoded once, over all languages where the model's prompt does not
depend on the subset, within a subset otherwise. Embeddings are kept as float32, whatever the model computes in.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm.auto import tqdm

from hybrid_bench.data.files import atomic, settle
from hybrid_bench.data.hashing import sha256_of_json
from hybrid_bench.engine.ranks import BLOCK_COLUMNS, BLOCK_ROWS
from hybrid_bench.errors import DataError, ModelError

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
    "progress_bar",
    "prompt_of",
    "read_as",
    "similarity_of",
]

Matrix = NDArray[np.float32]
#: What is encoded: a text, or a passage's title and text, which mteb gives its models both apart and joined.
Text = str | tuple[str, str]


class Role(StrEnum):
    """What a text is encoded as; the values are those of mteb's PromptType."""

    QUERY = "query"
    PASSAGE = "document"


def progress_bar(total: int, what: str, unit: str) -> tqdm[Any]:
    """A bar on stderr with rate and time left; silent when stderr is not a terminal."""
    return tqdm(total=total, desc=what, unit=f" {unit}", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)


@dataclass(frozen=True)
class EmbeddingCache:
    """Embeddings on disk, memory-mapped, one file for each list of texts as one model reads them.

    A file is found by a hash over the model's name, revision and options, the role and prompt, the dtype, and every
    text; nothing is ever looked up by position or file date. A file is filled in steps beside its place and renamed
    when it is whole, so that an interrupted run continues where it stopped.
    """

    folder: Path

    def get(
        self, identity: Mapping[str, Any], texts: Sequence[Text], encode: Callable[[Sequence[Text]], Iterator[Matrix]]
    ) -> Matrix:
        """The embeddings of `texts`, from the file if there is one.

        Args:
            identity: What the embeddings depend on besides the texts; must be JSON.
            texts: The texts, in order.
            encode: Yields the embeddings of the texts it is given, a few rows at a time, in order.

        Returns:
            Read-only memory map, float32 (texts, dimension).

        Raises:
            DataError: If the folder cannot be written.
        """
        digest = sha256_of_json([identity, texts])
        path = self.folder / digest[:2] / f"{digest}.npy"
        lock = FileLock(f"{path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise DataError(
                f"cannot write the embedding cache {self.folder} ({error}); choose another folder"
            ) from error
        try:  # apart from the above: what goes wrong now may be the model's doing
            if not path.exists():
                self._fill(path, texts, encode)
        finally:
            lock.release()
        rows: Matrix = np.load(path, mmap_mode="r")
        return rows

    @staticmethod
    def _fill(path: Path, texts: Sequence[Text], encode: Callable[[Sequence[Text]], Iterator[Matrix]]) -> None:
        part, state = path.with_suffix(".part"), path.with_suffix(".json")
        done, rows = 0, None
        if part.exists() and state.exists():
            done = int(json.loads(state.read_text())["rows"])
            rows = np.lib.format.open_memmap(part, mode="r+")
        for block in encode(texts[done:]):
            if rows is None:
                rows = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=(len(texts), block.shape[1]))
            rows[done : done + len(block)] = block
            rows.flush()
            done += len(block)
            # Only what the state says is trusted, and it is written after the rows it speaks of.
            with atomic(state) as beside:
                beside.write_text(json.dumps({"rows": done}))
        settle(part, path)
        state.unlink()


@dataclass
class Embeddings:
    """The embeddings of one model for one collection, filled on demand, by role and name of a part or query set.

    Attributes:
        model: An encoder as mteb defines it, for single vectors.
        metadata: The task that the model is told about; decides its prompts.
        encode_kwargs: Arguments for the model's `encode`, e.g. ``batch_size``.
        subset: The subset that the model is told about, by name.
        by_subset: Whether the model's prompt may depend on the subset; then texts are shared within one only.
        cache: Where to keep embeddings on disk.
    """

    model: EncoderProtocol
    metadata: TaskMetadata
    encode_kwargs: Mapping[str, Any]
    subset: Callable[[str], str]
    by_subset: bool
    cache: EmbeddingCache | None = None
    _matrices: dict[tuple[Role, str], Matrix] = field(default_factory=dict)
    _known: dict[tuple[Role, str], dict[Text, tuple[str, int]]] = field(default_factory=dict)
    _dimension: int | None = None

    def encode(self, role: Role, texts: Mapping[str, Sequence[Text]]) -> None:
        """Encode the distinct texts of these parts or query sets that are not known yet, and keep the embeddings."""
        missing = {name: distinct(role, texts[name]) for name in texts if (role, name) not in self._matrices}
        new = {text for named in missing.values() for text in named}
        with progress_bar(len(new), f"Encoding {'queries' if role is Role.QUERY else 'passages'}", "texts") as bar:
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
        return self._matrix(role, name, texts, lambda wanted: self._vectors(role, name, wanted, progress))

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

        def encode(wanted: Sequence[Text]) -> Matrix:
            new = [text for text in wanted if read_of[text] not in known]
            parts = dict(zip(new, self._vectors(role, name, new, progress), strict=True)) if new else {}
            rows = []
            for text in wanted:
                if text in parts:
                    rows.append(parts[text])
                else:
                    where, row = known[read_of[text]]
                    rows.append(self._matrices[role, where][row])
            return np.stack(rows)

        self._matrices[role, name] = self._matrix(role, name, list(texts.values()), encode)
        for row, read in enumerate(texts):
            known.setdefault(read, (name, row))

    def _matrix(
        self, role: Role, name: str, texts: Sequence[Text], encode: Callable[[Sequence[Text]], Matrix]
    ) -> Matrix:
        """The embeddings of distinct texts, from the disk cache if there is one."""
        if self.cache is None:
            return encode(texts)
        size = self._chunk
        return self.cache.get(
            self.identity(role, name),
            texts,
            lambda wanted: (encode(wanted[start : start + size]) for start in range(0, len(wanted), size)),
        )

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
            "options": {k: str(v) for k, v in (meta.experiment_kwargs or {}).items()},
            "encode_kwargs": changing,
            "role": role.value,
            "prompt": prompt_of(self.model, self.metadata, role),
            "subset": self.subset(name) if self.by_subset else None,
            "dtype": "float32",
        }

    def _vectors(self, role: Role, name: str, texts: Sequence[Text], progress: Callable[[int], object]) -> Matrix:
        """Embeddings, float32 (texts, dimension), from the model."""
        from datasets import Dataset
        from mteb._create_dataloaders import create_dataloader
        from mteb.types import PromptType

        # Longest first, so that batches hold texts of like length, over all calls together.
        order = sorted(range(len(texts)), key=lambda row: -_length(texts[row]))
        result: Matrix | None = None
        kwargs = {"batch_size": 32, **self.encode_kwargs, "show_progress_bar": False}
        for start in range(0, len(order), self._chunk):
            chosen = order[start : start + self._chunk]
            titles, bodies = zip(*(_title_and_text(texts[row]) for row in chosen), strict=True)
            titled = isinstance(texts[0], tuple)
            columns = {"id": [str(row) for row in chosen], "text": bodies} | ({"title": titles} if titled else {})
            rows = Dataset.from_dict(columns)
            with _no_dataset_bars():
                inputs = create_dataloader(
                    rows,
                    task_metadata=self.metadata,
                    prompt_type=PromptType(role.value),
                    batch_size=kwargs["batch_size"],
                )
                vectors = self.model.encode(
                    inputs,
                    task_metadata=self.metadata,
                    hf_split=self.metadata.eval_splits[0],
                    hf_subset=self.subset(name),
                    prompt_type=PromptType(role.value),
                    **kwargs,
                )
            block = self._checked(vectors, bodies)
            if result is None:
                result = np.empty((len(texts), block.shape[1]), dtype=np.float32)
            result[chosen] = block
            progress(len(chosen))
        assert result is not None
        return result

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


def prompt_of(model: Any, metadata: TaskMetadata, role: Role) -> str | None:
    """The prompt or instruction that mteb's model wrappers would put before a text; None if there is none.

    Follows mteb: a name from `get_prompt_name` into the model's prompts, else the instruction of an instruction model.
    """
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.types import PromptType

    prompt_type = PromptType(role.value)
    prompts = getattr(model, "model_prompts", None)
    if prompts:
        # A wrapper of multi-vector models is no AbsEncoder, and has only the prompts.
        of_model = getattr(model, "get_prompt_name", None)
        name = of_model(metadata, prompt_type) if of_model else get_prompt_name(prompts, metadata, prompt_type)
        return prompts.get(name) if name else None
    if getattr(model, "instruction_template", None) is not None:
        return str(model.get_task_instruction(metadata, prompt_type))
    return None


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

    q, p = torch.from_numpy(np.array(queries)), torch.from_numpy(np.array(passages))
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
    import torch

    return torch.nn.functional.normalize(vectors, p=2, dim=1)


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
        self._queries = _padded(prepared, block_rows).to(passages.vectors.device)
        self._local = threading.local()

    def over(self, passages: PreparedPassages) -> DenseScores:
        """Scores of the same queries for other passages."""
        other = copy(self)
        other._passages = passages
        return other

    def __call__(self, rows: slice, columns: slice) -> Matrix:
        """See `ranks.ScoreBlocks`. The result is valid until the same thread's next call."""
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
