"""What is offered to mteb: runs held against the rules of its results repository.

The runs are real ones, most of them of mteb's own random baseline: mteb knows that model, so the only thing that keeps
a run of it from being offered is what a test breaks.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mteb
import pytest

from helpers import run_folder
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.exchange import mteb_results
from hybrid_bench.exchange.mteb_results import RULES, Problem, check, write_submission

BASELINE = "mteb/baseline-random-encoder"
TASK = "HybridDemo-Multilingual"
FILE = f"{TASK}.json"
META = "model_meta.json"
SETTINGS = "run_settings.jsonl"
#: What is wrong with every result of the demonstration that is to be offered.
DEMO = f"{TASK} is a demonstration, whose data are in this package only: leave it out"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random baseline on the demonstration."""
    return run_folder([BASELINE], ["HybridDemo"], tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """The random baseline on a published task, and on the demonstration besides."""
    output = tmp_path_factory.mktemp("published")
    return run_folder([BASELINE], ["XQuAD-R-Multilingual", TASK], output, data_dir=data_dir)


@pytest.fixture
def copied(demo: Path, tmp_path: Path) -> Path:
    """The first run, to be broken."""
    target = tmp_path / "results" / demo.parent.name / demo.name
    shutil.copytree(demo, target)
    return target


def told(problems: list[Problem], *, blocking: bool) -> list[tuple[str, str]]:
    return [(problem.rule, problem.place) for problem in problems if problem.blocking is blocking]


# -- runs that are as they should be ----------------------------------------------------------------------------------


def test_a_run_of_an_embedded_model_on_the_demonstration(tmp_path: Path) -> None:
    """Both are for trying things: all else about the run is right."""
    folder = run_folder(["hybrid_bench/char-ngram"], ["HybridDemo"], tmp_path)
    name = "hybrid_bench__char-ngram/" + folder.name
    problems = check(folder)
    assert told(problems, blocking=True) == [("model", f"{name}/model_meta.json"), ("nothing", name)]
    assert told(problems, blocking=False) == [
        ("task", f"{name}/HybridDemo-Multilingual.json"),
        ("task", f"{name}/HybridDemo-Pairs.json"),
    ]
    assert "embedded in this package" in problems[0].message
    named = check(folder, tasks=["HybridDemo-Pairs"])
    assert [problem.rule for problem in named] == ["model", "task"]


def test_a_run_of_a_known_model_on_the_demonstration(demo: Path) -> None:
    (problem,) = check(demo, tasks=[TASK])
    assert problem == Problem("task", f"mteb__baseline-random-encoder/{demo.name}/{FILE}", DEMO)
    assert str(problem) == f"mteb__baseline-random-encoder/{demo.name}/{FILE}: {DEMO} [task]"


def test_a_run_of_a_known_model_on_a_published_task(published: Path) -> None:
    problems = check(published)
    assert told(problems, blocking=True) == []
    assert [(problem.rule, Path(problem.place).name) for problem in problems] == [
        ("task", "HybridDemo-Multilingual.json"),
        ("task", "XQuAD-R-Multilingual.json"),
    ]
    assert "--task-pr DIR XQuAD-R-Multilingual" in problems[1].message
    assert str(problems[1]).startswith("note: mteb__baseline-random-encoder/")


def test_a_path_may_be_relative(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    assert [problem.message for problem in check(Path(), tasks=[TASK])] == [DEMO]


def test_a_run_with_options_is_not_offered(tmp_path: Path) -> None:
    folder = run_folder([BASELINE], [TASK], tmp_path, pool_languages=["de", "en"], languages=["de"])
    assert folder.parent.name == "experiments"
    (problem,) = check(folder)
    assert (problem.rule, problem.blocking) == ("experiments", True)
    assert problem.place.endswith(f"experiments/{folder.name}")
    with pytest.raises(DataError, match="made with options"):
        write_submission(folder, tmp_path / "out")


# -- broken runs ------------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file; `change` works in place, or returns what is to stand there."""
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(value) or value), encoding="utf-8")


def in_result(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / FILE, change)


def in_scores(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    """Change the list of the subsets' scores in place."""

    def changed(result: Any) -> None:
        change(result["scores"]["test"])

    return in_result(changed)


def in_meta(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / META, lambda meta: meta | values)


def in_meta_without(name: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder / META, lambda meta: {key: meta[key] for key in meta if key != name})


def in_settings(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    """Change the list of the lines in place."""

    def changed(folder: Path) -> None:
        path = folder / SETTINGS
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        change(entries)
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")

    return changed


def all_of(*changes: Callable[[Path], Any]) -> Callable[[Path], Path | None]:
    def changed(folder: Path) -> Path | None:
        for change in changes:
            folder = change(folder) or folder
        return folder

    return changed


def moved(model: str | None = None, revision: str | None = None) -> Callable[[Path], Path]:
    """Rename the folder of the model or of the revision."""

    def change(folder: Path) -> Path:
        target = folder.parents[1] / (model or folder.parent.name) / (revision or folder.name)
        target.parent.mkdir(exist_ok=True)
        return folder.rename(target)

    return change


def renamed_task(folder: Path) -> None:
    """A task that nobody has, in all files."""
    edit(folder / FILE, lambda result: result | {"task_name": "Nobodys"})
    (folder / FILE).rename(folder / "Nobodys.json")
    in_settings(lambda entries: [entry.update(task="Nobodys") for entry in entries if entry["task"] == TASK])(folder)


def appended(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return change


PADDING = " " * mteb_results.MAX_BYTES


@dataclass(frozen=True)
class Broken:
    """A way to break a run, and the one fault that it is."""

    what: str
    change: Callable[[Path], Any]
    rule: str
    message: str
    place: str = FILE
    task: str = TASK


COMMIT = "0123456789abcdef0123456789abcdef01234567"
BROKEN = [
    Broken("model's folder", moved(model="mteb__other"), "layout", "must be called mteb__baseline-random", ""),
    Broken("revision's folder", moved(revision=COMMIT), "layout", "the folder must be called that", ""),
    Broken("no metadata", lambda folder: (folder / META).unlink(), "model-meta", "missing", META),
    Broken("no JSON", lambda f: (f / META).write_text("{"), "model-meta", "cannot read", META),
    Broken("a list", lambda f: (f / META).write_text("[]"), "model-meta", "cannot read", META),
    Broken("no organisation", in_meta(name="random"), "model-meta", "'organization/model_name'", META),
    Broken("no name", in_meta(name=None), "model-meta", "name is None", META),
    Broken("null revision", in_meta(revision=None), "revision", "None is neither a commit hash", META),
    Broken("no revision", in_meta_without("revision"), "model-meta", "no 'revision'", META),
    Broken(
        "a branch",
        all_of(in_meta(revision="main"), moved(revision="main")),
        "revision",
        "'main' is neither a commit hash",
        META,
    ),
    Broken(
        "unknown model",
        all_of(in_meta(name="acme corp/model-1"), moved(model="acme_corp__model-1")),
        "model",
        "mteb/models/model_implementations/acme_corp_models.py",
        META,
    ),
    Broken(
        "local model",
        all_of(in_meta(name="local/mine", revision=COMMIT), moved(model="local__mine", revision=COMMIT)),
        "model",
        "publish the model",
        META,
    ),
    Broken("truncated result", lambda f: (f / FILE).write_text((f / FILE).read_text()[:-9]), "readable", "cannot read"),
    Broken("result of nothing", lambda f: (f / FILE).write_text("{}"), "readable", "Field required"),
    Broken("no main score", in_scores(lambda entries: entries[0].pop("main_score")), "readable", "main_score"),
    Broken(
        "misnamed result",
        lambda folder: (folder / FILE).rename(folder / "Other.json"),
        "file-name",
        f"call it {FILE}",
        "Other.json",
        "Other",
    ),
    Broken("unknown task", renamed_task, "task", "neither mteb nor this package", "Nobodys.json", "Nobodys"),
    Broken("old data", in_result(lambda result: result | {"dataset_revision": "0"}), "dataset-revision", "revision 0"),
    Broken("missing subset", in_scores(lambda entries: entries.pop(3)), "coverage", "lacks test en (11 in the task"),
    Broken("no split", in_result(lambda result: result | {"scores": {}}), "coverage", "test es and 6 more (11 in"),
    Broken(
        "unknown subset",
        all_of(
            in_scores(lambda entries: entries.append(entries[0] | {"hf_subset": "xx"})),
            in_settings(lambda entries: [entry["subsets"].append("xx") for entry in entries]),
        ),
        "coverage",
        "has unknown test xx",
    ),
    Broken(
        "other languages",
        in_scores(lambda entries: entries[3].update(languages=["deu-Latn"])),
        "languages",
        "languages are deu-Latn, but the task has eng-Latn",
        f"{FILE}: test, en",
    ),
    Broken(
        "per cent",
        in_scores(lambda entries: entries[1].update(main_score=12.5, map=12.5)),
        "main-score",
        "12.5, not a number from 0 to 1",
        f"{FILE}: test, de",
    ),
    Broken(
        "not a number",
        in_scores(lambda entries: entries[1].update(main_score=math.nan, map=math.nan)),
        "main-score",
        "nan, not a number",
        f"{FILE}: test, de",
    ),
    Broken(
        "no number",
        in_scores(lambda entries: entries[1].update(main_score=None)),
        "main-score",
        "None, not a number",
        f"{FILE}: test, de",
    ),
    Broken(
        "another measure",
        in_scores(lambda entries: entries[1].update(main_score=entries[1]["ndcg_at_10"])),
        "main-score",
        "but the task's, map, is",
        f"{FILE}: test, de",
    ),
    Broken(
        "twice", in_scores(lambda entries: entries.append(entries[0])), "duplicate", "test ar is there more than once"
    ),
    Broken(
        "no settings",
        lambda folder: (folder / SETTINGS).unlink(),
        "run-settings",
        "missing",
        SETTINGS,
    ),
    Broken(
        "settings of others",
        in_settings(lambda entries: entries.remove(next(entry for entry in entries if entry["task"] == TASK))),
        "run-settings",
        f"tells nothing of {TASK}: test ar, test de, test el, test en, test es and 6 more",
        SETTINGS,
    ),
    Broken(
        "settings of some subsets",
        in_settings(lambda entries: [entry.update(subsets=entry["subsets"][2:]) for entry in entries]),
        "run-settings",
        f"tells nothing of {TASK}: test ar, test de;",
        SETTINGS,
    ),
    Broken(
        "settings twice",
        in_settings(lambda entries: entries.append(entries[-1] | {"subsets": ["el"]})),
        "run-settings",
        f"tells twice of {TASK}: test el;",
        SETTINGS,
    ),
    Broken(
        "settings without versions",
        in_settings(lambda entries: entries[0].pop("version")),
        "run-settings",
        "lacks version",
        "run_settings.jsonl:1",
    ),
    Broken(
        "settings that are none",
        appended(SETTINGS, "[]\n"),
        "run-settings",
        "mteb did not write this line",
        "run_settings.jsonl:3",
    ),
    Broken("large result", appended(FILE, PADDING), "size", "bytes, but at most 10485760"),
    Broken("large settings", appended(SETTINGS, PADDING), "size", "bytes, but at most", SETTINGS),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.what)
def test_a_broken_run_has_exactly_the_fault_it_has(broken: Broken, copied: Path) -> None:
    folder = broken.change(copied)
    folder = folder if isinstance(folder, Path) and folder.is_dir() else copied
    problems = [problem for problem in check(folder, tasks=[broken.task]) if problem.blocking]
    (fault,) = [problem for problem in problems if problem.message != DEMO]
    assert fault.rule == broken.rule
    assert broken.message in fault.message
    assert fault.place == f"{folder.parent.name}/{folder.name}/{broken.place}".rstrip("/")


def test_every_rule_is_tried() -> None:
    elsewhere = {"experiments", "nothing", "removed", "changed", "extra"}
    assert {broken.rule for broken in BROKEN} | elsewhere == set(RULES)


def test_a_newer_reference_implementation_is_noted(copied: Path) -> None:
    in_meta(revision=COMMIT)(copied)
    folder = moved(revision=COMMIT)(copied)
    (note,) = [problem for problem in check(folder, tasks=[TASK]) if not problem.blocking]
    assert note.rule == "model"
    assert "implementation is at revision" in note.message


def test_what_is_no_part_of_a_run_is_left_out(copied: Path) -> None:
    (copied / "predictions").mkdir()
    (copied / "notes.txt").write_text("mine")
    (copied / ".DS_Store").write_text("")
    (copied / "superseded").mkdir()
    (note,) = [problem for problem in check(copied, tasks=[TASK]) if not problem.blocking]
    assert (note.rule, note.message) == ("extra", "not part of a run, left out: notes.txt, predictions")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "",
            r"is not the folder of one run, there is no model_meta\.json in it: did you mean .*/mteb__baseline",
        ),
        ("results/nothing", r"nothing is not a folder: give that of a run, <output>/results/<org__model>/<revision>"),
        ("empty", r"empty is not the folder of one run, .*: `hybrid-bench run` makes one"),
    ],
)
def test_what_is_no_run_is_refused(path: str, message: str, copied: Path) -> None:
    output = copied.parents[2]
    (output / "empty").mkdir()
    with pytest.raises(RequestError, match=message):
        check(output / path)


def test_a_task_without_a_result_is_refused(demo: Path) -> None:
    with pytest.raises(RequestError, match="no result of 'HybridDemo-Pair': did you mean 'HybridDemo-Pairs'"):
        check(demo, tasks=["HybridDemo-Pair"])


# -- submissions ------------------------------------------------------------------------------------------------------


def test_a_submission_holds_what_mteb_reads_and_no_more(published: Path, tmp_path: Path) -> None:
    written = write_submission(published, tmp_path)
    folder = tmp_path / "results" / "mteb__baseline-random-encoder" / published.name
    names = ["XQuAD-R-Multilingual.json", META, SETTINGS]
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert sorted(path.relative_to(folder).as_posix() for path in written) == names
    for name in names[:2]:
        assert (folder / name).read_bytes() == (published / name).read_bytes()
    lines = (folder / names[2]).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["XQuAD-R-Multilingual"]
    assert set(lines) <= set((published / names[2]).read_text(encoding="utf-8").splitlines())
    task = mteb.get_task("XQuAD-R-Multilingual")
    loaded = mteb.ResultCache(tmp_path).load_results(tasks=[task], include_remote=False, validate_and_filter=True)
    ((result,),) = (model.task_results for model in loaded.model_results)
    assert result.main_score == json_mean(published / names[0])
    assert told(check(folder), blocking=True) == []


def json_mean(path: Path) -> Any:
    scores = json.loads(path.read_text(encoding="utf-8"))["scores"]["test"]
    return pytest.approx(sum(entry["main_score"] for entry in scores) / len(scores))


def test_a_submission_with_problems_is_not_written(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError) as caught:
        write_submission(demo, out, tasks=[TASK, "HybridDemo-Pairs"])
    assert str(caught.value).startswith(f"{demo} cannot be offered, 2 problem(s): mteb__baseline-random-encoder/")
    assert DEMO in str(caught.value)
    assert not out.exists()
    with pytest.raises(DataError, match="no result to offer"):
        write_submission(demo, out)


def test_a_submission_over_its_own_run_is_refused(published: Path) -> None:
    before = sorted(published.iterdir())
    with pytest.raises(RequestError, match="is where the run itself lies"):
        write_submission(published, published.parents[2])
    assert sorted(published.iterdir()) == before


def test_a_submission_that_cannot_be_written(published: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot write .*: choose another folder"):
        write_submission(published, tmp_path)


def test_settings_of_other_tasks_are_kept(published: Path, tmp_path: Path) -> None:
    first = write_submission(published, tmp_path)
    settings = next(path for path in first if path.name == SETTINGS)
    other = json.dumps(
        {"task": "STS12", "splits": ["test"], "version": {}, "encode_kwargs": {}, "subsets": ["default"]}
    )
    old = json.loads(settings.read_text(encoding="utf-8")) | {"encode_kwargs": {"batch_size": 7}}
    settings.write_text(f"{other}\n{json.dumps(old)}\n", encoding="utf-8")
    write_submission(published, tmp_path)
    lines = [json.loads(line) for line in settings.read_text(encoding="utf-8").splitlines()]
    assert [line["task"] for line in lines] == ["STS12", "XQuAD-R-Multilingual"]
    assert lines[1]["encode_kwargs"] == {"batch_size": 32}


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """The result in a results repository that has it already."""
    write_submission(published, tmp_path)
    return tmp_path / "results" / published.parent.name / published.name / "XQuAD-R-Multilingual.json"


def test_the_same_result_again_is_no_problem(repository: Path, published: Path) -> None:
    assert told(check(published, repository=repository.parents[3]), blocking=True) == []


@dataclass(frozen=True)
class Earlier:
    """How the repository's result differs, and what is wrong with the new one for that."""

    what: str
    change: Callable[[list[dict[str, Any]]], Any]
    rule: str
    place: str
    message: str


EARLIER = [
    Earlier(
        "score",
        lambda entries: entries[0].update(main_score=entries[0]["main_score"] + 0.01),
        "changed",
        ": test, ar",
        "and is 0.0",
    ),
    Earlier(
        "language",
        lambda entries: entries[0]["languages"].append("eng-Latn"),
        "removed",
        ": test, ar",
        "the repository's entry has eng-Latn too",
    ),
    Earlier(
        "subset",
        lambda entries: entries.append(entries[0] | {"hf_subset": "ro"}),
        "removed",
        "",
        "the repository has test ro, which this result lacks",
    ),
]


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda earlier: earlier.what)
def test_an_update_loses_and_changes_nothing(earlier: Earlier, repository: Path, published: Path) -> None:
    edit(repository, lambda result: earlier.change(result["scores"]["test"]))
    before = repository.read_bytes()
    (problem,) = [problem for problem in check(published, repository=repository.parents[3]) if problem.blocking]
    assert problem.rule == earlier.rule
    assert problem.place == f"mteb__baseline-random-encoder/{published.name}/{repository.name}{earlier.place}"
    assert earlier.message in problem.message
    with pytest.raises(DataError, match="cannot be offered"):
        write_submission(published, repository.parents[3])
    assert repository.read_bytes() == before


def test_a_smaller_change_is_taken(repository: Path, published: Path) -> None:
    edit(repository, lambda result: result["scores"]["test"][0].update(main_score=0.0009))
    assert told(check(published, repository=repository.parents[3]), blocking=True) == []


def test_a_task_stands_in_one_revision_only(repository: Path, published: Path) -> None:
    other = repository.parent.rename(repository.parent.with_name(COMMIT))
    (problem,) = [problem for problem in check(published, repository=repository.parents[3]) if problem.blocking]
    assert problem.rule == "duplicate"
    assert str(other / repository.name) in problem.message
