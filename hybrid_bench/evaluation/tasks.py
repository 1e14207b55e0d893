"""Retrieval tasks of mteb, scored by our engine.

To mteb they are ordinary retrieval tasks: corpus, queries and judgments per subset, evaluated subset by subset, with
mteb's own keys in the result. What differs is how a subset is evaluated. The first one ranks all that the task will ask
for, from one encoding of each text; the rest are look-ups. Tasks of one collection share the encoding and the counts as
long as they are given the same model object.

`ParallelRetrieval` is what our task files subclass. `foreign` makes a task of this kind of any other.
"""

from __future__ import annotations

import json
import logging
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakKeyDictionary, proxy

import numpy as np
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol
from mteb.models.search_wrappers import SearchCrossEncoderWrapper, SearchEncoderWrapper
from mteb.timing import TimingStack

from hybrid_bench.data.collection import Collection, DataOptions, Queries, Reader
from hybrid_bench.data.training_record import read_record
from hybrid_bench.engine.cache import EmbeddingCache
from hybrid_bench.engine.debias import Debias
from hybrid_bench.engine.encode import Embeddings
from hybrid_bench.engine.lexical import BM25
from hybrid_bench.engine.models import is_named, weights_hash
from hybrid_bench.engine.prompts import (
    Role,
    depends_on_subset,
    encoded_together,
    innermost,
    instruction_of,
    prompt_of,
    told_to,
)
from hybrid_bench.engine.ranking import PoolRanks, Ranker, ranks_in_results
from hybrid_bench.errors import DataError, ModelError, RequestError
from hybrid_bench.languages import Setting, setting_of
from hybrid_bench.measures.bias import Pool, bias_measures
from hybrid_bench.measures.metrics import measures
from hybrid_bench.runs.tables import query_table

if TYPE_CHECKING:
    import pyarrow as pa
    from mteb.models.model_meta import ModelMeta
    from mteb.types import EncodeKwargs, HFSubset, ScoresDict

__all__ = ["ExactRetrieval", "ParallelRetrieval", "TaskOptions", "pair_subsets", "pool_subsets"]

logger = logging.getLogger(__name__)

#: A model that is not scored by our engine is asked for this many passages at most.
SEARCH_DEPTH = 20_000

#: The rankers that are at work, by model object, so that the two tasks of a collection share one encoding. They go
#: when the model goes.
_rankers: WeakKeyDictionary[Any, dict[str, Ranker]] = WeakKeyDictionary()


def pair_subsets(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """mteb's ``eval_langs`` of a ``-Pairs`` task: subset ``<query>-<corpus>`` for every ordered pair of languages.

    Args:
        tags: mteb's language tag by code.
    """
    return {f"{query}-{corpus}": list(dict.fromkeys([tags[query], tags[corpus]])) for query in tags for corpus in tags}


def pool_subsets(tags: Mapping[str, str]) -> dict[str, list[str]]:
    """mteb's ``eval_langs`` of a ``-Multilingual`` task: subset ``<query>``, one for each query language.

    Only the query language is listed: mteb's language filter and its means per language go by this list.
    """
    return {query: [tag] for query, tag in tags.items()}


@dataclass(frozen=True)
class TaskOptions:
    """What can be chosen about a task.

    Attributes:
        data: What can be chosen about its data.
        pool_languages: Languages of the multilingual pool; None for all.
        embedding_cache: Folder for embeddings on disk; None for none.
        first_stage: The model whose best passages a cross-encoder ranks again.
        top_k: How many of them.
        debias: What is done against language bias; None for nothing.
    """

    data: DataOptions = field(default_factory=DataOptions)
    pool_languages: tuple[str, ...] | None = None
    embedding_cache: Path | None = None
    first_stage: Any = None
    top_k: int | None = None
    debias: Debias | None = None


class ExactRetrieval(AbsTaskRetrieval):
    """A retrieval task whose subsets are evaluated by our engine, over a `Collection`.

    Attributes:
        options: What was chosen; set it before the data are loaded.
        tables: After an evaluation, one row per query, by split and subset (see `tables.query_table`).
        signature: After an evaluation, what its numbers depend on.
        collection: The data, once they are loaded.
        remarks: After an evaluation, what has to be said of the model's embeddings.
        caveat: What has to be said wherever the task's numbers stand.
    """

    caveat: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reset()

    def reset(self) -> None:
        """With no options, no data and no results."""
        self.options = TaskOptions()
        self.tables: dict[tuple[str, str], pa.Table] = {}
        self.signature: dict[str, Any] = {}
        self.collection: Collection | None = None
        self.remarks: list[str] = []
        self._kept: Callable[[], int] = lambda: 0
        self._searched: PoolRanks | None = None

    @property
    def kept_embeddings(self) -> int:
        """How many embeddings the last evaluation has encoded and saved on disk, so far."""
        return self._kept()

    # -- what a kind of task says of itself ---------------------------------------------------------------------

    @property
    def collection_name(self) -> str:
        """Name of the collection that the task is about."""
        raise NotImplementedError

    @property
    def notice(self) -> str:
        """What a user of the data has to be told; empty for nothing."""
        return ""

    def data_sha256(self) -> Mapping[str, str]:
        """Hashes of the data that an evaluation would read now, by part; `DataError` if they cannot be read."""
        raise NotImplementedError

    def saved_options(self) -> dict[str, str]:
        """The options that change texts, pool or judgments, as they are saved with a model's results."""
        return {}

    def model_options(self, meta: ModelMeta) -> dict[str, str]:
        """`saved_options`, and those that change how a model of this kind is scored."""
        debias = self._debias(meta)
        return self.saved_options() | ({} if debias is None else debias.options)

    def _debias(self, meta: ModelMeta) -> Debias | None:
        """What is done against language bias with this model: it must have embeddings to change, or ranks alone."""
        debias = self.options.debias
        return None if debias is None or (debias.method.fits and "dense" not in (meta.model_type or ())) else debias

    def rules(self, model: Any = None) -> dict[str, Any]:
        """What in a signature decides the numbers besides data and options, as far as it is known before they are made.

        Args:
            model: The model, if it is loaded: then the prompts are known that its texts get.
        """
        known: dict[str, Any] = {
            "main_score": self.metadata.main_score,
            "instruction": instruction_of(self.metadata),
        }
        if model is not None:
            known["prompts"] = {role.value: prompt_of(model, self.metadata, role) for role in Role}
        debias = self.options.debias if model is None else self._debias(model.mteb_model_meta)
        if debias is not None and debias.method.fits:
            known["debias_texts"] = debias.sha256
        return known

    def pool_of(self, subset: str, split: str) -> tuple[str, tuple[str, ...]]:
        """Query set and parts of a subset."""
        raise NotImplementedError

    def setting_of(self, subset: str) -> Setting:
        """The setting of a subset."""
        raise NotImplementedError

    def subset_about(self, name: str) -> str:
        """The subset that a model is told of when it encodes this part or query set."""
        raise NotImplementedError

    # -- evaluation ---------------------------------------------------------------------------------------------

    def _evaluate_subset(
        self,
        model: Any,
        data_split: Any,
        *,
        encode_kwargs: EncodeKwargs,
        hf_split: str,
        hf_subset: HFSubset,
        prediction_folder: Path | None = None,
        num_proc: int | None = None,
        timer: TimingStack,
        **kwargs: Any,
    ) -> ScoresDict:
        """Scores of one subset: mteb's keys except ``nauc_*``, ``map`` at full depth, and ours with a prefix.

        Where mteb is asked to rerank, its own evaluation runs instead; where it is asked for prediction files, it runs
        besides, to write them.
        """
        _ensure_named(model)
        self._check_options(model)
        reranking = data_split["top_ranked"] is not None
        if prediction_folder is not None or reranking:
            logger.warning("%s: mteb's own evaluation runs for predictions or reranking", self.metadata.name)
            scores = super()._evaluate_subset(
                model,
                data_split,
                encode_kwargs=encode_kwargs,
                hf_split=hf_split,
                hf_subset=hf_subset,
                prediction_folder=prediction_folder,
                num_proc=num_proc,
                timer=timer,
                **kwargs,
            )
            if reranking:
                assert self._searched is not None
                self._record(model, (hf_split, hf_subset), self._searched, None)
                return scores
        collection = self._collected()
        query_set, parts = self.pool_of(hf_subset, hf_split)
        with timer("Ranking", split=hf_split, subset=hf_subset):
            ranker = self._ranker(model, encode_kwargs, (hf_split, hf_subset))
            if ranker is not None:
                wanted = self._wanted()
                if not ranker.fits(wanted):  # as much as is ranked together anyway: then it can be saved
                    wanted = {name: pool for name, pool in wanted.items() if pool == wanted[query_set]}
                ranker.prepare(wanted)
                pool = ranker.rank(query_set, parts)
            else:
                pool = self._search(
                    model,
                    data_split,
                    task_metadata=self.metadata,
                    hf_split=hf_split,
                    hf_subset=hf_subset,
                    encode_kwargs=encode_kwargs,
                    num_proc=num_proc,
                )
        with timer("Scoring", split=hf_split, subset=hf_subset):
            scores = measures(pool.ranks, self.k_values)
            if len(parts) > 1:
                scores |= bias_measures(
                    pool.ranks,
                    Pool.of(
                        collection.languages,
                        {passages.language: len(passages) for passages in collection.passages.values()},
                        collection.queries[query_set].language,
                        [collection.passages[part].language for part in parts],
                        top_languages=pool.top_languages,
                        depth=pool.depth,
                    ),
                )
        self._record(model, (hf_split, hf_subset), pool, ranker)
        return scores

    def task_specific_scores(
        self, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str
    ) -> dict[str, float]:
        """``map``, which mteb's own evaluation does not have: over the passages that its search returned."""
        query_set, parts = self.pool_of(hf_subset, hf_split)
        self._searched = ranks_in_results(self._collected(), query_set, parts, results, self._top_k)
        return {"map": measures(self._searched.ranks)["map"]}

    def _collected(self) -> Collection:
        """The data, which are loaded."""
        assert self.collection is not None
        return self.collection

    def _wanted(self) -> dict[str, list[str]]:
        """For each query set of the chosen subsets, the parts of all pools that it is asked against."""
        wanted: dict[str, set[str]] = {}
        for split in self.eval_splits:
            for subset in self.hf_subsets:
                query_set, parts = self.pool_of(subset, split)
                wanted.setdefault(query_set, set()).update(parts)
        return {name: [part for part in self._collected().parts if part in parts] for name, parts in wanted.items()}

    def _check_options(self, model: Any) -> None:
        """Refuse options that mteb does not know of: it would take the results for those without."""
        told = model.mteb_model_meta.experiment_kwargs or {}
        options = self.model_options(model.mteb_model_meta)
        missing = [name for name, value in options.items() if str(told.get(name)) != value]
        if missing:
            raise RequestError(
                f"{self.metadata.name} has options ({', '.join(missing)}) that the model's metadata does not tell: "
                "write them there with hybrid_bench.engine.models.with_options, or use `hybrid-bench run`"
            )

    def _ranker(self, model: Any, encode_kwargs: EncodeKwargs, subset: tuple[str, str] | None = None) -> Ranker | None:
        """Our engine for this model, shared with the collection's other task; None for a model it cannot score.

        A subset that is evaluated again gets a new one, and so does a model whose weights changed: what is shared is
        one evaluation of one state of the model, not more.
        """
        collection = self._collected()
        bm25 = isinstance(model, BM25)
        debias = self._debias(model.mteb_model_meta)
        if not bm25 and not _is_dense(model):
            if debias is not None:
                raise RequestError(
                    f"--debias {debias.method} does not apply to {model.mteb_model_meta.name}, which does its own "
                    "search: leave it out"
                )
            return None
        prompts = {} if bm25 else {role.value: prompt_of(model, self.metadata, role) for role in Role}
        told = told_to(model, self.metadata, self.collection_name)
        relevant = {name: str(value) for name, value in encode_kwargs.items() if name != "show_progress_bar"}
        meta = model.mteb_model_meta
        identity = [meta.name, meta.revision, str(meta.experiment_kwargs), _weights_state(model)]
        cached = str(self.options.embedding_cache)
        data = [collection.name, dict(collection.sha256), list(collection.parts), list(collection.queries)]
        debiased = None if debias is None else [debias.method, debias.sha256]
        key = json.dumps([data, prompts, told, relevant, cached, identity, debiased])
        mine = _rankers.setdefault(model, {})
        served = (self.metadata.name, *(subset or ()))
        if key not in mine or served in mine[key].served:
            # One collection at a time: an earlier one's embeddings are not needed any more.
            mine.clear()
            by_subset = depends_on_subset(model)
            # What hangs on the model by `_rankers` must not hold it in turn, or neither would ever go.
            model = proxy(model)
            if bm25:
                mine[key] = Ranker.bm25(collection, model, debias)
            else:
                mine[key] = Ranker.dense(
                    collection,
                    Embeddings(
                        model=model,
                        metadata=self.metadata,
                        encode_kwargs=encode_kwargs,
                        subset=self.subset_about,
                        by_subset=by_subset,
                        told=told,
                        cache=EmbeddingCache(self.options.embedding_cache) if self.options.embedding_cache else None,
                    ),
                    debias,
                )
        ranker = mine[key]
        if subset is not None:
            ranker.served.add(served)
        before = ranker.kept_embeddings
        self._kept = lambda: ranker.kept_embeddings - before
        return ranker

    def _search(self, model: Any, data_split: Any, **arguments: Any) -> PoolRanks:
        """Ask a model that does its own search, with mteb's arguments, but as deep as the pool."""
        query_set, parts = self.pool_of(arguments["hf_subset"], arguments["hf_split"])
        corpus, queries = data_split["corpus"], data_split["queries"]
        depth = min(len(corpus), SEARCH_DEPTH)
        top_ranked: dict[str, list[str]] | None = None
        if isinstance(model, SearchProtocol):
            search = model
        elif isinstance(model, EncoderProtocol):
            search = SearchEncoderWrapper(model)
        elif isinstance(model, CrossEncoderProtocol):
            first, k = self.options.first_stage, self.options.top_k
            if first is None or k is None:
                raise RequestError(
                    f"{model.mteb_model_meta.name} is a cross-encoder: it scores pairs and cannot search a pool of "
                    f"{len(corpus)} passages; give it candidates with --rerank RUN --top-k K"
                )
            depth = min(len(corpus), k)
            top_ranked = self._candidates(first, query_set, parts, k=depth, encode_kwargs=arguments["encode_kwargs"])
            search = SearchCrossEncoderWrapper(model)
        else:
            raise ModelError(f"{type(model).__name__} is not a model that mteb knows how to evaluate")
        search.index(corpus=corpus, **arguments)
        results = search.search(queries=queries, top_k=depth, top_ranked=top_ranked, **arguments)
        return ranks_in_results(self._collected(), query_set, parts, results, depth)

    def top_passages(
        self, model: Any, split: str, subset: str, k: int, encode_kwargs: EncodeKwargs
    ) -> dict[str, dict[str, float]]:
        """The first k passages of every query of a subset: score by passage id, best first, by query id.

        Only for a model that our engine scores; `RequestError` for others. The data must be loaded.
        """
        query_set, parts = self.pool_of(subset, split)
        ranker = self._ranker(model, encode_kwargs)
        if ranker is None:
            raise RequestError(
                f"{model.mteb_model_meta.name} is neither a dense encoder nor hybrid_bench/bm25: its best passages are "
                "not known here"
            )
        queries = self._collected().queries[query_set]
        return dict(zip(queries.ids, ranker.top_passages(query_set, parts, k), strict=True))

    def _candidates(
        self, model: Any, query_set: str, parts: Sequence[str], *, k: int, encode_kwargs: EncodeKwargs
    ) -> dict[str, list[str]]:
        """The first stage's best passages, by query id."""
        ranker = self._ranker(model, encode_kwargs)
        if ranker is None:
            raise RequestError(
                f"{model.mteb_model_meta.name} cannot be a first stage: --rerank takes a run of a dense encoder or of "
                "hybrid_bench/bm25"
            )
        ids = self._collected().queries[query_set].ids
        return {i: list(found) for i, found in zip(ids, ranker.top_passages(query_set, parts, k), strict=True)}

    def _record(self, model: Any, key: tuple[str, str], pool: PoolRanks, ranker: Ranker | None) -> None:
        collection = self._collected()
        meta = model.mteb_model_meta
        identity: dict[str, Any] = {
            "model": meta.name,
            "model_source": meta.loader_kwargs.get("folder", meta.name),
            "revision": meta.revision,
            "options": {name: str(value) for name, value in (meta.experiment_kwargs or {}).items()},
            "collection": collection.name,
            "data_revision": collection.revision,
            "passage": str(self.options.data.passage),
            **self.rules(model),
        }
        if not identity.items() <= self.signature.items():
            self.tables, self.signature = {}, {}  # those of another model or other data
        training = read_record(Path(meta.loader_kwargs["folder"])) if "folder" in meta.loader_kwargs else None
        if training is not None:
            kept = ("languages", "mode", "alpha", "seed", "base")
            identity["training"] = {name: training[name] for name in kept if name in training}
        self.remarks = [] if ranker is None else ranker.remarks
        depth = "full" if pool.depth >= pool.pool_size else pool.depth
        wanted = self._wanted()
        self.signature = identity | {
            "similarity": "model's own search" if ranker is None else ranker.similarity,
            "dtype": "float32",
            # A small pool may be searched in full where a large one is not: the task's depth is what limits it at all.
            "depth": self.signature.get("depth", "full") if depth == "full" else depth,
            "caveat": self.caveat,
            "notes": [*collection.notes, *self.remarks],
            # Queries are given with it, passages without, as mteb does.
            "outer_white_space": collection.padded(wanted, dict.fromkeys(chain.from_iterable(wanted.values()))),
        }
        metadata = {
            **self.signature,
            "languages": list(collection.languages),
            "passages": {passages.language: len(passages) for passages in collection.passages.values()},
        }
        split, subset = key
        self.tables[key] = query_table(
            collection, pool, split=split, subset=subset, setting=self.setting_of(subset), metadata=metadata
        )


class ParallelRetrieval(ExactRetrieval):
    """Retrieval over a collection that has one part for each language.

    A task file sets ``metadata`` and ``reader``. Subsets named ``<query>-<corpus>`` ask the queries of one language
    against the passages of one language; subsets named ``<query>`` ask them against all languages at once.

    Attributes:
        reader: Reads the collection.
    """

    reader: ClassVar[Reader]

    @property
    def collection_name(self) -> str:
        """Name of the collection that the reader reads."""
        return self.reader.collection

    @property
    def notice(self) -> str:
        """What the reader says that a user of its data has to be told."""
        return self.reader.notice

    def read_collection(self) -> Collection:
        """The collection as the options ask for it, at least with the languages that the chosen subsets need."""
        return self.reader.load(self.options.data, self._languages())

    def data_sha256(self) -> Mapping[str, str]:
        """Hashes of the parts that the chosen subsets need."""
        needed, data = self._languages(), self.options.data
        if "translations" not in self.saved_options():  # then the results do not depend on them
            data = replace(data, translations=None)
        return {part: sha for part, sha in self.reader.sha256(data, needed).items() if not part or part in needed}

    def saved_options(self) -> dict[str, str]:
        """What the reader says of its options, and the languages of a narrowed pool."""
        narrowed = self.options.pool_languages
        # Of all its subsets, not the chosen ones: what is still missing of a result belongs to what is there.
        subsets = self.metadata.hf_subsets
        pooled = narrowed is not None and any("-" not in subset for subset in subsets)
        return dict(self.reader.saved_options(self.options.data, subsets)) | (
            {"pool_languages": "-".join(sorted(narrowed))} if narrowed is not None and pooled else {}
        )

    def query_set_of(self, subset: str) -> str:
        """Name of the query set that is asked in a subset."""
        return subset.partition("-")[0]

    def parts_of(self, subset: str) -> tuple[str, ...]:
        """Languages of the passages in a subset's pool."""
        corpus = subset.partition("-")[2]
        if corpus:
            return (corpus,)
        narrowed = self.options.pool_languages
        everything = self.reader.languages
        return everything if narrowed is None else tuple(code for code in everything if code in narrowed)

    def pool_of(self, subset: str, split: str = "") -> tuple[str, tuple[str, ...]]:
        """The questions of the subset's language, and the languages of its passages."""
        return self.query_set_of(subset), self.parts_of(subset)

    def setting_of(self, subset: str) -> Setting:
        """The setting of a subset; a pool that was narrowed to one language is still the multilingual task's."""
        query = subset.partition("-")[0]
        return setting_of(query, self.parts_of(subset)) if "-" in subset else Setting.MULTILINGUAL

    def subset_about(self, name: str) -> str:
        """A subset that is in this language alone, to tell a model whose prompt depends on it."""
        subsets = self.metadata.hf_subsets
        return next(subset for subset in (f"{name}-{name}", name, name.partition("-")[0]) if subset in subsets)

    def _languages(self) -> frozenset[str]:
        return frozenset(part for subset in self.hf_subsets for part in self.parts_of(subset))

    def load_data(self, num_proc: int | None = None, *, timer: TimingStack | None = None, **kwargs: Any) -> None:
        """Read the collection. What mteb expects of a subset is made of it when it is asked for."""
        if self.data_loaded:
            return
        timer = timer or TimingStack()
        with timer("Data loading", log_message=f"Loading dataset {self.metadata.name}..."):
            for subset in self.hf_subsets:
                if reason := self.reader.missing(self.options.data, subset):
                    raise RequestError(f"{self.metadata.name} cannot run subset {subset}: {reason}")
            collection = self.read_collection()
            for subset in self.hf_subsets:
                query_set, parts = self.pool_of(subset)
                asked = collection.queries.get(query_set)
                wanted = [collection.part_index(part) for part in parts]
                if asked is None or not np.isin(asked.judgments.part, wanted).any():
                    raise DataError(
                        f"{self.metadata.name}, subset {subset}: no question has a relevant passage in its pool: leave "
                        "the subset out, by --languages"
                    )
            self.collection = collection
            corpora: dict[tuple[str, ...], Dataset] = {}
            self.dataset = {
                subset: {split: cast("Any", _Split(self.collection, *self.pool_of(subset), corpora))}
                for subset in self.hf_subsets
                for split in self.eval_splits
            }
        self.data_loaded = True

    def unload_data(self) -> None:
        """Free the memory."""
        super().unload_data()
        self.collection = None


class _Split(dict[str, Any]):
    """A subset of a collection as mteb lays it out, each item made when it is asked for: our engine needs none."""

    def __init__(
        self,
        collection: Collection,
        query_set: str,
        parts: tuple[str, ...],
        corpora: dict[tuple[str, ...], Dataset],
    ) -> None:
        super().__init__(top_ranked=None)
        self._make: dict[str, Callable[[], Any]] = {
            "corpus": lambda: (
                corpora[parts] if parts in corpora else corpora.setdefault(parts, _corpus(collection, parts))
            ),
            "relevant_docs": lambda: _relevant(collection, query_set, parts),
            "queries": lambda: _asked(collection.queries[query_set], self["relevant_docs"]),
        }

    def __missing__(self, name: str) -> Any:
        self[name] = self._make[name]()
        return self[name]


def _corpus(collection: Collection, parts: Sequence[str]) -> Dataset:
    """The passages of these parts, as mteb's corpus."""

    def rows() -> Any:
        for part in parts:
            passages = collection.passages[part]
            titles = passages.titles if passages.titles is not None else [""] * len(passages)
            for i, title, text in zip(passages.ids, titles, passages.texts, strict=True):
                yield {"id": i, "title": title, "text": text} if titled else {"id": i, "text": text}

    titled = any(collection.passages[part].titles is not None for part in parts)
    return Dataset.from_list(list(rows()))


def _asked(queries: Queries, relevant: Mapping[str, Any]) -> Dataset:
    """The queries that have a relevant passage."""
    asked = [row for row, query_id in enumerate(queries.ids) if query_id in relevant]
    return Dataset.from_dict({"id": [queries.ids[row] for row in asked], "text": [queries.texts[row] for row in asked]})


def _relevant(collection: Collection, query_set: str, parts: Sequence[str]) -> dict[str, dict[str, int]]:
    """The judgments on these parts, as mteb's qrels. A passage that the corpus lacks has a name that says so."""
    queries = collection.queries[query_set]
    judgments = queries.judgments
    found: dict[str, dict[str, int]] = {}
    for number, (query, part, passage, gain) in enumerate(
        zip(
            judgments.query.tolist(),
            judgments.part.tolist(),
            judgments.passage.tolist(),
            judgments.gain.tolist(),
            strict=True,
        )
    ):
        name = collection.parts[part]
        if name in parts:
            passage_id = collection.passages[name].ids[passage] if passage >= 0 else f"absent-{number}"
            found.setdefault(queries.ids[query], {})[passage_id] = gain
    return found


def _ensure_named(model: Any) -> None:
    """Give a model that has no name one that keeps its results apart from those of any other, and say so.

    Raises:
        ModelError: If it has no metadata to write a name into.
    """
    meta = getattr(model, "mteb_model_meta", None)
    if meta is None:
        raise ModelError(
            f"{type(model).__name__} has no name that tells its results from those of another model: give it a "
            "mteb_model_meta with a name 'organisation/model', or give `run` the folder of the saved model"
        )
    inner = innermost(model)
    kind = type(getattr(inner, "model", inner)).__name__
    unnamed = f"unnamed/{kind}"
    if meta.name == unnamed:  # by an earlier evaluation; its weights may have changed since
        meta.revision = weights_hash(model) or meta.revision
    elif not is_named(meta):
        # In place: mteb has this very object in its hands, and saves by it.
        meta.name, meta.revision = unnamed, weights_hash(model) or secrets.token_hex(20)
        warnings.warn(
            f"{kind} has no name, so its results are kept apart as {unnamed} at revision {meta.revision}; give it one: "
            "mteb_model_meta.name of mteb's wrapper around it, or name='organisation/model' in hybrid_bench.evaluate",
            stacklevel=2,
        )


def _weights_state(model: Any) -> list[Any]:
    """Something that changes when a torch model is trained, loaded anew, or told another length, in place."""
    import torch

    module = getattr(innermost(model), "model", None)
    if not isinstance(module, torch.nn.Module):
        return []
    state: list[Any] = [getattr(module, "max_seq_length", None)]
    # Not the buffers: some models write into theirs while they encode, which would look like another model each time.
    for tensor in module.parameters():
        sample = tensor.detach().flatten()[:: max(1, tensor.numel() // 64)]
        version = None if tensor.is_inference() else tensor._version
        state.append([str(tensor.dtype), version, float(sample.double().sum()) if sample.numel() else 0.0])
    return state


def _is_dense(model: Any) -> bool:
    """Whether a model is an encoder of single vectors, each of its text alone, which our engine scores."""
    if not isinstance(model, EncoderProtocol) or isinstance(model, SearchProtocol):
        return False
    return "dense" in model.mteb_model_meta.model_type and not encoded_together(model)
