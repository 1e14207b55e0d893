"""Embeddings on disk, without a model: what is kept when, what is trusted, and what a full disk does."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_bench.engine import cache as cache_module
from hybrid_bench.engine.cache import EmbeddingCache
from hybrid_bench.errors import DataError

Matrix = NDArray[np.float32]
TEXTS = [f"text {number}" for number in range(23)]


def vectors(texts: Sequence[str]) -> Matrix:
    """Told from the texts alone: their number, and three more that differ."""
    return np.array([[number, number + 0.5, -number, 1] for number in (int(text[5:]) for text in texts)], np.float32)


class Encoder:
    """Encodes two texts a batch, the last text first, and notes which it was given."""

    def __init__(self, stop: int | None = None, error: BaseException | None = None, pause: float = 0) -> None:
        self.given: list[str] = []
        self.stop, self.error, self.pause = stop, error or KeyboardInterrupt(), pause

    def __call__(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Matrix]]:
        rows = np.arange(len(texts))[::-1]
        for start in range(0, len(rows), 2):
            if self.stop is not None and len(self.given) >= 2 * self.stop:
                raise self.error
            batch = [texts[row] for row in rows[start : start + 2]]
            self.given += batch
            time.sleep(self.pause)
            yield rows[start : start + 2], vectors(batch)


def get(folder: Path, encoder: Encoder, texts: Sequence[str] = TEXTS) -> Matrix:
    return EmbeddingCache(folder).get({"model": "a"}, texts, encoder, block_rows=8)


def only(folder: Path, suffix: str) -> Path:
    (path,) = folder.rglob(f"*{suffix}")
    return path


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")], ids=["interrupt", "model"])
@pytest.mark.parametrize("stop", range(13))
def test_a_stop_at_any_batch_costs_that_batch_alone(tmp_path: Path, stop: int, error: BaseException) -> None:
    first, second = Encoder(stop, error), Encoder()
    if stop < 12:
        cache = EmbeddingCache(tmp_path)
        with pytest.raises(type(error)):
            cache.get({"model": "a"}, TEXTS, first, block_rows=8)
        assert cache.kept == len(first.given)
    np.testing.assert_array_equal(get(tmp_path, second), vectors(TEXTS), strict=True)
    assert sorted(first.given + second.given) == sorted(TEXTS)
    assert list(tmp_path.rglob("*.partial")) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process of its own that can be killed at once")
def test_a_kill_costs_what_was_encoded_since_the_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL leaves no time to save anything."""
    monkeypatch.setattr(cache_module, "_SECONDS_BETWEEN_SAVES", 0.05)
    texts = [f"text {number}" for number in range(400)]
    child = os.fork()
    if child == 0:
        try:
            EmbeddingCache(tmp_path).get({"model": "a"}, texts, Encoder(pause=0.02), block_rows=400)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    again = Encoder()
    found = EmbeddingCache(tmp_path).get({"model": "a"}, texts, again, block_rows=400)
    np.testing.assert_array_equal(found, vectors(texts))
    assert 0 < len(again.given) < len(texts)


def reverse(data: bytes) -> bytes:
    return data[:128] + data[128:][::-1]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "reversed": reverse,
    "zeroed": lambda data: data[:128] + bytes(len(data) - 128),
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut off": lambda data: data[:-40],
    "cut off within the header": lambda data: data[:50],
    "longer": lambda data: data + b"more",
    "empty": lambda data: b"",
    "another shape": lambda data: data.replace(b"(23, 4)", b"(46, 2)"),
    "something else": lambda data: b"\x80\x05hello" * 40,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_encoded_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    get(tmp_path, Encoder())
    path = only(tmp_path, ".npy")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    again, third = Encoder(), Encoder()
    np.testing.assert_array_equal(get(tmp_path, again), vectors(TEXTS), strict=True)
    assert set(again.given) == set(TEXTS[16:] if damage == "one bit" else TEXTS)
    assert f"{path} is damaged" in caplog.text
    np.testing.assert_array_equal(get(tmp_path, third), vectors(TEXTS), strict=True)
    assert third.given == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"block_rows": 8}',
        '{"block_rows": 0, "dimension": 4, "sums": {}}',
        "[" * 100_000,
        "\x00",
    ],
)
def test_damaged_checksums_vouch_for_nothing(tmp_path: Path, text: str) -> None:
    get(tmp_path, Encoder())
    only(tmp_path, ".json").write_text(text)
    np.testing.assert_array_equal(get(tmp_path, again := Encoder()), vectors(TEXTS), strict=True)
    assert sorted(again.given) == sorted(TEXTS)


def test_a_file_without_checksums_was_never_finished(tmp_path: Path) -> None:
    """Rows that a stopped machine has written, and nobody vouches for."""
    get(tmp_path, Encoder())
    only(tmp_path, ".json").unlink()
    np.testing.assert_array_equal(get(tmp_path, again := Encoder()), vectors(TEXTS), strict=True)
    assert sorted(again.given) == sorted(TEXTS)


@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty", "something else", "another block's"])
def test_a_damaged_part_of_a_block_is_encoded_again(tmp_path: Path, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path, Encoder(stop=2))
    path = only(tmp_path, ".partial")
    if damage == "another block's":
        with np.load(path) as saved:
            parts = dict(saved)
        with path.open("wb") as file:
            np.savez(file, **{**parts, "of": parts["of"] + np.array([1, 0, 0])})
    elif damage == "one bit":
        data = bytearray(path.read_bytes())
        data[data.index(vectors(["text 7"]).tobytes())] ^= 1
        path.write_bytes(bytes(data))
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    np.testing.assert_array_equal(get(tmp_path, again := Encoder()), vectors(TEXTS), strict=True)
    assert sorted(again.given) == sorted(TEXTS)


def test_what_is_kept_does_not_change_with_the_block_that_was_asked_for(tmp_path: Path) -> None:
    get(tmp_path, Encoder())
    again = Encoder()
    found = EmbeddingCache(tmp_path).get({"model": "a"}, TEXTS, again, block_rows=5)
    np.testing.assert_array_equal(found, vectors(TEXTS), strict=True)
    assert again.given == []


@pytest.fixture
def largest_file() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond a size: what is written then fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_met_before_the_second_batch(
    tmp_path: Path, largest_file: Callable[[int], None]
) -> None:
    encoder = Encoder()
    texts = [f"text {number}" for number in range(10_000)]
    largest_file(100_000)
    with pytest.raises(
        DataError, match=rf"^cannot use the embedding cache {tmp_path} \(File too large\); choose another"
    ):
        EmbeddingCache(tmp_path).get({"model": "a"}, texts, encoder, block_rows=2048)
    assert len(encoder.given) == 2
    assert only(tmp_path, ".npy").stat().st_size == 0
    largest_file(1_000_000)
    found = EmbeddingCache(tmp_path).get({"model": "a"}, texts, Encoder(), block_rows=2048)
    np.testing.assert_array_equal(found, vectors(texts))


def test_the_space_is_taken_and_not_only_noted(tmp_path: Path) -> None:
    """A sparse file would be met by a full disk when its pages are written, which is a signal, not an error."""
    texts = [f"text {number}" for number in range(40_000)]
    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path).get({"model": "a"}, texts, Encoder(stop=1), block_rows=2048)
    taken = only(tmp_path, ".npy").stat()
    assert taken.st_size == 128 + 4 * 4 * len(texts)
    assert taken.st_blocks * 512 >= taken.st_size - 4096


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    get(tmp_path, Encoder())
    only(tmp_path, ".npy").chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        get(tmp_path, Encoder())


def test_the_checksums_are_those_of_the_rows(tmp_path: Path) -> None:
    """By their definition: SHA-256 over a block's rows as little-endian float32."""
    from hashlib import sha256

    get(tmp_path, Encoder())
    index = json.loads(only(tmp_path, ".json").read_text())
    expected = [sha256(vectors(TEXTS[start : start + 8]).astype("<f4").tobytes()).hexdigest() for start in (0, 8, 16)]
    assert index == {"block_rows": 8, "dimension": 4, "sums": dict(zip("012", expected, strict=True))}
