"""Tables: the values against a direct computation from the saved ranks, the marks against their definition."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.metrics import NOT_RETRIEVED
from hybrid_bench.runs import Run, TaskTable, find_runs
from hybrid_bench.tables import FORMATS, MAIN, TASKS, Column, escape_latex, main_frame, render, task_frame
from saved_runs import BM25, CHAR_NGRAM, copy_of, folder_of, rows_of, save_runs

UP = Column("up", "up", "Group", 3, True)
DOWN = Column("down", "down", "Group", 1, False)
#: What a cell was marked as, by its form in the two formats.
MARKED = {
    "markdown": {"best": r"\*\*(.*)\*\*", "second": "<u>(.*)</u>", "missing": "()-", "plain": r"([\d.-]+)"},
    "latex": {"best": r"\\textbf\{(.*)\}", "second": r"\\underline\{(.*)\}", "missing": "()--", "plain": r"([\d.-]+)"},
}

# -- real runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"))


def by_hand(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The values of the main table from the ranks alone, with nothing but plain Python and means."""
    scores: dict[str, dict[str, list[float]]] = {}
    distances: dict[str, list[int]] = {}
    for row in rows:
        ranks = sorted(row["ranks"])
        precision = sum((place + 1) / rank for place, rank in enumerate(ranks)) / len(ranks)
        scores.setdefault(row["setting"], {}).setdefault(row["subset"], []).append(precision)
        if row["setting"] == "multilingual":
            distances.setdefault(row["subset"], []).append(ranks[-1] - ranks[0])
    values = {
        setting: float(np.mean([np.mean(subset) for subset in subsets.values()])) for setting, subsets in scores.items()
    }
    if distances:
        values["bias_rank_distance"] = float(np.mean([np.mean(subset) for subset in distances.values()]))
        values["bias_rank_distance_median"] = float(np.mean([np.median(subset) for subset in distances.values()]))
    return values


@pytest.mark.parametrize("model", [BM25, CHAR_NGRAM])
def test_values_are_those_of_the_saved_ranks(model: str, runs: Path) -> None:
    expected = by_hand(rows_of(folder_of(runs, model), "HybridDemo-Pairs", "HybridDemo-Multilingual"))
    frame = main_frame(find_runs([runs]))
    row = frame[frame["model"] == model].iloc[0]
    assert row["collection"] == "HybridDemo"
    assert row["subsets"] == {"monolingual": 3, "cross-lingual": 6, "multilingual": 3}
    assert {column.key: row[column.key] for column in MAIN} == pytest.approx(expected, abs=1e-12)
    assert len(expected) == len(MAIN)


def test_printed_values_are_those_of_the_frame(runs: Path) -> None:
    frame = main_frame(find_runs([runs]))
    for fmt in FORMATS:
        rows = body(render(frame, MAIN, fmt), fmt)
        for cells, (_, row) in zip(rows, frame.iterrows(), strict=True):
            assert cells[:2] == ["HybridDemo" if fmt == "markdown" or row.name == 0 else "", printed(row["model"], fmt)]
            values = [plain(cell, fmt) for cell in cells[2:]]
            assert values == [f"{row[column.key]:.{column.decimals}f}" for column in MAIN]


def printed(model: str, fmt: str) -> str:
    return model if fmt == "markdown" else model.replace("_", r"\_")


def test_only_what_can_be_compared_is_marked(runs: Path, tmp_path: Path) -> None:
    output = copy_of(runs, tmp_path)
    save_runs(output, [BM25], ["HybridDemo-Multilingual"], ["de"], pool_languages=["de", "en"])
    rows = body(render(main_frame(find_runs([output])), MAIN, "markdown"), "markdown")
    assert len(rows) == 3
    marked = [[kind(cell, "markdown") for cell in row[2:]] for row in rows]
    # The runs on all languages and that on two have other pools; monolingual and cross-lingual are in two runs alone.
    assert {kinds_of_row[2] for kinds_of_row in marked} == {"plain"}
    assert {kinds_of_row[0] for kinds_of_row in marked} == {"best", "second", "missing"}


def test_two_checkpoints_of_one_name_are_told_apart(runs: Path, tmp_path: Path) -> None:
    output = copy_of(runs, tmp_path)
    first = folder_of(output, BM25)
    shutil.copytree(first, first.with_name("abcdef0123"))
    names = main_frame(find_runs([output]))["model"].tolist()
    assert sorted(names) == sorted([f"{BM25} @{first.name[:7]}", f"{BM25} @abcdef0", CHAR_NGRAM])


def test_a_run_without_a_task_has_dashes(runs: Path, tmp_path: Path) -> None:
    output = copy_of(runs, tmp_path)
    (folder_of(output, BM25) / "HybridDemo-Multilingual.json").unlink()  # as after a kill: the table is written first
    row = body(render(main_frame(find_runs([output])), MAIN, "markdown"), "markdown")[0]
    assert row[1] == BM25
    assert row[4:] == ["-", "-", "-"]


# -- means --------------------------------------------------------------------------------------------------------


def table_of(
    rows: Sequence[tuple[str, str, list[int]]],
    collection: str = "C",
    *,
    split: Sequence[str] = (),
    **metadata: Any,
) -> TaskTable:
    """A per-query table from (setting, subset, ranks); `ap` is 1 over the first rank, to be told from others."""
    frame = pd.DataFrame(
        {
            "split": pd.Categorical(list(split) or ["test"] * len(rows)),
            "setting": pd.Categorical([setting for setting, _, _ in rows]),
            "subset": pd.Categorical([subset for _, subset, _ in rows]),
            "pool_size": np.full(len(rows), 10, dtype=np.int32),
            "n_relevant": np.array([len(ranks) for _, _, ranks in rows], dtype=np.int32),
            "ranks": [np.array(ranks, dtype=np.int32) for _, _, ranks in rows],
            "ap": [1 / ranks[0] for _, _, ranks in rows],
            "ndcg_at_10": [1 / (1 + ranks[0]) for _, _, ranks in rows],
            "recall_at_100": [float(ranks[0] <= 100) for _, _, ranks in rows],
        }
    )
    columns = {str(column): values for column, values in frame.items()}
    return TaskTable(Path("x"), {"collection": collection, **metadata}, {}, _read=columns)


def run_of(*tables: TaskTable, model: str = "m", options: dict[str, str] | None = None, folder: str = "x") -> Run:
    return Run(Path(folder), model, options or {}, {f"task {number}": table for number, table in enumerate(tables)})


def test_each_subset_counts_the_same_whatever_its_number_of_queries() -> None:
    pairs = table_of([("monolingual", "a-a", [1]), *[("monolingual", "b-b", [4])] * 9, ("cross-lingual", "a-b", [2])])
    (row,) = main_frame([run_of(pairs)]).to_dict("records")
    assert row["monolingual"] == (1 + 1 / 4) / 2  # over queries it were .325
    assert row["cross-lingual"] == 1 / 2
    assert row["subsets"] == {"monolingual": 2, "cross-lingual": 1}
    assert all(np.isnan(row[key]) for key in ("multilingual", "bias_rank_distance", "bias_rank_distance_median"))


def test_rank_distance_is_over_queries_then_over_subsets() -> None:
    pool = table_of(
        [
            ("multilingual", "a", [1, 2, 11]),  # 10
            ("multilingual", "b", [1, 2]),  # 1, 2 and 99: the mean 34, the median 2
            ("multilingual", "b", [1, 3]),
            ("multilingual", "b", [1, 100]),
        ]
    )
    (row,) = main_frame([run_of(pool)]).to_dict("records")
    assert row["bias_rank_distance"] == (10 + 34) / 2
    assert row["bias_rank_distance_median"] == (10 + 2) / 2


def test_a_subset_of_two_splits_counts_twice() -> None:
    """The same name in another split is another subset."""
    pool = table_of(
        [
            ("multilingual", "a", [1, 11]),  # 10
            ("multilingual", "a", [4, 5]),  # 1, 2 and 99: the mean 34, the median 2
            ("multilingual", "a", [4, 6]),
            ("multilingual", "a", [4, 103]),
        ],
        split=["dev", "test", "test", "test"],
    )
    (row,) = main_frame([run_of(pool)]).to_dict("records")
    assert row["subsets"] == {"multilingual": 2}
    assert row["multilingual"] == (1 + 1 / 4) / 2
    assert row["bias_rank_distance"] == (10 + 34) / 2
    assert row["bias_rank_distance_median"] == (10 + 2) / 2


@pytest.mark.parametrize("ranks", [[5], [5, NOT_RETRIEVED]], ids=["one relevant", "not retrieved"])
def test_no_rank_distance_where_one_query_has_none(ranks: list[int]) -> None:
    pool = table_of([("multilingual", "a", [1, 2]), ("multilingual", "a", ranks)])
    (row,) = main_frame([run_of(pool)]).to_dict("records")
    assert row["multilingual"] == (1 + 1 / 5) / 2
    assert np.isnan(row["bias_rank_distance"])
    assert np.isnan(row["bias_rank_distance_median"])


def test_rows_stand_by_collection_then_by_run() -> None:
    one = table_of([("monolingual", "a-a", [1])], "C")
    two = table_of([("monolingual", "a-a", [2])], "D")
    frame = main_frame(
        [run_of(one, two, model="m"), run_of(two, model="n"), run_of(one, model="o", options={"p": "q"})]
    )
    assert frame[["collection", "model", "monolingual"]].to_numpy().tolist() == [
        ["C", "m", 1.0],
        ["C", "o (p=q)", 1.0],
        ["D", "m", 0.5],
        ["D", "n", 0.5],
    ]


# -- other tasks --------------------------------------------------------------------------------------------------

OTHER: dict[str, Any] = {"main_score": "ndcg_at_10"}


def test_other_tasks_are_not_in_the_main_table() -> None:
    """A run of both kinds: each has a row in the table of its kind, and none in the other's."""
    ours = table_of([("monolingual", "a-a", [1])], "C", main_score="map")
    theirs = table_of([("monolingual", "default", [3])], "D", **OTHER)
    run = run_of(ours, theirs)
    assert [table.parallel for table in run.tasks.values()] == [True, False]
    assert main_frame([run])["collection"].tolist() == ["C"]
    assert task_frame([run])["collection"].tolist() == ["task 1, monolingual"]
    assert len(main_frame([run_of(theirs)])) == len(task_frame([run_of(ours)])) == 0


def test_means_of_other_tasks_are_over_queries_then_over_subsets() -> None:
    """By setting; a subset of two splits counts twice."""
    table = table_of(
        [
            ("monolingual", "a", [1]),
            *[("monolingual", "a", [4])] * 3,
            *[("monolingual", "b", [1000])] * 5,
            ("cross-lingual", "a-b", [9]),
        ],
        split=["dev", *["test"] * 9],
        notes=["two documents are missing"],
        **OTHER,
    )
    first, second = task_frame([run_of(table)]).to_dict("records")
    assert first["ndcg_at_10"] == pytest.approx((1 / 2 + 1 / 5 + 1 / 1001) / 3, abs=1e-15)
    assert first["recall_at_100"] == pytest.approx(2 / 3, abs=1e-15)
    assert first["ap"] == pytest.approx((1 + 1 / 4 + 1 / 1000) / 3, abs=1e-15)
    assert (first["subsets"], second["subsets"]) == ({"monolingual": 3}, {"cross-lingual": 1})
    assert second["ndcg_at_10"] == 1 / 10
    assert first["notes"] == second["notes"] == ("two documents are missing",)
    assert np.isnan(first["bias_awrf_prior"])


def test_other_tasks_stand_by_task_then_by_run() -> None:
    one = table_of([("monolingual", "default", [1])], **OTHER)
    two = table_of([("monolingual", "default", [2])], **OTHER)
    frame = task_frame([run_of(one, two, model="m"), run_of(two, model="n"), run_of(one, model="n", folder="y")])
    # Runs that would have the same name are told apart.
    assert frame[["collection", "model", "ap"]].to_numpy().tolist() == [
        ["task 0, monolingual", "m", 1.0],
        ["task 0, monolingual", "n @x", 0.5],
        ["task 0, monolingual", "n @y", 1.0],
        ["task 1, monolingual", "m", 0.5],
    ]


def test_columns_that_no_other_task_has_are_left_out() -> None:
    tables = [table_of([("monolingual", "default", [rank])], **OTHER) for rank in (1, 2)]
    text = render(
        task_frame([run_of(table, model=f"m{n}") for n, table in enumerate(tables)]), TASKS, "markdown", "Task"
    )
    assert [cell.strip() for cell in text.splitlines()[0].strip("|").split("|")] == [
        "Task",
        "Model",
        "nDCG@10 ↑",
        "R@100 ↑",
        "mAP ↑",
    ]
    assert [row[2:] for row in body(text, "markdown")] == [
        ["**0.500**", "**1.000**", "**1.000**"],
        ["<u>0.333</u>", "**1.000**", "<u>0.500</u>"],
    ]


def test_other_tasks_over_different_subsets_are_not_marked() -> None:
    whole = table_of([("monolingual", "a", [1]), ("monolingual", "b", [1])], **OTHER)
    part = table_of([("monolingual", "a", [2])], **OTHER)
    frame = task_frame([run_of(whole, model="m"), run_of(part, model="n")])
    rows = body(render(frame, TASKS, "markdown", "Task"), "markdown")
    assert {kind(cell, "markdown") for row in rows for cell in row[2:]} == {"plain"}


# -- marks --------------------------------------------------------------------------------------------------------


def frame_of(values: dict[str, Sequence[float | None]], models: Sequence[str] = (), **more: Any) -> pd.DataFrame:
    """A frame of one collection; None stands for a missing value."""
    n = len(next(iter(values.values())))
    columns = {key: np.array([np.nan if x is None else x for x in column]) for key, column in values.items()}
    return pd.DataFrame(
        {"collection": ["C"] * n, "model": list(models) or [f"m{i}" for i in range(n)], **columns, **more}
    )


def body(text: str, fmt: str) -> list[list[str]]:
    """The cells of the rows below the header."""
    lines = text.splitlines()
    if fmt == "markdown":
        return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]
    start = lines.index(r"\midrule")
    rows = [line for line in lines[start:] if line.endswith(r" \\")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in rows]


def kind(cell: str, fmt: str) -> str:
    return next(name for name, form in MARKED[fmt].items() if re.fullmatch(form, cell))


def plain(cell: str, fmt: str) -> str:
    """A cell's text without its mark."""
    found = re.fullmatch(MARKED[fmt][kind(cell, fmt)], cell)
    assert found
    return found[1]


def kinds(values: Sequence[float | None], column: Column, fmt: str) -> list[str]:
    table = render(frame_of({column.key: values}), [column], fmt)
    return [kind(row[2], fmt) for row in body(table, fmt)]


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (UP, [0.2, 0.4, 0.3], ["plain", "best", "second"]),
        (DOWN, [20, 40, 30], ["best", "plain", "second"]),
        (UP, [0.4, 0.3, 0.4, 0.3, 0.1], ["best", "second", "best", "second", "plain"]),
        (UP, [0.40004, 0.4, 0.3], ["best", "best", "second"]),  # .400 is printed for both
        (UP, [0.5, 0.40004, 0.4], ["best", "second", "second"]),
        (DOWN, [9.96, 10.04, 10.1], ["best", "best", "second"]),  # 10.0 is printed for both
        (UP, [None, 0.4, None, 0.3], ["missing", "best", "missing", "second"]),
        (DOWN, [None, 4], ["missing", "plain"]),  # nothing to compare it with
        (UP, [None, None], ["missing", "missing"]),
        (UP, [0.4], ["plain"]),
        (UP, [0.4, 0.4], ["best", "best"]),
        (UP, [-0.4, -0.3], ["second", "best"]),  # the best does not begin at 0
        (DOWN, [0, 5], ["best", "second"]),
        (DOWN, [1000, 999.9], ["second", "best"]),
        (UP, [0.0, 0.0001], ["best", "best"]),
    ],
)
def test_marks(fmt: str, column: Column, values: list[float | None], expected: list[str]) -> None:
    assert kinds(values, column, fmt) == expected


@given(
    st.lists(st.none() | st.sampled_from([0.1, 0.10001, 0.2, 0.3]) | st.floats(-1, 1), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from(FORMATS),
)
def test_marks_are_the_best_and_second_best_printed_values(values: list[float | None], up: bool, fmt: str) -> None:
    column = Column("x", "x", "Group", 2, up)
    shown = [None if value is None else round(float(f"{value:.2f}") * 100) for value in values]
    present = [number for number in shown if number is not None]
    better = max if up else min
    best = better(present) if len(present) > 1 else None
    rest = [number for number in present if number != best]
    second = better(rest) if best is not None and rest else None
    expected = [
        "missing" if number is None else "best" if number == best else "second" if number == second else "plain"
        for number in shown
    ]
    assert kinds(values, column, fmt) == expected


@pytest.mark.parametrize("fmt", FORMATS)
def test_each_collection_has_a_best_of_its_own(fmt: str) -> None:
    frame = pd.DataFrame(
        {"collection": ["C", "C", "D", "D", "E"], "model": list("mnmno"), "up": [0.9, 0.8, 0.1, 0.2, 0.5]}
    )
    rows = body(render(frame, [UP], fmt), fmt)
    assert [kind(row[2], fmt) for row in rows] == ["best", "second", "second", "best", "plain"]
    repeated = ["C", "C", "D", "D", "E"] if fmt == "markdown" else ["C", "", "D", "", "E"]
    assert [row[0] for row in rows] == repeated


@pytest.mark.parametrize("fmt", FORMATS)
def test_columns_are_marked_each_in_its_direction(fmt: str) -> None:
    frame = frame_of({"up": [0.5, 0.4], "down": [50, 40]})
    rows = [[kind(cell, fmt) for cell in row[2:]] for row in body(render(frame, [UP, DOWN], fmt), fmt)]
    assert rows == [["best", "second"], ["second", "best"]]


def test_the_main_columns_know_their_direction() -> None:
    assert {column.key: column.higher_is_better for column in MAIN} == {
        **{setting.value: True for setting in Setting},
        "bias_rank_distance": False,
        "bias_rank_distance_median": False,
    }


# -- formats ------------------------------------------------------------------------------------------------------


def test_markdown() -> None:
    frame = frame_of({"up": [0.5, None, 0.25], "down": [1234.56, 12, None]}, ["a", "b_c", "d"])
    assert render(frame, [UP, DOWN], "markdown").splitlines() == [
        "| Collection   | Model   |   Group up ↑ |   Group down ↓ |",
        "|:-------------|:--------|-------------:|---------------:|",
        "| C            | a       |    **0.500** |  <u>1234.6</u> |",
        "| C            | b_c     |            - |       **12.0** |",
        "| C            | d       | <u>0.250</u> |              - |",
    ]


def test_latex() -> None:
    other = Column("down", "down", "Other", 1, False)
    frame = frame_of({"up": [0.5, None], "down": [2, 1]}, ["a", "b"])
    assert render(frame, [UP, UP, other], "latex").splitlines() == [
        r"\begin{tabular}{llrrr}",
        r"\toprule",
        r" & & \multicolumn{2}{c}{Group} & \multicolumn{1}{c}{Other} \\",
        r"\cmidrule(lr){3-4} \cmidrule(lr){5-5}",
        r"Collection & Model & up $\uparrow$ & up $\uparrow$ & down $\downarrow$ \\",
        r"\midrule",
        r"C & a & 0.500 & 0.500 & \underline{2.0} \\",
        r" & b & -- & -- & \textbf{1.0} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_unknown_format() -> None:
    with pytest.raises(RequestError, match=r"^unknown format 'html': markdown, latex$"):
        render(frame_of({"up": [1.0]}), [UP], "html")


def test_names_are_escaped_for_latex() -> None:
    (row,) = body(render(frame_of({"up": [0.5]}, ["a_b/c&d%"]), [UP], "latex"), "latex")
    assert row == ["C", r"a\_b/c\&d\%", "0.500"]
    assert escape_latex(r"\{x}$y^2~#") == r"\textbackslash{}\{x\}\$y\textasciicircum{}2\textasciitilde{}\#"
    frame = pd.DataFrame({"collection": ["A_B"], "model": ["m"], "up": [0.5]})
    assert r"A\_B & m & 0.500 \\" in render(frame, [UP], "latex")


@given(st.text(st.sampled_from("ab\\&%$#_{}~^é中 ")))
def test_escaped_text_reads_as_it_was(text: str) -> None:
    escaped = escape_latex(text)
    spelled = {"\\textbackslash{}": "\\", "\\textasciitilde{}": "~", "\\textasciicircum{}": "^"}
    parts = re.findall(r"\\text[a-z]+\{\}|\\[&%$#_{}]|[^\\&%$#_{}~^]", escaped)
    assert "".join(parts) == escaped  # no special character is left bare
    assert "".join(spelled.get(part, part[-1]) for part in parts) == text


def test_names_are_escaped_for_markdown() -> None:
    text = render(frame_of({"up": [0.5, 0.4]}, ["a|b", "c||d"]), [UP], "markdown")
    assert [row[:2] for row in body(text, "markdown")] == [["C", r"a\|b"], ["C", r"c\|\|d"]]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()} == {4}
