"""Finds the task files and registers their tasks with mteb.

Task classes are reached through this registry, not by import: `collections`, or after `register` through mteb,
``mteb.get_task("XQuAD-R-Pairs")``.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from hybrid_bench import tasks
from hybrid_bench.data.published import PUBLICATIONS
from hybrid_bench.errors import RequestError

if TYPE_CHECKING:
    from hybrid_bench.evaluation.tasks import ParallelRetrieval

__all__ = ["BENCHMARK", "collections", "register", "task_classes"]

#: Name of the benchmark, and the collections whose tasks it is made of. MIRACL, with 106 million passages, is not what
#: one runs in passing, and its monolingual part is a task of mteb's own.
BENCHMARK, BENCHMARK_COLLECTIONS = "HybridBench", ("XQuAD-R", "MLQA-R")


@cache
def task_classes() -> dict[str, type[ParallelRetrieval]]:
    """Every task class of the task files, by the task's name."""
    from hybrid_bench.evaluation.tasks import ParallelRetrieval

    found: dict[str, type[ParallelRetrieval]] = {}
    for module_info in sorted(pkgutil.iter_modules(tasks.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{tasks.__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ParallelRetrieval) and "metadata" in vars(value):
                found[value.metadata.name] = value
    return found


def collections() -> dict[str, tuple[type[ParallelRetrieval], ...]]:
    """The tasks of every collection, by its name: first ``-Pairs``, then ``-Multilingual``."""
    grouped: dict[str, tuple[type[ParallelRetrieval], ...]] = {}
    for task in task_classes().values():
        grouped[task.reader.collection] = (*grouped.get(task.reader.collection, ()), task)
    return grouped


def register() -> None:
    """Make mteb know the tasks, the embedded models, and the benchmark ``HybridBench``. Doing it again changes nothing.

    Raises:
        RequestError: If mteb already has another task, model or benchmark of one of these names.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    from hybrid_bench.engine.lexical import EMBEDDED

    # By its full name: `mteb.get_tasks` as an attribute is the function, not the module.
    tasks_module = importlib.import_module("mteb.get_tasks")
    registry = tasks_module._TASKS_REGISTRY
    for name, task in task_classes().items():
        if registry.get(name, task) is not task:
            other = registry[name].__module__
            raise RequestError(f"mteb already has a task named '{name}' ({other}): remove one of them")
    new = tuple(task for name, task in task_classes().items() if name not in registry)
    registry.update({task.metadata.name: task for task in new})
    tasks_module.TASK_LIST = (  # type: ignore[attr-defined] # mteb's own list, which it has no function to add to
        *tasks_module.TASK_LIST,
        *new,
    )
    for name, meta in EMBEDDED.items():
        if MODEL_REGISTRY.setdefault(name, meta()) != meta():
            raise RequestError(f"mteb already has another model named '{name}': remove one of them")
    _register_benchmark()


def _register_benchmark() -> None:
    from mteb.benchmarks.benchmark import Benchmark
    from mteb.benchmarks.get_benchmark import _build_aliases_registry, _build_registry
    from mteb.get_tasks import MTEBTasks

    module = importlib.import_module("mteb.benchmarks.benchmarks")
    known = _build_registry().get(BENCHMARK)
    if known is not None:
        if known is not getattr(module, "HYBRID_BENCH", None):
            raise RequestError(f"mteb already has a benchmark named '{BENCHMARK}': remove one of them")
        return
    measured = [task for name in BENCHMARK_COLLECTIONS for task in collections()[name]]
    module.HYBRID_BENCH = Benchmark(  # type: ignore[attr-defined] # how mteb's own benchmarks are found: by attribute
        name=BENCHMARK,
        tasks=MTEBTasks(task() for task in measured),
        description=(
            "Multilingual retrieval in every setting: within a language, across two languages, and over one pool of "
            "all languages, with exact ranks at full depth and measures of language bias."
        ),
        reference="https://arxiv.org/abs/2408.10536",
        citation=f"\n{PUBLICATIONS['elmahdy2024'].bibtex}\n",
    )
    _build_registry.cache_clear()
    _build_aliases_registry.cache_clear()
