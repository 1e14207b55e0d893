"""The package's functions for a notebook or a script; `hybrid_bench` offers each under its own name.

Nothing here computes anything: every function asks the wing that does, which is imported when it is called. What they
give back shows itself in a notebook as a table, and in a terminal as text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hybrid_bench.analysis.frame import long_frame, query_frame
from hybrid_bench.analysis.scores import CLUSTERS
from hybrid_bench.errors import RequestError, listed
from hybrid_bench.languages import did_you_mean
from hybrid_bench.measures.significance import DRAWS
from hybrid_bench.reporting.document import TABLES, WRITTEN, ReportRequest, report_of
from hybrid_bench.reporting.elements import Table
from hybrid_bench.reporting.text import as_latex, as_markdown
from hybrid_bench.runs.reading import Run, find_runs, names_of

if TYPE_CHECKING:
    from hybrid_bench.training.loop import Trained
    from hybrid_bench.training.memory import Estimate

__all__ = [
    "Comparison",
    "Report",
    "Runs",
    "Tables",
    "collections",
    "compare",
    "estimate",
    "evaluate",
    "load_runs",
    "report",
    "train",
]

#: What names a run: its name in `Runs.names`, its folder, or itself.
Named = str | Path | Run


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


# -- runs -------------------------------------------------------------------------------------------------------------


class Runs(Sequence[Run]):
    """Saved runs: what `evaluate` and `load_runs` give.

    Args:
        runs: The runs.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __getitem__(self, place: Any) -> Any:
        """A run by its place or its name; several by a slice."""
        if isinstance(place, str):
            return self._runs[self._place(place)]
        return Runs(self._runs[place]) if isinstance(place, slice) else self._runs[place]

    def __add__(self, other: Runs) -> Runs:
        return Runs([*self, *other])

    @cached_property
    def names(self) -> list[str]:
        """A name for each run, no two alike: the model, with its options or revision where that is needed."""
        return names_of(self._runs)

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise RequestError(f"no run is called '{name}': {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def scores(
        self,
        measure: str | Sequence[str] = "map",
        by: str = "mean",
        *,
        collections: Sequence[str] | None = None,
        settings: Sequence[str] | None = None,
        baseline: str | None = None,
        intervals: bool = True,
        cluster: str = CLUSTERS[0],
        draws: int = DRAWS,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Values of a measure, one row for each run, collection, setting and language.

        Args:
            measure: One or several: ``map``, ``ndcg_at_10``, ``recall_at_1``, ..., or a ``bias_`` measure.
            by: What values are means over: ``mean`` of all languages, ``language`` of the query, ``pair`` of query and
                passage, or languages ``seen`` and ``unseen`` in training, or one of both (``mixed``).
            collections: Of these only; None for all.
            settings: Of these only (``mono``, ``cross``, ``multi``); None for all.
            baseline: Name of the run that the others are compared with; None for no comparison.
            intervals: Whether 95% intervals are computed, by a cluster bootstrap.
            cluster: What questions are clustered by: ``article``, ``paragraph`` or ``question``.
            draws: Resamples, and flips of the test.
            seed: Of both.

        Returns:
            Columns ``run``, ``collection``, ``setting``, ``language`` and ``pool`` (where there are such), ``measure``
            (where there are several), ``value``, ``low``, ``high``, ``n`` (queries), ``clusters``; with a baseline also
            ``delta``, ``p`` and ``p_adjusted``.

        Raises:
            RequestError: If a name is not known; it says which is near.
            DataError: If a run cannot be read.
        """
        levels = {"seen": ("seen", "mixed", "unseen")}.get(by, (by,))
        frame = long_frame(
            self._runs,
            measure,
            by=levels,
            collections=collections,
            settings=settings,
            baseline=baseline,
            intervals=intervals,
            cluster=cluster,
            draws=draws,
            seed=seed,
        )
        several = not isinstance(measure, str) and len(measure) > 1
        columns = ["run", "collection", "setting"]
        columns += ["level"] if len(levels) > 1 else []
        columns += {"language": ["language"], "pair": ["language", "pool"]}.get(by, [])
        columns += ["measure"] if several else []
        columns += ["value", "low", "high", "n", "clusters"]
        columns += ["delta", "p", "p_adjusted"] if baseline is not None else []
        return frame.rename(columns={"query_language": "language"})[columns].reset_index(drop=True)

    def queries(
        self,
        measure: str | Sequence[str] = "map",
        *,
        collections: Sequence[str] | None = None,
        settings: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Values of a measure by query, one row for each run, query and subset.

        Args:
            measure: One or several.
            collections: Of these only; None for all.
            settings: Of these only; None for all.

        Returns:
            See `analysis.frame.query_frame`.

        Raises:
            RequestError: If a name is not known, or the measure has no values by query.
            DataError: If a run cannot be read.
        """
        return query_frame(self._runs, measure, collections=collections, settings=settings)

    @cached_property
    def overview(self) -> pd.DataFrame:
        """One row for each run and task: ``run``, ``revision``, ``collection``, ``task``, ``subsets``, ``folder``."""
        return pd.DataFrame(
            [
                {
                    "run": name,
                    "revision": run.revision[:7],
                    "collection": table.collection,
                    "task": task,
                    "subsets": sum(map(len, table.covered.values())),
                    "folder": str(run.folder),
                }
                for name, run in zip(self.names, self._runs, strict=True)
                for task, table in run.tasks.items()
            ]
        )

    def __repr__(self) -> str:
        table = self.overview.drop(columns="folder").to_string(index=False)
        return f"{len(self)} run{'' if len(self) == 1 else 's'}\n{table}"

    def _repr_html_(self) -> str:
        return str(self.overview.to_html(index=False))


def load_runs(*paths: str | Path) -> Runs:
    """Saved runs, from disk.

    Args:
        paths: Output folders of `evaluate` or ``hybrid-bench run``, or folders of single runs.

    Raises:
        RequestError: If a path holds no run.
        DataError: If a run cannot be read.
    """
    if not paths:
        raise RequestError("no folder is named: give the output of `evaluate` or `hybrid-bench run`, e.g. runs")
    return Runs(find_runs([Path(path) for path in paths]))


def evaluate(
    models: Any,
    tasks: str | Sequence[str] = "XQuAD-R",
    *,
    settings: Sequence[str] = (),
    languages: Sequence[str] = (),
    name: str | None = None,
    output: str | Path = "runs",
    data_dir: str | Path | None = None,
    tell: Callable[[str], None] = _to_stderr,
    **options: Any,
) -> Runs:
    """Evaluate models, as far as results are not there already, and save them.

    Args:
        models: One or several: names of mteb's registry or the model hub, an embedded model, the folder of a model, or
            a model itself, of sentence-transformers' or as mteb evaluates it.
        tasks: One or several collections, tasks or benchmarks.
        settings: ``mono``, ``cross``, ``multi``; empty for all.
        languages: Query languages and, in pairs, passage languages; empty for all.
        name: What results of a model are saved under that is given itself, ``organisation/model`` or a name alone; None
            for the name that it has.
        output: Folder in which ``results/`` is made.
        data_dir: Folder with the data; None to download them.
        tell: Called with a line about each step; by default it goes to stderr.
        **options: Any other field of `evaluation.runner.RunRequest`, e.g. ``batch_size``, ``embedding_cache``.

    Returns:
        The runs, with what was asked for alone.

    Raises:
        RequestError: If the request is wrong.
        DataError: If data cannot be read.
        ModelError: If the only model cannot be loaded or ranked. Where others can, this is told, and they are returned.
    """
    from dataclasses import fields

    from hybrid_bench.engine.models import given
    from hybrid_bench.evaluation.runner import RunRequest, run

    known = {field.name for field in fields(RunRequest)}
    for option in options:
        if option not in known:
            raise RequestError(f"evaluate has no option '{option}': {did_you_mean(option, known)}")
    chosen = _several(models)
    if name is not None and sum(not isinstance(model, str | Path) for model in chosen) != 1:
        raise RequestError(f"name='{name}' is for one model that is given itself, not by its name or folder")
    request = RunRequest(
        models=[str(model) if isinstance(model, str | Path) else given(model, name) for model in chosen],
        tasks=_several(tasks),
        settings=_several(settings),
        languages=_several(languages),
        output=Path(output),
        data_dir=None if data_dir is None else Path(data_dir),
        **options,
    )
    outcome = run(request, tell)
    if not outcome.folders and outcome.failures:
        raise outcome.failures[0].error
    for failure in outcome.failures:
        tell(str(failure))
    return Runs([each.only(outcome.subsets) for each in find_runs(outcome.folders)])


def _several(given: Any) -> Sequence[Any]:
    return list(given) if isinstance(given, list | tuple | set) else [given]


def collections() -> pd.DataFrame:
    """What can be measured on without data of one's own.

    Returns:
        One row for each task: ``name`` of the collection, ``task``, ``languages``, ``subsets``, ``questions`` and
        ``passages`` (over all languages; none where that is known only after reading), ``licence``.
    """
    from hybrid_bench.evaluation import registry

    rows = [
        {
            "name": name,
            "task": task.metadata.name,
            "languages": " ".join(task.reader.languages),
            "subsets": len(task.metadata.hf_subsets),
            "questions": _total(getattr(task.reader, "questions", None)),
            "passages": _total(getattr(task.reader, "candidates", None)),
            "licence": task.metadata.license,
        }
        for name, tasks in registry.collections().items()
        for task in tasks
    ]
    return pd.DataFrame(rows).astype({"questions": "Int64", "passages": "Int64"})


def _total(by_language: Mapping[str, int] | None) -> int | None:
    return sum(by_language.values()) if by_language else None


# -- reports ----------------------------------------------------------------------------------------------------------


class Tables(Sequence[Table]):
    """The tables of one kind: one, or one for each collection."""

    def __init__(self, tables: Sequence[Table], *, intervals: bool = False) -> None:
        self._tables = tuple(tables)
        self._intervals = intervals

    def __len__(self) -> int:
        return len(self._tables)

    def __getitem__(self, place: Any) -> Any:
        return self._tables[place]

    def to_markdown(self) -> str:
        """As Markdown."""
        return self._written(lambda table: as_markdown(table, intervals=self._intervals))

    def to_latex(self) -> str:
        """As LaTeX, with booktabs and siunitx."""
        return self._written(lambda table: as_latex(table, intervals=self._intervals))

    def _repr_html_(self) -> str:
        from hybrid_bench.reporting.html import as_html

        return self._written(as_html)

    def _written(self, write: Callable[[Table], str]) -> str:
        return "\n".join(write(table) for table in self._tables)

    def __repr__(self) -> str:
        return self.to_markdown()


class Comparison(pd.DataFrame):
    """What `compare` gives: one row for each run and setting, and the table that is printed of it."""

    _metadata = ("_tables",)
    _tables: Tables

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame  # a part of it is an ordinary frame

    def to_markdown(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override] # ours is one table of fixed form
        """The table of ``hybrid-bench compare`` as Markdown, with its notes."""
        return self._tables.to_markdown()

    def to_latex(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override] # as above
        """The same as LaTeX."""
        return self._tables.to_latex()


def compare(
    runs: Runs,
    baseline: Named,
    measure: str = "map",
    *,
    cluster: str = CLUSTERS[0],
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Whether runs differ from one of them: a cluster sign-flip test, in every setting that they have.

    Args:
        runs: The runs.
        baseline: The one that the others are compared with.
        measure: What is compared.
        cluster: What questions are clustered by: ``article``, ``paragraph`` or ``question``.
        draws: Flips and resamples.
        seed: Of both.

    Returns:
        One row for each run and setting: the difference ``delta`` with its interval, p-values by cluster, adjusted
        ones, effect size, wins and losses.

    Raises:
        RequestError: If a name is not known, or the runs cannot be compared.
        DataError: If a run cannot be read.
    """
    request = ReportRequest(
        list(runs),
        table="compare",
        format="json",
        baseline=_named(runs, baseline),
        measure=measure,
        cluster=cluster,
        draws=draws,
        seed=seed,
    )
    made = report_of(request)
    names = {written: name for name, written in WRITTEN.items()} | {"delta_lo": "delta_low", "delta_hi": "delta_high"}
    frame = pd.DataFrame(made.records()).rename(columns=names)
    # All rows are means over languages of runs.
    found = Comparison(frame.drop(columns=["kind", "query_language", "pool", "source"]).reset_index(drop=True))
    found._tables = Tables(made.tables["compare"])
    return found


class Report:
    """What `report` gives.

    Attributes:
        tables: The tables by name: ``main``, ``bias``, ``per-language``, ``pairs``, ...
        frame: All its numbers: one row for each run, collection, setting, level and measure.
    """

    def __init__(self, request: ReportRequest) -> None:
        self._request = request
        self._made = report_of(request)  # here, so that a wrong name is told at once

    @cached_property
    def tables(self) -> Mapping[str, Tables]:
        """The tables by name, as ``hybrid-bench report --table NAME`` prints them; those without rows are not there."""
        requests = {name: replace(self._request, format="markdown", table=name) for name in TABLES if name != "compare"}
        found = {name: report_of(request).tables[name] for name, request in requests.items()}
        return {name: Tables(each, intervals=self._request.intervals) for name, each in found.items() if each}

    @property
    def frame(self) -> pd.DataFrame:
        """All numbers of the report, see `analysis.frame.Results`."""
        return self._made.frame

    def save(self, path: str | Path) -> Path:
        """Write the report; its ending says in which format: .html, .md, .tex, .csv or .json.

        Raises:
            RequestError: If the ending is another.
            DataError: If the file cannot be written.
        """
        from hybrid_bench.data.files import atomic

        out = Path(path)
        formats = {".html": "html", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
        if out.suffix not in formats:
            raise RequestError(f"{out}: the ending says the format: take one of {listed(list(formats))}")
        text = report_of(replace(self._request, format=formats[out.suffix])).text()
        with atomic(out) as beside:
            beside.write_text(text, encoding="utf-8")
        return out

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.tables.values()))

    def _repr_html_(self) -> str:
        return "\n".join(tables._repr_html_() for tables in self.tables.values())


def report(
    runs: Runs | str | Path,
    *more: str | Path,
    baseline: Named | None = None,
    intervals: bool = False,
    letters: bool = False,
    cluster: str = CLUSTERS[0],
    draws: int = DRAWS,
    seed: int = 0,
) -> Report:
    """All tables and figures of runs.

    Args:
        runs: The runs, or their folder.
        *more: Further folders, or ``published:KEY``.
        baseline: The run that the others are compared with; None for no comparison.
        intervals: Whether tables show intervals; a page and the frame always have them.
        letters: Whether the main table has letters of Tukey's test for all pairs.
        cluster: What questions are clustered by: ``article``, ``paragraph`` or ``question``.
        draws: Flips and resamples.
        seed: Of both.

    Raises:
        RequestError: If a name is not known, or runs that cannot be compared are to be.
        DataError: If a run cannot be read.
    """
    given = runs if isinstance(runs, Runs) else load_runs(runs)
    request = ReportRequest(
        [*given, *more],
        format="html",
        baseline=None if baseline is None else _named(given, baseline),
        intervals=intervals,
        letters=letters,
        cluster=cluster,
        draws=draws,
        seed=seed,
    )
    return Report(request)


def _named(runs: Runs, name: Named) -> Run | Path:
    """The run that is meant, by its name among these or by its folder."""
    if isinstance(name, Run | Path):
        return name
    if name not in runs.names and Path(name).is_dir():
        return Path(name)
    found: Run = runs[name]
    return found


# -- training ---------------------------------------------------------------------------------------------------------


def train(
    config: str | Path,
    *,
    alpha: float | None = None,
    output: str | Path | None = None,
    data_dir: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    tell: Callable[[str], None] = _to_stderr,
) -> Trained:
    """Train a model with hybrid batches, or go on with its training, and save it.

    Args:
        config: A TOML or YAML file, or ``preset:NAME``.
        alpha: Share of monolingual batches; None for what the file says.
        output: Folder of the model; None for what the file says.
        data_dir: Folder with the data; None for what the file says.
        changes: Further values by dotted name that replace those of the file, e.g. ``{"arguments.max_steps": 100}``.
        overwrite: Whether a model or checkpoints of another training in the output folder may go.
        tell: Called with a line about each step; by default it goes to stderr.

    Returns:
        Where the model is, and its measures before and after.

    Raises:
        RequestError: If something is wrong with the configuration.
        DataError: If data cannot be read.
        ModelError: If the model cannot be loaded.
    """
    from hybrid_bench.training import loop

    return loop.train(_training(config, alpha, output, data_dir, changes), tell, overwrite=overwrite)


def estimate(
    config: str | Path,
    *,
    devices: int = 1,
    sharding: str | None = None,
    negatives: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Estimate:
    """How much memory a training takes on each device, before a weight is loaded; it shows itself as a table.

    Args:
        config: A TOML or YAML file, or ``preset:NAME``.
        devices: Number of devices.
        sharding: How they share the model: ``ddp``, ``fsdp``, ...; None for one device.
        negatives: Hard negatives of a row; None for what the sources have.
        changes: As in `train`.

    Raises:
        RequestError: If something is wrong with the configuration.
        ModelError: If the model's configuration cannot be read.
    """
    from hybrid_bench.training import memory

    loaded = _training(config, None, None, None, changes)
    return memory.estimate(loaded, devices=devices, sharding=sharding, negatives=negatives)


def _training(
    config: str | Path,
    alpha: float | None,
    output: str | Path | None,
    data_dir: str | Path | None,
    changes: Mapping[str, Any] | None,
) -> Any:
    from hybrid_bench.training.config import load_config

    given = {"sampling.alpha": alpha, "output": output, "data_dir": data_dir}
    named = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value is not None}
    return load_config(config, {**(changes or {}), **named})
