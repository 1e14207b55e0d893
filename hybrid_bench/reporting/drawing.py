"""What every drawing needs, on paper and on a page: colours, scales, ticks, shares, and places for labels.

Nothing here knows a format: `plots` draws with matplotlib, `svg` and `html` write a page. Colours are told apart by
people with any of the common forms of colour blindness, and never carry a meaning alone: lines differ in dashes, points
in shape, cells hold their number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.errors import one_line
from hybrid_bench.reporting.elements import Bar

__all__ = [
    "DIVERGING",
    "SEQUENTIAL",
    "SERIES",
    "Box",
    "Scale",
    "axis_ends",
    "bar_range",
    "contrast",
    "file_names",
    "ink",
    "linear_ticks",
    "log_ticks",
    "number",
    "place_labels",
    "shares",
    "size_steps",
    "wrapped",
]

#: Okabe and Ito's colours, those that are dark enough for lines on white first.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")

#: Viridis at 17 equal steps: dark is low, bright is high, also in grey.
SEQUENTIAL = (
    "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e", "#21918c",
    "#1fa088", "#28ae80", "#3fbc73", "#5ec962", "#84d44b", "#addc30", "#d8e219", "#fde725",
)  # fmt: skip

#: ColorBrewer's RdBu at its 11 steps: red is below 0, blue above; the same lightness at the same distance from 0.
DIVERGING = (
    "#67001f", "#b1182b", "#d6604d", "#f3a481", "#fddbc7", "#f6f7f7", "#d1e5f0", "#90c4dd", "#4393c3", "#2065ab",
    "#053061",
)  # fmt: skip


# -- colours ------------------------------------------------------------------------------------------------------


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it, from 1, the same, to 21, black on white."""

    def luminance(colour: str) -> float:
        linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _rgb(colour))
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    darker, brighter = sorted((luminance(one), luminance(other)))
    return (brighter + 0.05) / (darker + 0.05)


def ink(background: str) -> str:
    """Black or white, whichever is read better on this colour; the contrast is 4.58 or more on any."""
    return max("#000000", "#ffffff", key=lambda colour: contrast(colour, background))


@dataclass(frozen=True)
class Scale:
    """The colours of a heat map.

    Attributes:
        low: Value of the first colour.
        high: Value of the last one.
        colours: Equally spaced colours between which values are mixed.
    """

    low: float
    high: float
    colours: tuple[str, ...] = SEQUENTIAL

    @classmethod
    def of(cls, values: ArrayLike, diverging: bool = False) -> Scale:
        """The scale that these values fill; one of differences reaches as far below 0 as above. NaN takes no part."""
        present = np.asarray(values, dtype=np.float64)
        present = present[np.isfinite(present)]
        if diverging:
            bound = float(np.abs(present).max(initial=0.0)) or 1.0
            return cls(-bound, bound, DIVERGING)
        return cls(float(present.min()), float(present.max())) if len(present) else cls(0.0, 1.0)

    def place(self, value: float) -> float:
        """Where a value stands, from 0 to 1; in the middle if all values are equal."""
        if self.high == self.low:
            return 0.5
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def colour(self, place: float) -> str:
        """The colour at a place from 0 to 1."""
        position = place * (len(self.colours) - 1)
        below = min(int(position), len(self.colours) - 2)
        share = position - below
        ends = zip(_rgb(self.colours[below]), _rgb(self.colours[below + 1]), strict=True)
        return "#" + "".join(f"{round(255 * ((1 - share) * first + share * last)):02x}" for first, last in ends)


# -- numbers and text ---------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A number for people, to four digits and not rounded before the point: ``0.05``, ``1,240``, ``13,014``."""
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.3g}"
    decimals = max(3 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters; names are broken behind ``/ - _ , =`` where they can be, nothing is lost."""
    lines = [""]
    for part in re.findall(r"[^\s/_,=-]*[\s/_,=-]?", one_line(text)):
        rest = part
        while len(lines[-1]) + len(rest.rstrip()) > width:
            if lines[-1]:
                lines.append("")
            elif len(rest.rstrip()) > width:
                lines[-1], rest = rest[:width], rest[width:]
        lines[-1] += rest
    return [line.strip() for line in lines]


def file_names(names: Iterable[str]) -> list[str]:
    """Names that any file system and any anchor takes, all different whether or not case counts, in the order given."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:100] or "unnamed"
        numbered = (f"{plain}-{count}" if count > 1 else plain for count in range(1, len(taken) + 2))
        free = next(candidate for candidate in numbered if candidate.casefold() not in taken)
        taken.add(free.casefold())
        found.append(free)
    return found


# -- axes ---------------------------------------------------------------------------------------------------------


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most this many round numbers from `low` to `high`, both included where they are round."""
    if not high > low:
        return [low]
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def axis_ends(values: Sequence[float], room: float, logarithmic: bool = False) -> tuple[float, float]:
    """Ends of an axis: the values, and room for symbols and labels at the rim, as a share of what lies between."""
    if logarithmic:
        low, high = axis_ends([math.log(value) for value in values], room)
        return math.exp(low), math.exp(high)
    low, high = min(values, default=0.0), max(values, default=1.0)
    more = room * ((high - low) or abs(high) or 1.0)
    return low - more, high + more


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`; with 2 and 5 between them where there would be fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [factor * 10.0**power for power, factor in product(powers, factors)]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) >= 3:
            return ticks
    return ticks


def size_steps(largest: float) -> list[float]:
    """Three round numbers up to `largest`, largest first: examples of areas."""
    power = 10.0 ** math.floor(math.log10(largest))
    top = max(factor * power for factor in (1, 2, 5) if factor * power <= largest * (1 + 1e-9))
    return [top, *(round(top * share, 12) for share in (0.5, 0.2))]


def shares(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The empirical distribution function: different values, ascending, and the share of values up to each.

    Raises:
        ValueError: If a value is not positive and finite, which a logarithmic axis cannot show.
    """
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError("a distribution on a logarithmic axis takes positive, finite values")
    found, counts = np.unique(values, return_counts=True)
    return found, np.cumsum(counts) / max(len(values), 1)


def bar_range(bars: Iterable[Bar | None]) -> tuple[float, float]:
    """Least and greatest number that an axis of bars has to show: 0, the values, and the ends of their intervals."""
    ends = [end for bar in bars if bar is not None for end in bar if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return low, high if high > low else low + 1


# -- places for labels --------------------------------------------------------------------------------------------


Line = tuple[tuple[float, float], tuple[float, float]]


class Box(NamedTuple):
    """A rectangle; y grows in whichever direction the caller's does."""

    left: float
    low: float
    right: float
    high: float

    def overlap(self, other: Box) -> float:
        """Area in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        along = min(self.high, other.high) - max(self.low, other.low)
        return across * along if across > 0 and along > 0 else 0.0

    def crossed(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        """Length of a line's part within the rectangle (Liang and Barsky's clipping)."""
        enter, leave = 0.0, 1.0
        for begin, finish, low, high in zip(start, end, (self.left, self.low), (self.right, self.high), strict=True):
            step = finish - begin
            if step == 0:
                if not low < begin < high:
                    return 0.0
                continue
            near, far = sorted(((low - begin) / step, (high - begin) / step))
            enter, leave = max(enter, near), min(leave, far)
        return max(leave - enter, 0.0) * math.dist(start, end)


def place_labels(
    points: Sequence[tuple[float, float]],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    *,
    bounds: Box,
    lines: Sequence[Line] = (),
    gap: float = 2.0,
) -> list[Box]:
    """Where labels stand so that they cover neither each other, nor points, nor lines, as far as there is room.

    Each label is tried in twelve directions and at seven distances from its point; the place that covers least is
    taken, the nearest of equal ones. Three rounds, so that early labels make way for later ones.

    Args:
        points: Centres.
        radii: How far the points' symbols reach.
        sizes: Width and height of the labels.
        bounds: What labels may not leave; one that is larger may.
        lines: What labels should not stand on.
        gap: Room between symbol and label, and the measure of the distances.

    Returns:
        A box for each label.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for (x, y), radius in zip(points, radii, strict=True)]
    # Right, left, above and below, then between.
    angles = [math.radians(degrees) for degrees in (0, 180, 90, 270, 45, 135, 315, 225, 20, 160, 340, 200)]

    def candidates(place: int) -> Iterable[tuple[Box, float]]:
        (x, y), radius, (width, height) = points[place], radii[place], sizes[place]
        for ring, (order, angle) in product((1, 3, 6, 10, 15, 21, 28), enumerate(angles)):
            reach = radius + gap * ring
            across, along = math.cos(angle), math.sin(angle)
            # The label's nearest point lies on the circle of this reach.
            left = x + reach * across - width * (1 - across) / 2
            low = y + reach * along - height * (1 - along) / 2
            yield Box(left, low, left + width, low + height), ring * 2 + order * 0.5

    def leader(box: Box, place: int) -> Line:
        """The line from a point to the nearest of its label."""
        x, y = points[place]
        return (x, y), (min(max(x, box.left), box.right), min(max(y, box.low), box.high))

    def cost(box: Box, place: int, taken: Sequence[Box | None], near: float) -> float:
        others = [(at, other) for at, other in enumerate(taken) if other is not None and at != place]
        line = leader(box, place)
        covered = sum(box.overlap(other) for _, other in others)
        on_marks = sum(box.overlap(mark) for mark in marks)
        on_lines = sum(box.crossed(*each) for each in (*lines, *(leader(other, at) for at, other in others)))
        led_over = sum(other.crossed(*line) for _, other in others)
        led_over += sum(mark.crossed(*line) for at, mark in enumerate(marks) if at != place)
        outside = (box.right - box.left) * (box.high - box.low) - box.overlap(bounds)
        return 50 * outside + 20 * covered + 10 * on_marks + 8 * on_lines + 8 * led_over + near

    taken: list[Box | None] = [None] * len(points)
    for _, place in product(range(3), range(len(points))):
        least = math.inf
        for box, near in candidates(place):
            # A place that is too far to be better is not looked at: most labels stand at their first places.
            if near < least and (total := cost(box, place, taken, near)) < least:
                least, best = total, box
        taken[place] = best
    return [box for box in taken if box is not None]
