"""The command line. Tables go to stdout, progress and messages to stderr.

Exit codes: 0 all well; 1 some model or task failed, the rest is saved and shown; 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_bench.cli.arguments import parser
from hybrid_bench.data.files import atomic
from hybrid_bench.errors import DataError, HybridBenchError, RequestError, one_line
from hybrid_bench.languages import did_you_mean

if TYPE_CHECKING:
    from hybrid_bench.evaluation.runner import RunRequest
    from hybrid_bench.training.config import TrainingConfig

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = False
    try:
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


def _run(options: argparse.Namespace) -> int:
    if (options.rerank is None) != (options.top_k is None):
        raise RequestError("--rerank RUN and --top-k K go together")
    _quiet()
    from hybrid_bench.evaluation.runner import DEMO, run, to_stderr
    from hybrid_bench.reporting.document import ReportRequest, report

    default_tasks, default_models = ["XQuAD-R"], options.models
    if options.models is None:
        default_tasks, default_models = [DEMO[0]], list(DEMO[1])
    request = _request(
        options,
        models=default_models,
        tasks=options.tasks or default_tasks,
        output=options.output,
        rerank=options.rerank,
        top_k=options.top_k,
        overwrite_strategy=options.overwrite_strategy,
        **_of_model(options),
    )
    outcome = run(request, tell=to_stderr)
    for failure in outcome.failures:
        if options.debug:
            print(failure.trace, file=sys.stderr)
        print(f"hybrid-bench: {one_line(str(failure))}", file=sys.stderr)
    if outcome.folders:
        shown = ReportRequest(outcome.folders, format=options.format, subsets=outcome.subsets)
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
    return {name: getattr(options, name) for name in ("device", "batch_size", "embedding_cache", "trust_remote_code")}


def _export(options: argparse.Namespace) -> int:
    _quiet()
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    from hybrid_bench.engine import models
    from hybrid_bench.evaluation.runner import select_tasks, to_stderr
    from hybrid_bench.exchange.export import export_beir, export_trec, ranked_by

    of_model = _of_model(options) if options.to == "trec" else {}
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
    top = ranked_by(model, {"batch_size": options.batch_size})
    name = str(model.mteb_model_meta.name)
    export_trec(top, tasks, options.out, to_stderr, k=options.top_k, run=name, overwrite=options.overwrite)
    return 0


def _translate(options: argparse.Namespace) -> int:
    from dataclasses import fields

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
    _quiet()
    from hybrid_bench.evaluation.registry import register
    from hybrid_bench.exchange.mteb_results import check, write_submission
    from hybrid_bench.exchange.mteb_task import write_task_pr

    register()
    if options.task_pr is not None:
        for path in write_task_pr(options.names, options.task_pr, runs=options.runs, data_dir=options.data_dir):
            print(path)
        return 0
    failed = False
    for run in map(Path, options.names):
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
    from hybrid_bench.reporting.document import ReportRequest, report, save_figures

    of_report = ("table", "baseline", "measure", "intervals", "letters", "reproduce", *_OF_TESTS)
    request = ReportRequest(options.paths, **{name: getattr(options, name) for name in of_report})
    if options.figures is not None:
        for path in save_figures(request, options.figures):
            print(path, file=sys.stderr)
    _write(report(request), options.out)
    return 0


def _compare(options: argparse.Namespace) -> int:
    of_tests = {name: getattr(options, name) for name in ("baseline", "measure", "margin", "size", *_OF_TESTS)}
    if bool(options.paths) == bool(options.group):
        what = "both" if options.paths else "neither"
        raise RequestError(f"{what} of RUN and --group given: name runs to compare them, or a --group for each method")
    groups = _groups(options.group) if options.group else None
    from hybrid_bench.reporting.document import ReportRequest, compare

    _write(compare(ReportRequest(options.paths, groups=groups, **of_tests)), options.out)
    return 0


def _groups(given: Sequence[str]) -> dict[str, list[Path]]:
    """The folders of each group, from NAME=RUNS."""
    groups: dict[str, list[Path]] = {}
    for each in given:
        name, equals, pattern = each.partition("=")
        if not (name and equals and pattern):
            raise RequestError(f"--group {each}: give NAME=RUNS, such as hybrid='runs/hybrid-*'")
        # Path.glob takes no pattern from the root, nor ~ .
        found = sorted(glob(str(Path(pattern).expanduser())))  # noqa: PTH207 # see above
        if not found:
            raise RequestError(f"--group {each}: nothing is there; quote the pattern, so that it comes here whole")
        groups.setdefault(name, []).extend(map(Path, found))
    return groups


_OF_TESTS = ("cluster", "draws", "seed", "format", "standalone")


def _write(text: str, out: Path | None) -> None:
    """To stdout, or into a file."""
    if out is None:
        print(text, end="")
        return
    try:
        with atomic(out) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {out} ({error.strerror}); choose another with --out") from error


def _train(options: argparse.Namespace) -> int:
    from hybrid_bench.training.config import ACCELERATE, require, to_toml

    if options.accelerate_config is not None:
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

        shape = {"devices": options.devices, "sharding": options.sharding, "negatives": options.negatives}
        print(estimate(config, **shape), end="")
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
    from hybrid_bench.training.sweeps import sweep, sweep_report

    points = sweep(config, options.alpha, options.seeds, to_stderr, overwrite=options.overwrite)
    print(sweep_report(points, draws=options.draws), end="")
    return 0


def _training(options: argparse.Namespace) -> TrainingConfig:
    """The configuration that is named, with the changes made on the command line."""
    from hybrid_bench.data.guarded import parse_toml
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
    print(tabulate(rows, headers=["Collection", "Task", "Subsets", "Languages", "Licence"], tablefmt="pipe"))
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

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
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
