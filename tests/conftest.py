"""What the tests share: the real data, and models small enough to make on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
