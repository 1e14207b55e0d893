"""The model that a configuration asks for: loaded, or made from nothing with a tokenizer trained on the sources."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from sentence_transformers.util import load_file_path
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, DistilBertConfig, DistilBertModel, PreTrainedTokenizerFast

from hybrid_bench.data.files import expanded
from hybrid_bench.data.parsing import read_json
from hybrid_bench.engine.models import offline_if_unreachable
from hybrid_bench.errors import HybridBenchError, ModelError, RequestError, first_line, how_to_install
from hybrid_bench.training.config import LoraConfig, ModelConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from hybrid_bench.training.texts import ParallelTexts

__all__ = [
    "DEFAULT_LENGTH",
    "DEFAULT_VOCABULARY",
    "DEFAULT_WIDTH",
    "Folder",
    "add_lora",
    "build_model",
    "check_max_length",
    "check_pooling",
    "longest_text",
    "lora_config",
    "merged",
    "network_config",
    "network_without_weights",
    "texts_of",
    "train_tokenizer",
]

DEFAULT_VOCABULARY, DEFAULT_WIDTH, DEFAULT_LAYERS, DEFAULT_HEADS = 16_000, 256, 4, 4
#: Tokens of the longest text of a transformer from nothing.
DEFAULT_LENGTH = 128

#: Texts of each source, role and language that a tokenizer is trained on, at most: more change no merge that matters.
_TEXTS_FOR_TOKENIZER = 200_000
_TEXTS_AT_ONCE = 10_000
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def build_model(
    model: ModelConfig,
    texts: Callable[[], Iterable[str]],
    *,
    lora: LoraConfig | None = None,
    seed: int = 0,
    device: str | None = None,
) -> SentenceTransformer:
    """Load or make the model of a training.

    Args:
        model: What is asked for.
        texts: Gives the texts that a tokenizer is trained on; called for models from nothing only.
        lora: Adapters to add.
        seed: Of weights made here.
        device: Where the model is put; None for the best there is.

    Raises:
        ModelError: If it cannot be loaded.
        RequestError: If the model does not have what is asked of it.
    """
    torch.manual_seed(seed)
    if model.kind == "pretrained":
        made = _pretrained(model, device)
    elif model.kind == "static":
        tokenizer = train_tokenizer(texts(), model.vocabulary or DEFAULT_VOCABULARY)
        made = SentenceTransformer(
            modules=[StaticEmbedding(tokenizer, embedding_dim=model.width or DEFAULT_WIDTH)], device=device
        )
    else:
        made = _from_nothing(model, train_tokenizer(texts(), model.vocabulary or DEFAULT_VOCABULARY), device)
    if model.normalize and not any(isinstance(module, Normalize) for module in made):
        made.append(Normalize())
    made.prompts.update(model.prompts)
    _freeze_unused(made)
    if lora is not None:
        add_lora(made, lora, model.name)
    return made


def _freeze_unused(model: SentenceTransformer) -> None:
    """Leave BERT's own pooler out of the training, which no embedding from token vectors depends on.

    It would get no gradient. FSDP could not go on from a checkpoint then: the optimiser has no state of it.
    """
    if any(isinstance(module, Pooling) for module in model):
        for name, weight in model.named_parameters():
            if ".pooler." in name:
                weight.requires_grad_(False)


def _pretrained(model: ModelConfig, device: str | None) -> SentenceTransformer:
    kwargs: dict[str, Any] = {"dtype": getattr(torch, model.dtype or "float32")}
    if model.attention is not None:
        kwargs["attn_implementation"] = model.attention
    folder = expanded(model.name)
    if model.name.startswith(("/", "./", "../", "~")) and not folder.is_dir():
        raise RequestError(f"model.name: there is no folder {folder}")
    name = str(folder.resolve()) if folder.is_dir() else model.name
    try:
        with offline_if_unreachable():
            made = SentenceTransformer(
                name,
                revision=model.revision,
                trust_remote_code=model.trust_remote_code,
                model_kwargs=kwargs,
                device=device,
            )
    except HybridBenchError:
        raise
    except Exception as error:  # whatever transformers, the hub or the model's own code may raise
        raise ModelError(f"cannot load {model.name}: {first_line(error)}{_without_network(folder)}") from error
    tokenizer = made.tokenizer
    if getattr(tokenizer, "pad_token", "") is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # decoders have none of their own; padding is masked in any case
    if model.max_length is not None:
        check_max_length(model, made.config)
        made.max_seq_length = model.max_length
    if model.pooling is not None:
        places = [place for place, module in enumerate(made) if isinstance(module, Pooling)]
        if len(places) != 1:
            raise _no_pooling(model)
        old = made[places[0]]
        made[places[0]] = Pooling(
            old.embedding_dimension, pooling_mode=model.pooling, include_prompt=old.include_prompt
        )
    return made


def check_max_length(model: ModelConfig, network: Any) -> None:
    """Refuse texts that are longer than the network, of which this is the configuration, has positions."""
    longest = getattr(network, "max_position_embeddings", None)
    if model.max_length is not None and longest is not None and model.max_length > longest:
        raise RequestError(f"model.max_length = {model.max_length}: {model.name} has {longest} positions")


def _no_pooling(model: ModelConfig) -> RequestError:
    return RequestError(f'model.pooling = "{model.pooling}": {model.name} has no pooling to set; leave it out')


class Folder(NamedTuple):
    """What a saved model's folder, here or on the Hub, says of its modules.

    Attributes:
        kinds: The names of the modules' classes; empty of a model of transformers, which is given its modules.
        width: Dimension of the embeddings, where a dense layer decides it.
    """

    kinds: tuple[str, ...]
    width: int | None

    @property
    def has_transformer(self) -> bool:
        """Whether its first module is a network of transformers."""
        return not self.kinds or self.kinds[0] == "Transformer"

    @classmethod
    def of(cls, name: str, where: str, revision: str | None = None) -> Folder:
        """Read it.

        Args:
            name: Folder, or name on the Hub.
            where: The setting that names it.
            revision: Commit or tag on the Hub.

        Raises:
            RequestError: There is no such folder.
            ModelError: There is no such model, or it cannot be read.
        """
        folder = Path(name).expanduser()
        if name.startswith(("/", "./", "../", "~")) and not folder.is_dir():
            raise RequestError(f"{where}: there is no folder {folder}")
        at = str(folder) if folder.is_dir() else name
        try:
            with offline_if_unreachable():
                modules = load_file_path(at, "modules.json", revision=revision)
                if modules is None:
                    if load_file_path(at, "config.json", revision=revision) is None:
                        raise FileNotFoundError("it has neither modules.json nor config.json")
                    return cls((), None)
                width = None
                found = read_json(Path(modules))
                for each in found:
                    if each["type"].endswith(".Dense"):
                        settings = load_file_path(at, "config.json", each["path"], revision=revision)
                        width = int(read_json(Path(str(settings)))["out_features"])
                return cls(tuple(each["type"].rpartition(".")[2] for each in found), width)
        except Exception as error:  # the hub's errors are of many kinds
            raise ModelError(
                f"cannot load {where} {name}: {first_line(error)} (without network, give the folder of a saved model"
                " instead)"
            ) from error


def check_pooling(model: ModelConfig, folder: Folder) -> None:
    """Refuse to set the pooling of a model that has none, or several."""
    if model.pooling is not None and folder.kinds and folder.kinds.count("Pooling") != 1:
        raise _no_pooling(model)


# ---------------------------------------------------------------------------------------------------------------------
# From nothing
# ---------------------------------------------------------------------------------------------------------------------


def texts_of(sources: Iterable[ParallelTexts], most: int = _TEXTS_FOR_TOKENIZER) -> Iterator[str]:
    """Queries and passages of sources, of each language the same number at most."""
    for source in sources:
        for columns in (source.queries, source.passages):
            for code in sorted(columns):
                column = columns[code]
                for start in range(0, min(most, len(column)), _TEXTS_AT_ONCE):
                    rows = column[start : min(start + _TEXTS_AT_ONCE, most)]
                    yield from (text for text in rows if text)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer, which has a token for every text in every script.

    Args:
        texts: What merges are learned from.
        vocabulary: Number of tokens, at least the 256 bytes and five special ones; fewer where the texts have no more
            merges.

    Raises:
        RequestError: If the vocabulary is too small.
    """
    smallest = len(pre_tokenizers.ByteLevel.alphabet()) + len(_SPECIAL)
    if vocabulary < smallest:
        raise RequestError(f"model.vocabulary = {vocabulary}: {smallest} tokens are needed for bytes alone")
    tokenizer = Tokenizer(models.BPE(unk_token=_SPECIAL["unk"]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def scratch_config(model: ModelConfig, vocabulary: int) -> DistilBertConfig:
    """The configuration of a transformer from nothing: DistilBERT's, which is BERT without what goes unused."""
    width = model.width or DEFAULT_WIDTH
    return DistilBertConfig(
        vocab_size=vocabulary,
        dim=width,
        hidden_dim=4 * width,
        n_layers=model.layers or DEFAULT_LAYERS,
        n_heads=model.heads or DEFAULT_HEADS,
        max_position_embeddings=model.max_length or DEFAULT_LENGTH,
        architectures=["DistilBertModel"],
    )


def _from_nothing(model: ModelConfig, tokenizer: Tokenizer, device: str | None) -> SentenceTransformer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(_SPECIAL[name], tokenizer.token_to_id(_SPECIAL[name])) for name in ("cls", "sep")],
    )
    length = model.max_length or DEFAULT_LENGTH
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # has no types
        tokenizer_object=tokenizer,
        model_max_length=length,
        **{f"{name}_token": token for name, token in _SPECIAL.items()},
    )
    network = DistilBertModel(scratch_config(model, tokenizer.get_vocab_size()))
    # The module takes a folder, and nothing else. transformers would save the model in one of several processes only.
    with tempfile.TemporaryDirectory() as folder:
        fast.save_pretrained(folder)
        network.config.save_pretrained(folder)
        save_file(network.state_dict(), Path(folder, "model.safetensors"), metadata={"format": "pt"})
        module = Transformer(folder, max_seq_length=length)
    module.auto_model.config._name_or_path = ""  # the folder is gone
    pooling = Pooling(module.get_embedding_dimension(), pooling_mode=model.pooling or "mean")
    return SentenceTransformer(modules=[module, pooling], device=device)


def network_config(model: ModelConfig) -> PretrainedConfig:
    """The configuration of a model's transformer, read without its weights.

    Raises:
        ModelError: If it cannot be read.
        RequestError: If the model is static: it has none.
    """
    if model.kind == "static":
        raise RequestError('model.kind = "static" has no transformer')
    if model.kind == "transformer":
        return scratch_config(model, model.vocabulary or DEFAULT_VOCABULARY)
    folder = expanded(model.name)
    subfolder = ""
    modules = folder / "modules.json"
    try:
        if modules.is_file():
            subfolder = read_json(modules)[0]["path"]
        name = str(folder / subfolder) if folder.is_dir() else model.name
        with offline_if_unreachable():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                name, revision=model.revision, trust_remote_code=model.trust_remote_code
            )
    except Exception as error:  # the hub's and transformers' errors are of many kinds
        told = f"cannot read the configuration of {model.name}: {first_line(error)}{_without_network(folder)}"
        raise ModelError(told) from error
    return config


def network_without_weights(
    network: PretrainedConfig,
    *,
    dtype: torch.dtype = torch.float32,
    attention: str | None = None,
    lora: LoraConfig | None = None,
    name: str = "",
) -> torch.nn.Module:
    """A network of which every tensor has a shape and no data.

    Args:
        network: Its configuration.
        dtype: Of the weights.
        attention: Implementation of attention; None for transformers' choice.
        lora: Adapters to add.
        name: What to call it in an error.

    Raises:
        RequestError: The adapters cannot be added.
    """
    with torch.device("meta"):
        model = AutoModel.from_config(  # type: ignore[no-untyped-call] # has no types
            network, dtype=dtype, attn_implementation=attention
        )
        if lora is not None:
            try:
                model.add_adapter(lora_config(lora))
            except (AttributeError, ValueError) as error:
                raise RequestError(f"[lora] cannot be added to {name}: {first_line(error)}") from error
            trained_in_float32(model)
    made: torch.nn.Module = model
    return made


def _without_network(folder: Path) -> str:
    """What may help where a name was given, and not a folder."""
    return "" if folder.is_dir() else " (without network, give the folder of a saved model instead)"


def longest_text(model: ModelConfig) -> int | None:
    """Tokens of the longest text that a saved model takes, as its folder says; None if it does not, or is none."""
    path = expanded(model.name) / "sentence_bert_config.json"
    if model.kind != "pretrained" or not path.is_file():
        return DEFAULT_LENGTH if model.kind == "transformer" else None
    try:
        length = read_json(path).get("max_seq_length")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read {path}: {first_line(error)}") from error
    return length if isinstance(length, int) else None


# ---------------------------------------------------------------------------------------------------------------------
# Adapters
# ---------------------------------------------------------------------------------------------------------------------


def lora_config(lora: LoraConfig) -> Any:
    """peft's configuration of the adapters.

    Raises:
        RequestError: If peft is not installed, or does not take an option.
    """
    try:
        import peft
    except ImportError as error:
        raise RequestError(f"[lora] needs peft, which is not installed: {how_to_install('llm')}") from error
    targets: Any = list(lora.targets)
    if targets == ["all-linear"]:
        targets = "all-linear"
    try:
        return peft.LoraConfig(
            task_type="FEATURE_EXTRACTION",
            r=lora.r,
            lora_alpha=lora.alpha,  # type: ignore[arg-type] # any number will do: it is divided by the rank
            lora_dropout=lora.dropout,
            target_modules=targets,
            **lora.options,
        )
    except (TypeError, ValueError) as error:
        raise RequestError(f"[lora.options]: {first_line(error)}") from error


def add_lora(model: SentenceTransformer, lora: LoraConfig, name: str) -> None:
    """Add adapters to a model; only they are trained from then on.

    Args:
        model: The model.
        lora: The adapters.
        name: What the model was loaded from: a model saved with its adapters says so, to be loaded again.

    Raises:
        RequestError: If peft is not installed, or the model has no such layers.
    """
    config = lora_config(lora)
    folder = expanded(name)
    config.base_model_name_or_path = str(folder.resolve()) if folder.is_dir() else name
    try:
        model.add_adapter(config)
    except (AttributeError, ValueError) as error:
        raise RequestError(f"[lora] cannot be added to {name}: {first_line(error)}") from error
    adapted = trained_in_float32(model.transformers_model)
    for weight in model.parameters():
        # Modules after the network, such as a dense layer, are no part of what is saved with adapters.
        weight.requires_grad_(id(weight) in adapted)


def trained_in_float32(network: Any) -> set[int]:
    """Make the weights of a network that are trained float32; gives their `id`s.

    In half precision, small updates are lost when they are added, and so are Adam's averages.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in trained:
        weight.data = weight.data.float()
    return {id(weight) for weight in trained}


def merged(model: ModelConfig, adapters: Path) -> SentenceTransformer:
    """A pretrained model with the updates of adapters added to its weights: an ordinary model, without adapters.

    Args:
        model: The model that the adapters were trained on.
        adapters: Folder of the model that was saved with them.
    """
    made = build_model(model, tuple, device="cpu")
    network: Any = made.transformers_model
    # How weights are renamed when the model is saved, which loading adapters replaces by how theirs are.
    renamed = getattr(network, "_weight_conversions", None)
    network.load_adapter(str(adapters))
    _merge(network)
    network._weight_conversions = renamed
    return made


def _merge(network: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module.get_base_layer())
    for weight in network.parameters():
        weight.requires_grad_(True)
    # What transformers looks at to tell a model with adapters from one without, when it saves.
    network._hf_peft_config_loaded = False
    del network.peft_config
