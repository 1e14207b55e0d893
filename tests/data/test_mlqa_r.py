"""MLQA-R, where a question stands in two to four of seven languages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybrid_bench.data.collection import Collection, DataOptions
from hybrid_bench.evaluation.registry import collections


@pytest.fixture(scope="module")
def mlqa_r(data_dir: Path) -> Collection:
    return collections()["MLQA-R"][0].reader.load(DataOptions(data_dir=data_dir))


def test_query_cells_are_those_published(mlqa_r: Collection) -> None:
    """A query counts in a pair only if its id has a relevant sentence in the corpus language."""
    monolingual = cross_lingual = 0
    for index, code in enumerate(mlqa_r.parts):
        own = mlqa_r.queries[code].judgments.part == index
        monolingual += int(own.sum())
        cross_lingual += int((~own).sum())
    assert (monolingual, cross_lingual) == (4199, 11548)


def test_questions_stand_in_two_to_four_languages(mlqa_r: Collection) -> None:
    languages_of: dict[str, int] = {}
    for queries in mlqa_r.queries.values():
        for question_id in queries.question_ids:
            languages_of[question_id] = languages_of.get(question_id, 0) + 1
    assert np.bincount(list(languages_of.values())).tolist() == [0, 0, 65, 263, 820]


def test_clusters_are_joined_over_languages(mlqa_r: Collection) -> None:
    assert len(mlqa_r.paragraph_cluster) == 1148
    assert len(set(mlqa_r.paragraph_cluster.values())) == 933
    assert len(set(mlqa_r.article_cluster.values())) == 520


def test_56_settings_need_at_most_24733_texts(mlqa_r: Collection) -> None:
    within = over = 0
    everything: dict[str, set[str]] = {"query": set(), "passage": set()}
    for code in mlqa_r.parts:
        questions = set(mlqa_r.queries[code].texts)
        passages = {text.strip() for text in mlqa_r.passages[code].texts}
        within += len(questions) + len(passages)
        everything["query"] |= questions
        everything["passage"] |= passages
    over = sum(map(len, everything.values()))
    assert within <= 24733
    assert over <= 24695
