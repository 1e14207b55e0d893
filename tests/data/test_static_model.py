"""The model that benchmarks train on the spot, without its data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "static_model.py"


def test_without_translations_it_says_where_to_put_them(tmp_path: Path) -> None:
    arguments = [sys.executable, str(SCRIPT), str(tmp_path / "model"), "--data-dir", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    folder = tmp_path / "ntrex-128"
    assert done.stderr == f"static_model.py: no translations to train on: put NTREX-128's files into {folder}\n"
    assert not (tmp_path / "model").exists()
