"""What belongs to the whole process: kept as it was, so that no test depends on which ones ran before it."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["process_kept"]

# Loggers whose level and handlers commands set.
_LOGGERS = (None, "bm25s", "datasets", "huggingface_hub", "mteb", "sentence_transformers", "torch", "transformers")
# Modules whose globals are settings or registries, as far as anything has imported them.
_MODULES = ("datasets.config", "huggingface_hub.constants", "mteb.get_tasks", "mteb.benchmarks.benchmarks")
# Registries: module, name of the dictionary.
_REGISTRIES = (("mteb.get_tasks", "_TASKS_REGISTRY"), ("mteb.models.model_implementations", "MODEL_REGISTRY"))


@contextlib.contextmanager
def process_kept() -> Iterator[None]:
    """While this is open, anything may happen to the process; afterwards it is as it was.

    That is its environment, folder, arguments and paths, signals, loggers, random generators, and the settings and
    registries of torch, datasets, huggingface_hub and mteb. What is imported meanwhile stays imported.
    """
    before = [each() for each in (_system, _loggers, _generators, _torch, _datasets, _modules, _mteb)]
    try:
        yield
    finally:
        for restore in before:
            restore()


def _give_back(mapping: MutableMapping[Any, Any], before: MutableMapping[Any, Any]) -> bool:
    """Give a dictionary the entries that it had; returns whether it had others."""
    if mapping == before:
        return False
    for key in [key for key in mapping if key not in before]:
        del mapping[key]
    for key, value in before.items():
        if key not in mapping or mapping[key] is not value:
            mapping[key] = value
    return True


def _system() -> Callable[[], None]:
    environment, folder = dict(os.environ), Path.cwd()
    arguments, paths = list(sys.argv), list(sys.path)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        # pytest's own note of where it is goes on.
        now = {name: value for name, value in os.environ.items() if name == "PYTEST_CURRENT_TEST"}
        _give_back(os.environ, environment | now)
        os.chdir(folder)
        sys.argv, sys.path[:] = arguments, paths
        for number, handler in signals.items():
            signal.signal(number, handler)

    return restore


def _loggers() -> Callable[[], None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    disabled = logging.root.manager.disable

    def restore() -> None:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers
        logging.disable(disabled)

    return restore


def _generators() -> Callable[[], None]:
    python, numpy = random.getstate(), np.random.get_state()

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)

    return restore


def _torch() -> Callable[[], None]:
    torch = sys.modules.get("torch")
    if torch is None:
        return _nothing
    state, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    gradients, exact = torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()

    def restore() -> None:
        torch.set_rng_state(state)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.are_deterministic_algorithms_enabled() != exact:  # asking for it imports torch's compiler: seconds
            torch.use_deterministic_algorithms(exact)

    return restore


def _datasets() -> Callable[[], None]:
    datasets = sys.modules.get("datasets")
    if datasets is None:
        return _nothing
    silent, caching = datasets.are_progress_bars_disabled(), datasets.is_caching_enabled()

    def restore() -> None:
        (datasets.disable_progress_bars if silent else datasets.enable_progress_bars)()
        (datasets.enable_caching if caching else datasets.disable_caching)()

    return restore


def _modules() -> Callable[[], None]:
    before = [(vars(sys.modules[name]), dict(vars(sys.modules[name]))) for name in _MODULES if name in sys.modules]

    def restore() -> None:
        for present, then in before:
            _give_back(present, then)

    return restore


def _mteb() -> Callable[[], None]:
    found = [(sys.modules[module], name) for module, name in _REGISTRIES if module in sys.modules]
    registries = [(getattr(module, name), dict(getattr(module, name))) for module, name in found]
    module: Any = sys.modules.get("mteb.benchmarks.get_benchmark")
    # By name, and what each consists of: mteb's command line puts other tasks into them.
    benchmarks = {} if module is None else dict(module._build_registry())
    tasks = {name: benchmark.tasks for name, benchmark in benchmarks.items()}

    def restore() -> None:
        for present, then in registries:
            _give_back(present, then)
        for name, benchmark in benchmarks.items():
            benchmark.tasks = tasks[name]
        if module is not None and module._build_registry() != benchmarks:
            module._build_registry.cache_clear()
            module._build_aliases_registry.cache_clear()

    return restore


def _nothing() -> None:
    """In place of what is not imported yet."""
