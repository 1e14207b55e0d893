"""How far a long piece of work is: a bar on a terminal; elsewhere, as in a log, a line a minute."""

from __future__ import annotations

import sys
import time
from typing import Any, ClassVar

__all__ = ["Progress"]


class Progress:
    """Tells on stderr what is done, at what rate, and how long the rest will take.

    What is over within a second is not told of on a terminal, nor what is over within a minute elsewhere. However many
    there are at a time, there is one line a minute.

    Args:
        total: How much there is to do; None if that is not known.
        what: What is done, e.g. ``Encoding passages``.
        unit: What is counted, e.g. ``texts``.
        done: How much was done before.
    """

    #: From one line to the next, where stderr is no terminal.
    seconds: ClassVar[float] = 60.0
    #: What is over by then has no bar on a terminal.
    delay: ClassVar[float] = 1.0
    _last: ClassVar[float] = 0.0

    def __init__(self, total: int | None, what: str, unit: str, done: int = 0) -> None:
        from tqdm import tqdm

        self.total, self.what, self.unit = total, what, unit
        self._before = self._done = done
        self._start = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=what,
                unit=f" {unit}",
                unit_scale=True,
                file=sys.stderr,
                leave=False,
                delay=self.delay,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, more: int, each: int = 1) -> None:
        """So many more are done, each of which counts for so much."""
        self._done += more * each
        if self._bar is not None:
            self._bar.update(more * each)
            return
        now = time.monotonic()
        if now - max(self._start, Progress._last) >= self.seconds:
            Progress._last = now
            print(self._line(now - self._start), file=sys.stderr, flush=True)

    def about(self, text: str) -> None:
        """Which part of it is at hand; shown beside a bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def _line(self, passed: float) -> str:
        rate = (self._done - self._before) / passed
        each = f"{rate:,.0f} a second" if rate >= 1 else f"{rate * 60:,.1f} a minute"
        if self.total is None:
            return f"{self.what}: {self._done:,} {self.unit}, {each}"
        share = f"{self._done:,} of {self.total:,} {self.unit} ({self._done / max(self.total, 1):.0%})"
        left = f", {_duration((self.total - self._done) / rate)} left" if rate > 0 else ""
        return f"{self.what}: {share}, {each}{left}"


def _duration(seconds: float) -> str:
    """A time as a person says it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
