"""Tables as Markdown and LaTeX, and the long form: cell by cell, and read back."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import string
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from exhibit_samples import EVIL, LONG, TABLE
from hybrid_bench.analysis.study import Choices, Study
from hybrid_bench.data.published import published_systems
from hybrid_bench.errors import one_line
from hybrid_bench.reporting.elements import Cell, Column, Row, Table
from hybrid_bench.reporting.html import page
from hybrid_bench.reporting.tables import tables_of
from hybrid_bench.reporting.text import as_csv, as_json, as_latex, as_markdown, as_terminal, escape_latex, standalone
from report_cases import made_up

UP, DOWN = Column("up", "up", "Group"), Column("down", "down", "Group", 1, False)
WORDS = Column("words", "words", "", None, None)


def table_of(rows: Sequence[Row], columns: Sequence[Column] = (UP, DOWN), notes: Sequence[str] = ()) -> Table:
    return Table("t", "A table", ("Collection", "Model"), tuple(columns), tuple(rows), tuple(notes))


FIRST = Row(
    "C", "a", (Cell(0.5, "0.500", best=True, low=0.4, high=0.6), Cell(1234.56, "1234.6", second=True, mark="†"))
)
SECOND = Row("C", "b_c", (Cell(0.25, "0.250", second=True, mark="ab"), Cell(12.0, "12.0", best=True, mark="†a")))
MISSING = Row("C", "d", (Cell(), Cell(note="2 of 3 subsets")))


# -- Markdown -----------------------------------------------------------------------------------------------------


def test_markdown() -> None:
    text = as_markdown(table_of([FIRST, SECOND, MISSING], notes=["A note.", "Another."]), intervals=False)
    assert text.splitlines() == [
        "| Collection   | Model   |            up ↑ |             down ↓ |",
        "|:-------------|:--------|----------------:|-------------------:|",
        "| C            | a       |       **0.500** |    <u>1234.6</u> † |",
        "| C            | b_c     | <u>0.250</u> ab |        **12.0** †a |",
        "| C            | d       |               - | - (2 of 3 subsets) |",
        "",
        "- A note.",
        "- Another.",
    ]


def test_markdown_has_intervals_where_they_were_computed() -> None:
    text = as_markdown(table_of([FIRST, SECOND]))
    assert "| **0.500** [0.400, 0.600] |" in text
    assert text.count("[") == 1
    assert text.endswith("|\n")  # no notes


def test_groups_are_told_where_there_are_several() -> None:
    other = UP._replace(group="Other")
    header = as_markdown(table_of([FIRST], [UP, other])).splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[3:5]] == ["Group up ↑", "Other up ↑"]


def cells_of(line: str) -> list[str]:
    """The cells of a line as a reader of Markdown splits it: an escaped bar is none."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_bars_and_lines_do_not_break_markdown() -> None:
    rows = [Row("C|D", "a|b", FIRST.cells), Row("C|D", "c||d\ne", SECOND.cells)]
    text = as_markdown(table_of(rows, notes=["one\ntwo | three"]))
    lines = text.splitlines()
    assert [cells_of(line)[:2] for line in lines[2:4]] == [["C|D", "a|b"], ["C|D", "c||d e"]]
    assert {len(cells_of(line)) for line in lines[:4]} == {4}
    assert lines[4:] == ["", "- one two | three"]


def test_markdown_and_markup_in_names_are_printed_as_they_stand() -> None:
    text = as_markdown(table_of([Row("C", "<script>*a*`b`[c]\\d_e", FIRST.cells)]))
    assert text.splitlines()[2].startswith(r"| C            | \<script>\*a\*\`b\`\[c]\\d_e |")


#: What a name may hold that a reader of Markdown, of a page made from it or of a terminal would obey.
MARKUP = [
    "<script>",
    "<!--",
    "![x](http://x)",
    "[x](javascript:x)",
    "[x]: http://x",
    "**b**",
    "~~s~~",
    "_e_",
    "__e__",
    "a_b_c",
    "&lt;",
    "\\<b>",
    "<a|b>",
]


@pytest.mark.parametrize("name", MARKUP)
def test_nothing_in_a_table_or_its_notes_is_markup(name: str) -> None:
    """As a renderer of Markdown reads it: each name is text, as it stands."""
    cell = Cell(0.5, "0.500", note=f"{name} subsets")
    columns = [Column("up", name, name), Column("down", "down", "Group")]
    rows = [Row(name, name, (cell, Cell(note=name)))]
    text = as_markdown(table_of(rows, columns, notes=[f"Of {name}: `code`\n{name}"]))
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    assert set(re.findall(r"</?(\w+)", rendered)) == {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code"}
    assert "<!--" not in rendered
    shown = [unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", rendered)]
    assert shown[2:] == [f"{name} {name} ↑", "Group down ↑", name, name, f"0.500 ({name} subsets)", f"- ({name})"]
    (note,) = re.findall(r"<li>(.*?)</li>", rendered)
    assert unescape(note) == f"Of {name}: <code>code</code> {name}"


@pytest.mark.parametrize("name", ["`<b>", "`", "`<img src=x>`", "`[x](y)"])
def test_code_in_a_note_holds_nothing_but_text(name: str) -> None:
    text = as_markdown(table_of([FIRST], notes=[f"Of {name}: `code` of {name}"]))
    rendered = MarkdownIt("commonmark").enable("table").render(text).partition("<ul>")[2]
    assert set(re.findall(r"</?(\w+)", rendered)) <= {"ul", "li", "code"}


#: One of each kind that is obeyed instead of shown.
OBEYED = {
    "escape": "\x1b[31m",
    "bell": "\x07",
    "return": "\r",
    "C1": "\x9b31m",
    "override": "\u202e",
    "isolate": "\u2067",
    "mark": "\u200f",
    "surrogate": "\ud800",
    "nul": "\0",
    "line": "\u2028",
    "feed": "\x0c",
    "del": "\x7f",
}


@pytest.mark.parametrize("character", OBEYED.values(), ids=OBEYED)
def test_what_is_obeyed_reaches_no_output(character: str) -> None:
    name = f"a{character}b"
    cells = (Cell(0.5, "0.500", note=f"{name} subsets", mark=character), Cell(note=name))
    columns = [Column("up", name, name), Column("down", "down", "Group")]
    table = replace(table_of([Row(name, name, cells)], columns, [name]), title=name, heads=(name, name))
    records = [{"system": name, name: 1}]
    outputs = {
        "Markdown": as_markdown(table),
        "terminal": as_terminal(table, 80),
        "LaTeX": as_latex(table),
        "document": standalone([table]),
        "CSV": as_csv(records),
        "JSON": as_json(records, {"run": name}),
        "page": page(name, [table], {name: name}),
    }
    for output in outputs.values():
        output.encode()
        assert character[0] not in output
    read = json.loads(outputs["JSON"])
    assert (read["run"], read["values"]) == (name, records)  # JSON has escapes of its own, and loses nothing


def test_a_value_over_some_subsets_says_so() -> None:
    row = Row("C", "a", (Cell(0.5, "0.500", note="2 of 3 subsets"), Cell(1.0, "1.0", note="Table 3")))
    assert cells_of(as_markdown(table_of([row])).splitlines()[2])[2:] == ["0.500 (2 of 3 subsets)", "1.0"]


# -- a terminal ---------------------------------------------------------------------------------------------------


def test_terminal() -> None:
    text = as_terminal(table_of([FIRST, SECOND, MISSING], notes=["A note that is longer than a line."]), 44)
    assert text.splitlines() == [
        "Model            up ↑        down ↓",
        "───────────────────────────────────",
        "C",
        "a         **0.500**    _1234.6_ †",
        "       [0.400, 0.600]",
        "b_c        _0.250_ ab   **12.0** †a",
        "d                   -             -",
        "                            (2 of 3",
        "                           subsets)",
        "",
        "- A note that is longer than a line.",
    ]


@pytest.mark.parametrize("styled", [False, True])
@pytest.mark.parametrize("width", [*range(32, 120, 7), 200])
def test_a_table_fits_its_terminal_and_loses_nothing(width: int, styled: bool) -> None:
    text = as_terminal(TABLE, width, styled=styled)
    shown = re.sub(r"\x1b\[\d*m", "", text)
    assert max(map(len, shown.splitlines())) <= width
    assert ("\x1b" in text) is styled
    assert "<u>" not in text
    dense = "".join(shown.split())
    for row in TABLE.rows:
        assert all("".join(cell.text.split()) in dense for cell in row.cells)
    assert text.count("[0.680, 0.720]") == 1
    assert "[0.680" not in as_terminal(TABLE, width, intervals=False)
    if width < 100:
        assert dense.count("".join(one_line(EVIL).split())) == 1  # the note; names are broken into lines


def test_letters_of_two_columns_are_counted_as_two() -> None:
    rows = [Row("C", "日本語", FIRST.cells), Row("C", "é\u0301a", SECOND.cells), Row("C", "abcdef", SECOND.cells)]
    lines = as_terminal(table_of(rows, [UP]), 80, intervals=False).splitlines()
    assert [
        line.index("0.") - len(name) for line, name in zip(lines[3:], ("日本語", "é\u0301a", "abcdef"), strict=True)
    ]


# -- LaTeX --------------------------------------------------------------------------------------------------------


def test_latex() -> None:
    table = table_of([FIRST, SECOND, MISSING, replace(FIRST, kind="reported")], [UP, DOWN], ["A note."])
    assert as_latex(table, intervals=False).splitlines() == [
        "% A note.",
        r"\begin{tabular}{llS[table-format=1.3,detect-weight,mode=text,group-minimum-digits=12,"
        r"table-space-text-post={\textsuperscript{bb}}]S[table-format=4.1,detect-weight,mode=text,"
        r"group-minimum-digits=12,table-space-text-post={\textsuperscript{\textdagger{}b}}]}",
        r"\toprule",
        r" & & \multicolumn{2}{c}{Group} \\",
        r"\cmidrule(lr){3-4}",
        r"Collection & Model & {up $\uparrow$} & {down $\downarrow$} \\",
        r"\midrule",
        r"C & a & \bfseries 0.500 & {\underline{1234.6}\textsuperscript{\textdagger{}}"
        r"\phantom{\textsuperscript{b}}} \\",
        r" & b\_c & {\underline{0.250}\textsuperscript{ab}} & "
        r"\bfseries 12.0{\mdseries\textsuperscript{\textdagger{}a}} \\",
        r" & d & {--} & {-- (2 of 3 subsets)} \\",
        r"\addlinespace",
        r" & a & \bfseries 0.500 & {\underline{1234.6}\textsuperscript{\textdagger{}}"
        r"\phantom{\textsuperscript{b}}} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_rules_stand_below_groups_only() -> None:
    columns = [UP, UP._replace(group="Other"), UP._replace(group="Other"), WORDS]
    cells = (Cell(0.5, "0.500"),) * 3 + (Cell(text="9/11"),)
    lines = as_latex(table_of([Row("C", "a", cells)], columns)).splitlines()
    assert lines[2] == (r" & & \multicolumn{1}{c}{Group} & \multicolumn{2}{c}{Other} & \multicolumn{1}{c}{} \\")
    assert lines[3] == r"\cmidrule(lr){3-3} \cmidrule(lr){4-5}"
    assert lines[0].endswith("]r}")  # words are no S column
    assert lines[-3].endswith(r"& {9/11} \\")


def test_an_underlined_number_is_as_wide_as_the_others() -> None:
    """siunitx does not read it: what its widest neighbour has before the point, it gets as empty space."""
    down = [Cell(v, f"{v:.1f}", second=s) for v, s in ((12345.6, False), (7.5, True), (-120.0, False))]
    lines = as_latex(table_of([Row("C", "a", (cell,)) for cell in down], [DOWN])).splitlines()
    assert "S[table-format=+5.1," in lines[0]
    assert ",retain-explicit-plus" in lines[0]  # siunitx leaves a plus out unless it is told not to
    assert [line.partition(" & a & ")[2] for line in lines if " & a & " in line] == [
        r"12345.6 \\",
        r"{\phantom{0000\textminus{}}\underline{7.5}} \\",
        r"-120.0 \\",
    ]
    second = replace(down[2], second=True)
    assert r"{\phantom{00}\underline{\textminus{}120.0}}" in as_latex(
        table_of([Row("C", "a", (cell,)) for cell in (down[0], second)], [DOWN])
    )


def test_intervals_stand_in_a_line_of_their_own() -> None:
    lines = as_latex(table_of([FIRST, SECOND])).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("C & a & "))
    assert lines[place + 1] == r" & & {\scriptsize [0.400, 0.600]} & {} \\"
    assert lines[place + 2].startswith(r" & b\_c & ")
    assert "scriptsize" not in as_latex(table_of([FIRST, SECOND]), intervals=False)


@given(st.text(st.sampled_from("ab\\&%$#_{}~^<>|†↑↓é中 -")))
def test_escaped_text_reads_as_it_was(text: str) -> None:
    spelled = {
        r"\textbackslash{}": "\\",
        r"\textasciitilde{}": "~",
        r"\textasciicircum{}": "^",
        r"\textdagger{}": "†",
        r"$\uparrow$": "↑",
        r"$\downarrow$": "↓",
        r"\textless{}": "<",
        r"\textgreater{}": ">",
        r"\textbar{}": "|",
    }
    text = " ".join(text.split())
    escaped = escape_latex(text)
    parts = re.findall(r"\\text[a-z]+\{\}|\$\\[a-z]+\$|\\[&%$#_{}]|[^\\&%$#_{}~^<>|†↑↓]", escaped)
    assert "".join(parts) == escaped  # no special character is left bare
    assert "".join(spelled.get(part, part[-1]) for part in parts) == text


def test_names_cannot_leave_their_cells() -> None:
    name = r"\input{x}&$y^2~#%{_}" + "\n\\end{tabular}"
    text = as_latex(table_of([Row("A_B", name, FIRST.cells)], notes=["one\n\\evil"]), intervals=False)
    (line,) = [line for line in text.splitlines() if line.startswith(r"A\_B & ")]
    spelled = r"\textbackslash{}input\{x\}\&\$y\textasciicircum{}2\textasciitilde{}\#\%\{\_\} \textbackslash{}end"
    assert line.startswith(rf"A\_B & {spelled}\{{tabular\}} & ")
    assert text.count(r"\end{tabular}") == 1
    assert text.splitlines()[0] == r"% one \evil"


def test_long_names_are_broken_into_lines() -> None:
    name = "organisation/" + "a_rather-long=name-" * 4
    text = as_latex(table_of([FIRST, Row("C", name, SECOND.cells)]))
    assert r"\begin{tabular}{l>{\raggedright\arraybackslash}p{5cm}S[" in text
    broken = next(line for line in text.splitlines() if "organisation" in line).split(" & ")[1]
    assert broken.replace(r"\allowbreak{}", "") == escape_latex(name)
    assert max(map(len, broken.split(r"\allowbreak{}"))) <= 17
    unbroken = as_latex(table_of([Row("C", "x" * 90, FIRST.cells)]))
    assert max(map(len, re.findall("x+", unbroken))) == 16
    sections = as_latex(table_of([Row(name, "a", FIRST.cells)]))
    assert r"\begin{tabular}{>{\raggedright\arraybackslash}p{5cm}lS[" in sections
    assert r"{ll" in as_latex(table_of([FIRST, SECOND]))


def test_a_document_holds_each_table_with_its_caption() -> None:
    tables = [replace(table_of([FIRST], notes=["It is 100% & more."]), name=name) for name in ("one", "two")]
    text = standalone(tables)
    assert text.startswith(r"\documentclass")
    assert text.endswith("\\end{document}\n")
    assert text.count(r"\caption{A table. It is 100\% \& more.}") == 2
    assert re.findall(r"\\label\{tab:(\w+)\}", text) == ["one", "two"]
    for package in ("booktabs", "siunitx", "array", "caption"):
        assert re.search(rf"\\usepackage\{{[a-z,]*{package}", text)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2


def compiled(text: str, folder: Path) -> tuple[str, str]:
    """The log of pdflatex, and the words of the document."""
    (folder / "t.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=600)
    log = (folder / "t.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-3000:]
    assert (folder / "t.pdf").stat().st_size > 5000
    words = ""
    if shutil.which("pdftotext"):
        found = subprocess.run(["pdftotext", "-layout", "t.pdf", "-"], cwd=folder, capture_output=True, check=True)
        words = found.stdout.decode("utf-8")
    return log, words


def study_of(names: Sequence[str], *, intervals: bool) -> Study:
    """Runs of these names on something called XQuAD-R, with the published systems beside them."""
    rng = np.random.default_rng(0)
    subsets = ("de-de", "en-en", "de-en", "en-de", "de", "en")
    made = [
        made_up(
            name,
            {subset: rng.uniform(0.1 * number, 0.5 + 0.1 * number, 24).tolist() for subset in subsets},
            collection="XQuAD-R",
            ranks={code: [(1, int(rng.integers(2, 12_000))) for _ in range(24)] for code in ("de", "en")},
            pool_size=13_014,
        )
        for number, name in enumerate(names)
    ]
    choices = Choices(baseline=0, letters=True, intervals=intervals, draws=200)
    return Study(made, published_systems("published:elmahdy2024"), choices)


#: The session `latex` wants them to fail where there is no TeX; else they are skipped.
needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None and not os.environ.get("HYBRID_BENCH_REQUIRE_LATEX"),
    reason="pdflatex is not installed",
)


@pytest.mark.slow
@needs_latex
@pytest.mark.parametrize("intervals", [False, True], ids=["plain", "intervals"])
@pytest.mark.parametrize(
    "names",
    [
        ["hybrid_bench/bm25", "org/model-a", "org/model-b"],
        ["a", "sentence-transformers/" + "paraphrase-multilingual-MiniLM_L12=v2-" * 2, "$x^2$ & {100%} #1 ~\\_<|>"],
        ["a", "organisation/" + "x" * 77],
    ],
    ids=["usual", "90 characters", "90 characters without a break"],
)
def test_documents_compile_without_overfull_boxes(names: list[str], intervals: bool, tmp_path: Path) -> None:
    study = study_of(names, intervals=intervals)
    (table,) = tables_of(study, ["main"])
    log, words = compiled(standalone([table], intervals=intervals), tmp_path)
    assert r"Overfull \hbox" not in log
    assert "Warning: Reference" not in log
    if words:
        assert all(cell.text in words for row in table.rows for cell in row.cells)
        assert words.count("(reported)") == 6


def widened(table: Table, languages: int) -> Table:
    """A table by language as it would be of so many: its columns of languages again and again, under other codes."""
    places = [place for place, column in enumerate(table.columns) if column.key in {"de", "en"}]
    others = [place for place in range(len(table.columns)) if place not in places]
    codes = [first + last for first in "qwxyz" for last in string.ascii_lowercase][:languages]
    columns = [table.columns[places[0]]._replace(key=code, title=code) for code in codes]
    taken = [*(places[number % 2] for number in range(languages)), *others]
    return replace(
        table,
        columns=(*columns, *(table.columns[place] for place in others)),
        rows=tuple(replace(row, cells=tuple(row.cells[place] for place in taken)) for row in table.rows),
    )


@pytest.mark.parametrize("intervals", [False, True], ids=["plain", "intervals"])
@pytest.mark.parametrize("languages", [11, 40, 122])
def test_a_wide_and_long_table_is_split_and_loses_nothing(languages: int, intervals: bool) -> None:
    study = study_of(["a", "b", *(f"org/model-{number}" for number in range(18))], intervals=intervals)
    (table,) = (widened(each, languages) for each in tables_of(study, ["per-language"]))
    text = standalone([table], intervals=intervals)
    parts = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, flags=re.DOTALL)
    assert text.count(r"\begin{table}") == len(parts)
    assert text.count("continued.") == len(parts) - 1
    heads = [re.findall(r"\{(\w+)\}", next(line for line in part.splitlines() if "Setting" in line)) for part in parts]
    named = [head for part in dict.fromkeys(map(tuple, heads)) for head in part]
    assert named == [column.title for column in table.columns]  # each once, in order
    assert max(len(part) for part in heads) <= 26
    sizes = {len(part) for part in heads}
    assert max(sizes) - min(sizes) <= max(sizes) // 2 + 1  # about as many on each page
    for cell in {cell.text for row in table.rows for cell in row.cells if cell.text}:
        assert cell in text
    assert max(part.count("\n") for part in parts) <= 36 * 2


def test_intervals_have_the_decimals_of_their_values() -> None:
    """In a table by language ranks stand below shares, in the same columns."""
    share, rank = Cell(0.5, "0.500", low=0.4, high=0.6), Cell(812.25, "812.2", low=700.0, high=900.5)
    table = table_of([Row("mAP", "a", (share,)), Row("Rank dist.", "a", (rank,))], [UP])
    for text in (as_markdown(table), as_latex(table), as_terminal(table, 80)):
        assert "[0.400, 0.600]" in text
        assert "[700.0, 900.5]" in text
    assert r"\begin{tabular}{llr}" in as_latex(table)  # there is no point that both could be aligned by


@pytest.mark.slow
@pytest.mark.timeout(900)  # hundreds of columns of aligned numbers take TeX minutes
@needs_latex
@pytest.mark.parametrize("intervals", [False, True], ids=["plain", "intervals"])
@pytest.mark.parametrize("languages", [11, 122])
@pytest.mark.parametrize("runs", [4, 20])
def test_every_table_compiles_without_overfull_boxes(
    runs: int, languages: int, intervals: bool, tmp_path: Path
) -> None:
    names = ["hybrid_bench/bm25", LONG, *(f"org/model-{number}" for number in range(runs - 2))]
    study = study_of(names, intervals=intervals)
    (by_language,) = tables_of(study, ["per-language"])
    sections = list(dict.fromkeys(row.section for row in by_language.rows))
    shares_and_ranks = [row for row in by_language.rows if row.section in {sections[0], sections[-1]}]
    tables = [widened(replace(by_language, rows=tuple(shares_and_ranks)), languages)]
    if languages == 11:
        tables += [by_language, *tables_of(study, ["main", "bias", "leaderboard", "pairs"])]
    log, words = compiled(standalone(tables, intervals=intervals), tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log
    if words:
        assert all(cell.text in words for table in tables for row in table.rows for cell in row.cells)


@pytest.mark.slow
@needs_latex
def test_whatever_names_hold_it_compiles(tmp_path: Path) -> None:
    """As far as the fonts have the letters: those of other scripts take another engine."""
    name = "".join(character for character in EVIL if ord(character) < 256)
    rows = [replace(row, label=name if row.label == EVIL else row.label) for row in TABLE.rows]
    table = replace(TABLE, rows=tuple(rows), notes=(name, LONG))
    _, words = compiled(standalone([table]), tmp_path)
    if words:
        assert "alert" in words


@pytest.mark.slow
@needs_latex
def test_signs_of_differences_are_printed(tmp_path: Path) -> None:
    column = Column("delta", "Difference", "", 4, None)
    cells = [Cell(0.0123, "+0.0123", mark="†"), Cell(-0.5, "-0.5000")]
    _, words = compiled(standalone([table_of([Row("C", "a", (cell,)) for cell in cells], [column])]), tmp_path)
    if words:
        assert "+0.0123" in words
        assert re.search(r"[-−–]0\.5000", words)


# -- the long form ------------------------------------------------------------------------------------------------

RECORDS = [
    {"system": 'a, "b"', "value": 0.1 + 0.2, "n": 3, "p": None},
    {"system": "|$", "value": 1e-17, "n": 0, "p": 1 / 3, "source": "Table 1"},
]


def test_csv_is_read_back_exactly() -> None:
    text = as_csv(RECORDS)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == ["system", "value", "n", "p", "source"]
    assert [row["system"] for row in rows] == [record["system"] for record in RECORDS]
    assert [float(row["value"]) for row in rows] == [record["value"] for record in RECORDS]
    assert (rows[0]["p"], float(rows[1]["p"])) == ("", 1 / 3)
    assert (rows[0]["source"], rows[1]["source"]) == ("", "Table 1")
    assert "\r" not in text


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "=1\r\n=2"])
def test_no_text_is_a_formula(text: str) -> None:
    written = as_csv([{"system": text, "value": -0.5}])
    (row,) = csv.DictReader(io.StringIO(written, newline=""))
    assert row["system"] == "'" + " ".join(text.split())
    assert row["value"] == "-0.5"  # a number stays one


def test_json_is_read_back_exactly() -> None:
    text = as_json(RECORDS, {"seed": 0, "name": "é"})
    assert json.loads(text) == {"seed": 0, "name": "é", "values": RECORDS}
    assert text.endswith("}\n")
    assert "é" in text
    with pytest.raises(ValueError, match="JSON"):
        as_json([{"value": float("nan")}], {})
