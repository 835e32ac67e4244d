"""``roselora``: the commands, and how every failure becomes one line and an exit code.

Exit codes: 0 success; 1 failure; 2 invalid usage; 130 interrupted.
"""

import logging
import os
import sys
import warnings
from importlib import metadata
from typing import Annotated

import typer

from roselora.cli import (
    bench,
    check,
    demo,
    diff,
    doctor,
    edit,
    export,
    log,
    repair,
    serve_check,
    train,
    ui,
    undo,
    verify,
    widen,
)
from roselora.cli.console import accept_any_text, complain, print_json
from roselora.errors import ConfigError, RoseLoraError, StoppedError, reason_of, shortened

FAILURE, USAGE, INTERRUPTED = 1, 2, 130
INTERRUPTION = "interrupted; nothing unfinished was kept."

app = typer.Typer(
    name="roselora",
    help="Precise, reversible updates of language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
PANELS = {
    "Main commands": (edit.edit, ui.ui, train.train, bench.app),
    "Work with the edits of a store": (
        log.log,
        log.show,
        diff.diff,
        check.check,
        undo.undo,
        undo.redo,
        repair.repair,
        log.note,
        export.export,
        serve_check.serve_check,
        verify.verify,
    ),
    "Get started": (demo.demo, doctor.doctor, widen.widen),
}
for panel, commands in PANELS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"roselora {metadata.version('roselora')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Precise, reversible updates of language models."""
    context.obj = debug


def main() -> None:
    """Run the command line and exit with its code.

    An error is one line on standard error; with ``--json`` it is also a JSON document on standard output, so that
    a script always reads JSON there.
    """
    debug = "--debug" in sys.argv
    accept_any_text()
    if not debug:
        # The libraries' advice is for developers, not for the users of this command.
        warnings.simplefilter("ignore")
        logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    try:
        app()
    except RoseLoraError as error:
        if debug:
            raise
        _fail(str(error), type(error).__name__, _exit_code(error))
    except OSError as error:  # without a message of ours: a full disk, a network that is down
        if debug:
            raise
        _fail(_os_error(error), "OSError", FAILURE)
    except KeyboardInterrupt:  # before typer, which turns it into an exit code, has read the command line
        _fail(INTERRUPTION, StoppedError.__name__, INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's exit code for Ctrl-C, without a message
            _fail(INTERRUPTION, StoppedError.__name__, INTERRUPTED)
        if end.code == USAGE and _wants_json():  # typer has shown the usage error on standard error
            _print_error("invalid usage; the message is on standard error.", ConfigError.__name__, USAGE)
        raise


def _exit_code(error: RoseLoraError) -> int:
    return INTERRUPTED if isinstance(error, StoppedError) else USAGE if isinstance(error, ConfigError) else FAILURE


def _fail(message: str, kind: str, code: int) -> None:
    complain(message)
    if _wants_json():
        _print_error(message, kind, code)
    sys.exit(code)


def _print_error(message: str, kind: str, code: int) -> None:
    print_json({"error": message, "type": kind, "exit_code": code})


def _wants_json() -> bool:
    arguments = sys.argv[1:]
    return "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _os_error(error: OSError) -> str:
    reason = error.strerror or reason_of(error)
    if error.filename is None:
        return f"the operating system reports: {reason}."
    return f"{shortened(os.fsdecode(error.filename))} cannot be read or written ({reason})."


if __name__ == "__main__":
    main()
