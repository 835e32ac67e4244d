"""What every verb shows in the same way: errors, JSON, and the progress of an edit."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

out = Console()
err = Console(stderr=True)

PLAIN_SECONDS = 60.0
"""Where there is no terminal to draw a bar on, a line says at most so often where a run is."""


def complain(message: str) -> None:
    """One line on standard error."""
    err.print("[bold red]Error:[/bold red] ", end="", highlight=False)
    err.print(message, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    out.print_json(json.dumps(value, ensure_ascii=False), indent=2, ensure_ascii=False)


def saying() -> Callable[[str], None]:
    """What prints a line on standard error, the first at once and then at most one in `PLAIN_SECONDS`."""
    last = -PLAIN_SECONDS

    def say(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            err.print(line, markup=False, highlight=False, soft_wrap=True)

    return say


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on standard error while something slow happens."""
    with err.status(what):
        yield


@contextmanager
def measuring(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error that appears when work begins; yields what to call with done and all of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:

        def on_progress(done: int, of: int) -> None:
            task = progress.task_ids[0] if progress.task_ids else progress.add_task(what, total=of)
            progress.update(task, completed=done)

        yield on_progress


@contextmanager
def training(what: str, first_stop: int, max_steps: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar on standard error for an edit's steps; yields what to call after each.

    Training may stop from ``first_stop`` on, so the bar is full there and grows only if it must go on.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=first_stop, loss=float("nan"))

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, total=max(first_stop, min(step, max_steps)), loss=loss)

        yield on_step
