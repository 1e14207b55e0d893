"""What becomes of the rows of a training: which of them no batch can have, and why, and which an epoch draws again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.training.sampling import BatchPlan, Need
from hybrid_bench.training.texts import ParallelTexts

__all__ = ["Usage", "usage_of"]

# Rows that are looked at together.
_PIECE = 2**20
# Epochs of more rows than this are not gone through: it would take minutes.
_MOST_DRAWN = 2_000_000


@dataclass(frozen=True)
class Usage:
    """What batches make of the rows of a source.

    Attributes:
        source: Its name.
        rows: How many it has.
        left_out: How many of them no batch of any epoch can have, by reason; each row has one. A blank text is none.
        drawn: Rows that an epoch draws, all its batches together.
        different: How many different ones these are, in the first epoch; None of an epoch of more than two million rows
            that may hold some twice.
    """

    source: str
    rows: int
    left_out: Mapping[str, int]
    drawn: int
    different: int | None

    @property
    def usable(self) -> int:
        """Rows that batches can have."""
        return self.rows - sum(self.left_out.values())

    @property
    def repeated(self) -> int | None:
        """How often an epoch draws a row that it had before."""
        return None if self.different is None else self.drawn - self.different

    def lines(self) -> tuple[str, ...]:
        """What a user has to be told; nothing where every row can be used and none comes twice."""
        told = []
        if self.left_out:
            why = ", ".join(f"{reason} ({count:,})" for reason, count in self.left_out.items())
            told.append(f"{self.source}: {self.rows - self.usable:,} of {self.rows:,} rows are in no batch: {why}")
        if self.repeated:
            told.append(
                f"{self.source}: of {self.drawn:,} rows that an epoch draws, {self.repeated:,} come again, as too few "
                "others fit together in a batch"
            )
        return tuple(told)


def usage_of(plan: BatchPlan) -> tuple[Usage, ...]:
    """What a plan makes of the rows of each source.

    Every row is looked at, though not its texts: some seconds for millions of rows with gaps.
    """
    different = _different(plan)
    return tuple(
        Usage(source.name, len(source), _left_out(plan, place), share.batches * plan.size, different[place])
        for place, (source, share) in enumerate(zip(plan.items.sources, plan.shares, strict=True))
    )


def _left_out(plan: BatchPlan, place: int) -> dict[str, int]:
    """Rows that no batch can have, by the reason."""
    source, share = plan.items.sources[place], plan.shares[place]
    if not share.batches:
        wanted = f"no text in '{plan.sampling.language}'" if plan.sampling.mode == "en-en" else "in one language alone"
        return {wanted: len(source)}
    against = [numbers for numbers in source.negative_groups if numbers is not None]
    if source.whole and not against:
        return {}
    counts: dict[str, int] = {}
    for start in range(0, len(source), _PIECE):
        rows = np.arange(start, min(start + _PIECE, len(source)), dtype=np.int64)
        for reason, which in _reasons(source, rows, share.needs):
            if found := int(which.sum()):
                counts[reason] = counts.get(reason, 0) + found
    return counts


def _reasons(
    source: ParallelTexts, rows: NDArray[np.int64], needs: tuple[Need, ...]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Reasons, and which of these rows are left out for each."""
    fit = np.logical_or.reduce([need.fit(source, rows) for need in needs])
    found = []
    # What is missing first, going through what an item is made of, in whatever languages.
    asked, answered = np.zeros((2, len(rows), len(source.languages)), dtype=np.bool_)
    unexplained = ~fit
    for role in source.roles:
        there = np.stack([source.available(role, code, rows) for code in source.languages], axis=1)
        if role == "query":
            asked = there
        else:
            answered = there if role == "passage" else answered & there
        lacking = unexplained & ~(asked if role == "query" else answered).any(1)
        found.append((f"no {role.replace('_', ' ')}", lacking))
        unexplained &= ~lacking
    if len(needs) == 1 and needs[0].language >= 0:
        found.append((f"not whole in '{source.languages[needs[0].language]}'", unexplained))
    else:
        found.append(("no translation", unexplained))
    groups = source.group_of(rows)
    own = [numbers[rows] == groups for numbers in source.negative_groups if numbers is not None]
    if own:
        found.append(("a hard negative that is the answer", fit & np.logical_or.reduce(own)))
    return found


def _different(plan: BatchPlan) -> list[int | None]:
    """How many different rows of each source the first epoch draws."""
    drawn = [share.batches * plan.size for share in plan.shares]
    once = [source.whole and source.groups is None and not source.negative_groups for source in plan.items.sources]
    if all(once):
        return list(drawn)
    if sum(drawn) > _MOST_DRAWN:
        return [number if sure else None for number, sure in zip(drawn, once, strict=True)]
    epoch = plan.epoch(0)
    seen = np.zeros(plan.items.n_rows, dtype=np.bool_)
    for step in range(plan.steps):
        seen[epoch.batch(step) % plan.items.n_rows] = True
    starts = np.cumsum([0, *map(len, plan.items.sources)])
    return [int(seen[start:end].sum()) for start, end in pairwise(starts)]
