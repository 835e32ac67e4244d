"""Edits that follow each other in one model, from a checkpoint on if there is one."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.bench.methods.edit_method import Applied, EditCall, Method
from roselora.bench.metrics.cost import measured
from roselora.bench.records.edit_bench_records import Cost
from roselora.bench.records.failed_run import error_line
from roselora.bench.running.eta import Clock, Pace
from roselora.bench.running.stream_checkpoint import BaseWeights, Checkpoint
from roselora.bench.tasks.edit_case import EditCase
from roselora.errors import EditError, NonFiniteError
from roselora.models.inference import Progress

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""How much work of a sequence a kill may cost; a checkpoint is as large as the weights that the method changes."""


RESULTS = (EditError, NonFiniteError)
"""What a method fails with when its edit has failed; anything else is a bug or the machine's, and no result."""


@dataclass(frozen=True)
class Tried:
    """What became of one request of a sequence: what it took, or why it failed."""

    cost: Cost | None
    error: str | None

    @classmethod
    def from_plain(cls, record: Mapping[str, Any]) -> "Tried":
        """From :func:`dataclasses.asdict`."""
        return cls(None if record["cost"] is None else Cost(**record["cost"]), record["error"])


class EditSequence:
    """All requests of a run by one method, in calls of a given size.

    Args:
        model, tokenizer: the model that they go into.
        base: its weights before the first of them.
        name, method: what edits.
        cases: in order.
        size: requests of a call.
        path: of the checkpoint.

    Attributes:
        at: the first case of the call that is or was being made.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        base: BaseWeights,
        name: str,
        method: Method,
        cases: Sequence[EditCase],
        size: int,
        path: Path,
    ) -> None:
        self._model, self._tokenizer, self._base = model, tokenizer, base
        self._name, self._method, self._cases, self._size, self._path = name, method, cases, size, path
        self._history: list[Applied] = []
        self.at = cases[0]

    def run(self, pace: Pace, clock: Clock) -> list[Tried]:
        """Try every request that no checkpoint has; what became of each.

        Stopped between two calls, interrupted in one, or ended after long ones, it leaves a checkpoint of all
        finished calls, so that edits that took long outlast a kill while they are scored.

        Raises:
            StoppedError: the time is over.
            Exception: a call failed with what is no result; the last checkpoint is as it was.
        """
        tried = self._resume()
        pace.made(self._name, len(tried), None)
        saved = time.monotonic()
        try:
            for start in range(len(tried), len(self._cases), self._size):
                self.at = self._cases[start]
                at = f"{self._name}, edit {start + 1}/{len(self._cases)}"
                pace.show(at)
                begun = time.monotonic()
                tried += self._call(self._cases[start : start + self._size], pace.within(at))
                pace.made(self._name, len(tried) - start, time.monotonic() - begun)
                if clock.over or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(tried)
                    saved = time.monotonic()
                    if len(tried) < len(self._cases):
                        clock.check()
        except KeyboardInterrupt:  # in a call, which has put the weights back to what the calls before it made
            self._save(tried)
            raise
        return tried

    def end(self) -> None:
        """Take every edit out again."""
        for applied in reversed(self._history):
            applied.undo()
        self._base.restore()

    def forget(self) -> None:
        """Remove the checkpoint, if there is one: all of its edits are recorded."""
        self._path.unlink(missing_ok=True)

    def _save(self, tried: Sequence[Tried]) -> None:
        memory = self._history[-1].memory if self._history else {}
        Checkpoint(len(tried), self._base.changed(), memory, [asdict(one) for one in tried]).save(self._path)

    def _resume(self) -> list[Tried]:
        """Bring the model and the history to where a checkpoint left them, if there is one."""
        if not self._path.exists():
            return []
        checkpoint = Checkpoint.load(self._path)
        self._base.restore(checkpoint.weights)
        tried = [Tried.from_plain(record) for record in checkpoint.records]
        made = zip(self._cases, tried, strict=False)
        requests = tuple(case.request for case, one in made if one.error is None)
        if requests:
            undo = _nothing
            if self._method.reinstall is not None:
                undo = self._method.reinstall(self._model, self._method.config, checkpoint.memory)
            self._history.append(Applied(requests, undo, 0, memory=checkpoint.memory))
        return tried

    def _call(self, cases: Sequence[EditCase], on_progress: Progress) -> list[Tried]:
        """One call of the method; if its edit fails, so have its requests, and the model is as it was before them."""
        requests = [case.request for case in cases]
        try:
            with measured(self._model.device) as taken:
                call = EditCall(self._model, self._tokenizer, requests, self._method.config, self._history, on_progress)
                applied = self._method.edit(call)
        except RESULTS as error:
            logger.debug("%s failed on %s", self._name, cases[0].key, exc_info=error)
            return [Tried(None, error_line(error))] * len(cases)
        # The base's own copy puts weights back, so a snapshot a call would only fill the memory.
        self._history.append(applied if applied.entries == 0 else replace(applied, undo=_nothing))
        cost = Cost(taken.seconds / len(cases), taken.peak_bytes, None, applied.steps / len(cases))
        return [Tried(cost, None)] * len(cases)


def _nothing() -> None:
    """Nothing to undo: the base's copy puts the weights back."""
