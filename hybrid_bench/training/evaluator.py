"""`HybridRetrievalEvaluator`: during training, what `run` measures of a saved model.

The tasks, the encoding, the ranks and the measures are those of `run`, so that a number in the training log is the
number that the checkpoint gets afterwards, to the last digit. Of each setting there is the mean over its subsets, as in
the report's tables.
"""

from __future__ import annotations

import csv
import logging
import random
import re
import warnings
from collections.abc import Collection as Some
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mteb.models.model_meta import ScoringFunction
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.util import disable_logging

from hybrid_bench.data.collection import Collection, DataOptions, Judgments, Queries, Reader
from hybrid_bench.data.hashing import sha256_of_lines
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.engine.models import with_options
from hybrid_bench.errors import DataError, RequestError, shown
from hybrid_bench.evaluation.custom import parallel_tasks
from hybrid_bench.evaluation.metadata import Metadata
from hybrid_bench.evaluation.runner import RunRequest, select_tasks
from hybrid_bench.evaluation.tasks import ExactRetrieval, ParallelRetrieval, TaskOptions, pair_subsets, pool_subsets
from hybrid_bench.languages import Setting, did_you_mean, language, settings_of
from hybrid_bench.measures.bias import MEASURES, higher_is_better

if TYPE_CHECKING:
    from mteb.types import EncodeKwargs
    from sentence_transformers import SentenceTransformer

__all__ = ["HybridRetrievalEvaluator"]

logger = logging.getLogger(__name__)

#: Measures of every setting that are reported besides the task's main score.
_BESIDES = ("ndcg_at_10", "recall_at_10")
#: Of a name in the name of the table's file; file systems take 255 for the whole.
_NAME_BYTES = 160


class HybridRetrievalEvaluator(BaseEvaluator):
    """Measures monolingual, cross-lingual and multilingual retrieval, and language bias, as `run` does.

    The metrics are ``<setting>_map``, ``<setting>_ndcg_at_10`` and ``<setting>_recall_at_10``, for ``monolingual``,
    ``cross_lingual`` and ``multilingual`` as far as they are measured, every ``bias_*`` measure that applies to the
    multilingual pools, and ``map``, the mean of the settings' ``<setting>_map``. Where a task's main score is another,
    as MIRACL's ``ndcg_at_10``, it takes the place of ``map``. Each is a mean over queries, then over subsets. The name
    comes before them, as ``XQuAD-R_monolingual_map``.

    Of an evaluation nothing is left in the model but its entry in the model card: training mode, device, number format,
    prompts and the states of the random generators are as before. Under torchrun the trainer calls it on the first
    device and lets the others help to encode.

    With `questions` only these are asked. The pools stay whole: passages that belong to other questions, such as those
    trained on, are candidates all the same, so that ranks compare with those of the whole collection.

    Args:
        collection: Name of a collection, a task, or whatever else ``run --tasks`` takes; a source; or a collection
            that is at hand, such as a validation split in the form of `collection.Collection`.
        settings: Of ``mono``, ``cross`` and ``multi``; none for all.
        languages: Languages of queries, and of pools of one language; none for all.
        pool_languages: Languages of the multilingual pool; none for all.
        questions: Ids that the questions have in every language, as in `Queries.question_ids`; None for all.
        data: What can be chosen about the data, and where they lie.
        batch_size: Texts per batch.
        query_prompt: What is put before each query; None for the model's own prompt.
        passage_prompt: What is put before each passage; None for the model's own prompt. Prompts that are given to the
            trainer's arguments only are not the model's own.
        corpus_prompt: Another name of `passage_prompt`, that of sentence-transformers' own evaluators.
        truncate_dim: How many dimensions of the embeddings to measure with; None for those that the model gives.
        matryoshka_dims: Further numbers of dimensions to measure with, as a model trained with MatryoshkaLoss is used.
            Their metrics have ``dim_<number>_`` before them, after the name.
        primary_metric: The metric that decides which checkpoint is the best, without the name; None for ``map``.
        name: What comes before the metrics, any text; None for the collection's name, ``""`` for nothing.
        write_csv: Whether to write a line per evaluation into a table in the trainer's output folder.

    Attributes:
        primary_metric: As given; after an evaluation with the name before it, as sentence-transformers has it.
        greater_is_better: Whether more of the primary metric is better. The trainer asks its arguments, not the
            evaluator: with ``metric_for_best_model`` of a measure whose less is better, they take
            ``greater_is_better=False``: `measures.bias.higher_is_better` knows which they are, and ``train`` asks it.
        subsets: After an evaluation, all measures of each subset, by task and subset.

    Raises:
        RequestError: If a name is unknown, a question is, or nothing is left to measure.
        DataError: If the data cannot be read. All this before training begins.
    """

    def __init__(
        self,
        collection: str | Reader | Collection,
        *,
        settings: Sequence[str] = (),
        languages: Sequence[str] = (),
        pool_languages: Sequence[str] = (),
        questions: Some[str] | None = None,
        data: DataOptions | None = None,
        batch_size: int = 32,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        corpus_prompt: str | None = None,
        truncate_dim: int | None = None,
        matryoshka_dims: Sequence[int] = (),
        primary_metric: str | None = None,
        name: str | None = None,
        write_csv: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # has no types
        data = DataOptions() if data is None else data
        self.settings, self.languages = tuple(settings), tuple(languages)
        self.batch_size = batch_size
        if None not in {passage_prompt, corpus_prompt}:
            raise RequestError("passage_prompt and corpus_prompt are two names of one thing: give one of them")
        self.prompts = {"query": query_prompt, "document": corpus_prompt if passage_prompt is None else passage_prompt}
        for size in (*matryoshka_dims, *(() if truncate_dim is None else (truncate_dim,))):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise RequestError(f"{shown(size)} is no number of dimensions: give whole numbers from 1")
        self.truncate_dim, self.matryoshka_dims = truncate_dim, tuple(dict.fromkeys(matryoshka_dims))
        self.write_csv = write_csv
        self.subsets: dict[str, dict[str, dict[str, Any]]] = {}
        with _random_states_kept():  # mteb sets the seed of every generator whenever a task is made
            self._tasks = _tasks(collection, data, settings, languages, pool_languages)
            for task in self._tasks:
                task.load_data()
        if questions is not None:
            self._ask_only(dict.fromkeys(questions))
        self.n_questions = len(
            {question for task in self._tasks for queries in _asked(task) for question in queries.question_ids}
        )
        self.name = self._tasks[0].collection_name if name is None else name
        self.csv_file = f"HybridRetrieval_evaluation{f'_{_in_a_file_name(self.name)}' if self.name else ''}_results.csv"
        self._primary = self.primary_metric = self._checked(primary_metric or self._tasks[0].metadata.main_score)
        self.greater_is_better = higher_is_better(self._primary) is not False

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure a model.

        Args:
            model: A SentenceTransformer.
            output_path: Folder for the table; None for no table.
            epoch: For the table: the epoch, or -1 if it is not in training.
            steps: For the table: the step.

        Returns:
            The metrics, by name.

        Raises:
            ModelError: If the model returns something that cannot be ranked.
        """
        metrics: dict[str, float] = {}
        # The full size comes last: what is kept of the subsets is of it.
        for size in (*self.matryoshka_dims, None):
            found = self._measured(model, f"{epoch}-{steps}", size or self.truncate_dim)
            metrics |= found if size is None else {f"dim_{size}_{key}": value for key, value in found.items()}
        logger.info("%s: %s", self.name, ", ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
        if output_path is not None and self.write_csv:
            self._write(Path(output_path), {"epoch": epoch, "steps": steps, **metrics})
        metrics = self.prefix_name_to_metrics(metrics, self.name)
        # Their own way takes a metric that begins as the name does for one that has the name already.
        self.primary_metric = f"{self.name}_{self._primary}" if self.name else self._primary
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that there will be, as far as can be known before there are any, with the name before them."""
        return tuple(f"{self.name}_{metric}" if self.name else metric for metric in self._known())

    def _measured(self, model: SentenceTransformer, state: str, dimensions: int | None) -> dict[str, float]:
        """The metrics with so many dimensions, without the name."""
        there = model.get_embedding_dimension()
        if dimensions is not None and there is not None and dimensions > there:
            raise RequestError(f"{dimensions} dimensions are to be measured, but the model has {there}: give fewer")
        truncated = nullcontext() if dimensions is None else model.truncate_embeddings(dimensions)
        self.subsets = {}
        with _left_as_it_was(model, self.prompts), _random_states_kept(), truncated:
            wrapped = _as_mteb_has_it(model, state)
            own = wrapped.mteb_model_meta
            for task in self._tasks:
                wrapped.mteb_model_meta = own
                with_options(wrapped, task.saved_options())
                encode_kwargs: EncodeKwargs = {"batch_size": self.batch_size}
                self.subsets[task.metadata.name] = {
                    subset: dict(scores)
                    for split in task.eval_splits
                    for subset, scores in task.evaluate(wrapped, split, encode_kwargs=encode_kwargs).items()
                }
                task.tables.clear()  # one row per query, which nobody asks for here
        return self._means()

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says of this evaluator."""
        chosen: dict[str, Any] = {
            "collection": self._tasks[0].collection_name,
            "settings": list(self.settings),
            "languages": list(self.languages),
            "questions": self.n_questions,
            "query_prompt": self.prompts["query"],
            "passage_prompt": self.prompts["document"],
            "truncate_dim": self.truncate_dim,
            "matryoshka_dims": list(self.matryoshka_dims),
        }
        return {key: value for key, value in chosen.items() if value}

    def _means(self) -> dict[str, float]:
        """Means over subsets of what was measured: of each setting, of the settings together, and of bias."""
        by_setting: dict[Setting, list[Mapping[str, Any]]] = {}
        for task in self._tasks:
            for subset, scores in self.subsets[task.metadata.name].items():
                by_setting.setdefault(task.setting_of(subset), []).append(scores)
        main = self._tasks[0].metadata.main_score
        settings = [setting for setting in Setting if setting in by_setting]
        means = {
            f"{_key(setting)}_{measure}": _mean(by_setting[setting], measure)
            for setting in settings
            for measure in dict.fromkeys((main, *_BESIDES))
        }
        overall = float(np.mean([means[f"{_key(setting)}_{main}"] for setting in settings]))
        pooled = by_setting.get(Setting.MULTILINGUAL, [])
        # A measure that applies to some of the languages only has no mean that compares.
        everywhere = [key for key in (pooled[0] if pooled else ()) if all(key in scores for scores in pooled)]
        bias = [key for key in everywhere if key.startswith("bias_")]
        return {main: overall, **means, **{key: _mean(pooled, key) for key in bias}}

    def _checked(self, metric: str) -> str:
        """A metric's name, if there will be such a metric."""
        if metric not in (known := self._known()):
            raise RequestError(f"there will be no metric '{metric}': {did_you_mean(metric, known)}")
        return metric

    def _known(self) -> list[str]:
        main = self._tasks[0].metadata.main_score
        settings = {_key(task.setting_of(subset)) for task in self._tasks for subset in task.hf_subsets}
        known = [main, *(f"{setting}_{measure}" for setting in settings for measure in (main, *_BESIDES))]
        if _key(Setting.MULTILINGUAL) in settings:
            known += [measure.key for measure in MEASURES]
        return known

    def _ask_only(self, questions: Mapping[str, None]) -> None:
        """Narrow the collections of the tasks to these questions, and the tasks to the subsets that have any."""
        unknown = set(questions)
        for task in self._tasks:
            whole = task.collection
            assert whole is not None
            unknown -= {question for queries in whole.queries.values() for question in queries.question_ids}
            task.collection = _narrowed(whole, questions)
            task.hf_subsets = [subset for subset in task.hf_subsets if _has_questions(task, subset)]
        if unknown:
            raise RequestError(
                f"{self._tasks[0].collection_name} has no question '{min(unknown)}': give the ids that its questions "
                "have in every language"
            )
        self._tasks = [task for task in self._tasks if task.hf_subsets]
        if not self._tasks:
            raise RequestError(
                f"none of the {len(questions)} questions has a relevant passage in the chosen settings and languages: "
                "choose more of them"
            )

    def _write(self, folder: Path, row: Mapping[str, Any]) -> None:
        """Add a line to the table in this folder; to another one if that has other columns."""
        folder.mkdir(parents=True, exist_ok=True)
        header = list(row)
        path, number = folder / self.csv_file, 1
        while path.is_file() and _header_of(path) != header:
            number += 1
            path = folder / f"{Path(self.csv_file).stem}-{number}.csv"
        new = not path.is_file()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([header, list(row.values())] if new else [list(row.values())])


def _in_a_file_name(name: str) -> str:
    """A name as a part of a file's name: itself, or, where no file could be called so, like it and with a hash."""
    kept = re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "-", name)
    while len(kept.encode()) > _NAME_BYTES:
        kept = kept[:-1]
    return kept if kept == name else f"{kept}-{sha256_of_lines([name])[:8]}"


def _key(setting: Setting) -> str:
    return setting.value.replace("-", "_")


def _mean(scores: Sequence[Mapping[str, Any]], measure: str) -> float:
    return float(np.mean([each[measure] for each in scores]))


def _header_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


# -- the data -------------------------------------------------------------------------------------------------------


def _tasks(
    collection: str | Reader | Collection,
    data: DataOptions,
    settings: Sequence[str],
    languages: Sequence[str],
    pool_languages: Sequence[str],
) -> list[ExactRetrieval]:
    """The tasks of a collection, narrowed to settings and languages; not loaded."""
    if isinstance(collection, str):
        if data.translations is not None:
            raise RequestError(f"questions of {collection} in translation cannot be asked here: use `hybrid-bench run`")
        request = RunRequest(
            models=(),
            tasks=[collection],
            settings=settings,
            languages=languages,
            pool_languages=pool_languages,
            data_dir=data.data_dir,
            passage=data.passage.value,
            pool=data.pool.value,
        )
        tasks = [task for task in select_tasks(request) if isinstance(task, ExactRetrieval)]
        if not tasks:
            raise RequestError(f"{collection} is evaluated by mteb only: give a collection, or a retrieval task")
        several = dict.fromkeys(task.collection_name for task in tasks)
        if len(several) > 1:
            raise RequestError(
                f"{collection} is about several collections ({', '.join(several)}), whose means do not go together: "
                "make an evaluator for each"
            )
        return tasks
    source = _Held(collection) if isinstance(collection, Collection) else collection
    for code in (*languages, *pool_languages):
        if code not in source.languages:
            raise RequestError(f"{source.collection} has no language '{code}': it has {', '.join(source.languages)}")
    wanted = settings_of(settings)
    options = TaskOptions(data=data, pool_languages=tuple(pool_languages) or None)
    kinds = parallel_tasks(source) if isinstance(source, JsonlReader) else _task_classes(source, source.load(data))
    made: list[ExactRetrieval] = [kind() for kind in kinds]
    for task in made:
        task.options = options
        task.hf_subsets = [
            subset
            for subset in task.hf_subsets
            if task.setting_of(subset) in wanted and (not languages or set(subset.split("-")) <= set(languages))
        ]
    made = [task for task in made if task.hf_subsets]
    if not made:
        raise RequestError(
            f"nothing to measure: no subset of {source.collection} is in settings {', '.join(settings) or 'all'} and "
            f"languages {', '.join(languages) or 'all'}"
        )
    return made


@dataclass(frozen=True)
class _Held:
    """A collection that is at hand, as a `collection.Reader`."""

    held: Collection
    notice: str = ""

    @property
    def collection(self) -> str:
        return self.held.name

    @property
    def languages(self) -> tuple[str, ...]:
        return self.held.parts

    def load(self, options: DataOptions, languages: Some[str] | None = None) -> Collection:
        return self.held

    def sha256(self, options: DataOptions, languages: Some[str] | None = None) -> Mapping[str, str]:
        return self.held.sha256

    def saved_options(self, options: DataOptions, subsets: Some[str]) -> Mapping[str, str]:
        return {}

    def missing(self, options: DataOptions, subset: str) -> str | None:
        return None


def _task_classes(source: Reader, collection: Collection) -> list[type[ParallelRetrieval]]:
    """The two tasks of a source that has no task file, with the subsets in which a question has a relevant passage."""
    spoken = {name: queries.language for name, queries in collection.queries.items()}
    spoken |= {name: passages.language for name, passages in collection.passages.items()}
    for name, code in spoken.items():
        if name != code:
            raise DataError(f"{collection.name}: '{name}' should be named by the code of its language, '{code}'")
    tags = {name: language(name).tag for name in dict.fromkeys((*collection.parts, *spoken))}
    judged = {name: np.unique(queries.judgments.part).tolist() for name, queries in collection.queries.items()}
    pairs = {f"{query}-{collection.parts[part]}" for query, parts in judged.items() for part in parts}
    common: dict[str, Any] = {
        "dataset": {"path": collection.name, "revision": collection.revision},
        "type": "Retrieval",
        "category": "t2t",
        "modalities": ["text"],
        "eval_splits": ["test"],
        "main_score": "map",
        "dialect": [],
        "is_public": False,
        "bibtex_citation": "",
    }
    subsets = {
        "Pairs": {subset: listed for subset, listed in pair_subsets(tags).items() if subset in pairs},
        "Multilingual": {subset: listed for subset, listed in pool_subsets(tags).items() if judged.get(subset)},
    }
    found: list[type[ParallelRetrieval]] = []
    for kind, eval_langs in subsets.items():
        if eval_langs:
            described = Metadata(
                name=f"{collection.name}-{kind}",
                description=f"Retrieve the passages of {collection.name} that are relevant to a question.",
                eval_langs=eval_langs,
                **common,
            )
            found.append(type(f"Held{kind}", (_HeldRetrieval,), {"reader": source, "metadata": described}))
    return found


class _HeldRetrieval(ParallelRetrieval):
    """Retrieval over a source without a task file."""

    def subset_about(self, name: str) -> str:
        """The subset that a model is told of for this language: its own, else the first."""
        subsets = self.metadata.hf_subsets
        return next((subset for subset in (f"{name}-{name}", name) if subset in subsets), subsets[0])


def _narrowed(collection: Collection, questions: Mapping[str, None]) -> Collection:
    """The same passages, and these questions alone."""
    digest = sha256_of_lines(sorted(questions))
    return replace(
        collection,
        queries={name: _only(queries, questions) for name, queries in collection.queries.items()},
        # Whatever is known of the whole collection is not known of a part of it.
        sha256={part: sha256_of_lines([sha, digest]) for part, sha in collection.sha256.items()},
    )


def _only(queries: Queries, questions: Mapping[str, None]) -> Queries:
    kept = np.flatnonzero([question in questions for question in queries.question_ids])
    rows = kept.tolist()
    return replace(
        queries,
        ids=tuple(queries.ids[row] for row in rows),
        question_ids=tuple(queries.question_ids[row] for row in rows),
        texts=tuple(queries.texts[row] for row in rows),
        judgments=_of_queries(queries.judgments, kept),
        excluded=None if queries.excluded is None else _of_queries(queries.excluded, kept),
    )


def _of_queries(judgments: Judgments, kept: np.ndarray[Any, np.dtype[np.int64]]) -> Judgments:
    inside = np.isin(judgments.query, kept)
    return Judgments(
        query=np.searchsorted(kept, judgments.query[inside]).astype(np.int32),
        part=judgments.part[inside],
        passage=judgments.passage[inside],
        gain=judgments.gain[inside],
    )


def _has_questions(task: ExactRetrieval, subset: str) -> bool:
    """Whether a question of a subset has a relevant passage in its pool."""
    collection = task.collection
    assert collection is not None
    for split in task.eval_splits:
        query_set, parts = task.pool_of(subset, split)
        wanted = [collection.part_index(part) for part in parts]
        if np.isin(collection.queries[query_set].judgments.part, wanted).any():
            return True
    return False


def _asked(task: ExactRetrieval) -> Iterator[Queries]:
    """The query sets of a task's subsets."""
    collection = task.collection
    assert collection is not None
    for subset in task.hf_subsets:
        for split in task.eval_splits:
            yield collection.queries[task.pool_of(subset, split)[0]]


# -- the model ------------------------------------------------------------------------------------------------------


def _as_mteb_has_it(model: SentenceTransformer, state: str) -> SentenceTransformerEncoderWrapper:
    """The model as `run` gives it to a task: with mteb's wrapper, a name, and a revision of its own."""
    # As in `models.load`; and mteb warns of prompts that it leaves to sentence-transformers, and of metadata that are
    # not used here, at every evaluation.
    with warnings.catch_warnings(), disable_logging(logging.WARNING):
        warnings.simplefilter("ignore")
        wrapped = SentenceTransformerEncoderWrapper(model)
    known = {function.value: function for function in ScoringFunction}
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(
        update={
            "name": "training/model",
            "revision": state,
            "model_type": ["dense"],
            "similarity_fn_name": known.get(str(model.similarity_fn_name), ScoringFunction.COSINE),
        }
    )
    return wrapped


@contextmanager
def _left_as_it_was(model: SentenceTransformer, prompts: Mapping[str, str | None]) -> Iterator[None]:
    """While this is open, the model has these prompts besides its own; afterwards it is as it was.

    Encoding puts a model and all its modules into evaluation mode and leaves them there. A module that was frozen in
    evaluation mode must not be put into training mode either, so each gets back its own.
    """
    training = [(module, module.training) for module in model.modules()]
    own = model.prompts
    given = {name: prompt for name, prompt in prompts.items() if prompt is not None}
    if given:
        model.prompts = {**own, **given}
    try:
        yield
    finally:
        model.prompts = own
        for module, mode in training:
            module.training = mode


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Give back the states of the random generators that training draws from."""
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # Asking a GPU that nobody uses yet would take memory on it.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # has no types
    on_gpus = torch.cuda.get_rng_state_all() if in_use else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
