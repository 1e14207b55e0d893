"""What the tests share: the real data, and models small enough to make on the spot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from process import process_kept

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets, laid out as ``--data-dir`` wants it.

    Taken from HYBRID_BENCH_DATA, else from beside the repository. Tests that need it are skipped without it, unless
    HYBRID_BENCH_REQUIRE_DATA is set.
    """
    folder = Path(os.environ.get("HYBRID_BENCH_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "xquad-r" / "en.json").is_file():
        message = f"no real data in {folder}: set HYBRID_BENCH_DATA to a folder that holds xquad-r/en.json"
        if os.environ.get("HYBRID_BENCH_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _file_keeps_the_process() -> Iterator[None]:
    """What the fixtures of a file do to the process ends with the file."""
    with process_kept():
        yield


@pytest.fixture(autouse=True)
def _test_keeps_the_process(_file_keeps_the_process: None) -> Iterator[None]:
    """What a test does to the process ends with the test: none depends on which ones ran before it."""
    with process_kept():
        yield
