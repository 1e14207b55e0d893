"""MIRACL by language pair: the real questions and judgments, with small corpora made around the judged documents."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.tasks.retrieval.multilingual.miracl_retrieval import MIRACLRetrieval

from helpers import meta_of, static_model, task_of, tell_options
from hub_server import COMMIT, nowhere, serving, use_hub
from hybrid_bench.data.collection import Collection, DataOptions, PassagePool, take, text_id
from hybrid_bench.data.miracl import HubDataset, MiraclReader
from hybrid_bench.data.translations import Row, Translations, read_translations, write_rows
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.evaluation.registry import collections, task_classes
from hybrid_bench.evaluation.tasks import ParallelRetrieval, pair_subsets, pool_subsets
from hybrid_bench.languages import LANGUAGES

#: As published with the data.
QUERIES = {
    "ar": 2896,
    "bn": 411,
    "de": 305,
    "en": 799,
    "es": 648,
    "fa": 632,
    "fi": 1271,
    "fr": 343,
    "hi": 350,
    "id": 960,
    "ja": 860,
    "ko": 213,
    "ru": 1252,
    "sw": 482,
    "te": 828,
    "th": 733,
    "yo": 119,
    "zh": 393,
}
#: 76 query ids are in both sw and bn, and a few documents are in two of the three.
CHOSEN = ("bn", "sw", "yo")
DISTRACTORS = 300


@dataclass(frozen=True)
class Raw:
    """One language, read from the files in the plainest way there is."""

    topics: dict[str, str]
    qrels: dict[str, dict[str, int]]
    #: Document id -> (title, text).
    corpus: dict[str, tuple[str, str]]


def read_raw(data_dir: Path, language: str) -> Raw:
    """The real questions and judgments, and a text for every judged document, with distractors."""
    topics = dict(lines_of(data_dir / "miracl" / f"topics.miracl-v1.0-{language}-dev.tsv"))
    qrels: dict[str, dict[str, int]] = {}
    corpus: dict[str, tuple[str, str]] = {}
    for query_id, _, docid, gain in lines_of(data_dir / "miracl" / f"qrels.miracl-v1.0-{language}-dev.tsv"):
        qrels.setdefault(query_id, {})[docid] = int(gain)
        # The same document in two languages has two texts; every fifth has no title.
        title = "" if len(corpus) % 5 == 0 else f"{language} {docid.partition('#')[0]}"
        corpus.setdefault(docid, (title, f"{topics[query_id]} {docid} {language}"))
    for number in range(DISTRACTORS):
        corpus[f"distractor {number}#0"] = (f"title {number}", f"nothing to see {number} {language}")
    return Raw(topics, qrels, corpus)


def lines_of(path: Path) -> Iterator[Any]:
    return (line.split("\t") for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"))


def write_own(folder: Path, raw: Mapping[str, Raw], *, compressed: bool = True) -> Path:
    """Project MIRACL's files: the passages in three files."""
    for language, data in raw.items():
        corpus = folder / "miracl" / f"miracl-corpus-v1.0-{language}"
        corpus.mkdir(parents=True)
        documents = [
            json.dumps({"docid": docid, "title": title, "text": text}, ensure_ascii=False)
            for docid, (title, text) in data.corpus.items()
        ]
        for number in range(3):
            content = "".join(f"{line}\n" for line in documents[number::3]).encode()
            if compressed:
                (corpus / f"docs-{number}.jsonl.gz").write_bytes(gzip.compress(content))
            else:
                (corpus / f"docs-{number}.jsonl").write_bytes(content)
        topics = "".join(f"{query_id}\t{text}\n" for query_id, text in data.topics.items())
        judged = "".join(
            f"{q}\tQ0\t{docid}\t{gain}\n" for q, by_id in data.qrels.items() for docid, gain in by_id.items()
        )
        (folder / "miracl" / f"topics.miracl-v1.0-{language}-dev.tsv").write_text(topics, encoding="utf-8")
        (folder / "miracl" / f"qrels.miracl-v1.0-{language}-dev.tsv").write_text(judged, encoding="utf-8")
    return folder


def write_dataset(folder: Path, raw: Mapping[str, Raw], name: str = "MIRACLRetrieval") -> Path:
    """The layout of mteb's data sets: Parquet files, and a README that names them."""
    root = folder / "mteb" / name
    configs = []
    for language, data in raw.items():
        judged = [(q, docid, gain) for q, by_id in data.qrels.items() for docid, gain in by_id.items()]
        tables = {
            "corpus": {
                "_id": list(data.corpus),
                "text": [text for _, text in data.corpus.values()],
                "title": [title for title, _ in data.corpus.values()],
            },
            "queries": {"_id": list(data.topics), "text": list(data.topics.values())},
            "qrels": {
                "query-id": [row[0] for row in judged],
                "corpus-id": [row[1] for row in judged],
                "score": [row[2] for row in judged],
            },
        }
        for kind, columns in tables.items():
            config = f"{language}-{kind}"
            (root / config).mkdir(parents=True)
            pq.write_table(pa.table(columns), root / config / "dev-00000-of-00001.parquet")
            configs.append(f"- config_name: {config}\n  data_files:\n  - split: dev\n    path: {config}/dev-*\n")
    (root / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n", encoding="utf-8")
    return folder


def small_source() -> MiraclReader:
    """The source of the task files, without what it has read."""
    source = collections()["MIRACL"][0].reader
    assert isinstance(source, MiraclReader)
    return MiraclReader(source.collection, source.pools, source.notice)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Arrow files go where pytest cleans up."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("datasets")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield folder


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_BENCH_DATA", raising=False)


@pytest.fixture(scope="module")
def raw(data_dir: Path) -> dict[str, Raw]:
    return {language: read_raw(data_dir, language) for language in CHOSEN}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Raw]) -> dict[str, Path]:
    """The three local forms, each in a data folder of its own."""
    return {
        "gz": write_own(tmp_path_factory.mktemp("gz"), raw),
        "jsonl": write_own(tmp_path_factory.mktemp("jsonl"), raw, compressed=False),
        "dataset": write_dataset(tmp_path_factory.mktemp("dataset"), raw),
    }


@pytest.fixture(scope="module")
def collection(folders: dict[str, Path]) -> Collection:
    return small_source().load(DataOptions(data_dir=folders["gz"]), CHOSEN)


def contents(collection: Collection) -> dict[str, Any]:
    """All that a collection says, with ids in place of positions."""
    passages = {
        part: sorted(zip(p.ids, p.texts, p.titles or [""] * len(p), strict=True))
        for part, p in collection.passages.items()
    }
    queries = {name: sorted(zip(q.ids, q.question_ids, q.texts, strict=True)) for name, q in collection.queries.items()}
    return {
        "passages": passages,
        "queries": queries,
        "judgments": {name: judged(collection, name) for name in collection.queries},
        "languages": [collection.languages, [q.language for q in collection.queries.values()]],
        "paragraphs": grouping(collection.paragraph_cluster),
        "articles": grouping(collection.article_cluster),
        "notes": collection.notes,
    }


def judged(collection: Collection, name: str) -> set[tuple[str, str, int]]:
    """(query id, passage id, gain); the passage is empty where the corpus lacks it."""
    queries = collection.queries[name]
    found = set()
    for query, part, passage, gain in zip(*judgment_columns(collection, name), strict=True):
        ids = collection.passages[collection.parts[part]].ids
        found.add((queries.ids[query], ids[passage] if passage >= 0 else "", gain))
    return found


def judgment_columns(collection: Collection, name: str) -> list[list[int]]:
    judgments = collection.queries[name].judgments
    return [column.tolist() for column in (judgments.query, judgments.part, judgments.passage, judgments.gain)]


def grouping(clusters: Mapping[str, int]) -> set[frozenset[str]]:
    return {frozenset(item for item in clusters if clusters[item] == number) for number in set(clusters.values())}


def translations_of(
    raw: Mapping[str, Raw], directions: Sequence[tuple[str, str]], source: str = "human"
) -> Translations:
    """A translation of every question: the original, marked."""
    return Translations.of(
        source,
        {
            (corpus, query): {query_id: f"{query}: {text}" for query_id, text in raw[corpus].topics.items()}
            for corpus, query in directions
        },
    )


# -- the data set as it is ------------------------------------------------------------------------------------------


def test_numbers_of_the_source_are_those_published() -> None:
    full, hard = (small_source().pools[pool] for pool in (PassagePool.FULL, PassagePool.HARD_NEGATIVES))
    assert full.queries == QUERIES
    assert (sum(full.passages.values()), sum(full.queries.values())) == (106_332_152, 13_495)
    assert (sum(hard.passages.values()), sum(hard.queries.values())) == (2_449_382, 11_076)
    assert all(hard.queries[language] == min(1000, count) for language, count in QUERIES.items() if language != "en")
    assert list(hard.passages) == list(full.passages) == list(QUERIES)
    assert all(hard.passages[language] <= full.passages[language] for language in QUERIES)


@pytest.mark.parametrize("pool", PassagePool)
def test_pinned_data_sets_and_numbers_are_mtebs(pool: PassagePool) -> None:
    name = {PassagePool.FULL: "MIRACLRetrieval", PassagePool.HARD_NEGATIVES: "MIRACLRetrievalHardNegatives"}[pool]
    dataset = small_source().pools[pool]
    theirs = mteb.get_task(name).metadata
    assert theirs.dataset == {"path": dataset.name, "revision": dataset.revision}
    statistics = theirs.descriptive_stats
    assert statistics is not None
    by_language: Any = statistics["dev"]["hf_subset_descriptive_stats"]
    assert dataset.passages == {language: found["num_documents"] for language, found in by_language.items()}
    assert dataset.queries == {language: found["num_queries"] for language, found in by_language.items()}


def test_topics_of_all_languages(data_dir: Path) -> None:
    """They are read without any passages, which this folder does not have."""
    source = small_source()
    options = DataOptions(data_dir=data_dir)
    topics = {language: source.topics(options, language) for language in source.languages}
    assert {language: len(texts) for language, texts in topics.items()} == QUERIES
    assert topics["sw"]["6"] == "Bandari kubwa nchini Kenya iko wapi?"
    languages_of = Counter(query_id for texts in topics.values() for query_id in texts)
    assert len(languages_of) == 9372
    assert sum(count > 1 for count in languages_of.values()) == 2609
    shared = topics["sw"].keys() & topics["bn"].keys()
    assert len(shared) == 76
    assert not any(topics["sw"][query_id] == topics["bn"][query_id] for query_id in shared)
    with pytest.raises(RequestError, match="MIRACL has no language 'swa': did you mean 'sw'"):
        source.topics(options, "swa")


def test_queries_judgments_and_passages_are_those_of_the_files(collection: Collection, raw: dict[str, Raw]) -> None:
    assert collection.parts == collection.languages == CHOSEN
    assert list(collection.queries) == [f"{language}-{language}" for language in CHOSEN]
    for language, data in raw.items():
        queries = collection.queries[f"{language}-{language}"]
        assert queries.language == language
        assert len(queries) == QUERIES[language]
        assert queries.ids == queries.question_ids
        assert dict(zip(queries.ids, queries.texts, strict=True)) == {
            text_id("MIRACL", language, query_id): text for query_id, text in data.topics.items()
        }
        assert judged(collection, f"{language}-{language}") == {
            (text_id("MIRACL", language, query_id), text_id("MIRACL", language, docid), gain)
            for query_id, by_id in data.qrels.items()
            for docid, gain in by_id.items()
            if gain > 0
        }
        passages = collection.passages[language]
        assert passages.titles is not None
        assert dict(zip(passages.ids, zip(passages.titles, passages.texts, strict=True), strict=True)) == {
            text_id("MIRACL", language, docid): texts for docid, texts in data.corpus.items()
        }
        assert "" in set(passages.titles)


def test_judged_as_not_relevant_is_not_relevant(collection: Collection, raw: dict[str, Raw]) -> None:
    for language, data in raw.items():
        gains = Counter(gain for by_id in data.qrels.values() for gain in by_id.values())
        judgments = collection.queries[f"{language}-{language}"].judgments
        assert gains[0] > gains[1] == len(judgments)
        assert judgments.gain.tolist() == [1] * len(judgments)


def test_judgments_are_sorted_columns(collection: Collection) -> None:
    for name, queries in collection.queries.items():
        judgments = queries.judgments
        assert [column.dtype for column in (judgments.query, judgments.part, judgments.passage, judgments.gain)] == [
            np.int32,
            np.int16,
            np.int32,
            np.int32,
        ]
        assert (np.diff(judgments.query) >= 0).all()
        assert set(judgments.query.tolist()) == set(range(len(queries)))
        assert set(judgments.part.tolist()) == {collection.part_index(name.partition("-")[2])}
        assert judgments.passage.min() >= 0
        assert len(set(zip(judgments.query.tolist(), judgments.passage.tolist(), strict=True))) == len(judgments)


def test_ids_that_collide_between_languages_are_kept_apart(collection: Collection, raw: dict[str, Raw]) -> None:
    shared_queries = raw["sw"].topics.keys() & raw["bn"].topics.keys()
    shared_documents = [
        {docid for docid in raw[one].corpus if "#" in docid} & set(raw[two].corpus)
        for one, two in (("bn", "sw"), ("sw", "yo"))
    ]
    assert len(shared_queries) == 76
    assert [len(shared) > DISTRACTORS for shared in shared_documents] == [True, True]
    query_ids = [query_id for queries in collection.queries.values() for query_id in queries.ids]
    passage_ids = [passage for passages in collection.passages.values() for passage in passages.ids]
    assert len(set(query_ids)) == len(query_ids) == 482 + 119 + 411
    assert len(set(passage_ids)) == len(passage_ids) == sum(len(data.corpus) for data in raw.values())
    # What is found by the qualified id is the text of that language.
    for language in ("sw", "bn"):
        queries = collection.queries[f"{language}-{language}"]
        texts = dict(zip(queries.ids, queries.texts, strict=True))
        assert all(texts[text_id("MIRACL", language, i)] == raw[language].topics[i] for i in shared_queries)


def test_clusters_share_a_passage_or_an_article(collection: Collection, raw: dict[str, Raw]) -> None:
    for clusters, level in ((collection.paragraph_cluster, "#.none"), (collection.article_cluster, "#")):
        groups: list[set[str]] = []
        for language, data in raw.items():
            for query_id, by_id in data.qrels.items():
                mine = {f"{language} {docid.partition(level)[0]}" for docid, gain in by_id.items() if gain}
                mine.add(text_id("MIRACL", language, query_id))
                touched = [group for group in groups if group & mine]
                groups = [group for group in groups if not group & mine] + [mine.union(*touched)]
        expected = {
            frozenset(item for item in group if item[8:9] == ".") for group in groups
        }  # without the documents, whose names begin with the language
        assert grouping(clusters) == expected
    assert set(collection.article_cluster) == {i for q in collection.queries.values() for i in q.question_ids}
    n_questions = 482 + 119 + 411
    assert (
        len(set(collection.article_cluster.values())) <= len(set(collection.paragraph_cluster.values())) < n_questions
    )


# -- the forms of the data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "dataset"])
def test_all_forms_give_the_same_collection(collection: Collection, folders: dict[str, Path], form: str) -> None:
    other = small_source().load(DataOptions(data_dir=folders[form]), CHOSEN)
    assert contents(other) == contents(collection)
    assert set(other.sha256) == set(collection.sha256)


def test_the_data_folder_may_be_named_by_the_environment(
    collection: Collection, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_BENCH_DATA", str(folders["dataset"]))
    assert contents(small_source().load(DataOptions(), CHOSEN)) == contents(collection)


@pytest.mark.parametrize("language", CHOSEN)
def test_mtebs_own_loader_reads_the_same(folders: dict[str, Path], raw: dict[str, Raw], language: str) -> None:
    folder = folders["dataset"] / "mteb" / "MIRACLRetrieval"
    theirs = RetrievalDatasetLoader(str(folder), "none", split="dev", config=language).load()
    collection = small_source().load(DataOptions(data_dir=folders["dataset"]), [language])
    name = partial(text_id, "MIRACL", language)
    passages, queries = collection.passages[language], collection.queries[f"{language}-{language}"]
    assert passages.titles is not None
    assert list(zip(passages.ids, passages.texts, passages.titles, strict=True)) == [
        (name(row["id"]), row["text"], row["title"]) for row in theirs["corpus"]
    ]
    assert list(zip(queries.ids, queries.texts, strict=True)) == [
        (name(row["id"]), row["text"]) for row in theirs["queries"]
    ]
    assert judged(collection, f"{language}-{language}") == {
        (name(query_id), name(docid), gain)
        for query_id, by_id in theirs["relevant_docs"].items()
        for docid, gain in by_id.items()
        if gain > 0
    }


def test_hard_negatives_are_another_data_set(folders: dict[str, Path], raw: dict[str, Raw], tmp_path: Path) -> None:
    """Fewer questions and passages; translations of the questions that it lacks do no harm."""
    kept = dict(list(raw["sw"].topics.items())[:100])
    fewer = Raw(
        topics=kept,
        qrels={query_id: raw["sw"].qrels[query_id] for query_id in kept},
        corpus={docid: raw["sw"].corpus[docid] for query_id in kept for docid in raw["sw"].qrels[query_id]},
    )
    write_dataset(tmp_path, {"sw": fewer}, "MIRACLRetrievalHardNegatives")
    write_own(tmp_path, {"sw": raw["sw"]})
    source = small_source()
    translations = translations_of(raw, [("sw", "en")])
    options = DataOptions(data_dir=tmp_path, pool=PassagePool.HARD_NEGATIVES, translations=translations)
    hard, full = source.load(options, ["sw"]), source.load(replace(options, pool=PassagePool.FULL), ["sw"])
    assert (len(hard.queries["sw-sw"]), len(full.queries["sw-sw"])) == (100, 482)
    assert (len(hard.queries["en-sw"]), len(full.queries["en-sw"])) == (100, 482)
    assert len(hard.passages["sw"]) == len(fewer.corpus) < len(full.passages["sw"])
    assert hard.sha256["sw"] != full.sha256["sw"]
    assert "en-sw: 100 of 100 questions translated (source human)" in hard.notes
    assert source.topics(options, "sw") == kept
    assert source.saved_options(options, ["sw-sw"]) == {"pool": "hard-negatives"}
    with pytest.raises(DataError, match=r"looked for mteb/MIRACLRetrievalHardNegatives \(the data set mteb/MIRACL"):
        source.load(replace(options, data_dir=folders["gz"]), ["sw"])
    swapped = Translations.of("human", {("sw", "en"): {"no-such-id": "text"}})
    with pytest.raises(DataError, match="human translates queries that do not exist: 'no-such-id' of 'sw'"):
        source.load(replace(options, translations=swapped), ["sw"])


@pytest.mark.parametrize("write", [write_own, write_dataset])
def test_local_data_are_read_without_any_connection(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    for place, name in ((socket, "getaddrinfo"), (socket.socket, "connect")):
        monkeypatch.setattr(place, name, lambda *arguments, **_: tried.append(arguments))
    found = small_source().load(DataOptions(data_dir=write(tmp_path, {"te": WHOLE})), ["te"])
    assert len(found.passages["te"]) == 5
    assert not tried


def test_only_the_languages_asked_for_are_read(folders: dict[str, Path], raw: dict[str, Raw], tmp_path: Path) -> None:
    write_own(tmp_path, {"yo": raw["yo"]})
    (tmp_path / "miracl" / "miracl-corpus-v1.0-sw").mkdir()  # reading it would be an error
    source, options = small_source(), DataOptions(data_dir=tmp_path)
    assert source.load(options, ["yo"]).parts == ("yo",)
    assert set(source.sha256(options, ["yo"])) == {"yo"}
    with pytest.raises(DataError, match=r"miracl-corpus-v1\.0-sw has no passages: there should be docs-0\.jsonl\.gz"):
        source.load(options, ["yo", "sw"])
    with pytest.raises(RequestError, match="MIRACL has no language 'yoo': did you mean 'yo'"):
        source.load(options, ["yoo"])


def test_parts_are_in_the_order_of_the_data_set(folders: dict[str, Path]) -> None:
    assert small_source().load(DataOptions(data_dir=folders["gz"]), ["yo", "bn"]).parts == ("bn", "yo")


def test_loaded_once_in_a_process_and_anew_when_a_file_changes(raw: dict[str, Raw], tmp_path: Path) -> None:
    source, options = small_source(), DataOptions(data_dir=write_own(tmp_path, {"yo": raw["yo"]}))
    first = source.load(options, ["yo"])
    assert source.load(options, ["yo"]) is first
    assert source.sha256(options, ["yo"]) == first.sha256
    file = tmp_path / "miracl" / "qrels.miracl-v1.0-yo-dev.tsv"
    lines = file.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.endswith("\t0\n"))
    lines[at] = lines[at].replace("\t0\n", "\t1\n")
    file.write_text("".join(lines))
    second = source.load(options, ["yo"])
    assert second.sha256["yo"] != first.sha256["yo"]
    assert len(second.queries["yo-yo"].judgments) == len(first.queries["yo-yo"].judgments) + 1


def test_sha256_depends_on_every_file_and_only_on_the_files_of_its_language(
    raw: dict[str, Raw], tmp_path: Path
) -> None:
    options = DataOptions(data_dir=write_own(tmp_path, raw, compressed=False))
    source = small_source()
    seen = [source.sha256(options, CHOSEN)]
    names = ["topics.miracl-v1.0-sw-dev.tsv", "qrels.miracl-v1.0-sw-dev.tsv", "miracl-corpus-v1.0-sw/docs-2.jsonl"]
    for name in names:
        with (tmp_path / "miracl" / name).open("a", encoding="utf-8") as file:
            file.write("\n")
        seen.append(source.sha256(options, CHOSEN))
    assert len({hashes["sw"] for hashes in seen}) == 4
    assert len({(hashes["bn"], hashes["yo"]) for hashes in seen}) == 1


def test_sha256_of_the_hubs_data_needs_neither_network_nor_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
    source = small_source()
    full = source.sha256(DataOptions())
    hard = source.sha256(DataOptions(pool=PassagePool.HARD_NEGATIVES))
    assert list(full) == list(QUERIES)
    assert len({*full.values(), *hard.values()}) == 36
    elsewhere = MiraclReader(
        source.collection,
        {pool: replace(dataset, revision="0" * 40) for pool, dataset in source.pools.items()},
    )
    assert not set(elsewhere.sha256(DataOptions()).values()) & set(full.values())


# -- translations ---------------------------------------------------------------------------------------------------


def test_translated_questions_keep_their_judgments(
    collection: Collection, folders: dict[str, Path], raw: dict[str, Raw], tmp_path: Path
) -> None:
    """Through a file, as a user gives it."""
    path = tmp_path / "translations.jsonl"
    directions = [("sw", "yo"), ("yo", "sw"), ("bn", "sw"), ("sw", "en")]
    made = translations_of(raw, directions)
    write_rows(path, (Row(c, i, q, text, "human") for (c, q), texts in made.texts.items() for i, text in texts.items()))
    translations = read_translations([path])["human"]
    found = small_source().load(DataOptions(data_dir=folders["gz"], translations=translations), CHOSEN)
    assert set(found.queries) == {"bn-bn", "sw-bn", "sw-sw", "yo-sw", "en-sw", "yo-yo", "sw-yo"}
    for corpus, query in directions:
        own, asked = found.queries[f"{corpus}-{corpus}"], found.queries[f"{query}-{corpus}"]
        assert asked.language == query
        assert asked.question_ids == own.question_ids == own.ids
        assert asked.ids == tuple(f"{question_id}.{query}" for question_id in own.ids)
        assert asked.texts == tuple(f"{query}: {text}" for text in own.texts)
        assert judgment_columns(found, f"{query}-{corpus}") == judgment_columns(found, f"{corpus}-{corpus}")
        assert f"{query}-{corpus}: {len(own)} of {len(own)} questions translated (source human)" in found.notes
    everything = [query_id for queries in found.queries.values() for query_id in queries.ids]
    assert len(set(everything)) == len(everything)
    for name, queries in collection.queries.items():
        assert found.queries[name].texts == queries.texts
    assert found.paragraph_cluster == collection.paragraph_cluster


def test_a_translation_belongs_to_one_corpus_language(folders: dict[str, Path], raw: dict[str, Raw]) -> None:
    """Ids that are in two languages: each gets its own translation, and one that only the other has stays without."""
    shared = sorted(raw["sw"].topics.keys() & raw["bn"].topics.keys())
    texts = {
        ("sw", "en"): {query_id: f"from sw {query_id}" for query_id in shared[:50]},
        ("bn", "en"): {query_id: f"from bn {query_id}" for query_id in shared[25:]},
    }
    options = DataOptions(data_dir=folders["gz"], translations=Translations.of("human", texts))
    found = small_source().load(options, CHOSEN)
    for corpus, expected in (("sw", shared[:50]), ("bn", shared[25:])):
        queries = found.queries[f"en-{corpus}"]
        assert dict(zip(queries.question_ids, queries.texts, strict=True)) == {
            text_id("MIRACL", corpus, query_id): f"from {corpus} {query_id}" for query_id in expected
        }


def test_questions_without_a_translation_are_not_asked(folders: dict[str, Path], raw: dict[str, Raw]) -> None:
    some = dict(list(raw["yo"].topics.items())[10:30])
    translations = Translations.of("nllb", {("yo", "en"): some})
    found = small_source().load(DataOptions(data_dir=folders["gz"], translations=translations), ["yo"])
    asked, own = found.queries["en-yo"], found.queries["yo-yo"]
    assert (len(asked), len(own)) == (20, 119)
    assert asked.question_ids == own.question_ids[10:30]
    assert set(asked.judgments.query.tolist()) == set(range(20))
    assert "en-yo: 20 of 119 questions translated (source nllb)" in found.notes
    assert {(i.rpartition(".")[0], p, g) for i, p, g in judged(found, "en-yo")} == {
        row for row in judged(found, "yo-yo") if row[0] in asked.question_ids
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({("sw", "en"): {"0815": "What?"}}, "human translates queries that do not exist: '0815' of 'sw'"),
        # an id of bn only, named as one of sw
        ({("sw", "en"): {"bn": "What?"}}, "is a query of 'bn', another query than any of 'sw'"),
        ({("tr", "en"): {"6": "What?"}}, "from 'tr' to 'en', but MIRACL has no 'tr': it has ar, bn, de"),
        ({("sw", "tr"): {"6": "What?"}}, "from 'sw' to 'tr', but MIRACL has no 'tr'"),
        ({("sw", "sw"): {"6": "What?"}}, "from 'sw' to 'sw': the same language"),
    ],
)
def test_wrong_translations(
    folders: dict[str, Path], raw: dict[str, Raw], texts: dict[tuple[str, str], dict[str, str]], message: str
) -> None:
    only_bn = next(iter(raw["bn"].topics.keys() - raw["sw"].topics.keys()))
    texts = {key: {only_bn if i == "bn" else i: text for i, text in by_id.items()} for key, by_id in texts.items()}
    options = DataOptions(data_dir=folders["gz"], translations=Translations.of("human", texts))
    with pytest.raises(DataError, match=message):
        small_source().load(options, CHOSEN)


def test_translations_of_a_language_that_is_not_read_are_not_checked(folders: dict[str, Path]) -> None:
    translations = Translations.of("human", {("sw", "en"): {"0815": "What?"}})
    options = DataOptions(data_dir=folders["gz"], translations=translations)
    assert list(small_source().load(options, ["yo"]).queries) == ["yo-yo"]


def test_sha256_depends_on_the_translations_of_its_language(folders: dict[str, Path], raw: dict[str, Raw]) -> None:
    source = small_source()
    plain = DataOptions(data_dir=folders["gz"])
    given = replace(plain, translations=translations_of(raw, [("sw", "en")]))
    other = replace(plain, translations=translations_of(raw, [("sw", "en")], source="nllb"))
    hashes = [source.load(options, CHOSEN).sha256 for options in (plain, given, other)]
    assert len({found["sw"] for found in hashes}) == 3
    assert hashes == [source.sha256(options, CHOSEN) for options in (plain, given, other)]


def test_what_is_missing(raw: dict[str, Raw]) -> None:
    source = small_source()
    plain = DataOptions()
    given = DataOptions(translations=translations_of(raw, [("sw", "en")]))
    for subset in ("sw-sw", "sw"):
        assert source.missing(plain, subset) is None
    assert source.missing(given, "en-sw") is None
    reason = source.missing(plain, "en-sw")
    assert reason is not None
    assert "questions of 'sw' translated into 'en'" in reason
    assert "--translations FILE" in reason
    assert "`hybrid-bench translate`" in reason
    assert "those by human are not" in (source.missing(given, "sw-en") or "")
    with pytest.raises(RequestError, match="MIRACL has no language 'swa'"):
        source.missing(plain, "en-swa")


def test_what_is_told_of_the_options(raw: dict[str, Raw]) -> None:
    source = small_source()
    given = DataOptions(translations=translations_of(raw, [("sw", "en")]))
    assert source.saved_options(DataOptions(), ["sw-sw", "en-sw", "sw"]) == {}
    assert source.saved_options(given, ["sw-sw", "sw"]) == {}
    assert source.saved_options(given, ["sw-sw", "en-sw"]) == {"translations": "human"}
    assert source.saved_options(replace(given, pool=PassagePool.HARD_NEGATIVES), ["en-sw"]) == {
        "pool": "hard-negatives",
        "translations": "human",
    }


# -- odd data, and wrong ones ---------------------------------------------------------------------------------------

ODD = Raw(
    topics={
        "1": 'Who said "no"?',
        "2": "a\u2028b\x85c",
        "3": "Never judged",
        "4": "Judged as 0 only",
        "5#1": "Ids like a document's",
    },
    qrels={
        "1": {"a b#0": 1, 'c"d\\e#1': 2, "f/g": 0},
        "2": {"f/g": 1, "gone#0": 1, "": 0},
        "4": {"a b#0": 0},
        "5#1": {"é#2": 3},
    },
    corpus={
        "a b#0": ("", "space"),
        'c"d\\e#1': ("Quotes", 'quote " and \\ and \t and \u2028'),
        "f/g": ("", ""),
        "é#2": ("", "not ASCII"),
        "never#0": ("Title", "judged by nobody"),
    },
)
WHOLE = replace(ODD, qrels={query_id: {i: g for i, g in by_id.items() if i} for query_id, by_id in ODD.qrels.items()})


@pytest.mark.parametrize("write", [write_own, partial(write_own, compressed=False), write_dataset])
def test_odd_ids_empty_titles_and_absent_documents(write: Any, tmp_path: Path) -> None:
    found = small_source().load(DataOptions(data_dir=write(tmp_path, {"sw": WHOLE})), ["sw"])
    name = partial(text_id, "MIRACL", "sw")
    passages, queries = found.passages["sw"], found.queries["sw-sw"]
    assert passages.titles is not None
    assert dict(zip(passages.ids, zip(passages.titles, passages.texts, strict=True), strict=True)) == {
        name(docid): texts for docid, texts in WHOLE.corpus.items()
    }
    assert queries.texts == (WHOLE.topics["1"], WHOLE.topics["2"], WHOLE.topics["5#1"])
    assert judged(found, "sw-sw") == {
        (name("1"), name("a b#0"), 1),
        (name("1"), name('c"d\\e#1'), 2),
        (name("2"), name("f/g"), 1),
        (name("2"), "", 1),
        (name("5#1"), name("é#2"), 3),
    }
    assert found.notes == (
        "sw: 5 passages, where mteb/MIRACLRetrieval has 131,924",
        "sw: 5 questions, where mteb/MIRACLRetrieval has 482",
        "sw: 1 of 5 relevant passages are not in the corpus; they count as never found",
        "sw: 2 of 5 questions have no relevant passage and are left out",
    )


def test_ids_of_passages_are_made_when_asked_for(folders: dict[str, Path], raw: dict[str, Raw]) -> None:
    ids = small_source().load(DataOptions(data_dir=folders["gz"]), ["sw"]).passages["sw"].ids
    expected = list(ids)
    assert not isinstance(ids, (tuple, list))
    assert set(expected) == {text_id("MIRACL", "sw", docid) for docid in raw["sw"].corpus}
    assert len(ids) == len(expected)
    assert ids[7] == expected[7]
    assert ids[-1] == expected[-1]
    assert ids[10:20] == expected[10:20]
    assert ids[20:10:-3] == expected[20:10:-3]
    assert ids[5:2] == []
    assert take(ids, np.array([30, 2, 2, len(ids) - 1])) == [expected[30], expected[2], expected[2], expected[-1]]
    assert expected[3] in ids
    assert next(reversed(ids)) == expected[-1]


def rewritten(folder: Path, name: str, content: str) -> Path:
    path = folder / "miracl" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return folder


TOPICS, QRELS = "topics.miracl-v1.0-sw-dev.tsv", "qrels.miracl-v1.0-sw-dev.tsv"
DOCS = "miracl-corpus-v1.0-sw/docs-1.jsonl"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TOPICS, "1\tone\n2 two\n", 'dev.tsv:2: expected a query id, a tab and a question, found "2 two"'),
        (TOPICS, "1\tone\n\n1\tanother\n", "dev.tsv:3: query id '1' occurs twice"),
        (TOPICS, "1\t \n", "dev.tsv:1: expected a query id, a tab and a question"),
        (TOPICS, "", "dev.tsv is empty"),
        (QRELS, "1\tQ0\ta b#0\n", "dev.tsv:1: expected query id, 'Q0', document id and a whole number"),
        (QRELS, "1\tQ0\ta b#0\tyes\n", 'found "1.tQ0.ta b#0.tyes"'),
        (QRELS, "9\tQ0\ta b#0\t1\n", "query id '9' is judged, but is not in .*; are both files of 'sw'"),
        (
            QRELS,
            "1\tQ0\ta b#0\t1\n1\tQ0\ta b#0\t0\n",
            'dev.tsv:2: document "a b#0" has score 0 for query "1", but 1 before',
        ),
        (QRELS, "1\tQ0\tx#0\t1\n", "of 1 relevant passages in 'sw', none is among its 5 passages"),
        (QRELS, "1\tQ0\ta b#0\t0\n", "no question in 'sw' has a relevant passage"),
        (DOCS, '{"docid": "a b#0", "title": "", "text": "twice"}\n', "document 'a b#0' occurs twice"),
        (DOCS, '{"docid": "x#0", "title": ""}\n', "1 of 4 passages have no 'text'"),
        (DOCS, '{"title": "", "text": "x"}\n', "1 of 4 passages have no 'docid'"),
        (DOCS, '{"docid": "x#0", "title": "", "text": "x", "lang": "sw"}\n', "v1.0-sw: cannot be read: "),
        (DOCS, '{"docid": "x#0", "title"\n', r"docs-1\.jsonl:1: not JSON \("),
        ("miracl-corpus-v1.0-sw/docs-0.jsonl.gz", "", "docs-0.jsonl.gz and docs-0.jsonl hold the same passages"),
        ("miracl-corpus-v1.0-sw/docs-3.jsonl.gz", "not compressed", r"cannot read .*docs-3\.jsonl\.gz: Not a gz"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = rewritten(write_own(tmp_path, {"sw": WHOLE}, compressed=False), name, content)
    with pytest.raises(DataError, match=message):
        small_source().load(DataOptions(data_dir=folder), ["sw"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write_own(tmp_path, {"sw": WHOLE})
    (folder / "miracl" / TOPICS).write_bytes(b"1\tone\n2\t\xff\n")
    with pytest.raises(DataError, match=r"dev\.tsv:2: not UTF-8 \(invalid start byte at byte 2 of"):
        small_source().topics(DataOptions(data_dir=folder), "sw")
    (folder / "miracl" / TOPICS).unlink()
    with pytest.raises(DataError, match=r"cannot read .*topics\.miracl-v1\.0-sw-dev\.tsv: No such file"):
        small_source().load(DataOptions(data_dir=folder), ["sw"])


def test_the_same_judgment_may_be_given_again(tmp_path: Path) -> None:
    once = small_source().load(DataOptions(data_dir=write_own(tmp_path / "one", {"sw": WHOLE})), ["sw"])
    folder = write_own(tmp_path / "two", {"sw": WHOLE})
    path = folder / "miracl" / QRELS
    path.write_text(path.read_text(encoding="utf-8") * 2, encoding="utf-8")
    assert judged(small_source().load(DataOptions(data_dir=folder), ["sw"]), "sw-sw") == judged(once, "sw-sw")


def test_judgments_may_be_separated_by_spaces(tmp_path: Path) -> None:
    folder = rewritten(write_own(tmp_path, {"sw": WHOLE}), QRELS, "1 Q0 f/g 1\r\n2  Q0  é#2  2\n")
    found = small_source().load(DataOptions(data_dir=folder), ["sw"])
    assert {(passage.partition(".sw.")[2], gain) for _, passage, gain in judged(found, "sw-sw")} == {
        ("f/g", 1),
        ("é#2", 2),
    }


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("corpus", {"text": ["x"]}, "there is no column '_id', only text"),
        ("corpus", {"_id": ["1#0"], "title": ["x"]}, "there is no column 'text', only _id, title"),
        ("corpus", {"_id": ["1#0", None], "text": ["x", "y"]}, "1 of 2 passages have no '_id'"),
        ("queries", {"_id": ["1", "1"], "text": ["x", "y"]}, "sw-queries: query id '1' occurs twice"),
        ("queries", {"_id": ["1", "2"], "text": ["x", None]}, "1 of 2 rows have no 'text'"),
        ("qrels", {"query-id": ["1"], "corpus-id": ["a b#0"]}, "there is no column 'score', only query-id, corpus-id"),
        (
            "qrels",
            {"query-id": ["1"], "corpus-id": ["a b#0"], "score": ["good"]},
            "sw-qrels: score \"good\" of document 'a b#0' should be a whole number",
        ),
    ],
)
def test_wrong_data_sets(tmp_path: Path, kind: str, columns: dict[str, list[Any]], message: str) -> None:
    folder = write_dataset(tmp_path, {"sw": WHOLE})
    file = folder / "mteb" / "MIRACLRetrieval" / f"sw-{kind}" / "dev-00000-of-00001.parquet"
    pq.write_table(pa.table(columns), file)
    with pytest.raises(DataError, match=message):
        small_source().load(DataOptions(data_dir=folder), ["sw"])


def test_data_sets_with_numbers_as_ids_and_no_titles(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, {"sw": WHOLE})
    root = folder / "mteb" / "MIRACLRetrieval"
    tables: dict[str, dict[str, list[Any]]] = {
        "corpus": {"id": [7, 8], "text": ["x", "y"]},
        "queries": {"id": [1], "text": ["x"]},
        "qrels": {"query-id": [1, 1], "corpus-id": [8, 7], "score": [1, 0]},
    }
    for kind, columns in tables.items():
        pq.write_table(pa.table(columns), root / f"sw-{kind}" / "dev-00000-of-00001.parquet")
    found = small_source().load(DataOptions(data_dir=folder), ["sw"])
    assert found.passages["sw"].titles is None
    assert judged(found, "sw-sw") == {(text_id("MIRACL", "sw", "1"), text_id("MIRACL", "sw", "8"), 1)}


def test_a_data_set_without_the_language(folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="MIRACLRetrieval has no files of 'th-corpus': looked for th-corpus/dev"):
        small_source().load(DataOptions(data_dir=folders["dataset"]), ["th"])


def test_a_folder_without_miracl(tmp_path: Path, data_dir: Path) -> None:
    source = small_source()
    with pytest.raises(DataError) as caught:
        source.load(DataOptions(data_dir=data_dir), ["sw"])
    assert str(caught.value) == (
        f"--data-dir {data_dir} does not have MIRACL in 'sw': looked for mteb/MIRACLRetrieval (the data set"
        " mteb/MIRACLRetrieval) and miracl/miracl-corpus-v1.0-sw (as project MIRACL publishes it); put one of them"
        " there, choose other languages (--languages, --pool-languages), or leave out --data-dir to download"
    )
    with pytest.raises(
        DataError, match=r"miracl/topics\.miracl-v1\.0-sw-dev\.tsv; put one of them there, or leave out"
    ):
        source.topics(DataOptions(data_dir=tmp_path), "sw")
    with pytest.raises(DataError, match="is not a folder: give one that holds MIRACL, or leave out --data-dir"):
        source.sha256(DataOptions(data_dir=tmp_path / "none"), ["sw"])


# -- the Hub --------------------------------------------------------------------------------------------------------


def hub_source(passages: Mapping[str, int]) -> MiraclReader:
    """As many questions as there are, and so many passages."""
    dataset = HubDataset("org/MIRACL", COMMIT, passages, {"sw": 5, "yo": 119, "bn": 411})
    return MiraclReader("MIRACL", dict.fromkeys(PassagePool, dataset))


def test_the_hub(raw: dict[str, Raw], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloaded at the pinned revision and as far as needed; used again without the Hub; refused if not whole."""
    data = {"bn": raw["bn"], "sw": WHOLE, "yo": raw["yo"]}
    write_dataset(tmp_path, data, "MIRACL")
    counts = {language: len(one.corpus) for language, one in data.items()}
    kinds = ("corpus", "queries", "qrels")
    files = {f"{code}-{kind}/dev-00000-of-00001.parquet" for code in ("sw", "yo") for kind in kinds}
    queries = "sw-queries/dev-00000-of-00001.parquet"
    with serving(tmp_path / "mteb" / "MIRACL", "org/MIRACL") as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "hub")
        assert hub_source(counts).topics(DataOptions(), "sw") == WHOLE.topics
        assert hub.downloaded() == {"README.md", queries}
        first = hub_source(counts).load(DataOptions(), ["sw", "yo"])
        assert hub.downloaded() == files - {queries}
    local = small_source().load(DataOptions(data_dir=write_own(tmp_path / "own", data)), ["sw", "yo"])
    found = contents(first)
    assert first.revision == COMMIT
    assert found.pop("notes") == tuple(note for note in local.notes if "where mteb" not in note)
    assert found == {name: value for name, value in contents(local).items() if name != "notes"}

    # The server is gone.
    again = hub_source(counts)
    assert contents(again.load(DataOptions(), ["sw", "yo"])) == contents(first)
    with pytest.raises(
        DataError, match=r"cannot get org/MIRACL \(bn\) at 0123456789ab from http://127.*cannot be reached"
    ):
        again.load(DataOptions(), ["sw", "bn"])
    monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
    assert contents(hub_source(counts).load(DataOptions(), ["sw", "yo"])) == contents(first)
    with pytest.raises(DataError, match=r"^sw: 5 passages, where org/MIRACL has 6 at 0123456789ab: the copy in "):
        hub_source({**counts, "sw": 6}).load(DataOptions(), ["sw", "yo"])


def test_without_network_and_without_data_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, endpoint := nowhere(), tmp_path / "hub")
    source = hub_source({"sw": 5})
    for ask in (partial(source.load, DataOptions(), ["sw"]), partial(source.topics, DataOptions(), "sw")):
        with pytest.raises(DataError) as caught:
            ask()
        message = str(caught.value)
        assert message.startswith(f"cannot get org/MIRACL (sw) at 0123456789ab from {endpoint}: it cannot be reached (")
        assert message.endswith(
            "; pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder that holds the data set as mteb/MIRACL"
        )


# -- the tasks ------------------------------------------------------------------------------------------------------

PAIRS, MULTILINGUAL = "MIRACL-Pairs", "MIRACL-Multilingual"


def scores_of(model: Any, task: Any) -> dict[str, dict[str, Any]]:
    """Scores by subset, from plain `mteb.evaluate`."""
    if isinstance(task, ParallelRetrieval):
        tell_options(model, task)
    result = mteb.evaluate(
        model,
        task,
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": 256, "show_progress_bar": False},
    )
    return {scores["hf_subset"]: dict(scores) for scores in result.task_results[0].scores["dev"]}


@pytest.fixture(scope="module")
def model(collection: Collection) -> Any:
    """A dense model without ties: random vectors of word pieces."""
    texts = [text for queries in collection.queries.values() for text in queries.texts]
    texts += [text for passages in collection.passages.values() for text in passages.texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mteb's wrapper, see hybrid_bench.engine.models
        wrapped = SentenceTransformerEncoderWrapper(static_model(texts))
    wrapped.mteb_model_meta = meta_of("tests/static")
    return wrapped


def test_monolingual_numbers_are_mtebs(model: Any, folders: dict[str, Path]) -> None:
    """mteb's own MIRACLRetrieval, pointed at the same files, against ours: every key that both write."""
    own = MIRACLRetrieval.metadata
    place = {"path": str(folders["dataset"] / "mteb" / "MIRACLRetrieval"), "revision": "local"}
    theirs = type("Theirs", (MIRACLRetrieval,), {"metadata": own.model_copy(update={"dataset": place})})()
    theirs.hf_subsets = list(CHOSEN)
    expected = scores_of(model, theirs)
    task = task_of(PAIRS, [f"{language}-{language}" for language in CHOSEN], data_dir=folders["gz"])
    ours = scores_of(model, task)
    assert task.metadata.main_score == own.main_score
    for language in CHOSEN:
        mono, reference = ours[f"{language}-{language}"], expected[language]
        keys = {key for key in reference if not key.startswith("nauc") and isinstance(reference[key], float)}
        assert len(keys) == 44
        assert {key: mono[key] for key in keys} == pytest.approx({key: reference[key] for key in keys}, rel=0, abs=1e-5)
        assert 0.2 < mono["main_score"] == mono["ndcg_at_10"] < 0.999


def test_absent_documents_count_as_in_mteb(model: Any, raw: dict[str, Raw], tmp_path: Path) -> None:
    yo = raw["yo"]
    gone = {docid for number, by_id in enumerate(yo.qrels.values()) for docid in by_id if number % 4 == 0}
    less = replace(yo, corpus={docid: texts for docid, texts in yo.corpus.items() if docid not in gone})
    folder = write_dataset(tmp_path, {"yo": less}, "MIRACLRetrieval") / "mteb" / "MIRACLRetrieval"
    folder = folder.rename(folder.with_name("Absent"))  # a name of its own, else mteb reads the data of another test
    own = MIRACLRetrieval.metadata
    place = {"path": str(folder), "revision": "local"}
    theirs = type("Theirs", (MIRACLRetrieval,), {"metadata": own.model_copy(update={"dataset": place})})()
    theirs.hf_subsets = ["yo"]
    expected = scores_of(model, theirs)["yo"]
    folder.rename(folder.with_name("MIRACLRetrieval"))
    ours = scores_of(model, task_of(PAIRS, ["yo-yo"], data_dir=tmp_path))["yo-yo"]
    keys = {key for key in expected if "_at_" in key and not key.startswith("nauc")}
    assert {key: ours[key] for key in keys} == pytest.approx({key: expected[key] for key in keys}, rel=0, abs=1e-5)
    assert expected["recall_at_1000"] < 0.9


def test_pairs_and_pools_end_to_end(model: Any, folders: dict[str, Path], raw: dict[str, Raw]) -> None:
    translations = translations_of(raw, [("sw", "yo"), ("yo", "sw")])
    options = {"data_dir": folders["jsonl"], "translations": translations}
    task = task_of(PAIRS, ["sw-sw", "yo-sw", "sw-yo", "yo-yo"], **options)
    assert set(task.saved_options()) == {"translations"}
    pairs = scores_of(model, task)
    assert set(pairs) == {"sw-sw", "yo-sw", "sw-yo", "yo-yo"}
    # The translations of this test are the questions with a word before them.
    assert pairs["yo-sw"]["main_score"] == pytest.approx(pairs["sw-sw"]["main_score"], abs=0.2)
    assert pairs["yo-sw"]["main_score"] != pairs["sw-sw"]["main_score"]
    table = task.tables["dev", "yo-sw"]
    mono = task.tables["dev", "sw-sw"]
    assert table["question_id"].to_pylist() == mono["question_id"].to_pylist()
    assert set(table["query_language"].to_pylist()) == {"yo"}
    assert set(table["setting"].to_pylist()) == {"cross-lingual"}
    assert "yo-sw: 482 of 482 questions translated (source human)" in task.signature["notes"]

    pool = task_of(MULTILINGUAL, ["sw", "yo"], pool_languages=("bn", "sw", "yo"), data_dir=folders["jsonl"])
    multilingual = scores_of(model, pool)
    for language in ("sw", "yo"):
        found, alone = multilingual[language], pairs[f"{language}-{language}"]
        assert found["main_score"] <= alone["main_score"] + 1e-9  # more passages, and no more relevant ones
        assert {key for key in found if key.startswith("bias_js")}
        assert not {key for key in found if key.startswith(("bias_rank_distance", "bias_kendall"))}
        assert set(pool.tables["dev", language]["pool_size"].to_pylist()) == {sum(len(r.corpus) for r in raw.values())}


def test_bm25_end_to_end(folders: dict[str, Path]) -> None:
    scores = scores_of(load(model_meta("hybrid_bench/bm25")), task_of(PAIRS, ["yo-yo"], data_dir=folders["gz"]))
    assert 0.3 < scores["yo-yo"]["main_score"] < 1


def test_subsets_of_the_tasks() -> None:
    classes = task_classes()
    tags = {code: LANGUAGES[code].tag for code in QUERIES}
    assert classes[PAIRS].metadata.eval_langs == pair_subsets(tags)
    assert classes[MULTILINGUAL].metadata.eval_langs == pool_subsets(tags)
    for name in (PAIRS, MULTILINGUAL):
        metadata = classes[name].metadata
        assert metadata.is_filled()
        assert metadata.eval_splits == ["dev"]
        assert metadata.main_score == "ndcg_at_10"
    pairs = task_of(PAIRS)
    assert pairs.pool_of("sw-en") == ("sw-en", ("en",))
    multilingual = task_of(MULTILINGUAL, pool_languages=("yo", "en"))
    assert multilingual.pool_of("en") == ("en-en", ("en", "yo"))
    with pytest.raises(RequestError, match="judged on passages in 'sw' only, which the pool en yo does not have"):
        multilingual.pool_of("sw")
    assert len(task_of(MULTILINGUAL).pool_of("sw")[1]) == 18


def test_the_multilingual_task_says_what_its_numbers_are_not() -> None:
    multilingual = task_classes()[MULTILINGUAL]
    for text in (multilingual.metadata.description, multilingual.reader.notice):
        assert "judged" in text
        assert "lower bounds" in text
        assert "bias_js_*, bias_awrf_*" in text


def test_mteb_gives_the_subsets_that_can_be_run() -> None:
    diagonal = [f"{language}-{language}" for language in QUERIES]
    assert mteb.get_task(PAIRS).hf_subsets == diagonal
    assert mteb.get_task(PAIRS, languages=["swa"]).hf_subsets == ["sw-sw"]
    assert mteb.get_task(PAIRS, hf_subsets=["sw-sw", "sw-en"]).hf_subsets == ["sw-en", "sw-sw"]
    assert len(mteb.get_task(MULTILINGUAL).hf_subsets) == 18
    assert len(task_of(PAIRS).hf_subsets) == 324


def test_a_subset_without_translations_says_what_to_do(folders: dict[str, Path]) -> None:
    task = task_of(PAIRS, ["yo-sw"], data_dir=folders["gz"])
    with pytest.raises(RequestError, match="questions of 'sw' translated into 'yo': give --translations FILE"):
        task.load_data()


def test_a_folder_that_was_replaced_is_read_anew(raw: dict[str, Raw], tmp_path: Path) -> None:
    """`datasets` by itself goes by names and times."""
    yo = raw["yo"]
    other = replace(yo, corpus={docid: (title, f"changed {text}") for docid, (title, text) in yo.corpus.items()})
    source = small_source()
    for data in (yo, other):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        for file in write_dataset(tmp_path / "a", {"yo": data}).rglob("*.parquet"):
            os.utime(file, ns=(10**18, 10**18))
        found = source.load(DataOptions(data_dir=tmp_path / "a"), ["yo"])
        assert set(found.passages["yo"].texts) == {text for _, text in data.corpus.values()}
