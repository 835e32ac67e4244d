"""Run editing methods on a benchmark's cases, and score the edited models, resumably."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import EditCall, Method
from roselora.bench.metrics.case_questions import judging_prompts
from roselora.bench.metrics.case_scoring import CaseScorer, CaseScores
from roselora.bench.metrics.cost import measured
from roselora.bench.records.edit_bench_records import Cost, EditRecord
from roselora.bench.records.failed_run import FailedRun, error_line
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.edit_sequence import EDIT_FAILURES, EditSequence
from roselora.bench.running.eta import Deadline, Eta, OnProgress, RunProgress
from roselora.bench.running.sequence_checkpoint import AttemptedEdit, BaseWeights
from roselora.bench.tasks.edit_case import EditCase
from roselora.errors import EditError, StoppedError, UnsupportedError
from roselora.models.fingerprint import fingerprint

logger = logging.getLogger(__name__)

SCORED_TOGETHER = 16
"""How many cases of a sequence are scored before they are written down."""


@dataclass(frozen=True)
class ResultLog:
    """Where a run's results go.

    Attributes:
        known: records of earlier runs, which are not made again.
        write: writes a record.
        all_edited: called while all edits of a method's sequence are in the model, with its name and the number of
            entries that differ from the base's.
        fail: called for what could not be run, after which the run continues; without it the error is raised.
    """

    known: Sequence[EditRecord]
    write: Callable[[EditRecord], None]
    all_edited: Callable[[str, int], None] = lambda name, entries: None
    fail: Callable[[FailedRun], None] | None = None


class EditingRun:
    """One run of a plan on a model.

    Args:
        model, tokenizer: the model, unedited now and again when the run ends, even by an error.
        on_progress: called with the progress of the run.
        seconds: the time budget, after which the run stops and can be resumed; None is no limit.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        plan: EditPlan,
        log: ResultLog,
        on_progress: OnProgress = lambda at: None,
        seconds: float | None = None,
    ) -> None:
        self._model, self._tokenizer, self._plan, self._log = model, tokenizer, plan, log
        self._known = {(record.method, record.case) for record in log.known}
        self._scorer = CaseScorer(model, tokenizer, forms=plan.forms, fluency=plan.fluency)
        self._deadline, self._on_progress = Deadline(seconds), on_progress
        left = plan.waiting(log.known)
        self._eta = Eta(left, len(plan.cases) * len(plan.methods) - sum(left.values()), on_progress)
        self._original = fingerprint(model)

    def run(self) -> None:
        """Make every edit that has no record yet.

        Raises:
            StoppedError: the time budget is used up.
            EditError: a method failed and left the model changed.
        """
        if self._plan.mode == "single":
            self._run_single()
        else:
            base = BaseWeights(self._model)
            for name in self._plan.methods:
                if not all((name, case.key) in self._known for case in self._plan.cases):
                    self._run_sequence(name, base)
        self._require_unedited()

    def read_texts(self) -> dict[str, float]:
        """Let methods read the text that they take statistics of, so that no edit's time includes it.

        Returns:
            The seconds that each method took.

        Raises:
            ConfigError: a text cannot be read, or a method's settings do not fit the model.
        """
        seconds = {}
        for name, method in self._plan.methods.items():
            start = time.perf_counter()

            def on_progress(read: int, of: int, name: str = name) -> None:
                self._on_progress(RunProgress(f"tokens read for {name}", read, of))

            if method.read_text is not None:
                with suppress(UnsupportedError):  # each of the method's edits will say so
                    method.read_text(self._model, self._tokenizer, method.config, on_progress)
            seconds[name] = time.perf_counter() - start
        return seconds

    def _run_single(self) -> None:
        """Case by case, so that all methods share the answers of the unedited model."""
        for position, case in enumerate(self._plan.cases):
            for name, method in self._plan.methods.items():
                if (name, case.key) in self._known:
                    continue
                self._deadline.check()
                self._eta.begin(f"{name}, {case.key}")
                if (record := self._edit_alone(name, method, case, position)) is not None:
                    self._keep(record)
                self._eta.made(name, 1)
            self._scorer.forget([case])

    def _edit_alone(self, name: str, method: Method, case: EditCase, position: int) -> EditRecord | None:
        """The record of one edit; None if it could not be run."""
        try:
            self._scorer.prepare([case])
            with measured(self._model.device) as taken:
                request, withheld = self._plan.request(case), judging_prompts(case)
                applied = method.edit(
                    EditCall(self._model, self._tokenizer, [request], method.config, withheld=withheld)
                )
        except EDIT_FAILURES as error:
            logger.debug("%s failed on %s", name, case.key, exc_info=error)
            self._require_unedited()
            return EditRecord(case.key, name, position, None, None, error_line(error))
        except Exception as error:
            self._note_failed_run(name, case, error)
            self._require_unedited()
            return None
        try:
            (scores,) = self._scorer.score([case], self._before(method, [case]))
        finally:
            applied.undo()
        cost = Cost(taken.seconds, taken.peak_bytes, applied.entries, applied.steps)
        return EditRecord(case.key, name, position, scores.bare, cost, chat=scores.chat)

    def _before(self, method: Method, edited: Sequence[EditCase]) -> str:
        """What the method puts before every question once these cases are edited."""
        return "" if method.before is None else method.before(self._tokenizer, [*map(self._plan.request, edited)])

    def _run_sequence(self, name: str, base: BaseWeights) -> None:
        """All edits of one method, then all scores."""
        self._eta.begin(f"{name}, asking the base")
        self._scorer.prepare(self._plan.cases)
        sequence = EditSequence(self._model, self._tokenizer, base, self._plan, name)
        try:
            if (attempts := self._edit_all(name, sequence)) is None:
                return
            self._log.all_edited(name, base.changed_entries())
            self._score_all(name, attempts)
        finally:
            sequence.end()
        sequence.forget()

    def _edit_all(self, name: str, sequence: EditSequence) -> list[AttemptedEdit] | None:
        """The outcome of each edit of a sequence; None if it could not be run to its end."""
        try:
            return sequence.run(self._eta, self._deadline)
        except StoppedError:
            raise
        except Exception as error:
            self._note_failed_run(name, sequence.at, error)
            return None

    def _score_all(self, name: str, attempts: Sequence[AttemptedEdit]) -> None:
        """Score all edits in the model, some cases at a time, so that each is kept soon after it is scored."""
        placed = list(enumerate(zip(self._plan.cases, attempts, strict=True)))
        before = self._before(
            self._plan.methods[name], [case for _, (case, attempt) in placed if attempt.error is None]
        )
        for start in range(0, len(placed), SCORED_TOGETHER):
            part = placed[start : start + SCORED_TOGETHER]
            self._eta.begin(f"{name}, scoring {start + 1}/{len(placed)}")
            made = [case for _, (case, attempt) in part if attempt.error is None]
            scores = iter(self._scorer.score(made, before))
            for position, (case, attempt) in part:
                own = next(scores) if attempt.error is None else CaseScores(None, None)
                self._keep(EditRecord(case.key, name, position, own.bare, attempt.cost, attempt.error, chat=own.chat))

    def _note_failed_run(self, name: str, case: EditCase, error: Exception) -> None:
        """Note a failure that is not a result of the method: it gets no record, and the next run tries it again."""
        if self._log.fail is None:
            raise error
        logger.debug("%s could not be run on %s", name, case.key, exc_info=error)
        self._log.fail(FailedRun(name, case.key, error_line(error)))

    def _require_unedited(self) -> None:
        if fingerprint(self._model) != self._original:
            raise EditError("A method left the model changed, so later results would be wrong; the run has ended.")

    def _keep(self, record: EditRecord) -> None:
        # A sequence that was killed while its records were written is scored again as a whole.
        if (record.method, record.case) not in self._known:
            self._log.write(record)
            self._known.add((record.method, record.case))
