"""Where a run is and how long it may still take."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from roselora.errors import StoppedError


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        done: edits that are made, of ``total``.
        doing: in words.
        seconds_left: at the pace of each method so far, or None before any edit of this sitting.
    """

    done: int
    total: int
    doing: str
    seconds_left: float | None


class Pace:
    """Counts edits, and tells how long those that wait will take.

    Args:
        waiting: how many edits each method has still to make.
        done: edits that were made before.
        on_progress: told where the run is.
    """

    def __init__(self, waiting: Mapping[str, int], done: int, on_progress: Callable[[Progress], None]) -> None:
        self._waiting, self._done = Counter(waiting), done
        self._total = done + sum(waiting.values())
        self._seconds: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._on_progress = on_progress

    def made(self, method: str, edits: int, seconds: float | None) -> None:
        """So many edits of a method are made; ``seconds`` is None for those of an earlier sitting."""
        self._waiting[method] -= edits
        self._done += edits
        if seconds is not None:
            self._made[method] += edits
            self._seconds[method] += seconds  # type: ignore[assignment]  # a counter of any numbers

    def show(self, doing: str) -> None:
        """Tell where the run is."""
        self._on_progress(Progress(self._done, self._total, doing, self._left()))

    def within(self, doing: str) -> Callable[[int, int], None]:
        """What tells where the run is in the course of one call."""
        return lambda done, of: self.show(f"{doing}, {done}/{of} of its call")

    def _left(self) -> float | None:
        if not self._made.total():
            return None
        overall = sum(self._seconds.values()) / self._made.total()
        means = {name: self._seconds[name] / count for name, count in self._made.items()}
        return sum(count * means.get(name, overall) for name, count in self._waiting.items())


class Clock:
    """Says when the time that a run may take is over; None is never."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether it is."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self) -> None:
        """Raises StoppedError when the time is over."""
        if self.over:
            raise StoppedError("The time that this run was given is over; the same command goes on with it.")
