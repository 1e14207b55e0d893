"""Exhibits for the tests of what shows them: one of each kind, small, with names that break what is not escaped."""

from __future__ import annotations

import numpy as np

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

__all__ = [
    "BARS",
    "DIFFERENCES",
    "EVIL",
    "EXHIBITS",
    "FIGURES",
    "HEAT_MAP",
    "LONG",
    "RANKS",
    "SCATTER",
    "SWEEP",
    "TABLE",
]

#: A name that is markup to a page, an attribute, a script and LaTeX.
EVIL = "<script>alert(\"1\")</script><img src=x onerror='alert(2)'> & $a_b$ ]]> --> \N{RIGHT-TO-LEFT OVERRIDE}abc"
LONG = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2 (dtype=float16, passage=sentence+context)"

_COLUMNS = (
    Column("monolingual", "Mo.", "mAP"),
    Column("multilingual", "Mul.", "mAP"),
    Column("distance", "mean", "Rank distance", 1, higher_is_better=False),
    Column("coverage", "Coverage", "", None, None),
)
#: The unrounded values of the first column differ where the printed ones do not: b is above a.
TABLE = Table(
    "main",
    "Retrieval quality",
    ("Collection", "Model"),
    _COLUMNS,
    (
        Row(
            "XQuAD-R",
            "a",
            (
                Cell(0.70012, "0.700", best=True, low=0.68, high=0.72),
                Cell(0.30, "0.300", second=True, mark="†", low=0.28, high=0.32, p=0.0123, p_adjusted=0.0246),
                Cell(1250.25, "1250.2"),
                Cell(None, "9/11"),
            ),
        ),
        Row(
            "XQuAD-R",
            "b",
            (Cell(0.70044, "0.700", best=True), Cell(), Cell(900.0, "900.0", best=True), Cell(None, "11/11")),
        ),
        Row(
            "XQuAD-R",
            "mBERT hybrid",
            (Cell(0.711, "0.711"), Cell(0.4, "0.400", best=True), Cell(None, note="not reported"), Cell()),
            "reported",
        ),
        Row(
            "XQuAD-R",
            "random ranking",
            (Cell(0.01, "0.010"), Cell(0.02, "0.020"), Cell(10845.5, "10845.5"), Cell()),
            "random",
        ),
        Row("MLQA-R", LONG, (Cell(0.5, "0.500"), Cell(0.1, "0.100"), Cell(70.0, "70.0"), Cell(None, "7/7"))),
        Row(
            "MLQA-R",
            EVIL,
            (Cell(0.6, "0.600", note=EVIL), Cell(0.2, "0.200", mark="ab"), Cell(60.0, "60.0"), Cell(None, "7/7")),
        ),
    ),
    ("mAP at full depth.", EVIL),
)

_CODES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
_VALUES = np.linspace(0.02, 0.8, 121).reshape(11, 11)
_VALUES[2, 3] = np.nan
HEAT_MAP = HeatMap("pairs", EVIL, "mAP ↑", "query language", "passage language", _CODES, _CODES, _VALUES)
DIFFERENCES = HeatMap(
    "differences",
    "b minus a",
    "difference in mAP",
    "query language",
    "passage language",
    ("de", "en"),
    ("de", "en", "th"),
    np.array([[-0.25, 0.0, 0.125], [0.03125, np.nan, 0.0625]]),
    diverging=True,
    marks={(0, 0): "*"},
    hints={(0, 0): "95% interval -0.30 to -0.20; p = 0.0001"},
    notes=("Marked: differs, Benjamini-Hochberg at .05.",),
)
_GENERATOR = np.random.default_rng(0)
RANKS = Distribution(
    "rank-distance",
    "Rank distance",
    "rank distance ↓",
    {
        name: np.ceil(_GENERATOR.lognormal(mean, 1.2, 3000))
        for name, mean in {"a": 5.0, EVIL: 6.0, LONG: 7.0, "_hidden$": 7.5}.items()
    },
)
SWEEP = Scatter(
    "sweep",
    "Alpha: monolingual against cross-lingual mAP",
    "monolingual mAP ↑",
    "cross-lingual mAP ↑",
    (
        Point("α = 1", 0.686, 0.293, 675, "MiniLM"),
        Point("α = 0.75", 0.66, 0.305, 600, "MiniLM"),
        Point("α = 0.5", 0.647, 0.308, 553, "MiniLM", chosen=True),
        Point("α = 0", 0.521, 0.316, 459, "MiniLM"),
        Point("α = 1", 0.42, 0.30, 900, EVIL),
        Point("α = 0", 0.35, 0.31, 800, EVIL),
    ),
    joined=True,
    size_title="rank distance",
)
SCATTER = Scatter(
    "bias-quality",
    "Bias against quality",
    "rank distance ↓",
    "multilingual mAP ↑",
    (
        Point(LONG, 4000, 0.3),
        Point("a", 4100, 0.31, chosen=True),
        Point("mBERT hybrid", 2300, 0.35, kind="reported"),
        Point("random ranking", 10845, 0.001, kind="random"),
        Point(EVIL, 9000, 0.1),
    ),
)
BARS = Bars(
    "per-language",
    "mAP by query language",
    "mAP ↑",
    _CODES,
    {
        name: [Bar(value, value - 0.03, value + 0.02) for value in _GENERATOR.uniform(0.1, 0.9, 11)]
        for name in ("a", LONG, EVIL, "_hidden$")
    }
    | {"c": [None, Bar(-0.1), *[Bar(0.5)] * 9]},
)
FIGURES = (HEAT_MAP, DIFFERENCES, RANKS, SWEEP, SCATTER, BARS)
EXHIBITS: tuple[Element, ...] = (TABLE, *FIGURES)
