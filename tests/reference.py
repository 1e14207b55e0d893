"""Ranks by their definition, passage by passage, and scores that are hard to rank. Knows nothing of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["IDS_BY_BYTES", "SCORES", "above_by_definition", "order_by_definition", "random_ids"]

Scores = NDArray[np.float32]


def order_by_definition(scores: Sequence[float], ids: Sequence[str]) -> list[int]:
    """Positions of all passages, best first: by descending score, then by descending id, compared as UTF-8 bytes."""
    return sorted(range(len(ids)), key=lambda x: (scores[x], ids[x].encode()), reverse=True)


def above_by_definition(
    scores: Sequence[float], ids: Sequence[str], passage: int, segments: Sequence[int]
) -> list[int]:
    """How many passages of each segment come before this one."""
    counts = []
    for start, end in zip([0, *segments], segments, strict=False):
        others = [x for x in range(start, end) if x != passage]
        higher = sum(scores[x] > scores[passage] for x in others)
        tied = sum(scores[x] == scores[passage] and ids[x].encode() > ids[passage].encode() for x in others)
        counts.append(higher + tied)
    return counts


def random_ids(rng: np.random.Generator, n: int) -> list[str]:
    """Ids as the collections have them: eight arbitrary hex digits, then what is readable."""
    return [f"{number:08x}.{['ar', 'de', 'en'][x % 3]}.p{x}" for x, number in enumerate(rng.integers(2**32, size=n))]


def _choice(*values: float) -> Callable[[np.random.Generator, tuple[int, int]], Scores]:
    return lambda rng, shape: rng.choice(np.array(values, dtype=np.float32), size=shape)


#: Ids in ascending order of their UTF-8 bytes. UTF-16 would put the last before the one in front of it, a locale "a"
#: before "B" and "é" before "z", and a comparison of numbers "10" behind "9".
IDS_BY_BYTES = ("", "1", "10", "9", "B", "B ", "a", "z", "ß中", "é", "中", "\uffee", "\U00010348")

_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
_LARGEST = float(np.finfo(np.float32).max)

#: Score matrices by what is hard about them; each makes float32 of the shape it is given.
SCORES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Scores]] = {
    "continuous": lambda rng, shape: rng.standard_normal(shape, dtype=np.float32),
    "four values": _choice(0, 1, 2, 3),
    "all equal": _choice(0.25),
    "two decimals": lambda rng, shape: np.round(rng.uniform(-1, 1, shape), 2).astype(np.float32),
    "zeros of both signs": _choice(0.0, -0.0, -0.0, 1, -1),
    "negative": lambda rng, shape: -rng.exponential(size=shape).astype(np.float32) - 1,
    "huge and tiny": _choice(
        _LARGEST, -_LARGEST, float(np.nextafter(np.float32(_LARGEST), np.float32(0))), 1e-30, -1e-30, 1, 0
    ),
    "denormal": lambda rng, shape: (rng.integers(-6, 7, shape) * _SMALLEST).astype(np.float32),
    "neighbours": lambda rng, shape: (1 + rng.integers(0, 4, shape) * np.finfo(np.float32).eps).astype(np.float32),
    "every magnitude": lambda rng, shape: (rng.choice([-1.0, 1.0], shape) * 10 ** rng.uniform(-44, 38, shape)).astype(
        np.float32
    ),
}
