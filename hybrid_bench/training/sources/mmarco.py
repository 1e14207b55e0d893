"""The kind ``mmarco``: triples of ids that are the same in all languages, and each language's texts by id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from hybrid_bench.data.collection import Column
from hybrid_bench.data.files import atomic
from hybrid_bench.errors import DataError, first_line
from hybrid_bench.training.sources.cache import arrow_table, building, cache_path, file_identity
from hybrid_bench.training.sources.places import data_folder
from hybrid_bench.training.sources.schema import LANGUAGE_NAMES, SourceTexts, with_commit
from hybrid_bench.training.texts import Rows

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["VERSIONS", "read_mmarco"]

#: mMARCO's translations, by Google and by models of the University of Helsinki, and the names that their folders had.
VERSIONS = {"v2": ("google", "v2"), "v1.1": ("helsinki", "v1.1", "v1")}
_ID_BATCH = 1 << 16  # texts of mMARCO in one piece
_TRIPLES = 4_000_000  # that are looked at together
_READ_BYTES = 1 << 24  # of a TSV file at once
_HIGHEST_ID = 10_000_000  # texts of mMARCO stand at their ids; MS MARCO's are below 9 million


def read_mmarco(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """Triples as rows, and the texts of each language, which stand at their ids."""
    versions = VERSIONS[spec.option("version")]

    def files(folder: str) -> dict[str, str]:
        named = {"triples": "data/triples.train.ids.small.tsv"}
        for code in spec.languages:
            named[f"passage_{code}"] = f"data/{folder}/collections/{LANGUAGE_NAMES[code]}_collection.tsv"
            named[f"query_{code}"] = f"data/{folder}/queries/train/{LANGUAGE_NAMES[code]}_queries.train.tsv"
        return named

    root, commit = data_folder(spec, lambda folder: files(versions[0]).values())
    at = next((version for version in versions if (root / "data" / version).is_dir()), versions[0])
    paths = {name: root / path for name, path in files(at).items()}
    for name, path in paths.items():
        if not path.is_file():
            code = name.rpartition("_")[2]
            has = f" in '{code}'" if name != "triples" else ""
            raise DataError(f"{spec.name}: there is no {path}, which mMARCO {spec.option('version')} has{has}")

    triples = _triples(paths["triples"])
    columns = {role: {code: _texts_by_id(paths[f"{role}_{code}"]) for code in spec.languages} for role in _ROLES}
    notes: list[str] = []
    for role, numbers in (("query", [triples.query]), ("passage", [triples.passage, triples.negative])):
        used = numbers if role == "query" or spec.option("negatives") else numbers[:1]
        columns[role] = _of_one_length(columns[role])
        notes += _check_ids(spec.name, role, used, columns[role], paths)
    texts = SourceTexts(
        name=spec.name,
        queries=columns["query"],
        passages=columns["passage"],
        negatives=(columns["passage"],) * spec.option("negatives"),
        query_rows=triples.query,
        passage_rows=triples.passage,
        negative_rows=(triples.negative,) * spec.option("negatives"),
        groups=triples.group,
        negative_groups=(triples.negative_group,) * spec.option("negatives"),
        notes=tuple(notes),
    )
    return with_commit(texts.select(triples.distinct) if spec.option("distinct") else texts, commit)


_ROLES = ("query", "passage")


class _Triples(NamedTuple):
    """Triples, as memory-mapped int32.

    Attributes:
        query: (n,), query ids.
        passage: (n,), ids of relevant passages.
        negative: (n,), ids of the others.
        group: (n,), number of the passage's group. Passages that are relevant to one query are in one group.
        negative_group: (n,), the group of the other passage; -1 where no query has it as relevant.
        distinct: The first row of each pair of query and relevant passage, ascending.
    """

    query: NDArray[np.int32]
    passage: NDArray[np.int32]
    negative: NDArray[np.int32]
    group: NDArray[np.int32]
    negative_group: NDArray[np.int32]
    distinct: NDArray[np.int32]


def _triples(path: Path) -> _Triples:
    """The triples of a file with query, relevant and other passage id on each line."""
    names = _Triples._fields
    folder = cache_path(("triples", file_identity(path)), "")
    with building(folder):
        if not folder.is_dir():
            with atomic(folder) as beside:
                beside.mkdir()
                _write_triples(path, beside)
    return _Triples(*(np.memmap(folder / name, np.int32, "r") for name in names))


def _write_triples(path: Path, folder: Path) -> None:
    """Write the columns of `_Triples`."""
    names = _Triples._fields[:3]
    with ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in names]
        for batch in _tsv(path, ("query", "passage", "negative"), texts=False):
            for column, file in zip(batch.columns, files, strict=True):
                column.to_numpy().tofile(file)
    if not (folder / names[0]).stat().st_size:
        raise DataError(f"{path} is empty: it should have query id, passage id and passage id on each line")
    read = [np.memmap(folder / name, np.int32, "r") for name in names]
    for name, numbers in zip(names, read, strict=True):
        _check_range(path, f"{name} id", int(numbers.min()), int(numbers.max()))
    _write_groups(folder, *read)


def _write_groups(folder: Path, query: Rows, passage: Rows, negative: Rows) -> None:
    """Write the columns of `_Triples` that follow from the first three."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys, firsts = np.empty(0, np.int64), np.empty(0, np.int64)
    for start in range(0, len(query), _TRIPLES):  # a pair comes back some 75 times: what is kept at once stays small
        pairs = query[start : start + _TRIPLES].astype(np.int64) << 32 | passage[start : start + _TRIPLES]
        some, first = np.unique(pairs, return_index=True)
        keys, which = np.unique(np.concatenate([keys, some]), return_index=True)
        firsts = np.concatenate([firsts, first + start])[which]
    np.sort(firsts).astype(np.int32).tofile(folder / "distinct")
    asked, query_node = np.unique(keys >> 32, return_inverse=True)
    relevant, passage_node = np.unique(keys & 0xFFFFFFFF, return_inverse=True)
    nodes = len(asked) + len(relevant)
    edges = (np.ones(len(keys), np.int8), (query_node, len(asked) + passage_node))
    _, component = connected_components(coo_array(edges, shape=(nodes, nodes)), directed=False)
    group_of = np.full(1 + max(int(passage.max()), int(negative.max())), -1, np.int32)
    group_of[relevant] = component[len(asked) :]
    for name, ids in (("group", passage), ("negative_group", negative)):
        with (folder / name).open("wb") as file:
            for start in range(0, len(ids), _TRIPLES):
                group_of[ids[start : start + _TRIPLES]].tofile(file)


def _texts_by_id(path: Path) -> Column:
    """The texts of a file with an id and a text on each line: row n is the text with id n, null where there is none.

    So languages are joined by id without any table of ids, whatever their order in the files and whichever are missing.
    """
    raw = ("as it stands", file_identity(path))

    def parsed() -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        schema = pa.schema([("id", pa.int32()), ("text", pa.string())])
        # First as it stands there, then in the order of the ids: neither needs the texts in memory.
        table = arrow_table(raw, lambda: (schema, _tsv(path, ("id", "text"), texts=True)))
        if not len(table):
            raise DataError(f"{path} is empty: it should have an id and a text on each line")
        ids = table["id"].to_numpy()
        order = np.argsort(ids, kind="stable").astype(np.int64)
        ids = ids[order]
        if len(twice := np.flatnonzero(ids[1:] == ids[:-1])):
            raise DataError(f"{path}: id {ids[twice[0]]} occurs twice")
        _check_range(path, "id", int(ids[0]), int(ids[-1]))
        return pa.schema([("text", pa.string())]), pieces(Column(table["text"]), ids, order)

    def pieces(column: Column, ids: NDArray[np.int32], order: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        for start in range(0, int(ids[-1]) + 1, _ID_BATCH):
            end = min(start + _ID_BATCH, int(ids[-1]) + 1)
            low, high = np.searchsorted(ids, [start, end])
            made = np.full(end - start, None, dtype=object)
            made[ids[low:high] - start] = column.take(order[low:high])
            yield pa.record_batch([pa.array(made, pa.string())], ["text"])

    texts = arrow_table(("by id", raw[1]), parsed)["text"]
    with suppress(OSError):  # Windows keeps what is mapped
        cache_path(raw, ".arrow").unlink(missing_ok=True)
    return Column(texts)


def _check_range(path: Path, what: str, low: int, high: int) -> None:
    """Refuse ids that are none: a table as long as the highest is made of them."""
    if low < 0 or high > _HIGHEST_ID:
        raise DataError(
            f"{path}: {what} {low if low < 0 else high} is no id of MS MARCO: they are from 0 to {_HIGHEST_ID:,}"
        )


def _tsv(path: Path, columns: Sequence[str], *, texts: bool) -> Iterator[pa.RecordBatch]:
    """The batches of a file with whole numbers, and a text in the last column if it has any, separated by tabs."""
    kinds = {name: pa.string() if texts and name == columns[-1] else pa.int32() for name in columns}
    try:
        with pa.csv.open_csv(
            path,
            # One thread: so that an error knows its line.
            pa.csv.ReadOptions(column_names=list(columns), block_size=_READ_BYTES, use_threads=False),
            pa.csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False, escape_char=False),
            pa.csv.ConvertOptions(column_types=kinds, null_values=[], strings_can_be_null=False),
        ) as reader:
            yield from reader
    except (OSError, pa.ArrowException) as error:
        if path.is_file() and path.stat().st_size == 0:
            return
        wanted = ", ".join(columns)
        raise DataError(f"{path}: {first_line(error)}; each line should be {wanted}, separated by tabs") from error


def _of_one_length(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Columns, the shorter ones filled up with nulls."""
    length = max(map(len, columns.values()))
    return {
        code: column
        if len(column) == length
        else Column(pa.chunked_array([*column._data.chunks, pa.nulls(length - len(column), pa.string())]))
        for code, column in columns.items()
    }


def _check_ids(
    name: str, role: str, numbers: Sequence[Rows], columns: Mapping[str, Column], paths: Mapping[str, Path]
) -> Iterator[str]:
    """Whether the ids of the triples have texts: some of them everywhere, all of them somewhere.

    Yields:
        How many of those that are asked for a language lacks.
    """
    length = len(next(iter(columns.values())))
    asked = np.zeros(1 + max(length - 1, *(int(each.max()) for each in numbers)), dtype=np.bool_)
    for each in numbers:
        for start in range(0, len(each), _TRIPLES):
            asked[each[start : start + _TRIPLES]] = True
    there = np.zeros(len(asked), dtype=np.bool_)
    for code, column in columns.items():
        present = np.zeros(len(asked), dtype=np.bool_)
        present[:length] = column._data.is_valid().to_numpy()
        there |= present
        lacking = int((asked & ~present).sum())
        if lacking == asked.sum():
            raise DataError(f"{name}: no {role} id of {paths['triples']} is in {paths[f'{role}_{code}']}")
        if lacking:
            yield f"{lacking:,} of {int(asked.sum()):,} texts of the role {role} are not there in '{code}'"
    if len(absent := np.flatnonzero(asked & ~there)):
        first = paths[f"{role}_{next(iter(columns))}"]
        raise DataError(
            f"{name}: {len(absent):,} {role} ids of {paths['triples']} are in no language, e.g. {absent[0]}: is {first}"
            " whole?"
        )
