"""What the command line takes: its commands and their arguments. Nothing here does anything."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from hybrid_bench.errors import one_line
from hybrid_bench.languages import did_you_mean
from hybrid_bench.version import VERSION

__all__ = ["parser"]

_EXAMPLES = """\
examples:
  hybrid-bench run
      the demo collection with the two embedded models; nothing is downloaded
  hybrid-bench run --models intfloat/multilingual-e5-small my-checkpoint/ --tasks XQuAD-R
      two models on all 132 settings of XQuAD-R
  hybrid-bench report runs --format latex
      the table again, for a paper
  hybrid-bench run --models my-checkpoint/ --tasks BEIR beir:my-data/ --output runs
      tasks and benchmarks of mteb's, and a folder in BEIR's format
  hybrid-bench mteb run -m intfloat/multilingual-e5-small -t XQuAD-R-Pairs
      mteb's own command line, with the tasks known to it
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line, which name what is near; an option with several values may be given several times."""

    def add_argument(self, *names: Any, **how: Any) -> argparse.Action:
        """As argparse's, but values of a repeated option are added, where argparse would drop the earlier ones.

        Such an option has no default of its own, which they would be added to: the command says what its absence means.
        """
        if names[0].startswith("-") and how.get("nargs") == "+":
            how["action"] = "extend"
        return super().add_argument(*names, **how)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what a command does not know is refused by it, which knows its options."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._instead_of(unknown[0])}")
        return options, unknown

    def _instead_of(self, unknown: str) -> str:
        known = re.findall(r"--[a-z][a-z-]*", self.format_usage())
        if unknown.startswith("-"):
            near = did_you_mean(unknown.partition("=")[0], known)
            return f"; {near}" if near.startswith("did") else ""
        if "--models" in known:
            of_task = unknown.startswith(("beir:", "jsonl:", "hf:"))
            return f"; did you mean {'--tasks' if of_task else '--models'} {unknown}?"
        return ""

    def error(self, message: str) -> NoReturn:
        if wrong := re.match(r"argument .*: invalid choice: '(.*)' \(choose from (.*)\)", message):
            near = did_you_mean(wrong[1], re.findall(r"[\w+-]+", wrong[2]))
            message += f"; {near}" if near.startswith("did") else ""
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    made = _Parser(
        prog="hybrid-bench",
        description="Multilingual retrieval measured within, across and over many languages, as mteb tasks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"hybrid-bench {VERSION}")
    commands = _commands(made, "command", "COMMAND")
    _add_run(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_export(commands)
    _add_translate(commands)
    _add_submit(commands)
    _add_train(commands)
    _add_sweep(commands)
    _add_lists(commands)
    return made


def _commands(made: argparse.ArgumentParser, dest: str, metavar: str) -> Any:
    return made.add_subparsers(dest=dest, required=True, parser_class=_Parser, metavar=metavar)


def _command(commands: Any, name: str, *parents: _Parser, summary: str, about: str, example: str) -> _Parser:
    """A command with its help: `summary` stands in the list of commands, `about` above its own arguments."""
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    made: _Parser = commands.add_parser(
        name,
        parents=[common, *parents],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help=summary,
        description=about,
        epilog=f"example:\n  {example}",
    )
    return made


def _data() -> _Parser:
    made = _Parser(add_help=False)
    made.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder with the data sets (default: HYBRID_BENCH_DATA, else download)",
    )
    return made


def _choice_of_tasks() -> _Parser:
    made = _Parser(add_help=False)
    made.add_argument(
        "--tasks",
        nargs="+",
        metavar="T",
        help="collections, tasks or benchmarks, ours or mteb's, beir:FOLDER, jsonl:FOLDER, hf:NAME "
        "(default: XQuAD-R; of `run` without --models: HybridDemo)",
    )
    made.add_argument("--settings", nargs="+", default=[], metavar="S", help="of mono, cross, multi (default: all)")
    made.add_argument(
        "--languages", nargs="+", default=[], metavar="L", help="codes of query languages and of pairs (default: all)"
    )
    made.add_argument(
        "--pool-languages", nargs="+", default=[], metavar="L", help="languages of the multilingual pool (default: all)"
    )
    made.add_argument(
        "--passage",
        choices=["sentence", "sentence+context"],
        default="sentence",
        help="what stands for a candidate (default: sentence)",
    )
    made.add_argument(
        "--pool",
        choices=["full", "hard-negatives"],
        default="full",
        help="MIRACL's passages: whole corpora, or the pools of hard negatives (default: full)",
    )
    made.add_argument(
        "--translations",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="MIRACL's queries in other languages, as `translate` writes them",
    )
    made.add_argument("--translation-source", metavar="NAME", help="whose, where the files hold those of several")
    return made


def _of_model() -> _Parser:
    made = _Parser(add_help=False)
    made.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    made.add_argument("--batch-size", type=_positive, metavar="N", help="texts per batch (default: 32)")
    made.add_argument("--embedding-cache", type=Path, metavar="DIR", help="keep embeddings on disk here")
    made.add_argument(
        "--trust-remote-code", action="store_true", help="run code that comes with a model, from the hub or its folder"
    )
    return made


def _add_run(commands: Any) -> None:
    run = _command(
        commands,
        "run",
        _choice_of_tasks(),
        _data(),
        _of_model(),
        summary="evaluate models on tasks, and show the table",
        about="Evaluate models on tasks, as far as results are not there already, and show the table.",
        example="hybrid-bench run --models hybrid_bench/bm25 my-checkpoint/ --tasks XQuAD-R --data-dir data",
    )
    run.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        help="mteb or hub names, folders of saved models, embedded models (default: the embedded two, on the demo)",
    )
    run.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="where results are kept (default: runs)"
    )
    run.add_argument(
        "--rerank",
        metavar="RUN",
        help="for cross-encoders: the run whose model gives the candidates, by the model's name or the run's folder",
    )
    run.add_argument("--top-k", type=_positive, metavar="K", help="how many candidates to rerank")
    run.add_argument(
        "--debias",
        choices=["none", "centred", "lsar", "shift", "csls", "z-score", "round-robin"],
        default="none",
        metavar="METHOD",
        help="what is done against language bias: centred, lsar, shift, csls, z-score or round-robin (default: none)",
    )
    run.add_argument(
        "--debias-on",
        metavar="NAME",
        help="what that is fitted on: a collection, or ntrex (NTREX-128, in the data folder's ntrex-128) "
        "(default: HybridDemo)",
    )
    run.add_argument(
        "--overwrite-strategy",
        choices=["only-missing", "always", "never", "only-cache"],
        default="only-missing",
        metavar="S",
        help="mteb's: only-missing, always, never or only-cache (default: only-missing)",
    )
    run.add_argument(
        "--format",
        choices=["markdown", "latex"],
        help="of the table (default: on a terminal one that fits it, else markdown)",
    )


def _of_tests() -> _Parser:
    made = _Parser(add_help=False)
    made.add_argument(
        "--cluster",
        choices=["article", "paragraph", "question"],
        help="what questions are clustered by where it counts (default: article)",
    )
    made.add_argument("--draws", type=_positive, metavar="B", help="flips and resamples (default: 10000)")
    made.add_argument("--seed", type=int, metavar="N", help="of both (default: 0)")
    made.add_argument(
        "--format",
        choices=["markdown", "latex", "html", "csv", "json"],
        help="html is one page with tables and figures, csv and json are long and not rounded (default: as the name "
        "of --out ends, else markdown)",
    )
    made.add_argument(
        "--label", nargs="+", default=[], metavar="MODEL=NAME", help="what a run is called in tables, figures and page"
    )
    made.add_argument(
        "--primary",
        metavar="[SETTING:]M",
        help="the measure whose p-values are adjusted for the number of runs alone, all others together (default: the "
        "main measure, multilingual), e.g. cross:map",
    )
    made.add_argument("--common", action="store_true", help="only the subsets that all runs have")
    made.add_argument("--standalone", action="store_true", help="LaTeX as a whole document")
    made.add_argument(
        "--out", type=Path, metavar="FILE", help="write it here instead of stdout: .md, .tex, .html, .csv, .json"
    )
    return made


def _add_report(commands: Any) -> None:
    report = _command(
        commands,
        "report",
        _of_tests(),
        summary="show tables and figures of saved runs",
        about="Show tables and figures of saved runs, and published results beside them.",
        example="hybrid-bench report runs published:elmahdy2024 --format latex --standalone --out table.tex",
    )
    report.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="output folders, folders of runs, names of models with runs in runs/, or "
        "published:elmahdy2024[/xlm-r-hybrid]",
    )
    report.add_argument(
        "--table",
        choices=["main", "bias", "per-language", "pairs", "miracl", "compare", "leaderboard"],
        help="(default: main, and other tasks; in a page, everything)",
    )
    report.add_argument(
        "--baseline", metavar="RUN", help="the run that the others are tested against: its model's name, or its folder"
    )
    report.add_argument("--measure", metavar="M", help="of --table compare (default: map)")
    report.add_argument("--intervals", action="store_true", help="95%% intervals in the table")
    report.add_argument(
        "--letters", action="store_true", help="letters in the main table: runs that share one do not differ"
    )
    report.add_argument(
        "--reproduce", action="store_true", help="how far runs trained as a published system was are from print"
    )
    report.add_argument(
        "--figures",
        nargs="+",
        metavar=("DIR", "NAME"),
        help="draw figures there, as PNG and PDF: all, or those of these names, such as answers or answers-XQuAD-R",
    )


def _add_compare(commands: Any) -> None:
    compare = _command(
        commands,
        "compare",
        _of_tests(),
        summary="test whether runs differ from a baseline",
        about="Compare runs with a baseline on the same queries: differences, intervals, and p-values that respect "
        "that the same question is asked in every language.",
        example="hybrid-bench compare intfloat/multilingual-e5-small my-checkpoint/",
    )
    compare.add_argument(
        "paths", nargs="*", metavar="RUN", help="names of models with runs in runs/, folders of runs, or output folders"
    )
    compare.add_argument(
        "--group",
        action="append",
        metavar="NAME=RUNS",
        help="instead of RUN, once for each method: its trainings with several seeds, as a folder or a pattern such as "
        "'runs/hybrid-*'; intervals and p then speak of other questions and other trainings",
    )
    compare.add_argument(
        "--baseline", metavar="RUN", help="one of them, named likewise, or the name of a group (default: the first)"
    )
    compare.add_argument("--measure", metavar="M", help="map, ndcg_at_10, ..., or bias_... (default: map)")
    compare.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="also test whether runs are not worse than the baseline by this much, and whether they are equivalent",
    )
    compare.add_argument(
        "--size", type=float, metavar="D", help="of groups: how many trainings or articles would find this difference"
    )


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write data in BEIR's format, or rankings and judgments as TREC files",
        description="Write what other programs read: data in BEIR's format, or rankings and judgments as TREC files.",
    )
    formats = _commands(export, "to", "FORMAT")
    written = _Parser(add_help=False)
    written.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files are written")
    written.add_argument("--overwrite", action="store_true", help="replace files that hold something else")
    _command(
        formats,
        "beir",
        _choice_of_tasks(),
        _data(),
        written,
        summary="one folder for every subset: corpus.jsonl, queries.jsonl, qrels/<split>.tsv",
        about="Write every subset of the tasks as a folder in BEIR's format; `run --tasks beir:FOLDER` reads it.",
        example="hybrid-bench export beir --tasks HybridDemo --settings multi --out beir/",
    )
    trec = _command(
        formats,
        "trec",
        _choice_of_tasks(),
        _data(),
        _of_model(),
        written,
        summary="a run file and a qrels file for every subset",
        about="Write a model's rankings and the judgments of every subset, as trec_eval reads them.",
        example="hybrid-bench export trec --model my-checkpoint/ --tasks XQuAD-R --settings mono --out trec/",
    )
    trec.add_argument("--model", required=True, metavar="M", help="a dense encoder, or hybrid_bench/bm25")
    trec.add_argument(
        "--top-k", type=_positive, default=1000, metavar="K", help="passages of each query (default: 1000)"
    )


def _add_translate(commands: Any) -> None:
    translate = _command(
        commands,
        "translate",
        _data(),
        summary="translate MIRACL's queries, for its cross-lingual pairs",
        about="Translate MIRACL's development queries into other languages, or what is missing of them.",
        example="hybrid-bench translate --from sw yo --to en de --out queries.tsv\n"
        "  hybrid-bench run --models M --tasks MIRACL --translations queries.tsv",
    )
    text: dict[str, Any] = {"metavar": "X"}
    number: dict[str, Any] = {"type": _positive, "metavar": "N"}
    codes: dict[str, Any] = {"nargs": "+", "required": True, "metavar": "L"}
    for flag, how, summary in (
        ("--from", {"dest": "corpus_languages", **codes}, "languages that the queries were asked in"),
        ("--to", {"dest": "query_languages", **codes}, "languages to translate into"),
        ("--out", {"type": Path, "required": True, "metavar": "FILE"}, ".tsv or .jsonl; continued if it is there"),
        ("--model", text, "hub name or folder (default: facebook/nllb-200-distilled-600M)"),
        ("--revision", text, "commit or tag of the model on the hub (default: the newest)"),
        ("--source", text, "the translator's name in the file (default: the model's)"),
        ("--device", text, "cpu, cuda, cuda:1 (default: the best there is)"),
        ("--dtype", text, "float32, bfloat16 or float16 (default: float32)"),
        ("--batch-size", number, "queries per batch (default: 32)"),
        ("--num-beams", number, "width of the beam search (default: 4)"),
        ("--max-length", number, "longest text in tokens (default: 256)"),
        ("--prefix", text, "put before each query, with {source} and {target} in it"),
        ("--limit", number, "only the first queries of each language"),
    ):
        translate.add_argument(flag, **how, help=summary)


def _add_submit(commands: Any) -> None:
    submit = _command(
        commands,
        "submit",
        _data(),
        summary="check a run for mteb's leaderboard, and write what to offer",
        about="Check a run against the rules of mteb's results repository, and write what to offer there; or write the "
        "files of a pull request that gives a task to mteb.",
        example="hybrid-bench submit --check runs/results/org__model/revision",
    )
    what = submit.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="name every fault of the runs")
    what.add_argument(
        "--out", type=Path, metavar="DIR", help="write the files to offer of the runs, which have no fault"
    )
    what.add_argument("--task-pr", type=Path, metavar="DIR", help="write the pull request of the named tasks")
    submit.add_argument(
        "names", nargs="+", metavar="RUN|TASK", help="runs, by model or folder; with --task-pr, tasks or collections"
    )
    submit.add_argument("--tasks", nargs="+", metavar="T", help="only the results of these tasks (default: all public)")
    submit.add_argument(
        "--runs", nargs="+", type=Path, default=[], metavar="DIR", help="with --task-pr: where baseline results may be"
    )


def _of_training() -> _Parser:
    made = _Parser(add_help=False)
    made.add_argument("config", nargs="?", metavar="CONFIG", help="TOML or YAML file of the training, or preset:NAME")
    made.add_argument("--preset", metavar="NAME", help="the training of this name that comes with the package")
    made.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="replace settings, e.g. sampling.alpha=0.25 seed=1 arguments.max_steps=100",
    )
    made.add_argument("--output", type=Path, metavar="DIR", help="folder of what is trained (default: as CONFIG says)")
    return made


def _add_train(commands: Any) -> None:
    train = _command(
        commands,
        "train",
        _of_training(),
        _data(),
        summary="train a model with hybrid batches",
        about="Train the model of a configuration. Interrupted, the same command goes on from the last checkpoint.",
        example="hybrid-bench train --preset paper-labse-hybrid --show > mine.toml\n"
        "  hybrid-bench train mine.toml --check\n"
        "  hybrid-bench train mine.toml\n"
        "  accelerate launch --config_file $(hybrid-bench train --accelerate-config fsdp) \\\n"
        "      -m hybrid_bench train mine.toml",
    )
    instead = train.add_mutually_exclusive_group()
    instead.add_argument("--show", action="store_true", help="print the whole configuration, and do nothing")
    instead.add_argument("--check", action="store_true", help="check settings, data and overlap, and train nothing")
    instead.add_argument("--estimate", action="store_true", help="print the memory of a step; no weights are loaded")
    instead.add_argument(
        "--accelerate-config", metavar="NAME", help="print the path of ddp, fsdp, deepspeed-zero2 or deepspeed-zero3"
    )
    train.add_argument("--devices", type=_positive, metavar="N", help="with --estimate: number of devices (default: 1)")
    train.add_argument(
        "--sharding", metavar="NAME", help="with --estimate: how they share, as --accelerate-config (default: ddp)"
    )
    train.add_argument(
        "--negatives",
        type=int,
        metavar="N",
        help="with --estimate: hard negatives of a pair (default: as options.negatives of the sources says)",
    )
    train.add_argument(
        "--overwrite", action="store_true", help="replace a model, or checkpoints, of another training in the output"
    )


def _add_sweep(commands: Any) -> None:
    sweep = _command(
        commands,
        "sweep",
        _of_training(),
        _data(),
        summary="train with several alphas and seeds, evaluate, and report",
        about="Train a configuration with every alpha and seed, evaluate each, and report which alphas are best. What "
        "is done is kept, so that the same command goes on where it was interrupted.",
        example="hybrid-bench sweep mine.toml --alpha 0 0.25 0.5 0.75 1 --seeds 1 2 3 --output sweeps/mine",
    )
    sweep.add_argument(
        "--alpha", nargs="+", type=float, required=True, metavar="A", help="shares of monolingual batches, each 0 to 1"
    )
    sweep.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="(default: 0)")
    sweep.add_argument("--draws", type=_positive, metavar="B", help="of the tests (default: 10000)")
    sweep.add_argument(
        "--overwrite", action="store_true", help="replace models, or checkpoints, of other trainings in the output"
    )


def _add_lists(commands: Any) -> None:
    _command(
        commands,
        "tasks",
        summary="list collections and tasks",
        about="List the collections and their tasks.",
        example="hybrid-bench tasks",
    )
    models = _command(
        commands,
        "models",
        summary="list the models known by name",
        about="List the models known by name: the embedded ones and mteb's.",
        example="hybrid-bench models e5",
    )
    models.add_argument("contains", nargs="?", default="", metavar="TEXT", help="only names with this in them")
    passed_on = commands.add_parser(
        "mteb",
        add_help=False,
        prefix_chars="\0",  # every argument is mteb's, those that begin with a dash too
        help="mteb's own command line, with the tasks registered",
    )
    passed_on.add_argument("arguments", nargs="*")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)
