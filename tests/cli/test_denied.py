"""Paths that may not be read or written, that are full, or that no file can have: one line each, in every command.

Whoever is root may read everything: then the commands run without that capability. They share one process, so that
what they import is imported once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from saved_runs import BM25, CHAR_NGRAM, folder_of, save_runs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions of files are POSIX's")
ROOT = Path(__file__).parents[2]
ONE = ["--tasks", "HybridDemo-Pairs", "--settings", "mono", "--languages", "de"]
PROGRAM = """
import contextlib, io, json, sys
from hybrid_bench.cli.commands import main
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except BaseException as error:
            err.write(f"ESCAPED {error!r}")
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
TRAINING = """
output = "{output}"
[model]
kind = "static"
[[sources]]
name = "demo"
kind = "lareqa"
dataset = "HybridDemo"
"""


def told(cases: list[list[str]], cwd: Path) -> list[tuple[int | None, str, str]]:
    """What each of these commands leaves, run by somebody who may not read everything."""
    before = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root can read everything, and there is no setpriv")
        before = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*before, sys.executable, "-c", PROGRAM],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HYBRID_BENCH_OFFLINE": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def written(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def beir(folder: Path) -> Path:
    written(folder / "corpus.jsonl", '{"_id": "1", "text": "a"}\n')
    written(folder / "queries.jsonl", '{"_id": "q", "text": "a"}\n')
    written(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq\t1\t1\n")
    return folder


def parallel(folder: Path) -> Path:
    written(folder / "passages.jsonl", '{"id": "p", "language": "de", "text": "a"}\n')
    written(folder / "questions.jsonl", '{"id": "q", "language": "de", "text": "a", "relevant": ["p"]}\n')
    return folder


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    runs = save_runs(tmp_path / "runs", (BM25, CHAR_NGRAM), ("HybridDemo-Pairs",), ("de",))
    one = str(folder_of(runs, BM25))
    closed = tmp_path / "closed"
    closed.mkdir()
    training = written(tmp_path / "training.toml", TRAINING.format(output=closed / "model"))
    locked = [closed]

    def lock(path: Path) -> str:
        locked.append(path)
        return str(path)

    def model(name: str, inner: str) -> str:
        written(tmp_path / name / "modules.json", "[]")
        lock(written(tmp_path / name / inner, "{}"))
        return str(tmp_path / name)

    def run_without(name: str, inner: str) -> str:
        copy = Path(shutil.copytree(runs, tmp_path / name))
        lock(copy / Path(one).relative_to(runs) / inner)
        return str(copy)

    places = [str(closed), str(closed / "x"), "/dev/full", "/dev/full/x", "x" * 256, "a\0b", "~nobody-of-this-name/x"]
    to_read = [
        ["run", *ONE, "--models"],
        ["run", "--models", BM25, "--tasks", "XQuAD-R", "--data-dir"],
        ["run", *ONE, "--models", BM25, "--top-k", "3", "--rerank"],
        ["run", "--models", BM25, "--tasks", "MIRACL", "--translations"],
        ["report"],
        ["report", str(runs), "--baseline"],
        ["compare", str(runs)],
        ["submit", "--check"],
        ["export", "trec", *ONE, "--out", str(tmp_path / "trec"), "--model"],
        ["train"],
        ["sweep", "--alpha", "1", "--output", str(tmp_path / "swept"), "--set", "seed=1", "--data-dir"],
    ]
    to_write = [
        ["run", *ONE, "--models", BM25, "--output"],
        ["run", *ONE, "--models", CHAR_NGRAM, "--output", str(tmp_path / "o"), "--embedding-cache"],
        ["report", str(runs), "--out"],
        ["report", str(runs), "--draws", "100", "--figures"],
        ["export", "beir", *ONE, "--out"],
        ["export", "trec", *ONE, "--model", BM25, "--out"],
        ["submit", one, "--out"],
        ["train", str(training), "--output"],
    ]
    cases = [[*command, place] for command in to_read for place in places]
    # What is written to a folder of this name is written; a home folder is not looked for.
    cases += [[*command, place] for command in to_write for place in places if not place.startswith("~")]
    cases += [
        [*command, f"{kind}{place}"]
        for kind in ("beir:", "jsonl:")
        for command in (["run", "--models", BM25, "--output", str(tmp_path / "o"), "--tasks"],)
        for place in places
    ]
    for name in ("corpus.jsonl", "queries.jsonl", "qrels", "qrels/test.tsv", "."):
        folder = beir(tmp_path / f"beir-{name.replace('/', '-')}")
        lock(folder / name)
        cases.append(["run", "--models", BM25, "--output", str(tmp_path / "o"), "--tasks", f"beir:{folder}"])
    for name in ("passages.jsonl", "questions.jsonl", "."):
        folder = parallel(tmp_path / f"parallel-{name}")
        lock(folder / name)
        cases.append(["run", "--models", BM25, "--output", str(tmp_path / "o"), "--tasks", f"jsonl:{folder}"])
    for number, inner in enumerate(["modules.json", "weights.bin", "sub/weights.bin"]):
        cases.append(["run", *ONE, "--output", str(tmp_path / "o"), "--models", model(f"model-{number}", inner)])
    for number, inner in enumerate([".", "..", "signatures.jsonl", "HybridDemo-Pairs.queries.parquet"]):
        copy = run_without(f"copy-{number}", inner)
        cases += [["report", copy], ["compare", copy], ["report", str(runs), "--baseline", copy]]
        cases.append(["run", *ONE, "--models", BM25, CHAR_NGRAM, "--output", copy])
    for kind, path in (("parallel", "/dev/full"), ("parallel", str(closed / "x")), ("hf", str(closed))):
        config = (
            TRAINING.format(output=tmp_path / "model").replace("lareqa", kind).replace("dataset", f'path = "{path}" #')
        )
        cases.append(["train", str(written(tmp_path / f"training-{len(cases)}.toml", config))])
    (tmp_path / "endless.tsv").symlink_to("/dev/full")
    cases.append(["run", "--models", BM25, "--tasks", "MIRACL", "--translations", str(tmp_path / "endless.tsv")])
    cases += [["train", lock(written(tmp_path / "locked.toml"))], ["train", str(training)]]
    modes = {each: each.stat().st_mode for each in locked}
    for each in modes:
        each.chmod(0)
    try:
        found = told(cases, tmp_path)
    finally:
        for each, mode in modes.items():
            each.chmod(mode)
    wrong = {}
    for arguments, (code, _, err) in zip(cases, found, strict=True):
        lines = [
            line
            for line in err.splitlines()
            if not line.startswith(("saved under", f"{CHAR_NGRAM} on ", f"{BM25} on "))
        ]
        most = 2 if CHAR_NGRAM in arguments and BM25 in arguments else 1  # of the model, and of the table of both
        if (
            code not in {1, 2}
            or not 1 <= len(lines) <= most
            or not all(line.startswith("hybrid-bench: ") for line in lines)
            or "Traceback" in err
            or "errno" in err.lower()
        ):
            wrong[" ".join(arguments)[:150]] = (code, err[-300:])
    assert wrong == {}


def test_a_full_device_on_stdout_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hybrid_bench", "train", "--preset", "llm-lora", "--show"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert (done.returncode, done.stderr) == (1, "hybrid-bench: cannot use the output: No space left on device\n")
