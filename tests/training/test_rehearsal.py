"""What libraries refuse only later in a training is refused before it begins, by `--check` as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers import save_tiny
from hybrid_bench.cli.commands import main
from hybrid_bench.errors import HybridBenchError
from hybrid_bench.training.config import to_toml
from hybrid_bench.training.loop import train
from hybrid_bench.training.prepared import prepare
from small_training import TINY, configured


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved transformer: 32 dimensions, 64 positions, layers as BERT has them."""
    return save_tiny("SentenceTransformer", tmp_path_factory.mktemp("saved") / "model", ["a b c d e"])


def rows(folder: Path, negatives: int) -> list[dict[str, str]]:
    """A source with this many hard negatives."""
    roles = ("query", "passage", *(f"negative_{number}" for number in range(1, negatives + 1)))
    texts = ({f"{role}_{code}": f"{role} {code} {row}" for role in roles for code in ("de", "en")} for row in range(40))
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in texts), encoding="utf-8")
    return [{"name": "mine", "kind": "parallel", "path": str(folder / "rows.jsonl")}]


EVALUATED = {"arguments.eval_strategy": "steps", "arguments.eval_steps": 4}
BEST = "arguments.metric_for_best_model"
SCHEDULER = "arguments.lr_scheduler_type"

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt metric": (
        {**EVALUATED, BEST: "HybridDemo_monolingual_mapp"},
        "metric_for_best_model = \"HybridDemo_monolingual_mapp\": did you mean 'HybridDemo_monolingual_map'?",
    ),
    "loss without validation": ({**EVALUATED, BEST: "eval_loss"}, "there is no set to take a loss of"),
    "GIST with two negatives": (
        {"model": "saved", "loss": {"kind": "gist", "guide": "saved"}, "negatives": 2},
        'loss.kind = "gist" with query, passage, negative_1, negative_2 of mine: ',
    ),
    "optimiser not installed": ({"arguments.optim": "adamw_bnb_8bit"}, 'optim = "adamw_bnb_8bit": You need to install'),
    "another": ({"arguments.optim": "galore_adamw", "arguments.optim_target_modules": ["attn"]}, '"galore_adamw": '),
    "optimiser's option": ({"arguments.adam_beta1": 2.0}, 'optim = "adamw_torch_fused": Invalid beta'),
    "scheduler without its options": ({SCHEDULER: "cosine_with_min_lr"}, '"cosine_with_min_lr": One of min_lr'),
    "another scheduler": ({SCHEDULER: "warmup_stable_decay"}, '"warmup_stable_decay": '),
    "scheduler's misspelt option": (
        {SCHEDULER: "cosine", "arguments.lr_scheduler_kwargs": {"num_cycle": 2}},
        "unexpected keyword argument 'num_cycle'",
    ),
    "missing model": ({"model": {"name": "no-such/model"}}, "cannot load model.name no-such/model: "),
    "missing folder": ({"model": {"name": "./no-such"}}, "model.name: there is no folder no-such"),
    "missing guide": (
        {"model": "saved", "loss": {"kind": "gist", "guide": "no-such/guide"}},
        "cannot load loss.guide no-such/guide: ",
    ),
    "more tokens than positions": ({"model": "saved", "model.max_length": 65}, "has 64 positions"),
    "wider than the model": ({"model": "saved", "loss.matryoshka": [16, 64]}, "[16, 64]: the model has 32 dimensions"),
    "wider than a static model": ({"loss.matryoshka": [64]}, "[64]: the model has 32 dimensions"),
    "layers that are not there": ({"model": "saved", "lora": {"targets": ["q_proj"]}}, "[lora] cannot be added to "),
    "loss's option": ({"loss.options": {"directions": ["query_to_doc", "docs"]}}, "[loss]: Invalid directions"),
    "no steps to accumulate": ({"arguments.gradient_accumulation_steps": 0}, "give a number of at least 1"),
    "clipping": ({"arguments.max_grad_norm": "high"}, 'max_grad_norm = "high": give a number'),
    "workers": ({"arguments.dataloader_num_workers": -1}, "dataloader_num_workers = -1: give a number"),
}


def asked(changes: Mapping[str, Any], folder: Path, saved: Path) -> dict[str, Any]:
    """Changes of a configuration, with the saved model and the rows where they are meant."""
    made = {name: value for name, value in changes.items() if name != "negatives"}
    if made.get("model") == "saved":
        made["model"] = {"name": str(saved)}
    if made.get("loss", {}).get("guide") == "saved":
        made["loss"] = {**made["loss"], "guide": str(saved)}
    return made | ({"sources": rows(folder, changes["negatives"])} if "negatives" in changes else {})


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_wrong_setting_is_refused_in_one_line(what: str, saved: Path, tmp_path: Path) -> None:
    changes, told = WRONG[what]
    config = configured(tmp_path, asked(changes, tmp_path, saved))
    with pytest.raises(HybridBenchError) as caught:
        prepare(config)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not config.work.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "saved", "lora": {}},
        {"model": "saved", "loss.kind": "cached-mnrl", "negatives": 2},
        {"model": "saved", "loss.matryoshka": [16, 32]},
        {"model": "saved", "model.pooling": "cls", "model.max_length": 64},
        {"model": TINY, "loss": {"kind": "gist", "guide": "saved"}, "negatives": 1},
        {"model": "saved", "loss": {"kind": "cached-gist", "guide": "saved"}, "negatives": 2},
        {
            "arguments.optim": "adafactor",
            SCHEDULER: "cosine_with_min_lr",
            "arguments.lr_scheduler_kwargs": {"min_lr": 1e-6},
        },
        {**EVALUATED, BEST: "eval_HybridDemo_monolingual_ndcg_at_10", SCHEDULER: "reduce_lr_on_plateau"},
    ],
    ids=str,
)
def test_what_is_not_refused_trains(changes: dict[str, Any], saved: Path, tmp_path: Path) -> None:
    few = {"arguments.max_steps": 2, "arguments.save_steps": 2}
    evaluated: dict[str, Any] = (
        {"arguments.eval_steps": 2} if "arguments.eval_steps" in changes else {"evaluation.collections": []}
    )
    config = configured(tmp_path, {**asked(changes, tmp_path, saved), **few, **evaluated})
    assert train(config).steps == 2


def test_check_refuses_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(to_toml(configured(tmp_path, {SCHEDULER: "cosine_with_min_lr"})))
    assert main(["train", str(tmp_path / "mine.toml"), "--check"]) == 2
    assert "Traceback" not in (told := capsys.readouterr().err)
    assert "cosine_with_min_lr" in told.splitlines()[-1]


def test_the_loss_of_a_validation_set_may_decide(tmp_path: Path) -> None:
    validation = {"source": {**rows(tmp_path, 0)[0], "name": "held out"}}
    given = {"validation": validation, "arguments.eval_steps": 4, "evaluation.collections": []}
    prepare(configured(tmp_path, given))
    with pytest.raises(HybridBenchError, match="did you mean 'loss'"):
        prepare(configured(tmp_path, {**given, BEST: "los"}))
