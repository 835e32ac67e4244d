"""After all edits: which still hold, which later one broke the others, where they collide, and what else moved."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.compare import collisions
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.batch import split_at_answer
from roselora.editing.proposal import SHOWN_TOKENS
from roselora.editing.records import StoredEdit
from roselora.editing.request import EditRequest
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
    """

    edit_id: str
    prompt: str
    target: str
    holds: bool
    answers: tuple[str, ...]
    broken_by: str | None


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
        """Whether every active edit holds."""
        return all(edit.holds for edit in self.edits)


def check_edits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, overlay: Overlay, active: Active
) -> CheckReport:
    """Ask the model about every active edit; its weights are afterwards as they were."""

    def says(request: EditRequest) -> tuple[str, ...]:
        longest = max(len(split_at_answer(tokenizer, prompt, request.target)[1]) for prompt in request.prompts)
        limit = max(SHOWN_TOKENS, longest + 1)
        return tuple(greedy_answers(model, tokenizer, request.prompts, max_new_tokens=limit))

    states = []
    for number, (edit, _) in enumerate(active):
        answers = says(edit.request)
        holds = _holds(edit.request, answers)
        breaker = None if holds else _find_breaker(overlay, active[number + 1 :], edit.request, says)
        states.append(EditState(edit.id, edit.request.prompt, edit.request.target, holds, answers, breaker))
    return CheckReport(tuple(states), tuple(_collisions(active)), tuple(_kept(model, tokenizer, active)))


def _holds(request: EditRequest, answers: Sequence[str]) -> bool:
    return all(answer == request.target for answer in answers)


def _find_breaker(
    overlay: Overlay, later: Active, request: EditRequest, says: Callable[[EditRequest], tuple[str, ...]]
) -> str | None:
    """Take later edits out, the latest first, until the edit holds: the last one taken out had broken it."""
    removed: list[tuple[StoredEdit, SparseDelta]] = []
    try:
        for edit, delta in reversed(later):
            overlay.remove(edit.id)
            removed.append((edit, delta))
            if _holds(request, says(request)):
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
