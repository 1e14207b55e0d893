"""Pinned remote files as verified local files: from the user's data folder, or downloaded once into a cache.

A file is known by its sha256, so nothing that is read further down can differ from what was published. Whoever has
the files already names their folder (an argument, or HYBRID_BENCH_DATA); that folder is only read. Otherwise the files
are downloaded into `cache_dir`, by one process at a time, each written beside as ``<name>.part``, continued from there
after a break, and renamed once its sha256 is right.

Here is also what readers and writers of local files share: lines with their numbers, and `atomic`, by which all files
are written.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybrid_bench.data.hashing import remember, sha256_of, sha256_of_state
from hybrid_bench.data.parsing import parse_json
from hybrid_bench.errors import DataError, RequestError, causes, listed, one_line, reason, shown
from hybrid_bench.progress import Progress

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from requests import Response

# requests, tqdm and filelock are imported where a download needs them: the command line answers `--help` without.

__all__ = [
    "RemoteFile",
    "atomic",
    "cache_dir",
    "data_folder",
    "expanded",
    "json_objects",
    "lines",
    "offline_variable",
    "resolve",
    "scratch",
    "settle",
    "unasked",
]

TRIES = 5
"""How often a download is tried before it is given up."""

BACKOFF_SECONDS = 1.0
"""Wait before the second try; doubled for each further one, and multiplied by a random number from 0.5 to 1.5."""

LONGEST_RETRY_AFTER_SECONDS = 120.0
"""A server that asks for a longer wait than this is given up at once: nobody watches a still screen for an hour."""

TIMEOUT_SECONDS = (10.0, 30.0)
"""Longest wait for a connection, and for the next bytes on it."""

SLOWEST_BYTES_A_SECOND, SLOW_SECONDS = 1000, 60.0
"""An answer that is slower than this for so long counts as broken: a byte now and then would go on for days."""

LARGEST_BYTES = 32 << 30
"""Most of a file whose size nobody has told: an answer without an end must not fill the disk."""

CHUNK_BYTES = 1 << 16
"""Bytes written at once. Up to this many are lost when a connection breaks."""

_NAMED = 3  # so many missing files are named in an error, the rest is counted
# As many digits as a size can have: the server's word, which may be thousands of them.
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)\s*\Z")
_NO_WAY_THERE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_JITTER = random.SystemRandom()  # not the global generator, whose state belongs to the user


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the web whose content is fixed.

    Attributes:
        path: Where it stands below a data folder and below the cache, with forward slashes, e.g. ``xquad-r/ar.json``.
        url: Where it is downloaded from.
        sha256: Its content's sha256, 64 lower-case hex digits.
        size: Its length in bytes, where known: tells a truncated file from a changed one, and the progress bar its end.

    Raises:
        RequestError: If the path could leave the folder, or the sha256 or the size cannot be one.
    """

    path: str
    url: str
    sha256: str
    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would only fail later, in a place that is harder to understand."""
        pure = PurePosixPath(self.path)
        plain = self.path == str(pure) and pure.parts and not pure.is_absolute() and ".." not in pure.parts
        if not plain or re.search(r"[\\:\0]", self.path):
            raise RequestError(f"path '{self.path}' must be relative, like xquad-r/ar.json, without '..', '\\' or ':'")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise RequestError(f"sha256 '{self.sha256}' of {self.path} must be 64 lower-case hex digits")
        if self.size is not None and self.size <= 0:
            raise RequestError(f"size {self.size} of {self.path} must be a positive number of bytes, or None")


def resolve(files: Sequence[RemoteFile], data_dir: Path | None = None) -> dict[str, Path]:
    """Local copies of these files, each with the right sha256.

    They are looked for in `data_dir`, else in the folder that HYBRID_BENCH_DATA names, else in `cache_dir`, into which
    those that are missing are downloaded. A data folder is never written to, and never mixed with downloads.

    Args:
        files: What is needed.
        data_dir: A folder that holds each file at its `RemoteFile.path`; what ``--data-dir`` gives.

    Returns:
        `RemoteFile.path` -> absolute local path, in the order of `files`.

    Raises:
        DataError: If a file is missing, damaged, or cannot be downloaded, or the cache cannot be written.
        RequestError: If one path stands for two different files.
    """
    wanted: dict[str, RemoteFile] = {}
    for remote in files:
        if wanted.setdefault(remote.path, remote) != remote:
            raise RequestError(f"path '{remote.path}' is asked for with two different contents: give each its own path")
    given = data_folder(data_dir)
    return _from_data_folder(list(wanted.values()), *given) if given else _from_cache(list(wanted.values()))


def data_folder(data_dir: Path | None = None) -> tuple[Path, str, str] | None:
    """The user's data folder; None if there is none.

    Args:
        data_dir: What ``--data-dir`` gives.

    Returns:
        Its absolute path, how it was given, and what to do to go without it: two clauses for a message.

    Raises:
        DataError: If it is in the home folder of a user who has none.
    """
    if data_dir is not None:
        return _absolute(data_dir), "--data-dir", "leave out --data-dir"
    if folder := os.environ.get("HYBRID_BENCH_DATA"):
        return _absolute(Path(folder)), "HYBRID_BENCH_DATA", "unset HYBRID_BENCH_DATA"
    return None


def cache_dir() -> Path:
    """The folder of all that is kept between runs; it need not exist.

    HYBRID_BENCH_CACHE, else ``hybrid_bench`` in XDG_CACHE_HOME, else ``~/.cache/hybrid_bench``.

    Raises:
        DataError: If no variable is set and the user has no home folder.
    """
    if folder := os.environ.get("HYBRID_BENCH_CACHE"):
        return _absolute(Path(folder))
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the XDG specification: relative paths are to be ignored
        return xdg / "hybrid_bench"
    return _absolute(Path("~/.cache/hybrid_bench"))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write a file or a folder so that nobody, whatever happens, meets half of it under its name.

    It is written beside its place, under the same name in a folder of its own, and gets its place when all of it is on
    the disk. After an error nothing of it is left, and what stood there before stands there still. A link is followed;
    a device or a pipe, such as /dev/stdout, is written to directly.

    Args:
        path: Where it shall stand. The folders above it are made; a folder may not be there yet, or be empty.

    Yields:
        The path to write to; nothing is there. Whoever takes it may also not write, or remove what was written: then
        nothing changes.

    Raises:
        OSError: If it cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(path.parent) as folder:
        beside = folder / path.name
        yield beside
        if beside.exists():
            settle(beside, path)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder within this one, on the same disk, for what is not whole yet; it goes with all that is left in it.

    What processes that were killed have left there goes too.

    Raises:
        OSError: If it cannot be made.
    """
    _sweep(folder)
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=_WRITING, ignore_cleanup_errors=True) as name,
        _held(Path(name)),
    ):
        yield Path(name)


#: How the names of folders begin in which something is being written.
_WRITING = ".writing-"
#: So old is what a process that was killed has left: none takes as long to hold what it made.
_LITTER_SECONDS = 60.0
_swept: set[Path] = set()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder, so that others see that it is in use: the system lets go of it however this process ends."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder, once for each process; what is in use stays."""
    if sys.platform == "win32" or folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):  # what cannot be removed harms nobody
        for left in folder.glob(f"{_WRITING}*"):
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - left.stat().st_mtime > _LITTER_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(handle)


def settle(beside: Path, path: Path) -> None:
    """Rename what was written beside, a file or a folder, once all its bytes are on the disk.

    Without that, a name could stand for less than the whole file after a power failure.

    Raises:
        OSError: If it cannot be renamed: it is on another disk, or is a folder and one that is not empty is there.
    """
    for written in (beside, *beside.rglob("*")):
        _sync(written)
    beside.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have all bytes of a file, or all names in a folder, on the disk."""
    if os.name != "posix" and path.is_dir():
        return  # there a folder cannot be opened
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1 and with their ends.

    The file is UTF-8, with a byte order mark or without, and packed with gzip if its name ends in ``.gz``. Only a line
    feed ends a line: texts may hold what Python's `splitlines` and universal newlines take for line breaks.

    Raises:
        DataError: If the file cannot be read, breaks off, or is not UTF-8; names the line.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line and not line.isspace():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"{path}:{number + 1}: the file breaks off or is damaged ({error}): fetch it, or pack it, again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}") from error


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one JSON object on each line, with the numbers of their lines; see `lines`.

    Raises:
        DataError: As `lines`, and if a line is not a JSON object.
    """
    for number, line in lines(path):
        try:
            row = parse_json(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            array = ", not one array" if number == 1 and line.startswith("[") else ""
            raise DataError(
                f"{path}:{number}: not JSON ({error}); one JSON object per line is needed{array}"
            ) from error
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: should be a JSON object, found {shown(row)}")
        yield number, row


def expanded(path: Path | str) -> Path:
    """A path that a person gave, with the home folder for ``~``.

    Raises:
        RequestError: If there is no such home folder, or a character that no path can have.
    """
    if "\0" in str(path):
        raise RequestError(f"{shown(str(path))} has a NUL character in it, which no path can have")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RequestError(f"cannot tell where '{path}' is ({error}): name the folder without '~'") from error


def _absolute(path: Path) -> Path:
    try:
        return expanded(path).absolute()
    except RequestError as error:
        raise DataError(f"{error}, that of the cache by HYBRID_BENCH_CACHE") from error


def _status(path: Path) -> os.stat_result | None:
    """The status of a file, or None where there is no file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _size(path: Path) -> int:
    """Bytes in a file, 0 where there is none."""
    status = _status(path)
    return status.st_size if status else 0


def _holds(path: Path, remote: RemoteFile) -> bool:
    """Whether this is the file, complete and unchanged."""
    status = _status(path)
    if status is None or (remote.size is not None and status.st_size != remote.size):
        return False
    return sha256_of_state(path, status) == remote.sha256


def _named(files: Sequence[RemoteFile]) -> str:
    """The first few paths, and how many more there are."""
    names = listed((remote.path for remote in files), _NAMED)
    return names if len(files) <= _NAMED else f"{names} ({len(files)} files)"


def _from_data_folder(files: Sequence[RemoteFile], folder: Path, origin: str, without: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{origin} {folder} is not a folder: give one that holds {_named(files)}, or {without} to download"
        )
    try:
        status = {remote.path: _status(folder / remote.path) for remote in files}
        missing = [remote for remote in files if status[remote.path] is None]
        if missing:
            above = all(_status(folder.parent / remote.path) for remote in missing)
            hint = f"did you mean {folder.parent}?" if above else f"lay it out as {folder / missing[0].path}"
            raise DataError(
                f"{origin} {folder} lacks {len(missing)} of {len(files)} files: {_named(missing)}; {hint}"
                f" (each file at its path below the folder), or {without} to download"
            )
        for remote in files:
            if found := status[remote.path]:
                _check(remote, folder / remote.path, found, f"fetch it again from {remote.url}, or {without}")
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or folder}: {reason(error)}; make it readable, or {without} to download"
        ) from error
    return {remote.path: folder / remote.path for remote in files}


def _check(remote: RemoteFile, path: Path, status: os.stat_result, fix: str) -> None:
    if status.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes): {fix} to download")
    if remote.size is not None and status.st_size < remote.size:
        raise DataError(f"{path} is truncated ({status.st_size:,} of {remote.size:,} bytes): {fix} to download")
    found = sha256_of_state(path, status)
    if found != remote.sha256:
        raise DataError(
            f"{path} is not the pinned file (expected sha256 {remote.sha256[:12]}, found {found[:12]}): "
            f"{fix} to download"
        )


def _from_cache(files: Sequence[RemoteFile]) -> dict[str, Path]:
    cache = cache_dir()
    paths = {remote.path: cache / "data" / remote.path for remote in files}
    try:
        missing = [remote for remote in files if not _holds(paths[remote.path], remote)]
        if missing and (offline := offline_variable()):
            raise DataError(_cannot_get(missing, f"offline is set ({offline})", cache))
        for position, remote in enumerate(missing):
            try:
                _download(remote, paths[remote.path])
            except _TryFailedError as failure:
                # What is true of the network is true of all files; what one server answered, only of its file.
                if failure.unreachable:
                    raise DataError(_cannot_get(missing[position:], failure.reason, cache)) from failure
                why = f"{failure.reason}; try again later, what has arrived is kept"
                raise DataError(_cannot_get([remote], why, cache)) from failure
    except OSError as error:
        raise DataError(
            f"cannot write in the cache folder {cache}: {reason(error)}; set HYBRID_BENCH_CACHE to a folder that can"
            " be written"
        ) from error
    return paths


def offline_variable() -> str | None:
    """The setting that forbids connections, or None; read as huggingface_hub reads its own."""
    for name in ("HYBRID_BENCH_OFFLINE", "HF_HUB_OFFLINE"):
        value = os.environ.get(name, "")
        if value.upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{name}={value}"
    return None


def _cannot_get(files: Sequence[RemoteFile], why: str, cache: Path) -> str:
    return (
        f"cannot get {_named(files)}: {why}; pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder that holds"
        f" {files[0].path}{' ...' if len(files) > 1 else ''}, or copy the cache folder {cache} from a machine that has"
        " the files"
    )


class _TryFailedError(Exception):
    """One try of a download failed in a way that the next may not.

    Attributes:
        reason: What happened, as a clause.
        unreachable: Whether no connection came about at all.
        wait: Seconds after which the server wants to be asked again, where it said so.
    """

    def __init__(self, reason: str, *, unreachable: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unreachable = unreachable
        self.wait = wait


def _download(remote: RemoteFile, target: Path) -> None:
    """Download a file to this path, unless another process does so meanwhile.

    Raises:
        DataError: If the server does not have the file, or has another one in its place.
        OSError: If the folder cannot be written.
        _TryFailedError: If all tries failed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _locked(target.with_name(target.name + ".lock"), remote.path):
        if _holds(target, remote):
            return
        found = ""
        for _ in range(2):  # the second time from the start: the part was wrong, perhaps left by another version
            _fetch(remote, part)
            found = sha256_of(part)
            if found == remote.sha256:
                settle(part, target)
                remember(target, found)
                return
            size = _size(part)
            part.unlink()
    expected_size = "" if remote.size is None else f" and {remote.size:,} bytes"
    raise DataError(
        f"{remote.url} does not give the pinned {remote.path} (expected sha256 {remote.sha256[:12]}{expected_size},"
        f" found {found[:12]} and {size:,} bytes, twice): something in between may answer in its place; try another"
        f" network, or pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder that holds {remote.path}"
    )


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Keep other processes and threads out; the operating system ends the lock with the process."""
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _tell(f"{name}: waiting for another process that downloads it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _tell(message: str) -> None:
    """Say something to a person who watches; without a terminal there is none."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(one_line(message), file=sys.stderr)


#: Whether what is downloaded is good to have, but was not asked for.
_unasked: ContextVar[bool] = ContextVar("unasked", default=False)


@contextmanager
def unasked() -> Iterator[None]:
    """Within this, a download is tried once: nobody shall wait for what he did not ask for."""
    token = _unasked.set(True)
    try:
        yield
    finally:
        _unasked.reset(token)


def _fetch(remote: RemoteFile, part: Path) -> None:
    """Complete the part, in as many tries as are allowed; its content is not looked at.

    Raises:
        DataError: If the server's answer will not change.
        OSError: If the part cannot be written.
        _TryFailedError: If all tries failed.
    """
    tries = 1 if _unasked.get() else TRIES
    for number in range(1, tries + 1):
        try:
            _try(remote, part)
        except _TryFailedError as failure:
            if number == tries:
                failure.reason += f", tried {tries} times" if tries > 1 else ""
                raise
            wait = BACKOFF_SECONDS * 2 ** (number - 1) * _JITTER.uniform(0.5, 1.5)
            if failure.wait is not None:
                wait = failure.wait
            _tell(f"{remote.path}: {failure.reason}; try {number + 1} of {tries} in {wait:.1f} s")
            time.sleep(wait)
        else:
            return


def _try(remote: RemoteFile, part: Path) -> None:
    import requests

    start = _size(part)
    if remote.size is not None and start >= remote.size:
        return
    # Compression would make offsets and lengths those of other bytes.
    headers = {"Accept-Encoding": "identity", "User-Agent": "hybrid_bench"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _no_answer(remote.url, error) from error
    except OSError as error:  # a wrong address, too many redirects, no certificates here: the same next time
        raise DataError(f"cannot download {remote.path} from {remote.url}: {error}") from error
    with response:
        if start and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if sha256_of(part) != remote.sha256:  # else it was complete, and only its size was unknown
                part.unlink()
                raise _TryFailedError("the server has no such part", wait=0)
            return
        _raise_for_status(response, remote)
        end = _end(response, start, remote, part)
        _receive(response, start if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0, end, remote, part)


def _no_answer(url: str, error: Exception) -> _TryFailedError:
    import requests

    chain = causes(error)
    unreachable = any(
        isinstance(cause, (requests.ConnectTimeout, socket.gaierror, ConnectionRefusedError))
        or (isinstance(cause, OSError) and cause.errno in _NO_WAY_THERE)
        for cause in chain
    )
    innermost = chain[-1]
    detail = reason(innermost) if isinstance(innermost, OSError) else str(innermost)
    if unreachable:
        return _TryFailedError(
            f"the network is unreachable (no connection to {urlsplit(url).hostname}: {detail})", unreachable=True
        )
    return _TryFailedError(f"{urlsplit(url).hostname} did not answer ({detail})")


def _raise_for_status(response: Response, remote: RemoteFile) -> None:
    """Pass 200 and 206; tell what may pass, which is tried again, from what will not."""
    code = response.status_code
    if code in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    answer = f"{remote.url} answered {code} {response.reason}".rstrip()
    if code != HTTPStatus.TOO_MANY_REQUESTS and code < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise DataError(
            f"cannot download {remote.path}: {answer}; pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder"
            f" that holds {remote.path}"
        )
    after = response.headers.get("Retry-After", "").strip()
    wait = float(after) if _LENGTH.fullmatch(after) else _until(after)
    if wait is not None and wait > LONGEST_RETRY_AFTER_SECONDS:
        raise DataError(
            f"cannot download {remote.path}: {answer} and wants to be left alone for {wait:.0f} s; try then"
        )
    raise _TryFailedError(answer, wait=wait)


def _until(date: str) -> float | None:
    """Seconds until a date as headers have it, at least 0; None if it is none."""
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0.0)


def _end(response: Response, start: int, remote: RemoteFile, part: Path) -> int | None:
    """How long the part will be after this answer, or None where nobody knows."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return remote.size  # compressed against our wish: the length is not that of our bytes
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        if not start or match is None or int(match[1]) != start:
            part.unlink(missing_ok=True)
            raise _TryFailedError("the server sent another part than the one asked for")
        return remote.size if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return int(length) if _LENGTH.fullmatch(length) else remote.size


def _receive(response: Response, start: int, end: int | None, remote: RemoteFile, part: Path) -> None:
    """Write an answer's bytes to the part from `start` on, showing progress."""
    from urllib3.exceptions import HTTPError

    have = start
    broken = ""
    since, before = time.monotonic(), start
    with (
        part.open("ab" if start else "wb") as file,
        Progress(end, remote.path, "bytes", start) as bar,
    ):
        try:
            # What has arrived, however little: to wait for a whole chunk would be to wait for a slow server.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
                file.write(chunk)
                file.flush()  # what has arrived stays even if this process is killed
                have += len(chunk)
                bar.update(len(chunk))
                if remote.size is not None and have > remote.size:
                    return  # not our file: no need to see how much longer it is
                if have > LARGEST_BYTES:
                    part.unlink()
                    raise DataError(
                        f"cannot download {remote.path}: {remote.url} sends more than {LARGEST_BYTES:,} bytes, and no "
                        "end of it was told"
                    )
                passed = time.monotonic() - since
                if passed >= SLOW_SECONDS:
                    if have - before < SLOWEST_BYTES_A_SECOND * passed:
                        broken = f" (fewer than {SLOWEST_BYTES_A_SECOND:,} a second)"
                        break
                    since, before = time.monotonic(), have
        except HTTPError as error:
            broken = f" ({causes(error)[-1]})"
    if not broken if end is None else have >= end:
        return
    total = "" if end is None else f" of {end:,}"
    raise _TryFailedError(f"the connection broke after {have:,}{total} bytes{broken}")
