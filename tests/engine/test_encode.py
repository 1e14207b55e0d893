"""Each text once, in the model's own words and similarity; scores block by block; embeddings kept on disk."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.types import PromptType
from numpy.typing import NDArray

from helpers import meta_of, static_model, task_of, texts_of
from hybrid_bench.engine.cache import EmbeddingCache
from hybrid_bench.engine.encode import (
    DenseScores,
    Embeddings,
    PreparedPassages,
    Role,
    Similarity,
    Text,
    similarity_of,
)
from hybrid_bench.engine.lexical import CharNgramEncoder
from hybrid_bench.engine.ranks import BLOCK_COLUMNS, BLOCK_ROWS, Targets, count_above
from hybrid_bench.errors import DataError, ModelError
from hybrid_bench.measures.metrics import RelevantRanks
from pools import xquad_r

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta

Matrix = NDArray[np.float32]
SimilarityName = Literal["cosine", "dot", "euclidean", "manhattan"]

#: Some texts read the same, within a language and across two; one only differs by space around it.
TEXTS: dict[str, list[str]] = {
    "en": ["the cat", "a dog runs", "the cat", "Berlin", "a  dog", " Berlin "],
    "de": ["die Katze", "Berlin", "ein Hund", "die Katze"],
    "es": ["Berlin", "el gato"],
}
ALL_TEXTS = [text for texts in TEXTS.values() for text in texts]
METADATA = task_of("XQuAD-R-Pairs").metadata


@dataclass(frozen=True)
class Call:
    """What the model was asked for."""

    texts: tuple[str, ...]
    role: str
    subset: str
    options: Mapping[str, Any]


class Static(SentenceTransformerEncoderWrapper):
    """A static model as mteb wraps it, which keeps a record of the texts it is given, and can break down."""

    def __init__(
        self,
        texts: Sequence[str],
        *,
        prompts: dict[str, str] | None = None,
        similarity: SimilarityName = "cosine",
    ):
        model = static_model(texts, dimension=16, prompts=prompts)
        model.similarity_fn_name = similarity
        with warnings.catch_warnings():
            # reading a model's metadata, mteb uses what it and sentence-transformers deprecate
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(model)
        self.mteb_model_meta = meta_of("test/static", similarity_fn_name=None)
        self.calls: list[Call] = []
        self.breaks_at: int | None = None

    def encode(self, inputs: Any, **kwargs: Any) -> Any:
        if len(self.calls) == self.breaks_at:
            raise RuntimeError("the machine was switched off")
        texts = tuple(text for batch in inputs for text in batch["text"])
        self.calls.append(Call(texts, kwargs["prompt_type"].value, kwargs["hf_subset"], kwargs))
        return super().encode(inputs, **kwargs)

    @property
    def encoded(self) -> list[str]:
        """All texts that were encoded, as often as they were."""
        return [text for call in self.calls for text in call.texts]


class Counts(AbsEncoder):
    """Counts letters, digits and spaces: an encoder small enough to know its vectors by heart."""

    mteb_model_meta: ModelMeta

    def __init__(self, change: Callable[[Matrix, int], Any] = lambda vectors, call: vectors) -> None:
        self.mteb_model_meta = meta_of("test/counts")
        self.change = change
        self.calls = 0

    def encode(self, inputs: Any, **kwargs: Any) -> Any:
        texts = [text for batch in inputs for text in batch["text"]]
        vectors = [[sum(map(kind, text)) for kind in (str.isalpha, str.isdigit, str.isspace)] for text in texts]
        self.calls += 1
        return self.change(np.array(vectors, dtype=np.float32), self.calls)


def embeddings_of(model: Any, *, by_subset: bool = False, **options: Any) -> Embeddings:
    encode_kwargs = options.pop("encode_kwargs", {})
    return Embeddings(model, METADATA, encode_kwargs, lambda code: f"{code}-{code}", by_subset, **options)


class TestEmbeddings:
    def test_a_text_of_several_languages_is_encoded_once(self) -> None:
        model = Static(ALL_TEXTS)
        embeddings = embeddings_of(model)
        embeddings.encode(Role.PASSAGE, {"en": TEXTS["en"]})
        embeddings.encode(Role.PASSAGE, TEXTS)
        assert sorted(model.encoded) == sorted({text.strip() for text in ALL_TEXTS})

    def test_where_the_prompt_may_depend_on_the_language_once_in_each(self) -> None:
        model = Static(ALL_TEXTS)
        embeddings_of(model, by_subset=True).encode(Role.PASSAGE, TEXTS)
        assert sorted(model.encoded) == sorted(text for texts in TEXTS.values() for text in set(map(str.strip, texts)))
        assert {call.subset for call in model.calls} == {"en-en", "de-de", "es-es"}

    def test_nothing_is_encoded_again(self) -> None:
        model = Static(ALL_TEXTS)
        embeddings = embeddings_of(model)
        embeddings.encode(Role.PASSAGE, TEXTS)
        before = len(model.calls)
        embeddings.encode(Role.PASSAGE, TEXTS)
        assert len(model.calls) == before

    def test_queries_and_passages_are_encoded_apart_as_mteb_reads_them(self) -> None:
        """mteb strips passages, but not queries."""
        model = Static(TEXTS["en"])
        embeddings = embeddings_of(model)
        embeddings.encode(Role.QUERY, {"en": TEXTS["en"]})
        embeddings.encode(Role.PASSAGE, {"en": TEXTS["en"]})
        assert [call.role for call in model.calls] == ["query", "document"]
        assert sorted(model.calls[0].texts) == sorted(set(TEXTS["en"]))
        assert sorted(model.calls[1].texts) == sorted({text.strip() for text in TEXTS["en"]})

    @pytest.mark.parametrize("by_subset", [False, True])
    @pytest.mark.parametrize("role", Role)
    def test_rows_are_the_embeddings_of_the_texts(self, role: Role, by_subset: bool) -> None:
        model = Static(ALL_TEXTS)
        embeddings = embeddings_of(model, by_subset=by_subset)
        embeddings.encode(role, TEXTS)
        for code, texts in TEXTS.items():
            matrix, row = embeddings.rows(role, code, texts)
            assert matrix.dtype == np.float32
            assert len(matrix) == len({text.strip() if role is Role.PASSAGE else text for text in texts})
            np.testing.assert_allclose(matrix[row], model.model.encode(texts), rtol=1e-6)

    def test_more_texts_than_are_given_to_the_model_at_once(self) -> None:
        texts = [f"{'word ' * (number % 7)}{number}" for number in range(5000)]
        model = Static(texts[:100])
        embeddings = embeddings_of(model)
        embeddings.encode(Role.PASSAGE, {"en": texts})
        assert len(model.calls) > 1
        assert sorted(model.encoded) == sorted(texts)
        lengths = [len(text) for text in model.encoded]
        assert lengths == sorted(lengths, reverse=True)  # so that a batch holds texts of like length
        matrix, row = embeddings.rows(Role.PASSAGE, "en", texts)
        np.testing.assert_allclose(matrix[row], model.model.encode(texts), rtol=1e-6)

    def test_the_model_is_told_what_mteb_would_tell_it(self) -> None:
        model = Static(TEXTS["de"])
        embeddings_of(model, encode_kwargs={"batch_size": 2, "normalize_embeddings": True}).encode(
            Role.QUERY, {"de": TEXTS["de"]}
        )
        (call,) = model.calls
        assert dict(call.options) == {
            "task_metadata": METADATA,
            "hf_split": "test",
            "hf_subset": "de-de",
            "prompt_type": PromptType.query,
            "batch_size": 2,
            "normalize_embeddings": True,
            "show_progress_bar": False,
        }

    def test_encode_arguments_and_prompts_reach_the_vectors(self) -> None:
        model = Static(TEXTS["en"], prompts={"query": "cat dog ", "document": ""})
        embeddings = embeddings_of(model, encode_kwargs={"normalize_embeddings": True})
        embeddings.encode(Role.QUERY, {"en": ["Berlin"]})
        embeddings.encode(Role.PASSAGE, {"en": ["Berlin"]})
        for role, text in ((Role.QUERY, "cat dog Berlin"), (Role.PASSAGE, "Berlin")):
            expected = model.model.encode([text], normalize_embeddings=True)
            np.testing.assert_allclose(embeddings.rows(role, "en", ["Berlin"])[0], expected, rtol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_are_float32_whatever_the_model_computes_in(self, dtype: torch.dtype) -> None:
        embeddings = embeddings_of(Counts(lambda vectors, _: torch.from_numpy(vectors).to(dtype).requires_grad_()))
        embeddings.encode(Role.QUERY, {"en": ["abc 12", "x"]})
        matrix, row = embeddings.rows(Role.QUERY, "en", ["abc 12", "x"])
        assert matrix.dtype == np.float32
        assert matrix[row].tolist() == [[3, 2, 1], [1, 0, 0]]

    @pytest.mark.parametrize(("by_subset", "expected"), [(False, 26_021), (True, 26_029)])
    def test_real_collection(self, data_dir: Path, by_subset: bool, expected: int) -> None:
        """Of 26,104 questions and sentences; mteb would encode 443,388 in the 132 settings."""
        given = 0

        def count(vectors: Matrix, _: int) -> Matrix:
            nonlocal given
            given += len(vectors)
            return vectors

        collection = task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection()
        embeddings = embeddings_of(Counts(count), by_subset=by_subset)
        embeddings.encode(Role.QUERY, {code: queries.texts for code, queries in collection.queries.items()})
        embeddings.encode(Role.PASSAGE, {code: passages.texts for code, passages in collection.passages.items()})
        assert len(texts_of(collection)) == 26_104
        assert given == expected
        # the same, without our reading of the files
        distinct: set[tuple[str, str, str]] = set()
        for code in collection.parts:
            language = code if by_subset else ""
            data = json.loads((data_dir / "xquad-r" / f"{code}.json").read_text(encoding="utf-8"))["data"]
            for paragraph in (paragraph for article in data for paragraph in article["paragraphs"]):
                distinct |= {("question", language, question["question"]) for question in paragraph["qas"]}
                sentences = (paragraph["context"][start:end] for start, end in paragraph["sentence_breaks"])
                distinct |= {("sentence", language, sentence.strip()) for sentence in sentences}
        assert len(distinct) == expected

    def test_a_title_stands_before_the_text_as_mteb_puts_it(self) -> None:
        """Apart and joined, for passages with a title, and as ever for those without, in one batch of both."""
        texts: list[Text] = [("Rome", " a city "), ("", " a city "), "a dog", ("Bern", "a city"), ("Rome", " a city ")]
        model = Static(["Rome Bern a city dog"])
        embeddings = embeddings_of(model)
        embeddings.encode(Role.PASSAGE, {"en": texts})
        assert sorted(model.encoded) == ["Bern a city", "Rome  a city", "a city", "a dog"]
        matrix, row = embeddings.rows(Role.PASSAGE, "en", texts)
        assert len(matrix) == 4
        joined = ["Rome  a city", "a city", "a dog", "Bern a city", "Rome  a city"]
        np.testing.assert_allclose(matrix[row], model.model.encode(joined), rtol=1e-6)

    def test_title_and_text_are_told_apart(self) -> None:
        """A model of mteb's may treat them differently, so that they are not the same where they only read alike."""
        given: list[dict[str, Any]] = []

        class Apart(Counts):
            def encode(self, inputs: Any, **kwargs: Any) -> Any:
                batches = list(inputs)
                for batch in batches:
                    assert len(batch["title"]) == len(batch["body"]) == len(batch["text"])
                    given.extend(dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True))
                return super().encode(batches, **kwargs)

        embeddings_of(Apart()).encode(Role.PASSAGE, {"en": [("a", "b c"), ("a b", "c")]})
        assert sorted((row["title"], row["body"], row["text"]) for row in given) == [
            ("a", "b c", "a b c"),
            ("a b", "c", "a b c"),
        ]

    def test_what_is_encoded_once_is_not_kept(self) -> None:
        model = Static(ALL_TEXTS)
        embeddings = embeddings_of(model)
        done: list[int] = []
        for times in (1, 2):
            matrix = embeddings.once(Role.PASSAGE, "en", ["the cat", "Berlin"], done.append)
            np.testing.assert_allclose(matrix, model.model.encode(["the cat", "Berlin"]), rtol=1e-6)
            assert matrix.dtype == np.float32
            assert sum(done) == 2 * times
            assert len(model.encoded) == 2 * times
        assert {call.subset for call in model.calls} == {"en-en"}
        assert {call.role for call in model.calls} == {"document"}

    def test_what_is_forgotten_is_encoded_again_and_the_other_role_is_kept(self) -> None:
        model = Static(ALL_TEXTS)
        embeddings = embeddings_of(model)
        for role in Role:
            embeddings.encode(role, TEXTS)
        before = len(model.encoded)
        embeddings.forget(Role.PASSAGE)
        for role in Role:
            embeddings.encode(role, TEXTS)
        assert len(model.encoded) - before == len({text.strip() for text in ALL_TEXTS})
        for code, texts in TEXTS.items():
            matrix, row = embeddings.rows(Role.PASSAGE, code, texts)
            np.testing.assert_allclose(matrix[row], model.model.encode(texts), rtol=1e-6)
            matrix, row = embeddings.rows(Role.QUERY, code, texts)
            np.testing.assert_allclose(matrix[row], model.model.encode(texts), rtol=1e-6)


class TestWhatTheModelReturns:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda vectors: vectors[:, 0], r"shape \(3,\) for 3 texts, not \(3, dimension\)"),
            (lambda vectors: vectors[0, 0], r"shape \(\) for 3 texts, not \(3, dimension\)"),
            (lambda vectors: vectors[:2], r"shape \(2, 3\) for 3 texts, not \(3, dimension\)"),
            (lambda vectors: vectors[[0, 1, 2, 2]], r"shape \(4, 3\) for 3 texts, not \(3, dimension\)"),
            (lambda vectors: vectors[None], r"shape \(1, 3, 3\) for 3 texts, not \(3, dimension\)"),
        ],
    )
    def test_wrong_shape(self, change: Callable[[Matrix], Any], message: str) -> None:
        embeddings = embeddings_of(Counts(lambda vectors, _: change(vectors)))
        with pytest.raises(ModelError, match=f"^test/counts returned embeddings of {message}$"):
            embeddings.encode(Role.QUERY, {"en": ["a", "b", "c"]})

    def test_another_dimension_than_before(self) -> None:
        embeddings = embeddings_of(Counts(lambda vectors, call: vectors[:, : 4 - call]))
        embeddings.encode(Role.QUERY, {"en": ["a"]})
        with pytest.raises(ModelError, match=r"^test/counts returned .* \(2, 2\) for 2 texts, not \(2, 3\)$"):
            embeddings.encode(Role.PASSAGE, {"en": ["a", "b"]})

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, bad: float) -> None:
        def change(vectors: Matrix, _: int) -> Matrix:
            vectors[1:, 2] = bad
            return vectors

        embeddings = embeddings_of(Counts(change))
        message = r"^test/counts returned NaN or infinite embeddings for 2 of 3 texts, the first for 'bb'$"
        with pytest.raises(ModelError, match=message):
            embeddings.encode(Role.QUERY, {"en": ["ccc", "bb", "a"]})

    def test_scores_that_overflow_are_refused(self) -> None:
        vectors = np.full((2, 3), 1e20, dtype=np.float32)
        scores = DenseScores(vectors, PreparedPassages(vectors, np.arange(2), Similarity.DOT))
        targets = Targets(np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int64))
        with pytest.raises(ModelError, match="a score is inf: the model's embeddings or its similarity"):
            count_above(scores, 2, targets, [2], np.arange(2, dtype=np.int32))


def random_vectors(seed: int, n: int, dimension: int = 16) -> Matrix:
    return np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)


class TestSimilarity:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("cosine", Similarity.COSINE),
            ("dot", Similarity.DOT),
            ("euclidean", Similarity.MODEL),
            ("manhattan", Similarity.MODEL),
        ],
    )
    def test_is_the_models_own(self, name: SimilarityName, expected: Similarity) -> None:
        model = Static(["a"], similarity=name)
        assert similarity_of(model, random_vectors(0, 8), random_vectors(1, 64)) is expected
        # one query, one passage
        assert similarity_of(model, random_vectors(2, 1), random_vectors(3, 1)) is expected

    def test_of_vectors_of_any_size(self) -> None:
        for size in (1e-6, 1e6):
            q, p = random_vectors(0, 8) * np.float32(size), random_vectors(1, 64) * np.float32(size)
            assert similarity_of(Static(["a"], similarity="dot"), q, p) is Similarity.DOT
            assert similarity_of(Static(["a"], similarity="cosine"), q, p) is Similarity.COSINE

    def test_dot_product_of_normalised_vectors_is_cosine(self) -> None:
        vectors = random_vectors(0, 64)
        q = p = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert similarity_of(Static(["a"], similarity="dot"), q, p) is Similarity.COSINE

    def test_of_the_embedded_encoder(self) -> None:
        model = CharNgramEncoder()
        embeddings = embeddings_of(model)
        embeddings.encode(Role.QUERY, TEXTS)
        matrix = embeddings.rows(Role.QUERY, "en", TEXTS["en"])[0]
        assert similarity_of(model, matrix, matrix) is Similarity.COSINE

    def test_of_the_wrong_shape_is_refused(self) -> None:
        class Pairwise(Counts):
            def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
                return super().similarity(embeddings1, embeddings2)[0]

        with pytest.raises(ModelError, match=r"^test/counts: similarity returned shape \(64,\), not \(8, 64\)$"):
            similarity_of(Pairwise(), random_vectors(0, 8), random_vectors(1, 64))


#: More than a block in both directions.
N_QUERIES, N_PASSAGES = BLOCK_ROWS + 44, BLOCK_COLUMNS + 904
QUERIES, PASSAGES = random_vectors(0, N_QUERIES), random_vectors(1, N_PASSAGES)
ALONE = np.arange(N_PASSAGES)


def all_scores(scores: DenseScores, n_queries: int = N_QUERIES, n_passages: int = N_PASSAGES) -> Matrix:
    starts = range(0, n_queries, BLOCK_ROWS)
    blocks = [scores(slice(s, min(s + BLOCK_ROWS, n_queries)), slice(0, n_passages)).copy() for s in starts]
    return np.concatenate(blocks)


def exact_scores(name: str) -> NDArray[np.float64]:
    """The similarity in float64, by its formula."""
    q, p = QUERIES.astype(np.float64), PASSAGES.astype(np.float64)
    dot = q @ p.T
    if name == "dot":
        return dot
    squares = (q**2).sum(axis=1)[:, None], (p**2).sum(axis=1)[None]
    if name == "cosine":
        cosine: NDArray[np.float64] = dot / np.sqrt(squares[0] * squares[1])
        return cosine
    euclidean: NDArray[np.float64] = -np.sqrt(squares[0] + squares[1] - 2 * dot)
    return euclidean


class TestDenseScores:
    @pytest.mark.parametrize("name", ["cosine", "dot", "euclidean"])
    def test_equal_the_models_similarity(self, name: SimilarityName) -> None:
        model = Static(["a"], similarity=name)
        prepared = PreparedPassages(PASSAGES, ALONE, similarity_of(model, QUERIES[:8], PASSAGES[:64]))
        scores = all_scores(DenseScores(QUERIES, prepared, model))
        theirs = model.similarity(torch.from_numpy(QUERIES), torch.from_numpy(PASSAGES))
        assert scores.dtype == np.float32
        # Products of 16 terms in float32; euclidean distances are differences of such products.
        tolerance = 1e-5 * np.abs(scores).max()
        np.testing.assert_allclose(scores, np.asarray(theirs), rtol=0, atol=tolerance)
        np.testing.assert_allclose(scores, exact_scores(name), rtol=0, atol=tolerance)

    def test_do_not_depend_on_how_many_queries_and_passages_there_are(self) -> None:
        """To the bit: a block has one shape, whatever is in it."""
        everything = all_scores(DenseScores(QUERIES, PreparedPassages(PASSAGES, ALONE, Similarity.COSINE)))
        few = PreparedPassages(PASSAGES[:33], ALONE[:33], Similarity.COSINE)
        for n in (1, 7, BLOCK_ROWS):
            np.testing.assert_array_equal(all_scores(DenseScores(QUERIES[:n], few), n, 33), everything[:n, :33])

    def test_of_some_columns_are_those_of_all(self) -> None:
        scores = DenseScores(QUERIES, PreparedPassages(PASSAGES, ALONE, Similarity.DOT))
        everything = all_scores(scores)
        rows = slice(BLOCK_ROWS, N_QUERIES)
        for start, stop in ((0, BLOCK_COLUMNS), (BLOCK_COLUMNS, N_PASSAGES), (BLOCK_COLUMNS, BLOCK_COLUMNS + 1)):
            columns = slice(start, stop)
            np.testing.assert_array_equal(scores(rows, columns), everything[rows, columns])

    @pytest.mark.parametrize("similarity", Similarity)
    def test_copies_of_a_passage_share_a_score_to_the_bit(self, similarity: Similarity) -> None:
        """Also where they stand in different blocks, and even if their embeddings were not quite the same."""
        vectors, original = PASSAGES.copy(), ALONE.copy()
        places = [3, 40, BLOCK_COLUMNS - 1, BLOCK_COLUMNS, N_PASSAGES - 1]
        vectors[places] = np.nextafter(vectors[3], np.float32(9))
        vectors[3] = PASSAGES[3]
        original[places] = 3
        model = Static(["a"], similarity="euclidean")
        scores = all_scores(DenseScores(QUERIES, PreparedPassages(vectors, original, similarity), model))
        np.testing.assert_array_equal(scores[:, places], scores[:, [3] * len(places)])
        others = np.setdiff1d(ALONE, places)
        apart = all_scores(DenseScores(QUERIES, PreparedPassages(PASSAGES, ALONE, similarity), model))
        np.testing.assert_array_equal(scores[:, others], apart[:, others])
        np.testing.assert_array_equal(scores[:, 3], apart[:, 3])

    def test_of_the_same_queries_over_other_passages(self) -> None:
        scores = DenseScores(QUERIES, PreparedPassages(PASSAGES[:40], ALONE[:40], Similarity.COSINE))
        before = all_scores(scores, n_passages=40)
        other = PreparedPassages(PASSAGES, ALONE, Similarity.COSINE)
        over = all_scores(scores.over(other))
        np.testing.assert_array_equal(over, all_scores(DenseScores(QUERIES, other)))
        np.testing.assert_array_equal(all_scores(scores, n_passages=40), before)

    def test_threads_do_not_write_over_each_others_blocks(self) -> None:
        scores = DenseScores(QUERIES, PreparedPassages(PASSAGES, ALONE, Similarity.DOT))
        everything = all_scores(scores)
        together = threading.Barrier(2)

        def block(rows: slice) -> Matrix:
            together.wait(timeout=60)
            values = scores(rows, slice(0, N_PASSAGES))
            together.wait(timeout=60)  # the other thread has its block now, too
            return values

        with ThreadPoolExecutor(2) as executor:
            blocks = list(executor.map(block, (slice(0, BLOCK_ROWS), slice(BLOCK_ROWS, N_QUERIES))))
        np.testing.assert_array_equal(np.concatenate(blocks), everything)


class TestRanksOfRealScores:
    def test_block_size_and_threads(self, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The number of threads changes no rank; the size of a block may move scores in the last bit."""
        xquad = xquad_r(data_dir)
        collection, embeddings = xquad.collection, xquad.embeddings
        parts = [collection.part_index(code) for code in xquad.LANGUAGES]
        texts = {code: collection.passages[code].texts for code in xquad.LANGUAGES}
        matrices = [embeddings.rows(Role.PASSAGE, code, texts[code]) for code in texts]
        vectors = np.concatenate([matrix[row] for matrix, row in matrices])
        first: dict[str, int] = {}
        original = [first.setdefault(text.strip(), place) for place, text in enumerate(chain(*texts.values()))]
        prepared = PreparedPassages(vectors, np.array(original), Similarity.COSINE)
        matrix, row = embeddings.rows(Role.QUERY, "en", collection.queries["en"].texts)
        ends = np.cumsum([len(texts[code]) for code in texts])
        judgments = collection.queries["en"].judgments
        kept = np.isin(judgments.part, parts)
        start = np.zeros(len(collection.parts), dtype=np.int64)
        start[parts[1:]] = ends[:-1]
        targets = Targets(judgments.query[kept], start[judgments.part[kept]] + judgments.passage[kept])

        def above(block_rows: int, threads: int) -> NDArray[np.int32]:
            return count_above(
                DenseScores(matrix[row], prepared, block_rows=block_rows),
                len(row),
                targets,
                ends.tolist(),
                collection.id_ranks(tuple(texts)),
                block_rows=block_rows,
                threads=threads,
            ).above

        reference = above(BLOCK_ROWS, 1)
        ranks = RelevantRanks.sort(
            len(row),
            targets.row,
            1 + reference.sum(axis=1, dtype=np.int32),
            judgments.gain[kept],
            judgments.part[kept],
        )
        np.testing.assert_array_equal(ranks.rank, xquad.rank(xquad.LANGUAGES).ranks.rank)
        np.testing.assert_array_equal(above(BLOCK_ROWS, 2), reference)
        changed = int((above(64, 2) != reference).any(axis=1).sum())
        with capsys.disabled():
            print(f" {changed} of {len(targets)} ranks differ between blocks of {BLOCK_ROWS} and 64 queries", end=" ")
        assert changed <= 0.001 * len(targets)


class TestEmbeddingCache:
    def fill(self, folder: Path, model: Any, texts: Mapping[str, Sequence[str]] = TEXTS, **options: Any) -> Embeddings:
        embeddings = embeddings_of(model, cache=EmbeddingCache(folder), **options)
        embeddings.encode(Role.PASSAGE, texts)
        return embeddings

    def test_the_second_use_encodes_nothing(self, tmp_path: Path) -> None:
        model = Static(ALL_TEXTS)
        first = self.fill(tmp_path, model)
        assert sorted(model.encoded) == sorted({text.strip() for text in ALL_TEXTS})
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
        again = Static(ALL_TEXTS)
        second = self.fill(tmp_path, again)
        assert again.calls == []
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == before
        plain = embeddings_of(model)
        plain.encode(Role.PASSAGE, TEXTS)
        for code, texts in TEXTS.items():
            expected, rows = plain.rows(Role.PASSAGE, code, texts)
            for embeddings in (first, second):
                matrix, row = embeddings.rows(Role.PASSAGE, code, texts)
                np.testing.assert_array_equal(matrix, expected, strict=True)
                np.testing.assert_array_equal(row, rows)

    def test_is_mapped_and_cannot_be_written(self, tmp_path: Path) -> None:
        matrix, _ = self.fill(tmp_path, Static(TEXTS["en"]), {"en": TEXTS["en"]}).rows(Role.PASSAGE, "en", TEXTS["en"])
        assert isinstance(matrix, np.memmap)
        assert not matrix.flags.writeable
        assert matrix.dtype == np.float32

    def test_leaves_nothing_but_the_file_its_checksums_and_its_lock(self, tmp_path: Path) -> None:
        self.fill(tmp_path, Static(TEXTS["en"]), {"en": TEXTS["en"]})
        assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".json", ".lock", ".npy"]

    @pytest.mark.parametrize(
        "change", ["text", "order", "prompt", "name", "revision", "options", "encode_kwargs", "role", "by_subset"]
    )
    def test_what_changes_a_vector_gets_another_file(self, tmp_path: Path, change: str) -> None:
        texts = ["the cat", "a dog", "Berlin"]
        prompts = {"query": "read ", "document": "read "}
        self.fill(tmp_path, Static(texts, prompts=prompts), {"en": texts})
        (old,) = tmp_path.rglob("*.npy")
        if change == "prompt":
            prompts = prompts | {"document": "passage "}
        other = Static(texts, prompts=prompts)
        if change in {"name", "revision"}:
            other.mteb_model_meta = other.mteb_model_meta.model_copy(update={change: "test/other"})
        if change == "options":
            other.mteb_model_meta = other.mteb_model_meta.model_copy(update={"experiment_kwargs": {"k": 1}})
        new_texts = {"text": ["the cat", "a dog", "Bern"], "order": ["a dog", "the cat", "Berlin"]}.get(change, texts)
        embeddings = embeddings_of(
            other,
            by_subset=change == "by_subset",
            cache=EmbeddingCache(tmp_path),
            encode_kwargs={"normalize_embeddings": True} if change == "encode_kwargs" else {},
        )
        role = Role.QUERY if change == "role" else Role.PASSAGE
        embeddings.encode(role, {"en": new_texts})
        assert sorted(other.encoded) == sorted(new_texts)
        assert len(set(tmp_path.rglob("*.npy")) - {old}) == 1
        matrix, row = embeddings.rows(role, "en", new_texts)
        prompted = [prompts[role.value] + text for text in new_texts]
        expected = other.model.encode(prompted, normalize_embeddings=change == "encode_kwargs")
        np.testing.assert_allclose(matrix[row], expected, rtol=1e-5, atol=1e-6)

    def test_a_title_changes_the_file(self, tmp_path: Path) -> None:
        model = Static(["a b c"])
        lists: list[list[Text]] = [["a b c"], [("a", "b c")], [("a b", "c")]]
        for number, texts in enumerate(lists, start=1):
            embeddings = embeddings_of(model, cache=EmbeddingCache(tmp_path))
            embeddings.encode(Role.PASSAGE, {"en": texts})
            assert len(list(tmp_path.rglob("*.npy"))) == number

    def test_what_is_encoded_once_has_a_file_too(self, tmp_path: Path) -> None:
        model = Static(ALL_TEXTS)
        done: list[int] = []
        found = [
            embeddings_of(model, cache=EmbeddingCache(tmp_path)).once(Role.PASSAGE, "en", texts, done.append)
            for texts in (["the cat", "Berlin"], ["the cat", "Berlin"], ["Berlin"])
        ]
        assert model.encoded == ["the cat", "Berlin", "Berlin"]
        np.testing.assert_array_equal(found[0], found[1], strict=True)
        np.testing.assert_array_equal(found[0][1:], found[2])

    def test_what_changes_no_vector_gets_the_same_file(self, tmp_path: Path) -> None:
        self.fill(tmp_path, Static(TEXTS["en"]))
        other = Static(TEXTS["en"])
        self.fill(tmp_path, other, encode_kwargs={"batch_size": 7, "show_progress_bar": True})
        assert other.calls == []

    def test_an_interrupted_encode_continues_where_it_stopped(self, tmp_path: Path) -> None:
        texts = [f"{number} words" for number in range(5000)]
        model = Static(texts[:50])
        model.breaks_at = 2
        with pytest.raises(RuntimeError, match="switched off"):
            self.fill(tmp_path, model, {"en": texts})
        assert len(model.encoded) == 2 * 32
        again = Static(texts[:50])
        embeddings = self.fill(tmp_path, again, {"en": texts})
        assert sorted(model.encoded + again.encoded) == sorted(texts)
        matrix, row = embeddings.rows(Role.PASSAGE, "en", texts)
        np.testing.assert_allclose(matrix[row], model.model.encode(texts), rtol=1e-6)
        assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".json", ".lock", ".npy"]

    def test_two_at_a_time_encode_once(self, tmp_path: Path) -> None:
        models = [Static(TEXTS["en"]) for _ in range(2)]
        with ThreadPoolExecutor(2) as executor:
            done = list(executor.map(lambda model: self.fill(tmp_path, model, {"en": TEXTS["en"]}), models))
        assert sorted(len(model.calls) for model in models) == [0, 1]
        first, second = (embeddings.rows(Role.PASSAGE, "en", TEXTS["en"])[0] for embeddings in done)
        np.testing.assert_array_equal(first, second)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        folder = tmp_path / "file"
        folder.write_text("in the way")
        with pytest.raises(
            DataError,
            match=f"^cannot use the embedding cache {folder} .*; choose another folder with --embedding-cache",
        ):
            self.fill(folder, Static(TEXTS["en"]))
