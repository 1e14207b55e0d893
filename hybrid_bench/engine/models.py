"""Models by name: what stands behind it, under which name and revision its results are saved, and how it is loaded.

A name is one of

- an embedded model, ``hybrid_bench/bm25`` or ``hybrid_bench/char-ngram``;
- a folder that sentence-transformers saved (dense, sparse, multi-vector, or a cross-encoder);
- a name in mteb's registry, which decides loader, prompts and revision;
- any other name on the model hub, which mteb loads through sentence-transformers.

A folder has no revision of its own. It gets a hash over its files, so that two checkpoints never share a result. So
does a model that is given as an object (`given`), over its weights.

Code that comes with a model, from the hub or in its folder, is run only where the user trusts it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_bench.data.parsing import read_json
from hybrid_bench.data.training_record import RECORD
from hybrid_bench.engine.lexical import EMBEDDED
from hybrid_bench.engine.prompts import innermost
from hybrid_bench.errors import HybridBenchError, ModelError, RequestError, first_line, reason
from hybrid_bench.languages import did_you_mean

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.models.models_protocols import MTEBModels

__all__ = [
    "GivenModel",
    "check_trusted",
    "folder_hash",
    "given",
    "is_named",
    "load",
    "model_meta",
    "offline_if_unreachable",
    "weights_hash",
    "with_options",
]

#: What a folder holds besides the model: changing it does not change an embedding.
_NOT_THE_MODEL = {
    *("README.md", ".gitattributes", ".gitignore", "optimizer.pt", "scheduler.pt", "trainer_state.json"),
    RECORD,
}

#: Bytes of a folder's name: results lie in ``local__<name>``, and file systems take 255.
_LONGEST_NAME = 255 - len("local__")

#: Class in sentence-transformers and wrapper in mteb, by the kind that a saved folder says it is.
_KINDS = {
    "SentenceTransformer": ("SentenceTransformer", "SentenceTransformerEncoderWrapper", "dense"),
    "SparseEncoder": ("SparseEncoder", "SparseEncoderWrapper", "sparse"),
    "MultiVectorEncoder": ("MultiVectorEncoder", "MultiVectorWrapper", "late-interaction"),
    "CrossEncoder": ("CrossEncoder", "CrossEncoderWrapper", "cross-encoder"),
}


def folder_hash(folder: Path) -> str:
    """Hash over the files of a saved model (paths and contents), 40 hex digits; notes and optimiser states left out.

    Links are followed, as they are when the model is loaded.

    Raises:
        ModelError: If a file cannot be read, or a link leads back to a folder that it is in.
    """
    digest = hashlib.sha256()
    try:
        for relative in sorted(_files_in(folder, Path(), ())):
            path = folder / relative
            digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise ModelError(f"cannot read {error.filename or folder} ({reason(error)})") from error
    return digest.hexdigest()[:40]


def _files_in(folder: Path, below: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The files that belong to a model, as paths below its folder; `above` are the real folders that this one is in."""
    here = (folder / below).resolve()
    if here in above:
        raise ModelError(f"{folder / below} is a link to a folder that it is in: remove it")
    for path in (folder / below).iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_in(folder, below / path.name, (*above, here))
        elif path.is_file() and path.name not in _NOT_THE_MODEL:
            yield below / path.name


def model_meta(name: str) -> ModelMeta:
    """What mteb needs to know about a model, without loading it.

    Args:
        name: See the module.

    Returns:
        Its metadata, with a name and a revision under which results can be saved.

    Raises:
        RequestError: If there is no such model, as far as can be told without the network.
        ModelError: If a folder does not hold a model, or cannot be read.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    if name in EMBEDDED:
        return EMBEDDED[name]()
    if (folder := _folder_of(name)) is not None:
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


def load(meta: ModelMeta, device: str | None = None, *, trust_remote_code: bool = False) -> MTEBModels:
    """Load a model.

    Args:
        meta: From `model_meta`.
        device: E.g. ``cpu`` or ``cuda``; None for the loader's choice.
        trust_remote_code: Whether code that comes with the model may be run.

    Raises:
        ModelError: If it cannot be loaded: not on disk and no network, a package missing, a broken file, or code that
            nobody trusted.
    """
    check_trusted(meta, trust_remote_code)
    if trust_remote_code and meta.loader is _load_folder:
        meta = meta.model_copy(update={"loader_kwargs": {**meta.loader_kwargs, "trust_remote_code": True}})
    try:
        with offline_if_unreachable(), nullcontext() if trust_remote_code else _no_remote_code(str(meta.name)):
            model = meta.load_model(device=device)
    except HybridBenchError:
        raise
    except Exception as error:  # whatever a loader of mteb's or of the model's own code may raise
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise _untrusted(str(meta.name)) from error
        hint = "" if "folder" in meta.loader_kwargs else " (without network, give the folder of a saved model instead)"
        raise ModelError(f"cannot load {meta.name}: {first_line(error)}{hint}") from error
    return model


def check_trusted(meta: ModelMeta, trust_remote_code: bool) -> None:
    """Refuse, before anything is loaded, a model that mteb loads with code from the hub, unless that is trusted.

    Raises:
        ModelError: If it is.
    """
    if meta.loader_kwargs.get("trust_remote_code") and not trust_remote_code:
        raise _untrusted(str(meta.name))


def _untrusted(name: str) -> ModelError:
    return ModelError(
        f"{name} brings code of its own, which would run on this machine: add --trust-remote-code if you trust who "
        "made it"
    )


@contextmanager
def _no_remote_code(name: str) -> Iterator[None]:
    """While this is open, transformers and sentence-transformers run no code that comes with a model.

    What a loader of mteb's passes for ``trust_remote_code`` cannot be seen from outside, so the one function is closed
    that all such code comes through.
    """
    from transformers import dynamic_module_utils

    def refuse(*_: Any, **__: Any) -> Any:
        raise _untrusted(name)

    original = dynamic_module_utils.get_cached_module_file
    dynamic_module_utils.get_cached_module_file = refuse
    try:
        yield
    finally:
        dynamic_module_utils.get_cached_module_file = original


@dataclass(frozen=True)
class GivenModel:
    """A model that is in memory already, with the name and revision under which its results are saved.

    Attributes:
        model: As mteb wraps it, its metadata complete.
    """

    model: Any

    @property
    def meta(self) -> ModelMeta:
        """Its metadata."""
        meta: ModelMeta = self.model.mteb_model_meta
        return meta

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.meta.name)


def given(model: Any, name: str | None = None) -> GivenModel:
    """A model object, ready to be run.

    Args:
        model: A model of sentence-transformers', or any that mteb evaluates.
        name: What to call it, ``organisation/model``, or a name alone, which becomes ``local/<name>``; None for the
            name that it has.

    Raises:
        RequestError: If it has no name, if nothing tells one state of it from another, or if it is no model.
    """
    wrapped = _as_mteb_wraps(model)
    meta = getattr(wrapped, "mteb_model_meta", None)
    if meta is None:
        raise RequestError(
            f"{type(model).__name__} is no model: give a name, a folder, a model of sentence-transformers', or one of "
            "mteb's, with `mteb_model_meta`"
        )
    if name is None and not is_named(meta):
        raise RequestError(f"{type(model).__name__} has no name to save its results under: give it one, name='...'")
    called = str(name or meta.name)
    revision = weights_hash(wrapped) if wrapped is not model or _unknown_revision(meta) else meta.revision
    if revision is None:
        raise RequestError(
            f"{called} has neither weights nor a revision, so its results could be those of an earlier state: set "
            "mteb_model_meta.revision"
        )
    named = called if "/" in called else f"local/{called}"
    wrapped.mteb_model_meta = meta.model_copy(update={"name": named, "revision": revision})
    return GivenModel(wrapped)


def is_named(meta: ModelMeta) -> bool:
    """Whether a model has a name that tells its results from those of another."""
    return meta.name is not None and "/" in meta.name and not meta.name.startswith("no_model_name/")


def _unknown_revision(meta: ModelMeta) -> bool:
    return meta.revision in (None, "no_revision_available")


def _as_mteb_wraps(model: Any) -> Any:
    """A model of sentence-transformers' in mteb's wrapper; any other as it is."""
    import mteb.models.sentence_transformer_wrapper as wrappers
    import sentence_transformers

    for class_name, wrapper_name, _ in _KINDS.values():
        if isinstance(model, getattr(sentence_transformers, class_name)):
            with _deprecations_aside():
                return getattr(wrappers, wrapper_name)(model)
    return model


def weights_hash(model: Any) -> str | None:
    """Hash over all that a torch model computes with, 40 hex digits; None for what is no torch model.

    That is its parameters and buffers, its modules as they print themselves, its tokenizers, and the prompts and
    settings of sentence-transformers.
    """
    import torch

    module = getattr(innermost(model), "model", None)
    if not isinstance(module, torch.nn.Module):
        return None
    digest = hashlib.sha256(str(module).encode())
    for setting in ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "max_seq_length"):
        digest.update(f"{setting} {getattr(module, setting, None)}\0".encode())
    for part in module.modules():
        tokenizer: Any = getattr(part, "tokenizer", None)
        fast: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if hasattr(fast, "to_str"):
            digest.update(fast.to_str().encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:40]


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


@contextmanager
def _deprecations_aside() -> Iterator[None]:
    """mteb's wrappers call what mteb and sentence-transformers have deprecated: no concern of who loads a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _folder_of(name: str) -> Path | None:
    """The folder that a name stands for, if there is one."""
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except PermissionError as error:
        raise ModelError(f"cannot read {name} ({reason(error)})") from error
    except (OSError, RuntimeError):  # longer than any name can be, or the home of a user who is not there
        return None


def _near(name: str, known: list[str]) -> str:
    clause = did_you_mean(name, known)
    return clause if clause.startswith("did") else "`hybrid-bench models` lists them"


def _folder_meta(folder: Path) -> ModelMeta:
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    kind, config = _kind_of(folder)
    called = folder.resolve().name
    if len(called.encode()) > _LONGEST_NAME:
        raise ModelError(
            f"{folder}: its name is too long for a folder of results, {len(called.encode())} bytes where "
            f"{_LONGEST_NAME} are the most: rename it"
        )
    similarity = str(config.get("similarity_fn_name"))
    known = {function.value: function for function in ScoringFunction}
    return ModelMeta.create_empty(
        overwrites={
            "name": f"local/{called}",
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
    try:
        there = [(folder / name).is_file() for name in ("modules.json", "config.json")]
    except OSError as error:
        raise ModelError(f"cannot read {folder} ({reason(error)})") from error
    if not any(there):
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
    with _deprecations_aside():
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
