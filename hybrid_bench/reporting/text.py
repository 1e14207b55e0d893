"""Tables as Markdown and as LaTeX, and the long form as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from tabulate import tabulate

from hybrid_bench.reporting.elements import Cell, Column, Row, Table

__all__ = ["as_csv", "as_json", "as_latex", "as_markdown", "escape_latex", "standalone"]

_ARROWS = {True: "↑", False: "↓", None: ""}
_DAGGER = "†"
_LATEX_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}


# -- Markdown -----------------------------------------------------------------------------------------------------


def as_markdown(table: Table, *, intervals: bool = True) -> str:
    """A table with its notes, as Markdown.

    Args:
        table: The table.
        intervals: Whether intervals stand behind the values that have one.
    """
    grouped = len({column.group for column in table.columns}) > 1  # what is the same everywhere says nothing
    titles = [f"{c.group if grouped else ''} {c.title} {_ARROWS[c.higher_is_better]}".strip() for c in table.columns]
    header = [*table.heads, *titles]
    body = [
        [
            _escape_markdown(row.section),
            _escape_markdown(row.label),
            *(_markdown_cell(cell, c, intervals) for cell, c in zip(row.cells, table.columns, strict=True)),
        ]
        for row in table.rows
    ]
    align = ("left", "left", *["right"] * len(table.columns))
    text = str(tabulate(body, headers=header, tablefmt="pipe", colalign=align, disable_numparse=True))
    notes = "\n".join(f"- {' '.join(note.split())}" for note in table.notes)
    return f"{text}\n\n{notes}\n" if notes else f"{text}\n"


def _markdown_cell(cell: Cell, column: Column, intervals: bool) -> str:
    if not cell.text:
        return f"- ({cell.note})" if cell.note else "-"
    text = _escape_markdown(cell.text)
    text = f"**{text}**" if cell.best else f"<u>{text}</u>" if cell.second else text
    text += f" {cell.mark}" if cell.mark else ""
    if intervals and column.decimals is not None and cell.low is not None and cell.high is not None:
        text += f" [{cell.low:.{column.decimals}f}, {cell.high:.{column.decimals}f}]"
    return text + (f" ({cell.note})" if cell.note.endswith("subsets") else "")


_MARKDOWN = {"\n": " ", **{sign: f"\\{sign}" for sign in "|<*`[\\"}}


def _escape_markdown(text: str) -> str:
    """Text that Markdown prints as it stands, in a cell of a table; an underscore within a word needs nothing."""
    return "".join(_MARKDOWN.get(character, character) for character in text)


# -- LaTeX --------------------------------------------------------------------------------------------------------


def as_latex(table: Table, *, intervals: bool = True) -> str:
    r"""A table as a ``tabular`` for booktabs and siunitx, with its notes as comments above.

    Numbers stand in S columns, so that they are aligned by their points; what siunitx cannot read, an underlined number
    or a dash, is padded to the same width. It needs ``\usepackage{booktabs,siunitx}``.

    Args:
        table: The table.
        intervals: Whether intervals stand below the values that have one, in a row of their own.
    """
    notes = [f"% {' '.join(note.split())}" for note in table.notes]  # a second line would not be a comment
    return "\n".join([*notes, *_tabular(table, intervals)]) + "\n"


def standalone(tables: Sequence[Table], *, intervals: bool = True) -> str:
    """A document of these tables that compiles by itself: with pdflatex, lualatex or xelatex."""
    lines = [
        r"\documentclass[10pt]{article}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{iftex}",
        r"\ifPDFTeX",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[utf8]{inputenc}",
        r"\else",
        r"\usepackage{fontspec}",
        r"\fi",
        r"\usepackage{lmodern}",
        r"\usepackage{booktabs,siunitx,array,caption}",
        r"\captionsetup{justification=raggedright,singlelinecheck=false}",
        r"\begin{document}",
    ]
    for table in tables:
        for number, page in enumerate(_pages(table, intervals)):
            told = (f"{table.title}, continued.",) if number else (f"{table.title}.", *table.notes)
            lines += [
                r"\begin{table}[p]",
                r"\centering",
                r"\footnotesize",
                r"\setlength{\tabcolsep}{4pt}",
                rf"\caption{{{escape_latex(' '.join(told))}}}",
                *([] if number else [rf"\label{{tab:{table.name}}}"]),
                *_tabular(page, intervals),
                r"\end{table}",
                r"\clearpage",
            ]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


#: Lines of a table on one page, its caption among them.
_PAGE = 36


def _pages(table: Table, intervals: bool) -> list[Table]:
    """A table in parts that fit on a page, cut between sections where that can be."""
    sections = [list(rows) for _, rows in groupby(table.rows, key=lambda row: row.section)]
    pages: list[list[Row]] = [[]]
    used = 0
    for section in sections:
        lines = sum(1 + (intervals and any(cell.low is not None for cell in row.cells)) for row in section)
        if pages[-1] and used + lines > _PAGE:
            pages.append([])
            used = 0
        pages[-1] += section
        used += lines
    return [replace(table, rows=tuple(rows)) for rows in pages]


#: Names longer than this are broken into lines.
_LONG_NAME = 34
#: So many letters stand in a line whatever they are.
_UNBROKEN = 16


def _tabular(table: Table, intervals: bool) -> list[str]:
    shapes = [_Shape(table, place) for place in range(len(table.columns))]
    long = max((len(row.label) for row in table.rows), default=0) > _LONG_NAME
    long_section = max((len(row.section) for row in table.rows), default=0) > _LONG_NAME
    heads = "".join(r">{\raggedright\arraybackslash}p{5cm}" if each else "l" for each in (long_section, long))
    lines = [rf"\begin{{tabular}}{{{heads}{''.join(shape.column for shape in shapes)}}}", r"\toprule"]
    if any(column.group for column in table.columns):
        lines += _groups(table.columns)
    titles = [_in_braces(f"{escape_latex(c.title)} {_LATEX_ARROWS[c.higher_is_better]}".strip()) for c in table.columns]
    lines.append(rf"{' & '.join([*map(escape_latex, table.heads), *titles])} \\")
    previous: Row | None = None
    for row in table.rows:
        anew = previous is None or row.section != previous.section
        if anew:
            lines.append(r"\midrule")
        elif previous is not None and row.kind != previous.kind:
            lines.append(r"\addlinespace")
        cells = [shape.cell(cell) for shape, cell in zip(shapes, row.cells, strict=True)]
        name = _breakable(row.label) if long else escape_latex(row.label)
        section = _breakable(row.section) if long_section else escape_latex(row.section)
        lines.append(rf"{' & '.join([section if anew else '', name, *cells])} \\")
        if intervals and any(cell.low is not None for cell in row.cells):
            ends = [shape.interval(cell) for shape, cell in zip(shapes, row.cells, strict=True)]
            lines.append(rf" & & {' & '.join(ends)} \\")
        previous = row
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _groups(columns: Sequence[Column]) -> list[str]:
    spans: list[tuple[str, int, int]] = []
    for place, column in enumerate(columns, start=3):
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1], place)
        else:
            spans.append((column.group, place, place))
    over = " & ".join(
        rf"\multicolumn{{{last - first + 1}}}{{c}}{{{escape_latex(name)}}}" for name, first, last in spans
    )
    rules = " ".join(rf"\cmidrule(lr){{{first}-{last}}}" for name, first, last in spans if name)
    return [rf" & & {over} \\", rules]


class _Shape:
    """How the numbers of a column are aligned."""

    def __init__(self, table: Table, place: int) -> None:
        cells = [row.cells[place] for row in table.rows]
        self.decimals = table.columns[place].decimals
        self.whole = max((len(c.text.partition(".")[0].lstrip("-+")) for c in cells if c.value is not None), default=1)
        self.signed = any(cell.text[:1] in {"-", "+"} for cell in cells if cell.value is not None)
        # Room for the widest: letters are as wide as a b, but for m and w, which few tables get to.
        letters = max((len(cell.mark.removeprefix(_DAGGER)) for cell in cells), default=0)
        self.mark = _DAGGER * any(cell.mark.startswith(_DAGGER) for cell in cells) + "b" * letters
        if self.decimals is None:
            self.column = "r"
        else:
            post = f",table-space-text-post={{{_superscript(self.mark)}}}" if self.mark else ""
            # Not in groups of three digits, which an underlined number, that siunitx does not read, would lack.
            bold = ",detect-weight,mode=text,group-minimum-digits=12"
            bold += ",retain-explicit-plus" if self.signed else ""
            form = f"{'+' if self.signed else ''}{self.whole}.{self.decimals}"
            self.column = f"S[table-format={form}{bold}{post}]"

    def cell(self, cell: Cell) -> str:
        """A cell as siunitx reads it; in braces, padded to the width of a number, what it does not read."""
        if not cell.text:
            return _in_braces(escape_latex(f"-- ({cell.note})" if cell.note.endswith("subsets") else "--"))
        if self.decimals is None or cell.value is None:
            return _in_braces(escape_latex(cell.text) + _superscript(cell.mark))
        if cell.second:
            number = cell.text.lstrip("-+")
            sign = cell.text.removesuffix(number).replace("-", r"\textminus{}")
            lacking = "0" * (self.whole - len(number.partition(".")[0]))
            lacking += r"\textminus{}" if self.signed and not sign else ""
            pad = rf"\phantom{{{lacking}}}" if lacking else ""
            unused = self.mark[len(cell.mark) :]
            after = rf"\phantom{{{_superscript(unused)}}}" if unused else ""
            return rf"{{{pad}\underline{{{sign}{number}}}{_superscript(cell.mark)}{after}}}"
        number = rf"\bfseries {cell.text}" if cell.best else cell.text
        if not cell.mark:
            return number
        series = r"\mdseries" if cell.best else ""  # a bold mark would need more room
        return f"{number}{{{series}{_superscript(cell.mark)}}}"

    def interval(self, cell: Cell) -> str:
        """The interval of a cell."""
        if cell.low is None or cell.high is None or self.decimals is None:
            return "{}"
        return rf"{{\scriptsize [{cell.low:.{self.decimals}f}, {cell.high:.{self.decimals}f}]}}"


def _superscript(mark: str) -> str:
    return rf"\textsuperscript{{{escape_latex(mark)}}}" if mark else ""


def _in_braces(text: str) -> str:
    return f"{{{text}}}"


def _breakable(text: str) -> str:
    """A name that may be broken behind its slashes, hyphens and underscores, and where it has none for long."""
    parts = re.split(r"(?<=[/_=-])", text)
    broken = [part[start : start + _UNBROKEN] for part in parts for start in range(0, len(part), _UNBROKEN)]
    return r"\allowbreak{}".join(map(escape_latex, broken))


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"\textdagger{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in text)


# -- the long form ------------------------------------------------------------------------------------------------


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records of the long form as CSV; numbers as Python prints them, so that they can be read back exactly."""
    file = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def as_json(records: Sequence[Mapping[str, Any]], details: Mapping[str, Any]) -> str:
    """Records of the long form, and what the report says about itself, as JSON."""
    return json.dumps({**details, "values": list(records)}, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
