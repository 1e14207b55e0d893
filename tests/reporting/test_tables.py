"""The tables of a report: rows, columns, marks and notes, against their definition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_bench.analysis.comparisons import CLUSTERS, LEVEL, against_baseline, align, all_pairs
from hybrid_bench.analysis.frame import Request, results_of
from hybrid_bench.analysis.study import Choices, Study
from hybrid_bench.data.published import PublishedSystem, published_systems
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import MEASURES, inputs_of, random_ranking
from hybrid_bench.measures.significance import FEW_CLUSTERS, step_down
from hybrid_bench.reporting.elements import Cell, Row, Table
from hybrid_bench.reporting.tables import (
    BIAS_TITLES,
    BY_LANGUAGE,
    MAIN,
    compare_table,
    p_text,
    reproduce_tables,
    tables_of,
)
from hybrid_bench.runs.reading import Run, find_runs, titled
from report_cases import MEAN, level_of, made_up, printed_of, values_of
from saved_runs import BM25, CHAR_NGRAM, WORD_COUNTS, rows_of, save_runs

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"
MODELS = [BM25, CHAR_NGRAM, WORD_COUNTS]
FEW: dict[str, Any] = {"draws": 200, "seed": 3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return find_runs([save_runs(tmp_path_factory.mktemp("runs"), MODELS)])


@pytest.fixture(scope="module")
def reported() -> list[PublishedSystem]:
    return published_systems("published:elmahdy2024")


def one(study: Study, name: str) -> Table | None:
    """The one table of this name, if the runs have something for it."""
    found = tables_of(study, [name])
    assert len(found) <= 1
    return found[0] if found else None


def main_table(study: Study) -> Table | None:
    return one(study, "main")


def leaderboard_table(study: Study) -> Table | None:
    return one(study, "leaderboard")


def task_table(study: Study) -> Table | None:
    return one(study, "tasks")


def bias_tables(study: Study) -> list[Table]:
    return tables_of(study, ["bias"])


def per_language_tables(study: Study) -> list[Table]:
    return tables_of(study, ["per-language"])


def miracl_tables(study: Study) -> list[Table]:
    return tables_of(study, ["miracl"])


def pair_tables(study: Study) -> list[Table]:
    return tables_of(study, ["pairs"])


def there(table: Table | None) -> Table:
    assert table is not None
    for row in table.rows:
        assert len(row.cells) == len(table.columns)
    return table


def column(table: Table, key: str, group: str | None = None) -> list[Cell]:
    """The cells of the one column of this key, of runs and reported systems."""
    (place,) = (n for n, c in enumerate(table.columns) if c.key == key and group in {None, c.group})
    return [row.cells[place] for row in table.rows if row.kind != "random"]


def marks(cells: Sequence[Cell]) -> list[str]:
    """What each cell is: best, second, plain, or missing."""
    return ["best" if c.best else "second" if c.second else "plain" if c.text else "missing" for c in cells]


def marks_by_hand(table: Table, place: int, rows: Sequence[Row], measure: str, *, higher: bool) -> list[bool]:
    """Which of some rows are best in a column: as printed, and better than a random ranking where that is no ideal."""
    numbers = [float(row.cells[place].text) for row in rows]
    best = max(numbers) if higher else min(numbers)
    of_section = [row for row in table.rows if row.kind == "random" and row.section == rows[0].section]
    chance = [float(row.cells[place].text) for row in of_section if measure in OF_RANKS]
    beaten = any(best <= each if higher else best >= each for each in chance)
    return [number == best and not beaten for number in numbers]


#: Measures of which a random ranking is a bad one, not the ideal.
OF_RANKS = {f"bias_rank_{what}" for what in ("distance", "distance_median", "distance_norm", "variance")}
OF_RANKS |= {"bias_log_rank_std", "bias_max_rank_norm", "bias_complete_at_20", "bias_complete_at_100"}


def mono(values: Mapping[str, Sequence[float]], **options: Any) -> list[Run]:
    """Runs with these scores of the queries of one monolingual subset."""
    return [made_up(name, {"de-de": scores}, **options) for name, scores in values.items()]


# -- best and second ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.5, 0.7, 0.6], ["plain", "best", "second"]),
        ([0.70012, 0.70044, 0.6, 0.5], ["best", "best", "second", "plain"]),  # alike as printed
        ([0.7, 0.60012, 0.60044, 0.5], ["best", "second", "second", "plain"]),
        ([0.5, 0.5], ["best", "best"]),
        ([0.0, -0.0001, -0.1], ["best", "best", "second"]),  # -0.000 is no less than 0.000
        ([0.5], ["plain"]),
    ],
)
def test_best_and_second_are_decided_on_what_is_printed(means: list[float], expected: list[str]) -> None:
    made = mono({f"m{n}": [mean] for n, mean in enumerate(means)})
    assert marks(column(there(main_table(Study(made))), "map")) == expected


def test_lower_ranks_are_better() -> None:
    distances = {"a": 400, "b": 100, "c": 100.04, "d": 200}
    made = [
        made_up(
            name,
            {"de": [0.5] * 100},
            ranks={"de": [(1, 1 + int(d))] * 96 + [(1, 1 + round(100 * d - 96 * int(d)) // 4)] * 4},
        )
        for name, d in distances.items()
    ]
    cells = column(there(main_table(Study(made))), "bias_rank_distance")
    assert [cell.text for cell in cells] == ["400.0", "100.0", "100.0", "200.0"]
    assert cells[1].value != cells[2].value
    assert marks(cells) == ["plain", "best", "best", "second"]


def test_columns_without_a_direction_are_not_marked(runs: list[Run]) -> None:
    ranks, shares, split = bias_tables(Study(runs))
    neutral = [measure.key for measure in MEASURES if measure.higher_is_better is None]
    assert "bias_language_preference" in neutral
    for table in (ranks, shares, split):
        for place, each in enumerate(table.columns):
            of_runs = [row.cells[place] for row in table.rows if row.kind == "run"]
            assert each.higher_is_better is None or each.key in OF_RANKS or "best" in marks(of_runs)
            if each.key in neutral or each.key.endswith("_expected"):
                assert each.higher_is_better is None
                assert set(marks(of_runs)) == {"plain"}


def test_marks_of_the_bias_tables_follow_the_direction(runs: list[Run]) -> None:
    for table in bias_tables(Study(runs)):
        for place, each in enumerate(table.columns):
            if each.higher_is_better is None:
                continue
            rows = [row for row in table.rows if row.kind == "run"]
            expected = marks_by_hand(table, place, rows, each.key, higher=each.higher_is_better)
            assert [row.cells[place].best for row in rows] == expected
            assert each.higher_is_better == (each.key.startswith(("bias_awrf", "bias_max_rank", "bias_complete")))


def test_means_over_other_subsets_are_not_marked_and_told() -> None:
    whole = {"de-de": [0.5], "en-en": [0.7], "de-en": [0.1], "en-de": [0.2]}
    made = [made_up("a", whole), made_up("b", {k: v for k, v in whole.items() if k != "en-en"}), made_up("c", whole)]
    table = there(main_table(Study(made)))
    monolingual, crossed = column(table, "map", "Monolingual"), column(table, "map", "Cross-lingual")
    assert marks(monolingual) == ["plain"] * 3
    assert [cell.note for cell in monolingual] == ["", "1 of 2 subsets", ""]
    assert marks(crossed) == ["best"] * 3
    assert (
        "C: 1/2 monolingual, 2 cross-lingual subsets (the runs do not cover the same subsets and pools: such means "
        "cannot be compared, and are not marked)."
    ) in table.notes


def test_means_over_other_pools_are_not_marked() -> None:
    made = [made_up("a", {"de": [0.5]}), made_up("b", {"de": [0.6]}, pool_size=500)]
    table = there(main_table(Study(made)))
    assert marks(column(table, "map")) == ["plain", "plain"]
    assert any("do not cover the same subsets and pools" in note for note in table.notes)
    board = there(leaderboard_table(Study(made)))
    assert marks(column(board, "multilingual mean")) == ["plain", "plain"]
    assert marks(column(board, "bias_rank_distance_norm")) == ["plain", "plain"]


def test_means_over_other_data_are_not_marked_and_told() -> None:
    made = [made_up("a", {"de": [0.5]}), made_up("b", {"de": [0.6]}), made_up("c", {"de": [0.6]})]
    for run, digest in zip(made, ("0", "1", "1"), strict=True):
        run.tasks["C-Task"].signature["data_sha256"]["de"] = digest
    table = there(main_table(Study(made)))
    assert marks(column(table, "map")) == ["plain"] * 3
    assert any("(the runs are not about the same data and pools: such means cannot" in note for note in table.notes)
    board = there(leaderboard_table(Study(made)))
    assert marks(column(board, "multilingual mean")) == ["plain"] * 3
    assert "borda" not in {c.key for c in board.columns}
    assert marks(column(there(main_table(Study(made[1:]))), "map")) == ["best", "best"]


def test_a_measure_that_applies_to_fewer_subsets_is_not_compared() -> None:
    scores = {"de": [0.5, 0.4], "en": [0.5, 0.6]}
    lost = np.iinfo(np.int32).max
    made = [
        made_up("a", scores, ranks={"de": [(1, 5), (2, 9)], "en": [(1, 5), (2, lost)]}),
        made_up("b", scores, ranks={"de": [(1, 8), (2, 9)], "en": [(1, 5), (2, 9)]}),
    ]
    table = there(main_table(Study(made)))
    cells = column(table, "bias_rank_distance")
    assert [cell.value for cell in cells] == [5.5, 6.25]
    assert [cell.note for cell in cells] == ["1 of 2 subsets", ""]
    assert marks(cells) == ["plain", "plain"]
    assert marks(column(table, "map")) == ["best", "best"]
    assert any("was not retrieved" in note and note.startswith("C: not there: Rank dist. of a") for note in table.notes)


def test_what_a_run_lacks_is_a_dash_with_its_coverage() -> None:
    whole = {"de-de": [0.5], "de-en": [0.1], "en-de": [0.2], "de": [0.4]}
    made = [made_up("a", whole), made_up("b", {"de-de": [0.3]}), made_up("other", whole, collection="D")]
    table = there(main_table(Study(made)))
    of_runs = [(row.section, row.label) for row in table.rows if row.kind == "run"]
    assert of_runs == [("C", "a"), ("C", "b"), ("D", "other")]
    missing = column(table, "map", "Cross-lingual")[1]
    assert (missing.value, missing.text, missing.note) == (None, "", "0 of 2 subsets")
    assert marks(column(table, "map", "Monolingual")) == ["best", "second", "plain"]  # the last is alone in its section


def test_columns_that_nobody_has_are_left_out() -> None:
    table = there(main_table(Study(mono({"a": [0.1], "b": [0.2]}))))
    assert [(c.group, c.key) for c in table.columns] == [("Monolingual", "map"), ("Monolingual", "recall_at_1")]
    assert main_table(Study([])) is None
    assert main_table(Study(mono({"a": [0.1]}, main_score="ndcg_at_10"))) is None


# -- published and random rows ------------------------------------------------------------------------------------


def test_published_rows_are_shown_beside_runs_and_never_marked(reported: list[PublishedSystem]) -> None:
    scores = {"de-de": [0.1, 0.2], "de-en": [0.1, 0.2], "de": [0.1, 0.2]}
    made = [made_up(name, scores, collection="XQuAD-R") for name in "ab"]
    study = Study(made, reported, Choices(baseline=0, letters=True, **FEW))
    table = there(main_table(study))
    of_reported = [row for row in table.rows if row.kind == "reported"]
    assert [row.label for row in table.rows] == ["a", "b", "random ranking", *(system.label for system in reported)]
    for row, system in zip(of_reported, reported, strict=True):
        for cell, each in zip(row.cells, table.columns, strict=True):
            assert not (cell.best)
            assert not (cell.second)
            assert not (cell.mark)
            assert not (cell.p)
            assert not (cell.low)
            (setting,) = (s for s, c in MAIN if (c.group, c.key) == (each.group, each.key))
            printed = printed_of(system, "XQuAD-R", setting, "mean", each.key)
            if printed is None:
                assert cell == Cell()
                continue
            exact = Decimal(printed.printed).quantize(Decimal(10) ** -(each.decimals or 0), ROUND_HALF_UP)
            assert (cell.value, cell.text, cell.note) == (float(printed.printed), str(exact), printed.source)
    # far better as they are, they do not take the marks of the runs
    assert marks(column(table, "map", "Monolingual"))[:2] == ["best", "best"]
    assert any(note.startswith("Reported: Elmahdy et al. (2024)") for note in table.notes)


def test_published_results_stand_alone(reported: list[PublishedSystem]) -> None:
    table = there(main_table(Study([], reported)))
    assert [row.section for row in table.rows] == ["XQuAD-R"] * 6 + ["MLQA-R"] * 6
    assert [cell.text for cell in column(table, "bias_rank_distance")][:3] == ["410.2", "295.4", "286.6"]
    assert not any("subset" in note and "XQuAD" in note for note in table.notes)


def test_half_a_last_digit_goes_up_as_in_print(reported: list[PublishedSystem]) -> None:
    halves = 0
    for table in per_language_tables(Study([], reported)):
        for row in table.rows:
            for cell in row.cells:
                if cell.value is not None and round(cell.value * 10_000) % 10 == 5 and len(cell.text) == 5:
                    halves += 1
                    assert float(cell.text) > cell.value
    assert halves > 10


def test_the_random_row_is_what_a_random_ranking_gives(runs: list[Run]) -> None:
    table = runs[0].tasks[MULTILINGUAL]
    frame = table.frame("query_language", "pool_languages", "ranks", "rank_languages", "gains", "top_languages")
    of_subsets = [
        random_ranking(*inputs_of(frame[frame["subset"] == code], table.metadata)) for code in ("de", "en", "th")
    ]
    for made in bias_tables(Study(runs)):
        assert [row.label for row in made.rows] == [*MODELS, "random ranking"]
        row = made.rows[-1]
        assert row.kind == "random"
        for cell, each in zip(row.cells, made.columns, strict=True):
            base = each.key.removesuffix("_expected").removesuffix("_excess")
            none = base == "diagonal_gap" or each.key.endswith("_excess")
            expected = 0 if none else np.mean([values[base] for values in of_subsets])
            assert cell.value == pytest.approx(expected, abs=1e-12)
            assert cell.text == f"{cell.value:.{each.decimals}f}"
            assert not (cell.best)
            assert not (cell.second)
            assert not (cell.mark)


def test_the_random_row_stands_wherever_rank_distance_does(runs: list[Run]) -> None:
    table = runs[0].tasks[MULTILINGUAL]
    frame = table.frame("query_language", "pool_languages", "ranks", "rank_languages", "gains", "top_languages")
    by_chance = {
        code: random_ranking(*inputs_of(frame[frame["subset"] == code], table.metadata)) for code in ("de", "en", "th")
    }
    main = there(main_table(Study(runs)))
    row = main.rows[-1]
    assert (row.label, row.kind) == ("random ranking", "random")
    for cell, each in zip(row.cells, main.columns, strict=True):
        if each.key in next(iter(by_chance.values())):
            expected = np.mean([values[each.key] for values in by_chance.values()])
            assert cell.value == pytest.approx(expected, abs=1e-12)
            assert cell.text == f"{cell.value:.1f}"
        else:
            assert cell == Cell()
    (by_language,) = per_language_tables(Study(runs))
    (row,) = [row for row in by_language.rows if row.kind == "random"]
    assert row.section == "multilingual, Rank dist. ↓"
    distances = [values["bias_rank_distance"] for values in by_chance.values()]
    assert [cell.value for cell in row.cells] == pytest.approx([*distances, np.mean(distances)])
    alone = there(main_table(Study(mono({"a": [0.1], "b": [0.2]}))))
    assert all(row.kind == "run" for row in alone.rows)


def test_what_is_no_better_than_chance_is_not_marked() -> None:
    """As printed; a random ranking of 1,000 passages has two answers 1001 / 3 apart in the mean."""
    distances = {"a": 400, "b": 300, "c": 350, "d": 320}
    made = [made_up(name, {"de": [0.5] * 3}, ranks={"de": [(1, 1 + d)] * 3}) for name, d in distances.items()]
    table = there(main_table(Study(made)))
    assert table.rows[-1].cells[-2].text == "333.7"
    assert marks(column(table, "bias_rank_distance")) == ["plain", "best", "plain", "second"]
    assert marks(column(table, "map")) == ["best"] * 4
    worse = there(main_table(Study([made[0], made[2]])))
    assert marks(column(worse, "bias_rank_distance")) == ["plain", "plain"]
    ranks, *_ = bias_tables(Study(made))
    at_20 = column(ranks, "bias_complete_at_20")
    assert [cell.text for cell in at_20] == ["0.000"] * 4
    assert marks(at_20) == ["plain"] * 4  # as the random ranking


def test_captions_say_what_is_marked_and_who_takes_no_part(reported: list[PublishedSystem]) -> None:
    made = [
        made_up(name, {"de-de": [x, x], "de": [x, x]}, collection="XQuAD-R") for name, x in (("a", 0.1), ("b", 0.2))
    ]
    notes = there(main_table(Study(made, reported))).notes
    assert (
        "Bold: best of the runs; underlined: second best; both as printed, ties included, among means over the same "
        "subsets; rank measures no better than the random ranking's are not marked."
    ) in notes
    assert "Reported rows are shown only: they take no part in best, second best and tests." in notes
    notes = there(main_table(Study(mono({"a": [0.1], "b": [0.2]})))).notes
    assert (
        "Bold: best of the runs; underlined: second best; both as printed, ties included, among means over the same "
        "subsets."
    ) in notes
    for study in (Study(mono({"a": [0.1]})), Study([], reported)):
        assert not any("Bold" in note or "take no part" in note for note in there(main_table(study)).notes)


@pytest.mark.parametrize(
    ("clusters", "said"),
    [
        (3, "With 3 clusters, the fewest here, all 8 flips were looked at, and no p-value can be below 0.2500: no "
            "difference can be marked † there, whatever its size."),
        (6, "With 6 clusters, the fewest here, all 64 flips were looked at, and no p-value can be below 0.0312."),
        (20, ""),
    ],
)  # fmt: skip # sentences in two lines
def test_captions_say_what_few_clusters_can_show(clusters: int, said: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(clusters)
    made = mono({"a": scores.tolist(), "b": (scores / 2).tolist()})
    study = Study(made, (), Choices(baseline=0, intervals=True, **FEW))
    notes = there(main_table(study)).notes
    assert [note for note in notes if note.startswith("With ")] == [said] * bool(said)
    assert any(f"by t with fewer than {FEW_CLUSTERS} clusters" in note for note in notes) == (clusters < 10)


def test_captions_say_over_what_p_values_are_adjusted() -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.random(20).tolist() for name in ("de-de", "de")}
    made = [made_up(name, scores) for name in "ab"]
    for primary, said in (
        (None, "mAP multilingual, the primary measure, over the runs by Holm; all other means of a collection"),
        (
            (Setting.MONOLINGUAL, "recall_at_1"),
            "R@1 monolingual, the primary measure, over the runs by Holm; all other",
        ),
        ((Setting.CROSS_LINGUAL, "map"), "adjusted: all means of a collection that are reported here, over columns"),
    ):
        study = Study(made, (), Choices(baseline=0, primary=primary, **FEW))
        for table in (there(main_table(study)), compare_table(study, "map")):
            assert any(said in note for note in table.notes)


# -- labels -------------------------------------------------------------------------------------------------------


def test_labels_stand_for_the_names_of_models() -> None:
    rng = np.random.default_rng(0)
    made = mono({name: rng.random(20).tolist() for name in ("org/one", "org/two")})
    study = Study(titled(made, {"org/one": "One"}), (), Choices(baseline=0, **FEW))
    for table in (there(main_table(study)), compare_table(study, "map")):
        assert [row.label for row in table.rows] == ["One", "org/two"]
        assert any("from One" in note for note in table.notes)
        assert not any("org/one" in note for note in table.notes)
    twin = replace(made[0], options={"pool": "small"})
    assert Study(titled([made[0], twin], {"org/one": "One"})).names == ["One", "One (pool=small)"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"org/ons": "One"}, "there is no run of 'org/ons' to be called 'One': did you mean 'org/one'?"),
        ({"org/one": "org/two"}, "two runs would have the same label: org/two, org/two"),
    ],
)
def test_labels_that_are_of_no_use(labels: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        titled(mono({"org/one": [0.1], "org/two": [0.2]}), labels)
    assert str(caught.value) == message


# -- numbers ------------------------------------------------------------------------------------------------------


def test_cells_are_the_values_of_the_study(runs: list[Run]) -> None:
    choices = Choices(baseline=1, intervals=True, **FEW)
    table = there(main_table(Study(runs, (), choices)))
    study = Study(runs, (), choices)
    assert [c.key for c in table.columns] == [c.key for _, c in MAIN]
    daggers = 0
    by_setting = {setting: [each.key for other, each in MAIN if other is setting] for setting in Setting}
    results = results_of(study, [Request("HybridDemo", *each, ["mean"]) for each in by_setting.items()])
    for place, (setting, each) in enumerate(MAIN):
        for row, name in zip(table.rows, MODELS, strict=False):
            cell, value = row.cells[place], results.at(name, "HybridDemo", setting, each.key)
            assert value is not None
            assert (cell.p is None) == (name == CHAR_NGRAM)  # medians are tested, too
            found, expected = ((each.value, each.low, each.high) for each in (cell, value))
            assert found == pytest.approx(expected, abs=1e-12)
            assert (cell.p, cell.p_adjusted) == (value.p, value.p_adjusted)
            assert cell.text == f"{value.value:.{each.decimals}f}"
            assert (cell.mark == "†") == (value.p_adjusted is not None and value.p_adjusted < LEVEL)
            daggers += cell.mark == "†"
    assert daggers > 3
    assert not any(cell.mark for cell in table.rows[1].cells)  # the baseline
    notes = "\n".join(table.notes)
    assert f"†: differs from {CHAR_NGRAM}, adjusted p below {LEVEL}: cluster sign-flip test" in notes
    assert "questions clustered by article, 200 draws, seed 3" in notes
    assert "95% intervals: cluster bootstrap" in notes
    assert "HybridDemo: 3 monolingual, 6 cross-lingual, 3 multilingual subsets." in table.notes


def test_nothing_is_said_of_what_was_not_computed(runs: list[Run]) -> None:
    notes = "\n".join(there(main_table(Study(runs))).notes)
    assert "interval" not in notes
    assert "†" not in notes
    assert "letter" not in notes


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_letters_are_those_of_all_pairs(cluster: str, runs: list[Run]) -> None:
    table = there(main_table(Study(runs, (), Choices(cluster=cluster, letters=True, **FEW))))
    for setting, each in MAIN:
        shown = [cell.mark for cell in column(table, each.key, each.group)]
        if each.key == "bias_rank_distance_median":
            assert shown == ["", "", ""]  # it is of a language's queries as a whole
            continue
        aligned = align(runs, "HybridDemo", setting, each.key)
        expected = all_pairs(aligned, cluster, higher_is_better=each.higher_is_better is not False, **FEW)[1]
        assert shown == expected
        best = [cell.best for cell in column(table, each.key, each.group)]
        assert True not in best or "a" in shown[best.index(True)]
    assert any("Runs that share a letter were not found to differ at 0.05" in note for note in table.notes)


def test_one_run_has_no_letters() -> None:
    elsewhere = made_up("b", {"de-de": [0.1, 0.2]}, collection="D")
    for made in (mono({"a": [0.1, 0.2]}), [*mono({"a": [0.1, 0.2]}), elsewhere]):
        table = there(main_table(Study(made, (), Choices(letters=True, **FEW))))
        assert "letter" not in "\n".join(table.notes)


def test_what_the_baseline_lacks_is_told_not_to_be_tested() -> None:
    whole = {"de-de": [0.5, 0.1], "de-en": [0.1, 0.4]}
    made = [made_up("a", {"de-de": [0.5, 0.3]}), made_up("b", whole), made_up("c", whole)]
    notes = there(main_table(Study(made, (), Choices(baseline=0, **FEW)))).notes
    told = "C: 1 monolingual, 0/1 cross-lingual subsets"
    assert any(
        note.startswith(told) and note.endswith(" Not tested, since a has none: cross-lingual.") for note in notes
    )
    notes = there(main_table(Study(made, (), Choices(baseline=1, **FEW)))).notes
    assert not any("Not tested" in note for note in notes)


def test_letters_follow_a_dagger() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.5, 30).tolist()
    better = [score + 0.2 for score in base]
    made = mono({"a": base, "b": better, "c": better})
    cells = column(there(main_table(Study(made, (), Choices(baseline=0, letters=True, **FEW)))), "map")
    assert [cell.mark for cell in cells] == ["b", "†a", "†a"]


# -- by language and pair -----------------------------------------------------------------------------------------


def test_each_measure_by_language_of_the_question(runs: list[Run]) -> None:
    study = Study(runs)
    (table,) = per_language_tables(study)
    assert (table.name, table.heads) == ("per-language-HybridDemo", ("Setting", "Model"))
    assert [c.key for c in table.columns] == ["de", "en", "th", "mean"]
    rows = iter([row for row in table.rows if row.kind == "run"])
    for setting, measure in BY_LANGUAGE:
        values = values_of(study, "HybridDemo", setting, [measure])
        of_measure = [next(rows) for _ in MODELS]
        assert [row.label for row in of_measure] == MODELS
        assert {row.section.partition(",")[0] for row in of_measure} == {setting.value}
        arrow = "↓" if measure == "bias_rank_distance" else "↑"
        assert all(row.section.endswith(f" {arrow}") for row in of_measure)
        for place, key in enumerate(("de", "en", "th", "mean")):
            cells = [row.cells[place] for row in of_measure]
            assert [cell.value for cell in cells] == [
                values[number, measure][level_of(key)].value for number in range(3)
            ]
            higher = measure != "bias_rank_distance"
            assert [cell.best for cell in cells] == marks_by_hand(table, place, of_measure, measure, higher=higher)
    assert next(rows, None) is None


def test_published_numbers_by_language(reported: list[PublishedSystem]) -> None:
    """The paper's Tables 3 to 8, with nothing else."""
    tables = {table.name: table for table in per_language_tables(Study([], reported))}
    assert set(tables) == {"per-language-XQuAD-R", "per-language-MLQA-R"}
    found = 0
    for collection in ("XQuAD-R", "MLQA-R"):
        table = tables[f"per-language-{collection}"]
        sections = list(dict.fromkeys(row.section for row in table.rows))
        assert len(sections) == len(BY_LANGUAGE)
        for section, (setting, measure) in zip(sections, BY_LANGUAGE, strict=True):
            of_section = [row for row in table.rows if row.section == section]
            for row, system in zip(of_section, reported, strict=True):
                for cell, each in zip(row.cells, table.columns, strict=True):
                    printed = printed_of(system, collection, setting, each.key, measure)
                    assert printed is not None
                    assert cell.value == printed.value
                    found += 1
    assert found == 6 * 7 * (12 + 8)


def test_miracl_from_publications_alone(reported: list[PublishedSystem]) -> None:
    """The paper's Tables 12 and 13: mean and median over languages, too."""
    (table,) = miracl_tables(Study([], reported))
    keys = [c.key for c in table.columns]
    assert keys[-2:] == ["mean", "median"]
    assert len(keys) == 15 + 2
    assert [row.section for row in table.rows] == ["monolingual, nDCG@10 ↑"] * 6 + ["monolingual, R@100 ↑"] * 6
    for row, (system, measure) in zip(
        table.rows, [(s, m) for m in ("ndcg_at_10", "recall_at_100") for s in reported], strict=True
    ):
        for cell, key in zip(row.cells, keys, strict=True):
            printed = printed_of(system, "MIRACL", Setting.MONOLINGUAL, key, measure)
            assert printed is not None
            assert cell.value == printed.value
    assert miracl_tables(Study(mono({"a": [0.1]}), [])) == []


def test_the_median_of_miracl_is_over_languages(reported: list[PublishedSystem]) -> None:
    scores = {"de-de": [0.1, 0.3], "en-en": [0.4, 0.6], "sw-sw": [0.9, 0.9], "de-en": [0.0, 0.0]}
    made = [
        made_up(
            name, {k: [x + n / 100 for x in v] for k, v in scores.items()}, collection="MIRACL", main_score="ndcg_at_10"
        )
        for n, name in enumerate("ab")
    ]
    (table,) = miracl_tables(Study(made, reported[:1]))
    assert [cell.value for cell in column(table, "median")][:2] == pytest.approx([0.5, 0.51])
    assert [cell.value for cell in column(table, "mean")][:2] == pytest.approx([1.6 / 3, 1.63 / 3])
    assert marks(column(table, "median"))[:3] == ["second", "best", "plain"]
    assert [row.kind for row in table.rows] == ["run", "run", "reported"] * 2
    by_language = next(t for t in per_language_tables(Study(made)) if t.name == "per-language-MIRACL")
    assert "Cross-lingual" not in {c.group for c in by_language.columns}
    assert len(by_language.rows) == 2 * 2 * 2  # measures, settings, runs


def test_languages_in_training_have_columns_of_their_own() -> None:
    scores = {"de-de": [0.1], "en-en": [0.5], "de-en": [0.2], "en-de": [0.4], "de": [0.3], "en": [0.6]}
    made = [made_up("a", scores, training={"languages": ["de"]}), made_up("b", scores)]
    (table,) = per_language_tables(Study(made))
    assert [c.title for c in table.columns if c.group == "Languages in training"] == ["Seen", "Mixed", "Unseen"]

    def of(section: str, label: str) -> list[float | None]:
        (row,) = (row for row in table.rows if (row.section, row.label) == (section, label))
        return [row.cells[place].value for place, c in enumerate(table.columns) if c.group]

    assert of("monolingual, mAP ↑", "a") == [0.1, None, 0.5]
    assert of("cross-lingual, mAP ↑", "a") == [None, pytest.approx(0.3), None]
    assert of("multilingual, mAP ↑", "a") == [0.3, None, 0.6]
    assert of("monolingual, mAP ↑", "b") == [None, None, None]
    assert any(note.startswith("Seen: query and passages are in languages") for note in table.notes)
    assert not any("Seen" in note for note in per_language_tables(Study(made[1:]))[0].notes)


def test_pairs_of_languages(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(baseline=0, **FEW))
    (table,) = pair_tables(study)
    assert [c.key for c in table.columns] == ["de", "en", "th"]
    assert [(row.section, row.label) for row in table.rows] == [(m, c) for m in MODELS for c in ("de", "en", "th")]
    own = values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["map"])
    crossed = values_of(study, "HybridDemo", Setting.CROSS_LINGUAL, ["map"])
    for number, model in enumerate(MODELS):
        for row in [row for row in table.rows if row.section == model]:
            for cell, pool in zip(row.cells, ("de", "en", "th"), strict=True):
                same = row.label == pool
                value = (
                    own[number, "map"][("language", pool, "")]
                    if same
                    else crossed[number, "map"][("pair", row.label, pool)]
                )
                assert (cell.value, cell.p, cell.p_adjusted) == (value.value, value.p, value.p_adjusted)
                assert (cell.mark == "†") == (value.p_adjusted is not None and value.p_adjusted < LEVEL)
                assert not (cell.best)
                assert not (cell.second)
    assert pair_tables(Study(mono({"a": [0.1], "b": [0.2]}))) == []


# -- bias and other tasks -----------------------------------------------------------------------------------------


def test_bias_tables_have_every_measure(runs: list[Run]) -> None:
    tables = bias_tables(Study(runs))
    assert [table.name for table in tables] == ["bias-ranks", "bias-shares", "bias-split"]
    shown = {c.key for table in tables for c in table.columns}
    assert {measure.key for measure in MEASURES} <= shown == {*BIAS_TITLES, "diagonal_gap"}


def test_the_gap_is_how_far_the_own_language_is_ahead(runs: list[Run]) -> None:
    table = {each.name: each for each in bias_tables(Study(runs))}["bias-split"]
    cells = [row.cells[-1] for row in table.rows]
    assert table.columns[-1].key == "diagonal_gap"
    for run, cell in zip(runs, cells, strict=False):
        gaps = []
        rows = rows_of(run.folder, "HybridDemo-Multilingual")
        for asked in {row["query_language"] for row in rows}:
            first = [row["rank_languages"][0] for row in rows if row["query_language"] == asked]
            answers = {code for row in rows for code in row["rank_languages"]}
            shares = {code: first.count(code) / len(first) for code in answers}
            own = shares.pop(asked)
            gaps.append(own - sum(shares.values()) / len(shares))
        assert cell.value == pytest.approx(sum(gaps) / len(gaps), abs=1e-12)
    assert cells[-1].value == pytest.approx(0, abs=1e-12)  # at random, where every question has all languages


def test_what_does_not_apply_has_no_column_but_a_reason(runs: list[Run]) -> None:
    made = [made_up(name, {"de": [0.5, 0.6]}, ranks={"de": [(1, 3), (2, 4)]}) for name in "ab"]
    tables = {table.name: table for table in bias_tables(Study(made))}
    assert tables["bias-shares"].columns == ()
    assert any(
        note.startswith("C: not there: JS uniform, JS prior, AWRF uniform, AWRF prior: the languages of the first ")
        for note in tables["bias-shares"].notes
    )
    shares = there(bias_tables(Study(runs))[1])
    place = [c.key for c in shares.columns].index("bias_js_at_10_prior_expected")
    shared = [row.cells[place] for row in shares.rows]
    assert [cell.text for cell in shared] == [shared[0].text] * 4  # the same for all: it is of the pool
    assert "bias_rank_distance" in {c.key for c in tables["bias-ranks"].columns}
    lost = np.iinfo(np.int32).max
    made[0] = made_up("a", {"de": [0.5, 0.6]}, ranks={"de": [(1, 3), (2, lost)]})
    table = {each.name: each for each in bias_tables(Study(made))}["bias-ranks"]
    cells = column(table, "bias_rank_distance")
    assert [cell.text for cell in cells[:2]] == ["", "2.0"]
    assert marks(cells)[:2] == ["missing", "plain"]
    (note,) = (note for note in table.notes if "not there" in note)
    assert note.startswith("C: not there: Rank dist. of a, Median of a, ")
    assert note.endswith(": a relevant passage was not retrieved, so its rank is not known.")
    for row in table.rows:
        for cell in row.cells:
            assert cell.value is None or np.isfinite(cell.value)


def test_other_tasks_have_a_table_of_their_own() -> None:
    made = [
        made_up(
            name,
            {"de-de": [0.2 + n / 10], "en-en": [0.4]},
            collection="MIRACL",
            main_score="ndcg_at_10",
            notes=[f"note {k}" for k in range(7)],
        )
        for n, name in enumerate("ab")
    ]
    study = Study([*made, *mono({"c": [0.9]})])
    table = there(task_table(study))
    assert {row.section for row in table.rows} == {"MIRACL, monolingual"}
    assert [row.label for row in table.rows] == ["a", "b"]
    assert [c.key for c in table.columns] == ["ndcg_at_10", "recall_at_100", "map"]
    assert [cell.value for cell in column(table, "ndcg_at_10")] == pytest.approx([0.3, 0.35])
    assert "and 2 more notes in signatures.jsonl" in table.notes
    assert "note 4" in table.notes
    assert "note 5" not in table.notes
    assert {row.section for row in there(main_table(study)).rows} == {"C"}
    assert task_table(Study(mono({"c": [0.9]}))) is None


# -- leaderboard --------------------------------------------------------------------------------------------------


def borda_by_hand(values: Sequence[Sequence[float]]) -> list[float]:
    """In each subset a point for every run beaten, half a point for a tie; as a percentage of what is possible."""
    counts = []
    for run, mine in enumerate(values):
        others = [other for number, other in enumerate(values) if number != run]
        points = [
            1.0 if x > y else 0.5 if x == y else 0.0 for other in others for x, y in zip(mine, other, strict=True)
        ]
        counts.append(100 * sum(points) / len(points))
    return counts


def test_borda_counts_and_means() -> None:
    rng = np.random.default_rng(0)
    subsets = ["de-de", "en-en", "de-en", "en-de", "de", "en"]
    of_collections: dict[str, list[dict[str, float]]] = {
        name: [{s: float(rng.integers(1, 4)) / 4 for s in subsets} for _ in range(4)] for name in ("C", "D")
    }
    made = []
    for number in range(4):
        parts = [
            made_up(f"m{number}", {s: [v, v] for s, v in each[number].items()}, collection=name)
            for name, each in of_collections.items()
        ]
        tasks = {task: table for part in parts for task, table in part.tasks.items()}
        made.append(Run(parts[0].folder, parts[0].model, {}, tasks))
    table = there(leaderboard_table(Study(made)))
    assert list(dict.fromkeys(row.section for row in table.rows)) == ["All", "C", "D"]
    groups = {"monolingual": subsets[:2], "cross-lingual": subsets[2:4], "multilingual": subsets[4:]}
    sums: dict[str, dict[str, list[float]]] = {}
    for section, each in of_collections.items():
        counts = {
            setting: borda_by_hand([[values[s] for s in names] for values in each]) for setting, names in groups.items()
        }
        of_section = [row for row in table.rows if row.section == section]
        for row in of_section:
            number = int(row.label[1:])
            cells = {c.key: cell.value for c, cell in zip(table.columns, row.cells, strict=True)}
            for setting, names in groups.items():
                assert cells[f"{setting} mean"] == pytest.approx(np.mean([each[number][s] for s in names]), abs=1e-12)
                assert cells[f"{setting} borda"] == pytest.approx(counts[setting][number], abs=1e-9)
            assert cells["borda"] == pytest.approx(np.mean([counts[s][number] for s in groups]), abs=1e-9)
            for key, value in cells.items():
                assert value is not None
                sums.setdefault(row.label, {}).setdefault(key, []).append(value)
    for row in table.rows[:4]:
        cells = {c.key: cell.value for c, cell in zip(table.columns, row.cells, strict=True)}
        assert cells == pytest.approx({key: np.mean(values) for key, values in sums[row.label].items()}, abs=1e-9)
    for section in ("All", "C", "D"):
        counts_shown = [row.cells[0].value or 0.0 for row in table.rows if row.section == section]
        assert counts_shown == sorted(counts_shown, reverse=True)
    # Percentages have one decimal, means three, over all collections as in each.
    for row in table.rows:
        for shown, cell in zip(table.columns, row.cells, strict=True):
            decimals = 1 if shown.key.endswith("borda") else 3
            assert cell.value is not None
            assert cell.text == f"{round(cell.value, decimals):.{decimals}f}", (row.section, shown.key)


def test_incomplete_and_published_systems_take_no_part(reported: list[PublishedSystem]) -> None:
    whole = {"de-de": [0.5], "en-en": [0.7]}
    made = [
        made_up("low", {"de-de": [0.1], "en-en": [0.2]}, collection="XQuAD-R"),
        made_up("part", {"de-de": [0.99]}, collection="XQuAD-R"),
        made_up("high", whole, collection="XQuAD-R"),
    ]
    table = there(leaderboard_table(Study(made, reported)))
    assert [row.label for row in table.rows] == ["high", "low", "part"]
    assert [cell.value for cell in column(table, "borda")] == [100, 0, None]
    means = column(table, "monolingual mean")
    assert marks(means) == ["plain"] * 3
    assert [cell.note for cell in means] == ["", "", "1 of 2 subsets"]
    assert marks(column(table, "borda")) == ["best", "second", "missing"]


def test_bias_stands_beside_quality_in_the_leaderboard(runs: list[Run]) -> None:
    study = Study(runs)
    table = there(leaderboard_table(study))
    assert [row.section for row in table.rows] == ["HybridDemo"] * 3  # one collection needs no mean
    keys = ["bias_rank_distance_norm", "bias_log_rank_std", "bias_js_at_10_prior_excess"]
    assert [c.key for c in table.columns][-3:] == keys
    values = values_of(study, "HybridDemo", Setting.MULTILINGUAL, keys, {"mean"})
    for row in table.rows:
        for cell, key in zip(row.cells[-3:], keys, strict=True):
            assert cell.value == values[study.names.index(row.label), key][MEAN].value
    for key in keys:
        cells = column(table, key)
        numbers = [float(cell.text) for cell in cells]
        assert [cell.best for cell in cells] == [number == min(numbers) for number in numbers]


# -- comparisons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("measure", "cluster"), [("map", "article"), ("bias_rank_distance", "question")])
def test_compared_numbers_are_those_of_the_comparison(measure: str, cluster: str, runs: list[Run]) -> None:
    table = compare_table(Study(runs, (), Choices(baseline=1, cluster=cluster, **FEW)), measure)
    settings = [Setting.MULTILINGUAL] if measure.startswith("bias") else list(Setting)
    order = [runs[1], runs[0], runs[2]]
    study = Study(runs, (), Choices(baseline=1, cluster=cluster, **FEW))
    contrasts = {
        setting: align(order, "HybridDemo", setting, measure).contrast(cluster)
        for setting in settings
        if (setting, measure) != study.primary("HybridDemo")
    }
    stepped = dict(zip(contrasts, step_down(list(contrasts.values()), **FEW).p_adjusted, strict=True))
    assert list(dict.fromkeys(row.section for row in table.rows)) == [f"HybridDemo, {s.value}" for s in settings]
    for setting in settings:
        aligned = align(order, "HybridDemo", setting, measure)
        found = against_baseline(
            aligned, 0, collection="HybridDemo", setting=setting, measure=measure, cluster=cluster, **FEW
        )
        letters = all_pairs(aligned, cluster, higher_is_better=measure == "map", **FEW)[1]
        first, *others = [row for row in table.rows if row.section == f"HybridDemo, {setting.value}"]
        assert (first.label, first.cells[0].value) == (CHAR_NGRAM, found[0].result.mean_b)
        assert [cell.text for cell in first.cells[1:-1]] == [""] * 9
        assert [row.cells[-1].text for row in (first, *others)] == letters
        means = [row.cells[0].value or 0.0 for row in (first, *others)]
        best = means.index(max(means) if measure == "map" else min(means))
        assert "a" in letters[best]
        for row, each in zip(others, found, strict=True):
            result = each.result
            assert row.label == each.run
            delta = row.cells[1]
            assert (delta.value, delta.low, delta.high) == (result.delta, result.low, result.high)
            # The primary measure is adjusted over the runs, all other settings together.
            adjusted = float(stepped[setting][found.index(each)]) if setting in stepped else each.p_adjusted
            assert (delta.p, delta.p_adjusted) == (result.p, adjusted)
            assert (delta.mark == "†") == (adjusted < LEVEL)
            assert [cell.text for cell in row.cells[:-1]] == [
                f"{result.mean_a:.4f}",
                f"{result.delta:+.4f}",
                f"{result.low:+.4f} to {result.high:+.4f}",
                *(p_text(each.by[name].p) for name in CLUSTERS),
                p_text(adjusted),
                f"{result.d_z:.2f}",
                "/".join(map(str, wins_ties_losses(aligned.scores, found.index(each) + 1, higher=measure == "map"))),
                f"{result.detectable:.4f}",
            ]
        note = f"HybridDemo, {setting.value}: {result.n_settings} subsets, {result.n_cells:,} queries in "
        assert any(each.startswith(note) for each in table.notes)
    text = "\n".join(table.notes)
    assert f"Difference from {CHAR_NGRAM} in {measure}, " in text
    assert "(200 flips and resamples, seed 3)" in text
    assert "Runs that share a letter were not found to differ" in text
    assert f"the run scores {'higher' if measure == 'map' else 'lower'} than the baseline" in text


def wins_ties_losses(scores: NDArray[np.float64], run: int, *, higher: bool) -> tuple[int, int, int]:
    ahead = scores[run] - scores[0] if higher else scores[0] - scores[run]
    return int((ahead > 1e-12).sum()), int((np.abs(ahead) <= 1e-12).sum()), int((ahead < -1e-12).sum())


def test_a_measure_without_direction_is_neither_won_nor_lost(runs: list[Run]) -> None:
    measure = "bias_language_preference"
    study = Study(runs[:2], (), Choices(baseline=0, **FEW))
    table = compare_table(study, measure)
    scores = align(runs[:2], "HybridDemo", Setting.MULTILINGUAL, measure).scores
    shown = "/".join(map(str, wins_ties_losses(scores, 1, higher=True)))
    place = [c.key for c in table.columns].index("wins")
    assert (table.columns[place].title, table.rows[1].cells[place].text) == ("Higher/ties/lower", shown)


def test_two_runs_need_no_letters(runs: list[Run]) -> None:
    table = compare_table(Study(runs[:2], (), Choices(baseline=0, **FEW)), "map")
    assert "letters" not in {c.key for c in table.columns}
    assert "letter" not in "\n".join(table.notes)


def test_only_what_all_runs_have_is_compared(runs: list[Run]) -> None:
    narrowed = runs[1].only({PAIRS: ["de-en", "en-de", "de-th", "th-de", "en-th", "th-en"]})
    table = compare_table(Study([runs[0], narrowed], (), Choices(baseline=0, **FEW)), "map")
    assert {row.section for row in table.rows} == {"HybridDemo, cross-lingual"}
    with pytest.raises(RequestError) as caught:
        compare_table(Study([runs[0], *mono({"x": [0.1, 0.2]})], (), Choices(baseline=0, **FEW)), "map")
    assert str(caught.value) == (f"nothing to compare: {BM25}, x have no setting of a collection in common with 'map'")


@pytest.mark.parametrize(("p", "text"), [(0.05, "0.0500"), (0.0001, "0.0001"), (5e-05, "5.0e-05"), (1.0, "1.0000")])
def test_p_values_are_never_printed_as_0(p: float, text: str) -> None:
    assert p_text(p) == text


# -- print --------------------------------------------------------------------------------------------------------

XLM_R = {"languages": ["de"], "base": "sentence-transformers/xlm-roberta-base", "mode": "hybrid", "alpha": 0.5}


def reproduced(training: Mapping[str, Any]) -> Table:
    scores = {"de-de": [0.7, 0.9, 0.8], "en-en": [0.8, 0.8, 0.7], "de": [0.5, 0.6, 0.7], "de-en": [0.1, 0.2, 0.3]}
    ranks = {"de": [(1, 300), (2, 200), (5, 100)]}
    made = [
        made_up("mine", scores, collection="XQuAD-R", ranks=ranks, training=training),
        made_up("other", scores, collection="XQuAD-R"),
    ]
    (table,) = reproduce_tables(Study(made, (), Choices(**FEW)))
    return table


def test_distance_from_print() -> None:
    table = reproduced(XLM_R)
    (system,) = published_systems("published:elmahdy2024/xlm-r-hybrid")
    study_values = {
        "monolingual, mAP, de": (0.8, (Setting.MONOLINGUAL, "de", "map")),
        "monolingual, mAP, mean": ((0.8 + 2.3 / 3) / 2, (Setting.MONOLINGUAL, "mean", "map")),
        "multilingual, R@10, de": (0.6, (Setting.MULTILINGUAL, "de", "recall_at_10")),
        "multilingual, Rank dist., de": ((299 + 198 + 95) / 3, (Setting.MULTILINGUAL, "de", "bias_rank_distance")),
        "cross-lingual, R@1, de": (0.2, (Setting.CROSS_LINGUAL, "de", "recall_at_1")),
    }
    rows: dict[str, Row] = {row.label.removeprefix("XQuAD-R, "): row for row in table.rows}
    assert {row.section for row in table.rows} == {"mine against XLM-R hybrid"}
    for label, (value, (setting, language, measure)) in study_values.items():
        ours, printed, difference, inside = rows[label].cells
        expected = printed_of(system, "XQuAD-R", setting, language, measure)
        assert expected is not None
        assert ours.value == pytest.approx(value)
        assert (printed.value, printed.text, printed.note) == (expected.value, expected.printed, expected.source)
        assert difference.value == pytest.approx(value - expected.value)
        assert re.fullmatch(r"[+-]\d+\.\d{4}", difference.text)
        assert inside.text in {"yes", "no"}
    # every printed cell that the run has, and nothing else: two languages' questions, the mean and no median
    assert len(rows) == len(table.rows) == sum((3, 3, 2, 2, 2, 2, 2))
    units: dict[bool, list[float]] = {False: [], True: []}  # a mean of ranks and recalls would mean nothing
    for row in table.rows:
        units["Rank dist." in row.label].append(abs(row.cells[2].value or 0.0))
    parts = [
        f"{len(found)} of {unit}, mean absolute difference {np.mean(found):.4f}, largest {max(found):.4f}"
        for unit, found in zip(("mAP and recall", "rank distance"), units.values(), strict=True)
    ]
    assert table.notes[0].startswith(f"Printed numbers: {parts[0]}; {parts[1]}. ")
    assert "questions clustered by article, 200 draws, seed 3" in table.notes[1]


def test_whether_print_is_within_the_interval() -> None:
    study_rows = {row.label: row for row in reproduced(XLM_R).rows}
    scores = {"de-de": [0.7, 0.9, 0.8], "en-en": [0.8, 0.8, 0.7], "de": [0.5, 0.6, 0.7], "de-en": [0.1, 0.2, 0.3]}
    run = made_up("mine", scores, collection="XQuAD-R", ranks={"de": [(1, 300), (2, 200), (5, 100)]})
    study = Study([run], (), Choices(intervals=True, **FEW))
    value = values_of(study, "XQuAD-R", Setting.MONOLINGUAL, ["map"])[0, "map"][("language", "de", "")]
    printed = study_rows["XQuAD-R, monolingual, mAP, de"].cells[1]
    assert value.low is not None
    assert value.high is not None
    assert printed.value is not None
    within = value.low - 0.00005 <= printed.value <= value.high + 0.00005
    assert study_rows["XQuAD-R, monolingual, mAP, de"].cells[3].text == ("yes" if within else "no")
    assert {row.cells[3].text for row in study_rows.values()} == {"yes", "no"}


@pytest.mark.parametrize(
    ("setting", "measure", "label"),
    [
        (Setting.MONOLINGUAL, "map", "monolingual, mAP, de"),
        (Setting.MULTILINGUAL, "bias_rank_distance", "multilingual, Rank dist., de"),
    ],
    ids=["map", "rank distance"],
)
@pytest.mark.parametrize(("off", "inside"), [(-0.51, "no"), (-0.49, "yes"), (0.49, "yes"), (0.51, "no")])
def test_what_rounds_to_print_is_within_an_interval_of_no_width(
    setting: Setting, measure: str, label: str, off: float, inside: str
) -> None:
    """Half a last printed digit either way, whatever digit that is: all queries have one score, so all resamples do."""
    (system,) = published_systems("published:elmahdy2024/xlm-r-hybrid")
    printed = printed_of(system, "XQuAD-R", setting, "de", measure)
    assert printed is not None
    value = printed.value + off * 10.0**-printed.decimals
    if setting is Setting.MONOLINGUAL:
        made = made_up("mine", {"de-de": [value] * 3}, collection="XQuAD-R", training=XLM_R)
    else:  # whole numbers with that mean, the same in each of two articles
        whole, rest = divmod(round(1000 * value), 1000)
        ranks = {"de": [(1, 1 + whole + (number < rest)) for number in range(1000)] * 2}
        of_articles: dict[str, Any] = {"ranks": ranks, "per_cluster": 1000, "pool_size": 13_014}
        made = made_up("mine", {"de": [0.5] * 2000}, collection="XQuAD-R", training=XLM_R, **of_articles)
    (table,) = reproduce_tables(Study([made], (), Choices(**FEW)))
    (row,) = [row for row in table.rows if row.label == f"XQuAD-R, {label}"]
    assert row.cells[3].text == inside


@pytest.mark.parametrize(
    ("changes", "system"),
    [
        ({}, "XLM-R hybrid"),
        ({"alpha": 1}, "XLM-R X-X-mono"),
        ({"alpha": 0}, "XLM-R X-Y"),
        ({"mode": "x-y"}, "XLM-R X-Y"),
        ({"mode": "X-X-mono"}, "XLM-R X-X-mono"),
        ({"base": "sentence-transformers/LaBSE"}, "LaBSE hybrid"),
    ],
    ids=str,
)
def test_which_published_system_a_run_is_of(changes: dict[str, Any], system: str) -> None:
    table = reproduced({**XLM_R, **changes})
    assert {row.section for row in table.rows} == {f"mine against {system}"}


@pytest.mark.parametrize(
    "changes", [{"base": "org/minilm"}, {"mode": "other"}, {"base": None}, {"alpha": 0.25}], ids=str
)
def test_runs_of_no_published_system(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"^no run has a published counterpart: ") as caught:
        reproduced({**XLM_R, **changes})
    assert "\n" not in str(caught.value)


def test_the_names_of_tables_are_anchors_whatever_a_collection_is_called() -> None:
    scores = {"de-de": [0.5, 0.4], "en-en": [0.5, 0.6], "de-en": [0.1, 0.2]}
    study = Study([made_up("a", scores, collection=r"beir:my data/100%_{x}\y#")])
    names = [table.name for table in [*per_language_tables(study), *pair_tables(study)]]
    assert names == [f"{kind}-beir-my-data-100-_-x--y-" for kind in ("per-language", "pairs")]


def test_the_names_of_tables_are_anchors(runs: list[Run], reported: list[PublishedSystem]) -> None:
    study = Study(runs, reported)
    tables = [main_table(study), *bias_tables(study), *per_language_tables(study), *pair_tables(study)]
    names = [table.name for table in tables if table is not None]
    assert len(names) == len(set(names)) == 6
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)
