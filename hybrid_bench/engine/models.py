"""Models by name: what stands behind it, under which name and revision its results are saved, and how it is loaded.

A name is one of

- an embedded model, ``hybrid_bench/bm25`` or ``hybrid_bench/char-ngram``;
- a folder that sentence-transformers saved (dense, sparse, multi-vector, or a cross-encoder);
- a name in mteb's registry, which decides loader, prompts and revision;
- any other name on the model hub, which mteb loads through sentence-transformers.

A folder has no revision of its own. It gets a hash over its files, so that two checkpoints never share a result.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_bench.data.files import expanded
from hybrid_bench.data.guarded import read_json
from hybrid_bench.data.trained import RECORD
from hybrid_bench.engine.lexical import EMBEDDED
from hybrid_bench.errors import HybridBenchError, ModelError, RequestError, first_line
from hybrid_bench.languages import did_you_mean

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.models.models_protocols import MTEBModels

__all__ = ["folder_hash", "load", "model_meta", "offline_if_unreachable", "with_options"]

#: What a folder holds besides the model: changing it does not change an embedding.
_NOT_THE_MODEL = {
    *("README.md", ".gitattributes", ".gitignore", "optimizer.pt", "scheduler.pt", "trainer_state.json"),
    RECORD,
}

#: Class in sentence-transformers and wrapper in mteb, by the kind that a saved folder says it is.
_KINDS = {
    "SentenceTransformer": ("SentenceTransformer", "SentenceTransformerEncoderWrapper", "dense"),
    "SparseEncoder": ("SparseEncoder", "SparseEncoderWrapper", "sparse"),
    "MultiVectorEncoder": ("MultiVectorEncoder", "MultiVectorWrapper", "late-interaction"),
    "CrossEncoder": ("CrossEncoder", "CrossEncoderWrapper", "cross-encoder"),
}


def folder_hash(folder: Path) -> str:
    """Hash over the files of a saved model (paths and contents), 40 hex digits; notes and optimiser states left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.is_file() or path.name in _NOT_THE_MODEL or any(part.startswith(".") for part in relative.parts):
            continue
        digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:40]


def model_meta(name: str) -> ModelMeta:
    """What mteb needs to know about a model, without loading it.

    Args:
        name: See the module.

    Returns:
        Its metadata, with a name and a revision under which results can be saved.

    Raises:
        RequestError: If there is no such model, as far as can be told without the network.
        ModelError: If a folder does not hold a model.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    if name in EMBEDDED:
        return EMBEDDED[name]()
    folder = expanded(name)
    if folder.is_dir():
        return _folder_meta(folder)
    if name in MODEL_REGISTRY:
        meta: ModelMeta = MODEL_REGISTRY[name]
        return meta
    if name.startswith(("/", "./", "../", "~")) or "/" not in name:
        known = [*EMBEDDED, *MODEL_REGISTRY]
        short = [candidate for candidate in known if candidate.split("/")[-1].casefold() == name.casefold()]
        near = f"did you mean '{short[0]}'?" if short else _near(name, known)
        raise RequestError(f"no model '{name}': there is no such folder, and mteb knows no model of this name; {near}")
    if name.startswith("hybrid_bench/"):
        raise RequestError(f"no embedded model '{name}': {did_you_mean(name, EMBEDDED)}")
    return _hub_meta(name)


def load(meta: ModelMeta, device: str | None = None) -> MTEBModels:
    """Load a model.

    Args:
        meta: From `model_meta`.
        device: E.g. ``cpu`` or ``cuda``; None for the loader's choice.

    Raises:
        ModelError: If it cannot be loaded: not on disk and no network, a package missing, or a broken file.
    """
    try:
        with offline_if_unreachable():
            model = meta.load_model(device=device)
    except HybridBenchError:
        raise
    except Exception as error:  # whatever a loader of mteb's or of the model's own code may raise
        hint = "" if "folder" in meta.loader_kwargs else " (without network, give the folder of a saved model instead)"
        raise ModelError(f"cannot load {meta.name}: {first_line(error)}{hint}") from error
    return model


def with_options(model: Any, options: Mapping[str, Any]) -> None:
    """Write options that change texts, pool or judgments into a model's metadata.

    mteb saves the results of a model with options in a folder of their own, so they never share a cached score with
    those without.
    """
    if options:
        meta = model.mteb_model_meta
        merged = {**(meta.experiment_kwargs or {}), **options}
        model.mteb_model_meta = meta.model_copy(update={"experiment_kwargs": merged})


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Where the hub's name does not resolve, look in the local cache only, rather than try again for a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    behind_proxy = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if constants.HF_HUB_OFFLINE or behind_proxy or host is None:
        yield
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _near(name: str, known: list[str]) -> str:
    clause = did_you_mean(name, known)
    return clause if clause.startswith("did") else "`hybrid-bench models` lists them"


def _folder_meta(folder: Path) -> ModelMeta:
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    kind, config = _kind_of(folder)
    similarity = str(config.get("similarity_fn_name"))
    known = {function.value: function for function in ScoringFunction}
    return ModelMeta.create_empty(
        overwrites={
            "name": f"local/{folder.resolve().name}",
            "revision": folder_hash(folder),
            "loader": _load_folder,
            "loader_kwargs": {"folder": str(folder.resolve()), "kind": kind},
            "model_type": [_KINDS[kind][2]],
            "similarity_fn_name": known.get(similarity, ScoringFunction.COSINE)
            if kind == "SentenceTransformer"
            else None,
            "framework": ["Sentence Transformers", "PyTorch"],
            "open_weights": True,
        }
    )


def _kind_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """Which of `_KINDS` a folder holds, and its sentence-transformers configuration."""
    if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model: neither modules.json nor config.json is in it")
    path = folder / "config_sentence_transformers.json"
    config = _read_json(path)
    kind = config.get("model_type", "SentenceTransformer")
    if "model_type" not in config and not (folder / "modules.json").is_file():
        # Saved by transformers, or by an early sentence-transformers, which did not say what it is: told as mteb does.
        architectures = _read_json(folder / "config.json").get("architectures") or []
        if any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
            kind = "CrossEncoder"
    if kind not in _KINDS:
        raise ModelError(f"{path}: unknown model type '{kind}'; known: {', '.join(_KINDS)}")
    return kind, config


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no file."""
    try:
        value = read_json(path) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object")
    return value


def _load_folder(name: str, revision: str | None = None, device: str | None = None, **kwargs: Any) -> MTEBModels:
    """mteb's loader signature. What is loaded is what was hashed: the folder is hashed again first."""
    folder, kind = Path(kwargs.pop("folder")), kwargs.pop("kind")
    if revision != folder_hash(folder):
        raise ModelError(f"{folder} changed since this run began: start it again")
    import mteb.models.sentence_transformer_wrapper as wrappers

    class_name, wrapper_name, _ = _KINDS[kind]
    model = getattr(importlib.import_module("sentence_transformers"), class_name)(str(folder), device=device, **kwargs)
    with warnings.catch_warnings():
        # mteb's wrappers call what mteb and sentence-transformers have deprecated: no concern of who loads a model.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        wrapped: MTEBModels = getattr(wrappers, wrapper_name)(model)
    return wrapped


def _hub_meta(name: str) -> ModelMeta:
    """Metadata of a model that mteb does not know, from the hub; its revision is the commit."""
    import mteb

    try:
        with offline_if_unreachable():
            meta = mteb.get_model_meta(name, fetch_from_hf=True)
    except Exception as error:  # hub, network and parsing errors are of many kinds
        raise ModelError(f"cannot look up '{name}' on the model hub: {first_line(error)}; {_hint(name)}") from error
    if meta.loader is None or meta.revision is None:
        raise ModelError(f"no model '{name}' in mteb, on the model hub, or on disk; {_hint(name)}")
    return meta


def _hint(name: str) -> str:
    from mteb.models.model_implementations import MODEL_REGISTRY

    clause = did_you_mean(name, [*EMBEDDED, *MODEL_REGISTRY])
    return clause if clause.startswith("did") else "without network, give the folder of a saved model"
