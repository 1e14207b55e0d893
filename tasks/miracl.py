"""MIRACL by language pair: questions of 18 languages against Wikipedia passages of 18 (arXiv 2210.09984)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from hybrid_bench.data.collection import PassagePool
from hybrid_bench.data.miracl import HubDataset, MiraclReader
from hybrid_bench.errors import RequestError
from hybrid_bench.evaluation.metadata import Metadata
from hybrid_bench.evaluation.tasks import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.languages import languages

#: Passages and development queries by language, as published with the data.
_FULL = {
    "ar": (2_061_414, 2896),
    "bn": (297_265, 411),
    "de": (15_866_222, 305),
    "en": (32_893_221, 799),
    "es": (10_373_953, 648),
    "fa": (2_207_172, 632),
    "fi": (1_883_509, 1271),
    "fr": (14_636_953, 343),
    "hi": (506_264, 350),
    "id": (1_446_315, 960),
    "ja": (6_953_614, 860),
    "ko": (1_486_752, 213),
    "ru": (9_543_918, 1252),
    "sw": (131_924, 482),
    "te": (518_079, 828),
    "th": (542_166, 733),
    "yo": (49_043, 119),
    "zh": (4_934_368, 393),
}
#: The same with hard negatives only, where a language has at most 1,000 queries.
_HARD_NEGATIVES = {
    "ar": (192_103, 1000),
    "bn": (297_265, 411),
    "de": (71_277, 305),
    "en": (178_768, 799),
    "es": (146_750, 648),
    "fa": (133_596, 632),
    "fi": (194_415, 1000),
    "fr": (75_357, 343),
    "hi": (63_066, 350),
    "id": (168_173, 960),
    "ja": (185_319, 860),
    "ko": (43_293, 213),
    "ru": (219_114, 1000),
    "sw": (131_924, 482),
    "te": (101_961, 828),
    "th": (116_649, 733),
    "yo": (49_043, 119),
    "zh": (81_309, 393),
}
_REVISION = "9c09abc13478308c27598f350e31d8f06b9b5481"
_TAGS = {language.code: language.tag for language in languages(_FULL)}

READER = MiraclReader(
    collection="MIRACL",
    pools={
        PassagePool.FULL: HubDataset(
            name="mteb/MIRACLRetrieval",
            revision=_REVISION,
            passages={code: passages for code, (passages, _) in _FULL.items()},
            queries={code: queries for code, (_, queries) in _FULL.items()},
        ),
        PassagePool.HARD_NEGATIVES: HubDataset(
            name="mteb/MIRACLRetrievalHardNegatives",
            revision="d7d94fa4b946cec4a27c84653aa0cf6b33f74a3c",
            passages={code: passages for code, (passages, _) in _HARD_NEGATIVES.items()},
            queries={code: queries for code, (_, queries) in _HARD_NEGATIVES.items()},
        ),
    },
    notice=(
        "MIRACL: every question was judged on passages of its own language only. In the multilingual pool, passages of "
        "other languages that answer it count as not relevant: nDCG and the like are lower bounds there, and of the "
        "measures of language bias only those of shares (bias_js_*, bias_awrf_*) apply."
    ),
)

_COMMON: dict[str, Any] = {
    "dataset": {"path": "mteb/MIRACLRetrieval", "revision": _REVISION},
    "reference": "http://miracl.ai",
    "type": "Retrieval",
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["dev"],
    "main_score": "ndcg_at_10",
    "date": ("2022-06-01", "2023-01-30"),
    "domains": ["Encyclopaedic", "Written"],
    "task_subtypes": ["Question answering"],
    "license": "cc-by-sa-4.0",
    "annotations_creators": "expert-annotated",
    "dialect": [],
    "sample_creation": "created",
    "adapted_from": ["MIRACLRetrieval"],
    "prompt": {"query": "Given a question, retrieve Wikipedia passages that answer the question"},
    "bibtex_citation": r"""
@article{10.1162/tacl_a_00595,
  author = {Zhang, Xinyu and Thakur, Nandan and Ogundepo, Odunayo and Kamalloo, Ehsan and Alfonso-Hermelo, David and Li, Xiaoguang and Liu, Qun and Rezagholizadeh, Mehdi and Lin, Jimmy},
  doi = {10.1162/tacl_a_00595},
  eprint = {https://direct.mit.edu/tacl/article-pdf/doi/10.1162/tacl\_a\_00595/2157340/tacl\_a\_00595.pdf},
  issn = {2307-387X},
  journal = {Transactions of the Association for Computational Linguistics},
  month = {09},
  pages = {1114-1131},
  title = {{MIRACL: A Multilingual Retrieval Dataset Covering 18 Diverse Languages}},
  url = {https://doi.org/10.1162/tacl\_a\_00595},
  volume = {11},
  year = {2023},
}
""",  # noqa: E501 # mteb wants each field of a citation on one line
}


class MIRACLPairs(ParallelRetrieval):
    """Questions in one language against the passages of one language: 18 monolingual, 306 cross-lingual subsets."""

    reader = READER
    metadata = Metadata(
        name="MIRACL-Pairs",
        description=(
            "Retrieve the Wikipedia passages that answer a question, from the passages of one language. Subset `sw-en` "
            "asks the English development questions, translated into Swahili, against the English passages and with "
            "their judgments. The 18 subsets of one language are MIRACL as it was published; the others need "
            "translations of its questions."
        ),
        eval_langs=pair_subsets(_TAGS),
        **_COMMON,
    )

    def query_set_of(self, subset: str) -> str:
        """See `ParallelRetrieval`: questions belong to the language of their passages too."""
        return subset

    def filter_languages(
        self,
        languages: Sequence[str] | None,
        script: Sequence[str] | None = None,
        hf_subsets: Sequence[str] | None = None,
        exclusive_language_filter: bool = False,
    ) -> Self:
        """See `AbsTask`, through which ``mteb.get_task`` comes: subsets that are not named must not lack anything.

        Without translations these are the 18 of one language.
        """
        super().filter_languages(languages, script, hf_subsets, exclusive_language_filter)
        if hf_subsets is None:
            able = [subset for subset in self.hf_subsets if not self.reader.missing(self.options.data, subset)]
            self.hf_subsets = able or self.hf_subsets
        return self


class MIRACLMultilingual(ParallelRetrieval):
    """Questions in one language against the passages of all 18 languages at once: 18 subsets."""

    reader = READER
    caveat = (
        "MIRACL-Multilingual: only passages in a question's own language were judged, so nDCG and the like are lower "
        "bounds, and of the measures of language bias only those of shares apply"
    )
    metadata = Metadata(
        name="MIRACL-Multilingual",
        description=(
            "Retrieve the Wikipedia passages that answer a question from one pool of 106 million passages in 18 "
            "languages, or of those that are chosen. Only the passages of the question's own language were judged: "
            "passages of other languages that answer it count as not relevant, so nDCG and the like are lower bounds. "
            "What the task shows is which languages a model puts on top, by measures of shares (bias_js_*, "
            "bias_awrf_*); measures that compare the ranks of answers in several languages do not apply."
        ),
        eval_langs=pool_subsets(_TAGS),
        **_COMMON,
    )

    def query_set_of(self, subset: str) -> str:
        """See `ParallelRetrieval`: the questions as they were written."""
        return f"{subset}-{subset}"

    def parts_of(self, subset: str) -> tuple[str, ...]:
        """See `ParallelRetrieval`; `RequestError` for a pool without the only language that was judged."""
        parts = super().parts_of(subset)
        if subset not in parts:
            raise RequestError(
                f"{self.metadata.name}: the questions of '{subset}' were judged on passages in '{subset}' only, which "
                f"the pool {' '.join(parts)} does not have: add it to --pool-languages, or choose among the pool's "
                "languages with --languages"
            )
        return parts
