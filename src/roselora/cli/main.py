"""``roselora``: the verbs, and how every failure becomes one line and an exit code.

Exit codes: 0 done; 1 it could not be done; 2 what was asked cannot be meant; 130 interrupted.
"""

import logging
import os
import sys
import warnings
from importlib import metadata
from typing import Annotated

import typer

from roselora.cli import bench, check, demo, diff, doctor, edit, export, log, train, undo, verify
from roselora.cli import repair as edit_many
from roselora.cli.console import accept_any_text, complain
from roselora.errors import ConfigError, RoseLoraError, StoppedError, reason_of, shortened

INTERRUPTED = 130

app = typer.Typer(
    name="roselora",
    help="Precise, reversible updates of language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for verb in (
    demo.demo,
    train.train,
    edit.edit,
    log.log,
    log.show,
    log.note,
    diff.diff,
    undo.undo,
    undo.redo,
    check.check,
    edit_many.repair,
    export.export,
    verify.verify,
    doctor.doctor,
):
    app.command()(verb)


app.add_typer(bench.app)


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
    """Run the command line and exit with its code."""
    debug = "--debug" in sys.argv
    accept_any_text()
    if not debug:
        # The libraries' advice to developers is not for this command's user.
        warnings.simplefilter("ignore")
        logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    try:
        app()
    except RoseLoraError as error:
        if debug:
            raise
        complain(str(error))
        sys.exit(INTERRUPTED if isinstance(error, StoppedError) else 2 if isinstance(error, ConfigError) else 1)
    except OSError as error:  # what no code below has words of its own for: a full disk, a network that is down
        if debug:
            raise
        complain(_refusal(error))
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer makes this of an interrupt, and says nothing
            complain("interrupted; nothing unfinished was kept.")
        raise


def _refusal(error: OSError) -> str:
    what = "something" if error.filename is None else shortened(os.fsdecode(error.filename))
    return f"{what} cannot be read or written ({error.strerror or reason_of(error)}); see to it, and try again."


if __name__ == "__main__":
    main()
