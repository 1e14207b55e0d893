"""HybridDemo: a small parallel collection written for this project, so that everything runs without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mteb.abstasks.task_metadata import TaskMetadata

import hybrid_bench
from hybrid_bench.corpora import LareqaSource
from hybrid_bench.languages import languages
from hybrid_bench.retrieval import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.sources import RemoteFile

_VERSION = "1"
_SHA256 = {
    "ar": "5dd81dd4b0ae7951e36f6e8b169683b110ab51c3791bdb07bc382b849875dd4c",
    "de": "5ff20460eb87540868bce1a2eec5ea3a697f2a2f0a5714ac918e456befec8817",
    "el": "3394b47f0980d04b552e80680aa2518384509aa4c8ca6357e45eb86c7a8dca05",
    "en": "a44ecb96ab0c7d0f2a7e1456c12f307443e0a0ab3ba51094d0e699b9e6e0b752",
    "es": "fd9ad7e0ca9342031a6f0eecd4da0928c064e8525fe73bcbfbb09d6eee953078",
    "hi": "0ea3d9af6c229709fb24ceed8011e51580b83e6be037caadc97f9daf047526f3",
    "ru": "3d7628dde20e2d5088234e5b1a2980024d2275cccf907e8065c3d90dfd0e7693",
    "th": "377fca3bfcdd07b7e53ea617c43d2e281476ce825448dbd013a107a398297a6f",
    "tr": "66093423220ed61e80100feca038828d5ad9d0113c0a8463d09e0df04b8b1b62",
    "vi": "c57bed44dc53917462fa9301560d7520c9eec68001c1f9bcb35baabb623dea9d",
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

SOURCE = LareqaSource(
    collection="HybridDemo",
    revision=_VERSION,
    files={code: RemoteFile(path=f"{code}.json", url="", sha256=sha256) for code, sha256 in _SHA256.items()},
    candidates=_CANDIDATES,
    questions=dict.fromkeys(_CANDIDATES, 84),
    root=Path(hybrid_bench.__file__).parent / "demo",
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
    "bibtex_citation": "",
    # Data that only this package carries: mteb's default selections should not try to fetch it.
    "is_public": False,
}


class HybridDemoPairs(ParallelRetrieval):
    """Queries of one language against the sentences of one language: 11 monolingual, 110 cross-lingual subsets."""

    source = SOURCE
    metadata = TaskMetadata(
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

    source = SOURCE
    metadata = TaskMetadata(
        name="HybridDemo-Multilingual",
        description=(
            "A small demonstration, not a benchmark: retrieve the sentences that answer a question from one pool of "
            "sentences in 11 languages. 84 questions about common knowledge and invented matters."
        ),
        eval_langs=pool_subsets(_TAGS),
        **_COMMON,
    )
