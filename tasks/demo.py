"""HybridDemo: a small parallel collection written for this project, so that everything runs without a download."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from hybrid_bench.data.files import RemoteFile
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.evaluation.metadata import Metadata
from hybrid_bench.evaluation.tasks import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.languages import languages

_VERSION = "1"
_SHA256 = {
    "ar": "5dd81dd4b0ae7951e36f6e8b169683b110ab51c3791bdb07bc382b849875dd4c",
    "de": "a4fe3d25674c91b76d117fc49cc01267374e46286e07f2ad563ed5e5463cc7d6",
    "el": "99a89afb83c7418b072ae44f1081ab464e91ead1b27e04a60de8029944a5de53",
    "en": "4351ac9ce8894153d099a16d692030d986353159caae417f140441a48acf9c8a",
    "es": "1bbb127c2b3bf8a3009882f4d87d00c88d3f780a0f700f1d03d143d8798e3638",
    "hi": "0ea3d9af6c229709fb24ceed8011e51580b83e6be037caadc97f9daf047526f3",
    "ru": "23498d968013b1d0c57773ba0781cb95f3a39eb4b9e915327edfc79f53c6ee60",
    "th": "377fca3bfcdd07b7e53ea617c43d2e281476ce825448dbd013a107a398297a6f",
    "tr": "d74f8e270dada5638d49507812c7d57d595d716a062256b46844521c86b373b8",
    "vi": "82abfd4ac37c59937818d3dc863d9eec3cf396103beceae8ddefaebe2fd264dd",
    "zh": "ee5904f8128a52e2dc4e3fe520643e37ab5e07a3234343bc34b9a1767c8c7dfa",
}
_CANDIDATES = {
    "ar": 128,
    "de": 128,
    "el": 128,
    "en": 128,
    "es": 128,
    "hi": 128,
    "ru": 128,
    "th": 128,
    "tr": 128,
    "vi": 128,
    "zh": 128,
}
_TAGS = {language.code: language.tag for language in languages(_CANDIDATES)}

READER = LareqaReader(
    collection="HybridDemo",
    revision=_VERSION,
    files={code: RemoteFile(path=f"{code}.json", url="", sha256=sha256) for code, sha256 in _SHA256.items()},
    candidates=_CANDIDATES,
    questions=dict.fromkeys(_CANDIDATES, 84),
    root=Path(str(files("hybrid_bench") / "demo")),
)

_COMMON: dict[str, Any] = {
    "dataset": {"path": "hybrid_bench/demo", "revision": _VERSION},
    "type": "Retrieval",
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["test"],
    "main_score": "map",
    "date": ("2026-11-22", "2026-11-22"),
    "domains": ["Encyclopaedic", "Written", "Fiction"],
    "task_subtypes": ["Question answering"],
    "license": "apache-2.0",
    "annotations_creators": "LM-generated",
    "dialect": [],
    "sample_creation": "LM-generated and verified",
    "prompt": {"query": "Given a question, retrieve the sentence that answers it"},
    # The subsets share their sentences and questions.
    "known_issues": ("duplicate_text",),
    "bibtex_citation": "",
    # Data that only this package carries: mteb's default selections should not try to fetch it.
    "is_public": False,
}


class HybridDemoPairs(ParallelRetrieval):
    """Queries of one language against the sentences of one language: 11 monolingual, 110 cross-lingual subsets."""

    reader = READER
    metadata = Metadata(
        name="HybridDemo-Pairs",
        description=(
            "A small demonstration, not a benchmark: retrieve the sentence that answers a question, from the sentences "
            "of one language. 84 questions about common knowledge and invented matters, parallel in 11 languages."
        ),
        eval_langs=pair_subsets(_TAGS),
        **_COMMON,
    )


class HybridDemoMultilingual(ParallelRetrieval):
    """Queries of one language against the sentences of all 11 languages: 11 subsets."""

    reader = READER
    metadata = Metadata(
        name="HybridDemo-Multilingual",
        description=(
            "A small demonstration, not a benchmark: retrieve the sentences that answer a question from one pool of "
            "sentences in 11 languages. 84 questions about common knowledge and invented matters."
        ),
        eval_langs=pool_subsets(_TAGS),
        **_COMMON,
    )
