"""After all edits: which still hold, which later one broke the others, where they collide, and what else moved."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.compare import collisions
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.asking import SHOWN_TOKENS, ask, holds
from roselora.editing.records import StoredEdit
from roselora.editing.superseding import superseded
from roselora.models.generation import greedy_answers

Active = Sequence[tuple[StoredEdit, SparseDelta]]


@dataclass(frozen=True)
class EditState:
    """Whether one active edit still holds.

    Attributes:
        edit_id, prompt, target: which edit.
        holds: every prompt of it still gives the target.
        answers: what the model says now to each of its prompts.
        broken_by: if it does not hold, the first later edit from which on it does not.
        superseded_by: the later edit that asks the same with another target, and so has taken this one's place.
    """

    edit_id: str
    prompt: str
    target: str
    holds: bool
    answers: tuple[str, ...]
    broken_by: str | None
    superseded_by: str | None = None


@dataclass(frozen=True)
class EditCollision:
    """Two active edits that may disturb each other.

    Attributes:
        first, second: their ids, in commit order.
        same_prompt, same_subject: whether they are about the same.
        entries: weight entries that both change.
        first_norm, second_norm: L2 norm of each one's change at these entries.
    """

    first: str
    second: str
    same_prompt: bool
    same_subject: bool
    entries: int
    first_norm: float
    second_norm: float


@dataclass(frozen=True)
class KeptAnswer:
    """A keep-prompt, what the model said before the edit that named it, and what it says now."""

    edit_id: str
    prompt: str
    before: str
    now: str

    @property
    def moved(self) -> bool:
        """Whether the answer is another one."""
        return self.before != self.now


@dataclass(frozen=True)
class CheckReport:
    """What `Editor.check` found."""

    edits: tuple[EditState, ...]
    collisions: tuple[EditCollision, ...]
    kept: tuple[KeptAnswer, ...]

    @property
    def clean(self) -> bool:
        """Whether every active edit holds whose place no later one has taken."""
        return all(edit.holds or edit.superseded_by for edit in self.edits)


def check_edits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, overlay: Overlay, active: Active
) -> CheckReport:
    """Ask the model about every active edit; its weights are afterwards as they were."""
    overruled = superseded([edit for edit, _ in active])
    states = [
        _state(model, tokenizer, overlay, edit, active[number:], overruled.get(edit.id))
        for number, (edit, _) in enumerate(active, start=1)
    ]
    return CheckReport(tuple(states), tuple(_collisions(active)), tuple(_kept(model, tokenizer, active)))


def _state(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    overlay: Overlay,
    edit: StoredEdit,
    later: Active,
    superseded_by: str | None,
) -> EditState:
    request = edit.request
    answers = tuple(ask(model, tokenizer, request))
    still = holds(request, answers)

    def holds_now() -> bool:
        return holds(request, ask(model, tokenizer, request))

    breaker = None if still or superseded_by else _find_breaker(overlay, later, holds_now)
    return EditState(edit.id, request.prompt, request.target, still, answers, breaker, superseded_by)


def _find_breaker(overlay: Overlay, later: Active, holds_now: Callable[[], bool]) -> str | None:
    """Take later edits out, the latest first, until the edit holds: the last one taken out had broken it."""
    removed: list[tuple[StoredEdit, SparseDelta]] = []
    try:
        for edit, delta in reversed(later):
            overlay.remove(edit.id)
            removed.append((edit, delta))
            if holds_now():
                return edit.id
        return None
    finally:
        for edit, delta in reversed(removed):
            overlay.apply(edit.id, delta, edit.position, force=True)  # it was there a moment ago


def _collisions(active: Active) -> list[EditCollision]:
    found = []
    for (first, first_delta), (second, second_delta) in combinations(active, 2):
        shared = collisions(first_delta, second_delta)
        same_prompt = bool(set(first.request.prompts) & set(second.request.prompts))
        same_subject = first.request.subject is not None and first.request.subject == second.request.subject
        if shared or same_prompt or same_subject:
            found.append(
                EditCollision(
                    first.id,
                    second.id,
                    same_prompt,
                    same_subject,
                    sum(weight.entries for weight in shared),
                    math.hypot(*(weight.first_norm for weight in shared)),
                    math.hypot(*(weight.second_norm for weight in shared)),
                )
            )
    return found


def _kept(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, active: Active) -> list[KeptAnswer]:
    rows = [
        (edit.id, answer["prompt"], answer["before"])
        for edit, _ in active
        for answer in edit.provenance.get("answers", ())
        if answer["kind"] == "keep"
    ]
    now = greedy_answers(model, tokenizer, [prompt for _, prompt, _ in rows], max_new_tokens=SHOWN_TOKENS)
    return [KeptAnswer(*row, said) for row, said in zip(rows, now, strict=True)]
