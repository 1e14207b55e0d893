"""The overlap guard: which training rows stand in an evaluation collection, so that zero-shot is checked, not claimed.

Every source is compared with every collection of the project that can be read:

- Texts are compared letter by letter in a normal form (NFKC, case-folded, without punctuation and space), each query
  and passage of a source with each question, passage and, where passages are sentences, paragraph of a collection,
  whatever the languages: a sentence may be a query here and a passage there.
- What is not the same may be similar: the Jaccard index of the two sets of three-letter sequences. MinHash (Broder,
  1997) finds the candidates, and the index itself is then computed, so that nothing is reported by estimate.
- Where a source knows them, ids of questions are compared, and articles by all their titles: titles are localised, and
  articles are joined between languages by question id. All questions of an article that a collection has too are
  dropped, in all languages.

A row is dropped whole, in all its languages, if any of its texts is found. Hard negatives are not compared: what is
never shown as an answer is not learned as one. Nor are parts of a passage: a paragraph that contains an evaluation
sentence among others is found by its article only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection as Some
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybrid_bench.data.collection import Collection, Column, DataOptions, take
from hybrid_bench.data.files import unasked
from hybrid_bench.data.hashing import splitmix64
from hybrid_bench.data.lareqa import LareqaReader
from hybrid_bench.data.miracl import MiraclReader
from hybrid_bench.data.normal_form import normal_form
from hybrid_bench.errors import DataError, RequestError, first_line
from hybrid_bench.languages import did_you_mean
from hybrid_bench.progress import Progress
from hybrid_bench.training.sources import SourceTexts, collection_files, lareqa_articles
from hybrid_bench.training.texts import ParallelTexts

__all__ = [
    "THRESHOLD",
    "EvaluationTexts",
    "Example",
    "Overlap",
    "OverlapKind",
    "OverlapReport",
    "compare",
    "evaluation_texts",
    "guard",
    "normal_form",
]

THRESHOLD = 0.7
"""Jaccard index from which two texts are similar. Between XQuAD-R and MLQA-R, whose questions were written apart, no
two questions reach it; the nearest, at .66, differ in a name."""

_BANDS, _PER_BAND = 40, 5  # 1 - (1 - j^5)^40: a pair with the index 0.7 is found with a probability of .9994
_SEED = 20_240_820
_AT_ONCE = 4096  # texts of a source that are compared together
_WHOLE = 200_000  # a language with more passages is compared by the relevant ones alone
_EXAMPLES = 3  # kept of each kind
_SHOWN = 90  # letters of an example


class OverlapKind(StrEnum):
    """What a training row has in common with a collection."""

    QUESTION = "same question"
    PASSAGE = "same passage"
    SIMILAR_QUESTION = "similar question"
    SIMILAR_PASSAGE = "similar passage"
    QUESTION_ID = "same question id"
    ARTICLE = "same article"


class Example(NamedTuple):
    """One case of an overlap.

    Attributes:
        row: Row of the source.
        training: What stands there: a text, an id, or the titles of an article.
        evaluation: What it was found to be.
        similarity: Jaccard index; 1 for what is the same.
    """

    row: int
    training: str
    evaluation: str
    similarity: float


@dataclass(frozen=True)
class Overlap:
    """What one source has in common with one collection, of one kind.

    Attributes:
        source: Name of the source.
        collection: Name of the collection.
        kind: What it is.
        rows: int64, rows of the source, ascending.
        found: How many distinct questions, passages, ids or articles of the collection they meet.
        examples: Some of them.
    """

    source: str
    collection: str
    kind: OverlapKind
    rows: NDArray[np.int64]
    found: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class OverlapReport:
    """What sources have in common with collections.

    Attributes:
        overlaps: Every kind that was found, by source and collection.
        sizes: Rows of each source, before any is dropped.
        compared: By collection, what of it was compared.
        not_compared: By collection, why it was not.
        dropped: Whether the rows were dropped.
        threshold: From which Jaccard index texts are similar.
    """

    overlaps: tuple[Overlap, ...]
    sizes: Mapping[str, int]
    compared: Mapping[str, str]
    not_compared: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False
    threshold: float = THRESHOLD

    def rows(self, source: str) -> NDArray[np.int64]:
        """Rows of a source that have anything in common with any collection, ascending."""
        found = [overlap.rows for overlap in self.overlaps if overlap.source == source]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def briefly(self) -> OverlapReport:
        """Without advice for whoever trains, which names folders of this machine."""
        reasons = {
            name: reason.partition(";")[0].partition(" from http")[0] for name, reason in self.not_compared.items()
        }
        return replace(self, not_compared=reasons)

    def as_dict(self) -> dict[str, Any]:
        """All of it but the row numbers, as JSON takes it."""
        return {
            "sources": {name: {"rows": size, "overlap": len(self.rows(name))} for name, size in self.sizes.items()},
            "overlaps": [
                {
                    "source": overlap.source,
                    "collection": overlap.collection,
                    "kind": str(overlap.kind),
                    "rows": len(overlap.rows),
                    "found": overlap.found,
                    "examples": [example._asdict() for example in overlap.examples],
                }
                for overlap in self.overlaps
            ],
            "compared": dict(self.compared),
            "not_compared": dict(self.not_compared),
            "dropped": self.dropped,
            "threshold": self.threshold,
        }

    def to_markdown(self, *, examples: bool = True) -> str:
        """The report in words, for a model card."""
        total = sum(len(self.rows(name)) for name in self.sizes)
        compared = "; ".join(f"{name} ({what})" for name, what in self.compared.items()) or "nothing"
        parts = [
            f"Training data were compared with evaluation collections: {compared}. Texts count as similar from a"
            f" Jaccard index of {self.threshold:g} of their three-letter sequences. Hard negatives are not compared,"
            " and a passage that holds an evaluation passage among other sentences is found by its article only."
        ]
        if self.not_compared:
            reasons = "; ".join(f"{name} ({reason})" for name, reason in self.not_compared.items())
            parts.append(f"**Not compared**, so that nothing is known of zero-shot results there: {reasons}.")
        if not total:
            parts += ["No overlap was found."] if self.compared else []
            return "\n\n".join(parts)
        done = "dropped" if self.dropped else "**kept**: results on these collections are not zero-shot"
        shares = ", ".join(
            f"{len(self.rows(name)):,} of {size:,} of {name}"
            for name, size in self.sizes.items()
            if len(self.rows(name))
        )
        parts.append(f"Rows that overlap were {done}: {shares}.")
        table = ["| source | collection | in common | rows | evaluation items |", "|---|---|---|---:|---:|"]
        table += [
            f"| {overlap.source} | {overlap.collection} | {overlap.kind} | {len(overlap.rows):,} | {overlap.found:,} |"
            for overlap in self.overlaps
        ]
        parts.append("\n".join(table))
        if examples:
            parts.append(
                "\n".join(
                    f"- {overlap.source} row {example.row}, {overlap.kind} as in {overlap.collection}:"
                    f" {_cut(example.training)}"
                    + (f" / {_cut(example.evaluation)}" if example.evaluation != example.training else "")
                    + (f" ({example.similarity:.2f})" if example.similarity < 1 else "")
                    for overlap in self.overlaps
                    for example in overlap.examples
                )
            )
        return "\n\n".join(parts)


def _cut(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


@dataclass(frozen=True)
class EvaluationTexts:
    """What of a collection must not stand in training data.

    Attributes:
        collection: Its name.
        questions: Its questions in all languages.
        passages: Its passages in all languages.
        question_ids: Ids of its questions, where they are the same in other data from the same origin; else empty.
        titles: Titles of its articles, in all languages.
        about: What this is of the whole, for the report.
        by_paragraph: Whether some of its paragraphs are asked and others trained on: a source that is the same
            collection then shares its articles, as was asked for.
    """

    collection: str
    questions: tuple[str, ...]
    passages: tuple[str, ...] = ()
    question_ids: frozenset[str] = frozenset()
    titles: frozenset[str] = frozenset()
    about: str = ""
    by_paragraph: bool = False

    @classmethod
    def of(
        cls,
        collection: Collection,
        *,
        questions: Some[str] | None = None,
        question_ids: bool = False,
        titles: Mapping[str, frozenset[str]] | None = None,
        paragraphs: Mapping[str, Sequence[str]] | None = None,
    ) -> EvaluationTexts:
        """Of a collection.

        Args:
            collection: The collection.
            questions: Ids of the questions that are asked in an evaluation; None for all. With some only, passages are
                those that are relevant to them: the others are no secret.
            question_ids: Whether ids tell that a question is the same in other data.
            titles: By question id, the titles of its article, where the collection's passages do not have them.
            paragraphs: By question id, the paragraphs that its answers are from, where passages are sentences: other
                data may have these as passages.
        """
        part_sizes = [len(part) for part in collection.passages.values()]
        relevant: list[set[int]] = [set() for _ in part_sizes]
        asked: list[str] = []
        ids: set[str] = set()
        for queries in collection.queries.values():
            chosen = np.array([questions is None or each in questions for each in queries.question_ids], np.bool_)
            asked += [text for text, taken in zip(queries.texts, chosen.tolist(), strict=True) if taken]
            ids |= {each for each, taken in zip(queries.question_ids, chosen.tolist(), strict=True) if taken}
            judged = queries.judgments
            counts = chosen[judged.query] & (judged.passage >= 0)
            for part, passage in zip(judged.part[counts].tolist(), judged.passage[counts].tolist(), strict=True):
                relevant[part].add(passage)
        passages: list[str] = []
        found: set[str] = set()
        whole = True
        for part, rows in zip(collection.passages.values(), relevant, strict=True):
            places = np.array(sorted(rows), np.int64)
            if part.titles is not None:
                found.update(take(part.titles, places))
            if questions is None and len(part) <= _WHOLE:
                passages += part.texts
            else:
                passages += take(part.texts, places)
                whole = False
        for each in ids:
            found |= (titles or {}).get(each, frozenset())
        found.discard("")
        around = dict.fromkeys(text for each in sorted(ids) for text in (paragraphs or {}).get(each, ()))
        counted = [
            f"{len(asked):,} questions",
            f"{len(passages):,} passages{'' if whole else ' that are relevant'}",
            *([f"{len(around):,} paragraphs"] if around else []),
            f"{len(found):,} titles of articles",
        ]
        return cls(
            collection=collection.name,
            questions=tuple(asked),
            passages=(*passages, *around),
            question_ids=frozenset(ids) if question_ids else frozenset(),
            titles=frozenset(found),
            about=", ".join(counted),
        )


def evaluation_texts(
    data_dir: Path | None = None,
    collections: Sequence[str] = (),
    questions: Mapping[str, Some[str]] | None = None,
) -> tuple[tuple[EvaluationTexts, ...], dict[str, str]]:
    """The collections of the project, as far as they can be read here.

    Of MIRACL the questions are read, not its 106 million passages.

    Args:
        data_dir: The user's data folder, as for `run`.
        collections: Names of those that are wanted; each must be there. None given: all that are.
        questions: By collection, the ids of the questions that are asked, where these are not all.

    Returns:
        The texts, and by name why a collection could not be read.

    Raises:
        RequestError: There is no such collection.
        DataError: One that is asked for by name cannot be read.
    """
    from hybrid_bench.evaluation.registry import collections as known_collections  # mteb, which takes seconds

    known = {name: tasks[0].reader for name, tasks in known_collections().items()}
    for name in (*collections, *(questions or ())):
        if name not in known:
            raise RequestError(f"no collection '{name}' to compare training data with: {did_you_mean(name, known)}")
    texts, unread = [], {}
    for name in collections or known:
        try:
            with nullcontext() if collections else unasked():
                texts.append(_read(name, known[name], data_dir, (questions or {}).get(name)))
        except DataError as error:
            if collections:
                raise
            unread[name] = first_line(error)
    return tuple(texts), unread


def _read(name: str, source: Any, data_dir: Path | None, questions: Some[str] | None) -> EvaluationTexts:
    options = DataOptions(data_dir=data_dir)
    if isinstance(source, MiraclReader):
        asked = {code: source.topics(options, code) for code in source.languages}
        texts = tuple(text for topics in asked.values() for text in topics.values())
        return EvaluationTexts(name, texts, about=f"{len(texts):,} questions, no passages")
    collection = source.load(options)
    if not isinstance(source, LareqaReader):
        return EvaluationTexts.of(collection, questions=questions)
    articles = lareqa_articles(collection_files(source, data_dir))
    return EvaluationTexts.of(
        collection,
        questions=questions,
        question_ids=True,
        titles={each: articles.titles[number] for each, number in articles.number.items()},
        paragraphs=articles.paragraphs,
    )


def guard(
    sources: Sequence[ParallelTexts],
    evaluation: Sequence[EvaluationTexts] | None = None,
    *,
    data_dir: Path | None = None,
    collections: Sequence[str] = (),
    drop: bool = True,
    threshold: float = THRESHOLD,
) -> tuple[tuple[ParallelTexts, ...], OverlapReport]:
    """Compare sources with collections, and drop what they have in common.

    Args:
        sources: Training data.
        evaluation: What to compare them with; None for `evaluation_texts`, which the next two arguments are for.
        data_dir: The user's data folder.
        collections: Names of the collections. None given: all that can be read, but for those that are a source
            themselves, which the report then says.
        drop: Whether rows are dropped; else they are only reported.
        threshold: Jaccard index from which texts are similar, above 0, at most 1.

    Returns:
        The sources without the rows, and the report.

    Raises:
        RequestError: Nothing would be left of a source; see also `evaluation_texts` and `compare`.
        DataError: See `evaluation_texts`.
    """
    unread: dict[str, str] = {}
    if evaluation is None:
        evaluation, unread = evaluation_texts(data_dir, collections)
        own = {source.collection: source.name for source in sources if isinstance(source, SourceTexts)}
        if not collections:
            unread |= {
                each.collection: f"it is trained on, as {own[each.collection]}"
                for each in evaluation
                if each.collection in own
            }
            evaluation = [each for each in evaluation if each.collection not in own]
    report = compare(sources, evaluation, threshold=threshold, not_compared=unread, dropped=drop)
    if not drop:
        return tuple(sources), report
    kept: list[ParallelTexts] = []
    for source in sources:
        rows = report.rows(source.name)
        if len(rows) == len(source):
            names = dict.fromkeys(each.collection for each in report.overlaps if each.source == source.name)
            raise RequestError(
                f"{source.name}: each of its {len(source):,} rows is also in {', '.join(names)}, which it would be"
                " evaluated on: take another source, or leave the collection out of the comparison"
            )
        stays = np.ones(len(source), dtype=np.bool_)
        stays[rows] = False
        kept.append(source.select(stays) if len(rows) else source)
    return tuple(kept), report


def compare(
    sources: Sequence[ParallelTexts],
    evaluation: Sequence[EvaluationTexts],
    *,
    threshold: float = THRESHOLD,
    not_compared: Mapping[str, str] | None = None,
    dropped: bool = False,
) -> OverlapReport:
    """What sources have in common with collections.

    A source is read in pieces, and a text that many rows share is read once; what is held in memory is of the size of
    the collections.

    Args:
        sources: Training data, of different names.
        evaluation: The collections.
        threshold: Jaccard index from which texts are similar, above 0, at most 1.
        not_compared: Put into the report.
        dropped: Put into the report.

    Raises:
        RequestError: Two sources have one name, or the threshold is none.
    """
    if not 0 < threshold <= 1:  # not true of NaN either
        raise RequestError(f"threshold {threshold} is no Jaccard index of similar texts: give one above 0, at most 1")
    names = [source.name for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"two sources are named '{twice[0]}': give each a name of its own")
    index = _Index(evaluation, threshold)
    found: list[Overlap] = []
    for source in sources:
        found += _text_overlaps(source, index)
        found += _id_overlaps(source, evaluation)
    order = {kind: place for place, kind in enumerate(OverlapKind)}
    place_of = {each.collection: place for place, each in enumerate(evaluation)}
    found.sort(key=lambda each: (names.index(each.source), place_of[each.collection], order[each.kind]))
    return OverlapReport(
        overlaps=tuple(found),
        sizes={source.name: len(source) for source in sources},
        compared={each.collection: each.about for each in evaluation},
        not_compared=dict(not_compared or {}),
        dropped=dropped,
        threshold=threshold,
    )


# -- texts --------------------------------------------------------------------------------------------------------


class _Match(NamedTuple):
    """A text of a source that is one of a collection.

    Attributes:
        place: Position of the text among those that were asked for.
        entry: Position of the other in `_Index.entries`.
        similarity: Jaccard index; 1 where the normal forms are the same.
        same: Whether they are.
    """

    place: int
    entry: int
    similarity: float
    same: bool


class _Entry(NamedTuple):
    """A text of a collection, by position of the collection."""

    collection: int
    is_question: bool
    text: str


class _Index:
    """All texts of the collections: by their normal form, and by what MinHash makes of it.

    Texts of the same normal form are indexed once; one that has no letters is left out.
    """

    def __init__(self, evaluation: Sequence[EvaluationTexts], threshold: float) -> None:
        self.collections = [each.collection for each in evaluation]
        self.threshold = threshold
        self.entries: list[_Entry] = []
        by_form: dict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(evaluation):
            for is_question, texts in ((True, each.questions), (False, each.passages)):
                for text in texts:
                    if form := normal_form(text):
                        by_form[form].append(len(self.entries))
                        self.entries.append(_Entry(number, is_question, text))
        self._forms = list(by_form)
        self._entries_of = list(by_form.values())
        self._place_of = {form: place for place, form in enumerate(self._forms)}
        keys = np.concatenate(
            [_band_keys(piece) for piece in _pieces(self._forms)] or [np.empty((0, _BANDS), np.uint64)]
        )
        order = np.argsort(keys, axis=None, kind="stable")
        self._keys = keys.ravel()[order]
        self._owner = (order // _BANDS).astype(np.int32)

    def matches(self, texts: Sequence[str]) -> Iterator[_Match]:
        """All texts of the collections that these are the same as, or similar to."""
        forms = [normal_form(text) for text in texts]
        places = [place for place, form in enumerate(forms) if form]
        if not places or not self._forms:
            return
        keys = _band_keys([forms[place] for place in places]).ravel()
        low, high = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        hits = np.flatnonzero(low < high)
        candidates: dict[int, set[int]] = defaultdict(set)
        for hit in hits.tolist():
            candidates[places[hit // _BANDS]].update(self._owner[low[hit] : high[hit]].tolist())
        for place in places:
            form = forms[place]
            same = self._place_of.get(form)
            if same is not None:
                yield from (_Match(place, entry, 1.0, True) for entry in self._entries_of[same])
            for other in sorted(candidates.get(place, ())):
                if other != same and (similarity := _jaccard(form, self._forms[other])) >= self.threshold:
                    yield from (_Match(place, entry, similarity, False) for entry in self._entries_of[other])


def _pieces(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _sequences(form: str) -> set[str]:
    """Its three-letter sequences; of a shorter text, the text itself."""
    return {form[start : start + 3] for start in range(max(1, len(form) - 2))}


def _jaccard(one: str, other: str) -> float:
    """|A and B| / |A or B| of the sets of three-letter sequences."""
    a, b = _sequences(one), _sequences(other)
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def _band_keys(forms: Sequence[str]) -> NDArray[np.uint64]:
    """(m, bands): a number for each band of a text's MinHash signature; similar texts have some in common.

    A code point has 21 bits, so that three of them are one number, without collisions.
    """
    import rensa  # type: ignore[import-untyped] # has no types

    padded = [form.ljust(3, "\0") for form in forms]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    sequences = points[:-2] | points[1:-1] << np.uint64(21) | points[2:] << np.uint64(42)
    ends = np.cumsum(lengths)
    within = np.ones(len(points), dtype=np.bool_)  # not across two texts
    within[ends - 1] = within[ends - 2] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - 2)]).astype(np.uint64)
    hashes = splitmix64(sequences[within[:-2]])
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, _BANDS * _PER_BAND, _SEED)
    signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(len(forms), _BANDS, _PER_BAND)
    key = np.broadcast_to(np.arange(_BANDS, dtype=np.uint64), (len(forms), _BANDS))
    for place in range(_PER_BAND):
        key = splitmix64(key + signatures[:, :, place])
    return key


class _Found:
    """What was found of one kind: rows of the source, items of the collection, and some examples."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.int64]] = []
        self.items: set[str] = set()
        self.examples: list[Example] = []


def _text_overlaps(source: ParallelTexts, index: _Index) -> Iterator[Overlap]:
    """Overlaps of the texts of a source."""
    found: dict[tuple[int, OverlapKind], _Found] = defaultdict(_Found)
    columns: dict[int, tuple[Column, NDArray[np.bool_], list[Any]]] = {}
    for texts, mapping in ((source.queries, source.query_rows), (source.passages, source.passage_rows)):
        for column in texts.values():
            # The same column may be both, as in a source of sentences and their translations.
            _, used, mappings = columns.setdefault(id(column), (column, np.zeros(len(column), np.bool_), []))
            if not any(mapping is other for other in mappings):
                mappings.append(mapping)
                used[slice(None) if mapping is None else mapping[mapping >= 0]] = True
    total = sum(int(used.sum()) for _, used, _ in columns.values())
    with Progress(total, f"{source.name}: overlap", "texts") as bar:
        for column, used, mappings in columns.values():
            _compare_column(column, np.flatnonzero(used), mappings, index=index, found=found, advance=bar.update)
    for (number, kind), each in found.items():
        rows = np.unique(np.concatenate(each.rows))
        yield Overlap(source.name, index.collections[number], kind, rows, len(each.items), tuple(each.examples))


def _compare_column(
    column: Column,
    places: NDArray[np.int64],
    mappings: Sequence[Any],
    *,
    index: _Index,
    found: dict[tuple[int, OverlapKind], _Found],
    advance: Any,
) -> None:
    """Look for the texts at these places of a column; `mappings` say which rows read them."""
    hits: dict[tuple[int, OverlapKind], list[tuple[int, int, float, str]]] = defaultdict(list)
    for start in range(0, len(places), _AT_ONCE):
        piece = places[start : start + _AT_ONCE]
        texts = column.take(piece)
        for match in index.matches(texts):
            entry = index.entries[match.entry]
            question, passage = (
                (OverlapKind.QUESTION, OverlapKind.PASSAGE)
                if match.same
                else (OverlapKind.SIMILAR_QUESTION, OverlapKind.SIMILAR_PASSAGE)
            )
            kind = question if entry.is_question else passage
            hits[entry.collection, kind].append(
                (int(piece[match.place]), match.entry, match.similarity, texts[match.place])
            )
        advance(len(piece))
    for key, matched in hits.items():
        each = found[key]
        flagged = np.zeros(len(column) + 1, np.bool_)  # one more: a row that has no text reads place -1
        flagged[[place for place, *_ in matched]] = True
        for mapping in mappings:
            each.rows.append(np.flatnonzero(flagged[:-1] if mapping is None else flagged[mapping]))
        each.items.update(normal_form(index.entries[number].text) for _, number, _, _ in matched)
        for place, number, similarity, text in matched[: _EXAMPLES - len(each.examples)]:
            each.examples.append(Example(_first_row(place, mappings), text, index.entries[number].text, similarity))


def _first_row(place: int, mappings: Sequence[Any]) -> int:
    """The first row that reads a place of a column."""
    rows = (place if mapping is None else next(iter(np.flatnonzero(mapping == place)), None) for mapping in mappings)
    return int(next(row for row in rows if row is not None))


# -- ids and articles ---------------------------------------------------------------------------------------------


def _id_overlaps(source: ParallelTexts, evaluation: Iterable[EvaluationTexts]) -> Iterator[Overlap]:
    """Overlaps by question id and by article, of a source that knows them."""
    if not isinstance(source, SourceTexts):
        return
    forms = [{normal_form(title) for title in titles} - {""} for titles in source.titles]
    for each in evaluation:
        if source.question_ids is not None and each.question_ids:
            rows = [row for row, question_id in enumerate(source.question_ids) if question_id in each.question_ids]
            ids = take(source.question_ids, np.array(rows, np.int64))
            examples = tuple(Example(row, i, i, 1.0) for row, i in zip(rows[:_EXAMPLES], ids, strict=False))
            if rows:
                found = len(set(ids))
                yield Overlap(
                    source.name, each.collection, OverlapKind.QUESTION_ID, np.array(rows, np.int64), found, examples
                )
        if source.article is None or not each.titles:
            continue
        if each.by_paragraph and source.collection == each.collection:
            continue
        titles = {normal_form(title): title for title in sorted(each.titles)}
        shared = {number: sorted(form & titles.keys()) for number, form in enumerate(forms) if form & titles.keys()}
        of_row = np.flatnonzero(np.isin(source.article, list(shared)))
        if len(of_row):
            numbers, first = np.unique(source.article[of_row], return_index=True)
            examples = tuple(
                Example(
                    int(of_row[row]),
                    " = ".join(sorted(source.titles[number])),
                    titles[shared[number][0]],
                    1.0,
                )
                for number, row in list(zip(numbers.tolist(), first.tolist(), strict=True))[:_EXAMPLES]
            )
            yield Overlap(source.name, each.collection, OverlapKind.ARTICLE, of_row, len(numbers), examples)
