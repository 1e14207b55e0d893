"""A Hub on the loopback interface that has one data set: as much of the real one as huggingface_hub asks for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import huggingface_hub

if TYPE_CHECKING:
    import pytest

__all__ = ["COMMIT", "HubServer", "nowhere", "serving", "use_hub"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Has the files of a folder as the data set `name`, at one commit, which is also the branch ``main``.

    Attributes:
        asked: The paths of all requests.
        withheld: Status and error code by file that is not given.
    """

    daemon_threads = True

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.name = folder, name
        self.asked: list[str] = []
        self.withheld: dict[str, tuple[int, str]] = {}

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def downloaded(self) -> set[str]:
        """The files that were asked for since the last call."""
        paths = [path.partition(f"/resolve/{COMMIT}/")[2] for path in self.asked]
        self.asked.clear()
        return {path for path in paths if path}


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Note the request, then answer."""
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        folder, name = self.server.folder, re.escape(self.server.name)
        files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
        if match := re.fullmatch(rf"/api/datasets/{name}(?:/revision/(.*))?", path):
            if match[1] not in (None, "main", COMMIT):
                return self.answer(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            return self.json(
                {"id": self.server.name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
            )
        if path == f"/api/datasets/{self.server.name}/tree/{COMMIT}":
            return self.json(
                [{"type": "file", "path": i, "size": file.stat().st_size, "oid": i} for i, file in files.items()]
            )
        if match := re.fullmatch(rf"/datasets/{name}/resolve/{COMMIT}/(.*)", path):
            if match[1] in self.server.withheld:
                code, reason = self.server.withheld[match[1]]
                return self.answer(code, b'{"error": "Sorry"}', {"X-Error-Code": reason})
            return self.answer(200, files[match[1]].read_bytes(), {"ETag": f'"{match[1]}"', "X-Repo-Commit": COMMIT})
        return self.answer(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})

    def json(self, value: Any) -> None:
        """An answer of the API."""
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Any answer."""
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serving(folder: Path, name: str) -> Iterator[HubServer]:
    """A Hub, which is gone when the block ends."""
    with HubServer(folder, name) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def nowhere() -> str:
    """An address at which nothing answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """Have huggingface_hub ask this Hub, keep what it gets in this folder, and not be offline."""
    for variable in ("HF_HUB_OFFLINE", "HYBRID_BENCH_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in {
        "ENDPOINT": endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
