"""Where the files of a source are: a path, or a local copy of a data set of the Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid_bench.data.files import expanded
from hybrid_bench.data.hub import NotOnTheHubError, snapshot
from hybrid_bench.errors import DataError, RequestError

if TYPE_CHECKING:
    from hybrid_bench.training.sources.spec import SourceSpec

__all__ = ["DATASETS", "data_folder", "local_path", "one_of"]

#: The data set that is meant where neither a path nor a data set is given.
DATASETS = {"mmarco": "unicamp-dl/mmarco", "mr-tydi": "castorini/mr-tydi", "mfaq": "clips/mfaq"}


def local_path(spec: SourceSpec) -> Path:
    """The file or folder of a source that is given by its path."""
    try:
        path = expanded(spec.path)
    except RuntimeError as error:
        raise RequestError(f"{spec.name}: {error}; name the folder without '~'") from error
    if not path.exists():
        raise RequestError(f"{spec.name}: there is no file or folder {path.absolute()}")
    if not (path.is_file() or path.is_dir()):  # a device may be read without end
        raise RequestError(f"{spec.name}: {path} is neither a file nor a folder")
    if spec.kind not in {"parallel", "hf"} and not path.is_dir():
        raise RequestError(f"{spec.name}: {path} is a file: give the folder that it is in")
    return path.resolve()


def data_folder(spec: SourceSpec, wanted: Callable[[Path], Iterable[str]]) -> tuple[Path, str]:
    """The folder of a data set, and its commit: where it is given, or a local copy from the Hub."""
    if spec.path:
        return local_path(spec), ""
    name = spec.dataset or DATASETS[spec.kind]
    try:
        folder = snapshot(
            name,
            spec.revision,
            wanted,
            called=f"{spec.name} ({spec.place})",
            otherwise="give path, a folder with a copy",
        )
    except NotOnTheHubError as error:
        raise RequestError(str(error)) from error
    return folder, folder.name


def one_of(spec: SourceSpec, root: Path, *names: str) -> Path:
    """The first of these files that is there."""
    for name in names:
        if (root / name).is_file():
            return root / name
    there = sorted(path.parent.name for path in root.glob(f"{names[0].partition('/')[0].partition('-')[0]}*/*"))
    has = f", which has {', '.join(dict.fromkeys(there))}" if there else ""
    raise DataError(f"{spec.name}: there is no {names[0]} in {root}{has}")
