"""Pools with their scores, as our ranks and as what trec_eval's kin want to be given: runs and judgments by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from helpers import task_of
from hybrid_bench.engine.encode import Embeddings
from hybrid_bench.engine.lexical import CharNgramEncoder
from hybrid_bench.engine.ranking import PoolRanks, Ranker
from hybrid_bench.engine.ranks import BLOCK_ROWS, Targets, count_above
from hybrid_bench.measures.metrics import RelevantRanks
from reference import SCORES, random_ids

__all__ = ["SYNTHETIC", "TOLERANCE", "XQUAD_R", "ScoredPool", "XQuADR", "synthetic_pool", "xquad_r"]

#: Largest difference between our figure for a query and another program's. Both sum at most a few dozen terms between
#: 0 and 1 in float64 and differ by the order of summation, below 1e-14. The smallest error of ours, one rank off by one
#: place, would show: it moves average precision by more than 1 / (R n^2) for R relevant of n passages, see
#: `ScoredPool.smallest_error`.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class ScoredPool:
    """Some queries with the scores of every passage of a pool.

    Attributes:
        ranks: The relevant ranks, by our engine; queries numbered as they stand in `run`.
        run: Scores by passage id by query id; Python floats, which hold a float32 exactly.
        judgments: Grades by passage id by query id.
    """

    ranks: RelevantRanks
    run: dict[str, dict[str, float]]
    judgments: dict[str, dict[str, int]]

    @property
    def smallest_error(self) -> float:
        """Less than what average precision changes by, if one relevant passage is one place off."""
        size = max(len(scores) for scores in self.run.values())
        return float(1 / (self.ranks.n_relevant.max() * size**2))


class XQuADR:
    """The English questions of XQuAD-R, scored by char-ngram against the sentences of four languages."""

    LANGUAGES = ("ar", "de", "en", "th")

    def __init__(self, data_dir: Path) -> None:
        task = task_of("XQuAD-R-Pairs", data_dir=data_dir)
        self.collection = task.read_collection()
        self.embeddings = Embeddings(CharNgramEncoder(), task.metadata, {}, lambda code: f"{code}-{code}", False)
        self.ranker = Ranker.dense(self.collection, self.embeddings)
        self.ranker.prepare({"en": self.LANGUAGES})

    @cache  # noqa: B019 - there is one object, and it lives as long as the tests do
    def scores(self) -> NDArray[np.float32]:
        """The scores that were ranked, one row per query: the passages of all languages side by side."""
        blocks, row = self.ranker.scorer.scores("en", self.LANGUAGES)
        columns = slice(0, sum(len(self.collection.passages[code]) for code in self.LANGUAGES))
        starts = range(0, int(row.max()) + 1, BLOCK_ROWS)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as when they were ranked
        try:
            rows = [slice(start, min(start + BLOCK_ROWS, int(row.max()) + 1)) for start in starts]
            distinct = np.concatenate([blocks(chosen, columns).copy() for chosen in rows])
        finally:
            torch.set_num_threads(threads)
        everything: NDArray[np.float32] = distinct[row]
        return everything

    def rank(self, pool: Sequence[str]) -> PoolRanks:
        return self.ranker.rank("en", pool)

    def pool(self, pool: Sequence[str], n_queries: int | None = None) -> ScoredPool:
        """The first questions (all, by default) against the sentences of some of the languages."""
        queries = self.collection.queries["en"]
        ends = np.cumsum([len(self.collection.passages[code]) for code in self.LANGUAGES])
        columns = dict(zip(self.LANGUAGES, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
        scores = self.scores()[:, np.concatenate([columns[code] for code in pool])]
        ids = [passage for code in pool for passage in self.collection.passages[code].ids]
        chosen = range(len(queries) if n_queries is None else n_queries)
        judgments: dict[str, dict[str, int]] = {queries.ids[query]: {} for query in chosen}
        table = queries.judgments
        for query, part, passage in zip(table.query, table.part, table.passage, strict=True):
            code = self.collection.parts[part]
            if code in pool and query in chosen:
                judgments[queries.ids[query]][self.collection.passages[code].ids[passage]] = 1
        ranked = self.rank(pool)
        assert ranked.queries.tolist() == list(range(len(queries)))
        kept = ranked.ranks.query < len(chosen)
        return ScoredPool(
            RelevantRanks(
                n_queries=len(chosen),
                query=ranked.ranks.query[kept],
                rank=ranked.ranks.rank[kept],
                gain=ranked.ranks.gain[kept],
                language=ranked.ranks.language[kept],
            ),
            {queries.ids[query]: dict(zip(ids, scores[query].tolist(), strict=True)) for query in chosen},
            judgments,
        )


@cache
def xquad_r(data_dir: Path) -> XQuADR:
    """The one object of its kind: it takes seconds to make."""
    return XQuADR(data_dir)


#: Pools of real data: languages, and how many questions; None for all 1,190.
XQUAD_R: dict[str, tuple[tuple[str, ...], int | None]] = {
    "en-en": (("en",), None),
    "en-de": (("de",), None),
    "en-ar": (("ar",), None),
    "en-th": (("th",), None),
    "en": (XQuADR.LANGUAGES, 400),
}

#: Made-up pools: the scores, and whether judgments are graded.
SYNTHETIC: dict[str, tuple[str, bool]] = {
    **{scores: (scores, False) for scores in SCORES},
    **{f"{scores}, graded": (scores, True) for scores in ("continuous", "four values", "all equal", "two decimals")},
}


def synthetic_pool(name: str) -> ScoredPool:
    """40 queries with 1 to 30 relevant of 1,500 passages, half of these in front.

    Graded judgments run from 1 to 3, and some passages are judged not relevant.
    """
    kind, graded = SYNTHETIC[name]
    rng = np.random.default_rng([7, *name.encode()])
    n_queries, n = 40, 1500
    matrix = SCORES[kind](rng, (n_queries, n))
    ids = random_ids(rng, n)
    order = np.empty(n, dtype=np.int32)
    order[sorted(range(n), key=lambda column: ids[column].encode())] = np.arange(n, dtype=np.int32)
    best = np.lexsort((-np.broadcast_to(order, matrix.shape), -matrix), axis=1)
    relevant = [
        # up to half of them anywhere, the others among the first 40
        np.union1d(rng.choice(n, size=query % 16, replace=False), rng.choice(line[:40], size=1 + query // 2 % 15))
        for query, line in enumerate(best)
    ]
    row = np.repeat(np.arange(n_queries, dtype=np.int32), [len(columns) for columns in relevant])
    column = np.concatenate(relevant)
    gain = rng.integers(1, 4 if graded else 2, size=len(row)).astype(np.int32)
    counts = count_above(lambda rows, columns: matrix[rows, columns], n_queries, Targets(row, column), [n], order)
    judgments: dict[str, dict[str, int]] = {
        f"q{query}": dict.fromkeys(rng.choice(ids, size=20).tolist(), 0) if graded else {} for query in range(n_queries)
    }
    for query, passage, grade in zip(row.tolist(), column.tolist(), gain.tolist(), strict=True):
        judgments[f"q{query}"][ids[passage]] = grade
    return ScoredPool(
        RelevantRanks.sort(n_queries, row, 1 + counts.above[:, 0], gain, np.zeros(len(row), dtype=np.int16)),
        {f"q{query}": dict(zip(ids, scores, strict=True)) for query, scores in enumerate(matrix.tolist())},
        judgments,
    )
