"""Comparisons by a margin, of few clusters, and of methods with several trainings: tables, records, and refusals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_bench.analysis.comparisons import Within, against_baseline, align, claim_of, seed_of
from hybrid_bench.analysis.study import Choices, Study
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.significance import sign_flip
from hybrid_bench.measures.trainings import compare_methods
from hybrid_bench.reporting.document import ReportRequest, report
from hybrid_bench.reporting.elements import Row, Table
from hybrid_bench.reporting.methods import methods_table
from hybrid_bench.reporting.tables import compare_table
from hybrid_bench.runs.reading import Run
from report_cases import made_up

FEW: dict[str, Any] = {"draws": 200, "seed": 3}
SUBSETS = ("de-de", "en-en", "de-en", "en-de")


def trained(name: str, shift: float, seed: int | None, *, questions: int = 24, across: float = 0.0) -> Run:
    """A run of four subsets: a method's shift, and a noise that belongs to the seed."""
    rng = np.random.default_rng(sum(map(ord, name)) if seed is None else seed)
    scores = {}
    for subset in SUBSETS:
        asked, _, pool = subset.partition("-")
        noise = 0.05 * np.random.default_rng(7).standard_normal(questions) + 0.02 * rng.standard_normal(questions)
        scores[subset] = (0.5 + shift + (across if asked != pool else 0.0) + noise).tolist()
    training = None if seed is None else {"languages": ["de"], "seed": seed}
    return made_up(name, scores, training=training)


def of_methods(seeds: tuple[int | None, ...] = (1, 2, 3), shift: float = 0.02) -> tuple[Study, dict[str, list[int]]]:
    runs = [trained(f"a{n}", 0.0, seed) for n, seed in enumerate(seeds)]
    runs += [trained(f"b{n}", shift, None if seed is None else seed) for n, seed in enumerate(seeds)]
    return Study(runs, (), Choices(**FEW)), {"a": list(range(len(seeds))), "b": list(range(len(seeds), 2 * len(seeds)))}


def cells_of(table: Table, row: Row) -> dict[str, Any]:
    return {column.key: cell for column, cell in zip(table.columns, row.cells, strict=True)}


# -- methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "paired"), [((1, 2, 3), True), ((1, 2), False), ((None, None, None), False)], ids=str
)
def test_the_table_of_methods_is_that_of_the_comparison(seeds: tuple[int | None, ...], paired: bool) -> None:
    study, methods = of_methods(seeds)
    table = methods_table(study, methods, "a", "map", size=0.01, margin=0.03)
    assert list(dict.fromkeys(row.section for row in table.rows)) == ["C, monolingual", "C, cross-lingual"]
    for setting in (Setting.MONOLINGUAL, Setting.CROSS_LINGUAL):
        aligned = align(study.runs, "C", setting, "map")
        expected = compare_methods(
            aligned.cells("article"), aligned.scores[methods["b"]], aligned.scores[methods["a"]], paired=paired
        )
        first, second = [row for row in table.rows if row.section == f"C, {setting.value}"]
        assert (first.label, first.cells[0].text, first.cells[1].value) == ("a", str(len(seeds)), expected.mean_b)
        cells = cells_of(table, second)
        assert second.label == "b"
        assert cells["delta"].value == expected.delta
        assert (cells["delta"].low, cells["delta"].high, cells["delta"].p) == (expected.low, expected.high, expected.p)
        assert cells["df"].value == expected.df
        assert cells["se_questions"].value == pytest.approx(np.sqrt(expected.of_questions))
        assert cells["se_trainings"].value == pytest.approx(np.sqrt(expected.of_trainings))
        assert cells["more_trainings"].text == str(expected.trainings_for(0.01) or "-")
        assert cells["more_clusters"].text == str(expected.clusters_for(0.01) or "-")
        assert cells["not_worse"].value == expected.p_above(-0.03)
        assert cells["equivalent"].value == max(expected.p_above(-0.03), expected.p_below(0.03))
    note = next(each for each in table.notes if each.startswith("Difference from a in map"))
    assert ("articles and trainings, paired by their seeds" in note) == paired
    assert "other questions and other trainings" in note


def test_pairs_are_made_by_seed_whatever_the_order_of_the_runs() -> None:
    study, methods = of_methods((1, 2, 3, 4))
    turned = {"a": methods["a"][::-1], "b": methods["b"]}
    assert methods_table(study, turned, "a", "map") == methods_table(study, methods, "a", "map")
    assert [seed_of(run) for run in study.runs] == [1, 2, 3, 4] * 2


def test_methods_that_lower_is_better_of_are_not_worse_where_they_are_lower() -> None:
    ranks = {"de": [(1, 40 + n % 5) for n in range(24)]}
    lower = {"de": [(1, 20 + n % 5) for n in range(24)]}
    runs = [made_up(f"a{n}", {"de": [0.5] * 24}, ranks=ranks) for n in range(2)]
    runs += [made_up(f"b{n}", {"de": [0.5] * 24}, ranks=lower) for n in range(2)]
    table = methods_table(
        Study(runs, (), Choices(**FEW)), {"a": [0, 1], "b": [2, 3]}, "a", "bias_rank_distance", margin=5
    )
    cells = cells_of(table, table.rows[1])
    assert cells["delta"].value == pytest.approx(-20)
    assert cells["not_worse"].value < 1e-9
    assert cells["equivalent"].value > 0.99
    assert any("one-sided p of being higher by 5 or more" in note for note in table.notes)


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "latex", "html"])
def test_methods_in_every_format(form: str) -> None:
    study, methods = of_methods()
    groups = {name: [study.runs[run] for run in runs] for name, runs in methods.items()}
    text = report(ReportRequest([], "compare", form, groups=groups, size=0.01, margin=0.03, **FEW))
    if form == "csv":
        records: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    elif form == "json":
        records = json.loads(text)["values"]
    else:
        assert "other trainings" in text
        return
    assert [(each["method"], each["baseline"], each["setting"]) for each in records] == [
        ("b", "a", "monolingual"),
        ("b", "a", "cross-lingual"),
    ]
    assert float(records[0]["delta"]) == pytest.approx(0.02, abs=1e-9)
    assert {"of_questions", "of_trainings", "df", "trainings_for_size", "margin_not_worse"} <= set(records[0])


def test_what_cannot_be_compared_as_methods() -> None:
    study, methods = of_methods()
    one, other = ([study.runs[run] for run in runs] for runs in methods.values())

    def said(baseline: Any = None, measure: str = "map", **groups: list[Run]) -> str:
        with pytest.raises(RequestError) as caught:
            report(ReportRequest([], "compare", groups=groups, baseline=baseline, measure=measure, **FEW))
        return str(caught.value)

    assert said(a=one) == "one --group only (a): a comparison takes two; give --group NAME=RUNS again"
    assert said(a=one[:1], b=other).startswith("a has only a0: a method takes at least 2 trainings")
    assert said(Path("c"), a=one, b=other) == "--baseline c is none of the groups: name one of a, b"
    assert said(a=one, b=[*other, one[0]]).endswith("is a run of two groups: a training belongs to one method")
    assert "no measure is called" in said(measure="mapp", a=one, b=other)


# -- margins ------------------------------------------------------------------------------------------------------


def test_a_run_by_a_margin_is_tested_by_shifted_flips() -> None:
    runs = [trained("a", 0.0, 1), trained("b", 0.004, 2)]
    for measure_up in (True, False):
        aligned = align(runs, "C", Setting.MONOLINGUAL, "map")
        told: dict[str, Any] = {"collection": "C", "setting": Setting.MONOLINGUAL, "measure": "map"}
        (found,) = against_baseline(aligned, 0, margin=0.01, higher_is_better=measure_up, **told, **FEW)
        within = found.within
        assert within is not None
        d = (aligned.scores[1] - aligned.scores[0]) * (1 if measure_up else -1)
        cells = aligned.cells("article")
        shifted, below = sign_flip(cells, d + 0.01, **FEW), sign_flip(cells, d - 0.01, **FEW)
        # On the side where the difference is, one-sided is half of two-sided.
        assert shifted.delta > 0 > below.delta
        assert within.not_worse == pytest.approx(float(shifted.p) / 2)
        assert within.equivalent == pytest.approx(max(float(shifted.p), float(below.p)) / 2)
        assert (within.low > -0.01 and within.high < 0.01) == (within.equivalent < 0.05)
        assert within.low < found.result.delta < within.high


def test_a_claim_needs_both_of_its_parts() -> None:
    good, bad = Within(0.01, 0.01, 0.02, 0.5, 0, 0), Within(0.01, 0.4, 0.3, 0.5, 0, 0)
    claims = {
        (a, b): claim_of({Setting.MONOLINGUAL: a, Setting.CROSS_LINGUAL: b}) for a in (good, bad) for b in (good, bad)
    }
    assert list(claims.values()) == [0.02, 0.3, 0.4, 0.4]
    assert claim_of({Setting.MONOLINGUAL: good}) is None


def test_the_claim_stands_in_the_notes() -> None:
    runs = [trained("a", 0.0, 1), trained("b", 0.0, 2, across=0.05)]
    table = compare_table(Study(runs, (), Choices(baseline=0, **FEW)), "map", 0.02)
    note = next(each for each in table.notes if "intersection-union" in each)
    by_setting = {row.section: cells_of(table, row) for row in table.rows if row.label == "b"}
    not_worse = by_setting["C, monolingual"]["not_worse"].value
    assert not_worse < 0.01
    assert note.startswith("C, b: not worse within languages by 0.02 and better across them in map: p 0.00")
    again = compare_table(Study(runs[::-1], (), Choices(baseline=0, **FEW)), "map", 0.02)
    assert (
        next(each for each in again.notes if "intersection-union" in each).split("map: p ")[1].startswith(("0.9", "1."))
    )


@pytest.mark.parametrize("measure", ["bias_kendall_w", "bias_rank_distance_median"])
def test_no_margin_of_what_is_no_mean(measure: str) -> None:
    runs = [made_up(name, {"de": [0.5] * 5}, ranks={"de": [(1, 2 + n) for n in range(5)]}) for name in "ab"]
    with pytest.raises(RequestError, match="a margin goes with measures that are means over queries"):
        compare_table(Study(runs, (), Choices(baseline=0, **FEW)), measure, 0.1)


# -- few clusters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("questions", "others", "note"),
    [
        (3, 1, "all 8 flips; its smallest p is 0.2500: no † can be reached, whatever the difference"),
        (6, 1, "all 64 flips; its smallest p is 0.0312."),
        (6, 2, "all 64 flips; its smallest p is 0.0312 for one run, 0.0625 adjusted for 2: no † can be reached"),
    ],
)
def test_what_a_test_of_few_clusters_can_find_is_told(questions: int, others: int, note: str) -> None:
    runs = [trained(f"r{n}", 0.2 * n, n, questions=questions) for n in range(others + 1)]
    # Holm, which multiplies by the runs, is for the primary measure alone.
    primary = (Setting.MONOLINGUAL, "map")
    table = compare_table(Study(runs, (), Choices(baseline=0, primary=primary, **FEW)), "map")
    assert any(f"{questions} clusters by article. The test looks at {note}" in each for each in table.notes)
    text = "\n".join(table.notes)
    assert "sign-flip test (all flips, and 200 resamples, seed 3)" in text
    assert "t below 10 clusters" in text
    assert "200 flips" not in text
    has_effect = "detectable" in {column.key for column in table.columns}
    assert has_effect == (questions == 6)


def test_nothing_of_that_is_told_of_many_clusters() -> None:
    table = compare_table(Study([trained("a", 0, 1), trained("b", 0, 2)], (), Choices(baseline=0, **FEW)), "map")
    text = "\n".join(table.notes)
    assert "(200 flips and resamples, seed 3)" in text
    assert "smallest p" not in text
    assert "t below" not in text
