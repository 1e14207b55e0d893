"""The command line. Tables go to stdout, progress and messages to stderr.

Exit codes: 0 all well; 1 some model or task failed, the rest is saved and shown; 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.cli.arguments import parser
from hybrid_bench.errors import DataError, HybridBenchError, RequestError, of_system, one_line, reason, shown
from hybrid_bench.languages import did_you_mean

if TYPE_CHECKING:
    from hybrid_bench.evaluation.runner import RunRequest
    from hybrid_bench.reporting.document import ReportRequest
    from hybrid_bench.training.config import TrainingConfig

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = False
    try:
        for argument in arguments:
            if "\0" in argument:
                raise RequestError(f"{shown(argument)} has a NUL character in it, which no name and no path can have")
        if arguments[:1] == ["mteb"]:
            return _mteb(arguments[1:])
        options = parser().parse_args(arguments)
        debug = options.debug
        code = int(_COMMANDS[options.command](options))
        sys.stdout.flush()  # here, so that a reader who has gone is met here
        return code
    except HybridBenchError as error:
        if debug:
            traceback.print_exc()
        print(f"hybrid-bench: {one_line(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except KeyboardInterrupt:
        print("hybrid-bench: stopped; what was saved is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has gone: not an error of ours
        sys.stdout = None
        return 0
    except OSError as error:  # a path that was given, or what lies there, cannot be read or written
        if debug:
            traceback.print_exc()
        print(f"hybrid-bench: {one_line(of_system(error))}", file=sys.stderr)
        if error.filename is None:  # stdout cannot be written to, nor when Python ends
            sys.stdout = None
        return 1


def _run(options: argparse.Namespace) -> int:
    if (options.rerank is None) != (options.top_k is None):
        raise RequestError("--rerank RUN and --top-k K go together")
    _quiet()
    from hybrid_bench.evaluation.runner import DEMO, run, to_stderr
    from hybrid_bench.reporting.document import ReportRequest, report
    from hybrid_bench.runs.reading import run_folder

    default_tasks, default_models = ["XQuAD-R"], options.models
    if options.models is None:
        default_tasks, default_models = [DEMO[0]], list(DEMO[1])
    request = _request(
        options,
        models=default_models,
        tasks=options.tasks or default_tasks,
        output=options.output,
        rerank=None if options.rerank is None else run_folder(options.rerank, [options.output]),
        top_k=options.top_k,
        debias=options.debias,
        debias_on=options.debias_on,
        overwrite_strategy=options.overwrite_strategy,
        **_of_model(options),
    )
    outcome = run(request, tell=to_stderr)
    for failure in outcome.failures:
        if options.debug:
            print(failure.trace, file=sys.stderr)
        print(f"hybrid-bench: {one_line(str(failure))}", file=sys.stderr)
    if outcome.folders:
        shown = ReportRequest(outcome.folders, subsets=outcome.subsets, **_form(options.format))
        print(report(shown), end="")
        print(f"saved under {one_line(str(options.output))}", file=sys.stderr)
    if not outcome.failures:
        return 0
    only_requests = all(isinstance(failure.error, RequestError) for failure in outcome.failures)
    return 2 if only_requests and not outcome.folders else 1


def _request(options: argparse.Namespace, **others: Any) -> RunRequest:
    """What the options that choose tasks ask for, with what else a command has to say."""
    from hybrid_bench.evaluation.runner import RunRequest

    return RunRequest(
        settings=options.settings,
        languages=options.languages,
        pool_languages=options.pool_languages,
        data_dir=options.data_dir,
        passage=options.passage,
        pool=options.pool,
        translations=options.translations,
        translation_source=options.translation_source,
        **others,
    )


def _of_model(options: argparse.Namespace) -> dict[str, Any]:
    return _given(options, "device", "batch_size", "embedding_cache", "trust_remote_code")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Of these options those that were given; what the others are by default, is known where they are used."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None and value is not False and value != []}


def _refuse(options: argparse.Namespace, *names: str, unless: bool, where: str) -> None:
    """Refuse options that would change nothing, so that nobody thinks they did.

    Args:
        options: All options.
        names: Those that need something.
        unless: Whether it is there.
        where: What is said of a command without it.

    Raises:
        RequestError: If it is not, and one of them was given.
    """
    useless = [] if unless else list(_given(options, *names))
    if useless:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in useless)
        raise RequestError(f"{flags} would change nothing {where}: leave {'it' if len(useless) == 1 else 'them'} out")


def _export(options: argparse.Namespace) -> int:
    _quiet()
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from hybrid_bench.engine import models
    from hybrid_bench.evaluation.runner import select_tasks, to_stderr
    from hybrid_bench.exchange.export import export_beir, export_trec, ranked_by

    of_model = {}
    if options.to == "trec":
        _refuse(
            options,
            *("device", "batch_size", "embedding_cache"),
            unless=options.model != _BM25,
            where=f"for {_BM25}, which computes no embeddings",
        )
        of_model = _of_model(options)
    request = _request(options, models=(), tasks=options.tasks or ["XQuAD-R"], **of_model)
    selected = select_tasks(request)
    tasks = [task for task in selected if isinstance(task, AbsTaskRetrieval)]
    for task in selected:
        if task not in tasks:
            raise RequestError(f"{task.metadata.name} is no retrieval task: there is nothing to export")
    if options.to == "beir":
        export_beir(tasks, options.out, to_stderr, overwrite=options.overwrite)
        return 0
    trusted = options.trust_remote_code
    model = models.load(models.model_meta(options.model), options.device, trust_remote_code=trusted)
    top = ranked_by(model, {"batch_size": request.batch_size})
    name = str(model.mteb_model_meta.name)
    export_trec(top, tasks, options.out, to_stderr, k=options.top_k, run=name, overwrite=options.overwrite)
    return 0


def _translate(options: argparse.Namespace) -> int:
    from hybrid_bench.exchange.translator import TranslateRequest, translate

    given = {field.name: getattr(options, field.name) for field in fields(TranslateRequest)}
    request = TranslateRequest(**{name: value for name, value in given.items() if value is not None})
    _quiet()
    from hybrid_bench.data.collection import DataOptions
    from hybrid_bench.evaluation.registry import collections
    from hybrid_bench.evaluation.runner import to_stderr

    miracl: Any = collections()["MIRACL"][0].reader
    data = DataOptions(data_dir=options.data_dir)
    outcome = translate(request, lambda language: miracl.topics(data, language), to_stderr)
    done = f"{outcome.translated} queries translated by {outcome.source}, {outcome.kept} were there already"
    print(one_line(f"{outcome.out}: {done}"), file=sys.stderr)
    for count, what in (
        (outcome.cut, f"queries were cut to {request.max_length} tokens before they were translated"),
        (outcome.unfinished, f"translations ended at {request.max_length} tokens: see --max-length"),
        (len(outcome.empty), "queries got no translation; the same command tries them again"),
    ):
        if count:
            print(f"{count} {what}", file=sys.stderr)
    return 1 if outcome.empty else 0


def _submit(options: argparse.Namespace) -> int:
    of_tasks = options.task_pr is not None
    _refuse(options, "runs", "data_dir", unless=of_tasks, where="without --task-pr")
    _refuse(options, "tasks", unless=not of_tasks, where="with --task-pr, after which tasks are named")
    _quiet()
    from hybrid_bench.evaluation.registry import register
    from hybrid_bench.exchange.mteb_results import check, write_submission
    from hybrid_bench.exchange.mteb_task import write_task_pr
    from hybrid_bench.runs.reading import run_folder

    register()
    if of_tasks:
        for path in write_task_pr(options.names, options.task_pr, runs=options.runs, data_dir=options.data_dir):
            print(path)
        return 0
    failed = False
    for run in map(run_folder, options.names):
        if options.out is not None:
            for path in write_submission(run, options.out, options.tasks):
                print(path)
            continue
        problems = check(run, options.tasks)
        for problem in problems:
            print(one_line(str(problem)))
        blocking = sum(problem.blocking for problem in problems)
        failed |= blocking > 0
        verdict = f"faults: {blocking}" if blocking else "can be offered"
        print(one_line(f"{run}: {verdict}"), file=sys.stderr)
    return 1 if failed else 0


def _report(options: argparse.Namespace) -> int:
    if not options.paths:
        example = f"report runs --figures {options.figures[0]}" if options.figures else "report runs"
        raise RequestError(f"which runs? PATH is missing, which stands before the options: hybrid-bench {example}")
    from hybrid_bench.reporting.document import report, save_figures

    asked = _report_request(options)
    if options.figures is not None:
        folder, *names = options.figures
        for path in save_figures(asked, Path(folder), names):
            print(path, file=sys.stderr)
    _write(report(asked), options.out)
    return 0


def _compare(options: argparse.Namespace) -> int:
    if bool(options.paths) == bool(options.group):
        what = "both" if options.paths else "neither"
        raise RequestError(f"{what} of RUN and --group given: name runs to compare them, or a --group for each method")
    _refuse(options, "common", "label", "primary", unless=not options.group, where="with --group")
    groups = _groups(options.group) if options.group else None
    from hybrid_bench.reporting.document import compare

    _write(compare(replace(_report_request(options), groups=groups)), options.out)
    return 0


def _groups(given: Sequence[str]) -> dict[str, list[Path]]:
    """The folders of each group, from NAME=RUNS."""
    from hybrid_bench.data.files import expanded

    groups: dict[str, list[Path]] = {}
    for each in given:
        name, equals, pattern = each.partition("=")
        if not (name and equals and pattern):
            raise RequestError(f"--group {each}: give NAME=RUNS, such as hybrid='runs/hybrid-*'")
        # Path.glob takes no pattern from the root, nor ~ .
        found = sorted(glob(str(expanded(pattern))))  # noqa: PTH207 # see above
        if not found:
            raise RequestError(f"--group {each}: nothing is there; quote the pattern, so that it comes here whole")
        groups.setdefault(name, []).extend(map(Path, found))
    return groups


def _report_request(options: argparse.Namespace) -> ReportRequest:
    """What `report` and `compare` were asked for, with the folders of the runs that were named."""
    from hybrid_bench.reporting.document import ReportRequest

    known = vars(options)
    given = _given(options, *(field.name for field in fields(ReportRequest) if field.name in known))
    given |= {"paths": options.paths, "labels": _labels(options.label), **_form(options.format, options.out)}
    asked = ReportRequest(**given)
    long = asked.format in {"html", "csv", "json"}
    tested = options.command == "compare" or asked.table == "compare" or asked.baseline is not None
    _refuse(options, "primary", unless=tested, where="without --baseline")
    _refuse(
        options,
        *("cluster", "draws", "seed"),
        unless=options.command == "compare"
        or asked.table == "compare"
        or getattr(options, "figures", None) is not None
        or asked.baseline is not None
        or (asked.intervals or asked.letters or asked.reproduce)
        or (long and asked.table != "leaderboard"),
        where="where there are neither tests nor intervals (see --baseline, --intervals, --letters)",
    )
    return asked


def _form(format_: str | None, out: Path | None = None) -> dict[str, Any]:
    """The form of a report: as asked for, as a file's name ends, or as suits where it is shown."""
    if format_ is not None:
        return {"format": format_}
    if out is not None:
        return {"format": _FORMATS.get(out.suffix.casefold(), "markdown")}
    width = _width()
    return {"format": "markdown"} if width is None else {"format": "terminal", "width": width}


def _width() -> int | None:
    """Characters in a line of the terminal that shows what is printed; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _labels(given: Sequence[str]) -> dict[str, str]:
    """What models shall be called; an option's value in a model's name, ``(passage=...)``, does not end it."""
    found = {}
    for each in given:
        parts = re.fullmatch(r"((?:[^=(]|\([^)]*\))+)=(.*\S.*)", each)
        if parts is None:
            raise RequestError(f'--label {each}: should be MODEL=NAME, e.g. hybrid_bench/bm25="BM25"')
        found[parts[1].strip()] = parts[2].strip()
    return found


#: The one model that computes no embeddings, by name: importing it takes seconds.
_BM25 = "hybrid_bench/bm25"
#: What is written into a file, by how its name ends.
_FORMATS = {".md": "markdown", ".tex": "latex", ".html": "html", ".htm": "html", ".csv": "csv", ".json": "json"}


def _write(text: str, out: Path | None) -> None:
    """To stdout, or into a file."""
    from hybrid_bench.data.files import atomic

    if out is None:
        print(text, end="")
        return
    try:
        with atomic(out) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {out} ({reason(error)}); choose another with --out") from error
    print(f"wrote {out}", file=sys.stderr)


def _train(options: argparse.Namespace) -> int:
    from hybrid_bench.training.config import ACCELERATE, require, to_toml

    _refuse(options, "devices", "sharding", "negatives", unless=options.estimate, where="without --estimate")
    trains = options.check or not (options.show or options.estimate or options.accelerate_config)
    _refuse(options, "overwrite", unless=trains, where="where nothing is trained")
    if options.accelerate_config is not None:
        of_training = ("preset", "set", "output", "data_dir")
        _refuse(options, *of_training, unless=False, where="with --accelerate-config, which only names a file")
        if options.config is not None:
            raise RequestError(f"--accelerate-config only names a file: leave '{options.config}' out")
        name = options.accelerate_config
        if name not in ACCELERATE:
            raise RequestError(f"no accelerate configuration '{name}': {did_you_mean(name, ACCELERATE)}")
        print(ACCELERATE[name])
        return 0
    config = _training(options)
    if options.show:
        print(to_toml(config), end="")
        return 0
    _quiet()
    if options.estimate:
        from hybrid_bench.training.memory import estimate

        print(estimate(config, **_given(options, "devices", "sharding", "negatives")), end="")
        return 0
    require("accelerate", "a training")
    from hybrid_bench.evaluation.runner import to_stderr
    from hybrid_bench.training.loop import measures_table, train
    from hybrid_bench.training.prepared import prepare

    if options.check:
        prepare(config, to_stderr, overwrite=options.overwrite, elsewhere=True)
        print("nothing is wrong with it", file=sys.stderr)
        return 0
    trained = train(config, to_stderr, overwrite=options.overwrite)
    if trained.main:
        print(measures_table(trained), end="")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from hybrid_bench.training.config import require

    config = _training(options)
    _quiet()
    require("accelerate", "a training")
    from hybrid_bench.evaluation.runner import to_stderr
    from hybrid_bench.training.prepared import asked_questions
    from hybrid_bench.training.sweeps import sweep, sweep_report

    points = sweep(config, options.alpha, options.seeds or [0], to_stderr, overwrite=options.overwrite)
    questions = asked_questions(config)
    print(sweep_report(points, questions=questions, width=_width(), **_given(options, "draws")), end="")
    return 0


def _training(options: argparse.Namespace) -> TrainingConfig:
    """The configuration that is named, with the changes made on the command line."""
    from hybrid_bench.data.parsing import parse_toml
    from hybrid_bench.training.config import load_config

    if (options.config is None) == (options.preset is None):
        raise RequestError("name one training: CONFIG, a TOML or YAML file, or --preset NAME")
    changes: dict[str, Any] = {}
    for given in options.set:
        key, is_given, value = given.partition("=")
        if not is_given or not key:
            raise RequestError(f"--set {given}: should be KEY=VALUE, e.g. sampling.alpha=0.25")
        try:
            changes[key] = parse_toml(f"value = {value}")["value"]
        except ValueError:  # a text need not be quoted twice, for the shell and for TOML
            changes[key] = value
    for name in ("output", "data_dir"):
        if getattr(options, name) is not None:
            changes[name] = str(getattr(options, name))
    return load_config(options.config or f"preset:{options.preset}", changes)


def _tasks(_: argparse.Namespace) -> int:
    from tabulate import tabulate

    from hybrid_bench.evaluation.registry import collections

    rows = [
        [
            name,
            task.metadata.name,
            len(task.metadata.hf_subsets),
            " ".join(task.reader.languages),
            task.metadata.license,
        ]
        for name, tasks in collections().items()
        for task in tasks
    ]
    heads = ["Collection", "Task", "Subsets", "Languages", "Licence"]
    width = _width()
    if width is not None:  # MIRACL's languages alone are wider than most terminals: they share what the others leave
        others = sum(max(len(str(row[place])) for row in rows) + 2 for place in (0, 1, 2, 4))
        room = max(width - others, 20)
        print(tabulate(rows, heads, tablefmt="simple", maxcolwidths=[None, None, None, room, None]))
    else:
        print(tabulate(rows, heads, tablefmt="pipe"))
    return 0


def _models(options: argparse.Namespace) -> int:
    from mteb.models.model_implementations import MODEL_REGISTRY

    from hybrid_bench.engine.lexical import EMBEDDED

    known = [*EMBEDDED, *sorted(set(MODEL_REGISTRY) - set(EMBEDDED))]
    names = [name for name in known if options.contains.casefold() in name.casefold()]
    if not names:
        raise RequestError(f"no model known by name has '{options.contains}' in it")
    print("\n".join(names))
    return 0


def _mteb(arguments: list[str]) -> int:
    from mteb.cli.build_cli import main as mteb_main

    from hybrid_bench.evaluation.registry import register
    from hybrid_bench.evaluation.runner import mteb_saving_tables

    register()
    sys.argv = ["hybrid-bench mteb", *(arguments or ["--help"])]
    with mteb_saving_tables():
        mteb_main()
    return 0


def _quiet() -> None:
    """Let through what concerns the person at the terminal: not other packages' notes to programmers."""
    import bm25s  # noqa: F401 # it sets its own level when it is imported: first that, then ours
    import datasets
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as of_transformers

    of_transformers.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers types most of its code, not this
    if not sys.stderr.isatty():  # downloads of models and data are shown to who watches: they may take an hour
        datasets.disable_progress_bars()
        disable_progress_bars()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("mteb").setLevel(logging.ERROR)
    for talkative in ("bm25s", "datasets", "huggingface_hub", "transformers", "sentence_transformers"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(mteb|sentence_transformers|transformers|torch|datasets)\b.*")


_COMMANDS = {
    "run": _run,
    "report": _report,
    "compare": _compare,
    "export": _export,
    "translate": _translate,
    "submit": _submit,
    "train": _train,
    "sweep": _sweep,
    "tasks": _tasks,
    "models": _models,
}
