"""After all edits: which still hold, which later one broke the others, where they collide, and what else moved."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.delta.comparison import shared_entries
from roselora.delta.overlay import Overlay
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.answers import SHOWN_TOKENS, ask_each, holds, unheld
from roselora.editing.request import EditRequest
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance
from roselora.editing.superseding import superseded
from roselora.errors import NonFiniteError
from roselora.models.generation import greedy_answers

Active = Sequence[tuple[StoredEdit, SparseDelta]]
Unheld = Callable[[Sequence[EditRequest]], Sequence[int]]


@dataclass(frozen=True)
class EditState:
    """Whether one active edit still holds.

    Attributes:
        edit_id, prompt, target: which edit.
        holds: every prompt of it still gives the target.
        answers: what the model says now to each of its prompts.
        broken_by: if it does not hold, a later edit with which it does not, but without which, and all after it, it
            does.
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
    requests = [edit.request for edit, _ in active]
    overruled = superseded([edit for edit, _ in active])
    answers = ask_each(model, tokenizer, requests)
    still = [holds(request, said) for request, said in zip(requests, answers, strict=True)]
    broken = [n for n, (edit, _) in enumerate(active) if not still[n] and edit.id not in overruled]
    breakers = find_breakers(lambda some: unheld(model, tokenizer, some), overlay, active, broken)
    states = [
        EditState(
            edit.id,
            edit.request.prompt,
            edit.request.target,
            still[number],
            tuple(answers[number]),
            active[breakers[number]][0].id if number in breakers else None,
            overruled.get(edit.id),
        )
        for number, (edit, _) in enumerate(active)
    ]
    return CheckReport(tuple(states), tuple(_collisions(active)), tuple(_kept(model, tokenizer, active)))


def find_breakers(unheld: Unheld, overlay: Overlay, active: Active, broken: Sequence[int]) -> dict[int, int]:
    """For each broken edit a later one with which it does not hold, and without which, and all after it, it does.

    All are bisected side by side, so that each is asked about as often as the number of edits has binary digits.

    Args:
        unheld: which of some requests do not hold in the model as it is, by their places.
        broken: the places among the active edits of those that do not hold.

    Returns:
        By place; one that does not hold without any later edit is left out.
    """

    def held_with(kept: dict[int, int]) -> dict[int, bool]:
        """Whether each edit holds while only so many of the first edits are in the weights."""
        held: dict[int, bool] = {}
        with ExitStack() as put_back:
            present = len(active)
            for stop in sorted(set(kept.values()), reverse=True):
                for edit, delta in reversed(active[stop:present]):
                    with suppress(NonFiniteError):  # it stays in, where the others are too much without it
                        overlay.remove(edit.id)
                        put_back.callback(overlay.apply, edit.id, delta, edit.position, force=True)
                present = stop
                asked = [number for number in broken if kept.get(number) == stop]
                lost = set(unheld([active[number][0].request for number in asked]))
                held |= {number: at not in lost for at, number in enumerate(asked)}
        return held

    alone = held_with({number: number + 1 for number in broken if number + 1 < len(active)})
    held_at = {number: number + 1 for number, holds_alone in alone.items() if holds_alone}
    lost_at = dict.fromkeys(held_at, len(active))
    while half := {n: (held_at[n] + lost_at[n]) // 2 for n in held_at if lost_at[n] - held_at[n] > 1}:
        for number, still in held_with(half).items():
            (held_at if still else lost_at)[number] = half[number]
    return held_at  # which is as well the place of the next edit, the breaker


def _collisions(active: Active) -> list[EditCollision]:
    counts, squares = shared_entries([delta for _, delta in active])
    prompts = _pairs([edit.request.prompts for edit, _ in active])
    subjects = _pairs([[] if edit.request.subject is None else [edit.request.subject] for edit, _ in active])
    pairs = {(int(first), int(second)) for first, second in np.argwhere(np.triu(counts, 1))}
    return [
        EditCollision(
            active[first][0].id,
            active[second][0].id,
            (first, second) in prompts,
            (first, second) in subjects,
            int(counts[first, second]),
            math.sqrt(squares[first, second]),
            math.sqrt(squares[second, first]),
        )
        for first, second in sorted(pairs | prompts | subjects)
    ]


def _pairs(names: Sequence[Iterable[str]]) -> set[tuple[int, int]]:
    """The places of each two that share a name, the lower one first."""
    places: dict[str, list[int]] = {}
    for place, own in enumerate(names):
        for name in set(own):
            places.setdefault(name, []).append(place)
    return {pair for sharing in places.values() for pair in combinations(sharing, 2)}


def _kept(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, active: Active) -> list[KeptAnswer]:
    rows = [
        (edit.id, answer.prompt, answer.before)
        for edit, _ in active
        for answer in read_provenance(edit.provenance).answers or ()
        if answer.kind == "keep"
    ]
    now = greedy_answers(model, tokenizer, [prompt for _, prompt, _ in rows], max_new_tokens=SHOWN_TOKENS)
    return [KeptAnswer(*row, said) for row, said in zip(rows, now, strict=True)]
