"""hybrid_bench: how good is a multilingual retriever, in every language, across languages, and over one mixed pool?

Importing the package costs nothing: neither torch nor mteb is loaded. As soon as mteb is there, before or after, it
knows the tasks, ``mteb.get_task("XQuAD-R-Pairs")``, and the benchmark, ``mteb.get_benchmark("HybridBench")``.
"""

from __future__ import annotations

from typing import Any

import wrapt

from hybrid_bench.version import VERSION

__all__ = ["__version__", "register"]

__version__ = VERSION


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
