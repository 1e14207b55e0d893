"""Tables and figures as data: what is shown, before it is known in which format.

`tables` and `figures` make them from the long frame; `text` writes tables as Markdown and LaTeX, `html` writes both as
a page, and `plots` draws figures. All numbers are kept as they are; a table's cells also hold the text that is printed,
because best and second, ties included, are decided on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bar",
    "Bars",
    "Cell",
    "Column",
    "Distribution",
    "Element",
    "Figure",
    "HeatMap",
    "Point",
    "Row",
    "Scatter",
    "Table",
]

#: Where a row comes from: a run; a publication, which is only shown; what a random ranking of the pool gives.
Kind = Literal["run", "reported", "random"]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        key: Its name in the long form, e.g. ``map``.
        title: What stands above it.
        group: What stands above several of them; empty for nothing.
        decimals: Digits after the point; None for text.
        higher_is_better: Direction, for arrows, best and second; None where neither is better.
    """

    key: str
    title: str
    group: str = ""
    decimals: int | None = 3
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        value: The number, not rounded; None where there is none.
        text: What is printed: the rounded number, or words; empty where there is nothing.
        best: Whether it is the best of its section and column, ties included.
        second: Whether it is the second best, ties included.
        mark: What stands behind the number: a dagger, or letters.
        low: Lower end of its interval, where one was computed.
        high: Upper end.
        p: Its p-value against the baseline, where there is one.
        p_adjusted: The same, adjusted for the number of tests.
        note: What to know about it, in a few words, e.g. why it is not there.
    """

    value: float | None = None
    text: str = ""
    best: bool = False
    second: bool = False
    mark: str = ""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        section: What it belongs to, e.g. the collection; rows of one section follow each other.
        label: Whose it is, e.g. the model.
        cells: One for each column.
        kind: Where it comes from.
    """

    section: str
    label: str
    cells: tuple[Cell, ...]
    kind: Kind = "run"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: A short name, ``main``; in a page its anchor, in LaTeX its label.
        title: What it shows, a few words.
        heads: What stands above sections and labels.
        columns: The columns.
        rows: The rows.
        notes: Sentences below it: what was computed how, and what to beware of.
    """

    name: str
    title: str
    heads: tuple[str, str]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeatMap:
    """Values by two languages.

    Attributes:
        name: A short name, unique in a report; the name of its file.
        title: What it shows, e.g. the model and the collection.
        measure: What the values are, with its direction.
        row_title: What the rows are, ``query language``.
        column_title: What the columns are, ``passage language``.
        rows: Codes.
        columns: Codes.
        values: (rows, columns); NaN where there is none.
        decimals: Digits to print.
        diverging: Whether 0 is the middle of the scale: differences.
        ends: What the scale reaches from and to, so that heat maps can be compared; None for what the values fill.
        marks: Behind the values: ``*`` where a difference was found; by place, empty where there is nothing to say.
        hints: What is said on hover or asking, by (row, column): interval and p-values.
        notes: Sentences below it.
    """

    name: str
    title: str
    measure: str
    row_title: str
    column_title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    decimals: int = 3
    diverging: bool = False
    ends: tuple[float, float] | None = None
    marks: Mapping[tuple[int, int], str] | None = None
    hints: Mapping[tuple[int, int], str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distribution:
    """How often which values occur, for several systems: shares of queries with at most so much.

    Attributes:
        name: A short name.
        title: What it shows.
        x_title: What the values are.
        series: Values of the queries, (n,), by system; positive, since the scale is logarithmic.
        notes: Sentences below it.
    """

    name: str
    title: str
    x_title: str
    series: Mapping[str, NDArray[np.float64]]
    notes: tuple[str, ...] = ()


class Point(NamedTuple):
    """A point of a `Scatter`.

    Attributes:
        label: What stands beside it.
        x: Across.
        y: Up.
        size: What its area stands for; None for points of one size.
        group: Points of a group have one colour, and are joined where the figure says so.
        kind: As in `Row`.
        chosen: Whether it is set off, e.g. on the Pareto front.
    """

    label: str
    x: float
    y: float
    size: float | None = None
    group: str = ""
    kind: Kind = "run"
    chosen: bool = False


@dataclass(frozen=True)
class Scatter:
    """Points: bias against quality, or a sweep over alpha.

    Attributes:
        name: A short name.
        title: What it shows.
        x_title: What is across, with its direction.
        y_title: What is up.
        points: The points, in the order in which they are joined.
        joined: Whether the points of a group are joined.
        logarithmic: Whether the y axis is; then all are positive.
        size_title: What areas stand for; empty if nothing.
        notes: Sentences below it.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    points: tuple[Point, ...]
    joined: bool = False
    logarithmic: bool = False
    size_title: str = ""
    notes: tuple[str, ...] = ()


class Bar(NamedTuple):
    """A value with its interval, whose ends are None where none was computed."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Bars:
    """A value for each language, for several systems.

    Attributes:
        name: A short name.
        title: What it shows.
        y_title: What the values are, with their direction.
        categories: Codes of the languages.
        series: A bar for each category, None where there is none; by system.
        notes: Sentences below it.
    """

    name: str
    title: str
    y_title: str
    categories: tuple[str, ...]
    series: Mapping[str, Sequence[Bar | None]]
    notes: tuple[str, ...] = ()


Figure = HeatMap | Distribution | Scatter | Bars
Element = Table | Figure
#: What a report says about itself: runs, versions, signatures; shown as names and values.
Details = Mapping[str, Any]
