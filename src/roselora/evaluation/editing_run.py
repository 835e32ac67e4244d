"""Run editing methods on a benchmark's cases and score what the model then says, edit by edit, resumably."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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

    @property
    def over(self) -> bool:
        """Whether it is."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self) -> None:
        """Raises StoppedError when the time is over."""
        if self.over:
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
        after_all: called while all edits of a method's sequence are in the model, with its name and the number of
            entries that differ from the base's.
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
        after_all: Callable[[str, int], None] | None = None,
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

            if method.read_text is not None:
                with suppress(UnsupportedError):  # each of the method's edits will say so
                    method.read_text(self._model, self._tokenizer, method.config, on_progress)

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
            tried = self._edit_all(name, method, base, history)
            if self._after_all is not None:
                self._after_all(name, base.changed_entries())
            self._report(f"{name}, scoring")
            made = [case for case, one in zip(cases, tried, strict=True) if one.error is None]
            scores = iter(self._judge.score(made))
            for position, (case, one) in enumerate(zip(cases, tried, strict=True)):
                score = next(scores) if one.error is None else None
                self._keep(EditRecord(case.key, name, position, score, one.cost, one.error))
        finally:
            for applied in reversed(history):
                applied.undo()
            base.restore()
        self._checkpoint_file(name).unlink(missing_ok=True)

    def _edit_all(self, name: str, method: Method, base: BaseWeights, history: list[Applied]) -> list["_Tried"]:
        """Try every request, in calls of the method's own size, going on from a checkpoint if there is one."""
        cases = self._plan.cases
        size = len(cases) if self._plan.mode == "batch" else method.requests_per_call or len(cases)
        tried = self._resume(name, base, history)
        saved = time.monotonic()
        for start in range(len(tried), len(cases), size):
            self._report(f"{name}, edit {start + 1}/{len(cases)}", at=start)
            tried += self._call(name, method, cases[start : start + size], history)
            if len(tried) == len(cases):
                break
            if self._clock.over or time.monotonic() - saved > CHECKPOINT_SECONDS:
                records = [asdict(one) for one in tried]
                memory = history[-1].memory if history else {}
                Checkpoint(len(tried), base.changed(), memory, records).save(self._checkpoint_file(name))
                saved = time.monotonic()
                self._clock.check()
        return tried

    def _resume(self, name: str, base: BaseWeights, history: list[Applied]) -> list["_Tried"]:
        """Bring the model and the history to where a checkpoint left them, if there is one."""
        path = self._checkpoint_file(name)
        if not path.exists():
            return []
        checkpoint = Checkpoint.load(path)
        base.restore(checkpoint.weights)
        tried = [_Tried.from_plain(record) for record in checkpoint.records]
        made = zip(self._plan.cases, tried, strict=False)
        requests = tuple(case.request for case, one in made if one.error is None)
        if requests:
            history.append(Applied(requests, _nothing, 0, memory=checkpoint.memory))
        return tried

    def _call(self, name: str, method: Method, cases: Sequence[EditCase], history: list[Applied]) -> list["_Tried"]:
        """One call of a method; if it fails, so have its requests, and the model is as it was before them."""
        try:
            with measured(self._model.device) as taken:
                requests = [case.request for case in cases]
                applied = method.edit(self._model, self._tokenizer, requests, method.config, history)
        except Exception as error:
            logger.debug("%s failed on %s", name, cases[0].key, exc_info=error)
            return [_Tried(None, _said(error))] * len(cases)
        # The base's own copy puts weights back, so a snapshot a call would only fill the memory.
        history.append(applied if applied.entries == 0 else replace(applied, undo=_nothing))
        cost = Cost(taken.seconds / len(cases), taken.peak_bytes, None, applied.steps / len(cases))
        return [_Tried(cost, None)] * len(cases)

    def _failure(self, name: str, case: EditCase, position: int, error: Exception) -> EditRecord:
        """A failed edit is a record that says why, and not the end of the run."""
        logger.debug("%s failed on %s", name, case.key, exc_info=error)
        self._require_unedited()
        return EditRecord(case.key, name, position, None, None, _said(error))

    def _require_unedited(self) -> None:
        if fingerprint(self._model) != self._original:
            raise EditError("A method left the model changed, so nothing after it could be trusted; the run has ended.")

    def _keep(self, record: EditRecord) -> None:
        # A sequence that was killed while its records were written is scored again as a whole.
        if (record.method, record.case) not in self._known:
            self._write(record)
            self._known.add((record.method, record.case))

    def _report(self, doing: str, at: int = 0) -> None:
        self._on_progress(Progress(len(self._known) + at, self._total, doing))

    def _checkpoint_file(self, name: str) -> Path:
        return self._plan.folder / f"{name}.checkpoint.safetensors"


@dataclass(frozen=True)
class _Tried:
    """What became of one request of a sequence: what it took, or why it failed."""

    cost: Cost | None
    error: str | None

    @classmethod
    def from_plain(cls, record: Mapping[str, Any]) -> "_Tried":
        """From :func:`dataclasses.asdict`."""
        return cls(None if record["cost"] is None else Cost(**record["cost"]), record["error"])


def _said(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _nothing() -> None:
    """Nothing to undo: the base's copy puts the weights back."""
