"""What the parser makes of the command line, by itself."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from hybrid_bench.cli.arguments import parser


def commands(made: argparse.ArgumentParser, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command with its parser, `export beir` and the like too."""
    inner = [action for action in made._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        return {before: made}
    return {
        name: command
        for choice, each in inner[0].choices.items()
        if choice != "mteb"
        for name, command in commands(each, (*before, choice)).items()
    }


ALL = commands(parser())
REPEATED = [
    (command, action.option_strings[0])
    for command, made in ALL.items()
    for action in made._actions
    if action.option_strings and action.nargs == "+"
]


def needed(made: argparse.ArgumentParser, besides: str) -> list[str]:
    """The least that a command must be given, in values that any of its types takes."""
    words: list[str] = []
    for action in made._actions:
        if action.required and besides not in action.option_strings:
            words += [*action.option_strings[:1], "1"]
    for group in made._mutually_exclusive_groups:
        if group.required:
            words += ["--check"]
    return words


@pytest.mark.parametrize(("command", "option"), REPEATED, ids=str)
def test_an_option_with_several_values_may_be_repeated(command: tuple[str, ...], option: str) -> None:
    words = [*command, *needed(ALL[command], option)]
    once = vars(parser().parse_args([*words, option, "1", "2", "3"]))
    twice = vars(parser().parse_args([*words, option, "1", "2", option, "3"]))
    assert once == twice
    (values,) = (once[action.dest] for action in ALL[command]._actions if option in action.option_strings)
    assert len(values) == 3


def test_there_are_such_options() -> None:
    assert {(("train",), "--set"), (("run",), "--models"), (("sweep",), "--seeds")} <= set(REPEATED)
    assert len(REPEATED) > 20


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_a_misspelt_option_is_refused_by_its_command_with_what_is_near(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([*command, *needed(ALL[command], ""), "--debgu"])
    name = f"hybrid-bench {' '.join(command)}"
    assert capsys.readouterr().err == (
        f"{name}: unrecognized arguments: --debgu; did you mean '--debug'? (see {name} --help)\n"
    )
