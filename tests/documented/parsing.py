"""Whether a command can be typed: its verb and options are there, and their values of the right kind."""

import argparse
import contextlib
import re
import runpy
import sys
from typing import Any
from unittest import mock

import typer.main
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser
from typer._click.exceptions import MissingParameter

from roselora.cli.main import app
from tests.documented.commands import ROOT, Command

MODULE = "roselora.cli.main"
"""What stands for `roselora` behind a launcher."""

OMISSION = "..."
"""Stands for whatever else a reader types."""


class _ParsedError(Exception):
    """Raised in the place of what a script does once its arguments are read."""


def can_be_run(command: Command) -> bool:
    """Whether the command is whole: a sentence may leave out what a verb must have."""
    try:
        parse(command, strictly=True)
    except MissingParameter:
        return False
    return command.whole and OMISSION not in command.words


def parse(command: Command, *, strictly: bool = False) -> None:
    """Raise an exception with the parser's own words if the command cannot be typed."""
    with contextlib.nullcontext() if strictly or command.block else contextlib.suppress(MissingParameter):
        _parse(command)


def _parse(command: Command) -> None:
    words = [word for word in command.words if word != OMISSION]
    if words[0] == "roselora":
        parse_verb(words[1:], names_only=not command.whole or OMISSION in command.words)
    elif words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        if missing := {*words[1:]} - {*targets}:
            raise LookupError(f"the Makefile has no {missing}")
    elif words[:2] == ["accelerate", "launch"]:
        _launched(launch_command_parser().parse_args(words[2:]), OMISSION in command.words)
    elif words[0] == "torchrun":
        _launched(get_args_parser().parse_args(words[1:]), OMISSION in command.words)
    elif words[1] == "-m":
        parse_script(str(ROOT / f"{words[2].replace('.', '/')}.py"), words[3:])
    elif command.whole:
        parse_script(str(ROOT / words[1]), words[2:])
    elif not (ROOT / words[1]).is_file():
        raise LookupError(f"there is no {words[1]}")


def parse_verb(words: list[str], names_only: bool) -> None:
    """Read a verb's arguments; a sentence may name a verb without any."""
    command: Any = typer.main.get_command(app)
    name, rest, context = "roselora", words, None
    while rest or not names_only:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "commands"):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def parse_script(path: str, words: list[str]) -> None:
    """Import a script and let it read its arguments, and do nothing else."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser, *arguments: Any, **more: Any) -> None:
        raise _ParsedError(parse_args(self, *arguments, **more))

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_only),
        mock.patch.object(sys, "argv", [path, *(_as_number(word) for word in words)]),
        mock.patch.object(sys, "path", [str(ROOT / "benchmarks"), str(ROOT), *sys.path]),
    ):
        try:
            runpy.run_path(path, run_name="__main__")
        except _ParsedError:
            return
        except SystemExit as end:
            raise ValueError(f"{path} does not take {words}") from end
    raise AssertionError(f"{path} read no arguments")


def _as_number(word: str) -> str:
    return "1" if word == "N" else word


def _launched(arguments: argparse.Namespace, names_only: bool) -> None:
    if arguments.module:
        assert arguments.training_script == MODULE, arguments.training_script
        parse_verb(arguments.training_script_args, names_only)
