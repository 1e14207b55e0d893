"""Runs on disk: mteb's result files, and beside them one row per query.

A run is one model (at one revision, with one set of options) in a folder that mteb's `ResultCache` reads and writes::

    <output>/results/<org__model>/<revision>[/experiments/<options>]/
        model_meta.json  run_settings.jsonl  <Task>.json      as mteb writes them
        <Task>.queries.parquet                                 one row per query and subset
        signatures.jsonl                                       what is needed to repeat each task's numbers

The table is written first, then the signature, which holds the table's checksum, then mteb's file; each beside its
place and renamed. So a result without its own table and signature can only be one that was interrupted, or was not
made by this package, and is run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Set
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from mteb.cache import ResultCache

from hybrid_bench.data.files import atomic, scratch, settle
from hybrid_bench.data.hashing import sha256_of
from hybrid_bench.errors import DataError, reason, shown
from hybrid_bench.runs.result_files import (
    FORMAT,
    SIGNATURES,
    read_signatures,
    table_path,
)
from hybrid_bench.version import VERSION

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

__all__ = ["Recorded", "RunCache"]

#: While a task runs, mteb saves after every subset; more often than this is work for nothing.
_SECONDS_BETWEEN_SAVES = 5.0
#: What in a signature decides the numbers besides model, data and options, each with the words that say so.
_RULES = {
    "main_score": "its main score was",
    "instruction": "what the task told the model was",
    "prompts": "the prompts that the model put before its texts were",
    "similarity": "the similarity was",
    "dtype": "the scores were of",
    "passage": "its passages were",
    "debias_texts": "the hash of the texts that its debiasing was fitted on was",
}


class Recorded(Protocol):
    """A task that keeps the per-query tables of its last evaluation, for a `RunCache` to save."""

    tables: dict[tuple[str, str], pa.Table]  # by split and subset
    signature: dict[str, Any]

    def data_sha256(self) -> Mapping[str, str]:
        """Hashes of the data that an evaluation would read now, by part of the collection."""

    def rules(self, model: Any = None) -> Mapping[str, Any]:
        """What in a signature decides the numbers besides data and options, as far as it is known now."""


class RunCache(ResultCache):
    """mteb's cache of results, which also keeps the per-query tables and knows when a result is out of date.

    For tasks of this package, `mteb.evaluate(..., cache=RunCache(folder, tasks))` saves table, signature and result
    together, re-does only what is missing, and runs again what was made from other data or by other rules; then the
    earlier files are kept under ``superseded/``. Other tasks are left to mteb.

    Args:
        cache_path: The output folder; ``results/`` is made in it.
        tasks: The tasks that will be evaluated.

    Raises:
        DataError: If the folder cannot be written.
    """

    def __init__(self, cache_path: Path | str | None, tasks: Iterable[Any]) -> None:
        try:
            super().__init__(cache_path)
            with scratch(self.cache_path):  # it can be written to
                pass
        except OSError as error:
            raise DataError(
                f"cannot write to the output folder {cache_path} ({reason(error)}); choose another with --output"
            ) from error
        self._tasks: dict[str, Recorded] = {task.metadata.name: task for task in tasks if hasattr(task, "tables")}
        self._last_save: dict[Path, float] = {}

    def load_task_result(
        self, task_name: str, model_name: str | ModelMeta, *args: Any, **kwargs: Any
    ) -> TaskResult | None:
        """mteb's result of a task, or None if there is none that is complete and up to date."""
        task = self._tasks.get(task_name)
        if task is not None:
            path = self.get_task_result_path(task_name, model_name)
            if not path.is_file() or self._state(path, task) is not None:
                return None
        try:
            return super().load_task_result(task_name, model_name, *args, **kwargs)
        except ValueError:  # pydantic's and JSON's errors: the file is cut off or not a result
            return None

    def why_not(self, task_name: str, model_name: str | ModelMeta, model: Any = None) -> str | None:
        """Why a saved result of this task cannot be used; None if it can, or if there is none.

        Args:
            task_name: The task.
            model_name: The model, as mteb names its folder.
            model: The model itself, if it is loaded: then its prompts are compared too.
        """
        path = self.get_task_result_path(task_name, model_name)
        return self._state(path, self._tasks[task_name], model) if path.is_file() else None

    def set_aside(self, task_name: str, model_name: str | ModelMeta) -> None:
        """Move a result that must not be used, with its table and signature, to ``superseded/``.

        Raises:
            DataError: If it cannot be moved.
        """
        path = self.get_task_result_path(task_name, model_name)
        try:
            with FileLock(self.cache_path / ".lock"):
                self._set_aside(path)
        except OSError as error:
            raise DataError(f"cannot move {path} ({reason(error)})") from error

    def save_to_cache(
        self,
        task_result: TaskResult,
        model_name: str | ModelMeta,
        model_revision: str | None = None,
        *,
        encode_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Save table, signature and result of a task, in this order."""
        task = self._tasks.get(task_result.task_name)
        if task is None:
            super().save_to_cache(task_result, model_name, model_revision, encode_kwargs=encode_kwargs)
            return
        path = self.get_task_result_path(task_result.task_name, model_name, model_revision)
        # The last call, and only it, tells the encode arguments.
        last = self._last_save.get(path)
        if encode_kwargs is None and last is not None and time.monotonic() - last < _SECONDS_BETWEEN_SAVES:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another process may save other subsets of the same task, or another task of the same model.
            with FileLock(self.cache_path / ".lock"):
                old = self._saved(path, task)
                if old is not None and _other_rules(read_signatures(path.parent)[path.stem], task.signature):
                    # Rows of two instructions, or by two similarities, are no one result; mteb has merged the scores.
                    old, task_result = None, _only(task_result, task.tables.keys())
                if old is None:
                    self._set_aside(path)
                else:
                    task_result = _merged(old[0], task_result)
                subsets = {(split, entry["hf_subset"]) for split, each in task_result.scores.items() for entry in each}
                self._save_table(path, task, subsets, None if old is None else old[1])
                self._save_as_mteb(path, task_result, model_name, model_revision, encode_kwargs)
        except OSError as error:
            raise DataError(f"cannot save {path} ({reason(error)})") from error
        self._last_save[path] = time.monotonic()

    def _state(self, path: Path, task: Recorded, model: Any = None) -> str | None:
        """None if the result at `path` belongs to the present data and rules and has its table; else the reason."""
        name = path.stem
        signature = read_signatures(path.parent).get(name)
        if signature is None:
            return "it has no signature"
        if signature.get("format") != FORMAT:
            return "it was made by another version's rules"
        now, then = task.data_sha256(), signature["data_sha256"]
        if any(then[part] != now[part] for part in now.keys() & then.keys()):
            return "it was made from other data"
        return _other_rules(signature, task.rules(model)) or self._table_fault(path, signature)

    @staticmethod
    def _table_fault(path: Path, signature: Mapping[str, Any]) -> str | None:
        """What is wrong with the per-query table of a result; None if it is the one of the signature."""
        table = table_path(path.parent, path.stem)
        if not table.is_file():
            return "its per-query table is missing"
        if sha256_of(table) != signature.get("table_sha256"):
            return "its per-query table is damaged"
        return None

    def _saved(self, path: Path, task: Recorded) -> tuple[TaskResult, pa.Table] | None:
        """The result at `path` and its table, if they belong to the present data and rules."""
        from mteb.results import TaskResult

        if not path.is_file() or self._state(path, task) is not None:
            return None
        try:
            return TaskResult.from_disk(path), pq.read_table(table_path(path.parent, path.stem))
        except ValueError:  # pydantic's, JSON's and Arrow's errors
            return None

    def _save_table(self, path: Path, task: Recorded, subsets: Set[tuple[str, str]], old: pa.Table | None) -> None:
        """Save the rows of these subsets: those of the last evaluation, and for the rest those of the old table."""
        name = path.stem
        folder = path.parent
        table_file = table_path(folder, name)
        parts = [table for subset, table in task.tables.items() if subset in subsets]
        if old is not None:
            earlier = pa.array([" ".join(key) for key in subsets - task.tables.keys()], pa.string())
            key = pc.binary_join_element_wise(old["split"].cast(pa.string()), old["subset"].cast(pa.string()), " ")
            parts.append(old.filter(pc.is_in(key, earlier)))
        metadata = parts[0].schema.metadata
        table = pa.concat_tables(parts, promote_options="permissive").unify_dictionaries()
        table = table.replace_schema_metadata(metadata)
        # With check sums of the pages, whoever reads them sees what was changed, not only that half is missing.
        with atomic(table_file) as beside:
            pq.write_table(table, beside, compression="zstd", write_page_checksum=True)
        signature = {
            "task": name,
            "format": FORMAT,
            "versions": {
                "hybrid_bench": VERSION,
                **{package: version(package) for package in ("mteb", "torch", "numpy")},
            },
            # For parts that only the earlier rows are about, what was known then.
            "data_sha256": (read_signatures(folder)[name]["data_sha256"] if old is not None else {})
            | dict(task.data_sha256()),
            "table_sha256": sha256_of(table_file),
            "tie_rule": "score descending, then id descending as UTF-8 bytes",
            **task.signature,
        }
        signatures = read_signatures(folder) | {name: signature}
        lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in signatures.values())
        with atomic(folder / SIGNATURES) as beside:
            beside.write_text(lines, encoding="utf-8")

    @staticmethod
    def _set_aside(path: Path) -> None:
        """Move a result that will be replaced, with its table and signature, to ``superseded/``."""
        table = table_path(path.parent, path.stem)
        if not path.is_file():
            return
        digest = sha256_of(path)[:8]
        aside = path.parent / "superseded" / digest
        aside.mkdir(parents=True, exist_ok=True)
        signature = read_signatures(path.parent).get(path.stem)
        if signature is not None:
            with (aside / SIGNATURES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(signature, sort_keys=True) + "\n")
        if table.is_file():
            settle(table, aside / table.name)
        settle(path, aside / path.name)

    def _save_as_mteb(
        self,
        path: Path,
        task_result: TaskResult,
        model_name: str | ModelMeta,
        model_revision: str | None,
        encode_kwargs: Mapping[str, Any] | None,
    ) -> None:
        """Let mteb write its files into a folder beside, then rename them one by one."""
        with scratch(self.cache_path) as folder:
            beside = ResultCache(folder)
            written = beside.get_task_result_path(task_result.task_name, model_name, model_revision).parent
            written.mkdir(parents=True)
            settings = path.parent / "run_settings.jsonl"
            if settings.is_file():  # mteb merges into it
                (written / settings.name).write_bytes(settings.read_bytes())
            beside.save_to_cache(task_result, model_name, model_revision, encode_kwargs=encode_kwargs)
            # The result last: with it, the rest is there.
            for file in sorted(written.iterdir(), key=lambda file: file.name == path.name):
                settle(file, path.parent / file.name)


def _other_rules(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why a result with the signature `then` does not belong to one made by the rules `now`; None if it does."""
    for name, what in _RULES.items():
        if name in now and name in then and then[name] != now[name]:
            return f"{what} {shown(then[name])}, and is now {shown(now[name])}"
    # A signature that does not tell the task's instruction tells at least whether the model was given any.
    if "instruction" not in then and "instruction" in now and any(then.get("prompts", {}).values()):
        return "it does not tell by which instruction it was made"
    return None


def _only(result: TaskResult, subsets: Set[tuple[str, str]]) -> TaskResult:
    """The result without what is not of these splits and subsets."""
    scores = {
        split: kept
        for split, entries in result.scores.items()
        if (kept := [entry for entry in entries if (split, entry["hf_subset"]) in subsets])
    }
    return result.model_copy(update={"scores": scores})


def _merged(old: TaskResult, new: TaskResult) -> TaskResult:
    """The new result, with the old one's subsets that it does not have: what was saved is not lost."""
    scores = dict(new.scores)
    for split, entries in old.scores.items():
        present = {entry["hf_subset"] for entry in scores.get(split, [])}
        scores[split] = [*scores.get(split, []), *(e for e in entries if e["hf_subset"] not in present)]
    return new.model_copy(update={"scores": scores})
