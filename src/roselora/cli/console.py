"""What every verb shows in the same way: text, errors, JSON, and the progress of an edit.

Much of what is shown is not ours: prompts, answers, notes, paths, a stranger's store. It is shown as it stands, never
as markup or emoji codes, and its control characters as escapes, so that it cannot steer the terminal.
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
    """A console that shows text as it stands; all that we print goes through it."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escaped already here, so that the columns of a table are made wide enough."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is written, whatever it was made of; the ends of lines and rich's own control sequences stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(CONTROLS.sub(escape, segment.text), segment.style)


out = PlainConsole()
err = PlainConsole(stderr=True)

PLAIN_SECONDS = 60.0
"""Where there is no terminal to draw a bar on, a line says at most so often where a run is."""


def accept_any_text() -> None:
    """Let standard output and error write what their encoding lacks as an escape, so that printing never fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text of parts, each plain or with a style of rich."""
    return Text.assemble(*(visible(part) if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts))


def tell(*parts: str | tuple[str, str]) -> None:
    """A line on standard output, of parts as `styled` takes them, as long as it is."""
    out.print(styled(*parts), soft_wrap=True)


def complain(message: str) -> None:
    """One line on standard error."""
    err.print(styled(("Error:", "bold red"), " ", message), soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output: NaN and infinity are null, control characters and the like JSON escapes."""
    text = json_text(value, indent=2, ensure_ascii=not out.encoding.startswith("utf"))
    escaped = CONTROLS.sub(lambda found: json.dumps(found[0])[1:-1], text)
    out.print(JSONHighlighter()(escaped), soft_wrap=True)


def saying() -> Callable[[str], None]:
    """What prints a line on standard error, the first at once and then at most one in `PLAIN_SECONDS`."""
    last = -PLAIN_SECONDS

    def say(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            err.print(line, soft_wrap=True)

    return say


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on standard error while something slow happens."""
    with err.status(styled(what)):
        yield


@contextmanager
def measuring(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error that appears when work begins; yields what to call with done and all of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:

        def on_progress(done: int, of: int) -> None:
            task = progress.task_ids[0] if progress.task_ids else progress.add_task(visible(what), total=of)
            progress.update(task, completed=done)

        yield on_progress


@contextmanager
def training(what: str, first_stop: int, max_steps: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar on standard error for an edit's steps; yields what to call after each.

    Training may stop from ``first_stop`` on, so the bar is full there and grows only if it must go on.
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
