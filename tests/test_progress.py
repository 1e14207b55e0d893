"""What is told of long work: on a terminal, and where nobody looks, such as a log."""

from __future__ import annotations

import io
import sys

import pytest

from hybrid_bench import progress
from hybrid_bench.progress import Progress


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.setattr(Progress, "_last", 0.0)
    return made


def test_a_log_gets_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(12_000, "Encoding passages", "texts") as work:
        for _ in range(100):  # a text in 50 ms, told by hundreds: ten minutes
            clock.now += 5.0
            work.update(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Encoding passages: 1,200 of 12,000 texts (10%), 20 a second, 9 min left"
    assert lines[1] == "Encoding passages: 2,400 of 12,000 texts (20%), 20 a second, 8 min left"
    assert lines[-1] == "Encoding passages: 9,600 of 12,000 texts (80%), 20 a second, 2 min left"
    assert len(lines) == 8


def test_works_within_works_share_the_line_of_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1000, "outer", "rows") as outer:
        for _ in range(1000):
            with Progress(10, "inner", "texts") as inner:
                for _ in range(10):
                    clock.now += 0.1
                    inner.update(1)
            outer.update(1)
    assert len(lines := capsys.readouterr().err.splitlines()) == 1000 // 60
    assert {line.partition(":")[0] for line in lines} == {"outer"}  # no inner one takes a minute


def test_what_is_over_within_a_minute_is_not_told(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, "Ranking", "queries") as work:
        for _ in range(59):
            clock.now += 1.0
            work.update(1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("amounts", "line"),
    [
        ((None, 0, 600), "x: 600 bytes, 10 a second"),
        ((10, 0, 1), "x: 1 of 10 bytes (10%), 1.0 a minute, 9 min left"),
        ((1000, 900, 60), "x: 960 of 1,000 bytes (96%), 1 a second, 40 s left"),
        ((10_000, 0, 60), "x: 60 of 10,000 bytes (1%), 1 a second, 2 h 46 min left"),
    ],
)
def test_what_is_left_follows_from_the_rate(
    amounts: tuple[int | None, int, int], line: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    total, before, done = amounts
    with Progress(total, "x", "bytes", before) as work:
        clock.now += 60.0
        work.update(done // 2, each=2) if done % 2 == 0 else work.update(done)
    assert capsys.readouterr().err == f"{line}\n"


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_goes_and_none_for_what_is_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    for _ in range(100):
        with Progress(10, "Encoding passages", "texts") as work:
            work.update(10)
    assert shown.getvalue().strip() == ""
