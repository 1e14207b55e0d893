"""XQuAD-R: answer sentences of XQuAD, retrieved within, across and over 11 languages (LAReQA, arXiv 2004.05484)."""

from __future__ import annotations

from typing import Any

from hybrid_bench.data.files import RemoteFile
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.evaluation.metadata import Metadata
from hybrid_bench.evaluation.tasks import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.languages import languages

_COMMIT = "9bc8c7fb6dd8d01d72a05a93c2cb96882b0d299c"
#: By language: hash and size in bytes of its file.
_FILES = {
    "ar": ("c52922d3b8ac1ae03ed5ac38647ad59870dca3dda2beefe18ecdc30729acb69d", 2234875),
    "de": ("16fb0f4bf4916154b585a20c24c66074591c9718a1affe764ff4697572328949", 732156),
    "el": ("163fd43ee785a30eb534ae2061e9eaa766a7ee4e8ffce5e4b422480c150f64b6", 2810127),
    "en": ("7b0954f39297c27a31fef610f0883337dd2907fa8699151dc922afdd0fa12ffe", 628651),
    "es": ("f8e836b2d91009c4363e04315f7ede363eedbbb49c67dda60de6c4aa782f58de", 746335),
    "hi": ("ea45ba8ae4513d1533b222bebdc02a90bc319c055d3aeea68584a053d2e92872", 2408404),
    "ru": ("7f4dff853538b9a5fcc28c070b8bb983a5c5d190ac747b8e005a1ada9cab18f1", 2764904),
    "th": ("c3a041864c3a9fb0b4dd91cfdf99cf36b411b3e704c58a303c97bc6dc786cfe4", 2618544),
    "tr": ("f3e8c13002bbce154a4578f535f7533cb70f3da08840e6b62735935baec7bd94", 827827),
    "vi": ("e35926bf5cc6fc6ecbdfca49467aabeb454f08d152d7818143a906bd31dde995", 1132303),
    "zh": ("80c2cde7b9c2fb134c303cbb52f2ba396ead9eb0014aec43993543d2ba9e93ed", 959291),
}
#: Candidate sentences per language, as published with the data.
_CANDIDATES = {
    "ar": 1222,
    "de": 1276,
    "el": 1234,
    "en": 1180,
    "es": 1215,
    "hi": 1244,
    "ru": 1219,
    "th": 852,
    "tr": 1167,
    "vi": 1209,
    "zh": 1196,
}
_TAGS = {language.code: language.tag for language in languages(_CANDIDATES)}

READER = LareqaReader(
    collection="XQuAD-R",
    revision=_COMMIT,
    files={
        code: RemoteFile(
            path=f"xquad-r/{code}.json",
            url=f"https://raw.githubusercontent.com/google-research-datasets/lareqa/{_COMMIT}/xquad-r/{code}.json",
            sha256=sha256,
            size=size,
        )
        for code, (sha256, size) in _FILES.items()
    },
    candidates=_CANDIDATES,
    questions=dict.fromkeys(_CANDIDATES, 1190),
)

_COMMON: dict[str, Any] = {
    "dataset": {"path": "google-research-datasets/lareqa", "revision": _COMMIT},
    "reference": "https://arxiv.org/abs/2004.05484",
    "type": "Retrieval",
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["test"],
    "main_score": "map",
    "date": ("2019-05-21", "2020-04-11"),
    "domains": ["Encyclopaedic", "Written"],
    "task_subtypes": ["Question answering"],
    "license": "cc-by-sa-4.0",
    "annotations_creators": "human-annotated",
    "dialect": [],
    "sample_creation": "human-translated",
    "adapted_from": ["XQuADRetrieval"],
    "prompt": {"query": "Given a question, retrieve the sentence that answers it"},
    # As published: some sentences are a number or a word, and the subsets share their sentences and questions.
    "known_issues": ("short_text", "duplicate_text"),
    # The entries of other tasks of mteb under its keys, and in its order: it refuses one paper under two keys.
    "bibtex_citation": r"""
@article{Artetxe:etal:2019,
  archiveprefix = {arXiv},
  author = {Mikel Artetxe and Sebastian Ruder and Dani Yogatama},
  eprint = {1910.11856},
  journal = {CoRR},
  title = {On the cross-lingual transferability of monolingual representations},
  volume = {abs/1910.11856},
  year = {2019},
}

@inproceedings{roy2020lareqa,
  author = {Roy, Uma and Constant, Noah and Al-Rfou, Rami and Barua, Aditya and Phillips, Aaron and Yang, Yinfei},
  booktitle = {Proceedings of the 2020 Conference on Empirical Methods in Natural Language Processing (EMNLP)},
  pages = {5919--5930},
  title = {{LAReQA}: Language-Agnostic Answer Retrieval from a Multilingual Pool},
  url = {https://aclanthology.org/2020.emnlp-main.477},
  year = {2020},
}
""",
}


class XQuADRPairs(ParallelRetrieval):
    """Queries of one language against the sentences of one language: 11 monolingual, 110 cross-lingual subsets."""

    reader = READER
    metadata = Metadata(
        name="XQuAD-R-Pairs",
        description=(
            "Retrieve the sentence that answers a question, from the sentences of one language. The 1,190 questions of "
            "XQuAD and their paragraphs, translated by professionals into 11 languages; subset `ar-de` asks the Arabic "
            "questions against the German sentences. Some sentences are short, and a few are duplicates."
        ),
        eval_langs=pair_subsets(_TAGS),
        **_COMMON,
    )


class XQuADRMultilingual(ParallelRetrieval):
    """Queries of one language against the sentences of all 11 languages: 11 subsets."""

    reader = READER
    metadata = Metadata(
        name="XQuAD-R-Multilingual",
        description=(
            "Retrieve the sentences that answer a question from one pool of 13,014 sentences in 11 languages; each of "
            "the 1,190 questions has one answer in every language. Shows whether a model favours a language. Some "
            "sentences are short, and a few are duplicates."
        ),
        eval_langs=pool_subsets(_TAGS),
        **_COMMON,
    )
