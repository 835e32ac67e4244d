"""Edits that follow each other in one model, resumed from a checkpoint if there is one."""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, EditCall
from roselora.bench.metrics.case_questions import case_questions
from roselora.bench.metrics.cost import measured
from roselora.bench.records.edit_bench_records import Cost
from roselora.bench.records.failed_run import error_line
from roselora.bench.running.edit_plan import EditPlan
from roselora.bench.running.eta import Deadline, Eta
from roselora.bench.running.sequence_checkpoint import AttemptedEdit, BaseWeights, Checkpoint
from roselora.bench.tasks.edit_case import EditCase
from roselora.errors import EditError, NonFiniteError
from roselora.models.inference import Progress

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""How much work of a sequence a kill may cost; a checkpoint is as large as the weights that the method changes."""

EDIT_FAILURES = (EditError, NonFiniteError)
"""Errors that are a method's result, a failed edit; any other is a bug or the machine's."""


class EditSequence:
    """All requests of a run by one method, in calls of the size that the plan gives.

    Args:
        model, tokenizer: what is edited.
        base: the model's weights before the first edit.
        plan: of the run; ``name``: of one of its methods.

    Attributes:
        at: the first case of the last call that was begun.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        base: BaseWeights,
        plan: EditPlan,
        name: str,
    ) -> None:
        self._model, self._tokenizer, self._base = model, tokenizer, base
        self._plan, self._name, self._method, self._cases = plan, name, plan.methods[name], plan.cases
        self._size = plan.requests_per_call(name) or len(plan.cases)
        self._path = plan.checkpoint(name)
        # A method that takes all requests in one call keeps its edits here, for no checkpoint comes before its end.
        self._edits = self._path.with_suffix(".edits") if self._size >= len(plan.cases) > 1 else None
        self._history: list[Applied] = []
        self.at = plan.cases[0]

    def run(self, eta: Eta, deadline: Deadline) -> list[AttemptedEdit]:
        """Make every edit that is not in the checkpoint; returns the outcome of each, those of the checkpoint included.

        It saves a checkpoint of all finished calls when the time budget is used up, when it is interrupted, and every
        `CHECKPOINT_SECONDS`, also after the last call, so that slow edits survive a kill while they are scored.

        Raises:
            StoppedError: the time budget is used up.
            Exception: a call failed with something other than `EDIT_FAILURES`; the last checkpoint stays.
        """
        attempts = self._resume()
        eta.resumed(self._name, len(attempts))
        saved = time.monotonic()
        try:
            for start in range(len(attempts), len(self._cases), self._size):
                self.at = self._cases[start]
                doing = f"{self._name}, edit {start + 1}/{len(self._cases)}"
                eta.begin(doing)
                attempts += self._call(self._cases[start : start + self._size], eta.within(doing), deadline)
                eta.made(self._name, len(attempts) - start)
                if deadline.over or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(attempts)
                    saved = time.monotonic()
                    if len(attempts) < len(self._cases):
                        deadline.check()
        except KeyboardInterrupt:  # the interrupted call has restored the weights that the calls before it made
            self._save(attempts)
            raise
        return attempts

    def end(self) -> None:
        """Undo every edit."""
        for applied in reversed(self._history):
            applied.undo()
        self._base.restore()

    def forget(self) -> None:
        """Remove the checkpoint, if there is one, since all of its edits are recorded."""
        self._path.unlink(missing_ok=True)
        if self._edits is not None:
            shutil.rmtree(self._edits, ignore_errors=True)

    def _save(self, attempts: Sequence[AttemptedEdit]) -> None:
        memory = self._history[-1].memory if self._history else {}
        Checkpoint(self._base.changed(), memory, attempts).save(self._path)

    def _resume(self) -> list[AttemptedEdit]:
        """Bring the model and the history to where a checkpoint left them, if there is one."""
        if not self._path.exists():
            return []
        checkpoint = Checkpoint.load(self._path)
        self._base.restore(checkpoint.weights)
        attempts = list(checkpoint.attempts)
        made = zip(self._cases, attempts, strict=False)
        requests = tuple(self._plan.request(case) for case, attempt in made if attempt.error is None)
        if requests:
            undo = _nothing
            if self._method.reinstall is not None:
                undo = self._method.reinstall(self._model, self._method.config, checkpoint.memory)
            self._history.append(Applied(requests, undo, 0, memory=checkpoint.memory))
        return attempts

    def _call(self, cases: Sequence[EditCase], on_progress: Progress, deadline: Deadline) -> list[AttemptedEdit]:
        """One call of the method. If it fails, all of its requests have, and the model is as before the call."""
        requests = [*map(self._plan.request, cases)]

        def progress(done: int, of: int) -> None:
            on_progress(done, of)
            if self._edits is not None and self._edits.exists():
                deadline.check()

        try:
            with measured(self._model.device) as taken:
                call = EditCall(
                    self._model,
                    self._tokenizer,
                    requests,
                    self._method.config,
                    self._history,
                    progress,
                    [question.prompt for case in self._cases for question in case_questions(case)],
                    self._edits,
                )
                applied = self._method.edit(call)
        except EDIT_FAILURES as error:
            logger.debug("%s failed on %s", self._name, cases[0].key, exc_info=error)
            return [AttemptedEdit(None, error_line(error))] * len(cases)
        # `base` restores the weights, so keeping each call's own snapshot would only fill the memory.
        self._history.append(applied if applied.entries == 0 else replace(applied, undo=_nothing))
        seconds = applied.earlier_seconds + taken.seconds
        cost = Cost(seconds / len(cases), taken.peak_bytes, None, applied.steps / len(cases))
        return [AttemptedEdit(cost, None)] * len(cases)


def _nothing() -> None:
    """An undo for edits that are in the weights alone, which `BaseWeights` restores."""
