"""Comparisons of runs: scores against the tables they come from, pairs and tests against the same by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_bench.analysis.comparisons import (
    CLUSTERS,
    LEVEL,
    Aligned,
    _letters,
    against_baseline,
    align,
    all_pairs,
    scores_of,
)
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures import significance
from hybrid_bench.measures.bias import MEASURES, inputs_of, kendall_w, per_query_bias
from hybrid_bench.measures.significance import (
    EXACT_CLUSTERS,
    Cells,
    bootstrap_statistic,
    compare,
    step_down,
    tukey_hsd,
)
from hybrid_bench.runs.reading import Run, TaskTable, find_runs
from hybrid_bench.runs.result_files import QUERY_COLUMNS, metadata_of, table_path
from saved_runs import (
    BM25,
    CHAR_NGRAM,
    WORD_COUNTS,
    change_signature,
    change_table,
    copy_of,
    folder_of,
    rows_of,
    save_runs,
)

PAIRS, MULTILINGUAL = "HybridDemo-Pairs", "HybridDemo-Multilingual"
MODELS = (BM25, CHAR_NGRAM, WORD_COUNTS)
KEY = ["task", "split", "subset", "question_id"]
OF_QUERIES = [measure.key for measure in MEASURES if measure.per_query is not None]
#: Enough to compare numbers with; not to believe them.
FEW: dict[str, Any] = {"draws": 200, "seed": 3}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_runs(tmp_path_factory.mktemp("runs"), MODELS)


@pytest.fixture(scope="module")
def runs(output: Path) -> list[Run]:
    found = find_runs([output])
    assert [run.model for run in found] == list(MODELS)
    return found


def of_setting(output: Path, model: str, setting: Setting) -> dict[tuple[str, ...], dict[str, Any]]:
    """The per-query rows of a setting by task, split, subset and question id, sorted by these."""
    rows = rows_of(folder_of(output, model), PAIRS, MULTILINGUAL)
    found = {tuple(row[name] for name in KEY): row for row in rows if row["setting"] == setting.value}
    return dict(sorted(found.items()))


# -- scores -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", Setting)
def test_measures_of_the_table_are_its_columns(setting: Setting, output: Path, runs: list[Run]) -> None:
    expected = of_setting(output, BM25, setting)
    assert len(expected) == {"monolingual": 3, "cross-lingual": 6, "multilingual": 3}[setting.value] * 84
    for column, measure in QUERY_COLUMNS.items():
        frame = scores_of(runs[0], "HybridDemo", setting, measure)
        scores = dict(zip(map(tuple, frame[KEY].to_numpy()), frame["score"], strict=True))
        assert scores == {key: row[column] for key, row in expected.items()}
        assert len(scores) == len(frame)


def test_what_is_known_of_a_query_stands_beside_its_score(output: Path, runs: list[Run]) -> None:
    frame = scores_of(runs[1], "HybridDemo", Setting.CROSS_LINGUAL, "mrr")
    kept = ["query_language", "cluster_article", "cluster_paragraph"]
    assert set(frame) == {*KEY, *kept, "score"}
    expected = of_setting(output, CHAR_NGRAM, Setting.CROSS_LINGUAL)
    for row in frame.to_dict("records"):
        key = tuple(row[name] for name in KEY)
        assert {name: row[name] for name in kept} == {name: expected[key][name] for name in kept}


@pytest.mark.parametrize("measure", OF_QUERIES)
def test_bias_measures_are_those_of_each_subset(measure: str, output: Path, runs: list[Run]) -> None:
    table = pq.read_table(table_path(folder_of(output, CHAR_NGRAM), MULTILINGUAL))
    expected: dict[tuple[str, str], float] = {}
    for subset in ("de", "en", "th"):
        rows = table.filter(pc.equal(table["subset"], subset))
        found = per_query_bias(*inputs_of(rows, metadata_of(table)))
        if measure in found:
            ids = rows["question_id"].to_pylist()
            expected |= {
                (subset, ids[query]): value
                for query, value in zip(found[measure].query.tolist(), found[measure].value.tolist(), strict=True)
            }
    frame = scores_of(runs[1], "HybridDemo", Setting.MULTILINGUAL, measure)
    scores = dict(zip(zip(frame["subset"], frame["question_id"], strict=True), frame["score"], strict=True))
    assert scores == expected
    # A bias of whole pools has no value for pairs, and the demo has more than ten languages.
    assert len(expected) == (0 if measure == "bias_complete_at_10" else 3 * 84)
    assert len(scores_of(runs[1], "HybridDemo", Setting.MONOLINGUAL, measure)) == 0
    assert len(scores_of(runs[1], "HybridDemo", Setting.CROSS_LINGUAL, measure)) == 0


def test_a_measure_may_apply_to_some_queries_only(output: Path, tmp_path: Path) -> None:
    """Queries with no relevant passage in their own language have no preference for it."""
    copy = copy_of(output, tmp_path)
    folder = folder_of(copy, BM25)

    def without_first(row: dict[str, Any]) -> dict[str, Any]:
        if row["question_id"] not in lost:
            return row
        kept = [place for place, code in enumerate(row["rank_languages"]) if code != row["query_language"]]
        return {**row, **{name: [row[name][place] for place in kept] for name in ("ranks", "rank_languages", "gains")}}

    lost = {row["question_id"] for row in rows_of(folder, MULTILINGUAL)[:5]}
    change_table(
        folder,
        MULTILINGUAL,
        lambda table: pa.Table.from_pylist([without_first(row) for row in table.to_pylist()], table.schema),
    )
    frame = scores_of(find_runs([folder])[0], "HybridDemo", Setting.MULTILINGUAL, "bias_language_preference")
    assert len(frame) == 3 * 84 - 3 * len(lost)
    assert not set(frame["question_id"]) & lost
    best = {
        (row["subset"], row["question_id"]): float(row["rank_languages"][0] == row["query_language"])
        for row in rows_of(folder, MULTILINGUAL)
        if row["question_id"] not in lost
    }
    assert dict(zip(zip(frame["subset"], frame["question_id"], strict=True), frame["score"], strict=True)) == best


def test_what_a_run_does_not_have_has_no_scores(runs: list[Run]) -> None:
    narrowed = runs[0].only({PAIRS: ["de-de", "th-de"]})
    assert len(scores_of(narrowed, "HybridDemo", Setting.MULTILINGUAL, "map")) == 0
    assert len(scores_of(runs[0], "XQuAD-R", Setting.MULTILINGUAL, "map")) == 0
    assert set(scores_of(narrowed, "HybridDemo", Setting.CROSS_LINGUAL, "map")["subset"]) == {"th-de"}
    empty = scores_of(runs[0], "XQuAD-R", Setting.MULTILINGUAL, "map")
    assert set(empty) == set(scores_of(runs[0], "HybridDemo", Setting.MULTILINGUAL, "map"))


def test_no_bias_is_looked_for_in_pools_of_one_language() -> None:
    """The subsets of a task of mteb's may each have a corpus of their own, in languages that no query is in."""
    frame = pd.DataFrame(
        {
            "split": "test",
            "subset": "eng-deu",
            "setting": "cross-lingual",
            "query_language": "eng",
            "pool_languages": [["deu"]] * 2,
            "question_id": ["1", "2"],
            "pool_size": 10,
            "ranks": [[1], [2]],
            "rank_languages": [["deu"]] * 2,
            "gains": [[1], [1]],
            "top_languages": None,
            "cluster_article": [0, 1],
            "cluster_paragraph": [0, 1],
        }
    )
    columns = {str(name): column for name, column in frame.items()}
    metadata = {"collection": "C", "languages": ["deu"], "passages": {"deu": 20}, "options": {}}
    run = Run(Path("x"), "m", {}, {"C": TaskTable(Path("x"), metadata, {}, _read=columns)})
    for measure in OF_QUERIES:
        assert len(scores_of(run, "C", Setting.CROSS_LINGUAL, measure)) == 0


@pytest.mark.parametrize(
    ("measure", "nearest"),
    [
        ("ndcg@10", "did you mean 'ndcg_at_10'?"),
        ("bias_rank_distance_median", "did you mean 'bias_rank_distance'?"),  # of a subset, not of its queries
        ("ap", "did you mean 'map'?"),  # the column's name
        ("kendall", f"known: {', '.join(sorted([*QUERY_COLUMNS.values(), *OF_QUERIES]))}"),
    ],
)
def test_no_such_measure(measure: str, nearest: str, runs: list[Run]) -> None:
    with pytest.raises(RequestError) as caught:
        scores_of(runs[0], "HybridDemo", Setting.MONOLINGUAL, measure)
    assert str(caught.value) == f"no measure of queries is called '{measure}': {nearest}"


# -- side by side -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", Setting)
def test_runs_are_aligned_by_ids(setting: Setting, output: Path, runs: list[Run]) -> None:
    aligned = align(runs, "HybridDemo", setting, "map")
    by_hand = [of_setting(output, model, setting) for model in MODELS]
    assert aligned.runs == MODELS
    assert list(map(tuple, aligned.queries[KEY].to_numpy())) == list(by_hand[0])
    np.testing.assert_array_equal(aligned.scores, [[row["ap"] for row in rows.values()] for rows in by_hand])


def test_the_order_of_rows_does_not_matter(output: Path, runs: list[Run], tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    generator = np.random.default_rng(0)
    for model, task in product((BM25, WORD_COUNTS), (PAIRS, MULTILINGUAL)):
        change_table(folder_of(copy, model), task, lambda table: table.take(generator.permutation(len(table))))
    shuffled = find_runs([copy])
    for setting, measure in product(Setting, ("map", "bias_awrf_prior")):
        before, after = (align(each, "HybridDemo", setting, measure) for each in (runs, shuffled))
        pd.testing.assert_frame_equal(before.queries, after.queries)
        np.testing.assert_array_equal(before.scores, after.scores)


def test_cells_are_subsets_and_clusters(output: Path, runs: list[Run]) -> None:
    aligned = align(runs, "HybridDemo", Setting.CROSS_LINGUAL, "map")
    rows = list(of_setting(output, BM25, Setting.CROSS_LINGUAL).values())
    assert aligned.subsets == sorted({(row["task"], row["split"], row["subset"]) for row in rows})
    names = {"article": "cluster_article", "paragraph": "cluster_paragraph", "question": "question_id"}
    for cluster in CLUSTERS:
        cells = aligned.cells(cluster)
        assert [aligned.subsets[code][2] for code in cells.setting] == [row["subset"] for row in rows]
        # the same partition, whatever its parts are called
        pairs = set(zip(cells.cluster.tolist(), (row[names[cluster]] for row in rows), strict=True))
        assert len(pairs) == cells.n_clusters == len({row[names[cluster]] for row in rows})
    assert aligned.cells("question").n_clusters == 84
    assert 1 < aligned.cells("article").n_clusters < aligned.cells("paragraph").n_clusters < 84


def refused(runs: list[Run], setting: Setting, measure: str = "map") -> str:
    """What is said of runs that cannot be compared."""
    with pytest.raises(RequestError) as caught:
        align(runs, "HybridDemo", setting, measure)
    return str(caught.value)


def test_runs_over_different_data_are_refused(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)

    def of_other_data(signature: dict[str, Any]) -> None:
        signature["data_sha256"] |= {"en": "0" * 64, "th": "1" * 64}

    change_signature(folder_of(copy, CHAR_NGRAM), PAIRS, of_other_data)
    changed = find_runs([copy])
    order = "files whose lines stand in another order count as different"
    assert refused(changed, Setting.MONOLINGUAL) == (
        f"{BM25} and {CHAR_NGRAM} were made from different data of {PAIRS} (en, th; {order}): run one of them again, "
        "so that both are about the same"
    )
    assert refused(changed[1:], Setting.CROSS_LINGUAL).startswith(f"{CHAR_NGRAM} and {WORD_COUNTS} were made from")
    assert len(align([changed[0], changed[2]], "HybridDemo", Setting.MONOLINGUAL, "map").scores) == 2
    assert len(align(changed, "HybridDemo", Setting.MULTILINGUAL, "map").scores) == 3  # another task


def test_runs_over_different_queries_are_refused(output: Path, tmp_path: Path) -> None:
    copy = copy_of(output, tmp_path)
    ids = sorted({row["question_id"] for row in rows_of(folder_of(copy, BM25), PAIRS)})

    def dropping(count: int, first: int, subset: str) -> Callable[[pa.Table], pa.Table]:
        lost = ids[first : first + count]
        return lambda table: table.filter(
            pc.invert(pc.and_(pc.is_in(table["question_id"], pa.array(lost)), pc.equal(table["subset"], subset)))
        )

    change_table(folder_of(copy, CHAR_NGRAM), PAIRS, dropping(5, 0, "de-de"))
    change_table(folder_of(copy, WORD_COUNTS), PAIRS, dropping(5, 4, "de-de"))
    first, second, third = find_runs([copy])
    shown = ", ".join(f"{i} (de-de)" for i in ids[:3])
    assert refused([first, second], Setting.MONOLINGUAL) == (
        f"{BM25} and {CHAR_NGRAM} do not have the same queries: only {BM25} has {shown} and 2 more"
    )
    # As many, but not the same.
    assert refused([second, third], Setting.MONOLINGUAL) == (
        f"{CHAR_NGRAM} and {WORD_COUNTS} do not have the same queries: "
        f"only {CHAR_NGRAM} has {', '.join(f'{i} (de-de)' for i in ids[5:8])} and 1 more; "
        f"only {WORD_COUNTS} has {shown} and 1 more"
    )
    align([first, second, third], "HybridDemo", Setting.CROSS_LINGUAL, "map")  # nothing is lost there


def test_a_setting_that_one_run_lacks_is_refused(runs: list[Run]) -> None:
    lacking = runs[1].only({PAIRS: ["de-de", "de-en"]})
    ids = sorted(scores_of(runs[0], "HybridDemo", Setting.MULTILINGUAL, "map")["question_id"].unique())
    assert refused([runs[0], lacking], Setting.MULTILINGUAL) == (
        f"{BM25} and {CHAR_NGRAM} do not have the same queries: only {BM25} has "
        f"{', '.join(f'{i} (de)' for i in ids[:3])} and 249 more"
    )
    assert refused([lacking, runs[0]], Setting.MULTILINGUAL).endswith(" and 249 more")
    # and so is a setting of which it has other subsets
    assert f"only {BM25} has {ids[0]} (de-th), " in refused([runs[0], lacking], Setting.CROSS_LINGUAL)


@pytest.mark.parametrize(
    ("one", "other", "pools"),
    [
        (["de", "en"], None, "256 passages in de-en; 1,408 passages in ar-de-el-en-es-hi-ru-th-tr-vi-zh"),
        (["de", "en"], ["en", "th"], "256 passages in de-en; 256 passages in en-th"),
    ],
    ids=["of another size", "of other languages"],
)
def test_runs_over_different_pools_are_refused(
    one: list[str], other: list[str] | None, pools: str, tmp_path: Path
) -> None:
    for number, languages in enumerate((one, other)):
        narrowed = {} if languages is None else {"pool_languages": languages}
        save_runs(tmp_path / str(number), [BM25], languages=["en"], **narrowed)
    paths = [tmp_path / "0", tmp_path / "1"]
    found = [run for run in find_runs(paths) if MULTILINGUAL in run.tasks]
    message = refused(found, Setting.MULTILINGUAL)
    assert message.partition(" ranked ")[2] == (
        f"different pools in {MULTILINGUAL}, test/en ({pools}): make both with the same --pool and --pool-languages"
    )
    # Pairs know nothing of it: one language each, whatever the pool of the other task.
    pairs = [run for run in find_runs(paths) if PAIRS in run.tasks]
    assert len(align(pairs, "HybridDemo", Setting.MONOLINGUAL, "map").runs) == 2


def test_pools_narrowed_alike_can_be_compared(tmp_path: Path) -> None:
    save_runs(tmp_path, tasks=[MULTILINGUAL], languages=["en"], pool_languages=["de", "en"])
    aligned = align(find_runs([tmp_path]), "HybridDemo", Setting.MULTILINGUAL, "map")
    assert aligned.scores.shape == (2, 84)


# -- against a baseline -------------------------------------------------------------------------------------------


def cells_by_hand(rows: list[dict[str, Any]], cluster: str) -> Cells:
    subsets = sorted({row["subset"] for row in rows})
    column = {"article": "cluster_article", "paragraph": "cluster_paragraph", "question": "question_id"}[cluster]
    names = sorted({row[column] for row in rows})
    return Cells.of(
        [subsets.index(row["subset"]) for row in rows],
        [names.index(row[column]) for row in rows],
    )


@pytest.mark.parametrize("setting", Setting)
@pytest.mark.parametrize("baseline", range(3))
def test_differences_are_those_of_scores_aligned_by_hand(
    setting: Setting, baseline: int, output: Path, runs: list[Run]
) -> None:
    by_hand = [of_setting(output, model, setting) for model in MODELS]
    rows = list(by_hand[0].values())
    scores = [np.array([each[key]["ndcg_at_10"] for key in by_hand[0]]) for each in by_hand]
    found = against_baseline(
        align(runs, "HybridDemo", setting, "ndcg_at_10"),
        baseline,
        collection="HybridDemo",
        setting=setting,
        measure="ndcg_at_10",
        cluster="paragraph",
        **FEW,
    )
    others = [place for place in range(3) if place != baseline]
    assert [(each.run, each.baseline) for each in found] == [(MODELS[other], MODELS[baseline]) for other in others]
    for each, other in zip(found, others, strict=True):
        assert (each.collection, each.setting, each.measure) == ("HybridDemo", setting, "ndcg_at_10")
        for cluster in CLUSTERS:
            expected = compare(cells_by_hand(rows, cluster), scores[other], scores[baseline], **FEW)
            assert each.by[cluster] == expected
        assert each.result == each.by["paragraph"] != each.by["article"]
        assert each.result.mean_a == pytest.approx(scores[other].mean(), abs=1e-12)  # subsets of one size
    # Holm, by hand: the smaller of two p-values counts twice, the larger not less than that
    p = [each.result.p for each in found]
    smaller, larger = min(p), max(p)
    adjusted = {smaller: min(1.0, 2 * smaller), larger: min(1.0, max(2 * smaller, larger))}
    if smaller == larger:
        adjusted = {smaller: min(1.0, 2 * smaller)}
    assert [each.p_adjusted for each in found] == [adjusted[each] for each in p]


def test_one_other_run_needs_no_correction(runs: list[Run]) -> None:
    aligned = align(runs[:2], "HybridDemo", Setting.MONOLINGUAL, "map")
    told: dict[str, Any] = {"collection": "HybridDemo", "setting": Setting.MONOLINGUAL, "measure": "map"}
    (forth,) = against_baseline(aligned, 0, **told, **FEW)
    (back,) = against_baseline(aligned, 1, **told, **FEW)
    assert forth.cluster == CLUSTERS[0] == "article"
    assert forth.p_adjusted == forth.result.p == back.result.p
    assert forth.result.delta == -back.result.delta
    assert (forth.result.wins, forth.result.losses) == (back.result.losses, back.result.wins)
    assert against_baseline(Aligned((BM25,), aligned.queries, aligned.scores[:1]), 0, **told, **FEW) == []


def test_a_single_article_leaves_the_finer_clusters(runs: list[Run]) -> None:
    whole = align(runs[:2], "HybridDemo", Setting.MONOLINGUAL, "map")
    queries = whole.queries.assign(cluster_article=0)
    aligned = Aligned(whole.runs, queries, whole.scores)
    assert whole.clusterings == list(CLUSTERS)
    assert aligned.clusterings == ["paragraph", "question"]
    told: dict[str, Any] = {"collection": "HybridDemo", "setting": Setting.MONOLINGUAL, "measure": "map"}
    (found,) = against_baseline(aligned, 0, **told, cluster="question", **FEW)
    (expected,) = against_baseline(whole, 0, **told, cluster="question", **FEW)
    assert found.by == {name: expected.by[name] for name in ("paragraph", "question")}
    for compared in (lambda: against_baseline(aligned, 0, **told, **FEW), lambda: all_pairs(aligned, **FEW)):
        with pytest.raises(RequestError, match="1 cluster: a comparison needs at least 2; choose smaller clusters"):
            compared()


def test_the_confidence_is_handed_on(runs: list[Run]) -> None:
    aligned = align(runs[:2], "HybridDemo", Setting.MONOLINGUAL, "map")
    told: dict[str, Any] = {"collection": "HybridDemo", "setting": Setting.MONOLINGUAL, "measure": "map"}
    widths = []
    for confidence in (0.5, 0.95):
        (found,) = against_baseline(aligned, 0, **told, **FEW, confidence=confidence)
        assert found.result.confidence == confidence
        widths.append(found.result.high - found.result.low)
    assert widths[0] < widths[1]


# -- medians, Kendall's W, excesses ---------------------------------------------------------------------------------


def ranks_by_hand(output: Path, model: str) -> dict[str, NDArray[np.float64]]:
    """Ranks of the parallel answers in the multilingual pools, (questions, languages), by language of the question."""
    found: dict[str, list[list[int]]] = {}
    for row in of_setting(output, model, Setting.MULTILINGUAL).values():
        ranks = dict(zip(row["rank_languages"], row["ranks"], strict=True))
        found.setdefault(row["query_language"], []).append([ranks[code] for code in sorted(ranks)])
    return {language: np.array(rows, dtype=np.float64) for language, rows in found.items()}


def median_by_hand(ranks: Any) -> float:
    return float(np.mean([np.median(np.ptp(each, axis=1)) for each in ranks.values()]))


def concordance_by_hand(ranks: Any) -> float:
    return float(np.mean([kendall_w(np.argsort(np.argsort(each, axis=1), axis=1) + 1) for each in ranks.values()]))


@pytest.mark.parametrize(
    ("measure", "figure"),
    [("bias_rank_distance_median", median_by_hand), ("bias_kendall_w", concordance_by_hand)],
    ids=["median", "concordance"],
)
def test_figures_that_are_no_means_are_tested_by_swapping_runs_in_clusters(
    measure: str, figure: Callable[[Any], float], output: Path, runs: list[Run]
) -> None:
    of_runs = [ranks_by_hand(output, model) for model in MODELS]
    aligned = align(runs, "HybridDemo", Setting.MULTILINGUAL, measure)
    cells = aligned.cells("article")
    assert cells.n_clusters > EXACT_CLUSTERS
    of_language = {code: cells.cluster[aligned.queries["query_language"] == code] for code in of_runs[0]}

    def delta(run: int, swapped: NDArray[np.bool_]) -> float:
        """Of the run from the second, with both swapped in these articles."""
        sides = []
        for one, other in ((run, 1), (1, run)):
            sides.append(
                {
                    code: np.where(swapped[of_language[code]][:, None], of_runs[other][code], of_runs[one][code])
                    for code in of_language
                }
            )
        return figure(sides[0]) - figure(sides[1])

    told: dict[str, Any] = {"collection": "HybridDemo", "setting": Setting.MULTILINGUAL, "measure": measure}
    found = against_baseline(aligned, 1, **told, **FEW)
    contrast = aligned.contrast("article", baseline=1)
    flips = np.concatenate(list(significance._flips(cells.n_clusters, FEW["draws"], FEW["seed"], 1)))
    for place, (each, run) in enumerate(zip(found, (0, 2), strict=True)):
        observed = delta(run, np.zeros(cells.n_clusters, np.bool_))
        result = each.by["article"]
        assert contrast.delta[place] == pytest.approx(observed, abs=1e-12)
        assert result.delta == pytest.approx(observed, abs=1e-12)
        assert result.mean_a == pytest.approx(figure(of_runs[run]), abs=1e-12)
        assert result.mean_b == pytest.approx(figure(of_runs[1]), abs=1e-12)
        exceeding = sum(abs(delta(run, flip)) >= abs(observed) - 1e-9 for flip in flips)
        assert result.p == (1 + exceeding) / (1 + len(flips))
        assert set(each.by) == set(CLUSTERS)
        assert (result.se, result.d_z, result.detectable, result.p_paired_t) == (None, None, None, None)
        if measure == "bias_kendall_w":
            assert (result.wins, result.ties, result.losses) == (None, None, None)
        else:
            less = [np.ptp(of_runs[run][code], axis=1) - np.ptp(of_runs[1][code], axis=1) for code in of_language]
            assert result.wins == (np.concatenate(less) > 0).sum()
    p = [each.result.p for each in found]
    assert min(p) < max(p) or p[0] < 1, "nothing differs, which shows little"


def test_intervals_of_such_differences_resample_articles(output: Path, runs: list[Run]) -> None:
    of_runs = [ranks_by_hand(output, model) for model in MODELS]
    for measure, figure in (
        ("bias_rank_distance_median", median_by_hand),
        ("bias_kendall_w", concordance_by_hand),
    ):
        aligned = align(runs[:2], "HybridDemo", Setting.MULTILINGUAL, measure)
        result = aligned.comparison("article", 0, 1, **FEW)
        cells = aligned.cells("article")
        both = np.concatenate(
            [np.concatenate([of_runs[0][code], of_runs[1][code]], axis=1) for code in sorted(of_runs[0])]
        )

        def statistic(values: Any, setting: Any, figure: Any = figure) -> float:
            parts = [values[setting == p] for p in np.unique(setting)]
            one, other = (dict(enumerate(part[:, side] for part in parts)) for side in (slice(11), slice(11, 22)))
            return float(figure(one) - figure(other))

        expected = bootstrap_statistic(cells, both, statistic, **FEW)
        np.testing.assert_allclose([result.low, result.high], [expected.low, expected.high], rtol=0, atol=1e-9)


def test_an_excess_differs_as_its_measure_does(runs: list[Run]) -> None:
    told: dict[str, Any] = {"collection": "HybridDemo", "setting": Setting.MULTILINGUAL}
    found = [
        against_baseline(align(runs, "HybridDemo", Setting.MULTILINGUAL, measure), 0, measure=measure, **told, **FEW)
        for measure in ("bias_js_at_10_prior", "bias_js_at_10_prior_excess")
    ]
    for plain, excess in zip(*found, strict=True):
        assert excess.result.delta == pytest.approx(plain.result.delta, abs=1e-12)
        assert excess.result.p == plain.result.p
        assert excess.result.mean_a < plain.result.mean_a


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_differences_of_a_collection_are_tested_together(cluster: str, runs: list[Run]) -> None:
    """Settings, measures and figures join by the numbers of their clusters, which are the same for all of them."""
    wanted = [
        (Setting.MONOLINGUAL, "map"),
        (Setting.CROSS_LINGUAL, "recall_at_1"),
        (Setting.MULTILINGUAL, "bias_rank_distance_median"),
        (Setting.MULTILINGUAL, "bias_kendall_w"),
    ]
    aligned = [align(runs, "HybridDemo", setting, measure) for setting, measure in wanted]
    contrasts = [each.contrast(cluster) for each in aligned]
    found = step_down(contrasts, **FEW)
    assert found.n_clusters == aligned[0].cells(cluster).n_clusters
    told: dict[str, Any] = {"collection": "HybridDemo", "cluster": cluster}
    for (setting, measure), each, p, adjusted in zip(wanted, aligned, found.p, found.p_adjusted, strict=True):
        alone = against_baseline(each, 0, setting=setting, measure=measure, **told, **FEW)
        assert p.tolist() == [difference.result.p for difference in alone]
        assert (adjusted >= p).all()


def test_a_measure_that_there_is_not(runs: list[Run]) -> None:
    with pytest.raises(RequestError, match="no measure is called 'bias_kendal_w': did you mean 'bias_kendall_w'"):
        align(runs, "HybridDemo", Setting.MULTILINGUAL, "bias_kendal_w")


# -- all pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_all_pairs_are_those_of_scores_aligned_by_hand(cluster: str, output: Path, runs: list[Run]) -> None:
    by_hand = [of_setting(output, model, Setting.CROSS_LINGUAL) for model in MODELS]
    scores = np.array([[each[key]["ap"] for key in by_hand[0]] for each in by_hand])
    expected = tukey_hsd(cells_by_hand(list(by_hand[0].values()), cluster), scores, **FEW)
    result, letters = all_pairs(align(runs, "HybridDemo", Setting.CROSS_LINGUAL, "map"), cluster, **FEW)
    np.testing.assert_array_equal(result.p, expected.p)
    np.testing.assert_array_equal(result.delta, expected.delta)
    assert (result.draws, result.seed) == (FEW["draws"], FEW["seed"])
    for one, other in combinations(range(3), 2):
        assert (set(letters[one]).isdisjoint(letters[other])) == (expected.p[one, other] < LEVEL)
    assert "a" in letters[int(scores.mean(axis=1).argmax())]


@st.composite
def displays(draw: st.DrawFn) -> tuple[NDArray[np.bool_], list[float]]:
    """Which of some runs differ, in any pattern, and their means."""
    n = draw(st.integers(2, 7))
    different = np.zeros((n, n), dtype=np.bool_)
    for one, other in combinations(range(n), 2):
        different[one, other] = different[other, one] = draw(st.booleans())
    means = draw(st.lists(st.sampled_from([0.1, 0.2, 0.3]) | st.floats(0, 1), min_size=n, max_size=n))
    return different, means


@given(displays())
def test_letters_by_definition(case: tuple[NDArray[np.bool_], list[float]]) -> None:
    different, means = case
    letters = _letters(different, means)
    n = len(means)
    # Two runs share a letter if they do not differ, and only then.
    for one, other in combinations(range(n), 2):
        assert bool(set(letters[one]) & set(letters[other])) != different[one, other]
    # The groups are all sets of runs of which no two differ, and to which no other run could be added.
    alike = [
        frozenset(group)
        for size in range(1, n + 1)
        for group in combinations(range(n), size)
        if not any(different[pair] for pair in combinations(group, 2))
    ]
    maximal = [group for group in alike if not any(group < larger for larger in alike)]
    names = sorted(set("".join(letters)))
    groups = [frozenset(run for run in range(n) if name in letters[run]) for name in names]
    assert sorted(map(sorted, groups)) == sorted(map(sorted, maximal))
    # They are named in the order of their highest runs, then of the next, and each run's letters stand in order.
    assert names == [chr(ord("a") + number) for number in range(len(names))]
    place = {run: place for place, run in enumerate(sorted(range(n), key=lambda run: -means[run]))}
    places = [sorted(place[run] for run in group) for group in groups]
    assert places == sorted(places)
    assert all(list(of_run) == sorted(set(of_run)) != [] for of_run in letters)


@pytest.mark.parametrize(
    ("pairs", "means", "expected"),
    [
        ([], [0.1, 0.2, 0.3], ["a", "a", "a"]),
        ([(0, 1), (0, 2), (1, 2)], [0.1, 0.2, 0.3], ["c", "b", "a"]),
        ([(0, 2)], [0.3, 0.2, 0.1], ["a", "ab", "b"]),  # a step too small on either side, but not both at once
        ([(0, 1), (2, 3)], [0.4, 0.3, 0.2, 0.1], ["ab", "cd", "ac", "bd"]),
    ],
)
def test_letters_worked_out_by_hand(pairs: list[tuple[int, int]], means: list[float], expected: list[str]) -> None:
    different = np.zeros((len(means), len(means)), dtype=np.bool_)
    for one, other in pairs:
        different[one, other] = different[other, one] = True
    assert _letters(different, means) == expected
