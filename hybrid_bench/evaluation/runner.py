"""Models x tasks -> runs: `run` evaluates what is missing and saves it."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mteb
import numpy as np
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.abstasks.retrieval import AbsTaskRetrieval

from hybrid_bench.data.beir import beir_task, parse_beir
from hybrid_bench.data.collection import DataOptions, PassagePool, PassageText
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.data.translations import Translations, read_translations
from hybrid_bench.engine import models as model_names
from hybrid_bench.engine.debias import Method
from hybrid_bench.engine.lexical import EMBEDDED, subset_languages
from hybrid_bench.engine.models import GivenModel
from hybrid_bench.errors import DataError, HybridBenchError, ModelError, RequestError, listed, of_system, one_line
from hybrid_bench.evaluation.custom import parallel_tasks
from hybrid_bench.evaluation.debiasing import DEBIAS_ON, debiasing, method_of
from hybrid_bench.evaluation.foreign import exact, mteb_names, mteb_tasks, why_not
from hybrid_bench.evaluation.registry import collections, register, task_classes
from hybrid_bench.evaluation.tasks import ExactRetrieval, ParallelRetrieval, TaskOptions
from hybrid_bench.languages import Setting, did_you_mean, language, settings_of
from hybrid_bench.runs.result_files import read_signatures
from hybrid_bench.runs.saving import RunCache

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask
    from mteb.models.model_meta import ModelMeta

__all__ = ["DEMO", "Failure", "Outcome", "RunRequest", "mteb_saving_tables", "run", "select_tasks", "to_stderr"]

logger = logging.getLogger(__name__)

#: What `run` does when no model is given: the collection and the models that need no download.
DEMO = ("HybridDemo", ("hybrid_bench/bm25", "hybrid_bench/char-ngram"))


@dataclass(frozen=True)
class RunRequest:
    """What to run.

    Attributes:
        models: Names of models (see `models`), or models that are in memory (see `models.given`).
        tasks: Collections or single tasks.
        settings: ``mono``, ``cross``, ``multi``; empty for all.
        languages: Query languages and, in pairs, passage languages; empty for all.
        pool_languages: Languages of the multilingual pool; empty for all.
        output: Folder in which ``results/`` is made.
        data_dir: The user's data folder.
        device: Where models run.
        batch_size: Texts per batch.
        passage: What text stands for a candidate.
        pool: Which passages MIRACL's queries are asked against: ``full`` or ``hard-negatives``.
        translations: Files with MIRACL's queries in other languages.
        translation_source: Whose translations, where the files hold those of several.
        rerank: A run's folder, whose model gives a cross-encoder its candidates.
        top_k: How many candidates.
        debias: What is done against language bias (see `engine.debias.Method`), or ``none``.
        debias_on: What that is fitted on: ``ntrex`` or a collection; None for the demo.
        overwrite_strategy: mteb's: ``only-missing``, ``always``, ``never`` or ``only-cache``.
        embedding_cache: Folder for embeddings on disk.
        trust_remote_code: Whether code that comes with a model, from the hub or in its folder, may be run.
    """

    models: Sequence[str | GivenModel]
    tasks: Sequence[str]
    settings: Sequence[str] = ()
    languages: Sequence[str] = ()
    pool_languages: Sequence[str] = ()
    output: Path = Path("runs")
    data_dir: Path | None = None
    device: str | None = None
    batch_size: int = 32
    passage: str = PassageText.SENTENCE.value
    pool: str = PassagePool.FULL.value
    translations: Sequence[Path] = ()
    translation_source: str | None = None
    rerank: Path | None = None
    top_k: int | None = None
    debias: str = "none"
    debias_on: str | None = None
    overwrite_strategy: str = "only-missing"
    embedding_cache: Path | None = None
    trust_remote_code: bool = False


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
        if isinstance(self.error, OSError) and self.error.filename is not None:
            what = of_system(self.error)
        elif not isinstance(self.error, HybridBenchError):
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


def select_tasks(request: RunRequest) -> list[AbsTask]:
    """The tasks of a request, narrowed to its settings and languages; those left with no subset are left out.

    Returns:
        Tasks that our engine scores (`ExactRetrieval`), and those that are left to mteb.

    Raises:
        RequestError: If a name is unknown, or nothing is left.
        DataError: If a folder or file that a task is made of cannot be read.
    """
    register()
    settings = settings_of(request.settings)
    request = replace(
        request,
        languages=[language(code).code for code in request.languages],
        pool_languages=[language(code).code for code in request.pool_languages],
    )
    data = DataOptions(
        data_dir=request.data_dir,
        passage=PassageText(request.passage),
        pool=PassagePool(request.pool),
        translations=_translations(request),
    )
    options = TaskOptions(
        data=data, pool_languages=tuple(request.pool_languages) or None, embedding_cache=request.embedding_cache
    )
    chosen: dict[str, AbsTask] = {}
    left_out: dict[str, str] = {}
    for name in request.tasks:
        for task in map(partial(_in_languages, request.languages), named_tasks(name, request.data_dir)):
            if isinstance(task, ExactRetrieval):
                task.options = options
                left_out |= _narrow(task, request, settings)
            if not task.hf_subsets:
                continue
            if chosen.setdefault(task.metadata.name, task) is not task and type(chosen[task.metadata.name]) is not type(
                task
            ):
                raise RequestError(
                    f"two different tasks are named '{task.metadata.name}': run them one after the other"
                )
    for name, task in list(chosen.items()):
        if isinstance(task, AbsTaskAggregate) and any(
            set(part.hf_subsets) != set(chosen[part.metadata.name].hf_subsets if part.metadata.name in chosen else ())
            for part in task.tasks
        ):
            del chosen[name]
    if not chosen:
        raise RequestError(
            f"nothing to run: no subset of {', '.join(request.tasks)} is in settings "
            f"{', '.join(request.settings) or 'all'} and languages {', '.join(request.languages) or 'all'}"
            + "".join(f"; {subset} is not, because {reason}" for subset, reason in list(left_out.items())[:1])
        )
    return list(chosen.values())


def _in_languages(codes: Sequence[str], task: AbsTask) -> AbsTask:
    """A task that is left to mteb, narrowed to these languages, if any; others as they are."""
    if not codes or isinstance(task, ExactRetrieval | AbsTaskAggregate):
        return task
    wanted = {language(code).tag.partition("-")[0] for code in codes}
    narrowed = copy(task)  # it may be a benchmark's own
    narrowed.hf_subsets = [
        subset
        for subset in task.hf_subsets
        if {tag.partition("-")[0] for tag in task.metadata.hf_subsets_to_langscripts[subset]} <= wanted
    ]
    return narrowed


def _narrow(task: ExactRetrieval, request: RunRequest, settings: Set[Setting]) -> dict[str, str]:
    """Narrow a task to the settings and languages of a request; why subsets that it asks for cannot be run."""
    left_out: dict[str, str] = {}
    if isinstance(task, ParallelRetrieval):
        known = task.reader.languages
        for code in (*request.languages, *request.pool_languages):
            if code not in known:
                raise RequestError(f"{task.reader.collection} has no language '{code}': it has {', '.join(known)}")
        languages = {subset: set(subset.split("-")) for subset in task.hf_subsets}
    else:
        languages = {subset: set(subset_languages(task.metadata, subset)) for subset in task.hf_subsets}
    wanted = set(request.languages)
    task.hf_subsets = [
        subset
        for subset in task.hf_subsets
        if task.setting_of(subset) in settings and (not wanted or languages[subset] <= wanted)
    ]
    if isinstance(task, ParallelRetrieval):
        reasons = {subset: _why_missing(task, subset) for subset in task.hf_subsets}
        left_out = {subset: reason for subset, reason in reasons.items() if reason}
        task.hf_subsets = [subset for subset in task.hf_subsets if subset not in left_out]
        if "translations" not in task.reader.saved_options(task.options.data, task.hf_subsets):
            # None of these is asked in translation: they are the same as without.
            task.options = replace(task.options, data=replace(task.options.data, translations=None))
    return left_out


def _why_missing(task: ParallelRetrieval, subset: str) -> str | None:
    """Why a subset cannot be run with the task's options; None if it can."""
    try:
        task.parts_of(subset)
    except RequestError as error:  # no pool is left of it
        return str(error)
    return task.reader.missing(task.options.data, subset)


def _translations(request: RunRequest) -> Translations | None:
    """The one source's translations that a request asks for."""
    if not request.translations:
        if request.translation_source is not None:
            raise RequestError("--translation-source NAME goes with --translations FILE")
        return None
    sources = read_translations(request.translations)
    if request.translation_source is not None:
        if request.translation_source not in sources:
            hint = did_you_mean(request.translation_source, sources)
            raise RequestError(f"no translations by '{request.translation_source}' in the files: {hint}")
        return sources[request.translation_source]
    if len(sources) > 1:
        raise RequestError(
            f"the translations are by {len(sources)} sources ({', '.join(sources)}): choose one with "
            "--translation-source, and run again for the next; `report` shows them side by side"
        )
    return next(iter(sources.values()))


def named_tasks(name: str, data_dir: Path | None = None) -> list[AbsTask]:
    """The tasks that a name stands for.

    Args:
        name: One of our collections or tasks; a task or benchmark of mteb's; ``beir:`` and a folder (see
            `beir.parse_beir`); ``jsonl:`` or ``hf:`` and the place of a user's own parallel data (see
            `jsonl.JsonlReader.parse`).
        data_dir: Where the data sets of mteb's tasks may lie.

    Raises:
        RequestError: If there is none.
        DataError: If what the name stands for cannot be read.
    """
    if name.startswith("beir:"):
        return [exact(beir_task(*parse_beir(name)))]
    if JsonlReader.is_spec(name):
        return [task() for task in parallel_tasks(JsonlReader.parse(name))]
    groups = {group.casefold(): tasks for group, tasks in collections().items()}
    single = {task.casefold(): (task_class,) for task, task_class in task_classes().items()}
    ours = groups.get(name.casefold()) or single.get(name.casefold())
    if ours is not None:
        return [task() for task in ours]
    tasks = mteb_tasks(name)
    if tasks is None:
        known = [*collections(), *task_classes(), *mteb_names()]
        raise RequestError(f"unknown task '{name}': {_near_task(name, known)}")
    return [
        exact(task, data_dir) if isinstance(task, AbsTaskRetrieval) and why_not(task) is None else task
        for task in tasks
    ]


def _near_task(name: str, known: Sequence[str]) -> str:
    clause = did_you_mean(name, known)
    return (
        clause
        if clause.startswith("did")
        else "`hybrid-bench tasks` lists ours, `hybrid-bench mteb available-tasks` mteb's"
    )


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
    method = method_of(request.debias)
    if request.debias_on is not None and (method is None or not method.fits):
        raise RequestError("--debias-on NAME goes with a --debias METHOD that is fitted")
    tasks = select_tasks(request)
    chosen = [_Chosen.of(model, request.trust_remote_code) for model in request.models]
    chosen = list({model.name: model for model in chosen}.values())
    _check_data_options(request, tasks, tell)
    _check_model_options(request, tasks, chosen, tell)
    scored = [task for task in tasks if isinstance(task, ExactRetrieval)]
    for task in scored:
        task.data_sha256()  # reads and checks the data, before a model is loaded in vain
    first = _first_stage(request, scored)
    for task in scored:
        task.options = replace(task.options, first_stage=first, top_k=request.top_k)
        if method is not None and isinstance(task, ParallelRetrieval):
            debias = debiasing(task, method, request.debias_on or DEBIAS_ON, request.data_dir)
            task.options = replace(task.options, debias=debias)
    for notice in dict.fromkeys(task.notice for task in scored if task.notice):
        tell(notice)
    runner = _Runner(request, tasks, RunCache(request.output, tasks), tell)
    for model in chosen:
        if model.error is not None:
            runner.outcome.failures.append(Failure(model.name, None, model.error))
            continue
        try:
            runner.run_model(model)
        except Exception as error:  # what is about this model must not end the others
            logger.debug("%s failed", model.name, exc_info=True)
            trace = "".join(traceback.format_exception(error))
            runner.outcome.failures.append(Failure(model.name, None, error, trace))
            _forget_frames(error)
    return runner.outcome


@dataclass(frozen=True)
class _Chosen:
    """A model that was asked for: what is known of it, or why it cannot be run."""

    name: str
    meta: ModelMeta | None = None
    error: Exception | None = None
    given: Any = None

    @classmethod
    def of(cls, model: str | GivenModel, trust_remote_code: bool) -> _Chosen:
        """What a name or an object stands for; `RequestError` if there is no such model."""
        if isinstance(model, GivenModel):
            return cls(model.name, model.meta, given=model.model)
        try:
            meta = model_names.model_meta(model)
            model_names.check_trusted(meta, trust_remote_code)
        except ModelError as error:
            return cls(model, error=error)
        return cls(model, meta)


def _check_data_options(request: RunRequest, tasks: Sequence[AbsTask], tell: Callable[[str], None]) -> None:
    """Refuse options about data that apply to no task that was named; tell what else they do not apply to.

    Raises:
        RequestError: If one applies to nothing.
    """
    ours = [task for task in tasks if isinstance(task, ExactRetrieval)]
    told = {task.metadata.name: task.saved_options() for task in ours}
    using: dict[str, set[str]] = {}
    if request.settings:
        using[f"--settings {' '.join(request.settings)}"] = set(told)
    for name, value, default in (
        ("passage", request.passage, PassageText.SENTENCE.value),
        ("pool", request.pool, PassagePool.FULL.value),
        ("pool_languages", " ".join(request.pool_languages), ""),
        ("translations", " ".join(map(str, request.translations)), ""),
    ):
        if value != default:
            # All tasks of a collection count as one: a pool's languages are nothing to its pairs, and need not be.
            about = {task.collection_name for task in ours if name in told[task.metadata.name]}
            names = {task.metadata.name for task in ours if task.collection_name in about}
            using[f"--{name.replace('_', '-')} {value}"] = names
    if request.debias != "none":
        using[f"--debias {request.debias}"] = {
            task.metadata.name for task in ours if isinstance(task, ParallelRetrieval)
        }
    for option, names in using.items():
        without = [task.metadata.name for task in tasks if task.metadata.name not in names]
        if not names:
            raise RequestError(f"{option} does not apply to {listed(without)}: leave it out")
        if without:
            tell(f"{option} does not apply to {listed(without)}")


def _check_model_options(
    request: RunRequest, tasks: Sequence[AbsTask], models: Sequence[_Chosen], tell: Callable[[str], None]
) -> None:
    """Refuse options about models that would change numbers and apply to none; tell what others do not apply to.

    Raises:
        RequestError: If one applies to nothing.
    """
    ours = any(isinstance(task, ExactRetrieval) for task in tasks)
    kinds = {model.name: set(model.meta.model_type or ()) for model in models if model.meta is not None}
    if request.rerank is not None and kinds:
        alone = [name for name, kind in kinds.items() if "cross-encoder" not in kind]
        if len(alone) == len(kinds):
            raise RequestError(
                f"--rerank is for cross-encoders, and {listed(alone)} is none: it searches the whole pool; leave out "
                "--rerank and --top-k"
            )
        if not ours:
            names = listed(task.metadata.name for task in tasks)
            raise RequestError(f"--rerank does not apply to {names}, which is left to mteb: leave it out")
        if alone:
            tell(f"--rerank does not apply to {listed(alone)}, which searches the whole pool")
    _check_debias(request, kinds, tell)
    # These change no number, so that they may stand in a command for models of all kinds.
    unused: dict[str, list[str]] = {}
    if request.embedding_cache is not None and request.rerank is None:  # a first stage has embeddings
        unused["--embedding-cache"] = [name for name, kind in kinds.items() if not ours or "dense" not in kind]
    if request.device is not None:
        unused["--device"] = [model.name for model in models if model.given is not None or model.name in EMBEDDED]
    if request.batch_size != RunRequest.batch_size:
        unused["--batch-size"] = [name for name, kind in kinds.items() if name in EMBEDDED and "dense" not in kind]
    for option, without in unused.items():
        if without:
            tell(f"{option} does not apply to {listed(without)}")


def _check_debias(request: RunRequest, kinds: Mapping[str, Set[str]], tell: Callable[[str], None]) -> None:
    """Refuse debiasing that applies to no model; tell whom else it does not apply to."""
    if request.debias == "none":
        return
    if request.rerank is not None:
        raise RequestError("--debias and --rerank do not go together: leave one out")
    without = [name for name, kind in kinds.items() if "dense" not in kind and Method(request.debias).fits]
    if kinds and len(without) == len(kinds):
        raise RequestError(
            f"--debias {request.debias} changes embeddings, and {listed(without)} has none: leave it out"
        )
    if without:
        tell(f"--debias {request.debias} does not apply to {listed(without)}, which has no embeddings")


class _Runner:
    """Evaluates one model after the other on the same tasks."""

    def __init__(
        self,
        request: RunRequest,
        tasks: Sequence[AbsTask],
        cache: RunCache,
        tell: Callable[[str], None],
    ) -> None:
        self.request = request
        self.tasks = tasks
        self.cache = cache
        self.tell = tell
        self.outcome = Outcome(subsets={task.metadata.name: list(task.hf_subsets) for task in tasks})
        self.model: Any = None  # the one that is evaluated, once it is loaded
        self.own: Mapping[str, Any] = {}  # the options that it has by itself

    def run_model(self, chosen: _Chosen) -> None:
        """Evaluate a model where results are missing; it is loaded when the first one is."""
        name, meta = chosen.name, chosen.meta
        assert meta is not None
        self.model, self.own = chosen.given, meta.experiment_kwargs or {}
        for task in self.tasks:
            everything = task.hf_subsets
            try:
                self._run_task(name, meta, task)
            except KeyboardInterrupt:
                self.tell(self._stopped(name, task, self._place(meta, task), everything))
                raise
            except Exception as error:  # one failure must not lose the others' results
                logger.debug("%s on %s failed", name, task.metadata.name, exc_info=True)
                trace = "".join(traceback.format_exception(error))
                about = None if self.model is None else task.metadata.name
                self.outcome.failures.append(Failure(name, about, error, trace))
                _forget_frames(error)
                if self.model is None:
                    break
            finally:
                task.hf_subsets = everything
                if task.data_loaded:
                    task.unload_data()
        if chosen.given is not None:
            chosen.given.mteb_model_meta = meta  # as it was given
        self.model = None
        for task in self.tasks:  # those that are there, whatever failed above
            path = self.cache.get_task_result_path(task.metadata.name, self._place(meta, task))
            if path.is_file() and path.parent not in self.outcome.folders:
                self.outcome.folders.append(path.parent)

    @staticmethod
    def _place(meta: ModelMeta, task: AbsTask, own: Mapping[str, Any] | None = None) -> ModelMeta:
        """The model with the task's options, which decide where its results are saved."""
        kwargs = {**((meta.experiment_kwargs if own is None else own) or {}), **_options(task, meta)}
        return meta.model_copy(update={"experiment_kwargs": kwargs or None})

    def _run_task(self, name: str, meta: ModelMeta, task: AbsTask) -> None:
        """Evaluate what is missing of one task."""
        task_name, place = task.metadata.name, self._place(meta, task, self.own)
        if isinstance(task, AbsTaskAggregate):
            self._combine(name, task, place)
            return
        # Only what is missing: the task encodes and ranks all its subsets together.
        missing = self._missing(name, task, place)
        if not missing:
            return
        if self.model is None and self.request.overwrite_strategy != "only-cache":
            trusted = self.request.trust_remote_code
            self.model = model_names.load(meta, self.request.device, trust_remote_code=trusted)
            self.own = self.model.mteb_model_meta.experiment_kwargs or {}
        if self.model is not None:
            if isinstance(task, ExactRetrieval):
                missing = self._checked(name, task, place, missing)
            kwargs = {**self.own, **_options(task, meta)} or None
            self.model.mteb_model_meta = self.model.mteb_model_meta.model_copy(update={"experiment_kwargs": kwargs})
        task.hf_subsets = missing
        self.tell(f"{name} on {task_name}: {_plural(len(missing), 'subset')}{_by_mteb(task)}")
        self._evaluate(place if self.model is None else self.model, task)
        for remark in task.remarks if isinstance(task, ExactRetrieval) else ():
            self.tell(f"{name} on {task_name}: {remark}")

    def _stopped(self, name: str, task: AbsTask, place: ModelMeta, subsets: Sequence[str]) -> str:
        """What is saved of a model on a task that was interrupted."""
        saved = self.cache.load_task_result(task.metadata.name, place)
        there = {entry["hf_subset"] for entries in saved.scores.values() for entry in entries} if saved else set()
        done = f"{len(there & set(subsets))} of {_plural(len(subsets), 'subset')}"
        told = f"{name} on {task.metadata.name}: stopped; {done} {'is' if len(subsets) == 1 else 'are'} saved"
        if self.request.embedding_cache is None:
            return f"{told}, embeddings are not: --embedding-cache DIR keeps them"
        kept = task.kept_embeddings if isinstance(task, ExactRetrieval) else 0
        return f"{told}, and {_plural(kept, 'new embedding')} in {self.request.embedding_cache}"

    def _combine(self, name: str, task: AbsTaskAggregate, place: ModelMeta) -> None:
        """Save the result of an aggregate from those of its parts."""
        task_name = task.metadata.name
        parts = {part.metadata.name: self.cache.load_task_result(part.metadata.name, place) for part in task.tasks}
        found = [result for result in parts.values() if result is not None]
        if len(found) < len(parts):
            absent = ", ".join(part for part, result in parts.items() if result is None)
            raise DataError(f"it is combined from its parts, and there is no result of {absent}")
        combined = task.combine_task_results(found)
        saved = self.cache.load_task_result(task_name, place)
        if saved is not None and np.isclose(saved.get_score(), combined.get_score(), atol=1e-6):
            self.tell(f"{name} on {task_name}: already there")
            return
        self.tell(f"{name} on {task_name}: combined from {_plural(len(parts), 'task')}")
        self.cache.save_to_cache(combined, place)

    def _missing(self, name: str, task: AbsTask, place: ModelMeta) -> list[str]:
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
        if isinstance(task, ExactRetrieval) and (reason := self.cache.why_not(task_name, place)):
            self.tell(f"{name} on {task_name}: the saved result is not used, because {reason}")
        return task.hf_subsets

    def _checked(self, name: str, task: ExactRetrieval, place: ModelMeta, missing: list[str]) -> list[str]:
        """The missing subsets, or all: what is saved may be by other prompts, which only the loaded model tells."""
        if reason := self.cache.why_not(task.metadata.name, place, self.model):
            if len(missing) < len(task.hf_subsets):  # else it was told before
                self.tell(f"{name} on {task.metadata.name}: the saved result is not used, because {reason}")
            self.cache.set_aside(task.metadata.name, place)
            return task.hf_subsets
        return missing

    def _evaluate(self, model: Any, task: AbsTask) -> None:
        mteb.evaluate(
            model,
            task,
            cache=self.cache,
            overwrite_strategy=self.request.overwrite_strategy,
            encode_kwargs={"batch_size": self.request.batch_size},
            co2_tracker=False,
            show_progress_bar=False,
        )


def _plural(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _by_mteb(task: AbsTask) -> str:
    """A remark on a task that our engine does not score."""
    return "" if isinstance(task, ExactRetrieval) else f", left to mteb, because {why_not(task)}"


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and its causes: their frames would keep a model's memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a chain may lead back into itself
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _options(task: AbsTask, meta: ModelMeta) -> dict[str, str]:
    """The options that change texts, pool, judgments or candidates, as they are saved with a model's results."""
    if not isinstance(task, ExactRetrieval):
        return {}
    options = task.model_options(meta)
    first = task.options.first_stage
    if first is not None and "cross-encoder" in meta.model_type:
        options["rerank"] = f"{first.mteb_model_meta.name}-{first.mteb_model_meta.revision}"
        options["top_k"] = str(task.options.top_k)
    return options


def _first_stage(request: RunRequest, tasks: Sequence[ExactRetrieval]) -> Any:
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
    for task in tasks:
        made = signatures.get(task.metadata.name)
        if made is None:
            continue
        wanted = task.saved_options()
        for option in sorted(wanted.keys() | made["options"].keys()):
            if wanted.get(option) != made["options"].get(option):
                raise RequestError(
                    f"{request.rerank} was made with --{option.replace('_', '-')} "
                    f"{made['options'].get(option, 'as it is by default')}, not {wanted.get(option, 'the default')}: "
                    "give the same options"
                )
    signature = next(iter(signatures.values()))
    source = signature.get("model_source") or signature["model"]
    meta = model_names.model_meta(source)
    model_names.check_trusted(meta, request.trust_remote_code)
    if meta.revision != signature["revision"]:
        raise RequestError(
            f"{request.rerank} was made by {source} at revision {signature['revision']}, which is now {meta.revision}"
        )
    return model_names.load(meta, request.device, trust_remote_code=request.trust_remote_code)


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
    print(one_line(message), file=sys.stderr)
