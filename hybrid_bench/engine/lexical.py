"""The two embedded models, which need no download: BM25 over words, and a hashed character n-gram encoder.

`BM25` is the lexical baseline, with a tokenisation made for the languages of the collections; it gives the exact
scores of every passage to our engine (`BM25.scorer`) and is a search model of mteb by itself. `CharNgramEncoder` is a
dense encoder without weights: it shows the whole dense path at work, and what spelling alone is worth.

mteb is imported where it is used, not here: this module is needed to register the models as mteb is imported.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import bm25s
import numpy as np
import numpy.typing as npt
import regex
import scipy.sparse as sp
import Stemmer
from bm25s import stopwords, tokenization
from sklearn.feature_extraction.text import HashingVectorizer

from hybrid_bench.errors import ModelError, RequestError
from hybrid_bench.languages import LANGUAGES, did_you_mean
from hybrid_bench.languages import language as language_of

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta
    from mteb.types import (
        Array,
        BatchedInput,
        CorpusDatasetType,
        EncodeKwargs,
        PromptType,
        QueryDatasetType,
        RetrievalOutputType,
        TopRankedDocumentsType,
    )
    from torch.utils.data import DataLoader

__all__ = [
    "BM25",
    "EMBEDDED",
    "BM25Scorer",
    "CharNgramEncoder",
    "bm25_meta",
    "char_ngram_meta",
    "load_bm25",
    "tokenize",
]

Method = Literal["lucene", "robertson", "atire"]

# ---------------------------------------------------------------------------------------------------------------------
# Tokenisation
# ---------------------------------------------------------------------------------------------------------------------

# Raise it with every change of a token, so that no cached score is taken for one of the new tokenisation.
_TOKENISATION = "2"

# English: of bm25s' two lists the long one, which holds question words and what an apostrophe leaves ("s", "t"). mAP,
# monolingual, short / long / none: XQuAD-R .8059 / .8120 / .8117, MLQA-R .6732 / .6780 / .6762.
# Chinese: none, though bm25s has a list: of words, and words are not what is indexed (figures at `_ngrams`).
_STOP_WORDS: Mapping[str, Sequence[str]] = {
    "de": stopwords.STOPWORDS_GERMAN,
    "en": stopwords.STOPWORDS_EN_PLUS,
    "es": stopwords.STOPWORDS_SPANISH,
    "fr": stopwords.STOPWORDS_FRENCH,
    "it": stopwords.STOPWORDS_ITALIAN,
    "ko": stopwords.STOPWORDS_KOREAN,
    "nb": stopwords.STOPWORDS_NORWEGIAN,
    "nl": stopwords.STOPWORDS_DUTCH,
    "no": stopwords.STOPWORDS_NORWEGIAN,
    "pt": stopwords.STOPWORDS_PORTUGUESE,
    "ru": stopwords.STOPWORDS_RUSSIAN,
    "sv": stopwords.STOPWORDS_SWEDISH,
    "tr": stopwords.STOPWORDS_TURKISH,
}

# All that Snowball has, by two-letter code: none for bn, ja, ko, sw, te, th, vi, yo, zh; Persian since 3.1.
# Monolingual mAP on XQuAD-R without -> with stems: ar .634 -> .729, ru .668 -> .787, el .693 -> .752, tr .682 -> .735,
# de .689 -> .737, hi .739 -> .764, es .748 -> .771, en .784 -> .806 (the last with the short stop-word list).
_SNOWBALL: Mapping[str, str] = {
    code: name
    for code, name in {
        "ar": "arabic",
        "ca": "catalan",
        "cs": "czech",
        "da": "danish",
        "de": "german",
        "el": "greek",
        "en": "english",
        "eo": "esperanto",
        "es": "spanish",
        "et": "estonian",
        "eu": "basque",
        "fa": "persian",
        "fi": "finnish",
        "fr": "french",
        "ga": "irish",
        "hi": "hindi",
        "hu": "hungarian",
        "hy": "armenian",
        "id": "indonesian",
        "it": "italian",
        "lt": "lithuanian",
        "nb": "norwegian",
        "ne": "nepali",
        "nl": "dutch",
        "nn": "norwegian",
        "no": "norwegian",
        "pl": "polish",
        "pt": "portuguese",
        "ro": "romanian",
        "ru": "russian",
        "sr": "serbian",
        "st": "sesotho",
        "sv": "swedish",
        "ta": "tamil",
        "tr": "turkish",
        "yi": "yiddish",
    }.items()
    if name in Stemmer.algorithms()
}

# Python's \w leaves out most combining marks, and so cuts Devanagari, Thai and others in the middle of a syllable.
# ー (the long vowel of Katakana) belongs to no single script.
_CJK = r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}ー]&&[\p{L}\p{M}\p{N}]]"
_SOUTH_EAST = r"[[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]&&[\p{L}\p{M}\p{N}]]"
_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{_CJK}--{_SOUTH_EAST}]"
_RUNS = regex.compile(rf"(?V1)(?P<cjk>{_CJK}+)|(?P<south_east>{_SOUTH_EAST}+)|(?!\p{{M}}){_WORD}+")
_GRAPHEME = regex.compile(r"\X")
_FOREIGN_DIGIT = regex.compile(r"(?V1)[\p{Nd}--[0-9]]")
# Joiners, soft hyphens, variation selectors and direction marks; but between Arabic letters a ZWNJ parts a compound.
_COMPOUND = regex.compile(r"(?V1)(?<=\p{Arabic})\u200c")
_IGNORABLE = regex.compile(r"(?V1)\p{Default_Ignorable_Code_Point}")


def _fold(text: str, language: str) -> str:
    """NFKC and casefold, with the capital I of Turkish, digits of all scripts as 0-9, and nothing invisible."""
    text = unicodedata.normalize("NFKC", text).replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i")
    if language == "tr":
        text = text.replace("I", "\N{LATIN SMALL LETTER DOTLESS I}")
    if text.isascii():
        return text.casefold()
    text = _IGNORABLE.sub("", _COMPOUND.sub(" ", unicodedata.normalize("NFKC", text.casefold())))
    folded: str = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    return folded


def _ngrams(units: Sequence[str], *lengths: int) -> Iterator[str]:
    """Overlapping n-grams of each length; all units as one token if there are fewer than the shortest length."""
    if len(units) < min(lengths):
        yield "".join(units)
    for n in lengths:
        for start in range(len(units) - n + 1):
            yield "".join(units[start : start + n])


def _split(text: str) -> Iterator[str]:
    """The tokens of a folded text, run by run of one kind of script, whatever the language of the text.

    What stands without spaces is indexed by n-grams, their lengths chosen by monolingual mAP:

    | length       | 1     | 2     | 3     | 4     | 1 + 2 | 2 + 3 |
    |--------------|-------|-------|-------|-------|-------|-------|
    | XQuAD-R, th  | .6917 | .7775 | .7731 | .7498 | .7724 | .7757 |
    | XQuAD-R, zh  | .7943 | .7809 | .6782 | .5871 | .7965 | .7489 |
    | MLQA-R, zh   | .6260 | .5756 |       |       | .6311 |       |

    (Thai in extended grapheme clusters; Chinese in characters, without stop words. With bm25s' Chinese stop words the
    three best are .7849, .7787, .7960.) Japanese is treated as Chinese, Lao, Khmer and Burmese as Thai: not measured.
    """
    for run in _RUNS.finditer(text):
        if run["cjk"]:
            yield from _ngrams(run[0], 1, 2)
        elif run["south_east"]:
            yield from _ngrams(_GRAPHEME.findall(run[0]), 2)
        else:
            yield run[0]


def tokenize(texts: Sequence[str], language: str, pool_language: str | None = None) -> list[list[str]]:
    """The index terms of each text, in order and with repetitions.

    Words in spaced scripts (letters, combining marks and digits together), less the stop words of the language, and
    stemmed; n-grams in scripts without spaces. Scripts are told apart within each text.

    Args:
        texts: Queries or passages.
        language: Their code. A language for which there are no rules gets no stop words and no stems; a script in it,
            as of ``sr_Latn``, does not count.
        pool_language: For queries, the language of the pool that they are asked against, if another. Letters are then
            folded and words stemmed as in that pool, after the stop words of the query's own language are taken out:
            what can match across languages is names, and the same name must get the same stem. (Mean mAP over the
            110 cross-lingual settings of XQuAD-R: .125; with all rules of the query's language .115, with all rules
            of the pool's .114.)
    """
    language = language.partition("_")[0]
    index_language = (pool_language or language).partition("_")[0]
    stemmer = Stemmer.Stemmer(_SNOWBALL[index_language]) if index_language in _SNOWBALL else None
    tokenizer = tokenization.Tokenizer(
        lower=False,  # folded already; str.lower() is not casefold
        splitter=lambda text: list(_split(_fold(text, index_language))),
        stopwords=[_fold(word, index_language) for word in _STOP_WORDS.get(language, ())],
        stemmer=stemmer,
    )
    tokens: list[list[str]] = tokenizer.tokenize(
        list(texts), update_vocab=True, return_as="string", allow_empty=False, show_progress=False
    )
    # A stemmer may leave nothing of a word, as the Arabic one of a lone tatweel.
    return [[token for token in text_tokens if token] for text_tokens in tokens]


# ---------------------------------------------------------------------------------------------------------------------
# BM25
# ---------------------------------------------------------------------------------------------------------------------


class _Index:
    """BM25 weights of one pool's terms: a sparse matrix (terms, passages), terms in the order of their spelling."""

    def __init__(self, passages: Sequence[str], language: str, k1: float, b: float, method: Method) -> None:
        tokens = tokenize(passages, language)
        # bm25s numbers the terms in the order of a set of strings, which changes from process to process, and with it
        # the order of summation: hence our own numbers.
        self.columns = {term: column for column, term in enumerate(sorted({t for passage in tokens for t in passage}))}
        self.n_passages = len(tokens)
        if not self.columns:  # bm25s would divide by the mean length, 0
            self.weights = sp.csr_array((0, self.n_passages), dtype=np.float64)
            return
        index = bm25s.BM25(k1=k1, b=b, method=method, dtype="float64")
        index.index(
            ([[self.columns[term] for term in passage] for passage in tokens], self.columns),
            create_empty_token=False,
            show_progress=False,
        )
        parts = index.scores
        self.weights = sp.csr_array(
            (parts["data"], parts["indices"], parts["indptr"]), shape=(len(self.columns), self.n_passages)
        )

    def scores(self, queries: Sequence[Sequence[str]]) -> npt.NDArray[np.float32]:
        rows, columns = [], []
        for row, query in enumerate(queries):
            known = [self.columns[term] for term in query if term in self.columns]
            rows += [row] * len(known)
            columns += known
        if not columns:
            return np.zeros((len(queries), self.n_passages), dtype=np.float32)
        counts = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(queries), len(self.columns)))
        counts.sum_duplicates()  # sorts the terms too: the order of summation
        return np.asarray((counts @ self.weights).toarray(), dtype=np.float32)


class BM25Scorer:
    """Exact BM25 scores of all passages of a collection; made by `BM25.scorer`.

    Each language is an index of its own, so that idf and mean length are those of that language's pool. Monolingual
    and cross-lingual pools are therefore exactly standard BM25. In a pool of several languages the scores of the
    languages' indexes are compared as they are, which is what a sharded search engine does with its shards.
    """

    def __init__(self, passages: Mapping[str, Sequence[str]], k1: float, b: float, method: Method) -> None:
        self._indexes = {language: _Index(texts, language, k1, b, method) for language, texts in passages.items()}

    def scores(self, queries: Sequence[str], query_language: str, pool_language: str) -> npt.NDArray[np.float32]:
        """The scores of these queries against every passage in one language.

        A query term counts as often as it stands in the query. Sums are taken in float64 in a fixed order, query by
        query, and rounded once: they do not depend on which queries come together, on threads, or on the process.
        Memory is about 24 bytes per score, so the caller gives queries in blocks.

        Args:
            queries: The queries' texts.
            query_language: Their two-letter code; see `tokenize`.
            pool_language: Which of the languages of the passages.

        Returns:
            Shape (n_queries, n_passages), passages in the order given; 0 where no term is shared.

        Raises:
            RequestError: If there are no passages in that language.
        """
        if pool_language not in self._indexes:
            hint = did_you_mean(pool_language, self._indexes)
            raise RequestError(f"no passages in '{pool_language}' are indexed: {hint}")
        return self._indexes[pool_language].scores(tokenize(queries, query_language, pool_language))


class BM25:
    """BM25 (Robertson and Zaragoza 2009) by bm25s (Lù 2024), for any text retrieval task of mteb and for our engine.

    Under plain `mteb.evaluate` a subset has one language for its queries and one for its corpus (see `index`);
    our own tasks use `scorer`, which knows the language of every passage.

    Args:
        k1: Saturation of term frequency, at least 0.
        b: Normalisation by passage length, 0 to 1.
        method: Variant of the formula: ``lucene``, ``robertson`` or ``atire``.

    Raises:
        RequestError: If a parameter is outside its range.
    """

    mteb_model_meta: ModelMeta

    def __init__(self, k1: float = 1.5, b: float = 0.75, method: Method = "lucene") -> None:
        if not k1 >= 0:
            raise RequestError(f"BM25 needs k1 of at least 0, not {k1}")
        if not 0 <= b <= 1:
            raise RequestError(f"BM25 needs b from 0 to 1, not {b}")
        if method not in get_args(Method):
            raise RequestError(f"unknown BM25 method '{method}': {did_you_mean(method, get_args(Method))}")
        self.k1, self.b, self.method = k1, b, method
        chosen = {"k1": k1, "b": b, "method": method}
        changed = {name: value for name, value in chosen.items() if value != _BM25_DEFAULTS[name]}
        self.mteb_model_meta = bm25_meta().model_copy(update={"experiment_kwargs": changed or None})
        self._indexed: tuple[list[str], str, BM25Scorer] | None = None

    def scorer(self, passages: Mapping[str, Sequence[str]]) -> BM25Scorer:
        """Index passages, given by the two-letter code of their language, for exact scores; see `BM25Scorer`."""
        return BM25Scorer(passages, self.k1, self.b, self.method)

    def index(
        self,
        corpus: CorpusDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: EncodeKwargs,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Index a corpus of mteb: titles and texts, joined as mteb joins them for encoders.

        The language is that of the subset: of one named ``<query>-<corpus>`` with two-letter codes, these; otherwise
        the first that the metadata list for it. Without rules for that language, generic tokenisation.
        """
        ids = list(corpus["id"])
        texts = list(corpus["text"])
        titles = list(corpus["title"]) if "title" in corpus.column_names else [""] * len(texts)
        joined = {i: f"{title or ''} {text}".strip() for i, title, text in zip(ids, titles, texts, strict=True)}
        # From the greatest id to the smallest: the order of trec_eval among equal scores, which a stable sort keeps.
        ordered = sorted(joined, key=lambda i: i.encode(), reverse=True)
        _, language = subset_languages(task_metadata, hf_subset)
        self._indexed = ordered, language, self.scorer({language: [joined[i] for i in ordered]})

    def search(
        self,
        queries: QueryDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: EncodeKwargs,
        top_ranked: TopRankedDocumentsType | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> RetrievalOutputType:
        """The `top_k` best passages of each query with their scores, of `top_ranked` only where mteb gives it.

        Equal scores are cut in the order of trec_eval (greatest id first), so that the cut is the same everywhere.

        Raises:
            ModelError: If nothing was indexed before.
        """
        if self._indexed is None:
            raise ModelError("BM25 was asked to search before a corpus was indexed: call index() first")
        ids, pool_language, scorer = self._indexed
        query_language, _ = subset_languages(task_metadata, hf_subset)
        place = {passage_id: position for position, passage_id in enumerate(ids)}
        query_ids, texts = list(queries["id"]), _query_texts(queries)
        block = max(1, 2**22 // max(1, len(ids)))  # about 100 MB of scores at a time
        found: RetrievalOutputType = {}
        for start in range(0, len(texts), block):
            rows = scorer.scores(texts[start : start + block], query_language, pool_language)
            for query_id, row in zip(query_ids[start : start + block], rows, strict=True):
                candidates = np.arange(len(ids))
                if top_ranked is not None and query_id in top_ranked:
                    candidates = np.array(sorted(place[i] for i in set(top_ranked[query_id]) if i in place), dtype=int)
                best = candidates[np.argsort(-row[candidates], kind="stable")[:top_k]]
                found[query_id] = {ids[position]: float(row[position]) for position in best}
        return found


_BM25_DEFAULTS: Mapping[str, object] = {"k1": 1.5, "b": 0.75, "method": "lucene"}

#: Tasks of mteb whose subsets tell the language of the documents first.
_CORPUS_FIRST = {"BelebeleRetrieval", "MLQARetrieval", "XPQARetrieval"}


def subset_languages(task_metadata: TaskMetadata, hf_subset: str) -> tuple[str, str]:
    """The codes of a subset's queries and corpus, see `languages.language`; ``und`` (undetermined) where there is none.

    Of one named ``<query>-<corpus>`` with two-letter codes these; otherwise those that the metadata list, without their
    scripts.
    """
    query, _, corpus = hf_subset.partition("-")
    if query in LANGUAGES and corpus in LANGUAGES:
        return query, corpus
    tags = task_metadata.hf_subsets_to_langscripts.get(hf_subset) or []
    codes = [_code_of(tag) for tag in tags if not tag.endswith("-Code")] or ["und"]
    first, second = codes if len(codes) == 2 else (codes[0], codes[0])
    return (second, first) if task_metadata.name in _CORPUS_FIRST else (first, second)


def _code_of(tag: str) -> str:
    try:
        return language_of(tag.partition("-")[0]).code
    except RequestError:
        return "und"


def _query_texts(queries: QueryDatasetType) -> list[str]:
    """Queries as one string each, as mteb gives them to encoders: conversations joined, instructions added."""
    instructions = list(queries["instruction"]) if "instruction" in queries.column_names else None
    texts: list[str] = []
    for position, query in enumerate(list(queries["text"])):
        turns = [query] if isinstance(query, str) else query
        text = "; ".join(turn if isinstance(turn, str) else f"{turn['role']}: {turn['content']}" for turn in turns)
        instruction = (instructions[position] if instructions else None) or ""
        texts.append(f"{text} {instruction}".strip())
    return texts


def load_bm25(model_name: str, revision: str | None = None, device: str | None = None, **kwargs: Any) -> BM25:
    """Load `BM25` as mteb does: name, revision and device are what every model gets, and change nothing here.

    Args:
        model_name: Not used.
        revision: Not used; there is one.
        device: Not used; BM25 runs on the CPU.
        **kwargs: `k1`, `b`, `method`.
    """
    return BM25(**kwargs)


def bm25_meta() -> ModelMeta:
    """What mteb records of `BM25`. The revision names all that decides a token and a weight."""
    from mteb.models.model_meta import ModelMeta

    return ModelMeta(
        loader=load_bm25,
        name="hybrid_bench/bm25",
        revision=f"{_TOKENISATION}-bm25s-{bm25s.__version__}-snowball-{Stemmer.version()}",
        release_date="2026-11-22",
        languages=[language.tag for language in LANGUAGES.values()],
        n_parameters=0,
        n_embedding_parameters=0,
        memory_usage_mb=0,
        max_tokens=None,
        embed_dim=None,
        license="apache-2.0",
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["NumPy"],
        reference="https://github.com/xhluca/bm25s",
        similarity_fn_name=None,
        use_instructions=False,
        training_datasets=set(),
        modalities=["text"],
        model_type=["sparse"],
        citation=_BM25_CITATION,
    )


_BM25_CITATION = """@article{robertson2009probabilistic,
  author = {Robertson, Stephen and Zaragoza, Hugo},
  journal = {Foundations and Trends in Information Retrieval},
  number = {4},
  pages = {333--389},
  title = {The Probabilistic Relevance Framework: BM25 and Beyond},
  volume = {3},
  year = {2009},
}

@misc{bm25s,
  archiveprefix = {arXiv},
  author = {Xing Han L{\\`u}},
  eprint = {2407.03618},
  primaryclass = {cs.IR},
  title = {BM25S: Orders of magnitude faster lexical search via eager sparse scoring},
  year = {2024},
}"""


# ---------------------------------------------------------------------------------------------------------------------
# Character n-grams
# ---------------------------------------------------------------------------------------------------------------------


def _words(text: str) -> str:
    return " ".join(_ANY_WORD.findall(_fold(text, "und")))


_ANY_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")

# mAP on XQuAD-R with the settings below, and with one of them changed:
#
# |                          | en-en | de-de | th-th | zh-zh | de-en | es-en | ru-en |
# |--------------------------|-------|-------|-------|-------|-------|-------|-------|
# | 2 to 4, 1024 dimensions  | .756  | .708  | .716  | .616  | .328  | .386  | .044  |
# | 3 to 4                   | .758  | .720  | .706  | .515  | .360  | .419  | .047  |
# | 2 to 5                   | .768  | .719  | .707  | .584  | .339  | .398  | .050  |
# | 2 to 3                   | .728  | .691  | .724  | .652  | .292  | .323  | .040  |
# | 2048 dimensions          | .768  | .728  | .737  | .660  | .371  | .430  | .053  |
# | 4096 dimensions          | .774  | .734  | .741  | .689  | .383  | .452  | .069  |
# | counts, without the root | .674  | .634  | .695  | .612  | .243  | .284  | .037  |
# | logarithm for the root   | .746  | .701  | .719  | .619  | .322  | .379  | .045  |
# | punctuation kept         | .740  | .705  | .718  | .574  | .317  | .376  | .035  |
# | across words             | .737  | .704  | .708  | .583  | .312  | .344  | .032  |
#
# More dimensions only thin out collisions: two points for four times the memory and time of every later step.
_DIMENSIONS = 1024
_LENGTHS = (2, 4)


class CharNgramEncoder:
    """Character n-grams of each word, hashed with signs into a dense vector: no weights, no corpus statistics.

    Text is folded as for `BM25` (NFKC, casefold), its words padded with a space; the n-grams of 2 to 4 characters
    are hashed by scikit-learn (MurmurHash3, the same on every machine) into 1024 signed counts. A value is the signed
    square root of its count, and the vector has length 1, so that its square is the share of the counts: whole numbers
    until the last step, hence the same to the bit in every batch and order. Prompts are ignored.

    Args:
        model_name: Not used; mteb gives it to every model.
        revision: Not used; there is one.
        device: Not used; it runs on the CPU.
        **kwargs: Not used.
    """

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        model_name: str = "hybrid_bench/char-ngram",
        revision: str | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.mteb_model_meta = char_ngram_meta()
        self._counter = HashingVectorizer(
            preprocessor=_words,
            analyzer="char_wb",
            ngram_range=_LENGTHS,
            n_features=_DIMENSIONS,
            alternate_sign=True,
            norm=None,
        )

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> npt.NDArray[np.float32]:
        """Encode texts; the task and the role of the texts change nothing.

        Returns:
            Shape (n_texts, 1024), rows of length 1; zeros for a text without letters and digits.
        """
        blocks = [self._encode(batch["text"]) for batch in inputs]
        return np.concatenate(blocks) if blocks else np.zeros((0, _DIMENSIONS), dtype=np.float32)

    def similarity(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Cosines of all pairs of rows, (n1, n2), as mteb computes them."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Array, embeddings2: Array) -> Array:
        """Cosines of rows in the same place, (n,), as mteb computes them."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        counts = self._counter.transform(texts).toarray()
        totals = np.abs(counts).sum(axis=1, keepdims=True)
        shares = np.divide(np.abs(counts), totals, out=np.zeros_like(counts), where=totals > 0)
        return np.asarray(np.sign(counts) * np.sqrt(shares), dtype=np.float32)


def char_ngram_meta() -> ModelMeta:
    """What mteb records of `CharNgramEncoder`."""
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    return ModelMeta(
        loader=CharNgramEncoder,
        name="hybrid_bench/char-ngram",
        revision="1",
        release_date="2026-11-22",
        languages=[language.tag for language in LANGUAGES.values()],
        n_parameters=0,
        n_embedding_parameters=0,
        memory_usage_mb=0,
        max_tokens=None,
        embed_dim=_DIMENSIONS,
        license="apache-2.0",
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["NumPy"],
        reference=None,
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=set(),
        modalities=["text"],
        model_type=["dense"],
    )


EMBEDDED: dict[str, Callable[[], ModelMeta]] = {
    "hybrid_bench/bm25": bm25_meta,
    "hybrid_bench/char-ngram": char_ngram_meta,
}
