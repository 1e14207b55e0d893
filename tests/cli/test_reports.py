"""What `report` and `compare` are asked for on the command line, on small saved runs."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from hybrid_bench.cli.commands import main
from hybrid_bench.reporting.document import ReportRequest, report
from hybrid_bench.runs.reading import find_run
from saved_runs import BM25, CHAR_NGRAM, save_runs

PAIRS = ["HybridDemo-Pairs"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs where they are looked for, of one subset; and, in `more`, of that and another."""
    folder = tmp_path_factory.mktemp("place")
    save_runs(folder / "runs", (BM25, CHAR_NGRAM), PAIRS, ("de",))
    save_runs(folder / "more", (CHAR_NGRAM,), PAIRS, ("de", "en"), settings=["mono"])
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def command(*arguments: str | Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def test_runs_are_compared_by_the_names_of_their_models() -> None:
    names = command("compare", BM25, CHAR_NGRAM, "--draws", "200")
    folders = [find_run(name).folder for name in (BM25, CHAR_NGRAM)]
    assert names == command("compare", *folders, "--draws", "200")
    assert names == command("compare", "runs", "--baseline", BM25, "--draws", "200")
    assert names[0] == 0


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("x.md", "| Collection"),
        ("x.tex", "% mAP"),
        ("x.HTML", "<!doctype html>"),
        ("x.csv", "system,kind,"),
        ("x.json", "{"),
        ("x.txt", "| Collection"),
    ],
)
def test_a_file_is_written_in_the_format_that_its_name_ends_in(name: str, begin: str, tmp_path: Path) -> None:
    file = tmp_path / name
    assert command("report", "runs", "--out", file) == (0, "", f"wrote {file}\n")
    assert file.read_text(encoding="utf-8").lower().startswith(begin.lower())
    assert command("report", "runs", "--out", file, "--format", "csv")[0] == 0  # what is asked for counts more
    assert file.read_text(encoding="utf-8").startswith("system,kind,")


@pytest.mark.parametrize("format_", ["markdown", "latex", "html", "csv", "json"])
def test_a_run_is_called_as_its_label_says(format_: str) -> None:
    given = ["--label", f"{BM25}=Okapi", f"{CHAR_NGRAM}=n-grams (k=3)", "--draws", "200", "--baseline", BM25]
    code, out, _ = command("report", "runs", "--format", format_, *given)
    assert code == 0
    if format_ in {"csv", "json"}:  # files for programs keep the models' names
        assert ("Okapi" in out, BM25 in out) == (False, True)
        return
    assert "Okapi" in out
    assert "n-grams" in out
    if format_ != "html":  # which says besides what the models are
        assert BM25 not in out.replace("\\_", "_")


def test_the_primary_measure_is_named_in_the_caption() -> None:
    given = ["report", "runs", "--baseline", BM25, "--draws", "200"]
    assert "mAP monolingual, the primary measure" in command(*given, "--primary", "mono:map")[1]
    assert "mAP monolingual, the primary measure" not in command(*given)[1]
    code, _, err = command("report", "runs", "--primary", "map")
    assert (code, "without --baseline" in err) == (2, True)
    assert command(*given, "--primary", "mpa")[2].endswith("did you mean 'map'?\n")


def test_a_label_may_be_that_of_a_run_with_options(tmp_path: Path) -> None:
    save_runs(tmp_path, (BM25,), PAIRS, ("de",), settings=["mono"], passage="sentence+context")
    given = ["--label", f"{BM25} (passage=sentence+context)=with context", "--label", f"{CHAR_NGRAM}=n-grams"]
    _, out, err = command("report", "runs", tmp_path, *given)
    assert [line.split("|")[2].strip() for line in out.splitlines()[2:5]] == [BM25, "n-grams", "with context"], err


def test_labels_of_no_run_and_labels_that_are_the_same_are_refused() -> None:
    code, out, err = command("report", "runs", "--label", "hybrid_bench/bm52=x")
    assert (code, out) == (2, "")
    assert err == (f"hybrid-bench: there is no run of 'hybrid_bench/bm52' to be called 'x': did you mean '{BM25}'?\n")
    code, _, err = command("report", "runs", "--label", f"{BM25}=x", f"{CHAR_NGRAM}=x")
    assert (code, err) == (2, "hybrid-bench: two runs would have the same label: x, x\n")


def test_a_page_is_named_after_its_runs() -> None:
    _, out, _ = command("report", "runs", "--format", "html", "--label", f"{BM25}=<Okapi>", "--draws", "200")
    assert f"<title>Multilingual retrieval: &lt;Okapi&gt;, {CHAR_NGRAM}</title>" in out


def test_runs_over_different_subsets_are_compared_over_those_that_both_have() -> None:
    code, _, err = command("compare", find_run(BM25).folder, "more", "--draws", "200")
    assert code == 2
    assert err.endswith("; --common compares the subsets that all runs have\n")
    code, out, err = command("compare", find_run(BM25).folder, "more", "--draws", "200", "--common")
    assert (code, err) == (0, "")
    assert out == command("compare", "runs", "--draws", "200")[1]  # of the same subset


def test_without_common_subsets_there_is_nothing_to_compare(tmp_path: Path) -> None:
    save_runs(tmp_path, (CHAR_NGRAM,), PAIRS, ("en",), settings=["mono"])
    code, _, err = command("compare", find_run(BM25).folder, tmp_path, "--common")
    assert code == 2
    assert err == f"hybrid-bench: no subset of a task is in all of {BM25}, {CHAR_NGRAM}: compare others\n"


def test_figures_are_chosen_by_name(tmp_path: Path) -> None:
    code, _, err = command("report", "more", "--figures", tmp_path / "all", "--draws", "200")
    assert code == 0, err
    every = sorted(path.name for path in (tmp_path / "all").iterdir())
    one = every[0].removesuffix(".pdf")
    for name in (one, one.partition("-")[0]):  # as a whole, or how it begins
        folder = tmp_path / f"some-{name}"
        assert command("report", "more", "--figures", folder, name, "--draws", "200")[0] == 0
        some = sorted(path.name for path in folder.iterdir())
        assert some == [file for file in every if file.startswith((f"{name}.", f"{name}-"))]
        assert f"{one}.png" in some
    code, _, err = command("report", "more", "--figures", tmp_path / "none", f"{one}x", "--draws", "200")
    assert code == 2
    assert f"no figure '{one}x': did you mean '{one}'?" in err
    assert not (tmp_path / "none").exists()


class Terminal(io.StringIO):
    """What tells that a person looks at it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table_that_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["report", "runs"]) == 0
    assert shown.getvalue() == report(ReportRequest(["runs"], format="terminal", width=60))
    plain = re.sub(r"\x1b\[\d*m", "", shown.getvalue())
    assert max(map(len, plain.splitlines())) <= 60
    assert "<u>" not in plain
    asked = Terminal()
    monkeypatch.setattr(sys, "stdout", asked)
    assert main(["report", "runs", "--format", "markdown"]) == 0
    assert asked.getvalue() == report(ReportRequest(["runs"]))
