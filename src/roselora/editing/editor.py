"""Editor: one model, facts corrected in it one after the other, and taken back byte for byte."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from roselora.adapter.verify import require_sparse
from roselora.editing.applied import TouchedWeight, apply_update, restore
from roselora.editing.batch import split_at_answer
from roselora.editing.optimize import EditSettings, TrainedFactors, train_factors
from roselora.editing.request import EditRequest
from roselora.errors import EditError
from roselora.models.generation import greedy_answers
from roselora.models.loading import LoadedModel, load

MARGIN_FACTORS = (1, 2, 4)
"""Margins to train to, in turn: in a low precision a small update can round away, a larger one stays."""


@dataclass(frozen=True)
class Edit:
    """One edit that is in the model's weights.

    Attributes:
        request: what was asked.
        steps: optimizer steps it took.
        seconds: wall-clock time, training to check.
        entries_changed: non-zero entries of the update, over all adapted matrices.
        entries: entries of all adapted matrices.
        sparsity_bound: Proposition 1's lower bound on the update's fraction of zeros.
    """

    request: EditRequest
    steps: int
    seconds: float
    entries_changed: int
    entries: int
    sparsity_bound: float


class Editor:
    """Corrects facts in one model's own weights.

    ``editor.edit(prompt, target)`` trains, checks and applies a sparse update; ``editor.undo()`` puts the bytes
    from before the latest edit back.
    """

    def __init__(self, loaded: LoadedModel, settings: EditSettings | None = None) -> None:
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.settings = settings if settings is not None else EditSettings()
        self._history: list[tuple[Edit, tuple[TouchedWeight, ...]]] = []

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        *,
        settings: EditSettings | None = None,
        dtype: torch.dtype | None = None,
        device: str | None = None,
    ) -> "Editor":
        """Load a model (``demo``, a folder, a GGUF file or a hub id) for editing.

        Raises:
            ModelError: the model cannot be loaded.
        """
        return cls(load(source, dtype=dtype, device=device), settings)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits that are in the weights, oldest first."""
        return tuple(edit for edit, _ in self._history)

    def answers(self, prompts: Sequence[str], max_new_tokens: int = 16) -> list[str]:
        """What the model, as it is now, says to each prompt, greedily, up to the end of its line."""
        return greedy_answers(self.model, self.tokenizer, prompts, max_new_tokens=max_new_tokens)

    def edit(
        self,
        prompt: str,
        target: str,
        *,
        subject: str | None = None,
        rephrasings: Sequence[str] = (),
        keep: Sequence[str] = (),
        on_step: Callable[[int, float], None] | None = None,
    ) -> Edit:
        """Make the model answer ``target`` to ``prompt`` and its rephrasings.

        Args:
            prompt: text whose greedy continuation shall be the target.
            target: one line.
            subject: what the fact is about.
            rephrasings: prompts that must give the target too.
            keep: prompts whose continuations must not move.
            on_step: called with each step's number and loss.

        Raises:
            ConfigError: the request cannot be meant.
            EditError: the target was not reached; the weights are as they were.
        """
        request = EditRequest(prompt, target, subject, tuple(rephrasings), tuple(keep))
        start = time.perf_counter()
        for factor in MARGIN_FACTORS:
            settings = replace(self.settings, margin=self.settings.margin * factor)
            trained = train_factors(self.model, self.tokenizer, request, settings, settings.adapter_config(), on_step)
            touched = apply_update(self.model, trained.pairs)
            try:
                holds = self._holds(request)
            except BaseException:
                restore(self.model, touched)
                raise
            if holds:
                edit = self._describe(request, trained, time.perf_counter() - start)
                self._history.append((edit, touched))
                return edit
            restore(self.model, touched)
        raise EditError(
            f"The answer {request.target!r} did not survive rounding to {self.model.dtype}, so nothing was changed; "
            "load the model in float32, or raise the margin."
        )

    def undo(self) -> Edit:
        """Take the latest edit out of the weights: every byte becomes what it was before it.

        Raises:
            EditError: there is no edit to take back.
        """
        if not self._history:
            raise EditError("There is no edit to undo.")
        edit, touched = self._history.pop()
        restore(self.model, touched)
        return edit

    def _holds(self, request: EditRequest) -> bool:
        """Whether the applied weights, by themselves, say the target and stop."""
        _, target_ids = split_at_answer(self.tokenizer, request.prompt, request.target)
        answers = self.answers(request.prompts, max_new_tokens=len(target_ids) + 8)
        return all(answer == request.target for answer in answers)

    def _describe(self, request: EditRequest, trained: TrainedFactors, seconds: float) -> Edit:
        counts = require_sparse("edit", trained.pairs, self.settings.density)
        return Edit(request, trained.steps, seconds, counts.update_nonzeros, counts.entries, counts.sparsity_bound)
