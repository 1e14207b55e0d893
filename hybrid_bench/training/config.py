"""What a training is: a TOML or YAML file, read by pydantic into the dataclasses here, without torch.

A file may extend another one, or a preset of the package::

    extends = "preset:paper-labse-hybrid"
    output = "models/mine"

Tables are then merged key by key, and everything else, lists among it, is replaced. Paths are taken from where the
command runs, as on the command line. What the package does not decide itself stands in the table ``[arguments]``: any
field of ``SentenceTransformerTrainingArguments``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from hybrid_bench.data.files import expanded
from hybrid_bench.data.parsing import parse_toml, parse_yaml, read_text
from hybrid_bench.errors import DataError, RequestError, first_line, how_to_install, reason, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.sampling import Sampling
from hybrid_bench.training.sources import SourceSpec

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "ACCELERATE",
    "DEFAULT_ARGUMENTS",
    "LOSSES",
    "PRESETS",
    "EvaluationConfig",
    "LoraConfig",
    "LossConfig",
    "ModelConfig",
    "OverlapConfig",
    "TrainingConfig",
    "ValidationConfig",
    "load_config",
    "merged",
    "read_settings",
    "require",
    "to_toml",
]

_HERE = Path(__file__).parent
#: The training configurations that ship with the package, by name.
PRESETS = {path.stem: path for path in sorted((_HERE / "presets").glob("*.toml"))}
#: The configurations of `accelerate launch` that ship with the package, by name.
ACCELERATE = {path.stem: path for path in sorted((_HERE / "accelerate").glob("*.yaml"))}

#: Losses by their short names; the values are names of classes in sentence_transformers.
LOSSES = {
    "mnrl": "MultipleNegativesRankingLoss",
    "cached-mnrl": "CachedMultipleNegativesRankingLoss",
    "gist": "GISTEmbedLoss",
    "cached-gist": "CachedGISTEmbedLoss",
}

#: Where [arguments] says nothing: the hyper-parameters that arXiv 2408.10536 states, and what keeps a run quiet.
DEFAULT_ARGUMENTS: Mapping[str, Any] = {
    "learning_rate": 3e-5,
    "weight_decay": 1e-2,
    "per_device_train_batch_size": 100,
    "report_to": "none",
    "save_total_limit": 2,
}

#: Fields of the training arguments that have a place of their own in a configuration.
_PLACED = {
    "output_dir": "output",
    "seed": "seed",
    "data_seed": "seed",
    "batch_sampler": "mode and alpha in [sampling]",
    "multi_dataset_batch_sampler": "mode and alpha in [sampling]",
    "prompts": "query_prompt and passage_prompt in [model]",
    "resume_from_checkpoint": "nothing: a training goes on from its last checkpoint by itself",
}


#: A path, of which ``~`` is the home folder.
Folder = Annotated[Path, AfterValidator(expanded)]

Pooling = Literal["mean", "cls", "lasttoken", "max", "weightedmean"]


@dataclass(frozen=True)
class ModelConfig:
    """The model that is trained.

    Attributes:
        name: Name on the hub, or folder, of a pretrained model: of sentence-transformers or of transformers.
        kind: ``pretrained``; or from nothing, with a BPE tokenizer trained on the sources: ``static``, a table of token
            vectors, or ``transformer``, a small BERT (in DistilBERT's form).
        revision: Commit or tag on the hub.
        pooling: How token vectors become one; None: as the model says, ``mean`` where it does not.
        max_length: Tokens of the longest text, prompt included; longer ones are cut.
        query_prompt: Put before queries, e.g. ``Query: ``; None: as the model says.
        passage_prompt: Put before passages.
        instruction: A task in one sentence; the query prompt becomes ``Instruct: <instruction>`` and, on a line of its
            own, ``Query: ``, as models of the kind of E5-Mistral have it.
        normalize: Whether embeddings are scaled to length 1 by a module of the model.
        dtype: Of the weights as they are loaded; None: float32. (``bf16 = true`` in [arguments] is mixed precision.)
        attention: Implementation of attention; None: transformers' choice.
        trust_remote_code: Whether code that comes with the model may run.
        vocabulary: Of a model from nothing: size of the tokenizer; None: 16,000.
        width: Dimension of token vectors; None: 256.
        layers: Of a transformer from nothing; None: 4.
        heads: Of a transformer from nothing; None: 4.
    """

    name: str = ""
    kind: Literal["pretrained", "static", "transformer"] = "pretrained"
    revision: str | None = None
    pooling: Pooling | None = None
    max_length: int | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    instruction: str | None = None
    normalize: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    trust_remote_code: bool = False
    vocabulary: int | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None

    def __post_init__(self) -> None:
        made = {name: getattr(self, name) for name in ("vocabulary", "width", "layers", "heads")}
        if self.kind == "pretrained":
            if not self.name:
                raise RequestError(
                    'model.name is missing: name a model or its folder, or train one from nothing: kind = "static" or'
                    ' "transformer"'
                )
            _refuse_set(made, 'belongs to a model from nothing: leave it out, or set model.kind = "transformer"')
        else:
            loaded = {name: getattr(self, name) for name in ("name", "revision", "attention", "dtype")}
            _refuse_set(loaded, f'belongs to a pretrained model, and model.kind is "{self.kind}": leave it out')
        if self.kind == "static":
            transformer = {name: getattr(self, name) for name in ("layers", "heads", "pooling")}
            _refuse_set(transformer, 'belongs to a transformer, and model.kind is "static": leave it out')
        for name, value in {**made, "max_length": self.max_length}.items():
            if value is not None and value < 1:
                raise RequestError(f"model.{name} = {value}: give a whole number of at least 1")
        if self.instruction is not None and self.query_prompt is not None:
            raise RequestError("model.instruction makes the query prompt: leave out model.query_prompt")
        if self.kind == "transformer" and (self.width or 256) % (self.heads or 4):
            raise RequestError(
                f"model.width = {self.width or 256} is no multiple of model.heads = {self.heads or 4}: change one"
            )

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts to set, under the names that sentence-transformers gives them: ``query`` and ``document``."""
        query = self.query_prompt if self.instruction is None else f"Instruct: {self.instruction}\nQuery: "
        given = {"query": query, "document": self.passage_prompt}
        return {role: prompt for role, prompt in given.items() if prompt is not None}


def _refuse_set(values: Mapping[str, Any], reason: str) -> None:
    for name, value in values.items():
        if value is not None and value != "":
            raise RequestError(f"model.{name} = {shown(value)} {reason}")


@dataclass(frozen=True)
class LossConfig:
    """The loss; see `loss`.

    Attributes:
        kind: One of `LOSSES`. The cached forms (GradCache) take batches of any size in little memory.
        scale: Of the similarity, 1 / temperature; None: the loss's own default.
        mini_batch_size: Of the cached forms: texts that are embedded at once.
        gather_across_devices: Whether the passages of all devices are negatives.
        mask: Whether passages of one group are kept from being each other's negatives.
        mono_weight: Weight of monolingual steps.
        cross_weight: Weight of the others.
        guide: Of the GIST forms: the model that tells false negatives.
        matryoshka: Dimensions at which the loss is taken too, the full one among them; empty: only that.
        options: What else the loss's class takes, e.g. ``directions = ["query_to_doc", "doc_to_query"]`` for a
            symmetric one.
    """

    kind: Literal["mnrl", "cached-mnrl", "gist", "cached-gist"] = "mnrl"
    scale: float | None = None
    mini_batch_size: int | None = None
    gather_across_devices: bool = False
    mask: bool = True
    mono_weight: float = 1.0
    cross_weight: float = 1.0
    guide: str | None = None
    matryoshka: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mini_batch_size is not None and not self.cached:
            raise RequestError(f'loss.mini_batch_size goes with a cached loss: set kind = "cached-{self.kind}"')
        if self.kind.endswith("gist") != (self.guide is not None):
            raise RequestError('loss.guide, the model that tells false negatives, goes with kind = "gist" alone')
        if self.scale is not None and self.kind.endswith("gist"):
            raise RequestError("loss.scale: GIST has a temperature instead; set temperature in [loss.options]")
        if self.matryoshka and self.cached:
            raise RequestError('loss.matryoshka does not go with a cached loss: set kind = "mnrl"')
        for name in ("scale", "mono_weight", "cross_weight", "mini_batch_size"):
            value = getattr(self, name)
            weight = name.endswith("weight")
            if value is not None and not (math.isfinite(value) and (value >= 0 if weight else value > 0)):
                raise RequestError(f"loss.{name} = {value}: give a number {'of at least' if weight else 'above'} 0")
        if self.mono_weight == 0 and self.cross_weight == 0:
            raise RequestError("loss.mono_weight and loss.cross_weight are both 0: nothing would be learned")

    @property
    def cached(self) -> bool:
        """Whether it is a GradCache form."""
        return self.kind.startswith("cached-")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured during training, and at its end, on collections.

    Attributes:
        collections: Names, e.g. ``XQuAD-R``.
        languages: Query languages, and passage languages of pairs; empty for all.
        settings: Of ``mono``, ``cross``, ``multi``; empty for all.
        pool_languages: Languages of the multilingual pool; empty for all.
        folds: In how many parts questions are divided, by the number of their cluster modulo this. For a collection
            that is a source too, with the same option there and other parts.
        fold: Which parts are asked, from 0. Pools stay whole.
        by: Which clusters: ``paragraph`` or ``article``.
        batch_size: Texts encoded at once.
        before: Whether the model is measured before its first step too.
        measured: Whether `train` measures at all. Without it the collections are still what training rows are compared
            with, in the same parts, for whoever measures later, such as `sweep`.
    """

    collections: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    settings: tuple[Literal["mono", "cross", "multi"], ...] = ()
    pool_languages: tuple[str, ...] = ()
    folds: int = 1
    fold: tuple[int, ...] = (0,)
    by: Literal["paragraph", "article"] = "paragraph"
    batch_size: int = 32
    before: bool = True
    measured: bool = True

    def __post_init__(self) -> None:
        if self.folds < 1 or self.batch_size < 1:
            raise RequestError("evaluation.folds and evaluation.batch_size: give whole numbers of at least 1")
        if not self.fold or not all(0 <= each < self.folds for each in self.fold):
            raise RequestError(f"evaluation.fold = {list(self.fold)}: give numbers from 0 to {self.folds - 1}")


@dataclass(frozen=True)
class ValidationConfig:
    """A set that decides when training stops, and which checkpoint is kept.

    Attributes:
        source: Where its pairs come from; never part of the training.
        patience: Evaluations in a row without a lower loss before training stops.
        min_delta: What counts as lower.
        sampling: How its batches are drawn; one language to a batch, if nothing is said.
    """

    source: SourceSpec
    patience: int = 3
    min_delta: float = 0.0
    sampling: Sampling = field(default_factory=lambda: Sampling("x-x-mono"))

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise RequestError(f"validation.patience = {self.patience}: give a whole number of at least 1")


@dataclass(frozen=True)
class OverlapConfig:
    """What is done about training rows that stand in an evaluation collection; see `overlap`.

    Attributes:
        check: Whether sources are compared with the collections.
        drop: Whether rows that overlap are left out.
        collections: Only with these; empty for all of the project that can be read here.
    """

    check: bool = True
    drop: bool = True
    collections: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters, trained in place of the whole model; needs peft.

    Attributes:
        r: Rank.
        alpha: Scale of the update, times 1 / r.
        dropout: Before the adapters.
        targets: Names of the layers that get one; ``all-linear`` for all.
        merge: Whether the saved model holds the sum, and so needs no peft to be loaded; else it holds the adapters and
            the name of what they belong to.
        options: What else `peft.LoraConfig` takes.
    """

    r: int = 16
    alpha: float = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("all-linear",)
    merge: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.r < 1:
            raise RequestError(f"lora.r = {self.r}: give a rank of at least 1")
        if not 0 <= self.dropout < 1:
            raise RequestError(f"lora.dropout = {self.dropout}: give a number from 0 to below 1")
        if self.merge and self.options.get("modules_to_save"):
            raise RequestError(
                "lora.options.modules_to_save trains whole modules beside the adapters, which are not merged: set"
                " lora.merge = false"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """A whole training.

    Attributes:
        output: Folder of the trained model; checkpoints and logs stand beside it, in ``<output>.training``.
        model: What is trained.
        sources: What it is trained on.
        sampling: How batches are drawn.
        loss: The loss.
        evaluation: What is measured.
        validation: When training stops.
        overlap: What is done about overlap with evaluation collections.
        lora: Adapters, if any.
        seed: Of everything random.
        data_dir: The user's data folder; None: as for `run`.
        arguments: Fields of ``SentenceTransformerTrainingArguments``.
    """

    #: Of pydantic, for this class and those in it.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    output: Folder
    model: ModelConfig
    sources: tuple[SourceSpec, ...]
    sampling: Sampling = field(default_factory=Sampling)
    loss: LossConfig = field(default_factory=LossConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    validation: ValidationConfig | None = None
    overlap: OverlapConfig = field(default_factory=OverlapConfig)
    lora: LoraConfig | None = None
    seed: int = 0
    data_dir: Folder | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sources:
            raise RequestError("no sources: give at least one table [[sources]]")
        names = [source.name for source in self.sources]
        if self.validation is not None:
            names.append(self.validation.source.name)  # by which its batches are told from those of the training
        for name in names:
            if names.count(name) > 1:
                raise RequestError(f"two sources are named '{name}': give each a name of its own")
        if self.lora is not None and self.model.kind != "pretrained":
            raise RequestError(f'[lora] adapts a pretrained model, and model.kind = "{self.model.kind}": leave one out')
        if self.model.kind == "static" and self.loss.kind != "mnrl":
            raise RequestError(
                f'loss.kind = "{self.loss.kind}" needs a transformer, and model.kind is "static": set "mnrl"'
            )
        for name in self.arguments:
            if name in _PLACED:
                raise RequestError(f"[arguments] {name}: what decides it is {_PLACED[name]}")

    @property
    def work(self) -> Path:
        """Folder with checkpoints, logs and notes of the training."""
        return self.output.with_name(f"{self.output.name}.training")

    @property
    def training_arguments(self) -> dict[str, Any]:
        """The fields of the training arguments that are set, by the configuration or by its defaults."""
        return {**DEFAULT_ARGUMENTS, **self.arguments}


def require(package: str, what: str) -> None:
    """Refuse what needs a package of the extra ``train`` that is not installed; transformers would not name the extra.

    Raises:
        RequestError: It is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise RequestError(f"{what} needs {package}, which is not installed: {how_to_install('train')}")


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def load_config(name: str | Path, changes: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Read a configuration.

    Args:
        name: A TOML or YAML file, or ``preset:`` and the name of a preset.
        changes: Values by dotted name, e.g. ``sampling.alpha``, that replace those of the file.

    Raises:
        RequestError: If there is no such file, or a key or value in it is wrong; the line names it.
        DataError: If the file cannot be read.
    """
    table = read_settings(name)
    for key, value in (changes or {}).items():
        place = table
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise RequestError(f"cannot set {key}: {parent} is no table in {name}")
        place[last] = value
    try:
        return _made(table)
    except RequestError as error:
        raise RequestError(f"{name}: {error}") from error


def read_settings(name: str | Path, _seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings in a file, with those of what it extends; not yet validated. See `load_config`."""
    path = _path_of(name)
    if str(path) in _seen:
        raise RequestError(f"{path} extends itself: remove its `extends`")
    table = _parse(path)
    below = table.pop("extends", None)
    if below is None:
        return table
    if not isinstance(below, str):
        raise RequestError(f"{path}: extends = {shown(below)}: name one file, or preset:NAME")
    # Beside the file, as an import would be: the two are kept together.
    base = below if below.startswith("preset:") else path.parent / below
    return merged(read_settings(base, (*_seen, str(path))), table)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees of settings as one: tables key by key, everything else as `above` has it."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return both


def _path_of(name: str | Path) -> Path:
    if isinstance(name, str) and name.startswith("preset:"):
        preset = name.removeprefix("preset:")
        if preset not in PRESETS:
            raise RequestError(f"no preset '{preset}': {did_you_mean(preset, PRESETS)}")
        return PRESETS[preset]
    path = expanded(name)
    if not path.is_file():
        hint = f"; there is a preset of this name: preset:{path.name}" if path.name in PRESETS else ""
        raise RequestError(f"there is no file {path}{hint}")
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    parsers: dict[str, tuple[str, Callable[[str], Any]]] = {
        ".toml": ("TOML", parse_toml),
        ".yaml": ("YAML", parse_yaml),
        ".yml": ("YAML", parse_yaml),
    }
    if path.suffix not in parsers:
        raise RequestError(f"{path}: a configuration ends in .toml, .yaml or .yml")
    name, parse = parsers[path.suffix]
    try:
        table = parse(text)
    except ValueError as error:
        raise RequestError(f"{path} is no {name}: {first_line(error)}") from error
    if not isinstance(table, dict):
        raise RequestError(f"{path}: should hold settings by name, found {shown(table)}")
    return table


@cache
def _adapter() -> TypeAdapter[TrainingConfig]:
    """Made when it is first used, which takes a tenth of a second."""
    return TypeAdapter(TrainingConfig)


def _made(table: Mapping[str, Any]) -> TrainingConfig:
    """The configuration that a table holds, every key and type checked.

    As JSON, whose strict rules are those of TOML: a list is a list and a path a text, but no text is a number.
    """
    try:
        text = json.dumps(table, default=str)
    except (RecursionError, TypeError, ValueError) as error:  # what YAML can say besides: a list that holds itself
        raise RequestError(f"it holds what is no setting: {first_line(error)}") from error
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        # One line at a time: first what is not known at all, as what is missing may stand there, misspelt.
        rank = {"unexpected_keyword_argument": 0, "missing": 1}
        found = min(error.errors(include_url=False), key=lambda each: rank.get(each["type"], 2))
        raise RequestError(_line(found)) from error


def _line(found: ErrorDetails) -> str:
    """What pydantic found, as one line."""
    kind, place, value = found["type"], found["loc"], found["input"]
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
    if kind == "value_error":
        return str(found["ctx"]["error"])  # of our own checks
    if kind == "unexpected_keyword_argument":
        *above, key = place
        return f"unknown key {where}: {did_you_mean(str(key), [each.name for each in fields(_type_at(above))])}"
    if kind == "missing":
        return f"{where} is missing"
    if kind == "literal_error":
        return f"{where} = {shown(value)}: {did_you_mean(str(value), get_args(_type_at(place)))}"
    if kind == "json_invalid":
        return f"it holds a text or a list that cannot be read: {found['msg']}"
    return f"{where} = {shown(value)}: should be {_WANTED.get(kind.partition('_')[0], 'a table')}"


#: By the first word of what pydantic calls the error.
_WANTED = {
    "string": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
}


def _type_at(place: Sequence[int | str]) -> Any:
    """The type of what stands at a place of a configuration."""
    kind: Any = TrainingConfig
    for step in place:
        kind = get_args(kind)[0] if isinstance(step, int) else get_type_hints(kind)[step]
        if get_origin(kind) in (Union, UnionType):
            (kind,) = (option for option in get_args(kind) if option is not NoneType)
    return kind


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


def to_toml(config: TrainingConfig) -> str:
    """A configuration as TOML, with all its defaults; `load_config` gives the same configuration back."""
    lines: list[str] = []
    _write_table(plain(config), "", lines)
    return "\n".join(lines).strip() + "\n"


def plain(value: Any) -> Any:
    """A configuration, or a part of it, as JSON would have it; keys without a value are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _write_table(table: Mapping[str, Any], name: str, lines: list[str]) -> None:
    def is_tables(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)

    for key, value in table.items():
        if not isinstance(value, dict) and not is_tables(value):
            lines.append(f"{_key(key)} = {_inline(value)}")
    for key, value in table.items():
        below = _dotted(name, _key(key))
        if isinstance(value, dict) and value:
            lines += ["", f"[{below}]"]
            _write_table(value, below, lines)
        elif is_tables(value):
            for item in value:
                lines += ["", f"[[{below}]]"]
                _write_table(item, below, lines)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    # TOML's strings, numbers and truth values are JSON's, but for the delete character and what is no number.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(text, text)
