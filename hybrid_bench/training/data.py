"""`ParallelDataset`: parallel texts as the data set that a SentenceTransformerTrainer takes.

The Trainer insists on a `datasets.Dataset`, and calls a good part of its methods. This one reads its items from
`ParallelTexts` when they are asked for. Its length is the number of rows; items of all pairs of languages lie above it,
and only `HybridBatchSampler` asks for those (see `Items`).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
import mmap
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from datasets.table import InMemoryTable
from numpy.typing import ArrayLike, NDArray

from hybrid_bench.errors import DataError, RequestError, first_line, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.texts import ItemParts, Items, ParallelTexts

__all__ = ["GROUP_BITS", "ParallelDataset"]

_log = logging.getLogger(__name__)

#: The first number of a label is `source * 2**GROUP_BITS + group`, which no two sources share.
GROUP_BITS = 40

# Whole numbers of a label before the groups of hard negatives.
_LABEL = 3
# Data of fewer bytes are pickled as they are.
_SMALL = 2**20
# Rows that are read together where a caller goes through all of them.
_PIECE = 1_000
# Methods of `Dataset` that are right here as they are: one goes by `select`, the other looks for files, of which there
# are none.
_KEPT = {"cleanup_cache_files", "take"}


class ParallelDataset(datasets.Dataset):  # type: ignore[misc] # datasets ships no types
    """Rows of one or several sources, as items with the columns that the losses of sentence-transformers read.

    In this order: ``query``, ``passage``, ``negative_1``, ... and ``label``, which is three whole numbers: the group of
    the passage, unique over all sources, and the query's and the passage's language, as positions in `languages`. Where
    it is known of a source's hard negatives what they answer, the group of each follows, -1 for those that answer
    nothing here. An item of a source with fewer hard negatives than another lacks their columns; all items of a batch
    are of one source.

    ``dataset[i]`` for a row number i is row i in the first language that it is whole in, or else in the first pair of
    languages that it has; its texts are empty where it has none. Made by `of`.

    It only reads: rows are chosen and changed in the sources. Methods of `Dataset` that would copy all items, or change
    them, are refused, and so is joining it to others: give all sources to one, or a dictionary of data sets to the
    Trainer.
    """

    items: Items
    #: The epoch that batches are drawn for. accelerate sets the epoch of the data set, too, and does so where it no
    #: longer finds the batch sampler: when training goes on from a checkpoint on several devices.
    epoch: int

    @classmethod
    def of(
        cls, sources: ParallelTexts | Sequence[ParallelTexts], *, negatives: int | None = None, name: str | None = None
    ) -> ParallelDataset:
        """All rows of these sources, with the groups that their texts show, see `ParallelTexts.with_answers`.

        Args:
            sources: One source, or several of different names.
            negatives: How many hard negatives to read at most; None for all that a source has.
            name: What the model card calls the data; None for the names of the sources.

        Raises:
            RequestError: No sources, two of one name, or a negative number of hard negatives.
        """
        if isinstance(sources, datasets.Dataset | datasets.IterableDataset | Mapping):
            raise RequestError(
                f"ParallelDataset.of takes ParallelTexts, not a {type(sources).__name__}: make one of a Dataset with "
                "ParallelDataset.from_dataset(dataset)"
            )
        chosen = [sources] if isinstance(sources, ParallelTexts) else list(sources)
        if negatives is not None:
            if negatives < 0:
                raise RequestError(f"negatives is {negatives}: give 0 for no hard negatives, or how many")
            chosen = [
                replace(
                    source,
                    negatives=source.negatives[:negatives],
                    negative_rows=source.negative_rows[:negatives],
                    negative_groups=source.negative_groups[:negatives],
                )
                for source in chosen
            ]
        items = Items([source.with_answers() for source in chosen])
        for source, given in zip(items.sources, chosen, strict=True):
            for note in source.notes[len(given.notes) :]:
                _log.warning("%s: %s", source.name, note)
        roles = max((source.roles for source in items.sources), key=len)
        features = datasets.Features(
            {
                **{role: datasets.Value("string") for role in roles},
                "label": datasets.Sequence(
                    datasets.Value("int64"), length=-1 if any(s.negative_groups for s in items.sources) else _LABEL
                ),
            }
        )
        info = datasets.DatasetInfo(
            features=features, dataset_name=name or " + ".join(source.name for source in items.sources)
        )
        told = [(source.name, len(source), source.languages, source.roles) for source in items.sources]
        dataset = cls(
            InMemoryTable(features.arrow_schema.empty_table()),
            info=info,
            split=datasets.Split.TRAIN,
            fingerprint=hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16],
        )
        dataset._info = _Alone(**{field.name: getattr(dataset._info, field.name) for field in fields(dataset._info)})
        dataset.items = items
        dataset.epoch = 0
        return dataset

    @classmethod
    def from_dataset(
        cls, dataset: datasets.Dataset, *, name: str | None = None, negatives: int | None = None
    ) -> ParallelDataset:
        """The rows of an ordinary data set with the columns of `ParallelTexts.from_table`.

        Its texts are not copied, so that one that is memory-mapped stays so.

        Args:
            dataset: The data set. Rows that were selected, sorted or shuffled are taken as they are now.
            name: What to call it; None for its own name.
            negatives: As for `of`.

        Raises:
            RequestError: Something else than a `datasets.Dataset`.
            DataError: A column is missing, unknown or not of its type.
        """
        if not isinstance(dataset, datasets.Dataset) or isinstance(dataset, ParallelDataset):
            raise RequestError(
                f"ParallelDataset.from_dataset takes a datasets.Dataset, not a {type(dataset).__name__}: give one of "
                "its splits, or sources to ParallelDataset.of"
            )
        texts = ParallelTexts.from_table(name or dataset.info.dataset_name or "dataset", dataset.data.table)
        if dataset._indices is not None:  # what select and shuffle change, in place of the table
            texts = texts.select(dataset._indices.column(0).to_numpy().astype(np.int64))
        return cls.of(texts, negatives=negatives, name=name)

    @property
    def sources(self) -> tuple[ParallelTexts, ...]:
        """The sources, in order."""
        return self.items.sources

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of all sources; labels hold positions in it."""
        return self.items.languages

    def __reduce_ex__(self, protocol: Any) -> Any:
        """For a pickle: large data go through a file that is mapped where the pickle is read, see `_Kept`."""
        content = {**vars(self), "items": None}
        return _of_pickle, (_kept(self.items), content)

    def __copy__(self) -> ParallelDataset:
        other = type(self).__new__(type(self))
        other.__dict__.update(vars(self))
        return other

    def set_epoch(self, epoch: int) -> None:
        """Draw batches for this epoch from now on, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.items.n_rows

    @property
    def num_rows(self) -> int:
        """Number of rows of all sources."""
        return len(self)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of columns."""
        return len(self), len(self.column_names)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _PIECE):
            yield from self.__getitems__(range(start, min(start + _PIECE, len(self))))

    def __getitem__(self, key: Any) -> Any:
        """An item by its number; several as a dictionary of columns; or, by name, one column of all rows."""
        if isinstance(key, str):
            if key not in self.column_names:
                raise RequestError(f"no column {shown(key)}: {did_you_mean(key, self.column_names)}")
            column = [item[key] for item in self]
            return [_Label(label) for label in column] if key == "label" else column
        if isinstance(key, int | np.integer):
            return self.__getitems__([int(key) + (len(self) if key < 0 else 0)])[0]
        chosen = range(*key.indices(len(self))) if isinstance(key, slice) else list(key)
        found, transform = self._columns(chosen), self._format_kwargs.get("transform")
        return found if transform is None else transform(found)

    def __getitems__(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """The items with these numbers, in this order. This is what a DataLoader calls.

        Raises:
            IndexError: A number is not an item's.
        """
        read, transform = self._read(keys), self._format_kwargs.get("transform")
        if transform is None:
            return read
        made: list[dict[str, Any]] = []
        for columns, items in groupby(read, tuple):  # items of one source have the same columns
            some = list(items)
            changed = transform({column: [item[column] for item in some] for column in columns})
            made += [dict(zip(changed, values, strict=True)) for values in zip(*changed.values(), strict=True)]
        return made

    def set_transform(self, transform: Callable[..., Any] | None, **chosen: Any) -> None:
        """Let a function change the columns of items when they are read, as the Trainer adds a column ``dataset_name``.

        Args:
            transform: Takes and gives a dictionary of lists by column; None for none.
            **chosen: The other arguments of `Dataset.set_transform` are refused.
        """
        if any(chosen.values()):
            raise RequestError(f"a ParallelDataset has no {min(chosen)} of set_transform(): let the function choose")
        self._format_kwargs = {} if transform is None else {"transform": transform}

    def _columns(self, keys: Sequence[int]) -> dict[str, list[Any]]:
        """The items with these numbers by column, as they are in the sources."""
        read = self._read(keys)
        return {column: [item.get(column, "") for item in read] for column in self.column_names}

    def _read(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """The items with these numbers, as they are in the sources."""
        if not len(keys):
            return []
        parts = self._in_a_language(self.items.decode(np.fromiter(keys, np.int64, len(keys))))
        columns = [column for column in self.column_names if column != "label"]
        read: list[dict[str, Any]] = [{} for _ in keys]
        labels = self._labels(parts)
        for number in np.unique(parts.source).tolist():
            source = self.sources[number]
            for role in columns:
                if role not in source.roles:
                    continue
                language = parts.query if role == "query" else parts.passage
                for code in np.unique(language[parts.source == number]).tolist():
                    places = np.flatnonzero((parts.source == number) & (language == code))
                    texts = source.texts(role, source.languages[code], parts.row[places])
                    for place, text in zip(places.tolist(), texts, strict=True):
                        read[place][role] = text
        if "label" in self.column_names:
            widths = [_LABEL + len(source.negative_groups) for source in self.sources]
            for item, label, source_number in zip(read, labels.tolist(), parts.source.tolist(), strict=True):
                item["label"] = label[: widths[source_number]]
        return read

    def labels(self, keys: ArrayLike) -> NDArray[np.int64]:
        """The labels of the items with these numbers, without reading their texts.

        Returns:
            (m, 3 + k), k being the most hard negatives of a source of which it is known what they answer; -1 fills up
            the labels of the others.
        """
        return self._labels(self._in_a_language(self.items.decode(keys)))

    def select(self, indices: Any, *_: Any, **__: Any) -> datasets.Dataset:
        """These items, read into an ordinary data set: meant for a few, as a model card shows them."""
        return datasets.Dataset.from_dict(self._columns(list(indices)), features=self.features)

    def select_columns(self, column_names: str | Sequence[str], *_: Any, **__: Any) -> ParallelDataset:
        """The same rows with these columns alone."""
        names = [column_names] if isinstance(column_names, str) else list(column_names)
        if unknown := [name for name in names if name not in self.column_names]:
            raise RequestError(f"no column {shown(unknown[0])}: {did_you_mean(unknown[0], self.column_names)}")
        fewer = copy.copy(self)
        fewer._info = copy.copy(self._info)
        fewer._info.features = datasets.Features({name: self.features[name] for name in names})
        fewer._data = self._data.select(names)
        return fewer

    def remove_columns(self, column_names: str | Sequence[str], *_: Any, **__: Any) -> ParallelDataset:
        """The same rows without these columns."""
        without = self.select_columns(column_names).column_names
        return self.select_columns([name for name in self.column_names if name not in without])

    def _labels(self, parts: ItemParts) -> NDArray[np.int64]:
        most = max(len(source.negative_groups) for source in self.sources)
        labels = np.full((len(parts.row), _LABEL + most), -1, dtype=np.int64)
        for number in np.unique(parts.source).tolist():
            mine, source = parts.source == number, self.sources[number]
            position = np.array([self.languages.index(code) for code in source.languages])
            labels[mine, 0] = (number << GROUP_BITS) + source.group_of(parts.row[mine])
            labels[mine, 1] = position[parts.query[mine]]
            labels[mine, 2] = position[parts.passage[mine]]
            for k, numbers in enumerate(source.negative_groups, _LABEL):
                if numbers is not None:
                    known = numbers[parts.row[mine]].astype(np.int64)
                    labels[mine, k] = np.where(known < 0, -1, (number << GROUP_BITS) + known)
        return labels

    def _in_a_language(self, parts: ItemParts) -> ItemParts:
        """With languages for those that ask for a row as such."""
        if not (parts.query < 0).any():
            return parts
        query, passage = parts.query.copy(), parts.passage.copy()
        for number in np.unique(parts.source[query < 0]).tolist():
            places = np.flatnonzero((parts.source == number) & (parts.query < 0))
            asked, answered = self.sources[number].readable(parts.row[places])
            both = asked & answered
            query[places] = np.where(both.any(1), both.argmax(1), asked.argmax(1))
            passage[places] = np.where(both.any(1), both.argmax(1), answered.argmax(1))
        return parts._replace(query=query, passage=passage)


class _Kept(NamedTuple):
    """Items for a pickle: with their texts and numbers, or with the file that holds these.

    A worker process that is spawned gets a pickle of the data set. With the texts in it, each would take their size in
    memory, and the time to copy them; in a file that all of them map, they are there once. The file goes with the data
    set that it was written for, so a pickle of large data is for processes that run beside it.

    Attributes:
        pickled: The items, but for the buffers.
        file: The file with the buffers, one behind the other; None where they are in the pickle.
        sizes: Bytes of each buffer.
    """

    pickled: bytes
    file: str | None = None
    sizes: tuple[int, ...] = ()

    def items(self) -> Items:
        """The items, read where this is.

        Raises:
            DataError: The file is gone.
        """
        if self.file is None:
            found: Items = pickle.loads(self.pickled)
            return found
        try:
            with Path(self.file).open("rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise DataError(
                f"{self.file}, which holds the texts of a pickled ParallelDataset, cannot be read "
                f"({first_line(error)}): such a pickle is for processes that run beside the one that made it; make the "
                "data set anew"
            ) from error
        ends = np.cumsum([0, *(_padded(size) for size in self.sizes)]).tolist()
        buffers = [mapped[start : start + size] for start, size in zip(ends, self.sizes, strict=False)]
        of_file: Items = pickle.loads(self.pickled, buffers=buffers)
        return of_file


# By the items, what was kept of them: the file is written once, however many workers there are.
_known: weakref.WeakKeyDictionary[Items, _Kept] = weakref.WeakKeyDictionary()


def _kept(items: Items) -> _Kept:
    if items in _known and (_known[items].file is None or Path(str(_known[items].file)).is_file()):
        return _known[items]
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(items, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    if sum(view.nbytes for view in views) < _SMALL:
        kept = _Kept(pickle.dumps(items, protocol=5))
    else:
        try:
            folder = tempfile.mkdtemp(prefix="hybrid-bench-")
            weakref.finalize(items, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder) / "texts"
            with path.open("wb") as file:
                for view in views:
                    file.write(view)
                    file.write(bytes(_padded(view.nbytes) - view.nbytes))
            kept = _Kept(pickled, str(path), tuple(view.nbytes for view in views))
        except OSError as error:  # then each worker takes the memory
            _log.warning("the texts are copied into each worker, as no file can be written: %s", first_line(error))
            kept = _Kept(pickle.dumps(items, protocol=5))
    _known[items] = kept
    return kept


def _padded(size: int) -> int:
    """Bytes that a buffer takes in the file: Arrow wants them to begin at whole lines of the processor's cache."""
    return -(-max(size, 1) // 64) * 64


def _of_pickle(kept: _Kept, content: dict[str, Any]) -> ParallelDataset:
    dataset = ParallelDataset.__new__(ParallelDataset)
    dataset.__dict__.update(content)
    dataset.items = kept.items()
    return dataset


class _Alone(datasets.DatasetInfo):  # type: ignore[misc] # datasets ships no types
    """What is known of a `ParallelDataset`; asked for a copy where data sets are joined, by their empty tables."""

    def copy(self) -> datasets.DatasetInfo:
        raise RequestError(
            "a ParallelDataset cannot be joined to others by concatenate_datasets() or interleave_datasets(): give all "
            "sources to one, ParallelDataset.of([...]), or the Trainer a dictionary of data sets"
        )


class _Label(list[int]):
    """A label in a column of labels, which others take for classes."""

    def __hash__(self) -> int:  # type: ignore[override] # a list has none
        raise RequestError(
            "labels of a ParallelDataset are a group and two languages, not classes to draw batches by "
            "(GroupByLabelBatchSampler): give HybridBatchSampler"
        )


def _refusal(name: str) -> Callable[..., Any]:
    def refused(self: ParallelDataset, *_: Any, **__: Any) -> Any:
        raise RequestError(
            f"a ParallelDataset has no {name}(): choose or change the rows of its sources, or read items with select()"
        )

    return refused


# The other methods of `Dataset` work on its table, which is empty here: what they return would be wrong without a word.
for _name in dir(datasets.Dataset):
    _method = inspect.getattr_static(datasets.Dataset, _name)
    if not _name.startswith("_") and inspect.isfunction(_method) and _name not in _KEPT | {*vars(ParallelDataset)}:
        setattr(ParallelDataset, _name, _refusal(_name))
