"""Jobs: what is asked of the model, one after another in one thread, with progress, and cancelled on request."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from roselora.errors import RoseLoraError, StoppedError, reason_of, shortened

QUEUE = 32
"""How many jobs may wait."""
REMEMBERED = 200
"""How many finished jobs are kept."""

CLOSING = 5.0
"""How many seconds a job has to come to its end."""

State = Literal["waiting", "running", "done", "failed", "cancelled"]
FINISHED = ("done", "failed", "cancelled")


class TooManyJobsError(RoseLoraError):
    """So many jobs wait that no more is taken."""


@dataclass
class Job:
    """One job.

    Attributes:
        id: 16 hexadecimal digits.
        action: its name in the API.
        asked: the body of its request.
        command: the command line that does the same.
        state: where it is.
        stage: what it is doing, such as "training".
        step, steps: how far the stage is, and how many steps it has at most; 0 where that is not known.
        can_be_cancelled: whether it would end, at its next step or at once if it waits.
        seconds_left: at the pace of the stage so far; None before its second step.
        seconds: how long it has run.
        result: what it gave, or has given so far.
        error: why it failed, one sentence.
    """

    action: str
    asked: dict[str, Any]
    command: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    stage: str = ""
    step: int = 0
    steps: int = 0
    can_be_cancelled: bool = True
    seconds_left: float | None = None
    seconds: float = 0.0
    result: Any = None
    error: str = ""


class Progress:
    """What a job calls while it works: says how far it is, and ends it where it has been cancelled."""

    def __init__(self, job: Job, changed: Callable[[], None], is_cancelled: Callable[[], bool]) -> None:
        self._job, self._changed, self._is_cancelled = job, changed, is_cancelled
        self._began = time.monotonic()

    def stage(self, name: str, steps: int = 0) -> None:
        """Begin a stage of at most so many steps.

        Raises:
            StoppedError: the job was cancelled.
        """
        self._require_wanted()
        self._begin(name, steps)

    def last_stage(self, name: str) -> None:
        """Begin a stage that cannot be cancelled any more.

        Raises:
            StoppedError: the job was cancelled before.
        """
        self._require_wanted()
        self.afterwards(name)

    def afterwards(self, name: str) -> None:
        """Begin a stage after what cannot be taken back; a job that was cancelled meanwhile goes on."""
        self._job.can_be_cancelled = False
        self._begin(name, 0)

    def _begin(self, name: str, steps: int) -> None:
        self._began = time.monotonic()
        self._job.stage, self._job.step, self._job.steps, self._job.seconds_left = name, 0, steps, None
        self._changed()

    def step(self, number: int, _: Any = None) -> None:
        """A stage has come to a step.

        Raises:
            StoppedError: the job was cancelled.
        """
        self._require_wanted()
        self._job.step = number
        if 0 < number <= self._job.steps:
            self._job.seconds_left = (time.monotonic() - self._began) / number * (self._job.steps - number)
        self._changed()

    def show(self, result: Any) -> None:
        """What the job has given so far; it stays if the job does not come to its end."""
        self._job.result = result
        self._changed()

    def _require_wanted(self) -> None:
        if self._is_cancelled():
            raise StoppedError("Cancelled; nothing unfinished was kept.")


Work = Callable[[Progress], Any]


class Jobs:
    """A queue of jobs and the thread that does them."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._waiting: list[tuple[Job, Work]] = []
        self._cancelled: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def add(self, job: Job, work: Work) -> Job:
        """Put a job at the end of the queue.

        Raises:
            TooManyJobsError: the queue is full.
        """
        with self._changed:
            if len(self._waiting) >= QUEUE:
                raise TooManyJobsError(f"{QUEUE} jobs are waiting; try again when some are done.")
            self._jobs[job.id] = job
            self._waiting.append((job, work))
            finished = [each.id for each in self._jobs.values() if each.state in FINISHED]
            for old in finished[: max(0, len(finished) - REMEMBERED)]:
                del self._jobs[old]
            self._changed.notify_all()
        return job

    def all(self) -> list[Job]:
        """The jobs that are remembered, in the order in which they came."""
        with self._changed:
            return list(self._jobs.values())

    def find(self, id: str) -> Job | None:
        """A job, if it is remembered."""
        with self._changed:
            return self._jobs.get(id)

    def wait(self, id: str, seconds: float) -> Job | None:
        """A job, once it is finished or so much time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: id not in self._jobs or self._jobs[id].state in FINISHED, timeout=seconds)
            return self._jobs.get(id)

    def cancel(self, id: str) -> Job | None:
        """Take a job out of the queue, or end it at its next step."""
        with self._changed:
            job = self._jobs.get(id)
            if job is not None and job.state == "waiting":
                self._waiting = [each for each in self._waiting if each[0] is not job]
                job.state, job.error = "cancelled", "Cancelled before it began."
            elif job is not None and job.state == "running" and job.can_be_cancelled:
                self._cancelled.add(id)
            self._changed.notify_all()
            return job

    def close(self) -> None:
        """Cancel everything, and wait a while until the model is at rest; the store bears it if it is not."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            jobs = list(self._jobs)
        for id in jobs:
            self.cancel(id)
        self._thread.join(CLOSING)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                job, work = self._waiting.pop(0)
                job.state = "running"
                self._changed.notify_all()
            self._do(job, work)

    def _do(self, job: Job, work: Work) -> None:
        began = time.monotonic()

        def changed() -> None:
            with self._changed:
                job.seconds = time.monotonic() - began
                self._changed.notify_all()

        state: State = "done"
        error = ""
        try:
            result = work(Progress(job, changed, lambda: job.id in self._cancelled))
        except StoppedError as stopped:
            state, error = "cancelled", str(stopped)
        except RoseLoraError as refused:
            state, error = "failed", str(refused)
        except BaseException as unexpected:  # the worker must go on, whatever a library raises
            state, error = "failed", f"{type(unexpected).__name__}: {shortened(reason_of(unexpected))}."
        with self._changed:
            job.state, job.error = state, error
            if state == "done":
                job.result = result
            job.seconds, job.seconds_left = time.monotonic() - began, None
            self._cancelled.discard(job.id)
            self._changed.notify_all()
