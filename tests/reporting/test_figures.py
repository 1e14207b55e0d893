"""The figures of a report as data: what is shown, against the values that it is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hybrid_bench.analysis.comparisons import LEVEL
from hybrid_bench.analysis.study import Choices, Study
from hybrid_bench.data.published import published_systems
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.reporting.drawing import Scale
from hybrid_bench.reporting.elements import Bar, Bars, Distribution, HeatMap, Scatter
from hybrid_bench.reporting.figures import chosen_figures, figures_of
from hybrid_bench.reporting.tables import p_text
from hybrid_bench.runs.reading import Run, find_runs
from report_cases import MEAN, made_up, subsets_of, under_name, values_of
from saved_runs import BM25, CHAR_NGRAM, WORD_COUNTS, copy_of, folder_of, rows_of, save_runs

MULTILINGUAL = "HybridDemo-Multilingual"
MODELS = [BM25, CHAR_NGRAM, WORD_COUNTS]
CODES = ("de", "en", "th")
FEW: dict[str, Any] = {"draws": 200, "seed": 3}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"), MODELS)


@pytest.fixture(scope="module")
def runs(output: Path) -> list[Run]:
    return find_runs([output])


def named(study: Study, beginning: str) -> list[Any]:
    return [figure for figure in figures_of(study) if figure.name.startswith(beginning)]


def test_all_figures_of_a_collection(runs: list[Run]) -> None:
    made = figures_of(Study(runs))
    names = [figure.name for figure in made]
    assert len(names) == len(set(names))
    assert [re.match(r"[a-z]+", name)[0] for name in names] == [  # type: ignore[index] # every name begins with a word
        *["pairs"] * 3,
        *["answers"] * 3,
        "distances",
        "bias",
        *["languages"] * 3,
    ]
    assert [type(figure) for figure in made] == [HeatMap] * 6 + [Distribution, Scatter, Bars, Bars, Bars]
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)  # they are the names of files
    assert figures_of(Study([])) == []


def test_a_heat_map_of_pairs_for_each_run(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(intervals=True, **FEW))
    for number, each in enumerate(named(study, "pairs")):
        assert each.title == f"HybridDemo by pair of languages: {MODELS[number]}"
        assert each.rows == each.columns == CODES
        assert not each.diverging
        assert not each.marks
        own = values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["map"])[number, "map"]
        crossed = values_of(study, "HybridDemo", Setting.CROSS_LINGUAL, ["map"])[number, "map"]
        for row, asked in enumerate(CODES):
            for place, pool in enumerate(CODES):
                value = own[("language", asked, "")] if asked == pool else crossed[("pair", asked, pool)]
                assert each.values[row, place] == value.value
                assert each.hints[row, place] == (
                    f"{value.value:.4f}; 84 queries; 95% interval {value.low:.4f} to {value.high:.4f}"
                )


def test_with_a_baseline_pairs_are_differences(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(baseline=1, **FEW))
    first, baseline, last = named(study, "pairs")
    assert (first.diverging, baseline.diverging, last.diverging) == (True, False, True)
    assert first.measure == f"mAP, difference from {CHAR_NGRAM}"
    assert baseline.measure == "mAP ↑"
    crossed = values_of(study, "HybridDemo", Setting.CROSS_LINGUAL, ["map"])
    own = values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["map"])
    marked = 0
    for number, each in ((0, first), (2, last)):
        for row, asked in enumerate(CODES):
            for place, pool in enumerate(CODES):
                of_run = own[number, "map"] if asked == pool else crossed[number, "map"]
                value = of_run[("language", asked, "") if asked == pool else ("pair", asked, pool)]
                assert value.p is not None
                assert value.p_adjusted is not None
                assert each.values[row, place] == value.delta
                assert ((row, place) in each.marks) == (value.p_adjusted < LEVEL)
                marked += (row, place) in each.marks
                assert each.hints[row, place].endswith(
                    f"difference {value.delta:+.4f}, p {p_text(value.p)}, adjusted {p_text(value.p_adjusted)}"
                )
        assert any("Benjamini and Hochberg" in note for note in each.notes)
    assert marked > 0


def test_pairs_that_a_run_lacks_are_empty(runs: list[Run]) -> None:
    narrowed = runs[0].only({"HybridDemo-Pairs": ["de-de", "de-en", "en-de"]})
    (each,) = named(Study([narrowed]), "pairs")
    assert each.rows == ("de", "en")
    assert np.isnan(each.values).tolist() == [[False, False], [False, True]]
    assert named(Study([runs[0].only({"HybridDemo-Pairs": ["de-de"]})]), "pairs") == []


def test_the_language_of_the_first_answer(output: Path, runs: list[Run]) -> None:
    languages = runs[0].tasks[MULTILINGUAL].metadata["languages"]
    for number, each in enumerate(named(Study(runs), "answers")):
        assert (each.rows, each.columns) == (CODES, tuple(sorted(languages)))
        rows = subsets_of(rows_of(folder_of(output, MODELS[number]), MULTILINGUAL), "multilingual")
        gaps = []
        for place, asked in enumerate(each.rows):
            first = [row["rank_languages"][0] for row in rows[asked]]
            shares = [first.count(code) / len(first) for code in each.columns]
            assert each.values[place].tolist() == pytest.approx(shares, abs=1e-12)
            own = shares[each.columns.index(asked)]
            gaps.append(own - (sum(shares) - own) / (len(shares) - 1))
        gap = f"Diagonal gap, the own language less the mean of the others: {np.mean(gaps):+.3f}."
        assert each.notes == (gap, "One scale for the 3 runs.")
        assert each.values.sum(axis=1) == pytest.approx(1)


def test_shares_of_questions_that_lack_languages_say_why_they_do_not_add_up(
    output: Path, runs: list[Run], tmp_path: Path
) -> None:
    """As MLQA-R's questions do: each has an answer in some of the languages only."""

    def lacking(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        for place, row in enumerate(rows):
            if row["setting"] == "multilingual" and place % 2:  # the best-placed answers alone are there
                row["n_relevant"] = 2
                for name in ("ranks", "rank_languages", "gains"):
                    row[name] = row[name][:2]
        return pa.Table.from_pylist(rows, table.schema)

    copy = copy_of(output, tmp_path)
    (run,) = find_runs([under_name(folder_of(copy, BM25), "lacking", lacking)])
    (each,) = named(Study([run]), "answers")
    assert (each.values.sum(axis=1) > 1 + 1e-6).any()
    assert any("rows do not add up to 1" in note for note in each.notes)
    assert not any("add up" in note for whole in named(Study(runs), "answers") for note in whole.notes)


def test_heat_maps_that_are_compared_have_one_scale(runs: list[Run]) -> None:
    for kind in ("pairs", "answers"):
        made = named(Study(runs), kind)
        together = np.concatenate([each.values.ravel() for each in made])
        assert {each.ends for each in made} == {(float(np.nanmin(together)), float(np.nanmax(together)))}
    first, baseline, last = named(Study(runs, (), Choices(baseline=1, **FEW)), "pairs")
    differences = np.concatenate([first.values.ravel(), last.values.ravel()])
    assert first.ends == last.ends == (float(np.nanmin(differences)), float(np.nanmax(differences)))
    assert baseline.ends is None  # there is one of its kind
    scale = Scale.of(first.ends, diverging=True)
    assert scale.high == -scale.low == np.nanmax(np.abs(differences))
    (lone,) = named(Study(runs[:1]), "answers")
    assert lone.ends is None


def test_figures_are_chosen_by_name(runs: list[Run]) -> None:
    made = figures_of(Study(runs))
    names = [figure.name for figure in made]
    chosen = chosen_figures(made, ["languages", "pairs", names[-1]])
    assert [figure.name for figure in chosen] == [*names[:3], *names[-3:]]
    assert chosen_figures(made, [names[4]]) == [made[4]]
    with pytest.raises(RequestError, match=r"^no figure 'pair': did you mean 'pairs'"):
        chosen_figures(made, ["languages", "pair"])


def test_rank_distances_of_all_queries(output: Path, runs: list[Run]) -> None:
    (each,) = named(Study(runs), "distances")
    assert list(each.series) == MODELS
    for model, values in each.series.items():
        rows = rows_of(folder_of(output, model), MULTILINGUAL)
        assert sorted(values.tolist()) == sorted(float(row["ranks"][-1] - row["ranks"][0]) for row in rows)
        assert min(values) > 0  # the scale is logarithmic


def test_bias_against_quality(runs: list[Run]) -> None:
    study = Study(runs)
    (each,) = named(study, "bias")
    values = values_of(study, "HybridDemo", Setting.MULTILINGUAL, ["map", "bias_rank_distance"], {"mean"})
    assert [point.label for point in each.points] == MODELS
    for number, point in enumerate(each.points):
        assert point.x == values[number, "map"][MEAN].value
        assert point.y == values[number, "bias_rank_distance"][MEAN].value
    assert each.x_title.endswith("↑")
    assert each.y_title.endswith("↓")
    distances = [point.y for point in each.points]
    assert each.logarithmic is (max(distances) >= 5 * min(distances))
    assert named(Study(runs[:1]), "bias") == []  # one point says nothing


def test_published_systems_are_points_of_their_own() -> None:
    run = made_up("a", {"de": [0.5, 0.6], "en": [0.4, 0.3]}, collection="XQuAD-R")
    (each,) = named(Study([run], published_systems("published:elmahdy2024")), "bias")
    assert [point.kind for point in each.points] == ["run"] + ["reported"] * 6
    last = each.points[-1]
    assert (last.label, last.x, last.y) == ("LaBSE hybrid (reported)", 0.6817, 221.1)
    assert each.logarithmic  # from 1 to a thousand
    assert each.y_title == "mean rank distance, logarithmic ↓"


def test_bars_by_language(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(intervals=True, **FEW))
    for setting, each in zip(Setting, named(study, "languages"), strict=True):
        values = values_of(study, "HybridDemo", setting, ["map"], {"language"})
        assert each.categories == CODES
        for number, model in enumerate(MODELS):
            expected = [values[number, "map"][("language", code, "")] for code in CODES]
            assert list(each.series[model]) == [Bar(value.value, value.low, value.high) for value in expected]
    part = runs[1].only({"HybridDemo-Pairs": ["de-de", "en-en"]})
    (first, *_) = named(Study([runs[0], part]), "languages")
    assert first.series[CHAR_NGRAM][2] is None
    assert named(Study([runs[0].only({"HybridDemo-Pairs": ["de-de"]})]), "languages") == []


def trained(alpha: float | None, mono: float, cross: float, distance: int, *, base: str = "b", seed: int = 0) -> Run:
    training = {"languages": ["de"], "base": base, "seed": seed, "mode": "hybrid"}
    return made_up(
        f"{base}-{alpha}-{seed}",
        {"de-de": [mono], "de-en": [cross], "de": [0.5]},
        ranks={"de": [(1, 1 + distance)]},
        training=training if alpha is None else {**training, "alpha": alpha},
    )


def test_a_sweep_over_alpha() -> None:
    made = [
        trained(1.0, 0.8, 0.2, 500),
        trained(1.0, 0.6, 0.4, 300, seed=1),
        trained(0.5, 0.69, 0.5, 200),
        trained(0.0, 0.5, 0.49, 100),
        trained(0.5, 0.3, 0.3, 50, base="c"),
        trained(None, 0.99, 0.99, 1),
        made_up("untrained", {"de-de": [0.9], "de-en": [0.9], "de": [0.9]}),
    ]
    (each,) = named(Study(made), "alpha")
    points = [(p.group, p.label, p.x, p.y, p.size) for p in each.points]
    assert points == [
        ("b", "0", 0.5, 0.49, 100.0),
        ("b", "0.5", 0.69, 0.5, 200.0),
        ("b", "1", pytest.approx(0.7), pytest.approx(0.3), 400.0),  # the mean of two seeds
        ("c", "0.5", 0.3, 0.3, 50.0),
    ]
    assert [point.chosen for point in each.points] == [False, True, True, True]  # 0 is worse than 0.5 in both
    assert each.joined
    assert named(Study(made[:2]), "alpha") == []  # one alpha is no sweep


def test_figures_of_a_task_that_is_not_parallel() -> None:
    made = [
        made_up(
            name,
            {"de-de": [0.5, 0.6], "en-en": [0.4, 0.2], "de-en": [0.1, 0.1]},
            collection="MIRACL",
            main_score="ndcg_at_10",
        )
        for name in "ab"
    ]
    found = figures_of(Study(made))
    assert [figure.name for figure in found] == [
        "pairs-MIRACL-a",
        "pairs-MIRACL-b",
        "languages-MIRACL-monolingual",
    ]
    assert isinstance(found[0], HeatMap)
    assert found[0].measure == "nDCG@10 ↑"
