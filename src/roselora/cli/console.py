"""The output of every command: text, errors, JSON and progress.

Much of the output is other people's text: prompts, answers, notes, paths, a stranger's store. It is printed verbatim,
never as markup or emoji codes, and with its control characters escaped, so that it cannot control the terminal.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.highlighter import JSONHighlighter
from rich.segment import Segment
from rich.text import Text

from roselora.escaping import CONTROLS, escape, visible
from roselora.json_text import json_text


class PlainConsole(Console):
    """A console that prints text verbatim; all output goes through it."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape control characters before a table measures its columns."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape control characters in everything that is written, except rich's own control sequences."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(CONTROLS.sub(escape, segment.text), segment.style)


out = PlainConsole()
err = PlainConsole(stderr=True)

PLAIN_SECONDS = 60.0
"""Minimum time between two progress lines if standard error is not a terminal."""


def accept_any_text() -> None:
    """Escape characters that the encoding of standard output or error lacks, so that printing never fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text from parts, each plain or a pair of text and rich style."""
    return Text.assemble(*(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts))


def tell(*parts: str | tuple[str, str]) -> None:
    """Print one line on standard output, without wrapping, from parts as in :func:`styled`."""
    out.print(styled(*parts), soft_wrap=True)


def complain(message: str) -> None:
    """Print an error as one line on standard error."""
    err.print(styled(("Error:", "bold red"), " ", message), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output; NaN and infinity become null, control characters are escaped."""
    text = json_text(value, indent=2, ensure_ascii=not out.encoding.startswith("utf"))
    escaped = CONTROLS.sub(lambda found: json.dumps(found[0])[1:-1], text)
    out.print(JSONHighlighter()(escaped), soft_wrap=True)


def progress_lines() -> Callable[[str], None]:
    """A function that prints a line on standard error: the first at once, then at most one per `PLAIN_SECONDS`."""
    last = -PLAIN_SECONDS

    def say(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            err.print(line, soft_wrap=True)

    return say


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show a spinner on standard error while the block runs."""
    with err.status(styled(what)):
        yield


@contextmanager
def measuring(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error from the first call of the yielded function, which takes done and total.

    Work in several parts counts each anew.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:

        def on_progress(done: int, of: int) -> None:
            task = progress.task_ids[0] if progress.task_ids else progress.add_task(visible(what), total=of)
            if done < progress.tasks[0].completed:
                progress.reset(task, total=of)
            progress.update(task, completed=done, total=of)

        yield on_progress


@contextmanager
def training(what: str, first_stop: int, max_steps: int) -> Iterator[Callable[[int, float], None]]:
    """Show a progress bar for an edit's training steps; the yielded function takes the step and its loss.

    Training may stop from ``first_stop`` on, so the bar is full there, and grows only if training continues.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(visible(what), total=first_stop, loss=float("nan"))

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, total=max(first_stop, min(step, max_steps)), loss=loss)

        yield on_step
