"""Values of several runs by level, with intervals and tests: against the same by hand, from the saved ranks."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from hybrid_bench.analysis.frame import (
    COLUMNS,
    COMPUTED,
    Place,
    Request,
    Value,
    long_frame,
    query_frame,
    results_of,
)
from hybrid_bench.analysis.study import SEEN, Choices, Study
from hybrid_bench.data.published import published_systems
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import MEASURES, inputs_of, kendall_w, language_places
from hybrid_bench.measures.metrics import NOT_RETRIEVED
from hybrid_bench.measures.significance import (
    Cells,
    Contrast,
    bootstrap,
    bootstrap_statistic,
    flip_test,
    sign_flip,
    step_down,
)
from hybrid_bench.runs.reading import Run, find_runs
from report_cases import (
    MEAN,
    QUALITY,
    Level,
    bias_by_definition,
    change_metadata,
    made_up,
    quality_by_definition,
    subsets_of,
    under_name,
    values_of,
)
from saved_runs import BM25, CHAR_NGRAM, WORD_COUNTS, change_table, folder_of, rows_of, save_runs

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"
MODELS = (BM25, CHAR_NGRAM, WORD_COUNTS)
#: Enough to compare numbers with; not to believe them.
FEW: dict[str, Any] = {"draws": 200, "seed": 3}
#: What is left of a subset's 84 questions: the subsets are of unequal sizes.
KEPT = {"de-de": 30, "th-en": 11, "th-de": 70, "en": 40}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on subsets of unequal sizes; one of them says which languages it was trained on."""
    folder = save_runs(tmp_path_factory.mktemp("runs"), MODELS)
    for model, task in product(MODELS, (PAIRS, MULTILINGUAL)):
        change_table(folder_of(folder, model), task, unequal)
    for task in (PAIRS, MULTILINGUAL):
        change_metadata(folder_of(folder, WORD_COUNTS), task, training={"languages": ["de", "en"], "alpha": 0.5})
    return folder


def unequal(table: pa.Table) -> pa.Table:
    """The table with the last questions of some subsets left out, by id."""
    ids = sorted(set(table["question_id"].to_pylist()))
    kept = {name: set(ids[:number]) for name, number in KEPT.items()}
    rows = [row for row in table.to_pylist() if row["question_id"] in kept.get(row["subset"], ids)]
    return pa.Table.from_pylist(rows, table.schema)


@pytest.fixture(scope="module")
def runs(output: Path) -> list[Run]:
    return find_runs([output])


@pytest.fixture(scope="module")
def rows(output: Path) -> dict[str, list[dict[str, Any]]]:
    """The saved queries of each model."""
    return {model: rows_of(folder_of(output, model), PAIRS, MULTILINGUAL) for model in MODELS}


def levels_by_hand(subsets: Iterable[str], setting: Setting, trained: Sequence[str] | None) -> dict[Level, list[str]]:
    """The subsets of each level, from their names."""
    found: dict[Level, list[str]] = {}
    for name in subsets:
        asked, _, pool = name.partition("-")
        levels = [MEAN, ("language", asked, "")]
        if setting is Setting.CROSS_LINGUAL:
            levels.append(("pair", asked, pool))
        if trained is not None:
            known = {(code in trained) for code in (asked, pool or asked)}
            levels.append(("mixed" if len(known) == 2 else "seen" if known == {True} else "unseen", "", ""))
        for level in levels:
            found.setdefault(level, []).append(name)
    return found


def values_by_hand(
    measures: Sequence[str], subset: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> dict[str, float]:
    quality = [quality_by_definition(row) for row in subset]
    bias = bias_by_definition(subset, metadata) if set(measures) - set(QUALITY) else {}
    return {
        measure: statistics.fmean(each[measure] for each in quality) if measure in QUALITY else bias[measure]
        for measure in measures
    }


Subsets = Mapping[str, Sequence[Mapping[str, Any]]]


def cells_by_hand(chosen: Subsets, cluster: str, whole: Subsets) -> Cells:
    """The queries as cells, in the order of these rows; questions are numbered as they come in the whole setting."""
    number = {name: place for place, name in enumerate(sorted(whole))}
    question = {q: place for place, q in enumerate(dict.fromkeys(r["question_id"] for e in whole.values() for r in e))}
    asked = [row for each in chosen.values() for row in each]
    of_question = [question[row["question_id"]] for row in asked]
    clusters = of_question if cluster == "question" else [row[f"cluster_{cluster}"] for row in asked]
    return Cells.of([number[name] for name, each in chosen.items() for _ in each], clusters)


def scores_by_hand(measure: str, subsets: Subsets) -> list[float]:
    if measure == "bias_rank_distance":
        return [float(max(row["ranks"]) - min(row["ranks"])) for each in subsets.values() for row in each]
    return [quality_by_definition(row)[measure] for each in subsets.values() for row in each]


# -- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", Setting)
def test_values_are_means_over_subsets_of_means_over_queries(
    setting: Setting, runs: list[Run], rows: dict[str, list[dict[str, Any]]]
) -> None:
    measures = list(QUALITY)
    if setting is Setting.MULTILINGUAL:
        measures += [measure.key for measure in MEASURES]
    study = Study(runs)
    found = values_of(study, "HybridDemo", setting, measures)
    assert set(found) == {(run, measure) for run in range(3) for measure in measures}
    for number, model in enumerate(MODELS):
        subsets = subsets_of(rows[model], setting.value)
        levels = levels_by_hand(subsets, setting, ["de", "en"] if model == WORD_COUNTS else None)
        assert len({len(each) for each in subsets.values()}) > 1  # so that the two kinds of means differ
        metadata = runs[number].tasks[MULTILINGUAL].metadata
        of_subsets = {name: values_by_hand(measures, each, metadata) for name, each in subsets.items()}
        for measure in measures:
            expected = {
                level: statistics.fmean(of_subsets[subset][measure] for subset in names)
                for level, names in levels.items()
            }
            values = found[number, measure]
            assert {level: value.value for level, value in values.items()} == pytest.approx(
                expected, rel=1e-12, abs=1e-12
            )
            for level, names in levels.items():
                assert values[level].n == sum(len(subsets[name]) for name in names)
                assert values[level].subsets == len(names)
            # Neither intervals nor differences were asked for.
            assert all(value == Value(value.value, value.n, value.subsets) for value in values.values())


def test_languages_in_training_are_told_apart_where_a_run_says_so(runs: list[Run]) -> None:
    study = Study(runs)
    named = set(values_of(study, "HybridDemo", Setting.CROSS_LINGUAL, ["map"], SEEN)[2, "map"])
    assert named == {("seen", "", ""), ("mixed", "", "")}  # only one language is unseen
    named = set(values_of(study, "HybridDemo", Setting.MULTILINGUAL, ["map"], SEEN)[2, "map"])
    assert named == {("seen", "", ""), ("unseen", "", "")}  # by the language of the question
    assert set(values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["map"], SEEN)) == {(2, "map")}


def test_fewer_levels_have_the_same_values(runs: list[Run]) -> None:
    everything = Study(runs, (), Choices(baseline=0, intervals=True, **FEW))
    whole = values_of(everything, "HybridDemo", Setting.CROSS_LINGUAL, ["map", "mrr"])
    assert {level for values in whole.values() for level, *_ in values} == {*COMPUTED} - {"unseen"}
    one_by_one = Study(runs, (), Choices(baseline=0, intervals=True, **FEW))
    for kind in COMPUTED:
        expected = {key: {lv: v for lv, v in each.items() if lv[0] == kind} for key, each in whole.items()}
        found = values_of(one_by_one, "HybridDemo", Setting.CROSS_LINGUAL, ["map", "mrr"], {kind})
        assert found == {key: each for key, each in expected.items() if each}


def test_what_is_requested_in_parts_is_computed_once_for_each_measure_and_level(runs: list[Run]) -> None:
    """Measures with other levels share a frame, each with its own; what is asked twice stands there once."""
    study = Study(runs, (), Choices(baseline=0, intervals=True, **FEW))
    place = "HybridDemo", Setting.CROSS_LINGUAL
    parts = [
        Request(*place, ["map"], ["mean", "pair"]),
        Request(*place, ["mrr", "map"], ["mean", "seen"]),
        Request("HybridDemo", Setting.MONOLINGUAL, ["map"], ["language"]),
    ]
    together = results_of(study, parts)
    keys = list(Place._fields)
    assert not together.frame.duplicated(keys).any()
    apart = [
        results_of(study, [Request(*place, ["map"], ["mean", "pair", "seen"])]),
        results_of(study, [Request(*place, ["mrr"], ["mean", "seen"])]),
        results_of(study, parts[2:]),
    ]
    expected = pd.concat([each.frame for each in apart]).sort_values(keys).reset_index(drop=True)
    found = together.frame.sort_values(keys).reset_index(drop=True)
    numbers = ["value", "low", "high", "delta", "p", "p_adjusted"]
    np.testing.assert_allclose(found[numbers], expected[numbers], rtol=1e-12, atol=1e-12)
    pd.testing.assert_frame_equal(found.drop(columns=numbers), expected.drop(columns=numbers))
    assert set(found["level"]) == {"mean", "pair", "seen", "language"}


def test_the_frame_has_one_row_for_each_value_with_its_place_and_what_is_known(runs: list[Run]) -> None:
    reported = published_systems("published:elmahdy2024/labse-hybrid")
    study = Study(runs, reported, Choices(baseline=1, intervals=True, cluster="paragraph", **FEW))
    results = results_of(study, [Request("HybridDemo", Setting.CROSS_LINGUAL, ["map"], COMPUTED)])
    frame = results.frame
    assert list(frame.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    of_runs = frame[frame["kind"] == "run"]
    assert list(dict.fromkeys(of_runs["run"])) == list(MODELS)
    for row in of_runs.to_dict("records"):
        value = results.at(*(row[name] if name != "setting" else Setting(row[name]) for name in Place._fields))
        assert value is not None
        for name, number in vars(value).items():
            assert row[name] == number if number is not None else pd.isna(row[name])
        assert (row["query_language"] == "") == (row["level"] not in {"language", "pair"})
        assert (row["pool"] == "") == (row["level"] != "pair")
        assert row["cluster"] == "paragraph"
        assert row["baseline"] == (CHAR_NGRAM if value.p is not None else None)
        assert row["revision"] == runs[MODELS.index(row["run"])].revision
    assert (of_runs["run"] != CHAR_NGRAM).sum() > of_runs["p"].notna().sum() > 0  # seen languages are not tested
    printed = frame[frame["kind"] == "reported"]
    (system,) = reported
    assert printed["value"].tolist() == [each.value for each in system.values.values()]
    assert printed["level"].tolist() == [each.level for each in system.values.values()]
    assert set(printed["level"]) == {"mean", "median", "language"}
    assert results.at(BM25, "HybridDemo", Setting.CROSS_LINGUAL, "map", "language", "xx") is None


def test_the_median_is_that_of_the_languages(runs: list[Run]) -> None:
    study = Study(runs)
    for setting in Setting:
        found = values_of(study, "HybridDemo", setting, ["map"], ["language", "median"])
        for values in found.values():
            languages = [value for (level, *_), value in values.items() if level == "language"]
            middle = statistics.median(value.value for value in languages)
            assert values["median", "", ""] == Value(middle, sum(value.n for value in languages), len(languages))
        alone = values_of(study, "HybridDemo", setting, ["map"], ["median"])
        assert alone == {key: {("median", "", ""): values["median", "", ""]} for key, values in found.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measures": ["mapp"]}, "no measure is called 'mapp': did you mean 'map'?"),
        ({"measures": ["bias_kendal_w"]}, "no measure is called 'bias_kendal_w': did you mean 'bias_kendall_w'?"),
        ({"collection": "HybridDem"}, "unknown collection 'HybridDem': did you mean 'HybridDemo'?"),
        ({"collection": "XQuAD-R"}, "unknown collection 'XQuAD-R': known: HybridDemo"),
        ({"setting": "monolingal"}, "unknown setting 'monolingal': did you mean 'monolingual'?"),
        ({"levels": ["mean", "languages"]}, "unknown level 'languages': did you mean 'language'?"),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused(changes: dict[str, Any], message: str, runs: list[Run]) -> None:
    request = Request("HybridDemo", Setting.MONOLINGUAL, ["map"], ["mean"])
    with pytest.raises(RequestError) as caught:
        results_of(Study(runs), [request._replace(**changes)])
    assert str(caught.value) == message


def test_a_setting_may_be_given_by_its_short_name(runs: list[Run]) -> None:
    request = Request("HybridDemo", Setting.MULTILINGUAL, ["map"], ["mean"])
    short = request._replace(setting="multi")  # type: ignore[arg-type] # as a person would write it
    assert results_of(Study(runs), [short]).frame.equals(results_of(Study(runs), [request]).frame)


def test_what_a_run_does_not_have_is_not_there(runs: list[Run]) -> None:
    study = Study([runs[0], runs[1].only({PAIRS: ["de-de"]})], (), Choices(intervals=True, **FEW))
    assert set(values_of(study, "HybridDemo", Setting.MULTILINGUAL, ["map", "bias_kendall_w"])) == {
        (0, "map"),
        (0, "bias_kendall_w"),
    }
    assert values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["bias_rank_distance"]) == {}  # no such pools
    assert set(values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["map"])[1, "map"]) == {MEAN, ("language", "de", "")}


def test_what_runs_cover(runs: list[Run]) -> None:
    narrowed = runs[1].only({PAIRS: ["de-de", "de-en"]})
    reported = published_systems("published:elmahdy2024/labse-hybrid")
    study = Study([runs[0], narrowed], reported)
    assert study.collections(parallel=True) == ["HybridDemo"] * 1
    assert study.collections(parallel=False) == []
    assert study.settings("HybridDemo") == list(Setting)
    assert study.languages("HybridDemo") == ["de", "en", "th"]
    assert study.coverage(1, "HybridDemo", Setting.MONOLINGUAL) == {("test/de-de", 128)}
    assert study.coverage(1, "HybridDemo", Setting.MULTILINGUAL) == frozenset()
    alone = Study([], reported)
    assert set(alone.collections(parallel=True)) == {"XQuAD-R", "MLQA-R", "MIRACL"}
    assert alone.settings("MIRACL") == [Setting.MONOLINGUAL]
    assert alone.languages("MLQA-R") == ["ar", "de", "en", "es", "hi", "vi", "zh"]


# -- intervals ----------------------------------------------------------------------------------------------------


def test_each_run_has_the_intervals_of_its_own_training() -> None:
    """Runs share resamples; what is seen differs from run to run."""
    rng = np.random.default_rng(4)
    scores = {f"{code}-{code}": rng.random(20).tolist() for code in ("de", "en", "th")}
    training = [{"languages": ["de"]}, {"languages": ["en", "th"]}, None, {"languages": ["de"]}]
    made = [made_up(f"m{number}", scores, training=each) for number, each in enumerate(training)]
    found = values_of(Study(made, (), Choices(intervals=True, **FEW)), "C", Setting.MONOLINGUAL, ["map"], SEEN)
    for number, each in enumerate(training):
        of_run = found.get((number, "map"), {})
        assert set(of_run) == (set() if each is None else {("seen", "", ""), ("unseen", "", "")})
        for level, value in of_run.items():
            assert each is not None
            names = [name for name in scores if (name[:2] in each["languages"]) == (level[0] == "seen")]
            alone = Study([made_up("m", {name: scores[name] for name in names})], (), Choices(intervals=True, **FEW))
            expected = values_of(alone, "C", Setting.MONOLINGUAL, ["map"], {"mean"})[0, "map"][MEAN]
            assert (value.low, value.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


@pytest.mark.parametrize(("setting", "cluster"), list(zip(Setting, ("paragraph", "article", "question"), strict=True)))
def test_intervals_are_bootstrapped_from_the_cells_of_a_level(
    setting: Setting, cluster: str, runs: list[Run], rows: dict[str, list[dict[str, Any]]]
) -> None:
    measures = ["map", "recall_at_10"]
    if setting is Setting.MULTILINGUAL:
        measures += ["bias_rank_distance"]
    found = values_of(Study(runs, (), Choices(intervals=True, cluster=cluster, **FEW)), "HybridDemo", setting, measures)
    for (number, model), measure in product(enumerate(MODELS), measures):
        subsets = subsets_of(rows[model], setting.value)
        levels = levels_by_hand(subsets, setting, ["de", "en"] if model == WORD_COUNTS else None)
        for level, names in levels.items():
            if level[0] == "pair":
                continue
            chosen = {name: subsets[name] for name in names}
            cells = cells_by_hand(chosen, cluster, subsets)
            expected = bootstrap(cells, scores_by_hand(measure, chosen), **FEW)
            value = found[number, measure][level]
            assert (value.low, value.high) == pytest.approx((float(expected.low), float(expected.high)), rel=1e-9)
            assert value.low is not None
            assert value.high is not None
            assert value.low <= value.value <= value.high
            assert value.clusters == cells.n_clusters
        if setting is Setting.CROSS_LINGUAL:  # pairs see the same resamples
            cells = cells_by_hand(subsets, cluster, subsets)
            expected = bootstrap(cells, scores_by_hand(measure, subsets), by_setting=True, **FEW)
            for place, name in enumerate(sorted(subsets)):
                asked, _, pool = name.partition("-")
                value = found[number, measure][("pair", asked, pool)]
                ends = float(expected.low[place]), float(expected.high[place])
                assert (value.low, value.high) == pytest.approx(ends, rel=1e-9, abs=1e-12)
                assert value.clusters == (cells.counts[:, place] > 0).sum()


def statistic_of(figure: Callable[[Any], float]) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """The mean over settings of a figure of their cells."""

    def statistic(values: NDArray[Any], setting: NDArray[Any]) -> float:
        return float(np.mean([figure(values[setting == code]) for code in np.unique(setting)]))

    return statistic


def test_intervals_of_medians_and_of_concordance(runs: list[Run], rows: dict[str, list[dict[str, Any]]]) -> None:
    measures = ["bias_rank_distance_median", "bias_kendall_w"]
    choices = Choices(intervals=True, cluster="paragraph", **FEW)
    found = values_of(Study(runs, (), choices), "HybridDemo", Setting.MULTILINGUAL, measures)
    for number, model in enumerate(MODELS):
        subsets = subsets_of(rows[model], "multilingual")
        cells = cells_by_hand(subsets, "paragraph", subsets)
        distances = np.array(scores_by_hand("bias_rank_distance", subsets))
        medians = bootstrap_statistic(cells, distances, statistic_of(lambda x: float(np.median(x))), **FEW)
        places = [places_by_hand(row) for each in subsets.values() for row in each]
        concordance = bootstrap_statistic(cells, np.array(places), statistic_of(kendall_w), **FEW)
        for measure, expected in zip(measures, (medians, concordance), strict=True):
            value = found[number, measure][MEAN]
            figures = float(expected.estimate), float(expected.low), float(expected.high)
            assert (value.value, value.low, value.high) == pytest.approx(figures, rel=1e-9)
            assert value.clusters == cells.n_clusters
            assert found[number, measure][("language", "de", "")].low is None


def places_by_hand(row: Mapping[str, Any]) -> list[int]:
    """The place of each language among the relevant passages, languages in the order of their codes."""
    order = list(row["rank_languages"])
    return [order.index(code) + 1 for code in sorted(order)]


def test_an_interval_is_about_the_subsets_that_a_measure_applies_to(output: Path, tmp_path: Path) -> None:
    """In one language a passage was not retrieved: it has no distance, median or concordance, and is in no interval."""

    def lost(table: pa.Table) -> pa.Table:
        kept = table.to_pylist()
        for row in kept:
            if row["subset"] == "en":
                row["ranks"] = [*row["ranks"][:-1], NOT_RETRIEVED]
        return pa.Table.from_pylist(kept, table.schema)

    save_runs(tmp_path, [CHAR_NGRAM], [MULTILINGUAL])
    change_table(folder_of(tmp_path, CHAR_NGRAM), MULTILINGUAL, lost)
    whole = tmp_path / "whole"
    save_runs(whole, [CHAR_NGRAM], [MULTILINGUAL])
    (harmed,), (run,) = find_runs([folder_of(tmp_path, CHAR_NGRAM)]), find_runs([whole])
    measures = ["bias_rank_distance", "bias_rank_distance_median", "bias_kendall_w"]
    for clusters in ("article", "question"):
        choices = Choices(intervals=True, cluster=clusters, **FEW)
        values, expected = (
            values_of(Study([each], (), choices), "HybridDemo", Setting.MULTILINGUAL, measures)
            for each in (harmed, run.only({MULTILINGUAL: ["de", "th"]}))
        )
        assert values == expected
        assert all(value[MEAN].low is not None for value in values.values())
        assert all(value[MEAN].subsets == 2 for value in values.values())


def test_runs_of_different_layouts_do_not_share_intervals(runs: list[Run]) -> None:
    """Subsets of one size and shape are still not the same subsets."""
    chosen = [
        runs[0].only({PAIRS: ["en-en", "de-en"]}),
        runs[1].only({PAIRS: ["th-th", "en-th"]}),
        runs[2],
        runs[0].only({PAIRS: ["th-th", "de-de"]}),
    ]
    choices = Choices(intervals=True, **FEW)
    for setting in (Setting.MONOLINGUAL, Setting.CROSS_LINGUAL):
        together = values_of(Study(chosen, (), choices), "HybridDemo", setting, ["map", "mrr"])
        for number, run in enumerate(chosen):
            alone = values_of(Study([run], (), choices), "HybridDemo", setting, ["map", "mrr"])
            for measure in ("map", "mrr"):
                assert together.get((number, measure)) == alone.get((0, measure))
                assert all(value.low is not None for value in together.get((number, measure), {}).values())


def test_of_one_cluster_nothing_is_learned() -> None:
    scores = {"de-de": [0.1, 0.3, 0.5], "de-en": [0.2, 0.4, 0.6], "en-de": [0.4, 0.4, 0.5]}
    made = [
        made_up(name, {k: [x + 0.01 * n for x in v] for k, v in scores.items()}, per_cluster=3)
        for n, name in enumerate("ab")
    ]
    study = Study(made, (), Choices(baseline=0, intervals=True, **FEW))
    for setting in (Setting.MONOLINGUAL, Setting.CROSS_LINGUAL):
        for values in values_of(study, "C", setting, ["map"]).values():
            assert all((v.low, v.high, v.p, v.delta, v.clusters) == (None,) * 5 for v in values.values())


def test_a_pair_of_one_cluster_takes_no_interval_from_the_others() -> None:
    made = made_up("a", {"de-en": [0.1, 0.5, 0.4, 0.2], "en-de": [0.3, 0.9]}, per_cluster=2)
    values = values_of(Study([made], (), Choices(intervals=True, **FEW)), "C", Setting.CROSS_LINGUAL, ["map"])[0, "map"]
    assert values[("pair", "en", "de")].low is None
    pair = values[("pair", "de", "en")]
    assert pair.low is not None
    assert pair.low == pytest.approx(0.3)  # both clusters have that mean
    assert pair.clusters == 2


def test_a_pair_in_two_splits_is_the_mean_of_both() -> None:
    scores = {"de-en": [0.1, 0.5, 0.4, 0.2, 0.6, 0.8], "en-de": [0.3, 0.9, 0.2, 0.7, 0.6, 0.5]}
    made = [made_up(name, {k: [x * n for x in v] for k, v in scores.items()}) for n, name in ((1, "a"), (0.5, "b"))]
    for run in made:
        column = run.tasks["C-Task"]._read["split"]
        run.tasks["C-Task"]._read["split"] = column.where(np.arange(12) % 6 < 4, "dev")
    study = Study(made, (), Choices(baseline=0, intervals=True, **FEW))
    found = values_of(study, "C", Setting.CROSS_LINGUAL, ["map"])[1, "map"]
    value, one = found[("pair", "de", "en")], found[("language", "de", "")]
    assert (value.n, value.subsets) == (6, 2)
    assert value.value == pytest.approx((0.3 + 0.7) / 2 / 2)
    assert replace(value, p_adjusted=None) == replace(one, p_adjusted=None)  # there is no other pool


# -- differences --------------------------------------------------------------------------------------------------


def in_order(subsets: Subsets) -> Subsets:
    """Subsets by name, and their queries by id: as runs are put side by side."""
    return {name: sorted(subsets[name], key=lambda row: str(row["question_id"])) for name in sorted(subsets)}


def holm_by_hand(p: Sequence[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda place: p[place])
    adjusted, largest = [0.0] * len(p), 0.0
    for number, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - number) * p[place]))
        adjusted[place] = largest
    return adjusted


def benjamini_hochberg_by_hand(p: Sequence[float]) -> list[float]:
    raised = {q: q * len(p) / sum(other <= q for other in p) for q in p}
    return [min(1.0, *(raised[q] for q in p if q >= each)) for each in p]


@pytest.mark.parametrize(("setting", "cluster"), list(zip(Setting, ("article", "paragraph", "question"), strict=True)))
@pytest.mark.parametrize("baseline", [0, 2])
def test_differences_are_tested_by_flipping_signs(
    setting: Setting, cluster: str, baseline: int, runs: list[Run], rows: dict[str, list[dict[str, Any]]]
) -> None:
    measures = ["map", "bias_rank_distance"] if setting is Setting.MULTILINGUAL else ["map"]
    study = Study(runs, (), Choices(baseline=baseline, cluster=cluster, **FEW))
    found = values_of(study, "HybridDemo", setting, measures)
    others = [number for number in range(3) if number != baseline]
    for measure in measures:
        assert all(value.p is value.delta is None for value in found[baseline, measure].values())
        of_level: dict[tuple[Level, int], tuple[float, float]] = {}
        for other in others:
            subsets = [in_order(subsets_of(rows[MODELS[run]], setting.value)) for run in (other, baseline)]
            levels = levels_by_hand(subsets[0], setting, None)
            for level, names in levels.items():
                if level[0] == "pair":
                    continue
                mine, base = ({name: each[name] for name in names} for each in subsets)
                change = np.subtract(scores_by_hand(measure, mine), scores_by_hand(measure, base))
                test = sign_flip(cells_by_hand(mine, cluster, subsets[0]), change, **FEW)
                of_level[level, other] = float(test.delta), float(test.p)
            if setting is Setting.CROSS_LINGUAL:
                ours, theirs = (scores_by_hand(measure, each) for each in subsets)
                change = np.subtract(ours, theirs)
                cells = cells_by_hand(subsets[0], cluster, subsets[0])
                test = sign_flip(cells, change, by_setting=True, **FEW)
                for place, name in enumerate(sorted(subsets[0])):
                    asked, _, pool = name.partition("-")
                    of_level[("pair", asked, pool), other] = float(test.delta[place]), float(test.p[place])
        for (level, other), (delta, p) in of_level.items():
            value = found[other, measure][level]
            assert value.delta == pytest.approx(delta, abs=1e-9)
            assert value.p == pytest.approx(p, abs=1e-12)
            difference = value.value - found[baseline, measure][level].value
            assert value.delta == pytest.approx(difference, abs=1e-9)
            if level == MEAN:
                family = [(level, run) for run in others]
                if (setting, measure) == (Setting.MULTILINGUAL, "map"):  # the primary measure
                    adjusted = holm_by_hand([of_level[each][1] for each in family])
                else:
                    of_runs = [in_order(subsets_of(rows[model], setting.value)) for model in MODELS]
                    scores = [scores_by_hand(measure, each) for each in of_runs]
                    changes = [np.subtract(scores[run], scores[baseline]) for run in others]
                    cells = cells_by_hand(of_runs[0], cluster, of_runs[0])
                    stepped = step_down([Contrast.of_means(cells, np.stack(changes))], **FEW)
                    adjusted = stepped.p_adjusted[0].tolist()
            else:
                family = [(lv, run) for lv, run in of_level if run == other and lv != MEAN and lv[0] == level[0]]
                adjusted = benjamini_hochberg_by_hand([of_level[each][1] for each in family])
            assert value.p_adjusted == pytest.approx(adjusted[family.index((level, other))], abs=1e-12)
        assert any(p < 0.05 for _, p in of_level.values())


def test_languages_that_differ_from_run_to_run_are_not_tested(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(baseline=0, **FEW))
    found = values_of(study, "HybridDemo", Setting.MULTILINGUAL, ["map"])
    assert found[2, "map"]["seen", "", ""].p is None
    assert found[2, "map"][MEAN].p is not None


def test_medians_concordance_and_excesses_are_tested_as_means_are(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(baseline=0, **FEW))
    for measure in ("bias_kendall_w", "bias_rank_distance_median", "bias_js_at_10_prior_excess", "bias_js_at_10_prior"):
        found = values_of(study, "HybridDemo", Setting.MULTILINGUAL, [measure])
        contrast = study.aligned([0, 1, 2], "HybridDemo", Setting.MULTILINGUAL, measure).contrast("article")
        test = flip_test(contrast, **FEW)
        for place, run in enumerate((1, 2)):
            value, base = found[run, measure][MEAN], found[0, measure][MEAN]
            assert value.delta == pytest.approx(value.value - base.value, abs=1e-9)
            assert value.p == test.p[place]
            assert value.clusters == len(contrast.clusters)
            assert value.p_adjusted is not None
            assert value.p_adjusted >= test.p[place]
    # An excess is its measure less a constant.
    of_js, of_excess = (
        values_of(study, "HybridDemo", Setting.MULTILINGUAL, [f"bias_js_at_10_prior{name}"]) for name in ("", "_excess")
    )
    for run in (1, 2):
        pair = of_js[run, "bias_js_at_10_prior"], of_excess[run, "bias_js_at_10_prior_excess"]
        assert pair[0].keys() == pair[1].keys()
        for level, value in pair[0].items():
            assert pair[1][level].p == value.p
            assert pair[1][level].p_adjusted == value.p_adjusted
    assert of_js[1, "bias_js_at_10_prior"]["language", "de", ""].p is not None


@pytest.mark.parametrize(
    "primary", [None, (Setting.CROSS_LINGUAL, "map"), (Setting.MONOLINGUAL, "mrr")], ids=["default", "cross", "absent"]
)
def test_all_but_the_primary_measure_are_one_family(primary: tuple[Setting, str] | None, runs: list[Run]) -> None:
    """Over settings, measures and runs; the primary measure is adjusted over the runs alone."""
    study = Study(runs, (), Choices(baseline=0, primary=primary, **FEW))
    measures = {setting: ["map", "recall_at_10"] for setting in Setting}
    measures[Setting.MULTILINGUAL] += ["bias_rank_distance_median", "bias_kendall_w", "bias_js_at_10_uniform_expected"]
    results = results_of(study, [Request("HybridDemo", *each, ["mean"]) for each in measures.items()])
    places = [(setting, name) for setting, names in measures.items() for name in names]
    tested = {
        place: study.aligned([0, 1, 2], "HybridDemo", *place).contrast("article")
        for place in places
        if not place[1].endswith("_expected")
    }
    alone = primary or (Setting.MULTILINGUAL, "map")
    rest = [place for place in tested if place != alone]
    stepped = step_down([tested[place] for place in rest], **FEW)
    expected = dict(zip(rest, zip(stepped.p, stepped.p_adjusted, strict=True), strict=True))
    if alone in tested:
        p = flip_test(tested[alone], **FEW).p
        expected[alone] = p, np.array(holm_by_hand(p.tolist()))
    assert expected.keys() == tested.keys()
    for place in places:
        for number, name in enumerate(MODELS[1:]):
            value = results.at(name, "HybridDemo", *place)
            assert value is not None
            if place in expected:
                assert (value.p, value.p_adjusted) == tuple(float(each[number]) for each in expected[place])
            else:
                assert value.p is value.p_adjusted is value.delta is None
    assert any(value[1].tolist() > value[0].tolist() for value in expected.values())


def test_families_are_of_one_collection() -> None:
    """What is measured on other data is another question."""
    rng = np.random.default_rng(5)
    scores = {name: {"de-de": rng.random(30).tolist()} for name in "ab"}
    of_c = [made_up(name, each) for name, each in scores.items()]
    runs = [
        replace(run, tasks={**run.tasks, **made_up(name, scores[name], collection="D").tasks})
        for run, name in zip(of_c, scores, strict=True)
    ]
    study = Study(runs, (), Choices(baseline=0, **FEW))
    for names in (["C"], ["C", "D"]):
        results = results_of(study, [Request(name, Setting.MONOLINGUAL, ["map"], ["mean"]) for name in names])
        for name in names:
            value = results.at("b", name, Setting.MONOLINGUAL, "map")
            assert value is not None
            assert value.p == value.p_adjusted is not None  # one run, one measure


def test_a_run_that_cannot_be_compared_is_refused_only_where_it_is_to_be(runs: list[Run]) -> None:
    narrowed = runs[1].only({PAIRS: ["de-de"]})
    study = Study([runs[0], narrowed], (), Choices(baseline=0, **FEW))
    with pytest.raises(RequestError, match=r"^hybrid_bench/bm25 and hybrid_bench/char-ngram do not have the same"):
        values_of(study, "HybridDemo", Setting.MONOLINGUAL, ["map"])
    assert len(values_of(study, "HybridDemo", Setting.CROSS_LINGUAL, ["map"])) == 1
    without = Study([runs[0], narrowed])
    assert len(values_of(without, "HybridDemo", Setting.MONOLINGUAL, ["map"])) == 2


def test_another_seed_gives_other_intervals_and_the_same_values(runs: list[Run]) -> None:
    choices = Choices(intervals=True, baseline=0, draws=200)
    first, again, other = (
        values_of(Study(runs, (), each), "HybridDemo", Setting.CROSS_LINGUAL, ["map"], {"mean"})[1, "map"][MEAN]
        for each in (choices, choices, replace(choices, seed=1))
    )
    assert first == again
    assert (first.value, first.delta) == (other.value, other.delta)
    assert (first.low, first.high) != (other.low, other.high)


def test_runs_of_one_name_are_told_apart(output: Path, tmp_path: Path) -> None:
    copy = save_runs(tmp_path, [BM25], [PAIRS], ["de"], settings=["mono"])
    under_name(folder_of(copy, BM25), CHAR_NGRAM)
    names = Study(find_runs([folder_of(output, BM25), folder_of(output, CHAR_NGRAM), copy])).names
    assert len(set(names)) == 4
    assert all(name.startswith((BM25, CHAR_NGRAM)) for name in names)
    twice = Study([*find_runs([folder_of(output, BM25)]), *find_runs([folder_of(output, BM25)])]).names
    assert twice[1] == f"{twice[0]} (2)"


def test_places_are_those_of_the_package(runs: list[Run], rows: dict[str, list[dict[str, Any]]]) -> None:
    """What stands behind the concordance here is what the measure itself is made of."""
    table = runs[0].tasks[MULTILINGUAL]
    frame = table.frame("query_language", "pool_languages", "ranks", "rank_languages", "gains", "top_languages")
    ranks, _ = inputs_of(frame[frame["subset"] == "th"], table.metadata)
    by_hand = [places_by_hand(row) for row in subsets_of(rows[BM25], "multilingual")["th"]]
    assert language_places(ranks).tolist() == by_hand


# -- for notebooks ------------------------------------------------------------------------------------------------


def test_a_long_frame_of_some_measures(runs: list[Run]) -> None:
    frame = long_frame(
        runs, ["map", "mrr"], by=["mean", "language"], settings=["mono", "multi"], baseline=CHAR_NGRAM, **FEW
    )
    study = Study(runs, (), Choices(baseline=1, intervals=True, **FEW))
    requests = [Request("HybridDemo", setting, ["map", "mrr"], ["mean", "language"]) for setting in Setting]
    expected = results_of(study, [requests[0], requests[2]]).frame
    pd.testing.assert_frame_equal(frame, expected)
    plain = long_frame(runs[:1], "map", intervals=False)
    assert len(plain) == 3  # settings
    assert plain["low"].isna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": "mapp"}, "no measure is called 'mapp': did you mean 'map'?"),
        ({"by": "langage"}, "unknown level 'langage': did you mean 'language'?"),
        ({"collections": ["HybridDem"]}, "unknown collection 'HybridDem': did you mean 'HybridDemo'?"),
        ({"settings": ["bilingual"]}, "unknown setting 'bilingual': did you mean 'multilingual'?"),
        ({"cluster": "artikle"}, "unknown cluster 'artikle': did you mean 'article'?"),
        ({"baseline": "hybrid_bench/bm52"}, "unknown baseline 'hybrid_bench/bm52': did you mean 'hybrid_bench/bm25'?"),
        ({"baseline": 3}, "baseline 3: the runs are 0 to 2"),
        (
            {"measures": "bias_kendall_w", "settings": ["mono"]},
            f"nothing of bias_kendall_w in {', '.join(MODELS)}: it does not apply to what they ran",
        ),
    ],
    ids=str,
)
def test_a_long_frame_of_what_there_is_not(options: dict[str, Any], message: str, runs: list[Run]) -> None:
    with pytest.raises(RequestError) as caught:
        long_frame(runs, **{"measures": "map", **options})
    assert str(caught.value) == message


@pytest.mark.parametrize("setting", Setting)
def test_a_frame_of_queries(setting: Setting, runs: list[Run], rows: dict[str, list[dict[str, Any]]]) -> None:
    measures = ["map", "recall_at_1", *(["bias_rank_distance"] if setting is Setting.MULTILINGUAL else [])]
    frame = query_frame(runs, measures, settings=[setting])
    keys = ["run", "task", "split", "subset", "question_id", "measure"]
    assert not frame.duplicated(keys).any()
    found = {tuple(row[key] for key in keys): row for row in frame.to_dict("records")}
    expected = 0
    for model in MODELS:
        for row in rows[model]:
            if row["setting"] != setting.value:
                continue
            values = quality_by_definition(row)
            values["bias_rank_distance"] = float(max(row["ranks"]) - min(row["ranks"]))
            for measure in measures:
                expected += 1
                each = found[model, row["task"], row["split"], row["subset"], row["question_id"], measure]
                assert each["value"] == pytest.approx(values[measure], abs=1e-12)
                assert (each["collection"], each["setting"]) == ("HybridDemo", setting.value)
                assert each["query_language"] == row["query_language"]
                assert each["pool"] == (row["pool_languages"][0] if len(row["pool_languages"]) == 1 else "all")
                assert each["cluster_article"] == row["cluster_article"]
                assert each["cluster_paragraph"] == row["cluster_paragraph"]
    assert len(frame) == expected


def test_a_frame_of_queries_that_there_are_not(runs: list[Run]) -> None:
    for options, message in (
        ({"measures": "bias_kendall_w"}, "no measure of queries is called 'bias_kendall_w': "),
        ({"measures": "bias_rank_distance", "settings": ["mono"]}, "nothing of bias_rank_distance in "),
        ({"measures": "map", "collections": ["X"]}, "unknown collection 'X': known: HybridDemo"),
    ):
        with pytest.raises(RequestError) as caught:
            query_frame(runs, **options)
        assert str(caught.value).startswith(message)


def test_frames_are_made_without_mteb_and_torch(output: Path) -> None:
    lines = (
        "import sys; from pathlib import Path",
        "from hybrid_bench.analysis.frame import long_frame, query_frame",
        "from hybrid_bench.runs.reading import find_runs",
        f"runs = find_runs([Path({str(output)!r})]); long_frame(runs, 'map', draws=200); query_frame(runs, 'map')",
        "print(sorted(sys.modules.keys() & {'mteb', 'torch', 'transformers', 'datasets', 'sentence_transformers'}))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
