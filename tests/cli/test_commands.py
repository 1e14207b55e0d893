"""The command line: what goes to stdout, what to stderr, and the exit codes; in a process of its own where needed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import mteb
import pyarrow.parquet as pq
import pytest

from hybrid_bench import __version__
from hybrid_bench.cli.commands import main
from hybrid_bench.reporting.document import ReportRequest, compare, report
from hybrid_bench.runs.result_files import read_signatures

ROOT = Path(__file__).parents[2]
BM25, CHAR_NGRAM = "hybrid_bench/bm25", "hybrid_bench/char-ngram"
#: One small subset of the demo.
ONE_SUBSET = ["--tasks", "HybridDemo-Pairs", "--settings", "mono", "--languages", "de"]


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def command(*arguments: str | Path) -> Done:
    """Run a command in this process; an exit by argparse counts as its code."""
    out, err = io.StringIO(), io.StringIO()
    code: object
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def start(*arguments: str | Path, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start ``python -m hybrid_bench`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *options, "-m", "hybrid_bench", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def refused(done: Done, code: int = 2) -> str:
    """The one line on stderr of a command that was refused."""
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    (line,) = done.err.splitlines()
    assert line.startswith("hybrid-bench")
    return line


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.delenv("HYBRID_BENCH_DATA", raising=False)


class DemoRun(NamedTuple):
    """What `run` without models did."""

    output: Path
    done: Done


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    output = tmp_path_factory.mktemp("runs")
    return DemoRun(output, command("run", "--output", output))


# -- answers at once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
        (["report", "--help"], 0),
        (["compare", "--help"], 0),
        (["compare"], 2),
        ([], 2),
        (["runn"], 2),
        (["run", "--modles", "x"], 2),
        (["run", "--format", "html"], 2),
        (["run", "--top-k", "3"], 2),
        (["export", "--help"], 0),
        (["export", "beir", "--help"], 0),
        (["export", "trec", "--out", "x"], 2),
        (["translate", "--help"], 0),
        (["translate", "--from", "sw"], 2),
        (["submit", "--help"], 0),
        (["submit", "x"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_needs_no_heavy_import(arguments: list[str], code: int) -> None:
    process = start(*arguments, options=("-X", "importtime"))
    _, err = process.communicate()
    assert process.returncode == code, err
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}
    assert "hybrid_bench.cli" in imported
    assert imported & {"mteb", "torch", "sentence_transformers", "transformers", "datasets", "pandas", "numpy"} == set()


def test_help() -> None:
    done = command("--help")
    assert (done.code, done.err) == (0, "")
    for name in ("run", "report", "compare", "export", "translate", "submit", "tasks", "models", "mteb"):
        assert re.search(rf"^  hybrid-bench {name}\b|^    {name}( |$)", done.out, re.MULTILINE), name
    assert "examples:\n  hybrid-bench run\n" in done.out
    assert command("--version") == Done(0, f"hybrid-bench {__version__}\n", "")


@pytest.mark.parametrize(
    "name", ["run", "report", "compare", "export beir", "export trec", "translate", "submit", "tasks", "models"]
)
def test_help_of_a_command_has_an_example(name: str) -> None:
    done = command(*name.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert re.search(rf"^example:\n  hybrid-bench {name}\b", done.out, re.MULTILINE)


# -- wrong requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--tasks", "XQuAD"], "unknown task 'XQuAD': did you mean 'XQuAD-R'?"),
        (["run", "--tasks", "XQuAD-R", "HybridDemoo"], "unknown task 'HybridDemoo': did you mean 'HybridDemo'?"),
        (["run", "--tasks", "XQuAD-R-Pair"], "unknown task 'XQuAD-R-Pair': did you mean 'XQuAD-R-Pairs'?"),
        (["run", "--models", "hybrid_bench/bm52"], "no embedded model 'hybrid_bench/bm52': did you mean '" + BM25),
        (["run", "--models", "char-ngram"], "no model 'char-ngram': there is no such folder, and mteb knows no model"),
        (["run", "--models", "CHAR-NGRAM"], f"did you mean '{CHAR_NGRAM}'?"),
        (["run", "--models", "multilingual-e5-small"], "did you mean 'intfloat/multilingual-e5-small'?"),
        (["run", "--models", "./no/such"], "no model './no/such': there is no such folder"),
        (["run", "--languages", "German"], "unknown language 'German': languages are given by code, 'de'"),
        (["run", "--languages", "de", "EN"], "unknown language 'EN': did you mean 'en'?"),
        (["run", "--pool-languages", "EN"], "unknown language 'EN': did you mean 'en'?"),
        (["run", "--languages", "fi"], "HybridDemo has no language 'fi': it has ar, de, el, en"),
        (["run", "--settings", "mono", "crss"], "unknown setting 'crss': did you mean 'cross'?"),
        (["run", "--settings", "cross", "--languages", "de"], "nothing to run: no subset of HybridDemo is in settings"),
        (["run", "--settings", "cross", "--tasks", "HybridDemo-Multilingual"], "nothing to run: no subset of"),
        (["run", "--top-k", "3"], "--rerank RUN and --top-k K go together"),
        (["run", "--rerank", "x", "--top-k", "3"], "there is no folder x, and no run of a model of this name in runs"),
        (["run", "--rerank", "x"], "--rerank RUN and --top-k K go together"),
        (["run", "--top-k", "0", "--rerank", "x"], "argument --top-k: '0' is not a whole number of at least 1"),
        (["run", "--batch-size", "many"], "argument --batch-size: 'many' is not a whole number of at least 1"),
        (["run", "--format", "html"], "argument --format: invalid choice: 'html' (choose from "),
        (["run", "--passage", "paragraph"], "argument --passage: invalid choice: 'paragraph' (choose from "),
        (["run", "--overwrite-strategy", "some"], "argument --overwrite-strategy: invalid choice: 'some'"),
        (["run", "--pool", "half"], "argument --pool: invalid choice: 'half' (choose from "),
        (["run", "--translation-source", "x"], "--translation-source NAME goes with --translations FILE"),
        (["export"], "the following arguments are required: FORMAT (see hybrid-bench export --help)"),
        (["export", "csv"], "argument FORMAT: invalid choice: 'csv' (choose from "),
        (["export", "beir"], "the following arguments are required: --out (see hybrid-bench export beir --help)"),
        (["export", "beir", "--out", "x", "--tasks", "XQuAD"], "unknown task 'XQuAD': did you mean 'XQuAD-R'?"),
        (["export", "beir", "--out", "x", "--languages", "xx"], "unknown language 'xx'"),
        (["export", "trec", "--out", "x"], "the following arguments are required: --model (see hybrid-bench"),
        (["export", "trec", "--out", "x", "--model", "hybrid_bench/bm52", *ONE_SUBSET], "did you mean '" + BM25),
        (["export", "trec", "--out", "x", "--model", BM25, "--top-k", "0"], "argument --top-k: '0' is not a whole"),
        (["translate", "--to", "de", "--out", "x.tsv"], "the following arguments are required: --from (see hybrid"),
        (["submit", "x"], "one of the arguments --check --out --task-pr is required (see hybrid-bench submit --help)"),
        (["submit", "--check", "--out", "x", "y"], "argument --out: not allowed with argument --check"),
        (
            ["run", "--modles", "x"],
            "unrecognized arguments: --modles x; did you mean '--models'? (see hybrid-bench run ",
        ),
        (["report"], "which runs? PATH is missing, which stands before the options: hybrid-bench report runs"),
        (
            ["report", "--figures", "x", "y"],
            "before the options: hybrid-bench report runs --figures x",
        ),
        (["report", "x", "--label", "y"], '--label y: should be MODEL=NAME, e.g. hybrid_bench/bm25="BM25"'),
        (["report", "x", "--format", "docx"], "argument --format: invalid choice: 'docx' (choose from "),
        (["report", "x", "--table", "mian"], "argument --table: invalid choice: 'mian' (choose from "),
        (["compare"], "neither of RUN and --group given: name runs to compare them, or a --group for each method"),
        (["compare", "x", "--group", "a=x"], "both of RUN and --group given: name runs to compare them, or a --group"),
        (["compare", "--group", "a"], "--group a: give NAME=RUNS, such as hybrid='runs/hybrid-*'"),
        (["compare", "--group", "a=no/where-*"], "--group a=no/where-*: nothing is there; quote the pattern"),
        (["compare", "x", "y", "--margin", "-1"], "margin -1: give a number above 0, in the unit of the measure"),
        (
            ["compare", "x", "y", "--size", "0.1"],
            "--size 0.1: give a number above 0, and the trainings of each --group",
        ),
        (["compare", "x", "y"], "there is no folder x, and no run of a model of this name in runs: give the --output"),
        (["run", BM25], f"hybrid-bench run: unrecognized arguments: {BM25}; did you mean --models {BM25}?"),
        (["run", "beir:x"], "unrecognized arguments: beir:x; did you mean --tasks beir:x?"),
        (["rum"], "did you mean 'run'? (see hybrid-bench --help)"),
        (
            ["report", "x", "--seed", "0"],
            "--seed would change nothing where there are neither tests nor intervals (see --baseline",
        ),
        (
            ["report", "x", "--draws", "500", "--cluster", "article"],
            "--cluster and --draws would change nothing where there are neither",
        ),
        (["report", "x", "--table", "leaderboard", "--format", "csv", "--seed", "0"], "--seed would change nothing"),
        (["submit", "--check", "x", "--runs", "y"], "--runs would change nothing without --task-pr: leave it out"),
        (["submit", "--out", "x", "y", "--data-dir", "z"], "--data-dir would change nothing without --task-pr"),
        (["submit", "--task-pr", "x", "XQuAD-R", "--tasks", "y"], "--tasks would change nothing with --task-pr"),
        (
            ["train", "--show", "--preset", "llm-lora", "--devices", "1"],
            "--devices would change nothing without --estimate",
        ),
        (["train", "--check", "--preset", "llm-lora", "--negatives", "0"], "--negatives would change nothing"),
        (["train", "--preset", "llm-lora", "--sharding", "fsdp"], "--sharding would change nothing without"),
        (["train", "--show", "--preset", "llm-lora", "--overwrite"], "--overwrite would change nothing where"),
        (["train", "--accelerate-config", "fsdp", "--set", "seed=1"], "--set would change nothing with"),
        (
            ["train", "--accelerate-config", "fsdp", "mine.toml"],
            "--accelerate-config only names a file: leave 'mine.to",
        ),
        (["export", "trec", "--model", BM25, "--out", "x", "--device", "cpu"], "--device would change nothing"),
        (["compare", "x", "--cluster", "language"], "argument --cluster: invalid choice: 'language' (choose from "),
        (["compare", "x", "--draws", "0"], "argument --draws: '0' is not a whole number of at least 1"),
        (["models", "no such model"], "no model known by name has 'no such model' in it"),
        (["runn"], "argument COMMAND: invalid choice: 'runn' (choose from "),
        ([], "the following arguments are required: COMMAND (see hybrid-bench --help)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_request(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(command(*arguments))
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_debug_shows_the_traceback() -> None:
    plain = command("run", "--tasks", "XQuAD")
    done = command("run", "--tasks", "XQuAD", "--debug")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.endswith(
        f"\nhybrid_bench.errors.RequestError: {plain.err.removeprefix('hybrid-bench: ')}{plain.err}"
    )


def test_report_of_nothing(tmp_path: Path) -> None:
    assert refused(command("report", tmp_path)).startswith(f"hybrid-bench: no run in {tmp_path}: `hybrid-bench run")
    assert f"there is no folder {tmp_path / 'x'}, and no run of a model of this name in " in refused(
        command("report", tmp_path / "x")
    )
    file = tmp_path / "file"
    file.write_text("not a run")
    assert f"{file} is a file: give the --output of " in refused(command("report", file))


# -- places that cannot be written or read ------------------------------------------------------------------------


def test_output_below_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for output in (file, file / "below"):
        line = refused(command("run", *ONE_SUBSET, "--models", BM25, "--output", output), code=1)
        assert line.startswith(f"hybrid-bench: cannot write to the output folder {output} (")
        assert line.endswith("; choose another with --output")
    assert file.read_text() == "mine"


def test_report_to_a_place_below_a_file(demo_run: DemoRun, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    line = refused(command("report", demo_run.output, "--out", file / "table.md"), code=1)
    assert line == f"hybrid-bench: cannot write {file / 'table.md'} (File exists); choose another with --out"


def test_missing_data_folder(tmp_path: Path) -> None:
    nowhere, output = tmp_path / "nowhere", tmp_path / "runs"
    done = command("run", "--models", BM25, "--tasks", "XQuAD-R", "--data-dir", nowhere, "--output", output)
    line = refused(done, code=1)  # before a model is loaded
    assert line.startswith(f"hybrid-bench: --data-dir {nowhere} is not a folder: give one that holds xquad-r/")
    assert not output.exists()


def test_a_model_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    broken, output = tmp_path / "broken", tmp_path / "runs"
    broken.mkdir()
    done = command("run", *ONE_SUBSET, "--models", broken, BM25, "--output", output)
    assert done.code == 1
    assert f"hybrid-bench: {broken} holds no model: neither modules.json nor config.json is in it" in (
        done.err.splitlines()
    )
    assert "Traceback" not in done.err
    assert re.search(rf"^\| HybridDemo +\| {BM25} +\|", done.out, re.MULTILINE)
    assert str(broken) not in done.out


# -- run and report -----------------------------------------------------------------------------------------------

TABLE = re.compile(r"(?:\|[^\n]*\|\n){5}\n- mAP at full depth [^\n]*\n- HybridDemo: [^\n]*\.\n- Bold: [^\n]*\.\n")


def test_run_without_models_is_the_demo(demo_run: DemoRun) -> None:
    done = demo_run.done
    assert done.code == 0, done.err
    assert TABLE.fullmatch(done.out)  # nothing else
    header, rule, *rows = done.out.split("\n\n", maxsplit=1)[0].splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "Collection",
        "Model",
        "Monolingual mAP ↑",
        "Monolingual R@1 ↑",
        "Cross-lingual mAP ↑",
        "Cross-lingual R@1 ↑",
        "Multilingual mAP ↑",
        "Multilingual R@10 ↑",
        "Rank distance mean ↓",
        "Rank distance median ↓",
    ]
    assert set(rule) == set("|:-")
    assert [row.split("|")[2].strip() for row in rows] == [BM25, CHAR_NGRAM, "random ranking"]
    values = [[float(value) for value in re.findall(r"\d+\.\d+", row)] for row in rows[:2]]
    for mono, mono_1, cross, cross_1, multi, multi_10, mean, median in values:
        assert 0 < mono_1 < mono
        assert 0 < cross_1 < cross
        assert 0 < multi_10 < 1
        assert 0 < cross < mono < 1
        assert 0 < multi < mono
        assert 10 <= min(mean, median) <= max(mean, median) < 1408
    assert "- HybridDemo: 11 monolingual, 110 cross-lingual, 11 multilingual subsets.\n" in done.out


def test_run_tells_its_steps_on_stderr_and_nothing_of_other_packages(demo_run: DemoRun) -> None:
    assert demo_run.done.err.splitlines() == [
        f"{BM25} on HybridDemo-Pairs: 121 subsets",
        f"{BM25} on HybridDemo-Multilingual: 11 subsets",
        f"{CHAR_NGRAM} on HybridDemo-Pairs: 121 subsets",
        f"{CHAR_NGRAM} on HybridDemo-Multilingual: 11 subsets",
        f"saved under {demo_run.output}",
    ]


def test_run_saves_results_that_mteb_reads(demo_run: DemoRun) -> None:
    cache = mteb.ResultCache(demo_run.output)
    results = cache.load_results(models=[BM25, CHAR_NGRAM], tasks=["HybridDemo-Pairs", "HybridDemo-Multilingual"])
    found = {
        (model.model_name, task.task_name): [scores["hf_subset"] for scores in task.scores["test"]]
        for model in results.model_results
        for task in model.task_results
    }
    assert {name: len(subsets) for name, subsets in found.items()} == {
        (model, task): count
        for model in (BM25, CHAR_NGRAM)
        for task, count in (("HybridDemo-Pairs", 121), ("HybridDemo-Multilingual", 11))
    }


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_second_run_does_nothing_again(demo_run: DemoRun) -> None:
    before = snapshot(demo_run.output)
    # By model: result and table of two tasks; meta, settings, signatures. And the lock of the folder.
    assert len(before) == 2 * (2 * 2 + 3) + 1
    done = command("run", "--output", demo_run.output)
    assert (done.code, done.out) == (0, demo_run.done.out)
    assert done.err.count(": already there\n") == 4
    assert snapshot(demo_run.output) == before


def test_report_gives_the_table_again(demo_run: DemoRun) -> None:
    assert command("report", demo_run.output) == Done(0, demo_run.done.out, "")
    assert command("report", demo_run.output / "results") == Done(0, demo_run.done.out, "")
    # one run, named twice
    (folder,) = (demo_run.output / "results" / "hybrid_bench__bm25").iterdir()
    done = command("report", folder, folder)
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 7
    assert BM25 in done.out
    assert "**" not in done.out  # nothing to compare it with


def test_report_as_latex(demo_run: DemoRun, tmp_path: Path) -> None:
    done = command("report", demo_run.output, "--format", "latex")
    assert (done.code, done.err) == (0, "")
    assert done.out == report(ReportRequest([demo_run.output], format="latex"))
    notes, table = done.out[: done.out.index("\\begin")], done.out[done.out.index("\\begin") :]
    assert all(line.startswith("% ") for line in notes.splitlines())
    assert re.fullmatch(
        r"\\begin\{tabular\}\{ll(S\[[^\]]*\]){8}\}\n\\toprule\n.*\\bottomrule\n\\end\{tabular\}\n",
        table,
        re.DOTALL,
    )
    assert r"hybrid\_bench/bm25 & \bfseries 0." in table
    file = tmp_path / "table.tex"
    assert command("report", demo_run.output, "--out", file) == Done(0, "", f"wrote {file}\n")  # as its name ends
    assert file.read_text(encoding="utf-8") == done.out


def test_compare(demo_run: DemoRun) -> None:
    done = command("compare", demo_run.output)
    assert (done.code, done.err) == (0, "")
    assert done.out == compare(ReportRequest([demo_run.output]))
    titles = re.findall(r"^- HybridDemo, ([\w-]+): (\d+) subsets, ", done.out, re.MULTILINE)
    assert titles == [("monolingual", "11"), ("cross-lingual", "110"), ("multilingual", "11")]
    (bm25,) = (demo_run.output / "results" / "hybrid_bench__bm25").iterdir()
    (char_ngram,) = (demo_run.output / "results" / "hybrid_bench__char-ngram").iterdir()
    options = ["--measure", "bias_awrf_uniform", "--cluster", "question", "--draws", "200", "--seed", "5"]
    done = command("compare", bm25, "--baseline", char_ngram, *options)
    assert (done.code, done.err) == (0, "")
    request = ReportRequest([bm25], baseline=char_ngram, measure="bias_awrf_uniform", cluster="question", draws=200)
    assert done.out == compare(replace(request, seed=5))


@pytest.mark.parametrize("measure", ["bias_kendall_w", "bias_rank_distance_median", "bias_js_at_10_prior_excess"])
def test_compare_by_what_is_no_measure_of_queries(measure: str, demo_run: DemoRun) -> None:
    done = command("compare", demo_run.output, "--measure", measure, "--draws", "200")
    assert (done.code, done.err) == (0, "")
    assert f"Difference from {BM25} in {measure}" in done.out
    assert re.search(r"[+-]\d+\.\d{4}", done.out)


def test_compare_of_runs_that_cannot_be_compared(demo_run: DemoRun, tmp_path: Path) -> None:
    (bm25,) = (demo_run.output / "results" / "hybrid_bench__bm25").iterdir()
    assert refused(command("compare", bm25)) == (
        f"hybrid-bench: one run only ({BM25}): a comparison takes two; name another run's folder"
    )
    assert "did you mean 'ndcg_at_10'?" in refused(command("compare", demo_run.output, "--measure", "ndcg@10"))
    assert command("run", *ONE_SUBSET, "--models", CHAR_NGRAM, "--output", tmp_path).code == 0
    assert " do not have the same queries: only " in refused(command("compare", bm25, tmp_path))


def test_run_with_another_format_of_the_table(demo_run: DemoRun) -> None:
    done = command("run", "--output", demo_run.output, "--format", "latex")
    assert (done.code, done.out) == (0, report(ReportRequest([demo_run.output], format="latex")))


def test_a_narrowed_pool_is_another_run(demo_run: DemoRun, tmp_path: Path) -> None:
    """Its numbers stand beside those of the whole pool, under a name that tells them apart."""
    multilingual: list[str | Path] = [
        "--models",
        BM25,
        "--settings",
        "multi",
        "--output",
        tmp_path,
        "--tasks",
        "HybridDemo",
    ]
    whole = command("run", *multilingual, "--languages", "de", "en")
    narrowed = command("run", *multilingual, "--languages", "de", "en", "--pool-languages", "en", "de")
    assert (whole.code, narrowed.code) == (0, 0)
    both = command("report", tmp_path)
    names = [line.split("|")[2].strip() for line in both.out.splitlines()[2:4]]
    assert names == [BM25, f"{BM25} (pool_languages=de-en)"]
    before, after = ([float(value) for value in re.findall(r"\d+\.\d+", line)] for line in both.out.splitlines()[2:4])
    assert len(before) == len(after) == 4  # mAP, R@10, rank distance mean and median
    assert after[0] > before[0]  # fewer passages, and only two to find
    assert after[2] < 256 < before[2]
    assert both.out.endswith(
        "HybridDemo: 2 multilingual subsets "
        "(the runs do not cover the same subsets and pools: such means cannot be compared, and are not marked).\n"
    )


def test_a_pool_of_one_language_is_still_that_of_the_multilingual_task(tmp_path: Path) -> None:
    """Its numbers must not be taken for those of the pairs."""
    wanted: list[str | Path] = [
        "--models",
        BM25,
        "--tasks",
        "HybridDemo",
        "--languages",
        "de",
        "en",
        "--output",
        tmp_path,
    ]
    assert command("run", *wanted, "--pool-languages", "de").code == 0
    assert command("run", *wanted, "--settings", "mono", "cross").code == 0
    done = command("report", tmp_path)
    pairs, narrowed = (line.split("|")[3:9] for line in done.out.splitlines()[2:4])
    # The pairs know nothing of the pool: they stand with the model's other results, and were not run twice.
    shown = [re.fullmatch(r"\d\.\d+|- \(0 of 2 subsets\)", cell.strip()) is not None for cell in (*pairs, *narrowed)]
    assert shown == [True] * 12
    assert [cell.strip().startswith("-") for cell in pairs] == [False] * 4 + [True] * 2
    assert [cell.strip().startswith("-") for cell in narrowed] == [True] * 4 + [False] * 2
    name = f"{BM25} (pool_languages=de)"
    assert [line.split("|")[2].strip() for line in done.out.splitlines()[2:4]] == [BM25, name]
    assert done.out.endswith(
        "- HybridDemo: 0/2 monolingual, 0/2 cross-lingual, 0/2 multilingual subsets "
        "(the runs do not cover the same subsets and pools: such means cannot be compared, and are not marked).\n"
        "- HybridDemo: not there: Rank dist., Median: the pool has only one language.\n"
    )


# -- what other programs read -------------------------------------------------------------------------------------


def test_what_is_exported_in_beirs_format_is_run_again_with_the_same_ranks(tmp_path: Path) -> None:
    chosen = ["--tasks", "HybridDemo", "--settings", "multi", "--languages", "de", "--pool-languages", "de", "en"]
    done = command("export", "beir", *chosen, "--out", tmp_path / "beir")
    assert (done.code, done.out) == (0, ""), done.err
    (folder,) = (path.parent for path in (tmp_path / "beir").rglob("corpus.jsonl"))
    of_beir = command("run", "--models", BM25, CHAR_NGRAM, "--tasks", f"beir:{folder}", "--output", tmp_path / "runs")
    assert of_beir.code == 0, of_beir.err
    ours = command("run", "--models", CHAR_NGRAM, *chosen, "--output", tmp_path / "runs")
    assert ours.code == 0, ours.err
    tables = [
        pq.read_table(path)
        for path in sorted((tmp_path / "runs" / "results" / "hybrid_bench__char-ngram").rglob("*.parquet"))
    ]
    # The file knows a query by its id, our table by that of the question, which stands at its end.
    first, second = (
        {row["question_id"].rpartition(".")[2]: row["ranks"] for row in table.to_pylist()} for table in tables
    )
    assert len(first) == 84
    assert first == second
    # A table of its own for what is no parallel collection, with mteb's own measure first.
    assert "nDCG@10" in of_beir.out
    assert "nDCG@10" not in ours.out
    both = command("report", tmp_path / "runs").out
    assert both.count("nDCG@10") == both.count("Rank distance mean ↓") == 1


def test_what_is_exported_as_trec_files_has_the_scores_of_the_run(tmp_path: Path) -> None:
    done = command("export", "trec", *ONE_SUBSET, "--model", BM25, "--top-k", "20", "--out", tmp_path / "trec")
    assert (done.code, done.out) == (0, ""), done.err
    run, qrels = sorted((tmp_path / "trec").iterdir(), key=lambda path: path.suffix, reverse=True)
    lines = [line.split() for line in run.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 84 * 20
    relevant = {(line.split()[0], line.split()[2]) for line in qrels.read_text(encoding="utf-8").splitlines()}
    assert command("run", *ONE_SUBSET, "--models", BM25, "--output", tmp_path / "runs").code == 0
    (table,) = (tmp_path / "runs").rglob("*.parquet")
    ranks = sorted(rank for row in pq.read_table(table).to_pylist() for rank in row["ranks"] if rank <= 20)
    assert sorted(int(rank) for query, _, passage, rank, _, _ in lines if (query, passage) in relevant) == ranks != []
    again = command("export", "trec", *ONE_SUBSET, "--model", CHAR_NGRAM, "--top-k", "20", "--out", tmp_path / "trec")
    assert again.code == 0
    assert len(list((tmp_path / "trec").iterdir())) == 3  # the judgments are the same


def test_a_reader_who_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    stream = open(write, "w", encoding="utf-8")  # noqa: PTH123, SIM115 # a file descriptor; closed below
    errors = io.StringIO()
    before = sys.stdout
    try:
        sys.stdout = stream
        with contextlib.redirect_stderr(errors):
            assert main(["tasks"]) == 0
    finally:
        sys.stdout = before
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    assert errors.getvalue() == ""


def test_an_interrupt_is_one_line_and_keeps_what_was_saved(tmp_path: Path) -> None:
    process = start("run", "--languages", "ar", "de", "en", "es", "th", "zh", "--output", tmp_path)
    assert process.stderr is not None
    # Nothing but ours comes in between, in a process that other packages have not been quietened in before.
    assert [process.stderr.readline() for _ in range(3)] == [
        f"{BM25} on HybridDemo-Pairs: 36 subsets\n",
        f"{BM25} on HybridDemo-Multilingual: 6 subsets\n",
        f"{CHAR_NGRAM} on HybridDemo-Pairs: 36 subsets\n",
    ]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert (process.returncode, out) == (130, "")
    stopped, last = err.splitlines()
    assert re.match(rf"{CHAR_NGRAM} on HybridDemo-Pairs: stopped; \d+ of 36 subsets are saved", stopped), stopped
    assert last == "hybrid-bench: stopped; what was saved is kept, and the same command goes on from there"
    assert [name.split("|")[2].strip() for name in command("report", tmp_path).out.splitlines()[2:3]] == [BM25]


# -- what is there ------------------------------------------------------------------------------------------------


def test_tasks() -> None:
    done = command("tasks")
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.out.splitlines()]
    assert rows[0] == ["Collection", "Task", "Subsets", "Languages", "Licence"]
    assert sorted(row[:3] + row[4:] for row in rows[2:]) == [
        ["HybridDemo", "HybridDemo-Multilingual", "11", "apache-2.0"],
        ["HybridDemo", "HybridDemo-Pairs", "121", "apache-2.0"],
        ["MIRACL", "MIRACL-Multilingual", "18", "cc-by-sa-4.0"],
        ["MIRACL", "MIRACL-Pairs", "324", "cc-by-sa-4.0"],
        ["MLQA-R", "MLQA-R-Multilingual", "7", "cc-by-nc-4.0"],
        ["MLQA-R", "MLQA-R-Pairs", "49", "cc-by-nc-4.0"],
        ["XQuAD-R", "XQuAD-R-Multilingual", "11", "cc-by-sa-4.0"],
        ["XQuAD-R", "XQuAD-R-Pairs", "121", "cc-by-sa-4.0"],
    ]
    assert {(row[0], row[3]) for row in rows[2:]} == {
        ("HybridDemo", "ar de el en es hi ru th tr vi zh"),
        ("MIRACL", "ar bn de en es fa fi fr hi id ja ko ru sw te th yo zh"),
        ("MLQA-R", "ar de en es hi vi zh"),
        ("XQuAD-R", "ar de el en es hi ru th tr vi zh"),
    }


def test_models() -> None:
    done = command("models")
    assert (done.code, done.err) == (0, "")
    names = done.out.splitlines()
    assert names[:2] == [BM25, CHAR_NGRAM]
    assert names[2:] == sorted(set(names) - {BM25, CHAR_NGRAM})
    assert "intfloat/multilingual-e5-small" in names
    for text in ("multilingual-e5", "Multilingual-E5"):
        some = command("models", text).out.splitlines()
        assert some == [name for name in names if "multilingual-e5" in name.casefold()] != []


# -- mteb's own command line --------------------------------------------------------------------------------------


def test_mteb_gets_all_arguments() -> None:
    done = command("mteb", "available-tasks", "-t", "XQuAD-R-Pairs", "XQuADRetrieval")
    assert done.code == 0
    assert re.findall(r"^    - ([\w-]+),", done.out, re.MULTILINE) == ["XQuAD-R-Pairs", "XQuADRetrieval"]
    done = command("mteb", "available-tasks", "--languages", "deu", "--task-types", "Retrieval")
    assert {"XQuAD-R-Pairs", "XQuAD-R-Multilingual", "XQuADRetrieval"} <= set(
        re.findall(r"^    - ([\w-]+),", done.out, re.MULTILINE)
    )
    done = command("mteb", "available-benchmarks", "--benchmarks", "HybridBench")
    assert "HybridBench" in done.out


def test_mteb_help_and_usage_are_its_own() -> None:
    done = command("mteb", "--help")
    assert done.code == 0
    assert done.out.startswith("usage: hybrid-bench mteb [-h]")
    assert command("mteb") == done
    done = command("mteb", "run", "--no-such-option")
    assert (done.code, done.out) == (2, "")
    assert "unrecognized arguments: --no-such-option" in done.err
    assert command("mteb", "run", "--help").out.startswith("usage: hybrid-bench mteb run [-h]")


def test_our_errors_under_mteb_are_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BENCH_DATA", str(tmp_path / "nowhere"))
    done = command(
        "mteb", "run", "-m", CHAR_NGRAM, "-t", "XQuAD-R-Multilingual", "--output-folder", tmp_path / "out", "-v", "0"
    )
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith(
        f"hybrid-bench: HYBRID_BENCH_DATA {tmp_path / 'nowhere'} is not a folder: give one that holds xquad-r/"
    )


def test_mteb_run_saves_tables_and_signature(tmp_path: Path, demo_run: DemoRun) -> None:
    """In a process of its own, where nothing but the command registers the tasks."""
    process = start(
        "mteb",
        "run",
        "-m",
        CHAR_NGRAM,
        "-t",
        "HybridDemo-Multilingual",
        "--output-folder",
        tmp_path,
        "--no-co2-tracker",
    )
    _, err = process.communicate()
    assert process.returncode == 0, err
    name = "HybridDemo-Multilingual"
    folder = tmp_path / "results" / "hybrid_bench__char-ngram" / "1"
    ours = demo_run.output / "results" / "hybrid_bench__char-ngram" / "1"
    table = pq.read_table(folder / f"{name}.queries.parquet")
    assert table.num_rows == 11 * 84
    assert table["ranks"].equals(pq.read_table(ours / f"{name}.queries.parquet")["ranks"])
    signature, expected = read_signatures(folder)[name], read_signatures(ours)[name]
    assert signature == expected
    scores = {}
    for place in (folder, ours):
        result = json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
        scores[place] = {subset["hf_subset"]: subset["main_score"] for subset in result["scores"]["test"]}
    assert scores[folder] == scores[ours]
    assert command("report", tmp_path).code == 0
