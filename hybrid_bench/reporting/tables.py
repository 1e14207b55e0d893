"""The tables of a report, from the long frame: which rows and columns, what is best, what was found to differ.

Each table of `TABLE_KINDS` says what it needs, and is made from the `Results` of that; `tables_of` does both.

Best and second are decided on the values as printed, so that two equal numbers are marked alike, and only among means
over the same subsets of the same pools. A published number is shown and never marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import numpy as np

from hybrid_bench.analysis.comparisons import (
    LEVEL,
    Aligned,
    Difference,
    Within,
    against_baseline,
    all_pairs,
    claim_of,
)
from hybrid_bench.analysis.frame import Request, Results, Value, results_of
from hybrid_bench.analysis.scores import CLUSTERS, OF_QUERIES, OF_SUBSETS
from hybrid_bench.analysis.study import SEEN, Study
from hybrid_bench.data.published import PublishedSystem, PublishedValue, published_systems
from hybrid_bench.errors import RequestError
from hybrid_bench.languages import Setting
from hybrid_bench.measures.bias import MEASURES, diagonal_gap
from hybrid_bench.measures.significance import EXACT_CLUSTERS, FEW_CLUSTERS, Comparison, attainable
from hybrid_bench.reporting.elements import Cell, Column, Row, Table

__all__ = [
    "BIAS_TITLES",
    "BY_LANGUAGE",
    "BY_LANGUAGE_GRADED",
    "DAGGER",
    "MAIN",
    "MARGIN_COLUMNS",
    "TABLE_KINDS",
    "claims",
    "common_settings",
    "compare_needs",
    "compare_table",
    "differences",
    "direction",
    "margin_cells",
    "margin_notes",
    "needs_of",
    "p_text",
    "pair_needs",
    "pair_values",
    "reproduce_tables",
    "slug",
    "tables_of",
]

MAP, NDCG, R1, R10, R100 = "map", "ndcg_at_10", "recall_at_1", "recall_at_10", "recall_at_100"
DISTANCE, DISTANCE_MEDIAN = "bias_rank_distance", "bias_rank_distance_median"
DAGGER = "†"

_TITLES = {
    MAP: "mAP",
    NDCG: "nDCG@10",
    R1: "R@1",
    R10: "R@10",
    R100: "R@100",
    "mrr": "MRR",
}
#: Short titles of the bias measures, with the digits that they are printed with.
BIAS_TITLES: Mapping[str, tuple[str, int]] = {
    "bias_rank_distance": ("Rank dist.", 1),
    "bias_rank_distance_median": ("Median", 1),
    "bias_rank_distance_norm": ("Norm.", 3),
    "bias_rank_variance": ("Variance", 0),
    "bias_log_rank_std": ("Std ln r", 3),
    "bias_max_rank_norm": ("Max rank", 1),
    "bias_complete_at_20": ("All@20", 3),
    "bias_complete_at_100": ("All@100", 3),
    "bias_language_preference": ("Own first", 3),
    "bias_kendall_w": ("W", 3),
    "bias_js_at_10_uniform": ("JS uniform", 3),
    "bias_js_at_10_uniform_expected": ("random", 3),
    "bias_js_at_10_uniform_excess": ("excess", 3),
    "bias_js_at_10_prior": ("JS prior", 3),
    "bias_js_at_10_prior_expected": ("random", 3),
    "bias_js_at_10_prior_excess": ("excess", 3),
    "bias_awrf_uniform": ("AWRF uniform", 3),
    "bias_awrf_prior": ("AWRF prior", 3),
    "bias_top1_relevant_own": ("relevant, own", 3),
    "bias_top1_relevant_other": ("relevant, other", 3),
    "bias_top1_irrelevant_own": ("irrelevant, own", 3),
    "bias_top1_irrelevant_other": ("irrelevant, other", 3),
}
_DIRECTION = {measure.key: measure.higher_is_better for measure in MEASURES}


def slug(*parts: str) -> str:
    """A name for an anchor, a label or a file, whatever signs are in its parts."""
    kept = "-".join(parts)
    return "".join(character if character.isalnum() or character in "-._" else "-" for character in kept)


def direction(measure: str) -> bool | None:
    """Whether higher is better in a measure; None where neither is."""
    if measure.endswith("_expected"):
        return None
    return _DIRECTION.get(measure.removesuffix("_excess"), True)


#: The main table, the paper's Tables 1 and 2 and the recalls of its Tables 3 to 6: setting and measure of each column.
MAIN: tuple[tuple[Setting, Column], ...] = (
    (Setting.MONOLINGUAL, Column(MAP, "mAP", "Monolingual")),
    (Setting.MONOLINGUAL, Column(R1, "R@1", "Monolingual")),
    (Setting.CROSS_LINGUAL, Column(MAP, "mAP", "Cross-lingual")),
    (Setting.CROSS_LINGUAL, Column(R1, "R@1", "Cross-lingual")),
    (Setting.MULTILINGUAL, Column(MAP, "mAP", "Multilingual")),
    (Setting.MULTILINGUAL, Column(R10, "R@10", "Multilingual")),
    (Setting.MULTILINGUAL, Column(DISTANCE, "mean", "Rank distance", 1, False)),
    (Setting.MULTILINGUAL, Column(DISTANCE_MEDIAN, "median", "Rank distance", 1, False)),
)
#: Measures of the tables by language, for collections measured by average precision, and for others.
BY_LANGUAGE: tuple[tuple[Setting, str], ...] = (
    (Setting.MONOLINGUAL, MAP),
    (Setting.CROSS_LINGUAL, MAP),
    (Setting.MULTILINGUAL, MAP),
    (Setting.MONOLINGUAL, R1),
    (Setting.CROSS_LINGUAL, R1),
    (Setting.MULTILINGUAL, R10),
    (Setting.MULTILINGUAL, DISTANCE),
)
BY_LANGUAGE_GRADED = tuple((setting, measure) for measure in (NDCG, R100) for setting in Setting)
#: What applies to pools of several languages only.
_SHARES_GROUP = "Shares"
#: The table of other tasks.
TASKS = (
    Column(NDCG, "nDCG@10"),
    Column(R100, "R@100"),
    Column(MAP, "mAP"),
    Column("bias_js_at_10_prior_excess", "JS@10 excess", _SHARES_GROUP, 3, False),
    Column("bias_awrf_prior", "AWRF", _SHARES_GROUP),
)
_RANKS = (
    DISTANCE,
    DISTANCE_MEDIAN,
    "bias_rank_distance_norm",
    "bias_rank_variance",
    "bias_log_rank_std",
    "bias_max_rank_norm",
    "bias_complete_at_20",
    "bias_complete_at_100",
    "bias_language_preference",
    "bias_kendall_w",
)
_SHARES = (
    *(f"bias_js_at_10_{target}{suffix}" for target in ("uniform", "prior") for suffix in ("", "_expected", "_excess")),
    "bias_awrf_uniform",
    "bias_awrf_prior",
)
#: Measures of which a random ranking is no ideal: what is no better than it is neither best nor second.
_ABOVE_CHANCE = frozenset(_RANKS) - {"bias_language_preference", "bias_kendall_w"}
_SPLIT = tuple(measure.key for measure in MEASURES if measure.key.startswith("bias_top1_"))
_BY_MODEL = ("Collection", "Model")
#: Quality beside bias in the leaderboard.
_BESIDE = ("bias_rank_distance_norm", "bias_log_rank_std", "bias_js_at_10_prior_excess")

_MEANS_NOTE = "Means over queries, then over subsets."
_DIFFERING = "such means cannot be compared, and are not marked"
_LETTERS = f"Runs that share a letter were not found to differ at {LEVEL} by the randomised Tukey HSD test"
NOTES: Mapping[str, str] = {
    "main": (
        "mAP at full depth and rank distance (largest minus smallest rank of a query's parallel answers in the "
        "multilingual pool): means over queries, then over subsets; the median is each subset's, averaged likewise."
    ),
    "ranks": (
        "Rank distance: largest minus smallest rank of a query's parallel answers, mean, median, and over what a "
        "random ranking gives; variance of the ranks; standard deviation of their logarithms; worst rank on a scale of "
        "0 to 100; whether all answers are in the first 20 or 100; whether the first of them is in the query's "
        "language; W: how far queries of one language agree on an order of languages (resampling lifts it, so that "
        "near what a random ranking gives its interval is too high)."
    ),
    "shares": (
        "JS: Jensen-Shannon divergence of the languages of the first ten from equal shares, and from the pool's "
        "shares; what a random ranking gives; the excess over it. AWRF: likeness of the first hundred's exposure to "
        "these shares."
    ),
    "split": (
        "The first passage: relevant or not, in the query's language or in another; shares of the queries. Gap: how "
        "much oftener the best-placed answer is in the question's language than in another one."
    ),
    "tasks": (
        "JS@10 excess: how far the languages of the first ten are from the pool's shares, less what a random order "
        "gives (0 to 1); AWRF: likeness of the first hundred's exposure to the pool's shares."
    ),
    "leaderboard": (
        "Borda: in each subset a run gets a point for every run that it beats and half a point for a tie; the mean "
        "over subsets, as a percentage of what is possible, by setting, and averaged over settings. Published and "
        "incomplete systems take no part. Bias stands beside quality and does not count: norm., rank distance over "
        "what a random ranking gives; std ln r, standard deviation of the logarithms of the ranks; excess, divergence "
        "of the first ten's languages from the pool's shares, less what a random ranking gives."
    ),
}


class _Field(NamedTuple):
    """A column, and which values stand in it."""

    column: Column
    setting: Setting
    measure: str
    level: str = "mean"
    query_language: str = ""


# -- the tables ---------------------------------------------------------------------------------------------------


class TableKind(NamedTuple):
    """A table that can be asked for by name.

    Attributes:
        needs: What it is made from.
        make: Makes it, or several; none where the runs have nothing for it.
    """

    needs: Callable[[Study], list[Request]]
    make: Callable[[Results], list[Table]]


def tables_of(study: Study, names: Sequence[str], results: Results | None = None) -> list[Table]:
    """Tables by name.

    Args:
        study: The runs.
        names: Names of `TABLE_KINDS`.
        results: Values of the study, if they were computed, with all that the tables need.

    Raises:
        RequestError: As `results_of`.
        DataError: If a run cannot be read.
    """
    if results is None:
        results = results_of(study, needs_of(study, names))
    return [table for name in names for table in TABLE_KINDS[name].make(results)]


def needs_of(study: Study, names: Sequence[str]) -> list[Request]:
    """What tables are made from, by their names."""
    return [need for name in names for need in TABLE_KINDS[name].needs(study)]


def _main_needs(study: Study) -> list[Request]:
    return [
        Request(collection, setting, [column.key for each, column in MAIN if each is setting], ["mean"])
        for collection in study.collections(parallel=True)
        for setting in Setting
    ]


def _main_table(results: Results) -> list[Table]:
    """Quality by setting and rank distance, for every parallel collection."""
    study = results.study
    letters = study.choices.letters
    rows: list[Row] = []
    notes: list[str] = [NOTES["main"]]
    fields = [_Field(column, setting, column.key) for setting, column in MAIN]
    for collection in study.collections(parallel=True):
        rows += _rows(results, collection, collection, fields, letters=letters, random=True)
        notes += [_covered(study, collection), *_absent(study, collection, [DISTANCE, DISTANCE_MEDIAN])]
    made = Table("main", "Quality by setting, and rank distance", _BY_MODEL, MAIN_COLUMNS, tuple(rows), tuple(notes))
    return _tables(results, made, letters=letters)


MAIN_COLUMNS = tuple(column for _, column in MAIN)


def _by_language_needs(study: Study) -> list[Request]:
    levels = ["mean", "language", *SEEN]
    shown = [(collection, BY_LANGUAGE, levels) for collection in study.collections(parallel=True)]
    shown += [(collection, BY_LANGUAGE_GRADED, [*levels, "median"]) for collection in study.collections(parallel=False)]
    return [
        Request(collection, setting, [measure], levels)
        for collection, each, levels in shown
        for setting, measure in each
    ]


def _by_language_tables(results: Results) -> list[Table]:
    """For every collection with several query languages, each measure by language of the question."""
    made = []
    for parallel, measures in ((True, BY_LANGUAGE), (False, BY_LANGUAGE_GRADED)):
        for collection in results.study.collections(parallel=parallel):
            made += _by_language(results, collection, measures, "per-language")
    return made


#: The paper's Tables 12 and 13: nDCG@10 and R@100 by language, without MIRACL's pairs.
_MIRACL = ((Setting.MONOLINGUAL, NDCG), (Setting.MONOLINGUAL, R100))


def _miracl_needs(study: Study) -> list[Request]:
    measures = [measure for _, measure in _MIRACL]
    levels = ["mean", "median", "language", *SEEN]
    there = "MIRACL" in study.collections(parallel=False)
    return [Request("MIRACL", Setting.MONOLINGUAL, measures, levels)] if there else []


def _miracl_tables(results: Results) -> list[Table]:
    study = results.study
    published = any(value.collection == "MIRACL" for system in study.reported for value in system.values.values())
    if not published and "MIRACL" not in study.collections(parallel=False):
        return []
    return _by_language(results, "MIRACL", _MIRACL, "miracl")


def _by_language(results: Results, collection: str, measures: Sequence[tuple[Setting, str]], name: str) -> list[Table]:
    study = results.study
    languages = study.languages(collection)
    if len(languages) < 2:
        return []
    seen = any(run.trained_languages is not None for run in study.runs)
    rows: list[Row] = []
    columns = [(Column(code, code), "language", code) for code in languages]
    columns.append((Column("mean", "Mean"), "mean", ""))
    # The median over languages stands in the paper's tables of MIRACL, and in no others.
    if NDCG in {measure for _, measure in measures}:
        columns.append((Column("median", "Median"), "median", ""))
    if seen:
        columns += [(Column(level, level.capitalize(), "Languages in training"), level, "") for level in SEEN]
    for setting, measure in measures:
        typed: dict[str, Any] = {
            "decimals": 1 if measure == DISTANCE else 3,
            "higher_is_better": direction(measure),
        }
        fields = [_Field(column._replace(**typed), setting, measure, level, code) for column, level, code in columns]
        arrow = {True: " ↑", False: " ↓", None: ""}[direction(measure)]
        section = f"{setting.value}, {_title(measure)}{arrow}"
        rows += _rows(results, collection, section, fields, random=measure == DISTANCE)
    directionless = tuple(column._replace(higher_is_better=None) for column, *_ in columns)
    notes = [f"By language of the question. {_MEANS_NOTE}", _covered(study, collection), *_caveats(study, collection)]
    if seen:
        notes.append(
            "Seen: query and passages are in languages that the run's model was trained on, by its own record; mixed: "
            "one of both is; unseen: neither. In the multilingual pool the language of the question decides."
        )
    title = f"{collection} by language of the question"
    made = Table(slug(name, collection), title, ("Setting", "Model"), directionless, tuple(rows), tuple(notes))
    return _tables(results, made)


def _title(measure: str) -> str:
    return BIAS_TITLES[measure][0] if measure in BIAS_TITLES else _TITLES[measure]


def _pair_needs(study: Study) -> list[Request]:
    return [
        need
        for collection in study.collections()
        if Setting.CROSS_LINGUAL in study.settings(collection)
        for need in pair_needs(study, collection)
    ]


def _pair_tables(results: Results) -> list[Table]:
    """For every collection with pairs of languages and every run, the main measure of each pair."""
    study = results.study
    made = []
    for collection in study.collections():
        if Setting.CROSS_LINGUAL not in study.settings(collection):
            continue
        measure = study.main_measure(collection)
        cells = pair_values(results, collection, measure)
        codes = sorted({code for values in cells.values() for pair in values for code in pair})
        rows = tuple(
            Row(name, asked, tuple(_cell(found.get((asked, pool)), 3) for pool in codes))
            for name, found in cells.items()
            for asked in sorted({asked for asked, _ in found})
        )
        columns = [Column(code, code, "Passages", 3, None) for code in codes]
        notes = [f"{_TITLES[measure]} of questions in the row's language against passages in the column's."]
        title = f"{collection} by pair of languages"
        table = Table(slug("pairs", collection), title, ("Model", "Questions"), tuple(columns), rows, tuple(notes))
        made += _tables(results, table)
    return made


def pair_needs(study: Study, collection: str) -> list[Request]:
    """What `pair_values` takes its values from."""
    measures = [study.main_measure(collection)]
    return [
        Request(collection, Setting.MONOLINGUAL, measures, ["language"]),
        Request(collection, Setting.CROSS_LINGUAL, measures, ["pair"]),
    ]


def pair_values(results: Results, collection: str, measure: str) -> dict[str, dict[tuple[str, str], Value]]:
    """Values by languages of question and passages, by run; those of one language are the monolingual ones."""
    found: dict[str, dict[tuple[str, str], Value]] = {name: {} for name in results.study.names}
    for setting, level in ((Setting.MONOLINGUAL, "language"), (Setting.CROSS_LINGUAL, "pair")):
        for place, value in results.of(collection, setting, measure, level):
            found[place.run][place.query_language, place.pool or place.query_language] = value
    return found


_BIAS = (
    ("bias-ranks", "Language bias: ranks of parallel answers", _RANKS, NOTES["ranks"]),
    ("bias-shares", "Language bias: languages at the top", _SHARES, NOTES["shares"]),
    ("bias-split", "What comes first", _SPLIT, NOTES["split"]),
)


def _bias_needs(study: Study) -> list[Request]:
    measures = [measure for *_, each, _ in _BIAS for measure in each]
    return [
        Request(collection, Setting.MULTILINGUAL, measures, ["mean"])
        for collection in study.collections()
        if Setting.MULTILINGUAL in study.settings(collection)
    ]


def _bias_tables(results: Results) -> list[Table]:
    """Language bias in the multilingual pools: ranks of parallel passages, languages at the top, the first passage."""
    study = results.study
    made = []
    for name, title, measures, note in _BIAS:
        columns = [_bias_column(key) for key in measures]
        rows: list[Row] = []
        notes = [note, _MEANS_NOTE]
        for collection in study.collections():
            if Setting.MULTILINGUAL not in study.settings(collection):
                continue
            fields = [_Field(column, Setting.MULTILINGUAL, column.key) for column in columns]
            found = _rows(results, collection, collection, fields, random=True)
            if name == "bias-split":
                found = [replace(row, cells=(*row.cells, _gap(study, collection, row))) for row in found]
            rows += found
            notes += [*_caveats(study, collection), *_absent(study, collection, measures)]
        if name == "bias-split":
            columns.append(Column("diagonal_gap", "Gap", "", 3, None))
        made += _tables(results, Table(name, title, _BY_MODEL, tuple(columns), tuple(rows), tuple(notes)))
    return made


def _gap(study: Study, collection: str, row: Row) -> Cell:
    """How far the question's language is ahead among the languages of the best-placed answers."""
    if row.kind == "reported":
        return Cell()
    if row.kind == "run":
        answers = study.scores(study.names.index(row.label), collection, Setting.MULTILINGUAL).answer_languages()
        return _number(diagonal_gap(answers), 3)
    every = (study.scores(run, collection, Setting.MULTILINGUAL) for run in range(len(study.runs)))
    at_random = (diagonal_gap(each.answer_languages("preference_at_random")) for each in every)
    return _number(next((gap for gap in at_random if gap is not None), None), 3)


def _bias_column(key: str) -> Column:
    """The column of a bias measure; what a random ranking gives, and the excess over it, stand beside theirs."""
    title, decimals = BIAS_TITLES[key]
    group = ""
    if key.startswith("bias_js_at_10_"):
        target = key.removeprefix("bias_js_at_10_").partition("_")[0]
        group, title = f"JS@10 {target}", "value" if key == f"bias_js_at_10_{target}" else title
    return Column(key, title, group, decimals, direction(key))


def _task_needs(study: Study) -> list[Request]:
    return [
        Request(collection, setting, [column.key for column in TASKS], ["mean"])
        for collection in study.collections(parallel=False)
        for setting in study.settings(collection)
    ]


def _task_table(results: Results) -> list[Table]:
    """All tasks that are not parallel: MIRACL, and those of mteb."""
    study = results.study
    rows: list[Row] = []
    notes = [_MEANS_NOTE]
    of_tasks: list[str] = []
    caveats: list[str] = []
    for collection in study.collections(parallel=False):
        for setting in study.settings(collection):
            fields = [_Field(column, setting, column.key) for column in TASKS]
            rows += _rows(results, collection, f"{collection}, {setting.value}", fields)
        notes.append(_covered(study, collection))
        caveats += _caveats(study, collection)
        of_tasks += [
            note for table in study.tables if table.collection == collection for note in table.metadata.get("notes", ())
        ]
    of_pools = [place for place, column in enumerate(TASKS) if column.group == _SHARES_GROUP]
    if any(row.cells[place].value is not None for row in rows for place in of_pools):
        notes.insert(1, NOTES["tasks"])
    of_tasks = list(dict.fromkeys(of_tasks))
    left = len(of_tasks) - _NOTES_SHOWN
    notes += [*caveats, *of_tasks[:_NOTES_SHOWN]]
    if left > 0:
        notes.append(f"and {left} more note{'s' if left > 1 else ''} in signatures.jsonl")
    return _tables(results, Table("tasks", "Other tasks", ("Task", "Model"), TASKS, tuple(rows), tuple(notes)))


_NOTES_SHOWN = 5


def _caveats(study: Study, collection: str) -> list[str]:
    """What has to be said wherever the numbers of a collection stand."""
    found = [table.metadata.get("caveat", "") for table in study.tables if table.collection == collection]
    return [caveat for caveat in dict.fromkeys(found) if caveat]


def _leaderboard_needs(study: Study) -> list[Request]:
    needs: list[Request] = []
    for collection in study.collections():
        measures = [study.main_measure(collection)]
        needs += [Request(collection, setting, measures, ["mean"]) for setting in Setting]
        needs.append(Request(collection, Setting.MULTILINGUAL, _BESIDE, ["mean"]))
    return needs


def _leaderboard_columns() -> list[Column]:
    columns: list[Column] = [Column("borda", "Borda", "", 1)]
    for setting in Setting:
        columns += [
            Column(f"{setting.value} mean", "mean", setting.value.capitalize()),
            Column(f"{setting.value} borda", "Borda", setting.value.capitalize(), 1),
        ]
    return columns + [Column(key, BIAS_TITLES[key][0], "Bias", BIAS_TITLES[key][1], direction(key)) for key in _BESIDE]


class _Standing(NamedTuple):
    """The leaderboard of one collection, or of all: cells and comparability by the keys of columns.

    Attributes:
        cells: By run, then by column.
        alike: Whether the numbers of a column can be compared.
    """

    cells: Mapping[str, Mapping[str, Cell]]
    alike: Mapping[str, bool]


def _leaderboard_table(results: Results) -> list[Table]:
    """Runs in order of their Borda count, with the mean of each setting, and bias beside them."""
    study = results.study
    columns = _leaderboard_columns()
    standings = {collection: _standing(results, collection) for collection in study.collections()}
    if len(standings) > 1:
        standings = {"All": _over_all(list(standings.values()), columns), **standings}
    rows: list[Row] = []
    for section, (cells, alike) in standings.items():
        found = [Row(section, name, tuple(cells[name][column.key] for column in columns)) for name in study.names]
        found.sort(key=_standing_place)
        marked = _marked(found, columns, [alike[column.key] for column in columns], [None] * len(columns))
        rows += [row for row in marked if any(cell.value is not None for cell in row.cells)]
    notes = (NOTES["leaderboard"], *(_covered(study, collection) for collection in study.collections()))
    return _tables(results, Table("leaderboard", "Leaderboard", _BY_MODEL, tuple(columns), tuple(rows), notes))


def _standing_place(row: Row) -> float:
    """Sorts by falling Borda count, the first column; who has none comes last."""
    count = row.cells[0].value
    return 1.0 if count is None else -count


def _standing(results: Results, collection: str) -> _Standing:
    """The leaderboard of one collection."""
    study = results.study
    measure = study.main_measure(collection)
    cells: dict[str, dict[str, Cell]] = {name: {} for name in study.names}
    alike = {"borda": True}
    counts: dict[Setting, dict[str, float]] = {}
    for setting in Setting:
        coverage = [study.coverage(run, collection, setting) for run in range(len(study.runs))]
        most = max(coverage, key=len, default=frozenset())
        same = study.alike(collection, setting)
        means = {name: results.at(name, collection, setting, measure) for name in study.names}
        having = [run for run, name in enumerate(study.names) if means[name] is not None]
        whole = [run for run in having if same and coverage[run] == most]
        of_setting = _borda(study, collection, setting, measure, whole)
        if having:
            counts[setting] = of_setting
        alike |= {f"{setting.value} borda": True}
        alike |= {f"{setting.value} mean": same and len({coverage[run] for run in having}) <= 1}
        for run, name in enumerate(study.names):
            mean = _cell(means[name], 3)
            if run in having:
                mean = replace(mean, note=_partial(len(coverage[run]), len(most)))
            cells[name] |= {
                f"{setting.value} mean": mean,
                f"{setting.value} borda": _number(of_setting.get(name), 1),
            }
    for name in study.names:
        each = [of_setting.get(name) for of_setting in counts.values()]
        incomplete = not each or None in each
        total = None if incomplete else float(np.mean([count for count in each if count is not None]))
        cells[name]["borda"] = _number(total, 1)
        for key in _BESIDE:
            cells[name][key] = _cell(results.at(name, collection, Setting.MULTILINGUAL, key), BIAS_TITLES[key][1])
    alike |= dict.fromkeys(_BESIDE, alike[f"{Setting.MULTILINGUAL.value} mean"])
    return _Standing(cells, alike)


def _borda(study: Study, collection: str, setting: Setting, measure: str, runs: Sequence[int]) -> dict[str, float]:
    """Borda count of runs that have the same subsets, as a percentage, by name; empty for fewer than two."""
    if len(runs) < 2:
        return {}
    found = []
    for run in runs:
        each = study.scores(run, collection, setting)
        by_subset = each.of_subsets(measure)
        assert by_subset is not None
        order = sorted(range(len(each.subsets)), key=each.subsets.__getitem__)
        found.append(by_subset[order])
    values = np.stack(found)  # (runs, subsets)
    beaten = (values[:, None] > values).sum(axis=1)
    tied = (values[:, None] == values).sum(axis=1) - 1  # without itself
    points = (beaten + tied / 2).mean(axis=1) / (len(runs) - 1) * 100
    return dict(zip([study.names[run] for run in runs], points.tolist(), strict=True))


def _over_all(standings: Sequence[_Standing], columns: Sequence[Column]) -> _Standing:
    """Means over collections, of those columns that every collection has for the run."""
    cells: dict[str, dict[str, Cell]] = {}
    for name in standings[0].cells:
        cells[name] = {}
        for column in columns:
            values = [each.cells[name][column.key].value for each in standings]
            known = [value for value in values if value is not None]
            mean = float(np.mean(known)) if len(known) == len(values) else None
            cells[name][column.key] = _number(mean, column.decimals or 0)
    return _Standing(cells, {column.key: all(each.alike[column.key] for each in standings) for column in columns})


def compare_needs(study: Study, measure: str) -> list[Request]:
    """What a comparison takes its adjusted p-values from."""
    return [Request(collection, setting, [measure], ["mean"]) for collection, setting in common_settings(study)]


def compare_table(study: Study, measure: str, margin: float | None = None, results: Results | None = None) -> Table:
    """Every run against the baseline in each setting that all of them have, with what a reviewer asks for.

    Args:
        study: At least two runs; its baseline is the first where none is chosen.
        measure: One of `scores.COMPARED`.
        margin: By how much a run would be worse; None for no tests of that.
        results: Values of the study, if they were computed, with all of `compare_needs`.

    Raises:
        RequestError: If the runs cannot be compared, or have nothing in common.
    """
    baseline = study.choices.baseline or 0
    choices = replace(study.choices, baseline=baseline)
    options = choices.drawn
    if results is None:
        results = results_of(replace(study, choices=choices), compare_needs(study, measure))
    rows: list[Row] = []
    columns = [
        Column("mean", "Mean", "", 4, None),
        Column("delta", "Difference", "", 4, None),
        Column("interval", "95% interval", "", None, None),
        *(Column(f"p_{name}", f"p ({name})", "", None, None) for name in CLUSTERS),
        Column("p_adjusted", "p (adjusted)", "", None, None),
        Column("d_z", "d_z", "", 2, None),
        Column("wins", "Higher/ties/lower" if direction(measure) is None else "Wins/ties/losses", "", None, None),
        Column("detectable", "MDE", "", 4, None),
        *(MARGIN_COLUMNS if margin is not None else ()),
    ]
    notes: list[str] = []
    compared: list[Comparison] = []
    better = direction(measure) is not False
    # Tukey's test permutes scores of queries, of which only means can be made again.
    lettered = len(study.runs) > 2 and measure not in OF_SUBSETS
    by_run: dict[tuple[str, str], dict[Setting, Within]] = {}
    for aligned, found in differences(study, measure, margin):
        letters = all_pairs(aligned, choices.cluster, higher_is_better=better, **options)[1] if lettered else None
        section = f"{found[0].collection}, {found[0].setting.value}"
        values = [results.at(each.run, each.collection, each.setting, measure) for each in found]
        adjusted = [None if value is None else value.p_adjusted for value in values]
        rows += _compared(section, found, adjusted, letters, lower_wins=not better)
        result = found[0].result
        # Holm multiplies the smallest p by the number of runs; stepping down does not.
        runs = len(found) if (found[0].setting, measure) == study.primary(found[0].collection) else 1
        compared.append(result)
        notes.append(
            f"{section}: {result.n_settings} subsets, {result.n_cells:,} queries in {result.n_clusters} clusters by "
            f"{choices.cluster}.{_few_clusters(result, runs)}"
        )
        for each in found:
            if each.within is not None:
                by_run.setdefault((each.collection, each.run), {})[each.setting] = each.within
    if not rows:
        names = ", ".join(study.names)
        raise RequestError(f"nothing to compare: {names} have no setting of a collection in common with '{measure}'")
    figure = {
        "bias_rank_distance_median": "mean over subsets of medians over queries",
        "bias_kendall_w": "mean over query languages of W over their queries",
    }.get(measure, "mean over subsets of means over queries")
    few = any(result.n_clusters < FEW_CLUSTERS for result in compared)
    exact = [result.exact for result in compared]
    flips = "all flips" if all(exact) else f"all flips where so told, else {choices.draws:,}"
    flips = f"{flips}, and {choices.draws:,} resamples" if any(exact) else f"{choices.draws:,} flips and resamples"
    notes.append(
        f"Difference from {study.names[baseline]} in {measure}, {figure}; 95% interval "
        f"by the cluster bootstrap (expanded percentiles{'; t below 10 clusters' if few else ''}), p by the cluster "
        f"sign-flip test ({flips}, seed {choices.seed}), where it counts with questions clustered by "
        f"{choices.cluster}; adjusted: {_adjustment(study)}; {DAGGER} where that is below {LEVEL}; intervals are not "
        + (
            "adjusted; d_z: t of the clustered t-test over the root of the number of clusters; "
            f"{_COUNTED[direction(measure)]}; MDE: difference that one test at {LEVEL} would find in 80% of cases."
            if measure not in OF_SUBSETS
            else "adjusted."
        )
    )
    if margin is not None:
        notes += [*margin_notes(margin, measure, "the sign-flip test"), *claims(by_run, margin, measure)]
    if lettered:
        columns.append(Column("letters", "Letters", "", None, None))
        notes.append(f"{_LETTERS}.")
    title = f"Differences from {study.names[baseline]} in {measure}"
    kept = [place for place in range(len(columns)) if place < 3 or any(row.cells[place].text for row in rows)]
    rows = [replace(row, cells=tuple(row.cells[place] for place in kept)) for row in rows]
    return Table(
        "compare", title, ("Setting", "Run"), tuple(columns[place] for place in kept), tuple(rows), tuple(notes)
    )


#: What a comparison by a margin has besides.
MARGIN_COLUMNS = (
    Column("not_worse", "p (not worse)", "Margin", None, None),
    Column("equivalent", "p (equivalent)", "Margin", None, None),
    Column("margin_interval", "90% interval", "Margin", None, None),
)


def margin_cells(within: Within | None) -> tuple[Cell, ...]:
    """The cells of `MARGIN_COLUMNS`; empty ones of the baseline."""
    if within is None:
        return (Cell(),) * len(MARGIN_COLUMNS)
    return (
        Cell(within.not_worse, p_text(within.not_worse)),
        Cell(within.equivalent, p_text(within.equivalent)),
        Cell(text=f"{within.low:+.4f} to {within.high:+.4f}"),
    )


def margin_notes(margin: float, measure: str, test: str) -> list[str]:
    """What the columns of a margin say."""
    worse = "higher" if direction(measure) is False else "lower"
    return [
        f"Margin {margin:g}: not worse, one-sided p of being {worse} by {margin:g} or more, by {test}; equivalent, the "
        "larger of two such p, of being lower or higher by it; 90% interval: no end of it is beyond the margin exactly "
        f"where these p are below {LEVEL}. No adjustment is made for the number of runs or settings."
    ]


def claims(found: Mapping[tuple[str, str], Mapping[Setting, Within]], margin: float, measure: str) -> list[str]:
    """What can be said of a run within and across languages together."""
    told = []
    for (collection, run), measured in found.items():
        p = claim_of(measured)
        if p is not None:
            told.append(
                f"{collection}, {run}: not worse within languages by {margin:g} and better across them in {measure}: "
                f"p {p_text(p)}, the larger of both (intersection-union test)."
            )
    return told


def _few_clusters(result: Comparison, runs: int) -> str:
    """What a test of few clusters can find, where all flips are looked at."""
    if not result.exact:
        return ""
    told = f" The test looks at all {result.flips:,} flips; its smallest p is {p_text(result.attainable)}"
    if result.attainable * runs >= LEVEL:
        adjusted = (
            "" if runs == 1 else f" for one run, {p_text(min(1.0, result.attainable * runs))} adjusted for {runs}"
        )
        return f"{told}{adjusted}: no {DAGGER} can be reached, whatever the difference; take smaller clusters."
    return f"{told}."


def differences(study: Study, measure: str, margin: float | None = None) -> Iterator[tuple[Aligned, list[Difference]]]:
    """The runs against the baseline, or else the first, in each setting that all have and the measure applies to.

    Returns:
        For each such setting the scores side by side, the baseline's first, and the difference of every other run.

    Raises:
        RequestError: If the runs cannot be compared.
    """
    choices = study.choices
    baseline = choices.baseline or 0
    order = [baseline, *(run for run in range(len(study.runs)) if run != baseline)]
    for collection, setting in common_settings(study):
        aligned = study.aligned(order, collection, setting, measure)
        if len(aligned.queries):
            place: dict[str, Any] = {"collection": collection, "setting": setting, "measure": measure}
            place |= {"margin": margin, "higher_is_better": direction(measure) is not False}
            yield aligned, against_baseline(aligned, 0, cluster=choices.cluster, **place, **choices.drawn)


def common_settings(study: Study) -> list[tuple[str, Setting]]:
    """The settings that all runs have, by collection."""
    return [
        (collection, setting)
        for collection in study.collections()
        for setting in Setting
        if all(study.coverage(run, collection, setting) for run in range(len(study.runs)))
    ]


#: What wins and losses are, by direction of the measure.
_COUNTED = {
    True: "wins: queries in which the run scores higher than the baseline",
    False: "wins: queries in which the run scores lower than the baseline, which is better",
    None: "higher: queries in which the run scores higher than the baseline",
}


def _compared(
    section: str,
    found: Sequence[Difference],
    adjusted: Sequence[float | None],
    letters: Sequence[str] | None,
    *,
    lower_wins: bool,
) -> list[Row]:
    dash = Cell()
    first = found[0]
    margins = [] if first.within is None else [dash] * len(MARGIN_COLUMNS)
    of_first = [Cell(text=letters[0])] if letters else []
    rows = [Row(section, first.baseline, (_number(first.result.mean_b, 4), *[dash] * 9, *margins, *of_first))]
    for number, (each, p_adjusted) in enumerate(zip(found, adjusted, strict=True), start=1):
        result = each.result
        wins, losses = (result.losses, result.wins) if lower_wins else (result.wins, result.losses)
        cells = [
            _number(result.mean_a, 4),
            Cell(
                result.delta,
                f"{result.delta:+.4f}",
                mark=DAGGER if p_adjusted is not None and p_adjusted < LEVEL else "",
                low=result.low,
                high=result.high,
                p=result.p,
                p_adjusted=p_adjusted,
            ),
            Cell(text=f"{result.low:+.4f} to {result.high:+.4f}"),
            *(Cell(each.by[name].p, p_text(each.by[name].p)) if name in each.by else dash for name in CLUSTERS),
            dash if p_adjusted is None else Cell(p_adjusted, p_text(p_adjusted)),
            _number(result.d_z, 2),
            Cell(text="" if wins is None else f"{wins}/{result.ties}/{losses}"),
            _number(result.detectable, 4),
            *(() if each.within is None else margin_cells(each.within)),
        ]
        rows.append(Row(section, each.run, (*cells, *([Cell(text=letters[number])] if letters else []))))
    return rows


def p_text(value: float) -> str:
    """A p-value as it is printed: never 0."""
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"


def reproduce_tables(study: Study) -> list[Table]:
    """How far runs with a published system's backbone and sampling are from print, measure by measure.

    A run belongs to a published system where its model's folder says that it was trained from that backbone with that
    sampling (see `trained`); several seeds are shown one by one.

    Raises:
        RequestError: If no run is of a published system.
    """
    systems = {
        run: system for run, each in enumerate(study.runs) if (system := _counterpart(each.training)) is not None
    }
    # For these runs alone, and always with intervals, which say how far is far.
    choices = replace(study.choices, baseline=None, intervals=True)
    reproducing = Study([study.runs[run] for run in systems], (), choices)
    rows: list[Row] = []
    distances: dict[str, list[float]] = {}  # in the unit of the measures
    columns = (
        Column("ours", "here", "", 4, None),
        Column("printed", "printed", "", 4, None),
        Column("difference", "difference", "", 4, None),
        Column("within", "print within the interval", "", None, None),
    )
    measures = [(setting, column) for setting, column in MAIN if column.key != DISTANCE_MEDIAN]
    results = results_of(
        reproducing,
        [
            Request(collection, setting, [column.key], ["mean", "language"])
            for collection in reproducing.collections(parallel=True)
            for setting, column in measures
        ],
    )
    for (run, system), name in zip(systems.items(), reproducing.names, strict=True):
        for collection in reproducing.collections(parallel=True):
            for setting, column in measures:
                for place, value in results.of(collection, setting, column.key, "mean", "language"):
                    printed = system.get(collection, setting, column.key, place.level, place.query_language)
                    if printed is None or place.run != name:
                        continue
                    over = place.query_language or place.level
                    label = f"{collection}, {setting.value}, {_title(column.key)}, {over}"
                    inside = "-" if value.low is None or value.high is None else "no"
                    # What was rounded to print may be anything that rounds to it.
                    half = 0.5 * 10.0**-printed.decimals
                    if value.low is not None and value.high is not None:
                        inside = "yes" if value.low - half <= printed.value <= value.high + half else "no"
                    difference = value.value - printed.value
                    cells = (
                        replace(_number(value.value, 4), low=value.low, high=value.high),
                        Cell(printed.value, printed.printed, note=printed.source),
                        Cell(difference, f"{difference:+.4f}"),
                        Cell(text=inside),
                    )
                    unit = "rank distance" if column.key == DISTANCE else "mAP and recall"
                    distances.setdefault(unit, []).append(abs(difference))
                    rows.append(Row(f"{study.names[run]} against {system.name}", label, cells))
    if not rows:
        raise RequestError(
            "no run has a published counterpart: its model's folder must say that it was trained from XLM-R or LaBSE "
            "with the sampling hybrid (alpha 0.5), x-x-mono or x-y, as `hybrid-bench train` writes it"
        )
    parts = [
        f"{len(found)} of {unit}, mean absolute difference {np.mean(found):.4f}, largest {max(found):.4f}"
        for unit, found in distances.items()
    ]
    summary = (
        f"Printed numbers: {'; '.join(parts)}. Intervals are over questions, not over trainings: another seed gives "
        "other numbers."
    )
    notes = (summary, *_how(results, rows, letters=False))
    return [Table("reproduce", "Distance from print", ("Run", "Number"), columns, tuple(rows), notes)]


#: Names of backbones in publications, by what the name of a model they were trained from holds.
_BACKBONES = {"xlm-r": "xlm-r", "labse": "labse"}


def _counterpart(training: Mapping[str, Any] | None) -> PublishedSystem | None:
    if training is None:
        return None
    base, mode = str(training.get("base", "")).casefold(), str(training.get("mode", "")).casefold()
    alpha = training.get("alpha")
    if mode == "hybrid" and alpha is not None:  # any other share of monolingual batches is none of the paper's
        mode = {0.0: "x-y", 0.5: "hybrid", 1.0: "x-x-mono"}.get(float(alpha), "")
    for held, backbone in _BACKBONES.items():
        if held in base:
            for system in published_systems("published:elmahdy2024"):
                if system.slug == f"{backbone}-{mode}":
                    return system
    return None


# -- rows and cells -----------------------------------------------------------------------------------------------


def _rows(
    results: Results,
    collection: str,
    section: str,
    fields: Sequence[_Field],
    *,
    letters: bool = False,
    random: bool = False,
) -> list[Row]:
    """Rows of runs, published systems and, where asked for, a random ranking; with marks."""
    study = results.study
    coverage = {
        setting: [study.coverage(run, collection, setting) for run in range(len(study.runs))]
        for setting in dict.fromkeys(field.setting for field in fields)
    }
    shared = {field: _letters(study, collection, field) for field in fields if letters}
    rows: list[Row] = []
    for run, name in enumerate(study.names):
        if not any(covered[run] for covered in coverage.values()):
            continue
        cells = []
        for field in fields:
            value = results.at(name, collection, *field[1:])
            cell = _cell(value, field.column.decimals or 0)
            if field.level in {"mean", "median"}:
                covered = len(coverage[field.setting][run])
                if field.level == "mean" and value is not None:
                    covered = value.subsets  # a measure may apply to some of them only
                cell = replace(cell, note=_partial(covered, max(map(len, coverage[field.setting]))))
            if (marks := shared.get(field, {})) and run in marks and cell.text:
                cell = replace(cell, mark=f"{cell.mark}{marks[run]}")
            cells.append(cell)
        rows.append(Row(section, name, tuple(cells)))
    alike = [study.alike(collection, field.setting) and _alike(results, collection, field) for field in fields]
    by_chance = [_at_random(study, collection, field) if random else Cell() for field in fields]
    floors = [
        float(cell.text) if cell.text and field.measure in _ABOVE_CHANCE else None
        for field, cell in zip(fields, by_chance, strict=True)
    ]
    rows = _marked(rows, [field.column for field in fields], alike, floors)
    if rows and any(cell.text for cell in by_chance):
        rows.append(Row(section, "random ranking", tuple(by_chance), "random"))
    for system in study.reported:
        printed = [system.get(collection, *field[1:]) for field in fields]
        cells = [_reported(value, field.column.decimals or 0) for value, field in zip(printed, fields, strict=True)]
        if any(cell.text for cell in cells):
            rows.append(Row(section, system.label, tuple(cells), "reported"))
    return rows


def _cell(value: Value | None, decimals: int) -> Cell:
    if value is None:
        return Cell()
    differs = value.p_adjusted is not None and value.p_adjusted < LEVEL
    return Cell(
        value.value,
        _number(value.value, decimals).text,
        mark=DAGGER if differs else "",
        low=value.low,
        high=value.high,
        p=value.p,
        p_adjusted=value.p_adjusted,
    )


def _number(value: float | None, decimals: int) -> Cell:
    return Cell() if value is None else Cell(value, f"{round(value, decimals) + 0.0:.{decimals}f}")  # no -0


def _reported(printed: PublishedValue | None, decimals: int) -> Cell:
    if printed is None:
        return Cell()
    # Half a last digit goes up, as in print: the nearest float to 0.6475 is below it.
    text = str(Decimal(printed.printed).quantize(Decimal(10) ** -decimals, ROUND_HALF_UP))
    return Cell(printed.value, text, note=printed.source)


def _at_random(study: Study, collection: str, field: _Field) -> Cell:
    """What a random ranking of the first run's pools gives; the same for all runs on the same data."""
    if field.level not in {"mean", "language"}:
        return Cell()
    every = (study.scores(run, collection, field.setting) for run in range(len(study.runs)))
    first = next((each for each in every if len(each)), None)
    found = None if first is None else first.at_random(field.measure, field.query_language)
    return _number(found, field.column.decimals or 0)


def _letters(study: Study, collection: str, field: _Field) -> dict[int, str]:
    """Letters of the runs that have a measure: those that share one do not differ by Tukey's test."""
    having = [
        run
        for run in range(len(study.runs))
        if field.measure in OF_QUERIES and study.scores(run, collection, field.setting).of(field.measure) is not None
    ]
    if len(having) < 2:
        return {}
    aligned = study.aligned(having, collection, field.setting, field.measure)
    options = study.choices.drawn
    found = all_pairs(
        aligned, study.choices.cluster, higher_is_better=field.column.higher_is_better is not False, **options
    )
    return dict(zip(having, found[1], strict=True))


def _marked(
    rows: Sequence[Row], columns: Sequence[Column], alike: Sequence[bool], floors: Sequence[float | None]
) -> list[Row]:
    """The rows with best and second of each column, as printed; one value alone is neither.

    Args:
        rows: Of runs.
        columns: The columns.
        alike: Whether the numbers of a column can be compared.
        floors: What a random ranking gives, as printed: what is no better is neither; None where that says nothing.
    """
    cells = [list(row.cells) for row in rows]
    for place, column in enumerate(columns):
        if column.higher_is_better is None or not alike[place]:
            continue
        present = [float(row[place].text) for row in cells if row[place].value is not None]
        if len(present) < 2:
            continue
        ranked = sorted(set(present), reverse=column.higher_is_better)
        floor = floors[place]
        if floor is not None:
            ranked = [number for number in ranked if (number > floor if column.higher_is_better else number < floor)]
        for row in cells:
            if row[place].value is None:
                continue
            number = float(row[place].text)
            row[place] = replace(row[place], best=number in ranked[:1], second=number in ranked[1:2])
    return [replace(row, cells=tuple(each)) for row, each in zip(rows, cells, strict=True)]


def _alike(results: Results, collection: str, field: _Field) -> bool:
    """Whether all values of a column are means over the same subsets of the same pools."""
    study = results.study
    found = set()
    for run, name in enumerate(study.names):
        value = results.at(name, collection, *field[1:])
        if value is not None:  # a measure may apply to some of a run's subsets only
            found.add((study.coverage(run, collection, field.setting), value.subsets))
    return len(found) <= 1


def _partial(covered: int, most: int) -> str:
    return f"{covered} of {most} subsets" if covered < most else ""


def _covered(study: Study, collection: str) -> str:
    """How many subsets each setting's mean is over; told apart where the runs differ."""
    parts = []
    unequal = changed = False
    having = [run for run in range(len(study.runs)) if any(study.coverage(run, collection, each) for each in Setting)]
    for setting in Setting:
        covered = [study.coverage(run, collection, setting) for run in having]
        counts = sorted({len(each) for each in covered})
        unequal |= len(set(covered)) > 1
        changed |= not study.alike(collection, setting)
        if counts not in ([], [0]):
            parts.append(f"{'/'.join(map(str, counts))} {setting.value}")
    if not parts:
        return ""
    what = "do not cover the same subsets and pools" if unequal else "are not about the same data and pools"
    differing = f" (the runs {what}: {_DIFFERING})" if unequal or changed else ""
    plural = "" if len(parts) == 1 and parts[0].startswith("1 ") else "s"
    baseline = study.choices.baseline
    untested = ""
    if baseline is not None:
        settings = study.settings(collection)
        lacking = [each.value for each in settings if not study.coverage(baseline, collection, each)]
        untested = f" Not tested, since {study.names[baseline]} has none: {', '.join(lacking)}." if lacking else ""
    return f"{collection}: {', '.join(parts)} subset{plural}{differing}.{untested}"


def _absent(study: Study, collection: str, measures: Sequence[str]) -> list[str]:
    """Why measures do not apply, by run; reasons that many measures share are told once."""
    lacking: dict[tuple[str, str], list[str]] = {}  # runs, by reason and title
    having = 0
    for run, name in enumerate(study.names):
        each = study.scores(run, collection, Setting.MULTILINGUAL)
        if not len(each):
            continue
        having += 1
        for key, reason in each.absent.items():
            if key in measures:
                lacking.setdefault((reason, BIAS_TITLES[key][0]), []).append(name)
    by_reason: dict[str, list[str]] = {}
    for (reason, title), names in lacking.items():
        whose = [title] if len(names) == having else [f"{title} of {name}" for name in names]
        by_reason.setdefault(reason, []).extend(whose)
    return [f"{collection}: not there: {', '.join(whose)}: {reason}." for reason, whose in by_reason.items()]


def _tables(results: Results, table: Table, *, letters: bool = False) -> list[Table]:
    """The table without columns in which nobody has anything, with how it was computed; none if it has no rows."""
    study, columns, rows = results.study, table.columns, table.rows
    if not rows:
        return []
    kept = [place for place in range(len(columns)) if any(row.cells[place].text for row in rows)]
    how = [*_how_marked(rows), *_how(results, rows, letters)]
    if any(row.kind == "reported" for row in rows):
        how += dict.fromkeys(system.publication.citation for system in study.reported)
    return [
        replace(
            table,
            columns=tuple(columns[place] for place in kept),
            rows=tuple(replace(row, cells=tuple(row.cells[place] for place in kept)) for row in rows),
            notes=tuple(note for note in (*table.notes, *how) if note),
        )
    ]


def _how_marked(rows: Sequence[Row]) -> list[str]:
    """What bold and underlined numbers are, and who takes no part."""
    kinds = {row.kind for row in rows}
    found = []
    if any(cell.best or cell.second for row in rows for cell in row.cells):
        chance = "; rank measures no better than the random ranking's are not marked" if "random" in kinds else ""
        found.append(
            "Bold: best of the runs; underlined: second best; both as printed, ties included, among means over the "
            f"same subsets{chance}."
        )
    if {"run", "reported"} <= kinds:
        found.append("Reported rows are shown only: they take no part in best, second best and tests.")
    return found


def _adjustment(study: Study) -> str:
    """Over what the p-values of means are adjusted."""
    primary = {
        f"{_title(measure)} {setting.value}"
        for collection in study.collections()
        for setting, measure in [study.primary(collection)]
        if setting in study.settings(collection)
    }
    first = f"{' or '.join(sorted(primary))}, the primary measure, over the runs by Holm; " if primary else ""
    rest = "all other means" if primary else "all means"
    return f"{first}{rest} of a collection that are reported here, over columns, settings and runs by step-down max-T"


def _how(results: Results, rows: Sequence[Row], letters: bool) -> list[str]:
    """How intervals and p-values were computed, and what few clusters can show."""
    choices = results.study.choices
    drawn = f"questions clustered by {choices.cluster}, {choices.draws:,} draws, seed {choices.seed}"
    frame = results.frame
    found = []
    cells = [cell for row in rows for cell in row.cells]
    if any(cell.low is not None for cell in cells):
        clusters = frame.loc[frame["low"].notna(), "clusters"].min()
        few = f"; by t with fewer than {FEW_CLUSTERS} clusters" if clusters < FEW_CLUSTERS else ""
        found.append(f"95% intervals: cluster bootstrap with expanded percentiles{few}, {drawn}.")
    if choices.baseline is not None and any(cell.p is not None for cell in cells):
        found.append(
            f"{DAGGER}: differs from {results.study.names[choices.baseline]}, adjusted p below {LEVEL}: cluster "
            f"sign-flip test, {drawn}; adjusted: {_adjustment(results.study)}; languages or pairs over those of a run "
            "by Benjamini and Hochberg."
        )
        found.append(_attainable(int(frame.loc[frame["p"].notna(), "clusters"].min()), choices.draws))
    if letters and any(cell.mark.removeprefix(DAGGER) for cell in cells):
        found.append(f"{_LETTERS}, {drawn}.")
    return found


def _attainable(clusters: int, draws: int) -> str:
    """What a test of so few clusters that all flips are looked at can find; empty for more."""
    if clusters > EXACT_CLUSTERS:
        return ""
    least = attainable(clusters, draws)
    beyond = f": no difference can be marked {DAGGER} there, whatever its size" if least >= LEVEL else ""
    return (
        f"With {clusters} clusters, the fewest here, all {2**clusters:,} flips were looked at, and no p-value can be "
        f"below {p_text(least)}{beyond}."
    )


#: The tables that can be asked for by name, in the order of a page.
TABLE_KINDS: Mapping[str, TableKind] = {
    "main": TableKind(_main_needs, _main_table),
    "tasks": TableKind(_task_needs, _task_table),
    "leaderboard": TableKind(_leaderboard_needs, _leaderboard_table),
    "per-language": TableKind(_by_language_needs, _by_language_tables),
    "miracl": TableKind(_miracl_needs, _miracl_tables),
    "bias": TableKind(_bias_needs, _bias_tables),
    "pairs": TableKind(_pair_needs, _pair_tables),
}
