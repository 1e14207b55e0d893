"""What mteb's maintainers take: results for their results repository, and tasks for mteb itself.

`check` holds one run against the rules of the results repository, as its tests and workflows state them; `RULES` names
them. `write_submission` copies what may be offered into the layout of that repository. Per-query tables, signatures and
runs with options stay behind: no reader of mteb's knows them.

`write_task_pr` writes a task of ours as mteb's own contributors would: a class on mteb's own retrieval task that needs
nothing of this package, its data in the layout of the Hub, its statistics, and the texts of the pull request.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.errors import DataError, RequestError, listed
from hybrid_bench.languages import did_you_mean

# mteb, datasets and pyarrow are imported where they are needed: the command line answers `--help` without.

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.results import TaskResult

    from hybrid_bench.data.collection import Passages
    from hybrid_bench.evaluation.tasks import ParallelRetrieval

__all__ = ["RULES", "Problem", "check", "write_submission", "write_task_pr"]

#: The rules of the results repository, by the name that a `Problem` gives them.
RULES: Mapping[str, str] = {
    "layout": "a run lies in <org__model>/<revision>/, named as its model_meta.json names model and revision",
    "experiments": "a run with options is not offered: mteb cannot repeat it",
    "model-meta": "model_meta.json is there, and mteb can read it",
    "revision": "the model's revision is a commit hash, or one character for a versioned service",
    "model": "mteb has an implementation of the model",
    "task": "mteb knows the task",
    "readable": "mteb reads every result file",
    "file-name": "a result file is named after its task",
    "dataset-revision": "a result was made on the revision of the data set that the task has",
    "coverage": "a result has all splits and subsets of its task, and no others",
    "languages": "a subset's languages are those of the task",
    "main-score": "every subset has the task's main score, in range",
    "duplicate": "a subset is there once, and a task in one revision of a model only",
    "run-settings": "run_settings.jsonl tells the settings of every split and subset, once",
    "size": "no file is larger than 10 MB",
    "removed": "an update of a result loses no split, subset or language",
    "changed": "an update of a result changes no main score by more than 0.001",
    "extra": "nothing but result files lies in the folder",
    "nothing": "there is a result to offer",
}

MAX_BYTES = 10 * 1024 * 1024
"""The results repository's workflow refuses a file that is larger."""

LARGEST_CHANGE = 0.001
"""The results repository's tests refuse an update that changes a main score by more."""

PR_LENGTH = 2000
"""mteb marks pull requests with a longer description, and its reviewers may close them unread."""

_META = "model_meta.json"
_SETTINGS = "run_settings.jsonl"
_SETTINGS_KEYS = {"task", "version", "encode_kwargs"}
_NAMED = 5  # so many subsets are named in a message, the rest is counted
_ADDING_A_MODEL = "https://embeddings-benchmark.github.io/mteb/contributing/adding_a_model/"


@dataclass(frozen=True)
class Problem:
    """What keeps a run from being offered, or what whoever offers it should know.

    Attributes:
        rule: A key of `RULES`.
        place: The file or folder, as ``<org__model>/<revision>/...``, where it helps with split, subset or line.
        message: What is wrong, and what to do.
        blocking: Whether the run cannot be offered like this; a note otherwise.
    """

    rule: str
    place: str
    message: str
    blocking: bool = True

    def __str__(self) -> str:
        return f"{'' if self.blocking else 'note: '}{self.place}: {self.message} [{self.rule}]"


# -- results ----------------------------------------------------------------------------------------------------------


@dataclass
class _Offer:
    """What was found in a run's folder.

    Attributes:
        folder: The folder, resolved.
        problems: What is wrong with it.
        results: The result files to offer, by task.
    """

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    results: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder as the results repository will call it."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    def add(self, rule: str, place: str, message: str, *, blocking: bool = True) -> None:
        """Note a problem; `place` is relative to the folder, empty for the folder itself."""
        self.problems.append(Problem(rule, f"{self.name}/{place}".rstrip("/"), message, blocking))


def check(run: Path, tasks: Iterable[str] | None = None, repository: Path | None = None) -> list[Problem]:
    """Hold one run against every rule of the results repository.

    A task that only this package has is a note: the repository takes its results, but shows them once mteb has the
    task. Results of tasks that are not public, as those of the demonstration, are left out with a note, unless they are
    asked for by name.

    Args:
        run: Folder of the run, ``<output>/results/<org__model>/<revision>``.
        tasks: Names of the tasks whose results are to be offered; None for all that can be.
        repository: A checkout of the results repository, or another folder with ``results/`` in it, that the run will
            be added to; None for none.

    Returns:
        The problems, blocking ones first; those of a result file together.

    Raises:
        RequestError: If this is not the folder of one run, or holds no result of a named task.
    """
    found = _examine(run, tasks, repository).problems
    return sorted(found, key=lambda problem: not problem.blocking)


def write_submission(run: Path, out: Path, tasks: Iterable[str] | None = None) -> list[Path]:
    """Copy what may be offered of a run into the layout of the results repository.

    Args:
        run: As for `check`.
        out: A checkout of the results repository, or a folder to make. Settings of other tasks in it are kept.
        tasks: As for `check`.

    Returns:
        The files written: the results, ``model_meta.json`` and ``run_settings.jsonl``.

    Raises:
        DataError: If `check` finds a blocking problem, then nothing was written; or if a file cannot be written.
        RequestError: As `check`, or if `out` is the run's own output folder.
    """
    offer = _examine(run, tasks, out)
    target = out / "results" / offer.folder.parent.name / offer.folder.name
    if target.resolve() == offer.folder:
        raise RequestError(f"{out} is where the run itself lies: give --out another folder")
    blocking = [problem for problem in offer.problems if problem.blocking]
    if blocking:
        shown = listed((f"{problem.place}: {problem.message}" for problem in blocking), between="; ")
        raise DataError(
            f"{run} cannot be offered, {len(blocking)} problem(s): {shown} (`hybrid-bench submit --check {run}` "
            "lists them)"
        )
    settings = _lines(offer.folder / _SETTINGS)
    earlier = _lines(target / _SETTINGS) if (target / _SETTINGS).is_file() else []
    kept = [line for line in earlier if _task_of_line(line) not in offer.results]
    offered = [line for line in settings if _task_of_line(line) in offer.results]
    contents = {path.name: path.read_bytes() for path in offer.results.values()}
    contents[_SETTINGS] = "".join(f"{line}\n" for line in [*kept, *offered]).encode()
    contents[_META] = (offer.folder / _META).read_bytes()
    for name, content in contents.items():
        _write(target / name, content)
    return [target / name for name in contents]


def _examine(run: Path, tasks: Iterable[str] | None, repository: Path | None) -> _Offer:
    offer = _Offer(run.resolve())
    folder = offer.folder
    files = _result_files(run, folder)
    if folder.parent.name == "experiments":
        offer = _Offer(folder.parents[1])
        offer.add(
            "experiments",
            f"experiments/{folder.name}",
            "this run was made with options, which mteb's own tasks do not have: offer a run without them, "
            f"{folder.parents[1]}",
        )
        return offer
    _check_model(offer)
    if tasks is not None:
        wanted = list(tasks)
        for name in wanted:
            if name not in files:
                raise RequestError(f"{run} has no result of '{name}': {did_you_mean(name, files)}")
        files = {name: files[name] for name in wanted}
    for name, path in files.items():
        task = _task(name)
        if tasks is None and task is not None and _ours(name) and not task.metadata.is_public:
            offer.add("task", path.name, "of a demonstration that only this package carries: left out", blocking=False)
            continue
        offer.results[_check_result(offer, path)] = path
    if not offer.results:
        offer.add("nothing", "", "no result to offer: run a published collection, for example `--tasks XQuAD-R`")
    _check_settings(offer)
    for path in [*offer.results.values(), folder / _META, folder / _SETTINGS]:
        size = path.stat().st_size if path.is_file() else 0
        if size > MAX_BYTES:
            offer.add(
                "size",
                path.name,
                f"{size} bytes, but at most {MAX_BYTES} are taken: write it without indentation and spaces "
                "(`make pre-push` in the results repository does)",
            )
    left_out = sorted(path.name for path in folder.iterdir() if path.suffix != ".json" and not _of_a_run(path))
    if left_out:
        offer.add("extra", "", f"not part of a run, left out: {', '.join(left_out)}", blocking=False)
    if repository is not None:
        _check_update(offer, repository)
    return offer


def _result_files(run: Path, folder: Path) -> dict[str, Path]:
    """The JSON files that should be results, by their name's stem."""
    if not folder.is_dir():
        raise RequestError(f"{run} is not a folder: give that of a run, <output>/results/<org__model>/<revision>")
    files = {path.stem: path for path in sorted(folder.glob("*.json")) if path.name != _META}
    if files or (folder / _META).is_file():
        return files
    runs = sorted({path.parent for path in folder.glob(f"**/{_META}") if "superseded" not in path.parts})
    near = f"did you mean {runs[0]}?" if runs else "`hybrid-bench run` makes one"
    raise RequestError(f"{run} is not the folder of one run, there is no {_META} in it: {near}")


def _of_a_run(path: Path) -> bool:
    """Whether this is one of the files that a run has besides its results: mteb's, or ours, which stay behind."""
    ours = path.name in ("signatures.jsonl", "experiments", "superseded") or path.name.endswith(".queries.parquet")
    return ours or path.name in (_META, _SETTINGS) or path.name.startswith(".")


def _check_model(offer: _Offer) -> None:
    """The rules about ``model_meta.json`` and what the folder is called."""
    from mteb.models.model_meta import ModelMeta

    path = offer.folder / _META
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        name, revision = told["name"], told["revision"]
        # As the results repository reads it: the loader is a name there, and one entry is from before `model_type`.
        ModelMeta.model_validate({key: told[key] for key in told if key != "is_cross_encoder"} | {"loader": None})
    except FileNotFoundError:
        offer.add("model-meta", _META, "missing: run the model again, mteb writes it with every result")
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else _one_line(error)
        offer.add("model-meta", _META, f"mteb cannot read it ({reason}): run the model again")
        return
    if not isinstance(name, str):
        offer.add("model-meta", _META, f"the model's name is {name!r}: it must be 'organisation/model'")
        return
    _check_names(offer, name, revision)
    _check_registered(offer, name, revision)


def _check_names(offer: _Offer, name: str, revision: Any) -> None:
    expected = name.replace("/", "__").replace(" ", "_")
    if offer.folder.parent.name != expected:
        offer.add("layout", "", f"the model is '{name}', so the folder must be called {expected}")
    if not isinstance(revision, str) or not (re.fullmatch(r"[0-9a-f]{40}", revision) or len(revision) == 1):
        offer.add(
            "revision",
            _META,
            f"revision {revision!r} is neither a commit hash of 40 hex digits nor one character: run the published "
            "model at a commit",
        )
    if isinstance(revision, str) and revision != offer.folder.name:
        offer.add("layout", "", f"the model's revision is {revision!r}, so the folder must be called that")


def _check_registered(offer: _Offer, name: str, revision: Any) -> None:
    from mteb.models.model_implementations import MODEL_REGISTRY

    from hybrid_bench.engine.lexical import EMBEDDED

    organisation = "<yours>" if name.startswith("local/") else re.sub(r"\W+", "_", name.partition("/")[0]).lower()
    adding = (
        f"add its ModelMeta to mteb, in mteb/models/model_implementations/{organisation}_models.py, and offer results "
        f"once that is merged ({_ADDING_A_MODEL})"
    )
    if name in EMBEDDED:
        offer.add(
            "model",
            _META,
            f"{name} is embedded in this package and no model of mteb's: offer mteb's own baselines "
            "(mteb/baseline-bm25s, mteb/baseline-random-encoder) instead",
        )
    elif name.startswith("local/"):
        offer.add("model", _META, f"{name} is a folder on this machine: publish the model, {adding}")
    elif name not in MODEL_REGISTRY:
        offer.add("model", _META, f"mteb does not have {name}: {adding}")
    elif MODEL_REGISTRY[name].revision != revision:
        offer.add(
            "model",
            _META,
            f"mteb's implementation is at revision {MODEL_REGISTRY[name].revision}: a result of the same task at that "
            "one takes precedence",
            blocking=False,
        )


def _task(name: str) -> AbsTask | None:
    """The task of this name with all its splits and subsets, if mteb knows it by now."""
    registry: Mapping[str, type[AbsTask]] = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
    return registry[name]() if name in registry else None


def _ours(name: str) -> bool:
    from hybrid_bench.evaluation.registry import task_classes

    return name in task_classes()


def _check_result(offer: _Offer, path: Path) -> str:
    """The rules about one result file; returns the name of the task that it is about."""
    from mteb.results import TaskResult

    try:
        result = TaskResult.from_disk(path, load_historic_data=False)
    except (OSError, ValueError) as error:
        reason = _one_line(error.__cause__ or error)  # without the advice that mteb puts before it
        offer.add("readable", path.name, f"mteb cannot read it ({reason}): run it again, or move it away")
        return path.stem
    name = result.task_name
    if name != path.stem:
        offer.add("file-name", path.name, f"it holds {name}: call it {name}.json")
    task = _task(name)
    if task is None:
        offer.add(
            "task", path.name, f"neither mteb nor this package has a task '{name}': offer results of mteb's tasks"
        )
        return name
    if _ours(name) and not task.metadata.is_public:
        offer.add("task", path.name, f"{name} is a demonstration, whose data are in this package only: leave it out")
    elif _ours(name):
        offer.add(
            "task",
            path.name,
            f"mteb does not have {name}: offer the task first (`hybrid-bench submit --task-pr DIR {name}`). The "
            "results repository takes the file as it is, but nothing shows it until mteb has the task",
            blocking=False,
        )
    if result.dataset_revision != task.metadata.revision:
        offer.add(
            "dataset-revision",
            path.name,
            f"made on revision {result.dataset_revision}, but the task has {task.metadata.revision}: run it again",
        )
    _check_coverage(offer, path, task, result)
    for split, entries in result.scores.items():
        for entry in entries:
            _check_entry(offer, f"{path.name}: {split}, {entry['hf_subset']}", task, entry)
    return name


def _check_coverage(offer: _Offer, path: Path, task: AbsTask, result: TaskResult) -> None:
    subsets = {"default"} if task.is_aggregate else set(task.hf_subsets)
    expected = {(split, subset) for split in task.eval_splits for subset in subsets}
    times = Counter((split, entry["hf_subset"]) for split, entries in result.scores.items() for entry in entries)
    repeated = [key for key, count in times.items() if count > 1]
    for what, keys, fix in (
        ("lacks", expected - times.keys(), "run the whole task, without --settings and --languages"),
        ("has unknown", times.keys() - expected, "run the task again with the present mteb"),
    ):
        if keys:
            named = listed(sorted(keys), _NAMED, form=" ".join)
            offer.add(
                "coverage", path.name, f"{what} {named} ({len(expected)} in the task, by split and subset): {fix}"
            )
    if repeated:
        named = listed(repeated, _NAMED, form=" ".join)
        offer.add("duplicate", path.name, f"{named} is there more than once: run the task again")


def _check_entry(offer: _Offer, place: str, task: AbsTask, entry: Any) -> None:
    """The rules about the scores of one subset."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    expected = task.metadata.hf_subsets_to_langscripts.get(entry["hf_subset"])
    if expected is not None and not task.is_aggregate and list(entry["languages"]) != list(expected):
        told = ", ".join(map(str, entry["languages"])) or "none"
        offer.add("languages", place, f"languages are {told}, but the task has {', '.join(expected)}: run it again")
    score, main = entry["main_score"], task.metadata.main_score
    lowest = 0 if isinstance(task, AbsTaskRetrieval) else -1
    if not _is_number(score) or not lowest <= score <= 1:  # which NaN is not either
        offer.add("main-score", place, f"main_score is {score!r}, not a number from {lowest} to 1: run the task again")
    elif _is_number(entry.get(main)) and not math.isclose(entry[main], score, abs_tol=1e-6):
        offer.add("main-score", place, f"main_score is {score}, but the task's, {main}, is {entry[main]}: run it again")


def _check_settings(offer: _Offer) -> None:
    """Every split and subset of every offered result has its settings, as mteb writes them."""
    path = offer.folder / _SETTINGS
    again = "run the task again, mteb writes it with every result"
    if not path.is_file():
        if offer.results:
            offer.add("run-settings", _SETTINGS, f"missing: {again}")
        return
    told: Counter[tuple[str, str, str]] = Counter()
    for number, line in enumerate(_lines(path), start=1):
        try:
            entry = json.loads(line)
            missing = _SETTINGS_KEYS - entry.keys()
            splits = entry["splits"] if "splits" in entry else [entry["split"]]
            subsets = entry["subsets"] if "subsets" in entry else [entry["subset"]]
            told.update((entry["task"], split, subset) for split in splits for subset in subsets)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            offer.add("run-settings", f"{_SETTINGS}:{number}", f"mteb did not write this line ({error}): {again}")
            continue
        if missing:
            names = ", ".join(sorted(missing))
            offer.add("run-settings", f"{_SETTINGS}:{number}", f"lacks {names}: {again}")
    for name, result_path in offer.results.items():
        result = _scores(result_path)
        untold = [key for key in result if (name, *key) not in told]
        twice = [key for key in result if told[(name, *key)] > 1]
        for what, keys in (("tells nothing of", untold), ("tells twice of", twice)):
            if keys:
                named = listed(keys, _NAMED, form=" ".join)
                offer.add("run-settings", _SETTINGS, f"{what} {name}: {named}; {again}")


def _check_update(offer: _Offer, repository: Path) -> None:
    """The rules about what the repository has already."""
    model = repository / "results" / offer.folder.parent.name
    for name, path in offer.results.items():
        for other in sorted(model.glob(f"*/{name}.json")):
            if other.parent.name != offer.folder.name:
                offer.add(
                    "duplicate",
                    path.name,
                    f"the repository has it at revision {other.parent.name}: a task may stand in one revision of a "
                    f"model only; delete {other} if that one is out of date",
                )
        old, new = _scores(model / offer.folder.name / f"{name}.json"), _scores(path)
        lost = [key for key in old if key not in new]
        if lost:
            named = listed(lost, _NAMED, form=" ".join)
            offer.add("removed", path.name, f"the repository has {named}, which this result lacks: run the whole task")
        for key in old.keys() & new.keys():
            place = f"{path.name}: {', '.join(key)}"
            languages = set(old[key].get("languages", ())) - set(new[key].get("languages", ()))
            if languages:
                offer.add("removed", place, f"the repository's entry has {', '.join(sorted(languages))} too")
            before, now = old[key].get("main_score"), new[key].get("main_score")
            if _is_number(before) and _is_number(now) and abs(before - now) > LARGEST_CHANGE:
                offer.add(
                    "changed",
                    place,
                    f"main_score was {before:.4f} and is {now:.4f}: find out why; a new one is taken only with its "
                    "reason told in the pull request",
                )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scores(path: Path) -> dict[tuple[str, str], Any]:
    """The scores in a result file by split and subset; empty for none, and for what is told to be unreadable."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["scores"]
        return {(split, entry["hf_subset"]): entry for split, entries in told.items() for entry in entries}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def _task_of_line(line: str) -> Any:
    """The task of a line of settings; None if it cannot be told."""
    try:
        return json.loads(line)["task"]
    except (ValueError, TypeError, KeyError):
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _write(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, with the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing") as scratch:
            beside = Path(scratch) / path.name
            beside.write_bytes(content)
            beside.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}): choose another folder") from error


# -- tasks ------------------------------------------------------------------------------------------------------------

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
        _write(out / name, text.encode())
        written.append(out / name)

    groups: dict[str, list[ParallelRetrieval]] = defaultdict(list)
    for task in chosen:
        groups[_module(task)].append(task)
    for module, together in groups.items():
        write(f"{_TASKS_FOLDER}/{module}.py", _source(together))
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
    return re.sub(r"\W+", "_", task.collection_name).lower() + "_retrieval"


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


def _source(tasks: Sequence[ParallelRetrieval]) -> str:
    """The module with the classes of these tasks, formatted as mteb formats its own."""
    parts = [
        "from mteb.abstasks.retrieval import AbsTaskRetrieval\nfrom mteb.abstasks.task_metadata import TaskMetadata\n"
    ]
    constants = {type(task).__name__: f"_{_constant(task)}_LANGS" for task in tasks}
    for task in tasks:
        languages = task.metadata.eval_langs
        parts.append(f"{constants[type(task).__name__]} = {_rendered(languages, 0, _WIDTH)}\n")
    body = "\n".join(parts)
    for task in tasks:
        name = type(task).__name__
        metadata = _offered(task.metadata)
        lines = [f"class {name}(AbsTaskRetrieval):", "    metadata = TaskMetadata("]
        for entry in _FIELDS:
            value = getattr(metadata, entry)
            if entry == "eval_langs":
                lines.append(f"        eval_langs={constants[name]},")
            elif entry == "bibtex_citation":
                lines.append(f'        bibtex_citation=r"""{value}""",' if value else '        bibtex_citation="",')
            elif value is not None:
                width = _WIDTH if entry == "dataset" else len(entry) + 9
                lines.append(f"        {entry}={_rendered(value, 8, width)},")
        lines.append("    )")
        body += "\n\n" + "\n".join(lines) + "\n"
    return body


def _constant(task: ParallelRetrieval) -> str:
    return re.sub(r"\W+", "_", task.metadata.name).upper()


def _rendered(value: Any, indent: int, before: int) -> str:
    """A value as source: on one line where it fits after `before` characters, else one item a line."""
    flat = _flat(value)
    if before + len(flat) + 1 <= _WIDTH or not isinstance(value, (list, tuple, dict)) or not value:
        return flat
    opening, closing = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}")}[type(value)]
    inside = indent + 4
    if isinstance(value, dict):
        items = [
            f"{_flat(key)}: {_rendered(item, inside, inside + len(_flat(key)) + 2)}" for key, item in value.items()
        ]
    else:
        items = [_rendered(item, inside, inside) for item in value]
    return f"{opening}\n" + "".join(f"{' ' * inside}{item},\n" for item in items) + f"{' ' * indent}{closing}"


def _flat(value: Any) -> str:
    """A value as source, on one line."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        # Where that saves escapes the formatter wants the other quotes.
        return f"'{value}'" if '"' in value and "'" not in value and "\\" not in value else text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flat(key)}: {_flat(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_flat, value)) + (",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return "[" + ", ".join(map(_flat, value)) + "]"
    return repr(value)


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
    _write(folder / "README.md", _card(task, configs).encode())
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
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing") as scratch:
            beside = Path(scratch) / path.name
            with pq.ParquetWriter(beside, schema, compression="zstd") as file:
                for columns in batches:
                    file.write_table(pa.table(columns, schema=schema))
            beside.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}): choose another folder") from error


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
        meta = run / _META
        try:
            model = str(json.loads(meta.read_text(encoding="utf-8"))["name"])
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{meta} does not tell a model's name ({error}): run the model again") from error
        for task in tasks:
            scores = _scores(run / f"{task.metadata.name}.json")
            main = _offered(task.metadata).main_score
            values = [entry[main] for entry in scores.values() if main in entry]
            if len(values) == len(task.metadata.hf_subsets) * len(task.metadata.eval_splits):
                found.setdefault(model, {})[task.metadata.name] = sum(values) / len(values)
    others = [model for model in found if model != _BASELINE]
    small = _SMALL if _SMALL in others else next(iter(others), None)
    return {model: found[model] for model in (_BASELINE, small) if model is not None and model in found}


def _runs_below(path: Path) -> list[Path]:
    """The folders of the runs without options that lie here: this one, or those of an output folder."""
    found = [path] if (path / _META).is_file() else sorted(meta.parent for meta in path.glob(f"**/{_META}"))
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
    """The entry of the benchmark that this package registers, with these tasks, formatted as mteb formats its own."""
    import mteb

    from hybrid_bench.evaluation.registry import BENCHMARK

    benchmark = mteb.get_benchmark(BENCHMARK)
    lines = [
        "HYBRID_BENCH = Benchmark(",
        f"    name={_flat(benchmark.name)},",
        "    tasks=get_tasks(",
        f"        tasks={_rendered([task.metadata.name for task in tasks], 8, 14)},",
        "    ),",
        f"    description={_flat(benchmark.description)},",
        f"    reference={_flat(str(benchmark.reference))},",
        f'    citation=r"""\n{(benchmark.citation or "").strip()}\n""",',
        ")",
    ]
    return "\n".join(lines) + "\n"


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
            f"and to `__all__` there: {', '.join(sorted(_flat(type(task).__name__) for task in tasks))}.",
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
    """The line that imports these classes, as mteb's formatter breaks it."""
    classes = sorted(type(task).__name__ for task in tasks)
    line = f"from .{module} import {', '.join(classes)}"
    if len(line) <= _WIDTH:
        return [line]
    return [f"from .{module} import (", *(f"    {name}," for name in classes), ")"]
