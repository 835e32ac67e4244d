"""A fact and its consequences as one proposal: each is trained for itself, and all are judged together."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from roselora.delta.combination import combine
from roselora.delta.sparse_delta import SparseDelta
from roselora.editing.edit_answers import answers_to, holds
from roselora.editing.edited_weights import EditedWeights
from roselora.editing.methods.margin_training import OnStep
from roselora.editing.methods.train_edit import Settings, TrainedEdit, size_of_update
from roselora.editing.proposal import Proposal
from roselora.editing.request import EditRequest
from roselora.editing.store.provenance import LeftOut
from roselora.errors import EditError, NonFiniteError

ProposeOne = Callable[[EditRequest, Sequence[EditRequest], OnStep | None], Proposal]
"""Trains one fact beside others that must not be disturbed, and reports each step."""


def propose_together(
    edited: EditedWeights,
    request: EditRequest,
    settings: Settings,
    propose_one: ProposeOne,
    beside: Sequence[EditRequest] = (),
    on_step: OnStep | None = None,
) -> Proposal:
    """Train a request and its consequences, each with those before it in the weights, and add up their updates.

    A consequence that cannot be learned, or that the others disturb, is left out, and the provenance says why.

    Args:
        on_step: called with each step's number and loss; the steps of all facts are counted on.

    Raises:
        EditError: the request's own target was not reached, or its consequences disturb it; the model is unchanged.
    """
    start = time.perf_counter()
    made, left_out = _train(edited, request, propose_one, beside, on_step)
    while True:
        kept = replace(request, consequences=tuple(proposal.request for proposal in made[1:]))
        delta = combine([proposal.delta for proposal in made])
        with edited.trying(delta):
            (after,) = answers_to(edited.model, edited.tokenizer, [kept], keep=True)
        if holds(after):
            break
        lost = {answer.prompt for answer in after if not answer.holds}
        if not lost.isdisjoint(request.prompts):
            raise EditError(
                f"{request.prompt!r} is no longer answered with {request.target!r} once its consequences are made too, "
                "so nothing was changed; leave some of them out."
            )
        broken = [proposal for proposal in made if not lost.isdisjoint(proposal.request.prompts)]
        left_out += [_left_out(proposal.request, "The other facts of the group disturb it.") for proposal in broken]
        made = [proposal for proposal in made if proposal not in broken]
    (before,) = answers_to(edited.model, edited.tokenizer, [kept], keep=True)
    return Proposal.of(kept, settings, _added_up(made, delta, left_out), before, after, time.perf_counter() - start)


def _train(
    edited: EditedWeights,
    request: EditRequest,
    propose_one: ProposeOne,
    beside: Sequence[EditRequest],
    on_step: OnStep | None,
) -> tuple[list[Proposal], list[LeftOut]]:
    made: list[Proposal] = []
    left_out: list[LeftOut] = []
    with ExitStack() as stack:
        for number, fact in enumerate(request.facts):
            taken = sum(proposal.provenance["training"]["steps"] for proposal in made)

            def count_on(step: int, loss: float, taken: int = taken) -> None:
                if on_step is not None:
                    on_step(taken + step, loss)

            try:
                proposal = propose_one(fact, [*beside, *request.facts[number + 1 :]], count_on)
                stack.enter_context(edited.holding(proposal))
            except (EditError, NonFiniteError) as error:
                if number == 0:
                    raise
                left_out.append(_left_out(fact, str(error)))
            else:
                made.append(proposal)
    return made, left_out


def _left_out(fact: EditRequest, reason: str) -> LeftOut:
    return LeftOut(prompt=fact.prompt, target=fact.target, reason=reason)


def _added_up(made: Sequence[Proposal], delta: SparseDelta, left_out: Sequence[LeftOut]) -> TrainedEdit:
    neurons = [each for proposal in made for each in proposal.provenance.get("neurons", ())]
    about: dict[str, Any] = {"method": made[0].provenance["method"], "update": size_of_update(delta)}
    about |= {"neurons": neurons} if neurons else {}
    about |= {"left_out": [each.model_dump() for each in left_out]} if left_out else {}
    return TrainedEdit(delta, sum(proposal.provenance["training"]["steps"] for proposal in made), about)
