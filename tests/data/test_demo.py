"""The demo collection that ships with the package: format, parallelism, and what can be told about its language."""

from __future__ import annotations

import importlib
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regex

import hybrid_bench
from hybrid_bench.data.lareqa import LareqaReader, load_lareqa

FOLDER = Path(hybrid_bench.__file__).parent / "demo"
#: Script by language.
SCRIPTS = {
    "ar": "Arabic",
    "de": "Latin",
    "el": "Greek",
    "en": "Latin",
    "es": "Latin",
    "hi": "Devanagari",
    "ru": "Cyrillic",
    "th": "Thai",
    "tr": "Latin",
    "vi": "Latin",
    "zh": "Han",
}
#: What sentences and questions end with. Thai has no such mark.
ENDS = dict.fromkeys(SCRIPTS, (".", "?")) | {
    "ar": (".", "؟"),
    "el": (".", ";"),
    "hi": ("।", "?"),
    "zh": ("。", "？"),
}
#: Letters that a text of this length in the language can hardly do without.
LETTERS = {"de": "äöüß", "es": "áéíóúñ", "tr": "ığşçöü", "vi": "ăâđêôơư", "ar": "ةى", "el": "ςάέ", "ru": "ыёэъ"}


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def paragraphs(document: Any) -> list[Any]:
    return [paragraph for article in document["data"] for paragraph in article["paragraphs"]]


def questions(document: Any) -> list[Any]:
    return [qa for paragraph in paragraphs(document) for qa in paragraph["qas"]]


def texts(document: Any) -> Iterator[str]:
    """Every text that a person reads: titles, contexts, sentences, questions and answers."""
    for article in document["data"]:
        yield article["title"]
    for paragraph in paragraphs(document):
        yield paragraph["context"]
        yield from paragraph["sentences"]
    for qa in questions(document):
        yield qa["question"]
        yield qa["answers"][0]["text"]


def test_it_has_the_languages_of_xquad_r(documents: dict[str, Any]) -> None:
    xquad_r = importlib.import_module("hybrid_bench.tasks.xquad_r").READER
    assert sorted(documents) == sorted(SCRIPTS) == sorted(xquad_r.files)


@pytest.mark.parametrize("code", SCRIPTS)
def test_size(code: str, documents: dict[str, Any]) -> None:
    assert len(paragraphs(documents[code])) >= 40
    assert {len(paragraph["sentences"]) for paragraph in paragraphs(documents[code])} <= {2, 3, 4}
    assert len(questions(documents[code])) >= 80
    assert all(paragraph["qas"] for paragraph in paragraphs(documents[code]))


@pytest.mark.parametrize("code", SCRIPTS)
def test_it_is_parallel_by_id(code: str, documents: dict[str, Any]) -> None:
    def structure(document: Any) -> list[list[list[str]]]:
        return [
            [[qa["id"] for qa in paragraph["qas"]] for paragraph in article["paragraphs"]]
            for article in document["data"]
        ]

    assert structure(documents[code]) == structure(documents["en"])
    ids = [qa["id"] for qa in questions(documents[code])]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("code", SCRIPTS)
def test_breaks_slice_the_sentences(code: str, documents: dict[str, Any]) -> None:
    for paragraph in paragraphs(documents[code]):
        context, breaks = paragraph["context"], paragraph["sentence_breaks"]
        assert [context[start:end] for start, end in breaks] == paragraph["sentences"]
        # Nothing is left out between them but one space, in Chinese not even that.
        assert ("" if code == "zh" else " ").join(paragraph["sentences"]) == context
        assert [sentence.strip() for sentence in paragraph["sentences"]] == paragraph["sentences"]


@pytest.mark.parametrize("code", SCRIPTS)
def test_every_answer_stands_at_its_offset_within_one_sentence(code: str, documents: dict[str, Any]) -> None:
    for paragraph in paragraphs(documents[code]):
        for qa in paragraph["qas"]:
            (answer,) = qa["answers"]
            start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
            assert answer["text"].strip() == answer["text"] != ""
            assert paragraph["context"][start:end] == answer["text"], qa["id"]
            inside = [begin <= start and end <= stop for begin, stop in paragraph["sentence_breaks"]]
            assert inside.count(True) == 1, qa["id"]


@pytest.mark.parametrize("code", SCRIPTS)
def test_texts_are_nfc_and_clean(code: str, documents: dict[str, Any]) -> None:
    for text in texts(documents[code]):
        assert unicodedata.is_normalized("NFC", text), text
        assert text == text.strip() != ""
        # No control or format characters, no replacement character, no run of spaces.
        assert not regex.search(r"[\p{C}\uFFFD]|\s{2}", text), text


@pytest.mark.parametrize("code", SCRIPTS)
def test_no_sentence_or_question_twice(code: str, documents: dict[str, Any]) -> None:
    sentences = [sentence for paragraph in paragraphs(documents[code]) for sentence in paragraph["sentences"]]
    asked = [qa["question"] for qa in questions(documents[code])]
    assert len(set(sentences)) == len(sentences)
    assert len(set(asked)) == len(asked)
    assert not set(sentences) & set(asked)


def test_no_text_was_left_untranslated(documents: dict[str, Any]) -> None:
    seen: dict[str, str] = {}
    for code, document in documents.items():
        for paragraph in paragraphs(document):
            for text in [*paragraph["sentences"], *(qa["question"] for qa in paragraph["qas"])]:
                assert seen.setdefault(text, code) == code, text


@pytest.mark.parametrize("code", SCRIPTS)
def test_letters_are_of_the_script(code: str, documents: dict[str, Any]) -> None:
    """At most one letter in ten of a text is of another script: Roman numbers of centuries, names of units."""
    own = regex.compile(rf"\p{{Script={SCRIPTS[code]}}}")
    for paragraph in paragraphs(documents[code]):
        for text in [*paragraph["sentences"], *(qa["question"] for qa in paragraph["qas"])]:
            letters = regex.findall(r"\p{L}", text)
            assert sum(bool(own.match(letter)) for letter in letters) >= 0.9 * len(letters) > 0, text


@pytest.mark.parametrize("code", LETTERS)
def test_letters_are_of_the_language(code: str, documents: dict[str, Any]) -> None:
    found = set("".join(texts(documents[code])))
    assert [letter for letter in LETTERS[code] if letter not in found] == []


@pytest.mark.parametrize("code", [code for code in SCRIPTS if code != "th"])
def test_sentences_and_questions_end_as_they_do_in_the_language(code: str, documents: dict[str, Any]) -> None:
    stop, mark = ENDS[code]
    for paragraph in paragraphs(documents[code]):
        assert {sentence[-1] for sentence in paragraph["sentences"]} == {stop}
        assert {qa["question"][-1] for qa in paragraph["qas"]} == {mark}
        if code == "es":
            assert all(qa["question"].count("¿") == 1 for qa in paragraph["qas"])


def test_it_loads_as_a_collection(documents: dict[str, Any]) -> None:
    source = importlib.import_module("hybrid_bench.tasks.demo").READER
    assert isinstance(source, LareqaReader)
    demo = load_lareqa(source)
    for code, document in documents.items():
        ids = [qa["id"] for qa in questions(document)]
        assert demo.queries[code].question_ids == tuple(ids)
        assert len(demo.queries[code].judgments) == len(SCRIPTS) * len(ids)
        assert sorted(demo.passages[code].texts) == sorted(
            sentence for paragraph in paragraphs(document) for sentence in paragraph["sentences"]
        )
    assert len(set(demo.paragraph_cluster.values())) == len(paragraphs(documents["en"]))
    assert len(set(demo.article_cluster.values())) == len(documents["en"]["data"])
