"""Batches as they are promised: shares by chi-square, rows and groups by looking at every batch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hybrid_bench.data.collection import Column
from hybrid_bench.errors import RequestError
from hybrid_bench.training import sampling
from hybrid_bench.training.sampling import BatchPlan, Permutation, Sampling
from hybrid_bench.training.texts import ItemParts, Items, ParallelTexts
from parallel_texts import many_rows, parallel

LANGUAGES = ("ar", "de", "en", "sw", "zh")
#: All tests of shares use fixed seeds: what passes once passes always.
LEVEL = 0.01


def plan_of(sources: ParallelTexts | Sequence[ParallelTexts], size: int, *, seed: int = 0, **how: Any) -> BatchPlan:
    chosen = [sources] if isinstance(sources, ParallelTexts) else sources
    return BatchPlan(Items(chosen), size, Sampling(**how), seed)


def parts_of(plan: BatchPlan, epoch: int = 0, steps: int | None = None) -> list[ItemParts]:
    """The first batches of an epoch."""
    batches = plan.epoch(epoch)
    return [plan.items.decode(batches.batch(step)) for step in range(steps or plan.steps)]


def is_mono(parts: ItemParts) -> bool:
    """Whether all items are in one language."""
    return len({*parts.query.tolist(), *parts.passage.tolist()}) == 1


def fits(observed: Sequence[int] | NDArray[np.int64], shares: Sequence[float] | None = None) -> bool:
    """Whether counts are what these shares (equal ones) would give, by chi-square."""
    counts = np.asarray(observed)
    expected = counts.sum() * (np.full(len(counts), 1 / len(counts)) if shares is None else np.asarray(shares))
    return float(stats.chisquare(counts, expected).pvalue) > LEVEL


def check(plan: BatchPlan, batches: Sequence[ItemParts]) -> None:
    """What holds for every batch of every plan."""
    for parts in batches:
        assert len(parts.row) == plan.size
        (number,) = {*parts.source.tolist()}
        source = plan.items.sources[number]
        groups = source.group_of(parts.row)
        assert len({*groups.tolist()}) == plan.size, "two of a group"
        for numbers in source.negative_groups:
            assert numbers is None or not {*numbers[parts.row].tolist()} & {*groups.tolist()}
        asked, answered = source.readable(parts.row)
        at = np.arange(plan.size)
        assert asked[at, parts.query].all(), "a query without a text"
        assert answered[at, parts.passage].all(), "a passage without a text"
        same = parts.query == parts.passage
        if plan.sampling.mode in {"x-x-mono", "en-en"} or plan.sampling.alpha == 1:
            assert is_mono(parts)
        elif plan.sampling.mode == "x-x":
            assert same.all()
        else:
            assert is_mono(parts) or not same.any()


# -- permutations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 100, 1000, 4097, 65_536, 100_003])
def test_a_permutation_holds_every_number_once(size: int) -> None:
    for key in (0, 1, 2**64 - 1):
        assert (np.sort(Permutation(size, key)(np.arange(size))) == np.arange(size)).all()


def test_a_permutation_can_be_asked_for_any_place() -> None:
    order = Permutation(40_000_000, 7)
    places = np.array([39_999_999, 0, 5, 17_000_000])
    assert order(places).tolist() == [int(order(np.array([place]))[0]) for place in places]
    assert Permutation(40_000_000, 8)(places).tolist() != order(places).tolist()


def test_every_number_is_equally_likely_at_every_place() -> None:
    size = 12
    table = np.zeros((size, size), dtype=np.int64)
    for key in range(3_000):
        table[np.arange(size), Permutation(size, key)(np.arange(size))] += 1
    # Rows and columns are fixed, so (size - 1)^2 degrees of freedom.
    expected = 3_000 / size
    statistic = ((table - expected) ** 2 / expected).sum()
    assert LEVEL < stats.chi2.sf(statistic, (size - 1) ** 2) < 1 - LEVEL


def test_neighbours_do_not_stay_neighbours() -> None:
    order = Permutation(100_000, 3)(np.arange(100_000))
    assert abs(float(np.corrcoef(order[:-1], order[1:])[0, 1])) < 0.01
    assert abs(float(np.corrcoef(np.arange(100_000), order)[0, 1])) < 0.01
    # Distances between neighbours are those of random numbers: triangular, so that a fifth of the range gives 36%.
    assert abs(float((np.abs(np.diff(order)) < 20_000).mean()) - 0.36) < 0.01


# -- shares -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75])
def test_kinds_languages_and_pairs_have_their_shares(alpha: float) -> None:
    plan = plan_of(many_rows("S", 40_000, LANGUAGES), 4, alpha=alpha, seed=11)
    batches = parts_of(plan)
    assert len(batches) == 10_000
    mono = [parts for parts in batches if is_mono(parts)]
    cross = [parts for parts in batches if not is_mono(parts)]
    assert fits([len(mono), len(cross)], [alpha, 1 - alpha])
    assert fits(np.bincount([parts.query[0] for parts in mono], minlength=5))
    pairs = Counter(
        (q, p) for parts in cross for q, p in zip(parts.query.tolist(), parts.passage.tolist(), strict=True)
    )
    assert {*pairs} == {(q, p) for q, p in product(range(5), repeat=2) if q != p}
    assert fits(list(pairs.values()))
    # Kinds follow each other by chance: as many changes as independent draws have.
    changes = np.diff([is_mono(parts) for parts in batches]).sum()
    assert fits([changes, 9_999 - changes], [2 * alpha * (1 - alpha), 1 - 2 * alpha * (1 - alpha)])


def test_a_cross_lingual_batch_has_many_pairs_and_alpha_1_and_0_have_one_kind() -> None:
    source = many_rows("S", 20_000, LANGUAGES)
    for parts in parts_of(plan_of(source, 100, mode="x-y")):
        assert not is_mono(parts)
        assert len({*zip(parts.query.tolist(), parts.passage.tolist(), strict=True)}) > 15
    assert all(is_mono(parts) for parts in parts_of(plan_of(source, 100, mode="x-x-mono")))
    for mode, alpha in (("x-y", 0.0), ("x-x-mono", 1.0)):
        named, plain = plan_of(source, 100, mode=mode), plan_of(source, 100, alpha=alpha)
        assert (named.epoch(0).batch(7) == plain.epoch(0).batch(7)).all()


def test_same_language_pairs_mix_languages_within_a_batch() -> None:
    plan = plan_of(many_rows("S", 40_000, LANGUAGES), 4, mode="x-x", seed=3)
    batches = parts_of(plan)
    check(plan, batches)
    assert fits(np.bincount(np.concatenate([parts.query for parts in batches]), minlength=5))
    # Four independent languages are all the same in 5 of 5^4 batches.
    alike = sum(is_mono(parts) for parts in batches)
    assert fits([alike, len(batches) - alike], [1 / 125, 124 / 125])


def test_one_language_alone_leaves_out_sources_without_it() -> None:
    sources = [
        many_rows("A", 4_000, LANGUAGES),
        many_rows("B", 1_000, ["de", "fr"]),
        parallel("C", 500, ["en", "zh"], missing=0.4),
    ]
    plan = plan_of(sources, 10, mode="en-en")
    batches = parts_of(plan)
    check(plan, batches)
    assert plan.notes == ("not in 'en', so left out: B",)
    readable = np.logical_and(*(each[:, 0] for each in sources[2].readable(np.arange(500)))).sum()
    assert plan.batches == {"A": 400, "B": 0, "C": readable // 10}
    codes = {sources[int(parts.source[0])].languages[parts.query[0]] for parts in batches}
    assert codes == {"en"}
    assert {*parts_of(plan_of(sources, 10, mode="en-en", language="fr"))[0].source.tolist()} == {1}


def test_sources_come_in_proportion_to_their_size() -> None:
    sources = [many_rows(f"S{n}", n, LANGUAGES) for n in (1_000, 30_000, 9_000)]
    plan = plan_of(sources, 4, seed=5)
    assert plan.batches == {"S1000": 250, "S30000": 7_500, "S9000": 2_250}
    drawn = [int(parts.source[0]) for parts in parts_of(plan)]
    assert np.bincount(drawn).tolist() == [250, 7_500, 2_250]
    # In a random order: every tenth of the epoch has about its share of each, less varied than independent draws are.
    for tenth in np.split(np.array(drawn), 10):
        assert fits(np.bincount(tenth, minlength=3), [0.025, 0.75, 0.225])
    changes = int((np.diff(drawn) != 0).sum())
    apart = 1 - (0.025**2 + 0.75**2 + 0.225**2)
    assert fits([changes, 9_999 - changes], [apart, 1 - apart])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_sources_in_one_language_take_part_in_monolingual_training_alone(alpha: float) -> None:
    sources = [many_rows("M", 20_000, LANGUAGES), many_rows("E", 30_000, ["en"]), many_rows("N", 30_000, ["de", "en"])]
    plan = plan_of(sources, 4, alpha=alpha, seed=2)
    drawn = [(int(parts.source[0]), is_mono(parts)) for parts in parts_of(plan)]
    count = len(drawn)
    mono = sum(one for _, one in drawn)
    english = sum(source == 1 for source, _ in drawn)
    # A share alpha is monolingual, 3/8 of it in the source in one language; what is left, 2:3 in the others.
    if alpha in {0.0, 1.0}:
        assert (mono, english) == (count * alpha, count * alpha * 3 / 8)
    else:
        assert fits([mono, count - mono], [alpha, 1 - alpha])
        assert fits([english, count - english], [alpha * 3 / 8, 1 - alpha * 3 / 8])
    others = Counter(source for source, one in drawn if not one)
    assert others[1] == 0
    if alpha < 1:
        assert fits([others[0], others[2]], [0.4, 0.6])
        assert plan.notes[0].startswith("in one language, so left out of cross-lingual batches: E; an epoch has ")
    else:
        assert plan.notes == ()
    assert abs(plan.monolingual - alpha) < 1e-3  # from whole numbers of batches
    # The other sources are gone through once.
    assert (plan.batches["M"], plan.batches["N"]) == (5_000, 7_500)


def test_sources_in_one_language_can_be_kept_as_they_are() -> None:
    sources = [many_rows("M", 20_000, LANGUAGES), many_rows("E", 20_000, ["en"])]
    plan = plan_of(sources, 4, alpha=0.5, keep_single=True)
    assert plan.batches == {"M": 5_000, "E": 5_000}
    mono = sum(is_mono(parts) for parts in parts_of(plan))
    assert fits([mono, 10_000 - mono], [0.75, 0.25])
    assert plan.monolingual == 0.75
    assert plan.notes == ("in one language, so always monolingual: E; 75% of all batches are",)
    assert plan_of(sources, 4, alpha=0, keep_single=True).batches["E"] == 5_000


# -- rows and groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 32, 100])
def test_every_row_comes_once_but_for_a_rest_that_changes(size: int) -> None:
    plan = plan_of([parallel("A", 530, LANGUAGES), parallel("B", 317, LANGUAGES)], size)
    left_out = []
    for epoch in range(3):
        batches = parts_of(plan, epoch)
        check(plan, batches)
        seen = [
            (int(source), int(row)) for parts in batches for source, row in zip(parts.source, parts.row, strict=True)
        ]
        assert len(seen) == len({*seen}) == (530 // size + 317 // size) * size
        left_out.append({*product((0, 1), range(530))} - {*seen})
    assert size == 1 or left_out[0] != left_out[1] != left_out[2]


@pytest.mark.parametrize(("size", "groups"), [(32, 486), (100, 300), (400, 486), (486, 486), (10, 11)])
def test_no_two_of_a_group_meet_in_small_dense_sources(size: int, groups: int) -> None:
    """As many rows as XQuAD-R has questions, in groups as uneven as its answers."""
    rng = np.random.default_rng(size)
    weights = 1 / np.arange(1, groups + 1) ** 0.5
    rest = rng.choice(groups, 1190 - groups, p=weights / weights.sum())
    source = parallel("S", 1190, ("de", "en"), groups=rng.permutation(np.concatenate([np.arange(groups), rest])))
    plan = plan_of(source, size)
    for epoch in range(2):
        batches = parts_of(plan, epoch)
        check(plan, batches)
        rows = np.concatenate([parts.row for parts in batches])
        # A group can come once in a batch: what it has beyond the number of batches must be left out.
        most = np.minimum(np.unique(source.group_of(np.arange(1190)), return_counts=True)[1], len(batches)).sum()
        assert len({*rows.tolist()}) >= min(len(rows), most) * 0.97


def test_hard_negatives_answer_no_other_query_of_the_batch() -> None:
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 200, 1_000)
    source = parallel("S", 1_000, LANGUAGES, negatives=2, groups=groups, missing=0.05)
    numbers = source.group_of(np.arange(1_000))
    first = np.where(rng.random(1_000) < 0.2, -1, rng.choice(numbers, 1_000))
    known = replace(source, negative_groups=(np.where(first == numbers, -1, first), None))
    plan = plan_of(known, 16)
    for epoch in range(2):
        check(plan, parts_of(plan, epoch))
    # Without being told, they do.
    with pytest.raises(AssertionError):
        check(plan_of(known, 16), [part._replace() for part in parts_of(plan_of(source, 16))])


def test_a_row_whose_negative_is_its_own_answer_is_not_used() -> None:
    source = parallel("S", 200, ("de", "en"), negatives=1)
    rows = np.arange(200)
    plan = plan_of(replace(source, negative_groups=(np.where(rows < 50, rows, -1),)), 10)
    batches = parts_of(plan)
    check(plan, batches)
    assert min(int(parts.row.min()) for parts in batches) == 50


def test_negatives_that_leave_no_full_batch_are_put_up_with() -> None:
    """Every negative answers all other queries: a batch as it should be would have one item."""
    source = parallel("S", 6, ("de", "en"), negatives=1, groups=np.array([0, 1, 0, 1, 0, 1]))
    groups = source.group_of(np.arange(6))
    plan = plan_of(replace(source, negative_groups=(1 - groups,)), 2)
    for parts in parts_of(plan):
        assert sorted(source.group_of(parts.row).tolist()) == [0, 1]


@pytest.mark.parametrize("mode", ["hybrid", "x-x-mono", "x-y", "x-x", "en-en"])
@pytest.mark.parametrize("missing", [0.02, 0.3, 0.6])
def test_what_has_no_translation_is_not_asked_for(mode: str, missing: float) -> None:
    source = parallel("S", 2_000, LANGUAGES, missing=missing, negatives=1, groups=np.arange(2_000) // 3)
    plan = plan_of(source, 16, mode=mode)
    batches = parts_of(plan)
    check(plan, batches)
    if missing < 0.1 and mode != "en-en":
        rows = np.concatenate([parts.row for parts in batches])
        assert len(np.unique(rows)) > 0.99 * len(rows)


def test_pairs_that_a_row_has_are_equally_likely() -> None:
    """Half of the rows have no Arabic query: their pairs are drawn among the other languages."""
    table = parallel("S", 2_000, LANGUAGES)
    lacking = replace(table, queries={**table.queries, "ar": parallel("S", 2_000, ["ar"], missing=0.5).queries["ar"]})
    plan = plan_of(lacking, 10, mode="x-y")
    asked, _ = lacking.readable(np.arange(2_000))
    pairs: Counter[tuple[bool, int, int]] = Counter()
    for epoch in range(10):
        for parts in parts_of(plan, epoch):
            for row, q, p in zip(parts.row.tolist(), parts.query.tolist(), parts.passage.tolist(), strict=True):
                pairs[bool(asked[row, 0]), q, p] += 1
    whole = [count for (has, _, _), count in pairs.items() if has]
    partly = [count for (has, _, _), count in pairs.items() if not has]
    assert (len(whole), len(partly)) == (20, 16)
    assert fits(whole)
    assert fits(partly)


def test_a_language_that_few_rows_have_still_gets_its_share() -> None:
    """So few that they are listed, in a source too large for all its rows to be looked at first."""
    rows = 200_000
    few = np.random.default_rng(0).choice(rows, 300, replace=False)
    texts = np.full(rows, None, dtype=object)
    texts[few] = "text in sw"
    sparse = Column(pa.chunked_array([pa.array(texts.tolist(), pa.string())]))
    full = Column(pa.chunked_array([pa.array(["a text"] * rows)]))
    source = ParallelTexts("S", {"de": full, "sw": sparse}, {"de": full, "sw": full})
    plan = plan_of(source, 100, mode="x-x-mono")
    batches = parts_of(plan)
    check(plan, batches[:200])
    swahili = [parts for parts in batches if parts.query[0] == 1]
    assert fits([len(swahili), len(batches) - len(swahili)])
    assert {row for parts in swahili for row in parts.row.tolist()} == {*few.tolist()}
    with pytest.raises(RequestError, match=r"S has 300 groups of rows with query and passage in 'sw', but"):
        plan_of(source, 301, mode="x-x-mono")


def test_gaps_at_equal_distances_do_not_mislead() -> None:
    """Of more rows than are looked at, every tenth has no query: a tenth fewer batches, and no row twice."""
    rows = 655_360
    texts = [None if row % 10 == 0 else "a text" for row in range(rows)]
    full = Column(pa.chunked_array([pa.array(["a text"] * rows)]))
    gaps = Column(pa.chunked_array([pa.array(texts, pa.string())]))
    plan = plan_of(ParallelTexts("S", {"de": gaps, "en": gaps}, {"de": full, "en": full}), 1_000)
    assert abs(plan.steps - 590) <= 3
    drawn = np.concatenate([parts.row for parts in parts_of(plan)])
    assert (drawn % 10 > 0).all()
    assert len(np.unique(drawn)) > 0.99 * len(drawn)


# -- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_batches_in_any_order() -> None:
    sources = [parallel("A", 3_000, LANGUAGES, missing=0.1, groups=np.arange(3_000) // 2), many_rows("B", 900, ["en"])]
    one, two = plan_of(sources, 12, seed=9).epoch(1), plan_of(sources, 12, seed=9).epoch(1)
    steps = plan_of(sources, 12, seed=9).steps
    forwards = [one.batch(step).tolist() for step in range(steps)]
    backwards = [two.batch(step).tolist() for step in reversed(range(steps))]
    assert forwards == backwards[::-1]
    assert plan_of(sources, 12, seed=9).epoch(1).batch(steps - 1).tolist() == forwards[-1]


def test_several_threads_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a DataLoader does that has several workers: each is sent its batches by a thread of its own."""
    # Little that is kept, and threads that take turns all the time: without a lock this goes wrong every time.
    for name, number in (("_STEPS", 8), ("_BLOCK_ROWS", 16), ("_BLOCK_BATCHES", 1)):
        monkeypatch.setattr(sampling, name, number)
    plan = plan_of([many_rows("A", 300, ("de", "en")), many_rows("B", 600, ("en", "de"))], 1)
    order = np.random.default_rng(0).integers(0, plan.steps, 300).tolist()
    alone, together = plan.epoch(0), plan.epoch(0)
    expected = [alone.batch(step).tolist() for step in order]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert [batch.tolist() for batch in pool.map(together.batch, order)] == expected
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(("seed", "epoch"), [(10, 1), (9, 0), (9, 2), (-9, 1)])
def test_another_seed_or_epoch_gives_others(seed: int, epoch: int) -> None:
    source = parallel("A", 3_000, LANGUAGES)
    one, two = plan_of(source, 12, seed=9).epoch(1), plan_of(source, 12, seed=seed).epoch(epoch)
    alike = sum(
        {*one.batch(step).tolist()} & {*two.batch(step).tolist()} != set() for step in range(plan_of(source, 12).steps)
    )
    # Two independent batches of 12 have a row in common in one of 21, and its languages in about one of 25.
    assert alike < 10


def test_steps_beyond_a_chunk_are_counted_on() -> None:
    """The sources of 65,536 steps are computed together; what comes behind must go on from there."""
    plan = plan_of([many_rows("A", 100_000, ["de", "en"]), many_rows("B", 50_000, ["de", "en"])], 1)
    jumped = plan.epoch(0)
    at = [149_999, 65_536, 131_072, 65_535]
    found = [jumped.source(step) for step in at]
    walked = plan.epoch(0)
    counts = [0, 0]
    expected = {}
    for step in range(plan.steps):
        source, number = walked.source(step)
        assert number == counts[source]
        counts[source] += 1
        expected[step] = source, number
    assert counts == [100_000, 50_000]
    assert found == [expected[step] for step in at]


# -- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mode": "hybird"}, "unknown sampling mode \"hybird\": did you mean 'hybrid'?"),
        ({"alpha": 1.5}, "alpha is 1.5: give the share of monolingual batches, from 0 to 1"),
        ({"alpha": -0.1}, "alpha is -0.1: give the share of monolingual batches, from 0 to 1"),
        ({"alpha": float("nan")}, "alpha is nan: give the share of monolingual batches, from 0 to 1"),
        ({"alpha": "half"}, 'alpha is "half": give a number from 0 to 1'),
        ({"alpha": True}, "alpha is true: give a number from 0 to 1"),
        ({"mode": "x-y", "alpha": 0.5}, "mode 'x-y' is alpha = 0, but alpha is 0.5: leave it out, or take 'hybrid'"),
        ({"mode": "x-x", "alpha": 0.5}, "mode 'x-x' has no alpha, but it is 0.5: leave it out"),
    ],
)
def test_a_way_of_sampling_that_is_none_is_refused_in_one_line(how: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as error:
        Sampling(**how)  # type: ignore[arg-type] # the point of it
    assert str(error.value) == message


FEW = parallel("A", 90, ["en"], missing=0.9).queries["en"]
CASES: dict[str, tuple[Sequence[ParallelTexts], int, dict[str, Any], str]] = {
    "one language only": (
        [many_rows("A", 90, ["en"]), many_rows("B", 90, ["de"])],
        4,
        {"alpha": 0.5},
        "alpha is 0.5, but every source is in one language: A (en), B (de); give alpha = 1, or a source in two",
    ),
    "a batch larger than the rows": (
        [many_rows("A", 90, LANGUAGES)],
        91,
        {},
        "A has 90 groups of rows with query and passage in 'ar', but a batch takes 91, all of different groups: give a "
        "batch size of at most 90 (over all devices together), or leave the language out",
    ),
    "a batch larger than the groups": (
        [parallel("A", 90, ["de", "en"], groups=np.arange(90) // 3)],
        31,
        {"mode": "x-y"},
        "A has 30 groups of rows in two different languages, but a batch takes 31, all of different groups: give a "
        "batch size of at most 30 (over all devices together), or leave the source out",
    ),
    "one language has too few": (
        [
            replace(
                parallel("A", 90, ["de", "en"]),
                queries={"de": parallel("A", 90, ["de"]).queries["de"], "en": FEW},
            )
        ],
        20,
        {},
        "A has 11 groups of rows with query and passage in 'en', but a batch takes 20, all of different groups: give a "
        "batch size of at most 11 (over all devices together), or leave the language out",
    ),
    "another language": ([many_rows("A", 90, ["de"])], 4, {"mode": "en-en"}, "no source is in 'en': known: de"),
    "no size": ([many_rows("A", 90, ["de"])], 0, {"alpha": 1}, "the batch size is 0: give at least 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_drawn_is_refused_in_one_line(case: str) -> None:
    assert sum(text != "" for text in FEW) == 11
    sources, size, how, message = CASES[case]
    with pytest.raises(RequestError) as error:
        plan_of(sources, size, **how)
    assert str(error.value) == message


def test_a_language_in_which_no_row_has_both_is_refused() -> None:
    """Queries in one half of the rows, passages in the other."""
    source = parallel("A", 90, ["de", "en"])
    first, last = np.arange(90), np.arange(90)
    halves = replace(source, query_rows=np.where(first < 45, first, -1), passage_rows=np.where(last >= 45, last, -1))
    with pytest.raises(RequestError) as error:
        plan_of(halves, 4)
    assert str(error.value) == "A: no row has texts with query and passage in 'de': leave it out, or add them"


# -- any source -------------------------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    """One or two sources of any shape, with whatever batch they allow."""
    sources = []
    for name in draw(st.sampled_from([["A"], ["A", "B"]])):
        rows = draw(st.integers(6, 150))
        codes = draw(st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=4, unique=True))
        groups = np.array(draw(st.lists(st.integers(0, 60), min_size=rows, max_size=rows)))
        missing = draw(st.sampled_from([0.0, 0.0, 0.1, 0.4]))
        sources.append(parallel(name, rows, codes, missing=missing, groups=groups, seed=draw(st.integers(0, 9))))
    mode = draw(st.sampled_from(["hybrid", "x-x-mono", "x-y", "x-x"]))
    alpha = draw(st.sampled_from([0.0, 0.3, 1.0])) if mode == "hybrid" else None
    keep = draw(st.booleans())
    size = draw(st.integers(1, 24))
    while True:
        try:
            return plan_of(sources, size, mode=mode, alpha=alpha, keep_single=keep, seed=draw(st.integers(0, 9)))
        except RequestError:
            if size == 1:  # one language, or nothing in one of them
                mode, alpha, sources = "x-x-mono", None, [parallel("A", 20, LANGUAGES)]
            size = max(1, size // 2)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(plans())
def test_every_batch_of_every_plan_is_as_promised(plan: BatchPlan) -> None:
    for epoch in range(2):
        batches = parts_of(plan, epoch)
        if plan.sampling.keep_single:
            single = [len(source.languages) == 1 for source in plan.items.sources]
            check(plan, [parts for parts in batches if not single[int(parts.source[0])]])
        else:
            check(plan, batches)
