"""The overlap guard: on real data against brute force, and on small cases whose answer is plain to see."""

from __future__ import annotations

import json
import time
import tracemalloc
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from hybrid_bench.data.collection import Collection, Column, DataOptions, Judgments, Passages, Queries
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.evaluation.registry import collections
from hybrid_bench.training import overlap
from hybrid_bench.training.overlap import (
    EvaluationTexts,
    OverlapKind,
    OverlapReport,
    compare,
    evaluation_texts,
    guard,
    normal_form,
)
from hybrid_bench.training.sources import SourceSpec, SourceTexts
from hybrid_bench.training.texts import ParallelTexts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def evaluation(data_dir: Path) -> dict[str, EvaluationTexts]:
    """All collections of the project, by name."""
    texts, unread = evaluation_texts(data_dir)
    assert unread == {}
    return {each.collection: each for each in texts}


def column(texts: Sequence[str | None]) -> Column:
    return Column(pa.chunked_array([pa.array(texts, pa.string())]))


def source(name: str = "s", **texts: Sequence[str | None]) -> ParallelTexts:
    """Parallel texts of one chunk: ``query_en=[...], passage_en=[...]``."""
    roles: dict[str, dict[str, Column]] = {"query": {}, "passage": {}}
    for key, values in texts.items():
        role, code = key.split("_")
        roles[role][code] = column(values)
    return ParallelTexts(name, roles["query"], roles["passage"])


def found(report: OverlapReport, source: str, collection: str) -> dict[OverlapKind, list[int]]:
    return {
        each.kind: each.rows.tolist()
        for each in report.overlaps
        if (each.source, each.collection) == (source, collection)
    }


def mlqa_r(data_dir: Path) -> SourceTexts:
    return SourceSpec("mlqa", "lareqa", path=str(data_dir / "mlqa-r")).load()


# -- the normal form ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Where's the  River-bank?", "wherestheriverbank"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ﬁve ２０", "five20"),
        ("¿Cuál?", "cuál"),
        ("ひ、ト。", "ひト"),
        ("a\u200b\u00ad\n\tb", "ab"),
        ("Prime_number", "primenumber"),
        ("2 + 2 = $4", "2+2=$4"),
        ("«…»", ""),
        ("ΣΊΣΥΦΟΣ", normal_form("Σίσυφος")),
    ],
)
def test_normal_form(text: str, form: str) -> None:
    assert normal_form(text) == form
    assert normal_form(unicodedata.normalize("NFD", text)) == form
    assert normal_form(form) == form


# -- real data ------------------------------------------------------------------------------------------------------


def raw(folder: Path, codes: str = "*") -> tuple[list[str], list[str], dict[str, set[str]], dict[str, str]]:
    """Questions, sentences, the ids of each title, and the English title of each id, from the files as they are."""
    questions: list[str] = []
    sentences: list[str] = []
    ids_of: dict[str, set[str]] = {}
    english: dict[str, str] = {}
    for path in sorted(folder.glob(f"{codes}.json")):
        for article in json.loads(path.read_text())["data"]:
            for paragraph in article["paragraphs"]:
                sentences += [paragraph["context"][start:end] for start, end in paragraph["sentence_breaks"]]
                questions += [qa["question"] for qa in paragraph["qas"]]
                ids_of.setdefault(article["title"], set()).update(qa["id"] for qa in paragraph["qas"])
                if path.stem == "en":
                    english |= {qa["id"]: article["title"] for qa in paragraph["qas"]}
    return questions, sentences, ids_of, english


def similar(one: Sequence[str], other: Sequence[str], threshold: float) -> dict[tuple[str, str], float]:
    """All pairs of normal forms with this Jaccard index of their sets of three letters, by comparing all with all."""
    forms = [sorted({form for text in texts if (form := normal_form(text))}) for texts in (one, other)]
    vectorizer = CountVectorizer(
        analyzer=lambda form: {form[i : i + 3] for i in range(max(1, len(form) - 2))}, binary=True, dtype=np.float32
    )
    vectorizer.fit([*forms[0], *forms[1]])
    a, b = (vectorizer.transform(each).tocsr() for each in forms)
    sizes = [np.asarray(each.sum(axis=1)).ravel() for each in (a, b)]
    pairs: dict[tuple[str, str], float] = {}
    for start in range(0, a.shape[0], 2000):
        both = (a[start : start + 2000] @ b.T).tocoo()
        index = both.data / (sizes[0][start + both.row] + sizes[1][both.col] - both.data)
        near = index >= threshold
        for row, col, value in zip(both.row[near], both.col[near], index[near].tolist(), strict=True):
            pairs[forms[0][start + row], forms[1][col]] = value
    return pairs


def test_mlqa_r_against_xquad_r(data_dir: Path, evaluation: dict[str, EvaluationTexts]) -> None:
    """The three questions of the two shared articles, and nothing else but their texts."""
    training = mlqa_r(data_dir)
    start = time.perf_counter()
    (kept,), report = guard([training], [evaluation["XQuAD-R"]])
    assert time.perf_counter() - start < 20
    ids = list(training.question_ids or ())

    _, _, ids_of, english = raw(data_dir / "mlqa-r")
    _, _, titles, _ = raw(data_dir / "xquad-r")
    plain = {title.replace("_", " ") for title in titles}
    shared = {i for title, group in ids_of.items() if title in plain for i in group}
    assert {english[i] for i in shared} == {"Harvard University", "Prime number"}
    assert len(shared) == 3

    rows = found(report, "mlqa", "XQuAD-R")
    assert {ids[row] for row in rows[OverlapKind.ARTICLE]} == shared
    assert set(rows) == {OverlapKind.ARTICLE, OverlapKind.SIMILAR_PASSAGE}
    assert {ids[row] for row in rows[OverlapKind.SIMILAR_PASSAGE]} < shared
    assert isinstance(kept, SourceTexts)
    assert set(ids) - set(kept.question_ids or ()) == shared
    assert len(kept) == 1145
    for each in report.overlaps:
        assert each.found == {OverlapKind.ARTICLE: 2, OverlapKind.SIMILAR_PASSAGE: 1}[each.kind]


@pytest.mark.parametrize("codes", ["[hv]*", pytest.param("*", marks=pytest.mark.slow)])
def test_texts_of_mlqa_r_and_xquad_r_by_brute_force(codes: str, data_dir: Path) -> None:
    """All of MLQA-R's texts, its other sentences among them, each as a row; in Hindi and Vietnamese, and in all."""
    questions, sentences, *_ = raw(data_dir / "mlqa-r", codes)
    others = raw(data_dir / "xquad-r", codes)
    texts = list(dict.fromkeys([*questions, *sentences]))
    evaluation = EvaluationTexts("XQuAD-R", tuple(others[0]), tuple(others[1]))
    report = compare([source(query_en=texts, passage_en=texts)], [evaluation])
    rows = found(report, "s", "XQuAD-R")
    forms = [{normal_form(text) for text in each} - {""} for each in (*others[:2],)]
    for kind, exact in zip((OverlapKind.QUESTION, OverlapKind.PASSAGE), forms, strict=True):
        assert rows.get(kind, []) == [row for row, text in enumerate(texts) if normal_form(text) in exact]
    assert {normal_form(texts[row]) for row in rows[OverlapKind.PASSAGE]} == {"उद्धरणवांछित", "ए"}
    for kind, each in ((OverlapKind.SIMILAR_QUESTION, others[0]), (OverlapKind.SIMILAR_PASSAGE, others[1])):
        pairs = similar(texts, each, 0.7)
        wanted = {one for one, other in pairs if one != other}
        assert {normal_form(texts[row]) for row in rows.get(kind, [])} == wanted
    # What is told of the threshold: the nearest questions that are not the same.
    near = similar(questions, others[0], 0.5)
    assert 0.65 < max(near.values()) < 0.67
    assert len(near) == {"[hv]*": 2, "*": 4}[codes]


def test_similar_texts_are_found_like_by_brute_force(data_dir: Path) -> None:
    """XQuAD-R's questions in Arabic, Thai and Turkish among themselves: hundreds of pairs around the threshold."""
    questions, *_ = raw(data_dir / "xquad-r", "[at]*")
    for threshold, recall in ((0.6, 0.9), (0.7, 0.99), (0.8, 1.0)):
        index = overlap._Index([EvaluationTexts("x", tuple(questions))], threshold)
        pairs = {
            (normal_form(questions[each.place]), normal_form(index.entries[each.entry].text)): each.similarity
            for each in index.matches(questions)
            if not each.same
        }
        wanted = {pair: value for pair, value in similar(questions, questions, threshold).items() if len({*pair}) == 2}
        assert len(wanted) >= 30
        assert pairs.items() <= {pair: pytest.approx(value, abs=1e-6) for pair, value in wanted.items()}.items()
        assert len(pairs) >= recall * len(wanted)


def test_what_is_trained_on_the_collection_itself(data_dir: Path, evaluation: dict[str, EvaluationTexts]) -> None:
    training = SourceSpec("xquad", "lareqa", path=str(data_dir / "xquad-r"), languages=("de", "th")).load()
    xquad_r = evaluation["XQuAD-R"]
    report = compare([training], [xquad_r, evaluation["MLQA-R"]])
    rows = found(report, "xquad", "XQuAD-R")
    for kind in (OverlapKind.QUESTION, OverlapKind.PASSAGE, OverlapKind.QUESTION_ID, OverlapKind.ARTICLE):
        assert rows[kind] == list(range(1190))
    # The other way round: all questions of the two articles.
    assert len(found(report, "xquad", "MLQA-R")[OverlapKind.ARTICLE]) == 43
    with pytest.raises(RequestError, match="each of its 1,190 rows is also in XQuAD-R, which it would"):
        guard([training], [replace(xquad_r, questions=(), passages=())])


def test_paragraphs_of_a_collection_are_found_where_they_are_passages(
    data_dir: Path, evaluation: dict[str, EvaluationTexts]
) -> None:
    """Other data have whole paragraphs as passages, with other questions."""
    articles = json.loads((data_dir / "xquad-r" / "de.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]
    training = source(query_de=[f"Frage {row}" for row in range(len(paragraphs))], passage_de=paragraphs)
    report = compare([training], [evaluation["XQuAD-R"]])
    assert len(paragraphs) == 240
    assert found(report, "s", "XQuAD-R")[OverlapKind.PASSAGE] == list(range(240))
    assert "240 paragraphs" not in report.compared["XQuAD-R"]  # of one language: there are 11
    assert f"{11 * 240:,} paragraphs" in report.compared["XQuAD-R"]


def test_articles_that_the_parts_of_a_collection_share_are_no_licence_for_other_sources(
    data_dir: Path, evaluation: dict[str, EvaluationTexts]
) -> None:
    """Divided by paragraph, a collection shares its articles with itself alone."""
    divided = replace(evaluation["XQuAD-R"], questions=(), passages=(), question_ids=frozenset(), by_paragraph=True)
    mlqa = SourceSpec("mlqa", "lareqa", dataset="MLQA-R", languages=("de", "en")).load(data_dir)
    itself = SourceSpec("xquad", "lareqa", dataset="XQuAD-R", languages=("de", "en")).load(data_dir)
    report = compare([mlqa, itself], [divided])
    assert len(found(report, "mlqa", "XQuAD-R")[OverlapKind.ARTICLE]) == 3
    assert not len(report.rows("xquad"))


def test_ntrex_and_the_demo_have_nothing_in_common_with_any_collection(
    data_dir: Path, evaluation: dict[str, EvaluationTexts]
) -> None:
    ntrex = SourceSpec("ntrex", "ntrex", path=str(data_dir / "ntrex-128"), languages=("en", "hi", "ja")).load()
    demo = SourceSpec("demo", "lareqa", dataset="HybridDemo").load()
    others = [each for name, each in evaluation.items() if name != "HybridDemo"]
    report = compare([ntrex, demo], others)
    # The demo's articles are on subjects that others have too; its texts were written for it.
    assert {(each.source, each.kind) for each in report.overlaps} <= {("demo", OverlapKind.ARTICLE)}
    report = compare([ntrex], [evaluation["HybridDemo"]])
    assert not report.overlaps
    assert "No overlap was found." in report.to_markdown()


def test_a_topic_of_miracl_is_found(data_dir: Path, evaluation: dict[str, EvaluationTexts]) -> None:
    topics = (data_dir / "miracl" / "topics.miracl-v1.0-sw-dev.tsv").read_text().split("\n")
    text = topics[3].split("\t")[1]
    training = source(query_sw=["Nani?", text.upper()], passage_sw=["Huyu.", "Yule."])
    report = compare([training], [evaluation["MIRACL"]])
    assert found(report, "s", "MIRACL") == {OverlapKind.QUESTION: [1]}
    assert report.compared["MIRACL"] == "13,495 questions, no passages"


# -- which collections are compared ---------------------------------------------------------------------------------


def test_a_collection_that_is_trained_on_is_not_compared_but_named(data_dir: Path) -> None:
    training = SourceSpec("mlqa", "lareqa", dataset="MLQA-R").load(data_dir)
    (kept,), report = guard([training], data_dir=data_dir)
    assert len(kept) == 1145
    assert set(report.compared) == {"HybridDemo", "MIRACL", "XQuAD-R"}
    assert report.not_compared == {"MLQA-R": "it is trained on, as mlqa"}
    assert (
        "**Not compared**, so that nothing is known of zero-shot results there: MLQA-R (it is" in report.to_markdown()
    )
    with pytest.raises(RequestError, match="also in MLQA-R"):  # whoever asks for it gets it
        guard([training], data_dir=data_dir, collections=["MLQA-R"])


def test_only_the_questions_that_are_asked_count() -> None:
    """Trained on one part of the demo, evaluated on the other."""
    demo = collections()["HybridDemo"][0].reader.load(DataOptions())
    options = {"folds": 2, "fold": [0]}
    training = SourceSpec("demo", "lareqa", dataset="HybridDemo", options=options).load()
    held_out = {i for i, number in demo.paragraph_cluster.items() if number % 2 == 1}
    texts, _ = evaluation_texts(collections=["HybridDemo"], questions={"HybridDemo": held_out})
    assert texts[0].question_ids == held_out
    # In 11 languages a sentence for each question, and the paragraphs that they are from.
    assert len(texts[0].passages) <= 11 * (len(held_out) + len(held_out) // 2)
    report = compare([training], texts)
    assert {each.kind for each in report.overlaps} <= {OverlapKind.ARTICLE, OverlapKind.SIMILAR_QUESTION}
    whole, _ = evaluation_texts(collections=["HybridDemo"])
    assert OverlapKind.QUESTION in {each.kind for each in compare([training], whole).overlaps}


def test_where_nothing_was_compared_nothing_is_said_to_be_clean() -> None:
    training = SourceSpec("demo", "lareqa", dataset="HybridDemo", languages=("de", "en")).load()
    report = replace(compare([training], []), not_compared={"HybridDemo": "it is trained on, as demo"})
    assert "No overlap" not in report.to_markdown()
    assert "HybridDemo (it is trained on, as demo)" in report.to_markdown()


def test_what_cannot_be_read_is_said(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "xquad-r").symlink_to(data_dir / "xquad-r")
    texts, unread = evaluation_texts(tmp_path / "data")
    assert [each.collection for each in texts] == ["HybridDemo", "XQuAD-R"]
    assert set(unread) == {"MIRACL", "MLQA-R"}
    _, report = guard([source(query_en=["q"], passage_en=["p"])], data_dir=tmp_path / "data")
    assert report.not_compared == unread
    assert all(reason in report.to_markdown() for reason in unread.values())
    with pytest.raises(DataError):
        evaluation_texts(tmp_path / "data", ["MLQA-R"])
    with pytest.raises(RequestError, match="did you mean 'MLQA-R'"):
        evaluation_texts(tmp_path / "data", ["MLQAR"])


# -- small cases ----------------------------------------------------------------------------------------------------

QUESTION = "How long is the Danube from its source to the sea?"
PASSAGE = "The Danube is 2,850 kilometres long."
SMALL = EvaluationTexts(
    "small", (QUESTION,), (PASSAGE, "...", "", "Yes."), frozenset({"q7"}), frozenset({"The Danube"})
)


def test_every_kind_of_overlap() -> None:
    queries = [
        "how long is the danube from its source to the sea",
        "Else?",
        "How long is the Danube from the source to the sea?",
    ]
    passages = ["Nothing", PASSAGE.replace(",", ""), "...", "yes", PASSAGE.replace("0 ", "1 "), "", None]
    training = SourceTexts(
        "s",
        {"en": column([*queries, "a", "b", "c", "d"])},
        {"en": column(passages)},
        question_ids=("q1", "q2", "q3", "q4", "q5", "q6", "q7"),
        article=np.array([0, 0, 1, -1, 1, 0, 0], np.int32),
        titles=(frozenset({"Rhine"}), frozenset({"Donau", "the danube"})),
    )
    (kept,), report = guard([training], [SMALL])
    assert found(report, "s", "small") == {
        OverlapKind.QUESTION: [0],
        OverlapKind.PASSAGE: [1, 3],
        OverlapKind.SIMILAR_QUESTION: [2],
        OverlapKind.SIMILAR_PASSAGE: [4],
        OverlapKind.QUESTION_ID: [6],
        OverlapKind.ARTICLE: [2, 4],
    }
    assert report.rows("s").tolist() == [0, 1, 2, 3, 4, 6]
    assert isinstance(kept, SourceTexts)
    assert (len(kept), kept.question_ids) == (1, ("q6",))
    by_kind = {each.kind: each for each in report.overlaps}
    assert by_kind[OverlapKind.PASSAGE].found == 2
    assert by_kind[OverlapKind.ARTICLE].examples[0].training == "Donau = the danube"
    example = by_kind[OverlapKind.SIMILAR_QUESTION].examples[0]
    assert (example.row, example.training, example.evaluation) == (2, queries[2], QUESTION)
    a, b = (normal_form(text) for text in (queries[2], QUESTION))
    sets = [{text[i : i + 3] for i in range(len(text) - 2)} for text in (a, b)]
    assert example.similarity == len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_a_text_counts_in_either_role_and_any_language() -> None:
    training = source(
        query_de=["x", PASSAGE, "z"],
        query_en=["x", "y", "z"],
        passage_de=["1", "2", "3"],
        passage_en=["4", "5", QUESTION],
    )
    assert found(compare([training], [SMALL]), "s", "small") == {OverlapKind.PASSAGE: [1], OverlapKind.QUESTION: [2]}


def test_rows_that_read_a_text_by_number() -> None:
    texts = {"en": column(["unused " + PASSAGE, PASSAGE, "else", QUESTION])}
    training = ParallelTexts(
        "s",
        queries={"en": column(["a", "b"])},
        passages=texts,
        query_rows=np.array([0, 1, 0, 1, 0, 1], np.int32),
        passage_rows=np.array([2, 1, -1, 1, 2, 2], np.int32),
    )
    report = compare([training], [SMALL])
    assert found(report, "s", "small") == {OverlapKind.PASSAGE: [1, 3]}  # no row reads the question
    assert report.overlaps[0].examples[0].row == 1
    # One column in both roles, read by different numbers.
    both = replace(training, queries=texts, query_rows=np.array([2, 2, 2, 2, 3, 2], np.int32))
    assert report.sizes == {"s": 6}
    assert found(compare([both], [SMALL]), "s", "small") == {OverlapKind.PASSAGE: [1, 3], OverlapKind.QUESTION: [4]}
    (kept,), _ = guard([both], [SMALL])
    assert kept.texts("passage", "en", np.arange(3)) == ["else", "", "else"]


def test_rows_may_be_kept() -> None:
    training = source(query_en=["a", QUESTION], passage_en=["b", "c"])
    (same,), report = guard([training], [SMALL], drop=False)
    assert same is training
    assert not report.dropped
    assert "**kept**: results on these collections are not zero-shot: 1 of 2 of s." in report.to_markdown()


def test_the_report_in_words_and_as_json() -> None:
    training = source(query_en=["a|b " + "long " * 60, QUESTION], passage_en=["b", "c"])
    near = EvaluationTexts("other", ("a|b " + "long " * 40 + "end",), about="1 question")
    _, report = guard([training, source("t", query_en=["q"], passage_en=["p"])], [SMALL, replace(near)], drop=False)
    text = report.to_markdown()
    assert "| s | small | same question | 1 | 1 |" in text
    assert "a\\|b long" in text
    assert all(len(line) < 400 for line in text.split("\n"))
    assert "row 1" not in report.to_markdown(examples=False)
    assert json.loads(json.dumps(report.as_dict()))["sources"] == {
        "s": {"rows": 2, "overlap": 2},
        "t": {"rows": 1, "overlap": 0},
    }


def test_wrong_requests() -> None:
    one = source(query_en=["a"], passage_en=["b"])
    for threshold in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(RequestError, match="threshold"):
            compare([one], [SMALL], threshold=threshold)
    with pytest.raises(RequestError, match="two sources are named 's'"):
        compare([one, one], [SMALL])


def test_a_threshold_of_one_finds_what_only_repeats() -> None:
    """The sets of letters are the same, the texts are not."""
    evaluation = EvaluationTexts("small", ("ha ha ha ha",))
    rows = found(
        compare([source(query_en=["hahaha", "ha!"], passage_en=["a", "b"])], [evaluation], threshold=1), "s", "small"
    )
    assert rows == {OverlapKind.SIMILAR_QUESTION: [0]}


def test_nothing_to_compare_with() -> None:
    training = source(query_en=["a"], passage_en=["b"])
    kept, report = guard([training], [EvaluationTexts("empty", ("?!",))])
    assert kept == (training,)
    assert not report.overlaps
    assert (
        compare([training], [])
        .to_markdown()
        .startswith("Training data were compared with evaluation collections: nothing")
    )


def test_letters_beyond_the_basic_plane_and_lone_surrogates() -> None:
    evaluation = EvaluationTexts("small", ("𐐀𐐁𐐂𐐃𐐄𐐅𐐆𐐇𐐈𐐉𐐊𐐋", "a\ud800b"))
    training = source(query_en=["𐐨𐐩𐐪𐐫𐐬𐐭𐐮𐐯𐐰𐐱𐐲𐐳", "x"], passage_en=["a", "b"])
    rows = found(compare([training], [evaluation]), "s", "small")
    assert rows == {OverlapKind.QUESTION: [0]}


def collection(passages: Passages) -> Collection:
    rows = [(0, 0, 1, 1), (1, 0, 3, 1), (1, 0, -1, 1)]
    queries = Queries("en", ("1", "2"), ("q1", "q2"), ("First?", "Second?"), Judgments.of(rows))
    return Collection("own", {"en": passages}, {"en": queries}, {}, {}, "1", {})


def test_a_collection_with_titles_and_one_that_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    passages = Passages("en", ("a", "b", "c", "d"), ("A.", "B.", "C.", "D."), ("TA", "TB", "TC", ""))
    made = EvaluationTexts.of(collection(passages))
    assert (made.questions, made.passages) == (("First?", "Second?"), ("A.", "B.", "C.", "D."))
    assert made.titles == {"TB"}
    assert made.question_ids == frozenset()
    assert made.about == "2 questions, 4 passages, 1 titles of articles"
    titles = {"q2": frozenset({"X"})}
    some = EvaluationTexts.of(collection(passages), questions={"q2"}, question_ids=True, titles=titles)
    assert (some.questions, some.passages) == (("Second?",), ("D.",))
    assert (some.titles, some.question_ids) == (frozenset({"X"}), frozenset({"q2"}))
    monkeypatch.setattr(overlap, "_WHOLE", 3)
    large = EvaluationTexts.of(collection(passages))
    assert large.passages == ("B.", "D.")
    assert large.about == "2 questions, 2 passages that are relevant, 1 titles of articles"


def test_memory_does_not_grow_with_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_AT_ONCE", 256)
    rng = np.random.default_rng(3)
    words = ["".join(map(chr, rng.integers(97, 123, 6))) for _ in range(5000)]

    def large(count: int) -> ParallelTexts:
        path = tmp_path / f"{count}.arrow"
        with pa.ipc.new_file(str(path), pa.schema([("text", pa.string())])) as writer:
            for _ in range(count // 1000):
                texts = [" ".join(words[i] for i in row) for row in rng.integers(0, 5000, (1000, 20))]
                writer.write_batch(pa.record_batch([pa.array(texts)], ["text"]))
        mapped = Column(pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"])
        numbers = np.arange(count, dtype=np.int32)
        return ParallelTexts("s", {"en": column(["q"])}, {"en": mapped}, query_rows=0 * numbers, passage_rows=numbers)

    def peak(training: ParallelTexts) -> int:
        tracemalloc.start()
        try:
            assert not compare([training], [SMALL]).overlaps
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = large(1000), large(4000)
    peak(few)  # what is imported now is not imported again
    assert peak(many) < peak(few) + 10 * 3000  # bytes: a few marks for each row, and not its text of 140
