"""Figures as matplotlib has them: what was given is drawn, nothing covers anything, and files are as papers want."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from exhibit_samples import BARS, DIFFERENCES, EVIL, FIGURES, HEAT_MAP, LONG, RANKS, SCATTER, SWEEP
from hybrid_bench.errors import RequestError, one_line
from hybrid_bench.reporting.drawing import contrast
from hybrid_bench.reporting.elements import Bars, Distribution, Figure, HeatMap, Point, Scatter
from hybrid_bench.reporting.plots import draw, save

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SMALL: tuple[Figure, ...] = (DIFFERENCES, SWEEP)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Canvas]:
    """The samples, each laid out."""
    canvases = {figure.name: draw(figure) for figure in FIGURES}
    for canvas in canvases.values():
        canvas.draw_without_rendering()
    return canvases


def texts(canvas: Canvas) -> list[Text]:
    """Whatever text of a figure is seen."""
    found = canvas.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible() and bool(artist.get_text()))
    return [text for text in found if isinstance(text, Text) and not hidden(canvas, text)]


def hidden(canvas: Canvas, text: Text) -> bool:
    """Whether a tick's label is beyond the ends of its axis, where it is not drawn."""
    for axes in canvas.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = {id(label) for label in axis.get_ticklabels()}
            every = {id(label) for tick in axis.majorTicks for label in (tick.label1, tick.label2)}
            if id(text) in every - shown:
                return True
    return False


def one_axes(canvas: Canvas) -> Axes:
    return canvas.axes[0]


# -- files --------------------------------------------------------------------------------------------------------


def test_files_are_png_and_pdf_as_papers_want_them(tmp_path: Path) -> None:
    told: list[str] = []
    files = save(SMALL, tmp_path / "new" / "folder", told.append)
    assert [file.name for file in files] == ["differences.png", "differences.pdf", "sweep.png", "sweep.pdf"]
    assert sorted(tmp_path.rglob("*.*")) == sorted(files), "nothing is left beside them"
    assert len(told) == 2
    for figure, png, pdf in zip(SMALL, files[::2], files[1::2], strict=True):
        picture = png.read_bytes()
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = draw(figure).get_size_inches()
        assert struct.unpack(">II", picture[16:24]) == (int(width * 200), int(height * 200))
        assert struct.unpack(">I", picture[picture.index(b"pHYs") + 4 :][:4])[0] == round(200 / 0.0254)
        page = pdf.read_bytes()
        assert page.startswith(b"%PDF-")
        assert page.rstrip().endswith(b"%%EOF")
        assert b"/FontFile2" in page, "TrueType, embedded"
        assert b"/Type3" not in page
        assert b"/Subtype /Image" not in page, "all of it can be scaled"
        for stamp in (b"CreationDate", b"tEXt", b"Software"):
            assert stamp not in page
            assert stamp not in picture


def test_the_same_figure_is_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    here = [file.read_bytes() for file in save([RANKS], tmp_path / "here")]
    script = (
        "import sys; from pathlib import Path\n"
        "from exhibit_samples import RANKS; from hybrid_bench.reporting.plots import save\n"
        "save([RANKS], Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    environment = os.environ | {"PYTHONHASHSEED": "17", "PYTHONPATH": paths, "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "there")], check=True, env=environment, timeout=120)
    assert [(tmp_path / "there" / name).read_bytes() for name in ("rank-distance.png", "rank-distance.pdf")] == here


def test_the_users_settings_take_no_part_and_stay(tmp_path: Path) -> None:
    plain = [file.read_bytes() for file in save([DIFFERENCES], tmp_path / "plain")]
    with matplotlib.rc_context({"font.size": 30, "pdf.fonttype": 3, "axes.facecolor": "red", "text.parse_math": True}):
        settings = dict(matplotlib.rcParams)
        styled = [file.read_bytes() for file in save([DIFFERENCES], tmp_path / "styled")]
        assert dict(matplotlib.rcParams) == settings
    assert styled == plain


def test_names_of_files_are_plain_and_different(tmp_path: Path) -> None:
    small = replace(DIFFERENCES, name="../a b/c")
    files = save([small, replace(small, name="../A b/c")], tmp_path)
    assert [file.name for file in files[::2]] == ["a-b-c.png", "A-b-c-2.png"]
    assert all(file.parent == tmp_path and file.is_file() for file in files)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write figures to .*file.*: give another folder"):
        save([DIFFERENCES], tmp_path / "file")


def test_without_matplotlib_the_fix_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'matplotlib>=[\d.]+'"):
        draw(DIFFERENCES)
    with pytest.raises(RequestError, match="need matplotlib"):
        save([DIFFERENCES], tmp_path)


# -- layout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [figure.name for figure in FIGURES])
def test_nothing_is_cut_off(name: str, drawn: dict[str, Canvas]) -> None:
    canvas = drawn[name]
    for text in texts(canvas):
        extent = text.get_window_extent()
        assert extent.x0 >= -1, text
        assert extent.y0 >= -1, text
        assert extent.x1 <= canvas.bbox.x1 + 1, text
        assert extent.y1 <= canvas.bbox.y1 + 1, text


@pytest.mark.parametrize("name", [figure.name for figure in FIGURES])
def test_no_text_covers_another(name: str, drawn: dict[str, Canvas]) -> None:
    extents = [(text.get_text(), text.get_window_extent()) for text in texts(drawn[name])]
    for (one, here), (other, there) in combinations(extents, 2):
        common = Bbox.intersection(here, there)
        assert common is None or min(common.width, common.height) < 2, (one, other)


@pytest.mark.parametrize("name", ["rank-distance", "sweep", "bias-quality", "per-language"])
def test_legends_cover_no_data(name: str, drawn: dict[str, Canvas]) -> None:
    canvas = drawn[name]
    (legend,) = canvas.legends
    for axes in canvas.axes:
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_widths_are_those_of_a_column_and_of_a_page(drawn: dict[str, Canvas]) -> None:
    widths = {name: round(canvas.get_figwidth(), 2) for name, canvas in drawn.items()}
    assert widths == {
        "pairs": 6.9, "differences": 3.3, "rank-distance": 3.3, "sweep": 3.3, "bias-quality": 6.9, "per-language": 6.9,
    }  # fmt: skip


def test_what_does_not_fit_a_page_grows() -> None:
    codes = tuple(f"l{place}" for place in range(24))
    wide = replace(HEAT_MAP, rows=codes, columns=codes, values=np.full((24, 24), 0.123))
    assert draw(wide).get_figwidth() > 7
    many = Bars("many", "Many", "mAP", codes, {f"model {place}": [BARS.series["a"][0]] * 24 for place in range(6)})
    canvas = draw(many)
    assert (canvas.get_figwidth(), len(canvas.axes)) == (6.9, 2)
    assert [label.get_text() for axes in canvas.axes for label in axes.get_xticklabels()] == list(codes)


def test_names_are_written_as_they_are(drawn: dict[str, Canvas]) -> None:
    for name in ("rank-distance", "per-language"):
        (legend,) = drawn[name].legends
        written = ["".join(text.get_text().split()) for text in legend.get_texts()]
        assert {"".join(each.split()) for each in (one_line(EVIL), LONG, "_hidden$")} <= set(written)
    for canvas in drawn.values():
        assert not any(text.get_parse_math() for text in texts(canvas) if "$" in text.get_text())


# -- what is drawn ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", [HEAT_MAP, DIFFERENCES])
def test_cells_of_a_heat_map_have_their_values_and_can_be_read(figure: HeatMap, drawn: dict[str, Canvas]) -> None:
    values = figure.values
    axes = one_axes(drawn[figure.name])
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(cells) == len(axes.texts) == values.size
    sign = "+" if figure is DIFFERENCES else ""
    for (place, value), cell, text in zip(np.ndenumerate(values), cells, axes.texts, strict=True):
        assert text.get_position() == (place[1], place[0])
        assert cell.get_xy() == (place[1] - 0.5, place[0] - 0.5)
        mark = "*" if figure is DIFFERENCES and place == (0, 0) else ""
        assert text.get_text() == ("\N{EN DASH}" if np.isnan(value) else f"{value:{sign}.3f}{mark}")
        least = 4.0 if np.isnan(value) else 4.58
        assert contrast(to_hex(cell.get_facecolor()), to_hex(text.get_color())) >= least
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is on top"


def test_the_middle_of_differences_is_neither_red_nor_blue(drawn: dict[str, Canvas]) -> None:
    axes = one_axes(drawn["differences"])
    cells = {text.get_text(): to_rgb(cell.get_facecolor()) for cell, text in zip(axes.patches, axes.texts, strict=True)}
    assert np.ptp(cells["+0.000"]) < 0.01
    assert cells["-0.250*"][0] > 2 * cells["-0.250*"][2]
    assert cells["+0.125"][2] > cells["+0.125"][0]


def test_a_distribution_is_that_of_the_values(drawn: dict[str, Canvas]) -> None:
    axes = one_axes(drawn["rank-distance"])
    assert axes.get_xscale() == "log"
    curves = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert len(curves) == len(RANKS.series)
    for values, curve in zip(RANKS.series.values(), curves, strict=True):
        at = np.asarray(curve.get_xdata())
        for value, share in list(zip(at, np.asarray(curve.get_ydata()), strict=True))[::50]:
            assert share == pytest.approx((values <= value).mean(), abs=1e-12)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in curves}) == len(curves)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "100", "1,000", "10,000", "100,000"]


def test_bars_have_their_values_and_intervals(drawn: dict[str, Canvas]) -> None:
    axes = one_axes(drawn["per-language"])
    bars = [bar for each in BARS.series.values() for bar in each if bar is not None]
    drawn_bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [patch.get_height() for patch in drawn_bars] == pytest.approx([bar.value for bar in bars])
    lefts = [patch.get_x() for patch in drawn_bars]
    assert len(set(lefts)) == len(lefts)
    intervals = [line for line in axes.lines if line.get_color() == "black"]
    ends = [tuple(np.asarray(line.get_ydata())) for line in intervals]
    assert ends == [(bar.low, bar.high) for bar in bars if bar.low is not None]
    assert "\N{EN DASH}" in [text.get_text() for text in axes.texts], "what is not there"
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in drawn_bars}
    assert len(looks) == len({hatch for _, hatch in looks}) == len(BARS.series)
    (legend,) = drawn["per-language"].legends
    keys = [handle for handle in legend.legend_handles if isinstance(handle, Patch)]
    assert {(key.get_facecolor(), key.get_hatch()) for key in keys} == looks


def test_bars_for_other_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="1 bars for 11 languages"):
        draw(replace(BARS, series={"a": [None]}))


def points_of(canvas: Canvas) -> list[PathCollection]:
    return [artist for artist in one_axes(canvas).collections if isinstance(artist, PathCollection)]


def test_areas_of_points_are_their_sizes(drawn: dict[str, Canvas]) -> None:
    found = {
        tuple(np.asarray(each.get_offsets())[0]): each
        for each in points_of(drawn["sweep"])
        if len(each.get_facecolor())
    }
    areas = {place: float(each.get_sizes()[0]) for place, each in found.items()}
    shares = [areas[point.x, point.y] / (point.size or 1) for point in SWEEP.points]
    assert shares == pytest.approx([shares[0]] * len(shares))
    (legend,) = drawn["sweep"].legends
    keys = zip(legend.legend_handles, (text.get_text() for text in legend.get_texts()), strict=True)
    for key, text in keys:
        if text.isdigit():
            assert isinstance(key, Line2D)
            assert key.get_markersize() ** 2 / float(text) == pytest.approx(shares[0])


def test_groups_are_joined_where_the_figure_says_so(drawn: dict[str, Canvas]) -> None:
    lines = one_axes(drawn["sweep"]).lines
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[0.686, 0.66, 0.647, 0.521], [0.42, 0.35]]
    assert not one_axes(draw(replace(SWEEP, joined=False))).lines


@pytest.mark.parametrize("name", ["sweep", "bias-quality"])
def test_labels_cover_no_point_and_leave_the_axes_nowhere(name: str, drawn: dict[str, Canvas]) -> None:
    axes = one_axes(drawn[name])
    labels = [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]
    assert len(labels) == len({"sweep": SWEEP, "bias-quality": SCATTER}[name].points)
    frame = axes.get_window_extent()
    for label in labels:
        extent = label.get_window_extent()
        assert frame.padded(2).contains(*extent.min)
        assert frame.padded(2).contains(*extent.max)
        for collection in points_of(drawn[name]):
            x, y = axes.transData.transform(np.asarray(collection.get_offsets())[0])
            assert not extent.contains(x, y), label


def test_reported_and_random_points_look_different(drawn: dict[str, Canvas]) -> None:
    faces = {tuple(np.asarray(each.get_offsets())[0]): each for each in points_of(drawn["bias-quality"])}
    assert np.asarray(faces[2300, 0.35].get_facecolor())[0, :3].tolist() == [1, 1, 1]
    assert to_hex(np.asarray(faces[4000, 0.3].get_facecolor())[0].tolist()) == "#0072b2"
    (legend,) = drawn["bias-quality"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["reported", "random ranking"]


@pytest.mark.parametrize(
    "figure",
    [
        Distribution("a", "", "x", {}),
        Distribution("a", "A", "x", {"a": np.array([]), "b": np.array([3.0])}),
        Scatter("a", "A", "x", "y", ()),
        Scatter("a", "A", "x", "y", (Point("p", 0.0, 0.0, 0.0),), size_title="size"),
        Bars("a", "A", "y", (), {}),
        Bars("a", "A", "y", ("de",), {"a": [None]}),
        replace(HEAT_MAP, rows=(), columns=(), values=np.zeros((0, 0))),
        replace(DIFFERENCES, values=np.full((2, 3), np.nan)),
        replace(DIFFERENCES, values=np.zeros((2, 3))),
        replace(HEAT_MAP, values=np.full((11, 11), 0.5), title="\N{CJK UNIFIED IDEOGRAPH-6A21} \\frac{ $\\alpha"),
    ],
)
def test_next_to_nothing_is_drawn_without_a_warning(figure: Figure, tmp_path: Path) -> None:
    assert all(file.stat().st_size > 500 for file in save([figure], tmp_path))


def test_numbers_on_axes_are_plain(drawn: dict[str, Canvas]) -> None:
    labels = [
        label.get_text()
        for name in ("rank-distance", "sweep", "bias-quality", "per-language")
        for axes in drawn[name].axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels()
    ]
    numbers = [label for label in labels if not label.isalpha()]
    assert len(numbers) > 20
    assert all(re.fullmatch(r"-?[\d,]+(\.\d+)?", label) for label in numbers)
