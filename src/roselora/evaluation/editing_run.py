"""Run editing methods on a benchmark's cases and score what the model then says, edit by edit, resumably."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.baselines.applied import Applied
from roselora.baselines.methods import Method
from roselora.errors import EditError, StoppedError, UnsupportedError
from roselora.evaluation.cases import EditCase
from roselora.evaluation.checkpoint import BaseWeights, Checkpoint
from roselora.evaluation.cost import measured
from roselora.evaluation.records import Cost, EditRecord, Mode
from roselora.evaluation.scoring import Judge
from roselora.models.fingerprint import fingerprint

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""How much work of a sequence a kill may cost; a checkpoint is as large as the weights that the method changes."""


@dataclass(frozen=True)
class Plan:
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


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` edits, and what it is doing."""

    done: int
    total: int
    doing: str


class Clock:
    """Says when the time that a run may take is over; None is never."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raises StoppedError when the time is over."""
        if self._end is not None and time.monotonic() >= self._end:
            raise StoppedError("The time that this run was given is over; the same command goes on with it.")


def choose(cases: Sequence[EditCase], n: int | None, seed: int) -> tuple[EditCase, ...]:
    """The first ``n`` cases of the seed's own order, so that a larger ``n`` holds the cases of a smaller one."""
    shuffled = random.Random(seed).sample(list(cases), len(cases))
    return tuple(shuffled if n is None else shuffled[:n])


class EditingRun:
    """One run of a plan on a model.

    Args:
        model, tokenizer: the unedited model, which it is again when the run ends, whichever way.
        judge: built on it while it is unedited.
        known: records of an earlier part of this run, which are not made again.
        write: keeps a record.
        on_progress: told where the run is.
        clock: raises when the time is over.
        after_all: called with a method's name while all edits of its sequence are in the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        plan: Plan,
        judge: Judge,
        known: Sequence[EditRecord],
        write: Callable[[EditRecord], None],
        on_progress: Callable[[Progress], None],
        clock: Clock,
        after_all: Callable[[str], None] | None = None,
    ) -> None:
        self._after_all = after_all
        self._model, self._tokenizer, self._plan, self._judge = model, tokenizer, plan, judge
        self._known = {(record.method, record.case) for record in known}
        self._write, self._on_progress, self._clock = write, on_progress, clock
        self._total = len(plan.cases) * len(plan.methods)
        self._original = fingerprint(model)

    def run(self) -> None:
        """Everything that is not known yet.

        Raises:
            StoppedError: the time is over.
            EditError: a method failed and left the model changed.
        """
        self._read_texts()
        if self._plan.mode == "single":
            self._run_single()
        else:
            base = BaseWeights(self._model)
            for name, method in self._plan.methods.items():
                if not all((name, case.key) in self._known for case in self._plan.cases):
                    self._run_sequence(name, method, base)
        self._require_unedited()

    def _read_texts(self) -> None:
        """What some methods learn of ordinary text, once, so that no edit's time holds it."""
        for name, method in self._plan.methods.items():

            def on_progress(read: int, of: int, name: str = name) -> None:
                self._on_progress(Progress(read, of, f"tokens read for {name}"))

            with suppress(UnsupportedError):  # each of the method's edits will say so
                method.prepare(self._model, self._tokenizer, on_progress)

    def _run_single(self) -> None:
        """Case by case, so that what the unedited model says is asked once for all methods."""
        for position, case in enumerate(self._plan.cases):
            waiting = {n: m for n, m in self._plan.methods.items() if (n, case.key) not in self._known}
            for name, method in waiting.items():
                self._clock.check()
                self._report(f"{name}, {case.key}")
                self._keep(self._edit_alone(name, method, case, position))
            self._judge.forget([case])

    def _edit_alone(self, name: str, method: Method, case: EditCase, position: int) -> EditRecord:
        try:
            self._judge.prepare([case])
            with measured(self._model.device) as taken:
                applied = method.edit(self._model, self._tokenizer, [case.request], method.config)
        except Exception as error:
            return self._failure(name, case, position, error)
        try:
            (scores,) = self._judge.score([case])
        finally:
            applied.undo()
        cost = Cost(taken.seconds, taken.peak_bytes, applied.entries, applied.steps)
        return EditRecord(case.key, name, position, scores, cost)

    def _run_sequence(self, name: str, method: Method, base: BaseWeights) -> None:
        """All edits of one method, then the scores of all."""
        cases = self._plan.cases
        self._judge.prepare(cases)
        history: list[Applied] = []
        try:
            try:
                costs = self._edit_all(name, method, base, history)
            except StoppedError:
                raise
            except Exception as error:
                for position, case in enumerate(cases):
                    self._keep(self._failure(name, case, position, error, unedited=False))
                return
            self._report(f"{name}, scoring")
            if self._after_all is not None:
                self._after_all(name)
            scores = self._judge.score(cases)
            for position, (case, score, cost) in enumerate(zip(cases, scores, costs, strict=True)):
                self._keep(EditRecord(case.key, name, position, score, cost))
        finally:
            for applied in reversed(history):
                applied.undo()
            base.restore()
        self._checkpoint_file(name).unlink(missing_ok=True)

    def _edit_all(self, name: str, method: Method, base: BaseWeights, history: list[Applied]) -> list[Cost]:
        """Apply every request, in calls of the method's own size, going on from a checkpoint if there is one."""
        cases = self._plan.cases
        size = len(cases) if self._plan.mode == "batch" else method.requests_per_call or len(cases)
        costs: list[Cost] = []
        path = self._checkpoint_file(name)
        if path.exists():
            checkpoint = Checkpoint.load(path)
            base.restore(checkpoint.weights)
            requests = tuple(case.request for case in cases[: checkpoint.done])
            history.append(Applied(requests, _nothing, 0, memory=checkpoint.memory))
            costs = [Cost(**record) for record in checkpoint.records]  # type: ignore[arg-type]
        saved = time.monotonic()
        for start in range(len(costs), len(cases), size):
            self._report(f"{name}, edit {start + 1}/{len(cases)}", at=start)
            chunk = [case.request for case in cases[start : start + size]]
            with measured(self._model.device) as taken:
                applied = method.edit(self._model, self._tokenizer, chunk, method.config, history)
            # The base's own copy puts weights back, so a snapshot a call would only fill the memory.
            history.append(applied if applied.entries == 0 else replace(applied, undo=_nothing))
            cost = Cost(taken.seconds / len(chunk), taken.peak_bytes, applied.entries, applied.steps)
            costs += [cost] * len(chunk)
            if len(costs) < len(cases) and time.monotonic() - saved > CHECKPOINT_SECONDS:
                records = [vars(cost) for cost in costs]
                Checkpoint(len(costs), base.changed(), history[-1].memory, records).save(path)
                saved = time.monotonic()
                self._clock.check()
        return costs

    def _failure(self, name: str, case: EditCase, position: int, error: Exception, unedited: bool = True) -> EditRecord:
        """A failed edit is a record that says why, and not the end of the run."""
        logger.debug("%s failed on %s", name, case.key, exc_info=error)
        if unedited:
            self._require_unedited()
        lines = str(error).strip().splitlines()
        return EditRecord(case.key, name, position, None, None, f"{type(error).__name__}: {lines[0] if lines else ''}")

    def _require_unedited(self) -> None:
        if fingerprint(self._model) != self._original:
            raise EditError("A method left the model changed, so nothing after it could be trusted; the run has ended.")

    def _keep(self, record: EditRecord) -> None:
        self._write(record)
        self._known.add((record.method, record.case))

    def _report(self, doing: str, at: int = 0) -> None:
        self._on_progress(Progress(len(self._known) + at, self._total, doing))

    def _checkpoint_file(self, name: str) -> Path:
        return self._plan.folder / f"{name}.checkpoint.safetensors"


def _nothing() -> None:
    """Nothing to undo: the base's copy puts the weights back."""
