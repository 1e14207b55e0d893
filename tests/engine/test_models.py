"""What stands behind a name, under which name and revision its results are saved, and how it is loaded."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from helpers import save_tiny, static_model, task_of, texts_of
from hybrid_bench.data.collection import Collection
from hybrid_bench.engine.lexical import EMBEDDED
from hybrid_bench.engine.models import folder_hash, load, model_meta, with_options
from hybrid_bench.errors import HybridBenchError, ModelError, RequestError
from hybrid_bench.evaluation.tasks import ParallelRetrieval


@pytest.fixture(scope="module")
def demo() -> Collection:
    return task_of("HybridDemo-Pairs").read_collection()


@pytest.fixture(scope="module")
def texts(demo: Collection) -> list[str]:
    return texts_of(demo, ["de", "en"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """A saved static model; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("first") / "checkpoint"
    static_model(texts, seed=1).save_pretrained(str(folder))
    return folder


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / checkpoint.name))


def evaluated(model: Any, subset: str = "de-en") -> tuple[dict[str, Any], ParallelRetrieval]:
    task = task_of("HybridDemo-Pairs", [subset])
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    return dict(scores), task


def message(error: pytest.ExceptionInfo[HybridBenchError]) -> str:
    """What a person reads: one line."""
    assert str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- names ---------------------------------------------------------------------------------------------------------


class TestNames:
    @pytest.mark.parametrize("name", EMBEDDED)
    def test_embedded(self, name: str) -> None:
        meta = model_meta(name)
        assert (meta.name, meta.revision) == (name, EMBEDDED[name]().revision)
        assert load(meta).mteb_model_meta.name == name

    def test_what_mteb_knows_is_left_to_mteb(self) -> None:
        name = "intfloat/multilingual-e5-small"
        assert model_meta(name) is mteb.get_model_meta(name)

    @pytest.mark.parametrize(
        ("name", "clause"),
        [
            ("hybrid_bench/bm52", "did you mean 'hybrid_bench/bm25'?"),
            ("char-ngram", "did you mean 'hybrid_bench/char-ngram'?"),
            ("multilingual-e5-small", "did you mean 'intfloat/multilingual-e5-small'?"),
            ("./checkpoint-100", "there is no such folder"),
            ("~/checkpoint-100", "there is no such folder"),
            ("qqqqqqqq", "`hybrid-bench models` lists them"),
        ],
    )
    def test_unknown(self, name: str, clause: str) -> None:
        with pytest.raises(RequestError) as error:
            model_meta(name)
        assert name in message(error)
        assert clause in message(error)


class TestWithoutNetwork:
    """As huggingface_hub is with HF_HUB_OFFLINE=1, which it reads once, when it is imported."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def test_a_name_that_mteb_does_not_know(self) -> None:
        start = time.monotonic()
        with pytest.raises(ModelError) as error:
            model_meta("nobody-knows/this-encoder")
        assert time.monotonic() - start < 20
        assert "nobody-knows/this-encoder" in message(error)
        assert "without network, give the folder of a saved model" in message(error)

    def test_a_misspelt_name(self) -> None:
        with pytest.raises(ModelError) as error:
            model_meta("intfloat/multilingual-e5-smal")
        assert "did you mean 'intfloat/multilingual-e5-small'?" in message(error)

    def test_a_model_that_is_not_on_disk(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        start = time.monotonic()
        with pytest.raises(ModelError) as error:
            load(model_meta("intfloat/multilingual-e5-small"))
        assert time.monotonic() - start < 20
        assert message(error).startswith("cannot load intfloat/multilingual-e5-small: ")


# -- folders -------------------------------------------------------------------------------------------------------


class TestIdentity:
    """Name and revision decide where results are saved: they must differ when the model does, and only then."""

    def test_of_a_folder(self, checkpoint: Path) -> None:
        meta = model_meta(str(checkpoint))
        assert meta.name == "local/checkpoint"
        assert meta.revision == folder_hash(checkpoint)
        assert len(folder_hash(checkpoint)) == 40
        assert load(meta).mteb_model_meta.revision == meta.revision

    def test_two_checkpoints_of_the_same_name(self, checkpoint: Path, tmp_path: Path, texts: list[str]) -> None:
        other = tmp_path / checkpoint.name
        static_model(texts, seed=2).save_pretrained(str(other))
        first, second = model_meta(str(checkpoint)), model_meta(str(other))
        assert first.name == second.name
        assert first.revision != second.revision

    def test_a_copy_is_the_same(self, checkpoint: Path, copy: Path) -> None:
        assert model_meta(str(copy)).revision == model_meta(str(checkpoint)).revision

    def test_notes_are_no_part_of_the_model(self, checkpoint: Path, copy: Path) -> None:
        (copy / "README.md").write_text("# Read this\n", encoding="utf-8")
        (copy / "trainer_state.json").write_text("{}", encoding="utf-8")
        (copy / ".git").mkdir()
        (copy / ".git" / "HEAD").write_text("ref: refs/heads/main", encoding="utf-8")
        assert folder_hash(copy) == folder_hash(checkpoint)

    @pytest.mark.parametrize("change", ["weights", "configuration", "name of a file", "a new file"])
    def test_everything_else_is(self, checkpoint: Path, copy: Path, change: str) -> None:
        weights = next(copy.rglob("*.safetensors"))
        match change:
            case "weights":
                content = bytearray(weights.read_bytes())
                content[-1] ^= 1
                weights.write_bytes(content)
            case "configuration":
                path = copy / "config_sentence_transformers.json"
                path.write_text(path.read_text(encoding="utf-8").replace("cosine", "dot"), encoding="utf-8")
            case "name of a file":
                weights.rename(weights.with_name("weights.safetensors"))
            case "a new file":
                (copy / "vocab.txt").touch()
        assert folder_hash(copy) != folder_hash(checkpoint)

    def test_a_folder_that_changes_after_it_was_hashed_is_not_loaded(self, copy: Path, texts: list[str]) -> None:
        meta = model_meta(str(copy))
        static_model(texts, seed=3).save_pretrained(str(copy))
        with pytest.raises(ModelError, match="changed since this run began: start it again") as error:
            load(meta)
        assert str(copy) in message(error)

    def test_options_are_kept_with_the_model_that_has_them(self, checkpoint: Path) -> None:
        meta = model_meta(str(checkpoint))
        model, untouched = load(meta), load(meta)
        with_options(model, {})
        assert model.mteb_model_meta.experiment_kwargs is None
        with_options(model, {"passage": "sentence+context"})
        assert model.mteb_model_meta.experiment_kwargs == {"passage": "sentence+context"}
        assert untouched.mteb_model_meta.experiment_kwargs is meta.experiment_kwargs is None


class TestKinds:
    """Every kind of model that sentence-transformers saves, saved by it."""

    @pytest.mark.parametrize(
        ("kind", "model_type", "similarity"),
        [
            ("SentenceTransformer", "dense", "cosine"),
            ("SparseEncoder", "sparse", "model's own search"),
            ("MultiVectorEncoder", "late-interaction", "model's own search"),
        ],
    )
    def test_that_can_search(
        self, kind: str, model_type: str, similarity: str, tmp_path: Path, texts: list[str]
    ) -> None:
        meta = model_meta(str(save_tiny(kind, tmp_path / "model", texts)))
        assert meta.model_type == [model_type]
        scores, task = evaluated(load(meta))
        assert 0 < scores["map"] < 1
        assert (task.signature["similarity"], task.signature["depth"]) == (similarity, "full")
        assert (task.signature["model"], task.signature["revision"]) == ("local/model", meta.revision)

    def test_cross_encoder(self, tmp_path: Path, texts: list[str]) -> None:
        folder = save_tiny("CrossEncoder", tmp_path / "model", texts)
        for saved in (folder, tmp_path / "model-transformers"):  # by sentence-transformers, and by transformers
            meta = model_meta(str(saved))
            assert meta.model_type == ["cross-encoder"]
            with pytest.raises(RequestError, match="--rerank RUN --top-k K") as error:
                evaluated(load(meta))
            assert message(error).startswith(f"local/{saved.name} is a cross-encoder")

    def test_what_transformers_saved_is_dense(self, tmp_path: Path, texts: list[str]) -> None:
        save_tiny("SentenceTransformer", tmp_path / "model", texts)
        meta = model_meta(str(tmp_path / "model-transformers"))
        assert meta.model_type == ["dense"]
        assert evaluated(load(meta))[0]["map"] == evaluated(load(model_meta(str(tmp_path / "model"))))[0]["map"]


def exact_ranks(scores: NDArray[np.float64], collection: Collection) -> list[int]:
    """Ranks of the one relevant passage of each German query in the English pool; no two scores are equal."""
    judgments = collection.queries["de"].judgments
    english = judgments.part == collection.part_index("en")
    target = scores[judgments.query[english], judgments.passage[english]]
    above = (scores[judgments.query[english]] > target[:, None]).sum(axis=1)
    return [1 + int(count) for count in above]


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_the_similarity_that_a_folder_was_saved_with(
    name: str, tmp_path: Path, demo: Collection, texts: list[str]
) -> None:
    saved = static_model(texts, similarity_fn_name=name)
    saved.save_pretrained(str(tmp_path))
    _, task = evaluated(load(model_meta(str(tmp_path))))
    queries = saved.encode(list(demo.queries["de"].texts)).astype(np.float64)
    passages = saved.encode([text.strip() for text in demo.passages["en"].texts]).astype(np.float64)
    difference = queries[:, None] - passages[None]
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(passages, axis=1)
    scores = {
        "cosine": queries @ passages.T / lengths,
        "dot": queries @ passages.T,
        "euclidean": -np.sqrt((difference**2).sum(axis=2)),
        "manhattan": -np.abs(difference).sum(axis=2),
    }[name]
    assert task.tables["test", "de-en"]["ranks"].combine_chunks().flatten().to_pylist() == exact_ranks(scores, demo)
    assert task.signature["similarity"] == (name if name in {"cosine", "dot"} else "model")


class TestPrompts:
    def test_change_the_numbers_and_stand_in_the_signature(
        self, tmp_path: Path, demo: Collection, texts: list[str]
    ) -> None:
        prompts = {"query": "question: ", "document": "answer in the text: "}
        prompted, plain = static_model(texts, prompts=prompts), static_model(texts)
        prompted.save_pretrained(str(tmp_path / "prompted"))
        plain.save_pretrained(str(tmp_path / "plain"))
        with_prompts, task = evaluated(load(model_meta(str(tmp_path / "prompted"))))
        without, plain_task = evaluated(load(model_meta(str(tmp_path / "plain"))))
        assert task.signature["prompts"] == prompts
        assert plain_task.signature["prompts"] == {"query": "", "document": ""}
        assert with_prompts["map"] != without["map"]
        # What the model read is the prompt and the text, in one string.
        queries = plain.encode([prompts["query"] + text for text in demo.queries["de"].texts])
        passages = plain.encode([prompts["document"] + text.strip() for text in demo.passages["en"].texts])
        scores = plain.similarity(queries, passages).numpy().astype(np.float64)
        assert task.tables["test", "de-en"]["ranks"].combine_chunks().flatten().to_pylist() == exact_ranks(scores, demo)

    def test_of_a_multi_vector_model(self, tmp_path: Path, texts: list[str]) -> None:
        folder = save_tiny("MultiVectorEncoder", tmp_path / "model", texts)
        path = folder / "config_sentence_transformers.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["prompts"] = {"query": "question: ", "document": "answer: "}
        path.write_text(json.dumps(config), encoding="utf-8")
        _, task = evaluated(load(model_meta(str(folder))))
        assert task.signature["prompts"] == config["prompts"]


class TestBrokenFolders:
    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError) as error:
            model_meta(str(tmp_path))
        assert message(error) == f"{tmp_path} holds no model: neither modules.json nor config.json is in it"

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_configuration_that_is_no_object(self, copy: Path, content: str) -> None:
        path = copy / "config_sentence_transformers.json"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ModelError, match="not a JSON") as error:
            model_meta(str(copy))
        assert message(error).startswith(str(path))

    def test_unknown_type(self, copy: Path) -> None:
        path = copy / "config_sentence_transformers.json"
        path.write_text('{"model_type": "TripleEncoder"}', encoding="utf-8")
        with pytest.raises(ModelError, match="unknown model type 'TripleEncoder'; known: SentenceTransformer") as error:
            model_meta(str(copy))
        assert message(error).startswith(str(path))

    @pytest.mark.parametrize("damage", ["weights cut off", "weights missing", "modules cut off"])
    def test_damage_that_shows_on_loading(self, copy: Path, damage: str) -> None:
        weights = next(copy.rglob("*.safetensors"))
        match damage:
            case "weights cut off":
                weights.write_bytes(weights.read_bytes()[:1000])
            case "weights missing":
                weights.unlink()
            case "modules cut off":
                (copy / "modules.json").write_text("[{", encoding="utf-8")
        with pytest.raises(ModelError) as error:
            load(model_meta(str(copy)))
        assert message(error).startswith("cannot load local/checkpoint: ")


def test_a_saved_model_encodes_as_before(checkpoint: Path, demo: Collection) -> None:
    """The wrapper that we load is the one that mteb makes of the model itself."""
    texts = list(demo.queries["de"].texts)
    original = SentenceTransformer(str(checkpoint), device="cpu").encode(texts)
    wrapped: Any = load(model_meta(str(checkpoint)), device="cpu")
    assert (wrapped.model.encode(texts) == original).all()
    assert str(wrapped.model.device) == "cpu"
