"""hybrid_bench: how good is a multilingual retriever, in every language, across languages, and over one mixed pool?

    import hybrid_bench as hb

    runs = hb.evaluate(["hybrid_bench/bm25", "my-model/"], "XQuAD-R", settings=["mono", "multi"])
    runs.scores("map", by="language")

Importing the package costs nothing: what is offered here is imported when it is first asked for. As soon as mteb is
there, before or after, it knows the tasks, ``mteb.get_task("XQuAD-R-Pairs")``, and the benchmark,
``mteb.get_benchmark("HybridBench")``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import wrapt

from hybrid_bench.version import VERSION

if TYPE_CHECKING:
    from hybrid_bench.api import (
        Comparison,
        Report,
        Runs,
        Tables,
        collections,
        compare,
        estimate,
        evaluate,
        load_runs,
        report,
        train,
    )

__all__ = [
    "Comparison",
    "Report",
    "Runs",
    "Tables",
    "__version__",
    "collections",
    "compare",
    "estimate",
    "evaluate",
    "load_runs",
    "register",
    "report",
    "train",
]

__version__ = VERSION


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module("hybrid_bench.api"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def register() -> None:
    """Make mteb know the tasks, the embedded models, and the benchmark ``HybridBench``.

    Done by itself when mteb is imported, whichever of the two is imported first. Doing it again changes nothing.

    Raises:
        RequestError: If mteb already has another task, model or benchmark of one of these names.
    """
    from hybrid_bench.evaluation import registry

    registry.register()


@wrapt.when_imported("mteb")
def _when_mteb_comes(_: Any) -> None:
    register()
