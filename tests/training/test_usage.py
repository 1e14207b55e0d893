"""What a plan makes of its rows: held against the definition, row by row, and against what its batches hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hybrid_bench.training import usage
from hybrid_bench.training.sampling import BatchPlan, Sampling
from hybrid_bench.training.texts import Items, ParallelTexts
from hybrid_bench.training.usage import usage_of
from parallel_texts import many_rows, parallel

CODES = ("de", "en", "fr")
HOW: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "x-y": {"mode": "x-y"},
    "x-x-mono": {"mode": "x-x-mono"},
    "x-x": {"mode": "x-x"},
    "en-en": {"mode": "en-en"},
}


def gaps(seed: int) -> ParallelTexts:
    """Some texts are missing, and some hard negatives answer the query that they stand beside."""
    source = parallel("S", 400, CODES, missing=0.35, negatives=2, seed=seed)
    rows = np.arange(400)
    return replace(source, negative_groups=(np.where(rows % 9 == 0, rows, -1), None))


def usable(source: ParallelTexts, row: int, how: Sampling) -> bool:
    """Whether there is a pair of languages in which a batch can have this row."""

    def there(role: str, code: str) -> bool:
        return bool(source.texts(role, code, np.array([row]))[0].strip())

    if any(numbers is not None and numbers[row] == row for numbers in source.negative_groups):
        return False
    for query, passage in product(source.languages, repeat=2):
        if how.mode == "en-en" and (query, passage) != ("en", "en"):
            continue
        if (how.mode in {"x-x", "x-x-mono"} and query != passage) or (how.mode == "x-y" and query == passage):
            continue
        if there("query", query) and all(there(role, passage) for role in source.roles[1:]):
            return True
    return False


def rows_drawn(plan: BatchPlan, number: int) -> Counter[int]:
    """How often an epoch draws each row."""
    epoch = plan.epoch(number)
    return Counter(row for step in range(plan.steps) for row in plan.items.decode(epoch.batch(step)).row.tolist())


@pytest.mark.parametrize("how", HOW)
def test_rows_that_no_batch_can_have_are_counted(how: str) -> None:
    source, sampling = gaps(1), Sampling(**HOW[how])
    plan = BatchPlan(Items([source]), 4, sampling, seed=0)
    (found,) = usage_of(plan)
    expected = {row for row in range(len(source)) if usable(source, row, sampling)}
    assert (found.rows, found.usable) == (400, len(expected))
    assert 0 < found.usable < 400
    assert set(found.left_out) >= {"no passage", "no negative 2", "a hard negative that is the answer"}
    drawn: Counter[int] = Counter()
    for number in range(8):
        now = rows_drawn(plan, number)
        if number == 0:
            assert (found.drawn, found.different) == (now.total(), len(now))
            assert found.repeated == sum(count - 1 for count in now.values())
        drawn += now
    assert set(drawn) <= expected
    assert len(drawn) > 0.9 * len(expected)


def test_the_first_thing_that_a_row_lacks_is_the_reason() -> None:
    rows = [
        {
            "query_en": "a",
            "passage_en": "A",
            "query_de": "a",
            "passage_de": "A",
            "negative_1_en": "x",
            "negative_2_en": "y",
        },
        {"passage_en": "B", "passage_de": "B", "negative_1_en": "x", "negative_2_en": "y"},
        {"query_en": "c", "passage_en": "  ", "negative_1_en": "x"},
        {"query_en": "d", "passage_en": "D", "negative_2_en": "y"},
        {"query_en": "e", "passage_en": "E", "negative_1_en": "x", "negative_2_en": " "},
        {"query_de": "f", "passage_de": "F", "negative_1_en": "x", "negative_2_en": "y"},
        {"query_en": "g", "passage_en": "G", "negative_1_en": "x", "negative_2_en": "y"},
        {"query_de": "h", "passage_en": "H", "negative_1_en": "x", "negative_2_en": "y"},
        {"query_en": "i", "passage_en": "I", "negative_1_en": "x", "negative_2_en": "y"},
    ]
    more = {f"negative_{k}_de": "x" for k in (1, 2)}
    table = pa.Table.from_pylist([{**rows[0], **more}, *rows[1:]])
    source = ParallelTexts.from_table("S", table)
    reasons = {"no query": 1, "no passage": 1, "no negative 1": 1, "no negative 2": 1}
    for how, others in (
        # In German, no passage but the first row's has its negatives.
        ({"mode": "x-y"}, {"no translation": 2}),
        ({"mode": "x-x"}, {"no translation": 1}),
        ({"mode": "en-en"}, {"not whole in 'en'": 1}),
    ):
        (found,) = usage_of(BatchPlan(Items([source]), 2, Sampling(**how), seed=0))  # type: ignore[arg-type] # strings
        lacking = dict(found.left_out)
        negatives = lacking.pop("no negative 1")
        assert negatives == 2, "row d, and row f, whose passage stands without any in German"
        assert lacking == {**{name: count for name, count in reasons.items() if name != "no negative 1"}, **others}
        assert found.lines()[0].startswith(
            f"S: {9 - found.usable} of 9 rows are in no batch: no query (1), no passage (1), no negative 1 (2), "
        )


def test_a_source_that_gives_no_batch() -> None:
    sources = [parallel("A", 40, CODES), parallel("B", 30, ("fr",))]
    cross = usage_of(BatchPlan(Items(sources), 4, Sampling("x-y"), seed=0))
    assert [(each.source, each.usable, each.drawn) for each in cross] == [("A", 40, 40), ("B", 0, 0)]
    assert cross[1].lines() == ("B: 30 of 30 rows are in no batch: in one language alone (30)",)
    english = usage_of(BatchPlan(Items(sources), 4, Sampling("en-en"), seed=0))
    assert english[1].left_out == {"no text in 'en'": 30}
    assert usage_of(BatchPlan(Items(sources), 4, Sampling(), seed=0))[1].left_out == {}


def test_rows_that_come_again_are_told() -> None:
    """Groups of many rows: a batch takes one of each."""
    source = parallel("S", 992, CODES, groups=np.arange(992) % 40)
    plan = BatchPlan(Items([source]), 32, Sampling(), seed=0)
    (found,) = usage_of(plan)
    counts = rows_drawn(plan, 0)
    assert found.repeated == sum(counts.values()) - len(counts)
    assert found.usable == 992
    told = f"S: of 992 rows that an epoch draws, {found.repeated} come again, as too few others fit together in a batch"
    assert found.lines() == ((told,) if found.repeated else ())


def test_nothing_is_told_where_every_row_is_used_once() -> None:
    (found,) = usage_of(BatchPlan(Items([many_rows("S", 30_000_000, CODES)]), 100, Sampling(), seed=0))
    assert (found.usable, found.drawn, found.different, found.repeated) == (30_000_000, 30_000_000, 30_000_000, 0)
    assert found.lines() == ()


def test_of_a_long_epoch_repeats_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MOST_DRAWN", 399)
    monkeypatch.setattr(usage, "_PIECE", 64)
    plan = BatchPlan(Items([gaps(1), parallel("whole", 300, CODES)]), 4, Sampling(), seed=0)
    first, second = usage_of(plan)
    assert (first.different, first.repeated) == (None, None)
    assert second.different == 300
    assert first.left_out == usage_of(BatchPlan(Items([gaps(1)]), 4, Sampling(), seed=0))[0].left_out
