"""`ParallelRetrieval`: the mteb task that the task files subclass.

To mteb it is an ordinary retrieval task: corpus, queries and judgments per subset, evaluated subset by subset, with
mteb's own keys in the result. What differs is how a subset is evaluated. The first subset of a query language ranks
all pools that the task asks of that language, from one encoding of each text; the rest are look-ups. The two tasks of
a collection share the encoding and the counts as long as they are given the same model object.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary, proxy

from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol
from mteb.models.search_wrappers import SearchCrossEncoderWrapper, SearchEncoderWrapper
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.timing import TimingStack

from hybrid_bench.bias import Pool, bias_measures
from hybrid_bench.corpora import Collection, LareqaSource, PassageText, load_lareqa
from hybrid_bench.encode import EmbeddingCache, Embeddings, Role, prompt_of
from hybrid_bench.errors import ModelError, RequestError
from hybrid_bench.languages import Setting, setting_of
from hybrid_bench.lexical import BM25, CharNgramEncoder
from hybrid_bench.metrics import measures
from hybrid_bench.ranking import PoolRanks, Ranker, ranks_in_results
from hybrid_bench.results import query_table

if TYPE_CHECKING:
    import pyarrow as pa
    from mteb.types import EncodeKwargs, HFSubset, ScoresDict

__all__ = ["ParallelRetrieval", "TaskOptions", "pair_subsets", "pool_subsets"]

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
        data_dir: The user's data folder; None for the environment variable or the download cache.
        passage: What text stands for a candidate.
        pool_languages: Languages of the multilingual pool; None for all.
        embedding_cache: Folder for embeddings on disk; None for none.
        first_stage: The model whose best passages a cross-encoder ranks again.
        top_k: How many of them.
    """

    data_dir: Path | None = None
    passage: PassageText = PassageText.SENTENCE
    pool_languages: tuple[str, ...] | None = None
    embedding_cache: Path | None = None
    first_stage: Any = None
    top_k: int | None = None


class ParallelRetrieval(AbsTaskRetrieval):
    """Retrieval over a collection of parallel queries and passages.

    A task file sets ``metadata`` and ``source``. Subsets named ``<query>-<corpus>`` ask the queries of one language
    against the passages of one language; subsets named ``<query>`` ask them against all languages at once.

    Attributes:
        source: Where the collection comes from.
        options: What was chosen; set it before the data are loaded.
        tables: After an evaluation, one row per query, by subset (see `results.query_table`).
        signature: After an evaluation, what its numbers depend on.
        collection: The data, once they are loaded.
    """

    source: ClassVar[LareqaSource]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = TaskOptions()
        self.tables: dict[str, pa.Table] = {}
        self.signature: dict[str, Any] = {}
        self.collection: Collection | None = None
        self._searched: PoolRanks | None = None

    # -- data ---------------------------------------------------------------------------------------------------

    def read_collection(self) -> Collection:
        """The collection as the options ask for it."""
        return load_lareqa(self.source, self.options.data_dir, self.options.passage)

    def data_sha256(self) -> str:
        """Hash of the data that an evaluation would read now; `DataError` if they cannot be read."""
        sha256 = self.read_collection().sha256
        narrowed = self.options.pool_languages
        return (
            sha256 if narrowed is None else hashlib.sha256(" ".join([sha256, *sorted(narrowed)]).encode()).hexdigest()
        )

    def pool_of(self, subset: str) -> tuple[str, tuple[str, ...]]:
        """Query language and pool languages of a subset."""
        query, _, corpus = subset.partition("-")
        if corpus:
            return query, (corpus,)
        narrowed = self.options.pool_languages
        everything = tuple(self.source.files)
        return query, everything if narrowed is None else tuple(code for code in everything if code in narrowed)

    def setting_of(self, subset: str) -> Setting:
        """The setting of a subset; a pool that was narrowed to one language is still the multilingual task's."""
        query, pool = self.pool_of(subset)
        return setting_of(query, pool) if "-" in subset else Setting.MULTILINGUAL

    def load_data(self, num_proc: int | None = None, *, timer: TimingStack | None = None, **kwargs: Any) -> None:
        """Read the collection and lay it out as mteb expects: corpus, queries and judgments for each subset."""
        if self.data_loaded:
            return
        timer = timer or TimingStack()
        with timer("Data loading", log_message=f"Loading dataset {self.metadata.name}..."):
            collection = self.read_collection()
            corpora: dict[tuple[str, ...], Dataset] = {}
            self.dataset = {}
            for subset in self.hf_subsets:
                query_language, pool = self.pool_of(subset)
                if pool not in corpora:
                    corpora[pool] = Dataset.from_dict(
                        {
                            "id": [i for code in pool for i in collection.passages[code].ids],
                            "text": [text for code in pool for text in collection.passages[code].texts],
                        }
                    )
                self.dataset[subset] = {
                    split: self._split(collection, query_language, pool, corpora[pool]) for split in self.eval_splits
                }
            self.collection = collection
        self.data_loaded = True

    @staticmethod
    def _split(collection: Collection, query_language: str, pool: Sequence[str], corpus: Dataset) -> Any:
        queries = collection.queries[query_language]
        judgments = queries.judgments
        relevant: dict[str, dict[str, int]] = {}
        for query, language, passage, gain in zip(
            judgments.query.tolist(),
            judgments.language.tolist(),
            judgments.passage.tolist(),
            judgments.gain.tolist(),
            strict=True,
        ):
            code = collection.languages[language]
            if code in pool:
                relevant.setdefault(queries.ids[query], {})[collection.passages[code].ids[passage]] = gain
        asked = [row for row, query_id in enumerate(queries.ids) if query_id in relevant]
        return {
            "corpus": corpus,
            "queries": Dataset.from_dict(
                {"id": [queries.ids[row] for row in asked], "text": [queries.texts[row] for row in asked]}
            ),
            "relevant_docs": relevant,
            "top_ranked": None,
        }

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
        _check_named(model)
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
                self._record(model, hf_subset, self._searched, None)
                return scores
        assert self.collection is not None
        query_language, pool_languages = self.pool_of(hf_subset)
        with timer("Ranking", split=hf_split, subset=hf_subset):
            ranker = self._ranker(model, encode_kwargs, hf_subset)
            if ranker is not None:
                ranker.prepare(self._wanted())
                pool = ranker.rank(query_language, pool_languages)
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
            if self.setting_of(hf_subset) is Setting.MULTILINGUAL:
                scores |= bias_measures(
                    pool.ranks,
                    Pool.of(
                        self.collection.languages,
                        {code: len(passages) for code, passages in self.collection.passages.items()},
                        pool.query_language,
                        pool.pool_languages,
                        top_languages=pool.top_languages,
                        depth=pool.depth,
                    ),
                )
        self._record(model, hf_subset, pool, ranker)
        return scores

    def task_specific_scores(
        self, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str
    ) -> dict[str, float]:
        """``map``, which mteb's own evaluation does not have: over the passages that its search returned."""
        assert self.collection is not None
        query_language, pool_languages = self.pool_of(hf_subset)
        self._searched = ranks_in_results(self.collection, query_language, pool_languages, results, self._top_k)
        return {"map": measures(self._searched.ranks)["map"]}

    def _wanted(self) -> dict[str, list[str]]:
        """For each query language of the chosen subsets, the languages of all pools it is asked against."""
        wanted: dict[str, set[str]] = {}
        for subset in self.hf_subsets:
            query, pool = self.pool_of(subset)
            wanted.setdefault(query, set()).update(pool)
        return {query: [code for code in self.source.files if code in pool] for query, pool in wanted.items()}

    def _check_options(self, model: Any) -> None:
        """Refuse options that mteb does not know of: it would take the results for those without."""
        told = model.mteb_model_meta.experiment_kwargs or {}
        chosen = {
            "passage": self.options.passage is not PassageText.SENTENCE,
            "pool_languages": self.options.pool_languages is not None,
        }
        missing = [name for name, is_chosen in chosen.items() if is_chosen and name not in told]
        if missing:
            raise RequestError(
                f"{self.metadata.name} has options ({', '.join(missing)}) that the model's metadata does not tell: "
                "write them there with hybrid_bench.models.with_options, or use `hybrid-bench run`"
            )

    def _ranker(self, model: Any, encode_kwargs: EncodeKwargs, subset: str | None = None) -> Ranker | None:
        """Our engine for this model, shared with the collection's other task; None for a model it cannot score.

        A subset that is evaluated again gets a new one, and so does a model whose weights changed: what is shared is
        one evaluation of one state of the model, not more.
        """
        assert self.collection is not None
        collection = self.collection
        bm25 = isinstance(model, BM25)
        if not bm25 and not _is_dense(model):
            return None
        prompts = {} if bm25 else {role.value: prompt_of(model, self.metadata, role) for role in Role}
        relevant = {name: str(value) for name, value in encode_kwargs.items() if name != "show_progress_bar"}
        meta = model.mteb_model_meta
        identity = [meta.name, meta.revision, str(meta.experiment_kwargs), _weights_state(model)]
        cached = str(self.options.embedding_cache)
        key = json.dumps([collection.name, collection.sha256, prompts, relevant, cached, identity])
        mine = _rankers.setdefault(model, {})
        if key not in mine or (self.metadata.name, subset) in mine[key].served:
            # One collection at a time: an earlier one's embeddings are not needed any more.
            mine.clear()
            kind = type(model)
            # What hangs on the model by `_rankers` must not hold it in turn, or neither would ever go.
            model = proxy(model)
            if bm25:
                mine[key] = Ranker.bm25(collection, model)
            else:
                mine[key] = Ranker.dense(
                    collection,
                    Embeddings(
                        model=model,
                        metadata=self.metadata,
                        encode_kwargs=encode_kwargs,
                        subset=self._subset_of_language,
                        by_language=kind not in (SentenceTransformerEncoderWrapper, CharNgramEncoder),
                        cache=EmbeddingCache(self.options.embedding_cache) if self.options.embedding_cache else None,
                    ),
                )
        if subset is not None:
            mine[key].served.add((self.metadata.name, subset))
        return mine[key]

    def _subset_of_language(self, code: str) -> str:
        """A subset that is in this language alone, to tell a model whose prompt depends on it."""
        pair = f"{code}-{code}"
        return pair if pair in self.metadata.hf_subsets else code

    def _search(self, model: Any, data_split: Any, **arguments: Any) -> PoolRanks:
        """Ask a model that does its own search, with mteb's arguments, but as deep as the pool."""
        assert self.collection is not None
        query_language, pool_languages = self.pool_of(arguments["hf_subset"])
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
            top_ranked = self._candidates(
                first, query_language, pool_languages, k=depth, encode_kwargs=arguments["encode_kwargs"]
            )
            search = SearchCrossEncoderWrapper(model)
        else:
            raise ModelError(f"{type(model).__name__} is not a model that mteb knows how to evaluate")
        search.index(corpus=corpus, **arguments)
        results = search.search(queries=queries, top_k=depth, top_ranked=top_ranked, **arguments)
        return ranks_in_results(self.collection, query_language, pool_languages, results, depth)

    def _candidates(
        self, model: Any, query_language: str, pool_languages: Sequence[str], *, k: int, encode_kwargs: EncodeKwargs
    ) -> dict[str, list[str]]:
        """The first stage's best passages, by query id."""
        assert self.collection is not None
        ranker = self._ranker(model, encode_kwargs)
        if ranker is None:
            raise RequestError(
                f"{model.mteb_model_meta.name} cannot be a first stage: --rerank takes a run of a dense encoder or of "
                "hybrid_bench/bm25"
            )
        ids = self.collection.queries[query_language].ids
        return dict(zip(ids, ranker.top_passages(query_language, pool_languages, k), strict=True))

    def _record(self, model: Any, subset: str, pool: PoolRanks, ranker: Ranker | None) -> None:
        assert self.collection is not None
        collection = self.collection
        meta = model.mteb_model_meta
        identity = {
            "model": meta.name,
            "model_source": meta.loader_kwargs.get("folder", meta.name),
            "revision": meta.revision,
            "options": {name: str(value) for name, value in (meta.experiment_kwargs or {}).items()},
            "collection": collection.name,
            "data_revision": collection.revision,
            "passage": str(self.options.passage),
            "prompts": {role.value: prompt_of(model, self.metadata, role) for role in Role},
        }
        if not identity.items() <= self.signature.items():
            self.tables, self.signature = {}, {}  # those of another model or other data
        depth = "full" if pool.depth >= pool.pool_size else pool.depth
        self.signature = identity | {
            "similarity": "model's own search" if ranker is None else ranker.similarity,
            "dtype": "float32",
            # A small pool may be searched in full where a large one is not: the task's depth is what limits it at all.
            "depth": self.signature.get("depth", "full") if depth == "full" else depth,
        }
        metadata = {
            **self.signature,
            "languages": list(collection.languages),
            "passages": {code: len(collection.passages[code]) for code in collection.languages},
        }
        self.tables[subset] = query_table(collection, subset, pool, metadata)


def _check_named(model: Any) -> None:
    """Refuse a model that has no name of its own: its results would be taken for those of any other such model."""
    meta = getattr(model, "mteb_model_meta", None)
    name = None if meta is None else meta.name
    if name is None or "/" not in name or name.startswith("no_model_name/"):
        raise ModelError(
            f"{type(model).__name__} has no name that tells its results from those of another model: give its "
            "mteb_model_meta a name 'organisation/model', or give `run` the folder of the saved model"
        )


def _weights_state(model: Any) -> list[Any]:
    """Something that changes when a torch model is trained, loaded anew, or told another length, in place."""
    import torch

    module = getattr(model, "model", None)
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
    """Whether a model is an encoder of single vectors, which our engine scores."""
    if not isinstance(model, EncoderProtocol) or isinstance(model, SearchProtocol):
        return False
    return "dense" in model.mteb_model_meta.model_type
