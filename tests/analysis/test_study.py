"""Values of several runs by level, with intervals and tests: against the same by hand, from the saved ranks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from hybrid_bench.analysis.study import KINDS, MEAN, Choices, Level, Study, Value
from hybrid_bench.data.published import published
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import MEASURES, inputs_of, kendall_w, language_places
from hybrid_bench.measures.metrics import NOT_RETRIEVED
from hybrid_bench.measures.significance import Cells, bootstrap, bootstrap_statistic, sign_flip
from hybrid_bench.runs.saved import Run, find_runs
from report_cases import (
    QUALITY,
    bias_by_definition,
    change_metadata,
    made_up,
    quality_by_definition,
    subsets_of,
    under_name,
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
        levels = [Level(MEAN), Level(asked)]
        if setting is Setting.CROSS_LINGUAL:
            levels.append(Level(asked, pool))
        if trained is not None:
            known = {(code in trained) for code in (asked, pool or asked)}
            levels.append(Level("mixed" if len(known) == 2 else "seen" if known == {True} else "unseen"))
        for level in levels:
            found.setdefault(level, []).append(name)
    return found


def value_by_hand(measure: str, subset: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> float:
    if measure in QUALITY:
        return statistics.fmean(quality_by_definition(row)[measure] for row in subset)
    return bias_by_definition(subset, metadata)[measure]


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
    found = study.values("HybridDemo", setting, measures)
    assert set(found) == {(run, measure) for run in range(3) for measure in measures}
    for number, model in enumerate(MODELS):
        subsets = subsets_of(rows[model], setting.value)
        levels = levels_by_hand(subsets, setting, ["de", "en"] if model == WORD_COUNTS else None)
        assert len({len(each) for each in subsets.values()}) > 1  # so that the two kinds of means differ
        metadata = runs[number].tasks[MULTILINGUAL].metadata
        for measure in measures:
            of_subsets = {name: value_by_hand(measure, each, metadata) for name, each in subsets.items()}
            expected = {level: statistics.fmean(of_subsets[s] for s in names) for level, names in levels.items()}
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
    named = set(study.values("HybridDemo", Setting.CROSS_LINGUAL, ["map"], {"seen"})[2, "map"])
    assert named == {Level("seen"), Level("mixed")}  # only one language is unseen
    named = set(study.values("HybridDemo", Setting.MULTILINGUAL, ["map"], {"seen"})[2, "map"])
    assert named == {Level("seen"), Level("unseen")}  # by the language of the question
    assert study.values("HybridDemo", Setting.MONOLINGUAL, ["map"], {"seen"})[0, "map"] == {}


def test_fewer_levels_have_the_same_values(runs: list[Run]) -> None:
    everything = Study(runs, (), Choices(baseline=0, intervals=True, **FEW))
    whole = everything.values("HybridDemo", Setting.CROSS_LINGUAL, ["map", "mrr"])
    kinds: dict[str, Callable[[Level], bool]] = {
        "mean": lambda level: level == Level(MEAN),
        "language": lambda level: not level.pool and level.query_language in {"de", "en", "th"},
        "pair": lambda level: bool(level.pool),
        "seen": lambda level: level.query_language in {"seen", "mixed", "unseen"},
    }
    assert set(kinds) == set(KINDS)
    piecemeal = Study(runs, (), Choices(baseline=0, intervals=True, **FEW))
    for kind, belongs in kinds.items():
        expected = {key: {lv: v for lv, v in each.items() if belongs(lv)} for key, each in whole.items()}
        for study in (everything, piecemeal, Study(runs, (), Choices(baseline=0, intervals=True, **FEW))):
            assert study.values("HybridDemo", Setting.CROSS_LINGUAL, ["map", "mrr"], {kind}) == expected


def test_what_a_run_does_not_have_is_not_there(runs: list[Run]) -> None:
    study = Study([runs[0], runs[1].only({PAIRS: ["de-de"]})], (), Choices(intervals=True, **FEW))
    assert set(study.values("HybridDemo", Setting.MULTILINGUAL, ["map", "bias_kendall_w"])) == {
        (0, "map"),
        (0, "bias_kendall_w"),
    }
    assert study.values("HybridDemo", Setting.MONOLINGUAL, ["bias_rank_distance"]) == {}  # no such pools
    assert set(study.values("HybridDemo", Setting.MONOLINGUAL, ["map"])[1, "map"]) == {Level(MEAN), Level("de")}
    assert study.values("XQuAD-R", Setting.MONOLINGUAL, ["map"]) == {}


def test_what_runs_cover(runs: list[Run]) -> None:
    narrowed = runs[1].only({PAIRS: ["de-de", "de-en"]})
    reported = published("published:elmahdy2024/labse-hybrid")
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
    found = Study(made, (), Choices(intervals=True, **FEW)).values("C", Setting.MONOLINGUAL, ["map"], {"seen"})
    for number, each in enumerate(training):
        of_run = found[number, "map"]
        assert set(of_run) == (set() if each is None else {Level("seen"), Level("unseen")})
        for level, value in of_run.items():
            assert each is not None
            names = [name for name in scores if (name[:2] in each["languages"]) == (level.query_language == "seen")]
            alone = Study([made_up("m", {name: scores[name] for name in names})], (), Choices(intervals=True, **FEW))
            expected = alone.values("C", Setting.MONOLINGUAL, ["map"], {"mean"})[0, "map"][Level(MEAN)]
            assert (value.low, value.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


@pytest.mark.parametrize(("setting", "cluster"), list(zip(Setting, ("paragraph", "article", "question"), strict=True)))
def test_intervals_are_bootstrapped_from_the_cells_of_a_level(
    setting: Setting, cluster: str, runs: list[Run], rows: dict[str, list[dict[str, Any]]]
) -> None:
    measures = ["map", "recall_at_10"]
    if setting is Setting.MULTILINGUAL:
        measures += ["bias_rank_distance"]
    found = Study(runs, (), Choices(intervals=True, cluster=cluster, **FEW)).values("HybridDemo", setting, measures)
    for (number, model), measure in product(enumerate(MODELS), measures):
        subsets = subsets_of(rows[model], setting.value)
        levels = levels_by_hand(subsets, setting, ["de", "en"] if model == WORD_COUNTS else None)
        for level, names in levels.items():
            if level.pool:
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
                value = found[number, measure][Level(asked, pool)]
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
    found = Study(runs, (), choices).values("HybridDemo", Setting.MULTILINGUAL, measures)
    for number, model in enumerate(MODELS):
        subsets = subsets_of(rows[model], "multilingual")
        cells = cells_by_hand(subsets, "paragraph", subsets)
        distances = np.array(scores_by_hand("bias_rank_distance", subsets))
        medians = bootstrap_statistic(cells, distances, statistic_of(lambda x: float(np.median(x))), **FEW)
        places = [places_by_hand(row) for each in subsets.values() for row in each]
        concordance = bootstrap_statistic(cells, np.array(places), statistic_of(kendall_w), **FEW)
        for measure, expected in zip(measures, (medians, concordance), strict=True):
            value = found[number, measure][Level(MEAN)]
            figures = float(expected.estimate), float(expected.low), float(expected.high)
            assert (value.value, value.low, value.high) == pytest.approx(figures, rel=1e-9)
            assert value.clusters == cells.n_clusters
            assert found[number, measure][Level("de")].low is None


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
            Study([each], (), choices).values("HybridDemo", Setting.MULTILINGUAL, measures)
            for each in (harmed, run.only({MULTILINGUAL: ["de", "th"]}))
        )
        assert values == expected
        assert all(value[Level(MEAN)].low is not None for value in values.values())
        assert all(value[Level(MEAN)].subsets == 2 for value in values.values())


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
        together = Study(chosen, (), choices).values("HybridDemo", setting, ["map", "mrr"])
        for number, run in enumerate(chosen):
            alone = Study([run], (), choices).values("HybridDemo", setting, ["map", "mrr"])
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
        for values in study.values("C", setting, ["map"]).values():
            assert all((v.low, v.high, v.p, v.delta, v.clusters) == (None,) * 5 for v in values.values())


def test_a_pair_of_one_cluster_takes_no_interval_from_the_others() -> None:
    made = made_up("a", {"de-en": [0.1, 0.5, 0.4, 0.2], "en-de": [0.3, 0.9]}, per_cluster=2)
    values = Study([made], (), Choices(intervals=True, **FEW)).values("C", Setting.CROSS_LINGUAL, ["map"])[0, "map"]
    assert values[Level("en", "de")].low is None
    pair = values[Level("de", "en")]
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
    found = study.values("C", Setting.CROSS_LINGUAL, ["map"])[1, "map"]
    value, one = found[Level("de", "en")], found[Level("de")]
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
    found = study.values("HybridDemo", setting, measures)
    others = [number for number in range(3) if number != baseline]
    for measure in measures:
        assert all(value.p is value.delta is None for value in found[baseline, measure].values())
        of_level: dict[tuple[Level, int], tuple[float, float]] = {}
        for other in others:
            subsets = [in_order(subsets_of(rows[MODELS[run]], setting.value)) for run in (other, baseline)]
            levels = levels_by_hand(subsets[0], setting, None)
            for level, names in levels.items():
                if level.pool:
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
                    of_level[Level(asked, pool), other] = float(test.delta[place]), float(test.p[place])
        for (level, other), (delta, p) in of_level.items():
            value = found[other, measure][level]
            assert value.delta == pytest.approx(delta, abs=1e-9)
            assert value.p == pytest.approx(p, abs=1e-12)
            difference = value.value - found[baseline, measure][level].value
            assert value.delta == pytest.approx(difference, abs=1e-9)
            if level == Level(MEAN):
                family = [(level, run) for run in others]
                adjusted = holm_by_hand([of_level[each][1] for each in family])
            else:
                family = [
                    (lv, run)
                    for lv, run in of_level
                    if run == other and lv != Level(MEAN) and bool(lv.pool) == bool(level.pool)
                ]
                adjusted = benjamini_hochberg_by_hand([of_level[each][1] for each in family])
            assert value.p_adjusted == pytest.approx(adjusted[family.index((level, other))], abs=1e-12)
        assert any(p < 0.05 for _, p in of_level.values())


def test_seen_languages_and_figures_of_subsets_are_not_tested(runs: list[Run]) -> None:
    study = Study(runs, (), Choices(baseline=0, **FEW))
    names = ["bias_kendall_w", "bias_rank_distance_median", "bias_js_at_10_prior_excess"]
    found = study.values("HybridDemo", Setting.MULTILINGUAL, [*names, "map"])
    assert all(value.p is None for name in names for value in found[1, name].values())
    assert found[2, "map"][Level("seen")].p is None
    assert found[2, "map"][Level(MEAN)].p is not None


def test_a_run_that_cannot_be_compared_is_refused_only_where_it_is_to_be(runs: list[Run]) -> None:
    narrowed = runs[1].only({PAIRS: ["de-de"]})
    study = Study([runs[0], narrowed], (), Choices(baseline=0, **FEW))
    with pytest.raises(RequestError, match=r"^hybrid_bench/bm25 and hybrid_bench/char-ngram do not have the same"):
        study.values("HybridDemo", Setting.MONOLINGUAL, ["map"])
    assert len(study.values("HybridDemo", Setting.CROSS_LINGUAL, ["map"])) == 1
    without = Study([runs[0], narrowed])
    assert len(without.values("HybridDemo", Setting.MONOLINGUAL, ["map"])) == 2


def test_another_seed_gives_other_intervals_and_the_same_values(runs: list[Run]) -> None:
    choices = Choices(intervals=True, baseline=0, draws=200)
    first, again, other = (
        Study(runs, (), each).values("HybridDemo", Setting.CROSS_LINGUAL, ["map"], {"mean"})[1, "map"][Level(MEAN)]
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


def test_places_are_those_of_the_package(runs: list[Run], rows: dict[str, list[dict[str, Any]]]) -> None:
    """What stands behind the concordance here is what the measure itself is made of."""
    table = runs[0].tasks[MULTILINGUAL]
    frame = table.frame("query_language", "pool_languages", "ranks", "rank_languages", "gains", "top_languages")
    ranks, _ = inputs_of(frame[frame["subset"] == "th"], table.metadata)
    by_hand = [places_by_hand(row) for row in subsets_of(rows[BM25], "multilingual")["th"]]
    assert language_places(ranks).tolist() == by_hand
