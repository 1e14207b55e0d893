"""What `run --debias` is fitted on: parallel texts of another collection, and the guard that it is another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.data.aligned import aligned_lines, ntrex_files
from hybrid_bench.data.collection import Collection, DataOptions, take
from hybrid_bench.data.files import data_folder
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.data.normal_form import normal_form
from hybrid_bench.engine.debias import PIVOT, Debias, Method
from hybrid_bench.errors import RequestError, listed
from hybrid_bench.evaluation.registry import collections
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.languages import did_you_mean

__all__ = ["DEBIAS_ON", "debiasing", "method_of"]

#: What is fitted on where nothing else is asked for: it ships with the package.
DEBIAS_ON = "HybridDemo"
#: At most so many texts of each language are fitted on, evenly spaced: more change a mean little, and take long.
ROWS = 400
#: In a part with more passages the relevant ones alone are compared with what is fitted on.
_WHOLE = 200_000

#: By role and language: texts of which row n is the same in every language.
_Texts = tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]


def method_of(name: str) -> Method | None:
    """The method of a name; None for ``none``.

    Raises:
        RequestError: If there is no such method.
    """
    if name == "none":
        return None
    if name not in list(Method):
        raise RequestError(f"unknown --debias '{name}': {did_you_mean(name, ['none', *Method])}")
    return Method(name)


def debiasing(task: ParallelRetrieval, method: Method, source: str, data_dir: Path | None) -> Debias:
    """A method with the texts to fit it on, if it is fitted, for the evaluation of a task.

    It is fitted on the languages that the task's collection and the source have in common, whichever of them are asked
    for, so that results of different subsets belong together.

    Args:
        task: The task, with its options and chosen subsets; its data are read.
        method: The method.
        source: ``ntrex``, or a collection with the same questions in several languages.
        data_dir: The user's data folder.

    Raises:
        RequestError: If the source is not known, lacks a language, or has a text of what is evaluated.
        DataError: If it cannot be read.
    """
    if not method.fits:
        return Debias(method)
    if source == task.collection_name:
        raise RequestError(
            f"--debias {method} would be fitted on {source}, which is evaluated: give another collection with "
            "--debias-on"
        )
    collection = task.read_collection()
    pools = [task.pool_of(subset) for subset in task.hf_subsets]
    needed = [collection.queries[query_set].language for query_set, _ in pools]
    needed += [collection.passages[part].language for _, parts in pools for part in parts]
    needed += [PIVOT] if method is Method.SHIFT else []
    languages = list(dict.fromkeys([*task.reader.languages, *needed]))
    texts = _ntrex(languages, data_dir) if source == "ntrex" else _of_collection(source, languages, data_dir)
    if lacking := sorted(set(needed) - texts[1].keys()):
        raise RequestError(
            f"{source} has no {listed(lacking, most=len(lacking))}, so that --debias {method} cannot be fitted on it: "
            "leave them out with --languages and --pool-languages, or give another collection with --debias-on"
        )
    debias = Debias(method, source, *texts)
    _guard(debias, collection)
    return debias


def _ntrex(languages: Sequence[str], data_dir: Path | None) -> _Texts:
    """Lines of NTREX-128 that no language lacks, as queries and as passages."""
    given = data_folder(data_dir)
    folder = None if given is None else given[0] / "ntrex-128"
    files = {} if folder is None else ntrex_files(folder)
    if not files:
        where = "" if folder is None else f", and {folder} has none"
        raise RequestError(
            f"--debias-on ntrex needs NTREX-128's files newstest2019-ref.<code>.txt in the folder ntrex-128{where}: "
            "name the folder above it with --data-dir"
        )
    chosen = {code: files[code] for code in languages if code in files}
    if not chosen:
        return {}, {}
    lines = dict(aligned_lines("NTREX-128", chosen.values()))
    rows = [row for row in zip(*(lines[path] for path in chosen.values()), strict=True) if all(row)]
    rows = [rows[place] for place in _spread(len(rows))]
    texts = {code: [row[n] or "" for row in rows] for n, code in enumerate(chosen)}
    return texts, texts


def _of_collection(name: str, languages: Sequence[str], data_dir: Path | None) -> _Texts:
    """The questions of a collection that are in all these languages that it has, and the sentences that answer them."""
    readers = {group: tasks[0].reader for group, tasks in collections().items()}
    known = {group: reader for group, reader in readers.items() if isinstance(reader, LareqaReader)}
    if name not in known:
        raise RequestError(f"unknown --debias-on '{name}': {did_you_mean(name, ['ntrex', *known])}")
    collection = known[name].load(DataOptions(data_dir=data_dir))
    chosen = [code for code in languages if code in collection.parts]
    if not chosen:
        return {}, {}
    place = {
        code: {question: row for row, question in enumerate(collection.queries[code].question_ids)} for code in chosen
    }
    common = [question for question in place[chosen[0]] if all(question in place[code] for code in chosen)]
    common = [common[row] for row in _spread(len(common))]
    if not common:
        raise RequestError(f"--debias-on {name}: no question of it is in all of {', '.join(chosen)}")
    queries, passages = {}, {}
    for code in chosen:
        asked, rows = collection.queries[code], [place[code][question] for question in common]
        queries[code] = [asked.texts[row] for row in rows]
        own = asked.judgments.part == collection.part_index(code)
        answer = dict(zip(asked.judgments.query[own].tolist(), asked.judgments.passage[own].tolist(), strict=True))
        passages[code] = [collection.passages[code].texts[answer[row]] for row in rows]
    return queries, passages


def _spread(n: int) -> list[int]:
    """At most `ROWS` of n places, evenly spaced."""
    return [int(place) for place in np.linspace(0, n - 1, min(n, ROWS))]


def _guard(debias: Debias, collection: Collection) -> None:
    """Refuse texts that are evaluated: by their normal forms, as the overlap guard of trainings compares them."""
    fitted = {
        normal_form(text) for role in (debias.queries, debias.passages) for each in role.values() for text in each
    }
    for text in _evaluated(collection):
        if text and (form := normal_form(text)) and form in fitted:
            raise RequestError(
                f"--debias {debias.method} would be fitted on a text of {collection.name}, which is evaluated: "
                f"{text.strip()[:60]!r} is in {debias.source} too; give another collection with --debias-on"
            )


def _evaluated(collection: Collection) -> Iterator[str]:
    """The queries and passages of a collection."""
    judged: dict[str, list[NDArray[np.int64]]] = {part: [] for part in collection.parts}
    for queries in collection.queries.values():
        yield from queries.texts
        for number, part in enumerate(collection.parts):
            of_part = (queries.judgments.part == number) & (queries.judgments.passage >= 0)
            judged[part].append(queries.judgments.passage[of_part].astype(np.int64))
    for part, passages in collection.passages.items():
        whole = len(passages) <= _WHOLE or not judged[part]
        yield from passages.texts if whole else take(passages.texts, np.unique(np.concatenate(judged[part])))
