"""Tasks on a user's own data: the ten lines of the documentation, numbers worked out by hand, and XQuAD-R once more."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import mteb
import pytest

import hybrid_bench
from helpers import asking
from hybrid_bench.data.collection import Collection, DataOptions
from hybrid_bench.data.jsonl import JsonlReader
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.evaluation import custom
from hybrid_bench.evaluation.custom import parallel_tasks
from hybrid_bench.evaluation.registry import task_classes
from hybrid_bench.evaluation.tasks import ParallelRetrieval

Row = dict[str, Any]
assert hybrid_bench.__version__  # importing the package is what makes mteb know its models

#: Words stand for translations: which texts are alike, and how much, is plain to see.
PASSAGES: list[Row] = [
    {"id": "p1", "language": "en", "text": "alpha beta gamma delta"},
    {"id": "p1", "language": "de", "text": "alpha beta qqqqq rrrrr"},
    {"id": "p2", "language": "en", "text": "kilos limas mikes novas"},
    {"id": "p2", "language": "de", "text": "kilos sssss ttttt uuuuu"},
    {"id": "p3", "language": "en", "text": "kilos limas mikes vvvvv"},
    {"id": "p3", "language": "de", "text": "kilos limas wwwww xxxxx"},
]
QUESTIONS: list[Row] = [
    {"id": "q1", "language": "en", "text": "alpha beta gamma delta", "relevant": ["p1"]},
    {"id": "q1", "language": "de", "text": "alpha beta qqqqq rrrrr"},
    {"id": "q2", "language": "en", "text": "kilos limas mikes novas", "relevant": ["p2"]},
]
#: By hand. Of q2's passages the German one shares one word with the question, and those of p3, which is not relevant,
#: share two or three: it comes second of the German passages, and fourth of all.
RANKS = {
    "en-en": {"q1": [1], "q2": [1]},
    "en-de": {"q1": [1], "q2": [2]},
    "de-en": {"q1": [1]},
    "de-de": {"q1": [1]},
    "en": {"q1": [1, 2], "q2": [1, 4]},
    "de": {"q1": [1, 2]},
}
MAP = {"en-en": 1.0, "en-de": (1 + 1 / 2) / 2, "de-en": 1.0, "de-de": 1.0, "en": (1 + (1 + 2 / 4) / 2) / 2, "de": 1.0}


def write(folder: Path, passages: Sequence[Row] = PASSAGES, questions: Sequence[Row] = QUESTIONS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("passages", passages), ("questions", questions)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evaluate(model: Any, tasks: Sequence[ParallelRetrieval]) -> dict[str, Any]:
    """mteb's scores by subset."""
    results = mteb.evaluate(model, list(tasks), cache=None, co2_tracker=False, show_progress_bar=False)
    assert not results.exceptions
    return {scores["hf_subset"]: scores for task in results.task_results for scores in task.scores["test"]}


def per_query(task: ParallelRetrieval, subset: str) -> dict[str, Row]:
    """The rows of a task's table by question id, without what names the collection."""
    rows = task.tables["test", subset].to_pylist()
    found = {row.pop("question_id"): row for row in rows}
    assert len(found) == len(rows)
    return found


# -- the ten lines ------------------------------------------------------------------------------------------------


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the documentation shows, word for word, beside data with the name that it uses."""
    assert custom.__doc__
    shown = re.search(r"::\n\n(    '''.*?\n    \)\n)", custom.__doc__, re.DOTALL)
    assert shown is not None
    path = tmp_path / "my_data.py"
    path.write_text(textwrap.dedent(shown[1]), encoding="utf-8")
    write(tmp_path / "my-data")
    monkeypatch.chdir(tmp_path)
    return path


def test_the_documented_task_file_has_ten_lines_and_describes_two_tasks(task_file: Path) -> None:
    assert len(task_file.read_text(encoding="utf-8").splitlines()) == 10
    module = import_file(task_file)
    pairs, multilingual = module.MyDataPairs.metadata, module.MyDataMultilingual.metadata
    assert (pairs.name, multilingual.name) == ("MyData-Pairs", "MyData-Multilingual")
    assert pairs.eval_langs == {
        "de-de": ["deu-Latn"],
        "de-en": ["deu-Latn", "eng-Latn"],
        "en-de": ["eng-Latn", "deu-Latn"],
        "en-en": ["eng-Latn"],
    }
    assert multilingual.eval_langs == {"de": ["deu-Latn"], "en": ["eng-Latn"]}
    for metadata in (pairs, multilingual):
        assert metadata.prompt == {"query": "Given a question about a product, retrieve the paragraphs that answer it"}
        assert metadata.description.startswith("Retrieve the paragraphs of our manuals that answer a customer's ")
        assert metadata.main_score == "map"
        assert metadata.dataset["revision"] == JsonlReader.parse("jsonl:my-data").revision
    assert module.MyDataPairs.reader.collection == "MyData"
    assert "one language (de, en)" in pairs.description
    assert "all languages (de, en)" in multilingual.description


def test_the_documented_task_file_gives_the_numbers_worked_out_by_hand(task_file: Path) -> None:
    module = import_file(task_file)
    tasks = [module.MyDataPairs(), module.MyDataMultilingual()]
    scores = evaluate(mteb.get_model("hybrid_bench/char-ngram"), tasks)
    assert {subset: scores[subset]["map"] for subset in scores} == pytest.approx(MAP)
    assert {subset: scores[subset]["main_score"] for subset in scores} == pytest.approx(MAP)
    assert scores["en-de"]["mrr_at_10"] == pytest.approx(3 / 4)
    assert scores["en"]["recall_at_1"] == pytest.approx(1 / 2)
    assert scores["en"]["bias_rank_distance"] == pytest.approx((1 + 3) / 2)
    for task in tasks:
        for subset in task.hf_subsets:
            assert {question: row["ranks"] for question, row in per_query(task, subset).items()} == RANKS[subset]


def test_lexical_search_gives_the_same_ranks_where_words_decide(tmp_path: Path) -> None:
    pairs, _ = parallel_tasks(JsonlReader.parse(f"Words=jsonl:{write(tmp_path)}"))
    task = pairs()
    evaluate(mteb.get_model("hybrid_bench/bm25"), [task])
    assert {question: row["ranks"] for question, row in per_query(task, "en-de").items()} == RANKS["en-de"]


# -- XQuAD-R, converted -------------------------------------------------------------------------------------------

SUBSETS = {"Pairs": ["ar-en", "de-de", "zh-th"], "Multilingual": ["en", "zh"]}


@pytest.fixture(scope="module")
def original(data_dir: Path) -> Collection:
    return task_classes()["XQuAD-R-Pairs"].reader.load(DataOptions(data_dir=data_dir))


@pytest.fixture(scope="module")
def converted(original: Collection, tmp_path_factory: pytest.TempPathFactory) -> JsonlReader:
    """XQuAD-R as a user would write it down: the answer in its own language at each version of a question.

    Sentences are numbered in each language by itself, so that the language has to be given.
    """

    def bare(text_id: str) -> str:
        return text_id.split(".", 2)[2]

    passages = [
        {"id": bare(text_id), "language": code, "text": text}
        for code, part in original.passages.items()
        for text_id, text in zip(part.ids, part.texts, strict=True)
    ]
    questions: list[Row] = []
    for number, (code, queries) in enumerate(original.queries.items()):
        judgments = queries.judgments
        own = judgments.part == number
        answers = dict(zip(judgments.query[own].tolist(), judgments.passage[own].tolist(), strict=True))
        for row, (question, text) in enumerate(zip(queries.question_ids, queries.texts, strict=True)):
            answer = bare(original.passages[code].ids[answers[row]])
            questions.append(
                {
                    "id": question,
                    "language": code,
                    "text": text,
                    "relevant": [{"id": answer, "language": code}],
                    "group": original.article_cluster[question],
                    "paragraph": original.paragraph_cluster[question],
                }
            )
    folder = write(tmp_path_factory.mktemp("converted") / "xquad", passages, questions)
    # Under its own name, so that the ids are the same, which decide where scores are equal.
    return JsonlReader.parse(f"jsonl:{folder}", collection="XQuAD-R")


def test_xquad_r_in_this_form_is_the_same_collection(original: Collection, converted: JsonlReader) -> None:
    again = converted.load(DataOptions())
    assert again.parts == original.parts
    assert again.paragraph_cluster == original.paragraph_cluster
    assert again.article_cluster == original.article_cluster
    assert again.notes == ()
    for code in original.parts:
        theirs, ours = original.passages[code], again.passages[code]
        assert dict(zip(ours.ids, ours.texts, strict=True)) == dict(zip(theirs.ids, theirs.texts, strict=True))
        queries = again.queries[code]
        assert queries.ids == original.queries[code].ids
        assert queries.question_ids == original.queries[code].question_ids
        assert queries.texts == original.queries[code].texts
        assert judged(again, code) == judged(original, code)


def judged(collection: Collection, code: str) -> set[tuple[str, str, int]]:
    queries = collection.queries[code]
    columns = vars(queries.judgments)
    rows = zip(*(columns[name].tolist() for name in ("query", "part", "passage", "gain")), strict=True)
    return {
        (queries.ids[query], collection.passages[collection.parts[part]].ids[passage], gain)
        for query, part, passage, gain in rows
    }


def test_xquad_r_in_this_form_gives_the_same_ranks(data_dir: Path, converted: JsonlReader) -> None:
    model = mteb.get_model("hybrid_bench/char-ngram")
    for kind, subsets in SUBSETS.items():
        published = task_classes()[f"XQuAD-R-{kind}"]

        class Twin(ParallelRetrieval):
            reader = converted
            metadata = published.metadata.model_copy(update={"name": f"Twin-{kind}"})

        tables = []
        for task_class in (published, Twin):
            whole = task_class()
            whole.hf_subsets = list(subsets)
            whole.options = type(whole.options)(data=DataOptions(data_dir=data_dir))
            task = asking(whole, 5)
            evaluate(model, [task])
            tables.append({subset: per_query(task, subset) for subset in subsets})
        theirs, ours = tables
        assert [len(theirs[subset]) for subset in subsets] == [238] * len(subsets)
        assert ours == theirs


# -- what subsets there are ---------------------------------------------------------------------------------------


def test_languages_with_questions_only_or_passages_only(tmp_path: Path) -> None:
    passages = [*PASSAGES, {"id": "p9", "language": "fr", "text": "kilos limas yyyyy"}]
    questions = [*QUESTIONS, {"id": "q2", "language": "sw", "text": "kilos limas mikes novas"}]
    pairs, multilingual = parallel_tasks(JsonlReader.parse(f"Mixed=jsonl:{write(tmp_path, passages, questions)}"))
    # No question has a relevant passage in French, and there is none in Swahili.
    assert set(pairs.metadata.eval_langs) == {
        f"{query}-{corpus}" for query in ("de", "en", "sw") for corpus in ("de", "en")
    }
    assert set(multilingual.metadata.eval_langs) == {"de", "en", "sw"}
    task = multilingual()
    assert task.parts_of("sw") == ("de", "en", "fr")
    scores = evaluate(mteb.get_model("hybrid_bench/char-ngram"), [pairs(), task])
    # As the English version, of the same words. The French passage shares two of its three words with the question,
    # more than the German p3: the relevant German passage comes fifth.
    assert {question: row["ranks"] for question, row in per_query(task, "sw").items()} == {"q2": [1, 5]}
    assert scores["sw"]["bias_rank_distance"] == 4
    assert scores["sw-de"]["map"] == pytest.approx(1 / 2)
    assert per_query(task, "sw")["q2"]["pool_languages"] == ["de", "en", "fr"]
    task.options = type(task.options)(pool_languages=("sw",))
    with pytest.raises(RequestError, match="the pool of subset en is empty; there are passages in de, en, fr"):
        task.parts_of("en")


def test_a_collection_in_one_language_gives_the_same_numbers_twice(tmp_path: Path) -> None:
    passages = [row for row in PASSAGES if row["language"] == "en"]
    questions = [row for row in QUESTIONS if row["language"] == "en"]
    pairs, multilingual = parallel_tasks(JsonlReader.parse(f"Mono=jsonl:{write(tmp_path, passages, questions)}"))
    assert list(pairs.metadata.eval_langs) == ["en-en"]
    assert list(multilingual.metadata.eval_langs) == ["en"]
    scores = evaluate(mteb.get_model("hybrid_bench/char-ngram"), [pairs(), multilingual()])
    assert scores["en"]["map"] == scores["en-en"]["map"] == 1.0


def test_given_languages_make_tasks_without_the_data(tmp_path: Path) -> None:
    write(tmp_path / "x")
    source = JsonlReader.parse(f"Given=jsonl:{tmp_path / 'x'}", languages=["de", "en"], query_languages=["en"])
    (tmp_path / "x" / "passages.jsonl").unlink()
    pairs, multilingual = parallel_tasks(source)
    assert list(pairs.metadata.eval_langs) == ["en-de", "en-en"]
    assert list(multilingual.metadata.eval_langs) == ["en"]
    assert pairs.metadata.dataset["revision"] == "unavailable"
    with pytest.raises(DataError, match=r"passages\.jsonl .* is missing"):
        pairs().load_data()


def test_data_that_lost_a_language_are_noticed(tmp_path: Path) -> None:
    pairs, _ = parallel_tasks(JsonlReader.parse(f"Lost=jsonl:{write(tmp_path)}"))
    write(tmp_path, [row for row in PASSAGES if row["language"] == "en"])
    with pytest.raises(DataError, match="the passages are in en, not in de, en"):
        pairs().load_data()


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["XQuAD-R", "xquad-r", "HybridDemo"])
def test_the_name_of_an_existing_collection_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError) as caught:
        parallel_tasks(JsonlReader.parse(f"{name}=jsonl:{write(tmp_path)}"))
    assert re.fullmatch(
        rf"there is a task '(?i:{name})-Pairs' already \(hybrid_bench\.tasks\.\w+\): give these data another name, as "
        rf"in NAME=jsonl:{tmp_path}",
        str(caught.value),
    )


def test_the_same_tasks_may_be_made_twice_but_not_those_of_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = JsonlReader.parse(f"Again=jsonl:{write(tmp_path / 'a')}")
    registry = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
    for task in parallel_tasks(source):
        monkeypatch.setitem(registry, task.metadata.name, task)
    assert [task.metadata.name for task in parallel_tasks(source)] == ["Again-Pairs", "Again-Multilingual"]
    with pytest.raises(RequestError, match="there is a task 'Again-Pairs' already"):
        parallel_tasks(JsonlReader.parse(f"Again=jsonl:{write(tmp_path / 'b')}"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"main_score": "ndgc_at_10"}, "unknown main score 'ndgc_at_10': did you mean 'ndcg_at_10'?"),
        ({"domain": ["Medical"]}, "a task's metadata have no field 'domain' to give: did you mean 'domains'?"),
        ({"eval_langs": ["eng-Latn"]}, "a task's metadata have no field 'eval_langs' to give: "),
        ({"license": "free"}, "Refused-Pairs: mteb does not take license"),
        ({"domains": ["Potions"]}, "Refused-Pairs: mteb does not take domains.0='Potions': Input should be "),
        ({"prompt": {"passage": "x"}}, "Refused-Pairs: mteb does not take prompt"),
    ],
)
def test_metadata_that_mteb_does_not_take_are_refused(tmp_path: Path, arguments: Row, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parallel_tasks(JsonlReader.parse(f"Refused=jsonl:{write(tmp_path)}"), **arguments)
    assert str(caught.value).startswith(message)


def test_further_metadata_reach_mteb(tmp_path: Path) -> None:
    tasks = parallel_tasks(
        JsonlReader.parse(f"Told=jsonl:{write(tmp_path)}", notice="Not for sale."),
        main_score="ndcg_at_10",
        license="cc-by-4.0",
        reference="https://example.org/data",
        bibtex_citation="@misc{x}",
        domains=["Medical"],
        is_public=True,
    )
    for task in tasks:
        metadata = task.metadata
        assert (metadata.main_score, metadata.license, metadata.domains) == ("ndcg_at_10", "cc-by-4.0", ["Medical"])
        assert (metadata.reference, metadata.bibtex_citation) == ("https://example.org/data", "@misc{x}")
        assert metadata.is_public
        assert metadata.description.startswith("Retrieve the passages of Told that are relevant to a question. ")
        assert task().notice == "Not for sale."
    assert [task.__name__ for task in tasks] == ["ToldPairs", "ToldMultilingual"]


def test_wrong_data_are_named_when_tasks_are_made(tmp_path: Path) -> None:
    folder = write(tmp_path, PASSAGES, [*QUESTIONS, {"id": "q", "language": "en", "text": "?", "relevant": ["p7"]}])
    with pytest.raises(DataError, match=r"questions\.jsonl:4: the relevant passage 'p7' does not exist"):
        parallel_tasks(JsonlReader.parse(f"Wrong=jsonl:{folder}"))
