from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hybrid_bench.data import hashing
from hybrid_bench.data.hashing import (
    sha256_of,
    sha256_of_json,
    sha256_of_lines,
    sha256_of_text,
    sha256_once,
    splitmix64,
)
from hybrid_bench.errors import DataError


def test_sha256_of_equals_the_published_test_vector(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1, and appendix B.3: a million times 'a', longer than a block that is read."""
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "million").write_bytes(b"a" * 1_000_000)
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "million") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"


def test_a_file_is_read_once_until_its_size_or_time_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(hashing, "_hashes", {})
    monkeypatch.setattr(hashing, "sha256_of", noted)
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    os.utime(path, ns=(1, 1))
    first = sha256_once(path)
    assert first == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abcd")
    os.utime(path, ns=(1, 1))
    second = sha256_once(path)
    assert second == hashlib.sha256(b"abcd").hexdigest()
    path.write_bytes(b"ABCD")
    os.utime(path, ns=(2, 2))
    assert sha256_once(path) == hashlib.sha256(b"ABCD").hexdigest()
    monkeypatch.chdir(tmp_path)
    assert sha256_once(Path("a")) == sha256_once(path)
    assert hashed == ["a", "a", "a"]
    (tmp_path / "b").write_bytes(b"ABCD")
    assert sha256_once(tmp_path / "b") == sha256_once(path)
    assert hashed[3:] == ["b"]


def test_a_file_that_cannot_be_hashed(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError) as caught:
            sha256_once(path)
        assert str(caught.value) == f"cannot read {path}: {message}"


def test_sha256_of_lines_is_that_of_the_text() -> None:
    assert sha256_of_lines(iter(["ä", "b"])) == hashlib.sha256("ä\nb".encode()).hexdigest()
    assert sha256_of_lines([]) == hashlib.sha256(b"").hexdigest()


def test_sha256_of_a_value_is_that_of_its_json_with_the_keys_in_order() -> None:
    value = {"b": [1, "ä"], "a": None}
    text = '{"a": null, "b": [1, "ä"]}'
    assert json.loads(text) == value
    assert sha256_of_json(value) == sha256_of_text(text) == hashlib.sha256(text.encode()).hexdigest()


def test_splitmix64_gives_the_published_sequence() -> None:
    """The first numbers from the seed 1234567, as Rosetta Code lists them for splitmix64.c."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * golden) % 2**64 for k in range(5)], np.uint64)
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(states.reshape(5, 1)).shape == (5, 1)
