"""What the questions of mteb's tasks with several subsets are clustered by; small tables by hand."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_bench.evaluation.foreign import _clusters

Judged = Mapping[tuple[str, str], Mapping[str, frozenset[str]]]


def judged(**subsets: Mapping[str, str]) -> Judged:
    """Of each subset the one relevant document of each query."""
    return {("test", name): {i: frozenset([d]) for i, d in rows.items()} for name, rows in subsets.items()}


def groups(clustered: Mapping[str, str]) -> set[frozenset[str]]:
    found: dict[str, set[str]] = {}
    for question, cluster in clustered.items():
        found.setdefault(cluster, set()).add(question.removeprefix("test/"))
    return {frozenset(each) for each in found.values()}


def ten(documents: str, number_from: int = 0) -> dict[str, str]:
    """Ten queries, and which document answers each."""
    return {f"q{number_from + i}": document for i, document in enumerate(documents)}


def test_parallel_subsets_join_by_document_whatever_their_documents_are_called() -> None:
    clustered, remarks = _clusters(judged(de=ten("aabbccddee"), fr=ten("vvwwxxyyzz"), en=ten("aabbc")))
    assert groups(clustered) == {
        frozenset(f"{code}/q{i}" for code in ("de", "fr", "en") for i in (first, first + 1) if code != "en" or i < 5)
        for first in range(0, 10, 2)
    }
    assert remarks == [
        "questions of several subsets with the same id are one question, and those about one document are one cluster:"
        " 5 clusters of 25 queries"
    ]


def test_a_cluster_has_the_same_name_whichever_subsets_are_evaluated() -> None:
    whole, _ = _clusters(judged(de=ten("aabbccddee"), fr=ten("vvwwxxyyzz")))
    for name, documents in (("de", "aabbccddee"), ("fr", "vvwwxxyyzz")):
        alone, _ = _clusters(judged(**{name: ten(documents)}))
        assert alone.items() <= whole.items()


def test_equal_ids_of_other_questions_do_not_join() -> None:
    clustered, remarks = _clusters(judged(de=ten("aabbccddee"), fr=ten("vwvwxyxyzz")))
    assert len(groups(clustered)) == 10
    assert all(len({question.partition("/")[0] for question in group}) == 1 for group in groups(clustered))
    assert remarks[0].startswith("test/fr: its questions count as others than those of the same ids")
    assert remarks[1].startswith("each query alone: ")


def test_numbers_say_nothing_where_every_question_has_its_own_document() -> None:
    """1, 2, 3 in both: it may be the same questions, or not."""
    clustered, remarks = _clusters(judged(de=ten("abcdefghij"), fr=ten("klmnopqrst")))
    assert len(groups(clustered)) == 20
    assert remarks[-1].startswith("each query alone: ")


def test_the_same_documents_join_them() -> None:
    """Queries in several languages to one corpus."""
    clustered, _ = _clusters(judged(de=ten("abcdefghij"), fr=ten("abcdefghij")))
    assert groups(clustered) == {frozenset([f"de/q{i}", f"fr/q{i}"]) for i in range(10)}


def test_subsets_without_common_ids_are_told() -> None:
    clustered, remarks = _clusters(judged(de=ten("abcdefghij"), fr=ten("abcdefghij", 10)))
    assert len(groups(clustered)) == 20
    assert len(remarks) == 1
    assert remarks[0].startswith("each query alone: ")


def test_a_document_that_answers_most_questions_joins_none_of_them() -> None:
    clustered, _ = _clusters(judged(de=ten("aaaaaabbcd")))
    assert len(groups(clustered)) == 10


def test_one_question_in_ten_may_disagree() -> None:
    twenty = {f"q{i}": "abcdefghij"[i // 2] for i in range(20)}
    moved = {i: document.upper() for i, document in twenty.items()} | {"q19": "K"}
    clustered, _ = _clusters(judged(de=twenty, fr=moved))
    assert clustered["test/de/q0"] == clustered["test/fr/q0"]
    clustered, _ = _clusters(judged(de=twenty, fr=moved | {"q17": "L"}))
    assert clustered["test/de/q0"] != clustered["test/fr/q0"]


def test_splits_are_kept_apart() -> None:
    rows = {i: frozenset([d]) for i, d in ten("aabbccddee").items()}
    clustered, _ = _clusters({(split, name): rows for split in ("dev", "test") for name in ("de", "fr")})
    assert len({*clustered.values()}) == 10
