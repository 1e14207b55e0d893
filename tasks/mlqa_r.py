"""MLQA-R: answer sentences of MLQA, retrieved within, across and over 7 languages (LAReQA, arXiv 2004.05484)."""

from __future__ import annotations

from typing import Any

from hybrid_bench.data.files import RemoteFile
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.evaluation.metadata import Metadata
from hybrid_bench.evaluation.tasks import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.languages import languages

#: The last commit that holds the files: the folder was removed from the repository later.
_COMMIT = "354d67d1cd066854cdfbf5ad0e6105528976141d"
#: By language: hash and size in bytes of its file.
_FILES = {
    "ar": ("2132fbc03208535c0fe01f2e2c5121d06f9c2aa799af93b0a719dbc105bdf137", 3329081),
    "de": ("ce9454dc5aa6f2d85c23cd6e49cb367fbb7c4c6e62d7f71e355c6b5dae4d0886", 887185),
    "en": ("fedd9a5cc0848dda80caf84aa36f482adaae230526a3f6e9e86926a93ef3b1e4", 2251129),
    "es": ("70ecba276b8c96a692b120693a595d076ce94ad21d4b28311538a9fcbfe0f9d7", 819818),
    "hi": ("4dd0fb3c06f737a5481d705bc1dcac7876712a5815c9265908fbb3a0696cb654", 3179023),
    "vi": ("9d3baff6ba03e6793b25594217265ea59a136b9733833dca8a9582a84a78ff85", 1807239),
    "zh": ("57f01d2fff50cf3392805635b01445339f225ad5bf28ba8443b12f8dbd1e69dc", 1360698),
}
#: Candidate sentences per language, as published with the data.
_CANDIDATES = {
    "ar": 2545,
    "de": 2362,
    "en": 6264,
    "es": 1787,
    "hi": 2426,
    "vi": 2828,
    "zh": 2322,
}
_QUESTIONS = {
    "ar": 517,
    "de": 512,
    "en": 1148,
    "es": 500,
    "hi": 507,
    "vi": 511,
    "zh": 504,
}
_TAGS = {language.code: language.tag for language in languages(_CANDIDATES)}

READER = LareqaReader(
    collection="MLQA-R",
    revision=_COMMIT,
    files={
        code: RemoteFile(
            path=f"mlqa-r/{code}.json",
            url=f"https://raw.githubusercontent.com/google-research-datasets/lareqa/{_COMMIT}/mlqa-r/{code}.json",
            sha256=sha256,
            size=size,
        )
        for code, (sha256, size) in _FILES.items()
    },
    candidates=_CANDIDATES,
    questions=_QUESTIONS,
    notice=(
        "MLQA-R: the commit that holds these files gives their licence as CC BY-NC 4.0, while MLQA itself is under "
        "CC BY-SA 3.0. They are downloaded or read where they lie, and must not be passed on with other terms."
    ),
)

_COMMON: dict[str, Any] = {
    "dataset": {"path": "google-research-datasets/lareqa", "revision": _COMMIT},
    "reference": "https://arxiv.org/abs/2004.05484",
    "type": "Retrieval",
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["test"],
    "main_score": "map",
    "date": ("2019-10-16", "2020-04-11"),
    "domains": ["Encyclopaedic", "Written"],
    "task_subtypes": ["Question answering"],
    "license": "cc-by-nc-4.0",
    "annotations_creators": "human-annotated",
    "dialect": [],
    "sample_creation": "created",
    "adapted_from": ["MLQARetrieval"],
    "prompt": {"query": "Given a question, retrieve the sentence that answers it"},
    # As published: some sentences are a number or a word, and the subsets share their sentences and questions.
    "known_issues": ("short_text", "duplicate_text"),
    "redistributable": False,  # see the notice
    # The entries of other tasks of mteb under its keys, and in its order: it refuses one paper under two keys.
    "bibtex_citation": r"""
@article{lewis2019mlqa,
  author = {Lewis, Patrick and Oguz, Barlas and Rinott, Ruty and Riedel, Sebastian and Schwenk, Holger},
  eid = {arXiv: 1910.07475},
  journal = {arXiv preprint arXiv:1910.07475},
  title = {MLQA: Evaluating Cross-lingual Extractive Question Answering},
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


class MLQARPairs(ParallelRetrieval):
    """Queries of one language against the sentences of one language: 7 monolingual, 42 cross-lingual subsets."""

    reader = READER
    metadata = Metadata(
        name="MLQA-R-Pairs",
        description=(
            "Retrieve the sentence that answers a question, from the sentences of one language. The questions of "
            "MLQA's development set; each stands in 2 to 4 of 7 languages, and subset `ar-de` asks those Arabic ones "
            "whose answer is in the German sentences too. Some sentences are short, and some are duplicates."
        ),
        eval_langs=pair_subsets(_TAGS),
        **_COMMON,
    )


class MLQARMultilingual(ParallelRetrieval):
    """Queries of one language against the sentences of all 7 languages: 7 subsets."""

    reader = READER
    metadata = Metadata(
        name="MLQA-R-Multilingual",
        description=(
            "Retrieve the sentences that answer a question from one pool of 20,534 sentences in 7 languages; each "
            "question has one answer in each of 2 to 4 languages. Shows whether a model favours a language. Some "
            "sentences are short, and some are duplicates."
        ),
        eval_langs=pool_subsets(_TAGS),
        **_COMMON,
    )
