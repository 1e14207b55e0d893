"""Downloads are tried against a real server on the loopback interface, locks between real processes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from hybrid_bench.data import files as sources
from hybrid_bench.data import hashing
from hybrid_bench.data.files import (
    RemoteFile,
    atomic,
    cache_dir,
    json_objects,
    lines,
    resolve,
    scratch,
    unasked,
)
from hybrid_bench.data.hashing import sha256_of
from hybrid_bench.errors import DataError, RequestError
from hybrid_bench.progress import Progress

CONTENT = random.Random(7).randbytes(300_000)
OTHER = random.Random(8).randbytes(300_000)
PACKED = gzip.compress(b"".join(b"%d\n" % number for number in range(400)), mtime=0)
NOBODY = 65534
ROOT = Path(__file__).resolve().parents[2]


class Request(NamedTuple):
    """What the server was asked, and when."""

    path: str
    range: str | None
    at: float


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's plan says; as a good server with ranges once the plan is used up."""

    server: Server

    def do_GET(self) -> None:
        """Note the request, then answer."""
        self.server.seen.append(Request(self.path, self.headers["Range"], time.monotonic()))
        answer = self.server.plan.popleft() if self.server.plan else serve
        with suppress(BrokenPipeError, ConnectionResetError):
            answer(self)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """An answer; its Content-Length is that of the body unless headers are given."""
        self.send_response(code)
        for name, value in (headers or {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


Answer = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """Any path holds `content`; the first answers follow `plan`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.plan: deque[Answer] = deque()
        self.seen: list[Request] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        """The address below which everything is found."""
        return f"http://127.0.0.1:{self.server_port}"

    def file(self, path: str = "xquad-r/ar.json", content: bytes = CONTENT, *, sized: bool = True) -> RemoteFile:
        """A file of this server, pinned to this content."""
        digest = hashlib.sha256(content).hexdigest()
        return RemoteFile(path, f"{self.url}/{path}", digest, len(content) if sized else None)

    @property
    def ranges(self) -> list[str | None]:
        """The Range headers of the requests so far."""
        return [request.range for request in self.seen]


def serve(handler: Handler) -> None:
    """Answer as a good server: 206 to a range, 416 to one that begins after the end."""
    content = handler.server.content
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
    if not asked:
        return handler.send(200, content)
    start = int(asked[1])
    if start >= len(content):
        return handler.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    body, span = content[start:], f"bytes {start}-{len(content) - 1}/{len(content)}"
    return handler.send(206, body, {"Content-Length": str(len(body)), "Content-Range": span})


def status(code: int, **headers: str) -> Answer:
    """Answer with this status and a page about it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(code, b"<p>sorry</p>", {"Content-Length": "12", **named})


def without_ranges(handler: Handler) -> None:
    """Answer with the whole file, whatever was asked."""
    handler.send(200, handler.server.content)


def cut(after: int, *, reset: bool = False) -> Answer:
    """Promise the rest of the file and close after so many bytes of it; with a TCP reset if asked."""

    def answer(handler: Handler) -> None:
        content = handler.server.content
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        start = int(asked[1]) if asked else 0
        length = {"Content-Length": str(len(content) - start)}
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        handler.send(206 if asked else 200, content[start : start + after], length | span)
        if reset:
            handler.wfile.flush()
            time.sleep(0.05)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    return answer


def hang(after: int | None = None) -> Answer:
    """Send nothing at all, or only so many bytes, and keep the connection open until the test ends."""

    def answer(handler: Handler) -> None:
        if after is not None:
            body = handler.server.content
            handler.send(200, body[:after], {"Content-Length": str(len(body))})
        handler.server.released.wait(30)

    return answer


def drip(handler: Handler) -> None:
    """Send a byte every 20th of a second, until the test ends."""
    body = handler.server.content
    handler.send(200, b"", {"Content-Length": str(len(body))})
    for place in range(len(body)):
        handler.wfile.write(body[place : place + 1])
        handler.wfile.flush()
        if handler.server.released.wait(0.05):
            return


def endless(handler: Handler) -> None:
    """Send bytes without a length, until nobody reads them."""
    handler.send(200, b"", {"Content-Type": "application/octet-stream"})
    while not handler.server.released.is_set():
        handler.wfile.write(CONTENT)


def other_content(handler: Handler) -> None:
    """Answer with a file that nobody pinned."""
    handler.send(200, OTHER)


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server of this test's own."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no other setting, and short waits."""
    for name in ("HYBRID_BENCH_DATA", "HYBRID_BENCH_OFFLINE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HYBRID_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(sources, "TIMEOUT_SECONDS", (5.0, 5.0))
    monkeypatch.setattr(hashing, "_hashes", {})
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed from here on."""
    names: list[str] = []

    def noted(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    for module in (sources, hashing):
        monkeypatch.setattr(module, "sha256_of", noted)
    return names


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder that this user may read and not write, also where tests run as root."""
    if os.name != "posix":
        pytest.skip("permissions are those of POSIX")
    # not below tmp_path, which only its owner may enter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        root = os.geteuid() == 0

        @contextmanager
        def dropped() -> Iterator[None]:
            if root:
                os.seteuid(NOBODY)
            else:
                folder.chmod(0o555)
            try:
                yield
            finally:
                if root:
                    os.seteuid(0)
                else:
                    folder.chmod(0o755)

        with dropped():
            yield folder


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with sizes and times of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def lay_out(folder: Path, *paths: str) -> list[RemoteFile]:
    """Files below a folder, and what they are pinned to; their address leads nowhere."""
    files = []
    for path in paths:
        content = f"content of {path}".encode()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(RemoteFile(path, f"http://127.0.0.1:1/{path}", digest, len(content)))
    return files


def refused(files: list[RemoteFile], data_dir: Path | None = None) -> str:
    """The one-line message of the DataError that this request ends with."""
    with pytest.raises(DataError) as caught:
        resolve(files, data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestRemoteFile:
    """What a pinned file may be."""

    @pytest.mark.parametrize(
        "path", ["", ".", "/etc/passwd", "../up.json", "a/../../up.json", "a//b", "a/", "./a", "a\\b", "C:/a", "a\0b"]
    )
    def test_refuses_a_path_that_could_leave_the_folder(self, path: str) -> None:
        with pytest.raises(RequestError, match="must be relative"):
            RemoteFile(path, "http://127.0.0.1/", "0" * 64)

    @pytest.mark.parametrize("sha256", ["", "0" * 63, "A" * 64, "g" * 64, "0" * 64 + "\n"])
    def test_refuses_what_cannot_be_a_sha256(self, sha256: str) -> None:
        with pytest.raises(RequestError, match="64 lower-case hex digits"):
            RemoteFile("a", "http://127.0.0.1/", sha256)

    def test_refuses_a_size_that_no_file_has(self) -> None:
        with pytest.raises(RequestError, match="size 0 of a"):
            RemoteFile("a", "http://127.0.0.1/", "0" * 64, 0)


class TestLitter:
    """What processes leave that are killed while they write."""

    WRITER: ClassVar[str] = """
import sys, time
from pathlib import Path
from hybrid_bench.data.files import atomic
with atomic(Path(sys.argv[1])) as beside:
    beside.write_text("half")
    print("there", flush=True)
    time.sleep(600)
"""

    def test_it_is_swept_but_what_is_in_use_is_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "_LITTER_SECONDS", -1.0)  # as if all of it were old
        monkeypatch.setattr(sources, "_swept", set())
        writers = [
            subprocess.Popen([sys.executable, "-c", self.WRITER, tmp_path / name], stdout=subprocess.PIPE, text=True)
            for name in ("killed", "working")
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "there\n"
            assert len(list(tmp_path.glob(".writing-*"))) == 2
            writers[0].kill()
            writers[0].wait()
            with atomic(tmp_path / "new") as beside:
                beside.write_text("whole")
            (left,) = tmp_path.glob(".writing-*")
            assert [path.name for path in left.iterdir()] == ["working"]
            assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["new"]
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()

    def test_what_was_just_left_may_be_in_the_making(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "_swept", set())
        (tmp_path / ".writing-x").mkdir()
        with scratch(tmp_path):
            pass
        assert (tmp_path / ".writing-x").is_dir()


class TestAtomic:
    """Files and folders that appear when they are whole."""

    def test_a_file_and_a_folder_with_the_folders_above(self, tmp_path: Path) -> None:
        with atomic(tmp_path / "a" / "b.txt") as beside:
            assert beside.name == "b.txt"
            beside.write_text("new")
            assert not (tmp_path / "a" / "b.txt").exists()
        with atomic(tmp_path / "model") as beside:
            (beside / "deep").mkdir(parents=True)
            (beside / "deep" / "c").write_text("c")
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
            "a",
            "a/b.txt",
            "model",
            "model/deep",
            "model/deep/c",
        ]
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((tmp_path / "a" / "b.txt").stat().st_mode) == 0o666 & ~umask
        assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~umask

    def test_an_error_leaves_what_was_there_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with pytest.raises(UnicodeEncodeError), atomic(path) as beside, beside.open("w", encoding="ascii") as file:
            file.writelines(["half", "\xe4"])
        assert (path.read_text(), [*tmp_path.iterdir()]) == ("old", [path])

    def test_a_process_that_is_killed_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from hybrid_bench.data.files import atomic
with atomic(Path({str(path)!r})) as beside:
    beside.write_text("half")
    os.kill(os.getpid(), 9)
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert path.read_text() == "old"

    def test_one_that_is_not_written_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with atomic(path):
            pass
        assert (path.read_text(), [*tmp_path.iterdir()]) == ("old", [path])

    def test_a_link_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "scratch").mkdir()
        for name in ("there", "missing"):
            (tmp_path / name).symlink_to(tmp_path / "scratch" / name)
        (tmp_path / "scratch" / "there").write_text("old")
        for name in ("there", "missing"):
            with atomic(tmp_path / name) as beside:
                beside.write_text("new")
            assert (tmp_path / name).is_symlink()
            assert (tmp_path / "scratch" / name).read_text() == "new"

    @pytest.mark.skipif(os.name != "posix", reason="a pipe with a name is POSIX's")
    def test_a_pipe_is_written_to_and_stays_one(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with ThreadPoolExecutor() as pool:
            read = pool.submit((tmp_path / "pipe").read_text)
            with atomic(tmp_path / "pipe") as beside:
                beside.write_text("new")
            assert read.result(10) == "new"
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_all_bytes_are_on_the_disk_before_the_name_and_the_name_after(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[tuple[int, bool]] = []
        sync = os.fsync

        def noted(handle: int) -> None:
            synced.append((os.fstat(handle).st_ino, (tmp_path / "a").exists()))
            sync(handle)

        monkeypatch.setattr(os, "fsync", noted)
        with atomic(tmp_path / "a") as beside:
            beside.mkdir()
            (beside / "b").write_text("b")
        inodes = [(tmp_path / name).stat().st_ino for name in ("a", "a/b", ".")]
        assert synced == [(inodes[0], False), (inodes[1], False), (inodes[2], True)]

    def test_what_cannot_be_written_is_an_os_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match=r"Not a directory|File exists"), atomic(tmp_path / "file" / "a"):
            pass


class TestLines:
    """Lines, and the objects that they hold, with their numbers."""

    TEXT = "\ufeffone\r\n\n \u3000\t\ntwo\x85\u2028two \n\ufeffend"
    FOUND: ClassVar = [(1, "one\r\n"), (4, "two\x85\u2028two \n"), (5, "\ufeffend")]

    @pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
    def test_only_line_feeds_end_lines_and_blank_ones_count(self, tmp_path: Path, name: str) -> None:
        content = self.TEXT.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        assert list(lines(tmp_path / name)) == self.FOUND

    @pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
    def test_nothing_in_a_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)
        assert list(lines(tmp_path / "a")) == []
        assert list(json_objects(tmp_path / "a")) == []

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"1\n\n12\xff4\n", "{}:3: not UTF-8 (invalid start byte at byte 2 of the line)"),
            (PACKED[:-9], "{}:401: the file breaks off or is damaged (Compressed file ended before"),
            (PACKED[:20], "{}:1: the file breaks off or is damaged (Compressed file ended before"),
            (PACKED[:40] + bytes(9) + PACKED[49:], "{}:1: the file breaks off or is damaged (Error -3 while"),
            (PACKED[:-8] + bytes(8), "cannot read {}: CRC check failed"),
            (b"\x1f\x8c", "cannot read {}: Not a gzipped file"),
            (None, "cannot read {}: No such file or directory"),
        ],
    )
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes | None, message: str) -> None:
        packed = content is not None and content.startswith(b"\x1f")
        path = tmp_path / ("a.gz" if packed else "a")
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            list(lines(path))
        assert str(caught.value).startswith(message.format(path))

    def test_objects(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"b": "\xe2\x80\xa8"}')
        assert list(json_objects(tmp_path / "a")) == [(1, {"a": 1}), (3, {"b": "\u2028"})]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"a":', "not JSON (Expecting value: line 1 column 6 (char 5)); one JSON object per line is needed"),
            ("[" * 100_000, "nested too deeply"),
            ('["a"]', 'should be a JSON object, found ["a"]'),
            ("7", "should be a JSON object, found 7"),
        ],
    )
    def test_a_line_that_is_no_object(self, tmp_path: Path, line: str, message: str) -> None:
        (tmp_path / "a").write_text(f'{{"a": 1}}\n{line}\n')
        with pytest.raises(DataError) as caught:
            list(json_objects(tmp_path / "a"))
        assert str(caught.value).startswith(f"{tmp_path / 'a'}:2: {message}")

    def test_an_array_instead_of_lines_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text('[\n{"a": 1}\n]\n')
        with pytest.raises(DataError, match="; one JSON object per line is needed, not one array"):
            list(json_objects(tmp_path / "a"))


class TestCacheDir:
    """Where the cache is."""

    def test_order_of_the_variables(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
        assert cache_dir() == cache
        monkeypatch.setenv("HYBRID_BENCH_CACHE", "")
        assert cache_dir() == tmp_path / "xdg" / "hybrid_bench"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        assert cache_dir() == tmp_path / "home" / ".cache" / "hybrid_bench"
        monkeypatch.setenv("HYBRID_BENCH_CACHE", "~/mine")
        assert cache_dir() == tmp_path / "home" / "mine"
        assert list(tmp_path.iterdir()) == []

    def test_a_home_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HYBRID_BENCH_CACHE", "~no-such-user-here/cache")
        with pytest.raises(DataError, match="name the folder without '~'"):
            cache_dir()


class TestDataFolder:
    """A folder that the user names: read, checked, never written."""

    def test_files_are_found_in_order_and_nothing_is_written(self, tmp_path: Path, cache: Path) -> None:
        files = lay_out(tmp_path / "data", "xquad-r/de.json", "xquad-r/ar.json", "top.tsv")
        before = snapshot(tmp_path)
        found = resolve(files, tmp_path / "data")
        assert list(found.items()) == [(remote.path, tmp_path / "data" / remote.path) for remote in files]
        assert snapshot(tmp_path) == before
        assert not cache.exists()

    def test_the_argument_goes_before_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = lay_out(tmp_path / "argument", "a.json")
        lay_out(tmp_path / "variable", "a.json")
        monkeypatch.setenv("HYBRID_BENCH_DATA", str(tmp_path / "variable"))
        assert resolve(files)["a.json"] == tmp_path / "variable" / "a.json"
        assert resolve(files, tmp_path / "argument")["a.json"] == tmp_path / "argument" / "a.json"

    def test_a_relative_folder_gives_absolute_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = lay_out(tmp_path / "data", "a.json")
        monkeypatch.chdir(tmp_path)
        assert resolve(files, Path("data"))["a.json"] == tmp_path / "data" / "a.json"

    def test_missing_files_are_named_and_counted(self, tmp_path: Path) -> None:
        files = lay_out(tmp_path / "data", *(f"xquad-r/{code}.json" for code in ("ar", "de", "el", "en", "es", "hi")))
        for code in ("ar", "de", "el", "en", "es"):
            (tmp_path / "data" / "xquad-r" / f"{code}.json").unlink()
        message = refused(files, tmp_path / "data")
        assert "lacks 5 of 6 files: xquad-r/ar.json, xquad-r/de.json, xquad-r/el.json and 2 more" in message
        assert f"lay it out as {tmp_path}/data/xquad-r/ar.json" in message
        assert message.endswith("or leave out --data-dir to download")

    def test_a_folder_in_the_place_of_a_file_is_a_missing_file(self, tmp_path: Path) -> None:
        files = lay_out(tmp_path / "data", "a.json", "b")
        (tmp_path / "data" / "a.json").unlink()
        (tmp_path / "data" / "a.json").mkdir()
        assert "lacks 1 of 2 files: a.json;" in refused(files, tmp_path / "data")

    def test_naming_the_folder_below_by_mistake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = lay_out(tmp_path / "data", "xquad-r/ar.json", "xquad-r/de.json")
        monkeypatch.setenv("HYBRID_BENCH_DATA", str(tmp_path / "data" / "xquad-r"))
        message = refused(files)
        assert f"did you mean {tmp_path}/data?" in message
        assert "unset HYBRID_BENCH_DATA to download" in message

    @pytest.mark.parametrize("name", ["nowhere", "a.json"])
    def test_no_folder(self, name: str, tmp_path: Path) -> None:
        files = lay_out(tmp_path, "a.json")
        assert refused(files, tmp_path / name).startswith(f"--data-dir {tmp_path / name} is not a folder: ")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        files = lay_out(tmp_path, "a.json")
        (tmp_path / "a.json").write_bytes(b"")
        message = refused(files, tmp_path)
        assert f"{tmp_path}/a.json is empty (0 bytes): fetch it again from {files[0].url}, or" in message

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        files = lay_out(tmp_path, "a.json")
        (tmp_path / "a.json").write_bytes(b"content")
        assert f"{tmp_path}/a.json is truncated (7 of 17 bytes): fetch" in refused(files, tmp_path)

    @pytest.mark.parametrize("content", [b"content of B.json", b"content of b.json, and more"])
    def test_a_changed_file(self, content: bytes, tmp_path: Path) -> None:
        files = lay_out(tmp_path, "a.json", "b.json")
        (tmp_path / "b.json").write_bytes(content)
        expected, found = files[1].sha256[:12], hashlib.sha256(content).hexdigest()[:12]
        message = refused(files, tmp_path)
        assert f"{tmp_path}/b.json is not the pinned file (expected sha256 {expected}, found {found}): " in message
        assert message.endswith("or leave out --data-dir to download")

    def test_a_file_that_may_not_be_read(self) -> None:
        with as_nobody() as folder:
            files = [RemoteFile("a.json", "http://127.0.0.1:1/", "0" * 64)]
            if os.getuid() == 0:
                os.seteuid(0)
            else:
                folder.chmod(0o755)
            (folder / "a.json").write_bytes(b"secret")
            (folder / "a.json").chmod(0o000)
            if os.getuid() == 0:
                os.seteuid(NOBODY)
            assert f"cannot read {folder}/a.json: Permission denied;" in refused(files, folder)

    def test_two_contents_for_one_path(self, tmp_path: Path) -> None:
        files = [*lay_out(tmp_path, "a.json"), RemoteFile("a.json", "http://127.0.0.1:1/", "0" * 64)]
        with pytest.raises(RequestError, match=r"path 'a\.json' is asked for with two different contents"):
            resolve(files, tmp_path)

    def test_asking_twice_for_one_file(self, tmp_path: Path) -> None:
        files = lay_out(tmp_path, "a.json")
        assert resolve(files * 2, tmp_path) == {"a.json": tmp_path / "a.json"}

    def test_a_file_is_not_hashed_again_until_it_changes(self, tmp_path: Path, hashed: list[str]) -> None:
        files = lay_out(tmp_path, "a.json", "b.json")
        resolve(files, tmp_path)
        resolve(files, tmp_path)
        assert hashed == ["a.json", "b.json"]
        (tmp_path / "b.json").write_bytes(b"content of B.json")  # as long as before
        later = (tmp_path / "a.json").stat().st_mtime_ns + 1_000_000_000
        os.utime(tmp_path / "b.json", ns=(later, later))
        assert "b.json is not the pinned file" in refused(files, tmp_path)
        assert "b.json is not the pinned file" in refused(files, tmp_path)
        assert hashed == ["a.json", "b.json", "b.json"]


class TestDownload:
    """From a server into the cache."""

    def test_once_then_from_the_cache(self, server: Server, cache: Path) -> None:
        files = [server.file("xquad-r/ar.json"), server.file("top.tsv")]
        paths = resolve(files)
        assert paths == {remote.path: cache / "data" / remote.path for remote in files}
        assert [path.read_bytes() for path in paths.values()] == [CONTENT, CONTENT]
        assert not list(cache.rglob("*.part"))
        hashing._hashes.clear()  # as in another process
        assert resolve(files) == paths
        assert [request.path for request in server.seen] == ["/xquad-r/ar.json", "/top.tsv"]

    def test_a_fresh_download_is_not_hashed_twice(self, server: Server, hashed: list[str]) -> None:
        resolve([server.file()])
        resolve([server.file()])
        assert hashed == ["ar.json.part"]

    @pytest.mark.parametrize("damage", [b"", CONTENT[:100], OTHER])
    def test_a_damaged_cached_file_is_replaced(self, damage: bytes, server: Server, cache: Path) -> None:
        path = cache / "data" / "xquad-r" / "ar.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(damage)
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT

    @pytest.mark.parametrize("sized", [True, False])
    def test_a_broken_connection_goes_on_where_it_stopped(self, sized: bool, server: Server) -> None:
        server.plan.extend([cut(100_000), cut(80_000)])
        assert resolve([server.file(sized=sized)])["xquad-r/ar.json"].read_bytes() == CONTENT
        first, second, third = server.ranges
        assert first is None
        assert second is not None
        assert third is not None
        start, later = (int(asked.removeprefix("bytes=").removesuffix("-")) for asked in (second, third))
        # at most one chunk is lost at each break
        assert 100_000 - sources.CHUNK_BYTES <= start <= 100_000
        assert start + 80_000 - sources.CHUNK_BYTES <= later <= start + 80_000

    def test_a_connection_that_is_reset(self, server: Server) -> None:
        server.plan.extend([cut(150_000, reset=True), cut(0, reset=True)])
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert len(server.seen) == 3

    def test_a_connection_that_keeps_breaking_is_given_up_and_the_part_kept(self, server: Server, cache: Path) -> None:
        server.plan.extend([cut(70_000)] + [cut(0)] * (sources.TRIES - 1))
        message = refused([server.file()])
        part = cache / "data" / "xquad-r" / "ar.json.part"
        have = part.stat().st_size
        assert 0 < have <= 70_000
        assert f"cannot get xquad-r/ar.json: the connection broke after {have:,} of 300,000 bytes" in message
        assert "tried 5 times; try again later, what has arrived is kept; pass --data-dir DIR" in message
        assert len(server.seen) == sources.TRIES
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges[-1] == f"bytes={have}-"

    def test_what_nobody_asked_for_is_tried_once(self, server: Server) -> None:
        server.plan.extend([cut(70_000)] * sources.TRIES)
        with unasked():
            message = refused([server.file()])
        assert len(server.seen) == 1
        assert "tried" not in message
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT  # and then as often as before

    def test_a_short_answer_without_a_length(self, server: Server) -> None:
        server.plan.append(lambda handler: handler.send(200, CONTENT[:200_000], {"Connection": "close"}))
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges == [None, "bytes=200000-"]

    def test_a_whole_answer_without_a_length(self, server: Server) -> None:
        server.plan.append(lambda handler: handler.send(200, CONTENT, {"Connection": "close"}))
        assert resolve([server.file(sized=False)])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert len(server.seen) == 1

    @pytest.mark.parametrize("after", [None, 200_000])
    def test_a_server_that_hangs(self, after: int | None, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "TIMEOUT_SECONDS", (5.0, 0.3))
        server.plan.append(hang(after))
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert (server.ranges[1] is None) == (after is None)

    def test_a_server_that_keeps_hanging_is_not_called_unreachable(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "TIMEOUT_SECONDS", (5.0, 0.1))
        server.plan.extend([hang()] * sources.TRIES)
        message = refused([server.file(), server.file("other.json")])
        assert message.startswith("cannot get xquad-r/ar.json: 127.0.0.1 did not answer (timed out), tried 5 times;")

    def test_a_server_that_closes_without_an_answer(self, server: Server) -> None:
        server.plan.append(lambda handler: None)
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT

    def test_a_server_without_ranges_sends_all_again(self, server: Server) -> None:
        server.plan.extend([cut(100_000), without_ranges])
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges[1] is not None
        assert len(server.seen) == 2

    @pytest.mark.parametrize("sized", [True, False])
    def test_a_range_that_is_refused_leads_to_a_whole_download(self, sized: bool, server: Server) -> None:
        server.plan.extend([cut(100_000), status(416)])
        assert resolve([server.file(sized=sized)])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges[1] is not None
        assert server.ranges[2:] == [None]

    @pytest.mark.parametrize("span", ["bytes 0-299999/300000", "nonsense", ""])
    def test_another_range_than_asked_for(self, span: str, server: Server) -> None:
        server.plan.extend(
            [cut(100_000), lambda handler: handler.send(206, CONTENT, {"Content-Range": span}), other_content]
        )
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        # it is seen by its offset: the second chance after a wrong hash was not used up by it
        assert server.ranges[2:] == [None, None]

    @pytest.mark.parametrize("content", [b"text " * 50_000, CONTENT], ids=["text", "noise"])
    def test_compression_against_our_wish(self, content: bytes, server: Server) -> None:
        server.content = content  # of which one gets shorter, the other longer
        body = gzip.compress(server.content)
        encoded = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
        server.plan.append(lambda handler: handler.send(200, body, encoded))
        assert resolve([server.file(content=content, sized=False)])["xquad-r/ar.json"].read_bytes() == content
        assert len(server.seen) == 1

    def test_server_errors_pass_after_growing_waits(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "BACKOFF_SECONDS", 0.02)
        server.plan.extend([status(500), status(502), status(503), status(429)])
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        waits = [second.at - first.at for first, second in zip(server.seen, server.seen[1:], strict=False)]
        assert len(waits) == 4
        assert all(wait >= least for wait, least in zip(waits, (0.01, 0.02, 0.04, 0.08), strict=True))

    def test_waits_are_random(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        server.plan.extend([status(503)] * 8)
        for _ in range(2):
            with suppress(DataError):
                resolve([server.file()])
        factors = [wait / 0.001 / 2**number for number, wait in zip((0, 1, 2, 3, 0, 1, 2), slept, strict=False)]
        assert all(0.5 <= factor <= 1.5 for factor in factors)
        assert len(set(factors)) == 7

    def test_a_server_that_says_when_to_come_again(self, server: Server) -> None:
        server.plan.extend([status(429, Retry_After="1"), status(503, Retry_After="0")])
        resolve([server.file()])
        first, second, third = (request.at for request in server.seen)
        assert second - first >= 1
        assert third - second < 1

    def test_it_may_say_so_by_a_date(self, server: Server) -> None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        server.plan.extend([status(503, Retry_After=soon), status(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT")])
        server.plan.append(status(503, Retry_After="whenever"))
        resolve([server.file()])
        first, second, third, fourth = (request.at for request in server.seen)
        assert 1 < second - first < 4  # a date has no fractions of a second
        assert third - second < 1
        assert fourth - third < 1
        server.plan.append(status(503, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT"))
        assert "wants to be left alone for" in refused([server.file("xquad-r/de.json")])
        assert len(server.seen) == 5

    @pytest.mark.parametrize("name", ["Content-Length", "Retry-After"])
    def test_numbers_of_thousands_of_digits(self, name: str, server: Server) -> None:
        """Python refuses to read them, with an error of its own."""
        code = 200 if name == "Content-Length" else 503
        server.plan.append(lambda handler: handler.send(code, handler.server.content, {name: "9" * 5000}))
        resolve([server.file(sized=False)])
        assert len(server.seen) == (1 if code == 200 else 2)

    def test_a_server_that_sends_a_byte_now_and_then(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "SLOW_SECONDS", 0.5)
        server.plan.append(drip)
        resolve([server.file()])
        assert 0.4 < server.seen[1].at - server.seen[0].at < 5
        assert server.ranges[1] is not None, "what has arrived was thrown away"

    def test_an_answer_without_an_end(self, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "LARGEST_BYTES", 1_000_000)
        server.plan.append(endless)
        assert "sends more than 1,000,000 bytes, and no end of it was told" in refused([server.file(sized=False)])
        assert not list(cache.rglob("*.part"))

    def test_a_server_that_wants_an_hour(self, server: Server) -> None:
        server.plan.append(status(429, Retry_After="3600"))
        message = refused([server.file()])
        assert "answered 429 Too Many Requests and wants to be left alone for 3600 s; try then" in message
        assert len(server.seen) == 1

    def test_server_errors_that_stay(self, server: Server) -> None:
        server.plan.extend([status(503)] * 9)
        message = refused([server.file()])
        assert f"cannot get xquad-r/ar.json: {server.url}/xquad-r/ar.json answered 503 Service Unavailable" in message
        assert len(server.seen) == sources.TRIES

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416])
    def test_what_the_server_does_not_give_is_asked_once(self, code: int, server: Server, cache: Path) -> None:
        server.plan.append(status(code))
        message = refused([server.file()])
        assert f"cannot download xquad-r/ar.json: {server.url}/xquad-r/ar.json answered {code} " in message
        assert "pass --data-dir DIR (or set HYBRID_BENCH_DATA) with a folder that holds xquad-r/ar.json" in message
        assert len(server.seen) == 1
        assert [path.name for path in cache.rglob("*") if path.is_file()] == ["ar.json.lock"]

    def test_an_address_that_is_none(self) -> None:
        message = refused([RemoteFile("a.json", "nothing://here", "0" * 64)])
        assert message.startswith("cannot download a.json from nothing://here: ")

    def test_certificates_that_are_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        message = refused([RemoteFile("a.json", "https://127.0.0.1:1/a.json", "0" * 64)])
        assert "TLS CA certificate bundle" in message
        assert "cache folder" not in message

    @pytest.mark.parametrize("sized", [True, False])
    def test_wrong_content_is_fetched_once_more_then_refused(self, sized: bool, server: Server, cache: Path) -> None:
        server.content = OTHER
        message = refused([server.file(sized=sized)])
        expected, found = hashlib.sha256(CONTENT).hexdigest()[:12], hashlib.sha256(OTHER).hexdigest()[:12]
        assert f"{server.url}/xquad-r/ar.json does not give the pinned xquad-r/ar.json" in message
        assert f"expected sha256 {expected}" in message
        assert f"found {found} and 300,000 bytes, twice" in message
        assert server.ranges == [None, None]
        assert [path.name for path in cache.rglob("*") if path.is_file()] == ["ar.json.lock"]

    def test_wrong_content_once(self, server: Server) -> None:
        server.plan.append(other_content)
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert len(server.seen) == 2

    @pytest.mark.parametrize("content", [b"", CONTENT[:1000], CONTENT + OTHER * 3])
    def test_a_server_with_a_file_of_another_length(self, content: bytes, server: Server, cache: Path) -> None:
        server.content = content
        assert "does not give the pinned xquad-r/ar.json" in refused([server.file()])
        assert server.ranges == [None, None]

    def test_a_far_too_long_answer_is_not_followed(self, server: Server) -> None:
        sent: list[int] = []

        def long(handler: Handler) -> None:
            handler.send(200, b"", {"Connection": "close"})
            for _ in range(100):  # bounded, 30 MB: a client that does follow must not fill the disk
                handler.wfile.write(OTHER)
                sent.append(len(OTHER))

        server.plan.append(long)
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert len(sent) < 100

    def test_the_part_of_another_version(self, server: Server, cache: Path) -> None:
        part = cache / "data" / "xquad-r" / "ar.json.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(OTHER[:1000])
        assert resolve([server.file()])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges == ["bytes=1000-", None]

    @pytest.mark.parametrize(("sized", "ranges"), [(True, []), (False, ["bytes=300000-"])])
    def test_a_complete_part_is_not_fetched_again(
        self, sized: bool, ranges: list[str], server: Server, cache: Path
    ) -> None:
        part = cache / "data" / "xquad-r" / "ar.json.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(CONTENT)
        assert resolve([server.file(sized=sized)])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges == ranges
        assert not part.exists()

    def test_the_users_random_state_is_left_alone(self, server: Server) -> None:
        server.plan.append(status(503))
        state = random.getstate()
        resolve([server.file()])
        assert random.getstate() == state


class TestOffline:
    """What is said when nothing can be fetched."""

    @pytest.fixture
    def nowhere(self) -> list[RemoteFile]:
        """Four files on a port where nobody listens."""
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        return [
            RemoteFile(f"xquad-r/{code}.json", f"http://127.0.0.1:{port}/", "0" * 64)
            for code in ("ar", "de", "el", "en")
        ]

    def test_no_connection(self, nowhere: list[RemoteFile], cache: Path) -> None:
        assert refused(nowhere) == (
            "cannot get xquad-r/ar.json, xquad-r/de.json, xquad-r/el.json and 1 more (4 files): the network is"
            " unreachable (no connection to 127.0.0.1: Connection refused), tried 5 times; pass --data-dir DIR (or set"
            f" HYBRID_BENCH_DATA) with a folder that holds xquad-r/ar.json ..., or copy the cache folder {cache} from a"
            " machine that has the files"
        )

    def test_files_that_are_cached_are_not_called_missing(self, nowhere: list[RemoteFile], server: Server) -> None:
        message = refused([server.file("here.json"), nowhere[3]])
        assert message.startswith("cannot get xquad-r/en.json: the network is unreachable (no connection to ")

    def test_a_proxy_that_is_not_there(self, nowhere: list[RemoteFile], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", nowhere[0].url)
        message = refused([RemoteFile("a.json", "http://somewhere.invalid/a.json", "0" * 64)])
        assert "the network is unreachable (no connection to somewhere.invalid: Connection refused)" in message

    @pytest.mark.parametrize("name", ["HYBRID_BENCH_OFFLINE", "HF_HUB_OFFLINE"])
    @pytest.mark.parametrize("value", ["1", "true", "YES"])
    def test_offline_is_set(
        self, name: str, value: str, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        message = refused([server.file()])
        assert message.startswith(f"cannot get xquad-r/ar.json: offline is set ({name}={value}); pass --data-dir DIR")
        assert "with a folder that holds xquad-r/ar.json, or copy the cache folder" in message
        assert not server.seen
        assert not cache.exists()

    def test_offline_with_a_full_cache(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "0")
        paths = resolve([server.file()])
        monkeypatch.setenv("HYBRID_BENCH_OFFLINE", "1")
        hashing._hashes.clear()
        assert resolve([server.file()]) == paths


class TestUnwritableCache:
    """A cache folder that cannot be written."""

    def test_a_file_in_the_place_of_the_folder(self, server: Server, cache: Path) -> None:
        cache.write_text("a file")
        message = refused([server.file()])
        assert message == (
            f"cannot write in the cache folder {cache}: Not a directory; set HYBRID_BENCH_CACHE to a folder that can be"
            " written"
        ) or message.startswith(f"cannot write in the cache folder {cache}: File exists; set HYBRID_BENCH_CACHE")

    def test_a_folder_in_the_place_of_the_file(self, server: Server, cache: Path) -> None:
        (cache / "data" / "xquad-r" / "ar.json").mkdir(parents=True)
        assert f"cannot write in the cache folder {cache}: Is a directory;" in refused([server.file()])

    def test_a_read_only_folder(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        with as_nobody() as folder:
            monkeypatch.setenv("HYBRID_BENCH_CACHE", str(folder))
            message = refused([server.file()])
            assert message.startswith(f"cannot write in the cache folder {folder}: Permission denied; set HYBRID_BENCH")
        assert not server.seen

    def test_a_read_only_folder_that_has_the_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = lay_out(folder / "data", "a.json")
            monkeypatch.setenv("HYBRID_BENCH_CACHE", name)
            for path in (folder / "data", folder):
                path.chmod(0o555)
            if os.geteuid() == 0:
                os.seteuid(NOBODY)
            try:
                assert resolve(files) == {"a.json": folder / "data" / "a.json"}
            finally:
                if os.getuid() == 0:
                    os.seteuid(0)
                for path in (folder, folder / "data"):
                    path.chmod(0o755)


# The package's own import registers tasks with mteb, which takes seconds and is not needed here: only its path is set.
FETCH = f"""
import sys, types
package = sys.modules["hybrid_bench"] = types.ModuleType("hybrid_bench")
package.__path__ = [{str(ROOT / "hybrid_bench")!r}]
from hybrid_bench.data.files import RemoteFile, resolve
print("ready", flush=True)
sys.stdin.readline()
path, url, sha256, size = sys.argv[1:]
print(resolve([RemoteFile(path, url, sha256, int(size))])[path])
"""


@contextmanager
def process_for(remote: RemoteFile) -> Iterator[subprocess.Popen[str]]:
    """Another process that downloads a file once it is sent a line; ready to do so, killed in the end."""
    arguments = [remote.path, remote.url, remote.sha256, str(remote.size)]
    with subprocess.Popen(
        [sys.executable, "-c", FETCH, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    """Let it begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen soon."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def slow(handler: Handler) -> None:
    """Send half, and the rest when the test says so."""
    handler.send(200, CONTENT[:150_000], {"Content-Length": str(len(CONTENT))})
    handler.server.released.wait(30)
    handler.wfile.write(CONTENT[150_000:])


class TestTogether:
    """More than one process, and processes that die."""

    def test_two_processes_download_once(self, server: Server, cache: Path) -> None:
        server.plan.append(slow)
        remote = server.file()
        with process_for(remote) as first, process_for(remote) as second:
            go(first)
            until(lambda: server.seen)
            go(second)
            time.sleep(0.7)  # time enough for the second to ask the server, if it did not wait
            assert first.poll() is None
            assert second.poll() is None
            assert len(server.seen) == 1
            server.released.set()
            outputs = [process.communicate(timeout=20) for process in (first, second)]
            assert [process.returncode for process in (first, second)] == [0, 0]
        path = cache / "data" / "xquad-r" / "ar.json"
        assert outputs == [(f"{path}\n", "")] * 2
        assert path.read_bytes() == CONTENT
        assert server.ranges == [None]

    def test_threads_download_once(self, server: Server) -> None:
        server.plan.append(slow)
        remote = server.file()
        found: list[dict[str, Path]] = []
        threads = [threading.Thread(target=lambda: found.append(resolve([remote]))) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: server.seen)
        time.sleep(0.2)
        server.released.set()
        for thread in threads:
            thread.join(20)
        assert len(found) == 4
        assert found[0]["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges == [None]

    def test_a_killed_download_is_resumed(self, server: Server, cache: Path) -> None:
        server.plan.append(hang(200_000))
        part = cache / "data" / "xquad-r" / "ar.json.part"
        remote = server.file()
        least = 200_000 // sources.CHUNK_BYTES * sources.CHUNK_BYTES
        with process_for(remote) as process:
            go(process)
            until(lambda: part.exists() and part.stat().st_size >= least)
            process.kill()
            assert process.wait(20) == -signal.SIGKILL
        have = part.stat().st_size
        assert 0 < have < len(CONTENT)
        assert not part.with_name("ar.json").exists()
        assert resolve([remote])["xquad-r/ar.json"].read_bytes() == CONTENT
        assert server.ranges == [None, f"bytes={have}-"]
        assert not part.exists()


class Terminal(io.StringIO):
    """What a person at a terminal sees."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class TestProgress:
    """Seen by a person, and by nobody else."""

    def test_nothing_without_a_terminal(self, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
        server.plan.extend([cut(100_000), status(503)])
        resolve([server.file()])
        assert len(server.seen) == 3
        assert capfd.readouterr() == ("", "")

    def test_bytes_rate_and_retries_on_a_terminal(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(Progress, "delay", 0.0)
        server.plan.append(status(503))
        resolve([server.file()])
        shown = terminal.getvalue()
        assert f"{server.url}/xquad-r/ar.json answered 503 Service Unavailable; try 2 of 5 in 0.0 s" in shown
        assert re.search(r"xquad-r/ar\.json: +\d+%\|.*\| [\d.]+k?/300k \[\d\d:\d\d<.*bytes/s\]", shown)
        assert capfd.readouterr().out == ""

    def test_waiting_for_another_process_is_said(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = Terminal()
        server.plan.append(slow)
        remote = server.file()
        with process_for(remote) as process:
            go(process)
            until(lambda: server.seen)
            monkeypatch.setattr(sys, "stderr", terminal)
            thread = threading.Thread(target=resolve, args=([remote],))
            thread.start()
            until(terminal.getvalue)
            server.released.set()
            thread.join(20)
            assert process.wait(20) == 0
        assert terminal.getvalue() == "xquad-r/ar.json: waiting for another process that downloads it\n"
