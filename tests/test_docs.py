"""What the README and the pages under docs/ say can be done: commands, links, citations, and the notebook's example."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_bench.cli.arguments import parser
from hybrid_bench.data.published import PUBLICATIONS
from hybrid_bench.version import VERSION

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of a kind on a page."""
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


COMMANDS = [
    (page.name, " ".join(shlex.split(line, comments=True)[1:]), shlex.split(line, comments=True)[1:])
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("hybrid-bench ")
]


@pytest.mark.parametrize(("page", "command", "words"), COMMANDS, ids=[f"{page}: {line}" for page, line, _ in COMMANDS])
def test_commands_are_understood(page: str, command: str, words: list[str]) -> None:
    words = words[: words.index(">")] if ">" in words else words
    if words[0] != "mteb":  # all that follows is mteb's
        assert parser().parse_args(words).command == words[0]


def test_there_are_commands_on_every_page_of_a_task() -> None:
    assert {page for page, _, _ in COMMANDS} >= {page.name for page in (ROOT / "docs").glob("*.md")} - {
        "python.md",
        "speed.md",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_citations_agree() -> None:
    readme, cff = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CITATION.cff"))
    assert PUBLICATIONS["elmahdy2024"].bibtex.strip() in readme
    version = re.search(r"(?m)^version: (\S+)$", cff)
    assert version
    assert f"version = {{{version[1]}}}" in readme
    assert VERSION in {version[1], "0+checkout"}


def test_the_notebook_example_runs(tmp_path: Path) -> None:
    """As it stands in the README, on the demo, in a process of its own."""
    (example,) = [block for block in blocks(ROOT / "README.md", "python") if "import hybrid_bench as hb" in block]
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{example}\nprint(sorted(page.tables), len(runs))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['bias', 'leaderboard', 'main', 'per-language'] 2"
    assert "hybrid_bench/char-ngram" in done.stdout
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
