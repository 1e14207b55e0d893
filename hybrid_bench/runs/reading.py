"""Saved runs: where they lie, whose they are, and their per-query tables, read column by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException

from hybrid_bench.data.files import expanded
from hybrid_bench.errors import DataError, RequestError, first_line, listed, of_system, reason
from hybrid_bench.languages import did_you_mean
from hybrid_bench.runs.result_files import FORMAT, OUTPUT, metadata_of, read_signatures

__all__ = ["Run", "TaskTable", "common_to", "find_run", "find_runs", "joined", "names_of", "run_folder", "titled"]


@dataclass(frozen=True)
class TaskTable:
    """The per-query table of one task (see `tables.query_table`).

    Attributes:
        path: Its file.
        metadata: What is kept with it.
        signature: The task's signature.
        subsets: Only these subsets; None for all.
        questions: Only questions with these ids; None for all.
    """

    path: Path
    metadata: Mapping[str, Any]
    signature: Mapping[str, Any]
    subsets: frozenset[str] | None = None
    questions: frozenset[str] | None = None
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
        if self.questions is not None:
            wanted.append("question_id")
        missing = [column for column in wanted if column not in self._read]
        if missing:
            try:
                table = pq.read_table(self.path, columns=missing, page_checksum_verification=True)
            except (ArrowException, OSError) as error:
                raise _unreadable(self.path, error) from error
            self._read.update({column: table[column].to_pandas() for column in missing})
        frame = pd.DataFrame({column: self._read[column] for column in dict.fromkeys(wanted)})
        if self.subsets is not None:
            frame = frame[frame["subset"].isin(list(self.subsets))]
        if self.questions is not None:
            frame = frame[frame["question_id"].isin(list(self.questions))]
        return frame

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
        title: What it is called in tables; None for its model and options.
        cache: What was computed from the tables, for `scores`.
    """

    folder: Path
    model: str
    options: Mapping[str, str]
    tasks: Mapping[str, TaskTable]
    title: str | None = None
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def only(self, subsets: Mapping[str, Collection[str]]) -> Run:
        """The same run with these subsets of these tasks alone."""
        narrowed = {
            name: replace(table, subsets=frozenset(subsets[name]))
            for name, table in self.tasks.items()
            if name in subsets
        }
        return replace(self, tasks={name: table for name, table in narrowed.items() if table.covered}, cache={})

    def asking(self, questions: Mapping[str, Collection[str]]) -> Run:
        """The same run with these questions alone of the collections that are named; pools stay whole.

        Args:
            questions: By collection, ids of questions.
        """
        tasks = {
            name: replace(table, questions=frozenset(questions[table.collection]))
            if table.collection in questions
            else table
            for name, table in self.tasks.items()
        }
        return replace(self, tasks=tasks, cache={})

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
        """Name for a table: its title, else the model, and its options where there are some."""
        if self.title is not None:
            return self.title
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


def titled(runs: Sequence[Run], titles: Mapping[str, str]) -> list[Run]:
    """The runs, some of them with other names in tables.

    Args:
        runs: The runs.
        titles: What they shall be called, by their names in tables until now (see `names_of`) or by their models.

    Raises:
        RequestError: If there is no run of such a name, or two would be called the same.
    """
    names = names_of(runs)
    found: dict[int, str] = {}
    exact: dict[int, str] = {}
    for name, title in titles.items():
        exactly = [place for place, shown in enumerate(names) if shown == name]
        of_model = [place for place, run in enumerate(runs) if run.model == name]
        if not exactly and not of_model:
            known = [*names, *(run.model for run in runs)]
            raise RequestError(f"there is no run of '{name}' to be called '{title}': {did_you_mean(name, set(known))}")
        # What tells the runs of one model apart, options or revision, stays behind their label.
        found |= {place: title + names[place].removeprefix(runs[place].model) for place in of_model}
        exact |= dict.fromkeys(exactly, title)
    found |= exact
    shown = [found.get(place, name) for place, name in enumerate(names)]
    if twice := [name for name in shown if shown.count(name) > 1]:
        raise RequestError(f"two runs would have the same label: {listed(twice, len(twice))}")
    return [replace(run, title=found.get(place, run.title)) for place, run in enumerate(runs)]


def common_to(runs: Sequence[Run]) -> list[Run]:
    """The runs with those subsets alone that all of them have.

    Raises:
        RequestError: If they have none in common.
    """
    tasks = [name for name in runs[0].tasks if all(name in run.tasks for run in runs)]
    names = {
        task: set.intersection(
            *({name.partition("/")[2] for name, _ in chain(*run.tasks[task].covered.values())} for run in runs)
        )
        for task in tasks
    }
    narrowed = [run.only(names) for run in runs]
    if not all(run.tasks for run in narrowed):
        raise RequestError(f"no subset of a task is in all of {listed(names_of(runs), len(runs))}: compare others")
    return narrowed


def _unreadable(path: Path, error: Exception) -> DataError:
    """What to say of a table that cannot be read: whether the system refuses it, or its content is wrong."""
    if isinstance(error, OSError) and error.errno:
        return DataError(f"cannot read {path} ({reason(error)})")
    return DataError(f"{path} is damaged ({first_line(error)}): run the task again")


def find_runs(names: Sequence[Path | str | Run]) -> list[Run]:
    """The runs of these names, in order; within a folder, sorted by folder.

    Args:
        names: Output folders of `run`, their ``results`` folders, a model's folder in these, or folders of single runs.
            Or what was evaluated: a model's name, as a table shows it (see `names_of`), or the folder that a model lies
            in. Its runs are looked for in the other folders; if none is there, in `OUTPUT`. A run stands for itself.

    Raises:
        RequestError: If there is no run of this name. Says what the name is instead.
        DataError: If a per-query table cannot be read, or is of another version.
    """
    paths = {name: expanded(name) for name in names if not isinstance(name, Run)}
    folders = [path for path in paths.values() if path.is_dir() and not _is_model(path)]
    runs: dict[Path, Run] = {}
    for name in names:
        if isinstance(name, Run):
            found = [name]
        elif paths[name] in folders:
            found = _runs_in(paths[name])
        else:
            found = _runs_of(str(name), paths[name], folders)
        for run in found:
            runs.setdefault(run.folder.resolve(), run)
    return list(runs.values())


def find_run(name: Path | str | Run, beside: Sequence[Path | str | Run] = ()) -> Run:
    """The one run of this name; see `find_runs`.

    Args:
        name: The name, or the run itself.
        beside: What is looked into first for the runs of a model: folders, and runs.

    Raises:
        RequestError: As there; or if there are several.
        DataError: As there.
    """
    if isinstance(name, Run):
        return name
    path = expanded(name)
    if path.is_dir() and not _is_model(path):
        found = _runs_in(path)
    else:
        places = [each.folder if isinstance(each, Run) else expanded(each) for each in beside]
        found = _runs_of(str(name), path, [place for place in places if place.is_dir()])
    if len(found) > 1:
        folders = [str(run.folder) for run in found]
        raise RequestError(f"{name} holds {len(found)} runs: name the folder of one, {listed(folders, between=' or ')}")
    return found[0]


def run_folder(name: Path | str, beside: Sequence[Path | str] = ()) -> Path:
    """The folder of the one run of this name, as `find_run`; a folder is taken as it is, whatever it holds.

    Raises:
        RequestError: As `find_run`.
        DataError: As there.
    """
    path = expanded(name)
    return path if path.is_dir() and not _is_model(path) else find_run(name, beside).folder


def _runs_in(path: Path) -> list[Run]:
    """The runs in a folder."""
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
    return finished


def _runs_of(name: str, path: Path, places: Sequence[Path]) -> list[Run]:
    """The runs of a model, by its name or its folder, in these places, or else in `OUTPUT`."""
    if path.is_file():
        raise RequestError(f"{name} is a file: give the --output of `hybrid-bench run`, or the name of a model it ran")
    model = f"local/{path.resolve().name}" if path.is_dir() else name
    known: list[Run] = []
    for where in (places, [OUTPUT]):
        folders = {file.parent.resolve(): file.parent for place in where if place.is_dir() for file in _tables(place)}
        here = [run for run in map(_read, folders.values()) if run.tasks]
        found = [run for run, shown in zip(here, names_of(here), strict=True) if shown == model]
        found = found or [run for run in here if run.model == model]
        if found:
            return found
        known += here
    tried = " and ".join(dict.fromkeys(map(str, [*places, OUTPUT])))
    if path.is_dir():
        raise RequestError(
            f"{name} is the folder of a model, and there is no run of it in {tried}: "
            f"`hybrid-bench run --models {name}` makes one"
        )
    near = did_you_mean(name, {run.model for run in known}) if known else ""
    raise RequestError(
        f"there is no folder {name}, and no run of a model of this name in {tried}: "
        + (near if near.startswith("did") else "give the --output of `hybrid-bench run`")
    )


def _is_model(folder: Path) -> bool:
    """Whether this is what a model was saved in, and not a run."""
    return any((folder / name).is_file() for name in ("modules.json", "config.json")) and not any(_tables(folder))


def _tables(path: Path) -> Iterator[Path]:
    """The per-query tables of a run's folder, or of those below it: a folder that cannot be read hides none.

    Raises:
        DataError: If there is such a folder.
    """
    try:
        single = _tables_in(path)
        if single:  # what lies further down in a run's folder, superseded or with other options, is another run
            yield from single
            return
        models = [*_folders(path), *_folders(path / "results")]
        revisions = [each for model in models for each in _folders(model)]
        # Of a model's folder, of results/, and of the output folder.
        for folder in dict.fromkeys([*_folders(path), *revisions]):
            for each in (folder, *_folders(folder / "experiments")):
                yield from _tables_in(each)
    except OSError as error:
        raise DataError(of_system(error)) from error


def _tables_in(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name.endswith(".queries.parquet")]


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, if it is one; not what was replaced, nor what is being written."""
    if not path.is_dir():
        return []
    inner = (each for each in path.iterdir() if each.name != "superseded" and not each.name.startswith("."))
    return [each for each in inner if each.is_dir()]


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
            raise _unreadable(file, error) from error
        if not metadata:
            raise DataError(f"{file} was not written by hybrid_bench: run the task again")
        model, options = metadata["model"], metadata["options"]
        tasks[name] = TaskTable(file, metadata, signatures[name])
    return Run(folder, model, options, tasks)
