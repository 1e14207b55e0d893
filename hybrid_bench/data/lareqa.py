"""Collections in LAReQA's format: SQuAD with sentence breaks, one file per language (arXiv 2004.05484).

Everything is checked on the way: a file that does not hold what its format promises raises `DataError` with the place
and the value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection as Some
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from hybrid_bench.data.collection import (
    Collection,
    DataOptions,
    Judgments,
    Passages,
    PassageText,
    Queries,
    clusters,
    text_id,
)
from hybrid_bench.data.files import RemoteFile, resolve
from hybrid_bench.data.hashing import sha256_of, sha256_of_lines
from hybrid_bench.data.parsing import read_json
from hybrid_bench.errors import DataError, reason, shown

__all__ = ["LareqaReader", "load_lareqa", "read_lareqa"]

T = TypeVar("T")


@dataclass(frozen=True)
class LareqaReader:
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

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, in the order of the files."""
        return tuple(self.files)

    def load(self, options: DataOptions, languages: Some[str] | None = None) -> Collection:
        """The collection. All languages are read: a query's relevant passages stand in all of them."""
        return load_lareqa(self, options.data_dir, options.passage)

    def sha256(self, options: DataOptions, languages: Some[str] | None = None) -> Mapping[str, str]:
        """Hashes of the files, by language."""
        return self.load(options).sha256

    def saved_options(self, options: DataOptions, subsets: Some[str]) -> Mapping[str, str]:
        """Which text stands for a candidate, unless it is the sentence."""
        return {} if options.passage is PassageText.SENTENCE else {"passage": str(options.passage)}

    def missing(self, options: DataOptions, subset: str) -> str | None:
        """None: every subset can be run."""
        return None


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
    source: LareqaReader, data_dir: Path | None = None, passage: PassageText = PassageText.SENTENCE
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

    def __init__(self, source: LareqaReader) -> None:
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
    files = {code: read_lareqa(path, passage) for code, path in paths.items()}
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
    answers: dict[str, list[tuple[int, int]]] = defaultdict(list)  # question id -> (part, passage)
    for index, code in enumerate(codes):
        for question in files[code].questions:
            answers[question.id].append((index, place[code][question.passage]))
    queries = {}
    for code, file in files.items():
        ids_of = [question.id for question in file.questions]
        rows = [(row, *answer, 1) for row, question_id in enumerate(ids_of) for answer in answers[question_id]]
        queries[code] = Queries(
            language=code,
            ids=tuple(text_id(name, code, question_id) for question_id in ids_of),
            question_ids=tuple(ids_of),
            texts=tuple(question.text for question in file.questions),
            judgments=Judgments.of(rows),
        )
    digest = sha256_of_lines([passage, *(source.files[code].sha256 for code in codes)])
    return Collection(
        name=name,
        passages=passages,
        queries=queries,
        paragraph_cluster=clusters(_groups(files.values(), "paragraph")),
        article_cluster=clusters(_groups(files.values(), "article")),
        revision=source.revision,
        # Judgments join all files, so each part depends on all of them.
        sha256=dict.fromkeys(codes, digest),
    )


def _groups(files: Iterable[_File], level: str) -> Iterator[list[str]]:
    """The question ids of each paragraph (or article) of each file."""
    for file in files:
        together: dict[int, list[str]] = defaultdict(list)
        for question in file.questions:
            together[getattr(question, level)].append(question.id)
        yield from together.values()


def read_lareqa(path: Path, passage: PassageText) -> _File:
    """One file, checked field by field; `DataError` names the place of the first thing that is wrong."""
    try:
        data = read_json(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error
    except ValueError as error:
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
        raise DataError(f"{where}: should be an object with '{name}', found {shown(holder)}")
    if name not in holder:
        raise DataError(f"{where}: '{name}' is missing, found only {', '.join(map(repr, holder)) or 'an empty object'}")
    value = holder[name]
    if not isinstance(value, kind):
        raise DataError(f"{where}: '{name}' should be {_KINDS[kind]}, found {shown(value)}")
    return value


def _sentence_breaks(breaks: Sequence[Any], context: str, where: str) -> list[tuple[int, int]]:
    """The breaks as [start, end) pairs of code points, each within the paragraph."""
    pairs = []
    for entry in breaks:
        match entry:
            case [int(start), int(end)] if 0 <= start < end <= len(context):
                pairs.append((start, end))
            case _:
                raise DataError(
                    f"{where}: sentence break {shown(entry)} is not a [start, end) within {len(context)} characters"
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
            f"{where}: the answer {shown(text)} is not what stands at {start}: {shown(context[start:][: len(text)])}"
        )
    return holders[0]
