"""What mteb's own tests ask of every task and benchmark, asked of ours: metadata, citations, statistics, quality.

Those tests run in mteb's repository over the tasks that mteb has. Here the same is said of the tasks of this package
that are public, and of the benchmark `HybridBench`. Two rules are left to mteb: that a data set is on the Hub, and that
mteb's reference models have results, can both be so only once mteb has the tasks.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.benchmarks.benchmark import Benchmark
from mteb.results import TaskResult

from helpers import task_of
from hybrid_bench.evaluation.metadata import Metadata
from hybrid_bench.evaluation.registry import BENCHMARK, BENCHMARK_COLLECTIONS, collections, task_classes

PUBLIC = {name: task for name, task in task_classes().items() if task.metadata.is_public}
#: MIRACL's passages are a download of many gigabytes, so its statistics are calculated by whoever gives it to mteb.
WITH_STATISTICS = {name: task for name, task in task_classes().items() if task.reader.collection != "MIRACL"}
benchmarks_module = importlib.import_module("mteb.benchmarks.benchmarks")

public = pytest.mark.parametrize("name", PUBLIC)
with_statistics = pytest.mark.parametrize("name", WITH_STATISTICS)


# -- metadata ---------------------------------------------------------------------------------------------------------


@public
def test_metadata_are_complete_and_valid(name: str) -> None:
    metadata = PUBLIC[name].metadata
    metadata._validate_metadata()
    assert metadata.is_filled()
    assert not metadata.dataset.get("trust_remote_code", False)
    assert metadata.simplified_task_type == "retrieval"
    assert metadata.superseded_by is None
    assert not metadata.is_beta


@public
def test_a_prompt_by_role_is_for_retrieval_only(name: str) -> None:
    assert isinstance(PUBLIC[name].metadata.prompt, dict)
    assert issubclass(PUBLIC[name], AbsTaskRetrieval)


def test_only_the_demonstration_is_private() -> None:
    private = {task.reader.collection for name, task in task_classes().items() if name not in PUBLIC}
    assert private == {"HybridDemo"}


def test_a_language_selects_subsets_in_it() -> None:
    found = {task.metadata.name: task for task in mteb.get_tasks(languages=["eng"])}
    assert set(PUBLIC) <= set(found)
    for name in PUBLIC:
        for subset in found[name].hf_subsets:
            assert "eng-Latn" in found[name].metadata.hf_subsets_to_langscripts[subset]


# -- citations --------------------------------------------------------------------------------------------------------

#: An entry as bibtexparser writes it for mteb: two spaces, a comma after every field, the brace on a line of its own.
ENTRY = re.compile(r"@[a-z]+\{(?P<key>[^\s,{}]+),\n(?P<fields>(?:  [a-z]+ = \{.*\},\n)+)\}")


def citations() -> dict[str, str]:
    """The citations of our tasks and of our benchmark."""
    return {name: task.metadata.bibtex_citation or "" for name, task in PUBLIC.items()} | {
        BENCHMARK: mteb.get_benchmark(BENCHMARK).citation or ""
    }


@pytest.mark.parametrize("name", [*PUBLIC, BENCHMARK])
def test_citations_are_formatted_as_mteb_formats_them(name: str) -> None:
    keys = []
    for entry in citations()[name].strip().split("\n\n"):
        match = ENTRY.fullmatch(entry)
        assert match is not None, entry
        fields = re.findall(r"^  ([a-z]+) = ", match["fields"], re.MULTILINE)
        assert fields == sorted(set(fields))
        keys.append(match["key"])
    assert keys == sorted(set(keys))


def papers(citation: str | None) -> Iterator[tuple[str, str]]:
    """Title, in small letters, and key of every entry."""
    for entry in re.split(r"(?m)^(?=@)", citation or ""):
        key = re.match(r"@\w+\s*\{([^,]+)", entry)
        title = re.search(r"\btitle\s*=\s*\{(.*?)\}\s*,?\s*$", entry, re.IGNORECASE | re.MULTILINE)
        if key and title:
            yield " ".join(title[1].casefold().split()), key[1].strip()


def test_a_paper_has_the_key_that_mteb_cites_it_by() -> None:
    """mteb refuses one paper under two keys, and titles that are nearly the same."""
    theirs: dict[str, set[str]] = defaultdict(set)
    cited = [task.metadata.bibtex_citation for task in mteb.get_tasks() if task.metadata.name not in task_classes()]
    cited += [meta.citation for meta in mteb.get_model_metas()]
    cited += [benchmark.citation for benchmark in mteb.get_benchmarks() if benchmark.name != BENCHMARK]
    for citation in cited:
        for title, key in papers(citation):
            theirs[title].add(key)
    assert len(theirs) > 500
    ours = {paper for citation in citations().values() for paper in papers(citation)}
    assert len({title for title, _ in ours}) == len(ours)  # one key for a paper among ours
    for title, key in ours:
        assert theirs.get(title, {key}) == {key}
        assert not difflib.get_close_matches(title, theirs.keys() - {title}, n=1, cutoff=0.9)


# -- statistics -------------------------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    """What stands at the ends of nested objects."""
    for item in value.values() if isinstance(value, dict) else [value]:
        if isinstance(item, dict):
            yield from leaves(item)
        else:
            yield item


@with_statistics
def test_statistics_are_there_and_complete(name: str) -> None:
    metadata = WITH_STATISTICS[name].metadata
    statistics: Any = metadata.descriptive_stats
    assert statistics is not None
    assert list(statistics) == metadata.eval_splits
    assert metadata.n_samples == {split: statistics[split]["num_samples"] for split in metadata.eval_splits}
    for split in metadata.eval_splits:
        by_subset = statistics[split]["hf_subset_descriptive_stats"]
        assert set(by_subset) == set(metadata.hf_subsets)
        for number in ("num_samples", "num_queries", "num_documents", "number_of_characters"):
            assert statistics[split][number] == sum(subset[number] for subset in by_subset.values())
    assert {type(leaf) for leaf in leaves(statistics)} <= {int, float, type(None)}  # no text of the data sets


def test_every_statistics_file_belongs_to_a_task() -> None:
    metadata = [task.metadata for task in WITH_STATISTICS.values()]
    (folder,) = {task.descriptive_stat_path.parent for task in metadata}
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{task.name}.json" for task in metadata)


def test_statistics_lie_with_the_task_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a checkout beside the package, in a wheel within it."""
    metadata = task_classes()["HybridDemo-Pairs"].metadata
    module = importlib.import_module("hybrid_bench.evaluation.metadata")
    assert metadata.descriptive_stat_path.parents[1] == Path(__file__).parents[2] / "tasks"
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "hybrid_bench")
    assert metadata.descriptive_stat_path == tmp_path / "tasks" / "descriptive_stats" / "HybridDemo-Pairs.json"
    (tmp_path / "hybrid_bench" / "tasks" / "descriptive_stats").mkdir(parents=True)
    packaged = tmp_path / "hybrid_bench" / "tasks" / "descriptive_stats" / "HybridDemo-Pairs.json"
    assert metadata.descriptive_stat_path == packaged


@pytest.mark.parametrize("name", ["HybridDemo-Pairs", "HybridDemo-Multilingual"])
def test_statistics_are_what_mteb_calculates(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = task_of(name)
    shipped = task.metadata.descriptive_stats
    monkeypatch.setattr(Metadata, "descriptive_stat_path", property(lambda self: tmp_path / f"{self.name}.json"))
    assert task.calculate_descriptive_statistics(overwrite_results=True) == shipped
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) == shipped


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        ("XQuAD-R-Pairs", "ar-de"),
        ("XQuAD-R-Multilingual", "th"),
        ("MLQA-R-Pairs", "en-vi"),
        ("MLQA-R-Multilingual", "zh"),
    ],
)
def test_statistics_of_a_subset_are_what_mteb_calculates(name: str, subset: str, data_dir: Path) -> None:
    task = task_of(name, [subset], data_dir=data_dir)
    statistics: Any = task.metadata.descriptive_stats
    task.load_data()
    calculated = task._calculate_descriptive_statistics_from_split("test", hf_subset=subset)
    assert calculated == statistics["test"]["hf_subset_descriptive_stats"][subset]


# -- quality ----------------------------------------------------------------------------------------------------------


def findings(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What mteb's quality test would find in these statistics, by its name for it."""
    for what, count in (("documents", "num_documents"), ("queries", "num_queries")):
        text, rows = statistics[f"{what}_text_statistics"], statistics[count]
        if text["min_text_length"] <= 3:
            yield "short_text"
        if text["unique_texts"] < 0.99 * rows:
            yield "duplicate_text"
        if text["unique_texts"] > rows:
            yield "impossible_unique_count"
    if statistics["num_samples"] == 0:
        yield "empty_split"
    relevant = statistics["relevant_docs_statistics"]
    if relevant["min_relevant_docs_per_query"] == 0:
        yield "zero_relevant_docs"
    if relevant["unique_relevant_docs"] > statistics["num_documents"]:
        yield "relevant_docs_exceed_corpus"


@with_statistics
def test_what_the_quality_test_finds_is_told(name: str) -> None:
    """No more and no less than the task says of itself: mteb wants its list of known issues without stale entries."""
    metadata: Any = WITH_STATISTICS[name].metadata
    found: set[str] = set()
    for statistics in metadata.descriptive_stats.values():
        for part in (statistics, *statistics["hf_subset_descriptive_stats"].values()):
            found |= set(findings(part))
    assert found == set(metadata.known_issues)


# -- the benchmark ----------------------------------------------------------------------------------------------------


def test_the_benchmark_is_found_and_alone_of_its_name() -> None:
    benchmarks = [value for value in vars(benchmarks_module).values() if isinstance(value, Benchmark)]
    names = [benchmark.name for benchmark in benchmarks]
    assert len(names) == len(set(names))
    assert names.count(BENCHMARK) == 1
    benchmark = mteb.get_benchmark(BENCHMARK)
    tasks = [task.metadata.name for task in benchmark.tasks]
    # mteb puts them into an order of its own when it filters them
    assert sorted(tasks) == sorted(task.metadata.name for name in BENCHMARK_COLLECTIONS for task in collections()[name])
    assert set(tasks) <= set(PUBLIC)
    assert benchmark.description
    assert str(benchmark.reference).startswith("https://")
    assert BENCHMARK not in {listed.name for listed in mteb.get_benchmarks(display_on_leaderboard=True)}


def test_the_benchmark_scores_complete_results_only(tmp_path: Path) -> None:
    """mteb's mean over tasks, on results that have every subset; one subset short, there is no mean."""
    benchmark = mteb.get_benchmark(BENCHMARK)
    cache = mteb.ResultCache(tmp_path)
    meta = mteb.get_model_meta("mteb/baseline-random-encoder")

    def save(task: Any, subsets: list[str], score: float) -> None:
        scores: Any = {split: {s: {"main_score": score} for s in subsets} for split in task.metadata.eval_splits}
        cache.save_to_cache(TaskResult.from_task_results(task, scores, evaluation_time=1.0), meta)

    for number, task in enumerate(benchmark.tasks):
        save(task, task.metadata.hf_subsets, number / 10)
    results = cache.load_results(tasks=benchmark.tasks, include_remote=False)
    mean = benchmark.get_score(results)[str(meta.name)]["Mean(Task)"]
    assert mean == pytest.approx(sum(range(len(benchmark.tasks))) / 10 / len(benchmark.tasks))
    task = task_classes()["XQuAD-R-Pairs"]()
    save(task, task.metadata.hf_subsets[:-1], 0.5)
    results = cache.load_results(tasks=benchmark.tasks, include_remote=False)
    with pytest.warns(UserWarning, match="Missing subsets"):
        score = benchmark.get_score(results)[str(meta.name)]
    assert score["Mean(Task)"] is None
