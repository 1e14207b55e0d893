"""The data set that the Trainer takes: items by definition, the Trainer's own parts on it, and what it refuses."""

from __future__ import annotations

import copy
import gc
import pickle
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets.table import InMemoryTable
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import GroupByLabelBatchSampler, NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch.utils.data import ConcatDataset, DataLoader

from helpers import static_model
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.training import HybridBatchLoss, HybridBatchSampler, ParallelDataset
from hybrid_bench.training.data import GROUP_BITS
from hybrid_bench.training.texts import ParallelTexts
from parallel_texts import parallel, table_of, text_of


def two_sources() -> ParallelDataset:
    """One with groups, gaps and hard negatives; one with other languages and fewer hard negatives."""
    return ParallelDataset.of(
        [
            parallel("A", 30, ("de", "en", "sw"), missing=0.2, negatives=2, groups=np.arange(30) // 4),
            parallel("B", 20, ("en", "zh"), negatives=1),
        ]
    )


def item_of(dataset: ParallelDataset, source: int, row: int, query: str, passage: str) -> dict[str, Any]:
    """An item by definition."""
    texts = dataset.sources[source]
    languages = {"query": query}
    item: dict[str, Any] = {}
    for role in texts.roles:
        code = languages.get(role, passage)
        there = texts.available(role, code, np.array([row]))[0]
        item[role] = text_of(texts.name, role, row, code) if there else ""
    group = row if texts.groups is None else row // 4
    label = [source * 2**GROUP_BITS + group, *(dataset.languages.index(code) for code in (query, passage))]
    return {**item, "label": label}


def test_every_item_is_read_by_its_number() -> None:
    dataset = two_sources()
    assert dataset.languages == ("de", "en", "sw", "zh")
    numbers, expected = [], []
    for source, texts in enumerate(dataset.sources):
        for row, query, passage in product(range(len(texts)), texts.languages, texts.languages):
            at = texts.languages.index(query), texts.languages.index(passage)
            numbers.append(int(dataset.items.encode(source, np.array([row]), *at)[0]))
            expected.append(item_of(dataset, source, row, query, passage))
    order = np.random.default_rng(0).permutation(len(numbers))
    read = dataset.__getitems__([numbers[place] for place in order])
    assert read == [expected[place] for place in order]
    assert [list(item) for item in read] == [list(expected[place]) for place in order]  # the order of columns, too
    assert dataset[numbers[0]] == expected[0]
    assert dataset.labels(numbers).tolist() == [item["label"] for item in expected]
    assert dataset.__getitems__([]) == []


def test_rows_as_such_are_in_the_first_language_that_they_are_whole_in() -> None:
    dataset = two_sources()
    texts = dataset.sources[0]
    kinds = set()
    for row, item in zip(range(30), dataset, strict=False):
        there = {
            code: [texts.available(role, code, np.array([row]))[0] for role in texts.roles] for code in texts.languages
        }
        whole = [code for code in texts.languages if all(there[code])]
        asked = [code for code in texts.languages if there[code][0]]
        answered = [code for code in texts.languages if all(there[code][1:])]
        query, passage = (whole[0], whole[0]) if whole else ([*asked, "de"][0], [*answered, "de"][0])
        kinds.add((bool(whole), bool(asked), bool(answered)))
        assert item == item_of(dataset, 0, row, query, passage)
        assert item == dataset[row] == dataset[row - len(dataset)]
    assert {(True, True, True), (False, True, True), (False, True, False)} <= kinds
    assert dataset[30] == item_of(dataset, 1, 0, "en", "en")


def test_it_is_a_data_set_of_its_rows() -> None:
    dataset = two_sources()
    assert isinstance(dataset, datasets.Dataset)
    assert (len(dataset), dataset.num_rows, dataset.shape, dataset.num_columns) == (50, 50, (50, 5), 5)
    assert dataset.column_names == ["query", "passage", "negative_1", "negative_2", "label"]
    assert [*dataset.features] == dataset.column_names
    assert len(list(dataset)) == 50
    columns = dataset[28:32]
    assert [*columns] == dataset.column_names
    assert columns["query"] == [dataset[row]["query"] for row in range(28, 32)]
    assert columns["negative_2"][2:] == ["", ""]  # the second source has one hard negative
    assert dataset["passage"] == [item["passage"] for item in dataset]
    assert dataset[[3, 1]]["label"] == [dataset[3]["label"], dataset[1]["label"]]
    assert "50" in repr(dataset)
    taken = dataset.take(5)
    assert type(taken) is datasets.Dataset
    assert taken.to_list() == [dataset[row] for row in range(5)]
    assert dataset.select([49, 0])["query"][:] == [dataset[49]["query"], dataset[0]["query"]]
    fewer = dataset.select_columns(["query", "label"])
    assert fewer[0] == {name: dataset[0][name] for name in ("query", "label")}
    assert (len(fewer), fewer.column_names, [*fewer.features]) == (50, ["query", "label"], ["query", "label"])
    assert dataset.column_names[1] == "passage"
    for number in (-51, dataset.items.end):
        with pytest.raises(IndexError):
            dataset[number]


def test_it_is_copied_and_pickled_with_its_items() -> None:
    dataset = two_sources()
    for other in (copy.copy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert list(other) == list(dataset)
    assert two_sources()._fingerprint == dataset._fingerprint
    assert ParallelDataset.of(dataset.sources[0])._fingerprint != dataset._fingerprint


@pytest.mark.parametrize(("negatives", "most"), [(0, 0), (1, 1), (5, 2)])
def test_hard_negatives_can_be_left_out(negatives: int, most: int) -> None:
    dataset = ParallelDataset.of(two_sources().sources, negatives=negatives)
    assert dataset.column_names == ["query", "passage", *(f"negative_{k + 1}" for k in range(most)), "label"]
    assert [*dataset[0]] == dataset.column_names


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_reads_the_items_of_the_sampler(workers: int) -> None:
    dataset = two_sources()
    sampler = HybridBatchSampler(dataset, 4, seed=1)
    loader: Any = DataLoader(dataset, batch_sampler=sampler, collate_fn=list, num_workers=workers)
    read = list(loader)
    assert read == [dataset.__getitems__(list(batch)) for batch in sampler]
    for batch in read:
        assert len({item["label"][0] for item in batch}) == 4
        assert all(text for item in batch for text in item.values())
        assert len({tuple(item) for item in batch}) == 1  # the same columns in a batch


def test_the_trainer_trains_and_its_model_card_knows_the_data(tmp_path: Path) -> None:
    dataset = two_sources()
    model = static_model([item[role] for item in dataset for role in ("query", "passage")], dimension=8)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            str(tmp_path / "out"),
            per_device_train_batch_size=4,
            per_device_eval_batch_size=4,
            num_train_epochs=1,
            batch_sampler=HybridBatchSampler,
            dataloader_num_workers=2,
            dataloader_pin_memory=False,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            prompts={"query": "Query: ", "passage": "Passage: "},
        ),
        train_dataset=dataset,
        eval_dataset=dataset,
        loss=MultipleNegativesRankingLoss(model),
    )
    steps = 24 // 4 + 20 // 4  # six rows of the first lack what every batch needs
    assert len(trainer.get_train_dataloader()) == steps
    done = trainer.train()
    assert done.global_step == steps
    assert np.isfinite(done.training_loss)
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    model.save_pretrained(str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text()
    assert "A + B" in card
    assert "* Size: 50 training samples" in card
    assert all(f"<code>{column}</code>" in card for column in dataset.column_names)
    assert dataset[0]["query"] in card


@pytest.mark.parametrize("method", ["map", "filter", "shuffle", "train_test_split", "to_dict", "save_to_disk", "iter"])
def test_what_would_go_by_the_empty_table_is_refused_in_one_line(method: str) -> None:
    with pytest.raises(RequestError) as error:
        getattr(two_sources(), method)(lambda item: item)
    assert str(error.value) == (
        f"a ParallelDataset has no {method}(): choose or change the rows of its sources, or read items with select()"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda dataset: dataset["qurey"], "no column \"qurey\": did you mean 'query'?"),
        (lambda dataset: dataset.select_columns("label2"), "no column \"label2\": did you mean 'label'?"),
        (
            lambda dataset: ParallelDataset.of(datasets.Dataset.from_dict({"query_de": ["a"]})),
            "ParallelDataset.of takes ParallelTexts, not a Dataset: make one of a Dataset with "
            "ParallelDataset.from_dataset(dataset)",
        ),
        (
            ParallelDataset.from_dataset,
            "ParallelDataset.from_dataset takes a datasets.Dataset, not a ParallelDataset: give one of its splits, or "
            "sources to ParallelDataset.of",
        ),
        (lambda dataset: ParallelDataset.of([]), "no sources: give at least one ParallelTexts"),
        (
            lambda dataset: ParallelDataset.of(dataset.sources, negatives=-1),
            "negatives is -1: give 0 for no hard negatives, or how many",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_one_line(call: Any, message: str) -> None:
    with pytest.raises(RequestError) as error:
        call(two_sources())
    assert str(error.value) == message


# -- made of a data set, and sent to workers --------------------------------------------------------------------------


def test_rows_of_a_data_set_are_taken_as_they_were_selected_and_shuffled() -> None:
    table = table_of("A", 40, ("de", "en"), missing=0.1, negatives=1).append_column("group", pa.array(range(40)))
    whole = datasets.Dataset(InMemoryTable(table))
    for changed, rows in (
        (whole, range(40)),
        (whole.select([7, 3, 5]), [7, 3, 5]),
        (whole.shuffle(seed=1).select(range(10)), whole.add_column("row", range(40)).shuffle(seed=1)["row"][:10]),
        (whole.select(range(5, 25)), range(5, 25)),
    ):
        made = ParallelDataset.from_dataset(changed, name="A")
        source = ParallelTexts.from_table("A", table).select(list(rows))
        for item, other in zip(made, ParallelDataset.of(source), strict=True):
            assert {**item, "label": item["label"][1:]} == {**other, "label": other["label"][1:]}
        assert len({item["label"][0] for item in made}) == len(made)
        assert len(made) == len(changed)
    assert ParallelDataset.from_dataset(whole, negatives=0).column_names == ["query", "passage", "label"]
    assert len(list(HybridBatchSampler(ParallelDataset.from_dataset(whole.select(range(20))), 4))) > 2


def large() -> ParallelDataset:
    """Some 4 MB of texts."""
    rows = 4_000
    columns = {
        f"{role}_{code}": [f"{role} {row} {code} " + "x" * 250 for row in range(rows)]
        for role in ("query", "passage")
        for code in ("de", "en")
    }
    return ParallelDataset.of(ParallelTexts.from_table("S", pa.table({**columns, "group": np.arange(rows) // 2})))


def test_a_pickle_is_small_however_large_the_texts() -> None:
    dataset = large()
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 10_000
    assert len(pickle.dumps(dataset)) == len(pickled)
    other = pickle.loads(pickled)
    numbers = np.random.default_rng(1).integers(len(dataset), dataset.items.end, 50).tolist()
    assert other.__getitems__(numbers) == dataset.__getitems__(numbers)
    assert (other.labels(numbers) == dataset.labels(numbers)).all()
    assert (other._fingerprint, other.column_names, other.epoch) == (dataset._fingerprint, dataset.column_names, 0)
    assert list(other.select_columns("query"))[-1] == list(dataset.select_columns("query"))[-1]
    assert copy.copy(dataset).items is dataset.items
    # What was mapped stays; a pickle alone does not outlive the data that it was made of.
    del dataset
    gc.collect()
    assert len(other.__getitems__(numbers)) == 50
    with pytest.raises(DataError, match="such a pickle is for processes that run beside the one that made it"):
        pickle.loads(pickled)


def test_where_no_file_can_be_written_the_pickle_has_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    dataset = large()
    pickled = pickle.dumps(dataset)
    assert len(pickled) > 4_000_000
    assert "the texts are copied into each worker, as no file can be written: " in caplog.text
    assert pickle.loads(pickled)[17] == dataset[17]


def test_workers_that_are_spawned_read_the_same() -> None:
    dataset = large()
    sampler = HybridBatchSampler(dataset, 400)
    loader: Any = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=list, num_workers=1, multiprocessing_context="spawn"
    )
    assert list(loader) == [dataset.__getitems__(batch) for batch in sampler]


# -- with the other parts of sentence-transformers and datasets -------------------------------------------------------


def arguments_of(folder: Path, **more: Any) -> SentenceTransformerTrainingArguments:
    chosen = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "seed": 1,
        "dataloader_pin_memory": False,
        **more,
    }
    quiet: dict[str, Any] = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    return SentenceTransformerTrainingArguments(str(folder / "out"), **chosen, **quiet)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("multi", ["round_robin", "proportional"])
def test_a_dictionary_of_data_sets_gives_the_batches_of_each(multi: str, workers: int, tmp_path: Path) -> None:
    parts = {name: ParallelDataset.of(source) for name, source in zip("AB", two_sources().sources, strict=True)}
    model = static_model([item["query"] for part in parts.values() for item in part], dimension=8)
    more = {
        "batch_sampler": HybridBatchSampler,
        "multi_dataset_batch_sampler": multi,
        "dataloader_num_workers": workers,
    }
    trainer = SentenceTransformerTrainer(
        model, arguments_of(tmp_path, **more), dict(parts), loss=MultipleNegativesRankingLoss(model)
    )
    loader: Any = trainer.get_train_dataloader()
    given = [list(map(int, batch)) for batch in loader.batch_sampler]
    expected = {name: [list(batch) for batch in HybridBatchSampler(part, 4, seed=1)] for name, part in parts.items()}
    read = list(DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=list, num_workers=workers))
    found: dict[str, list[Any]] = {"A": [], "B": []}
    for items in read:
        (name,) = {item["query"].split()[0] for item in items}
        found[name].append(items)
    for name, part in parts.items():
        items = [part.__getitems__(batch) for batch in expected[name]]
        assert found[name] == items[: len(found[name])]
        assert len(found[name]) >= min(map(len, expected.values()))
    assert len(given) == len(read)
    assert {language for batch in found["A"] for item in batch for language in item["label"][1:]} == {0, 1, 2}
    assert np.isfinite(trainer.train().training_loss)


def test_each_of_a_dictionary_may_have_its_loss(tmp_path: Path) -> None:
    parts = {name: ParallelDataset.of(source) for name, source in zip("AB", two_sources().sources, strict=True)}
    model = static_model([item["query"] for part in parts.values() for item in part], dimension=8)
    losses: dict[str, Any] = {name: HybridBatchLoss(model, MultipleNegativesRankingLoss(model)) for name in parts}
    trainer = SentenceTransformerTrainer(
        model, arguments_of(tmp_path, batch_sampler=HybridBatchSampler), dict(parts), loss=losses
    )
    trainer.train()
    assert [sum(count for _, count in loss._sums[True].values()) for loss in losses.values()] == [6, 5]
    assert [item["dataset_name"] for item in parts["A"].__getitems__([0, 1])] == ["A", "A"]
    assert parts["B"][3:5]["dataset_name"] == ["B", "B"]


def test_an_item_among_others_keeps_its_number() -> None:
    first, second = (ParallelDataset.of(source) for source in two_sources().sources)
    numbers = np.arange(second.items.end)
    numbers = numbers[[bool(len(second.items.decode(np.array([n])).row)) for n in numbers.tolist()]]
    both: Any = ConcatDataset([first, second])
    for item in second.items.named(numbers):
        moved = pickle.loads(pickle.dumps(item + len(first)))
        assert (moved, moved - len(first), len(first) + item) == (item, item, moved)
        assert both[moved] == second[int(item)]
        assert first.items.named(np.array([int(item)]))[0] == int(item)


@pytest.mark.parametrize("join", [datasets.concatenate_datasets, datasets.interleave_datasets])
@pytest.mark.parametrize("how_many", [1, 2])
def test_data_sets_are_not_joined_by_their_empty_tables(join: Any, how_many: int) -> None:
    with pytest.raises(
        RequestError, match=r"cannot be joined to others .*: give all sources to one, ParallelDataset.of"
    ):
        join([two_sources()] * how_many)


def test_their_sampler_without_duplicates_draws_rows_as_such(tmp_path: Path) -> None:
    source = parallel("A", 60, ("de", "en"))
    twice = ParallelDataset.of(source.select(np.arange(90) % 60))
    sampler = NoDuplicatesBatchSampler(twice, 8, True, ["label"], torch.Generator(), 3)
    batches = [twice.__getitems__(batch) for batch in sampler]
    assert len(batches) > 7
    assert all(len({item["query"] for item in batch}) == 8 for batch in batches)
    assert twice.remove_columns(["label"]).column_names == ["query", "passage"]
    with pytest.raises(RequestError, match="no column \"lable\": did you mean 'label'"):
        twice.remove_columns("lable")


def test_their_sampler_by_label_is_refused_in_one_line() -> None:
    with pytest.raises(RequestError, match=r"labels of a ParallelDataset are a group and two languages, not classes"):
        GroupByLabelBatchSampler(two_sources(), 4, True, ["label"])


def test_their_sampler_with_hashes_is_refused_in_one_line() -> None:
    sampler = NoDuplicatesBatchSampler(two_sources(), 4, True, ["label"], torch.Generator(), 3, precompute_hashes=True)
    with pytest.raises(RequestError, match=r"a ParallelDataset has no map\(\)"):
        list(sampler)
