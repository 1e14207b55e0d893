"""Reports from saved runs: every table in every format, and what is said of a request that cannot be met."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import pyarrow.compute as pc
import pytest

from hybrid_bench.analysis.comparisons import CLUSTERS, against_baseline, align
from hybrid_bench.analysis.frame import LEVELS, Place, Request, Value, results_of
from hybrid_bench.cli.commands import main
from hybrid_bench.data.published import published_systems
from hybrid_bench.errors import DataError, HybridBenchError, RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import step_down
from hybrid_bench.reporting.document import (
    FORMATS,
    TABLES,
    ReportRequest,
    compare,
    report,
    report_of,
    save_figures,
    study_of,
)
from hybrid_bench.reporting.elements import Kind
from hybrid_bench.reporting.tables import compare_table, tables_of
from hybrid_bench.reporting.text import as_latex, as_markdown
from hybrid_bench.runs.reading import find_runs
from hybrid_bench.runs.result_files import table_path
from report_cases import Level, change_metadata, level_of, printed_of, under_name
from saved_runs import BM25, CHAR_NGRAM, WORD_COUNTS, change_signature, change_table, copy_of, folder_of, save_runs

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"
MODELS = [BM25, CHAR_NGRAM, WORD_COUNTS]
REPORTED = "published:elmahdy2024"
FEW: dict[str, Any] = {"draws": 200, "seed": 3}
#: Of the long form, in this order.
COLUMNS = ["system", "kind", "revision", "collection", "setting", "query_language", "pool", "metric", "value", "n"]
COLUMNS += ["subsets", "lo", "hi", "cluster", "clusters", "baseline", "delta", "p", "p_adjusted", "source"]
#: What a comparison has besides, and what of it counts cells.
COMPARED = ["delta_lo", "delta_hi", "se", "d_z", "detectable", "higher", "ties", "lower", "p_t", "p_paired_t"]
COMPARED += ["p_wilcoxon", *(f"p_{name}" for name in CLUSTERS)]
COUNTED = {"higher", "ties", "lower"}


#: What a report is written in; a terminal is none of them, it is what is taken where there is one.
WRITTEN = tuple(form for form in FORMATS if form != "terminal")
#: What is asked on the command line too: each table and each format, but not each in each.
AS_COMMANDS = {*zip((name for name in TABLES if name != "miracl"), cycle(WRITTEN), strict=False)}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"), MODELS)


@pytest.fixture(scope="module")
def asked(output: Path) -> ReportRequest:
    return ReportRequest([output, REPORTED], **FEW)


def refused(make: Callable[[], object], error: type[HybridBenchError] = RequestError) -> str:
    """The one line that is said instead of a report."""
    with pytest.raises(error) as caught:
        make()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def records(text: str) -> list[dict[str, Any]]:
    """The long form from CSV, as Python's own values: what is empty is None."""
    numbers = {"value", "lo", "hi", "delta", "p", "p_adjusted", *COMPARED} - COUNTED
    counts = {"n", "subsets", "clusters", *COUNTED}
    found = []
    for row in csv.DictReader(io.StringIO(text, newline="")):
        assert list(row) in (COLUMNS, [*COLUMNS, *COMPARED])
        found.append(
            {
                name: None
                if value == "" and (name != "pool" or row["kind"] == "reported")
                else float(value)
                if name in numbers
                else int(value)
                if name in counts
                else value
                for name, value in row.items()
            }
        )
    return found


# -- formats ------------------------------------------------------------------------------------------------------


def test_markdown_is_the_tables_as_markdown(asked: ReportRequest) -> None:
    study = study_of(asked)
    (table,) = tables_of(study, ["main"])
    assert report(asked) == as_markdown(table, intervals=False)
    two = tables_of(study_of(ReportRequest([REPORTED])), ["per-language"])
    text = report(ReportRequest([REPORTED], table="per-language"))
    assert text == "\n".join(f"**{table.title}**\n\n{as_markdown(table)}" for table in two)


def test_latex_is_the_tables_as_latex(asked: ReportRequest) -> None:
    (table,) = tables_of(study_of(asked), ["main"])
    assert report(replace(asked, format="latex")) == as_latex(table, intervals=False)
    whole = report(replace(asked, format="latex", standalone=True))
    assert whole.startswith(r"\documentclass")
    assert "\n".join(as_latex(table, intervals=False).splitlines()[len(table.notes) :]) in whole
    with_intervals = report(replace(asked, format="latex", intervals=True))
    assert with_intervals.count(r"\scriptsize") == 3 * 8


@pytest.mark.parametrize("table", [name for name in TABLES if name != "miracl"])
@pytest.mark.parametrize("form", WRITTEN)
def test_every_table_in_every_format(table: str, form: str, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Where there is neither a test nor an interval, the command line takes no draws.
    drawn = table == "compare" or (form in {"html", "csv", "json"} and table != "leaderboard")
    request = ReportRequest([output], table=table, format=form, **(FEW if drawn else {}))
    text = report(request)
    begins: dict[str, str | tuple[str, ...]] = {
        "markdown": ("|", "**"),
        "latex": "% ",
        "html": "<!doctype html>",
        "csv": "system,",
        "json": "{",
    }
    assert text.lower().startswith(begins[form])
    assert text.endswith("\n")
    assert "nan" not in re.findall(r"\b\w+\b", text.lower()) or form == "html"  # a script may speak of it
    # what is on the command line is the same request
    options = [*(["--draws", "200", "--seed", "3"] if drawn else []), "--format", form]
    if (table, form) in AS_COMMANDS:
        assert main(["report", str(output), "--table", table, *options]) == 0
        assert capsys.readouterr() == (text, "")
    if table == "compare":
        assert compare(replace(request, table=None)) == text
        assert main(["compare", str(output), *options]) == 0
        assert capsys.readouterr() == (text, "")
    elif form not in {"csv", "json"}:
        spelled = [name.replace("_", r"\_") if form == "latex" else name for name in MODELS]
        assert all(name in text.replace("<wbr>", "") for name in spelled)


@pytest.mark.parametrize("form", WRITTEN)
def test_miracl_from_publications(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = report(ReportRequest([REPORTED], table="miracl", format=form))
    assert main(["report", REPORTED, "--table", "miracl", "--format", form]) == 0
    assert capsys.readouterr() == (text, "")
    assert "0.8120" in text or "0.812" in text
    if form == "csv":
        assert {record["collection"] for record in records(text)} == {"MIRACL"}
        assert len(records(text)) == 6 * 2 * 17


def test_without_a_table_a_page_has_everything(output: Path) -> None:
    page = report(ReportRequest([output], format="html", **FEW))
    one = report(ReportRequest([output], format="html", table="main", **FEW))
    assert len(page) > len(one)
    for anchor in ("main", "leaderboard", "per-language-HybridDemo", "bias-ranks", "bias-shares", "bias-split"):
        assert f'id="exhibit-{anchor}"' in page
    assert 'id="exhibit-leaderboard"' not in one
    assert "<title>Leaderboard: " in report(ReportRequest([output], format="html", table="leaderboard", **FEW))


def test_the_leaderboard_and_pairs_are_their_tables(output: Path) -> None:
    study = study_of(ReportRequest([output]))
    (board,) = tables_of(study, ["leaderboard"])
    assert report(ReportRequest([output], table="leaderboard")) == as_markdown(board)
    assert report(ReportRequest([output], table="pairs")) == as_markdown(*tables_of(study, ["pairs"]))


def test_the_same_request_gives_the_same_text_and_another_seed_another(output: Path) -> None:
    request = ReportRequest([output], table="compare", draws=100)
    assert report(request) == report(request) == report(replace(request, seed=0)) != report(replace(request, seed=1))


# -- the long form ------------------------------------------------------------------------------------------------


def place_of(record: dict[str, Any]) -> Level:
    """The level of a record, whose column of languages has its name where it is none of a language."""
    over, pool = record["query_language"], record["pool"]
    return ("pair", over, pool) if pool else level_of(over)


def test_the_long_form_holds_every_value(output: Path) -> None:
    baseline = folder_of(output, CHAR_NGRAM)
    request = ReportRequest([output], format="csv", baseline=baseline, cluster="paragraph", **FEW)
    found = records(report(request))
    study = study_of(request)
    assert study.names == [CHAR_NGRAM, BM25, WORD_COUNTS]  # the baseline comes first
    by_place = {(r["system"], r["setting"], r["metric"], place_of(r)): r for r in found}
    assert len(by_place) == len(found)
    metrics = {each: sorted({r["metric"] for r in found if r["setting"] == each.value}) for each in Setting}
    for setting, names in metrics.items():
        assert ("bias_kendall_w" in names) == (setting is Setting.MULTILINGUAL)
    results = results_of(study, [Request("HybridDemo", *each) for each in metrics.items()])
    expected: dict[tuple[str, str, str, Level], Value] = {}
    for setting, names in metrics.items():
        for metric in names:
            for where, value in results.of("HybridDemo", setting, metric, *LEVELS):
                expected[where.run, setting.value, metric, where[4:]] = value
    assert by_place.keys() == expected.keys()
    for place, value in expected.items():
        record = by_place[place]
        assert (record["n"], record["subsets"], record["clusters"]) == (value.n, value.subsets, value.clusters)
        for name, number in {
            "value": value.value,
            "lo": value.low,
            "hi": value.high,
            "delta": value.delta,
            "p": value.p,
            "p_adjusted": value.p_adjusted,
        }.items():
            assert record[name] == number or record[name] == pytest.approx(number, abs=1e-12)
            assert number is None or math.isfinite(number)
        assert (record["kind"], record["collection"], record["source"]) == ("run", "HybridDemo", None)
        assert record["cluster"] == ("paragraph" if value.low is not None else None)
        assert record["baseline"] == (CHAR_NGRAM if value.p is not None else None)
    tested = [record for record in found if record["p"] is not None]
    assert {record["system"] for record in tested} == {BM25, WORD_COUNTS}
    assert {record["kind"] for record in found} <= set(get_args(Kind))


def test_json_is_the_same_with_what_repeats_it(output: Path, asked: ReportRequest) -> None:
    request = replace(asked, baseline=folder_of(output, BM25))
    made = json.loads(report(replace(request, format="json")))
    of_csv = records(report(replace(request, format="csv")))
    values = made.pop("values")
    assert [{**dict.fromkeys(COLUMNS), **value} for value in values] == of_csv
    assert list(values[0]) == COLUMNS
    assert made["baseline"] == BM25
    assert (made["cluster"], made["draws"], made["seed"], made["confidence"]) == ("article", 200, 3, 0.95)
    assert list(made["runs"]) == MODELS
    for run in find_runs([output]):
        details = made["runs"][run.model]
        assert (details["model"], details["revision"]) == (run.model, run.revision)
        assert details["tasks"] == {task: dict(table.signature) for task, table in run.tasks.items()}
    assert made["published"] == [published_systems(REPORTED)[0].publication.citation]


def test_published_values_are_in_the_long_form_as_printed(asked: ReportRequest) -> None:
    found = [r for r in records(report(replace(asked, format="csv"))) if r["kind"] == "reported"]
    systems = {system.name: system for system in published_systems(REPORTED)}
    assert len(found) == sum(len(system.values) for system in systems.values())
    for record in found:
        place = record["collection"], Setting(record["setting"]), record["query_language"], record["metric"]
        printed = printed_of(systems[record["system"]], *place)
        assert printed is not None
        assert (record["value"], record["source"]) == (printed.value, f"arXiv 2408.10536, {printed.source}")
        assert record["p"] is record["lo"] is record["n"] is None


def test_a_comparison_in_the_long_form_is_of_its_measure(output: Path) -> None:
    request = ReportRequest([output], format="csv", measure="bias_awrf_prior", **FEW)
    found = records(compare(request))
    assert [(r["system"], r["metric"], r["setting"]) for r in found] == [
        (model, "bias_awrf_prior", "multilingual") for model in MODELS
    ]
    aligned = align(find_runs([output]), "HybridDemo", Setting.MULTILINGUAL, "bias_awrf_prior")
    expected = against_baseline(
        aligned, 0, collection="HybridDemo", setting=Setting.MULTILINGUAL, measure="bias_awrf_prior", **FEW
    )
    # One measure in one setting, which is not the primary one: adjusted over the runs, by step-down max-T.
    (adjusted,) = step_down([aligned.contrast("article")], **FEW).p_adjusted
    for record, each, p_adjusted in zip(found[1:], expected, adjusted.tolist(), strict=True):
        assert record["delta"] == pytest.approx(each.result.delta, abs=1e-12)
        assert (record["p"], record["p_adjusted"]) == (each.result.p, p_adjusted)
        assert record["baseline"] == BM25
        result = each.result
        # the interval of the value, and that of the difference
        assert record["lo"] < record["value"] < record["hi"]
        assert (record["delta_lo"], record["delta_hi"]) == (result.low, result.high)
        assert record["lo"] > record["delta_hi"]
        assert [record[name] for name in ("higher", "ties", "lower")] == [result.wins, result.ties, result.losses]
        assert [record[name] for name in ("se", "d_z", "detectable")] == [result.se, result.d_z, result.detectable]
        assert [record[name] for name in ("p_t", "p_paired_t", "p_wilcoxon")] == [
            result.p_t,
            result.p_paired_t,
            result.p_wilcoxon,
        ]
        assert [record[f"p_{name}"] for name in CLUSTERS] == [each.by[name].p for name in CLUSTERS]
    assert found[0]["p"] is None
    assert {found[0][name] for name in COMPARED} == {None}


def test_labels_are_for_people_and_files_for_programs_keep_names(output: Path) -> None:
    first, second = folder_of(output, BM25), folder_of(output, CHAR_NGRAM)
    request = ReportRequest([first, second], baseline=first, labels={BM25: "Words"}, **FEW)
    for form in ("markdown", "latex", "html"):
        made = report_of(replace(request, format=form))
        assert made.study.names == ["Words", CHAR_NGRAM]
        assert "Words" in made.text()
        assert not any(BM25 in str(table) for tables in made.tables.values() for table in tables)
        if form == "html":
            assert any("Words" in figure.title for figure in made.figures)
    for form in ("csv", "json"):
        assert report(replace(request, format=form)) == report(replace(request, format=form, labels={}))


def test_a_report_is_made_of_one_frame(output: Path) -> None:
    """What its tables and figures show stands in it, and is computed once."""
    made = report_of(ReportRequest([output], baseline=folder_of(output, BM25), format="html", **FEW))
    assert list(made.tables) == ["main", "tasks", "leaderboard", "per-language", "bias"]
    assert made.frame is made.results.frame
    assert not made.frame.duplicated(list(Place._fields)).any()
    shown = {cell.p for tables in made.tables.values() for table in tables for row in table.rows for cell in row.cells}
    assert shown - {None} <= set(made.frame["p"].dropna())
    again = report_of(ReportRequest(find_runs([output]), table="main", **FEW))
    assert again.text() == report(ReportRequest([output], table="main", **FEW))


def test_the_primary_measure_is_that_which_is_asked_for(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = folder_of(output, BM25)
    for primary, said in ((None, "mAP multilingual"), ("cross:recall_at_1", "R@1 cross-lingual")):
        text = report(ReportRequest([output], baseline=baseline, primary=primary, **FEW))
        assert f"adjusted: {said}, the primary measure, over the runs by Holm" in text
    few = ["--draws", "200", "--seed", "3", "--primary", "cross:recall_at_1", "--format", "markdown"]
    capsys.readouterr()
    assert main(["report", str(output), "--baseline", str(baseline), *few]) == 0
    assert capsys.readouterr() == (text, "")
    assert main(["report", str(output), "--primary", "mrr"]) == 2
    assert "--primary" in capsys.readouterr().err


# -- figures ------------------------------------------------------------------------------------------------------


def test_figures_are_drawn_into_a_folder(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = folder_of(output, BM25), folder_of(output, CHAR_NGRAM)
    narrow = ReportRequest(pair, subsets={MULTILINGUAL: ["de", "en", "th"]}, **FEW)
    files = save_figures(narrow, tmp_path / "figures")
    assert {file.suffix for file in files} == {".png", ".pdf"}
    assert all(file.stat().st_size > 1000 for file in files)
    assert {file.stem for file in files} == {
        "answers-HybridDemo-hybrid-bench-bm25",
        "answers-HybridDemo-hybrid-bench-char-ngram",
        "distances-HybridDemo",
        "bias-HybridDemo",
        "languages-HybridDemo-multilingual",
    }
    assert capsys.readouterr() == ("", "")
    lone = ReportRequest([folder_of(output, BM25)], subsets={PAIRS: ["de-de"]})
    assert refused(lambda: save_figures(lone, tmp_path)).startswith("there is nothing to draw: ")


# -- requests that cannot be met ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "htm"}, "unknown format 'htm': did you mean 'html'?"),
        ({"format": "docx"}, "unknown format 'docx': known: csv, html, json, latex, markdown, terminal"),
        ({"table": "mian"}, "unknown table 'mian': did you mean 'main'?"),
        ({"cluster": "articel"}, "unknown cluster 'articel': did you mean 'article'?"),
        ({"standalone": True}, "--standalone goes with --format latex, not with markdown"),
        ({"standalone": True, "format": "html"}, "--standalone goes with --format latex, not with html"),
        ({"draws": 99}, "99 draws: take at least 100, better 10000"),
        ({"seed": -1}, "seed -1: give a whole number from 0 up"),
        (
            {"letters": True, "table": "bias"},
            "--letters are of the main table, in --format markdown, latex or html: leave it out",
        ),
        (
            {"letters": True, "format": "csv"},
            "--letters are of the main table, in --format markdown, latex or html: leave it out",
        ),
        ({"measure": "mrr"}, "--measure mrr goes with --table compare: other tables have their own"),
        ({"table": "compare", "measure": "mapp"}, "no measure is called 'mapp': did you mean 'map'?"),
        ({"primary": "mapp"}, "no measure is called 'mapp': did you mean 'map'?"),
        ({"primary": "mulit:map"}, "unknown setting 'mulit': did you mean 'multi'?"),
        (
            {"reproduce": True, "format": "csv"},
            "--reproduce makes a table: take --format markdown, latex or html, not csv",
        ),
    ],
    ids=str,
)
def test_wrong_options(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert refused(lambda: report(replace(ReportRequest([tmp_path]), **changes))) == message  # before a run is read


def test_options_of_the_command_line_are_those_of_a_request(capsys: pytest.CaptureFixture[str], output: Path) -> None:
    assert main(["report", str(output), "--standalone"]) == 2
    assert capsys.readouterr() == ("", "hybrid-bench: --standalone goes with --format latex, not with markdown\n")
    assert main(["report", str(output), "published:elmahdy"]) == 2
    assert capsys.readouterr().err == (
        "hybrid-bench: no publication is called 'elmahdy': did you mean 'elmahdy2024'?\n"
    )
    assert {field.name for field in fields(ReportRequest)} >= {"intervals", "letters", "reproduce"}
    baseline = folder_of(output, BM25)
    options = ["--letters", "--intervals", "--baseline", str(baseline), "--draws", "200", "--cluster", "question"]
    assert main(["report", str(output), *options]) == 0
    expected = ReportRequest([output], letters=True, intervals=True, baseline=baseline, draws=200, cluster="question")
    assert capsys.readouterr() == (report(expected), "")


def test_published_results_are_no_baseline_and_are_not_compared(output: Path) -> None:
    assert refused(lambda: report(ReportRequest([output], baseline=Path(f"{REPORTED}/labse-hybrid")))) == (
        f"'{REPORTED}/labse-hybrid' cannot be a baseline: published results have no scores by query; name the folder "
        "of a run"
    )
    for request in (
        ReportRequest([output, REPORTED]),
        ReportRequest([output], baseline=Path(REPORTED)),
        ReportRequest([REPORTED]),
    ):
        assert refused(lambda request=request: compare(request)) == (  # type: ignore[misc] # mypy knows no default here
            f"'{REPORTED}' cannot be compared: published results have no scores by query; `report` shows them beside "
            "runs"
        )


def test_a_folder_of_several_runs_is_no_baseline(output: Path) -> None:
    told = refused(lambda: report(ReportRequest([output], baseline=output)))
    assert told.startswith(f"{output} holds {len(find_runs([output]))} runs: name the folder of one, {output}/results/")


def test_one_run_is_not_compared(output: Path) -> None:
    one = folder_of(output, BM25)
    expected = f"one run only ({BM25}): a comparison takes two; name another run's folder"
    for request in (ReportRequest([one]), ReportRequest([one, one]), ReportRequest([one], baseline=one)):
        assert refused(lambda request=request: compare(request)) == expected  # type: ignore[misc] # as above
    # to be shown one is enough, and nothing is best
    assert "**" not in report(ReportRequest([one]))


def test_there_is_nothing_for_a_table(output: Path) -> None:
    request = ReportRequest([folder_of(output, BM25)], table="miracl")
    for form in FORMATS:
        assert refused(lambda form=form: report(replace(request, format=form))) == (  # type: ignore[misc] # as above
            f"there is nothing for the table 'miracl' in {BM25}: `hybrid-bench run` says what a task needs"
        )
    assert "has a published counterpart" in refused(lambda: report(ReportRequest([output], reproduce=True)))


def test_runs_over_different_data_have_no_baseline(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    change_signature(folder_of(copy, CHAR_NGRAM), MULTILINGUAL, lambda signed: signed["data_sha256"].update(de="0"))
    expected = f"{BM25} and {CHAR_NGRAM} were made from different data of {MULTILINGUAL} (de; files"
    request = ReportRequest([copy], baseline=folder_of(copy, BM25), **FEW)
    assert refused(lambda: report(request)).startswith(expected)
    assert refused(lambda: compare(ReportRequest([copy], **FEW))).startswith(expected)
    # Side by side they may stand, but best and second are not told.
    markdown, before = (report(ReportRequest([folder])) for folder in (copy, output))
    numbers = [re.findall(r"\d+\.\d+", text) for text in (markdown, before)]
    assert numbers[0] == numbers[1]
    # The tasks of pairs are about the same data; no rank distance here is better than that of a random ranking.
    for text, first in ((markdown, 4), (before, 6)):
        rows = [line.split("|")[3:-1] for line in text.splitlines() if line.startswith("| HybridDemo")]
        bold = [any("**" in cell for cell in column) for column in zip(*rows, strict=True)]
        assert bold == [place < first for place in range(8)]
    assert "the runs are not about the same data and pools" in markdown


def test_runs_over_different_queries_have_no_baseline(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    folder = folder_of(copy, CHAR_NGRAM)
    first = find_runs([folder])[0].tasks[PAIRS].frame("question_id")["question_id"].min()
    change_table(folder, PAIRS, lambda table: table.filter(pc.not_equal(table["question_id"], first)))
    request = ReportRequest([copy], baseline=folder_of(copy, BM25), **FEW)
    assert refused(lambda: report(request)) == (
        f"{BM25} and {CHAR_NGRAM} do not have the same queries: only {BM25} has {first} (de-de), {first} (en-en), "
        f"{first} (th-th)"
    )
    both = [folder, folder_of(copy, BM25)]
    assert "do not have the same queries" in refused(lambda: report(ReportRequest(both, letters=True, **FEW)))


def test_runs_of_different_tasks_are_compared_where_they_meet(output: Path, tmp_path: Path) -> None:
    save_runs(tmp_path, [CHAR_NGRAM], [PAIRS], settings=["mono"])
    request = ReportRequest([folder_of(output, BM25), tmp_path], **FEW)
    assert "HybridDemo, monolingual" in compare(request)
    assert "HybridDemo, multilingual" not in compare(request)
    text = report(replace(request, baseline=folder_of(output, BM25)))
    assert "3 monolingual, 0/6 cross-lingual, 0/3 multilingual subsets" in text
    multilingual = replace(request, measure="bias_rank_distance")
    assert refused(lambda: compare(multilingual)).startswith("nothing to compare: ")


def test_a_single_article_leaves_the_finer_clusters(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    for model in MODELS:
        for task in (PAIRS, MULTILINGUAL):
            change_table(
                folder_of(copy, model), task, lambda table: table.filter(pc.equal(table["cluster_article"], 0))
            )
    request = ReportRequest([copy], **FEW)
    assert refused(lambda: compare(request)).startswith(
        "1 cluster: a comparison needs at least 2; choose smaller clusters"
    )
    table = compare_table(study_of(replace(request, table="compare", cluster="question")), "map")
    place = {column.key: number for number, column in enumerate(table.columns)}
    assert "p_article" not in place  # a column that nobody has anything in is left out
    assert table.rows[1].cells[place["p_question"]].text == p_of(table.rows[1].cells[place["delta"]].p)
    # without intervals to be had, values are shown all the same
    assert "[" not in report(replace(request, intervals=True))


def p_of(value: float | None) -> str:
    assert value is not None
    return f"{value:.4f}"


# -- runs that cannot be read -------------------------------------------------------------------------------------


def test_a_run_without_scores_by_query(output: Path, tmp_path: Path) -> None:
    """As mteb alone leaves it: results, and nothing to test."""
    copy = copy_of(output, tmp_path)
    folder = folder_of(copy, BM25)
    for task in (PAIRS, MULTILINGUAL):
        table_path(folder, task).unlink()
    assert refused(lambda: report(ReportRequest([folder]))).startswith(f"{folder} has results, but no scores by query ")
    assert BM25 not in report(ReportRequest([copy]))  # the others are still there


def test_the_long_form_of_the_leaderboard_is_its_numbers(output: Path) -> None:
    study = study_of(ReportRequest([output], table="leaderboard"))
    (table,) = tables_of(study, ["leaderboard"])
    expected = [
        (row.label, row.section, column.key, cell.value)
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell.value is not None
    ]
    found = json.loads(report(ReportRequest([output], table="leaderboard", format="json")))["values"]
    keys = [(each["system"], each["collection"], f"{each['setting']} {each['metric']}".strip()) for each in found]
    assert [(*key, each["value"]) for key, each in zip(keys, found, strict=True)] == expected
    assert expected


def test_a_corrupt_table(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copy_of(output, tmp_path)
    file = table_path(folder_of(copy, BM25), PAIRS)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    for form in FORMATS:
        message = refused(lambda form=form: report(ReportRequest([copy], format=form)), DataError)  # type: ignore[misc] # as above
        assert message.startswith(f"{file} is damaged (")
        assert message.endswith("): run the task again")
    assert main(["report", str(copy)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        r"org/$x^2$_{1}\input{a}&%#~",
        "<script>alert('1')</script>&<b>\"x\"",
        "org/a|b`*c*",
        "org/" + "very-long-name_" * 8,
    ],
)
def test_names_are_escaped_in_every_format(name: str, output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    under_name(folder_of(copy, BM25), name)
    shutil.rmtree(folder_of(copy, BM25).parent)
    request = ReportRequest([copy], **FEW)
    page = report(replace(request, format="html"))
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert json.loads(report(replace(request, format="json")))["runs"].keys() == {name, CHAR_NGRAM, WORD_COUNTS}
    assert {record["system"] for record in records(report(replace(request, format="csv")))} >= {name}
    markdown = report(request)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 6  # heads, rule, three runs, the random ranking
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {11}
    latex = report(replace(request, format="latex"))
    cells = [re.split(r"(?<!\\) & ", line) for line in latex.splitlines() if r"\bfseries" in line]
    assert {len(row) for row in cells} == {10}
    escapes = r"\\text[a-z]+\{\}|\\allowbreak\{\}|\\[&%$#_{}]"
    assert not set(re.sub(escapes, "", "".join(row[1] for row in cells))) & set("\\{}$&#%_^~")
    assert latex.count("\\input") == 0


def test_reports_tell_languages_in_training_apart(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    for task in (PAIRS, MULTILINGUAL):
        change_metadata(folder_of(copy, BM25), task, training={"languages": ["de", "en"]})
    found = records(report(ReportRequest([copy], format="csv", table="per-language", **FEW)))
    seen = {(r["setting"], r["query_language"]) for r in found if r["query_language"] in {"seen", "mixed", "unseen"}}
    assert seen == {
        *((setting.value, "seen") for setting in Setting),
        ("monolingual", "unseen"),
        ("multilingual", "unseen"),
        ("cross-lingual", "mixed"),
    }
    assert {r["system"] for r in found if r["query_language"] == "seen"} == {BM25}
    assert "Languages in training Seen" in report(ReportRequest([copy], table="per-language"))


def test_only_some_subsets_of_the_runs(output: Path) -> None:
    request = ReportRequest([output], subsets={PAIRS: ["de-de", "en-en"]}, format="csv", table="main", **FEW)
    found = records(report(request))
    assert {(r["setting"], r["query_language"], r["subsets"]) for r in found} == {("monolingual", "mean", 2)}
