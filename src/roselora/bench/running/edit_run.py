"""Run editing methods on a benchmark's cases and score what the model then says, edit by edit, resumably."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import EditCall, Method
from roselora.bench.metrics.case_scoring import CaseScorer
from roselora.bench.metrics.cost import measured
from roselora.bench.records.edit_bench_records import Cost, EditRecord, Mode
from roselora.bench.records.failed_run import FailedRun, error_line
from roselora.bench.running.edit_stream import RESULTS, EditSequence, Tried
from roselora.bench.running.eta import Clock, Pace, Progress
from roselora.bench.running.stream_checkpoint import BaseWeights, checkpoint_file
from roselora.bench.tasks.edit_case import EditCase
from roselora.errors import EditError, StoppedError, UnsupportedError
from roselora.models.fingerprint import fingerprint

logger = logging.getLogger(__name__)

SCORED_TOGETHER = 16
"""How many cases of a sequence are scored before they are written down."""


@dataclass(frozen=True)
class EditPlan:
    """What is to be run.

    Attributes:
        cases: in the order of the edits; no two ask for one prompt.
        methods: by name, with their configs.
        mode: single: each edit on the unedited model; sequential: one call after another, scored after all; batch: all
            requests in one call.
        folder: where checkpoints lie.
    """

    cases: tuple[EditCase, ...]
    methods: Mapping[str, Method]
    mode: Mode
    folder: Path


def choose(cases: Sequence[EditCase], n: int | None, seed: int, skip: int = 0) -> tuple[EditCase, ...]:
    """``n`` cases of the seed's own order after the first ``skip``: a larger ``n`` holds the cases of a smaller one.

    So a draw that skips as many as another took holds none of the other's.
    """
    shuffled = random.Random(seed).sample(list(cases), len(cases))[skip:]
    return tuple(shuffled if n is None else shuffled[:n])


def keys_of(records: Sequence[EditRecord]) -> set[tuple[str, str]]:
    """The method and case of each record."""
    return {(record.method, record.case) for record in records}


def waiting(plan: EditPlan, known: Sequence[EditRecord]) -> dict[str, int]:
    """How many edits of each method have no record yet."""
    made = keys_of(known)
    return {name: sum((name, case.key) not in made for case in plan.cases) for name in plan.methods}


class EditingRun:
    """One run of a plan on a model.

    Args:
        model, tokenizer: the unedited model, which it is again when the run ends, whichever way.
        judge: built on it while it is unedited.
        known: records of an earlier part of this run, which are not made again.
        write: keeps a record.
        on_progress: told where the run is.
        clock: raises when the time is over.
        after_all: called while all edits of a method's sequence are in the model, with its name and the number of
            entries that differ from the base's.
        fail: told of what could not be run, after which other edits and methods go on; without it, that is raised.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        plan: EditPlan,
        judge: CaseScorer,
        known: Sequence[EditRecord],
        write: Callable[[EditRecord], None],
        on_progress: Callable[[Progress], None],
        clock: Clock,
        after_all: Callable[[str, int], None] | None = None,
        fail: Callable[[FailedRun], None] | None = None,
    ) -> None:
        self._after_all, self._fail = after_all, fail
        self._model, self._tokenizer, self._plan, self._judge = model, tokenizer, plan, judge
        self._known = keys_of(known)
        self._write, self._on_progress, self._clock = write, on_progress, clock
        left = waiting(plan, known)
        self._pace = Pace(left, len(plan.cases) * len(plan.methods) - sum(left.values()), on_progress)
        self._original = fingerprint(model)

    def run(self) -> None:
        """Everything that is not known yet.

        Raises:
            StoppedError: the time is over.
            EditError: a method failed and left the model changed.
        """
        if self._plan.mode == "single":
            self._run_single()
        else:
            base = BaseWeights(self._model)
            for name, method in self._plan.methods.items():
                if not all((name, case.key) in self._known for case in self._plan.cases):
                    self._run_sequence(name, method, base)
        self._require_unedited()

    def read_texts(self) -> None:
        """What some methods learn of ordinary text, once, so that no edit's time holds it; nothing is written.

        Raises:
            ConfigError: a text cannot be read, or a method's settings do not fit the model.
        """
        for name, method in self._plan.methods.items():

            def on_progress(read: int, of: int, name: str = name) -> None:
                self._on_progress(Progress(read, of, f"tokens read for {name}", None))

            if method.read_text is not None:
                with suppress(UnsupportedError):  # each of the method's edits will say so
                    method.read_text(self._model, self._tokenizer, method.config, on_progress)

    def _run_single(self) -> None:
        """Case by case, so that what the unedited model says is asked once for all methods."""
        for position, case in enumerate(self._plan.cases):
            waiting = {n: m for n, m in self._plan.methods.items() if (n, case.key) not in self._known}
            for name, method in waiting.items():
                self._clock.check()
                self._pace.show(f"{name}, {case.key}")
                begun = time.monotonic()
                if (record := self._edit_alone(name, method, case, position)) is not None:
                    self._keep(record)
                self._pace.made(name, 1, time.monotonic() - begun)
            self._judge.forget([case])

    def _edit_alone(self, name: str, method: Method, case: EditCase, position: int) -> EditRecord | None:
        """The record of one edit; None if it could not be run."""
        try:
            self._judge.prepare([case])
            with measured(self._model.device) as taken:
                applied = method.edit(EditCall(self._model, self._tokenizer, [case.request], method.config))
        except RESULTS as error:
            logger.debug("%s failed on %s", name, case.key, exc_info=error)
            self._require_unedited()
            return EditRecord(case.key, name, position, None, None, error_line(error))
        except Exception as error:
            self._note_failed_run(name, case, error)
            self._require_unedited()
            return None
        try:
            (scores,) = self._judge.score([case])
        finally:
            applied.undo()
        cost = Cost(taken.seconds, taken.peak_bytes, applied.entries, applied.steps)
        return EditRecord(case.key, name, position, scores, cost)

    def _run_sequence(self, name: str, method: Method, base: BaseWeights) -> None:
        """All edits of one method, then the scores of all."""
        cases, path = self._plan.cases, checkpoint_file(self._plan.folder, name)
        size = len(cases) if self._plan.mode == "batch" else method.requests_per_call or len(cases)
        self._pace.show(f"{name}, asking the base")
        self._judge.prepare(cases)
        sequence = EditSequence(self._model, self._tokenizer, base, name, method, cases, size, path)
        try:
            if (tried := self._edit_all(name, sequence)) is None:
                return
            if self._after_all is not None:
                self._after_all(name, base.changed_entries())
            self._score_all(name, tried)
        finally:
            sequence.end()
        sequence.forget()

    def _score_all(self, name: str, tried: Sequence[Tried]) -> None:
        """Score what is in the model, some cases at a time, each kept when it is scored."""
        placed = list(enumerate(zip(self._plan.cases, tried, strict=True)))
        for start in range(0, len(placed), SCORED_TOGETHER):
            part = placed[start : start + SCORED_TOGETHER]
            self._pace.show(f"{name}, scoring {start + 1}/{len(placed)}")
            scores = iter(self._judge.score([case for _, (case, one) in part if one.error is None]))
            for position, (case, one) in part:
                score = next(scores) if one.error is None else None
                self._keep(EditRecord(case.key, name, position, score, one.cost, one.error))

    def _edit_all(self, name: str, sequence: EditSequence) -> list[Tried] | None:
        """What became of each edit of a sequence; None if it could not be run to its end."""
        try:
            return sequence.run(self._pace, self._clock)
        except StoppedError:
            raise
        except Exception as error:
            self._note_failed_run(name, sequence.at, error)
            return None

    def _note_failed_run(self, name: str, case: EditCase, error: Exception) -> None:
        """What is no result of the method leaves no record, and is tried again by the next run."""
        if self._fail is None:
            raise error
        logger.debug("%s could not be run on %s", name, case.key, exc_info=error)
        self._fail(FailedRun(name, case.key, error_line(error)))

    def _require_unedited(self) -> None:
        if fingerprint(self._model) != self._original:
            raise EditError("A method left the model changed, so nothing after it could be trusted; the run has ended.")

    def _keep(self, record: EditRecord) -> None:
        # A sequence that was killed while its records were written is scored again as a whole.
        if (record.method, record.case) not in self._known:
            self._write(record)
            self._known.add((record.method, record.case))
