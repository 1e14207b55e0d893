"""LAReQA's format: the real XQuAD-R against an independent reading of its files, and what is said of broken files."""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_bench.data.collection import Collection, DataOptions, PassageText, text_id
from hybrid_bench.data.files import RemoteFile
from hybrid_bench.data.lareqa import LareqaReader, load_lareqa
from hybrid_bench.errors import DataError, RequestError

#: The table published with the data (LAReQA, arXiv 2004.05484): candidate sentences of XQuAD-R.
PUBLISHED = {
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


# -- the real XQuAD-R ---------------------------------------------------------------------------------------------


def xquad_r_source() -> LareqaReader:
    source = importlib.import_module("hybrid_bench.tasks.xquad_r").READER
    assert isinstance(source, LareqaReader)
    return source


@pytest.fixture(scope="module")
def collection(data_dir: Path) -> Collection:
    return load_lareqa(xquad_r_source(), data_dir)


class RawQuestion(NamedTuple):
    """A question as its file has it; paragraph and article are positions in the file."""

    text: str
    paragraph: int
    article: int
    start: int
    answer: str


class RawFile(NamedTuple):
    """One language's file, read without any of the code under test."""

    contexts: list[str]
    breaks: list[list[list[int]]]
    questions: dict[str, RawQuestion]


@pytest.fixture(scope="module")
def raw(data_dir: Path) -> dict[str, RawFile]:
    return {code: read_raw(data_dir / "xquad-r" / f"{code}.json") for code in PUBLISHED}


def read_raw(path: Path) -> RawFile:
    contexts: list[str] = []
    breaks: list[list[list[int]]] = []
    questions: dict[str, RawQuestion] = {}
    for number, article in enumerate(json.loads(path.read_bytes())["data"]):
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                (answer,) = qa["answers"]
                where = (len(contexts), number, answer["answer_start"])
                questions[qa["id"]] = RawQuestion(qa["question"], *where, answer["text"])
            contexts.append(paragraph["context"])
            breaks.append(paragraph["sentence_breaks"])
    return RawFile(contexts, breaks, questions)


def test_counts_are_the_published_ones(collection: Collection) -> None:
    assert collection.name == "XQuAD-R"
    assert {code: len(collection.passages[code]) for code in collection.parts} == PUBLISHED
    assert sum(len(passages.texts) for passages in collection.passages.values()) == 13_014
    assert {code: len(queries) for code, queries in collection.queries.items()} == dict.fromkeys(PUBLISHED, 1190)
    assert list(collection.passages) == list(collection.queries) == list(collection.parts) == list(collection.languages)
    assert collection.parts == xquad_r_source().languages
    assert all(collection.passages[code].language == code for code in collection.parts)
    assert all(collection.queries[code].language == code for code in collection.parts)
    assert all(passages.titles is None for passages in collection.passages.values())
    assert all(queries.excluded is None for queries in collection.queries.values())
    assert collection.notes == ()


def test_the_counts_asked_for_are_the_published_ones() -> None:
    source = xquad_r_source()
    assert dict(source.candidates) == PUBLISHED
    assert dict(source.questions) == dict.fromkeys(PUBLISHED, 1190)
    assert source.revision == "9bc8c7fb6dd8d01d72a05a93c2cb96882b0d299c"
    assert all(f"/{source.revision}/xquad-r/{code}.json" in file.url for code, file in source.files.items())


def test_every_passage_is_its_slice_of_the_paragraph(collection: Collection, raw: dict[str, RawFile]) -> None:
    for code, file in raw.items():
        expected = {
            text_id("XQuAD-R", code, f"{number}-{position}"): context[start:end]
            for number, (context, breaks) in enumerate(zip(file.contexts, file.breaks, strict=True))
            for position, (start, end) in enumerate(breaks)
        }
        passages = collection.passages[code]
        assert dict(zip(passages.ids, passages.texts, strict=True)) == expected


def test_queries_are_the_questions_of_the_file(collection: Collection, raw: dict[str, RawFile]) -> None:
    for code, file in raw.items():
        queries = collection.queries[code]
        assert queries.question_ids == tuple(file.questions)
        assert queries.texts == tuple(question.text for question in file.questions.values())
        assert queries.ids == tuple(text_id("XQuAD-R", code, question_id) for question_id in file.questions)


def test_every_question_has_in_every_language_the_one_passage_that_holds_its_answer(
    collection: Collection, raw: dict[str, RawFile]
) -> None:
    n = len(PUBLISHED)
    running_on = 0
    for code in collection.parts:
        queries = collection.queries[code]
        judged = queries.judgments
        assert len(judged) == n * 1190
        np.testing.assert_array_equal(judged.query, np.repeat(np.arange(1190), n))
        np.testing.assert_array_equal(judged.part, np.tile(np.arange(n), 1190))
        assert (judged.gain == 1).all()
        assert [a.dtype for a in (judged.query, judged.part, judged.passage, judged.gain)] == [
            np.int32,
            np.int16,
            np.int32,
            np.int32,
        ]
        for query, part, passage in zip(
            judged.query.tolist(), judged.part.tolist(), judged.passage.tolist(), strict=True
        ):
            other = collection.parts[part]
            file = raw[other]
            question = file.questions[queries.question_ids[query]]
            paragraph, position = original_of(collection.passages[other].ids[passage])
            begin, end = file.breaks[paragraph][position]
            assert paragraph == question.paragraph
            assert begin <= question.start < end
            rest = collection.passages[other].texts[passage][question.start - begin :]
            if not rest.startswith(question.answer):
                assert question.answer.startswith(rest)  # it runs on into the next sentence
                running_on += 1
    assert running_on == 112 * n  # asked in n languages each


def original_of(passage_id: str) -> tuple[int, int]:
    paragraph, position = passage_id.split(".", 2)[2].split("-")
    return int(paragraph), int(position)


def test_question_ids_are_the_same_in_every_language(collection: Collection) -> None:
    ids = {frozenset(queries.question_ids) for queries in collection.queries.values()}
    assert len(ids) == 1
    assert len(ids.pop()) == 1190


def test_ids_begin_with_a_hash_and_are_unique(collection: Collection) -> None:
    passage_ids = [passage for passages in collection.passages.values() for passage in passages.ids]
    query_ids = [query for queries in collection.queries.values() for query in queries.ids]
    assert len(set(passage_ids) | set(query_ids)) == len(passage_ids) + len(query_ids) == 13_014 + 11 * 1190
    for name in passage_ids + query_ids:
        prefix, code, original = name.split(".", 2)
        digest = hashlib.sha256(b"\t".join([b"XQuAD-R", code.encode(), original.encode()])).hexdigest()
        assert prefix == digest[:8]
        assert code in PUBLISHED
    assert all(re.fullmatch(r"[0-9a-f]{8}\.[a-z]{2}\.\d+-\d+", name) for name in passage_ids)
    for code in collection.parts:
        in_language = (*collection.passages[code].ids, *collection.queries[code].ids)
        assert {name.split(".")[1] for name in in_language} == {code}


def test_passages_stand_in_the_order_of_their_ids_as_bytes(collection: Collection) -> None:
    for passages in collection.passages.values():
        encoded = [passage.encode() for passage in passages.ids]
        assert encoded == sorted(encoded)


def test_id_ranks_are_the_places_of_the_ids_among_all(collection: Collection) -> None:
    everything = sorted(passage.encode() for passages in collection.passages.values() for passage in passages.ids)
    place = {passage: number for number, passage in enumerate(everything)}
    ranks = collection.id_ranks(collection.parts)
    assert ranks.tolist() == [
        place[passage.encode()] for code in collection.parts for passage in collection.passages[code].ids
    ]
    assert ranks.dtype == np.int32


def test_the_order_of_ids_favours_no_language(collection: Collection) -> None:
    """Ties are broken by id: a language's mean place is that of a random draw, within 4 standard errors."""
    total = 13_014
    ends = np.cumsum([len(passages) for passages in collection.passages.values()])
    for ranks in np.split(collection.id_ranks(collection.parts), ends[:-1]):
        n = len(ranks)
        error = np.sqrt((total + 1) * (total - n) / (12 * n))  # of the mean of n places drawn without replacement
        assert abs(ranks.mean() - (total - 1) / 2) < 4 * error


def test_clusters_are_the_240_paragraphs_and_48_articles(collection: Collection, raw: dict[str, RawFile]) -> None:
    paragraphs, articles = collection.paragraph_cluster, collection.article_cluster
    assert set(paragraphs.values()) == set(range(240))
    assert set(articles.values()) == set(range(48))
    for file in raw.values():  # the same in every language
        assert set(paragraphs) == set(articles) == set(file.questions)
        pairs = {(paragraphs[question], file.questions[question].paragraph) for question in file.questions}
        assert len(pairs) == 240
        pairs = {(articles[question], file.questions[question].article) for question in file.questions}
        assert len(pairs) == 48


def test_identical_sentences_keep_their_own_ids(collection: Collection) -> None:
    within = {code: Counter(passages.texts) for code, passages in collection.passages.items()}
    copies = {code: sum(count - 1 for count in counted.values()) for code, counted in within.items()}
    assert sum(copies.values()) > 0  # else this test shows nothing
    for code, passages in collection.passages.items():
        assert len(set(passages.ids)) == len(passages.texts) == len(within[code]) + copies[code]


def test_sentence_and_context(collection: Collection, raw: dict[str, RawFile], data_dir: Path) -> None:
    with_context = load_lareqa(xquad_r_source(), data_dir, PassageText.SENTENCE_CONTEXT)
    for code, passages in with_context.passages.items():
        sentences = collection.passages[code]
        assert passages.ids == sentences.ids
        for passage, text, sentence in zip(passages.ids, passages.texts, sentences.texts, strict=True):
            assert text == f"{sentence} {raw[code].contexts[original_of(passage)[0]]}"
    assert with_context.queries["de"].texts == collection.queries["de"].texts
    assert with_context.revision == collection.revision
    assert list(collection.sha256) == list(with_context.sha256) == list(collection.parts)
    for code in collection.parts:
        assert re.fullmatch(r"[0-9a-f]{64}", collection.sha256[code])
        assert with_context.sha256[code] != collection.sha256[code]


def test_loaded_once_in_a_process(data_dir: Path) -> None:
    assert load_lareqa(xquad_r_source(), data_dir) is load_lareqa(xquad_r_source(), data_dir)


def test_part_index(collection: Collection) -> None:
    assert [collection.part_index(code) for code in collection.parts] == list(range(11))
    with pytest.raises(RequestError, match="XQuAD-R has no 'enn': did you mean 'en'"):
        collection.part_index("enn")


def test_as_a_source(collection: Collection, data_dir: Path) -> None:
    """What a task asks of any source."""
    source = xquad_r_source()
    options, other = DataOptions(data_dir=data_dir), DataOptions(data_dir, PassageText.SENTENCE_CONTEXT)
    loaded = source.load(options)
    assert loaded is source.load(options, ["de"])
    assert loaded.sha256 == collection.sha256
    assert source.load(other) is load_lareqa(source, data_dir, PassageText.SENTENCE_CONTEXT)
    for chosen in (options, other):
        assert source.sha256(chosen, ["de"]) == source.sha256(chosen) == source.load(chosen).sha256
        assert source.missing(chosen, "de-en") is None
    assert source.saved_options(options, ["de-en", "de"]) == {}
    assert source.saved_options(other, ["de-en", "de"]) == {"passage": "sentence+context"}


# -- small files, right and wrong ---------------------------------------------------------------------------------

#: Two paragraphs of one article; in the second, the first two sentences read the same.
TINY: dict[str, Any] = {
    "version": "1",
    "data": [
        {
            "title": "Sea",
            "paragraphs": [
                {
                    "context": "The sea is wide. It is salt.",
                    "sentence_breaks": [[0, 16], [17, 28]],
                    "qas": [
                        {"id": "q1", "question": "What is wide?", "answers": [{"answer_start": 4, "text": "sea"}]},
                        {
                            "id": "q2",
                            "question": "How does it taste?",
                            "answers": [{"answer_start": 23, "text": "salt"}],
                        },
                    ],
                },
                {
                    "context": "Yes. Yes. No 🐟 there.",
                    "sentence_breaks": [[0, 4], [5, 9], [10, 21]],
                    "qas": [
                        {"id": "q3", "question": "What is not there?", "answers": [{"answer_start": 13, "text": "🐟"}]}
                    ],
                },
            ],
        }
    ],
}


def source_of(
    folder: Path, contents: dict[str, bytes], candidates: int = 5, questions: int = 3, root: Path | None = None
) -> LareqaReader:
    """Files with these bytes in a folder, and a source that is pinned to them."""
    files = {}
    for code, content in contents.items():
        (folder / f"{code}.json").write_bytes(content)
        files[code] = RemoteFile(f"{code}.json", f"http://localhost:9/{code}.json", hashlib.sha256(content).hexdigest())
    return LareqaReader(
        "Tiny", "1", files, dict.fromkeys(contents, candidates), dict.fromkeys(contents, questions), root
    )


def as_bytes(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def test_tiny(tmp_path: Path) -> None:
    tiny = load_lareqa(source_of(tmp_path, {"en": as_bytes(TINY)}), tmp_path)
    texts = dict(zip((original_of(name) for name in tiny.passages["en"].ids), tiny.passages["en"].texts, strict=True))
    # Breaks count code points, and equal sentences are candidates of their own.
    sentences = ["The sea is wide.", "It is salt.", "Yes.", "Yes.", "No 🐟 there."]
    assert texts == dict(zip([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)], sentences, strict=True))
    queries = tiny.queries["en"]
    answers = [tiny.passages["en"].texts[place] for place in queries.judgments.passage]
    assert dict(zip(queries.question_ids, answers, strict=True)) == {
        "q1": "The sea is wide.",
        "q2": "It is salt.",
        "q3": "No 🐟 there.",
    }
    assert tiny.paragraph_cluster == {"q1": 0, "q2": 0, "q3": 1}
    assert tiny.article_cluster == {"q1": 0, "q2": 0, "q3": 0}


def test_a_question_may_lack_in_a_language_and_paragraphs_may_differ(tmp_path: Path) -> None:
    """As in MLQA-R: joined over the languages, and judged only where there is an answer."""
    german = copy.deepcopy(TINY)
    first, second = german["data"][0]["paragraphs"]
    moved = first["qas"].pop()  # q2 into the second paragraph
    second["qas"] = [{**moved, "answers": [{"answer_start": 0, "text": "Yes"}]}]  # and q3 out
    contents = {"de": as_bytes(german), "en": as_bytes(TINY)}
    source = source_of(tmp_path, contents)
    source = LareqaReader(source.collection, source.revision, source.files, source.candidates, {"de": 2, "en": 3})
    found = load_lareqa(source, tmp_path)
    english = found.queries["en"]
    languages_of = {
        question: [
            found.parts[part]
            for query, part in zip(english.judgments.query, english.judgments.part, strict=True)
            if english.question_ids[query] == question
        ]
        for question in english.question_ids
    }
    assert languages_of == {"q1": ["de", "en"], "q2": ["de", "en"], "q3": ["en"]}
    assert len(found.queries["de"].judgments) == 4
    assert dict(found.paragraph_cluster) == {"q1": 0, "q2": 0, "q3": 1}  # q1 and q2 share one in English


def test_the_hash_of_a_part_is_over_all_files(tmp_path: Path) -> None:
    """Judgments join the languages: a question that goes from one file changes what is relevant to those of another."""
    loaded = load_lareqa(source_of(tmp_path, {"de": as_bytes(TINY), "en": as_bytes(TINY)}), tmp_path)
    changed = {"de": as_bytes({**TINY, "version": "2"}), "en": as_bytes(TINY)}
    other = load_lareqa(source_of(tmp_path, changed), tmp_path)
    assert set(loaded.sha256) == set(other.sha256) == {"de", "en"}
    assert all(loaded.sha256[code] != other.sha256[code] for code in ("de", "en"))


def broken(change: Callable[[Any], object]) -> bytes:
    """The tiny file after a change to its data."""
    document = copy.deepcopy(TINY)
    change(document)
    return as_bytes(document)


def paragraph(document: Any, number: int = 0) -> Any:
    return document["data"][0]["paragraphs"][number]


def answer(document: Any) -> Any:
    return paragraph(document)["qas"][1]["answers"][0]


BREAKS = "data[0].paragraphs[0]: sentence break {} is not a [start, end) within 28 characters"
ANSWER = "data[0].paragraphs[0].qas[1]: the answer starts at {}, which {} of the {} sentences hold (paragraph of 28"
#: The file's content, and what the message must say of it.
BAD: dict[str, tuple[bytes, str]] = {
    "truncated": (
        as_bytes(TINY)[:200],
        "not a JSON file (Unterminated string starting at: line 1 column 193 (char 192)); it may be truncated",
    ),
    "not JSON": (b"<html>404</html>", "not a JSON file (Expecting value: line 1 column 1"),
    "not UTF-8": (b'{"data": "\xff"}', "not a JSON file (not UTF-8 (invalid start byte at byte 10)"),
    "nested without end": (b"[" * 200_000, "not a JSON file ("),
    "a list on top": (b"[1, 2]", "should be an object with 'data', found [1, 2]"),
    "a string on top": (b'"' + b"x" * 500 + b'"', "should be an object with 'data', found \"" + "x" * 59 + "..."),
    "another object on top": (b'{"date": []}', "'data' is missing, found only 'date'"),
    "data not a list": (b'{"data": {"a": 1}}', "'data' should be a list, found {\"a\": 1}"),
    "data null": (b'{"data": null}', "'data' should be a list, found null"),
    "an article not an object": (b'{"data": ["Sea"]}', "data[0]: should be an object with 'paragraphs', found \"Sea\""),
    "no paragraphs": (b'{"data": [{}]}', "data[0]: 'paragraphs' is missing, found only an empty object"),
    "no context": (
        broken(lambda d: paragraph(d, 1).pop("context")),
        "data[0].paragraphs[1]: 'context' is missing, found only 'sentence_breaks', 'qas'",
    ),
    "no breaks": (
        broken(lambda d: paragraph(d).pop("sentence_breaks")),
        "data[0].paragraphs[0]: 'sentence_breaks' is missing",
    ),
    "no qas": (broken(lambda d: paragraph(d).pop("qas")), "data[0].paragraphs[0]: 'qas' is missing"),
    "no id": (broken(lambda d: paragraph(d)["qas"][1].pop("id")), "data[0].paragraphs[0].qas[1]: 'id' is missing"),
    "id not a text": (
        broken(lambda d: paragraph(d)["qas"][1].update(id=7)),
        "data[0].paragraphs[0].qas[1]: 'id' should be a string, found 7",
    ),
    "no question": (
        broken(lambda d: paragraph(d)["qas"][1].pop("question")),
        "data[0].paragraphs[0].qas[1]: 'question' is missing",
    ),
    "no answers": (
        broken(lambda d: paragraph(d)["qas"][1].pop("answers")),
        "data[0].paragraphs[0].qas[1]: 'answers' is missing",
    ),
    "empty answers": (
        broken(lambda d: paragraph(d)["qas"][1].update(answers=[])),
        "data[0].paragraphs[0].qas[1]: 'answers' is empty",
    ),
    "no answer_start": (
        broken(lambda d: answer(d).pop("answer_start")),
        "data[0].paragraphs[0].qas[1].answers[0]: 'answer_start' is missing, found only 'text'",
    ),
    "answer_start not a number": (
        broken(lambda d: answer(d).update(answer_start="23")),
        "data[0].paragraphs[0].qas[1].answers[0]: 'answer_start' should be an integer, found \"23\"",
    ),
    "break beyond the paragraph": (
        broken(lambda d: paragraph(d)["sentence_breaks"].append([20, 29])),
        BREAKS.format("[20, 29]"),
    ),
    "break before the paragraph": (
        broken(lambda d: paragraph(d)["sentence_breaks"].append([-3, 5])),
        BREAKS.format("[-3, 5]"),
    ),
    "break backwards": (
        broken(lambda d: paragraph(d)["sentence_breaks"].append([9, 9])),
        BREAKS.format("[9, 9]"),
    ),
    "break of one number": (
        broken(lambda d: paragraph(d)["sentence_breaks"].append([9])),
        BREAKS.format("[9]"),
    ),
    "break of texts": (
        broken(lambda d: paragraph(d)["sentence_breaks"].append("ab")),
        BREAKS.format('"ab"'),
    ),
    "answer outside the paragraph": (
        broken(lambda d: answer(d).update(answer_start=28)),
        ANSWER.format(28, 0, 2),
    ),
    "answer before the paragraph": (
        broken(lambda d: answer(d).update(answer_start=-5)),
        ANSWER.format(-5, 0, 2),
    ),
    "answer between two sentences": (
        broken(lambda d: answer(d).update(answer_start=16)),
        ANSWER.format(16, 0, 2),
    ),
    "answer in two sentences": (
        broken(lambda d: paragraph(d)["sentence_breaks"].append([20, 28])),
        ANSWER.format(23, 2, 3),
    ),
    "answer that runs out of the paragraph": (
        broken(lambda d: answer(d).update(text="salt. And more")),
        'data[0].paragraphs[0].qas[1]: the answer "salt. And more" is not what stands at 23: "salt."',
    ),
    "answer that stands elsewhere": (
        broken(lambda d: answer(d).update(answer_start=24)),
        'data[0].paragraphs[0].qas[1]: the answer "salt" is not what stands at 24: "alt."',
    ),
    "question twice": (
        broken(lambda d: paragraph(d, 1)["qas"][0].update(id="q1")),
        "data[0].paragraphs[1].qas[0]: question id 'q1' occurs twice",
    ),
    "a sentence too few": (
        broken(lambda d: paragraph(d, 1)["sentence_breaks"].pop(0)),
        "4 candidate sentences, but Tiny has 5 in 'en'",
    ),
    "a question too few": (
        broken(lambda d: paragraph(d, 1)["qas"].pop()),
        "2 questions, but Tiny has 3 in 'en'",
    ),
    "no article": (b'{"data": []}', "0 candidate sentences, but Tiny has 5 in 'en'"),
    "empty file": (b"", "is empty (0 bytes)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(name: str, tmp_path: Path) -> None:
    content, expected = BAD[name]
    source = source_of(tmp_path, {"de": as_bytes(TINY), "en": content})
    with pytest.raises(DataError) as caught:
        load_lareqa(source, tmp_path)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "en.json"))
    assert expected in message
    assert "\n" not in message


def test_missing_language_file(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"de": as_bytes(TINY), "en": as_bytes(TINY)})
    (tmp_path / "en.json").unlink()
    with pytest.raises(
        DataError, match=rf"^--data-dir {re.escape(str(tmp_path))} lacks 1 of 2 files: en\.json; [^\n]+$"
    ):
        load_lareqa(source, tmp_path)


def test_changed_file(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"de": as_bytes(TINY), "en": as_bytes(TINY)})
    changed = as_bytes({**TINY, "version": "2"})
    (tmp_path / "en.json").write_bytes(changed)
    expected, found = (hashlib.sha256(content).hexdigest()[:12] for content in (as_bytes(TINY), changed))
    with pytest.raises(DataError) as caught:
        load_lareqa(source, tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / 'en.json'} is not the pinned file (expected sha256 {expected}, found {found}): fetch it again"
    )


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_harmed_file_of_the_package(harm: str, tmp_path: Path) -> None:
    source = source_of(tmp_path, {"en": as_bytes(TINY)}, root=tmp_path)
    path = tmp_path / "en.json"
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(as_bytes({**TINY, "version": "2"}))
    with pytest.raises(DataError, match=rf"^{re.escape(str(path))}: missing or changed, .*: reinstall the package$"):
        load_lareqa(source, None)


def test_files_of_the_package_need_no_data_folder(tmp_path: Path) -> None:
    source = source_of(tmp_path, {"en": as_bytes(TINY)}, root=tmp_path)
    assert len(load_lareqa(source, tmp_path / "nothing here").passages["en"]) == 5


def test_what_was_loaded_is_not_taken_for_another_source(tmp_path: Path) -> None:
    contents = {"de": as_bytes(TINY), "en": as_bytes(TINY)}
    source = source_of(tmp_path, contents)
    loaded = load_lareqa(source, tmp_path)
    swapped = LareqaReader(
        source.collection,
        source.revision,
        {"el": source.files["de"], "en": source.files["en"]},
        {"el": 5, "en": 5},
        {"el": 3, "en": 3},
    )
    assert loaded.parts == loaded.languages == ("de", "en")
    assert load_lareqa(swapped, tmp_path).parts == ("el", "en")
    with pytest.raises(DataError, match="5 candidate sentences, but Tiny has 6 in 'de'"):
        load_lareqa(source_of(tmp_path, contents, candidates=6), tmp_path)


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_any_text_comes_through_as_it_stands(paragraphs: list[list[str]]) -> None:
    """Sentences of any characters, glued without anything between: sliced back exactly, each question to its own."""
    entries = []
    for number, sentences in enumerate(paragraphs):
        ends = np.cumsum([len(sentence) for sentence in sentences]).tolist()
        breaks = [[end - len(sentence), end] for sentence, end in zip(sentences, ends, strict=True)]
        qas = [
            {"id": f"{number}/{place}", "question": "?", "answers": [{"answer_start": breaks[place][0], "text": text}]}
            for place, text in enumerate(sentences)
        ]
        entries.append({"context": "".join(sentences), "sentence_breaks": breaks, "qas": qas})
    n = sum(len(sentences) for sentences in paragraphs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = source_of(folder, {"en": as_bytes({"data": [{"paragraphs": entries}]})}, n, n)
        found = load_lareqa(source, folder)
    queries = found.queries["en"]
    texts = [found.passages["en"].texts[place] for place in queries.judgments.passage]
    assert texts == [sentence for sentences in paragraphs for sentence in sentences]
    assert len(set(found.paragraph_cluster.values())) == len(paragraphs)
    assert set(found.article_cluster.values()) == {0}
