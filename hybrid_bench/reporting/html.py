"""A report as one page: a single file that asks nothing of anybody, for a browser, a phone or a printer.

Tables, heat maps and drawings are in the page as they are read; its script only adds sorting, quicker hints and the
choice of theme. A content security policy forbids every request, and whatever style or script is not this file's own.

Its templates are `assets/page.html` and `assets/exhibits.html`. Whatever comes from outside, such as a model's name, is
put on one line and escaped as it enters the page, whatever the template says, and enters neither style nor script.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from hybrid_bench.errors import one_line
from hybrid_bench.languages import name_of
from hybrid_bench.reporting.drawing import DIVERGING, SEQUENTIAL, Scale, file_names, ink, number
from hybrid_bench.reporting.elements import Cell, Details, Element, HeatMap, Table
from hybrid_bench.reporting.svg import draw, hint

__all__ = ["as_html", "page"]

#: Steps of a heat map's colours. They are classes, since the policy allows no style in the elements themselves.
_STEPS = 64
#: How a p-value is written that four decimals would write as 0.
_SMALLEST_P = 0.00005


def page(title: str, exhibits: Sequence[Element], details: Details) -> str:
    """Write a report.

    Args:
        title: Its title.
        exhibits: Tables and figures, in order; each gets an anchor made from its name.
        details: What the report says about itself; mappings and sequences within it are written as lists.

    Returns:
        HTML. The same arguments give the same text, which can be written as UTF-8.
    """
    anchors = file_names(f"exhibit-{exhibit.name}" for exhibit in exhibits)
    style = _asset("page.css") + _colours()
    script = _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return _template("page.html").render(
        title=title,
        policy=policy,
        style=Markup(style),  # both are the package's own
        script=Markup(script),
        exhibits=[_Shown.of(exhibit, anchor) for exhibit, anchor in zip(exhibits, anchors, strict=True)],
        about=details,
    )


def as_html(table: Table) -> str:
    """A table with its notes as a part of a page, as a notebook shows it: with its own style, without a script."""
    grouped = len({column.group for column in table.columns}) > 1
    return _template("fragment.html").render(table=table, grouped=grouped)


def _asset(name: str) -> str:
    return resources.files("hybrid_bench").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class _Shown(NamedTuple):
    """A table or figure as the templates take it.

    Attributes:
        exhibit: What is shown.
        anchor: Where links lead.
        kind: ``table``, ``heat map`` or ``drawing``.
        heat: Cells and scale of a heat map.
        drawing: A drawing as markup.
    """

    exhibit: Element
    anchor: str
    kind: str
    heat: _Heat | None = None
    drawing: Markup | None = None

    @classmethod
    def of(cls, exhibit: Element, anchor: str) -> _Shown:
        if isinstance(exhibit, Table):
            return cls(exhibit, anchor, "table")
        if isinstance(exhibit, HeatMap):
            return cls(exhibit, anchor, "heat map", heat=_heat(exhibit))
        return cls(exhibit, anchor, "drawing", drawing=Markup(draw(exhibit)))  # which escapes what it draws


# -- templates ----------------------------------------------------------------------------------------------------


@cache
def _template(name: str) -> Template:
    """A template whose every text is on one line and escaped, unless it is markup that a template has made."""
    environment = Environment(
        loader=PackageLoader("hybrid_bench", "assets"),
        autoescape=True,
        finalize=_shown,
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "breakable": _breakable,
        "plain": lambda value: repr(float(value)).replace("inf", "Infinity"),  # as scripts read it
        "runs": _runs,
        "said": _said,
        "spoken": _spoken,
    }
    environment.tests |= {
        "known": lambda cell: cell.value is not None and not math.isnan(cell.value),
        "several": lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes),
    }
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(text: str) -> Markup:
    """Names of models have no spaces: they may be broken where their parts meet."""
    return Markup(re.sub(r"([/=,])(?=\w)", r"\1<wbr>", str(escape(one_line(text)))))


def _runs(items: Iterable[Any], attribute: str) -> list[tuple[Any, list[Any]]]:
    """Items that follow each other and share this attribute, each time with what they share."""
    return [(key, list(each)) for key, each in groupby(items, key=attrgetter(attribute))]


def _said(cell: Cell) -> Markup:
    """What a cell says when asked: all that is known about it, if that is more than what is printed."""
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"interval {number(cell.low)} to {number(cell.high)}"
    lines = (
        interval,
        f"p {_p(cell.p)}" if cell.p is not None else "",
        f"adjusted p {_p(cell.p_adjusted)}" if cell.p_adjusted is not None else "",
        cell.note,
    )
    value = f"{cell.value:.6g}" if cell.value is not None and any(lines) else ""
    return escape(hint(value, *lines))  # of several lines, each of which `hint` has made one


def _p(value: float) -> str:
    return f"= {value:.4f}" if value >= _SMALLEST_P else f"= {value:.1e}"


def _spoken(code: str) -> str:
    """A language's name where its code is known."""
    return name_of(code)


# -- heat maps ----------------------------------------------------------------------------------------------------


class _Square(NamedTuple):
    """A cell of a heat map: its number, its mark, the class of its colour, and what it says when asked."""

    text: str
    mark: str
    step: str
    said: Markup


class _Heat(NamedTuple):
    """A heat map as the templates take it.

    Attributes:
        rows: Code and cells of each.
        ramp: Classes of the colours, in order.
        ends: The values at the ends of the scale, and in its middle.
    """

    rows: list[tuple[str, list[_Square]]]
    ramp: list[str]
    ends: list[str]


def _heat(figure: HeatMap) -> _Heat:
    scale = Scale.of(figure.values if figure.ends is None else figure.ends, figure.diverging)
    kind, sign = ("d", "+") if figure.diverging else ("q", "")
    rows = []
    for row, code in enumerate(figure.rows):
        cells = []
        for column, other in enumerate(figure.columns):
            value = float(figure.values[row, column])
            place = (row, column)
            text = f"{value:{sign}.{figure.decimals}f}" if math.isfinite(value) else ""
            said = hint(
                f"{figure.row_title} {_spoken(code)}, {figure.column_title} {_spoken(other)}",
                f"{figure.measure}: {text or 'none'}",
                (figure.hints or {}).get(place, ""),
            )
            step = f"{kind}{round(scale.place(value) * (_STEPS - 1))}" if text else "missing"
            cells.append(_Square(text, (figure.marks or {}).get(place, ""), step, escape(said)))
        rows.append((code, cells))
    # What is between the ends is 0 for differences.
    middle = (scale.low + scale.high) / 2
    values = (scale.low, middle, scale.high) if scale.high > scale.low else (scale.low,)
    ends = [f"{value:{sign if value else ''}.{figure.decimals}f}" for value in values]
    return _Heat(rows, [f"{kind}{step}" for step in range(0, _STEPS, 3)], ends)


def _colours() -> str:
    """The steps of both scales as classes, with whatever of black and white is read better on them."""
    rules = []
    for kind, colours in (("q", SEQUENTIAL), ("d", DIVERGING)):
        scale = Scale(0, 1, colours)
        for step in range(_STEPS):
            colour = scale.colour(step / (_STEPS - 1))
            rules.append(f".{kind}{step}{{background:{colour};color:{ink(colour)}}}")
    return "\n".join(rules) + "\n"
