"""A report as one page: a single file that asks nothing of anybody, for a browser, a phone or a printer.

Tables, heat maps and drawings are in the page as they are read; its script only adds sorting, quicker hints and the
choice of theme. A content security policy forbids every request, and whatever style or script is not this file's own.
Whatever comes from outside, such as a model's name, is escaped where it enters the page, and enters neither style nor
script.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from typing import Any

from hybrid_bench.errors import one_line
from hybrid_bench.languages import LANGUAGES
from hybrid_bench.reporting.drawing import DIVERGING, SEQUENTIAL, Scale, file_names, ink, number
from hybrid_bench.reporting.elements import Cell, Column, Details, Exhibit, HeatMap, Row, Table
from hybrid_bench.reporting.svg import draw, element, hint

__all__ = ["page"]

#: Steps of a heat map's colours. They are classes, since the policy allows no style in the elements themselves.
_STEPS = 64
#: How a p-value is written that four decimals would write as 0.
_SMALLEST_P = 0.00005


def page(title: str, exhibits: Sequence[Exhibit], details: Details) -> str:
    """Write a report.

    Args:
        title: Its title.
        exhibits: Tables and figures, in order; each gets an anchor made from its name.
        details: What the report says about itself; mappings and sequences within it are written as lists.

    Returns:
        HTML. The same arguments give the same text, which can be written as UTF-8.
    """
    anchors = file_names(f"exhibit-{exhibit.name}" for exhibit in exhibits)
    sections = "".join(_exhibit(exhibit, anchor) for exhibit, anchor in zip(exhibits, anchors, strict=True))
    links = "".join(
        element("li", element("a", _name(exhibit.title), href=f"#{anchor}"))
        for exhibit, anchor in zip(exhibits, anchors, strict=True)
    )
    contents = element("nav", element("h2", "Contents") + element("ol", links), aria_label="Contents") if links else ""
    about = ""
    if details:
        about = element("section", element("h2", "About this report") + _value(details), id="about", class_="about")
    asked = (
        "Point at a number, tap it, or go to it with Tab and the arrow keys, for its interval, p-value and the like. "
        "A click on the head of a column sorts each section by it."
    )
    head = element("h1", _name(title)) + '<button type="button" id="theme" hidden>Dark</button>'
    body = (
        element("header", head)
        + element("p", asked, class_="asked", hidden=True)
        + contents
        + element("main", sections + about)
    )
    style = _asset("page.css") + _colours()
    script = _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_escaped(title)}</title>\n<style>{style}</style>\n<script>{script}</script>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return resources.files("hybrid_bench").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _escaped(text: str) -> str:
    return escape(one_line(text))


def _name(text: str) -> str:
    """Text from outside, which may run from right to left: what stands beside it stays where it is.

    Names of models have no spaces: they may be broken where their parts meet.
    """
    return element("bdi", re.sub(r"([/=,])(?=\w)", r"\1<wbr>", _escaped(text)))


def _exhibit(exhibit: Exhibit, anchor: str) -> str:
    parts = [element("h2", _name(exhibit.title))]
    if isinstance(exhibit, Table):
        parts.append(_table(exhibit))
    elif isinstance(exhibit, HeatMap):
        parts.append(_heat_map(exhibit))
    else:
        parts.append(draw(exhibit))
    if exhibit.notes:
        parts.append(element("div", "".join(element("p", _escaped(note)) for note in exhibit.notes), class_="notes"))
    return element("section", "".join(parts), id=anchor, class_="exhibit")


# -- tables -------------------------------------------------------------------------------------------------------


def _table(table: Table) -> str:
    width = len(table.columns) + 1
    bodies = []
    for section, rows in groupby(table.rows, key=lambda row: row.section):
        lines = [_row(row, table.columns) for row in rows]
        if section:
            over = element("span", _escaped(table.heads[0]), class_="over") + " " + _name(section)
            # On a phone the table is wider than the page: the name stays where it can be read.
            head = element("th", element("span", over, class_="stay"), colspan=width, scope="rowgroup")
            lines.insert(0, element("tr", head, class_="section"))
        bodies.append(element("tbody", "".join(lines)))
    if not table.rows:
        bodies.append(element("tbody", element("tr", element("td", "nothing to show", colspan=width))))
    whole = element("thead", _heads(table)) + "".join(bodies)
    return element(
        "div",
        element("table", whole, class_="numbers", aria_label=one_line(table.title), data_rove=True, data_sort=True),
        class_="scroll",
    )


def _heads(table: Table) -> str:
    label = element("th", _escaped(table.heads[1]), scope="col", class_="label", data_better="text")
    singles = label + "".join(_head(column) for column in table.columns)
    if not any(column.group for column in table.columns):
        return element("tr", singles)
    groups = [element("td", "", class_="label")]
    for name, columns in groupby(table.columns, key=lambda column: column.group):
        over = {"colspan": len(list(columns))}
        groups.append(
            element("th", _escaped(name), scope="colgroup", class_="group", **over) if name else element("td", **over)
        )
    return element("tr", "".join(groups)) + element("tr", singles)


def _head(column: Column) -> str:
    if column.decimals is None:
        better, arrow = "text", ""
    elif column.higher_is_better is None:
        better, arrow = "low", ""
    else:
        better = "high" if column.higher_is_better else "low"
        picture, said = ("↑", "higher is better") if column.higher_is_better else ("↓", "lower is better")
        arrow = " " + element("span", picture, class_="arrow", role="img", aria_label=said)
    return element(
        "th",
        _escaped(column.title) + arrow,
        scope="col",
        data_better=better,
        class_="words" if column.decimals is None else None,
    )


def _row(row: Row, columns: Sequence[Column]) -> str:
    tag = {"run": "", "reported": "reported", "random": "random"}[row.kind]
    badge = " " + element("span", tag, class_="tag") if tag and tag not in row.label.casefold() else ""
    head = element("th", _name(row.label) + badge, scope="row", class_="label")
    cells = (_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True))
    return element("tr", head + "".join(cells), class_=tag or None)


def _cell(cell: Cell, column: Column) -> str:
    shown = _escaped(cell.text)
    if cell.best:
        shown = element("strong", shown)
    elif cell.second:
        shown = element("u", shown)
    if cell.mark:
        shown += element("sup", _escaped(cell.mark))
    missing = not cell.text and cell.value is None
    known = cell.value is not None and not math.isnan(cell.value)
    return element(
        "td",
        "\N{EN DASH}" if missing else shown,
        class_=" ".join(
            name for name, holds in (("missing", missing), ("words", column.decimals is None)) if holds
        ) or None,
        data_value=repr(float(cell.value)).replace("inf", "Infinity") if known and cell.value is not None else None,
        title=_said(cell) or None,
    )  # fmt: skip


def _said(cell: Cell) -> str:
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
    return hint(value, *lines)


def _p(value: float) -> str:
    return f"= {value:.4f}" if value >= _SMALLEST_P else f"= {value:.1e}"


# -- heat maps ----------------------------------------------------------------------------------------------------


def _heat_map(figure: HeatMap) -> str:
    scale = Scale.of(figure.values, figure.diverging)
    kind, sign = ("d", "+") if figure.diverging else ("q", "")
    heads = "".join(_code(code, "col") for code in figure.columns)
    corner = element("th", _escaped(f"{figure.row_title} ↓"), scope="col", class_="label")
    over = element("th", _escaped(figure.column_title), scope="colgroup", colspan=max(len(figure.columns), 1))
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
            mark = (figure.marks or {}).get(place, "")
            shown = text + (element("sup", _escaped(mark)) if mark else "")
            step = f"{kind}{round(scale.place(value) * (_STEPS - 1))}" if text else "missing"
            cells.append(element("td", shown or "\N{EN DASH}", class_=step, title=said))
        rows.append(element("tr", _code(code, "row") + "".join(cells)))
    top = element("tr", element("td", "", class_="label") + over) + element("tr", corner + heads)
    whole = element("thead", top) + element("tbody", "".join(rows))
    steps = "".join(element("i", "", class_=f"{kind}{step}") for step in range(0, _STEPS, 3))
    # What is between the ends is 0 for differences.
    middle = (scale.low + scale.high) / 2
    values = (scale.low, middle, scale.high) if scale.high > scale.low else (scale.low,)
    ends = (f"{value:{sign if value else ''}.{figure.decimals}f}" for value in values)
    key = element("span", steps, class_="ramp", aria_hidden="true")
    key += element("span", "".join(element("span", end) for end in ends), class_="ends", aria_hidden="true")
    return (
        element("p", _escaped(figure.measure), class_="measure")
        + element("div", key, class_="scale")
        + element(
            "div",
            element("table", whole, class_="heat", aria_label=one_line(figure.title), data_rove=True),
            class_="scroll",
        )
    )


def _code(code: str, scope: str) -> str:
    spoken = _spoken(code)
    return element("th", _escaped(code), scope=scope, abbr=None if spoken == code else spoken)


def _spoken(code: str) -> str:
    """A language's name where its code is known."""
    return LANGUAGES[code].name if code in LANGUAGES else one_line(code)


def _colours() -> str:
    """The steps of both scales as classes, with whatever of black and white is read better on them."""
    rules = []
    for kind, colours in (("q", SEQUENTIAL), ("d", DIVERGING)):
        scale = Scale(0, 1, colours)
        for step in range(_STEPS):
            colour = scale.colour(step / (_STEPS - 1))
            rules.append(f".{kind}{step}{{background:{colour};color:{ink(colour)}}}")
    return "\n".join(rules) + "\n"


# -- details ------------------------------------------------------------------------------------------------------


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (element("dt", _name(str(name))) + element("dd", _value(each)) for name, each in value.items())
        return element("dl", "".join(pairs))
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return element("ul", "".join(element("li", _value(each)) for each in value))
    return _name("none" if value is None else str(value))
