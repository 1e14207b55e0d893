"""Tables as Markdown, for a terminal and as LaTeX, and the long form as CSV and JSON.

Names of models and the like come from outside: each format writes them so that its readers show them and do nothing
else with them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import string
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise, zip_longest
from typing import Any

from tabulate import tabulate

from hybrid_bench.errors import one_line
from hybrid_bench.reporting.drawing import wrapped
from hybrid_bench.reporting.elements import Cell, Column, Row, Table

__all__ = ["as_csv", "as_json", "as_latex", "as_markdown", "as_terminal", "escape_latex", "standalone"]

_ARROWS = {True: "↑", False: "↓", None: ""}
_DAGGER = "†"
_LATEX_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}


def _interval(cell: Cell, column: Column) -> str:
    """The interval of a cell, with as many decimals as its value is printed with; empty for none."""
    if column.decimals is None or cell.low is None or cell.high is None:
        return ""
    decimals = len(cell.text.partition(".")[2]) if cell.text else column.decimals
    return f"[{cell.low:.{decimals}f}, {cell.high:.{decimals}f}]"


# -- Markdown -----------------------------------------------------------------------------------------------------


def as_markdown(table: Table, *, intervals: bool = True) -> str:
    """A table with its notes, as Markdown.

    Args:
        table: The table.
        intervals: Whether intervals stand behind the values that have one.
    """
    grouped = len({column.group for column in table.columns}) > 1  # what is the same everywhere says nothing
    titles = [f"{c.group if grouped else ''} {c.title} {_ARROWS[c.higher_is_better]}".strip() for c in table.columns]
    header = [_escape_markdown(title) for title in (*table.heads, *titles)]
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
    notes = "\n".join(f"- {_escape_note(note)}" for note in table.notes)
    return f"{text}\n\n{notes}\n" if notes else f"{text}\n"


def _markdown_cell(cell: Cell, column: Column, intervals: bool) -> str:
    if not cell.text:
        return f"- ({_escape_markdown(cell.note)})" if cell.note else "-"
    text = _escape_markdown(cell.text)
    text = f"**{text}**" if cell.best else f"<u>{text}</u>" if cell.second else text
    text += f" {_escape_markdown(cell.mark)}" if cell.mark else ""
    if intervals and (ends := _interval(cell, column)):
        text += f" {ends}"
    return text + (f" ({_escape_markdown(cell.note)})" if cell.note.endswith("subsets") else "")


#: What Markdown, or GitHub's form of it, would take for markup. An underscore within a word needs nothing.
_MARKUP = re.compile(r"[|<*`\[\\$]|~~|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
#: The same in a sentence of ours, which may have code between backticks.
_MARKUP_IN_NOTE = re.compile(r"[<*\[\\$]|~~|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def _escape_markdown(text: str, markup: re.Pattern[str] = _MARKUP) -> str:
    """Text that Markdown prints as it stands, in a cell of a table."""
    return markup.sub(lambda found: "".join(f"\\{sign}" for sign in found[0]), one_line(text))


def _escape_note(text: str) -> str:
    """The same for a note: a name in it makes no element, link or picture, whatever code it may seem to be."""
    return _escape_markdown(text, _MARKUP_IN_NOTE)


# -- a terminal ---------------------------------------------------------------------------------------------------

_BOLD, _UNDERLINED, _PLAIN = "\x1b[1m", "\x1b[4m", "\x1b[0m"
#: Least room for names of rows, and most, as a share of the width.
_LEAST_NAME, _NAME_SHARE = 12, 0.4
#: Words in a cell, such as what is missing, are broken into lines of so many characters.
_WORDS = 14


def as_terminal(table: Table, width: int, *, intervals: bool = True, styled: bool = False) -> str:
    """A table with its notes, for a terminal: no line is wider than this, as far as numbers and words allow.

    Each section has its name on a line of its own. Columns that do not fit stand below the others, with the names of
    the rows again. The best is ``**0.500**`` and the second best ``_0.250_``, or bold and underlined.

    Args:
        table: The table.
        width: Characters in a line; less than 20 counts as 20.
        intervals: Whether intervals stand below the values that have one.
        styled: Whether the terminal knows bold and underlined; the codes take no room in a line.
    """
    width = max(width, 20)
    grouped = len({column.group for column in table.columns}) > 1
    columns = [_TerminalColumn(table, place, grouped, intervals, styled) for place in range(len(table.columns))]
    room = max(int(width * _NAME_SHARE), _LEAST_NAME)
    labels = (wrapped(row.label, room - 2) for row in table.rows)
    names = [[first, *(f"  {line}" for line in others)] for first, *others in labels]
    head = wrapped(table.heads[1], room)
    name_width = max((_columns_of(line) for lines in (head, *names) for line in lines), default=0)
    blocks = []
    for part in _parts([column.width for column in columns], width - name_width):
        shown = [columns[place] for place in part]
        height = max((len(column.head) for column in shown), default=0)
        # Heads stand on the line that is ruled.
        heads = [[""] * (height - len(column.head)) + column.head for column in shown]
        lines = _beside([[""] * (height - len(head)) + head, *heads], name_width, shown)
        lines.append("─" * (name_width + sum(2 + column.width for column in shown)))
        for section, rows in groupby(range(len(table.rows)), key=lambda place: table.rows[place].section):
            lines += wrapped(section, width) if section else []
            for place in rows:
                lines += _beside([names[place], *(column.cells[place] for column in shown)], name_width, shown)
        blocks.append("\n".join(lines))
    notes = [
        textwrap.fill(one_line(note), width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        for note in table.notes
    ]
    return "\n\n".join([*blocks, *(["\n".join(notes)] if notes else [])]) + "\n"


class _TerminalColumn:
    """A column as lines of text: its head, and its cells, each of which may have several."""

    def __init__(self, table: Table, place: int, grouped: bool, intervals: bool, styled: bool) -> None:
        column = table.columns[place]
        self.style = ((_BOLD, _PLAIN), (_UNDERLINED, _PLAIN)) if styled else (("**", "**"), ("_", "_"))
        cells = [row.cells[place] for row in table.rows]
        # Numbers end at the same place, whatever stands behind them.
        self.behind = max((_columns_of(self._behind(cell)) for cell in cells), default=0)
        self.cells = [self._lines(cell, column, intervals) for cell in cells]
        title = f"{column.group if grouped else ''} {column.title} {_ARROWS[column.higher_is_better]}"
        words = one_line(title).split()
        widest = max((_columns_of(line) for cell in self.cells for line in cell), default=0)
        self.width = max([widest, *map(_columns_of, words)])
        self.head = wrapped(" ".join(words), self.width)

    def _lines(self, cell: Cell, column: Column, intervals: bool) -> list[str]:
        if column.decimals is None or not cell.text:
            lines = wrapped(cell.text or "-", _WORDS)
        else:
            before = self.style[0 if cell.best else 1][0] if cell.best or cell.second else ""
            behind = self._behind(cell)
            lines = [f"{before}{one_line(cell.text)}{behind}{' ' * (self.behind - _columns_of(behind))}"]
        if intervals and (ends := _interval(cell, column)):
            lines.append(ends)
        if cell.note and (not cell.text or cell.note.endswith("subsets")):
            lines += wrapped(f"({cell.note})", _WORDS)
        return lines

    def _behind(self, cell: Cell) -> str:
        """What stands behind the number."""
        after = self.style[0 if cell.best else 1][1] if cell.best or cell.second else ""
        return f"{after} {one_line(cell.mark)}" if cell.mark else after


def _parts(widths: Sequence[float], room: float, between: float = 2) -> list[list[int]]:
    """Places of the columns that stand side by side; one at least."""
    parts: list[list[int]] = [[]]
    left = room
    for place, each in enumerate(widths):
        if parts[-1] and left < between + each:
            parts.append([])
            left = room
        parts[-1].append(place)
        left -= between + each
    return parts


def _beside(cells: Sequence[Sequence[str]], name_width: int, columns: Sequence[_TerminalColumn]) -> list[str]:
    """The lines of a row: the name at the left, numbers at the right of their columns."""
    lines = []
    for name, *others in zip_longest(*cells, fillvalue=""):
        text = name + " " * (name_width - _columns_of(name))
        for other, column in zip(others, columns, strict=True):
            text += "  " + " " * (column.width - _columns_of(other)) + other
        lines.append(text.rstrip())
    return lines


def _columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese letters take two, marks above letters and codes none."""
    text = text.replace(_BOLD, "").replace(_UNDERLINED, "").replace(_PLAIN, "")
    if text.isascii():
        return len(text)
    bare = [character for character in text if unicodedata.category(character) not in {"Mn", "Me", "Cf"}]
    return len(bare) + sum(unicodedata.east_asian_width(character) in "WF" for character in bare)


# -- LaTeX --------------------------------------------------------------------------------------------------------


def as_latex(table: Table, *, intervals: bool = True) -> str:
    r"""A table as a ``tabular`` for booktabs and siunitx, with its notes as comments above.

    Numbers stand in S columns, so that they are aligned by their points; what siunitx cannot read, an underlined number
    or a dash, is padded to the same width. It needs ``\usepackage{booktabs,siunitx}``.

    Args:
        table: The table.
        intervals: Whether intervals stand below the values that have one, in a row of their own.
    """
    notes = [f"% {one_line(note)}" for note in table.notes]  # a second line would not be a comment
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
        caption = " ".join((f"{table.title}.", *table.notes))
        long = len(caption) > _LONG_CAPTION
        for number, page in enumerate(_pages(table, intervals, 0 if long else len(caption))):
            told = f"{table.title}, continued." if number else f"{table.title}." if long else caption
            lines += [
                r"\begin{table}[p]",
                r"\centering",
                r"\footnotesize",
                r"\setlength{\tabcolsep}{4pt}",
                rf"\caption{{{_sentence(told)}}}",
                *([] if number else [rf"\label{{tab:{table.name}}}"]),
                *_tabular(page, intervals),
                r"\end{table}",
                r"\clearpage",
            ]
        if long:
            lines += [
                r"{\footnotesize\raggedright",
                rf"\noindent {_sentence(' '.join(table.notes))}\par}}",
                r"\clearpage",
            ]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


#: Lines of a table on one page, below a caption of so many lines; a longer one takes room from it.
_PAGE, _CAPTION_LINES = 36, 6
#: Characters in a line of the caption; a caption with more than this is a title, and its notes stand behind the table.
_CAPTION_LINE, _LONG_CAPTION = 130, 1800
#: How much wider bold letters are, and how much narrower those of intervals.
_WIDER_BOLD, _SMALLER = 1.12, 0.94
#: Points across the page, of the space between columns, and of a name that is broken into lines.
_TEXT_WIDTH, _BETWEEN, _NAME_WIDTH = 750.0, 8.0, 143.0


def _pages(table: Table, intervals: bool, caption: int) -> list[Table]:
    """A table in parts that fit on a page: columns side by side, rows cut between sections where that can be.

    Args:
        table: The table.
        intervals: Whether intervals stand below the values.
        caption: Characters of the caption, which stands on the first page.
    """
    first = max(_PAGE - round(1.3 * max(caption / _CAPTION_LINE - _CAPTION_LINES, 0)), 8)
    pages: list[list[Row]] = [[]]
    left = first
    for _, rows in groupby(table.rows, key=lambda row: row.section):
        section = list(rows)
        lines = [_lines_of(row, intervals) for row in section]
        if pages[-1] and sum(lines) > left:
            pages.append([])
            left = _PAGE
        for row, each in zip(section, lines, strict=True):
            if pages[-1] and each > left:  # only in a section that is longer than a page
                pages.append([])
                left = _PAGE
            pages[-1].append(row)
            left -= each
    parts = _columns(table, intervals)
    return [
        replace(
            table,
            columns=tuple(table.columns[place] for place in part),
            rows=tuple(replace(row, cells=tuple(row.cells[place] for place in part)) for row in rows),
        )
        for rows in pages
        for part in parts
    ]


def _lines_of(row: Row, intervals: bool) -> int:
    """Lines of a row: long names are broken, and intervals stand below."""
    broken = [
        math.ceil(_points(name) / (_NAME_WIDTH - 12)) for name in (row.section, row.label) if len(name) > _LONG_NAME
    ]
    return max([1, *broken]) + (intervals and any(cell.low is not None for cell in row.cells))


def _columns(table: Table, intervals: bool) -> list[list[int]]:
    """Places of the columns that stand on one page, about as many on each."""
    widths = []
    for place, column in enumerate(table.columns):
        cells = [row.cells[place] for row in table.rows]
        alike = sum(each.group == column.group for each in table.columns)
        needed = [_points(f"{column.title} ↑"), _points(column.group) / alike]
        needed += [_points(f"{cell.text}{cell.mark}") * (_WIDER_BOLD if cell.best else 1) for cell in cells]
        needed += [_points(f"-- ({cell.note})") for cell in cells if not cell.text]
        if intervals:
            needed += [_points(_interval(cell, column)) * _SMALLER for cell in cells]
        widths.append(max(needed))
    sections = [table.heads[0], *(row.section for row in table.rows)]
    labels = [table.heads[1], *(row.label for row in table.rows)]
    room = _TEXT_WIDTH - 2 * _BETWEEN
    for names in (sections, labels):
        room -= _NAME_WIDTH if max(map(len, names)) > _LONG_NAME else max(map(_points, names))
    parts = _parts(widths, room, _BETWEEN)
    ends = [len(widths) * number // len(parts) for number in range(len(parts) + 1)]
    even = [list(range(start, end)) for start, end in pairwise(ends)]
    fit = all(sum(widths[place] + _BETWEEN for place in part) <= room for part in even)
    return even if fit else parts


def _points(text: str) -> float:
    """About how wide a text is in a table of a document, in points of its font, and rather more than less."""
    return sum(
        2.8
        if c in " .,:;'|!()[]ijl"
        else 8.0
        if c in "mwMW@%"
        else 6.3
        if c.isupper()
        else 4.5
        if c in _NARROW
        else 8.0
        for c in one_line(text)
    )


_NARROW = frozenset(f"{string.digits}{string.ascii_lowercase}{string.punctuation}{_DAGGER}")


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
        self.title = table.columns[place]
        self.decimals = self.title.decimals
        printed = {len(cell.text.partition(".")[2]) for cell in cells if cell.value is not None and cell.text}
        if self.decimals is not None and printed:
            # Numbers of several kinds, such as shares above ranks, have no common point to be aligned by.
            self.decimals = printed.pop() if len(printed) == 1 else None
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
            text = escape_latex(cell.text)
            if cell.value is not None:
                text = text.replace("-", r"\textminus{}")
            text = rf"\textbf{{{text}}}" if cell.best else rf"\underline{{{text}}}" if cell.second else text
            return _in_braces(text + _superscript(cell.mark))
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
        ends = _interval(cell, self.title)
        return rf"{{\scriptsize {ends}}}" if ends else "{}"


def _superscript(mark: str) -> str:
    return rf"\textsuperscript{{{escape_latex(mark)}}}" if mark else ""


def _in_braces(text: str) -> str:
    return f"{{{text}}}"


def _sentence(text: str) -> str:
    """Text of a caption, in which long names may be broken."""
    return " ".join(_breakable(word) if len(word) > _LONG_NAME else _spelled(word) for word in one_line(text).split())


def _breakable(text: str) -> str:
    """A name that may be broken behind its slashes, hyphens and underscores, and where it has none for long."""
    parts = re.split(r"(?<=[/_=-])", one_line(text))
    broken = [part[start : start + _UNBROKEN] for part in parts for start in range(0, len(part), _UNBROKEN)]
    return r"\allowbreak{}".join(map(_spelled, broken))


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
    "\ufffd": "?",  # no font of LaTeX's has it
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return _spelled(one_line(text))


def _spelled(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


# -- the long form ------------------------------------------------------------------------------------------------


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records of the long form as CSV; numbers as Python prints them, so that they can be read back exactly.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, by which spreadsheets know a text.
    """
    file = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    writer = csv.writer(file, lineterminator="\n")
    for row in (names, *([record.get(name, "") for name in names] for record in records)):
        writer.writerow(map(_escape_csv, row))
    return file.getvalue()


def _escape_csv(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


#: What JSON may hold and a terminal may not: it is written as JSON's own escapes, so nothing is lost.
_UNSHOWN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def as_json(records: Sequence[Mapping[str, Any]], details: Mapping[str, Any]) -> str:
    """Records of the long form, and what the report says about itself, as JSON."""
    text = json.dumps({**details, "values": list(records)}, ensure_ascii=False, indent=1, allow_nan=False)
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"
