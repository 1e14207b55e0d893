"""Collections: parallel queries and passages in several languages, with relevance judgments.

Raw files become a `Collection`, the only form of data that the rest of the package knows. Everything is checked on
the way: a file that does not hold what its format promises raises `DataError` with the place and the value.

Terms (all arrays are aligned by position):

- A *passage* is one candidate of the retrieval pool; passages of a language stand in ascending order of id.
- A *question id* is the id that one question has in every language. Queries are paired across languages and models
  by it, never by position or text.
- A *cluster* is a set of question ids that share a paragraph (or article) in any language. Questions of one cluster
  are not independent, which is what the significance tests need to know.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.languages import did_you_mean
from hybrid_bench.sources import RemoteFile, resolve, sha256_of

__all__ = [
    "Collection",
    "Judgments",
    "LareqaSource",
    "PassageText",
    "Passages",
    "Queries",
    "clusters",
    "load_lareqa",
    "text_id",
]


T = TypeVar("T")


class PassageText(StrEnum):
    """What text stands for a candidate sentence."""

    SENTENCE = "sentence"
    #: The sentence followed by its whole paragraph, the two inputs that LAReQA's own models read.
    SENTENCE_CONTEXT = "sentence+context"


@dataclass(frozen=True)
class Passages:
    """The candidates of one language, in ascending order of id (compared as UTF-8 bytes)."""

    language: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Judgments:
    """Relevant passages of the queries of one language, as parallel columns, sorted by query.

    Attributes:
        query: int32, position of the query in its `Queries`.
        language: int16, position of the passage's language in `Collection.languages`.
        passage: int32, position of the passage in the `Passages` of that language.
        gain: int32, relevance grade, at least 1.
    """

    query: NDArray[np.int32]
    language: NDArray[np.int16]
    passage: NDArray[np.int32]
    gain: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True)
class Queries:
    """The queries asked in one language.

    Attributes:
        ids: One id per query, unique in the collection.
        question_ids: The id of the question in every language.
        texts: What is asked.
        judgments: The relevant passages, in every language that has one.
    """

    language: str
    ids: tuple[str, ...]
    question_ids: tuple[str, ...]
    texts: tuple[str, ...]
    judgments: Judgments

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Collection:
    """Parallel queries and passages in several languages.

    Attributes:
        name: Name of the collection, e.g. ``XQuAD-R``.
        languages: Codes of its languages, in the order of the data set.
        passages: Candidates by language.
        queries: Queries by language.
        paragraph_cluster: Cluster of each question id by shared paragraph, numbered from 0.
        article_cluster: The same by shared article; coarser.
        revision: Commit or version of the source.
        sha256: Hash over the files the collection was read from, and over how their texts were formed.
    """

    name: str
    languages: tuple[str, ...]
    passages: Mapping[str, Passages]
    queries: Mapping[str, Queries]
    paragraph_cluster: Mapping[str, int]
    article_cluster: Mapping[str, int]
    revision: str
    sha256: str

    def language_index(self, code: str) -> int:
        """Position of a language in `languages`; `RequestError` if the collection does not have it."""
        if code not in self.languages:
            raise RequestError(f"{self.name} has no language '{code}': {did_you_mean(code, self.languages)}")
        return self.languages.index(code)

    @cached_property
    def id_ranks(self) -> Mapping[str, NDArray[np.int32]]:
        """By language: place of each passage among all passages of the collection in ascending order of id.

        Comparing these numbers is comparing the ids as UTF-8 bytes, the rule by which trec_eval breaks ties.
        """
        everything = [passage.encode() for code in self.languages for passage in self.passages[code].ids]
        order = sorted(range(len(everything)), key=everything.__getitem__)
        place = np.empty(len(everything), dtype=np.int32)
        place[order] = np.arange(len(everything), dtype=np.int32)
        ends = np.cumsum([len(self.passages[code]) for code in self.languages])
        return dict(zip(self.languages, np.split(place, ends[:-1]), strict=True))


def text_id(collection: str, language: str, original: str) -> str:
    """The id of a text of one of our collections: ``<8 hex>.<language>.<original id>``.

    Ids break ties between equal scores. Were the language the first thing in them, ties would favour a language; the
    leading hash of (collection, language, original id) makes the order arbitrary but fixed. It also keeps apart the
    ids that collide between languages.
    """
    digest = hashlib.sha256(f"{collection}\t{language}\t{original}".encode()).hexdigest()
    return f"{digest[:8]}.{language}.{original}"


def clusters(groups: Iterable[Iterable[str]]) -> dict[str, int]:
    """Connected components of ids that share a group: id -> component, numbered from 0 in order of appearance.

    Groups are, for instance, the questions of one paragraph in one language; with the groups of all languages given,
    two questions are together when they share a paragraph in *any* language.
    """
    parent: dict[str, str] = {}

    def root(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for group in groups:
        first: str | None = None
        for item in group:
            parent.setdefault(item, item)
            if first is None:
                first = item
            else:
                parent[root(item)] = root(first)
    numbers: dict[str, int] = {}
    return {item: numbers.setdefault(root(item), len(numbers)) for item in parent}


# ---------------------------------------------------------------------------------------------------------------
# LAReQA's format: SQuAD with sentence breaks
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LareqaSource:
    """Where a collection in LAReQA's format comes from, and what it must hold.

    Attributes:
        collection: Name of the collection.
        revision: Commit or version that the files are pinned to.
        files: One JSON file per language code.
        candidates: Published number of candidate sentences by language, asserted on load.
        questions: Published number of questions by language, asserted on load.
        root: Folder of the files when they ship with the package; None when they are downloaded or given.
        notice: What a user of the data has to be told, e.g. about their licence.
    """

    collection: str
    revision: str
    files: Mapping[str, RemoteFile]
    candidates: Mapping[str, int]
    questions: Mapping[str, int]
    root: Path | None = None
    notice: str = ""


@dataclass(frozen=True)
class _Question:
    id: str
    text: str
    paragraph: int
    article: int
    passage: str  # original id of the candidate that holds the answer


@dataclass(frozen=True)
class _File:
    """One language's file, checked."""

    candidates: dict[str, str]  # original id -> text
    questions: list[_Question]


def load_lareqa(
    source: LareqaSource, data_dir: Path | None = None, passage: PassageText = PassageText.SENTENCE
) -> Collection:
    """The collection that LAReQA's rules make of a source.

    A candidate is every entry of ``sentence_breaks``, without deduplication or stripping; relevant is the one whose
    ``[start, end)`` holds the answer's start. A query's relevant passages in all languages are linked by question id.

    Args:
        source: Files and the counts they must give.
        data_dir: The user's data folder; None for the cache (with download).
        passage: What text stands for a candidate.

    Returns:
        The collection, the same object for the same arguments within a process.

    Raises:
        DataError: If a file is missing, changed, malformed, or gives other counts than published.
    """
    return _load_lareqa(_Hashable(source), data_dir, PassageText(passage))


class _Hashable:
    """A source as a cache key: compared by all that decides what is read, and whether it is accepted."""

    def __init__(self, source: LareqaSource) -> None:
        self.source = source
        files = tuple((code, file.path, file.sha256) for code, file in source.files.items())
        counts = tuple((source.candidates[code], source.questions[code]) for code in source.files)
        self.key = (source.collection, source.revision, files, counts, source.root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=4)
def _load_lareqa(key: _Hashable, data_dir: Path | None, passage: PassageText) -> Collection:
    source = key.source
    name = source.collection
    codes = tuple(source.files)
    if source.root is not None:
        paths = {code: source.root / file.path for code, file in source.files.items()}
        for code, path in paths.items():
            if not path.is_file() or sha256_of(path) != source.files[code].sha256:
                raise DataError(f"{path}: missing or changed, though it ships with hybrid_bench: reinstall the package")
    else:
        local = resolve(list(source.files.values()), data_dir)
        paths = {code: local[file.path] for code, file in source.files.items()}
    files = {code: _read_lareqa(path, passage) for code, path in paths.items()}
    for code, file in files.items():
        for what, found, expected in (
            ("candidate sentences", len(file.candidates), source.candidates[code]),
            ("questions", len(file.questions), source.questions[code]),
        ):
            if found != expected:
                raise DataError(f"{paths[code]}: {found} {what}, but {name} has {expected} in '{code}'")

    passages: dict[str, Passages] = {}
    place: dict[str, dict[str, int]] = {}  # language -> original id -> position in Passages
    for code, file in files.items():
        ids = {original: text_id(name, code, original) for original in file.candidates}
        ordered = sorted(file.candidates, key=lambda original: ids[original].encode())
        place[code] = {original: position for position, original in enumerate(ordered)}
        passages[code] = Passages(
            language=code,
            ids=tuple(ids[original] for original in ordered),
            texts=tuple(file.candidates[original] for original in ordered),
        )
    answers: dict[str, list[tuple[int, int]]] = defaultdict(list)  # question id -> (language, passage)
    for index, code in enumerate(codes):
        for question in files[code].questions:
            answers[question.id].append((index, place[code][question.passage]))
    queries = {}
    for code, file in files.items():
        ids_of = [question.id for question in file.questions]
        rows = [(row, *answer) for row, question_id in enumerate(ids_of) for answer in answers[question_id]]
        columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
        queries[code] = Queries(
            language=code,
            ids=tuple(text_id(name, code, question_id) for question_id in ids_of),
            question_ids=tuple(ids_of),
            texts=tuple(question.text for question in file.questions),
            judgments=Judgments(
                query=columns[:, 0].astype(np.int32),
                language=columns[:, 1].astype(np.int16),
                passage=columns[:, 2].astype(np.int32),
                gain=np.ones(len(columns), dtype=np.int32),
            ),
        )
    digest = hashlib.sha256("\n".join([passage, *(source.files[code].sha256 for code in codes)]).encode())
    return Collection(
        name=name,
        languages=codes,
        passages=passages,
        queries=queries,
        paragraph_cluster=clusters(_groups(files.values(), "paragraph")),
        article_cluster=clusters(_groups(files.values(), "article")),
        revision=source.revision,
        sha256=digest.hexdigest(),
    )


def _groups(files: Iterable[_File], level: str) -> Iterator[list[str]]:
    """The question ids of each paragraph (or article) of each file."""
    for file in files:
        together: dict[int, list[str]] = defaultdict(list)
        for question in file.questions:
            together[getattr(question, level)].append(question.id)
        yield from together.values()


def _read_lareqa(path: Path, passage: PassageText) -> _File:
    """One file, checked field by field; `DataError` names the place of the first thing that is wrong."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error}); it may be truncated: fetch it again") from error
    candidates: dict[str, str] = {}
    questions: list[_Question] = []
    seen: set[str] = set()
    paragraph_number = 0
    for article_number, article in enumerate(_field(data, "data", list, str(path))):
        where_article = f"{path}: data[{article_number}]"
        for index, paragraph in enumerate(_field(article, "paragraphs", list, where_article)):
            where = f"{where_article}.paragraphs[{index}]"
            context = _field(paragraph, "context", str, where)
            breaks = _sentence_breaks(_field(paragraph, "sentence_breaks", list, where), context, where)
            for position, (start, end) in enumerate(breaks):
                sentence = context[start:end]
                text = sentence if passage is PassageText.SENTENCE else f"{sentence} {context}"
                candidates[f"{paragraph_number}-{position}"] = text
            for qa_index, qa in enumerate(_field(paragraph, "qas", list, where)):
                where_qa = f"{where}.qas[{qa_index}]"
                question_id = _field(qa, "id", str, where_qa)
                if question_id in seen:
                    raise DataError(f"{where_qa}: question id '{question_id}' occurs twice")
                seen.add(question_id)
                position = _answer_sentence(qa, breaks, context, where_qa)
                questions.append(
                    _Question(
                        id=question_id,
                        text=_field(qa, "question", str, where_qa),
                        paragraph=paragraph_number,
                        article=article_number,
                        passage=f"{paragraph_number}-{position}",
                    )
                )
            paragraph_number += 1
    return _File(candidates, questions)


_KINDS = {list: "a list", str: "a string", int: "an integer"}


def _field(holder: Any, name: str, kind: type[T], where: str) -> T:
    if not isinstance(holder, dict):
        raise DataError(f"{where}: should be an object with '{name}', found {_short(holder)}")
    if name not in holder:
        raise DataError(f"{where}: '{name}' is missing, found only {', '.join(map(repr, holder)) or 'an empty object'}")
    value = holder[name]
    if not isinstance(value, kind):
        raise DataError(f"{where}: '{name}' should be {_KINDS[kind]}, found {_short(value)}")
    return value


def _short(value: Any) -> str:
    """A wrong value as it stands in the file, cut so that the message stays one line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _sentence_breaks(breaks: Sequence[Any], context: str, where: str) -> list[tuple[int, int]]:
    """The breaks as [start, end) pairs of code points, each within the paragraph."""
    pairs = []
    for entry in breaks:
        match entry:
            case [int(start), int(end)] if 0 <= start < end <= len(context):
                pairs.append((start, end))
            case _:
                raise DataError(
                    f"{where}: sentence break {_short(entry)} is not a [start, end) within {len(context)} characters"
                )
    return pairs


def _answer_sentence(qa: Any, breaks: Sequence[tuple[int, int]], context: str, where: str) -> int:
    """Position of the one sentence whose [start, end) holds the answer's start."""
    answers = _field(qa, "answers", list, where)
    if not answers:
        raise DataError(f"{where}: 'answers' is empty")
    start = _field(answers[0], "answer_start", int, f"{where}.answers[0]")
    text = _field(answers[0], "text", str, f"{where}.answers[0]")
    holders = [position for position, (begin, end) in enumerate(breaks) if begin <= start < end]
    if len(holders) != 1:
        raise DataError(
            f"{where}: the answer starts at {start}, which {len(holders)} of the {len(breaks)} sentences hold "
            f"(paragraph of {len(context)} characters)"
        )
    if not context.startswith(text, start):
        raise DataError(
            f"{where}: the answer {_short(text)} is not what stands at {start}: {_short(context[start:][: len(text)])}"
        )
    return holders[0]
