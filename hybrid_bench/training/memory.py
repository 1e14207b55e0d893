"""How much memory a training step takes on each device, before a weight is loaded.

The model is made from its configuration with tensors that have a shape and no data (torch's `FakeTensorMode`), and its
forward pass is run on them. What autograd would keep for the backward pass is thereby counted, whatever the
architecture, and so are the parameters; a model of 70 billion takes a second. Weights, gradients and optimiser states
follow from the numbers of parameters.

Over a step, memory is first weights and optimiser states with growing activations; in the backward pass activations
go and gradients come. The peak is therefore the larger of the two, not their sum, unless gradients stay from one
backward pass to the next (gradient accumulation), or lie in buffers all the time (DDP, DeepSpeed).

Not counted: the device's own context and libraries (0.5 to 1 GB on a GPU), fragmentation, and the working memory of
kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hybrid_bench.errors import ModelError, RequestError, first_line
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.arguments import check_names
from hybrid_bench.training.build import (
    DEFAULT_LENGTH,
    DEFAULT_VOCABULARY,
    DEFAULT_WIDTH,
    longest_text,
    network_config,
    network_without_weights,
)
from hybrid_bench.training.config import ACCELERATE, LoraConfig, TrainingConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["Estimate", "estimate", "estimate_network"]

#: Longest text where neither the configuration nor the model's positions are shorter.
_LONGEST = 512
#: Matrices of scores that the loss and its gradient hold at once: scores, masked, log-softmax, gradient.
_SCORE_MATRICES = 4


@dataclass(frozen=True)
class Estimate:
    """Memory of one device, in bytes.

    Attributes:
        parameters: Number of parameters of the whole model.
        trained: Number of those that are trained.
        weights: All weights that lie on the device between steps, master copies among them.
        gathered: Weights of other devices that it holds while it computes (FSDP, ZeRO-3).
        gradients: Gradients, when all are there, the largest of them twice: every column's backward pass makes one,
            which is then added to that of the others.
        buffers: What stays allocated for the exchange of gradients.
        optimizer: Optimiser states.
        activations: What the backward pass needs, with its working memory, at its most.
        scores: Of the loss.
        accumulates: Whether gradients lie beside activations.
        devices: Number of devices.
        sharding: How they share, a name of `ACCELERATE`; None for one device.
        rows: Pairs per device and step.
        lengths: Tokens of the longest text of each column.
    """

    parameters: int
    trained: int
    weights: int
    gathered: int
    gradients: int
    buffers: int
    optimizer: int
    activations: int
    scores: int
    accumulates: bool
    devices: int
    sharding: str | None
    rows: int
    lengths: tuple[int, ...]

    @property
    def peak(self) -> int:
        """The most that is allocated at any time of a step after the first."""
        growing, shrinking = self.gradients, self.activations + self.scores
        both = growing + shrinking if self.accumulates else max(growing, shrinking)
        return self.weights + self.gathered + self.buffers + self.optimizer + both

    def __str__(self) -> str:
        """A table, one part a line."""
        lines = [
            ("weights", self.weights),
            ("gathered weights", self.gathered),
            ("optimiser states", self.optimizer),
            ("buffers for gradients", self.buffers),
            ("gradients", self.gradients),
            ("activations", self.activations),
            ("scores of the loss", self.scores),
            ("peak of a step", self.peak),
        ]
        shown = "\n".join(f"| {name} | {_gib(size)} |" for name, size in lines if size)
        how = f"{self.devices} devices, {self.sharding}" if self.sharding else "one device"
        texts = " + ".join(map(str, self.lengths))
        together = (
            "Gradients lie beside activations"
            if self.accumulates
            else "Gradients come as activations go: the peak has the larger of the two"
        )
        return (
            f"{self.parameters:,} parameters, {self.trained:,} of them trained; {how}; {self.rows} pairs of"
            f" {texts} tokens per device and step\n\n| Per device | GiB |\n|:---|---:|\n{shown}\n\n"
            f"{together}. Not counted: the device's context (0.5 to 1 GiB on a GPU),"
            " fragmentation, and working memory of kernels.\n"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3f}"


def estimate(
    config: TrainingConfig,
    *,
    devices: int = 1,
    sharding: str | None = None,
    negatives: int | None = None,
    fused: bool = True,
) -> Estimate:
    """Memory of a training step, every text at its longest.

    Args:
        config: The training.
        devices: Number of devices.
        sharding: How they share the work, a name of `ACCELERATE`; None: ``ddp`` where there are several.
        negatives: Hard negatives of each pair; None: as many as the options of the sources ask for at most.
        fused: Whether attention runs in a kernel that keeps no matrix of weights, as it does on GPUs unless
            ``attention = "eager"``.

    Raises:
        RequestError: If an option does not fit.
        ModelError: If the model's configuration cannot be read, or its network not be run without data.
    """
    check_names(config)
    if devices < 1:
        raise RequestError(f"{devices} devices: give a whole number of at least 1")
    if sharding is not None and sharding not in ACCELERATE:
        raise RequestError(f"no accelerate configuration '{sharding}': {did_you_mean(sharding, ACCELERATE)}")
    if devices > 1 and sharding is None:
        sharding = "ddp"
    if negatives is None:
        negatives = max(source.negatives or int(source.options.get("negatives", 0)) for source in config.sources)
    arguments = config.training_arguments
    rows = int(arguments["per_device_train_batch_size"])
    model = config.model
    options: dict[str, Any] = {
        "rows": rows,
        "mini_batch": (config.loss.mini_batch_size or 32) if config.loss.cached else None,
        "candidates": rows * (1 + negatives) * (devices if config.loss.gather_across_devices else 1),
        "optim": str(arguments.get("optim", "adamw_torch_fused")),
        "accumulates": int(arguments.get("gradient_accumulation_steps", 1)) > 1,
        "devices": devices,
        "sharding": sharding,
    }
    if model.kind == "static":
        length = model.max_length or DEFAULT_LENGTH
        return _estimate_static(
            model.vocabulary or DEFAULT_VOCABULARY, model.width or DEFAULT_WIDTH, [length] * (2 + negatives), **options
        )
    network = network_config(model)
    length = model.max_length or longest_text(model) or _LONGEST
    length = min(length, int(getattr(network, "max_position_embeddings", length)))
    half = next((name for name in ("bf16", "fp16") if arguments.get(name)), None)
    return estimate_network(
        network,
        lengths=[length] * (2 + negatives),
        dtype=getattr(torch, model.dtype or "float32"),
        autocast={"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[half],
        checkpointing=any(bool(arguments.get(f"{what}_checkpointing")) for what in ("activation", "gradient")),
        attention=model.attention or "sdpa",
        fused=fused,
        lora=config.lora,
        **options,
    )


def estimate_network(
    network: PretrainedConfig,
    *,
    rows: int,
    lengths: Sequence[int],
    candidates: int | None = None,
    mini_batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
    checkpointing: bool = False,
    attention: str = "sdpa",
    fused: bool = True,
    lora: LoraConfig | None = None,
    optim: str = "adamw_torch_fused",
    accumulates: bool = False,
    devices: int = 1,
    sharding: str | None = None,
) -> Estimate:
    """Memory of a step of a transformer with mean pooling.

    Args:
        network: Its configuration.
        rows: Pairs per device and step.
        lengths: Tokens of each column's texts: queries, passages, hard negatives.
        candidates: Passages that each query is scored against; None: those of its device.
        mini_batch: Texts embedded at once with a cached loss; None for a plain one.
        dtype: Of the weights.
        autocast: Of the computation, if another one.
        checkpointing: Whether layers are computed again in the backward pass.
        attention: Implementation of attention.
        fused: Whether ``sdpa`` runs in a kernel that keeps no matrix of attention weights.
        lora: Adapters.
        optim: transformers' name of the optimiser.
        accumulates: Whether gradients stay over several backward passes.
        devices: Number of devices.
        sharding: How they share.
    """
    measured = [
        _forward(
            network,
            (mini_batch or rows, length),
            dtype=dtype,
            autocast=autocast,
            attention=attention,
            fused=fused,
            lora=lora,
        )
        for length in dict.fromkeys(lengths)
    ]
    by_length = dict(zip(dict.fromkeys(lengths), measured, strict=True))
    first = measured[0]
    passes = [by_length[length] for length in lengths]
    each_keeps = [each.checkpointed if checkpointing else each.saved for each in passes]
    kept = sum(each_keeps)
    if mini_batch is not None:
        # One mini-batch of one column at a time, beside the embeddings of all, their gradients and their copies.
        kept = max(each_keeps) + 3 * rows * len(lengths) * first.width * 4
    # The layer whose turn it is: what it computes again, and its gradients of the widest tensor, input and output.
    kept += max(each.working + (each.largest_layer if checkpointing else 0) for each in passes)
    return _shared(
        weights_by_size=first.sizes,
        trained=first.trained,
        trained_bytes=first.trained_bytes,
        largest=first.largest_weights,
        largest_gradient=first.largest_gradient,
        half=(dtype if autocast is None else autocast).itemsize,
        activations=kept,
        rows=rows,
        lengths=lengths,
        candidates=candidates or rows * (len(lengths) - 1),
        optim=optim,
        accumulates=accumulates or mini_batch is not None,
        devices=devices,
        sharding=sharding,
    )


def _estimate_static(
    vocabulary: int, width: int, lengths: Sequence[int], *, rows: int, mini_batch: int | None, **others: Any
) -> Estimate:
    """A table of token vectors: its activations are token numbers and embeddings."""
    trained = vocabulary * width
    kept = sum(rows * (length * 8 + 3 * width * 4) for length in lengths)
    return _shared(
        weights_by_size={4: trained},
        trained=trained,
        trained_bytes=4 * trained,
        largest=4 * trained,
        largest_gradient=4 * trained,
        half=4,
        activations=kept,
        rows=rows,
        lengths=lengths,
        **{**others, "accumulates": others["accumulates"] or mini_batch is not None},
    )


def _shared(
    *,
    weights_by_size: Mapping[int, int],
    trained: int,
    trained_bytes: int,
    largest: int,
    largest_gradient: int,
    half: int,
    activations: int,
    rows: int,
    lengths: Sequence[int],
    candidates: int,
    optim: str,
    accumulates: bool,
    devices: int,
    sharding: str | None,
) -> Estimate:
    """What one device holds of weights, gradients and optimiser states; `half` is the size of what it computes with."""
    parameters = sum(weights_by_size.values())
    weights = sum(size * n for size, n in weights_by_size.items())
    gradients, gathered, buffers = trained_bytes, 0, 0
    optimizer = int(_state_bytes(optim, trained_bytes, trained))
    if sharding == "ddp":
        buffers = gradients  # the buckets in which they are averaged
    elif sharding == "fsdp":
        weights, gradients, optimizer = (-(-size // devices) for size in (weights, gradients, optimizer))
        gathered = 2 * largest  # the layer that computes, and the next one on its way
    elif sharding in {"deepspeed-zero2", "deepspeed-zero3"}:
        # What it computes with is half precision, and it keeps a master copy in float32 with the optimiser states.
        optimizer = -(-int(_state_bytes(optim, 4 * trained, trained) + 4 * trained) // devices)
        weights, gradients = half * parameters, -(-half * trained // devices)
        if sharding == "deepspeed-zero3":
            weights = -(-weights // devices)
            gathered = 2 * largest
    return Estimate(
        parameters=parameters,
        trained=trained,
        weights=weights,
        gathered=gathered,
        gradients=gradients + largest_gradient,
        buffers=buffers,
        optimizer=optimizer,
        activations=activations,
        scores=_SCORE_MATRICES * rows * candidates * 4,
        accumulates=accumulates or sharding in {"deepspeed-zero2", "deepspeed-zero3"},
        devices=devices,
        sharding=sharding,
        rows=rows,
        lengths=tuple(lengths),
    )


def _state_bytes(optim: str, weights: int, n: int) -> float:
    """Bytes of an optimiser's states: Adam's are two of each weight's size."""
    if "8bit" in optim or "4bit" in optim:
        return 2 * n * (1 if "8bit" in optim else 0.5)
    if "sgd" in optim or "adafactor" in optim:  # adafactor's are a row and a column of each matrix
        return 0
    return weights if "lion" in optim or "adagrad" in optim or "rmsprop" in optim else 2 * weights


# ---------------------------------------------------------------------------------------------------------------------
# A forward pass without data
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pass:
    """One column's forward pass.

    Attributes:
        saved: Bytes kept for the backward pass.
        checkpointed: The same with the inputs of layers in place of what they keep.
        largest_layer: The most that one layer keeps.
        working: Gradients of activations that are alive at once: of the widest tensor, and twice of a layer's input.
        width: Dimension of the embedding.
        sizes: Number of weights by bytes of each.
        trained: Number of trained weights.
        trained_bytes: Their bytes.
        largest_weights: Bytes of the layer with the most weights.
        largest_gradient: Bytes of the largest single weight that is trained.
    """

    saved: int
    checkpointed: int
    largest_layer: int
    working: int
    width: int
    sizes: Mapping[int, int]
    trained: int
    trained_bytes: int
    largest_weights: int
    largest_gradient: int


class _FusedAttention(torch.autograd.Function):
    """Keeps what the fused kernels keep: their inputs, the output, and one number per row for the softmax."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Shapes alone."""
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, rows, *([] if mask is None else [mask]))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Never run."""
        raise NotImplementedError


class _FusedKernels(TorchFunctionMode):
    """Attention as fused kernels do it. Without a GPU, torch would fall back to matrices."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            query, key, value = args[:3]
            return _FusedAttention.apply(query, key, value, kwargs.get("attn_mask"))  # type: ignore[no-untyped-call] # torch's
        return function(*args, **kwargs)


class _Kept:
    """What autograd keeps, each piece of memory once; weights are not counted."""

    def __init__(self, weights: nn.Module) -> None:
        self._weights = {id_of(tensor) for tensor in (*weights.parameters(), *weights.buffers())}
        self._seen: dict[int, Tensor] = {}  # kept alive, so that no other memory gets the same place
        self.bytes = self.widest = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """torch's hook."""
        key = id_of(tensor)
        if key not in self._weights and key not in self._seen:
            self._seen[key] = tensor
            size = tensor.untyped_storage().nbytes()
            self.bytes += size
            self.widest = max(self.widest, size)
        return tensor


def id_of(tensor: Tensor) -> int:
    """Tells memory apart: views share theirs."""
    return int(tensor.untyped_storage()._cdata)


def _forward(
    network: PretrainedConfig,
    shape: tuple[int, int],
    *,
    dtype: torch.dtype,
    autocast: torch.dtype | None,
    attention: str,
    fused: bool,
    lora: LoraConfig | None,
) -> _Pass:
    from sentence_transformers.sentence_transformer.modules import Pooling

    # The fused kernels of flash_attention_2 keep what those of sdpa keep, and need not be installed to be counted.
    implementation = "eager" if attention == "eager" else "sdpa"
    kernels = _FusedKernels() if fused and implementation == "sdpa" else nullcontext()
    if hasattr(network, "use_cache"):
        network.use_cache = False  # as sentence-transformers sets it
    try:
        model: Any = network_without_weights(network, dtype=dtype, attention=implementation, lora=lora, name="it")
        model.train()
        with FakeTensorMode(allow_non_fake_inputs=True):
            _put_on_cpu(model)
            width = int(getattr(model.config, "hidden_size", 0)) or model.get_input_embeddings().embedding_dim
            pooling = Pooling(width)
            features = {
                "input_ids": torch.zeros(shape, dtype=torch.long),
                "attention_mask": torch.ones(shape, dtype=torch.long),
            }
            kept = _Kept(model)
            layers: list[tuple[int, int]] = []  # bytes kept by each layer, and of its input
            with (
                _watched(model, kept, layers),
                saved_tensors_hooks(kept.pack, lambda tensor: tensor),
                kernels,
                torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None),
            ):
                tokens = model(**features).last_hidden_state
                pooling({"token_embeddings": tokens, "attention_mask": features["attention_mask"]})
            return _passed(model, kept, layers, width)
    except RequestError:
        raise
    except Exception as error:  # a model's own code may do what cannot be done without data
        raise ModelError(
            f"cannot tell the memory of {type(network).__name__}: its network does not run without data"
            f" ({first_line(error)})"
        ) from error


def _put_on_cpu(model: nn.Module) -> None:
    """Give weights without a device one, still without data: mixed precision is known of devices only."""
    made: dict[int, nn.Parameter] = {}  # tied weights stay one
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in made:
                made[id(weight)] = nn.Parameter(torch.empty_like(weight, device="cpu"), weight.requires_grad)
            module._parameters[name] = made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros_like(buffer, device="cpu")


@contextmanager
def _watched(model: nn.Module, kept: _Kept, layers: list[tuple[int, int]]) -> Iterator[None]:
    """Note what each layer that can be checkpointed keeps."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    starts: list[int] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        starts.append(kept.bytes)
        inputs = [*args, kwargs.get("hidden_states")]
        hidden = next((value for value in inputs if isinstance(value, Tensor)), None)
        layers.append((0, 0 if hidden is None else hidden.numel() * hidden.element_size()))

    def after(*_: Any) -> None:
        layers[-1] = (kept.bytes - starts[-1], layers[-1][1])

    handles = []
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
    yield
    for handle in handles:
        handle.remove()


def _passed(model: nn.Module, kept: _Kept, layers: Sequence[tuple[int, int]], width: int) -> _Pass:
    from transformers.modeling_layers import GradientCheckpointingLayer

    weights = list(model.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    sizes: dict[int, int] = {}
    for weight in weights:
        sizes[weight.element_size()] = sizes.get(weight.element_size(), 0) + weight.numel()
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    return _Pass(
        saved=kept.bytes,
        checkpointed=kept.bytes - sum(own for own, _ in layers) + sum(given for _, given in layers),
        largest_layer=max((own for own, _ in layers), default=0),
        working=kept.widest + 2 * max((given for _, given in layers), default=0),
        width=width,
        sizes=sizes,
        trained=sum(weight.numel() for weight in trained),
        trained_bytes=sum(weight.numel() * weight.element_size() for weight in trained),
        largest_weights=max(
            (sum(weight.numel() * weight.element_size() for weight in block.parameters()) for block in blocks),
            default=0,
        ),
        largest_gradient=max((weight.numel() * weight.element_size() for weight in trained), default=0),
    )
