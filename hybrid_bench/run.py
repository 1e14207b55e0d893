"""Models x tasks -> runs: `run` evaluates what is missing and saves it."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mteb

from hybrid_bench import models as model_names
from hybrid_bench.corpora import PassageText
from hybrid_bench.errors import HybridBenchError, ModelError, RequestError
from hybrid_bench.languages import Setting, did_you_mean, language
from hybrid_bench.results import RunCache, read_signatures
from hybrid_bench.retrieval import ParallelRetrieval, TaskOptions
from hybrid_bench.tasks import collections, register, task_classes

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta

__all__ = ["DEMO", "Failure", "Outcome", "RunRequest", "mteb_saving_tables", "run", "select_tasks", "to_stderr"]

logger = logging.getLogger(__name__)

#: What `run` does when no model is given: the collection and the models that need no download.
DEMO = ("HybridDemo", ("hybrid_bench/bm25", "hybrid_bench/char-ngram"))

_SETTINGS = {"mono": Setting.MONOLINGUAL, "cross": Setting.CROSS_LINGUAL, "multi": Setting.MULTILINGUAL}
_SETTINGS |= {setting.value: setting for setting in Setting}


@dataclass(frozen=True)
class RunRequest:
    """What to run.

    Attributes:
        models: Names of models (see `models`).
        tasks: Collections or single tasks.
        settings: ``mono``, ``cross``, ``multi``; empty for all.
        languages: Query languages and, in pairs, passage languages; empty for all.
        pool_languages: Languages of the multilingual pool; empty for all.
        output: Folder in which ``results/`` is made.
        data_dir: The user's data folder.
        device: Where models run.
        batch_size: Texts per batch.
        passage: What text stands for a candidate.
        rerank: A run's folder, whose model gives a cross-encoder its candidates.
        top_k: How many candidates.
        overwrite_strategy: mteb's: ``only-missing``, ``always``, ``never`` or ``only-cache``.
        embedding_cache: Folder for embeddings on disk.
    """

    models: Sequence[str]
    tasks: Sequence[str]
    settings: Sequence[str] = ()
    languages: Sequence[str] = ()
    pool_languages: Sequence[str] = ()
    output: Path = Path("runs")
    data_dir: Path | None = None
    device: str | None = None
    batch_size: int = 32
    passage: str = PassageText.SENTENCE.value
    rerank: Path | None = None
    top_k: int | None = None
    overwrite_strategy: str = "only-missing"
    embedding_cache: Path | None = None


@dataclass(frozen=True)
class Failure:
    """A model, or a model on a task, that failed; the rest went on."""

    model: str
    task: str | None
    error: Exception
    #: The traceback as text: kept as an object, it would keep the model's memory.
    trace: str = ""

    def __str__(self) -> str:
        what = " ".join(str(self.error).split())
        if not isinstance(self.error, HybridBenchError):
            what = f"{type(self.error).__name__}: {what}"
        if self.task is None and self.model in what:
            return what
        return f"{self.model if self.task is None else f'{self.model} on {self.task}'}: {what}"


@dataclass
class Outcome:
    """What `run` did.

    Attributes:
        folders: The folder of each model that has results, in the order asked for.
        failures: What failed.
        subsets: The subsets that were asked for, by task.
    """

    folders: list[Path] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    subsets: dict[str, list[str]] = field(default_factory=dict)


def select_tasks(request: RunRequest) -> list[ParallelRetrieval]:
    """The tasks of a request, narrowed to its settings and languages; those left with no subset are left out.

    Raises:
        RequestError: If a name is unknown, or nothing is left.
    """
    register()
    for name in request.settings:
        if name not in _SETTINGS:
            raise RequestError(f"unknown setting '{name}': {did_you_mean(name, _SETTINGS)}")
    settings = {_SETTINGS[name] for name in request.settings} or set(Setting)
    for code in (*request.languages, *request.pool_languages):
        language(code)
    chosen: dict[str, ParallelRetrieval] = {}
    for name in request.tasks:
        for task_class in _named(name):
            task = task_class()
            known = tuple(task.source.files)
            for code in (*request.languages, *request.pool_languages):
                if code not in known:
                    raise RequestError(f"{task.source.collection} has no language '{code}': it has {', '.join(known)}")
            task.options = TaskOptions(
                data_dir=request.data_dir,
                passage=PassageText(request.passage),
                pool_languages=tuple(request.pool_languages) or None,
                embedding_cache=request.embedding_cache,
            )
            wanted = set(request.languages) or set(known)
            task.hf_subsets = [
                subset
                for subset in task.hf_subsets
                if task.setting_of(subset) in settings and set(subset.split("-")) <= wanted
            ]
            if task.hf_subsets:
                chosen[task.metadata.name] = task
    if not chosen:
        raise RequestError(
            f"nothing to run: no subset of {', '.join(request.tasks)} is in settings "
            f"{', '.join(request.settings) or 'all'} and languages {', '.join(request.languages) or 'all'}"
        )
    return list(chosen.values())


def _named(name: str) -> tuple[type[ParallelRetrieval], ...]:
    """The tasks that a collection's or a task's name stands for."""
    groups = {group.casefold(): tasks for group, tasks in collections().items()}
    single = {task.casefold(): (task_class,) for task, task_class in task_classes().items()}
    found = groups.get(name.casefold()) or single.get(name.casefold())
    if found is None:
        raise RequestError(f"unknown task '{name}': {did_you_mean(name, [*collections(), *task_classes()])}")
    return found


def run(request: RunRequest, tell: Callable[[str], None] = lambda message: None) -> Outcome:
    """Evaluate every model on every task, as far as results are not there already, and save.

    A model or task that fails is noted, and the rest goes on.

    Args:
        request: What to run.
        tell: Called with a line about each step.

    Returns:
        Where the results are, and what failed.

    Raises:
        RequestError: If the request itself is wrong; nothing has been run then.
        DataError: If the data cannot be read, or the output folder cannot be written; nor then.
    """
    tasks = select_tasks(request)
    metas = {name: _meta_or_error(name) for name in request.models}
    for task in tasks:
        task.data_sha256()  # reads and checks the data, before a model is loaded in vain
    first = _first_stage(request)
    for task in tasks:
        task.options = replace(task.options, first_stage=first, top_k=request.top_k)
    for notice in dict.fromkeys(task.source.notice for task in tasks if task.source.notice):
        tell(notice)
    runner = _Runner(request, tasks, RunCache(request.output, tasks), tell)
    for name, meta in metas.items():
        if isinstance(meta, Exception):
            runner.outcome.failures.append(Failure(name, None, meta))
        else:
            runner.run_model(name, meta)
    return runner.outcome


class _Runner:
    """Evaluates one model after the other on the same tasks."""

    def __init__(
        self,
        request: RunRequest,
        tasks: Sequence[ParallelRetrieval],
        cache: RunCache,
        tell: Callable[[str], None],
    ) -> None:
        self.request = request
        self.tasks = tasks
        self.cache = cache
        self.tell = tell
        self.outcome = Outcome(subsets={task.metadata.name: task.hf_subsets for task in tasks})

    def run_model(self, name: str, meta: ModelMeta) -> None:
        """Evaluate a model where results are missing; it is loaded when the first one is."""
        options = _options(self.request, meta, self.tasks[0].options.first_stage)
        place = meta.model_copy(update={"experiment_kwargs": {**(meta.experiment_kwargs or {}), **options} or None})
        model: Any = None
        for task in self.tasks:
            task_name = task.metadata.name
            everything = task.hf_subsets
            try:
                # Only what is missing: the task encodes and ranks all its subsets together.
                task.hf_subsets = self._missing(name, task, place)
                if not task.hf_subsets:
                    continue
                if model is None and self.request.overwrite_strategy != "only-cache":
                    model = model_names.load(meta, self.request.device)
                    model_names.with_options(model, options)
                self.tell(f"{name} on {task_name}: {len(task.hf_subsets)} subsets")
                self._evaluate(place if model is None else model, task)
            except Exception as error:  # one failure must not lose the others' results
                logger.debug("%s on %s failed", name, task_name, exc_info=True)
                trace = "".join(traceback.format_exception(error))
                self.outcome.failures.append(Failure(name, None if model is None else task_name, error, trace))
                _forget_frames(error)
                if model is None:
                    break
            finally:
                task.hf_subsets = everything
                if task.data_loaded:
                    task.unload_data()
        folder = self.cache.get_task_result_path("any", place).parent
        if any((folder / f"{task.metadata.name}.json").is_file() for task in self.tasks):
            self.outcome.folders.append(folder)

    def _missing(self, name: str, task: ParallelRetrieval, place: ModelMeta) -> list[str]:
        """The subsets of a task that there is no result for that can be used."""
        if self.request.overwrite_strategy == "always":
            return task.hf_subsets
        task_name = task.metadata.name
        saved = self.cache.load_task_result(task_name, place)
        if saved is not None and saved.is_mergeable(task):
            missing = {subset for subsets in saved.get_missing_evaluations(task).values() for subset in subsets}
            if not missing:
                self.tell(f"{name} on {task_name}: already there")
            return [subset for subset in task.hf_subsets if subset in missing]
        if reason := self.cache.why_not(task_name, place):
            self.tell(f"{name} on {task_name}: the saved result is not used, because {reason}")
        return task.hf_subsets

    def _evaluate(self, model: Any, task: ParallelRetrieval) -> None:
        mteb.evaluate(
            model,
            task,
            cache=self.cache,
            overwrite_strategy=self.request.overwrite_strategy,
            encode_kwargs={"batch_size": self.request.batch_size},
            co2_tracker=False,
            show_progress_bar=False,
        )


def _meta_or_error(name: str) -> ModelMeta | Exception:
    try:
        return model_names.model_meta(name)
    except ModelError as error:
        return error


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and its causes: their frames would keep a model's memory."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _options(request: RunRequest, meta: ModelMeta, first: Any) -> dict[str, str]:
    """The options that change texts, pool or judgments, as they are saved with a model's results."""
    options = {}
    if PassageText(request.passage) is not PassageText.SENTENCE:
        options["passage"] = request.passage
    if request.pool_languages:
        options["pool_languages"] = "-".join(sorted(request.pool_languages))
    if first is not None and "cross-encoder" in meta.model_type:
        options["rerank"] = f"{first.mteb_model_meta.name}-{first.mteb_model_meta.revision}"
        options["top_k"] = str(request.top_k)
    return options


def _first_stage(request: RunRequest) -> Any:
    """The model of the run that ``--rerank`` names, loaded."""
    if request.rerank is None and request.top_k is None:
        return None
    if request.rerank is None or request.top_k is None or request.top_k < 1:
        raise RequestError("--rerank RUN and --top-k K (at least 1) go together")
    signatures = read_signatures(request.rerank)
    if not signatures:
        raise RequestError(
            f"{request.rerank} is not the folder of one model's run: no signatures.jsonl in it; "
            "give <output>/results/<org__model>/<revision>"
        )
    signature = next(iter(signatures.values()))
    pool = "-".join(sorted(request.pool_languages)) or None
    for what, wanted, found in (
        ("--passage", request.passage, signature["passage"]),
        ("--pool-languages", pool, signature["options"].get("pool_languages")),
    ):
        if wanted != found:
            raise RequestError(f"{request.rerank} was made with {what} {found}, not {wanted}: give the same options")
    source = signature.get("model_source") or signature["model"]
    meta = model_names.model_meta(source)
    if meta.revision != signature["revision"]:
        raise RequestError(
            f"{request.rerank} was made by {source} at revision {signature['revision']}, which is now {meta.revision}"
        )
    return model_names.load(meta, request.device)


@contextlib.contextmanager
def mteb_saving_tables() -> Iterator[None]:
    """While this is open, `mteb.evaluate` is ours, for code of mteb's that calls it."""
    original = mteb.evaluate

    def ours(model: Any, tasks: Any, **arguments: Any) -> Any:
        cache = arguments.get("cache")
        listed = [tasks] if hasattr(tasks, "metadata") else list(tasks)
        if isinstance(cache, mteb.ResultCache):
            arguments["cache"] = RunCache(cache.cache_path, listed)
        return original(model, listed, **arguments)

    mteb.evaluate = ours
    try:
        yield
    finally:
        mteb.evaluate = original


def to_stderr(message: str) -> None:
    """Tell a person about a step."""
    print(message, file=sys.stderr)
