"""That no right answer is trained as a wrong one: batches of every kind of source, looked at text by text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from helpers import static_model
from hybrid_bench.training.data import ParallelDataset
from hybrid_bench.training.loss import HybridBatchLoss
from hybrid_bench.training.sampler import HybridBatchSampler
from hybrid_bench.training.sampling import Sampling
from hybrid_bench.training.sources import SourceSpec
from hybrid_bench.training.texts import ParallelTexts

CODES = ("de", "en", "fr")
SIZE = 8


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BENCH_CACHE", str(tmp_path / "cache"))


def words(role: str, number: int) -> dict[str, str]:
    """A text in every language."""
    return {f"{role}_{code}": f"{role} {number} {code}" for code in CODES}


def three_positives(rng: np.random.Generator) -> pa.Table:
    """Each question with three answers of its own, in the languages of the table."""
    rows = [{**words("query", i), **words("passage", i), "question_id": f"q{i // 3}"} for i in range(240)]
    return pa.Table.from_pylist(rows)


def mined_negatives(rng: np.random.Generator) -> pa.Table:
    """Hard negatives that were mined among the answers, with their translations."""
    rows = []
    for i in range(240):
        first, second = (rng.integers(0, 300, 2) // 2 * 2).tolist()  # also some that are no row's answer
        wrong = {f"negative_1_{code}": f"passage {first if first != i else 999} {code}" for code in CODES}
        # Of the second, one language alone tells which answer it is; French has a space at its end.
        wrong |= {f"negative_2_{code}": f"passage {second if second != i else 999} {code}" for code in CODES[:1]}
        wrong |= {f"negative_2_{code}": f"another translation of {second} {code} " for code in CODES[1:]}
        rows.append({**words("query", i), **words("passage", i), **wrong})
    return pa.Table.from_pylist(rows)


def repeated_texts(rng: np.random.Generator) -> pa.Table:
    """Rows without anything that says which belong together: some questions and some answers occur again."""
    rows = []
    for _ in range(240):
        question, answer = rng.integers(0, 150, 2).tolist()
        row = {**words("query", 1_000 * question + int(rng.integers(0, 3))), **words("passage", answer)}
        row["query_de"] = f"query {question} de"  # the same in one language, not in the others
        row["passage_fr"] = f"passage {answer} en "  # which was not translated
        rows.append(row)
    return pa.Table.from_pylist(rows)


TABLES: dict[str, Callable[[np.random.Generator], pa.Table]] = {
    "three answers to a question": three_positives,
    "hard negatives that are answers": mined_negatives,
    "the same texts again": repeated_texts,
}


def answers_to(source: ParallelTexts) -> list[set[str]]:
    """For each row, every text, in any language, that the data show to answer its question, without going further."""
    rows = np.arange(len(source))
    columns = {(role, code): source.texts(role, code, rows) for role in source.roles for code in source.languages}
    ids = list(source.question_ids) if source.question_ids is not None else [""] * len(source)
    asked = [{columns["query", code][row].strip() for code in source.languages} - {""} for row in range(len(source))]
    told = [{columns["passage", code][row].strip() for code in source.languages} - {""} for row in range(len(source))]
    found = []
    for row in range(len(source)):
        same = [
            other
            for other in range(len(source))
            if asked[row] & asked[other] or told[row] & told[other] or (ids[row] and ids[row] == ids[other])
        ]
        found.append(set().union(*(told[other] for other in same)))
    return found


def wrong(dataset: ParallelDataset, batch: Sequence[int], answers: list[set[str]], *, masked: bool) -> int:
    """How many answers to a query of the batch, or their translations, are among its negatives.

    Args:
        dataset: A data set of one source.
        batch: Numbers of items.
        answers: See `answers_to`.
        masked: Leave out what the loss is told to leave out, by the labels.
    """
    (source,) = dataset.sources
    parts, labels = dataset.items.decode(batch), dataset.labels(batch)
    rows = parts.row.tolist()
    texts: dict[str, list[set[str]]] = {role: [{*()} for _ in rows] for role in source.roles[1:]}
    for role in source.roles[1:]:
        for code in source.languages:
            for place, text in enumerate(source.texts(role, code, parts.row)):
                texts[role][place] |= {text.strip()} - {""}
    count = 0
    for i, row in enumerate(rows):
        for role, (place, column) in zip(source.roles[1:], enumerate([0, *range(3, labels.shape[1])]), strict=False):
            for j in range(len(rows)):
                if place == 0 and i == j:
                    continue  # its own answer
                left_out = masked and labels[j, column] == labels[i, 0]
                count += bool(texts[role][j] & answers[row]) and not left_out
        for role in source.roles[1 + max(1, labels.shape[1] - 2) :]:  # hard negatives of which the labels say nothing
            count += sum(bool(each & answers[row]) for each in texts[role])
    return count


def batches_of(dataset: ParallelDataset, how: Sampling, epochs: int = 3) -> list[list[int]]:
    sampler = HybridBatchSampler(dataset, SIZE, sampling=how)
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += [list(batch) for batch in sampler]
    return found


@pytest.mark.parametrize("mode", ["hybrid", "x-x"])
@pytest.mark.parametrize("case", TABLES)
def test_no_batch_holds_an_answer_among_its_negatives(case: str, mode: str) -> None:
    source = ParallelTexts.from_table(case, TABLES[case](np.random.default_rng(1)))
    dataset, answers = ParallelDataset.of(source), answers_to(source)
    batches = batches_of(dataset, Sampling(mode))
    assert len(batches) > 30
    assert sum(wrong(dataset, batch, answers, masked=False) for batch in batches) == 0
    # Rows drawn without regard to groups have such negatives, and the loss is told of every one of them.
    drawn = np.random.default_rng(2).permutation(len(source))[: len(source) // SIZE * SIZE].reshape(-1, SIZE).tolist()
    assert sum(wrong(dataset, batch, answers, masked=False) for batch in drawn) > 5
    assert sum(wrong(dataset, batch, answers, masked=True) for batch in drawn) == 0


def saved(folder: Path, name: str, lines: Sequence[Mapping[str, Any] | str]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")


def make_parallel(folder: Path, rng: np.random.Generator) -> SourceSpec:
    saved(folder, "a.jsonl", mined_negatives(rng).to_pylist())
    return SourceSpec("s", "parallel", path=str(folder))


def make_hf(folder: Path, rng: np.random.Generator) -> SourceSpec:
    saved(folder, "a.jsonl", repeated_texts(rng).to_pylist())
    saved(folder, "README.md", ["# rows"])
    return SourceSpec("s", "hf", path=str(folder), options={"files": "*.jsonl"})


def make_mmarco(folder: Path, rng: np.random.Generator) -> SourceSpec:
    """Several ids have the same text; some third ids are other questions' answers."""
    for name in ("english", "german"):
        texts = [f"{i}\tpassage {i // 2 if i < 100 else i} {name}" for i in range(300)]
        saved(folder, f"data/google/collections/{name}_collection.tsv", texts)
        questions = [f"{i}\tquery {i // 2 if i < 40 else i} {name}" for i in range(200)]
        saved(folder, f"data/google/queries/train/{name}_queries.train.tsv", questions)
    triples = [(int(rng.integers(0, 200)), *rng.choice(300, 2, replace=False).tolist()) for _ in range(200)]
    saved(folder, "data/triples.train.ids.small.tsv", ["{}\t{}\t{}".format(*each) for each in triples])
    return SourceSpec("s", "mmarco", path=str(folder), languages=("en", "de"), options={"negatives": 1})


def make_mr_tydi(folder: Path, rng: np.random.Generator) -> SourceSpec:
    """Negatives are other questions' first or second answers, by id, whose texts need not stand in any row."""

    def passage(number: int) -> dict[str, str]:
        return {"docid": f"{number}#0", "title": "", "text": f"passage {number // 2 if number < 40 else number}"}

    rows = [
        {
            "query_id": str(i),
            "query": f"query {i // 2 if i < 40 else i}",
            "positive_passages": [passage(each) for each in rng.choice(400, 2, replace=False).tolist()],
            "negative_passages": [passage(each) for each in rng.choice(400, 2, replace=False).tolist()],
        }
        for i in range(200)
    ]
    saved(folder, "mrtydi-v1.1-english/train.jsonl", rows)
    return SourceSpec("s", "mr-tydi", path=str(folder), languages=("en",), options={"negatives": 2})


def make_mfaq(folder: Path, rng: np.random.Generator) -> SourceSpec:
    pairs = [
        {"question": f"query {rng.integers(0, 150)}", "answer": f"passage {rng.integers(0, 150)}"} for _ in range(200)
    ]
    saved(
        folder, "data/en/train.jsonl", [{"qa_pairs": list(each)} for each in zip(pairs[::2], pairs[1::2], strict=True)]
    )
    return SourceSpec("s", "mfaq", path=str(folder), languages=("en",))


def make_lareqa(folder: Path, rng: np.random.Generator) -> SourceSpec:
    return SourceSpec("s", "lareqa", dataset="HybridDemo", languages=("de", "en", "th"))


def make_lines(folder: Path, rng: np.random.Generator) -> SourceSpec:
    numbers = rng.integers(0, 150, 200).tolist()
    for code in ("de", "en"):  # English tells some apart that German does not
        saved(folder, code, [f"line {each // 2 if code == 'de' else each} {code}" for each in numbers])
    return SourceSpec("s", "lines", path=str(folder), columns={"de": "de", "en": "en"})


SOURCES: dict[str, Callable[[Path, np.random.Generator], SourceSpec]] = {
    "parallel": make_parallel,
    "hf": make_hf,
    "mmarco": make_mmarco,
    "mr-tydi": make_mr_tydi,
    "mfaq": make_mfaq,
    "lareqa": make_lareqa,
    "lines": make_lines,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_nor_of_any_kind_of_source(kind: str, tmp_path: Path) -> None:
    source = SOURCES[kind](tmp_path / "data", np.random.default_rng(3)).load()
    dataset, answers = ParallelDataset.of(source), answers_to(source)
    alpha = 1 if len(source.languages) == 1 else 0.5
    batches = batches_of(dataset, Sampling(alpha=alpha), epochs=2)
    assert len(batches) > 15
    assert sum(wrong(dataset, batch, answers, masked=False) for batch in batches) == 0
    drawn = np.random.default_rng(2).permutation(len(source))[: len(source) // SIZE * SIZE].reshape(-1, SIZE).tolist()
    assert sum(wrong(dataset, batch, answers, masked=False) for batch in drawn) > 0
    assert sum(wrong(dataset, batch, answers, masked=True) for batch in drawn) == 0


def test_an_answer_of_mr_tydi_that_stands_in_no_row_is_known_by_its_id(tmp_path: Path) -> None:
    spec = make_mr_tydi(tmp_path / "data", np.random.default_rng(3))
    rows = [json.loads(line) for line in (tmp_path / "data/mrtydi-v1.1-english/train.jsonl").read_text().splitlines()]
    source = spec.load()
    groups, found = source.group_of(np.arange(len(rows))), 0
    for row, one in enumerate(rows):
        for k, negative in enumerate(one["negative_passages"]):
            for other, two in enumerate(rows):
                if negative["docid"] == two["positive_passages"][1]["docid"]:
                    numbers = source.negative_groups[k]
                    assert numbers is not None
                    assert numbers[row] == groups[other]
                    found += 1
    assert found > 50


def test_the_loss_leaves_out_hard_negatives_that_answer() -> None:
    """What it is without them: the same loss, of a batch in which each such negative is left out by hand."""
    source = ParallelTexts.from_table("S", mined_negatives(np.random.default_rng(1)))
    dataset = ParallelDataset.of(source)
    batch = dataset[:SIZE]
    texts = [batch[column] for column in dataset.column_names if column != "label"]
    labels = torch.tensor(batch["label"])
    groups = labels[:, 0]
    # Negatives of which the batch has the answer: the first negative of the first row answers the third query.
    labels[0, 3] = groups[2]
    model = static_model([text for column in texts for text in column], dimension=16)
    features = [model.preprocess(column) for column in texts]
    loss = HybridBatchLoss(model, MultipleNegativesRankingLoss(model, scale=5.0))(features, labels)
    vectors = [torch.nn.functional.normalize(torch.as_tensor(model.encode(column)), dim=1) for column in texts]
    of = torch.cat([groups, *labels[:, 3:].T])
    scores = 5.0 * vectors[0] @ torch.cat(vectors[1:]).T
    own = torch.eye(SIZE, len(of), dtype=torch.bool)
    scores = scores.masked_fill((groups[:, None] == of) & ~own, -torch.inf)
    assert torch.isinf(scores[2, SIZE]), "it is left out for the query that it answers"
    assert not torch.isinf(scores[1, SIZE])
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(SIZE))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_items_of_one_batch_have_labels_of_one_width() -> None:
    rng = np.random.default_rng(1)
    known = ParallelTexts.from_table("known", mined_negatives(rng))
    plain = ParallelTexts.from_table("plain", three_positives(rng))
    dataset = ParallelDataset.of([plain, known])
    widths = {len(dataset[row]["label"]) for row in range(len(plain))}, {len(dataset[row]["label"]) for row in (-1, -9)}
    assert widths == ({3}, {5})
    assert dataset.labels([0, len(plain)]).shape == (2, 5)
    (of_known,) = {len(label) for label in dataset[len(plain) :]["label"]}
    for row in (len(plain), len(dataset) - 1):
        assert dataset.labels([row])[0, :of_known].tolist() == dataset[row]["label"]
    assert dataset.labels([0])[0, 3:].tolist() == [-1, -1]
