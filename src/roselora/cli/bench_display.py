"""What every benchmark command shows: its progress, the files it wrote, and what failed."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from roselora.cli.console import complain, err, print_json, progress_lines, tell
from roselora.escaping import visible

if TYPE_CHECKING:
    from roselora.bench.running.bench_result import BenchResult
    from roselora.bench.running.eta import RunProgress


def repeating_command() -> str:
    """The command line of this run, as its head keeps it: bytes of a path that are no text become escapes."""
    return shlex.join(["roselora", *sys.argv[1:]]).encode("utf-8", "backslashreplace").decode()


@contextmanager
def bench_progress() -> "Iterator[Callable[[RunProgress], None]]":
    """A progress bar on standard error, or lines if that is not a terminal."""
    if not err.is_terminal:
        say = progress_lines()
        yield lambda at: say(_line(at))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("loading", total=None, left="")
        before = 0

        def on_progress(at: "RunProgress") -> None:
            nonlocal before
            if at.total and at.done < before:  # another part of the run, with its own estimate of the time left
                bar.reset(task)
            before = at.done
            seconds = at.seconds_left if at.seconds_left is not None else bar.tasks[0].time_remaining
            bar.update(task, description=visible(at.doing), left=_left(seconds))
            if at.total:
                bar.update(task, completed=at.done, total=at.total)

        yield on_progress


def show_result(result: "BenchResult", json: bool) -> None:
    """Print the files that a benchmark has written and what failed; exit with 1 if something did."""
    if json:
        print_json({"files": [str(path) for path in result.files], "failed": [asdict(one) for one in result.failures]})
    else:
        for path in result.files:
            tell(f"wrote {path}")
    for one in result.failures:
        complain(f"{one.method}, {one.at}, failed ({one.error}); the same command tries it again.")
    if result.failures:
        raise typer.Exit(1)


def _line(at: "RunProgress") -> str:
    where = f"{at.done}/{at.total} " if at.total else ""
    return f"{where}{at.doing} {_left(at.seconds_left)}".rstrip()


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours} h {minutes} min left" if hours else f"about {max(1, minutes)} min left"
