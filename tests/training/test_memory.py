"""Estimates of memory, against what torch's CPU allocator hands out in real steps, and against torch's own counting.

Measured is the most that is allocated at any time over two steps: weights made, forward and backward passes of two
columns, loss, AdamW. torch's profiler reports every piece of memory that the allocator gives or takes back. A CPU has
no fused attention with dropout, so that of BERT is estimated without (`fused=False`), as it runs here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, BertConfig, LlamaConfig, PretrainedConfig, Qwen3Config
from transformers.modeling_layers import GradientCheckpointingLayer

from hybrid_bench.errors import ModelError, RequestError
from hybrid_bench.training.build import lora_config
from hybrid_bench.training.config import LoraConfig, load_config
from hybrid_bench.training.memory import Estimate, estimate, estimate_network

ROWS, LENGTHS = 8, (32, 64)


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """One thread: for tensors this small, waiting for others takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def llama(**options: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        **options,
    )


def bert() -> BertConfig:
    return BertConfig(
        vocab_size=20_000, hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4
    )


def most_allocated(work: Callable[[], None]) -> int:
    """The most bytes that lay in torch's CPU memory at any time of this."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    result: Any = profiler.profiler
    events = [event for event in result.kineto_results.events() if event.name() == "[memory]"]
    assert len(events) > 100
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measured(
    network: PretrainedConfig,
    *,
    checkpointing: bool = False,
    autocast: bool = False,
    lora: LoraConfig | None = None,
    mini_batch: int | None = None,
) -> int:
    """The most memory of two real steps."""
    network.use_cache = False

    def embed(model: Any, tokens: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            hidden = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        return torch.nn.functional.normalize(hidden.float().mean(1), dim=-1)

    def score(query: Tensor, passage: Tensor) -> Any:
        return torch.nn.functional.cross_entropy(20 * query @ passage.T, torch.arange(len(query)))

    def work() -> None:
        model: Any = AutoModel.from_config(network)  # type: ignore[no-untyped-call] # has no types
        if lora is not None:
            model.add_adapter(lora_config(lora))
        model.train()
        if checkpointing:
            # As transformers does it, in a method whose name differs between versions.
            for module in model.modules():
                if isinstance(module, GradientCheckpointingLayer):
                    module.gradient_checkpointing = True
                    module._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment] # set so
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], fused=True)
        for _ in range(2):
            columns: list[Any] = [torch.randint(0, network.vocab_size, (ROWS, length)) for length in LENGTHS]
            if mini_batch is None:
                score(*(embed(model, tokens) for tokens in columns)).backward()
            else:  # GradCache (arXiv 2101.06983): embeddings without a graph, their gradients, then piece by piece
                with torch.no_grad():
                    cached = [torch.cat([embed(model, piece) for piece in c.split(mini_batch)]) for c in columns]
                cached = [each.requires_grad_() for each in cached]
                score(*cached).backward()
                for tokens, embeddings in zip(columns, cached, strict=True):
                    gradients: Any = embeddings.grad
                    for piece, gradient in zip(tokens.split(mini_batch), gradients.split(mini_batch), strict=True):
                        embed(model, piece).backward(gradient)
            optimizer.step()
            optimizer.zero_grad()

    return most_allocated(work)


LORA = LoraConfig(r=8, targets=("q_proj", "v_proj"))
CASES: dict[str, tuple[Callable[[], PretrainedConfig], dict[str, Any]]] = {
    "bert": (bert, {}),
    "llama": (llama, {}),
    "llama, checkpointing": (llama, {"checkpointing": True}),
    "llama, bf16": (llama, {"autocast": True}),
    "llama, lora": (llama, {"lora": LORA}),
    "llama, cached": (llama, {"mini_batch": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_estimate_is_what_a_step_takes(case: str) -> None:
    make, options = CASES[case]
    estimated = estimate_network(
        make(),
        rows=ROWS,
        lengths=LENGTHS,
        fused=not isinstance(make(), BertConfig),
        **{**options, "autocast": torch.bfloat16 if options.get("autocast") else None},
    )
    real = measured(make(), **options)
    assert estimated.peak == pytest.approx(real, rel=0.15), f"{estimated.peak / real:.3f}"


def test_parts_add_up_by_hand() -> None:
    found = estimate_network(llama(), rows=ROWS, lengths=LENGTHS)
    # Embeddings; by layer queries and outputs, keys and values, the three matrices of the MLP, two norms; last norm.
    layer = 2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 344 + 2 * 128
    count = 1000 * 128 + 3 * layer + 128
    assert (found.parameters, found.trained) == (count, count)
    assert (found.weights, found.optimizer) == (4 * count, 8 * count)
    assert found.gradients == 4 * count + 4 * 1000 * 128  # that of the embeddings twice
    assert found.peak == found.weights + found.optimizer + max(found.gradients, found.activations + found.scores)


def test_activations_grow_with_rows_and_tokens() -> None:
    def activations(rows: int, lengths: tuple[int, ...], **options: Any) -> int:
        return estimate_network(llama(), rows=rows, lengths=lengths, **options).activations

    assert activations(16, (64,)) == pytest.approx(2 * activations(8, (64,)), rel=0.01)
    assert activations(8, (64, 64, 64)) == pytest.approx(3 * activations(8, (64,)), rel=0.05)
    assert activations(8, (512,), attention="eager") > activations(8, (512,)) * 1.5  # matrices of weights
    assert activations(8, (64,), checkpointing=True) < 0.6 * activations(8, (64,))
    assert activations(64, (64,), mini_batch=8) < 0.2 * activations(64, (64,))


def test_sharding_divides_what_it_says() -> None:
    def of(sharding: str | None, devices: int) -> Estimate:
        return estimate_network(
            llama(), rows=ROWS, lengths=LENGTHS, sharding=sharding, devices=devices, autocast=torch.bfloat16
        )

    alone, fsdp = of(None, 1), of("fsdp", 4)
    assert fsdp.weights == -(-alone.weights // 4)
    assert fsdp.optimizer == -(-alone.optimizer // 4)
    assert of("ddp", 4).buffers == 4 * alone.trained
    # ZeRO as its paper counts it (arXiv 1910.02054): 2 bytes of weights, 2 of gradients, 12 of states with master copy.
    two, three = of("deepspeed-zero2", 4), of("deepspeed-zero3", 4)
    count, largest = alone.parameters, 4 * 1000 * 128
    assert (two.weights, two.gradients - largest, two.optimizer) == (2 * count, 2 * count // 4, 12 * count // 4)
    assert (three.weights, three.optimizer) == (2 * count // 4, 12 * count // 4)
    assert alone.activations == fsdp.activations == three.activations


def test_a_large_model_is_counted_without_its_weights() -> None:
    """Qwen3-8B's configuration: 7.57 billion weights without the output layer."""
    network = Qwen3Config(
        vocab_size=151_936,
        hidden_size=4096,
        intermediate_size=12_288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    )
    found = estimate_network(
        network,
        rows=64,
        lengths=(64, 512),
        dtype=torch.bfloat16,
        autocast=torch.bfloat16,
        mini_batch=8,
        checkpointing=True,
        lora=LoraConfig(r=16),
    )
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 12_288 + 2 * 4096 + 2 * 128
    base = 151_936 * 4096 + 36 * layer + 4096
    adapters = 36 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12_288))
    assert (found.parameters, found.trained) == (base + adapters, adapters)
    assert 14 * 2**30 < found.weights < 15 * 2**30


def test_estimate_reads_the_configuration_of_a_training(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    source = '[[sources]]\nname = "d"\nkind = "lareqa"\ndataset = "HybridDemo"\n'
    path.write_text(
        f'output = "x"\n[model]\nkind = "static"\nwidth = 64\nvocabulary = 1000\n{source}', encoding="utf-8"
    )
    static = estimate(load_config(path))
    assert (static.parameters, static.rows) == (64_000, 100)
    assert "| weights | 0.000 |" in str(static)

    llama().save_pretrained(tmp_path / "llama")
    path.write_text(
        f'output = "x"\n[model]\nname = "{tmp_path}/llama"\nmax_length = 64\n{source}'
        "[arguments]\nper_device_train_batch_size = 8\nbf16 = true\n",
        encoding="utf-8",
    )
    config = load_config(path)
    found = estimate(config)
    assert found.lengths == (64, 64)
    direct = estimate_network(llama(), rows=8, lengths=(64, 64), autocast=torch.bfloat16)
    assert found == direct
    assert estimate(config, devices=2).sharding == "ddp"
    with pytest.raises(RequestError, match="did you mean 'fsdp'"):
        estimate(config, devices=2, sharding="fdsp")
    with pytest.raises(RequestError, match="0 devices"):
        estimate(config, devices=0)
    with pytest.raises(ModelError, match="cannot read the configuration"):
        estimate(replace(config, model=replace(config.model, name=str(tmp_path))))
