"""Configurations: what is read, what is refused and in what words, and what ships with the package."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file  # type: ignore[import-untyped] # has no types
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer import losses

from hybrid_bench.data.training_record import RECORD, read_record, training_languages, write_record
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.training.arguments import check_names
from hybrid_bench.training.config import (
    _PLACED,
    ACCELERATE,
    LOSSES,
    PRESETS,
    TrainingConfig,
    load_config,
    merged,
    read_settings,
    to_toml,
)

SMALL = """
output = "models/small"
seed = 3
[model]
kind = "static"
[[sources]]
name = "demo"
kind = "lareqa"
dataset = "HybridDemo"
languages = ["de", "en"]
[sampling]
alpha = 0.25
[arguments]
max_steps = 5
learning_rate = 2e-1
"""


def written(folder: Path, text: str = SMALL, name: str = "small.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, **changes: Any) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(RequestError) as caught:
        check_names(load_config(written(folder, text), changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    config = load_config(written(tmp_path))
    assert config.output == Path("models/small")
    assert config.work == Path("models/small.training")
    assert (config.seed, config.model.kind, config.sampling.alpha) == (3, "static", 0.25)
    assert config.sources[0].languages == ("de", "en")
    assert config.training_arguments["learning_rate"] == 0.2
    assert config.training_arguments["weight_decay"] == 0.01  # the paper's, where nothing else is said


def test_yaml_says_the_same_as_toml(tmp_path: Path) -> None:
    text = yaml.safe_dump(read_settings(written(tmp_path))).replace("0.2\n", "2e-1\n")
    assert "learning_rate: 2e-1\n" in text  # which YAML 1.1 takes for a text
    assert load_config(written(tmp_path, text, "small.yaml")) == load_config(written(tmp_path))


@pytest.mark.parametrize("source", ["small", *PRESETS])
def test_toml_comes_back_the_same(source: str, tmp_path: Path) -> None:
    changes = {} if source == "small" else {"output": "x", "model.name": "x"}  # some presets are for others to extend
    config = load_config(written(tmp_path) if source == "small" else f"preset:{source}", changes)
    assert load_config(written(tmp_path, to_toml(config), "again.toml")) == config


def test_odd_texts_come_back_the_same(tmp_path: Path) -> None:
    odd = {"model.query_prompt": 'tab\t "quoted" \\ \x7f line\nend \u2028 日本'}
    text = SMALL.replace('kind = "static"', 'name = "x"')
    config = load_config(written(tmp_path, text), odd)
    assert load_config(written(tmp_path, to_toml(config), "again.toml")) == config


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[sampling]", "[sampler]", "unknown key sampler: did you mean 'sampling'?"),
        ("alpha =", "alhpa =", "unknown key sampling.alhpa: did you mean 'alpha'?"),
        ("alpha = 0.25", "alpha = 1.5", "alpha is 1.5"),
        ("alpha = 0.25", "alpha = nan", "alpha is nan"),
        ("alpha = 0.25", 'alpha = "half"', 'sampling.alpha = "half": should be a number'),
        ("seed = 3", "seed = 3.5", "seed = 3.5: should be a whole number"),
        ("seed = 3", "seed = true", "seed = true: should be a whole number"),
        ("max_steps", "max_step", "[arguments] max_step is no field"),
        ("max_steps", "max_step", "did you mean 'max_steps'?"),
        ("max_steps", "zzzzzz", "[arguments] zzzzzz is no field of SentenceTransformerTrainingArguments"),
        ("max_steps = 5", 'output_dir = "x"', "[arguments] output_dir: what decides it is output"),
        ('kind = "static"', 'kind = "statik"', "model.kind = \"statik\": did you mean 'static'?"),
        ('kind = "static"', 'kind = "static"\nlayers = 2', "model.layers = 2 belongs to a transformer"),
        ('kind = "static"', 'kind = "static"\nname = "x"', 'model.name = "x" belongs to a pretrained model'),
        ('kind = "static"', "", "model.name is missing"),
        ('kind = "static"', 'name = "x"\nwidth = 8', "model.width = 8 belongs to a model from nothing"),
        ('kind = "static"', 'kind = "transformer"\nwidth = 10', "model.width = 10 is no multiple of model.heads = 4"),
        ('kind = "static"', 'name = "x"\ninstruction = "a"\nquery_prompt = "b"', "leave out model.query_prompt"),
        ('kind = "static"', 'kind = "static"\n[lora]', "[lora] adapts a pretrained model"),
        ('kind = "static"', 'name = "x"\n[lora]\nr = 0', "lora.r = 0"),
        ("[sampling]", "[loss]\nmini_batch_size = 4\n[sampling]", 'set kind = "cached-mnrl"'),
        ("[sampling]", '[loss]\nkind = "gist"\n[sampling]', "loss.guide"),
        ("[sampling]", "[loss]\nscale = -1\n[sampling]", "loss.scale = -1.0: give a number above 0"),
        ("[sampling]", "[loss]\nscale = inf\n[sampling]", "loss.scale = inf"),
        ("[sampling]", "[loss]\nmono_weight = 0\ncross_weight = 0\n[sampling]", "both 0"),
        ("[sampling]", '[loss]\nkind = "cached-mnrl"\n[sampling]', "needs a transformer"),
        ("[sampling]", '[loss]\nkind = "cached-mnrl"\nmatryoshka = [8]\n[sampling]', "does not go with a cached loss"),
        ("[sampling]", "[validation]\npatience = 2\n[sampling]", "validation.source is missing"),
        (
            "[[sources]]",
            '[[sources]]\nname = "demo"\nkind = "mfaq"\nlanguages = ["en"]\n[[sources]]',
            "two sources are",
        ),
        (
            'dataset = "HybridDemo"',
            'datasets = "HybridDemo"',
            "unknown key sources[0].datasets: did you mean 'dataset'?",
        ),
        ('languages = ["de", "en"]', 'languages = ["german"]', "languages are given by code"),
        ("seed = 3", "seed = ", "is no TOML"),
        ("seed = 3", 'extends = "preset:paper-hybrid"', "no preset 'paper-hybrid'"),
        ("seed = 3", 'extends = "small.toml"', "extends itself"),
        ("seed = 3", "extends = 4", "name one file"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert old in SMALL
    assert told in refused(tmp_path, SMALL.replace(old, new, 1))


def test_missing_parts_are_named(tmp_path: Path) -> None:
    assert "output is missing" in refused(tmp_path, SMALL.replace('output = "models/small"', ""))
    assert "sources is missing" in refused(tmp_path, SMALL.partition("[[sources]]")[0])
    assert "no sources" in refused(tmp_path, "sources = []\n" + SMALL.partition("[[sources]]")[0])
    with pytest.raises(RequestError, match="there is no file"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(RequestError, match="preset:llm-lora"):
        load_config("llm-lora")
    with pytest.raises(RequestError, match=r"ends in \.toml"):
        load_config(written(tmp_path, "{}", "small.json"))


def test_changes_replace_what_the_file_says(tmp_path: Path) -> None:
    config = load_config(written(tmp_path), {"sampling.alpha": 1, "seed": 7, "evaluation.settings": ["mono"]})
    assert (config.sampling.alpha, config.seed, config.evaluation.settings) == (1, 7, ("mono",))
    assert "cannot set seed.x" in refused(tmp_path, SMALL, **{"seed.x": 1})
    assert "unknown key sampling.alpa" in refused(tmp_path, SMALL, **{"sampling.alpa": 1})


def test_tables_merge_and_lists_do_not(tmp_path: Path) -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(below, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    written(tmp_path)
    above = written(tmp_path, 'extends = "small.toml"\nseed = 4\n[arguments]\nmax_steps = 9\n', "above.toml")
    config = load_config(above)
    assert (config.seed, config.training_arguments["max_steps"], config.sampling.alpha) == (4, 9, 0.25)
    assert config.training_arguments["learning_rate"] == 0.2


def test_every_field_of_the_class_is_an_argument(tmp_path: Path) -> None:
    config = load_config(written(tmp_path))
    for field in dataclasses.fields(SentenceTransformerTrainingArguments):
        if field.init and field.name not in _PLACED:
            check_names(dataclasses.replace(config, arguments={field.name: None}))
    assert {field.name for field in dataclasses.fields(SentenceTransformerTrainingArguments)} >= _PLACED.keys()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [*a]", "no setting: Circular reference"),
        ("2026-01-01: 3", "no setting: "),
        ('output: "\\ud800"', "cannot be read: "),
        ("output: ~nobody-of-this-name/x", "name the folder without '~'"),
        ("sources: [[]]", "sources[0] = []: should be a table"),
        ("sources: {}", "sources = {}: should be a list"),
        ("model: 4", "model = 4: should be a table"),
        ("model: {normalize: 1}", "model.normalize = 1: should be true or false"),
        ("loss: {matryoshka: [8, 8.5]}", "loss.matryoshka[1] = 8.5: should be a whole number"),
        ("evaluation: {settings: [mono, crss]}", "evaluation.settings[1] = \"crss\": did you mean 'cross'?"),
        ("overlap: {check: true, drops: true}\nsees: 3", "unknown key "),
    ],
)
def test_what_only_yaml_can_say_is_refused_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    table = yaml.safe_dump({key: value for key, value in read_settings(written(tmp_path)).items() if key not in text})
    with pytest.raises(RequestError) as caught:
        load_config(written(tmp_path, f"{table}\n{text}\n", "small.yaml"))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configurations_are_read_without_torch(tmp_path: Path) -> None:
    # mteb, which the package registers its tasks with, is imported with the package unless it is our command line.
    code = (
        "import sys; sys.orig_argv = ['python', '-m', 'hybrid_bench'];"
        "from hybrid_bench.training.config import load_config; load_config(sys.argv[1]);"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'mteb') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(written(tmp_path))]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == "[]"


def test_every_loss_has_a_class_that_the_wrapper_takes() -> None:
    for name in LOSSES.values():
        assert isinstance(getattr(losses, name), type)


@pytest.mark.parametrize("backbone", ["xlmr", "labse"])
def test_paper_presets_are_the_papers(backbone: str) -> None:
    shares = {"x-x-mono": 1, "x-y": 0, "hybrid": 0.5}
    found: dict[str, TrainingConfig] = {mode: load_config(f"preset:paper-{backbone}-{mode}") for mode in shares}
    assert {mode: config.sampling.alpha for mode, config in found.items()} == shares
    for config in found.values():
        arguments = config.training_arguments
        assert (arguments["learning_rate"], arguments["weight_decay"]) == (3e-5, 1e-2)
        assert arguments["per_device_train_batch_size"] == 100
        assert config.model.prompts == {"query": "Query: ", "document": "Passage: "}
        assert config.validation is not None
        assert config.validation.source.name == "SQuADShifts"
        assert config.overlap.drop
    alike = {
        to_toml(dataclasses.replace(config, sampling=found["hybrid"].sampling, output=Path("x")))
        for config in found.values()
    }
    assert len(alike) == 1  # they differ in how batches are drawn, and in nothing else


def test_llm_preset_uses_what_large_models_need() -> None:
    config = load_config("preset:llm-lora")
    assert config.lora is not None
    assert config.loss.cached
    assert config.model.pooling == "lasttoken"
    assert config.model.prompts["query"].startswith("Instruct: ")
    assert config.model.prompts["query"].endswith("\nQuery: ")
    assert config.training_arguments["bf16"]
    assert config.training_arguments["gradient_checkpointing"]


def test_accelerate_takes_every_configuration_that_ships() -> None:
    assert set(ACCELERATE) == {"ddp", "fsdp", "deepspeed-zero2", "deepspeed-zero3"}
    kinds = {name: load_config_from_file(str(path)) for name, path in ACCELERATE.items()}
    told = {name: str(config.distributed_type.value) for name, config in kinds.items()}
    assert told == {
        "ddp": "MULTI_GPU",
        "fsdp": "FSDP",
        "deepspeed-zero2": "DEEPSPEED",
        "deepspeed-zero3": "DEEPSPEED",
    }
    assert kinds["deepspeed-zero2"].deepspeed_config["zero_stage"] == 2
    assert kinds["deepspeed-zero3"].deepspeed_config["zero_stage"] == 3
    assert kinds["fsdp"].fsdp_config["fsdp_version"] == 2
    # These are the training's to say, and would contradict it.
    for path in ACCELERATE.values():
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert "mixed_precision" not in settings
        assert not {"gradient_accumulation_steps", "gradient_clipping"} & settings.get("deepspeed_config", {}).keys()


def test_a_model_tells_its_languages(tmp_path: Path) -> None:
    assert training_languages(tmp_path) is None
    write_record(tmp_path, {"languages": ["en", "de"], "alpha": 0.5})
    assert training_languages(tmp_path) == ("de", "en")
    assert (read_record(tmp_path) or {})["alpha"] == 0.5
    first = (tmp_path / RECORD).read_bytes()
    write_record(tmp_path, {"languages": ["en", "de"], "alpha": 0.5})
    assert (tmp_path / RECORD).read_bytes() == first
    for damaged in ("{", "[]", '{"format": 1, "languages": "en"}', '{"format": 99, "languages": []}'):
        (tmp_path / RECORD).write_text(damaged, encoding="utf-8")
        with pytest.raises(DataError, match=RECORD):
            training_languages(tmp_path)
