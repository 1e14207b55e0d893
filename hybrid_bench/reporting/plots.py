"""Figures for papers, drawn with matplotlib: PNG to look at, PDF to include.

Widths are those of a two-column paper's column and page, in which the text has its real size, 6 to 8 points; only what
does not fit is larger. matplotlib is an extra: it is imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_bench.data.files import atomic
from hybrid_bench.errors import RequestError, how_to_install, one_line, reason
from hybrid_bench.reporting.drawing import (
    SERIES,
    Box,
    Scale,
    axis_ends,
    bar_range,
    file_names,
    ink,
    linear_ticks,
    log_ticks,
    number,
    place_labels,
    shares,
    size_steps,
    wrapped,
)
from hybrid_bench.reporting.elements import Bars, Distribution, Figure, HeatMap, Point, Scatter

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["draw", "save"]

#: Widths in inches: a column, and a page of two columns.
_COLUMN, _PAGE = 3.3, 6.9
_DPI = 200
#: Width of a character in units of its height: the mean of DejaVu Sans is .6, and names are rich in wide letters.
_CHARACTER = 0.64
_TITLE, _TEXT, _SMALL = 8.0, 7.0, 6.5
_DARK, _GREY, _PALE = "#222222", "#767676", "#dddddd"
#: Every colour has its own line and point, so that a picture can be read without colours.
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2.5)), (0, (3, 1)))
_POINTS = ("o", "s", "^", "D", "v", "P", "X", "p")
_HATCHES = ("", "/////", "\\\\\\\\\\", ".....", "xxxxx", "-----", "|||||", "+++++")
#: Area in square points of the largest point that stands for something, of one that stands for nothing, and the least.
_LARGEST, _PLAIN, _LEAST = 200.0, 28.0, 4.0
#: At the rim of a scatter, for symbols and labels, as a share of its range.
_ROOM = 0.16
#: Bars in one row of a figure; more of them are not told apart at the width of a page.
_BARS = 96

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _GREY,
    "axes.grid": False,
    "axes.labelsize": _TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.04,
    "figure.constrained_layout.w_pad": 0.04,
    "figure.dpi": _DPI,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "font.size": _TEXT,
    "hatch.linewidth": 0.4,
    "legend.fontsize": _SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType: publishers refuse the Type 3 fonts that are matplotlib's default
    "savefig.dpi": _DPI,
    "text.color": _DARK,
    "text.parse_math": False,  # a name with two dollar signs is not a formula
    "xtick.color": _GREY,
    "xtick.labelcolor": _DARK,
    "xtick.labelsize": _SMALL,
    "xtick.major.width": 0.6,
    "ytick.color": _GREY,
    "ytick.labelcolor": _DARK,
    "ytick.labelsize": _SMALL,
    "ytick.major.width": 0.6,
}


def draw(figure: Figure) -> Canvas:
    """Draw a figure on a canvas of its own; nothing of pyplot, nor of the user's matplotlibrc, takes part.

    Raises:
        RequestError: If matplotlib is not installed.
    """
    with _style():
        if isinstance(figure, HeatMap):
            return _heat_map(figure)
        if isinstance(figure, Distribution):
            return _distribution(figure)
        if isinstance(figure, Scatter):
            return _scatter(figure)
        return _bars(figure)


def save(figures: Sequence[Figure], folder: Path, tell: Callable[[str], None] = lambda message: None) -> list[Path]:
    """Write each figure as PNG and PDF, named after it; the same figure gives the same bytes.

    Args:
        figures: What to draw. Characters of a name that are no letter, digit or point become hyphens in its file's.
        folder: Where to; made if it is not there. Files of the same names are replaced.
        tell: Called with a line about each figure.

    Returns:
        The files, in the order of the figures, PNG first.

    Raises:
        RequestError: If matplotlib is not installed, or the folder cannot be written.
    """
    written: list[Path] = []
    for figure, name in zip(figures, file_names(figure.name for figure in figures), strict=True):
        canvas = draw(figure)
        try:
            # Without the date and the version of matplotlib, which are in neither picture.
            for ending, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
                path = folder / f"{name}.{ending}"
                with atomic(path) as beside, _style():
                    canvas.savefig(beside, format=ending, dpi=_DPI, metadata=metadata)
                written.append(path)
        except OSError as error:
            raise RequestError(f"cannot write figures to {folder} ({reason(error)}): give another folder") from error
        tell(f"figure: {written[-2]}, and as {written[-1].name}")
    return written


@contextmanager
def _style() -> Iterator[None]:
    """matplotlib's own defaults and `_STYLE`, whatever the user has set; all is set back at the end."""
    try:
        import matplotlib
    except ImportError as error:
        raise RequestError(f"figures need matplotlib, which is not installed: {how_to_install('figures')}") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


# -- what all figures have ----------------------------------------------------------------------------------------


def _canvas(width: float, height: float) -> Canvas:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as New

    canvas = New(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas


def _said(text: str) -> str:
    """Text as the font can show it: what it has no picture for becomes an empty square."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return "".join(character if font.get_char_index(ord(character)) else "\N{WHITE SQUARE}" for character in text)


def _characters(width: float, size: float) -> int:
    """How many characters of this size, in points, stand on a line of this width, in inches."""
    return max(int(width * 72 / (size * _CHARACTER)), 8)


def _lines(text: str, width: float, size: float) -> list[str]:
    return wrapped(_said(one_line(text)), _characters(width, size))


def _title(canvas: Canvas, *texts: str) -> float:
    """Write the title, and what stands below it; returns their height in inches."""
    width = canvas.get_figwidth() - 0.1
    lines = [line for text in texts if text for line in _lines(text, width, _TITLE)]
    if lines:
        canvas.suptitle("\n".join(lines), x=0.04 / canvas.get_figwidth(), ha="left", fontsize=_TITLE, linespacing=1.15)
    return _heighten(canvas, len(lines) * _TITLE * 1.3 / 72)


def _heighten(canvas: Canvas, more: float) -> float:
    """Give room to what is outside the axes, which keep their height."""
    canvas.set_figheight(canvas.get_figheight() + more)
    return more


def _legend(canvas: Canvas, handles: Sequence[Artist], labels: Sequence[str], columns: int | None = None) -> None:
    """A legend below the axes, where it covers no data.

    Without a number of columns, there are as many as the longest name leaves room for.
    """
    if not handles:
        return
    width = canvas.get_figwidth() - 0.2
    key = 0.5  # inches for an entry besides its text
    texts = [_lines(label, width / (columns or 1) - key, _SMALL) for label in labels]
    longest = max(len(line) for lines in texts for line in lines)
    columns = columns or max(min(int(width / (longest * _CHARACTER * _SMALL / 72 + key)), len(labels)), 1)
    # Names that begin with an underscore are left out of legends: they are written in afterwards.
    legend = canvas.legend(
        handles,
        [str(place) for place in range(len(labels))],
        loc="outside lower left",
        ncols=columns,
    )
    for text, lines in zip(legend.get_texts(), texts, strict=True):
        text.set_text("\n".join(lines))
        text.set_parse_math(False)
    tallest = max(
        sum(len(texts[at]) * 1.2 + 0.5 for at in column) for column in np.array_split(np.arange(len(texts)), columns)
    )
    _heighten(canvas, (tallest + 0.5) * _SMALL / 72)


def _axis_titles(canvas: Canvas, axes: Axes, across: str, along: str) -> None:
    """Titles of the axes, on as many lines as they need."""
    width, height = canvas.get_size_inches() * axes.get_position().size
    axes.set_xlabel("\n".join(_lines(across, width, _TEXT)))
    axes.set_ylabel("\n".join(_lines(along, height, _TEXT)))


def _linear(axes: Axes, which: str, low: float, high: float, most: int = 6) -> None:
    """Round ticks, written alike in all figures; the axis ends where it is told to."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    ticks = linear_ticks(low, high, most)
    axis.set_ticks(ticks, [number(tick) for tick in ticks])


def _logarithmic(axes: Axes, which: str, low: float, high: float) -> None:
    """The same for a logarithmic axis."""
    from matplotlib.ticker import NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_minor_locator(NullLocator())
    ticks = log_ticks(low, high)
    axis.set_ticks(ticks, [number(tick) for tick in ticks])


# -- the figures --------------------------------------------------------------------------------------------------


def _heat_map(figure: HeatMap) -> Canvas:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import Rectangle

    scale = Scale.of(figure.values if figure.ends is None else figure.ends, figure.diverging)
    marks = figure.marks or {}
    sign = "+" if figure.diverging else ""
    texts = {
        (row, column): f"{value:{sign}.{figure.decimals}f}" + _said(one_line(marks.get((row, column), "")))
        for (row, column), value in np.ndenumerate(figure.values)
        if np.isfinite(value)
    }
    longest = max((len(text) for text in texts.values()), default=1)
    heads = max((len(code) for code in figure.rows), default=1)
    beside = (heads * _CHARACTER * _SMALL + 2.6 * _TEXT) / 72 + 0.75  # labels and title at the left, scale at the right
    needed = max(longest * _CHARACTER * _SMALL / 72 * 1.02, 0.2) * len(figure.columns) + beside
    width = next((each for each in (_COLUMN, _PAGE) if needed <= each), needed)
    side = (width - beside) / max(len(figure.columns), 1)
    cell = min(max(side, 0.2), 0.3)
    turned = max((len(code) for code in figure.columns), default=1) * _CHARACTER * _SMALL / 72 > side
    below = max((len(code) for code in figure.columns), default=1) * _CHARACTER * _SMALL / 72 if turned else 0.15
    canvas = _canvas(width, max(cell * max(len(figure.rows), 1), 0.9) + below + 0.3)
    _title(canvas, figure.title)
    axes = canvas.add_subplot()
    mapping = ScalarMappable(
        Normalize(scale.low, scale.high if scale.high > scale.low else scale.low + 1),
        LinearSegmentedColormap.from_list("heat", scale.colours),
    )
    for row, column in np.ndindex(figure.values.shape):
        text, value = texts.get((row, column)), figure.values[row, column]
        colour = scale.colour(scale.place(float(value))) if text else "#f2f2f2"
        patch = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.5, joinstyle="miter"
        )
        axes.add_patch(patch)
        axes.text(
            column,
            row,
            text or "\N{EN DASH}",
            ha="center",
            va="center",
            fontsize=_SMALL,
            color=ink(colour) if text else _GREY,
        )
    axes.set_xlim(-0.5, max(len(figure.columns), 1) - 0.5)
    axes.set_ylim(max(len(figure.rows), 1) - 0.5, -0.5)  # the first row on top
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(figure.columns)), [_said(one_line(code)) for code in figure.columns])
    axes.set_yticks(range(len(figure.rows)), [_said(one_line(code)) for code in figure.rows])
    if turned:
        axes.tick_params(axis="x", labelrotation=90)
    _axis_titles(canvas, axes, figure.column_title, figure.row_title)
    bar = canvas.colorbar(mapping, ax=axes, pad=0.02, aspect=25, fraction=0.05)
    bar.outline.set_visible(False)
    assert bar.solids is not None
    bar.solids.set(rasterized=False, edgecolor="face")  # an image would not scale; bare edges would show as seams
    ticks = linear_ticks(scale.low, scale.high)
    bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    bar.ax.tick_params(length=2)
    bar.set_label("\n".join(_lines(figure.measure, canvas.get_figheight() * 0.75, _TEXT)))
    return canvas


def _distribution(figure: Distribution) -> Canvas:
    from matplotlib.lines import Line2D

    canvas = _canvas(_COLUMN, 2.0)
    _title(canvas, figure.title)
    axes = canvas.add_subplot()
    curves = {name: shares(values) for name, values in figure.series.items() if len(values)}
    low = min((found[0] for found, _ in curves.values()), default=1.0)
    high = max((found[-1] for found, _ in curves.values()), default=10.0)
    if high <= low:
        low, high = low / 2, high * 2
    _logarithmic(axes, "x", low, high)
    _linear(axes, "y", 0.0, 1.0)
    axes.grid(color=_PALE, linewidth=0.5)
    axes.axhline(0.5, color=_GREY, linewidth=0.6)  # where the medians are
    handles: list[Artist] = []
    for place, (found, share) in enumerate(curves.values()):
        style: dict[str, Any] = {"color": SERIES[place % len(SERIES)], "linestyle": _LINES[place % len(_LINES)]}
        point: dict[str, Any] = {"marker": _POINTS[place % len(_POINTS)], "markersize": 3.4}
        axes.plot(np.append(found, high), np.append(share, 1.0), drawstyle="steps-post", clip_on=False, **style)
        # Points at some shares, each curve's a little higher than the one's before, so that few hide others.
        at = np.searchsorted(share, (np.arange(5) + (place + 0.5) / len(curves)) / 5)
        axes.plot(found[at], share[at], linestyle="none", color=style["color"], **point)
        handles.append(Line2D([], [], **style, **point))
    _axis_titles(canvas, axes, figure.x_title, "share of queries")
    _legend(canvas, handles, list(curves))
    return canvas


def _bars(figure: Bars) -> Canvas:
    from matplotlib.patches import Patch

    systems, languages = list(figure.series), list(figure.categories)
    group = len(systems) + 1
    rows = max(math.ceil(len(languages) * group / _BARS), 1)
    in_row = math.ceil(len(languages) / rows) if languages else 1
    width = _COLUMN if in_row * group <= _BARS // 3 else _PAGE
    canvas = _canvas(width, (1.7 if rows == 1 else 1.45) * rows)
    _title(canvas, figure.title)
    low, high = bar_range(bar for bars in figure.series.values() for bar in bars)
    room = 0.04 * (high - low)
    for row in range(rows):
        axes = canvas.add_subplot(rows, 1, row + 1)
        start = row * in_row
        for place, (system, bars) in enumerate(figure.series.items()):
            if len(bars) != len(languages):
                raise ValueError(f"{system} has {len(bars)} bars for {len(languages)} languages")
            for at, bar in enumerate(bars[start : start + in_row]):
                left = at * group + place
                if bar is None:
                    axes.text(left, 0, "\N{EN DASH}", ha="center", va="bottom", fontsize=_SMALL, color=_GREY)
                    continue
                axes.bar(
                    left,
                    bar.value,
                    width=0.92,
                    color=SERIES[place % len(SERIES)],
                    hatch=_HATCHES[place % len(_HATCHES)],
                    edgecolor=_DARK,
                    linewidth=0.3,
                )
                if bar.low is not None and bar.high is not None:
                    _interval(axes, left, bar.low, bar.high)
        axes.axhline(0, color=_GREY, linewidth=0.6)
        axes.grid(axis="y", color=_PALE, linewidth=0.5)
        axes.set_xlim(-1, max(in_row * group - 1, 1))
        centres = [at * group + (len(systems) - 1) / 2 for at in range(len(languages[start : start + in_row]))]
        axes.set_xticks(centres, [_said(one_line(code)) for code in languages[start : start + in_row]])
        axes.tick_params(axis="x", length=0)
        _linear(axes, "y", low - room if low < 0 else low, high + room)
        _axis_titles(canvas, axes, "", figure.y_title)
    handles = [
        Patch(
            facecolor=SERIES[place % len(SERIES)],
            hatch=_HATCHES[place % len(_HATCHES)],
            edgecolor=_DARK,
            linewidth=0.3,
        )
        for place in range(len(systems))
    ]
    _legend(canvas, handles, systems)
    return canvas


def _interval(axes: Axes, at: float, low: float, high: float) -> None:
    """An interval, white below black, so that it is seen on a dark bar and above it."""
    for colour, width in (("white", 1.6), ("black", 0.7)):
        axes.plot([at, at], [low, high], color=colour, linewidth=width, solid_capstyle="butt", zorder=3)


def _scatter(figure: Scatter) -> Canvas:
    groups = list(dict.fromkeys(point.group for point in figure.points if point.kind != "random"))
    largest = max((point.size for point in figure.points if point.size is not None), default=0.0)
    crowded = len(figure.points) > 10 or max((len(point.label) for point in figure.points), default=0) > 24
    canvas = _canvas(_PAGE if crowded else _COLUMN, 3.0 if crowded else 2.4)
    _title(canvas, figure.title)
    axes = canvas.add_subplot()
    _linear(axes, "x", *axis_ends([point.x for point in figure.points], _ROOM))
    ends = axis_ends([point.y for point in figure.points], _ROOM, figure.logarithmic)
    (_logarithmic if figure.logarithmic else _linear)(axes, "y", *ends)
    axes.grid(color=_PALE, linewidth=0.5)
    areas = [_area(point, largest) for point in figure.points]
    styles = {group: (SERIES[place % len(SERIES)], place) for place, group in enumerate(groups)}
    segments: list[tuple[Point, Point]] = []
    for group in groups if figure.joined else ():
        colour, place = styles[group]
        members = [point for point in figure.points if point.group == group and point.kind != "random"]
        line = _LINES[place % len(_LINES)]
        axes.plot([p.x for p in members], [p.y for p in members], color=colour, linestyle=line, zorder=2)
        segments += pairwise(members)
    for point, area in zip(figure.points, areas, strict=True):
        if point.kind == "random":
            axes.scatter(point.x, point.y, s=_PLAIN, c=_GREY, marker="x", linewidths=1.2, zorder=3)
            continue
        colour, place = styles[point.group]
        axes.scatter(
            point.x,
            point.y,
            s=area,
            # Areas are compared between circles; where they mean nothing, groups differ in shape too.
            marker="o" if largest or figure.joined else _POINTS[place % len(_POINTS)],
            facecolors="white" if point.kind == "reported" else colour,
            edgecolors=colour if point.kind == "reported" else "white",
            linewidths=1.2 if point.kind == "reported" else 0.5,
            zorder=3,
        )
        if point.chosen:
            around = (math.sqrt(area) + 4) ** 2
            axes.scatter(point.x, point.y, s=around, facecolors="none", edgecolors=_DARK, linewidths=0.9, zorder=3)
    _axis_titles(canvas, axes, figure.x_title, figure.y_title)
    _scatter_legend(canvas, figure, groups, largest)
    _label_points(canvas, axes, figure.points, areas, segments)
    return canvas


def _area(point: Point, largest: float) -> float:
    """Area of a point's symbol in square points."""
    if point.size is None or not largest:
        return _PLAIN
    return max(_LARGEST * point.size / largest, _LEAST)


def _scatter_legend(canvas: Canvas, figure: Scatter, groups: Sequence[str], largest: float) -> None:
    """Groups and kinds of points; areas, where they stand for something, in a column of their own."""
    from matplotlib.lines import Line2D

    keys: list[tuple[Mapping[str, Any], str]] = []
    if len(groups) > 1 or figure.joined:
        for place, group in enumerate(groups):
            look = {
                "color": SERIES[place % len(SERIES)],
                "marker": "o" if largest or figure.joined else _POINTS[place % len(_POINTS)],
                "linestyle": _LINES[place % len(_LINES)] if figure.joined else "none",
                "markersize": 4,
            }
            if group:
                keys.append((look, group))
    kinds = {point.kind for point in figure.points}
    loose = {"linestyle": "none"}
    if "reported" in kinds:
        hollow = {"marker": "o", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.2}
        keys.append((loose | {"color": _DARK} | hollow, "reported"))
    if "random" in kinds:
        keys.append((loose | {"color": _GREY, "marker": "x", "markersize": 5}, "random ranking"))
    areas: list[tuple[Mapping[str, Any], str]] = []
    if largest and figure.size_title:
        areas.append((loose, f"area: {figure.size_title}"))
        for step in size_steps(largest):
            pale = {"color": _GREY, "markerfacecolor": _PALE, "markeredgewidth": 0.5}
            size = math.sqrt(_LARGEST * step / largest)
            areas.append((loose | pale | {"marker": "o", "markersize": size}, number(step)))
    columns = None
    if keys and areas:  # legends are filled column by column
        columns, nothing, rows = 2, (loose, ""), max(len(keys), len(areas))
        keys += [nothing] * (rows - len(keys))
        areas += [nothing] * (rows - len(areas))
    keys += areas
    _legend(canvas, [Line2D([], [], **look) for look, _ in keys], [text for _, text in keys], columns)


def _label_points(
    canvas: Canvas, axes: Axes, points: Sequence[Point], areas: Sequence[float], segments: Sequence[tuple[Point, Point]]
) -> None:
    """Write the labels where they cover neither each other, nor points, nor lines.

    The layout is settled first and then kept: only then is it known where points are, in points of 1/72 inch.
    """
    canvas.draw_without_rendering()
    canvas.set_layout_engine("none")
    to_points = 72 / _DPI

    def where(point: Point) -> tuple[float, float]:
        across, along = axes.transData.transform((point.x, point.y))
        return float(across) * to_points, float(along) * to_points

    labels = [axes.annotate("\n".join(_lines(p.label, 1.6, _SMALL)), (p.x, p.y), fontsize=_SMALL) for p in points]
    extents = [label.get_window_extent() for label in labels]
    frame = axes.get_window_extent()
    centres = [where(point) for point in points]
    radii = [math.sqrt(area) / 2 + (2.5 if p.chosen else 0.5) for p, area in zip(points, areas, strict=True)]
    boxes = place_labels(
        centres,
        radii,
        [(extent.width * to_points, extent.height * to_points) for extent in extents],
        bounds=Box(*(end * to_points for end in frame.extents)),
        lines=[(where(start), where(end)) for start, end in segments],
    )
    for label, box, (x, y), radius in zip(labels, boxes, centres, radii, strict=True):
        label.set_position((box.left - x, box.low - y))
        label.set_anncoords("offset points")
        label.set_verticalalignment("bottom")
        near = (min(max(x, box.left), box.right), min(max(y, box.low), box.high))
        if math.dist(near, (x, y)) > radius + 8:  # far from its point: a line leads there
            axes.annotate(
                "",
                label.xy,
                (near[0] - x, near[1] - y),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": radius},
                zorder=2.5,
            )
