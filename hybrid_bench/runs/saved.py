"""Saved runs: where they lie, whose they are, and their per-query tables, read column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException

from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.runs.layout import FORMAT, metadata_of, read_signatures

__all__ = ["Run", "TaskTable", "find_runs", "joined", "names_of"]


@dataclass(frozen=True)
class TaskTable:
    """The per-query table of one task (see `store.query_table`).

    Attributes:
        path: Its file.
        metadata: What is kept with it.
        signature: The task's signature.
        subsets: Only these subsets; None for all.
    """

    path: Path
    metadata: Mapping[str, Any]
    signature: Mapping[str, Any]
    subsets: frozenset[str] | None = None
    _read: dict[str, pd.Series[Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def collection(self) -> str:
        """Name of the collection."""
        return str(self.metadata["collection"])

    @property
    def parallel(self) -> bool:
        """Whether it is about a parallel collection, which is measured by average precision."""
        return str(self.metadata.get("main_score", "map")) == "map"

    def frame(self, *columns: str) -> pd.DataFrame:
        """These columns, one row per query and subset, with those that tell the rows apart.

        Raises:
            DataError: If the file cannot be read.
        """
        wanted = ["split", "subset", "setting", "pool_size", *columns]
        missing = [column for column in wanted if column not in self._read]
        if missing:
            try:
                table = pq.read_table(self.path, columns=missing, page_checksum_verification=True)
            except (ArrowException, OSError) as error:
                raise DataError(f"{self.path} is damaged ({error}): run the task again") from error
            self._read.update({column: table[column].to_pandas() for column in missing})
        frame = pd.DataFrame({column: self._read[column] for column in dict.fromkeys(wanted)})
        return frame if self.subsets is None else frame[frame["subset"].isin(list(self.subsets))]

    @cached_property
    def covered(self) -> Mapping[str, frozenset[tuple[str, int]]]:
        """The subsets of each setting, each with its pool's size: only means over the same ones can be compared."""
        pools = self.frame()[["setting", "split", "subset", "pool_size"]].drop_duplicates()
        names = pools["split"].astype(str) + "/" + pools["subset"].astype(str)
        return {
            str(setting): frozenset(zip(names[group.index], group["pool_size"].astype(int), strict=True))
            for setting, group in pools.groupby("setting", observed=True)
        }


@dataclass(frozen=True)
class Run:
    """One model's results, at one revision and with one set of options.

    Attributes:
        folder: Where they lie.
        model: The model's name.
        options: What was chosen besides, empty for the defaults.
        tasks: The per-query tables by task.
        cache: What was computed from the tables, for `scores`.
    """

    folder: Path
    model: str
    options: Mapping[str, str]
    tasks: Mapping[str, TaskTable]
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def only(self, subsets: Mapping[str, Collection[str]]) -> Run:
        """The same run with these subsets of these tasks alone."""
        narrowed = {
            name: replace(table, subsets=frozenset(subsets[name]))
            for name, table in self.tasks.items()
            if name in subsets
        }
        return replace(self, tasks={name: table for name, table in narrowed.items() if table.covered}, cache={})

    @property
    def revision(self) -> str:
        """The model's revision, as the folder has it."""
        return self.folder.parents[1].name if self.folder.parent.name == "experiments" else self.folder.name

    @property
    def training(self) -> Mapping[str, Any] | None:
        """How the model was trained, as its folder said when it was run (see `trained`); None if it did not say."""
        for table in self.tasks.values():
            if table.metadata.get("training"):
                found: Mapping[str, Any] = table.metadata["training"]
                return found
        return None

    @property
    def trained_languages(self) -> tuple[str, ...] | None:
        """Languages that the model was trained on; None if its folder did not say."""
        return None if self.training is None else tuple(self.training["languages"])

    @property
    def label(self) -> str:
        """Name for a table: the model, and its options where there are some."""
        if not self.options:
            return self.model
        return f"{self.model} ({', '.join(f'{name}={value}' for name, value in self.options.items())})"


def joined(runs: Sequence[Run]) -> Run:
    """Runs of one model on different tasks, some of them with options, as one run, which is called as the first.

    Raises:
        RequestError: If they are of different models, or two have the same task.
    """
    tasks: dict[str, TaskTable] = {}
    for run in runs:
        if run.model != runs[0].model or run.revision != runs[0].revision or tasks.keys() & run.tasks.keys():
            raise RequestError(f"{run.folder} and {runs[0].folder} are no parts of one run: give them one by one")
        tasks |= run.tasks
    return replace(runs[0], tasks=tasks, cache={})


def names_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run, no two the same.

    Those that would have the same are told apart by their revisions, then by their folders; and one that is there
    twice, narrowed to different subsets perhaps, by number.
    """
    alike = Counter(run.label for run in runs)
    names = [run.label if alike[run.label] == 1 else f"{run.label} @{run.revision[:7]}" for run in runs]
    still = Counter(names)
    names = [name if still[name] == 1 else f"{name} in {run.folder}" for name, run in zip(names, runs, strict=True)]
    before = [names[:place].count(name) for place, name in enumerate(names)]
    return [name if number == 0 else f"{name} ({number + 1})" for name, number in zip(names, before, strict=True)]


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs at these paths, in order; within a path, sorted by folder.

    Args:
        paths: Output folders of `run`, their ``results`` folders, or folders of single runs.

    Raises:
        RequestError: If a path holds no run.
        DataError: If a per-query table cannot be read, or is of another version.
    """
    runs: dict[Path, Run] = {}
    for path in paths:
        if not path.is_dir():
            raise RequestError(f"there is no folder {path}: give the --output of `hybrid-bench run`")
        found = [_read(folder) for folder in sorted({file.parent for file in _tables(path)})]
        finished = [run for run in found if run.tasks]
        if not finished and not found and _without_tables(path):
            raise RequestError(
                f"{path} has results, but no scores by query (*.queries.parquet), from which everything here is made: "
                "run the model again with `hybrid-bench run`, or keep the tables beside the results"
            )
        if not finished:
            raise RequestError(
                f"no run in {path}: `hybrid-bench run --output DIR` makes one"
                + (", and ends those that were interrupted there" if found else "")
            )
        for run in finished:
            runs.setdefault(run.folder.resolve(), run)
    return list(runs.values())


def _tables(path: Path) -> Iterator[Path]:
    single = list(path.glob("*.queries.parquet"))
    if single:  # what lies further down in a run's folder, superseded or with other options, is another run
        yield from single
        return
    for pattern in ("*/*/", "*/*/experiments/*/", "results/*/*/", "results/*/*/experiments/*/"):
        yield from (file for file in path.glob(f"{pattern}*.queries.parquet") if "superseded" not in file.parts[-3:])


def _without_tables(path: Path) -> bool:
    """Whether there are results as mteb writes them, which are not ours or have lost their tables."""
    # What lies further down in a run's own folder, superseded, is not asked for.
    folders = ("",) if (path / "model_meta.json").is_file() else ("*/*/", "results/*/*/")
    files = (file for folder in folders for file in path.glob(f"{folder}*.json"))
    return any(file.name != "model_meta.json" and (file.parent / "model_meta.json").is_file() for file in files)


def _read(folder: Path) -> Run:
    signatures = read_signatures(folder)
    tasks: dict[str, TaskTable] = {}
    model, options = folder.parent.name, {}
    for file in sorted(folder.glob("*.queries.parquet")):
        name = file.name.removesuffix(".queries.parquet")
        if name not in signatures or not (folder / f"{name}.json").is_file():
            continue  # interrupted before its result was written
        if signatures[name].get("format") != FORMAT:
            raise DataError(f"{file} was made by another version of hybrid_bench: run the task again")
        try:
            metadata = metadata_of(pq.read_schema(file))
        except (ArrowException, OSError) as error:
            raise DataError(f"{file} is damaged ({error}): run the task again") from error
        if not metadata:
            raise DataError(f"{file} was not written by hybrid_bench: run the task again")
        model, options = metadata["model"], metadata["options"]
        tasks[name] = TaskTable(file, metadata, signatures[name])
    return Run(folder, model, options, tasks)
