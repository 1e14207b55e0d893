"""Tasks as mteb takes them: what a pull request with ours consists of, and that mteb alone can use it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import datasets
import mteb
import pytest
from mteb.abstasks.retrieval import AbsTaskRetrieval

from helpers import run_folder, task_of
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.engine.lexical import CharNgramEncoder
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.evaluation.custom import parallel_tasks
from hybrid_bench.exchange import mteb_task
from hybrid_bench.exchange.mteb_task import write_task_pr

BASELINE = "mteb/baseline-random-encoder"


@pytest.fixture(scope="module")
def pull_request(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pull-request")
    written = write_task_pr(["HybridDemo"], out)
    assert sorted(written) == sorted(path for path in out.rglob("*") if path.is_file())
    return out


@pytest.fixture(scope="module")
def pull_request_xquad(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    out = tmp_path_factory.mktemp("pull-request-xquad")
    write_task_pr(["XQuAD-R-Pairs"], out, data_dir=data_dir)
    return out


def test_a_pull_request_has_all_that_mteb_asks_for(pull_request: Path) -> None:
    files = {path.relative_to(pull_request).as_posix() for path in pull_request.rglob("*") if path.is_file()}
    data = {name for name in files if name.startswith("data/")}
    assert files - data == {
        "README.md",
        "mteb/descriptive_stats/Retrieval/HybridDemo-Multilingual.json",
        "mteb/descriptive_stats/Retrieval/HybridDemo-Pairs.json",
        "mteb/tasks/retrieval/multilingual/hybriddemo_retrieval.py",
        "pull_request.md",
    }
    pairs = {name.removeprefix("data/HybridDemo-Pairs/") for name in data if "Pairs" in name}
    # A file for a language's passages and questions, however many subsets they are part of.
    assert len(pairs) == 1 + 11 + 11 + 121
    assert {"README.md", "corpus/de.parquet", "queries/ar.parquet", "qrels/test/ar-de.parquet"} <= pairs
    statistics = (pull_request / "mteb/descriptive_stats/Retrieval/HybridDemo-Pairs.json").read_text(encoding="utf-8")
    assert json.loads(statistics) == mteb.get_task("HybridDemo-Pairs").metadata.descriptive_stats
    assert statistics.startswith('{\n    "test": {\n        "num_samples"')


def module_file(pull_request: Path) -> Path:
    (path,) = (pull_request / "mteb" / "tasks" / "retrieval" / "multilingual").glob("*.py")
    return path


def test_the_class_needs_nothing_of_ours_and_is_formatted(pull_request: Path, pull_request_xquad: Path) -> None:
    sources = [module_file(folder) for folder in (pull_request, pull_request_xquad)]
    for path in sources:
        assert not re.search(r"hybrid_bench\.|import hybrid", path.read_text(encoding="utf-8"))
    entry = pull_request_xquad / "benchmark.py"
    assert '"XQuAD-R-Pairs"' in entry.read_text(encoding="utf-8")
    pytest.importorskip("ruff", reason="formatting is checked where the formatter is installed")
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--check", *map(str, sources), str(entry)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_class_is_right_without_the_formatter(
    pull_request: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ruff", None)
    write_task_pr(["HybridDemo"], tmp_path, data=False)
    plain, formatted = (module_file(folder).read_text(encoding="utf-8") for folder in (tmp_path, pull_request))
    assert ast.dump(ast.parse(plain)) == ast.dump(ast.parse(formatted))
    assert max(map(len, plain.splitlines())) < 400  # a person can read it


#: Nothing that a task says of itself may end a string early, or run.
HOSTILE = ['"""', "'", '"', "\\", "ends with a backslash\\", "\u202etxt", "a\rb", '""" + exit(1) + """', "\x00", "{x}"]


@pytest.mark.parametrize("name", ["2wiki", "class", "my data"])
def test_names_and_texts_of_any_kind_make_a_class(name: str, tmp_path: Path) -> None:
    passages = [{"id": "p1", "language": code, "text": f"passage {code}"} for code in ("de", "en")]
    questions = [{"id": "q1", "language": code, "text": "asked", "relevant": ["p1"]} for code in ("de", "en")]
    for file, rows in (("passages", passages), ("questions", questions)):
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = JsonlReader.parse(f"{name.replace(' ', '-')}=jsonl:{tmp_path}")
    for text in HOSTILE:
        kinds = parallel_tasks(source, description=f"All of {text}", bibtex_citation=f"@misc{{x, {text}")
        written = mteb_task.source_of([kind() for kind in kinds])
        found = module_of(written)
        for kind in kinds:
            (theirs,) = (one.metadata for one in found if one.metadata.name == kind.metadata.name)
            assert theirs.description == kind.metadata.description
            assert theirs.bibtex_citation == kind.metadata.bibtex_citation
            assert theirs.eval_langs == kind.metadata.eval_langs


def module_of(source: str) -> list[type[AbsTaskRetrieval]]:
    """The classes that a module with this source has."""
    module = ModuleType("generated")
    exec(compile(source, "generated", "exec"), vars(module))
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, AbsTaskRetrieval) and value is not AbsTaskRetrieval
    ]


def classes_in(pull_request: Path) -> dict[str, type[AbsTaskRetrieval]]:
    """The generated classes by the task's name, with the written data in place of the Hub's."""
    found = {}
    for value in module_of(module_file(pull_request).read_text(encoding="utf-8")):
        name = value.metadata.name
        (folder,) = pull_request.glob(f"data*/{name}")
        place = {"path": str(folder), "revision": "main"}
        found[name] = type(value.__name__, (value,), {"metadata": value.metadata.model_copy(update={"dataset": place})})
    return found


@pytest.mark.parametrize("name", ["HybridDemo-Pairs", "HybridDemo-Multilingual"])
def test_the_class_says_what_ours_says(name: str, pull_request: Path) -> None:
    theirs, ours = classes_in(pull_request)[name].metadata, mteb.get_task(name).metadata
    differ = {field for field in type(theirs).model_fields if getattr(theirs, field) != getattr(ours, field)}
    # Uploaded, the data are public; mteb has no `map` at full depth.
    assert differ == {"dataset", "main_score", "is_public"}
    assert theirs.main_score == "map_at_1000"
    assert list(theirs.eval_langs) == list(ours.eval_langs)
    written = module_file(pull_request).read_text(encoding="utf-8")
    assert f'"path": "mteb/{name}",\n            "revision": "the commit of the uploaded data set",' in written


#: Loads subsets of generated classes without this package, and tells what is in them.
PROBE = """
import importlib.util, json, sys

found = {}
for source, folder, name, subset in json.loads(sys.argv[1]):
    spec = importlib.util.spec_from_file_location("generated", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = {value.metadata.name: value for value in vars(module).values() if hasattr(value, "metadata")}
    place = {"dataset": {"path": f"{folder}/{name}", "revision": "main"}}
    kinds[name].metadata = kinds[name].metadata.model_copy(update=place)
    task = kinds[name]()
    task.hf_subsets = [subset]
    task.load_data()
    split = task.dataset[subset]["test"]
    found[f"{name} {subset}"] = {
        "corpus": split["corpus"].to_list(),
        "queries": split["queries"].to_list(),
        "relevant_docs": split["relevant_docs"],
    }
print(json.dumps([[name for name in sys.modules if name.startswith("hybrid_bench")], found]))
"""


def test_mteb_alone_loads_the_same_data(
    pull_request: Path, pull_request_xquad: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    wanted = ["HybridDemo-Pairs ar-de", "HybridDemo-Multilingual th", "XQuAD-R-Pairs el-zh"]
    folders = [pull_request, pull_request, pull_request_xquad]
    asked = [
        [str(module_file(folder)), str(folder / "data"), *entry.split()]
        for folder, entry in zip(folders, wanted, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    loaded, found = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert list(found) == wanted
    for entry, theirs in found.items():
        name, subset = entry.split()
        task = task_of(name, [subset], data_dir=data_of(name, request))
        task.load_data()
        ours = task.dataset[subset]["test"]
        assert theirs["corpus"] == ours["corpus"].to_list()
        assert theirs["queries"] == ours["queries"].to_list()
        assert theirs["relevant_docs"] == ours["relevant_docs"]


def data_of(name: str, request: pytest.FixtureRequest) -> Path | None:
    """The folder with the data of a task; the demonstration needs none."""
    folder: Path | None = None if name.startswith("HybridDemo") else request.getfixturevalue("data_dir")
    return folder


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for `datasets`, so that nothing is left behind."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("datasets_cache")
@pytest.mark.parametrize(
    ("name", "subset"),
    [("HybridDemo-Pairs", "de-de"), ("HybridDemo-Multilingual", "en"), ("XQuAD-R-Pairs", "es-en")],
)
def test_mteb_alone_gives_the_same_scores(name: str, subset: str, request: pytest.FixtureRequest) -> None:
    """The generated class under mteb's own evaluation against ours, key by key; mteb rounds to five decimals."""
    folder: Path = request.getfixturevalue("pull_request" if "Demo" in name else "pull_request_xquad")
    generated = classes_in(folder)[name]()
    generated.hf_subsets = [subset]
    ours = task_of(name, [subset], data_dir=data_of(name, request))
    model = load(model_meta("hybrid_bench/char-ngram"))
    assert isinstance(model, CharNgramEncoder)
    scores = []
    for task in (generated, ours):
        result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
        scores.append(dict(result.task_results[0].scores["test"][0]))
    theirs, mine = scores
    keys = {key for key in theirs if re.fullmatch(r"(ndcg|map|recall|precision|mrr|hit_rate)_at_\d+|accuracy", key)}
    assert len(keys) == 43
    assert keys <= mine.keys()
    assert {key: mine[key] for key in keys} == pytest.approx({key: theirs[key] for key in keys}, abs=1.1e-5)
    # mteb stops at 1,000: a passage further down is worth 0.001 of `map` at most.
    relevant = 1 if "Pairs" in name else 11
    assert mine["map"] - relevant / 1000 < theirs["main_score"] < mine["map"] + 1e-5


def test_data_that_may_not_be_passed_on_are_marked(tmp_path: Path, data_dir: Path) -> None:
    write_task_pr(["MLQA-R-Multilingual"], tmp_path, data_dir=data_dir)
    assert not (tmp_path / "data").exists()
    card = (tmp_path / "data-not-for-upload" / "MLQA-R-Multilingual" / "README.md").read_text(encoding="utf-8")
    assert "**Not for upload.**" in card
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "**The data of MLQA-R may not be passed on.**" in readme
    assert "hf upload" not in readme


def test_the_dataset_card_is_one_that_the_hub_reads(pull_request_xquad: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(str(pull_request_xquad / "data" / "XQuAD-R-Pairs" / "README.md"))
    assert card.data.license == "cc-by-sa-4.0"
    assert "Not for upload" not in card.text
    configs = {config["config_name"]: config["data_files"] for config in card.data["configs"]}
    assert len(configs) == 3 * 121
    assert configs["ar-de-corpus"] == [{"split": "test", "path": "corpus/de.parquet"}]
    assert configs["ar-de-queries"] == [{"split": "test", "path": "queries/ar.parquet"}]
    assert configs["ar-de-qrels"] == [{"split": "test", "path": "qrels/test/ar-de.parquet"}]


@pytest.mark.parametrize("names", [["XQuAD-R"], ["MLQA-R"], ["XQuAD-R", "MLQA-R"]])
def test_the_texts_tell_what_mteb_asks(names: list[str], tmp_path: Path) -> None:
    written = write_task_pr(names, tmp_path, data=False)
    assert not any(path.suffix == ".parquet" for path in written)
    description = (tmp_path / "pull_request.md").read_text(encoding="utf-8")
    assert len(description) <= mteb_task.PR_LENGTH
    assert description.count("- [ ]") == 8
    assert "[x]" not in description  # nothing is claimed that nobody did
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert ("were not written here" in readme) is ("XQuAD-R" in names)  # those of MLQA-R are not for upload anyway
    for name in names:
        assert f'"{name}-Pairs"`, `"{name}-Multilingual"' in readme  # in the list of known issues
    imports = re.findall(r"^   from \.(\w+) import (.*)$", readme, re.MULTILINE)
    assert imports == sorted(imports)
    for module, imported in imports:
        source = (tmp_path / "mteb" / "tasks" / "retrieval" / "multilingual" / f"{module}.py").read_text(
            encoding="utf-8"
        )
        assert re.findall(r"^class (\w+)\(", source, re.MULTILINE) == sorted(imported.split(", "), reverse=True)
    assert "`mteb run -m mteb/baseline-random-encoder -t " in readme
    assert "`mteb run -m intfloat/multilingual-e5-small -t " in readme


def test_results_of_the_baselines_are_told(tmp_path: Path) -> None:
    demo = run_folder([BASELINE], ["HybridDemo"], tmp_path / "baseline")
    other = run_folder(["hybrid_bench/char-ngram"], ["HybridDemo-Multilingual"], tmp_path / "runs")
    write_task_pr(["HybridDemo"], tmp_path, data=False, runs=[tmp_path / "runs", demo])
    description = (tmp_path / "pull_request.md").read_text(encoding="utf-8")
    assert "  - [x] `mteb/baseline-random-encoder`" in description
    assert "  - [ ] `intfloat/multilingual-e5-small`" in description  # the other model has one task of two only
    rows = {
        row.split(" | ")[0].strip("| "): row.strip("| ").split(" | ")[1:]
        for row in description.splitlines()
        if "|" in row
    }
    assert rows["model"] == ["HybridDemo-Pairs", "HybridDemo-Multilingual"]
    assert rows["hybrid_bench/char-ngram"][0] == "-"
    for folder, model in ((demo, BASELINE), (other, "hybrid_bench/char-ngram")):
        scores = json.loads((folder / "HybridDemo-Multilingual.json").read_text(encoding="utf-8"))["scores"]["test"]
        mean = sum(entry["map_at_1000"] for entry in scores) / len(scores)
        assert rows[model][1] == f"{mean:.4f}"
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "-m mteb/baseline-random-encoder" not in readme
    assert "-m intfloat/multilingual-e5-small" in readme


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'XQuADRetrieval'"):
        write_task_pr(["XQuADR"], tmp_path)
    with pytest.raises(RequestError, match="'XQuADRetrieval' is not a task of this package"):
        write_task_pr(["XQuADRetrieval"], tmp_path)
    with pytest.raises(RequestError, match="MIRACL-Pairs reads data that mteb has already, mteb/MIRACLRetrieval"):
        write_task_pr(["MIRACL"], tmp_path)
    with pytest.raises(RequestError, match="no task to write"):
        write_task_pr([], tmp_path)
    with pytest.raises(RequestError, match="no run without options in "):
        write_task_pr(["HybridDemo"], tmp_path, data=False, runs=[tmp_path])
    (tmp_path / "model_meta.json").write_text("[]")
    with pytest.raises(DataError, match="does not tell a model's name"):
        write_task_pr(["HybridDemo"], tmp_path, data=False, runs=[tmp_path])


def test_a_pull_request_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot write .*: choose another folder"):
        write_task_pr(["HybridDemo-Multilingual"], tmp_path)
