"""The kinds ``parallel`` and ``hf``: tables in JSON lines, Parquet or Arrow, here or on the Hub."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hybrid_bench.data.collection import Column
from hybrid_bench.data.files import json_objects
from hybrid_bench.data.hashing import sha256_of_lines
from hybrid_bench.data.hub import configurations, files_of, mapped, patterns
from hybrid_bench.errors import DataError, first_line, listed, shown
from hybrid_bench.languages import did_you_mean
from hybrid_bench.training.sources.cache import BATCH, arrow_strings, arrow_table, batched, file_identity
from hybrid_bench.training.sources.places import data_folder, local_path
from hybrid_bench.training.sources.schema import (
    ROLE,
    SourceTexts,
    column_parts,
    is_about,
    need_languages,
    of_schema,
    with_commit,
)

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["read_hf", "read_parallel"]

_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".arrow")


def read_parallel(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """The project's own schema, in one file or a folder of files of one kind."""
    place = local_path(spec)
    files = [place]
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.is_file() and path.name.endswith(_ENDINGS))
    kinds = {path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix for path in files}
    if not files or len(kinds) > 1 or not all(path.name.endswith(_ENDINGS) for path in files):
        raise DataError(f"{place}: should be, or hold, files of one kind: {', '.join(_ENDINGS)}")
    if kinds == {".arrow"}:
        table = _joined(spec, [_open_arrow(path) for path in files])
    else:
        about = ("parallel", *map(file_identity, files), *sorted(spec.columns.values()))
        table = arrow_table(about, lambda: _parsed(spec, files, kinds == {".parquet"}))
    return of_schema(spec, _renamed(spec, table, str(place), key=[file_identity(path) for path in files]))


def _open_arrow(path: Path) -> pa.Table:
    """A file in Arrow's file format or its stream format, memory-mapped."""
    try:
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Arrow: {first_line(error)}") from error


def _joined(spec: SourceSpec, tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other; a column that one lacks is empty there."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"{spec.name}: the files of {spec.path} do not fit together: {first_line(error)}") from error


def _parsed(spec: SourceSpec, files: Sequence[Path], parquet: bool) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of JSON lines or Parquet, all columns as strings."""
    if parquet:
        try:
            schemas = [pq.read_schema(path) for path in files]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{spec.name}: cannot read {spec.path}: {first_line(error)}") from error
        names = list(dict.fromkeys(chain.from_iterable(schema.names for schema in schemas)))
        found: Iterator[tuple[str, dict[str, Any]]] = chain.from_iterable(map(_parquet_rows, files))
    else:
        # Twice through the file, as a language may begin late; the second time into Arrow.
        rows = chain.from_iterable(json_objects(path) for path in files)
        names = list(dict.fromkeys(chain.from_iterable(row for _, row in rows)))
        found = ((f"{path}:{number}", row) for path in files for number, row in json_objects(path))
    schema = pa.schema([(name, pa.string()) for name in names])

    def text(row: Mapping[str, Any], name: str, place: str) -> str | None:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and (is_about(name) or name in spec.columns.values()):
            return str(value)
        if value is not None and not isinstance(value, str):
            lists = '; lists are read with kind = "hf", and columns' if isinstance(value, list) else ""
            raise DataError(f"{place}: '{name}' should be a string, found {shown(value)}{lists}")
        return value

    def batches() -> Iterator[pa.RecordBatch]:
        for piece in batched(found, BATCH):
            columns = [[text(row, name, place) for place, row in piece] for name in names]
            yield pa.record_batch([arrow_strings(column, piece[0][0]) for column in columns], schema=schema)

    return schema, batches()


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path}: {first_line(error)}") from error


def read_hf(spec: SourceSpec, data_dir: Path | None) -> SourceTexts:
    """A data set of the Hub, or a folder laid out like one."""
    config, split, pattern = spec.option("config"), spec.option("split"), spec.option("files")
    configs = [config.replace("{language}", code) for code in spec.languages] if "{language}" in config else [config]

    def wanted(folder: Path) -> list[str]:
        if pattern:
            return [pattern.replace("{language}", code) for code in spec.languages or ("",)]
        return list(chain.from_iterable(patterns(folder, each, split) for each in configs))

    folder, commit = data_folder(spec, wanted)
    if folder.is_file():
        folder, pattern = folder.parent, glob.escape(folder.name)

    keys: list[str] = []

    def table_of(name: str, code: str) -> pa.Table:
        if pattern:
            wanted_here = pattern.replace("{language}", code)
            files = sorted(path for path in folder.glob(wanted_here) if path.is_file())
            if not files:
                raise DataError(f"{spec.name}: {folder} has no files {wanted_here}")
        else:
            described = bool(commit) or name != "default" or name in configurations(folder)
            files = [] if described else _as_datasets_finds(folder, split)
            files = files or files_of(folder, name, split)
        # The files of a commit never change.
        keys.append(
            f"{commit} {name} {split} {pattern} {code}" if commit else sha256_of_lines(map(file_identity, files))
        )
        return mapped(f"{spec.name}, {name}", files, key=keys[-1]).data.table

    if "{language}" in config or "{language}" in pattern:
        tables = {code: table_of(config.replace("{language}", code), code) for code in spec.languages}
        table = _joined_by_id(spec, tables, key=keys)
        return with_commit(of_schema(spec, table), commit)
    table = _renamed(spec, table_of(config, ""), spec.place, key=keys)
    table, notes = _unlisted(spec, table)
    texts = of_schema(spec, table)
    return with_commit(replace(texts, notes=(*texts.notes, *notes)), commit)


def _unlisted(spec: SourceSpec, table: pa.Table) -> tuple[pa.Table, list[str]]:
    """A table in which lists of texts have become columns and rows, and what has to be told of it.

    As FlagEmbedding has them: a list of passages is a row for each of them, with the same query; a list of hard
    negatives is ``negative_1``, ``negative_2``, ...
    """
    notes: list[str] = []
    passages: list[str] = []
    for name in table.column_names:
        kind = table[name].type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            continue
        _, role, code = column_parts(name)
        if role not in {"passage", "negative"} or not _is_text(kind.value_type):
            raise DataError(
                f"{spec.name}: '{name}' is of the type {kind}: lists may hold passages or negatives, as texts"
            )
        if role == "passage":
            passages.append(name)
            continue
        lists = table[name].combine_chunks()
        lengths = pc.fill_null(pc.list_value_length(lists), 0)
        least, most = pc.min(lengths).as_py() or 0, pc.max(lengths).as_py() or 0
        if spec.negatives is None and least != most:
            notes.append(
                f"its lists have {least} to {most} hard negatives, of which {least} are read: negatives = n reads more,"
                " and leaves out the rows that have fewer"
            )
        table = table.drop_columns([name])
        for k in range(min(least if spec.negatives is None else spec.negatives, most)):
            one = pc.list_element(pc.list_slice(lists, k, k + 1, return_fixed_size_list=True), 0)
            table = table.append_column(f"negative_{k + 1}_{code}", one)
    if len(passages) > 1:
        raise DataError(f"{spec.name}: {' and '.join(passages)} hold lists: say in columns which item, as pos.0")
    for name in passages:
        lists = table[name].combine_chunks()
        empty = pc.equal(pc.fill_null(pc.list_value_length(lists), 0), 0)
        # An empty list keeps its row, without a passage: it is told with those that no batch can have.
        lists = pc.if_else(empty, pa.scalar([None], lists.type), lists)
        table = table.take(pc.list_parent_indices(lists))
        table = table.set_column(table.column_names.index(name), name, pc.list_flatten(lists))
    return table, notes


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _as_datasets_finds(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder without a description, by the names that `load_dataset` goes by."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern

    try:
        found = get_data_patterns(str(folder))
    except EmptyDatasetError:
        return []
    names: set[str] = set()
    for pattern in found.get(split, []):
        with suppress(FileNotFoundError):  # it has several ways of naming a file, of which one is enough
            names.update(resolve_pattern(pattern, str(folder)))
    return sorted(path for path in map(Path, names) if path.name.endswith(_ENDINGS[:3]))


def _renamed(spec: SourceSpec, table: pa.Table, where: str, *, key: Sequence[str]) -> pa.Table:
    """The columns of our schema, under our names, in the languages that are wanted.

    Without a map of columns, those of the schema are taken; of a data set of others, whatever else it holds is not
    looked at, while in our own format an unknown column is a slip of the pen, which `ParallelTexts` refuses.
    """
    need_languages(spec, {code for _, _, code in map(column_parts, spec.columns or table.column_names) if code}, where)
    if spec.columns:
        wanted = {"", *(spec.languages or (code for _, _, code in map(column_parts, spec.columns)))}
        chosen = {ours: theirs for ours, theirs in spec.columns.items() if column_parts(ours)[2] in wanted}
        return _mapped_columns(table, chosen, f"{spec.name}: {where}", key=key)
    kept = []
    for name in table.column_names:
        _, role, code = column_parts(name)
        if not spec.languages or code in spec.languages if role else is_about(name) or spec.kind == "parallel":
            kept.append(name)
    if not any(role for _, role, _ in map(column_parts, kept)):
        raise DataError(
            f"{spec.name}: {where} has no columns query_<language> and passage_<language>, only"
            f" {', '.join(map(repr, table.column_names))}: say in columns which is which"
        )
    return table.select(kept)


def _mapped_columns(table: pa.Table, columns: Mapping[str, str], where: str, *, key: Sequence[str]) -> pa.Table:
    """Columns under our names. Those within others are written out once, the others stay where they are.

    Args:
        table: The table.
        columns: By our name, theirs.
        where: What to call the table in an error.
        key: What stands for its content.
    """
    for theirs in columns.values():
        if theirs not in table.column_names and theirs.partition(".")[0] not in table.column_names:
            raise DataError(f"{where} has no column '{theirs}': {_known(theirs, table.column_names)}")
    if all(theirs in table.column_names for theirs in columns.values()):
        return pa.table({ours: table[theirs] for ours, theirs in columns.items()})

    def parsed() -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        schema = pa.schema([(ours, pa.string()) for ours in columns])
        return schema, (
            pa.record_batch(
                [_as_strings(_within(batch, theirs, where), theirs, where) for theirs in columns.values()],
                schema=schema,
            )
            for batch in table.to_batches(max_chunksize=BATCH)
        )

    return arrow_table(("columns", *key, str(sorted(columns.items()))), parsed)


def _as_strings(values: pa.Array | pa.ChunkedArray, name: str, where: str) -> pa.Array | pa.ChunkedArray:
    """Strings, or numbers as such."""
    try:
        return values.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"{where}: '{name}' should be strings, found {values.type}; what is within a column is named"
            f" {name}.FIELD or {name}.0"
        ) from error


def _within(batch: pa.RecordBatch, path: str, where: str) -> pa.Array:
    """What stands at ``column.field.0`` of each row, null for nothing: fields by name, items of a list by number.

    Raises:
        DataError: There is no such field.
    """
    if path in batch.schema.names:
        return batch.column(path)
    first, *steps = path.split(".")
    values = batch.column(first)
    for step in steps:
        kind = values.type
        if pa.types.is_struct(kind):
            if kind.get_field_index(step) < 0:
                fields = [kind.field(place).name for place in range(kind.num_fields)]
                raise DataError(f"{where}: there is no '{step}' of '{path}': {_known(step, fields)}")
            values = pc.struct_field(values, step)
        elif (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and step.isdecimal():
            # A list that is too short gives null, where `list_element` alone would give an error.
            padded = pc.list_slice(values, int(step), int(step) + 1, return_fixed_size_list=True)
            values = pc.list_element(padded, 0)
        else:
            raise DataError(f"{where}: '{path}': what stands before '{step}' is of the type {kind}")
    return values


def _joined_by_id(spec: SourceSpec, tables: Mapping[str, pa.Table], *, key: Sequence[str]) -> pa.Table:
    """One table of all languages, with one row for each id, in the order in which the ids are met."""
    roles = [ours for ours in spec.columns if ROLE.fullmatch(ours)]
    about = [ours for ours in spec.columns if is_about(ours)]
    rows: dict[str, dict[str, int]] = {}  # language -> id -> row
    columns: dict[str, dict[str, Column]] = {}
    for (code, table), of_language in zip(tables.items(), key, strict=True):
        where = f"{spec.name}: {spec.place}, '{code}'"
        renamed = _mapped_columns(table, spec.columns, where, key=[of_language])
        columns[code] = {
            ours: Column(_as_strings(renamed[ours], theirs, where)) for ours, theirs in spec.columns.items()
        }
        found: dict[str, int] = {}
        for row, each in enumerate(columns[code]["id"]):
            if found.setdefault(each, row) != row:
                raise DataError(f"{where}: id {shown(each)} occurs twice, in rows {found[each]} and {row}")
        rows[code] = found
    first, *others = tables
    if others and not any(rows[first].keys() & rows[code].keys() for code in others):
        raise DataError(
            f"{spec.name}: no id of '{first}' is in another language: {listed(rows[first], form=shown)} against"
            f" {listed(rows[others[0]], form=shown)} of '{others[0]}'; is '{spec.columns['id']}' the same question"
            " everywhere?"
        )
    ids = list(dict.fromkeys(chain.from_iterable(rows.values())))
    names = [*(f"{role}_{code}" for role in roles for code in tables), *about]
    names += [] if "question_id" in about else ["question_id"]
    schema = pa.schema([(name, pa.string()) for name in names])

    def strings(column: Column, places: NDArray[np.int64]) -> list[str | None]:
        texts = iter(column.take(places[places >= 0]))
        return [next(texts) or None if there else None for there in (places >= 0).tolist()]

    def batches() -> Iterator[pa.RecordBatch]:
        for piece in batched(ids, BATCH):
            at = {code: np.array([found.get(each, -1) for each in piece], np.int64) for code, found in rows.items()}
            made = [strings(columns[code][role], at[code]) for role in roles for code in tables]
            for name in about:  # what is said of a row in one language holds for all
                options = zip(*(strings(columns[code][name], at[code]) for code in tables), strict=True)
                made.append([next((value for value in each if value), None) for each in options])
            if "question_id" not in about:
                made.append(list(piece))
            yield pa.record_batch([pa.array(column, pa.string()) for column in made], schema=schema)

    return arrow_table(("joined", *key, *tables, str(sorted(spec.columns.items()))), lambda: (schema, batches()))


def _known(word: str, names: Iterable[str]) -> str:
    names = list(names)
    return did_you_mean(word, names) if names else "it has none"
