"""What mteb takes of tasks: a task of ours as its own contributors would write it.

`write_task_pr` writes a class on mteb's own retrieval task that needs nothing of this package, its data in the layout
of the Hub, its statistics, and the texts of the pull request.
"""

from __future__ import annotations

import contextlib
import json
import keyword
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.data.files import atomic
from hybrid_bench.data.parsing import read_json
from hybrid_bench.errors import DataError, RequestError, reason
from hybrid_bench.exchange.mteb_results import META_FILE, scores_by_subset, write_file

# mteb, datasets and pyarrow are imported where they are needed: the command line answers `--help` without.

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

    from hybrid_bench.data.collection import Passages
    from hybrid_bench.evaluation.tasks import ParallelRetrieval

__all__ = ["source_of", "write_task_pr"]

PR_LENGTH = 2000
"""mteb marks pull requests with a longer description, and its reviewers may close them unread."""

_TASKS_FOLDER = "mteb/tasks/retrieval/multilingual"
_STATISTICS_FOLDER = "mteb/descriptive_stats/Retrieval"
_REVISION = "the commit of the uploaded data set"
_BASELINE = "mteb/baseline-random-encoder"
_SMALL = "intfloat/multilingual-e5-small"
_WIDTH = 88  # of mteb's source
#: mteb ranks this deep; the deepest of its measures with the meaning of a main score that it does not have.
_MAIN_SCORES = {"map": "map_at_1000"}
_FIELDS = (
    "name",
    "description",
    "reference",
    "dataset",
    "type",
    "category",
    "modalities",
    "eval_splits",
    "eval_langs",
    "main_score",
    "date",
    "domains",
    "task_subtypes",
    "license",
    "annotations_creators",
    "dialect",
    "sample_creation",
    "adapted_from",
    "prompt",
    "bibtex_citation",
)


def write_task_pr(
    tasks: Sequence[str],
    out: Path,
    data: bool = True,
    *,
    runs: Sequence[Path] = (),
    data_dir: Path | None = None,
) -> list[Path]:
    """Write what a pull request with these tasks to mteb consists of.

    In `out`: ``README.md``, what to do with the rest, in order; ``pull_request.md``, its description; under ``mteb/``
    the files to add; ``benchmark.py``, the entry of our benchmark; under ``data/`` one folder for each task, to upload
    as a data set. The data of a task that may not be passed on are written to ``data-not-for-upload/`` instead, and
    marked: they serve to try the class.

    Args:
        tasks: Collections or single tasks.
        out: Folder to write into.
        data: Whether to write the data.
        runs: Folders of runs, or output folders; results go into the description: mteb asks for those of a random and a
            small model.
        data_dir: The user's data folder; None for HYBRID_BENCH_DATA or download.

    Returns:
        The files written.

    Raises:
        RequestError: If a task is unknown, or not one of this package's.
        DataError: If its data cannot be read, or a file cannot be written.
    """
    chosen = _chosen(tasks, data_dir)
    written: list[Path] = []

    def write(name: str, text: str) -> None:
        write_file(out / name, text.encode())
        written.append(out / name)

    groups: dict[str, list[ParallelRetrieval]] = defaultdict(list)
    for task in chosen:
        groups[_module(task)].append(task)
    for module, together in groups.items():
        write(f"{_TASKS_FOLDER}/{module}.py", source_of(together))
    for task in chosen:
        statistics = task.metadata.descriptive_stats
        if statistics is not None:
            name = f"{_STATISTICS_FOLDER}/{task.metadata.name}.json"
            write(name, json.dumps(statistics, indent=4))
        if data:
            written += _write_data(task, out / _data_folder(task))
    public = [task for task in chosen if task.metadata.is_public]
    if public:
        write("benchmark.py", _benchmark(public))
    baselines = _baselines(chosen, runs)
    write("pull_request.md", _description(chosen, baselines))
    write("README.md", _steps(groups, data, baselines))
    return written


def _chosen(names: Sequence[str], data_dir: Path | None) -> list[ParallelRetrieval]:
    """The tasks of these names."""
    from hybrid_bench.data.collection import DataOptions
    from hybrid_bench.evaluation.runner import named_tasks
    from hybrid_bench.evaluation.tasks import ParallelRetrieval, TaskOptions

    chosen: dict[str, ParallelRetrieval] = {}
    for name in names:
        for task in named_tasks(name, data_dir):
            if not isinstance(task, ParallelRetrieval):
                raise RequestError(f"'{name}' is not a task of this package: mteb has it, or its data are BEIR's")
            if task.metadata.dataset["path"].startswith("mteb/"):
                raise RequestError(
                    f"{task.metadata.name} reads data that mteb has already, {task.metadata.dataset['path']}: give a "
                    "task that brings its own"
                )
            task.options = TaskOptions(data=DataOptions(data_dir=data_dir))
            chosen.setdefault(task.metadata.name, task)
    if not chosen:
        raise RequestError("no task to write: name a collection, for example XQuAD-R")
    return list(chosen.values())


def _module(task: ParallelRetrieval) -> str:
    """Name of the module that mteb will have the task in."""
    return _identifier(re.sub(r"\W+", "_", task.collection_name).lower() + "_retrieval", "task_")


def _redistributable(task: ParallelRetrieval) -> bool:
    return bool(getattr(task.metadata, "redistributable", True))


def _data_folder(task: ParallelRetrieval) -> str:
    return f"data{'' if _redistributable(task) else '-not-for-upload'}/{task.metadata.name}"


def _offered(metadata: TaskMetadata) -> TaskMetadata:
    """A task's metadata as mteb will have them."""
    return metadata.model_copy(
        update={
            "dataset": {"path": f"mteb/{metadata.name}", "revision": _REVISION},
            "main_score": _MAIN_SCORES.get(metadata.main_score, metadata.main_score),
        }
    )


def source_of(tasks: Sequence[ParallelRetrieval]) -> str:
    """The module with the classes of these tasks, as Python source."""
    lines = [
        "from mteb.abstasks.retrieval import AbsTaskRetrieval",
        "from mteb.abstasks.task_metadata import TaskMetadata",
        "",
    ]
    lines += [f"{_constant(task)} = {_literal(task.metadata.eval_langs)}\n" for task in tasks]
    for task in tasks:
        metadata = _offered(task.metadata)
        lines += ["", f"class {_class(task)}(AbsTaskRetrieval):", "    metadata = TaskMetadata("]
        for entry in _FIELDS:
            value = getattr(metadata, entry)
            if entry == "eval_langs":
                lines.append(f"        eval_langs={_constant(task)},")
            elif entry == "bibtex_citation":
                lines.append(f"        bibtex_citation={_block(value or '')},")
            elif value is not None:
                lines.append(f"        {entry}={_literal(value)},")
        lines.append("    )\n")
    return _formatted("\n".join(lines))


def _class(task: ParallelRetrieval) -> str:
    """Name of the class that mteb will have; a collection may be called ``2wiki``, a class may not."""
    return _identifier(type(task).__name__, "Task")


def _constant(task: ParallelRetrieval) -> str:
    return "_" + re.sub(r"\W+", "_", task.metadata.name).upper() + "_LANGS"


def _identifier(name: str, prefix: str) -> str:
    return name if name.isidentifier() and not keyword.iskeyword(name) else prefix + name


def _literal(value: Any) -> str:
    """A value as source: its `repr`, a long list or dictionary with one item a line."""
    flat = repr(value)
    if len(flat) <= _WIDTH or not isinstance(value, (list, dict)):
        return flat
    items = [f"{key!r}: {item!r}" for key, item in value.items()] if isinstance(value, dict) else map(repr, value)
    return "\n".join([flat[0], ",\n".join(items) + ",", flat[-1]])


def _block(text: str) -> str:
    """A text of several lines as source: as it stands, where a raw string can hold it."""
    if not text or '"""' in text or text.endswith(('"', "\\")) or not text.replace("\n", "").isprintable():
        return repr(text)
    return f'r"""{text}"""'


def _formatted(source: str) -> str:
    """Source as mteb formats its own, where the formatter is installed; without, `make lint` there does it."""
    try:
        from ruff import find_ruff_bin
    except ImportError:
        return source
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [find_ruff_bin(), "format", "--isolated", "--line-length", str(_WIDTH), "-"]
        return subprocess.run(command, input=source.encode(), capture_output=True, check=True).stdout.decode()
    return source


# -- their data -------------------------------------------------------------------------------------------------------


def _write_data(task: ParallelRetrieval, folder: Path) -> list[Path]:
    """Write a task's data as mteb's loader reads them: a file once, however many configurations it is part of."""
    import pyarrow as pa

    task.load_data()
    collection = task.read_collection()
    written: list[Path] = []

    def write(name: str, columns: Iterator[dict[str, list[Any]]], schema: pa.Schema) -> None:
        _write_parquet(folder / name, columns, schema)
        written.append(folder / name)

    titled = any(passages.titles is not None for passages in collection.passages.values())
    text = pa.schema([(name, pa.string()) for name in ("id", *(["title"] if titled else []), "text")])
    qrels = pa.schema([("query-id", pa.string()), ("corpus-id", pa.string()), ("score", pa.int32())])
    configs: list[dict[str, Any]] = []
    parts_needed: dict[str, None] = {}
    sets_needed: dict[str, None] = {}
    for subset in task.hf_subsets:
        files: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for split in task.eval_splits:
            query_set, parts = task.pool_of(subset, split)
            parts_needed |= dict.fromkeys(parts)
            sets_needed[query_set] = None
            judgments = f"qrels/{split}/{subset}.parquet"
            write(judgments, _judged(task.dataset[subset][split]["relevant_docs"]), qrels)
            paths = [f"corpus/{part}.parquet" for part in parts]
            files["corpus"].append({"split": split, "path": paths if len(paths) > 1 else paths[0]})
            files["queries"].append({"split": split, "path": f"queries/{query_set}.parquet"})
            files["qrels"].append({"split": split, "path": judgments})
        configs += [{"config_name": f"{subset}-{what}", "data_files": places} for what, places in files.items()]
    for part in parts_needed:
        write(f"corpus/{part}.parquet", _texts(collection.passages[part], titled), text)
    for query_set in sets_needed:
        queries = collection.queries[query_set]
        asked = pa.schema([("id", pa.string()), ("text", pa.string())])
        write(f"queries/{query_set}.parquet", iter([{"id": list(queries.ids), "text": list(queries.texts)}]), asked)
    task.unload_data()
    write_file(folder / "README.md", _card(task, configs).encode())
    return [*written, folder / "README.md"]


def _texts(passages: Passages, titled: bool) -> Iterator[dict[str, list[Any]]]:
    """The passages of a part in batches, as columns."""
    for start in range(0, len(passages), 10_000):
        rows = slice(start, start + 10_000)
        ids = list(passages.ids[rows])
        titles = passages.titles[rows] if passages.titles is not None else [""] * len(ids)
        yield {"id": ids, "text": list(passages.texts[rows]), **({"title": list(titles)} if titled else {})}


def _judged(relevant: Mapping[str, Mapping[str, int]]) -> Iterator[dict[str, list[Any]]]:
    """Judgments as columns."""
    rows = [(query, passage, gain) for query, judged in relevant.items() for passage, gain in judged.items()]
    yield {name: [row[at] for row in rows] for at, name in enumerate(("query-id", "corpus-id", "score"))}


def _write_parquet(path: Path, batches: Iterator[dict[str, list[Any]]], schema: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with atomic(path) as beside, pq.ParquetWriter(beside, schema, compression="zstd") as file:
            for columns in batches:
                file.write_table(pa.table(columns, schema=schema))
    except OSError as error:
        raise DataError(f"cannot write {path} ({reason(error)}): choose another folder") from error


def _card(task: ParallelRetrieval, configs: list[dict[str, Any]]) -> str:
    """mteb's own dataset card, with the configurations in its head."""
    card = _offered(task.metadata).generate_dataset_card()
    card.data["configs"] = configs
    warning = ""
    if not _redistributable(task):
        warning = (
            "\n> [!WARNING]\n> **Not for upload.** These data were written to try a task on this machine. They may not "
            f"be passed on.\n> {task.notice}\n"
        )
    return f"---\n{card.data.to_yaml()}\n---\n{warning}{card.text}"


# -- the texts of the pull request ------------------------------------------------------------------------------------


def _baselines(tasks: Sequence[ParallelRetrieval], runs: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Mean main score by task, of the random baseline and of one other model, as far as these runs have them."""
    found: dict[str, dict[str, float]] = {}
    for run in [run for path in runs for run in _runs_below(path)]:
        meta = run / META_FILE
        try:
            model = str(read_json(meta, nan=True)["name"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{meta} does not tell a model's name ({error}): run the model again") from error
        for task in tasks:
            scores = scores_by_subset(run / f"{task.metadata.name}.json")
            main = _offered(task.metadata).main_score
            values = [entry[main] for entry in scores.values() if main in entry]
            if len(values) == len(task.metadata.hf_subsets) * len(task.metadata.eval_splits):
                found.setdefault(model, {})[task.metadata.name] = sum(values) / len(values)
    others = [model for model in found if model != _BASELINE]
    small = _SMALL if _SMALL in others else next(iter(others), None)
    return {model: found[model] for model in (_BASELINE, small) if model is not None and model in found}


def _runs_below(path: Path) -> list[Path]:
    """The folders of the runs without options that lie here: this one, or those of an output folder."""
    found = [path] if (path / META_FILE).is_file() else sorted(meta.parent for meta in path.glob(f"**/{META_FILE}"))
    found = [run for run in found if not {"superseded", "experiments"} & set(run.parts)]
    if not found:
        raise RequestError(f"no run without options in {path}: `hybrid-bench run --output DIR` makes one")
    return found


def _description(tasks: Sequence[ParallelRetrieval], baselines: Mapping[str, Mapping[str, float]]) -> str:
    """The pull request's description, with mteb's checklist; short, as mteb asks for it."""
    names = [task.metadata.name for task in tasks]
    collections = ", ".join(dict.fromkeys(task.collection_name for task in tasks))
    mapped = any(task.metadata.main_score in _MAIN_SCORES for task in tasks)
    # Of the models, those that have a result on every task; what else was done nobody but the user can say.
    run = [model for model, means in baselines.items() if means.keys() >= set(names)]
    small = next((model for model in run if model != _BASELINE), None)
    checklist = [
        ("- [ ]", "I have outlined why this dataset is filling an existing gap in `mteb`"),
        ("- [ ]", "I have tested that the dataset runs with the `mteb` package."),
        ("- [ ]", "I have run the following models on the task (adding the results to the pr)."),
        (f"  - [{'x' if _BASELINE in run else ' '}]", f"`{_BASELINE}`"),
        (f"  - [{'x' if small else ' '}]", f"`{small or _SMALL}`"),
        ("- [ ]", "I have checked that the performance is neither trivial (close to perfect scores) nor random."),
        ("- [ ]", "I have considered the size of the dataset and reduced it if it is too big"),
        ("- [ ]", "I reproduced scores from the original paper (if applicable)"),
    ]
    lines = [
        f"Adds {collections}: {', '.join(f'`{name}`' for name in names)}.",
        "",
        "Parallel queries and passages in several languages: the same questions are asked within a language, across "
        "two languages, and against one pool of all languages. In such a pool a question has a relevant passage in "
        "several languages, which shows whether a model favours some of them.",
        "",
        f"The main score is {'MAP, as in the paper, at the depth that mteb ranks' if mapped else 'that of the paper'}.",
        "",
        *(f"{box} {text}" for box, text in checklist),
    ]
    if baselines:
        lines += ["", f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for model, means in baselines.items():
            cells = (f"{means[name]:.4f}" if name in means else "-" for name in names)
            lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _benchmark(tasks: Sequence[ParallelRetrieval]) -> str:
    """The entry of the benchmark that this package registers, with these tasks."""
    import mteb

    from hybrid_bench.evaluation.registry import BENCHMARK

    benchmark = mteb.get_benchmark(BENCHMARK)
    lines = [
        "HYBRID_BENCH = Benchmark(",
        f"    name={benchmark.name!r},",
        f"    tasks=get_tasks(tasks={_literal([task.metadata.name for task in tasks])},),",
        f"    description={benchmark.description!r},",
        f"    reference={str(benchmark.reference)!r},",
        "    citation=" + _block(f"\n{(benchmark.citation or '').strip()}\n") + ",",
        ")",
    ]
    return _formatted("\n".join(lines) + "\n")


def _steps(
    groups: Mapping[str, Sequence[ParallelRetrieval]], data: bool, baselines: Mapping[str, Mapping[str, float]]
) -> str:
    """What to do, in order."""
    tasks = [task for together in groups.values() for task in together]
    names = [task.metadata.name for task in tasks]
    upload = [task for task in tasks if _redistributable(task)]
    warnings = dict.fromkeys(
        f"**{task.collection_name} is a demonstration**: mteb is not asked to take it."
        for task in tasks
        if not task.metadata.is_public
    ) | dict.fromkeys(
        f"**The data of {task.collection_name} may not be passed on.** {task.notice} mteb wants its data on the Hub: "
        "settle that with their owners first. Until then the classes can only be tried on this machine, with the "
        f"folders in `{Path(_data_folder(task)).parent}` as their `path`."
        for task in tasks
        if not _redistributable(task)
    )
    issues: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        for issue in getattr(task.metadata, "known_issues", ()):
            issues[issue].append(f'`"{task.metadata.name}"`')
    steps = [
        [
            "Upload the data, and note the commits. Another organisation than `mteb` will do: set `path` in the class "
            "to it." + ("" if data else " They were not written here: write this folder again with them."),
            "",
            *(f"- `hf upload mteb/{task.metadata.name} {_data_folder(task)} --repo-type dataset`" for task in upload),
        ],
        [f'In each class replace `"{_REVISION}"` by that commit: mteb pins every data set.'],
        [
            f"Copy `mteb/` over a checkout of mteb. In `{_TASKS_FOLDER}/__init__.py` add, where the alphabet puts it:",
            "",
            "```python",
            *(line for module, together in sorted(groups.items()) for line in _import(module, together)),
            "```",
            "",
            f"and to `__all__` there: {', '.join(sorted(json.dumps(_class(task)) for task in tasks))}.",
        ],
        [
            "In `tests/test_tasks/test_task_quality.py` add to `KNOWN_ISSUES`:",
            "",
            *(f"- `{issue}`: {', '.join(affected)}" for issue, affected in issues.items()),
        ],
        [
            f"Calculate the statistics of {task.metadata.name} in the checkout: `calculate_descriptive_statistics()`."
            for task in tasks
            if task.metadata.descriptive_stats is None
        ],
        [
            "For the benchmark, add the entry in `benchmark.py` to `mteb/benchmarks/benchmarks/benchmarks.py`, and its "
            "name to the imports and `__all__` of `__init__.py` there."
            if any(task.metadata.is_public for task in tasks)
            else ""
        ],
        [
            "In the checkout run `make lint`, and `pytest tests/test_tasks tests/test_validate_metadata "
            "tests/test_benchmarks tests/test_get_tasks.py`."
        ],
        [
            "Run the models that mteb asks for, and write their main scores into `pull_request.md`:",
            "",
            *(
                f"- `mteb run -m {model} -t {' '.join(names)}`"
                for model in (_BASELINE, _SMALL)
                if not baselines.get(model, {}).keys() >= set(names)
            ),
        ],
        [
            "Open the pull request with `pull_request.md` as its description, ticking what you did; mteb wants it "
            f"under {PR_LENGTH} characters. Result files go to the results repository once the task is merged: those "
            "of the merged task, whose data have the Hub's revision."
        ],
    ]
    lines = [f"# Giving {', '.join(names)} to mteb", *(f"\n{warning}" for warning in warnings), ""]
    number = 0
    for step in steps:
        if step and step[-1]:  # a list that came out empty is no step
            number += 1
            lines += [f"{number}. {step[0]}", *(f"   {line}".rstrip() for line in step[1:])]
    lines += [
        "",
        "mteb ranks 1,000 passages deep where this package ranks all: in larger pools `map_at_1000` is a little below "
        "`map`, by 0.001 at most for each relevant passage further down.",
    ]
    return "\n".join(lines) + "\n"


def _import(module: str, tasks: Sequence[ParallelRetrieval]) -> list[str]:
    """The lines that import these classes."""
    return _formatted(f"from .{module} import {', '.join(sorted(map(_class, tasks)))}\n").splitlines()
