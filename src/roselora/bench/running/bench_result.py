"""The result of a benchmark's command, and the report of one that is stopped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roselora.bench.records.failed_run import FailedRun
from roselora.errors import StoppedError


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark's command has done.

    Attributes:
        files: the reports that it wrote.
        failures: what could not be run; the same command tries it again.
    """

    files: Sequence[Path]
    failures: Sequence[FailedRun]


@contextmanager
def reporting_when_stopped(folder: Path, write_report: Callable[[], object]) -> Iterator[None]:
    """If the block is stopped or interrupted, report on what was done until then.

    Raises:
        StoppedError: it was; the message says where the results are and that the same command resumes the run.
    """
    try:
        yield
    except (StoppedError, KeyboardInterrupt) as stop:
        write_report()
        reason = str(stop) or "interrupted; the same command resumes it."
        raise StoppedError(f"{reason} The results so far are in {folder}.") from None
