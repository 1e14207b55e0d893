"""The tasks as mteb sees them: registered by the import, described, and laid out as mteb's retrieval expects."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.benchmarks.benchmark import Benchmark
from mteb.benchmarks.get_benchmark import _build_aliases_registry, _build_registry
from mteb.models.model_implementations import MODEL_REGISTRY

from hybrid_bench.data.collection import DataOptions
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.errors import RequestError
from hybrid_bench.evaluation.registry import BENCHMARK, collections, register, task_classes
from hybrid_bench.languages import LANGUAGES, Setting

ROOT = Path(__file__).parents[2]
CODES = ["ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh"]
#: By collection: its languages.
COLLECTIONS = {"HybridDemo": CODES, "MLQA-R": ["ar", "de", "en", "es", "hi", "vi", "zh"], "XQuAD-R": CODES}
NAMES = [f"{collection}-{task}" for collection in COLLECTIONS for task in ("Pairs", "Multilingual")]
#: Those on published data in LAReQA's format, which make up the benchmark.
PUBLISHED = NAMES[2:]
#: Another form of data, with tests of its own.
MIRACL = ["MIRACL-Pairs", "MIRACL-Multilingual"]

get_tasks_module = importlib.import_module("mteb.get_tasks")
benchmarks_module = importlib.import_module("mteb.benchmarks.benchmarks")

# -- what `import hybrid_bench` does, in a process of its own -----------------------------------------------------

PROBE = """
import json, mteb

before = len(mteb.get_tasks())
import hybrid_bench

def subsets(tasks):
    return {task.metadata.name: list(task.hf_subsets) for task in tasks}

names = json.loads(input())
german = mteb.get_tasks(languages=["deu"], exclude_private=False)
print(json.dumps({
    "module": hybrid_bench.__file__,
    "get_task": [mteb.get_task(name).metadata.name for name in names],
    "get_tasks": subsets(mteb.get_tasks(tasks=names)),
    "german": subsets(german),
    "german_public": list(subsets(mteb.get_tasks(languages=["deu"]))),
    "new": len(mteb.get_tasks()) - before,
    "benchmark": [task.metadata.name for task in mteb.get_benchmark("HybridBench").tasks],
    "theirs": [mteb.get_task("XQuADRetrieval").metadata.name, mteb.get_benchmark("MTEB(eng, v2)").name],
    "models": [mteb.get_model_meta(name).name for name in ("hybrid_bench/bm25", "hybrid_bench/char-ngram")],
}))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What mteb knows after the import, from a folder that has nothing to do with the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps(NAMES + MIRACL),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["module"]) == ROOT / "hybrid_bench" / "__init__.py"
    return found


def test_import_makes_mteb_know_the_tasks_by_name(imported: dict[str, Any]) -> None:
    assert imported["get_task"] == NAMES + MIRACL
    assert set(imported["get_tasks"]) == {*NAMES, *MIRACL}
    assert imported["new"] == len(PUBLISHED) + len(MIRACL)  # the demo's are kept out of mteb's default selections


def test_import_makes_mteb_find_the_subsets_of_a_language(imported: dict[str, Any]) -> None:
    found = imported["german"]
    for collection, codes in COLLECTIONS.items():
        german = [f"{query}-{corpus}" for query in codes for corpus in codes if "de" in (query, corpus)]
        assert sorted(found[f"{collection}-Pairs"]) == sorted(german)
        assert found[f"{collection}-Multilingual"] == ["de"]
    assert [name for name in NAMES if name in imported["german_public"]] == PUBLISHED
    assert "XQuADRetrieval" in imported["german_public"]


def test_import_makes_mteb_know_benchmark_and_models(imported: dict[str, Any]) -> None:
    # Without MIRACL, which is too large to be run in passing.
    assert imported["benchmark"] == [
        "XQuAD-R-Pairs",
        "XQuAD-R-Multilingual",
        "MLQA-R-Pairs",
        "MLQA-R-Multilingual",
    ]
    assert imported["models"] == ["hybrid_bench/bm25", "hybrid_bench/char-ngram"]


def test_import_leaves_what_mteb_has(imported: dict[str, Any]) -> None:
    assert imported["theirs"] == ["XQuADRetrieval", "MTEB(eng, v2)"]


# -- registering --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["xquad_r", "miracl"])
def test_a_task_file_may_be_imported_first(file: str, tmp_path: Path) -> None:
    """Before mteb: then all files are read while none of them is half imported."""
    program = f"import hybrid_bench.tasks.{file}, mteb; print(*mteb.get_tasks.__globals__['_TASKS_REGISTRY'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert {*task_classes()} <= {*done.stdout.split()}


def test_tasks_and_collections() -> None:
    assert sorted(task_classes()) == sorted(NAMES + MIRACL)
    assert {name: [task.metadata.name for task in tasks] for name, tasks in collections().items()} == {
        name: [f"{name}-Pairs", f"{name}-Multilingual"] for name in (*COLLECTIONS, "MIRACL")
    }
    for tasks in collections().values():
        assert tasks[0].reader is tasks[1].reader  # so that both share what is loaded


def state() -> tuple[Any, ...]:
    """All of mteb that registering touches."""
    return (
        dict(get_tasks_module._TASKS_REGISTRY),
        get_tasks_module.TASK_LIST,
        dict(MODEL_REGISTRY),
        dict(_build_registry()),
        dict(_build_aliases_registry()),
    )


def test_registering_again_changes_nothing() -> None:
    before = state()
    register()
    register()
    assert state() == before
    names = [task.metadata.name for task in get_tasks_module.TASK_LIST]
    assert {name: names.count(name) for name in NAMES + MIRACL} == dict.fromkeys(NAMES + MIRACL, 1)


def test_what_was_taken_out_is_registered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name on its own: one that mteb has already does not keep the others out."""
    name = "XQuAD-R-Multilingual"
    others = tuple(task for task in get_tasks_module.TASK_LIST if task.metadata.name != name)
    monkeypatch.delitem(get_tasks_module._TASKS_REGISTRY, name)
    monkeypatch.setattr(get_tasks_module, "TASK_LIST", others)
    assert name not in {task.metadata.name for task in mteb.get_tasks()}
    register()
    assert (*others, task_classes()[name]) == get_tasks_module.TASK_LIST
    assert mteb.get_tasks(tasks=[name])[0].metadata.name == name


def test_another_task_of_the_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type(mteb.get_task("XQuADRetrieval"))
    monkeypatch.setitem(get_tasks_module._TASKS_REGISTRY, "XQuAD-R-Pairs", other)
    before = state()
    with pytest.raises(RequestError) as caught:
        register()
    assert str(caught.value) == (
        f"mteb already has a task named 'XQuAD-R-Pairs' ({other.__module__}): remove one of them"
    )
    assert state() == before


def test_another_model_of_the_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = mteb.get_model_meta("mteb/baseline-bm25s").model_copy(update={"name": "hybrid_bench/bm25"})
    monkeypatch.setitem(MODEL_REGISTRY, "hybrid_bench/bm25", theirs)
    with pytest.raises(RequestError, match=r"^mteb already has another model named 'hybrid_bench/bm25': remove one"):
        register()
    assert MODEL_REGISTRY["hybrid_bench/bm25"] is theirs


@pytest.fixture
def other_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Benchmark]:
    """A benchmark of our name in the place where mteb looks for them, and ours gone."""
    other = Benchmark(name=BENCHMARK, tasks=mteb.get_tasks(tasks=["XQuADRetrieval"]))
    with monkeypatch.context() as patch:
        patch.delattr(benchmarks_module, "HYBRID_BENCH")
        patch.setattr(benchmarks_module, "SOMEBODY_ELSES", other, raising=False)
        forget_benchmarks()
        yield other
    forget_benchmarks()


def forget_benchmarks() -> None:
    _build_registry.cache_clear()
    _build_aliases_registry.cache_clear()


def test_another_benchmark_of_the_name_is_refused(other_benchmark: Benchmark) -> None:
    with pytest.raises(RequestError, match=f"^mteb already has a benchmark named '{BENCHMARK}': remove one of them"):
        register()
    assert mteb.get_benchmark(BENCHMARK) is other_benchmark


# -- what the tasks say of themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_metadata_is_filled(name: str) -> None:
    metadata = mteb.get_task(name).metadata
    assert metadata.is_filled()
    assert metadata.license == ("cc-by-sa-4.0" if "XQuAD" in name else "cc-by-nc-4.0")
    assert metadata.is_public
    source = task_classes()[name].reader
    assert isinstance(source, LareqaReader)
    assert metadata.dataset["revision"] == source.revision


@pytest.mark.parametrize("name", ["HybridDemo-Pairs", "HybridDemo-Multilingual"])
def test_metadata_of_the_demo(name: str) -> None:
    metadata = mteb.get_task(name).metadata
    assert not metadata.is_public
    assert metadata.annotations_creators == "LM-generated"
    assert "not a benchmark" in metadata.description
    empty = {field for field in type(metadata).model_fields if getattr(metadata, field) is None}
    assert empty == {"reference", "adapted_from", "contributed_by", "superseded_by"}  # there is no paper on it


@pytest.mark.parametrize("name", NAMES)
def test_common_metadata(name: str) -> None:
    metadata = mteb.get_task(name).metadata
    assert metadata.main_score == "map"
    assert metadata.type == "Retrieval"
    assert metadata.eval_splits == ["test"]
    codes = COLLECTIONS[name.rpartition("-")[0]]
    assert sorted(metadata.languages) == sorted(LANGUAGES[code].tag.split("-")[0] for code in codes)


@pytest.mark.parametrize(("collection", "codes"), COLLECTIONS.items())
def test_subsets_of_pairs(collection: str, codes: list[str]) -> None:
    task = task_classes()[f"{collection}-Pairs"]()
    subsets = [f"{query}-{corpus}" for query in codes for corpus in codes]
    assert sorted(task.hf_subsets) == subsets
    tags = {code: LANGUAGES[code].tag for code in codes}
    assert task.metadata.eval_langs == {
        f"{query}-{corpus}": [tags[query]] if query == corpus else [tags[query], tags[corpus]]
        for query in codes
        for corpus in codes
    }
    settings = [task.setting_of(subset) for subset in subsets]
    n = len(codes)
    assert [settings.count(setting) for setting in Setting] == [n, n * (n - 1), 0]
    assert (task.query_set_of("ar-de"), task.parts_of("ar-de")) == task.pool_of("ar-de", "test") == ("ar", ("de",))


def test_number_of_subsets() -> None:
    assert {name: len(mteb.get_task(name).hf_subsets) for name in NAMES} == {
        "HybridDemo-Pairs": 121,
        "HybridDemo-Multilingual": 11,
        "MLQA-R-Pairs": 49,
        "MLQA-R-Multilingual": 7,
        "XQuAD-R-Pairs": 121,
        "XQuAD-R-Multilingual": 11,
    }


@pytest.mark.parametrize(("collection", "codes"), COLLECTIONS.items())
def test_subsets_of_multilingual(collection: str, codes: list[str]) -> None:
    task = task_classes()[f"{collection}-Multilingual"]()
    assert sorted(task.hf_subsets) == codes
    # Only the query's language: mteb's filter and its means by language go by this list.
    assert task.metadata.eval_langs == {code: [LANGUAGES[code].tag] for code in codes}
    assert {task.setting_of(subset) for subset in codes} == {Setting.MULTILINGUAL}
    query, pool = task.pool_of("ar", "test")
    assert (query, sorted(pool)) == ("ar", codes)
    assert (task.query_set_of("ar"), task.parts_of("ar")) == (query, pool)
    assert pool == task.reader.languages  # in the order of the collection


# -- the layout that mteb is given --------------------------------------------------------------------------------


def check_layout(task: Any, pools: dict[str, list[str]], sizes: dict[str, int], n_queries: int) -> None:
    """Each subset's corpus is that of its pool, each query's judgments are one passage per language of the pool."""
    task.hf_subsets = list(pools)
    task.load_data()
    assert task.data_loaded
    assert list(task.dataset) == list(pools)
    assert task.collection is task.read_collection()
    for subset, pool in pools.items():
        assert list(task.dataset[subset]) == ["test"]
        split = task.dataset[subset]["test"]
        corpus, queries, relevant = split["corpus"], split["queries"], split["relevant_docs"]
        assert set(corpus.column_names) == set(queries.column_names) == {"id", "text"}
        assert len(set(corpus["id"])) == len(corpus) == sum(sizes[code] for code in pool)
        assert list(queries["id"]) == list(relevant)
        assert len(queries) == n_queries
        known = set(corpus["id"])
        for query, judged in relevant.items():
            assert query.split(".")[1] == subset.split("-")[0]
            assert judged.keys() <= known
            assert sorted(passage.split(".")[1] for passage in judged) == sorted(pool)
            assert set(judged.values()) == {1}
        asked = task.collection.queries[subset.split("-")[0]]
        assert dict(zip(queries["id"], queries["text"], strict=True)) == dict(zip(asked.ids, asked.texts, strict=True))
        texts = {
            passage: text
            for code in pool
            for passage, text in zip(
                task.collection.passages[code].ids, task.collection.passages[code].texts, strict=True
            )
        }
        assert dict(zip(corpus["id"], corpus["text"], strict=True)) == texts


@pytest.mark.parametrize(
    ("name", "pools"),
    [
        ("Pairs", {"ar-ar": ["ar"], "ar-zh": ["zh"], "zh-ar": ["ar"]}),
        ("Multilingual", {"ar": CODES, "th": CODES}),
    ],
)
def test_layout(name: str, pools: dict[str, list[str]], data_dir: Path) -> None:
    for collection in ("HybridDemo", "XQuAD-R"):
        task = task_classes()[f"{collection}-{name}"]()
        task.options = replace(task.options, data=DataOptions(data_dir=data_dir))
        source = task.reader
        assert isinstance(source, LareqaReader)
        check_layout(task, pools, dict(source.candidates), source.questions["ar"])


def test_layout_of_a_narrowed_pool() -> None:
    task = task_classes()["HybridDemo-Multilingual"]()
    task.options = replace(task.options, pool_languages=("zh", "de"))
    source = task.reader
    assert isinstance(source, LareqaReader)
    check_layout(task, {"en": ["de", "zh"]}, dict(source.candidates), 84)


def test_layout_where_a_question_is_not_in_every_language(data_dir: Path) -> None:
    """Only those are asked that the pool answers."""
    task = task_classes()["MLQA-R-Pairs"]()
    task.hf_subsets = ["ar-de"]
    task.options = replace(task.options, data=DataOptions(data_dir=data_dir))
    task.load_data()
    split = task.dataset["ar-de"]["test"]
    in_german = {
        qa["id"]
        for article in json.loads((data_dir / "mlqa-r" / "de.json").read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    asked = task.read_collection().queries["ar"]
    both = [i for i, question in zip(asked.ids, asked.question_ids, strict=True) if question in in_german]
    assert 0 < len(both) < len(asked)
    assert list(split["queries"]["id"]) == list(split["relevant_docs"]) == both


def test_data_are_let_go() -> None:
    task = task_classes()["HybridDemo-Multilingual"]()
    task.hf_subsets = ["en"]
    task.load_data()
    dataset = task.dataset
    task.load_data()
    assert task.dataset is dataset  # nothing is read twice
    task.unload_data()
    assert not task.data_loaded
    assert task.collection is None
    task.load_data()
    assert len(task.dataset["en"]["test"]["queries"]) == 84
