"""Data sets of the Hugging Face Hub: a local copy of what is needed of one, and its rows, memory-mapped.

A data set has configurations (tables), of which its ``README.md`` says where their files are, by split. A folder that
is laid out like a data set on the Hub is read in the same way.
"""

from __future__ import annotations

import csv
import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hybrid_bench.data.files import json_objects, lines, offline_variable
from hybrid_bench.data.hashing import sha256_of_lines, sha256_once
from hybrid_bench.errors import DataError, HybridBenchError, causes, first_line, shown

if TYPE_CHECKING:
    from datasets import Dataset

# datasets and huggingface_hub are imported where they are needed: they take a second.

__all__ = [
    "NotOnTheHubError",
    "arrow_cache",
    "cached_if_unreachable",
    "configurations",
    "files_of",
    "mapped",
    "patterns",
    "snapshot",
]

_TIMEOUT_SECONDS = 10.0  # for the Hub's first answer


class NotOnTheHubError(DataError):
    """The Hub does not have a data set, or not this revision of it."""


def snapshot(name: str, revision: str, wanted: Callable[[Path], Iterable[str]], *, called: str, otherwise: str) -> Path:
    """A local copy of some files of a data set, in the cache of huggingface_hub; downloaded as far as needed.

    If connections are forbidden, or the Hub cannot be reached, what is in that cache is used. huggingface_hub by itself
    would try for half a minute.

    Args:
        name: ``ORG/NAME``.
        revision: A branch, tag or commit; empty for the newest.
        wanted: Given a folder with the ``README.md``, says which files are needed, as `patterns` does.
        called: What the data are called in an error.
        otherwise: What to do if they cannot be had, as a clause.

    Returns:
        Its folder, which has the name of the commit, and holds at least one file for each pattern.

    Raises:
        NotOnTheHubError: If the Hub does not have it.
        DataError: If it cannot be downloaded, and there is no complete copy.
    """
    from huggingface_hub import constants, errors, snapshot_download

    reason = ""

    def download(at: str | None, files: Iterable[str]) -> Path:
        files = ["README.md", *files]
        copy = snapshot_download(
            name, repo_type="dataset", revision=at, allow_patterns=files, local_files_only=bool(reason)
        )
        return Path(copy)

    problem, cause = "", None
    try:
        reason = _unreachable(name, revision)
        # The description first: it says which files are needed. They are to be of the same commit.
        folder = download(revision or None, [])
        needed = list(wanted(folder))
        folder = download(folder.name, needed)
        problem = next((f"it has no {pattern}" for pattern in needed if not _matching(folder, pattern)), "")
    except errors.RevisionNotFoundError as error:
        raise NotOnTheHubError(
            f"{called}: the Hub has the dataset, but no branch, tag or commit '{revision}': give another, or"
            f" {otherwise}"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise NotOnTheHubError(
            f"{called}: the Hub has no dataset '{name}', or it is private (`hf auth login`): give its name as ORG/NAME,"
            f" or {otherwise}"
        ) from error
    except HybridBenchError:
        raise
    except Exception as error:  # as above
        problem, cause = _innermost(error), error
    if problem and reason:
        problem = f"{reason}, and the cache of huggingface_hub has no complete copy"
    if problem:
        raise DataError(f"cannot get {called} from {constants.ENDPOINT}: {problem}; {otherwise}") from cause
    return folder


@contextmanager
def cached_if_unreachable(name: str, revision: str) -> Iterator[str]:
    """For code of others that loads a data set: without a way to the Hub it looks into the caches only.

    By itself it would first try for half a minute, for each data set.

    Args:
        name: ``ORG/NAME``.
        revision: A branch, tag or commit.

    Yields:
        Why the Hub cannot be asked, as a clause; empty if it can.
    """
    from datasets import config
    from huggingface_hub import constants, errors

    try:
        reason = _unreachable(name, revision)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        reason = ""  # whoever loads it can tell better
    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if reason:
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def _unreachable(name: str, revision: str) -> str:
    """Why the Hub cannot be asked for a data set, empty if it can; raises what it says of one that is not there."""
    from huggingface_hub import HfApi, errors

    if offline := offline_variable():
        return f"offline is set ({offline})"
    try:
        HfApi().dataset_info(name, revision=revision or None, timeout=_TIMEOUT_SECONDS)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except Exception as error:  # the HTTP libraries have no class of errors in common
        return f"it cannot be reached ({_innermost(error)})"
    return ""


def configurations(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the ``README.md`` in a folder says of each configuration, by name; empty without one.

    Raises:
        DataError: If it cannot be read.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    status = readme.stat()
    return _configurations(readme, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _configurations(readme: Path, size: int, mtime_ns: int) -> dict[str, Mapping[str, Any]]:
    from huggingface_hub import DatasetCard

    try:
        listed = DatasetCard.load(readme).data.to_dict().get("configs") or []
        return {str(entry["config_name"]): entry for entry in listed if "config_name" in entry}
    except Exception as error:  # it hands on what YAML raises
        raise DataError(f"{readme}: its YAML cannot be read: {_innermost(error)}") from error


def patterns(folder: Path, config: str, split: str) -> list[str]:
    """Which files a configuration has in a split: what the description says, or else how they are usually named.

    Where there is no such split, but only one, that one is taken.

    Raises:
        DataError: If the description cannot be read, has several splits but not this, or leads out of the folder.
    """
    entry = configurations(folder).get(config, {"data_dir": config})
    where = f"{folder / 'README.md'}: '{config}'"
    found = entry.get("data_files") or f"{split}*"
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        found = {item.get("split"): item.get("path") for item in found}
    if isinstance(found, dict):
        if split not in found and len(found) != 1:
            splits = ", ".join(map(str, found))
            raise DataError(f"{where} has the splits {splits}; call the one to be measured '{split}'")
        found = found.get(split, next(iter(found.values())))
    paths = [found] if isinstance(found, str) else found
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise DataError(f"{where} should have paths as data_files, found {shown(found)}")
    within = [PurePosixPath(str(entry.get("data_dir") or ""), path) for path in paths]
    for path, whole in zip(paths, within, strict=True):
        if not path or "://" in path or whole.is_absolute() or ".." in whole.parts:
            raise DataError(f"{where} should have paths within its folder as data_files, found {shown(path)}")
    return [str(path) for path in within]


def files_of(folder: Path, config: str, split: str) -> list[Path]:
    """The files of a configuration in a split, sorted; at least one.

    Raises:
        DataError: If there is none; see also `patterns`.
    """
    wanted = patterns(folder, config, split)
    files = sorted({path for pattern in wanted for path in _matching(folder, pattern)})
    if not files:
        raise DataError(f"{folder} has no files of '{config}': looked for {' and '.join(wanted)}")
    return files


def mapped(name: str, files: Sequence[Path], *, key: str = "", strings: Sequence[str] = ()) -> Dataset:
    """The rows of some files: written to the cache of `datasets` the first time, and memory-mapped from there.

    Args:
        name: What to call them in an error.
        files: Parquet, or JSON lines; at least one.
        key: What stands for the content of these files and no others; if empty, their hashes.
        strings: The columns, if they have to be these and to hold strings.

    Raises:
        DataError: If they cannot be read.
    """
    import datasets

    kinds = {"json" if {".json", ".jsonl"} & set(path.suffixes[-2:]) else path.suffix for path in files}
    if kinds not in ({"json"}, {".parquet"}):
        raise DataError(f"{name}: {files[0].name} and the like are neither Parquet nor JSON lines")
    place = arrow_cache(sha256_of_lines([key or sha256_of_lines(map(sha256_once, files)), *strings]))
    if not place.is_dir():
        check_rows(path for path in files if path.suffix != ".parquet")  # whose own reader sees what is wrong
    features = datasets.Features(dict.fromkeys(strings, datasets.Value("string"))) if strings else None
    # Not `load_dataset`, which asks a server to count every load, and waits for it.
    read = datasets.Dataset.from_json if "json" in kinds else datasets.Dataset.from_parquet
    try:
        return read([str(path) for path in files], features=features, cache_dir=str(place))
    except Exception as error:  # it hands on what the file system and the readers of the formats raise
        check_rows(files)
        raise DataError(f"{name}: cannot be read: {_innermost(error)}") from error


def check_rows(files: Iterable[Path]) -> None:
    """Read files of rows by our own readers, which name the line of what is wrong, as those of `datasets` do not.

    Args:
        files: JSON lines, Parquet, and tables with tabs or commas; others are not looked at.

    Raises:
        DataError: If a file cannot be read, a line is no JSON object or has a key twice, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        ending = path.name.removesuffix(".gz").rpartition(".")[2]
        if ending == "jsonl":
            for _ in json_objects(path):
                pass
        elif ending == "parquet":
            try:
                with pq.ParquetFile(path) as file:
                    for _ in file.iter_batches():
                        pass
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"cannot read {path}: {first_line(error)}") from error
        elif ending in {"tsv", "csv"}:
            width = 0
            for number, line in lines(path):
                cells = len(next(csv.reader([line], delimiter="\t" if ending == "tsv" else ","), []))
                if cells != (width := width or cells):
                    raise DataError(f"{path}:{number}: {cells} columns instead of {width}, found {shown(line)}")


def arrow_cache(key: str) -> Path:
    """A place of its own in the cache of `datasets` for one content, by what stands for it, a hash.

    `datasets` by itself goes by names and times: what was replaced by another of the same, it takes for unchanged.
    """
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "hybrid_bench" / key[:16]


def _matching(folder: Path, pattern: str) -> list[Path]:
    # `Path.glob` gives hidden files for `*`, and no file at all for a `**` at the end before Python 3.13.
    names = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 # see above
    return [folder / name for name in names if (folder / name).is_file()]


def _innermost(error: BaseException) -> str:
    """What happened first: libraries put long advice around it."""
    return first_line(causes(error)[-1])
