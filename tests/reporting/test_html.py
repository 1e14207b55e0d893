"""The page: its structure and numbers as a parser reads them, and that no name can become markup, style or script."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from exhibit_samples import BARS, DIFFERENCES, EVIL, EXHIBITS, HEAT_MAP, LONG, RANKS, SCATTER, SWEEP, TABLE
from hybrid_bench.errors import one_line
from hybrid_bench.reporting.drawing import contrast
from hybrid_bench.reporting.elements import (
    Bar,
    Bars,
    Cell,
    Column,
    Distribution,
    Element,
    HeatMap,
    Point,
    Row,
    Scatter,
    Table,
)
from hybrid_bench.reporting.html import as_html, page

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


@dataclass
class Node:
    """An element, with what stands within it."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    within: list[Node | str] = field(default_factory=list)

    def all(self, name: str = "", class_: str = "", **attributes: str) -> list[Node]:
        """The elements in it, in order, that have this name, class and attributes."""
        return [
            node
            for node in self.walk()
            if (not name or node.name == name)
            and (not class_ or class_ in node.classes)
            and all(node.attributes.get(key.replace("_", "-")) == value for key, value in attributes.items())
        ]

    def one(self, name: str = "", class_: str = "", **attributes: str) -> Node:
        (found,) = self.all(name, class_, **attributes)
        return found

    def walk(self) -> Iterator[Node]:
        for node in self.within:
            if isinstance(node, Node):
                yield node
                yield from node.walk()

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        return "".join(node if isinstance(node, str) else node.text for node in self.within)


class Parser(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order, and no attribute stands twice."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("document")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        node = Node(tag, dict(attrs))
        self.open[-1].within.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.open[-1].within.append(data)


def read(text: str) -> Node:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root], "not closed"
    return parser.root


def shown(*exhibits: Table | HeatMap | Distribution | Scatter | Bars) -> Node:
    """The body of a page of these exhibits."""
    return read(page("Report", exhibits, {})).one("main")


@pytest.fixture(scope="module")
def text() -> str:
    return page(f"Report {EVIL}", EXHIBITS, {"versions": {"hybrid_bench": "1.0"}, EVIL: [EVIL, 1, None]})


@pytest.fixture(scope="module")
def document(text: str) -> Node:
    return read(text)


# -- the page -----------------------------------------------------------------------------------------------------


def test_the_page_is_well_formed(text: str, document: Node) -> None:
    assert text.startswith("<!DOCTYPE html>\n")
    assert [node.name for node in document.one("html").within if isinstance(node, Node)] == ["head", "body"]
    ids = [node.attributes["id"] for node in document.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(drawings) > 4
    for drawing in drawings:  # the stricter rules of XML hold for them, too
        ET.fromstring(drawing.replace(" data-rove", ' data-rove=""'))


def test_the_contents_lead_to_every_exhibit(document: Node) -> None:
    links = document.one("nav").all("a")
    sections = document.all("section", "exhibit")
    assert [link.attributes["href"] for link in links] == [f"#{section.attributes['id']}" for section in sections]
    assert [link.text for link in links] == [one_line(exhibit.title) for exhibit in EXHIBITS]
    assert [section.all("h2")[0].text for section in sections] == [one_line(exhibit.title) for exhibit in EXHIBITS]


def test_names_become_text_and_nothing_else(document: Node) -> None:
    assert document.one("head").one("title").text == one_line(f"Report {EVIL}")
    assert len(document.all("script")) == 1
    assert not document.all("img")
    for node in document.walk():
        assert not any(name.startswith("on") for name in node.attributes), node.attributes
        assert "style" not in node.attributes
    assert document.one("main").text.count(one_line(EVIL)) >= 12
    assert EVIL not in document.one("script").text + document.one("style").text


def test_every_place_that_takes_a_name_escapes_it() -> None:
    # Another piece of markup for each place, so that one that is missed says which it is.
    count = iter(range(1000))

    def evil() -> str:
        return f"</script></style></svg></title>\"'><b x{next(count)}>&amp;"

    exhibits: list[Element] = [
        Table(
            evil(),
            evil(),
            (evil(), evil()),
            (Column(evil(), evil(), evil()), Column(evil(), evil(), decimals=None)),
            (Row(evil(), evil(), (Cell(1.0, evil(), mark=evil(), note=evil()), Cell(None, evil())), "reported"),),
            (evil(),),
        ),
        HeatMap(
            evil(), evil(), evil(), evil(), evil(), (evil(),), (evil(),), np.array([[1.0]]),
            marks={(0, 0): evil()}, hints={(0, 0): evil()}, notes=(evil(),),
        ),
        Distribution(evil(), evil(), evil(), {evil(): np.array([1.0, 2.0])}, (evil(),)),
        Scatter(
            evil(), evil(), evil(), evil(), (Point(evil(), 1, 2, 3, evil()), Point(evil(), 2, 3, 4, evil())),
            joined=True, size_title=evil(), notes=(evil(),),
        ),
        Bars(evil(), evil(), evil(), (evil(),), {evil(): [Bar(0.5, 0.4, 0.6)], evil(): [None]}, (evil(),)),
    ]  # fmt: skip
    text = page(evil(), exhibits, {evil(): {evil(): [evil()]}})
    assert "<b " not in text
    document = read(text)
    assert not document.all("b")
    assert len(document.all("script")) == len(document.all("style")) == 1
    # Short names, and keys of columns, do not stand in the page as they are; whatever does is one whole text.
    found = set(re.findall(r"<b (x\d+)>&amp;", "\n".join(everything(document))))
    assert len(found) == next(count) - len(exhibits) - 2


def everything(document: Node) -> Iterator[str]:
    for node in document.walk():
        yield from (value or "" for value in node.attributes.values())
        yield from (part for part in node.within if isinstance(part, str))


def test_the_policy_allows_this_style_and_script_alone(document: Node) -> None:
    policy = document.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy is not None
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    for kind in ("style", "script"):
        digest = hashlib.sha256(document.one(kind).text.encode()).digest()
        assert parts[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert set(parts) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}


def test_nothing_in_the_page_asks_for_anything(document: Node) -> None:
    for node in document.walk():
        for name in ("src", "href", "action", "srcset", "xlink:href", "data", "poster"):
            assert (node.attributes.get(name) or "#").startswith("#"), node.attributes
    assert not re.search(r"url\(|@import|@font-face", document.one("style").text)
    assert not re.search(
        r"fetch|XMLHttp|WebSocket|import\(|sendBeacon|innerHTML|eval|https?:", document.one("script").text
    )


def test_the_same_report_is_the_same_page(text: str) -> None:
    details = {"versions": {"hybrid_bench": "1.0"}, EVIL: [EVIL, 1, None]}
    assert page(f"Report {EVIL}", EXHIBITS, details) == text


def test_names_that_no_encoding_takes_are_replaced() -> None:
    broken = "a\ud800\x00b"
    text = page(
        broken, [replace(TABLE, title=broken, rows=(Row(broken, broken, TABLE.rows[0].cells),))], {broken: broken}
    )
    text.encode("utf-8")
    assert "\x00" not in text
    assert read(text).one("h1").text == "a\ufffd\ufffdb"


def test_exhibits_of_one_name_have_anchors_of_their_own() -> None:
    document = read(page("Report", [TABLE, TABLE, DIFFERENCES], {}))
    assert [section.attributes["id"] for section in document.all("section", "exhibit")] == [
        "exhibit-main", "exhibit-main-2", "exhibit-differences",
    ]  # fmt: skip


def test_details_are_lists_within_lists(document: Node) -> None:
    about = document.one("section", id="about")
    outer = about.all("dl")[0]
    assert [node.text for node in outer.within if isinstance(node, Node) and node.name == "dt"] == [
        "versions",
        one_line(EVIL),
    ]
    assert [node.text for node in about.all("li")] == [one_line(EVIL), "1", "none"]
    assert about.all("dl")[1].text == "hybrid_bench1.0"


def test_a_report_of_nothing_is_a_page() -> None:
    document = read(page("Report", [], {}))
    assert document.one("h1").text == "Report"
    assert not document.all("nav")


# -- tables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> Node:
    return shown(TABLE).one("table")


def test_every_cell_of_a_table_is_there_with_its_value(table: Node) -> None:
    lines = [row for body in table.all("tbody") for row in body.all("tr") if "section" not in row.classes]
    assert [line.all("bdi")[0].text for line in lines] == [one_line(row.label) for row in TABLE.rows]
    for line, row in zip(lines, TABLE.rows, strict=True):
        cells = line.all("td")
        assert len(cells) == len(TABLE.columns)
        for node, cell in zip(cells, row.cells, strict=True):
            value = node.attributes.get("data-value")
            assert (None if value is None else float(value)) == cell.value
            assert node.text == (cell.text + cell.mark or "\N{EN DASH}")
            assert [part.text for part in node.all("strong")] == ([cell.text] if cell.best else [])
            assert [part.text for part in node.all("u")] == ([cell.text] if cell.second else [])
            assert [part.text for part in node.all("sup")] == ([cell.mark] if cell.mark else [])
            assert ("missing" in node.classes) == (not cell.text)


def test_each_section_is_a_body_with_its_head(table: Node) -> None:
    bodies = table.all("tbody")
    assert [body.one("tr", "section").one("th").text for body in bodies] == ["Collection XQuAD-R", "Collection MLQA-R"]
    assert [len(body.all("tr")) for body in bodies] == [5, 3]
    assert {node.attributes["colspan"] for node in table.all("th", scope="rowgroup")} == {"5"}


def test_rows_without_a_section_have_no_head() -> None:
    rows = tuple(replace(row, section="") for row in TABLE.rows)
    assert not shown(replace(TABLE, rows=rows)).all("tr", "section")


def test_columns_have_groups_and_directions(table: Node) -> None:
    top, below = table.one("thead").all("tr")
    assert [(node.name, node.text, node.attributes.get("colspan")) for node in top.walk()] == [
        ("td", "", None), ("th", "mAP", "2"), ("th", "Rank distance", "1"), ("td", "", "1"),
    ]  # fmt: skip
    heads = below.all("th")
    assert [node.text for node in heads] == ["Model", "Mo. ↑", "Mul. ↑", "mean ↓", "Coverage"]
    assert [node.attributes["data-better"] for node in heads] == ["text", "high", "high", "low", "text"]
    arrows = [node.attributes["aria-label"] for node in below.all("span", "arrow")]
    assert arrows == ["higher is better", "higher is better", "lower is better"]
    plain = replace(TABLE, columns=tuple(column._replace(group="") for column in TABLE.columns))
    assert len(shown(plain).one("thead").all("tr")) == 1


def test_reported_and_random_rows_are_marked(table: Node) -> None:
    reported, random = table.one("tr", "reported"), table.one("tr", "random")
    assert reported.one("span", "tag").text == "reported"
    assert reported.one("bdi").text == "mBERT hybrid"
    assert random.one("bdi").text == "random ranking"
    assert not random.all("span", "tag"), "its name says it"
    named = replace(TABLE, rows=(replace(TABLE.rows[3], label="chance"),))
    assert shown(named).one("tr", "random").one("span", "tag").text == "random"


def test_what_is_known_of_a_cell_is_said(table: Node) -> None:
    said = {one_line(node.text): node.attributes["title"] for node in table.all("td") if "title" in node.attributes}
    assert said == {
        "0.700": "0.70012\ninterval 0.68 to 0.72",
        "0.300†": "0.3\ninterval 0.28 to 0.32\np = 0.0123\nadjusted p = 0.0246",
        "\N{EN DASH}": "not reported",
        "0.600": f"0.6\n{one_line(EVIL)}",
    }


@pytest.mark.parametrize(("p", "text"), [(0.5, "0.5000"), (0.0001, "0.0001"), (0.00002, "2.0e-05"), (1.0, "1.0000")])
def test_a_p_value_is_never_printed_as_zero(p: float, text: str) -> None:
    cells = (Cell(0.5, "0.5", p=p), *TABLE.rows[0].cells[1:])
    (node, *_) = shown(replace(TABLE, rows=(Row("", "a", cells),))).all("td", title=f"0.5\np = {text}")
    assert node.text == "0.5"


def test_values_without_a_place_among_numbers_are_told() -> None:
    cells = (Cell(math.nan, "nan"), Cell(math.inf, "inf"), Cell(-math.inf, "-inf"), Cell())
    nodes = shown(replace(TABLE, rows=(Row("", "a", cells),))).one("tbody").all("td")
    assert [node.attributes.get("data-value") for node in nodes] == [None, "Infinity", "-Infinity", None]


def test_a_table_without_rows_says_so() -> None:
    assert shown(replace(TABLE, rows=())).one("tbody").text == "nothing to show"


def test_notes_stand_below() -> None:
    (section,) = shown(TABLE).all("section")
    assert [node.text for node in section.one("div", "notes").all("p")] == ["mAP at full depth.", one_line(EVIL)]


# -- heat maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", [HEAT_MAP, DIFFERENCES])
def test_a_heat_map_has_every_value_and_its_colour(figure: HeatMap) -> None:
    document = read(page("Report", [figure], {}))
    heat = document.one("table", "heat")
    rows = heat.one("tbody").all("tr")
    assert [row.one("th").text for row in rows] == list(figure.rows)
    assert [node.text for node in heat.one("thead").all("tr")[1].all("th")][1:] == list(figure.columns)
    style = document.one("style").text
    steps = []
    for (place, value), node in zip(np.ndenumerate(figure.values), heat.one("tbody").all("td"), strict=True):
        if np.isnan(value):
            assert node.text == "\N{EN DASH}"
            assert node.classes == ["missing"]
            continue
        mark = (figure.marks or {}).get((place[0], place[1]), "")
        assert node.text == f"{value:{'+' if figure.diverging else ''}.3f}{mark}"
        (step,) = node.classes
        found = re.search(rf"\.{step}{{background:(#\w+);color:(#\w+)}}", style)
        assert found
        assert contrast(*found.groups()) >= 4.58
        steps.append((float(value), int(step[1:])))
    ordered = [step for _, step in sorted(steps)]
    assert ordered == sorted(ordered)
    assert max(ordered) == 63 or figure.diverging
    if figure.diverging:  # 0 stands in the middle, the largest difference at an end
        assert [step for value, step in steps if value == 0] == [32]
        assert [step for value, step in steps if value == -0.25] == [0]


def test_a_cell_of_a_heat_map_says_what_it_is() -> None:
    heat = shown(DIFFERENCES).one("table")
    assert [node.attributes["title"] for node in heat.one("tbody").all("td")][:2] == [
        "query language German, passage language German\ndifference in mAP: -0.250\n"
        "95% interval -0.30 to -0.20; p = 0.0001",
        "query language German, passage language English\ndifference in mAP: +0.000",
    ]
    assert "none" in str(heat.one("td", "missing").attributes["title"])


def test_a_heat_map_of_nothing_is_drawn() -> None:
    empty = replace(DIFFERENCES, values=np.full((2, 3), np.nan), marks=None, hints=None)
    assert len(shown(empty).one("table").all("td", "missing")) == 6
    nothing = replace(empty, rows=(), columns=(), values=np.zeros((0, 0)), diverging=False)
    assert not shown(nothing).one("table").one("tbody").within


# -- drawings -----------------------------------------------------------------------------------------------------


def said(document: Node) -> list[list[str]]:
    """What the marks of a drawing say, line by line."""
    return [mark.one("title").text.split("\n") for mark in document.all("g", "mark")]


def test_the_marks_of_a_distribution_are_its_quantiles() -> None:
    lines = said(shown(RANKS))
    assert len(lines) == 5 * len(RANKS.series)
    for (name, values), place in zip(RANKS.series.items(), range(0, 20, 5), strict=True):
        for share, line in zip((0.1, 0.25, 0.5, 0.75, 0.9), lines[place : place + 5], strict=True):
            # The least value that this share of the queries does not exceed.
            least = next(value for value in sorted(values) if (values <= value).mean() >= share)
            assert line == [one_line(name), f"{share:.0%} of 3,000 queries: at most {least:,.0f}"]


def test_a_distribution_is_drawn_to_the_third_of_a_pixel() -> None:
    values = np.arange(1, 20001, dtype=float)
    figure = Distribution("ranks", "Ranks", "rank", {"a": values})
    picture = shown(figure).one("svg", "plot")
    path = str(picture.all("path", "line")[0].attributes["d"])
    assert len(path) < 40_000
    start = re.match(r"M([\d.]+) ([\d.]+)", path)
    assert start
    left, bottom = (float(number) for number in start.groups())
    right, top = float(path.rpartition("H")[2]), float(re.findall(r"V([\d.]+)", path)[-1])
    steps = [(float(x), float(y)) for x, y in re.findall(r"H([\d.]+)V([\d.]+)", path)]
    for x, y in steps[:: len(steps) // 50]:
        value = math.exp((x - left) / (right - left) * math.log(20000))
        share = (bottom - y) / (bottom - top)
        assert share == pytest.approx((values <= value).mean(), abs=0.01)


def test_bars_reach_from_zero_to_their_values() -> None:
    picture = shown(BARS).one("svg", "plot")
    lines = said(picture)
    assert len(lines) == 11 * 5
    assert lines[4] == ["c", "ar: none"]
    marks = picture.all("g", "mark")
    heights = {}
    for place, code in enumerate(BARS.categories):
        for at, (name, bars) in enumerate(BARS.series.items()):
            bar, mark = bars[place], marks[place * 5 + at]
            if bar is None:
                assert not mark.all("rect")
                continue
            assert lines[place * 5 + at][0] == one_line(name)
            assert lines[place * 5 + at][1].startswith(f"{code}: ")
            heights[bar.value] = float(str(mark.one("rect").attributes["height"]))
            assert len(mark.all("path", "interval")) == (bar.low is not None)
            if bar.low is not None and bar.high is not None:
                ends = re.findall(r"[\d.]+", str(mark.one("path", "interval").attributes["d"]))
                length = float(ends[1]) - float(ends[2])
                assert length / (bar.high - bar.low) == pytest.approx(heights[bar.value] / bar.value, rel=0.02)
    scale = heights[0.5] / 0.5
    assert all(height == pytest.approx(abs(value) * scale, abs=0.02) for value, height in heights.items())


def test_bars_for_other_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="1 bars for 11 languages"):
        page("Report", [replace(BARS, series={"a": [None]})], {})


def test_areas_of_points_are_their_sizes() -> None:
    marks = shown(SWEEP).one("svg", "plot").all("g", "mark")
    radii = [float(str(mark.all("circle")[0].attributes["r"])) for mark in marks]
    areas = [radius**2 / (point.size or 1) for radius, point in zip(radii, SWEEP.points, strict=True)]
    assert areas == pytest.approx([areas[0]] * len(areas), rel=0.01)
    assert said(shown(SWEEP))[0] == [
        "MiniLM, α = 1", "monolingual mAP ↑: 0.686", "cross-lingual mAP ↑: 0.293", "rank distance: 675",
    ]  # fmt: skip
    assert [len(mark.all("circle", "chosen")) for mark in marks] == [0, 0, 1, 0, 0, 0]


def test_points_of_a_group_are_joined_where_the_figure_says_so() -> None:
    lines = shown(SWEEP).one("svg", "plot").all("path", "line")
    assert [str(line.attributes["d"]).count("L") for line in lines] == [3, 1]
    assert len({line.attributes.get("stroke-dasharray") for line in lines}) == 2
    assert not shown(replace(SWEEP, joined=False)).one("svg", "plot").all("path", "line")


def test_reported_and_random_points_differ_in_shape() -> None:
    main = shown(SCATTER)
    marks = main.one("svg", "plot").all("g", "mark")
    kinds = [[name for name in ("filled", "hollow", "cross") if mark.all("", name)] for mark in marks]
    assert kinds == [["filled"], ["filled"], ["hollow"], ["cross"], ["filled"]]
    assert [node.text for node in main.one("ul", "legend").all("li")] == ["reported", "random ranking"]
    assert said(main)[2][:2] == ["mBERT hybrid", "reported"]


@pytest.mark.parametrize("figure", [RANKS, SWEEP, SCATTER, BARS])
def test_everything_drawn_is_within_the_picture(figure: Distribution | Scatter | Bars) -> None:
    picture = shown(figure).one("svg", "plot")
    width, height = (float(str(picture.attributes[name])) for name in ("width", "height"))
    assert picture.attributes["viewbox"] == f"0 0 {width:.0f} {height:.0f}"
    for node in picture.walk():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            if name in node.attributes:
                assert 0 <= float(str(node.attributes[name])) <= most, node
        for x, y in re.findall(r"([\d.-]+),([\d.-]+)", str(node.attributes.get("points", ""))):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


@pytest.mark.parametrize(
    "figure",
    [
        Distribution("a", "A", "x", {}),
        Distribution("a", "A", "x", {"a": np.array([]), "b": np.array([3.0])}),
        Scatter("a", "A", "x", "y", ()),
        Scatter("a", "A", "x", "y", (Point("p", 0.0, 0.0, 0.0),), size_title="size"),
        Bars("a", "A", "y", (), {}),
        Bars("a", "A", "y", ("de",), {"a": [None]}),
    ],
)
def test_a_drawing_of_next_to_nothing_is_drawn(figure: Distribution | Scatter | Bars) -> None:
    assert "nan" not in str(shown(figure).one("svg", "plot")).casefold()


def test_legends_name_every_series_with_a_key_of_its_own() -> None:
    for figure in (RANKS, BARS):
        items = shown(figure).one("ul", "legend").all("li")
        assert [item.text for item in items] == [one_line(name) for name in figure.series]
    assert LONG in RANKS.series
    shapes = [str(item.one("svg").within[1:]) + str(item.one("svg").within[0]) for item in shown(RANKS).all("li")]
    assert len(set(shapes)) == len(RANKS.series), "without colours they differ"


def test_a_table_for_a_notebook_needs_nothing_and_runs_nothing() -> None:
    text = as_html(TABLE)
    found = read(text)
    names = {node.name for node in found.walk()}
    assert names <= {
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td"),
        *("bdi", "strong", "u", "sup", "p"),
    }
    assert {key for node in found.walk() for key in node.attributes} <= {"style", "scope", "title"}
    rows = found.one("tbody").all("tr")
    assert [row.all("bdi")[1].text for row in rows] == [one_line(row.label) for row in TABLE.rows]
    shown = [[cell.text for cell in row.all("td")[1:]] for row in rows]
    assert shown == [
        [f"{cell.text}{cell.mark}" if cell.text else "\N{EN DASH}" for cell in row.cells] for row in TABLE.rows
    ]
    bold = [[bool(cell.all("strong")) for cell in row.all("td")[1:]] for row in rows]
    assert bold == [[cell.best and bool(cell.text) for cell in row.cells] for row in TABLE.rows]
    assert [note.text for note in found.all("p")] == [one_line(note) for note in TABLE.notes]
