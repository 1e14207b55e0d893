"""Our evaluation against mteb's own, through `mteb.evaluate`, on real XQuAD-R.

The reference is the same task with the `_evaluate_subset` of its superclass: mteb encodes the subset, takes the first
1,000 passages of every query, and asks pytrec_eval. Both sides compute in float32, in products of different shapes, so
passages whose scores are closer than that is exact may change places. Which queries these are is decided by neither
side but by scores in float64: a query is *close* if one of its relevant passages is within 1e-6 of another passage.
All others must agree to the last digit, query by query; the close ones are counted, and so are those of them that do
differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.types import PromptType
from numpy.typing import NDArray

from helpers import asking, relevant_ranks, static_model, task_of, texts_of
from hybrid_bench.engine.lexical import CharNgramEncoder
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.evaluation.tasks import ParallelRetrieval
from hybrid_bench.measures.metrics import K_VALUES, per_query

if TYPE_CHECKING:
    import pyarrow as pa

SUBSETS = {
    "static": {"XQuAD-R-Pairs": ["th-th", "ar-de", "vi-hi"], "XQuAD-R-Multilingual": ["de"]},
    "char-ngram": {"XQuAD-R-Pairs": ["zh-zh", "es-en"]},
}
#: Of the questions each fifth is asked, 238, against all sentences.
EVERY = 5
#: Scores closer than this may be ordered either way.
GAP = 1e-6
#: What the keys of a subset may differ by, where no close query differs; mteb rounds to five decimals.
TOLERANCE = 1e-5
#: Share of the queries of a subset that may differ for being close; none did where this was written.
MOST_THAT_DIFFER = 0.01


def superclass_path(task: ParallelRetrieval) -> tuple[ParallelRetrieval, dict[str, dict[str, dict[str, float]]]]:
    """The same task evaluated by mteb's code, and where it leaves pytrec_eval's scores by subset and query id."""
    recorded: dict[str, dict[str, dict[str, float]]] = {}

    def task_specific_scores(self: Any, scores: Any, qrels: Any, results: Any, **place: str) -> Any:
        recorded[place["hf_subset"]] = scores
        # mteb wants the main score, which its own evaluation does not have; it is not compared.
        return {"map": -1.0}

    members = {"_evaluate_subset": AbsTaskRetrieval._evaluate_subset, "task_specific_scores": task_specific_scores}
    reference = cast("ParallelRetrieval", type("Reference", (type(task),), members)())
    reference.hf_subsets, reference.options = task.hf_subsets, task.options
    return reference, recorded


def subset_scores(model: Any, task: ParallelRetrieval) -> dict[str, dict[str, Any]]:
    arguments: dict[str, Any] = {"encode_kwargs": {"batch_size": 256, "show_progress_bar": False}}
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False, **arguments)
    return {scores["hf_subset"]: dict(scores) for scores in result.task_results[0].scores["test"]}


class Exact:
    """Scores of a model in float64, from which neither our engine nor mteb's search takes anything."""

    def __init__(self, model: Any, task: ParallelRetrieval) -> None:
        self.model = model
        self.task = task
        self.collection = task.read_collection()
        self._unit_vectors: dict[tuple[str, PromptType], NDArray[np.float64]] = {}

    def close(self, subset: str) -> NDArray[np.bool_]:
        """Which queries have a relevant passage that stands within `GAP` of another passage."""
        query, pool = self.task.pool_of(subset)
        passages = [self._vectors(code, PromptType.document) for code in pool]
        scores = self._vectors(query, PromptType.query) @ np.concatenate(passages).T
        start = dict(zip(pool, np.cumsum([0, *(len(vectors) for vectors in passages)]), strict=False))
        judgments = self.collection.queries[query].judgments
        close = np.zeros(len(scores), dtype=bool)
        for row, part, passage in zip(judgments.query, judgments.part, judgments.passage, strict=True):
            code = self.collection.parts[part]
            if code in start:
                target = scores[row, start[code] + passage]
                close[row] |= np.count_nonzero(np.abs(scores[row] - target) < GAP) > 1
        return close

    def _vectors(self, code: str, role: PromptType) -> NDArray[np.float64]:
        if (code, role) not in self._unit_vectors:
            source = self.collection.queries if role is PromptType.query else self.collection.passages
            rows = Dataset.from_dict({"id": source[code].ids, "text": source[code].texts})
            vectors = self.model.encode(
                create_dataloader(rows, task_metadata=self.task.metadata, prompt_type=role, batch_size=256),
                task_metadata=self.task.metadata,
                hf_split="test",
                hf_subset=f"{code}-{code}",
                prompt_type=role,
                batch_size=256,
                show_progress_bar=False,
            )
            exact = np.asarray(vectors, dtype=np.float64)
            lengths = np.linalg.norm(exact, axis=1, keepdims=True)
            self._unit_vectors[code, role] = exact / np.maximum(lengths, 1e-12)
        return self._unit_vectors[code, role]


NAMES = {
    "map_at": "map_cut",
    "ndcg_at": "ndcg_cut",
    "recall_at": "recall",
    "precision_at": "P",
    "hit_rate_at": "success",
}


@dataclass(frozen=True)
class Agreement:
    """How far two evaluations of a subset agree."""

    subset: str
    queries: int
    close: int
    differ: int
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.subset:6}  {self.queries} queries, {self.close} with a gap under {GAP:g}, of which {self.differ} "
            f"differ; largest difference of a key {self.largest:.2e}"
        )


def compare(
    exact: Exact, subset: str, table: pa.Table, *, ours: dict[str, Any], theirs: dict[str, Any], by_query: Any
) -> Agreement:
    """Assert that a subset's keys and its queries' scores agree as the module says."""
    queries = exact.collection.queries[subset[:2]]
    assert table["question_id"].to_pylist() == list(queries.question_ids)
    mine = per_query(relevant_ranks(table))
    differences = {
        f"{name}_{k}": np.abs(
            mine[f"{name}_{k}"] - np.array([by_query[query][f"{theirs_name}_{k}"] for query in queries.ids])
        )
        for name, theirs_name in NAMES.items()
        for k in K_VALUES
    }
    close = exact.close(subset)
    differs = np.max(list(differences.values()), axis=0) > 1e-9
    assert not (differs & ~close).any(), f"{subset}: {np.flatnonzero(differs & ~close)} differ without being close"
    assert differs.mean() <= MOST_THAT_DIFFER
    shared = sorted(set(ours) & set(theirs) - {"map", "main_score", "hf_subset", "languages", "mteb_version"})
    assert len(shared) == 6 * len(K_VALUES) + 1
    # Of mteb's keys only nAUC is left out, whatever form it takes.
    assert {key for key in theirs if "nauc" not in key.casefold()} <= set(ours)
    assert not [key for key in ours if "nauc" in key.casefold()]
    largest = 0.0
    for key in shared:
        # Reciprocal ranks are mteb's own: not among pytrec_eval's scores by query, but no two are further apart than 1.
        moved = differs.mean() if key.startswith("mrr") else differences[key.replace("accuracy", "recall_at_1")].mean()
        largest = max(largest, abs(ours[key] - theirs[key]))
        assert abs(ours[key] - theirs[key]) <= TOLERANCE + moved, (subset, key, ours[key], theirs[key])
    return Agreement(subset, len(queries), int(close.sum()), int(differs.sum()), largest)


@pytest.mark.parametrize("kind", ["static", "char-ngram"])
def test_every_shared_key_agrees_with_mteb(
    kind: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = task_of("XQuAD-R-Pairs", data_dir=data_dir).read_collection()
    model: Any = CharNgramEncoder()
    if kind == "static":
        static_model(texts_of(collection), dimension=128).save_pretrained(str(tmp_path))
        model = load(model_meta(str(tmp_path)))
    exact = Exact(model, asking(task_of("XQuAD-R-Pairs", data_dir=data_dir), EVERY))
    for name, subsets in SUBSETS[kind].items():
        task = asking(task_of(name, subsets, data_dir=data_dir), EVERY)
        reference, by_query = superclass_path(task)
        ours, theirs = subset_scores(model, task), subset_scores(model, reference)
        assert set(ours) == set(theirs) == set(subsets)
        for subset in subsets:
            results = {"ours": ours[subset], "theirs": theirs[subset], "by_query": by_query[subset]}
            assert len(by_query[subset]) == 238
            agreement = compare(exact, subset, task.tables["test", subset], **results)
            with capsys.disabled():
                print(f"\n{kind:10} {agreement}", end="")
