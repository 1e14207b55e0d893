"""What decides a number and stands in the signature decides whether a saved result is still good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.models.instruct_wrapper import InstructSentenceTransformerModel

from helpers import WordCounts, meta_of, registered, static_model
from hybrid_bench.evaluation.runner import RunRequest, run
from hybrid_bench.runs.result_files import read_signatures, table_path
from mteb_tasks import REGISTRY, WORDS, Data, random_data, save_hub, task_class

#: mteb warns of every task that has an instruction for queries alone.
pytestmark = pytest.mark.filterwarnings("ignore:Prompt type")
NAME, MODEL = "TestRules", "tests/instructed"
FIND, CODE = "bad find the document of fun", "dok code gim ler"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "static"
    static_model([" ".join(WORDS)], dimension=16).save_pretrained(str(path))
    return path


@pytest.fixture(autouse=True)
def instructed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that puts the task's instruction before its queries."""

    def load(*_: Any, **__: Any) -> Any:
        path, revision = str(folder), None
        model = InstructSentenceTransformerModel(path, revision, device="cpu", apply_instruction_to_passages=False)  # type: ignore[arg-type] # a local folder has no revision
        model.mteb_model_meta = meta_of(MODEL, loader=load)
        return model

    registered(monkeypatch, MODEL, load)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make mteb know the task, with these metadata; two subsets, which differ."""
    subsets: dict[str, Data] = {name: random_data(30, 12, seed=seed) for seed, name in enumerate(("one", "two"))}
    data = save_hub(tmp_path / "data", subsets)

    def make(**metadata: Any) -> None:
        languages = {"eval_langs": {subset: ["eng-Latn"] for subset in subsets}}
        monkeypatch.setitem(REGISTRY, NAME, task_class(NAME, data, metadata={**languages, **metadata}))

    return make


def go(output: Path, model: str = MODEL) -> list[str]:
    """Run; the lines that were told."""
    told: list[str] = []
    outcome = run(RunRequest(models=[model], tasks=[NAME], output=output), told.append)
    assert outcome.failures == []
    return told


def scores(output: Path) -> dict[str, dict[str, Any]]:
    (path,) = output.glob(f"results/*/1/{NAME}.json")
    return {entry["hf_subset"]: entry for entry in json.loads(path.read_text())["scores"]["test"]}


def test_an_edited_instruction_is_another_result(tmp_path: Path, known: Callable[..., None]) -> None:
    known(prompt={"query": FIND})
    go(tmp_path / "runs")
    first = scores(tmp_path / "runs")
    assert go(tmp_path / "runs") == [f"{MODEL} on {NAME}: already there"]
    known(prompt={"query": CODE})
    told = go(tmp_path / "runs")
    assert "the saved result is not used, because what the task told the model was" in told[0]
    assert FIND in told[0]
    go(tmp_path / "fresh")
    assert scores(tmp_path / "runs") == scores(tmp_path / "fresh")
    assert scores(tmp_path / "runs")["one"]["ndcg_at_10"] != first["one"]["ndcg_at_10"]
    (aside,) = tmp_path.glob(f"runs/results/*/1/superseded/*/{NAME}.json")
    assert json.loads(aside.read_text())["scores"]["test"][0]["ndcg_at_10"] in {
        entry["ndcg_at_10"] for entry in first.values()
    }


def test_an_edited_main_score_is_another_result(tmp_path: Path, known: Callable[..., None]) -> None:
    known()
    go(tmp_path / "runs")
    known(main_score="recall_at_10")
    told = go(tmp_path / "runs")
    assert 'because its main score was "ndcg_at_10", and is now "recall_at_10"' in told[0]
    assert all(entry["main_score"] == entry["recall_at_10"] for entry in scores(tmp_path / "runs").values())


def test_what_is_added_never_mixes_two_instructions(tmp_path: Path, known: Callable[..., None]) -> None:
    """One subset is there by the old words, the other is missing: both are made by the new ones."""
    known(prompt={"query": FIND})
    go(tmp_path / "runs")
    (path,) = tmp_path.glob(f"runs/results/*/1/{NAME}.json")
    result = json.loads(path.read_text())
    result["scores"]["test"] = [entry for entry in result["scores"]["test"] if entry["hf_subset"] == "one"]
    path.write_text(json.dumps(result))
    known(prompt={"query": CODE})
    go(tmp_path / "runs")
    go(tmp_path / "fresh")
    assert scores(tmp_path / "runs") == scores(tmp_path / "fresh")
    assert read_signatures(path.parent)[NAME]["instruction"]["prompt"] == {"query": CODE}


class Prompted(WordCounts):
    """A model whose prompts are told by its loader alone, so that no metadata show that they were changed."""

    prompts = ("bad ", "bad ")

    @property
    def model_prompts(self) -> dict[str, str]:  # type: ignore[override] # a plain attribute there
        return dict(zip(("query", "document"), self.prompts, strict=True))


def test_other_prompts_of_a_loaded_model_are_another_result(
    tmp_path: Path, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update of mteb: what is missing is not added to what was made by the old prompts."""
    model = registered(monkeypatch, "tests/prompted", Prompted)
    known()
    go(tmp_path / "runs", model)
    (path,) = tmp_path.glob(f"runs/results/*/1/{NAME}.json")
    result = json.loads(path.read_text())
    del result["scores"]["test"][0]
    path.write_text(json.dumps(result))
    monkeypatch.setattr(Prompted, "prompts", ("dok ", "bad "))
    told = go(tmp_path / "runs", model)
    assert any("because the prompts that the model put before its texts were" in line for line in told)
    assert set(scores(tmp_path / "runs")) == {"one", "two"}
    assert read_signatures(path.parent)[NAME]["prompts"]["query"] == "dok "
    (aside,) = tmp_path.glob(f"runs/results/*/1/superseded/*/{table_path(Path(), NAME).name}")
    assert aside.is_file()


@pytest.mark.parametrize("template", [None, "{instruction}: "])
def test_the_disk_cache_keeps_instructions_apart(
    tmp_path: Path, known: Callable[..., None], folder: Path, template: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache, empty or full of another instruction's vectors, the numbers are those without, and mteb's."""

    def load(*_: Any, **__: Any) -> Any:
        model = InstructSentenceTransformerModel(
            str(folder),
            None,  # type: ignore[arg-type] # a local folder has no revision
            device="cpu",
            instruction_template=template,
            apply_instruction_to_passages=False,
        )
        model.mteb_model_meta = meta_of(MODEL, loader=load)
        return model

    registered(monkeypatch, MODEL, load)
    found: dict[str, list[float]] = {}
    for prompt in (FIND, CODE):
        known(prompt={"query": prompt})
        for number, cache in enumerate((None, tmp_path / "cache", tmp_path / "cache")):
            output = tmp_path / f"{prompt[:3]}{number}"
            request = RunRequest(models=[MODEL], tasks=[NAME], output=output, embedding_cache=cache)
            assert run(request).failures == []
            found.setdefault(prompt, []).append(scores(output)["one"]["ndcg_at_10"])
            signature = next(iter(read_signatures(next(output.glob("results/*/1"))).values()))
            assert signature["prompts"] == {
                "query": template.format(instruction=prompt) if template else prompt,
                "document": None,
            }
        task = mteb.get_task(NAME)
        own = mteb.evaluate(load(), task, cache=None, co2_tracker=False, show_progress_bar=False)
        found[prompt].append(own.task_results[0].scores["test"][0]["ndcg_at_10"])
    assert [max(values) - min(values) < 2e-5 for values in found.values()] == [True, True]
    assert abs(found[FIND][0] - found[CODE][0]) > 1e-3
