"""Trainings from configurations: real ones, of models that are small enough to be trained here in a second or two."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer

from helpers import save_tiny
from hybrid_bench.analysis.comparisons import Aligned, align
from hybrid_bench.cli.commands import main
from hybrid_bench.data.training_record import read_record, training_languages
from hybrid_bench.engine import models
from hybrid_bench.errors import DataError, HybridBenchError, ModelError, RequestError
from hybrid_bench.evaluation.runner import RunRequest, run
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import compare
from hybrid_bench.measures.trainings import compare_methods
from hybrid_bench.runs.reading import find_runs, joined
from hybrid_bench.training.arguments import trainer_arguments
from hybrid_bench.training.build import build_model, texts_of, train_tokenizer
from hybrid_bench.training.config import LOSSES, ModelConfig, TrainingConfig
from hybrid_bench.training.loop import Trained, _prompt, train
from hybrid_bench.training.prepared import asked_questions, prepare
from hybrid_bench.training.state import alone, write_manifest
from hybrid_bench.training.sweeps import Point, pareto, sweep, sweep_report
from small_training import SMALL, TINY, Told, configured, weights


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections that are not here are not tried for."""
    monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
    monkeypatch.delenv("HYBRID_BENCH_DATA", raising=False)


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """Sums in one order, so that two trainings can be the same to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained, Told]:
    """A finished training's folder, what it returned and what it told."""
    folder, told = tmp_path_factory.mktemp("finished"), Told()
    return folder, train(configured(folder), told.append), told


def test_training_improves_what_it_is_not_trained_on(finished: tuple[Path, Trained, Told]) -> None:
    _, trained, told = finished
    measure = "HybridDemo_monolingual_map"
    assert trained.steps == 8
    assert trained.after[measure] != trained.before[measure]
    assert told.about("step 8 of 8: loss")
    assert all("loss_monolingual" in line or "loss_cross_lingual" in line for line in told.about(" of 8: loss"))


def test_loggers_and_model_card_are_told_how_batches_are_drawn(finished: tuple[Path, Trained, Told]) -> None:
    """The Trainer gives loggers a dictionary of its arguments, which leaves out the sampler."""
    _, trained, _ = finished
    checkpoint = trained.folder.with_name("model.training") / "checkpoint-8"
    arguments = torch.load(checkpoint / "training_args.bin", weights_only=False)
    logged = arguments.to_dict()
    assert (logged["sampling"], logged["alpha"]) == ("hybrid", 0.5)
    assert (logged["languages"], logged["sources"]) == (["de", "en"], ["demo half"])
    assert "- `alpha`: 0.5" in (trained.folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="here bfloat16 can be checked")
def test_a_training_for_another_machine_can_be_checked_without_an_accelerator(tmp_path: Path) -> None:
    config = configured(tmp_path, {"arguments.use_cpu": False, "arguments.bf16": True})
    with pytest.raises(RequestError, match="bf16"):
        prepare(config)
    told = Told()
    prepare(config, told.append, elsewhere=True)
    assert told.about("[arguments] bf16: not checked, there is no accelerator here")


def test_run_finds_the_same_in_the_saved_model(finished: tuple[Path, Trained, Told], tmp_path: Path) -> None:
    folder, trained, _ = finished
    # The whole collection: so the model is evaluated again by the evaluator, on all questions.
    from hybrid_bench.training.evaluator import HybridRetrievalEvaluator

    model = SentenceTransformer(str(trained.folder), device="cpu")
    assert model.prompts["query"] == "Query: "
    measured = HybridRetrievalEvaluator("HybridDemo", languages=["de", "en"], settings=["mono"])(model)
    request = RunRequest((str(trained.folder),), ["HybridDemo-Pairs"], ["mono"], ["de", "en"], output=tmp_path)
    outcome = run(request)
    assert not outcome.failures
    saved = json.loads((outcome.folders[0] / "HybridDemo-Pairs.json").read_text(encoding="utf-8"))
    scores = [each["map"] for each in saved["scores"]["test"]]
    assert np.mean(scores) == pytest.approx(measured["HybridDemo_monolingual_map"], abs=1e-6)
    assert folder / "model" == trained.folder


def test_the_folder_says_how_it_was_trained(finished: tuple[Path, Trained, Told]) -> None:
    _, trained, _ = finished
    assert training_languages(trained.folder) == ("de", "en")
    record = read_record(trained.folder) or {}
    assert (record["mode"], record["alpha"], record["seed"], record["steps"]) == ("hybrid", 0.5, 0, 8)
    assert record["sources"] == [{"name": "demo half", "rows": 42, "languages": ["de", "en"]}]
    assert record["after"] == dict(trained.after)
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    for text in ("alpha 0.5", "German, English", "demo half", "not** compared", "HybridDemo_monolingual_map", "- de\n"):
        assert text in card, text
    assert not (trained.folder / "training_args.bin").exists()


def test_the_same_training_is_not_done_twice(finished: tuple[Path, Trained, Told]) -> None:
    folder, trained, _ = finished
    before, told = models.folder_hash(trained.folder), Told()
    again = train(
        configured(folder, {"arguments.logging_steps": 2}), told.append
    )  # which changes nothing that is learned
    assert told.about("already trained")
    assert models.folder_hash(trained.folder) == before
    assert (again.after, again.steps) == (trained.after, trained.steps)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampling.alpha": 0.25}, "sampling.alpha was 0.5, now 0.25"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"arguments.learning_rate": 0.5}, "arguments.learning_rate was 0.02, now 0.5"),
        ({"model.width": 16}, "model.width was 32, now 16"),
    ],
)
def test_a_model_of_another_training_is_refused(
    finished: tuple[Path, Trained, Told], change: dict[str, Any], told: str
) -> None:
    with pytest.raises(RequestError, match=f"model of another training .*{told}"):
        prepare(configured(finished[0], change))


def test_an_interrupted_training_goes_on_exactly(finished: tuple[Path, Trained, Told], tmp_path: Path) -> None:
    _, trained, _ = finished
    whole = weights(trained.folder)
    config = configured(tmp_path)
    shutil.copytree(trained.folder.with_name("model.training"), config.work)
    shutil.rmtree(config.work / "checkpoint-8")
    (config.work / "checkpoint-6").mkdir()  # one that was being written when the power went
    told = Told()
    train(config, told.append)
    assert told.about("going on from")[0].endswith("checkpoint-4")
    again = weights(config.output)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    record = read_record(config.output) or {}
    assert record["before"] == dict(trained.before)  # measured when the training began


def copied(trained: Trained, folder: Path) -> TrainingConfig:
    """The same training in another folder, of which the model is not there yet."""
    config = configured(folder)
    shutil.copytree(trained.folder.with_name("model.training"), config.work)
    return config


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda folder: (folder / "scheduler.pt").unlink(), "scheduler.pt is missing"),
        (lambda folder: (folder / "rng_state.pth").unlink(), "rng_state.pth is missing"),
        (lambda folder: cut(folder / "optimizer.pt"), "optimizer.pt is damaged"),
        (lambda folder: flipped(folder / "model.safetensors"), "model.safetensors is damaged"),
        (lambda folder: (folder / "trainer_state.json").write_text("{"), "trainer_state.json is damaged"),
        (lambda folder: (folder / "manifest.json").unlink(), "it was not saved to the end"),
        (lambda folder: (folder / "manifest.json").write_text('{"a": 1}'), "manifest.json is damaged"),
    ],
)
def test_a_training_goes_on_from_the_last_whole_checkpoint(
    damage: Callable[[Path], object], told: str, finished: tuple[Path, Trained, Told], tmp_path: Path
) -> None:
    config, lines = copied(finished[1], tmp_path), Told()
    last = config.work / "checkpoint-8"
    had_ended = (last / "manifest.json").is_file()
    damage(last)
    train(config, lines.append)
    assert had_ended
    assert lines.about(f"{last} is not whole: {told}")
    assert lines.about(f"going on from {config.work / 'checkpoint-4'}")
    whole, again = weights(finished[1].folder), weights(config.output)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    kept = config.work / "damaged-checkpoint-8"
    assert kept.is_dir() == (told != "it was not saved to the end")  # nothing that was there is lost


def test_without_a_whole_checkpoint_a_training_begins_anew(
    finished: tuple[Path, Trained, Told], tmp_path: Path
) -> None:
    config, lines = copied(finished[1], tmp_path), Told()
    for step in (4, 8):
        (config.work / f"checkpoint-{step}" / "optimizer.pt").unlink()
    assert prepare(config, lines.append).resume is None
    assert (config.work / "checkpoint-8").is_dir()  # a check changes nothing
    assert lines.about("no checkpoint is whole: the training starts at its beginning")


def test_a_checkpoint_whose_best_is_damaged_is_not_whole(finished: tuple[Path, Trained, Told], tmp_path: Path) -> None:
    """At the end of the training, the best would be what is saved."""
    config, lines = copied(finished[1], tmp_path), Told()
    last = config.work / "checkpoint-8"
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    state["best_model_checkpoint"] = "/moved/since/checkpoint-4"
    (last / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    write_manifest(last)
    assert prepare(config).resume == last
    flipped(config.work / "checkpoint-4" / "model.safetensors")
    assert prepare(config, lines.append).resume is None
    assert lines.about(f"{last} is not whole: checkpoint-4, the best so far, is not whole: model.safetensors is")


def test_of_two_trainings_into_one_folder_the_second_waits(
    finished: tuple[Path, Trained, Told], tmp_path: Path
) -> None:
    """And then finds what the first one made."""
    config, lines = configured(tmp_path), Told()
    with ThreadPoolExecutor() as threads:
        with alone(config, lines.append):
            second = threads.submit(train, config, lines.append)
            while not lines.about("waiting until it is through"):
                assert not second.done()
                time.sleep(0.01)
            assert {path.name for path in config.work.iterdir()} == {".lock"}
            shutil.copytree(finished[1].folder, config.output)
            assert not second.done()
        assert second.result().steps == 8
    assert lines.about("already trained")


@pytest.mark.parametrize("kind", ["link to an empty folder", "link to nothing", "link to another file system", "model"])
def test_the_output_may_be_a_link(kind: str, finished: tuple[Path, Trained, Told], tmp_path: Path) -> None:
    config, target = copied(finished[1], tmp_path), tmp_path / "elsewhere" / "here"
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as other:
        if kind == "link to another file system":
            target = Path(other)
        elif kind != "link to nothing":
            target.mkdir(parents=True)
        if kind == "model":  # of another training, which may go
            shutil.copytree(finished[1].folder, target, dirs_exist_ok=True)
            (target / "more").mkdir()
            (target / "hybrid_training.json").write_text("{}", encoding="utf-8")
        config.output.symlink_to(target)
        train(config, overwrite=kind == "model")
        assert config.output.is_symlink()
        names = {path.name for path in finished[1].folder.iterdir()}
        assert {path.name for path in config.output.iterdir()} == names
        whole, again = weights(finished[1].folder), weights(target)
        assert all(torch.equal(whole[name], again[name]) for name in whole)
        assert prepare(config).done
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "model.training", "elsewhere", "small.toml"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="who is not root mounts nothing")
def test_the_output_may_be_a_mounted_folder(finished: tuple[Path, Trained, Told], tmp_path: Path) -> None:
    config = copied(finished[1], tmp_path)
    config.output.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", config.output], capture_output=True, check=False).returncode:
        pytest.skip("this container mounts nothing")
    try:
        (config.output / "lost+found").mkdir()
        train(config)
        names = {path.name for path in finished[1].folder.iterdir()}
        assert {path.name for path in config.output.iterdir()} == names | {"lost+found"}
        assert prepare(config).done
        # A kill while the files of a new model come: it is put there again, and not taken for something else.
        (config.output / "hybrid_training.json").unlink()
        (config.output / ".arriving").mkdir()
        train(config)
        assert {path.name for path in config.output.iterdir()} == names | {"lost+found"}
    finally:
        subprocess.run(["umount", config.output], check=True)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("circle", "is no folder"),
        ("a\0b", "is no folder"),
        ("n" * 256, "choose another output"),
        ("full", "holds something else"),
        ("link-to-file", "is a file"),
    ],
)
def test_an_output_that_cannot_be_is_said_in_one_line(output: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "link-to-file").symlink_to(tmp_path / "full" / "thesis.tex")
    config = replace(configured(tmp_path), output=tmp_path / output)
    with pytest.raises(HybridBenchError, match=told) as caught:
        train(config)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("killed", [False, True])
def test_a_finished_training_goes_on_when_it_is_to_be_longer(killed: bool, tmp_path: Path) -> None:
    """With a constant learning rate, to the very weights of a training that was that long from the start."""
    (tmp_path / "whole").mkdir()
    alike = {"arguments.lr_scheduler_type": "constant", "evaluation.collections": []}
    whole = train(configured(tmp_path / "whole", {**alike, "arguments.max_steps": 12}))
    train(configured(tmp_path, {**alike, "arguments.max_steps": 6, "arguments.save_steps": 3}))
    longer = configured(tmp_path, {**alike, "arguments.max_steps": 12, "arguments.save_steps": 3})
    state = (longer.work / "training.json").read_bytes()
    told = Told()
    assert prepare(longer, told.append).resume == longer.work / "checkpoint-6"
    assert told.about("a longer training than there was (arguments.max_steps was 6, now 12)")
    assert (longer.work / "training.json").read_bytes() == state  # a check changes nothing
    if killed:  # just after it began: its checkpoint is still that of the shorter one
        prepare(longer, write=True)
    assert train(longer).steps == 12
    expected, found = weights(whole.folder), weights(longer.output)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (read_record(longer.output) or {})["steps"] == 12
    assert prepare(longer).done
    for shorter in ({"arguments.max_steps": 6}, {"arguments.max_steps": 20, "seed": 1}, {"arguments.max_steps": -1}):
        with pytest.raises(RequestError, match="holds a model of another training"):
            prepare(configured(tmp_path, {**alike, **shorter}))
    shutil.rmtree(longer.work)
    with pytest.raises(RequestError, match="holds a model of another training"):  # nothing to go on from
        prepare(configured(tmp_path, {**alike, "arguments.max_steps": 20}))


def test_more_epochs_go_on_too(tmp_path: Path) -> None:
    alike = {"evaluation.collections": [], "arguments.max_steps": -1, "arguments.save_strategy": "epoch"}
    first = train(configured(tmp_path, {**alike, "arguments.num_train_epochs": 1}))
    longer = configured(tmp_path, {**alike, "arguments.num_train_epochs": 2})
    assert prepare(longer).resume is not None
    assert train(longer).steps == 2 * first.steps


def test_what_takes_memory_alone_may_change(tmp_path: Path) -> None:
    """Out of memory is why many a training is started again."""
    loss = {"kind": "cached-mnrl", "mini_batch_size": 8}
    changes = {"model": TINY, "loss": loss, "arguments.max_steps": 2, "arguments.save_steps": 1}
    config = configured(tmp_path, {**changes, "evaluation.collections": []})
    train(config)
    shutil.rmtree(config.output)
    loss["mini_batch_size"] = 2
    less = {"arguments.gradient_checkpointing": True, "arguments.per_device_eval_batch_size": 2}
    resumed = prepare(configured(tmp_path, {**changes, **less, "evaluation.collections": []}))
    assert resumed.resume == config.work / "checkpoint-2"


def test_a_checkpoint_of_other_texts_is_refused(tmp_path: Path) -> None:
    """As many rows as before, but of another edition."""

    def rows(word: str) -> str:
        texts = (
            {f"{role}_{code}": f"{word} {role} {code} {row}" for role in ("query", "passage") for code in ("de", "en")}
            for row in range(40)
        )
        return "".join(json.dumps(each) + "\n" for each in texts)

    file = tmp_path / "rows.jsonl"
    changes = {
        "sources": [{"name": "mine", "kind": "parallel", "path": str(file)}],
        "arguments.max_steps": 4,
        "arguments.save_steps": 2,
        "evaluation.collections": [],
    }
    file.write_text(rows("old"), encoding="utf-8")
    config = configured(tmp_path, changes)
    train(config)
    file.write_text(rows("new"), encoding="utf-8")
    with pytest.raises(RequestError, match=r"holds a model of another training \(texts.mine was .*, now "):
        train(config)
    file.write_text(rows("old"), encoding="utf-8")
    shutil.rmtree(config.output)
    assert prepare(config).resume == config.work / "checkpoint-4"
    file.write_text(rows("new"), encoding="utf-8")
    with pytest.raises(RequestError, match=r"checkpoint-4 is of another training \(texts.mine was .*, now "):
        prepare(config)


def test_a_checkpoint_of_another_training_is_refused(finished: tuple[Path, Trained, Told], tmp_path: Path) -> None:
    config = configured(tmp_path, {"sampling.alpha": 1.0})
    shutil.copytree(finished[1].folder.with_name("model.training"), config.work)
    with pytest.raises(RequestError, match=r"checkpoint-8 is of another training .*sampling.alpha was 0.5, now 1.0"):
        prepare(config)
    (config.work / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="--overwrite starts anew"):
        prepare(config)
    assert prepare(config, overwrite=True).resume is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arguments.lr_scheduler_type": "zigzag"}, "[arguments]: zigzag is not a valid SchedulerType"),
        ({"arguments.learning_rate": "high"}, '[arguments] learning_rate = "high"'),
        ({"arguments.per_device_train_batch_size": 1}, "per_device_train_batch_size = 1: give a number of at least 2"),
        ({"arguments.report_to": "wandb"}, "report_to wandb needs wandb, which is not installed"),
        ({"arguments.report_to": ["tensorboard"]}, "report_to tensorboard needs tensorboard"),
        ({"arguments.load_best_model_at_end": True}, "load_best_model_at_end: give [validation]"),
        ({"arguments.eval_strategy": "steps", "evaluation.collections": []}, "there is nothing to evaluate"),
        ({"loss.options": {"temprature": 1}}, "has no option 'temprature': "),
        ({"arguments.per_device_train_batch_size": 100}, "groups of rows"),
        ({"sampling.mode": "en-en", "sampling.language": "fr"}, "no source is in 'fr'"),
        ({"evaluation.collections": ["HybridDemos"]}, "did you mean 'HybridDemo'"),
        ({"evaluation.folds": 1, "evaluation.fold": [0], "evaluation.languages": ["xx"]}, "unknown language 'xx'"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_made(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    config = configured(tmp_path, changes)
    with pytest.raises(RequestError) as caught:
        train(config)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not config.output.exists()


@pytest.mark.parametrize(
    ("metric", "said", "expected"),
    [
        ("eval_HybridDemo_map", None, True),
        ("eval_HybridDemo_bias_rank_distance", None, False),
        ("HybridDemo_bias_max_rank_norm", None, True),
        ("eval_loss", None, False),
        ("eval_HybridDemo_bias_rank_distance", False, False),
        ("eval_HybridDemo_bias_language_preference", True, True),
        ("eval_HybridDemo_bias_rank_distance", True, "less of eval_HybridDemo_bias_rank_distance is better"),
        ("eval_HybridDemo_map", False, "more of eval_HybridDemo_map is better"),
        ("eval_HybridDemo_bias_language_preference", None, "neither more nor less of it is better"),
    ],
)
@pytest.mark.parametrize("validation", [False, True])
def test_the_best_checkpoint_is_the_best_by_its_measure(
    validation: bool, metric: str, said: bool | None, expected: bool | str, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"arguments.load_best_model_at_end": True, "arguments.metric_for_best_model": metric}
    changes |= {"arguments.eval_strategy": "steps", "arguments.eval_steps": 4}
    changes |= {} if said is None else {"arguments.greater_is_better": said}
    if validation:
        held = {"name": "held", "kind": "lareqa", "dataset": "HybridDemo", "options": {"folds": 2, "fold": [1]}}
        changes |= {"validation.source": held}
    config = configured(tmp_path, changes)
    if isinstance(expected, str):
        with pytest.raises(RequestError, match=expected):
            trainer_arguments(config)
    else:
        assert trainer_arguments(config).greater_is_better is expected


def test_a_measure_of_bias_may_decide_which_checkpoint_is_kept(tmp_path: Path) -> None:
    metric = "HybridDemo_bias_rank_distance"
    changes = {
        "evaluation.settings": ["multi"],
        "arguments.max_steps": 6,
        "arguments.save_steps": 2,
        "arguments.eval_strategy": "steps",
        "arguments.eval_steps": 2,
        "arguments.load_best_model_at_end": True,
        "arguments.metric_for_best_model": f"eval_{metric}",
    }
    trained = train(configured(tmp_path, changes))
    state = json.loads((trained.folder.with_name("model.training") / "checkpoint-6/trainer_state.json").read_text())
    measured = [line[f"eval_{metric}"] for line in state["log_history"] if f"eval_{metric}" in line]
    assert len({*measured}) == 3
    assert trained.after[metric] == state["best_metric"] == min(measured)


@pytest.mark.parametrize("package", ["accelerate", "rensa"])
def test_what_is_not_installed_is_said(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.toml"
    path.write_text(f'output = "{tmp_path}/model"\n{SMALL}'.replace("check = false", "check = true"), encoding="utf-8")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == package else found(name))
    code, _, err = command("train", path, "--check")
    assert (code, len(err.splitlines())) == (2, 1)
    extra = "'accelerate>=1.10' 'pydantic>=2.11' 'pyyaml>=6' 'rensa>=0.5'"
    assert f"needs {package}, which is not installed: pip install {extra}" in err


def test_data_that_do_not_fit_are_said(tmp_path: Path) -> None:
    one = SMALL.replace('languages = ["de", "en"]\noptions', 'languages = ["de"]\noptions')
    with pytest.raises(RequestError, match=r"alpha is 0.5, but every source is in one language: demo half \(de\)"):
        prepare(configured(tmp_path, text=one))
    with pytest.raises((RequestError, DataError), match="yo"):
        prepare(
            configured(tmp_path, text=SMALL.replace('languages = ["de", "en"]\noptions', 'languages = ["yo"]\noptions'))
        )
    table = '[[sources]]\nname = "mine"\nkind = "parallel"\npath = "{}"\n'
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query_de": "a", "passage_de": "b", "query_en": "c"}\n', encoding="utf-8")
    with pytest.raises((RequestError, DataError), match=r"mine.*passage_en"):
        prepare(configured(tmp_path, text=SMALL + table.format(rows)))
    with pytest.raises((RequestError, DataError), match="absent"):
        prepare(configured(tmp_path, text=SMALL + table.format(tmp_path / "absent.jsonl")))


def test_an_output_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.output.mkdir()
    (config.output / "thesis.tex").touch()
    with pytest.raises(RequestError, match="holds something else"):
        train(config, overwrite=True)
    shutil.rmtree(config.output)
    config.output.touch()
    with pytest.raises(RequestError, match="is a file"):
        train(config)


def test_overlap_is_dropped_and_told(tmp_path: Path) -> None:
    """By article nothing is shared; with another division, questions that are asked are trained on."""
    changes = {"overlap.check": True, "evaluation.by": "paragraph"}
    told = Told()
    ready = prepare(configured(tmp_path, changes), told.append)
    assert len(ready.sources[0]) == 42
    assert ready.overlap is not None
    assert "HybridDemo" in ready.overlap.compared
    assert "XQuAD-R" in ready.overlap.not_compared  # not here
    trained = train(configured(tmp_path, {**changes, "arguments.max_steps": 1}))
    card = (trained.folder / "README.md").read_text(encoding="utf-8")
    assert "**Not compared**" in card
    assert str(Path.home()) not in card  # nor anything else of this machine
    for folder in (trained.folder, trained.folder.with_name("model.training")):
        shutil.rmtree(folder)
    changes |= {"evaluation.folds": 4, "evaluation.fold": [0]}  # a half of what is trained on
    ready = prepare(configured(tmp_path, changes), told.append)
    assert 0 < len(ready.sources[0]) < 42
    assert told.about("stand in an evaluation collection, dropped")
    assert told.about("HybridDemo, same question")
    assert told.about("not compared with XQuAD-R: ")
    kept = prepare(configured(tmp_path, {**changes, "overlap.drop": False}))
    assert len(kept.sources[0]) == 42
    assert not told.about("WARNING")
    prepare(configured(tmp_path, {**changes, "evaluation.folds": 1, "evaluation.fold": [0]}), told.append)
    assert told.about("WARNING: HybridDemo is trained on, as demo half, and measured")


def test_a_validation_set_must_not_stand_in_a_collection_either(tmp_path: Path) -> None:
    validation = """
[validation.source]
name = "asked"
kind = "lareqa"
dataset = "HybridDemo"
languages = ["en"]
options = { folds = 4, fold = [1, 2, 3] }
"""
    told = Told()
    changes = {"overlap.check": True, "evaluation.folds": 4, "evaluation.fold": [3], "arguments.eval_steps": 2}
    text = SMALL.replace("save_steps = 4\n", "").replace("folds = 2, fold = [0]", "folds = 4, fold = [0]")
    ready = prepare(configured(tmp_path, changes, text + validation), told.append)
    assert ready.validation is not None
    assert 0 < len(ready.validation) < 63
    assert told.about("asked: ")


def test_passages_are_trained_with_the_prompt_that_they_are_embedded_with(tmp_path: Path) -> None:
    base = build_model(ModelConfig(**{**TINY, "vocabulary": 300}), lambda: ["Bienen", "bees"], device="cpu")  # type: ignore[arg-type] # of several types
    base.prompts = {"query": "query: ", "passage": "passage: "}
    base.save_pretrained(str(tmp_path / "base"))
    model = SentenceTransformer(str(tmp_path / "base"), device="cpu")
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        names = {"query": ("query",), "document": ("document", "passage", "corpus")}[role]
        prompt = _prompt(model, *names)
        assert np.array_equal(encode(["bees"]), model.encode(["bees"], prompt=prompt))


def test_nan_ends_the_training(tmp_path: Path) -> None:
    changes = {"arguments.learning_rate": 1e38, "arguments.max_grad_norm": 0.0, "evaluation.collections": []}
    with pytest.raises(ModelError, match="the loss is nan"):
        train(configured(tmp_path, changes))


def test_validation_ends_the_training_and_chooses_the_best(tmp_path: Path) -> None:
    validation = """
[validation]
patience = 2
min_delta = 1000.0
[validation.source]
name = "english"
kind = "lareqa"
dataset = "HybridDemo"
languages = ["en"]
options = { folds = 2, fold = [1] }
"""
    changes = {"arguments.max_steps": 100, "arguments.eval_steps": 2, "arguments.save_total_limit": 1}
    text = SMALL.replace("save_steps = 4\n", "")
    told = Told()
    trained = train(configured(tmp_path, {**changes, "evaluation.collections": []}, text + validation), told.append)
    # The first evaluation is the best so far; two more are not lower by as much as that.
    assert trained.steps == 6
    assert len(told.about("eval_loss")) == 3
    with pytest.raises(RequestError, match="two sources are named 'demo half'"):
        configured(tmp_path, {**changes, "validation.source.name": "demo half"}, text + validation)
    # Going on after the second evaluation, it knows that this was one of the two.
    changes["arguments.save_total_limit"] = 3
    config = configured(tmp_path, {**changes, "evaluation.collections": []}, text + validation)
    train(config, overwrite=True)
    shutil.rmtree(config.output)
    shutil.rmtree(config.work / "checkpoint-6")
    assert train(config, told.append).steps == 6
    assert told.about("going on from")[0].endswith("checkpoint-4")
    # Interrupted after the last step, it takes no other one: the best checkpoint is what is kept.
    expected = weights(config.output)
    shutil.rmtree(config.output)
    again = train(config, told.append)
    assert again.steps == 6
    assert told.about("the training had ended")
    assert all(torch.equal(weights(again.folder)[name], weight) for name, weight in expected.items())


def test_a_training_that_was_interrupted_after_its_last_step_is_saved_and_measured(tmp_path: Path) -> None:
    config = configured(tmp_path, {"arguments.lr_scheduler_type": "constant", "arguments.max_steps": 7})
    first = train(config)
    record = read_record(config.output)
    files = {path.name for path in config.output.rglob("*")}
    expected = weights(config.output)
    shutil.rmtree(config.output)
    told = Told()
    again = train(config, told.append)
    assert told.about("the training had ended")
    assert (again.steps, again.before, again.after) == (7, first.before, first.after)
    assert all(torch.equal(weights(again.folder)[name], weight) for name, weight in expected.items())
    assert {path.name for path in config.output.rglob("*")} == files
    assert read_record(config.output) == record
    assert "### Results" in (config.output / "README.md").read_text(encoding="utf-8")


def test_a_transformer_from_nothing(tmp_path: Path) -> None:
    changes = {
        "model": TINY,
        "arguments.max_steps": 2,
        "evaluation.collections": [],
        "loss": {"kind": "cached-mnrl", "mini_batch_size": 4, "scale": 10},
    }
    trained = train(configured(tmp_path, changes))
    model = SentenceTransformer(str(trained.folder), device="cpu")
    assert model.get_embedding_dimension() == 16
    assert model.max_seq_length == 32
    assert np.isfinite(model.encode(["Bienen", "ミツバチ" * 50])).all()
    meta = models.model_meta(str(trained.folder))
    assert models.load(meta, "cpu") is not None


def test_the_same_seed_gives_the_same_model() -> None:
    texts = ["der Honig der Bienen", "the honey of bees", "мёд пчёл"] * 3
    config = ModelConfig(kind="static", vocabulary=300, width=8)
    first, again, other = (build_model(config, lambda: texts, seed=seed, device="cpu") for seed in (0, 0, 1))
    assert np.array_equal(first.encode(texts), again.encode(texts))
    assert not np.array_equal(first.encode(texts), other.encode(texts))


def test_the_tokenizer_has_a_token_for_everything() -> None:
    tokenizer = train_tokenizer(["the bees", "the honey", "the hive"], 300)
    assert tokenizer.decode(tokenizer.encode("Ωμέγα 蜂 🐝").ids).strip() == "ωμέγα 蜂 🐝"
    assert "[UNK]" not in tokenizer.encode("Ωμέγα 蜂 🐝").tokens
    assert len(tokenizer.encode("the").ids) == 1  # learned
    with pytest.raises(RequestError, match=r"model\.vocabulary = 100: 261 tokens are needed"):
        train_tokenizer(["a"], 100)


def test_texts_for_the_tokenizer_are_of_all_languages(tmp_path: Path) -> None:
    (source,) = prepare(configured(tmp_path)).sources
    most = list(texts_of([source], most=5))
    assert len(most) == 20  # queries and passages in two languages
    assert len(list(texts_of([source]))) > 20


def test_pareto_front_by_definition() -> None:
    rng = np.random.default_rng(0)
    points = [*rng.integers(0, 5, (40, 2)).tolist(), [4, 4]]
    expected = [
        not any(all(b >= a for a, b in zip(one, two, strict=True)) and two != one for two in points) for one in points
    ]
    assert pareto(points) == expected
    assert pareto([[0.2, 0.1], [0.1, 0.2], [0.1, 0.1]]) == [True, True, False]


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """A command in this process: its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return code, out.getvalue(), err.getvalue()


def test_command_shows_checks_and_estimates(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(f'output = "{tmp_path}/model"\n{SMALL}', encoding="utf-8")
    code, out, _ = command("train", path, "--set", "sampling.alpha=0.25", "seed=7", "--show")
    assert (code, "alpha = 0.25\n" in out, "seed = 7\n" in out) == (0, True, True)
    code, out, err = command("train", path, "--check")
    assert (code, out) == (0, "")
    assert "5 steps an epoch, of 8 pairs: demo half 5" in err
    code, out, _ = command("train", path, "--estimate", "--devices", "2")
    assert (code, "| peak of a step |" in out) == (0, True)
    # Hard negatives are those that the sources are asked for, unless another number is given.
    mmarco = 'sources=[{name = "m", kind = "mmarco", languages = ["de", "en"], options = {negatives = 1}}]'
    _, out, _ = command("train", path, "--set", mmarco, "--estimate")
    assert "of 128 + 128 + 128 tokens" in out
    _, out, _ = command("train", path, "--set", mmarco, "--estimate", "--negatives", "0")
    assert "of 128 + 128 tokens" in out
    code, out, _ = command("train", "--accelerate-config", "fsdp")
    assert (code, Path(out.strip()).name) == (0, "fsdp.yaml")
    code, out, _ = command("train", "--preset", "paper-xlmr-x-y", "--show")
    assert (code, 'mode = "x-y"' in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train",), "name one training"),
        (("train", "a.toml", "--preset", "b"), "name one training"),
        (("train", "absent.toml"), "there is no file absent.toml"),
        (("train", "--preset", "paper-hybrid"), "no preset 'paper-hybrid'"),
        (("train", "--accelerate-config", "fdsp"), "did you mean 'fsdp'"),
        (("train", "--preset", "llm-lora", "--set", "seed"), "should be KEY=VALUE"),
        (("train", "--preset", "llm-lora", "--set", "sampling.alpha=2", "--show"), "alpha is 2"),
        (("sweep", "--preset", "llm-lora"), "--alpha"),
    ],
)
def test_command_refuses_in_one_line(arguments: tuple[str, ...], told: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_every_loss_trains(kind: str, tmp_path: Path) -> None:
    loss: dict[str, Any] = {"kind": kind, "mono_weight": 0.5}
    loss |= {"mini_batch_size": 4} if kind.startswith("cached") else {}
    loss |= (
        {"matryoshka": [16, 8], "options": {"directions": ["query_to_doc", "doc_to_query"]}} if kind == "mnrl" else {}
    )
    if kind.endswith("gist"):
        texts = ["Bienen", "bees"]
        guide = build_model(ModelConfig(**{**TINY, "vocabulary": 300}), lambda: texts, device="cpu")  # type: ignore[arg-type] # of several types
        guide.save_pretrained(str(tmp_path / "guide"))
        loss["guide"] = str(tmp_path / "guide")
    changes = {"model": TINY, "loss": loss, "arguments.max_steps": 2, "evaluation.collections": []}
    assert train(configured(tmp_path, changes)).steps == 2


def sweep_config(folder: Path, steps: int) -> TrainingConfig:
    """A training on the whole demo: what is checked is the sweep, not what is learned."""
    changes = {
        "evaluation.folds": 1,
        "evaluation.fold": [0],
        "evaluation.settings": [],
        "evaluation.languages": ["de", "en", "th"],
        "evaluation.pool_languages": ["de", "en", "th"],
        "sources": [{"name": "demo", "kind": "lareqa", "dataset": "HybridDemo", "languages": ["de", "en"]}],
        "arguments.max_steps": steps,
    }
    return configured(folder, changes)


def check_the_tests_of_methods(points: list[Point], thai: Aligned, shown: list[str], text: str) -> None:
    """Alphas with two seeds each are methods; with one seed there is nothing to learn of another."""
    cells = thai.cells(thai.clusterings[0])
    methods = compare_methods(cells, thai.scores[:2], thai.scores[2:], paired=True)
    assert shown[3:5] == [f"{methods.low:+.4f} to {methods.high:+.4f}", f"{methods.p:.4f}"]
    assert "other questions and other trainings" in text
    single = sweep_report([points[0], points[2]], draws=200)
    assert "for these trainings: train with several seeds" in single
    row = next(line for line in single.splitlines() if line.startswith("| Mo. mAP, unseen") and " to " in line)
    assert f"{compare(cells, thai.scores[0], thai.scores[2], draws=200).p:.4f}" in row


@pytest.mark.slow
def test_a_sweep_goes_on_and_ends_with_its_report(tmp_path: Path) -> None:
    config = sweep_config(tmp_path, steps=2)
    first = sweep(config, [0, 1], [1])
    told = Told()
    points = sweep(config, [0, 1], [1, 2], told.append)
    assert len(told.about("already trained")) == 2
    assert told.about("WARNING: HybridDemo is trained on, as demo, and measured")
    assert [(point.alpha, point.seed) for point in points] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert {point.folders for point in first} < {point.folders for point in points}
    text = sweep_report(points, draws=200)
    assert "**HybridDemo by alpha**" in text
    assert "Against alpha 1 (X-X-mono)" in text
    assert "Against alpha 0 (X-Y)" in text
    # The table's means are those of the result files.
    row = next(line for line in text.splitlines() if line.replace(" ", "").startswith("|0|2|"))
    scores = []
    for point in points[:2]:
        saved = json.loads((point.folders[0] / "HybridDemo-Pairs.json").read_text(encoding="utf-8"))
        each = {score["hf_subset"]: score["map"] for score in saved["scores"]["test"]}
        scores.append(each)
    means = [np.mean([each[f"{code}-{code}"] for code in ("de", "en", "th")]) for each in scores]
    assert f"{np.mean(means):.4f} ± {np.std(means, ddof=1):.4f}" in row
    # What was trained on stands apart from what was not.
    lines = text.splitlines()
    heads = next(place for place, line in enumerate(lines) if "Mo. mAP, unseen" in line)
    cells = dict(
        zip(*([cell.strip() for cell in lines[heads + down].split("|")[1:-1]] for down in (0, 2)), strict=True)
    )
    for head, subsets in (
        ("Mo. mAP, seen", ("de-de", "en-en")),
        ("Mo. mAP, unseen", ("th-th",)),
        ("Cr. mAP, seen", ("de-en", "en-de")),
        ("Cr. mAP, mixed", ("de-th", "en-th", "th-de", "th-en")),
    ):
        by_seed = [np.mean([each[subset] for subset in subsets]) for each in scores]
        assert cells[head] == f"{np.mean(by_seed):.4f} ± {np.std(by_seed, ddof=1):.4f}", head
    assert cells["alpha"] == "0"
    assert {"Mul. mAP, seen", "Mul. mAP, unseen", "Rank distance, unseen"} < cells.keys()
    assert "Cr. mAP, unseen" not in cells
    assert "**HybridDemo by languages: de en, and the others**" in text
    # Differences of runs with the same seed, and the test of methods that were trained several times.
    other = []
    for point in points[2:]:
        saved = json.loads((point.folders[0] / "HybridDemo-Pairs.json").read_text(encoding="utf-8"))
        other.append({score["hf_subset"]: score["map"] for score in saved["scores"]["test"]})
    differences = [one["th-th"] - two["th-th"] for one, two in zip(scores, other, strict=True)]
    row = next(line for line in lines if line.startswith("| Mo. mAP, unseen"))  # the first is against alpha 1
    shown = [cell.strip() for cell in row.split("|")[1:-1]]
    assert shown[2] == f"{np.mean(differences):+.4f}"
    assert shown[5] == f"{min(differences):+.4f}, {max(differences):+.4f}"
    aligned = align(find_runs([point.folders[0] for point in points]), "HybridDemo", Setting.MONOLINGUAL, "map")
    thai = aligned.of({each for each in aligned.subsets if each[2] == "th-th"})
    check_the_tests_of_methods(points, thai, shown, text)
    assert f"clustered into {len(np.unique(thai.cluster(thai.clusterings[0])))} {thai.clusterings[0]}s" in text
    # A pool of some languages is an option of one task, which has a folder of its own; both are one run here.
    assert [len(point.folders) for point in points] == [2] * 4
    assert "pool_languages" not in text
    assert text.count("| local/alpha-1-seed-2") == 1
    with pytest.raises(RequestError, match="no parts of one run"):
        joined(find_runs([points[0].folders[0], points[1].folders[0]]))
    # Other runs stand beside these in the first table only; languages may be told apart by choice.
    again = sweep_report(points[:2], beside=[points[2].folders], seen=["th"], draws=200)
    assert "alpha-1-seed-1" in again
    assert "**HybridDemo by languages: th, and the others**" in again


def test_a_sweep_of_parts_of_one_collection_reports_the_part_that_is_asked(tmp_path: Path) -> None:
    """One half of the demo's paragraphs is trained on; of the other half alone the report speaks."""
    changes = {"evaluation.settings": ["mono"], "evaluation.languages": ["de", "en"], "arguments.max_steps": 2}
    config = configured(tmp_path, {**changes, "overlap.check": True})
    assert config.evaluation.folds == 2
    told = Told()
    points = sweep(config, [0, 1], [1], told.append)
    assert not told.about("stand in an evaluation collection")
    assert not told.about("WARNING")
    questions = asked_questions(config)
    of_sources = {each for spec in config.sources for each in spec.load().question_ids or ()}
    assert questions.keys() == {"HybridDemo"}
    assert not questions["HybridDemo"] & of_sources
    text = sweep_report(points, questions=questions, draws=200)
    assert f"All of HybridDemo here is of {len(questions['HybridDemo'])} of its questions" in text
    for point in points:
        table = pd.read_parquet(point.folders[0] / "HybridDemo-Pairs.queries.parquet")
        part = table[table["question_id"].isin(questions["HybridDemo"])]
        assert 0 < len(part) < len(table)
        precision = part["ranks"].map(lambda ranks: np.mean([n / rank for n, rank in enumerate(sorted(ranks), 1)]))
        mean = precision.groupby(part["subset"], observed=True).mean().mean()
        row = next(line for line in text.splitlines() if line.replace(" ", "").startswith(f"|{point.alpha:g}|1|"))
        assert row.split("|")[3].strip() == f"{mean:.4f}"
    # Kept models say nothing of measures that a sweep takes by itself.
    told = Told()
    sweep(config, [0, 1], [1], told.append)
    assert len(told.about("already trained")) == 2
    assert not told.about("its measures are of another")


def test_a_sweep_checks_everything_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = sweep_config(tmp_path, steps=2)
    for alphas, seeds, told in (
        ([0.0, 0.0], [1], "alpha is given twice"),
        ([0.0], [], "no seed is given"),
        ([0.5, 1.5], [1], "alpha is 1.5"),
    ):
        with pytest.raises(RequestError, match=told):
            sweep(config, alphas, seeds)
    with monkeypatch.context() as launched:
        launched.setenv("WORLD_SIZE", "2")
        with pytest.raises(RequestError, match="a sweep is one process"):
            sweep(config, [0.0], [1])
    occupied = config.output / "alpha-1-seed-2"  # the last of all
    occupied.mkdir(parents=True)
    (occupied / "thesis.tex").touch()
    with pytest.raises(RequestError, match="alpha-1-seed-2 holds something else"):
        sweep(config, [0.0, 1.0], [1, 2])
    shutil.rmtree(config.output)
    with pytest.raises(RequestError, match="give collections"):
        sweep(configured(tmp_path, {"evaluation.collections": []}), [0.5], [1])
    assert not list(tmp_path.glob("model/*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["static", "bert"])
def test_two_processes_learn_what_one_does(kind: str, tmp_path: Path) -> None:
    """Two devices with half the batch each and gathered negatives, launched as a user would, against one with all.

    BERT has a pooler that no embedding depends on, which is what DDP often fails at.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    gathered: dict[str, Any] = {"loss.gather_across_devices": True, "evaluation.collections": []}
    text = SMALL
    if kind == "bert":
        save_tiny("SentenceTransformer", tmp_path / "bert", ["honey bees", "Honig der Bienen"])
        written = tmp_path / "bert" / "config.json"
        exact = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
        written.write_text(json.dumps({**json.loads(written.read_text(encoding="utf-8")), **exact}), encoding="utf-8")
        gathered["arguments.learning_rate"] = 0.002
        text = f'[model]\nname = "{tmp_path}/bert"\n' + SMALL[SMALL.index("[[sources]]") :]
    config = configured(tmp_path, text=text)  # which writes the file
    path = tmp_path / "small.toml"
    for processes in (1, 2):
        settings = {
            **gathered,
            "output": str(tmp_path / f"by-{processes}"),
            "arguments.per_device_train_batch_size": 16 // processes,
        }
        launch = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m", "hybrid_bench"]
        changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        command_line = [sys.executable, "-m", *launch, "train", str(path), "--set", *changes]
        done = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("8 steps in") == 1  # one process tells
    one, two = (weights(tmp_path / f"by-{processes}") for processes in (1, 2))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    base = build_model(config.model, lambda: texts_of(prepare(config).sources), device="cpu")
    base.save_pretrained(str(tmp_path / "base"), create_model_card=False)
    before = weights(tmp_path / "base")
    assert max((one[name] - before[name]).abs().max() for name in one) > 0.005  # something was learned


def test_rows_that_no_batch_can_have_are_told_at_the_start_and_in_the_card(tmp_path: Path) -> None:
    roles = ("query", "passage", "negative_1", "negative_2")
    texts = [{f"{role}_{code}": f"{role} {code} {row}" for role in roles for code in ("de", "en")} for row in range(48)]
    for row in texts[:12]:
        del row["negative_2_de"], row["negative_2_en"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    told = Told()
    source = {"name": "mine", "kind": "parallel", "path": str(path)}
    changes = {"arguments.max_steps": 2, "arguments.save_steps": 2, "evaluation.collections": []}
    config = configured(tmp_path, {**changes, "sources": [source]})
    prepare(config, told.append)
    assert told.about("mine: 12 of 48 rows are in no batch: no negative 2 (12)")
    train(config)
    card = (config.output / "README.md").read_text(encoding="utf-8")
    assert "- mine: 12 of 48 rows are in no batch: no negative 2 (12)" in card
    ready = prepare(replace(config, output=tmp_path / "other", sources=(replace(config.sources[0], negatives=1),)))
    assert [each.left_out for each in ready.usage] == [{}]
