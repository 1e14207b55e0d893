"""Where training data come from: what a configuration says of a source, and the readers of the formats.

A `SourceSpec` is declarative; `SourceSpec.load` reads it into `SourceTexts`, which are `ParallelTexts` that also know
what the overlap guard asks for: question ids and articles. A source in one language is allowed; it gives monolingual
batches only.

============  =====================================================================================================
``parallel``  The project's own schema: ``query_<lang>``, ``passage_<lang>``, optionally ``negative_<lang>`` or
              ``negative_1_<lang>``, ``negative_2_<lang>``, ..., ``group``, ``question_id`` and ``article``, in JSON
              lines (``.jsonl``, ``.jsonl.gz``), Parquet or Arrow: a file, or a folder of them.
``hf``        Any data set of the Hugging Face Hub, or a folder laid out like one, in Parquet or JSON lines. ``columns``
              says what each column of the schema above is called there; ``answers.text.0`` is the first item of the
              list in the field ``text``. Lists of texts, such as FlagEmbedding's ``pos`` and ``neg``, may be passages
              and hard negatives: ``passage_en = "pos"`` makes a row of each, ``negative_en = "neg"`` gives as many to a
              row as every row has, or the first n with ``negatives = n``. ``path`` may be a file. Where every language
              is a configuration of its own, ``config`` holds ``{language}``, ``columns`` are ``query``, ``passage``,
              ... without a language, and ``id`` joins them.
``mmarco``    mMARCO (arXiv 2108.13897, ``unicamp-dl/mmarco``): ``data/triples.train.ids.small.tsv`` with query and
              passage ids that are the same in all languages, and for each language the texts,
              ``data/google/collections/<language>_collection.tsv`` and
              ``data/google/queries/train/<language>_queries.train.tsv`` (v2; ``helsinki`` in place of ``google`` is
              v1.1).
``mr-tydi``   Mr. TyDi (arXiv 2108.08787, ``castorini/mr-tydi``): ``mrtydi-v1.1-<language>/train.jsonl.gz``; one
              language, as no question is there in two.
``mfaq``      MFAQ (arXiv 2109.12870, ``clips/mfaq``): ``data/<lang>/train.jsonl``, question-answer pairs by web page;
              one language.
``lareqa``    LAReQA's format (arXiv 2004.05484), one ``<lang>.json`` for each language in a folder, or a collection of
              this project by name, e.g. ``dataset = "MLQA-R"``: a question, and the sentence that answers it. Linked
              between languages by question id.
``ntrex``     NTREX-128 (``newstest2019-src.eng.txt``, ``newstest2019-ref.<code>.txt``, ``DOCUMENT_IDS.tsv``): a
              sentence, and its translation.
``lines``     Text files in which line n is the same sentence in every language; ``columns`` gives each its file.
============  =====================================================================================================

What has to be parsed is parsed once, into Arrow files in the cache, which are memory-mapped: neither rows nor texts of
mMARCO's 39,780,811 triples over 7 languages are held in memory.
"""

from hybrid_bench.training.sources.lareqa import Articles, collection_files, lareqa_articles
from hybrid_bench.training.sources.schema import SourceTexts
from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["Articles", "SourceSpec", "SourceTexts", "collection_files", "lareqa_articles"]
