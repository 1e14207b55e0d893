"""What needs neither torch nor mteb does not load them: in a process in which they cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Nothing of these can be imported behind this: an import of one ends the process.
WITHOUT_HEAVY = """
import sys

class Heavy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"beir", "datasets", "mteb", "sentence_transformers", "torch", "transformers"}:
            raise SystemExit(f"{name} is imported")

sys.meta_path.insert(0, Heavy())
"""


def run_light(program: str, *arguments: object) -> str:
    """What a program prints that is run where nothing heavy can be imported."""
    command = [sys.executable, "-c", WITHOUT_HEAVY + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_next_to_nothing() -> None:
    loaded = run_light(
        "import hybrid_bench; print(*(n for n in sys.modules if n.startswith(('hybrid', 'numpy', 'pandas'))))"
    )
    assert sorted(loaded.split()) == ["hybrid_bench", "hybrid_bench.version"]


def test_what_registering_needs_and_what_reads_saved_runs_loads_nothing_heavy() -> None:
    """Else mteb, as it comes, would find one of our modules half imported when it registers their tasks."""
    wings = ("analysis", "data", "engine", "measures", "reporting")
    modules = [
        f"hybrid_bench.{path.parent.name}.{path.stem}"
        for wing in wings
        for path in sorted((ROOT / "hybrid_bench" / wing).glob("*.py"))
    ]
    modules += [
        "hybrid_bench.runs.result_files",
        "hybrid_bench.runs.reading",
        "hybrid_bench.runs.tables",
        "hybrid_bench.languages",
    ]
    program = (
        "from importlib import import_module; [import_module(name) for name in sys.argv[1:]]; print(len(sys.argv[1:]))"
    )
    assert run_light(program, *modules) == f"{len(modules)}\n"
