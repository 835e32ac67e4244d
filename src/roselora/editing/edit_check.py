"""The report of `check`: which edits still hold, what broke the others, where edits collide, and what else changed."""

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
from roselora.editing.contradictions import standing_requests, superseded
from roselora.editing.edit_answers import SHOWN_TOKENS, GivenAnswer, answers_to, broken_requests, holds
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.forms import asked_texts
from roselora.editing.store.edit_records import StoredEdit
from roselora.editing.store.provenance import read_provenance
from roselora.errors import NonFiniteError
from roselora.models.generation import limited_answers
from roselora.models.inference import Progress

Active = Sequence[tuple[StoredEdit, SparseDelta]]
FindBroken = Callable[[Sequence[int]], Sequence[int]]


@dataclass(frozen=True)
class EditState:
    """Whether one active edit still holds.

    Attributes:
        edit_id, prompt, target: which edit.
        holds: whether all of its prompts still give the target, and its consequences theirs, in all forms.
        answers: the model's present answer to each of its prompts in each form, and to those of its consequences; what
            follows no more, because a later edit gives it another target, is left out.
        broken_by: the later edit that broke it: it does not hold with that edit and all before it in the weights, but
            it holds without that edit. None if it holds, or if no later edit is the cause.
        superseded_by: the latest edit with the same prompt and another target, if there is one.
    """

    edit_id: str
    prompt: str
    target: str
    holds: bool
    answers: tuple[GivenAnswer, ...]
    broken_by: str | None
    superseded_by: str | None = None


@dataclass(frozen=True)
class EditCollision:
    """Two active edits that share a prompt, a subject or weight entries, and so may disturb each other.

    Attributes:
        first, second: their ids, in commit order.
        same_prompt, same_subject: whether they share a prompt, or the subject.
        entries: how many weight entries both change.
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
    """The answers to a keep-prompt in one form: before the edit that names it, and now."""

    edit_id: str
    prompt: str
    form: str
    before: str
    now: str

    @property
    def moved(self) -> bool:
        """Whether the answer has changed."""
        return self.before != self.now


@dataclass(frozen=True)
class CheckReport:
    """What `Editor.check` found."""

    edits: tuple[EditState, ...]
    collisions: tuple[EditCollision, ...]
    kept: tuple[KeptAnswer, ...]

    @property
    def clean(self) -> bool:
        """Whether every active edit holds, apart from those that later ones superseded."""
        return all(edit.holds or edit.superseded_by for edit in self.edits)


def check_edits(edited: EditedWeights, active: Active, on_progress: Progress | None = None) -> CheckReport:
    """Ask the model about every active edit; to find what broke an edit, later ones are taken out and put back.

    Args:
        active: each active edit and its delta, in commit order.
        on_progress: called with how many of how many prompts of the edits are answered; then, in each pass of the
            search for what broke an edit, with how many of how many broken edits are asked about; last with those of
            the keep-prompts.
    """
    model, tokenizer = edited.model, edited.tokenizer
    edits = [edit for edit, _ in active]
    requests, overruled = standing_requests(edits), superseded(edits)
    answers = answers_to(model, tokenizer, requests, on_progress=on_progress)
    hold = [holds(own) for own in answers]
    broken = [n for n, edit in enumerate(edits) if not hold[n] and edit.id not in overruled]

    def find_broken(numbers: Sequence[int]) -> Sequence[int]:
        lost = broken_requests(model, tokenizer, [requests[number] for number in numbers])
        return [numbers[place] for place in lost]

    breakers = find_breakers(find_broken, edited.overlay, active, broken, on_progress)
    states = [
        EditState(
            edit.id,
            edit.request.prompt,
            edit.request.target,
            hold[number],
            tuple(answers[number]),
            active[breakers[number]][0].id if number in breakers else None,
            overruled.get(edit.id),
        )
        for number, (edit, _) in enumerate(active)
    ]
    return CheckReport(tuple(states), tuple(_collisions(active)), tuple(_kept(model, tokenizer, active, on_progress)))


def find_breakers(
    find_broken: FindBroken,
    overlay: Overlay,
    active: Active,
    broken: Sequence[int],
    on_progress: Progress | None = None,
) -> dict[int, int]:
    """For each broken edit the later edit that broke it, found by bisection.

    The n-th edit holds if only the first n + 1 edits are in the weights, and not if all are. Between the two lies an
    edit at which it stops holding. All searches run side by side: in each step the later edits are taken out from the
    last to the first, and each broken edit is asked about when its own division is reached. So taking edits out and
    back costs one pass over the edits a step, and the number of steps grows with the logarithm of the number of edits.
    The searches divide at few places, the same for all, so that many edits are asked about at once.

    Args:
        find_broken: which of some active edits, given by their indices, do not hold in the model as it is.
        broken: the indices of the active edits that do not hold.

    Returns:
        The index of the breaker, by that of the broken edit; edits that do not hold even without any later one are left
        out.
    """

    def holds_with(stops: dict[int, int]) -> dict[int, bool]:
        """Whether each edit holds while only the first `stops[edit]` edits are in the weights."""
        held: dict[int, bool] = {}
        with ExitStack() as put_back:
            present = len(active)
            for stop in sorted(set(stops.values()), reverse=True):
                for edit, delta in reversed(active[stop:present]):
                    with suppress(NonFiniteError):  # without this edit the others would overflow, so it stays in
                        overlay.remove(edit.id)
                        put_back.callback(overlay.apply, edit.id, delta, edit.position, force=True)
                present = stop
                asked = [number for number in broken if stops.get(number) == stop]
                lost = set(find_broken(asked))
                held |= {number: number not in lost for number in asked}
                if on_progress is not None:
                    on_progress(len(held), len(stops))
        return held

    alone = holds_with({number: number + 1 for number in broken if number + 1 < len(active)})
    holding = {number: number + 1 for number, holds_alone in alone.items() if holds_alone}  # so many edits: it holds
    failing = dict.fromkeys(holding, len(active))  # with so many edits it does not
    while division := {n: _division(holding[n], failing[n]) for n in holding if failing[n] - holding[n] > 1}:
        for number, still_holds in holds_with(division).items():
            (holding if still_holds else failing)[number] = division[number]
    return holding  # the number of edits with which it holds is the index of the next edit, the breaker


def _division(low: int, high: int) -> int:
    """Of the numbers between two others the one with the most factors of two, where searches over any ranges meet.

    >>> _division(3, 100), _division(64, 100), _division(96, 100)
    (64, 96, 98)
    """
    number = high - 1
    while (coarser := number & (number - 1)) > low:  # without its lowest set bit
        number = coarser
    return number


def _collisions(active: Active) -> list[EditCollision]:
    counts, squares = shared_entries([delta for _, delta in active])
    prompts = _pairs([edit.request.all_prompts for edit, _ in active])
    subjects = _pairs([[fact.subject for fact in edit.request.facts if fact.subject is not None] for edit, _ in active])
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
    """The indices of every two that share a name, the lower one first."""
    sharing: dict[str, list[int]] = {}
    for index, own in enumerate(names):
        for name in set(own):
            sharing.setdefault(name, []).append(index)
    return {pair for indices in sharing.values() for pair in combinations(indices, 2)}


def _kept(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, active: Active, on_progress: Progress | None
) -> list[KeptAnswer]:
    recorded = [
        (edit.id, answer, asked.text)
        for edit, _ in active
        for answer in read_provenance(edit.provenance).answers or ()
        if answer.kind == "keep"
        for asked in asked_texts(tokenizer, answer.prompt, "both")
        if asked.form == answer.form
    ]
    texts = [text for *_, text in recorded]
    now = limited_answers(model, tokenizer, texts, [SHOWN_TOKENS] * len(texts), on_progress=on_progress)
    return [
        KeptAnswer(edit_id, answer.prompt, answer.form, answer.before, said.text)
        for (edit_id, answer, _), said in zip(recorded, now, strict=True)
    ]
