"""Tasks on a user's own parallel data: `parallel_tasks` makes the two that every collection of this package has.

The data are described in `parallel`. On the command line their place is enough, ``--tasks jsonl:my-data``. For tasks
with a description and a prompt of their own, this is a whole task file::

    '''MyData: questions about our products, and the paragraphs of the manuals that answer them.'''

    from hybrid_bench.evaluation.custom import parallel_tasks
    from hybrid_bench.data.jsonl import JsonlReader

    MyDataPairs, MyDataMultilingual = parallel_tasks(
        JsonlReader.parse("jsonl:my-data", collection="MyData"),
        description="Retrieve the paragraphs of our manuals that answer a customer's question.",
        prompt={"query": "Given a question about a product, retrieve the paragraphs that answer it"},
    )

Its classes are tasks like any other: ``mteb.evaluate(model, [MyDataPairs(), MyDataMultilingual()])``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from mteb.abstasks.task_metadata import TaskMetadata
from pydantic import ValidationError

from hybrid_bench.data.collection import DataOptions
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.errors import HybridBenchError, RequestError
from hybrid_bench.evaluation.tasks import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.languages import did_you_mean, languages
from hybrid_bench.measures.metrics import RelevantRanks, measures

__all__ = ["parallel_tasks"]

#: What `parallel_tasks` says of a task itself.
_FIXED = {"name", "dataset", "type", "category", "modalities", "eval_splits", "eval_langs"}
#: What else mteb wants to know of a task, unless the user knows better.
_DEFAULTS: dict[str, Any] = {
    "dialect": [],
    # mteb's default selections should not try to fetch what only this machine may have.
    "is_public": False,
}


class _OwnRetrieval(ParallelRetrieval):
    """Retrieval over a user's own data, where some languages may have questions only."""

    reader: ClassVar[JsonlReader]

    def parts_of(self, subset: str) -> tuple[str, ...]:
        """Parts of a subset's pool, without the languages that have no passages."""
        with_passages = self.reader.passage_languages
        parts = tuple(code for code in super().parts_of(subset) if code in with_passages)
        if not parts:
            raise RequestError(
                f"{self.metadata.name}: the pool of subset {subset} is empty; there are passages in "
                f"{', '.join(with_passages)}"
            )
        return parts

    def subset_about(self, name: str) -> str:
        """The subset that a model is told of for this language: its own, else one with it, else the first."""
        subsets = self.metadata.hf_subsets
        alone = [subset for subset in (f"{name}-{name}", name) if subset in subsets]
        return next(iter([*alone, *(subset for subset in subsets if name in subset.split("-")), *subsets]))


def parallel_tasks(
    reader: JsonlReader,
    *,
    description: str = "",
    reference: str | None = None,
    license: str | None = None,
    bibtex_citation: str = "",
    prompt: str | Mapping[str, str] | None = None,
    main_score: str = "map",
    **metadata: Any,
) -> tuple[type[ParallelRetrieval], type[ParallelRetrieval]]:
    """The classes of the two tasks on a user's own data, ``<collection>-Pairs`` and ``<collection>-Multilingual``.

    The first has a subset ``<query>-<corpus>`` for every pair of a language with questions and one with passages,
    except those of which the data say that no question has a relevant passage; the second has a subset ``<query>`` for
    every language with questions, against the passages of all languages. Where all passages are in one language, these
    pools are the same as those of the first task and give the same numbers; the collection's notes say so.

    The data are read here, unless the reader was given its languages.

    Args:
        reader: Where the data come from.
        description: What is to be retrieved; a sentence on the task's pools is added.
        reference: Address of a page about the data.
        license: The data's licence as mteb names it, e.g. ``cc-by-4.0``, or an address.
        bibtex_citation: BibTeX entries.
        prompt: What instruction-following models are told, as in mteb: for queries, or for ``query`` and ``document``.
        main_score: A measure of `metrics.measures`, e.g. ``map`` or ``ndcg_at_10``.
        **metadata: Further fields of mteb's `TaskMetadata`, e.g. ``domains=["Medical"]``.

    Returns:
        The classes of both tasks.

    Raises:
        RequestError: If mteb has another task of such a name, or metadata are not what mteb takes.
        DataError: If the data are read, and are not what `parallel` describes.
    """
    declared = bool(reader.declared)
    if not declared:
        # What the tasks' subsets are made of is fixed with them, whatever becomes of the files.
        reader = replace(reader, declared=reader.passage_languages, declared_queries=reader.query_languages)
    _check(reader, main_score, metadata)
    try:
        revision = reader.revision
    except HybridBenchError:
        if not declared:
            raise
        revision = "unavailable"  # the task can be described; loading it will say what is missing
    tags = {language.code: language.tag for language in languages(reader.languages)}
    subsets = {f"{query}-{corpus}" for query in reader.query_languages for corpus in reader.passage_languages}
    if not declared:
        subsets = {subset for subset in subsets if reader.missing(DataOptions(), subset) is None}
    common = {
        **_DEFAULTS,
        "dataset": {"path": reader.place, "revision": revision},
        "type": "Retrieval",
        "category": "t2t",
        "modalities": ["text"],
        "eval_splits": ["test"],
        "main_score": main_score,
        "reference": reference,
        "license": license,
        "bibtex_citation": bibtex_citation,
        "prompt": dict(prompt) if isinstance(prompt, Mapping) else prompt,
        **metadata,
    }
    text = description.strip() or f"Retrieve the passages of {reader.collection} that are relevant to a question."
    spoken = ", ".join(reader.passage_languages)
    return (
        _task(
            reader,
            "Pairs",
            f"{text} Questions of one language against the passages of one language ({spoken}).",
            {subset: tag for subset, tag in pair_subsets(tags).items() if subset in subsets},
            common,
        ),
        _task(
            reader,
            "Multilingual",
            f"{text} Questions of one language against the passages of all languages ({spoken}) at once.",
            pool_subsets({code: tags[code] for code in reader.query_languages}),
            common,
        ),
    )


def _check(reader: JsonlReader, main_score: str, metadata: Mapping[str, Any]) -> None:
    """Refuse here what mteb would refuse later, or not at all."""
    known = _measures()
    if main_score not in known:
        raise RequestError(f"unknown main score '{main_score}': {did_you_mean(main_score, known)}")
    allowed = set(TaskMetadata.model_fields) - _FIXED
    for field in metadata:
        if field not in allowed:
            raise RequestError(f"a task's metadata have no field '{field}' to give: {did_you_mean(field, allowed)}")
    # By its full name: `mteb.get_tasks` as an attribute is the function, not the module.
    registry = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
    by_name = {name.casefold(): task for name, task in registry.items()}
    for kind in ("Pairs", "Multilingual"):
        other = by_name.get(f"{reader.collection}-{kind}".casefold())
        if other is not None and getattr(other, "reader", None) != reader:
            raise RequestError(
                f"there is a task '{other.metadata.name}' already ({other.__module__}): give these data another name, "
                f"as in NAME={reader.kind}:{reader.place}"
            )


def _measures() -> list[str]:
    """The names of all measures, as they come out for one query."""
    one = np.ones(1, dtype=np.int32)
    return list(measures(RelevantRanks(1, one * 0, one, one, one.astype(np.int16))))


def _task(
    reader_: JsonlReader, kind: str, description: str, subsets: dict[str, list[str]], common: Mapping[str, Any]
) -> type[ParallelRetrieval]:
    name = f"{reader_.collection}-{kind}"
    try:
        described = TaskMetadata(name=name, description=description, eval_langs=subsets, **common)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{name}: mteb does not take {field}={first['input']!r}: {first['msg']}") from error

    class Task(_OwnRetrieval):
        reader = reader_
        metadata = described

    Task.__doc__ = description
    Task.__name__ = Task.__qualname__ = re.sub(r"\W", "", f"{reader_.collection}{kind}")
    return Task
