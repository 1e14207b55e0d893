"""What large models need, with models of their architectures that are small and random: adapters, last-token pooling,
instructions, GradCache, layers computed again, bfloat16; trained, saved, loaded again and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from tokenizers import processors
from transformers import (
    AutoModel,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from hybrid_bench.errors import RequestError
from hybrid_bench.evaluation.runner import RunRequest, run
from hybrid_bench.training.build import add_lora, build_model, merged, train_tokenizer
from hybrid_bench.training.config import LoraConfig, ModelConfig, TrainingConfig, load_config
from hybrid_bench.training.loop import train

TEXTS = ["Honigbienen leben in großen Kolonien.", "Honey bees live in large colonies.", "Wer legt die Eier?"] * 4
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """One thread: for matrices of 32 columns, waiting for others takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def saved(kind: Any, folder: Path, **options: Any) -> Path:
    """A random model of this architecture, as transformers saves it, without a token for padding."""
    tokenizer = train_tokenizer(TEXTS, 400)
    end = tokenizer.token_to_id("[SEP]")
    # As models that embed by their last token have it, a text ends with one that is the same for all.
    tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", end)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[SEP]", model_max_length=128)  # type: ignore[no-untyped-call] # has no types
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = kind(vocab_size=tokenizer.get_vocab_size(), **SHAPE, **options)
    model: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call] # has no types
    model.save_pretrained(folder)
    return folder


def configured(folder: Path, model: Path, **changes: Any) -> TrainingConfig:
    """A training of this model with all of the above."""
    path = folder / "llm.toml"
    path.write_text(
        f"""
output = "{folder}/out"
[model]
name = "{model}"
pooling = "lasttoken"
max_length = 48
instruction = "Find the sentence that answers"
passage_prompt = ""
[[sources]]
name = "demo"
kind = "lareqa"
dataset = "HybridDemo"
languages = ["de", "en"]
[overlap]
check = false
[loss]
kind = "cached-mnrl"
mini_batch_size = 4
scale = 50.0
[lora]
r = 4
targets = ["q_proj", "v_proj"]
[arguments]
per_device_train_batch_size = 8
max_steps = 2
learning_rate = 1e-2
bf16 = true
gradient_checkpointing = true
gradient_checkpointing_kwargs = {{ use_reentrant = false }}
use_cpu = true
save_strategy = "no"
""",
        encoding="utf-8",
    )
    return load_config(path, changes)


def embeddings(model: SentenceTransformer) -> Any:
    return model.encode_query(TEXTS[:3])


@pytest.mark.parametrize(
    ("kind", "merge"),
    [
        (LlamaConfig, True),
        pytest.param(LlamaConfig, False, marks=pytest.mark.slow),
        pytest.param(Qwen2Config, True, marks=pytest.mark.slow),
        pytest.param(Qwen2Config, False, marks=pytest.mark.slow),
        pytest.param(Qwen3Config, True, marks=pytest.mark.slow),
        (Qwen3Config, False),
    ],
)
def test_adapters_are_trained_saved_loaded_and_evaluated(
    kind: type[PretrainedConfig], merge: bool, tmp_path: Path
) -> None:
    base = saved(kind, tmp_path / "base")
    trained = train(configured(tmp_path, base, **{"lora.merge": merge}))
    untrained = build_model(configured(tmp_path, base).model, list, device="cpu")
    model = SentenceTransformer(str(trained.folder), device="cpu")
    assert model.prompts["query"] == "Instruct: Find the sentence that answers\nQuery: "
    assert model.max_seq_length == 48
    assert not np.allclose(embeddings(model), embeddings(untrained), atol=1e-3)
    files = {path.name for path in trained.folder.rglob("*.safetensors")}
    assert files == ({"model.safetensors"} if merge else {"adapter_model.safetensors"})
    if merge:
        # An ordinary model: the base model's weights by name, and other ones only where adapters were.
        before, after = (load_file(folder / "model.safetensors") for folder in (base, trained.folder))
        assert before.keys() == after.keys()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {name for name in before if "q_proj.weight" in name or "v_proj.weight" in name}
    request = RunRequest(
        (str(trained.folder),), ["HybridDemo-Pairs"], ["mono"], ["de", "en"], output=tmp_path / "runs", device="cpu"
    )
    outcome = run(request)
    assert not outcome.failures
    assert outcome.folders


def test_merging_changes_nothing_but_the_form(tmp_path: Path) -> None:
    base = saved(Qwen3Config, tmp_path / "base", head_dim=8)
    trained = train(configured(tmp_path, base, **{"lora.merge": False}))
    before = embeddings(SentenceTransformer(str(trained.folder), device="cpu"))
    model = merged(configured(tmp_path, base).model, trained.folder)
    np.testing.assert_allclose(embeddings(model), before, atol=1e-5)
    model.save_pretrained(str(tmp_path / "merged"))
    again = SentenceTransformer(str(tmp_path / "merged"), device="cpu")
    np.testing.assert_allclose(embeddings(again), before, atol=1e-5)
    assert all(weight.requires_grad for weight in again.parameters())


def test_only_adapters_are_trained(tmp_path: Path) -> None:
    config = ModelConfig(name=str(saved(LlamaConfig, tmp_path / "base")), pooling="lasttoken")
    model = build_model(config, list, lora=LoraConfig(r=2, targets=("q_proj",)), device="cpu")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    # By the arithmetic of low-rank adapters: A is (r, in), B is (out, r), in each of two layers.
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == 2 * 2 * (32 + 32)


def test_what_comes_after_the_network_is_not_trained_with_adapters(tmp_path: Path) -> None:
    """It would not be part of what is merged; and adapters are in float32, where the network is not."""
    base = saved(LlamaConfig, tmp_path / "base")
    network = build_model(ModelConfig(name=str(base), pooling="lasttoken"), list, device="cpu")
    dense = Dense(32, 16)
    SentenceTransformer(modules=[*network, dense], device="cpu").save_pretrained(str(tmp_path / "dense"))
    settings = {"model.pooling": None, "model.dtype": "bfloat16"}
    config = configured(tmp_path, tmp_path / "dense", **settings)
    assert config.lora is not None
    model = build_model(config.model, list, lora=config.lora, device="cpu")
    trained = {name: weight.dtype for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert set(trained.values()) == {torch.float32}
    folder = train(config).folder
    (weights,) = (load_file(path) for path in folder.glob("*_Dense/model.safetensors"))
    torch.testing.assert_close(weights["linear.weight"].float(), dense.linear.weight.data, atol=1e-2, rtol=0)
    with pytest.raises(RequestError, match=r"set lora\.merge = false"):
        LoraConfig(options={"modules_to_save": ["embed_tokens"]})
    LoraConfig(merge=False, options={"modules_to_save": ["embed_tokens"]})


def test_last_token_pooling_is_that_of_the_last_token(tmp_path: Path) -> None:
    config = ModelConfig(name=str(saved(LlamaConfig, tmp_path / "base")), pooling="lasttoken", passage_prompt="P: ")
    model = build_model(config, list, device="cpu")
    found = model.encode_document(TEXTS[:3])  # of different lengths, so that two of them are padded
    for text, vector in zip(TEXTS[:3], found, strict=True):
        inputs = model.tokenizer(f"P: {text}", return_tensors="pt")
        network: Any = model.transformers_model
        with torch.no_grad():
            hidden = network(input_ids=inputs["input_ids"]).last_hidden_state[0, -1]
        np.testing.assert_allclose(vector, hidden.numpy(), atol=1e-5)


def test_weights_can_be_half_precision(tmp_path: Path) -> None:
    base = saved(LlamaConfig, tmp_path / "base")
    trained = train(configured(tmp_path, base, **{"model.dtype": "bfloat16"}))
    assert {weight.dtype for weight in load_file(trained.folder / "model.safetensors").values()} == {torch.bfloat16}


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    base = saved(LlamaConfig, tmp_path / "base")
    config = ModelConfig(name=str(base))
    for changed, told in (
        (replace(config, max_length=129), "has 128 positions"),
        (replace(config, name=str(tmp_path / "absent")), "no folder"),
    ):
        with pytest.raises(RequestError, match=told):
            build_model(changed, list, device="cpu")
    model = build_model(config, list, device="cpu")
    with pytest.raises(RequestError, match="cannot be added"):
        add_lora(model, LoraConfig(targets=("query_key_value",)), str(base))
    with pytest.raises(RequestError, match=r"lora\.options"):
        add_lora(model, LoraConfig(options={"rank": 3}), str(base))
