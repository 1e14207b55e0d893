"""What reaches the terminal: names from outside are shown there, and never obeyed."""

from __future__ import annotations

import pytest

from hybrid_bench.cli.commands import main
from hybrid_bench.data import files
from hybrid_bench.evaluation.runner import to_stderr

HOSTILE = "x\x1b[2J\x9b31m\u202ey\r\udcff"  # as the shell hands on a byte that is no UTF-8


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", HOSTILE],
        ["report", "runs", "--format", HOSTILE],
        ["report", "runs", "--table", HOSTILE],
        ["compare", HOSTILE, HOSTILE],
        [HOSTILE],
        ["models", HOSTILE],
        ["submit", "--check", HOSTILE],
        ["train", HOSTILE],
        ["train", "--preset", HOSTILE],
        ["export", "beir", "--tasks", HOSTILE, "--out", "x"],
    ],
    ids=lambda arguments: " ".join(arguments).replace(HOSTILE, "NAME"),
)
def test_errors_show_names_without_obeying_them(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    assert code in {1, 2}
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.rstrip("\n").isprintable()


def test_steps_are_told_without_obeying_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to_stderr(f"model {HOSTILE}")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    files._tell(f"a server answered {HOSTILE}")
    said = capsys.readouterr().err
    assert said.count("x\ufffd[2J\ufffd31m\ufffdy \ufffd") == 2
    assert said.replace("\n", "").isprintable()
