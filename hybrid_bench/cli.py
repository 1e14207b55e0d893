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
from pathlib import Path
from typing import NoReturn

from hybrid_bench.errors import DataError, HybridBenchError, RequestError
from hybrid_bench.version import VERSION

__all__ = ["main"]

_EXAMPLES = """\
examples:
  hybrid-bench run
      the demo collection with the two embedded models; nothing is downloaded
  hybrid-bench run --models intfloat/multilingual-e5-small my-checkpoint/ --tasks XQuAD-R
      two models on all 132 settings of XQuAD-R
  hybrid-bench report runs --format latex
      the table again, for a paper
  hybrid-bench mteb run -m intfloat/multilingual-e5-small -t XQuAD-R-Pairs
      mteb's own command line, with the tasks known to it
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        prog="hybrid-bench",
        description="Multilingual retrieval measured within, across and over many languages, as mteb tasks.",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"hybrid-bench {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        parents=[common],
        formatter_class=raw,
        help="evaluate models on tasks, and show the table",
        description="Evaluate models on tasks, as far as results are not there already, and show the table.",
        epilog="example:\n  hybrid-bench run --models hybrid_bench/bm25 my-checkpoint/ --tasks XQuAD-R --data-dir data",
    )
    run.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        help="mteb or hub names, folders of saved models, embedded models (default: the embedded two, on the demo)",
    )
    run.add_argument(
        "--tasks",
        nargs="+",
        metavar="T",
        help="collections or single tasks (default: XQuAD-R; without --models: HybridDemo)",
    )
    run.add_argument("--settings", nargs="+", default=[], metavar="S", help="of mono, cross, multi (default: all)")
    run.add_argument(
        "--languages", nargs="+", default=[], metavar="L", help="codes of query languages and of pairs (default: all)"
    )
    run.add_argument(
        "--pool-languages", nargs="+", default=[], metavar="L", help="languages of the multilingual pool (default: all)"
    )
    run.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="where results are kept (default: runs)"
    )
    run.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder with the data sets (default: HYBRID_BENCH_DATA, else download)",
    )
    run.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    run.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="texts per batch (default: 32)")
    run.add_argument(
        "--passage",
        choices=["sentence", "sentence+context"],
        default="sentence",
        help="what stands for a candidate (default: sentence)",
    )
    run.add_argument(
        "--rerank",
        type=Path,
        metavar="RUN",
        help="for cross-encoders: folder of the run whose model gives the candidates",
    )
    run.add_argument("--top-k", type=_positive, metavar="K", help="how many candidates to rerank")
    run.add_argument(
        "--overwrite-strategy",
        choices=["only-missing", "always", "never", "only-cache"],
        default="only-missing",
        metavar="S",
        help="mteb's: only-missing, always, never or only-cache (default: only-missing)",
    )
    run.add_argument("--embedding-cache", type=Path, metavar="DIR", help="keep embeddings on disk here")
    run.add_argument(
        "--format", choices=["markdown", "latex"], default="markdown", help="of the table (default: markdown)"
    )

    report = commands.add_parser(
        "report",
        parents=[common],
        formatter_class=raw,
        help="show the table of saved runs",
        description="Show the table of saved runs.",
        epilog="example:\n  hybrid-bench report runs --format latex > table.tex",
    )
    report.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="output folders, or folders of single runs")
    report.add_argument("--format", choices=["markdown", "latex"], default="markdown", help="(default: markdown)")
    report.add_argument("--out", type=Path, metavar="FILE", help="write it here instead of stdout")

    commands.add_parser(
        "tasks",
        parents=[common],
        formatter_class=raw,
        help="list collections and tasks",
        description="List the collections and their tasks.",
        epilog="example:\n  hybrid-bench tasks",
    )
    models = commands.add_parser(
        "models",
        parents=[common],
        formatter_class=raw,
        help="list the models known by name",
        description="List the models known by name: the embedded ones and mteb's.",
        epilog="example:\n  hybrid-bench models e5",
    )
    models.add_argument("contains", nargs="?", default="", metavar="TEXT", help="only names with this in them")

    passed_on = commands.add_parser(
        "mteb",
        add_help=False,
        prefix_chars="\0",  # every argument is mteb's, those that begin with a dash too
        help="mteb's own command line, with the tasks registered",
    )
    passed_on.add_argument("arguments", nargs="*")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = False
    try:
        if arguments[:1] == ["mteb"]:
            return _mteb(arguments[1:])
        options = _parser().parse_args(arguments)
        debug = options.debug
        code = int(_COMMANDS[options.command](options))
        sys.stdout.flush()  # here, so that a reader who has gone is met here
        return code
    except HybridBenchError as error:
        if debug:
            traceback.print_exc()
        print(f"hybrid-bench: {error}", file=sys.stderr)
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
    from hybrid_bench.report import report
    from hybrid_bench.run import DEMO, RunRequest, run, to_stderr

    default_tasks, default_models = ["XQuAD-R"], options.models
    if options.models is None:
        default_tasks, default_models = [DEMO[0]], list(DEMO[1])
    outcome = run(
        RunRequest(
            models=default_models,
            tasks=options.tasks or default_tasks,
            settings=options.settings,
            languages=options.languages,
            pool_languages=options.pool_languages,
            output=options.output,
            data_dir=options.data_dir,
            device=options.device,
            batch_size=options.batch_size,
            passage=options.passage,
            rerank=options.rerank,
            top_k=options.top_k,
            overwrite_strategy=options.overwrite_strategy,
            embedding_cache=options.embedding_cache,
        ),
        tell=to_stderr,
    )
    for failure in outcome.failures:
        if options.debug:
            print(failure.trace, file=sys.stderr)
        print(f"hybrid-bench: {failure}", file=sys.stderr)
    if outcome.folders:
        print(report(outcome.folders, options.format, outcome.subsets), end="")
        print(f"saved under {options.output}", file=sys.stderr)
    if not outcome.failures:
        return 0
    only_requests = all(isinstance(failure.error, RequestError) for failure in outcome.failures)
    return 2 if only_requests and not outcome.folders else 1


def _report(options: argparse.Namespace) -> int:
    from hybrid_bench.report import report

    text = report(options.paths, options.format)
    if options.out is None:
        print(text, end="")
    else:
        try:
            options.out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {options.out} ({error.strerror}); choose another with --out") from error
    return 0


def _tasks(_: argparse.Namespace) -> int:
    from tabulate import tabulate

    from hybrid_bench.tasks import collections

    rows = [
        [name, task.metadata.name, len(task.metadata.hf_subsets), " ".join(task.source.files), task.metadata.license]
        for name, tasks in collections().items()
        for task in tasks
    ]
    print(tabulate(rows, headers=["Collection", "Task", "Subsets", "Languages", "Licence"], tablefmt="pipe"))
    return 0


def _models(options: argparse.Namespace) -> int:
    from mteb.models.model_implementations import MODEL_REGISTRY

    from hybrid_bench.lexical import EMBEDDED

    known = [*EMBEDDED, *sorted(set(MODEL_REGISTRY) - set(EMBEDDED))]
    names = [name for name in known if options.contains.casefold() in name.casefold()]
    if not names:
        raise RequestError(f"no model known by name has '{options.contains}' in it")
    print("\n".join(names))
    return 0


def _mteb(arguments: list[str]) -> int:
    from mteb.cli.build_cli import main as mteb_main

    from hybrid_bench.run import mteb_saving_tables
    from hybrid_bench.tasks import register

    register()
    sys.argv = ["hybrid-bench mteb", *(arguments or ["--help"])]
    with mteb_saving_tables():
        mteb_main()
    return 0


def _quiet() -> None:
    """Let through what concerns the person at the terminal: not other packages' notes to programmers."""
    import bm25s  # noqa: F401 # it sets its own level when it is imported: first that, then ours

    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    logging.getLogger("mteb").setLevel(logging.ERROR)
    for talkative in ("bm25s", "huggingface_hub", "transformers", "sentence_transformers"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(mteb|sentence_transformers|transformers|torch|datasets)\b.*")


_COMMANDS = {"run": _run, "report": _report, "tasks": _tasks, "models": _models}
