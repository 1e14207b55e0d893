"""What mteb's results repository takes: runs held against its rules, and copied into its layout.

`check` holds one run against the rules of the results repository, as its tests and workflows state them; `RULES` names
them. `write_submission` copies what may be offered into the layout of that repository. Per-query tables, signatures and
runs with options stay behind: no reader of mteb's knows them.
"""

from __future__ import annotations

import importlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.data.files import atomic
from hybrid_bench.data.parsing import parse_json, read_json
from hybrid_bench.errors import DataError, RequestError, listed, reason
from hybrid_bench.languages import did_you_mean

# mteb is imported where it is needed: the command line answers `--help` without.

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask
    from mteb.results import TaskResult

__all__ = ["META_FILE", "RULES", "Problem", "check", "scores_by_subset", "write_file", "write_submission"]

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

META_FILE = "model_meta.json"
"""What mteb tells of a run's model."""

MAX_BYTES = 10 * 1024 * 1024
"""The results repository's workflow refuses a file that is larger."""

LARGEST_CHANGE = 0.001
"""The results repository's tests refuse an update that changes a main score by more."""

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
    contents[META_FILE] = (offer.folder / META_FILE).read_bytes()
    for name, content in contents.items():
        write_file(target / name, content)
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
    for path in [*offer.results.values(), folder / META_FILE, folder / _SETTINGS]:
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
    files = {path.stem: path for path in sorted(folder.glob("*.json")) if path.name != META_FILE}
    if files or (folder / META_FILE).is_file():
        return files
    runs = sorted({path.parent for path in folder.glob(f"**/{META_FILE}") if "superseded" not in path.parts})
    near = f"did you mean {runs[0]}?" if runs else "`hybrid-bench run` makes one"
    raise RequestError(f"{run} is not the folder of one run, there is no {META_FILE} in it: {near}")


def _of_a_run(path: Path) -> bool:
    """Whether this is one of the files that a run has besides its results: mteb's, or ours, which stay behind."""
    ours = path.name in ("signatures.jsonl", "experiments", "superseded") or path.name.endswith(".queries.parquet")
    return ours or path.name in (META_FILE, _SETTINGS) or path.name.startswith(".")


def _check_model(offer: _Offer) -> None:
    """The rules about ``model_meta.json`` and what the folder is called."""
    from mteb.models.model_meta import ModelMeta

    path = offer.folder / META_FILE
    try:
        told = read_json(path, nan=True)
        name, revision = told["name"], told["revision"]
        # As the results repository reads it: the loader is a name there, and one entry is from before `model_type`.
        ModelMeta.model_validate({key: told[key] for key in told if key != "is_cross_encoder"} | {"loader": None})
    except FileNotFoundError:
        offer.add("model-meta", META_FILE, "missing: run the model again, mteb writes it with every result")
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else _one_line(error)
        offer.add("model-meta", META_FILE, f"mteb cannot read it ({reason}): run the model again")
        return
    if not isinstance(name, str):
        offer.add("model-meta", META_FILE, f"the model's name is {name!r}: it must be 'organisation/model'")
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
            META_FILE,
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
            META_FILE,
            f"{name} is embedded in this package and no model of mteb's: offer mteb's own baselines "
            "(mteb/baseline-bm25s, mteb/baseline-random-encoder) instead",
        )
    elif name.startswith("local/"):
        offer.add("model", META_FILE, f"{name} is a folder on this machine: publish the model, {adding}")
    elif name not in MODEL_REGISTRY:
        offer.add("model", META_FILE, f"mteb does not have {name}: {adding}")
    elif MODEL_REGISTRY[name].revision != revision:
        offer.add(
            "model",
            META_FILE,
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
            entry = parse_json(line)
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
        result = scores_by_subset(result_path)
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
        old, new = scores_by_subset(model / offer.folder.name / f"{name}.json"), scores_by_subset(path)
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


def scores_by_subset(path: Path) -> dict[tuple[str, str], Any]:
    """The scores in a result file by split and subset; empty for none, and for what is told to be unreadable."""
    try:
        told = read_json(path, nan=True)["scores"]
        return {(split, entry["hf_subset"]): entry for split, entries in told.items() for entry in entries}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _lines(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def _task_of_line(line: str) -> Any:
    """The task of a line of settings; None if it cannot be told."""
    try:
        return parse_json(line)["task"]
    except (ValueError, TypeError, KeyError):
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def write_file(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, with the folders above it."""
    try:
        with atomic(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise DataError(f"cannot write {path} ({reason(error)}): choose another folder") from error
