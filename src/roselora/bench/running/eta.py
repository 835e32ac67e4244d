"""A run's progress, its estimated time left, and its deadline."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from roselora.errors import StoppedError


@dataclass(frozen=True)
class RunProgress:
    """How far a run has got.

    Attributes:
        doing: what it is doing, in words.
        done: how much of ``total`` is done; both are 0 where nothing is counted.
        seconds_left: an estimate, or None where there is none yet.
    """

    doing: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


OnProgress = Callable[[RunProgress], None]


class Eta:
    """Counts edits, and estimates how long the remaining ones take by the speed of each method so far.

    Args:
        waiting: how many edits each method has still to make.
        done: edits that were made before.
        on_progress: called whenever work begins.
    """

    def __init__(self, waiting: Mapping[str, int], done: int, on_progress: OnProgress) -> None:
        self._waiting, self._done = Counter(waiting), done
        self._total = done + sum(waiting.values())
        self._seconds: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._on_progress = on_progress
        self._begun = time.monotonic()

    def begin(self, doing: str) -> None:
        """Report what is done next; its time runs from now."""
        self._begun = time.monotonic()
        self._report(doing)

    def within(self, doing: str) -> Callable[[int, int], None]:
        """A callback that reports the progress within one call of a method."""
        return lambda done, of: self._report(f"{doing}, {done}/{of} of its call")

    def made(self, method: str, edits: int) -> None:
        """Count edits that a method has made since :meth:`begin`."""
        self._made[method] += edits
        self._seconds[method] += time.monotonic() - self._begun  # type: ignore[assignment]  # floats can be counted too
        self.resumed(method, edits)

    def resumed(self, method: str, edits: int) -> None:
        """Count edits that an earlier run made, which say nothing about the speed of this one."""
        self._waiting[method] -= edits
        self._done += edits

    def _report(self, doing: str) -> None:
        self._on_progress(RunProgress(doing, self._done, self._total, self._left()))

    def _left(self) -> float | None:
        if not self._made.total():
            return None
        overall = sum(self._seconds.values()) / self._made.total()
        means = {name: self._seconds[name] / count for name, count in self._made.items()}
        return sum(count * means.get(name, overall) for name, count in self._waiting.items())


class Deadline:
    """The end of a run's time budget, in seconds from now; None is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether the budget is used up."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self) -> None:
        """Raise StoppedError if the budget is used up."""
        if self.over:
            raise StoppedError("The run's time budget is used up; the same command resumes it.")
