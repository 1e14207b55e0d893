"""What is loaded is what was hashed, through links too; code that comes with a model runs only where it is trusted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mteb.models.model_implementations import MODEL_REGISTRY

from helpers import WordCounts, meta_of, registered, static_model
from hybrid_bench.engine.models import folder_hash, given, load, model_meta, weights_hash
from hybrid_bench.errors import ModelError, RequestError

TEXTS = ["the cat runs", "a dog"]
OWN_CODE = """
from pathlib import Path
Path({mark!r}).write_text("this ran")
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
class Own(StaticEmbedding):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint"
    static_model(TEXTS, dimension=8).save_pretrained(str(path))
    return path


@pytest.fixture
def linked(folder: Path, tmp_path: Path) -> Path:
    """The same model, its folder of weights a link to another place."""
    modules = json.loads((folder / "modules.json").read_text())
    inside = folder / "weights"
    for module in modules:
        old = folder / module["path"]
        inside.mkdir(exist_ok=True)
        for name in ("model.safetensors", "tokenizer.json"):
            if (old / name).is_file():
                (old / name).rename(inside / name)
        module["path"] = "weights"
    (folder / "modules.json").write_text(json.dumps(modules))
    shutil.move(inside, tmp_path / "elsewhere")
    inside.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    return folder


def test_weights_behind_a_link_decide_the_revision(linked: Path, tmp_path: Path) -> None:
    before = model_meta(str(linked))
    first = load(before).model.encode(TEXTS)  # type: ignore[union-attr] # mteb's wrapper
    static_model(TEXTS, dimension=8, seed=1).save_pretrained(str(tmp_path / "other"))
    (other,) = (tmp_path / "other").rglob("model.safetensors")
    shutil.copyfile(other, tmp_path / "elsewhere" / "model.safetensors")
    after = model_meta(str(linked))
    assert after.revision != before.revision
    assert (load(after).model.encode(TEXTS) != first).any()  # type: ignore[union-attr] # mteb's wrapper
    with pytest.raises(ModelError, match="changed since this run began"):
        load(before)


def test_a_folder_behind_a_link_has_the_hash_of_its_files(linked: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(linked, tmp_path / "copy", symlinks=False)
    assert folder_hash(linked) == folder_hash(copy)


@pytest.mark.parametrize("target", [".", "..", "weights"])
def test_a_link_that_goes_round_is_refused(linked: Path, target: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "again").symlink_to(linked / target, target_is_directory=True)
    with pytest.raises(ModelError, match="is a link to a folder that it is in: remove it") as error:
        model_meta(str(linked))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x" * 249, "é" * 125, "x" * 255])
def test_a_name_too_long_for_a_folder_of_results(folder: Path, name: str) -> None:
    long = folder.rename(folder.with_name(name))
    with pytest.raises(ModelError, match=r"its name is too long .*: rename it$"):
        model_meta(str(long))


@pytest.mark.parametrize("name", ["x" * 300, "./" + "x" * 5000, "~no-such-user-here/model", "nul\0byte"])
def test_a_name_that_can_be_no_folder(name: str) -> None:
    with pytest.raises(RequestError, match="no model"):
        model_meta(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize("what", [".", "modules.json"])
def test_a_folder_that_may_not_be_read(folder: Path, what: str) -> None:
    (folder / what).chmod(0)
    try:
        with pytest.raises(ModelError, match="Permission denied"):
            model_meta(str(folder))
    finally:
        (folder / what).chmod(0o700)


# -- code that comes with a model -----------------------------------------------------------------------------------


@pytest.fixture
def own_code(folder: Path, tmp_path: Path) -> Path:
    """A model folder with a module of its own, which leaves a mark when it is imported."""
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "own_code.Own"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "own_code.py").write_text(OWN_CODE.format(mark=str(tmp_path / "mark")))
    return folder


def test_a_module_of_the_folder_runs_only_where_it_is_trusted(
    own_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sentence-transformers 6 is the first that refuses it; see the bound in pyproject.toml."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    meta = model_meta(str(own_code))
    with pytest.raises(ModelError) as error:
        load(meta, "cpu")
    assert str(error.value) == (
        "local/checkpoint brings code of its own, which would run on this machine: add --trust-remote-code if you "
        "trust who made it"
    )
    assert not (tmp_path / "mark").exists()
    model: Any = load(meta, "cpu", trust_remote_code=True)
    assert (tmp_path / "mark").exists()
    assert model.model.encode(TEXTS).shape == (2, 8)
    assert model.mteb_model_meta.revision == meta.revision


def test_mteb_models_with_code_are_refused_before_anything_is_fetched() -> None:
    """Whatever mteb's registry marks, and without the network: nothing is looked up."""
    marked = [name for name, meta in MODEL_REGISTRY.items() if meta.loader_kwargs.get("trust_remote_code")]
    assert len(marked) > 50
    for name in marked:
        with pytest.raises(ModelError, match="add --trust-remote-code"):
            load(model_meta(name))


def test_a_loader_that_trusts_by_itself_is_refused_too(
    own_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of mteb's pass ``trust_remote_code=True`` where no metadata say so."""
    from sentence_transformers import SentenceTransformer

    def trusting(*_: Any, **__: Any) -> Any:
        return SentenceTransformer(str(own_code), device="cpu", trust_remote_code=True)

    name = registered(monkeypatch, "tests/trusting", trusting)
    with pytest.raises(ModelError, match="tests/trusting brings code of its own"):
        load(model_meta(name))
    assert not (tmp_path / "mark").exists()


# -- models that are given as objects ---------------------------------------------------------------------------------


def test_a_model_object_gets_a_name_and_a_revision_of_its_weights() -> None:
    model = static_model(TEXTS, dimension=8)
    first, second = given(model, "org/mine"), given(model, "mine")
    assert (first.name, second.name) == ("org/mine", "local/mine")
    assert first.meta.revision == second.meta.revision
    assert len(str(first.meta.revision)) == 40


@pytest.mark.parametrize("change", ["weight", "prompts", "similarity", "dtype", "words"])
def test_another_state_has_another_revision(change: str) -> None:
    model = static_model(TEXTS, dimension=8)
    before = weights_hash(given(model, "a").model)
    assert weights_hash(given(static_model(TEXTS, dimension=8), "a").model) == before
    match change:
        case "weight":
            with torch.no_grad():
                next(iter(model.parameters()))[0, 0] += 1
        case "prompts":
            model.prompts = {"query": "Q: ", "document": ""}
        case "similarity":
            model.similarity_fn_name = "dot"
        case "dtype":
            model = model.bfloat16()
        case "words":
            model = static_model([text[::-1] for text in TEXTS], dimension=8)
    assert weights_hash(given(model, "a").model) != before


def test_an_encoder_keeps_the_name_and_revision_that_it_has() -> None:
    model = WordCounts()
    assert (given(model).name, given(model).meta.revision) == ("tests/word-counts", "1")
    assert given(model, "other/name").name == "other/name"


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(RequestError, match="SentenceTransformer has no name to save its results under: give it one"):
        given(static_model(TEXTS, dimension=8))
    model = WordCounts()
    model.mteb_model_meta = meta_of("a/b").model_copy(update={"revision": None})
    with pytest.raises(RequestError, match="a/b has neither weights nor a revision"):
        given(model)
    with pytest.raises(RequestError, match="object is no model"):
        given(object(), "a/b")
