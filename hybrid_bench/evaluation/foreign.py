"""Any retrieval task of mteb, scored by our engine.

`exact` takes a task as mteb defines it and gives back one that loads the same data, has the same name, subsets and
keys, and is evaluated with exact ranks from one encoding of each text. Judgments may be graded, passages may have
titles, and the documents that a task leaves out (those with the query's own id) are left out.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.benchmarks.benchmark import Benchmark

from hybrid_bench.data.collection import Collection, Column, DataOptions, Judgments, Passages, Queries, clusters
from hybrid_bench.data.files import data_folder
from hybrid_bench.data.hashing import sha256_of_lines, sha256_of_text, sha256_once
from hybrid_bench.data.hub import arrow_cache, cached_if_unreachable, check_rows
from hybrid_bench.engine.lexical import subset_languages
from hybrid_bench.errors import DataError, HybridBenchError, RequestError, causes, first_line
from hybrid_bench.evaluation.tasks import ExactRetrieval, TaskOptions
from hybrid_bench.languages import Setting
from hybrid_bench.measures.metrics import K_VALUES

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.abstask import AbsTask
    from mteb.timing import TimingStack

__all__ = ["exact", "mteb_names", "mteb_tasks", "why_not"]

#: Of the ids that two subsets have in common, the part whose judgments have to agree for them to be the same questions.
_AGREEING = 0.9
#: Changes when questions of several subsets are clustered in another way: then results on them are made again.
_CLUSTERED = "clusters 1"
#: What a task may not do in its own way, if ours is to give the same numbers.
_OURS = ("_evaluate_subset", "evaluate", "task_specific_scores")
_MAIN_SCORES = {
    f"{name}_at_{k}" for name in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate") for k in K_VALUES
}


def why_not(task: AbsTask) -> str | None:
    """Why our engine cannot score a task, as far as can be told before its data are loaded; None if it can."""
    if not isinstance(task, AbsTaskRetrieval):
        return "it is not a retrieval task"
    if task.metadata.type != "Retrieval" or list(task.metadata.modalities) != ["text"]:
        return f"it is a task of type {task.metadata.type} over {', '.join(task.metadata.modalities)}"
    own = [name for name in _OURS if getattr(type(task), name) is not getattr(AbsTaskRetrieval, name)]
    if own or task.skip_first_result:
        return f"it has its own way to evaluate ({', '.join(own) or 'skip_first_result'})"
    if task.metadata.main_score not in _MAIN_SCORES:
        return f"its main score is {task.metadata.main_score}"
    return None


def exact(task: AbsTaskRetrieval, data_dir: Path | None = None) -> ExactRetrieval:
    """The same task, scored by our engine.

    Args:
        task: As mteb gives it, with the subsets and splits that are wanted.
        data_dir: Where the task's data set lies in the layout of the Hub, at the path that it has there, e.g.
            ``<data_dir>/mteb/nfcorpus``; what is not there is loaded as mteb does. None for HYBRID_BENCH_DATA.

    Raises:
        RequestError: If the engine cannot score it; `why_not` tells before.
    """
    if isinstance(task, ExactRetrieval):
        again = copy(task)  # it may be a benchmark's own
        again.reset()
        return again
    if reason := why_not(task):
        raise RequestError(f"{task.metadata.name} is left to mteb: {reason}; `hybrid-bench mteb run` evaluates it")
    made = copy(task)  # with its subsets and splits, and whatever its class keeps in it
    made.__class__ = _class_of(type(task))
    assert isinstance(made, _Foreign)
    made.reset()
    made.options = TaskOptions(data=DataOptions(data_dir=data_dir))
    return made


def mteb_tasks(name: str) -> list[AbsTask] | None:
    """The tasks of mteb that a name stands for: a task's, or a benchmark's; None if there is none of that name.

    The tasks that an aggregate is made of come before it, so that it finds their results.
    """
    import mteb

    benchmark = next((each for each in _benchmarks() if name.casefold() in _names_of(each)), None)
    if benchmark is not None:
        listed = list(benchmark.tasks)
    else:
        known = {task.casefold(): task for task in _task_names()}
        if name.casefold() not in known:
            return None
        listed = [mteb.get_task(known[name.casefold()])]
    tasks: dict[str, AbsTask] = {}
    for task in listed:
        for each in (*(task.metadata.tasks if isinstance(task, AbsTaskAggregate) else ()), task):
            tasks.setdefault(each.metadata.name, each)
    return list(tasks.values())


def mteb_names() -> list[str]:
    """The names that `mteb_tasks` knows: retrieval tasks, and benchmarks."""
    return [*_task_names(), *(each.name for each in _benchmarks())]


def _task_names() -> list[str]:
    registry = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
    return [name for name, task in registry.items() if task.metadata.type == "Retrieval"]


def _benchmarks() -> list[Benchmark]:
    """All benchmarks that mteb defines, with those that it defines but does not list."""
    modules = ("mteb.benchmarks.benchmarks", "mteb.benchmarks.benchmarks.benchmarks")
    found = {
        value.name: value
        for module in modules
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, Benchmark)
    }
    return list(found.values())


def _names_of(benchmark: Benchmark) -> set[str]:
    return {name.casefold() for name in (benchmark.name, *benchmark.aliases)}


@cache
def _class_of(kind: type[AbsTaskRetrieval]) -> type[_Foreign]:
    return type(kind.__name__, (_Foreign, kind), {"__doc__": kind.__doc__})


class _Foreign(ExactRetrieval):
    """Mixed into a task's own class by `exact`."""

    _part_of: Mapping[tuple[str, str], str]

    @property
    def collection_name(self) -> str:
        """The task's name: its data are its own."""
        return self.metadata.name

    @property
    def local_folder(self) -> Path | None:
        """Where the task's data set lies in the user's data folder, if it does."""
        given = None if hasattr(self, "beir_sha256") else data_folder(self.options.data.data_dir)
        folder = None if given is None else given[0] / self.metadata.dataset["path"]
        return folder if folder is not None and folder.is_dir() else None

    def load_data(self, num_proc: int | None = None, *, timer: TimingStack | None = None, **kwargs: Any) -> None:
        """Load as the task does, and take what it loaded as a collection."""
        if self.data_loaded:
            return
        declared = self.metadata
        local = self.local_folder
        if hasattr(self, "beir_sha256"):
            super().load_data(num_proc=num_proc, timer=timer, **kwargs)
        elif local is None:
            path = declared.dataset["path"]
            with cached_if_unreachable(path, declared.dataset["revision"]) as reason:
                try:
                    super().load_data(num_proc=num_proc, timer=timer, **kwargs)
                except Exception as error:
                    # Not on the Hub, or no network; of a cache that lacks something, libraries say it in many ways.
                    if not reason and not isinstance(error, OSError):
                        raise
                    why = f"from the Hub: {reason}, and the caches have no complete copy" if reason else ""
                    raise DataError(
                        f"{declared.name} cannot load its data set {path} {why or f'({first_line(error)})'}; "
                        f"pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder that holds it as {path}"
                    ) from error
        else:
            here = {**declared.dataset, "path": str(local)}
            files = sorted(path for path in local.rglob("*") if path.is_file())
            digest = self.data_sha256()["data"]
            if not arrow_cache(digest).is_dir():
                check_rows(path for path in files if path.suffix != ".parquet")  # whose reader tells all but the name
            self.metadata = declared.model_copy(update={"dataset": here})
            try:
                with _own_cache(digest):
                    super().load_data(num_proc=num_proc, timer=timer, **kwargs)
            except HybridBenchError:
                raise
            except Exception as error:  # it hands on what the file system and the readers of the formats raise
                check_rows(files)
                raise DataError(
                    f"{declared.name} cannot read its data set in {local}: {first_line(causes(error)[-1])}"
                ) from error
            finally:
                self.metadata = declared
        self.convert_v1_dataset_format_to_v2(num_proc=num_proc)
        self.collection, self._part_of = _collection_of(self)

    def unload_data(self) -> None:
        """Free the memory."""
        super().unload_data()
        self.collection = None

    def data_sha256(self) -> Mapping[str, str]:
        """The pinned revision of the data set, or what lies in the user's folder."""
        given = getattr(self, "beir_sha256", None)
        if given is not None:  # the language is the user's to say, and BM25 goes by it
            return {"data": sha256_of_lines([str(given), json.dumps(self.metadata.eval_langs)])}
        dataset = self.metadata.dataset
        parts = [str(dataset["path"]), str(dataset["revision"])]
        if self.local_folder is not None:
            parts += [f"{p.name} {sha256_once(p)}" for p in sorted(self.local_folder.rglob("*")) if p.is_file()]
        if len(self.metadata.hf_subsets) > 1:
            parts.append(_CLUSTERED)
        return {"data": sha256_of_lines(parts)}

    def pool_of(self, subset: str, split: str) -> tuple[str, tuple[str, ...]]:
        """Query set and part of a subset, which has one of each."""
        return f"{split}/{subset}", (self._part_of[split, subset],)

    def setting_of(self, subset: str) -> Setting:
        """Monolingual, or cross-lingual where the subset is of two languages; scripts and code do not count."""
        tags = [tag.split("-") for tag in self.metadata.hf_subsets_to_langscripts.get(subset, [])]
        languages = {language for language, script in tags if script != "Code"}
        return Setting.CROSS_LINGUAL if len(languages) == 2 else Setting.MONOLINGUAL

    def subset_about(self, name: str) -> str:
        """Query sets and parts are named ``<split>/<subset>``."""
        return name.partition("/")[2]


def _collection_of(task: ExactRetrieval) -> tuple[Collection, dict[tuple[str, str], str]]:
    """The data that a task of mteb's has loaded, and the part that each split and subset is asked against."""
    passages: dict[str, Passages] = {}
    queries: dict[str, Queries] = {}
    part_of: dict[tuple[str, str], str] = {}
    same: dict[str, str] = {}  # fingerprint of a corpus -> its part: several subsets may share one
    settings = [(split, subset) for subset in task.hf_subsets for split in task.eval_splits]
    notes = []
    several = len(task.metadata.hf_subsets) > 1
    judged: dict[tuple[str, str], dict[str, frozenset[str]]] = {}
    for split, subset in settings:
        name = f"{split}/{subset}"
        data: Any = task.dataset[subset][split]
        reason = _unfit(data)
        if reason is not None:
            raise RequestError(
                f"{task.metadata.name}, subset {subset}, is left to mteb: {reason}; "
                "`hybrid-bench mteb run` evaluates it"
            )
        query_language, language = subset_languages(task.metadata, subset)
        corpus = data["corpus"] if data["corpus"]._indices is None else data["corpus"].flatten_indices()
        fingerprint = f"{language} {data['corpus']._fingerprint}"
        part = part_of[split, subset] = same.setdefault(fingerprint, name)
        if part not in passages:
            titles = _column(corpus, "title") if "title" in corpus.column_names else None
            passages[part] = Passages(language, _column(corpus, "id"), _column(corpus, "text"), titles)
        queries[name], absent = _queries_of(
            data, passages[part], list(passages).index(part), query_language, task.ignore_identical_ids
        )
        judged[split, subset] = {
            i: frozenset(d for d, gain in data["relevant_docs"][i].items() if gain >= 1) for i in queries[name].ids
        }
        if absent and not hasattr(task, "beir_notes"):  # those tell it, and more
            notes.append(f"{name}: {absent} relevant documents are not in the corpus, and count as not retrieved")
    many = len(task.metadata.hf_subsets) * len(task.eval_splits) > 1
    for name, each in queries.items():
        # Ids of two subsets need not be about the same question.
        if many:
            queries[name] = replace(each, question_ids=tuple(f"{name}/{i}" for i in each.ids))
    if several:
        clustered, remarks = _clusters(judged)
        notes += remarks
        numbers = {i: _number(key) for i, key in clustered.items()}
    else:
        numbers = {i: number for number, i in enumerate(i for each in queries.values() for i in each.question_ids)}
    return Collection(
        name=task.metadata.name,
        passages=passages,
        queries=queries,
        paragraph_cluster=numbers,
        article_cluster=numbers,
        revision=str(task.metadata.dataset["revision"]),
        sha256=task.data_sha256(),
        notes=(*getattr(task, "beir_notes", ()), *notes),
    ), part_of


def _clusters(
    judged: Mapping[tuple[str, str], Mapping[str, frozenset[str]]],
) -> tuple[dict[str, str], list[str]]:
    """What the questions of a task with several subsets are clustered by, and what a reader has to be told of it.

    In one subset questions about the same document are together. Subsets of a parallel task ask the same questions in
    several languages, which are not independent either. They are known by their ids, but many data sets just count
    1, 2, 3: so ids count as the same question where the judgments agree, that is, where the questions that share a
    relevant document here share one there, for nine in ten of the ids that both have.

    Args:
        judged: The relevant documents of each query id, by split and subset.

    Returns:
        The cluster of each question id, ``<split>/<subset>/<query id>``, and remarks.
    """
    clustered: dict[str, str] = {}
    remarks: list[str] = []
    known: dict[str, dict[str, frozenset[str]]] = {}  # split -> query id -> those that share a document with it
    documents: dict[str, dict[str, frozenset[str]]] = {}
    shared_any = False
    for (split, subset), relevant in judged.items():
        together, first = _sharing(relevant)
        before, docs = known.setdefault(split, {}), documents.setdefault(split, {})
        shared = before.keys() & together.keys()
        prefix = split
        if shared:
            same = sum(together[i] & shared == before[i] & shared for i in shared)
            telling = any(len(together[i] & shared) > 1 for i in shared) or all(relevant[i] == docs[i] for i in shared)
            if telling and same >= _AGREEING * len(shared):
                shared_any = True
            else:
                prefix = f"{split}/{subset}"
                remarks.append(
                    f"{split}/{subset}: its questions count as others than those of the same ids in another subset, "
                    "because their judgments do not agree"
                )
        if prefix == split:
            known[split] = {**together, **before}
            documents[split] = {**relevant, **docs}
        clustered |= {f"{split}/{subset}/{i}": f"{prefix}/{first[i]}" for i in relevant}
    if shared_any:
        remarks.append(
            "questions of several subsets with the same id are one question, and those about one document are one "
            f"cluster: {len({*clustered.values()}):,} clusters of {len(clustered):,} queries"
        )
    elif len(judged) > 1:
        remarks.append(
            "each query alone: no ids show which queries of the subsets ask the same, so they count as independent "
            "(but for those about one document); if they are translations, p-values are too small"
        )
    return clustered, remarks


def _sharing(relevant: Mapping[str, frozenset[str]]) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
    """Of each query id those that share a relevant document with it, directly or by others; and the first of them.

    Where more than half of the queries would be together, documents say nothing, and each query is alone.
    """
    by_document: dict[str, list[str]] = {}
    for i, documents in relevant.items():
        for document in documents:
            by_document.setdefault(document, []).append(i)
    component = clusters([*([i] for i in relevant), *by_document.values()])
    members: dict[int, list[str]] = {}
    for i, number in component.items():
        members.setdefault(number, []).append(i)
    if max(map(len, members.values()), default=0) > max(1, len(relevant) / 2):
        members = {number: [i] for number, i in enumerate(relevant)}
    together = {i: frozenset(each) for each in members.values() for i in each}
    return together, {i: min(each) for each in members.values() for i in each}


def _number(key: str) -> int:
    """A number of 31 bits for a cluster, which does not depend on what other subsets were evaluated with it."""
    return int(sha256_of_text(key)[:8], 16) >> 1


@contextmanager
def _own_cache(digest: str) -> Iterator[None]:
    """The `arrow_cache` of one content for a loader of mteb's, which cannot be told a place."""
    from datasets import config

    before = config.HF_DATASETS_CACHE
    config.HF_DATASETS_CACHE = arrow_cache(digest)
    try:
        yield
    finally:
        config.HF_DATASETS_CACHE = before


def _unfit(data: Any) -> str | None:
    """Why our engine cannot score what was loaded."""
    for what in ("corpus", "queries"):
        seen = pc.value_counts(_ids(data[what]))
        twice = seen.filter(pc.greater(seen.field("counts"), 1))
        if len(twice):
            return f"the id '{twice[0]['values'].as_py()}' stands twice in its {what}"
    if data.get("top_ranked"):
        return "it gives candidates to rerank"
    queries = data["queries"]
    if "instruction" in queries.column_names:
        return "its queries have instructions"
    if len(queries) and not isinstance(queries[0]["text"], str):
        return "its queries are conversations"
    return None


def _ids(table: Dataset) -> pa.ChunkedArray:
    return (table if table._indices is None else table.flatten_indices()).data.column("id")


def _column(corpus: Dataset, name: str) -> Column:
    column = corpus.data.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = column.cast(pa.large_string())
    return Column(column)


def _queries_of(
    data: Any, passages: Passages, part: int, language: str, ignore_identical_ids: bool
) -> tuple[Queries, int]:
    """The queries that have a judgment, and how many relevant documents the corpus lacks."""
    assert isinstance(passages.ids, Column)
    relevant: Mapping[str, Mapping[str, int]] = data["relevant_docs"]
    table = data["queries"]
    asked = [(str(i), text) for i, text in zip(table["id"], table["text"], strict=True) if relevant.get(str(i))]
    if not asked:
        raise DataError("no query has a judgment: the ids of queries and judgments do not match")
    judged = {passage for i, _ in asked for passage, gain in relevant[i].items() if gain >= 1}
    row_of = passages.ids.find(judged)
    rows = []
    for number, (i, _) in enumerate(asked):
        gains = {
            row_of.get(passage, -1 - n): gain for n, (passage, gain) in enumerate(relevant[i].items()) if gain >= 1
        }
        # trec_eval gives a query without any relevant document 0 throughout, as to one whose document is not there.
        rows += [(number, part, max(row, -1), gain) for row, gain in gains.items()] or [(number, part, -1, 1)]
    excluded = None
    if ignore_identical_ids:
        own = passages.ids.find(i for i, _ in asked)
        excluded = Judgments.of((number, part, own[i], 1) for number, (i, _) in enumerate(asked) if i in own)
    return Queries(
        language=language,
        ids=tuple(i for i, _ in asked),
        question_ids=tuple(i for i, _ in asked),
        texts=tuple(text for _, text in asked),
        judgments=Judgments.of(rows),
        excluded=excluded,
    ), len(judged - row_of.keys())
