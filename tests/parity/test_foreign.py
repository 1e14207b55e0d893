"""Tasks of mteb on our engine against the same tasks on mteb's own path, both through `mteb.evaluate`.

The reference is the plain task: mteb loads the data, encodes subset by subset, takes the first 1,000 documents of every
query, and asks pytrec_eval. Every key that it gives, but nAUC, must be ours to 1e-5; mteb rounds to five decimals.

`WordCounts` and BM25 give scores in which nothing is rounded on one side only, so that many ties must be broken alike.
The other models compute in float32, in products of different shapes: their data are such that no relevant document
stands within 1e-6 of another one, which is asserted in float64 (see `close_calls`). Where mteb's numbers are not
defined by the data, or are not those of the definition, a test says so: ties across its cut at 1,000, and documents
that it leaves out only after the cut.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import datasets
import mteb
import numpy as np
import pytest
from mteb._create_dataloaders import create_dataloader
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType

from helpers import WordCounts, meta_of, static_model
from hybrid_bench.engine import ranking, streamed
from hybrid_bench.engine.lexical import BM25, CharNgramEncoder
from hybrid_bench.engine.models import load, model_meta
from hybrid_bench.evaluation.foreign import exact
from mteb_tasks import WORDS, Data, random_data, save_configs, save_hub, task_class

Scores = dict[tuple[str, str], dict[str, Any]]

#: What the keys may differ by; mteb rounds to five decimals.
TOLERANCE = 1e-5
#: Scores closer than this may be ordered either way in float32.
GAP = 1e-6
#: What mteb gives of a subset, but nAUC: six measures at seven cut-offs, accuracy, main score, and what it is about.
SHARED_KEYS = 6 * 7 + 5
#: Where the cut at 1,000 is told.
AT_1000 = {f"{name}_at_1000" for name in ("ndcg", "map", "recall", "precision", "mrr", "hit_rate")}


@pytest.fixture(autouse=True)
def cache_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` makes of the files is kept for one test; nothing else is looked for in the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache of datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True)
def nothing_asked() -> Iterator[None]:
    WordCounts.asked.clear()
    yield
    WordCounts.asked.clear()


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A static model that knows the words of `random_data`; mteb's wrapper for sentence-transformers reads it."""
    folder = tmp_path_factory.mktemp("models") / "static"
    static_model([*WORDS, "own", *"0123456789"]).save_pretrained(str(folder))
    return load(model_meta(str(folder)))


class SparseCounts(WordCounts):
    """The same counts as a model that our engine does not score itself: mteb searches, as deep as the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.mteb_model_meta = meta_of(
            "tests/sparse-counts", model_type=["sparse"], similarity_fn_name=ScoringFunction.DOT_PRODUCT
        )


# -- both paths ------------------------------------------------------------------------------------------------------


def scores_of(model: Any, task: Any, **options: Any) -> Scores:
    """What `mteb.evaluate` gives of a task, by split and subset."""
    options = {"encode_kwargs": {"batch_size": 64, "show_progress_bar": False}, **options}
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False, **options)
    ((scored),) = result.task_results
    return {(split, entry["hf_subset"]): dict(entry) for split, each in scored.scores.items() for entry in each}


def differences(theirs: Scores, ours: Scores) -> dict[tuple[str, str], dict[str, tuple[Any, Any]]]:
    """The keys that differ, with mteb's value and ours, by split and subset; those without any are left out."""
    assert theirs.keys() == ours.keys()
    found: dict[tuple[str, str], dict[str, tuple[Any, Any]]] = {}
    for place, entry in theirs.items():
        shared = {key: value for key, value in entry.items() if not key.startswith("nauc")}
        assert len(shared) == SHARED_KEYS
        for key, value in shared.items():
            mine = ours[place].get(key)
            same = abs(value - mine) <= TOLERANCE if isinstance(value, float) and mine is not None else value == mine
            if not same:
                found.setdefault(place, {})[key] = (value, mine)
    return found


def both(model: Any, kind: Callable[[], Any]) -> tuple[Scores, Scores]:
    """mteb's scores of a task and ours."""
    return scores_of(model, kind()), scores_of(model, exact(kind()))


def close_calls(model: Any, kind: Callable[[], Any]) -> int:
    """How many relevant documents have another one within `GAP`, by float64, other than at the very same score.

    Where texts share nothing with a query the score is exactly 0 on both sides.
    """
    task = exact(kind())
    task.load_data()
    collection = task.collection
    assert collection is not None

    def unit(texts: Sequence[str], titles: Sequence[str] | None, role: PromptType) -> Any:
        columns = {"id": [str(i) for i in range(len(texts))], "text": list(texts)}
        columns |= {} if titles is None else {"title": list(titles)}
        loader = create_dataloader(datasets.Dataset.from_dict(columns), task_metadata=task.metadata, prompt_type=role)
        place = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default"}
        vectors = np.asarray(model.encode(loader, prompt_type=role, **place), dtype=np.float64)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    close = 0
    for queries in collection.queries.values():
        judgments = queries.judgments
        asked = unit(queries.texts, None, PromptType.query)
        for number, passages in enumerate(collection.passages.values()):
            scores = asked @ unit(passages.texts, passages.titles, PromptType.document).T
            for at in np.flatnonzero((judgments.part == number) & (judgments.passage >= 0)):
                row = scores[judgments.query[at]]
                gaps = np.abs(row - row[judgments.passage[at]])
                close += int(np.count_nonzero(gaps < GAP) > np.count_nonzero(gaps == 0))
    return close


def judged(data: Data, change: Callable[[str, str, int], tuple[str, str, int]]) -> Data:
    """The same with other judgments."""
    return replace(data, qrels={split: [change(*row) for row in rows] for split, rows in data.qrels.items()})


def with_documents(data: Data, change: Callable[[int, Mapping[str, Any]], Mapping[str, Any]]) -> Data:
    """The same with other documents."""
    return replace(data, corpus=[change(number, row) for number, row in enumerate(data.corpus)])


def asked_about_themselves(data: Data) -> Data:
    """Half of the documents get the id of a query, if there is one."""
    renamed = {f"d{number}": f"q{number}" for number in range(0, len(data.corpus), 2)}
    same = with_documents(data, lambda _, row: {**row, "_id": renamed.get(row["_id"], row["_id"])})
    return judged(same, lambda query, document, gain: (query, renamed.get(document, document), gain))


# -- what data can be like -------------------------------------------------------------------------------------------


def small(**options: Any) -> Data:
    """`random_data` with 120 documents and 16 queries."""
    return random_data(**{"documents": 120, "queries": 16, **options})


#: Of data in which no scores of char-ngram or of the static model are close.
SEED = 6


def with_own_document_relevant(data: Data) -> Data:
    changed = asked_about_themselves(data)
    own = [(row["_id"], row["_id"], 2) for row in data.queries[::2]]
    return replace(changed, qrels={split: [*rows, *own] for split, rows in changed.qrels.items()})


CASES: dict[str, tuple[Callable[[], Data], dict[str, Any]]] = {
    "graded": (lambda: small(gains=(0, 1, 2, 3)), {}),
    "negative gains": (lambda: small(gains=(-2, -1, 0, 1, 3)), {}),
    "titles, some empty": (lambda: small(titles=True), {}),
    "spaces around titles and texts": (
        lambda: with_documents(
            small(titles=True),
            lambda i, row: {**row, "title": " " if i % 3 else row["title"], "text": f" \n {row['text']}\t "},
        ),
        {},
    ),
    "texts that are empty": (
        lambda: with_documents(small(), lambda i, row: {**row, "text": row["text"] if i % 4 else ""}),
        {},
    ),
    "texts that stand twice": (
        lambda: with_documents(small(), lambda i, row: {**row, "text": f"{WORDS[i // 3]} {WORDS[0]}"}),
        {},
    ),
    "queries with zero gains only": (
        lambda: judged(small(), lambda q, d, gain: (q, d, gain if int(q[1:]) % 3 else 0)),
        {},
    ),
    "queries without judgments, judgments without queries": (
        lambda: judged(small(), lambda q, d, gain: (q if int(q[1:]) % 3 else f"no {q}", d, gain)),
        {},
    ),
    "judged documents that are absent": (
        lambda: judged(small(), lambda q, d, gain: (q, d if int(d[1:]) % 3 else f"no {d}", gain)),
        {},
    ),
    "the query's own document": (lambda: asked_about_themselves(small()), {"ignore_identical_ids": True}),
    "the query's own document, relevant": (
        lambda: with_own_document_relevant(small()),
        {"ignore_identical_ids": True},
    ),
    "the query's own document counts": (lambda: with_own_document_relevant(small()), {}),
    "two splits": (
        lambda: small(splits=("dev", "test")),
        {"metadata": {"eval_splits": ["dev", "test"]}},
    ),
    "ids of many scripts": (
        lambda: judged(
            with_documents(small(), lambda i, row: {**row, "_id": strange(row["_id"])}),
            lambda query, document, gain: (query, strange(document), gain),
        ),
        {},
    ),
    "ids that are numbers": (
        lambda: judged(
            with_documents(small(), lambda i, row: {**row, "_id": i}),
            lambda query, document, gain: (query, document[1:], gain),
        ),
        {},
    ),
}


def strange(document: str) -> str:
    """An id that sorts differently by code point, by UTF-16 and by locale."""
    number = int(document[1:])
    return f"{'aZéß￼𝄞中'[number % 7]}{number}"


@pytest.mark.parametrize("case", CASES)
def test_every_key_is_mtebs(case: str, tmp_path: Path) -> None:
    """Whole numbers as scores, with many ties."""
    make, members = CASES[case]
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": make()}), **members)
    theirs, ours = both(WordCounts(), kind)
    assert differences(theirs, ours) == {}
    assert all(0 < entry["ndcg_at_1000"] < 1 for entry in theirs.values())


def test_the_numbers_of_two_splits_are_not_the_same(tmp_path: Path) -> None:
    """Or the case of two splits would not tell one from the other."""
    make, members = CASES["two splits"]
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": make()}), **members)
    ours = scores_of(WordCounts(), exact(kind()))
    assert ours["dev", "default"]["ndcg_at_100"] != ours["test", "default"]["ndcg_at_100"]


def all_at_once() -> tuple[Data, dict[str, Any]]:
    data = small(seed=SEED, titles=True, gains=(-1, 0, 1, 2, 3), splits=("dev", "test"))
    data = judged(data, lambda q, d, gain: (q, d if int(d[1:]) % 7 else f"no {d}", gain if int(q[1:]) % 5 else 0))
    data = asked_about_themselves(data)
    return data, {"ignore_identical_ids": True, "metadata": {"eval_splits": ["dev", "test"]}}


@pytest.mark.parametrize("kind_of_model", ["word-counts", "static", "char-ngram", "bm25", "sparse"])
def test_with_every_kind_of_model(kind_of_model: str, static: Any, tmp_path: Path) -> None:
    """Titles, grades, absent and own documents, two splits, all at once, from parquet files.

    BM25's reference is its own search under mteb. The sparse model is not scored by our engine: mteb searches.
    """
    models: dict[str, Callable[[], Any]] = {
        "word-counts": WordCounts,
        "static": lambda: static,
        "char-ngram": CharNgramEncoder,
        "bm25": BM25,
        "sparse": SparseCounts,
    }
    model = models[kind_of_model]()
    data, members = all_at_once()
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": data}, "parquet"), **members)
    if kind_of_model in {"static", "char-ngram"}:
        assert close_calls(model, kind) == 0, "choose data in which float32 decides nothing"
    theirs, ours = both(model, kind)
    assert differences(theirs, ours) == {}


@pytest.mark.parametrize("rows", [None, range(20, 100)], ids=["any rows", "a slice"])
def test_a_corpus_that_the_task_narrows(rows: range | None, tmp_path: Path) -> None:
    """`.select()` leaves the rows where they are and keeps a list of them, or cuts a slice out."""
    chosen = rows or np.random.default_rng(0).permutation(120)[:80].tolist()

    def dataset_transform(self: Any, num_proc: int | None = None, **_: Any) -> None:
        for split in self.dataset["default"].values():
            split["corpus"] = split["corpus"].select(chosen)

    folder = save_hub(tmp_path / "data", {"default": small(titles=True)})
    kind = task_class("TestRetrieval", folder, dataset_transform=dataset_transform)
    theirs, ours = both(WordCounts(), kind)
    assert differences(theirs, ours) == {}
    whole = scores_of(WordCounts(), exact(task_class("TestRetrieval", folder)()))
    assert whole["test", "default"]["recall_at_1000"] > ours["test", "default"]["recall_at_1000"]


def test_predictions_are_mtebs(tmp_path: Path) -> None:
    """Asked for, mteb's own search runs besides and writes them."""
    data, members = all_at_once()
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": data}), **members)
    theirs = scores_of(WordCounts(), kind(), prediction_folder=tmp_path / "theirs")
    ours = scores_of(WordCounts(), exact(kind()), prediction_folder=tmp_path / "ours")
    assert differences(theirs, ours) == {}
    written = [
        json.loads((tmp_path / side / "TestRetrieval_predictions.json").read_bytes()) for side in ("theirs", "ours")
    ]
    assert written[0] == written[1]


# -- several subsets -------------------------------------------------------------------------------------------------

GERMAN = {name: ["deu-Latn"] for name in ("first", "second", "third")}


def share_the_first_corpus(self: Any, num_proc: int | None = None, **_: Any) -> None:
    for subset in self.dataset.values():
        for split in subset:
            subset[split]["corpus"] = self.dataset["first"][split]["corpus"]


def with_asked(name: str, data: Data) -> Data:
    """The same with queries of another subset, as ids and texts."""
    return replace(data, queries=[{**row, "text": f"{row['text']} {name}"} for row in data.queries])


def distinct(data: Data, what: str = "corpus") -> int:
    return len({(row.get("title", ""), row["text"]) for row in getattr(data, what)})


@pytest.mark.parametrize("in_pieces", [False, True], ids=["resident", "streamed"])
def test_subsets_of_one_corpus_encode_each_text_once(
    in_pieces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_pieces:
        monkeypatch.setattr(ranking, "RESIDENT_PASSAGES", 50)
        monkeypatch.setattr(streamed, "_PIECE", 32)
    corpus = CASES["texts that stand twice"][0]()
    subsets = {name: with_asked(name, replace(corpus, qrels=small(seed=i).qrels)) for i, name in enumerate(GERMAN)}
    kind = task_class(
        "TestRetrieval",
        save_hub(tmp_path / "data", subsets),
        metadata={"eval_langs": GERMAN},
        dataset_transform=share_the_first_corpus,
    )
    theirs = scores_of(WordCounts(), kind())
    assert sum(number for role, _, number in WordCounts.asked if role == "document") == 3 * len(corpus.corpus)
    WordCounts.asked.clear()
    ours = scores_of(WordCounts(), exact(kind()))
    assert differences(theirs, ours) == {}
    documents = [(subset, number) for role, subset, number in WordCounts.asked if role == "document"]
    assert {subset for subset, _ in documents} == {"first"}
    assert sum(number for _, number in documents) == distinct(corpus)
    assert (len(documents) > 1) == in_pieces
    assert [asked for asked in WordCounts.asked if asked[0] == "query"] == [("query", name, 16) for name in GERMAN]


def test_two_files_of_one_text_are_encoded_once_where_the_subset_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each subset has files of its own, which say the same. Only a model whose prompt may depend on it reads both."""
    subsets = {name: small() for name in GERMAN}
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", subsets), metadata={"eval_langs": GERMAN})
    read: list[str] = []
    original = CharNgramEncoder._encode

    def noted(self: CharNgramEncoder, texts: Sequence[str]) -> Any:
        read.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(CharNgramEncoder, "_encode", noted)
    ours = scores_of(CharNgramEncoder(), exact(kind()))
    assert len(read) == len(set(read)) == distinct(subsets["first"]) + distinct(subsets["first"], "queries")
    monkeypatch.undo()
    assert len({entry["ndcg_at_10"] for entry in ours.values()}) == 1
    scores_of(WordCounts(), exact(kind()))
    documents = [(subset, number) for role, subset, number in WordCounts.asked if role == "document"]
    assert documents == [(name, distinct(subsets["first"])) for name in GERMAN]


# -- more than a thousand documents ----------------------------------------------------------------------------------

#: A document's score is its number: the query has these words so often, and the document spells the number in them.
DIGITS = {"one": 1, "ten": 10, "hundred": 100, "thousand": 1000}
DIMENSION = 1 << 9


def numbered(documents: int, ranks: Sequence[int], own: int | None = None) -> Data:
    """One query, and documents that it finds in a known order, without ties.

    Args:
        documents: How many.
        ranks: Where the relevant documents stand.
        own: Where the document with the query's own id stands.
    """
    query = " ".join(" ".join([word] * times) for word, times in DIGITS.items())

    def spelled(number: int) -> str:
        return " ".join(word for word, times in DIGITS.items() for _ in range(number // times % 10)) or "nothing"

    # The order of the file and of the ids is none of the scores.
    order = np.random.default_rng(0).permutation(documents).tolist()
    ids = {rank: "q" if rank == own else f"d{order[rank - 1]}" for rank in range(1, documents + 1)}
    corpus = [
        {"_id": ids[rank], "text": spelled(documents - rank)} for rank in sorted(ids, key=lambda rank: order[rank - 1])
    ]
    return Data(corpus, [{"_id": "q", "text": query}], {"test": [("q", ids[rank], 1) for rank in ranks]})


def test_words_do_not_collide() -> None:
    vectors = WordCounts(dimension=DIMENSION).vectors([*DIGITS, "nothing"])
    assert np.array_equal(vectors @ vectors.T, np.eye(len(vectors)))


@pytest.mark.parametrize("in_pieces", [False, True], ids=["resident", "streamed"])
def test_the_cut_at_1000(in_pieces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_pieces:
        monkeypatch.setattr(ranking, "RESIDENT_PASSAGES", 1000)
        monkeypatch.setattr(streamed, "_PIECE", 500)
    ranks = [1, 7, 20, 100, 101, 999, 1000, 1001, 1002, 1300]
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": numbered(1300, ranks)}))
    theirs, ours = both(WordCounts(dimension=DIMENSION), kind)
    assert differences(theirs, ours) == {}
    mine = ours["test", "default"]
    assert mine["recall_at_1000"] == pytest.approx(7 / 10)
    # What mteb does not have: the precision at all ten, over all 1,300.
    assert mine["map"] == pytest.approx(np.mean([number / rank for number, rank in enumerate(ranks, start=1)]))
    assert mine["map"] > mine["map_at_1000"] + 1e-4


@pytest.mark.parametrize("kind_of_model", ["static", "bm25"])
def test_other_models_are_cut_alike(kind_of_model: str, static: Any, tmp_path: Path) -> None:
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": random_data(1100, 8, seed=SEED)}))
    model = BM25() if kind_of_model == "bm25" else static
    assert kind_of_model == "bm25" or close_calls(model, kind) == 0, "choose data in which float32 decides nothing"
    theirs, ours = both(model, kind)
    assert differences(theirs, ours) == {}
    assert theirs["test", "default"]["recall_at_1000"] < 1


def test_ties_across_the_cut_are_broken_by_id(tmp_path: Path) -> None:
    """Of equal scores at the cut mteb takes any, as torch.topk does; given all documents, it agrees at 1,000 too."""
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": random_data(1300, 16)}))
    theirs, ours = both(WordCounts(), kind)
    assert set(differences(theirs, ours)["test", "default"]) <= AT_1000
    deeper = kind()
    deeper._top_k = 1300
    assert differences(scores_of(WordCounts(), deeper), ours) == {}


@pytest.mark.parametrize(("rank", "agrees"), [(1000, True), (1001, False), (1002, True)])
def test_the_own_document_takes_no_place(rank: int, agrees: bool, tmp_path: Path) -> None:
    """mteb takes the first 1,000 and then leaves out the query's own, so that 999 are left: ours are 1,000.

    The document at rank 1,001 is the 1,000th of those that count. This is the only difference there is.
    """
    data = numbered(1100, [3, 500, rank], own=200)
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": data}), ignore_identical_ids=True)
    theirs, ours = both(WordCounts(dimension=DIMENSION), kind)
    expected = set() if agrees else AT_1000 - {"mrr_at_1000", "hit_rate_at_1000"}
    assert set(differences(theirs, ours).get(("test", "default"), {})) == expected
    assert ours["test", "default"]["recall_at_1000"] == pytest.approx(1 if rank <= 1001 else 2 / 3)
    deeper = kind()
    deeper._top_k = 1001
    assert differences(scores_of(WordCounts(dimension=DIMENSION), deeper), ours) == {}


@pytest.mark.parametrize("case", ["all at once", "texts that stand twice", "the query's own document, relevant"])
def test_a_corpus_too_large_to_be_kept(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read, encoded and counted in pieces."""
    monkeypatch.setattr(ranking, "RESIDENT_PASSAGES", 50)
    monkeypatch.setattr(streamed, "_PIECE", 32)
    data, members = all_at_once() if case == "all at once" else (CASES[case][0](), CASES[case][1])
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": data}), **members)
    theirs = scores_of(WordCounts(), kind())
    WordCounts.asked.clear()
    ours = scores_of(WordCounts(), exact(kind()))
    assert differences(theirs, ours) == {}
    documents = [number for role, _, number in WordCounts.asked if role == "document"]
    assert len(documents) >= 3
    assert sum(documents) == distinct(data)


@pytest.mark.parametrize("in_pieces", [False, True], ids=["resident", "streamed"])
def test_embeddings_from_the_disk(in_pieces: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of titled texts too; the second time nothing is encoded."""
    if in_pieces:
        monkeypatch.setattr(ranking, "RESIDENT_PASSAGES", 50)
        monkeypatch.setattr(streamed, "_PIECE", 32)
    data, members = all_at_once()
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": data}), **members)
    theirs = scores_of(WordCounts(), kind())
    for again in (False, True):
        WordCounts.asked.clear()
        task = exact(kind())
        task.options = replace(task.options, embedding_cache=tmp_path / "embeddings")
        assert differences(theirs, scores_of(WordCounts(), task)) == {}
        assert (WordCounts.asked == []) == again


# -- what a model reads ----------------------------------------------------------------------------------------------


class Notes(WordCounts):
    """Notes all that it is given about each text, but for its number."""

    read: ClassVar[list[tuple[Any, ...]]] = []

    def encode(self, inputs: Any, **arguments: Any) -> Any:
        batches = list(inputs)
        role = arguments["prompt_type"].value
        for batch in batches:
            columns = {name: batch[name] for name in sorted(batch) if name != "id"}
            rows = zip(*columns.values(), strict=True)
            self.read.extend((role, arguments["hf_subset"], *zip(columns, row, strict=True)) for row in rows)
        return super().encode(batches, **arguments)


def what_is_read(task: Any) -> list[tuple[Any, ...]]:
    Notes.read.clear()
    scores_of(Notes(), task)
    return sorted(set(Notes.read))


TITLED: dict[str, tuple[tuple[str | None, str], ...]] = {
    "titles": (("Fox", "It runs."), ("", "It sleeps."), (" Hare ", "It runs."), (" ", "Anything.")),
    "spaces around texts with a title": (("Fox", "  It runs.\n"), ("Hare", "   "), ("Wolf", "\tIt howls. ")),
    "spaces around texts without a title": (("Fox", "It runs."), ("", "  It sleeps.\n")),
    "titles that are all empty": (("", "It runs."), ("", "It sleeps.")),
    "no titles": ((None, "It runs."), (None, "It sleeps.")),
    "no titles, and spaces": ((None, " It runs. "), (None, "It sleeps.\n")),
}


@pytest.mark.parametrize("case", TITLED)
def test_a_model_reads_what_mteb_gives_it(case: str, tmp_path: Path) -> None:
    """Text, title and body of documents, text and query of queries."""
    corpus = [
        {"_id": f"d{number}", "text": text} | ({} if title is None else {"title": title})
        for number, (title, text) in enumerate(TITLED[case])
    ]
    queries = [{"_id": "q1", "text": "  What runs? "}, {"_id": "q2", "text": "What sleeps?\n"}]
    qrels = {"test": [("q1", "d0", 1), ("q2", "d1", 1)]}
    kind = task_class("TestRetrieval", save_hub(tmp_path / "data", {"default": Data(corpus, queries, qrels)}))
    theirs = what_is_read(kind())
    assert len(theirs) == len(corpus) + len(queries)
    assert what_is_read(exact(kind())) == theirs


# -- tasks of mteb's -------------------------------------------------------------------------------------------------


def belebele(language: str) -> list[dict[str, Any]]:
    """Passages by link, each with two questions, as in facebook/belebele."""
    words = np.random.default_rng([ord(letter) for letter in language])

    def text(length: int) -> str:
        return " ".join(words.choice(WORDS, length).tolist())

    passages = [text(9) for _ in range(20)]
    return [
        {"link": f"https://example.org/{i // 2}", "flores_passage": passages[i // 2], "question": text(5)}
        for i in range(40)
    ]


def save_mteb_data(folder: Path) -> None:
    """Small data sets where mteb's tasks look for theirs, in the layout that each of them has."""

    def tiny(**options: Any) -> Data:
        return random_data(**{"documents": 60, "queries": 12, **options})

    save_hub(folder / "mteb/nfcorpus", {"default": tiny(titles=True, gains=(1, 2), splits=("dev", "test"))})
    save_hub(folder / "mteb/scifact", {"default": tiny(seed=1, titles=True)})
    save_hub(folder / "mteb/arguana", {"default": with_own_document_relevant(tiny(seed=2))})
    several: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "MLQARetrieval": (("deu-eng", "eng-deu"), {"splits": ("validation", "test")}),
        "XQuADRetrieval": (("de", "ro", "zh"), {"splits": ("validation",)}),
        "MIRACLRetrievalHardNegatives": (("de", "yo"), {"splits": ("dev",), "titles": True}),
    }
    for name, (subsets, options) in several.items():
        made = {subset: tiny(seed=i, **options) for i, subset in enumerate(subsets)}
        save_hub(folder / "mteb" / name, made, "parquet")
    languages = ("deu_Latn", "eng_Latn", "fra_Latn")
    save_configs(folder / "mteb/belebele", {language: {"test": belebele(language)} for language in languages})


MTEB_TASKS: dict[str, tuple[list[str], int]] = {  # subsets, number of splits
    "NFCorpus": (["default"], 1),
    "SciFact": (["default"], 1),
    "ArguAna": (["default"], 1),
    "MLQARetrieval": (["deu-eng", "eng-deu"], 2),
    "XQuADRetrieval": (["de", "ro", "zh"], 1),
    "MIRACLRetrievalHardNegatives": (["de", "yo"], 1),
    "BelebeleRetrieval": (["deu_Latn-eng_Latn", "eng_Latn-deu_Latn", "eng_Latn-eng_Latn", "eng_Latn-fra_Latn"], 1),
}


@pytest.mark.parametrize(
    ("name", "kind_of_model"),
    [*((name, WordCounts) for name in MTEB_TASKS), ("NFCorpus", BM25), ("BelebeleRetrieval", BM25)],
)
def test_tasks_of_mteb(
    name: str, kind_of_model: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the user's data folder; mteb's path takes them from the working folder, which is the only one it knows."""
    data = tmp_path / "data"
    save_mteb_data(data)
    subsets, splits = MTEB_TASKS[name]

    def task() -> Any:
        made = mteb.get_task(name)
        made.hf_subsets = list(subsets)
        return made

    with monkeypatch.context() as there:
        there.chdir(data)
        theirs = scores_of(kind_of_model(), task())
    ours = scores_of(kind_of_model(), exact(task(), data))
    assert differences(theirs, ours) == {}
    assert len(theirs) == len(subsets) * splits
    # No two of them are of the same data.
    assert len({entry["ndcg_at_100"] for entry in ours.values()}) == len(theirs)


def test_belebele_reads_each_corpus_once(tmp_path: Path) -> None:
    """Which loads in a way of its own: several pairs share the passages of a language."""
    save_mteb_data(tmp_path)
    task: Any = mteb.get_task("BelebeleRetrieval")
    pairs = [f"{a}-{b}" for a, b in itertools.product(("deu_Latn", "eng_Latn"), repeat=2)]
    task.hf_subsets = [*pairs, "eng_Latn-fra_Latn"]
    scores_of(WordCounts(), exact(task, tmp_path))
    documents = [(subset, number) for role, subset, number in WordCounts.asked if role == "document"]
    assert documents == [("deu_Latn-deu_Latn", 20), ("eng_Latn-deu_Latn", 20)]
