"""Drawings within a page: SVG whose colours are the page's variables, so that they follow its theme.

Everything is there without a script: each mark has its text as `title`, which browsers show. The page's script only
makes it quicker to reach. The classes and variables stand in `assets/page.css`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise

import numpy as np

from hybrid_bench.errors import one_line
from hybrid_bench.reporting.drawing import (
    SERIES,
    Box,
    axis_ends,
    bar_range,
    linear_ticks,
    log_ticks,
    number,
    place_labels,
    shares,
    size_steps,
    wrapped,
)
from hybrid_bench.reporting.elements import Bars, Distribution, Point, Scatter

__all__ = ["Drawing", "draw", "element", "hint"]

Drawing = Distribution | Scatter | Bars

#: Of a drawing with a scale on both axes, in pixels; one of bars is as wide as they need.
_WIDTH, _HEIGHT = 620, 360
_TEXT = 13
_LINE = 16
#: Pixels of a bar where there are many and where there are few, and of the least room for a group of them.
_BAR, _BROADEST, _GROUP = 11, 26, 34
#: Width of a character in units of its height: fonts differ, and this is on the safe side of the usual ones.
_CHARACTER = 0.6
_DASHES = ("", "7 4", "9 3 2 3", "2 3", "7 2 2 2 2 2", "14 4", "2 6", "4 2")
#: Half the side of a point; area in square pixels of the largest that stands for something, and of the least.
_RADIUS, _LARGEST, _LEAST = 5.0, 700.0, 20.0
#: At the rim of a scatter, as a share of its range.
_ROOM = 0.14


def element(name: str, content: str = "", /, **attributes: object) -> str:
    """An element; attributes are escaped, the content is taken as it is.

    `class_` is written ``class``, and other underscores as hyphens; attributes that are None are left out, those that
    are True have no value. Numbers are written to two decimals, which is a fraction of a pixel.
    """
    written = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        label = "viewBox" if key == "viewBox" else key.rstrip("_").replace("_", "-")
        written += f" {label}" if value is True else f' {label}="{escape(shown)}"'
    return f"<{name}{written}>{content}</{name}>"


def hint(*lines: str) -> str:
    """What is said about a mark: the lines that are not empty."""
    return "\n".join(one_line(line) for line in lines if line)


def draw(figure: Drawing) -> str:
    """A figure as legend and picture."""
    if isinstance(figure, Distribution):
        return _distribution(figure)
    return _scatter(figure) if isinstance(figure, Scatter) else _bars(figure)


# -- what all drawings have ---------------------------------------------------------------------------------------


def _colour(place: int) -> str:
    return f"series s{place % len(SERIES)}"


def _width(text: str) -> float:
    """About how wide a text is, in pixels; Chinese and the like are twice as wide."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return (_CHARACTER * (len(text) - wide) + wide) * _TEXT


def _text(lines: Iterable[str], x: float, y: float, **attributes: object) -> str:
    """Lines of text, the first on this base line."""
    parts = [element("tspan", escape(line), x=x, dy=None if place == 0 else _LINE) for place, line in enumerate(lines)]
    return element("text", "".join(parts), x=x, y=y, **attributes)


def _marked(content: str, said: str, place: int) -> str:
    """A mark of a series that says something when it is pointed at, or reached by the keyboard."""
    title = element("title", escape(said))
    return element("g", title + content, class_=f"mark {_colour(place)}", role="img", aria_label=said)


def _shape(place: int, x: float, y: float, radius: float = _RADIUS, kind: str = "run") -> str:
    """A point; each place in the order of series has its own shape, and every one about the same area."""
    filled = "hollow" if kind == "reported" else "filled"
    if kind == "random":
        reach = radius * 0.9
        path = f"M{x - reach:.2f} {y - reach:.2f}l{2 * reach:.2f} {2 * reach:.2f}m0 {-2 * reach:.2f}"
        return element("path", class_="cross", d=f"{path}l{-2 * reach:.2f} {2 * reach:.2f}")
    corners = (0, 4, 3, 4, 3, 6, 8, 5)[place % len(SERIES)]
    if corners == 0:
        return element("circle", class_=filled, cx=x, cy=y, r=float(radius))
    turn = (0, math.pi / 4, -math.pi / 2, 0, math.pi / 2, 0, math.pi / 8, -math.pi / 2)[place % len(SERIES)]
    reach = radius * math.sqrt(2 * math.pi / (corners * math.sin(2 * math.pi / corners)))
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    ends = " ".join(f"{x + reach * math.cos(angle):.2f},{y + reach * math.sin(angle):.2f}" for angle in angles)
    return element("polygon", class_=filled, points=ends)


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    """A list of keys, each a small picture with its class, and names; it breaks where the page does."""
    if not entries:
        return ""
    items = (element("li", key + element("bdi", escape(one_line(name)))) for key, name in entries)
    return element("ul", "".join(items), class_="legend")


def _key(content: str, place: int | None = None, height: float = 14) -> str:
    return element(
        "svg",
        content,
        class_=_colour(place) if place is not None else "series",
        width=30,
        height=height,
        viewBox=f"0 0 30 {height:.0f}",
        aria_hidden="true",
    )


class _Plane:
    """Axes, and the way from values to pixels.

    Args:
        across: Ends of the x axis.
        along: Ends of the y axis.
        titles: What stands at both, x first.
        ticks: Of both.
        logarithmic: Axes that are, ``x`` or ``y``.
        width: Of the area of the data, in pixels; None for what a picture of `_WIDTH` leaves.
    """

    def __init__(
        self,
        across: tuple[float, float],
        along: tuple[float, float],
        titles: tuple[str, str],
        ticks: tuple[Sequence[float], Sequence[float]],
        *,
        logarithmic: str = "",
        width: float | None = None,
    ) -> None:
        self._scales: dict[str, Callable[[float], float]] = {
            axis: math.log if axis in logarithmic else float for axis in "xy"
        }
        self._across, self._along = across, along
        labels = [number(tick) for tick in ticks[1]]
        self.left = max((_width(label) for label in labels), default=0.0) + 16
        whole = _WIDTH if width is None else width + self.left + 14
        above = wrapped(titles[1], max(int((whole - 8) / (_CHARACTER * _TEXT)), 8)) if titles[1] else []
        below = wrapped(titles[0], max(int((whole - self.left) / (_CHARACTER * _TEXT)), 8)) if titles[0] else []
        self.right, self.top = whole - 14, len(above) * _LINE + 14.0
        self.bottom = self.top + _HEIGHT - 90
        self.width, self.height = whole, self.bottom + 26 + len(below) * _LINE + 6
        middle = (self.left + self.right) / 2
        parts = [_text(above, 2, 13.0, class_="axis-title")] if above else []
        if below:
            parts.append(_text(below, middle, self.bottom + 38, class_="axis-title", text_anchor="middle"))
        for tick, label in zip(ticks[1], labels, strict=True):
            y = self.y(tick)
            parts.append(element("path", class_="grid", d=f"M{self.left:.2f} {y:.2f}H{self.right:.2f}"))
            parts.append(element("text", label, x=self.left - 7, y=y + 4.5, text_anchor="end"))
        for tick in ticks[0]:
            x = self.x(tick)
            parts.append(element("path", class_="grid", d=f"M{x:.2f} {self.bottom:.2f}V{self.top:.2f}"))
            parts.append(element("text", number(tick), x=x, y=self.bottom + 18, text_anchor="middle"))
        self._parts = parts

    def x(self, value: float) -> float:
        scale = self._scales["x"]
        low, high = map(scale, self._across)
        return self.left + (scale(value) - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        scale = self._scales["y"]
        low, high = map(scale, self._along)
        return self.bottom - (scale(value) - low) / (high - low) * (self.bottom - self.top)

    def picture(self, title: str, parts: Iterable[str]) -> str:
        """The picture, of its real size where there is room; a narrow page scrolls it."""
        width, height = math.ceil(self.width), math.ceil(self.height)
        drawn = element(
            "svg",
            "".join([*self._parts, *parts]),
            class_="plot",
            role="group",
            aria_label=one_line(title),
            data_rove=True,
            width=width,
            height=height,
            viewBox=f"0 0 {width} {height}",
        )
        return element("div", drawn, class_="scroll")


# -- the drawings -------------------------------------------------------------------------------------------------


def _distribution(figure: Distribution) -> str:
    curves = {name: (*shares(values), values) for name, values in figure.series.items() if len(values)}
    low = min((float(found[0]) for found, _, _ in curves.values()), default=1.0)
    high = max((float(found[-1]) for found, _, _ in curves.values()), default=10.0)
    if high <= low:
        low, high = low / 2, high * 2
    plane = _Plane(
        (low, high),
        (0.0, 1.0),
        (figure.x_title, "share of queries"),
        (log_ticks(low, high), linear_ticks(0, 1)),
        logarithmic="x",
    )
    parts = [element("path", class_="zero", d=f"M{plane.left:.2f} {plane.y(0.5):.2f}H{plane.right:.2f}")]
    keys, points = [], []
    for place, (name, (found, share, values)) in enumerate(curves.items()):
        dashes = _DASHES[place % len(_DASHES)] or None
        steps = _steps([plane.x(value) for value in found.tolist()], [plane.y(part) for part in share.tolist()])
        path = f"M{plane.left:.2f} {plane.bottom:.2f}{steps}H{plane.right:.2f}"
        parts.append(
            element("g", element("path", class_="line", d=path, stroke_dasharray=dashes), class_=_colour(place))
        )
        # Round shares on all curves; a curve's own shape and dashes tell it from those that it meets.
        for part in (0.1, 0.25, 0.5, 0.75, 0.9):
            value = float(np.quantile(values, part, method="inverted_cdf"))
            said = hint(name, f"{part:.0%} of {len(values):,} queries: at most {number(value)}")
            points.append(_marked(_shape(place, plane.x(value), plane.y(part), 4), said, place))
        line = element("path", class_="line", d="M1 7H29", stroke_dasharray=dashes)
        keys.append((_key(line + _shape(place, 15, 7, 4), place), name))
    return _legend(keys) + plane.picture(figure.title, [*parts, *points])


def _steps(xs: Sequence[float], ys: Sequence[float]) -> str:
    """A path of steps without those that are smaller than a third of a pixel: thousands of queries are one curve."""
    path, last_x, last_y = "", -math.inf, -math.inf
    for place, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if place == len(xs) - 1 or abs(x - last_x) + abs(y - last_y) > 0.35:
            path += f"H{x:.1f}V{y:.1f}"
            last_x, last_y = x, y
    return path


def _bars(figure: Bars) -> str:
    systems, languages = list(figure.series), list(figure.categories)
    bars = {name: list(each) for name, each in figure.series.items()}
    for name, each in bars.items():
        if len(each) != len(languages):
            raise ValueError(f"{name} has {len(each)} bars for {len(languages)} languages")
    low, high = bar_range(bar for each in bars.values() for bar in each)
    broad = min(max(360 // max(len(systems) * len(languages), 1), _BAR), _BROADEST)
    step = max(len(systems) * broad + 12, _GROUP, *(_width(code) + 8 for code in languages), 0)
    room = 0.04 * (high - low)
    along = (low - room if low < 0 else low, high + room)
    plane = _Plane(
        (0.0, max(len(languages), 1)),
        along,
        ("", figure.y_title),
        ((), linear_ticks(*along)),
        width=max(step * len(languages), 220),
    )
    step = (plane.right - plane.left) / max(len(languages), 1)
    zero = plane.y(0)
    parts, labels = [], []
    for at, code in enumerate(languages):
        start = plane.left + at * step + (step - len(systems) * broad) / 2
        labels.append(
            element("text", escape(one_line(code)), x=start + len(systems) * broad / 2, y=plane.bottom + 18,
                    text_anchor="middle")
        )  # fmt: skip
        for place, (name, each) in enumerate(bars.items()):
            x, bar = start + place * broad, each[at]
            if bar is None:
                parts.append(
                    _marked(
                        element("text", "\N{EN DASH}", x=x + broad / 2, y=zero - 3, text_anchor="middle"),
                        hint(name, f"{code}: none"),
                        place,
                    )
                )
                continue
            top, bottom = sorted((plane.y(bar.value), zero))
            drawn = element("rect", class_="filled", x=x + 0.5, y=top, width=broad - 1, height=max(bottom - top, 0.5))
            interval = ""
            if bar.low is not None and bar.high is not None:
                path = f"M{x + broad / 2:.2f} {plane.y(bar.low):.2f}V{plane.y(bar.high):.2f}"
                drawn += element("path", class_="halo", d=path) + element("path", class_="interval", d=path)
                interval = f"interval {number(bar.low)} to {number(bar.high)}"
            said = hint(name, f"{code}: {number(bar.value)}", interval)
            parts.append(_marked(drawn, said, place))
    parts.append(element("path", class_="zero", d=f"M{plane.left:.2f} {zero:.2f}H{plane.right:.2f}"))
    square = element("rect", class_="filled", x=8, y=1, width=12, height=12)
    keys = [(_key(square, place), name) for place, name in enumerate(systems)]
    return _legend(keys) + plane.picture(figure.title, [*labels, *parts])


def _scatter(figure: Scatter) -> str:
    points = figure.points
    groups = list(dict.fromkeys(point.group for point in points if point.kind != "random"))
    places = {group: place for place, group in enumerate(groups)}
    largest = max((point.size for point in points if point.size is not None), default=0.0)

    def reach(point: Point) -> float:
        if point.size is None or not largest:
            return _RADIUS
        return math.sqrt(max(_LARGEST * point.size / largest, _LEAST) / math.pi)

    across = axis_ends([point.x for point in points], _ROOM)
    along = axis_ends([point.y for point in points], _ROOM, figure.logarithmic)
    plane = _Plane(
        across,
        along,
        (figure.x_title, figure.y_title),
        (linear_ticks(*across), (log_ticks if figure.logarithmic else linear_ticks)(*along)),
        logarithmic="y" if figure.logarithmic else "",
    )
    centres = [(plane.x(point.x), plane.y(point.y)) for point in points]
    members = {
        group: [at for at, p in enumerate(points) if p.group == group and p.kind != "random"] for group in groups
    }
    joined = [pair for each in members.values() for pair in pairwise(each)] if figure.joined else []
    texts = [wrapped(point.label, 26) for point in points]
    boxes = place_labels(
        centres,
        [reach(point) + (4 if point.chosen else 0) for point in points],
        [(max(map(_width, lines)), len(lines) * _LINE - 2) for lines in texts],
        bounds=Box(plane.left, plane.top, plane.right, plane.bottom),
        lines=[(centres[start], centres[end]) for start, end in joined],
        gap=3,
    )
    circles = bool(largest) or figure.joined  # areas are compared between circles
    parts = []
    for group, each in members.items() if figure.joined else ():
        path = "M" + "L".join(f"{centres[at][0]:.2f} {centres[at][1]:.2f}" for at in each)
        dashes = _DASHES[places[group] % len(_DASHES)] or None
        line = element("path", class_="line", d=path, stroke_dasharray=dashes)
        parts.append(element("g", line, class_=_colour(places[group])))
    marks = []
    for point, (x, y), lines, box in zip(points, centres, texts, boxes, strict=True):
        place = places.get(point.group, 0)
        radius = reach(point)
        near = (min(max(x, box.left), box.right), min(max(y, box.low), box.high))
        if math.dist(near, (x, y)) > radius + 12:
            parts.append(element("path", class_="leader", d=f"M{x:.2f} {y:.2f}L{near[0]:.2f} {near[1]:.2f}"))
        drawn = _shape(0 if circles else place, x, y, radius, point.kind)
        if point.chosen:
            drawn += element("circle", class_="chosen", cx=x, cy=y, r=radius + 4)
        # Fonts differ in width: a label is held at the end that is next to its point.
        side, at = ("end", box.right) if box.right <= x else ("start", box.left)
        if box.left < x < box.right:
            side, at = "middle", (box.left + box.right) / 2
        drawn += _text(lines, at, box.low + _TEXT - 1, text_anchor=side)
        area = f"{figure.size_title or 'size'}: {number(point.size)}" if point.size is not None else ""
        said = hint(
            f"{point.group}, {point.label}" if point.group and point.group != point.label else point.label,
            "reported" if point.kind == "reported" else "",
            f"{figure.x_title}: {number(point.x)}",
            f"{figure.y_title}: {number(point.y)}",
            area,
        )
        marks.append(_marked(drawn, said, place))
    return _legend(_scatter_keys(figure, groups, largest)) + plane.picture(figure.title, [*parts, *marks])


def _scatter_keys(figure: Scatter, groups: Sequence[str], largest: float) -> list[tuple[str, str]]:
    circles = bool(largest) or figure.joined
    keys = []
    for place, group in enumerate(groups if len(groups) > 1 or figure.joined else ()):
        dashes = _DASHES[place % len(_DASHES)] or None
        line = element("path", class_="line", d="M1 7H29", stroke_dasharray=dashes) if figure.joined else ""
        if group:
            keys.append((_key(line + _shape(0 if circles else place, 15, 7), place), group))
    kinds = {point.kind for point in figure.points}
    if "reported" in kinds:
        keys.append((_key(_shape(0, 15, 7, kind="reported")), "reported"))
    if "random" in kinds:
        keys.append((_key(_shape(0, 15, 7, kind="random")), "random ranking"))
    if largest and figure.size_title:
        for step in size_steps(largest):
            radius = math.sqrt(_LARGEST * step / largest / math.pi)
            circle = element("circle", class_="size", cx=15, cy=15, r=radius)
            keys.append((_key(circle, height=30), f"{figure.size_title} {number(step)}"))
    return keys
