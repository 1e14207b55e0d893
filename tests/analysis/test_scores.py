"""Scores of queries and subsets: against the same by definition, in plain Python, from the saved ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hybrid_bench.analysis.scores import (
    KEY,
    OF_QUERIES,
    OF_SUBSETS,
    SettingScores,
    check_measure,
    concordance,
    setting_scores,
)
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import MEASURES, inputs_of, kendall_w, language_places, random_ranking
from hybrid_bench.measures.metrics import NOT_RETRIEVED
from hybrid_bench.measures.significance import Cells
from hybrid_bench.runs.reading import Run, find_runs
from report_cases import QUALITY, bias_by_definition, made_up, quality_by_definition, subsets_of
from saved_runs import BM25, CHAR_NGRAM, change_table, copy_of, folder_of, rows_of, save_runs

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(output: Path) -> Run:
    return find_runs([folder_of(output, CHAR_NGRAM)])[0]


def by_subset(found: SettingScores, measure: str) -> dict[str, float]:
    """Values by name of the subset, without those that it does not apply to."""
    values = found.of_subsets(measure)
    assert values is not None
    return {name: v for (_, _, name), v in zip(found.subsets, values.tolist(), strict=True) if not np.isnan(v)}


def lost(rows: Sequence[dict[str, Any]], subsets: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, the first query of each of these subsets without its last passage: it was not retrieved."""
    seen: set[str] = set()
    found = []
    for row in rows:
        harmed = row["subset"] in subsets and row["subset"] not in seen
        seen.add(row["subset"])
        found.append({**row, "ranks": [*row["ranks"][:-1], NOT_RETRIEVED]} if harmed else row)
    return found


def losing(output: Path, folder: Path, subsets: Sequence[str]) -> Run:
    """A copy of a run in which passages of these multilingual subsets were not retrieved."""
    copied = folder_of(copy_of(output, folder), CHAR_NGRAM)
    change_table(
        copied, MULTILINGUAL, lambda table: pa.Table.from_pylist(lost(table.to_pylist(), subsets), table.schema)
    )
    return find_runs([copied])[0]


# -- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", Setting)
def test_quality_is_that_of_the_saved_ranks(setting: Setting, output: Path, run: Run) -> None:
    rows = subsets_of(rows_of(folder_of(output, CHAR_NGRAM), PAIRS, MULTILINGUAL), setting.value)
    found = setting_scores(run, "HybridDemo", setting)
    assert len(found.subsets) == len(rows) == {"monolingual": 3, "cross-lingual": 6, "multilingual": 3}[setting.value]
    queries = list(zip(found.queries["subset"], found.queries["question_id"], strict=True))
    for measure in QUALITY:
        expected = {
            (name, row["question_id"]): quality_by_definition(row)[measure]
            for name, each in rows.items()
            for row in each
        }
        values = found.of(measure)
        assert values is not None
        assert dict(zip(queries, values.tolist(), strict=True)) == pytest.approx(expected, abs=1e-12)
        means = {name: sum(quality_by_definition(row)[measure] for row in each) / 84 for name, each in rows.items()}
        assert by_subset(found, measure) == pytest.approx(means, abs=1e-12)


def test_bias_is_that_of_the_saved_ranks(output: Path, run: Run) -> None:
    rows = subsets_of(rows_of(folder_of(output, CHAR_NGRAM), MULTILINGUAL), "multilingual")
    metadata = run.tasks[MULTILINGUAL].metadata
    expected = {name: bias_by_definition(each, metadata) for name, each in rows.items()}
    found = setting_scores(run, "HybridDemo", Setting.MULTILINGUAL)
    for measure in [measure.key for measure in MEASURES]:
        values = {name: each[measure] for name, each in expected.items()}
        assert len(values) == 3
        assert by_subset(found, measure) == pytest.approx(values, rel=1e-12, abs=1e-12), measure


def test_what_a_random_ranking_gives_and_the_excess_over_it(run: Run) -> None:
    found = setting_scores(run, "HybridDemo", Setting.MULTILINGUAL)
    table = run.tasks[MULTILINGUAL]
    frame = table.frame("query_language", "pool_languages", "ranks", "rank_languages", "gains", "top_languages")
    expected = [
        random_ranking(*inputs_of(frame[frame["subset"] == name], table.metadata)) for name in ("de", "en", "th")
    ]
    for measure in [measure.key for measure in MEASURES]:
        assert found.at_random(measure) == pytest.approx(np.mean([each[measure] for each in expected]), abs=1e-12)
    for target in ("uniform", "prior"):
        key = f"bias_js_at_10_{target}"
        assert found.at_random(f"{key}_excess") == 0
        of_subsets, of_queries = found.of_subsets(f"{key}_expected"), found.of(f"{key}_excess")
        assert of_subsets is not None
        assert of_queries is not None
        np.testing.assert_allclose(of_subsets, [each[key] for each in expected], atol=1e-12, rtol=0)
        values = found.of(key)
        assert values is not None
        np.testing.assert_allclose(of_queries, values - np.repeat(of_subsets, 84), atol=1e-12, rtol=0)
        means, excess = found.of_subsets(key), found.of_subsets(f"{key}_excess")
        assert means is not None
        assert excess is not None
        np.testing.assert_allclose(excess, means - of_subsets, atol=1e-12, rtol=0)


def test_means_count_only_queries_that_a_measure_applies_to() -> None:
    """A query without a relevant passage in its own language has no preference for it."""
    made = made_up("m", {"de": [0.1, 0.2, 0.3]}, ranks={"de": [(1, 2), (4, 3), (5, 6)]})
    table = made.tasks["C-Task"]
    whole = setting_scores(made, "C", Setting.MULTILINGUAL)
    assert by_subset(whole, "bias_language_preference") == {"de": 2 / 3}
    table._read["rank_languages"].iloc[0] = ["en", "th"]
    table._read["rank_languages"].iloc[1] = ["en", "de"]
    table.metadata["languages"].append("th")
    table.metadata["passages"]["th"] = 0
    found = SettingScores(made, "C", Setting.MULTILINGUAL)
    values = found.of("bias_language_preference")
    assert values is not None
    assert [None if np.isnan(v) else v for v in values.tolist()] == [None, 0.0, 1.0]
    assert by_subset(found, "bias_language_preference") == {"de": 0.5}


# -- what does not apply ------------------------------------------------------------------------------------------


def test_bias_is_about_pools_of_several_languages_only(run: Run) -> None:
    for setting in (Setting.MONOLINGUAL, Setting.CROSS_LINGUAL):
        found = setting_scores(run, "HybridDemo", setting)
        assert found.ranked == []
        for measure in MEASURES:
            assert found.at_random(measure.key) is None
            assert found.of_subsets(measure.key) is None
            assert measure.key in OF_SUBSETS or found.of(measure.key) is None


def test_a_pair_is_of_the_languages_of_its_queries_and_passages_whatever_it_is_called() -> None:
    """mteb's MLQARetrieval has questions in German against Arabic passages as ``ara-deu``."""
    run = made_up("a", {"de-en": [0.1, 0.2], "en-de": [0.3, 0.4]})
    own = setting_scores(run, "C", Setting.CROSS_LINGUAL)
    assert list(zip(own.query_languages, own.pools, strict=True)) == [("de", "en"), ("en", "de")]
    columns = run.tasks["C-Task"]._read
    columns["subset"] = columns["subset"].map({"de-en": "eng-deu", "en-de": "deu-eng"})
    run.cache.clear()
    found = setting_scores(run, "C", Setting.CROSS_LINGUAL)
    pairs = dict(
        zip(
            (subset for _, _, subset in found.subsets),
            zip(found.query_languages, found.pools, strict=True),
            strict=True,
        )
    )
    assert pairs == {"eng-deu": ("de", "en"), "deu-eng": ("en", "de")}
    columns["subset"] = columns["subset"].map({"eng-deu": "en-de", "deu-eng": "de-en"})
    run.cache.clear()
    found = setting_scores(run, "C", Setting.CROSS_LINGUAL)
    assert set(zip(found.query_languages, found.pools, strict=True)) == {("de", "en"), ("en", "de")}


def test_a_passage_that_was_not_retrieved_has_no_rank(output: Path, tmp_path: Path) -> None:
    found = setting_scores(losing(output, tmp_path, ["th"]), "HybridDemo", Setting.MULTILINGUAL)
    whole = setting_scores(find_runs([folder_of(output, CHAR_NGRAM)])[0], "HybridDemo", Setting.MULTILINGUAL)
    for measure in ("bias_rank_distance", "bias_rank_distance_median", "bias_rank_variance", "bias_kendall_w"):
        before = by_subset(whole, measure)
        assert by_subset(found, measure) == {"de": before["de"], "en": before["en"]}
        assert "was not retrieved" in found.absent[measure]
    values = found.of("bias_rank_distance")
    assert values is not None
    assert np.isnan(values).tolist() == [language == "th" for language in found.queries["subset"]]
    assert "bias_awrf_prior" not in found.absent  # what comes first is known
    assert len(by_subset(found, "bias_awrf_prior")) == 3


def test_where_nothing_applies_there_is_no_number_but_a_reason(output: Path, tmp_path: Path) -> None:
    found = setting_scores(losing(output, tmp_path, ["de", "en", "th"]), "HybridDemo", Setting.MULTILINGUAL)
    for measure in ("bias_rank_distance", "bias_rank_distance_norm"):
        assert found.of(measure) is None
        assert found.at_random(measure) is None
    for measure in ("bias_rank_distance", "bias_rank_distance_median", "bias_kendall_w"):
        assert found.of_subsets(measure) is None
        assert "was not retrieved" in found.absent[measure]


def test_a_pool_of_one_language_says_why_it_has_no_bias(tmp_path: Path) -> None:
    save_runs(tmp_path, [BM25], [MULTILINGUAL], ["de"], pool_languages=["de"])
    found = setting_scores(find_runs([tmp_path])[0], "HybridDemo", Setting.MULTILINGUAL)
    assert len(found) == 84
    assert found.of_subsets("bias_rank_distance") is None
    assert set(found.absent) == {measure.key for measure in MEASURES}
    assert set(found.absent.values()) == {"the pool has only one language"}


def test_what_a_run_does_not_have_is_empty(run: Run) -> None:
    found = setting_scores(run, "XQuAD-R", Setting.MULTILINGUAL)
    assert (len(found), found.subsets, len(found.queries), found.absent) == (0, [], 0, {})
    assert found.of("map") is None
    assert found.of_subsets("map") is None


@pytest.mark.parametrize(
    ("measure", "nearest"),
    [("map_", "did you mean 'map'?"), ("bias_kendall_w", "known: "), ("kendall", "known: ")],
)
def test_no_such_measure(measure: str, nearest: str) -> None:
    check_measure("bias_awrf_prior")
    with pytest.raises(RequestError) as caught:
        check_measure(measure)
    assert str(caught.value).startswith(f"no measure of queries is called '{measure}': {nearest}")
    assert "\n" not in str(caught.value)


# -- queries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", Setting)
def test_queries_stand_as_they_were_saved(setting: Setting, output: Path, run: Run) -> None:
    rows = [
        row for row in rows_of(folder_of(output, CHAR_NGRAM), PAIRS, MULTILINGUAL) if row["setting"] == setting.value
    ]
    found = setting_scores(run, "HybridDemo", setting)
    kept = [*KEY, "query_language", "cluster_article", "cluster_paragraph"]
    assert found.queries.to_dict("records") == [{name: row[name] for name in kept} for row in rows]
    assert [found.subsets[code][2] for code in found.subset] == [row["subset"] for row in rows]
    languages = {
        name: (asked, pool)
        for (_, _, name), asked, pool in zip(found.subsets, found.query_languages, found.pools, strict=True)
    }
    for row in rows:
        pool = "all" if setting is Setting.MULTILINGUAL else row["pool_languages"][0]
        assert languages[row["subset"]] == (row["query_language"], pool)
    sorted_keys = found.queries[KEY].iloc[found.order].to_numpy().tolist()
    assert sorted_keys == sorted([row[name] for name in KEY] for row in rows)


def test_clusters_are_those_of_the_table(run: Run) -> None:
    found = setting_scores(run, "HybridDemo", Setting.CROSS_LINGUAL)
    assert found.cluster("article").tolist() == found.queries["cluster_article"].tolist()
    assert found.cluster("paragraph").tolist() == found.queries["cluster_paragraph"].tolist()
    pairs = set(zip(found.cluster("question").tolist(), found.queries["question_id"], strict=True))
    assert len(pairs) == 84


def test_scores_are_made_once(run: Run) -> None:
    found = setting_scores(run, "HybridDemo", Setting.MULTILINGUAL)
    assert setting_scores(run, "HybridDemo", Setting.MULTILINGUAL) is found
    assert found.of("map") is found.of("map")
    assert set(OF_QUERIES).isdisjoint(OF_SUBSETS)
    assert set(OF_QUERIES) | set(OF_SUBSETS) == set(QUALITY) | {measure.key for measure in MEASURES}


@pytest.mark.parametrize("harmed", [[], ["en"]], ids=["whole", "where it applies"])
def test_concordance_is_made_of_sums_over_clusters(harmed: list[str], output: Path, tmp_path: Path) -> None:
    found = setting_scores(losing(output, tmp_path, harmed), "HybridDemo", Setting.MULTILINGUAL)
    assert found.places is not None
    known = found.places[:, 0] > 0
    cells = Cells.of(found.subset[known], found.cluster("article")[known])
    cluster, n_clusters = np.full(len(found), -1), cells.n_clusters
    cluster[known] = cells.cluster
    sums, figure = concordance(cells, found.places[known])
    applies = [each for each in found.ranked if found.subsets[each.subset][2] not in harmed]
    assert len(applies) == 3 - len(harmed)
    expected = np.mean([kendall_w(language_places(each.ranks)) for each in applies])
    assert figure(sums.sum(axis=0, keepdims=True)) == pytest.approx([expected], abs=1e-12)
    # Each cluster alone, and one of them twice.
    alone = figure(sums)
    for code in range(n_clusters):
        of_cluster = []
        for each in applies:
            places = language_places(each.ranks)
            of_cluster.append(kendall_w(places[cluster[each.rows] == code]))
        assert alone[code] == pytest.approx(np.mean(of_cluster), abs=1e-12)
