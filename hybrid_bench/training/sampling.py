"""Which rows, and in which languages, make up every batch: computed from seed, epoch and step, in any order.

Nothing is drawn one after the other. Every decision is a hash of what it is about, so a training that goes on from step
300,000 computes that step's batch first, and every device computes the same one. Needs neither torch nor datasets.

An *epoch* is made as follows. G is the size of a *global* batch, that of all devices together.

1. Every source gets a number of batches in proportion to its rows: floor(rows / G). A permutation of all these batches
   says which source a step draws from.
2. The rows of a source are permuted, and cut into blocks of about 8,000, for a number of batches each. Its n-th batch
   is monolingual, in a language drawn uniformly, or cross-lingual, by a hash of n.
3. Within a block, batch after batch takes the first rows that it can have: their texts are there in its language, and
   no other row of the batch is of their group, or has a hard negative of it. What one batch cannot take is left for the
   others. Batches in languages with few texts choose first. If the rows of the block do not fill a batch, it gets rows
   of other blocks.

So a row comes at most once in an epoch, except where rows of other blocks were needed; the fewer than G rows that are
left over are others in the next epoch. There are no smaller batches: they would have fewer negatives, and devices would
wait for each other.

Sources: splitmix64's finaliser for hashes (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195); for permutations a
Feistel network with cycle walking (Black & Rogaway 2002, doi:10.1007/3-540-45760-7_9). Monolingual with probability
alpha, languages drawn uniformly, sources in proportion to size: arXiv 2408.10536.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.data.hashing import splitmix64
from hybrid_bench.errors import RequestError, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.texts import Items, ParallelTexts

__all__ = ["MODES", "BatchPlan", "Epoch", "Need", "Permutation", "Sampling"]

#: Ways of drawing batches. ``x-x``, LAReQA's: the pairs of a batch are each in one language, but in several together.
MODES = ("hybrid", "x-x-mono", "x-y", "x-x", "en-en")

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_MASK = 2**64 - 1
# Half-rounds of the Feistel network: an even number of at least four, so that both halves are mixed with each other
# twice and more.
_ROUNDS = 6
# Rows of a block, about; and batches, at least.
_BLOCK_ROWS, _BLOCK_BATCHES = 8_192, 16
# Steps whose sources are computed together.
_STEPS = 2**16
# Rows that are looked at first, to find out whether a source is large enough; and at a time, if those do not tell.
_SAMPLE, _PIECE = 2**16, 2**20
# Where fewer rows than this share have a text in a language, they are listed: looking for them would take too long.
_SPARSE = 1 / 16
# What a hash is for, so that no two decisions share one.
_ORDER, _ROWS, _KIND, _LANGUAGE, _PAIR, _OTHER_PAIR, _MORE = range(7)
# Kinds of batches.
_MONO, _CROSS, _MIXED = range(3)


@dataclass(frozen=True)
class Sampling:
    """How batches are drawn.

    Attributes:
        mode: One of `MODES`. ``hybrid``: monolingual with probability alpha, otherwise cross-lingual, where every pair
            is in two different languages, drawn uniformly among all ordered pairs. ``x-x-mono`` and ``x-y`` are
            hybrid with alpha 1 and 0. ``x-x``: query and passage in the same language, which is drawn anew for
            every pair. ``en-en``: one language alone.
        alpha: Probability of a monolingual batch, 0 to 1. ``x-x-mono`` and ``x-y`` set it; the last two do without.
        language: That of ``en-en``.
        keep_single: What becomes of sources in one language, which give monolingual batches only. False: they are left
            out of cross-lingual training, that is, they get the share alpha of what is in proportion to their size, and
            alpha of all batches are monolingual. True: sources are drawn in proportion to size alone, as in the
            paper, and more batches than alpha are monolingual.

    Raises:
        RequestError: An unknown mode, alpha that is no number from 0 to 1, or another than the mode's.
    """

    mode: str = "hybrid"
    alpha: float | None = None
    language: str = "en"
    keep_single: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise RequestError(f"unknown sampling mode {shown(self.mode)}: {did_you_mean(str(self.mode), MODES)}")
        fixed = {"x-x-mono": 1.0, "x-y": 0.0}.get(self.mode)
        if self.mode in {"x-x", "en-en"}:
            if self.alpha is not None:
                raise RequestError(f"mode '{self.mode}' has no alpha, but it is {self.alpha}: leave it out")
        elif self.alpha is None:
            object.__setattr__(self, "alpha", 0.5 if fixed is None else fixed)
        elif isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float | np.floating):
            raise RequestError(f"alpha is {shown(self.alpha)}: give a number from 0 to 1")
        elif not 0 <= self.alpha <= 1:  # which NaN is not either
            raise RequestError(f"alpha is {self.alpha}: give the share of monolingual batches, from 0 to 1")
        elif fixed is not None and self.alpha != fixed:
            raise RequestError(
                f"mode '{self.mode}' is alpha = {fixed:g}, but alpha is {self.alpha}: leave it out, or take 'hybrid'"
            )


class Permutation:
    """A permutation of 0 to size - 1 that takes no memory, chosen by a key.

    Args:
        size: At least 1.
        key: Any 64 bits.
    """

    def __init__(self, size: int, key: int) -> None:
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._low = bits // 2
        self._masks = (np.uint64(2 ** (bits - self._low) - 1), np.uint64(2**self._low - 1))
        self._keys = [np.uint64(_key(key, number)) for number in range(_ROUNDS)]

    def __call__(self, places: ArrayLike) -> Numbers:
        """What stands at these places, (m,), each 0 to size - 1."""
        found = self._once(np.asarray(places).astype(np.uint64))
        # The network permutes a power of two, less than twice the size; what falls outside goes through it again.
        outside = np.flatnonzero(found >= self.size)
        while len(outside):
            again = self._once(found[outside])
            found[outside] = again
            outside = outside[again >= self.size]
        return found.astype(np.int64)

    def _once(self, numbers: Hashes) -> Hashes:
        high, low = numbers >> np.uint64(self._low), numbers & self._masks[1]
        for number, key in enumerate(self._keys):
            if number % 2:
                low ^= splitmix64(high ^ key) & self._masks[1]
            else:
                high ^= splitmix64(low ^ key) & self._masks[0]
        return (high << np.uint64(self._low)) | low


class Need(NamedTuple):
    """What a batch asks of its rows: one of the kinds, and the language of a monolingual one (else -1)."""

    kind: int
    language: int

    def fit(self, texts: ParallelTexts, rows: Numbers) -> NDArray[np.bool_]:
        """(m,), which of these rows have texts in the languages that the batch needs."""
        if texts.whole:
            return np.ones(len(rows), dtype=np.bool_)
        if self.kind == _MONO:
            code = texts.languages[self.language]
            fit = np.ones(len(rows), dtype=np.bool_)
            for role in texts.roles:
                if not texts.complete(role, code):
                    fit &= texts.available(role, code, rows)
            return fit
        asked, answered = texts.readable(rows)
        both = (asked & answered).sum(1)
        return np.asarray(both > 0 if self.kind == _MIXED else asked.sum(1) * answered.sum(1) > both)


@dataclass(frozen=True)
class _Share:
    """A source's part of every epoch.

    Attributes:
        batches: How many.
        rows: Rows that any of them can have, about.
        mono: Probability that one of them is monolingual.
        listed: By what a batch needs, the rows that have it, where these are few.
        needs: What its batches ask for; nothing of a source that gives none.
    """

    batches: int
    rows: int
    mono: float
    listed: dict[Need, Numbers]
    needs: tuple[Need, ...] = ()


class BatchPlan:
    """All batches of all epochs.

    Args:
        items: The sources.
        size: Items of a global batch, G.
        sampling: How to draw.
        seed: Another seed gives other batches.

    Attributes:
        steps: Batches of an epoch.
        batches: By name of the source, how many of them it gives.
        notes: What the user has to be told: sources that are left out, in part or as a whole.

    Raises:
        RequestError: No source can give what is asked for, or one has too few groups for a batch in some language.
    """

    def __init__(self, items: Items, size: int, sampling: Sampling, seed: int) -> None:
        if size < 1:
            raise RequestError(f"the batch size is {size}: give at least 1")
        self.items, self.size, self.sampling, self.seed = items, size, sampling, seed
        self.notes: tuple[str, ...] = ()
        self.shares = self._shares()
        self.batches = {source.name: share.batches for source, share in zip(items.sources, self.shares, strict=True)}
        self.steps = sum(self.batches.values())

    @property
    def monolingual(self) -> float:
        """Share of batches that are in one language, as it is expected; 0 for `x-x`, which mixes them."""
        return _mono(self.shares)

    def epoch(self, number: int) -> Epoch:
        """The batches of an epoch, counted from 0."""
        return Epoch(self, number)

    # -- what every source gives ----------------------------------------------------------------------------------

    def _shares(self) -> list[_Share]:
        sampling, sources = self.sampling, self.items.sources
        if sampling.mode == "en-en":
            return self._in_one_language()
        if sampling.mode == "x-x":
            mixed = [Need(_MIXED, -1)]
            return [self._share(source, _usable(source, mixed), 1.0, 0.0, mixed) for source in sources]
        alpha = float(sampling.alpha or 0)
        single = [source for source in sources if len(source.languages) == 1]
        if alpha < 1 and len(single) == len(sources):
            only = ", ".join(f"{source.name} ({source.languages[0]})" for source in single)
            raise RequestError(
                f"alpha is {alpha:g}, but every source is in one language: {only}; give alpha = 1, or a source in two"
            )
        needs = {}
        for source in sources:
            languages = [Need(_MONO, place) for place in range(len(source.languages))]
            cross = [Need(_CROSS, -1)] if len(languages) > 1 and alpha < 1 else []
            needs[source.name] = [*(languages if alpha > 0 or not cross else []), *cross]
        usable = {source.name: _usable(source, needs[source.name]) for source in sources}
        rows = sum(usable.values())
        in_several = rows - sum(usable[source.name] for source in single)
        # Kind first, with probability alpha; then a source in proportion to size, among all for a monolingual batch,
        # and among those in several languages for a cross-lingual one. Relative to its rows, a source in one language
        # is then drawn `less` times as often as another, which in turn gives monolingual batches with this probability.
        less = alpha * in_several / (alpha * in_several + (1 - alpha) * rows) if alpha < 1 else 1.0
        mono = alpha if sampling.keep_single else less
        if sampling.keep_single:
            less = 1.0
        shares = [
            self._share(source, usable[source.name], less, 1.0, needs[source.name])
            if source in single
            else self._share(source, usable[source.name], 1.0, mono, needs[source.name])
            for source in sources
        ]
        if single and alpha < 1:
            names = ", ".join(source.name for source in single)
            if sampling.keep_single:
                self.notes = (
                    f"in one language, so always monolingual: {names}; {_mono(shares):.0%} of all batches are",
                )
            else:
                self.notes = (
                    f"in one language, so left out of cross-lingual batches: {names}; an epoch has {less:.0%} of the "
                    "rows (keep_single has all)",
                )
        return shares

    def _in_one_language(self) -> list[_Share]:
        code = self.sampling.language
        if code not in self.items.languages:
            raise RequestError(f"no source is in '{code}': {did_you_mean(code, self.items.languages)}")
        without = [source.name for source in self.items.sources if code not in source.languages]
        if without:
            self.notes = (f"not in '{code}', so left out: {', '.join(without)}",)
        shares = []
        for source in self.items.sources:
            if code in source.languages:
                need = Need(_MONO, source.languages.index(code))
                shares.append(self._share(source, _usable(source, [need]), 1.0, 1.0, [need]))
            else:
                shares.append(_Share(0, 0, 1.0, {}))
        return shares

    def _share(self, source: ParallelTexts, rows: int, part: float, mono: float, needs: list[Need]) -> _Share:
        """A source that gives this part of its usable rows, after a look at whether it can."""
        if part == 0:
            return _Share(0, rows, mono, {})
        listed = {}
        for need in needs:
            few = self._listed(source, need)
            if few is not None:
                listed[need] = few
        return _Share(max(1, math.floor(part * rows / self.size)), rows, mono, listed, tuple(needs))

    def _listed(self, source: ParallelTexts, need: Need) -> Numbers | None:
        """The rows that have what a batch needs, where these are few; None where most rows have.

        Raises:
            RequestError: They are of fewer groups than a batch has items.
        """
        rows = len(source)
        sample = _some(rows, 64 * self.size)
        fit = sample[need.fit(source, sample)]
        dense = len(fit) >= _SPARSE * len(sample)
        groups = np.unique(source.group_of(fit))
        if dense and len(groups) >= self.size:
            return None
        found = [fit]
        if len(sample) < rows:  # so the sample was not all
            found, groups = [], groups[:0]
            for start in range(0, rows, _PIECE):
                piece = np.arange(start, min(start + _PIECE, rows), dtype=np.int64)
                piece = piece[need.fit(source, piece)]
                if not dense:
                    found.append(piece)
                if len(groups) < self.size:
                    groups = np.union1d(groups, source.group_of(piece))
        if len(groups) < self.size:
            code = f" in '{source.languages[need.language]}'" if need.kind == _MONO else ""
            what = "in two different languages" if need.kind == _CROSS else f"with query and passage{code}"
            if not len(groups):
                raise RequestError(f"{source.name}: no row has texts {what}: leave it out, or add them")
            raise RequestError(
                f"{source.name} has {len(groups):,} groups of rows {what}, but a batch takes {self.size:,}, all of "
                f"different groups: give a batch size of at most {len(groups):,} (over all devices together), or leave "
                f"{'the language' if code else 'the source'} out"
            )
        return None if dense else np.concatenate(found)


class Epoch:
    """The batches of one epoch.

    What was computed last is kept: batches asked for in ascending order are computed once. Several threads may ask: a
    DataLoader reads a batch in the thread that sends it to a worker.
    """

    def __init__(self, plan: BatchPlan, number: int) -> None:
        self._plan = plan
        self._lock = RLock()
        self._key = _key(plan.seed, number)
        self._order = Permutation(plan.steps, _key(self._key, _ORDER))
        self._bounds = np.cumsum([share.batches for share in plan.shares])
        # By chunk of steps, how many batches each source gave before it.
        self._before = [np.zeros(len(plan.shares), dtype=np.int64)]
        self._chunk: tuple[int, Numbers, Numbers] | None = None
        self._blocks: dict[int, tuple[int, Numbers]] = {}
        self._rows = [
            Permutation(len(source), _key(self._key, _ROWS, place)) for place, source in enumerate(plan.items.sources)
        ]

    def batch(self, step: int) -> Numbers:
        """(G,), the items of the global batch of this step, 0 to `BatchPlan.steps` - 1; see `Items`.

        With W devices, the first G / W of them are the first device's, and so on.
        """
        per_block = max(_BLOCK_BATCHES, _BLOCK_ROWS // self._plan.size)
        with self._lock:
            source, number = self.source(step)
            block, place = divmod(number, per_block)
            known = self._blocks.get(source)
            if known is None or known[0] != block:
                known = self._blocks[source] = block, self._block(source, block, per_block)
        batch: Numbers = known[1][place]
        return batch

    def source(self, step: int) -> tuple[int, int]:
        """The source that this step draws from, and how many batches of it came before in this epoch."""
        chunk, place = divmod(step, _STEPS)
        with self._lock:
            if self._chunk is None or self._chunk[0] != chunk:
                while len(self._before) <= chunk:
                    sources = self._sources(len(self._before) - 1)
                    self._before.append(self._before[-1] + np.bincount(sources, minlength=len(self._bounds)))
                sources = self._sources(chunk)
                numbers = np.empty(len(sources), dtype=np.int64)
                for source, before in enumerate(self._before[chunk].tolist()):
                    mine = np.flatnonzero(sources == source)
                    numbers[mine] = before + np.arange(len(mine))
                self._chunk = chunk, sources, numbers
            return int(self._chunk[1][place]), int(self._chunk[2][place])

    def _sources(self, chunk: int) -> Numbers:
        """The source of each step of a chunk."""
        steps = np.arange(chunk * _STEPS, min((chunk + 1) * _STEPS, self._plan.steps))
        if len(self._bounds) == 1:
            return np.zeros(len(steps), dtype=np.int64)
        return np.searchsorted(self._bounds, self._order(steps), side="right").astype(np.int64)

    # -- a block of batches ---------------------------------------------------------------------------------------

    def _block(self, source: int, block: int, per_block: int) -> Numbers:
        """(batches, G), the items of a block of a source's batches."""
        size, share = self._plan.size, self._plan.shares[source]
        numbers = np.arange(block * per_block, min((block + 1) * per_block, share.batches))
        needs = self._needs(source, numbers)
        rows = _Block(self, source, numbers, needs).rows()
        return self._items(source, rows.reshape(-1), numbers, needs).reshape(-1, size)

    def _needs(self, source: int, numbers: Numbers) -> list[Need]:
        """What each of these batches of a source asks of its rows."""
        plan = self._plan
        mode, count = plan.sampling.mode, len(plan.items.sources[source].languages)
        if mode == "x-x":
            return [Need(_MIXED, -1)] * len(numbers)
        if mode == "en-en":
            place = plan.items.sources[source].languages.index(plan.sampling.language)
            return [Need(_MONO, place)] * len(numbers)
        mono = _uniform(self._hash(_KIND, source, numbers)) < plan.shares[source].mono
        language = _below(self._hash(_LANGUAGE, source, numbers), count)
        return [
            Need(_MONO, code) if one else Need(_CROSS, -1)
            for one, code in zip(mono.tolist(), language.tolist(), strict=True)
        ]

    def _items(self, source: int, rows: Numbers, numbers: Numbers, needs: list[Need]) -> Numbers:
        """The rows of batches, in languages."""
        size, texts = self._plan.size, self._plan.items.sources[source]
        count = len(texts.languages)
        kind = np.repeat([need.kind for need in needs], size)
        query = np.repeat([need.language for need in needs], size)
        passage = query.copy()
        slots = (numbers[:, None] * size + np.arange(size)).reshape(-1)
        cross, mixed = np.flatnonzero(kind == _CROSS), np.flatnonzero(kind == _MIXED)
        if len(cross):
            query[cross], other = np.divmod(
                _below(self._hash(_PAIR, source, slots[cross]), count * (count - 1)), count - 1
            )
            passage[cross] = other + (other >= query[cross])
        if len(mixed):
            query[mixed] = passage[mixed] = _below(self._hash(_PAIR, source, slots[mixed]), count)
        drawn = np.concatenate([cross, mixed])
        if len(drawn) and not texts.whole:
            # A pair that a row lacks is replaced by one that it has, so that all of these are equally likely.
            asked, answered = texts.readable(rows[drawn])
            at = np.arange(len(drawn))
            lacking = np.flatnonzero(~(asked[at, query[drawn]] & answered[at, passage[drawn]]))
            same = np.eye(count, dtype=np.bool_)
            allowed = asked[lacking, :, None] & answered[lacking, None, :]
            allowed &= np.where((kind[drawn[lacking]] == _MIXED)[:, None, None], same, ~same)
            allowed = allowed.reshape(len(lacking), count * count)
            nth = _below(self._hash(_OTHER_PAIR, source, slots[drawn[lacking]]), allowed.sum(1))
            pair = (allowed.cumsum(1) > nth[:, None]).argmax(1)
            query[drawn[lacking]], passage[drawn[lacking]] = np.divmod(pair, count)
        return self._plan.items.encode(source, rows, query, passage)

    def _hash(self, purpose: int, source: int, numbers: Numbers) -> Hashes:
        return splitmix64(np.uint64(_key(self._key, purpose, source)) ^ numbers.astype(np.uint64))


class _Block:
    """The rows of a block of batches of one source."""

    def __init__(self, epoch: Epoch, source: int, numbers: Numbers, needs: list[Need]) -> None:
        self._epoch, self._source, self._numbers, self._needs = epoch, source, numbers, needs
        self._texts = epoch._plan.items.sources[source]
        self._listed = epoch._plan.shares[source].listed
        self._against = [numbers for numbers in self._texts.negative_groups if numbers is not None]
        self._size = epoch._plan.size

    def rows(self) -> Numbers:
        """(batches, G), rows of the source."""
        size, texts = self._size, self._texts
        # How many rows hold enough for a batch: G, or more where some cannot be used.
        stride = size * len(texts) / max(1, self._epoch._plan.shares[self._source].rows)
        start, stop = (min(len(texts), int(number * stride)) for number in (self._numbers[0], self._numbers[-1] + 1))
        # The last rows are not enough for a batch of their own, but the last block can choose among them.
        stop = len(texts) if len(texts) - stop < stride else stop
        pool = self._epoch._rows[self._source](np.arange(start, stop))
        count = len(self._numbers)
        if texts.whole and not self._against and len(pool) >= count * size:
            regular = pool[: count * size].reshape(count, size)
            if texts.groups is None or not _repeats(texts.groups[regular]).any():
                return regular
        fits = {need: need.fit(texts, pool) for need in {*self._needs}}
        supply = [int(fits[need].sum()) for need in self._needs]
        chosen = np.empty((count, size), dtype=np.int64)
        free = np.ones(len(pool), dtype=np.bool_)
        for batch in np.argsort(supply, kind="stable").tolist():
            need = self._needs[batch]
            chosen[batch] = self._filled(pool, free, fits[need], need, int(self._numbers[batch]))
        return chosen

    def _filled(
        self, pool: Numbers, free: NDArray[np.bool_], fits: NDArray[np.bool_], need: Need, number: int
    ) -> Numbers:
        """(G,), the first rows of the pool that a batch can have, which are no longer free then; others if need be."""
        places = np.flatnonzero(free & fits)
        width = 2 * self._size
        while True:
            taken = places[:width][self._compatible(pool[places[:width]])]
            if len(taken) == self._size or width >= len(places):
                break
            width *= 4
        free[taken] = False
        rows = pool[taken]
        return rows if len(rows) == self._size else self._completed(rows, need, number)

    def _completed(self, rows: Numbers, need: Need, number: int) -> Numbers:
        """(G,), these rows and others from anywhere in the source."""
        listed = self._listed.get(need)
        count = len(self._texts) if listed is None else len(listed)
        order = Permutation(count, _key(self._epoch._key, _MORE, self._source, number))
        # Where hard negatives get into each other's way to the end, a full batch is worth more.
        for strict in (True, False):
            start, width = 0, 4 * self._size
            while start < count and len(rows) < self._size:
                more = order(np.arange(start, min(start + width, count)))
                more = more if listed is None else listed[more]
                more = np.concatenate([rows, more[need.fit(self._texts, more)]])
                rows = more[self._compatible(more, strict=strict)]
                start, width = start + width, min(2 * width, _SAMPLE)
        return rows

    def _compatible(self, rows: Numbers, *, strict: bool = True) -> Numbers:
        """Places of the first G of these rows that can be in one batch, each with all before it; ascending."""
        groups = self._texts.group_of(rows)
        places = self._first(groups)
        if not strict or not self._against:
            return places
        negatives = np.stack([numbers[rows] for numbers in self._against], axis=1)
        if not np.isin(negatives[places], groups[places]).any():
            return places
        # Rare, so that a loop does.
        answers: set[int] = set()
        wrong: set[int] = set()
        kept = []
        for place, (group, against) in enumerate(zip(groups.tolist(), negatives.tolist(), strict=True)):
            if group in answers or group in wrong or not answers.isdisjoint(against) or group in against:
                continue
            answers.add(group)
            wrong.update(against)
            kept.append(place)
            if len(kept) == self._size:
                break
        return np.array(kept, dtype=np.int64)

    def _first(self, numbers: Numbers) -> Numbers:
        """Places of the first G different numbers, ascending."""
        return np.sort(np.unique(numbers, return_index=True)[1])[: self._size]


def _mono(shares: Sequence[_Share]) -> float:
    """Share of monolingual batches."""
    return sum(share.batches * share.mono for share in shares) / sum(share.batches for share in shares)


def _some(rows: int, least: int) -> Numbers:
    """Numbers of rows to look at first: all, or so many of them, at random, always the same."""
    some = max(_SAMPLE, least)
    return np.arange(rows, dtype=np.int64) if rows <= some else Permutation(rows, 0)(np.arange(some))


def _usable(texts: ParallelTexts, needs: list[Need]) -> int:
    """How many rows have what any of these batches need, at least 1; of more than 65,536, as among so many of them."""
    if texts.whole:
        return len(texts)
    rows = _some(len(texts), 0)
    found = np.logical_or.reduce([need.fit(texts, rows) for need in needs])
    return max(1, round(len(texts) * float(found.mean())))


def _repeats(groups: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of a matrix hold a number twice."""
    ordered = np.sort(groups, axis=1)
    return np.asarray((ordered[:, 1:] == ordered[:, :-1]).any(1))


# -- hashes -----------------------------------------------------------------------------------------------------------


def _key(*numbers: int) -> int:
    """64 bits that these numbers make, in this order."""
    key = 0
    for number in numbers:
        key = int(splitmix64(np.array([(key ^ number) & _MASK], dtype=np.uint64))[0])
    return key


def _uniform(hashes: Hashes) -> NDArray[np.float64]:
    """Numbers from 0 up to, but not, 1."""
    return np.asarray((hashes >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def _below(hashes: Hashes, bound: int | Numbers) -> Numbers:
    """Whole numbers from 0 to bound - 1; of each bound below 2^32, uneven by less than 2^-32 of it."""
    return (((hashes >> np.uint64(32)) * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
