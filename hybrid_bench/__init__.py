"""hybrid_bench: how good is a multilingual retriever, in every language, across languages, and over one mixed pool?

Importing the package registers its tasks with mteb: ``mteb.get_task("XQuAD-R-Pairs")``,
``mteb.get_benchmark("HybridBench")``.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from hybrid_bench.version import VERSION

__all__ = ["__version__"]

__version__ = VERSION


def _is_our_command_line() -> bool:
    """Whether this process is ``python -m hybrid_bench`` or the ``hybrid-bench`` script."""
    arguments = sys.orig_argv
    module = arguments[arguments.index("-m") + 1 : arguments.index("-m") + 2] if "-m" in arguments else []
    return module == ["hybrid_bench"] or Path(sys.argv[0] if sys.argv else "").stem == "hybrid-bench"


# Importing mteb takes seconds. The command line registers when a command needs the tasks, so that --help and errors
# of usage answer at once. Without mteb, only the parts that do not need it can be used.
if not _is_our_command_line() and importlib.util.find_spec("mteb") is not None:
    from hybrid_bench.evaluation.registry import register

    register()
    del register
