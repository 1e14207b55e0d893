"""What other programs read: collections as folders in BEIR's format, and rankings and judgments as TREC files.

beir, Anserini, trec_eval, ir_measures and ranx can so be run on the same data, and check the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from hybrid_bench.data.beir import Qrels, file_name, shared_ids, write_beir
from hybrid_bench.data.files import atomic
from hybrid_bench.errors import DataError, ModelError, RequestError, reason

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.types import EncodeKwargs

__all__ = ["Results", "Top", "export_beir", "export_trec", "ranked_by", "write_qrels", "write_trec_run"]

#: Score by document id by query id.
Results = Mapping[str, Mapping[str, float]]
#: The first documents of every query: called with a task whose data are loaded, subset, split, and how many are wanted.
Top = Callable[["AbsTaskRetrieval", str, str, int], Results]

#: What separates the columns of a TREC file, and what the escapes of these begin with.
_NOT_IN_TREC = re.compile(r"[\s%]")


def export_beir(
    tasks: Iterable[AbsTaskRetrieval],
    out: Path,
    tell: Callable[[str], None] = lambda message: None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write every subset of these tasks as a folder in BEIR's format.

    A subset's folder is ``<out>/<task>/<subset>``, or ``<out>/<task>`` for a task without subsets. Its splits share it,
    unless they differ in their documents, or in what one query id asks: then each has a folder in it.

    Args:
        tasks: mteb retrieval tasks, narrowed to the subsets and splits that are wanted.
        out: Where the folders are made.
        tell: Called with a line about each task, and what its users have to know.
        overwrite: Whether folders that hold something else may be overwritten.

    Returns:
        The folders, in the order of the tasks and their subsets.

    Raises:
        DataError: If a task cannot be written in BEIR's format so that beir gives its numbers: it has more than texts,
            candidate lists or instructions, ids with a tab or a line break, or a document with the id of a query,
            which beir would leave out.
        RequestError: If a folder holds something else and may not be overwritten.
    """
    folders: list[Path] = []
    for task in tasks:
        name = task.metadata.name
        written: list[Path] = []
        with _loaded(task, tell):
            for subset in task.hf_subsets:
                splits = {split: task.dataset[subset][split] for split in task.eval_splits}
                judged = {}
                for split, data in splits.items():
                    place = " ".join([*_subset(task, subset), split])
                    _check_for_beir(task, data, f"{name} ({place})")
                    judged[split] = _judged(data, f"{name} ({place})", tell)
                folder = out.joinpath(file_name(name), *map(file_name, _subset(task, subset)))
                written_in = _languages(task, subset)
                common = _common_queries(splits.values())
                if common is not None:
                    corpus = next(iter(splits.values()))["corpus"]
                    write_beir(folder, corpus, common, judged, languages=written_in, overwrite=overwrite)
                    written.append(folder)
                else:
                    for split, data in splits.items():
                        of_split = {split: judged[split]}
                        inner = folder / file_name(split)
                        write_beir(
                            inner,
                            data["corpus"],
                            data["queries"],
                            of_split,
                            languages=written_in,
                            overwrite=overwrite,
                        )
                        written.append(inner)
        tell(f"{name}: {len(written)} {'folder' if len(written) == 1 else 'folders'} in {out / file_name(name)}")
        folders += written
    return folders


def export_trec(
    top: Top,
    tasks: Iterable[AbsTaskRetrieval],
    out: Path,
    tell: Callable[[str], None] = lambda message: None,
    *,
    k: int,
    run: str,
    overwrite: bool = False,
) -> list[Path]:
    """Write rankings and judgments of every subset of these tasks as TREC files.

    The files are ``<out>/<task>.<subset>.<run>.run`` and ``<out>/<task>.<subset>.qrels``; a task without subsets has
    none in the name, and one that is evaluated on several splits has the split behind the subset.

    Args:
        top: Asked for the first documents of every query, e.g. `ranked_by` a model.
        tasks: mteb retrieval tasks, narrowed to the subsets and splits that are wanted.
        out: The folder of the files; it is made.
        tell: Called with a line about each task, and what its users have to know.
        k: How many documents of each query are wanted.
        run: Name of the run, e.g. the model's; it stands in the last column of its lines too.
        overwrite: Whether files that hold something else may be overwritten.

    Returns:
        The files, a run followed by its judgments.

    Raises:
        ModelError: If a score is NaN or infinite.
        RequestError: If `k` is not positive, or a file holds something else and may not be overwritten.
    """
    if k < 1:
        raise RequestError(f"{k} documents of each query cannot be written: give at least 1")
    files: list[Path] = []
    escaped = ""
    for task in tasks:
        name = task.metadata.name
        with _loaded(task, tell):
            for subset in task.hf_subsets:
                for split in task.eval_splits:
                    place = [*_subset(task, subset), *([split] if len(task.eval_splits) > 1 else [])]
                    judged = _judged(task.dataset[subset][split], " ".join([name, *place]), tell)
                    results = {query: found for query, found in top(task, subset, split, k).items() if query in judged}
                    if task.ignore_identical_ids:
                        results = {
                            query: {document: score for document, score in found.items() if document != query}
                            for query, found in results.items()
                        }
                    stem = ".".join(file_name(part) for part in (name, *place))
                    run_file, qrels_file = out / f"{stem}.{file_name(run)}.run", out / f"{stem}.qrels"
                    write_trec_run(run_file, results, run, overwrite=overwrite)
                    write_qrels(qrels_file, judged, overwrite=overwrite)
                    files += [run_file, qrels_file]
                    escaped = escaped or _first_escaped(results) or _first_escaped(judged)
        tell(f"{name}: rankings and judgments in {out}")
    if escaped:
        tell(
            "TREC files cannot hold white space in ids: it and '%' are percent-encoded, as in "
            f"'{_trec_id(escaped)}' for '{escaped}'"
        )
    return files


def ranked_by(model: Any, encode_kwargs: EncodeKwargs) -> Top:
    """The first documents by a model's scores, exactly as they are ranked when it is evaluated.

    Args:
        model: A dense encoder, or hybrid_bench/bm25.
        encode_kwargs: As for `mteb.evaluate`.

    Returns:
        What `export_trec` asks. It raises `RequestError` for a task that our engine does not score (see
        `foreign.exact`), or if it does not score the model.
    """

    def top(task: AbsTaskRetrieval, subset: str, split: str, k: int) -> Results:
        from hybrid_bench.evaluation.tasks import ExactRetrieval

        if not isinstance(task, ExactRetrieval):
            raise RequestError(
                f"{task.metadata.name} is not ranked by our engine: its first documents are not known here"
            )
        return task.top_passages(model, split, subset, k, encode_kwargs)

    return top


def write_trec_run(path: Path, results: Results, tag: str, *, overwrite: bool = False) -> None:
    """Write a TREC run: ``query Q0 document rank score tag``, best first.

    The order is trec_eval's: score as float32, then document id, both descending. Scores have nine significant digits,
    which tell any two float32 numbers apart. White space and ``%`` in ids are percent-encoded; where that changes the
    order of two ids whose scores are equal, trec_eval's order is of the ids as they stand in the file.

    Args:
        path: The file; the folders above it are made.
        results: What was found; a query may have any number of documents.
        tag: Name of the run, in the last column.
        overwrite: Whether a file that holds something else may be overwritten.

    Raises:
        DataError: If an id is empty, or the file cannot be written.
        ModelError: If a score is NaN or infinite.
        RequestError: If the file holds something else and may not be overwritten.
    """
    _write(path, _run_lines(results, _trec_id(tag)), overwrite)


def write_qrels(path: Path, qrels: Qrels, *, overwrite: bool = False) -> None:
    """Write judgments as trec_eval reads them: ``query 0 document grade``; ids as in `write_trec_run`.

    Args:
        path: The file; the folders above it are made.
        qrels: Grade by document id by query id.
        overwrite: Whether a file that holds something else may be overwritten.

    Raises:
        DataError: If an id is empty, or the file cannot be written.
        RequestError: If the file holds something else and may not be overwritten.
    """
    lines = (
        f"{_trec_id(query)} 0 {_trec_id(document)} {int(grade)}\n"
        for query, documents in qrels.items()
        for document, grade in documents.items()
    )
    _write(path, lines, overwrite)


def _run_lines(results: Results, tag: str) -> Iterator[str]:
    for query, found in results.items():
        query_id = _trec_id(query)
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused below
            scores = np.fromiter(found.values(), dtype=np.float32, count=len(found))
        if not np.isfinite(scores).all():
            wrong = scores[~np.isfinite(scores)][0]
            raise ModelError(f"a score of query '{query}' is {wrong}: scores must be finite numbers")
        ranked = sorted(zip(scores.tolist(), map(_trec_id, found), strict=True), reverse=True)
        for rank, (score, document) in enumerate(ranked, 1):
            yield f"{query_id} Q0 {document} {rank} {score:.9g} {tag}\n"


def _trec_id(text_id: str) -> str:
    if not text_id:
        raise DataError("an id is empty: TREC files cannot hold it")
    return _NOT_IN_TREC.sub(lambda found: quote(found[0], safe=""), text_id)


def _first_escaped(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The first id that cannot stand in a TREC file as it is; empty if all can."""
    ids = (text_id for query, documents in table.items() for text_id in (query, *documents))
    return next((text_id for text_id in ids if _NOT_IN_TREC.search(text_id)), "")


def _write(path: Path, lines: Iterable[str], overwrite: bool) -> None:
    """Write a file beside its place and rename it; one that holds the same is left as it is."""
    try:
        with atomic(path) as beside:
            with beside.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
            if path.is_file() and not overwrite and not _same(beside, path):
                raise RequestError(
                    f"{path} holds something else already: choose another folder, or replace it (--overwrite)"
                )
    except OSError as error:
        raise DataError(f"cannot write {path} ({reason(error)}): choose another folder") from error


def _same(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        while block := one.read(1 << 20):
            if block != other.read(1 << 20):
                return False
    return True


@contextmanager
def _loaded(task: AbsTaskRetrieval, tell: Callable[[str], None]) -> Iterator[None]:
    """A task with its data, which go again if they were not there before."""
    if notice := getattr(task, "notice", ""):
        tell(notice)
    before = task.data_loaded
    task.load_data()
    try:
        # mteb's older tasks are laid out anew when they are evaluated, not when they are loaded.
        task.convert_v1_dataset_format_to_v2(num_proc=None)
        yield
    finally:
        if not before:
            task.unload_data()


def _subset(task: AbsTaskRetrieval, subset: str) -> list[str]:
    """The subset's name, where there is more than the one that mteb gives a task without subsets."""
    return [] if task.metadata.hf_subsets == ["default"] else [subset]


def _languages(task: AbsTaskRetrieval, subset: str) -> tuple[str | None, str | None]:
    """The languages of a subset's queries and of its corpus; None where it is not known, or not one."""
    from hybrid_bench.engine.lexical import subset_languages
    from hybrid_bench.evaluation.tasks import ParallelRetrieval

    if isinstance(task, ParallelRetrieval):
        query, parts = task.pool_of(subset, task.eval_splits[0])
        collection = task.read_collection()
        codes: tuple[str, str] = (
            collection.queries[query].language,
            collection.passages[parts[0]].language if len(parts) == 1 else "und",
        )
    else:
        codes = subset_languages(task.metadata, subset)
    query_language, language = (None if code == "und" else code for code in codes)
    return query_language, language


def _judged(data: Any, place: str, tell: Callable[[str], None]) -> dict[str, dict[str, int]]:
    """The judgments of the queries that are asked; mteb's tasks may hold others, which count for nothing."""
    asked = set(data["queries"]["id"])
    relevant = data["relevant_docs"]
    judged = {query: dict(documents) for query, documents in relevant.items() if query in asked and documents}
    if not judged:
        raise DataError(f"{place} has no judged query")
    if left_out := sum(query not in asked for query in relevant):
        tell(f"{place}: judgments of {left_out:,} queries that are not asked are left out")
    return judged


def _check_for_beir(task: AbsTaskRetrieval, data: Any, place: str) -> None:
    """Refuse what BEIR's format cannot hold, or what beir would evaluate otherwise."""
    if data["top_ranked"] is not None:
        raise DataError(f"{place} ranks a list of candidates for every query: BEIR's format has no such lists")
    if "instruction" in data["queries"].column_names:
        raise DataError(f"{place} has an instruction with every query: BEIR's format has no place for it")
    if task.skip_first_result:
        raise DataError(f"{place} does not count the first result of a query: beir does")
    for what in ("corpus", "queries"):
        feature = data[what].features.get("text")
        if getattr(feature, "dtype", None) not in {"string", "large_string"}:
            raise DataError(
                f"{place} has no plain text in its {what} (columns {', '.join(data[what].column_names)}): BEIR's "
                "format holds texts"
            )
    if not task.ignore_identical_ids and (shared := shared_ids(data["corpus"], data["queries"]["id"])):
        raise DataError(
            f"{place} has {len(shared):,} ids that a query and a document share, e.g. '{shared[0]}': beir would leave "
            "out such a document, which the task counts"
        )


def _common_queries(splits: Iterable[Any]) -> Dataset | None:
    """The queries of all splits, if these can share a folder."""
    from datasets import Dataset

    first, *others = splits
    queries: dict[str, str] = {}
    for split in (first, *others):
        if not _same_rows(first["corpus"], split["corpus"]):
            return None
        for query, text in zip(split["queries"]["id"], split["queries"]["text"], strict=True):
            if queries.setdefault(query, text) != text:
                return None
    return Dataset.from_dict({"id": list(queries), "text": list(queries.values())})


def _same_rows(one: Any, other: Any) -> bool:
    """Whether two corpora hold the same, in the same order; read in batches."""
    if one is other:
        return True
    columns = sorted({"id", "text", "title"} & set(one.column_names))
    if len(one) != len(other) or columns != sorted({"id", "text", "title"} & set(other.column_names)):
        return False
    batches = (rows.select_columns(columns).with_format("arrow").iter(10_000) for rows in (one, other))
    return all(a.equals(b) for a, b in zip(*batches, strict=True))
