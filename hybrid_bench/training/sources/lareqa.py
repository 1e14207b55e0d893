"""The kind ``lareqa``: questions and the sentences that answer them, and the articles that these are from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from hybrid_bench.data.collection import PassageText, clusters
from hybrid_bench.data.files import resolve
from hybrid_bench.data.lareqa import LareqaReader, read_lareqa
from hybrid_bench.data.parsing import read_json
from hybrid_bench.errors import DataError, RequestError, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.sources.places import local_path
from hybrid_bench.training.sources.schema import LANGUAGE_CODE, SourceTexts, need_languages, of_schema

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["Articles", "collection_files", "lareqa_articles", "read_lareqa_format"]


class Articles(NamedTuple):
    """Articles of data in LAReQA's format.

    Attributes:
        number: By question id, the number of its article: questions that share one in any language have one number.
        titles: By number, the titles that an article has, in all languages.
        paragraphs: By question id, the paragraph that its answer is in, in each language.
    """

    number: Mapping[str, int]
    titles: tuple[frozenset[str], ...]
    paragraphs: Mapping[str, tuple[str, ...]]


def collection_files(source: LareqaReader, data_dir: Path | None = None) -> dict[str, Path]:
    """The files of a collection in LAReQA's format, by language; see `sources.resolve` for what is raised."""
    if source.root is not None:
        return {code: source.root / remote.path for code, remote in source.files.items()}
    found = resolve(list(source.files.values()), data_dir)
    return {code: found[remote.path] for code, remote in source.files.items()}


def lareqa_articles(files: Mapping[str, Path]) -> Articles:
    """The articles of files in LAReQA's format, which must have been read as such before.

    Titles are localised, and a question stands in some languages only. So articles are joined by question id, as
    `Collection.article_cluster` is, and each has the titles of all languages.
    """
    together: list[tuple[str, list[str]]] = []
    paragraphs: dict[str, tuple[str, ...]] = {}
    for path in files.values():
        for article in read_json(path)["data"]:
            found = {qa["id"]: paragraph["context"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]}
            together.append((str(article.get("title", "")), list(found)))
            paragraphs |= {each: (*paragraphs.get(each, ()), text) for each, text in found.items()}
    number = clusters(ids for _, ids in together)
    titles: list[set[str]] = [set() for _ in set(number.values())]
    for title, ids in together:
        if ids and title.strip():
            titles[number[ids[0]]].add(title)
    return Articles(number, tuple(map(frozenset, titles)), paragraphs)


def read_lareqa_format(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """A question, and the sentence that answers it, linked between languages by question id."""
    if spec.dataset:
        from hybrid_bench.evaluation.registry import collections  # mteb, which takes seconds

        sources = {name: tasks[0].reader for name, tasks in collections().items()}
        known = {name: source for name, source in sources.items() if isinstance(source, LareqaReader)}
        if spec.dataset not in known:
            raise RequestError(
                f"{spec.name}: no collection '{spec.dataset}' in LAReQA's format: {did_you_mean(spec.dataset, known)}"
            )
        paths = collection_files(known[spec.dataset], data_dir)
    else:
        folder = local_path(spec)
        paths = {path.stem: path for path in sorted(folder.glob("*.json")) if LANGUAGE_CODE.fullmatch(path.stem)}
        if not paths:
            raise DataError(f"{spec.name}: {folder} has no files in LAReQA's format, <language>.json")
    need_languages(spec, paths, spec.place)
    # Every language is read: what belongs together is known only from all of them.
    files = {code: read_lareqa(path, PassageText(spec.option("passage"))) for code, path in paths.items()}
    same: dict[tuple[str, str], list[str]] = defaultdict(list)  # passage, by place and by words -> question ids
    level: dict[tuple[str, int], list[str]] = defaultdict(list)
    for code, file in files.items():
        for question in file.questions:
            same[code, question.passage].append(question.id)
            same[code, f"={file.candidates[question.passage].strip()}"].append(question.id)
            level[code, getattr(question, spec.option("by"))].append(question.id)
    group, cluster = clusters(same.values()), clusters(level.values())
    articles = lareqa_articles(paths)
    wanted = spec.languages or tuple(paths)
    asked = {code: {question.id: question for question in files[code].questions} for code in wanted}
    ids = [
        each
        for each in dict.fromkeys(chain.from_iterable(asked.values()))
        if cluster[each] % spec.option("folds") in spec.option("fold")
    ]
    if not ids:
        raise DataError(f"{spec.name}: no question of {spec.place} is in fold {shown(spec.option('fold'))}")
    table = {}
    for code in wanted:
        found = [asked[code].get(each) for each in ids]
        answers = [None if question is None else files[code].candidates[question.passage] for question in found]
        table[f"query_{code}"] = pa.array([None if question is None else question.text for question in found])
        table[f"passage_{code}"] = pa.array(answers)
    texts = of_schema(replace(spec, languages=wanted), pa.table(table))
    return replace(
        texts,
        groups=np.array([group[each] for each in ids], np.int64),
        question_ids=tuple(ids),
        article=np.array([articles.number[each] for each in ids], np.int32),
        titles=articles.titles,
        collection=spec.dataset,
    )
