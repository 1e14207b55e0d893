"""What drawings share: colours against matplotlib's and simulated colour blindness, axes and labels against laws."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_bench.reporting.drawing import (
    DIVERGING,
    SEQUENTIAL,
    SERIES,
    Box,
    Scale,
    contrast,
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

# -- colours ------------------------------------------------------------------------------------------------------

#: Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour: str, blindness: str) -> NDArray[np.float64]:
    """A colour in CIE L*a*b* (D65), as people with this blindness see it."""
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(BLINDNESS[blindness] @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    part = xyz / np.array([0.9505, 1.0, 1.089])
    root = np.where(part > (6 / 29) ** 3, np.cbrt(part), part / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_series_are_told_apart(blindness: str) -> None:
    distances = {
        (one, other): float(np.linalg.norm(lab(one, blindness) - lab(other, blindness)))
        for one, other in combinations(SERIES, 2)
    }
    # 2.3 is a difference that is just noticed.
    assert min(distances.values()) > 10, min(distances, key=lambda pair: distances[pair])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_scales_are_read_by_everyone(blindness: str) -> None:
    lightness = [lab(colour, blindness)[0] for colour in SEQUENTIAL]
    assert (np.diff(lightness) > 1).all(), "low is dark and high is bright"
    below, middle, above = DIVERGING[:5], DIVERGING[5], DIVERGING[:5:-1]
    for one, other in zip(below, above, strict=True):
        assert lab(one, blindness)[0] < lab(middle, blindness)[0] > lab(other, blindness)[0]
        assert np.linalg.norm(lab(one, blindness) - lab(other, blindness)) > 10


@pytest.mark.parametrize(("name", "colours"), [("viridis", SEQUENTIAL), ("RdBu", DIVERGING)])
def test_scales_are_those_of_matplotlib(name: str, colours: tuple[str, ...]) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    scale = Scale(0, 1, colours)
    for place in np.linspace(0, 1, 41):
        ours = [int(scale.colour(float(place))[at : at + 2], 16) for at in (1, 3, 5)]
        theirs = [255 * part for part in matplotlib.colormaps[name](float(place))[:3]]
        assert np.abs(np.subtract(ours, theirs)).max() < 6


def test_contrast_is_that_of_the_guideline() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)
    assert contrast("#336699", "#336699") == 1


@given(st.integers(0, 0xFFFFFF))
def test_ink_is_readable_on_any_colour(colour: int) -> None:
    background = f"#{colour:06x}"
    assert contrast(ink(background), background) >= 4.58


def test_a_scale_is_filled_by_its_values() -> None:
    scale = Scale.of(np.array([[0.2, np.nan], [0.6, 0.4]]), diverging=False)
    assert [scale.place(value) for value in (0.2, 0.4, 0.6)] == pytest.approx([0, 0.5, 1])
    assert (scale.colour(0), scale.colour(1)) == (SEQUENTIAL[0], SEQUENTIAL[-1])


def test_zero_is_the_middle_of_differences() -> None:
    scale = Scale.of(np.array([-0.1, 0.4, np.nan]), diverging=True)
    assert (scale.low, scale.high, scale.place(0)) == (-0.4, 0.4, 0.5)
    assert scale.colour(0.5) == DIVERGING[5]


@pytest.mark.parametrize("diverging", [False, True])
@pytest.mark.parametrize("values", [np.full((2, 2), np.nan), np.zeros((0, 0)), np.full(3, 0.0)])
def test_a_scale_of_nothing_or_of_one_value_has_a_middle(values: NDArray[np.float64], diverging: bool) -> None:
    scale = Scale.of(values, diverging)
    assert 0 <= scale.place(0.0) <= 1


# -- numbers and text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (0.05, "0.05"), (0.25, "0.25"), (1, "1"), (787.123, "787.1"), (12516.1, "12,516"),
     (-2.5, "-2.5"), (0.00001234, "1.23e-05"), (1e6, "1,000,000"), (0.12345, "0.1235"), (100.0, "100")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-3, 1e6))
def test_numbers_are_right_to_four_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=6e-4)


@given(st.text("ab/-_ =\u00e9", max_size=60), st.integers(1, 20))
def test_wrapping_loses_nothing_and_keeps_the_width(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_names_are_broken_between_their_parts() -> None:
    assert wrapped("sentence-transformers/LaBSE (dtype=float16)", 22) == [
        "sentence-transformers/",
        "LaBSE (dtype=float16)",
    ]
    assert wrapped("abcdefgh", 3) == ["abc", "def", "gh"]


@given(st.lists(st.text("aAb1-._/\\ :\0é漢", max_size=8), max_size=12))
def test_file_names_are_plain_and_all_different(names: list[str]) -> None:
    found = file_names(names)
    assert len(found) == len(names)
    assert len({name.casefold() for name in found}) == len(names)
    assert all(name.isascii() and name.strip(".-") == name and not set(name) & set("/\\ :\0") for name in found)


def test_file_names_keep_what_they_can() -> None:
    assert file_names(["pairs", "a/b:c", "PAIRS", "pairs-2", "x" * 300, "../.."]) == [
        "pairs", "a-b-c", "PAIRS-2", "pairs-2-2", "x" * 100, "unnamed",
    ]  # fmt: skip


# -- axes ---------------------------------------------------------------------------------------------------------


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(3, 9))
def test_linear_ticks_are_few_round_and_evenly_spaced(low: float, span: float, most: int) -> None:
    high = low + span
    ticks = linear_ticks(low, high, most)
    assert 1 <= len(ticks) <= most
    room = 1e-6 * span + 1e-9
    assert all(low - room <= tick <= high + room for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[:1], atol=room)
    if len(steps):
        digits = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(digits - each) for each in (1, 2, 2.5, 5)) < 1e-3


def test_linear_ticks_include_round_ends() -> None:
    assert linear_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert linear_ticks(-0.3, 0.3, 4) == [-0.2, 0, 0.2]
    assert linear_ticks(3, 3) == [3]


def test_log_ticks_are_powers_of_ten_where_these_suffice() -> None:
    assert log_ticks(6, 13014) == [10, 100, 1000, 10000]
    assert log_ticks(8, 130) == [10, 20, 50, 100]
    assert log_ticks(12, 19) == []


def test_examples_of_sizes_are_round_and_no_larger_than_the_largest() -> None:
    assert size_steps(675) == [500, 250, 100]
    assert size_steps(0.3) == pytest.approx([0.2, 0.1, 0.04])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_shares_are_the_empirical_distribution(values: list[int]) -> None:
    found, share = shares(np.array(values, dtype=float))
    theirs = scipy.stats.ecdf(values).cdf
    assert found.tolist() == theirs.quantiles.tolist()
    assert share == pytest.approx(theirs.probabilities, abs=1e-12)
    for value, part in zip(found, share, strict=True):
        assert part == pytest.approx(sum(each <= value for each in values) / len(values), abs=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_a_logarithm_does_not_take_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        shares(np.array([1.0, bad]))


# -- places for labels --------------------------------------------------------------------------------------------

LENGTHS = st.floats(0, 100)


@given(LENGTHS, LENGTHS, LENGTHS, LENGTHS)
def test_the_part_of_a_line_within_a_box_is_that_of_its_points(x0: float, y0: float, x1: float, y1: float) -> None:
    box = Box(20, 30, 70, 60)
    share = np.linspace(0, 1, 2001)
    across, along = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
    inside = ((across > 20) & (across < 70) & (along > 30) & (along < 60)).mean()
    length = math.dist((x0, y0), (x1, y1))
    assert box.crossed((x0, y0), (x1, y1)) == pytest.approx(inside * length, abs=length / 900)


def test_overlap_is_the_common_area() -> None:
    assert Box(0, 0, 4, 3).overlap(Box(2, 1, 9, 9)) == 4
    assert Box(0, 0, 4, 3).overlap(Box(4, 0, 5, 3)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_labels_cover_nothing_where_there_is_room(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = [(float(x), float(y)) for x, y in generator.uniform(40, 460, (12, 2))]
    lines = [(points[at], points[at + 1]) for at in range(3)]
    bounds = Box(0, 0, 500, 500)
    boxes = place_labels(points, [4.0] * 12, [(60.0, 10.0)] * 12, bounds=bounds, lines=lines)
    assert all(box.overlap(bounds) == pytest.approx(600) for box in boxes)
    assert all(one.overlap(other) == 0 for one, other in combinations(boxes, 2))
    marks = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    assert all(box.overlap(mark) == 0 for box in boxes for mark in marks)
    assert sum(box.crossed(*line) for box in boxes for line in lines) == 0


def test_a_label_alone_stands_right_of_its_point() -> None:
    (box,) = place_labels([(50, 50)], [5.0], [(20.0, 10.0)], bounds=Box(0, 0, 100, 100), gap=2)
    assert box == Box(57, 45, 77, 55)
    (box,) = place_labels([(90, 50)], [5.0], [(20.0, 10.0)], bounds=Box(0, 0, 100, 100), gap=2)
    assert box == Box(63, 45, 83, 55), "left of it where the right is taken"


def test_no_points_have_no_labels() -> None:
    assert place_labels([], [], [], bounds=Box(0, 0, 1, 1)) == []
